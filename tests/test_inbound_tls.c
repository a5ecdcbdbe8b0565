/* smtp_in, smtp_dialogue, link, tls: TLS as devices speak it: STARTTLS, from
 * the first byte on, and on the wrong port. The devices are clients of the same
 * library, at the other end of a socketpair, under the invented clock. a13 is a
 * row of our list of faults. */
#include <time.h>

#include <mbedtls/ssl.h>
#include <mbedtls/version.h>
#include <mbedtls/x509_crt.h>

#include "../crypto.h"
#include "../tls.h"
#include "talk.h"

Suite *suite_inbound_tls(void);

#define MAIL       "MAIL FROM:<a@example.com>\r\n"
#define RCPT       "RCPT TO:<b@example.net>\r\n"
#define HI         "Subject: x\r\n\r\nhi\r\n"
#define DETECT_MS  TLS_DETECT_MS
#define SHAKE_MS   (CLIENT_TLS_SECONDS * (int64_t)1000)
#define HELLO_ROOM 256
#define AT_ONCE    "tls_detect_ms = 0\n"

/* ---- Devices that encrypt ------------------------------------------------ */

static char certificate[CRYPTO_CERTIFICATE_BYTES];
static char strange_certificate[CRYPTO_CERTIFICATE_BYTES];
static mbedtls_x509_crt authorities; /* one, and not ours */
static mbedtls_ssl_config trusting, distrusting;

struct secure {
    mbedtls_ssl_context ssl;
    int fd;
    size_t piece;     /* so many bytes leave in a write; 0: all */
    bool was_goodbye; /* the relay has ended it properly */
};

#if MBEDTLS_VERSION_NUMBER < 0x04000000
static int random_bytes(void *unused, unsigned char *out, size_t count)
{
    (void)unused;
    crypto_random(out, count);
    return 0;
}
#endif

static void configure(mbedtls_ssl_config *c, int demand)
{
    mbedtls_ssl_config_init(c);
    ck_assert_int_eq(mbedtls_ssl_config_defaults(c, MBEDTLS_SSL_IS_CLIENT,
                                                 MBEDTLS_SSL_TRANSPORT_STREAM,
                                                 MBEDTLS_SSL_PRESET_DEFAULT),
                     0);
#if MBEDTLS_VERSION_NUMBER < 0x04000000
    mbedtls_ssl_conf_rng(c, random_bytes, NULL);
#endif
    mbedtls_ssl_conf_authmode(c, demand);
    mbedtls_ssl_conf_ca_chain(c, &authorities, NULL);
}

static void make_certificate(const char *name, char *out)
{
    ck_assert(crypto_make_certificate(&name, 1, (int64_t)time(NULL), out,
                                      CRYPTO_CERTIFICATE_BYTES));
}

/* Once in a process: there is no way back to a relay without a certificate,
 * and making one takes its time. */
static void be_somebody(void)
{
    char why[TLS_WHY_BYTES] = "";
    if (*certificate != '\0')
        return;
    ck_assert(crypto_init());
    make_certificate(OUR_NAME, certificate);
    make_certificate("another.test", strange_certificate);
    ck_assert_msg(tls_serve(certificate, certificate, why), "%s", why);
    tls_commit();
    const char *chain = strstr(strange_certificate, "-----BEGIN CERT");
    mbedtls_x509_crt_init(&authorities);
    ck_assert_int_eq(mbedtls_x509_crt_parse(&authorities,
                                            (const unsigned char *)chain,
                                            strlen(chain) + 1),
                     0);
    configure(&trusting, MBEDTLS_SSL_VERIFY_NONE);
    configure(&distrusting, MBEDTLS_SSL_VERIFY_REQUIRED);
}

/* Between two pieces the relay has its turn, so it sees them one by one. */
static int wire_send(void *secure, const unsigned char *bytes, size_t count)
{
    const struct secure *s = secure;
    if (s->piece > 0 && count > s->piece)
        count = s->piece;
    ssize_t n = send(s->fd, bytes, count, MSG_NOSIGNAL);
    if (n < 0)
        return errno == EAGAIN ? MBEDTLS_ERR_SSL_WANT_WRITE
                               : MBEDTLS_ERR_SSL_CONN_EOF;
    if (s->piece > 0)
        settle(NULL);
    return (int)n;
}

static int wire_receive(void *secure, unsigned char *bytes, size_t room)
{
    const struct secure *s = secure;
    ssize_t n = recv(s->fd, bytes, room, MSG_DONTWAIT);
    if (n < 0)
        return errno == EAGAIN ? MBEDTLS_ERR_SSL_WANT_READ
                               : MBEDTLS_ERR_SSL_CONN_EOF;
    return (int)n;
}

static ssize_t secure_receive(struct device *d, void *data, size_t room)
{
    struct secure *s = d->inside;
    int rc = mbedtls_ssl_read(&s->ssl, data, room);
    if (rc > 0)
        return rc;
    s->was_goodbye |= rc == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY;
    errno = rc == MBEDTLS_ERR_SSL_WANT_READ ? EAGAIN : ECONNRESET;
    return s->was_goodbye || rc == 0 || rc == MBEDTLS_ERR_SSL_CONN_EOF ? 0 : -1;
}

static ssize_t secure_send(struct device *d, const void *data, size_t count)
{
    struct secure *s = d->inside;
    int rc = mbedtls_ssl_write(&s->ssl, data, count);
    if (rc > 0)
        return rc;
    errno = rc == MBEDTLS_ERR_SSL_WANT_WRITE ? EAGAIN : EPIPE;
    return -1;
}

static void secure_leave(struct device *d)
{
    struct secure *s = d->inside;
    mbedtls_ssl_free(&s->ssl);
    free(s);
    d->inside = NULL;
}

static struct secure *wrap(struct device *d, const mbedtls_ssl_config *config)
{
    struct secure *s = calloc(1, sizeof *s);
    ck_assert_ptr_nonnull(s);
    mbedtls_ssl_init(&s->ssl);
    ck_assert_int_eq(mbedtls_ssl_setup(&s->ssl, config), 0);
    ck_assert_int_eq(mbedtls_ssl_set_hostname(&s->ssl, OUR_NAME), 0);
    mbedtls_ssl_set_bio(&s->ssl, s, wire_send, wire_receive, NULL);
    s->fd = d->fd;
    d->inside = s;
    d->receive = secure_receive;
    d->send = secure_send;
    d->leave = secure_leave;
    return s;
}

/* As far as it gets without waiting. */
static int shake_some(struct device *d)
{
    struct secure *s = d->inside;
    return mbedtls_ssl_handshake(&s->ssl);
}

static int shake(struct device *d)
{
    int rc = MBEDTLS_ERR_SSL_WANT_READ;
    for (int i = 0; i < 20 && (rc == MBEDTLS_ERR_SSL_WANT_READ ||
                               rc == MBEDTLS_ERR_SSL_WANT_WRITE);
         i++) {
        rc = shake_some(d);
        settle(NULL);
    }
    return rc;
}

static void shake_well(struct device *d)
{
    int rc = shake(d);
    ck_assert_msg(rc == 0, "handshake: -0x%04x: %s", (unsigned)-rc, log_text);
}

static struct device *call_door(const char *from, bool is_tls)
{
    int fds[2];
    struct device *d = vacant_device();
    struct ip_endpoint client = {.port = 40000};
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
    ck_assert(ip_parse(from, &client.address));
    d->fd = fds[0];
    smtp_in_adopt(fds[1], &client, is_tls, now_ms);
    return d;
}

/* A device that waits for its banner. */
static struct device *call_plain(const char *from)
{
    struct device *d = call(from);
    pass(settings()->tls_detect_ms, d);
    expect(d, "220 " OUR_NAME);
    return d;
}

