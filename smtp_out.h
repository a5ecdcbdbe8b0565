/* smtp_out: picks due messages, connects to the smarthost, logs in, sends,
 * and hands the verdicts back to the queue.
 *
 * A few connections side by side, each for several messages. A fault of the
 * route (name, connect, TLS, login) rests the route and keeps every message;
 * a fault of one message or recipient ends only that. Must never know:
 * smtp_in. */
#ifndef LANPOST_SMTP_OUT_H
#define LANPOST_SMTP_OUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct poller;

/* hostname (our EHLO name) must outlive the room. */
void smtp_out_init(const char *hostname);

void smtp_out_prep(struct poller *p, int64_t now_ms);
void smtp_out_run(const struct poller *p, int64_t now_ms);

/* New settings are in force: ends the connections that have no message under
 * way, forgets the route's rest and what was learnt of it. */
void smtp_out_renew(int64_t now_ms);

/* The program ends: closes all connections; messages in hand go back to the
 * queue, with a line in the log that says which are in doubt. */
void smtp_out_abandon(int64_t now_ms);

size_t smtp_out_memory_bytes(void);

#endif
