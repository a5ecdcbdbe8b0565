/* clients: what is kept of each device, who makes room, and how long a guesser
 * waits. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../clients.h"
Suite *suite_clients(void);

#define COUNT(table) (sizeof(table) / sizeof(table)[0])
#define DAY_S        86400
#define NOON_S       ((int64_t)20000 * DAY_S + DAY_S / 2)
#define WINDOW_MS    (ADDRESS_LOGINS_SECONDS * (int64_t)1000)

static void setup(void)
{
    setenv("TZ", "UTC", 1);
    tzset();
    clients_init();
}

static const struct ip_address *at(const char *text)
{
    static struct ip_address a;
    ck_assert(ip_parse(text, &a));
    return &a;
}

static const struct ip_address *number(unsigned n)
{
    char text[32];
    snprintf(text, sizeof text, "10.0.%u.%u", n / 256, n % 256);
    return at(text);
}

static const struct client *find(const struct ip_address *address)
{
    for (const struct client *c = NULL; (c = clients_walk(c)) != NULL;)
        if (ip_equal(&c->address, address))
            return c;
    return NULL;
}

static unsigned count(void)
{
    unsigned n = 0;
    for (const struct client *c = NULL; (c = clients_walk(c)) != NULL;)
        n++;
    return n;
}

START_TEST(nobody_at_first)
{
    ck_assert_ptr_null(clients_walk(NULL));
    ck_assert_int_eq(clients_login_wait_ms(at("10.0.0.1"), 1), 0);
    ck_assert_uint_eq(count(), 0);
    ck_assert_uint_gt(clients_memory_bytes(), 0);
}
END_TEST

START_TEST(mails_of_a_day)
{
    static const struct {
        int64_t at_s;
        unsigned mails;
    } rows[] = {
        {NOON_S, 1},
        {NOON_S + 60, 2},
        {NOON_S + DAY_S / 2 - 1, 3}, /* 23:59:59 */
        {NOON_S + DAY_S / 2, 1},     /* a new day */
        {NOON_S + DAY_S, 2},
        {NOON_S + 366 * DAY_S, 1}, /* the same day of another year */
        {NOON_S, 1},               /* a clock that was set back */
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        clients_note_mail(at("10.0.0.1"), rows[i].at_s);
        const struct client *c = find(at("10.0.0.1"));
        ck_assert_msg(c->mails_today == rows[i].mails, "row %zu: %u", i,
                      c->mails_today);
        ck_assert_int_eq(c->last_mail_s, rows[i].at_s);
    }
    clients_note_mail(at("::ffff:10.0.0.1"), NOON_S + 1); /* the same one */
    ck_assert_uint_eq(find(at("10.0.0.1"))->mails_today, 2);
    clients_note_mail(at("fd00::1"), NOON_S);
    ck_assert_uint_eq(find(at("fd00::1"))->mails_today, 1);
    ck_assert_uint_eq(count(), 2);
}
END_TEST

START_TEST(the_last_failure)
{
    char text[300];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    clients_note_failure(at("10.0.0.1"), "why", "advice", NOON_S);
    const struct client *c = find(at("10.0.0.1"));
    ck_assert_str_eq(c->why, "why");
    ck_assert_str_eq(c->advice, "advice");
    ck_assert_int_eq(c->last_failure_s, NOON_S);
    ck_assert_int_eq(c->last_mail_s, 0);
    clients_note_mail(at("10.0.0.1"), NOON_S + 5); /* and it is kept */
    ck_assert_str_eq(c->why, "why");
    clients_note_failure(at("10.0.0.1"), "other", NULL, NOON_S + 9);
    ck_assert_str_eq(c->why, "other");
    ck_assert_str_eq(c->advice, "");
    clients_note_failure(at("10.0.0.1"), text, text, NOON_S);
    ck_assert_uint_eq(strlen(c->why), CLIENT_WHY_BYTES - 1);
    ck_assert_uint_eq(strlen(c->advice), CLIENT_ADVICE_BYTES - 1);
    ck_assert_uint_eq(count(), 1);
}
END_TEST

START_TEST(who_was_silent_for_longest_makes_room)
{
    for (unsigned i = 0; i < CLIENTS_REMEMBERED; i++)
        clients_note_failure(number(i), "why", NULL, NOON_S + i);
    ck_assert_uint_eq(count(), CLIENTS_REMEMBERED);
    clients_note_failure(number(0), "again", NULL, NOON_S);
    clients_note_failure(number(1000), "new", NULL, NOON_S);
    ck_assert_uint_eq(count(), CLIENTS_REMEMBERED);
    ck_assert_ptr_nonnull(find(number(0)));
    ck_assert_ptr_null(find(number(1)));
    ck_assert_ptr_nonnull(find(number(2)));
    ck_assert_str_eq(find(number(1000))->why, "new");
    ck_assert_int_eq(find(number(1000))->last_mail_s, 0);
}
END_TEST

