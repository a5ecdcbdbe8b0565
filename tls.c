/* See tls.h.
 *
 * The differences between mbedTLS 2.28, 3.6 and 4.x stand in the block below
 * and nowhere else. The library verifies chain and name; our verify callback
 * then looks at every certificate too: it is stricter about names (no common
 * name, RFC 9525), knows addresses (2.28 does not), and keeps the reason in
 * words. Both must agree, so a hole in either is not a hole. */
#include "tls.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include <mbedtls/error.h>
#include <mbedtls/ssl.h>
#include <mbedtls/version.h>
#include <mbedtls/x509_crt.h>
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
#include <psa/crypto.h>
#endif

#include "buf.h"
#include "config.h"
#include "crypto.h"
#include "ip.h"
#include "log.h"

/* ---- One source, three library generations ------------------------------- */

#if MBEDTLS_VERSION_NUMBER >= 0x03000000
#define TLS13_SUITES                                                           \
    MBEDTLS_TLS1_3_AES_128_GCM_SHA256, MBEDTLS_TLS1_3_AES_256_GCM_SHA384,      \
        MBEDTLS_TLS1_3_CHACHA20_POLY1305_SHA256,
#else
#define TLS13_SUITES
#endif

static bool library_start(void)
{
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
    return psa_crypto_init() == PSA_SUCCESS;
#else
    return true;
#endif
}

#if MBEDTLS_VERSION_NUMBER < 0x04000000
static int random_source(void *unused, unsigned char *out, size_t count)
{
    (void)unused;
    crypto_random(out, count);
    return 0;
}
#endif

static void demand_version(mbedtls_ssl_config *conf)
{
#if MBEDTLS_VERSION_NUMBER < 0x04000000
    mbedtls_ssl_conf_rng(conf, random_source, NULL);
#endif
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
    mbedtls_ssl_conf_min_tls_version(conf, MBEDTLS_SSL_VERSION_TLS1_2);
#else
    mbedtls_ssl_conf_min_version(conf, MBEDTLS_SSL_MAJOR_VERSION_3,
                                 MBEDTLS_SSL_MINOR_VERSION_3);
#endif
}

/* The library asks to be called again, for reasons that are not the fd's: a
 * TLS 1.3 ticket came (3.6.1 and later with tickets on, 4.x always). */
static bool is_ticket(int rc)
{
#ifdef MBEDTLS_ERR_SSL_RECEIVED_NEW_SESSION_TICKET
    return rc == MBEDTLS_ERR_SSL_RECEIVED_NEW_SESSION_TICKET;
#else
    (void)rc;
    return false;
#endif
}

/* ---- State --------------------------------------------------------------- */

struct tls {
    bool is_taken; /* zero = vacant */
    bool is_up;    /* handshake done and verified */
    bool name_is_proven;
    bool has_failed;
    bool is_mute; /* nothing can be sent; what came may still be read */
    unsigned generation;
    int fd;
    short wants;
    size_t unfinished; /* length of the write that met EAGAIN */
    char name[256];
    char why[TLS_WHY_BYTES];
    mbedtls_ssl_context ssl;
};

#define TICKETS_PER_TURN 8 /* a flood of them must not hold the loop */

static struct tls sessions[TLS_SESSIONS_MAX];

/* Two, so that a reload can bring new authorities while sessions of the old
 * ones live on. */
static struct generation {
    bool is_ready;
    mbedtls_ssl_config config;
    mbedtls_x509_crt authorities;
} generations[2];
static unsigned current;
static bool is_ready; /* the current one is */

/* Forward secrecy and AEAD only (RFC 9325 section 4.2). RSA certificates stay:
 * Microsoft 365 has no others. */
static const int suites[] = {
    TLS13_SUITES MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    MBEDTLS_TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    MBEDTLS_TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    MBEDTLS_TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    MBEDTLS_TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    0};

static bool is_in_use(unsigned generation)
{
    for (size_t i = 0; i < TLS_SESSIONS_MAX; i++)
        if (sessions[i].is_taken && sessions[i].generation == generation)
            return true;
    return false;
}

