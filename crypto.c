/* See crypto.h.
 *
 * The differences between mbedTLS 2.28, 3.6 and 4.x stand in the block below
 * and nowhere else: from 3.6 on hashes and keys come from its PSA part, which
 * is all that 4.x has left. */
#include "crypto.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include <mbedtls/pk.h>
#include <mbedtls/version.h>
#include <mbedtls/x509_crt.h>
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
#include <psa/crypto.h>
#else
#include <mbedtls/sha256.h>
#endif

#include "buf.h"
#include "ip.h"

/* What is left when the platform breaks its word: going on without
 * randomness or hashes would be worse than a stop. */
static void demand(bool is_good, const char *what)
{
    if (is_good)
        return;
    fprintf(stderr, "lanpost: %s failed\n", what);
    abort();
}

/* ---- One source, three library generations ------------------------------- */

#if MBEDTLS_VERSION_NUMBER < 0x04000000
static int random_source(void *unused, unsigned char *out, size_t count)
{
    (void)unused;
    crypto_random(out, count);
    return 0;
}
#define RANDOM_SOURCE , random_source, NULL
#else
#define RANDOM_SOURCE
#endif

#if MBEDTLS_VERSION_NUMBER >= 0x03000000

static bool library_start(void)
{
    return psa_crypto_init() == PSA_SUCCESS;
}

struct sha256 {
    psa_hash_operation_t in_library;
};

static bool sha256_start(struct sha256 *h)
{
    h->in_library = psa_hash_operation_init();
    return psa_hash_setup(&h->in_library, PSA_ALG_SHA_256) == PSA_SUCCESS;
}

/* The copy must be vacant: zeroed, or ended. */
static bool sha256_copy(struct sha256 *copy, const struct sha256 *h)
{
    return psa_hash_clone(&h->in_library, &copy->in_library) == PSA_SUCCESS;
}

static bool sha256_add(struct sha256 *h, const void *data, size_t count)
{
    return psa_hash_update(&h->in_library, data, count) == PSA_SUCCESS;
}

static bool sha256_end(struct sha256 *h, uint8_t out[CRYPTO_KEY_BYTES])
{
    size_t length;
    return psa_hash_finish(&h->in_library, out, CRYPTO_KEY_BYTES, &length) ==
           PSA_SUCCESS;
}

static void sha256_drop(struct sha256 *h)
{
    psa_hash_abort(&h->in_library);
}

static bool make_key(mbedtls_pk_context *key)
{
    psa_key_attributes_t wish = PSA_KEY_ATTRIBUTES_INIT;
    psa_key_id_t id;
    psa_set_key_type(&wish, PSA_KEY_TYPE_ECC_KEY_PAIR(PSA_ECC_FAMILY_SECP_R1));
    psa_set_key_bits(&wish, 256);
    psa_set_key_algorithm(&wish, PSA_ALG_ECDSA(PSA_ALG_ANY_HASH));
    psa_set_key_usage_flags(&wish,
                            PSA_KEY_USAGE_SIGN_HASH | PSA_KEY_USAGE_EXPORT);
    if (psa_generate_key(&wish, &id) != PSA_SUCCESS)
        return false;
    bool is_good = mbedtls_pk_copy_from_psa(id, key) == 0;
    return psa_destroy_key(id) == PSA_SUCCESS && is_good;
}

static bool set_serial(mbedtls_x509write_cert *c, uint8_t *serial, size_t count)
{
    return mbedtls_x509write_crt_set_serial_raw(c, serial, count) == 0;
}

#else

static bool library_start(void)
{
    return true;
}

struct sha256 {
    mbedtls_sha256_context in_library;
};

static bool sha256_start(struct sha256 *h)
{
    mbedtls_sha256_init(&h->in_library);
    return mbedtls_sha256_starts_ret(&h->in_library, 0) == 0;
}

static bool sha256_copy(struct sha256 *copy, const struct sha256 *h)
{
    mbedtls_sha256_clone(&copy->in_library, &h->in_library);
    return true;
}

static bool sha256_add(struct sha256 *h, const void *data, size_t count)
{
    return mbedtls_sha256_update_ret(&h->in_library, data, count) == 0;
}

