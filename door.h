/* door: the listeners. Binds them, and hands out the connections that come.
 *
 * Must never know: what is spoken on them. */
#ifndef LANPOST_DOOR_H
#define LANPOST_DOOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ip.h"

struct poller;

/* Binds count endpoints, and logs each. is_preset: nobody chose them, so
 * port 2525 stands in where there is no right to the port, and a family that
 * the system lacks is no fault; a port that another program holds is. False:
 * the log says which failed and why. */
bool door_open(const struct ip_endpoint *endpoints, unsigned count,
               bool is_preset);
void door_close(void);

void door_prep(struct poller *p, int64_t now_ms);

/* The next connection that has come, non-blocking; -1: no more for now. */
int door_accept(const struct poller *p, int64_t now_ms,
                struct ip_endpoint *client);

size_t door_memory_bytes(void);

#endif
