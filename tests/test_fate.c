/* fate: every way out of the queue has its verdict and its one log line. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../config.h"
#include "../fate.h"
#include "../log.h"
#include "../settings.h"
Suite *suite_fate(void);

#define COUNT(table) (sizeof(table) / sizeof(table)[0])
#define HOUR_MS      ((int64_t)3600 * 1000)

static const char house[] = "smarthost = smtp.example.net:587\n"
                            "smarthost_tls = none\n"
                            "retry_first_seconds = 15\n"
                            "retry_max_seconds = 900\n"
                            "expire_hours = 2\n";

static char lines[16][2 * LOG_LINE_BYTES];
static unsigned line_count;
static int64_t now_ms = HOUR_MS; /* never backwards, as the real clock */

static void sink(const char *line)
{
    if (line_count < COUNT(lines))
        snprintf(lines[line_count], sizeof lines[0], "%s", line);
    line_count++;
}

static void load(const char *text)
{
    char error[SETTINGS_ERROR_BYTES];
    ck_assert_msg(settings_load_text("test", text, strlen(text), error), "%s",
                  error);
}

static void setup(void)
{
    load(house);
    log_to(sink);
    log_set_level(LOG_AT_DEBUG);
    queue_init();
    now_ms += 1000 * HOUR_MS;
    fate_sweep(now_ms);
    line_count = 0;
}

static void teardown(void)
{
    log_to(NULL);
    log_set_level(LOG_AT_INFO);
}

static queue_id commit(unsigned recipients, int64_t born_ms)
{
    queue_id id = queue_new("from@x", 0);
    for (unsigned i = 0; i < recipients; i++) {
        char to[16];
        snprintf(to, sizeof to, "to%u@x", i);
        ck_assert(queue_add_recipient(id, to));
    }
    queue_commit(id, 0, born_ms);
    return id;
}

static void expect_line(unsigned i, queue_id id, const char *rest)
{
    char want[512];
    snprintf(want, sizeof want, "id=%08X %s", (unsigned)id, rest);
    ck_assert_uint_lt(i, line_count);
    ck_assert_str_eq(lines[i], want);
}

START_TEST(next_try_grows_with_age)
{
    static const struct {
        int64_t age_s, wait_s;
    } table[] = {
        {0, 15},    {10, 15},   {15, 15},   {30, 30},
        {120, 120}, {899, 899}, {900, 900}, {7200, 900},
    };
    queue_id id = commit(1, now_ms);
    for (size_t i = 0; i < COUNT(table); i++) {
        int64_t at_ms = now_ms + table[i].age_s * 1000;
        int64_t wait_ms = fate_next_try_ms(id, at_ms) - at_ms;
        ck_assert_int_ge(wait_ms, table[i].wait_s * 1000);
        ck_assert_int_le(wait_ms, table[i].wait_s * 1200);
        ck_assert_int_eq(fate_next_try_ms(id, at_ms) - at_ms, wait_ms);
    }
}
END_TEST

/* The wait at a line's end is up to a fifth longer than it must be. */
static void cut_seconds(int least_s)
{
    char *at = strrchr(lines[0], '=') + 1;
    ck_assert_int_ge(atoi(at), least_s);
    ck_assert_int_le(atoi(at), least_s + least_s / 5);
    *at = '\0';
}

START_TEST(one_line_a_verdict)
{
    static const struct {
        enum queue_verdict verdict;
        const char *reply, *line;
    } table[] = {
        {QUEUE_DONE, "250 2.0.0 Ok",
         "rcpt=<to0@x> host=smtp.example.net:587 tries=1 delay_ms=61000 "
         "reply=\"250 2.0.0 Ok\" sent"},
        {QUEUE_NEVER, "550 5.1.1 no \"such\"\r\nuser",
         "rcpt=<to0@x> host=smtp.example.net:587 tries=1 delay_ms=61000 "
         "reply=\"550 5.1.1 no \\\"such\\\"\\x0D\\x0Auser\" refused"},
        {QUEUE_OPEN, "451 4.7.1 Greylisted",
         "rcpt=<to0@x> host=smtp.example.net:587 tries=1 delay_ms=61000 "
         "reply=\"451 4.7.1 Greylisted\" later next_s="},
    };
    for (size_t i = 0; i < COUNT(table); i++) {
        line_count = 0;
        queue_id id = commit(1, now_ms);
        struct queue_recipient r = {0};
        ck_assert_uint_eq(queue_due(now_ms, true), id);
        queue_count_try(id);
        ck_assert(queue_next_recipient(id, &r));
        fate_settle(id, &r, table[i].verdict, table[i].reply, NULL,
                    now_ms + 61000);
        ck_assert_uint_eq(line_count, 1);
        if (table[i].verdict == QUEUE_OPEN)
            cut_seconds(61);
        expect_line(0, id, table[i].line);
        ck_assert(queue_return(id, INT64_MAX) ==
                  (table[i].verdict != QUEUE_OPEN));
    }
}
END_TEST

/* However long its parts are: the word that tells the fate is never cut. */
START_TEST(longest_line_keeps_its_last_word)
{
    char text[600], mailbox[386], reply[512];
    memset(mailbox, 'm', sizeof mailbox - 1);
    mailbox[sizeof mailbox - 1] = '\0';
    memset(reply, '\x01', sizeof reply - 1);
    reply[sizeof reply - 1] = '\0';
    snprintf(text, sizeof text, "smarthost = %0250d.x:65535\n%s", 0,
             strchr(house, '\n') + 1);
    load(text);
    queue_id id = queue_new("from@x", 0);
    ck_assert(queue_add_recipient(id, mailbox));
    queue_commit(id, 0, now_ms);
    ck_assert_uint_eq(queue_due(now_ms, true), id);
    struct queue_recipient r = {0};
    ck_assert(queue_next_recipient(id, &r));
    fate_settle(id, &r, QUEUE_OPEN, reply, NULL, now_ms + 999 * HOUR_MS);
    static const char end[] = "\" later next_s=";
    cut_seconds(900);
    ck_assert_str_eq(lines[0] + strlen(lines[0]) - (sizeof end - 1), end);
}
END_TEST

