/* smtp_out and its rooms against a hostile smarthost. Each test is named
 * after the fault it stands for: b1 to b21. */
#include "smarthost_talk.h"
#include "../tls.h"
Suite *suite_smtp_out_faults(void);

static const char *const stage_names[AT_STAGES] = {
    "greeting", "EHLO", "AUTH", "MAIL", "RCPT", "DATA", "dot", "idle", "QUIT"};

/* What becomes of the mail when the connection fails there: no verdict while
 * the route is at fault, later for a message in hand, sent once it is. */
static char fate_at(enum talk_stage stage)
{
    return stage < AT_MAIL ? '-' : stage < AT_IDLE ? 'L' : 'S';
}

static void begin_at(enum talk_stage stage, unsigned way)
{
    talk_begin(1, TALK_LOGIN);
    talk.is_byte_wise = way & 2;
    talk_mail();
    talk_until(stage, way & 1);
}

/* After a fault at that stage: the verdict, lines that say why, and the mail
 * that is left arrives. A fault before any good word on any mail is the
 * route's, too. */
static void end_with(enum talk_stage stage, bool is_route_fault,
                     const char *why)
{
    bool is_kept = stage < AT_IDLE;
    ck_assert_msg(talk_fate("b@y.test") == fate_at(stage), "%s; log:\n%s",
                  stage_names[stage], talk.log);
    ck_assert_uint_eq(talk_waiting(), is_kept);
    talk_expect_log("route=paused", is_route_fault);
    talk_expect_log("rcpt=<b@y.test>", stage >= AT_MAIL);
    talk_expect_log("may arrive twice", stage == AT_DOT);
    if (why != NULL)
        talk_expect_log(why, is_kept + (is_route_fault && stage >= AT_MAIL) +
                                 (stage == AT_DOT));
    talk_end();
}

static void end_at(enum talk_stage stage, const char *why)
{
    end_with(stage, stage <= AT_MAIL, why);
}

/* ---- B1: connect and greeting -------------------------------------------- */

START_TEST(b1_refused)
{
    talk_begin(2, "");
    talk_stop_listening(0);
    talk_mail();
    talk_accept_at(1);
    talk_expect_log("127.0.0.1:", 1);
    talk_expect_log("Connection refused", 1);
    talk_end();
}
END_TEST

/* Fills the backlog, so that a connect is never answered. */
static unsigned make_blackhole(unsigned address, int *fds, unsigned room)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons(talk.port)};
    bool is_full = false;
    unsigned count = 0;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK + address);
    talk_stop_listening(address);
    talk.listeners[address] = talk_listen(address, talk.port, 0);
    while (!is_full && count < room) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        struct pollfd up = {.fd = fd, .events = POLLOUT};
        is_full = connect(fd, (struct sockaddr *)&at, sizeof at) < 0 &&
                  poll(&up, 1, 50) == 0;
        fds[count++] = fd;
    }
    ck_assert(is_full);
    return count;
}

START_TEST(b1_blackhole)
{
    int fds[16];
    talk_begin(2, "");
    unsigned count = make_blackhole(0, fds, COUNT(fds));
    talk_mail();
    talk_advance_ms(CONNECT_NEXT_SECONDS * 1000 - 1);
    ck_assert_int_eq(talk_take(1), -1);
    talk_advance_ms(1);
    talk_expect_log("it does not answer", 1);
    talk_accept_at(1);
    talk_say("421 no\r\n");
    talk_expect_end();
    talk_expect_log("route=paused", 1);
    for (unsigned i = 0; i < count; i++)
        close(fds[i]);
    talk_stop_listening(0);
    talk_end();
    talk_begin(1, "");
    count = make_blackhole(0, fds, COUNT(fds));
    talk_mail();
    talk_advance_ms(CONNECT_SECONDS * 1000 - 1);
    talk_expect_log("route=", 0);
    talk_advance_ms(1);
    talk_expect_log("route=paused", 1);
    for (unsigned i = 0; i < count; i++)
        close(fds[i]);
    talk_stop_listening(0);
    talk_end();
}
END_TEST

START_TEST(b1_greeting_just_in_time)
{
    talk_begin(1, "");
    talk_mail();
    talk_until(AT_GREETING, false);
    talk_advance(299);
    talk_say(GREETING);
    talk_expect(EHLO_LINE);
    talk_end();
}
END_TEST

/* A flood, until lanpost has had enough of it. */
static void flood(const char *text, size_t most)
{
    size_t length = strlen(text), sent = 0;
    bool is_open = true;
    while (is_open && sent < most) {
        char byte;
        talk_settle();
        ssize_t n = send(talk.fd, text, length, MSG_NOSIGNAL);
        sent += n > 0 ? (size_t)n : 0;
        is_open = (n > 0 || errno == EAGAIN) &&
                  recv(talk.fd, &byte, 1, MSG_PEEK) < 0 && errno == EAGAIN;
    }
    ck_assert_msg(!is_open, "it took %zu bytes; log:\n%s", sent, talk.log);
}

START_TEST(b1_endless_greeting)
{
    begin_at(AT_GREETING, 0);
    flood("220-wait\r\n", 1 << 20);
    talk_expect_end();
    end_at(AT_GREETING, "no SMTP reply: 220-wait");
}
END_TEST

/* ---- B2: what is no reply ------------------------------------------------ */

START_TEST(b2_broken_replies)
{
    static const char *const replies[] = {
        "hello there\r\n",      "\r\n",        "25\r\n",
        " 250 ok\r\n",          "-250 ok\r\n", "99 ok\r\n",
        "199 ok\r\n",           "600 ok\r\n",  "2500 ok\r\n",
        "250_ok\r\n",           "+OK\r\n",     "250-a\r\n251 b\r\n",
        "250-a\r\n550 b\r\n",   "2x0 ok\r\n",  "HTTP/1.1 400 Bad\r\n",
        "250-a\r\nno code\r\n", "\xff\xfe\r\n"};
    for (size_t i = 0; i < COUNT(replies); i++)
        for (int stage = AT_GREETING; stage <= AT_DOT; stage++) {
            begin_at((enum talk_stage)stage, (unsigned)(i + stage) & 3);
            talk_say(replies[i]);
            talk_expect_end();
            end_at((enum talk_stage)stage, "no SMTP reply: ");
        }
}
END_TEST

/* With its length, for a NUL is in one of them. */
#define BYTES(text)                                                            \
    {                                                                          \
        text, sizeof(text) - 1                                                 \
    }

