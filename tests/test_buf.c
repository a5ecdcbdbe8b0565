/* buf: bounded bytes, lines, base64, case-blind compare. */
#include <check.h>
#include <string.h>

#include "../buf.h"
Suite *suite_buf(void);

#define COUNT(table) (sizeof(table) / sizeof(table)[0])

static uint8_t space[8];
static struct buf b;

static void setup(void)
{
    memset(space, 0, sizeof space);
    buf_init(&b, space, sizeof space);
}

static void expect_held(const char *text)
{
    ck_assert_uint_eq(buf_len(&b), strlen(text));
    ck_assert_mem_eq(buf_data(&b), text, strlen(text));
    ck_assert_uint_eq(buf_room(&b), sizeof space - strlen(text));
}

START_TEST(put_and_take)
{
    expect_held("");
    buf_puts(&b, "abcd");
    buf_put(&b, NULL, 0);
    expect_held("abcd");
    buf_take(&b, 3);
    expect_held("d");
    buf_puts(&b, "efghijk"); /* to the last byte; what is held moves */
    expect_held("defghijk");
    ck_assert(!b.overflow);
    buf_take(&b, 99);
    expect_held("");
}
END_TEST

START_TEST(overflow_is_all_or_nothing_and_sticky)
{
    buf_puts(&b, "abc");
    buf_puts(&b, "123456");
    ck_assert(b.overflow);
    expect_held("abc");
    buf_puts(&b, "d"); /* would fit, but a line without its middle is worse */
    buf_format(&b, "%d", 1);
    buf_put_base64(&b, "x", 1);
    expect_held("abc");
    buf_take(&b, 3);
    ck_assert(b.overflow);
    buf_clear(&b);
    ck_assert(!b.overflow);
    buf_puts(&b, "d");
    expect_held("d");
}
END_TEST

START_TEST(format)
{
    buf_format(&b, "%s-%d", "ab", 42);
    expect_held("ab-42");
    buf_format(&b, "%s", "xyz"); /* three bytes are left, the NUL has none */
    ck_assert(b.overflow);
    expect_held("ab-42");
    buf_clear(&b);
    buf_puts(&b, "abcd");
    buf_take(&b, 2);
    buf_format(&b, "%s", "12345");
    expect_held("cd12345");
}
END_TEST

START_TEST(lend_and_wrote)
{
    size_t room;
    buf_puts(&b, "abcdef");
    buf_take(&b, 4);
    uint8_t *at = buf_tail(&b, &room);
    ck_assert_uint_eq(room, 6);
    memcpy(at, "123456", 6);
    buf_wrote(&b, 99); /* never beyond the room */
    expect_held("ef123456");
    buf_tail(&b, &room);
    ck_assert_uint_eq(room, 0);
}
END_TEST

START_TEST(lines)
{
    static const struct {
        const char *bytes;
        size_t count, length, whole; /* whole 0: no line yet */
    } table[] = {
        {"", 0, 0, 0},        {"abc", 3, 0, 0},      {"abc\r", 4, 0, 0},
        {"\n", 1, 0, 1},      {"\r\n", 2, 0, 2},     {"abc\r\n", 5, 3, 5},
        {"abc\n", 4, 3, 4},   /* bare LF: a line end in commands */
        {"a\r\r\n", 4, 2, 4}, /* one CR goes, the other is text */
        {"a\rb\n", 4, 3, 4},  {"a\n\nb\n", 5, 1, 2}, {"a\0b\r\n", 5, 3, 5},
    };
    for (size_t i = 0; i < COUNT(table); i++) {
        size_t length = 0, whole = 0;
        buf_clear(&b);
        buf_put(&b, table[i].bytes, table[i].count);
        const char *line = buf_line(&b, &length, &whole);
        ck_assert_msg((line != NULL) == (table[i].whole > 0), "row %zu", i);
        if (line == NULL)
            continue;
        ck_assert_msg(length == table[i].length, "row %zu: %zu", i, length);
        ck_assert_msg(whole == table[i].whole, "row %zu: %zu", i, whole);
        ck_assert_mem_eq(line, table[i].bytes, length);
    }
}
END_TEST

