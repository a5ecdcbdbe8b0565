/* ip: what is an address, an endpoint, a network, and how each is written. */
#include <arpa/inet.h>
#include <check.h>
#include <string.h>

#include "../ip.h"
Suite *suite_ip(void);

#define COUNT(table) (sizeof(table) / sizeof(table)[0])
#define REFUSED      NULL

START_TEST(addresses)
{
    static const struct {
        const char *text, *printed, *literal;
    } table[] = {
        {"192.0.2.1", "192.0.2.1", "[192.0.2.1]"},
        {"::1", "::1", "[IPv6:::1]"},
        {"2001:DB8:0:0::1", "2001:db8::1", "[IPv6:2001:db8::1]"},
        {"::ffff:192.0.2.1", "192.0.2.1", "[192.0.2.1]"},
        {"fe80::1%1", "fe80::1%1", "[IPv6:fe80::1]"},
        {"fe80::1%lo", "fe80::1%1", "[IPv6:fe80::1]"},
        {"", REFUSED, ""},
        {"192.0.2", REFUSED, ""},
        {"192.0.2.256", REFUSED, ""},
        {"192.0.2.1 ", REFUSED, ""},
        {" 192.0.2.1", REFUSED, ""},
        {"192.0.2.1%1", REFUSED, ""},
        {"1::2::3", REFUSED, ""},
        {"[::1]", REFUSED, ""},
        {"fe80::1%", REFUSED, ""},
        {"fe80::1%0", REFUSED, ""},
        {"fe80::1% 1", REFUSED, ""},
        {"fe80::1%+1", REFUSED, ""},
        {"fe80::1%-1", REFUSED, ""},
        {"fe80::1%1x", REFUSED, ""},
        {"fe80::1%no-such", REFUSED, ""},
        {"fe80::1%99999999999999999999", REFUSED, ""},
        {"smtp.example.com", REFUSED, ""},
        {"1111:1111:1111:1111:1111:1111:1111:1111:1111:1111:1111:1111:1111",
         REFUSED, ""},
    };
    for (size_t i = 0; i < COUNT(table); i++) {
        char text[IP_ENDPOINT_BYTES];
        struct ip_address a;
        bool good = ip_parse(table[i].text, &a);
        ck_assert_msg(good == (table[i].printed != NULL), "%s", table[i].text);
        if (!good)
            continue;
        ck_assert_str_eq(ip_format(&a, text), table[i].printed);
        ck_assert_str_eq(ip_format_literal(&a, text), table[i].literal);
    }
}
END_TEST

START_TEST(endpoints)
{
    static const struct {
        const char *text;
        uint16_t port_default;
        const char *printed;
    } table[] = {
        {"192.0.2.1:25", 0, "192.0.2.1:25"},
        {"192.0.2.1", 25, "192.0.2.1:25"},
        {"192.0.2.1:587", 25, "192.0.2.1:587"},
        {"[192.0.2.1]:25", 0, "192.0.2.1:25"},
        {"[::1]:25", 0, "[::1]:25"},
        {"[::1]", 25, "[::1]:25"},
        {"::1", 25, "[::1]:25"},
        {"2001:db8::1:25", 587,
         "[2001:db8::1:25]:587"}, /* no port is in there */
        {"192.0.2.1:65535", 0, "192.0.2.1:65535"},
        {"[fe80::1%1]:25", 0, "[fe80::1%1]:25"},
        {"[fe80::1%lo]:25", 0, "[fe80::1%1]:25"},
        {"192.0.2.1", 0, REFUSED},
        {"::1", 0, REFUSED},
        {"::1:25", 0, REFUSED},
        {"192.0.2.1:0", 25, REFUSED},
        {"192.0.2.1:65536", 0, REFUSED},
        {"192.0.2.1:99999999999999999999", 0, REFUSED},
        {"192.0.2.1:", 25, REFUSED},
        {"192.0.2.1:-1", 25, REFUSED},
        {"192.0.2.1:+25", 25, REFUSED},
        {"192.0.2.1: 25", 25, REFUSED},
        {"192.0.2.1:25x", 25, REFUSED},
        {":25", 0, REFUSED},
        {"[]:25", 0, REFUSED},
        {"[::1", 25, REFUSED},
        {"[::1]25", 25, REFUSED},
        {"[::1]:", 25, REFUSED},
        {"host:25", 25, REFUSED},
    };
    for (size_t i = 0; i < COUNT(table); i++) {
        char text[IP_ENDPOINT_BYTES];
        struct ip_endpoint e;
        bool good = ip_parse_endpoint(table[i].text, table[i].port_default, &e);
        ck_assert_msg(good == (table[i].printed != NULL), "%s", table[i].text);
        if (good)
            ck_assert_str_eq(ip_format_endpoint(&e, text), table[i].printed);
    }
}
END_TEST

START_TEST(networks)
{
    static const struct {
        const char *text;
        int bits; /* -1: refused */
    } table[] = {
        {"192.168.0.0/16", 16},
        {"192.168.1.9", 32},
        {"0.0.0.0/0", 0},
        {"10.1.2.128/25", 25},
        {"::/0", 0},
        {"fc00::/7", 7},
        {"fe80::/10", 10},
        {"[fe80::]/10", 10},
        {"::1", 128},
        {"192.168.1.9/16", -1}, /* a mistake that we want to name */
        {"10.1.2.129/25", -1},
        {"fe00::/7", 7},
        {"fd00::/7", -1},
        {"192.168.0.0/33", -1},
        {"192.168.0.0/", -1},
        {"192.168.0.0/-1", -1},
        {"192.168.0.0/1x", -1},
        {"::/129", -1},
        {"/8", -1},
        {"", -1},
        {"lan/8", -1},
    };
    for (size_t i = 0; i < COUNT(table); i++) {
        struct ip_network n;
        bool good = ip_parse_network(table[i].text, &n);
        ck_assert_msg(good == (table[i].bits >= 0), "%s", table[i].text);
        if (good)
            ck_assert_int_eq((int)n.prefix_bits, table[i].bits);
    }
}
END_TEST

