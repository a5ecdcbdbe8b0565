/* smtp_dialogue: one device's dialogue, from its first byte to the committed
 * message: TLS or plain, lines to verbs, bytes to the queue, the end.
 *
 * What may be promised to a device is the queue's to say. Must never know:
 * other sessions, listeners, deadlines, smtp_out. */
#ifndef LANPOST_SMTP_DIALOGUE_H
#define LANPOST_SMTP_DIALOGUE_H

#include <stdbool.h>
#include <stdint.h>

#include "ip.h"
#include "smtp_session.h"

/* Greets a client in a vacant slot, or waits to see whether it speaks TLS, or
 * (is_tls) begins with it; takes fd over. */
void dialogue_start(struct session *c, int fd, const struct ip_endpoint *client,
                    bool is_tls, int64_t now_ms);

/* What it can make use of now: a word when bytes come from the device; the
 * bytes themselves; a turn without any. */
bool dialogue_wants_input(const struct session *c);
bool dialogue_takes_input(const struct session *c);
bool dialogue_has_work(const struct session *c, int64_t now_ms);

/* Its next turn costs a millisecond and more: a handshake, a password. */
bool dialogue_is_heavy(const struct session *c);

/* One command, one stretch of a message, or one verdict. False: there was
 * nothing to do. */
bool dialogue_act(struct session *c, int64_t now_ms);

/* Ends a session for one of these reasons, with its 421; the slot is freed by
 * its owner once what was said has left. */
enum dialogue_end {
    DIALOGUE_ENDS_GONE, /* nobody is there to be told */
    DIALOGUE_ENDS_LATE,
    DIALOGUE_ENDS_STOPPING
};
void dialogue_end(struct session *c, enum dialogue_end why, int64_t now_ms);

#endif
