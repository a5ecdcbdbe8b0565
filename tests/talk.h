/* talk: the device's side of dialogues with smtp_in, for its tests.
 *
 * Devices sit at one end of a socketpair, smtp_in at the other. The clock is
 * invented: no test sleeps through a timeout. Every reply that any test hears
 * passes the same check of its form (RFC 5321 section 4.2, RFC 2034), and
 * every turn is watched for a loop that would spin. */
#ifndef LANPOST_TALK_H
#define LANPOST_TALK_H

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../clients.h"
#include "../config.h"
#include "../log.h"
#include "../poller.h"
#include "../queue.h"
#include "../settings.h"
#include "../smtp_in.h"
#include "../smtp_session.h"

#define OUR_NAME    "relay.test"
#define DEVICES_MAX 320
#define TURNS_MAX   2000 /* in a row, with work in each: more is a spin */
#define COUNT(a)    (sizeof(a) / sizeof *(a))

/* Scripts: '>' the device says it; '<' the next reply begins so; '/' the
 * device shuts its side; '.' the relay has. A zero row ends a script. */
struct talk {
    char who;
    const char *text;
};

enum feed {
    FEED_STEPS,   /* each '>' in one write */
    FEED_BYTES,   /* each byte in a write of its own */
    FEED_AT_ONCE, /* all '>' in one write, before any reply is read */
    FEEDS
};

struct device {
    int fd;       /* 0: vacant */
    void *inside; /* what it speaks through, TLS; NULL: plain. The three with
                     it do as recv, send and close do */
    ssize_t (*receive)(struct device *d, void *data, size_t room);
    ssize_t (*send)(struct device *d, const void *data, size_t count);
    void (*leave)(struct device *d);
    bool has_ended;
    bool was_reset;
    bool is_greeted;
    bool reads_late; /* may be handed half a reply */
    size_t heard;
    char text[32768]; /* heard, not yet taken as replies */
};

static struct device devices[DEVICES_MAX];
static struct poller poller;
static int64_t now_ms;
static int64_t wake_ms; /* what smtp_in asked for in the last turn */
static char transcript[65536];
static char log_text[65536];
static unsigned log_lines;
static unsigned fds_at_start;

/* ---- The house ----------------------------------------------------------- */

static inline void keep_log(const char *line)
{
    size_t used = strlen(log_text);
    log_lines++;
    for (const char *c = line; *c; c++)
        ck_assert_msg(*c >= ' ' && *c < 0x7f, "unclean log: %s", line);
    snprintf(log_text + used, sizeof log_text - used, "%s\n", line);
}

static inline void forget_log(void)
{
    log_text[0] = '\0';
    log_lines = 0;
}

static inline unsigned logged(const char *part)
{
    unsigned count = 0;
    for (const char *at = log_text; (at = strstr(at, part)) != NULL; at++)
        count++;
    return count;
}

static inline unsigned open_fds(void)
{
    unsigned count = 0;
    DIR *dir = opendir("/proc/self/fd");
    ck_assert_ptr_nonnull(dir);
    while (readdir(dir) != NULL)
        count++;
    closedir(dir);
    return count;
}

/* The least that is needed. There may be a certificate, of a test before this
 * one in the same process: plain dialogues are to be plain all the same. */
#define HOUSE_RULES                                                            \
    "smarthost = 127.0.0.1:9\nsmarthost_tls = none\n"                          \
    "ack_wait_seconds = 0\n"
#define HOUSE_IS_PLAIN "tls_detect_ms = 0\nno_starttls_to = 0.0.0.0/0 ::/0\n"
static const char *house_rules = HOUSE_RULES HOUSE_IS_PLAIN;

/* Settings beyond them. */
static inline void furnish(const char *lines)
{
    char text[4096], error[SETTINGS_ERROR_BYTES] = "";
    int n = snprintf(text, sizeof text, "%s%s", house_rules, lines);
    ck_assert_msg(settings_load_text("test", text, (size_t)n, error), "%s",
                  error);
}

