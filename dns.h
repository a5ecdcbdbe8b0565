/* dns: questions in, addresses or mail exchangers out, without ever blocking.
 *
 * A stub resolver on a fixed set of slots: /etc/hosts, then the name servers
 * of resolv.conf over UDP, over TCP when the answer was cut short (RFC 1035,
 * 5452, 6891, 7766). Answers are kept for their TTL, and longer while all
 * servers are dead. Must never know: who asked, and why. */
#ifndef LANPOST_DNS_H
#define LANPOST_DNS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config.h"
#include "dns_packet.h" /* DNS_NAME_BYTES, dns_exchanger, dns_name_is_valid */
#include "ip.h"

#define DNS_NO_SLOT (-1)

struct poller;

enum dns_kind {
    DNS_HOST, /* A and AAAA, asked side by side */
    DNS_MX
};

enum dns_state {
    DNS_WAIT,  /* not yet */
    DNS_FOUND, /* the answer is filled in */
    DNS_NONE,  /* the name does not exist, or has no such record */
    DNS_FAILED /* no server answered usefully: try later */
};

struct dns_answer {
    unsigned count; /* of the array that the kind of question fills */
    union {
        struct ip_address addresses[DNS_ADDRESSES_MAX];      /* DNS_HOST */
        struct dns_exchanger exchangers[DNS_EXCHANGERS_MAX]; /* DNS_MX */
    };
    bool is_stale;   /* past its TTL: all servers are dead */
    const char *why; /* DNS_NONE, DNS_FAILED: one plain static sentence */
};

/* resolv_file and hosts_file must outlive the room; both are read again when
 * they change. port 53 unless resolv.conf says "[address]:port". */
void dns_init(const char *resolv_file, const char *hosts_file);

/* Asks; the ticket is for dns_result() and must be ended by dns_forget().
 * DNS_NO_SLOT: all slots are taken, ask again later. An address literal
 * ("192.0.2.1", "2001:db8::1") and a name of hosts_file are found at once. */
int dns_ask(const char *name, enum dns_kind kind, int64_t now_ms);

/* The state of a question; fills answer unless it is DNS_WAIT. Addresses are
 * in no order of preference but that of the servers, A and AAAA interleaved;
 * exchangers are sorted by preference, equal ones shuffled. */
enum dns_state dns_result(int ticket, struct dns_answer *answer);

/* Ends a question, answered or not; DNS_NO_SLOT is ignored. */
void dns_forget(int ticket);

void dns_prep(struct poller *p);
void dns_run(const struct poller *p, int64_t now_ms);

/* Our static memory, for the sum. */
size_t dns_memory_bytes(void);

#endif
