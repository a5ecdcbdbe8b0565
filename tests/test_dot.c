/* dot: the bytes behind DATA. Whatever is done to the line ends around a dot,
 * and in whatever pieces it comes, one message in is one message out. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "../dot.h"
Suite *suite_dot(void);

#define COUNT(table) (sizeof(table) / sizeof(table)[0])
#define BEHIND       "MAIL FROM:<evil@x>\r\n" /* the smuggled next command */
#define WIRE(text)   text, sizeof(text) - 1

/* A whole stream through the receiver, in pieces of so many bytes, with so
 * much room for each step. */
struct heard {
    uint8_t text[4096];
    size_t count;
    size_t consumed;
    struct dot_receiver d;
};

static void receive(struct heard *h, const void *bytes, size_t count,
                    size_t piece, size_t room)
{
    const uint8_t *in = bytes;
    memset(h, 0, sizeof *h);
    while (h->consumed < count && h->d.state != DOT_END) {
        size_t n = count - h->consumed, written;
        if (n > piece)
            n = piece;
        /* exactly so much room: the sanitizers see a byte too many */
        uint8_t *out = malloc(room);
        size_t used =
            dot_receive(&h->d, in + h->consumed, n, out, room, &written);
        ck_assert(used <= n && written <= room);
        ck_assert_msg(used > 0, "no progress with room for %zu", room);
        ck_assert(h->count + written <= sizeof h->text);
        memcpy(h->text + h->count, out, written);
        free(out);
        h->count += written;
        h->consumed += used;
    }
}