START_TEST(b2_odd_replies_are_borne)
{
    static const struct {
        const char *reply;
        size_t count;
    } rows[] = {
        BYTES("250\r\n"),
        BYTES("250 ok\n"),
        BYTES("250 \r\n"),
        BYTES("250-\r\n250-\r\n250\r\n"),
        BYTES("250 sch\xc3\xb6n \xf0\x9f\x98\x80\r\n"),
        BYTES("250 a\0b\r\n"),
        BYTES("250 \x1b[2J\"\\\r\n"),
    };
    for (size_t i = 0; i < COUNT(rows); i++)
        for (unsigned way = 0; way < 4; way += 2) {
            begin_at(AT_MAIL, way);
            talk_say_bytes(rows[i].reply, rows[i].count);
            talk_expect(RCPT_LINE);
            talk_say_bytes(rows[i].reply, rows[i].count);
            talk_expect(DATA_LINE);
            talk_say("354\n");
            talk_expect(BODY_WIRE);
            talk_say_bytes(rows[i].reply, rows[i].count);
            talk_expect_nothing();
            talk_expect_fate("b@y.test", 'S');
            ck_assert_ptr_null(strchr(talk.log, '\x1b'));
            talk_end();
        }
}
END_TEST

START_TEST(b2_floods)
{
    static char line[5000];
    memset(line, 'x', sizeof line - 1);
    memcpy(line, "250 ", 4);
    for (int stage = AT_GREETING; stage <= AT_DOT; stage++) {
        begin_at((enum talk_stage)stage, 0);
        flood(line, 1 << 20);
        talk_expect_end();
        end_at((enum talk_stage)stage, "endless lines");
        begin_at((enum talk_stage)stage, 1);
        flood("250-one more line\r\n", 1 << 20);
        talk_expect_end();
        end_at((enum talk_stage)stage, "no SMTP reply: ");
    }
}
END_TEST

/* ---- B3: replies that nobody asked for ----------------------------------- */

