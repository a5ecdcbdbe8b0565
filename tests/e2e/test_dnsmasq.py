"""The resolver against the real dnsmasq, through the probe $BUILD/dns_probe."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
import unittest

import rig


class Dnsmasq(unittest.TestCase):
    def setUp(self):
        self.program = rig.binary("dns_probe")
        self.dir = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.dir)
        self.resolv = os.path.join(self.dir, "resolv.conf")
        self.hosts = os.path.join(self.dir, "hosts")
        self.port = rig.free_port()
        self.write(self.hosts, "")
        self.name_servers(self.port)

    def write(self, path, text):
        with open(path, "w") as file:
            file.write(text)

    def name_servers(self, *ports):
        self.write(self.resolv, "".join("nameserver [127.0.0.1]:%d\n" % p for p in ports))

    def start(self, *options):
        server = rig.Dnsmasq(self.port, *options)
        self.addCleanup(server.stop)
        return server

    def probe(self, name, kind="host", times=1, wait=True):
        run = subprocess.Popen([self.program, self.resolv, self.hosts, kind, name, str(times)],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        return self.end(run) if wait else run

    def end(self, run):
        """Exit code, records, milliseconds of the last question."""
        out, _ = run.communicate(timeout=60)
        lines = out.splitlines()
        return run.returncode, [x for x in lines if not x.startswith("ms ")], \
            int(lines[-1].split()[1])

    def test_a_and_aaaa(self):
        self.start("--host-record=smtp.test,192.0.2.1,2001:db8::1", "--host-record=v4.test,192.0.2.4",
                   "--host-record=v6.test,2001:db8::6")
        code, records, ms = self.probe("smtp.test")
        self.assertEqual((code, records), (0, ["192.0.2.1", "2001:db8::1"]))
        self.assertLess(ms, 900)
        self.assertEqual(self.probe("SMTP.Test.")[1], ["192.0.2.1", "2001:db8::1"])
        self.assertEqual(self.probe("v4.test")[1], ["192.0.2.4"])
        self.assertEqual(self.probe("v6.test")[1], ["2001:db8::6"])

    def test_cname(self):
        self.start("--host-record=real.test,192.0.2.1", "--cname=b.test,real.test",
                   "--cname=a.test,b.test")
        self.assertEqual(self.probe("a.test")[:2], (0, ["192.0.2.1"]))

    def test_mx(self):
        self.start("--mx-host=test,m20.test,20", "--mx-host=test,m5.test,5",
                   "--mx-host=test,m10.test,10")
        self.assertEqual(self.probe("test", "mx")[:2],
                         (0, ["5 m5.test", "10 m10.test", "20 m20.test"]))

    def test_none(self):
        self.start("--host-record=smtp.test,192.0.2.1")
        code, records, _ = self.probe("nosuch.test")
        self.assertEqual((code, records), (1, ["none: the name does not exist"]))
        code, records, _ = self.probe("smtp.test", "mx")
        self.assertEqual((code, records), (1, ["none: the name has no mail exchanger"]))

    def test_refused(self):
        self.start()  # no upstream: dnsmasq answers REFUSED for foreign names
        code, records, ms = self.probe("example.org")
        self.assertEqual(code, 1)
        self.assertRegex(records[0], "^failed: the name servers refuse")
        self.assertLess(ms, 900)

    def test_truncated_then_tcp(self):
        many = ["--host-record=many.test,192.0.2.%d" % i for i in range(1, 200)]
        server = self.start("--edns-packet-max=512", *many)
        self.assertTrue(server.is_truncated("many.test"))
        code, records, _ = self.probe("many.test")
        self.assertEqual((code, len(records)), (0, 16))
        self.assertEqual(len(set(records)), 16)

    def test_hosts_file_first(self):
        self.start("--host-record=smtp.test,192.0.2.1")
        self.write(self.hosts, "192.0.2.99 smtp.test\n")
        self.assertEqual(self.probe("smtp.test")[1], ["192.0.2.99"])

    def test_first_server_refuses(self):
        self.start("--host-record=smtp.test,192.0.2.1")
        self.name_servers(rig.free_port(), self.port)
        code, records, ms = self.probe("smtp.test")
        self.assertEqual((code, records), (0, ["192.0.2.1"]))
        self.assertLess(ms, 900)

    def test_first_server_is_silent(self):
        self.start("--host-record=smtp.test,192.0.2.1")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
            silent.bind(("127.0.0.1", 0))
            self.name_servers(silent.getsockname()[1], self.port)
            code, records, ms = self.probe("smtp.test")
        self.assertEqual((code, records), (0, ["192.0.2.1"]))
        self.assertTrue(2900 < ms < 4000, ms)

    def test_stopped_and_started_again(self):
        code, records, ms = self.probe("smtp.test")
        self.assertEqual((code, records), (1, ["failed: no name server answers"]))
        self.assertLess(ms, 900)
        run = self.probe("smtp.test", times=4, wait=False)  # asks at 0, 2, 4, 6 s
        time.sleep(1)
        self.start("--host-record=smtp.test,192.0.2.1")
        code, records, _ = self.end(run)
        # 5 s of quiet after the failure: only the last question reaches dnsmasq.
        self.assertEqual(code, 0)
        self.assertEqual(records, ["failed: no name server answers"] * 3 + ["192.0.2.1"])


if __name__ == "__main__":
    unittest.main()
