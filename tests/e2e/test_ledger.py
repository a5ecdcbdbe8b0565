"""The ledger: each row of docs/ledger.md in each mode, over the rig of
ledger.py. LEDGER_ROWS=REGEX plays some rows alone; LEDGER_TABLE=FILE writes
the table that was seen, and the one of the docs must be the same.
LEDGER_SEED repeats the random moments.
"""
import collections
import concurrent.futures
import os
import random
import re
import signal
import socket
import threading
import time
import unittest

import rig
from ledger import (ALWAYS, FACTOR, IN_DOUBT, LONG_S, MODES, NOTHING, QUEUE,
                    QUEUED, REFUSE, SENT, SENT_AGAIN, SHORT_S, Cell,
                    DeafDevice, Host, Relay, hang_up, mail_of, reset)
from rig import wait_for

SEED = int(os.environ.get("LEDGER_SEED", "0")) or random.randrange(1, 1 << 31)
WANTED = re.compile(os.environ.get("LEDGER_ROWS", ""))
CELLS_AT_A_TIME = 16
KILLS, SIGTERMS = 40, 12
TOLD_S = 2.5  # an answer that is not acknowledged so long is in doubt
CLOCK_S = 0.3  # for what takes no time to have happened
HOLDING = (QUEUE, REFUSE)
SOON = {"retry_first_seconds": 1, "retry_max_seconds": 1}  # within a window


Row = collections.namedtuple("Row", "text variant function modes is_long")
rows = []


def row(text, modes=MODES, variant="", is_long=False):
    """Variants of a row are one line of the table where they agree."""
    def add(function):
        rows.append(Row(text, variant, function, modes, is_long))
        return function
    return add


# ---- The device dies, or does not hear -------------------------------------

for how, by in (("FIN", hang_up), ("RST", reset)):
    @row("the device dies before the dot", variant=how)
    def before_dot(cell, by=by):
        cell.start()
        device = cell.device()
        device.upload()
        device.die(by)
        cell.relay.wait_log("hung up in DATA")

    @row("the device dies right behind the dot", variant=how)
    def behind_dot(cell, by=by):
        is_dead = threading.Event()
        cell.start(dot=[is_dead])
        cell.begin().die(by)
        cell.host.wait_stage("dot")
        time.sleep(CLOCK_S)
        is_dead.set()

    @row("it dies while its 250 is held, and sends the same before the "
         "verdict", HOLDING, how)
    def again_while_open(cell, by=by):
        has_joined = threading.Event()
        cell.start(dot=[has_joined])
        first = cell.begin()
        cell.host.wait_stage("dot")
        first.die(by)
        second = cell.begin()
        cell.relay.wait_log("joined")
        has_joined.set()
        second.hear()

    @row("it dies while its 250 is held, and sends the same behind the "
         "verdict", HOLDING, how)
    def again_behind_verdict(cell, by=by):
        is_dead = threading.Event()
        cell.start(dot=[is_dead])
        first = cell.begin()
        cell.host.wait_stage("dot")
        first.die(by)
        time.sleep(CLOCK_S)
        is_dead.set()
        cell.relay.wait_log(" sent")
        cell.send()


@row("it dies while its 250 is held, the smarthost refuses, and it sends the "
     "same", HOLDING)
def again_behind_refusal(cell):
    is_dead = threading.Event()
    cell.start(dot=[(is_dead, b"550 5.7.1 no such thing")])
    first = cell.begin()
    cell.host.wait_stage("dot")
    first.die()
    time.sleep(CLOCK_S)
    is_dead.set()
    cell.relay.wait_log(" refused")
    cell.send()


@row("it dies while its 250 is held, the smarthost takes the mail and dies "
     "before its 250, and it sends the same", HOLDING)
