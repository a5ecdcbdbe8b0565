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

/* A session of either side, which says nothing; NULL: that side has nothing to
 * show or to trust. */
static struct tls *open_device(void)
{
    return tls_open(-1, NULL);
}

static struct tls *open_smarthost(void)
{
    return tls_open(-1, "relay.test");
}

static char pem[CRYPTO_CERTIFICATE_BYTES]; /* key and certificate */
static char ca_file[] = "/tmp/test_tls.XXXXXX";

static bool prepare_device(char why[TLS_WHY_BYTES])
{
    return tls_serve(pem, pem, why);
}

static bool prepare_smarthost(char why[TLS_WHY_BYTES])
{
    return tls_init(ca_file, why);
}

static const struct side {
    bool (*prepare)(char why[TLS_WHY_BYTES]);
    struct tls *(*open)(void);
} sides[] = {{prepare_device, open_device},
             {prepare_smarthost, open_smarthost}};

static void make_files(void)
{
    strcpy(ca_file, "/tmp/test_tls.XXXXXX");
    int fd = mkstemp(ca_file);
    ck_assert_int_ge(fd, 0);
    ck_assert(crypto_init());
    make(pem);
    const char *chain = strstr(pem, "-----BEGIN CERT");
    ck_assert_int_eq(write(fd, chain, strlen(chain)), (ssize_t)strlen(chain));
    close(fd);
}

static void remove_files(void)
{
    unlink(ca_file);
}

static bool is_open(const struct side *s)
{
    struct tls *t = s->open();
    tls_close(t);
    return t != NULL;
}

/* In a process of its own nothing is there at first; where all tests share
 * one, others may have been here, and then it must stay. */
START_TEST(nothing_changes_before_it_is_committed)
{
    const struct side *one = &sides[_i], *other = &sides[!_i];
    char why[TLS_WHY_BYTES] = "";
    bool was_one = is_open(one), was_other = is_open(other);
    bool could_serve = tls_can_serve();
    ck_assert_msg(one->prepare(why), "%s", why);
    tls_forget(); /* a reload that failed leaves nothing for the next */
    tls_commit();
    ck_assert_int_eq(is_open(one), was_one);
    ck_assert_msg(one->prepare(why), "%s", why);
    ck_assert_int_eq(is_open(one), was_one);
    ck_assert_int_eq(tls_can_serve(), could_serve);
    tls_commit();
    ck_assert(is_open(one));
    ck_assert_int_eq(is_open(other), was_other); /* of it, nothing was said */
    tls_commit(); /* and with nothing prepared, nothing comes */
    ck_assert(is_open(one));
    ck_assert_int_eq(is_open(other), was_other);
}
END_TEST

/* A failure behind a success takes back what was prepared. */
START_TEST(what_fails_is_not_committed)
{
    char why[TLS_WHY_BYTES] = "";
    bool was_device = is_open(&sides[0]), was_smarthost = is_open(&sides[1]);
    ck_assert_msg(prepare_device(why) && prepare_smarthost(why), "%s", why);
    ck_assert(!tls_serve("nonsense", pem, why));
    ck_assert(!tls_init("/nonexistent/ca.pem", why));
    tls_commit();
    ck_assert_int_eq(is_open(&sides[0]), was_device);
    ck_assert_int_eq(is_open(&sides[1]), was_smarthost);
}
END_TEST

/* Sessions of two generations live on while a third is in force; a fourth must
 * wait, and the other side has three of its own. */
START_TEST(three_generations)
{
    const struct side *one = &sides[_i], *other = &sides[!_i];
    struct tls *live[3];
    char why[TLS_WHY_BYTES] = "";
    for (size_t i = 0; i < COUNT(live); i++) {
        ck_assert_msg(one->prepare(why), "%zu: %s", i, why);
        ck_assert_msg(one->prepare(why), "%zu: %s", i, why); /* as often */
        tls_commit();
        live[i] = one->open();
        ck_assert_ptr_nonnull(live[i]);
    }
    for (size_t i = 0; i < COUNT(live); i++) {
        *why = '\0';
        ck_assert(!one->prepare(why));
        ck_assert_msg(strstr(why, "busy") != NULL, "%s", why);
        tls_commit(); /* the newest stays */
        ck_assert_msg(other->prepare(why), "%s", why);
        tls_commit();
        ck_assert(is_open(one) && is_open(other));
        tls_close(live[i]); /* the oldest; of the last, the one in force */
        ck_assert_msg(one->prepare(why), "%s", why);
        tls_commit();
        live[i] = one->open();
        ck_assert_ptr_nonnull(live[i]);
    }
    for (size_t i = 0; i < COUNT(live); i++)
        tls_close(live[i]);
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
    c = tcase_create("commit");
    tcase_add_checked_fixture(c, make_files, remove_files);
    tcase_add_loop_test(c, nothing_changes_before_it_is_committed, 0, 2);
    tcase_add_test(c, what_fails_is_not_committed);
    tcase_add_loop_test(c, three_generations, 0, 2);
    suite_add_tcase(s, c);
    return s;
}
