"""What the end-to-end tests share: lanpost and the try-out smarthost as
processes, throwaway certificates, the real parts from Debian, and waiting
with a deadline.

BUILD names the directory of the binaries (default: build in the repository).
LANPOST_WRAPPER is put before each lanpost, for example
    valgrind --quiet --error-exitcode=99 --leak-check=full --trace-children=no
All waiting is longer then, and a word of valgrind's in the log is a failure.
A binary or tool that is missing fails the test: a skipped test proves
nothing, and nobody would notice.
"""
import errno
import atexit
import base64
import functools
import glob
import hashlib
import os
import re
import shlex
import shutil
import signal
import smtplib
import socket
import ssl
import subprocess
import sys
import tempfile
import time

REPO = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
BUILD = os.path.abspath(os.environ.get("BUILD", os.path.join(REPO, "build")))
TEXT = b"Subject: hi\r\nMessage-ID: <1@test>\r\n\r\nbody\r\n"
USER = "nas-login"
PASSWORD = "pass \"word\"=%d#"
WRAPPER = shlex.split(os.environ.get("LANPOST_WRAPPER", ""))
SLOW = 10 if WRAPPER else 1  # valgrind takes ten to thirty times as long
WRAPPER_FAILED = 99  # the --error-exitcode
# A process that gave up root cannot remove its debugger's pipes, and says so.
os.environ.setdefault("VALGRIND_OPTS", "--vgdb=no")
COMPLAINT = re.compile(r"(?m)^==\d+==|runtime error:|"
                       r"ERROR: (Address|Leak)Sanitizer")

# A test run that is ended from outside must leave no process behind: SIGTERM
# becomes an exit like any other, and kill_at_exit() sees to the rest.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))


def kill_at_exit(process):
    """The process, which will not outlive us."""
    def kill():
        if process.poll() is None:
            process.kill()
            process.wait()
    atexit.register(kill)
    return process


def binary(name):
    """A program of the build."""
    path = os.path.join(BUILD, name)
    if not os.access(path, os.X_OK):
        raise AssertionError("no program at " + path + ": build it first")
    return path


def command(program=None):
    """How to run lanpost."""
    return [*WRAPPER, program or binary("lanpost")]


def is_sanitized():
    """Was it built with AddressSanitizer?"""
    with open(binary("lanpost"), "rb") as file:
        return b"__asan_init" in file.read()


def check_no_complaint(text, status=None):
    """Valgrind and the sanitizers write into the log, and end with a status
    of their own."""
    if COMPLAINT.search(text) or (WRAPPER and status == WRAPPER_FAILED):
        raise AssertionError("status %s\n%s" % (status, text))


def tool(name):
    """A program of the system."""
    path = shutil.which(name, path=os.environ.get("PATH", "") +
                        ":/usr/sbin:/sbin")
    if path is None:
        raise AssertionError(name + " is not installed: tests/needs.sh test")
    return path


@functools.lru_cache(maxsize=None)
def busybox_sendmail():
    """sendmail of busybox. Debian's busybox has none, so we build it once."""
    path = os.path.join(BUILD, "busybox", "sendmail")
    if not os.access(path, os.X_OK):
        subprocess.run([os.path.join(REPO, "tests", "make_busybox.sh"),
                        os.path.dirname(path)], check=True, timeout=300)
    return path


def free_port():
    """A port that is free for UDP and TCP, and in both families."""
    kinds = [(socket.AF_INET, socket.SOCK_DGRAM, "127.0.0.1"),
             (socket.AF_INET, socket.SOCK_STREAM, "127.0.0.1"),
             (socket.AF_INET6, socket.SOCK_STREAM, "::1")]
    while True:
        port = 0
        try:
            for family, kind, host in kinds:
                with socket.socket(family, kind) as s:
                    s.bind((host, port))
                    port = s.getsockname()[1]
            return port
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                return port  # no IPv6 here


def wait_for(condition, what, seconds=10):
    """The first true value of condition(); a failure after so long."""
    seconds *= SLOW
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(
                "waited %d s for %s" % (seconds, what() if callable(what)
                                        else what))
        time.sleep(0.02)


def wait_for_port(port, what, seconds=10):
    def answers():
        with socket.socket() as tcp:
            return tcp.connect_ex(("127.0.0.1", port)) == 0
    wait_for(answers, what, seconds)


