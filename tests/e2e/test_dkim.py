"""Mail that the device's application signed still verifies behind lanpost.

Signed by dkimpy and by nodemailer, verified by dkimpy at the try-out
smarthost. The mutants show that the verifier looks, and the settings that
rewrite senders break the signature, as the README says.
"""
import base64
import email.message
import email.policy
import itertools
import os
import subprocess
import sys
import tempfile
import unittest

from rig import Lanpost, Smarthost, send, tool
from test_clients import Way, nodemailer

# Debian's module, whichever python3 runs us.
sys.path.append("/usr/lib/python3/dist-packages")
import dkim  # noqa: E402, pylint: disable=wrong-import-position

HEAD = (b"Date: Sat, 01 Aug 2026 10:00:00 +0200\r\n"
        b"From: \"Scanner, 2nd floor\" <scan@x.test>\r\n"
        b"To: b@y.test\r\n"
        b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n"
        b"Message-ID: <1@x.test>\r\n")
TEXT_8BIT = (b"MIME-Version: 1.0\r\n"
             b"Content-Type: text/plain; charset=utf-8\r\n"
             b"Content-Transfer-Encoding: 8bit\r\n")
ODD_FIELDS = (
    b"x-ODD-case:no blank before\r\n"
    b"X-Blanks:   three  and two   \r\n"
    b"X-Folded: one,\r\n\ttwo,\r\n    three\r\n \tfour\r\n"
    b"X-Empty:\r\n"
    b"X-Empty: \r\n"
    b"X-Twice: 1\r\n"
    b"X-Twice: 2\r\n"
    b"X-Raw: Gr\xc3\xbc\xc3\x9fe \xff\r\n"
    b"X-Colons: a:b::c: <x@y> (d) \"e\" \\ ;\r\n"
    b"X-Long: " + b"long " * 197 + b"\r\n"
    b"Reply-To: a@x.test, \"B, C\" <b@x.test>\r\n"
    b"X-MS-Has-Attach: \r\n")
HIDDEN = b"Bcc: c@y.test,\r\n d@y.test\r\n"


def scan():
    """A scanner's mail: text, a page and a file with an odd name."""
    mail = email.message.EmailMessage(email.policy.SMTP)
    mail["Date"] = "Sat, 01 Aug 2026 10:00:00 +0200"
    mail["From"] = "Scanner <scan@x.test>"
    mail["To"] = "b@y.test"
    mail["Subject"] = "Scan"
    mail["Message-ID"] = "<2@x.test>"
    mail.set_content("Grüße vom Scanner.\n.\n..\n\n", cte="8bit")
    mail.add_attachment(bytes(range(256)) * 200, maintype="application",
                        subtype="pdf", filename="Seite 1.pdf")
    mail.add_attachment("a;b\n.\n", subtype="csv", filename="größe.csv")
    return mail.as_bytes()


MAILS = {
    "alert": HEAD + b"\r\nDisk 2 has failed.\r\n",
    "8-bit text": HEAD + TEXT_8BIT + "\r\nGrüße, 日本語\r\n".encode(),
    "attachments": scan(),
    "odd fields": ODD_FIELDS + HEAD + TEXT_8BIT + b"\r\nbody\r\n",
    "odd body": HEAD + TEXT_8BIT + b"\r\n\r\n \t\r\n.\r\n..\r\nFrom here \r\n"
                b"a  b\t c \r\n" + b"x" * 3000 + b"\r\n\xff\xfe\r\n\r\n\r\n",
    "empty body": HEAD + b"\r\n",
    "hidden copy": HIDDEN + HEAD + b"\r\nx\r\n",
}
WAYS = tuple(itertools.product((b"relaxed", b"simple"), repeat=2))

# Settings that put another sender into From.
BREAKING = {
    "sender_rewrite": {"sender": "relay@z.test", "sender_rewrite": "always"},
    "rewrite_from": {"rewrite_from": "127.0.0.0/8=relay@z.test"},
    "sender_domains": {"sender": "relay@z.test", "sender_domains": "z.test"},
}


def changed(mail, old, new):
    """The mail with one thing changed, which must be there."""
    assert mail.count(old) == 1, old
    return mail.replace(old, new)


