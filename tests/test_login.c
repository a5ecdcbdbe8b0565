/* login, sasl, users, clients, smtp_verbs: RFC 4954 in full, through the real
 * dialogue. The users' passwords are "secret" and "other"; a14 is a row of our
 * list of faults. */
#include "../users.h"
#include "talk.h"

Suite *suite_login(void);

/* As in test_users.c: 1000, 2500 and 20000 rounds. */
#define HASH_SECRET                                                            \
    "$pbkdf2-sha256$1000$c2FsdHNhbHQ="                                         \
    "$hgR9HsqtKupWxpnv8y99TrPDajTT/9PcSTlNafpdLXQ="
#define HASH_OTHER                                                             \
    "$pbkdf2-sha256$2500$AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="         \
    "$ms8W9lmYRqubxvYA5YKitHYd44vCIigPFRjIFYWt7xE="
#define HASH_SLOW                                                              \
    "$pbkdf2-sha256$20000$AAECAwQFBgcICQoLDA0ODw=="                            \
    "$Eo9Ss7G1qTHlvyZ/PBINDH9LISbk/Nd+GbHvqaDvLxk="
#define USERS                                                                  \
    "scanner:" HASH_SECRET "\n"                                                \
    "nas:" HASH_OTHER ":nas@example.com @example.org\n"                        \
    "slow:" HASH_SLOW "\n"
#define WITH_USERS "users_file = /nonexistent\n"

#define SCANNER_SECRET "AHNjYW5uZXIAc2VjcmV0"
#define SCANNER_OTHER  "AHNjYW5uZXIAb3RoZXI="
#define NAS_OTHER      "AG5hcwBvdGhlcg=="
#define SLOW_SECRET    "AHNsb3cAc2VjcmV0"
#define SLOW_WRONG     "AHNsb3cAd3Jvbmc="
#define NOBODY_SECRET  "AG5vYm9keQBzZWNyZXQ="

#define GOOD        "235 2.7.0 You are logged in\r\n"
#define WRONG       "535 5.7.8 Wrong user or password\r\n"
#define BAD         "501 5.5.2 "
#define CANCELLED   "501 5.7.0 "
#define ASKS_USER   "334 VXNlcm5hbWU6\r\n"
#define ASKS_SECRET "334 UGFzc3dvcmQ6\r\n"
#define WAIT        "454 4.7.0 "

static void load_users(const char *text)
{
    char why[USERS_WHY_BYTES] = "";
    ck_assert_msg(users_load_text(text, strlen(text), why), "%s", why);
}

static void open_guarded_house(void)
{
    open_house();
    furnish(WITH_USERS);
    load_users(USERS);
}

static void close_guarded_house(void)
{
    furnish("");
    house_in_order();
    users_wipe();
}

static void leave(struct device *d)
{
    hang_up_device(d);
    settle(NULL);
}

/* ---- Exchanges ----------------------------------------------------------- */

#define GREET                                                                  \
    {'<', "220 "}, {'>', "EHLO me\r\n"},                                       \
    {                                                                          \
        '<', "250-relay.test"                                                  \
    }
#define ROW(said, heard)                                                       \
    {'>', said "\r\n"},                                                        \
    {                                                                          \
        '<', heard                                                             \
    }

