/* message: header sections good and odd, and the lines that we put before
 * them. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../ip.h"
#include "../message.h"
Suite *suite_message(void);

#define COUNT(table) (sizeof(table) / sizeof(table)[0])
#define WIRE(text)   text, sizeof(text) - 1

#define NOW    1792929600 /* 2026-10-25 12:00:00 UTC */
#define DATE   "Sun, 25 Oct 2026 12:00:00 +0000"
#define ID     "0000ABCD"
#define OURS   "relay.lan"
#define RANDOM 0xfeedbeef

static char space[4096];
static struct buf out;

static void set_zone(const char *zone)
{
    setenv("TZ", zone, 1);
    tzset();
}

static void setup(void)
{
    buf_init(&out, space, sizeof space);
    set_zone("UTC0");
}

static void scan(struct message_scan *s, const void *bytes, size_t count,
                 size_t piece)
{
    memset(s, 0, sizeof *s);
    for (size_t at = 0; at < count; at += piece)
        message_scan(s, (const uint8_t *)bytes + at,
                     count - at < piece ? count - at : piece);
    message_scan_end(s);
}

static struct message_origin origin(void)
{
    struct message_origin o = {
        .helo = "printer",
        .hostname = OURS,
        .protocol = "ESMTP",
        .id = ID,
        .reverse_path = "scan@example.org",
        .only_recipient = "boss@example.org",
    };
    ip_parse("192.0.2.9", &o.client);
    return o;
}

static const char *head_of(const struct message_scan *s,
                           const struct message_origin *o)
{
    buf_clear(&out);
    message_put_head(s, o, NOW, RANDOM, &out);
    ck_assert(!out.overflow);
    ck_assert_uint_lt(buf_len(&out), sizeof space);
    space[buf_len(&out)] = '\0';
    return space;
}

/* ---- The walk ------------------------------------------------------------ */

enum {
    DATED = 1,
    FROM = 2,
    MSGID = 4,
    HEADERLESS = 8,
    EMPTY = 16
};
#define ALL (DATED | FROM | MSGID)

static unsigned facts_of(const struct message_scan *s)
{
    return (s->has_date ? DATED : 0u) | (s->has_from ? FROM : 0u) |
           (s->has_message_id ? MSGID : 0u) |
           (s->is_headerless ? HEADERLESS : 0u) | (s->is_empty ? EMPTY : 0u);
}

static const struct {
    const char *bytes;
    size_t count;
    unsigned facts;
    unsigned received;
} walks[] = {
    {WIRE("Date: x\r\nFrom: y\r\nMessage-ID: <z>\r\n\r\nbody\r\n"), ALL, 0},
    {WIRE("dAtE: x\r\nFROM: y\r\nmessage-id: <z>\r\n\r\n"), ALL, 0},
    {WIRE("Date : x\r\nFrom\t: y\r\nMessage-Id \t : <z>\r\n\r\n"), ALL, 0},
    {WIRE("Subject: x\r\n\r\nDate: in the body\r\n"), 0, 0},
    {WIRE("Subject : x\r\nFrom: y\r\n\r\n"), FROM, 0},
    {WIRE("Subject: x"), 0, 0},
    {WIRE("Subject: x\r\n"), 0, 0},
    {WIRE("Subject:\r\nFrom:y\r\n"), FROM, 0},
    {WIRE("Subject: a\r\n From: folded\r\n\tDate: too\r\n\r\n"), 0, 0},
    {WIRE("Subject: a\r\n \r\nFrom: y\r\n\r\n"), FROM, 0},
    {WIRE("Received: a\r\nRECEIVED: b\r\nX-Received: c\r\n\r\n"), 0, 2},
    {WIRE("Received : a\r\nReceived-SPF: b\r\nReceive: c\r\n\r\n"), 0, 1},
    {WIRE("Resent-Date: x\r\nX-From: y\r\nOriginal-Message-ID: z\r\n"), 0, 0},
    {WIRE("Date-X: x\r\nDat: x\r\nFromm: y\r\n"), 0, 0},
    {WIRE("Date-And-A-Very-Long-Name-Indeed: x\r\n\r\n"), 0, 0},
    /* a body and no header */
    {WIRE("hello\r\n"), HEADERLESS, 0},
    {WIRE("hello"), HEADERLESS, 0},
    {WIRE("hello world: it works\r\nDate: x\r\n"), HEADERLESS, 0},
    {WIRE(" folded first\r\nDate: x\r\n"), HEADERLESS, 0},
    {WIRE(": no name\r\nDate: x\r\n"), HEADERLESS, 0},
    {WIRE("\0binary"), HEADERLESS, 0},
    {WIRE("\xef\xbb\xbfSubject: x\r\n"), HEADERLESS, 0},
    {WIRE("From me@x Sat Nov 21 2026\r\nDate: x\r\n\r\n"), HEADERLESS, 0},
    {WIRE("Na\x01me: x\r\nDate: x\r\n"), HEADERLESS, 0},
    {WIRE("Subject \r\nDate: x\r\n"), HEADERLESS, 0},
    /* a header that stops without its blank line */
    {WIRE("Date: x\r\nhello\r\nFrom: y\r\n"), DATED, 0},
    {WIRE("Date: x\r\n: y\r\nFrom: y\r\n"), DATED, 0},
    /* nothing */
    {WIRE(""), EMPTY, 0},
    {WIRE("\r\n"), 0, 0},
    {WIRE("\r\nDate: in the body\r\n"), 0, 0},
    {WIRE("\r\n\r\n"), 0, 0},
};

