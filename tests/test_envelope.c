/* envelope: the replies to MAIL and RCPT, and what a person can do. */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "../envelope.h"
#include "../settings.h"
#include "../users.h"
Suite *suite_envelope(void);

#define COUNT(table) (sizeof(table) / sizeof(table)[0])
#define BASE         "smarthost = 127.0.0.1:9\nsmarthost_tls = none\n"
#define UNTOUCHED    12345

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
    static const char text[] = "scan:" HASH ":scan@example.com\n";
    char why[USERS_WHY_BYTES];
    ck_assert_msg(users_load_text(text, sizeof text - 1, why), "%s", why);
}

static void teardown(void)
{
    users_wipe();
}

#define NO_PATH      "501 5.1.7 Bad sender address"
#define NO_PARAMETER "501 5.5.4 Bad parameter"
#define MORE_THAN    "message_max_bytes = 70000\n"

static const struct {
    const char *settings, *user, *arg;
    const char *reply;   /* NULL: taken */
    const char *mailbox; /* of what is taken */
    uint64_t size;
} mails[] = {
    {"", "", "FROM:<a@b.example>", NULL, "a@b.example", UNTOUCHED},
    {"", "", "from : <a@b.example>", NULL, "a@b.example", UNTOUCHED},
    {"", "", " FROM: a@b.example", NULL, "a@b.example", UNTOUCHED},
    {"", "", "FROM:Scanner <a@b.example>", NULL, "a@b.example", UNTOUCHED},
    {"", "", "FROM:<>", NULL, "", UNTOUCHED},
    {"", "", "FROM:<a@b.example> SIZE=70000", NULL, "a@b.example", 70000},
    {"", "", "FROM:<> BODY=8BITMIME SIZE=1 X-ODD=2 AUTH=<>", NULL, "", 1},
    {"default_domain = b.example\n", "", "FROM:<root>", NULL, "root@b.example",
     UNTOUCHED},
    {"sender = s@b.example\n", "", "FROM:<root@nas>", NULL, "s@b.example",
     UNTOUCHED},
    {"", "scan", "FROM:<scan@example.com>", NULL, "scan@example.com",
     UNTOUCHED},

    {"", "", "", NO_PATH, NULL, 0},
    {"", "", "a@b.example", NO_PATH, NULL, 0},
    {"", "", "TO:<a@b.example>", NO_PATH, NULL, 0},
    {"", "", "FROM:", NO_PATH, NULL, 0},
    {"", "", "FROM:<a@b@c>", NO_PATH, NULL, 0},
    {"", "", "FROM:<a@b.example> SIZE=much", NO_PARAMETER, NULL, 0},
    {"", "", "FROM:<a@b.example> BODY=BINARYMIME", NO_PARAMETER, NULL, 0},
    {"", "", "FROM:<a@b.example> !", NO_PARAMETER, NULL, 0},
    {"", "", "FROM:<root>",
     "553 5.1.7 Sender address has no domain: set one on the device", NULL, 0},
    {"sender_domains = example.com\n", "", "FROM:<a@b.example>",
     "550 5.7.1 This sender is not of a domain that we send for", NULL, 0},
    {"", "scan", "FROM:<a@b.example>",
     "553 5.7.1 You may not send as this address", NULL, 0},
    {MORE_THAN, "", "FROM:<a@b.example> SIZE=70000", NULL, "a@b.example",
     70000},
    {MORE_THAN, "", "FROM:<a@b.example> SIZE=70001",
     "552 5.3.4 Message too large", NULL, 0},
    {"", "", "FROM:<a@b.example> SIZE=99999999999999999999",
     "552 5.3.4 Message too large", NULL, 0},
    {MORE_THAN "sender_domains = example.com\n", "",
     "FROM:<a@b.example> SIZE=70001",
     "550 5.7.1 This sender is not of a domain that we send for", NULL, 0},
};

