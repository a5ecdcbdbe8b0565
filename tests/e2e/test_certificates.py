"""Who may get our mail: a smarthost that proves its name over TLS, nobody
else. Each impostor gets not a byte of login or mail, the mail is kept, one
log line says why, and a good smarthost on the same port gets the mail.
"""
import base64
import glob
import re
import subprocess
import unittest

from rig import PASSWORD, TEXT, USER, WRAPPER, Lanpost, Smarthost, binary

LOGIN = ("--user", USER, "--password", PASSWORD)
IN_CLEAR = "nothing is sent in clear"
ATTACK = "words behind the reply to STARTTLS: an attack"

# Certificate, the name it is to bear (None: localhost), what the log says.
BAD_CERTIFICATES = (
    ("wrong_name", None, "is for wrong.test, not for localhost"),
    ("good", "other.test", "not for other.test"),
    ("expired", None, "expired on 2021-01-01, and our clock says 20"),
    ("not_yet", None, "is valid only from 2090-01-01, and our clock says 20"),
    ("unknown_ca", None, "comes from CN=lanpost test other_ca, which "
                         "smarthost_ca_file does not know"),
    ("self_signed", None, "is self-signed; put it into smarthost_ca_file"),
    ("missing_intermediate", None, "fails to send its intermediate"),
    ("cn_only", None, "for no name at all (subjectAltName is missing), not "
                      "for localhost"),
    ("ip_in_cn", "127.0.0.1", "for no name at all (subjectAltName is missing"),
    ("wildcard_bad", "smarthost.test", "not for smarthost.test"),
    ("wildcard_bad", None, "not for localhost"),
    ("wildcard", "a.b.lan.test", "is for *.lan.test, not for a.b.lan.test"),
    ("wildcard", "lan.test", "is for *.lan.test, not for lan.test"),
    ("nul_san", "smarthost.test", "not for smarthost.test"),
    ("small_rsa", None, "a key or signature too weak to trust"),
    ("sha1", None, "a key or signature too weak to trust"),
)

GOOD_CERTIFICATES = (
    ("good", None), ("good_rsa", None), ("chain", None),
    ("good", "smarthost.test"), ("good", "SmartHost.Test"),
    ("good", "127.0.0.1"), ("good", "::1"), ("wildcard", "mail.lan.test"),
)

# What the smarthost does about STARTTLS, what the log says.
NO_STARTTLS = (
    ("hidden", ["--without", "STARTTLS"], "offers no STARTTLS"),
    ("misspelt", ["--without", "STARTTLS", "--keyword", "XXXXXXXA"],
     "offers no STARTTLS"),
    ("454", ["--fault", "starttls:reply=454 4.7.0 Not now"],
     "refuses STARTTLS; " + IN_CLEAR + ": 454 4.7.0 Not now"),
    ("501", ["--fault", "starttls:reply=501 5.5.4 No"],
     "refuses STARTTLS; " + IN_CLEAR + ": 501 5.5.4 No"),
    ("502", ["--fault", "starttls:reply=502 5.5.1 Never"],
     "refuses STARTTLS; " + IN_CLEAR + ": 502 5.5.1 Never"),
    ("354", ["--fault", "starttls:reply=354 Go on"], "out of step"),
    ("250", ["--fault", "starttls:reply=250 Ok"], "refuses STARTTLS"),
    ("220 and gone", ["--fault", "starttls:reply=220 2.0.0 Go",
                      "--fault", "starttls:close"],
     "hung up during the TLS handshake"),
    ("gone", ["--fault", "starttls:close"], "the connection was closed"),
    ("reset", ["--fault", "starttls:reset"], "eset by peer"),
    ("reply injected", ["--fault", r"starttls:extra=250 2.0.0 Ok\r\n"],
     ATTACK),
    ("capabilities injected",
     ["--fault", r"starttls:extra=250-me\r\n250 AUTH PLAIN\r\n"], ATTACK),
    ("fragment injected", ["--fault", "starttls:extra=250-"], ATTACK),
    ("one byte injected", ["--fault", r"starttls:extra=\n"], ATTACK),
    ("injected behind a split 220",
     ["--fault", r"starttls:raw=220 2.0\p.0 Go\r\n250 2.0.0 Ok\r\n"], ATTACK),
    ("injected a moment later",
     ["--fault", r"starttls:raw=220 2.0.0 Go\r\n\p250 2.0.0 Ok\r\n"],
     "answered in clear where TLS was due"),
    ("handshake cut", ["--fault", "handshake:close"],
     "hung up during the TLS handshake"),
    ("EHLO cut", ["--fault", "ehlo:close"], "the connection was closed"),
)


def lanpost_to(port, host="localhost", **values):
    return Lanpost(smarthost="%s:%d" % (host, port), smarthost_user=USER,
                   smarthost_password=PASSWORD, log_level="debug", **values)


