/* What a device may be told behind its final dot, for the model checker: run
 * tests/model.sh. The code that this stands for is promise.c and queue.c.
 *
 * Two devices (or one, twice) commit the same bytes: the same mail again, or
 * another that looks alike; the relay cannot know which. The smarthost takes,
 * delays or refuses, or its answer is lost. Windows close, devices go, answers
 * do not arrive, at any time. A device that vanishes without a word is seen
 * late; its resend is then a mail of its own, and not modelled.
 *
 * REFUSE=1: ack_late is refuse. CRASH=1: the power may go once. STOP=1:
 * SIGTERM may come. */
#define DEVICES 2
#define TRIES   2

mtype = { none,                               /* nothing yet */
          sent, queued, again, refused,       /* 250, 250, 4yz, 5yz */
          silence,                            /* the connection just ends */
          waits };                            /* not known yet */
mtype = { gone, waiting, lent, flying };      /* a copy, as in queue.c */
mtype = { vacant, held, told_it, unheard };   /* a place, as in promise.c */
mtype = { absent, listens, half_told, done }; /* a device */

/* Of each device: */
mtype device[DEVICES] = absent;
mtype told[DEVICES] = none;
byte mail[DEVICES];      /* which it sends: alike for a resend */
byte copy[DEVICES];      /* which it was given */
byte windows[DEVICES];   /* that have passed */
bool ears[DEVICES];      /* it has really read the answer */
bool clean[DEVICES];     /* and the relay saw that */
bool overtaken[DEVICES]; /* a resend has its place */
byte devices = 0;

/* Of each copy; a joined device brings none: */
mtype state[DEVICES] = gone;
mtype verdict[DEVICES] = none;
bool late[DEVICES];     /* back, with the smarthost's 4yz */
bool doubt[DEVICES];    /* an answer to its final dot was lost */
bool withdrawn[DEVICES], notice[DEVICES], held_notice[DEVICES], lost[DEVICES];
byte delivered[DEVICES], tries[DEVICES];
mtype place[DEVICES] = vacant;
byte owner[DEVICES];    /* whose place it is */
bool doubted[DEVICES];  /* its device may be gone */
bool promised[DEVICES]; /* 250 was said */

bool stopping = false, ended = false, crashed = false, forgot = false;
hidden byte i, c, k;
hidden mtype a;

/* ---- The relay ----------------------------------------------------------- */

#define IS_LATE_REFUSED (REFUSE || stopping)
/* May be taken back: no final dot has left, nobody was told 250, and there is
 * somebody to hear the 4yz. */
#define IS_OURS(c) \
    ((state[c] == waiting || state[c] == lent) && !doubt[c] && \
     !promised[c] && !doubted[c])

/* At the end of a window, or when the route rests beyond it. */
#define WHEN_LATE(c) \
    (!IS_LATE_REFUSED -> queued : (IS_OURS(c) -> again : \
    (state[c] == flying && !doubt[c] && windows[owner[c]] < 2 -> waits : \
    (stopping -> silence : queued))))

#define DECIDE(c) \
    (verdict[c] == sent -> sent : \
    (verdict[c] == refused -> refused : \
    (late[c] && IS_LATE_REFUSED && IS_OURS(c) -> again : \
    (windows[owner[c]] > 0 -> WHEN_LATE(c) : waits))))

inline settle(c, v) {
    verdict[c] = v;
    state[c] = gone;
    late[c] = false;
    tries[c] = 0;
    if
    :: v == refused && place[c] == held && !promised[c] ->
        held_notice[c] = true /* its device may be told itself */
    :: v == refused && !(place[c] == held && !promised[c]) -> notice[c] = true
    :: else
    fi
}

inline release(c) {
    if
    :: held_notice[c] -> held_notice[c] = false; notice[c] = true
    :: else
    fi
}

inline withdraw(c) {
    assert(IS_OURS(c));
    withdrawn[c] = true;
    if
    :: state[c] == waiting -> state[c] = gone; late[c] = false; tries[c] = 0
    :: else /* lent: its reader will see */
    fi
}

inline answer(c) {
    i = owner[c];
    a = DECIDE(c);
    assert(device[i] == listens && told[i] == none && !overtaken[i]);
    /* "queued" is for those who go on. */
    assert(!(stopping && a == queued));
    /* Nothing is given up for a 4yz that may meet deaf ears. */
    assert(!(doubted[c] && a == again));
    told[i] = a;
    windows[i] = 0;
    if
    :: a == silence -> device[i] = done; place[c] = unheard; release(c)
    :: else ->
        device[i] = half_told;
        place[c] = told_it
    fi;
    if
    :: a == again -> withdraw(c)
    :: a == sent || a == queued -> promised[c] = true; release(c)
    :: else
    fi
}