static void expect(const char *reply, const char *wanted, size_t row)
{
    ck_assert_msg((reply == NULL) == (wanted == NULL), "row %zu: %s", row,
                  reply ? reply : "taken");
    if (reply != NULL)
        ck_assert_str_eq(reply, wanted);
}

START_TEST(mail)
{
    for (size_t i = 0; i < COUNT(mails); i++) {
        struct rewrite_who who = {.client.family = AF_INET,
                                  .user = mails[i].user};
        struct path from;
        uint64_t size = UNTOUCHED;
        use(mails[i].settings);
        expect(envelope_take_mail(mails[i].arg, &who, &from, &size),
               mails[i].reply, i);
        if (mails[i].reply != NULL)
            continue;
        ck_assert_str_eq(from.mailbox, mails[i].mailbox);
        ck_assert_uint_eq(size, mails[i].size);
    }
}
END_TEST

/* A device whose sender cannot be read can be given one. */
#define L70                                                                    \
    "1234567890123456789012345678901234567890123456789012345678901234567890"
#define ITS_SENDER "sender = s@b.example\n"
#define OF_CLIENT  "rewrite_from 192.0.2.9 = r@b.example\n"

static const struct {
    const char *settings, *user;
    const char *mailbox; /* NULL: refused */
} unreadable_rows[] = {
    {"", "", NULL},
    {"default_domain = b.example\n", "", NULL},
    {"rewrite_from 192.0.2.8 = r@b.example\n", "", NULL},
    {OF_CLIENT, "", "r@b.example"},
    {OF_CLIENT ITS_SENDER, "", "r@b.example"},
    {OF_CLIENT ITS_SENDER "sender_rewrite = never\n", "", "r@b.example"},
    {ITS_SENDER, "", "s@b.example"},
    {ITS_SENDER "sender_rewrite = unqualified\n", "", "s@b.example"},
    {ITS_SENDER "sender_rewrite = always\n", "", "s@b.example"},
    {ITS_SENDER "sender_rewrite = never\n", "", NULL},
    {"sender = scan@example.com\n", "scan", "scan@example.com"},
};

START_TEST(senders_that_cannot_be_read)
{
    static const char *const paths[] = {
        "FROM:<My Scanner@b.example>", "from:<" L70 "@b.example>",
        "FROM:<a@b@c> SIZE=1", "FROM:", "FROM : <My Scanner@b.example>"};
    static const char *const nonsense[] = {"", "FROM <a@b@c>",
                                           "<My Scanner@b.example>",
                                           "TO:<My Scanner@b.example>"};
    struct path from;
    uint64_t size = UNTOUCHED;
    for (size_t i = 0; i < COUNT(unreadable_rows); i++) {
        struct rewrite_who who = {.user = unreadable_rows[i].user};
        ck_assert(ip_parse("192.0.2.9", &who.client));
        use(unreadable_rows[i].settings);
        for (size_t k = 0; k < COUNT(paths); k++) {
            expect(envelope_take_mail(paths[k], &who, &from, &size),
                   unreadable_rows[i].mailbox ? NULL : NO_PATH, i);
            if (unreadable_rows[i].mailbox != NULL)
                ck_assert_str_eq(from.mailbox, unreadable_rows[i].mailbox);
        }
        for (size_t k = 0; k < COUNT(nonsense); k++)
            expect(envelope_take_mail(nonsense[k], &who, &from, &size), NO_PATH,
                   i);
    }
    /* what takes its place must be one that the user may have */
    struct rewrite_who scan = {.client.family = AF_INET, .user = "scan"};
    use(ITS_SENDER);
    expect(envelope_take_mail(paths[0], &scan, &from, &size),
           "553 5.7.1 You may not send as this address", 99);
}
END_TEST

#define NO_RECIPIENT "501 5.1.3 Bad recipient address"

