/* The bytes behind DATA: whole and in pieces they must mean the same, only
 * the true end may end them, and sent on they must come out as one message,
 * in which nothing but overlong lines of base64 was broken.
 *
 * The first two bytes are the size of the pieces and of the room. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "../../dot.h"

#define LINE_BYTES  998 /* what a line may have, without its CRLF */
#define BREAK_BYTES 996 /* where overlong base64 is broken */

struct heard {
    uint8_t *text;
    size_t count, consumed;
    struct dot_receiver d;
};

static void receive(struct heard *h, const uint8_t *in, size_t count,
                    size_t piece, size_t room)
{
    *h = (struct heard){.text = malloc(DOT_ROOM_MIN * count + room + 1)};
    while (h->consumed < count && h->d.state != DOT_END) {
        size_t n = count - h->consumed, written;
        if (n > piece)
            n = piece;
        uint8_t *out = malloc(room);
        size_t used =
            dot_receive(&h->d, in + h->consumed, n, out, room, &written);
        if (used == 0 || used > n || written > room)
            abort();
        memcpy(h->text + h->count, out, written);
        free(out);
        h->count += written;
        h->consumed += used;
    }
}

static void expect_same(const struct heard *a, const struct heard *b)
{
    if (a->count != b->count || a->consumed != b->consumed ||
        a->d.state != b->d.state || a->d.has_8bit != b->d.has_8bit ||
        a->d.has_bare_line_ends != b->d.has_bare_line_ends ||
        a->d.has_nul != b->d.has_nul || a->d.column != b->d.column ||
        a->d.has_long_lines != b->d.has_long_lines ||
        memcmp(a->text, b->text, a->count) != 0)
        abort();
}

/* Where the data end, by the definition and not by a state machine. */
static size_t true_end(const uint8_t *in, size_t count)
{
    if (count >= 3 && memcmp(in, ".\r\n", 3) == 0)
        return 3;
    const uint8_t *at = memmem(in, count, "\r\n.\r\n", 5);
    return at ? (size_t)(at - in) + 5 : 0;
}

static void expect_clean(const struct heard *h)
{
    for (size_t i = 0; i < h->count; i++) {
        if (h->text[i] == '\0')
            abort();
        if (h->text[i] == '\n' && (i == 0 || h->text[i - 1] != '\r'))
            abort();
        if (h->text[i] == '\r' && i + 1 < h->count && h->text[i + 1] != '\n')
            abort();
    }
}

/* Has it a line that is too long? The receiver knows while it goes. */
static void expect_length_is_told(const struct heard *h)
{
    size_t column = 0, longest = 0;
    for (size_t i = 0; i < h->count; i++) {
        column = h->text[i] == '\n' ? 0 : column + (h->text[i] != '\r');
        longest = column > longest ? column : longest;
    }
    if (h->d.has_long_lines != (longest > LINE_BYTES))
        abort();
}

static size_t send(uint8_t *wire, const uint8_t *text, size_t count,
                   size_t piece, size_t room)
{
    struct dot_sender d = {0};
    size_t at = 0, used = 0;
    while (at < count) {
        size_t n = count - at < piece ? count - at : piece, written;
        uint8_t *out = malloc(room);
        size_t taken = dot_send(&d, text + at, n, out, room, &written);
        if (taken + written == 0 || taken > n || written > room)
            abort();
        memcpy(wire + used, out, written);
        free(out);
        at += taken;
        used += written;
    }
    const char *end = dot_end(&d);
    memcpy(wire + used, end, strlen(end));
    return used + strlen(end);
}

/* Is the line that starts here base64 for longer than a line may be, beyond
 * doubt? So much of it may be broken off, then. */
static bool is_overlong_base64(const uint8_t *line, const uint8_t *end)
{
    bool has_upper = false, has_lower = false, has_digit = false;
    for (size_t i = 0; i <= LINE_BYTES; i++) {
        if (line + i == end || (!isalnum(line[i]) && line[i] != '+' &&
                                line[i] != '/' && line[i] != '='))
            return false;
        if (i >= BREAK_BYTES)
            continue;
        has_upper |= isupper(line[i]) != 0;
        has_lower |= islower(line[i]) != 0;
        has_digit |= isdigit(line[i]) != 0;
    }
    return has_upper && has_lower && has_digit;
}

static void expect_only_base64_was_broken(const struct heard *h,
                                          const struct heard *again)
{
    const uint8_t *at = h->text, *end = at + h->count, *line = at;
    const uint8_t *sent = again->text, *sent_end = sent + again->count;
    for (; at < end; at++) {
        if (at == line + BREAK_BYTES && is_overlong_base64(line, end)) {
            if (sent_end - sent < 2 || memcmp(sent, "\r\n", 2) != 0)
                abort();
            sent += 2;
            line = at;
        }
        if (sent == sent_end || *sent++ != *at)
            abort();
        if (*at == '\n')
            line = at + 1;
    }
    bool has_end = h->count == 0 || end[-1] == '\n';
    if (sent_end - sent != (has_end ? 0 : 2) ||
        (!has_end && memcmp(sent, "\r\n", 2) != 0))
        abort();
}

/* What was heard goes out and is heard again by a server that is as strict as
 * we are. */
static void round_trip(const struct heard *h, size_t piece, size_t room)
{
    uint8_t *wire = malloc(2 * h->count + 8), *whole = malloc(2 * h->count + 8);
    size_t count = send(wire, h->text, h->count, piece, room);
    struct heard again;
    if (send(whole, h->text, h->count, h->count, 2 * h->count + 8) != count ||
        memcmp(wire, whole, count) != 0)
        abort();
    receive(&again, wire, count, count, 2 * count + DOT_ROOM_MIN);
    if (again.d.state != DOT_END || again.consumed != count ||
        again.d.has_bare_line_ends || again.d.has_nul ||
        again.d.has_8bit != h->d.has_8bit)
        abort();
    expect_only_base64_was_broken(h, &again);
    free(again.text);
    free(wire);
    free(whole);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    if (bytes < 2)
        return 0;
    size_t piece = 1 + data[0], room = DOT_ROOM_MIN + data[1];
    const uint8_t *in = data + 2;
    size_t count = bytes - 2, end = true_end(in, count);
    struct heard whole, slow, pieces;
    receive(&whole, in, count, count + 1, DOT_ROOM_MIN * count + DOT_ROOM_MIN);
    receive(&slow, in, count, 1, DOT_ROOM_MIN);
    receive(&pieces, in, count, piece, room);
    expect_same(&whole, &slow);
    expect_same(&whole, &pieces);
    expect_clean(&whole);
    expect_length_is_told(&whole);
    if ((whole.d.state == DOT_END) != (end > 0) ||
        whole.consumed != (end > 0 ? end : count))
        abort();
    round_trip(&whole, piece, room);
    free(whole.text);
    free(slow.text);
    free(pieces.text);
    return 0;
}
