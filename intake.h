/* intake: one message on its way from a device into the queue: the bytes
 * behind DATA, up to the commit.
 *
 * The header section goes through the editor (message.h), the body straight
 * into the queue's blocks. What cannot be taken is thrown
 * away up to the final dot, and the reason kept for the one reply that
 * answers it. Must never know: connections, commands. */
#ifndef LANPOST_INTAKE_H
#define LANPOST_INTAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "crypto.h"
#include "dot.h"
#include "ip.h"
#include "message.h"
#include "path.h"
#include "queue.h"

#define INTAKE_USER_BYTES 65

enum intake_fault {
    INTAKE_GOOD,
    INTAKE_FULL,    /* no block is left */
    INTAKE_TOO_BIG, /* more than max_bytes */
    INTAKE_LOOP,    /* RECEIVED_MAX hops and more */
    INTAKE_NAMES    /* the header lines that we must add are too long */
};

/* Zero is vacant. id is ours until intake_end() gave it away. */
struct intake {
    queue_id id;
    char reverse_path[PATH_BYTES];
    char user[INTAKE_USER_BYTES]; /* who logged in; "" = nobody we know */
    char last_recipient[PATH_BYTES];
    unsigned recipients;
    bool needs_utf8;
    uint64_t wire_bytes; /* as they came, for the data rate */
    uint64_t bytes;      /* of the message */
    enum intake_fault fault;
    struct dot_receiver dot;
    struct message message;
    struct crypto_sha256 print; /* of client, envelope and the bytes so far */
};

/* Reserves room in the queue. False: there is none. who.user is copied. */
bool intake_start(struct intake *t, const struct path *from,
                  const struct rewrite_who *who, uint64_t declared_bytes);
bool intake_add_recipient(struct intake *t, const struct path *to);

/* Takes bytes until they end or the final dot came (intake_is_over); returns
 * how many. */
size_t intake_take(struct intake *t, const uint8_t *in, size_t count,
                   uint64_t max_bytes);
bool intake_is_over(const struct intake *t);

/* Behind the final dot: writes the head and commits. INTAKE_GOOD: the message
 * is the queue's, t->id still names it. Else it is gone. origin: helo,
 * hostname, protocol; the rest is filled in here. */
enum intake_fault intake_end(struct intake *t, struct message_origin *origin,
                             int64_t now_ms);

/* The same client, envelope and bytes have the same print. For a message that
 * came whole; once. */
void intake_print(struct intake *t, uint8_t out[CRYPTO_SHA256_BYTES]);

/* Drops what is not committed and clears t. */
void intake_cancel(struct intake *t);

#endif
