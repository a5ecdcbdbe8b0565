/* notice: tells the postmaster of mail that was accepted and could not be
 * delivered (RFC 5321 section 6.1, 3464, 3834).
 *
 * Failures are collected and leave as one message in a while, so that a day
 * of faults is no flood of mail. To the postmaster, since devices make their
 * senders up; from `sender`, since a smarthost takes nothing else. Never about
 * a notice, never about mail with a null reverse-path: the log has it all.
 * Must never know: connections, devices. */
#ifndef LANPOST_NOTICE_H
#define LANPOST_NOTICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "queue.h"

/* hostname (ours) must outlive the room. Forgets all failures. */
void notice_init(const char *hostname);

/* A recipient of this message is refused for good, or given up. reply: the
 * words that decided it, any bytes; advice: NULL = none. is_held: its device
 * still waits for an answer, which may tell it: the failure is kept until
 * notice_release() or notice_discard(). A full pool drops the words and
 * counts the failure: the notice says how many more there were. */
void notice_note(queue_id id, const char *recipient, const char *reply,
                 const char *advice, bool is_held, int64_t now_ms);

/* The device was told that we took this message, or is gone: its failures,
 * if any, are to be told to the postmaster. */
void notice_release(queue_id id, int64_t now_ms);

/* The device was told of the refusal itself. */
void notice_discard(queue_id id);

/* Writes a notice into the queue when one is due: notice_seconds after the
 * last one (and NOTICE_DELAY_SECONDS after the first failure, since they come
 * in bunches), at most notices_per_day in a day. A full queue: later. now_s:
 * the wall clock, for the Date alone. */
void notice_run(int64_t now_ms, int64_t now_s);

/* When notice_run() has something to do; INT64_MAX: nothing. */
int64_t notice_wake_ms(void);

size_t notice_memory_bytes(void);

#endif
