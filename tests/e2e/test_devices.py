"""Real devices' clients through lanpost to a real smarthost: Postfix with
STARTTLS and SASL. What they send arrives byte for byte.

Postfix is an instance of its own in a temporary directory, on loopback.
"""
import atexit
import os
import pwd
import re
import shutil
import smtplib
import subprocess
import tempfile
import unittest

from rig import (PASSWORD, USER, Lanpost, certificates, free_port, read,
                 tool, wait_for, wait_for_port, write)

MAIN_CF = """\
compatibility_level = 3.6
config_directory = {dir}/etc
queue_directory = {dir}/queue
data_directory = {dir}/data
maillog_file = {dir}/data/log
maillog_file_prefixes = {dir}
myhostname = postfix.test
mydestination =
inet_protocols = ipv4
inet_interfaces = 127.0.0.1
alias_maps =
alias_database =
local_recipient_maps =
local_header_rewrite_clients =
virtual_mailbox_domains = y.test
virtual_mailbox_base = {dir}/mail
virtual_mailbox_maps = inline:{{ {{ b@y.test = b/ }}, {{ c@y.test = c/ }} }}
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
virtual_minimum_uid = 1
smtpd_relay_restrictions = permit_sasl_authenticated, reject
smtpd_recipient_restrictions =
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = cyrus
smtpd_sasl_path = smtpd
cyrus_sasl_config_path = {dir}/etc/sasl
smtpd_sasl_local_domain = lanpost
smtpd_sasl_authenticated_header = yes
smtpd_tls_security_level = may
smtpd_tls_auth_only = yes
smtpd_tls_chain_files = {dir}/tls.pem
smtpd_tls_received_header = yes
smtpd_peername_lookup = no
"""

MASTER_CF = """\
127.0.0.1:{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
tlsmgr unix - - n 1000? 1 tlsmgr
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
"""

SASL_CONF = """\
pwcheck_method: auxprop
auxprop_plugin: sasldb
mech_list: {mechanisms}
sasldb_path: {dir}/etc/sasl/users
"""


class Postfix:
    def __init__(self, mechanisms="PLAIN LOGIN"):
        self.postfix = tool("postfix")
        self.directory = tempfile.mkdtemp(prefix="lanpost-postfix-")
        os.chmod(self.directory, 0o755)
        self.port = free_port()
        nobody = pwd.getpwnam("nobody")
        for name, owner in (("etc", "root"), ("queue", "root"),
                            ("data", "postfix"), ("etc/sasl", "root"),
                            ("mail", "nobody")):
            os.mkdir(self.path(name), 0o755)
            shutil.chown(self.path(name), owner)
        names = {"dir": self.directory, "port": self.port,
                 "uid": nobody.pw_uid, "gid": nobody.pw_gid,
                 "mechanisms": mechanisms}
        write(self.path("etc/main.cf"), MAIN_CF.format(**names), 0o644)
        write(self.path("etc/master.cf"), MASTER_CF.format(**names), 0o644)
        write(self.path("etc/sasl/smtpd.conf"), SASL_CONF.format(**names),
              0o644)
        write(self.path("tls.pem"), "".join(
            read(os.path.join(certificates(), name))
            for name in ("good.key", "good.pem")))
        subprocess.run([tool("saslpasswd2"), "-p", "-c", "-u", "lanpost", "-f",
                        self.path("etc/sasl/users"), USER],
                       input=PASSWORD.encode(), check=True, timeout=30)
        shutil.chown(self.path("etc/sasl/users"), "postfix")
        atexit.register(self.stop)  # should the tests be cut short
        subprocess.run([self.postfix, "-c", self.path("etc"), "start"],
                       check=True, stderr=subprocess.DEVNULL, timeout=60)
        wait_for_port(self.port, "Postfix")

    def path(self, name):
        return os.path.join(self.directory, name)

    def stop(self):
        atexit.unregister(self.stop)
        try:
            pid = int(read(self.path("queue/pid/master.pid")))
            subprocess.run([self.postfix, "-c", self.path("etc"), "stop"],
                           check=False, stderr=subprocess.DEVNULL, timeout=60)
            wait_for(lambda: not os.path.exists("/proc/%d" % pid),
                     "the end of Postfix")
        finally:
            shutil.rmtree(self.directory, True)

    def log(self):
        return read(self.path("data/log"))

    def take_mails(self, count):
        """{mailbox: bytes} of the mails that came since the last call, with
        the header fields that Postfix put on top taken off."""
        def found():
            return [os.path.join(top, name)
                    for top, _, names in os.walk(self.path("mail"))
                    if top.endswith("/new") for name in names]
        paths = wait_for(lambda: len(found()) >= count and found(),
                         lambda: "%d mails in\n%s" % (count, self.log()))
        mails = {}
        for path in paths:
            box = os.path.relpath(path, self.path("mail"))[0]
            with open(path, "rb") as file:
                whole = file.read()
            os.unlink(path)
            assert box not in mails, "twice in mailbox " + box
            mails[box] = whole
        return mails


