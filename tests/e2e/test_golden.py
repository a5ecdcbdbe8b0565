"""Golden files: what a device sends, and what the smarthost gets of it.

Each case in tests/golden is up to four files:
  NAME.in        the bytes behind DATA, with the final dot
  NAME.conf      lines of settings (optional)
  NAME.envelope  the arguments of MAIL and RCPT, a line each (optional)
  NAME.out       the envelope and the mail at the smarthost; what differs each
                 time stands as <date>, <id> and <message-id>
GOLDEN_WRITE=1 writes each .out anew: look at every change before you keep it.
"""
import collections
import os
import pathlib
import re
import unittest

from rig import REPO, Lanpost, Smarthost, Wire

FOLDER = pathlib.Path(REPO, "tests", "golden")
ENVELOPE = "FROM:<scan@example.com>\nTO:<boss@example.net>\n"
OURS = re.compile(rb"\tby relay\.test with E?SMTP id (\w{8})")
DATE = re.compile(rb";\r\n\t(\w{3}, [ \d]\d \w{3} \d{4} \d\d:\d\d:\d\d "
                  rb"[+-]\d{4})\r\n")
REPAIRS = {"date", "from", "mime", "message-id", "header", "bcc", "fold",
           "line-ends", "nul"}


ODD = {"long_text": {"long_line"}}  # text is never touched


class Case:
    def __init__(self, path):
        self.name = path.stem
        self.text = path.read_bytes()
        self.settings = self.read(".conf", "")
        self.envelope = self.read(".envelope", ENVELOPE).splitlines()

    def path(self, suffix):
        return FOLDER / (self.name + suffix)

    def read(self, suffix, preset):
        path = self.path(suffix)
        return path.read_text() if path.exists() else preset

    def send(self, wire):
        """As a device that waits for each answer."""
        def ask(command, answer):
            reply = wire.ask(command.encode())
            if not reply.startswith(answer):
                raise AssertionError("%s: %s: %r" % (self.name, command, reply))
        ask("MAIL " + self.envelope[0], b"250")
        for line in self.envelope[1:]:
            ask("RCPT " + line, b"250")
        ask("DATA", b"354")
        wire.send(self.text)
        if not (reply := wire.reply()).startswith(b"250"):
            raise AssertionError("%s: %r" % (self.name, reply))


def as_golden(text, env):
    """A mail of the smarthost, without what differs each time."""
    date = DATE.search(text)[1]
    queue_id = OURS.search(text)[1]
    text = text.replace(date, b"<date>")
    text = re.sub(rb"<[0-9a-f]+\.[0-9a-f]{8}\." + queue_id + rb"@relay\.test>",
                  b"<message-id>", text)
    text = text.replace(b" id " + queue_id, b" id <id>", 1)
    options = re.sub(r"SIZE=\d+", "SIZE=<size>", env["mail_args"])
    lines = ["MAIL FROM:<%s> %s" % (env["from"], options)]
    lines += ["RCPT TO:<%s>" % to for to in env["to"].split(",")]
    return "".join(line.strip() + "\r\n" for line in lines).encode() + (
        b"DATA\r\n" + text)


def cases():
    """All of them, by their settings."""
    found = collections.defaultdict(list)
    for path in sorted(FOLDER.glob("*.in")):
        case = Case(path)
        found[case.settings].append(case)
    return found


class Golden(unittest.TestCase):
    maxDiff = None

    def check(self, case, text, env):
        got = as_golden(text, env)
        if os.environ.get("GOLDEN_WRITE"):
            case.path(".out").write_bytes(got)
        self.assertEqual(got.decode("latin-1").split("\r\n"),
                         case.path(".out").read_bytes().decode(
                             "latin-1").split("\r\n"))
        # What the smarthost finds odd; 8-bit text must be announced.
        odd = set(env["notes"].split(",")) - {""}
        self.assertEqual("eight_bit" in odd, "8BITMIME" in env["mail_args"])
        self.assertEqual(odd - {"eight_bit"}, ODD.get(case.name, set()))

    def check_all(self, settings, some):
        with Smarthost() as host, Lanpost(
                smarthost="127.0.0.1:%d" % host.port, smarthost_tls="none",
                connections_max=1, more=settings) as relay:
            with Wire(relay.port) as wire:
                wire.reply()
                wire.ask(b"EHLO device.test")
                for count, case in enumerate(some, 1):
                    case.send(wire)
                    host.wait_ledger(count)
            for case, (text, env) in zip(some, host.mails(), strict=True):
                with self.subTest(case.name):
                    self.check(case, text, env)
            return set(",".join(re.findall(r" repaired=(\S+)",
                                           relay.log())).split(","))

    def test_every_case(self):
        repaired = set()
        for settings, some in cases().items():
            repaired |= self.check_all(settings, some)
        self.assertLessEqual(REPAIRS, repaired)

    def test_there_are_all(self):
        """No file is forgotten, and none has lost its others."""
        names = {path.stem for path in FOLDER.glob("*.in")}
        self.assertGreaterEqual(len(names), 25)
        for suffix in (".out", ".conf", ".envelope"):
            others = {path.stem for path in FOLDER.glob("*" + suffix)}
            self.assertLessEqual(others, names)
        self.assertEqual({path.stem for path in FOLDER.glob("*.out")}, names)


if __name__ == "__main__":
    unittest.main()