START_TEST(a17_walks)
{
    for (size_t i = 0; i < COUNT(walks); i++)
        for (size_t piece = 1; piece <= walks[i].count + 1; piece++) {
            struct message_scan s;
            scan(&s, walks[i].bytes, walks[i].count, piece);
            ck_assert_msg(facts_of(&s) == walks[i].facts,
                          "row %zu, pieces of %zu: %u", i, piece, facts_of(&s));
            ck_assert_msg(s.received == walks[i].received, "row %zu: %u", i,
                          s.received);
        }
}
END_TEST

/* The blank line is put where there is none, and nowhere else. */
START_TEST(blank_line_is_put_where_it_is_missing)
{
    struct message_origin o = origin();
    for (size_t i = 0; i < COUNT(walks); i++) {
        struct message_scan s;
        scan(&s, walks[i].bytes, walks[i].count, 7);
        const char *head = head_of(&s, &o);
        bool has_blank = strstr(head, "\r\n\r\n") != NULL;
        ck_assert_msg(has_blank ==
                          ((walks[i].facts & (HEADERLESS | EMPTY)) != 0),
                      "row %zu", i);
        ck_assert_msg((strstr(head, "\r\nDate: ") == NULL) ==
                          ((walks[i].facts & DATED) != 0),
                      "row %zu", i);
        ck_assert_msg((strstr(head, "\r\nFrom: ") == NULL) ==
                          ((walks[i].facts & FROM) != 0),
                      "row %zu", i);
        ck_assert_msg((strstr(head, "\r\nMessage-ID: ") == NULL) ==
                          ((walks[i].facts & MSGID) != 0),
                      "row %zu", i);
    }
}
END_TEST

START_TEST(hops_are_counted)
{
    static const unsigned hops[] = {0, 1, 99, 100, 101};
    static const char line[] = "Received: from a by b;\r\n\tSat\r\n";
    static char text[102 * sizeof line];
    for (size_t i = 0; i < COUNT(hops); i++) {
        struct message_scan s;
        size_t used = 0;
        for (unsigned k = 0; k < hops[i]; k++, used += sizeof line - 1)
            memcpy(text + used, line, sizeof line - 1);
        scan(&s, text, used, 1000);
        ck_assert_uint_eq(s.received, hops[i]);
        scan(&s, text, used, 1);
        ck_assert_uint_eq(s.received, hops[i]);
    }
}
END_TEST

