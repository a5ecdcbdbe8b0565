/* dns_packet: a DNS question to bytes, and bytes to one verdict.
 *
 * Pure: the same bytes give the same verdict, whatever they are; nothing is
 * read behind their end. RFC 1035 section 4, 2181, 6891, 9267.
 * Must never know: file descriptors, time, servers, retries. */
#ifndef LANPOST_DNS_PACKET_H
#define LANPOST_DNS_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config.h"
#include "ip.h"

#define DNS_NAME_BYTES     256 /* a name in text, and a NUL */
#define DNS_QUERY_BYTES    512 /* RFC 1035 section 2.3.4; ours have up to 282 */
#define DNS_EXCHANGERS_MAX DNS_ADDRESSES_MAX
#define DNS_ALIASES_MAX    8 /* CNAMEs on the way from a name to its records */

enum dns_type {
    DNS_TYPE_A = 1,
    DNS_TYPE_CNAME = 5,
    DNS_TYPE_MX = 15,
    DNS_TYPE_AAAA = 28,
    DNS_TYPE_OPT = 41
};

struct dns_exchanger {
    uint16_t preference;
    char name[DNS_NAME_BYTES]; /* "" = null MX (RFC 7505) */
};

struct dns_query {
    uint16_t id;
    uint16_t type; /* A, AAAA or MX */
    bool has_edns;
    char name[DNS_NAME_BYTES];
};

enum dns_reply {
    DNS_REPLY_ALIEN,     /* no answer to this query: forget that it came */
    DNS_REPLY_BROKEN,    /* it answers our query and cannot be read */
    DNS_REPLY_RECORDS,   /* out holds them */
    DNS_REPLY_ALIAS,     /* out->alias must be asked next */
    DNS_REPLY_NO_NAME,   /* NXDOMAIN */
    DNS_REPLY_NO_RECORD, /* the name exists without a (usable) record */
    DNS_REPLY_CUT,       /* TC=1: ask over TCP */
    DNS_REPLY_NO_EDNS,   /* FORMERR, NOTIMP: ask without OPT */
    DNS_REPLY_REFUSED    /* SERVFAIL, REFUSED, lame: ask another server */
};

struct dns_records {
    unsigned count;
    uint32_t ttl_seconds; /* the least of all records and aliases used */
    unsigned aliases;     /* CNAMEs followed within the packet */
    char alias[DNS_NAME_BYTES];
    union {
        struct ip_address addresses[DNS_ADDRESSES_MAX];      /* A, AAAA */
        struct dns_exchanger exchangers[DNS_EXCHANGERS_MAX]; /* MX, sorted */
    };
};

/* A name that can be asked: labels of 1 to 63 bytes, 253 in all, a trailing
 * dot allowed; letters, digits, '-' and '_'. */
bool dns_name_is_valid(const char *name);

/* The bytes written; 0: the name cannot be asked. */
size_t dns_packet_build(const struct dns_query *q,
                        uint8_t out[DNS_QUERY_BYTES]);

/* What the packet says to the query. is_prefix: the message is longer than
 * bytes, and its first whole records will do. out is filled for
 * DNS_REPLY_RECORDS and DNS_REPLY_ALIAS, and garbage otherwise. */
enum dns_reply dns_packet_parse(const struct dns_query *q, const uint8_t *data,
                                size_t bytes, bool is_prefix,
                                struct dns_records *out);

/* Adds an address unless it is there already, cannot be a host's, or the
 * table is full. */
void dns_records_add_address(struct dns_records *out,
                             const struct ip_address *a);

#endif
