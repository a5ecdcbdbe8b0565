/* FUZZ_CFLAGS: -DQUEUE_BLOCKS=256 -DQUEUE_SMALL_BLOCKS=32 */
/* FUZZ_CFLAGS: -DQUEUE_MESSAGES=16 -DMESSAGE_MAX_BYTES=131072 */
/* FUZZ_CFLAGS: -DUSERS_ROUNDS=1000 */

/* A hostile device: any bytes, in pieces of any size, with any pauses.
 *
 * The first bytes of the input choose piece size, pause, and who the device is
 * and how it ends; the rest is what it says. Whatever that is, afterwards no
 * session is left, the queue is sound, and what was committed is a message
 * that may be sent on: only CRLF line ends, at least one recipient, none of a
 * stranger, none in clear or without the password where the settings demand
 * it. It is then settled, so that each input starts from nothing. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "../../clients.h"
#include "../../crypto.h"
#include "../../log.h"
#include "../../poller.h"
#include "../../queue.h"
#include "../../settings.h"
#include "../../smtp_in.h"
#include "../../smtp_session.h"
#include "../../tls.h"
#include "../../users.h"

#define NAME     "relay.test"
#define USER     "scan"
#define PASSWORD "correct horse battery"
#define MAILBOX  "scan@example.com"

#define SETTINGS                                                               \
    "smarthost = 127.0.0.1:9\nsmarthost_tls = none\n"                          \
    "postmaster = admin@example.org\n"                                         \
    "require_auth = 10.1.0.0/16 10.3.0.0/16\n"                                 \
    "require_tls = 10.2.0.0/16 10.3.0.0/16\n"
#define WITH_USERS                                                             \
    "users_file = users\ndefault_domain = example.com\n"                       \
    "rewrite_to root = admin@example.com\n"
#define WITH_ANYBODY "accept_any_auth = yes\n"

enum how {
    HOW_STRANGER = 1,
    HOW_HALF_CLOSE = 2,
    HOW_DRAIN = 4,          /* when half is said */
    HOW_DEAF = 8,           /* reads no reply */
    HOW_TLS = 16,           /* shakes hands first, and talks inside */
    HOW_USERS = 32,         /* there is a users_file, else any login is good */
    HOW_MUST_LOGIN = 64,    /* the device is of require_auth */
    HOW_MUST_ENCRYPT = 128, /* of require_tls */
    HOW_STARTTLS = 256      /* the handshake of HOW_TLS comes behind STARTTLS */
};

/* The device's end. */
struct device {
    int fd;
    struct tls *tls;
    unsigned how;
};

static struct poller poller;
static int64_t now_ms;
static bool must_be_known; /* the device that is served */
static bool said_in_clear; /* it did not say its password in base64 alone */

static void demand(bool good)
{
    if (!good)
        abort();
}

/* No password from a login, nothing that a terminal would obey, and no mail
 * that should have come with the login of a user. */
static void look_at_log(const char *line)
{
    demand(strstr(line, PASSWORD) == NULL || said_in_clear);
    demand(strstr(line, " accepted ack=") == NULL || !must_be_known ||
           strstr(line, " auth=- ") == NULL);
    for (; *line; line++)
        demand(*line >= ' ' && *line <= 0x7e);
}

/* We show a certificate that we made, and the device trusts it. */
static void make_identity(void)
{
    static const char *const names[] = {NAME};
    char text[CRYPTO_CERTIFICATE_BYTES], why[TLS_WHY_BYTES], file[32];
    int fd = memfd_create("authority", 0);
    snprintf(file, sizeof file, "/proc/self/fd/%d", fd);
    demand(crypto_init() &&
           crypto_make_certificate(names, 1, (int64_t)time(NULL), text,
                                   sizeof text) &&
           write(fd, text, strlen(text)) == (ssize_t)strlen(text) &&
           tls_serve(text, text, why) && tls_init(file, why));
    tls_commit();
    close(fd);
}

static void make_users(void)
{
    char line[USERS_LINE_BYTES], why[USERS_WHY_BYTES];
    demand(users_format(USER, PASSWORD, line, sizeof line));
    strcat(line, ":" MAILBOX "\n");
    demand(users_load_text(line, strlen(line), why));
}

