"""What the load tests stand on: both processes, the senders, the ledgers.

A ledger is a Counter: how often each mail was acknowledged, or arrived. The
acknowledged side is kept by who sends, the arrived side by the smarthost;
lanpost's own log is asked only where it must have warned.
"""
import collections
import glob
import os
import random
import re
import resource
import shutil
import signal
import smtplib
import socket
import subprocess
import tempfile
import threading
import time

import rig

PATIENCE_S = 60 * rig.SLOW


def wait_until(is_true, seconds=PATIENCE_S, pause_s=0.05):
    """False: it never was, in all that time."""
    end = time.monotonic() + seconds
    while not is_true():
        if time.monotonic() > end:
            return False
        time.sleep(pause_s)
    return True


def lasting_port():
    """Below the ports that connections get: while the smarthost is down,
    nobody's own end may take its place."""
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def raise_fd_limit():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Smarthost:
    """The try-out smarthost with TLS and a login, on a port that it keeps
    when it is started again; use it with `with`."""

    def __init__(self, *options, saves=False):
        self.options = options
        self.folder = tempfile.mkdtemp(prefix="lanpost-smarthost-")
        self.port = lasting_port()
        self.ledger_path = self.path("ledger")
        self.saves = saves
        self.starts = 0
        self.process = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()
        shutil.rmtree(self.folder, True)

    def path(self, name):
        return os.path.join(self.folder, name)

    def start(self):
        good = os.path.join(rig.certificates(), "good")
        command = [rig.binary("smarthost"), "--require-tls",
                   "--listen", "127.0.0.1:%d" % self.port,
                   "--cert", good + ".pem", "--key", good + ".key",
                   "--user", rig.USER, "--password", rig.PASSWORD,
                   "--ledger", self.ledger_path, *self.options]
        self.starts += 1
        if self.saves:  # it counts from 1 each time
            command += ["--save", self.path("mails%d" % self.starts)]
        # A session of its own: killed, it takes its children along.
        with open(self.path("stderr"), "ab") as stderr:
            self.process = subprocess.Popen(command, start_new_session=True,
                                            stdout=subprocess.PIPE,
                                            stderr=stderr)
        if not self.process.stdout.readline():
            raise AssertionError("the smarthost does not start")

    def stop(self, number=signal.SIGTERM):
        """Connections and all; what number does to one, it does to each."""
        if self.process is None:
            return
        os.killpg(self.process.pid, number)
        os.killpg(self.process.pid, signal.SIGCONT)
        self.process.wait(10)
        self.process.stdout.close()
        self.process = None

    def freeze(self):
        """Its connections stay, and nothing is read or said."""
        os.killpg(self.process.pid, signal.SIGSTOP)

    def lines(self):
        if not os.path.exists(self.ledger_path):
            return []
        with open(self.ledger_path, encoding="utf-8") as file:
            return file.read().splitlines()

    def arrived(self, column=0):
        """By Message-ID (column 0), or by recipient (column 2)."""
        return collections.Counter(line.split()[column].strip("<>")
                                   for line in self.lines())

    def arrived_ids(self):
        """By the id that lanpost wrote into its Received line."""
        ids = collections.Counter()
        for path in glob.glob(self.path("mails*/*.eml")):
            with open(path, "rb") as file:
                head = file.read(400)
            ids[re.search(rb"with E?SMTP id ([0-9A-F]{8})",
                          head)[1].decode()] += 1
        return ids


