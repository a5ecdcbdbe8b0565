/* See ip.h. */
#include "ip.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static size_t address_bytes(const struct ip_address *a)
{
    return a->family == AF_INET ? 4 : 16;
}

static void unmap_ipv4(struct ip_address *a)
{
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255};
    if (a->family != AF_INET6 || memcmp(a->bytes, mapped, sizeof mapped) != 0)
        return;
    struct ip_address v4 = {.family = AF_INET};
    memcpy(v4.bytes, a->bytes + 12, 4);
    *a = v4;
}

static bool parse_number(const char *text, unsigned long limit,
                         unsigned long *out)
{
    if (*text < '0' || *text > '9')
        return false;
    char *end;
    *out = strtoul(text, &end, 10);
    return *end == '\0' && *out <= limit;
}

static bool parse_zone(const char *text, uint32_t *zone)
{
    unsigned long number;
    *zone = if_nametoindex(text);
    if (*zone != 0)
        return true;
    if (!parse_number(text, UINT32_MAX, &number))
        return false;
    *zone = (uint32_t)number;
    return number != 0;
}

bool ip_parse(const char *text, struct ip_address *out)
{
    struct ip_address a = {.family = AF_INET};
    if (inet_pton(AF_INET, text, a.bytes) == 1) {
        *out = a;
        return true;
    }
    a.family = AF_INET6;
    char address[IP_TEXT_BYTES];
    size_t length = strcspn(text, "%");
    if (length >= sizeof address)
        return false;
    memcpy(address, text, length);
    address[length] = '\0';
    if (inet_pton(AF_INET6, address, a.bytes) != 1)
        return false;
    if (text[length] == '%' && !parse_zone(text + length + 1, &a.zone))
        return false;
    unmap_ipv4(&a);
    *out = a;
    return true;
}

/* Splits "address<mark>number" at the mark; the address may stand in
 * brackets. rest = behind the mark, or NULL. */
static bool split_address(const char *text, char mark,
                          char address[IP_TEXT_BYTES], const char **rest)
{
    const char *start = text, *end = strrchr(text, mark);
    if (*text == '[') {
        start = text + 1;
        end = strchr(start, ']');
        if (end == NULL || (end[1] != '\0' && end[1] != mark))
            return false;
        *rest = end[1] == mark ? end + 2 : NULL;
    } else {
        /* Two colons and no brackets: an IPv6 address without a port. */
        if (mark == ':' && end != NULL && strchr(text, ':') != end)
            end = NULL;
        *rest = end ? end + 1 : NULL;
        if (end == NULL)
            end = text + strlen(text);
    }
    size_t length = (size_t)(end - start);
    if (length >= IP_TEXT_BYTES)
        return false;
    memcpy(address, start, length);
    address[length] = '\0';
    return true;
}

bool ip_parse_endpoint(const char *text, uint16_t port_default,
                       struct ip_endpoint *out)
{
    char address[IP_TEXT_BYTES];
    const char *port_text;
    unsigned long port = port_default;
    if (!split_address(text, ':', address, &port_text) ||
        !ip_parse(address, &out->address))
        return false;
    if (port_text && !parse_number(port_text, 65535, &port))
        return false;
    out->port = (uint16_t)port;
    return port != 0;
}

static bool host_bits_are_zero(const struct ip_network *n)
{
    for (size_t i = 0; i < address_bytes(&n->address); i++) {
        unsigned start = (unsigned)i * 8;
        unsigned kept = n->prefix_bits <= start ? 0 : n->prefix_bits - start;
        uint8_t mask = kept >= 8 ? 0 : (uint8_t)(0xff >> kept);
        if (n->address.bytes[i] & mask)
            return false;
    }
    return true;
}

bool ip_parse_network(const char *text, struct ip_network *out)
{
    char address[IP_TEXT_BYTES];
    const char *prefix;
    if (!split_address(text, '/', address, &prefix) ||
        !ip_parse(address, &out->address))
        return false;
    unsigned long widest = address_bytes(&out->address) * 8;
    unsigned long bits = widest;
    if (prefix && !parse_number(prefix, widest, &bits))
        return false;
    out->prefix_bits = (unsigned)bits;
    return host_bits_are_zero(out);
}