/* What comes out, the end included or not; no end = all bytes are text. */
static const struct {
    const char *bytes;
    size_t count;
    const char *text;
    size_t text_count;
    bool ends, has_bare;
} table[] = {
    /* the one end there is */
    {WIRE("hi\r\n.\r\n"), WIRE("hi\r\n"), true, false},
    {WIRE(".\r\n"), WIRE(""), true, false},
    {WIRE("\r\n.\r\n"), WIRE("\r\n"), true, false},
    {WIRE("hi\r\n\r\n.\r\n"), WIRE("hi\r\n\r\n"), true, false},
    /* stuffed dots */
    {WIRE("..\r\n.\r\n"), WIRE(".\r\n"), true, false},
    {WIRE("..a\r\n.\r\n"), WIRE(".a\r\n"), true, false},
    {WIRE(".a\r\n.\r\n"), WIRE("a\r\n"), true, false},
    {WIRE("a.\r\n.\r\n"), WIRE("a.\r\n"), true, false},
    {WIRE("...\r\n.\r\n"), WIRE("..\r\n"), true, false},
    {WIRE(". \r\n.\r\n"), WIRE(" \r\n"), true, false},
    {WIRE("a\r\n..\r\n.\r\n"), WIRE("a\r\n.\r\n"), true, false},
    /* bare line ends: repaired, and no dot near them is the end */
    {WIRE("hi\n.\r\n" BEHIND), WIRE("hi\r\n.\r\n" BEHIND), false, true},
    {WIRE("hi\n.\n" BEHIND), WIRE("hi\r\n.\r\n" BEHIND), false, true},
    {WIRE("hi\r\n.\n" BEHIND), WIRE("hi\r\n.\r\n" BEHIND), false, true},
    {WIRE("hi\r.\r" BEHIND), WIRE("hi\r\n.\r\n" BEHIND), false, true},
    {WIRE("hi\r\n.\r" BEHIND), WIRE("hi\r\n.\r\n" BEHIND), false, true},
    {WIRE("hi\r.\r\n" BEHIND), WIRE("hi\r\n.\r\n" BEHIND), false, true},
    {WIRE("hi\r\n.\r\r\n" BEHIND), WIRE("hi\r\n.\r\n\r\n" BEHIND), false, true},
    {WIRE("hi\n\r.\r\n" BEHIND), WIRE("hi\r\n\r\n.\r\n" BEHIND), false, true},
    {WIRE("hi\r.\n" BEHIND), WIRE("hi\r\n.\r\n" BEHIND), false, true},
    {WIRE("hi\n.\r" BEHIND), WIRE("hi\r\n.\r\n" BEHIND), false, true},
    {WIRE("hi\r\r\n.\r\r\n" BEHIND), WIRE("hi\r\n\r\n.\r\n\r\n" BEHIND), false,
     true},
    {WIRE(".\n" BEHIND), WIRE(".\r\n" BEHIND), false, true},
    {WIRE(".\r" BEHIND), WIRE(".\r\n" BEHIND), false, true},
    {WIRE("\n.\r\n" BEHIND), WIRE("\r\n.\r\n" BEHIND), false, true},
    /* a bare line end, and then the true one */
    {WIRE("a\nb\r\n.\r\n"), WIRE("a\r\nb\r\n"), true, true},
    {WIRE("a\rb\r\n.\r\n"), WIRE("a\r\nb\r\n"), true, true},
    {WIRE("a\r\r\n.\r\n"), WIRE("a\r\n\r\n"), true, true},
    {WIRE("a\n\r\n.\r\n"), WIRE("a\r\n\r\n"), true, true},
    {WIRE("a\n.\nb\r\n.\r\n"), WIRE("a\r\n.\r\nb\r\n"), true, true},
    {WIRE("a\n..\r\n.\r\n"), WIRE("a\r\n.\r\n"), true, true},
    /* behind a bare one: two dots are a stuffed one, a single one is text */
    {WIRE("a\n..b\r\n.\r\n"), WIRE("a\r\n.b\r\n"), true, true},
    {WIRE("a\r..b\r\n.\r\n"), WIRE("a\r\n.b\r\n"), true, true},
    {WIRE("a\n...\r\n.\r\n"), WIRE("a\r\n..\r\n"), true, true},
    {WIRE("a\n.b\r\n.\r\n"), WIRE("a\r\n.b\r\n"), true, true},
    {WIRE("a\r.b\n..\n.c\r\n.\r\n"), WIRE("a\r\n.b\r\n.\r\n.c\r\n"), true,
     true},
    {WIRE(".\r.\r\n.\r\n"), WIRE(".\r\n.\r\n"), true, true},
    {WIRE("\r\n.\r.\r\n.\r\n"), WIRE("\r\n.\r\n.\r\n"), true, true},
    /* NUL around the dot */
    {WIRE("a\r\n\0.\r\n" BEHIND), WIRE("a\r\n\0.\r\n" BEHIND), false, false},
    {WIRE("a\r\n.\0\r\n" BEHIND), WIRE("a\r\n\0\r\n" BEHIND), false, false},
    {WIRE("a\r\0\n.\r\n" BEHIND), WIRE("a\r\n\0\r\n.\r\n" BEHIND), false, true},
    {WIRE("a\r\n.\r\0\n" BEHIND), WIRE("a\r\n.\r\n\0\r\n" BEHIND), false, true},
    {WIRE("a\0\r\n.\r\n"), WIRE("a\0\r\n"), true, false},
    /* line ends of other worlds are text */
    {WIRE("a\x85.\x85\r\n.\r\n"), WIRE("a\x85.\x85\r\n"), true, false},
    {WIRE("a\v.\f\r\n.\r\n"), WIRE("a\v.\f\r\n"), true, false},
    {WIRE("no end"), WIRE("no end"), false, false},
};

static void expect(const struct heard *h, size_t i, size_t piece, size_t room)
{
    ck_assert_msg(h->count == table[i].text_count &&
                      memcmp(h->text, table[i].text, h->count) == 0,
                  "row %zu, pieces of %zu, room %zu: %.*s", i, piece, room,
                  (int)h->count, (const char *)h->text);
    ck_assert_msg((h->d.state == DOT_END) == table[i].ends, "row %zu", i);
    ck_assert_msg(h->d.has_bare_line_ends == table[i].has_bare, "row %zu", i);
    ck_assert_msg(h->consumed == table[i].count, "row %zu", i);
}

START_TEST(a1_in_pieces_of_any_size_and_any_room)
{
    static struct heard h;
    for (size_t i = 0; i < COUNT(table); i++)
        for (size_t piece = 1; piece <= table[i].count; piece++)
            for (size_t room = DOT_ROOM_MIN; room < 20; room++) {
                receive(&h, table[i].bytes, table[i].count, piece, room);
                expect(&h, i, piece, room);
            }
}
END_TEST

