/* A reply that is held until the smarthost's verdict is known: what the device
 * hears, when, and what our queue then owes. The test plays both sides: the
 * device over a socket, the smarthost at the queue. Each is fed whole and byte
 * by byte. */
#include "talk.h"

#include <netinet/tcp.h>

#include "../fate.h"
#include "../notice.h"
#include "../promise.h"
Suite *suite_held(void);

#define WAIT_MS 25000
#define HELD_RULES                                                             \
    "smarthost = 127.0.0.1:9\nsmarthost_tls = none\n" HOUSE_IS_PLAIN
#define REFUSE "ack_wait_seconds = 25\nack_late = refuse\n"
#define QUEUE  "ack_wait_seconds = 25\nack_late = queue\n"
#define BODY   "Subject: x\r\n\r\nhi\r\n"
#define ONE    "RCPT TO:<b@example.net>\r\n"
#define TWO    ONE "RCPT TO:<c@example.net>\r\n"
#define LATE   "451 4.4.1 The smarthost gave no answer in time, send it again "

static bool is_byte_wise;

static void open_held_house(void)
{
    open_house();
    notice_init(OUR_NAME);
    house_rules = HELD_RULES;
    furnish(QUEUE);
}

static void close_held_house(void)
{
    house_rules = HOUSE_RULES HOUSE_IS_PLAIN;
    furnish("");
    house_in_order();
    ck_assert_uint_eq(promise_count_held(), 0);
}

/* ---- The device ---------------------------------------------------------- */

static void feed(struct device *d, const char *text)
{
    if (is_byte_wise)
        drip(d, text);
    else
        say_all(d, text);
}

