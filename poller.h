/* poller: one turn's pollfds and earliest deadline, and the clocks.
 *
 * Rebuilt every turn: each room says in its prep what it waits for and until
 * when; nothing is registered, so nothing can go stale.
 * Must never know: who waits. */
#ifndef LANPOST_POLLER_H
#define LANPOST_POLLER_H

#include <poll.h>
#include <stddef.h>
#include <stdint.h>

#include "config.h"

#define POLLER_NO_SLOT (-1)

struct poller {
    struct pollfd fds[POLLER_FDS_MAX];
    int count;
    int64_t wake_ms; /* the earliest deadline of anybody; INT64_MAX: none */
};

/* Monotonic milliseconds: never the wall clock, so that a clock that jumps
 * moves no deadline. */
int64_t clock_ms(void);

void poller_reset(struct poller *p);

/* Waits for events on fd this turn. The slot to ask poller_events() about,
 * or POLLER_NO_SLOT when the table is full: the room then sleeps a turn. */
int poller_add(struct poller *p, int fd, short events);

/* Wakes at this time at the latest. */
void poller_wake_at(struct poller *p, int64_t at_ms);

/* Sleeps. EINTR is a wake-up like any other. */
void poller_wait(struct poller *p, int64_t now_ms);

/* What came for a slot and fd; 0 when nothing did, when the slot is
 * POLLER_NO_SLOT or is another fd's (a number reused within the turn). */
short poller_events(const struct poller *p, int slot, int fd);

#endif