static void load_settings(bool has_users)
{
    static int loaded = -1;
    char error[SETTINGS_ERROR_BYTES];
    const char *text = has_users ? SETTINGS WITH_USERS : SETTINGS WITH_ANYBODY;
    if (loaded != has_users)
        demand(settings_load_text("fuzz", text, strlen(text), error));
    loaded = has_users;
}

static void start_house(unsigned how)
{
    static bool is_open;
    if (!is_open) {
        log_to(look_at_log);
        log_set_level(LOG_AT_DEBUG);
        queue_init();
        make_identity();
        make_users();
    }
    is_open = true;
    load_settings(how & HOW_USERS);
    must_be_known = how & HOW_MUST_LOGIN && how & HOW_USERS;
    session_init(NAME);
    clients_init();
    now_ms += 3600000;
}

static void turn(void)
{
    poller_reset(&poller);
    smtp_in_prep(&poller, now_ms);
    poller_wake_at(&poller, now_ms);
    poller_wait(&poller, now_ms);
    smtp_in_run(&poller, now_ms);
}

static void hear(const struct device *d)
{
    char replies[4096];
    if (d->how & HOW_DEAF)
        return;
    while ((d->tls ? tls_read(d->tls, replies, sizeof replies)
                   : recv(d->fd, replies, sizeof replies, MSG_DONTWAIT)) > 0)
        ;
}

