"""Real mail clients at lanpost's listeners, with and without TLS and login.

Each row is one client, one listener, one way to encrypt, one way to log in.
The mail is looked at where it arrives, at the try-out smarthost, and in the
log. The listeners are those of mail servers: "25" asks for nothing, "465"
speaks TLS from the first byte, "587" wants TLS and a login, and "587 open"
TLS alone. "25 patient" waits for a TLS hello longer than a client takes to
load its library on a busy machine.
"""
import base64
import concurrent.futures
import email
import email.policy
import functools
import itertools
import json
import os
import re
import smtplib
import ssl
import subprocess
import tempfile
import threading
import unittest
import urllib.parse

from rig import (PASSWORD, SLOW, USER, Lanpost, Smarthost, busybox_sendmail,
                 certificates, tool)

SECONDS = 60 * SLOW
AT_A_TIME = 4
ANYONE = "127.0.0.0/8"
HEAD = """\
Date: Sat, 01 Aug 2026 10:00:00 +0200
From: Dev <a@x.test>
To: b@y.test
Subject: %s
Message-ID: <%s@x.test>
MIME-Version: 1.0
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit

"""
BODY = "Grüße\n.\n..two\n.one\n\nend\n"


class Way:
    """What a client is told: where to, and how."""

    def __init__(self, port, tls, login, trust=None, password=PASSWORD):
        self.port = port
        self.tls = tls          # None, "starttls" or "implicit"
        self.login = login      # None, "PLAIN" or "LOGIN"
        self.trust = trust      # PEM file of authorities; None: any will do
        self.password = password


# ---- The clients: each sends a mail, and returns its status and words -------

def run(command, mail=b"", **env):
    done = subprocess.run(command, input=mail, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=SECONDS,
                          env={**os.environ, **env}, check=False)
    return done.returncode, done.stdout.decode(errors="replace")


def in_file(mail):
    file = tempfile.NamedTemporaryFile(prefix="lanpost-mail-")
    file.write(mail)
    file.flush()
    return file


def swaks(port, mail, *options):
    with in_file(mail[:-1]) as file:  # it adds a newline
        return run([tool("swaks"), "--server", "127.0.0.1", "--port",
                    str(port), "--helo", "device.test", "--from", "a@x.test",
                    "--to", "b@y.test", "--data", "@" + file.name, *options])


def by_swaks(way, mail):
    options = {None: [], "starttls": ["--tls"],
               "implicit": ["--tls-on-connect"]}[way.tls]
    if way.login:
        options += ["--auth", way.login, "--auth-user", USER,
                    "--auth-password", way.password]
    if way.trust:
        options += ["--tls-verify", "--tls-ca-path", way.trust]
    return swaks(way.port, mail, *options)


def openssl_command(way):
    command = [tool("openssl"), "s_client", "-quiet", "-connect",
               "127.0.0.1:%d" % way.port]
    if way.tls == "starttls":
        command += ["-starttls", "smtp", "-name", "device.test"]
    if way.trust:
        command += ["-CAfile", way.trust, "-verify_return_error",
                    "-verify_ip", "127.0.0.1"]
    return command


def in_base64(text):
    return base64.b64encode(text.encode())


def login_words(way):
    if way.login == "PLAIN":
        return [b"AUTH PLAIN " + in_base64("\0%s\0%s" % (USER, way.password))]
    if way.login == "LOGIN":
        return [b"AUTH LOGIN", in_base64(USER), in_base64(way.password)]
    return []


def by_openssl(way, mail, *options):
    """The hands of a person at openssl s_client."""
    with tempfile.TemporaryFile() as errors, subprocess.Popen(
            openssl_command(way) + list(options), stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=errors) as client:
        late = threading.Timer(SECONDS, client.kill)
        late.start()
        heard = []

        def is_taken():
            for line in client.stdout:
                heard.append(line)
                if line[3:4] != b"-":
                    return line[:1] in b"23"
            return False

        good = way.tls == "starttls" or is_taken()  # it eats the greeting
        try:
            for word in (b"EHLO device.test", *login_words(way),
                         b"MAIL FROM:<a@x.test>", b"RCPT TO:<b@y.test>",
                         b"DATA", mail.replace(b"\n.", b"\n..").replace(
                             b"\n", b"\r\n") + b".", b"QUIT"):
                if good:
                    client.stdin.write(word + b"\r\n")
                    client.stdin.flush()
                    good = is_taken()
        except BrokenPipeError:
            good = False
        if not good:
            client.kill()
        client.wait()
        late.cancel()
        errors.seek(0)
        return 0 if good else 1, (errors.read() + b"".join(heard)).decode()