/* Its answer was not heard, or it did not wait for one. */
inline miss(i) {
    device[i] = done;
    windows[i] = 0;
    c = copy[i];
    if
    :: overtaken[i] -> skip
    :: !overtaken[i] && withdrawn[c] -> place[c] = vacant
    :: !overtaken[i] && !withdrawn[c] -> place[c] = unheard; release(c)
    fi
}

#define MAY_BE_JOINED(c) \
    (place[c] == unheard || \
     (place[c] != vacant && doubted[c] && !withdrawn[c]))

inline take(i) { /* the final dot of device i */
    device[i] = listens;
    c = 0;
    do
    :: c < i && !MAY_BE_JOINED(c) -> c++
    :: else -> break
    od;
    copy[i] = c;
    if
    :: c < i ->
        k = owner[c];
        /* A mail that was cleanly acknowledged is never merged, nor one whose
         * device is there and waits. */
        assert(!clean[k] && (doubted[c] || place[c] == unheard));
        overtaken[k] = true;
        if
        :: device[k] == listens ->
            told[k] = silence;
            device[k] = done;
            windows[k] = 0
        :: else
        fi
    :: else -> state[c] = waiting
    fi;
    place[c] = held;
    owner[c] = i;
    doubted[c] = false
}

inline crash() {
    crashed = true;
    c = 0;
    do
    :: c < DEVICES ->
        state[c] = gone;
        place[c] = vacant;
        held_notice[c] = false;
        late[c] = false;
        doubted[c] = false;
        tries[c] = 0;
        windows[c] = 0;
        if
        :: device[c] == listens || device[c] == half_told -> device[c] = done
        :: else
        fi;
        c++
    :: else -> break
    od
}

/* The end of SIGTERM's patience: who still waits is told so, or nothing. */
inline abandon() {
    ended = true;
    c = 0;
    do
    :: c < DEVICES ->
        if
        :: place[c] == held -> windows[owner[c]] = 2; answer(c)
        :: else
        fi;
        if
        :: state[c] != gone && !withdrawn[c] -> lost[c] = true
        :: else
        fi;
        state[c] = gone;
        c++
    :: else -> break
    od
}

/* ---- The world ----------------------------------------------------------- */

/* It has no good answer, and knows that. */
#define WANTS_AGAIN(i) \
    ((device[i] == done && (told[i] == again || !ears[i])) || \
     (device[i] == half_told && doubted[copy[i]] && owner[copy[i]] == i) || \
     (device[i] == listens && doubted[copy[i]] && owner[copy[i]] == i))

/* Who comes last is followed to its own end alone. */
#define MORE_MAY_COME (devices < DEVICES && !stopping)

inline come() {
    i = devices;
    devices++;
    mail[i] = i;
    if
    :: true -> skip /* another mail, of the same bytes */
    :: i > 0 && WANTS_AGAIN(i - 1) -> mail[i] = mail[i - 1]
    fi;
    take(i)
}

inline of_device(i) {
    assert(!ended || device[i] != listens);
    if
    :: device[i] == listens && owner[copy[i]] == i &&
       DECIDE(copy[i]) != waits -> c = copy[i]; answer(c)
    :: device[i] == listens && windows[i] < 2 && DECIDE(copy[i]) == waits ->
        windows[i]++;
        /* Twice the window at most, and once when none is to be refused. */
        assert(!(windows[i] == 2 && DECIDE(copy[i]) == waits));
        assert(IS_LATE_REFUSED || DECIDE(copy[i]) != waits)
    :: device[i] == listens && MORE_MAY_COME && !doubted[copy[i]] ->
        doubted[copy[i]] = true /* FIN: it may be gone */
    :: device[i] == listens -> miss(i)
    :: device[i] == half_told ->
        ears[i] = true;
        device[i] = done;
        if
        :: !overtaken[i] && !ended ->
            clean[i] = true;
            place[copy[i]] = vacant;
            held_notice[copy[i]] = false
        :: else
        fi
    :: device[i] == half_told && MORE_MAY_COME && !overtaken[i] &&
       !doubted[copy[i]] ->
        doubted[copy[i]] = true /* the answer is long on the way */
    :: device[i] == half_told ->
        if
        :: MORE_MAY_COME -> ears[i] = true /* its acknowledgement was lost */
        :: skip
        fi;
        miss(i)
    fi
}

