/* dns, dns_leg, dns_packet, dns_files: the parser by tables, the resolver as
 * a dialogue with a name server that this test plays itself. The clock is
 * invented, so no test sleeps through a timeout. */
#include <arpa/inet.h>
#include <check.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../crypto.h"
#include "../dns.h"
#include "../dns_files.h"
#include "../log.h"
#include "../poller.h"
Suite *suite_dns(void);

#define NAME     "smtp.example.net"
#define TIMEOUT  (DNS_TIMEOUT_SECONDS * 1000)
#define RESPONSE 0x8180 /* QR, RD, RA */
#define NXDOMAIN 3
#define SERVFAIL 2
#define TC       0x0200

/* ---- Packets ------------------------------------------------------------- */

struct packet {
    uint8_t data[66000];
    size_t bytes;
};

static struct packet pk;

static void put(const void *data, size_t count)
{
    ck_assert(pk.bytes + count <= sizeof pk.data);
    memcpy(pk.data + pk.bytes, data, count);
    pk.bytes += count;
}

static void put16(unsigned value)
{
    put((uint8_t[]){(uint8_t)(value >> 8), (uint8_t)value}, 2);
}

/* "" is the root, "@" a pointer to the question's name. */
static void put_name(const char *name)
{
    if (strcmp(name, "@") == 0) {
        put16(0xc00c);
        return;
    }
    while (*name) {
        uint8_t length = (uint8_t)strcspn(name, ".");
        put(&length, 1);
        put(name, length);
        name += length + (name[length] == '.');
    }
    put("", 1);
}

static void start(unsigned id, unsigned flags, const char *name, unsigned type,
                  unsigned answers)
{
    pk.bytes = 0;
    put16(id), put16(flags), put16(1), put16(answers), put16(0), put16(0);
    put_name(name);
    put16(type), put16(1);
}

static void record(const char *owner, unsigned type, uint32_t ttl,
                   const void *data, size_t count)
{
    put_name(owner);
    put16(type), put16(1), put16(ttl >> 16), put16(ttl & 0xffff);
    put16((unsigned)count);
    put(data, count);
}

static void address(const char *owner, const char *text, uint32_t ttl)
{
    struct ip_address a = {0};
    bool is_v6 = strchr(text, ':') != NULL;
    inet_pton(is_v6 ? AF_INET6 : AF_INET, text, a.bytes);
    record(owner, is_v6 ? 28 : 1, ttl, a.bytes, is_v6 ? 16 : 4);
}

static void name_record(const char *owner, unsigned type, int preference,
                        const char *target)
{
    put_name(owner);
    put16(type), put16(1), put16(0), put16(300);
    size_t at = pk.bytes;
    put16(0);
    if (preference >= 0)
        put16((unsigned)preference);
    put_name(target);
    pk.data[at] = (uint8_t)((pk.bytes - at - 2) >> 8);
    pk.data[at + 1] = (uint8_t)(pk.bytes - at - 2);
}

static void cname(const char *owner, const char *target)
{
    name_record(owner, 5, -1, target);
}

static const struct dns_query query_a = {
    .id = 0x1234, .type = DNS_TYPE_A, .name = NAME};
static struct dns_records found;

static enum dns_reply parse(const struct dns_query *q)
{
    /* An exact copy on the heap, so that the sanitizer sees one byte more. */
    uint8_t *copy = malloc(pk.bytes ? pk.bytes : 1);
    memcpy(copy, pk.data, pk.bytes);
    enum dns_reply reply = dns_packet_parse(q, copy, pk.bytes, false, &found);
    free(copy);
    return reply;
}

static void start_a(unsigned answers)
{
    start(0x1234, RESPONSE, NAME, DNS_TYPE_A, answers);
}

static const char *text_of(const struct ip_address *a)
{
    static char out[IP_TEXT_BYTES];
    return ip_format(a, out);
}

/* ---- Packet tests -------------------------------------------------------- */

START_TEST(d1_packet_must_answer_the_query)
{
    static const struct {
        unsigned id, flags, type;
        const char *name;
        enum dns_reply reply;
    } rows[] = {
        {0x1234, RESPONSE, 1, NAME, DNS_REPLY_RECORDS},
        {0x1234, RESPONSE, 1, "SMTP.eXample.NET", DNS_REPLY_RECORDS},
        {0x1235, RESPONSE, 1, NAME, DNS_REPLY_ALIEN},
        {0x3412, RESPONSE, 1, NAME, DNS_REPLY_ALIEN},
        {0x1234, 0x0100, 1, NAME, DNS_REPLY_ALIEN},
        {0x1234, 0x8980, 1, NAME, DNS_REPLY_ALIEN},
        {0x1234, 0xa980, 1, NAME, DNS_REPLY_ALIEN},
        {0x1234, RESPONSE, 28, NAME, DNS_REPLY_ALIEN},
        {0x1234, RESPONSE, 1, "smtp.example.ne", DNS_REPLY_ALIEN},
        {0x1234, RESPONSE, 1, "smtp.example.nets", DNS_REPLY_ALIEN},
        {0x1234, RESPONSE, 1, "", DNS_REPLY_ALIEN},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        start(rows[i].id, rows[i].flags, rows[i].name, rows[i].type, 1);
        address("@", "192.0.2.1", 300);
        ck_assert_msg(parse(&query_a) == rows[i].reply, "row %zu", i);
    }
    start_a(1);
    pk.data[pk.bytes - 1] = 3; /* class CHAOS */
    address("@", "192.0.2.1", 300);
    ck_assert_int_eq(parse(&query_a), DNS_REPLY_ALIEN);
    for (unsigned questions = 0; questions < 3; questions++) {
        start_a(0);
        pk.data[5] = (uint8_t)questions;
        ck_assert_int_eq(parse(&query_a) == DNS_REPLY_ALIEN, questions != 1);
    }
    start_a(1); /* one label with a dot in it is not two labels */
    pk.data[12] = 12;
    pk.data[17] = '.';
    ck_assert_int_eq(parse(&query_a), DNS_REPLY_ALIEN);
}
END_TEST

START_TEST(d3_packet_short)
{
    start_a(1);
    address("@", "192.0.2.1", 300);
    for (size_t bytes = 0; bytes <= 12; bytes++) {
        pk.bytes = bytes;
        ck_assert_int_eq(parse(&query_a), DNS_REPLY_ALIEN);
    }
}
END_TEST

START_TEST(d4_packet_cut_at_every_byte)
{
    start_a(3);
    size_t question = pk.bytes;
    cname("@", "a.example.net");
    address("a.example.net", "192.0.2.1", 300);
    record("other.example", 99, 1, "xyz", 3);
    for (size_t bytes = 0, whole = pk.bytes; bytes <= whole; bytes++) {
        pk.bytes = bytes;
        enum dns_reply expected = bytes < question ? DNS_REPLY_ALIEN
                                  : bytes < whole  ? DNS_REPLY_BROKEN
                                                   : DNS_REPLY_RECORDS;
        ck_assert_msg(parse(&query_a) == expected, "at %zu", bytes);
    }
}
END_TEST

/* The owner of the one answer is made of these bytes; 34 is where it lies. */
START_TEST(d4_packet_compression)
{
    static const struct {
        const char *bytes;
        size_t count;
        enum dns_reply reply;
    } rows[] = {
        {"\xc0\x0c", 2, DNS_REPLY_RECORDS},
        {"\xc0\x22", 2, DNS_REPLY_BROKEN},          /* itself */
        {"\xc0\x24", 2, DNS_REPLY_BROKEN},          /* forward */
        {"\xff\xff", 2, DNS_REPLY_BROKEN},          /* far away */
        {"\xc0\x00", 2, DNS_REPLY_BROKEN},          /* the header */
        {"\xc0\x0b", 2, DNS_REPLY_BROKEN},          /* its last byte */
        {"\x01x\xc0\x22", 4, DNS_REPLY_BROKEN},     /* a loop */
        {"\x01x\xc0\x0c", 4, DNS_REPLY_NO_RECORD},  /* x.smtp... */
        {"\x04smtp\xc0\x11", 7, DNS_REPLY_RECORDS}, /* example.net */
        {"\x40", 1, DNS_REPLY_BROKEN},              /* reserved: 01 */
        {"\x80", 1, DNS_REPLY_BROKEN},              /* reserved: 10 */
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        start_a(1);
        ck_assert_uint_eq(pk.bytes, 34);
        put(rows[i].bytes, rows[i].count);
        put("\0\1\0\1\0\0\1\0\0\4\xc0\0\2\1", 14);
        ck_assert_msg(parse(&query_a) == rows[i].reply, "row %zu", i);
    }
    start_a(1);
    put("\xc0", 1); /* half a pointer at the end */
    ck_assert_int_eq(parse(&query_a), DNS_REPLY_BROKEN);
}
END_TEST