START_TEST(ten_thousand_headers)
{
    static char text[400000];
    size_t used = 0;
    for (int i = 0; i < 10000; i++)
        used += (size_t)snprintf(text + used, sizeof text - used,
                                 "X-Header-%d: some value\r\n", i);
    used += (size_t)snprintf(text + used, sizeof text - used,
                             "Date: at last\r\n\r\nFrom: y\r\n");
    for (size_t piece = 1; piece < 5000; piece += 611) {
        struct message_scan s;
        scan(&s, text, used, piece);
        ck_assert_uint_eq(facts_of(&s), DATED);
    }
}
END_TEST

START_TEST(folded_megabyte)
{
    static char text[1 << 20];
    struct message_scan s;
    memset(text, 'x', sizeof text);
    memcpy(text, "Subject: x", 10);
    for (size_t i = 70; i + 3 < sizeof text; i += 72)
        memcpy(text + i, "\r\n ", 3);
    memcpy(text + sizeof text - 12, "\r\nDate: x\r\n\r", 12);
    for (size_t piece = 1; piece < 100000; piece = piece * 9 + 1) {
        scan(&s, text, sizeof text, piece);
        ck_assert_uint_eq(facts_of(&s), DATED);
    }
    memset(text + 10, 'x', sizeof text - 10); /* and one line of that size */
    scan(&s, text, sizeof text, 4096);
    ck_assert_uint_eq(facts_of(&s), 0);
    memset(text, 'x', sizeof text); /* and one name */
    scan(&s, text, sizeof text, 4096);
    ck_assert_uint_eq(facts_of(&s), HEADERLESS);
}
END_TEST

/* ---- The lines that we put ----------------------------------------------- */

#define RECEIVED_FROM(helo, literal)                                           \
    "Received: from " helo " (" literal ")\r\n"                                \
    "\tby " OURS " with ESMTP id " ID
#define FOR "\r\n\tfor <boss@example.org>"
#define RECEIVED(helo, literal)                                                \
    RECEIVED_FROM(helo, literal) FOR ";\r\n\t" DATE "\r\n"
#define LITERAL "[192.0.2.9]"

START_TEST(golden_heads)
{
    struct message_scan s;
    struct message_origin o = origin();
    scan(&s, WIRE("Date: x\r\nFrom: y\r\nMessage-ID: z\r\n\r\n"), 99);
    ck_assert_str_eq(head_of(&s, &o), RECEIVED("printer", LITERAL));
    scan(&s, WIRE("Subject: x\r\n\r\n"), 99);
    ck_assert_str_eq(
        head_of(&s, &o),
        RECEIVED("printer", LITERAL) "Date: " DATE "\r\n"
                                     "From: <scan@example.org>\r\n"
                                     "Message-ID: <6addef40.feedbeef." ID
                                     "@" OURS ">\r\n");
    scan(&s, WIRE(""), 99);
    o.reverse_path = "";
    o.only_recipient = NULL;
    ck_assert_str_eq(
        head_of(&s, &o),
        RECEIVED_FROM("printer", LITERAL) ";\r\n\t" DATE "\r\n"
                                          "Date: " DATE "\r\n"
                                          "From: <postmaster@" OURS ">\r\n"
                                          "Message-ID: <6addef40.feedbeef." ID
                                          "@" OURS ">\r\n"
                                          "\r\n");
}
END_TEST