static inline void open_house(void)
{
    now_ms +=
        100000000; /* never back: some things happen once in ten seconds */
    transcript[0] = '\0';
    forget_log();
    log_to(keep_log);
    furnish("");
    queue_init();
    clients_init();
    promise_init();
    session_init(OUR_NAME);
    fds_at_start = open_fds();
}

/* ---- Devices ------------------------------------------------------------- */

static inline struct device *vacant_device(void)
{
    for (size_t i = 0; i < DEVICES_MAX; i++)
        if (devices[i].fd == 0) {
            memset(&devices[i], 0, sizeof devices[i]);
            return &devices[i];
        }
    ck_abort_msg("too many devices");
    return NULL;
}

static inline void be_adopted(int fd, const char *from)
{
    struct ip_endpoint client = {.port = 40000};
    ck_assert(ip_parse(from, &client.address));
    smtp_in_adopt(fd, &client, false, now_ms);
}

static inline struct device *call_with(int type, const char *from)
{
    int fds[2];
    struct device *d = vacant_device();
    ck_assert_int_eq(socketpair(AF_UNIX, type, 0, fds), 0);
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
    d->fd = fds[0];
    be_adopted(fds[1], from);
    return d;
}

static inline struct device *call(const char *from)
{
    return call_with(SOCK_STREAM, from);
}

static inline void hang_up_device(struct device *d)
{
    if (d->fd > 0 && d->inside != NULL)
        d->leave(d);
    if (d->fd > 0)
        close(d->fd);
    d->fd = 0;
}

/* ---- Real connections ---------------------------------------------------- */

static inline int loopback_socket(uint32_t address, uint16_t port)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons(port),
                             .sin_addr.s_addr = htonl(address)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    return fd;
}

static inline uint16_t port_of(int fd)
{
    struct sockaddr_in at;
    socklen_t length = sizeof at;
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&at, &length), 0);
    return ntohs(at.sin_port);
}

static inline struct device *connect_from(uint32_t address, uint16_t port)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons(port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct device *d = vacant_device();
    d->fd = loopback_socket(address, 0);
    ck_assert_int_eq(connect(d->fd, (struct sockaddr *)&at, sizeof at), 0);
    fcntl(d->fd, F_SETFL, O_NONBLOCK);
    return d;
}

/* TCP, which has resets and half-closes as devices have them. */
static inline struct device *call_tcp(void)
{
    int listener = loopback_socket(INADDR_LOOPBACK, 0);
    ck_assert_int_eq(listen(listener, 1), 0);
    struct device *d = connect_from(INADDR_LOOPBACK, port_of(listener));
    int fd = accept(listener, NULL, NULL);
    ck_assert_int_ge(fd, 0);
    close(listener);
    be_adopted(fd, "127.0.0.1");
    return d;
}

