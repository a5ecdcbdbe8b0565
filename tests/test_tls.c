/* tls: which names a certificate covers (RFC 9525 section 6.3), and a CA file
 * that is none. Handshakes are tested from end to end. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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
        ck_assert_msg(tls_name_covers(pattern + 1, table[i].count,
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
    tcase_add_test(c, library_is_named);
    suite_add_tcase(s, c);
    return s;
}
