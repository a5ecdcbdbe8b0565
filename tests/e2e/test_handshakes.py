"""TLS with devices under stress: a storm of handshakes, slow and broken ones,
no memory in the middle of one, faults on a session that is up. Figures are
printed.
"""
import collections
import mmap
import multiprocessing
import os
import re
import socket
import ssl
import struct
import subprocess
import tempfile
import threading
import time
import unittest

from rig import (SLOW, TEXT, Lanpost, Smarthost, Wire, is_sanitized, read,
                 tool, wait_for)

DOWN = "localhost:1"  # a smarthost that nobody is
IS_TIMED = SLOW == 1 and not is_sanitized()
FORK = multiprocessing.get_context("fork")
SLOW_SECONDS = 30  # a handshake may take

CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
CONTEXT.check_hostname, CONTEXT.verify_mode = False, ssl.CERT_NONE

# calloc() as the test wants it: the countdown lies in a shared file.
FAILER = r"""
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
extern void *__libc_calloc(size_t, size_t);
static volatile int *left;
__attribute__((constructor)) static void start(void)
{
    int fd = open(getenv("COUNTDOWN"), O_RDWR);
    left = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
}
void *calloc(size_t count, size_t size)
{
    if (left && left != MAP_FAILED && *left > 0 && --*left == 0)
        return NULL;
    return __libc_calloc(count, size);
}
"""


class Tls(Wire):
    """A raw connection with TLS: at once, or behind STARTTLS. what goes on
    the wire below can be written to, too."""

    def __init__(self, port, is_starttls=False, source=None):
        super().__init__(port, source=source)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if is_starttls:
            self.reply()
            self.ask(b"EHLO device.test")
            if self.ask(b"STARTTLS")[:3] != b"220":
                raise AssertionError("no TLS")
        self.below = socket.socket(fileno=os.dup(self.socket.fileno()))
        self.socket = CONTEXT.wrap_socket(self.socket)
        self.socket.settimeout(10 * SLOW)

    def __exit__(self, *_):
        self.below.close()
        self.socket.close()


def footprint(pid):
    """KiB of resident memory, open files."""
    rss = int(re.search(r"VmRSS:\s+(\d+)", read("/proc/%d/status" % pid))[1])
    return rss, len(os.listdir("/proc/%d/fd" % pid))


def cpu_seconds(pid):
    return time.clock_gettime(~pid << 3 | 2)  # clock_getcpuclockid


def shake_hands(port, source, outcomes, end):
    """STARTTLS until it is had; what came of each try."""
    while time.monotonic() < end:
        last = b""
        try:
            with Wire(port, source=source) as wire:
                for line in (None, b"EHLO x", b"STARTTLS"):
                    last = wire.ask(line) if line else wire.reply()
                    if last[:3] in (b"421", b"454"):
                        break
                if last[:3] == b"220":
                    with CONTEXT.wrap_socket(wire.socket) as tls:
                        tls.sendall(b"EHLO x\r\nQUIT\r\n")
                        said = b""
                        while more := tls.recv(4096):
                            said += more
                    if said[:3] == b"421":  # it idled too long, and gave way
                        outcomes.append("421")
                        continue
                    is_good = b"\r\n221 2.0.0" in said
                    outcomes.append("done" if is_good else repr(said))
                    return
                outcomes.append(last[:3].decode())
        except OSError as error:
            outcomes.append("%s after %r" % (error, last))
        except EOFError:
            outcomes.append("hung up after %r" % last)
        time.sleep(0.05)
    outcomes.append("gave up")


def crowd(port, sources, seconds, found):
    outcomes = []
    end = time.monotonic() + seconds
    threads = [threading.Thread(target=shake_hands, daemon=True,
                                args=(port, source, outcomes, end))
               for source in sources]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found.put(outcomes)