static bool sha256_end(struct sha256 *h, uint8_t out[CRYPTO_KEY_BYTES])
{
    return mbedtls_sha256_finish_ret(&h->in_library, out) == 0;
}

static void sha256_drop(struct sha256 *h)
{
    mbedtls_sha256_free(&h->in_library);
}

static bool make_key(mbedtls_pk_context *key)
{
    return mbedtls_pk_setup(key, mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY)) ==
               0 &&
           mbedtls_ecp_gen_key(MBEDTLS_ECP_DP_SECP256R1, mbedtls_pk_ec(*key),
                               random_source, NULL) == 0;
}

static bool set_serial(mbedtls_x509write_cert *c, uint8_t *serial, size_t count)
{
    mbedtls_mpi number;
    mbedtls_mpi_init(&number);
    bool is_good = mbedtls_mpi_read_binary(&number, serial, count) == 0 &&
                   mbedtls_x509write_crt_set_serial(c, &number) == 0;
    mbedtls_mpi_free(&number);
    return is_good;
}

#endif

/* ---- Randomness ----------------------------------------------------------
 *
 * getrandom(2) waits at boot until the kernel has entropy, which is what we
 * want; kernels before 3.17 (NAS boxes) lack it and get /dev/urandom. */

static int urandom_fd = -1;

bool crypto_init(void)
{
    if (urandom_fd < 0)
        urandom_fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
    uint8_t probe;
    return urandom_fd >= 0 || getrandom(&probe, 1, 0) == 1;
}

static ssize_t random_some(void *data, size_t count)
{
    ssize_t got = getrandom(data, count, 0);
    if (got < 0 && errno != EINTR && urandom_fd >= 0)
        got = read(urandom_fd, data, count);
    return got;
}

void crypto_random(void *data, size_t count)
{
    uint8_t *at = data;
    while (count > 0) {
        ssize_t got = random_some(at, count);
        if (got > 0) {
            at += got;
            count -= (size_t)got;
        } else {
            demand(got < 0 && errno == EINTR, "the source of randomness");
        }
    }
}

uint32_t crypto_random_u32(void)
{
    uint32_t value;
    crypto_random(&value, sizeof value);
    return value;
}

bool crypto_equal(const void *a, const void *b, size_t count)
{
    /* volatile: no compiler may stop at the first difference */
    const volatile uint8_t *x = a, *y = b;
    uint8_t difference = 0;
    for (size_t i = 0; i < count; i++)
        difference |= x[i] ^ y[i];
    return difference == 0;
}

/* ---- SHA-256 ------------------------------------------------------------- */

static const char the_hash[] = "SHA-256 of the library";

static_assert(sizeof(struct sha256) <= sizeof(struct crypto_sha256),
              "the library's state must fit: enlarge struct crypto_sha256");

/* Each call works on a copy of its own: an array of words may not be looked
 * at as a struct of the library, but its bytes may be carried over. */
static void sha256_keep(struct crypto_sha256 *h, const struct sha256 *state)
{
    memcpy(h->opaque, state, sizeof *state);
}

void crypto_sha256_start(struct crypto_sha256 *h)
{
    struct sha256 state;
    memset(h, 0, sizeof *h);
    demand(library_start() && sha256_start(&state), the_hash);
    sha256_keep(h, &state);
}

void crypto_sha256_add(struct crypto_sha256 *h, const void *data, size_t count)
{
    struct sha256 state;
    memcpy(&state, h->opaque, sizeof state);
    demand(sha256_add(&state, data, count), the_hash);
    sha256_keep(h, &state);
}

void crypto_sha256_end(struct crypto_sha256 *h,
                       uint8_t out[CRYPTO_SHA256_BYTES])
{
    struct sha256 state;
    memcpy(&state, h->opaque, sizeof state);
    demand(sha256_end(&state, out), the_hash);
    sha256_drop(&state);
    bytes_wipe(h, sizeof *h);
}

/* ---- PBKDF2 -------------------------------------------------------------- */

/* RFC 2104. The two padded keys are hashed once; each message goes on from a
 * copy, which halves the work of a round. */
