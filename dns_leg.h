/* dns_leg: one name and one record type, asked until a server answers.
 *
 * Over UDP, over TCP when the answer was cut short; server after server,
 * alias after alias. Knows the servers of resolv.conf. A zeroed leg is idle.
 * Must never know: questions of two legs, caches, hosts files. */
#ifndef LANPOST_DNS_LEG_H
#define LANPOST_DNS_LEG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "config.h"
#include "dns_packet.h"

#define DNS_MESSAGE_BYTES 4096 /* more than DNS_ADDRESSES_MAX records need */

struct poller;

enum dns_leg_state {
    DNS_LEG_IDLE, /* asks nothing: must stay 0 */
    DNS_LEG_UDP,
    DNS_LEG_TCP_SEND, /* connecting, or the query not yet sent whole */
    DNS_LEG_TCP_READ,
    DNS_LEG_FOUND, /* records and ttl_seconds are filled in */
    DNS_LEG_NONE,
    DNS_LEG_FAILED
};

struct dns_leg {
    enum dns_leg_state state;
    const char *why; /* of NONE and FAILED: one plain static sentence */
    uint32_t ttl_seconds;
    struct dns_records records;

    /* Of the leg alone: */
    int fd; /* ours in the three waiting states */
    int poll_slot;
    int64_t deadline_ms;
    unsigned attempt;      /* counts servers, round after round */
    unsigned server_first; /* where each round starts */
    unsigned server;       /* asked now */
    bool is_plain;         /* a server disliked OPT */
    unsigned aliases;
    struct dns_query query;
    struct buf io; /* TCP: the query until it is sent, then the reply */
    uint8_t space[2 + DNS_MESSAGE_BYTES];
};

void dns_leg_init(const char *resolv_file);

/* Reads resolv.conf again if it changed; true when it did. Before any
 * dns_leg_start(). */
bool dns_leg_refresh_servers(void);

void dns_leg_start(struct dns_leg *leg, const char *name, enum dns_type type,
                   int64_t now_ms);
bool dns_leg_is_waiting(const struct dns_leg *leg);

/* Gives up its socket, and nothing else when it waits for nothing. */
void dns_leg_end(struct dns_leg *leg, enum dns_leg_state state);

void dns_leg_prep(struct dns_leg *leg, struct poller *p);
void dns_leg_run(struct dns_leg *leg, const struct poller *p, int64_t now_ms);

size_t dns_leg_memory_bytes(void);

#endif