static struct device *greeted(struct device *d)
{
    int on = 1; /* the invented clock must not race against Nagle's */
    setsockopt(d->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    settle(d);
    expect(d, "220 " OUR_NAME);
    feed(d, "EHLO me\r\n");
    expect(d, "250-" OUR_NAME);
    return d;
}

/* Up to the final dot and what is said behind it. */
static void say_mail(struct device *d, const char *recipients,
                     const char *behind)
{
    char dot[256];
    feed(d, "MAIL FROM:<a@example.com>\r\n");
    expect(d, "250 2.1.0 ");
    for (const char *at = recipients; *at; at = strchr(at, '\n') + 1) {
        char line[64];
        snprintf(line, sizeof line, "%.*s", (int)strcspn(at, "\n") + 1, at);
        feed(d, line);
        expect(d, "250 2.1.5 ");
    }
    feed(d, "DATA\r\n");
    expect(d, "354 ");
    snprintf(dot, sizeof dot, BODY ".\r\n%s", behind);
    feed(d, dot);
    ck_assert_uint_eq(logged(" accepted ack="), logged(" accepted "));
}

static void expect_silence(struct device *d)
{
    settle(d);
    ck_assert_msg(d->heard == 0 && !d->has_ended, "heard \"%s\"", d->text);
}

/* A device whose answer is due. */
static struct device *held_by(struct device *d, const char *recipients)
{
    unsigned before = promise_count_held();
    say_mail(greeted(d), recipients, "");
    expect_silence(d);
    ck_assert_uint_eq(promise_count_held(), before + 1);
    return d;
}

static struct device *held(const char *recipients)
{
    return held_by(call("10.0.0.9"), recipients);
}

/* It may go on, and leaves well. */
static void leave(struct device *d)
{
    feed(d, "QUIT\r\n");
    expect(d, "221 2.0.0 ");
    expect_end(d);
    hang_up_device(d);
    settle(NULL);
}

/* ---- The smarthost ------------------------------------------------------- */

struct verdict {
    enum queue_verdict verdict;
    const char *words, *advice;
};

/* Gives each recipient that is open its verdict, at most two. */
static void judge(queue_id id, const struct verdict *v)
{
    struct queue_recipient r = {0};
    while (queue_next_recipient(id, &r))
        if (r.verdict < QUEUE_DONE) {
            fate_settle(id, &r, v->verdict, v->words, v->advice, now_ms);
            v++;
        }
}

/* Tried once, from MAIL to the verdict, which comes back at due_ms. */
static void try_once(const struct verdict *v, int64_t due_ms)
{
    queue_id id = queue_due(now_ms, true);
    ck_assert_uint_ne(id, QUEUE_NONE);
    queue_count_try(id);
    ck_assert(queue_launch(id));
    queue_land(id, true);
    judge(id, v);
    fate_return(id, due_ms);
}

static void take_it(void)
{
    static const struct verdict taken[2] = {{QUEUE_DONE, "250 ok", NULL},
                                            {QUEUE_DONE, "250 ok", NULL}};
    try_once(taken, 0);
}

static unsigned waiting(void)
{
    struct queue_counts n;
    queue_count(&n);
    ck_assert_ptr_null(queue_unsound());
    return n.messages;
}

static unsigned promised(void)
{
    struct queue_counts n;
    queue_count(&n);
    return n.promised;
}

/* What is left is delivered, later. */
static void deliver_the_rest(void)
{
    while (queue_next_due_ms(true) != INT64_MAX) {
        if (queue_next_due_ms(true) > now_ms)
            pass(queue_next_due_ms(true) - now_ms, NULL);
        take_it();
    }
    settle(NULL);
}

/* ---- Verdicts ------------------------------------------------------------ */

static const struct verdict_row {
    const char *settings, *recipients;
    struct verdict v[2];
    int64_t due_ms; /* of the next try */
    const char *reply;
    unsigned left; /* messages in the queue behind it */
} verdict_rows[] = {
    {QUEUE,
     ONE,
     {{QUEUE_DONE, "250 ok", NULL}},
     0,
     "250 2.0.0 sent: ok\r\n",
     0},
    {QUEUE,
     ONE,
     {{QUEUE_DONE, "250 2.6.0 <1@x> Queued mail", NULL}},
     0,
     "250 2.6.0 sent: <1@x> Queued mail\r\n",
     0},
    {REFUSE,
     ONE,
     {{QUEUE_DONE, "250 ok", NULL}},
     0,
     "250 2.0.0 sent: ok\r\n",
     0},
    {QUEUE,
     TWO,
     {{QUEUE_DONE, "250 2.1.5 one", NULL}, {QUEUE_DONE, "250 two", NULL}},
     0,
     "250 2.1.5 sent: one\r\n",
     0},
    {QUEUE,
     TWO,
     {{QUEUE_NEVER, "550 5.1.1 who?", "look"}, {QUEUE_DONE, "250 ok", NULL}},
     0,
     "250 2.0.0 sent to 1 of 2 recipients: ok\r\n",
     0},
    {REFUSE,
     TWO,
     {{QUEUE_DONE, "250 ok", NULL}, {QUEUE_OPEN, "451 wait", NULL}},
     60000,
     "250 2.0.0 sent to 1 of 2 recipients: ok\r\n",
     1},
    {QUEUE,
     ONE,
     {{QUEUE_NEVER, "550 5.1.1 who?", NULL}},
     0,
     "550 5.1.1 who?\r\n",
     0},
    {QUEUE,
     ONE,
     {{QUEUE_NEVER, "550 5.1.1 who?", "check it on the device"}},
     0,
     "550 5.1.1 who? (check it on the device)\r\n",
     0},
    {REFUSE,
     TWO,
     {{QUEUE_NEVER, "553 5.1.3 first", NULL},
      {QUEUE_NEVER, "550 5.1.1 second", NULL}},
     0,
     "553 5.1.3 first\r\n",
     0},
    {QUEUE, ONE, {{QUEUE_NEVER, "550 who?", NULL}}, 0, "550 5.0.0 who?\r\n", 0},
    {QUEUE,
     ONE,
     {{QUEUE_NEVER, "550-5.1.1 a b", NULL}},
     0,
     "550 5.1.1 a b\r\n",
     0},
    {QUEUE,
     ONE,
     {{QUEUE_NEVER, "550 4.1.1 odd", NULL}},
     0,
     "550 5.0.0 odd\r\n",
     0},
    {QUEUE,
     ONE,
     {{QUEUE_NEVER, "550 \xc3\xa4\x07.", NULL}},
     0,
     "550 5.0.0 ???.\r\n",
     0},
    {QUEUE,
     ONE,
     {{QUEUE_NEVER, "550", NULL}},
     0,
     "550 5.0.0 no reason given\r\n",
     0},
    {QUEUE,
     ONE,
     {{QUEUE_NEVER, "given up after 2 hours", NULL}},
     0,
     "554 5.0.0 given up after 2 hours\r\n",
     0},
    /* put off beyond the window: there is nothing to wait for */
    {QUEUE,
     ONE,
     {{QUEUE_OPEN, "451 4.7.1 greylisted", NULL}},
     WAIT_MS + 1,
     "250 2.0.0 Queued in memory as ",
     1},
    {QUEUE,
     TWO,
     {{QUEUE_NEVER, "550 5.1.1 who?", NULL}, {QUEUE_OPEN, "451 wait", NULL}},
     WAIT_MS + 1,
     "250 2.0.0 Queued in memory as ",
     1},
    /* a device that knows how to wait is told so at once */
    {REFUSE,
     ONE,
     {{QUEUE_OPEN, "451 4.7.1 greylisted", NULL}},
     1000,
     "451 4.7.1 greylisted\r\n",
     0},
    {REFUSE,
     ONE,
     {{QUEUE_OPEN, "452 4.2.2 full", "empty it"}},
     60000,
     "452 4.2.2 full (empty it)\r\n",
     0},
    {REFUSE,
     ONE,
     {{QUEUE_OPEN, "421 4.3.2 busy", NULL}},
     60000,
     "451 4.3.2 busy\r\n", /* 421 would end the session */
     0},
    {REFUSE,
     ONE,
     {{QUEUE_OPEN, "the connection was closed", NULL}},
     60000,
     LATE,
     0},
};

START_TEST(the_verdict_is_the_reply)
{
    for (size_t i = 0; i < COUNT(verdict_rows); i++) {
        const struct verdict_row *w = &verdict_rows[i];
        is_byte_wise = _i;
        furnish(w->settings);
        forget_log();
        struct device *d = held(w->recipients);
        ck_assert_uint_eq(logged("accepted ack=held"), 1);
        ck_assert_uint_eq(promised(), 0);
        pass(3000, d);
        try_once(w->v, now_ms + w->due_ms);
        settle(d);
        expect(d, w->reply);
        ck_assert_uint_eq(waiting(), w->left);
        ck_assert_uint_eq(promised(), w->left);
        bool is_sent =
            strncmp(w->reply, "250 ", 4) == 0 && strstr(w->reply, " sent");
        ck_assert_uint_eq(logged(" answered=\""), !is_sent);
        ck_assert_uint_eq(logged(" held_ms=3000"), !is_sent);
        leave(d);
        ck_assert_uint_eq(logged("unheard"), 0);
        deliver_the_rest();
        ck_assert_uint_eq(promise_count_held(), 0);
    }
}
END_TEST

/* Put off for less than the window is left: the next try decides. */
START_TEST(a_second_try_within_the_window)
{
    static const struct verdict later[] = {
        {QUEUE_OPEN, "451 4.7.1 greylisted", NULL}};
    is_byte_wise = _i;
    struct device *d = held(ONE);
    try_once(later, now_ms + WAIT_MS);
    expect_silence(d);
    pass(WAIT_MS - 1, d);
    expect_silence(d);
    ck_assert_uint_eq(queue_next_due_ms(true), now_ms + 1);
    pass(1, NULL); /* the window is over in that very moment */
    expect(d, "");
    settle(d);
    expect(d, "250 2.0.0 Queued");
    leave(d);
    d = held(ONE);
    try_once(later, now_ms + 20000);
    deliver_the_rest(); /* the one before, and this one */
    settle(d);
    expect(d, "250 2.0.0 sent: ok");
    leave(d);
}
END_TEST

/* ---- The window ---------------------------------------------------------- */

enum at_window {
    STILL_WAITING,
    BEING_SENT,
    IN_FLIGHT,
    IN_DOUBT,
    AT_WINDOWS
};

static queue_id bring_to(enum at_window where)
{
    if (where == STILL_WAITING)
        return QUEUE_NONE;
    queue_id id = queue_due(now_ms, true);
    ck_assert_uint_ne(id, QUEUE_NONE);
    if (where >= IN_FLIGHT)
        ck_assert(queue_launch(id));
    if (where < IN_DOUBT)
        return id;
    queue_land(id, false);
    fate_return(id, now_ms + WAIT_MS - 1); /* soon again: no cause to give up */
    return QUEUE_NONE;
}

START_TEST(the_window_passes)
{
    is_byte_wise = _i;
    for (int where = 0; where < AT_WINDOWS; where++) {
        furnish(QUEUE);
        forget_log();
        struct device *d = held(ONE);
        queue_id id = bring_to((enum at_window)where);
        pass(WAIT_MS - 1, d);
        expect_silence(d);
        pass(1, d);
        expect(d, "250 2.0.0 Queued in memory as ");
        ck_assert_uint_eq(logged("held_ms=25000"), 1);
        ck_assert_uint_eq(waiting(), 1);
        ck_assert_uint_eq(promised(), 1);
        if (id != QUEUE_NONE) {
            queue_land(id, true);
            fate_return(id, now_ms);
        }
        leave(d);
        deliver_the_rest();
    }
}
END_TEST

/* A refusal is honest only while our copy can still be destroyed. */
START_TEST(the_window_passes_in_refuse_mode)
{
    is_byte_wise = _i;
    for (int where = 0; where < AT_WINDOWS; where++) {
        furnish(REFUSE);
        forget_log();
        struct device *d = held(ONE);
        queue_id id = bring_to((enum at_window)where);
        pass(WAIT_MS - 1, d);
        expect_silence(d);
        pass(1, d);
        if (where <= BEING_SENT) {
            expect(d, LATE);
            ck_assert_uint_eq(waiting(), 0);
            ck_assert_int_eq(queue_is_withdrawn(id), where == BEING_SENT);
        } else if (where == IN_FLIGHT) {
            expect_silence(d);
            pass(WAIT_MS - 1, d);
            expect_silence(d);
            pass(1, d);
            expect(d, "250 2.0.0 Queued in memory as ");
        } else {
            expect(d, "250 2.0.0 Queued in memory as ");
        }
        ck_assert_uint_eq(promised(), where >= IN_FLIGHT);
        if (id != QUEUE_NONE) {
            queue_land(id, true);
            fate_return(id, now_ms);
        }
        leave(d);
        deliver_the_rest();
    }
}
END_TEST

/* In flight at the window's end: the verdict is near, and is waited for. */
START_TEST(a_verdict_behind_the_window)
{
    static const struct {
        struct verdict v;
        const char *reply;
    } rows[] = {
        {{QUEUE_DONE, "250 ok", NULL}, "250 2.0.0 sent: ok"},
        {{QUEUE_NEVER, "554 5.7.1 spam", NULL}, "554 5.7.1 spam"},
        {{QUEUE_OPEN, "451 4.3.0 not now", NULL}, "451 4.3.0 not now"},
    };
    is_byte_wise = _i;
    furnish(REFUSE);
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct device *d = held(ONE);
        queue_id id = bring_to(IN_FLIGHT);
        pass(WAIT_MS + 20000, d);
        expect_silence(d);
        queue_land(id, true);
        judge(id, &rows[i].v);
        fate_return(id, now_ms + 1000);
        settle(d);
        expect(d, rows[i].reply);
        ck_assert_uint_eq(waiting(), 0);
        leave(d);
    }
}
END_TEST

