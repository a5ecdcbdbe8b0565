/* promise: what a device may be told about the message that it committed, and
 * what is remembered of an answer that it never heard.
 *
 * A device's reply is held until the smarthost's verdict is known or its
 * window closes; then ack_late speaks. Only an attempt whose answer did not
 * arrive is remembered by its print, for PROMISE_SECONDS: the same bytes again
 * join it and make no second copy. Must never know: sessions, connections,
 * sockets. */
#ifndef LANPOST_PROMISE_H
#define LANPOST_PROMISE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "crypto.h"
#include "queue.h"

#define PROMISE_REPLY_BYTES 512 /* RFC 5321 section 4.5.3.1.5, with its NUL */

/* A device's right to an answer. 0: none. It ends when a resend takes the
 * attempt over, and is noticed then. */
typedef uint32_t promise_ticket;

enum promise_answer {
    PROMISE_WAITS,
    PROMISE_SENT,    /* 250: the smarthost took it */
    PROMISE_REFUSED, /* 5yz: the smarthost's own words */
    PROMISE_QUEUED,  /* 250: it is in our memory, and we go on trying */
    PROMISE_AGAIN,   /* 4yz: our copy is destroyed */
    PROMISE_SILENCE  /* nothing may be said: taken over, or nobody knows */
};

void promise_init(void);

/* ---- The device's side --------------------------------------------------- */

/* How a new message would fare: NULL, or the 4yz that its MAIL gets, before
 * the upload: the route rests beyond the window, and ack_late refuses. */
const char *promise_outlook(int64_t wait_ms, int64_t now_ms);

/* Keeps the answer to this message for its device. */
promise_ticket promise_make(queue_id id,
                            const uint8_t print[CRYPTO_SHA256_BYTES],
                            int64_t wait_ms, int64_t now_ms);

/* The same bytes again, and the first answer was never heard: their attempt,
 * with a window of its own. 0: there is none. */
promise_ticket promise_join(const uint8_t print[CRYPTO_SHA256_BYTES],
                            int64_t wait_ms, int64_t now_ms);

/* The message's name, for the log; QUEUE_NONE: the ticket is void. */
queue_id promise_message(promise_ticket t);

/* Is there something to be said? When the window closes, at the latest. */
bool promise_is_ripe(promise_ticket t, int64_t now_ms);
int64_t promise_due_ms(promise_ticket t, int64_t now_ms);

/* Its window closes now. */
void promise_hurry(promise_ticket t, int64_t now_ms);

/* Says it, whole line without its end, and decides by that: a message is
 * withdrawn, or promised. */
enum promise_answer promise_answer(promise_ticket t, int64_t now_ms,
                                   char reply[PROMISE_REPLY_BYTES]);

/* What became of the answer, or of the device that waited for it; the ticket
 * is void behind it. */
void promise_heard(promise_ticket t);
void promise_unheard(promise_ticket t, int64_t now_ms);

/* The device has shut its side, or its answer is long on the way: it may be
 * gone, and a resend may take the attempt over. */
void promise_doubt(promise_ticket t, int64_t now_ms);

/* The program stops: what can still be taken back is, at its window's end. */
void promise_stop_all(void);

/* ---- The smarthost's side ------------------------------------------------ */

/* One recipient's verdict; reply: "550 5.1.1 words", any bytes. advice: NULL =
 * none. */
void promise_note(queue_id id, enum queue_verdict verdict, const char *reply,
                  const char *advice);

/* The message has left the queue, or waits there until due_ms. */
void promise_returned(queue_id id, int64_t due_ms);

/* A device waits for the answer, and can be told of a refusal. */
bool promise_is_held(queue_id id);

/* The route rests; why: one plain sentence. until_ms 0: it does not. */
void promise_route_rests(int64_t until_ms, const char *why);

/* ---- For people and tests ------------------------------------------------ */

unsigned promise_count_held(void);
size_t promise_memory_bytes(void);

#endif