def by_curl(way, mail, *options):
    options = list(options)
    if way.tls == "starttls":
        options += ["--ssl-reqd"]
    if way.tls:
        options += ["--cacert", way.trust] if way.trust else ["--insecure"]
    if way.login:
        options += ["--user", USER + ":" + way.password, "--login-options",
                    "AUTH=" + way.login]
    with in_file(mail.replace(b"\n", b"\r\n")) as file:
        return run([tool("curl"), "--silent", "--show-error", "--mail-from",
                    "a@x.test", "--mail-rcpt", "b@y.test", "--upload-file",
                    file.name, *options, "%s://127.0.0.1:%d/device.test" % (
                        "smtps" if way.tls == "implicit" else "smtp",
                        way.port)])


def by_msmtp(way, mail):
    options = ["--tls=" + ("on" if way.tls else "off")]
    if way.tls:
        options += ["--tls-starttls=" +
                    ("on" if way.tls == "starttls" else "off")]
        options += (["--tls-trust-file=" + way.trust] if way.trust else
                    ["--tls-trust-file=", "--tls-certcheck=off"])
    if way.login:
        options += ["--auth=" + way.login.lower(), "--user=" + USER,
                    "--passwordeval=printenv SECRET"]
    else:
        options += ["--auth=off"]
    return run([tool("msmtp"), "--host=127.0.0.1", "--port=%d" % way.port,
                "--domain=device.test", "--from=a@x.test", *options, "--",
                "b@y.test"], mail, SECRET=way.password)


def by_smtplib(way, mail, is_picky=True):
    """is_picky: it takes the mechanism that it is told to."""
    context = ssl.create_default_context(cafile=way.trust)
    if not way.trust:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    where = "127.0.0.1", way.port, "device.test"
    try:
        with (smtplib.SMTP_SSL(*where, timeout=SECONDS, context=context)
              if way.tls == "implicit" else
              smtplib.SMTP(*where, timeout=SECONDS)) as client:
            if way.tls == "starttls":
                client.starttls(context=context)
            if way.login and not is_picky:
                client.login(USER, way.password)
            elif way.login:
                client.ehlo()
                client.user, client.password = USER, way.password
                client.auth(way.login, getattr(
                    client, "auth_" + way.login.lower()))
            client.sendmail("a@x.test", "b@y.test",
                            mail.replace(b"\n", b"\r\n"))
    except (smtplib.SMTPException, OSError) as error:
        return 1, repr(error)
    return 0, ""


NODEMAILER = """
const { how, mail } = JSON.parse(process.argv[1]);
require("nodemailer").createTransport(how).sendMail(mail).catch((error) => {
    console.error(error.message);
    process.exit(1);
});
"""


def nodemailer(way, mail):
    how = {"host": "127.0.0.1", "port": way.port, "name": "device.test",
           "secure": way.tls == "implicit",
           "requireTLS": way.tls == "starttls", "ignoreTLS": way.tls is None,
           "tls": {"rejectUnauthorized": bool(way.trust)}}
    if way.trust:
        with open(way.trust, encoding="ascii") as file:
            how["tls"]["ca"] = file.read()
    if way.login:
        how["authMethod"] = way.login
        how["auth"] = {"user": USER, "pass": way.password}
    # A node that is not Debian's does not look where Debian puts modules.
    return run([tool("node"), "-e", NODEMAILER,
                json.dumps({"how": how, "mail": mail})],
               NODE_PATH="/usr/share/nodejs")


def by_nodemailer(way, mail):
    return nodemailer(way, {
        "envelope": {"from": "a@x.test", "to": "b@y.test"},
        "raw": mail.decode()})


