/* smtp_in and all it builds on: what devices really send. One row for every
 * quirk that was ever seen, with the settings that it needs: what is said, what
 * is answered, and what stands in the queue afterwards. Each row is played in
 * steps, byte by byte and all at once, and must come out the same. */
#include "talk.h"

Suite *suite_quirks(void);

#define GREET                                                                  \
    {'<', "220 relay.test ESMTP"}, {'>', "EHLO me\r\n"},                       \
    {                                                                          \
        '<', "250-relay.test\r\n"                                              \
    }
#define FROM(line)                                                             \
    {'>', line "\r\n"},                                                        \
    {                                                                          \
        '<', "250 2.1.0 Sender ok\r\n"                                         \
    }
#define TO(line)                                                               \
    {'>', line "\r\n"},                                                        \
    {                                                                          \
        '<', "250 2.1.5 Recipient ok\r\n"                                      \
    }
#define ENVELOPE                                                               \
    FROM("MAIL FROM:<a@example.com>"), TO("RCPT TO:<b@example.net>")
#define TEXT(lines)                                                            \
    {'>', "DATA\r\n"}, {'<', "354 "}, {'>', lines ".\r\n"},                    \
    {                                                                          \
        '<', "250 2.0.0 Queued in memory as "                                  \
    }
#define QUIT                                                                   \
    {'>', "QUIT\r\n"}, {'<', "221 2.0.0 Bye\r\n"},                             \
    {                                                                          \
        '.', ""                                                                \
    }
#define HI          "Subject: x\r\n\r\nhi\r\n"
#define REST        TEXT(HI), QUIT
#define LOGGED_IN   "235 2.7.0 You are logged in\r\n"
#define ASKS_USER   "334 VXNlcm5hbWU6\r\n"
#define ASKS_SECRET "334 UGFzc3dvcmQ6\r\n"
#define NO_HELO                                                                \
    "^Received: from \\[10\\.0\\.0\\.9\\] \\(\\[10\\.0\\.0\\.9\\]\\)"

/* from NULL: a@example.com; to NULL: b@example.net; body NULL: HI. head, log:
 * extended regular expressions, found in what we put before the mail, and in
 * the log; misses: not found in the head. NULL: not looked at. */