def again_in_doubt(cell):
    cell.may_double = IN_DOUBT
    is_dead = threading.Event()
    cell.start(LONG_S, SOON, taken=[(is_dead, reset)])
    first = cell.begin()
    cell.host.wait_stage("taken")
    first.die()
    time.sleep(CLOCK_S)
    second = cell.begin()
    cell.relay.wait_log("joined")
    is_dead.set()
    second.hear()


@row("it dies while its 250 is held, and the smarthost wakes up behind the "
     "window", HOLDING)
def dead_behind_window(cell):
    has_woken = threading.Event()
    cell.start(SHORT_S, connect=[has_woken])
    first = cell.begin()
    cell.host.wait_stage("connect")
    first.die()
    time.sleep(SHORT_S + 1)
    has_woken.set()


@row("it dies while its 250 is held; then SIGTERM, and the smarthost is mute",
     HOLDING)
def dead_and_sigterm(cell):
    cell.start(connect=ALWAYS(threading.Event()))
    first = cell.begin()
    cell.host.wait_stage("connect")
    first.die()
    time.sleep(CLOCK_S)
    terminate(cell)
    cell.relay.wait(20 * FACTOR)


@row("it dies while its 250 is held, and sends other bytes", HOLDING)
def other_while_held(cell):
    is_dead = threading.Event()
    cell.start(dot=[is_dead])
    first = cell.begin("a")
    cell.host.wait_stage("dot")
    first.die()
    time.sleep(CLOCK_S)
    second = cell.begin("b")
    is_dead.set()
    second.hear()


@row("it dies while its 250 is held, and another device sends the same bytes",
     HOLDING)
def same_from_another(cell):
    cell.copies["a"] = 2
    is_dead = threading.Event()
    cell.start(dot=[is_dead])
    first = cell.begin()
    cell.host.wait_stage("dot")
    first.die()
    time.sleep(CLOCK_S)
    second = cell.begin(source="127.0.0.2")
    is_dead.set()
    second.hear()


@row("it dies while its 250 is held, and sends the same bytes to somebody "
     "else", HOLDING)
def same_to_another(cell):
    cell.copies["a"] = 2
    is_dead = threading.Event()
    cell.start(dot=[is_dead])
    first = cell.begin()
    cell.host.wait_stage("dot")
    first.die()
    time.sleep(CLOCK_S)
    second = cell.begin(rcpt=[b"a@other.test"])
    is_dead.set()
    second.hear()


def answer_deaf(cell):
    """Our 250 is written, and its bytes are not acknowledged."""
    cell.start()
    device = cell.device(kind=DeafDevice)
    device.upload()
    device.wait_answer()
    cell.relay.wait_log(" sent")
    return device


def lose_250(cell):
    """As on a wire that is dead: not even a reset comes. The relay waits for
    the acknowledgement for a while before it has its doubts."""
    answer_deaf(cell).note(NOTHING)
    time.sleep(TOLD_S)


@row("our 250 is lost on the wire, and the device sends the same")
def lost_250_same(cell):
    lose_250(cell)
    cell.send()


@row("our 250 is lost on the wire, and the device sends other bytes")
def lost_250_other(cell):
    lose_250(cell)
    cell.send("b")


@row("our 250 is written, the device resets unaware of it and sends the same")
def reset_behind_250(cell):
    """To the relay that is a device which leaves rudely, having heard."""
    cell.may_double = SENT_AGAIN
    answer_deaf(cell).die()
    time.sleep(CLOCK_S)
    cell.send()


@row("our 250 reaches the device, which dies unaware of it and sends the same")
def unread_250(cell):
    cell.may_double = SENT_AGAIN
    cell.start()
    first = cell.begin()
    cell.relay.wait_log(" sent")
    wait_for(lambda: first.socket.recv(9, socket.MSG_PEEK),
             "the 250")
    time.sleep(CLOCK_S)
    first.die()
    time.sleep(CLOCK_S)
    cell.send()


@row("two identical alarms, both acknowledged: two mails")
def two_alarms(cell):
    cell.copies["a"] = 2
    cell.start()
    cell.send()
    cell.send()