def by_nodemailer_itself(way, mail):
    head, body = mail.decode().split("\n\n", 1)
    return nodemailer(way, {
        "from": "Dev <a@x.test>", "to": "b@y.test", "text": body,
        "subject": re.search("(?m)^Subject: (.*)$", head)[1]})


def by_busybox(way, mail):
    options = ["-S", "127.0.0.1:%d" % way.port]
    if way.tls:  # its way to encrypt is to have it done
        options = ["-H", "exec " + " ".join(openssl_command(way)) +
                   " 2>/dev/null"]
    if way.login:
        options += ["-am" + way.login, "-au" + USER, "-ap" + way.password]
    return run([busybox_sendmail(), "-f", "a@x.test", *options, "b@y.test"],
               mail)


def by_s_nail(way, mail):
    head, body = mail.split(b"\n\n", 1)
    account = ""
    if way.login:
        account = "%s:%s@" % (USER, urllib.parse.quote(way.password, ""))
    options = {
        "mta": "%s://%slocalhost:%d" % (
            "smtps" if way.tls == "implicit" else "smtp", account, way.port),
        "smtp-auth": (way.login or "none").lower(), "from": "a@x.test",
        "hostname": "device.test", "ttycharset": "utf-8",
        "sendcharsets": "utf-8", "mime-encoding": "8bit",
        "tls-verify": "strict" if way.trust else "ignore"}
    if way.trust:
        options["tls-ca-file"] = way.trust
    words = ["v15-compat=yes", "sendwait", "nosave", "tls-ca-no-defaults"]
    words += ["%s=%s" % pair for pair in options.items()]
    if way.tls == "starttls":
        words.append("smtp-use-starttls")
    subject = re.search(rb"(?m)^Subject: (.*)$", head)[1].decode()
    return run([tool("s-nail"), "-:/", *("-S" + word for word in words), "-s",
                subject, "b@y.test"], body)


CLIENTS = (by_swaks, by_openssl, by_curl, by_msmtp, by_smtplib, by_nodemailer,
           by_busybox, by_s_nail)
COMPOSERS = (by_s_nail, by_nodemailer_itself)  # they write the header

# Listener, how to encrypt, how to log in.
DELIVERS = (
    ("25", None, None), ("25", None, "PLAIN"), ("25", None, "LOGIN"),
    ("25", "starttls", None), ("25", "starttls", "PLAIN"),
    ("25", "starttls", "LOGIN"),
    ("25 patient", "implicit", None),  # a device set to "SSL", not to 465
    ("25 patient", "implicit", "PLAIN"),
    ("587 open", "starttls", None), ("587 open", "starttls", "LOGIN"),
    ("587", "starttls", "PLAIN"), ("587", "starttls", "LOGIN"),
    ("465", "implicit", None), ("465", "implicit", "PLAIN"),
    ("465", "implicit", "LOGIN"),
)
IS_REFUSED = (
    ("587", None, None), ("587", None, "PLAIN"), ("587", "starttls", None),
    ("587 open", None, None),
)

LOGIN = ("--auth-user", USER, "--auth-password", PASSWORD)

