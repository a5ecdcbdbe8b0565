"""Load, restarts, leaks, idleness and floods, with the real binary.

Nothing here is timed against a stopwatch that a busy machine could beat, but
for the good client of the floods, who must be served within 2 s. Run it with
LOAD_REPORT=1 to see what was measured.

LANPOST_ASAN names a lanpost that was built with the sanitizers; without it
one is built.
"""
import os
import socket
import subprocess
import tempfile
import time
import unittest

import load
import rig
from load import (Bounce, Lanpost, Senders, Smarthost, smtp_source,
                  wait_until)

SANITIZED = rig.is_sanitized()
BATCH = 1000  # fits the queue (2,048 messages), however slow the way out


def report(**values):
    if os.environ.get("LOAD_REPORT"):
        print("load:", *("%s=%s" % item for item in values.items()),
              flush=True)


def setUpModule():
    load.raise_fd_limit()


class Load(unittest.TestCase):
    def send_batches(self, lanpost, smarthost, count, tag, *options):
        """All are taken, and have left; a batch begins when the last one is
        through, for what no queue could hold would be a 452."""
        arrived = len(smarthost.lines())
        for start in range(0, count, BATCH):
            size = min(BATCH, count - start)
            ran = smtp_source(lanpost, size, ".%d%s" % (start, tag), *options)
            self.assertEqual(ran.returncode, 0, ran.stderr)
            arrived += size
            self.assertTrue(
                wait_until(lambda: len(smarthost.lines()) >= arrived),
                "some never arrived")

    def assert_each_once(self, arrived, acked):
        self.assertEqual(arrived - acked, {}, "arrived too often")
        self.assertEqual(acked - arrived, {}, "acknowledged, and lost")
        self.assertEqual(set(acked.values()), {1})

    def assert_arrives(self, lanpost, arrived, acked, key):
        """Each at least once, and more often only where lanpost said so."""
        self.assertTrue(wait_until(lambda: not acked - arrived(),
                                   pause_s=0.2), "acknowledged, and lost")
        self.assertEqual(lanpost.stop(30), 0, lanpost.log()[-2000:])
        twice = arrived() - acked
        doubtful = lanpost.doubtful(key)
        report(acked=len(acked), twice=sum(twice.values()),
               doubtful=sum(doubtful.values()))
        self.assertEqual(twice - doubtful, {}, "more than it warned of")


class SmtpSource(Load):
    def test_5000_over_20_sessions_all_arrive_once(self):
        with Smarthost(saves=True) as smarthost, Lanpost(smarthost) as lanpost:
            began, cpu = time.monotonic(), lanpost.cpu_s()
            self.send_batches(lanpost, smarthost, 5000, "@once.test")
            took = time.monotonic() - began
            report(mails=5000, per_s=round(5000 / took),
                   cpu_us=round((lanpost.cpu_s() - cpu) * 1e6 / 5000))
            self.assertEqual(lanpost.stop(30), 0)
            by_name = smarthost.arrived(2)
            self.assertEqual(len(by_name), 5000)
            self.assertEqual(set(by_name.values()), {1})
            self.assertEqual(len(lanpost.accepted()), 5000)
            self.assert_each_once(smarthost.arrived_ids(), lanpost.accepted())
            self.assertEqual(lanpost.doubtful(), {})

    def test_faster_than_the_way_out(self):
        """At full speed the queue fills: 452 and nothing worse, and who got a
        250 is served."""
        with Smarthost(saves=True) as smarthost, \
                Lanpost(smarthost, connections_max=1) as lanpost:
            ran = smtp_source(lanpost, 5000, "@full.test", "-A")
            self.assertEqual(ran.returncode, 0, ran.stderr)
            count = len(lanpost.accepted())
            self.assertGreaterEqual(count, 2048)
            wait_until(lambda: len(smarthost.lines()) >= count)
            self.assertEqual(lanpost.stop(30), 0)
            self.assert_each_once(smarthost.arrived_ids(), lanpost.accepted())
            self.assert_only_452(ran.stderr)
            report(full_speed_accepted=count)

    def assert_only_452(self, warnings):
        for line in warnings.splitlines():
            self.assertRegex(line, r"rejected: (452|421) ")

    def test_smarthost_stops_and_starts(self):
        with Smarthost(saves=True) as smarthost, Lanpost(smarthost) as lanpost:
            bounce = Bounce(smarthost, 1300, 3300)
            self.send_batches(lanpost, smarthost, 5000, "@again.test")
            self.assertTrue(bounce.is_done())
            accepted = lanpost.accepted()
            self.assertEqual(len(accepted), 5000)
            self.assert_arrives(lanpost, smarthost.arrived_ids, accepted, "id")
            self.assertGreaterEqual(lanpost.log().count("route=paused"), 2)


