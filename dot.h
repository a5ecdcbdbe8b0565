/* dot: the bytes between DATA and the final dot, in both directions (RFC 5321
 * sections 2.3.8 and 4.5.2).
 *
 * Receiving: ends at CRLF.CRLF and nothing else, whatever follows; a bare CR
 * or LF becomes CRLF. Behind a true CRLF a leading dot is removed; behind a
 * bare one the first of two is, since clients stuff there too, and a single
 * one stays, since it is not known to be stuffed and must never end the data.
 * NUL, which no text may hold (RFC 5322 section 2.2), is left out.
 * Sending: what came out of the receiver, with its dots stuffed anew. So one
 * message in is one message out (SMTP smuggling, CVE-2023-51764). A line of
 * base64 beyond 998 bytes is broken behind 996, which changes nothing in what
 * it says (RFC 2045 section 6.8); all other lines leave as they are.
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
    bool has_nul;
    bool has_long_lines; /* over 998 bytes, RFC 5322 section 2.1.1 */
    size_t column;       /* bytes of the line so far */
};

#define DOT_ROOM_MIN  4 /* what one byte of input can grow to, either way */
#define DOT_END_BYTES 8 /* what dot_end() has to say, and a NUL */

/* Turns input into message bytes. Returns the bytes consumed: all of them,
 * or less when out has fewer than DOT_ROOM_MIN bytes left or the end came.
 * *written = message bytes put to out. */
size_t dot_receive(struct dot_receiver *d, const uint8_t *in, size_t count,
                   uint8_t *out, size_t room, size_t *written);

struct dot_sender {
    size_t column;     /* bytes of the line so far; zero = at its start */
    bool is_no_base64; /* the line so far */
    unsigned letters;  /* kinds seen in it, if it is base64 so far */
    char held[DOT_END_BYTES]; /* bytes 997 and 998 of such a line */
    size_t held_bytes;
};

/* Stuffs message bytes (CRLF line ends only) into out. Returns the bytes
 * consumed, none when room is below DOT_ROOM_MIN (or little more); *written =
 * bytes put to out. */
size_t dot_send(struct dot_sender *d, const uint8_t *in, size_t count,
                uint8_t *out, size_t room, size_t *written);

/* The end of data: ".CRLF", with a CRLF before it where the message has no
 * final one (RFC 5321 section 4.1.1.4: never an extra one). Valid as long as
 * d. */
const char *dot_end(struct dot_sender *d);

#endif