static struct device *call_for_starttls(const char *from)
{
    struct device *d = call_plain(from);
    ask(d, "EHLO before\r\n", "250-");
    ask(d, "STARTTLS\r\n", "220 2.0.0 ");
    wrap(d, &trusting);
    return d;
}

static struct device *call_with_starttls(const char *from)
{
    struct device *d = call_for_starttls(from);
    shake_well(d);
    ask(d, "EHLO inside\r\n", "250-");
    return d;
}

static struct device *call_implicit(const char *from)
{
    struct device *d = call_door(from, true);
    wrap(d, &trusting);
    shake_well(d);
    settle(d);
    expect(d, "220 " OUR_NAME);
    ask(d, "EHLO inside\r\n", "250-");
    return d;
}

static void leave(struct device *d)
{
    hang_up_device(d);
    settle(NULL);
}

static void quit(struct device *d)
{
    ask(d, "QUIT\r\n", "221 2.0.0");
    expect_end(d);
    ck_assert_msg(((struct secure *)d->inside)->was_goodbye,
                  "TLS ended without close_notify");
    leave(d);
}

static void expect_hi(const char *protocol, const char *helo)
{
    char received[128];
    snprintf(received, sizeof received, "Received: from %s (", helo);
    expect_body(HI, strlen(HI));
    ck_assert_msg(strncmp(mail.head, received, strlen(received)) == 0, "%s",
                  mail.head);
    snprintf(received, sizeof received, " with %s id ", protocol);
    ck_assert_msg(strstr(mail.head, received) != NULL, "%s", mail.head);
}

static void open_tls_house(void)
{
    be_somebody();
    house_rules = HOUSE_RULES;
    open_house();
}

/* All sessions of TLS were given back. */
static void expect_all_slots_free(void)
{
    struct tls *all[CLIENT_TLS_MAX];
    for (size_t i = 0; i < CLIENT_TLS_MAX; i++) {
        all[i] = tls_open(-1, NULL);
        ck_assert_ptr_nonnull(all[i]);
    }
    for (size_t i = 0; i < CLIENT_TLS_MAX; i++)
        tls_close(all[i]);
}

static void close_tls_house(void)
{
    house_rules = HOUSE_RULES HOUSE_IS_PLAIN;
    furnish("");
    house_in_order();
    expect_all_slots_free();
}

/* ---- Three ways in ------------------------------------------------------- */

START_TEST(starttls_and_a_mail)
{
    struct device *d = call_plain("10.0.0.9");
    say_all(d, "EHLO before\r\n");
    ck_assert_ptr_nonnull(strstr(reply(d), "\r\n250-STARTTLS\r\n"));
    ask(d, "STARTTLS\r\n", "220 2.0.0 Ready to start TLS\r\n");
    struct secure *s = wrap(d, &trusting);
    shake_well(d);
    say_all(d, "EHLO inside\r\n");
    const char *text = reply(d);
    ck_assert_ptr_null(strstr(text, "STARTTLS"));
    ck_assert_ptr_nonnull(strstr(text, "\r\n250-AUTH PLAIN LOGIN\r\n"));
    forget_log();
    send_a_mail(d);
    char version[64];
    snprintf(version, sizeof version,
             " helo=\"inside\" from=<a@example.com> "
             "rcpt=1 bytes=18 tls=%s auth=- ",
             mbedtls_ssl_get_version(&s->ssl));
    ck_assert_msg(logged(strstr(version, " helo")) == 1, "%s", log_text);
    expect_hi("ESMTPS", "inside");
    quit(d);
}
END_TEST

START_TEST(implicit_tls_and_a_mail)
{
    struct device *d = call_implicit("10.0.0.9");
    ask(d, "AUTH PLAIN AHgAeQ==\r\n", "235 2.7.0");
    send_a_mail(d);
    expect_hi("ESMTPSA", "inside");
    ask(d, "STARTTLS\r\n", "503 5.5.1");
    quit(d);
}
END_TEST

/* A ClientHello in time: so many ms after the connection. */
START_TEST(a_clienthello_on_the_plain_port_in_time)
{
    static const int64_t after_ms[] = {0, 1, DETECT_MS / 2, DETECT_MS - 1};
    for (size_t i = 0; i < COUNT(after_ms); i++) {
        struct device *d = call("10.0.0.9");
        pass(after_ms[i], d);
        ck_assert_uint_eq(d->heard, 0);
        wrap(d, &trusting);
        shake_well(d);
        settle(d);
        expect(d, "220 " OUR_NAME);
        ask(d, "EHLO inside\r\n", "250-");
        send_a_mail(d);
        expect_hi("ESMTPS", "inside");
        quit(d);
    }
}
END_TEST

START_TEST(a_silent_device_is_greeted_to_the_millisecond)
{
    static const int waits_ms[] = {DETECT_MS, 1, 5000};
    for (size_t i = 0; i < COUNT(waits_ms); i++) {
        char line[64];
        snprintf(line, sizeof line, "tls_detect_ms = %d\n", waits_ms[i]);
        furnish(line);
        struct device *d = call("10.0.0.9");
        settle(d);
        ck_assert_int_eq(wake_ms, now_ms + waits_ms[i]);
        pass(waits_ms[i] - 1, d);
        ck_assert_uint_eq(d->heard, 0);
        pass(1, d);
        expect(d, "220 " OUR_NAME);
        leave(d);
    }
}
END_TEST

START_TEST(an_early_talker_is_not_kept_waiting)
{
    struct device *d = call("10.0.0.9");
    pass(DETECT_MS / 4, d);
    say_all(d, "E");
    expect(d, "220 ");
    ask(d, "HLO me\r\n", "250-");
    send_a_mail(d);
    expect_hi("ESMTP", "me");
    leave(d);
    d = call("10.0.0.9");
    say_all(d, "EHLO me\r\n" MAIL RCPT "DATA\r\n" HI ".\r\nQUIT\r\n");
    for (int i = 0; i < 5; i++)
        ck_assert_str_ne(reply(d), "");
    expect(d, "250 2.0.0 Queued");
    expect(d, "221");
    expect_end(d);
    expect_hi("ESMTP", "me");
}
END_TEST

START_TEST(who_hangs_up_before_the_banner)
{
    struct device *d = call("10.0.0.9");
    settle(d);
    leave(d);
    ck_assert_uint_eq(smtp_in_clients(), 0);
    d = call("10.0.0.9");
    shutdown(d->fd, SHUT_WR);
    settle(d);
    expect(d, "220 ");
    expect_end(d);
    leave(d);
    ck_assert_uint_eq(smtp_in_clients(), 0);
}
END_TEST

/* ---- Handshakes in pieces ------------------------------------------------ */

START_TEST(handshakes_byte_by_byte)
{
    for (size_t piece = 1; piece < 60; piece *= 7) {
        struct device *way[3];
        way[0] = call_for_starttls("10.0.0.9");
        way[1] = call_door("10.0.0.10", true);
        wrap(way[1], &trusting);
        way[2] = call("10.0.0.11");
        wrap(way[2], &trusting);
        for (int i = 0; i < 3; i++) {
            struct secure *s = way[i]->inside;
            s->piece = piece;
            shake_well(way[i]);
            settle(way[i]);
            if (i > 0)
                expect(way[i], "220 ");
            say_all(way[i], "EHLO inside\r\n");
            expect(way[i], "250-");
            send_a_mail(way[i]);
            expect_hi("ESMTPS", "inside");
            s->piece = 0;
            quit(way[i]);
        }
    }
}
END_TEST

START_TEST(a_megabyte_through_tls)
{
    static char text[1 << 20];
    struct device *d = call_with_starttls("10.0.0.9");
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (char)(i % 78 < 76    ? 'a' + i % 26
                         : i % 78 == 76 ? '\r'
                                        : '\n');
    memcpy(text, "\r\n", 2);
    memcpy(text + sizeof text - 2, "\r\n", 2);
    start_data(d);
    say_bytes(d, text, sizeof text);
    ask(d, ".\r\n", "250 2.0.0 Queued");
    expect_body(text, sizeof text);
    quit(d);
}
END_TEST

