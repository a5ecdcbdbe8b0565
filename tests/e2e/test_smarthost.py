"""The try-out smarthost itself: it judges lanpost, so it is tested first."""
import base64
import os
import signal
import smtplib
import socket
import ssl
import subprocess
import time
import unittest

from rig import BUILD, TEXT, Smarthost, tls_context


def send(client, text=TEXT, to="b@y"):
    return client.sendmail("a@x", to, text)


class Plain(unittest.TestCase):
    def test_mail_is_kept_byte_by_byte(self):
        body = (b"Subject: dots\r\nMessage-ID:\r\n <dots@test>\r\n\r\n"
                b".\r\n..\r\n.a\r\n\r\n.\r\n" + bytes([0x80, 0xff]) +
                b"\r\nend\r\n")
        stuffed = body.replace(b"\r\n.", b"\r\n..")
        with Smarthost(cert=None) as host, host.wire() as wire:
            wire.open_mail()
            self.assertEqual(wire.ask(b"DATA")[:3], b"354")
            for i in range(len(stuffed)):
                wire.send(stuffed[i:i + 1])
            self.assertEqual(wire.ask(b".")[:3], b"250")
            (text, env), = host.mails()
            self.assertEqual(text, body)
            self.assertEqual(env["from"], "a@x")
            self.assertEqual(env["to"], "b@y")
            self.assertEqual(env["tls"], "")
            self.assertEqual(env["helo"], "client.test")
            self.assertEqual(env["bytes"], str(len(body)))
            self.assertEqual(env["notes"], "eight_bit")
            self.assertEqual(host.ledger(), ["<dots@test> <a@x> <b@y>"])

    def test_only_crlf_dot_crlf_ends_a_mail(self):
        fakes = [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r",
                 b"\r\n.\rx", b"\n.\r\r\n", b"\0\n.\r\n"]
        with Smarthost(cert=None) as host, host.wire() as wire:
            wire.open_mail()
            wire.ask(b"DATA")
            wire.send(b"x".join(fakes))
            self.assertEqual(wire.ask(b"\r\n.")[:3], b"250")
            (text, env), = host.mails()
            unstuffed = b"x".join(fakes).replace(b"\r\n.", b"\r\n") + b"\r\n"
            self.assertEqual(text, unstuffed)
            self.assertEqual(env["notes"], "bare_lf,bare_cr,nul")

    def test_empty_mail_and_null_reverse_path(self):
        with Smarthost(cert=None) as host, host.client() as client:
            client.ehlo()
            client.mail("")
            client.rcpt("b@y")
            client.rcpt("c@z")
            client.putcmd("data")
            client.getreply()
            client.send(b".\r\n")
            self.assertEqual(client.getreply()[0], 250)
            self.assertEqual(host.mails()[0][0], b"")
            self.assertEqual(host.ledger(), ["- <> <b@y,c@z>"])

    def test_many_mails_on_one_connection_and_pipelining(self):
        one = (b"MAIL FROM:<a@x> SIZE=9 BODY=8BITMIME\r\nRCPT TO:<b@y>\r\n"
               b"BDAT 9 LAST\r\nA: b\r\n\r\nc")
        with Smarthost(cert=None) as host, host.wire() as wire:
            wire.reply()
            wire.ask(b"EHLO client.test")
            wire.send(one * 500)
            self.assertEqual({wire.reply()[:3] for _ in range(1500)},
                             {b"250"})
            self.assertEqual(len(host.ledger()), 500)
            self.assertEqual(host.mails()[0][0], b"A: b\r\n\r\nc")
            self.assertEqual(host.mails()[0][1]["mail_args"],
                             "SIZE=9 BODY=8BITMIME")
            self.assertEqual(host.mails()[0][1]["notes"], "")

    def test_big_mail(self):
        body = (b"y" * 998 + b"\r\n") * 20000
        with Smarthost(cert=None) as host, host.client() as client:
            send(client, body)
            self.assertEqual(host.mails()[0][0], body)

    def test_chunks(self):
        with Smarthost("--size", "100", cert=None) as host, \
                host.wire() as wire:
            wire.open_mail()
            wire.send(b"BDAT 4\r\n.\n\r\r")
            self.assertEqual(wire.reply()[:3], b"250")
            self.assertEqual(wire.ask(b"DATA")[:3], b"503")
            self.assertEqual(wire.ask(b"BDAT 0 LAST")[:3], b"250")
            text, env = host.mails()[0]
            self.assertEqual(text, b".\n\r\r")
            self.assertEqual(env["verb"], "BDAT")
            # A chunk that nobody wants is still no command.
            self.assertEqual(wire.ask(b"BDAT 6 LAST\r\nQUIT")[:3], b"503")
            wire.ask(b"RSET")
            wire.ask(b"MAIL FROM:<a@x>")
            wire.ask(b"RCPT TO:<b@y>")
            self.assertEqual(wire.ask(b"BDAT 102\r\n" + b"x" * 100)[:3],
                             b"552")
            self.assertEqual(wire.ask(b"BDAT 0 LAST")[:3], b"503")
            self.assertEqual(len(host.ledger()), 1)

    def test_refusals(self):
        talk = [
            (b"MAIL FROM:<a@x>", b"503"),
            (b"EHLO", b"501"),
            (b"EHLO me", b"250"),
            (b"RCPT TO:<b@y>", b"503"),
            (b"MAIL FROM: <a@x>", b"501"),
            (b"MAIL FROM:a@x", b"501"),
            (b"MAIL FROM:<a@x> FOO=1", b"555"),
            (b"MAIL FROM:<a@x> SIZE=x", b"501"),
            (b"MAIL FROM:<a@x> SIZE=99999999999999999999", b"552"),
            ("MAIL FROM:<ü@x>".encode(), b"553"),
            (b"MAIL FROM:<\"a> b\"@x>", b"250"),
            (b"MAIL FROM:<a@x>", b"503"),
            (b"DATA", b"554"),
            ("RCPT TO:<ü@x>".encode(), b"553"),
            (b"RCPT TO:<b@y>", b"250"),
            (b"RCPT TO:<c@y>", b"452"),
            (b"RSET", b"250"),
            ("MAIL FROM:<ü@x> SMTPUTF8".encode(), b"250"),
            ("RCPT TO:<ü@x>".encode(), b"250"),
            (b"NOOP " + b"x" * 20000, b"500"),
            (b"NO\0OP", b"500"),
            (b"NOOP", b"250"),
            (b"STARTTLS", b"503"),
            (b"HELP", b"500"),
            (b"QUIT", b"221"),
        ]
        with Smarthost("--max-rcpt", "1", cert=None) as host, \
                host.wire() as wire:
            wire.reply()
            for command, code in talk:
                self.assertEqual(wire.ask(command)[:3], code, command[:60])
            self.assertEqual(wire.rest(), b"")
            self.assertEqual(host.ledger(), [])

    def test_keywords(self):
        with Smarthost("--without", "PIPELINING", "--without", "size",
                       "--without", "ENHANCEDSTATUSCODES", "--without",
                       "CHUNKING", "--keyword", "LIMITS RCPTMAX=1",
                       "--auth-before-tls") as host, \
                host.client() as client:
            client.ehlo()
            self.assertEqual(set(client.esmtp_features),
                             {"starttls", "auth", "8bitmime", "smtputf8",
                              "limits"})
            self.assertEqual(client.docmd("NOOP"), (250, b"Ok"))
            self.assertEqual(client.docmd("BDAT 0 LAST")[0], 502)
            client.send(b"MAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\n")
            client.getreply()
            client.getreply()
            client.data(b"x")
            self.assertEqual(host.mails()[0][1]["notes"], "pipelined")

    def test_limits(self):
        with Smarthost("--max-mails", "1", "--size", "50",
                       cert=None) as host, host.client() as client:
            client.ehlo()
            client.mail("a@x")
            client.rcpt("b@y")
            self.assertEqual(client.data(b"z" * 60)[0], 552)
            send(client)
            self.assertEqual(client.docmd("MAIL FROM:<a@x>")[0], 421)
            with self.assertRaises(smtplib.SMTPServerDisconnected):
                client.docmd("NOOP")
            self.assertEqual(len(host.ledger()), 1)
            self.assertEqual(len(os.listdir(host.save_path)), 2)

    def test_print_shows_mail_but_no_escapes(self):
        with Smarthost("--print", cert=None) as host, \
                host.client() as client:
            send(client, b"Subject: toner\r\n\r\n\x1b[2Jlow\r\n")
            client.quit()
            shown = b"".join(iter(host.process.stdout.readline,
                                  b"---- end of mail 1\n"))
            self.assertIn(b"mail 1: toner", shown)
            self.assertIn(b"from <a@x> to <b@y>", shown)
            self.assertIn(b"?[2Jlow", shown)

    def test_stops_at_once_with_its_children(self):
        host = Smarthost(cert=None)
        with host, host.wire() as wire:
            wire.reply()
            begin = time.monotonic()
            self.assertEqual(host.stop(), 0)
            self.assertEqual(wire.rest(), b"")
            self.assertLess(time.monotonic() - begin, 5)

    def test_ipv6(self):
        try:
            socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        except OSError:
            self.skipTest("no IPv6 here")
        with Smarthost(cert=None, listen="[::1]:0") as host:
            with socket.create_connection(("::1", host.port), 10) as s:
                self.assertEqual(s.recv(4), b"220 ")