static const struct exchange {
    const char *name;
    struct talk script[20];
} exchanges[] = {
    {"PLAIN at once", {GREET, ROW("AUTH PLAIN " SCANNER_SECRET, GOOD)}},
    {"PLAIN in two steps",
     {GREET, ROW("AUTH PLAIN", "334 \r\n"), ROW(SCANNER_SECRET, GOOD)}},
    {"PLAIN, the identity is not looked at",
     {GREET, ROW("AUTH PLAIN eABzY2FubmVyAHNlY3JldA==", GOOD)}},
    {"LOGIN in three steps",
     {GREET, ROW("AUTH LOGIN", ASKS_USER), ROW("c2Nhbm5lcg==", ASKS_SECRET),
      ROW("c2VjcmV0", GOOD)}},
    {"LOGIN with the user in line",
     {GREET, ROW("AUTH LOGIN c2Nhbm5lcg==", ASKS_SECRET),
      ROW("c2VjcmV0", GOOD)}},
    {"in lower case, with blanks",
     {GREET, ROW(" auth  login\tc2Nhbm5lcg==", ASKS_SECRET),
      ROW("c2VjcmV0", GOOD)}},
    {"a blank behind the mechanism",
     {GREET, ROW("AUTH LOGIN ", ASKS_USER), ROW("c2Nhbm5lcg==", ASKS_SECRET),
      ROW("c2VjcmV0", GOOD)}},
    {"wrong password",
     {GREET, ROW("AUTH PLAIN " SCANNER_OTHER, WRONG),
      ROW("AUTH LOGIN c2Nhbm5lcg==", ASKS_SECRET), ROW("b3RoZXI=", WRONG)}},
    {"nobody of that name",
     {GREET, ROW("AUTH PLAIN " NOBODY_SECRET, WRONG),
      ROW("AUTH PLAIN AFNjYW5uZXIAc2VjcmV0", WRONG)}},
    {"wrong, then right",
     {GREET, ROW("AUTH PLAIN " SCANNER_OTHER, WRONG),
      ROW("AUTH PLAIN " SCANNER_SECRET, GOOD)}},
    {"empty texts",
     {GREET, ROW("AUTH LOGIN =", ASKS_SECRET), ROW("c2VjcmV0", WRONG),
      ROW("AUTH LOGIN c2Nhbm5lcg==", ASKS_SECRET), ROW("=", WRONG)}},
    {"an empty response to PLAIN is none that PLAIN has",
     {GREET, ROW("AUTH PLAIN =", BAD), ROW("AUTH PLAIN", "334 "), ROW("", BAD),
      ROW("NOOP", "250 2.0.0")}},
    {"cancelled at each prompt",
     {GREET, ROW("AUTH PLAIN", "334 "), ROW("*", CANCELLED),
      ROW("AUTH LOGIN", ASKS_USER), ROW("*", CANCELLED),
      ROW("AUTH LOGIN c2Nhbm5lcg==", ASKS_SECRET), ROW("*", CANCELLED),
      ROW("AUTH PLAIN " SCANNER_SECRET, GOOD)}},
    {"no base64",
     {GREET, ROW("AUTH PLAIN !", BAD),
      ROW("AUTH PLAIN " SCANNER_SECRET "=", BAD),
      ROW("AUTH PLAIN AHNjYW5uZXIAc2Vj\tcmV0", BAD),
      ROW("AUTH LOGIN", ASKS_USER), ROW("c2Nhbm5lcg", BAD),
      ROW("AUTH LOGIN", ASKS_USER), ROW("**", BAD),
      ROW("AUTH LOGIN", ASKS_USER)}},
    {"no base64 at the password prompt",
     {GREET, ROW("AUTH LOGIN c2Nhbm5lcg==", ASKS_SECRET), ROW("c2Vjcm=V0", BAD),
      ROW("c2VjcmV0", "500 5.5.1"), ROW("NOOP", "250 2.0.0")}},
    {"NUL in PLAIN: three parts and no more",
     {GREET, ROW("AUTH PLAIN c2Nhbm5lcgBzZWNyZXQ=", BAD),
      ROW("AUTH PLAIN AHNjYW5uZXIAc2VjcmV0AA==", BAD),
      ROW("AUTH PLAIN c2Nhbm5lcnNlY3JldA==", BAD),
      ROW("AUTH PLAIN AHNjYW5uZXI=", BAD),
      ROW("AUTH PLAIN AHNjYW5uZXIA", WRONG),
      ROW("AUTH PLAIN AABzZWNyZXQ=", WRONG)}},
    {"NUL in LOGIN",
     {GREET, ROW("AUTH LOGIN", ASKS_USER), ROW("c2NhbgBuZXI=", BAD),
      ROW("AUTH LOGIN c2Nhbm5lcg==", ASKS_SECRET), ROW("c2VjAHJldA==", BAD)}},
    {"mechanisms that nobody knows",
     {GREET, ROW("AUTH CRAM-MD5", "504 5.5.4 "), ROW("AUTH", "504 5.5.4 "),
      ROW("AUTH XOAUTH2 " SCANNER_SECRET, "504 5.5.4 "),
      ROW("AUTH none", "504 5.5.4 "), ROW("AUTH PLAINX", "504 5.5.4 ")}},
    {"before EHLO",
     {{'<', "220 "},
      ROW("AUTH PLAIN " SCANNER_SECRET, "503 5.5.1 "),
      ROW("AUTH LOGIN", "503 5.5.1 "),
      ROW("HELO me", "250 relay.test"),
      ROW("AUTH PLAIN " SCANNER_SECRET, GOOD)}},
    {"in a transaction",
     {GREET, ROW("MAIL FROM:<a@example.com>", "250 2.1.0"),
      ROW("AUTH PLAIN " SCANNER_SECRET, "503 5.5.1 "),
      ROW("RCPT TO:<b@example.net>", "250 2.1.5"),
      ROW("AUTH LOGIN", "503 5.5.1 "), ROW("RSET", "250 2.0.0"),
      ROW("AUTH PLAIN " SCANNER_SECRET, GOOD)}},
    {"twice, whatever was in between",
     {GREET, ROW("AUTH PLAIN " SCANNER_SECRET, GOOD),
      ROW("AUTH PLAIN " SCANNER_SECRET, "503 5.5.1 "),
      ROW("EHLO me", "250-relay.test"), ROW("AUTH LOGIN", "503 5.5.1 "),
      ROW("RSET", "250 2.0.0"), ROW("AUTH PLAIN " NAS_OTHER, "503 5.5.1 ")}},
    {"each with his own password",
     {GREET, ROW("AUTH PLAIN AG5hcwBzZWNyZXQ=", WRONG),
      ROW("AUTH PLAIN " NAS_OTHER, GOOD)}},
    {"the slow one", {GREET, ROW("AUTH PLAIN " SLOW_SECRET, GOOD)}},
    {"QUIT at a prompt",
     {GREET,
      ROW("AUTH LOGIN", ASKS_USER),
      ROW("QUIT", "221 2.0.0"),
      {'.', ""}}},
    {"what is pipelined behind it waits for the verdict",
     {GREET,
      {'>', "AUTH PLAIN " SLOW_SECRET "\r\nMAIL FROM:<a@example.com>\r\n"
            "RSET\r\n"},
      {'<', GOOD},
      {'<', "250 2.1.0"},
      {'<', "250 2.0.0"}}},
};

START_TEST(exchange_in_steps_and_bytes_and_at_once)
{
    static char first[sizeof transcript];
    const struct exchange *w = &exchanges[_i];
    for (int feed = 0; feed < FEEDS; feed++) {
        clients_init(); /* each feed with a clean record */
        play("10.0.0.9", w->script, (enum feed)feed);
        if (feed == 0)
            memcpy(first, transcript, sizeof first);
        ck_assert_msg(strcmp(first, transcript) == 0, "%s: feed %d", w->name,
                      feed);
    }
}
END_TEST

