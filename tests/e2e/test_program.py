"""lanpost as a program: commands, exit codes, refusals, privilege, signals,
memory, secrets. Needs root: it binds, and drops what root may.
"""
import base64
import ctypes
import os
import pwd
import re
import shutil
import signal
import smtplib
import socket
import subprocess
import tempfile
import time
import unittest

from rig import (PASSWORD, SLOW, USER, Lanpost, Smarthost, binary,
                 certificates, check_no_complaint, command, free_port, read,
                 tool, wait_for, write)

CLONE_NEWNET = 0x40000000
NOBODY = pwd.getpwnam("nobody")
# A process that gave up its privilege cannot be looked through for leaks.
NO_LEAK_SEARCH = {"ASAN_OPTIONS": "detect_leaks=0"}


def run(*arguments, **more):
    """Exit code, standard output, standard error."""
    done = subprocess.run([*command(), *arguments], timeout=20 * SLOW,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, **more)
    check_no_complaint(done.stderr, done.returncode)
    return done.returncode, done.stdout, done.stderr


def be_nobody():
    os.setgroups([])
    os.setresgid(NOBODY.pw_gid, NOBODY.pw_gid, NOBODY.pw_gid)
    os.setresuid(NOBODY.pw_uid, NOBODY.pw_uid, NOBODY.pw_uid)


def status_of(pid):
    return dict(line.split(":\t", 1)
                for line in read("/proc/%d/status" % pid).splitlines())


class Folder(unittest.TestCase):
    """Tests with a folder that everybody may enter."""

    def setUp(self):
        self.directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.directory)
        os.chmod(self.directory, 0o755)

    def path(self, name):
        return os.path.join(self.directory, name)

    def public_binary(self):
        """A copy that nobody may run, wherever the build lies."""
        path = shutil.copy(binary("lanpost"), self.path("lanpost"))
        os.chmod(path, 0o755)
        return path

    def public_certificates(self):
        return shutil.copy(os.path.join(certificates(), "ca.pem"),
                           self.path("ca.pem"))