/* Answered "queued", then taken, refused or put off: the device is told no
 * more, and the queue keeps its promise. */
START_TEST(a_late_verdict_is_not_the_devices)
{
    static const struct verdict no[] = {{QUEUE_NEVER, "550 no", NULL}};
    is_byte_wise = _i;
    struct device *d = held(ONE);
    pass(WAIT_MS, d);
    expect(d, "250 2.0.0 Queued");
    expect_silence(d);
    try_once(no, 0);
    expect_silence(d);
    ck_assert_uint_eq(waiting(), 0);
    leave(d);
}
END_TEST

/* ---- A route that rests -------------------------------------------------- */

START_TEST(the_route_rests)
{
    static const struct {
        const char *settings;
        int rest_s;
        const char *mail, *dot; /* NULL: it is held */
    } rows[] = {
        {QUEUE, 10, "250", NULL},
        {QUEUE, 25, "250", NULL},
        {QUEUE, 26, "250", "250 2.0.0 Queued in memory as "},
        {REFUSE, 10, "250", NULL},
        {REFUSE, 25, "250", NULL},
        {REFUSE, 26, "451 4.4.1 all is dark; send it again later\r\n", NULL},
    };
    is_byte_wise = _i;
    for (size_t i = 0; i < COUNT(rows); i++) {
        furnish(rows[i].settings);
        struct device *d = greeted(call("10.0.0.9"));
        promise_route_rests(now_ms + rows[i].rest_s * 1000, "all is dark");
        feed(d, "MAIL FROM:<a@example.com>\r\n");
        expect(d, rows[i].mail);
        if (rows[i].mail[0] == '2') {
            feed(d, "RSET\r\n");
            expect(d, "250");
            say_mail(d, ONE, "");
        }
        if (rows[i].dot != NULL)
            expect(d, rows[i].dot);
        else
            expect_silence(d);
        promise_route_rests(0, "");
        deliver_the_rest();
        if (rows[i].dot == NULL && rows[i].mail[0] == '2') {
            settle(d);
            expect(d, "250 2.0.0 sent");
        }
        leave(d);
    }
}
END_TEST

