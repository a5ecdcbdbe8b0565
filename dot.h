/* dot: the bytes between DATA and the final dot, in both directions (RFC 5321
 * sections 2.3.8 and 4.5.2).
 *
 * Receiving: ends at CRLF.CRLF and nothing else, whatever follows; a bare CR
 * or LF becomes CRLF. Behind a true CRLF a leading dot is removed; behind a
 * bare one the first of two is, since clients stuff there too, and a single
 * one stays, since it is not known to be stuffed and must never end the data.
 * Sending: what came out of the receiver, with its dots stuffed anew. So one
 * message in is one message out (SMTP smuggling, CVE-2023-51764).
 * Pure and resumable. Must never know: connections, headers, limits. */
#ifndef LANPOST_DOT_H
#define LANPOST_DOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum dot_state {
    DOT_LINE,     /* behind CRLF, or at the start */
    DOT_TEXT,     /* in a line */
    DOT_CR,       /* CR seen, not yet LF */
    DOT_DOT,      /* "." behind CRLF: stuffed dot or end */
    DOT_DOT_CR,   /* ".CR" behind CRLF */
    DOT_BARE,     /* behind a line end that we repaired */
    DOT_BARE_DOT, /* "." there: stuffed, or text; never the end */
    DOT_END       /* the final dot is taken */
};

struct dot_receiver {
    enum dot_state state; /* zero = at the start */
    bool has_8bit;
    bool has_bare_line_ends;
};

#define DOT_ROOM_MIN 4 /* what one byte of input can grow to */

/* Turns input into message bytes. Returns the bytes consumed: all of them,
 * or less when out has fewer than DOT_ROOM_MIN bytes left or the end came.
 * *written = message bytes put to out. */
size_t dot_receive(struct dot_receiver *d, const uint8_t *in, size_t count,
                   uint8_t *out, size_t room, size_t *written);

struct dot_sender {
    bool is_mid_line; /* zero = at the start of a line */
};

/* Stuffs message bytes (CRLF line ends only) into out. Returns the bytes
 * consumed; *written = bytes put to out. */
size_t dot_send(struct dot_sender *d, const uint8_t *in, size_t count,
                uint8_t *out, size_t room, size_t *written);

/* The end of data: ".CRLF", with a CRLF before it where the message has no
 * final one (RFC 5321 section 4.1.1.4: never an extra one). */
const char *dot_end(const struct dot_sender *d);

#endif
