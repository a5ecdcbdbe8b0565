/* See link.h.
 *
 * Reading and writing fail apart: a smarthost that refuses in mid-message and
 * hangs up breaks our writes, yet its last words are still to be read and
 * they decide the message's fate. So a failed write only sets is_broken, and
 * has_ended waits until everything received is in the buffer. */
#include "link.h"

#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "poller.h"

void link_open(struct link *l, int fd, bool is_connecting, void *in,
               size_t in_bytes, void *out, size_t out_bytes)
{
    memset(l, 0, sizeof *l);
    l->step = is_connecting ? LINK_CONNECTING : LINK_UP;
    l->fd = fd;
    l->slot = POLLER_NO_SLOT;
    l->deadline_ms = INT64_MAX;
    buf_init(&l->in, in, in_bytes);
    buf_init(&l->out, out, out_bytes);
}

bool link_start_tls(struct link *l, const char *name)
{
    l->tls = tls_open(l->fd, name);
    if (l->tls == NULL)
        return false;
    l->step = LINK_HANDSHAKE;
    return true;
}

void link_close(struct link *l)
{
    if (l->step == LINK_CLOSED)
        return;
    tls_close(l->tls);
    close(l->fd);
    bytes_wipe(l->in.space, l->in.size);
    bytes_wipe(l->out.space, l->out.size);
    memset(l, 0, sizeof *l);
    l->fd = -1;
    l->slot = POLLER_NO_SLOT;
}

static short wanted_events(const struct link *l, bool wants_input)
{
    if (l->step == LINK_CONNECTING)
        return POLLOUT;
    if (l->step == LINK_HANDSHAKE)
        return tls_wants(l->tls);
    short events = 0;
    if (wants_input && !l->has_ended && buf_room(&l->in) > 0)
        events |= POLLIN;
    if (buf_len(&l->out) > 0 && !l->is_broken)
        events |= POLLOUT;
    /* Not to be read now, yet worth knowing: once. */
    if (!wants_input && !l->is_shut)
        events |= POLLRDHUP;
    return events;
}

void link_prep(struct link *l, struct poller *p, bool wants_input)
{
    l->slot = POLLER_NO_SLOT;
    if (l->step == LINK_CLOSED)
        return;
    poller_wake_at(p, l->deadline_ms);
    short events = wanted_events(l, wants_input);
    /* Never sleep on bytes that are here already. */
    if ((events & POLLIN) && l->step == LINK_UP && l->tls &&
        tls_has_pending(l->tls))
        poller_wake_at(p, 0);
    /* poll reports a hang-up for ever, asked or not: once it is known, and
     * nothing is to be read, it must not keep the loop turning. */
    if (events != 0 || (!l->has_ended && !l->is_broken))
        l->slot = poller_add(p, l->fd, events);
}

static void set_broken(struct link *l, const char *why)
{
    l->is_broken = true;
    if (l->why[0] == '\0')
        text_copy(l->why, sizeof l->why, why);
}

static void set_ended(struct link *l, const char *why)
{
    l->has_ended = true;
    if (l->why[0] == '\0')
        text_copy(l->why, sizeof l->why, why);
}

static void finish_connect(struct link *l, short events)
{
    int error = 0;
    socklen_t length = sizeof error;
    if (events == 0)
        return;
    if (getsockopt(l->fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0)
        error = errno;
    if (error == 0) {
        l->step = LINK_UP;
        return;
    }
    set_broken(l, strerror(error));
    set_ended(l, l->why);
}

static void shake_hands(struct link *l)
{
    enum tls_result result = tls_handshake(l->tls);
    if (result == TLS_DONE)
        l->step = LINK_UP;
    if (result != TLS_FAILED)
        return;
    set_broken(l, tls_why(l->tls));
    set_ended(l, l->why);
}

static ssize_t read_some(struct link *l, void *data, size_t room)
{
    return l->tls ? tls_read(l->tls, data, room) : recv(l->fd, data, room, 0);
}

static ssize_t write_some(struct link *l, const void *data, size_t count)
{
    return l->tls ? tls_write(l->tls, data, count)
                  : send(l->fd, data, count, MSG_NOSIGNAL);
}

/* One read for a plain link; poll tells of the rest. Under TLS, until the
 * library holds nothing back, since poll knows nothing of that. */
static void receive(struct link *l)
{
    while (!l->has_ended && buf_room(&l->in) > 0) {
        size_t room;
        uint8_t *at = buf_tail(&l->in, &room);
        ssize_t n = read_some(l, at, room);
        if (n > 0) {
            buf_wrote(&l->in, (size_t)n);
            if (l->tls && tls_has_pending(l->tls))
                continue;
        } else if (n == 0) {
            set_ended(l, "the connection was closed");
        } else if (errno != EAGAIN && errno != EINTR) {
            l->was_reset = l->tls != NULL || errno == ECONNRESET;
            set_ended(l, l->tls ? tls_why(l->tls) : strerror(errno));
        }
        return;
    }
}

void link_flush(struct link *l)
{
    while (l->step == LINK_UP && buf_len(&l->out) > 0 && !l->is_broken) {
        ssize_t n = write_some(l, buf_data(&l->out), buf_len(&l->out));
        if (n > 0) {
            buf_take(&l->out, (size_t)n);
        } else {
            if (n < 0 && errno != EAGAIN && errno != EINTR)
                set_broken(l, l->tls ? tls_why(l->tls) : strerror(errno));
            return;
        }
    }
}

void link_run(struct link *l, const struct poller *p, bool wants_input)
{
    short events = poller_events(p, l->slot, l->fd);
    if (l->step == LINK_CONNECTING)
        finish_connect(l, events);
    else if (l->step == LINK_HANDSHAKE && !l->has_ended)
        shake_hands(l);
    if (l->step != LINK_UP)
        return;
    link_flush(l);
    bool has_hung_up = events & (POLLHUP | POLLERR);
    l->is_shut |= (events & POLLRDHUP) != 0;
    bool has_input =
        has_hung_up || (events & POLLIN) || (l->tls && tls_has_pending(l->tls));
    if (has_input && wants_input && buf_room(&l->in) > 0)
        receive(l);
    else if (has_hung_up)
        set_broken(l, "the connection was reset");
}

bool link_has_unheard(const struct link *l)
{
    int bytes = 0;
    if (l->step == LINK_CLOSED || buf_len(&l->out) > 0)
        return true;
    /* What the kernel still keeps: the peer has not acknowledged it. It knows
     * so even behind a reset. */
    return ioctl(l->fd, SIOCOUTQ, &bytes) == 0 && bytes > 0;
}

void link_shut(struct link *l)
{
    if (l->tls != NULL)
        tls_shut(l->tls);
    shutdown(l->fd, SHUT_WR);
}

int link_peek(const struct link *l)
{
    uint8_t first;
    ssize_t n = recv(l->fd, &first, 1, MSG_PEEK);
    if (n == 1)
        return first;
    return n < 0 && (errno == EAGAIN || errno == EINTR) ? -1 : LINK_ENDED;
}

bool link_is_late(const struct link *l, int64_t now_ms)
{
    return l->step != LINK_CLOSED && now_ms >= l->deadline_ms;
}
