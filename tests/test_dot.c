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
        /* each ck_assert() is a write: too slow for every byte */
        if (used > n || written > room || used == 0 ||
            h->count + written > sizeof h->text)
            ck_abort_msg("%zu of %zu bytes, room %zu", used, n, room);
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
    /* NUL around the dot goes, and what it parted is no end */
    {WIRE("a\r\n\0.\r\n" BEHIND), WIRE("a\r\n.\r\n" BEHIND), false, false},
    {WIRE("a\r\n.\0\r\n" BEHIND), WIRE("a\r\n\r\n" BEHIND), false, false},
    {WIRE("a\r\0\n.\r\n" BEHIND), WIRE("a\r\n\r\n.\r\n" BEHIND), false, true},
    {WIRE("a\r\n.\r\0\n" BEHIND), WIRE("a\r\n.\r\n\r\n" BEHIND), false, true},
    {WIRE("a\r\n.\0.\r\n" BEHIND), WIRE("a\r\n.\r\n" BEHIND), false, false},
    {WIRE("a\n\0.\r\n" BEHIND), WIRE("a\r\n.\r\n" BEHIND), false, true},
    {WIRE("a\n.\0\r\n" BEHIND), WIRE("a\r\n.\r\n" BEHIND), false, true},
    {WIRE("\0.\r\n" BEHIND), WIRE(".\r\n" BEHIND), false, false},
    {WIRE("a\0\r\n.\r\n"), WIRE("a\r\n"), true, false},
    {WIRE("\0\0a\0b\0\0\r\n.\r\n"), WIRE("ab\r\n"), true, false},
    {WIRE("\0\r\n.\r\n"), WIRE("\r\n"), true, false},
    {WIRE("a\r\n.\r\n\0"), WIRE("a\r\n"), true, false},
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
    bool is_nul_behind = table[i].ends && table[i].bytes[h->consumed] == '\0' &&
                         h->consumed < table[i].count;
    ck_assert_msg(h->consumed == table[i].count || is_nul_behind, "row %zu", i);
    size_t heard = table[i].count - (is_nul_behind ? 1 : 0);
    bool has_nul = memchr(table[i].bytes, '\0', heard) != NULL;
    ck_assert_msg(h->d.has_nul == has_nul, "row %zu", i);
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

/* RFC 5322 section 2.1.1, of the line as it goes on: what the receiver takes
 * out of it does not count. */
START_TEST(long_lines_are_noticed)
{
    static const struct {
        const char *before, *behind;
        size_t extra; /* bytes that count, before and behind */
    } forms[] = {
        {"", "\r\n.\r\n", 0},
        {"", "", 0},
        {"short\r\n", "\r\nshort\r\n.\r\n", 0},
        {"..", "\r\n.\r\n", 1},
        {".", "\r\n.\r\n", 0},
        {"a\n", "\n.\r\n", 0},
        {"a\r", "\r.\r\n", 0},
        {"a\n.", "\n.\r\n", 1},
        {".\r", "\r\n.\r\n", 0},
    };
    static struct heard h;
    for (size_t i = 0; i < COUNT(forms); i++)
        for (size_t bytes = 996; bytes <= 1000; bytes++)
            for (size_t piece = 1; piece < 1100; piece += piece < 6 ? 1 : 497) {
                char wire[1100];
                size_t text = strlen(forms[i].before);
                memcpy(wire, forms[i].before, text);
                memset(wire + text, 'x', bytes - forms[i].extra);
                strcpy(wire + text + bytes - forms[i].extra, forms[i].behind);
                receive(&h, wire, strlen(wire), piece, 2000);
                ck_assert_msg(h.d.has_long_lines == (bytes > 998),
                              "row %zu: %zu bytes in pieces of %zu", i, bytes,
                              piece);
            }
    char nuls[1100];
    memset(nuls, 'x', 998);
    memset(nuls + 998, '\0', 50);
    strcpy(nuls + 1048, "\r\n.\r\n");
    receive(&h, nuls, 1053, 3, 2000);
    ck_assert(!h.d.has_long_lines && h.d.has_nul);
}
END_TEST

