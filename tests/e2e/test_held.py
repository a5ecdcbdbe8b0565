"""What a 250 means, with the real binary: the smarthost's own word, a wrong
password that loses nothing, a storm of devices, clocks that jump."""

import asyncio
import email.utils
import glob
import os
import re
import signal
import socket
import threading
import time
import unittest

from rig import (PASSWORD, SLOW, USER, WRAPPER, Lanpost, Smarthost, Wire,
                 is_sanitized, wait_for, write)

BAD_LOGIN = ("auth:reply=535 5.7.139 Authentication unsuccessful, basic "
             "authentication is disabled.:1000")
IS_TIMED = not (WRAPPER or is_sanitized())


def relay_to(host, **values):
    return Lanpost(**{"smarthost": "localhost:%d" % host.port,
                      "smarthost_user": USER, "smarthost_password": PASSWORD,
                      "ack_wait_seconds": 25, "postmaster": "boss@x.test",
                      **values})


def send(port, text=b"Subject: t\r\n\r\nhello\r\n", to=(b"b@y.test",),
         sender=b"a@x.test"):
    """The reply to the dot (or to MAIL, when that refuses), and how long it
    took."""
    with Wire(port) as wire:
        wire.reply()
        wire.ask(b"EHLO device.test")
        reply = wire.ask(b"MAIL FROM:<%s>" % sender)
        if not reply.startswith(b"250"):
            return reply, 0
        for mailbox in to:
            wire.ask(b"RCPT TO:<%s>" % mailbox)
        wire.ask(b"DATA")
        start = time.monotonic()
        return wire.ask(text + b"."), time.monotonic() - start


