/* message: walks a header section as it arrives, and writes the header lines
 * that are ours to add: Received, Date, Message-ID, From (RFC 5321 section
 * 4.4, RFC 6409 section 8). The body is never touched.
 *
 * Must never know: file descriptors, delivery. */
#ifndef LANPOST_MESSAGE_H
#define LANPOST_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "ip.h"

/* A walk over the header section; zero is its start. */
struct message_scan {
    enum {
        SCAN_LINE,  /* at the start of a line */
        SCAN_NAME,  /* in a field name */
        SCAN_BLANK, /* blanks between the name and its colon */
        SCAN_VALUE, /* in the rest of a line */
        SCAN_OVER   /* the header section has ended */
    } state;
    char name[16]; /* longer ones are none of ours */
    size_t name_length;
    bool has_fields;
    bool is_headerless; /* the first line is no header field */
    bool is_empty;      /* no byte came; set by message_scan_end() */
    bool has_date, has_from, has_message_id;
    unsigned received; /* Received fields: hops so far */
};

/* Message bytes with CRLF line ends, in pieces of any size. */
void message_scan(struct message_scan *s, const uint8_t *bytes, size_t count);
void message_scan_end(struct message_scan *s);

/* Where a message came from, for its Received line. */
struct message_origin {
    struct ip_address client;
    const char *helo;           /* as the client said it; any text */
    const char *hostname;       /* ours */
    const char *protocol;       /* "ESMTP", RFC 3848 */
    const char *id;             /* the queue's name for it */
    const char *reverse_path;   /* stands in for a missing From */
    const char *only_recipient; /* NULL when there are several: For tells
                                   each about the others (section 7.2) */
};

/* Puts the lines that go before the message, and the blank line that a
 * headerless one lacks. now = wall clock; random makes Message-ID unique. */
void message_put_head(const struct message_scan *s,
                      const struct message_origin *o, int64_t now_s,
                      uint32_t random, struct buf *out);

#endif
