"""SMTP smuggling (CVE-2023-51764): one message in is one message out.

Every line end that some server takes for one, before and behind the dot, goes
in; the smarthost is a recorder that keeps the bytes of the wire as they are,
so that nothing is judged by the eyes of a server. What must come of the bytes
is worked out here a second time, with regular expressions.
"""
import itertools
import re
import socket
import threading
import time
import unittest

from rig import SLOW, Lanpost, Wire, wait_for

ENDS = (b"\r\n", b"\n", b"\r", b"\r\r", b"\n\r", b"\r\r\n", b"\n\n",
        b"\r\n\n", b"\r\n\r", b"\r\0\n", b"\0\r\n", b"\r\n\0", b"\n\0",
        b"\0\n", b"\r\0", b"\x0b", b"\x0c\r\n", b"\x85", b"\xe2\x80\xa8")
DOTS = (b".", b"..", b"\0.", b".\0", b". ", b" .")
TRUE_END = b"\r\n.\r\n"
# 19 * 6 * 19, but for those that do end the data: CR CR LF . CR LF does.
SEQUENCES = [
    text for text in (before + dot + behind for before, dot, behind
                      in itertools.product(ENDS, DOTS, ENDS))
    if TRUE_END not in text]
FEW = [text for text in (before + b"." + behind for before, behind
                         in itertools.product(ENDS[:12], ENDS[:12]))
       if TRUE_END not in text]

HEAD = (b"Date: Sun, 22 Nov 2026 10:00:00 +0000\r\nFrom: <a@x.test>\r\n"
        b"Message-ID: <1@x.test>\r\nMIME-Version: 1.0\r\n")
# What a smuggler puts behind his dot.
SMUGGLED = (b"MAIL FROM:<evil@x.test>\r\nRCPT TO:<victim@y.test>\r\n"
            b"DATA\r\nSubject: smuggled\r\n\r\nsmuggled\r\n")
ENVELOPE = b"MAIL FROM:<a@x.test>\r\nRCPT TO:<b@y.test>\r\nDATA\r\n"


def is_clean(payload):
    """What follows DATA on the wire: CRLF alone ends lines, and the one line
    that is a dot is the last. By whatever ends one, there is no other."""
    return (payload.endswith(b"\n.\r\n") and b"\0" not in payload and
            re.search(rb"(?<!\r)\n|\r(?!\n)", payload) is None and
            len(re.findall(rb"[\r\n]\.[\r\n]", payload)) == 1)


def unstuffed(payload):
    return re.sub(rb"(?m)^\.", b"", payload[:-3])


def normal(text):
    """The message that the bytes before the final dot mean."""
    text += b"\r\n"
    # A leading dot is stuffing where a client may have stuffed: behind CRLF,
    # unless it is all of a line that ends bare; and the first of two behind
    # what the client takes for a line end.
    text = re.sub(rb"((?<=\r\n)|\A)\.(?!\n|\r(?!\n))|"
                  rb"(?<=[\r\n])(?<!\r\n)\.(?=\.)", b"", text)
    text = re.sub(rb"\r\n|\r|\n", b"\n", text)
    return text.replace(b"\0", b"").replace(b"\n", b"\r\n")


def broken(line):
    """Base64 beyond 998 bytes is broken behind 996, as often as need be."""
    if re.match(rb"[A-Za-z0-9+/=]{999}", line):
        return line[:996] + b"\r\n" + broken(line[996:])
    return line


class Recorder(threading.Thread):
    """A smarthost that keeps all that comes between DATA and our next word,
    as bytes. Use it with `with`."""

    def __init__(self):
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.payloads, self.senders = [], []
        self.faults = []

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
            client.settimeout(60 * SLOW)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with client:
                try:
                    self.serve(client)
                except OSError:
                    pass

    def serve(self, client):
        client.sendall(b"220 me\r\n")
        while line := client.recv(4096):
            # It was not told of PIPELINING: a command comes alone.
            if line.count(b"\n") != 1 or not line.endswith(b"\r\n"):
                self.faults.append(line)
            if line == b"DATA\r\n":
                client.sendall(b"354 go\r\n")
                self.payloads.append(self.payload(client))
            elif line[:4] == b"MAIL":
                self.senders.append(line)
            client.sendall(b"250 SIZE\r\n" if line[:4] == b"EHLO" else
                           b"250 ok\r\n")
            if line == b"QUIT\r\n":
                return

    def payload(self, client):
        data = b""
        while not data.endswith(TRUE_END):
            more = client.recv(65536)
            if not more:
                self.faults.append(data)
                break
            data += more
        return data