@row("two identical alarms at a time: two mails")
def two_alarms_at_once(cell):
    cell.copies["a"] = 2
    are_there = threading.Event()
    cell.start(dot=[are_there, are_there])
    first, second = cell.begin(), cell.begin()
    cell.host.wait_stage("dot", 2)
    are_there.set()
    first.hear()
    second.hear()


@row("the device closes its side behind the dot, and sends the same on "
     "another connection", HOLDING)
def half_closed_and_again(cell):
    has_joined = threading.Event()
    cell.start(dot=[has_joined])
    first = cell.begin()
    cell.host.wait_stage("dot")
    first.socket.shutdown(socket.SHUT_WR)
    time.sleep(CLOCK_S)
    second = cell.begin()
    cell.relay.wait_log("joined")
    has_joined.set()
    first.hear()
    second.hear()


@row("the device closes its side behind the dot, and listens")
def half_closed(cell):
    cell.start(dot=[(is_closed := threading.Event())])
    device = cell.begin()
    cell.host.wait_stage("dot")
    device.socket.shutdown(socket.SHUT_WR)
    time.sleep(CLOCK_S)
    is_closed.set()
    device.hear()


@row("the device closes its side behind each dot, listens, and sends an "
     "identical alarm: two mails")
def half_closed_alarms(cell):
    cell.copies["a"] = 2
    cell.start()
    for _ in range(2):
        device = cell.begin()
        device.socket.shutdown(socket.SHUT_WR)
        device.hear()
        device.socket.close()


# ---- The smarthost ---------------------------------------------------------

@row("the smarthost refuses connections beyond the window")
def refuses_connections(cell):
    cell.start(SHORT_S, is_listening=False)
    cell.send()
    cell.host.listen()


@row("it refuses connections, and the next mail comes")
def is_known_down(cell):
    cell.start(SHORT_S, is_listening=False)
    cell.send("a")
    cell.send("b")
    cell.host.listen()


@row("it refuses connections, and the device tries until it is back",
     (REFUSE,))
def is_told_and_tries(cell):
    cell.words["told"] = "told 451 until it is back, then 250 sent"
    cell.start(SHORT_S, is_listening=False)
    cell.send()
    cell.send()
    cell.host.listen()
    cell.send_until_told("a", SENT)


@row("it refuses connections, and is back within the window")
def is_back(cell):
    cell.start(LONG_S, SOON, is_listening=False)
    device = cell.begin()
    cell.relay.wait_log("route=paused")
    cell.host.listen()
    device.hear()


def stall(cell, window_s, stall_s, **settings):
    is_over = threading.Event()
    cell.start(window_s, settings, dot=[is_over])
    device = cell.begin()
    cell.host.wait_stage("dot")
    timer = threading.Timer(stall_s, is_over.set)
    timer.daemon = True
    timer.start()
    device.hear()
    timer.join()


@row("it stalls at the dot for one and a half windows")
def stalls(cell):
    stall(cell, 4 * FACTOR, 6 * FACTOR)


@row("it stalls at the dot for three windows")
def stalls_longer(cell):
    stall(cell, SHORT_S, 3 * SHORT_S)


@row("it stalls at the dot for a minute, the window is the build's",
     is_long=True)
def stalls_a_minute(cell):
    stall(cell, None if cell.holds else 0, 60)


for stage, when in (("connect", "before its greeting"), ("ehlo", "at EHLO"),
                    ("mail", "at MAIL"), ("rcpt", "at RCPT"),
                    ("data", "at DATA")):
    for how, by in (("FIN", hang_up), ("RST", reset)):
        @row("it dies " + when, variant=how)
        def dies(cell, stage=stage, by=by):
            cell.start(SHORT_S, **{stage: [by]})
            cell.send()


# More than the kernels on the way hold: its dot cannot have left.
SCAN = mail_of("a", 8 << 20)


@row("it dies before the dot, and is back within the window")
def dies_and_is_back(cell):
    cell.start(LONG_S, SOON, body=[reset])
    cell.send(text=SCAN)


