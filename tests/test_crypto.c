/* crypto: equality; SHA-256 and PBKDF2 against published numbers, whole and in
 * slices; the certificate that signs itself, read back by the library. */
#include <check.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <mbedtls/md.h>
#include <mbedtls/pk.h>
#include <mbedtls/version.h>
#include <mbedtls/x509_crt.h>

#include "../crypto.h"
Suite *suite_crypto(void);

#define COUNT(table) (sizeof(table) / sizeof(table)[0])
#define A_8          "aaaaaaaa"
#define A_63         A_8 A_8 A_8 A_8 A_8 A_8 A_8 "aaaaaaa"
#define Y_10         "yyyyyyyyyy"
#define Y_50         Y_10 Y_10 Y_10 Y_10 Y_10
#define X_16         "xxxxxxxxxxxxxxxx"
#define X_64         X_16 X_16 X_16 X_16
#define S_32         "ssssssssssssssssssssssssssssssss"

#ifndef MBEDTLS_PRIVATE /* 2.28 */
#define MBEDTLS_PRIVATE(member) member
#endif

/* ---- Randomness and equality --------------------------------------------- */

START_TEST(randomness_differs)
{
    uint8_t a[32] = {0}, b[32] = {0};
    ck_assert(crypto_init());
    crypto_random(a, sizeof a);
    crypto_random(b, sizeof b);
    ck_assert_mem_ne(a, b, sizeof a);
    crypto_random(a, 0);
}
END_TEST

START_TEST(equal_in_every_byte)
{
    uint8_t a[32], b[32];
    crypto_random(a, sizeof a);
    memcpy(b, a, sizeof b);
    ck_assert(crypto_equal(a, b, sizeof a));
    ck_assert(crypto_equal(a, b, 0));
    for (size_t bit = 0; bit < 8 * sizeof a; bit++) {
        b[bit / 8] ^= (uint8_t)(1 << bit % 8);
        ck_assert_msg(!crypto_equal(a, b, sizeof a), "bit %zu", bit);
        ck_assert(crypto_equal(a, b, bit / 8));
        b[bit / 8] = a[bit / 8];
    }
}
END_TEST

static const char *hex(const uint8_t *bytes, size_t count)
{
    static char text[2 * 64 + 1];
    for (size_t i = 0; i < count; i++)
        snprintf(text + 2 * i, 3, "%02x", bytes[i]);
    return text;
}

static bool is_zero(const void *data, size_t count)
{
    const uint8_t *bytes = data;
    for (size_t i = 0; i < count; i++)
        if (bytes[i] != 0)
            return false;
    return true;
}

/* ---- SHA-256 ------------------------------------------------------------- */