struct hmac {
    struct sha256 inner, outer, work;
};

static void hmac_start(struct hmac *m, const uint8_t key[CRYPTO_BLOCK_BYTES])
{
    uint8_t inner[CRYPTO_BLOCK_BYTES], outer[CRYPTO_BLOCK_BYTES];
    for (size_t i = 0; i < CRYPTO_BLOCK_BYTES; i++) {
        inner[i] = key[i] ^ 0x36;
        outer[i] = key[i] ^ 0x5c;
    }
    memset(m, 0, sizeof *m);
    demand(library_start() && sha256_start(&m->inner) &&
               sha256_add(&m->inner, inner, sizeof inner) &&
               sha256_start(&m->outer) &&
               sha256_add(&m->outer, outer, sizeof outer),
           the_hash);
    bytes_wipe(inner, sizeof inner);
    bytes_wipe(outer, sizeof outer);
}

static void hmac_of(struct hmac *m, const void *data, size_t count,
                    uint8_t out[CRYPTO_KEY_BYTES])
{
    demand(sha256_copy(&m->work, &m->inner) &&
               sha256_add(&m->work, data, count) && sha256_end(&m->work, out) &&
               sha256_copy(&m->work, &m->outer) &&
               sha256_add(&m->work, out, CRYPTO_KEY_BYTES) &&
               sha256_end(&m->work, out),
           the_hash);
}

static void hmac_drop(struct hmac *m)
{
    sha256_drop(&m->inner);
    sha256_drop(&m->outer);
    sha256_drop(&m->work);
    bytes_wipe(m, sizeof *m);
}

/* A password longer than a block is replaced by its hash (RFC 2104). */
static void put_password(struct crypto_pbkdf2 *p, const void *password,
                         size_t count)
{
    struct sha256 h;
    memset(p->key, 0, sizeof p->key);
    if (count <= sizeof p->key) {
        memcpy(p->key, password, count);
        return;
    }
    demand(library_start() && sha256_start(&h) &&
               sha256_add(&h, password, count) && sha256_end(&h, p->key),
           the_hash);
    sha256_drop(&h);
}

void crypto_pbkdf2_start(struct crypto_pbkdf2 *p, const void *password,
                         size_t password_bytes, const void *salt,
                         size_t salt_bytes, uint32_t rounds)
{
    static const uint8_t block_one[4] = {0, 0, 0, 1};
    uint8_t salt_and_one[CRYPTO_SALT_BYTES + sizeof block_one];
    struct hmac m;
    demand(salt_bytes <= CRYPTO_SALT_BYTES, "the length of a salt");
    memcpy(salt_and_one, salt, salt_bytes);
    memcpy(salt_and_one + salt_bytes, block_one, sizeof block_one);
    put_password(p, password, password_bytes);
    hmac_start(&m, p->key);
    hmac_of(&m, salt_and_one, salt_bytes + sizeof block_one, p->u);
    hmac_drop(&m);
    memcpy(p->t, p->u, sizeof p->t);
    p->rounds_left = rounds > 0 ? rounds - 1 : 0;
}

bool crypto_pbkdf2_run(struct crypto_pbkdf2 *p, uint32_t rounds_at_most,
                       uint8_t out[CRYPTO_KEY_BYTES])
{
    struct hmac m;
    if (rounds_at_most > p->rounds_left)
        rounds_at_most = p->rounds_left;
    hmac_start(&m, p->key);
    for (uint32_t round = 0; round < rounds_at_most; round++) {
        hmac_of(&m, p->u, sizeof p->u, p->u);
        for (size_t i = 0; i < sizeof p->t; i++)
            p->t[i] ^= p->u[i];
    }
    hmac_drop(&m);
    p->rounds_left -= rounds_at_most;
    if (p->rounds_left > 0)
        return false;
    memcpy(out, p->t, sizeof p->t);
    crypto_pbkdf2_wipe(p);
    return true;
}

void crypto_pbkdf2_wipe(struct crypto_pbkdf2 *p)
{
    bytes_wipe(p, sizeof *p);
}

