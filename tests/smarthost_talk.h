/* smarthost_talk: a smarthost that the test plays itself, and the loop that
 * turns smtp_out towards it.
 *
 * Scripts of struct talk say what lanpost must send and what it is told; a
 * robot serves whatever is left, as a well-behaved smarthost would. The clock
 * is invented and only ever moves to where the poller asks to be woken, so a
 * room that forgets a deadline hangs its test instead of passing it. */
#ifndef LANPOST_SMARTHOST_TALK_H
#define LANPOST_SMARTHOST_TALK_H

#include <arpa/inet.h>
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../config.h"
#include "../dns.h"
#include "../fate.h"
#include "../log.h"
#include "../poller.h"
#include "../queue.h"
#include "../settings.h"
#include "../smtp_out.h"

#define COUNT(rows)    (sizeof(rows) / sizeof *(rows))
#define TALK_CLIENTS   8 /* connections that the robot serves side by side */
#define TALK_LISTENERS 4
#define TALK_LOGIN     "smarthost_user = me\nsmarthost_password = secret\n"
#define TALK_PLAIN     "AUTH PLAIN AG1lAHNlY3JldA==\r\n"

#define EHLO_LINE "EHLO relay.test\r\n"
#define MAIL_LINE "MAIL FROM:<a@x.test>\r\n"
#define RCPT_LINE "RCPT TO:<b@y.test>\r\n"
#define DATA_LINE "DATA\r\n"
#define BODY_TEXT "Subject: hi\r\n\r\nhello\r\n"
#define BODY_WIRE BODY_TEXT ".\r\n"
#define GREETING  "220 smart.test ESMTP\r\n"

/* One step of a dialogue:
 *   'a' lanpost connects          '>' lanpost sends exactly this
 *   '<' lanpost is told this      '=' lanpost has nothing to say
 *   'x' we close                  'r' we reset
 *   'e' lanpost ends it           't' the clock moves by so many seconds */
struct talk {
    char who;
    const char *text;
};

struct talk_client {
    int fd; /* 0: none */
    char line[8192];
    size_t used;
    bool is_in_body;
    unsigned messages;
};

static struct {
    int listeners[TALK_LISTENERS];
    unsigned addresses;
    uint16_t port;
    int fd; /* of the script's connection; -1: none */
    char got[262144];
    size_t got_bytes;
    bool is_byte_wise;
    int64_t now_ms;
    struct poller p;
    char log[1 << 20];
    size_t log_bytes;
    char hosts[64], resolv[64];
    unsigned fds_before;
    /* The robot's. */
    struct talk_client clients[TALK_CLIENTS];
    const char *extensions;
    const char *(*rule)(struct talk_client *c, const char *line);
    unsigned connections, peak, delivered;
    char last_body[8192];
} talk;

/* ---- Log ----------------------------------------------------------------- */

static inline void talk_take_log(const char *line)
{
    size_t length = strlen(line);
    ck_assert(talk.log_bytes + length + 2 < sizeof talk.log);
    memcpy(talk.log + talk.log_bytes, line, length);
    talk.log_bytes += length;
    memcpy(talk.log + talk.log_bytes, "\n", 2);
    talk.log_bytes++;
}

static inline unsigned talk_logged(const char *text)
{
    unsigned count = 0;
    for (const char *at = talk.log; (at = strstr(at, text)); at++)
        count++;
    return count;
}

static inline void talk_forget_log(void)
{
    talk.log_bytes = 0;
    talk.log[0] = '\0';
}

/* What the last line about a recipient tells: 'S'ent, 'R'efused, 'L'ater;
 * '-' when there is none. */
static inline char talk_fate(const char *mailbox)
{
    char key[300], last[LOG_LINE_BYTES] = "";
    snprintf(key, sizeof key, "rcpt=<%s>", mailbox);
    for (const char *at = talk.log; (at = strstr(at, key)); at++)
        snprintf(last, sizeof last, "%.*s", (int)strcspn(at, "\n"), at);
    const char *end = strrchr(last, '"');
    return end == NULL                         ? '-'
           : strcmp(end, "\" sent") == 0       ? 'S'
           : strcmp(end, "\" refused") == 0    ? 'R'
           : strncmp(end, "\" later ", 8) == 0 ? 'L'
                                               : '?';
}

