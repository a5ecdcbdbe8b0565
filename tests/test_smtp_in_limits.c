/* smtp_in, smtp_session, intake, door, queue: limits, deadlines and hostile
 * devices. Names like a18 are rows of our list of faults. After each test the
 * fixture proves that nothing has leaked and that the next mail passes. */
#include <time.h>

#include "talk.h"

Suite *suite_smtp_in_limits(void);

#define MAIL       "MAIL FROM:<a@example.com>\r\n"
#define RCPT       "RCPT TO:<b@example.net>\r\n"
#define IDLE_MS    (CLIENT_IDLE_SECONDS * (int64_t)1000)
#define CROWDED_MS (CLIENT_IDLE_CROWDED_SECONDS * (int64_t)1000)
#define CROWD      (CLIENTS_MAX * 3 / 4)
#define BYE_MS     2000
#define MIB        (1024 * 1024)

static char page[MIB];

static double cpu_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void say_much(struct device *d, size_t count)
{
    memset(page, 'x', sizeof page);
    for (size_t done = 0; done < count;) {
        size_t n = count - done < sizeof page ? count - done : sizeof page;
        say_bytes(d, page, n);
        done += n;
    }
}

static struct device *call_number(unsigned number)
{
    char from[32];
    snprintf(from, sizeof from, "10.1.%u.%u", number / 250, number % 250 + 1);
    return call(from);
}

static struct queue_counts counts(void)
{
    struct queue_counts n;
    queue_count(&n);
    return n;
}

/* ---- Lines --------------------------------------------------------------- */

START_TEST(a5_command_lines)
{
    static const struct {
        size_t bytes; /* with CRLF */
        const char *begin;
    } rows[] = {
        {511, "250 2.0.0"},  {512, "250 2.0.0"},  {2047, "250 2.0.0"},
        {2048, "250 2.0.0"}, {2049, "500 5.5.2"}, {2050, "500 5.5.2"},
        {4096, "500 5.5.2"}, {4097, "500 5.5.2"}, {8193, "500 5.5.2"},
        {MIB, "500 5.5.2"},
    };
    for (size_t i = 0; i < COUNT(rows); i++)
        for (int by_byte = 0; by_byte < 2 - (rows[i].bytes == MIB); by_byte++) {
            struct device *d = call_and_greet("10.0.0.9");
            /* What is behind the limit must not run: were it read as a
             * command, it would answer. */
            memset(page, 'x', sizeof page);
            memcpy(page, "NOOP ", 5);
            for (size_t at = 2048; at + 8 < rows[i].bytes; at += 1024)
                memcpy(page + at, "QUIT ", 5);
            memcpy(page + rows[i].bytes - 2, "\r\n", 2);
            for (size_t at = 0; at < rows[i].bytes; at += by_byte ? 1 : MIB)
                say_bytes(d, page + at, by_byte ? 1 : rows[i].bytes);
            expect(d, rows[i].begin);
            ask(d, "NOOP\r\n", "250 2.0.0");
            hang_up_device(d);
            settle(NULL);
        }
}
END_TEST

START_TEST(a5_a_command_without_an_end)
{
    struct device *d = call_and_greet("10.0.0.9");
    say_much(d, MIB);
    expect(d, "500 5.5.2");
    ck_assert_uint_eq(d->heard, 0);
    ask(d, "\r\nNOOP\r\n", "250 2.0.0");
}
END_TEST

START_TEST(a6_text_lines)
{
    static const size_t rows[] = {997, 998, 999, 1000, 10000, 65536, 10 * MIB};
    struct device *d = call_and_greet("10.0.0.9");
    double seconds = 0, first = 0;
    for (size_t i = 0; i < COUNT(rows); i++) {
        start_data(d);
        double start = cpu_seconds();
        say_much(d, rows[i]);
        say_all(d, "\r\n.\r\n");
        seconds = cpu_seconds() - start;
        if (rows[i] == 65536)
            first = seconds;
        expect(d, "250 2.0.0 Queued");
        ck_assert(take_mail());
        ck_assert_uint_eq(mail.bytes, rows[i] + 2);
        for (size_t at = 0; at < rows[i]; at++)
            if (mail.body[at] != 'x')
                ck_abort_msg("byte %zu differs", at);
        ck_assert(memcmp(mail.body + rows[i], "\r\n", 2) == 0);
    }
    /* 160 times the bytes; were it quadratic, 25,600 times the work. */
    ck_assert_double_lt(seconds, 2000 * first + 1);
}
END_TEST

START_TEST(a6_a_text_line_beyond_the_cap)
{
    struct device *d = call_and_greet("10.0.0.9");
    start_data(d);
    say_much(d, MESSAGE_MAX_BYTES + MIB);
    ck_assert_uint_eq(d->heard, 0);
    ask(d, "\r\n.\r\n", "552 5.3.4");
    send_a_mail(d);
    ck_assert(take_mail());
}
END_TEST

/* The line; what the log must show of it. */
static const struct odd_row {
    const char *line;
    size_t bytes;
    const char *begin;
    const char *log;
} odd_rows[] = {
#define ROW(line, begin, log)                                                  \
    {                                                                          \
        line, sizeof line - 1, begin, log                                      \
    }
    ROW("EHLO a\0b\r\n", "501 5.5.2", "command=\"EHLO\""),
    ROW("EHLO \x1b[2J\r\n", "501 5.5.2", "command=\"EHLO\""),
    ROW("EHLO \x7f\r\n", "501 5.5.2", "command=\"EHLO\""),
    ROW("EHLO a\rb\r\n", "501 5.5.2", "command=\"EHLO\""),
    ROW("NOOP \xff\x80\r\n", "250 2.0.0", ""),
    ROW("MAIL FROM:<a\0@b>\r\n", "501 5.5.2", "command=\"MAIL\""),
    ROW("MAIL FROM:<a\x1b@b>\r\n", "501 5.5.2", "command=\"MAIL\""),
    ROW("MAIL FROM:<a\xff@b>\r\n", "501 5.1.7", "a\\xFF@b"),
    ROW("MAIL FROM:<\x80@b>\r\n", "501 5.1.7", "\\x80@b"),
    ROW("MAIL FROM:<%n%s%s\"@b>\r\n", "501 5.1.7", "%n%s%s\\\"@b"),
    ROW("\0\r\n", "501 5.5.2", "command=\"\""),
#undef ROW
};