for how, by in (("FIN", hang_up), ("RST", reset)):
    @row("it dies before the dot", variant=how)
    def dies_in_body(cell, by=by):
        cell.start(SHORT_S, body=[by])
        cell.send(text=SCAN)

    @row("it dies behind the dot", variant=how)
    def dies_behind_dot(cell, by=by):
        cell.start(SHORT_S, dot=[by])
        cell.send()

    @row("it takes the mail, and dies before its 250", variant=how)
    def dies_before_250(cell, by=by):
        cell.may_double = IN_DOUBT
        cell.start(SHORT_S, taken=[by])
        cell.send()

    @row("it dies behind its 250", variant=how)
    def dies_behind_250(cell, by=by):
        cell.start(said=[by])
        cell.send()


@row("it dies behind the dot, and is back within the window")
def dies_behind_dot_and_is_back(cell):
    cell.start(LONG_S, SOON, dot=[reset])
    cell.send()


@row("it says 250 and then 421")
def says_421_behind_250(cell):
    cell.start(said=[b"421 4.3.2 going down"])
    cell.send()


for stage, name in (("greeting", "the greeting"), ("ehlo", "EHLO"),
                    ("mail", "MAIL"), ("rcpt", "RCPT"), ("data", "DATA"),
                    ("dot", "the dot")):
    for code in (b"421 4.3.0", b"451 4.3.0", b"550 5.7.1"):
        for is_pipeline in (False, True):
            @row("it answers %s at %s" % (code[:3].decode(), name),
                 variant="in a pipeline" if is_pipeline else "")
            def answers(cell, stage=stage, code=code, pipelining=is_pipeline):
                cell.start(SHORT_S, pipelining=pipelining,
                           **{stage: [code + b" by script"]})
                cell.send()


@row("it answers 451 at the dot, and 250 within the window")
def answers_later(cell):
    cell.start(LONG_S, SOON, dot=[b"451 4.3.0 not now"])
    cell.send()


@row("it refuses one of two recipients")
def one_of_two(cell):
    cell.start(rcpt=[None, b"550 5.1.1 unknown"])
    cell.send(rcpt=[b"a@y.test", b"nobody@y.test"])


# ---- The queue is full -----------------------------------------------------

@row("the queue is full, at MAIL and in the body; an alert; the scans end",
     is_long=True)
def queue_is_full(cell):
    """Two scans under way take all but the room for alerts."""
    cell.start()
    mebibyte = 1 << 20
    scans = []
    for token, size in (("a", 24 * mebibyte), ("b", 5 * mebibyte)):
        scan = cell.device(token, text=mail_of(token, size), size=size)
        scan.upload()
        scans.append(scan)
    cell.send("c", text=mail_of("c", 2 * mebibyte), size=2 * mebibyte)
    cell.send("d", text=mail_of("d", 2 * mebibyte))
    cell.send("alert")
    for scan in scans:
        scan.dot()
        scan.hear()
        scan.quit()


# ---- The relay ends --------------------------------------------------------

def terminate(cell, line="stopping"):
    cell.relay.process.send_signal(signal.SIGTERM)
    cell.relay.wait_log(line)


def begin_held(cell):
    """A mail that is at the device's last word: held, or told 250 queued."""
    device = cell.begin()
    if not cell.holds:
        device.hear()
    return device


def end_held(cell, device):
    if cell.holds:
        device.hear()
    cell.relay.wait(20 * FACTOR)


@row("SIGTERM before the dot")
def sigterm_before_dot(cell):
    cell.start()
    device = cell.device()
    device.upload()
    terminate(cell)
    device.dot()
    device.hear()
    cell.relay.wait(20 * FACTOR)


@row("SIGTERM with a mail at the dot, and the smarthost answers in time")
def sigterm_live(cell):
    is_told = threading.Event()
    cell.start(dot=[is_told])
    device = begin_held(cell)
    cell.host.wait_stage("dot")
    terminate(cell)
    is_told.set()
    end_held(cell, device)