/* Several commands in one record, and one in several. */
START_TEST(pipelining_under_tls)
{
    struct device *d = call_implicit("10.0.0.9");
    say_all(d, MAIL RCPT "DATA\r\n" HI ".\r\n" MAIL RCPT "DATA\r\n");
    expect(d, "250 2.1.0");
    expect(d, "250 2.1.5");
    expect(d, "354");
    expect(d, "250 2.0.0 Queued");
    expect(d, "250 2.1.0");
    expect(d, "250 2.1.5");
    expect(d, "354");
    drip(d, HI ".\r\nQUIT\r\n");
    expect(d, "250 2.0.0 Queued");
    expect(d, "221");
    expect_end(d);
    expect_hi("ESMTPS", "inside");
    expect_hi("ESMTPS", "inside");
}
END_TEST

/* ---- RFC 3207 ------------------------------------------------------------ */

START_TEST(a13_starttls_refused)
{
    struct device *d = call_plain("10.0.0.9");
    ask(d, "EHLO me\r\n", "250-");
    ask(d, "STARTTLS now\r\n", "501 5.5.4");
    ask(d, "starttls\r\n", "220 2.0.0");
    wrap(d, &trusting);
    shake_well(d);
    ask(d, "EHLO me\r\n", "250-");
    ask(d, "STARTTLS\r\n", "503 5.5.1");
    send_a_mail(d);
    expect_hi("ESMTPS", "me");
}
END_TEST

START_TEST(a13_starttls_in_a_transaction_ends_it)
{
    struct queue_counts n;
    struct device *d = call_plain("10.0.0.9");
    ask(d, "EHLO me\r\n", "250-");
    ask(d, "MAIL FROM:<a@example.com> SIZE=20000000\r\n", "250");
    ask(d, RCPT, "250");
    ask(d, "STARTTLS\r\n", "220 2.0.0");
    queue_count(&n);
    ck_assert_uint_eq(n.blocks_reserved + n.writing, 0);
    wrap(d, &trusting);
    shake_well(d);
    ask(d, RCPT, "503 5.5.1");
    ask(d, "DATA\r\n", "503 5.5.1");
    ask(d, MAIL, "503 5.5.1 EHLO");
    ask(d, "EHLO me\r\n", "250-");
    ask(d, "DATA\r\n", "503 5.5.1");
    send_a_mail(d);
    expect_hi("ESMTPS", "me");
}
END_TEST

/* CVE-2011-0411: what was said in clear is never obeyed under TLS. */
START_TEST(a13_commands_behind_starttls)
{
    static const char *const behind[] = {"RSET\r\n",
                                         "M",
                                         "\r\n",
                                         "EHLO evil\r\n" MAIL RCPT "DATA\r\n" HI
                                         ".\r\n",
                                         "AUTH PLAIN AHgAeQ==\r\n",
                                         "\x16\x03\x01"};
    for (size_t i = 0; i < COUNT(behind); i++) {
        char text[512];
        struct device *d = call_plain("10.0.0.9");
        ask(d, "EHLO me\r\n", "250-");
        forget_log();
        snprintf(text, sizeof text, "STARTTLS\r\n%s", behind[i]);
        say_all(d, text);
        expect(d, "501 5.5.1");
        expect_end(d);
        ck_assert_uint_eq(logged("it sent commands behind STARTTLS"), 1);
        ck_assert_uint_eq(log_lines, 1);
        leave(d);
        ck_assert(!take_mail());
    }
}
END_TEST

/* The same in segments of their own, at each moment between its reply and the
 * handshake: the library gets them, and they are no handshake. */
START_TEST(a13_clear_text_where_tls_is_due)
{
    for (int turns = 0; turns < 5; turns++) {
        struct device *d = call_plain("10.0.0.9");
        ask(d, "EHLO me\r\n", "250-");
        forget_log();
        push(d, "STARTTLS\r\n", 10);
        for (int i = 0; i < turns; i++)
            turn();
        if (turns == 0) /* not in one read with it */
            continue;
        push(d, "EHLO evil\r\n" MAIL RCPT "DATA\r\n" HI ".\r\n",
             strlen("EHLO evil\r\n" MAIL RCPT "DATA\r\n" HI ".\r\n"));
        for (int i = 0; i < 20 && turn(); i++)
            ;
        hear(d);
        d->heard = strcspn(d->text, "\n") + 1; /* behind it an alert may come */
        expect(d, "220 2.0.0");
        leave(d);
        ck_assert_msg(
            logged("why=\"it answered in clear where TLS was due\"") == 1,
            "%d: %s", turns, log_text);
        ck_assert_uint_eq(smtp_in_clients(), 1);
        ck_assert(!take_mail());
    }
}
END_TEST

START_TEST(a13_nothing_said_before_tls_is_known_behind_it)
{
    struct device *d = call_plain("10.0.0.9");
    ask(d, "EHLO before\r\n", "250-");
    ask(d, "AUTH PLAIN AHgAeQ==\r\n", "235");
    ask(d, "STARTTLS\r\n", "220");
    wrap(d, &trusting);
    shake_well(d);
    ask(d, MAIL, "503 5.5.1 EHLO");
    ask(d, "AUTH PLAIN AHgAeQ==\r\n", "503 5.5.1 EHLO");
    ask(d, "HELO inside\r\n", "250 " OUR_NAME);
    forget_log();
    send_a_mail(d);
    ck_assert_uint_eq(logged(" helo=\"inside\" "), 1);
    ck_assert_uint_eq(logged(" auth=- "), 1);
    expect_hi("SMTP", "inside");
    ask(d, "AUTH PLAIN AHoAeQ==\r\n", "235");
    forget_log();
    send_a_mail(d);
    ck_assert_uint_eq(logged(" auth=z "), 1);
    expect_hi("SMTP", "inside");
}
END_TEST

START_TEST(a_login_must_be_done_anew_behind_tls)
{
    furnish("require_auth = 10.0.0.0/8\naccept_any_auth = yes\n");
    struct device *d = call_plain("10.0.0.9");
    ask(d, "EHLO before\r\n", "250-");
    ask(d, "AUTH PLAIN AHgAeQ==\r\n", "235");
    ask(d, "STARTTLS\r\n", "220");
    wrap(d, &trusting);
    shake_well(d);
    ask(d, "EHLO inside\r\n", "250-");
    ask(d, MAIL, "530 5.7.0");
    ask(d, "AUTH PLAIN AHgAeQ==\r\n", "235");
    send_a_mail(d);
    expect_hi("ESMTPSA", "inside");
}
END_TEST

/* ---- Lists of networks --------------------------------------------------- */

START_TEST(no_starttls_to)
{
    furnish(AT_ONCE "no_starttls_to = 10.0.0.0/24\nrequire_tls = 10.0.0.0/8\n");
    struct device *d = call_plain("10.0.0.9");
    say_all(d, "EHLO me\r\n");
    const char *text = reply(d);
    ck_assert_ptr_null(strstr(text, "STARTTLS"));
    ck_assert_ptr_nonnull(strstr(text, "AUTH PLAIN LOGIN"));
    ask(d, "STARTTLS\r\n", "502 5.5.1");
    ask(d, "AUTH PLAIN AHgAeQ==\r\n", "235"); /* and none is required */
    send_a_mail(d);
    expect_hi("ESMTPA", "me");
    d = call_with_starttls("10.0.1.9");
    send_a_mail(d);
    expect_hi("ESMTPS", "inside");
    d = call_implicit("10.0.0.9"); /* who can do it may */
    send_a_mail(d);
    expect_hi("ESMTPS", "inside");
}
END_TEST

