/* path: what devices write after MAIL FROM and RCPT TO, and what we make of
 * it. */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "../path.h"
Suite *suite_path(void);

#define COUNT(table) (sizeof(table) / sizeof(table)[0])
#define REFUSED      NULL

#define LOCAL_16   "abcdefghijklmnop"
#define LOCAL_64   LOCAL_16 LOCAL_16 LOCAL_16 LOCAL_16
#define LABEL_63   LOCAL_16 LOCAL_16 LOCAL_16 "abcdefghijklmno"
#define LABEL_62   LOCAL_16 LOCAL_16 LOCAL_16 "abcdefghijklmn"
#define DOMAIN_255 LABEL_63 "." LABEL_63 "." LABEL_63 "." LABEL_63
#define UMLAUT     "\xc3\xbc"

static const struct {
    const char *text, *mailbox, *rest;
} paths[] = {
    {"<a@b.example>", "a@b.example", ""},
    {"<a@b.example> SIZE=1", "a@b.example", " SIZE=1"},
    {"<>", "", ""},
    {"< >", "", ""},
    {"<> BODY=8BITMIME", "", " BODY=8BITMIME"},
    {" <a@b>", "a@b", ""},
    {"\t < a@b > ", "a@b", " "},
    {"a@b", "a@b", ""},
    {"a@b SIZE=1", "a@b", " SIZE=1"},
    {"<postmaster>", "postmaster", ""},
    /* 4.5.3.1.1 and 4.5.3.1.2: the longest, and one more */
    {"<" LOCAL_64 "@b>", LOCAL_64 "@b", ""},
    {"<" LOCAL_64 "x@b>", REFUSED, ""},
    {"<a@" DOMAIN_255 ">", "a@" DOMAIN_255, ""},
    {"<a@" DOMAIN_255 ".>", "a@" DOMAIN_255, ""},
    {"<a@" LABEL_62 "." LABEL_63 "." LABEL_63 "." LABEL_62 ".x>",
     "a@" LABEL_62 "." LABEL_63 "." LABEL_63 "." LABEL_62 ".x", ""},
    {"<a@" LABEL_63 "." LABEL_63 "." LABEL_63 "." LABEL_62 ".x>", REFUSED, ""},
    {"<a@" LABEL_63 "x>", REFUSED, ""},
    {"<" LOCAL_64 "@" DOMAIN_255 ">", LOCAL_64 "@" DOMAIN_255, ""},
    /* quoted */
    {"<\"a b\"@x>", "\"a b\"@x", ""},
    {"<\"\\\"\"@x>", "\"\\\"\"@x", ""},
    {"<\"a@b\"@x>", "\"a@b\"@x", ""},
    {"<\"<>\"@x>", "\"<>\"@x", ""},
    {"<\"\"@x>", "\"\"@x", ""},
    {"<\"a@x>", REFUSED, ""},
    {"<\"a\\", REFUSED, ""},
    {"<\"a\"b@x>", REFUSED, ""},
    {"<\"a\x01\"@x>", REFUSED, ""},
    {"<\"a\\\x01\"@x>", REFUSED, ""},
    {"<\"a\x7f\"@x>", REFUSED, ""},
    /* dots that the grammar does not know, and Japanese phones do */
    {"<a..b@x>", "\"a..b\"@x", ""},
    {"<.a@x>", "\".a\"@x", ""},
    {"<a.@x>", "\"a.\"@x", ""},
    {"<.@x>", "\".\"@x", ""},
    {"<." LOCAL_16 LOCAL_16 LOCAL_16 "abcdefghijklmno@" DOMAIN_255 ">",
     "\"." LOCAL_16 LOCAL_16 LOCAL_16 "abcdefghijklmno\"@" DOMAIN_255, ""},
    {"<a.b@x>", "a.b@x", ""},
    /* source routes: read and dropped */
    {"<@a:b@c>", "b@c", ""},
    {"<@a,@d.e:b@c>", "b@c", ""},
    {"<@[127.0.0.1]:b@c>", "b@c", ""},
    {"@a:b@c", "b@c", ""},
    {"<@a:>", REFUSED, ""},
    {"<@a,b@c>", REFUSED, ""},
    {"<@:b@c>", REFUSED, ""},
    {"<@a@d:b@c>", REFUSED, ""},
    {"<@a", REFUSED, ""},
    {"<@a,", REFUSED, ""},
    /* literals */
    {"<a@[127.0.0.1]>", "a@[127.0.0.1]", ""},
    {"<a@[IPv6:::1]>", "a@[IPv6:::1]", ""},
    {"<a@[ipv6:2001:db8::1]>", "a@[ipv6:2001:db8::1]", ""},
    {"<a@[::1]>", REFUSED, ""},
    {"<a@[127.0.0.1>", REFUSED, ""},
    {"<a@[127.0.0.256]>", REFUSED, ""},
    {"<a@[]>", REFUSED, ""},
    {"<a@[IPv6:fe80::1%lo]>", REFUSED, ""},
    {"<a@[127.0.0.1].>", REFUSED, ""},
    /* domains */
    {"<a@b.>", "a@b", ""},
    {"<a@b..>", REFUSED, ""},
    {"<a@.>", REFUSED, ""},
    {"<a@.b>", REFUSED, ""},
    {"<a@b..c>", REFUSED, ""},
    {"<a@>", "a", ""}, /* an empty setting of the device: no domain */
    {"<a@ >", "a", ""},
    {"a@ SIZE=1", "a", " SIZE=1"},
    {"<\"a b\"@>", "\"a b\"", ""},
    {"<@b>", REFUSED, ""},
    {"<a@my_nas>", "a@my_nas", ""},
    {"<a@b c>", REFUSED, ""},
    /* more than one */
    {"<a@b@c>", REFUSED, ""},
    {"a@b@c", REFUSED, ""},
    {"<a@b>>", REFUSED, ""},
    {"<<a@b>>", REFUSED, ""},
    {"<a@b", REFUSED, ""},
    {"a@b>", REFUSED, ""},
    {"<a@b>SIZE=1", REFUSED, ""},
    {"<a@b>,<c@d>", REFUSED, ""},
    /* a name before it */
    {"Office <a@b>", "a@b", ""},
    {"Office Scanner <a@b> SIZE=1", "a@b", " SIZE=1"},
    {"\"Office\" <a@b>", "a@b", ""},
    {"\"Office\"<a@b>", "a@b", ""},
    {"c@d <a@b>", "a@b", ""},
    {"Office<a@b>", REFUSED, ""},
    {"Office <a@b", "Office", " <a@b"}, /* no parameter: 501 */
    {"", REFUSED, ""},
    {"<", REFUSED, ""},
    {"   ", REFUSED, ""},
    /* the percent hack is a local-part like any other: not our business */
    {"<a%c@b>", "a%c@b", ""},
    {"<a!c@b>", "a!c@b", ""},
    {"<o'neil+tag={x}@b>", "o'neil+tag={x}@b", ""},
    {"<a;b@c>", REFUSED, ""},
    {"<a\r\nRCPT@c>", REFUSED, ""},
    {"<a@b\r\n>", REFUSED, ""},
    {"<a\x01@c>", REFUSED, ""},
    /* UTF-8, RFC 6531; and what only looks like it */
    {"<m" UMLAUT "@b>", "m" UMLAUT "@b", ""},
    {"<a@m" UMLAUT "ller.de>", "a@m" UMLAUT "ller.de", ""},
    {"<\xe2\x82\xac@b>", "\xe2\x82\xac@b", ""},
    {"<\xf0\x9f\x93\xa0@b>", "\xf0\x9f\x93\xa0@b", ""},
    {"<\xfc@b>", REFUSED, ""},
    {"<\xc3@b>", REFUSED, ""},
    {"<\xc0\xaf@b>", REFUSED, ""},
    {"<\xe0\x80\xaf@b>", REFUSED, ""},
    {"<\xed\xa0\x80@b>", REFUSED, ""},
    {"<\xf4\x90\x80\x80@b>", REFUSED, ""},
    {"<\xf5\x80\x80\x80@b>", REFUSED, ""},
    {"<a@\x80>", REFUSED, ""},
};

