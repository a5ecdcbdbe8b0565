"""The ledger rig: devices and a smarthost that play a script, and one ledger
of what each of them saw. The law that is checked over it:

    what was acknowledged was delivered, or its loss was declared;
    what was refused is not delivered; and nothing is delivered twice,
    but where a row of the table says that it may be.

A cell is a row of the table in one mode, with a relay, a smarthost and a
ledger of its own. The smarthost speaks plain SMTP from threads, so that a
script decides at each step what it says and when it dies.
"""
import collections
import contextlib
import itertools
import random
import re
import signal
import socket
import struct
import subprocess
import threading
import time

import rig
from rig import Lanpost, Wire, kill_at_exit, wait_for

FACTOR = 4 if rig.SLOW > 1 else 2 if rig.is_sanitized() else 1
LONG_S = 60 * FACTOR  # a window, or a patience, that never passes
SHORT_S = 2 * FACTOR  # a window that does
RETRY_S = 3 * SHORT_S  # beyond it
QUEUED, SENT, NOTHING = "250 queued", "250 sent", "nothing"
IN_DOUBT, SENT_AGAIN = "in doubt", "sent again"

Mode = collections.namedtuple("Mode", "name settings")
QUEUE = Mode("hold, then queue", (("ack_late", "queue"),))
REFUSE = Mode("hold, then refuse", (("ack_late", "refuse"),))
NO_HOLD = Mode("no hold", (("ack_wait_seconds", 0),))
MODES = (QUEUE, REFUSE, NO_HOLD)


def reset(sock):
    """Ends a connection by RST, whatever is on its way."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                        struct.pack("ii", 1, 0))
    sock.close()


def hang_up(sock):
    """Ends a connection by FIN."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_WR)
    sock.close()


