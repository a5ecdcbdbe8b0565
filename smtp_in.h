/* smtp_in: the server side of RFC 5321, from greeting to committed message.
 *
 * Takes mail from devices of allow_from and puts it into the queue; what may
 * be promised to a device is the queue's to say. Must never know: smtp_out,
 * dns. */
#ifndef LANPOST_SMTP_IN_H
#define LANPOST_SMTP_IN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ip.h"

struct poller;

/* Binds the listeners of the settings; hostname (ours) must outlive the room.
 * False: none could be bound, and the log says why. */
bool smtp_in_init(const char *hostname);

void smtp_in_prep(struct poller *p, int64_t now_ms);
void smtp_in_run(const struct poller *p, int64_t now_ms);

/* Serves a connection that somebody else accepted, which begins with TLS or
 * in plain; fd is taken over. */
void smtp_in_adopt(int fd, const struct ip_endpoint *client, bool is_tls,
                   int64_t now_ms);

/* No new clients and no new messages; 421 to whoever has none under way. */
void smtp_in_drain(int64_t now_ms);

/* The end of the drain: whose reply is still held is told to send it again,
 * and our copy is gone; where it is too late for that, nothing is said. */
void smtp_in_abandon(int64_t now_ms);

/* Connections that are open. */
unsigned smtp_in_clients(void);

size_t smtp_in_memory_bytes(void);

#endif
