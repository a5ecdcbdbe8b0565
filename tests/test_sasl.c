/* sasl: what is offered, what is chosen, and the exchange byte by byte. */
#include <check.h>
#include <string.h>

#include "../sasl.h"
Suite *suite_sasl(void);

#define COUNT(table) (sizeof(table) / sizeof(table)[0])
#define PLAIN        SASL_BIT(SASL_PLAIN)
#define LOGIN        SASL_BIT(SASL_LOGIN)

static char space[2048];
static struct buf out;
static struct sasl s;

static void setup(void)
{
    buf_init(&out, space, sizeof space);
    memset(&s, 0, sizeof s);
}

static void expect_out(const char *text)
{
    ck_assert(!out.overflow);
    ck_assert_uint_eq(buf_len(&out), strlen(text));
    ck_assert_mem_eq(buf_data(&out), text, strlen(text));
    buf_clear(&out);
}

START_TEST(offered)
{
    static const struct {
        const char *line;
        unsigned bits;
    } table[] = {
        {"AUTH PLAIN LOGIN", PLAIN | LOGIN},
        {"AUTH LOGIN PLAIN", PLAIN | LOGIN},
        {"AUTH=LOGIN", LOGIN},
        {"AUTH=LOGIN PLAIN", PLAIN | LOGIN},
        {"auth plain", PLAIN},
        {"AUTH  PLAIN  ", PLAIN},
        {"AUTH CRAM-MD5 PLAIN XOAUTH2", PLAIN},
        {"AUTH PLAIN-CLIENTTOKEN", 0},
        {"AUTH XPLAIN", 0},
        {"AUTH PLAI", 0},
        {"AUTH none", 0},
        {"AUTH ", 0},
        {"AUTH", 0},
        {"AUTHPLAIN", 0},
        {"AUTHX PLAIN", 0},
        {"XAUTH PLAIN", 0},
        {"SIZE 1000", 0},
        {"", 0},
    };
    for (size_t i = 0; i < COUNT(table); i++)
        ck_assert_msg(sasl_offered(table[i].line, strlen(table[i].line)) ==
                          table[i].bits,
                      "%s", table[i].line);
    /* what lies behind the line is not of the line */
    ck_assert_uint_eq(sasl_offered("AUTH PLAIN LOGIN", 10), PLAIN);
    ck_assert_uint_eq(sasl_offered("AUTH PLAIN", 9), 0);
}
END_TEST

START_TEST(chosen)
{
    static const struct {
        unsigned offered;
        enum sasl_mechanism wanted, chosen;
    } table[] = {
        {0, SASL_NONE, SASL_NONE},
        {PLAIN, SASL_NONE, SASL_PLAIN},
        {LOGIN, SASL_NONE, SASL_LOGIN},
        {PLAIN | LOGIN, SASL_NONE, SASL_PLAIN},
        {PLAIN | LOGIN, SASL_LOGIN, SASL_LOGIN},
        {PLAIN, SASL_LOGIN, SASL_NONE},
        {LOGIN, SASL_PLAIN, SASL_NONE},
        {0, SASL_PLAIN, SASL_NONE},
        {~0u, SASL_NONE, SASL_PLAIN},
    };
    for (size_t i = 0; i < COUNT(table); i++)
        ck_assert_msg(sasl_choose(table[i].offered, table[i].wanted) ==
                          table[i].chosen,
                      "row %zu", i);
    ck_assert_str_eq(sasl_name(SASL_PLAIN), "PLAIN");
    ck_assert_str_eq(sasl_name(SASL_LOGIN), "LOGIN");
}
END_TEST

START_TEST(plain)
{
    /* RFC 4616 section 4: authzid is ours to leave out */
    sasl_start(&s, SASL_PLAIN, "tim", "tanstaaftanstaaf", &out);
    expect_out("AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm\r\n");
    ck_assert(!sasl_answer(&s, "tim", "tanstaaftanstaaf", &out));
    expect_out("");
    sasl_start(&s, SASL_PLAIN, "\xc3\xbc", "p\xc3\xa4ss", &out);
    expect_out("AUTH PLAIN AMO8AHDDpHNz\r\n");
}
END_TEST

START_TEST(login)
{
    sasl_start(&s, SASL_LOGIN, "tim", "secret", &out);
    expect_out("AUTH LOGIN\r\n");
    ck_assert(sasl_answer(&s, "tim", "secret", &out));
    expect_out("dGlt\r\n");
    ck_assert(sasl_answer(&s, "tim", "secret", &out));
    expect_out("c2VjcmV0\r\n");
    for (int i = 0; i < 3; i++)
        ck_assert(!sasl_answer(&s, "tim", "secret", &out));
    expect_out("");
    sasl_start(&s, SASL_LOGIN, "tim", "secret", &out); /* afresh */
    expect_out("AUTH LOGIN\r\n");
    ck_assert(sasl_answer(&s, "tim", "secret", &out));
    expect_out("dGlt\r\n");
}
END_TEST

START_TEST(without_a_start_there_is_no_answer)
{
    ck_assert(!sasl_answer(&s, "tim", "secret", &out));
    expect_out("");
}
END_TEST

/* The longest that settings take; and a buffer that is too small. */
START_TEST(long_credentials)
{
    char user[256], password[256], small[64];
    memset(user, 'u', 255);
    memset(password, 'p', 255);
    user[255] = password[255] = '\0';
    sasl_start(&s, SASL_PLAIN, user, password, &out);
    ck_assert(!out.overflow);
    ck_assert_uint_eq(buf_len(&out), 11 + (2 + 2 * 255 + 2) / 3 * 4 + 2);
    struct buf b;
    buf_init(&b, small, sizeof small);
    sasl_start(&s, SASL_PLAIN, user, password, &b);
    ck_assert(b.overflow);
}
END_TEST

Suite *suite_sasl(void)
{
    Suite *suite = suite_create("sasl");
    TCase *c = tcase_create("sasl");
    tcase_add_checked_fixture(c, setup, NULL);
    tcase_add_test(c, offered);
    tcase_add_test(c, chosen);
    tcase_add_test(c, plain);
    tcase_add_test(c, login);
    tcase_add_test(c, without_a_start_there_is_no_answer);
    tcase_add_test(c, long_credentials);
    suite_add_tcase(suite, c);
    return suite;
}
