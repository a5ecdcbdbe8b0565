"""The name server's part in a delivery: lanpost finds its smarthost through
the real dnsmasq, with all that a name can be, and mail arrives.
"""
import os
import shutil
import socket
import tempfile
import unittest

from rig import Dnsmasq, Lanpost, Smarthost, free_port, write


class Names(unittest.TestCase):
    def setUp(self):
        self.dns_port = free_port()
        self.directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.directory)

    def dnsmasq(self, *options):
        server = Dnsmasq(self.dns_port, *options)
        self.addCleanup(server.stop)
        return server

    def relay(self, name, port, **values):
        """Everything about names comes from our dnsmasq alone."""
        resolv = os.path.join(self.directory, "resolv.conf")
        write(resolv, "nameserver [127.0.0.1]:%d\n" % self.dns_port, 0o644)
        return Lanpost(smarthost="%s:%d" % (name, port), resolv_file=resolv,
                       hosts_file="", **values)

    def arrives(self, name, *options, listen="127.0.0.1:0", seconds=10,
                **values):
        with Smarthost(listen=listen) as host:
            self.dnsmasq(*options)
            with self.relay(name, host.port, **values) as relay:
                relay.send()
                host.wait_ledger(1, seconds)
                relay.wait_log(" sent")
                self.assertEqual(relay.stop(), 0)
                self.assertEqual(len(host.ledger()), 1)
                return relay.log()

    def test_a(self):
        self.arrives("smarthost.test", "--host-record=smarthost.test,127.0.0.1")

    def test_aaaa(self):
        self.arrives("smarthost.test", "--host-record=smarthost.test,::1",
                     listen="[::1]:0")

    def test_family(self):
        both = "--host-record=smarthost.test,127.0.0.1,::1"
        log = self.arrives("smarthost.test", both, listen="[::1]:0",
                           smarthost_family="ipv6")
        self.assertNotIn("failed", log)

    def test_dead_family(self):
        self.arrives("smarthost.test", "--host-record=smarthost.test,"
                     "127.0.0.1,::1", listen="[::1]:0")

    def test_cname(self):
        self.arrives("smarthost.test", "--host-record=a.test,127.0.0.1",
                     "--cname=b.test,a.test", "--cname=smarthost.test,b.test")

    def test_certificate_bears_the_name_that_was_set(self):
        """A name server cannot choose whom we trust: the name behind a CNAME
        is not the smarthost's."""
        with Smarthost() as host:
            self.dnsmasq("--host-record=smarthost.test,127.0.0.1",
                         "--cname=other.test,smarthost.test")
            with self.relay("other.test", host.port) as relay:
                relay.send()
                line, = relay.wait_log("route=paused")
                self.assertIn("not for other.test", line)
                self.assertEqual(host.ledger(), [])

    def test_truncated(self):
        names = ["%d.%s.%s.%s.test" % (i, "a" * 60, "b" * 60, "c" * 60)
                 for i in range(4)]
        chain = ["smarthost.test", *names]
        options = ["--edns-packet-max=512",
                   "--host-record=%s,127.0.0.1" % names[-1]]
        options += ["--cname=%s,%s" % pair for pair in zip(chain, names)]
        with Smarthost() as host:
            server = self.dnsmasq(*options)
            self.assertTrue(server.is_truncated("smarthost.test"))
            with self.relay("smarthost.test", host.port) as relay:
                relay.send()
                host.wait_ledger()

    def test_dead_first_address(self):
        log = self.arrives(
            "smarthost.test", "--no-round-robin",
            "--host-record=smarthost.test,127.0.0.2",
            "--host-record=smarthost.test,127.0.0.1")
        line, = [line for line in log.splitlines() if "address=failed" in line]
        self.assertRegex(line, r"127\.0\.0\.2:\d+: Connection refused.*left=1")
        self.assertNotIn("route=paused", log)

    def test_silent_first_address(self):
        """127.0.0.2 lets every SYN fall: its backlog is full."""
        with Smarthost() as host, socket.socket() as silent:
            silent.bind(("127.0.0.2", host.port))
            silent.listen(0)
            for _ in range(4):
                full = socket.socket()
                self.addCleanup(full.close)
                full.setblocking(False)
                full.connect_ex(("127.0.0.2", host.port))
            self.dnsmasq("--no-round-robin",
                         "--host-record=smarthost.test,127.0.0.2",
                         "--host-record=smarthost.test,127.0.0.1")
            with self.relay("smarthost.test", host.port) as relay:
                relay.send()
                host.wait_ledger()
                line, = relay.wait_log("address=failed")
                self.assertRegex(line, r"127\.0\.0\.2:\d+: it does not answer")
                relay.send()  # to the good one at once: it is remembered
                host.wait_ledger(2, 2)

    def test_name_server_dead_then_alive(self):
        with Smarthost() as host, \
                self.relay("smarthost.test", host.port,
                           retry_first_seconds=1) as relay:
            relay.send()
            line = relay.wait_log("route=paused")[0]
            self.assertIn("no name server answers", line)
            self.dnsmasq("--host-record=smarthost.test,127.0.0.1")
            host.wait_ledger(1, 20)
            relay.wait_log("route=up")
            self.assertEqual(relay.stop(), 0)

    def test_unknown_name(self):
        """A name that does not exist is a fault of the route: the mail is
        kept until somebody puts the name right."""
        with Smarthost() as host:
            self.dnsmasq("--host-record=smarthost.test,127.0.0.1")
            with self.relay("nosuch.test", host.port) as relay:
                relay.send()
                line, = relay.wait_log("route=paused")
                self.assertIn("nosuch.test: the name does not exist", line)
                relay.write_settings(smarthost="smarthost.test:%d" % host.port)
                relay.reload()
                host.wait_ledger()

    def test_no_address_of_the_family(self):
        with Smarthost() as host:
            self.dnsmasq("--host-record=smarthost.test,127.0.0.1")
            with self.relay("smarthost.test", host.port,
                            smarthost_family="ipv6") as relay:
                relay.send()
                line, = relay.wait_log("route=paused")
                self.assertIn("smarthost_family", line)


if __name__ == "__main__":
    unittest.main()
