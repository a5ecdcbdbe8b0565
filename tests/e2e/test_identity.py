"""The certificate that devices see, and `lanpost status` and `settings`: made
and kept, or taken from files; what is wrong with them is said.
"""
import os
import pwd
import re
import shutil
import signal
import smtplib
import socket
import ssl
import stat
import subprocess
import tempfile
import time
import unittest

from rig import (SLOW, TEXT, Lanpost, Smarthost, Wire, certificates,
                 check_no_complaint, command, free_port, read, tool,
                 wait_for, write)

DOWN = "localhost:1"  # a smarthost that nobody is
NOBODY = pwd.getpwnam("nobody")
# A process that gave up its privilege cannot be looked through for leaks.
NO_LEAK_SEARCH = {"ASAN_OPTIONS": "detect_leaks=0"}


def run(*arguments):
    """Exit code, standard output, standard error."""
    done = subprocess.run([*command(), *arguments], timeout=20 * SLOW,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, check=False)
    check_no_complaint(done.stderr, done.returncode)
    return done.returncode, done.stdout, done.stderr


def seen(relay, port=None):
    """The certificate that a device is shown, in PEM."""
    with socket.create_connection(("127.0.0.1", port or relay.tls_port),
                                  10 * SLOW) as plain:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with context.wrap_socket(plain) as tls:
            return ssl.DER_cert_to_PEM_cert(tls.getpeercert(True))


def openssl(*arguments, text=""):
    return subprocess.run([tool("openssl"), *arguments], input=text,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, check=False, timeout=30 * SLOW).stdout


def s_client(port, *arguments, text="QUIT\n"):
    """What openssl s_client shows. It waits for the banner before it speaks:
    what is on its standard input would be sent at once."""
    with subprocess.Popen(
            [tool("openssl"), "s_client", "-connect", "127.0.0.1:%d" % port,
             "-crlf", "-ign_eof", *arguments], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True) as process:
        time.sleep(1 * SLOW)
        return process.communicate(text, timeout=30 * SLOW)[0]


def mode_of(path):
    return stat.S_IMODE(os.stat(path).st_mode)


def kept(relay):
    return os.path.join(relay.values["state_folder"], "lanpost.pem")


class Folder(unittest.TestCase):
    """Tests with a folder that everybody may enter."""

    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="lanpost-identity-")
        self.addCleanup(shutil.rmtree, self.directory)
        os.chmod(self.directory, 0o755)

    def path(self, name):
        return os.path.join(self.directory, name)

    def copy(self, name, mode=0o600):
        path = shutil.copy(os.path.join(certificates(), name), self.path(name))
        os.chmod(path, mode)
        return path