static const struct quirk {
    const char *name;
    const char *settings;
    struct talk script[24];
    const char *from, *to, *body, *head, *misses, *log;
    bool is_refused; /* nothing arrives */
} quirks[] = {
    /* ---- HELO ---- */
    {.name = "a UPS: HELO and a blank",
     .script = {{'<', "220 "},
                {'>', "HELO \r\n"},
                {'<', "250 relay.test\r\n"},
                ENVELOPE,
                REST},
     .head = NO_HELO},
    {.name = "HELO and nothing",
     .script = {{'<', "220 "},
                {'>', "HELO\r\n"},
                {'<', "250 relay.test\r\n"},
                ENVELOPE,
                REST},
     .head = NO_HELO},
    {.name = "EHLO and nothing",
     .script = {{'<', "220 "},
                {'>', "EHLO\r\n"},
                {'<', "250-relay.test\r\n"},
                ENVELOPE,
                REST},
     .head = NO_HELO},
#define NAMED(what, shown)                                                     \
    {                                                                          \
        .name = "a name: " what,                                               \
        .script = {{'<', "220 "},                                              \
                   {'>', "EHLO " what "\r\n"},                                 \
                   {'<', "250-relay.test\r\n"},                                \
                   ENVELOPE,                                                   \
                   REST},                                                      \
        .head = "^Received: from " shown " \\(\\[10\\.0\\.0\\.9\\]\\)"         \
    }
    NAMED("NPIF65E56", "NPIF65E56"),
    NAMED("XC-B8C463", "XC-B8C463"),
    NAMED("localhost", "localhost"),
    NAMED("localhost.localdomain", "localhost\\.localdomain"),
    NAMED("_", "_"),
    NAMED("my_printer", "my_printer"),
    NAMED("10.0.4.47", "10\\.0\\.4\\.47"),
    NAMED("[10.0.4.47]", "\\[10\\.0\\.4\\.47\\]"),
    NAMED("[IPv6:::ffff:10.0.4.47]", "\\[IPv6:::ffff:10\\.0\\.4\\.47\\]"),
    NAMED("[10.0.4.47", "\\[10\\.0\\.0\\.9\\]"),
    NAMED("My Office Printer", "\\[10\\.0\\.0\\.9\\]"),
    {.name = "EHLO, then HELO, then EHLO",
     .script = {GREET,
                {'>', "HELO me\r\n"},
                {'<', "250 relay.test\r\n"},
                {'>', "EHLO me\r\n"},
                {'<', "250-relay.test\r\n"},
                ENVELOPE,
                REST}},
    {.name = "EHLO again before each mail",
     .script = {GREET,
                FROM("MAIL FROM:<old@example.com>"),
                {'>', "EHLO me\r\n"},
                {'<', "250-relay.test\r\n"},
                ENVELOPE,
                REST}},
    /* ---- Login ---- */
    {.name = "a printer: HELO and still AUTH",
     .script = {{'<', "220 "},
                {'>', "HELO me\r\n"},
                {'<', "250 relay.test\r\n"},
                {'>', "AUTH LOGIN\r\n"},
                {'<', ASKS_USER},
                {'>', "dXNlcg==\r\n"},
                {'<', ASKS_SECRET},
                {'>', "c2VjcmV0\r\n"},
                {'<', LOGGED_IN},
                ENVELOPE,
                REST},
     .head = "\tby relay\\.test with SMTP id "},
    {.name = "a camera: EHLO, HELO, AUTH LOGIN that nobody offered",
     .script = {GREET,
                {'>', "HELO me\r\n"},
                {'<', "250 relay.test\r\n"},
                {'>', "AUTH LOGIN\r\n"},
                {'<', ASKS_USER},
                {'>', "dXNlcg==\r\n"},
                {'<', ASKS_SECRET},
                {'>', "c2VjcmV0\r\n"},
                {'<', LOGGED_IN},
                ENVELOPE,
                REST}},
    {.name = "a Xerox: the prompts, to the letter",
     .script = {GREET,
                {'>', "AUTH LOGIN\r\n"},
                {'<', ASKS_USER},
                {'>', "dXNlcg==\r\n"},
                {'<', ASKS_SECRET},
                {'>', "c2VjcmV0\r\n"},
                {'<', LOGGED_IN},
                ENVELOPE,
                REST},
     .head = "with ESMTPA id ",
     .log = "auth=user .*accepted"},
    {.name = ".NET: AUTH LOGIN with the user in line",
     .script = {GREET,
                {'>', "AUTH LOGIN dXNlcg==\r\n"},
                {'<', ASKS_SECRET},
                {'>', "c2VjcmV0\r\n"},
                {'<', LOGGED_IN},
                ENVELOPE,
                REST},
     .log = "auth=user .*accepted"},
    {.name = "all in lower case",
     .script = {{'<', "220 "},
                {'>', "ehlo me\r\n"},
                {'<', "250-relay.test\r\n"},
                {'>', "auth login\r\n"},
                {'<', ASKS_USER},
                {'>', "dXNlcg==\r\n"},
                {'<', ASKS_SECRET},
                {'>', "c2VjcmV0\r\n"},
                {'<', LOGGED_IN},
                FROM("mail from:<a@example.com>"),
                TO("rcpt to:<b@example.net>"),
                {'>', "data\r\n"},
                {'<', "354 "},
                {'>', HI ".\r\n"},
                {'<', "250 2.0.0 Queued"},
                {'>', "quit\r\n"},
                {'<', "221 2.0.0"},
                {'.', ""}}},
    {.name = "PLAIN in two steps: 334 and its blank",
     .script = {GREET,
                {'>', "AUTH PLAIN\r\n"},
                {'<', "334 \r\n"},
                {'>', "AHVzZXIAc2VjcmV0\r\n"},
                {'<', LOGGED_IN},
                ENVELOPE,
                REST}},
    {.name = "PLAIN in one, with an authorization identity",
     .script = {GREET,
                {'>', "Auth Plain dXNlcgB1c2VyAHNlY3JldA==\r\n"},
                {'<', LOGGED_IN},
                ENVELOPE,
                REST},
     .log = "auth=user .*accepted"},
    {.name = "an equals sign for an empty user",
     .script = {GREET,
                {'>', "AUTH LOGIN =\r\n"},
                {'<', ASKS_SECRET},
                {'>', "=\r\n"},
                {'<', LOGGED_IN},
                ENVELOPE,
                REST}},
    {.name = "ntopng: blank credentials",
     .script = {GREET,
                {'>', "AUTH LOGIN\r\n"},
                {'<', ASKS_USER},
                {'>', "\r\n"},
                {'<', ASKS_SECRET},
                {'>', "\r\n"},
                {'<', LOGGED_IN},
                ENVELOPE,
                REST},
     .head = "with ESMTPA id "},
    {.name = "blank credentials in PLAIN",
     .script = {GREET,
                {'>', "AUTH PLAIN AAA=\r\n"},
                {'<', LOGGED_IN},
                ENVELOPE,
                REST}},
    {.name = "a DVR that insists on a login: any is good",
     .settings = "accept_any_auth = yes\nusers_file = /nonexistent\n",
     .script = {GREET,
                {'>', "AUTH PLAIN AHgAeQ==\r\n"},
                {'<', LOGGED_IN},
                ENVELOPE,
                REST},
     .log = "auth=x .*accepted"},
    {.name = "a DVR that insists on a login where there is none",
     .settings = "accept_any_auth = no\n",
     .script = {GREET,
                {'>', "AUTH LOGIN\r\n"},
                {'<', "502 5.5.1 Login is not offered: set the device to no "
                      "authentication\r\n"},
                ENVELOPE,
                REST}},
    /* ---- Paths ---- */
    {.name = "a blank behind the colon",
     .script = {GREET, FROM("MAIL FROM: <a@example.com>"),
                TO("RCPT TO: <b@example.net>"), REST}},
    {.name = "blanks on both sides of it, and in the brackets",
     .script = {GREET, FROM("MAIL FROM : < a@example.com > "),
                TO("RCPT  TO\t:\t<b@example.net>"), REST}},
    {.name = "a DVR: no brackets",
     .script = {GREET, FROM("MAIL FROM: CHE_6_001@video.example"),
                TO("RCPT TO: b@example.net"), REST},
     .from = "CHE_6_001@video.example",
     .head = "\r\nFrom: <CHE_6_001@video\\.example>\r\n"},
    {.name = "no brackets, and a parameter behind",
     .script = {GREET, FROM("MAIL FROM:a@example.com SIZE=100"),
                TO("RCPT TO:b@example.net NOTIFY=NEVER"), REST}},
    {.name = "an iLO: a local-part that ends in a dot",
     .script = {GREET, FROM("MAIL FROM:<local.@example.com>"),
                TO("RCPT TO:<b@example.net>"), REST},
     .from = "\"local.\"@example.com"},
    {.name = "an iLO, and a sender that the smarthost takes",
     .settings = "sender = relay@example.org\n",
     .script = {GREET, FROM("MAIL FROM:<local.@example.com>"),
                TO("RCPT TO:<b@example.net>"),
                TEXT("From: local.@example.com\r\n" HI), QUIT},
     .from = "relay@example.org",
     .head = "\r\nFrom: [^\r]*<relay@example\\.org>\r\n"},
    {.name = "a sender without domain, and a default",
     .settings = "default_domain = example.org\n",
     .script = {GREET, FROM("MAIL FROM:<user1>"), TO("RCPT TO:<b@example.net>"),
                TEXT("From: user1\r\n" HI), QUIT},
     .from = "user1@example.org",
     .head = "\r\nFrom: <user1@example\\.org>\r\n",
     .misses = "Reply-To"},
    {.name = "a sender without domain, and a sender that is taken",
     .settings = "sender = relay@example.org\n",
     .script = {GREET, FROM("MAIL FROM:<user1>"), TO("RCPT TO:<b@example.net>"),
                TEXT("From: user1\r\n" HI), QUIT},
     .from = "relay@example.org",
     .head = "\r\nFrom: user1 <relay@example\\.org>\r\n"},
    {.name = "a sender without domain, and no idea of one",
     .script = {GREET,
                {'>', "MAIL FROM:<user1>\r\n"},
                {'<', "553 5.1.7 Sender address has no domain: set one on the "
                      "device\r\n"},
                QUIT},
     .is_refused = true,
     .log = "advice=\"set default_domain, or sender\""},
    {.name = "a sender with half a domain",
     .settings = "default_domain = example.org\n",
     .script = {GREET, FROM("MAIL FROM:<user@>"), TO("RCPT TO:<b@>"), REST},
     .from = "user@example.org",
     .to = "b@example.org"},
    {.name = "a useless preset: all mail gets one sender",
     .settings = "sender = relay@example.org\nsender_rewrite = always\n",
     .script = {GREET, FROM("MAIL FROM:<npif65e56@email.com>"),
                TO("RCPT TO:<b@example.net>"),
                TEXT("From: HP <npif65e56@email.com>\r\n" HI), QUIT},
     .from = "relay@example.org",
     .head = "\r\nFrom: HP <relay@example\\.org>\r\n"
             "Reply-To: <npif65e56@email\\.com>\r\n"},
    {.name = "a useless preset: a sender for this device",
     .settings = "rewrite_from 10.0.0.9 = scanner@example.org\n",
     .script = {GREET, FROM("MAIL FROM:<npif65e56@email.com>"),
                TO("RCPT TO:<b@example.net>"),
                TEXT("From: npif65e56@email.com\r\n" HI), QUIT},
     .from = "scanner@example.org",
     .head = "\r\nFrom: \"npif65e56@email\\.com\" <scanner@example\\.org>\r\n"
             "Reply-To: <npif65e56@email\\.com>\r\n"},
    {.name = "a domain that the smarthost does not send for",
     .settings = "sender_domains = example.org example.com\n",
     .script = {GREET,
                {'>', "MAIL FROM:<npif65e56@email.com>\r\n"},
                {'<', "550 5.7.1 "},
                FROM("MAIL FROM:<a@EXAMPLE.com>"),
                TO("RCPT TO:<b@example.net>"),
                REST},
     .from = "a@EXAMPLE.com",
     .log = "advice=\"set sender, or add the domain to sender_domains\""},
    {.name = "a name before the path",
     .script = {GREET, FROM("MAIL FROM: Scanner <a@example.com>"),
                TO("RCPT TO:\"The Boss\" <b@example.net>"), REST}},
    {.name = "source routes",
     .script = {GREET,
                FROM("MAIL FROM:<@one.example,@two.example:a@example.com>"),
                TO("RCPT TO:<@relay.test:b@example.net>"), REST}},
    {.name = "a final dot of the domain",
     .script = {GREET, FROM("MAIL FROM:<a@example.com.>"),
                TO("RCPT TO:<b@example.net.>"), REST}},
    {.name = "mail to Postmaster",
     .settings = "postmaster = admin@example.org\n",
     .script = {GREET, FROM("MAIL FROM:<>"), TO("RCPT TO:<Postmaster>"), REST},
     .from = "",
     .to = "admin@example.org"},
    {.name = "mail to root, who is somebody",
     .settings = "rewrite_to root = admin@example.org\n",
     .script = {GREET, FROM("MAIL FROM:<a@example.com>"), TO("RCPT TO:<root>"),
                TO("RCPT TO:<root@localhost>"), REST},
     .to = "admin@example.org admin@example.org"},
    {.name = "a recipient without domain, and a default",
     .settings = "default_domain = example.org\n",
     .script = {GREET, FROM("MAIL FROM:<a@example.com>"), TO("RCPT TO: alerts"),
                REST},
     .to = "alerts@example.org",
     .head = "\r\n\tfor <alerts@example\\.org>;"},
    {.name = "a recipient without domain, and no idea of one",
     .script = {GREET,
                FROM("MAIL FROM:<a@example.com>"),
                {'>', "RCPT TO:<alerts>\r\n"},
                {'<', "550 5.1.3 Recipient address has no domain: set one on "
                      "the device\r\n"},
                QUIT},
     .is_refused = true,
     .log = "advice=\"set default_domain, or a rewrite_to for it\""},
    {.name = "an old domain, moved",
     .settings = "rewrite_to @old.example = @example.net\n",
     .script = {GREET, FROM("MAIL FROM:<a@example.com>"),
                TO("RCPT TO:<b@OLD.example>"), REST}},
    /* ---- Parameters ---- */
    {.name = "parameters that nobody offered",
     .script = {GREET,
                FROM("MAIL FROM:<a@example.com> BODY=8BITMIME SIZE=42 "
                     "RET=HDRS ENVID=x AUTH=<> X-PRINTER=7 mt-priority=3"),
                TO("RCPT TO:<b@example.net> NOTIFY=SUCCESS,FAILURE "
                   "ORCPT=rfc822;b@example.net FOO"),
                REST}},
    {.name = "parameters behind HELO",
     .script = {{'<', "220 "},
                {'>', "HELO me\r\n"},
                {'<', "250 relay.test\r\n"},
                FROM("MAIL FROM:<a@example.com> BODY=7BIT SIZE=42"),
                TO("RCPT TO:<b@example.net> NOTIFY=NEVER"),
                REST}},
    {.name = "blanks around commands",
     .script = {GREET,
                FROM("  MAIL FROM:<a@example.com> "),
                TO("RCPT   TO:<b@example.net>\t"),
                {'>', "DATA \r\n"},
                {'<', "354 "},
                {'>', HI ".\r\n"},
                {'<', "250 2.0.0 Queued"},
                {'>', " QUIT \r\n"},
                {'<', "221 2.0.0"},
                {'.', ""}}},
    /* ---- The end ---- */
    {.name = "the dot and QUIT in one piece",
     .script = {GREET,
                ENVELOPE,
                {'>', "DATA\r\n"},
                {'<', "354 "},
                {'>', HI ".\r\nQUIT\r\n"},
                {'<', "250 2.0.0 Queued"},
                {'<', "221 2.0.0"},
                {'.', ""}}},
    {.name = "no QUIT", .script = {GREET, ENVELOPE, TEXT(HI)}},
    {.name = "no QUIT, but half a close",
     .script = {GREET, ENVELOPE, TEXT(HI), {'/', ""}, {'.', ""}}},
    {.name = "TLS on the plain port: no SMTP reply to binary",
     .script = {{'<', "220 "}, {'>', "\x16\x03\x01\x02"}, {'.', ""}},
     .is_refused = true,
     .log = "why=\"TLS hello[^\"]*\" advice=\""},
    /* ---- Line ends ---- */
    {.name = "bare line feeds everywhere",
     .script = {{'<', "220 "},
                {'>', "EHLO me\n"},
                {'<', "250-relay.test\r\n"},
                {'>', "MAIL FROM:<a@example.com>\n"},
                {'<', "250 2.1.0"},
                {'>', "RCPT TO:<b@example.net>\n"},
                {'<', "250 2.1.5"},
                {'>', "DATA\n"},
                {'<', "354 "},
                {'>', "Subject: x\n\nhi\n.\nho\n..\n\r\n.\r\n"},
                {'<', "250 2.0.0 Queued"},
                {'>', "QUIT\n"},
                {'<', "221 2.0.0"},
                {'.', ""}},
     .body = "Subject: x\r\n\r\nhi\r\n.\r\nho\r\n.\r\n\r\n",
     .log = "repaired=[a-z,-]*line-ends"},
    {.name = "bare carriage returns in the text",
     .script = {GREET, ENVELOPE, TEXT("Subject: x\r\rhi\rho\r\n"), QUIT},
     .body = "Subject: x\r\n\r\nhi\r\nho\r\n",
     .log = "repaired=[a-z,-]*line-ends"},
    {.name = "a bare end of data is none",
     .script = {GREET, ENVELOPE,
                TEXT(HI "\n.\nMAIL FROM:<evil@example.com>\r\n"), QUIT},
     .body = HI "\r\n.\r\nMAIL FROM:<evil@example.com>\r\n"},
    /* ---- Header sections ---- */
    {.name = "a LoRa gateway: no Date, no Message-ID, no From",
     .script = {GREET, ENVELOPE, TEXT("To: b@example.net\r\n" HI), QUIT},
     .body = "To: b@example.net\r\n" HI,
     .head = "\r\nDate: [A-Z][a-z]{2}, [^\r]*\r\nFrom: <a@example\\.com>\r\n"
             "Message-ID: <[^@ ]*@relay\\.test>\r\n$",
     .log = "repaired=date,from,message-id accepted"},
    {.name = "nothing is missing",
     .script = {GREET, ENVELOPE,
                TEXT("Date: Thu, 1 Jan 2026 00:00:00 +0000\r\n"
                     "Message-ID: <1@example.com>\r\n"
                     "From: Printer <a@example.com>\r\n" HI),
                QUIT},
     .body = "Date: Thu, 1 Jan 2026 00:00:00 +0000\r\n"
             "Message-ID: <1@example.com>\r\n"
             "From: Printer <a@example.com>\r\n" HI,
     .misses = "Date:|From:|Message-ID:",
     .log = "auth=- accepted"},
    {.name = "a From with neither name nor brackets stays",
     .script = {GREET, ENVELOPE, TEXT("From: a@example.com\r\n" HI), QUIT},
     .body = "From: a@example.com\r\n" HI,
     .misses = "From:"},
    {.name = "a From with a name and no brackets",
     .script = {GREET, ENVELOPE, TEXT("From: Scanner a@example.com\r\n" HI),
                QUIT},
     .head = "\r\nFrom: Scanner <a@example\\.com>\r\n"},
    {.name = "a From with a raw at sign in its name",
     .script = {GREET, ENVELOPE,
                TEXT("From: scan@office <a@example.com>\r\n" HI), QUIT},
     .head = "\r\nFrom: \"scan@office\" <a@example\\.com>\r\n",
     .log = "repaired=date,from,message-id"},
    {.name = "a From with several addresses",
     .script = {GREET, ENVELOPE,
                TEXT("From: a@example.com, c@example.com\r\n" HI), QUIT},
     .head = "\r\nFrom: [^\r]*<a@example\\.com>\r\n"},
    {.name = "no header at all",
     .script = {GREET, ENVELOPE, TEXT("Disk failed\r\n"), QUIT},
     .body = "Disk failed\r\n",
     .head = "\r\nMessage-ID: <[^\r]*>\r\n\r\n$",
     .log = "repaired=[a-z,-]*header"},
    {.name = "an empty message",
     .script = {GREET, ENVELOPE, TEXT(""), QUIT},
     .body = "",
     .head = "\r\n\r\n$"},
    {.name = "blind copies go",
     .script = {GREET, ENVELOPE,
                TEXT("Bcc: c@example.net,\r\n d@example.net\r\n" HI), QUIT},
     .log = "repaired=[a-z,-]*bcc"},
    {.name = "text that is not ASCII, and says nothing of it",
     .script = {GREET, ENVELOPE, TEXT("Subject: x\r\n\r\nW\xe4rme\r\n"), QUIT},
     .body = "Subject: x\r\n\r\nW\xe4rme\r\n",
     .head = "\r\nMIME-Version: 1\\.0\r\nContent-Type: text/plain; "
             "charset=windows-1252\r\nContent-Transfer-Encoding: 8bit\r\n",
     .log = "repaired=[a-z,-]*mime"},
};