START_TEST(a7_odd_bytes_in_commands)
{
    const struct odd_row *w = &odd_rows[_i];
    struct device *d = call_and_greet("10.0.0.9");
    forget_log();
    say_bytes(d, w->line, w->bytes);
    expect(d, w->begin);
    ck_assert_msg(strstr(log_text, w->log) != NULL, "%s: %s", w->line,
                  log_text);
    ask(d, MAIL, "250 2.1.0");
    ask(d, "RCPT TO:<\x1b@b>\r\n", "501 5.5.2");
    ask(d, "RCPT TO:<\xfe@b>\r\n", "501 5.1.3");
}
END_TEST

START_TEST(a7_every_byte_in_a_body)
{
    char text[256 * 4 + 2];
    size_t used = 0;
    for (int c = 0; c < 256; c++)
        if (c != '\r' && c != '\n')
            text[used++] = (char)c;
    text[used++] = '\r';
    text[used++] = '\n';
    struct device *d = call_and_greet("10.0.0.9");
    start_data(d);
    say_bytes(d, text, used);
    ask(d, ".\r\n", "250 2.0.0 Queued");
    expect_body(text + 1, used - 1); /* no text holds a NUL: it is left out */
    ck_assert_uint_eq(mail.facts, QUEUE_IS_8BIT);
}
END_TEST

/* ---- Floods of commands -------------------------------------------------- */

/* Says count lines and expects so many replies that begin so. */
static void flood(struct device *d, const char *line, unsigned count,
                  const char *begin)
{
    char lines[4096] = "";
    unsigned at_once = (unsigned)(sizeof lines - 1) / (unsigned)strlen(line);
    for (unsigned i = 0; i < at_once; i++)
        strcat(lines, line);
    for (unsigned done = 0; done < count;) {
        unsigned n = count - done < at_once ? count - done : at_once;
        say_bytes(d, lines, n * strlen(line));
        for (unsigned i = 0; i < n; i++)
            expect(d, begin);
        done += n;
        transcript[0] = '\0';
    }
}

START_TEST(a8_a_hundred_thousand_recipients)
{
    double start, first;
    struct device *d = call_and_greet("10.0.0.9");
    ask(d, MAIL, "250");
    flood(d, RCPT, RECIPIENTS_MAX, "250 2.1.5");
    forget_log();
    start = cpu_seconds();
    flood(d, RCPT, 10000, "452 4.5.3");
    first = cpu_seconds() - start;
    flood(d, RCPT, 100000 - 20000 - RECIPIENTS_MAX, "452 4.5.3");
    start = cpu_seconds();
    flood(d, RCPT, 10000, "452 4.5.3");
    ck_assert_double_lt(cpu_seconds() - start, 4 * first + 0.1);
    ck_assert_uint_eq(log_lines, 1);
    ck_assert_uint_eq(logged("too many recipients"), 1);
    ask(d, "DATA\r\n", "354");
    ask(d, "hi\r\n.\r\n", "250 2.0.0 Queued");
    ck_assert(take_mail());
    ck_assert_uint_eq(mail.recipients, RECIPIENTS_MAX);
}
END_TEST

START_TEST(recipients_one_too_many)
{
    furnish("recipients_max = 2\n");
    struct device *d = call_and_greet("10.0.0.9");
    for (int i = 0; i < 2; i++) {
        ask(d, MAIL, "250");
        ask(d, RCPT RCPT, "250 2.1.5");
        expect(d, "250 2.1.5");
        ask(d, RCPT, "452 4.5.3");
        ask(d, "DATA\r\n", "354");
        ask(d, "hi\r\n.\r\n", "250 2.0.0");
        ck_assert(take_mail());
        ck_assert_str_eq(mail.to, "b@example.net b@example.net");
    }
}
END_TEST

/* What a device may say without sending mail: the limit, then 421. */
static const struct junk_row {
    const char *lines;
    unsigned commands;
} junk_rows[] = {
    {MAIL "RSET\r\n", 2}, {"NOOP\r\n", 1},    {"VRFY x\r\n", 1},
    {"EHLO me\r\n", 1},   {"HELO me\r\n", 1}, {"HELP\r\n", 1},
    {"RSET\r\n", 1},
};

START_TEST(a9_junk_has_an_end)
{
    const struct junk_row *w = &junk_rows[_i];
    struct device *d = call_and_greet("10.0.0.9");
    unsigned replies = 1; /* EHLO was the first junk */
    for (unsigned i = 0; i < 100000 && !d->has_ended; i += w->commands) {
        const char *text;
        say_all(d, w->lines);
        for (unsigned j = 0; j < w->commands && *(text = reply(d)); j++)
            if (strncmp(text, "421 4.7.0", 9) != 0)
                replies++;
    }
    ck_assert_uint_eq(replies, CLIENT_JUNK_MAX + 1);
    ck_assert(d->has_ended);
}
END_TEST

START_TEST(a9_junk_is_forgiven_by_mail)
{
    struct device *d = call_and_greet("10.0.0.9");
    for (int i = 0; i < 3; i++) {
        flood(d, "NOOP\r\n", CLIENT_JUNK_MAX - 10, "250 2.0.0");
        send_a_mail(d);
        ck_assert(take_mail());
    }
}
END_TEST

START_TEST(a10_errors_have_an_end)
{
    static const char *const lines[] = {"XYZZY\r\n", RCPT, "DATA\r\n",
                                        "MAIL FROM:<@>\r\n", "AUTH X\r\n"};
    struct device *d = call_and_greet("10.0.0.9");
    for (unsigned i = 0; i < CLIENT_ERRORS_MAX; i++)
        ask(d, lines[i % COUNT(lines)], "50");
    ask(d, "XYZZY\r\n", "500 5.5.1");
    expect(d, "421 4.7.0 Too many errors");
    expect_end(d);
}
END_TEST

/* The same in one write: the 421 must come at once, not with the next turn
 * that something else brings about. */
