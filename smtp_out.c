/* See smtp_out.h. */
#include "smtp_out.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "advice.h"
#include "config.h"
#include "fate.h"
#include "notice.h"
#include "poller.h"
#include "queue.h"
#include "route.h"
#include "settings.h"
#include "smtp_errand.h"

static struct courier couriers[CONNECTION_SLOTS];
static uint32_t warmed_for; /* the message for which one was opened ahead */

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
        route_address_failed(
            &at, why, advice_on_fault(ADVICE_AT_CONNECT, at.port, why).text,
            now_ms);
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

/* A message that hangs, or a scan on a slow line, steps aside: its connection
 * no longer counts, and another goes on with the rest. */
static bool is_hanging(const struct courier *c, int64_t now_ms)
{
    return c->d.id != QUEUE_NONE &&
           now_ms - c->d.began_ms > HANG_SECONDS * (int64_t)1000;
}

static unsigned count_open(int64_t now_ms)
{
    unsigned count = 0;
    for (size_t i = 0; i < CONNECTION_SLOTS; i++)
        count += couriers[i].state != COURIER_VACANT &&
                 !is_hanging(&couriers[i], now_ms);
    return count;
}

/* Big messages leave one connection to the alerts, where there are two. */
static bool may_take_big(void)
{
    int64_t big = 0;
    for (size_t i = 0; i < CONNECTION_SLOTS; i++)
        big += queue_bytes(couriers[i].d.id) > QUEUE_SMALL_BYTES;
    return big == 0 || big + 1 < settings()->connections_max;
}

static bool is_setting_up(void)
{
    for (size_t i = 0; i < CONNECTION_SLOTS; i++)
        if (couriers[i].state > COURIER_VACANT &&
            couriers[i].state < COURIER_IDLE)
            return true;
    return false;
}

/* All connections hang, and there is room for another. */
static bool is_stuck(int64_t now_ms)
{
    return find_courier(COURIER_VACANT) != NULL && count_open(now_ms) == 0;
}

/* One at a time is set up: when the smarthost is dead, one knocks, not all;
 * when it is alive, each good one lets the next begin. */
static bool may_open(int64_t now_ms)
{
    return route_takes_more(is_stuck(now_ms), now_ms) && !is_setting_up() &&
           find_courier(COURIER_VACANT) != NULL &&
           count_open(now_ms) < (unsigned)settings()->connections_max;
}

/* While a device still uploads, the connection for its message is set up: name,
 * TLS and login cost it no time then. Once for each message, or a device that
 * idles in DATA would have us log in for ever. */
static bool is_warming_due(int64_t now_ms)
{
    return queue_writing() > 0 && warmed_for != queue_begun() &&
           find_courier(COURIER_IDLE) == NULL && may_open(now_ms);
}

static void hand_out(int64_t now_ms)
{
    struct courier *idle;
    while (route_is_open(now_ms) &&
           (idle = find_courier(COURIER_IDLE)) != NULL) {
        queue_id id = queue_due(now_ms, may_take_big());
        if (id == QUEUE_NONE)
            break;
        errand_begin(idle, id, now_ms);
    }
    while (queue_next_due_ms(may_take_big()) <= now_ms && may_open(now_ms) &&
           !open_connection(find_courier(COURIER_VACANT), now_ms))
        ;
    if (is_warming_due(now_ms)) {
        open_connection(find_courier(COURIER_VACANT), now_ms);
        if (is_setting_up())
            warmed_for = queue_begun();
    }
}

static void prep_courier(struct courier *c, struct poller *p, int64_t now_ms)
{
    link_prep(&c->link, p, true);
    if (c->d.id != QUEUE_NONE && !is_hanging(c, now_ms))
        poller_wake_at(p, c->d.began_ms + HANG_SECONDS * (int64_t)1000 + 1);
}

void smtp_out_prep(struct poller *p, int64_t now_ms)
{
    int64_t due_ms = queue_next_due_ms(may_take_big());
    for (size_t i = 0; i < CONNECTION_SLOTS; i++)
        prep_courier(&couriers[i], p, now_ms);
    poller_wake_at(p, notice_wake_ms());
    if (is_warming_due(now_ms))
        due_ms = due_ms < now_ms ? due_ms : now_ms;
    if (due_ms == INT64_MAX)
        return;
    poller_wake_at(p, fate_wake_ms());
    bool can_act = (find_courier(COURIER_IDLE) && route_is_open(now_ms)) ||
                   may_open(now_ms);
    int64_t wake_ms = route_wake_ms();
    if (wake_ms != ROUTE_WAKES_ITSELF &&
        (can_act || !route_is_open(now_ms) || is_stuck(now_ms)))
        poller_wake_at(p, wake_ms > due_ms ? wake_ms : due_ms);
}

void smtp_out_run(const struct poller *p, int64_t now_ms)
{
    for (size_t i = 0; i < CONNECTION_SLOTS; i++)
        if (couriers[i].state != COURIER_VACANT)
            errand_run(&couriers[i], p, now_ms);
    fate_sweep(now_ms);
    notice_run(now_ms, (int64_t)time(NULL));
    hand_out(now_ms);
}

void smtp_out_init(const char *hostname)
{
    courier_init(hostname);
    notice_init(hostname);
    warmed_for = 0;
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
    return sizeof couriers + notice_memory_bytes();
}
