"""An open relay? From an address outside allow_from no form of address, no
dialogue, no login and no TLS lets one recipient through; the smarthost is not
even called. What an allowed address gets for the same forms stands in the same
table.
"""
import base64
import socket
import ssl
import struct
import time
import unittest

from rig import SLOW, Lanpost, Smarthost, Wire, free_port

USER, PASSWORD = "nas", "right horse"
FROM = "FROM:<a@x.test>"
# What RCPT says of strangers, and of what it cannot read.
STRANGER = b"550 5.7.1 Your address may not relay here (setting: allow_from)"

# What MAIL and RCPT say; the reply to RCPT where the client is allowed, and
# the recipient that the smarthost then sees. First the forms of the relay
# tests on the web (1 to 16), of us as relay.test and [127.0.0.1].
FORMS = (
    ("FROM:<>", "TO:<r@y.test>", "250 2.1.5", "r@y.test"),
    ("FROM:<s@relay.test>", "TO:<r@y.test>", "250 2.1.5", "r@y.test"),
    ("FROM:<s@[127.0.0.1]>", "TO:<r@y.test>", "250 2.1.5", "r@y.test"),
    ("FROM:<s@localhost>", "TO:<r@y.test>", "250 2.1.5", "r@y.test"),
    (FROM, "TO:<r%y.test@[127.0.0.1]>", "250 2.1.5", "r%y.test@[127.0.0.1]"),
    (FROM, "TO:<r%y.test@relay.test>", "250 2.1.5", "r%y.test@relay.test"),
    (FROM, 'TO:<"r@y.test">', "550 5.1.3", None),
    (FROM, 'TO:<"r%y.test">', "550 5.1.3", None),
    (FROM, "TO:<r@y.test@[127.0.0.1]>", "501 5.1.3", None),
    (FROM, 'TO:<"r@y.test"@[127.0.0.1]>', "250 2.1.5",
     '"r@y.test"@[127.0.0.1]'),
    (FROM, "TO:<r@y.test@relay.test>", "501 5.1.3", None),
    (FROM, "TO:<@[127.0.0.1]:r@y.test>", "250 2.1.5", "r@y.test"),
    (FROM, "TO:<@relay.test:r@y.test>", "250 2.1.5", "r@y.test"),
    (FROM, "TO:<y.test!r>", "550 5.1.3", None),
    (FROM, "TO:<y.test!r@[127.0.0.1]>", "250 2.1.5", "y.test!r@[127.0.0.1]"),
    (FROM, "TO:<y.test!r@relay.test>", "250 2.1.5", "y.test!r@relay.test"),
    # Routes, hacks, paths and quotes.
    (FROM, "TO:<@relay.test,@x.test:r@y.test>", "250 2.1.5", "r@y.test"),
    (FROM, "TO:<@relay.test:@x.test:r@y.test>", "501 5.1.3", None),
    (FROM, "TO:<@relay.test:r%y.test@relay.test>", "250 2.1.5",
     "r%y.test@relay.test"),
    (FROM, "TO:<@:r@y.test>", "501 5.1.3", None),
    (FROM, "TO:<r%y.test%relay.test@127.0.0.1>", "250 2.1.5",
     "r%y.test%relay.test@127.0.0.1"),
    (FROM, "TO:<r%y.test>", "550 5.1.3", None),
    (FROM, "TO:<relay.test!y.test!r>", "550 5.1.3", None),
    (FROM, "TO:<y.test!r%relay.test>", "550 5.1.3", None),
    (FROM, 'TO:<"r@y.test"@relay.test>', "250 2.1.5",
     '"r@y.test"@relay.test'),
    (FROM, 'TO:<"r@y.test"@>', "550 5.1.3", None),
    (FROM, 'TO:<"r"@y.test>', "250 2.1.5", '"r"@y.test'),
    (FROM, 'TO:<r"@"y.test>', "501 5.1.3", None),
    (FROM, 'TO:<"r>"@y.test>', "250 2.1.5", '"r>"@y.test'),
    (FROM, 'TO:<"r\\"@y.test>', "501 5.1.3", None),
    (FROM, 'TO:<"a@b"@"y.test">', "501 5.1.3", None),
    # Brackets, blanks, names, case.
    (FROM, "TO:r@y.test", "250 2.1.5", "r@y.test"),
    (FROM, "TO: r@y.test", "250 2.1.5", "r@y.test"),
    (FROM, "TO: <r@y.test>", "250 2.1.5", "r@y.test"),
    (FROM, "to:< r@y.test >", "250 2.1.5", "r@y.test"),
    (FROM, "TO : <r@y.test>", "250 2.1.5", "r@y.test"),
    (FROM, "TO:\t<r@y.test>", "250 2.1.5", "r@y.test"),
    (FROM, "TO:<<r@y.test>>", "501 5.1.3", None),
    (FROM, "TO:<r@y.test", "501 5.1.3", None),
    (FROM, "TO:r@y.test>", "501 5.1.3", None),
    (FROM, "TO:Root <r@y.test>", "250 2.1.5", "r@y.test"),
    (FROM, 'TO:"127.0.0.9" <r@y.test>', "250 2.1.5", "r@y.test"),
    (FROM, "TO:<mailto:r@y.test>", "501 5.1.3", None),
    (FROM, "TO:<r@y.test.>", "250 2.1.5", "r@y.test"),
    (FROM, "TO:<r@y.test>,<s@y.test>", "501 5.1.3", None),
    (FROM, "TO:<r@y.test,s@y.test>", "501 5.1.3", None),
    (FROM, "TO:<r@y.test;s@y.test>", "501 5.1.3", None),
    (FROM, "TO:<r@y.test> <s@y.test>", "501 5.5.4", None),
    (FROM, "TO:<r@y..test>", "501 5.1.3", None),
    (FROM, "TO:<.r@y.test>", "250 2.1.5", '".r"@y.test'),
    (FROM, "TO:<r@[127.0.0.9]>", "250 2.1.5", "r@[127.0.0.9]"),
    (FROM, "TO:<r@[IPv6:::ffff:127.0.0.9]>", "250 2.1.5",
     "r@[IPv6:::ffff:127.0.0.9]"),
    (FROM, "TO:<r@2130706433>", "250 2.1.5", "r@2130706433"),
    (FROM, "TO:<r@relay.test>", "250 2.1.5", "r@relay.test"),
    (FROM, "TO:<r>", "550 5.1.3", None),
    (FROM, "TO:<postmaster>", "550 5.1.1", None),
    (FROM, "TO:<PostMaster@relay.test>", "250 2.1.5",
     "PostMaster@relay.test"),
    (FROM, "TO:<>", "501 5.1.3", None),
    (FROM, "TO:", "501 5.1.3", None),
    (FROM, "r@y.test", "501 5.1.3", None),
    # What a program behind us might take for its own.
    (FROM, "TO:<|/bin/sh@y.test>", "250 2.1.5", "|/bin/sh@y.test"),
    (FROM, "TO:<-oQ/tmp@y.test>", "250 2.1.5", "-oQ/tmp@y.test"),
    (FROM, "TO:</tmp/x@y.test>", "250 2.1.5", "/tmp/x@y.test"),
    (FROM, "TO:</G=r/S=s/@y.test>", "250 2.1.5", "/G=r/S=s/@y.test"),
    (FROM, "TO:<r+127.0.0.9@y.test>", "250 2.1.5", "r+127.0.0.9@y.test"),
    # Parameters: of extensions that were not offered.
    (FROM, "TO:<r@y.test> NOTIFY=NEVER ORCPT=rfc822;r@y.test", "250 2.1.5",
     "r@y.test"),
    (FROM, "TO:<r@y.test> XFORWARD ADDR=127.0.0.9", "250 2.1.5", "r@y.test"),
    (FROM + " AUTH=nas@x.test", "TO:<r@y.test>", "250 2.1.5", "r@y.test"),
    (FROM + " AUTH=<>", "TO:<r@y.test>", "250 2.1.5", "r@y.test"),
    (FROM + " XCLIENT=127.0.0.9", "TO:<r@y.test>", "250 2.1.5", "r@y.test"),
    (FROM + " SIZE=0 BODY=8BITMIME", "TO:<r@y.test>", "250 2.1.5",
     "r@y.test"),
    # Senders.
    ("FROM:<nas>", "TO:<r@y.test>", "503 5.5.1", None),
    ("FROM:<postmaster@relay.test>", "TO:<r@y.test>", "250 2.1.5",
     "r@y.test"),
    ("FROM:<s@[127.0.0.9]>", "TO:<r@y.test>", "250 2.1.5", "r@y.test"),
    ("FROM:<@[127.0.0.9]:s@x.test>", "TO:<r@y.test>", "250 2.1.5",
     "r@y.test"),
    ("FROM:<r@y.test>", "TO:<r@y.test>", "250 2.1.5", "r@y.test"),
    ("FROM:s@x.test", "TO:<r@y.test>", "250 2.1.5", "r@y.test"),
)