@row("SIGTERM with a mail at the dot, and the smarthost takes it too late")
def sigterm_in_flight(cell):
    has_ended = threading.Event()
    cell.start(dot=[has_ended])
    device = begin_held(cell)
    cell.host.wait_stage("dot")
    terminate(cell)
    end_held(cell, device)
    has_ended.set()
    cell.host.wait_stage("taken")


@row("the same, and the device sends it to the next relay")
def sigterm_in_flight_again(cell):
    cell.may_double = SENT_AGAIN
    has_ended = threading.Event()
    cell.start(dot=[has_ended])
    device = begin_held(cell)
    cell.host.wait_stage("dot")
    terminate(cell)
    end_held(cell, device)
    has_ended.set()
    cell.host.wait_stage("taken")
    if cell.holds:  # else the device has its 250, and sends nothing again
        cell.ledger.read_log(cell.relay.log())
        cell.relay.restart()
        cell.send()


@row("SIGTERM, and the smarthost is mute")
def sigterm_mute(cell):
    cell.start(connect=ALWAYS(threading.Event()))
    device = begin_held(cell)
    cell.host.wait_stage("connect")
    terminate(cell)
    end_held(cell, device)


@row("SIGTERM, and the smarthost refuses connections")
def sigterm_refused(cell):
    cell.start(SHORT_S, is_listening=False)
    cell.send()
    terminate(cell)
    cell.relay.wait(20 * FACTOR)


@row("SIGTERM while a mail rests, and the smarthost is well again")
def sigterm_pass(cell):
    cell.start(SHORT_S, {"retry_first_seconds": 600,
                         "retry_max_seconds": 900},
               mail=[b"451 4.3.0 not now"])
    cell.send()
    cell.relay.wait_log(" later next_s=")
    terminate(cell)
    cell.relay.wait(20 * FACTOR)


@row("two SIGTERMs, and the smarthost is mute")
def two_sigterms(cell):
    cell.start(connect=ALWAYS(threading.Event()))
    device = begin_held(cell)
    cell.host.wait_stage("connect")
    terminate(cell)
    terminate_again(cell)
    end_held(cell, device)


@row("two SIGTERMs with a mail at the dot, that the smarthost takes")
def two_sigterms_in_flight(cell):
    has_ended = threading.Event()
    cell.start(dot=[has_ended])
    device = begin_held(cell)
    cell.host.wait_stage("dot")
    terminate(cell)
    terminate_again(cell)
    end_held(cell, device)
    has_ended.set()
    cell.host.wait_stage("taken")


def terminate_again(cell):
    """No more waiting then: it is gone long before the drain is over."""
    began = time.monotonic()
    cell.relay.process.send_signal(signal.SIGTERM)
    cell.relay.wait(20 * FACTOR)
    took = time.monotonic() - began
    if took > 2 * FACTOR:
        raise AssertionError("two SIGTERMs, and it took %.1f s" % took)


# ---- The relay is stopped or killed, anywhere ------------------------------

def stop_words(cell):
    cell.words = {"told": "told what it was in time for",
                  "arrives": "once, or never", "lost": "what is declared",
                  "twice": "no"}


def check_status(status, log):
    is_lost = " lost reason=" in log[log.rfind(" listening "):]
    if status != (75 if is_lost else 0):
        raise AssertionError("status %d:\n%s" % (status, log))


def crash_words(cell):
    word = SENT if cell.holds else QUEUED
    cell.words = {
        "told": "told %s, or nothing" % word,
        "arrives": "once, or again when sent again" if cell.holds else
                   "once, again when sent again, or never",
        "lost": "no" if cell.holds else "what was told queued",
        "twice": "when sent again"}
    return word


def send_for_life(cell, token):
    """As far as it comes before the relay dies."""
    try:
        cell.send(token)
    except OSError:
        cell.ledger.note("device", token, "told", NOTHING)