/* RFC 4648 section 10, and the bytes that its letters leave out. */
static const struct {
    const char *plain;
    size_t count;
    const char *text;
} pairs[] = {
    {"", 0, ""},
    {"f", 1, "Zg=="},
    {"fo", 2, "Zm8="},
    {"foo", 3, "Zm9v"},
    {"foob", 4, "Zm9vYg=="},
    {"fooba", 5, "Zm9vYmE="},
    {"foobar", 6, "Zm9vYmFy"},
    {"\0a\0b", 4, "AGEAYg=="},
    {"\xff\xfe\xfd", 3, "//79"},
    {"\xfb\xef\xbe", 3, "++++"},
};

START_TEST(base64_both_ways)
{
    for (size_t i = 0; i < COUNT(pairs); i++) {
        uint8_t out[8];
        size_t n = strlen(pairs[i].text);
        buf_clear(&b);
        buf_put_base64(&b, pairs[i].plain, pairs[i].count);
        expect_held(pairs[i].text);
        ck_assert_int_eq(base64_decode(pairs[i].text, n, out, pairs[i].count),
                         (ssize_t)pairs[i].count);
        ck_assert_mem_eq(out, pairs[i].plain, pairs[i].count);
        if (pairs[i].count > 0)
            ck_assert_int_eq(
                base64_decode(pairs[i].text, n, out, pairs[i].count - 1), -1);
    }
    buf_clear(&b);
    buf_put_base64(&b, "1234567", 7); /* twelve bytes for eight */
    ck_assert(b.overflow);
    expect_held("");
}
END_TEST

START_TEST(base64_is_strict)
{
    static const char *const bad[] = {
        "A",     "AB",   "ABC",      "ABCDE",      "====", "A===",
        "AA=A",  "=AAA", "AAA=AAAA", "AA==AAAA",   "Zh==", "Zo==",
        "Zm+=",  "Zm9=", "Zm 9",     "Zm9v\r\n",   "Zm9-", "Zm9_",
        "Zm\n9", "*AAA", "Zg= =",    "Z\xc3\xa4=",
    };
    uint8_t out[16];
    for (size_t i = 0; i < COUNT(bad); i++)
        ck_assert_msg(base64_decode(bad[i], strlen(bad[i]), out, sizeof out) ==
                          -1,
                      "%s", bad[i]);
    ck_assert_int_eq(base64_decode("Zg\0=", 4, out, sizeof out), -1);
}
END_TEST

START_TEST(compare_without_case)
{
    static const struct {
        const char *a, *b;
        bool equal;
    } table[] = {
        {"", "", true},
        {"mail", "MAIL", true},
        {"MaIl", "mAiL", true},
        {"mail", "mails", false},
        {"mails", "mail", false},
        {"[", "{", false}, /* 0x20 apart, but no letters */
        {"@", "`", false},
        {"\xc4", "\xe4", false}, /* Latin-1 is none of ours */
        {"\xc3\xa4", "\xc3\xa4", true},
    };
    for (size_t i = 0; i < COUNT(table); i++) {
        ck_assert_msg(text_equal_nocase(table[i].a, table[i].b) ==
                          table[i].equal,
                      "row %zu", i);
        ck_assert_msg(bytes_equal_nocase(table[i].a, strlen(table[i].a),
                                         table[i].b) == table[i].equal,
                      "row %zu", i);
    }
    ck_assert(!bytes_equal_nocase("ab\0", 3, "ab"));
}
END_TEST

START_TEST(copy_and_wipe)
{
    char out[4] = "xyz";
    ck_assert(text_copy(out, sizeof out, "abc"));
    ck_assert_str_eq(out, "abc");
    ck_assert(!text_copy(out, sizeof out, "wxyz"));
    ck_assert_str_eq(out, "wxy");
    ck_assert(text_copy(out, 1, ""));
    ck_assert(!text_copy(out, 1, "a"));
    ck_assert_str_eq(out, "");
    memcpy(out, "key", 4);
    bytes_wipe(out, sizeof out);
    ck_assert_mem_eq(out, "\0\0\0\0", 4);
}
END_TEST

Suite *suite_buf(void)
{
    Suite *s = suite_create("buf");
    TCase *c = tcase_create("buf");
    tcase_add_checked_fixture(c, setup, NULL);
    tcase_add_test(c, put_and_take);
    tcase_add_test(c, overflow_is_all_or_nothing_and_sticky);
    tcase_add_test(c, format);
    tcase_add_test(c, lend_and_wrote);
    tcase_add_test(c, lines);
    tcase_add_test(c, base64_both_ways);
    tcase_add_test(c, base64_is_strict);
    tcase_add_test(c, compare_without_case);
    tcase_add_test(c, copy_and_wipe);
    suite_add_tcase(s, c);
    return s;
}