class Smuggling(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.host = Recorder()
        cls.enterClassContext(cls.host)
        cls.relay = cls.enterClassContext(Lanpost(
            smarthost="127.0.0.1:%d" % cls.host.port, smarthost_tls="none",
            connections_max=1))

    def setUp(self):
        self.all_arrived()
        self.before = len(self.host.payloads)
        self.faults = len(self.host.faults)
        self.wanted = {}  # number: body
        self.wire = Wire(self.relay.port)
        self.addCleanup(self.wire.__exit__)
        self.wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.wire.reply()
        self.wire.ask(b"EHLO device.test")

    def all_arrived(self):
        """The queue has room for 2,048, and is empty between two tests."""
        wait_for(lambda: len(self.relay.lines(" accepted ")) <=
                 len(self.host.payloads), "an empty queue", 30)

    def data(self):
        self.wire.send(ENVELOPE)
        replies = [self.wire.reply()[:3] for _ in range(3)]
        self.assertEqual(replies, [b"250", b"250", b"354"])

    def accepted(self, text):
        reply = self.wire.reply()
        self.assertEqual(reply[:3], b"250", text)
        self.assertIn(b" as ", reply, text)

    def mail(self, text, want=None):
        """With a head of its own, to be looked for by its number."""
        number = b"%d" % len(self.wanted)
        self.wanted[number] = normal(text) if want is None else want
        return HEAD + b"X-Number: " + number + b"\r\n\r\n" + text

    def arrived(self, count=0):
        """So many messages, and the numbered ones with their bodies; nothing
        else, in any shape. They may pass each other in the queue."""
        count += len(self.wanted)
        self.is_in_step()
        wait_for(lambda: len(self.host.payloads) - self.before >= count,
                 "%d messages at the smarthost" % count, 30)
        came = self.host.payloads[self.before:]
        self.assertEqual(len(came), count)
        for payload in came:
            self.assertTrue(is_clean(payload), payload)
            found = re.search(rb"\r\nX-Number: (\d+)\r\n\r\n", payload)
            if found:
                want = self.wanted.pop(found[1])
                self.assertEqual(unstuffed(payload)[found.end():], want)
        self.assertEqual(self.wanted, {})
        self.assertEqual(self.host.faults[self.faults:], [])
        self.assertEqual(set(self.host.senders), {b"MAIL FROM:<a@x.test>\r\n"})

    def is_in_step(self):
        """The session has no reply too many or too few."""
        self.assertEqual(self.wire.ask(b"VRFY x")[:3], b"252")

    def test_our_own_eyes(self):
        """The judge of this test sees what it must."""
        for bad in (b"a\n.\r\n.\r\n", b"a\r\n.\r\nb\r\n.\r\n", b"a\r.\r\n.\r\n",
                    b"a\r\n.\rb\r\n.\r\n", b"a\0\r\n.\r\n", b"a\rb\r\n.\r\n",
                    b"a\nb\r\n.\r\n", b"a\r\n.\r\n\r\n"):
            self.assertFalse(is_clean(bad), bad)
        self.assertTrue(is_clean(b"a\r\n..\r\n.\r\n"))
        self.assertEqual(normal(b".a\n.b\n..c\r\n.d\r..\re\0\r\n.\nf"),
                         b"a\r\n.b\r\n.c\r\nd\r\n.\r\ne\r\n.\r\nf\r\n")
        self.assertGreater(len(SEQUENCES), 1500)

    def test_in_the_body(self):
        """Each sequence, with a message behind it that must stay text, and a
        whole true one pipelined behind that."""
        for at in range(0, len(SEQUENCES), 40):
            # No more junk than a session may say.
            for sequence in SEQUENCES[at:at + 40]:
                text = b"body" + sequence + SMUGGLED + b"end"
                self.data()
                self.wire.send(self.mail(text) + TRUE_END + ENVELOPE)
                self.accepted(sequence)
                self.assertEqual([self.wire.reply()[:3] for _ in range(3)],
                                 [b"250", b"250", b"354"], sequence)
                self.wire.send(self.mail(b"second") + TRUE_END)
                self.accepted(sequence)
            self.all_arrived()
        self.arrived()

    def test_split_at_every_byte(self):
        """The same with a segment for each byte around the dot."""
        for sequence in FEW:
            text = b"body" + sequence + SMUGGLED + b"end"
            self.data()
            self.wire.send(self.mail(text)[:-len(text)] + b"body")
            for byte in sequence:
                self.wire.send(bytes([byte]))
                time.sleep(0.001)
            self.wire.send(SMUGGLED + b"end")
            for byte in TRUE_END:
                self.wire.send(bytes([byte]))
                time.sleep(0.0005)
            self.accepted(sequence)
        self.arrived()

    def test_slow_true_end(self):
        """A3: five segments, a pause between them: the end, once."""
        self.data()
        self.wire.send(self.mail(b"body"))
        for byte in TRUE_END:
            time.sleep(0.3)
            self.wire.send(bytes([byte]))
        self.accepted(TRUE_END)
        self.arrived()

    def test_true_end_in_disguise(self):
        """These do hold CRLF.CRLF, so they end: what follows are commands, to
        us as to any server."""
        for before in (b"\r\r\n", b"\n\r\n", b"\0\r\n", b"\r\n\r\n"):
            self.data()
            self.wire.send(HEAD + b"\r\nbody" + before + b".\r\nNOOP\r\n")
            self.accepted(before)
            self.assertEqual(self.wire.reply()[:3], b"250")
        self.arrived(4)

    def test_too_big(self):
        """A2: behind the size limit the bytes are thrown away, and the end is
        looked for as before."""
        limit = 65536
        with Lanpost(smarthost="127.0.0.1:%d" % self.host.port,
                     smarthost_tls="none", message_max_bytes=limit) as relay:
            for sequence in FEW:
                with Wire(relay.port) as wire:
                    wire.reply()
                    wire.ask(b"EHLO device.test")
                    wire.send(ENVELOPE)
                    for _ in range(3):
                        wire.reply()
                    wire.send(HEAD + b"\r\n" + b"x" * (limit + 10) +
                              sequence + SMUGGLED)
                    reply = wire.ask(b"end\r\n.")
                    self.assertEqual(reply[:4], b"552 ", sequence)
                    self.assertEqual(wire.ask(b"VRFY x")[:3], b"252")
            self.assertEqual(relay.lines(" accepted "), [])
            self.assertEqual(relay.stop(), 0)
        self.assertEqual(len(self.host.payloads), self.before)

    # Where the header section is edited: (name, what stands before the
    # sequence, what stands behind it).
    PLACES = (
        ("first", b"", b""),
        ("blank first", b"\r\n", b""),
        ("first field", b"Subject: a", b"X-B: b\r\n\r\n"),
        ("behind From", b"From: <a@x.test>", b"Subject: b\r\n\r\n"),
        ("in a field to be built anew", b"From: a@b, c@d", b"\r\n\r\n"),
        ("behind Bcc", b"Bcc: c@y.test", b"Subject: b\r\n\r\n"),
        ("behind folded Bcc", b"Bcc: c@y.test,\r\n d@y.test", b"\r\n\r\n"),
        ("inside Bcc", b"Bcc: c@y.test,\r\n", b" d@y.test\r\n\r\n"),
        ("behind a mailbox line", b"From a@x.test Sun", b"Subject: b\r\n\r\n"),
        ("behind a long line", b"X-Long: " + b"word " * 300,
         b"Subject: b\r\n\r\n"),
        ("behind a long word", b"X-Long: " + b"w" * 3000,
         b"Subject: b\r\n\r\n"),
        ("where a line is cut", b"X-Long: " + b"w" * 990, b"\r\n\r\n"),
        ("behind NUL", b"Subject: a\0", b"\r\n\r\n"),
        ("behind no field", b"Disk failed", b"\r\n"),
        ("behind the header", b"Subject: a\r\n", b"\r\n"),
        ("behind an 8-bit field", b"Subject: \xe4\xff", b"\r\n"),
    )

    def test_across_the_header(self):
        count = 0
        for name, before, behind in self.PLACES:
            for sequence in FEW:
                text = before + sequence + behind + SMUGGLED + b"end"
                if (b"\r\n" + text).find(TRUE_END) >= 0:
                    continue  # an end it is
                self.data()
                self.wire.send(text + TRUE_END)
                with self.subTest(name, sequence=sequence):
                    self.accepted(sequence)
                count += 1
            self.all_arrived()
        self.assertGreater(count, 2000)
        self.arrived(count)

    def test_header_byte_by_byte(self):
        count = 0
        for name, before, behind in self.PLACES:
            for sequence in FEW[::9]:
                text = before[-12:] + sequence + behind[:4]
                if (b"\r\n" + text + SMUGGLED).find(TRUE_END) >= 0:
                    continue
                self.data()
                self.wire.send(before[:-12])
                for byte in text:
                    self.wire.send(bytes([byte]))
                    time.sleep(0.0003)
                self.wire.send(SMUGGLED + b"end" + TRUE_END)
                with self.subTest(name, sequence=sequence):
                    self.accepted(sequence)
                count += 1
        self.assertGreater(count, 100)
        self.arrived(count)

    def test_nothing_but_a_dot(self):
        """The smallest message, and those that are nearly none."""
        texts = (b"", b"\r\n", b"..\r\n", b".\n", b"\n", b"\0", b"..",
                 b"\n..\n", b"\r")
        for text in texts:
            self.data()
            end = TRUE_END if text and not text.endswith(b"\r\n") else b".\r\n"
            self.wire.send(text + end)
            self.accepted(text)
        self.arrived(len(texts))

    def test_dots_across_blocks(self):
        """A dot at the start of a line at every place of a block of the
        queue, of our buffers and of a TLS record."""
        for shift in range(0, 12):
            text = b"x" * shift + b"\r\n" + b"..\r\n.\n...\r" * 3000
            self.data()
            self.wire.send(self.mail(text) + TRUE_END)
            self.accepted(shift)
        self.arrived()

    def test_broken_base64(self):
        """Where we break a line ourselves, what stood in its middle starts a
        line now: a dot there is stuffed."""
        word = b"aB3+" * 800
        for length in [*range(990, 1004), 1992, 1996]:
            for tail in (b".", b"..", b".\r\n.", b".\n.", b"\n.\n", b"\r.\r",
                         b"\r\n..", b".\r\n\r\n.", b". a"):
                text = word[:length] + tail + SMUGGLED
                want = b"\r\n".join(map(broken, normal(text).split(b"\r\n")))
                self.data()
                self.wire.send(self.mail(text, want) + TRUE_END)
                self.accepted(text)
        self.arrived()

    def test_whole_session_in_one_segment(self):
        """And the last of it is the true end, QUIT behind it."""
        for sequence in FEW:
            text = b"body" + sequence + SMUGGLED + b"end"
            with Wire(self.relay.port) as wire:
                wire.send(b"EHLO device.test\r\n" + ENVELOPE +
                          self.mail(text) + TRUE_END + b"QUIT\r\n")
                said = wire.rest()
            self.assertEqual(len(re.findall(rb"(?m)^354 ", said)), 1, sequence)
            self.assertEqual(len(re.findall(rb"(?m)^250 2\.0\.0 .* as ",
                                            said)), 1, sequence)
            self.assertRegex(said, rb"221 2\.0\.0 [^\r]*\r\n\Z")
        self.arrived()


if __name__ == "__main__":
    unittest.main()
