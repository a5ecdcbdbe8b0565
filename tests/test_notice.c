/* notice: what is told, when, and to whom; what can never be told twice, too
 * often or in a peer's own lines. */
#include <check.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../config.h"
#include "../crypto.h"
#include "../log.h"
#include "../notice.h"
#include "../settings.h"
Suite *suite_notice(void);

#define COUNT(table) (sizeof(table) / sizeof(table)[0])
#define SECOND       ((int64_t)1000)
#define DAY_S        86400
#define HOST         "relay.example.net"
#define START_MS     (5000 * SECOND)
#define START_S      1767268800 /* Thu, 01 Jan 2026 12:00:00 */
#define NEVER        (-1)

#define BASE "smarthost = 127.0.0.1:9\nsmarthost_tls = none\n"
#define HOUSE                                                                  \
    BASE "postmaster = admin@example.org\nsender = relay@example.com\n"

static_assert(NOTICE_FAILURES == 32 && NOTICE_DELAY_SECONDS == 30 &&
                  NOTICE_SECONDS == 900,
              "what stands in the tables is for these");

static char lines[8][2 * LOG_LINE_BYTES];
static unsigned line_count;
static char letter[256 * 1024]; /* the last notice that left */

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
    setenv("TZ", "UTC", 1);
    tzset();
    load(HOUSE);
    log_to(sink);
    log_set_level(LOG_AT_DEBUG);
    ck_assert(crypto_init());
    queue_init();
    notice_init(HOST);
    line_count = 0;
}

static void teardown(void)
{
    const char *why = queue_unsound();
    ck_assert_msg(why == NULL, "%s", why);
    log_to(NULL);
    log_set_level(LOG_AT_INFO);
}

/* ---- Mail that fails ----------------------------------------------------- */

static int64_t clock_ms = START_MS;

static queue_id commit(const char *from, unsigned facts)
{
    queue_id id = queue_new(from, 0);
    ck_assert_uint_ne(id, QUEUE_NONE);
    ck_assert(queue_add_recipient(id, "to@example.net"));
    queue_commit(id, facts, clock_ms);
    ck_assert_uint_eq(queue_due(clock_ms, true), id);
    return id;
}

static void settle(queue_id id)
{
    struct queue_recipient r = {0};
    while (queue_next_recipient(id, &r))
        queue_settle(id, &r, QUEUE_NEVER);
    ck_assert(queue_return(id, 0));
}

static queue_id refuse(const char *from, const char *to, const char *reply,
                       const char *advice)
{
    queue_id id = commit(from, 0);
    notice_note(id, to, reply, advice, false, clock_ms);
    settle(id);
    return id;
}

/* A mail of so many recipients that all fail. */
static queue_id refuse_many(unsigned recipients, bool is_held)
{
    char to[32];
    queue_id id = commit("from@example.com", 0);
    for (unsigned i = 0; i < recipients; i++) {
        snprintf(to, sizeof to, "to%u@example.net", i);
        notice_note(id, to, "550 5.1.1 unknown", NULL, is_held, clock_ms);
    }
    settle(id);
    return id;
}

static void run(void)
{
    notice_run(clock_ms, START_S + (clock_ms - START_MS) / SECOND);
}

/* The smarthost takes the next notice: into letter. False: there is none. */
static bool send_letter(void)
{
    struct queue_reader reader = {0};
    struct queue_recipient r = {0};
    const uint8_t *at;
    size_t count, used = 0;
    queue_id id = queue_due(clock_ms, true);
    if (id == QUEUE_NONE)
        return false;
    ck_assert_uint_eq(queue_facts(id), QUEUE_IS_NOTICE);
    ck_assert_uint_eq(queue_recipients(id), 1);
    for (; (at = queue_read(id, &reader, &count)); queue_took(&reader, count)) {
        ck_assert_uint_lt(used + count, sizeof letter);
        memcpy(letter + used, at, count);
        used += count;
    }
    letter[used] = '\0';
    ck_assert_uint_eq(used, strlen(letter));
    ck_assert(queue_next_recipient(id, &r));
    ck_assert_str_eq(r.mailbox, settings()->postmaster);
    queue_settle(id, &r, QUEUE_DONE);
    ck_assert(queue_return(id, 0));
    return true;
}

/* The failures that the notice which is written now tells of; 0: none is. */
static unsigned told(void)
{
    unsigned failures = 0;
    run();
    if (send_letter()) {
        const char *subject = strstr(letter, "\r\nSubject: ");
        ck_assert_ptr_nonnull(subject);
        ck_assert_int_eq(sscanf(subject,
                                "\r\nSubject: Mail that could not be "
                                "delivered (%u)\r\n",
                                &failures),
                         1);
        ck_assert_uint_gt(failures, 0);
    }
    ck_assert(!send_letter()); /* never two */
    return failures;
}

static unsigned times(const char *text, const char *what)
{
    unsigned count = 0;
    for (; (text = strstr(text, what)) != NULL; text += strlen(what))
        count++;
    return count;
}