def send_to(cell, relay, token):
    """The same, to this relay."""
    there = Cell(cell.row, cell.mode)
    there.ledger, there.relay = cell.ledger, relay
    with there.stack:
        send_for_life(there, token)


@row("SIGTERM at any moment", is_long=True)
def sigterm_at_random(cell):
    stop_words(cell)
    chance = random.Random("%d %s" % (SEED, cell.mode.name))
    cell.start(delay_s=0.01 * FACTOR)
    for moment in range(SIGTERMS):
        if moment > 0:
            cell.relay.restart()
        tokens = ["t%d-%d" % (moment, i) for i in range(3)]
        threads = [threading.Thread(target=send_for_life, args=(cell, token))
                   for token in tokens]
        for thread in threads:
            thread.start()
        time.sleep(chance.uniform(0, 0.15) * FACTOR)
        status = cell.relay.stop()
        for thread in threads:
            thread.join()
        check_status(status, cell.relay.log())


@row("SIGKILL at any moment, and the device sends again what got no 250",
     is_long=True)
def killed_at_random(cell):
    word = crash_words(cell)
    chance = random.Random("%d %s" % (SEED, cell.mode.name))
    cell.start(delay_s=0.01 * FACTOR)
    for moment in range(KILLS):
        tokens = ["k%d-%d" % (moment, i) for i in range(3)]
        threads = [threading.Thread(target=send_for_life, args=(cell, token))
                   for token in tokens]
        for thread in threads:
            thread.start()
        time.sleep(chance.uniform(0, 0.15) * FACTOR)
        cell.relay.process.kill()
        for thread in threads:
            thread.join()
        cell.crashes += 1
        cell.relay.restart()
        for token in tokens:
            told, = cell.ledger.told(token)
            if told not in (word, NOTHING):
                raise AssertionError("told " + told)
            if told == NOTHING and cell.send(token) != word:
                raise AssertionError("not told %s: %s" % (
                    word, cell.ledger.told(token)))


# What strace shows of a mail, and where it is to kill.
STRACE = ("-D", "-f", "-qq", "-o")  # --seccomp-bpf injects nothing
NO_LEAK_SEARCH = {"ASAN_OPTIONS": "detect_leaks=0"}  # it wants to trace, too


def traced(cell, path, *options):
    return Relay(cell.host, cell.mode, wrap=(rig.tool("strace"), *STRACE,
                                             path, *options),
                 env=NO_LEAK_SEARCH)


def calls_of_a_mail(cell):
    """[(name of the call, its how manieth of the process)], from accept to
    the end of the device's session, the mail being settled."""
    with traced(cell, path := os.path.join(
            rig.certificates(), "trace-%d" % id(cell))) as relay:
        send_to(cell, relay, "calls")
        relay.wait_log(" sent")
        time.sleep(CLOCK_S * FACTOR)
        lines = rig.read(path).splitlines()
    os.unlink(path)
    counts, calls, is_begun = {}, [], False
    for line in lines:
        found = re.match(r"\d+\s+(\w+)\((.*)", line)
        if not found:
            continue
        name = found[1]
        counts[name] = counts.get(name, 0) + 1
        is_begun |= name.startswith("accept") and "sin_port" in found[2]
        if is_begun:
            calls.append((name, counts[name]))
    return calls


def hit_at(cell, call, number):
    """A device sends its mail, and that call brings the signal; True if it
    came. A relay that only stops has its say, from one that was killed the
    device goes to the next one."""
    name, count = call
    token = "%s-%d" % (name.replace("_", "-"), count)
    inject = "%s:signal=%s:when=%d" % (name, number.name, count)
    with traced(cell, "/dev/null", "-e", "trace=" + name, "-e",
                "inject=" + inject) as relay:
        send_to(cell, relay, token)
        is_hit = wait_hit(relay, number)
        if number == signal.SIGTERM:
            status = relay.stop()
            check_status(status, relay.log())
            cell.ledger.read_log(relay.log())
    if number == signal.SIGKILL and cell.ledger.told(token) == [NOTHING]:
        cell.send(token)
    return is_hit