START_TEST(a10_the_end_of_errors_needs_no_further_bytes)
{
    char text[2048];
    for (unsigned before = 0; before < 60; before++) {
        struct device *d = call_and_greet("10.0.0.9");
        text[0] = '\0';
        for (unsigned i = 0; i < before; i++)
            strcat(text, "NOOP\r\n");
        for (unsigned i = 0; i <= CLIENT_ERRORS_MAX; i++)
            strcat(text, "XYZZY\r\n");
        say_all(d, text);
        for (unsigned i = 0; i < before; i++)
            expect(d, "250 2.0.0");
        for (unsigned i = 0; i <= CLIENT_ERRORS_MAX; i++)
            expect(d, "500 5.5.1");
        expect(d, "421 4.7.0");
        expect_end(d);
        hang_up_device(d);
        settle(NULL);
    }
}
END_TEST

/* A list of recipients with a mistake in it, sent again and again, is no
 * reason to end a connection that does its work. */
START_TEST(a10_errors_are_forgiven_by_mail)
{
    struct device *d = call_and_greet("10.0.0.9");
    for (int i = 0; i < CLIENT_ERRORS_MAX + 5; i++) {
        ask(d, MAIL, "250 2.1.0");
        ask(d, "RCPT TO:<b@>\r\n", "550 5.1.3");
        ask(d, RCPT, "250 2.1.5");
        ask(d, "DATA\r\n", "354");
        ask(d, "hi\r\n.\r\n", "250 2.0.0 Queued");
        ck_assert(take_mail());
    }
    /* Those behind the last message count from one. */
    for (int i = 0; i < CLIENT_ERRORS_MAX; i++)
        ask(d, "XYZZY\r\n", "500 5.5.1");
    ask(d, "XYZZY\r\n", "500 5.5.1");
    expect(d, "421 4.7.0 Too many errors");
    expect_end(d);
}
END_TEST

/* ---- Sizes and full pools ------------------------------------------------ */

START_TEST(a15_the_cap_holds_while_receiving)
{
    furnish("message_max_bytes = 100000\n");
    struct device *d = call_and_greet("10.0.0.9");
    ask(d, "MAIL FROM:<a@example.com> SIZE=100001\r\n", "552 5.3.4");
    ask(d, "MAIL FROM:<a@example.com> SIZE=100\r\n", "250");
    ask(d, RCPT, "250");
    ask(d, "DATA\r\n", "354");
    say_much(d, 100001);
    /* Its room is for others from here on. */
    ck_assert_uint_eq(counts().blocks_free, QUEUE_BLOCKS);
    ck_assert_uint_eq(counts().writing, 0);
    forget_log();
    say_much(d, 100 * MIB);
    ck_assert_uint_eq(d->heard, 0);
    ask(d, "\r\n.\r\n", "552 5.3.4");
    ck_assert_uint_eq(log_lines, 1);
    expect(d, "");
    send_a_mail(d);
    ck_assert(take_mail());
}
END_TEST

START_TEST(a15_exactly_the_cap_fits)
{
    furnish("message_max_bytes = 100000\n");
    for (size_t extra = 0; extra < 2; extra++) {
        struct device *d = call_and_greet("10.0.0.9");
        ask(d, "MAIL FROM:<a@example.com> SIZE=100000\r\n", "250");
        ask(d, RCPT, "250");
        ask(d, "DATA\r\n", "354");
        say_much(d, 100000 - 2 + extra);
        ask(d, "\r\n.\r\n", extra ? "552 5.3.4" : "250 2.0.0");
        ck_assert_int_eq(take_mail(), !extra);
    }
}
END_TEST

/* A device may declare more than it sends: the rest is for others. */
START_TEST(a15_a_reservation_ends_with_the_message)
{
    struct device *d = call_and_greet("10.0.0.9");
    ask(d, "MAIL FROM:<a@example.com> SIZE=20000000\r\n", "250");
    ck_assert_uint_ge(counts().blocks_reserved, 20000000 / QUEUE_BLOCK_BYTES);
    ask(d, RCPT, "250");
    ask(d, "DATA\r\n", "354");
    ask(d, "hi\r\n.\r\n", "250 2.0.0");
    ck_assert_uint_eq(counts().messages, 1);
    ck_assert_uint_eq(counts().blocks_reserved, 0);
    ck_assert_ptr_null(queue_unsound());
    ck_assert(take_mail());
}
END_TEST

/* Commits messages of so many bytes until the queue takes no more. */
static unsigned fill_queue(uint64_t bytes_each)
{
    unsigned count = 0;
    for (;;) {
        queue_id id = queue_new("", bytes_each);
        if (id == QUEUE_NONE)
            return count;
        ck_assert(queue_add_recipient(id, "b@example.net"));
        for (uint64_t done = 0; done < bytes_each;) {
            size_t room;
            ck_assert_ptr_nonnull(queue_tail(id, QUEUE_BODY, &room));
            queue_wrote(id, QUEUE_BODY, room);
            done += room;
        }
        queue_commit(id, 0, now_ms);
        count++;
    }
}

static void empty_queue(void)
{
    queue_id id;
    while ((id = queue_due(now_ms, true)) != QUEUE_NONE) {
        struct queue_recipient r = {0};
        while (queue_next_recipient(id, &r))
            queue_settle(id, &r, QUEUE_DONE);
        ck_assert(queue_return(id, 0));
    }
}

START_TEST(queue_full_for_scans_not_for_alerts)
{
    struct device *scan = call_and_greet("10.0.0.9");
    struct device *other = call_and_greet("10.0.0.10");
    ask(scan, "MAIL FROM:<a@example.com> SIZE=25000000\r\n", "250");
    forget_log();
    for (int i = 0; i < 5; i++)
        ask(other, "MAIL FROM:<a@example.com> SIZE=25000000\r\n", "452 4.3.1 ");
    ck_assert_uint_eq(log_lines, 1);
    ck_assert_uint_eq(logged("the queue is full"), 1);
    send_a_mail(other);
    ck_assert(take_mail());
    /* The promise at MAIL holds, whatever others do meanwhile. */
    fill_queue(QUEUE_SMALL_BYTES);
    ask(scan, RCPT, "250");
    ask(scan, "DATA\r\n", "354");
    say_much(scan, 23 * MIB);
    ask(scan, "\r\n.\r\n", "250 2.0.0 Queued");
    empty_queue();
    ask(other, "MAIL FROM:<a@example.com> SIZE=25000000\r\n", "250");
}
END_TEST