class Tls(unittest.TestCase):
    def test_starttls_forgets_all_and_is_checked(self):
        with Smarthost() as host, host.client() as client:
            client.ehlo()
            self.assertNotIn("auth", client.esmtp_features)
            client._host = "localhost"
            client.starttls(context=tls_context())
            self.assertEqual(client.docmd("MAIL FROM:<a@x>")[0], 503)
            client.ehlo()
            self.assertIn("auth", client.esmtp_features)
            self.assertNotIn("starttls", client.esmtp_features)
            send(client)
            self.assertRegex(host.mails()[0][1]["tls"], r"^TLSv1\.[23]$")
            seen = host.transcript()
            self.assertIn("clear: STARTTLS\\r\\x0a\n", seen)
            self.assertIn("tls: mail FROM:<a@x>", seen)
            self.assertNotIn("clear: mail", seen)

    def test_implicit_tls(self):
        with Smarthost("--implicit") as host:
            client = smtplib.SMTP_SSL("localhost", host.port, timeout=10,
                                      context=tls_context())
            with client:
                send(client)
            self.assertEqual(len(host.ledger()), 1)

    def test_required_tls(self):
        with Smarthost("--require-tls") as host, host.client() as client:
            client.ehlo()
            self.assertEqual(client.docmd("MAIL FROM:<a@x>")[0], 530)
            self.assertEqual(client.docmd("NOOP")[0], 250)

    def test_plain_text_instead_of_a_handshake_is_seen(self):
        with Smarthost() as host, host.wire() as wire:
            wire.reply()
            wire.ask(b"EHLO me")
            self.assertEqual(wire.ask(b"STARTTLS")[:3], b"220")
            wire.send(b"AUTH PLAIN c2VjcmV0\r\n")
            try:
                self.assertEqual(wire.rest(), b"")
            except ConnectionResetError:
                pass
            self.assertIn("clear: AUTH PLAIN c2VjcmV0", host.transcript())

    def test_bytes_behind_starttls(self):
        with Smarthost() as host, host.wire() as wire:
            wire.reply()
            wire.ask(b"EHLO me")
            wire.send(b"STARTTLS\r\nNOOP\r\n")
            self.assertEqual(wire.reply()[:3], b"501")

    def handshake(self, name, server_name="localhost"):
        with Smarthost(cert=name) as host, host.client() as client:
            client._host = server_name
            try:
                client.starttls(context=tls_context())
            except ssl.SSLError:
                return False
            return client.noop()[0] == 250

    def test_good_certificates_pass(self):
        for name in ("good", "good_rsa", "chain"):
            with self.subTest(name):
                self.assertTrue(self.handshake(name))

    def test_bad_certificates_fail(self):
        for name in ("missing_intermediate", "wrong_name", "expired",
                     "not_yet", "unknown_ca", "self_signed", "cn_only",
                     "wildcard_bad", "small_rsa", "sha1", "nul_san"):
            with self.subTest(name):
                self.assertFalse(self.handshake(name))
        self.assertFalse(self.handshake("ip_in_cn", "127.0.0.1"))
        self.assertFalse(self.handshake("nul_san", "smarthost.test"))