static bool matches(const char *text, const char *form)
{
    regex_t wanted;
    ck_assert_msg(regcomp(&wanted, form, REG_EXTENDED | REG_NOSUB) == 0, "%s",
                  form);
    bool is_match = regexec(&wanted, text, 0, NULL, 0) == 0;
    regfree(&wanted);
    return is_match;
}

static void expect_in_queue(const struct quirk *q)
{
    const char *body = q->body != NULL ? q->body : HI;
    if (!q->is_refused) {
        expect_body(body, strlen(body));
        ck_assert_str_eq(mail.from,
                         q->from != NULL ? q->from : "a@example.com");
        ck_assert_str_eq(mail.to, q->to != NULL ? q->to : "b@example.net");
        ck_assert_msg(q->head == NULL || matches(mail.head, q->head), "%s: %s",
                      q->name, mail.head);
        ck_assert_msg(q->misses == NULL || !matches(mail.head, q->misses),
                      "%s: %s", q->name, mail.head);
    }
    ck_assert_msg(q->log == NULL || matches(log_text, q->log), "%s: %s",
                  q->name, log_text);
    expect_nothing_held();
}

START_TEST(quirk_in_steps_and_bytes_and_at_once)
{
    static char first[sizeof transcript];
    const struct quirk *q = &quirks[_i];
    furnish(q->settings != NULL ? q->settings : "");
    for (int feed = 0; feed < FEEDS; feed++) {
        forget_log();
        play("10.0.0.9", q->script, (enum feed)feed);
        expect_in_queue(q);
        if (feed == 0)
            memcpy(first, transcript, sizeof first);
        ck_assert_msg(strcmp(first, transcript) == 0, "%s: feed %d: %s",
                      q->name, feed, transcript);
    }
}
END_TEST

