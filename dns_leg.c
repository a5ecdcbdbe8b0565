/* See dns_leg.h.
 *
 *   UDP ----------------------> FOUND | NONE | FAILED
 *    | TC=1                        ^
 *    +--> TCP_SEND --> TCP_READ ---+
 *
 * A leg that must try again (next server, no OPT, an alias's target) goes back
 * to UDP with a fresh socket and id: RFC 5452 section 9.2 makes a forger guess
 * both. What does not fit the query is noise, and the deadline stands. */
#include "dns_leg.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crypto.h"
#include "dns_files.h"
#include "ip.h"
#include "log.h"
#include "poller.h"

#define ROUNDS             2  /* over all servers; the second without OPT */
#define DATAGRAMS_PER_TURN 16 /* a flood costs the others no more */

static struct server {
    struct ip_endpoint endpoint;
    bool is_plain; /* answers only queries without OPT */
} servers[DNS_SERVERS_MAX];
static unsigned server_count;
static unsigned server_last_good;
static const char *resolv_path;
static struct stat resolv_seen;

static const char WHY_SILENT[] = "no name server answers";
static const char WHY_REFUSED[] = "the name servers refuse or fail to answer";
static const char WHY_BROKEN[] = "the name server's answer makes no sense";
static const char WHY_ALIASES[] = "the name is an alias of too many aliases";
static const char WHY_NO_NAME[] = "the name does not exist";
static const char WHY_NO_ADDRESS[] = "the name has no usable address";
static const char WHY_NO_EXCHANGER[] = "the name has no mail exchanger";

/* ---- Servers ------------------------------------------------------------- */

void dns_leg_init(const char *resolv_file)
{
    resolv_path = resolv_file;
    server_count = 0;
}

bool dns_leg_refresh_servers(void)
{
    struct ip_endpoint found[DNS_SERVERS_MAX];
    bool has_changed = dns_files_has_changed(resolv_path, &resolv_seen);
    if (!has_changed && server_count > 0)
        return false;
    server_last_good = 0;
    server_count = dns_files_servers(resolv_path, found);
    if (server_count == 0) { /* as the C library has it: resolv.conf(5) */
        log_line(LOG_AT_WARN, "dns",
                 "file=%s names no server: asking 127.0.0.1", resolv_path);
        ip_parse_endpoint("127.0.0.1:53", 0, &found[0]);
        server_count = 1;
    }
    for (unsigned i = 0; i < server_count; i++)
        servers[i] = (struct server){.endpoint = found[i]};
    return true;
}

/* The next leg starts with a server that answers. */
static void server_is_good(const struct dns_leg *leg)
{
    server_last_good = leg->server;
    servers[leg->server].is_plain = !leg->query.has_edns;
}

/* ---- Legs ---------------------------------------------------------------- */

bool dns_leg_is_waiting(const struct dns_leg *leg)
{
    return leg->state >= DNS_LEG_UDP && leg->state <= DNS_LEG_TCP_READ;
}

/* The only way out of the waiting states. */
void dns_leg_end(struct dns_leg *leg, enum dns_leg_state state)
{
    if (dns_leg_is_waiting(leg))
        close(leg->fd);
    leg->state = state;
}