def mail_of(token, filler=0):
    """A mail that lacks nothing and bears its token."""
    line = b"x" * 98 + b"\r\n"
    return b"".join((
        b"Date: Mon, 02 Nov 2026 10:00:00 +0000\r\nFrom: <%s@x.test>\r\n"
        b"Message-ID: <%s@device.test>\r\nSubject: token=%s.\r\n\r\n" %
        ((token.encode(),) * 3), line * (filler // len(line)), b"end\r\n"))


def token_in(text):
    """The token of a mail or a log line."""
    found = re.search(r"(?:token=|from=<|rcpt=<)([\w-]+)[.@]", text)
    return found and found[1]


# ---- The ledger -------------------------------------------------------------

class Ledger:
    """Who saw what, in order: (who, token, what, words)."""

    def __init__(self):
        self.entries = []
        self.lock = threading.Lock()

    def note(self, who, token, what, words=""):
        with self.lock:
            self.entries.append((who, token, what, words))

    def words(self, token, *kinds):
        """The words of the entries of these (who, what)."""
        with self.lock:
            return [words for who, whose, what, words in self.entries
                    if whose == token and (who, what) in kinds]

    def tokens(self):
        with self.lock:
            return sorted({entry[1] for entry in self.entries if entry[1]})

    def told(self, token):
        """What its device was told, attempt after attempt."""
        return self.words(token, ("device", "told"))

    def acknowledged(self, token):
        return [word for word in self.told(token) if word[:3] == "250"]

    def delivered(self, token):
        """How often the smarthost took it, whether it could say so or not."""
        return len(self.words(token, ("smarthost", "took")))

    def declared(self, token):
        return len(self.words(token, ("relay", "lost"), ("relay", "refused")))

    def read_log(self, log):
        """What the relay says of each mail's end."""
        tokens = {}  # of its ids
        for line in log.splitlines():
            found = re.search(r" id=(\w+) ", line)
            if not found:
                continue
            token = token_in(line) or tokens.get(found[1])
            tokens[found[1]] = token
            if " lost reason=" in line:
                self.note("relay", token, "lost", line)
            elif re.search(r" out .* refused\b", line):
                self.note("relay", token, "refused", line)
            elif "may arrive twice" in line:
                self.note("relay", token, "in doubt", line)

    def __str__(self):
        return "\n".join("%-9s %-8s %-8s %s" % entry for entry in self.entries)


# ---- The device -------------------------------------------------------------

def word_for(reply, stage):
    """A reply in the words of the table."""
    text = reply.decode("latin-1").rstrip()
    if text[:3] != "250":
        return text[:3] + (" to " + stage if stage else "")
    if "Queued in memory" in text:
        return QUEUED
    found = re.match(r"250 2\.\S+ sent( to \d+ of \d+| *:)", text)
    if not found:
        raise AssertionError("a reply that is in no book: %r" % text)
    return SENT + found[1].rstrip(" :")


class Device(Wire):
    """One connection with one mail; each step by itself."""

    def __init__(self, ledger, port, token, text=None, rcpt=None, size=None,
                 source=None):
        super().__init__(port, source=source)
        self.socket.settimeout(LONG_S * 2)
        # A dot that waits for an acknowledgement would die with a reset.
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.ledger, self.token, self.size = ledger, token, size
        self.text = text or mail_of(token)
        self.rcpt = [(token + "@y.test").encode()] if rcpt is None else rcpt

    def commands(self):
        size = b"" if self.size is None else b" SIZE=%d" % self.size
        yield "EHLO", b"EHLO device.test", b"250"
        yield "MAIL", b"MAIL FROM:<%s@x.test>" % self.token.encode() + size, \
            b"250"
        for rcpt in self.rcpt:
            yield "RCPT", b"RCPT TO:<%s>" % rcpt, b"250"
        yield "DATA", b"DATA", b"354"

    def upload(self):
        """All but the dot. False: it was refused before."""
        try:
            greeting = self.reply()
            if greeting[:3] != b"220":
                self.note(word_for(greeting, "connect"))
                return False
            for stage, command, code in self.commands():
                reply = self.ask(command)
                if reply[:3] != code:
                    self.note(word_for(reply, stage))
                    return False
            self.send(self.text)
            return True
        except (OSError, EOFError):
            self.note(NOTHING)
            return False

    def dot(self):
        self.ledger.note("device", self.token, "sent")
        with contextlib.suppress(OSError):
            self.send(b".\r\n")

    def note(self, word):
        self.ledger.note("device", self.token, "told", word)
        return word

    def hear(self):
        """What it is told in the end."""
        try:
            word = word_for(self.reply(), "")
        except (OSError, EOFError):
            word = NOTHING
        return self.note(word)

    def quit(self):
        with contextlib.suppress(OSError, EOFError):
            self.ask(b"QUIT")
        self.socket.close()

    def die(self, by=reset):
        """Never to hear anything."""
        by(self.socket)
        self.note(NOTHING)


class DeafDevice(Device):
    """Its kernel takes no more bytes, so that it acknowledges none: its
    receive buffer is tiny, and full of replies that it does not read. It
    sends all without looking at what comes."""

    FILL = 60  # replies to EHLO are longest

    def __init__(self, ledger, port, token):
        self.ledger, self.token, self.size = ledger, token, None
        self.text, self.held = mail_of(token), b""
        self.rcpt = [(token + "@y.test").encode()]
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        self.socket.settimeout(LONG_S)
        self.socket.connect(("127.0.0.1", port))
        self.ends = "%04X" % port, "%04X" % self.socket.getsockname()[1]

    def unheard_bytes(self):
        """Of the relay's words to us: in its kernel's send queue."""
        for line in rig.read("/proc/net/tcp").splitlines()[1:]:
            words = line.split()
            if (words[1][-4:], words[2][-4:]) == self.ends:
                return int(words[4].split(":")[0], 16)
        return 0

    def upload(self):
        commands = [command for _, command, _ in self.commands()]
        self.send(b"\r\n".join(commands[:1] * self.FILL + commands) +
                  b"\r\n" + self.text)
        before = [-1, 0.0]

        def is_full():  # and nothing more comes
            count, now = self.unheard_bytes(), time.monotonic()
            if count != before[0]:
                before[:] = count, now
            return count > 0 and now > before[1] + 0.3
        wait_for(is_full, "a full receive buffer", 20)
        return True

    def wait_answer(self):
        """Until the answer to the dot was written, and not taken."""
        before = self.unheard_bytes()
        self.dot()
        wait_for(lambda: self.unheard_bytes() > before, "the answer", 20)


# ---- The smarthost ----------------------------------------------------------

ALWAYS = itertools.repeat


class Host:
    """A smarthost by script: for each stage, what it does the first time,
    the second time and so on; behind the script it behaves.

    Stages: connect, greeting, ehlo, mail, rcpt, data; body: in mid-message;
    dot: the dot came, nothing is decided; taken: the mail was taken, its 250
    is not said; said: it is. An action is a reply (bytes), which at dot is
    the decision; reset or hang_up; or a threading.Event that is waited for,
    and (event, action) what follows. delay_s is spent before each reply."""

    def __init__(self, ledger, is_listening=True, pipelining=False,
                 delay_s=0, **script):
        self.ledger, self.delay_s = ledger, delay_s
        self.pipelining = pipelining
        self.script = {stage: iter(actions if isinstance(actions, ALWAYS)
                                   else list(actions))
                       for stage, actions in script.items()}
        self.lock = threading.Lock()
        self.links, self.stages = set(), []
        self.is_over = threading.Event()
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if "body" in script:  # little is on its way that it does not read
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF,
                                     32768)
        self.listener.bind(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        if is_listening:
            self.listen()

    def listen(self):
        """Until then, whoever connects is refused."""
        self.listener.listen(64)
        threading.Thread(target=self.accept, daemon=True).start()

    def close(self):
        self.is_over.set()
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        with self.lock:
            links = list(self.links)
        for link in links:
            with contextlib.suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)

    def accept(self):
        while True:
            try:
                link, _ = self.listener.accept()
            except OSError:
                return
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.lock:
                self.links.add(link)
            threading.Thread(target=self.serve, args=(link,),
                             daemon=True).start()

    def serve(self, link):
        try:
            HostLink(self, link).run()
        except (OSError, EOFError):
            pass  # the relay hung up, or the script did
        finally:
            with self.lock:
                self.links.discard(link)
            link.close()

    def wait_stage(self, stage, count=1, seconds=30):
        """Until it was there so often."""
        wait_for(lambda: self.stages.count(stage) >= count,
                 lambda: "the smarthost at %s: %s" % (stage, self.stages),
                 seconds * FACTOR)

    def next_action(self, stage):
        with self.lock:
            self.stages.append(stage)
            return next(self.script.get(stage, iter(())), None)


class HostLink:
    """One connection to it."""

    def __init__(self, host, link):
        self.host, self.link, self.held = host, link, b""

    def act(self, stage):
        """Plays what the script has for the stage; returns the reply that it
        asks for."""
        action = self.host.next_action(stage)
        if isinstance(action, tuple):
            self.wait(action[0])
            action = action[1]
        if isinstance(action, threading.Event):
            self.wait(action)
            action = None
        if callable(action):
            action(self.link)
            raise EOFError
        return action

    def wait(self, event):
        end = time.monotonic() + 10 * LONG_S
        while not event.wait(0.05):
            if self.host.is_over.is_set() or time.monotonic() > end:
                raise EOFError

    def say(self, reply):
        time.sleep(self.host.delay_s)
        self.link.sendall(reply + b"\r\n")
        if reply[:3] == b"421":
            raise EOFError

    def step(self, stage, usual):
        self.say(self.act(stage) or usual)

    def line(self):
        while b"\n" not in self.held:
            more = self.link.recv(65536)
            if not more:
                raise EOFError
            self.held += more
        line, self.held = self.held.split(b"\n", 1)
        return line.rstrip(b"\r")

    def body(self):
        parts = bytearray(self.held)
        while not (parts.endswith(b"\r\n.\r\n") or parts == b".\r\n"):
            more = self.link.recv(65536)
            if not more:
                raise EOFError
            parts += more
        self.held = b""
        return bytes(parts[:-3])

    def run(self):
        self.act("connect")
        self.step("greeting", b"220 smarthost.test ESMTP")
        while True:
            verb = self.line()[:4].upper()
            if verb == b"EHLO":
                self.step("ehlo", b"250-smarthost.test\r\n250-8BITMIME\r\n" +
                          b"250-PIPELINING\r\n" * self.host.pipelining +
                          b"250 ENHANCEDSTATUSCODES")
            elif verb == b"MAIL":
                self.accepted = 0
                self.step("mail", b"250 2.1.0 Ok")
            elif verb == b"RCPT":
                reply = self.act("rcpt") or b"250 2.1.5 Ok"
                self.accepted += reply[:1] == b"2"
                self.say(reply)
            elif verb == b"DATA":
                self.take()
            elif verb == b"QUIT":
                self.step("quit", b"221 2.0.0 Bye")
                return
            else:
                self.say(b"250 2.0.0 Ok")

    def take(self):
        usual = b"354 Go" if self.accepted else b"554 5.5.1 No recipients"
        reply = self.act("data") or usual
        self.say(reply)
        if reply[:3] != b"354":
            return
        self.act("body")
        text = self.body()
        token = token_in(text[:4096].decode("latin-1"))
        reply = self.act("dot") or b"250 2.6.0 Taken as 4711"
        if reply[:1] != b"2":
            self.host.ledger.note("smarthost", token, "denied", reply.decode())
            self.say(reply)
            return
        self.host.ledger.note("smarthost", token, "took")
        self.act("taken")
        self.say(reply)
        self.host.ledger.note("smarthost", token, "said", reply.decode())
        after = self.act("said")
        if after:
            self.say(after)


# ---- The relay --------------------------------------------------------------

# Below those that the kernel gives to outgoing connections: else one of them
# takes the port of a relay that is just being started again.
PORTS = itertools.cycle(random.sample(range(10000, 32768), 20000))


def own_port():
    for port in PORTS:
        with socket.socket() as s, contextlib.suppress(OSError):
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind(("127.0.0.1", port))
            return port


class Relay(Lanpost):
    """lanpost towards a scripted smarthost, and what a cell asks of it."""

    def __init__(self, host, mode, window_s=LONG_S, **more):
        port = own_port()
        super().__init__(**{
            "listen": "127.0.0.1:%d" % port,
            "smarthost": "localhost:%d" % host.port, "smarthost_tls": "none",
            "smarthost_family": "ipv4", "retry_first_seconds": RETRY_S,
            "retry_max_seconds": RETRY_S, "clients_per_address": 64,
            "ack_wait_seconds": window_s, **dict(mode.settings),
            **more})
        self.port = port

    def restart(self):
        """Behind a crash: the same settings, the log goes on."""
        self.process.wait()
        count = len(self.lines(" listening "))
        with open(self.log_path, "ab") as log:
            self.process = kill_at_exit(subprocess.Popen(
                [*rig.command(), "-c", self.file], stdout=log, stderr=log,
                stdin=subprocess.DEVNULL))
        self.wait_log(" listening ", count=count + 1)

    def queue_length(self):
        """SIGUSR1, and what the log says then."""
        before = len(self.lines(" queue messages="))
        self.process.send_signal(signal.SIGUSR1)
        line = self.wait_log(" queue messages=", 20 * FACTOR, before + 1)[-1]
        return int(re.search(r"messages=(\d+)", line)[1])

    def wait_empty(self, seconds=60):
        """Until no mail is left in it: no later delivery can come."""
        end = time.monotonic() + seconds * FACTOR
        while self.queue_length() > 0:
            if time.monotonic() > end:
                raise AssertionError("the queue does not empty:\n" +
                                     self.log())
            time.sleep(0.2)


# ---- A cell of the table ----------------------------------------------------

class Cell:
    """A row in one mode; use it with `with`. The row's function plays, and
    says with may_double and copies what it allows beyond the law."""

    def __init__(self, row, mode):
        self.row, self.mode = row, mode
        self.ledger = Ledger()
        self.stack = contextlib.ExitStack()
        self.host = self.relay = None
        self.may_double = ""  # or why: IN_DOUBT, SENT_AGAIN
        self.copies = {}  # mails that are more than one, of the same bytes
        self.crashes = 0
        self.words = {}  # of the table, where they are not what was seen

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is not None:
            print("\n---- %s / %s\n%s" % (self.row, self.mode.name,
                                          self.ledger))
            if self.relay:
                with contextlib.suppress(OSError):
                    print(self.relay.log())
        if self.host:
            self.host.close()
        self.stack.close()
        if self.relay:
            self.relay.kill()

    @property
    def holds(self):
        return self.mode is not NO_HOLD

    def start(self, window_s=LONG_S, settings=(), **script):
        """The smarthost and the relay."""
        self.host = Host(self.ledger, **script)
        self.relay = Relay(self.host, self.mode, window_s, **dict(settings))

    def device(self, token="a", kind=Device, **more):
        device = kind(self.ledger, self.relay.port, token, **more)
        self.stack.callback(device.socket.close)
        return device

    def begin(self, token="a", **more):
        """A device that has sent its mail and waits, unless it was refused
        before; None then."""
        device = self.device(token, **more)
        if not device.upload():
            device.quit()
            return None
        device.dot()
        return device

    def send(self, token="a", **more):
        """A device from begin to end; what it was told."""
        device = self.begin(token, **more)
        if device is None:
            return self.ledger.told(token)[-1]
        word = device.hear()
        device.quit()
        return word

    def send_until_told(self, token, word, seconds=30, **more):
        """As a device that tries again does."""
        end = time.monotonic() + seconds * FACTOR
        while self.send(token, **more) != word:
            if time.monotonic() > end:
                raise AssertionError("never told %r" % word)
            time.sleep(0.3)

    def finish(self):
        """Until the relay has nothing left to do, and ends as it must."""
        if self.relay.process.poll() is None:
            self.relay.wait_empty()
            status = self.relay.stop()
        else:
            status = self.relay.process.returncode
        log = self.relay.log()
        rig.check_no_complaint(log, status)
        last = log[log.rfind(" listening "):]  # its latest life
        lost = len(set(re.findall(r" id=(\w+) lost ", last)))
        if status != (75 if lost else 0):
            raise AssertionError("status %d, with %d lost" % (status, lost))
        self.ledger.read_log(log)
        self.check()

    # The law. What was told "queued" may go in a crash, and nothing else.
    def check(self):
        for token in self.ledger.tokens():
            self.check_mail(token)

    def check_mail(self, token):
        book = self.ledger
        told, copies = book.told(token), self.copies.get(token, 1)
        acknowledged = book.acknowledged(token)
        if self.crashes:
            acknowledged = [word for word in acknowledged if word != QUEUED]
        owed = min(len(acknowledged), copies)
        if book.delivered(token) + book.declared(token) < owed:
            raise AssertionError("%s: told %s, and it is gone" % (token, told))
        sent = [word for word in told if word.startswith(SENT)]
        if book.delivered(token) < min(len(sent), copies):
            raise AssertionError("%s: told %s, not delivered" % (token, told))
        most = copies + bool(self.may_double)
        if self.crashes:  # a device may send again what was on its way
            most = max(most, len(told))
        if book.delivered(token) > most:
            raise AssertionError("%s: arrived %d times" % (
                token, book.delivered(token)))
        if book.delivered(token) > copies and self.may_double == IN_DOUBT \
                and not book.words(token, ("relay", "in doubt")):
            raise AssertionError("%s: twice, and nobody was warned" % token)
        last = told[-1] if told else NOTHING
        if last[0] in "45" and book.delivered(token) and not self.may_double:
            raise AssertionError("%s: told %s, and delivered" % (token, told))

    def told(self):
        """For the table: of each device in turn, then of each mail."""
        if "told" in self.words:
            return self.words["told"]
        words = [word for who, _, what, word in self.ledger.entries
                 if (who, what) == ("device", "told")]
        return "told " + ", then ".join(key for key, _ in
                                        itertools.groupby(words))

    def arrives(self):
        """How often each mail did."""
        if "arrives" in self.words:
            return self.words["arrives"]
        names = {0: "never", 1: "once", 2: "twice"}
        counts = [self.ledger.delivered(token) / self.copies.get(token, 1)
                  for token in self.ledger.tokens()
                  if self.ledger.told(token)]
        return ", ".join(names[count] for count in dict.fromkeys(counts))

    def lost(self):
        if "lost" in self.words:
            return self.words["lost"]
        for token in self.ledger.tokens():
            is_ours = self.ledger.acknowledged(token) or \
                self.ledger.words(token, ("relay", "lost"))
            if is_ours and not self.ledger.delivered(token):
                return "declared"
        return "no"

    def twice(self):
        if "twice" in self.words:
            return self.words["twice"]
        is_double = any(self.ledger.delivered(token) >
                        self.copies.get(token, 1)
                        for token in self.ledger.tokens())
        return "yes, %s" % self.may_double if is_double else "no"
