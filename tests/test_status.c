/* status: the page, and visitors who do not behave. Over 127.0.0.1, under the
 * invented clock. */
#include <signal.h>
#include <sys/wait.h>

#include "../door.h"
#include "../route.h"
#include "../status.h"
#include "talk.h"

Suite *suite_status(void);

#define ASK_MS   5000
#define REQUEST  "GET / HTTP/1.0\r\n\r\n"
#define ANSWER   "HTTP/1.0 200 OK\r\n"
#define PAGE_MAX 65536

static uint16_t port;
static char page[PAGE_MAX];

static void open_office(void)
{
    char line[64];
    int fd = loopback_socket(INADDR_LOOPBACK, 0);
    port = port_of(fd);
    close(fd);
    open_house();
    route_init();
    snprintf(line, sizeof line, "status_listen = 127.0.0.1:%u\n", port);
    furnish(line);
    status_init(now_ms);
    fds_at_start = open_fds();
}

/* As the loop of the program does: without a reason it sleeps on. */
static bool status_turn(void)
{
    poller_reset(&poller);
    status_prep(&poller, now_ms);
    wake_ms = poller.wake_ms;
    poller_wake_at(&poller, now_ms);
    poller_wait(&poller, now_ms);
    bool is_busy = wake_ms <= now_ms;
    for (int i = 0; i < poller.count; i++)
        is_busy |= poller.fds[i].revents != 0;
    if (is_busy)
        status_run(&poller, now_ms);
    return is_busy;
}

static void status_settle(void)
{
    for (int turns = 0; turns < TURNS_MAX; turns++)
        if (!status_turn())
            return;
    ck_abort_msg("the loop spins");
}

static struct device *visit(void)
{
    struct device *d = connect_from(INADDR_LOOPBACK, port);
    status_settle();
    return d;
}

/* What has come so far; true: and the relay has ended it. */
static bool read_page(struct device *d)
{
    size_t used = 0;
    for (;;) {
        ssize_t n =
            recv(d->fd, page + used, sizeof page - 1 - used, MSG_DONTWAIT);
        if (n <= 0) {
            page[used] = '\0';
            return n == 0 || errno == ECONNRESET;
        }
        used += (size_t)n;
        status_settle();
    }
}

static void ask_for(struct device *d, const char *request)
{
    push(d, request, strlen(request));
    status_settle();
}

/* Whoever was there: the next one is served at once. */
static void close_office(void)
{
    struct device *d = visit();
    ask_for(d, REQUEST);
    ck_assert(read_page(d));
    ck_assert_msg(strncmp(page, ANSWER, strlen(ANSWER)) == 0, "%s", page);
    for (size_t i = 0; i < DEVICES_MAX; i++)
        hang_up_device(&devices[i]);
    status_settle();
    ck_assert_uint_eq(open_fds(), fds_at_start);
    door_close(DOOR_STATUS);
}

/* ---- The page ------------------------------------------------------------ */

static const char *put_page(int64_t at_ms, int64_t at_s)
{
    static char text[PAGE_MAX];
    struct buf b;
    buf_init(&b, text, sizeof text - 1);
    status_put_page(&b, at_ms, at_s);
    ck_assert(!b.overflow);
    text[buf_len(&b)] = '\0';
    return text;
}

static void expect_on(const char *text, const char *part)
{
    ck_assert_msg(strstr(text, part) != NULL, "%s is not in: %s", part, text);
}

START_TEST(an_empty_house)
{
    const char *text = put_page(now_ms + 61000, 0);
    expect_on(text, "lanpost " LANPOST_VERSION ", up for 61 s\n");
    expect_on(text, "\nsmarthost  127.0.0.1:9\n");
    expect_on(text, "\nroute      up\n");
    expect_on(text, "\nqueue      0 waiting, 0 being sent, 0 in doubt, 0 being "
                    "written, 0 devices wait for their answer\n");
    expect_on(text, "\n           32768 of 32768 KiB free\n");
    expect_on(text, "\npower cut  0 messages would be lost by a power cut "
                    "now\n");
    expect_on(text, "\nNo device has called yet.\n");
}
END_TEST

