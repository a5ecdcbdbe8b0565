/* rewrite: what the settings make of senders and recipients, by table. */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "../rewrite.h"
#include "../settings.h"
#include "../users.h"
Suite *suite_rewrite(void);

#define COUNT(table) (sizeof(table) / sizeof(table)[0])
#define BASE         "smarthost = 127.0.0.1:9\nsmarthost_tls = none\n"

#define LOCAL_16       "abcdefghijklmnop"
#define LOCAL_64       LOCAL_16 LOCAL_16 LOCAL_16 LOCAL_16
#define LABEL_63       LOCAL_16 LOCAL_16 LOCAL_16 "abcdefghijklmno"
#define LONG_DOMAIN    LABEL_63 "." LABEL_63 "." LABEL_63
#define LONGEST_DOMAIN LONG_DOMAIN "." LABEL_63

/* Of the password "secret", as test_users.c has it. */
#define HASH                                                                   \
    "$pbkdf2-sha256$1000$c2FsdHNhbHQ=$hgR9HsqtKupWxpnv8y99TrPDajTT/"           \
    "9PcSTlNafpdLXQ="

static void use(const char *more)
{
    char text[2048], error[SETTINGS_ERROR_BYTES];
    snprintf(text, sizeof text, BASE "%s", more);
    ck_assert_msg(settings_load_text("conf", text, strlen(text), error), "%s",
                  error);
}

static void setup(void)
{
    static const char text[] = "nas:" HASH "\n"
                               "scan:" HASH ":scan@example.com @example.net\n";
    char why[USERS_WHY_BYTES];
    ck_assert_msg(users_load_text(text, sizeof text - 1, why), "%s", why);
}

static void teardown(void)
{
    users_wipe();
}

static struct path path(const char *text)
{
    struct path p;
    const char *rest;
    ck_assert_msg(path_parse(text, &p, &rest), "%s", text);
    return p;
}

/* A path that says of itself what is true. */
static void expect(const struct path *p, const char *mailbox, size_t row)
{
    struct path again;
    const char *rest;
    char text[PATH_BYTES + 2];
    ck_assert_msg(strcmp(p->mailbox, mailbox) == 0, "row %zu: %s", row,
                  p->mailbox);
    snprintf(text, sizeof text, "<%s>", p->mailbox);
    ck_assert(path_parse(text, &again, &rest));
    ck_assert_msg(p->has_domain == again.has_domain, "row %zu", row);
    ck_assert_msg(p->is_utf8 == again.is_utf8, "row %zu", row);
}

/* ---- Senders ------------------------------------------------------------- */

#define COMPLETE "default_domain = example.com\n"
#define STAND_IN "sender = relay@example.com\n"
#define NEVER    "sender_rewrite = never\n"
#define ALWAYS   "sender_rewrite = always\n" STAND_IN
#define OURS     "sender_domains = example.com example.net\n"
#define BY_NET                                                                 \
    "rewrite_from 192.168.1.9 = scanner@example.com\n"                         \
    "rewrite_from 192.168.0.0/16 = lan@example.com\n"                          \
    "rewrite_from fd00::/8 = six@example.com\n"