/* It goes down while the reply is held. */
START_TEST(the_route_begins_to_rest)
{
    is_byte_wise = _i;
    struct device *d = held(ONE);
    pass(10000, d);
    promise_route_rests(now_ms + 15000, "all is dark"); /* until the window */
    expect_silence(d);
    promise_route_rests(now_ms + 15001, "all is dark");
    settle(d);
    expect(d, "250 2.0.0 Queued in memory as ");
    leave(d);
    promise_route_rests(0, "");
    deliver_the_rest();
    furnish(REFUSE);
    d = held(ONE);
    promise_route_rests(now_ms + WAIT_MS + 1, "all is \xff dark");
    settle(d);
    expect(d, "451 4.4.1 all is ? dark; send it again later\r\n");
    ck_assert_uint_eq(waiting(), 0);
    leave(d);
    promise_route_rests(0, "");
}
END_TEST

/* ---- The device is gone, or seems to be ---------------------------------- */

enum leaving {
    CLOSES,
    RESETS,
    LEAVINGS
};

static void go(struct device *d, enum leaving how)
{
    if (how == RESETS)
        reset(d);
    else
        hang_up_device(d);
    settle(NULL);
}

static struct device *call_by(int is_tcp)
{
    return is_tcp ? call_tcp() : call("127.0.0.1");
}