static bool load_authorities(mbedtls_x509_crt *into, const char *file,
                             char why[TLS_WHY_BYTES])
{
    int rc = mbedtls_x509_crt_parse_file(into, file);
    /* Positive: so many certificates could not be read, the others could. An
     * odd one in a bundle of a hundred is no reason not to start. */
    if (rc >= 0 && into->version != 0)
        return true;
    char text[100] = "it holds no certificate";
    if (rc < 0)
        mbedtls_strerror(rc, text, sizeof text);
    snprintf(why, TLS_WHY_BYTES, "no authority can be read from %.160s (%s)",
             file, text);
    return false;
}

static void clear_generation(struct generation *g)
{
    if (g->is_ready) {
        mbedtls_ssl_config_free(&g->config);
        mbedtls_x509_crt_free(&g->authorities);
    }
    mbedtls_x509_crt_init(&g->authorities);
    mbedtls_ssl_config_init(&g->config);
    g->is_ready = true;
}

static bool set_up(struct generation *g)
{
    if (mbedtls_ssl_config_defaults(&g->config, MBEDTLS_SSL_IS_CLIENT,
                                    MBEDTLS_SSL_TRANSPORT_STREAM,
                                    MBEDTLS_SSL_PRESET_DEFAULT) != 0)
        return false;
    demand_version(&g->config);
    mbedtls_ssl_conf_ciphersuites(&g->config, suites);
    mbedtls_ssl_conf_authmode(&g->config, MBEDTLS_SSL_VERIFY_REQUIRED);
    mbedtls_ssl_conf_ca_chain(&g->config, &g->authorities, NULL);
    return true;
}

bool tls_init(const char *ca_file, char why[TLS_WHY_BYTES])
{
    unsigned next = 1 - current;
    struct generation *g = &generations[next];
    if (is_in_use(next)) {
        snprintf(why, TLS_WHY_BYTES,
                 "connections of the reload before the last are still busy; "
                 "try again later");
        return false;
    }
    clear_generation(g);
    if (!library_start() || !set_up(g)) {
        snprintf(why, TLS_WHY_BYTES, "the TLS library would not start");
        return false;
    }
    if (!load_authorities(&g->authorities, ca_file, why))
        return false;
    current = next;
    is_ready = true;
    return true;
}

/* ---- Names --------------------------------------------------------------- */

bool tls_name_covers(const void *pattern, size_t count, const char *host)
{
    const char *p = pattern;
    struct ip_address ip;
    if (memchr(p, '\0', count) != NULL)
        return false; /* "smtp.example.com\0.evil.net" */
    if (ip_parse(host, &ip) || (count > 0 && p[count - 1] == '.'))
        return false; /* "*.0.2.1" is no address, and "*.com." has two labels */
    if (count < 2 || p[0] != '*' || p[1] != '.')
        return bytes_equal_nocase(p, count, host);
    const char *dot = strchr(host, '.');
    if (dot == NULL || dot == host || memchr(p + 2, '.', count - 2) == NULL)
        return false;
    return bytes_equal_nocase(p + 1, count - 1, dot);
}

#define TAG_DNS_NAME   2 /* RFC 5280 section 4.2.1.6 */
#define TAG_IP_ADDRESS 7

static bool certificate_bears(const mbedtls_x509_crt *crt, const char *name)
{
    struct ip_address ip;
    bool is_ip = ip_parse(name, &ip);
    size_t ip_bytes = ip.family == AF_INET ? 4 : 16;
    const mbedtls_x509_sequence *at = &crt->subject_alt_names;
    for (; at != NULL && at->buf.p != NULL; at = at->next) {
        int tag = at->buf.tag & MBEDTLS_ASN1_TAG_VALUE_MASK;
        if (!is_ip && tag == TAG_DNS_NAME &&
            tls_name_covers(at->buf.p, at->buf.len, name))
            return true;
        if (is_ip && tag == TAG_IP_ADDRESS && at->buf.len == ip_bytes &&
            memcmp(at->buf.p, ip.bytes, ip_bytes) == 0)
            return true;
    }
    return false;
}