static inline void reset(struct device *d)
{
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    setsockopt(d->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    hang_up_device(d);
}

/* ---- Turns --------------------------------------------------------------- */

/* Is the last line that was heard whole, and the last of its reply? */
static inline bool ends_in_reply(const struct device *d)
{
    const char *end = d->text + d->heard;
    const char *line = end - 1;
    while (line > d->text && line[-1] != '\n')
        line--;
    return end[-1] == '\n' && end - line >= 6 && line[3] == ' ';
}

/* True: something came. */
static inline bool hear(struct device *d)
{
    size_t room = sizeof d->text - 1 - d->heard;
    if (d->fd == 0 || d->has_ended)
        return false;
    ck_assert_msg(room > 0, "replies that nobody takes");
    ssize_t n = d->inside != NULL
                    ? d->receive(d, d->text + d->heard, room)
                    : recv(d->fd, d->text + d->heard, room, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        return false;
    if (n <= 0) {
        d->has_ended = true;
        d->was_reset = n < 0;
        return true;
    }
    d->heard += (size_t)n;
    d->text[d->heard] = '\0';
    ck_assert_msg(d->reads_late || ends_in_reply(d) || (size_t)n == room,
                  "half a reply in a turn: %s", d->text);
    return true;
}

/* True: there was something to do. Without, the relay would sleep on: what it
 * forgot to wake for stays undone here too. */
static inline bool turn(void)
{
    poller_reset(&poller);
    smtp_in_prep(&poller, now_ms);
    wake_ms = poller.wake_ms;
    poller_wake_at(&poller, now_ms);
    poller_wait(&poller, now_ms);
    bool is_busy = wake_ms <= now_ms;
    for (int i = 0; i < poller.count; i++)
        is_busy |= poller.fds[i].revents != 0;
    if (is_busy)
        smtp_in_run(&poller, now_ms);
    return is_busy;
}

/* Turns until all is quiet; d may be NULL. */
static inline void settle(struct device *d)
{
    for (int turns = 0; turns < TURNS_MAX; turns++) {
        bool is_busy = turn();
        if (d != NULL)
            is_busy |= hear(d);
        if (!is_busy)
            return;
    }
    ck_abort_msg("the loop spins");
}

static inline void pass(int64_t ms, struct device *d)
{
    now_ms += ms;
    settle(d);
}

/* How much was taken before the device's socket was full or dead. */
static inline size_t push(struct device *d, const void *bytes, size_t count)
{
    const char *at = bytes;
    size_t done = 0;
    while (done < count) {
        ssize_t n = d->inside != NULL
                        ? d->send(d, at + done, count - done)
                        : send(d->fd, at + done, count - done, MSG_NOSIGNAL);
        if (n < 0)
            break;
        done += (size_t)n;
    }
    return done;
}

static inline void say_bytes(struct device *d, const void *bytes, size_t count)
{
    const char *at = bytes;
    for (size_t done = 0; done < count && !d->has_ended;) {
        done += push(d, at + done, count - done);
        settle(d);
    }
}

static inline void say_all(struct device *d, const char *text)
{
    say_bytes(d, text, strlen(text));
}

static inline void drip(struct device *d, const char *text)
{
    for (; *text && !d->has_ended; text++)
        say_bytes(d, text, 1);
}

/* ---- Replies ------------------------------------------------------------- */

/* One line: code, then a matching enhanced code, then clean text. Behind 334
 * stands base64 or nothing. Exempt are 354, and the greeting and HELO replies,
 * which begin with our name. */
static inline void check_line(const char *line, size_t length)
{
    static regex_t form;
    static bool is_compiled;
    char text[520];
    if (!is_compiled)
        ck_assert_int_eq(
            regcomp(&form,
                    "^\\(354 [ -~]*\\|334 [A-Za-z0-9+/=]*\\|"
                    "\\([245]\\)[0-9][0-9][ -]\\2\\.[0-9]\\{1,3\\}\\."
                    "[0-9]\\{1,3\\} [ -~]*\\)$",
                    0),
            0);
    is_compiled = true;
    ck_assert_uint_ge(length, 6);
    ck_assert_uint_le(length, 512);
    ck_assert(memcmp(line + length - 2, "\r\n", 2) == 0);
    memcpy(text, line, length - 2);
    text[length - 2] = '\0';
    ck_assert_msg(regexec(&form, text, 0, NULL, 0) == 0, "reply: %s", text);
}

static inline bool is_greeting(const char *line)
{
    return (memcmp(line, "220", 3) == 0 || memcmp(line, "250", 3) == 0) &&
           strncmp(line + 4, OUR_NAME, sizeof OUR_NAME - 1) == 0;
}

static inline void note_reply(const char *text)
{
    size_t used = strlen(transcript);
    snprintf(transcript + used, sizeof transcript - used, "%s", text);
    char *id = strstr(transcript + used, "memory as ");
    if (id != NULL)
        memset(id + 10, 'X', 8);
}

/* The next reply with all its lines, static; "" when there is none. */
static inline const char *reply(struct device *d)
{
    static char out[4096];
    size_t used = 0;
    bool is_exempt = d->heard > 4 && is_greeting(d->text);
    while (used < d->heard) {
        const char *line = d->text + used;
        const char *lf = memchr(line, '\n', d->heard - used);
        if (lf == NULL)
            return "";
        size_t length = (size_t)(lf - line) + 1;
        if (!is_exempt)
            check_line(line, length);
        used += length;
        if (line[3] == ' ')
            break;
    }
    ck_assert_uint_lt(used, sizeof out);
    memcpy(out, d->text, used);
    out[used] = '\0';
    d->heard -= used;
    memmove(d->text, d->text + used, d->heard);
    note_reply(out);
    return out;
}

/* One reply, which begins so. */
static inline void expect(struct device *d, const char *begin)
{
    const char *text = reply(d);
    ck_assert_msg(strncmp(text, begin, strlen(begin)) == 0,
                  "expected \"%s\", heard \"%s\"", begin, text);
}

/* Nothing more, and the relay has shut its side. */
static inline void expect_end(struct device *d)
{
    settle(d);
    expect(d, "");
    ck_assert_uint_eq(d->heard, 0);
    ck_assert_msg(d->has_ended, "still open");
    ck_assert_msg(!d->was_reset, "the connection was reset");
}

static inline void ask(struct device *d, const char *line, const char *begin)
{
    ck_assert_msg(d->heard == 0, "unexpected: %s", d->text);
    say_all(d, line);
    expect(d, begin);
}

/* A device that is greeted and has said EHLO. */
static inline struct device *call_and_greet(const char *from)
{
    struct device *d = call(from);
    settle(d);
    expect(d, "220 " OUR_NAME);
    ask(d, "EHLO me\r\n", "250-" OUR_NAME);
    return d;
}

static inline void start_data(struct device *d)
{
    ask(d, "MAIL FROM:<a@example.com>\r\n", "250 2.1.0 ");
    ask(d, "RCPT TO:<b@example.net>\r\n", "250 2.1.5 ");
    ask(d, "DATA\r\n", "354 ");
}

static inline void send_a_mail(struct device *d)
{
    start_data(d);
    ask(d, "Subject: x\r\n\r\nhi\r\n.\r\n", "250 2.0.0 Queued");
}

/* ---- What arrived -------------------------------------------------------- */

struct mail {
    char from[400];
    char to[4096]; /* with a blank between two */
    unsigned recipients;
    unsigned facts;
    char head[4096]; /* what we put before it */
    size_t bytes;
    uint8_t body[MESSAGE_MAX_BYTES + 4096];
};
static struct mail mail;

static inline void read_recipients(queue_id id)
{
    struct queue_recipient r = {0};
    size_t used = 0;
    mail.to[0] = '\0';
    mail.recipients = 0;
    while (queue_next_recipient(id, &r)) {
        if (used < sizeof mail.to - 1)
            used += (size_t)snprintf(mail.to + used, sizeof mail.to - used,
                                     "%s%s", used ? " " : "", r.mailbox);
        mail.recipients++;
        promise_note(id, QUEUE_DONE, "250 2.0.0 taken", NULL);
        queue_settle(id, &r, QUEUE_DONE);
    }
    ck_assert_uint_eq(mail.recipients, queue_recipients(id));
}

static inline void read_bytes(queue_id id)
{
    struct queue_reader r = {0};
    const uint8_t *at;
    size_t count, head_bytes = 0;
    mail.bytes = 0;
    while ((at = queue_read(id, &r, &count)) != NULL) {
        bool is_head = r.part == QUEUE_HEAD;
        size_t *used = is_head ? &head_bytes : &mail.bytes;
        uint8_t *to = is_head ? (uint8_t *)mail.head : mail.body;
        ck_assert_uint_lt(*used + count,
                          is_head ? sizeof mail.head : sizeof mail.body);
        memcpy(to + *used, at, count);
        *used += count;
        queue_took(&r, count);
    }
    mail.head[head_bytes] = '\0';
    ck_assert_uint_eq(strlen(mail.head), head_bytes);
    ck_assert_uint_eq(head_bytes + mail.bytes, queue_bytes(id));
}

/* Takes the message that waits longest out of the queue, into mail. */
static inline bool take_mail(void)
{
    queue_id id = queue_due(now_ms, true);
    if (id == QUEUE_NONE)
        return false;
    snprintf(mail.from, sizeof mail.from, "%s", queue_reverse_path(id));
    mail.facts = queue_facts(id);
    read_recipients(id);
    read_bytes(id);
    ck_assert(queue_return(id, 0));
    promise_returned(id, 0);
    return true;
}

static inline void expect_body(const void *bytes, size_t count)
{
    ck_assert_msg(take_mail(), "no mail arrived");
    ck_assert_msg(mail.bytes == count && memcmp(mail.body, bytes, count) == 0,
                  "%zu bytes arrived, not %zu as they should: %.*s", mail.bytes,
                  count, (int)(mail.bytes < 300 ? mail.bytes : 300), mail.body);
    ck_assert(strncmp(mail.head, "Received: from ", 15) == 0);
}

/* ---- The end of a test --------------------------------------------------- */

static inline void expect_nothing_held(void)
{
    struct queue_counts n;
    queue_count(&n);
    ck_assert_uint_eq(n.messages, 0);
    ck_assert_uint_eq(n.writing, 0);
    ck_assert_uint_eq(n.blocks_reserved, 0);
    ck_assert_uint_eq(n.blocks_free, QUEUE_BLOCKS);
    ck_assert_ptr_null(queue_unsound());
}

/* The promise behind every fault: afterwards nobody is left, nothing has
 * leaked, and the next normal mail passes. */
static inline void house_in_order(void)
{
    for (size_t i = 0; i < DEVICES_MAX; i++)
        hang_up_device(&devices[i]);
    settle(NULL);
    ck_assert_uint_eq(smtp_in_clients(), 0);
    expect_nothing_held();
    ck_assert_uint_eq(open_fds(), fds_at_start);
    struct device *d = call_and_greet("10.0.0.77");
    send_a_mail(d);
    ask(d, "QUIT\r\n", "221 2.0.0 ");
    expect_end(d);
    hang_up_device(d);
    settle(NULL);
    ck_assert_uint_eq(smtp_in_clients(), 0);
    expect_body("Subject: x\r\n\r\nhi\r\n", 18);
    expect_nothing_held();
    ck_assert_uint_eq(open_fds(), fds_at_start);
}

/* ---- Scripts ------------------------------------------------------------- */

static inline void feed_at_once(struct device *d, const struct talk *script)
{
    static char all[65536];
    all[0] = '\0';
    bool is_half = false;
    for (const struct talk *t = script; t->who; t++) {
        is_half |= t->who == '/';
        if (t->who == '>')
            strcat(all, t->text);
    }
    push(d, all, strlen(all));
    if (is_half)
        shutdown(d->fd, SHUT_WR);
    settle(d);
}

/* Plays a script; the replies are in transcript afterwards. */
static inline void play(const char *from, const struct talk *script,
                        enum feed feed)
{
    struct device *d = call(from);
    transcript[0] = '\0';
    settle(d);
    if (feed == FEED_AT_ONCE)
        feed_at_once(d, script);
    for (const struct talk *t = script; t->who; t++) {
        if (t->who == '<')
            expect(d, t->text);
        if (t->who == '.')
            expect_end(d);
        if (feed == FEED_AT_ONCE || (t->who != '>' && t->who != '/'))
            continue;
        ck_assert_msg(d->heard == 0, "unexpected: %s", d->text);
        if (t->who == '/')
            shutdown(d->fd, SHUT_WR);
        if (feed == FEED_BYTES)
            drip(d, t->text);
        else
            say_all(d, t->text);
    }
    ck_assert_msg(d->heard == 0, "unexpected: %s", d->text);
    hang_up_device(d);
    settle(NULL);
}

#endif
