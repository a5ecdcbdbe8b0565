/* See dot.h. */
#include "dot.h"

#include <string.h>

#include "buf.h"

#define DOT_LINE_BYTES  998 /* RFC 5322 section 2.1.1, without CRLF */
#define DOT_BREAK_BYTES 996 /* whole groups of four, for simple decoders */

/* One step's output. Room was checked by the caller. */
struct out {
    uint8_t *at;
};

static void emit(struct out *o, const char *bytes)
{
    while (*bytes)
        *o->at++ = (uint8_t)*bytes++;
}

/* Inside a line, for the states that fall back to it. */
static enum dot_state step_text(struct dot_receiver *d, uint8_t c,
                                struct out *o)
{
    if (c == '\r')
        return DOT_CR;
    if (c == '\n') {
        /* A bare LF ends the line for the reader of the mail, but the dot
         * behind it is text: only CRLF.CRLF ends the data. */
        d->has_bare_line_ends = true;
        emit(o, "\r\n");
        return DOT_BARE;
    }
    if (c == '\0') {
        d->has_nul = true;
        return DOT_TEXT;
    }
    d->has_8bit |= c >= 0x80;
    *o->at++ = c;
    return DOT_TEXT;
}

static enum dot_state step_bare_cr(struct dot_receiver *d, uint8_t c,
                                   struct out *o)
{
    d->has_bare_line_ends = true;
    emit(o, "\r\n");
    return c == '.' ? DOT_BARE_DOT : step_text(d, c, o);
}

static enum dot_state step(struct dot_receiver *d, uint8_t c, struct out *o)
{
    switch (d->state) {
    case DOT_LINE: return c == '.' ? DOT_DOT : step_text(d, c, o);
    case DOT_TEXT: return step_text(d, c, o);
    case DOT_CR:
        if (c != '\n')
            return step_bare_cr(d, c, o);
        emit(o, "\r\n");
        return DOT_LINE;
    case DOT_DOT:
        if (c == '\r')
            return DOT_DOT_CR;
        if (c == '\n')
            emit(o, "."); /* ".LF": a line that is a dot, not the end */
        return step_text(d, c, o);
    case DOT_DOT_CR:
        if (c == '\n')
            return DOT_END;
        emit(o, ".");
        return step_bare_cr(d, c, o);
    case DOT_BARE: return c == '.' ? DOT_BARE_DOT : step_text(d, c, o);
    case DOT_BARE_DOT:
        if (c != '.')
            emit(o, ".");
        return step_text(d, c, o);
    case DOT_END: break;
    }
    return DOT_END;
}

static bool is_plain(uint8_t c)
{
    return c > '\r' || (c != '\r' && c != '\n' && c != '\0');
}

/* The bytes up to the next CR, LF or NUL, copied in one go: nearly all of a
 * mail is this. */
static size_t copy_text(struct dot_receiver *d, const uint8_t *in, size_t count,
                        uint8_t *out)
{
    size_t i;
    uint8_t high = 0;
    for (i = 0; i < count && is_plain(in[i]); i++) {
        high |= in[i];
        out[i] = in[i];
    }
    d->has_8bit |= high >= 0x80;
    d->column += i;
    d->has_long_lines |= d->column > DOT_LINE_BYTES;
    return i;
}

/* What one step put out. */
static void count_column(struct dot_receiver *d, const uint8_t *at,
                         const uint8_t *end)
{
    for (; at < end; at++)
        d->column = *at == '\n' ? 0 : d->column + (*at != '\r');
}

size_t dot_receive(struct dot_receiver *d, const uint8_t *in, size_t count,
                   uint8_t *out, size_t room, size_t *written)
{
    size_t i = 0;
    struct out o = {.at = out};
    while (i < count && d->state != DOT_END) {
        size_t left = room - (size_t)(o.at - out);
        if (left < DOT_ROOM_MIN)
            break;
        if (d->state == DOT_TEXT) {
            size_t span = count - i < left ? count - i : left;
            span = copy_text(d, in + i, span, o.at);
            i += span;
            o.at += span;
            if (span > 0)
                continue;
        }
        const uint8_t *before = o.at;
        d->state = step(d, in[i++], &o);
        count_column(d, before, o.at);
    }
    *written = (size_t)(o.at - out);
    return i;
}