START_TEST(a16_table)
{
    for (size_t i = 0; i < COUNT(paths); i++) {
        struct path p;
        const char *rest = NULL;
        bool good = path_parse(paths[i].text, &p, &rest);
        ck_assert_msg(good == (paths[i].mailbox != NULL), "%s", paths[i].text);
        if (!good)
            continue;
        ck_assert_str_eq(p.mailbox, paths[i].mailbox);
        ck_assert_str_eq(rest, paths[i].rest);
        bool has_8bit = false;
        for (const char *c = p.mailbox; *c; c++)
            has_8bit |= (unsigned char)*c >= 0x80;
        ck_assert_msg(p.is_utf8 == has_8bit, "%s", paths[i].text);
    }
}
END_TEST

/* What we made of it goes out again, so it must be read as the same. */
START_TEST(canonical_form_is_stable)
{
    for (size_t i = 0; i < COUNT(paths); i++) {
        struct path p, again;
        const char *rest;
        char text[PATH_BYTES + 2];
        if (!path_parse(paths[i].text, &p, &rest) || strchr(p.mailbox, '\\') ||
            strlen(p.mailbox) > PATH_LOCAL_MAX + 1 + PATH_DOMAIN_MAX)
            continue;
        snprintf(text, sizeof text, "<%s>", p.mailbox);
        ck_assert_msg(path_parse(text, &again, &rest), "%s", text);
        ck_assert_str_eq(again.mailbox, p.mailbox);
        ck_assert_int_eq(again.has_domain, p.has_domain);
    }
}
END_TEST