class Storm(unittest.TestCase):
    COUNT = 200

    def storm(self, relay, wire):
        """What came of it, how long it took, and the times between replies
        to a session that was there before."""
        queue = FORK.Queue()
        sources = ["127.0.%d.%d" % (2 + n // 100, 1 + n % 100)
                   for n in range(self.COUNT)]
        processes = [FORK.Process(target=crowd, daemon=True, args=(
            relay.port, sources[n::2], 30 * SLOW, queue)) for n in range(2)]
        began = before = time.monotonic()
        for process in processes:
            process.start()
        gaps, outcomes, ended = [], collections.Counter(), 0
        while ended < 2:
            # NOOPs would be counted, recipients beyond the limit are not.
            self.assertEqual(wire.ask(b"RCPT TO:<b@y.test>")[:3], b"452")
            now = time.monotonic()
            gaps.append(now - before)
            before = now
            time.sleep(0.001)
            while not queue.empty():
                outcomes.update(queue.get())
                ended += 1
        for process in processes:
            process.join()
        return outcomes, time.monotonic() - began, gaps

    def test_storm(self):
        with Lanpost(smarthost=DOWN) as relay, Wire(relay.port) as wire:
            wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            wire.reply()
            wire.ask(b"EHLO x")
            wire.ask(b"MAIL FROM:<a@x.test>")
            for _ in range(100):
                wire.ask(b"RCPT TO:<b@y.test>")
            self.storm(relay, wire)  # everything is warm now
            before = footprint(relay.pid)
            outcomes, took, gaps = self.storm(relay, wire)
            wait_for(lambda: footprint(relay.pid)[1] <= before[1],
                     "an end to all connections")
            after = footprint(relay.pid)
            print("\n%d handshakes in %.1f s: %s; an old session's replies: "
                  "p99 %.0f ms, max %.0f ms; RSS %d -> %d KiB, fds %d -> %d" %
                  (self.COUNT, took, dict(outcomes),
                   sorted(gaps)[int(len(gaps) * 0.99)] * 1000,
                   max(gaps) * 1000, before[0], after[0], before[1],
                   after[1]))
            self.assertEqual(outcomes["done"], self.COUNT, outcomes)
            self.assertLessEqual(set(outcomes), {"done", "421", "454"})
            if IS_TIMED:
                self.assertLess(max(gaps), 1)
            if not is_sanitized():  # it keeps what was freed for a while
                self.assertLess(after[0] - before[0], 512)


class TooSlow(unittest.TestCase):
    """Each has half a minute, however it spends it; others are served
    meanwhile. They run while the other tests do."""

    @classmethod
    def begin(cls):
        cls.relay = unittest.enterModuleContext(
            Lanpost(smarthost=DOWN, tls=True))
        cls.before = footprint(cls.relay.pid)[1]
        cls.took = {}
        cls.threads = [threading.Thread(target=cls.live, args=(how,),
                                        daemon=True)
                       for how in ("silent", "drip", "starttls", "half")]
        for thread in cls.threads:
            thread.start()

    @classmethod
    def live(cls, how):
        relay = cls.relay
        is_plain = how == "starttls"
        with Wire(relay.port if is_plain else relay.tls_port) as wire:
            wire.socket.settimeout(1)
            hello = hello_bytes()
            if is_plain:
                wire.reply()
                wire.ask(b"EHLO x")
                wire.ask(b"STARTTLS")
            elif how == "half":
                wire.send(hello[:-7])
            began = time.monotonic()
            said = None
            while said is None and time.monotonic() - began < 60 * SLOW:
                try:
                    if how == "drip":
                        wire.send(hello[:1])
                        hello = hello[1:]
                    said = wire.socket.recv(100)
                except TimeoutError:
                    pass
                except OSError as error:
                    said = repr(error).encode()
            cls.took[how] = time.monotonic() - began, said

    def test_slow(self):
        for thread in self.threads:
            thread.join(70 * SLOW)
        print("\nslow handshakes ended after", {
            how: "%.0f s" % took for how, (took, _) in self.took.items()})
        self.assertEqual(len(self.took), 4)
        for how, (took, said) in self.took.items():
            with self.subTest(how):
                self.assertGreater(took, SLOW_SECONDS - 2)
                self.assertLess(took, SLOW_SECONDS + 5 * SLOW)
                self.assertNotIn(b"421", said)  # in clear, amid TLS
        lines = self.relay.wait_log("its TLS handshake took too long", count=4)
        self.assertEqual(len(lines), 4)
        wait_for(lambda: footprint(self.relay.pid)[1] == self.before,
                 "an end to the connections")


def hello_bytes():
    """A whole ClientHello, as a record."""
    outgoing = ssl.MemoryBIO()
    tls = CONTEXT.wrap_bio(ssl.MemoryBIO(), outgoing)
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def record(kind, payload, length=None):
    return struct.pack("!BHH", kind, 0x0303, len(payload) if length is None
                       else length) + payload


def setUpModule():
    TooSlow.begin()


class Faults(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.host = cls.enterClassContext(Smarthost())
        cls.relay = cls.enterClassContext(Lanpost(
            smarthost="localhost:%d" % cls.host.port, tls=True))

        cls.descriptors = footprint(cls.relay.pid)[1]

    def setUp(self):
        self.all_are_gone()
        self.ledger = len(self.host.ledger())

    def all_are_gone(self):
        """But for connections to the smarthost."""
        wait_for(lambda: footprint(self.relay.pid)[1] <= self.descriptors + 2,
                 "an end to all connections")

    def is_well(self, mails=0):
        """The next mail passes, and nothing but that has arrived."""
        with Tls(self.relay.tls_port) as wire:
            wire.open_mail()
            wire.ask(b"DATA")
            self.assertEqual(wire.ask(TEXT + b".")[:3], b"250")
            wire.ask(b"QUIT")
        self.host.wait_ledger(self.ledger + mails + 1)
        self.assertEqual(len(self.host.ledger()), self.ledger + mails + 1)

    @staticmethod
    def say_goodbye(wire):
        try:
            wire.socket.unwrap()
        except ssl.SSLError:
            pass  # no goodbye came back; ours was said

    def test_truncated_in_data(self):
        """With and without a goodbye, and in the middle of a record: what is
        not whole is not taken."""
        def cut(wire):
            wire.below.shutdown(socket.SHUT_RDWR)

        def say_goodbye(wire):
            self.say_goodbye(wire)

        def cut_record(wire):
            wire.below.send(record(0x17, b"x" * 20, 200))
            cut(wire)

        def reset(wire):
            wire.below.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                  struct.pack("ii", 1, 0))
        count = len(self.relay.lines("hung up in DATA, after"))
        for end in cut, say_goodbye, cut_record, reset:
            for words in (TEXT, TEXT + b".", TEXT + b".\r"):
                with self.subTest(end.__name__, words=words), \
                        Tls(self.relay.tls_port) as wire:
                    wire.open_mail()
                    wire.ask(b"DATA")
                    wire.send(words)
                    end(wire)
                count += 1
                line = self.relay.wait_log("hung up in DATA, after",
                                           count=count)[-1]
                self.assertIn("after %d bytes" % len(words), line)
        self.is_well()

    def test_goodbye_behind_the_dot(self):
        """The mail was whole: it is taken, read or not."""
        with Tls(self.relay.tls_port) as wire:
            wire.open_mail()
            wire.ask(b"DATA")
            wire.send(TEXT + b".\r\n")
            self.say_goodbye(wire)
        with Tls(self.relay.tls_port) as wire:
            wire.open_mail()
            wire.ask(b"DATA")
            # Other words: the same would join the mail before, since nobody
            # heard its answer.
            wire.send(TEXT + b"again\r\n.\r\n")
            wire.below.shutdown(socket.SHUT_WR)
        self.is_well(2)

    def test_renegotiation_is_refused(self):
        with subprocess.Popen(
                [tool("openssl"), "s_client", "-tls1_2", "-connect",
                 "127.0.0.1:%d" % self.relay.tls_port, "-crlf"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT) as process:
            os.set_blocking(process.stdout.fileno(), False)
            said = b""

            def hears(word):
                nonlocal said
                said += process.stdout.read() or b""
                return word in said
            wait_for(lambda: hears(b"220 relay.test"), "the banner")
            process.stdin.write(b"R\n")
            process.stdin.flush()
            wait_for(lambda: hears(b"RENEGOTIATING"), "R")
            try:
                process.wait(5 * SLOW)
                hears(b"")
            except subprocess.TimeoutExpired:
                process.kill()
        self.assertIn(b"no renegotiation", said.lower())
        self.is_well()

    def test_key_update(self):
        """TLS 1.3 alone has it; where the library speaks it, it is obeyed."""
        with Tls(self.relay.tls_port) as wire:
            version = wire.socket.version()
        if version == "TLSv1.3":
            done = subprocess.run(
                [tool("openssl"), "s_client", "-connect", "127.0.0.1:%d" %
                 self.relay.tls_port], input=b"K\nK\nk\nQUIT\n",
                stdout=subprocess.PIPE, timeout=30 * SLOW, check=False)
            self.assertIn(b"221 2.0.0", done.stdout)
        else:
            self.assertEqual(version, "TLSv1.2")
        self.is_well()

    def closes(self, wire, words, seconds=5):
        """It hangs up on these bytes below TLS, without a long thought."""
        work = cpu_seconds(self.relay.pid)
        try:
            wire.below.sendall(words)
        except OSError:
            return
        end = time.monotonic() + seconds * SLOW
        wire.below.settimeout(seconds * SLOW)
        try:
            while wire.below.recv(65536):
                self.assertLess(time.monotonic(), end, "it goes on")
        except ConnectionResetError:
            pass
        self.assertLess(cpu_seconds(self.relay.pid) - work, SLOW)

    RECORDS = {
        "oversized": record(0x17, b"x" * 100, 0xffff),
        "a little too large": record(0x17, b"x" * 17000, 16384 + 2049),
        "bad MAC": record(0x17, b"x" * 64),
        "too short": record(0x17, b"x"), "empty": record(0x17, b""),
        "ChangeCipherSpec": record(0x14, b"\1") * 40,
        "unknown kind": record(0x63, b"x" * 40),
        "another version": struct.pack("!BHH", 0x17, 0x0505, 40) + b"x" * 40,
        "in clear": b"MAIL FROM:<a@x.test>\r\n" * 3,
        "alert in clear": record(0x15, b"\2\x28"),
    }

    def test_broken_records(self):
        """On a session that is up."""
        for name, words in self.RECORDS.items():
            with self.subTest(name), Tls(self.relay.tls_port) as wire:
                wire.reply()
                self.closes(wire, words)
        self.is_well()

    def test_broken_handshakes(self):
        hello = hello_bytes()
        count = len(self.relay.lines(" refused why="))
        cases = {
            "oversized": record(0x16, b"\1" * 100, 0xffff),
            "no hello": record(0x16, b"\x0b" + b"\0" * 60),
            "empty records": record(0x16, b"") * 1000,
            "alerts": record(0x15, b"\1\x64") * 5000 + record(0x15, b"\2\0"),
            "length lies": hello[:5] + b"\1\xff\xff\xff" + hello[9:],
            "garbage behind": hello + b"x" * 100,
            "hello twice": hello + hello,
            "in clear": b"EHLO device.test\r\n",
            "HTTP": b"GET / HTTP/1.1\r\n\r\n", "zeros": b"\0" * 100,
            "SSLv2": b"\x80\x2e\1\0\2" + b"\0" * 60,
        }
        for name, words in cases.items():
            with self.subTest(name), Wire(self.relay.tls_port) as wire:
                wire.below = wire.socket
                self.closes(wire, words)
        lines = self.relay.wait_log(" refused why=", count=count + len(cases))
        self.assertEqual(len(lines), count + len(cases))
        for line in lines[count:]:
            self.assertIn("TLS", line)
        self.is_well()

    def test_cut_at_every_byte(self):
        """Of the hello. Then all is as before."""
        hello = hello_bytes()
        before = len(self.relay.lines(" refused why="))
        for count, length in enumerate(range(0, len(hello), 7), before + 1):
            with Wire(self.relay.tls_port) as wire:
                wire.send(hello[:length])
            self.relay.wait_log(" refused why=", count=count)
        self.all_are_gone()
        self.is_well()

    def test_device_that_does_not_read(self):
        """Our replies pile up, are sent in parts, and all come, in order."""
        count = 8000
        with Tls(self.relay.tls_port) as wire:
            wire.below.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            wire.open_mail()
            writer = threading.Thread(target=wire.send, args=(
                b"RCPT TO:<b@y>\r\n" * count,))
            writer.start()
            time.sleep(1)
            work = cpu_seconds(self.relay.pid)
            time.sleep(0.5)
            work = cpu_seconds(self.relay.pid) - work
            self.assertLess(work, 0.1 * SLOW, "it spins")
            wire.below.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            codes = [wire.reply()[:3] for _ in range(count)]
            writer.join()
            self.assertEqual(codes[:99], [b"250"] * 99)
            self.assertEqual(set(codes[99:]), {b"452"})
            self.assertEqual(wire.ask(b"QUIT")[:3], b"221")
        self.is_well()

    def test_a_byte_a_record(self):
        with Tls(self.relay.port, is_starttls=True) as wire:
            words = (b"EHLO d\r\nMAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\nDATA\r\n" +
                     TEXT + b".\r\nQUIT\r\n")
            for byte in words:
                wire.send(bytes([byte]))
            said = wire.rest()
        self.assertEqual(re.findall(rb"(?m)^(\d+) ", said),
                         [b"250", b"250", b"250", b"354", b"250", b"221"])
        self.is_well(1)


class StartTls(unittest.TestCase):
    """A13: nothing of before is left behind it, and nothing slips in."""

    @classmethod
    def setUpClass(cls):
        cls.relay = cls.enterClassContext(Lanpost(
            smarthost=DOWN, users={"nas": "secret"}))

    def test_pipelined(self):
        """CVE-2011-0411: never executed, in clear nor under TLS."""
        before = len(self.relay.lines("it sent commands behind STARTTLS"))
        for more in (b"EHLO evil\r\n", b"MAIL FROM:<evil@x>\r\n", b"E", b"\n",
                     b"RSET\r\n" * 100, b"\x16\x03\x01"):
            with self.subTest(more), Wire(self.relay.port) as wire:
                wire.reply()
                wire.ask(b"EHLO x")
                wire.send(b"STARTTLS\r\n" + more)
                self.assertRegex(wire.rest(), rb"\A501 5\.5\.1 [^\n]*\n\Z")
        lines = self.relay.lines("it sent commands behind STARTTLS")
        self.assertEqual(len(lines), before + 6)

    def test_hello_behind_it(self):
        """A client that does not wait for our 220: nobody can tell its hello
        from an attack."""
        with Wire(self.relay.port) as wire:
            wire.reply()
            wire.ask(b"EHLO x")
            wire.send(b"STARTTLS\r\n" + hello_bytes())
            self.assertEqual(wire.rest()[:4], b"501 ")

    def test_all_is_forgotten(self):
        with Wire(self.relay.port) as wire:
            wire.reply()
            wire.ask(b"EHLO x")
            self.assertEqual(wire.ask(b"AUTH PLAIN AG5hcwBzZWNyZXQ=")[:3],
                             b"235")
            wire.ask(b"MAIL FROM:<a@x.test>")
            wire.ask(b"RCPT TO:<b@y.test>")
            self.assertEqual(wire.ask(b"STARTTLS")[:3], b"220")
            wire.socket = CONTEXT.wrap_socket(wire.socket)
            self.assertEqual(wire.ask(b"DATA")[:3], b"503")
            self.assertEqual(wire.ask(b"RCPT TO:<c@y.test>")[:3], b"503")
            self.assertEqual(wire.ask(b"MAIL FROM:<a@x.test>")[:3], b"503")
            wire.ask(b"EHLO x")
            self.assertEqual(wire.ask(b"STARTTLS")[:9], b"503 5.5.1")
            self.assertEqual(wire.ask(b"STARTTLS x")[:3], b"503")
            # The login, too.
            self.assertEqual(wire.ask(b"AUTH PLAIN AG5hcwBzZWNyZXQ=")[:3],
                             b"235")
            self.assertEqual(wire.ask(b"AUTH PLAIN AG5hcwBzZWNyZXQ=")[:3],
                             b"503")

    def test_then_in_clear(self):
        with Wire(self.relay.port) as wire:
            wire.reply()
            wire.ask(b"EHLO x")
            self.assertEqual(wire.ask(b"STARTTLS now")[:3], b"501")
            wire.ask(b"STARTTLS")
            wire.send(b"MAIL FROM:<a@x.test>\r\nRCPT TO:<b@y.test>\r\n")
            self.assertNotIn(b"250", wire.rest())
        self.relay.wait_log("it answered in clear where TLS was due")

    def test_slots_are_taken(self):
        """The 17th is told so, in clear, and may send in clear."""
        wires = []
        self.addCleanup(lambda: [wire.__exit__() for wire in wires])
        reply = b"220"
        while reply[:3] == b"220" and len(wires) < 40:
            wires.append(Wire(self.relay.port,
                              source="127.0.0.%d" % (30 + len(wires))))
            wires[-1].reply()
            wires[-1].ask(b"EHLO x")
            reply = wires[-1].ask(b"STARTTLS")
        self.assertEqual(len(wires), 17)
        self.assertEqual(reply[:9], b"454 4.7.0")
        self.relay.wait_log("all TLS sessions are taken")
        wires[-1].send(b"EHLO x\r\n")
        self.assertEqual(wires[-1].reply()[:3], b"250")
        self.assertEqual(wires[-1].ask(b"MAIL FROM:<a@x.test>")[:3], b"250")
        wires.pop(0).__exit__()
        wait_for(lambda: "TLS" in str(self.again(wires[-1])), "a free slot")

    def again(self, wire):
        reply = wire.ask(b"STARTTLS")
        return "TLS" if reply[:3] == b"220" else None


@unittest.skipIf(is_sanitized(), "the sanitizer has an allocator of its own")
class NoMemory(unittest.TestCase):
    """C13: the n-th allocation of a handshake fails. It ends, the relay does
    not, and the next one is as good as ever."""

    def test_every_allocation(self):
        directory = self.enterContext(tempfile.TemporaryDirectory())
        source, library, countdown = (
            os.path.join(directory, name)
            for name in ("failer.c", "failer.so", "countdown"))
        with open(source, "w", encoding="ascii") as file:
            file.write(FAILER)
        with open(countdown, "wb") as file:
            file.write(b"\0" * 4096)
        subprocess.run([os.environ.get("CC", "cc"), "-shared", "-fPIC", "-o",
                        library, source], check=True)
        with open(countdown, "r+b") as file, \
                mmap.mmap(file.fileno(), 4096) as left, \
                Lanpost(smarthost=DOWN, tls=True, env={
                    "LD_PRELOAD": library, "COUNTDOWN": countdown}) as relay:
            failed, number = 0, 1
            while number < 100000:
                left[:4] = struct.pack("i", number)
                is_up = self.shakes_hands(relay)
                is_spent = struct.unpack("i", left[:4])[0] == 0
                left[:4] = b"\0\0\0\0"
                self.assertTrue(is_up or is_spent, number)
                failed += not is_up
                if not is_spent:
                    break
                self.assertTrue(self.shakes_hands(relay), number)
                number += 1 if number < 60 else number // 12
            print("\n%d handshakes without memory, in up to %d allocations" %
                  (failed, number))
            self.assertGreater(failed, 20)
            self.assertLess(number, 100000)
            self.assertEqual(relay.stop(), 0)

    def shakes_hands(self, relay):
        try:
            with Tls(relay.tls_port) as wire:
                wire.reply()
                return wire.ask(b"EHLO x")[:3] == b"250"
        except (OSError, EOFError):
            return False


if __name__ == "__main__":
    unittest.main()
