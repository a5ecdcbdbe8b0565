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

/* ---- Towards devices ----------------------------------------------------- */

static struct sasl_server server;

static void serve(const char *mechanism)
{
    ck_assert(sasl_serve(&server, mechanism, strlen(mechanism)));
}

START_TEST(served_mechanisms)
{
    static const struct {
        const char *name;
        enum sasl_mechanism mechanism; /* SASL_NONE: refused */
    } table[] = {
        {"PLAIN", SASL_PLAIN}, {"plain", SASL_PLAIN},   {"LOGIN", SASL_LOGIN},
        {"Login", SASL_LOGIN}, {"none", SASL_NONE},     {"", SASL_NONE},
        {"LOGINS", SASL_NONE}, {"PLAI", SASL_NONE},     {"=LOGIN", SASL_NONE},
        {"*", SASL_NONE},      {"CRAM-MD5", SASL_NONE},
    };
    for (size_t i = 0; i < COUNT(table); i++) {
        memset(&server, 0xff, sizeof server); /* of an exchange before */
        bool is_good =
            sasl_serve(&server, table[i].name, strlen(table[i].name));
        ck_assert_msg(is_good == (table[i].mechanism != SASL_NONE), "%s",
                      table[i].name);
        ck_assert_uint_eq(server.mechanism, table[i].mechanism);
        ck_assert_uint_eq(server.step, 0);
        ck_assert_str_eq(server.user, "");
        ck_assert_str_eq(server.password, "");
    }
    ck_assert(sasl_serve(&server, "LOGIN dGlt", 5)); /* so many bytes */
}
END_TEST

START_TEST(served_exchanges)
{
    static const struct {
        const char *mechanism;
        const char *lines[3]; /* NULL: none came with AUTH */
        enum sasl_result results[3];
        const char *prompt; /* behind the first */
        const char *user, *password;
    } table[] = {
        {"PLAIN", {"AHRpbQBzZWNyZXQ="}, {SASL_GOT}, NULL, "tim", "secret"},
        {"PLAIN", {"eAB0aW0Ac2VjcmV0"}, {SASL_GOT}, NULL, "tim", "secret"},
        {"PLAIN",
         {NULL, "AHRpbQBzZWNyZXQ="},
         {SASL_ASKS, SASL_GOT},
         "334 ",
         "tim",
         "secret"},
        {"PLAIN", {"AAA="}, {SASL_GOT}, NULL, "", ""},
        {"PLAIN", {"="}, {SASL_BAD}, NULL, NULL, NULL},
        {"PLAIN", {""}, {SASL_BAD}, NULL, NULL, NULL},
        {"PLAIN", {"AHRpbQ=="}, {SASL_BAD}, NULL, NULL, NULL},
        {"PLAIN", {"AHRpbQBzZWNyZXQA"}, {SASL_BAD}, NULL, NULL, NULL},
        {"PLAIN", {"AHRpbQBzZWNyZXQ"}, {SASL_BAD}, NULL, NULL, NULL},
        {"PLAIN", {"*"}, {SASL_CANCELLED}, NULL, NULL, NULL},
        {"LOGIN",
         {NULL, "dGlt", "c2VjcmV0"},
         {SASL_ASKS, SASL_ASKS, SASL_GOT},
         "334 VXNlcm5hbWU6",
         "tim",
         "secret"},
        {"LOGIN",
         {"dGlt", "c2VjcmV0"},
         {SASL_ASKS, SASL_GOT},
         "334 UGFzc3dvcmQ6",
         "tim",
         "secret"},
        {"LOGIN", {"=", "="}, {SASL_ASKS, SASL_GOT}, NULL, "", ""},
        {"LOGIN", {"", ""}, {SASL_ASKS, SASL_GOT}, NULL, "", ""},
        {"LOGIN", {"dGlt", "*"}, {SASL_ASKS, SASL_CANCELLED}, NULL, NULL, NULL},
        {"LOGIN",
         {"dGlt", "c2Vj\tcmV0"},
         {SASL_ASKS, SASL_BAD},
         NULL,
         NULL,
         NULL},
        {"LOGIN", {"dABpbQ=="}, {SASL_BAD}, NULL, NULL, NULL}, /* a NUL */
        {"LOGIN", {"** "}, {SASL_BAD}, NULL, NULL, NULL},
    };
    for (size_t i = 0; i < COUNT(table); i++) {
        enum sasl_result result = SASL_ASKS;
        serve(table[i].mechanism);
        for (size_t k = 0; result == SASL_ASKS; k++) {
            result = sasl_take(&server, table[i].lines[k]);
            ck_assert_msg(result == table[i].results[k], "row %zu", i);
            if (k == 0 && table[i].prompt != NULL)
                ck_assert_str_eq(sasl_prompt(&server), table[i].prompt);
        }
        if (table[i].user == NULL)
            continue;
        ck_assert_str_eq(server.user, table[i].user);
        ck_assert_str_eq(server.password, table[i].password);
    }
}
END_TEST

/* 255 bytes each fit, and one more does not: cut, it would be another's. */
START_TEST(served_texts_that_are_long)
{
    for (size_t length = 254; length < 258; length++) {
        char text[600], line[1024];
        bool fits = length < SASL_TEXT_BYTES;
        struct buf b;
        memset(text, 'u', sizeof text);
        buf_init(&b, line, sizeof line);
        buf_put_base64(&b, text, length);
        buf_put(&b, "", 1);
        serve("LOGIN");
        ck_assert_uint_eq(sasl_take(&server, line),
                          fits ? SASL_ASKS : SASL_BAD);
        if (fits)
            ck_assert_uint_eq(sasl_take(&server, line), SASL_GOT);
        for (int part = 0; part < 2; part++) { /* the user's, the password's */
            memset(text, 'u', sizeof text);
            text[0] = '\0';
            text[1 + (part ? 3 : length)] = '\0';
            buf_init(&b, line, sizeof line);
            buf_put_base64(&b, text, 2 + 3 + length);
            buf_put(&b, "", 1);
            serve("PLAIN");
            ck_assert_uint_eq(sasl_take(&server, line),
                              fits ? SASL_GOT : SASL_BAD);
        }
    }
}
END_TEST

START_TEST(served_and_wiped)
{
    static const struct sasl_server none;
    serve("PLAIN");
    ck_assert_uint_eq(sasl_take(&server, "AHRpbQBzZWNyZXQ="), SASL_GOT);
    sasl_wipe(&server);
    ck_assert_mem_eq(&server, &none, sizeof none);
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
    tcase_add_test(c, served_mechanisms);
    tcase_add_test(c, served_exchanges);
    tcase_add_test(c, served_texts_that_are_long);
    tcase_add_test(c, served_and_wiped);
    suite_add_tcase(suite, c);
    return suite;
}
