/* promise: what a device is told, and that all of it stays true. Tables first;
 * then every order of events, up to some number of them, against the promises
 * of held_reply.pml, with the real queue, fate and notice. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../config.h"
#include "../fate.h"
#include "../log.h"
#include "../notice.h"
#include "../promise.h"
#include "../settings.h"
Suite *suite_promise(void);

#define COUNT(table) (sizeof(table) / sizeof(table)[0])
#define SECOND       ((int64_t)1000)
#define WINDOW_MS    (20 * SECOND)
#define START_MS     (100000 * SECOND)
#define PLACES       (CLIENTS_MAX + PROMISES_REMEMBERED)

#define BASE                                                                   \
    "smarthost = smtp.example.net:587\nsmarthost_tls = none\n"                 \
    "postmaster = admin@example.org\nack_wait_seconds = 20\n"
#define QUEUES  BASE "ack_late = queue\n"
#define REFUSES BASE "ack_late = refuse\n"

static char last_line[2 * LOG_LINE_BYTES];

static void sink(const char *line)
{
    snprintf(last_line, sizeof last_line, "%s", line);
}

static void load(const char *text)
{
    char error[SETTINGS_ERROR_BYTES];
    ck_assert_msg(settings_load_text("test", text, strlen(text), error), "%s",
                  error);
}

static void setup(void)
{
    log_to(sink);
    log_set_level(LOG_AT_ERROR);
    ck_assert(crypto_init());
    load(QUEUES);
    queue_init();
    promise_init();
    notice_init("relay.example.net");
}

static void teardown(void)
{
    const char *why = queue_unsound();
    ck_assert_msg(why == NULL, "%s", why);
    log_to(NULL);
    log_set_level(LOG_AT_INFO);
}

/* ---- Mail, and what becomes of it ---------------------------------------- */

static const uint8_t *print_of(unsigned number)
{
    static uint8_t print[CRYPTO_SHA256_BYTES];
    memset(print, 0, sizeof print);
    memcpy(print, &number, sizeof number);
    return print;
}

/* Checked by hand: a ck_assert costs more than all that it looks at, and the
 * exploration does this a million times. */
static void demand(bool is_true, const char *what);

static queue_id commit(unsigned recipients, int64_t now_ms)
{
    char to[32];
    queue_id id = queue_new("from@example.com", 0);
    demand(id != QUEUE_NONE, "the queue is full");
    for (unsigned i = 0; i < recipients; i++) {
        snprintf(to, sizeof to, "to%u@example.net", i);
        demand(queue_add_recipient(id, to), "no room for a recipient");
    }
    queue_commit(id, 0, now_ms);
    return id;
}

/* Commits a mail and makes its promise. */
static promise_ticket make(unsigned number, int64_t now_ms)
{
    promise_ticket t =
        promise_make(commit(1, now_ms), print_of(number), WINDOW_MS, now_ms);
    ck_assert_uint_ne(t, 0);
    return t;
}

static queue_id lend(int64_t now_ms)
{
    queue_id id = queue_due(now_ms, true);
    ck_assert_uint_ne(id, QUEUE_NONE);
    queue_count_try(id);
    return id;
}

static void settle_next(queue_id id, enum queue_verdict verdict,
                        const char *reply, const char *advice, int64_t now_ms)
{
    struct queue_recipient r = {0};
    while (queue_next_recipient(id, &r))
        if (r.verdict == QUEUE_OPEN)
            break;
    fate_settle(id, &r, verdict, reply, advice, now_ms);
}

/* The smarthost's verdict on a mail of one recipient, behind its dot. */
static void land(queue_id id, enum queue_verdict verdict, const char *reply,
                 int64_t due_ms, int64_t now_ms)
{
    ck_assert(queue_launch(id));
    queue_land(id, true);
    settle_next(id, verdict, reply, NULL, now_ms);
    fate_return(id, due_ms);
}

static enum promise_answer answer_of(promise_ticket t, int64_t now_ms)
{
    char reply[PROMISE_REPLY_BYTES];
    return promise_answer(t, now_ms, reply);
}

static void expect_reply(promise_ticket t, int64_t now_ms, const char *want)
{
    char reply[PROMISE_REPLY_BYTES];
    enum promise_answer a = promise_answer(t, now_ms, reply);
    ck_assert_int_ne(a, PROMISE_WAITS);
    ck_assert_int_ne(a, PROMISE_SILENCE);
    ck_assert_str_eq(reply, want);
}

/* ---- The words ----------------------------------------------------------- */

#define D QUEUE_DONE
#define N QUEUE_NEVER
#define O QUEUE_OPEN
#define S PROMISE_SENT
#define R PROMISE_REFUSED
#define A PROMISE_AGAIN
#define W PROMISE_WAITS

static const struct words_row {
    const char *mode;
    struct {
        enum queue_verdict verdict;
        const char *reply, *advice;
    } said[3]; /* of a recipient each */
    enum promise_answer answer;
    const char *reply;
} words_rows[] = {
    {QUEUES,
     {{D, "250 2.0.0 Ok: queued as 4B", 0}},
     S,
     "250 2.0.0 sent: Ok: queued as 4B"},
    {QUEUES,
     {{D, "250 2.6.0 <a@b> Ok", "none"}},
     S,
     "250 2.6.0 sent: <a@b> Ok"},
    {QUEUES, {{D, "250 Ok", 0}}, S, "250 2.0.0 sent: Ok"},
    {QUEUES, {{D, "250", 0}}, S, "250 2.0.0 sent: Ok"},
    {QUEUES, {{D, "252-2.1.5 Well", 0}}, S, "250 2.1.5 sent: Well"},
    /* Refused: the very words, or as near as can be. */
    {QUEUES, {{N, "550 5.1.1 No such user", 0}}, R, "550 5.1.1 No such user"},
    {REFUSES,
     {{N, "550 5.1.1 No such user", "Mistyped?"}},
     R,
     "550 5.1.1 No such user (Mistyped?)"},
    {QUEUES, {{N, "552 Too big", 0}}, R, "552 5.0.0 Too big"},
    {QUEUES, {{N, "550 4.1.1 At odds", 0}}, R, "550 5.0.0 At odds"},
    {QUEUES, {{N, "550 5.111111111111.1 Long", 0}}, R, "550 5.0.0 Long"},
    {QUEUES, {{N, "550 5.1 Short", 0}}, R, "550 5.0.0 5.1 Short"},
    {QUEUES, {{N, "550", "Why?"}}, R, "550 5.0.0 no reason given (Why?)"},
    {QUEUES, {{N, "550 5.7.1", 0}}, R, "550 5.7.1 no reason given"},
    {QUEUES, {{N, "", 0}}, R, "554 5.0.0 no reason given"},
    {QUEUES,
     {{N, "given up after 2 hours", 0}},
     R,
     "554 5.0.0 given up after 2 hours"},
    {QUEUES, {{N, "5501 words", 0}}, R, "554 5.0.0 5501 words"},
    {QUEUES,
     {{N, "550 5.7.1 caf\xc3\xa9\r\nQUIT\t\x7f", "\xff!"}},
     R,
     "550 5.7.1 caf????QUIT?? (?!)"},
    /* More than one recipient: who took it speaks, else the first refusal. */
    {QUEUES,
     {{D, "250 2.0.0 Ok", 0}, {N, "550 5.1.1 No", "x"}},
     S,
     "250 2.0.0 sent to 1 of 2 recipients: Ok"},
    {REFUSES,
     {{N, "550 5.1.1 No", "x"}, {D, "250 2.0.0 Ok", 0}},
     S,
     "250 2.0.0 sent to 1 of 2 recipients: Ok"},
    {REFUSES,
     {{O, "450 Later", 0}, {D, "250 2.0.0 Ok", 0}, {N, "550 No", 0}},
     S,
     "250 2.0.0 sent to 1 of 3 recipients: Ok"},
    {QUEUES,
     {{D, "250 2.0.0 Ok", 0}, {D, "250 2.0.0 Me too", 0}},
     S,
     "250 2.0.0 sent: Ok"},
    {QUEUES,
     {{N, "550 5.1.1 First", "a"}, {N, "551 5.1.6 Second", "b"}},
     R,
     "550 5.1.1 First (a)"},
    /* Later: a device that knows how to wait is told so at once. */
    {QUEUES, {{O, "451 4.7.1 Greylisted", 0}}, W, ""},
    {QUEUES, {{N, "550 5.1.1 No", 0}, {O, "451 4.7.1 Greylisted", 0}}, W, ""},
    {REFUSES, {{N, "550 5.1.1 No", 0}, {O, "451 4.7.1 Greylisted", 0}}, W, ""},
    {REFUSES, {{O, "the line was cut", 0}}, W, ""},
    {REFUSES,
     {{O, "451 4.7.1 Greylisted", "Wait."}},
     A,
     "451 4.7.1 Greylisted (Wait.)"},
    {REFUSES, {{O, "421 4.7.0 Busy", 0}}, A, "451 4.7.0 Busy"},
    {REFUSES, {{O, "421", 0}}, A, "451 4.0.0 no reason given"},
    {REFUSES,
     {{O, "450 Busy", 0}, {O, "452 4.2.2 Full", "Clean up."}},
     A,
     "452 4.2.2 Full (Clean up.)"},
};