/* Longer than our line, as long as RFC 4954 wants it, and one more. */
START_TEST(a14_lines_that_are_too_long)
{
    static const size_t lengths[] = {2049, 4096, 12288, 12289, 100000};
    static char line[100002];
    memset(line, 'A', sizeof line);
    for (size_t i = 0; i < COUNT(lengths); i++)
        for (int by_piece = 0; by_piece < 2; by_piece++) {
            struct device *d = call_and_greet("10.0.0.9");
            memcpy(line + lengths[i] - 2, "\r\n", 2);
            ask(d, "AUTH PLAIN\r\n", "334 ");
            for (size_t at = 0, n; at < lengths[i]; at += n) {
                n = by_piece ? 700 : lengths[i];
                n = n < lengths[i] - at ? n : lengths[i] - at;
                say_bytes(d, line + at, n);
            }
            expect(d, "500 5.5.6 ");
            memcpy(line + lengths[i] - 2, "AA", 2);
            ask(d, "NOOP\r\n", "250 2.0.0");
            ask(d, "AUTH LOGIN\r\n", ASKS_USER);
            say_bytes(d, line, 5000);
            expect(d, "500 5.5.6 ");
            ask(d, "\r\nAUTH PLAIN " SCANNER_SECRET "\r\n", GOOD);
            leave(d);
        }
}
END_TEST

/* What fits a line, and no user or password that we have room for. */
START_TEST(a14_texts_that_are_too_long)
{
    static const size_t lengths[] = {340, 344, 1200, 2000};
    char line[2100];
    for (size_t i = 0; i < COUNT(lengths); i++) {
        struct device *d = call_and_greet("10.0.0.9");
        memset(line, 'e', sizeof line); /* of 'y's */
        strcpy(line + lengths[i], "\r\n");
        ask(d, "AUTH LOGIN\r\n", ASKS_USER);
        ask(d, line, lengths[i] <= 340 ? ASKS_SECRET : BAD);
        if (lengths[i] > 340)
            ask(d, "AUTH LOGIN c2Nhbm5lcg==\r\n", ASKS_SECRET);
        ask(d, line, lengths[i] <= 340 ? WRONG : BAD);
        ask(d, "AUTH PLAIN\r\n", "334 ");
        ask(d, line, BAD);
        leave(d);
    }
}
END_TEST

/* ---- Failures ------------------------------------------------------------ */

START_TEST(a14_three_wrong_and_one_right)
{
    struct device *d = call_and_greet("10.0.0.9");
    ask(d, "AUTH PLAIN " SCANNER_OTHER "\r\n", WRONG);
    ask(d, "AUTH PLAIN " NOBODY_SECRET "\r\n", WRONG);
    say_all(d, "AUTH PLAIN " SCANNER_OTHER "\r\n"
               "AUTH PLAIN " SCANNER_SECRET "\r\n");
    expect(d, WRONG);
    expect(d, "421 4.7.0 Too many failed logins");
    expect_end(d);
    d = call_and_greet("10.0.0.9");
    ask(d, "AUTH PLAIN " SCANNER_SECRET "\r\n", GOOD);
}
END_TEST

/* To go wrong is an error as any other: it has an end. */
START_TEST(a14_exchanges_that_go_wrong_have_an_end)
{
    struct device *d = call_and_greet("10.0.0.9");
    for (unsigned i = 0; i < CLIENT_ERRORS_MAX; i++)
        ask(d, i % 2 ? "AUTH PLAIN !\r\n" : "AUTH X\r\n", "50");
    ask(d, "AUTH X\r\n", "504 5.5.4");
    expect(d, "421 4.7.0 Too many errors");
    expect_end(d);
}
END_TEST

/* Turns of the loop until the reply is there. */
static unsigned turns_of(struct device *d, const char *line, const char *begin)
{
    unsigned turns = 0;
    push(d, line, strlen(line));
    while (!hear(d)) {
        ck_assert(turn());
        turns++;
    }
    settle(d);
    expect(d, begin);
    return turns;
}

/* An unknown name must not show by its time; nor how much of a password was
 * right. */
START_TEST(an_unknown_user_takes_as_long)
{
    load_users("slow:" HASH_SLOW "\nnas:" HASH_OTHER "\n");
    struct device *d = call_and_greet("10.0.0.9");
    unsigned wrong = turns_of(d, "AUTH PLAIN " SLOW_WRONG "\r\n", WRONG);
    unsigned unknown = turns_of(d, "AUTH PLAIN " NOBODY_SECRET "\r\n", WRONG);
    unsigned right = turns_of(d, "AUTH PLAIN " SLOW_SECRET "\r\n", GOOD);
    ck_assert_uint_eq(wrong, unknown);
    ck_assert_uint_eq(wrong, right);
    ck_assert_uint_ge(wrong, 20000 / PASSWORD_SLICE_ROUNDS);
    ck_assert_uint_le(wrong, 20000 / PASSWORD_SLICE_ROUNDS + 2);
}
END_TEST

START_TEST(others_are_served_during_a_check)
{
    unsigned asked = 0;
    struct device *d = call_and_greet("10.0.0.9");
    struct device *other = call_and_greet("10.0.0.10");
    push(d, "AUTH PLAIN " SLOW_SECRET "\r\n",
         strlen("AUTH PLAIN " SLOW_SECRET "\r\n"));
    while (!hear(d)) {
        push(other, "NOOP\r\n", 6);
        ck_assert(turn());
        ck_assert_msg(hear(other), "not in the same turn");
        expect(other, "250 2.0.0");
        asked++;
    }
    expect(d, GOOD);
    ck_assert_uint_ge(asked, 20000 / PASSWORD_SLICE_ROUNDS);
}
END_TEST

/* ---- The end of a session during a login --------------------------------- */

