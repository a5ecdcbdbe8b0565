"""What scanners and old devices see of our TLS.

sslscan and testssl.sh look at STARTTLS and at the implicit listener; the
try-out smarthost, which takes everything, shows that they would see it.
"""
import concurrent.futures
import json
import os
import re
import socket
import subprocess
import tempfile
import threading
import unittest
import xml.etree.ElementTree

from rig import (SLOW, TEXT, Lanpost, Smarthost, Wire, certificates, tool)

SECONDS = 180 * SLOW
# Forward secrecy, and encryption and authentication in one.
GOOD_CIPHER = re.compile(
    r"TLS_(AES_(128|256)_GCM_SHA\d+|CHACHA20_POLY1305_SHA256)|"
    r"ECDHE-(ECDSA|RSA)-(AES(128|256)-GCM-SHA\d+|CHACHA20-POLY1305)")
OLD = ("-tls1", "-cipher", "ALL:@SECLEVEL=0")
# Findings of testssl.sh that are no holes: what it says of certificates that
# sign themselves, and of an OpenSSL of its own that it would like to have.
NO_HOLE = re.compile(r"cert_|engine_problem|service|scanTime|optimal_proto")
HOLES = ("heartbleed", "CCS", "ROBOT", "secure_renego", "secure_client_renego",
         "CRIME_TLS", "POODLE_SSL", "fallback_SCSV", "SWEET32", "FREAK",
         "DROWN", "LOGJAM", "BEAST", "LUCKY13", "RC4")


def sslscan(port, is_starttls):
    """The root of what sslscan found."""
    done = subprocess.run(
        [tool("sslscan"), "--xml=-", "--timeout=%d" % (10 * SLOW),
         *["--starttls-smtp"] * is_starttls, "127.0.0.1:%d" % port],
        stdout=subprocess.PIPE, timeout=SECONDS, check=True)
    return xml.etree.ElementTree.fromstring(done.stdout).find("ssltest")


def sslscan_complaints(scan):
    versions = {item.get("type") + item.get("version")
                for item in scan.iter("protocol")
                if item.get("enabled") == "1"}
    found = sorted(versions - {"tls1.2", "tls1.3"})
    if "tls1.2" not in versions:
        found.append("no TLS 1.2")
    ciphers = [item.get("cipher") for item in scan.iter("cipher")]
    found += [name for name in ciphers if not GOOD_CIPHER.fullmatch(name)]
    if not ciphers:
        found.append("no cipher")
    found += ["heartbleed " + item.get("sslversion")
              for item in scan.iter("heartbleed")
              if item.get("vulnerable") != "0"]
    found += ["compression" for item in scan.iter("compression")
              if item.get("supported") != "0"]
    found += ["insecure renegotiation" for item in scan.iter("renegotiation")
              if item.get("supported") == "1" and item.get("secure") != "1"]
    return found


def testssl(port, is_starttls, *options):
    """{id: (severity, finding)}"""
    with tempfile.TemporaryDirectory(prefix="lanpost-testssl-") as directory:
        file = os.path.join(directory, "json")
        done = subprocess.run(
            [tool("testssl"), "--quiet", "--color", "0", "--warnings", "batch",
             "--nodns", "none", "--jsonfile", file,
             *["--starttls", "smtp"] * is_starttls, *options,
             "127.0.0.1:%d" % port],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=SECONDS,
            # It waits that long for a banner of HTTP.
            env={**os.environ, "HEADER_MAXSLEEP": "1"}, check=False)
        if not os.path.exists(file):
            raise AssertionError(done.stdout.decode())
        with open(file, encoding="utf-8") as found:
            return {item["id"]: (item["severity"], item["finding"])
                    for item in json.load(found)}


def testssl_complaints(found):
    return sorted("%s: %s %s" % (name, *what) for name, what in found.items()
                  if what[0] not in ("OK", "INFO", "DEBUG")
                  and not NO_HOLE.match(name))


def s_client(port, is_starttls, *options, commands=b""):
    """What openssl says."""
    done = subprocess.run(
        [tool("openssl"), "s_client", "-connect", "127.0.0.1:%d" % port,
         *["-starttls", "smtp", "-name", "old.test"] * is_starttls, *options],
        input=commands, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        timeout=SECONDS, check=False)
    return done.stdout.decode(errors="replace")