/* ---- The certificate: names ---------------------------------------------- */

#define HOST_NAME_MAX_BYTES   253  /* RFC 1035, as text */
#define COMMON_NAME_MAX_BYTES 64   /* ub-common-name of RFC 5280 */
#define NAMES_BYTES           2048 /* all of them, in DER */

enum { /* DER tags; the names of RFC 5280 section 4.2.1.6 */
    TAG_SEQUENCE = 0x30,
    TAG_DNS_NAME = 0x82,
    TAG_IP_ADDRESS = 0x87
};

static bool is_host_name(const char *text)
{
    size_t length = strlen(text);
    size_t good = strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-_."
                               "ABCDEFGHIJKLMNOPQRSTUVWXYZ");
    return length > 0 && length <= HOST_NAME_MAX_BYTES && good == length &&
           *text != '.' && text[length - 1] != '.' &&
           strstr(text, "..") == NULL;
}

/* Also "[192.0.2.1]" and "[IPv6:2001:db8::1]". A link-local address is as good
 * without the name of its interface. */
static bool read_address(const char *text, struct ip_address *out)
{
    char inner[IP_TEXT_BYTES];
    size_t length = strlen(text);
    if (*text == '[' && text[length - 1] == ']') {
        text++;
        length -= 2;
    }
    if (length > 5 && bytes_equal_nocase(text, 5, "IPv6:")) {
        text += 5;
        length -= 5;
    }
    if (length >= sizeof inner)
        return false;
    memcpy(inner, text, length);
    inner[length] = '\0';
    bool is_address = ip_parse(inner, out);
    out->zone = 0;
    return is_address;
}

/* X.690 section 8.1.3: one byte, or the count of bytes and then they. */
static void put_tag(struct buf *b, uint8_t tag, size_t length)
{
    uint8_t head[4] = {tag, (uint8_t)length};
    size_t count = 2;
    if (length > 0xff) {
        head[1] = 0x82;
        head[2] = (uint8_t)(length >> 8);
        head[3] = (uint8_t)length;
        count = 4;
    } else if (length > 0x7f) {
        head[1] = 0x81;
        head[2] = (uint8_t)length;
        count = 3;
    }
    buf_put(b, head, count);
}

/* Puts each name, and the first into subject as well. */
static void put_names(struct buf *b, const char *const *names, size_t count,
                      char subject[COMMON_NAME_MAX_BYTES + 1])
{
    *subject = '\0';
    for (size_t i = 0; i < count; i++) {
        struct ip_address a;
        char text[IP_TEXT_BYTES];
        const char *name = names[i];
        if (read_address(name, &a)) {
            if (!ip_is_host(&a)) /* 0.0.0.0: listened on, never connected to */
                continue;
            size_t bytes = a.family == AF_INET ? 4 : 16;
            put_tag(b, TAG_IP_ADDRESS, bytes);
            buf_put(b, a.bytes, bytes);
            name = ip_format(&a, text);
        } else if (is_host_name(name)) {
            put_tag(b, TAG_DNS_NAME, strlen(name));
            buf_puts(b, name);
        } else {
            continue;
        }
        if (*subject == '\0')
            text_copy(subject, COMMON_NAME_MAX_BYTES + 1, name);
    }
}

/* ---- The certificate: all of it ------------------------------------------ */

#define DAY_S           86400
#define LIFE_S          (20LL * 36525 * DAY_S / 100)
#define CLOCK_LEAST_S   1767225600LL  /* 2026-01-01: this source is younger */
#define CLOCK_LARGEST_S 16725225600LL /* 2500-01-01: no clock is right */

static void write_time(int64_t at_s, char out[16])
{
    time_t at = (time_t)at_s;
    struct tm parts;
    *out = '\0'; /* a 32-bit time_t may not reach so far; the library objects */
    if (at == at_s && gmtime_r(&at, &parts) != NULL)
        strftime(out, 16, "%Y%m%d%H%M%S", &parts);
}

/* A box without a battery starts in 1970, and its certificate must be good
 * once the time has come over the net. */
