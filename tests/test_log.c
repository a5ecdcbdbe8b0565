/* log: nothing that a peer says can forge a line, and a line that nobody
 * takes is dropped, not waited for. */
#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../config.h"
#include "../log.h"
#include "../poller.h"
Suite *suite_log(void);

#define COUNT(table) (sizeof(table) / sizeof(table)[0])
#define WIRE(text)   text, sizeof(text) - 1

static char last[2 * LOG_LINE_BYTES];
static int lines;

static void sink(const char *line)
{
    snprintf(last, sizeof last, "%s", line);
    lines++;
}

static void setup(void)
{
    lines = 0;
    last[0] = '\0';
    log_to(sink);
    log_set_level(LOG_AT_DEBUG);
}

static void teardown(void)
{
    log_to(NULL);
    log_set_level(LOG_AT_INFO);
}

START_TEST(cleaned)
{
    static const struct {
        const char *bytes;
        size_t count;
        size_t room;
        const char *text;
    } table[] = {
        {WIRE(""), 16, ""},
        {WIRE("plain ~"), 16, "plain ~"},
        {WIRE("a\"b\\c"), 16, "a\\\"b\\\\c"},
        {WIRE("a\r\nb"), 16, "a\\x0D\\x0Ab"},
        {WIRE("a\0b"), 16, "a\\x00b"},
        {WIRE("\x1b[2J\x7f"), 16, "\\x1B[2J\\x7F"},
        {WIRE("\xc3\xa4\xff"), 16, "\\xC3\\xA4\\xFF"},
        {WIRE("0123456789abcdef"), 16, "0123456789ab..."},
        {WIRE("0123456789a\n"), 16, "0123456789a..."}, /* no half an escape */
        {WIRE("0123456789a\"x"), 16, "0123456789a..."},
        {WIRE("ab"), 4, "..."},
        {WIRE("abc"), 3, ".."},
        {WIRE("abc"), 1, ""},
        {WIRE(""), 1, ""},
    };
    for (size_t i = 0; i < COUNT(table); i++) {
        char out[17];
        memset(out, '!', sizeof out);
        log_clean(out, table[i].room, table[i].bytes, table[i].count);
        ck_assert_str_eq(out, table[i].text);
        ck_assert_int_eq(out[table[i].room], '!');
    }
}
END_TEST

/* Each byte in each room: terminated, printable, within its bounds. */
START_TEST(cleaned_never_overflows)
{
    for (int c = 0; c < 256; c++)
        for (size_t room = 1; room < 24; room++) {
            char bytes[12], out[25];
            memset(bytes, c, sizeof bytes);
            memset(out, '!', sizeof out);
            log_clean(out, room, bytes, sizeof bytes);
            ck_assert_uint_lt(strlen(out), room);
            ck_assert_int_eq(out[room], '!');
            for (const char *at = out; *at; at++)
                ck_assert(*at >= ' ' && *at <= '~');
        }
}
END_TEST

START_TEST(line_cannot_be_forged)
{
    log_line(LOG_AT_INFO, "in", "a=%s", "x\nout id=1 sent\r\x1b[2J\xff\t");
    ck_assert_int_eq(lines, 1);
    ck_assert_str_eq(last, "a=x?out id=1 sent??[2J??");
}
END_TEST

START_TEST(long_line_is_cut)
{
    static char text[5000];
    memset(text, 'x', sizeof text - 1);
    log_line(LOG_AT_INFO, "in", "%s", text);
    ck_assert_uint_eq(strlen(last), LOG_LINE_BYTES - 1);
    ck_assert_str_eq(last + LOG_LINE_BYTES - 4, "...");
    log_line(LOG_AT_INFO, "in", "%.*s", LOG_LINE_BYTES - 1, text);
    ck_assert_uint_eq(strlen(last), LOG_LINE_BYTES - 1);
    ck_assert_str_eq(last + LOG_LINE_BYTES - 4, "xxx");
}
END_TEST

START_TEST(levels)
{
    for (int loudest = LOG_AT_ERROR; loudest <= LOG_AT_DEBUG; loudest++) {
        log_set_level((enum log_level)loudest);
        lines = 0;
        for (int level = LOG_AT_ERROR; level <= LOG_AT_DEBUG; level++)
            log_line((enum log_level)level, "in", "x");
        ck_assert_int_eq(lines, loudest + 1);
    }
}
END_TEST