# The same, and the options of swaks that get there.
SWAKS = (
    ("25", "starttls", None, "-tls"),
    ("25", "starttls", None, "--tls-optional"),
    ("25", "starttls", None, "--tls-optional-strict"),
    ("465", "implicit", None, "-tlsc"),
    ("25 patient", "implicit", None, "-tlsc"),
    ("25", "starttls", None, "--protocol", "ESMTPS"),
    ("465", "implicit", None, "--protocol", "SSMTP"),
    ("465", "implicit", "LOGIN", "--protocol", "SSMTPA", *LOGIN),
    ("25", "starttls", "LOGIN", "--protocol", "ESMTPSA", *LOGIN),
    ("25", None, "LOGIN", "--protocol", "ESMTPA", *LOGIN),
    ("25", "starttls", None, "--tls", "--tls-protocol", "tlsv1_2"),
    ("25", "starttls", None, "--tls", "--tls-protocol",
     "no_sslv2,no_sslv3,no_tlsv1,no_tlsv1_1"),
    ("25", "starttls", None, "--tls", "--tls-protocol", "tlsv1_2",
     "--tls-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"),
    ("587 open", "starttls", None, "--tls", "--tls-protocol", "tlsv1_2",
     "--tls-cipher", "ECDHE-RSA-AES256-GCM-SHA384"),
    ("25", "starttls", None, "--tls", "--tls-sni", "printer.test"),
    ("25", "starttls", None, "--tls", "--tls-cert", "{certs}/good.pem",
     "--tls-key", "{certs}/good.key"),
    ("25", "starttls", None, "--tls", "--tls-get-peer-cert", "/dev/null"),
    ("587", "starttls", "PLAIN", "--tls", "--tls-verify", "--tls-ca-path",
     "{certs}/ca.pem", "--auth", "PLAIN", *LOGIN),
    ("25", None, "LOGIN", "--auth", *LOGIN),
    ("25", None, "LOGIN", "-a", "LOGIN", "-au", USER, "-ap", PASSWORD),
    ("25", None, "LOGIN", "--auth", "CRAM-MD5,PLAIN,LOGIN", *LOGIN),
    ("25", None, "LOGIN", "--auth-optional", "LOGIN", *LOGIN),
    ("25", None, "PLAIN", "--auth-optional-strict", "PLAIN", *LOGIN),
    ("25", None, None, "--auth-optional", "CRAM-MD5", *LOGIN),
    ("25", None, "PLAIN", "--auth", "PLAIN", "--auth-plaintext",
     "--auth-hide-password", *LOGIN),
    ("25", "starttls", "LOGIN", "--tls-optional", "--auth-optional", *LOGIN),
    ("25", None, None, "--pipeline"),
    ("25", None, "PLAIN", "--pipeline", "--auth", "PLAIN", *LOGIN),
    ("25", "starttls", None, "--pipeline", "--tls"),
    ("587", "starttls", "LOGIN", "--pipeline", "--tls", "--auth", *LOGIN),
    ("465", "implicit", "PLAIN", "--pipeline", "--tlsc", "--auth", "PLAIN",
     *LOGIN),
)

OPENSSL = (
    ("25", "starttls", None, "-tls1_2"),
    ("465", "implicit", None, "-tls1_2"),
    ("25 patient", "implicit", None, "-tls1_2"),
    ("25", "starttls", None, "-groups", "P-256"),
    ("25", "starttls", None, "-groups", "X25519:P-384:P-256"),
    ("25", "starttls", None, "-no_ticket", "-servername", "printer.test"),
    ("25", "starttls", None, "-maxfraglen", "512"),
    ("465", "implicit", None, "-max_send_frag", "512"),
    ("465", "implicit", "PLAIN", "-alpn", "smtp"),
    ("587 open", "starttls", None, "-sigalgs", "RSA-PSS+SHA256:RSA+SHA256"),
    ("465", "implicit", None, "-cert", "{certs}/good.pem", "-key",
     "{certs}/good.key"),
)

CURL = (
    ("25", "starttls", None, "--tlsv1.2"),
    ("25", "starttls", "PLAIN", "--sasl-ir"),
    ("465", "implicit", "LOGIN", "--sasl-ir"),
    ("465", "implicit", None, "--tlsv1.2", "--tls-max", "1.2"),
)

RECEIVED = re.compile(
    rb"\AReceived: from [^\n]+ \(\[127\.0\.0\.1\]\)\n"
    rb"\tby relay\.test with (\w+) id ([0-9A-F]{8})\n"
    rb"\tfor <b@y\.test>;\n\t[^\n]+ [+-]\d{4}\n")


def with_options(send, options, way, mail):
    return send(way, mail, *options)