class Word(unittest.TestCase):
    """The smarthost's own words reach the device."""

    def test_sent(self):
        with Smarthost() as host, relay_to(host) as relay:
            reply, _ = send(relay.port)
            self.assertEqual(reply, b"250 2.0.0 sent: Taken\r\n")
            self.assertEqual(len(host.ledger()), 1)
            relay.wait_log("accepted ack=held")

    def test_refused(self):
        words = "552 5.3.4 Message size exceeds fixed maximum message size"
        with Smarthost("--fault", "dot:reply=" + words) as host, \
                relay_to(host) as relay:
            reply, _ = send(relay.port)
            self.assertTrue(reply.startswith(words.encode()), reply)
            self.assertEqual(relay.stop(), 0)
            self.assertNotIn("notice", relay.log())

    def test_listeners_differ(self):
        """The wait is the listener's own: this one has none."""
        with Smarthost("--fault", "dot:stall=2") as host, \
                relay_to(host, ack_wait_seconds=25) as relay:
            relay.write_settings(ack_wait_at="%d=0" % relay.port)
            self.assertIn("done", relay.reload())
            reply, seconds = send(relay.port)
            self.assertIn(b"Queued in memory", reply)
            if IS_TIMED:
                self.assertLess(seconds, 1)
            host.wait_ledger(1)

    def test_window(self):
        """Stalls at the dot: 250 queued after the window, delivered once."""
        with Smarthost("--fault", "dot:stall=4") as host, \
                relay_to(host, ack_wait_seconds=1) as relay:
            reply, seconds = send(relay.port)
            self.assertIn(b"250 2.0.0 Queued in memory as", reply)
            self.assertGreater(seconds, 0.9)
            host.wait_ledger(1)
            relay.wait_log(" sent")

    def test_one_bad_recipient_of_five(self):
        to = (b"a@y", b"b@y", b"bad@y", b"c@y", b"d@y")
        with Smarthost("--rcpt-reply", "bad=550 5.1.1 no such user") as host, \
                relay_to(host, sender="relay@x.test") as relay:
            reply, _ = send(relay.port, to=to)
            self.assertEqual(
                reply, b"250 2.0.0 sent to 4 of 5 recipients: Taken\r\n")
            (line,) = host.ledger()
            self.assertTrue(line.endswith("<a@y,b@y,c@y,d@y>"), line)
            lines = host.wait_ledger(2, 45)  # NOTICE_DELAY_SECONDS
            self.assertIn("<relay@x.test> <boss@x.test>", lines[1])
            (_, _), (notice, _) = host.mails()
            self.assertIn(b"multipart/report", notice)
            self.assertIn(b"Final-Recipient: rfc822; bad@y", notice)
            self.assertIn(b"Auto-Submitted: auto-replied", notice)
            self.assertEqual(relay.stop(), 0)
            self.assertEqual(len(relay.lines("notice to=")), 1)

    def test_address_that_reads_like_a_fault(self):
        """Words that anyone can type into a device: good or bad, they are no
        quota, and the others' mail flows."""
        name = "SubmissionQuotaExceeded"
        for code, word in (("250 2.1.5", b"250 2.0.0 sent"),
                           ("550 5.1.1", b"550 5.1.1")):
            with self.subTest(code), Smarthost("--rcpt-reply", "%s=%s <%s@y>"
                                               % (name, code, name)) as host, \
                    relay_to(host) as relay:
                reply, _ = send(relay.port, to=(b"%s@y" % name.encode(),))
                self.assertTrue(reply.startswith(word), reply)
                self.assertIn(b"250 2.0.0 sent", send(relay.port)[0])
                self.assertEqual(relay.lines("route=paused"), [])

    def test_device_that_shut_its_side(self):
        """It may be deaf: no 451 that it never hears, and the only copy
        gone."""
        with Smarthost("--fault", "dot:reply=451 4.3.0 later:1") as host, \
                relay_to(host, ack_late="refuse",
                         retry_first_seconds=1) as relay:
            with Wire(relay.port) as wire:
                wire.open_mail(b"b@y.test")
                wire.ask(b"DATA")
                wire.send(b"Subject: t\r\n\r\nx\r\n.\r\n")
            host.wait_ledger(1)
            relay.wait_log(" sent")

    def test_552_at_rcpt_is_452(self):
        """Full for so many recipients: the others later, none refused."""
        with Smarthost("--rcpt-reply", "two=552 5.5.3 too many") as host, \
                relay_to(host) as relay:
            reply, _ = send(relay.port, to=(b"one@y", b"two@y"))
            self.assertIn(b"250 2.0.0 sent to 1 of 2", reply)
            self.assertEqual(len(relay.lines("rcpt=<two@y>")), 1)
            self.assertIn(" later next_s=", relay.lines("rcpt=<two@y>")[0])
            self.assertEqual(relay.stop(), 75)

    def test_354_with_all_recipients_refused(self):
        """A smarthost that goes on all the same: nothing is sent."""
        with Smarthost("--rcpt-reply", "@y=550 5.1.1 unknown",
                       "--fault", "data:reply=354 go ahead",
                       "--fault", "dot:reply=554 5.5.1 no recipients") as host, \
                relay_to(host) as relay:
            reply, _ = send(relay.port)
            self.assertTrue(reply.startswith(b"550 5.1.1 unknown"), reply)
            self.assertEqual(host.ledger(), [])
            self.assertEqual(host.mails(), [])


class WrongPassword(unittest.TestCase):
    def test_fifty_wait(self):
        """None bounced, few logins, one line; corrected, all go."""
        with Smarthost("--user", USER, "--password", PASSWORD) as host, \
                relay_to(host, smarthost_password="wrong",
                         ack_wait_seconds=2) as relay:
            for n in range(50):
                reply, _ = send(relay.port,
                                b"Subject: %d\r\n\r\nx\r\n" % n)
                self.assertIn(b"250 2.0.0 Queued in memory", reply)
            paused = relay.lines("route=paused")
            self.assertEqual(len(paused), 1, paused)
            self.assertIn("advice=", paused[0])
            wait_s = int(re.search(r"for_s=(\d+)", paused[0])[1])
            self.assertGreaterEqual(wait_s, 300)  # two more in ten minutes
            self.assertEqual(relay.lines(" refused"), [])
            self.assertEqual(host.transcript().count("AUTH "), 1)
            self.assertEqual(host.ledger(), [])
            relay.write_settings(smarthost_password=PASSWORD)
            self.assertIn("done", relay.reload())
            self.assertEqual(len(set(host.wait_ledger(50, 20))), 50)
            relay.wait_log("route=up")
            self.assertEqual(relay.stop(), 0)