START_TEST(gone_while_held)
{
    is_byte_wise = _i;
    for (int how = 0; how < LEAVINGS; how++)
        for (int mode = 0; mode < 2; mode++) {
            furnish(mode ? REFUSE : QUEUE);
            promise_init();
            forget_log();
            go(held_by(call_by(how == RESETS), ONE), (enum leaving)how);
            ck_assert_uint_eq(smtp_in_clients(), 0);
            ck_assert_uint_eq(promise_count_held(), 0);
            ck_assert_uint_eq(logged("unheard why=\""), 1);
            /* it may have believed in success: in no mode is it dropped */
            pass(3 * WAIT_MS, NULL);
            ck_assert_uint_eq(waiting(), 1);
            ck_assert_uint_eq(promised(), 1);
            take_it();
            ck_assert_uint_eq(waiting(), 0);
        }
}
END_TEST

/* The same bytes again behind an answer that was never heard are one mail. */
START_TEST(a_resend_joins)
{
    is_byte_wise = _i;
    for (int how = 0; how < LEAVINGS; how++) {
        promise_init();
        forget_log();
        go(held_by(call_by(how == RESETS), ONE), (enum leaving)how);
        pass(60000, NULL);
        struct device *d = held_by(call_by(how == RESETS), ONE);
        ck_assert_uint_eq(waiting(), 1);
        ck_assert_uint_eq(logged("accepted ack=held"), 1);
        ck_assert_uint_eq(logged("accepted ack=joined"), 1);
        go(d, (enum leaving)how); /* and once more */
        d = held_by(call_by(how == RESETS), ONE);
        ck_assert_uint_eq(waiting(), 1);
        ck_assert_uint_eq(logged("accepted ack=joined"), 2);
        pass(WAIT_MS - 1, d);
        expect_silence(d); /* a window of its own */
        take_it();
        settle(d);
        expect(d, "250 2.0.0 sent: ok");
        leave(d);
        ck_assert_uint_eq(waiting(), 0);
        /* now it was heard: the next one is another mail */
        d = held_by(call_by(how == RESETS), ONE);
        ck_assert_uint_eq(waiting(), 1);
        ck_assert_uint_eq(logged("accepted ack=joined"), 2);
        take_it();
        settle(d);
        expect(d, "250 2.0.0 sent: ok");
        leave(d);
    }
}
END_TEST

/* The verdict came while nobody listened: the resend gets it at once. */
START_TEST(a_resend_joins_what_is_settled)
{
    static const struct {
        struct verdict v;
        const char *reply;
    } rows[] = {
        {{QUEUE_DONE, "250 2.6.0 ok", NULL}, "250 2.6.0 sent: ok\r\n"},
        {{QUEUE_NEVER, "550 5.1.1 who?", "look"}, "550 5.1.1 who? (look)\r\n"},
    };
    is_byte_wise = _i;
    for (size_t i = 0; i < COUNT(rows); i++)
        for (int mode = 0; mode < 2; mode++) {
            furnish(mode ? REFUSE : QUEUE);
            go(held(ONE), CLOSES);
            pass(5000, NULL);
            try_once(&rows[i].v, 0);
            ck_assert_uint_eq(waiting(), 0);
            struct device *d = greeted(call("10.0.0.9"));
            say_mail(d, ONE, "");
            expect(d, rows[i].reply);
            ck_assert_uint_eq(waiting(), 0);
            leave(d);
        }
}
END_TEST

/* Another device, other bytes, another envelope, or too late. */
START_TEST(what_is_no_resend)
{
    is_byte_wise = _i;
    for (int why = 0; why < 4; why++) {
        forget_log();
        go(held(ONE), CLOSES);
        pass(why == 2 ? PROMISE_SECONDS * 1000 : 1000, NULL);
        struct device *d = greeted(call(why == 0 ? "10.0.0.10" : "10.0.0.9"));
        if (why == 3) {
            start_data(d);
            feed(d, "Subject: x\r\n\r\nhi \r\n.\r\n");
        } else {
            say_mail(d, why == 1 ? TWO : ONE, "");
        }
        expect_silence(d);
        ck_assert_uint_eq(waiting(), 2);
        ck_assert_uint_eq(logged("ack=joined"), 0);
        deliver_the_rest();
        settle(d);
        expect(d, "250 2.0.0 sent");
        leave(d);
        promise_init();
    }
}
END_TEST

/* Remembered to the last second. */
START_TEST(a_resend_in_time)
{
    is_byte_wise = _i;
    go(held(ONE), CLOSES);
    pass(PROMISE_SECONDS * 1000 - 1, NULL);
    struct device *d = held(ONE);
    ck_assert_uint_eq(waiting(), 1);
    take_it();
    settle(d);
    expect(d, "250 2.0.0 sent");
    leave(d);
}
END_TEST