class Ledger(Load):
    """The same, told apart by names that lanpost did not give."""

    def test_python_senders_all_arrive_once(self):
        with Smarthost() as smarthost, Lanpost(smarthost) as lanpost:
            senders = Senders(lanpost, 3000)
            self.assertTrue(senders.is_done())
            self.assertEqual(len(senders.acked), 3000)
            self.assertTrue(
                wait_until(lambda: len(smarthost.lines()) >= 3000))
            self.assertEqual(lanpost.stop(30), 0)
            self.assert_each_once(smarthost.arrived(), senders.acked)
            self.assertEqual(senders.cut, 0)
            self.assertLessEqual(set(senders.refusals), {421, 452})

    def test_smarthost_stops_and_starts(self):
        with Smarthost() as smarthost, Lanpost(smarthost) as lanpost:
            bounce = Bounce(smarthost, 800, 2000)
            senders = Senders(lanpost, 3000)
            self.assertTrue(senders.is_done())
            self.assertTrue(bounce.is_done())
            self.assertEqual(len(senders.acked), 3000)
            self.assert_arrives(lanpost, smarthost.arrived, senders.acked,
                                "rcpt")
            self.assertEqual(senders.cut, 0)
            self.assertLessEqual(set(senders.refusals), {421, 452})


    def test_verdict_that_got_lost(self):
        """Taken, and the connection died before the 250: the one case that
        makes two of a mail, and each time it is said."""
        with Smarthost("--fault", "dot_taken:close:20") as smarthost, \
                Lanpost(smarthost) as lanpost:
            senders = Senders(lanpost, 200)
            self.assertTrue(senders.is_done())
            self.assert_arrives(lanpost, smarthost.arrived, senders.acked,
                                "rcpt")
            twice = smarthost.arrived() - senders.acked
            self.assertEqual(sum(twice.values()), 20)
            self.assertEqual(twice, lanpost.doubtful("rcpt"))


@unittest.skipIf(rig.WRAPPER or SANITIZED,
                 "the memory that is seen is the tool's")
class Flat(Load):
    def test_20000_mails_leave_fds_and_memory_as_they_were(self):
        """The queue touches its pages as deep as it ever was, so it is made
        deeper first than it will be later; from there on nothing may grow.
        256 KiB is 18 bytes for each of 14,000 sessions and 14 for each of
        18,000 mails; a heap that still finds its shape takes some 50."""
        with Smarthost() as smarthost, Lanpost(smarthost) as lanpost:
            fds = lanpost.fds()
            smarthost.stop()
            ran = smtp_source(lanpost, 1500, "@deep.test")
            self.assertEqual(ran.returncode, 0, ran.stderr)
            smarthost.start()
            self.assertTrue(
                wait_until(lambda: len(smarthost.lines()) == 1500))
            self.send_batches(lanpost, smarthost, 500, "@warm.test")
            self.rest(lanpost, fds)
            before = lanpost.rss_kib()
            self.send_batches(lanpost, smarthost, 14000, "@new.test")
            self.send_batches(lanpost, smarthost, 4000, "@kept.test", "-d")
            self.rest(lanpost, fds)
            after = lanpost.rss_kib()
            report(mails=len(smarthost.lines()), fds=fds, rss_kib_2000=before,
                   rss_kib_20000=after)
            self.assertEqual(len(smarthost.arrived(2)), 20000)
            self.assertLess(after - before, 256)

    def rest(self, lanpost, fds):
        """Until the last connection to the smarthost was given up."""
        self.assertTrue(wait_until(lambda: lanpost.fds() == fds, 15),
                        "%d fds, were %d" % (lanpost.fds(), fds))


