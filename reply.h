/* reply: SMTP replies, line by line, into a code and one line of text (RFC
 * 5321 section 4.2, RFC 3463).
 *
 * Pure and bounded: a reply of any length takes this much memory.
 * Must never know: connections, what the reply answers. */
#ifndef LANPOST_REPLY_H
#define LANPOST_REPLY_H

#include <stdbool.h>
#include <stddef.h>

#define REPLY_TEXT_BYTES 512

struct reply {
    int code; /* 200 to 599; 0 while there is none */
    unsigned lines;
    char text[REPLY_TEXT_BYTES]; /* "250 2.0.0 Ok": lines joined by blanks */
};

enum reply_state {
    REPLY_MORE, /* a continuation line follows */
    REPLY_WHOLE,
    REPLY_BAD /* no SMTP: wrong form, code changed, too many lines */
};

void reply_start(struct reply *r);

/* One line without its line end; any bytes. The text may hold any byte but
 * NUL: log_clean() before a person sees it. */
enum reply_state reply_line(struct reply *r, const char *line, size_t length);

/* First digit: 2, 3, 4 or 5. */
int reply_class(const struct reply *r);

#endif