# What Postfix adds on its way into a mailbox.
POSTFIX_HEAD = re.compile(
    rb"\A(?:(?:Return-Path|X-Original-To|Delivered-To): [^\n]*\n)+"
    rb"Received: [^\n]*\n(?:[ \t][^\n]*\n)+")

# And what lanpost adds. Its hop has two recipients: there is no "for".
OUR_HEAD = re.compile(
    rb"\AReceived: from [^\n]+ \(\[127\.0\.0\.1\]\)\n"
    rb"\tby relay\.test with E?SMTP id [0-9A-F]{8};\n\t[^\n]+\n"
    rb"(Date: [^\n]+ [+-]\d{4}\n)?(From: <a@x\.test>\n)?"
    rb"(Message-ID: <[^\n<>@]+@relay\.test>\n)?"
    rb"(MIME-Version: 1\.0\nContent-Type: text/plain; charset=windows-1252\n"
    rb"Content-Transfer-Encoding: 8bit\n)?")

FROM_DATE = (b"From: Dev <dev@x.test>\n"
             b"Date: Sat, 01 Aug 2026 10:00:00 +0200\n")
HEAD = FROM_DATE + b"Subject: s\nMessage-ID: <own@x.test>\n\n"

# Name, the mail with LF line ends: CRLF on the wire.
MAILS = (
    ("plain", HEAD + b"hello\n"),
    ("8-bit text", HEAD + "Grüße, 日本語\n".encode() +
     bytes(range(0x80, 0x100)) + b"\n"),
    ("leading dots", HEAD + b".\n..\n.a\n\n...\n.\n. \n..end\n"),
    ("2,000-byte line", HEAD + b"x" * 1998 + b".\n" + b"." * 2000 + b"\n"),
    ("no Message-ID", FROM_DATE + b"Subject: s\n\nbody\n"),
    ("no final newline", HEAD + b"one\ntwo"),
    ("all at once", FROM_DATE + b"Subject: all\n\n.\n" + b".\xe4" * 1000 +
     b"\n\n\n.end"),
)


def by_swaks(port, text, file):
    with open(file, "wb") as out:  # it adds a final newline to all it sends
        out.write(text[:-1] if text.endswith(b"\n") else text)
    done = subprocess.run(
        [tool("swaks"), "--server", "127.0.0.1", "--port", str(port), "--helo",
         "device.test", "--from", "a@x.test", "--to", "b@y.test,c@y.test",
         "--data", "@" + file], stdout=subprocess.PIPE, timeout=60)
    return done.returncode, done.stdout