class Clean(Load):
    """Everything that the code does under load, watched by a tool."""

    def exercise(self, lanpost, smarthost):
        bounce = Bounce(smarthost, 40, 120)
        self.send_noise(lanpost)
        senders = Senders(lanpost, 300)
        self.assertTrue(senders.is_done())
        self.assertTrue(bounce.is_done())
        self.assertEqual(len(senders.acked), 300)
        self.assertIn("reload=done", lanpost.reload())
        self.assert_arrives(lanpost, smarthost.arrived, senders.acked, "rcpt")

    def send_noise(self, lanpost):
        for noise in (b"", b"\x16\x03\x01", b"GET / HTTP/1.1\r\n\r\n",
                      b"NOOP\r\n" * 200, b"x" * 9000,
                      b"EHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n"
                      b"DATA\r\nhalf a mess"):
            with socket.create_connection(("127.0.0.1", lanpost.port)) as s:
                s.sendall(noise)

    @unittest.skipIf(SANITIZED, "valgrind runs no AddressSanitizer")
    def test_valgrind(self):
        valgrind = [rig.tool("valgrind"), "-q", "--leak-check=full",
                    "--errors-for-leak-kinds=definite,indirect,possible",
                    "--error-exitcode=99"]
        with Smarthost() as smarthost, \
                Lanpost(smarthost,
                        () if rig.WRAPPER else valgrind) as lanpost:
            self.exercise(lanpost, smarthost)
            self.assertNotRegex(lanpost.log(), r"(?m)^==\d+==")

    @unittest.skipIf(rig.WRAPPER, "sanitizers do not run under a wrapper")
    def test_sanitizers(self):
        with tempfile.TemporaryDirectory(prefix="lanpost-asan-") as folder:
            binary = os.environ.get("LANPOST_ASAN") or self.build(folder)
            with Smarthost() as smarthost, \
                    Lanpost(smarthost, (), SANITIZERS, binary) as lanpost:
                self.exercise(lanpost, smarthost)

    def build(self, folder):
        flags = "-fsanitize=address,undefined"
        # What a make above us was told is not for this one.
        env = {key: value for key, value in os.environ.items()
               if key not in ("MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES")}
        subprocess.run(
            ["make", "-s", "-C", rig.REPO, "BUILD=" + folder, "LDFLAGS=" +
             flags, "CFLAGS=-g -O1 -fno-omit-frame-pointer " + flags],
            check=True, stdout=subprocess.DEVNULL, env=env)
        return os.path.join(folder, "lanpost")


# Leaks are valgrind's: lanpost forbids to be traced, which LeakSanitizer does.
SANITIZERS = {"ASAN_OPTIONS": "detect_leaks=0:exitcode=99",
              "UBSAN_OPTIONS": "halt_on_error=1:exitcode=99"}