class Delay(threading.Thread):
    """A line with a delay each way, between the relay and the smarthost."""

    def __init__(self, port, one_way_s):
        super().__init__(daemon=True)
        self.to, self.one_way_s = port, one_way_s
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.connections = 0
        self.start()

    def run(self):
        asyncio.run(self.serve())

    async def serve(self):
        server = await asyncio.start_server(self.connect, sock=self.listener)
        async with server:
            await server.serve_forever()

    async def connect(self, reader, writer):
        self.connections += 1
        await asyncio.sleep(2 * self.one_way_s)  # what TCP's own takes
        far = await asyncio.open_connection("127.0.0.1", self.to)
        await asyncio.gather(self.pass_on(reader, far[1]),
                             self.pass_on(far[0], writer))

    async def pass_on(self, reader, writer):
        queue = asyncio.Queue()

        async def write_late():
            while (item := await queue.get())[1]:
                await asyncio.sleep(item[0] - time.monotonic())
                writer.write(item[1])
            writer.close()
        late = asyncio.create_task(write_late())
        data = b"-"
        while data:
            try:
                data = await reader.read(65536)
            except OSError:
                data = b""
            queue.put_nowait((time.monotonic() + self.one_way_s, data))
        await late


@unittest.skipUnless(IS_TIMED, "a matter of time")
class Latency(unittest.TestCase):
    TRIP_S = 0.1
    CHANGE_S = 0.08

    def trips(self, seconds):
        return seconds / self.TRIP_S

    def test_round_trips(self):
        """Cold, warmed up by an upload, and warm: so many round trips."""
        with Smarthost() as host:
            line = Delay(host.port, self.TRIP_S / 2)
            with relay_to(host, smarthost="localhost:%d" % line.port) as relay:
                cold = send(relay.port)
                warm = [send(relay.port)[1] for _ in range(3)]
                time.sleep(6)  # the relay hangs up when idle
                ahead = self.send_slowly(relay.port)
        for what, seconds in (("cold", cold[1]), ("uploading", ahead),
                              ("warm", min(warm))):
            print("\n%-9s: %3.0f ms to the 250, %.1f round trips" % (
                what, seconds * 1000, self.trips(seconds)), end="")
        print()
        self.assertEqual(line.connections, 2)
        self.assertLess(min(warm), self.TRIP_S + self.CHANGE_S)
        self.assertLess(ahead, self.TRIP_S + self.CHANGE_S)
        self.assertGreater(cold[1], min(warm) + self.TRIP_S)

    def test_without_chunking(self):
        """DATA's 354, then the dot: no message is sent before the first."""
        with Smarthost("--without", "CHUNKING") as host:
            line = Delay(host.port, self.TRIP_S / 2)
            with relay_to(host, smarthost="localhost:%d" % line.port) as relay:
                warm = [send(relay.port)[1] for _ in range(4)][1:]
        self.assertGreater(min(warm), 2 * self.TRIP_S)
        self.assertLess(min(warm), 2 * self.TRIP_S + self.CHANGE_S)

    def send_slowly(self, port):
        """A scanner that takes a second: the connection is made meanwhile."""
        with Wire(port) as wire:
            wire.reply()
            wire.ask(b"EHLO device.test")
            wire.ask(b"MAIL FROM:<a@x.test>")
            wire.ask(b"RCPT TO:<b@y.test>")
            wire.ask(b"DATA")
            wire.send(b"Subject: scan\r\n\r\n")
            time.sleep(1.5)
            start = time.monotonic()
            wire.ask(b"page\r\n.")
            return time.monotonic() - start