class Commands(Folder):
    def settings(self, text, mode=0o600):
        preset = ("smarthost = localhost:1\nlisten = 127.0.0.1:%d\n"
                  "smarthost_ca_file = %s/ca.pem\n" % (
                      free_port(), certificates()))
        keys = {line.split(" ")[0] for line in text.splitlines()}
        preset = "".join(line + "\n" for line in preset.splitlines()
                         if line.split(" ")[0] not in keys)
        return write(self.path("conf"), text + preset, mode)

    def test_help(self):
        code, out, err = run("--help")
        self.assertEqual((code, err), (0, ""))
        for word in ("lanpost [-c FILE]", "lanpost settings", "--version"):
            self.assertIn(word, out)

    def test_version(self):
        code, out, err = run("--version")
        self.assertEqual((code, err), (0, ""))
        self.assertRegex(out, r"^lanpost \d+\.\d+\.\d+, mbed TLS \d+\.\d+\.\d+,"
                              r" queue \d+ KiB, \d+ clients, \d+ connections$")

    def test_wrong_usage(self):
        for arguments in (["--nonsense"], ["-x"], ["nonsense"], ["-c"],
                          ["settings", "settings"], ["settings", "-c"]):
            with self.subTest(arguments):
                code, out, err = run(*arguments)
                self.assertEqual((code, out), (64, ""))
                self.assertRegex(err, r"^lanpost: (unknown (option|command)|"
                                      r"too many words)\n")
                self.assertIn("lanpost [-c FILE]", err)

    def test_settings(self):
        file = self.settings("# mine\n  connections_max=  3  \nsmarthost_user "
                             "= u\nsmarthost_password = %s\n" % PASSWORD)
        code, out, err = run("settings", "-c", file)
        self.assertEqual((code, err), (0, ""))
        self.assertIn("connections_max = 3\n    # from %s line 2; " % file, out)
        self.assertIn("smarthost_password = ********\n", out)
        self.assertNotIn(PASSWORD, out)
        self.assertRegex(out, r"expire_hours = \d+\n    # from the build; ")
        self.assertEqual(run("-c", file, "settings")[1], out)

    def test_every_setting_is_printed(self):
        code, out, _ = run("settings", "-c", self.settings(""))
        rows = read(os.path.join(os.path.dirname(__file__), "..", "..",
                                 "config.h"))
        keys = re.findall(r"^(?:TEXT|SECRET|NUMBER|CHOICE|ENDPOINTS|NETWORKS|"
                          r"PAIRS)\((\w+), ", rows, re.M)
        self.assertGreater(len(keys), 20)
        self.assertEqual(re.findall(r"^(\w+) = ", out, re.M), keys)
        self.assertEqual(code, 0)

    def test_memory_is_what_is_said(self):
        _, out, _ = run("settings", "-c", self.settings(""))
        rooms = [int(n) for n in re.findall(r"^#   (?!all)\w+ +(\d+) bytes",
                                            out, re.M)]
        said = int(re.search(r"^#   all +(\d+) bytes", out, re.M)[1])
        self.assertEqual(sum(rooms), said)
        sizes = subprocess.run([tool("size"), "-A", binary("lanpost")],
                               stdout=subprocess.PIPE, check=True, text=True)
        real = sum(int(n) for n in re.findall(r"^\.(?:data|bss) +(\d+)",
                                              sizes.stdout, re.M))
        self.assertGreater(said, 0.9 * real)
        self.assertLess(said, 1.1 * real)

    def test_refusals(self):
        garbage = write(self.path("garbage"), "no certificate\n")
        public = write(self.path("public"), "secret\n", 0o644)
        login = "smarthost_user = u\n"
        table = (
            ("colour = red\n", 'line 1: there is no setting "colour"'),
            ("\nnonsense\n", 'line 2: is no "key = value" line'),
            ("expire_hours = soon\n",
             'line 1: expire_hours: "soon" is no whole number (unit: h)'),
            ("expire_hours = 0\n",
             "line 1: expire_hours: 0 is out of bounds: 1 to 240 h"),
            ("expire_hours = 1\nexpire_hours = 1\n",
             "line 2: expire_hours: was set in line 1 already; keep one"),
            ("smarthost_tls = maybe\n",
             '"maybe" is none of: starttls implicit none'),
            ("listen = here\n", '"here" is no address:port'),
            ("listen =\n", "listen: is empty; no device could connect"),
            ("allow_from = 10.0.0.1/8\n", '"10.0.0.1/8" is no network'),
            ("smarthost =\n", "smarthost: is not set; name the server"),
            ("smarthost = mail.example.com\n", "is no host:port"),
            ("smarthost = mail.example.com:99999\n", "is no host:port"),
            ("retry_first_seconds = 99\nretry_max_seconds = 9\n",
             "retry_first_seconds: is above retry_max_seconds; lower it"),
            ("smarthost_ca_file = /nonexistent.pem\n",
             "smarthost_ca_file: cannot read /nonexistent.pem: No such file"),
            ("smarthost_ca_file = %s\n" % garbage,
             "no authority can be read from %s (" % garbage),
            ("smarthost_auth = plain\n", "needs smarthost_user and a password"),
            (login, "a login needs both smarthost_user and a password"),
            (login + "smarthost_password_file = /nonexistent\n",
             "smarthost_password_file: cannot read /nonexistent: No such"),
            (login + "smarthost_password_file = %s\n" % public,
             "can be read by others; chmod 600 it"),
            (login + "smarthost_password = x\nsmarthost_tls = none\n"
             "smarthost = mail.example.com:25\n",
             "none would send the password in clear; use starttls"),
            ("run_as = no-such-user\n", "no such user"),
            ("hostname = " + "x" * 300 + "\n", "is too long: 255 bytes at"),
            ("hostname = a\0b\n", "holds a NUL byte"),
        )
        for text, why in table:
            with self.subTest(text):
                code, out, err = run("-c", self.settings(text))
                self.assertEqual((code, out), (78, ""), err)
                self.assertIn(why, err)
                self.assertNotIn(" listening ", err)

    def test_no_file(self):
        code, _, err = run("-c", "/nonexistent")
        self.assertEqual((code, err), (78, "lanpost: cannot read /nonexistent:"
                                           " No such file or directory\n"))

    def test_secret_that_others_can_read(self):
        text = "smarthost_user = u\nsmarthost_password = secret\n"
        for mode in (0o644, 0o604, 0o620, 0o602):
            with self.subTest(oct(mode)):
                code, _, err = run("-c", self.settings(text, mode))
                self.assertEqual(code, 78)
                self.assertIn("others can read this file; chmod 600 it", err)
        for mode in (0o600, 0o640, 0o400):
            self.assertEqual(
                run("settings", "-c", self.settings(text, mode))[0], 0)
        self.assertEqual(run("settings", "-c", self.settings("", 0o644))[0], 0)