static bool leg_connect(struct dns_leg *leg, enum dns_leg_state state,
                        int64_t now_ms)
{
    struct sockaddr_storage to;
    int type = state == DNS_LEG_UDP ? SOCK_DGRAM : SOCK_STREAM;
    socklen_t bytes = ip_to_sockaddr(&servers[leg->server].endpoint, &to);
    dns_leg_end(leg, DNS_LEG_IDLE);
    int fd = socket(to.ss_family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return false;
    if (connect(fd, (struct sockaddr *)&to, bytes) != 0 &&
        errno != EINPROGRESS) {
        close(fd);
        return false;
    }
    leg->fd = fd;
    leg->poll_slot = POLLER_NO_SLOT;
    leg->state = state;
    leg->deadline_ms = now_ms + DNS_TIMEOUT_SECONDS * 1000;
    crypto_random(&leg->query.id, sizeof leg->query.id);
    return true;
}

/* A server that stays silent may be a home router that drops OPT (RFC 5625),
 * so the second round goes without it. */
static bool leg_send_udp(struct dns_leg *leg, int64_t now_ms)
{
    uint8_t packet[DNS_QUERY_BYTES];
    leg->server = (leg->server_first + leg->attempt) % server_count;
    leg->query.has_edns = !leg->is_plain && !servers[leg->server].is_plain &&
                          leg->attempt < server_count;
    if (!leg_connect(leg, DNS_LEG_UDP, now_ms))
        return false;
    size_t bytes = dns_packet_build(&leg->query, packet);
    return send(leg->fd, packet, bytes, MSG_NOSIGNAL) == (ssize_t)bytes;
}

/* Asks the server whose turn it is, or the first after it that can be reached
 * at all. */
static void leg_try(struct dns_leg *leg, int64_t now_ms)
{
    for (; leg->attempt < ROUNDS * server_count; leg->attempt++)
        if (leg_send_udp(leg, now_ms))
            return;
    dns_leg_end(leg, DNS_LEG_FAILED);
}

static void leg_try_next(struct dns_leg *leg, const char *why, int64_t now_ms)
{
    leg->why = why;
    leg->attempt++;
    leg_try(leg, now_ms);
}

static void leg_send_tcp(struct dns_leg *leg, int64_t now_ms)
{
    uint8_t packet[DNS_QUERY_BYTES];
    if (!leg_connect(leg, DNS_LEG_TCP_SEND, now_ms)) {
        leg_try_next(leg, WHY_SILENT, now_ms);
        return;
    }
    size_t bytes = dns_packet_build(&leg->query, packet);
    uint8_t prefix[2] = {(uint8_t)(bytes >> 8), (uint8_t)bytes};
    buf_init(&leg->io, leg->space, sizeof leg->space);
    buf_put(&leg->io, prefix, sizeof prefix);
    buf_put(&leg->io, packet, bytes);
}

static void leg_follow_alias(struct dns_leg *leg, int64_t now_ms)
{
    if (leg->aliases > DNS_ALIASES_MAX) {
        leg->why = WHY_ALIASES;
        dns_leg_end(leg, DNS_LEG_FAILED);
        return;
    }
    text_copy(leg->query.name, sizeof leg->query.name, leg->records.alias);
    leg_try(leg, now_ms);
}

static void leg_find_none(struct dns_leg *leg, enum dns_reply reply)
{
    if (reply == DNS_REPLY_NO_NAME)
        leg->why = WHY_NO_NAME;
    else if (leg->query.type == DNS_TYPE_MX)
        leg->why = WHY_NO_EXCHANGER;
    else
        leg->why = WHY_NO_ADDRESS;
    dns_leg_end(leg, DNS_LEG_NONE);
}

static void leg_add_aliases(struct dns_leg *leg)
{
    leg->aliases += leg->records.aliases;
    if (leg->records.ttl_seconds < leg->ttl_seconds)
        leg->ttl_seconds = leg->records.ttl_seconds;
}

/* What a reply means. An alien one is noise on UDP, where it may be forged,
 * and a fault on TCP. */
static void leg_take_reply(struct dns_leg *leg, enum dns_reply reply,
                           int64_t now_ms)
{
    bool is_tcp = leg->state == DNS_LEG_TCP_READ;
    switch (reply) {
    case DNS_REPLY_RECORDS:
        server_is_good(leg);
        leg_add_aliases(leg);
        dns_leg_end(leg, DNS_LEG_FOUND);
        break;
    case DNS_REPLY_ALIAS:
        server_is_good(leg);
        leg_add_aliases(leg);
        leg_follow_alias(leg, now_ms);
        break;
    case DNS_REPLY_NO_NAME:
    case DNS_REPLY_NO_RECORD:
        server_is_good(leg);
        leg_find_none(leg, reply);
        break;
    case DNS_REPLY_CUT:
        if (is_tcp)
            leg_try_next(leg, WHY_BROKEN, now_ms);
        else
            leg_send_tcp(leg, now_ms);
        break;
    case DNS_REPLY_NO_EDNS:
        leg->is_plain = true;
        if (leg->query.has_edns)
            leg_try(leg, now_ms);
        else
            leg_try_next(leg, WHY_REFUSED, now_ms);
        break;
    case DNS_REPLY_REFUSED: leg_try_next(leg, WHY_REFUSED, now_ms); break;
    case DNS_REPLY_BROKEN: leg_try_next(leg, WHY_BROKEN, now_ms); break;
    case DNS_REPLY_ALIEN:
        if (is_tcp)
            leg_try_next(leg, WHY_BROKEN, now_ms);
        break;
    }
}

static bool is_again(ssize_t got)
{
    return got < 0 && (errno == EAGAIN || errno == EINTR);
}

/* An error is the ICMP answer to our datagram: nobody listens there. */
static void leg_read_udp(struct dns_leg *leg, int64_t now_ms)
{
    for (int i = 0; i < DATAGRAMS_PER_TURN; i++) {
        ssize_t got = recv(leg->fd, leg->space, sizeof leg->space, 0);
        if (is_again(got))
            return;
        if (got < 0) {
            leg_try_next(leg, WHY_SILENT, now_ms);
            return;
        }
        enum dns_reply reply = dns_packet_parse(
            &leg->query, leg->space, (size_t)got, false, &leg->records);
        if (reply != DNS_REPLY_ALIEN) {
            leg_take_reply(leg, reply, now_ms);
            return;
        }
    }
}

static void leg_write_tcp(struct dns_leg *leg, int64_t now_ms)
{
    ssize_t sent =
        send(leg->fd, buf_data(&leg->io), buf_len(&leg->io), MSG_NOSIGNAL);
    if (is_again(sent))
        return;
    if (sent < 0) {
        leg_try_next(leg, WHY_SILENT, now_ms);
        return;
    }
    buf_take(&leg->io, (size_t)sent);
    if (buf_len(&leg->io) == 0) {
        buf_clear(&leg->io);
        leg->state = DNS_LEG_TCP_READ;
    }
}

/* A message longer than our room is taken as soon as the room is full: its
 * first records are all we want. */
static void leg_read_tcp(struct dns_leg *leg, int64_t now_ms)
{
    size_t room;
    uint8_t *tail = buf_tail(&leg->io, &room);
    ssize_t got = recv(leg->fd, tail, room, 0);
    if (is_again(got))
        return;
    if (got <= 0) {
        leg_try_next(leg, WHY_SILENT, now_ms);
        return;
    }
    buf_wrote(&leg->io, (size_t)got);
    const uint8_t *data = buf_data(&leg->io);
    if (buf_len(&leg->io) < 2)
        return;
    size_t announced = (size_t)data[0] << 8 | data[1];
    size_t wanted =
        announced < DNS_MESSAGE_BYTES ? announced : DNS_MESSAGE_BYTES;
    if (buf_len(&leg->io) - 2 < wanted)
        return;
    leg_take_reply(leg,
                   dns_packet_parse(&leg->query, data + 2, wanted,
                                    wanted < announced, &leg->records),
                   now_ms);
}

void dns_leg_start(struct dns_leg *leg, const char *name, enum dns_type type,
                   int64_t now_ms)
{
    *leg = (struct dns_leg){.server_first = server_last_good,
                            .ttl_seconds = UINT32_MAX,
                            .why = WHY_SILENT,
                            .query.type = (uint16_t)type};
    text_copy(leg->query.name, sizeof leg->query.name, name);
    leg_try(leg, now_ms);
}

void dns_leg_prep(struct dns_leg *leg, struct poller *p)
{
    if (!dns_leg_is_waiting(leg))
        return;
    leg->poll_slot = poller_add(
        p, leg->fd, leg->state == DNS_LEG_TCP_SEND ? POLLOUT : POLLIN);
    poller_wake_at(p, leg->deadline_ms);
}

void dns_leg_run(struct dns_leg *leg, const struct poller *p, int64_t now_ms)
{
    if (!dns_leg_is_waiting(leg))
        return;
    if (poller_events(p, leg->poll_slot, leg->fd) != 0) {
        if (leg->state == DNS_LEG_UDP)
            leg_read_udp(leg, now_ms);
        else if (leg->state == DNS_LEG_TCP_SEND)
            leg_write_tcp(leg, now_ms);
        else
            leg_read_tcp(leg, now_ms);
    }
    if (dns_leg_is_waiting(leg) && now_ms >= leg->deadline_ms)
        leg_try_next(leg, WHY_SILENT, now_ms);
}

size_t dns_leg_memory_bytes(void)
{
    return sizeof servers;
}
