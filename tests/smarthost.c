/* smarthost: the try-out smarthost. It serves people who try lanpost, and the
 * tests.
 *
 * A strict SMTP server (RFC 5321, 3207, 4954, 3030) that takes every mail and
 * sends none on. It counts, saves or shows what came, notes what a careful
 * client never does, and plays scripted faults: see --help.
 *
 * One process per connection, all state in the static structs below; the
 * connection ends where its process ends, so nothing that hangs up returns.
 * The only memory shared between processes is struct shared.
 *
 * Way of a mail: MAIL -> mail_begin; each byte of DATA or BDAT -> mail_byte;
 * then mail_accept (saved, written to the ledger, shown) or mail_drop. It is
 * accepted before its 250 is written: a 250 that got lost is no lost mail. */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <mbedtls/base64.h>
#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/error.h>
#include <mbedtls/ssl.h>
#include <mbedtls/version.h>
#include <mbedtls/x509_crt.h>
#if MBEDTLS_VERSION_MAJOR >= 3
#include <psa/crypto.h>
#endif

#ifndef POLLRDHUP
#define POLLRDHUP 0 /* Linux alone tells of a FIN behind unread bytes */
#endif

#define LINE_BYTES       16384 /* a command; AUTH may need 12288 (RFC 4954) */
#define WIRE_BYTES       65536 /* each direction */
#define SHOWN_BYTES      65536 /* start of a mail kept for --print */
#define RCPTS_BYTES      65536
#define CONNECTIONS_MAX  512
#define FAULTS_MAX       64
#define RCPT_REPLIES_MAX 64
#define KEYWORDS_MAX     16 /* of --keyword */
#define IDLE_SECONDS     300
#define SILENT_SECONDS   3600
#define FIN_SECONDS      2 /* how long a closed connection is drained */
#define SEGMENT_PAUSE_MS 200
#define TEXT_LINE_BYTES  998

enum keyword {
    KEY_PIPELINING,
    KEY_SIZE,
    KEY_STARTTLS,
    KEY_AUTH,
    KEY_8BITMIME,
    KEY_SMTPUTF8,
    KEY_CHUNKING,
    KEY_ENHANCED,
    KEYWORDS
};
static const char *const keyword_names[KEYWORDS] = {
    "PIPELINING", "SIZE",     "STARTTLS", "AUTH",
    "8BITMIME",   "SMTPUTF8", "CHUNKING", "ENHANCEDSTATUSCODES"};

enum stage {
    STAGE_GREETING,
    STAGE_EHLO,
    STAGE_STARTTLS,
    STAGE_HANDSHAKE,
    STAGE_EHLO2,
    STAGE_AUTH,
    STAGE_MAIL,
    STAGE_RCPT,
    STAGE_DATA,
    STAGE_BODY,
    STAGE_DOT,
    STAGE_DOT_TAKEN,
    STAGE_AFTERDOT,
    STAGE_RSET,
    STAGE_QUIT,
    STAGE_OTHER,
    STAGES
};
static const char *const stage_names[STAGES] = {
    "greeting", "ehlo", "starttls", "handshake", "ehlo2", "auth",
    "mail",     "rcpt", "data",     "body",      "dot",   "dot_taken",
    "afterdot", "rset", "quit",     "other"};

/* What may be asked for at one reply: at most one fault in each slot. */
enum slot {
    SLOT_STALL,
    SLOT_FLOOD,
    SLOT_SPEECH,
    SLOT_EXTRA,
    SLOT_END,
    SLOTS
};

struct fault {
    enum stage stage;
    const struct action *action;
    const char *text; /* behind the =, escapes not yet decoded */
    unsigned number;  /* the same as a number */
    bool is_counted;  /* shared->fault_left counts down */
};

struct plan {
    const struct fault *slot[SLOTS];
};

static struct {
    const char *listen, *cert, *key, *user, *password, *auth;
    const char *save, *ledger, *transcript, *tls_max;
    bool is_implicit, auth_before_tls, needs_tls, prints;
    unsigned long size, delay_ms, rcpts_max, mails_max;
    unsigned without; /* bits 1 << enum keyword */
    struct fault faults[FAULTS_MAX];
    size_t fault_count;
    struct {
        char *pattern; /* of the recipient */
        const char *text;
    } rcpt_replies[RCPT_REPLIES_MAX];
    size_t rcpt_reply_count;
    const char *keywords[KEYWORDS_MAX];
    size_t keyword_count;
} option = {.listen = "127.0.0.1:2587",
            .auth = "PLAIN LOGIN",
            .size = 64ul << 20,
            .rcpts_max = 1000};

struct shared {
    atomic_int fault_left[FAULTS_MAX];
    atomic_uint mails;
};
static struct shared *shared;

static struct {
    int fd;
    bool is_tls;
    char in[WIRE_BYTES], out[WIRE_BYTES];
    size_t in_head, in_tail, out_count;
} wire = {.fd = -1};

static struct {
    mbedtls_entropy_context entropy;
    mbedtls_ctr_drbg_context random;
    mbedtls_x509_crt chain;
    mbedtls_pk_context key;
    mbedtls_ssl_config config;
    mbedtls_ssl_context session;
} tls;

/* True things of a session, not steps. */
enum {
    FACT_GREETED = 1 << 0, /* EHLO or HELO was accepted */
    FACT_SAFE = 1 << 1,    /* TLS is up, or is not required */
    FACT_KNOWN = 1 << 2,   /* logged in, or need not */
    FACT_MAIL = 1 << 3,    /* transaction open */
    FACT_RCPT = 1 << 4,    /* with at least one recipient */
    FACT_CHUNKS = 1 << 5,  /* a BDAT was accepted */
    FACT_UTF8 = 1 << 6     /* MAIL had SMTPUTF8 */
};
#define READY         (FACT_GREETED | FACT_SAFE | FACT_KNOWN)
#define FACTS_OF_MAIL (FACT_MAIL | FACT_RCPT | FACT_CHUNKS | FACT_UTF8)

/* What a careful client never sends; "notes=" in the .env file. */
enum note {
    NOTE_PIPELINED, /* without PIPELINING, or behind EHLO, STARTTLS, DATA */
    NOTE_BARE_LF,
    NOTE_BARE_CR,
    NOTE_LONG_LINE,
    NOTE_EIGHT_BIT, /* fine with BODY=8BITMIME */
    NOTE_NUL,
    NOTES
};
static const char *const note_names[NOTES] = {
    "pipelined", "bare_lf", "bare_cr", "long_line", "eight_bit", "nul"};

static struct {
    unsigned facts;
    unsigned notes; /* bits 1 << enum note */
    unsigned long mails;
    char helo[512];
    char login[256];
} session;

static struct {
    char from[1024], arguments[2048], rcpts[RCPTS_BYTES], temporary[PATH_MAX];
    size_t rcpts_count, rcpts_length;
    int fd; /* of the temporary file, or -1 */
    unsigned long long bytes;
    size_t line_bytes; /* since the last CRLF */
    char previous;
    bool is_answered; /* a fault in mid-body spoke: no more reply at the end */
    bool has_failed;  /* could not be saved */
    unsigned notes;
    char chunk[WIRE_BYTES]; /* on the way to fd */
    size_t chunk_count;
    char shown[SHOWN_BYTES + 1];
    size_t shown_count;
} mail = {.fd = -1};

static void leave(void) __attribute__((noreturn));
static void die(const char *format, ...)
    __attribute__((noreturn, format(printf, 1, 2)));