static ssize_t say(const struct device *d, const uint8_t *data, size_t count)
{
    return d->tls ? tls_write(d->tls, data, count)
                  : send(d->fd, data, count, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* False: that is not for strangers. */
static bool shake_hands(struct device *d)
{
    static const char asks[] = "EHLO device\r\nSTARTTLS\r\n";
    enum tls_result result = TLS_AGAIN;
    char replies[512];
    if (d->how & HOW_STARTTLS) {
        demand(send(d->fd, asks, strlen(asks), 0) > 0);
        for (int turns = 0; turns < 3; turns++)
            turn();
        while (recv(d->fd, replies, sizeof replies, 0) > 0)
            ;
        if (d->how & HOW_STRANGER)
            return true; /* it goes on in clear */
    }
    d->tls = tls_open(d->fd, NAME);
    demand(d->tls != NULL);
    for (int turns = 0; result == TLS_AGAIN && turns < 20; turns++) {
        result = tls_handshake(d->tls);
        turn();
    }
    demand(result == (d->how & HOW_STRANGER ? TLS_FAILED : TLS_DONE));
    return result == TLS_DONE;
}

static void talk(const struct device *d, const uint8_t *data, size_t bytes,
                 size_t piece, int64_t pause_ms)
{
    for (size_t done = 0; done < bytes && smtp_in_clients() > 0;) {
        size_t n = bytes - done < piece ? bytes - done : piece;
        if (say(d, data + done, n) != (ssize_t)n)
            break;
        if (d->how & HOW_DRAIN && done <= bytes / 2 && done + n > bytes / 2)
            smtp_in_drain(now_ms);
        done += n;
        turn();
        hear(d);
        now_ms += pause_ms;
    }
}

static void hang_up(struct device *d)
{
    tls_close(d->tls);
    close(d->fd);
}

/* A session lives no longer than a message may take. */
static void wait_for_the_end(struct device *d)
{
    bool is_half = d->how & HOW_HALF_CLOSE;
    if (is_half)
        shutdown(d->fd, SHUT_WR);
    else
        hang_up(d);
    for (int turns = 0; smtp_in_clients() > 0; turns++) {
        turn();
        if (is_half)
            hear(d);
        if (turns > 100)
            now_ms += CLIENT_MESSAGE_SECONDS * (int64_t)1000;
        demand(turns <= 110);
    }
    if (is_half)
        hang_up(d);
}

/* ---- What may be in the queue -------------------------------------------- */

static void check_body(queue_id id)
{
    struct queue_reader r = {0};
    size_t count, total = 0;
    uint8_t last = 0;
    const uint8_t *at;
    while ((at = queue_read(id, &r, &count)) != NULL) {
        for (size_t i = 0; i < count; i++) {
            demand((at[i] == '\n') == (last == '\r')); /* no smuggling */
            demand(at[i] != '\0');
            last = at[i];
        }
        total += count;
        queue_took(&r, count);
    }
    demand(last != '\r' && total == queue_bytes(id));
}

/* The password in base64, behind 0 to 2 bytes of its group of three: so much
 * of it as is the same whatever stands around it. */
static bool has_password(const uint8_t *data, size_t bytes)
{
    for (size_t shift = 0; shift < 3; shift++) {
        char text[64];
        struct buf b;
        buf_init(&b, text, sizeof text);
        buf_put_base64(&b, &"\0\0" PASSWORD[2 - shift],
                       shift + strlen(PASSWORD));
        size_t skip = shift > 0 ? 4 : 0;
        if (memmem(data, bytes, text + skip, buf_len(&b) - skip - 4) != NULL)
            return true;
    }
    return false;
}

static bool has_word(const uint8_t *data, size_t bytes, const char *word)
{
    size_t n = strlen(word);
    for (size_t i = 0; i + n <= bytes; i++)
        if (bytes_equal_nocase(data + i, n, word))
            return true;
    return false;
}

static void check_right(queue_id id, unsigned how, const uint8_t *said,
                        size_t bytes)
{
    demand(!(how & HOW_STRANGER));
    if (how & HOW_MUST_ENCRYPT) /* the bytes that we are fed are no client */
        demand(how & HOW_TLS);
    if (!(how & HOW_MUST_LOGIN))
        return;
    demand(has_word(said, bytes, "AUTH"));
    if (!(how & HOW_USERS))
        return;
    demand(has_password(said, bytes));
    const char *from = queue_reverse_path(id);
    demand(*from == '\0' || text_equal_nocase(from, MAILBOX));
}

static void settle_all(unsigned how, const uint8_t *said, size_t bytes)
{
    queue_id id;
    while ((id = queue_due(now_ms, true)) != QUEUE_NONE) {
        struct queue_recipient r = {0};
        unsigned recipients = 0;
        check_right(id, how, said, bytes);
        check_body(id);
        for (; queue_next_recipient(id, &r); recipients++) {
            demand(strpbrk(r.mailbox, "\r\n") == NULL);
            queue_settle(id, &r, QUEUE_DONE);
        }
        demand(recipients > 0 && recipients <= RECIPIENTS_MAX);
        demand(queue_return(id, 0));
    }
}

static void expect_nothing_left(void)
{
    struct queue_counts n;
    queue_count(&n);
    demand(queue_unsound() == NULL && !n.writing && !n.messages &&
           n.blocks_free == QUEUE_BLOCKS && !n.blocks_reserved);
    demand(tls_can_serve());
}

static struct ip_address address_of(unsigned how)
{
    struct ip_address a;
    char text[IP_TEXT_BYTES];
    unsigned net =
        (how & HOW_MUST_LOGIN ? 1u : 0u) | (how & HOW_MUST_ENCRYPT ? 2u : 0u);
    snprintf(text, sizeof text, "10.%u.0.9", net);
    ip_parse(how & HOW_STRANGER ? "192.0.2.9" : text, &a);
    return a;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static const int64_t pauses_ms[] = {0, 1, 1000, 20000, 400000};
    int fds[2];
    if (bytes < 3 || socketpair(AF_UNIX, SOCK_STREAM, 0, fds) != 0)
        return 0;
    size_t piece = data[0] == 0 ? bytes : data[0] * data[0];
    int64_t pause_ms = pauses_ms[data[1] % 5];
    struct device d = {.fd = fds[0], .how = data[2]};
    if (data[1] & 0x80)
        d.how |= HOW_STARTTLS;
    struct ip_endpoint client = {.address = address_of(d.how), .port = 1};
    data += 3;
    bytes -= 3;
    start_house(d.how);
    said_in_clear = memmem(data, bytes, PASSWORD, strlen(PASSWORD)) != NULL;
    fcntl(d.fd, F_SETFL, fcntl(d.fd, F_GETFL) | O_NONBLOCK);
    smtp_in_adopt(fds[1], &client, (d.how & HOW_TLS) && !(d.how & HOW_STARTTLS),
                  now_ms);
    if (!(d.how & HOW_TLS) || shake_hands(&d))
        talk(&d, data, bytes, piece, pause_ms);
    wait_for_the_end(&d);
    settle_all(d.how, data, bytes);
    expect_nothing_left();
    return 0;
}