/* RFC 5321 section 4.4 has no place for what some devices say in HELO. */
START_TEST(helo_in_received)
{
    static char long_name[300];
    memset(long_name, 'a', sizeof long_name - 1);
    const struct {
        const char *helo, *shown;
    } table[] = {
        {"printer", "printer"},
        {"my_nas.lan", "my_nas.lan"},
        {"[192.0.2.77]", "[192.0.2.77]"},
        {"[IPv6:fe80::1]", "[IPv6:fe80::1]"},
        {"HP LaserJet (2nd)", LITERAL},
        {"", LITERAL},
        {"a..b", LITERAL},
        {"x\r\nEvil: 1", LITERAL},
        {"x) (y", LITERAL},
        {"m\xc3\xbcller", LITERAL},
        {"[192.0.2.", LITERAL},
        {long_name, LITERAL},
    };
    struct message_scan s = {0};
    for (size_t i = 0; i < COUNT(table); i++) {
        char want[512];
        struct message_origin o = origin();
        o.helo = table[i].helo;
        snprintf(want, sizeof want, "Received: from %s (%s)\r\n",
                 table[i].shown, LITERAL);
        ck_assert_msg(strncmp(head_of(&s, &o), want, strlen(want)) == 0,
                      "%s: %s", table[i].helo, space);
    }
    struct message_origin o = origin();
    ip_parse("fe80::9%1", &o.client);
    ck_assert_msg(strncmp(head_of(&s, &o),
                          "Received: from printer ([IPv6:fe80::9])\r\n",
                          41) == 0,
                  "%s", space);
}
END_TEST

START_TEST(zone_is_a_number)
{
    static const struct {
        const char *zone, *date;
    } table[] = {
        {"UTC0", DATE},
        {"XYZ-5:30", "Sun, 25 Oct 2026 17:30:00 +0530"},
        {"XYZ9:30", "Sun, 25 Oct 2026 02:30:00 -0930"},
        {"CET-1CEST,M3.5.0,M10.5.0/3", "Sun, 25 Oct 2026 13:00:00 +0100"},
        {"XYZ-14", "Mon, 26 Oct 2026 02:00:00 +1400"},
    };
    struct message_scan s = {0};
    struct message_origin o = origin();
    for (size_t i = 0; i < COUNT(table); i++) {
        char want[64];
        set_zone(table[i].zone);
        const char *head = head_of(&s, &o);
        snprintf(want, sizeof want, ";\r\n\t%s\r\n", table[i].date);
        ck_assert_msg(strstr(head, want) != NULL, "%s: %s", want, head);
        snprintf(want, sizeof want, "\r\nDate: %s\r\n", table[i].date);
        ck_assert_msg(strstr(head, want) != NULL, "%s: %s", want, head);
    }
}
END_TEST

/* The longest of everything: each line within RFC 5322 section 2.1.1, and the
 * whole within the room that the queue keeps for a head. */
START_TEST(longest_head)
{
    char name[256], mailbox[387];
    for (int i = 0; i < 255; i++)
        name[i] = i % 64 == 63 ? '.' : 'n';
    name[255] = '\0';
    memset(mailbox, 'm', sizeof mailbox - 1);
    mailbox[sizeof mailbox - 1] = '\0';
    struct message_origin o = origin();
    ip_parse("2001:1111:1111:1111:1111:1111:1111:1111", &o.client);
    o.helo = o.hostname = name;
    o.reverse_path = o.only_recipient = mailbox;
    struct message_scan s = {0};
    message_scan_end(&s);
    const char *head = head_of(&s, &o);
    ck_assert_uint_le(strlen(head), 2000);
    for (const char *at = head; *at; at = strchr(at, '\n') + 1) {
        const char *end = strstr(at, "\r\n");
        ck_assert(end != NULL);
        ck_assert_int_le(end - at, 998);
    }
    struct buf small;
    buf_init(&small, space, strlen(head) - 1);
    message_put_head(&s, &o, NOW, RANDOM, &small);
    ck_assert(small.overflow);
}
END_TEST

Suite *suite_message(void)
{
    Suite *s = suite_create("message");
    TCase *c = tcase_create("message");
    tcase_add_checked_fixture(c, setup, NULL);
    tcase_set_timeout(c, 60);
    tcase_add_test(c, a17_walks);
    tcase_add_test(c, blank_line_is_put_where_it_is_missing);
    tcase_add_test(c, hops_are_counted);
    tcase_add_test(c, ten_thousand_headers);
    tcase_add_test(c, folded_megabyte);
    tcase_add_test(c, golden_heads);
    tcase_add_test(c, helo_in_received);
    tcase_add_test(c, zone_is_a_number);
    tcase_add_test(c, longest_head);
    suite_add_tcase(s, c);
    return s;
}