class Privilege(Folder):
    def check_is_nobody(self, pid):
        status = status_of(pid)
        self.assertEqual(status["Uid"].split(), [str(NOBODY.pw_uid)] * 4)
        self.assertEqual(status["Gid"].split(), [str(NOBODY.pw_gid)] * 4)
        # Without CAP_SETUID, and no root among the ids, no way leads back.
        for name in ("CapPrm", "CapEff", "CapInh", "CapAmb"):
            self.assertEqual(int(status[name], 16), 0)
        return status

    def test_run_as(self):
        with Smarthost() as host, \
                Lanpost(run_as="nobody", env=NO_LEAK_SEARCH,
                        preexec=lambda: os.setgroups([0, 4]),
                        smarthost="localhost:%d" % host.port) as relay:
            status = self.check_is_nobody(relay.pid)
            self.assertEqual(status["Groups"].split(), [str(NOBODY.pw_gid)])
            self.assertIn("uid=%d" % NOBODY.pw_uid, relay.log())
            relay.send()
            host.wait_ledger()
            self.assertEqual(relay.stop(), 0)

    def test_run_as_without_the_right(self):
        with Lanpost(program=self.public_binary(), preexec=be_nobody,
                     env=NO_LEAK_SEARCH, is_ready=False, run_as="daemon",
                     smarthost="localhost:1",
                     smarthost_ca_file=self.public_certificates()) as relay:
            self.assertEqual(relay.wait(), 78)
            # the settings file is root's alone: the start ends right there
            self.assertIn("Permission denied", relay.log())

    def start_as_nobody(self, text, preexec=be_nobody):
        file = write(self.path("conf"), text + "smarthost = localhost:1\n"
                     "smarthost_ca_file = %s\n" % self.public_certificates())
        os.chown(file, NOBODY.pw_uid, NOBODY.pw_gid)
        log = self.path("log")
        with open(log, "wb") as out:
            process = subprocess.Popen(
                [*command(self.public_binary()), "-c", file], stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL, preexec_fn=preexec,
                env={**os.environ, **NO_LEAK_SEARCH})
        self.addCleanup(lambda: check_no_complaint(read(log),
                                                   process.returncode))
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        wait_for(lambda: " listening " in read(log) or
                 process.poll() is not None, "a start")
        return process, log

    def test_run_as_is_refused_to_nobody(self):
        process, log = self.start_as_nobody(
            "run_as = daemon\nlisten = 127.0.0.1:%d\n" % free_port())
        self.assertEqual(process.wait(10), 78)
        self.assertIn('run_as=daemon failed why="Operation not permitted"',
                      read(log))

    def test_port_25_without_the_right(self):
        """In a network namespace of its own, so that no port is taken; where
        that is not to be had, on the ports of the system."""
        libc = ctypes.CDLL(None, use_errno=True)

        def alone():
            libc.unshare(CLONE_NEWNET)
            be_nobody()
        process, log = self.start_as_nobody("", alone)
        own = os.readlink("/proc/self/ns/net")
        start = "/proc/sys/net/ipv4/ip_unprivileged_port_start"
        port = 2525
        if os.readlink("/proc/%d/ns/net" % process.pid) == own and \
                int(read(start)) <= 25:
            port = 25  # a system on which everybody may take it
        self.assertIn("listen=0.0.0.0:%d bound" % port, read(log))
        listening = re.findall(r"00000000:([0-9A-F]{4}) \S+ 0A ",
                               read("/proc/%d/net/tcp" % process.pid))
        self.assertIn("%04X" % port, listening)
        self.check_is_nobody(process.pid)

    def test_port_25_that_was_chosen(self):
        """No stand-in for a port that somebody named."""
        libc = ctypes.CDLL(None, use_errno=True)

        def alone():
            libc.unshare(CLONE_NEWNET)
            be_nobody()
        process, log = self.start_as_nobody("listen = 0.0.0.0:25\n", alone)
        own = os.readlink("/proc/self/ns/net")
        start = "/proc/sys/net/ipv4/ip_unprivileged_port_start"
        if process.poll() is None and int(read(start)) <= 25 and \
                os.readlink("/proc/%d/ns/net" % process.pid) == own:
            return  # everybody may take it here
        self.assertEqual(process.wait(10), 78)
        self.assertIn('listen=0.0.0.0:25 failed why="Permission denied" advice='
                      '"ports below 1024 need root', read(log))

    def test_no_core_and_no_looking_in(self):
        process, _ = self.start_as_nobody(
            "listen = 127.0.0.1:%d\n" % free_port())
        limits = read("/proc/%d/limits" % process.pid)
        self.assertRegex(limits, r"Max core file size +0 +0 ")
        # The kernel gives the files of one that may not be dumped to root.
        self.assertEqual(os.stat("/proc/%d/mem" % process.pid).st_uid, 0)
        spy = subprocess.run(["cat", "/proc/%d/environ" % process.pid],
                             preexec_fn=be_nobody, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE)
        self.assertNotEqual(spy.returncode, 0)