START_TEST(bytes_behind_the_end_are_not_consumed)
{
    static struct heard h;
    for (size_t i = 0; i < COUNT(table); i++) {
        char bytes[512];
        if (!table[i].ends)
            continue;
        memcpy(bytes, table[i].bytes, table[i].count);
        memcpy(bytes + table[i].count, BEHIND, sizeof BEHIND);
        for (size_t piece = 1; piece <= table[i].count + 5; piece++) {
            receive(&h, bytes, table[i].count + sizeof BEHIND, piece, 64);
            expect(&h, i, piece, 64);
        }
        size_t written = 9;
        uint8_t out[8];
        ck_assert_uint_eq(dot_receive(&h.d, (const uint8_t *)"more", 4, out,
                                      sizeof out, &written),
                          0);
        ck_assert_uint_eq(written, 0);
    }
}
END_TEST

START_TEST(without_room_nothing_is_consumed)
{
    for (size_t room = 0; room < DOT_ROOM_MIN; room++) {
        struct dot_receiver d = {0};
        uint8_t out[DOT_ROOM_MIN];
        size_t written = 9;
        ck_assert_uint_eq(
            dot_receive(&d, (const uint8_t *)"x", 1, out, room, &written), 0);
        ck_assert_uint_eq(written, 0);
    }
}
END_TEST

START_TEST(eight_bits_are_noticed)
{
    static const struct {
        const char *bytes;
        bool has_8bit;
    } rows[] = {
        {"plain\r\n.\r\n", false},
        {"\x7f\r\n.\r\n", false},
        {"\x80\r\n.\r\n", true}, /* at the start of a line */
        {"a\xff\r\n.\r\n", true},
        {"long text, m\xc3\xbc", true},
        {".\xff\r\n.\r\n", true},
        {"a\r\xff\r\n.\r\n", true},
        {".\r\xff\r\n.\r\n", true},
        {"a\r\n.\r\n\xff", false}, /* behind the end */
    };
    static struct heard h;
    for (size_t i = 0; i < COUNT(rows); i++)
        for (size_t piece = 1; piece < 30; piece++) {
            receive(&h, rows[i].bytes, strlen(rows[i].bytes), piece, 64);
            ck_assert_msg(h.d.has_8bit == rows[i].has_8bit, "row %zu", i);
        }
}
END_TEST

/* Every text of up to seven bytes over the alphabet that matters: only
 * CRLF.CRLF ends (or .CRLF at the start), and what comes out has true line
 * ends alone. */
START_TEST(only_crlf_dot_crlf_ends)
{
    static const char alphabet[] = {'\r', '\n', '.', 'x'};
    static struct heard h, slow;
    for (unsigned length = 1; length <= 7; length++)
        for (unsigned n = 0; n < 1u << (2 * length); n++) {
            char bytes[16] = "\r\n"; /* an end at the start needs no CRLF */
            for (unsigned i = 0; i < length; i++)
                bytes[2 + i] = alphabet[n >> (2 * i) & 3];
            const char *end = strstr(bytes, "\r\n.\r\n");
            receive(&h, bytes + 2, length, length, 64);
            ck_assert_msg((h.d.state == DOT_END) == (end != NULL), "%s", bytes);
            if (end != NULL)
                ck_assert_uint_eq(h.consumed, (size_t)(end - bytes) + 3);
            for (size_t i = 0; i < h.count; i++) {
                if (h.text[i] == '\n')
                    ck_assert(i > 0 && h.text[i - 1] == '\r');
                if (h.text[i] == '\r')
                    ck_assert(i + 1 < h.count && h.text[i + 1] == '\n');
            }
            receive(&slow, bytes + 2, length, 1, DOT_ROOM_MIN);
            ck_assert_mem_eq(&h, &slow, sizeof h);
        }
}
END_TEST

/* A message through the sender, in pieces, each with so much room; the end
 * behind it. */
static size_t send(uint8_t *wire, const uint8_t *text, size_t count,
                   size_t piece, size_t room)
{
    struct dot_sender d = {0};
    size_t at = 0, used = 0;
    unsigned idle = 0;
    while (at < count) {
        size_t n = count - at < piece ? count - at : piece, written;
        uint8_t *out = malloc(room);
        size_t taken = dot_send(&d, text + at, n, out, room, &written);
        ck_assert(taken <= n && written <= room);
        memcpy(wire + used, out, written);
        free(out);
        at += taken;
        used += written;
        idle = taken == 0 ? idle + 1 : 0;
        ck_assert_uint_lt(idle, 2);
    }
    const char *end = dot_end(&d);
    memcpy(wire + used, end, strlen(end));
    return used + strlen(end);
}