static inline void talk_expect_fate(const char *mailbox, char fate)
{
    char found = talk_fate(mailbox);
    ck_assert_msg(found == fate, "%s: fate %c, wanted %c; log:\n%s", mailbox,
                  found, fate, talk.log);
}

static inline void talk_expect_log(const char *text, unsigned times)
{
    unsigned found = talk_logged(text);
    ck_assert_msg(found == times, "\"%s\" logged %u times, wanted %u; log:\n%s",
                  text, found, times, talk.log);
}

/* The latest rest of the route in seconds, which is by chance up to a fifth
 * longer than it must be. */
static inline int talk_expect_rest(int least_s)
{
    const char *key = "route=paused for_s=", *last = NULL;
    for (const char *at = talk.log; (at = strstr(at, key)); at++)
        last = at;
    ck_assert_msg(last != NULL, "no rest; log:\n%s", talk.log);
    int rest_s = atoi(last + strlen(key));
    ck_assert_msg(rest_s >= least_s && rest_s <= least_s + least_s / 5 + 1,
                  "%d s, wanted %d and up to a fifth more; log:\n%s", rest_s,
                  least_s, talk.log);
    return rest_s;
}

/* ---- The loop ------------------------------------------------------------ */

static inline int talk_turn(int wait_ms)
{
    poller_reset(&talk.p);
    dns_prep(&talk.p);
    smtp_out_prep(&talk.p, talk.now_ms);
    int ready = poll(talk.p.fds, (nfds_t)talk.p.count, wait_ms);
    dns_run(&talk.p, talk.now_ms);
    smtp_out_run(&talk.p, talk.now_ms);
    return ready;
}

/* Turns until there is nothing to do now. A loop that never rests is a fault
 * as much as one that never wakes. */
static inline void talk_settle(void)
{
    unsigned turns = 0;
    while (talk_turn(0) > 0 || talk.p.wake_ms <= talk.now_ms)
        ck_assert_msg(++turns < 20000, "the loop spins; log:\n%s", talk.log);
}

static inline void talk_advance_ms(int64_t ms)
{
    int64_t until_ms = talk.now_ms + ms;
    talk_settle();
    while (talk.p.wake_ms < until_ms) {
        talk.now_ms = talk.p.wake_ms;
        talk_settle();
    }
    talk.now_ms = until_ms;
    talk_settle();
}

/* To what was asked for, which is within seconds. */
static inline void talk_turn_to_next_wake(void)
{
    talk_settle();
    ck_assert_int_lt(talk.p.wake_ms, INT64_MAX);
    talk.now_ms = talk.p.wake_ms;
    talk_settle();
}

static inline void talk_advance(int64_t seconds)
{
    talk_advance_ms(seconds * 1000);
}

static inline unsigned talk_count_fds(void)
{
    unsigned count = 0;
    DIR *dir = opendir("/proc/self/fd");
    ck_assert_ptr_nonnull(dir);
    while (readdir(dir))
        count++;
    closedir(dir);
    return count;
}

static inline unsigned talk_waiting(void)
{
    struct queue_counts n;
    queue_count(&n);
    return n.messages;
}

/* ---- Begin --------------------------------------------------------------- */