/* Standard error through a pipe. */
static void with_stderr(int fd, const char *text)
{
    fflush(stderr);
    int saved = dup(STDERR_FILENO);
    dup2(fd, STDERR_FILENO);
    log_to(NULL);
    log_line(LOG_AT_WARN, "out", "%s", text);
    dup2(saved, STDERR_FILENO);
    close(saved);
}

START_TEST(line_to_stderr)
{
    int ends[2];
    char text[2048];
    ck_assert_int_eq(pipe(ends), 0);
    with_stderr(ends[1], "reply=\"250 Ok\"");
    ssize_t n = read(ends[0], text, sizeof text - 1);
    ck_assert_int_gt(n, 0);
    text[n] = '\0';
    /* 2026-11-21T22:58:41+0000 out   reply="250 Ok" */
    ck_assert_str_eq(text + 24, " out   reply=\"250 Ok\"\n");
    ck_assert_int_eq(text[10], 'T');
    close(ends[0]);
    close(ends[1]);
}
END_TEST

/* A write to it would block for good. */
static void open_full_pipe(int ends[2])
{
    char junk[4096] = {0};
    ck_assert_int_eq(pipe(ends), 0);
    fcntl(ends[1], F_SETFL, O_NONBLOCK);
    while (write(ends[1], junk, sizeof junk) > 0)
        continue;
    fcntl(ends[1], F_SETFL, 0);
}

START_TEST(full_pipe_drops_and_counts)
{
    int ends[2];
    unsigned long before = log_dropped();
    open_full_pipe(ends);
    for (int i = 0; i < 3; i++)
        with_stderr(ends[1], "nobody takes it");
    ck_assert_uint_eq(log_dropped() - before, 3);
    close(ends[0]);
    with_stderr(ends[1], "nobody is there"); /* SIGPIPE is ignored */
    ck_assert_uint_eq(log_dropped() - before, 4);
    close(ends[1]);
}
END_TEST

/* A reader that sleeps a while, then reads to the end. */
static pid_t start_late_reader(int ends[2])
{
    char junk[4096];
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child != 0)
        return child;
    close(ends[1]);
    usleep(200000);
    while (read(ends[0], junk, sizeof junk) > 0)
        continue;
    _exit(0);
}

START_TEST(patience_waits_for_a_late_reader)
{
    int ends[2], status;
    unsigned long before = log_dropped();
    open_full_pipe(ends);
    log_set_patience(0);
    with_stderr(ends[1], "nobody takes it");
    ck_assert_uint_eq(log_dropped() - before, 1);
    pid_t child = start_late_reader(ends);
    int64_t start_ms = clock_ms();
    log_set_patience(10000);
    for (int i = 0; i < 50; i++)
        with_stderr(ends[1], "somebody takes it");
    int64_t waited_ms = clock_ms() - start_ms;
    log_set_patience(0);
    close(ends[1]);
    close(ends[0]);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_uint_eq(log_dropped() - before, 1);
    ck_assert_int_ge(waited_ms, 150);
    ck_assert_int_lt(waited_ms, 10000);
}
END_TEST

/* So long in all, not for each line: the end of the program is bounded. */
START_TEST(patience_is_used_up)
{
    int ends[2];
    unsigned long before = log_dropped();
    open_full_pipe(ends);
    log_set_patience(200);
    int64_t start_ms = clock_ms();
    for (int i = 0; i < 20; i++)
        with_stderr(ends[1], "nobody takes it");
    int64_t waited_ms = clock_ms() - start_ms;
    log_set_patience(0);
    ck_assert_uint_eq(log_dropped() - before, 20);
    ck_assert_int_ge(waited_ms, 199);
    ck_assert_int_lt(waited_ms, 2000); /* 4000, were it for each */
    close(ends[0]);
    close(ends[1]);
}
END_TEST

START_TEST(open_and_open_again)
{
    ck_assert(log_open(false));
    bool has_syslog = access("/dev/log", W_OK) == 0;
    ck_assert(log_open(true) == has_syslog);
    ck_assert(log_open(false));
}
END_TEST

Suite *suite_log(void)
{
    Suite *s = suite_create("log");
    TCase *c = tcase_create("log");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, cleaned);
    tcase_add_test(c, cleaned_never_overflows);
    tcase_add_test(c, line_cannot_be_forged);
    tcase_add_test(c, long_line_is_cut);
    tcase_add_test(c, levels);
    tcase_add_test(c, line_to_stderr);
    tcase_add_test(c, full_pipe_drops_and_counts);
    tcase_add_test(c, patience_waits_for_a_late_reader);
    tcase_add_test(c, patience_is_used_up);
    tcase_add_test(c, open_and_open_again);
    suite_add_tcase(s, c);
    return s;
}
