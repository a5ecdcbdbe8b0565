/* reply: lines of a server, good and hostile, into a code and one text. */
#include <check.h>
#include <string.h>

#include "../buf.h"
#include "../config.h"
#include "../reply.h"
Suite *suite_reply(void);

#define COUNT(table) (sizeof(table) / sizeof(table)[0])

/* Feeds a reply as it comes over the wire. The state behind the last line;
 * *left = bytes of an unfinished line. */
static enum reply_state feed(struct reply *r, const char *bytes, size_t count,
                             size_t *left)
{
    char space[2048];
    struct buf b;
    size_t length, whole;
    const char *line;
    enum reply_state state = REPLY_MORE;
    buf_init(&b, space, sizeof space);
    buf_put(&b, bytes, count);
    ck_assert(!b.overflow);
    reply_start(r);
    while (state == REPLY_MORE && (line = buf_line(&b, &length, &whole))) {
        state = reply_line(r, line, length);
        buf_take(&b, whole);
    }
    *left = buf_len(&b);
    return state;
}

#define WIRE(text) text, sizeof(text) - 1

START_TEST(b2_table)
{
    static const struct {
        const char *bytes;
        size_t count;
        enum reply_state state;
        int code;
        const char *text;
    } table[] = {
        {WIRE("250 Ok\r\n"), REPLY_WHOLE, 250, "250 Ok"},
        {WIRE("250\r\n"), REPLY_WHOLE, 250, "250"},
        {WIRE("250 \r\n"), REPLY_WHOLE, 250, "250"},
        {WIRE("250 Ok\n"), REPLY_WHOLE, 250, "250 Ok"}, /* bare LF */
        {WIRE("250-a\n250 b\n"), REPLY_WHOLE, 250, "250 a b"},
        {WIRE("250-\r\n250\r\n"), REPLY_WHOLE, 250, "250"},
        {WIRE("250 Ok\r\r\n"), REPLY_WHOLE, 250, "250 Ok\r"},
        {WIRE("250-a\r\n250-b\r\n250 c\r\n"), REPLY_WHOLE, 250, "250 a b c"},
        {WIRE("550-5.7.1 no\r\n550 5.7.1 way\r\n"), REPLY_WHOLE, 550,
         "550 5.7.1 no way"},
        {WIRE("550-5.7.1 no\r\n550-5.7.1\r\n550 5.7.1 \r\n"), REPLY_WHOLE, 550,
         "550 5.7.1 no 5.7.1"},
        {WIRE("250-a\r\n250 1.2.3.4 is you\r\n"), REPLY_WHOLE, 250,
         "250 a 1.2.3.4 is you"},
        {WIRE("250-a\r\n250 5.7 x\r\n"), REPLY_WHOLE, 250, "250 a 5.7 x"},
        {WIRE("250-a\r\n250 5.1234.1 x\r\n"), REPLY_WHOLE, 250,
         "250 a 5.1234.1 x"},
        {WIRE("200 a\r\n"), REPLY_WHOLE, 200, "200 a"},
        {WIRE("599 a\r\n"), REPLY_WHOLE, 599, "599 a"},
        {WIRE("354 go\r\n"), REPLY_WHOLE, 354, "354 go"},
        {WIRE("250 a\0b\r\n"), REPLY_WHOLE, 250, "250 ab"},
        {WIRE("250 \xc3\xa4\x1b[2J\r\n"), REPLY_WHOLE, 250,
         "250 \xc3\xa4\x1b[2J"},
        {WIRE("250-a\r\n"), REPLY_MORE, 250, "250 a"}, /* and then EOF */
        {WIRE("250-\r\n"), REPLY_MORE, 250, "250"},
        {WIRE("250-a\r\n250 "), REPLY_MORE, 250, "250 a"},
        {WIRE("250 a"), REPLY_MORE, 0, ""},
        {WIRE("250-a\r\n251 b\r\n"), REPLY_BAD, 0, ""},
        {WIRE("250-a\r\n550 b\r\n"), REPLY_BAD, 0, ""},
        {WIRE("250-a\r\nb\r\n"), REPLY_BAD, 0, ""},
        {WIRE("25\r\n"), REPLY_BAD, 0, ""},
        {WIRE("2\r\n"), REPLY_BAD, 0, ""},
        {WIRE("\r\n"), REPLY_BAD, 0, ""},
        {WIRE("2500 a\r\n"), REPLY_BAD, 0, ""},
        {WIRE("250a\r\n"), REPLY_BAD, 0, ""},
        {WIRE("250\ta\r\n"), REPLY_BAD, 0, ""},
        {WIRE("250\0\r\n"), REPLY_BAD, 0, ""},
        {WIRE("2\0000 a\r\n"), REPLY_BAD, 0, ""},
        {WIRE(" 250 a\r\n"), REPLY_BAD, 0, ""},
        {WIRE("99 a\r\n"), REPLY_BAD, 0, ""},
        {WIRE("099 a\r\n"), REPLY_BAD, 0, ""},
        {WIRE("150 a\r\n"), REPLY_BAD, 0, ""},
        {WIRE("600 a\r\n"), REPLY_BAD, 0, ""},
        {WIRE("699 a\r\n"), REPLY_BAD, 0, ""},
        {WIRE("999 a\r\n"), REPLY_BAD, 0, ""},
        {WIRE("-1 a\r\n"), REPLY_BAD, 0, ""},
        {WIRE("-250 a\r\n"), REPLY_BAD, 0, ""},
        {WIRE("+25 a\r\n"), REPLY_BAD, 0, ""},
        {WIRE("2x0 a\r\n"), REPLY_BAD, 0, ""},
        {WIRE("HTTP/1.1 400 Bad Request\r\n"), REPLY_BAD, 0, ""},
        {WIRE("SSH-2.0-OpenSSH_9.2\r\n"), REPLY_BAD, 0, ""},
        {WIRE("\xb2\xb5\xb0 a\r\n"), REPLY_BAD, 0, ""},
    };
    for (size_t i = 0; i < COUNT(table); i++) {
        struct reply r;
        size_t left;
        enum reply_state s = feed(&r, table[i].bytes, table[i].count, &left);
        ck_assert_msg(s == table[i].state, "row %zu: %s", i, table[i].bytes);
        if (s == REPLY_BAD)
            continue;
        ck_assert_msg(r.code == table[i].code, "row %zu: %d", i, r.code);
        ck_assert_str_eq(r.text, table[i].text);
    }
}
END_TEST

