/* See smtp_out.h. */
#include "smtp_out.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "config.h"
#include "fate.h"
#include "poller.h"
#include "queue.h"
#include "route.h"
#include "settings.h"
#include "smtp_courier.h"

static struct courier couriers[CONNECTION_SLOTS];

/* False: an address failed at once, and the next may be tried. */
static bool open_connection(struct courier *c, int64_t now_ms)
{
    struct ip_endpoint at;
    struct sockaddr_storage address;
    bool is_last;
    int on = 1;
    if (!route_next(&at, &is_last, now_ms))
        return true;
    socklen_t length = ip_to_sockaddr(&at, &address);
    int fd = socket(at.address.family,
                    SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || (connect(fd, (struct sockaddr *)&address, length) < 0 &&
                   errno != EINPROGRESS)) {
        const char *why = strerror(errno);
        if (fd >= 0)
            close(fd);
        route_address_failed(&at, why, now_ms);
        return false;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    courier_start(c, fd, &at, is_last, now_ms);
    return true;
}

static struct courier *find_courier(enum courier_state state)
{
    for (size_t i = 0; i < CONNECTION_SLOTS; i++)
        if (couriers[i].state == state)
            return &couriers[i];
    return NULL;
}

static unsigned count_open(void)
{
    unsigned count = 0;
    for (size_t i = 0; i < CONNECTION_SLOTS; i++)
        count += couriers[i].state != COURIER_VACANT;
    return count;
}

static bool is_setting_up(void)
{
    for (size_t i = 0; i < CONNECTION_SLOTS; i++)
        if (couriers[i].state > COURIER_VACANT &&
            couriers[i].state < COURIER_IDLE)
            return true;
    return false;
}

/* One at a time is set up: when the smarthost is dead, one knocks, not all;
 * when it is alive, each good one lets the next begin. */
static bool may_open(int64_t now_ms)
{
    return route_takes_more(now_ms) && !is_setting_up() &&
           count_open() < (unsigned)settings()->connections_max;
}

static void hand_out(int64_t now_ms)
{
    struct courier *idle;
    while ((idle = find_courier(COURIER_IDLE)) != NULL) {
        queue_id id = queue_due(now_ms);
        if (id == QUEUE_NONE)
            return;
        courier_begin(idle, id, now_ms);
    }
    while (queue_next_due_ms() <= now_ms && may_open(now_ms) &&
           !open_connection(find_courier(COURIER_VACANT), now_ms))
        ;
}

void smtp_out_prep(struct poller *p, int64_t now_ms)
{
    int64_t due_ms = queue_next_due_ms();
    for (size_t i = 0; i < CONNECTION_SLOTS; i++)
        link_prep(&couriers[i].link, p, true);
    if (due_ms == INT64_MAX)
        return;
    poller_wake_at(p, fate_wake_ms());
    bool can_act = find_courier(COURIER_IDLE) || may_open(now_ms);
    int64_t wake_ms = route_wake_ms();
    if (wake_ms != ROUTE_WAKES_ITSELF && (can_act || !route_is_open(now_ms)))
        poller_wake_at(p, wake_ms > due_ms ? wake_ms : due_ms);
}

void smtp_out_run(const struct poller *p, int64_t now_ms)
{
    for (size_t i = 0; i < CONNECTION_SLOTS; i++)
        if (couriers[i].state != COURIER_VACANT)
            courier_run(&couriers[i], p, now_ms);
    fate_sweep(now_ms);
    hand_out(now_ms);
}

void smtp_out_init(const char *hostname)
{
    courier_init(hostname);
    route_init();
}

void smtp_out_renew(int64_t now_ms)
{
    route_renew();
    for (size_t i = 0; i < CONNECTION_SLOTS; i++)
        if (couriers[i].state != COURIER_VACANT)
            courier_quit(&couriers[i], now_ms);
}

void smtp_out_abandon(int64_t now_ms)
{
    for (size_t i = 0; i < CONNECTION_SLOTS; i++)
        if (couriers[i].state != COURIER_VACANT)
            courier_abandon(&couriers[i], now_ms);
}

size_t smtp_out_memory_bytes(void)
{
    return sizeof couriers;
}