class Lanpost(rig.Lanpost):
    """lanpost towards a Smarthost, and what can be known of it."""

    def __init__(self, smarthost, wrap=(), env=None, program=None, **values):
        super().__init__(wrap, env, program=program, **{
            "smarthost": "localhost:%d" % smarthost.port,
            "smarthost_user": rig.USER,
            "smarthost_password": rig.PASSWORD,
            "clients_per_address": 20,  # as many as smtp_source() has
            "retry_first_seconds": 1,
            "retry_max_seconds": 2,
            **values})

    def accepted(self):
        """The ids that it acknowledged, as it says."""
        return collections.Counter(
            re.findall(r" in +id=(\w+) .* accepted ", self.log()))

    def doubtful(self, key="rcpt"):
        """What it says may arrive twice: how many times each."""
        pattern = (r" id=(\w+) .*may arrive twice" if key == "id" else
                   r" id=\w+ rcpt=<([^>]*)> .*may arrive twice")
        return collections.Counter(re.findall(pattern, self.log()))

    # What the kernel knows of it.

    def proc(self, name):
        path = "/proc/%d/%s" % (self.pid, name)
        with open(path, encoding="ascii") as file:
            return file.read()

    def status(self, key):
        return int(re.search(r"^%s:\s+(\d+)" % key, self.proc("status"),
                             re.M)[1])

    def rss_kib(self):
        return self.status("VmRSS")

    def fds(self):
        return len(os.listdir("/proc/%d/fd" % self.pid))

    def cpu_s(self):
        fields = self.proc("stat").rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def wakeups(self):
        """Each poll() that slept and came back is one, and so is each slice
        that a spin gave up."""
        return (self.status("voluntary_ctxt_switches") +
                self.status("nonvoluntary_ctxt_switches"))

    def client(self, source="127.0.0.1", timeout=30 * rig.SLOW):
        return smtplib.SMTP("127.0.0.1", self.port, "load.test", timeout,
                            (source, 0))


class Bounce(threading.Thread):
    """Stops the smarthost when so many mails have arrived, first with SIGKILL
    and then with SIGTERM, and starts it again."""

    def __init__(self, smarthost, kill_at, stop_at, pause_s=1.2):
        super().__init__(daemon=True)
        self.smarthost = smarthost
        self.plan = [(kill_at, signal.SIGKILL), (stop_at, signal.SIGTERM)]
        self.pause_s = pause_s
        self.done = []
        self.start()

    def run(self):
        for count, number in self.plan:
            if not wait_until(lambda: len(self.smarthost.lines()) >= count,
                              pause_s=0.01):
                return
            self.smarthost.stop(number)
            time.sleep(self.pause_s)
            self.smarthost.start()
            self.done.append(number)

    def is_done(self):
        self.join(PATIENCE_S)
        return len(self.done) == len(self.plan)


def smtp_source(lanpost, count, to, *options, sessions=20, size=2000):
    """Postfix's load generator: count mails to 1TO, 2TO, ... Without -A, exit
    status 0 means that each got its 250. Returns what it ran to."""
    command = [rig.tool("smtp-source"), "-s", str(sessions), "-m", str(count),
               "-l", str(size), "-N", "-M", "load.test", "-f", "a@load.test",
               "-t", to, *options, "127.0.0.1:%d" % lanpost.port]
    return subprocess.run(command, capture_output=True, text=True,
                          timeout=2 * PATIENCE_S, check=False)


class Senders:
    """Several clients that send mails, each with a name of its own, which is
    its Message-ID and its recipient.

    A mail that is refused for now is sent again, as a device does. acked is
    the ledger, refusals counts the reply codes, cut the connections that died
    before a reply came: whether that mail counts is not known."""

    def __init__(self, lanpost, count, threads=8):
        self.lanpost = lanpost
        self.acked = collections.Counter()
        self.refusals = collections.Counter()
        self.cut = 0
        self.left = ["%d.%08x@ledger.test" % (i, random.getrandbits(32))
                     for i in range(count)]
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.run, daemon=True)
                        for _ in range(threads)]
        for thread in self.threads:
            thread.start()

    def is_done(self):
        end = time.monotonic() + PATIENCE_S
        for thread in self.threads:
            thread.join(max(0, end - time.monotonic()))
        return not any(thread.is_alive() for thread in self.threads)

    def take(self):
        with self.lock:
            return self.left.pop() if self.left else None

    def send(self, client, name):
        text = ("From: <a@load.test>\r\nMessage-ID: <%s>\r\nSubject: %s\r\n"
                "\r\n%s\r\n" % (name, name, "text\r\n" * 100))
        try:
            client.sendmail("a@load.test", name, text)
        except smtplib.SMTPRecipientsRefused as refused:
            return next(iter(refused.recipients.values()))[0]
        except smtplib.SMTPResponseException as refused:
            return refused.smtp_code
        return 250

    def run(self):
        client = None
        while (name := self.take()) is not None:
            try:
                client = client or self.lanpost.client()
                code = self.send(client, name)
            except (OSError, smtplib.SMTPException) as error:
                code = getattr(error, "smtp_code", 0)
                client = None
            with self.lock:
                if code == 250:
                    self.acked[name] += 1
                    continue
                self.left.append(name)
                self.refusals[code] += code != 0
                self.cut += code == 0
            time.sleep(0.05)
        if client is not None:
            client.quit()