static void has(const char *what)
{
    ck_assert_msg(strstr(letter, what) != NULL, "no \"%s\" in\n%s", what,
                  letter);
}

/* ---- When ---------------------------------------------------------------- */

#define NOTE    'n'
#define HOLD    'h'
#define RELEASE 'r'
#define DISCARD 'd'
#define RUN     '!' /* want: the failures that a notice tells of */
#define WAKE    'w' /* want: in seconds */

struct step {
    int64_t at_s;
    char what;
    unsigned mail; /* a digit of ours for it */
    int64_t want;
};

static const struct step one_failure[] = {
    {0, WAKE, 0, NEVER},  {0, RUN, 0, 0},  {1, NOTE, 1, 0},
    {1, WAKE, 0, 31},     {30, RUN, 0, 0}, {31, RUN, 0, 1},
    {31, WAKE, 0, NEVER}, {99, RUN, 0, 0},
};
static const struct step a_bunch[] = {
    {0, NOTE, 1, 0},   {10, NOTE, 2, 0}, {29, NOTE, 3, 0},
    {29, WAKE, 0, 30}, {30, RUN, 0, 3},  {30, WAKE, 0, NEVER},
};
static const struct step the_period[] = {
    {0, NOTE, 1, 0},    {30, RUN, 0, 1},    {31, NOTE, 2, 0},
    {31, WAKE, 0, 930}, {500, NOTE, 3, 0},  {929, RUN, 0, 0},
    {930, RUN, 0, 2},   {5000, NOTE, 4, 0}, {5000, WAKE, 0, 5030},
    {5030, RUN, 0, 1},
};
static const struct step the_device_was_told[] = {
    {0, HOLD, 1, 0},     {0, WAKE, 0, NEVER}, {60, RUN, 0, 0},
    {61, DISCARD, 1, 0}, {62, RELEASE, 1, 0}, {62, WAKE, 0, NEVER},
    {99, RUN, 0, 0},
};
static const struct step the_device_was_not_told[] = {
    {0, HOLD, 1, 0},       {5, HOLD, 2, 0},       {60, RELEASE, 1, 0},
    {60, WAKE, 0, 90},     {90, RUN, 0, 1},       {91, WAKE, 0, NEVER},
    {2000, RELEASE, 2, 0}, {2000, WAKE, 0, 2030}, {2030, RUN, 0, 1},
};
static const struct step others_stay_held[] = {
    {0, HOLD, 1, 0},     {0, HOLD, 1, 0},    {0, NOTE, 2, 0},
    {0, HOLD, 3, 0},     {30, RUN, 0, 1},    {40, DISCARD, 3, 0},
    {50, RELEASE, 1, 0}, {50, WAKE, 0, 930}, {930, RUN, 0, 2},
};
/* A mail of which a part is due already: only what is held can go. */
static const struct step half_is_told[] = {
    {0, NOTE, 1, 0},
    {0, HOLD, 1, 0},
    {1, DISCARD, 1, 0},
    {30, RUN, 0, 1},
};
/* What was due before the release does not wait any longer for it. */
static const struct step half_is_released[] = {
    {0, NOTE, 1, 0},   {5, HOLD, 1, 0}, {20, RELEASE, 1, 0},
    {20, WAKE, 0, 30}, {30, RUN, 0, 2},
};
static const struct step unknown_mails[] = {
    {0, RELEASE, 1, 0},
    {0, DISCARD, 1, 0},
    {0, WAKE, 0, NEVER},
    {60, RUN, 0, 0},
};
static const struct step two_a_day[] = {
    {0, NOTE, 1, 0},
    {30, RUN, 0, 1},
    {1000, NOTE, 2, 0},
    {1030, RUN, 0, 1},
    {2000, NOTE, 3, 0},
    {2000, WAKE, 0, 30 + DAY_S},
    {29 + DAY_S, NOTE, 4, 0},
    {29 + DAY_S, RUN, 0, 0},
    {30 + DAY_S, RUN, 0, 2},
    {30 + DAY_S, NOTE, 5, 0},
    {930 + DAY_S, RUN, 0, 1},
    {2000 + DAY_S, NOTE, 6, 0},
    {2000 + DAY_S, WAKE, 0, 30 + 2 * DAY_S},
    /* the day begins with its first notice, not where the last one ended */
    {9 * DAY_S, RUN, 0, 1},
    {9 * DAY_S, NOTE, 7, 0},
    {9 * DAY_S + 900, RUN, 0, 1},
    {9 * DAY_S + 900, NOTE, 8, 0},
    {9 * DAY_S + 900, WAKE, 0, 10 * DAY_S},
};
static const struct step none_at_all[] = {
    {0, NOTE, 1, 0},  {30, RUN, 0, 0},      {30, WAKE, 0, NEVER},
    {31, NOTE, 2, 0}, {31, HOLD, 3, 0},     {31, WAKE, 0, 930},
    {930, RUN, 0, 0}, {931, RELEASE, 3, 0}, {931, WAKE, 0, 1830},
};