START_TEST(sender_table)
{
    static const struct {
        const char *text, *wire;
    } rows[] = {
        {"", ".\r\n"},
        {"hi\r\n", "hi\r\n.\r\n"},
        {"hi", "hi\r\n.\r\n"},
        {".", "..\r\n.\r\n"},
        {".\r\n", "..\r\n.\r\n"},
        {"..\r\n", "...\r\n.\r\n"},
        {"a.b\r\n", "a.b\r\n.\r\n"},
        {"a\r\n.b\r\n.", "a\r\n..b\r\n..\r\n.\r\n"},
        {"\r\n.\r\n", "\r\n..\r\n.\r\n"},
        {"\r\n\r\n", "\r\n\r\n.\r\n"},
    };
    uint8_t wire[64];
    for (size_t i = 0; i < COUNT(rows); i++)
        for (size_t piece = 1; piece < 12; piece++)
            for (size_t room = 2; room < 12; room++) {
                size_t n = send(wire, (const uint8_t *)rows[i].text,
                                strlen(rows[i].text), piece, room);
                ck_assert_msg(n == strlen(rows[i].wire) &&
                                  memcmp(wire, rows[i].wire, n) == 0,
                              "row %zu, pieces of %zu, room %zu", i, piece,
                              room);
            }
}
END_TEST

START_TEST(sender_without_room)
{
    struct dot_sender d = {0};
    uint8_t out[2];
    size_t written = 9;
    ck_assert_uint_eq(dot_send(&d, (const uint8_t *)".", 1, out, 0, &written),
                      0);
    ck_assert_uint_eq(written, 0);
    ck_assert_uint_eq(dot_send(&d, (const uint8_t *)".", 1, out, 1, &written),
                      0); /* half a stuffed dot is worse than none */
    ck_assert_uint_eq(written, 0);
    ck_assert_uint_eq(dot_send(&d, (const uint8_t *)"x", 1, out, 1, &written),
                      1);
    ck_assert_uint_eq(written, 1);
}
END_TEST

static uint32_t seed;

static uint32_t dice(uint32_t sides)
{
    seed = seed * 1664525 + 1013904223;
    return (seed >> 8) % sides;
}

static size_t random_text(uint8_t *text, size_t room)
{
    static const char *const parts[] = {"\r\n",  ".",         "..",   "x",
                                        "\r\n.", "\r\n.\r\n", "word", "\xff"};
    size_t used = 0;
    for (uint32_t n = dice(40); n > 0; n--) {
        const char *part = parts[dice(COUNT(parts))];
        if (used + strlen(part) > room)
            break;
        memcpy(text + used, part, strlen(part));
        used += strlen(part);
    }
    return used;
}

START_TEST(round_trip)
{
    static struct heard h;
    for (seed = 1; seed < 20000;) {
        uint32_t start = seed;
        uint8_t text[202], wire[512];
        size_t count = random_text(text, sizeof text - 2);
        size_t bytes = send(wire, text, count, 1 + dice(300), 2 + dice(300));
        receive(&h, wire, bytes, 1 + dice(300), DOT_ROOM_MIN + dice(300));
        /* RFC 5321 section 4.1.1.4: a last line without end gets one */
        if (count > 0 && text[count - 1] != '\n') {
            text[count++] = '\r';
            text[count++] = '\n';
        }
        ck_assert_msg(h.d.state == DOT_END && h.consumed == bytes &&
                          h.count == count && memcmp(h.text, text, count) == 0,
                      "seed %u", start);
        ck_assert(!h.d.has_bare_line_ends);
        seed = start + 1;
    }
}
END_TEST

Suite *suite_dot(void)
{
    Suite *s = suite_create("dot");
    TCase *c = tcase_create("receive");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, a1_in_pieces_of_any_size_and_any_room);
    tcase_add_test(c, bytes_behind_the_end_are_not_consumed);
    tcase_add_test(c, without_room_nothing_is_consumed);
    tcase_add_test(c, eight_bits_are_noticed);
    tcase_add_test(c, only_crlf_dot_crlf_ends);
    suite_add_tcase(s, c);
    c = tcase_create("send");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, sender_table);
    tcase_add_test(c, sender_without_room);
    tcase_add_test(c, round_trip);
    suite_add_tcase(s, c);
    return s;
}