static const struct leaving_row {
    const char *said, *heard;
    const char *place;
} leaving_rows[] = {
    {"AUTH LOGIN\r\n", ASKS_USER, "login abandoned at the user prompt\""},
    {"AUTH LOGIN c2Nhbm5lcg==\r\n", ASKS_SECRET,
     "login abandoned at the password prompt\""},
    {"AUTH PLAIN\r\n", "334 ", "login abandoned at the prompt of PLAIN\""},
};

START_TEST(a_login_abandoned_is_one_line)
{
    const struct leaving_row *w = &leaving_rows[_i];
    for (int how = 0; how < 3; how++) {
        struct device *d = call_and_greet("10.0.0.9");
        ask(d, w->said, w->heard);
        forget_log();
        if (how == 0)
            hang_up_device(d);
        if (how == 1)
            say_all(d, "c2Vjcm"); /* half a line */
        pass(how == 0 ? 0 : CLIENT_IDLE_SECONDS * 1000, how == 0 ? NULL : d);
        ck_assert_msg(logged(w->place) == 1, "%d: %s", how, log_text);
        ck_assert_uint_eq(log_lines, 1);
        ck_assert_uint_eq(logged("advice=\"check user and password"), 1);
        leave(d);
    }
}
END_TEST

/* Starts a check that lasts, and takes a few slices of it. */
static struct device *call_into_check(const char *line)
{
    struct device *d = call_and_greet("10.0.0.9");
    push(d, line, strlen(line));
    for (int i = 0; i < 5; i++)
        ck_assert(turn());
    ck_assert(!hear(d));
    return d;
}

START_TEST(half_a_close_during_a_check_gets_its_verdict)
{
    struct device *d = call_into_check("AUTH PLAIN " SLOW_SECRET "\r\n");
    shutdown(d->fd, SHUT_WR);
    settle(d);
    expect(d, GOOD);
    expect_end(d);
}
END_TEST

START_TEST(a_reload_during_a_check_changes_nothing_of_it)
{
    struct device *d = call_into_check("AUTH PLAIN " SLOW_SECRET "\r\n");
    load_users("slow:" HASH_OTHER "\n");
    settle(d);
    expect(d, GOOD);
    leave(d);
    load_users(USERS);
    d = call_into_check("AUTH PLAIN " SLOW_WRONG "\r\n");
    load_users("slow:$pbkdf2-sha256$1000$c2FsdHNhbHQ="
               "$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n");
    settle(d);
    expect(d, WRONG);
    leave(d);
}
END_TEST

/* Who is struck from the file may go on, but not send. */
START_TEST(a_reload_during_a_session)
{
    struct device *d = call_and_greet("10.0.0.9");
    ask(d, "AUTH PLAIN " SCANNER_SECRET "\r\n", GOOD);
    send_a_mail(d);
    ck_assert(take_mail());
    load_users("nas:" HASH_OTHER "\n");
    ask(d, "MAIL FROM:<a@example.com>\r\n", "553 5.7.1 ");
    load_users("scanner:" HASH_SECRET ":a@example.org\n");
    ask(d, "MAIL FROM:<a@example.com>\r\n", "553 5.7.1 ");
    ask(d, "MAIL FROM:<a@example.org>\r\n", "250 2.1.0");
}
END_TEST

START_TEST(a_reload_with_a_check_that_ends_in_anybody_welcome)
{
    struct device *d = call_into_check("AUTH PLAIN " SLOW_WRONG "\r\n");
    furnish(WITH_USERS "accept_any_auth = yes\n");
    settle(d);
    expect(d, WRONG);
    ask(d, "AUTH PLAIN " SLOW_WRONG "\r\n", GOOD);
}
END_TEST

/* ---- Who may what -------------------------------------------------------- */

static const struct sender_row {
    const char *login; /* NULL: none */
    const char *from, *reply;
} sender_rows[] = {
    {NULL, "a@example.com", "250 2.1.0"},
    {SCANNER_SECRET, "a@example.com", "250 2.1.0"},
    {SCANNER_SECRET, "", "250 2.1.0"},
    {NAS_OTHER, "nas@example.com", "250 2.1.0"},
    {NAS_OTHER, "NAS@Example.COM", "250 2.1.0"},
    {NAS_OTHER, "any@example.org", "250 2.1.0"},
    {NAS_OTHER, "", "250 2.1.0"},
    {NAS_OTHER, "a@example.com", "553 5.7.1"},
    {NAS_OTHER, "nas@example.com.evil.example", "553 5.7.1"},
    {NAS_OTHER, "a@sub.example.org", "553 5.7.1"},
    {NAS_OTHER, "\"a@example.org\"@evil.example", "553 5.7.1"},
    {NAS_OTHER, "@relay.test:a@evil.example", "553 5.7.1"},
};

START_TEST(senders_of_each_user)
{
    const struct sender_row *w = &sender_rows[_i];
    char line[256];
    struct device *d = call_and_greet("10.0.0.9");
    if (w->login != NULL) {
        snprintf(line, sizeof line, "AUTH PLAIN %s\r\n", w->login);
        ask(d, line, GOOD);
    }
    forget_log();
    snprintf(line, sizeof line, "MAIL FROM:<%s>\r\n", w->from);
    ask(d, line, w->reply);
    ck_assert_uint_eq(logged("advice=\"add the address to the user's line"),
                      *w->reply == '5');
}
END_TEST