START_TEST(the_words)
{
    const struct words_row *row = &words_rows[_i];
    char reply[PROMISE_REPLY_BYTES] = "";
    unsigned recipients = 0;
    bool is_open = false;
    load(row->mode);
    for (; recipients < COUNT(row->said) && row->said[recipients].reply;
         recipients++)
        is_open |= row->said[recipients].verdict == O;
    queue_id id = commit(recipients, START_MS);
    promise_ticket t = promise_make(id, print_of(1), WINDOW_MS, START_MS);
    struct queue_recipient r = {0};
    lend(START_MS);
    for (unsigned i = 0; queue_next_recipient(id, &r); i++)
        fate_settle(id, &r, row->said[i].verdict, row->said[i].reply,
                    row->said[i].advice, START_MS);
    ck_assert(!promise_is_ripe(t, START_MS)); /* not before it is back */
    fate_return(id, START_MS + SECOND);
    ck_assert_int_eq(promise_answer(t, START_MS, reply), row->answer);
    ck_assert_str_eq(reply, row->reply);
    ck_assert_int_eq(queue_fate(id) == QUEUE_OVER,
                     row->answer == A || !is_open);
    promise_heard(t);
    ck_assert_uint_eq(promise_message(t), QUEUE_NONE);
}
END_TEST

#undef D
#undef N
#undef O
#undef S
#undef R
#undef A
#undef W

/* However long the words are: a reply is one line with room for its end. */
START_TEST(longest_reply)
{
    char words[600] = "550 5.7.1 ", advice[300], reply[PROMISE_REPLY_BYTES];
    memset(words + 10, 'w', sizeof words - 11);
    words[sizeof words - 1] = '\0';
    memset(advice, 'a', sizeof advice - 1);
    advice[sizeof advice - 1] = '\0';
    promise_ticket t = make(1, START_MS);
    queue_id id = lend(START_MS);
    settle_next(id, QUEUE_NEVER, words, advice, START_MS);
    fate_return(id, START_MS);
    ck_assert_int_eq(promise_answer(t, START_MS, reply), PROMISE_REFUSED);
    ck_assert_uint_le(strlen(reply) + 2, PROMISE_REPLY_BYTES - 1);
    ck_assert_uint_gt(strlen(reply), 400);
    promise_route_rests(START_MS + 9 * WINDOW_MS, words);
    load(REFUSES);
    t = make(2, START_MS);
    ck_assert_int_eq(promise_answer(t, START_MS, reply), PROMISE_AGAIN);
    ck_assert_uint_le(strlen(reply) + 2, PROMISE_REPLY_BYTES - 1);
}
END_TEST

/* ---- Windows ------------------------------------------------------------- */

#define SECONDS_AFTER(n) (START_MS + (n)*SECOND)

START_TEST(a_window_closes)
{
    char want[80];
    promise_ticket t = make(1, START_MS);
    ck_assert_int_eq(promise_due_ms(t, START_MS), SECONDS_AFTER(20));
    ck_assert_int_eq(answer_of(t, SECONDS_AFTER(20) - 1), PROMISE_WAITS);
    ck_assert(!promise_is_ripe(t, SECONDS_AFTER(20) - 1));
    ck_assert(promise_is_ripe(t, SECONDS_AFTER(20)));
    snprintf(want, sizeof want, "250 2.0.0 Queued in memory as %08X",
             (unsigned)promise_message(t));
    expect_reply(t, SECONDS_AFTER(20), want);
    struct queue_view v;
    ck_assert(queue_look(promise_message(t), &v) && v.is_promised);
    load(REFUSES);
    t = make(2, START_MS);
    expect_reply(t, SECONDS_AFTER(20),
                 "451 4.4.1 The smarthost gave no answer in time, send it "
                 "again later");
    ck_assert_int_eq(queue_fate(promise_message(t)), QUEUE_OVER);
}
END_TEST

/* Never held: "queued" at once. */
START_TEST(no_window)
{
    promise_ticket t =
        promise_make(commit(1, START_MS), print_of(1), 0, START_MS);
    ck_assert(promise_is_ripe(t, START_MS));
    ck_assert_int_eq(answer_of(t, START_MS), PROMISE_QUEUED);
}
END_TEST

/* What will not come within the window is not waited for. */
START_TEST(known_to_be_late)
{
    static const struct {
        const char *mode;
        int64_t rest_s, next_try_s; /* 0: none */
        enum promise_answer answer;
    } rows[] = {
        {QUEUES, 0, 0, PROMISE_WAITS},   {QUEUES, 20, 0, PROMISE_WAITS},
        {QUEUES, 21, 0, PROMISE_QUEUED}, {QUEUES, 0, 20, PROMISE_WAITS},
        {QUEUES, 0, 21, PROMISE_QUEUED}, {REFUSES, 20, 20, PROMISE_WAITS},
        {REFUSES, 21, 0, PROMISE_AGAIN}, {REFUSES, 0, 21, PROMISE_AGAIN},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        load(rows[i].mode);
        queue_init();
        promise_ticket t = make((unsigned)i, START_MS);
        if (rows[i].next_try_s > 0)
            land(lend(START_MS), QUEUE_OPEN, "cut",
                 SECONDS_AFTER(rows[i].next_try_s), START_MS);
        if (rows[i].rest_s > 0)
            promise_route_rests(SECONDS_AFTER(rows[i].rest_s), "It is down");
        ck_assert_int_eq(answer_of(t, START_MS), rows[i].answer);
        promise_route_rests(0, "");
    }
}
END_TEST