def base(text):
    return base64.b64encode(text.encode())


PLAIN = base("\0%s\0%s" % (USER, PASSWORD))
MAIL = b"MAIL FROM:<a@x.test>\r\nRCPT TO:<r@y.test>\r\n"
END = b"DATA\r\nSubject: x\r\n\r\nbody\r\n.\r\nQUIT\r\n"
PROXY2 = (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes([127, 0, 0, 9]) +
          bytes([127, 0, 0, 1]) + struct.pack("!HH", 4000, 25))

# What may stand before MAIL, all in one segment. None of it is to help.
WAYS = (
    b"", b"EHLO x\r\n", b"HELO x\r\n", b"EHLO\r\n", b"HELO \r\n",
    b"EHLO localhost\r\n", b"EHLO relay.test\r\n", b"EHLO 127.0.0.9\r\n",
    b"EHLO [127.0.0.9]\r\n", b"EHLO [IPv6:::1]\r\n", b"EHLO nas\r\n",
    b"EHLO x\r\nEHLO [127.0.0.9]\r\nHELO localhost\r\n", b"LHLO x\r\n",
    b"EHLO x\r\nAUTH PLAIN " + PLAIN + b"\r\n",
    b"HELO x\r\nAUTH PLAIN " + PLAIN + b"\r\n",
    b"AUTH PLAIN " + PLAIN + b"\r\n",
    b"EHLO x\r\nAUTH PLAIN\r\n" + PLAIN + b"\r\n",
    b"EHLO x\r\nauth login\r\n" + base(USER) + b"\r\n" + base(PASSWORD) +
    b"\r\n",
    b"EHLO x\r\nAUTH LOGIN " + base(USER) + b"\r\n" + base(PASSWORD) +
    b"\r\n",
    b"EHLO x\r\nAUTH ANONYMOUS =\r\n", b"EHLO x\r\nAUTH EXTERNAL =\r\n",
    b"EHLO x\r\nAUTH PLAIN =\r\n", b"EHLO x\r\nAUTH PLAIN *\r\n",
    b"EHLO x\r\nAUTH CRAM-MD5\r\n" + base(USER + " 0") + b"\r\n",
    b"EHLO x\r\nSTARTTLS\r\n", b"EHLO x\r\nSTARTTLS now\r\n",
    b"EHLO x\r\nSTARTTLS\r\nEHLO x\r\nAUTH PLAIN " + PLAIN + b"\r\n",
    b"EHLO x\r\nXCLIENT ADDR=127.0.0.9 LOGIN=nas\r\nEHLO x\r\n",
    b"EHLO x\r\nXFORWARD ADDR=127.0.0.9\r\n",
    b"PROXY TCP4 127.0.0.9 127.0.0.1 4000 25\r\nEHLO x\r\n",
    PROXY2 + b"EHLO x\r\n",
    b"EHLO x\r\nMAIL FROM:<a@x.test>\r\nEHLO x\r\n",
    b"EHLO x\r\nMAIL FROM:<a@x.test>\r\nRSET\r\n",
    b"EHLO x\r\nMAIL FROM:<a@x.test>\r\n", b"EHLO x\r\nRSET\r\nNOOP\r\n",
    b"EHLO x\r\nVRFY r@y.test\r\nEXPN r\r\nETRN y.test\r\nTURN\r\nATRN\r\n",
    b"EHLO x\r\nSEND FROM:<a@x.test>\r\nSAML FROM:<a@x.test>\r\n",
    b"EHLO x\r\nRCPT TO:<r@y.test>\r\nDATA\r\n",
    b"EHLO x\r\nBDAT 0\r\n", b"EHLO x\r\n" + b"NOOP " + b"x" * 3000 + b"\r\n",
    b"GET / HTTP/1.1\r\nHost: 127.0.0.9\r\n\r\n", b"\0\r\nEHLO x\r\n",
)
ENDS = (
    END, MAIL[MAIL.index(b"RCPT"):] * 2 + END, b"BDAT 6 LAST\r\nbody\r\n",
    b"data\r\nSubject: x\r\n\r\nbody\r\n.\r\n",
)