/* ---- What no script can say ---------------------------------------------- */

#define BEFORE_TEXT                                                            \
    "EHLO me\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.net>\r\n"      \
    "DATA\r\n"

/* A Hikvision resets the connection once it has its 250: the mail is ours. */
START_TEST(a_reset_behind_the_mail)
{
    struct device *d = call_tcp();
    say_all(d, BEFORE_TEXT HI ".\r\n");
    for (int i = 0; i < 5; i++)
        ck_assert_str_ne(reply(d), "");
    expect(d, "250 2.0.0 Queued");
    reset(d);
    settle(NULL);
    ck_assert_uint_eq(smtp_in_clients(), 0);
    expect_body(HI, strlen(HI));
    ck_assert_uint_eq(logged(" accepted "), 1);
    /* That was no failure of its, though the reset may overtake what
     * acknowledges our reply. */
    ck_assert_uint_eq(logged("why="), logged(" unheard why="));
}
END_TEST

/* It says all that it has and is gone before it could read a word. */
START_TEST(half_a_close_behind_everything)
{
    static const char all[] = BEFORE_TEXT HI ".\r\n";
    struct device *d = call_tcp();
    push(d, all, strlen(all));
    shutdown(d->fd, SHUT_WR);
    settle(d);
    for (int i = 0; i < 5; i++)
        ck_assert_str_ne(reply(d), "");
    expect(d, "250 2.0.0 Queued");
    expect_end(d);
    expect_body(HI, strlen(HI));
}
END_TEST

