/* foreign: which first words are another protocol's. */
#include <check.h>
#include <string.h>

#include "../foreign.h"
Suite *suite_foreign(void);

#define COUNT(table) (sizeof(table) / sizeof(table)[0])

START_TEST(words)
{
    static const struct {
        const char *word;
        bool is_foreign;
    } rows[] = {
        {"GET", true},      {"get", true},        {"POST", true},
        {"HEAD", true},     {"PUT", true},        {"DELETE", true},
        {"OPTIONS", true},  {"TRACE", true},      {"CONNECT", true},
        {"PATCH", true},    {"PRI", true},        {"Host:", true},
        {"Subject:", true}, {":", true},          {"SSH-2.0-x", true},
        {"ssh-1.99", true}, {"SSH-", true},       {"SSH", false},
        {"GETX", false},    {"GE", false},        {"", false},
        {"MAIL", false},    {"EHLO", false},      {"STARTTLS", false},
        {"XYZZY", false},   {"Host:name", false}, {"PRIX", false},
    };
    for (size_t i = 0; i < COUNT(rows); i++)
        ck_assert_msg(foreign_is_word(rows[i].word, strlen(rows[i].word)) ==
                          rows[i].is_foreign,
                      "%s", rows[i].word);
    /* what lies behind the word is not of the word */
    ck_assert(foreign_is_word("GET /", 3));
    ck_assert(!foreign_is_word("SSH-", 3));
}
END_TEST

START_TEST(bytes)
{
    for (int c = 0; c < 256; c++) {
        bool is_text = (c >= ' ' && c < 0x7f) || c == '\r' || c == '\n';
        ck_assert_msg(foreign_is_byte((uint8_t)c) == !is_text, "byte %d", c);
    }
    ck_assert(foreign_is_byte(FOREIGN_TLS_HELLO));
}
END_TEST

START_TEST(controls)
{
    for (int c = 0; c < 256; c++) {
        char line[] = {'N', 'O', (char)c, 'P', 'x'};
        bool is_control = (c < ' ' && c != '\t') || c == 0x7f;
        ck_assert_msg(foreign_has_control(line, 5) == is_control, "byte %d", c);
        ck_assert(!foreign_has_control(line, 2));
    }
    ck_assert(!foreign_has_control("", 0));
}
END_TEST

Suite *suite_foreign(void)
{
    Suite *s = suite_create("foreign");
    TCase *c = tcase_create("foreign");
    tcase_add_test(c, words);
    tcase_add_test(c, bytes);
    tcase_add_test(c, controls);
    suite_add_tcase(s, c);
    return s;
}