START_TEST(ages)
{
    static const struct {
        int64_t age_s;
        const char *text;
    } rows[] = {
        {-5, "up for 0 s\n"},
        {0, "up for 0 s\n"},
        {119, "up for 119 s\n"},
        {120, "up for 2 min\n"},
        {7199, "up for 119 min\n"},
        {7200, "up for 2 h 0 min\n"},
        {172799, "up for 47 h 59 min\n"},
        {172800, "up for 2 days\n"},
        {86400000, "up for 1000 days\n"},
    };
    for (size_t i = 0; i < COUNT(rows); i++)
        expect_on(put_page(now_ms + rows[i].age_s * 1000, 0), rows[i].text);
}
END_TEST

START_TEST(what_became_of_each_device)
{
    struct ip_address good, bad;
    ck_assert(ip_parse("192.168.1.5", &good));
    ck_assert(ip_parse("fd00::9", &bad));
    clients_note_mail(&good, 1000000);
    clients_note_mail(&good, 1000060);
    clients_note_failure(&bad, "its address is odd", "call it otherwise",
                         1000000);
    route_failed(30000, "the smarthost refuses our login", "look there",
                 now_ms);
    const char *text = put_page(now_ms, 1000120);
    expect_on(text, "\n192.168.1.5\n  last mail     60 s ago, 2 that day\n");
    expect_on(text, "\nfd00::9\n  last failure  2 min ago: its address is odd\n"
                    "  advice        call it otherwise\n");
    const char *rest = strstr(text, "\nroute      rests for ");
    ck_assert_ptr_nonnull(rest);
    int rest_s = atoi(rest + 22);
    ck_assert_int_ge(rest_s, 30);
    ck_assert_int_le(rest_s, 36); /* a fifth more by chance */
    expect_on(rest, " s: the smarthost refuses our login\nadvice     look "
                    "there\n");
    ck_assert_ptr_null(strstr(text, "No device"));
    clients_note_failure(&good, "silent for too long", NULL, 1000119);
    expect_on(put_page(now_ms, 1000120),
              "2 that day\n  last failure  1 s ago: silent for too long\n");
    route_init();
}
END_TEST

/* All rows at their longest: none is left out of what is sent. */
START_TEST(a_full_table_fits_the_answer)
{
    char why[CLIENT_WHY_BYTES], advice[CLIENT_ADVICE_BYTES], text[64];
    memset(why, 'w', sizeof why - 1);
    memset(advice, 'a', sizeof advice - 1);
    why[sizeof why - 1] = advice[sizeof advice - 1] = '\0';
    for (unsigned i = 0; i < CLIENTS_REMEMBERED; i++) {
        struct ip_address a;
        snprintf(text, sizeof text, "fd00:1111:2222:3333:4444:5555:6666:%x",
                 0x1000 + i);
        ck_assert(ip_parse(text, &a));
        for (int k = 0; k < 1000; k++)
            clients_note_mail(&a, 1000000);
        clients_note_failure(&a, why, advice, 1000000);
    }
    struct device *d = visit();
    ask_for(d, REQUEST);
    ck_assert(read_page(d));
    unsigned rows = 0;
    for (const char *at = page; (at = strstr(at, advice)) != NULL; at++)
        rows++;
    ck_assert_uint_eq(rows, CLIENTS_REMEMBERED);
}
END_TEST

/* ---- Visitors ------------------------------------------------------------ */

/* What is asked; how the answer begins. */
static const struct request_row {
    const char *request, *begin;
} request_rows[] = {
    {REQUEST, ANSWER},
    {"GET / HTTP/1.1\r\nHost: localhost:8025\r\nUser-Agent: x\r\n\r\n", ANSWER},
    {"GET / HTTP/1.0\n\n", ANSWER},
    {"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", "HTTP/1.0 404 "},
    {"GET /favicon.ico HTTP/1.1\r\n\r\n", "HTTP/1.0 404 "},
    {"GET /../../etc/passwd HTTP/1.0\r\n\r\n", "HTTP/1.0 404 "},
    {"GET /\r\n\r\n", "HTTP/1.0 404 "},
    {"EHLO me\r\n", "HTTP/1.0 404 "},
    {"\r\n", "HTTP/1.0 404 "},
};