@unittest.skipIf(rig.WRAPPER, "the wake-ups that are counted are the tool's")
class Idle(Load):
    def assert_sleeps(self, lanpost, what, seconds=3):
        wakeups, cpu_s = lanpost.wakeups(), lanpost.cpu_s()
        time.sleep(seconds)
        wakeups = lanpost.wakeups() - wakeups
        cpu_s = lanpost.cpu_s() - cpu_s
        report(idle=what, wakeups=wakeups, cpu_s=cpu_s)
        self.assertEqual((wakeups, cpu_s), (0, 0), what)

    def test_nothing_to_do_is_nothing_done(self):
        with Smarthost() as smarthost, Lanpost(smarthost) as lanpost:
            fds = lanpost.fds()
            self.assert_sleeps(lanpost, "fresh")
            with lanpost.client() as client:
                client.ehlo()
                time.sleep(0.2)
                self.assert_sleeps(lanpost, "one client")
                client.sendmail("a@b.test", "c@d.test", "Subject: x\n\nx\n")
                self.assertTrue(wait_until(smarthost.lines))
            self.assertTrue(wait_until(lambda: lanpost.fds() == fds, 15))
            self.assert_sleeps(lanpost, "after a mail")

    def test_route_that_rests_turns_nothing(self):
        with Smarthost() as smarthost, \
                Lanpost(smarthost, retry_first_seconds=30,
                        retry_max_seconds=60) as lanpost:
            smarthost.stop()
            with lanpost.client() as client:
                client.sendmail("a@b.test", "c@d.test", "Subject: x\n\nx\n")
            self.assertTrue(wait_until(
                lambda: "route=paused" in lanpost.log()))
            time.sleep(0.2)
            self.assert_sleeps(lanpost, "route rests")

    def test_clients_that_are_stuck_turn_nothing(self):
        """One never speaks, one has half closed, one never reads what it
        asks for."""
        with Smarthost() as smarthost, Lanpost(smarthost) as lanpost:
            with self.connect(lanpost), self.connect(lanpost) as half, \
                    self.connect(lanpost) as deaf:
                half.sendall(b"EHLO a\r\nMAIL FROM:<a@b>\r\n")
                half.shutdown(socket.SHUT_WR)
                deaf.sendall(b"EHLO a\r\nMAIL FROM:<a@b>\r\n")
                deaf.settimeout(1)
                with self.assertRaises(TimeoutError):
                    for _ in range(10000):
                        deaf.sendall(b"RCPT TO:<c@d>\r\n" * 1000)
                time.sleep(2)  # a half closed one is waited for so long
                self.assert_sleeps(lanpost, "stuck clients")

    def connect(self, lanpost):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", lanpost.port))
        return client

    def test_smarthost_that_is_silent_turns_nothing(self):
        with Smarthost() as smarthost, Lanpost(smarthost) as lanpost:
            smarthost.freeze()
            with lanpost.client() as client:
                client.sendmail("a@b.test", "c@d.test", "Subject: x\n\nx\n")
            self.assert_waits(lanpost)

    def test_smarthost_that_takes_no_more_turns_nothing(self):
        """It stops to read behind the first byte of 16 MB."""
        text = "Subject: x\n\n" + ("y" * 76 + "\r\n") * 200000
        with Smarthost("--fault", "body:stall=60") as smarthost, \
                Lanpost(smarthost) as lanpost:
            with lanpost.client() as client:
                client.sendmail("a@b.test", "c@d.test", text)
            self.assert_waits(lanpost)

    def assert_waits(self, lanpost):
        time.sleep(0.5)
        fds = lanpost.fds()
        self.assert_sleeps(lanpost, "smarthost stuck")
        self.assertEqual(lanpost.fds(), fds)
        self.assertNotRegex(lanpost.log(), "paused| sent|later")