START_TEST(queue_full_in_a_message_of_unknown_size)
{
    struct device *d = call_and_greet("10.0.0.9");
    ck_assert_uint_gt(fill_queue(MIB), 10);
    ck_assert_uint_ge(counts().blocks_free, QUEUE_SMALL_BLOCKS);
    start_data(d);
    for (int i = 0; i < 64; i++) {
        say_much(d, 65536);
        /* What is kept for alerts is kept while a scan comes in, too. */
        struct queue_counts n = counts();
        ck_assert_uint_ge(n.blocks_free, QUEUE_SMALL_BLOCKS);
    }
    ck_assert_uint_eq(d->heard, 0);
    ask(d, "\r\n.\r\n", "452 4.3.1 ");
    /* A small one fits still, over the same connection. */
    send_a_mail(d);
    empty_queue();
    start_data(d);
    say_much(d, 4 * MIB);
    ask(d, "\r\n.\r\n", "250 2.0.0 Queued");
    empty_queue();
}
END_TEST

START_TEST(queue_full_to_the_last_block)
{
    struct device *d = call_and_greet("10.0.0.9");
    fill_queue(QUEUE_SMALL_BYTES);
    fill_queue(0);
    ask(d, MAIL, "452 4.3.1 ");
    ask(d, RCPT, "503 5.5.1");
    ck_assert_uint_le(counts().blocks_free, 1);
    empty_queue();
    send_a_mail(d);
    ck_assert(take_mail());
}
END_TEST

START_TEST(queue_full_at_rcpt)
{
    char line[300];
    unsigned taken = 0;
    struct device *d = call_and_greet("10.0.0.9");
    ask(d, MAIL, "250");
    fill_queue(QUEUE_SMALL_BYTES);
    fill_queue(0);
    snprintf(line, sizeof line, "RCPT TO:<b@%0*d.%0*d.%0*d>\r\n", 60, 1, 60, 2,
             60, 3);
    for (;; taken++) {
        say_all(d, line);
        if (strncmp(reply(d), "250 2.1.5", 9) != 0)
            break;
    }
    ck_assert_uint_gt(taken, 5);
    ck_assert_uint_lt(taken, RECIPIENTS_MAX);
    ask(d, line, "452 4.3.1 ");
    /* The body keeps what it was promised at MAIL: a block. */
    ask(d, "DATA\r\n", "354");
    say_much(d, 2 * QUEUE_BLOCK_BYTES);
    ask(d, "\r\n.\r\n", "452 4.3.1 ");
    ask(d, MAIL, "250");
    ask(d, RCPT, "250");
    ask(d, "DATA\r\n", "354");
    ask(d, "hi\r\n.\r\n", "250 2.0.0 Queued");
    empty_queue();
    send_a_mail(d);
    ck_assert(take_mail());
}
END_TEST

/* Who pipelines its DATA goes by the last reply: 503 would be for good, 452
 * is what it was. */
START_TEST(queue_full_is_said_at_data_too)
{
    struct device *d = call_and_greet("10.0.0.9");
    fill_queue(0);
    fill_queue(QUEUE_SMALL_BYTES);
    say_all(d, MAIL RCPT "DATA\r\n");
    expect(d, "452 4.3.1 ");
    expect(d, "503 5.5.1");
    expect(d, "452 4.3.1 ");
    /* It is no error of the device's, however often it tries. */
    for (int i = 0; i < CLIENT_ERRORS_MAX + 5; i++)
        ask(d, "DATA\r\n", "452 4.3.1 ");
    ask(d, "RSET\r\n", "250");
    ask(d, "DATA\r\n", "503 5.5.1");
    empty_queue();
    send_a_mail(d);
    ck_assert(take_mail());
    ask(d, "DATA\r\n", "503 5.5.1");
}
END_TEST

START_TEST(queue_full_of_messages)
{
    struct device *d = call_and_greet("10.0.0.9");
    ck_assert_uint_eq(fill_queue(0), QUEUE_MESSAGES);
    ask(d, MAIL, "452 4.3.1 ");
    ck_assert_uint_gt(counts().blocks_free, QUEUE_BLOCKS / 2);
    ck_assert(take_mail());
    send_a_mail(d);
    ask(d, MAIL, "452 4.3.1 ");
    empty_queue();
    send_a_mail(d);
    ck_assert(take_mail());
}
END_TEST

static void fill_house(struct device *all[CLIENTS_MAX])
{
    for (unsigned i = 0; i < CLIENTS_MAX; i++) {
        all[i] = call_number(i);
        settle(all[i]);
        expect(all[i], "220 ");
    }
    ck_assert_uint_eq(smtp_in_clients(), CLIENTS_MAX);
}

START_TEST(client_slots_gone)
{
    struct device *all[CLIENTS_MAX], *d;
    fill_house(all);
    forget_log();
    for (int i = 0; i < 100; i++) {
        d = call("10.0.0.9");
        settle(d);
        expect(d, "421 4.3.2");
        expect_end(d);
        hang_up_device(d);
    }
    ck_assert_uint_eq(log_lines, 1);
    ck_assert_uint_eq(logged("Too many connections"), 1);
    ask(all[7], "QUIT\r\n", "221 2.0.0");
    hang_up_device(all[7]);
    settle(NULL);
    d = call_and_greet("10.0.0.9");
    send_a_mail(d);
    ck_assert(take_mail());
    /* The flood is told of again after ten seconds; nobody is so lazy that
     * he gives way. */
    for (int second = 0; second < 10; second++) {
        now_ms += 1000;
        for (unsigned i = 0; i < CLIENTS_MAX; i++)
            if (i != 7)
                ask(all[i], "NOOP\r\n", "250");
        ask(d, "NOOP\r\n", "250");
        call("10.0.0.10");
        ck_assert_uint_eq(logged("Too many connections"), second < 9 ? 1 : 2);
    }
}
END_TEST

START_TEST(clients_of_one_address)
{
    struct device *d, *last = NULL;
    for (int i = 0; i < CLIENTS_PER_ADDRESS; i++) {
        last = call("10.0.0.9");
        settle(last);
        expect(last, "220 ");
    }
    d = call("::ffff:10.0.0.9");
    settle(d);
    expect(d, "421 4.7.0");
    expect_end(d);
    d = call_and_greet("10.0.0.10");
    send_a_mail(d);
    ck_assert(take_mail());
    hang_up_device(last);
    settle(NULL);
    d = call_and_greet("10.0.0.9");
    send_a_mail(d);
    ck_assert(take_mail());
}
END_TEST