START_TEST(domain_is_told)
{
    struct path p;
    const char *rest;
    ck_assert(path_parse("<root>", &p, &rest) && !p.has_domain);
    ck_assert(path_parse("<\"a@b\">", &p, &rest) && !p.has_domain);
    ck_assert(path_parse("<root@nas>", &p, &rest) && p.has_domain);
    ck_assert(path_parse("<>", &p, &rest) && !p.has_domain);
}
END_TEST

#define END_OF_LIST                                                            \
    {                                                                          \
        -2, "", ""                                                             \
    }

START_TEST(parameters)
{
    static const struct {
        const char *text;
        struct {
            int result;
            const char *keyword, *value;
        } steps[4];
    } table[] = {
        {"", {{0, "", ""}, END_OF_LIST}},
        {"  \t", {{0, "", ""}, END_OF_LIST}},
        {" SIZE=100", {{1, "SIZE", "100"}, {0, "", ""}, END_OF_LIST}},
        {" size=100  body=8bitmime",
         {{1, "SIZE", "100"},
          {1, "BODY", "8bitmime"},
          {0, "", ""},
          END_OF_LIST}},
        {" SMTPUTF8", {{1, "SMTPUTF8", ""}, {0, "", ""}, END_OF_LIST}},
        {" SIZE=", {{1, "SIZE", ""}, {0, "", ""}, END_OF_LIST}},
        {" SIZE==1", {{1, "SIZE", "=1"}, {0, "", ""}, END_OF_LIST}},
        {" X-A-VERY-LONG-KEYWORD=1",
         {{1, "X-A-VERY-LONG-K", "1"}, {0, "", ""}, END_OF_LIST}},
        {" AUTH=" LOCAL_64, {{1, "AUTH", LABEL_63}, {0, "", ""}, END_OF_LIST}},
        {" =1", {{-1, "", ""}, END_OF_LIST}},
        {" SIZE!", {{-1, "", ""}, END_OF_LIST}},
        {" SI ZE=1", {{1, "SI", ""}, {1, "ZE", "1"}, {0, "", ""}, END_OF_LIST}},
        {" SIZE=1\x01", {{-1, "", ""}, END_OF_LIST}},
        {" SIZE=1\x7f", {{-1, "", ""}, END_OF_LIST}},
        {" <c@d>", {{-1, "", ""}, END_OF_LIST}},
    };
    for (size_t i = 0; i < COUNT(table); i++) {
        const char *at = table[i].text;
        for (int k = 0; table[i].steps[k].result != -2; k++) {
            struct path_parameter p;
            int result = path_next_parameter(&at, &p);
            ck_assert_msg(result == table[i].steps[k].result, "%s",
                          table[i].text);
            if (result != 1)
                break;
            ck_assert_str_eq(p.keyword, table[i].steps[k].keyword);
            ck_assert_str_eq(p.value, table[i].steps[k].value);
        }
    }
}
END_TEST

START_TEST(domains)
{
    static const struct {
        const char *text;
        bool good;
    } table[] = {
        {"nas", true},
        {"nas.lan", true},
        {"[192.0.2.1]", true},
        {"[IPv6:::1]", true},
        {DOMAIN_255, true},
        {DOMAIN_255 "x", false},
        {LABEL_63, true},
        {LABEL_63 "x", false},
        {"", false},
        {"nas.", false},
        {".nas", false},
        {"nas lan", false},
        {"nas\r\nEvil: 1", false},
        {"(nas)", false},
        {"192.0.2.1", true}, /* all digits are a label, too */
        {"[192.0.2.1", false},
        {"[192.0.2.1]x", false},
        {"[IPv6:nonsense]", false},
        {"[", false},
    };
    for (size_t i = 0; i < COUNT(table); i++)
        ck_assert_msg(path_is_domain(table[i].text) == table[i].good, "%s",
                      table[i].text);
}
END_TEST

