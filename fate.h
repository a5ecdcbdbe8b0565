/* fate: the verdict on a recipient, the one log line that tells it, and the
 * time of the next try.
 *
 * Every way that a message can leave the queue is one of these. Must never
 * know: connections. */
#ifndef LANPOST_FATE_H
#define LANPOST_FATE_H

#include <stdbool.h>
#include <stdint.h>

#include "queue.h"
#include "reply.h"

/* What a reply to a message or recipient decides: RFC 5321 section 4.2.1. */
enum queue_verdict fate_verdict(const struct reply *r);

/* When a message that was tried now is to be tried again. */
int64_t fate_next_try_ms(queue_id id, int64_t now_ms);

/* Settles a recipient of a borrowed message and logs it; QUEUE_OPEN: it stays
 * open, and the line says when it is tried again. reply: whose words decided,
 * any bytes. advice: NULL = none. */
void fate_settle(queue_id id, const struct queue_recipient *r,
                 enum queue_verdict verdict, const char *reply,
                 const char *advice, int64_t now_ms);

/* The same for every recipient of that verdict; was = QUEUE_OPEN takes the
 * QUEUE_TAKEN along. */
void fate_settle_all(queue_id id, enum queue_verdict was,
                     enum queue_verdict verdict, const char *reply,
                     const char *advice, int64_t now_ms);

/* Gives a borrowed message back, as queue_return() does, and tells who waits
 * for its answer. */
void fate_return(queue_id id, int64_t due_ms);

/* Older than expire_hours. fate_give_up() ends such a borrowed message. */
bool fate_is_expired(queue_id id, int64_t now_ms);
void fate_give_up(queue_id id, int64_t now_ms);

/* Gives up all that are expired, route or no route; looks once a minute, from
 * fate_wake_ms() on. */
void fate_sweep(int64_t now_ms);
int64_t fate_wake_ms(void);

/* For a person who asks (SIGUSR1): a line for each message behind `after`, so
 * many at most. Returns the last one; QUEUE_NONE: all have had theirs. */
queue_id fate_log_queue(queue_id after, unsigned lines, int64_t now_ms);

/* The program ends: names each recipient that is lost with the memory, and
 * returns the number of messages. */
unsigned fate_log_lost(int64_t now_ms);

#endif
