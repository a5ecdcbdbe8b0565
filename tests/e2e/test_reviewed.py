"""What a review asked for: last words are heard, lost mail is named, a reload
reaches everything it says, a port that is taken ends the start.
"""
import ctypes
import fcntl
import os
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import tempfile
import threading
import time
import unittest

import rig
from rig import (TEXT, Lanpost, Smarthost, Wire, certificates, free_port,
                 read, wait_for, write)

CLONE_NEWNET = 0x40000000
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
SETTINGS_FILE = "/etc/lanpost.conf"  # of the build
TOO_BIG = b"552 5.3.4 too big\r\n"
DOWN = "localhost:1"  # a smarthost that nobody is


def cert(name):
    return os.path.join(certificates(), name)


class Refuser(threading.Thread):
    """A smarthost that answers in the middle of a mail, and hangs up while
    the rest still comes. It is written here for its timing: no byte is read
    between the answer and the end. Use it with `with`."""

    TALK = {b"EHLO": b"250-me\r\n250 STARTTLS\r\n", b"MAIL": b"250 Ok\r\n",
            b"RCPT": b"250 Ok\r\n", b"DATA": b"354 Go\r\n",
            b"STAR": b"220 Go\r\n"}
    READ_FIRST = 1 << 20

    def __init__(self, tls, pause_s, is_rude):
        super().__init__(daemon=True)
        self.tls, self.pause_s, self.is_rude = tls, pause_s, is_rude
        self.listener = socket.socket()
        # Little is on its way at a time, so that lanpost is still writing.
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen()
        self.port = self.listener.getsockname()[1]
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(cert("good.pem"), cert("good.key"))
        self.mails = 0

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.join(10)
        self.listener.close()

    def run(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            client.settimeout(20 * rig.SLOW)
            try:
                self.serve(client)
            except (OSError, EOFError):
                pass  # lanpost hung up: the test sees what that led to

    def serve(self, client):
        if self.tls == "implicit":
            client = self.context.wrap_socket(client, server_side=True)
        with client:
            client.sendall(b"220 me\r\n")
            verb = b""
            while verb != b"DATA":
                verb = self.line(client)[:4].upper()
                client.sendall(self.TALK.get(verb, b"221 Bye\r\n"))
                if verb == b"STAR":
                    client = self.context.wrap_socket(client,
                                                      server_side=True)
            self.refuse(client)

    def line(self, client):
        line = b""
        while not line.endswith(b"\n"):
            byte = client.recv(1)
            if not byte:
                raise EOFError
            line += byte
        return line

    def refuse(self, client):
        self.mails += 1
        count = 0
        while count < self.READ_FIRST:
            more = len(client.recv(65536))
            if more == 0:
                raise EOFError
            count += more
        client.sendall(TOO_BIG)
        time.sleep(self.pause_s)
        if not self.is_rude and self.tls != "none":
            client.settimeout(0.2)
            try:
                client.unwrap()  # close_notify; its answer will not come
            except OSError:
                pass
        client.close()  # with bytes unread: a reset


class LastWords(unittest.TestCase):
    def test_refusal_in_mid_message(self):
        """Heard, though our writes fail before it is read."""
        text = b"Subject: scan\r\n\r\n" + (b"x" * 98 + b"\r\n") * 200000
        for tls in ("none", "starttls", "implicit"):
            for pause_s, is_rude in ((0, True), (0.3, True), (0, False)):
                if tls == "none" and not is_rude:
                    continue  # there is no polite end in clear
                with self.subTest(tls=tls, pause_s=pause_s, rude=is_rude):
                    self.refused(text, tls, pause_s, is_rude)

    def refused(self, text, tls, pause_s, is_rude):
        with Refuser(tls, pause_s, is_rude) as host, \
                Lanpost(smarthost="localhost:%d" % host.port,
                        smarthost_tls=tls) as relay:
            relay.send(text)
            line, = relay.wait_log("rcpt=<b@y.test>", 30)
            self.assertRegex(line, r'reply="552 5\.3\.4 too big" '
                                   r'advice="[^"]+" refused$')
            self.assertEqual(relay.stop(), 0)
            self.assertNotIn(" later ", relay.log())
            self.assertEqual(host.mails, 1)


class SlowReader(threading.Thread):
    """Reads a pipe into a file: as it comes, then a page at a time."""

    PAGE, PAUSE_S = 4096, 0.01

    def __init__(self, path):
        super().__init__(daemon=True)
        self.path, self.is_slow = path, False
        self.end, self.write_end = os.pipe()
        self.start()

    def run(self):
        with open(self.path, "ab", buffering=0) as file:
            while data := os.read(self.end, self.PAGE):
                file.write(data)
                if self.is_slow:
                    time.sleep(self.PAUSE_S)
        os.close(self.end)


class Lost(unittest.TestCase):
    COUNT = 1500

    def fill(self, relay):
        """Many mails over one connection; all get their 250."""
        with Wire(relay.port) as wire:
            wire.reply()
            wire.ask(b"EHLO device.test")
            for i in range(self.COUNT):
                wire.send(b"MAIL FROM:<a@x.test>\r\nRCPT TO:<%d@y.test>\r\n"
                          b"DATA\r\n" % i)
                self.assertEqual([wire.reply()[:3] for _ in range(3)],
                                 [b"250", b"250", b"354"])
                self.assertEqual(wire.ask(TEXT + b".")[:3], b"250")
            wire.ask(b"QUIT")

    def test_1500_are_named_to_a_slow_reader(self):
        path = os.path.join(certificates(), "slow.log")
        reader = SlowReader(path)
        self.addCleanup(os.unlink, path)
        with Lanpost(smarthost=DOWN, stderr=reader.write_end,
                     is_ready=False) as relay:
            os.close(reader.write_end)
            relay.log_path = path
            relay.wait_log(" listening ")
            self.fill(relay)
            relay.wait_log("route=paused")
            wait_for(lambda: len(relay.lines(" accepted ")) == self.COUNT,
                     "the log of what was accepted")
            reader.is_slow = True
            began = time.monotonic()
            self.assertEqual(relay.stop(), 75)
            self.assertLess(time.monotonic() - began, 8 * rig.SLOW)
            reader.join(30)
            lost = relay.lines(" lost reason=shutdown")
            self.assertEqual(len(lost), self.COUNT)
            names = {re.search(r" rcpt=<(\d+)@y\.test> ", line)[1]
                     for line in lost}
            self.assertEqual(len(names), self.COUNT)
            self.assertRegex(relay.log(), r" stopped lost=%d "
                             r"log_lines_dropped=0\n$" % self.COUNT)

    def test_sigterm_in_mid_data(self):
        """A device that is not done keeps its mail: that is the better
        place. Neither is it lost, then, nor named."""
        with Lanpost(smarthost=DOWN) as relay, Wire(relay.port) as wire, \
                Wire(relay.port) as silent:
            for device in wire, silent:
                device.open_mail()
                self.assertEqual(device.ask(b"DATA")[:3], b"354")
                device.send(TEXT)
            relay.process.send_signal(signal.SIGTERM)
            relay.wait_log("stopping")
            wire.send(b"more\r\n")
            self.assertEqual(wire.ask(b"."), b"451 4.3.2 Shutting down, send "
                                             b"it again\r\n")
            self.assertEqual(relay.wait(), 0)
            self.assertNotIn(b"250", silent.rest())
            self.assertIn("stopped lost=0 ", relay.log())
            self.assertEqual(relay.lines(" accepted "), [])
            self.assertEqual(relay.lines(" lost "), [])
            self.assertEqual(len(relay.lines("lanpost stops before it could "
                                             "pass the message on")), 1)

    def test_verdict_that_never_came(self):
        """The smarthost has it, and never said so: in doubt to the end."""
        with Smarthost("--fault", "dot_taken:silent") as host, \
                Lanpost(smarthost="localhost:%d" % host.port) as relay:
            relay.send()
            host.wait_ledger()
            began = time.monotonic()
            self.assertEqual(relay.stop(), 75)
            self.assertLess(time.monotonic() - began, 8 * rig.SLOW)
            doubt, = relay.lines("may arrive twice")
            self.assertIn("rcpt=<b@y.test>", doubt)
            lost, = relay.lines(" lost reason=shutdown")
            ids = [re.search(r" id=(\w+) ", line)[1] for line in (doubt, lost)]
            self.assertEqual(ids[0], ids[1])
            self.assertIn("stopped lost=1 ", relay.log())
            self.assertEqual(len(host.ledger()), 1)


class Reload(unittest.TestCase):
    def reload(self, relay, **values):
        relay.write_settings(**values)
        line = relay.reload()
        self.assertIn("reload=done", line)

    def test_tls_is_switched_on(self):
        """No authority was loaded at the start."""
        for tls, options in (("implicit", ["--implicit"]),
                             ("starttls", ["--require-tls"])):
            with self.subTest(tls), Smarthost(cert=None) as clear, \
                    Smarthost(*options) as secure, \
                    Lanpost(smarthost="localhost:%d" % clear.port,
                            smarthost_tls="none") as relay:
                relay.send()
                clear.wait_ledger()
                relay.wait_log(" sent")
                self.reload(relay, smarthost_tls=tls,
                            smarthost="localhost:%d" % secure.port)
                relay.send()
                secure.wait_ledger()
                (_, env), = secure.mails()
                self.assertRegex(env["tls"], r"^TLSv1\.[23]$")
                self.assertEqual(len(clear.ledger()), 1)
                relay.wait_log(" sent", count=2)
                self.assertEqual(relay.stop(), 0)

    def held(self, relay):
        relay.send()
        line, = relay.wait_log("route=paused")
        self.assertIn("which smarthost_ca_file does not know", line)

    def test_another_authority_file(self):
        with Smarthost() as host, \
                Lanpost(smarthost="localhost:%d" % host.port,
                        smarthost_ca_file=cert("other_ca.pem")) as relay:
            self.held(relay)
            self.reload(relay, smarthost_ca_file=cert("ca.pem"))
            host.wait_ledger()
            relay.wait_log(" sent")
            self.assertEqual(relay.stop(), 0)

    def test_another_authority_in_the_same_file(self):
        """And the one that was known before is known no more."""
        changing = shutil.copy(cert("other_ca.pem"), cert("changing.pem"))
        self.addCleanup(os.unlink, changing)
        with Smarthost() as host, Smarthost(cert="unknown_ca") as other, \
                Lanpost(smarthost="localhost:%d" % host.port,
                        smarthost_ca_file=changing) as relay:
            self.held(relay)
            shutil.copy(cert("ca.pem"), changing)
            self.reload(relay)
            host.wait_ledger()
            relay.wait_log(" sent")
            self.reload(relay, smarthost="localhost:%d" % other.port)
            relay.send()
            relay.wait_log("which smarthost_ca_file does not know", count=2)
            self.assertEqual(other.ledger(), [])

    def test_bad_authority_file(self):
        with Smarthost() as host, \
                Lanpost(smarthost="localhost:%d" % host.port,
                        message_max_bytes=100000) as relay:
            garbage = write(os.path.join(relay.directory, "garbage"), "x\n")
            for bad in ("/nonexistent.pem", garbage):
                with self.subTest(bad):
                    relay.write_settings(smarthost_ca_file=bad,
                                         message_max_bytes=200000)
                    line = relay.reload()
                    self.assertIn("reload=failed", line)
                    self.assertIn(bad, line)
            with Wire(relay.port) as wire:
                wire.reply()
                wire.send(b"EHLO me\r\n")
                lines = [wire.line()]
                while lines[-1][3:4] == b"-":
                    lines.append(wire.line())
                self.assertIn(b"SIZE 100000", b"".join(lines))
            relay.send()
            host.wait_ledger()
            relay.wait_log(" sent")
            self.assertEqual(relay.stop(), 0)

    def test_listen_takes_a_restart(self):
        with Lanpost(smarthost=DOWN) as relay:
            port = free_port()
            self.reload(relay, listen="127.0.0.1:%d" % port)
            relay.wait_log("reload: listen has changed; that takes a restart")
            with Wire(relay.port) as wire:
                self.assertEqual(wire.reply()[:3], b"220")
            with socket.socket() as late:
                self.assertNotEqual(late.connect_ex(("127.0.0.1", port)), 0)
            self.assertEqual(relay.stop(), 0)

    def test_nothing_that_takes_a_restart(self):
        with Lanpost(smarthost=DOWN) as relay:
            self.reload(relay, retry_first_seconds=7)
            self.assertEqual(relay.lines("takes a restart"), [])

    def as_nobody(self, **values):
        return Lanpost(smarthost=DOWN, run_as="nobody", **values,
                       env={"ASAN_OPTIONS": "detect_leaks=0"})

    def own_folder(self, mode):
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        os.chmod(folder, mode)
        return folder

    def unreadable(self, relay):
        """The files that it warns of."""
        pattern = r" file=(\S+) cannot be read again: .* the user nobody$"
        return re.findall("(?m)" + pattern, relay.log())

    def test_file_that_run_as_cannot_read(self):
        ca_file = shutil.copy(cert("ca.pem"), self.own_folder(0o755))
        os.chmod(ca_file, 0o644)
        with self.as_nobody(smarthost_ca_file=ca_file) as relay:
            self.assertEqual(self.unreadable(relay), [relay.file])
            self.assertIn("reload=failed", relay.reload())
            os.chmod(relay.file, 0o644)
            self.assertIn("reload=done", relay.reload())
            self.assertEqual(relay.stop(), 0)

    def test_other_files_that_run_as_cannot_read(self):
        """By their own mode, or by that of the folder that they lie in."""
        for mode in (0o755, 0o700):
            folder = self.own_folder(mode)
            secret = write(os.path.join(folder, "password"), "secret\n")
            ca_file = shutil.copy(cert("ca.pem"), folder)
            os.chmod(ca_file, 0o600)
            with self.subTest(oct(mode)), \
                    self.as_nobody(smarthost_ca_file=ca_file,
                                   smarthost_user="u",
                                   smarthost_password_file=secret) as relay:
                self.assertEqual(self.unreadable(relay),
                                 [relay.file, secret, ca_file])
                self.assertEqual(relay.stop(), 0)


def enter_own_network():
    """For this thread, and what it starts: loopback alone, no port taken."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS,
                    struct.pack("16sH14x", b"lo", IFF_UP))


class Ports(unittest.TestCase):
    def alone(self, function):
        """In a thread, which takes its network along when it ends."""
        failed = []

        def inside():
            try:
                enter_own_network()
                function()
            except BaseException as error:  # for the thread that waits
                failed.append(error)
        thread = threading.Thread(target=inside, daemon=True)
        thread.start()
        thread.join()
        if failed:
            raise failed[0]

    def relay(self, **more):
        return Lanpost(smarthost=DOWN, listen=None, **more)

    def greets(self, family, address):
        with socket.socket(family) as client:
            client.settimeout(10 * rig.SLOW)
            client.connect((address, 25))
            self.assertEqual(client.recv(4), b"220 ")

    def test_preset(self):
        def start():
            with self.relay() as relay:
                self.greets(socket.AF_INET, "127.0.0.1")
                self.greets(socket.AF_INET6, "::1")
                self.assertEqual(relay.stop(), 0)
        self.alone(start)

    def test_port_is_taken_in_one_family(self):
        """Half the devices would talk to a stranger: no start at all."""
        for family, address, text in (
                (socket.AF_INET, "0.0.0.0", "0.0.0.0:25"),
                (socket.AF_INET, "127.0.0.1", "0.0.0.0:25"),
                (socket.AF_INET6, "::", "[::]:25")):
            def start():
                with socket.socket(family) as holder:
                    if family == socket.AF_INET6:
                        holder.setsockopt(socket.IPPROTO_IPV6,
                                          socket.IPV6_V6ONLY, 1)
                    holder.bind((address, 25))
                    holder.listen()
                    with self.relay(is_ready=False) as relay:
                        self.assertEqual(relay.wait(), 78)
                        self.assertIn('listen=%s failed why="Address already '
                                      'in use"' % text, relay.log())
                        self.assertNotIn(" listening ", relay.log())
            with self.subTest(address):
                self.alone(start)

    def test_without_ipv6(self):
        def start():
            for name in ("all", "default", "lo"):
                with open("/proc/sys/net/ipv6/conf/%s/disable_ipv6" % name,
                          "w", encoding="ascii") as file:
                    file.write("1\n")
            with self.assertRaises(OSError):
                self.greets(socket.AF_INET6, "::1")
            with self.relay() as relay:
                self.greets(socket.AF_INET, "127.0.0.1")
                self.assertEqual(relay.stop(), 0)
        self.alone(start)


class BadSettings(unittest.TestCase):
    def setUp(self):
        self.file = write(os.path.join(certificates(), "bad.conf"), "")
        self.addCleanup(os.unlink, self.file)

    def run_lanpost(self, *arguments):
        done = subprocess.run([*rig.command(), *arguments],
                              capture_output=True, text=True, check=False,
                              stdin=subprocess.DEVNULL, timeout=20 * rig.SLOW)
        rig.check_no_complaint(done.stderr, done.returncode)
        return done.returncode, done.stdout, done.stderr

    def test_settings_of_the_build(self):
        write(self.file, "expire_hours = 5\nsmarthost = localhost:1\n"
                         "colour = red\n")
        code, out, err = self.run_lanpost("settings", "-c", self.file)
        self.assertEqual(code, 78)
        self.assertRegex(err, r"^lanpost: %s line 3: there is no setting "
                              r'"colour"; [^\n]*\n$' % re.escape(self.file))
        self.assertRegex(out, r"(?m)^expire_hours = 96\n    # from the build")
        self.assertNotIn(self.file, out)
        self.assertNotIn("localhost:1", out)
        self.assertIn("# The settings of the build; yours are not good:", out)
        rows = re.findall(r"(?m)^(\w+) = ", out)
        origins = re.findall(r"(?m)^    # from the build; ", out)
        self.assertGreater(len(rows), 20)
        self.assertEqual(len(rows), len(origins))

    def test_no_smarthost_in_the_file(self):
        write(self.file, "expire_hours = 5\n")
        for arguments in (["-c", self.file], ["settings", "-c", self.file]):
            code, out, err = self.run_lanpost(*arguments)
            self.assertEqual(code, 78)
            self.assertRegex(err, r"^lanpost: %s: smarthost: is not set; "
                                  r"[^\n]* in this file: smarthost = \S+:\d+"
                                  r"\n$" % re.escape(self.file))
            self.assertEqual("expire_hours = 96\n" in out,
                             "settings" in arguments)

    def test_no_smarthost_and_no_file(self):
        self.assertFalse(os.path.exists(SETTINGS_FILE),
                         "take it away: lanpost would read it")
        for arguments in ([], ["settings"]):
            code, out, err = self.run_lanpost(*arguments)
            self.assertEqual(code, 78)
            self.assertRegex(err, r"smarthost: is not set; [^\n]* in %s: "
                                  r"smarthost = \S+:\d+\n$" % SETTINGS_FILE)
            self.assertEqual("expire_hours = 96\n" in out, bool(arguments))


if __name__ == "__main__":
    unittest.main()