class Signed(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with tempfile.TemporaryDirectory(prefix="lanpost-dkim-") as directory:
            key = os.path.join(directory, "key")
            subprocess.run([tool("openssl"), "genrsa", "-traditional", "-out",
                            key, "2048"], check=True,
                           stderr=subprocess.DEVNULL)
            public = subprocess.run(
                [tool("openssl"), "rsa", "-in", key, "-pubout", "-outform",
                 "DER"], check=True, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL).stdout
            with open(key, "rb") as file:
                cls.key = file.read()
        cls.record = b"v=DKIM1; k=rsa; p=" + base64.b64encode(public)

    def dns(self, name, timeout=5):
        """The only name there is."""
        self.assertGreater(timeout, 0)
        return self.record if name == b"device._domainkey.x.test." else None

    def verifies(self, mail):
        return dkim.verify(mail, dnsfunc=self.dns)

    def sign(self, mail, way):
        """Every field that can be signed is."""
        names = {line.split(b":")[0].lower()
                 for line in mail.split(b"\r\n\r\n")[0].split(b"\r\n")
                 if line[:1] not in b" \t"} - {b"bcc"}
        field = dkim.sign(mail, b"device", b"x.test", self.key,
                          canonicalize=way, include_headers=sorted(names))
        return field + mail

    def passed(self, mails, **settings):
        """The mails behind lanpost, in their order."""
        with Smarthost() as sink, Lanpost(
                smarthost="localhost:%d" % sink.port, connections_max=1,
                **settings) as relay:
            for count, mail in enumerate(mails, 1):
                self.assertEqual(send(relay.port, mail, sender="scan@x.test"),
                                 {})
                sink.wait_ledger(count)
            return [mail for mail, _ in sink.mails()], relay.log()

    def all_pass(self, **settings):
        rows = [(name, way) for name in MAILS for way in WAYS]
        signed = [self.sign(MAILS[name], way) for name, way in rows]
        arrived, log = self.passed(signed, **settings)
        for row, before, after in zip(rows, signed, arrived, strict=True):
            with self.subTest(mail=row[0], canonical=row[1]):
                self.assertTrue(self.verifies(before), "the signer's own")
                self.assertTrue(self.verifies(after), after)
                self.assertTrue(after.endswith(
                    b"\r\n" + before.replace(HIDDEN, b"")), after)
                self.assertNotIn(b"\r\nBcc:", after)
        for part in log.split("repaired=")[1:]:
            self.assertEqual(part.split()[0], "bcc")

    def test_verifies(self):
        self.all_pass()

    def test_verifies_where_no_sender_may_be_rewritten(self):
        self.all_pass(sender="relay@z.test", sender_rewrite="never",
                      default_domain="z.test")

    def test_verifies_where_other_senders_are_rewritten(self):
        """Settings that are not about this mail leave it alone."""
        self.all_pass(sender="relay@z.test", sender_rewrite="unqualified",
                      sender_domains="x.test z.test",
                      rewrite_from="192.0.2.0/24=relay@z.test",
                      rewrite_to="@old.test=@y.test")

    def test_long_lines(self):
        """Folding a field that is too long hurts a simple signature alone."""
        mail = b"X-Long: " + b"long " * 250 + b"\r\n" + HEAD + b"\r\nbody\r\n"
        signed = [self.sign(mail, (way, way))
                  for way in (b"relaxed", b"simple")]
        self.assertEqual([self.verifies(mail) for mail in signed],
                         [True, True])
        arrived, _ = self.passed(signed)
        self.assertEqual([self.verifies(mail) for mail in arrived],
                         [True, False])

    def test_mutants_do_not_verify(self):
        """What arrived, changed by one thing each."""
        mails, _ = self.passed([self.sign(MAILS["odd body"], way)
                                for way in (WAYS[0], WAYS[-1])])
        for way, mail in zip(("relaxed", "simple"), mails):
            for name, mutant in (
                    ("body byte", changed(mail, b"From here", b"from here")),
                    ("last byte", changed(mail, b"\xff\xfe", b"\xff\xff")),
                    ("line added", mail + b"one more\r\n"),
                    ("field", changed(mail, b"<scan@", b"<scam@")),
                    ("a second From", changed(
                        mail, b"\r\nTo: ", b"\r\nFrom: z@z.test\r\nTo: ")),
                    ("field gone", changed(mail, b"\r\nTo: b@y.test", b"")),
                    ("signature", changed(mail, b" b=", b" b=BBBB"))):
                with self.subTest(name, way=way):
                    self.assertFalse(self.verifies(mutant))
            blank = changed(mail, b"a  b", b"a b")
            self.assertEqual(self.verifies(blank), way == "relaxed")

    def test_settings_that_break_it(self):
        signed = self.sign(MAILS["alert"], WAYS[0])
        for name, settings in BREAKING.items():
            with self.subTest(name):
                self.assertTrue(self.verifies(signed))
                (mail,), log = self.passed([signed], **settings)
                self.assertFalse(self.verifies(mail), mail)
                self.assertIn(b"<relay@z.test>\r\n", mail)
                # That is all: with its own From it would verify.
                self.assertIn("repaired=from", log)

    def test_signed_by_nodemailer(self):
        with Smarthost() as sink, Lanpost(
                smarthost="localhost:%d" % sink.port) as relay:
            status, words = nodemailer(Way(relay.port, None, None), {
                "from": "\"Grüße, Gerät\" <scan@x.test>", "to": "b@y.test",
                "subject": "Größe " * 20, "text": "Grüße\n.\n\n",
                "html": "<p>Gr&uuml;&szlig;e</p>",
                "headers": {"X-Odd": "  a  b "},
                "attachments": [{"filename": "größe.bin",
                                 "content": "\0\1\n." * 999}],
                "dkim": {"domainName": "x.test", "keySelector": "device",
                         "privateKey": self.key.decode()}})
            self.assertEqual(status, 0, words)
            sink.wait_ledger()
            (mail, _), = sink.mails()
        self.assertIn(b"\r\nDKIM-Signature: ", mail)
        self.assertTrue(self.verifies(mail), mail)
        self.assertFalse(self.verifies(changed(mail, b"<p>", b"<q>")))


if __name__ == "__main__":
    unittest.main()