def write(path, text, mode=0o600):
    """A new file of that mode from its first byte on."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with open(fd, "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), mode)
        file.write(text)
    return path


def read(path):
    with open(path, encoding="latin-1") as file:
        return file.read()


def end(process, number=signal.SIGTERM, seconds=10):
    """Sends a signal, and returns the exit status. What does not end is
    killed, and fails the test."""
    if process.poll() is None:
        process.send_signal(number)
    try:
        return process.wait(seconds * SLOW)
    except subprocess.TimeoutExpired as late:
        process.kill()
        process.wait()
        raise AssertionError("%r does not end" % process.args) from late


@functools.lru_cache(maxsize=None)
def certificates():
    """The directory with everything make_certs.sh makes, made once."""
    directory = tempfile.mkdtemp(prefix="lanpost-certs-")
    atexit.register(shutil.rmtree, directory, True)
    tool("openssl")
    script = os.path.join(REPO, "tests", "make_certs.sh")
    subprocess.run(["sh", script, directory], check=True)
    return directory


def tls_context():
    context = ssl.create_default_context(
        cafile=os.path.join(certificates(), "ca.pem"))
    context.hostname_checks_common_name = False
    # Python hides a missing close_notify by default; the tests must see it.
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    return context


def password_hash(password, rounds=1000):
    """The hash of a password as the users_file has it."""
    salt = os.urandom(16)
    key = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, rounds)
    return "$pbkdf2-sha256$%d$%s$%s" % (
        rounds, *(base64.b64encode(part).decode() for part in (salt, key)))


def send(port, text=TEXT, to="b@y.test", sender="a@x.test"):
    """One mail as a device sends it; returns the refused recipients."""
    with smtplib.SMTP("127.0.0.1", port, "device.test",
                      30 * SLOW) as client:
        return client.sendmail(sender, to, text)


class Lanpost:
    """A running lanpost on a port of its own; use it with `with`.

    Settings are keywords; None takes a preset of these tests out. With tls
    it listens on tls_port too; users is {name: password} or {name: (password,
    senders)}. wrap goes before the command, env over the environment; stderr
    is a file to log to instead of log_path. When is_ready, it is waited for;
    else the log is to be read for why not."""

    def __init__(self, wrap=(), env=None, is_ready=True, program=None,
                 preexec=None, stderr=None, tls=False, users=None, **values):
        self.directory = tempfile.mkdtemp(prefix="lanpost-run-")
        os.chmod(self.directory, 0o711)
        self.file = os.path.join(self.directory, "lanpost.conf")
        self.log_path = os.path.join(self.directory, "log")
        self.port = free_port()
        hosts = write(os.path.join(self.directory, "hosts"),
                      "127.0.0.1 localhost\n", 0o644)
        self.values = {
            "listen": "127.0.0.1:%d" % self.port, "hostname": "relay.test",
            "hosts_file": hosts, "resolv_file": "/dev/null",
            "smarthost_ca_file": os.path.join(certificates(), "ca.pem"),
            "state_folder": os.path.join(self.directory, "state"),
            "status_listen": "", "tls_detect_ms": 0,
            # Tests of the held reply set it; all others want a word at once.
            "ack_wait_seconds": 0}
        os.mkdir(self.values["state_folder"], 0o700)
        if tls:
            self.tls_port = free_port()
            self.values["listen_tls"] = "127.0.0.1:%d" % self.tls_port
        if users is not None:
            self.write_users(users)
        self.write_settings(**values)
        with open(self.log_path, "wb") as log:
            self.process = kill_at_exit(subprocess.Popen(
                [*wrap, *command(program), "-c", self.file], stdout=log,
                stderr=stderr or log, stdin=subprocess.DEVNULL,
                env={**os.environ, **(env or {})}, preexec_fn=preexec))
        self.pid = self.process.pid
        if is_ready:
            try:
                self.wait_log(" listening ")
            except BaseException:
                self.kill()
                raise

    def write_settings(self, more="", **values):
        self.values.update(values)
        write(self.file, "".join(
            "%s = %s\n" % pair for pair in self.values.items()
            if pair[1] is not None) + more)

    def write_users(self, users):
        lines = []
        for name, how in users.items():
            password, *senders = (how,) if isinstance(how, str) else how
            lines.append(":".join((name, password_hash(password), *senders)))
        self.values["users_file"] = write(
            os.path.join(self.directory, "users"), "\n".join(lines) + "\n")

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        try:
            if WRAPPER and kind is None:
                self.stop()  # leaks are looked for at the end
            elif self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            if kind is None:
                check_no_complaint(self.log(), self.process.returncode)
            else:
                print(self.log())
        finally:
            shutil.rmtree(self.directory, True)

    def kill(self):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.directory, True)

    def stop(self, seconds=10):
        """SIGTERM; returns the exit status."""
        return end(self.process, signal.SIGTERM, seconds)

    def wait(self, seconds=10):
        """Until it ends by itself; returns the exit status."""
        return self.process.wait(seconds * SLOW)

    def log(self):
        return read(self.log_path)

    def lines(self, part):
        return [line for line in self.log().splitlines() if part in line]

    def wait_log(self, part, seconds=10, count=1):
        """The lines of the log with part in them, once there are count."""
        def found():
            lines = self.lines(part)
            if len(lines) < count and self.process.poll() is not None:
                raise AssertionError("lanpost ended (%d) without %r:\n%s" % (
                    self.process.returncode, part, self.log()))
            return lines if len(lines) >= count else None
        return wait_for(found, lambda: "%r in the log:\n%s" % (
            part, self.log()), seconds)

    def reload(self):
        """SIGHUP, and the answer's log line."""
        before = len(self.lines("reload="))
        self.process.send_signal(signal.SIGHUP)
        return self.wait_log("reload=", count=before + 1)[-1]

    def send(self, *arguments, **more):
        refused = send(self.port, *arguments, **more)
        if refused:
            raise AssertionError("refused: %r" % refused)