/* Pointers that each lead to the one before: strictly backwards, and too
 * many. */
START_TEST(d4_packet_pointer_staircase)
{
    start_a(2);
    put("", 1);
    put16(99), put16(1), put16(0), put16(0), put16(2 * 200);
    for (unsigned i = 0; i < 200; i++)
        put16(0xc000 | (i == 0 ? 12 : pk.bytes - 2));
    put16(0xc000 | (unsigned)(pk.bytes - 2));
    put("\0\1\0\1\0\0\1\0\0\4\xc0\0\2\1", 14);
    ck_assert_int_eq(parse(&query_a), DNS_REPLY_BROKEN);
}
END_TEST

static enum dns_reply parse_alias_of(size_t label, size_t count, size_t last)
{
    char target[400] = "";
    for (size_t i = 0; i <= count; i++) {
        size_t length = i < count ? label : last, used = strlen(target);
        if (length > 0 && used > 0)
            target[used++] = '.';
        memset(target + used, 'a', length);
        target[used + length] = '\0';
    }
    start_a(1);
    cname("@", target);
    return parse(&query_a);
}

START_TEST(d4_packet_name_limits)
{
    ck_assert_int_eq(parse_alias_of(63, 1, 0), DNS_REPLY_ALIAS);
    ck_assert_int_eq(parse_alias_of(64, 1, 0), DNS_REPLY_BROKEN);
    ck_assert_int_eq(parse_alias_of(1, 127, 0), DNS_REPLY_ALIAS);
    ck_assert_int_eq(parse_alias_of(1, 128, 0), DNS_REPLY_BROKEN);
    ck_assert_int_eq(parse_alias_of(63, 3, 61), DNS_REPLY_ALIAS); /* 255 */
    ck_assert_uint_eq(strlen(found.alias), 253);
    ck_assert_int_eq(parse_alias_of(63, 3, 62), DNS_REPLY_BROKEN); /* 256 */
}
END_TEST

START_TEST(d5_packet_rdlength)
{
    static const struct {
        unsigned type, announced, given;
        enum dns_reply reply;
    } rows[] = {
        {1, 4, 4, DNS_REPLY_RECORDS},    {1, 0, 0, DNS_REPLY_BROKEN},
        {1, 3, 3, DNS_REPLY_BROKEN},     {1, 5, 5, DNS_REPLY_BROKEN},
        {1, 5, 4, DNS_REPLY_BROKEN},     {1, 65535, 4, DNS_REPLY_BROKEN},
        {28, 16, 16, DNS_REPLY_RECORDS}, {28, 15, 15, DNS_REPLY_BROKEN},
        {28, 17, 17, DNS_REPLY_BROKEN},  {28, 16, 15, DNS_REPLY_BROKEN},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct dns_query q = query_a;
        q.type = (uint16_t)rows[i].type;
        start(0x1234, RESPONSE, NAME, rows[i].type, 1);
        put_name("@");
        put16(rows[i].type), put16(1), put16(0), put16(60);
        put16(rows[i].announced);
        put("\x20\1\2\3\4\5\6\7\x08\x09\1\2\3\4\5\6\7", rows[i].given);
        ck_assert_msg(parse(&q) == rows[i].reply, "row %zu", i);
    }
}
END_TEST

START_TEST(d5_packet_counts_without_data)
{
    start_a(65535);
    ck_assert_int_eq(parse(&query_a), DNS_REPLY_BROKEN);
    memset(pk.data + 6, 0xff, 6);
    ck_assert_int_eq(parse(&query_a), DNS_REPLY_BROKEN);
    start_a(0); /* authority and additional are none of our business */
    memset(pk.data + 8, 0xff, 4);
    ck_assert_int_eq(parse(&query_a), DNS_REPLY_NO_RECORD);
    start_a(65535);
    memset(pk.data + 4, 0xff, 2);
    ck_assert_int_eq(parse(&query_a), DNS_REPLY_ALIEN);
}
END_TEST

static void chain(unsigned aliases)
{
    char owner[32] = "@", target[32];
    start_a(aliases + 1);
    for (unsigned i = 0; i < aliases; i++) {
        snprintf(target, sizeof target, "c%u.example", i);
        cname(owner, target);
        strcpy(owner, target);
    }
    address(owner, "192.0.2.7", 300);
}

START_TEST(d6_packet_aliases)
{
    chain(8);
    ck_assert_int_eq(parse(&query_a), DNS_REPLY_RECORDS);
    ck_assert_str_eq(text_of(&found.addresses[0]), "192.0.2.7");
    chain(9);
    ck_assert_int_eq(parse(&query_a), DNS_REPLY_BROKEN);

    start_a(2); /* the order of records means nothing */
    address("b.example", "192.0.2.8", 300);
    cname("@", "B.example");
    ck_assert_int_eq(parse(&query_a), DNS_REPLY_RECORDS);
    ck_assert_uint_eq(found.aliases, 1);

    start_a(1); /* a loop of one */
    cname("@", NAME);
    ck_assert_int_eq(parse(&query_a), DNS_REPLY_BROKEN);
    start_a(2); /* and of two */
    cname("@", "b.example");
    cname("b.example", "@");
    ck_assert_int_eq(parse(&query_a), DNS_REPLY_BROKEN);

    start_a(2); /* the target is missing, another's address is not ours */
    cname("@", "b.example");
    address("evil.example", "192.0.2.66", 300);
    ck_assert_int_eq(parse(&query_a), DNS_REPLY_ALIAS);
    ck_assert_str_eq(found.alias, "b.example");

    start_a(1); /* the root, and a name that no host has */
    cname("@", "");
    ck_assert_int_eq(parse(&query_a), DNS_REPLY_BROKEN);
    start_a(1);
    cname("@", "a b.example");
    ck_assert_int_eq(parse(&query_a), DNS_REPLY_BROKEN);

    start_a(0); /* an address that stands in the additional section */
    pk.data[11] = 1;
    address("@", "192.0.2.1", 300);
    ck_assert_int_eq(parse(&query_a), DNS_REPLY_NO_RECORD);

    start_a(2); /* another class, then the right one */
    address("@", "192.0.2.1", 300);
    pk.data[pk.bytes - 11] = 3;
    address("@", "192.0.2.2", 300);
    ck_assert_int_eq(parse(&query_a), DNS_REPLY_RECORDS);
    ck_assert_uint_eq(found.count, 1);
    ck_assert_str_eq(text_of(&found.addresses[0]), "192.0.2.2");
}
END_TEST

START_TEST(d8_packet_codes)
{
    static const struct {
        unsigned flags;
        enum dns_reply reply;
    } rows[] = {
        {0x8180, DNS_REPLY_NO_RECORD},    {0x8580, DNS_REPLY_NO_RECORD},
        {0x8400, DNS_REPLY_NO_RECORD}, /* knows it without asking */
        {0x8100, DNS_REPLY_REFUSED},   /* a referral */
        {0x8181, DNS_REPLY_NO_EDNS},      {0x8182, DNS_REPLY_REFUSED},
        {0x8183, DNS_REPLY_NO_NAME},      {0x8184, DNS_REPLY_NO_EDNS},
        {0x8185, DNS_REPLY_REFUSED},      {0x8189, DNS_REPLY_REFUSED},
        {0x818f, DNS_REPLY_REFUSED},      {0x8180 | TC, DNS_REPLY_CUT},
        {0x8182 | TC, DNS_REPLY_REFUSED},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        start(0x1234, rows[i].flags, NAME, 1, 0);
        ck_assert_msg(parse(&query_a) == rows[i].reply, "row %zu", i);
    }
}
END_TEST

START_TEST(d10_packet_500_addresses)
{
    char text[32];
    start_a(500);
    for (unsigned i = 0; i < 500; i++) {
        snprintf(text, sizeof text, "192.0.%u.%u", i / 200, i % 200 + 1);
        address("@", text, 300);
    }
    ck_assert_int_eq(parse(&query_a), DNS_REPLY_RECORDS);
    ck_assert_uint_eq(found.count, DNS_ADDRESSES_MAX);
    /* A prefix of it does as well, wherever it is cut. */
    for (size_t bytes = 34 + 16; bytes < 34 + 64; bytes++)
        ck_assert_int_eq(
            dns_packet_parse(&query_a, pk.data, bytes, true, &found),
            DNS_REPLY_RECORDS);
}
END_TEST

