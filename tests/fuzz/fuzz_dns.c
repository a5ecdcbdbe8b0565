/* Replies of a hostile name server, and hostile resolv.conf and hosts files.
 *
 * The first byte picks the query's type and whether the bytes behind it are a
 * whole message, a prefix of one, or a file. The query takes its id and name
 * from the packet where it can, so that the fuzzer gets past the first
 * checks. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../dns_files.h"
#include "../../dns_packet.h"

static void check_addresses(const struct dns_records *r)
{
    for (unsigned i = 0; i < r->count; i++)
        if (!ip_is_host(&r->addresses[i]))
            abort();
}

static void check_exchangers(const struct dns_records *r)
{
    for (unsigned i = 0; i < r->count; i++) {
        const struct dns_exchanger *e = &r->exchangers[i];
        if (e->name[0] != '\0' && !dns_name_is_valid(e->name))
            abort();
        if (i > 0 && e[-1].preference > e->preference)
            abort();
    }
}

static void fuzz_packet(unsigned how, const uint8_t *data, size_t bytes)
{
    static const uint16_t types[] = {DNS_TYPE_A, DNS_TYPE_AAAA, DNS_TYPE_MX};
    struct dns_query q = {.type = types[how % 3], .name = "smtp.example.net"};
    static struct dns_records r;
    if (bytes >= 2)
        q.id = (uint16_t)(data[0] << 8 | data[1]);
    enum dns_reply reply = dns_packet_parse(&q, data, bytes, how & 4, &r);
    if (reply == DNS_REPLY_ALIAS && !dns_name_is_valid(r.alias))
        abort();
    if (reply != DNS_REPLY_RECORDS)
        return;
    if (r.count == 0 || r.count > DNS_ADDRESSES_MAX)
        abort();
    if (q.type == DNS_TYPE_MX)
        check_exchangers(&r);
    else
        check_addresses(&r);
}

/* The name goes the other way: what is built must be read as its own echo. */
static void fuzz_name(const uint8_t *data, size_t bytes)
{
    struct dns_query q = {.id = 7, .type = DNS_TYPE_A, .has_edns = true};
    static struct dns_records r;
    uint8_t packet[DNS_QUERY_BYTES];
    memcpy(q.name, data, bytes < sizeof q.name ? bytes : sizeof q.name - 1);
    size_t built = dns_packet_build(&q, packet);
    if ((built > 0) != dns_name_is_valid(q.name))
        abort();
    packet[2] |= 0x80;
    packet[3] |= 0x80;
    if (built > 0 &&
        dns_packet_parse(&q, packet, built, false, &r) != DNS_REPLY_NO_RECORD)
        abort();
}

static void fuzz_files(const uint8_t *data, size_t bytes)
{
    static int fd = -1;
    static char path[32];
    struct ip_endpoint servers[DNS_SERVERS_MAX];
    struct ip_address found[4];
    if (fd < 0) {
        fd = memfd_create("lines", 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    if (ftruncate(fd, 0) != 0 || pwrite(fd, data, bytes, 0) != (ssize_t)bytes)
        return;
    if (dns_files_servers(path, servers) > DNS_SERVERS_MAX ||
        dns_files_hosts(path, "smtp.example.net", found, 4) > 4)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    if (bytes == 0)
        return 0;
    if (data[0] == 'F')
        fuzz_files(data + 1, bytes - 1);
    else if (data[0] == 'N')
        fuzz_name(data + 1, bytes - 1);
    else
        fuzz_packet(data[0] & 7, data + 1, bytes - 1);
    return 0;
}