/* DOT_ROOM_MIN is what one byte can grow to, and no less will do. */
START_TEST(one_byte_fills_the_least_room)
{
    struct dot_receiver d = {0};
    uint8_t out[DOT_ROOM_MIN];
    size_t written, most = 0;
    static const char wire[] = "a\r\n.\rbb";
    for (size_t i = 0; i + 1 < sizeof wire; i++) {
        ck_assert_uint_eq(dot_receive(&d, (const uint8_t *)wire + i, 1, out,
                                      sizeof out, &written),
                          1);
        most = written > most ? written : most;
    }
    ck_assert_uint_eq(most, DOT_ROOM_MIN);
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
        if (taken > n || written > room)
            ck_abort_msg("%zu of %zu bytes, room %zu", taken, n, room);
        memcpy(wire + used, out, written);
        free(out);
        at += taken;
        used += written;
        idle = taken + written == 0 ? idle + 1 : 0;
        if (idle > 1)
            ck_abort_msg("no progress with room for %zu", room);
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
            for (size_t room = DOT_ROOM_MIN; room < 12; room++) {
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
    for (size_t room = 0; room < DOT_ROOM_MIN; room++) {
        struct dot_sender d = {0};
        uint8_t out[DOT_ROOM_MIN];
        size_t written = 9;
        ck_assert_uint_eq(
            dot_send(&d, (const uint8_t *)".", 1, out, room, &written), 0);
        ck_assert_uint_eq(written, 0); /* half a stuffed dot is worse */
        ck_assert_uint_eq(
            dot_send(&d, (const uint8_t *)"x", 1, out, room, &written), 0);
        ck_assert_uint_eq(written, 0);
        ck_assert_str_eq(dot_end(&d), ".\r\n");
    }
}
END_TEST

/* ---- Long lines of base64 ------------------------------------------------ */

#define BREAK 996

/* count bytes as base64 has them. */
static void put_base64(uint8_t *out, size_t count)
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnop"
                                   "qrstuvwxyz0123456789+/";
    for (size_t i = 0; i < count; i++)
        out[i] = (uint8_t)alphabet[(i * 7 + i / 64) % 64];
}

/* The same wire in pieces of all sorts and rooms; as much as was sent whole. */
static size_t send_all_ways(uint8_t *wire, const uint8_t *text, size_t count)
{
    static const struct {
        size_t piece, room;
    } ways[] = {
        {1, 20000}, {20000, DOT_ROOM_MIN}, {7, 5}, {996, 61}, {998, 999}};
    static uint8_t other[20000];
    size_t n = send(wire, text, count, count, 20000);
    for (size_t i = 0; i < COUNT(ways); i++) {
        size_t m = send(other, text, count, ways[i].piece, ways[i].room);
        ck_assert_msg(n == m && memcmp(wire, other, n) == 0,
                      "pieces of %zu, room %zu", ways[i].piece, ways[i].room);
    }
    for (size_t cut = 990; cut < 1004 && cut < count; cut++) { /* one border */
        struct dot_sender d = {0};
        size_t first, second;
        ck_assert_uint_eq(dot_send(&d, text, cut, other, 20000, &first), cut);
        ck_assert_uint_eq(dot_send(&d, text + cut, count - cut, other + first,
                                   20000 - first, &second),
                          count - cut);
        const char *end = dot_end(&d);
        strcpy((char *)other + first + second, end);
        ck_assert_uint_eq(n, first + second + strlen(end));
        ck_assert_mem_eq(wire, other, n);
    }
    return n;
}