static const struct {
    const char *name, *settings;
    const struct step *steps;
    size_t count;
} plays[] = {
#define PLAY(settings, steps)                                                  \
    {                                                                          \
#steps, settings, steps, COUNT(steps)                                  \
    }
    PLAY(HOUSE, one_failure),
    PLAY(HOUSE, a_bunch),
    PLAY(HOUSE, the_period),
    PLAY(HOUSE, the_device_was_told),
    PLAY(HOUSE, the_device_was_not_told),
    PLAY(HOUSE, others_stay_held),
    PLAY(HOUSE, half_is_told),
    PLAY(HOUSE, half_is_released),
    PLAY(HOUSE, unknown_mails),
    PLAY(HOUSE "notices_per_day = 2\n", two_a_day),
    PLAY(HOUSE "notices_per_day = 0\n", none_at_all),
    PLAY(BASE, none_at_all),
};

static void check(const char *name, const struct step *s, int64_t got)
{
    ck_assert_msg(got == s->want, "%s, %lld s, %c: %lld instead of %lld", name,
                  (long long)s->at_s, s->what, (long long)got,
                  (long long)s->want);
}

START_TEST(plays_in_time)
{
    queue_id mails[10] = {0};
    load(plays[_i].settings);
    for (size_t i = 0; i < plays[_i].count; i++) {
        const struct step *s = &plays[_i].steps[i];
        queue_id *id = &mails[s->mail];
        clock_ms = START_MS + s->at_s * SECOND;
        int64_t wake_ms = notice_wake_ms();
        if ((s->what == NOTE || s->what == HOLD) && *id == QUEUE_NONE)
            *id = commit("from@example.com", 0);
        switch (s->what) {
        case NOTE:
        case HOLD:
            notice_note(*id, "to@example.net", "550 no", NULL, s->what == HOLD,
                        clock_ms);
            break;
        case RELEASE: notice_release(*id, clock_ms); break;
        case DISCARD: notice_discard(*id); break;
        case RUN: check(plays[_i].name, s, told()); break;
        case WAKE:
            check(plays[_i].name, s,
                  wake_ms == INT64_MAX ? NEVER : (wake_ms - START_MS) / SECOND);
            break;
        }
    }
}
END_TEST

START_TEST(new_settings_count_at_once)
{
    clock_ms = START_MS;
    refuse("a@example.com", "b@example.net", "550 no", NULL);
    clock_ms += 30 * SECOND;
    ck_assert_uint_eq(told(), 1);
    refuse("a@example.com", "b@example.net", "550 no", NULL);
    load(HOUSE "notice_seconds = 60\n");
    ck_assert_int_eq(notice_wake_ms(), clock_ms + 60 * SECOND);
    load(HOUSE "notices_per_day = 1\n");
    ck_assert_int_eq(notice_wake_ms(), clock_ms + DAY_S * SECOND);
    notice_init(HOST);
    ck_assert_int_eq(notice_wake_ms() == INT64_MAX, 1);
}
END_TEST

/* ---- To whom, and about what --------------------------------------------- */

START_TEST(nobody_is_told_of_some_mail)
{
    static const struct {
        const char *from;
        unsigned facts;
        unsigned failures;
    } rows[] = {
        {"from@example.com", 0, 1},
        {"from@example.com", QUEUE_IS_8BIT | QUEUE_NEEDS_UTF8, 1},
        {"", 0, 0},
        {"relay@example.com", QUEUE_IS_NOTICE, 0},
        {"", QUEUE_IS_NOTICE | QUEUE_IS_8BIT, 0},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        notice_init(HOST);
        line_count = 0;
        queue_id id = commit(rows[i].from, rows[i].facts);
        notice_note(id, "to@example.net", "550 no", NULL, false, clock_ms);
        notice_note(id, "to@example.net", "550 no", NULL, true, clock_ms);
        settle(id);
        notice_discard(id);
        clock_ms += 30 * SECOND;
        ck_assert_uint_eq(line_count, rows[i].failures > 0 ? 0 : 2);
        ck_assert_uint_eq(told(), rows[i].failures);
    }
    /* nor of one that the queue does not know any more */
    queue_id gone = commit("from@example.com", 0);
    settle(gone);
    notice_note(gone, "to@example.net", "550 no", NULL, false, clock_ms);
    ck_assert_int_eq(notice_wake_ms() == INT64_MAX, 1);
}
END_TEST

START_TEST(an_info_log_is_silent_about_the_null_path)
{
    log_set_level(LOG_AT_INFO);
    queue_id id = commit("", 0);
    notice_note(id, "to@example.net", "550 no", NULL, false, clock_ms);
    settle(id);
    ck_assert_uint_eq(line_count, 0);
}
END_TEST