START_TEST(in_flight_waits_twice)
{
    static const struct {
        const char *mode;
        bool is_stopping;
        enum promise_answer answer;
    } rows[] = {{REFUSES, false, PROMISE_QUEUED},
                {REFUSES, true, PROMISE_SILENCE},
                {QUEUES, true, PROMISE_SILENCE}};
    for (size_t i = 0; i < COUNT(rows); i++) {
        load(rows[i].mode);
        queue_init();
        promise_init();
        promise_ticket t = make(1, START_MS);
        ck_assert(queue_launch(lend(START_MS)));
        if (rows[i].is_stopping)
            promise_stop_all();
        ck_assert_int_eq(answer_of(t, SECONDS_AFTER(20)), PROMISE_WAITS);
        ck_assert_int_eq(promise_due_ms(t, SECONDS_AFTER(20)),
                         SECONDS_AFTER(40));
        ck_assert_int_eq(answer_of(t, SECONDS_AFTER(40) - 1), PROMISE_WAITS);
        ck_assert_int_eq(answer_of(t, SECONDS_AFTER(40)), rows[i].answer);
    }
}
END_TEST

START_TEST(in_doubt_is_not_taken_back)
{
    for (int is_stopping = 0; is_stopping < 2; is_stopping++) {
        load(REFUSES);
        promise_ticket t = make(1, START_MS);
        queue_id id = lend(START_MS);
        ck_assert(queue_launch(id));
        queue_land(id, false);
        settle_next(id, QUEUE_OPEN, "451 cut", NULL, START_MS);
        fate_return(id, SECONDS_AFTER(10));
        ck_assert_int_eq(answer_of(t, START_MS), PROMISE_WAITS);
        if (is_stopping)
            promise_stop_all();
        ck_assert_int_eq(answer_of(t, SECONDS_AFTER(20)),
                         is_stopping ? PROMISE_SILENCE : PROMISE_QUEUED);
        ck_assert_int_eq(queue_fate(id), QUEUE_IN_DOUBT);
    }
}
END_TEST

START_TEST(hurried_at_the_end)
{
    promise_ticket waits = make(1, START_MS);
    promise_ticket flies = make(2, START_MS);
    queue_id id = promise_message(flies);
    while (lend(START_MS) != id)
        ;
    ck_assert(queue_launch(id));
    promise_stop_all();
    promise_hurry(waits, SECONDS_AFTER(1));
    promise_hurry(flies, SECONDS_AFTER(1));
    ck_assert_int_eq(promise_due_ms(waits, SECONDS_AFTER(1)), SECONDS_AFTER(1));
    expect_reply(waits, SECONDS_AFTER(1),
                 "451 4.3.2 Shutting down, send it again");
    ck_assert(queue_is_withdrawn(promise_message(waits))); /* lent */
    ck_assert_int_eq(answer_of(flies, SECONDS_AFTER(1)), PROMISE_SILENCE);
}
END_TEST