/* The arguments of MAIL and RCPT: the keyword, the path, the parameters. */
START_TEST(arguments)
{
    static const struct {
        const char *mail, *rcpt; /* one of the two */
        enum path_fault fault;
        const char *mailbox;
        uint64_t size;
    } table[] = {
        {"FROM:<a@b>", NULL, PATH_GOOD, "a@b", 7},
        {"from:<a@b>", NULL, PATH_GOOD, "a@b", 7},
        {" FROM\t: a@b", NULL, PATH_GOOD, "a@b", 7},
        {"FROM:<a@b> SIZE=0", NULL, PATH_GOOD, "a@b", 0},
        {"FROM:<a@b> size=12 BODY=7bit", NULL, PATH_GOOD, "a@b", 12},
        {"FROM:<a@b> SIZE=999999999999999999", NULL, PATH_GOOD, "a@b",
         999999999999999999},
        {"FROM:<a@b> SIZE=1000000000000000000", NULL, PATH_GOOD, "a@b",
         UINT64_MAX},
        {"FROM:<> RET=HDRS ENVID=1 SMTPUTF8 XYZZY", NULL, PATH_GOOD, "", 7},
        {"FROM:<a@b> SIZE=", NULL, PATH_BAD_PARAMETER, NULL, 7},
        {"FROM:<a@b> SIZE=-1", NULL, PATH_BAD_PARAMETER, NULL, 7},
        {"FROM:<a@b> SIZE=1x", NULL, PATH_BAD_PARAMETER, NULL, 7},
        {"FROM:<a@b> BODY", NULL, PATH_BAD_PARAMETER, NULL, 7},
        {"FROM:<a@b> BODY=9BIT", NULL, PATH_BAD_PARAMETER, NULL, 7},
        {"FROM:<a@b> =1", NULL, PATH_BAD_PARAMETER, NULL, 7},
        {"", NULL, PATH_BAD, NULL, 7},
        {"FROM", NULL, PATH_BAD, NULL, 7},
        {"FROM <a@b>", NULL, PATH_BAD, NULL, 7},
        {"FROM:", NULL, PATH_BAD, NULL, 7},
        {"FROMAGE:<a@b>", NULL, PATH_BAD, NULL, 7},
        {"TO:<a@b>", NULL, PATH_BAD, NULL, 7},
        {NULL, "TO:<a@b>", PATH_GOOD, "a@b", 0},
        {NULL, "to : a@b", PATH_GOOD, "a@b", 0},
        {NULL, "TO:<a@b> NOTIFY=NEVER ORCPT=rfc822;a@b", PATH_GOOD, "a@b", 0},
        {NULL, "TO:<a@b> SIZE=much", PATH_GOOD, "a@b", 0},
        {NULL, "TO:<a@b> <c@d>", PATH_BAD_PARAMETER, NULL, 0},
        {NULL, "TO", PATH_BAD, NULL, 0},
        {NULL, "TO:", PATH_BAD, NULL, 0},
        {NULL, "FROM:<a@b>", PATH_BAD, NULL, 0},
    };
    for (size_t i = 0; i < COUNT(table); i++) {
        struct path p;
        uint64_t size = 7;
        enum path_fault fault = table[i].mail
                                    ? path_mail(table[i].mail, &p, &size)
                                    : path_rcpt(table[i].rcpt, &p);
        ck_assert_msg(fault == table[i].fault, "row %zu: %d", i, fault);
        if (fault == PATH_GOOD)
            ck_assert_str_eq(p.mailbox, table[i].mailbox);
        if (table[i].mail != NULL && fault == PATH_GOOD)
            ck_assert_uint_eq(size, table[i].size);
    }
}
END_TEST

Suite *suite_path(void)
{
    Suite *s = suite_create("path");
    TCase *c = tcase_create("path");
    tcase_add_test(c, a16_table);
    tcase_add_test(c, canonical_form_is_stable);
    tcase_add_test(c, domain_is_told);
    tcase_add_test(c, parameters);
    tcase_add_test(c, domains);
    tcase_add_test(c, arguments);
    suite_add_tcase(s, c);
    return s;
}