def wait_hit(relay, number):
    end = time.monotonic() + 0.5 * FACTOR
    while time.monotonic() < end:
        if relay.process.poll() is not None or (
                number == signal.SIGTERM and relay.lines(" stopping ")):
            return True
        time.sleep(0.02)
    return False


def hit_at_each_call(cell, number):
    cell.host = Host(cell.ledger)
    cell.relay = Relay(cell.host, cell.mode)  # the next one
    if rig.WRAPPER:  # the calls would be those of valgrind
        return
    calls = calls_of_a_mail(cell)
    if cell.mode is not QUEUE:
        calls = calls[::3]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        hits = sum(pool.map(lambda call: hit_at(cell, call, number), calls))
    print("%s: %d system calls, %s at %d of them" % (
        cell.mode.name, len(calls), number.name, hits))
    if hits < 0.8 * len(calls):
        raise AssertionError("hit at %d of %d" % (hits, len(calls)))


@row("SIGTERM at each system call from accept to settle", is_long=True)
def stopped_at_each_call(cell):
    stop_words(cell)
    hit_at_each_call(cell, signal.SIGTERM)


@row("SIGKILL at each system call from accept to settle, likewise",
     is_long=True)
def killed_at_each_call(cell):
    word = crash_words(cell)
    cell.crashes = 1
    hit_at_each_call(cell, signal.SIGKILL)
    for token in cell.ledger.tokens():
        if not set(cell.ledger.told(token)) <= {word, NOTHING}:
            raise AssertionError("%s: told %s" % (
                token, cell.ledger.told(token)))


# ---- The table -------------------------------------------------------------

def play(one, mode):
    """(told, arrives, lost, twice) of one cell."""
    with Cell("%s %s" % (one.text, one.variant), mode) as cell:
        one.function(cell)
        cell.finish()
        return cell.told(), cell.arrives(), cell.lost(), cell.twice()


def in_modes(words):
    """One word for all, or one for each mode."""
    known = [word for word in words if word]
    return known[0] if len(set(known)) == 1 else \
        " / ".join(word or "-" for word in words)


def table_lines(text, variants):
    """variants: {name: for each mode what play() returned, or None: no such
    cell}. One line, if they agree."""
    if len(set(map(tuple, variants.values()))) == 1:
        variants = {"": next(iter(variants.values()))}
    for name, seen in variants.items():
        cells = ["%s; arrives %s" % one[:2] if one else "-" for one in seen]
        ends = [in_modes([one and one[i] for one in seen]) for i in (2, 3)]
        yield "| %s |" % " | ".join(
            [text + (", " + name if name else ""), *cells, *ends])


HEADER = ["| what happens | %s | lost? | twice? |" % " | ".join(
    mode.name for mode in MODES), "|---" * (3 + len(MODES)) + "|"]


