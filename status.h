/* status: one read-only page for people: queue, route, and what became of each
 * device's mail. Served as plain text over HTTP at status_listen; `lanpost
 * status` asks there.
 *
 * Must never know: secrets, what the messages say. */
#ifndef LANPOST_STATUS_H
#define LANPOST_STATUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "buf.h"
#include "ip.h"

struct poller;

/* Opens the door of the settings. A failure is a line in the log: mail is
 * passed all the same. now_ms = the start, for the uptime. */
void status_init(int64_t now_ms);
void status_prep(struct poller *p, int64_t now_ms);
void status_run(const struct poller *p, int64_t now_ms);

/* The page itself; what does not fit is left out. */
void status_put_page(struct buf *out, int64_t now_ms, int64_t now_s);

/* Asks the relay at this address, and prints its page; blocks, for a few
 * seconds at most. False: why. */
bool status_ask(const struct ip_endpoint *at, FILE *out, const char **why);

size_t status_memory_bytes(void);

#endif