class Auth(unittest.TestCase):
    def setUp(self):
        self.host = Smarthost("--user", "nas", "--password", "secret",
                              "--auth", "PLAIN LOGIN XOAUTH2 OAUTHBEARER")
        self.addCleanup(self.host.__exit__)
        self.client = self.host.client(tls=True)
        self.addCleanup(self.client.close)
        self.client.ehlo()

    def code(self, text):
        return self.client.docmd(text)[0]

    def test_mail_needs_login(self):
        self.assertEqual(self.code("MAIL FROM:<a@x>"), 530)
        self.client.user, self.client.password = "nas", "secret"
        self.client.auth("PLAIN", self.client.auth_plain)
        send(self.client)
        self.assertEqual(self.host.mails()[0][1]["auth"], "nas")
        self.assertEqual(self.code("AUTH PLAIN AAA="), 503)

    def test_plain_both_ways_and_wrong(self):
        token = base64.b64encode(b"\0nas\0secret").decode()
        wrong = base64.b64encode(b"\0nas\0Secret").decode()
        self.assertEqual(self.code("AUTH PLAIN " + wrong), 535)
        self.assertEqual(self.code("AUTH PLAIN ="), 535)
        self.assertEqual(self.code("AUTH PLAIN !!!"), 501)
        self.assertEqual(self.code("AUTH PLAIN AG5hcw=="), 535)
        self.assertEqual(self.code("AUTH CRAM-MD5"), 504)
        self.assertEqual(self.code("AUTH PLAIN"), 334)
        self.assertEqual(self.code("*"), 501)
        self.assertEqual(self.code("AUTH PLAIN"), 334)
        self.assertEqual(self.code(token), 235)

    def test_login_both_ways(self):
        user, password = (base64.b64encode(b).decode()
                          for b in (b"nas", b"secret"))
        self.assertEqual(self.client.docmd("AUTH LOGIN"),
                         (334, b"VXNlcm5hbWU6"))
        self.assertEqual(self.client.docmd(user), (334, b"UGFzc3dvcmQ6"))
        self.assertEqual(self.code(user), 535)
        self.assertEqual(self.code("AUTH LOGIN " + user), 334)
        self.assertEqual(self.code(password), 235)

    def test_token(self):
        def token(text):
            return base64.b64encode(
                b"user=nas\1auth=Bearer " + text + b"\1\1").decode()
        self.assertEqual(self.code("AUTH XOAUTH2 " + token(b"old")), 334)
        self.assertEqual(self.code(""), 535)
        self.assertEqual(self.code("AUTH XOAUTH2 " + token(b"secret2")), 334)
        self.assertEqual(self.code("AQ=="), 535)
        self.assertEqual(self.code("AUTH OAUTHBEARER"), 334)
        self.assertEqual(self.code(token(b"secret")), 235)

    def test_not_in_clear(self):
        with self.host.client() as client:
            client.ehlo()
            self.assertEqual(client.docmd("AUTH PLAIN AA==")[0], 538)