/* A printer that shuts its side, and then reads. */
START_TEST(half_closed_while_held)
{
    is_byte_wise = _i;
    for (int is_tcp = 0; is_tcp < 2; is_tcp++) {
        struct device *d = held_by(call_by(is_tcp), ONE);
        shutdown(d->fd, SHUT_WR);
        pass(5000, d);
        expect_silence(d);
        ck_assert_uint_eq(promise_count_held(), 1);
        take_it();
        settle(d);
        expect(d, "250 2.0.0 sent: ok\r\n");
        expect_end(d);
        hang_up_device(d);
        ck_assert_uint_eq(logged("unheard"), 0);
    }
}
END_TEST

/* Shut, and the same comes again over another connection: the first one is
 * dropped without a word, the second has the verdict. */
START_TEST(a_resend_takes_a_half_closed_session_over)
{
    is_byte_wise = _i;
    struct device *first = held(ONE);
    shutdown(first->fd, SHUT_WR);
    pass(1000, first);
    struct device *second = greeted(call("10.0.0.9"));
    say_mail(second, ONE, "");
    expect_end(first);
    expect_silence(second);
    ck_assert_uint_eq(waiting(), 1);
    ck_assert_uint_eq(promise_count_held(), 1);
    hang_up_device(first);
    take_it();
    settle(second);
    expect(second, "250 2.0.0 sent: ok\r\n");
    leave(second);
    ck_assert_uint_eq(logged("ack=joined"), 1);
}
END_TEST

/* Two devices behind one address, both alive, with the same words: two mails.
 * A UPS may send identical alarms. */
START_TEST(the_living_are_never_joined)
{
    is_byte_wise = _i;
    struct device *a = held(ONE), *b = held(ONE);
    ck_assert_uint_eq(waiting(), 2);
    deliver_the_rest();
    settle(a);
    settle(b);
    expect(a, "250 2.0.0 sent");
    expect(b, "250 2.0.0 sent");
    for (unsigned i = 0; i < 3; i++) { /* over one connection, too */
        say_mail(a, ONE, "");
        expect_silence(a);
        ck_assert_uint_eq(waiting(), 1);
        take_it();
        settle(a);
        expect(a, "250 2.0.0 sent");
    }
    ck_assert_uint_eq(logged("ack=joined"), 0);
    leave(a);
    leave(b);
}
END_TEST

/* The answer left, and lies unread for longer than any LAN takes. */
START_TEST(an_answer_that_is_not_taken)
{
    is_byte_wise = _i;
    for (int is_late = 0; is_late < 2; is_late++) {
        promise_init();
        forget_log();
        struct device *deaf = held(ONE);
        take_it();
        settle(NULL); /* it is said, and nobody reads it */
        pass(is_late ? 2000 : 1999, NULL);
        struct device *d = greeted(call("10.0.0.9"));
        say_mail(d, ONE, "");
        ck_assert_uint_eq(logged("ack=joined"), is_late);
        ck_assert_uint_eq(waiting(), !is_late);
        deliver_the_rest();
        settle(d);
        expect(d, "250 2.0.0 sent: ok");
        leave(d);
        hear(deaf);
        expect(deaf, "250 2.0.0 sent");
        leave(deaf);
    }
}
END_TEST

static void acknowledge(struct device *d, int is_at_once)
{
    ck_assert_int_eq(setsockopt(d->fd, IPPROTO_TCP, TCP_QUICKACK, &is_at_once,
                                sizeof is_at_once),
                     0);
}

/* A Hikvision resets the connection behind its 250. Where that was
 * acknowledged, it was heard. */
START_TEST(a_reset_behind_the_answer)
{
    is_byte_wise = _i;
    struct device *d = held_by(call_tcp(), ONE);
    take_it();
    settle(d);
    expect(d, "250 2.0.0 sent");
    acknowledge(d, 1);
    reset(d);
    settle(NULL);
    ck_assert_uint_eq(logged("unheard"), 0);
    d = held_by(call_tcp(), ONE);
    ck_assert_uint_eq(logged("ack=joined"), 0);
    take_it();
    settle(d);
    expect(d, "250 2.0.0 sent");
    leave(d);
}
END_TEST

/* ---- What comes behind the dot ------------------------------------------- */

/* It is read only once the answer is known, and never lost. */
START_TEST(commands_behind_the_dot)
{
    is_byte_wise = _i;
    struct device *d = greeted(call("10.0.0.9"));
    say_mail(d, ONE, "NOOP\r\nMAIL FROM:<z@example.com>\r\nQUIT\r\n");
    expect_silence(d);
    pass(20000, d);
    expect_silence(d);
    take_it();
    settle(d);
    expect(d, "250 2.0.0 sent");
    expect(d, "250 2.0.0 ");
    expect(d, "250 2.1.0 ");
    expect(d, "221 2.0.0 ");
    expect_end(d);
}
END_TEST