class SelfSigned(Folder):
    def relay(self, **more):
        return Lanpost(tls=True, **{
            "smarthost": DOWN, "state_folder": self.path("state"), **more})

    def test_made_and_kept(self):
        with self.relay() as relay:  # the folder is not there yet
            line, = relay.lines("file=%s made: " % kept(relay))
            self.assertIn("a self-signed certificate for relay.test", line)
            first = seen(relay)
            text = read(kept(relay))
            self.assertEqual(mode_of(kept(relay)), 0o600)
            self.assertEqual(mode_of(self.path("state")), 0o700)
            self.assertEqual(os.listdir(self.path("state")), ["lanpost.pem"])
            self.assertIn(first.strip(), text)
            self.assertIn("PRIVATE KEY", text)
            self.assertEqual(relay.stop(), 0)
        with self.relay() as relay:
            self.assertEqual(seen(relay), first)
            self.assertEqual(read(kept(relay)), text)
            self.assertEqual(relay.lines("made"), [])
            self.assertIn("reload=done", relay.reload())
            self.assertEqual(seen(relay), first)

    def test_what_it_says(self):
        with self.relay(listen="127.0.0.1:%d [::1]:%d" % (
                free_port(), free_port())) as relay:
            text = openssl("x509", "-noout", "-text", "-ext",
                           "subjectAltName,basicConstraints,extendedKeyUsage,"
                           "keyUsage", text=seen(relay))
            for word in ("Public Key Algorithm: id-ecPublicKey",
                         "NIST CURVE: P-256", "ecdsa-with-SHA256",
                         "Subject: CN = relay.test", "DNS:relay.test",
                         "IP Address:127.0.0.1",
                         "IP Address:0:0:0:0:0:0:0:1",
                         "TLS Web Server Authentication"):
                self.assertIn(word, text)
            verified = openssl("verify", "-CAfile", kept(relay), kept(relay))
            self.assertIn(": OK", verified)

    def test_a_device_that_trusts_it(self):
        """The file's certificate is all that it takes to check us."""
        with Smarthost() as host, \
                self.relay(smarthost="localhost:%d" % host.port,
                           hostname="localhost") as relay:
            context = ssl.create_default_context(cafile=kept(relay))
            with smtplib.SMTP("127.0.0.1", relay.port, "device.test",
                              10 * SLOW) as client:
                client._host = "localhost"
                client.starttls(context=context)
                client.sendmail("a@x.test", "b@y.test", TEXT)
            with smtplib.SMTP_SSL("127.0.0.1", relay.tls_port, "device.test",
                                  timeout=10 * SLOW,
                                  context=context) as client:
                client.sendmail("a@x.test", "b@y.test", TEXT)
            host.wait_ledger(2)
            self.assertEqual(len(relay.lines(" tls=TLSv1.")), 2)

    def test_folder_cannot_be_written(self):
        write(self.path("state"), "a file")
        with self.relay() as relay:
            line, = relay.lines("cannot be written")
            self.assertIn("file=%s" % kept(relay), line)
            self.assertIn("devices see a new certificate at each start; set "
                          "state_folder", line)
            first = seen(relay)
        with self.relay() as relay:
            self.assertNotEqual(seen(relay), first)

    def test_kept_one_is_no_good(self):
        os.mkdir(self.path("state"), 0o700)
        with self.relay() as relay:
            good = read(kept(relay))
            certificate = seen(relay)
        at = good.index("-----BEGIN CERT")
        for text, mode, why in (
                ("garbage\n", 0o600, "cannot be read"),
                ("", 0o600, ""), ("x" * 100000, 0o600, "too large"),
                (good[:at], 0o600, "certificate cannot be read"),
                (good[at:], 0o600, "key cannot be used"),
                (good[:-200], 0o600, ""),
                (good[:at] + read(os.path.join(certificates(), "good.pem")),
                 0o600, "does not belong"),
                (good, 0o644, "others can read it"),
                (good, 0o602, "others can read it")):
            with self.subTest(text=text[:20], mode=mode):
                write(self.path("state/lanpost.pem"), text, mode)
                with self.relay() as relay:
                    line, = relay.lines("cannot be used")
                    self.assertIn("a new certificate is made", line)
                    self.assertIn(why, line)
                    self.assertNotEqual(seen(relay), certificate)
                    self.assertEqual(mode_of(kept(relay)), 0o600)
                    self.assertIn(seen(relay).strip(), read(kept(relay)))
        # A run that was cut short left its draft, or somebody a link.
        os.symlink("/etc/passwd", self.path("state/lanpost.pem.new"))
        os.unlink(self.path("state/lanpost.pem"))
        with self.relay() as relay:
            self.assertIn(seen(relay).strip(), read(kept(relay)))
        self.assertNotIn("CERT", read("/etc/passwd"))

    def test_run_as(self):
        """The folder is made for the user that lanpost becomes."""
        for _ in range(2):
            with self.relay(run_as="nobody", env=NO_LEAK_SEARCH) as relay:
                for path in self.path("state"), kept(relay):
                    self.assertEqual(os.stat(path).st_uid, NOBODY.pw_uid)
                certificate = seen(relay)
                self.assertEqual(relay.lines("cannot be written"), [])
                self.assertEqual(relay.stop(), 0)
        with self.relay(run_as="nobody", env=NO_LEAK_SEARCH) as relay:
            self.assertEqual(seen(relay), certificate)
        shutil.rmtree(self.path("state"))
        os.mkdir(self.path("state"), 0o700)  # root's
        with self.relay(run_as="nobody", env=NO_LEAK_SEARCH) as relay:
            line, = relay.lines("cannot be written")
            self.assertIn("Permission denied", line)
            seen(relay)