static const struct {
    const char *settings, *client, *user, *from;
    enum rewrite_verdict verdict;
    const char *mailbox; /* NULL: of no use */
} senders[] = {
    /* nothing is set: full addresses pass, the others cannot */
    {"", "10.0.0.1", "", "<a@b.example>", REWRITE_KEPT, "a@b.example"},
    {"", "10.0.0.1", "", "<>", REWRITE_KEPT, ""},
    {"", "10.0.0.1", "", "<root>", REWRITE_HALF, NULL},
    {"", "10.0.0.1", "", "<root@nas>", REWRITE_KEPT, "root@nas"},
    {"", "10.0.0.1", "", "<\"a b\"@c.example>", REWRITE_KEPT,
     "\"a b\"@c.example"},
    {"", "10.0.0.1", "", "<m\xc3\xbc@b.example>", REWRITE_KEPT,
     "m\xc3\xbc@b.example"},

    /* default_domain */
    {COMPLETE, "10.0.0.1", "", "<root>", REWRITE_CHANGED, "root@example.com"},
    {COMPLETE, "10.0.0.1", "", "<root@>", REWRITE_CHANGED, "root@example.com"},
    {COMPLETE, "10.0.0.1", "", "<a@b.example>", REWRITE_KEPT, "a@b.example"},
    {COMPLETE, "10.0.0.1", "", "<root@nas>", REWRITE_KEPT, "root@nas"},
    {COMPLETE, "10.0.0.1", "", "<>", REWRITE_KEPT, ""},
    {COMPLETE, "10.0.0.1", "", "<\"a b\">", REWRITE_CHANGED,
     "\"a b\"@example.com"},
    {COMPLETE, "10.0.0.1", "", "<scan.>", REWRITE_CHANGED,
     "\"scan.\"@example.com"},
    {COMPLETE, "10.0.0.1", "", "<m\xc3\xbc>", REWRITE_CHANGED,
     "m\xc3\xbc@example.com"},
    {COMPLETE, "10.0.0.1", "", "<" LOCAL_64 ">", REWRITE_CHANGED,
     LOCAL_64 "@example.com"},
    {COMPLETE NEVER, "10.0.0.1", "", "<root>", REWRITE_CHANGED,
     "root@example.com"},

    /* sender_rewrite = unqualified: for what no smarthost takes */
    {STAND_IN, "10.0.0.1", "", "<root>", REWRITE_CHANGED, "relay@example.com"},
    {STAND_IN, "10.0.0.1", "", "<root@nas>", REWRITE_CHANGED,
     "relay@example.com"},
    {STAND_IN, "10.0.0.1", "", "<root@nas.local>", REWRITE_CHANGED,
     "relay@example.com"},
    {STAND_IN, "10.0.0.1", "", "<root@nas.Fritz.Home>", REWRITE_CHANGED,
     "relay@example.com"},
    {STAND_IN, "10.0.0.1", "", "<root@[10.0.0.1]>", REWRITE_CHANGED,
     "relay@example.com"},
    {STAND_IN, "10.0.0.1", "", "<\"a b\"@c.example>", REWRITE_CHANGED,
     "relay@example.com"},
    {STAND_IN, "10.0.0.1", "", "<a@b.example>", REWRITE_KEPT, "a@b.example"},
    {STAND_IN, "10.0.0.1", "", "<>", REWRITE_KEPT, ""},
    {STAND_IN COMPLETE, "10.0.0.1", "", "<root>", REWRITE_CHANGED,
     "root@example.com"},
    {STAND_IN COMPLETE, "10.0.0.1", "", "<scan.>", REWRITE_CHANGED,
     "relay@example.com"},
    {STAND_IN COMPLETE, "10.0.0.1", "", "<root@nas>", REWRITE_CHANGED,
     "relay@example.com"},
    {STAND_IN "default_domain = nas.lan\n", "10.0.0.1", "", "<root>",
     REWRITE_CHANGED, "relay@example.com"},

    /* never */
    {STAND_IN NEVER, "10.0.0.1", "", "<root>", REWRITE_HALF, NULL},
    {STAND_IN NEVER, "10.0.0.1", "", "<root@nas>", REWRITE_KEPT, "root@nas"},
    {STAND_IN NEVER COMPLETE, "10.0.0.1", "", "<root>", REWRITE_CHANGED,
     "root@example.com"},

    /* always */
    {ALWAYS, "10.0.0.1", "", "<a@b.example>", REWRITE_CHANGED,
     "relay@example.com"},
    {ALWAYS, "10.0.0.1", "", "<root>", REWRITE_CHANGED, "relay@example.com"},
    {ALWAYS, "10.0.0.1", "", "<>", REWRITE_CHANGED, "relay@example.com"},
    {ALWAYS, "10.0.0.1", "", "<relay@example.com>", REWRITE_KEPT,
     "relay@example.com"},
    {ALWAYS, "10.0.0.1", "", "<m\xc3\xbc@b.example>", REWRITE_CHANGED,
     "relay@example.com"},

    /* sender_domains: refused, or replaced */
    {OURS, "10.0.0.1", "", "<a@example.com>", REWRITE_KEPT, "a@example.com"},
    {OURS, "10.0.0.1", "", "<a@EXAMPLE.net>", REWRITE_KEPT, "a@EXAMPLE.net"},
    {OURS, "10.0.0.1", "", "<a@b.example>", REWRITE_FOREIGN, NULL},
    {OURS, "10.0.0.1", "", "<a@sub.example.com>", REWRITE_FOREIGN, NULL},
    {OURS, "10.0.0.1", "", "<a@badexample.com>", REWRITE_FOREIGN, NULL},
    {OURS, "10.0.0.1", "", "<a@example.co>", REWRITE_FOREIGN, NULL},
    {OURS, "10.0.0.1", "", "<\"a@example.com\"@b.example>", REWRITE_FOREIGN,
     NULL},
    {OURS, "10.0.0.1", "", "<a@[10.0.0.1]>", REWRITE_FOREIGN, NULL},
    {OURS, "10.0.0.1", "", "<>", REWRITE_KEPT, ""},
    {OURS, "10.0.0.1", "", "<root>", REWRITE_HALF, NULL},
    {OURS COMPLETE, "10.0.0.1", "", "<root>", REWRITE_CHANGED,
     "root@example.com"},
    {OURS "default_domain = b.example\n", "10.0.0.1", "", "<root>",
     REWRITE_FOREIGN, NULL},
    {OURS STAND_IN, "10.0.0.1", "", "<a@b.example>", REWRITE_CHANGED,
     "relay@example.com"},
    {OURS STAND_IN, "10.0.0.1", "", "<a@example.net>", REWRITE_KEPT,
     "a@example.net"},
    {OURS STAND_IN NEVER, "10.0.0.1", "", "<a@b.example>", REWRITE_FOREIGN,
     NULL},

    /* rewrite_from: the first network that fits, before all else */
    {BY_NET, "192.168.1.9", "", "<a@b.example>", REWRITE_CHANGED,
     "scanner@example.com"},
    {BY_NET, "192.168.1.8", "", "<root>", REWRITE_CHANGED, "lan@example.com"},
    {BY_NET, "192.168.255.255", "", "<>", REWRITE_CHANGED, "lan@example.com"},
    {BY_NET, "192.169.0.0", "", "<a@b.example>", REWRITE_KEPT, "a@b.example"},
    {BY_NET, "fd00::9", "", "<a@b.example>", REWRITE_CHANGED,
     "six@example.com"},
    {BY_NET, "::ffff:192.168.1.9", "", "<a@b.example>", REWRITE_CHANGED,
     "scanner@example.com"},
    {BY_NET, "fe80::9", "", "<a@b.example>", REWRITE_KEPT, "a@b.example"},
    {BY_NET, "192.168.1.9", "", "<scanner@example.com>", REWRITE_KEPT,
     "scanner@example.com"},
    {BY_NET ALWAYS, "192.168.1.9", "", "<a@b.example>", REWRITE_CHANGED,
     "scanner@example.com"},
    {BY_NET NEVER, "192.168.1.9", "", "<a@b.example>", REWRITE_CHANGED,
     "scanner@example.com"},
    {BY_NET "sender_domains = example.org\n", "192.168.1.9", "",
     "<a@b.example>", REWRITE_CHANGED, "scanner@example.com"},

    /* what a user may, of the sender as it will be */
    {"", "10.0.0.1", "nas", "<a@b.example>", REWRITE_KEPT, "a@b.example"},
    {"", "10.0.0.1", "scan", "<scan@example.com>", REWRITE_KEPT,
     "scan@example.com"},
    {"", "10.0.0.1", "scan", "<SCAN@Example.com>", REWRITE_KEPT,
     "SCAN@Example.com"},
    {"", "10.0.0.1", "scan", "<any@example.net>", REWRITE_KEPT,
     "any@example.net"},
    {"", "10.0.0.1", "scan", "<boss@example.com>", REWRITE_FORBIDDEN, NULL},
    {"", "10.0.0.1", "scan", "<a@sub.example.net>", REWRITE_FORBIDDEN, NULL},
    {"", "10.0.0.1", "scan", "<>", REWRITE_KEPT, ""},
    {"", "10.0.0.1", "scan", "<scan>", REWRITE_HALF, NULL},
    {"", "10.0.0.1", "gone", "<a@b.example>", REWRITE_FORBIDDEN, NULL},
    {COMPLETE, "10.0.0.1", "scan", "<scan>", REWRITE_CHANGED,
     "scan@example.com"},
    {COMPLETE, "10.0.0.1", "scan", "<boss>", REWRITE_FORBIDDEN, NULL},
    {BY_NET, "192.168.1.9", "scan", "<scan@example.com>", REWRITE_FORBIDDEN,
     NULL},
    {ALWAYS, "10.0.0.1", "scan", "<scan@example.com>", REWRITE_FORBIDDEN, NULL},
    {OURS, "10.0.0.1", "scan", "<a@b.example>", REWRITE_FOREIGN, NULL},
};