class Law(unittest.TestCase):
    """The law can be broken: what would else prove nothing."""

    BROKEN = [  # entries of one mail, and whether a crash or doubt excuses it
        ([("device", "told", QUEUED)], "crash"),
        ([("device", "told", SENT)], None),
        ([("device", "told", SENT), ("relay", "lost", "")], None),
        ([("device", "told", "451"), ("smarthost", "took", "")], "doubt"),
        ([("device", "told", "550"), ("smarthost", "took", "")], "doubt"),
        ([("device", "told", NOTHING), ("smarthost", "took", ""),
          ("smarthost", "took", "")], "doubt"),
        ([("device", "told", QUEUED), ("smarthost", "took", ""),
          ("smarthost", "took", "")], "doubt"),
        ([("device", "told", QUEUED), ("device", "told", QUEUED),
          ("smarthost", "took", ""), ("smarthost", "took", ""),
          ("smarthost", "took", "")], None),
    ]
    KEPT = [
        [("device", "told", QUEUED), ("relay", "lost", "")],
        [("device", "told", QUEUED), ("relay", "refused", "")],
        [("device", "told", QUEUED), ("smarthost", "took", "")],
        [("device", "told", SENT), ("smarthost", "took", "")],
        [("device", "told", NOTHING)],
        [("device", "told", NOTHING), ("smarthost", "took", "")],
        [("device", "told", "451")],
        [("device", "told", "451"), ("device", "told", SENT),
         ("smarthost", "took", "")],
    ]

    def check(self, entries, excuse=None):
        cell = Cell("law", QUEUE)
        cell.crashes = excuse == "crash"
        cell.may_double = SENT_AGAIN if excuse == "doubt" else ""
        for who, what, words in entries:
            cell.ledger.note(who, "a", what, words)
        cell.check()

    def test_broken(self):
        for entries, excuse in self.BROKEN:
            with self.subTest(entries):
                with self.assertRaises(AssertionError):
                    self.check(entries)
                if excuse:
                    self.check(entries, excuse)
                for other in {"crash", "doubt"} - {excuse}:
                    if (other, entries[-1][0]) != ("crash", "smarthost"):
                        with self.assertRaises(AssertionError):
                            self.check(entries, other)

    def test_doubt_is_declared(self):
        cell = Cell("law", QUEUE)
        cell.may_double = IN_DOUBT
        for _ in range(2):
            cell.ledger.note("smarthost", "a", "took")
        with self.assertRaisesRegex(AssertionError, "nobody was warned"):
            cell.check()
        cell.ledger.read_log("in id=1 from=<a@x.test> accepted\n"
                             "out id=1 in_doubt again=\"it may arrive twice\"")
        cell.check()

    def test_kept(self):
        for entries in self.KEPT:
            self.check(entries)


class LedgerTable(unittest.TestCase):
    """A test for each cell, which are played beside each other."""
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        print("LEDGER_SEED=%d" % SEED)
        cls.pool = concurrent.futures.ThreadPoolExecutor(CELLS_AT_A_TIME)
        cls.cells = {}
        rig.certificates()
        for one in sorted(rows, key=lambda one: not one.is_long):
            for mode in one.modes:
                if WANTED.search(one.text):
                    cls.cells[one, mode] = cls.pool.submit(play, one, mode)

    @classmethod
    def tearDownClass(cls):
        cls.pool.shutdown(cancel_futures=True)

    def seen(self, one, mode):
        if (one, mode) not in self.cells:
            return None
        cell = self.cells[one, mode]
        return ("FAILED",) * 4 if cell.exception() else cell.result()

    def lines(self):
        for text in dict.fromkeys(one.text for one in rows):
            if WANTED.search(text):
                yield from table_lines(text, {
                    one.variant: [self.seen(one, mode) for mode in MODES]
                    for one in rows if one.text == text})

    def test_zz_docs(self):
        """The table of the docs is the one that was seen."""
        seen = list(self.lines())
        path = os.environ.get("LEDGER_TABLE")
        if path:
            rig.write(path, "\n".join(HEADER + seen) + "\n", 0o644)
        docs = rig.read(os.path.join(rig.REPO, "docs", "ledger.md"))
        written = [line for line in docs.splitlines() if line[:1] == "|"]
        if not WANTED.pattern:
            self.assertEqual("\n".join(written), "\n".join(HEADER + seen))
        for line in seen:
            self.assertIn(line, written)


def add_test(number, one, mode):
    def test(self):
        if WANTED.search(one.text):
            self.cells[one, mode].result()
    test.__doc__ = "%s %s / %s" % (one.text, one.variant, mode.name)
    setattr(LedgerTable, "test_%03d_%s" % (number, mode.name.split()[-1]),
            test)


for number, one in enumerate(rows):
    for mode in one.modes:
        add_test(number, one, mode)


if __name__ == "__main__":
    unittest.main()
