/* poller: one turn's fds and the earliest deadline. */
#include <check.h>
#include <signal.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "../poller.h"
Suite *suite_poller(void);

static struct poller p;
static int ends[2];

static void setup(void)
{
    ck_assert_int_eq(pipe(ends), 0);
    poller_reset(&p);
}

static void teardown(void)
{
    close(ends[0]);
    close(ends[1]);
}

START_TEST(events_come_to_their_slot)
{
    int in = poller_add(&p, ends[0], POLLIN);
    int out = poller_add(&p, ends[1], POLLOUT);
    poller_wait(&p, clock_ms());
    ck_assert_int_eq(poller_events(&p, in, ends[0]), 0);
    ck_assert_int_eq(poller_events(&p, out, ends[1]), POLLOUT);
    ck_assert_int_eq(write(ends[1], "x", 1), 1);
    poller_wait(&p, clock_ms());
    ck_assert_int_eq(poller_events(&p, in, ends[0]), POLLIN);
    /* a number reused within the turn is somebody else */
    ck_assert_int_eq(poller_events(&p, in, ends[1]), 0);
    ck_assert_int_eq(poller_events(&p, POLLER_NO_SLOT, ends[0]), 0);
    ck_assert_int_eq(poller_events(&p, 2, ends[0]), 0);
    poller_reset(&p);
    ck_assert_int_eq(poller_events(&p, in, ends[0]), 0);
}
END_TEST

START_TEST(full_table)
{
    for (int i = 0; i < POLLER_FDS_MAX; i++)
        ck_assert_int_eq(poller_add(&p, ends[0], POLLIN), i);
    ck_assert_int_eq(poller_add(&p, ends[0], POLLIN), POLLER_NO_SLOT);
    ck_assert_int_eq(p.count, POLLER_FDS_MAX);
}
END_TEST

START_TEST(earliest_deadline_wins)
{
    static const struct {
        int64_t at_ms, wake_ms;
    } table[] = {
        {INT64_MAX, INT64_MAX},
        {500, 500},
        {600, 500},
        {400, 400},
        {-1, -1},
        {0, -1},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        poller_wake_at(&p, table[i].at_ms);
        ck_assert_int_eq(p.wake_ms, table[i].wake_ms);
    }
    poller_reset(&p);
    ck_assert(p.wake_ms == INT64_MAX);
}
END_TEST

START_TEST(sleeps_as_long_as_it_should)
{
    static const struct {
        int64_t wake_in_ms, least_ms, most_ms;
    } table[] = {
        {-1000, 0, 500},
        {0, 0, 500},
        {30, 29, 2000},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        int64_t before = clock_ms();
        poller_reset(&p);
        poller_add(&p, ends[0], POLLIN);
        poller_wake_at(&p, before + table[i].wake_in_ms);
        poller_wait(&p, before);
        int64_t slept = clock_ms() - before;
        ck_assert_int_ge(slept, table[i].least_ms);
        ck_assert_int_le(slept, table[i].most_ms);
    }
    /* farther than poll() can count; the byte wakes it */
    ck_assert_int_eq(write(ends[1], "x", 1), 1);
    poller_reset(&p);
    int in = poller_add(&p, ends[0], POLLIN);
    poller_wake_at(&p, INT64_MAX - 1);
    poller_wait(&p, clock_ms());
    ck_assert_int_eq(poller_events(&p, in, ends[0]), POLLIN);
}
END_TEST

static void on_alarm(int signal_number)
{
    (void)signal_number;
}

/* A signal ends the sleep, and what the last turn saw is not seen again. */
START_TEST(f5_eintr_is_a_wakeup)
{
    int in = poller_add(&p, ends[0], POLLIN);
    struct sigaction act = {.sa_handler = on_alarm};
    struct itimerval soon = {.it_value.tv_usec = 20000};
    p.fds[in].revents = POLLIN;
    sigaction(SIGALRM, &act, NULL);
    poller_wake_at(&p, clock_ms() + 5000);
    int64_t before = clock_ms();
    setitimer(ITIMER_REAL, &soon, NULL);
    poller_wait(&p, before);
    ck_assert_int_lt(clock_ms() - before, 4000);
    ck_assert_int_eq(poller_events(&p, in, ends[0]), 0);
    signal(SIGALRM, SIG_DFL);
}
END_TEST

Suite *suite_poller(void)
{
    Suite *s = suite_create("poller");
    TCase *c = tcase_create("poller");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, events_come_to_their_slot);
    tcase_add_test(c, full_table);
    tcase_add_test(c, earliest_deadline_wins);
    tcase_add_test(c, sleeps_as_long_as_it_should);
    tcase_add_test(c, f5_eintr_is_a_wakeup);
    suite_add_tcase(s, c);
    return s;
}
