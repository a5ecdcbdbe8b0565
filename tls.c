/* See tls.h.
 *
 * The differences between mbedTLS 2.28, 3.6 and 4.x stand in the block below
 * and nowhere else. The library verifies chain and name, and trust looks at
 * every certificate too. */
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
#include "trust.h"

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

/* The library keeps the alert that it was sent, and lacks a way to ask. */
static unsigned alert_of(const mbedtls_ssl_context *ssl)
{
#if MBEDTLS_VERSION_NUMBER >= 0x04000000
    return (unsigned)mbedtls_ssl_get_fatal_alert(ssl);
#elif MBEDTLS_VERSION_NUMBER >= 0x03000000
    return ssl->MBEDTLS_PRIVATE(in_msg)[1];
#else
    return ssl->in_msg[1];
#endif
}

static int parse_key(mbedtls_pk_context *into, const char *text)
{
    const unsigned char *bytes = (const unsigned char *)text;
    size_t count = strlen(text) + 1;
#if MBEDTLS_VERSION_NUMBER >= 0x03000000 && MBEDTLS_VERSION_NUMBER < 0x04000000
    return mbedtls_pk_parse_key(into, bytes, count, NULL, 0, random_source,
                                NULL);
#else
    return mbedtls_pk_parse_key(into, bytes, count, NULL, 0);
#endif
}

