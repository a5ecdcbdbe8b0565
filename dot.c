/* See dot.h. */
#include "dot.h"

#include <string.h>

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

/* The bytes up to the next CR or LF, copied in one go: nearly all of a mail
 * is this. */
static size_t copy_text(struct dot_receiver *d, const uint8_t *in, size_t count,
                        uint8_t *out)
{
    size_t i;
    uint8_t high = 0;
    for (i = 0; i < count && in[i] != '\r' && in[i] != '\n'; i++) {
        high |= in[i];
        out[i] = in[i];
    }
    d->has_8bit |= high >= 0x80;
    return i;
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
        d->state = step(d, in[i++], &o);
    }
    *written = (size_t)(o.at - out);
    return i;
}

size_t dot_send(struct dot_sender *d, const uint8_t *in, size_t count,
                uint8_t *out, size_t room, size_t *written)
{
    size_t i = 0, used = 0;
    while (i < count) {
        if (!d->is_mid_line && in[i] == '.') {
            if (room - used < 2)
                break;
            out[used++] = '.';
        }
        const uint8_t *lf = memchr(in + i, '\n', count - i);
        size_t span = lf ? (size_t)(lf - in) + 1 - i : count - i;
        if (span > room - used)
            span = room - used;
        if (span == 0)
            break;
        memcpy(out + used, in + i, span);
        used += span;
        i += span;
        d->is_mid_line = in[i - 1] != '\n';
    }
    *written = used;
    return i;
}

const char *dot_end(const struct dot_sender *d)
{
    return d->is_mid_line ? "\r\n.\r\n" : ".\r\n";
}