START_TEST(requests)
{
    const struct request_row *w = &request_rows[_i];
    for (int is_half = 0; is_half < 2; is_half++) {
        struct device *d = visit();
        push(d, w->request, strlen(w->request));
        if (is_half)
            shutdown(d->fd, SHUT_WR);
        status_settle();
        ck_assert_msg(read_page(d), "it is kept waiting for its end");
        ck_assert_msg(strncmp(page, w->begin, strlen(w->begin)) == 0, "%s",
                      page);
        ck_assert_ptr_nonnull(strstr(page, "\r\nConnection: close\r\n"));
        ck_assert_ptr_nonnull(strstr(page, "\r\n\r\n"));
        ck_assert_int_eq(strstr(page, "\nqueue ") != NULL,
                         *w->begin == 'H' && w->begin[9] == '2');
        hang_up_device(d);
        status_settle();
    }
}
END_TEST

START_TEST(a_browser_with_many_header_lines)
{
    static char request[8192];
    size_t used = (size_t)sprintf(request, "GET / HTTP/1.1\r\n");
    while (used < 6000)
        used += (size_t)sprintf(request + used, "X-Cookie: yes\r\n");
    strcpy(request + used, "\r\n");
    struct device *d = visit();
    ask_for(d, request);
    ck_assert(read_page(d));
    ck_assert_msg(strncmp(page, ANSWER, strlen(ANSWER)) == 0, "%s", page);
}
END_TEST

START_TEST(no_request)
{
    struct device *d = visit();
    ck_assert_int_eq(wake_ms, now_ms + ASK_MS);
    now_ms += ASK_MS - 1;
    status_settle();
    ck_assert(!read_page(d));
    now_ms += 1;
    status_settle();
    ck_assert(read_page(d));
    ck_assert_str_eq(page, "");
}
END_TEST

START_TEST(a_byte_a_second)
{
    struct device *d = visit();
    for (int second = 0; second < ASK_MS / 1000; second++) {
        ck_assert(!read_page(d));
        ask_for(d, "G");
        now_ms += 1000;
    }
    status_settle();
    ck_assert(read_page(d));
    ck_assert_str_eq(page, "");
}
END_TEST

START_TEST(a_line_without_an_end)
{
    char line[2048];
    memset(line, 'x', sizeof line - 1);
    line[sizeof line - 1] = '\0';
    struct device *d = visit();
    ask_for(d, line);
    ck_assert(read_page(d));
    ck_assert_str_eq(page, "");
}
END_TEST

START_TEST(who_asks_and_hangs_up)
{
    for (int i = 0; i < 10; i++) {
        struct device *d = visit();
        if (i % 2)
            push(d, REQUEST, strlen(REQUEST));
        if (i % 3)
            reset(d);
        else
            hang_up_device(d);
        status_settle();
        ck_assert_uint_eq(open_fds(), fds_at_start);
    }
}
END_TEST

START_TEST(who_does_not_go)
{
    struct device *d = visit();
    ask_for(d, REQUEST);
    ck_assert(read_page(d));
    for (int second = 0; second < ASK_MS / 1000; second++) {
        ask_for(d, "more\r\n");
        now_ms += 1000;
    }
    status_settle();
    ck_assert_uint_eq(open_fds(), fds_at_start + 1); /* its own end */
}
END_TEST

START_TEST(too_many_visitors)
{
    struct device *all[STATUS_SLOTS + 10];
    for (size_t i = 0; i < COUNT(all); i++)
        all[i] = visit();
    for (size_t i = 0; i < COUNT(all); i++)
        ck_assert_int_eq(read_page(all[i]), i >= STATUS_SLOTS);
    for (size_t i = 0; i < STATUS_SLOTS; i++) {
        ask_for(all[i], REQUEST);
        ck_assert(read_page(all[i]));
        ck_assert(strncmp(page, ANSWER, strlen(ANSWER)) == 0);
    }
    /* those that are silent give way in time */
    for (size_t i = 0; i < COUNT(all); i++)
        hang_up_device(all[i]);
    status_settle();
    for (size_t i = 0; i < STATUS_SLOTS; i++)
        visit();
    now_ms += ASK_MS;
    status_settle();
}
END_TEST