def by_curl(port, text, file):
    with open(file, "wb") as out:
        out.write(text)
    done = subprocess.run(
        [tool("curl"), "--silent", "--show-error", "--crlf", "--mail-from",
         "a@x.test", "--mail-rcpt", "b@y.test", "--mail-rcpt", "c@y.test",
         "--upload-file", file, "smtp://127.0.0.1:%d/device.test" % port],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
    return done.returncode, done.stdout


def by_msmtp(port, text, _):
    done = subprocess.run(
        [tool("msmtp"), "--host=127.0.0.1", "--port=%d" % port, "--auth=off",
         "--tls=off", "--domain=device.test", "--from=a@x.test",
         "--set-msgid-header=off", "--", "b@y.test",
         "c@y.test"], input=text, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, timeout=60)
    return done.returncode, done.stdout


def by_smtplib(port, text, _):
    with smtplib.SMTP("127.0.0.1", port, "device.test", 60) as client:
        refused = client.sendmail("a@x.test", ["b@y.test", "c@y.test"],
                                  text.replace(b"\n", b"\r\n"))
    return len(refused), refused


DEVICES = (by_swaks, by_curl, by_msmtp, by_smtplib)


class Devices(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.postfix = Postfix()
        cls.addClassCleanup(cls.postfix.stop)

    def relay(self, auth, postfix=None):
        port = (postfix or self.postfix).port
        return Lanpost(smarthost="localhost:%d" % port, smarthost_auth=auth,
                       smarthost_user=USER, smarthost_password=PASSWORD)

    def passes(self, relay, send, text):
        status, words = send(relay.port, text,
                             os.path.join(relay.directory, "mail"))
        self.assertEqual(status, 0, words)
        mails = self.postfix.take_mails(2)
        self.assertEqual(sorted(mails), ["b", "c"])
        for mail in mails.values():
            self.is_the_same(mail, text)

    def is_the_same(self, mail, text):
        head = POSTFIX_HEAD.match(mail)
        self.assertTrue(head, mail)
        self.assertRegex(head[0], rb"using TLSv1\.[23] with cipher")
        self.assertRegex(head[0], rb"\(Authenticated sender: " +
                         re.escape(USER.encode()))
        mail = mail[head.end():]
        ours = OUR_HEAD.match(mail)
        self.assertTrue(ours, mail)
        self.assertIsNone(ours[1])
        self.assertIsNone(ours[2])
        self.assertEqual(ours[3] is None, b"Message-ID:" in text)
        self.assertEqual(ours[4] is None, text.isascii())
        if not text.endswith(b"\n"):
            text += b"\n"  # SMTP has no other end (RFC 5321 4.1.1.4)
        self.assertEqual(mail[ours.end():], text)

    def sends_all(self, auth, mechanism, mails):
        before = self.postfix.log()
        with self.relay(auth) as relay:
            for send in DEVICES:
                for name, text in mails:
                    with self.subTest("%s: %s" % (send.__name__, name)):
                        self.passes(relay, send, text)
            self.assertEqual(relay.stop(), 0)
            self.assertEqual(relay.lines("route=paused"), [])
            self.assertEqual(len(relay.lines(" sent")),
                             2 * len(DEVICES) * len(mails))
        logged = self.postfix.log()[len(before):]
        self.assertEqual(set(re.findall("sasl_method=([A-Z]+)", logged)),
                         {mechanism})

    def test_auto(self):
        self.sends_all("auto", "PLAIN", MAILS)

    def test_plain(self):
        self.sends_all("plain", "PLAIN", MAILS[-1:])

    def test_login(self):
        self.sends_all("login", "LOGIN", MAILS[-1:])

    def test_missing_fields_are_added(self):
        with self.relay("auto") as relay:
            relay.send(b"Subject: bare\r\n\r\nbody\r\n")
            (mail,) = self.postfix.take_mails(1).values()
            mail = mail[POSTFIX_HEAD.match(mail).end():]
            mail = mail.replace(b"\n\tfor <b@y.test>;", b";")
            ours = OUR_HEAD.match(mail)
            self.assertTrue(ours and all(ours.groups()[:3]), mail)
            self.assertEqual(mail[ours.end():], b"Subject: bare\n\nbody\n")

    def test_recipient_refused_by_postfix(self):
        with self.relay("auto") as relay:
            relay.send(to=["b@y.test", "nobody@y.test", "c@elsewhere.test"])
            line, = relay.wait_log(" refused")
            self.assertRegex(line, r'rcpt=<nobody@y\.test>.*reply="550 5\.1\.1')
            self.assertEqual(list(self.postfix.take_mails(1)), ["b"])
            relay.wait_log("rcpt=<b@y.test>")

    def test_only_login_is_offered(self):
        postfix = Postfix("LOGIN")
        self.addCleanup(postfix.stop)
        with self.relay("auto", postfix) as relay:
            relay.send()
            postfix.take_mails(1)
            self.assertIn("sasl_method=LOGIN", postfix.log())
        with self.relay("plain", postfix) as relay:
            relay.send()
            line, = relay.wait_log("route=paused")
            self.assertIn("offers no login that we can use", line)

    def test_wrong_password(self):
        with Lanpost(smarthost="localhost:%d" % self.postfix.port,
                     smarthost_user=USER, smarthost_password="wrong") as relay:
            relay.send()
            line, = relay.wait_log("route=paused")
            self.assertIn("refuses our login: check smarthost_user and the "
                          "password: 535 5.7.8", line)
            self.assertIn(" waiting=", line)
            relay.write_settings(smarthost_password=PASSWORD)
            self.assertIn("reload=done", relay.reload())
            self.assertEqual(list(self.postfix.take_mails(1)), ["b"])


if __name__ == "__main__":
    unittest.main()
