/* delivery: one message on its way to the smarthost: what leaves for it, from
 * MAIL to the final dot (RFC 5321 section 3.3, 2920, 1870, 6152, 6531).
 *
 * The counterpart of intake. Bytes go straight from the queue's blocks into
 * the buffer that is lent. Must never know: connections, replies' meaning. */
#ifndef LANPOST_DELIVERY_H
#define LANPOST_DELIVERY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "dot.h"
#include "queue.h"
#include "reply.h"

/* What a smarthost can offer, as bits. */
enum delivery_feature {
    HAS_STARTTLS = 1,
    HAS_PIPELINING = 2,
    HAS_8BITMIME = 4,
    HAS_SIZE = 8,
    HAS_SMTPUTF8 = 16,
    HAS_CHUNKING = 32
};

/* The bit that a line of the EHLO reply, behind its code, stands for; 0: none
 * of ours. */
unsigned delivery_feature(const char *line, size_t length);

/* Cleared as a whole for each message. */
struct delivery {
    queue_id id; /* QUEUE_NONE: none */
    int64_t began_ms;
    bool has_reply;                   /* any, to this message */
    struct queue_recipient asked;     /* whose RCPT is due a reply */
    struct queue_recipient announced; /* whose RCPT has left */
    unsigned replies_due;             /* to those that have left */
    bool has_sent_data;               /* with the pipeline */
    bool is_one_flight;               /* and the message, too, by BDAT */
    bool has_route_fault; /* a recipient met one; refusal has the words */
    unsigned accepted;    /* recipients */
    bool is_mail_refused; /* what follows is only its echo */
    struct reply refusal; /* of MAIL */
    struct dot_sender dot;
    struct queue_reader reader;
    bool has_sent_dot; /* or the last chunk; into the buffer, at least */
};

/* The next recipient that has no verdict; false: there is none. */
bool delivery_next_open(queue_id id, struct queue_recipient *r);

/* MAIL with the parameters that are offered and needed; with HAS_PIPELINING
 * the pipeline follows at once. A small message is one flight where CHUNKING
 * is offered, too: one round trip in all. A big one waits for the RCPTs, lest
 * 20 MB go to nobody. */
void delivery_put_mail(struct delivery *d, unsigned features, struct buf *out);
void delivery_put_rcpt(const struct queue_recipient *r, struct buf *out);

/* RCPTs and DATA (in one flight: BDAT, RFC 3030) behind a pipelined MAIL, as
 * many as out holds; to be called again as it drains, so that a hundred
 * recipients need no larger one. */
void delivery_put_pipeline(struct delivery *d, struct buf *out);

/* Behind BDAT: the bytes of the message as they are. False: there is more than
 * out holds. */
bool delivery_put_chunk(struct delivery *d, struct buf *out);

/* The stuffed bytes of the message. False: there is more than out holds, or
 * no room behind it for the dot. */
bool delivery_put_body(struct delivery *d, struct buf *out);
void delivery_put_dot(struct delivery *d, struct buf *out);

#endif