static int answer(enum stage stage, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("smarthost: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

static bool write_all(int fd, const char *bytes, size_t count)
{
    while (count > 0) {
        ssize_t n = write(fd, bytes, count);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        bytes += n;
        count -= (size_t)n;
    }
    return true;
}

static void pause_ms(unsigned long ms)
{
    struct timespec left = {.tv_sec = (time_t)(ms / 1000),
                            .tv_nsec = (long)(ms % 1000) * 1000000};
    while (nanosleep(&left, &left) != 0 && errno == EINTR)
        continue;
}

static int append_open(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0)
        die("cannot open %s: %s", path, strerror(errno));
    return fd;
}

/* ---- Transcript: what came in, one line of it per line ----------------- */

static struct {
    int fd;
    char line[4 * LINE_BYTES]; /* a command in one piece: it is searched */
    size_t count;
} transcript = {.fd = -1};

static void transcript_end_line(void)
{
    if (transcript.count == 0)
        return;
    transcript.line[transcript.count++] = '\n';
    write_all(transcript.fd, transcript.line, transcript.count);
    transcript.count = 0;
}

static void transcript_put(const char *bytes, size_t count)
{
    for (size_t i = 0; transcript.fd >= 0 && i < count; i++) {
        unsigned char c = (unsigned char)bytes[i];
        char *at = transcript.line;
        size_t *n = &transcript.count;
        if (*n == 0)
            *n = (size_t)sprintf(at, "%s", wire.is_tls ? "tls: " : "clear: ");
        if (c == '\r')
            *n += (size_t)sprintf(at + *n, "\\r");
        else if (c < ' ' || c >= 0x7f || c == '\\')
            *n += (size_t)sprintf(at + *n, "\\x%02x", c);
        else
            at[(*n)++] = (char)c;
        if (c == '\n' || *n > sizeof transcript.line - 8)
            transcript_end_line();
    }
}

/* ---- TLS --------------------------------------------------------------- */

static const struct {
    const char *name;
    int v2, v3; /* how mbedTLS 2.28 and 3 call it; 0 = they cannot */
} tls_versions[] = {
    {"1.0", 1, 0},
    {"1.1", 2, 0},
    {"1.2", 3, 0x0303},
    {"1.3", 0, 0x0304},
};

static void tls_limit_version(const char *name)
{
    for (size_t i = 0; i < sizeof tls_versions / sizeof *tls_versions; i++) {
        if (strcmp(name, tls_versions[i].name) != 0)
            continue;
#if MBEDTLS_VERSION_MAJOR >= 3
        if (tls_versions[i].v3 == 0)
            break;
        mbedtls_ssl_conf_max_tls_version(
            &tls.config, (mbedtls_ssl_protocol_version)tls_versions[i].v3);
#else
        if (tls_versions[i].v2 == 0)
            break;
        mbedtls_ssl_conf_max_version(&tls.config, MBEDTLS_SSL_MAJOR_VERSION_3,
                                     tls_versions[i].v2);
#endif
        return;
    }
    die("this mbedTLS cannot do --tls-max %s", name);
}

static void tls_must(int result, const char *what)
{
    char text[128];
    if (result == 0)
        return;
    mbedtls_strerror(result, text, sizeof text);
    die("%s: %s", what, text);
}

/* In each process anew: two that share their random state would make the
 * same keys. */
static void tls_load(void)
{
    mbedtls_entropy_init(&tls.entropy);
    mbedtls_ctr_drbg_init(&tls.random);
    mbedtls_x509_crt_init(&tls.chain);
    mbedtls_pk_init(&tls.key);
    mbedtls_ssl_config_init(&tls.config);
    mbedtls_ssl_init(&tls.session);
    tls_must(mbedtls_ctr_drbg_seed(&tls.random, mbedtls_entropy_func,
                                   &tls.entropy, NULL, 0),
             "random");
    tls_must(mbedtls_x509_crt_parse_file(&tls.chain, option.cert), "--cert");
#if MBEDTLS_VERSION_MAJOR >= 3
    tls_must((int)psa_crypto_init(), "PSA");
    tls_must(mbedtls_pk_parse_keyfile(&tls.key, option.key, NULL,
                                      mbedtls_ctr_drbg_random, &tls.random),
             "--key");
#else
    tls_must(mbedtls_pk_parse_keyfile(&tls.key, option.key, NULL), "--key");
#endif
    tls_must(mbedtls_ssl_config_defaults(&tls.config, MBEDTLS_SSL_IS_SERVER,
                                         MBEDTLS_SSL_TRANSPORT_STREAM,
                                         MBEDTLS_SSL_PRESET_DEFAULT),
             "TLS");
    mbedtls_ssl_conf_rng(&tls.config, mbedtls_ctr_drbg_random, &tls.random);
    if (option.tls_max)
        tls_limit_version(option.tls_max);
    tls_must(mbedtls_ssl_conf_own_cert(&tls.config, &tls.chain, &tls.key),
             "certificate and key");
}

static void tls_free(void)
{
    mbedtls_ssl_free(&tls.session);
    mbedtls_ssl_config_free(&tls.config);
    mbedtls_pk_free(&tls.key);
    mbedtls_x509_crt_free(&tls.chain);
    mbedtls_ctr_drbg_free(&tls.random);
    mbedtls_entropy_free(&tls.entropy);
#if MBEDTLS_VERSION_MAJOR >= 3
    mbedtls_psa_crypto_free();
#endif
}

static int bio_send(void *unused, const unsigned char *bytes, size_t count)
{
    (void)unused;
    ssize_t n;
    do
        n = send(wire.fd, bytes, count, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n < 0 ? MBEDTLS_ERR_SSL_CONN_EOF : (int)n;
}

static int bio_recv(void *unused, unsigned char *bytes, size_t room)
{
    (void)unused;
    ssize_t n;
    do
        n = recv(wire.fd, bytes, room, 0);
    while (n < 0 && errno == EINTR);
    return n < 0 ? MBEDTLS_ERR_SSL_CONN_EOF : (int)n;
}

static bool tls_again(int result)
{
    return result == MBEDTLS_ERR_SSL_WANT_READ ||
           result == MBEDTLS_ERR_SSL_WANT_WRITE;
}

/* ---- Wire: bytes in, bytes out ----------------------------------------- */

static size_t wire_held(void)
{
    return wire.in_tail - wire.in_head;
}

static void wire_flush(void)
{
    size_t sent = 0;
    while (sent < wire.out_count) {
        const char *at = wire.out + sent;
        size_t left = wire.out_count - sent;
        ssize_t n = wire.is_tls
                        ? mbedtls_ssl_write(&tls.session,
                                            (const unsigned char *)at, left)
                        : bio_send(NULL, (const unsigned char *)at, left);
        if (wire.is_tls && tls_again((int)n))
            continue;
        if (n <= 0) {
            wire.out_count = 0;
            leave();
        }
        sent += (size_t)n;
    }
    wire.out_count = 0;
}

static void wire_put(const char *bytes, size_t count)
{
    while (count > 0) {
        if (wire.out_count == sizeof wire.out)
            wire_flush();
        size_t n = sizeof wire.out - wire.out_count;
        n = n < count ? n : count;
        memcpy(wire.out + wire.out_count, bytes, n);
        wire.out_count += n;
        bytes += n;
        count -= n;
    }
}

static ssize_t wire_recv(char *into, size_t room)
{
    unsigned char *at = (unsigned char *)into;
    if (!wire.is_tls)
        return bio_recv(NULL, at, room);
    int n;
    do
        n = mbedtls_ssl_read(&tls.session, at, room);
    while (tls_again(n));
    return n;
}

/* Answers leave before we wait, and not sooner: one write for what came in
 * one write. */
static void wire_fill(void)
{
    wire_flush();
    memmove(wire.in, wire.in + wire.in_head, wire_held());
    wire.in_tail -= wire.in_head;
    wire.in_head = 0;
    ssize_t n =
        wire_recv(wire.in + wire.in_tail, sizeof wire.in - wire.in_tail);
    if (n <= 0)
        leave();
    if (!wire.is_tls)
        transcript_put(wire.in + wire.in_tail, (size_t)n);
    wire.in_tail += (size_t)n;
}

static size_t wire_line(void)
{
    for (;;) {
        const char *at = wire.in + wire.in_head;
        const char *end = memchr(at, '\n', wire_held());
        if (end)
            return (size_t)(end - at) + 1;
        if (wire_held() >= LINE_BYTES)
            wire.in_head = wire.in_tail - LINE_BYTES; /* too long anyway */
        wire_fill();
    }
}

/* The next line without its CRLF, valid until the next wire_fill(). fault is
 * the reply when it is none that a client may send. */
static char *line_take(const char **fault)
{
    size_t count = wire_line();
    char *line = wire.in + wire.in_head;
    wire.in_head += count;
    if (wire.is_tls)
        transcript_put(line, count);
    bool is_clean = count >= 2 && line[count - 2] == '\r';
    line[count - (is_clean ? 2 : 1)] = '\0';
    *fault = NULL;
    if (count >= LINE_BYTES)
        *fault = "500 5.5.6 Line too long";
    else if (!is_clean)
        *fault = "500 5.5.2 A line ends in CR LF";
    else if (strcspn(line, "\r") != count - 2)
        *fault = "500 5.5.2 NUL or CR in a command";
    return line;
}

/* ---- Ends of a connection ---------------------------------------------- */

static void mail_drop(void)
{
    if (mail.fd >= 0) {
        close(mail.fd);
        unlink(mail.temporary);
    }
    mail.fd = -1;
    session.facts &= ~(unsigned)FACTS_OF_MAIL;
}

static void leave(void)
{
    mail_drop();
    transcript_end_line();
    close(wire.fd);
    if (option.cert)
        tls_free();
    exit(0);
}

/* A close() with bytes unread makes a RST; a FIN needs them drained. */
static void end_close(void)
{
    static char waste[4096];
    wire_flush();
    shutdown(wire.fd, SHUT_WR);
    mail_drop();
    transcript_end_line();
    alarm(FIN_SECONDS); /* its default action ends the process, as we want */
    while (recv(wire.fd, waste, sizeof waste, 0) > 0)
        continue;
    leave();
}

static void end_close_notify(void)
{
    wire_flush();
    if (wire.is_tls)
        mbedtls_ssl_close_notify(&tls.session);
    end_close();
}

static void end_reset(void)
{
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    wire_flush();
    setsockopt(wire.fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    leave();
}

static void end_silent(void)
{
    struct timeval never = {0};
    wire_flush();
    mail_drop();
    setsockopt(wire.fd, SOL_SOCKET, SO_RCVTIMEO, &never, sizeof never);
    alarm(SILENT_SECONDS);
    for (;;) {
        wire.in_head = wire.in_tail;
        wire_fill();
    }
}

/* ---- Faults ------------------------------------------------------------ */

static const struct action {
    const char *name;
    bool has_text;
    enum slot slot;
    void (*end)(void); /* does not return */
} actions[] = {
    {"reply", true, SLOT_SPEECH, NULL},
    {"raw", true, SLOT_SPEECH, NULL},
    {"extra", true, SLOT_EXTRA, NULL},
    {"flood", true, SLOT_FLOOD, NULL},
    {"stall", true, SLOT_STALL, NULL},
    {"close", false, SLOT_END, end_close},
    {"close_notify", false, SLOT_END, end_close_notify},
    {"reset", false, SLOT_END, end_reset},
    {"silent", false, SLOT_END, end_silent},
};

/* Faults are tried in the order given; one whose slot is taken at this reply
 * keeps its count for the next. */
static struct plan plan_for(enum stage stage)
{
    struct plan plan = {0};
    for (size_t i = 0; i < option.fault_count; i++) {
        const struct fault *f = &option.faults[i];
        if (f->stage != stage || plan.slot[f->action->slot])
            continue;
        if (f->is_counted && atomic_fetch_sub(&shared->fault_left[i], 1) <= 0) {
            atomic_store(&shared->fault_left[i], 0);
            continue;
        }
        plan.slot[f->action->slot] = f;
    }
    return plan;
}

/* First digit of what the client will see, 0 = no reply. State follows what
 * was said, not what we would have said. */
static int plan_class(const struct plan *plan, const char *normal)
{
    if (plan->slot[SLOT_SPEECH])
        return plan->slot[SLOT_SPEECH]->text[0];
    if (plan->slot[SLOT_END] || !normal)
        return 0;
    return normal[0];
}

static int hex_value(char c)
{
    const char *digits = "0123456789abcdef";
    const char *at = c ? strchr(digits, tolower((unsigned char)c)) : NULL;
    return at ? (int)(at - digits) : -1;
}

/* Decodes while it sends, because \p is a moment and not a byte. */
static void say_escaped(const char *text)
{
    static const char letters[] = "rnt0\\", bytes[] = "\r\n\t\0\\";
    for (; *text; text++) {
        const char *letter = NULL;
        if (*text == '\\' && text[1])
            letter = strchr(letters, text[1]);
        if (letter) {
            wire_put(&bytes[letter - letters], 1);
            text++;
        } else if (*text == '\\' && text[1] == 'p') {
            wire_flush();
            pause_ms(SEGMENT_PAUSE_MS);
            text++;
        } else if (*text == '\\' && text[1] == 'x' && hex_value(text[2]) >= 0 &&
                   hex_value(text[3]) >= 0) {
            char byte = (char)(hex_value(text[2]) * 16 + hex_value(text[3]));
            wire_put(&byte, 1);
            text += 3;
        } else {
            wire_put(text, 1);
        }
    }
}

static void say_flood(unsigned lines, const char *reply)
{
    char line[16];
    int count = snprintf(line, sizeof line, "%.3s-flood\r\n", reply);
    for (unsigned i = 0; i < lines; i++)
        wire_put(line, (size_t)count);
}

/* Without the "5.7.1 " when that keyword is not offered. */
static void say_normal(const char *reply)
{
    if ((option.without & 1u << KEY_ENHANCED) && reply[3] == ' ' &&
        isdigit((unsigned char)reply[4]) && reply[5] == '.') {
        wire_put(reply, 4);
        reply += 4 + strcspn(reply + 4, " ");
        reply += *reply == ' ';
    }
    wire_put(reply, strlen(reply));
    wire_put("\r\n", 2);
}

static void plan_stall(const struct plan *plan)
{
    if (!plan->slot[SLOT_STALL])
        return;
    wire_flush();
    pause_ms(plan->slot[SLOT_STALL]->number * 1000ul);
}

/* normal may be NULL: then only faults speak. */
static int plan_speak(const struct plan *plan, const char *normal)
{
    const struct fault *speech = plan->slot[SLOT_SPEECH];
    const struct fault *end = plan->slot[SLOT_END];
    const char *said = speech ? speech->text : normal;
    if (option.delay_ms && said) {
        wire_flush();
        pause_ms(option.delay_ms);
    }
    if (plan->slot[SLOT_FLOOD])
        say_flood(plan->slot[SLOT_FLOOD]->number, said ? said : "250");
    if (speech) {
        say_escaped(speech->text);
        if (strcmp(speech->action->name, "reply") == 0)
            wire_put("\r\n", 2);
    } else if (normal && !end) {
        say_normal(normal);
    }
    if (plan->slot[SLOT_EXTRA])
        say_escaped(plan->slot[SLOT_EXTRA]->text);
    if (end)
        end->action->end();
    if (speech || plan->slot[SLOT_EXTRA] || plan->slot[SLOT_STALL])
        wire_flush();
    return plan_class(plan, normal);
}

/* A moment at which only a fault has something to say. */
static bool moment(enum stage stage)
{
    struct plan plan = plan_for(stage);
    plan_stall(&plan);
    return plan_speak(&plan, NULL) != 0;
}

static bool keyword_is_on(enum keyword k)
{
    if (option.without & 1u << k)
        return false;
    if (k == KEY_STARTTLS)
        return option.cert && !wire.is_tls;
    if (k == KEY_AUTH)
        return *option.auth && (wire.is_tls || option.auth_before_tls);
    return true;
}

/* For where nothing may be on its way: lock-step, or the last of a group. */
static void note_held(void)
{
    if (wire_held() > 0)
        session.notes |= 1u << NOTE_PIPELINED;
}

/* The one door of replies. Returns the first digit of what was said. */
static int answer(enum stage stage, const char *format, ...)
{
    static char reply[16384];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reply, sizeof reply, format, arguments);
    va_end(arguments);
    if (!keyword_is_on(KEY_PIPELINING))
        note_held();
    struct plan plan = plan_for(stage);
    plan_stall(&plan);
    return plan_speak(&plan, reply);
}

/* ---- Mail -------------------------------------------------------------- */

static void mail_begin(const char *from, const char *arguments)
{
    mail_drop();
    snprintf(mail.from, sizeof mail.from, "%s", from);
    snprintf(mail.arguments, sizeof mail.arguments, "%s", arguments);
    mail.rcpts[0] = '\0';
    mail.rcpts_count = mail.rcpts_length = 0;
    mail.bytes = mail.line_bytes = mail.chunk_count = mail.shown_count = 0;
    mail.previous = '\n';
    mail.is_answered = mail.has_failed = false;
    mail.notes = 0;
    session.facts |= FACT_MAIL;
}

static void mail_flush(void)
{
    if (option.save && mail.fd < 0 && !mail.has_failed) {
        snprintf(mail.temporary, sizeof mail.temporary, "%s/.%ld.tmp",
                 option.save, (long)getpid());
        mail.fd = open(mail.temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC,
                       0644);
        mail.has_failed = mail.fd < 0;
    }
    if (mail.fd >= 0 && !write_all(mail.fd, mail.chunk, mail.chunk_count))
        mail.has_failed = true;
    mail.chunk_count = 0;
}

static void mail_note(char c)
{
    bool is_end = c == '\n' && mail.previous == '\r';
    mail.line_bytes = is_end ? 0 : mail.line_bytes + 1;
    if (c == '\n' && !is_end)
        mail.notes |= 1u << NOTE_BARE_LF;
    if (mail.previous == '\r' && !is_end)
        mail.notes |= 1u << NOTE_BARE_CR;
    if (mail.line_bytes > TEXT_LINE_BYTES + (c == '\r'))
        mail.notes |= 1u << NOTE_LONG_LINE;
    if (c & 0x80)
        mail.notes |= 1u << NOTE_EIGHT_BIT;
    if (c == '\0')
        mail.notes |= 1u << NOTE_NUL;
    mail.previous = c;
}

static void mail_byte(char c)
{
    if (mail.bytes++ == 0 && moment(STAGE_BODY))
        mail.is_answered = true;
    mail_note(c);
    if (mail.shown_count < SHOWN_BYTES)
        mail.shown[mail.shown_count++] = c;
    if (mail.bytes > option.size)
        return;
    mail.chunk[mail.chunk_count++] = c;
    if (mail.chunk_count == sizeof mail.chunk)
        mail_flush();
}

static bool rcpt_add(const char *rcpt)
{
    size_t count = strlen(rcpt);
    if (mail.rcpts_count >= option.rcpts_max ||
        mail.rcpts_length + count + 2 > sizeof mail.rcpts)
        return false;
    mail.rcpts_length += (size_t)sprintf(mail.rcpts + mail.rcpts_length, "%s%s",
                                         mail.rcpts_count ? "," : "", rcpt);
    mail.rcpts_count++;
    session.facts |= FACT_RCPT;
    return true;
}

/* Behind the colon of a header field, or NULL. */
static const char *header_find(const char *name)
{
    size_t length = strlen(name);
    const char *at = mail.shown;
    mail.shown[mail.shown_count] = '\0';
    while (*at && *at != '\r' && *at != '\n') {
        if (strncasecmp(at, name, length) == 0 && at[length] == ':')
            return at + length + 1;
        at += strcspn(at, "\n");
        at += *at == '\n';
    }
    return NULL;
}

/* The unfolded value of a header field, "-" when there is none. */
static const char *header_take(const char *name, char *out, size_t room)
{
    size_t count = 0;
    const char *at = header_find(name);
    for (; at && *at && count + 1 < room; at++) {
        if (*at == '\n' && at[1] != ' ' && at[1] != '\t')
            break;
        if ((unsigned char)*at > ' ')
            out[count++] = *at;
        else if (count > 0 && out[count - 1] != ' ')
            out[count++] = ' ';
    }
    while (count > 0 && out[count - 1] == ' ')
        count--;
    out[count] = '\0';
    return count > 0 ? out : strcpy(out, "-");
}

static bool ledger_write(void)
{
    static char line[RCPTS_BYTES + 2048];
    char id[512];
    static int fd = -1;
    if (!option.ledger)
        return true;
    if (fd < 0)
        fd = append_open(option.ledger);
    header_take("Message-ID", id, sizeof id);
    for (char *c = id; *c; c++)
        *c = *c == ' ' ? '_' : *c;
    int count = snprintf(line, sizeof line, "%s <%s> <%s>\n", id, mail.from,
                         mail.rcpts);
    return write(fd, line, (size_t)count) == count; /* one write: no mixing */
}

static const char *notes_format(char *out)
{
    unsigned notes = mail.notes | session.notes;
    size_t count = 0;
    out[0] = '\0';
    for (unsigned i = 0; i < NOTES; i++)
        if (notes & 1u << i)
            count += (size_t)sprintf(out + count, "%s%s", count ? "," : "",
                                     note_names[i]);
    return out;
}

static const char *tls_name(void)
{
    return wire.is_tls ? mbedtls_ssl_get_version(&tls.session) : "";
}

static bool envelope_write(const char *path)
{
    char notes[128];
    FILE *file = fopen(path, "we");
    if (!file)
        return false;
    fprintf(file, "from=%s\nto=%s\ntls=%s\nauth=%s\nmail_args=%s\nhelo=%s\n",
            mail.from, mail.rcpts, tls_name(), session.login, mail.arguments,
            session.helo);
    fprintf(file, "verb=%s\nbytes=%llu\nnotes=%s\n",
            session.facts & FACT_CHUNKS ? "BDAT" : "DATA", mail.bytes,
            notes_format(notes));
    return fclose(file) == 0;
}

/* The .env is in place before its .eml: who sees the mail has both. */
static bool mail_save(unsigned number)
{
    char name[PATH_MAX + 64], temporary[PATH_MAX + 64];
    mail_flush();
    if (mail.has_failed || !option.save)
        return !mail.has_failed;
    snprintf(temporary, sizeof temporary, "%s.env", mail.temporary);
    snprintf(name, sizeof name, "%s/%06u-%ld.env", option.save, number,
             (long)getpid());
    if (!envelope_write(temporary) || rename(temporary, name) != 0)
        return false;
    memcpy(name + strlen(name) - 4, ".eml", 4);
    bool is_good = close(mail.fd) == 0 && rename(mail.temporary, name) == 0;
    mail.fd = -1;
    return is_good;
}

/* Shown text may come from anywhere: nothing of it may steer a terminal. */
static void mail_print(unsigned number)
{
    static char page[SHOWN_BYTES + RCPTS_BYTES + 4096];
    char subject[256];
    size_t count = (size_t)sprintf(
        page, "---- mail %u: %s\n     from <%s> to <%s>, %llu bytes, %s, %s\n",
        number, header_take("Subject", subject, sizeof subject), mail.from,
        mail.rcpts, mail.bytes, wire.is_tls ? tls_name() : "not encrypted",
        *session.login ? session.login : "not logged in");
    for (size_t i = 0; i < mail.shown_count; i++)
        if (mail.shown[i] != '\r')
            page[count++] = mail.shown[i];
    for (size_t i = 0; i < count; i++)
        if ((page[i] >= 0 && page[i] < ' ' && !strchr("\n\t", page[i])) ||
            page[i] == 0x7f || page[i] == '\0')
            page[i] = '?';
    count += (size_t)sprintf(page + count, "%s---- end of mail %u%s\n",
                             page[count - 1] == '\n' ? "" : "\n", number,
                             mail.bytes > mail.shown_count ? " (cut)" : "");
    write_all(STDOUT_FILENO, page, count);
}

static bool mail_accept(void)
{
    unsigned number = atomic_fetch_add(&shared->mails, 1) + 1;
    if (!mail_save(number) || !ledger_write())
        return false;
    if (option.prints)
        mail_print(number);
    session.mails++;
    return true;
}

static bool client_is_gone(void)
{
    struct pollfd p = {.fd = wire.fd, .events = POLLRDHUP};
    return poll(&p, 1, 0) > 0 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR));
}