START_TEST(b3_two_replies_to_one_command)
{
    static const struct {
        enum talk_stage stage;
        const char *text;
    } rows[] = {
        {AT_GREETING, "220 hi\r\n220 hi\r\n"},
        {AT_GREETING, "220 hi\r\n25"},
        {AT_GREETING, "220 hi\r\n250-x\r\n250 AUTH PLAIN\r\n"},
        {AT_EHLO, "250-x\r\n250 AUTH PLAIN\r\n235 ok\r\n"},
        {AT_EHLO, "250-x\r\n250 AUTH PLAIN\r\n5"},
        {AT_MAIL, "250 ok\r\n250 ok\r\n"},
        {AT_MAIL, "250 ok\r\n550 no\r\n"},
        {AT_RCPT, "250 ok\r\n354 go\r\n"},
        {AT_RCPT, "250 ok\r\n2"},
        {AT_DATA, "354 go\r\n250 took\r\n"},
        {AT_DATA, "354 go\r\n354 go\r\n"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        begin_at(rows[i].stage, 0);
        talk_say(rows[i].text);
        talk_expect_end();
        end_with(rows[i].stage, rows[i].stage < AT_MAIL, NULL);
    }
}
END_TEST

START_TEST(b3_unsolicited_while_idle)
{
    static const char *const words[] = {"250 hi\r\n", "421 bye\r\n",
                                        "550 no\r\n", "354 go\r\n", "x\r\n"};
    for (size_t i = 0; i < COUNT(words); i++) {
        begin_at(AT_IDLE, (unsigned)i & 3);
        talk_say(words[i]);
        talk_expect_end();
        end_at(AT_IDLE, NULL);
    }
}
END_TEST

START_TEST(b3_verdict_then_another)
{
    static const char *const words[] = {"250 took\r\n550 no\r\n",
                                        "250 took\r\n250 took\r\n",
                                        "250 took\r\n421 bye\r\n"};
    for (size_t i = 0; i < COUNT(words); i++) {
        begin_at(AT_DOT, (unsigned)i & 3);
        talk_say(words[i]);
        talk_expect_end();
        end_at(AT_IDLE, NULL);
    }
}
END_TEST

/* ---- B4, B5: the clear part of STARTTLS ---------------------------------- */

static char ca_file[64];

static void begin_starttls(bool is_byte_wise)
{
    char more[256], command[256], why[TLS_WHY_BYTES];
    talk_write_file(ca_file, "");
    snprintf(command, sizeof command,
             "openssl req -x509 -newkey ec -pkeyopt "
             "ec_paramgen_curve:prime256v1 -nodes -keyout /dev/null -out %s "
             "-subj /CN=test -days 2 2>/dev/null",
             ca_file);
    ck_assert_int_eq(system(command), 0);
    ck_assert_msg(tls_init(ca_file, why), "%s", why);
    tls_commit();
    snprintf(more, sizeof more,
             TALK_LOGIN "smarthost_tls = starttls\nsmarthost_ca_file = %s\n",
             ca_file);
    talk_begin(1, more);
    talk.is_byte_wise = is_byte_wise;
    talk_mail();
    talk_until(AT_EHLO, false);
}

/* Not a byte that is not TLS, the mail is kept, and one line says why. */
static void end_starttls(const char *why)
{
    talk_expect_fate("b@y.test", '-');
    ck_assert_uint_eq(talk_waiting(), 1);
    talk_expect_log("route=paused", 1);
    talk_expect_log(why, 1);
    talk_advance(14);
    ck_assert_int_eq(talk_take(0), -1);
    talk_set("127.0.0.1", "");
    smtp_out_renew(talk.now_ms);
    talk_end();
    unlink(ca_file);
}

START_TEST(b4_starttls_not_offered)
{
    static const char *const ehlos[] = {
        "250-smart.test\r\n250-AUTH PLAIN LOGIN\r\n250 PIPELINING\r\n",
        "250 STARTTLS\r\n", /* that is its name */
        "250-smart.test\r\n250 XSTARTTLS\r\n",
        "250-smart.test\r\n250 STARTTLSX\r\n"};
    for (size_t i = 0; i < COUNT(ehlos); i++) {
        begin_starttls(i & 1);
        talk_say(ehlos[i]);
        talk_expect_end();
        end_starttls("offers no STARTTLS");
    }
}
END_TEST

START_TEST(b4_starttls_refused)
{
    static const char *const replies[] = {"454 4.7.0 no\r\n", "501 no\r\n",
                                          "502 no\r\n", "250 ok\r\n",
                                          "221 bye\r\n"};
    for (size_t i = 0; i < 2 * COUNT(replies); i++) {
        begin_starttls(i & 1);
        talk_say("250-x\r\n250-AUTH PLAIN\r\n250 starttls\r\n");
        talk_expect("STARTTLS\r\n");
        talk_expect_nothing();
        talk_say(replies[i / 2]);
        talk_expect_end();
        end_starttls("refuses STARTTLS");
    }
}
END_TEST

START_TEST(b4_starttls_354)
{
    begin_starttls(false);
    talk_say("250-x\r\n250 STARTTLS\r\n");
    talk_expect("STARTTLS\r\n");
    talk_say("354 go\r\n");
    talk_expect_end();
    end_starttls("out of step");
}
END_TEST

START_TEST(b4_starttls_unanswered)
{
    begin_starttls(false);
    talk_say("250-x\r\n250 STARTTLS\r\n");
    talk_expect("STARTTLS\r\n");
    talk_advance_ms(REPLY_DATA_SECONDS * 1000 - 1);
    talk_expect_nothing();
    talk_advance_ms(1);
    talk_expect_end();
    end_starttls("no reply to STARTTLS came");
}
END_TEST

/* What comes now may be TLS, and nothing else. */
static void expect_only_tls(void)
{
    talk_settle();
    talk_pull();
    ck_assert(talk.got_bytes == 0 || talk.got[0] == 0x16);
    ck_assert_ptr_null(memmem(talk.got, talk.got_bytes, "AUTH", 4));
    ck_assert_ptr_null(memmem(talk.got, talk.got_bytes, "EHLO", 4));
    ck_assert_ptr_null(memmem(talk.got, talk.got_bytes, "MAIL", 4));
    talk.got_bytes = 0;
}

START_TEST(b4_starttls_220_then_close)
{
    for (int is_reset = 0; is_reset < 2; is_reset++) {
        begin_starttls(is_reset);
        talk_say("250-x\r\n250 STARTTLS\r\n");
        talk_expect("STARTTLS\r\n");
        talk_say("220 go\r\n");
        expect_only_tls();
        talk_hang_up(is_reset);
        end_starttls("route=paused");
    }
}
END_TEST

START_TEST(b4_handshake_stalls)
{
    begin_starttls(false);
    talk_say("250-x\r\n250 STARTTLS\r\n");
    talk_expect("STARTTLS\r\n");
    talk_say("220 go\r\n");
    expect_only_tls();
    talk_advance_ms(HANDSHAKE_SECONDS * 1000 - 1);
    talk_expect_log("route=", 0);
    talk_advance_ms(1);
    talk_hang_up(false);
    end_starttls("handshake stalled");
}
END_TEST

START_TEST(b5_injected_behind_the_220)
{
    static const char *const words[] = {
        "220 go\r\n250 injected\r\n", "220 go\r\n250-AUTH PLAIN\r\n250 ok\r\n",
        "220 go\r\n2", "220-go\r\n220 go\r\n\r\n", "220 go\r\n\x16\x03"};
    for (size_t i = 0; i < COUNT(words); i++) {
        begin_starttls(false);
        talk_say("250-x\r\n250 STARTTLS\r\n");
        talk_expect("STARTTLS\r\n");
        talk_say(words[i]);
        talk_expect_end();
        end_starttls("words behind the reply to STARTTLS");
    }
}
END_TEST

START_TEST(b5_injected_in_another_segment)
{
    begin_starttls(true);
    talk_say("250-x\r\n250 STARTTLS\r\n");
    talk_expect("STARTTLS\r\n");
    talk_say("220 go\r\n250-x\r\n250 AUTH PLAIN\r\n235 ok\r\n250 ok\r\n");
    expect_only_tls();
    talk_hang_up(false);
    end_starttls("route=paused");
}
END_TEST

/* In front of it: the reply to EHLO brings that of STARTTLS along. */
START_TEST(b5_injected_before_starttls)
{
    begin_starttls(false);
    talk_say("250-x\r\n250 STARTTLS\r\n220 go\r\n");
    talk_expect_end();
    end_starttls("out of step");
}
END_TEST

/* ---- B6: EHLO ------------------------------------------------------------ */

START_TEST(b6_helo_where_nothing_is_at_stake)
{
    static const struct talk script[] = {
        {'a', ""},
        {'<', GREETING},
        {'>', EHLO_LINE},
        {'<', "500-unknown\r\n500 PIPELINING\r\n"},
        {'>', "HELO relay.test\r\n"},
        {'=', ""},
        {'<', "250 hello\r\n"},
        {'>', MAIL_LINE},
        {'=', ""},
        {'<', "250 ok\r\n"},
        {'>', RCPT_LINE},
        {'=', ""},
        {'<', "250 ok\r\n"},
        {'>', DATA_LINE},
        {'<', "354 go\r\n"},
        {'>', BODY_WIRE},
        {'<', "250 took\r\n"},
        {0, NULL},
    };
    talk_both_ways("", script, 'S');
}
END_TEST

START_TEST(b6_no_helo_where_a_login_is_set)
{
    for (unsigned way = 0; way < 4; way += 2) {
        begin_at(AT_EHLO, way);
        talk_say("502 5.5.1 unknown\r\n");
        talk_expect_end();
        end_at(AT_EHLO, "502 5.5.1 unknown");
    }
}
END_TEST

START_TEST(b6_helo_refused)
{
    talk_begin(1, "");
    talk_mail();
    talk_until(AT_EHLO, false);
    talk_say("500 unknown\r\n");
    talk_expect("HELO relay.test\r\n");
    talk_say("550 go away\r\n");
    talk_expect_end();
    end_at(AT_EHLO, "550 go away");
}
END_TEST

START_TEST(b6_keywords)
{
    static const char *const lines[] = {
        "250-SIZE\r\n",      "250-SIZE 99999999999999999999\r\n",
        "250-SIZE -1 x\r\n", "250-LIMITS RCPTMAX=1\r\n",
        "250-\r\n",          "250- \r\n",
        "250-\x01\xff\r\n",  "250-AUTH\r\n",
        "250-AUTH  \r\n",    "250-AUTH=\r\n",
    };
    for (size_t i = 0; i < 2 * COUNT(lines); i++) {
        bool has_size = i / 2 < 3;
        begin_at(AT_EHLO, i & 1 ? 2 : 0);
        talk_say("250-smart.test\r\n");
        talk_say(lines[i / 2]);
        talk_say("250 auth=plain\r\n");
        talk_expect(TALK_PLAIN);
        talk_say("235 ok\r\n");
        talk_expect(has_size ? "MAIL FROM:<a@x.test> SIZE=22\r\n" : MAIL_LINE);
        talk_end();
    }
}
END_TEST

START_TEST(b6_too_many_keywords)
{
    begin_at(AT_EHLO, 0);
    flood("250-XKEYWORD\r\n", 10000 * 14);
    talk_expect_end();
    end_at(AT_EHLO, "no SMTP reply: ");
}
END_TEST

/* ---- B7: login ----------------------------------------------------------- */

static int64_t login_times[64];
static unsigned login_count;
static const char *login_reply;

static const char *refuse_login(struct talk_client *c, const char *line)
{
    (void)c;
    if (strncmp(line, "AUTH", 4) != 0)
        return NULL;
    if (login_count < COUNT(login_times))
        login_times[login_count++] = talk.now_ms;
    return login_reply;
}

static void count_logins(const char *reply, int64_t seconds)
{
    login_count = 0;
    login_reply = reply;
    talk_begin(1, TALK_LOGIN);
    talk_mail();
    talk.rule = refuse_login;
    talk_serve(seconds);
    talk_expect_fate("b@y.test", '-');
    ck_assert_uint_eq(talk_waiting(), 1);
}

START_TEST(b7_login_refused_three_times_an_hour)
{
    count_logins("535 5.7.8 wrong\r\n", 4 * 3600 - 1);
    ck_assert_uint_ge(login_count, 10); /* a fifth more by chance */
    ck_assert_uint_le(login_count, 12);
    for (unsigned i = 1; i < login_count; i++)
        ck_assert_int_ge(login_times[i] - login_times[i - 1],
                         ROUTE_AUTH_SECONDS * INT64_C(1000));
    talk_expect_log("refuses our login: check smarthost_user", login_count);
    talk_expect_log("535 5.7.8 wrong", login_count);
    talk_expect_log("c2VjcmV0", 0);
    talk_end();
}
END_TEST

START_TEST(b7_login_put_off)
{
    count_logins("454 4.7.0 later\r\n", 3600 - 1);
    ck_assert_uint_gt(login_count, 3);
    ck_assert_uint_le(login_count, 10);
    talk_expect_log("does not take our login now: 454 4.7.0 later",
                    login_count);
    talk_end();
}
END_TEST

START_TEST(b7_334_to_plain)
{
    static const char *const challenges[] = {
        "334 \r\n", "334\r\n", "334 ****\r\n", "334 VXNlcg==\r\n"};
    for (size_t i = 0; i < COUNT(challenges); i++) {
        begin_at(AT_AUTH, i & 2);
        talk_say(challenges[i]);
        talk_expect_end();
        end_at(AT_AUTH, "does not take our login now");
    }
}
END_TEST

START_TEST(b7_334_for_ever)
{
    talk_begin(1, TALK_LOGIN "smarthost_auth = login\n");
    talk_mail();
    talk_until(AT_EHLO, false);
    talk_say("250-x\r\n250 AUTH LOGIN\r\n");
    talk_expect("AUTH LOGIN\r\n");
    talk_say("334 %%%\r\n");
    talk_expect("bWU=\r\n");
    talk_say("334\r\n");
    talk_expect("c2VjcmV0\r\n");
    talk_say("334 and once more\r\n");
    talk_expect_end();
    end_at(AT_AUTH, "does not take our login now");
}
END_TEST

START_TEST(b7_no_mechanism_of_ours)
{
    static const char *const ehlos[] = {
        "250 smart.test\r\n", "250-x\r\n250 AUTH GSSAPI XOAUTH2\r\n",
        "250-x\r\n250 AUTH\r\n", "250-x\r\n250 AUTHPLAIN\r\n",
        "250-x\r\n250 AUTH PLAIN-X LOGIN2\r\n"};
    for (size_t i = 0; i < COUNT(ehlos); i++) {
        begin_at(AT_EHLO, i & 2);
        talk_say(ehlos[i]);
        talk_expect_end();
        talk_expect_rest(1200);
        end_at(AT_EHLO, "offers no login that we can use");
    }
}
END_TEST

/* ---- B8: disconnects ----------------------------------------------------- */

START_TEST(b8_disconnect_at_each_stage)
{
    for (int stage = AT_GREETING; stage < AT_STAGES; stage++)
        for (unsigned way = 0; way < 4; way++) {
            begin_at((enum talk_stage)stage, way & 1);
            talk_hang_up(way & 2);
            end_at((enum talk_stage)stage, NULL);
        }
}
END_TEST

START_TEST(b8_disconnect_in_mid_reply)
{
    for (int stage = AT_GREETING; stage <= AT_DOT; stage++)
        for (unsigned way = 0; way < 4; way++) {
            begin_at((enum talk_stage)stage, way);
            talk_say(way & 1 ? "250-half\r\n" : "25");
            talk_hang_up(false);
            end_at((enum talk_stage)stage, NULL);
        }
}
END_TEST

/* A receiver that takes little at a time: the kernel's buffers are kept
 * small on both sides. */
static void begin_narrow(size_t bytes)
{
    int segment = 1000, room = 4096;
    talk_begin(1, "");
    talk_big_mail(bytes);
    setsockopt(talk.listeners[0], IPPROTO_TCP, TCP_MAXSEG, &segment,
               sizeof segment);
    setsockopt(talk.listeners[0], SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    talk_until(AT_DATA, true);
    talk_say("354 go\r\n");
    talk_settle();
}

static void end_narrow(void)
{
    talk_stop_listening(0); /* the robot's is a wide one */
    talk_end();
}

START_TEST(b8_disconnect_in_mid_body)
{
    for (int is_reset = 0; is_reset < 2; is_reset++) {
        begin_narrow(1000000);
        talk_hang_up(is_reset);
        talk_expect_fate("b@y.test", 'L');
        talk_expect_log("may arrive twice", 0);
        talk_expect_log("rcpt=", 1);
        end_narrow();
    }
}
END_TEST

/* ---- B9: pipelines that break -------------------------------------------- */

START_TEST(b9_mail_refused_and_the_pipeline_lost)
{
    static const struct {
        const char *reply;
        char fate;
    } rows[] = {
        {"421 4.3.2 down\r\n", 'L'},
        {"451 4.7.1 later\r\n", 'L'},
        {"550 5.1.8 bad sender\r\n", 'R'},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        begin_at(AT_MAIL, 1);
        talk_say(rows[i].reply);
        talk_hang_up(false);
        talk_expect_fate("b@y.test", rows[i].fate);
        talk_expect_log("rcpt=", 1);
        talk_expect_log("connection was closed", 0);
        talk_end();
    }
}
END_TEST

/* ---- B10: a hundred recipients ------------------------------------------- */

static const struct {
    const char *reply;
    char fate;
} mix[] = {
    {"250 2.1.5 ok\r\n", 'S'},
    {"450 4.2.0 not yet\r\n", 'L'},
    {"550 5.1.1 who?\r\n", 'R'},
    {"552 5.5.3 too many\r\n", 'L'},
};

static const char *reply_mixed(struct talk_client *c, const char *line)
{
    unsigned n;
    (void)c;
    return sscanf(line, "RCPT TO:<r%u@", &n) == 1 ? mix[n % 4].reply : NULL;
}

/* Long ones fill lanpost's buffer twice over. */
static void make_recipients(char *to, size_t room, bool are_long)
{
    to[0] = '\0';
    for (unsigned i = 0; i < 100; i++) {
        size_t used = strlen(to);
        snprintf(to + used, room - used, "r%u@%s%sy.test%s", i,
                 are_long ? "a.very.long.name.of.a.domain.that.goes.on.and.on."
                            "and.on.for.no.good.reason.at.all.a.very.long.name."
                          : "",
                 are_long ? "of.a.domain.that.goes.on.and.on.and.on.for.no."
                            "good.reason.at.all."
                          : "",
                 i < 99 ? " " : "");
    }
}

START_TEST(b10_hundred_recipients_mixed)
{
    static char to[32768];
    for (unsigned way = 0; way < 4; way++) {
        const char *at;
        talk_begin(1, "");
        if (way & 1)
            talk.extensions = "250 HELP\r\n";
        make_recipients(to, sizeof to, way & 2);
        talk_mail_to(to);
        talk.rule = reply_mixed;
        talk_serve(1);
        ck_assert_uint_eq(talk.delivered, 1);
        at = to;
        for (unsigned i = 0; i < 100; i++) {
            char mailbox[300];
            snprintf(mailbox, sizeof mailbox, "%.*s", (int)strcspn(at, " "),
                     at);
            at += strcspn(at, " ") + 1;
            /* log lines are cut: its start is enough */
            mailbox[60] = '\0';
            char key[80], *line;
            snprintf(key, sizeof key, "rcpt=<%s", mailbox);
            line = strstr(talk.log, key);
            ck_assert_ptr_nonnull(line);
            char *end = strchr(line, '\n');
            char *word = strstr(line, mix[i % 4].fate == 'S'   ? "\" sent\n"
                                      : mix[i % 4].fate == 'R' ? "\" refused\n"
                                                               : "\" later ");
            ck_assert_msg(word && word < end, "%.*s", (int)(end - line), line);
        }
        talk_expect_log("rcpt=", 100);
        queue_id id = queue_walk(QUEUE_NONE);
        struct queue_recipient r = {0};
        unsigned open = 0;
        while (queue_next_recipient(id, &r))
            open += r.verdict == QUEUE_OPEN;
        ck_assert_uint_eq(open, 50);
        talk_end();
    }
}
END_TEST

/* ---- B11: 354 although nobody is left ------------------------------------ */

START_TEST(b11_354_although_all_are_refused)
{
    static const struct {
        const char *rcpt, *dot;
        char fate;
    } rows[] = {
        {"550 5.1.1 who?\r\n", "250 took\r\n", 'R'},
        {"550 5.1.1 who?\r\n", "554 no\r\n", 'R'},
        {"550 5.1.1 who?\r\n", NULL, 'R'},
        {"450 4.2.0 not yet\r\n", "250 took\r\n", 'L'},
        {"450 4.2.0 not yet\r\n", "554 no\r\n", 'L'},
        {"450 4.2.0 not yet\r\n", "421 bye\r\n", 'L'},
        {"450 4.2.0 not yet\r\n", NULL, 'L'},
    };
    for (size_t i = 0; i < 2 * COUNT(rows); i++) {
        size_t n = i / 2;
        begin_at(AT_MAIL, i & 1 ? 3 : 1);
        talk_say("250 ok\r\n");
        talk_say(rows[n].rcpt);
        talk_say("354 go\r\n");
        talk_expect(".\r\n");
        talk_expect_nothing();
        if (rows[n].dot)
            talk_say(rows[n].dot);
        else
            talk_hang_up(false);
        talk_expect_fate("b@y.test", rows[n].fate);
        talk_expect_log("sent", 0);
        talk_expect_log("may arrive twice", 0);
        talk_end();
    }
}
END_TEST

/* The same behind a MAIL that was refused. */
START_TEST(b11_354_although_mail_was_refused)
{
    begin_at(AT_MAIL, 1);
    talk_say("550 5.1.8 bad sender\r\n250 ok\r\n354 go\r\n");
    talk_expect(".\r\n");
    talk_say("250 took\r\n");
    talk_expect_fate("b@y.test", 'R');
    talk_expect_log("bad sender", 1);
    talk_end();
}
END_TEST

/* ---- B12: the wrong kind of reply ---------------------------------------- */

START_TEST(b12_wrong_kind_of_reply)
{
    static const struct {
        enum talk_stage stage;
        const char *reply;
    } rows[] = {
        {AT_GREETING, "354 go\r\n"},   {AT_GREETING, "334 dXNlcg==\r\n"},
        {AT_EHLO, "354 go\r\n"},       {AT_MAIL, "354 go\r\n"},
        {AT_MAIL, "334 dXNlcg==\r\n"}, {AT_RCPT, "354 go\r\n"},
        {AT_DATA, "250 ok\r\n"},       {AT_DATA, "334 dXNlcg==\r\n"},
        {AT_DOT, "354 go\r\n"},        {AT_DOT, "334 dXNlcg==\r\n"},
    };
    for (size_t i = 0; i < 4 * COUNT(rows); i++) {
        begin_at(rows[i / 4].stage, i & 3);
        talk_say(rows[i / 4].reply);
        talk_expect_end();
        end_with(rows[i / 4].stage, rows[i / 4].stage < AT_MAIL, "out of step");
    }
}
END_TEST

/* ---- B13, B14: time in the body and at the dot --------------------------- */

START_TEST(b13_stall_at_the_dot)
{
    static const int seconds[] = {59, 599, 601};
    for (size_t i = 0; i < 2 * COUNT(seconds); i++) {
        bool is_late = seconds[i / 2] > REPLY_DOT_SECONDS;
        begin_at(AT_DOT, i & 1);
        talk_advance(seconds[i / 2]);
        talk_say("250 took\r\n");
        if (is_late)
            talk_expect_end();
        end_at(is_late ? AT_DOT : AT_IDLE,
               is_late ? "no verdict on the message came" : NULL);
    }
}
END_TEST

START_TEST(b14_nothing_is_taken)
{
    begin_narrow(8000000);
    talk_advance_ms(REPLY_BLOCK_SECONDS * 1000 - 1);
    talk_expect_log("rcpt=", 0);
    talk_advance_ms(1);
    talk_expect_fate("b@y.test", 'L');
    talk_expect_log("the message was not taken", 1);
    talk_expect_log("may arrive twice", 0);
    end_narrow();
}
END_TEST

/* Slow is not dead: as long as bytes are taken, only the whole transaction
 * has an end. */
START_TEST(b14_little_is_taken_at_a_time)
{
    static char taken[16384];
    begin_narrow(8000000);
    for (unsigned passed = 0; passed < TRANSACTION_SECONDS; passed += 100) {
        talk_expect_log("rcpt=", 0);
        for (unsigned i = 0; i < 10; i++) {
            (void)!recv(talk.fd, taken, sizeof taken, 0);
            talk_turn(1);
        }
        talk_advance(passed + 100 < TRANSACTION_SECONDS ? 100 : 99);
    }
    talk_expect_log("rcpt=", 0);
    talk_advance(1);
    talk_expect_fate("b@y.test", 'L');
    end_narrow();
}
END_TEST

/* Another mail is on its way all the while. */
START_TEST(b14_a_slow_one_holds_no_other_up)
{
    begin_narrow(8000000);
    int slow = talk.fd;
    talk.fd = -1;
    talk_mail_to("c@y.test");
    for (unsigned i = 0; i < 50 && talk_fate("c@y.test") != 'S'; i++) {
        talk_settle();
        talk_robot();
    }
    talk_expect_fate("c@y.test", 'S');
    talk_expect_fate("b@y.test", '-');
    close(slow);
    end_narrow();
}
END_TEST

/* ---- B15: a verdict in mid-message --------------------------------------- */

START_TEST(b15_verdict_before_the_end)
{
    static const struct {
        const char *reply;
        char fate;
    } rows[] = {
        {"550 5.7.1 no\r\n", 'R'},   {"552 5.3.4 big\r\n", 'R'},
        {"451 4.3.0 busy\r\n", 'L'}, {"421 4.3.2 down\r\n", 'L'},
        {"250 2.0.0 lies\r\n", 'L'},
    };
    for (size_t i = 0; i < 3 * COUNT(rows); i++) {
        size_t n = i / 3;
        begin_narrow(1000000);
        talk.is_byte_wise = false;
        /* the words and the end, at once: writing fails first */
        (void)!send(talk.fd, rows[n].reply, strlen(rows[n].reply), 0);
        if (i % 3 < 2)
            talk_hang_up(i % 3);
        talk_settle();
        talk_expect_fate("b@y.test", rows[n].fate);
        talk_expect_log("rcpt=", 1);
        if (rows[n].fate != 'L' || rows[n].reply[0] == '4')
            talk_expect_log(rows[n].reply[0] == '5' ? "5." : "4.", 1);
        end_narrow();
    }
}
END_TEST

/* ---- B16, B17: the end of a connection ----------------------------------- */

START_TEST(b16_taken_then_reset)
{
    for (unsigned way = 0; way < 4; way++) {
        begin_at(AT_DOT, way & 1);
        (void)!send(talk.fd, "250 took\r\n", 10, 0);
        talk_hang_up(way & 2);
        end_at(AT_IDLE, NULL);
    }
}
END_TEST

START_TEST(b16_no_reply_to_quit)
{
    begin_at(AT_QUIT, 0);
    talk_advance_ms(REPLY_QUIT_SECONDS * 1000);
    talk_expect_end();
    end_at(AT_QUIT, NULL);
}
END_TEST

START_TEST(b17_idle_connection_dies_as_it_is_used)
{
    for (int is_reset = 0; is_reset < 2; is_reset++) {
        begin_at(AT_IDLE, 0);
        talk_mail_to("c@y.test");
        talk_expect(MAIL_LINE);
        talk_hang_up(is_reset);
        talk_expect_log("on a fresh connection", 1);
        talk_expect_fate("c@y.test", '-');
        /* at once; and a fresh one that dies the same way is no excuse */
        talk_until_mail(AT_MAIL, false);
        talk_hang_up(is_reset);
        talk_expect_log("on a fresh connection", 1);
        talk_expect_fate("c@y.test", 'L');
        ck_assert_int_eq(talk_take(0), -1);
        talk_end();
    }
}
END_TEST

/* 421 to MAIL on a connection that has worked: it has had its fill, as if it
 * were closed. */
START_TEST(b17_connection_has_had_its_fill)
{
    for (unsigned way = 0; way < 4; way++) {
        begin_at(AT_IDLE, way);
        talk_mail_to("c@y.test");
        talk_expect(MAIL_LINE);
        if (way & 1)
            talk_expect("RCPT TO:<c@y.test>\r\n" DATA_LINE);
        int64_t start_ms = talk.now_ms;
        talk_say("421 4.7.0 too many messages\r\n");
        talk_expect_end();
        talk_expect_log("too many messages\" again=\"on a fresh connection", 1);
        talk_expect_log("route=paused", 0);
        talk_expect_fate("c@y.test", '-');
        talk_until_mail(AT_AUTH, false);
        talk_say("235 ok\r\n");
        talk_expect(MAIL_LINE);
        talk_say("250 ok\r\n");
        talk_expect("RCPT TO:<c@y.test>\r\n");
        ck_assert_int_eq(talk.now_ms, start_ms);
        talk_end();
    }
}
END_TEST

/* Later in a transaction it ends that, and no route: the connection has
 * worked. Whom the smarthost had taken is not sent. */
START_TEST(b17_turned_away_in_mid_transaction)
{
    static const struct {
        const char *replies;
    } rows[] = {
        {"250 ok\r\n"},
        {"250 ok\r\n250 ok\r\n"},
        {"250 ok\r\n250 ok\r\n250 ok\r\n"},
    };
    for (size_t i = 0; i < 2 * COUNT(rows); i++) {
        const char *at = rows[i / 2].replies;
        bool is_pipelining = i & 1;
        begin_at(AT_IDLE, is_pipelining);
        talk_mail_to("c@y.test d@y.test");
        talk_settle();
        for (; *at; at += 8) {
            char one[9] = "";
            memcpy(one, at, 8);
            talk_say(one);
        }
        talk_say("421 4.3.2 down\r\n");
        talk_pull();
        talk.got_bytes = 0;
        talk_expect_end();
        talk_expect_fate("c@y.test", 'L');
        talk_expect_fate("d@y.test", 'L');
        talk_expect_log("421 4.3.2 down", 2);
        talk_expect_log("route=paused", 0);
        talk_expect_log("may arrive twice", 0);
        talk_end();
    }
}
END_TEST

/* ---- The program ends ---------------------------------------------------- */

START_TEST(abandoned_at_each_stage)
{
    for (int stage = AT_GREETING; stage < AT_STAGES; stage++)
        for (unsigned way = 0; way < 2; way++) {
            begin_at((enum talk_stage)stage, way);
            talk_forget_log();
            unsigned fds = talk_count_fds();
            smtp_out_abandon(talk.now_ms);
            ck_assert_uint_eq(talk_count_fds(), fds - 1);
            bool is_in_hand = stage >= AT_MAIL && stage <= AT_DOT;
            talk_expect_log("reply=\"lanpost stops", is_in_hand);
            talk_expect_log("in_doubt why=\"lanpost stops\"", stage == AT_DOT);
            talk_expect_fate("b@y.test", is_in_hand ? 'L' : '-');
            talk_expect_log("route=", 0);
            ck_assert_uint_eq(talk_waiting(), stage < AT_IDLE);
            talk_expect_end();
            talk_end();
        }
}
END_TEST

/* There is no fresh connection to come. */
START_TEST(abandoned_before_the_first_reply)
{
    begin_at(AT_IDLE, 0);
    talk_mail_to("c@y.test");
    talk_expect(MAIL_LINE);
    smtp_out_abandon(talk.now_ms);
    talk_expect_fate("c@y.test", 'L');
    talk_expect_log("on a fresh connection", 0);
    talk_expect_end();
    talk_end();
}
END_TEST

/* The dot is still with us. */
START_TEST(abandoned_in_mid_body)
{
    begin_narrow(8000000);
    smtp_out_abandon(talk.now_ms);
    talk_expect_log("lanpost stops", 1);
    talk_expect_log("may arrive twice", 0);
    end_narrow();
}
END_TEST

/* ---- Turns are bounded --------------------------------------------------- */

/* What lanpost has sent and the kernel has carried over. */
static size_t drain_smarthost(void)
{
    static char taken[1 << 18];
    struct pollfd in = {.fd = talk.fd, .events = POLLIN};
    size_t count = 0;
    ssize_t n = 1;
    while (n > 0 && poll(&in, 1, 5) > 0) {
        n = recv(talk.fd, taken, sizeof taken, 0);
        count += n > 0 ? (size_t)n : 0;
    }
    return count;
}

/* True: there was a reason to wake. */
static bool run_when_woken(void)
{
    poller_reset(&talk.p);
    smtp_out_prep(&talk.p, talk.now_ms);
    int ready = poll(talk.p.fds, (nfds_t)talk.p.count, 100);
    bool is_woken = ready > 0 || talk.p.wake_ms <= talk.now_ms;
    if (is_woken)
        smtp_out_run(&talk.p, talk.now_ms);
    return is_woken;
}

START_TEST(a_fast_smarthost_takes_no_turn_for_itself)
{
    const size_t bytes = 8000000;
    size_t most = 0, sum = 0;
    talk_begin(1, "");
    talk_big_mail(bytes);
    talk_until(AT_DATA, true);
    (void)!send(talk.fd, "354 go\r\n", 8, 0);
    while (sum < bytes + 3) {
        ck_assert_msg(run_when_woken(), "it sleeps on %zu bytes", sum);
        size_t moved = drain_smarthost();
        most = moved > most ? moved : most;
        sum += moved;
    }
    ck_assert_uint_gt(most, 4 * CONNECTION_OUT_BYTES);
    ck_assert_uint_le(most, 17 * CONNECTION_OUT_BYTES);
    talk_say("250 took\r\n");
    talk_expect_fate("b@y.test", 'S');
    talk_end();
}
END_TEST

/* ---- B18: no tight loops ------------------------------------------------- */

static const char *three_mails_each(struct talk_client *c, const char *line)
{
    return strncmp(line, "MAIL", 4) == 0 && c->messages >= 3
               ? "421 4.7.0 too many messages\r\n"
               : NULL;
}

START_TEST(b18_so_many_mails_per_connection)
{
    talk_begin(1, "connections_max = 1\n");
    talk.extensions = "250 HELP\r\n";
    for (unsigned i = 0; i < 30; i++)
        talk_mail();
    talk.rule = three_mails_each;
    talk_serve(600);
    ck_assert_uint_eq(talk.delivered, 30);
    ck_assert_uint_le(talk.connections, 12);
    talk_end();
}
END_TEST

static const char *part_after_login(struct talk_client *c, const char *line)
{
    (void)c;
    return strncmp(line, "AUTH", 4) == 0 ? "235 ok\r\n421 4.7.0 bye\r\n" : NULL;
}

/* The login is good, and then there is nothing: that must not be tried a
 * thousand times a second. */
START_TEST(b18_hangs_up_behind_the_login)
{
    talk_begin(1, TALK_LOGIN);
    talk_mail();
    talk.rule = part_after_login;
    for (unsigned i = 0; i < 100; i++) {
        talk_settle();
        talk_robot();
    }
    ck_assert_uint_le(talk.connections, 3);
    ck_assert_uint_eq(talk_waiting(), 1);
    talk_end();
}
END_TEST

/* ---- B20, B21: extensions come and go; replies out of step --------------- */

START_TEST(b20_extensions_are_those_of_the_last_ehlo)
{
    talk_begin(1, "");
    talk_mail_of("a@x.test", "b@y.test", BODY_TEXT, strlen(BODY_TEXT),
                 QUEUE_IS_8BIT);
    talk_until(AT_EHLO, false);
    talk_say("250-x\r\n250-PIPELINING\r\n250-SIZE\r\n250 8BITMIME\r\n");
    talk_expect(
        "MAIL FROM:<a@x.test> SIZE=22 BODY=8BITMIME\r\n" RCPT_LINE DATA_LINE);
    talk_hang_up(false);
    talk_advance(18);
    talk_until(AT_EHLO, false);
    talk_say("250 x\r\n");
    talk_expect(MAIL_LINE);
    talk_expect_nothing();
    talk_end();
}
END_TEST

START_TEST(b21_more_replies_than_commands)
{
    static const char *const words[] = {
        "250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n",
        "250 ok\r\n250 ok\r\n354 go\r\n250 took\r\n"};
    for (size_t i = 0; i < 2 * COUNT(words); i++) {
        begin_at(AT_MAIL, 1);
        talk_say(words[i / 2]);
        talk_expect_end();
        talk_expect_fate("b@y.test", 'L');
        talk_end();
    }
}
END_TEST

/* Replies to what is still with us: the pipeline does not fit our buffer, and
 * the smarthost does not wait for it. */
START_TEST(b21_replies_to_what_has_not_left)
{
    static const char *const verdicts[] = {"250 ok\r\n", "550 no\r\n"};
    static char to[32768], replies[2048];
    for (size_t i = 0; i < COUNT(verdicts); i++) {
        talk_begin(1, "");
        make_recipients(to, sizeof to, true);
        talk_mail_to(to);
        talk_until(AT_EHLO, false);
        (void)!send(talk.fd, "250-x\r\n250 PIPELINING\r\n", 23, 0);
        talk_turn(1000);
        talk_pull();
        ck_assert_uint_gt(talk.got_bytes, CONNECTION_OUT_BYTES / 2);
        ck_assert_uint_lt(talk.got_bytes, strlen(to));
        strcpy(replies, "250 ok\r\n");
        for (unsigned n = 0; n < 100; n++)
            strcat(replies, verdicts[i]);
        strcat(replies, "354 go\r\n");
        talk_say(replies);
        talk_pull();
        talk.got_bytes = 0;
        talk_expect_end();
        talk_expect_log("\" sent\n", 0);
        talk_expect_log("rcpt=<", 100);
        ck_assert_uint_ge(talk_logged("out of step"), 5);
        talk_expect_log("may arrive twice", 0);
        talk_end();
    }
}
END_TEST

static void add_tests_of_replies(TCase *tests)
{
    tcase_add_test(tests, b1_refused);
    tcase_add_test(tests, b1_blackhole);
    tcase_add_test(tests, b1_greeting_just_in_time);
    tcase_add_test(tests, b1_endless_greeting);
    tcase_add_test(tests, b2_broken_replies);
    tcase_add_test(tests, b2_odd_replies_are_borne);
    tcase_add_test(tests, b2_floods);
    tcase_add_test(tests, b3_two_replies_to_one_command);
    tcase_add_test(tests, b3_unsolicited_while_idle);
    tcase_add_test(tests, b3_verdict_then_another);
    tcase_add_test(tests, b12_wrong_kind_of_reply);
    tcase_add_test(tests, b20_extensions_are_those_of_the_last_ehlo);
    tcase_add_test(tests, b21_more_replies_than_commands);
    tcase_add_test(tests, b21_replies_to_what_has_not_left);
}

static void add_tests_of_login(TCase *tests)
{
    tcase_add_test(tests, b4_starttls_not_offered);
    tcase_add_test(tests, b4_starttls_refused);
    tcase_add_test(tests, b4_starttls_354);
    tcase_add_test(tests, b4_starttls_unanswered);
    tcase_add_test(tests, b4_starttls_220_then_close);
    tcase_add_test(tests, b4_handshake_stalls);
    tcase_add_test(tests, b5_injected_behind_the_220);
    tcase_add_test(tests, b5_injected_in_another_segment);
    tcase_add_test(tests, b5_injected_before_starttls);
    tcase_add_test(tests, b6_helo_where_nothing_is_at_stake);
    tcase_add_test(tests, b6_no_helo_where_a_login_is_set);
    tcase_add_test(tests, b6_helo_refused);
    tcase_add_test(tests, b6_keywords);
    tcase_add_test(tests, b6_too_many_keywords);
    tcase_add_test(tests, b7_login_refused_three_times_an_hour);
    tcase_add_test(tests, b7_login_put_off);
    tcase_add_test(tests, b7_334_to_plain);
    tcase_add_test(tests, b7_334_for_ever);
    tcase_add_test(tests, b7_no_mechanism_of_ours);
}

static void add_tests_of_messages(TCase *tests)
{
    tcase_add_test(tests, b8_disconnect_at_each_stage);
    tcase_add_test(tests, b8_disconnect_in_mid_reply);
    tcase_add_test(tests, b8_disconnect_in_mid_body);
    tcase_add_test(tests, b9_mail_refused_and_the_pipeline_lost);
    tcase_add_test(tests, b10_hundred_recipients_mixed);
    tcase_add_test(tests, b11_354_although_all_are_refused);
    tcase_add_test(tests, b11_354_although_mail_was_refused);
    tcase_add_test(tests, b13_stall_at_the_dot);
    tcase_add_test(tests, b14_nothing_is_taken);
    tcase_add_test(tests, b14_little_is_taken_at_a_time);
    tcase_add_test(tests, b14_a_slow_one_holds_no_other_up);
    tcase_add_test(tests, b15_verdict_before_the_end);
    tcase_add_test(tests, b16_taken_then_reset);
    tcase_add_test(tests, b16_no_reply_to_quit);
    tcase_add_test(tests, b17_idle_connection_dies_as_it_is_used);
    tcase_add_test(tests, b17_connection_has_had_its_fill);
    tcase_add_test(tests, b17_turned_away_in_mid_transaction);
    tcase_add_test(tests, abandoned_at_each_stage);
    tcase_add_test(tests, abandoned_before_the_first_reply);
    tcase_add_test(tests, abandoned_in_mid_body);
    tcase_add_test(tests, a_fast_smarthost_takes_no_turn_for_itself);
    tcase_add_test(tests, b18_so_many_mails_per_connection);
    tcase_add_test(tests, b18_hangs_up_behind_the_login);
}

Suite *suite_smtp_out_faults(void)
{
    static const struct {
        const char *name;
        void (*add)(TCase *tests);
    } rows[] = {
        {"replies", add_tests_of_replies},
        {"login", add_tests_of_login},
        {"messages", add_tests_of_messages},
    };
    Suite *suite = suite_create("smtp_out_faults");
    for (size_t i = 0; i < COUNT(rows); i++) {
        TCase *tests = tcase_create(rows[i].name);
        tcase_set_timeout(tests, 120);
        rows[i].add(tests);
        suite_add_tcase(suite, tests);
    }
    return suite;
}
