/* tls: which names a certificate covers (RFC 9525 section 6.3), a CA file that
 * is none, and a certificate of our own that is none. Handshakes with devices
 * are tested in test_inbound_tls.c, those with smarthosts from end to end. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../crypto.h"
#include "../tls.h"
Suite *suite_tls(void);

#define COUNT(table) (sizeof(table) / sizeof(table)[0])
#define WIRE(text)   text, sizeof(text) - 1

START_TEST(c1_names_that_cover)
{
    static const struct {
        const char *pattern;
        size_t count;
        const char *host;
        bool covers;
    } table[] = {
        {WIRE("smtp.example.com"), "smtp.example.com", true},
        {WIRE("SMTP.Example.COM"), "smtp.example.com", true},
        {WIRE("smtp.example.com"), "SMTP.EXAMPLE.com", true},
        {WIRE("nas"), "nas", true},
        {WIRE("example.com"), "example.com", true},
        {WIRE("smtp.example.com"), "mail.example.com", false},
        {WIRE("example.com"), "smtp.example.com", false},
        {WIRE("smtp.example.com"), "example.com", false},
        {WIRE("smtp.example.co"), "smtp.example.com", false},
        {WIRE("smtp.example.comx"), "smtp.example.com", false},
        {WIRE(""), "smtp.example.com", false},
        {WIRE(" smtp.example.com"), "smtp.example.com", false},
        /* wildcards: the whole left-most label, one label, three in all */
        {WIRE("*.example.com"), "smtp.example.com", true},
        {WIRE("*.EXAMPLE.com"), "smtp.example.COM", true},
        {WIRE("*.mail.example.com"), "smtp.mail.example.com", true},
        {WIRE("*.example.com"), "example.com", false},
        {WIRE("*.example.com"), ".example.com", false},
        {WIRE("*.example.com"), "a.b.example.com", false},
        {WIRE("*.example.com"), "smtp.example.org", false},
        {WIRE("*.example.com"), "smtp.example.com.evil.net", false},
        {WIRE("*.com"), "example.com", false},
        {WIRE("*."), "com", false},
        {WIRE("*"), "nas", false},
        {WIRE("*"), "smtp.example.com", false},
        {WIRE("*.*.com"), "smtp.example.com", false},
        {WIRE("*.*"), "example.com", false},
        {WIRE("smtp.*.com"), "smtp.example.com", false},
        {WIRE("s*.example.com"), "smtp.example.com", false},
        {WIRE("*p.example.com"), "smtp.example.com", false},
        {WIRE("*smtp.example.com"), "smtp.example.com", false},
        {WIRE("**.example.com"), "smtp.example.com", false},
        {WIRE("*example.com"), "smtpexample.com", false},
        {WIRE("xn--*.example.com"), "xn--bcher-kva.example.com", false},
        {WIRE("*.example.com"), "xn--bcher-kva.example.com", true},
        /* NUL inside, CVE-2009-2408 */
        {WIRE("smtp.example.com\0.evil.net"), "smtp.example.com", false},
        {WIRE("smtp.example.com\0"), "smtp.example.com", false},
        {WIRE("\0smtp.example.com"), "smtp.example.com", false},
        {WIRE("*.example.com\0.evil.net"), "smtp.example.com", false},
        /* the final dot is none of a certificate's */
        {WIRE("smtp.example.com."), "smtp.example.com", false},
        {WIRE("smtp.example.com."), "smtp.example.com.", false},
        {WIRE("*.com."), "example.com.", false},
        {WIRE("*.example.com."), "smtp.example.com", false},
        /* addresses are iPAddress, never dNSName */
        {WIRE("192.0.2.1"), "192.0.2.1", false},
        {WIRE("*.0.2.1"), "192.0.2.1", false},
        {WIRE("::1"), "::1", false},
        {WIRE("2001:db8::1"), "2001:db8::1", false},
    };
    for (size_t i = 0; i < COUNT(table); i++) {
        /* exactly so many bytes, without a NUL behind them */
        char *pattern = malloc(table[i].count + 1);
        memcpy(pattern + 1, table[i].pattern, table[i].count);
        ck_assert_msg(trust_name_covers(pattern + 1, table[i].count,
                                        table[i].host) == table[i].covers,
                      "row %zu: %s for %s", i, table[i].pattern, table[i].host);
        free(pattern);
    }
}
END_TEST