/* The verdict on a mail whose last byte is here. A mail is taken only when
 * the client is about to be told so, or when dot_taken hides it. */
static void mail_end(void)
{
    const char *reply = "250 2.0.0 Taken";
    if (mail.is_answered) {
        mail_drop();
        return;
    }
    struct plan plan = plan_for(STAGE_DOT);
    if (!(session.facts & FACT_RCPT))
        reply = "554 5.5.1 No recipient";
    else if (mail.bytes > option.size)
        reply = "552 5.3.4 Message too big";
    plan_stall(&plan);
    if (plan.slot[SLOT_STALL] && client_is_gone())
        leave();
    bool is_taken = reply[0] == '2' && plan_class(&plan, reply) == '2';
    if (is_taken && !mail_accept()) {
        is_taken = false;
        reply = "452 4.3.1 Cannot save this mail";
    }
    if (is_taken) {
        struct plan hidden = plan_for(STAGE_DOT_TAKEN);
        for (int i = 0; i < SLOTS; i++)
            plan.slot[i] = hidden.slot[i] ? hidden.slot[i] : plan.slot[i];
        plan_stall(&hidden);
    }
    plan_speak(&plan, reply);
    mail_drop();
    if (is_taken)
        moment(STAGE_AFTERDOT);
}

/* ---- Verbs ------------------------------------------------------------- */

