/* See route.h.
 *
 * A round tries every address of every family once, the last good one first.
 * A good address ends the round; a round that finds none rests the route. */
#include "route.h"

#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "advice.h"
#include "buf.h"
#include "config.h"
#include "crypto.h"
#include "dns.h"
#include "log.h"
#include "promise.h"
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
    unsigned ready;           /* connections */
    bool is_crowded;          /* the smarthost takes no more of them */
    int64_t crowded_until_ms; /* or until then, when all of them are stuck */
    char why[256];            /* of the rest */
    const char *told_advice;  /* what the log was told last, while it fails */
    char told_why[256];
} route;

void route_init(void)
{
    memset(&route, 0, sizeof route);
    route.ticket = DNS_NO_SLOT;
}

void route_renew(void)
{
    unsigned ready = route.ready;
    const char *advice = route.told_advice;
    char why[sizeof route.told_why];
    memcpy(why, route.told_why, sizeof why);
    dns_forget(route.ticket);
    route_init();
    promise_route_rests(0, "");
    /* The log was told of a fault: it will hear of its end, too. */
    route.told_advice = advice;
    memcpy(route.told_why, why, sizeof why);
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

const char *route_why(int64_t now_ms, int64_t *rest_ms, const char **advice)
{
    *advice = route.told_advice;
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

bool route_takes_more(bool are_all_stuck, int64_t now_ms)
{
    if (route.is_crowded && (!are_all_stuck || now_ms < route.crowded_until_ms))
        return false;
    return route_is_open(now_ms);
}

int64_t route_wake_ms(void)
{
    if (route.is_resting)
        return route.until_ms;
    if (route.ticket != DNS_NO_SLOT)
        return ROUTE_WAKES_ITSELF;
    return route.is_crowded ? route.crowded_until_ms : route.ask_at_ms;
}

/* The same advice is the same fault, though the words bear times and names;
 * where there is none, the words must do. */
static bool is_news(const char *why, const char *advice)
{
    if (*route.told_why == '\0' || advice != route.told_advice)
        return true;
    return advice == NULL &&
           strncmp(why, route.told_why, sizeof route.told_why - 1) != 0;
}

static void tell_rest(int64_t rest_ms, const char *why, const char *advice)
{
    struct queue_counts n;
    queue_count(&n);
    log_line(is_news(why, advice) ? LOG_AT_WARN : LOG_AT_DEBUG, "out",
             "route=paused for_s=%lld smarthost=%s why=\"%s\"%s%s%s waiting=%u",
             (long long)(rest_ms / 1000), route_smarthost(), why,
             advice != NULL ? " advice=\"" : "", advice != NULL ? advice : "",
             advice != NULL ? "\"" : "", n.messages);
    route.told_advice = advice;
    text_copy(route.told_why, sizeof route.told_why, why);
}

/* Up to a fifth more, lest all relays of a company come back at once. */
static int64_t jittered(int64_t rest_ms)
{
    return rest_ms + rest_ms / 5 * (crypto_random_u32() >> 24) / 255;
}

void route_failed(int64_t least_ms, const char *why, const char *advice,
                  int64_t now_ms)
{
    if (route.failing_since_ms == 0)
        route.failing_since_ms = now_ms;
    int64_t rest_ms = queue_retry_ms(now_ms - route.failing_since_ms,
                                     settings()->retry_first_seconds * 1000,
                                     settings()->retry_max_seconds * 1000);
    if (rest_ms < least_ms)
        rest_ms = least_ms;
    rest_ms = jittered(rest_ms);
    route.is_resting = true;
    route.until_ms = now_ms + rest_ms;
    route.next = route.count = 0;
    text_copy(route.why, sizeof route.why, why);
    tell_rest(rest_ms, why, advice);
    promise_route_rests(route.until_ms, advice != NULL ? advice : why);
}

void route_address_failed(const struct ip_endpoint *at, const char *why,
                          const char *advice, int64_t now_ms)
{
    char text[IP_ENDPOINT_BYTES], whole[512];
    snprintf(whole, sizeof whole, "%s: %.400s", ip_format_endpoint(at, text),
             why);
    if (route.ready > 0) {
        route.is_crowded = true;
        route.crowded_until_ms =
            now_ms + settings()->retry_first_seconds * 1000;
        route.next = route.count = 0;
        log_line(LOG_AT_INFO, "out", "connections=%u enough why=\"%s\"",
                 route.ready, whole);
        return;
    }
    if (route.next >= route.count) {
        route_failed(0, whole, advice, now_ms);
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
    if (*route.told_why != '\0')
        log_line(LOG_AT_INFO, "out", "route=up smarthost=%s",
                 route_smarthost());
    route.failing_since_ms = 0;
    route.is_resting = false;
    *route.told_why = '\0';
    promise_route_rests(0, "");
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
    struct advice a =
        advice_on_fault(ADVICE_AT_NAME, settings()->smarthost_port, why);
    route_failed(a.rest_s * (int64_t)1000, why, a.text, now_ms);
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