#define LONG_BYTES 65536

/* Lines of any length go in, and are told of; the way out breaks what can be
 * broken (dot). */
START_TEST(a_line_of_64_kib)
{
    static char text[LONG_BYTES + 64];
    size_t used = (size_t)sprintf(text, "Subject: x\r\n\r\n");
    memset(text + used, 'A', LONG_BYTES);
    used += LONG_BYTES;
    memcpy(text + used, "\r\n", 2);
    used += 2;
    struct device *d = call_and_greet("10.0.0.9");
    size_t steps[] = {used, 1000, 1};
    for (size_t i = 0; i < COUNT(steps); i++) {
        forget_log();
        start_data(d);
        for (size_t at = 0; at < used; at += steps[i])
            say_bytes(d, text + at,
                      used - at < steps[i] ? used - at : steps[i]);
        ask(d, ".\r\n", "250 2.0.0 Queued");
        expect_body(text, used);
        ck_assert_uint_eq(logged(" long_lines=yes accepted "), 1);
    }
}
END_TEST

/* A NUL is no text, and a device that pads with them means nothing by it. */
START_TEST(nul_bytes_are_left_out)
{
    static const char sent[] = "Subject:\0 x\r\n\r\n\0hi\0\0\r\n";
    struct device *d = call_and_greet("10.0.0.9");
    for (size_t step = 1; step < sizeof sent; step *= 3) {
        forget_log();
        start_data(d);
        for (size_t at = 0; at < sizeof sent - 1; at += step)
            say_bytes(d, sent + at,
                      sizeof sent - 1 - at < step ? sizeof sent - 1 - at
                                                  : step);
        ask(d, ".\r\n", "250 2.0.0 Queued");
        expect_body(HI, strlen(HI));
        ck_assert_uint_eq(logged(",nul accepted "), 1);
    }
}
END_TEST

Suite *suite_quirks(void)
{
    Suite *s = suite_create("quirks");
    TCase *c = tcase_create("quirks");
    tcase_set_timeout(c, 120);
    tcase_add_checked_fixture(c, open_house, house_in_order);
    tcase_add_loop_test(c, quirk_in_steps_and_bytes_and_at_once, 0,
                        COUNT(quirks));
    tcase_add_test(c, a_reset_behind_the_mail);
    tcase_add_test(c, half_a_close_behind_everything);
    tcase_add_test(c, a_line_of_64_kib);
    tcase_add_test(c, nul_bytes_are_left_out);
    suite_add_tcase(s, c);
    return s;
}
