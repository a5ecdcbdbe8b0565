/* See poller.h. */
#include "poller.h"

#include <limits.h>
#include <time.h>

int64_t clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void poller_reset(struct poller *p)
{
    p->count = 0;
    p->wake_ms = INT64_MAX;
}

int poller_add(struct poller *p, int fd, short events)
{
    if (p->count == POLLER_FDS_MAX)
        return POLLER_NO_SLOT;
    p->fds[p->count] = (struct pollfd){.fd = fd, .events = events};
    return p->count++;
}

void poller_wake_at(struct poller *p, int64_t at_ms)
{
    if (at_ms < p->wake_ms)
        p->wake_ms = at_ms;
}

static int timeout_ms(const struct poller *p, int64_t now_ms)
{
    if (p->wake_ms == INT64_MAX)
        return -1;
    if (p->wake_ms <= now_ms)
        return 0;
    int64_t wait_ms = p->wake_ms - now_ms;
    return wait_ms > INT_MAX ? INT_MAX : (int)wait_ms;
}

void poller_wait(struct poller *p, int64_t now_ms)
{
    if (poll(p->fds, (nfds_t)p->count, timeout_ms(p, now_ms)) >= 0)
        return;
    for (int i = 0; i < p->count; i++)
        p->fds[i].revents = 0;
}

short poller_events(const struct poller *p, int slot, int fd)
{
    if (slot < 0 || slot >= p->count || p->fds[slot].fd != fd)
        return 0;
    return p->fds[slot].revents;
}