/* ---- Deadlines ----------------------------------------------------------- */

/* Not a moment sooner; and the loop was asked to wake then. */
static void expect_cut_in(struct device *d, int64_t ms, const char *begin)
{
    settle(d);
    ck_assert_int_eq(wake_ms, now_ms + ms);
    pass(ms - 1, d);
    ck_assert_uint_eq(d->heard, 0);
    ck_assert(!d->has_ended);
    pass(1, d);
    expect(d, begin);
    expect_end(d);
}

static const char *const to_state[] = {"", "EHLO me\r\n", MAIL, RCPT};

static struct device *call_to_state(unsigned state)
{
    struct device *d = call("10.0.0.9");
    settle(d);
    expect(d, "220 ");
    for (unsigned i = 1; i <= state && i < COUNT(to_state); i++)
        ask(d, to_state[i], "250");
    return d;
}

START_TEST(idle_deadline_in_each_state)
{
    struct device *d = call_to_state((unsigned)_i);
    pass(1000, d);
    forget_log();
    expect_cut_in(d, IDLE_MS - 1000, "421 4.4.2 Waited");
    ck_assert_uint_eq(logged("silent for too long"), 1);
}
END_TEST

START_TEST(idle_deadline_starts_anew_with_each_command)
{
    struct device *d = call_to_state(1);
    for (int i = 0; i < 2; i++) {
        pass(IDLE_MS - 1, d);
        ask(d, "NOOP\r\n", "250");
    }
    expect_cut_in(d, IDLE_MS, "421 4.4.2");
}
END_TEST

/* Commands without end, and never a message: a slot, and what MAIL reserved,
 * are not held for ever. */
START_TEST(patience_ends_whatever_is_said)
{
    struct device *d = call_and_greet("10.0.0.9");
    ask(d, "MAIL FROM:<a@example.com> SIZE=20000000\r\n", "250");
    for (int second = 0; second < CLIENT_PATIENCE_SECONDS - 100; second += 50) {
        pass(50000, d);
        ask(d, RCPT, "250");
    }
    expect_cut_in(d, 100000, "421 4.4.2 Waited");
    ck_assert_uint_eq(counts().blocks_reserved, 0);
    d = call_and_greet("10.0.0.9");
    for (int i = 0; i < 40; i++) { /* who sends mail may stay */
        pass(50000, d);
        send_a_mail(d);
        ck_assert(take_mail());
    }
}
END_TEST

/* No slot is left: whoever was lazy for two seconds makes room. */
START_TEST(the_laziest_makes_room)
{
    struct device *all[CLIENTS_MAX], *d;
    fill_house(all);
    now_ms += CLIENT_EVICT_SECONDS * 1000 - 1;
    d = call("10.0.0.9");
    settle(d);
    expect(d, "421 4.3.2");
    for (unsigned i = 1; i < CLIENTS_MAX; i++)
        ask(all[i], "NOOP\r\n", "250");
    now_ms += 1;
    d = call_and_greet("10.0.0.9");
    settle(all[0]);
    expect(all[0], "421 4.4.2");
    expect_end(all[0]);
    ck_assert_uint_eq(smtp_in_clients(), CLIENTS_MAX);
    send_a_mail(d);
    ck_assert(take_mail());
}
END_TEST

START_TEST(idle_deadline_while_crowded)
{
    struct device *all[CROWD];
    for (unsigned i = 0; i < CROWD - 1; i++) {
        all[i] = call_number(i);
        settle(all[i]);
        expect(all[i], "220 ");
    }
    pass(CROWDED_MS * 2, all[0]);
    ck_assert(!all[0]->has_ended);
    /* One more, and they are a crowd. */
    all[CROWD - 1] = call_number(CROWD);
    settle(all[CROWD - 1]);
    expect(all[CROWD - 1], "220 ");
    ck_assert_uint_eq(smtp_in_clients(), CROWD);
    settle(all[0]);
    expect(all[0], "421 4.4.2");
    ck_assert(!all[CROWD - 1]->has_ended);
    pass(CROWDED_MS - 1, all[CROWD - 1]);
    ck_assert(!all[CROWD - 1]->has_ended);
}
END_TEST

START_TEST(bye_lasts_two_seconds)
{
    struct device *d = call_to_state(3);
    ask(d, "QUIT\r\n", "221");
    expect_end(d);
    ck_assert_int_eq(wake_ms, now_ms + BYE_MS);
    ck_assert_uint_eq(smtp_in_clients(), 1);
    /* It may go on talking; nobody listens. */
    push(d, MAIL RCPT "DATA\r\nhi\r\n.\r\n", strlen(MAIL RCPT) + 12);
    pass(BYE_MS - 1, NULL);
    ck_assert_uint_eq(smtp_in_clients(), 1);
    pass(1, NULL);
    ck_assert_uint_eq(smtp_in_clients(), 0);
}
END_TEST

START_TEST(bye_ends_when_the_device_hangs_up)
{
    struct device *d = call_to_state(1);
    ask(d, "QUIT\r\n", "221");
    hang_up_device(d);
    settle(NULL);
    ck_assert_uint_eq(smtp_in_clients(), 0);
}
END_TEST

/* So many bytes each second; when it is cut. */
static const struct rate_row {
    size_t bytes;
    int64_t grace_s, cut_s;
    const char *log;
} rate_rows[] = {
    {0, CLIENT_RATE_GRACE_SECONDS, 30, "after 0 bytes"},
    {1, CLIENT_RATE_GRACE_SECONDS, 31, "after 31 bytes"},
    {250, CLIENT_RATE_GRACE_SECONDS, 60, "too slow, after "},
    {400, CLIENT_RATE_GRACE_SECONDS, 150, "too slow, after "},
    {600, CLIENT_RATE_GRACE_SECONDS, 3600, "too slow, after "},
    {0, CLIENT_RATE_GRACE_CROWDED_SECONDS, 10, "after 0 bytes"},
    {250, CLIENT_RATE_GRACE_CROWDED_SECONDS, 20, "too slow, after "},
};

