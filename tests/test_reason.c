/* reason: one line for each thing that can go wrong, the same words for who
 * asks later, and nothing of a peer's that could forge a line. */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "../clients.h"
#include "../log.h"
#include "../reason.h"
Suite *suite_reason(void);

#define COUNT(table) (sizeof(table) / sizeof(table)[0])

static char line[2 * LOG_LINE_BYTES];
static unsigned lines;
static struct ip_address client;

static void sink(const char *text)
{
    snprintf(line, sizeof line, "%s", text);
    lines++;
}

static void setup(void)
{
    log_to(sink);
    clients_init();
    lines = 0;
    ck_assert(ip_parse("192.168.1.9", &client));
}

static const struct client *remembered(void)
{
    const struct client *c = clients_walk(NULL);
    ck_assert_ptr_nonnull(c);
    ck_assert_ptr_null(clients_walk(c));
    return c;
}

START_TEST(each_has_words_that_fit)
{
    for (int i = 0; i < REASONS; i++) {
        const char *why = reason_why((enum reason)i);
        ck_assert_msg(why != NULL && *why != '\0', "reason %d", i);
        for (int k = 0; k < i; k++)
            ck_assert_str_ne(why, reason_why((enum reason)k));
        reason_tell((enum reason)i, &client, "printer", NULL, NULL);
        ck_assert_uint_eq(lines, (unsigned)i + 1);
        char begin[256], advice[256] = "";
        snprintf(begin, sizeof begin,
                 "client=192.168.1.9 helo=\"printer\" refused why=\"%s\"", why);
        char *at = strstr(line, begin);
        ck_assert_msg(at != NULL, "%s", line);
        sscanf(at + strlen(begin), " advice=\"%255[^\"]\"", advice);
        /* the table of clients cuts nothing of either */
        ck_assert_str_eq(remembered()->why, why);
        ck_assert_str_eq(remembered()->advice, advice);
        ck_assert_int_gt(remembered()->last_failure_s, 0);
    }
}
END_TEST

START_TEST(details_and_advice)
{
    static const struct {
        enum reason reason;
        const char *detail, *advice, *text;
    } rows[] = {
        {REASON_LOGIN_ABANDONED, "the user prompt", NULL,
         "why=\"login abandoned at the user prompt\" advice=\""},
        {REASON_TOO_LARGE, "70000 bytes, the limit is 65536", NULL,
         "why=\"message too large: 70000 bytes, the limit is 65536\" advice="},
        {REASON_REFUSED, "553 5.7.1 No", "set sender",
         "why=\"message refused: 553 5.7.1 No\" advice=\"set sender\""},
        {REASON_STRANGER, NULL, "mine",
         "why=\"its address is not in allow_from\" advice=\"mine\""},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        reason_tell(rows[i].reason, &client, "", rows[i].detail,
                    rows[i].advice);
        ck_assert_msg(strstr(line, rows[i].text) != NULL, "%s", line);
        ck_assert_msg(strstr(line, " helo=\"\" ") != NULL, "%s", line);
    }
    reason_tell(REASON_REFUSED, &client, "", "554 5.6.0 No", NULL);
    ck_assert_msg(strstr(line, "advice") == NULL, "%s", line);
}
END_TEST

START_TEST(a_name_that_would_forge_a_line)
{
    char name[300];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    reason_tell(REASON_SILENT, &client, "x\" refused why=\"y\r\n\x1b[2J\xff",
                NULL, NULL);
    ck_assert_msg(strstr(line,
                         "helo=\"x\\\" refused why=\\\"y\\x0D\\x0A\\x1B[2J"
                         "\\xFF\" refused why=\"silent") != NULL,
                  "%s", line);
    reason_tell(REASON_SILENT, &client, name, NULL, NULL);
    ck_assert_uint_lt(strlen(line), 200);
    ck_assert_uint_eq(lines, 2);
}
END_TEST

Suite *suite_reason(void)
{
    Suite *s = suite_create("reason");
    TCase *c = tcase_create("reason");
    tcase_add_checked_fixture(c, setup, NULL);
    tcase_add_test(c, each_has_words_that_fit);
    tcase_add_test(c, details_and_advice);
    tcase_add_test(c, a_name_that_would_forge_a_line);
    suite_add_tcase(s, c);
    return s;
}