static inline int talk_listen(unsigned address, uint16_t port, int backlog)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK + address);
    ck_assert_int_ge(fd, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    if (bind(fd, (struct sockaddr *)&at, sizeof at) < 0 ||
        listen(fd, backlog) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

/* One free port on so many loopback addresses. */
static inline void talk_listen_all(unsigned addresses)
{
    struct sockaddr_in at;
    socklen_t length = sizeof at;
    bool is_whole = false;
    for (unsigned tries = 0; !is_whole && tries < 50; tries++) {
        talk.listeners[0] = talk_listen(0, 0, 64);
        getsockname(talk.listeners[0], (struct sockaddr *)&at, &length);
        talk.port = ntohs(at.sin_port);
        is_whole = true;
        for (unsigned i = 1; i < addresses; i++) {
            talk.listeners[i] = talk_listen(i, talk.port, 64);
            is_whole &= talk.listeners[i] >= 0;
        }
        for (unsigned i = 0; i < addresses && !is_whole; i++)
            if (talk.listeners[i] >= 0)
                close(talk.listeners[i]);
    }
    ck_assert(is_whole);
    talk.addresses = addresses;
}

static inline void talk_stop_listening(unsigned address)
{
    if (talk.listeners[address] > 0)
        close(talk.listeners[address]);
    talk.listeners[address] = 0;
}

static inline void talk_listen_again(unsigned address)
{
    talk.listeners[address] = talk_listen(address, talk.port, 64);
    ck_assert_int_ge(talk.listeners[address], 0);
}

static inline void talk_write_file(char path[64], const char *text)
{
    strcpy(path, "/tmp/smarthost_talk.XXXXXX");
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static inline void talk_set(const char *smarthost, const char *more)
{
    char text[1024], error[SETTINGS_ERROR_BYTES] = "";
    bool has_tls = strstr(more, "smarthost_tls") != NULL;
    int length =
        snprintf(text, sizeof text, "smarthost = %s:%u\n%s%s", smarthost,
                 talk.port, has_tls ? "" : "smarthost_tls = none\n", more);
    ck_assert_msg(settings_load_text("test", text, (size_t)length, error), "%s",
                  error);
}

/* One address is 127.0.0.1 by number, so that a login may go over it in
 * clear; several are those of smart.test. */
static inline void talk_begin(unsigned addresses, const char *more)
{
    char hosts[256] = "";
    int64_t now_ms = talk.now_ms;
    memset(&talk, 0, sizeof talk);
    talk.fds_before = talk_count_fds();
    talk.fd = -1;
    talk.extensions = "250-8BITMIME\r\n250-SIZE\r\n250-PIPELINING\r\n"
                      "250-SMTPUTF8\r\n250 AUTH PLAIN LOGIN\r\n";
    /* fate keeps the time of its last sweep for as long as we live. */
    talk.now_ms = fate_wake_ms() > now_ms ? fate_wake_ms() : now_ms;
    talk.now_ms += 1000000;
    talk_listen_all(addresses);
    for (unsigned i = 0; i < addresses; i++)
        snprintf(hosts + strlen(hosts), sizeof hosts - strlen(hosts),
                 "127.0.0.%u smart.test\n", i + 1);
    talk_write_file(talk.hosts, hosts);
    /* Nobody answers on a port that is bound for TCP alone. */
    talk_write_file(talk.resolv, "nameserver [127.0.0.1]:1\n");
    talk_set(addresses == 1 ? "127.0.0.1" : "smart.test", more);
    log_set_level(LOG_AT_DEBUG);
    log_to(talk_take_log);
    queue_init();
    dns_init(talk.resolv, talk.hosts);
    smtp_out_init("relay.test");
}

/* ---- Mail ---------------------------------------------------------------- */

/* to: mailboxes, with a blank between them. */
static inline queue_id talk_mail_of(const char *from, const char *to,
                                    const char *body, size_t bytes,
                                    unsigned facts)
{
    char mailbox[300];
    queue_id id = queue_new(from, 0);
    ck_assert_uint_ne(id, QUEUE_NONE);
    for (size_t n; (n = strcspn(to, " ")) > 0; to += n + (to[n] == ' ')) {
        snprintf(mailbox, sizeof mailbox, "%.*s", (int)n, to);
        ck_assert(queue_add_recipient(id, mailbox));
    }
    while (bytes > 0) {
        size_t room;
        uint8_t *at = queue_tail(id, QUEUE_BODY, &room);
        ck_assert_ptr_nonnull(at);
        size_t n = bytes < room ? bytes : room;
        memcpy(at, body, n);
        queue_wrote(id, QUEUE_BODY, n);
        body += n;
        bytes -= n;
    }
    queue_commit(id, facts, talk.now_ms);
    return id;
}

static inline queue_id talk_mail_to(const char *to)
{
    return talk_mail_of("a@x.test", to, BODY_TEXT, strlen(BODY_TEXT), 0);
}

static inline queue_id talk_mail(void)
{
    return talk_mail_to("b@y.test");
}

/* So many bytes in lines. */
static inline queue_id talk_big_mail(size_t bytes)
{
    char *body = malloc(bytes);
    for (size_t i = 0; i < bytes; i++)
        body[i] = i % 78 == 76 ? '\r' : i % 78 == 77 ? '\n' : 'x';
    queue_id id = talk_mail_of("a@x.test", "b@y.test", body, bytes, 0);
    free(body);
    return id;
}

/* ---- Scripts ------------------------------------------------------------- */

static inline int talk_take(unsigned address)
{
    if (talk.listeners[address] <= 0)
        return -1;
    int on = 1;
    int fd = accept4(talk.listeners[address], NULL, NULL,
                     SOCK_NONBLOCK | SOCK_CLOEXEC);
    /* The invented clock must not race against Nagle's real one. */
    if (fd >= 0)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

static inline void talk_pull(void)
{
    ssize_t n = 1;
    while (n > 0 && talk.got_bytes < sizeof talk.got) {
        n = recv(talk.fd, talk.got + talk.got_bytes,
                 sizeof talk.got - talk.got_bytes, 0);
        talk.got_bytes += n > 0 ? (size_t)n : 0;
    }
}

static inline void talk_accept_at(unsigned address)
{
    ck_assert_int_eq(talk.fd, -1);
    for (unsigned i = 0; talk.fd < 0 && i < 200; i++) {
        talk_settle();
        talk.fd = talk_take(address);
        if (talk.fd < 0)
            talk_turn(1);
    }
    talk.got_bytes = 0;
    ck_assert_msg(talk.fd >= 0, "no connection; log:\n%s", talk.log);
}

static inline void talk_accept(void)
{
    talk_accept_at(0);
}

static inline void talk_say_bytes(const char *text, size_t count)
{
    size_t step = talk.is_byte_wise ? 1 : count;
    for (size_t i = 0; i < count; i += step) {
        /* It may have hung up by now, and may do so. */
        (void)!send(talk.fd, text + i, step, MSG_NOSIGNAL);
        talk_settle();
    }
}

static inline void talk_say(const char *text)
{
    talk_say_bytes(text, strlen(text));
}

static inline void talk_expect(const char *text)
{
    size_t length = strlen(text);
    talk_settle();
    talk_pull();
    for (unsigned i = 0; talk.got_bytes < length && i < 200; i++) {
        talk_turn(1);
        talk_pull();
    }
    ck_assert_msg(talk.got_bytes >= length &&
                      memcmp(talk.got, text, length) == 0,
                  "wanted \"%s\", got \"%.*s\"; log:\n%s", text,
                  (int)talk.got_bytes, talk.got, talk.log);
    talk.got_bytes -= length;
    memmove(talk.got, talk.got + length, talk.got_bytes);
}

static inline void talk_expect_nothing(void)
{
    talk_settle();
    talk_pull();
    ck_assert_msg(talk.got_bytes == 0, "said \"%.*s\"", (int)talk.got_bytes,
                  talk.got);
}

/* Lanpost is gone, and said nothing more. */
static inline void talk_expect_end(void)
{
    char more[64];
    ssize_t n = -1;
    bool is_over = false;
    for (unsigned i = 0; !is_over && i < 200; i++) {
        talk_settle();
        n = recv(talk.fd, more, sizeof more, 0);
        is_over = n >= 0 || errno != EAGAIN;
        if (!is_over)
            talk_turn(1);
    }
    ck_assert_msg(is_over && n <= 0, "it went on with %zd \"%.*s\"; log:\n%s",
                  n, n > 0 ? (int)n : 0, more, talk.log);
    ck_assert_msg(talk.got_bytes == 0, "said \"%.*s\"", (int)talk.got_bytes,
                  talk.got);
    close(talk.fd);
    talk.fd = -1;
}

static inline void talk_hang_up(bool is_reset)
{
    struct linger hard = {.l_onoff = 1};
    if (is_reset)
        setsockopt(talk.fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close(talk.fd);
    talk.fd = -1;
    talk_settle();
}

static inline void talk_step(const struct talk *s)
{
    switch (s->who) {
    case 'a': talk_accept(); break;
    case '>': talk_expect(s->text); break;
    case '<': talk_say(s->text); break;
    case '=': talk_expect_nothing(); break;
    case 'x': talk_hang_up(false); break;
    case 'r': talk_hang_up(true); break;
    case 'e': talk_expect_end(); break;
    case 't': talk_advance(atoi(s->text)); break;
    default: ck_abort_msg("a script of mine is broken");
    }
}

/* Up to the row of zeroes. */
static inline void talk_play(const struct talk *script)
{
    for (; script->who; script++)
        talk_step(script);
}

/* ---- A good dialogue, up to where it gets interesting -------------------- */

enum talk_stage {
    AT_GREETING, /* connected, the greeting is due */
    AT_EHLO,     /* the reply to EHLO is due, and so on */
    AT_AUTH,
    AT_MAIL,
    AT_RCPT,
    AT_DATA,
    AT_DOT,  /* the message and its dot have left */
    AT_IDLE, /* one message is sent */
    AT_QUIT,
    AT_STAGES
};

static inline void talk_until_mail(enum talk_stage stage, bool is_pipelining)
{
    bool has_login = *settings()->smarthost_user != '\0';
    talk_accept();
    if (stage == AT_GREETING)
        return;
    talk_say(GREETING);
    talk_expect(EHLO_LINE);
    if (stage == AT_EHLO)
        return;
    talk_say(is_pipelining
                 ? "250-smart.test\r\n250-AUTH PLAIN\r\n250 PIPELINING\r\n"
                 : "250-smart.test\r\n250 AUTH PLAIN\r\n");
    if (has_login)
        talk_expect(TALK_PLAIN);
    if (stage == AT_AUTH)
        return;
    if (has_login)
        talk_say("235 2.7.0 welcome\r\n");
    talk_expect(is_pipelining ? MAIL_LINE RCPT_LINE DATA_LINE : MAIL_LINE);
    talk_expect_nothing();
}

/* talk_mail() is what is to be sent. */
static inline void talk_until(enum talk_stage stage, bool is_pipelining)
{
    talk_until_mail(stage, is_pipelining);
    if (stage <= AT_MAIL)
        return;
    talk_say("250 2.1.0 from\r\n");
    if (!is_pipelining)
        talk_expect(RCPT_LINE);
    talk_expect_nothing();
    if (stage == AT_RCPT)
        return;
    talk_say("250 2.1.5 to\r\n");
    if (!is_pipelining)
        talk_expect(DATA_LINE);
    talk_expect_nothing();
    if (stage == AT_DATA)
        return;
    talk_say("354 go\r\n");
    talk_expect(BODY_WIRE);
    if (stage == AT_DOT)
        return;
    talk_say("250 2.0.0 taken\r\n");
    talk_expect_nothing();
    if (stage == AT_IDLE)
        return;
    talk_advance(CONNECTION_IDLE_SECONDS);
    talk_expect("QUIT\r\n");
}

/* ---- The robot ----------------------------------------------------------- */

static inline const char *talk_robot_reply(struct talk_client *c,
                                           const char *line)
{
    static char ehlo[512];
    const char *ruled = talk.rule ? talk.rule(c, line) : NULL;
    if (ruled)
        return ruled;
    if (strncmp(line, "EHLO", 4) == 0) {
        snprintf(ehlo, sizeof ehlo, "250-smart.test\r\n%s", talk.extensions);
        return ehlo;
    }
    return strncmp(line, "AUTH", 4) == 0   ? "235 2.7.0 welcome\r\n"
           : strcmp(line, "DATA\r\n") == 0 ? "354 go\r\n"
           : strcmp(line, "QUIT\r\n") == 0 ? "221 bye\r\n"
                                           : "250 2.0.0 ok\r\n";
}

static inline void talk_robot_end(struct talk_client *c)
{
    close(c->fd);
    memset(c, 0, sizeof *c);
}

/* One line of a client, CRLF and NUL behind it. */
static inline void talk_robot_line(struct talk_client *c, const char *line)
{
    const char *reply = NULL;
    if (!c->is_in_body) {
        reply = talk_robot_reply(c, line);
        c->is_in_body = strncmp(reply, "354", 3) == 0;
        talk.last_body[0] = '\0';
    } else if (strcmp(line, ".\r\n") != 0) {
        size_t used = strlen(talk.last_body);
        snprintf(talk.last_body + used, sizeof talk.last_body - used, "%s",
                 line);
    } else {
        c->is_in_body = false;
        reply = talk_robot_reply(c, line);
        c->messages++;
        talk.delivered += reply[0] == '2';
    }
    if (reply == NULL)
        return;
    (void)!send(c->fd, reply, strlen(reply), MSG_NOSIGNAL);
    if (strncmp(reply, "221", 3) == 0 || strncmp(reply, "421", 3) == 0)
        talk_robot_end(c);
}

static inline bool talk_robot_serve(struct talk_client *c)
{
    char line[sizeof c->line + 1], *end;
    ssize_t n = recv(c->fd, c->line + c->used, sizeof c->line - c->used, 0);
    if (n < 0 && errno == EAGAIN)
        return false;
    if (n <= 0) {
        talk_robot_end(c);
        return true;
    }
    c->used += (size_t)n;
    while (c->fd && (end = memchr(c->line, '\n', c->used))) {
        size_t length = (size_t)(end - c->line) + 1;
        memcpy(line, c->line, length);
        line[length] = '\0';
        c->used -= length;
        memmove(c->line, c->line + length, c->used);
        talk_robot_line(c, line);
    }
    return true;
}

static inline void talk_robot_greet(struct talk_client *c, int fd)
{
    const char *greeting = talk.rule ? talk.rule(c, "") : NULL;
    memset(c, 0, sizeof *c);
    c->fd = fd;
    talk.connections++;
    if (greeting == NULL)
        greeting = GREETING;
    (void)!send(c->fd, greeting, strlen(greeting), MSG_NOSIGNAL);
    if (greeting[0] != '2')
        talk_robot_end(c);
}

/* True: something happened. */
static inline bool talk_robot(void)
{
    bool has_acted = false;
    unsigned open = 0;
    for (size_t i = 0; i < TALK_CLIENTS; i++) {
        struct talk_client *c = &talk.clients[i];
        int fd = -1;
        for (unsigned a = 0; c->fd == 0 && fd < 0 && a < talk.addresses; a++)
            fd = talk_take(a);
        if (fd >= 0)
            talk_robot_greet(c, fd);
        if (c->fd)
            has_acted |= talk_robot_serve(c);
        has_acted |= fd >= 0;
        open += c->fd != 0;
    }
    if (open > talk.peak)
        talk.peak = open;
    return has_acted;
}

/* Serves until the queue is empty, or for so long. */
static inline void talk_serve(int64_t seconds)
{
    int64_t until_ms = talk.now_ms + seconds * 1000;
    while (talk_waiting() > 0) {
        talk_settle();
        if (talk_robot() || talk_waiting() == 0)
            continue;
        if (talk_turn(1) > 0 || talk_robot())
            continue; /* it was on its way */
        if (talk.p.wake_ms >= until_ms) {
            talk.now_ms = until_ms;
            return;
        }
        if (talk.p.wake_ms > talk.now_ms)
            talk.now_ms = talk.p.wake_ms;
    }
}

/* Lets all connections go idle, quit, and end. */
static inline void talk_rest(void)
{
    for (unsigned i = 0; i < 20; i++) {
        talk_advance_ms(500);
        while (talk_robot())
            talk_settle();
    }
}

/* ---- End ----------------------------------------------------------------- */

/* The law of every script: the queue is sound, what is left and one more
 * normal mail arrive once, and nothing stays open. */
static inline void talk_end(void)
{
    char marker[] = "X-Marker: the last\r\n\r\n";
    const char *why = queue_unsound();
    ck_assert_msg(why == NULL, "%s", why);
    if (talk.fd >= 0)
        talk_hang_up(false);
    for (unsigned i = 0; i < talk.addresses; i++)
        if (talk.listeners[i] <= 0)
            talk_listen_again(i);
    talk.rule = NULL;
    unsigned before = talk.delivered, waiting = talk_waiting();
    talk_serve(3 * 3600);
    ck_assert_msg(talk.delivered - before == waiting && talk_waiting() == 0,
                  "%u of %u arrived; log:\n%s", talk.delivered - before,
                  waiting, talk.log);
    talk_mail_of("a@x.test", "last@y.test", marker, strlen(marker), 0);
    talk_serve(3 * 3600);
    talk_expect_fate("last@y.test", 'S');
    ck_assert_str_eq(talk.last_body, marker);
    ck_assert_uint_eq(talk.delivered - before, waiting + 1);
    talk_rest();
    for (unsigned i = 0; i < talk.addresses; i++)
        talk_stop_listening(i);
    unlink(talk.hosts);
    unlink(talk.resolv);
    why = queue_unsound();
    ck_assert_msg(why == NULL, "%s", why);
    ck_assert_uint_eq(talk_count_fds(), talk.fds_before);
    log_to(NULL);
}

/* A script from connect to what it ends in, sent whole and byte by byte;
 * fate: of b@y.test, and a mail that waits must arrive in the end. */
static inline void talk_both_ways(const char *more, const struct talk *script,
                                  char fate)
{
    for (int is_byte_wise = 0; is_byte_wise < 2; is_byte_wise++) {
        talk_begin(1, more);
        talk.is_byte_wise = is_byte_wise;
        talk_mail();
        talk_play(script);
        talk_expect_fate("b@y.test", fate);
        ck_assert_uint_eq(talk_waiting(), fate == 'L' || fate == '-');
        talk_end();
    }
}

#endif