START_TEST(senders)
{
    static const struct {
        const char *settings, *sender, *header;
    } rows[] = {
        {HOUSE, "relay@example.com",
         "From: lanpost <relay@example.com>\r\nTo: <admin@example.org>\r\n"},
        {BASE "postmaster = admin@example.org\n", "admin@example.org",
         "From: lanpost <admin@example.org>\r\nTo: <admin@example.org>\r\n"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        load(rows[i].settings);
        notice_init(HOST);
        refuse("a@example.com", "b@example.net", "550 no", NULL);
        clock_ms += 30 * SECOND;
        line_count = 0;
        run();
        queue_id id = queue_walk(QUEUE_NONE);
        char want[128];
        snprintf(want, sizeof want,
                 "id=%08X notice to=<admin@example.org> failures=1",
                 (unsigned)id);
        ck_assert_uint_eq(line_count, 1);
        ck_assert_str_eq(lines[0], want);
        ck_assert_str_eq(queue_reverse_path(id), rows[i].sender);
        ck_assert(send_letter());
        ck_assert_int_eq(
            strncmp(letter, rows[i].header, strlen(rows[i].header)), 0);
    }
}
END_TEST

START_TEST(no_postmaster_is_one_line_a_period)
{
    load(BASE);
    for (unsigned period = 0; period < 3; period++) {
        for (unsigned i = 0; i < 40; i++)
            refuse("a@example.com", "b@example.net", "550 no", NULL);
        for (unsigned s = 0; s < 900; s++, clock_ms += SECOND)
            ck_assert_uint_eq(told(), 0);
        ck_assert_uint_eq(line_count, period + 1);
        ck_assert_str_eq(
            lines[period],
            "notice=none why=\"postmaster is not set\" failures=40");
    }
    load(HOUSE); /* and those are forgotten */
    clock_ms += DAY_S * SECOND;
    ck_assert_uint_eq(told(), 0);
}
END_TEST

START_TEST(no_notices_wanted_is_no_news)
{
    load(HOUSE "notices_per_day = 0\n");
    log_set_level(LOG_AT_INFO);
    refuse("a@example.com", "b@example.net", "550 no", NULL);
    clock_ms += 30 * SECOND;
    ck_assert_uint_eq(told(), 0);
    ck_assert_uint_eq(line_count, 0);
}
END_TEST

/* ---- Full ---------------------------------------------------------------- */

START_TEST(a_full_pool_counts)
{
    static const struct {
        unsigned mails, recipients; /* of each */
        unsigned groups;            /* whose words are told */
        const char *says;           /* NULL: nothing of others */
    } rows[] = {
        {1, NOTICE_FAILURES, NOTICE_FAILURES, NULL},
        {1, NOTICE_FAILURES + 1, NOTICE_FAILURES,
         "\r\n    and so for 1 more of its recipients\r\n"},
        {1, 100, NOTICE_FAILURES,
         "\r\n    and so for 68 more of its recipients\r\n"},
        {NOTICE_FAILURES, 1, NOTICE_FAILURES, NULL},
        {NOTICE_FAILURES + 3, 1, NOTICE_FAILURES,
         "\r\n\r\n3 more failed, which only the log names.\r\n"},
        /* each mail has its words, not the first one alone */
        {NOTICE_FAILURES, 2, NOTICE_FAILURES,
         "\r\n    and so for 1 more of its recipients\r\n"},
        {2, 100, NOTICE_FAILURES, NULL},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        queue_id mails[64];
        notice_init(HOST);
        for (unsigned m = 0; m < rows[i].mails; m++)
            mails[m] = refuse_many(rows[i].recipients, false);
        clock_ms += 30 * SECOND;
        ck_assert_uint_eq(told(), rows[i].mails * rows[i].recipients);
        ck_assert_uint_eq(times(letter, "\r\n\r\nFinal-Recipient: "),
                          rows[i].groups);
        ck_assert_uint_eq(times(letter, "    why:   "), rows[i].groups);
        if (rows[i].says != NULL)
            has(rows[i].says);
        for (unsigned m = 0; m < rows[i].mails && m < NOTICE_FAILURES; m++) {
            char want[32];
            snprintf(want, sizeof want, "\r\nMail %08X\r\n",
                     (unsigned)mails[m]);
            has(want);
        }
        ck_assert_int_eq(notice_wake_ms() == INT64_MAX, 1);
    }
}
END_TEST

/* What the pool held as a number goes the way of its mail. */
START_TEST(held_numbers)
{
    queue_id held = refuse_many(100, true);
    queue_id other = refuse_many(1, false);
    clock_ms += 30 * SECOND;
    ck_assert_uint_eq(told(), 1);
    notice_discard(held);
    clock_ms += 900 * SECOND;
    ck_assert_uint_eq(told(), 0);
    held = refuse_many(100, true);
    refuse_many(1, false);
    notice_release(held, clock_ms);
    notice_release(other, clock_ms);
    clock_ms += 30 * SECOND;
    ck_assert_uint_eq(told(), 101);
    has("and so for 69 more of its recipients\r\n");
}
END_TEST

/* The same mail, due and held: what is held must not join what is due. */
START_TEST(held_numbers_stay_apart)
{
    queue_id id = commit("from@example.com", 0);
    for (unsigned i = 0; i < 20; i++)
        notice_note(id, "due@example.net", "550 no", NULL, false, clock_ms);
    for (unsigned i = 0; i < 20; i++)
        notice_note(id, "held@example.net", "550 no", NULL, true, clock_ms);
    settle(id);
    refuse_many(1, false);
    notice_discard(id);
    clock_ms += 30 * SECOND;
    ck_assert_uint_eq(told(), 21);
    ck_assert_uint_eq(times(letter, "held@"), 0);
}
END_TEST

/* Two numbers of one mail become one when they may. */
START_TEST(numbers_add_up)
{
    queue_id id = commit("from@example.com", 0);
    for (unsigned i = 0; i < 16; i++)
        notice_note(id, "due@example.net", "550 no", NULL, false, clock_ms);
    for (unsigned i = 0; i < 40; i++)
        notice_note(id, "held@example.net", "550 no", NULL, true, clock_ms);
    settle(id);
    notice_release(id, clock_ms);
    for (unsigned i = 1; i < NOTICE_FAILURES; i++)
        refuse_many(1, false);
    clock_ms += 30 * SECOND;
    ck_assert_uint_eq(told(), 16 + 40 + NOTICE_FAILURES - 1);
    has("and so for 55 more of its recipients\r\n");
}
END_TEST

static queue_id filler[QUEUE_MESSAGES + 1]; /* the last one: none */

/* Fills every block with mails of 8 blocks; returns how many. */
static unsigned fill_queue(void)
{
    unsigned count = 0;
    for (; count < QUEUE_MESSAGES; count++) {
        size_t room, blocks = 0;
        queue_id id = filler[count] = queue_new("from@example.com", 0);
        if (id == QUEUE_NONE)
            break;
        while (blocks++ < 8 && queue_tail(id, QUEUE_BODY, &room) != NULL)
            queue_wrote(id, QUEUE_BODY, room);
    }
    return count;
}

static void expect_later(void)
{
    struct queue_counts before, after;
    queue_count(&before);
    line_count = 0;
    run();
    queue_count(&after);
    ck_assert_uint_eq(after.writing, before.writing);
    ck_assert_uint_eq(after.messages, 0);
    ck_assert_uint_eq(after.blocks_free, before.blocks_free);
    ck_assert_uint_eq(line_count, 0);
    ck_assert_int_eq(notice_wake_ms(),
                     clock_ms + NOTICE_DELAY_SECONDS * SECOND);
}

START_TEST(a_full_queue_is_later)
{
    for (unsigned i = 0; i < NOTICE_FAILURES; i++)
        refuse_many(1, false);
    clock_ms += 30 * SECOND;
    unsigned count = fill_queue();
    ck_assert_uint_gt(count, 2);
    expect_later(); /* no room for its envelope */
    clock_ms += 29 * SECOND;
    ck_assert_uint_eq(told(), 0);
    clock_ms += SECOND;
    struct queue_counts n;
    queue_count(&n);
    ck_assert_uint_lt(n.blocks_free, 2);
    for (; n.blocks_free < 8; queue_count(&n))
        queue_drop(filler[--count]);
    queue_id small = queue_new("from@example.com", 0); /* and back, but a few */
    for (queue_count(&n); n.blocks_free > 3 + n.blocks_reserved;
         queue_count(&n)) {
        size_t room;
        ck_assert(queue_tail(small, QUEUE_BODY, &room) != NULL);
        queue_wrote(small, QUEUE_BODY, room);
    }
    expect_later(); /* room for its first lines alone */
    queue_drop(small);
    clock_ms += 30 * SECOND;
    ck_assert_uint_eq(told(), NOTICE_FAILURES);
    while (count > 0)
        queue_drop(filler[--count]);
}
END_TEST

START_TEST(no_slot_in_the_queue_is_later)
{
    unsigned count = 0;
    refuse_many(1, false);
    clock_ms += 30 * SECOND;
    while ((filler[count] = queue_new("from@example.com", 0)) != QUEUE_NONE)
        count++;
    ck_assert_uint_eq(count, QUEUE_MESSAGES);
    expect_later();
    while (count > 0)
        queue_drop(filler[--count]);
    clock_ms += 30 * SECOND;
    ck_assert_uint_eq(told(), 1);
}
END_TEST

/* ---- What it says -------------------------------------------------------- */

START_TEST(statuses)
{
    static const struct {
        const char *reply, *status, *type;
    } rows[] = {
        {"550 5.1.1 unknown", "5.1.1", "smtp"},
        {"550 5.1.1", "5.1.1", "smtp"},
        {"554 5.7.999 no", "5.7.999", "smtp"},
        {"550 unknown", "5.0.0", "smtp"},
        {"550", "5.0.0", "smtp"},
        {"550 ", "5.0.0", "smtp"},
        {"550 5.1.1: unknown", "5.0.0", "smtp"},
        {"550 5.1", "5.0.0", "smtp"},
        {"550 5.1.", "5.0.0", "smtp"},
        {"550 5..1 x", "5.0.0", "smtp"},
        {"550 5.1.1234 x", "5.0.0", "smtp"},
        {"550 5.1.1.1 x", "5.0.0", "smtp"},
        {"550 4.1.1 x", "5.0.0", "smtp"}, /* which of them lies? */
        {"550 2.1.5 ok", "5.0.0", "smtp"},
        {"451 4.7.1 try later", "4.4.7", "smtp"},
        {"250 2.0.0 ok", "4.4.7", "smtp"},
        {"given up after 96 hours (expire_hours)", "4.4.7", "X-lanpost"},
        {"5.1.1 x", "4.4.7", "X-lanpost"},
        {"5500 x", "4.4.7", "X-lanpost"},
        {"650 x", "4.4.7", "X-lanpost"},
        {"", "4.4.7", "X-lanpost"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        char want[256];
        notice_init(HOST);
        refuse("a@example.com", "b@example.net", rows[i].reply, NULL);
        clock_ms += 30 * SECOND;
        ck_assert_uint_eq(told(), 1);
        snprintf(want, sizeof want,
                 "\r\n\r\nFinal-Recipient: rfc822; b@example.net\r\n"
                 "Action: failed\r\nStatus: %s\r\n"
                 "Diagnostic-Code: %s; %s\r\n\r\n--",
                 rows[i].status, rows[i].type, rows[i].reply);
        has(want);
    }
}
END_TEST

START_TEST(ages)
{
    static const struct {
        int64_t age_s;
        const char *says;
    } rows[] = {
        {30, "Thu, 01 Jan 2026 12:00:00 +0000 (30 seconds ago)"},
        {119, "(119 seconds ago)"},
        {120, "(2 minutes ago)"},
        {7199, "(119 minutes ago)"},
        {7200, "Thu, 01 Jan 2026 12:00:00 +0000 (2 hours ago)"},
        {2 * DAY_S - 1, "(47 hours ago)"},
        {2 * DAY_S, "(2 days ago)"},
        {96 * 3600, "Thu, 01 Jan 2026 12:00:00 +0000 (4 days ago)"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        notice_init(HOST);
        clock_ms = START_MS;
        refuse("a@example.com", "b@example.net", "550 no", NULL);
        clock_ms += rows[i].age_s * SECOND;
        ck_assert_uint_eq(told(), 1);
        has(rows[i].says);
    }
}
END_TEST

/* No line of a letter may be long, hold anything but printable ASCII, or be
 * one that we did not begin. */
static void expect_safe(void)
{
    static const char *const starts[] = {"From: ",
                                         "To: ",
                                         "Subject: ",
                                         "Date: ",
                                         "Message-ID: ",
                                         "Auto-Submitted: ",
                                         "MIME-Version: ",
                                         "Content-Type: ",
                                         "\tboundary=",
                                         "This is lanpost",
                                         "It took the mail",
                                         "The log says more",
                                         "Mail ",
                                         "    from:  <",
                                         "    to:    <",
                                         "    came:  ",
                                         "    why:   ",
                                         "    to do: ",
                                         "    and so for ",
                                         "Reporting-MTA: dns; ",
                                         "Final-Recipient: rfc822; ",
                                         "Action: failed",
                                         "Status: ",
                                         "Diagnostic-Code: ",
                                         " <" /* a folded header */,
                                         "--=_lanpost_"};
    const char *end;
    for (const char *at = letter; *at; at = end + 2) {
        bool is_ours = *at == '\r';
        end = strstr(at, "\r\n");
        ck_assert_ptr_nonnull(end);
        ck_assert_int_lt(end - at, 998);
        for (const char *c = at; c < end; c++)
            ck_assert_msg((*c >= ' ' && *c <= '~') || (c == at && *c == '\t'),
                          "byte %02x", (unsigned char)*c);
        for (size_t i = 0; i < COUNT(starts); i++)
            is_ours |= strncmp(at, starts[i], strlen(starts[i])) == 0;
        ck_assert_msg(is_ours, "%.*s", (int)(end - at), at);
    }
    ck_assert_uint_eq(times(letter, "\r\n--=_lanpost_"), 3);
    ck_assert_uint_eq(times(letter, "\r\nSubject: "), 1);
    ck_assert_uint_eq(times(letter, "\r\nBcc: "), 0);
}

#define X_8   "xxxxxxxx"
#define X_64  X_8 X_8 X_8 X_8 X_8 X_8 X_8 X_8
#define X_512 X_64 X_64 X_64 X_64 X_64 X_64 X_64 X_64
#define E_16  "\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9"
#define E_128 E_16 E_16 E_16 E_16 E_16 E_16 E_16 E_16

START_TEST(hostile_words)
{
    static const struct {
        const char *words, *safe;
    } rows[] = {
        {"550 a\r\nBcc: me@evil.example", "550 a\\x0D\\x0ABcc: me@evil"},
        {"550 a\r\n\r\n--=_lanpost_", "550 a\\x0D\\x0A\\x0D\\x0A--=_lan"},
        {"\r\n.\r\nQUIT\r\n", "\\x0D\\x0A.\\x0D\\x0AQUIT\\x0D\\x0A\r\n"},
        {"550 \x1b[2J\x7f\x01", "550 \\x1B[2J\\x7F\\x01\r\n"},
        {"550 fa\xc3\xa9\xff", "550 fa\\xC3\\xA9\\xFF\r\n"},
        {"550 \"a\\b\" <%s> %n (x); =?utf-8?q?a?=",
         "550 \"a\\b\" <%s> %n (x); =?utf-8?q?a?=\r\n"},
        {X_512, X_64 X_64 X_64},
        {E_128 E_128 E_128 E_128, "...\r\n"},
        {"", "\r\n"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        char want[512];
        notice_init(HOST);
        queue_id id = commit(*rows[i].words ? rows[i].words : "x", 0);
        notice_note(id, rows[i].words, rows[i].words, rows[i].words, false,
                    clock_ms);
        settle(id);
        clock_ms += 30 * SECOND;
        ck_assert_uint_eq(told(), 1);
        expect_safe();
        snprintf(want, sizeof want, "%s", rows[i].safe);
        has(want);
        ck_assert(times(letter, want) >= 4);
    }
}
END_TEST

/* The longest names that there are. */
START_TEST(long_names)
{
    char host[254], conf[1024], domain[186] = "";
    while (strlen(domain) + 8 < sizeof domain)
        strcat(domain, "abcdef.");
    strcat(domain, "net");
    memset(host, 'h', sizeof host - 1);
    host[sizeof host - 1] = '\0';
    snprintf(conf, sizeof conf,
             BASE "postmaster = %.64s@%s\nsender = %.64s@%s\n", X_64, domain,
             X_64, domain);
    load(conf);
    notice_init(host);
    for (unsigned i = 0; i < NOTICE_FAILURES; i++)
        refuse(X_512, E_128 E_128 E_128 E_128, X_512, X_512);
    clock_ms += 30 * SECOND;
    ck_assert_uint_eq(told(), NOTICE_FAILURES);
    expect_safe();
    notice_init("[IPv6:2001:db8::1]");
    refuse("a@example.com", "b@example.net", "550 no", NULL);
    clock_ms += 30 * SECOND;
    ck_assert_uint_eq(told(), 1);
    has("\r\nReporting-MTA: dns; [IPv6:2001:db8::1]\r\n\r\n");
    has("@[IPv6:2001:db8::1]>\r\n");
}
END_TEST

/* An address as long as may be is told whole. */
START_TEST(long_addresses)
{
    char to[388], want[512];
    memset(to, 'a', sizeof to - 1);
    to[sizeof to - 1] = '\0';
    memcpy(to + 130, "@", 1);
    refuse(to, to, "550 no", NULL);
    clock_ms += 30 * SECOND;
    ck_assert_uint_eq(told(), 1);
    snprintf(want, sizeof want, "    from:  <%s>\r\n    to:    <%s>\r\n", to,
             to);
    ck_assert_uint_eq(times(letter, to), 3);
    snprintf(want, sizeof want, "Final-Recipient: rfc822; %s\r\n", to);
    has(want);
}
END_TEST

static const char golden[] =
    "From: lanpost <relay@example.com>\r\n"
    "To: <admin@example.org>\r\n"
    "Subject: Mail that could not be delivered (2)\r\n"
    "Date: Thu, 01 Jan 2026 16:00:00 +0000\r\n"
    "Message-ID: <69569a00.RANDOM.NOTICE@relay.example.net>\r\n"
    "Auto-Submitted: auto-replied\r\n"
    "MIME-Version: 1.0\r\n"
    "Content-Type: multipart/report; report-type=delivery-status;\r\n"
    "\tboundary=\"=_lanpost_NOTICE\"\r\n"
    "\r\n"
    "--=_lanpost_NOTICE\r\n"
    "Content-Type: text/plain; charset=us-ascii\r\n"
    "\r\n"
    "This is lanpost on relay.example.net.\r\n"
    "It took the mail below from devices, could not deliver it and has given "
    "up.\r\n"
    "The log says more: there, each mail goes by its id.\r\n"
    "\r\n"
    "Mail MAIL1\r\n"
    "    from:  <scanner@example.com>\r\n"
    "    to:    <\"j. doe\"@example.net>\r\n"
    "    came:  Thu, 01 Jan 2026 12:00:00 +0000 (4 hours ago)\r\n"
    "    why:   550 5.1.1 <j. doe>: no such user\r\n"
    "    to do: Correct the address in the device's address book.\r\n"
    "\r\n"
    "Mail MAIL2\r\n"
    "    from:  <root@nas.example.com>\r\n"
    "    to:    <ops@example.net>\r\n"
    "    came:  Thu, 01 Jan 2026 12:00:10 +0000 (3 hours ago)\r\n"
    "    why:   given up after 96 hours (expire_hours)\r\n"
    "\r\n"
    "--=_lanpost_NOTICE\r\n"
    "Content-Type: message/delivery-status\r\n"
    "\r\n"
    "Reporting-MTA: dns; relay.example.net\r\n"
    "\r\n"
    "Final-Recipient: rfc822; \"j. doe\"@example.net\r\n"
    "Action: failed\r\n"
    "Status: 5.1.1\r\n"
    "Diagnostic-Code: smtp; 550 5.1.1 <j. doe>: no such user\r\n"
    "\r\n"
    "Final-Recipient: rfc822; ops@example.net\r\n"
    "Action: failed\r\n"
    "Status: 4.4.7\r\n"
    "Diagnostic-Code: X-lanpost; given up after 96 hours (expire_hours)\r\n"
    "\r\n"
    "--=_lanpost_NOTICE--\r\n";

/* Copies from, with each word of the table replaced. */
static const char *fill_in(const char *from, const char *const words[][2],
                           size_t count)
{
    static char text[4096];
    size_t used = 0;
    while (*from) {
        size_t i = 0;
        while (i < count && strncmp(from, words[i][0], strlen(words[i][0])))
            i++;
        ck_assert_uint_lt(used + 16, sizeof text);
        if (i < count) {
            used += (size_t)snprintf(text + used, 16, "%s", words[i][1]);
            from += strlen(words[i][0]);
        } else {
            text[used++] = *from++;
        }
    }
    text[used] = '\0';
    return text;
}

START_TEST(golden_letter)
{
    char mail1[16], mail2[16], id[16], random[16] = "";
    clock_ms = START_MS;
    snprintf(mail1, sizeof mail1, "%08X",
             (unsigned)refuse("scanner@example.com", "\"j. doe\"@example.net",
                              "550 5.1.1 <j. doe>: no such user",
                              "Correct the address in the device's address "
                              "book."));
    clock_ms += 10 * SECOND;
    snprintf(mail2, sizeof mail2, "%08X",
             (unsigned)refuse("root@nas.example.com", "ops@example.net",
                              "given up after 96 hours (expire_hours)", NULL));
    clock_ms = START_MS + 4 * 3600 * SECOND;
    run();
    snprintf(id, sizeof id, "%08X", (unsigned)queue_walk(QUEUE_NONE));
    ck_assert(send_letter());
    const char *at = strstr(letter, "\r\nMessage-ID: <");
    ck_assert_ptr_nonnull(at);
    ck_assert_int_eq(sscanf(at, "\r\nMessage-ID: <%*x.%8[0-9a-f]", random), 1);
    const char *const words[][2] = {
        {"NOTICE", id}, {"RANDOM", random}, {"MAIL1", mail1}, {"MAIL2", mail2}};
    ck_assert_str_eq(letter, fill_in(golden, words, COUNT(words)));
    const char *file = getenv("NOTICE_OUT"); /* for a look by hand */
    if (file != NULL) {
        FILE *out = fopen(file, "w");
        ck_assert_ptr_nonnull(out);
        fputs(letter, out);
        fclose(out);
    }
}
END_TEST

START_TEST(memory_is_told)
{
    ck_assert_uint_gt(notice_memory_bytes(), NOTICE_FAILURES * 512);
    ck_assert_uint_lt(notice_memory_bytes(), NOTICE_FAILURES * 2048);
}
END_TEST

Suite *suite_notice(void)
{
    Suite *s = suite_create("notice");
    TCase *c = tcase_create("notice");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_loop_test(c, plays_in_time, 0, COUNT(plays));
    tcase_add_test(c, new_settings_count_at_once);
    tcase_add_test(c, nobody_is_told_of_some_mail);
    tcase_add_test(c, an_info_log_is_silent_about_the_null_path);
    tcase_add_test(c, senders);
    tcase_add_test(c, no_postmaster_is_one_line_a_period);
    tcase_add_test(c, no_notices_wanted_is_no_news);
    tcase_add_test(c, a_full_pool_counts);
    tcase_add_test(c, held_numbers);
    tcase_add_test(c, held_numbers_stay_apart);
    tcase_add_test(c, numbers_add_up);
    tcase_add_test(c, a_full_queue_is_later);
    tcase_add_test(c, no_slot_in_the_queue_is_later);
    tcase_add_test(c, statuses);
    tcase_add_test(c, ages);
    tcase_add_test(c, hostile_words);
    tcase_add_test(c, long_names);
    tcase_add_test(c, long_addresses);
    tcase_add_test(c, golden_letter);
    tcase_add_test(c, memory_is_told);
    tcase_set_timeout(c, 30);
    suite_add_tcase(s, c);
    return s;
}