bool ip_equal(const struct ip_address *a, const struct ip_address *b)
{
    return a->family == b->family && a->zone == b->zone &&
           memcmp(a->bytes, b->bytes, address_bytes(a)) == 0;
}

bool ip_in_network(const struct ip_address *a, const struct ip_network *n)
{
    if (a->family != n->address.family)
        return false;
    unsigned whole = n->prefix_bits / 8, rest = n->prefix_bits % 8;
    if (memcmp(a->bytes, n->address.bytes, whole) != 0)
        return false;
    return rest == 0 ||
           (a->bytes[whole] ^ n->address.bytes[whole]) >> (8 - rest) == 0;
}

bool ip_in_any(const struct ip_address *a, const struct ip_network *networks,
               unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (ip_in_network(a, &networks[i]))
            return true;
    return false;
}

bool ip_is_loopback(const struct ip_address *a)
{
    static const uint8_t one[16] = {[15] = 1};
    if (a->family == AF_INET)
        return a->bytes[0] == 127;
    return a->family == AF_INET6 && memcmp(a->bytes, one, 16) == 0;
}

bool ip_is_host(const struct ip_address *a)
{
    static const uint8_t none[16] = {0};
    if (a->family == AF_INET) /* 0/8 is "this network"; 224/4 up is no host */
        return a->bytes[0] != 0 && a->bytes[0] < 224;
    return a->family == AF_INET6 && a->bytes[0] != 0xff &&
           memcmp(a->bytes, none, 16) != 0;
}

const char *ip_format(const struct ip_address *a, char out[IP_TEXT_BYTES])
{
    if (a->family == 0 || !inet_ntop(a->family, a->bytes, out, IP_TEXT_BYTES)) {
        snprintf(out, IP_TEXT_BYTES, "-");
        return out;
    }
    size_t length = strlen(out);
    if (a->zone != 0)
        snprintf(out + length, IP_TEXT_BYTES - length, "%%%u", a->zone);
    return out;
}

const char *ip_format_endpoint(const struct ip_endpoint *e,
                               char out[IP_ENDPOINT_BYTES])
{
    char text[IP_TEXT_BYTES];
    ip_format(&e->address, text);
    snprintf(out, IP_ENDPOINT_BYTES,
             e->address.family == AF_INET6 ? "[%s]:%u" : "%s:%u", text,
             e->port);
    return out;
}

const char *ip_format_literal(const struct ip_address *a,
                              char out[IP_ENDPOINT_BYTES])
{
    char text[IP_TEXT_BYTES];
    struct ip_address plain = *a;
    plain.zone = 0; /* a zone means nothing to another machine */
    ip_format(&plain, text);
    snprintf(out, IP_ENDPOINT_BYTES,
             a->family == AF_INET6 ? "[IPv6:%s]" : "[%s]", text);
    return out;
}

socklen_t ip_to_sockaddr(const struct ip_endpoint *e,
                         struct sockaddr_storage *out)
{
    memset(out, 0, sizeof *out);
    if (e->address.family == AF_INET) {
        struct sockaddr_in *in = (struct sockaddr_in *)out;
        in->sin_family = AF_INET;
        in->sin_port = htons(e->port);
        memcpy(&in->sin_addr, e->address.bytes, 4);
        return sizeof *in;
    }
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)out;
    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons(e->port);
    in6->sin6_scope_id = e->address.zone;
    memcpy(&in6->sin6_addr, e->address.bytes, 16);
    return sizeof *in6;
}

bool ip_from_sockaddr(const struct sockaddr_storage *in,
                      struct ip_endpoint *out)
{
    memset(out, 0, sizeof *out);
    if (in->ss_family == AF_INET) {
        const struct sockaddr_in *in4 = (const struct sockaddr_in *)in;
        out->address.family = AF_INET;
        out->port = ntohs(in4->sin_port);
        memcpy(out->address.bytes, &in4->sin_addr, 4);
        return true;
    }
    if (in->ss_family != AF_INET6)
        return false;
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)in;
    out->address.family = AF_INET6;
    out->address.zone = in6->sin6_scope_id;
    out->port = ntohs(in6->sin6_port);
    memcpy(out->address.bytes, &in6->sin6_addr, 16);
    unmap_ipv4(&out->address);
    return true;
}