START_TEST(data_rate_and_whole_message)
{
    const struct rate_row *w = &rate_rows[_i];
    bool is_crowded = w->grace_s != CLIENT_RATE_GRACE_SECONDS;
    unsigned number = 0;
    struct device *d = call_and_greet("10.0.0.9");
    start_data(d);
    int64_t start_ms = now_ms, second = 0;
    forget_log();
    while (second <= w->cut_s + 2 && !d->has_ended) {
        /* The crowd comes and goes, and is there all the time. */
        for (; is_crowded && number < (second + 1) * CROWD; number++)
            call_number(number % 200);
        if (w->bytes > 0)
            say_much(d, w->bytes);
        second++;
        pass(1000, d);
        for (size_t i = 0; is_crowded && i < DEVICES_MAX; i++)
            if (&devices[i] != d)
                hang_up_device(&devices[i]);
        if (is_crowded && !d->has_ended)
            settle(d);
    }
    expect(d, "421 4.4.2 The message comes too slowly");
    expect_end(d);
    int64_t cut_s = (now_ms - start_ms) / 1000;
    ck_assert_int_ge(cut_s, w->cut_s);
    ck_assert_int_le(cut_s, w->cut_s + 1);
    ck_assert_msg(logged(w->log) == 1, "%s", log_text);
}
END_TEST

START_TEST(data_rate_gives_credit)
{
    struct device *d = call_and_greet("10.0.0.9");
    start_data(d);
    say_much(d, 100000); /* worth 200 seconds: a pause between two pages */
    expect_cut_in(d, 230000, "421 4.4.2");
}
END_TEST

/* ---- Slow and many ------------------------------------------------------- */

/* 200 at the same moment, far more than slots. Whoever was served before goes
 * on without noticing; whoever comes new gets in as soon as somebody was lazy
 * for two seconds. */
static void drip_all(struct device *const slow[], unsigned count,
                     unsigned second)
{
    for (unsigned i = 0; i < count; i++)
        if (i % 2 == 0 || second % 20 == 0)
            push(slow[i], "x", 1);
}

static bool new_client_is_served(void)
{
    struct device *d = call("10.0.0.66");
    settle(d);
    bool is_served = d->heard > 3 && memcmp(d->text, "220", 3) == 0;
    if (is_served) {
        expect(d, "220 ");
        ask(d, "EHLO me\r\n", "250-");
        send_a_mail(d);
        ck_assert(take_mail());
    } else {
        expect(d, "421 4.3.2");
    }
    hang_up_device(d);
    settle(NULL);
    return is_served;
}

START_TEST(a18_two_hundred_slow_ones)
{
    struct device *slow[200];
    unsigned refused_s = 0;
    struct device *good = call_and_greet("10.0.0.9");
    for (unsigned i = 0; i < COUNT(slow); i++) {
        slow[i] = call_number(i);
        if (i % 2 == 0 && i < CLIENTS_MAX)
            push(slow[i], "EHLO x\r\n" MAIL RCPT "DATA\r\n",
                 strlen("EHLO x\r\n" MAIL RCPT "DATA\r\n"));
    }
    settle(NULL);
    ck_assert_uint_eq(smtp_in_clients(), CLIENTS_MAX);
    for (unsigned second = 0; second < 60; second++) {
        send_a_mail(good);
        ck_assert(take_mail());
        if (!new_client_is_served())
            refused_s = second + 1;
        drip_all(slow, COUNT(slow), second);
        pass(1000, good);
    }
    ck_assert_uint_le(refused_s, CLIENT_EVICT_SECONDS + 1);
    /* Below a crowd the longer deadlines hold again: they are let be. */
    ck_assert_uint_lt(smtp_in_clients(), CROWD);
    ck_assert_uint_ge(logged("too slow, after "), 20);
}
END_TEST

START_TEST(a18_a_drip_does_not_move_deadlines)
{
    struct device *d = call_and_greet("10.0.0.9");
    for (int i = 0; i < CLIENT_IDLE_SECONDS / 20 - 1; i++) {
        pass(20000, d);
        say_all(d, "x");
        ck_assert(!d->has_ended);
    }
    expect_cut_in(d, 20000, "421 4.4.2 Waited");
}
END_TEST

/* ---- Real connections ---------------------------------------------------- */

static uint16_t open_door(void)
{
    char line[64];
    int fd = loopback_socket(INADDR_LOOPBACK, 0);
    uint16_t port = port_of(fd);
    close(fd);
    snprintf(line, sizeof line, "listen = 127.0.0.1:%u\n", port);
    furnish(line);
    ck_assert(smtp_in_init(OUR_NAME));
    return port;
}

static void close_door(void)
{
    smtp_in_drain(now_ms);
    session_init(OUR_NAME);
    promise_init();
}

START_TEST(a19_flood_of_connections)
{
    struct device *kept[100] = {NULL};
    unsigned served = 0, refused = 0, at_once = 0;
    uint16_t port = open_door();
    for (unsigned i = 0; i < 5000; i++) {
        struct device **d = &kept[i % COUNT(kept)];
        if (*d != NULL) {
            served += (*d)->heard > 0 && (*d)->text[0] == '2';
            refused += (*d)->heard > 0 && (*d)->text[0] == '4';
            hang_up_device(*d);
        }
        *d = connect_from(0x7f010000 + i % 2500 + 1, port);
        turn();
        turn();
        hear(*d);
        if (smtp_in_clients() > at_once)
            at_once = smtp_in_clients();
    }
    ck_assert_uint_eq(at_once, CLIENTS_MAX);
    ck_assert_uint_eq(served + refused, 4900);
    ck_assert_uint_gt(served, CLIENTS_MAX);
    ck_assert_uint_gt(refused, 1000);
    for (size_t i = 0; i < COUNT(kept); i++)
        hang_up_device(kept[i]);
    settle(NULL);
    ck_assert_uint_eq(smtp_in_clients(), 0);
    struct device *d = connect_from(INADDR_LOOPBACK, port);
    settle(d);
    expect(d, "220 ");
    ask(d, "EHLO me\r\n", "250-");
    send_a_mail(d);
    ck_assert(take_mail());
    close_door();
}
END_TEST

