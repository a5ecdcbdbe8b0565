/* See door.h. */
#include "door.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "config.h"
#include "log.h"
#include "poller.h"

#define ACCEPT_PAUSE_MS 100 /* out of descriptors: asking again is no use */

#define DOORS_MAX (2 * LISTENERS_MAX + 1)

struct listener {
    bool is_open; /* zero = vacant */
    enum door_kind kind;
    int fd;
    int slot;
    struct ip_endpoint at;
};

static struct listener listeners[DOORS_MAX];
static int64_t accept_again_ms;

static const char *const settings_of[] = {[DOOR_PLAIN] = "listen",
                                          [DOOR_TLS] = "listen_tls",
                                          [DOOR_STATUS] = "status_listen"};

static int bind_one(const struct ip_endpoint *at)
{
    struct sockaddr_storage address;
    socklen_t length = ip_to_sockaddr(at, &address);
    int on = 1;
    int fd = socket(at->address.family,
                    SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (at->address.family == AF_INET6) /* 0.0.0.0 has a listener of its own */
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, length) == 0 &&
        listen(fd, SOMAXCONN) == 0)
        return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

enum opened {
    OPEN_FAILED,
    OPEN_NEEDLESS, /* the system lacks the family, and nobody asked for it */
    OPEN_GOOD
};

static enum opened open_one(struct listener *l, const struct ip_endpoint *at,
                            bool is_preset)
{
    char text[IP_ENDPOINT_BYTES];
    l->at = *at;
    l->fd = bind_one(&l->at);
    if (l->fd < 0 && errno == EACCES && is_preset && l->kind == DOOR_PLAIN) {
        l->at.port = 2525; /* no right to port 25 */
        l->fd = bind_one(&l->at);
    }
    ip_format_endpoint(&l->at, text);
    l->is_open = l->fd >= 0;
    if (l->is_open) {
        log_line(LOG_AT_INFO, "in", "%s=%s bound", settings_of[l->kind], text);
        return OPEN_GOOD;
    }
    if (is_preset && (errno == EAFNOSUPPORT || errno == EADDRNOTAVAIL))
        return OPEN_NEEDLESS;
    log_line(LOG_AT_ERROR, "in", "%s=%s failed why=\"%s\"%s",
             settings_of[l->kind], text, strerror(errno),
             errno == EACCES ? " advice=\"ports below 1024 need root, or "
                               "CAP_NET_BIND_SERVICE\""
                             : "");
    return OPEN_FAILED;
}

static struct listener *vacant_listener(void)
{
    for (size_t i = 0; i < DOORS_MAX; i++)
        if (!listeners[i].is_open)
            return &listeners[i];
    return NULL;
}

bool door_open(enum door_kind kind, const struct ip_endpoint *endpoints,
               unsigned count, bool is_preset)
{
    unsigned good = 0, failed = 0;
    for (unsigned i = 0; i < count; i++) {
        struct listener *l = vacant_listener();
        if (l == NULL)
            return false;
        l->kind = kind;
        enum opened opened = open_one(l, &endpoints[i], is_preset);
        good += opened == OPEN_GOOD;
        failed += opened == OPEN_FAILED;
    }
    return (good > 0 || count == 0) && failed == 0;
}

static bool is_open(const struct listener *l, enum door_kind kind)
{
    return l->is_open && l->kind == kind;
}

void door_close(enum door_kind kind)
{
    for (size_t i = 0; i < DOORS_MAX; i++)
        if (is_open(&listeners[i], kind)) {
            close(listeners[i].fd);
            listeners[i].is_open = false;
        }
}

void door_prep(struct poller *p, enum door_kind kind, int64_t now_ms)
{
    for (size_t i = 0; i < DOORS_MAX; i++) {
        struct listener *l = &listeners[i];
        if (!is_open(l, kind))
            continue;
        l->slot = POLLER_NO_SLOT;
        if (now_ms >= accept_again_ms)
            l->slot = poller_add(p, l->fd, POLLIN);
        else
            poller_wake_at(p, accept_again_ms);
    }
}

static int accept_one(const struct listener *l, int64_t now_ms,
                      struct ip_endpoint *client)
{
    struct sockaddr_storage from;
    socklen_t length = sizeof from;
    int fd = accept4(l->fd, (struct sockaddr *)&from, &length,
                     SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM)
            accept_again_ms = now_ms + ACCEPT_PAUSE_MS;
        return -1;
    }
    if (ip_from_sockaddr(&from, client))
        return fd;
    close(fd);
    return -1;
}

int door_accept(const struct poller *p, enum door_kind kind, int64_t now_ms,
                struct ip_endpoint *client)
{
    for (size_t i = 0; i < DOORS_MAX; i++) {
        const struct listener *l = &listeners[i];
        if (!is_open(l, kind) || !poller_events(p, l->slot, l->fd))
            continue;
        int fd = accept_one(l, now_ms, client);
        if (fd >= 0)
            return fd;
    }
    return -1;
}

size_t door_memory_bytes(void)
{
    return sizeof listeners;
}