class Faults(unittest.TestCase):
    def faulty(self, *faults, cert=None, more=()):
        options = [word for fault in faults for word in ("--fault", fault)]
        host = Smarthost(*options, *more, cert=cert)
        self.addCleanup(host.__exit__)
        return host

    def test_greeting(self):
        host = self.faulty("greeting:reply=421 4.3.2 Later: 12:1",
                           "greeting:close:1", "greeting:reset:1")
        with host.wire() as wire:
            self.assertEqual(wire.rest(), b"421 4.3.2 Later: 12\r\n")
        with self.assertRaises(ConnectionResetError), host.wire() as wire:
            wire.rest()
        with host.wire() as wire:
            self.assertEqual(wire.reply()[:4], b"220 ")

    def test_count_is_over_all_connections_and_in_order(self):
        host = self.faulty("mail:reply=451 one:2", "mail:reply=550 two:1")
        codes = []
        for _ in range(4):
            with host.client() as client:
                client.ehlo()
                codes.append(client.mail("a@x")[0])
        self.assertEqual(codes, [451, 451, 550, 250])

    def test_escapes_raw_and_flood(self):
        host = self.faulty(r"rset:raw=250 a\x00\0\t\\b\n\p\r",
                           "other:flood=1000", "quit:raw=22")
        with host.wire() as wire:
            wire.reply()
            wire.send(b"RSET\r\n")
            self.assertEqual(wire.line(), b"250 a\0\0\t\\b\n")
            wire.send(b"NOOP\r\n")
            self.assertEqual(wire.line(), b"\r250-flood\r\n")
            self.assertEqual(wire.reply(), b"250 2.0.0 Ok\r\n")
            wire.send(b"QUIT\r\n")
            self.assertEqual(wire.rest(), b"22")

    def test_extra_comes_in_the_same_write(self):
        host = self.faulty(r"starttls:extra=250-INJECTED\r\n250 x",
                           cert="good")
        with host.wire() as wire:
            wire.reply()
            wire.ask(b"EHLO me")
            wire.send(b"STARTTLS\r\n")
            got = wire.socket.recv(4096)
            self.assertEqual(got[:3], b"220")
            self.assertTrue(got.endswith(b"\r\n250-INJECTED\r\n250 x"))

    def test_stall_and_silent_and_delay(self):
        host = self.faulty("ehlo:stall=1:1", "rset:silent",
                           more=("--delay-ms", "100"))
        with host.wire() as wire:
            wire.reply()
            begin = time.monotonic()
            wire.ask(b"EHLO me")
            self.assertGreater(time.monotonic() - begin, 1)
            begin = time.monotonic()
            wire.ask(b"EHLO me")
            self.assertLess(time.monotonic() - begin, 0.9)
            self.assertGreater(time.monotonic() - begin, 0.09)
            wire.socket.settimeout(0.5)
            with self.assertRaises(TimeoutError):
                wire.ask(b"RSET")

    def test_starttls_refused_or_closed(self):
        host = self.faulty("starttls:reply=454 4.7.0 No:1",
                           "starttls:reply=220 Go:1", "starttls:close:2",
                           cert="good")
        for code in (b"454", b"220"):
            with host.wire() as wire:
                wire.reply()
                wire.ask(b"EHLO me")
                self.assertEqual(wire.ask(b"STARTTLS")[:3], code)
                self.assertEqual(wire.rest(), b"")

    def test_handshake(self):
        host = self.faulty("handshake:close:1", "handshake:reset:1",
                           "handshake:stall=1:1", cert="good")
        with self.assertRaises((ssl.SSLError, OSError)):
            host.client(tls=True)
        with self.assertRaises((ssl.SSLError, OSError)):
            host.client(tls=True)
        with host.client(tls=True) as client:
            client.ehlo()
            self.assertIn("auth", client.esmtp_features)

    def test_ehlo2_has_its_own_faults(self):
        host = self.faulty("ehlo2:reply=250 smarthost", cert="good")
        with host.client() as client:
            client.ehlo()
            self.assertIn("starttls", client.esmtp_features)
            client._host = "localhost"
            client.starttls(context=tls_context())
            client.ehlo()
            self.assertEqual(client.esmtp_features, {})

    def test_auth(self):
        host = self.faulty("auth:reply=334 ????:2", "auth:reply=235 Ok:1",
                           more=("--auth-before-tls",))
        with host.client() as client:
            client.ehlo()
            self.assertEqual([client.docmd(text)[0] for text in
                              ("AUTH PLAIN AGEAYg==", "x", "y")],
                             [334, 334, 235])

    def test_recipients(self):
        host = self.faulty("rcpt:reply=450 4.2.1 Busy:1",
                           more=("--rcpt-reply", "gone=550 5.1.1 Gone"))
        with host.client() as client:
            refused = client.sendmail(
                "a@x", ["busy@y", "gone@y", "ok@y", "ok2@y"], TEXT)
            self.assertEqual({k: v[0] for k, v in refused.items()},
                             {"busy@y": 450, "gone@y": 550})
        self.assertEqual(host.ledger(), ["<1@test> <a@x> <ok@y,ok2@y>"])

    def test_data_answered_250(self):
        host = self.faulty("data:reply=250 2.0.0 What?")
        with host.wire() as wire:
            wire.open_mail()
            self.assertEqual(wire.ask(b"DATA")[:3], b"250")
            self.assertEqual(wire.ask(b"NOOP")[:3], b"250")

    def test_data_without_recipients(self):
        host = self.faulty("data:reply=354 Go on")
        with host.wire() as wire:
            wire.reply()
            wire.ask(b"EHLO me")
            wire.ask(b"MAIL FROM:<a@x>")
            self.assertEqual(wire.ask(b"DATA")[:3], b"354")
            self.assertEqual(wire.ask(b".")[:3], b"554")
        self.assertEqual(host.ledger(), [])

    def test_dot_refused_or_closed_is_not_accepted(self):
        host = self.faulty("dot:reply=451 4.3.0 Later:1", "dot:close:2")
        for code in (b"451", b""):
            with host.wire() as wire:
                wire.open_mail()
                wire.ask(b"DATA")
                wire.send(TEXT + b".\r\n")
                self.assertEqual(wire.rest()[:3], code)
        self.assertEqual(host.ledger(), [])
        self.assertEqual(os.listdir(host.save_path), [])

    def test_dot_stalled_past_the_client_is_not_accepted(self):
        host = self.faulty("dot:stall=1:1")
        for _ in range(2):
            with host.wire() as wire:
                wire.open_mail()
                wire.ask(b"DATA")
                wire.send(TEXT + b".\r\n")
                wire.socket.shutdown(socket.SHUT_WR)
                wire.rest()
        self.assertEqual(len(host.ledger()), 1)

    def test_dot_taken_is_accepted_without_250(self):
        for action in ("close", "reset", "silent", "close_notify",
                       "reply=451 4.3.0 Lie"):
            with self.subTest(action):
                host = self.faulty("dot_taken:" + action)
                with host.wire() as wire:
                    wire.open_mail()
                    wire.ask(b"DATA")
                    wire.socket.settimeout(0.5)
                    wire.send(TEXT + b".\r\n")
                    try:
                        got = wire.socket.recv(999)
                    except OSError:
                        got = b""
                    self.assertNotIn(b"250", got)
                self.assertEqual(host.ledger(), ["<1@test> <a@x> <b@y>"])

    def test_afterdot(self):
        host = self.faulty("afterdot:reply=421 4.3.2 Bye:1",
                           "afterdot:close:1")
        with host.wire() as wire:
            wire.open_mail()
            wire.ask(b"DATA")
            wire.send(TEXT + b".\r\n")
            lines = wire.rest().splitlines()
            self.assertEqual([line[:3] for line in lines], [b"250", b"421"])
        self.assertEqual(len(host.ledger()), 1)

    def test_body_answered_early(self):
        host = self.faulty("body:reply=552 5.3.4 Enough:1")
        with host.wire() as wire:
            wire.open_mail()
            wire.ask(b"DATA")
            wire.send(TEXT)
            self.assertEqual(wire.reply()[:3], b"552")
            wire.send(b".\r\n")
            self.assertEqual(wire.ask(b"NOOP")[:9], b"250 2.0.0")
            wire.ask(b"MAIL FROM:<a@x>")
            wire.ask(b"RCPT TO:<b@y>")
            wire.ask(b"DATA")
            self.assertEqual(wire.ask(TEXT + b".")[:3], b"250")
        self.assertEqual(len(host.ledger()), 1)

    def test_body_cut(self):
        for action in ("close", "reset"):
            with self.subTest(action):
                host = self.faulty("body:" + action)
                with host.wire() as wire:
                    wire.open_mail()
                    wire.ask(b"DATA")
                    try:
                        wire.send(TEXT)
                        self.assertEqual(wire.rest(), b"")
                        self.assertEqual(action, "close")
                    except ConnectionResetError:
                        self.assertEqual(action, "reset")
                self.assertEqual(host.ledger(), [])
                self.assertEqual(os.listdir(host.save_path), [])

    def test_close_in_tls_is_a_truncation_and_close_notify_is_none(self):
        host = self.faulty("quit:close:1", "quit:close_notify", cert="good")
        for is_clean in (False, True):
            client = host.client(tls=True)
            client.sock.sendall(b"QUIT\r\n")
            client.sock.suppress_ragged_eofs = False
            try:
                self.assertEqual(client.sock.recv(9), b"")
                self.assertTrue(is_clean)
            except ssl.SSLError:
                self.assertFalse(is_clean)
            client.close()

    def test_wrong_options(self):
        for options in (["--fault", "nowhere:close"], ["--cert", "x"],
                        ["--fault", "dot:explode"], ["--listen", "x:y"],
                        ["--fault", "dot:reply"], ["--user", "x"],
                        ["--size", "-1"], ["--without", "X"], ["word"]):
            with self.subTest(options):
                done = subprocess.run(
                    [os.path.join(BUILD, "smarthost")] + options,
                    stderr=subprocess.DEVNULL, timeout=10, check=False)
                self.assertEqual(done.returncode, 1)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: exit(1))
    unittest.main()