/* The From field is bound as the envelope is. */
START_TEST(from_fields_of_a_user)
{
    struct device *d = call_and_greet("10.0.0.9");
    ask(d, "AUTH PLAIN " NAS_OTHER "\r\n", GOOD);
    ask(d, "MAIL FROM:<nas@example.com>\r\n", "250");
    ask(d, "RCPT TO:<b@example.net>\r\n", "250");
    ask(d, "DATA\r\n", "354");
    ask(d, "From: Boss <boss@evil.example>\r\nSubject: x\r\n\r\nhi\r\n.\r\n",
        "250");
    expect_body("Subject: x\r\n\r\nhi\r\n", 18);
    ck_assert_ptr_nonnull(strstr(mail.head, "\r\nFrom: "));
    ck_assert_ptr_nonnull(strstr(mail.head, "<nas@example.com>\r\n"));
    ck_assert_ptr_null(strstr(mail.head, "From: Boss <boss@evil.example>"));
}
END_TEST

static const struct offer_row {
    const char *settings, *users;
    bool is_offered;
    const char *right, *wrong;
} offer_rows[] = {
    {"", "", true, GOOD, GOOD},
    {"accept_any_auth = auto\n", "", true, GOOD, GOOD},
    {"accept_any_auth = yes\n", "", true, GOOD, GOOD},
    {"accept_any_auth = no\n", "", false, "502 5.5.1", "502 5.5.1"},
    {WITH_USERS, USERS, true, GOOD, WRONG},
    {WITH_USERS "accept_any_auth = auto\n", USERS, true, GOOD, WRONG},
    {WITH_USERS "accept_any_auth = no\n", USERS, true, GOOD, WRONG},
    {WITH_USERS "accept_any_auth = yes\n", USERS, true, GOOD, GOOD},
    {WITH_USERS, "# none yet\n", false, "502 5.5.1", "502 5.5.1"},
};

START_TEST(accept_any_auth)
{
    const struct offer_row *w = &offer_rows[_i];
    furnish(w->settings);
    load_users(w->users);
    for (int is_right = 0; is_right < 2; is_right++) {
        struct device *d = call("10.0.0.9");
        settle(d);
        expect(d, "220");
        say_all(d, "EHLO me\r\n");
        bool is_offered =
            strstr(reply(d), "\r\n250-AUTH PLAIN LOGIN\r\n") != NULL;
        ck_assert_int_eq(is_offered, w->is_offered);
        ask(d,
            is_right ? "AUTH PLAIN " SCANNER_SECRET "\r\n"
                     : "AUTH PLAIN " SCANNER_OTHER "\r\n",
            is_right ? w->right : w->wrong);
        leave(d);
    }
}
END_TEST

START_TEST(require_auth)
{
    furnish(WITH_USERS "require_auth = 10.0.0.0/24 fd00::/8\n");
    struct device *free_one = call_and_greet("10.0.1.9");
    send_a_mail(free_one);
    ck_assert(take_mail());
    struct device *d = call_and_greet("10.0.0.9");
    forget_log();
    ask(d, "MAIL FROM:<a@example.com>\r\n", "530 5.7.0 ");
    ask(d, "MAIL FROM:<a@example.com>\r\n", "530 5.7.0 ");
    ck_assert_uint_eq(logged("it did not log in, and must"), 1);
    ask(d, "RCPT TO:<b@example.net>\r\n", "503 5.5.1");
    ask(d, "NOOP\r\n", "250");
    ask(d, "AUTH PLAIN " SCANNER_OTHER "\r\n", WRONG);
    ask(d, "MAIL FROM:<a@example.com>\r\n", "530 5.7.0 ");
    ask(d, "AUTH PLAIN " SCANNER_SECRET "\r\n", GOOD);
    send_a_mail(d);
    ck_assert(take_mail());
    d = call_and_greet("fd00::9");
    ask(d, "MAIL FROM:<a@example.com>\r\n", "530 5.7.0 ");
}
END_TEST

/* A login never makes a stranger one of ours. */
START_TEST(strangers_are_not_even_asked)
{
    static const char *const settings_of[] = {
        "", WITH_USERS, WITH_USERS "accept_any_auth = yes\n",
        "accept_any_auth = no\n"};
    static const char *const lines[] = {
        "AUTH PLAIN " SCANNER_SECRET "\r\n", "AUTH LOGIN\r\n",
        "AUTH LOGIN c2Nhbm5lcg==\r\n", "AUTH X\r\n", "AUTH\r\n"};
    for (size_t i = 0; i < COUNT(settings_of); i++) {
        furnish(settings_of[i]);
        struct device *d = call("192.0.2.9");
        settle(d);
        expect(d, "220");
        say_all(d, "EHLO me\r\n");
        ck_assert_ptr_null(strstr(reply(d), "AUTH"));
        for (size_t k = 0; k < COUNT(lines); k++)
            ask(d, lines[k], "550 5.7.1");
        ask(d, "MAIL FROM:<a@example.com>\r\n", "250 2.1.0");
        ask(d, "RCPT TO:<b@example.net>\r\n", "550 5.7.1");
        leave(d);
    }
}
END_TEST

/* ---- Guessers ------------------------------------------------------------ */

static void fail_once(const char *from)
{
    struct device *d = call_and_greet(from);
    ask(d, "AUTH PLAIN " SCANNER_OTHER "\r\n", WRONG);
    leave(d);
}

START_TEST(five_failures_in_a_minute_are_enough)
{
    forget_log();
    for (int i = 0; i < ADDRESS_LOGINS_MAX; i++) {
        fail_once("10.0.0.9");
        now_ms += 10000;
    }
    now_ms -= 10000;
    ck_assert_uint_eq(logged("wrong user or password, as scanner"), 1);
    struct device *d = call_and_greet("10.0.0.9");
    ask(d, "AUTH PLAIN " SCANNER_SECRET "\r\n", WAIT);
    ask(d, "AUTH LOGIN\r\n", WAIT);
    ask(d, "AUTH LOGIN c2Nhbm5lcg==\r\n", WAIT);
    struct device *other = call_and_greet("10.0.0.10");
    ask(other, "AUTH PLAIN " SCANNER_SECRET "\r\n", GOOD);
    send_a_mail(d); /* who need not log in may go on */
    ck_assert(take_mail());
    pass(ADDRESS_LOGINS_SECONDS * 1000 - 1, d);
    ask(d, "AUTH PLAIN " SCANNER_SECRET "\r\n", WAIT);
    pass(1, d);
    ask(d, "AUTH PLAIN " SCANNER_SECRET "\r\n", GOOD);
}
END_TEST

