/* ip: addresses, ports and networks of the Internet Protocol.
 *
 * Parses and prints them and tells whether one lies in another. An IPv4
 * address mapped into IPv6 (::ffff:192.0.2.1) is the IPv4 address.
 * Must never know: sockets, names. */
#ifndef LANPOST_IP_H
#define LANPOST_IP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#define IP_TEXT_BYTES     64 /* an address with its zone, and a NUL */
#define IP_ENDPOINT_BYTES 72 /* [address]:port, and a NUL */

struct ip_address {
    int family; /* AF_INET, AF_INET6; 0 = none */
    uint8_t bytes[16];
    uint32_t zone; /* interface index of a link-local address, else 0 */
};

struct ip_endpoint {
    struct ip_address address;
    uint16_t port;
};

struct ip_network {
    struct ip_address address;
    unsigned prefix_bits;
};

/* "192.0.2.1", "2001:db8::1", "fe80::1%eth0". */
bool ip_parse(const char *text, struct ip_address *out);

/* "192.0.2.1:25", "[::1]:25", or an address alone when port_default is not
 * 0. */
bool ip_parse_endpoint(const char *text, uint16_t port_default,
                       struct ip_endpoint *out);

/* "192.168.0.0/16", "fd00::/8", or an address alone. Bits behind the prefix
 * must be zero: 192.168.1.9/16 is a mistake that we want to name. */
bool ip_parse_network(const char *text, struct ip_network *out);

bool ip_equal(const struct ip_address *a, const struct ip_address *b);
bool ip_in_network(const struct ip_address *a, const struct ip_network *n);
bool ip_in_any(const struct ip_address *a, const struct ip_network *networks,
               unsigned count);
bool ip_is_loopback(const struct ip_address *a);

/* False for addresses that no smarthost can have: 0.0.0.0, ::, multicast,
 * 255.255.255.255. */
bool ip_is_host(const struct ip_address *a);

/* Each returns out, for use as a printf argument. */
const char *ip_format(const struct ip_address *a, char out[IP_TEXT_BYTES]);
const char *ip_format_endpoint(const struct ip_endpoint *e,
                               char out[IP_ENDPOINT_BYTES]);
/* RFC 5321 section 4.1.3: "[192.0.2.1]", "[IPv6:2001:db8::1]". */
const char *ip_format_literal(const struct ip_address *a,
                              char out[IP_ENDPOINT_BYTES]);

socklen_t ip_to_sockaddr(const struct ip_endpoint *e,
                         struct sockaddr_storage *out);
bool ip_from_sockaddr(const struct sockaddr_storage *in,
                      struct ip_endpoint *out);

#endif