/* ---- Reasons in words ---------------------------------------------------- */

static void give_why(struct tls *t, const char *text)
{
    if (t->why[0] == '\0')
        text_copy(t->why, sizeof t->why, text);
}

static const char *name_text(const mbedtls_x509_name *dn, char *out,
                             size_t room)
{
    char raw[160];
    int n = mbedtls_x509_dn_gets(raw, sizeof raw, dn);
    return log_clean(out, room, raw, n > 0 ? (size_t)n : 0);
}

static void why_not_trusted(struct tls *t, const mbedtls_x509_crt *crt,
                            int depth)
{
    char issuer[120], text[TLS_WHY_BYTES];
    bool is_own =
        crt->issuer_raw.len == crt->subject_raw.len &&
        memcmp(crt->issuer_raw.p, crt->subject_raw.p, crt->issuer_raw.len) == 0;
    name_text(&crt->issuer, issuer, sizeof issuer);
    if (is_own && depth == 0)
        snprintf(text, sizeof text,
                 "its certificate is self-signed; put it into "
                 "smarthost_ca_file if you trust it");
    else if (depth == 0)
        snprintf(text, sizeof text,
                 "its certificate comes from %s, which smarthost_ca_file does "
                 "not know; a private authority belongs in there, else the "
                 "server fails to send its intermediate certificate",
                 issuer);
    else
        snprintf(text, sizeof text,
                 "its certificate leads to %s, which smarthost_ca_file does "
                 "not know",
                 issuer);
    give_why(t, text);
}

static void why_date(struct tls *t, const char *what,
                     const mbedtls_x509_time *date)
{
    char text[TLS_WHY_BYTES], today[16];
    time_t now = time(NULL);
    struct tm tm;
    strftime(today, sizeof today, "%Y-%m-%d", gmtime_r(&now, &tm));
    snprintf(text, sizeof text,
             "its certificate %s %04d-%02d-%02d, and our clock says %s", what,
             date->year, date->mon, date->day, today);
    give_why(t, text);
}

static void why_name(struct tls *t, const mbedtls_x509_crt *crt)
{
    char names[120], clean[140], text[TLS_WHY_BYTES];
    struct buf b;
    buf_init(&b, names, sizeof names);
    const mbedtls_x509_sequence *at = &crt->subject_alt_names;
    for (; at != NULL && at->buf.p != NULL && buf_room(&b) > at->buf.len + 1;
         at = at->next)
        if ((at->buf.tag & MBEDTLS_ASN1_TAG_VALUE_MASK) == TAG_DNS_NAME) {
            buf_puts(&b, buf_len(&b) ? " " : "");
            buf_put(&b, at->buf.p, at->buf.len);
        }
    log_clean(clean, sizeof clean, buf_data(&b), buf_len(&b));
    snprintf(text, sizeof text, "its certificate is for %s, not for %.80s",
             *clean ? clean : "no name at all (subjectAltName is missing)",
             t->name);
    give_why(t, text);
}

/* Called by the library for each certificate, the authority's first. */
static int look_at(void *session, mbedtls_x509_crt *crt, int depth,
                   uint32_t *flags)
{
    struct tls *t = session;
    if (depth == 0) {
        struct ip_address ip;
        t->name_is_proven = certificate_bears(crt, t->name);
        if (!t->name_is_proven)
            *flags |= MBEDTLS_X509_BADCERT_CN_MISMATCH;
        else if (ip_parse(t->name, &ip))
            *flags &= ~(uint32_t)MBEDTLS_X509_BADCERT_CN_MISMATCH;
    }
    if (*flags & MBEDTLS_X509_BADCERT_EXPIRED)
        why_date(t, "expired on", &crt->valid_to);
    if (*flags & MBEDTLS_X509_BADCERT_FUTURE)
        why_date(t, "is valid only from", &crt->valid_from);
    if (*flags & (MBEDTLS_X509_BADCERT_BAD_MD | MBEDTLS_X509_BADCERT_BAD_PK |
                  MBEDTLS_X509_BADCERT_BAD_KEY))
        give_why(t, "its certificate has a key or signature too weak to trust");
    if (*flags & MBEDTLS_X509_BADCERT_NOT_TRUSTED)
        why_not_trusted(t, crt, depth);
    if (*flags & MBEDTLS_X509_BADCERT_CN_MISMATCH)
        why_name(t, crt);
    if (*flags != 0)
        give_why(t, "its certificate may not be used for this");
    return 0;
}