/* Or a guesser with one login of his own could go on for ever. */
START_TEST(a_good_login_does_not_clear_the_record)
{
    for (int i = 0; i < ADDRESS_LOGINS_MAX - 1; i++)
        fail_once("10.0.0.9");
    struct device *d = call_and_greet("10.0.0.9");
    ask(d, "AUTH PLAIN " SCANNER_SECRET "\r\n", GOOD);
    fail_once("10.0.0.9");
    d = call_and_greet("10.0.0.9");
    ask(d, "AUTH PLAIN " SCANNER_SECRET "\r\n", WAIT);
}
END_TEST

/* Who stands at the prompt when others fail does not get past them. */
START_TEST(parked_at_the_prompt_when_the_limit_is_reached)
{
    struct device *parked[3];
    for (size_t i = 0; i < COUNT(parked); i++) {
        parked[i] = call_and_greet("10.0.0.9");
        ask(parked[i], i < 2 ? "AUTH LOGIN c2xvdw==\r\n" : "AUTH PLAIN\r\n",
            "334 ");
    }
    for (int i = 0; i < ADDRESS_LOGINS_MAX; i++)
        fail_once("10.0.0.9");
    forget_log();
    /* 20000 rounds would take their turns */
    ck_assert_uint_le(turns_of(parked[0], "c2VjcmV0\r\n", WAIT), 2);
    ck_assert_uint_le(turns_of(parked[1], "d3Jvbmc=\r\n", WAIT), 2);
    ck_assert_uint_le(turns_of(parked[2], SLOW_SECRET "\r\n", WAIT), 2);
    ck_assert_uint_eq(log_lines, 0);
    for (size_t i = 0; i < COUNT(parked); i++)
        ask(parked[i], "NOOP\r\n", "250 2.0.0");
    pass(ADDRESS_LOGINS_SECONDS * 1000, parked[0]);
    ask(parked[0], "AUTH PLAIN " SLOW_SECRET "\r\n", GOOD);
}
END_TEST

/* An exchange that went wrong is told once, with its reply, to the log and to
 * whoever asks later. */
static char too_long[COMMAND_MAX_BYTES + 100];

static const struct refused_row {
    const char *lines[2];
    const char *why;
} refused_rows[] = {
    {{"AUTH PLAIN !\r\n"},
     "message refused: 501 5.5.2 That is no login in base64"},
    {{"AUTH LOGIN\r\n", "c2Nhbm5lcg\r\n"},
     "message refused: 501 5.5.2 That is no login in base64"},
    {{"AUTH PLAIN\r\n", "*\r\n"}, "message refused: 501 5.7.0 Login cancelled"},
    {{"AUTH LOGIN\r\n", "*\r\n"}, "message refused: 501 5.7.0 Login cancelled"},
    {{"AUTH CRAM-MD5\r\n"},
     "message refused: 504 5.5.4 Only PLAIN and LOGIN are known here"},
    {{"AUTH\r\n"},
     "message refused: 504 5.5.4 Only PLAIN and LOGIN are known here"},
    {{"AUTH PLAIN\r\n", too_long},
     "message refused: 500 5.5.6 Login line too long"},
};

START_TEST(a_refused_exchange_is_one_line_and_remembered)
{
    const struct refused_row *w = &refused_rows[_i];
    char line[256];
    memset(too_long, 'A', sizeof too_long);
    strcpy(too_long + sizeof too_long - 3, "\r\n");
    struct device *d = call_and_greet("10.0.0.9");
    forget_log();
    ask(d, w->lines[0], w->lines[1] ? "334 " : "50");
    if (w->lines[1] != NULL)
        ask(d, w->lines[1], "50");
    snprintf(line, sizeof line,
             "client=10.0.0.9 helo=\"me\" refused why=\"%s\"\n", w->why);
    ck_assert_msg(logged(line) == 1, "%s%s", line, log_text);
    ck_assert_uint_eq(log_lines, 1);
    const struct client *c = clients_walk(NULL);
    ck_assert_ptr_nonnull(c);
    ck_assert_str_eq(c->why, w->why);
    ck_assert_uint_eq(c->logins.failed, 0); /* no password was wrong */
    ask(d, "AUTH PLAIN " SCANNER_SECRET "\r\n", GOOD);
}
END_TEST

/* The line of a mail must stay readable whatever a device calls itself. */
static const struct name_row {
    const char *login, *shown;
} name_rows[] = {
    {"AG1lAHg=", " auth=me "},                             /* me */
    {"AG15IG9sZCBzY2FubmVyAHg=", " auth=my_old_scanner "}, /* blanks */
    {"AG0gaWQ9MSBhdXRoPXkAeA==", " auth=m_id=1_auth=y "},  /* m id=1 auth=y */
    {"ACAAeA==", " auth=_ "},                              /* a blank */
    {"AAB4", " auth=\"\" "},                               /* empty */
    {"AGEiYgB4", " auth=a\\\"b "},                         /* a quote */
    {"AGL8cm8AeA==", " auth=b\\xFCro "},                   /* 8 bits */
};