START_TEST(settle_all_of_one_kind)
{
    static const struct {
        enum queue_verdict was, becomes;
        enum queue_verdict after[4];
        unsigned lines;
    } table[] = {
        {QUEUE_TAKEN,
         QUEUE_DONE,
         {QUEUE_OPEN, QUEUE_DONE, QUEUE_DONE, QUEUE_NEVER},
         1},
        {QUEUE_OPEN,
         QUEUE_NEVER,
         {QUEUE_NEVER, QUEUE_NEVER, QUEUE_DONE, QUEUE_NEVER},
         2},
        {QUEUE_OPEN,
         QUEUE_OPEN,
         {QUEUE_OPEN, QUEUE_OPEN, QUEUE_DONE, QUEUE_NEVER},
         2},
    };
    static const enum queue_verdict before[4] = {QUEUE_OPEN, QUEUE_TAKEN,
                                                 QUEUE_DONE, QUEUE_NEVER};
    for (size_t i = 0; i < COUNT(table); i++) {
        queue_init();
        line_count = 0;
        queue_id id = commit(4, now_ms);
        queue_due(now_ms, true);
        struct queue_recipient r = {0};
        for (int k = 0; queue_next_recipient(id, &r); k++)
            queue_settle(id, &r, before[k]);
        fate_settle_all(id, table[i].was, table[i].becomes, "words", NULL,
                        now_ms);
        ck_assert_uint_eq(line_count, table[i].lines);
        r = (struct queue_recipient){0};
        for (int k = 0; queue_next_recipient(id, &r); k++)
            ck_assert_int_eq(r.verdict, table[i].after[k]);
    }
}
END_TEST

START_TEST(expiry)
{
    queue_id id = commit(1, now_ms);
    ck_assert(!fate_is_expired(id, now_ms));
    ck_assert(!fate_is_expired(id, now_ms + 2 * HOUR_MS));
    ck_assert(fate_is_expired(id, now_ms + 2 * HOUR_MS + 1));
    ck_assert_uint_eq(queue_due(now_ms, true), id);
    fate_give_up(id, now_ms + 3 * HOUR_MS);
    ck_assert_uint_eq(line_count, 1);
    expect_line(0, id,
                "rcpt=<to0@x> host=smtp.example.net:587 tries=0 "
                "delay_ms=10800000 reply=\"given up after 2 hours "
                "(expire_hours)\" refused");
    ck_assert_int_eq(queue_fate(id), QUEUE_OVER);
}
END_TEST

START_TEST(sweep_once_a_minute)
{
    queue_id old = commit(2, now_ms), young = commit(1, now_ms + HOUR_MS);
    queue_due(now_ms, true);
    queue_return(old, INT64_MAX - 1); /* due never: expired all the same */
    now_ms += 2 * HOUR_MS;
    fate_sweep(now_ms);
    ck_assert_uint_eq(line_count, 0); /* to the millisecond, not yet */
    int64_t wake_ms = fate_wake_ms();
    ck_assert_int_eq(wake_ms, now_ms + 60000);
    fate_sweep(wake_ms - 1); /* too soon to look again */
    ck_assert_uint_eq(line_count, 0);
    fate_sweep(wake_ms);
    ck_assert_uint_eq(line_count, 2);
    ck_assert_int_eq(queue_fate(old), QUEUE_OVER);
    ck_assert_int_eq(queue_fate(young), QUEUE_HELD);
    ck_assert(queue_unsound() == NULL);
}
END_TEST

START_TEST(lost_at_the_end)
{
    struct queue_recipient r = {0};
    queue_id first = commit(3, now_ms), second = commit(1, now_ms);
    queue_new("half@x", 0); /* was promised nothing */
    ck_assert_uint_eq(queue_due(now_ms, true), first);
    queue_next_recipient(first, &r);
    queue_settle(first, &r, QUEUE_DONE);
    queue_next_recipient(first, &r);
    queue_settle(first, &r, QUEUE_TAKEN);
    ck_assert_uint_eq(fate_log_lost(now_ms + 5500), 2);
    ck_assert_uint_eq(line_count, 3);
    expect_line(0, first,
                "lost reason=shutdown from=<from@x> rcpt=<to1@x> bytes=0 "
                "age_s=5");
    expect_line(1, first,
                "lost reason=shutdown from=<from@x> rcpt=<to2@x> bytes=0 "
                "age_s=5");
    expect_line(2, second,
                "lost reason=shutdown from=<from@x> rcpt=<to0@x> bytes=0 "
                "age_s=5");
}
END_TEST

Suite *suite_fate(void)
{
    Suite *s = suite_create("fate");
    TCase *c = tcase_create("fate");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, next_try_grows_with_age);
    tcase_add_test(c, one_line_a_verdict);
    tcase_add_test(c, longest_line_keeps_its_last_word);
    tcase_add_test(c, settle_all_of_one_kind);
    tcase_add_test(c, expiry);
    tcase_add_test(c, sweep_once_a_minute);
    tcase_add_test(c, lost_at_the_end);
    suite_add_tcase(s, c);
    return s;
}