START_TEST(what_becomes_of_senders)
{
    for (size_t i = 0; i < COUNT(senders); i++) {
        struct rewrite_who who = {.user = senders[i].user};
        struct path from = path(senders[i].from);
        ck_assert(ip_parse(senders[i].client, &who.client));
        use(senders[i].settings);
        enum rewrite_verdict verdict = rewrite_sender(&who, &from);
        ck_assert_msg(verdict == senders[i].verdict, "row %zu: %d, %s", i,
                      verdict, from.mailbox);
        if (senders[i].mailbox == NULL)
            continue;
        expect(&from, senders[i].mailbox, i);
        /* and said once more it is as it should be */
        verdict = rewrite_sender(&who, &from);
        ck_assert_msg(verdict == REWRITE_KEPT, "row %zu: %d", i, verdict);
    }
}
END_TEST

/* ---- Recipients ---------------------------------------------------------- */

#define TO                                                                     \
    "rewrite_to root = admin@example.com\n"                                    \
    "rewrite_to old@b.example = new@example.com\n"                             \
    "rewrite_to @old.example = @new.example\n"
#define MASTER "postmaster = me@example.com\n"

static const struct {
    const char *settings, *to;
    enum rewrite_verdict verdict;
    const char *mailbox;
} recipients[] = {
    {"", "<a@b.example>", REWRITE_KEPT, "a@b.example"},
    {"", "<root@nas>", REWRITE_KEPT, "root@nas"},
    {"", "<root>", REWRITE_HALF, "root"},
    {COMPLETE, "<root>", REWRITE_CHANGED, "root@example.com"},
    {COMPLETE, "<root@>", REWRITE_CHANGED, "root@example.com"},
    {COMPLETE, "<root@nas>", REWRITE_KEPT, "root@nas"},

    /* a local part: ours, however a device calls us */
    {TO, "<root>", REWRITE_CHANGED, "admin@example.com"},
    {TO, "<ROOT>", REWRITE_CHANGED, "admin@example.com"},
    {TO, "<root@>", REWRITE_CHANGED, "admin@example.com"},
    {TO, "<root@nas>", REWRITE_CHANGED, "admin@example.com"},
    {TO, "<root@localhost>", REWRITE_CHANGED, "admin@example.com"},
    {TO, "<root@nas.lan>", REWRITE_KEPT, "root@nas.lan"},
    {TO, "<root@b.example>", REWRITE_KEPT, "root@b.example"},
    {TO, "<root@[10.0.0.1]>", REWRITE_KEPT, "root@[10.0.0.1]"},
    {TO, "<roots>", REWRITE_HALF, "roots"},
    {TO, "<roo>", REWRITE_HALF, "roo"},
    {TO, "<\"root\"@nas>", REWRITE_KEPT, "\"root\"@nas"},
    {TO COMPLETE, "<root>", REWRITE_CHANGED, "admin@example.com"},
    {TO COMPLETE, "<boss>", REWRITE_CHANGED, "boss@example.com"},

    /* an address */
    {TO, "<old@b.example>", REWRITE_CHANGED, "new@example.com"},
    {TO, "<Old@B.Example>", REWRITE_CHANGED, "new@example.com"},
    {TO, "<older@b.example>", REWRITE_KEPT, "older@b.example"},
    {TO "default_domain = b.example\n", "<old>", REWRITE_CHANGED,
     "new@example.com"},

    /* a domain */
    {TO, "<a.b+c@old.example>", REWRITE_CHANGED, "a.b+c@new.example"},
    {TO, "<a@OLD.example>", REWRITE_CHANGED, "a@new.example"},
    {TO, "<\"a@b\"@old.example>", REWRITE_CHANGED, "\"a@b\"@new.example"},
    {TO, "<m\xc3\xbc@old.example>", REWRITE_CHANGED, "m\xc3\xbc@new.example"},
    {TO, "<a@sub.old.example>", REWRITE_KEPT, "a@sub.old.example"},
    {TO, "<a@bold.example>", REWRITE_KEPT, "a@bold.example"},
    {TO "default_domain = old.example\n", "<boss>", REWRITE_CHANGED,
     "boss@new.example"},

    /* the first that fits, and no second */
    {"rewrite_to a@b.example = c@d.example\n"
     "rewrite_to c@d.example = e@f.example\n",
     "<a@b.example>", REWRITE_CHANGED, "c@d.example"},
    {"rewrite_to a@b.example = b@b.example\n"
     "rewrite_to b@b.example = a@b.example\n",
     "<a@b.example>", REWRITE_CHANGED, "b@b.example"},
    {"rewrite_to @b.example = @c.example\nrewrite_to @c.example = @b.example\n",
     "<a@b.example>", REWRITE_CHANGED, "a@c.example"},
    {"rewrite_to a@b.example = x@d.example\nrewrite_to @b.example = "
     "@e.example\n",
     "<a@b.example>", REWRITE_CHANGED, "x@d.example"},
    {"rewrite_to @b.example = @e.example\nrewrite_to a@b.example = "
     "x@d.example\n",
     "<a@b.example>", REWRITE_CHANGED, "a@e.example"},
    {COMPLETE "rewrite_to root@example.com = me@d.example\n", "<root>",
     REWRITE_CHANGED, "me@d.example"},
    {COMPLETE "rewrite_to root = root@d.example\n"
              "rewrite_to root@d.example = me@d.example\n",
     "<root>", REWRITE_CHANGED, "root@d.example"},

    /* the postmaster is ours, and never a domain's */
    {"", "<postmaster>", REWRITE_HALF, "postmaster"},
    {COMPLETE, "<postmaster>", REWRITE_HALF, "postmaster"},
    {MASTER, "<postmaster>", REWRITE_CHANGED, "me@example.com"},
    {MASTER COMPLETE, "<PostMaster>", REWRITE_CHANGED, "me@example.com"},
    {MASTER, "<postmaster@b.example>", REWRITE_KEPT, "postmaster@b.example"},
    {MASTER "rewrite_to postmaster = you@example.com\n", "<postmaster>",
     REWRITE_CHANGED, "you@example.com"},
    {"rewrite_to postmaster = you@example.com\n", "<POSTMASTER>",
     REWRITE_CHANGED, "you@example.com"},
    {MASTER "rewrite_to me@example.com = you@example.com\n", "<postmaster>",
     REWRITE_CHANGED, "me@example.com"},
};