START_TEST(a19_flood_of_one_address)
{
    struct device *d[40];
    unsigned refused = 0;
    uint16_t port = open_door();
    for (size_t i = 0; i < COUNT(d); i++) {
        d[i] = connect_from(0x7f020001, port);
        settle(d[i]);
        refused += d[i]->heard > 3 && memcmp(d[i]->text, "421 4.7.0", 9) == 0;
    }
    ck_assert_uint_eq(refused, COUNT(d) - CLIENTS_PER_ADDRESS);
    d[0] = connect_from(INADDR_LOOPBACK, port);
    settle(d[0]);
    expect(d[0], "220 ");
    close_door();
}
END_TEST

enum leaving {
    LEAVE_FIN,
    LEAVE_RST,
    LEAVE_HALF,
    LEAVINGS
};

/* Whatever has been said when the device goes; how many mails remain. */
static const struct leaving_row {
    const char *said;
    unsigned mails;
} leaving_rows[] = {
    {"", 0},
    {"EH", 0},
    {"EHLO me\r\n", 0},
    {"EHLO me\r\n" MAIL, 0},
    {"EHLO me\r\n" MAIL RCPT, 0},
    {"EHLO me\r\n" MAIL RCPT "DATA\r\n", 0},
    {"EHLO me\r\n" MAIL RCPT "DATA\r\nhi", 0},
    {"EHLO me\r\n" MAIL RCPT "DATA\r\nhi\r\n.", 0},
    {"EHLO me\r\n" MAIL RCPT "DATA\r\nhi\r\n.\r\n", 1},
    {"EHLO me\r\n" MAIL RCPT "DATA\r\nhi\r\n.\r\nQUIT\r\n", 1},
    {"EHLO me\r\nQUIT\r\n", 0},
};

START_TEST(a20_leaving_in_each_state)
{
    const struct leaving_row *w = &leaving_rows[_i];
    for (int how = 0; how < LEAVINGS; how++) {
        promise_init(); /* a reset may overtake what acknowledges our reply */
        struct device *d = call_tcp();
        say_all(d, w->said);
        if (how == LEAVE_HALF)
            shutdown(d->fd, SHUT_WR);
        else if (how == LEAVE_RST)
            reset(d);
        else
            hang_up_device(d);
        settle(how == LEAVE_HALF ? d : NULL);
        ck_assert_uint_eq(smtp_in_clients(), 0);
        ck_assert_uint_eq(counts().messages, w->mails);
        if (w->mails > 0)
            expect_body("hi\r\n", 4);
        expect_nothing_held();
        hang_up_device(d);
    }
}
END_TEST

START_TEST(a20_half_close_gets_its_replies)
{
    static const char all[] =
        "EHLO me\r\n" MAIL RCPT "DATA\r\nhi\r\n.\r\nQUIT\r\n";
    struct device *d = call_tcp();
    push(d, all, strlen(all));
    shutdown(d->fd, SHUT_WR);
    settle(d);
    expect(d, "220 ");
    expect(d, "250-");
    expect(d, "250 2.1.0");
    expect(d, "250 2.1.5");
    expect(d, "354");
    expect(d, "250 2.0.0 Queued");
    expect(d, "221");
    expect_end(d);
    expect_body("hi\r\n", 4);
}
END_TEST

/* More than one turn's worth is in our buffer when the end is seen. */
START_TEST(a20_half_close_behind_many_commands)
{
    struct device *d = call_tcp();
    push(d, "EHLO me\r\n" MAIL, strlen("EHLO me\r\n" MAIL));
    for (int i = 0; i < 120; i++)
        push(d, RCPT, strlen(RCPT));
    push(d, "DATA\r\nhi\r\n.\r\nQUIT\r\n", 20);
    shutdown(d->fd, SHUT_WR);
    settle(d);
    for (int i = 0; i < 3 + 120; i++)
        ck_assert_str_ne(reply(d), "");
    expect(d, "354");
    expect(d, "250 2.0.0 Queued");
    expect(d, "221");
    expect_end(d);
    expect_body("hi\r\n", 4);
    ck_assert_uint_eq(mail.recipients, RECIPIENTS_MAX);
}
END_TEST

START_TEST(a20_half_close_without_quit_gets_its_replies)
{
    static const char all[] = "EHLO me\r\n" MAIL RCPT "DATA\r\nhi\r\n.\r\n";
    struct device *d = call_tcp();
    push(d, all, strlen(all));
    shutdown(d->fd, SHUT_WR);
    settle(d);
    for (int i = 0; i < 5; i++)
        ck_assert_str_ne(reply(d), "");
    expect(d, "250 2.0.0 Queued");
    expect_end(d);
    expect_body("hi\r\n", 4);
}
END_TEST

START_TEST(a20_a_last_reply_survives_unread_bytes)
{
    struct device *d = call_tcp();
    settle(d);
    expect(d, "220 ");
    memset(page, '\n', 20000);
    push(d, "GET / HTTP/1.1\r\n", 16);
    push(d, page, 20000);
    settle(d);
    expect(d, "421 4.7.0");
    expect_end(d);
}
END_TEST

/* Two commands need more room for replies than there is; it never reads. */
START_TEST(a21_a_device_that_never_reads)
{
    int fds[2], small = 4096;
    size_t pushed = 0, last;
    struct device *d = vacant_device();
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
    setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    d->fd = fds[0];
    be_adopted(fds[1], "10.0.0.9");
    push(d, "EHLO me\r\n" MAIL, strlen("EHLO me\r\n" MAIL));
    do {
        last = pushed;
        for (int i = 0; i < 100; i++)
            pushed += push(d, RCPT, strlen(RCPT));
        settle(NULL);
    } while (pushed > last);
    ck_assert_uint_lt(pushed, MIB);
    ck_assert_uint_eq(smtp_in_clients(), 1);
    struct device *good = call_and_greet("10.0.0.10");
    send_a_mail(good);
    ck_assert(take_mail());
    hang_up_device(good);
    settle(NULL);
    pass(IDLE_MS, NULL);
    ck_assert_uint_eq(smtp_in_clients(), 1); /* a last chance for its 421 */
    ck_assert_uint_eq(counts().writing, 0);
    pass(BYE_MS, NULL);
    ck_assert_uint_eq(smtp_in_clients(), 0);
}
END_TEST