START_TEST(outlook)
{
    static const struct {
        const char *mode;
        int64_t rest_s;
        const char *reply;
    } rows[] = {
        {QUEUES, 0, NULL},
        {QUEUES, 9999, NULL},
        {REFUSES, 0, NULL},
        {REFUSES, 20, NULL},
        {REFUSES, 21, "451 4.4.1 No caf??: down; send it again later"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        load(rows[i].mode);
        promise_route_rests(rows[i].rest_s ? SECONDS_AFTER(rows[i].rest_s) : 0,
                            "No caf\xc3\xa9: down");
        const char *reply = promise_outlook(WINDOW_MS, START_MS);
        ck_assert_int_eq(reply == NULL, rows[i].reply == NULL);
        if (reply != NULL)
            ck_assert_str_eq(reply, rows[i].reply);
    }
    promise_ticket t = make(1, START_MS); /* the same words behind the dot */
    expect_reply(t, START_MS, rows[COUNT(rows) - 1].reply);
}
END_TEST

/* ---- Unheard, and joined ------------------------------------------------- */

START_TEST(remembered_so_long)
{
    static const struct {
        int64_t after_ms;
        unsigned number;
        bool joins;
    } rows[] = {
        {0, 1, true},
        {0, 2, false},
        {PROMISE_SECONDS * SECOND - 1, 1, true},
        {PROMISE_SECONDS * SECOND, 1, false},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        promise_init();
        promise_ticket t = make(1, START_MS);
        queue_id id = promise_message(t);
        ck_assert_uint_eq(promise_join(print_of(1), WINDOW_MS, START_MS), 0);
        promise_unheard(t, START_MS);
        ck_assert_uint_eq(promise_message(t), QUEUE_NONE);
        int64_t at_ms = START_MS + rows[i].after_ms;
        promise_ticket joined =
            promise_join(print_of(rows[i].number), WINDOW_MS, at_ms);
        ck_assert_int_eq(joined != 0, rows[i].joins);
        if (joined != 0) {
            ck_assert_uint_eq(promise_message(joined), id);
            ck_assert_int_eq(promise_due_ms(joined, at_ms), at_ms + WINDOW_MS);
        }
        /* Once is enough: it waits now. */
        ck_assert_uint_eq(promise_join(print_of(1), WINDOW_MS, at_ms) != 0,
                          rows[i].number == 2);
    }
}
END_TEST

START_TEST(only_an_unheard_one_is_joined)
{
    promise_ticket t = make(1, START_MS);
    ck_assert_int_eq(answer_of(t, SECONDS_AFTER(20)), PROMISE_QUEUED);
    ck_assert_uint_eq(promise_join(print_of(1), WINDOW_MS, START_MS), 0);
    promise_heard(t); /* an alarm that looks alike is another mail */
    ck_assert_uint_eq(promise_join(print_of(1), WINDOW_MS, START_MS), 0);
    load(REFUSES);
    t = make(2, START_MS);
    ck_assert_int_eq(answer_of(t, SECONDS_AFTER(20)), PROMISE_AGAIN);
    promise_doubt(t, SECONDS_AFTER(20)); /* its copy is gone */
    ck_assert_uint_eq(promise_join(print_of(2), WINDOW_MS, START_MS), 0);
    promise_unheard(t, SECONDS_AFTER(20));
    ck_assert_uint_eq(promise_join(print_of(2), WINDOW_MS, START_MS), 0);
}
END_TEST

START_TEST(a_verdict_that_is_known_is_told_at_once)
{
    static const struct {
        enum queue_verdict verdict;
        const char *said, *told;
    } rows[] = {
        {QUEUE_DONE, "250 2.0.0 Ok", "250 2.0.0 sent: Ok"},
        {QUEUE_NEVER, "550 5.1.1 No", "550 5.1.1 No"},
    };
    for (unsigned i = 0; i < COUNT(rows); i++)
        for (int told_before = 0; told_before < 2; told_before++) {
            promise_ticket t = make(i, START_MS);
            if (!told_before)
                promise_unheard(t, START_MS);
            land(lend(START_MS), rows[i].verdict, rows[i].said, 0, START_MS);
            if (told_before) {
                expect_reply(t, START_MS, rows[i].told);
                promise_unheard(t, START_MS);
            }
            t = promise_join(print_of(i), WINDOW_MS, START_MS);
            expect_reply(t, START_MS, rows[i].told);
            promise_heard(t);
        }
}
END_TEST

/* Half a connection, or an answer that is long on the way: a resend takes it
 * over, and its first device hears nothing more. */
START_TEST(doubt_is_taken_over)
{
    for (int is_told = 0; is_told < 2; is_told++) {
        promise_ticket first = make(1, START_MS);
        queue_id id = promise_message(first);
        if (is_told)
            ck_assert_int_eq(answer_of(first, SECONDS_AFTER(20)),
                             PROMISE_QUEUED);
        promise_doubt(first, SECONDS_AFTER(20));
        promise_ticket second =
            promise_join(print_of(1), WINDOW_MS, SECONDS_AFTER(20));
        ck_assert_uint_eq(promise_message(second), id);
        ck_assert_uint_eq(promise_message(first), QUEUE_NONE);
        ck_assert_int_eq(answer_of(first, SECONDS_AFTER(20)), PROMISE_SILENCE);
        promise_heard(first); /* too late to count */
        promise_unheard(first, SECONDS_AFTER(20));
        ck_assert_int_eq(answer_of(second, SECONDS_AFTER(39)), PROMISE_WAITS);
        ck_assert_int_eq(answer_of(second, SECONDS_AFTER(40)), PROMISE_QUEUED);
        promise_heard(second);
    }
}
END_TEST

/* It may have shut its side and believe in success: our copy is not given up
 * for a 4yz that nobody may hear. */
START_TEST(the_deaf_keep_their_mail)
{
    static const struct {
        bool is_stopping;
        const char *reply; /* of the smarthost */
        enum promise_answer at_once, late;
    } rows[] = {
        {false, "the line was cut", PROMISE_WAITS, PROMISE_QUEUED},
        {false, "451 4.7.1 Later", PROMISE_WAITS, PROMISE_QUEUED},
        {true, "451 4.7.1 Later", PROMISE_WAITS, PROMISE_SILENCE},
    };
    load(REFUSES);
    for (unsigned i = 0; i < COUNT(rows); i++) {
        promise_ticket t = make(i, START_MS);
        queue_id id = lend(START_MS);
        promise_doubt(t, START_MS);
        if (rows[i].is_stopping)
            promise_stop_all();
        land(id, QUEUE_OPEN, rows[i].reply, SECONDS_AFTER(10), START_MS);
        ck_assert_int_eq(answer_of(t, START_MS), rows[i].at_once);
        ck_assert_int_eq(answer_of(t, SECONDS_AFTER(20)), rows[i].late);
        ck_assert_int_eq(queue_fate(id), QUEUE_HELD);
        if (rows[i].late == PROMISE_QUEUED) /* and may be joined as before */
            ck_assert_uint_ne(
                promise_join(print_of(i), WINDOW_MS, SECONDS_AFTER(20)), 0);
    }
}
END_TEST

/* 250 was said, and may have been heard after all: whoever joins it, our copy
 * stays, and its failure is told to the postmaster, too. */
START_TEST(what_was_promised_stays)
{
    load(REFUSES);
    promise_ticket t = make(1, START_MS);
    queue_id id = lend(START_MS);
    ck_assert(queue_launch(id));
    ck_assert_int_eq(answer_of(t, SECONDS_AFTER(40)), PROMISE_QUEUED);
    promise_unheard(t, SECONDS_AFTER(40));
    queue_land(id, true);
    settle_next(id, QUEUE_OPEN, "451 4.7.1 Later", NULL, SECONDS_AFTER(40));
    fate_return(id, SECONDS_AFTER(50));
    t = promise_join(print_of(1), WINDOW_MS, SECONDS_AFTER(41));
    ck_assert_int_eq(answer_of(t, SECONDS_AFTER(41)), PROMISE_WAITS);
    ck_assert(!promise_is_held(id));
    land(lend(SECONDS_AFTER(50)), QUEUE_NEVER, "550 5.1.1 No", 0,
         SECONDS_AFTER(50));
    expect_reply(t, SECONDS_AFTER(50), "550 5.1.1 No");
    promise_heard(t);
    ck_assert_int_ne(notice_wake_ms(), INT64_MAX);
}
END_TEST

/* Whoever hears a refusal needs no notice; whoever does not, does. */
START_TEST(a_refusal_is_told_to_somebody)
{
    for (int is_heard = 0; is_heard < 2; is_heard++) {
        notice_init("relay.example.net");
        promise_ticket t = make(1, START_MS);
        queue_id id = lend(START_MS);
        ck_assert(promise_is_held(id));
        land(id, QUEUE_NEVER, "550 5.1.1 No", 0, START_MS);
        ck_assert_int_eq(answer_of(t, START_MS), PROMISE_REFUSED);
        ck_assert(!promise_is_held(id));
        ck_assert_int_eq(notice_wake_ms(), INT64_MAX);
        if (is_heard)
            promise_heard(t);
        else
            promise_unheard(t, START_MS);
        ck_assert_int_eq(notice_wake_ms() == INT64_MAX, is_heard);
    }
}
END_TEST

/* What devices heard leaves no trace: as many as ever, and the next failure
 * still has its place. */
START_TEST(heard_refusals_fill_nothing)
{
    for (unsigned i = 0; i <= NOTICE_FAILURES; i++) {
        promise_ticket t = make(i, START_MS);
        land(lend(START_MS), QUEUE_NEVER, "550 5.1.1 No", 0, START_MS);
        ck_assert_int_eq(answer_of(t, START_MS), PROMISE_REFUSED);
        ck_assert_int_eq(notice_wake_ms(), INT64_MAX);
        if (i < NOTICE_FAILURES)
            promise_heard(t);
        else
            promise_unheard(t, START_MS);
    }
    ck_assert_int_ne(notice_wake_ms(), INT64_MAX);
}
END_TEST

/* ---- Full ---------------------------------------------------------------- */

/* As many as devices can wait, and as many more as are remembered; then the
 * oldest unheard one is forgotten; where all wait, nobody is. */
START_TEST(full)
{
    static promise_ticket tickets[PLACES];
    for (unsigned i = 0; i < PLACES; i++)
        tickets[i] = make(i, START_MS);
    ck_assert_uint_eq(promise_count_held(), PLACES);
    ck_assert_uint_eq(promise_make(commit(1, START_MS), print_of(PLACES),
                                   WINDOW_MS, START_MS),
                      0);
    for (unsigned i = 0; i < PROMISES_REMEMBERED; i++)
        promise_unheard(tickets[i], START_MS + i);
    ck_assert_uint_eq(promise_count_held(), CLIENTS_MAX);
    ck_assert_uint_ne(make(PLACES, SECONDS_AFTER(1)), 0);
    ck_assert_uint_eq(promise_join(print_of(0), WINDOW_MS, SECONDS_AFTER(1)),
                      0);
    ck_assert_uint_ne(promise_join(print_of(1), WINDOW_MS, SECONDS_AFTER(1)),
                      0);
    for (unsigned i = PROMISES_REMEMBERED; i < PLACES; i++)
        ck_assert_uint_ne(promise_message(tickets[i]), QUEUE_NONE);
    /* An old one makes room before any other is forgotten. */
    int64_t later_ms = START_MS + 2 + PROMISE_SECONDS * SECOND;
    ck_assert_uint_ne(make(PLACES + 1, later_ms), 0);
    ck_assert_uint_eq(promise_join(print_of(2), WINDOW_MS, later_ms), 0);
    ck_assert_uint_ne(promise_join(print_of(4), WINDOW_MS, later_ms), 0);
    ck_assert_uint_gt(promise_memory_bytes(), PLACES * sizeof tickets[0]);
}
END_TEST

/* 0, and what has ended: all are void, and harm nobody. */
START_TEST(void_tickets)
{
    promise_ticket ended = make(1, START_MS), alive = make(1, START_MS);
    promise_heard(ended);
    promise_ticket reused = make(2, START_MS); /* in the same place */
    ck_assert_uint_eq(reused % PLACES, ended % PLACES);
    const promise_ticket tickets[] = {0, ended, UINT32_MAX};
    for (size_t i = 0; i < COUNT(tickets); i++) {
        promise_ticket t = tickets[i];
        ck_assert_uint_eq(promise_message(t), QUEUE_NONE);
        ck_assert(promise_is_ripe(t, START_MS));
        ck_assert_int_eq(promise_due_ms(t, START_MS), START_MS);
        ck_assert_int_eq(answer_of(t, START_MS), PROMISE_SILENCE);
        promise_hurry(t, START_MS);
        promise_doubt(t, START_MS);
        promise_heard(t);
        promise_unheard(t, START_MS);
    }
    ck_assert_uint_eq(promise_count_held(), 2);
    ck_assert_int_eq(promise_due_ms(reused, START_MS), SECONDS_AFTER(20));
    ck_assert_int_eq(promise_due_ms(alive, START_MS), SECONDS_AFTER(20));
    promise_note(0, QUEUE_DONE, "250 Ok", NULL); /* nobody's */
    promise_returned(4711, START_MS);
    ck_assert(!promise_is_held(0) && !promise_is_held(4711));
}
END_TEST

/* ---- Every order of events ----------------------------------------------- */

/* Devices send the same bytes; in a turn each that waits is asked about, as
 * smtp_in does. All runs of so many events are gone through by replaying each
 * from the start; what looks the same as one that was seen, in all that can be
 * seen, is not gone on with. */
#define DEVICES_MOST 3
#define EVENTS_MOST  12
#define NODES_MOST   (1 << 18)
#define SEEN_PLACES  (1 << 20)
#define TRIES_MOST   2
#define DAY_MS       (24 * 3600 * SECOND)

enum event_kind {
    COMES, /* the same bytes once more: again, or another mail */
    WINDOW_PASSES,
    ROUTE_RESTS,
    ROUTE_WORKS,
    EXPIRES,
    STOPS,
    ENDS, /* SIGTERM's patience */
    LENT,
    GOES, /* from here on a device's own */
    IS_DOUBTED,
    HEARS,
    FLIES, /* from here on a copy's own */
    IS_TAKEN,
    IS_DELAYED, /* within the window */
    IS_DELAYED_LONG,
    IS_REFUSED,
    ONE_IS_REFUSED,
    IS_LOST, /* the connection is */
    KINDS
};

static const char *const kind_names[KINDS] = {
    "comes",       "window passes",  "route rests",
    "route works", "expires",        "stops",
    "ends",        "lent",           "goes",
    "is doubted",  "hears",          "flies",
    "is taken",    "is delayed",     "is delayed long",
    "is refused",  "one is refused", "is lost"};

enum device_state {
    ABSENT,
    WAITING,
    ANSWERED,
    GONE
};

struct device {
    enum device_state state;
    promise_ticket ticket;
    unsigned copy;
    enum promise_answer told;
    int64_t since_ms;
    bool is_doubted, is_overtaken, is_unheard, is_clean;
};

struct copy {
    queue_id id;
    bool is_here, is_lent, is_flying;
    bool is_in_doubt, is_withdrawn;
    bool is_promised; /* 250 was said */
    bool is_kept;     /* or a device is gone that may believe so */
    bool is_refusal_heard;
    bool is_delayed; /* its words are a 4yz */
    bool was_tried;
    unsigned tries, open, delivered, failed;
    unsigned owner; /* the device that has its place */
    int64_t due_ms;
};

static struct world {
    int64_t now_ms, rest_ms;
    bool is_refusing, is_stopping, is_over;
    unsigned recipients, devices_most;
    unsigned device_count, copy_count;
    struct device devices[DEVICES_MOST];
    struct copy copies[DEVICES_MOST];
} w;

struct path {
    uint8_t length, events[EVENTS_MOST];
};

static struct path path; /* of what is under way, for a person */
static struct path nodes[NODES_MOST];
static uint64_t seen[SEEN_PLACES];
static unsigned long answers_given[PROMISE_SILENCE + 1], happened[KINDS];
static unsigned long joins;

static void demand(bool is_true, const char *what)
{
    char text[EVENTS_MOST * 32] = "";
    if (is_true)
        return;
    for (unsigned i = 0; i < path.length; i++) {
        unsigned kind = path.events[i] / DEVICES_MOST;
        size_t used = strlen(text);
        snprintf(text + used, sizeof text - used, "%s %s %u", i > 0 ? "," : "",
                 kind_names[kind], path.events[i] % DEVICES_MOST);
    }
    ck_abort_msg("%s (%s%s:%s)", what, w.is_refusing ? "refuse" : "queue",
                 w.recipients > 1 ? ", 2 recipients" : "", text);
}

static bool is_owner(const struct device *d)
{
    return !d->is_overtaken && w.copies[d->copy].owner == d - w.devices;
}

static bool is_late_refused(void)
{
    return w.is_refusing || w.is_stopping;
}

/* ---- The devices' side --------------------------------------------------- */

static void check_answer(const struct copy *c, enum promise_answer a,
                         const char *reply)
{
    bool is_good = a == PROMISE_SENT || a == PROMISE_QUEUED;
    demand(reply[0] == (is_good              ? '2'
                        : a == PROMISE_AGAIN ? '4'
                                             : '5') &&
               reply[3] == ' ' && strncmp(reply, "421", 3) != 0,
           "a wrong reply");
    demand(a != PROMISE_SENT || c->delivered > 0, "sent: nothing was");
    demand(a != PROMISE_QUEUED || (c->is_here && !w.is_stopping),
           "queued: it is not");
    demand(a != PROMISE_AGAIN || (is_late_refused() && c->delivered == 0 &&
                                  !c->is_in_doubt && !c->is_flying),
           "again: it may arrive twice");
    demand(a != PROMISE_AGAIN || !c->is_promised, "again: it was promised");
    demand(a != PROMISE_AGAIN || queue_fate(c->id) == QUEUE_OVER,
           "again: it is still here");
    demand(a != PROMISE_REFUSED || (c->failed == w.recipients),
           "refused: some are not");
}

static void lose(struct device *d)
{
    struct copy *c = &w.copies[d->copy];
    promise_unheard(d->ticket, w.now_ms);
    d->state = GONE;
    d->is_unheard = is_owner(d) && !c->is_withdrawn;
    c->is_kept |= d->is_unheard;
}

/* As smtp_dialogue.c does. */
static void take_verdict(struct device *d)
{
    char reply[PROMISE_REPLY_BYTES];
    struct copy *c = &w.copies[d->copy];
    int64_t waited_ms = w.now_ms - d->since_ms;
    enum promise_answer a = promise_answer(d->ticket, w.now_ms, reply);
    answers_given[a]++;
    if (a == PROMISE_WAITS) {
        demand(waited_ms < WINDOW_MS ||
                   (waited_ms < 2 * WINDOW_MS && is_late_refused() &&
                    c->is_flying && !c->is_in_doubt),
               "it waits for too long");
        demand(!promise_is_ripe(d->ticket, w.now_ms) &&
                   promise_due_ms(d->ticket, w.now_ms) > w.now_ms,
               "ripe, and has no answer");
        return;
    }
    if (a == PROMISE_SILENCE) {
        demand(d->is_overtaken ||
                   (w.is_stopping && (c->is_flying || c->is_in_doubt ||
                                      c->is_promised || d->is_doubted)),
               "it is told nothing");
        lose(d);
        return;
    }
    demand(is_owner(d), "told, though a resend has its place");
    demand(a != PROMISE_AGAIN || !d->is_doubted, "again: it may be deaf");
    check_answer(c, a, reply);
    d->state = ANSWERED;
    d->told = a;
    c->is_withdrawn |= a == PROMISE_AGAIN;
    c->is_here &= a != PROMISE_AGAIN || c->is_lent;
    c->is_promised |= a == PROMISE_SENT || a == PROMISE_QUEUED;
    c->is_kept |= c->is_promised;
}

static void turn(void)
{
    for (unsigned i = 0; i < w.device_count; i++)
        if (w.devices[i].state == WAITING)
            take_verdict(&w.devices[i]);
}

static bool may_be_joined(const struct device *d)
{
    const struct copy *c = &w.copies[d->copy];
    return is_owner(d) && !c->is_withdrawn &&
           (d->is_unheard || (d->is_doubted && d->state != GONE));
}

static void join(struct device *d)
{
    queue_id id = promise_message(d->ticket);
    while (d->copy < w.copy_count && w.copies[d->copy].id != id)
        d->copy++;
    demand(d->copy < w.copy_count, "it joins what is not there");
    struct copy *c = &w.copies[d->copy];
    struct device *before = &w.devices[c->owner];
    demand(!before->is_clean, "a mail that was acknowledged is merged");
    demand(may_be_joined(before), "one that may still hear is overtaken");
    before->is_overtaken = true;
    joins++;
}

static void come(void)
{
    bool may_join = false;
    struct device *d = &w.devices[w.device_count];
    for (unsigned i = 0; i < w.device_count; i++)
        may_join |= may_be_joined(&w.devices[i]);
    *d = (struct device){.state = WAITING, .since_ms = w.now_ms};
    d->ticket = promise_join(print_of(1), WINDOW_MS, w.now_ms);
    demand(may_join == (d->ticket != 0), "joined or not: wrong");
    if (d->ticket != 0) {
        join(d);
    } else {
        d->copy = w.copy_count++;
        w.copies[d->copy] = (struct copy){.id = commit(w.recipients, w.now_ms),
                                          .is_here = true,
                                          .open = w.recipients,
                                          .due_ms = w.now_ms};
        d->ticket = promise_make(w.copies[d->copy].id, print_of(1), WINDOW_MS,
                                 w.now_ms);
    }
    w.copies[d->copy].owner = w.device_count++;
}

static void hear(struct device *d)
{
    promise_heard(d->ticket);
    d->state = GONE;
    d->is_clean = is_owner(d);
    w.copies[d->copy].is_refusal_heard |=
        d->is_clean && d->told == PROMISE_REFUSED;
}

/* ---- The smarthost's side ------------------------------------------------ */

static struct copy *copy_of(queue_id id)
{
    for (unsigned i = 0; i < w.copy_count; i++)
        if (w.copies[i].id == id)
            return &w.copies[i];
    demand(false, "a copy that nobody made");
    return NULL;
}

static void come_back(struct copy *c, int64_t due_ms)
{
    c->is_lent = c->is_flying = false;
    c->is_here = c->open > 0 && !c->is_withdrawn;
    c->was_tried = true;
    c->due_ms = due_ms;
}

static void count_settled(struct copy *c, enum queue_verdict verdict)
{
    c->delivered += verdict == QUEUE_DONE ? c->open : 0;
    c->failed += verdict == QUEUE_NEVER ? c->open : 0;
    c->open = verdict == QUEUE_OPEN ? c->open : 0;
}

/* A 4yz goes on to its device at once, where our copy can be destroyed. */
static bool owes_candour(const struct copy *c)
{
    return c->is_delayed && c->is_here && !c->is_in_doubt && !c->is_promised &&
           c->failed == 0 && is_late_refused() &&
           w.devices[c->owner].state == WAITING &&
           !w.devices[c->owner].is_doubted;
}

static void settle(struct copy *c, enum event_kind kind)
{
    static const struct {
        enum queue_verdict verdict;
        const char *words;
        int64_t wait_ms;
    } means[KINDS] = {
        [IS_TAKEN] = {QUEUE_DONE, "250 2.0.0 Ok", 0},
        [IS_DELAYED] = {QUEUE_OPEN, "421 4.7.0 Busy", WINDOW_MS / 2},
        [IS_DELAYED_LONG] = {QUEUE_OPEN, "451 Busy", WINDOW_MS * 3 / 2},
        [IS_REFUSED] = {QUEUE_NEVER, "550 5.1.1 No", 0},
        [IS_LOST] = {QUEUE_OPEN, "the line was cut", WINDOW_MS / 2},
    };
    int64_t due_ms = w.now_ms + means[kind].wait_ms;
    queue_land(c->id, kind != IS_LOST);
    c->is_in_doubt |= c->is_flying && kind == IS_LOST;
    c->is_delayed = kind == IS_DELAYED || kind == IS_DELAYED_LONG;
    fate_settle_all(c->id, QUEUE_OPEN, means[kind].verdict, means[kind].words,
                    NULL, w.now_ms);
    fate_return(c->id, due_ms);
    count_settled(c, means[kind].verdict);
    come_back(c, due_ms);
}

static void fly(struct copy *c)
{
    c->is_flying = queue_launch(c->id);
    demand(c->is_flying != c->is_withdrawn, "a withdrawn one flies");
    if (c->is_flying)
        return;
    fate_return(c->id, w.now_ms); /* as smtp_errand.c does */
    come_back(c, w.now_ms);
}

static void refuse_one(struct copy *c)
{
    struct queue_recipient r = {0};
    queue_next_recipient(c->id, &r);
    fate_settle(c->id, &r, QUEUE_NEVER, "550 5.1.1 No", NULL, w.now_ms);
    c->open--;
    c->failed++;
}

static void lend_next(void)
{
    struct copy *c = copy_of(queue_due(w.now_ms, true));
    demand(c->is_here && !c->is_withdrawn && c->due_ms <= w.now_ms,
           "lent, and is not due");
    c->is_lent = true;
    c->tries++;
    queue_count_try(c->id);
}

static void expire(void)
{
    struct copy *c = copy_of(queue_older_than(INT64_MAX));
    fate_give_up(c->id, w.now_ms);
    count_settled(c, QUEUE_NEVER);
    come_back(c, w.now_ms);
}

static void rest(int64_t until_ms)
{
    w.rest_ms = until_ms;
    promise_route_rests(until_ms, "It is down");
}

/* As smtp_in_abandon(), smtp_out_abandon() and fate_log_lost() do. */
static void end(void)
{
    unsigned left = 0;
    w.is_over = true;
    for (unsigned i = 0; i < w.device_count; i++)
        if (w.devices[i].state == WAITING) {
            promise_hurry(w.devices[i].ticket, w.now_ms);
            take_verdict(&w.devices[i]);
            demand(w.devices[i].state != WAITING, "it waits for nobody");
        }
    for (unsigned i = 0; i < w.copy_count; i++) {
        struct copy *c = &w.copies[i];
        if (c->is_lent && c->is_withdrawn)
            fly(c);
        else if (c->is_lent)
            settle(c, IS_LOST);
        left += c->is_here;
    }
    demand(fate_log_lost(w.now_ms) == left, "lost, and not declared");
}

/* ---- A run --------------------------------------------------------------- */

static bool can_be_given(const struct copy *c, enum event_kind kind)
{
    if (!c->is_lent)
        return false;
    switch (kind) {
    case FLIES: return !c->is_flying;
    case IS_TAKEN: return c->is_flying;
    case ONE_IS_REFUSED:
        return !c->is_withdrawn && !c->is_flying && c->open == 2;
    default: return !c->is_withdrawn;
    }
}

static bool can_happen(unsigned event)
{
    enum event_kind kind = event / DEVICES_MOST;
    unsigned which = event % DEVICES_MOST;
    const struct device *d = &w.devices[which];
    bool more_may_come = !w.is_stopping && w.device_count < w.devices_most;
    bool some_wait = false;
    for (unsigned i = 0; i < w.copy_count; i++)
        some_wait |= w.copies[i].is_here && !w.copies[i].is_lent;
    if (w.is_over || (kind < GOES && which > 0))
        return false;
    switch (kind) {
    case COMES: return more_may_come;
    case WINDOW_PASSES: return true;
    case ROUTE_RESTS: return w.rest_ms <= w.now_ms;
    case ROUTE_WORKS: return w.rest_ms > w.now_ms;
    case EXPIRES: return some_wait;
    case STOPS: return !w.is_stopping;
    case ENDS: return w.is_stopping;
    case LENT:
        for (unsigned i = 0; i < w.copy_count; i++)
            if (w.copies[i].tries >= TRIES_MOST)
                return false;
        return queue_next_due_ms(true) <= w.now_ms;
    case GOES: return d->state == WAITING || d->state == ANSWERED;
    case IS_DOUBTED:
        return can_happen(GOES * DEVICES_MOST + which) && more_may_come &&
               !d->is_doubted;
    case HEARS: return d->state == ANSWERED;
    default:
        return which < w.copy_count && can_be_given(&w.copies[which], kind);
    }
}

static void apply(unsigned event)
{
    enum event_kind kind = event / DEVICES_MOST;
    struct device *d = &w.devices[event % DEVICES_MOST];
    struct copy *c = &w.copies[event % DEVICES_MOST];
    switch (kind) {
    case COMES: come(); break;
    case WINDOW_PASSES: w.now_ms += WINDOW_MS; break;
    case ROUTE_RESTS: rest(w.now_ms + WINDOW_MS * 3 / 2); break;
    case ROUTE_WORKS: rest(0); break;
    case EXPIRES: expire(); break;
    case STOPS:
        w.is_stopping = true;
        promise_stop_all();
        break;
    case ENDS: end(); break;
    case LENT: lend_next(); break;
    case GOES: lose(d); break;
    case IS_DOUBTED:
        d->is_doubted = true;
        promise_doubt(d->ticket, w.now_ms);
        break;
    case HEARS: hear(d); break;
    case FLIES: fly(c); break;
    case ONE_IS_REFUSED: refuse_one(c); break;
    default: settle(c, kind);
    }
    bool is_owed = kind >= FLIES && owes_candour(c);
    turn();
    demand(!is_owed || w.devices[c->owner].told == PROMISE_AGAIN,
           "a 4yz is kept back");
}

/* Empties the queue: quicker than a new one. */
static void clear(void)
{
    queue_id id;
    for (unsigned i = 0; i < w.copy_count; i++) {
        struct copy *c = &w.copies[i];
        queue_land(c->id, true);
        if (c->is_lent)
            queue_return(c->id, w.now_ms);
    }
    while ((id = queue_older_than(INT64_MAX)) != QUEUE_NONE) {
        struct queue_recipient r = {0};
        while (queue_next_recipient(id, &r))
            if (r.verdict < QUEUE_DONE)
                queue_settle(id, &r, QUEUE_NEVER);
        queue_return(id, 0);
    }
}

static void replay(const struct path *to)
{
    clear();
    promise_init();
    notice_init("relay.example.net");
    w = (struct world){.now_ms = START_MS,
                       .is_refusing = w.is_refusing,
                       .recipients = w.recipients,
                       .devices_most = w.devices_most};
    path.length = 0;
    come();
    turn();
    for (unsigned i = 0; i < to->length; i++) {
        path.events[path.length++] = to->events[i];
        apply(to->events[i]);
    }
}

/* ---- What must be true behind every event -------------------------------- */

static void check_copy(const struct copy *c)
{
    struct queue_view v;
    demand((queue_fate(c->id) == QUEUE_OVER) ==
               (!c->is_here || c->is_withdrawn),
           "here, or not here");
    demand(!c->is_here || c->is_withdrawn ||
               (queue_look(c->id, &v) && v.is_promised == c->is_kept &&
                v.is_in_doubt == c->is_in_doubt),
           "what a person is shown is not so");
    demand(!c->is_withdrawn || (!c->is_promised && c->delivered == 0),
           "withdrawn, yet promised or delivered");
}

/* Every failure that no device can have heard of. */
static unsigned failures_of(const struct copy *c)
{
    const struct device *d = &w.devices[c->owner];
    bool is_pending = d->state == WAITING || d->state == ANSWERED;
    bool is_told = is_pending || c->is_refusal_heard || c->is_withdrawn;
    return c->is_promised || !is_told ? c->failed : 0;
}

/* Lets the postmaster know, so it is the last that is looked at. */
static void check_notice(void)
{
    unsigned least = 0, most = 0, told = 0;
    for (unsigned i = 0; i < w.copy_count; i++) {
        least += failures_of(&w.copies[i]);
        most += w.copies[i].failed;
    }
    if (most == 0 && notice_wake_ms() == INT64_MAX)
        return;
    *last_line = '\0';
    log_set_level(LOG_AT_INFO);
    notice_run(w.now_ms + DAY_MS, 0);
    log_set_level(LOG_AT_ERROR);
    const char *at = strstr(last_line, "failures=");
    if (at != NULL)
        told = (unsigned)strtoul(at + strlen("failures="), NULL, 10);
    demand(told >= least, "a failure that nobody is told of");
    demand(told <= most, "a failure that never was");
}

static void check_all(bool is_end)
{
    unsigned held = 0;
    for (unsigned i = 0; i < w.copy_count; i++)
        check_copy(&w.copies[i]);
    for (unsigned i = 0; i < w.device_count; i++)
        held += w.devices[i].state == WAITING;
    demand(w.is_over || promise_count_held() == held, "held: miscounted");
    demand(!is_end || queue_unsound() == NULL, "the queue is unsound");
    check_notice();
}

/* ---- All runs ------------------------------------------------------------ */

static uint64_t mix(uint64_t hash, int64_t value)
{
    return (hash ^ (uint64_t)value) * 0x100000001b3u ^ hash >> 29;
}

/* In half windows; what is long ago is alike. */
static int64_t ago(int64_t ms)
{
    int64_t halves = (w.now_ms - ms) / (WINDOW_MS / 2);
    return halves > 6 ? 6 : halves;
}

static uint64_t look(void)
{
    uint64_t h = 0xcbf29ce484222325u;
    h = mix(h, w.is_stopping | w.is_over << 1 | (int64_t)w.device_count << 2);
    h = mix(h, w.rest_ms > w.now_ms ? ago(w.rest_ms) : 99);
    for (unsigned i = 0; i < w.device_count; i++) {
        const struct device *d = &w.devices[i];
        h = mix(h, d->state | d->told << 2 | (int64_t)d->copy << 5);
        h = mix(h, d->is_doubted | d->is_overtaken << 1 | d->is_unheard << 2 |
                       d->is_clean << 3);
        h = mix(h, d->state == WAITING ? ago(d->since_ms) : 0);
    }
    for (unsigned i = 0; i < w.copy_count; i++) {
        const struct copy *c = &w.copies[i];
        h = mix(h, c->is_here | c->is_lent << 1 | c->is_flying << 2 |
                       c->is_in_doubt << 3 | c->is_withdrawn << 4 |
                       c->is_promised << 5 | c->is_kept << 6 |
                       c->is_refusal_heard << 7 | c->is_delayed << 8 |
                       c->was_tried << 9);
        h = mix(h, c->tries | c->open << 4 | c->delivered << 8 |
                       c->failed << 12 | c->owner << 16);
        h = mix(h, ago(c->due_ms));
    }
    return h | 1;
}

static bool is_new(uint64_t hash)
{
    for (uint64_t i = hash;; i++) {
        uint64_t *at = &seen[i % SEEN_PLACES];
        if (*at == hash)
            return false;
        if (*at == 0) {
            *at = hash;
            return true;
        }
    }
}

/* Returns how many different situations there were. */
static unsigned explore(unsigned depth)
{
    unsigned count = 1;
    memset(seen, 0, sizeof seen);
    nodes[0] = (struct path){0};
    for (unsigned at = 0; at < count; at++) {
        struct path next = nodes[at];
        if (next.length == depth)
            continue;
        bool can[KINDS * DEVICES_MOST];
        replay(&next);
        for (unsigned e = 0; e < COUNT(can); e++)
            can[e] = can_happen(e);
        next.length++;
        for (unsigned e = 0; e < COUNT(can); e++) {
            if (!can[e])
                continue;
            next.events[next.length - 1] = (uint8_t)e;
            replay(&next);
            happened[e / DEVICES_MOST]++;
            if (!is_new(look()))
                continue;
            check_all(next.length == depth);
            demand(count < NODES_MOST, "too many situations");
            nodes[count++] = next;
        }
    }
    return count;
}

static const struct {
    const char *mode;
    unsigned recipients, devices, depth;
} explorations[] = {
    {QUEUES, 1, 2, 8},  {REFUSES, 1, 2, 8}, {QUEUES, 2, 2, 6},
    {REFUSES, 2, 2, 6}, {QUEUES, 1, 3, 5},  {REFUSES, 1, 3, 6},
};

START_TEST(every_run)
{
    w = (struct world){.is_refusing =
                           strstr(explorations[_i].mode, "refuse") != NULL,
                       .recipients = explorations[_i].recipients,
                       .devices_most = explorations[_i].devices};
    load(explorations[_i].mode);
    ck_assert_uint_gt(explore(explorations[_i].depth), 1000);
    clear();
    /* Else it would be good for nothing. */
    for (unsigned kind = 0; kind < KINDS; kind++)
        ck_assert_msg(happened[kind] > 0 ||
                          (kind == ONE_IS_REFUSED && w.recipients == 1),
                      "never: %s", kind_names[kind]);
    for (unsigned a = 0; a <= PROMISE_SILENCE; a++)
        ck_assert_uint_gt(answers_given[a], 0);
    ck_assert_uint_gt(joins, 0);
}
END_TEST

Suite *suite_promise(void)
{
    Suite *s = suite_create("promise");
    TCase *t = tcase_create("promise");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, the_words, 0, (int)COUNT(words_rows));
    tcase_add_test(t, longest_reply);
    tcase_add_test(t, a_window_closes);
    tcase_add_test(t, no_window);
    tcase_add_test(t, known_to_be_late);
    tcase_add_test(t, in_flight_waits_twice);
    tcase_add_test(t, in_doubt_is_not_taken_back);
    tcase_add_test(t, hurried_at_the_end);
    tcase_add_test(t, outlook);
    tcase_add_test(t, remembered_so_long);
    tcase_add_test(t, only_an_unheard_one_is_joined);
    tcase_add_test(t, a_verdict_that_is_known_is_told_at_once);
    tcase_add_test(t, doubt_is_taken_over);
    tcase_add_test(t, the_deaf_keep_their_mail);
    tcase_add_test(t, what_was_promised_stays);
    tcase_add_test(t, a_refusal_is_told_to_somebody);
    tcase_add_test(t, heard_refusals_fill_nothing);
    tcase_add_test(t, full);
    tcase_add_test(t, void_tickets);
    suite_add_tcase(s, t);
    t = tcase_create("promises");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, every_run, 0, (int)COUNT(explorations));
    suite_add_tcase(s, t);
    return s;
}
