/* route: the one way out: which address of the smarthost to try next, and
 * whether the route is up or rests until a time because of something.
 *
 * A fault of the route holds every message and blames none. Each change is one
 * log line, however many wait and however often it is tried. Must never know:
 * connections, messages. */
#ifndef LANPOST_ROUTE_H
#define LANPOST_ROUTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ip.h"

void route_init(void);

/* False while the route rests. */
bool route_is_open(int64_t now_ms);

/* Why it rests, for how long yet, and what to do (NULL: nothing); NULL: it
 * does not rest. */
const char *route_why(int64_t now_ms, int64_t *rest_ms, const char **advice);

/* True when a further connection may be tried. are_all_stuck: those that are
 * open hang. */
bool route_takes_more(bool are_all_stuck, int64_t now_ms);

/* From when on it can be asked for an address: 0: now. While a question is
 * out, dns does the waking. */
#define ROUTE_WAKES_ITSELF INT64_MAX
int64_t route_wake_ms(void);

/* The address to connect to now; *is_last: no other is left of this round.
 * False: none yet (the name is being asked for, or the route rests). */
bool route_next(struct ip_endpoint *at, bool *is_last, int64_t now_ms);

/* What became of it. ready: somebody there took our login; left: that
 * connection has ended; proved: a message got its verdict, so the route is
 * good. A further connection that fails while another is ready is no fault of
 * the route: the smarthost takes no more of them, and none is tried until the
 * ready ones have ended, or all hang. */
void route_ready(const struct ip_endpoint *at);
void route_left(void);
void route_proved(void);
void route_address_failed(const struct ip_endpoint *at, const char *why,
                          const char *advice, int64_t now_ms);

/* The smarthost itself refuses to work for us, at any address. Rests for
 * as long as it has been failing, within the settings' bounds and a little
 * more by chance; least_ms: at least so long. why must be clean for the log;
 * advice: NULL = none. What is no news is logged for debugging alone. */
void route_failed(int64_t least_ms, const char *why, const char *advice,
                  int64_t now_ms);

/* Forgets rest, addresses and preferences: the settings have changed. */
void route_renew(void);

/* "smtp.example.com:587", for the log; static. */
const char *route_smarthost(void);

size_t route_memory_bytes(void);

#endif