START_TEST(require_tls)
{
    furnish("require_tls = 10.0.0.0/24\n");
    struct device *d = call_plain("10.0.0.9");
    ask(d, "NOOP\r\n", "250");
    say_all(d, "EHLO me\r\n");
    const char *text = reply(d);
    ck_assert_ptr_nonnull(strstr(text, "250-STARTTLS"));
    ck_assert_ptr_null(strstr(text, "AUTH"));
    forget_log();
    ask(d, "AUTH PLAIN AHgAeQ==\r\n", "530 5.7.0");
    ask(d, MAIL, "530 5.7.0");
    ask(d, MAIL, "530 5.7.0");
    ck_assert_uint_eq(logged("it did not encrypt, and must\" advice=\""), 1);
    ask(d, RCPT, "503 5.5.1");
    ask(d, "RSET\r\n", "250");
    ask(d, "STARTTLS\r\n", "220");
    wrap(d, &trusting);
    shake_well(d);
    ask(d, "EHLO me\r\n", "250-");
    ask(d, "AUTH PLAIN AHgAeQ==\r\n", "235");
    send_a_mail(d);
    expect_hi("ESMTPSA", "me");
    d = call_plain("10.0.1.9");
    ask(d, "EHLO me\r\n", "250-");
    send_a_mail(d);
    expect_hi("ESMTP", "me");
}
END_TEST

/* ---- The wrong port, the wrong TLS --------------------------------------- */

/* A ClientHello by hand: its version, one cipher. */
static size_t make_hello(uint8_t *out, uint8_t record_minor, uint8_t minor,
                         uint16_t cipher)
{
    uint8_t body[] = {3,
                      minor, /* version */
                      0,
                      0,
                      0,
                      0,
                      0,
                      0,
                      0,
                      0,
                      0,
                      0,
                      0,
                      0,
                      0,
                      0, /* random */
                      0,
                      0,
                      0,
                      0,
                      0,
                      0,
                      0,
                      0,
                      0,
                      0,
                      0,
                      0,
                      0,
                      0,
                      0,
                      0,
                      0,
                      0,
                      0, /* session */
                      0,
                      2,
                      (uint8_t)(cipher >> 8),
                      (uint8_t)cipher,
                      1,
                      0}; /* no compression */
    uint8_t head[] = {0x16, 3, record_minor, 0, 4 + sizeof body, 1,
                      0,    0, sizeof body};
    memcpy(out, head, sizeof head);
    memcpy(out + sizeof head, body, sizeof body);
    return sizeof head + sizeof body;
}

static const struct old_row {
    const char *name;
    uint8_t record_minor, minor;
    uint16_t cipher;
    const char *why;
} old_rows[] = {
    {"SSL 3.0", 0, 0, 0x000a, "its TLS is too old: TLS 1.2 is the least"},
    {"TLS 1.0", 1, 1, 0x002f, "its TLS is too old: TLS 1.2 is the least"},
    {"TLS 1.1", 1, 2, 0x002f, "its TLS is too old: TLS 1.2 is the least"},
    {"TLS 1.1", 2, 2, 0xc014, "its TLS is too old: TLS 1.2 is the least"},
    {"TLS 1.2, RC4", 1, 3, 0x0005, "its TLS has no cipher in common with ours"},
    {"TLS 1.2, CBC", 3, 3, 0x002f, "its TLS has no cipher in common with ours"},
};

/* Until the relay hangs up, whatever it says: an alert, or nothing. A socket
 * that is closed with unread garbage in it resets the connection. */
static void expect_silence_and_end(struct device *d)
{
    char text[512];
    settle(NULL);
    ssize_t n = recv(d->fd, text, sizeof text, MSG_DONTWAIT);
    ck_assert_msg(n <= 0 || (text[0] == 0x15 && n == 7), "%zd bytes: %.3s", n,
                  text);
    if (n > 0)
        n = recv(d->fd, text, sizeof text, MSG_DONTWAIT);
    ck_assert_msg(n == 0 || errno == ECONNRESET, "still open");
}

START_TEST(tls_that_is_too_old)
{
    const struct old_row *w = &old_rows[_i];
    for (int way = 0; way < 3; way++) {
        uint8_t hello[HELLO_ROOM];
        size_t n = make_hello(hello, w->record_minor, w->minor, w->cipher);
        struct device *d = way == 0   ? call("10.0.0.9")
                           : way == 1 ? call_door("10.0.0.9", true)
                                      : call_plain("10.0.0.9");
        if (way == 2)
            ask(d, "STARTTLS\r\n", "220");
        forget_log();
        ck_assert_uint_eq(push(d, hello, n), n);
        expect_silence_and_end(d);
        leave(d);
        ck_assert_msg(logged(w->why) == 1, "%s: %s", w->name, log_text);
        ck_assert_msg(logged("advice=\"update the device, or add it to "
                             "no_starttls_to") == 1,
                      "%s", log_text);
        ck_assert_uint_eq(log_lines, 1);
    }
}
END_TEST

START_TEST(a_clienthello_behind_the_banner)
{
    for (int is_off = 0; is_off < 2; is_off++) {
        furnish(is_off ? AT_ONCE : "");
        struct device *d = call_plain("10.0.0.9");
        forget_log();
        wrap(d, &trusting);
        ck_assert_int_ne(shake(d), 0);
        ck_assert_msg(logged("why=\"TLS hello on the plain port\" "
                             "advice=\"set the device to STARTTLS, or to a "
                             "port of listen_tls, or raise tls_detect_ms\"") ==
                          1,
                      "%s", log_text);
        ck_assert_uint_eq(log_lines, 1);
        leave(d);
    }
}
END_TEST