class Files(Folder):
    def make(self, name, algorithm):
        """A chain of three and its key."""
        key, root = self.path(name + ".key"), self.path(name + "-root")
        make = ["-newkey"] + algorithm
        openssl("req", "-x509", *make, "-nodes", "-subj", "/CN=root " + name,
                "-keyout", root + ".key", "-out", root + ".pem")
        write(self.path("ca.ext"), "basicConstraints=critical,CA:TRUE\n")
        write(self.path("leaf.ext"), "subjectAltName=DNS:%s.test\n" % name)
        middle = self.path(name + "-middle")
        for path, key_path, issuer, extension in (
                (middle, middle + ".key", root, "ca.ext"),
                (self.path(name), key, middle, "leaf.ext")):
            openssl("req", *make, "-nodes", "-subj",
                    "/CN=" + os.path.basename(path), "-keyout", key_path,
                    "-out", path + ".csr")
            openssl("x509", "-req", "-in", path + ".csr", "-CA",
                    issuer + ".pem", "-CAkey", issuer + ".key",
                    "-CAcreateserial", "-extfile", self.path(extension),
                    "-days", "30", "-out", path + ".pem")
        write(self.path(name + ".pem"), read(self.path(name + ".pem")) +
              read(middle + ".pem"), 0o644)
        os.chmod(key, 0o600)
        return self.path(name + ".pem"), key, root + ".pem"

    def relay(self, certificate, key, **more):
        return Lanpost(smarthost=DOWN, tls=True, tls_cert_file=certificate,
                       tls_key_file=key, **more)

    def test_rsa_and_ec_chains(self):
        for name, algorithm in (
                ("rsa", ["rsa:2048"]),
                ("ec", ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"])):
            certificate, key, root = self.make(name, algorithm)
            both = write(self.path("both.pem"), read(key) + read(certificate))
            for files in ((certificate, key), (both, None)):
                with self.subTest(name, files=files), \
                        self.relay(*files) as relay:
                    self.assertEqual(os.listdir(relay.values["state_folder"]),
                                     [])
                    context = ssl.create_default_context(cafile=root)
                    with socket.create_connection(
                            ("127.0.0.1", relay.tls_port)) as plain, \
                            context.wrap_socket(
                                plain, server_hostname=name + ".test") as tls:
                        self.assertEqual(tls.recv(4), b"220 ")
                    self.assertEqual(relay.stop(), 0)

    def test_refused_at_the_start(self):
        """Exit code 78, and a sentence with file, line and setting."""
        good = self.copy("good.pem", 0o644)
        key, other = self.copy("good.key"), self.copy("other_ca.key")
        open_key = shutil.copy(key, self.path("open.key"))
        os.chmod(open_key, 0o644)
        garbage = write(self.path("garbage"), "x\n")
        empty = write(self.path("empty"), "")
        both = write(self.path("both.pem"), read(good) + read(key), 0o640)
        os.chmod(both, 0o644)
        large = write(self.path("large"), "x" * 20000)
        for certificate, key_file, setting, why in (
                (good, other, "tls_cert_file", "its key cannot be used (it "
                 "does not belong to the certificate)"),
                (good, garbage, "tls_cert_file", "its key cannot be used"),
                (good, empty, "tls_cert_file", "its key cannot be used"),
                (good, None, "tls_cert_file", "its key cannot be used"),
                (garbage, key, "tls_cert_file", "certificate cannot be read"),
                (empty, key, "tls_cert_file", "certificate cannot be read"),
                (key, key, "tls_cert_file", "certificate cannot be read"),
                (large, key, "tls_cert_file", "File too large"),
                ("/nonexistent", key, "tls_cert_file",
                 "cannot read /nonexistent: No such file"),
                (good, "/nonexistent", "tls_key_file",
                 "cannot read /nonexistent: No such file"),
                (self.directory, key, "tls_cert_file", "Is a directory"),
                (good, open_key, "tls_key_file",
                 "open.key can be read by others; chmod 600 it"),
                (both, None, "tls_cert_file",
                 "both.pem can be read by others; chmod 600 it")):
            with self.subTest(certificate=certificate, key=key_file), \
                    self.relay(certificate, key_file,
                               is_ready=False) as relay:
                self.assertEqual(relay.wait(), 78)
                number = read(relay.file).splitlines().index(
                    "%s = %s" % (setting, relay.values[setting])) + 1
                self.assertRegex(relay.log(), r"\Alanpost: %s line %d: %s: "
                                 % (re.escape(relay.file), number, setting))
                self.assertIn(why, relay.log())
                self.assertNotIn("PRIVATE", relay.log())

    def test_key_without_certificate(self):
        """Forgotten is the other one: said, or devices see a certificate that
        nobody chose."""
        with self.relay(None, self.copy("good.key"),
                        is_ready=False) as relay:
            self.assertEqual(relay.wait(), 78)
            self.assertIn("tls_cert_file", relay.log())

    def test_sighup(self):
        """New connections see the new one; who is connected stays so. A bad
        one changes nothing."""
        certificate, key = self.copy("good.pem", 0o644), self.copy("good.key")
        with self.relay(certificate, key) as relay:
            first = seen(relay)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            with socket.create_connection(
                    ("127.0.0.1", relay.tls_port)) as plain, \
                    context.wrap_socket(plain) as old:
                old.recv(100)
                shutil.copy(os.path.join(certificates(), "unknown_ca.pem"),
                            certificate)
                self.assertIn("does not belong", relay.reload())
                self.assertEqual(seen(relay), first)
                shutil.copy(os.path.join(certificates(), "unknown_ca.key"),
                            key)
                self.assertIn("reload=done", relay.reload())
                second = seen(relay)
                self.assertNotEqual(second, first)
                self.assertIn(second.strip(), read(certificate))
                old.sendall(b"NOOP\r\n")
                self.assertEqual(old.recv(100)[:3], b"250")
                relay.reload()
                self.assertEqual(seen(relay), second)
                old.sendall(b"NOOP\r\n")
                self.assertEqual(old.recv(100)[:3], b"250")
            wait_for(lambda: "reload=done" in relay.reload(), "a good reload")
            self.assertEqual(seen(relay), second)
            self.assertEqual(relay.stop(), 0)

    def test_sighup_between_kinds(self):
        """To files; and the way back takes a restart, which is said."""
        with Lanpost(smarthost=DOWN, tls=True) as relay:
            own = seen(relay)
            relay.write_settings(tls_cert_file=self.copy("good.pem", 0o644),
                                 tls_key_file=self.copy("good.key"))
            self.assertIn("reload=done", relay.reload())
            self.assertIn(seen(relay).strip(),
                          read(os.path.join(certificates(), "good.pem")))
            relay.write_settings(tls_cert_file=None, tls_key_file=None)
            self.assertIn("reload=done", relay.reload())
            self.assertEqual(len(relay.lines(
                "reload: tls_cert_file has changed; that takes a restart")), 1)
            self.assertNotEqual(seen(relay), own)

    def test_files_that_run_as_cannot_read(self):
        key = self.copy("good.key")
        with self.relay(self.copy("good.pem", 0o644), key, run_as="nobody",
                        env=NO_LEAK_SEARCH) as relay:
            line, = relay.lines("file=%s cannot be read again" % key)
            self.assertIn("give it to the user nobody", line)
            seen(relay)


class PlainPort(unittest.TestCase):
    def test_hello_is_served(self):
        with Lanpost(smarthost=DOWN, tls_detect_ms=200) as relay:
            said = s_client(relay.port, text="EHLO device.test\nQUIT\n")
            self.assertIn("BEGIN CERTIFICATE", said)
            self.assertIn("220 relay.test ESMTP", said)
            self.assertIn("221 2.0.0", said)
            said = said[said.index("250-relay.test"):]
            self.assertNotIn("STARTTLS", said)
            began = time.monotonic()
            with Wire(relay.port) as wire:
                self.assertEqual(wire.reply()[:4], b"220 ")
            took = time.monotonic() - began
            print("\nbanner after %.0f ms with tls_detect_ms = 200" %
                  (took * 1000))
            self.assertGreater(took, 0.19)
            self.assertLess(took, 2 * SLOW)
            began = time.monotonic()
            with Wire(relay.port) as wire:  # who speaks first need not wait
                wire.send(b"EHLO x\r\n")
                self.assertEqual(wire.reply()[:4], b"220 ")
                self.assertEqual(wire.reply()[:4], b"250 ")
            self.assertLess(time.monotonic() - began, 0.15 * SLOW)
            self.assertEqual(relay.lines(" refused "), [])

    def test_hello_in_pieces(self):
        with Lanpost(smarthost=DOWN, tls_detect_ms=200) as relay, \
                Wire(relay.port) as wire:
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            tls = context.wrap_bio(incoming, outgoing)
            with self.assertRaises(ssl.SSLWantReadError):
                tls.do_handshake()
            for byte in outgoing.read():
                wire.send(bytes([byte]))
                time.sleep(0.001)
            self.assertEqual(wire.socket.recv(1), b"\x16")  # a ServerHello

    def test_hello_is_not_served(self):
        with Lanpost(smarthost=DOWN, tls_detect_ms=0) as relay:
            said = s_client(relay.port)
            self.assertNotIn("BEGIN CERTIFICATE", said)
            line, = relay.wait_log("TLS hello on the plain port")
            self.assertRegex(line, r' helo="" refused why="[^"]*" advice="set '
                             r"the device to STARTTLS, or to a port of "
                             r'listen_tls, or raise tls_detect_ms"$')

    def test_hello_is_late(self):
        """It comes when the banner is out: too late for TLS."""
        with Lanpost(smarthost=DOWN, tls_detect_ms=100) as relay, \
                Wire(relay.port) as wire:
            wire.reply()
            wire.send(b"\x16\x03\x01\x02\0\1")
            self.assertEqual(wire.rest(), b"")
            relay.wait_log("TLS hello on the plain port")

    def test_no_starttls_to(self):
        with Lanpost(smarthost=DOWN, no_starttls_to="127.0.0.2/32",
                     require_tls="127.0.0.0/29") as relay:
            for source, offers, code in (("127.0.0.2", False, b"250"),
                                         ("127.0.0.3", True, b"530"),
                                         ("127.0.0.9", True, b"250")):
                with self.subTest(source), \
                        Wire(relay.port, source=source) as wire:
                    wire.reply()
                    wire.send(b"EHLO x\r\n")
                    lines = [wire.line()]
                    while lines[-1][3:4] == b"-":
                        lines.append(wire.line())
                    self.assertEqual(b"250-STARTTLS\r\n" in lines, offers)
                    self.assertEqual(wire.ask(b"MAIL FROM:<a@x.test>")[:3],
                                     code)
                    reply = wire.ask(b"STARTTLS")
                    self.assertEqual(reply[:3], b"220" if offers else b"502")
            line, = relay.lines("it did not encrypt, and must")
            self.assertIn("client=127.0.0.3 ", line)


class Status(Folder):
    def relay(self, **more):
        return Lanpost(status_listen="127.0.0.1:%d" % free_port(), **more)

    def test_page(self):
        with Smarthost() as host, self.relay(
                smarthost="localhost:%d" % host.port, tls_detect_ms=0,
                message_max_bytes=70000) as relay:
            code, out, err = run("status", "-c", relay.file)
            self.assertEqual((code, err), (0, ""))
            self.assertIn("No device has called yet.", out)
            for _ in range(3):
                relay.send()
            with Wire(relay.port, source="127.0.0.7") as wire:
                wire.reply()
                wire.ask(b"EHLO scanner")
                wire.ask(b"MAIL FROM:<a@x.test> SIZE=70001")
            with Wire(relay.port, source="127.0.0.8") as wire:
                wire.reply()
                wire.send(b"GET / HTTP/1.1\r\n\r\n")
                wire.rest()
            with Wire(relay.port, source="127.0.0.9") as wire:
                wire.reply()
                wire.ask(b"EHLO ups")
                wire.ask(b"MAIL FROM:<ups>")
            host.wait_ledger(3)
            relay.wait_log(" sent", count=3)
            code, out, err = run("-c", relay.file, "status")
            self.assertEqual((code, err), (0, ""))
            self.assertRegex(out, r"\Alanpost \d+\.\d+\.\d+, up for \d+ s\n"
                                  r"smarthost  localhost:%d\n"
                                  r"route      up\n"
                                  r"queue      0 waiting, 0 being sent, "
                                  r"0 in doubt, 0 being written, 0 devices wait for their "
                                  r"answer\n           "
                                  r"\d+ of \d+ KiB free\n" % host.port)
            for block in (
                    r"\n127\.0\.0\.1\n  last mail     \d+ s ago, 3 that day\n",
                    r"\n127\.0\.0\.7\n  last failure  \d+ s ago: message too "
                    r"large: 70001 bytes, the limit is 70000\n"
                    r"  advice        send less at a time, or raise "
                    r"message_max_bytes\n",
                    r"\n127\.0\.0\.8\n  last failure  \d+ s ago: it speaks "
                    r"another protocol than SMTP\n  advice  ",
                    r"\n127\.0\.0\.9\n  last failure  \d+ s ago: message "
                    r"refused: 553 5\.1\.7 [^\n]*\n  advice        set "
                    r"default_domain, or sender\n"):
                self.assertRegex(out, block)

    def test_route_rests(self):
        with self.relay(smarthost=DOWN) as relay:
            relay.send()
            relay.wait_log("route=paused")
            out = run("status", "-c", relay.file)[1]
            self.assertRegex(out, r"\nroute      rests for \d+ s: \w[^\n]+\n"
                                  r"advice     [^\n]+\n"
                                  r"queue      1 waiting, ")

    def test_nobody_answers(self):
        for listen, why in (("127.0.0.1:%d" % free_port(),
                             "Connection refused"),
                            ("", "status_listen is empty")):
            file = write(self.path("conf"), "smarthost = %s\nsmarthost_tls = "
                         "none\nstatus_listen = %s\n" % (DOWN, listen))
            self.assertEqual(run("status", "-c", file), (
                1, "", "lanpost: no relay answers at status_listen: %s\n" %
                why))

    def test_another_answers(self):
        """A stranger at that port, and one who says nothing."""
        with socket.create_server(("127.0.0.1", 0)) as other:
            file = write(self.path("conf"), "smarthost = %s\nsmarthost_tls = "
                         "none\nstatus_listen = 127.0.0.1:%d\n" % (
                             DOWN, other.getsockname()[1]))
            began = time.monotonic()
            code, out, err = run("status", "-c", file)
            self.assertEqual((code, out), (1, ""))
            self.assertIn("what answers there is not lanpost", err)
            self.assertLess(time.monotonic() - began, 12 * SLOW)

    def test_port_is_taken(self):
        """A relay that cannot show its page passes mail all the same."""
        with socket.create_server(("127.0.0.1", 0)) as other, \
                Smarthost() as host, \
                Lanpost(smarthost="localhost:%d" % host.port,
                        status_listen="127.0.0.1:%d" %
                        other.getsockname()[1]) as relay:
            relay.wait_log("lanpost status will not answer")
            relay.send()
            host.wait_ledger()

    def test_visitors(self):
        """Browsers, others, and those who never ask: none stands in the way
        of mail, nor of the next for long."""
        with self.relay(smarthost=DOWN) as relay:
            port = int(relay.values["status_listen"].split(":")[1])
            for request, code in ((b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
                                   b"200"),
                                  (b"GET /x HTTP/1.0\r\n\r\n", b"404"),
                                  (b"POST / HTTP/1.0\r\n\r\n", b"404"),
                                  (b"EHLO x\r\n", b"404"),
                                  (b"GET / HTTP/1.0\n\n", b"200")):
                with self.subTest(request), Wire(port) as wire:
                    wire.send(request)
                    answer = wire.rest()
                    self.assertEqual(answer[:12], b"HTTP/1.0 " + code)
                    self.assertIn(b"text/plain", answer)
                    self.assertIn(b"nosniff", answer)
            with Wire(port) as long:
                long.send(b"x" * 5000)
                try:
                    self.assertEqual(long.rest(), b"")
                except ConnectionResetError:
                    pass
            silent = [Wire(port) for _ in range(2)]
            self.addCleanup(lambda: [wire.__exit__() for wire in silent])
            relay.send()
            wait_for(lambda: run("status", "-c", relay.file)[0] == 0,
                     "an end to those who do not ask", 12)
            self.assertEqual(relay.stop(), 75)


class Settings(Folder):
    def test_new_keys(self):
        file = write(self.path("conf"), "".join(line + "\n" for line in (
            "smarthost = localhost:1", "smarthost_tls = none",
            "listen_tls = 0.0.0.0:465 [::]:465", "tls_detect_ms = 300",
            "no_starttls_to = 192.168.1.7 10.0.0.0/8",
            "require_tls = 192.168.0.0/16", "accept_any_auth = no",
            "sender = lan@example.com", "sender_rewrite = always",
            "sender_domains = example.com Example.net",
            "rewrite_from 192.168.1.9 = scanner@example.com",
            "rewrite_from 192.168.2.0/24 = nas@example.com",
            "rewrite_to root = admin@example.com",
            "  rewrite_to\t@old.example = @new.example",
            "status_listen =")))
        code, out, err = run("settings", "-c", file)
        self.assertEqual((code, err), (0, ""))
        for line in ("listen_tls = 0.0.0.0:465 [::]:465",
                     "tls_detect_ms = 300", "accept_any_auth = no",
                     "no_starttls_to = 192.168.1.7/32 10.0.0.0/8",
                     "sender_rewrite = always", "status_listen = ",
                     "rewrite_from = 192.168.1.9=scanner@example.com "
                     "192.168.2.0/24=nas@example.com",
                     "rewrite_to = root=admin@example.com "
                     "@old.example=@new.example"):
            self.assertRegex(out, r"(?m)^%s\n    # from %s line \d+; " %
                             (re.escape(line), re.escape(file)))

    def test_bad_values(self):
        """File, line, setting, cure."""
        for line, why in (
                ("rewrite_from 192.168.1.9 = nobody", "rewrite_from"),
                ("rewrite_from scanner = a@b.test", "rewrite_from"),
                ("rewrite_to a@b.test = @c.test", "rewrite_to"),
                ("rewrite_to @b.test = a@c.test", "rewrite_to"),
                ("rewrite_to root =", "rewrite_to"),
                ("sender_rewrite = sometimes", "sender_rewrite"),
                ("sender_rewrite = always", "sender_rewrite"),
                ("sender = nobody", "sender"),
                ("default_domain = a b", "default_domain"),
                ("sender_domains = a@b.test", "sender_domains"),
                ("listen_tls = 465", "listen_tls"),
                ("tls_detect_ms = 5001", "tls_detect_ms"),
                ("users_file = /nonexistent", "users_file"),
                ("require_auth = 192.168.1.9/24", "require_auth"),
                ("accept_any_auth = maybe", "accept_any_auth")):
            with self.subTest(line):
                file = write(self.path("conf"), "smarthost = localhost:1\n"
                             "smarthost_tls = none\nlisten = 127.0.0.1:%d\n"
                             "status_listen =\nstate_folder = %s\n%s\n" % (
                                 free_port(), self.directory, line))
                code, _, err = run("-c", file)
                self.assertEqual(code, 78)
                self.assertRegex(err, r"\Alanpost: %s(?: line 6)?: %s: " %
                                 (re.escape(file), why))


if __name__ == "__main__":
    unittest.main()