START_TEST(d10_packet_unusable_addresses)
{
    static const char *const rows[] = {
        "192.0.2.1", "0.0.0.0",         "192.0.2.1", "127.0.0.1",
        "224.0.0.1", "255.255.255.255", "10.0.0.1"};
    start_a(7);
    for (int i = 0; i < 7; i++)
        address("@", rows[i], 300);
    ck_assert_int_eq(parse(&query_a), DNS_REPLY_RECORDS);
    ck_assert_uint_eq(found.count, 3);
    ck_assert_str_eq(text_of(&found.addresses[0]), "192.0.2.1");
    ck_assert_str_eq(text_of(&found.addresses[1]), "127.0.0.1");
    ck_assert_str_eq(text_of(&found.addresses[2]), "10.0.0.1");

    static const char *const rows6[] = {
        "::", "ff02::1", "fe80::1", "::ffff:0.0.0.0", "::1", "2001:db8::1"};
    struct dns_query q = query_a;
    q.type = DNS_TYPE_AAAA;
    start(0x1234, RESPONSE, NAME, 28, 6);
    for (int i = 0; i < 6; i++)
        address("@", rows6[i], 300);
    ck_assert_int_eq(parse(&q), DNS_REPLY_RECORDS);
    ck_assert_uint_eq(found.count, 2);

    start_a(1);
    address("@", "0.0.0.0", 300);
    ck_assert_int_eq(parse(&query_a), DNS_REPLY_NO_RECORD);
}
END_TEST

START_TEST(d11_packet_ttl)
{
    start_a(3);
    address("@", "192.0.2.1", 500);
    address("@", "192.0.2.2", 400);
    address("other.example", "192.0.2.3", 1);
    ck_assert_int_eq(parse(&query_a), DNS_REPLY_RECORDS);
    ck_assert_uint_eq(found.ttl_seconds, 400);
    static const uint32_t rows[][2] = {
        {0, 0},
        {0x7fffffff, 0x7fffffff},
        {0x80000000, 0},
        {0xffffffff, 0},
    };
    for (int i = 0; i < 4; i++) {
        start_a(1);
        address("@", "192.0.2.1", rows[i][0]);
        parse(&query_a);
        ck_assert_uint_eq(found.ttl_seconds, rows[i][1]);
    }
}
END_TEST

static const struct dns_query query_mx = {
    .id = 0x1234, .type = DNS_TYPE_MX, .name = NAME};

START_TEST(mx_packet)
{
    start(0x1234, RESPONSE, NAME, 15, 5);
    name_record("@", 15, 20, "b.example");
    name_record("@", 15, 5, "a.example");
    name_record("@", 15, 20, "c.example");
    name_record("@", 15, 1, "not a name");
    name_record("@", 15, 0, "");
    ck_assert_int_eq(parse(&query_mx), DNS_REPLY_RECORDS);
    ck_assert_uint_eq(found.count, 3);
    ck_assert_str_eq(found.exchangers[0].name, "a.example");
    ck_assert_str_eq(found.exchangers[1].name, "b.example");
    ck_assert_str_eq(found.exchangers[2].name, "c.example");

    start(0x1234, RESPONSE, NAME, 15, 1); /* null MX */
    name_record("@", 15, 0, "");
    ck_assert_int_eq(parse(&query_mx), DNS_REPLY_RECORDS);
    ck_assert_uint_eq(found.count, 1);
    ck_assert_str_eq(found.exchangers[0].name, "");

    start(0x1234, RESPONSE, NAME, 15, 40); /* the best of too many */
    for (int i = 40; i > 0; i--)
        name_record("@", 15, i, "m.example");
    ck_assert_int_eq(parse(&query_mx), DNS_REPLY_RECORDS);
    ck_assert_uint_eq(found.count, DNS_EXCHANGERS_MAX);
    ck_assert_uint_eq(found.exchangers[0].preference, 1);

    static const struct {
        const char *bytes;
        size_t count;
    } broken[] = {{"", 0}, {"\0", 1}, {"\0\1", 2}, {"\0\1\1a\0x", 6}};
    for (int i = 0; i < 4; i++) {
        start(0x1234, RESPONSE, NAME, 15, 1);
        record("@", 15, 60, broken[i].bytes, broken[i].count);
        ck_assert_int_eq(parse(&query_mx), DNS_REPLY_BROKEN);
    }
}
END_TEST