START_TEST(long_base64_is_broken)
{
    static const size_t lengths[] = {76,   995,  996,  997,  998,  999,  1000,
                                     1001, 1992, 1993, 1994, 1995, 2991, 5000};
    static const char *const ends[] = {"\r\n", "\r\n.x\r\n", ""};
    static uint8_t text[6000], wire[20000], want[6100];
    for (size_t i = 0; i < COUNT(lengths); i++)
        for (size_t k = 0; k < COUNT(ends); k++) {
            size_t count = lengths[i], used = 0, at = 0;
            put_base64(text, count);
            for (; count - at > 998; at += BREAK) {
                memcpy(want + used, text + at, BREAK);
                memcpy(want + used + BREAK, "\r\n", 2);
                used += BREAK + 2;
            }
            memcpy(want + used, text + at, count - at);
            strcpy((char *)want + used + count - at, "\r\n");
            strcat((char *)want, k == 1 ? "..x\r\n.\r\n" : ".\r\n");
            strcpy((char *)text + count, ends[k]);
            size_t n = send_all_ways(wire, text, count + strlen(ends[k]));
            ck_assert_msg(n == strlen((char *)want) &&
                              memcmp(wire, want, n) == 0,
                          "%zu bytes, end %zu", lengths[i], k);
        }
}
END_TEST

/* Without its line ends it is what it was: decoders skip them (RFC 2045
 * section 6.8). */
START_TEST(broken_base64_says_the_same)
{
    static uint8_t text[8000], wire[20000];
    put_base64(text, 4002);
    memcpy(text + 4002, "==\r\n", 4);
    put_base64(text + 4006, 1200);
    memcpy(text + 5206, "\r\n", 2);
    size_t n = send_all_ways(wire, text, 5208), kept = 0, column = 0;
    for (size_t i = 0; i < n - 3; i++) { /* up to the dot */
        column = wire[i] == '\n' ? 0 : column + (wire[i] != '\r');
        ck_assert_uint_le(column, 998);
        if (wire[i] != '\r' && wire[i] != '\n')
            wire[kept++] = wire[i];
    }
    size_t bytes = 0;
    for (size_t i = 0; i < 5208; i++)
        if (text[i] != '\r' && text[i] != '\n')
            ck_assert_uint_eq(text[i], wire[bytes++]);
    ck_assert_uint_eq(bytes, kept);
}
END_TEST

/* What only looks long leaves as it is. */
START_TEST(other_long_lines_are_untouched)
{
    static uint8_t text[6000], wire[20000];
    static const char *const fills[] = {
        "x", "0", "-", "=", "xX", "x0", "some words and 1 number ", "a.B9"};
    for (size_t i = 0; i < COUNT(fills); i++)
        for (size_t count = 990; count < 4000;
             count += count < 1003 ? 1 : 999) {
            size_t unit = strlen(fills[i]);
            for (size_t k = 0; k < count; k++)
                text[k] = (uint8_t)fills[i][k % unit];
            strcpy((char *)text + count, "\r\n");
            size_t n = send_all_ways(wire, text, count + 2);
            ck_assert_uint_eq(n, count + 5);
            ck_assert_mem_eq(wire, text, count + 2);
        }
    /* base64 with one other byte in the first 999 */
    for (size_t at = 0; at < 999; at += at < 985 ? 197 : 1) {
        put_base64(text, 3000);
        text[at] = ' ';
        strcpy((char *)text + 3000, "\r\n");
        size_t n = send_all_ways(wire, text, 3002);
        ck_assert_msg(n == 3005 && memcmp(wire, text, 3002) == 0, "at %zu", at);
    }
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
        size_t bytes =
            send(wire, text, count, 1 + dice(300), DOT_ROOM_MIN + dice(300));
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
    tcase_add_test(c, long_lines_are_noticed);
    tcase_add_test(c, one_byte_fills_the_least_room);
    tcase_add_test(c, only_crlf_dot_crlf_ends);
    suite_add_tcase(s, c);
    c = tcase_create("send");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, sender_table);
    tcase_add_test(c, sender_without_room);
    tcase_add_test(c, long_base64_is_broken);
    tcase_add_test(c, broken_base64_says_the_same);
    tcase_add_test(c, other_long_lines_are_untouched);
    tcase_add_test(c, round_trip);
    suite_add_tcase(s, c);
    return s;
}