START_TEST(what_becomes_of_recipients)
{
    for (size_t i = 0; i < COUNT(recipients); i++) {
        struct path to = path(recipients[i].to);
        use(recipients[i].settings);
        enum rewrite_verdict verdict = rewrite_recipient(&to);
        ck_assert_msg(verdict == recipients[i].verdict, "row %zu: %d, %s", i,
                      verdict, to.mailbox);
        expect(&to, recipients[i].mailbox, i);
    }
}
END_TEST

/* ---- Too long ------------------------------------------------------------ */

/* The longest domain that a setting can have fits the longest local-part. */
START_TEST(longest_names)
{
    static const char *const locals[] = {LOCAL_64, "." LOCAL_16,
                                         "\"" LOCAL_16 "\"", "a"};
    use("default_domain = " LONGEST_DOMAIN "\n"
        "rewrite_to @old.example = @" LONG_DOMAIN "\n");
    for (size_t i = 0; i < COUNT(locals); i++) {
        char text[PATH_BYTES], want[PATH_BYTES];
        struct rewrite_who who = {.client.family = AF_INET, .user = ""};
        bool quote = locals[i][0] == '.';
        const char *q = quote ? "\"" : "";
        snprintf(want, sizeof want, "%s%s%s@%s", q, locals[i], q,
                 LONGEST_DOMAIN);
        snprintf(text, sizeof text, "<%s>", locals[i]);
        struct path p = path(text);
        ck_assert_int_eq(rewrite_sender(&who, &p), REWRITE_CHANGED);
        expect(&p, want, i);
        p = path(text);
        ck_assert_int_eq(rewrite_recipient(&p), REWRITE_CHANGED);
        expect(&p, want, i);
        snprintf(text, sizeof text, "<%s@old.example>", locals[i]);
        snprintf(want, sizeof want, "%s%s%s@%s", q, locals[i], q, LONG_DOMAIN);
        p = path(text);
        ck_assert_int_eq(rewrite_recipient(&p), REWRITE_CHANGED);
        expect(&p, want, i);
    }
}
END_TEST