static const struct {
    unsigned needs, bars; /* facts */
    const char *reply;
} refusals[] = {
    {FACT_GREETED, 0, "503 5.5.1 EHLO first"},
    {FACT_SAFE, 0, "530 5.7.0 STARTTLS first"},
    {FACT_KNOWN, 0, "530 5.7.0 Authentication required"},
    {0, FACT_MAIL, "503 5.5.1 Transaction is open"},
    {FACT_MAIL, 0, "503 5.5.1 MAIL first"},
    {FACT_RCPT, 0, "554 5.5.1 No recipient"},
    {0, FACT_CHUNKS, "503 5.5.1 Transaction goes by chunks"},
};

static const char *refusal_of(unsigned needs, unsigned bars)
{
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++)
        if ((refusals[i].needs & needs & ~session.facts) ||
            (refusals[i].bars & bars & session.facts))
            return refusals[i].reply;
    return NULL;
}

/* After the greeting, and again after STARTTLS (RFC 3207 section 4.2). */
static void session_begin(void)
{
    mail_drop();
    session.facts = 0;
    session.helo[0] = session.login[0] = '\0';
    if (wire.is_tls || !option.needs_tls)
        session.facts |= FACT_SAFE;
    if (!option.user)
        session.facts |= FACT_KNOWN;
}