class Signals(unittest.TestCase):
    def relay(self, port=1, **values):
        return Lanpost(smarthost="localhost:%d" % port, **values)

    def size(self, relay):
        with smtplib.SMTP("127.0.0.1", relay.port, "me.test", 10) as client:
            client.ehlo()
            return int(client.esmtp_features["size"])

    def test_sigterm_with_an_empty_queue(self):
        for number in ("SIGTERM", "SIGINT"):
            with self.subTest(number), self.relay() as relay:
                relay.process.send_signal(getattr(signal, number))
                self.assertEqual(relay.wait(2), 0)
                self.assertIn("stopped lost=0", relay.log())

    def test_sigterm_with_mail_that_cannot_leave(self):
        with self.relay() as relay:
            relay.send(to=["b@y.test", "c@y.test"])
            relay.send()
            relay.wait_log("route=paused")
            began = time.monotonic()
            self.assertEqual(relay.stop(), 75)
            self.assertLess(time.monotonic() - began, 6 * SLOW)
            lost = relay.lines(" lost reason=shutdown")
            self.assertEqual(len(lost), 3)  # a line a recipient
            self.assertRegex(
                lost[0], r"out +id=[0-9A-F]{8} lost reason=shutdown from="
                         r"<a@x\.test> rcpt=<[bc]@y\.test> bytes=\d+ "
                         r"age_s=\d+$")
            self.assertIn("stopped lost=2", relay.log())

    def test_sigterm_waits_for_what_is_under_way(self):
        with Smarthost("--fault", "dot:stall=2") as host, \
                self.relay(host.port) as relay:
            relay.send()
            wait_for(lambda: "BDAT" in host.transcript(), "BDAT")
            self.assertEqual(relay.stop(), 0)
            self.assertEqual(len(host.ledger()), 1)

    def test_sigterm_takes_no_new_clients(self):
        with Smarthost("--fault", "dot:stall=2") as host, \
                self.relay(host.port) as relay, \
                smtplib.SMTP("127.0.0.1", relay.port, "me.test", 10) as idle:
            relay.send()
            wait_for(lambda: "BDAT" in host.transcript(), "BDAT")
            relay.process.terminate()
            relay.wait_log("stopping")
            self.assertEqual(idle.getreply()[0], 421)
            with socket.socket() as late:
                self.assertNotEqual(
                    late.connect_ex(("127.0.0.1", relay.port)), 0)
            self.assertEqual(relay.wait(), 0)

    def test_sighup_with_a_broken_file(self):
        with self.relay(message_max_bytes=100000) as relay:
            self.assertEqual(self.size(relay), 100000)
            relay.write_settings("colour = red\n", message_max_bytes=200000)
            line = relay.reload()
            self.assertIn("reload=failed", line)
            self.assertIn("there is no setting", line)
            self.assertIn("colour", line)
            self.assertEqual(self.size(relay), 100000)
            os.unlink(relay.file)
            self.assertIn("reload=failed", relay.reload())
            self.assertEqual(self.size(relay), 100000)
            self.assertEqual(relay.stop(), 0)

    def test_sighup_with_a_good_file(self):
        with self.relay(message_max_bytes=100000) as relay, \
                Smarthost() as host:
            relay.send()
            relay.wait_log("route=paused")
            relay.write_settings(message_max_bytes=200000,
                                 smarthost="localhost:%d" % host.port)
            self.assertIn("reload=done", relay.reload())
            self.assertEqual(self.size(relay), 200000)
            host.wait_ledger()
            self.assertEqual(relay.stop(), 0)

    def test_second_instance(self):
        with self.relay() as first:
            with self.relay(listen="127.0.0.1:%d" % first.port,
                            is_ready=False) as second:
                self.assertEqual(second.wait(), 78)
                self.assertIn('listen=127.0.0.1:%d failed why="Address already '
                              'in use"' % first.port, second.log())
            self.assertEqual(self.size(first) > 0, True)


class Secrets(unittest.TestCase):
    def test_no_secret_leaks(self):
        """Not into the arguments, the environment, the log at its loudest,
        whatever the smarthost says to our login."""
        forms = [PASSWORD, USER + "\0" + PASSWORD]
        plain = ("\0%s\0%s" % (USER, PASSWORD)).encode()
        forms += [base64.b64encode(text).decode().rstrip("=")
                  for text in (PASSWORD.encode(), plain)]
        echo = "auth:reply=535 5.7.8 No"
        for options in (["--user", USER, "--password", PASSWORD],
                        ["--fault", echo],
                        ["--user", USER, "--password", PASSWORD, "--auth",
                         "LOGIN"]):
            with self.subTest(options), Smarthost(*options) as host, \
                    Lanpost(smarthost="localhost:%d" % host.port,
                            smarthost_user=USER, smarthost_password=PASSWORD,
                            log_level="debug") as relay:
                relay.send()
                relay.wait_log("route=paused" if echo in options else " sent")
                seen = [relay.log()]
                for name in ("cmdline", "environ"):
                    seen.append(read("/proc/%d/%s" % (relay.pid, name)))
                relay.stop()
                seen.append(relay.log())
                for text in seen:
                    for form in forms:
                        self.assertNotIn(form, text)


if __name__ == "__main__":
    unittest.main()
