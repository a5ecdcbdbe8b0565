/* See route.h.
 *
 * A round tries every address of every family once, the last good one first.
 * A good address ends the round; a round that finds none rests the route. */
#include "route.h"

#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "buf.h"
#include "config.h"
#include "dns.h"
#include "log.h"
#include "queue.h"
#include "settings.h"

#define ASK_AGAIN_MS 1000 /* all slots of dns are taken */

static struct {
    bool is_resting;
    int64_t until_ms;
    int64_t failing_since_ms; /* 0: the last attempt was good */
    int64_t ask_at_ms;        /* 0: no wait for a slot of dns */
    int ticket;               /* DNS_NO_SLOT: no question is out */
    struct ip_address addresses[DNS_ADDRESSES_MAX];
    unsigned count, next; /* of this round; next == count: a new one is due */
    struct ip_address good;
    unsigned ready;  /* connections */
    bool is_crowded; /* the smarthost takes no more of them */
    char why[256];   /* of the rest */
} route;

void route_init(void)
{
    memset(&route, 0, sizeof route);
    route.ticket = DNS_NO_SLOT;
}

void route_renew(void)
{
    unsigned ready = route.ready;
    dns_forget(route.ticket);
    route_init();
    route.ready = ready;
}

const char *route_smarthost(void)
{
    static char text[sizeof settings()->smarthost_name + 12];
    const char *name = settings()->smarthost_name;
    snprintf(text, sizeof text, strchr(name, ':') ? "[%s]:%u" : "%s:%u", name,
             settings()->smarthost_port);
    return text;
}

const char *route_why(int64_t now_ms, int64_t *rest_ms)
{
    if (route_is_open(now_ms))
        return NULL;
    *rest_ms = route.until_ms - now_ms;
    return route.why;
}

bool route_is_open(int64_t now_ms)
{
    if (route.is_resting && now_ms >= route.until_ms)
        route.is_resting = false;
    return !route.is_resting;
}

bool route_takes_more(int64_t now_ms)
{
    return route_is_open(now_ms) && !route.is_crowded;
}

int64_t route_wake_ms(void)
{
    if (route.is_resting)
        return route.until_ms;
    return route.ticket != DNS_NO_SLOT ? ROUTE_WAKES_ITSELF : route.ask_at_ms;
}

void route_failed(int64_t least_ms, const char *why, int64_t now_ms)
{
    struct queue_counts n;
    if (route.failing_since_ms == 0)
        route.failing_since_ms = now_ms;
    int64_t rest_ms = queue_retry_ms(now_ms - route.failing_since_ms,
                                     settings()->retry_first_seconds * 1000,
                                     settings()->retry_max_seconds * 1000);
    if (rest_ms < least_ms)
        rest_ms = least_ms;
    route.is_resting = true;
    route.until_ms = now_ms + rest_ms;
    route.next = route.count = 0;
    text_copy(route.why, sizeof route.why, why);
    queue_count(&n);
    log_line(LOG_AT_WARN, "out",
             "route=paused for_s=%lld smarthost=%s why=\"%s\" waiting=%u",
             (long long)(rest_ms / 1000), route_smarthost(), why, n.messages);
}

void route_address_failed(const struct ip_endpoint *at, const char *why,
                          int64_t now_ms)
{
    char text[IP_ENDPOINT_BYTES], whole[512];
    snprintf(whole, sizeof whole, "%s: %.400s", ip_format_endpoint(at, text),
             why);
    if (route.ready > 0) {
        route.is_crowded = true;
        route.next = route.count = 0;
        log_line(LOG_AT_INFO, "out", "connections=%u enough why=\"%s\"",
                 route.ready, whole);
        return;
    }
    if (route.next >= route.count) {
        route_failed(0, whole, now_ms);
        return;
    }
    log_line(LOG_AT_INFO, "out", "address=failed why=\"%s\" left=%u", whole,
             route.count - route.next);
}

void route_ready(const struct ip_endpoint *at)
{
    route.ready++;
    route.good = at->address;
    route.next = route.count = 0;
}

void route_left(void)
{
    route.ready--;
    if (route.ready == 0)
        route.is_crowded = false;
}

void route_proved(void)
{
    if (route.failing_since_ms != 0)
        log_line(LOG_AT_INFO, "out", "route=up smarthost=%s",
                 route_smarthost());
    route.failing_since_ms = 0;
    route.is_resting = false;
}

static bool family_is_wanted(const struct ip_address *a)
{
    switch ((enum settings_family)settings()->smarthost_family) {
    case FAMILY_IPV4: return a->family == AF_INET;
    case FAMILY_IPV6: return a->family == AF_INET6;
    case FAMILY_ANY: break;
    }
    return true;
}

static void start_round(const struct dns_answer *answer)
{
    route.count = route.next = 0;
    for (unsigned i = 0; i < answer->count; i++) {
        if (!family_is_wanted(&answer->addresses[i]))
            continue;
        route.addresses[route.count] = answer->addresses[i];
        if (ip_equal(&route.addresses[route.count], &route.good)) {
            route.addresses[route.count] = route.addresses[0];
            route.addresses[0] = route.good;
        }
        route.count++;
    }
}

/* True: addresses has what there is to try. */
static bool find_addresses(int64_t now_ms)
{
    struct dns_answer answer;
    char why[400];
    if (route.ticket == DNS_NO_SLOT && now_ms >= route.ask_at_ms) {
        route.ticket = dns_ask(settings()->smarthost_name, DNS_HOST, now_ms);
        route.ask_at_ms =
            route.ticket == DNS_NO_SLOT ? now_ms + ASK_AGAIN_MS : 0;
    }
    if (route.ticket == DNS_NO_SLOT)
        return false;
    enum dns_state state = dns_result(route.ticket, &answer);
    if (state == DNS_WAIT)
        return false;
    dns_forget(route.ticket);
    route.ticket = DNS_NO_SLOT;
    if (state == DNS_FOUND)
        start_round(&answer);
    if (state == DNS_FOUND && route.count > 0)
        return true;
    snprintf(why, sizeof why, "%.255s: %s", settings()->smarthost_name,
             state == DNS_FOUND ? "the name has no address of the family that "
                                  "smarthost_family wants"
                                : answer.why);
    route_failed(0, why, now_ms);
    return false;
}

bool route_next(struct ip_endpoint *at, bool *is_last, int64_t now_ms)
{
    if (!route_is_open(now_ms))
        return false;
    if (route.next >= route.count && !find_addresses(now_ms))
        return false;
    at->address = route.addresses[route.next++];
    at->port = settings()->smarthost_port;
    *is_last = route.next == route.count;
    return true;
}

size_t route_memory_bytes(void)
{
    return sizeof route;
}