static size_t ehlo_keyword(char *out, enum keyword k)
{
    if (!keyword_is_on(k))
        return 0;
    if (k == KEY_SIZE)
        return (size_t)sprintf(out, "\r\n250-SIZE %lu", option.size);
    if (k == KEY_AUTH)
        return (size_t)sprintf(out, "\r\n250-AUTH %.200s", option.auth);
    return (size_t)sprintf(out, "\r\n250-%s", keyword_names[k]);
}

static void greet(const char *name, bool is_extended)
{
    char reply[8192] = "250-smarthost.test";
    size_t count = strlen(reply);
    for (int k = 0; is_extended && k < KEYWORDS; k++)
        count += ehlo_keyword(reply + count, (enum keyword)k);
    for (size_t i = 0; is_extended && i < option.keyword_count; i++)
        count += (size_t)sprintf(reply + count, "\r\n250-%.256s",
                                 option.keywords[i]);
    char *last = reply;
    for (char *c = reply; (c = strchr(c, '\n')); last = ++c)
        continue;
    last[3] = ' ';
    mail_drop();
    note_held();
    if (answer(wire.is_tls ? STAGE_EHLO2 : STAGE_EHLO, "%s",
               *name ? reply : "501 5.5.4 Your name?") != '2')
        return;
    snprintf(session.helo, sizeof session.helo, "%s", name);
    session.facts |= FACT_GREETED;
}

static void act_ehlo(char *name)
{
    greet(name, true);
}

static void act_helo(char *name)
{
    greet(name, false);
}

/* What answers our 220 with anything but TLS belongs into the transcript. */
static void handshake_watch(void)
{
    char peeked[512];
    ssize_t n = recv(wire.fd, peeked, sizeof peeked, MSG_PEEK);
    if (n <= 0)
        leave();
    if (peeked[0] == 0x16)
        return;
    transcript_put(peeked, (size_t)n);
    leave();
}

static void handshake(void)
{
    char text[128];
    handshake_watch();
    moment(STAGE_HANDSHAKE);
    wire_flush();
    transcript_end_line();
    tls_must(mbedtls_ssl_setup(&tls.session, &tls.config), "TLS session");
    mbedtls_ssl_set_bio(&tls.session, NULL, bio_send, bio_recv, NULL);
    int result;
    do
        result = mbedtls_ssl_handshake(&tls.session);
    while (tls_again(result));
    if (result != 0) {
        mbedtls_strerror(result, text, sizeof text);
        fprintf(stderr, "smarthost: handshake failed: %s\n", text);
        leave();
    }
    wire.is_tls = true;
    session_begin();
}

static void act_starttls(char *argument)
{
    const char *reply = "220 2.0.0 Start TLS";
    if (wire.is_tls)
        reply = "503 5.5.1 TLS is up";
    else if (!keyword_is_on(KEY_STARTTLS))
        reply = "502 5.5.1 Not offered";
    else if (*argument || wire_held() > 0)
        reply = "501 5.5.4 Nothing may follow STARTTLS";
    note_held();
    int class = answer(STAGE_STARTTLS, "%s", reply);
    wire_flush();
    if (class == '2' && reply[0] == '2')
        handshake();
}

/* ---- AUTH -------------------------------------------------------------- */

/* Bytes in out, behind which is a NUL; -1 = no base64. */
static ssize_t decode(const char *text, char *out, size_t room)
{
    size_t count = 0;
    if (strcmp(text, "=") == 0)
        text = "";
    if (mbedtls_base64_decode((unsigned char *)out, room - 1, &count,
                              (const unsigned char *)text, strlen(text)) != 0)
        return -1;
    out[count] = '\0';
    return (ssize_t)count;
}

static void auth_verdict(bool is_right, const char *login)
{
    const char *fault;
    const char *reply = is_right ? "235 2.7.0 Welcome"
                                 : "535 5.7.8 Wrong user name or password";
    int class = answer(STAGE_AUTH, "%s", reply);
    while (class == '3') { /* a fault asks on: let it have its answer */
        line_take(&fault);
        class = answer(STAGE_AUTH, "%s", reply);
    }
    if (class != '2')
        return;
    snprintf(session.login, sizeof session.login, "%s", login);
    session.facts |= FACT_KNOWN;
}

/* The length of the client's next line, decoded; -1 = AUTH is over. */
static ssize_t auth_ask(const char *challenge, char *out, size_t room)
{
    const char *fault;
    ssize_t count = -1;
    int class = answer(STAGE_AUTH, "334 %s", challenge);
    if (class == '2')
        session.facts |= FACT_KNOWN;
    if (class != '3')
        return -1;
    const char *line = line_take(&fault);
    if (!fault && strcmp(line, "*") == 0)
        fault = "501 5.7.0 Cancelled";
    if (!fault && (count = decode(line, out, room)) < 0)
        fault = "501 5.5.2 Not base64";
    if (fault)
        answer(STAGE_AUTH, "%s", fault);
    return count;
}

/* Both take the first response, decoded, with its length and a NUL. */
static void auth_plain(char *response, ssize_t count)
{
    const char *login = response + strlen(response) + 1; /* skips authzid */
    if (login > response + count)
        login = response + count;
    const char *password = login + strlen(login) + 1;
    bool is_whole = password <= response + count;
    auth_verdict(is_whole &&
                     (!option.user || (strcmp(login, option.user) == 0 &&
                                       strcmp(password, option.password) == 0)),
                 login);
}

static void auth_login(char *login, ssize_t count)
{
    static char password[LINE_BYTES];
    (void)count;
    if (auth_ask("UGFzc3dvcmQ6", password, sizeof password) >= 0)
        auth_verdict(!option.user || (strcmp(login, option.user) == 0 &&
                                      strcmp(password, option.password) == 0),
                     login);
}

/* XOAUTH2 and OAUTHBEARER (RFC 7628); --password is the token. */
static void auth_bearer(char *response, ssize_t count)
{
    static char wanted[LINE_BYTES];
    (void)count;
    snprintf(wanted, sizeof wanted, "\1auth=Bearer %s%s",
             option.user ? option.password : "", option.user ? "\1" : "");
    bool is_right = strstr(response, wanted) != NULL;
    if (is_right ||
        auth_ask("eyJzdGF0dXMiOiI0MDEifQ==", response, LINE_BYTES) >= 0)
        auth_verdict(is_right, option.user ? option.user : "bearer");
}

static const struct mechanism {
    const char *name, *challenge;
    void (*act)(char *response, ssize_t count);
} mechanisms[] = {
    {"PLAIN", "", auth_plain},
    {"LOGIN", "VXNlcm5hbWU6", auth_login},
    {"XOAUTH2", "", auth_bearer},
    {"OAUTHBEARER", "", auth_bearer},
};

static const struct mechanism *mechanism_find(const char *name)
{
    for (size_t i = 0; i < sizeof mechanisms / sizeof *mechanisms; i++)
        if (strcasecmp(name, mechanisms[i].name) == 0 &&
            strcasestr(option.auth, name))
            return &mechanisms[i];
    return NULL;
}