START_TEST(names_in_the_log)
{
    char line[128];
    furnish("accept_any_auth = yes\n");
    for (size_t i = 0; i < COUNT(name_rows); i++) {
        struct device *d = call_and_greet("10.0.0.9");
        snprintf(line, sizeof line, "AUTH PLAIN %s\r\n", name_rows[i].login);
        ask(d, line, GOOD);
        forget_log();
        send_a_mail(d);
        ck_assert(take_mail());
        ck_assert_msg(logged(name_rows[i].shown) == 1, "row %zu: %s", i,
                      log_text);
        ck_assert_uint_eq(logged(" auth="), 1);
        leave(d);
    }
}
END_TEST

/* Ten minutes of one who guesses once a second, and of one who mails. */
START_TEST(a_guesser_is_slow_and_quiet_and_alone)
{
    unsigned looked_at = 0, told = 0;
    struct device *good = call_and_greet("10.0.0.10");
    ask(good, "AUTH PLAIN " SCANNER_SECRET "\r\n", GOOD);
    for (unsigned second = 0; second < 600; second++) {
        transcript[0] = '\0';
        forget_log();
        struct device *d = call_and_greet("10.0.0.9");
        say_all(d, "AUTH PLAIN " SCANNER_OTHER "\r\n");
        const char *text = reply(d);
        looked_at += strcmp(text, WRONG) == 0;
        ck_assert_msg(strcmp(text, WRONG) == 0 ||
                          strncmp(text, WAIT, strlen(WAIT)) == 0,
                      "%s", text);
        told += log_lines;
        leave(d);
        if (second % 10 == 0) {
            send_a_mail(good);
            ck_assert(take_mail());
        }
        pass(1000, good);
    }
    ck_assert_uint_le(looked_at, 10 * ADDRESS_LOGINS_MAX);
    ck_assert_uint_ge(looked_at, 9 * ADDRESS_LOGINS_MAX);
    ck_assert_uint_le(told, 10);
    ck_assert_uint_ge(told, 9);
}
END_TEST

/* ---- Secrets ------------------------------------------------------------- */

/* Not memmem(): the sanitizers would object to where we look. */
__attribute__((no_sanitize("address"))) static bool is_between(
    const char *from, const char *to, const char *needle)
{
    size_t length = strlen(needle), fits;
    for (; from + length <= to; from++) {
        for (fits = 0; fits < length && from[fits] == needle[fits]; fits++)
            ;
        if (fits == length)
            return true;
    }
    return false;
}

/* In all that the program itself can write: its variables (zero at first: the
 * mapping that has no name and follows its own), its heap, its stack. */
static bool is_in_memory(const char *needle)
{
    char line[512], program[256] = "";
    unsigned long from, to, end_of_program = 0;
    bool is_found = false;
    ck_assert_int_gt(readlink("/proc/self/exe", program, sizeof program - 1),
                     0);
    FILE *maps = fopen("/proc/self/maps", "r");
    ck_assert_ptr_nonnull(maps);
    while (!is_found && fgets(line, sizeof line, maps) != NULL) {
        char rights[8];
        ck_assert_int_eq(sscanf(line, "%lx-%lx %7s", &from, &to, rights), 3);
        bool is_ours = strstr(line, program) != NULL || from == end_of_program;
        if (is_ours)
            end_of_program = to;
        if (strncmp(rights, "rw", 2) == 0 &&
            (is_ours || strstr(line, "[heap]") || strstr(line, "[stack]")))
            is_found = is_between((const char *)from, (const char *)to, needle);
    }
    fclose(maps);
    return is_found;
}

/* What each script says of it; its words stand in the constants alone. */
#define PASSWORD       "Tr0ub4dor&3-x9"
#define PASSWORD_64    "VHIwdWI0ZG9yJjMteDk="
#define PASSWORD_PLAIN "AHNjYW5uZXIAVHIwdWI0ZG9yJjMteDk="

static const struct secret_row {
    const char *settings;
    bool is_known; /* the password is right */
    const char *lines[4];
} secret_rows[] = {
    {WITH_USERS, true, {"AUTH PLAIN " PASSWORD_PLAIN "\r\n"}},
    {WITH_USERS, true, {"AUTH PLAIN\r\n", PASSWORD_PLAIN "\r\n"}},
    {WITH_USERS,
     true,
     {"AUTH LOGIN\r\n", "c2Nhbm5lcg==\r\n", PASSWORD_64 "\r\n"}},
    {WITH_USERS, false, {"AUTH PLAIN " PASSWORD_PLAIN "\r\n"}},
    {WITH_USERS, false, {"AUTH LOGIN c2Nhbm5lcg==\r\n", PASSWORD_64 "\r\n"}},
    {"", false, {"AUTH PLAIN " PASSWORD_PLAIN "\r\n"}},
    {"", false, {"AUTH LOGIN\r\n", "c2Nhbm5lcg==\r\n", PASSWORD_64 "\r\n"}},
    {"accept_any_auth = no\n", false, {"AUTH PLAIN " PASSWORD_PLAIN "\r\n"}},
    {"accept_any_auth = no\n", false, {"AUTH LOGIN\r\n", PASSWORD_64 "\r\n"}},
    {WITH_USERS, false, {"AUTH CRAM-MD5\r\n", PASSWORD_64 "\r\n"}},
    {WITH_USERS, false, {"AUTH PLAIN " PASSWORD_PLAIN "=\r\n"}},
    {WITH_USERS, false, {"AUTH LOGIN c2Nhbm5lcg==\r\n", PASSWORD "\r\n"}},
    {WITH_USERS,
     false,
     {"MAIL FROM:<a@b.example>\r\n", "AUTH PLAIN " PASSWORD_PLAIN "\r\n"}},
    {WITH_USERS, false, {"AUTH=PLAIN " PASSWORD_PLAIN "\r\n"}},
};