class Flood(Load):
    """clients_per_address is the preset 16 here, of 64 slots."""

    def assert_served(self, lanpost, smarthost, source="127.0.0.9"):
        began, arrived = time.monotonic(), len(smarthost.lines())
        with lanpost.client(source, timeout=2 * rig.SLOW) as client:
            client.sendmail("a@b.test", "c@d.test", "Subject: x\n\nx\n")
        took = time.monotonic() - began
        self.assertLess(took, 2 * rig.SLOW)
        self.assertTrue(wait_until(lambda: len(smarthost.lines()) > arrived))
        return took

    def assert_recovers(self, lanpost, smarthost, fds):
        self.assertTrue(wait_until(lambda: lanpost.fds() == fds, 20),
                        "%d fds, were %d" % (lanpost.fds(), fds))
        self.assert_served(lanpost, smarthost)

    def test_200_slow_clients(self):
        """Half drip a command, half a message, a byte a second each."""
        with Smarthost() as smarthost, \
                Lanpost(smarthost, clients_per_address=16) as lanpost:
            fds = lanpost.fds()
            with Drips(lanpost, ["127.0.1.%d" % (1 + i % 3)
                                 for i in range(200)]) as drips:
                drips.drip()
                self.assertEqual(drips.count(), 48)
                served = [self.assert_served(lanpost, smarthost)]
                end = time.monotonic() + 20
                while drips.count() > 0 and time.monotonic() < end:
                    drips.drip()
                    served.append(self.assert_served(lanpost, smarthost))
                    time.sleep(1)
                self.assertEqual(drips.count(), 0, "they drip for ever")
            report(slow_clients=200, good_client_worst_s=max(served))
            self.assert_recovers(lanpost, smarthost, fds)

    def test_200_slow_clients_of_as_many_addresses(self):
        """They take every slot; the laziest one makes room for who comes
        after CLIENT_EVICT_SECONDS, and all lose theirs while they still
        drip."""
        with Smarthost() as smarthost, \
                Lanpost(smarthost, clients_per_address=16) as lanpost:
            fds = lanpost.fds()
            with Drips(lanpost, ["127.0.2.%d" % (1 + i)
                                 for i in range(200)]) as drips:
                self.assertEqual(drips.count(), 64)
                lanpost.wait_log("Too many connections\" clients=64")
                time.sleep(2)
                drips.drip()
                self.assert_served(lanpost, smarthost)
                # one place was enough; some more for one who was yet slower
                self.assertGreaterEqual(drips.count(), 60)
                began = time.monotonic()
                while drips.count() > 48:
                    self.assertLess(time.monotonic() - began, 20)
                    drips.drip()
                    time.sleep(1)
                report(full_house_s=time.monotonic() - began)
                self.assert_served(lanpost, smarthost)
            self.assert_recovers(lanpost, smarthost, fds)

    def test_5000_connects(self):
        """From one address, never a byte; the oldest 500 are held."""
        with Smarthost() as smarthost, \
                Lanpost(smarthost, clients_per_address=16) as lanpost:
            fds, cpu_s, held = lanpost.fds(), lanpost.cpu_s(), []
            for i in range(5000):
                s = socket.create_connection(
                    ("127.0.0.1", lanpost.port), 5,
                    ("127.0.3.1", 0))
                if i < 500:
                    held.append(s)
                else:
                    s.close()
                if i % 1000 == 999:
                    self.assert_served(lanpost, smarthost)
                    self.assertLessEqual(lanpost.fds(), fds + 16 + 4 + 2)
            report(connects=5000, cpu_s=lanpost.cpu_s() - cpu_s)
            for s in held:
                s.close()
            self.assert_recovers(lanpost, smarthost, fds)


class Drips:
    """Slow clients, one from each source; use it with `with`."""

    OPENING = (b"EHLO slow.test\r\n",
               b"EHLO slow.test\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n"
               b"DATA\r\n")

    def __init__(self, lanpost, sources):
        self.held = []
        for i, source in enumerate(sources):
            s = socket.create_connection(("127.0.0.1", lanpost.port), 5,
                                         (source, 0))
            self.held.append(s)
            s.setblocking(False)
            s.send(self.OPENING[i % 2])
        time.sleep(0.5)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for s in self.held:
            s.close()

    def drip(self):
        for s in self.held:
            try:
                s.send(b"x")
            except OSError:
                continue  # it was thrown out, which count() is to see

    def count(self):
        """Who still has a slot: not reset, not told 421."""
        alive = []
        for s in self.held:
            try:
                told = s.recv(65536, socket.MSG_PEEK)
            except BlockingIOError:
                told = b"220"
            except OSError:
                told = b""
            if told and b"421 " not in told:
                alive.append(s)
            else:
                s.close()
        self.held = alive
        return len(alive)


if __name__ == "__main__":
    unittest.main()
