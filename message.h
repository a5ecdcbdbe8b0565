/* message: an editor of header sections. Bytes of a message go in as they
 * come, the repaired ones come out; then it writes the lines that are ours to
 * put before them (RFC 5321 section 4.4, RFC 5322, RFC 6409 section 8).
 *
 * In the header section: Bcc and its like go; a From that is no single plain
 * address, or whose sender may not be, goes and is built anew in the head, a
 * second one goes for good; a mailbox file's "From " line goes; a blank line
 * is put where text begins without one; lines over 998 bytes are folded at
 * their last blank. All other fields, and the body always, pass as they are,
 * so that a signature made by the device's application still verifies.
 * Must never know: file descriptors, the queue, delivery. */
#ifndef LANPOST_MESSAGE_H
#define LANPOST_MESSAGE_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "from.h"
#include "ip.h"
#include "path.h"
#include "rewrite.h"

#define MESSAGE_LINE_BYTES 1000 /* RFC 5322 section 2.1.1: 998 and CRLF */

enum message_fact {
    MESSAGE_HAS_DATE = 1,
    MESSAGE_HAS_FROM = 2, /* and it stays where it is */
    MESSAGE_HAS_MESSAGE_ID = 4,
    MESSAGE_HAS_MIME_VERSION = 8,
    MESSAGE_HAS_CONTENT_TYPE = 16,
    MESSAGE_HAS_ENCODING = 32, /* Content-Transfer-Encoding */
    MESSAGE_HAS_REPLY_TO = 64,
    MESSAGE_HAS_KNOWN = 128, /* a field that mail has: this is a header */
    MESSAGE_HAS_FIELDS = 256,
    MESSAGE_HAS_BCC = 512
};

/* What was mended, for the log. */
enum message_repair {
    REPAIRED_DATE = 1,
    REPAIRED_FROM = 2,
    REPAIRED_MESSAGE_ID = 4,
    REPAIRED_MIME = 8,
    REPAIRED_HEADER = 16, /* there was none, or no end to it */
    REPAIRED_BCC = 32,
    REPAIRED_LONG_LINE = 64
};

/* Where the lines of a field go. */
enum message_way {
    WAY_PASS,
    WAY_DROP,
    WAY_HOLD_BLANK, /* held until it is known not to be empty */
    WAY_HOLD_FROM,  /* held and judged */
    WAY_HOLD_SENDER
};

/* Checks that bytes are UTF-8, in pieces of any size. Zero is its start. */
struct message_utf8 {
    bool is_bad;
    uint8_t due;       /* continuation bytes */
    uint8_t low, high; /* bounds of the next one */
};

/* message_start() begins one. */
struct message {
    struct rewrite_who who;
    const char *reverse_path; /* the final one */
    unsigned facts, repairs;
    unsigned received;   /* Received fields: hops so far */
    bool is_over;        /* the header section is; bytes pass */
    bool is_blank_first; /* it ended before it began */
    bool has_8bit_header, has_8bit_body;
    struct message_utf8 utf8;  /* of the body */
    char from[PATH_BYTES];     /* to be put into the head; "" = none */
    char reply_to[PATH_BYTES]; /* likewise */
    char from_name[FROM_NAME_BYTES];
    bool has_seen_from, has_seen_sender;
    /* The line under way, and the field that it belongs to. */
    char line[MESSAGE_LINE_BYTES];
    size_t line_bytes;
    bool is_rest; /* of a line whose first part is gone already */
    enum message_way way;
    char held[FROM_VALUE_BYTES];
    size_t held_bytes;
    unsigned held_facts; /* true if it is not empty */
    bool is_cut; /* it is longer than held, or a line of it is too long */
};

/* reverse_path and who.user must live as long as m. */
void message_start(struct message *m, const struct rewrite_who *who,
                   const char *reverse_path);

/* Message bytes with CRLF line ends, MESSAGE_PIECE_BYTES at most; what comes
 * of them is put to out, which has MESSAGE_PIECE_ROOM left. */
#define MESSAGE_PIECE_BYTES 512
#define MESSAGE_PIECE_ROOM  (MESSAGE_PIECE_BYTES + 4096)
static_assert(FROM_VALUE_BYTES + MESSAGE_LINE_BYTES + MESSAGE_PIECE_BYTES +
                      64 <=
                  MESSAGE_PIECE_ROOM,
              "all that is held back must fit: raise MESSAGE_PIECE_ROOM");
void message_edit(struct message *m, const uint8_t *in, size_t count,
                  struct buf *out);

/* What is still held back when the message ends; the same room. */
void message_end(struct message *m, struct buf *out);

/* Once is_over: the body goes its own way, and is only looked at. is_8bit:
 * some byte of it is above 0x7f. */
void message_note_body(struct message *m, const uint8_t *bytes, size_t count,
                       bool is_8bit);

/* Where a message came from, for its Received line. */
struct message_origin {
    const char *helo;           /* as the client said it; any text */
    const char *hostname;       /* ours */
    const char *protocol;       /* "ESMTPSA", RFC 3848 */
    const char *id;             /* the queue's name for it */
    const char *only_recipient; /* NULL when there are several: For tells
                                   each about the others (section 7.2) */
};

/* Puts the lines that go before the message, and the blank line that a
 * headerless one lacks. now = wall clock; random makes Message-ID unique. */
void message_put_head(struct message *m, const struct message_origin *o,
                      int64_t now_s, uint32_t random, struct buf *out);

#endif