# Who calls from where, and who may relay. The last are neighbours.
STRANGERS = (
    ("127.0.0.1", "127.0.0.1", "127.0.0.9/32 ::2"),
    ("::1", "::1", "127.0.0.0/8 ::2"),
    ("::ffff:127.0.0.1", "::ffff:127.0.0.1", "127.0.0.9/32 ::1"),
    ("127.0.0.1", "127.0.0.8", "127.0.0.9/32 ::/0"),
    ("127.0.0.1", "127.0.0.10", "127.0.0.9/32"),
    ("127.0.0.1", "127.0.0.7", "127.0.0.8/30"),
    ("127.0.0.1", "127.0.0.12", "127.0.0.8/30"),
    ("127.0.0.1", "127.1.0.9", "127.0.0.0/16"),
)
LOGINS = ({"users": {USER: PASSWORD}, "accept_any_auth": "no"},
          {"users": {USER: PASSWORD}, "accept_any_auth": "yes"},
          {"accept_any_auth": "auto"})


class Relay(Lanpost):
    """At both loopback addresses, in clear and under TLS; with a smarthost
    that takes everything."""

    def __init__(self, host, allow_from, **more):
        port, tls_port = free_port(), free_port()
        super().__init__(
            smarthost="localhost:%d" % host.port, allow_from=allow_from,
            listen="127.0.0.1:%d [::1]:%d" % (port, port),
            listen_tls="127.0.0.1:%d [::1]:%d" % (tls_port, tls_port),
            **more)
        self.port, self.tls_port = port, tls_port