START_TEST(membership)
{
    static const struct {
        const char *address, *network;
        bool is_in;
    } table[] = {
        {"192.168.255.255", "192.168.0.0/16", true},
        {"192.169.0.0", "192.168.0.0/16", false},
        {"::ffff:10.0.0.9", "10.0.0.0/8", true}, /* mapped: it is IPv4 */
        {"10.0.0.9", "::/0", false},
        {"::1", "0.0.0.0/0", false},
        {"10.1.2.127", "10.1.2.0/25", true},
        {"10.1.2.128", "10.1.2.0/25", false},
        {"10.1.2.3", "10.1.2.3", true},
        {"10.1.2.2", "10.1.2.3", false},
        {"255.255.255.255", "0.0.0.0/0", true},
        {"fdff::1", "fc00::/7", true},
        {"fe00::1", "fc00::/7", false},
        {"febf::1", "fe80::/10", true},
        {"fec0::1", "fe80::/10", false},
        {"fe80::1%1", "fe80::/10", true},
        {"2001:db8::1", "2001:db8::1", true},
    };
    for (size_t i = 0; i < COUNT(table); i++) {
        struct ip_address a;
        struct ip_network n;
        ck_assert(ip_parse(table[i].address, &a));
        ck_assert(ip_parse_network(table[i].network, &n));
        ck_assert_msg(ip_in_network(&a, &n) == table[i].is_in, "%s in %s",
                      table[i].address, table[i].network);
    }
}
END_TEST

START_TEST(kinds)
{
    static const struct {
        const char *text;
        bool is_loopback, is_host;
    } table[] = {
        {"127.0.0.1", true, true},
        {"127.255.255.254", true, true},
        {"::1", true, true},
        {"::ffff:127.0.0.1", true, true},
        {"192.0.2.1", false, true},
        {"223.255.255.255", false, true},
        {"fe80::1", false, true},
        {"0.0.0.0", false, false},
        {"0.1.2.3", false, false},
        {"224.0.0.1", false, false},
        {"255.255.255.255", false, false},
        {"::", false, false},
        {"ff02::1", false, false},
    };
    for (size_t i = 0; i < COUNT(table); i++) {
        struct ip_address a;
        ck_assert(ip_parse(table[i].text, &a));
        ck_assert_msg(ip_is_loopback(&a) == table[i].is_loopback, "%s",
                      table[i].text);
        ck_assert_msg(ip_is_host(&a) == table[i].is_host, "%s", table[i].text);
    }
    struct ip_address none = {0};
    char text[IP_TEXT_BYTES];
    ck_assert(!ip_is_host(&none) && !ip_is_loopback(&none));
    ck_assert_str_eq(ip_format(&none, text), "-");
}
END_TEST

START_TEST(equality)
{
    struct ip_address a, b;
    ip_parse("192.0.2.1", &a);
    ip_parse("::ffff:192.0.2.1", &b);
    ck_assert(ip_equal(&a, &b));
    ip_parse("192.0.2.2", &b);
    ck_assert(!ip_equal(&a, &b));
    ip_parse("fe80::1%1", &a);
    ip_parse("fe80::1%2", &b);
    ck_assert(!ip_equal(&a, &b)); /* the same number on another wire */
}
END_TEST

START_TEST(through_the_socket_and_back)
{
    static const char *const table[] = {"192.0.2.1:25", "[2001:db8::1]:587",
                                        "[fe80::1%7]:25"};
    struct sockaddr_storage at;
    struct ip_endpoint e, back;
    for (size_t i = 0; i < COUNT(table); i++) {
        char text[IP_ENDPOINT_BYTES];
        ck_assert(ip_parse_endpoint(table[i], 0, &e));
        socklen_t bytes = ip_to_sockaddr(&e, &at);
        ck_assert(bytes == (e.address.family == AF_INET
                                ? sizeof(struct sockaddr_in)
                                : sizeof(struct sockaddr_in6)));
        ck_assert(ip_from_sockaddr(&at, &back));
        ck_assert_str_eq(ip_format_endpoint(&back, text), table[i]);
    }
    /* A dual-stack listener shows IPv4 clients as mapped addresses. */
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&at;
    inet_pton(AF_INET6, "::ffff:192.0.2.9", &in6->sin6_addr);
    in6->sin6_scope_id = 0;
    ck_assert(ip_from_sockaddr(&at, &back));
    ck_assert_int_eq(back.address.family, AF_INET);
    at.ss_family = AF_UNIX;
    ck_assert(!ip_from_sockaddr(&at, &back));
}
END_TEST

Suite *suite_ip(void)
{
    Suite *s = suite_create("ip");
    TCase *c = tcase_create("ip");
    tcase_add_test(c, addresses);
    tcase_add_test(c, endpoints);
    tcase_add_test(c, networks);
    tcase_add_test(c, membership);
    tcase_add_test(c, kinds);
    tcase_add_test(c, equality);
    tcase_add_test(c, through_the_socket_and_back);
    suite_add_tcase(s, c);
    return s;
}