START_TEST(no_wait_at_all)
{
    is_byte_wise = _i;
    furnish("ack_wait_seconds = 0\n");
    struct device *d = greeted(call("10.0.0.9"));
    say_mail(d, ONE, "");
    expect(d, "250 2.0.0 Queued in memory as ");
    ck_assert_uint_eq(logged("accepted ack=queued"), 1);
    ck_assert_uint_eq(logged("answered="), 0);
    ck_assert_uint_eq(promised(), 1);
    deliver_the_rest();
    leave(d);
}
END_TEST

/* Each listener may have a patience of its own. */
START_TEST(the_wait_of_a_listener)
{
    char lines[128];
    is_byte_wise = _i;
    int listener = loopback_socket(INADDR_LOOPBACK, 0);
    ck_assert_int_eq(listen(listener, 1), 0);
    snprintf(lines, sizeof lines, QUEUE "ack_wait_at = 1=3 %u=7\n",
             port_of(listener));
    furnish(lines);
    struct device *d = connect_from(INADDR_LOOPBACK, port_of(listener));
    int fd = accept(listener, NULL, NULL);
    ck_assert_int_ge(fd, 0);
    close(listener);
    be_adopted(fd, "127.0.0.1");
    held_by(d, ONE);
    pass(6999, d);
    expect_silence(d);
    pass(1, d);
    expect(d, "250 2.0.0 Queued");
    deliver_the_rest();
    leave(d);
}
END_TEST

/* ---- The program stops --------------------------------------------------- */

static void start_anew(void)
{
    session_init(OUR_NAME);
    promise_init();
}

START_TEST(a_verdict_during_the_drain)
{
    is_byte_wise = _i;
    struct device *d = held(ONE);
    smtp_in_drain(now_ms);
    pass(3000, d);
    expect_silence(d);
    take_it();
    settle(d);
    expect(d, "250 2.0.0 sent: ok\r\n");
    expect(d, "421 4.3.2 ");
    expect_end(d);
    start_anew();
}
END_TEST

START_TEST(abandoned_while_held)
{
    is_byte_wise = _i;
    for (int where = 0; where < AT_WINDOWS; where++)
        for (int mode = 0; mode < 2; mode++) {
            furnish(mode ? REFUSE : QUEUE);
            promise_init();
            struct device *d = held(ONE);
            queue_id id = bring_to((enum at_window)where);
            smtp_in_drain(now_ms);
            pass(3999, d);
            expect_silence(d);
            smtp_in_abandon(now_ms);
            settle(d);
            if (where <= BEING_SENT) /* "sent again" is no loss */
                expect(d, "451 4.3.2 Shutting down, send it again\r\n");
            expect(d, where <= BEING_SENT ? "421 4.3.2" : "");
            expect_end(d);
            ck_assert_uint_eq(waiting(), where > BEING_SENT);
            if (id != QUEUE_NONE) {
                queue_land(id, true);
                fate_return(id, now_ms);
            }
            ck_assert_uint_eq(fate_log_lost(now_ms), where > BEING_SENT);
            hang_up_device(d);
            settle(NULL);
            deliver_the_rest();
            start_anew();
        }
}
END_TEST

/* ---- Places -------------------------------------------------------------- */

static promise_ticket make(unsigned n, queue_id id)
{
    uint8_t print[CRYPTO_SHA256_BYTES] = {(uint8_t)n, (uint8_t)(n >> 8)};
    return promise_make(id, print, WAIT_MS, now_ms);
}

static promise_ticket join(unsigned n)
{
    uint8_t print[CRYPTO_SHA256_BYTES] = {(uint8_t)n, (uint8_t)(n >> 8)};
    return promise_join(print, WAIT_MS, now_ms);
}

static queue_id a_message(void)
{
    queue_id id = queue_new("a@x", 0);
    ck_assert(queue_add_recipient(id, "b@x"));
    queue_commit(id, 0, now_ms);
    return id;
}

/* All devices wait, and more answers were lost than are remembered: the
 * oldest of these is forgotten, never a living one. */
START_TEST(places_never_run_out)
{
    promise_ticket living[CLIENTS_MAX - 1];
    queue_id id = a_message();
    for (unsigned i = 0; i < COUNT(living); i++) {
        living[i] = make(i, id);
        ck_assert_uint_ne(living[i], 0);
    }
    ck_assert_uint_eq(promise_count_held(), COUNT(living));
    unsigned lost = 3 * PROMISES_REMEMBERED;
    for (unsigned i = 0; i < lost; i++, now_ms++) {
        promise_ticket t = make(1000 + i, id);
        ck_assert_uint_ne(t, 0);
        promise_unheard(t, now_ms);
        ck_assert_uint_eq(promise_message(t), QUEUE_NONE);
    }
    for (unsigned i = 0; i < COUNT(living); i++)
        ck_assert_uint_eq(promise_message(living[i]), id);
    for (unsigned i = 0; i < COUNT(living); i++)
        promise_heard(living[i]);
    ck_assert_uint_eq(join(1000 + lost - PROMISES_REMEMBERED - 2), 0);
    for (unsigned i = lost - PROMISES_REMEMBERED; i < lost; i++)
        ck_assert_uint_ne(join(1000 + i), 0);
    promise_init();
    deliver_the_rest();
}
END_TEST