class Strangers(unittest.TestCase):
    def setUp(self):
        self.host = Smarthost()
        self.addCleanup(self.host.__exit__)

    def relay(self, allow_from, **more):
        return Relay(self.host, allow_from, tls_detect_ms=200, **more)

    def nothing_passed(self, relay):
        self.assertEqual(relay.lines(" accepted "), [])
        self.assertEqual(relay.stop(), 0)
        self.assertIn("stopped lost=0 ", relay.log())
        self.assertEqual(self.host.ledger(), [])
        self.assertEqual(self.host.transcript(), "", "it was even called")

    def is_refused(self, said):
        """Everything that was said to a stranger who wanted to send."""
        self.assertNotRegex(said, rb"(?m)^(354|235|334|250 2\.1\.5|2.. 2\.6)")
        self.assertNotRegex(said, rb"(?m)^220 2")
        self.assertNotIn(b"Queued", said)

    def test_every_form(self):
        for family, source, allow_from in STRANGERS:
            with self.subTest(source, allow_from=allow_from), \
                    self.relay(allow_from, **LOGINS[1]) as relay:
                for mail, rcpt, _, _ in FORMS:
                    with Wire(relay.port, family, source) as wire:
                        wire.reply()
                        wire.ask(b"EHLO x")
                        begun = wire.ask(b"MAIL " + mail.encode())
                        reply = wire.ask(b"RCPT " + rcpt.encode())
                        said = "%s, %s: %s" % (mail, rcpt, reply)
                        if begun[:3] == b"250":
                            self.assertEqual(reply.rstrip(), STRANGER, said)
                        else:
                            self.assertEqual(reply[:3], b"503", said)
                        self.assertRegex(wire.ask(b"DATA"), rb"^(503|554) ")
                self.nothing_passed(relay)

    def test_every_way(self):
        for (family, source, allow_from), login in zip(STRANGERS, LOGINS):
            with self.subTest(source, **login), \
                    self.relay(allow_from, **login) as relay:
                for way in WAYS:
                    for end in ENDS:
                        self.tries(relay, family, source, way + MAIL + end)
                self.nothing_passed(relay)

    def tries(self, relay, family, source, words):
        """All in one segment, before the banner was read."""
        with Wire(relay.port, family, source) as wire:
            wire.send(words)
            wire.socket.shutdown(socket.SHUT_WR)
            try:
                said = wire.rest()
            except ConnectionResetError:
                said = wire.held
        with self.subTest(words):
            self.assertRegex(said, rb"\A(220|421) ")
            self.is_refused(said)

    def test_nothing_is_offered(self):
        """Neither TLS nor a login: both cost us time, and help nobody."""
        with self.relay("127.0.0.9/32", **LOGINS[0]) as relay, \
                Wire(relay.port) as wire:
            wire.reply()
            wire.send(b"EHLO x\r\nSTARTTLS\r\nAUTH PLAIN " + PLAIN + b"\r\n")
            lines = [wire.line()]
            while lines[-1][3:4] == b"-":
                lines.append(wire.line())
            self.assertNotIn(b"STARTTLS", b"".join(lines))
            self.assertNotIn(b"AUTH", b"".join(lines))
            self.assertEqual(wire.reply().rstrip(), STRANGER)
            self.assertEqual(wire.reply().rstrip(), STRANGER)
            line, = relay.wait_log("its address is not in allow_from")
            self.assertIn('client=127.0.0.1 helo="x" refused', line)
            self.assertIn('advice="add it to allow_from', line)
            self.nothing_passed(relay)

    def test_no_handshake(self):
        """Neither on the implicit port nor with a hello on the plain one."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with self.relay("127.0.0.9/32 ::2", **LOGINS[1]) as relay:
            for port in relay.tls_port, relay.port:
                for family in "127.0.0.1", "::1":
                    with self.subTest(port=port, family=family), \
                            Wire(port, family) as wire, \
                            self.assertRaises((ssl.SSLError, OSError)):
                        with context.wrap_socket(wire.socket) as tls:
                            tls.sendall(MAIL + END)
            with Wire(relay.tls_port) as wire:
                began = time.monotonic()
                self.assertEqual(wire.rest(), b"")
                self.assertLess(time.monotonic() - began, SLOW)
            self.assertEqual(relay.lines("TLS hello"), [])  # not to him
            with Wire(relay.tls_port, source="127.0.0.9") as wire, \
                    context.wrap_socket(wire.socket) as tls:
                self.assertEqual(tls.recv(3), b"220")
            self.nothing_passed(relay)

    def test_after_many_tries(self):
        """Not by patience: the errors end the session."""
        with self.relay("127.0.0.9/32") as relay, Wire(relay.port) as wire:
            wire.reply()
            wire.ask(b"EHLO x")
            wire.ask(b"MAIL FROM:<a@x.test>")
            wire.send(b"RCPT TO:<r@y.test>\r\n" * 1000)
            said = wire.rest().splitlines()
            self.assertEqual(set(said[:-1]), {STRANGER})
            self.assertRegex(said[-1], b"^421 4.7.0 ")
            self.assertLess(len(said), 30)
            self.assertEqual(len(relay.lines("not in allow_from")), 1)
            self.nothing_passed(relay)


class Allowed(unittest.TestCase):
    """The same forms from one of the house: so the table is not refused for
    its forms alone."""

    def test_every_form(self):
        with Smarthost() as host, \
                Relay(host, "127.0.0.9/32", **LOGINS[0]) as relay:
            for number, (mail, rcpt, code, recipient) in enumerate(FORMS):
                with self.subTest(mail=mail, rcpt=rcpt):
                    self.sends(relay, number, mail, rcpt, code, recipient)
            wanted = [(b"%d" % number, form[3])
                      for number, form in enumerate(FORMS) if form[3]]
            host.wait_ledger(len(wanted), 20 * SLOW)
            came = [(text.split(b"Subject: ")[1].split(b"\r\n")[0], env["to"])
                    for text, env in host.mails()]
            self.assertEqual(sorted(came), sorted(wanted))
            self.assertEqual(relay.stop(), 0)

    def sends(self, relay, number, mail, rcpt, code, recipient):
        with Wire(relay.port, source="127.0.0.9") as wire:
            wire.reply()
            wire.ask(b"EHLO x")
            wire.ask(b"MAIL " + mail.encode())
            reply = wire.ask(b"RCPT " + rcpt.encode())
            self.assertTrue(reply.startswith(code.encode()), reply)
            reply = wire.ask(b"DATA")
            self.assertEqual(reply[:3] == b"354", recipient is not None)
            if recipient is not None:
                reply = wire.ask(b"Subject: %d\r\n\r\nbody\r\n." % number)
                self.assertEqual(reply[:3], b"250")


if __name__ == "__main__":
    unittest.main()