/* One that reads late, but reads, loses nothing. */
START_TEST(a21_a_device_that_reads_late)
{
    int fds[2], small = 4096;
    unsigned said = 0, heard = 0;
    struct device *d = vacant_device();
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
    setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    d->fd = fds[0];
    d->reads_late = true;
    be_adopted(fds[1], "10.0.0.9");
    push(d, "EHLO me\r\n" MAIL, strlen("EHLO me\r\n" MAIL));
    for (; said < 2000; said++)
        if (push(d, RCPT, strlen(RCPT)) != strlen(RCPT))
            break;
    settle(NULL);
    settle(d);
    while (*reply(d)) {
        heard++;
        transcript[0] = '\0';
        settle(d);
    }
    ck_assert_uint_eq(heard, said + 3);
}
END_TEST

/* ---- Drain --------------------------------------------------------------- */

START_TEST(drain_ends_the_idle_and_promises_nothing)
{
    struct device *helo = call_to_state(0), *ready = call_to_state(1);
    struct device *rcpt = call_to_state(3), *body = call_and_greet("10.0.0.8");
    struct device *refused = call_and_greet("10.0.0.7");
    start_data(body);
    say_all(body, "hi");
    ask(refused, MAIL, "250");
    smtp_in_drain(now_ms);
    settle(helo);
    expect(helo, "421 4.3.2");
    expect_end(helo);
    settle(ready);
    expect(ready, "421 4.3.2");
    expect_end(ready);
    /* A 250 now would be a promise for four seconds. */
    ask(body, "\r\n.\r\n", "451 4.3.2");
    expect_end(body);
    ask(rcpt, "DATA\r\n", "354");
    ask(rcpt, "ho\r\n.\r\n", "451 4.3.2");
    expect_end(rcpt);
    ck_assert_uint_eq(counts().messages, 0);
    ask(refused, "RSET\r\n", "250");
    ask(refused, MAIL, "421 4.3.2");
    expect_end(refused);
    session_init(OUR_NAME);
    promise_init();
}
END_TEST

START_TEST(drain_closes_the_door)
{
    uint16_t port = open_door();
    struct device *d = connect_from(INADDR_LOOPBACK, port);
    settle(d);
    expect(d, "220 ");
    smtp_in_drain(now_ms);
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons(port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&at, sizeof at), -1);
    ck_assert_int_eq(errno, ECONNREFUSED);
    close(fd);
    settle(d);
    expect(d, "421 4.3.2");
    expect_end(d);
    session_init(OUR_NAME);
    promise_init();
}
END_TEST

static TCase *limits_case(void)
{
    TCase *c = tcase_create("limits");
    tcase_set_timeout(c, 120);
    tcase_add_checked_fixture(c, open_house, house_in_order);
    tcase_add_test(c, a5_command_lines);
    tcase_add_test(c, a5_a_command_without_an_end);
    tcase_add_test(c, a6_text_lines);
    tcase_add_test(c, a6_a_text_line_beyond_the_cap);
    tcase_add_loop_test(c, a7_odd_bytes_in_commands, 0, COUNT(odd_rows));
    tcase_add_test(c, a7_every_byte_in_a_body);
    tcase_add_test(c, a8_a_hundred_thousand_recipients);
    tcase_add_test(c, recipients_one_too_many);
    tcase_add_loop_test(c, a9_junk_has_an_end, 0, COUNT(junk_rows));
    tcase_add_test(c, a9_junk_is_forgiven_by_mail);
    tcase_add_test(c, a10_errors_have_an_end);
    tcase_add_test(c, a10_errors_are_forgiven_by_mail);
    tcase_add_test(c, a10_the_end_of_errors_needs_no_further_bytes);
    tcase_add_test(c, a15_the_cap_holds_while_receiving);
    tcase_add_test(c, a15_exactly_the_cap_fits);
    tcase_add_test(c, a15_a_reservation_ends_with_the_message);
    tcase_add_test(c, queue_full_for_scans_not_for_alerts);
    tcase_add_test(c, queue_full_in_a_message_of_unknown_size);
    tcase_add_test(c, queue_full_to_the_last_block);
    tcase_add_test(c, queue_full_at_rcpt);
    tcase_add_test(c, queue_full_is_said_at_data_too);
    tcase_add_test(c, queue_full_of_messages);
    tcase_add_test(c, client_slots_gone);
    tcase_add_test(c, clients_of_one_address);
    return c;
}

static TCase *deadlines_case(void)
{
    TCase *c = tcase_create("deadlines");
    tcase_set_timeout(c, 120);
    tcase_add_checked_fixture(c, open_house, house_in_order);
    tcase_add_loop_test(c, idle_deadline_in_each_state, 0, COUNT(to_state));
    tcase_add_test(c, idle_deadline_starts_anew_with_each_command);
    tcase_add_test(c, patience_ends_whatever_is_said);
    tcase_add_test(c, the_laziest_makes_room);
    tcase_add_test(c, idle_deadline_while_crowded);
    tcase_add_test(c, bye_lasts_two_seconds);
    tcase_add_test(c, bye_ends_when_the_device_hangs_up);
    tcase_add_loop_test(c, data_rate_and_whole_message, 0, COUNT(rate_rows));
    tcase_add_test(c, data_rate_gives_credit);
    tcase_add_test(c, a18_two_hundred_slow_ones);
    tcase_add_test(c, a18_a_drip_does_not_move_deadlines);
    tcase_add_test(c, a19_flood_of_connections);
    tcase_add_test(c, a19_flood_of_one_address);
    tcase_add_loop_test(c, a20_leaving_in_each_state, 0, COUNT(leaving_rows));
    tcase_add_test(c, a20_half_close_gets_its_replies);
    tcase_add_test(c, a20_half_close_behind_many_commands);
    tcase_add_test(c, a20_half_close_without_quit_gets_its_replies);
    tcase_add_test(c, a20_a_last_reply_survives_unread_bytes);
    tcase_add_test(c, a21_a_device_that_never_reads);
    tcase_add_test(c, a21_a_device_that_reads_late);
    tcase_add_test(c, drain_ends_the_idle_and_promises_nothing);
    tcase_add_test(c, drain_closes_the_door);
    return c;
}

Suite *suite_smtp_in_limits(void)
{
    Suite *s = suite_create("smtp_in_limits");
    suite_add_tcase(s, limits_case());
    suite_add_tcase(s, deadlines_case());
    return s;
}