#define HAS_DEVICE_EVENT(i) (device[i] == listens || device[i] == half_told)

/* A 4yz is passed on at once, if our copy can be destroyed. */
inline expect_candour(c) {
    assert(!(late[c] && IS_LATE_REFUSED && IS_OURS(c) && place[c] == held) ||
           DECIDE(c) == again)
}

inline of_copy(c) {
    if
    :: state[c] == waiting && tries[c] < TRIES -> state[c] = lent; tries[c]++
    :: state[c] == waiting && tries[c] == TRIES ->
        settle(c, refused) /* expire_hours */
    :: state[c] == lent && withdrawn[c] ->
        state[c] = gone;
        late[c] = false;
        tries[c] = 0
    :: state[c] == lent && !withdrawn[c] -> state[c] = flying
    :: state[c] == lent && !withdrawn[c] -> /* before the dot */
        if
        :: settle(c, refused)
        :: state[c] = waiting; late[c] = true
        :: state[c] = waiting; late[c] = false /* the route failed */
        fi;
        expect_candour(c)
    :: state[c] == flying ->
        assert(!withdrawn[c]);
        if
        :: delivered[c]++; settle(c, sent)
        :: settle(c, refused)
        :: state[c] = waiting; late[c] = true
        :: delivered[c]++; doubt[c] = true; state[c] = waiting; late[c] = false
        :: doubt[c] = true; state[c] = waiting; late[c] = false
        fi;
        expect_candour(c)
    fi
}

#define ALL_DELIVERED (delivered[0] + delivered[1])
#define SENT_CLEANLY(i) (clean[i] && told[i] == sent -> 1 : 0)

#define IS_MAIL(i)      (device[i] != absent && mail[i] == i -> 1 : 0)
#define MAILS           (IS_MAIL(0) + IS_MAIL(1))

/* The promises. */
inline judge(i) {
    c = copy[i];
    /* The smarthost's words are true. */
    assert(told[i] != sent || delivered[c] >= 1);
    /* Queued: delivered, or its loss is told; only a power cut is silent. */
    assert(told[i] != queued || delivered[c] >= 1 || notice[c] || lost[c] ||
           crashed);
    /* And never taken back. */
    assert(told[i] != queued || !withdrawn[c]);
    /* 4yz: nothing of that copy is ever delivered. */
    assert(told[i] != again || (withdrawn[c] && delivered[c] == 0));
    /* 5yz: neither, as far as anybody can know. */
    assert(told[i] != refused || delivered[c] == 0 || doubt[c]);
    /* Twice only in doubt. */
    assert(delivered[c] <= 1 || doubt[c]);
    /* Silence: a resend has its place, we stop, or it went itself. */
    assert(told[i] != silence || overtaken[i] || stopping);
    /* A failure that no device was told of is told to the postmaster. */
    assert(verdict[c] != refused || notice[c] || crashed || ended ||
           (told[owner[c]] == refused && clean[owner[c]]));
    /* Nobody is left without an end. */
    assert(device[i] == absent || device[i] == done)
}

inline judge_all() {
    judge(0);
    judge(1);
    /* As many deliveries as there are mails that were cleanly acknowledged. */
    assert(SENT_CLEANLY(0) + SENT_CLEANLY(1) <= ALL_DELIVERED);
    /* And no more than there are mails, as far as we can know. */
    assert(ALL_DELIVERED <= MAILS || crashed || forgot ||
           doubt[0] || doubt[1])
}

#define IS_QUIET(i) (state[i] == gone && !HAS_DEVICE_EVENT(i))

active proctype world() {
    do
    :: MORE_MAY_COME -> atomic { come() }
    :: HAS_DEVICE_EVENT(0) -> atomic { of_device(0) }
    :: HAS_DEVICE_EVENT(1) -> atomic { of_device(1) }
    :: state[0] != gone -> atomic { of_copy(0) }
    :: state[1] != gone -> atomic { of_copy(1) }
    :: MORE_MAY_COME && place[0] == unheard -> place[0] = vacant; forgot = true
    :: CRASH && !crashed && !ended && devices > 0 -> atomic { crash() }
    :: STOP && !stopping && devices > 0 -> stopping = true
    :: stopping && !ended -> atomic { abandon() }
    :: devices > 0 && IS_QUIET(0) && IS_QUIET(1) -> break
    od;
    atomic { judge_all() }
}
