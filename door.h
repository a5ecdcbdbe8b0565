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

enum door_kind {
    DOOR_PLAIN,
    DOOR_TLS,   /* TLS is spoken from the first byte */
    DOOR_STATUS /* for people who ask */
};

/* Binds count endpoints, and logs each. is_preset: nobody chose them, so
 * port 2525 stands in where there is no right to the port, and a family that
 * the system lacks is no fault; a port that another program holds is. False:
 * the log says which failed and why. */
bool door_open(enum door_kind kind, const struct ip_endpoint *endpoints,
               unsigned count, bool is_preset);

/* All doors of the kind; later ones of that kind may be opened. */
void door_close(enum door_kind kind);

void door_prep(struct poller *p, enum door_kind kind, int64_t now_ms);

/* The next connection that has come, non-blocking; -1: no more for now. */
int door_accept(const struct poller *p, enum door_kind kind, int64_t now_ms,
                struct ip_endpoint *client);

size_t door_memory_bytes(void);

#endif