/* The examples for FIPS 180-4, and lengths around the padding's border. */
static const struct {
    const char *text;
    size_t times;
    const char *hash;
} hashes[] = {
    {"", 1, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
    {"abc", 1,
     "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
    {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 1,
     "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
    {"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmno"
     "ijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
     1, "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"},
    {"a", 1000000,
     "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"},
    /* hashlib.sha256 of Python */
    {"a", 55,
     "9f4390f8d30c2dd92ec9f095b65e2b9ae9b0a925a5258e241c9f1e910f734318"},
    {"a", 63,
     "7d3e74a05d7db15bce4ad9ec0658ea98e3f06eeecf16b4c6fff2da457ddc2f34"},
    {"a", 64,
     "ffe054fe7ae0cb6dc65c3af9b61d5209f439851db43d0ba5997337df154668eb"},
};

static const char *end_hash(struct crypto_sha256 *h)
{
    uint8_t out[CRYPTO_SHA256_BYTES];
    crypto_sha256_end(h, out);
    ck_assert(is_zero(h, sizeof *h));
    return hex(out, sizeof out);
}

START_TEST(sha256_vectors_whole_and_by_bytes)
{
    static char bytes[1000000];
    for (size_t i = 0; i < COUNT(hashes); i++) {
        struct crypto_sha256 whole, slow;
        size_t length = strlen(hashes[i].text), count = 0;
        for (size_t n = 0; n < hashes[i].times; n++, count += length)
            memcpy(bytes + count, hashes[i].text, length);
        crypto_sha256_start(&whole);
        crypto_sha256_add(&whole, bytes, count);
        ck_assert_str_eq(end_hash(&whole), hashes[i].hash);
        crypto_sha256_start(&slow);
        for (size_t n = 0; n < count; n++)
            crypto_sha256_add(&slow, bytes + n, 1);
        crypto_sha256_add(&slow, bytes, 0);
        ck_assert_str_eq(end_hash(&slow), hashes[i].hash);
    }
}
END_TEST

START_TEST(sha256_states_are_plain_bytes)
{
    struct crypto_sha256 a, copy, other;
    crypto_sha256_start(&a);
    crypto_sha256_start(&other);
    crypto_sha256_add(&a, "ab", 2);
    copy = a;
    crypto_sha256_add(&a, "x", 1);
    crypto_sha256_add(&other, "y", 1);
    crypto_sha256_add(&copy, "c", 1);
    ck_assert_str_ne(end_hash(&a), hashes[1].hash);
    ck_assert_str_eq(end_hash(&copy), hashes[1].hash);
}
END_TEST

/* ---- PBKDF2 -------------------------------------------------------------- */

static const struct {
    const char *password, *salt;
    uint32_t rounds;
    const char *key;
} vectors[] = {
    /* RFC 7914 section 11: the first block of each */
    {"passwd", "salt", 1,
     "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc"},
    {"Password", "NaCl", 80000,
     "4ddcd8f60b98be21830cee5ef22701f9641a4418d04c0414aeff08876b34ab56"},
    /* hashlib.pbkdf2_hmac of Python */
    {"password", "salt", 2,
     "ae4d0c95af6b46d32d0adff928f06dd02a303f8ef3c251dfd6e2d85a95474c43"},
    {"password", "salt", 4096,
     "c5e478d59288c841aa530db6845c4c8d962893a001ce4e11a4963873aa98134a"},
    {"", "12345678", 1000,
     "69cc39a23554cc0619755b3103e84bea76b330dee605cb52775c0684a5e905c0"},
    /* a password that fills a block, and one that is hashed first */
    {X_64, S_32, 1001,
     "467782cd5c09ad5106fa8774474eaf39a53f39ad5927d3cd001117117583dd58"},
    {X_64 "x", S_32, 1001,
     "4390330db71631d459ece0489aea3e970370d99ec35d24c88ca60d8b34958bf0"},
    {Y_50 Y_50 Y_50 Y_50, "", 3,
     "eabb09fb7d674f34363f0748dae495c52610c88083da49902f0e17ef624718f2"},
};

static void start(struct crypto_pbkdf2 *p, size_t row)
{
    crypto_pbkdf2_start(p, vectors[row].password, strlen(vectors[row].password),
                        vectors[row].salt, strlen(vectors[row].salt),
                        vectors[row].rounds);
}

START_TEST(pbkdf2_vectors_in_slices)
{
    static const uint32_t slices[] = {UINT32_MAX, 1, 7, 1000};
    uint32_t slice = slices[_i];
    for (size_t i = 0; i < COUNT(vectors); i++) {
        struct crypto_pbkdf2 p;
        uint8_t key[CRYPTO_KEY_BYTES];
        uint32_t runs = 1, rest = vectors[i].rounds - 1;
        start(&p, i);
        while (!crypto_pbkdf2_run(&p, slice, key))
            runs++;
        ck_assert_str_eq(hex(key, sizeof key), vectors[i].key);
        ck_assert_uint_eq(runs, rest == 0 ? 1 : (rest - 1) / slice + 1);
        ck_assert(is_zero(&p, sizeof p));
    }
}
END_TEST

START_TEST(pbkdf2_states_are_plain_bytes)
{
    struct crypto_pbkdf2 a, b, copy;
    uint8_t key[CRYPTO_KEY_BYTES] = {0};
    start(&a, 3);
    start(&b, 2);
    ck_assert(!crypto_pbkdf2_run(&a, 100, key));
    ck_assert(is_zero(key, sizeof key)); /* nothing comes out early */
    copy = a;
    crypto_pbkdf2_wipe(&a);
    ck_assert(is_zero(&a, sizeof a));
    ck_assert(crypto_pbkdf2_run(&b, 1, key));
    ck_assert_str_eq(hex(key, sizeof key), vectors[2].key);
    ck_assert(!crypto_pbkdf2_run(&copy, 0, key));
    ck_assert(crypto_pbkdf2_run(&copy, 4000, key));
    ck_assert_str_eq(hex(key, sizeof key), vectors[3].key);
}
END_TEST

START_TEST(pbkdf2_no_rounds_are_one)
{
    struct crypto_pbkdf2 p;
    uint8_t key[CRYPTO_KEY_BYTES];
    crypto_pbkdf2_start(&p, "passwd", 6, "salt", 4, 0);
    ck_assert(crypto_pbkdf2_run(&p, 1, key));
    ck_assert_str_eq(hex(key, sizeof key), vectors[0].key);
}
END_TEST

/* ---- The certificate ----------------------------------------------------- */

static char pem[CRYPTO_CERTIFICATE_BYTES];
static mbedtls_x509_crt crt;
static mbedtls_pk_context key_of_pem;

static void setup(void)
{
    ck_assert(crypto_init());
    mbedtls_x509_crt_init(&crt);
    mbedtls_pk_init(&key_of_pem);
}

static void teardown(void)
{
    mbedtls_x509_crt_free(&crt);
    mbedtls_pk_free(&key_of_pem);
}

#if MBEDTLS_VERSION_NUMBER >= 0x03000000 && MBEDTLS_VERSION_NUMBER < 0x04000000
static int some_random(void *unused, unsigned char *out, size_t count)
{
    (void)unused;
    crypto_random(out, count);
    return 0;
}
#define RANDOM , some_random, NULL
#else
#define RANDOM
#endif

/* Makes one and reads it back, as a TLS room would. */
static void make(const char *const *names, size_t count, int64_t now_s)
{
    teardown();
    setup();
    memset(pem, 'x', sizeof pem);
    ck_assert(crypto_make_certificate(names, count, now_s, pem, sizeof pem));
    const unsigned char *text = (unsigned char *)pem;
    size_t length = strlen(pem) + 1;
    ck_assert_int_eq(
        mbedtls_pk_parse_key(&key_of_pem, text, length, NULL, 0 RANDOM), 0);
    ck_assert_int_eq(mbedtls_x509_crt_parse(&crt, text, length), 0);
    ck_assert(crt.next == NULL);
}

/* The names as "dns:NAME " and "ip:HEX "; static. */
static const char *names_of(const mbedtls_x509_crt *c)
{
    static char text[4096];
    size_t used = 0;
    for (const mbedtls_x509_sequence *s = &c->subject_alt_names;
         s != NULL && s->buf.p != NULL; s = s->next)
        if (s->buf.tag == 0x82)
            used += (size_t)snprintf(text + used, sizeof text - used,
                                     "dns:%.*s ", (int)s->buf.len, s->buf.p);
        else if (s->buf.tag == 0x87)
            used += (size_t)snprintf(text + used, sizeof text - used, "ip:%s ",
                                     hex(s->buf.p, s->buf.len));
        else
            ck_abort_msg("a name with tag %d", s->buf.tag);
    text[used] = '\0';
    return text;
}

static const char *subject_of(const mbedtls_x509_crt *c)
{
    static char text[256];
    ck_assert_int_gt(mbedtls_x509_dn_gets(text, sizeof text, &c->subject), 0);
    return text;
}

static const struct {
    const char *names[4];
    const char *subject, *found;
} named[] = {
    {{"relay.example"}, "CN=relay.example", "dns:relay.example "},
    {{"relay.example", "192.0.2.1", "2001:db8::1", "nas_1"},
     "CN=relay.example",
     "dns:relay.example ip:c0000201 ip:20010db8000000000000000000000001 "
     "dns:nas_1 "},
    {{"[192.0.2.1]", "[IPv6:2001:db8::1]", "[ipv6:::1]", "[::1]"},
     "CN=192.0.2.1",
     "ip:c0000201 ip:20010db8000000000000000000000001 "
     "ip:00000000000000000000000000000001 "
     "ip:00000000000000000000000000000001 "},
    {{"[IPv6:2001:db8::1]"},
     "CN=2001:db8::1",
     "ip:20010db8000000000000000000000001 "},
    /* the zone is not of the address */
    {{"fe80::1%lo"}, "CN=fe80::1", "ip:fe800000000000000000000000000001 "},
    /* where we listen, but nobody connects to; and what no name can be */
    {{"0.0.0.0", "::", "a", ""}, "CN=a", "dns:a "},
    {{"b\xc3\xbcro", "a,O=x", "a b", "ok"}, "CN=ok", "dns:ok "},
    {{".a", "a.", "a..b", "a.b"}, "CN=a.b", "dns:a.b "},
    {{"[", "[]", "[192.0.2.1", "c"}, "CN=c", "dns:c "},
    {{"[relay.example]", "*.example", "a\n", "d"}, "CN=d", "dns:d "},
    /* 64 in the subject, 253 in all; DER lengths of one byte and of two */
    {{A_63 ".bc"}, "CN=" A_63 ".", "dns:" A_63 ".bc "},
    {{A_63 "." A_63}, "CN=" A_63 ".", "dns:" A_63 "." A_63 " "},
    {{A_63 "." A_63 "b"}, "CN=" A_63 ".", "dns:" A_63 "." A_63 "b "},
    {{A_63 "." A_63 "." A_63 "." A_63, /* 255 */
      A_63 "." A_63 "." A_63 "." A_8 A_8 A_8 A_8 A_8 A_8 A_8 "aaaaa"},
     "CN=" A_63 ".",
     "dns:" A_63 "." A_63 "." A_63 "." A_8 A_8 A_8 A_8 A_8 A_8 A_8 "aaaaa "},
    /* the length of all names: 127 and 128, 255 and 256 */
    {{A_63 "." A_8 A_8 A_8 A_8 A_8 A_8 A_8 "aaaaa"},
     "CN=" A_63 ".",
     "dns:" A_63 "." A_8 A_8 A_8 A_8 A_8 A_8 A_8 "aaaaa "},
    {{A_63 "." A_8 A_8 A_8 A_8 A_8 A_8 A_8 "aaaaaa"},
     "CN=" A_63 ".",
     "dns:" A_63 "." A_8 A_8 A_8 A_8 A_8 A_8 A_8 "aaaaaa "},
    {{A_63 "." A_63, A_63 "." A_8 A_8 A_8 A_8 A_8 A_8 "aaaaaaaaaa"},
     "CN=" A_63 ".",
     "dns:" A_63 "." A_63 " dns:" A_63 "." A_8 A_8 A_8 A_8 A_8 A_8
     "aaaaaaaaaa "},
    {{A_63 "." A_63, A_63 "." A_8 A_8 A_8 A_8 A_8 A_8 "aaaaaaaaaaa"},
     "CN=" A_63 ".",
     "dns:" A_63 "." A_63 " dns:" A_63 "." A_8 A_8 A_8 A_8 A_8 A_8
     "aaaaaaaaaaa "},
};

START_TEST(certificate_names)
{
    for (size_t i = 0; i < COUNT(named); i++) {
        size_t count = 0;
        while (count < 4 && named[i].names[count] != NULL)
            count++;
        make(named[i].names, count, time(NULL));
        ck_assert_str_eq(subject_of(&crt), named[i].subject);
        ck_assert_str_eq(names_of(&crt), named[i].found);
        ck_assert_uint_eq(crt.subject_raw.len, crt.issuer_raw.len);
        ck_assert_mem_eq(crt.subject_raw.p, crt.issuer_raw.p,
                         crt.subject_raw.len);
    }
}
END_TEST

/* The bytes of an object identifier, right before a value. */
static bool holds(const mbedtls_x509_crt *c, const char *bytes, size_t count)
{
    return memmem(c->tbs.p, c->tbs.len, bytes, count) != NULL;
}

START_TEST(certificate_is_for_servers)
{
    static const char *const names[] = {"relay.example", "192.0.2.1"};
    make(names, 2, time(NULL));
    ck_assert_int_eq(crt.version, 3);
    ck_assert_int_eq(mbedtls_x509_crt_check_key_usage(
                         &crt, MBEDTLS_X509_KU_DIGITAL_SIGNATURE),
                     0);
    ck_assert_int_ne(
        mbedtls_x509_crt_check_key_usage(&crt, MBEDTLS_X509_KU_KEY_CERT_SIGN),
        0);
    ck_assert_int_eq(mbedtls_x509_crt_check_extended_key_usage(
                         &crt, "\x2b\x06\x01\x05\x05\x07\x03\x01", 8),
                     0);
    ck_assert_int_ne(mbedtls_x509_crt_check_extended_key_usage(
                         &crt, "\x2b\x06\x01\x05\x05\x07\x03\x02", 8),
                     0);
    ck_assert(!crt.MBEDTLS_PRIVATE(ca_istrue));
    ck_assert(holds(&crt, "\x06\x03\x55\x1d\x13", 5)); /* said, and false */
    ck_assert_uint_eq(mbedtls_pk_get_bitlen(&crt.pk), 256);
    uint32_t flags = 0;
    ck_assert_int_eq(mbedtls_x509_crt_verify(&crt, &crt, NULL, "relay.example",
                                             &flags, NULL, NULL),
                     0);
    ck_assert_int_ne(mbedtls_x509_crt_verify(&crt, &crt, NULL, "other.example",
                                             &flags, NULL, NULL),
                     0);
}
END_TEST

/* The library trusts a listed certificate without a look at its signature, so
 * the look is ours. */
START_TEST(certificate_is_signed_by_its_key)
{
    static const char *const names[] = {"relay.example"};
    unsigned char hash[32], ours[256], theirs[256];
    make(names, 1, time(NULL));
    ck_assert_int_eq(mbedtls_md(mbedtls_md_info_from_type(MBEDTLS_MD_SHA256),
                                crt.tbs.p, crt.tbs.len, hash),
                     0);
    const mbedtls_x509_buf *signature = &crt.MBEDTLS_PRIVATE(sig);
    ck_assert_int_eq(mbedtls_pk_verify(&crt.pk, MBEDTLS_MD_SHA256, hash,
                                       sizeof hash, signature->p,
                                       signature->len),
                     0);
    hash[0] ^= 1;
    ck_assert_int_ne(mbedtls_pk_verify(&crt.pk, MBEDTLS_MD_SHA256, hash,
                                       sizeof hash, signature->p,
                                       signature->len),
                     0);
    int n = mbedtls_pk_write_pubkey_der(&key_of_pem, ours, sizeof ours);
    ck_assert_int_gt(n, 64);
    ck_assert_int_eq(
        mbedtls_pk_write_pubkey_der(&crt.pk, theirs, sizeof theirs), n);
    ck_assert_mem_eq(ours + sizeof ours - n, theirs + sizeof theirs - n,
                     (size_t)n);
}
END_TEST

START_TEST(certificate_is_fresh)
{
    static const char *const names[] = {"relay.example"};
    uint8_t serial[16], first[16];
    static char before[CRYPTO_CERTIFICATE_BYTES];
    for (int i = 0; i < 20; i++) {
        make(names, 1, time(NULL));
        ck_assert_uint_eq(crt.serial.len, sizeof serial);
        ck_assert_uint_eq(crt.serial.p[0] & 0xc0, 0x40);
        memcpy(serial, crt.serial.p, sizeof serial);
        if (i > 0) {
            ck_assert_mem_ne(serial, first, sizeof serial);
            ck_assert_str_ne(pem, before); /* the key comes first */
            ck_assert_mem_ne(pem + 40, before + 40, 100);
        }
        memcpy(first, serial, sizeof first);
        memcpy(before, pem, sizeof before);
    }
}
END_TEST

static void expect_time(const mbedtls_x509_time *t, const char *text)
{
    char found[64];
    snprintf(found, sizeof found, "%04d-%02d-%02d %02d:%02d:%02d", t->year,
             t->mon, t->day, t->hour, t->min, t->sec);
    ck_assert_str_eq(found, text);
}

START_TEST(certificate_life)
{
    static const struct {
        int64_t now_s;
        const char *from, *to;
    } table[] = {
        {1798806896, "2026-12-31 12:34:56", "2046-12-31 12:34:56"},
        {1767225600, "2025-12-31 00:00:00", "2045-12-31 00:00:00"},
        /* clocks that are wrong */
        {1767225599, "2026-01-01 00:00:00", "2046-01-01 00:00:00"},
        {0, "2026-01-01 00:00:00", "2046-01-01 00:00:00"},
        {-1, "2026-01-01 00:00:00", "2046-01-01 00:00:00"},
        {INT64_MIN, "2026-01-01 00:00:00", "2046-01-01 00:00:00"},
        {INT64_MAX, "2026-01-01 00:00:00", "2046-01-01 00:00:00"},
        {16725225600, "2026-01-01 00:00:00", "2046-01-01 00:00:00"},
        /* RFC 5280 section 4.1.2.5: GeneralizedTime from 2050 on */
        {1924992000, "2030-12-31 00:00:00", "2050-12-31 00:00:00"},
        /* 7305 days, though 2500 is no leap year */
        {16725225599, "2499-12-30 23:59:59", "2519-12-31 23:59:59"},
    };
    static const char *const names[] = {"relay.example"};
    for (size_t i = 0; i < COUNT(table); i++) {
        make(names, 1, table[i].now_s);
        expect_time(&crt.valid_from, table[i].from);
        expect_time(&crt.valid_to, table[i].to);
    }
}
END_TEST

START_TEST(certificate_that_cannot_be)
{
    static const char *const good[] = {"relay.example"};
    static const char *const bad[] = {"", "a b", "0.0.0.0"};
    static const char *many[40];
    for (size_t i = 0; i < COUNT(many); i++)
        many[i] = A_63;
    ck_assert(!crypto_make_certificate(good, 0, 0, pem, sizeof pem));
    ck_assert(!crypto_make_certificate(bad, 3, 0, pem, sizeof pem));
    ck_assert(is_zero(pem, sizeof pem));
    ck_assert(!crypto_make_certificate(many, COUNT(many), 0, pem, sizeof pem));
    ck_assert(crypto_make_certificate(many, 30, 0, pem, sizeof pem));
    /* no room: for the key, and for what follows it */
    for (size_t room = 1; room < 700; room += 100) {
        memset(pem, 'x', sizeof pem);
        ck_assert(!crypto_make_certificate(good, 1, 0, pem, room));
        ck_assert(is_zero(pem, room));
        ck_assert(pem[room] == 'x');
    }
}
END_TEST

Suite *suite_crypto(void)
{
    Suite *s = suite_create("crypto");
    TCase *c = tcase_create("hashes");
    tcase_add_test(c, randomness_differs);
    tcase_add_test(c, equal_in_every_byte);
    tcase_add_test(c, sha256_vectors_whole_and_by_bytes);
    tcase_add_test(c, sha256_states_are_plain_bytes);
    tcase_add_loop_test(c, pbkdf2_vectors_in_slices, 0, 4);
    tcase_add_test(c, pbkdf2_states_are_plain_bytes);
    tcase_add_test(c, pbkdf2_no_rounds_are_one);
    tcase_set_timeout(c, 30);
    suite_add_tcase(s, c);
    c = tcase_create("certificate");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, certificate_names);
    tcase_add_test(c, certificate_is_for_servers);
    tcase_add_test(c, certificate_is_signed_by_its_key);
    tcase_add_test(c, certificate_is_fresh);
    tcase_add_test(c, certificate_life);
    tcase_add_test(c, certificate_that_cannot_be);
    tcase_set_timeout(c, 30);
    suite_add_tcase(s, c);
    return s;
}