/* A ticket that is over is noticed, and does no harm. */
START_TEST(void_tickets)
{
    char text[PROMISE_REPLY_BYTES];
    queue_id id = a_message();
    promise_ticket first = make(1, id);
    promise_unheard(first, now_ms);
    promise_ticket second = join(1);
    ck_assert_uint_ne(second, 0);
    ck_assert_uint_ne(second, first);
    static const promise_ticket none = 0;
    const promise_ticket *const tickets[] = {&first, &none};
    for (size_t i = 0; i < COUNT(tickets); i++) {
        promise_ticket t = *tickets[i];
        ck_assert_uint_eq(promise_message(t), QUEUE_NONE);
        ck_assert(promise_is_ripe(t, now_ms));
        ck_assert_int_eq(promise_answer(t, now_ms, text), PROMISE_SILENCE);
        promise_heard(t);
        promise_unheard(t, now_ms);
        promise_doubt(t, now_ms);
        promise_hurry(t, now_ms);
        ck_assert_uint_eq(promise_message(second), id);
        ck_assert(!promise_is_ripe(second, now_ms));
    }
    ck_assert_int_eq(promise_due_ms(second, now_ms), now_ms + WAIT_MS);
    promise_heard(second);
    ck_assert_uint_eq(join(1), 0);
    deliver_the_rest();
}
END_TEST

/* The words of a smarthost are long, and fit a reply line all the same. */
START_TEST(the_longest_words)
{
    char words[1000], text[PROMISE_REPLY_BYTES];
    memset(words, 'w', sizeof words - 1);
    memcpy(words, "550 5.1.1 ", 10);
    words[sizeof words - 1] = '\0';
    is_byte_wise = false;
    struct device *d = held(ONE);
    struct verdict v = {QUEUE_NEVER, words, words};
    try_once(&v, 0);
    settle(d);
    snprintf(text, sizeof text, "%s", reply(d));
    ck_assert_uint_le(strlen(text), 512);
    ck_assert(strncmp(text, "550 5.1.1 www", 13) == 0);
    leave(d);
}
END_TEST

Suite *suite_held(void)
{
    Suite *s = suite_create("held");
    TCase *c = tcase_create("held");
    tcase_set_timeout(c, 120);
    tcase_add_checked_fixture(c, open_held_house, close_held_house);
    tcase_add_loop_test(c, the_verdict_is_the_reply, 0, 2);
    tcase_add_loop_test(c, a_second_try_within_the_window, 0, 2);
    tcase_add_loop_test(c, the_window_passes, 0, 2);
    tcase_add_loop_test(c, the_window_passes_in_refuse_mode, 0, 2);
    tcase_add_loop_test(c, a_verdict_behind_the_window, 0, 2);
    tcase_add_loop_test(c, a_late_verdict_is_not_the_devices, 0, 2);
    tcase_add_loop_test(c, the_route_rests, 0, 2);
    tcase_add_loop_test(c, the_route_begins_to_rest, 0, 2);
    tcase_add_loop_test(c, gone_while_held, 0, 2);
    tcase_add_loop_test(c, a_resend_joins, 0, 2);
    tcase_add_loop_test(c, a_resend_joins_what_is_settled, 0, 2);
    tcase_add_loop_test(c, what_is_no_resend, 0, 2);
    tcase_add_loop_test(c, a_resend_in_time, 0, 2);
    tcase_add_loop_test(c, half_closed_while_held, 0, 2);
    tcase_add_loop_test(c, a_resend_takes_a_half_closed_session_over, 0, 2);
    tcase_add_loop_test(c, the_living_are_never_joined, 0, 2);
    tcase_add_loop_test(c, an_answer_that_is_not_taken, 0, 2);
    tcase_add_loop_test(c, a_reset_behind_the_answer, 0, 2);
    tcase_add_loop_test(c, commands_behind_the_dot, 0, 2);
    tcase_add_loop_test(c, no_wait_at_all, 0, 2);
    tcase_add_loop_test(c, the_wait_of_a_listener, 0, 2);
    tcase_add_loop_test(c, a_verdict_during_the_drain, 0, 2);
    tcase_add_loop_test(c, abandoned_while_held, 0, 2);
    tcase_add_test(c, places_never_run_out);
    tcase_add_test(c, void_tickets);
    tcase_add_test(c, the_longest_words);
    suite_add_tcase(s, c);
    return s;
}