/* Quotes of ours make a local-part of 64 bytes longer than one may be: it
 * cannot be said again, so it stays as it is, and is refused where a domain is
 * needed. */
START_TEST(too_long_when_quoted)
{
    struct rewrite_who who = {.client.family = AF_INET, .user = ""};
    use(COMPLETE TO);
    struct path p = path("<." LOCAL_16 LOCAL_16 LOCAL_16 "abcdefghijklmno>");
    struct path before = p;
    ck_assert_int_eq(rewrite_sender(&who, &p), REWRITE_HALF);
    p = before;
    ck_assert_int_eq(rewrite_recipient(&p), REWRITE_HALF);
    p = path("<." LOCAL_16 LOCAL_16 LOCAL_16 "abcdefghijklmno@old.example>");
    before = p;
    ck_assert_int_eq(rewrite_recipient(&p), REWRITE_KEPT);
    ck_assert_str_eq(p.mailbox, before.mailbox);
    ck_assert(p.has_domain);
    use(STAND_IN COMPLETE);
    p = path("<." LOCAL_16 LOCAL_16 LOCAL_16 "abcdefghijklmno>");
    ck_assert_int_eq(rewrite_sender(&who, &p), REWRITE_CHANGED);
    ck_assert_str_eq(p.mailbox, "relay@example.com");
}
END_TEST