/* ---- Who asks ------------------------------------------------------------ */

static pid_t serve_for_a_while(void)
{
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child > 0)
        return child;
    for (int64_t end_ms = clock_ms() + 4000; clock_ms() < end_ms;) {
        poller_reset(&poller);
        status_prep(&poller, now_ms);
        poller.wake_ms = now_ms + 50;
        poller_wait(&poller, now_ms);
        status_run(&poller, now_ms);
    }
    _exit(0);
}

START_TEST(lanpost_status)
{
    struct ip_endpoint at = {.port = port};
    const char *why = "";
    char *text = NULL;
    size_t count = 0;
    ck_assert(ip_parse("127.0.0.1", &at.address));
    pid_t child = serve_for_a_while();
    FILE *out = open_memstream(&text, &count);
    int64_t start_ms = clock_ms();
    bool is_good = status_ask(&at, out, &why);
    int64_t took_ms = clock_ms() - start_ms;
    fclose(out);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    ck_assert_msg(is_good, "%s", why);
    ck_assert_msg(strncmp(text, "lanpost ", 8) == 0, "%s", text);
    expect_on(text, "\nNo device has called yet.\n");
    free(text);
    ck_assert_int_lt(took_ms, 2000);
}
END_TEST

START_TEST(lanpost_status_where_nobody_is)
{
    struct ip_endpoint at = {.port = 1};
    const char *why = "";
    ck_assert(ip_parse("127.0.0.1", &at.address));
    ck_assert(!status_ask(&at, stdout, &why));
    ck_assert_str_eq(why, "Connection refused");
}
END_TEST

START_TEST(lanpost_status_where_somebody_else_is)
{
    struct ip_endpoint at;
    const char *why = "";
    int listener = loopback_socket(INADDR_LOOPBACK, 0);
    ck_assert_int_eq(listen(listener, 1), 0);
    at.port = port_of(listener);
    ck_assert(ip_parse("127.0.0.1", &at.address));
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        int fd = accept(listener, NULL, NULL);
        ssize_t n = write(fd, "220 smtp\r\n", 10);
        _exit(n == 10 ? 0 : 1);
    }
    bool is_good = status_ask(&at, stdout, &why);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    close(listener);
    ck_assert(!is_good);
    ck_assert_ptr_nonnull(strstr(why, "not lanpost"));
}
END_TEST

START_TEST(a_door_that_is_taken_is_a_line_in_the_log)
{
    char line[64];
    int listener = loopback_socket(INADDR_LOOPBACK, 0);
    ck_assert_int_eq(listen(listener, 1), 0);
    snprintf(line, sizeof line, "status_listen = 127.0.0.1:%u\n",
             port_of(listener));
    furnish(line);
    forget_log();
    status_init(now_ms);
    ck_assert_uint_eq(logged("set another status_listen"), 1);
    close(listener);
}
END_TEST

Suite *suite_status(void)
{
    Suite *s = suite_create("status");
    TCase *c = tcase_create("status");
    tcase_set_timeout(c, 60);
    tcase_add_checked_fixture(c, open_office, close_office);
    tcase_add_test(c, an_empty_house);
    tcase_add_test(c, ages);
    tcase_add_test(c, what_became_of_each_device);
    tcase_add_test(c, a_full_table_fits_the_answer);
    tcase_add_loop_test(c, requests, 0, COUNT(request_rows));
    tcase_add_test(c, a_browser_with_many_header_lines);
    tcase_add_test(c, no_request);
    tcase_add_test(c, a_byte_a_second);
    tcase_add_test(c, a_line_without_an_end);
    tcase_add_test(c, who_asks_and_hangs_up);
    tcase_add_test(c, who_does_not_go);
    tcase_add_test(c, too_many_visitors);
    tcase_add_test(c, lanpost_status);
    tcase_add_test(c, lanpost_status_where_nobody_is);
    tcase_add_test(c, lanpost_status_where_somebody_else_is);
    tcase_add_test(c, a_door_that_is_taken_is_a_line_in_the_log);
    suite_add_tcase(s, c);
    return s;
}