class Smarthost:
    """A running smarthost on a port of its own; use it with `with`."""

    def __init__(self, *options, cert="good", listen="127.0.0.1:0"):
        self.directory = tempfile.mkdtemp(prefix="lanpost-smarthost-")
        self.ledger_path = os.path.join(self.directory, "ledger")
        self.transcript_path = os.path.join(self.directory, "transcript")
        self.save_path = os.path.join(self.directory, "mails")
        command = [binary("smarthost"), "--listen", listen,
                   "--ledger", self.ledger_path, "--save", self.save_path,
                   "--transcript", self.transcript_path]
        if cert:
            path = os.path.join(certificates(), cert)
            command += ["--cert", path + ".pem", "--key", path + ".key"]
        self.process = kill_at_exit(subprocess.Popen(
            command + list(options), stdout=subprocess.PIPE))
        words = self.process.stdout.readline().decode().split()
        if not words:
            self.__exit__()
            raise AssertionError("the smarthost does not start")
        self.port = int(words[-1].rsplit(":", 1)[1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
        shutil.rmtree(self.directory, True)

    def stop(self):
        """SIGTERM; returns the exit status."""
        status = end(self.process)
        self.process.stdout.close()
        return status

    def client(self, tls=False):
        client = smtplib.SMTP("127.0.0.1", self.port, "client.test", 10)
        if tls:
            client._host = "localhost"
            client.starttls(context=tls_context())
        return client

    def wire(self):
        return Wire(self.port)

    def ledger(self):
        """One line for each mail that was accepted."""
        if not os.path.exists(self.ledger_path):
            return []
        with open(self.ledger_path, encoding="utf-8") as file:
            return file.read().splitlines()

    def wait_ledger(self, count=1, seconds=10):
        return wait_for(lambda: self.ledger()[count - 1:] and self.ledger(),
                        "%d mails at the smarthost" % count, seconds)

    def transcript(self):
        if not os.path.exists(self.transcript_path):
            return ""
        return read(self.transcript_path)

    def mails(self):
        """(bytes of the mail, dict of the .env) for each, in order."""
        found = []
        for path in sorted(glob.glob(self.save_path + "/*.eml")):
            with open(path, "rb") as file:
                text = file.read()
            with open(path[:-4] + ".env", encoding="utf-8") as file:
                env = dict(line.rstrip("\n").split("=", 1) for line in file)
            found.append((text, env))
        return found


class Wire:
    """A raw connection: bytes as they are."""

    def __init__(self, port, host="127.0.0.1", source=None):
        self.socket = socket.create_connection((host, port), 10 * SLOW,
                                               source and (source, 0))
        self.held = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def line(self):
        while b"\n" not in self.held:
            more = self.socket.recv(4096)
            if not more:
                raise EOFError(self.held)
            self.held += more
        line, self.held = self.held.split(b"\n", 1)
        return line + b"\n"

    def reply(self):
        """The last line of the next reply."""
        line = self.line()
        while line[3:4] == b"-":
            line = self.line()
        return line

    def ask(self, data):
        self.send(data + b"\r\n")
        return self.reply()

    def rest(self):
        """Everything until the end of the connection."""
        while True:
            more = self.socket.recv(4096)
            if not more:
                return self.held
            self.held += more

    def open_mail(self, rcpt=b"b@y"):
        self.reply()
        self.ask(b"EHLO client.test")
        self.ask(b"MAIL FROM:<a@x>")
        return self.ask(b"RCPT TO:<" + rcpt + b">")


class Dnsmasq:
    """A running dnsmasq that knows the names of its options alone, and
    refuses all others; use it with `with`."""

    def __init__(self, port, *options):
        self.port = port
        self.process = kill_at_exit(subprocess.Popen(
            [tool("dnsmasq"), "--keep-in-foreground", "--conf-file=/dev/null",
             "--no-resolv", "--no-hosts", "--bind-interfaces",
             "--listen-address=127.0.0.1", "--port=%d" % port, "--user=",
             "--group=", "--pid-file=", "--local=/test/",
             "--log-facility=/dev/null", *options]))
        try:
            wait_for_port(port, "dnsmasq")
        except BaseException:
            self.stop()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        end(self.process)

    def is_truncated(self, name):
        """Does the answer over UDP, without EDNS, have TC set?"""
        query = b"\1\2\1\0\0\1\0\0\0\0\0\0"
        for label in name.encode().split(b"."):
            query += bytes([len(label)]) + label
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.settimeout(3)
            udp.connect(("127.0.0.1", self.port))
            udp.send(query + b"\0\0\1\0\1")
            return bool(udp.recv(4096)[2] & 2)