/* A scan of the network must not wipe out the devices, and a guesser with many
 * addresses not his own record. */
START_TEST(who_is_worth_keeping)
{
    clients_note_bad_login(number(0), 1);
    clients_note_mail(number(1), NOON_S);
    for (unsigned i = 2; i < 5000; i++)
        clients_note_failure(number(i), "why", NULL, NOON_S);
    ck_assert_ptr_nonnull(find(number(0)));
    ck_assert_ptr_nonnull(find(number(1)));
    ck_assert_uint_eq(find(number(1))->mails_today, 1);
    for (unsigned i = 5000; i < 5000 + CLIENTS_REMEMBERED - 1; i++)
        clients_note_mail(number(i), NOON_S);
    ck_assert_ptr_null(find(number(1))); /* the oldest of them */
    ck_assert_ptr_nonnull(find(number(0)));
    ck_assert_uint_eq(count(), CLIENTS_REMEMBERED);
}
END_TEST

/* What no longer counts is no record worth keeping: the window of the first is
 * over at the last failure that anybody had, or just not. */
START_TEST(old_failed_logins_do_not_keep_their_place)
{
    for (int is_over = 0; is_over < 2; is_over++) {
        clients_init();
        clients_note_bad_login(number(0), 1000);
        clients_note_bad_login(number(1), 1000 + WINDOW_MS - 1 + is_over);
        for (unsigned i = 2; i <= CLIENTS_REMEMBERED; i++)
            clients_note_failure(number(i), "why", NULL, NOON_S);
        ck_assert_int_eq(find(number(0)) == NULL, is_over);
        ck_assert_int_eq(find(number(2)) == NULL, !is_over);
        ck_assert_ptr_nonnull(find(number(1)));
        ck_assert_uint_eq(count(), CLIENTS_REMEMBERED);
    }
}
END_TEST

START_TEST(failed_logins_are_borne_and_then_not)
{
    int64_t now_ms = 1000000;
    for (unsigned i = 0; i < ADDRESS_LOGINS_MAX; i++) {
        ck_assert_int_eq(clients_login_wait_ms(number(1), now_ms), 0);
        clients_note_bad_login(number(1), now_ms);
        now_ms += 1000;
    }
    now_ms -= 1000;
    /* the wait is a whole one, from the last of them */
    ck_assert_int_eq(clients_login_wait_ms(number(1), now_ms), WINDOW_MS);
    ck_assert_int_eq(clients_login_wait_ms(number(2), now_ms), 0);
    ck_assert_int_eq(clients_login_wait_ms(number(1), now_ms + WINDOW_MS - 1),
                     1);
    now_ms += WINDOW_MS;
    ck_assert_int_eq(clients_login_wait_ms(number(1), now_ms), 0);
    /* and counting starts anew */
    for (unsigned i = 0; i < ADDRESS_LOGINS_MAX; i++) {
        ck_assert_int_eq(clients_login_wait_ms(number(1), now_ms), 0);
        clients_note_bad_login(number(1), now_ms);
    }
    ck_assert_int_gt(clients_login_wait_ms(number(1), now_ms), 0);
}
END_TEST

START_TEST(failed_logins_far_apart_are_borne)
{
    int64_t now_ms = 1000000;
    for (unsigned i = 0; i < 10 * ADDRESS_LOGINS_MAX; i++) {
        clients_note_bad_login(number(1), now_ms);
        ck_assert_int_eq(clients_login_wait_ms(number(1), now_ms), 0);
        now_ms += WINDOW_MS / (ADDRESS_LOGINS_MAX - 1);
    }
}
END_TEST

START_TEST(the_log_is_told_once_a_minute)
{
    unsigned told = 0;
    for (int64_t now_ms = 1; now_ms < 10 * WINDOW_MS; now_ms += 100)
        told += clients_note_bad_login(number(1), now_ms);
    ck_assert_uint_eq(told, 10);
    ck_assert(clients_note_bad_login(number(2), 1)); /* each of its own */
    ck_assert(!clients_note_bad_login(number(2), 2));
}
END_TEST

Suite *suite_clients(void)
{
    Suite *s = suite_create("clients");
    TCase *c = tcase_create("clients");
    tcase_add_checked_fixture(c, setup, NULL);
    tcase_add_test(c, nobody_at_first);
    tcase_add_test(c, mails_of_a_day);
    tcase_add_test(c, the_last_failure);
    tcase_add_test(c, who_was_silent_for_longest_makes_room);
    tcase_add_test(c, who_is_worth_keeping);
    tcase_add_test(c, old_failed_logins_do_not_keep_their_place);
    tcase_add_test(c, failed_logins_are_borne_and_then_not);
    tcase_add_test(c, failed_logins_far_apart_are_borne);
    tcase_add_test(c, the_log_is_told_once_a_minute);
    suite_add_tcase(s, c);
    return s;
}