static bool is_pair(const mbedtls_x509_crt *crt, const mbedtls_pk_context *key)
{
#if MBEDTLS_VERSION_NUMBER >= 0x03000000 && MBEDTLS_VERSION_NUMBER < 0x04000000
    return mbedtls_pk_check_pair(&crt->pk, key, random_source, NULL) == 0;
#else
    return mbedtls_pk_check_pair(&crt->pk, key) == 0;
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

enum side {
    SIDE_SMARTHOST, /* we are the client */
    SIDE_DEVICE,    /* we are the server */
    SIDES
};

struct tls {
    bool is_taken; /* zero = vacant */
    bool is_up;    /* handshake done and verified */
    bool has_failed;
    bool is_mute; /* nothing can be sent; what came may still be read */
    enum side side;
    enum tls_fault fault;
    unsigned generation;
    int fd;
    short wants;
    int first;          /* byte that came; -1: none has */
    size_t unfinished;  /* length of the write that met EAGAIN */
    struct trust trust; /* of the smarthost; why is of any fault */
    mbedtls_ssl_context ssl;
};

#define TICKETS_PER_TURN 8 /* a flood of them must not hold the loop */

static struct tls sessions[TLS_SESSIONS_MAX];
static const size_t sessions_max[SIDES] = {CONNECTION_SLOTS, CLIENT_TLS_MAX};

/* Some of each side, so that a reload can bring new certificates while sessions
 * of the old ones live on. */
#define GENERATIONS 3

static struct generation {
    bool is_set;
    mbedtls_ssl_config config;
    mbedtls_x509_crt certificates; /* the authorities, or our own chain */
    mbedtls_pk_context key;
} generations[SIDES][GENERATIONS];
static unsigned current[SIDES], prepared[SIDES];
static bool is_ready[SIDES]; /* the current one is */

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

static size_t sessions_taken(enum side side)
{
    size_t count = 0;
    for (size_t i = 0; i < TLS_SESSIONS_MAX; i++)
        count += sessions[i].is_taken && sessions[i].side == side;
    return count;
}

static bool is_in_use(enum side side, unsigned generation)
{
    for (size_t i = 0; i < TLS_SESSIONS_MAX; i++)
        if (sessions[i].is_taken && sessions[i].side == side &&
            sessions[i].generation == generation)
            return true;
    return false;
}

static void clear_generation(struct generation *g)
{
    if (g->is_set) {
        mbedtls_ssl_config_free(&g->config);
        mbedtls_x509_crt_free(&g->certificates);
        mbedtls_pk_free(&g->key);
    }
    mbedtls_x509_crt_init(&g->certificates);
    mbedtls_ssl_config_init(&g->config);
    mbedtls_pk_init(&g->key);
    g->is_set = true;
}

/* One that is neither in force nor in use, empty but for what all sides share.
 * NULL: why. */
static struct generation *next_generation(enum side side, char *why)
{
    unsigned next = (current[side] + 1) % GENERATIONS;
    while (next != current[side] && is_in_use(side, next))
        next = (next + 1) % GENERATIONS;
    prepared[side] = current[side];
    if (next == current[side]) {
        snprintf(why, TLS_WHY_BYTES,
                 "connections of earlier reloads are still busy; try again "
                 "later");
        return NULL;
    }
    struct generation *g = &generations[side][next];
    clear_generation(g);
    int end =
        side == SIDE_DEVICE ? MBEDTLS_SSL_IS_SERVER : MBEDTLS_SSL_IS_CLIENT;
    if (!library_start() || mbedtls_ssl_config_defaults(
                                &g->config, end, MBEDTLS_SSL_TRANSPORT_STREAM,
                                MBEDTLS_SSL_PRESET_DEFAULT) != 0) {
        snprintf(why, TLS_WHY_BYTES, "the TLS library would not start");
        return NULL;
    }
    demand_version(&g->config);
    mbedtls_ssl_conf_ciphersuites(&g->config, suites);
    return g;
}

static void prepare(enum side side, const struct generation *g)
{
    prepared[side] = (unsigned)(g - generations[side]);
}

void tls_forget(void)
{
    memcpy(prepared, current, sizeof prepared);
}

void tls_commit(void)
{
    for (int side = 0; side < SIDES; side++) {
        struct generation *g = &generations[side][prepared[side]];
        is_ready[side] |= g->is_set;
        current[side] = prepared[side];
    }
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

bool tls_init(const char *ca_file, char why[TLS_WHY_BYTES])
{
    struct generation *g = next_generation(SIDE_SMARTHOST, why);
    if (g == NULL || !load_authorities(&g->certificates, ca_file, why))
        return false;
    mbedtls_ssl_conf_authmode(&g->config, MBEDTLS_SSL_VERIFY_REQUIRED);
    mbedtls_ssl_conf_ca_chain(&g->config, &g->certificates, NULL);
    prepare(SIDE_SMARTHOST, g);
    return true;
}

static bool load_own(struct generation *g, const char *certificate,
                     const char *key, char why[TLS_WHY_BYTES])
{
    const unsigned char *chain = (const unsigned char *)certificate;
    char text[100] = "it does not belong to the certificate";
    int rc = mbedtls_x509_crt_parse(&g->certificates, chain,
                                    strlen(certificate) + 1);
    if (rc < 0 || g->certificates.version == 0) {
        mbedtls_strerror(rc, text, sizeof text);
        snprintf(why, TLS_WHY_BYTES, "its certificate cannot be read (%s)",
                 text);
        return false;
    }
    rc = parse_key(&g->key, key);
    if (rc == 0 && is_pair(&g->certificates, &g->key))
        return true;
    if (rc != 0)
        mbedtls_strerror(rc, text, sizeof text);
    snprintf(why, TLS_WHY_BYTES, "its key cannot be used (%s)", text);
    return false;
}

bool tls_serve(const char *certificate, const char *key,
               char why[TLS_WHY_BYTES])
{
    struct generation *g = next_generation(SIDE_DEVICE, why);
    if (g == NULL || !load_own(g, certificate, key, why))
        return false;
    mbedtls_ssl_conf_authmode(&g->config, MBEDTLS_SSL_VERIFY_NONE);
    if (mbedtls_ssl_conf_own_cert(&g->config, &g->certificates, &g->key) != 0) {
        snprintf(why, TLS_WHY_BYTES, "no memory is left for TLS");
        return false;
    }
    prepare(SIDE_DEVICE, g);
    return true;
}

bool tls_serves(void)
{
    return is_ready[SIDE_DEVICE];
}

bool tls_can_serve(void)
{
    return tls_serves() && tls_served() < sessions_max[SIDE_DEVICE];
}

unsigned tls_served(void)
{
    return (unsigned)sessions_taken(SIDE_DEVICE);
}

/* ---- Reasons in words ---------------------------------------------------- */

static void give_why(struct tls *t, const char *text)
{
    if (t->trust.why[0] == '\0')
        text_copy(t->trust.why, sizeof t->trust.why, text);
}

static const struct {
    int code;
    enum tls_fault fault;
    const char *text; /* of the smarthost */
} reasons[] = {
    {MBEDTLS_ERR_SSL_CONN_EOF, TLS_FAULT_GONE,
     "the server hung up during the TLS handshake"},
    {MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE, TLS_FAULT_OTHER,
     "the server refused the TLS handshake (too old a TLS version?)"},
    {MBEDTLS_ERR_SSL_INVALID_RECORD, TLS_FAULT_NOT_TLS,
     "the server answered in clear where TLS was due (wrong port?)"},
    {MBEDTLS_ERR_SSL_ALLOC_FAILED, TLS_FAULT_OTHER,
     "no memory is left for TLS"},
    {MBEDTLS_ERR_SSL_INVALID_MAC, TLS_FAULT_OTHER,
     "the TLS connection was tampered with"},
#ifdef MBEDTLS_ERR_SSL_BAD_HS_PROTOCOL_VERSION
    {MBEDTLS_ERR_SSL_BAD_HS_PROTOCOL_VERSION, TLS_FAULT_TOO_OLD,
     "the server knows no TLS 1.2 or later"},
#endif
#ifdef MBEDTLS_ERR_SSL_BAD_PROTOCOL_VERSION
    {MBEDTLS_ERR_SSL_BAD_PROTOCOL_VERSION, TLS_FAULT_TOO_OLD,
     "the server knows no TLS 1.2 or later"},
#endif
#ifdef MBEDTLS_ERR_SSL_NO_CIPHER_CHOSEN
    {MBEDTLS_ERR_SSL_NO_CIPHER_CHOSEN, TLS_FAULT_NO_CIPHER,
     "the server knows no cipher of ours"},
#endif
#ifdef MBEDTLS_ERR_SSL_NO_USABLE_CIPHERSUITE
    {MBEDTLS_ERR_SSL_NO_USABLE_CIPHERSUITE, TLS_FAULT_NO_CIPHER,
     "the server knows no cipher of ours"},
#endif
#ifdef MBEDTLS_ERR_SSL_HANDSHAKE_FAILURE
    {MBEDTLS_ERR_SSL_HANDSHAKE_FAILURE, TLS_FAULT_NO_CIPHER,
     "the server and we have no cipher or key in common"},
#endif
};

/* RFC 8446 section 6.2: protocol_version; bad_certificate to
 * certificate_unknown, unknown_ca. */
static enum tls_fault fault_of_alert(unsigned alert)
{
    if (alert == 70)
        return TLS_FAULT_TOO_OLD;
    bool is_distrust = (alert >= 42 && alert <= 46) || alert == 48;
    return is_distrust ? TLS_FAULT_DISTRUST : TLS_FAULT_OTHER;
}

/* A device that does not like our certificate sends its alert and is gone
 * before our flight is out: then it is a write that failed, and the alert lies
 * unread. */
static void look_for_alert(struct tls *t)
{
    uint8_t record[7];
    ssize_t n = recv(t->fd, record, sizeof record, MSG_DONTWAIT);
    if (n == sizeof record && record[0] == 21 && record[4] == 2)
        t->fault = fault_of_alert(record[6]);
}

/* What came first is no TLS record. The library has several names for that;
 * and SSL 2.0 began otherwise. */
static enum tls_fault fault_of_first(const struct tls *t)
{
    bool is_record = t->first >= 20 && t->first <= 23; /* RFC 8446, 5.1 */
    if (t->first < 0 || is_record)
        return TLS_FAULT_OTHER;
    return t->first == 0x80 ? TLS_FAULT_TOO_OLD : TLS_FAULT_NOT_TLS;
}

static void set_failed(struct tls *t, int rc)
{
    char text[TLS_WHY_BYTES], library[120];
    t->has_failed = true;
    for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++)
        if (reasons[i].code == rc) {
            t->fault = reasons[i].fault;
            if (t->side == SIDE_SMARTHOST)
                give_why(t, reasons[i].text);
        }
    if (rc == MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE)
        t->fault = fault_of_alert(alert_of(&t->ssl));
    else if (t->fault == TLS_FAULT_GONE)
        look_for_alert(t);
    if (t->side == SIDE_DEVICE && fault_of_first(t) != TLS_FAULT_OTHER)
        t->fault = fault_of_first(t);
    mbedtls_strerror(rc, library, sizeof library);
    snprintf(text, sizeof text, "TLS failed: %s", library);
    give_why(t, text);
}

enum tls_fault tls_fault(const struct tls *t)
{
    return t->fault;
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
    struct tls *t = session;
    ssize_t n = recv(t->fd, data, room, 0);
    if (n > 0 && t->first < 0)
        t->first = data[0];
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

static struct tls *vacant_session(enum side side)
{
    if (!is_ready[side] || sessions_taken(side) >= sessions_max[side])
        return NULL;
    for (size_t i = 0; i < TLS_SESSIONS_MAX; i++)
        if (!sessions[i].is_taken)
            return &sessions[i];
    return NULL;
}

/* What is said and demanded of a server. */
static bool demand_name(struct tls *t, const char *name)
{
    struct ip_address ip;
    text_copy(t->trust.name, sizeof t->trust.name, name);
    size_t length = strlen(t->trust.name);
    if (length > 1 && t->trust.name[length - 1] == '.')
        t->trust.name[length - 1] = '\0';
    /* SNI names hosts, never addresses (RFC 6066 section 3). */
    const char *host = ip_parse(t->trust.name, &ip) ? NULL : t->trust.name;
    mbedtls_ssl_set_verify(&t->ssl, trust_look_at, &t->trust);
    return mbedtls_ssl_set_hostname(&t->ssl, host) == 0;
}

struct tls *tls_open(int fd, const char *name)
{
    enum side side = name != NULL ? SIDE_SMARTHOST : SIDE_DEVICE;
    struct tls *t = vacant_session(side);
    if (t == NULL)
        return NULL;
    memset(t, 0, sizeof *t);
    t->is_taken = true;
    t->fd = fd;
    t->side = side;
    t->wants = side == SIDE_DEVICE ? POLLIN : POLLOUT;
    t->first = -1;
    t->generation = current[side];
    mbedtls_ssl_init(&t->ssl);
    if (mbedtls_ssl_setup(&t->ssl, &generations[side][t->generation].config) !=
            0 ||
        (side == SIDE_SMARTHOST && !demand_name(t, name))) {
        tls_close(t);
        return NULL;
    }
    mbedtls_ssl_set_bio(&t->ssl, t, bio_send, bio_receive, NULL);
    return t;
}

void tls_shut(struct tls *t)
{
    if (t->is_up && !t->has_failed && !t->is_mute && t->unfinished == 0)
        mbedtls_ssl_close_notify(&t->ssl);
    t->is_mute = true;
}

void tls_close(struct tls *t)
{
    if (t == NULL)
        return;
    tls_shut(t);
    mbedtls_ssl_free(&t->ssl);
    bytes_wipe(t, sizeof *t);
}

enum tls_result tls_handshake(struct tls *t)
{
    int rc = mbedtls_ssl_handshake(&t->ssl);
    if (is_waiting(t, rc))
        return TLS_AGAIN;
    bool is_proven =
        t->side == SIDE_DEVICE || (t->trust.name_is_proven &&
                                   mbedtls_ssl_get_verify_result(&t->ssl) == 0);
    if (rc == 0 && is_proven) {
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
    return t->trust.why[0] ? t->trust.why : "TLS failed";
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