class Scanners(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.control = cls.enterClassContext(Smarthost())
        path = os.path.join(certificates(), "good_rsa")
        cls.relays = {}
        for name, files in (("own", {}),
                            ("rsa", {"tls_cert_file": path + ".pem",
                                     "tls_key_file": path + ".key"})):
            cls.relays[name] = cls.enterClassContext(Lanpost(
                smarthost="localhost:%d" % cls.control.port, tls=True,
                clients_per_address=64, **files))

    def doors(self):
        for name, relay in self.relays.items():
            for port, is_starttls in ((relay.port, True),
                                      (relay.tls_port, False)):
                yield name, port, is_starttls

    def test_sslscan(self):
        for name, port, is_starttls in self.doors():
            with self.subTest(name, is_starttls=is_starttls):
                scan = sslscan(port, is_starttls)
                self.assertEqual(sslscan_complaints(scan), [])
                kinds = {item.get("cipher").split("-")[1]
                         for item in scan.iter("cipher")
                         if item.get("sslversion") == "TLSv1.2"}
                self.assertEqual(kinds, {
                    "ECDSA" if name == "own" else "RSA"})

    def test_sslscan_would_complain(self):
        found = sslscan_complaints(sslscan(self.control.port, True))
        for complaint in ("tls1.0", "tls1.1", "ECDHE-ECDSA-AES128-SHA"):
            self.assertIn(complaint, found)

    def test_testssl(self):
        own, rsa = self.relays["own"], self.relays["rsa"]
        jobs = {  # they mostly wait: all at once
            "starttls": (own.port, True, "-p", "-s", "-U"),
            "implicit": (rsa.tls_port, False, "-p", "-s", "-U"),
            "control": (self.control.port, True, "-p")}
        with concurrent.futures.ThreadPoolExecutor(len(jobs)) as pool:
            jobs = {name: pool.submit(testssl, *job)
                    for name, job in jobs.items()}
        self.assertRegex("\n".join(testssl_complaints(
            jobs.pop("control").result())), r"(?m)^TLS1: \w+ offered")
        for name, job in jobs.items():
            with self.subTest(name):
                found = job.result()
                self.assertEqual(testssl_complaints(found), [])
                self.assertEqual(
                    [hole for hole in HOLES
                     if found.get(hole, ("?",))[0] != "OK"], [])
                self.assertEqual(found["TLS1_2"][1], "offered")
                self.assertEqual(found["cipherlist_STRONG"][1], "offered")

    def test_no_renegotiation(self):
        for name, port, is_starttls in self.doors():
            with self.subTest(name, is_starttls=is_starttls):
                said = s_client(port, is_starttls, "-tls1_2", commands=b"R\n")
                self.assertIn("RENEGOTIATING", said)
                self.assertIn("no renegotiation", said)

    def test_no_session_is_kept(self):
        """Nothing to resume: no ticket, and no memory of sessions."""
        relay = self.relays["own"]
        said = s_client(relay.tls_port, False, "-tls1_2", "-reconnect",
                        commands=b"")
        self.assertEqual(said.count("New, TLSv1.2"), 6, said)
        self.assertNotIn("Reused", said)
        self.assertNotIn("TLS session ticket", said)


class OldDevice(unittest.TestCase):
    """One that speaks TLS 1.0, and nothing newer."""

    @classmethod
    def setUpClass(cls):
        cls.sink = cls.enterClassContext(Smarthost())

    def relay(self, **settings):
        return Lanpost(smarthost="localhost:%d" % self.sink.port, tls=True,
                       tls_detect_ms=None, **settings)

    def send(self, relay, *options):
        """The old device's mail."""
        with tempfile.NamedTemporaryFile() as file:
            file.write(TEXT.replace(b"\r\n", b"\n"))
            file.flush()
            done = subprocess.run(
                [tool("swaks"), "--server", "127.0.0.1", "--port",
                 str(relay.port), "--helo", "old.test", "--from", "a@x.test",
                 "--to", "b@y.test", "--data", "@" + file.name,
                 "--tls-protocol", "tlsv1", "--tls-cipher", OLD[-1], *options],
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                timeout=SECONDS, check=False)
        return done.returncode, done.stdout.decode()

    def offers(self, wire):
        """The words behind 250- in the answer to EHLO."""
        wire.reply()
        wire.send(b"EHLO old.test\r\n")
        lines = [wire.line()]
        while lines[-1][3:4] == b"-":
            lines.append(wire.line())
        return [line[4:].strip() for line in lines]

    def test_it_is_old(self):
        """Its hello, byte for byte; and who takes TLS 1.0 can talk to it."""
        hello = []

        def listen(listener):
            client, _ = listener.accept()
            with client:
                hello.append(client.recv(4096))

        with socket.create_server(("127.0.0.1", 0)) as listener:
            thread = threading.Thread(target=listen, args=(listener,))
            thread.start()
            s_client(listener.getsockname()[1], False, *OLD)
            thread.join()
        self.assertEqual(hello[0][:3], b"\x16\x03\x01")
        self.assertEqual(hello[0][9:11], b"\x03\x01")
        self.assertNotIn(b"\x00\x2b", hello[0][43:])  # supported_versions
        self.assertIn("Protocol  : TLSv1\n",
                      s_client(self.sink.port, True, *OLD))

    def test_it_is_refused_with_advice(self):
        with self.relay() as relay:
            for port, is_starttls in ((relay.port, True), (relay.port, False),
                                      (relay.tls_port, False)):
                with self.subTest(is_starttls=is_starttls, port=port):
                    before = len(relay.lines(" refused why="))
                    said = s_client(port, is_starttls, *OLD)
                    self.assertIn("alert protocol version", said)
                    line = relay.wait_log(" refused why=",
                                          count=before + 1)[-1]
                    self.assertRegex(
                        line, r' in +client=127\.0\.0\.1 helo="[^"]*" refused '
                        'why="its TLS is too old[^"]*" advice="[^"]+')
                    self.assertIn("no_starttls_to", line)
            status, said = self.send(relay, "--tls-optional")
            self.assertNotEqual(status, 0, said)
        self.assertEqual(self.sink.ledger(), [])

    def test_no_starttls_to(self):
        before = len(self.sink.ledger())
        for more in ({}, {"require_tls": "127.0.0.0/8"}):
            with self.subTest(more), self.relay(
                    no_starttls_to="127.0.0.1", **more) as relay:
                with Wire(relay.port) as wire:
                    self.assertNotIn(b"STARTTLS", self.offers(wire))
                    self.assertRegex(wire.ask(b"STARTTLS"), rb"^5\d\d ")
                status, said = self.send(relay, "--tls-optional")
                self.assertEqual(status, 0, said)
                self.assertIn(" tls=- ", relay.wait_log(" accepted")[0])
                self.assertEqual(relay.lines(" refused why="), [])
                before += 1
                self.sink.wait_ledger(before)
        # A device beside it is offered what this one is spared.
        with self.relay(no_starttls_to="127.0.0.2") as relay, \
                Wire(relay.port) as wire:
            self.assertIn(b"STARTTLS", self.offers(wire))


if __name__ == "__main__":
    unittest.main()