START_TEST(impossible_mailboxes)
{
    static const struct {
        const char *mailbox;
        bool is_impossible;
    } table[] = {
        {"a@b.example", false},
        {"a@example.com", false},
        {"a@local.example", false},
        {"a@local", true},
        {"a@nas", true},
        {"a", true},
        {"", true},
        {"a@[10.0.0.1]", true},
        {"a@[IPv6:::1]", true},
        {"\"a b\"@c.example", true},
        {"\"a@b.example\"@nas", true},
        {"a@nas.local", true},
        {"a@NAS.LOCAL", true},
        {"a@nas.localdomain", true},
        {"a@nas.localhost", true},
        {"a@nas.lan", true},
        {"a@nas.home", true},
        {"a@nas.internal", true},
        {"a@nas.invalid", true},
        {"a@nas.home.arpa", true},
        {"a@nas.arpa", false},
        {"a@nas.xlocal", false},
        {"a@nas.local.example", false},
    };
    for (size_t i = 0; i < COUNT(table); i++)
        ck_assert_msg(rewrite_is_impossible(table[i].mailbox) ==
                          table[i].is_impossible,
                      "%s", table[i].mailbox);
}
END_TEST

Suite *suite_rewrite(void)
{
    Suite *s = suite_create("rewrite");
    TCase *c = tcase_create("rewrite");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, what_becomes_of_senders);
    tcase_add_test(c, what_becomes_of_recipients);
    tcase_add_test(c, longest_names);
    tcase_add_test(c, too_long_when_quoted);
    tcase_add_test(c, impossible_mailboxes);
    suite_add_tcase(s, c);
    return s;
}