class Smarthosts(unittest.TestCase):
    def refuses(self, why, *options, cert="good", **values):
        """Nothing leaves towards such a smarthost, and why is the reason."""
        with Smarthost(*LOGIN, "--auth-before-tls", *options,
                       cert=cert) as bad, \
                lanpost_to(bad.port, **values) as relay:
            relay.send()
            line, = relay.wait_log("route=paused")
            self.assertIn(why, line)
            self.assertIn(" waiting=", line)
            self.assertEqual(bad.stop(), 0)  # all that came is written now
            self.nothing_left(bad)
            self.keeps_the_mail(relay, bad.port, **values)

    def nothing_left(self, bad):
        came = bad.transcript()
        said = re.sub(r"(?s)clear: \\x16\\x03.*", "", came)  # a ClientHello
        self.assertRegex(said, r"^(clear: EHLO relay\.test\\r\\x0a\n)?"
                               r"(clear: STARTTLS\\r\\x0a\n)?$")
        secrets = [USER, PASSWORD, TEXT.decode(), "b@y.test", "a@x.test"]
        secrets += [base64.b64encode(s.encode()).decode().rstrip("=")
                    for s in (USER, PASSWORD, "\0%s\0%s" % (USER, PASSWORD))]
        for word in ["AUTH", "MAIL", "RCPT", "DATA", "BDAT", *secrets]:
            self.assertNotIn(word, came)
        self.assertNotIn("tls: ", came)
        self.assertEqual(bad.mails(), [])

    def keeps_the_mail(self, relay, port, **values):
        del values["smarthost_tls_name"]
        options = ["--implicit"] if "smarthost_tls" in values else []
        with Smarthost(*LOGIN, *options,
                       listen="127.0.0.1:%d" % port) as good:
            relay.write_settings(smarthost_tls_name=None)
            self.assertIn("reload=done", relay.reload())
            ledger = good.wait_ledger()
            self.assertEqual(ledger, ["<1@test> <a@x.test> <b@y.test>"])
            (text, env), = good.mails()
            self.assertTrue(text.endswith(TEXT))
            self.assertRegex(env["tls"], r"^TLSv1\.[23]$")
            self.assertEqual(env["auth"], USER)
            self.assertEqual(len(relay.lines("route=paused")), 1)
            relay.wait_log(" sent")
            self.assertEqual(relay.stop(), 0)

    def takes(self, *options, cert="good", host="localhost", **values):
        with Smarthost(*LOGIN, *options, cert=cert) as good, \
                lanpost_to(good.port, host, **values) as relay:
            relay.send()
            good.wait_ledger()
            (_, env), = good.mails()
            self.assertRegex(env["tls"], r"^TLSv1\.[23]$")
            self.assertEqual(relay.lines("route=paused"), [])
            clear = [line for line in good.transcript().splitlines()
                     if not line.startswith("tls: ")]
            return clear

    def test_bad_certificates(self):
        for tls in ("starttls", "implicit"):
            options = ["--implicit"] if tls == "implicit" else []
            for cert, name, why in BAD_CERTIFICATES:
                with self.subTest("%s %s %s" % (tls, cert, name)):
                    values = {"smarthost_tls": tls} if options else {}
                    self.refuses(why, *options, cert=cert,
                                 smarthost_tls_name=name, **values)

    def test_no_starttls(self):
        for name, options, why in NO_STARTTLS:
            with self.subTest(name):
                self.refuses(why, *options, smarthost_tls_name=None)

    def test_good_certificates(self):
        for cert, name in GOOD_CERTIFICATES:
            with self.subTest("%s %s" % (cert, name)):
                self.assertEqual(
                    self.takes(cert=cert, smarthost_tls_name=name),
                    [r"clear: EHLO relay.test\r\x0a", r"clear: STARTTLS\r\x0a"])

    def test_address_as_smarthost(self):
        self.takes(host="127.0.0.1")

    def test_implicit_tls(self):
        for cert in ("good", "chain"):
            with self.subTest(cert):
                self.assertEqual(self.takes(
                    "--implicit", cert=cert, smarthost_tls="implicit"), [])

    def test_plain_port_where_tls_was_due(self):
        with Smarthost() as bad, \
                lanpost_to(bad.port, smarthost_tls="implicit") as relay:
            relay.send()
            line, = relay.wait_log("route=paused")
            self.assertIn("answered in clear where TLS was due", line)
            self.assertEqual(bad.stop(), 0)
            self.assertNotIn("AUTH", bad.transcript())

    def test_old_tls(self):
        version = subprocess.run([binary("lanpost"), "--version"], timeout=10,
                                 stdout=subprocess.PIPE, check=True).stdout
        if b"mbed TLS 2." not in version:  # knows no TLS 1.1 to play it
            with self.assertRaises(AssertionError):
                Smarthost("--tls-max", "1.1")
            return
        for limit in ("1.0", "1.1"):
            with self.subTest(limit):
                self.refuses("(too old a TLS version?)", "--tls-max", limit,
                             smarthost_tls_name=None)


@unittest.skipIf(WRAPPER, "two libraries cannot be preloaded one into the "
                          "other: faketime's, and valgrind's")
class Clock(unittest.TestCase):
    def test_1970(self):
        """A box without a battery wakes up in 1970: no certificate is valid
        yet, and the person has to learn that it is the clock."""
        libraries = glob.glob("/usr/lib/*/faketime/libfaketime.so.1")
        self.assertTrue(libraries, "no libfaketime.so.1: install faketime")
        env = {"LD_PRELOAD": libraries[0], "FAKETIME": "@1970-01-02 00:00:00",
               "TZ": "UTC", "FAKETIME_DONT_FAKE_MONOTONIC": "1",
               "DONT_FAKE_MONOTONIC": "1",
               "ASAN_OPTIONS": "verify_asan_link_order=0:detect_leaks=0"}
        with Smarthost(*LOGIN) as host, \
                lanpost_to(host.port, env=env) as relay:
            self.assertRegex(relay.log(), r"(?m)^1970-01-02T")
            relay.send()
            line, = relay.wait_log("route=paused")
            self.assertRegex(
                line, r"is valid only from \d{4}-\d\d-\d\d, and our clock "
                      r"says 1970-01-02")
            self.assertIn(" waiting=", line)
            self.assertEqual(relay.stop(), 75)  # held to the end
            self.assertEqual(len(relay.lines(" lost reason=shutdown")), 1)
            self.assertEqual(host.stop(), 0)
            self.assertNotIn("tls: ", host.transcript())
            self.assertEqual(host.ledger(), [])


if __name__ == "__main__":
    unittest.main()