static const struct {
    const char *settings, *arg, *reply, *mailbox;
} rcpts[] = {
    {"", "TO:<a@b.example>", NULL, "a@b.example"},
    {"", "to : a@b.example", NULL, "a@b.example"},
    {"", "TO:<@c.example:a@b.example> NOTIFY=NEVER", NULL, "a@b.example"},
    {"rewrite_to root = a@b.example\n", "TO:<root@nas>", NULL, "a@b.example"},
    {"postmaster = a@b.example\n", "TO:<Postmaster>", NULL, "a@b.example"},
    {"default_domain = b.example\n", "TO:<a>", NULL, "a@b.example"},
    {"", "TO:<>", NO_RECIPIENT, NULL},
    {"default_domain = b.example\n", "TO:<>", NO_RECIPIENT, NULL},
    {"", "", NO_RECIPIENT, NULL},
    {"", "FROM:<a@b.example>", NO_RECIPIENT, NULL},
    {"", "TO:<a@b.example", NO_RECIPIENT, NULL},
    {"", "TO:<a@b.example> !", NO_PARAMETER, NULL},
    {"", "TO:<root>",
     "550 5.1.3 Recipient address has no domain: set one on the device", NULL},
    {"", "TO:<postmaster>",
     "550 5.1.1 No postmaster is set here (setting: postmaster)", NULL},
    {"default_domain = b.example\n", "TO:<POSTMASTER>",
     "550 5.1.1 No postmaster is set here (setting: postmaster)", NULL},
};

START_TEST(rcpt)
{
    for (size_t i = 0; i < COUNT(rcpts); i++) {
        struct path to;
        use(rcpts[i].settings);
        expect(envelope_take_rcpt(rcpts[i].arg, &to), rcpts[i].reply, i);
        if (rcpts[i].reply == NULL)
            ck_assert_str_eq(to.mailbox, rcpts[i].mailbox);
    }
}
END_TEST

/* Each refusal that a setting can cure names it, and the setting is one. */
START_TEST(advice)
{
    static const struct {
        const char *settings, *user, *mail, *rcpt, *advice;
    } table[] = {
        {"", "", "FROM:<root>", NULL, "set default_domain, or sender"},
        {"", "", NULL, "TO:<root>",
         "set default_domain, or a rewrite_to for it"},
        {"sender_domains = example.com\n", "", "FROM:<a@b.example>", NULL,
         "set sender, or add the domain to sender_domains"},
        {"", "scan", "FROM:<a@b.example>", NULL,
         "add the address to the user's line in users_file"},
        {"", "", NULL, "TO:<postmaster>", "set postmaster"},
        {"", "", "FROM:<a@b.example> SIZE=99999999999", NULL,
         "send less at a time, or raise message_max_bytes"},
        {"", "", "FROM:<a@b@c>", NULL, NULL},
        {"", "", NULL, "TO:<>", NULL},
        {"", "", "FROM:<a@b.example> !", NULL, NULL},
    };
    for (size_t i = 0; i < COUNT(table); i++) {
        struct rewrite_who who = {.client.family = AF_INET,
                                  .user = table[i].user};
        struct path p;
        uint64_t size = 0;
        use(table[i].settings);
        const char *reply =
            table[i].mail ? envelope_take_mail(table[i].mail, &who, &p, &size)
                          : envelope_take_rcpt(table[i].rcpt, &p);
        ck_assert_msg(reply != NULL, "row %zu", i);
        expect(envelope_advice(reply), table[i].advice, i);
    }
    ck_assert(envelope_advice("250 2.0.0 Ok") == NULL);
    ck_assert(envelope_advice(envelope_too_big) != NULL);
}
END_TEST

Suite *suite_envelope(void)
{
    Suite *s = suite_create("envelope");
    TCase *c = tcase_create("envelope");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, mail);
    tcase_add_test(c, senders_that_cannot_be_read);
    tcase_add_test(c, rcpt);
    tcase_add_test(c, advice);
    suite_add_tcase(s, c);
    return s;
}