static const struct garbage_row {
    const char *bytes;
    size_t count;
    const char *why;
} garbage_rows[] = {
#define ROW(bytes, why)                                                        \
    {                                                                          \
        bytes, sizeof bytes - 1, why                                           \
    }
    ROW("EHLO me\r\n", "it answered in clear where TLS was due"),
    ROW("GET / HTTP/1.1\r\n\r\n", "it answered in clear where TLS was due"),
    ROW("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        "it answered in clear where TLS was due"),
    ROW("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        "it answered in clear where TLS was due"),
    /* a ClientHello of SSL 2.0, as the oldest devices begin with */
    ROW("\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10", "its TLS is too old"),
    ROW("\x16\x03\x01\xff\xff\x01\x00\x00\x00\x00\x00", "why=\""),
    ROW("\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00", "why=\""),
    ROW("\x16\x03\x03\x00\x04\x01\x00\x00\x00", "why=\""),
    ROW("\x17\x03\x03\x00\x04zzzz", "why=\""),
#undef ROW
};

START_TEST(garbage_instead_of_a_handshake)
{
    const struct garbage_row *w = &garbage_rows[_i];
    for (int way = 0; way < 2; way++) {
        struct device *d =
            way ? call_door("10.0.0.9", true) : call_plain("10.0.0.9");
        if (way == 0)
            ask(d, "STARTTLS\r\n", "220");
        forget_log();
        push(d, w->bytes, w->count);
        expect_silence_and_end(d);
        leave(d);
        ck_assert_msg(logged(w->why) == 1, "%s", log_text);
        ck_assert_uint_eq(log_lines, 1);
        ck_assert_uint_eq(smtp_in_clients(), 0);
    }
}
END_TEST

START_TEST(a_device_that_does_not_trust_us)
{
    for (int way = 0; way < 2; way++) {
        struct device *d =
            way ? call_door("10.0.0.9", true) : call_plain("10.0.0.9");
        if (way == 0)
            ask(d, "STARTTLS\r\n", "220");
        forget_log();
        wrap(d, &distrusting);
        ck_assert_int_eq(shake(d), MBEDTLS_ERR_X509_CERT_VERIFY_FAILED);
        leave(d);
        ck_assert_msg(logged("why=\"it does not trust our certificate\" "
                             "advice=\"switch certificate checks off") == 1,
                      "%s", log_text);
        ck_assert_uint_eq(log_lines, 1);
    }
}
END_TEST

/* In the words of RFC 5246 section 7.2; the alert comes where our certificate
 * was shown. */
static const struct alert_row {
    uint8_t alert;
    const char *why;
} alert_rows[] = {
    {42, "it does not trust our certificate"},
    {43, "it does not trust our certificate"},
    {45, "it does not trust our certificate"},
    {46, "it does not trust our certificate"},
    {48, "it does not trust our certificate"},
    {70, "its TLS is too old"},
    {40, "its TLS handshake failed:"},
    {80, "its TLS handshake failed:"},
};

START_TEST(alerts_in_words)
{
    const struct alert_row *w = &alert_rows[_i];
    uint8_t alert[] = {0x15, 3, 3, 0, 2, 2, w->alert};
    struct device *d = call_door("10.0.0.9", true);
#if MBEDTLS_VERSION_NUMBER >= 0x03000000 /* TLS 1.3 would encrypt its alert */
    mbedtls_ssl_conf_max_tls_version(&trusting, MBEDTLS_SSL_VERSION_TLS1_2);
#endif
    struct secure *s = wrap(d, &trusting);
    ck_assert_int_eq(shake_some(d), MBEDTLS_ERR_SSL_WANT_READ);
    settle(NULL);
    forget_log();
    ck_assert_int_eq(send(s->fd, alert, sizeof alert, 0), sizeof alert);
    settle(NULL);
    leave(d);
    ck_assert_msg(logged(w->why) == 1, "%u: %s", w->alert, log_text);
    ck_assert_uint_eq(log_lines, 1);
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
    mbedtls_ssl_conf_max_tls_version(&trusting, MBEDTLS_SSL_VERSION_TLS1_3);
#endif
}
END_TEST

START_TEST(a_device_that_hangs_up_in_mid_handshake)
{
    for (int how = 0; how < 3; how++) {
        struct device *d = call_door("10.0.0.9", true);
        struct secure *s = wrap(d, &trusting);
        forget_log();
        if (how > 0)
            shake_some(d);
        settle(NULL);
        if (how == 2) { /* half a record of the next flight */
            ck_assert_int_eq(send(s->fd, "\x16\x03\x03\x00\x46\x10", 6, 0), 6);
            settle(NULL);
        }
        leave(d);
        ck_assert_msg(logged("it hung up during the TLS handshake") == 1,
                      "%d: %s", how, log_text);
        ck_assert_uint_eq(log_lines, 1);
        ck_assert_uint_eq(smtp_in_clients(), 0);
    }
}
END_TEST

/* Gone before our flight is out: the alert is never read by the library, it
 * only finds that nobody takes what it writes. */
static const struct late_row {
    uint8_t alert; /* 0: none */
    const char *why;
} late_rows[] = {
    {42, "it does not trust our certificate\" advice=\"switch"},
    {46, "it does not trust our certificate\" advice=\"switch"},
    {48, "it does not trust our certificate\" advice=\"switch"},
    {70, "its TLS is too old"},
    {40, "its TLS handshake failed:"},
    {0, "it hung up during the TLS handshake\" advice=\"it may not trust"},
};

START_TEST(an_alert_and_a_close_in_mid_flight)
{
    const struct late_row *w = &late_rows[_i];
    uint8_t alert[] = {0x15, 3, 3, 0, 2, 2, w->alert};
    for (int way = 0; way < 3; way++) {
        struct device *d = way == 0   ? call_plain("10.0.0.9")
                           : way == 1 ? call_door("10.0.0.9", true)
                                      : call("10.0.0.9");
        if (way == 0)
            ask(d, "STARTTLS\r\n", "220");
        forget_log();
        struct secure *s = wrap(d, &trusting);
        ck_assert_int_eq(shake_some(d), MBEDTLS_ERR_SSL_WANT_READ);
        if (way == 2)
            ck_assert(turn()); /* its hello is seen, and not yet read */
        if (w->alert != 0)
            ck_assert_int_eq(send(s->fd, alert, sizeof alert, 0), sizeof alert);
        leave(d);
        ck_assert_msg(logged(w->why) == 1, "%d: %s", way, log_text);
        ck_assert_uint_eq(log_lines, 1);
        ck_assert_uint_eq(smtp_in_clients(), 0);
    }
}
END_TEST

/* With TLS 1.3 a device looks at our certificate when we are done already; and
 * not all say what they think of it. */
START_TEST(who_hangs_up_right_behind_the_handshake)
{
    static const char why[] = "it hung up right after the TLS handshake\" "
                              "advice=\"it may not trust our certificate";
    for (int way = 0; way < 3; way++)
        for (int how = 0; how < 3; how++) {
            struct device *d = way == 0   ? call_for_starttls("10.0.0.9")
                               : way == 1 ? call_door("10.0.0.9", true)
                                          : call("10.0.0.9");
            if (way > 0)
                wrap(d, &trusting);
            shake_well(d);
            settle(d);
            if (way > 0)
                expect(d, "220 ");
            forget_log();
            if (how == 1)
                mbedtls_ssl_close_notify(&((struct secure *)d->inside)->ssl);
            if (how == 2) /* who spoke was content with us */
                ask(d, "EHLO inside\r\n", "250-");
            leave(d);
            ck_assert_msg(logged(why) == (how < 2), "%d %d: %s", way, how,
                          log_text);
            ck_assert_uint_eq(log_lines, how < 2);
            ck_assert_uint_eq(smtp_in_clients(), 0);
        }
}
END_TEST

/* The hello of SSL 2.0 where SMTP is due, before the banner and behind it. */
START_TEST(a_hello_of_ssl_2_on_the_plain_port)
{
    for (int is_late = 0; is_late < 2; is_late++) {
        struct device *d = is_late ? call_plain("10.0.0.9") : call("10.0.0.9");
        forget_log();
        say_bytes(d, "\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10", 11);
        if (!is_late)
            expect(d, "220 ");
        ck_assert_uint_eq(d->heard, 0); /* it would not be understood */
        expect_end(d);
        ck_assert_msg(logged("its TLS is too old: TLS 1.2 is the least\" "
                             "advice=\"update the device") == 1,
                      "%s", log_text);
        ck_assert_uint_eq(log_lines, 1);
        leave(d);
    }
}
END_TEST

/* ---- Deadlines ----------------------------------------------------------- */

static const struct stall_row {
    const char *name;
    int way;      /* 0: STARTTLS, 1: implicit, 2: on the plain port */
    bool is_told; /* has said hello */
} stall_rows[] = {
    {"a13 STARTTLS and silence", 0, false},
    {"STARTTLS and a hello", 0, true},
    {"silence", 1, false},
    {"a hello", 1, true},
    {"a hello on the plain port", 2, true},
};

START_TEST(a13_handshakes_that_stall)
{
    const struct stall_row *w = &stall_rows[_i];
    struct device *d = w->way == 0   ? call_plain("10.0.0.9")
                       : w->way == 1 ? call_door("10.0.0.9", true)
                                     : call("10.0.0.9");
    if (w->way == 0)
        ask(d, "STARTTLS\r\n", "220");
    wrap(d, &trusting);
    int64_t start_ms = now_ms;
    if (w->is_told)
        shake_some(d);
    settle(NULL);
    forget_log();
    ck_assert_int_eq(wake_ms, start_ms + SHAKE_MS);
    now_ms = start_ms + SHAKE_MS - 1;
    settle(NULL);
    ck_assert_uint_eq(log_lines, 0);
    pass(1, NULL);
    ck_assert_msg(logged("its TLS handshake took too long") == 1, "%s",
                  log_text);
    ck_assert_uint_eq(log_lines, 1);
    leave(d);
    ck_assert_uint_eq(smtp_in_clients(), 0);
}
END_TEST

START_TEST(a_drip_does_not_move_the_deadline)
{
    uint8_t hello[HELLO_ROOM];
    make_hello(hello, 1, 3, 0xc02b);
    struct device *d = call_door("10.0.0.9", true);
    for (int second = 0; second < CLIENT_TLS_SECONDS; second++) {
        ck_assert_uint_eq(logged("took too long"), 0);
        push(d, hello + second, 1);
        pass(1000, NULL);
    }
    ck_assert_uint_eq(logged("took too long"), 1);
}
END_TEST

/* Behind the handshake the usual deadlines hold. */
START_TEST(idle_under_tls)
{
    struct device *d = call_with_starttls("10.0.0.9");
    pass(CLIENT_IDLE_SECONDS * 1000 - 1, d);
    ck_assert(!d->has_ended);
    pass(1, d);
    expect(d, "421 4.4.2");
    expect_end(d);
    ck_assert(((struct secure *)d->inside)->was_goodbye);
}
END_TEST

/* ---- Strangers ----------------------------------------------------------- */

START_TEST(strangers_get_no_tls)
{
    struct device *d = call("192.0.2.9");
    settle(d);
    expect(d, "220 "); /* at once: nothing is to be detected */
    say_all(d, "EHLO me\r\n");
    ck_assert_ptr_null(strstr(reply(d), "STARTTLS"));
    forget_log();
    ask(d, "STARTTLS\r\n", "550 5.7.1");
    ask(d, "STARTTLS\r\n", "550 5.7.1");
    ck_assert_uint_eq(logged("its address is not in allow_from"), 1);
    ask(d, MAIL, "250 2.1.0");
    ask(d, RCPT, "550 5.7.1");
    leave(d);
    forget_log();
    d = call_door("192.0.2.9", true);
    settle(d);
    ck_assert_uint_eq(d->heard, 0);
    expect_end(d);
    ck_assert_uint_eq(logged("its address is not in allow_from"), 1);
    leave(d);
    d = call("192.0.2.9");
    wrap(d, &trusting);
    ck_assert_int_ne(shake(d), 0);
    leave(d);
    ck_assert_uint_eq(smtp_in_clients(), 0);
}
END_TEST

/* ---- Many ---------------------------------------------------------------- */

static struct device *call_number(unsigned number, bool is_tls)
{
    char from[32];
    snprintf(from, sizeof from, "10.1.%u.%u", number / 250, number % 250 + 1);
    return call_door(from, is_tls);
}

static void fill_slots(struct device *all[CLIENT_TLS_MAX])
{
    for (unsigned i = 0; i < CLIENT_TLS_MAX; i++) {
        ck_assert(tls_can_serve());
        all[i] = call_number(i, true);
        wrap(all[i], &trusting);
        shake_well(all[i]);
        settle(all[i]);
        expect(all[i], "220 ");
    }
    ck_assert(!tls_can_serve());
}

START_TEST(all_slots_taken)
{
    struct device *all[CLIENT_TLS_MAX], *d;
    d = call_plain("10.0.0.8"); /* was offered it, and comes too late */
    ask(d, "EHLO me\r\n", "250-");
    fill_slots(all);
    forget_log();
    ask(d, "STARTTLS\r\n", "454 4.7.0");
    ck_assert_uint_eq(logged("all TLS sessions are taken"), 1);
    send_a_mail(d);
    expect_hi("ESMTP", "me");
    struct device *late = call("10.0.0.9");
    settle(late);
    expect(late, "220 "); /* no use to wait for a hello */
    say_all(late, "EHLO me\r\n");
    ck_assert_ptr_null(strstr(reply(late), "STARTTLS"));
    leave(late);
    forget_log();
    late = call_door("10.0.0.9", true);
    settle(late);
    expect_end(late);
    ck_assert_uint_eq(logged("all TLS sessions are taken"), 1);
    leave(late);
    quit(all[3]);
    ask(d, "STARTTLS\r\n", "220");
    wrap(d, &trusting);
    shake_well(d);
    ask(d, "EHLO me\r\n", "250-");
    send_a_mail(d);
    expect_hi("ESMTPS", "me");
    leave(d);
    d = call_implicit("10.0.0.9");
    send_a_mail(d);
    expect_hi("ESMTPS", "inside");
}
END_TEST

/* Three ways to ask for TLS: EHLO, STARTTLS, and from the first byte on. True:
 * it was to be had. d: called before; NULL: calls now. It is gone then. */
static bool can_have_tls(int way, struct device *d)
{
    bool is_good = false;
    if (d == NULL)
        d = way == 2 ? call_door("10.0.0.9", true) : call_plain("10.0.0.9");
    if (way == 0) {
        say_all(d, "EHLO me\r\n");
        is_good = strstr(reply(d), "\r\n250-STARTTLS\r\n") != NULL;
    } else if (way == 1) {
        say_all(d, "STARTTLS\r\n");
        is_good = strncmp(reply(d), "220 ", 4) == 0;
    } else {
        settle(NULL);
        wrap(d, &trusting);
        is_good = shake(d) == 0;
    }
    leave(d);
    return is_good;
}

/* Who is still there of those who hold the slots? */
static unsigned still_there(struct device *all[CLIENT_TLS_MAX])
{
    unsigned count = 0;
    for (unsigned i = 0; i < CLIENT_TLS_MAX; i++) {
        settle(all[i]);
        count += !all[i]->has_ended;
    }
    return count;
}

#define EVICT_MS (CLIENT_EVICT_SECONDS * (int64_t)1000)

START_TEST(who_asks_for_tls_in_vain_finds_a_slot_later)
{
    struct device *all[CLIENT_TLS_MAX], *early[5] = {NULL};
    for (size_t i = 0; i < COUNT(early) && _i < 2; i++)
        early[i] = call_plain("10.0.0.9"); /* to call is a wish, too */
    fill_slots(all);
    pass(1, NULL);
    for (unsigned i = 0; i < CLIENT_TLS_MAX; i++)
        if (i != 5)
            ask(all[i], "NOOP\r\n", "250");
    pass(EVICT_MS - 2, NULL);
    ck_assert(!can_have_tls(_i, early[0])); /* nobody is lazy yet */
    ck_assert(!can_have_tls(_i, early[1]));
    pass(1, NULL); /* now one of them is: he gives way to the next who asks */
    ck_assert_uint_eq(still_there(all), CLIENT_TLS_MAX);
    forget_log();
    ck_assert(!can_have_tls(_i, early[2]));
    ck_assert_uint_eq(still_there(all), CLIENT_TLS_MAX - 1);
    expect(all[5], "421 4.4.2");
    ck_assert_uint_eq(logged("client=10.1.0.6 helo=\"\" refused why=\"silent"),
                      1);
    ck_assert(can_have_tls(_i, early[3]));
    ck_assert(can_have_tls(_i, early[4])); /* and nobody else has to */
    ck_assert_uint_eq(still_there(all), CLIENT_TLS_MAX - 1);
}
END_TEST

/* Neither a mail in clear nor time alone is a wish. */
START_TEST(without_a_wish_for_tls_nobody_gives_way)
{
    struct device *all[CLIENT_TLS_MAX];
    struct device *d = call_plain("10.0.0.9");
    ask(d, "EHLO me\r\n", "250-");
    fill_slots(all);
    for (int i = 0; i < 3; i++) {
        pass(EVICT_MS, d);
        send_a_mail(d);
        expect_hi("ESMTP", "me");
    }
    struct device *stranger = call_door("192.0.2.9", true); /* gets none */
    settle(stranger);
    expect_end(stranger);
    leave(stranger);
    ck_assert_uint_eq(still_there(all), CLIENT_TLS_MAX);
}
END_TEST

/* However slow it is: CLIENT_RATE_BYTES are for that. */
START_TEST(a_message_under_tls_never_gives_way)
{
    struct device *all[CLIENT_TLS_MAX];
    fill_slots(all);
    for (unsigned i = 0; i < CLIENT_TLS_MAX; i++) {
        ask(all[i], "EHLO inside\r\n", "250-");
        start_data(all[i]);
        say_all(all[i], "Subject: x\r\n");
    }
    for (int i = 0; i < 3; i++) {
        pass(EVICT_MS, NULL);
        for (int way = 0; way < 3; way++)
            ck_assert(!can_have_tls(way, NULL));
    }
    ck_assert_uint_eq(still_there(all), CLIENT_TLS_MAX);
    say_all(all[9], "\r\nhi\r\n.\r\n");
    expect(all[9], "250 2.0.0 Queued");
    expect_hi("ESMTPS", "inside");
    ck_assert(
        !can_have_tls(0, NULL)); /* he is not lazy, though all are older */
    ck_assert_uint_eq(still_there(all), CLIENT_TLS_MAX);
    pass(EVICT_MS, NULL);
    ck_assert(!can_have_tls(0, NULL));
    ck_assert_uint_eq(still_there(all), CLIENT_TLS_MAX - 1);
    expect(all[9], "421 4.4.2");
    ck_assert(can_have_tls(0, NULL));
}
END_TEST

/* Neither side takes the other's slots. */
START_TEST(the_smarthost_has_slots_of_its_own)
{
    char why[TLS_WHY_BYTES] = "", name[] = "/tmp/test_inbound_tls.XXXXXX";
    struct device *all[CLIENT_TLS_MAX];
    struct tls *out[CONNECTION_SLOTS];
    const char *chain = strstr(certificate, "-----BEGIN CERT");
    int fd = mkstemp(name);
    ck_assert_int_eq(write(fd, chain, strlen(chain)), (ssize_t)strlen(chain));
    ck_assert_msg(tls_init(name, why), "%s", why);
    tls_commit();
    close(fd);
    unlink(name);
    fill_slots(all);
    for (int i = 0; i < CONNECTION_SLOTS; i++) {
        out[i] = tls_open(-1, OUR_NAME);
        ck_assert_ptr_nonnull(out[i]);
    }
    ck_assert_ptr_null(tls_open(-1, OUR_NAME));
    quit(all[0]);
    ck_assert_ptr_null(tls_open(-1, OUR_NAME));
    struct device *d = call_implicit("10.0.0.9");
    send_a_mail(d);
    expect_hi("ESMTPS", "inside");
    for (int i = 0; i < CONNECTION_SLOTS; i++)
        tls_close(out[i]);
}
END_TEST

/* Two asked while there was one slot left: the one whose handshake begins
 * later has had its 220, and is told by the end of the connection. */
START_TEST(the_last_slot_is_taken_between_220_and_the_handshake)
{
    struct device *all[CLIENT_TLS_MAX];
    struct device *one = call_plain("10.0.0.8"), *two = call_plain("10.0.0.9");
    fill_slots(all);
    leave(all[0]);
    forget_log();
    push(one, "STARTTLS\r\n", 10);
    push(two, "STARTTLS\r\n", 10);
    settle(one);
    settle(two);
    expect(one, "220");
    unsigned ended = 0;
    const char *text = reply(two);
    ended += strncmp(text, "454", 3) == 0 || two->has_ended;
    ck_assert_uint_eq(ended, 1);
    ck_assert_uint_eq(logged("all TLS sessions are taken"), 1);
    wrap(one, &trusting);
    shake_well(one);
}
END_TEST

/* A handshake costs a millisecond and more: sixteen in one turn would be felt.
 * The others are answered in the very turn in which they ask. */
START_TEST(many_handshakes_hold_up_nobody)
{
    furnish(AT_ONCE);
    struct device *all[CLIENT_TLS_MAX];
    unsigned turns = 0, up = 0, most = 0;
    bool is_up[CLIENT_TLS_MAX] = {false};
    struct device *plain = call_plain("10.0.0.9");
    for (unsigned i = 0; i < CLIENT_TLS_MAX; i++) {
        all[i] = call_number(i, true);
        wrap(all[i], &trusting);
        shake_some(all[i]); /* its hello lies there */
    }
    while (up < CLIENT_TLS_MAX && turns < 200) {
        unsigned answered = 0;
        push(plain, "RSET\r\n", 6);
        ck_assert(turn());
        turns++;
        ck_assert_msg(hear(plain), "turn %u: the plain one waits", turns);
        expect(plain, "250 2.0.0");
        if (turns % 50 == 0)
            plain->heard = 0;
        for (unsigned i = 0; i < CLIENT_TLS_MAX; i++) {
            char byte;
            answered += !is_up[i] && recv(all[i]->fd, &byte, 1,
                                          MSG_PEEK | MSG_DONTWAIT) == 1;
        }
        most = answered > most ? answered : most;
        for (unsigned i = 0; i < CLIENT_TLS_MAX; i++)
            if (!is_up[i] && shake_some(all[i]) == 0) {
                is_up[i] = true;
                up++;
            }
    }
    ck_assert_uint_eq(up, CLIENT_TLS_MAX);
    ck_assert_uint_le(most, CLIENT_HEAVY_PER_TURN);
    /* hello and key exchange: each at most four in a turn */
    ck_assert_uint_ge(turns, 2 * CLIENT_TLS_MAX / CLIENT_HEAVY_PER_TURN);
}
END_TEST

/* ---- The end ------------------------------------------------------------- */

START_TEST(the_end_of_tls_in_data)
{
    for (int is_goodbye = 0; is_goodbye < 2; is_goodbye++) {
        struct device *d = call_implicit("10.0.0.9");
        start_data(d);
        say_all(d, "Subject: x\r\n\r\nhalf of it");
        forget_log();
        if (is_goodbye)
            mbedtls_ssl_close_notify(&((struct secure *)d->inside)->ssl);
        settle(d);
        leave(d);
        ck_assert_uint_eq(smtp_in_clients(), 0);
        ck_assert_msg(logged("hung up in DATA, after 24 bytes") == 1, "%s",
                      log_text);
        ck_assert(!take_mail());
        expect_nothing_held();
    }
}
END_TEST

START_TEST(a_goodbye_behind_everything_gets_its_replies)
{
    struct device *d = call_implicit("10.0.0.9");
    push(d, MAIL RCPT "DATA\r\n" HI ".\r\n",
         strlen(MAIL RCPT "DATA\r\n" HI ".\r\n"));
    mbedtls_ssl_close_notify(&((struct secure *)d->inside)->ssl);
    settle(d);
    expect(d, "250 2.1.0");
    expect(d, "250 2.1.5");
    expect(d, "354");
    expect(d, "250 2.0.0 Queued");
    expect_hi("ESMTPS", "inside");
}
END_TEST

START_TEST(a_record_that_was_tampered_with)
{
    uint8_t forged[64] = {0x17, 3, 3, 0, 40};
    struct device *d = call_implicit("10.0.0.9");
    struct secure *s = d->inside;
    ask(d, MAIL, "250");
    ck_assert_int_eq(send(s->fd, forged, 45, 0), 45);
    settle(NULL);
    leave(d);
    ck_assert_uint_eq(smtp_in_clients(), 0);
    expect_nothing_held();
}
END_TEST

START_TEST(drain_during_handshakes)
{
    struct device *shaking = call_door("10.0.0.9", true);
    wrap(shaking, &trusting);
    shake_some(shaking);
    settle(NULL);
    struct device *silent = call_door("10.0.0.10", true);
    struct device *asked = call_plain("10.0.0.12");
    ask(asked, "STARTTLS\r\n", "220");
    struct device *ready = call_with_starttls("10.0.0.13");
    struct device *waiting = call("10.0.0.11");
    settle(NULL);
    smtp_in_drain(now_ms);
    settle(ready);
    expect(ready, "421 4.3.2");
    expect_end(ready);
    ck_assert(((struct secure *)ready->inside)->was_goodbye);
    settle(waiting);
    expect(waiting, "421 4.3.2");
    expect_end(waiting);
    expect_end(silent);
    expect_end(asked);
    ck_assert_int_ne(shake(shaking), 0);
    pass(2000, NULL);
    ck_assert_uint_eq(smtp_in_clients(), 0);
    session_init(OUR_NAME);
    promise_init();
}
END_TEST

/* A certificate that comes with a reload is for those who call next. */
START_TEST(a_new_certificate_while_sessions_go_on)
{
    char why[TLS_WHY_BYTES] = "";
    struct device *old = call_implicit("10.0.0.9");
    ck_assert_msg(tls_serve(strange_certificate, strange_certificate, why),
                  "%s", why);
    tls_commit();
    struct device *d = call_door("10.0.0.10", true);
    wrap(d, &distrusting); /* who now knows the one that we show */
    ck_assert_int_eq(mbedtls_ssl_set_hostname(
                         &((struct secure *)d->inside)->ssl, "another.test"),
                     0);
    shake_well(d);
    settle(d);
    expect(d, "220");
    send_a_mail(old);
    expect_hi("ESMTPS", "inside");
    ck_assert_msg(tls_serve(certificate, certificate, why), "%s", why);
    tls_commit();
    struct device *newest = call_implicit("10.0.0.11");
    ck_assert(!tls_serve(certificate, certificate, why)); /* all are busy */
    ck_assert_ptr_nonnull(strstr(why, "busy"));
    quit(old);
    ck_assert_msg(tls_serve(certificate, certificate, why), "%s", why);
    tls_commit();
    quit(d);
    quit(newest);
}
END_TEST

/* A reload that fails half way has prepared a certificate, and shows none. */
START_TEST(a_certificate_is_shown_once_it_is_committed)
{
    char why[TLS_WHY_BYTES] = "";
    for (int is_committed = 0; is_committed < 2; is_committed++) {
        ck_assert_msg(tls_serve(strange_certificate, strange_certificate, why),
                      "%s", why);
        if (is_committed)
            tls_commit();
        struct device *d = call_door("10.0.0.10", true);
        wrap(d, &distrusting); /* who knows the strange one alone */
        ck_assert_int_eq(
            mbedtls_ssl_set_hostname(&((struct secure *)d->inside)->ssl,
                                     "another.test"),
            0);
        ck_assert_int_eq(shake(d) == 0, is_committed);
        leave(d);
    }
    ck_assert_msg(tls_serve(certificate, certificate, why), "%s", why);
    tls_commit();
}
END_TEST

/* Must come first in the process, before there is any certificate. Where all
 * tests share one, and another suite made one before, nothing is to be seen. */
START_TEST(without_a_certificate)
{
    house_rules = HOUSE_RULES;
    open_house();
    if (!tls_can_serve()) {
        struct device *d = call("10.0.0.9");
        settle(d);
        expect(d, "220 "); /* at once */
        say_all(d, "EHLO me\r\n");
        ck_assert_ptr_null(strstr(reply(d), "STARTTLS"));
        ask(d, "STARTTLS\r\n", "454 4.7.0");
        send_a_mail(d);
        expect_hi("ESMTP", "me");
        leave(d);
        d = call_door("10.0.0.9", true);
        expect_end(d);
    }
    house_rules = HOUSE_RULES HOUSE_IS_PLAIN;
    furnish("");
    house_in_order();
}
END_TEST

static TCase *ways_case(void)
{
    TCase *c = tcase_create("ways");
    tcase_set_timeout(c, 120);
    tcase_add_checked_fixture(c, open_tls_house, close_tls_house);
    tcase_add_test(c, starttls_and_a_mail);
    tcase_add_test(c, implicit_tls_and_a_mail);
    tcase_add_test(c, a_clienthello_on_the_plain_port_in_time);
    tcase_add_test(c, a_silent_device_is_greeted_to_the_millisecond);
    tcase_add_test(c, an_early_talker_is_not_kept_waiting);
    tcase_add_test(c, who_hangs_up_before_the_banner);
    tcase_add_test(c, handshakes_byte_by_byte);
    tcase_add_test(c, a_megabyte_through_tls);
    tcase_add_test(c, pipelining_under_tls);
    tcase_add_test(c, a13_starttls_refused);
    tcase_add_test(c, a13_starttls_in_a_transaction_ends_it);
    tcase_add_test(c, a13_commands_behind_starttls);
    tcase_add_test(c, a13_clear_text_where_tls_is_due);
    tcase_add_test(c, a13_nothing_said_before_tls_is_known_behind_it);
    tcase_add_test(c, a_login_must_be_done_anew_behind_tls);
    tcase_add_test(c, no_starttls_to);
    tcase_add_test(c, require_tls);
    return c;
}

static TCase *faults_case(void)
{
    TCase *c = tcase_create("faults");
    tcase_set_timeout(c, 120);
    tcase_add_checked_fixture(c, open_tls_house, close_tls_house);
    tcase_add_loop_test(c, tls_that_is_too_old, 0, COUNT(old_rows));
    tcase_add_test(c, a_clienthello_behind_the_banner);
    tcase_add_loop_test(c, garbage_instead_of_a_handshake, 0,
                        COUNT(garbage_rows));
    tcase_add_test(c, a_device_that_does_not_trust_us);
    tcase_add_loop_test(c, alerts_in_words, 0, COUNT(alert_rows));
    tcase_add_test(c, a_device_that_hangs_up_in_mid_handshake);
    tcase_add_loop_test(c, an_alert_and_a_close_in_mid_flight, 0,
                        COUNT(late_rows));
    tcase_add_test(c, who_hangs_up_right_behind_the_handshake);
    tcase_add_test(c, a_hello_of_ssl_2_on_the_plain_port);
    tcase_add_loop_test(c, a13_handshakes_that_stall, 0, COUNT(stall_rows));
    tcase_add_test(c, a_drip_does_not_move_the_deadline);
    tcase_add_test(c, idle_under_tls);
    tcase_add_test(c, strangers_get_no_tls);
    tcase_add_test(c, all_slots_taken);
    tcase_add_loop_test(c, who_asks_for_tls_in_vain_finds_a_slot_later, 0, 3);
    tcase_add_test(c, without_a_wish_for_tls_nobody_gives_way);
    tcase_add_test(c, a_message_under_tls_never_gives_way);
    tcase_add_test(c, the_smarthost_has_slots_of_its_own);
    tcase_add_test(c, the_last_slot_is_taken_between_220_and_the_handshake);
    tcase_add_test(c, many_handshakes_hold_up_nobody);
    tcase_add_test(c, the_end_of_tls_in_data);
    tcase_add_test(c, a_goodbye_behind_everything_gets_its_replies);
    tcase_add_test(c, a_record_that_was_tampered_with);
    tcase_add_test(c, drain_during_handshakes);
    tcase_add_test(c, a_new_certificate_while_sessions_go_on);
    tcase_add_test(c, a_certificate_is_shown_once_it_is_committed);
    return c;
}

Suite *suite_inbound_tls(void)
{
    Suite *s = suite_create("inbound_tls");
    TCase *c = tcase_create("none");
    tcase_add_test(c, without_a_certificate);
    suite_add_tcase(s, c);
    suite_add_tcase(s, ways_case());
    suite_add_tcase(s, faults_case());
    return s;
}