static const struct {
    int code;
    const char *text;
} reasons[] = {
    {MBEDTLS_ERR_SSL_CONN_EOF, "the server hung up during the TLS handshake"},
    {MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE,
     "the server refused the TLS handshake (too old a TLS version?)"},
    {MBEDTLS_ERR_SSL_INVALID_RECORD,
     "the server answered in clear where TLS was due (wrong port?)"},
    {MBEDTLS_ERR_SSL_ALLOC_FAILED, "no memory is left for TLS"},
    {MBEDTLS_ERR_SSL_INVALID_MAC, "the TLS connection was tampered with"},
#ifdef MBEDTLS_ERR_SSL_BAD_HS_PROTOCOL_VERSION
    {MBEDTLS_ERR_SSL_BAD_HS_PROTOCOL_VERSION,
     "the server knows no TLS 1.2 or later"},
#endif
#ifdef MBEDTLS_ERR_SSL_BAD_PROTOCOL_VERSION
    {MBEDTLS_ERR_SSL_BAD_PROTOCOL_VERSION,
     "the server knows no TLS 1.2 or later"},
#endif
};

static void set_failed(struct tls *t, int rc)
{
    char text[TLS_WHY_BYTES], library[120];
    t->has_failed = true;
    for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++)
        if (reasons[i].code == rc)
            give_why(t, reasons[i].text);
    mbedtls_strerror(rc, library, sizeof library);
    snprintf(text, sizeof text, "TLS failed: %s", library);
    give_why(t, text);
}

/* ---- Bytes --------------------------------------------------------------- */

static int bio_send(void *session, const unsigned char *data, size_t count)
{
    const struct tls *t = session;
    ssize_t n = send(t->fd, data, count, MSG_NOSIGNAL);
    if (n >= 0)
        return (int)n;
    return errno == EAGAIN || errno == EINTR ? MBEDTLS_ERR_SSL_WANT_WRITE
                                             : MBEDTLS_ERR_SSL_CONN_EOF;
}

static int bio_receive(void *session, unsigned char *data, size_t room)
{
    const struct tls *t = session;
    ssize_t n = recv(t->fd, data, room, 0);
    if (n >= 0)
        return (int)n;
    return errno == EAGAIN || errno == EINTR ? MBEDTLS_ERR_SSL_WANT_READ
                                             : MBEDTLS_ERR_SSL_CONN_EOF;
}

/* True when rc asks for poll events, which are then noted. */
static bool is_waiting(struct tls *t, int rc)
{
    if (rc != MBEDTLS_ERR_SSL_WANT_READ && rc != MBEDTLS_ERR_SSL_WANT_WRITE)
        return false;
    t->wants = rc == MBEDTLS_ERR_SSL_WANT_READ ? POLLIN : POLLOUT;
    return true;
}

/* ---- The room's door ----------------------------------------------------- */

struct tls *tls_open(int fd, const char *name)
{
    struct tls *t = NULL;
    for (size_t i = 0; i < TLS_SESSIONS_MAX && t == NULL; i++)
        if (!sessions[i].is_taken)
            t = &sessions[i];
    if (t == NULL || !is_ready)
        return NULL;
    memset(t, 0, sizeof *t);
    t->is_taken = true;
    t->fd = fd;
    t->wants = POLLOUT;
    text_copy(t->name, sizeof t->name, name);
    size_t length = strlen(t->name);
    if (length > 1 && t->name[length - 1] == '.')
        t->name[length - 1] = '\0';
    mbedtls_ssl_init(&t->ssl);
    struct ip_address ip;
    /* SNI names hosts, never addresses (RFC 6066 section 3). */
    const char *host = ip_parse(t->name, &ip) ? NULL : t->name;
    t->generation = current;
    if (mbedtls_ssl_setup(&t->ssl, &generations[current].config) != 0 ||
        mbedtls_ssl_set_hostname(&t->ssl, host) != 0) {
        tls_close(t);
        return NULL;
    }
    mbedtls_ssl_set_verify(&t->ssl, look_at, t);
    mbedtls_ssl_set_bio(&t->ssl, t, bio_send, bio_receive, NULL);
    return t;
}