/* ---- Sending ------------------------------------------------------------- */

enum letter {
    UPPER = 1,
    LOWER = 2,
    DIGIT = 4,
    ALL_LETTERS = 7
};

/* Real base64 of a thousand bytes has all three kinds; a line of dashes or of
 * x has not. False: a byte of none of it. */
static bool is_base64(uint8_t c, unsigned *letters)
{
    *letters |= c >= 'A' && c <= 'Z'   ? UPPER
                : c >= 'a' && c <= 'z' ? LOWER
                : c >= '0' && c <= '9' ? DIGIT
                                       : 0;
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
           (c >= '0' && c <= '9') || c == '+' || c == '/' || c == '=';
}

/* Looks at more of a line, of which no end is in sight. */
static void note_line(struct dot_sender *d, const uint8_t *in, size_t count)
{
    for (size_t i = 0; i < count && !d->is_no_base64; i++)
        d->is_no_base64 = !is_base64(in[i], &d->letters);
    d->column += count;
}

/* Behind so much base64 the next bytes are held, until it is known whether
 * the line ends in time. */
static bool is_at_break(const struct dot_sender *d)
{
    return d->column == DOT_BREAK_BYTES && !d->is_no_base64 &&
           d->letters == ALL_LETTERS;
}

/* The next byte there. Returns the bytes consumed: none when what was held
 * goes first. */
static size_t send_at_break(struct dot_sender *d, uint8_t c, struct out *o)
{
    struct dot_sender was = *d;
    bool is_more = is_base64(c, &was.letters);
    if (is_more && d->held_bytes < DOT_LINE_BYTES - DOT_BREAK_BYTES) {
        d->held[d->held_bytes++] = (char)c;
        return 1;
    }
    if (is_more) {
        emit(o, "\r\n");
        *d = (struct dot_sender){0};
    }
    d->is_no_base64 = !is_more;
    d->held_bytes = 0;
    memcpy(o->at, was.held, was.held_bytes);
    note_line(d, o->at, was.held_bytes);
    o->at += was.held_bytes;
    return 0;
}

/* One stretch of one line. */
static size_t send_stretch(struct dot_sender *d, const uint8_t *in,
                           size_t count, struct out *o, size_t room)
{
    if (is_at_break(d))
        return send_at_break(d, *in, o);
    const uint8_t *lf = memchr(in, '\n', count);
    size_t span = lf ? (size_t)(lf - in) + 1 : count;
    bool may_break = !d->is_no_base64 && d->column < DOT_BREAK_BYTES;
    if (may_break && span > DOT_BREAK_BYTES - d->column)
        span = DOT_BREAK_BYTES - d->column;
    if (span > room)
        span = room;
    memcpy(o->at, in, span);
    o->at += span;
    if (in[span - 1] == '\n')
        *d = (struct dot_sender){0};
    else
        note_line(d, in, span);
    return span;
}

size_t dot_send(struct dot_sender *d, const uint8_t *in, size_t count,
                uint8_t *out, size_t room, size_t *written)
{
    size_t i = 0;
    struct out o = {.at = out};
    while (i < count) {
        size_t left = room - (size_t)(o.at - out);
        if (left < DOT_ROOM_MIN)
            break;
        bool is_dot = d->column == 0 && in[i] == '.';
        if (is_dot)
            emit(&o, ".");
        i += send_stretch(d, in + i, count - i, &o, left - (is_dot ? 1 : 0));
    }
    *written = (size_t)(o.at - out);
    return i;
}

const char *dot_end(struct dot_sender *d)
{
    text_copy(d->held + d->held_bytes, sizeof d->held - d->held_bytes,
              d->column > 0 ? "\r\n.\r\n" : ".\r\n");
    return d->held;
}