static void expect_no_secret(const char *when)
{
    static const char *const needles[] = {PASSWORD, "VHIwdWI0ZG9yJjMt",
                                          "AHNjYW5uZXIAVHIwdWI0ZG9yJj"};
    for (size_t i = 0; i < COUNT(needles); i++) {
        ck_assert_msg(strstr(log_text, needles[i]) == NULL, "%s: %s", when,
                      log_text);
        /* said without the words, or the message would be found next */
        ck_assert_msg(!is_in_memory(needles[i]), "%s: form %zu is still there",
                      when, i);
    }
}

START_TEST(nothing_of_a_password_stays)
{
    const struct secret_row *w = &secret_rows[_i];
    char line[USERS_LINE_BYTES];
    log_set_level(LOG_AT_DEBUG);
    furnish(w->settings);
    ck_assert(users_format("scanner", w->is_known ? PASSWORD : "x", line,
                           sizeof line));
    load_users(strcmp(w->settings, WITH_USERS) == 0 ? line : "");
    struct device *d = call_and_greet("10.0.0.9");
    for (size_t i = 0; i < COUNT(w->lines) && w->lines[i] != NULL; i++) {
        say_all(d, w->lines[i]);
        ck_assert_str_ne(reply(d), "");
    }
    expect_no_secret("after the login");
    ask(d, "RSET\r\n", "250");
    if (w->is_known)
        ask(d, "AUTH PLAIN\r\n", "503 5.5.1");
    leave(d);
    expect_no_secret("after the session");
    log_set_level(LOG_AT_INFO);
}
END_TEST

START_TEST(nothing_of_a_password_stays_of_a_session_that_died)
{
    static const char said[] = "AUTH PLAIN " PASSWORD_PLAIN "\r\n";
    static const char half[] = "AUTH PLAIN AHNjYW5uZXIAVHIwdWI0ZG9yJjMteD";
    char line[USERS_LINE_BYTES];
    ck_assert(users_format("scanner", PASSWORD, line, sizeof line));
    load_users(line);
    struct device *d = call_into_check(said);
    leave(d);
    ck_assert_uint_eq(smtp_in_clients(), 0);
    expect_no_secret("in a check");
    d = call_and_greet("10.0.0.9");
    say_all(d, half);
    ck_assert(is_in_memory("AHNjYW5uZXIAVHIwdWI0ZG9yJj")); /* we can see it */
    leave(d);
    expect_no_secret("in half a line");
}
END_TEST

/* Where AUTH comes too early, a password may still follow. */
START_TEST(a_login_before_ehlo_is_hidden_too)
{
    struct device *d = call("10.0.0.9");
    settle(d);
    expect(d, "220");
    forget_log();
    ask(d, "AUTH PLAIN AHVzZXIAaHVudGVy\r\n", "503 5.5.1");
    ask(d, "AUTH LOGIN\r\n", "503 5.5.1");
    ask(d, "aHVudGVy\r\n", "500 5.5.1");
    ask(d, "hunter\r\n", "500 5.5.1");
    ck_assert_msg(strstr(log_text, "aHVudGVy") == NULL &&
                      strstr(log_text, "hunter") == NULL,
                  "%s", log_text);
    ck_assert_uint_eq(logged("command=\"AUTH\""), 2);
    ck_assert_uint_eq(logged("command=\"(hidden)\""), 2);
}
END_TEST

Suite *suite_login(void)
{
    Suite *s = suite_create("login");
    TCase *c = tcase_create("login");
    tcase_set_timeout(c, 120);
    tcase_add_checked_fixture(c, open_guarded_house, close_guarded_house);
    tcase_add_loop_test(c, exchange_in_steps_and_bytes_and_at_once, 0,
                        COUNT(exchanges));
    tcase_add_test(c, a14_lines_that_are_too_long);
    tcase_add_test(c, a14_texts_that_are_too_long);
    tcase_add_test(c, a14_three_wrong_and_one_right);
    tcase_add_test(c, a14_exchanges_that_go_wrong_have_an_end);
    tcase_add_test(c, an_unknown_user_takes_as_long);
    tcase_add_test(c, others_are_served_during_a_check);
    tcase_add_loop_test(c, a_login_abandoned_is_one_line, 0,
                        COUNT(leaving_rows));
    tcase_add_test(c, half_a_close_during_a_check_gets_its_verdict);
    tcase_add_test(c, a_reload_during_a_check_changes_nothing_of_it);
    tcase_add_test(c, a_reload_during_a_session);
    tcase_add_test(c, a_reload_with_a_check_that_ends_in_anybody_welcome);
    tcase_add_loop_test(c, senders_of_each_user, 0, COUNT(sender_rows));
    tcase_add_test(c, from_fields_of_a_user);
    tcase_add_loop_test(c, accept_any_auth, 0, COUNT(offer_rows));
    tcase_add_test(c, require_auth);
    tcase_add_test(c, strangers_are_not_even_asked);
    tcase_add_test(c, five_failures_in_a_minute_are_enough);
    tcase_add_test(c, a_good_login_does_not_clear_the_record);
    tcase_add_test(c, parked_at_the_prompt_when_the_limit_is_reached);
    tcase_add_loop_test(c, a_refused_exchange_is_one_line_and_remembered, 0,
                        COUNT(refused_rows));
    tcase_add_test(c, names_in_the_log);
    tcase_add_test(c, a_guesser_is_slow_and_quiet_and_alone);
    tcase_add_loop_test(c, nothing_of_a_password_stays, 0, COUNT(secret_rows));
    tcase_add_test(c, nothing_of_a_password_stays_of_a_session_that_died);
    tcase_add_test(c, a_login_before_ehlo_is_hidden_too);
    suite_add_tcase(s, c);
    return s;
}