START_TEST(c2_ca_files_that_are_none)
{
    static const char *const texts[] = {
        "", "nonsense\n",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\nMIIB"};
    char why[TLS_WHY_BYTES], name[] = "/tmp/test_tls.XXXXXX";
    ck_assert(!tls_init("/nonexistent/ca.pem", why));
    ck_assert_msg(*why != '\0', "no reason was given");
    int fd = mkstemp(name);
    ck_assert_int_ge(fd, 0);
    for (size_t i = 0; i < COUNT(texts); i++) {
        ck_assert_int_eq(ftruncate(fd, 0), 0);
        ck_assert_int_eq(pwrite(fd, texts[i], strlen(texts[i]), 0),
                         (ssize_t)strlen(texts[i]));
        why[0] = '\0';
        ck_assert_msg(!tls_init(name, why), "row %zu", i);
        ck_assert_msg(*why != '\0', "row %zu", i);
    }
    close(fd);
    unlink(name);
}
END_TEST

static void make(char out[CRYPTO_CERTIFICATE_BYTES])
{
    const char *name = "relay.test";
    ck_assert(crypto_make_certificate(&name, 1, (int64_t)time(NULL), out,
                                      CRYPTO_CERTIFICATE_BYTES));
}

/* Two pairs; what is no pair changes nothing. */
START_TEST(certificates_that_cannot_be_served)
{
    static char one[CRYPTO_CERTIFICATE_BYTES], other[sizeof one];
    static char half[sizeof one], why[TLS_WHY_BYTES];
    ck_assert(crypto_init());
    make(one);
    make(other);
    char *chain = strstr(one, "-----BEGIN CERT");
    ck_assert_ptr_nonnull(chain);
    memcpy(half, chain, strlen(chain) - 100);
    const struct {
        const char *certificate, *key, *why;
    } rows[] = {
        {"", one, "its certificate cannot be read"},
        {"nonsense", one, "its certificate cannot be read"},
        {half, one, "its certificate cannot be read"},
        {chain, "", "its key cannot be used"},
        {chain, chain, "its key cannot be used"},
        {chain, other, "it does not belong to the certificate"},
    };
    bool could_serve = tls_can_serve();
    for (size_t i = 0; i < COUNT(rows); i++) {
        *why = '\0';
        ck_assert_msg(!tls_serve(rows[i].certificate, rows[i].key, why),
                      "row %zu", i);
        ck_assert_msg(strstr(why, rows[i].why) != NULL, "row %zu: %s", i, why);
        ck_assert_int_eq(tls_can_serve(), could_serve);
    }
    ck_assert_msg(tls_serve(one, one, why), "%s", why);
    tls_commit();
    ck_assert(tls_can_serve());
    ck_assert_msg(tls_serve(chain, one, why), "%s", why); /* two files */
    for (size_t i = 0; i < COUNT(rows); i++) {
        ck_assert(!tls_serve(rows[i].certificate, rows[i].key, why));
        ck_assert(tls_can_serve());
    }
}
END_TEST

START_TEST(library_is_named)
{
    ck_assert(strstr(tls_library(), "TLS") != NULL);
    ck_assert_uint_gt(tls_memory_bytes(), 0);
    ck_assert_uint_gt(tls_session_bytes(), 0);
}
END_TEST

Suite *suite_tls(void)
{
    Suite *s = suite_create("tls");
    TCase *c = tcase_create("tls");
    tcase_add_test(c, c1_names_that_cover);
    tcase_add_test(c, c2_ca_files_that_are_none);
    tcase_add_test(c, certificates_that_cannot_be_served);
    tcase_add_test(c, library_is_named);
    suite_add_tcase(s, c);
    return s;
}
