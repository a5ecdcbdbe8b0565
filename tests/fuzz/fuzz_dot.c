/* The bytes behind DATA: whole and in pieces they must mean the same, only
 * the true end may end them, and sent on they must come out as one message.
 *
 * The first two bytes are the size of the pieces and of the room. */
#include <stdlib.h>
#include <string.h>

#include "../../dot.h"

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
        if (h->text[i] == '\n' && (i == 0 || h->text[i - 1] != '\r'))
            abort();
        if (h->text[i] == '\r' && i + 1 < h->count && h->text[i + 1] != '\n')
            abort();
    }
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
        if (taken == 0 || taken > n || written > room)
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

/* What was heard goes out and is heard again by a server that is as strict as
 * we are. */
static void round_trip(const struct heard *h, size_t piece, size_t room)
{
    uint8_t *wire = malloc(2 * h->count + 8);
    size_t count = send(wire, h->text, h->count, piece, room);
    struct heard again;
    receive(&again, wire, count, count, 2 * count + DOT_ROOM_MIN);
    bool has_end = h->count == 0 || h->text[h->count - 1] == '\n';
    if (again.d.state != DOT_END || again.consumed != count ||
        again.d.has_bare_line_ends ||
        again.count != h->count + (has_end ? 0 : 2) ||
        memcmp(again.text, h->text, h->count) != 0)
        abort();
    free(again.text);
    free(wire);
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
    if ((whole.d.state == DOT_END) != (end > 0) ||
        whole.consumed != (end > 0 ? end : count))
        abort();
    round_trip(&whole, piece, room);
    free(whole.text);
    free(slow.text);
    free(pieces.text);
    return 0;
}