class Clients(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        busybox_sendmail()
        cls.sink = cls.enterClassContext(Smarthost())
        cls.numbers = itertools.count(1)
        ca = os.path.join(certificates(), "ca.pem")
        users = {USER: PASSWORD}
        mild = cls.relay(users=users, tls=True, tls_detect_ms=None)
        patient = cls.relay(users=users, tls_detect_ms=5000)
        strict = cls.relay(cert="chain", users=users, require_tls=ANYONE,
                           require_auth=ANYONE)
        open_ = cls.relay(cert="good_rsa", require_tls=ANYONE)
        cls.listeners = {  # relay, port, whom to trust
            "25": (mild, mild.port, None), "465": (mild, mild.tls_port, None),
            "25 patient": (patient, patient.port, None),
            "587": (strict, strict.port, ca),
            "587 open": (open_, open_.port, ca)}

    @classmethod
    def relay(cls, cert=None, **settings):
        if cert:
            path = os.path.join(certificates(), cert)
            settings.update(tls_cert_file=path + ".pem",
                            tls_key_file=path + ".key")
        return cls.enterClassContext(Lanpost(
            smarthost="localhost:%d" % cls.sink.port, **settings))

    def way(self, name, tls, login):
        _, port, trust = self.listeners[name]
        return Way(port, tls, login, trust if tls else None)

    def new_mail(self):
        subject = "mail-%d" % next(self.numbers)
        return subject, (HEAD % (subject, subject) + BODY).encode()

    def in_parallel(self, rows):
        """[(row, subject, text, status, words)]; a row starts with what to
        call: call(way, mail)."""
        def job(row):
            call, name, tls, login = row[:4]
            subject, text = self.new_mail()
            return row, subject, text, *call(self.way(name, tls, login), text)

        with concurrent.futures.ThreadPoolExecutor(AT_A_TIME) as pool:
            return list(pool.map(job, rows))

    def deliver(self, rows):
        """Each row: call, listener, tls, login, and what to call the row."""
        before = len(self.sink.ledger())
        done = self.in_parallel(rows)
        good = sum(status == 0 for *_, status, _ in done)
        self.sink.wait_ledger(before + good, 30)
        mails = self.sink.mails()
        for row, subject, text, status, words in done:
            with self.subTest(row[4].__name__, how=row[1:4],
                              options=getattr(row[0], "args", ())[1:]):
                self.assertEqual(status, 0, words)
                line = b"\nSubject: %s\n" % subject.encode()
                (mail, env), = [
                    (mail.replace(b"\r\n", b"\n"), env) for mail, env in mails
                    if line.replace(b"\n", b"\r\n") in mail]
                self.assertEqual((env["from"], env["to"]),
                                 ("a@x.test", "b@y.test"))
                self.arrived(row, mail, text)

    def arrived(self, row, mail, text):
        _, name, tls, login, client = row
        received = RECEIVED.match(mail)
        self.assertTrue(received, mail)
        # Where s-nail has no use for EHLO, it says HELO.
        self.assertEqual(received[1].decode(), "SMTP" if client is by_s_nail
                         and not login else "ESMTP" + "S" * bool(tls) +
                         "A" * bool(login))
        line, = self.listeners[name][0].lines(
            " in    id=%s " % received[2].decode())
        self.assertRegex(line, r" from=<a@x\.test> rcpt=1 .* tls=%s auth=%s "
                         "accepted" % (r"TLSv1\.[23]" if tls else "-",
                                       USER if login else "-"))
        rest = mail[received.end():]
        if client not in COMPOSERS:
            self.assertNotIn("repaired=", line)
            self.assertEqual(rest, text)
            return
        wanted, found = (email.message_from_bytes(
            part, policy=email.policy.SMTP) for part in (text, rest))
        self.assertEqual(found.get_content(), wanted.get_content())
        for field in ("From", "To", "Date", "Message-ID"):
            self.assertEqual(len(found.get_all(field, [])), 1, field)
        self.assertEqual(found["From"].addresses[0].addr_spec, "a@x.test")

    def test_every_client_everywhere(self):
        self.deliver([(client, *how, client) for client in CLIENTS
                      for how in DELIVERS
                      if how[1] or client is not by_openssl])
        for relay, *_ in self.listeners.values():
            self.keeps_secret(relay, PASSWORD)

    def keeps_secret(self, relay, password):
        for text in (password, in_base64(password).decode(),
                     in_base64("\0%s\0%s" % (USER, password)).decode()):
            self.assertNotIn(text, relay.log())

    def test_options(self):
        rows = []
        for client, send, table in (
                (by_swaks, lambda way, mail, *options: swaks(
                    way.port, mail, *options), SWAKS),
                (by_openssl, by_openssl, OPENSSL), (by_curl, by_curl, CURL)):
            for name, tls, login, *options in table:
                rows.append((functools.partial(with_options, send, [
                    option.replace("{certs}", certificates())
                    for option in options]), name, tls, login, client))
        for how in (("25", None, None), ("587", "starttls", "PLAIN")):
            rows.append((by_nodemailer_itself, *how, by_nodemailer_itself))
            rows.append((functools.partial(by_smtplib, is_picky=False), *how,
                         by_smtplib))
        self.deliver(rows)

    def test_refused_without_tls_or_login(self):
        """What 587 wants is not to be had from the client's side alone."""
        before = self.sink.ledger()
        rows = [(client, *how) for client in CLIENTS for how in IS_REFUSED
                if how[1] or client is not by_openssl]
        for row, _, _, status, words in self.in_parallel(rows):
            with self.subTest(row[0].__name__, how=row[1:]):
                self.assertNotEqual(status, 0, words)
                if row[0] in (by_swaks, by_openssl, by_s_nail):
                    self.assertRegex(words, r"530 5\.7\.0|"
                                     "did not advertise authentication")
        self.assertEqual(self.sink.ledger(), before)

    def test_wrong_password(self):
        for client in CLIENTS:
            tls = "starttls" if client is by_openssl else None
            with self.subTest(client.__name__), Lanpost(
                    smarthost="localhost:%d" % self.sink.port,
                    users={USER: PASSWORD}) as relay:
                status, words = client(Way(
                    relay.port, tls, "LOGIN", password="sesame"),
                    self.new_mail()[1])
                self.assertNotEqual(status, 0, words)
                line = relay.wait_log(" refused why=")[0]
                self.assertRegex(
                    line, r' in +client=127\.0\.0\.1 helo="[^"]+" refused '
                    'why="wrong user or password, as %s" advice="[^"]+' % USER)
                self.keeps_secret(relay, "sesame")
                self.assertEqual(relay.lines(" accepted"), [])

    def test_certificate_not_trusted(self):
        """The log says so, or that it may be so: some only hang up."""
        relay = self.listeners["25"][0]
        other = os.path.join(certificates(), "other_ca.pem")
        for client in CLIENTS:
            for port, tls in ((relay.port, "starttls"),
                              (relay.tls_port, "implicit")):
                with self.subTest(client.__name__, tls=tls):
                    before = relay.lines(" refused why=")
                    status, words = client(Way(port, tls, None, other),
                                           self.new_mail()[1])
                    self.assertNotEqual(status, 0, words)
                    if client in (by_msmtp, by_nodemailer):
                        continue  # they look once the handshake is done
                    line = relay.wait_log(" refused why=",
                                          count=len(before) + 1)[-1]
                    sure = 'why="it does not trust our certificate"'
                    if client in (by_openssl, by_busybox) or sure in line:
                        self.assertRegex(line, sure + ' advice="[^"]+')
                    else:
                        self.assertRegex(
                            line,
                            'why="it hung up (during|right after) the TLS '
                            'handshake" '
                            'advice="it may not trust our certificate')

    def test_tls_1_3(self):
        """Served where the library has it; else refused, and nothing hangs."""
        relay, port, _ = self.listeners["465"]
        version = re.search(r'tls="[^"0-9]*(\d+)\.(\d+)', relay.log())
        subject, mail = self.new_mail()
        status, words = by_openssl(Way(port, "implicit", None), mail,
                                   "-tls1_3")
        if (int(version[1]), int(version[2])) >= (3, 6):
            self.assertEqual(status, 0, words)
            self.assertIn(" tls=TLSv1.3 ", relay.wait_log(" accepted")[-1])
        else:
            self.assertNotEqual(status, 0, words)
            self.assertRegex(words, "alert (protocol version|handshake fail)")
            line = b"\nSubject: %s\r" % subject.encode()
            self.assertFalse([mail for mail, _ in self.sink.mails()
                              if line in mail])


if __name__ == "__main__":
    unittest.main()