void tls_close(struct tls *t)
{
    if (t == NULL)
        return;
    if (t->is_up && !t->has_failed && !t->is_mute && t->unfinished == 0)
        mbedtls_ssl_close_notify(&t->ssl);
    mbedtls_ssl_free(&t->ssl);
    bytes_wipe(t, sizeof *t);
}

enum tls_result tls_handshake(struct tls *t)
{
    int rc = mbedtls_ssl_handshake(&t->ssl);
    if (is_waiting(t, rc))
        return TLS_AGAIN;
    if (rc == 0 && t->name_is_proven &&
        mbedtls_ssl_get_verify_result(&t->ssl) == 0) {
        t->is_up = true;
        return TLS_DONE;
    }
    set_failed(t, rc);
    return TLS_FAILED;
}

short tls_wants(const struct tls *t)
{
    return t->wants;
}

static ssize_t wait_or_fail(struct tls *t, int rc)
{
    if (is_ticket(rc))
        t->wants = POLLIN;
    if (is_waiting(t, rc) || is_ticket(rc)) {
        errno = EAGAIN;
        return -1;
    }
    set_failed(t, rc);
    errno = EIO;
    return -1;
}

static bool is_end(int rc)
{
    return rc == 0 || rc == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY ||
           rc == MBEDTLS_ERR_SSL_CONN_EOF;
}

ssize_t tls_read(struct tls *t, void *data, size_t room)
{
    int rc = 0;
    if (!t->is_up || t->has_failed) {
        errno = EIO;
        return -1;
    }
    for (int i = 0; i < TICKETS_PER_TURN; i++) {
        rc = mbedtls_ssl_read(&t->ssl, data, room);
        if (!is_ticket(rc))
            break;
    }
    if (rc > 0)
        return rc;
    if (!is_end(rc))
        return wait_or_fail(t, rc);
    t->is_mute = true; /* no goodbye to one who is gone */
    return 0;
}

/* A smarthost that refuses in mid-message and hangs up breaks our writes, and
 * its refusal is still to be read: a write that fails for want of a peer ends
 * the writing only. */
ssize_t tls_write(struct tls *t, const void *data, size_t count)
{
    if (!t->is_up || t->has_failed || t->is_mute) {
        give_why(t, "the connection was closed");
        errno = EIO;
        return -1;
    }
    if (t->unfinished > 0)
        count = t->unfinished;
    int rc = mbedtls_ssl_write(&t->ssl, data, count);
    t->unfinished = 0;
    if (rc > 0)
        return rc;
    if (is_end(rc)) {
        t->is_mute = true;
        give_why(t, "the connection was closed");
        errno = EIO;
        return -1;
    }
    ssize_t result = wait_or_fail(t, rc);
    t->unfinished = errno == EAGAIN ? count : 0;
    return result;
}

bool tls_has_pending(const struct tls *t)
{
    return t->is_up && !t->has_failed &&
           mbedtls_ssl_get_bytes_avail(&t->ssl) > 0;
}

const char *tls_why(const struct tls *t)
{
    return t->why[0] ? t->why : "TLS failed";
}

const char *tls_version(const struct tls *t)
{
    return mbedtls_ssl_get_version(&t->ssl);
}

const char *tls_library(void)
{
    return "mbed TLS " MBEDTLS_VERSION_STRING;
}

size_t tls_memory_bytes(void)
{
    return sizeof sessions + sizeof generations;
}

/* Two record buffers and the handshake at its peak, as measured with the
 * libraries of Debian 12 and 13. */
size_t tls_session_bytes(void)
{
    return 56 * 1024;
}