static void act_auth(char *argument)
{
    static char response[LINE_BYTES];
    char *initial = argument + strcspn(argument, " ");
    bool has_initial = *initial == ' ';
    const char *reply = NULL;
    *initial = '\0';
    const struct mechanism *m = mechanism_find(argument);
    if (!keyword_is_on(KEY_AUTH))
        reply = *option.auth ? "538 5.7.11 STARTTLS first"
                             : "502 5.5.1 Not offered";
    else if (*session.login)
        reply = "503 5.5.1 Logged in already";
    else if (!m)
        reply = "504 5.5.4 No such mechanism";
    if (reply) {
        answer(STAGE_AUTH, "%s", reply);
        return;
    }
    ssize_t count;
    if (!has_initial)
        count = auth_ask(m->challenge, response, sizeof response);
    else if ((count = decode(initial + 1, response, sizeof response)) < 0)
        answer(STAGE_AUTH, "501 5.5.2 Not base64");
    if (count >= 0)
        m->act(response, count);
}

/* ---- Envelope ---------------------------------------------------------- */

/* Cuts "FROM:<path> rest" in two. Strict: no blank behind the colon. */
static bool path_cut(char *argument, const char *prefix, char **path,
                     char **rest)
{
    bool is_quoted = false;
    if (strncasecmp(argument, prefix, strlen(prefix)) != 0)
        return false;
    char *c = *path = argument + strlen(prefix);
    for (; *c && (*c != '>' || is_quoted); c++) {
        if (*c == '\\' && c[1])
            c++;
        else if (*c == '"')
            is_quoted = !is_quoted;
        else if (!is_quoted && strchr(" <", *c))
            return false;
    }
    if (*c != '>' || (c[1] && c[1] != ' '))
        return false;
    *c = '\0';
    *rest = c[1] ? c + 2 : c + 1;
    return true;
}

static bool text_is_ascii(const char *text)
{
    while (isascii((unsigned char)*text) && *text)
        text++;
    return *text == '\0';
}

static const char *size_check(const char *value)
{
    char *end;
    unsigned long long size = strtoull(value, &end, 10);
    if (!isdigit((unsigned char)*value) || *end)
        return "501 5.5.4 SIZE wants a number";
    return size > option.size ? "552 5.3.4 Message too big" : NULL;
}

static const char *body_check(const char *value)
{
    if (strcasecmp(value, "7BIT") == 0 || strcasecmp(value, "8BITMIME") == 0)
        return NULL;
    return "501 5.5.4 BODY is 7BIT or 8BITMIME";
}

static const char *utf8_check(const char *value)
{
    session.facts |= FACT_UTF8;
    return *value ? "501 5.5.4 SMTPUTF8 has no value" : NULL;
}

static const char *auth_check(const char *value)
{
    return *value ? NULL : "501 5.5.4 AUTH wants a value";
}

static const struct {
    const char *name;
    enum keyword keyword; /* without which it must not be used */
    const char *(*check)(const char *value);
} parameters[] = {
    {"SIZE", KEY_SIZE, size_check},
    {"BODY", KEY_8BITMIME, body_check},
    {"SMTPUTF8", KEY_SMTPUTF8, utf8_check},
    {"AUTH", KEY_AUTH, auth_check},
};

/* NULL, or the reply that refuses. */
static const char *parameter_check(char *word)
{
    char *value = word + strcspn(word, "=");
    value += *value == '=' ? (*value = '\0', 1) : 0;
    for (size_t i = 0; i < sizeof parameters / sizeof *parameters; i++)
        if (strcasecmp(word, parameters[i].name) == 0 &&
            keyword_is_on(parameters[i].keyword))
            return parameters[i].check(value);
    return "555 5.5.4 Parameter not offered";
}

static const char *parameters_check(const char *rest)
{
    static char copy[LINE_BYTES];
    char *next = NULL;
    snprintf(copy, sizeof copy, "%s", rest);
    for (char *word = strtok_r(copy, " ", &next); word;
         word = strtok_r(NULL, " ", &next)) {
        const char *reply = parameter_check(word);
        if (reply)
            return reply;
    }
    return NULL;
}

static void act_mail(char *argument)
{
    char *path, *rest;
    const char *reply = NULL;
    if (!path_cut(argument, "FROM:<", &path, &rest))
        reply = "501 5.1.7 MAIL FROM:<address>";
    else if (option.mails_max && session.mails >= option.mails_max)
        reply = "421 4.7.0 Too many mails on this connection";
    else if (strlen(path) >= sizeof mail.from ||
             strlen(rest) >= sizeof mail.arguments)
        reply = "501 5.1.7 Address or parameters too long";
    else
        reply = parameters_check(rest);
    if (!reply && !text_is_ascii(path) && !(session.facts & FACT_UTF8))
        reply = "553 5.6.7 Needs SMTPUTF8";
    int class = answer(STAGE_MAIL, "%s", reply ? reply : "250 2.1.0 Sender ok");
    unsigned utf8 = session.facts & FACT_UTF8;
    session.facts &= ~(unsigned)FACT_UTF8;
    if (reply && strncmp(reply, "421", 3) == 0)
        end_close_notify();
    if (class != '2' || reply)
        return;
    mail_begin(path, rest);
    session.facts |= utf8;
}

static const char *rcpt_scripted(const char *path)
{
    for (size_t i = 0; i < option.rcpt_reply_count; i++)
        if (strstr(path, option.rcpt_replies[i].pattern))
            return option.rcpt_replies[i].text;
    return NULL;
}

static void act_rcpt(char *argument)
{
    char *path, *rest;
    const char *reply = "250 2.1.5 Recipient ok";
    if (!path_cut(argument, "TO:<", &path, &rest) || !*path)
        reply = "501 5.1.3 RCPT TO:<address>";
    else if (*rest)
        reply = "555 5.5.4 Parameter not offered";
    else if (!text_is_ascii(path) && !(session.facts & FACT_UTF8))
        reply = "553 5.6.7 Needs SMTPUTF8";
    else if (rcpt_scripted(path))
        reply = rcpt_scripted(path);
    else if (mail.rcpts_count >= option.rcpts_max)
        reply = "452 4.5.3 Too many recipients";
    if (answer(STAGE_RCPT, "%s", reply) == '2' && reply[0] == '2')
        rcpt_add(path);
}

/* ---- DATA and BDAT ----------------------------------------------------- */

enum body {
    BODY_START,  /* nothing, or CRLF seen */
    BODY_TEXT,   /* inside a line */
    BODY_CR,     /* CR seen */
    BODY_DOT,    /* dot at the start of a line: stuffed, or the end */
    BODY_DOT_CR, /* dot and CR there */
    BODY_END
};

/* Only CRLF . CRLF ends a mail (RFC 5321 section 4.1.1.4). */
static enum body body_next(enum body state, char c)
{
    if (state == BODY_START && c == '.')
        return BODY_DOT;
    if (state == BODY_DOT && c == '\r')
        return BODY_DOT_CR;
    if (state == BODY_DOT_CR) {
        if (c == '\n')
            return BODY_END;
        mail_byte('\r');
        state = BODY_CR;
    }
    mail_byte(c);
    if (c == '\n' && state == BODY_CR)
        return BODY_START;
    return c == '\r' ? BODY_CR : BODY_TEXT;
}

static void act_data(char *argument)
{
    enum body state = BODY_START;
    const char *reply = refusal_of(READY | FACT_MAIL | FACT_RCPT, FACT_CHUNKS);
    if (!reply)
        reply = *argument ? "501 5.5.4 DATA has no argument"
                          : "354 Go on, end with a dot";
    note_held();
    if (answer(STAGE_DATA, "%s", reply) != '3')
        return;
    if (!(session.facts & FACT_MAIL))
        mail_begin("", ""); /* a fault said 354: what comes is body */
    while (state != BODY_END) {
        if (wire_held() == 0)
            wire_fill();
        state = body_next(state, wire.in[wire.in_head++]);
    }
    mail_end();
}

/* Takes the chunk off the wire in any case: it must never be read as
 * commands. */
static void chunk_take(unsigned long long left, bool is_wanted)
{
    for (; left > 0; left--) {
        if (wire_held() == 0)
            wire_fill();
        char c = wire.in[wire.in_head++];
        if (is_wanted)
            mail_byte(c);
    }
}