START_TEST(d15_names)
{
    char long_name[300];
    memset(long_name, 'a', sizeof long_name);
    static const struct {
        const char *name;
        bool is_valid;
    } rows[] = {
        {"a", true},
        {"smtp.example.net", true},
        {"example.", true},
        {"_smtp._tcp.x-1.y", true},
        {"9.example", true},
        {"-a.example", true},
        {"", false},
        {".", false},
        {"..", false},
        {".a", false},
        {"a..b", false},
        {"a..", false},
        {"a b.example", false},
        {"m\xc3\xbcller.de", false},
        {"a/b", false},
        {"a\n.example", false},
        {"[192.0.2.1]", false},
        {"a@b", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        ck_assert_msg(dns_name_is_valid(rows[i].name) == rows[i].is_valid,
                      "row %zu", i);
    long_name[63] = '\0';
    ck_assert(dns_name_is_valid(long_name));
    long_name[63] = 'a', long_name[64] = '\0';
    ck_assert(!dns_name_is_valid(long_name));
    for (int i = 63; i < 299; i += 64)
        long_name[i] = '.';
    long_name[64] = 'a', long_name[253] = '\0';
    ck_assert(dns_name_is_valid(long_name));
    long_name[253] = '.', long_name[254] = '\0';
    ck_assert(dns_name_is_valid(long_name));
    long_name[253] = 'a';
    ck_assert(!dns_name_is_valid(long_name));
    long_name[254] = 'a', long_name[299] = '\0';
    ck_assert(!dns_name_is_valid(long_name));
}
END_TEST

START_TEST(query_bytes)
{
    uint8_t out[DNS_QUERY_BYTES];
    struct dns_query q = {.id = 0xabcd, .type = 28, .name = "a.bc"};
    static const char plain[] = "\xab\xcd\1\0\0\1\0\0\0\0\0\0"
                                "\1a\2bc\0\0\x1c\0\1";
    ck_assert_uint_eq(dns_packet_build(&q, out), sizeof plain - 1);
    ck_assert_mem_eq(out, plain, sizeof plain - 1);
    q.has_edns = true;
    ck_assert_uint_eq(dns_packet_build(&q, out), sizeof plain - 1 + 11);
    ck_assert_uint_eq(out[11], 1);
    ck_assert_mem_eq(out + sizeof plain - 1, "\0\0\x29\x04\xd0\0\0\0\0\0\0",
                     11);
    strcpy(q.name, "a..b");
    ck_assert_uint_eq(dns_packet_build(&q, out), 0);
}
END_TEST

/* ---- A name server ------------------------------------------------------- */

struct seen {
    uint8_t data[600];
    size_t bytes;
    struct sockaddr_in from;
    unsigned id, type;
    bool has_edns;
    char name[DNS_NAME_BYTES];
};

struct fake {
    int udp, tcp;
    unsigned port;
};

static struct fake server, second;
static char dir[] = "/tmp/test_dns.XXXXXX", resolv[64], hosts[64];
static bool has_dir;
static int64_t now_ms;
static struct dns_answer answer;
static int log_warnings, log_lines;

static void count_lines(const char *line)
{
    log_lines++;
    log_warnings += strstr(line, "failed") || strstr(line, "names no server");
}

static void fake_open(struct fake *f)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t bytes = sizeof at;
    int one = 1;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (int i = 0; i < 50; i++) { /* the same port for UDP and TCP */
        at.sin_port = 0;
        f->udp = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
        f->tcp = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        setsockopt(f->tcp, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        bind(f->udp, (struct sockaddr *)&at, sizeof at);
        getsockname(f->udp, (struct sockaddr *)&at, &bytes);
        f->port = ntohs(at.sin_port);
        if (bind(f->tcp, (struct sockaddr *)&at, sizeof at) == 0 &&
            listen(f->tcp, 8) == 0)
            return;
        close(f->udp);
        close(f->tcp);
    }
    ck_abort_msg("no port");
}

static void fake_close(struct fake *f)
{
    if (f->udp > 0)
        close(f->udp);
    if (f->tcp > 0)
        close(f->tcp);
    f->udp = f->tcp = -1;
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    fputs(text, file);
    fclose(file);
}

static void name_servers(unsigned a, unsigned b)
{
    char text[100];
    int used = snprintf(text, sizeof text, "nameserver [127.0.0.1]:%u\n", a);
    if (b != 0)
        snprintf(text + used, sizeof text - (size_t)used,
                 "nameserver [127.0.0.1]:%u\n", b);
    write_file(resolv, text);
}

static void setup(void)
{
    if (!has_dir) {
        ck_assert_ptr_nonnull(mkdtemp(dir));
        snprintf(resolv, sizeof resolv, "%s/resolv", dir);
        snprintf(hosts, sizeof hosts, "%s/hosts", dir);
        has_dir = true;
    } else { /* an earlier test of this very process took it away */
        ck_assert_int_eq(mkdir(dir, 0700), 0);
    }
    now_ms = 1000000;
    log_warnings = log_lines = 0;
    log_to(count_lines);
    ck_assert(crypto_init());
    fake_open(&server);
    fake_open(&second);
    name_servers(server.port, 0);
    write_file(hosts, "");
    dns_init(resolv, hosts);
}

static void teardown(void)
{
    dns_init(resolv, hosts); /* closes what is open */
    fake_close(&server);
    fake_close(&second);
    unlink(resolv);
    unlink(hosts);
    rmdir(dir);
    log_to(NULL);
}

/* One turn of the loop; waits a little for what is on its way. */
static void turn_within(int wait_ms)
{
    static struct poller p;
    poller_reset(&p);
    dns_prep(&p);
    ck_assert(p.count <= 2 * DNS_SLOTS);
    if (poll(p.fds, (nfds_t)p.count, wait_ms) < 0)
        ck_abort();
    dns_run(&p, now_ms);
}

static void turn(void)
{
    turn_within(0);
}

static int64_t wake_ms(void)
{
    struct poller p;
    poller_reset(&p);
    dns_prep(&p);
    return p.wake_ms;
}

static bool next_query(struct fake *f, struct seen *q)
{
    struct pollfd ready = {.fd = f->udp, .events = POLLIN};
    socklen_t bytes = sizeof q->from;
    if (poll(&ready, 1, 0) != 1)
        return false;
    ssize_t got = recvfrom(f->udp, q->data, sizeof q->data, 0,
                           (struct sockaddr *)&q->from, &bytes);
    ck_assert(got > 16);
    q->bytes = (size_t)got;
    q->id = (unsigned)q->data[0] << 8 | q->data[1];
    q->has_edns = q->data[11] == 1;
    size_t at = 12, used = 0;
    for (; q->data[at] != 0; at += q->data[at] + 1u) {
        if (used > 0)
            q->name[used++] = '.';
        memcpy(q->name + used, q->data + at + 1, q->data[at]);
        used += q->data[at];
    }
    q->name[used] = '\0';
    q->type = (unsigned)q->data[at + 1] << 8 | q->data[at + 2];
    return true;
}

static int count_queries(struct fake *f)
{
    struct seen q;
    int count = 0;
    while (next_query(f, &q))
        count++;
    return count;
}

/* The A and the AAAA query, in this order. */
static void both_queries(struct fake *f, struct seen *a, struct seen *aaaa)
{
    ck_assert(next_query(f, a));
    ck_assert(next_query(f, aaaa));
    ck_assert_uint_eq(a->type, 1);
    ck_assert_uint_eq(aaaa->type, 28);
}

static void send_packet(struct fake *f, const struct seen *q)
{
    ck_assert(sendto(f->udp, pk.data, pk.bytes, 0,
                     (const struct sockaddr *)&q->from,
                     sizeof q->from) == (ssize_t)pk.bytes);
}

static void start_for(const struct seen *q, unsigned flags, unsigned answers)
{
    start(q->id, flags, q->name, q->type, answers);
}

static void reply_code(struct fake *f, const struct seen *q, unsigned code)
{
    start_for(q, RESPONSE | code, 0);
    send_packet(f, q);
}

static void reply_address(struct fake *f, const struct seen *q,
                          const char *text, uint32_t ttl)
{
    start_for(q, RESPONSE, 1);
    address("@", text, ttl);
    send_packet(f, q);
}

static void expect(int ticket, enum dns_state state)
{
    ck_assert_int_eq(dns_result(ticket, &answer), state);
    if (state == DNS_NONE || state == DNS_FAILED)
        ck_assert_ptr_nonnull(answer.why);
}

static void expect_address(int ticket, const char *text)
{
    expect(ticket, DNS_FOUND);
    ck_assert_uint_ge(answer.count, 1);
    ck_assert_str_eq(text_of(&answer.addresses[0]), text);
    dns_forget(ticket);
}

static int ask(void)
{
    return dns_ask(NAME, DNS_HOST, now_ms);
}

/* Answers the question under way: this address, and no AAAA. */
static void serve(struct fake *f, const char *text, uint32_t ttl)
{
    struct seen a, aaaa;
    both_queries(f, &a, &aaaa);
    reply_address(f, &a, text, ttl);
    reply_code(f, &aaaa, 0);
    turn();
}

/* ---- Dialogues ----------------------------------------------------------- */

START_TEST(host_has_both_families)
{
    struct seen a, aaaa;
    int ticket = ask();
    expect(ticket, DNS_WAIT);
    both_queries(&server, &a, &aaaa);
    ck_assert_str_eq(a.name, NAME);
    ck_assert(a.has_edns && aaaa.has_edns);
    ck_assert(a.from.sin_port != aaaa.from.sin_port);
    start_for(&a, RESPONSE, 2);
    address("@", "192.0.2.1", 300);
    address("@", "192.0.2.2", 300);
    send_packet(&server, &a);
    reply_address(&server, &aaaa, "2001:db8::1", 300);
    turn();
    expect(ticket, DNS_FOUND);
    ck_assert_uint_eq(answer.count, 3);
    ck_assert(!answer.is_stale);
    ck_assert_str_eq(text_of(&answer.addresses[0]), "192.0.2.1");
    ck_assert_str_eq(text_of(&answer.addresses[1]), "2001:db8::1");
    ck_assert_str_eq(text_of(&answer.addresses[2]), "192.0.2.2");
    dns_forget(ticket);
}
END_TEST

START_TEST(literals_need_no_server)
{
    static const char *const found_at_once[] = {"192.0.2.9", "2001:db8::9",
                                                "127.0.0.1", "::1"};
    for (int i = 0; i < 4; i++)
        expect_address(dns_ask(found_at_once[i], DNS_HOST, now_ms),
                       found_at_once[i]);
    int ticket = dns_ask("0.0.0.0", DNS_HOST, now_ms);
    expect(ticket, DNS_NONE);
    dns_forget(ticket);
    ck_assert_int_eq(count_queries(&server), 0);
}
END_TEST

START_TEST(hosts_are_read_anew)
{
    char text[3000];
    write_file(hosts, "# 192.0.2.1 " NAME "\n"
                      "192.0.2.2\tother SMTP.example.NET. #" NAME "\n"
                      "2001:db8::2 " NAME "\r\nrubbish " NAME "\n"
                      "192.0.2.3 smtp.example.net.org " NAME "x\n"
                      "0.0.0.0 " NAME "\n\n\n192.0.2.4 " NAME);
    int ticket = ask();
    expect(ticket, DNS_FOUND);
    ck_assert_uint_eq(answer.count, 3);
    ck_assert_str_eq(text_of(&answer.addresses[0]), "192.0.2.2");
    ck_assert_str_eq(text_of(&answer.addresses[1]), "2001:db8::2");
    ck_assert_str_eq(text_of(&answer.addresses[2]), "192.0.2.4");
    dns_forget(ticket);

    /* A line too long for us is no line, wherever it would be cut. */
    for (size_t pad = 1000; pad < 1040; pad++) {
        memset(text, ' ', sizeof text);
        memcpy(text, "192.0.2.5", 9);
        strcpy(text + pad, NAME "x\n192.0.2.6 " NAME "\n");
        write_file(hosts, text);
        expect_address(ask(), "192.0.2.6");
    }
    memset(text, 'y', 1024); /* nor does its tail make one */
    strcpy(text + 1024, " 192.0.2.5 " NAME "\n192.0.2.6 " NAME "\n");
    write_file(hosts, text);
    expect_address(ask(), "192.0.2.6");
    ck_assert_int_eq(count_queries(&server), 0);
    unlink(hosts);
    ticket = ask();
    expect(ticket, DNS_WAIT);
    dns_forget(ticket);
}
END_TEST

START_TEST(mx_sorted_and_shuffled)
{
    struct seen q;
    bool is_first[2] = {false, false};
    int ticket = dns_ask(NAME, DNS_MX, now_ms);
    ck_assert(next_query(&server, &q));
    ck_assert_uint_eq(q.type, 15);
    start_for(&q, RESPONSE, 3);
    name_record("@", 15, 20, "c.example");
    name_record("@", 15, 10, "a.example");
    name_record("@", 15, 10, "b.example");
    send_packet(&server, &q);
    turn();
    for (int i = 0; i < 100; i++) {
        expect(ticket, DNS_FOUND);
        ck_assert_uint_eq(answer.count, 3);
        ck_assert_str_eq(answer.exchangers[2].name, "c.example");
        is_first[answer.exchangers[0].name[0] == 'b'] = true;
        dns_forget(ticket);
        ticket = dns_ask(NAME, DNS_MX, now_ms); /* from the cache */
    }
    dns_forget(ticket);
    ck_assert(is_first[0] && is_first[1]);
    ticket = ask(); /* another kind is another question */
    expect(ticket, DNS_WAIT);
    dns_forget(ticket);
}
END_TEST

START_TEST(full_pool_is_refused)
{
    int tickets[DNS_SLOTS];
    char name[32];
    for (int i = 0; i < DNS_SLOTS; i++) {
        snprintf(name, sizeof name, "h%d.example", i);
        tickets[i] = dns_ask(name, DNS_HOST, now_ms);
        ck_assert_int_ge(tickets[i], 0);
    }
    ck_assert_int_eq(ask(), DNS_NO_SLOT);
    ck_assert_int_eq(dns_ask("192.0.2.1", DNS_HOST, now_ms), DNS_NO_SLOT);
    dns_forget(DNS_NO_SLOT);
    ck_assert_int_eq(dns_result(DNS_NO_SLOT, &answer), DNS_FAILED);
    ck_assert_int_eq(count_queries(&server), 2 * DNS_SLOTS);
    dns_forget(tickets[1]);
    ck_assert_int_eq(dns_result(tickets[1], &answer), DNS_FAILED);
    int ticket = ask();
    ck_assert_int_ge(ticket, 0);
    serve(&server, "192.0.2.1", 300);
    expect_address(ticket, "192.0.2.1");
}
END_TEST

/* RFC 5452 section 5: one outstanding query for a name. */
START_TEST(same_question_is_asked_once)
{
    int first = ask(), other = dns_ask("SMTP.example.net.", DNS_HOST, now_ms);
    serve(&server, "192.0.2.1", 300);
    ck_assert_int_eq(count_queries(&server), 0);
    expect_address(first, "192.0.2.1");
    expect_address(other, "192.0.2.1");

    now_ms += 301000;
    first = ask(), other = ask();
    ck_assert_int_eq(count_queries(&server), 2);
    dns_forget(first); /* the one that asked gives up */
    ck_assert_int_eq(wake_ms(), 0);
    turn();
    serve(&server, "192.0.2.2", 300);
    expect_address(other, "192.0.2.2");
}
END_TEST

START_TEST(d1_alien_replies_are_ignored)
{
    struct seen a, aaaa;
    int ticket = ask();
    both_queries(&server, &a, &aaaa);
    for (int row = 0; row < 8; row++) {
        start(row == 0 ? a.id ^ 1u : a.id, row == 1 ? 0x0100 : RESPONSE,
              row == 2 ? "evil.example" : NAME, row == 3 ? 28 : 1, 1);
        if (row == 4)
            pk.data[2] |= 0x08;
        if (row == 5)
            pk.data[33] = 3;
        if (row == 7)
            pk.data[5] = 2;
        address("@", "192.0.2.66", 300);
        /* Row 6 comes from another port: the kernel drops it. */
        send_packet(row == 6 ? &second : &server, &a);
        turn();
        expect(ticket, DNS_WAIT);
    }
    ck_assert_int_eq(wake_ms(), now_ms + TIMEOUT);
    now_ms += TIMEOUT - 1;
    ck_assert_int_eq(count_queries(&server), 0);
    reply_address(&server, &a, "192.0.2.1", 300);
    reply_code(&server, &aaaa, 0);
    turn();
    expect_address(ticket, "192.0.2.1");
}
END_TEST

START_TEST(d2_spoof_burst)
{
    struct seen a, aaaa;
    int ticket = ask();
    both_queries(&server, &a, &aaaa);
    reply_code(&server, &aaaa, 0);
    start(0, RESPONSE, NAME, 1, 1);
    address("@", "192.0.2.66", 300);
    for (unsigned id = 0; id < 65536; id++) {
        pk.data[0] = (uint8_t)(id >> 8), pk.data[1] = (uint8_t)id;
        send_packet(&second, &a); /* every id, from a wrong port */
        if (id != a.id)
            send_packet(&server, &a); /* the right port, every wrong id */
        if (id % 16 == 0) {
            turn();
            expect(ticket, DNS_WAIT);
        }
    }
    reply_address(&server, &a, "192.0.2.1", 300);
    for (int i = 0; i < 4; i++)
        turn();
    expect_address(ticket, "192.0.2.1");
}
END_TEST

START_TEST(d2_burst_is_bounded_per_turn)
{
    struct seen a, aaaa;
    int ticket = ask();
    both_queries(&server, &a, &aaaa);
    reply_code(&server, &aaaa, 0);
    start(a.id ^ 1u, RESPONSE, NAME, 1, 0);
    for (int i = 0; i < 16; i++)
        send_packet(&server, &a);
    reply_address(&server, &a, "192.0.2.1", 300);
    turn();
    expect(ticket, DNS_WAIT);
    turn();
    expect_address(ticket, "192.0.2.1");
}
END_TEST

START_TEST(d3_short_datagrams)
{
    static const size_t sizes[] = {0, 1, 2, 11, 12};
    struct seen a, aaaa;
    int ticket = ask();
    both_queries(&server, &a, &aaaa);
    for (int i = 0; i < 5; i++) {
        start_for(&a, RESPONSE, 1);
        pk.bytes = sizes[i];
        send_packet(&server, &a);
        turn();
        expect(ticket, DNS_WAIT);
    }
    reply_address(&server, &a, "192.0.2.1", 300);
    reply_code(&server, &aaaa, 0);
    turn();
    expect_address(ticket, "192.0.2.1");
}
END_TEST

START_TEST(d6_alias_is_asked_again)
{
    struct seen a, aaaa;
    int ticket = ask();
    both_queries(&server, &a, &aaaa);
    reply_code(&server, &aaaa, 0);
    start_for(&a, RESPONSE, 1);
    cname("@", "real.example");
    send_packet(&server, &a);
    turn();
    expect(ticket, DNS_WAIT);
    unsigned id = a.id, port = a.from.sin_port;
    ck_assert(next_query(&server, &a));
    ck_assert_str_eq(a.name, "real.example");
    ck_assert(a.id != id || a.from.sin_port != port);
    reply_address(&server, &a, "192.0.2.1", 40);
    turn();
    expect_address(ticket, "192.0.2.1");
    now_ms += 39000; /* the shorter TTL of the two counts */
    expect_address(ask(), "192.0.2.1");
    now_ms += 1000;
    ticket = ask();
    expect(ticket, DNS_WAIT);
    dns_forget(ticket);
}
END_TEST

START_TEST(d6_alias_loop_ends)
{
    struct seen q;
    int ticket = dns_ask("a.example", DNS_MX, now_ms), queries = 0;
    while (next_query(&server, &q)) {
        queries++;
        start_for(&q, RESPONSE, 1);
        cname("@", q.name[0] == 'a' ? "b.example" : "a.example");
        send_packet(&server, &q);
        turn();
    }
    ck_assert_int_eq(queries, 9);
    expect(ticket, DNS_FAILED);
    dns_forget(ticket);
}
END_TEST

/* ---- D7: over TCP -------------------------------------------------------- */

static int accept_query(struct fake *f, struct seen *q)
{
    struct pollfd ready = {.fd = f->tcp, .events = POLLIN};
    uint8_t prefix[2];
    poll(&ready, 1, 500);
    int fd = accept(f->tcp, NULL, NULL);
    ck_assert_int_ge(fd, 0);
    turn_within(100);
    ck_assert(recv(fd, prefix, 2, MSG_WAITALL) == 2);
    size_t bytes = (size_t)prefix[0] << 8 | prefix[1];
    ck_assert_uint_le(bytes, sizeof q->data);
    ck_assert(recv(fd, q->data, bytes, MSG_WAITALL) == (ssize_t)bytes);
    q->id = (unsigned)q->data[0] << 8 | q->data[1];
    return fd;
}

/* Asks for an MX, so that there is one query alone, and cuts the answer. */
static int ask_cut(struct seen *q)
{
    int ticket = dns_ask(NAME, DNS_MX, now_ms);
    ck_assert(next_query(&server, q));
    reply_code(&server, q, TC);
    turn();
    expect(ticket, DNS_WAIT);
    return ticket;
}

static void prefixed(const struct seen *q, unsigned answers)
{
    start_for(q, RESPONSE, answers);
    for (unsigned i = 0; i < answers; i++)
        name_record("@", 15, (int)i, "mx.example");
    memmove(pk.data + 2, pk.data, pk.bytes);
    pk.data[0] = (uint8_t)(pk.bytes >> 8);
    pk.data[1] = (uint8_t)pk.bytes;
    pk.bytes += 2;
}

static void send_all(int fd, size_t step)
{
    for (size_t at = 0; at < pk.bytes; at += step) {
        size_t left = pk.bytes - at;
        ck_assert(send(fd, pk.data + at, left < step ? left : step,
                       MSG_NOSIGNAL) > 0);
        turn_within(10);
    }
}

START_TEST(d7_tcp_whole_and_byte_by_byte)
{
    static const size_t steps[] = {1, 2, 3, 7, 60000};
    for (int i = 0; i < 5; i++) {
        struct seen q;
        int ticket = ask_cut(&q), fd = accept_query(&server, &q);
        prefixed(&q, 2);
        send_all(fd, steps[i]);
        expect(ticket, DNS_FOUND);
        ck_assert_uint_eq(answer.count, 2);
        dns_forget(ticket);
        close(fd);
        now_ms += 3600 * 1000;
    }
}
END_TEST

START_TEST(d7_tcp_two_answers)
{
    struct seen q;
    int ticket = ask_cut(&q), fd = accept_query(&server, &q);
    prefixed(&q, 1);
    memcpy(pk.data + pk.bytes, pk.data, pk.bytes);
    pk.bytes *= 2;
    send_all(fd, pk.bytes);
    expect(ticket, DNS_FOUND);
    ck_assert_uint_eq(answer.count, 1);
    dns_forget(ticket);
    close(fd);
}
END_TEST

/* 65535 bytes: the first records will do. */
START_TEST(d7_tcp_huge)
{
    struct seen q;
    int ticket = ask_cut(&q), fd = accept_query(&server, &q);
    prefixed(&q, 2400);
    ck_assert_uint_gt(pk.bytes, 60000);
    pk.data[0] = pk.data[1] = 0xff;
    pk.bytes = 4096 + 2;
    send_all(fd, 1000);
    expect(ticket, DNS_FOUND);
    ck_assert_uint_eq(answer.count, DNS_EXCHANGERS_MAX);
    dns_forget(ticket);
    close(fd);
}
END_TEST

/* What a server may do wrong: each leads to the next try, over UDP. */
START_TEST(d7_tcp_faults)
{
    enum {
        LENGTH_0,
        LENGTH_5,
        FIN_EARLY,
        FIN_AT_ONCE,
        WRONG_ID,
        STILL_CUT,
        SILENT,
        REFUSED,
        FAULTS
    };
    for (int fault = 0; fault < FAULTS; fault++) {
        struct seen q;
        if (fault == REFUSED) {
            close(server.tcp);
            server.tcp = -1;
        }
        int ticket = ask_cut(&q), fd = -1;
        if (fault != REFUSED) {
            fd = accept_query(&server, &q);
            prefixed(&q, 1);
        }
        if (fault == LENGTH_0)
            pk.data[0] = pk.data[1] = 0, pk.bytes = 2;
        if (fault == LENGTH_5)
            pk.data[0] = 0, pk.data[1] = 5, pk.bytes = 7;
        if (fault == FIN_EARLY)
            pk.bytes -= 1;
        if (fault == WRONG_ID)
            pk.data[2] ^= 1;
        if (fault == STILL_CUT)
            pk.data[4] |= 2;
        if (fault == FIN_AT_ONCE)
            close(fd);
        else if (fault != REFUSED && fault != SILENT)
            send_all(fd, 1000);
        if (fault == FIN_EARLY)
            close(fd), fd = -1;
        if (fault == SILENT)
            now_ms += TIMEOUT;
        for (int i = 0; i < 3; i++)
            turn_within(20);
        expect(ticket, DNS_WAIT);
        ck_assert_msg(next_query(&server, &q), "fault %d", fault);
        ck_assert(!q.has_edns); /* the second round */
        start_for(&q, RESPONSE, 1);
        name_record("@", 15, 1, "mx.example");
        send_packet(&server, &q);
        turn();
        expect(ticket, DNS_FOUND);
        dns_forget(ticket);
        if (fd >= 0 && fault != FIN_AT_ONCE)
            close(fd);
        dns_init(resolv, hosts);
    }
}
END_TEST

/* ---- D8: codes ----------------------------------------------------------- */

START_TEST(d8_next_server)
{
    static const unsigned codes[] = {2, 5, 9};
    name_servers(server.port, second.port);
    for (int i = 0; i < 3; i++) {
        struct seen a, aaaa;
        dns_init(resolv, hosts);
        int ticket = ask();
        both_queries(&server, &a, &aaaa);
        reply_code(&server, &a, codes[i]);
        reply_code(&server, &aaaa, codes[i]);
        turn();
        expect(ticket, DNS_WAIT);
        ck_assert_int_eq(count_queries(&server), 0);
        serve(&second, "192.0.2.1", 300);
        expect_address(ticket, "192.0.2.1");
        /* The next question starts where an answer came from. */
        ticket = dns_ask("other.example", DNS_HOST, now_ms);
        ck_assert_int_eq(count_queries(&second), 2);
        dns_forget(ticket);
    }
}
END_TEST

START_TEST(d8_no_edns)
{
    static const unsigned codes[] = {1, 4};
    for (int i = 0; i < 2; i++) {
        struct seen q;
        dns_init(resolv, hosts);
        int ticket = dns_ask(NAME, DNS_MX, now_ms);
        ck_assert(next_query(&server, &q) && q.has_edns);
        reply_code(&server, &q, codes[i]);
        turn();
        ck_assert(next_query(&server, &q) && !q.has_edns);
        start_for(&q, RESPONSE, 1);
        name_record("@", 15, 1, "mx.example");
        send_packet(&server, &q);
        turn();
        expect(ticket, DNS_FOUND);
        dns_forget(ticket);
        ticket = ask(); /* remembered */
        ck_assert(next_query(&server, &q) && !q.has_edns);
        reply_code(&server, &q, codes[i]); /* without cause: like SERVFAIL */
        turn();
        ck_assert(next_query(&server, &q));
        dns_forget(ticket);
        count_queries(&server);
    }
}
END_TEST

START_TEST(d8_none)
{
    for (unsigned code = 0; code <= 3; code += 3) {
        struct seen a, aaaa;
        dns_init(resolv, hosts);
        int ticket = ask();
        both_queries(&server, &a, &aaaa);
        reply_code(&server, &a, code);
        turn();
        expect(ticket, DNS_WAIT);
        reply_code(&server, &aaaa, code);
        turn();
        expect(ticket, DNS_NONE);
        dns_forget(ticket);
        now_ms += 29999; /* and is not asked again for a little while */
        ticket = ask();
        expect(ticket, DNS_NONE);
        dns_forget(ticket);
        now_ms += 1;
        ticket = ask();
        expect(ticket, DNS_WAIT);
        dns_forget(ticket);
        count_queries(&server);
    }
}
END_TEST

/* Half a "no": the other half failed, so nothing is known. */
START_TEST(d8_none_and_servfail)
{
    struct seen a, aaaa;
    int ticket = ask();
    both_queries(&server, &a, &aaaa);
    reply_code(&server, &a, 0);
    reply_code(&server, &aaaa, SERVFAIL);
    turn();
    ck_assert(next_query(&server, &aaaa));
    reply_code(&server, &aaaa, SERVFAIL);
    turn();
    expect(ticket, DNS_FAILED);
    dns_forget(ticket);
}
END_TEST

START_TEST(d8_broken_reply)
{
    struct seen q;
    int ticket = dns_ask(NAME, DNS_MX, now_ms);
    for (int i = 0; i < 2; i++) {
        ck_assert(next_query(&server, &q));
        start_for(&q, RESPONSE, 7);
        send_packet(&server, &q);
        turn();
    }
    expect(ticket, DNS_FAILED);
    dns_forget(ticket);
}
END_TEST

/* ---- D9 to D12: time ----------------------------------------------------- */

START_TEST(d9_one_family_is_silent)
{
    for (int silent = 0; silent < 2; silent++) {
        struct seen q[2];
        dns_init(resolv, hosts);
        int ticket = ask();
        both_queries(&server, &q[0], &q[1]);
        now_ms += 500;
        const char *text = silent == 0 ? "2001:db8::1" : "192.0.2.1";
        reply_address(&server, &q[1 - silent], text, 3600);
        turn();
        expect(ticket, DNS_WAIT);
        ck_assert_int_eq(wake_ms(), now_ms + 1000);
        now_ms += 999;
        turn();
        expect(ticket, DNS_WAIT);
        now_ms += 1;
        turn();
        expect_address(ticket, text);
        now_ms += 29000;
        expect_address(ask(), text);
        now_ms += 1000; /* half an answer is kept for 30 seconds */
        ticket = ask();
        expect(ticket, DNS_WAIT);
        dns_forget(ticket);
        count_queries(&server);
    }
}
END_TEST

START_TEST(d9_one_family_fails_first)
{
    struct seen a, aaaa;
    int ticket = ask();
    both_queries(&server, &a, &aaaa);
    for (int i = 0; i < 2; i++) {
        reply_code(&server, &aaaa, SERVFAIL);
        turn();
        if (i == 0)
            ck_assert(next_query(&server, &aaaa));
    }
    expect(ticket, DNS_WAIT);
    reply_address(&server, &a, "192.0.2.1", 300);
    turn();
    expect_address(ticket, "192.0.2.1");
}
END_TEST

START_TEST(d10_many_and_unusable)
{
    struct seen a, aaaa;
    char text[32];
    int ticket = ask();
    both_queries(&server, &a, &aaaa);
    start_for(&a, RESPONSE, 60);
    for (unsigned i = 0; i < 60; i++) {
        snprintf(text, sizeof text, "192.0.2.%u", i / 2 + 1);
        address("@", i == 0 ? "0.0.0.0" : text, 300);
    }
    send_packet(&server, &a);
    start_for(&aaaa, RESPONSE, 2);
    address("@", "ff02::1", 300);
    address("@", "2001:db8::1", 300);
    send_packet(&server, &aaaa);
    turn();
    expect(ticket, DNS_FOUND);
    ck_assert_uint_eq(answer.count, DNS_ADDRESSES_MAX);
    ck_assert_str_eq(text_of(&answer.addresses[0]), "192.0.2.1");
    ck_assert_str_eq(text_of(&answer.addresses[1]), "2001:db8::1");
    ck_assert_str_eq(text_of(&answer.addresses[2]), "192.0.2.2");
    dns_forget(ticket);
}
END_TEST

START_TEST(d11_ttl_is_clamped)
{
    static const struct {
        uint32_t ttl;
        int64_t kept_s;
    } rows[] = {
        {0, 30},
        {1, 30},
        {31, 31},
        {86401, 86400},
        {0x7fffffff, 86400},
        {86400, 86400},
        {0x80000000u, 30},
        {0xffffffffu, 30},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        dns_init(resolv, hosts);
        int ticket = ask();
        serve(&server, "192.0.2.1", rows[i].ttl);
        expect_address(ticket, "192.0.2.1");
        now_ms += rows[i].kept_s * 1000 - 1;
        expect_address(ask(), "192.0.2.1");
        now_ms += 1;
        ticket = ask();
        ck_assert_msg(dns_result(ticket, &answer) == DNS_WAIT, "row %zu", i);
        dns_forget(ticket);
        ck_assert_int_eq(count_queries(&server), 2);
    }
}
END_TEST

/* All tries of all servers in silence; returns the queries seen. */
static int starve(int ticket)
{
    int queries = 0;
    while (dns_result(ticket, &answer) == DNS_WAIT) {
        queries += count_queries(&server);
        int64_t wake = wake_ms();
        ck_assert_int_gt(wake, now_ms);
        now_ms = wake - 1;
        turn();
        expect(ticket, DNS_WAIT);
        now_ms = wake;
        turn();
    }
    return queries;
}

START_TEST(d12_dead_servers_and_stale)
{
    int ticket = ask(), queries = 0;
    serve(&server, "192.0.2.1", 60);
    expect_address(ticket, "192.0.2.1");
    now_ms += 3600 * 1000;
    int64_t asked_ms = now_ms;
    ticket = ask();
    ck_assert_int_eq(starve(ticket), 4);
    ck_assert_int_eq(now_ms - asked_ms, 2 * TIMEOUT);
    expect(ticket, DNS_FOUND);
    ck_assert(answer.is_stale);
    expect_address(ticket, "192.0.2.1");
    ck_assert_int_eq(log_warnings, 1);

    for (int i = 0; i < 499; i++) { /* no storm: five seconds of peace */
        now_ms += 10;
        ticket = ask();
        expect(ticket, DNS_FOUND);
        ck_assert(answer.is_stale);
        dns_forget(ticket);
        queries += count_queries(&server);
    }
    ck_assert_int_eq(queries, 0);
    now_ms += 10;
    ticket = ask();
    expect(ticket, DNS_WAIT);
    serve(&server, "192.0.2.2", 60);
    expect(ticket, DNS_FOUND);
    ck_assert(!answer.is_stale);
    expect_address(ticket, "192.0.2.2");
    ck_assert_int_eq(log_lines, 2); /* it failed; it answers again */
}
END_TEST

START_TEST(d12_stale_has_an_end)
{
    int ticket = ask();
    serve(&server, "192.0.2.1", 60);
    dns_forget(ticket);
    now_ms += INT64_C(4) * 86400 * 1000;
    ticket = ask();
    starve(ticket);
    expect(ticket, DNS_FAILED);
    dns_forget(ticket);
    ticket = ask(); /* quiet, with the reason */
    expect(ticket, DNS_FAILED);
    dns_forget(ticket);
}
END_TEST

START_TEST(d12_failed_at_once_while_quiet)
{
    int ticket = ask();
    starve(ticket);
    expect(ticket, DNS_FAILED);
    dns_forget(ticket);
    count_queries(&server);
    now_ms += 4999;
    ticket = ask();
    expect(ticket, DNS_FAILED);
    dns_forget(ticket);
    ck_assert_int_eq(count_queries(&server), 0);
    now_ms += 1;
    ticket = ask();
    expect(ticket, DNS_WAIT);
    starve(ticket);
    dns_forget(ticket);
    ck_assert_int_eq(log_warnings, 1);
    name_servers(second.port, 0); /* new servers end the quiet */
    ticket = ask();
    serve(&second, "192.0.2.1", 60);
    expect_address(ticket, "192.0.2.1");
}
END_TEST

START_TEST(cache_is_full)
{
    char name[32];
    int ticket = ask();
    serve(&server, "192.0.2.1", 3600);
    dns_forget(ticket);
    for (int i = 0; i < 3 * DNS_CACHE_ENTRIES; i++) {
        now_ms += 1;
        expect_address(ask(), "192.0.2.1"); /* what is used stays */
        now_ms += 1;
        snprintf(name, sizeof name, "h%d.example", i);
        ticket = dns_ask(name, DNS_HOST, now_ms);
        serve(&server, "192.0.2.2", 3600);
        expect_address(ticket, "192.0.2.2");
    }
    ticket = dns_ask("h0.example", DNS_HOST, now_ms);
    expect(ticket, DNS_WAIT);
    dns_forget(ticket);
}
END_TEST

/* ---- D13: resolv.conf ---------------------------------------------------- */

static unsigned servers_of(const char *text, struct ip_endpoint *out)
{
    write_file(resolv, text);
    return dns_files_servers(resolv, out);
}

START_TEST(d13_resolv_conf_lines)
{
    static const struct {
        const char *text;
        const char *first;
        unsigned count;
    } rows[] = {
        {"nameserver 192.0.2.1\n", "192.0.2.1:53", 1},
        {"nameserver\t 192.0.2.1 \r\n", "192.0.2.1:53", 1},
        {"nameserver 192.0.2.1", "192.0.2.1:53", 1},
        {"nameserver 192.0.2.1 # two\n", "192.0.2.1:53", 1},
        {"nameserver 192.0.2.1;x\n", "192.0.2.1:53", 1},
        {"nameserver [192.0.2.1]:5353\n", "192.0.2.1:5353", 1},
        {"nameserver 2001:db8::1\n", "[2001:db8::1]:53", 1},
        {"nameserver [2001:db8::1]:54\n", "[2001:db8::1]:54", 1},
        {"nameserver fe80::1%1\n", "[fe80::1%1]:53", 1},
        {"nameserver fe80::1%lo\n", "[fe80::1%1]:53", 1},
        {"search a b\noptions edns0\nnameserver 192.0.2.1\n", "192.0.2.1:53",
         1},
        {"\n\nnameserver x\nnameserver 192.0.2.1\nnameserver 192.0.2.2\n",
         "192.0.2.1:53", 2},
        {"#nameserver 192.0.2.1\n;nameserver 192.0.2.1\n", NULL, 0},
        {"nameserver\nnameserver \nnameservers 192.0.2.1\n", NULL, 0},
        {"nameserver 0.0.0.0\nnameserver 224.0.0.1\n", NULL, 0},
        {"nameserver fe80::1%nosuchif\n", NULL, 0},
        {"nameserver [192.0.2.1]:99999\nnameserver 1.2.3.4.5\n", NULL, 0},
        {"", NULL, 0},
    };
    struct ip_endpoint out[DNS_SERVERS_MAX];
    char text[IP_ENDPOINT_BYTES];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        unsigned count = servers_of(rows[i].text, out);
        ck_assert_msg(count == rows[i].count, "row %zu", i);
        if (count > 0)
            ck_assert_str_eq(ip_format_endpoint(&out[0], text), rows[i].first);
    }
    char many[100 * 24 + 1] = "";
    for (int i = 0; i < 100; i++)
        snprintf(many + strlen(many), 25, "nameserver 192.0.2.%d\n", i + 1);
    ck_assert_uint_eq(servers_of(many, out), DNS_SERVERS_MAX);
    ck_assert_str_eq(text_of(&out[0].address), "192.0.2.1");
}
END_TEST

START_TEST(d13_resolv_conf_missing_or_a_directory)
{
    static const char *const paths[] = {"/nonexistent/resolv", "/tmp", NULL};
    for (int i = 0; i < 3; i++) {
        write_file(resolv, "# nobody\n");
        dns_init(paths[i] ? paths[i] : resolv, hosts);
        int warnings = log_warnings;
        int ticket = ask(); /* 127.0.0.1:53, whoever is there */
        ck_assert_int_eq(log_warnings > warnings, 1);
        dns_forget(ticket);
        ck_assert_int_ge(ask(), 0);
        dns_init(resolv, hosts);
    }
}
END_TEST

START_TEST(d13_resolv_conf_rewritten)
{
    int ticket = ask();
    serve(&server, "192.0.2.1", 60);
    dns_forget(ticket);
    now_ms += 61000;
    name_servers(second.port, 0);
    ticket = ask();
    ck_assert_int_eq(count_queries(&server), 0);
    serve(&second, "192.0.2.2", 60);
    expect_address(ticket, "192.0.2.2");

    /* Fewer servers while a question is under way. */
    name_servers(server.port, second.port);
    ticket = dns_ask("a.example", DNS_HOST, now_ms);
    now_ms += TIMEOUT;
    turn();
    ck_assert_int_eq(count_queries(&second), 2);
    name_servers(server.port, 0);
    int other = dns_ask("b.example", DNS_HOST, now_ms);
    now_ms += TIMEOUT;
    turn();
    now_ms += TIMEOUT;
    turn();
    expect(ticket, DNS_FAILED);
    dns_forget(ticket);
    dns_forget(other);
}
END_TEST

START_TEST(d14_refused_is_noticed_at_once)
{
    fake_close(&server); /* its port answers with ICMP now */
    name_servers(server.port, second.port);
    int ticket = ask();
    for (int i = 0; i < 3; i++)
        turn_within(20);
    expect(ticket, DNS_WAIT);
    serve(&second, "192.0.2.1", 60);
    expect_address(ticket, "192.0.2.1");

    fake_close(&second);
    int64_t before = now_ms += 61000;
    ticket = ask();
    for (int i = 0; i < 8; i++)
        turn_within(20);
    expect(ticket, DNS_FOUND); /* stale, without any wait */
    ck_assert(answer.is_stale);
    ck_assert_int_eq(now_ms, before);
    dns_forget(ticket);
    name_servers(1, 0);
    ticket = dns_ask("other.example", DNS_HOST, now_ms);
    for (int i = 0; i < 8; i++)
        turn_within(20);
    expect(ticket, DNS_FAILED);
    dns_forget(ticket);
}
END_TEST

START_TEST(d15_bad_names_are_answered)
{
    static const char *const names[] = {
        "", ".", "a..b", "a b", "m\xc3\xbcller.de", "a\r\nb"};
    char long_name[2000];
    memset(long_name, 'a', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = '\0';
    for (int i = 0; i < 7; i++) {
        int ticket = dns_ask(i < 6 ? names[i] : long_name, DNS_HOST, now_ms);
        expect(ticket, DNS_NONE);
        dns_forget(ticket);
    }
    ck_assert_int_eq(count_queries(&server), 0);
    struct seen q;
    int ticket = dns_ask("_smtp.example.", DNS_MX, now_ms);
    ck_assert(next_query(&server, &q));
    ck_assert_str_eq(q.name, "_smtp.example");
    dns_forget(ticket);
}
END_TEST

/* A proxy that drops queries with OPT and shouts all names. */
START_TEST(d16_home_router)
{
    struct seen a, aaaa;
    int ticket = ask();
    both_queries(&server, &a, &aaaa);
    ck_assert(a.has_edns);
    now_ms += TIMEOUT;
    turn();
    both_queries(&server, &a, &aaaa);
    ck_assert(!a.has_edns && !aaaa.has_edns);
    strcpy(a.name, "SMTP.EXAMPLE.NET");
    start_for(&a, RESPONSE, 2);
    cname("@", "Mail.Example.Net");
    address("MAIL.EXAMPLE.NET", "192.0.2.1", 300);
    send_packet(&server, &a);
    reply_code(&server, &aaaa, 0);
    turn();
    expect_address(ticket, "192.0.2.1");
    ticket = dns_ask("other.example", DNS_HOST, now_ms);
    both_queries(&server, &a, &aaaa);
    ck_assert(!a.has_edns); /* learnt: the next one is not slow */
    dns_forget(ticket);
}
END_TEST

START_TEST(no_descriptor_leaks)
{
    int before = dup(0);
    close(before);
    for (int i = 0; i < 50; i++) {
        int first = ask(), other = dns_ask("b.example", DNS_MX, now_ms);
        turn();
        if (i % 3 == 0)
            now_ms += TIMEOUT;
        turn();
        dns_forget(first);
        dns_forget(other);
        count_queries(&server);
    }
    int after = dup(0);
    close(after);
    ck_assert_int_eq(before, after);
    ck_assert_int_eq(wake_ms() == INT64_MAX, 1);
    ck_assert_uint_gt(dns_memory_bytes(), 0);
}
END_TEST

static void add_packet_tests(Suite *s)
{
    TCase *c = tcase_create("packet");
    tcase_add_test(c, d1_packet_must_answer_the_query);
    tcase_add_test(c, d3_packet_short);
    tcase_add_test(c, d4_packet_cut_at_every_byte);
    tcase_add_test(c, d4_packet_compression);
    tcase_add_test(c, d4_packet_pointer_staircase);
    tcase_add_test(c, d4_packet_name_limits);
    tcase_add_test(c, d5_packet_rdlength);
    tcase_add_test(c, d5_packet_counts_without_data);
    tcase_add_test(c, d6_packet_aliases);
    tcase_add_test(c, d8_packet_codes);
    tcase_add_test(c, d10_packet_500_addresses);
    tcase_add_test(c, d10_packet_unusable_addresses);
    tcase_add_test(c, d11_packet_ttl);
    tcase_add_test(c, mx_packet);
    tcase_add_test(c, d15_names);
    tcase_add_test(c, query_bytes);
    suite_add_tcase(s, c);
}

Suite *suite_dns(void)
{
    Suite *s = suite_create("dns");
    add_packet_tests(s);
    TCase *c = tcase_create("dialogue");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_set_timeout(c, 30);
    tcase_add_test(c, host_has_both_families);
    tcase_add_test(c, literals_need_no_server);
    tcase_add_test(c, hosts_are_read_anew);
    tcase_add_test(c, mx_sorted_and_shuffled);
    tcase_add_test(c, full_pool_is_refused);
    tcase_add_test(c, same_question_is_asked_once);
    tcase_add_test(c, d1_alien_replies_are_ignored);
    tcase_add_test(c, d2_spoof_burst);
    tcase_add_test(c, d2_burst_is_bounded_per_turn);
    tcase_add_test(c, d3_short_datagrams);
    tcase_add_test(c, d6_alias_is_asked_again);
    tcase_add_test(c, d6_alias_loop_ends);
    tcase_add_test(c, d7_tcp_whole_and_byte_by_byte);
    tcase_add_test(c, d7_tcp_two_answers);
    tcase_add_test(c, d7_tcp_huge);
    tcase_add_test(c, d7_tcp_faults);
    tcase_add_test(c, d8_next_server);
    tcase_add_test(c, d8_no_edns);
    tcase_add_test(c, d8_none);
    tcase_add_test(c, d8_none_and_servfail);
    tcase_add_test(c, d8_broken_reply);
    tcase_add_test(c, d9_one_family_is_silent);
    tcase_add_test(c, d9_one_family_fails_first);
    tcase_add_test(c, d10_many_and_unusable);
    tcase_add_test(c, d11_ttl_is_clamped);
    tcase_add_test(c, d12_dead_servers_and_stale);
    tcase_add_test(c, d12_stale_has_an_end);
    tcase_add_test(c, d12_failed_at_once_while_quiet);
    tcase_add_test(c, cache_is_full);
    tcase_add_test(c, d13_resolv_conf_lines);
    tcase_add_test(c, d13_resolv_conf_missing_or_a_directory);
    tcase_add_test(c, d13_resolv_conf_rewritten);
    tcase_add_test(c, d14_refused_is_noticed_at_once);
    tcase_add_test(c, d15_bad_names_are_answered);
    tcase_add_test(c, d16_home_router);
    tcase_add_test(c, no_descriptor_leaks);
    suite_add_tcase(s, c);
    return s;
}