START_TEST(bytes_behind_the_reply_are_left)
{
    struct reply r;
    size_t left;
    ck_assert_int_eq(feed(&r, WIRE("220 go\r\n250 injected\r\n"), &left),
                     REPLY_WHOLE);
    ck_assert_uint_eq(left, 14);
    ck_assert_str_eq(r.text, "220 go");
}
END_TEST

START_TEST(flood_of_lines_is_refused)
{
    struct reply r;
    unsigned taken = 0, bad = 0;
    reply_start(&r);
    for (int i = 0; i < 70000; i++)
        if (reply_line(&r, "220-wait", 8) == REPLY_MORE)
            taken++;
        else
            bad++;
    ck_assert_uint_eq(taken, REPLY_LINES_MAX);
    ck_assert_uint_eq(bad, 70000 - REPLY_LINES_MAX);
    ck_assert_uint_lt(strlen(r.text), REPLY_TEXT_BYTES);
    reply_start(&r);
    for (int i = 1; i < REPLY_LINES_MAX; i++)
        ck_assert_int_eq(reply_line(&r, "220-", 4), REPLY_MORE);
    ck_assert_int_eq(reply_line(&r, "220 at last", 11), REPLY_WHOLE);
    ck_assert_str_eq(r.text, "220 at last");
}
END_TEST

START_TEST(long_text_is_cut)
{
    static char line[1 << 20];
    struct reply r;
    memset(line, 'x', sizeof line);
    memcpy(line, "550 ", 4);
    reply_start(&r);
    ck_assert_int_eq(reply_line(&r, line, sizeof line), REPLY_WHOLE);
    ck_assert_int_eq(r.code, 550);
    ck_assert_uint_eq(strlen(r.text), REPLY_TEXT_BYTES - 1);
    ck_assert_mem_eq(r.text, line, REPLY_TEXT_BYTES - 1);
}
END_TEST

START_TEST(start_forgets)
{
    struct reply r;
    reply_start(&r);
    ck_assert_int_eq(r.code, 0);
    reply_line(&r, "550-no", 6);
    reply_start(&r);
    ck_assert_int_eq(reply_line(&r, "250 yes", 7), REPLY_WHOLE);
    ck_assert_str_eq(r.text, "250 yes");
    ck_assert_uint_eq(r.lines, 1);
    static const int codes[] = {220, 354, 451, 554};
    for (int i = 0; i < 4; i++) {
        r.code = codes[i];
        ck_assert_int_eq(reply_class(&r), 2 + i);
    }
}
END_TEST

Suite *suite_reply(void)
{
    Suite *s = suite_create("reply");
    TCase *c = tcase_create("reply");
    tcase_add_test(c, b2_table);
    tcase_add_test(c, bytes_behind_the_reply_are_left);
    tcase_add_test(c, flood_of_lines_is_refused);
    tcase_add_test(c, long_text_is_cut);
    tcase_add_test(c, start_forgets);
    suite_add_tcase(s, c);
    return s;
}