static void act_bdat(char *argument)
{
    char *end;
    unsigned long long size = strtoull(argument, &end, 10);
    bool is_last = strcasecmp(end, " LAST") == 0;
    const char *reply = refusal_of(READY | FACT_MAIL | FACT_RCPT, 0);
    if (!keyword_is_on(KEY_CHUNKING)) {
        answer(STAGE_DATA, "502 5.5.1 Not offered");
        return;
    }
    if (!isdigit((unsigned char)*argument) || (*end && !is_last)) {
        answer(STAGE_DATA, "501 5.5.4 BDAT octets [LAST]");
        end_close_notify(); /* where the chunk ends is anyone's guess */
    }
    chunk_take(size, !reply);
    session.facts |= reply ? 0u : FACT_CHUNKS;
    if (!reply && is_last) {
        mail_end();
        return;
    }
    if (!reply && mail.bytes > option.size)
        reply = "552 5.3.4 Message too big";
    if (!reply && mail.is_answered)
        mail_drop();
    else if (answer(STAGE_DATA, "%s", reply ? reply : "250 2.0.0 Taken") != '2')
        mail_drop();
}

static void act_rset(char *argument)
{
    (void)argument;
    mail_drop();
    answer(STAGE_RSET, "250 2.0.0 Forgotten");
}

static void act_noop(char *argument)
{
    (void)argument;
    answer(STAGE_OTHER, "250 2.0.0 Ok");
}

static void act_vrfy(char *argument)
{
    (void)argument;
    answer(STAGE_OTHER, "252 2.0.0 Send it and see");
}

static void act_quit(char *argument)
{
    (void)argument;
    answer(STAGE_QUIT, "221 2.0.0 Bye");
    end_close_notify();
}

static const struct verb {
    const char *name;
    enum stage stage;
    unsigned needs, bars; /* facts: see refusals */
    void (*act)(char *argument);
} verbs[] = {
    {"EHLO", STAGE_EHLO, 0, 0, act_ehlo},
    {"HELO", STAGE_EHLO, 0, 0, act_helo},
    {"STARTTLS", STAGE_STARTTLS, FACT_GREETED, FACT_MAIL, act_starttls},
    {"AUTH", STAGE_AUTH, FACT_GREETED, FACT_MAIL, act_auth},
    {"MAIL", STAGE_MAIL, READY, FACT_MAIL, act_mail},
    {"RCPT", STAGE_RCPT, READY | FACT_MAIL, FACT_CHUNKS, act_rcpt},
    {"DATA", STAGE_DATA, 0, 0, act_data},
    {"BDAT", STAGE_DATA, 0, 0, act_bdat},
    {"RSET", STAGE_RSET, 0, 0, act_rset},
    {"NOOP", STAGE_OTHER, 0, 0, act_noop},
    {"VRFY", STAGE_OTHER, 0, 0, act_vrfy},
    {"QUIT", STAGE_QUIT, 0, 0, act_quit},
};

static void command(char *line)
{
    size_t count = strcspn(line, " ");
    char *argument = line + count + (line[count] == ' ');
    line[count] = '\0';
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
        const struct verb *v = &verbs[i];
        if (strcasecmp(line, v->name) != 0)
            continue;
        const char *refusal = refusal_of(v->needs, v->bars);
        if (refusal)
            answer(v->stage, "%s", refusal);
        else
            v->act(argument);
        return;
    }
    answer(STAGE_OTHER, "500 5.5.2 Unknown command");
}

static void serve(void) __attribute__((noreturn));
static void serve(void)
{
    const char *fault;
    if (option.cert)
        tls_load();
    if (option.is_implicit)
        handshake();
    session_begin();
    answer(STAGE_GREETING, "220 smarthost.test ESMTP try-out smarthost");
    for (;;) {
        char *line = line_take(&fault);
        if (fault)
            answer(STAGE_OTHER, "%s", fault);
        else
            command(line);
    }
}

/* ---- Options ----------------------------------------------------------- */

static void set_text(void *target, char *value)
{
    *(const char **)target = value;
}

static void set_number(void *target, char *value)
{
    char *end;
    *(unsigned long *)target = strtoul(value, &end, 10);
    if (!isdigit((unsigned char)*value) || *end)
        die("%s is no number", value);
}

static void set_true(void *target, char *value)
{
    (void)value;
    *(bool *)target = true;
}

static void set_false(void *target, char *value)
{
    (void)value;
    *(bool *)target = false;
}

static void drop_keyword(void *target, char *value)
{
    for (unsigned k = 0; k < KEYWORDS; k++)
        if (strcasecmp(value, keyword_names[k]) == 0) {
            *(unsigned *)target |= 1u << k;
            return;
        }
    die("--without %s: no such keyword", value);
}

static void add_keyword(void *unused, char *value)
{
    (void)unused;
    if (option.keyword_count == KEYWORDS_MAX)
        die("at most %d --keyword", KEYWORDS_MAX);
    option.keywords[option.keyword_count++] = value;
}

static void add_rcpt_reply(void *unused, char *value)
{
    (void)unused;
    char *text = strchr(value, '=');
    if (!text || option.rcpt_reply_count == RCPT_REPLIES_MAX)
        die("--rcpt-reply PATTERN=TEXT, at most %d", RCPT_REPLIES_MAX);
    *text++ = '\0';
    option.rcpt_replies[option.rcpt_reply_count].pattern = value;
    option.rcpt_replies[option.rcpt_reply_count++].text = text;
}

/* Cuts a ":COUNT" off the end; -1 = there is none. */
static int count_cut(char *text)
{
    char *colon = strrchr(text, ':');
    if (!colon || !colon[1] || colon[1 + strspn(colon + 1, "0123456789")])
        return -1;
    *colon = '\0';
    return atoi(colon + 1);
}

static enum stage stage_find(const char *name)
{
    for (int i = 0; i < STAGES; i++)
        if (strcmp(name, stage_names[i]) == 0)
            return (enum stage)i;
    die("--fault: no stage %s", name);
}

static const struct action *action_find(const char *name, bool has_text)
{
    for (size_t i = 0; i < sizeof actions / sizeof *actions; i++)
        if (strcmp(name, actions[i].name) == 0 &&
            actions[i].has_text == has_text)
            return &actions[i];
    die("--fault: no action %s%s", name, has_text ? "=" : "");
}

static void add_fault(void *unused, char *value)
{
    (void)unused;
    char *what = strchr(value, ':');
    if (!what || option.fault_count == FAULTS_MAX)
        die("--fault STAGE:ACTION[:COUNT], at most %d", FAULTS_MAX);
    *what++ = '\0';
    int count = count_cut(what);
    char *text = strchr(what, '=');
    if (text)
        *text++ = '\0';
    option.faults[option.fault_count] =
        (struct fault){.stage = stage_find(value),
                       .action = action_find(what, text != NULL),
                       .text = text ? text : "",
                       .number = text ? (unsigned)strtoul(text, NULL, 10) : 0,
                       .is_counted = count >= 0};
    atomic_store(&shared->fault_left[option.fault_count++], count);
}

static void show_help(void *unused, char *value);

/* clang-format off */
static const struct row {
    const char *name, *argument; /* NULL = none */
    void (*set)(void *target, char *value);
    void *target;
    const char *help;
} rows[] = {
    {"listen", "ADDR:PORT", set_text, &option.listen,
     "default 127.0.0.1:2587; port 0 = pick one"},
    {"implicit", NULL, set_true, &option.is_implicit,
     "TLS from the first byte, as on port 465"},
    {"cert", "FILE", set_text, &option.cert,
     "certificate chain, PEM; without it no TLS"},
    {"key", "FILE", set_text, &option.key,
     "its private key, PEM"},
    {"tls-max", "VERSION", set_text, &option.tls_max,
     "1.0, 1.1, 1.2 or 1.3"},
    {"require-tls", NULL, set_true, &option.needs_tls,
     "MAIL needs TLS"},
    {"user", "NAME", set_text, &option.user,
     "MAIL needs this login"},
    {"password", "TEXT", set_text, &option.password,
     "... or token"},
    {"auth", "LIST", set_text, &option.auth,
     "of PLAIN LOGIN XOAUTH2 OAUTHBEARER; default \"PLAIN LOGIN\""},
    {"auth-before-tls", NULL, set_true, &option.auth_before_tls,
     "offer AUTH in clear text too"},
    {"no-auth-before-tls", NULL, set_false, &option.auth_before_tls,
     "the default"},
    {"size", "BYTES", set_number, &option.size,
     "biggest mail; default 64 MiB"},
    {"max-rcpt", "N", set_number, &option.rcpts_max,
     "recipients of a mail, then 452; default 1000"},
    {"max-mails", "N", set_number, &option.mails_max,
     "mails of a connection, then 421"},
    {"without", "KEYWORD", drop_keyword, &option.without,
     "do not offer it in EHLO; repeatable"},
    {"keyword", "TEXT", add_keyword, NULL,
     "one more EHLO line; repeatable"},
    {"save", "DIR", set_text, &option.save,
     "keep mails: NNNNNN-PID.eml and .env"},
    {"ledger", "FILE", set_text, &option.ledger,
     "append \"MESSAGE-ID <FROM> <RCPT,RCPT>\" per accepted mail"},
    {"print", NULL, set_true, &option.prints,
     "show each mail"},
    {"transcript", "FILE", set_text, &option.transcript,
     "append what came: \"clear: ...\", \"tls: ...\""},
    {"delay-ms", "N", set_number, &option.delay_ms,
     "wait before each reply"},
    {"rcpt-reply", "PATTERN=TEXT", add_rcpt_reply, NULL,
     "answer RCPT so if the address contains PATTERN; repeatable"},
    {"fault", "STAGE:ACTION[:COUNT]", add_fault, NULL,
     "see below; repeatable"},
    {"help", NULL, show_help, NULL,
     "this page"},
};
/* clang-format on */
#define ROWS (sizeof rows / sizeof *rows)