static bool set_life(mbedtls_x509write_cert *c, int64_t now_s)
{
    char from[16], to[16];
    bool is_sane = now_s >= CLOCK_LEAST_S && now_s < CLOCK_LARGEST_S;
    int64_t from_s = is_sane ? now_s - DAY_S : CLOCK_LEAST_S;
    write_time(from_s, from);
    write_time(from_s + LIFE_S, to);
    return mbedtls_x509write_crt_set_validity(c, from, to) == 0;
}

#define EXTENSION(c, oid, value, count)                                        \
    (mbedtls_x509write_crt_set_extension(c, oid, sizeof(oid) - 1, 0, value,    \
                                         count) == 0)

static bool set_extensions(mbedtls_x509write_cert *c, const struct buf *names)
{
    static const uint8_t server_auth[] = {0x30, 10,   0x06, 8,    0x2b, 0x06,
                                          0x01, 0x05, 0x05, 0x07, 0x03, 0x01};
    uint8_t space[NAMES_BYTES + 4];
    struct buf b;
    buf_init(&b, space, sizeof space);
    put_tag(&b, TAG_SEQUENCE, buf_len(names));
    buf_put(&b, buf_data(names), buf_len(names));
    return mbedtls_x509write_crt_set_basic_constraints(c, 0, -1) == 0 &&
           mbedtls_x509write_crt_set_key_usage(
               c, MBEDTLS_X509_KU_DIGITAL_SIGNATURE) == 0 &&
           EXTENSION(c, "\x55\x1d\x25", server_auth, sizeof server_auth) &&
           EXTENSION(c, "\x55\x1d\x11", buf_data(&b), buf_len(&b));
}

/* RFC 5280 section 4.1.2.2: positive, and nobody can guess it. */
static bool set_random_serial(mbedtls_x509write_cert *c)
{
    uint8_t serial[16];
    crypto_random(serial, sizeof serial);
    serial[0] = (serial[0] & 0x7f) | 0x40;
    return set_serial(c, serial, sizeof serial);
}

static bool write_certificate(mbedtls_pk_context *key, const char *subject,
                              const struct buf *names, int64_t now_s, char *out,
                              size_t room)
{
    mbedtls_x509write_cert c;
    char subject_line[sizeof "CN=" + COMMON_NAME_MAX_BYTES];
    snprintf(subject_line, sizeof subject_line, "CN=%s", subject);
    mbedtls_x509write_crt_init(&c);
    mbedtls_x509write_crt_set_version(&c, MBEDTLS_X509_CRT_VERSION_3);
    mbedtls_x509write_crt_set_md_alg(&c, MBEDTLS_MD_SHA256);
    mbedtls_x509write_crt_set_subject_key(&c, key);
    mbedtls_x509write_crt_set_issuer_key(&c, key);
    bool is_good =
        mbedtls_x509write_crt_set_subject_name(&c, subject_line) == 0 &&
        mbedtls_x509write_crt_set_issuer_name(&c, subject_line) == 0 &&
        set_random_serial(&c) && set_life(&c, now_s) &&
        set_extensions(&c, names) &&
        mbedtls_x509write_crt_pem(&c, (unsigned char *)out,
                                  room RANDOM_SOURCE) == 0;
    mbedtls_x509write_crt_free(&c);
    return is_good;
}

bool crypto_make_certificate(const char *const *names, size_t count,
                             int64_t now_s, char *out, size_t room)
{
    uint8_t space[NAMES_BYTES];
    char subject[COMMON_NAME_MAX_BYTES + 1];
    struct buf b;
    buf_init(&b, space, sizeof space);
    put_names(&b, names, count, subject);
    mbedtls_pk_context key;
    mbedtls_pk_init(&key);
    bool is_good =
        !b.overflow && buf_len(&b) > 0 && library_start() && make_key(&key) &&
        mbedtls_pk_write_key_pem(&key, (unsigned char *)out, room) == 0;
    size_t used = is_good ? strlen(out) : 0;
    is_good = is_good && write_certificate(&key, subject, &b, now_s, out + used,
                                           room - used);
    mbedtls_pk_free(&key);
    if (!is_good)
        bytes_wipe(out, room);
    return is_good;
}