class Storm(unittest.TestCase):
    """The power is back: 200 devices report at once, ten mails each, and the
    smarthost is down at first."""

    DEVICES, MAILS = (200, 10) if IS_TIMED else (60, 3)

    def test_none_is_lost(self):
        with Smarthost() as gone:
            port = gone.port
        with Lanpost(smarthost="localhost:%d" % port, smarthost_user=USER,
                     smarthost_password=PASSWORD, ack_wait_seconds=2,
                     retry_first_seconds=3, connections_max=2,
                     status_listen="") as relay:
            self.refusals, self.at_once = [], 0
            asyncio.run(self.storm(relay.port))
            with Smarthost(listen="127.0.0.1:%d" % port) as host:
                watch = threading.Thread(target=self.watch, args=(port, relay))
                self.is_watched = True
                watch.start()
                total = self.DEVICES * self.MAILS
                host.wait_ledger(total, 60)
                self.is_watched = False
                watch.join()
                time.sleep(0.5)
                self.assertEqual(len(host.ledger()), total)
                subjects = {re.search(rb"Subject: (\S+)", text)[1]
                            for text, _ in host.mails()}
                self.assertEqual(len(subjects), total)
                self.assertEqual(relay.stop(), 0)
        print("\n%d mails, %d refusals before the upload, at most %d "
              "connections" % (total, len(self.refusals), self.at_once))
        self.assertLessEqual(self.at_once, 2)
        for stage, reply in self.refusals:
            self.assertIn(stage, ("greeting", "MAIL"))
            self.assertIn(reply[:3], (b"421", b"452"))

    async def storm(self, port):
        await asyncio.gather(*(self.device(n, port)
                               for n in range(self.DEVICES)))

    async def device(self, number, port):
        for n in range(self.MAILS):
            subject = b"%d-%d" % (number, n)
            while not await self.send_one(number, port, subject):
                await asyncio.sleep(0.3 + number % 7 / 10)

    async def send_one(self, number, port, subject):
        source = ("127.0.%d.%d" % (1 + number // 200, 1 + number % 200), 0)
        try:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, local_addr=source)
        except OSError:
            return False

        async def ask(stage, text):
            if text:
                writer.write(text)
            reply = await reader.readline()
            while reply[3:4] == b"-":
                reply = await reader.readline()
            if reply[:1] not in b"23" or not reply:
                self.refusals.append((stage, reply))
                return False
            return True
        try:
            return (await ask("greeting", b"") and
                    await ask("EHLO", b"EHLO d\r\n") and
                    await ask("MAIL", b"MAIL FROM:<a@x.test>\r\n") and
                    await ask("RCPT", b"RCPT TO:<b@y.test>\r\n") and
                    await ask("DATA", b"DATA\r\n") and
                    await ask("dot", b"Subject: " + subject +
                              b"\r\n\r\nup again\r\n.\r\n"))
        except OSError as error:
            self.refusals.append(("broken", repr(error).encode()))
            return False
        finally:
            writer.close()

    def watch(self, port, relay):
        """Connections of the relay to the smarthost, from the kernel."""
        wanted = re.compile(r" 0100007F:%04X 01 " % port)
        while self.is_watched and relay.process.poll() is None:
            with open("/proc/net/tcp", encoding="ascii") as file:
                self.at_once = max(self.at_once,
                                   len(wanted.findall(file.read())))
            time.sleep(0.005)


@unittest.skipIf(WRAPPER, "two libraries cannot be preloaded one into the "
                          "other: faketime's, and valgrind's")
class Clock(unittest.TestCase):
    def setUp(self):
        libraries = glob.glob("/usr/lib/*/faketime/libfaketime.so.1")
        self.assertTrue(libraries, "no libfaketime.so.1: install faketime")
        self.file = "/tmp/lanpost-clock-%d" % os.getpid()
        self.addCleanup(os.unlink, self.file)
        self.env = {
            "LD_PRELOAD": libraries[0], "FAKETIME_TIMESTAMP_FILE": self.file,
            "FAKETIME_NO_CACHE": "1", "TZ": "UTC",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1",
            "ASAN_OPTIONS": "verify_asan_link_order=0:detect_leaks=0"}

    def jump(self, offset):
        write(self.file, offset + "\n")

    def year_of_last(self, host, count):
        host.wait_ledger(count)
        text = host.mails()[-1][0].decode("latin-1")
        date = re.search(r"(?m)^Date: (.*)$", text)[1]
        return email.utils.parsedate_to_datetime(date).year

    def test_ten_years(self):
        """Timers stand on the monotonic clock: nothing is late, nothing
        expires; the Date follows the wall clock."""
        year = time.gmtime().tm_year
        self.jump("+0")
        with Smarthost("--fault", "mail:reply=451 4.3.0 later:1") as host, \
                Lanpost(env=self.env, smarthost="127.0.0.1:%d" % host.port,
                        smarthost_tls="none", retry_first_seconds=2,
                        ack_wait_seconds=1) as relay:
            reply, _ = send(relay.port)  # put off, to be tried again
            self.assertIn(b"Queued in memory", reply)
            self.jump("+3650d")
            host.wait_ledger(1, 8)  # after 2 s, neither at once nor never
            self.assertEqual(relay.lines("given up"), [])
            self.assertIn(b"sent:", send(relay.port)[0])
            self.assertIn(self.year_of_last(host, 2), (year + 9, year + 10))
            self.jump("-3650d")
            self.assertIn(b"sent:", send(relay.port)[0])
            self.assertIn(self.year_of_last(host, 3), (year - 10, year - 9))
            self.jump("+0")
            self.assertIn(b"sent:", send(relay.port)[0])
            self.assertEqual(relay.stop(), 0)

    def test_boot_in_1970(self):
        """Held with advice about the clock; right again, it flows."""
        self.jump("@1970-01-02 00:00:00")
        with Smarthost() as host, \
                relay_to(host, env=self.env, ack_wait_seconds=1,
                         retry_first_seconds=2) as relay:
            reply, _ = send(relay.port)
            self.assertIn(b"Queued in memory", reply)
            line, = relay.wait_log("route=paused")
            self.assertIn("check this box's clock", line)
            self.assertEqual(host.ledger(), [])
            self.jump("+0")
            host.wait_ledger(1, 15)
            self.assertEqual(relay.stop(), 0)

    def test_stopped_for_a_while(self):
        """SIGSTOP: what was under way goes on, nothing twice."""
        self.jump("+0")
        with Smarthost("--fault", "dot:stall=1") as host, \
                relay_to(host, ack_wait_seconds=2) as relay:
            with Wire(relay.port) as wire:
                wire.open_mail(b"b@y.test")
                wire.ask(b"DATA")
                wire.send(b"Subject: t\r\n\r\nx\r\n.\r\n")
                relay.wait_log("ack=held")
                relay.process.send_signal(signal.SIGSTOP)
                time.sleep(5)
                relay.process.send_signal(signal.SIGCONT)
                self.assertTrue(wire.reply().startswith(b"250"))
            self.assertIn(b"250", send(relay.port)[0])
            host.wait_ledger(2)
            self.assertEqual(relay.stop(), 0)
            self.assertEqual(len(host.ledger()), 2)


class Signals(unittest.TestCase):
    def test_queue_in_the_log(self):
        with Smarthost(*("--fault", BAD_LOGIN)) as host, \
                relay_to(host, ack_wait_seconds=1) as relay:
            for _ in range(3):
                send(relay.port)
            relay.process.send_signal(signal.SIGUSR1)
            (line,) = relay.wait_log("queue messages=")
            self.assertIn("messages=3 sending=0 in_doubt=0 promised=3", line)
            lines = relay.wait_log("state=waiting", count=3)
            self.assertIn("rcpt=1/1", lines[0])
            self.assertIn("promised=yes", lines[0])

    def test_status(self):
        with Smarthost("--fault", BAD_LOGIN) as host, \
                relay_to(host, ack_wait_seconds=1) as relay:
            send(relay.port)
            relay.write_settings()
            wait_for(lambda: relay.lines("route=paused"), "the pause")
            self.assertEqual(relay.stop(), 75)
            self.assertEqual(len(relay.lines(" lost reason=shutdown")), 1)


if __name__ == "__main__":
    unittest.main()