static const char fault_help[] =
    "\n"
    "A fault happens at each reply of its STAGE, or only at the first COUNT\n"
    "of them over all connections. Stages are the replies to the commands:\n"
    "  greeting ehlo starttls ehlo2 (EHLO inside TLS) auth (each reply) mail\n"
    "  rcpt data (DATA, or a BDAT that is not LAST) dot (end of mail) rset\n"
    "  quit other\n"
    "and moments at which only a fault speaks:\n"
    "  handshake (ClientHello is there)  body (first byte of the mail is\n"
    "  there; a reply= stands for the one at the end)  afterdot (250 is sent)\n"
    "dot_taken is dot, but the mail was accepted: it is saved, and in the\n"
    "ledger. With dot it is accepted only if the client reads 250.\n"
    "Actions:\n"
    "  reply=TEXT    this, and CRLF, instead of the reply\n"
    "  raw=TEXT      exactly these bytes instead of the reply\n"
    "  extra=TEXT    these bytes behind the reply, in the same write\n"
    "  flood=N       N continuation lines before the reply\n"
    "  stall=SECONDS silence, then the reply\n"
    "  close         FIN instead of the reply (in TLS without close_notify)\n"
    "  close_notify  the same with close_notify\n"
    "  reset         RST instead of the reply\n"
    "  silent        read on, but never answer again\n"
    "TEXT knows \\r \\n \\t \\0 \\\\ \\xNN and \\p (send so far, then pause\n"
    "200 ms). Text that ends in :digits needs \\x3a for that colon.\n"
    "Faults of one stage add up, in the order stall, flood, reply or raw,\n"
    "extra, close; of two that exclude each other the first one given goes\n"
    "first, until its COUNT is used up. For example a refusal that hangs up:\n"
    "  --fault 'mail:reply=421 4.3.2 Later' --fault mail:close\n";

static void show_help(void *unused, char *value)
{
    (void)unused;
    (void)value;
    puts("usage: smarthost [OPTION]...\n"
         "A smarthost to try lanpost with: takes every mail, sends none on.\n");
    for (size_t i = 0; i < ROWS; i++)
        printf("  --%s%s%s\n        %s\n", rows[i].name,
               rows[i].argument ? " " : "",
               rows[i].argument ? rows[i].argument : "", rows[i].help);
    fputs(fault_help, stdout);
    exit(0);
}

static void options_read(int argc, char **argv)
{
    static struct option list[ROWS + 1];
    int i;
    for (size_t k = 0; k < ROWS; k++)
        list[k] = (struct option){
            rows[k].name, rows[k].argument ? required_argument : no_argument,
            NULL, (int)k + 1};
    while ((i = getopt_long(argc, argv, "", list, NULL)) != -1) {
        if (i < 1 || (size_t)i > ROWS)
            exit(2);
        rows[i - 1].set(rows[i - 1].target, optarg);
    }
    if (optind < argc)
        die("what is %s? See --help", argv[optind]);
    if (!option.cert != !option.key || (option.is_implicit && !option.cert))
        die("TLS needs --cert and --key");
    if (option.user && !option.password)
        die("--user needs --password");
    if (strlen(option.auth) > 200)
        die("--auth is too long");
}

/* ---- Processes --------------------------------------------------------- */

static volatile pid_t children[CONNECTIONS_MAX]; /* 0 = free */

static void on_stop(int signal_number)
{
    (void)signal_number;
    for (int i = 0; i < CONNECTIONS_MAX; i++)
        if (children[i])
            kill(children[i], SIGTERM);
    while (waitpid(-1, NULL, 0) > 0)
        continue;
    _exit(0);
}

/* A free place in children; waits for one when all are taken. */
static int child_slot(void)
{
    int slot = -1;
    while (slot < 0) {
        pid_t pid;
        for (slot = CONNECTIONS_MAX - 1; slot >= 0 && children[slot]; slot--)
            continue;
        while ((pid = waitpid(-1, NULL, slot < 0 ? 0 : WNOHANG)) > 0)
            for (int i = 0; i < CONNECTIONS_MAX; i++)
                if (children[i] == pid)
                    children[slot = i] = 0;
    }
    return slot;
}

static void stop_signals(void (*handler)(int), int how)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP};
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        sigaddset(&set, numbers[i]);
        if (handler)
            signal(numbers[i], handler);
    }
    sigprocmask(how, &set, NULL);
}

static void connection_begin(int listener, int fd)
{
    int on = 1;
    struct timeval idle = {.tv_sec = IDLE_SECONDS};
    int slot = child_slot();
    stop_signals(NULL, SIG_BLOCK); /* until the child is in the table */
    pid_t pid = fork();
    if (pid == 0) {
        stop_signals(SIG_DFL, SIG_UNBLOCK);
        close(listener);
        wire.fd = fd;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &idle, sizeof idle);
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &idle, sizeof idle);
        serve();
    }
    children[slot] = pid > 0 ? pid : 0;
    stop_signals(NULL, SIG_UNBLOCK);
    close(fd);
}

static int listen_on(char *where)
{
    static const struct addrinfo hints = {.ai_flags = AI_NUMERICHOST,
                                          .ai_socktype = SOCK_STREAM};
    struct addrinfo *found;
    int on = 1;
    char *port = strrchr(where, ':');
    if (!port)
        die("--listen ADDR:PORT");
    *port++ = '\0';
    if (*where == '[' && where[strlen(where) - 1] == ']') {
        where[strlen(where) - 1] = '\0';
        where++;
    }
    if (getaddrinfo(where, port, &hints, &found) != 0)
        die("--listen %s:%s is no address", where, port);
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (fd < 0 || bind(fd, found->ai_addr, found->ai_addrlen) != 0 ||
        listen(fd, 511) != 0)
        die("cannot listen on %s:%s: %s", where, port, strerror(errno));
    freeaddrinfo(found);
    return fd;
}

static void announce(int listener)
{
    struct sockaddr_storage at;
    socklen_t size = sizeof at;
    char host[NI_MAXHOST], port[NI_MAXSERV];
    getsockname(listener, (struct sockaddr *)&at, &size);
    getnameinfo((struct sockaddr *)&at, size, host, sizeof host, port,
                sizeof port, NI_NUMERICHOST | NI_NUMERICSERV);
    bool is_six = at.ss_family == AF_INET6;
    printf("smarthost listening on %s%s%s:%s\n", is_six ? "[" : "", host,
           is_six ? "]" : "", port);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    static char where[256];
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        die("no shared memory: %s", strerror(errno));
    options_read(argc, argv);
    if (option.cert) { /* a mistake shall show now, not in each child */
        tls_load();
        tls_free();
    }
    if (option.save && mkdir(option.save, 0755) != 0 && errno != EEXIST)
        die("cannot make %s: %s", option.save, strerror(errno));
    if (option.transcript)
        transcript.fd = append_open(option.transcript);
    if (option.ledger)
        close(append_open(option.ledger));
    signal(SIGPIPE, SIG_IGN);
    snprintf(where, sizeof where, "%s", option.listen);
    int listener = listen_on(where);
    stop_signals(on_stop, SIG_UNBLOCK);
    announce(listener);
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd >= 0)
            connection_begin(listener, fd);
    }
}
