/* smtp_in, smtp_session, intake, queue: the protocol, as dialogues. Each
 * script is played three times: in steps, byte by byte, and all in one write;
 * the replies must be the same. Names like a16 are rows of our list of
 * faults. */
#include "talk.h"

Suite *suite_smtp_in(void);

#define GREETED                                                                \
    {'<', "220 relay.test ESMTP"}, {'>', "EHLO me\r\n"},                       \
    {                                                                          \
        '<', "250-relay.test\r\n250-PIPELINING\r\n250-SIZE 26214400\r\n"       \
             "250-8BITMIME\r\n250-SMTPUTF8\r\n250-AUTH PLAIN LOGIN\r\n"        \
             "250 ENHANCEDSTATUSCODES\r\n"                                     \
    }
#define MAIL_OK                                                                \
    {'>', "MAIL FROM:<a@example.com>\r\n"},                                    \
    {                                                                          \
        '<', "250 2.1.0 Sender ok\r\n"                                         \
    }
#define RCPT_OK                                                                \
    {'>', "RCPT TO:<b@example.net>\r\n"},                                      \
    {                                                                          \
        '<', "250 2.1.5 Recipient ok\r\n"                                      \
    }
#define DATA_OK                                                                \
    {'>', "DATA\r\n"},                                                         \
    {                                                                          \
        '<', "354 "                                                            \
    }
#define ENVELOPE MAIL_OK, RCPT_OK, DATA_OK
#define QUEUED                                                                 \
    {                                                                          \
        '<', "250 2.0.0 Queued in memory as "                                  \
    }
#define QUIT                                                                   \
    {'>', "QUIT\r\n"}, {'<', "221 2.0.0 Bye\r\n"},                             \
    {                                                                          \
        '.', ""                                                                \
    }

/* ---- Dialogues ----------------------------------------------------------- */

/* body NULL: nothing may arrive. */
static const struct dialogue {
    const char *name;
    const char *from, *to, *body;
    struct talk script[32];
} dialogues[] = {
    {"plain mail",
     "a@example.com",
     "b@example.net",
     "Subject: x\r\n\r\nhi\r\n",
     {GREETED, ENVELOPE, {'>', "Subject: x\r\n\r\nhi\r\n.\r\n"}, QUEUED, QUIT}},
    {"a4 pipelined in one piece",
     "a@example.com",
     "b@example.net c@example.net",
     "hi\r\n",
     {GREETED,
      {'>', "MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.net>\r\n"
            "RCPT TO:<c@example.net>\r\nDATA\r\n"},
      {'<', "250 2.1.0"},
      {'<', "250 2.1.5"},
      {'<', "250 2.1.5"},
      {'<', "354 "},
      {'>', "hi\r\n.\r\nQUIT\r\n"},
      QUEUED,
      {'<', "221 2.0.0"},
      {'.', ""}}},
    {"helo, lower case, bare LF",
     "a@example.com",
     "b@example.net",
     "hi\r\n",
     {{'<', "220 "},
      {'>', "helo me\n"},
      {'<', "250 relay.test\r\n"},
      {'>', "mail from:<a@example.com>\n"},
      {'<', "250 2.1.0"},
      {'>', "rcpt to:<b@example.net>\n"},
      {'<', "250 2.1.5"},
      {'>', "data\n"},
      {'<', "354"},
      {'>', "hi\r\n.\r\n"},
      QUEUED}},
    {"null reverse-path",
     "",
     "b@example.net",
     "hi\r\n",
     {GREETED,
      {'>', "MAIL FROM:<>\r\n"},
      {'<', "250 2.1.0"},
      RCPT_OK,
      DATA_OK,
      {'>', "hi\r\n.\r\n"},
      QUEUED}},
    {"second EHLO is a RSET",
     NULL,
     NULL,
     NULL,
     {GREETED,
      MAIL_OK,
      RCPT_OK,
      {'>', "EHLO me\r\n"},
      {'<', "250-relay.test"},
      {'>', "DATA\r\n"},
      {'<', "503 5.5.1"},
      {'>', "RCPT TO:<b@example.net>\r\n"},
      {'<', "503 5.5.1"},
      {'>', "HELO me\r\n"},
      {'<', "250 relay.test"},
      MAIL_OK}},
    {"out of order before EHLO",
     NULL,
     NULL,
     NULL,
     {{'<', "220 "},
      {'>', "MAIL FROM:<a@example.com>\r\n"},
      {'<', "503 5.5.1"},
      {'>', "RCPT TO:<b@example.net>\r\n"},
      {'<', "503 5.5.1"},
      {'>', "DATA\r\n"},
      {'<', "503 5.5.1"},
      {'>', "RSET\r\n"},
      {'<', "250 2.0.0"},
      {'>', "NOOP some words\r\n"},
      {'<', "250 2.0.0"},
      {'>', "VRFY b@example.net\r\n"},
      {'<', "252 2."},
      {'>', "HELP\r\n"},
      {'<', "214 2.0.0"},
      {'>', "MAIL FROM:<a@example.com>\r\n"},
      {'<', "503 5.5.1"},
      QUIT}},
    {"harmless verbs in a transaction",
     "a@example.com",
     "b@example.net",
     "hi\r\n",
     {GREETED,
      MAIL_OK,
      {'>', "NOOP x\r\n"},
      {'<', "250 2.0.0"},
      RCPT_OK,
      {'>', "VRFY x\r\n"},
      {'<', "252 2."},
      {'>', "HELP MAIL\r\n"},
      {'<', "214 2."},
      {'>', "MAIL FROM:<z@example.com>\r\n"},
      {'<', "503 5.5.1"},
      DATA_OK,
      {'>', "hi\r\n.\r\n"},
      QUEUED}},
    {"RSET drops the transaction",
     "a@example.com",
     "b@example.net",
     "hi\r\n",
     {GREETED,
      {'>', "MAIL FROM:<old@example.com>\r\n"},
      {'<', "250 2.1.0"},
      {'>', "RCPT TO:<old@example.net>\r\n"},
      {'<', "250 2.1.5"},
      {'>', "RSET\r\n"},
      {'<', "250 2.0.0"},
      ENVELOPE,
      {'>', "hi\r\n.\r\n"},
      QUEUED}},
    {"354 only with a recipient",
     NULL,
     NULL,
     NULL,
     {GREETED,
      MAIL_OK,
      {'>', "DATA\r\n"},
      {'<', "503 5.5.1"},
      {'>', "RCPT TO:<b@>\r\n"},
      {'<', "550 5.1.3"},
      {'>', "DATA\r\n"},
      {'<', "554 5.5.1"}}},
    {"DATA takes no argument",
     NULL,
     NULL,
     NULL,
     {GREETED, MAIL_OK, RCPT_OK, {'>', "DATA now\r\n"}, {'<', "501 5.5.4"}}},
    {"nothing behind QUIT is executed",
     NULL,
     NULL,
     NULL,
     {GREETED,
      {'>', "QUIT\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.net>\r\n"
            "DATA\r\nhi\r\n.\r\n"},
      {'<', "221 2.0.0"},
      {'.', ""}}},
    {"postmaster without a setting",
     NULL,
     NULL,
     NULL,
     {GREETED,
      MAIL_OK,
      {'>', "RCPT TO:<Postmaster>\r\n"},
      {'<', "550 5.1.1"},
      {'>', "DATA\r\n"},
      {'<', "554 5.5.1"}}},
    {"two mails and stuffed dots",
     "a@example.com",
     "b@example.net",
     ".\r\n..\r\n.a\r\n\r\n",
     {GREETED, ENVELOPE, {'>', "..\r\n...\r\n..a\r\n\r\n.\r\n"}, QUEUED, QUIT}},
    {"a10 nine unknown verbs are borne",
     "a@example.com",
     "b@example.net",
     "hi\r\n",
     {GREETED,
      {'>', "A\r\nB\r\nC\r\nD\r\nE\r\nF\r\nG\r\nH\r\n\r\n"},
      {'<', "500 5.5.1"},
      {'<', "500 5.5.1"},
      {'<', "500 5.5.1"},
      {'<', "500 5.5.1"},
      {'<', "500 5.5.1"},
      {'<', "500 5.5.1"},
      {'<', "500 5.5.1"},
      {'<', "500 5.5.1"},
      {'<', "500 5.5.1"},
      ENVELOPE,
      {'>', "hi\r\n.\r\n"},
      QUEUED}},
    {"a11 HTTP GET",
     NULL,
     NULL,
     NULL,
     {{'<', "220 "},
      {'>', "GET / HTTP/1.1\r\nHost: printer\r\n\r\n"},
      {'<', "421 4.7.0"},
      {'.', ""}}},
    {"a11 HTTP POST of a whole SMTP session",
     NULL,
     NULL,
     NULL,
     {{'<', "220 "},
      {'>', "POST / HTTP/1.1\r\nHost: x\r\n\r\nEHLO me\r\n"
            "MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.net>\r\n"
            "DATA\r\nhi\r\n.\r\n"},
      {'<', "421 4.7.0"},
      {'.', ""}}},
    {"a11 header line in mid-session",
     NULL,
     NULL,
     NULL,
     {GREETED,
      MAIL_OK,
      {'>', "Subject: x\r\nRCPT TO:<b@example.net>\r\n"},
      {'<', "421 4.7.0"},
      {'.', ""}}},
    {"a11 SSH",
     NULL,
     NULL,
     NULL,
     {{'<', "220 "},
      {'>', "SSH-2.0-OpenSSH_9.2p1\r\n"},
      {'<', "421 4.7.0"},
      {'.', ""}}},
    {"a11 binary noise",
     NULL,
     NULL,
     NULL,
     {{'<', "220 "},
      {'>', "\xff\xfeSMB\r\nEHLO me\r\n"},
      {'<', "421 4.7.0"},
      {'.', ""}}},
    {"a11 TLS on the plain port",
     NULL,
     NULL,
     NULL,
     {{'<', "220 "}, {'>', "\x16\x03\x01\x02"}, {'.', ""}}},
    {"a12 it speaks before the greeting: all in turn",
     "a@example.com",
     "b@example.net",
     "hi\r\n",
     {GREETED, ENVELOPE, {'>', "hi\r\n.\r\n"}, QUEUED}},
    {"a23 BDAT: its payload is not executed",
     NULL,
     NULL,
     NULL,
     {GREETED,
      MAIL_OK,
      RCPT_OK,
      {'>', "BDAT 33 LAST\r\nMAIL FROM:<evil@example.com>\r\nQUIT\r\n"},
      {'<', "502 5.5.1"},
      {'.', ""}}},
    {"a23 XCLIENT and PROXY",
     NULL,
     NULL,
     NULL,
     {{'<', "220 "},
      {'>', "PROXY TCP4 192.0.2.1 192.0.2.2 1 25\r\n"},
      {'<', "500 5.5.1"},
      {'>', "EHLO me\r\n"},
      {'<', "250-relay.test"},
      {'>', "XCLIENT ADDR=192.0.2.1 NAME=x\r\n"},
      {'<', "500 5.5.1"},
      {'>', "XFORWARD ADDR=192.0.2.1\r\n"},
      {'<', "500 5.5.1"}}},
    {"a23 parameters of extensions that devices assume",
     "a@example.com",
     "b@example.net",
     "hi\r\n",
     {GREETED,
      {'>', "MAIL FROM:<a@example.com> RET=FULL ENVID=q1 BODY=8BITMIME "
            "SMTPUTF8 AUTH=<>\r\n"},
      {'<', "250 2.1.0"},
      {'>', "RCPT TO:<b@example.net> NOTIFY=NEVER ORCPT=rfc822;b@x\r\n"},
      {'<', "250 2.1.5"},
      DATA_OK,
      {'>', "hi\r\n.\r\n"},
      QUEUED}},
    {"a23 parameters of no form",
     NULL,
     NULL,
     NULL,
     {GREETED,
      {'>', "MAIL FROM:<a@example.com> BODY=BINARYMIME\r\n"},
      {'<', "501 5.5.4"},
      {'>', "MAIL FROM:<a@example.com> =x\r\n"},
      {'<', "501 5.5.4"},
      {'>', "MAIL FROM:<a@example.com> \"\r\n"},
      {'<', "501 5.5.4"},
      MAIL_OK,
      {'>', "RCPT TO:<b@example.net> \xc3\r\n"},
      {'<', "501 5.5.4"}}},
};

static const struct talk nothing_offered[] = {
    {'<', "220 relay.test ESMTP"},
    {'>', "EHLO me\r\n"},
    {'<', "250-relay.test\r\n250-PIPELINING\r\n250-SIZE 26214400\r\n"
          "250-8BITMIME\r\n250-SMTPUTF8\r\n250 ENHANCEDSTATUSCODES\r\n"},
    {'>', "STARTTLS\r\n"},
    {'<', "502 5.5.1"},
    {'>', "AUTH PLAIN AGEAYg==\r\n"},
    {'<', "502 5.5.1"},
    {'>', "AUTH LOGIN\r\n"},
    {'<', "502 5.5.1"},
    MAIL_OK,
    {'>', "STARTTLS\r\n"},
    {'<', "502 5.5.1"},
    RCPT_OK,
    {0, NULL}};

START_TEST(tls_and_login_that_are_not_offered)
{
    furnish("accept_any_auth = no\n");
    for (int feed = 0; feed < FEEDS; feed++)
        play("10.0.0.9", nothing_offered, (enum feed)feed);
}
END_TEST

static void expect_arrival(const struct dialogue *w)
{
    if (w->body != NULL) {
        expect_body(w->body, strlen(w->body));
        ck_assert_str_eq(mail.from, w->from);
        ck_assert_str_eq(mail.to, w->to);
    }
    expect_nothing_held();
}

START_TEST(dialogue_in_steps_and_bytes_and_at_once)
{
    static char first[sizeof transcript];
    const struct dialogue *w = &dialogues[_i];
    for (int feed = 0; feed < FEEDS; feed++) {
        play("10.0.0.9", w->script, (enum feed)feed);
        expect_arrival(w);
        if (feed == 0)
            memcpy(first, transcript, sizeof first);
        ck_assert_msg(strcmp(first, transcript) == 0, "%s: feed %d", w->name,
                      feed);
    }
}
END_TEST

/* ---- One message in, one message out ------------------------------------- */

#define EVIL "MAIL FROM:<evil@example.com>\r\nRCPT TO:<c@example.net>\r\n"

/* Between the two lines stands what might be taken for an end. */
static const struct terminator {
    const char *name;
    const char *sent;
    size_t sent_bytes;
    const char *kept;
    size_t kept_bytes;
} terminators[] = {
#define ROW(name, sent, kept)                                                  \
    {                                                                          \
        name, sent, sizeof sent - 1, kept, sizeof kept - 1                     \
    }
    ROW("LF.LF", "\n.\n", "\r\n.\r\n"),
    ROW("LF.CRLF", "\n.\r\n", "\r\n.\r\n"),
    ROW("LF.CR", "\n.\r", "\r\n.\r\n"),
    ROW("CR.CR", "\r.\r", "\r\n.\r\n"),
    ROW("CR.CRLF", "\r.\r\n", "\r\n.\r\n"),
    ROW("CR.LF", "\r.\n", "\r\n.\r\n"),
    ROW("CRLF.LF", "\r\n.\n", "\r\n.\r\n"),
    ROW("CRLF.CR", "\r\n.\r", "\r\n.\r\n"),
    ROW("CRLF.CRCRLF", "\r\n.\r\r\n", "\r\n.\r\n\r\n"),
    ROW("CRLF.NUL", "\r\n.\0\r\n", "\r\n\r\n"),
    ROW("CRLF NUL.", "\r\n\0.\r\n", "\r\n.\r\n"),
    ROW("CRCRLF.CRLF", "\r\r\n ", "\r\n\r\n "),
    ROW("LFCR.CRLF", "\n\r.\r\n", "\r\n\r\n.\r\n"),
    ROW("CRLF..CRLF", "\r\n..\r\n", "\r\n.\r\n"),
    ROW("a bare CR", "a\rb", "a\r\nb"),
    ROW("a bare LF", "a\nb", "a\r\nb"),
#undef ROW
};

static size_t join(char *out, const char *between, size_t count)
{
    size_t used = (size_t)sprintf(out, "Subject: x\r\n\r\nhi");
    memcpy(out + used, between, count);
    return used + count + (size_t)sprintf(out + used + count, EVIL);
}

START_TEST(a1_nothing_but_crlf_dot_crlf_ends_data)
{
    const struct terminator *w = &terminators[_i];
    char sent[512], kept[512];
    for (int by_byte = 0; by_byte < 2; by_byte++) {
        struct device *d = call_and_greet("10.0.0.9");
        start_data(d);
        size_t n = join(sent, w->sent, w->sent_bytes);
        for (size_t i = 0; i < n; i += by_byte ? 1 : n)
            say_bytes(d, sent + i, by_byte ? 1 : n);
        ck_assert_msg(d->heard == 0, "%s: %s", w->name, d->text);
        ask(d, ".\r\n", "250 2.0.0 Queued");
        expect_body(kept, join(kept, w->kept, w->kept_bytes));
        expect_nothing_held();
    }
}
END_TEST

START_TEST(a2_nothing_but_crlf_dot_crlf_ends_a_message_too_big)
{
    static char page[65537];
    const struct terminator *w = &terminators[_i];
    furnish("message_max_bytes = 65536\n");
    struct device *d = call_and_greet("10.0.0.9");
    memset(page, 'x', sizeof page);
    start_data(d);
    say_bytes(d, page, sizeof page);
    say_bytes(d, w->sent, w->sent_bytes);
    say_all(d, EVIL);
    ck_assert_msg(d->heard == 0, "%s: %s", w->name, d->text);
    ask(d, ".\r\n", "552 5.3.4");
    send_a_mail(d);
    expect_body("Subject: x\r\n\r\nhi\r\n", 18);
}
END_TEST

START_TEST(a3_dot_in_five_segments)
{
    struct device *d = call_and_greet("10.0.0.9");
    start_data(d);
    say_all(d, "hi");
    for (const char *c = "\r\n.\r\n"; *c; c++) {
        ck_assert_uint_eq(d->heard, 0);
        pass(1000, d);
        say_bytes(d, c, 1);
    }
    expect(d, "250 2.0.0 Queued");
    expect_body("hi\r\n", 4);
}
END_TEST

/* Our replies to several lines must not wait for each other, nor one reply be
 * cut in two: a device may read once and believe that this was all. */
START_TEST(a_reply_leaves_in_one_segment)
{
    char text[1024];
    struct device *d = call_with(SOCK_SEQPACKET, "10.0.0.9");
    ck_assert_int_gt(recv(d->fd, text, sizeof text, 0), 0);
    ck_assert_int_eq(send(d->fd, "EHLO me\r\n", 9, 0), 9);
    settle(NULL);
    ssize_t n = recv(d->fd, text, sizeof text - 1, 0);
    ck_assert_int_gt(n, 0);
    text[n] = '\0';
    ck_assert_ptr_nonnull(strstr(text, "250-SIZE "));
    ck_assert_ptr_nonnull(strstr(text, "\r\n250 ENHANCEDSTATUSCODES\r\n"));
}
END_TEST

/* ---- Order of verbs ------------------------------------------------------ */

enum model {
    MODEL_HELO,
    MODEL_READY,
    MODEL_MAIL,
    MODEL_RCPT,
    MODEL_BODY
};

static const char *const lines[] = {
    "EHLO me\r\n", "MAIL FROM:<a@example.com>\r\n",
    "RCPT TO:<b@example.net>\r\n", "DATA\r\n", "RSET\r\n"};

/* What RFC 5321 section 4.1.4 says: the reply, and the state behind it. A
 * refused verb changes nothing. */
static const char *model_step(enum model *m, unsigned verb)
{
    static const struct {
        const char *reply;
        unsigned states;
        int next; /* -1: the same */
    } rules[] = {
        {"250-", 0x0f, MODEL_READY},
        {"250 2.1.0", 1 << MODEL_READY, MODEL_MAIL},
        {"250 2.1.5", 1 << MODEL_MAIL | 1 << MODEL_RCPT, MODEL_RCPT},
        {"354 ", 1 << MODEL_RCPT, MODEL_BODY},
        {"250 2.0.0", 0x0f, MODEL_READY},
    };
    if (*m == MODEL_BODY)
        return "";
    if (!(rules[verb].states & 1u << *m))
        return "5";
    bool is_rset_before_helo = verb == 4 && *m == MODEL_HELO;
    *m = is_rset_before_helo ? MODEL_HELO : (enum model)rules[verb].next;
    return rules[verb].reply;
}

static void play_four(unsigned number)
{
    enum model m = MODEL_HELO;
    struct device *d = call("10.0.0.9");
    settle(d);
    expect(d, "220 ");
    for (int i = 0; i < 4; i++, number /= 5) {
        const char *begin = model_step(&m, number % 5);
        say_all(d, lines[number % 5]);
        const char *text = reply(d);
        if (*begin == '5')
            begin = strncmp(text, "554", 3) == 0 ? "554 5.5.1" : "503 5.5.1";
        ck_assert_msg(strncmp(text, begin, strlen(begin)) == 0 &&
                          (*begin || !*text),
                      "step %d: %s: %s", i, lines[number % 5], text);
    }
    if (m == MODEL_BODY) {
        ask(d, "\r\n.\r\n", "250 2.0.0 Queued");
        ck_assert(take_mail());
    }
    hang_up_device(d);
    settle(NULL);
    expect_nothing_held();
}

START_TEST(every_order_of_four_verbs)
{
    for (unsigned number = 0; number < 5 * 5 * 5 * 5; number++)
        play_four(number);
}
END_TEST

static unsigned random_state = 1;

/* Of its own, so that a failure can be played again. */
static unsigned random_below(unsigned limit)
{
    random_state = random_state * 1103515245 + 12345;
    return (random_state >> 8) % limit;
}

static const char *const walk_lines[] = {
    "EHLO me\r\n",
    "HELO\r\n",
    "MAIL FROM:<a@example.com>\r\n",
    "MAIL FROM:<a@example.com> SIZE=900000\r\n",
    "MAIL FROM:<a@example.com> SIZE=99999999\r\n",
    "MAIL FROM:<>\r\n",
    "RCPT TO:<b@example.net>\r\n",
    "RCPT TO:<b@example.net>\r\n",
    "RCPT TO:<>\r\n",
    "DATA\r\n",
    "DATA\r\n",
    "RSET\r\n",
    "NOOP\r\n",
    "VRFY x\r\n",
    "HELP\r\n",
    "STARTTLS\r\n",
    "AUTH LOGIN\r\n",
    "QUIT\r\n",
    "BDAT 1\r\n",
    "GET / HTTP/1.1\r\n",
    "XYZZY\r\n",
    "hi\r\n.\r\n",
    "Received: x\r\n",
    ".\r\n",
};

/* One line is one reply, but for the lines of a body. */
static void walk_once(struct device **d, bool is_allowed)
{
    const char *line = walk_lines[random_below(COUNT(walk_lines))];
    if (*d == NULL) {
        *d = call(is_allowed ? "10.0.0.9" : "192.0.2.9");
        settle(*d);
        expect(*d, "220 ");
    }
    say_all(*d, line);
    while (*reply(*d))
        ;
    ck_assert_uint_eq((*d)->heard, 0);
    if ((*d)->has_ended || random_below(200) == 0) {
        hang_up_device(*d);
        *d = NULL;
        settle(NULL);
    }
}

START_TEST(random_walk)
{
    struct device *walkers[4] = {NULL};
    for (unsigned step = 0; step < 100000; step++) {
        unsigned who = random_below(4);
        transcript[0] = '\0';
        forget_log();
        walk_once(&walkers[who], who != 0);
        while (queue_next_due_ms(true) <= now_ms)
            take_mail();
        if (step % 32 == 0)
            ck_assert_ptr_null(queue_unsound());
    }
}
END_TEST

/* ---- Names and paths ----------------------------------------------------- */

static const struct greeting {
    const char *line;
    const char *protocol;
    const char *name; /* in Received */
} greetings[] = {
    {"EHLO nas.example.com", "ESMTP", "nas.example.com"},
    {"EHLO NAS_1", "ESMTP", "NAS_1"},
    {"EHLO NPIF65E56 ", "ESMTP", "NPIF65E56"},
    {"ehlo  localhost", "ESMTP", "localhost"},
    {"EHLO [192.168.1.5]", "ESMTP", "[192.168.1.5]"},
    {"EHLO [IPv6:fe80::1]", "ESMTP", "[IPv6:fe80::1]"},
    {"EHLO [IPv6:::ffff:10.0.4.47]", "ESMTP", "[IPv6:::ffff:10.0.4.47]"},
    {"HELO nas", "SMTP", "nas"},
    {"HELO", "SMTP", "[10.0.0.9]"},
    {"HELO ", "SMTP", "[10.0.0.9]"},
    {"EHLO two words", "ESMTP", "[10.0.0.9]"},
    {"EHLO 10.0.0.1", "ESMTP", "10.0.0.1"},
    {"EHLO b\xc3\xbcro", "ESMTP", "[10.0.0.9]"},
    {"EHLO %n%s(x)", "ESMTP", "[10.0.0.9]"},
    {"EHLO [999.1.1.1]", "ESMTP", "[10.0.0.9]"},
};

START_TEST(every_greeting_is_taken_and_named_in_received)
{
    const struct greeting *w = &greetings[_i];
    char line[128], form[512];
    regex_t wanted;
    struct device *d = call("10.0.0.9");
    settle(d);
    expect(d, "220 ");
    snprintf(line, sizeof line, "%s\r\n", w->line);
    ask(d, line, *w->protocol == 'E' ? "250-relay.test" : "250 relay.test");
    send_a_mail(d);
    ck_assert(take_mail());
    snprintf(form, sizeof form, "([10.0.0.9])\r\n\tby relay.test with %s id ",
             w->protocol);
    ck_assert_msg(
        strncmp(mail.head, "Received: from ", 15) == 0 &&
            strncmp(mail.head + 15, w->name, strlen(w->name)) == 0 &&
            mail.head[15 + strlen(w->name)] == ' ' &&
            strncmp(mail.head + 16 + strlen(w->name), form, strlen(form)) == 0,
        "%s: %s", w->line, mail.head);
    ck_assert_int_eq(regcomp(&wanted,
                             " id [0-9A-F]{8}\r\n\tfor <b@example\\.net>;\r\n\t"
                             "[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} "
                             "[0-9]{2}:[0-9]{2}:[0-9]{2} [+-][0-9]{4}\r\n"
                             "Date: [^\r]*\r\nFrom: <a@example\\.com>\r\n"
                             "Message-ID: <[^@>]*@relay\\.test>\r\n$",
                             REG_EXTENDED | REG_NOSUB),
                     0);
    ck_assert_msg(regexec(&wanted, mail.head, 0, NULL, 0) == 0, "%s",
                  mail.head);
    regfree(&wanted);
}
END_TEST

START_TEST(received_names_no_recipient_of_several)
{
    struct device *d = call_and_greet("fd00::9");
    ask(d, "MAIL FROM:<a@example.com>\r\n", "250");
    ask(d, "RCPT TO:<b@example.net>\r\n", "250");
    ask(d, "RCPT TO:<c@example.net>\r\n", "250");
    ask(d, "DATA\r\n", "354");
    ask(d, "Date: x\r\nFROM: y@z.example\r\nmessage-id : z\r\n\r\nhi\r\n.\r\n",
        "250");
    ck_assert(take_mail());
    ck_assert_ptr_nonnull(strstr(mail.head, " ([IPv6:fd00::9])\r\n"));
    ck_assert_ptr_null(strstr(mail.head, "for <"));
    ck_assert_ptr_null(strstr(mail.head, "Date:"));
    ck_assert_ptr_null(strstr(mail.head, "From:"));
    ck_assert_ptr_null(strstr(mail.head, "Message-ID:"));
}
END_TEST

START_TEST(long_greetings_are_taken)
{
    char line[1100];
    struct device *d = call("10.0.0.9");
    settle(d);
    expect(d, "220 ");
    memset(line, 'x', sizeof line);
    memcpy(line, "EHLO ", 5);
    memcpy(line + 1000, "\r\n", 3);
    ask(d, line, "250-relay.test");
    send_a_mail(d);
    ck_assert(take_mail());
    ck_assert(strncmp(mail.head, "Received: from [10.0.0.9] (", 27) == 0);
}
END_TEST

#define L63  "123456789012345678901234567890123456789012345678901234567890123"
#define L64  L63 "4"
#define D255 L63 "." L63 "." L63 "." L63

/* What stands behind FROM or TO; the path as it goes on, NULL: refused. */
static const struct path_row {
    const char *text;
    const char *from_reply, *to_reply;
    const char *path;
} paths[] = {
    {":<a@example.com>", "250 2.1.0", "250 2.1.5", "a@example.com"},
    {": <a@example.com>", "250 2.1.0", "250 2.1.5", "a@example.com"},
    {" : < a@example.com >", "250 2.1.0", "250 2.1.5", "a@example.com"},
    {": a@example.com", "250 2.1.0", "250 2.1.5", "a@example.com"},
    {":a@example.com", "250 2.1.0", "250 2.1.5", "a@example.com"},
    {":<Case.Kept@Example.COM>", "250 2.1.0", "250 2.1.5",
     "Case.Kept@Example.COM"},
    {":<local.@example.com>", "250 2.1.0", "250 2.1.5",
     "\"local.\"@example.com"},
    {":<a..b@example.com>", "250 2.1.0", "250 2.1.5", "\"a..b\"@example.com"},
    {":<\"a b\"@x>", "250 2.1.0", "250 2.1.5", "\"a b\"@x"},
    {":<\"\\\"\"@x>", "250 2.1.0", "250 2.1.5", "\"\\\"\"@x"},
    {":<@a:b@c>", "250 2.1.0", "250 2.1.5", "b@c"},
    {":<@a,@b:u@d>", "250 2.1.0", "250 2.1.5", "u@d"},
    {":<a@[127.0.0.1]>", "250 2.1.0", "250 2.1.5", "a@[127.0.0.1]"},
    {":<a@[IPv6:::1]>", "250 2.1.0", "250 2.1.5", "a@[IPv6:::1]"},
    {":<a@[1.2.3]>", "501 5.1.7", "501 5.1.3", NULL},
    {":<a@example.com.>", "250 2.1.0", "250 2.1.5", "a@example.com"},
    {":<a%b@c>", "250 2.1.0", "250 2.1.5", "a%b@c"},
    {":<-oX@x>", "250 2.1.0", "250 2.1.5", "-oX@x"},
    {":<\xc3\xbc@example.com>", "250 2.1.0", "250 2.1.5",
     "\xc3\xbc@example.com"},
    {":<\xc3(@example.com>", "501 5.1.7", "501 5.1.3", NULL},
    {":<\xc0\xaf@example.com>", "501 5.1.7", "501 5.1.3", NULL},
    {":<" L64 "@x>", "250 2.1.0", "250 2.1.5", L64 "@x"},
    {":<" L64 "5@x>", "501 5.1.7", "501 5.1.3", NULL},
    {":<a@" D255 ">", "250 2.1.0", "250 2.1.5", "a@" D255},
    {":<a@" D255 ".x>", "501 5.1.7", "501 5.1.3", NULL},
    {":<a@" L64 ">", "501 5.1.7", "501 5.1.3", NULL},
    {":a@b@c", "501 5.1.7", "501 5.1.3", NULL},
    {":<a@b>>", "501 5.1.7", "501 5.1.3", NULL},
    {":<a@b", "501 5.1.7", "501 5.1.3", NULL},
    {":<a@>", "553 5.1.7", "550 5.1.3", NULL},
    {":<@b>", "501 5.1.7", "501 5.1.3", NULL},
    {":<a@.b>", "501 5.1.7", "501 5.1.3", NULL},
    {":<;id;@x>", "501 5.1.7", "501 5.1.3", NULL},
    {":<\"a@x>", "501 5.1.7", "501 5.1.3", NULL},
    {":<a b@x>", "501 5.1.7", "501 5.1.3", NULL},
    {":", "501 5.1.7", "501 5.1.3", NULL},
    {"", "501 5.1.7", "501 5.1.3", NULL},
    {" <a@example.com>", "501 5.1.7", "501 5.1.3", NULL},
    {":<root>", "553 5.1.7", "550 5.1.3", NULL},
    {":<>", "250 2.1.0", "501 5.1.3", NULL},
};

START_TEST(a16_addresses)
{
    const struct path_row *w = &paths[_i];
    char line[1024];
    struct device *d = call_and_greet("10.0.0.9");
    snprintf(line, sizeof line, "MAIL FROM%s\r\n", w->text);
    ask(d, line, w->from_reply);
    if (*w->from_reply != '2')
        ask(d, "MAIL FROM:<>\r\n", "250");
    snprintf(line, sizeof line, "RCPT TO%s\r\n", w->text);
    ask(d, line, w->to_reply);
    if (w->path == NULL)
        return;
    ask(d, "DATA\r\n", "354");
    ask(d, "hi\r\n.\r\n", "250");
    ck_assert(take_mail());
    ck_assert_str_eq(mail.from, w->path);
    ck_assert_str_eq(mail.to, w->path);
    bool is_utf8 = (unsigned char)*w->path >= 0x80;
    ck_assert_uint_eq(mail.facts, is_utf8 ? QUEUE_NEEDS_UTF8 : 0);
}
END_TEST

START_TEST(postmaster_goes_to_its_setting)
{
    static const char *const forms[] = {"<postmaster>", "<Postmaster>",
                                        " POSTMASTER"};
    furnish("postmaster = admin@example.org\n");
    for (size_t i = 0; i < COUNT(forms); i++) {
        char line[64];
        struct device *d = call_and_greet("10.0.0.9");
        ask(d, "MAIL FROM:<>\r\n", "250");
        snprintf(line, sizeof line, "RCPT TO:%s\r\n", forms[i]);
        ask(d, line, "250 2.1.5");
        ask(d, "DATA\r\n", "354");
        ask(d, "hi\r\n.\r\n", "250");
        ck_assert(take_mail());
        ck_assert_str_eq(mail.to, "admin@example.org");
    }
}
END_TEST

/* ---- Sizes that are declared --------------------------------------------- */

START_TEST(a15_declared_sizes)
{
    static const struct {
        const char *parameter, *begin;
    } rows[] = {
        {"SIZE=0", "250 2.1.0"},
        {"size=100", "250 2.1.0"},
        {"SIZE=26214400", "250 2.1.0"},
        {"SIZE=26214401", "552 5.3.4"},
        {"SIZE=1000000000", "552 5.3.4"},
        {"SIZE=18446744073709551616", "552 5.3.4"},
        {"SIZE=99999999999999999999", "552 5.3.4"},
        {"SIZE=-1", "501 5.5.4"},
        {"SIZE=", "501 5.5.4"},
        {"SIZE", "501 5.5.4"},
        {"SIZE=1e9", "501 5.5.4"},
        {"SIZE=0x10", "501 5.5.4"},
        {"SIZE=100 SIZE=x", "501 5.5.4"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        char line[128];
        struct device *d = call_and_greet("10.0.0.9");
        snprintf(line, sizeof line, "MAIL FROM:<a@example.com> %s\r\n",
                 rows[i].parameter);
        ask(d, line, rows[i].begin);
        hang_up_device(d);
        settle(NULL);
        expect_nothing_held();
    }
}
END_TEST

/* ---- Header sections ----------------------------------------------------- */

/* What arrives of a body (NULL: all, as it was sent); what we add is before
 * it. */
static const struct header_row {
    const char *name;
    const char *body;
    bool adds_blank_line;
    const char *arrives;
} header_rows[] = {
    {"none", "Disk failed\r\n", true, NULL},
    {"a URL", "http//x\r\nrest\r\n", true, NULL},
    {"blank line first", "\r\nhi\r\n", false, NULL},
    {"only CRLF", "\r\n\r\n\r\n", false, NULL},
    {"empty", "", true, NULL},
    {"mbox style", "From a@b Mon Jan 1 00:00:00 2026\r\nSubject: x\r\n", false,
     "Subject: x\r\n"},
    {"a sentence", "From now on the disk is full\r\nSubject: x\r\n", true,
     NULL},
    {"a line, no colon", "Subject: x\r\nno colon\r\nTo: y\r\n", false,
     "Subject: x\r\n\r\nno colon\r\nTo: y\r\n"},
    {"blank before colon", "Subject : x\r\n\r\nhi\r\n", false, NULL},
    {"folded first", " folded\r\n", true, NULL},
    {"8 bit", "Subject: \xfc\r\n\r\n\xff\x80\r\n", false, NULL},
};

START_TEST(a17_header_sections)
{
    const struct header_row *w = &header_rows[_i];
    char sent[256];
    struct device *d = call_and_greet("10.0.0.9");
    start_data(d);
    const char *arrives = w->arrives != NULL ? w->arrives : w->body;
    snprintf(sent, sizeof sent, "%s.\r\n", w->body);
    ask(d, sent, "250 2.0.0 Queued");
    expect_body(arrives, strlen(arrives));
    size_t n = strlen(mail.head);
    bool has_blank_line = strcmp(mail.head + n - 4, "\r\n\r\n") == 0;
    ck_assert_msg(has_blank_line == w->adds_blank_line, "%s: %s", w->name,
                  mail.head);
    ck_assert_ptr_nonnull(strstr(mail.head, "\r\nDate: "));
    ck_assert_ptr_nonnull(strstr(mail.head, "\r\nMessage-ID: "));
}
END_TEST

START_TEST(a17_many_headers_and_a_long_one)
{
    static char text[1200000];
    size_t used = 0;
    struct device *d = call_and_greet("10.0.0.9");
    for (int i = 0; i < 10000; i++)
        used += (size_t)sprintf(text + used, "X-%d: y\r\n", i);
    used += (size_t)sprintf(text + used, "X-Folded: a\r\n");
    while (used < 1150000)
        used += (size_t)sprintf(text + used, " folded and folded\r\n");
    used += (size_t)sprintf(text + used, "Date: x\r\n\r\nhi\r\n");
    start_data(d);
    say_bytes(d, text, used);
    ask(d, ".\r\n", "250 2.0.0 Queued");
    expect_body(text, used);
    ck_assert_ptr_null(strstr(mail.head, "Date: "));
}
END_TEST

START_TEST(a17_a_loop_ends_at_a_hundred_hops)
{
    static const struct {
        int hops;
        const char *begin;
    } rows[] = {
        {99, "250 2.0.0"},
        {100, "554 5.4.6"},
        {101, "554 5.4.6"},
        {5000, "554 5.4.6"},
    };
    struct device *d = call_and_greet("10.0.0.9");
    for (size_t i = 0; i < COUNT(rows); i++) {
        start_data(d);
        for (int hop = 0; hop < rows[i].hops; hop++)
            say_all(d, "received: from x by y;\r\n z\r\n");
        ask(d, "\r\nReceived: not a header\r\n.\r\n", rows[i].begin);
        ck_assert_int_eq(take_mail(), i == 0);
    }
}
END_TEST

/* ---- Never an open relay ------------------------------------------------- */

START_TEST(strangers_get_no_recipient_through)
{
    static const char *const senders[] = {"<>", "<a@example.com>",
                                          "<root@relay.test>", "<a@[10.0.0.1]>",
                                          "<a@example.com> SIZE=20000000"};
    static const char *const recipients[] = {
        "<b@example.net>",
        "b@example.net",
        " <b@example.net>",
        "<\"b@example.net\">",
        "<\"b%example.net\">",
        "<b%example.net>",
        "<b%example.net@relay.test>",
        "<b%example.net@[10.0.0.1]>",
        "<\"b@example.net\"@relay.test>",
        "<b@example.net@relay.test>",
        "<b@example.net@[127.0.0.1]>",
        "<@relay.test:b@example.net>",
        "<@[10.0.0.1]:b@example.net>",
        "<example.net!b>",
        "<example.net!b@relay.test>",
        "<example.net!b@[10.0.0.1]>",
        "<b@[127.0.0.1]>",
        "<b@localhost>",
        "<b@relay.test>",
        "<postmaster>",
        "<postmaster@relay.test>",
        "<>",
        "",
    };
    furnish("postmaster = admin@example.org\n");
    for (size_t s = 0; s < COUNT(senders); s++)
        for (size_t i = 0; i < COUNT(recipients); i++) {
            char line[128];
            struct queue_counts n;
            struct device *d = call_and_greet("192.0.2.9");
            snprintf(line, sizeof line, "MAIL FROM:%s\r\n", senders[s]);
            ask(d, line, "250 2.1.0");
            queue_count(&n);
            ck_assert_uint_eq(n.blocks_free, QUEUE_BLOCKS);
            ck_assert_uint_eq(n.blocks_reserved + n.writing, 0);
            snprintf(line, sizeof line, "RCPT TO:%s\r\n", recipients[i]);
            ask(d, line, "550 5.7.1");
            ask(d, "DATA\r\n", "554 5.5.1");
            ask(d, "hi\r\n", "500 5.5.1");
            hang_up_device(d);
            settle(NULL);
            expect_nothing_held();
        }
}
END_TEST

START_TEST(allow_from_is_the_border)
{
    static const struct {
        const char *client;
        bool is_allowed;
    } rows[] = {
        {"10.0.0.0", true},
        {"10.255.255.255", true},
        {"11.0.0.0", false},
        {"9.255.255.255", false},
        {"192.168.7.3", true},
        {"192.168.7.4", false},
        {"::ffff:10.0.0.1", true},
        {"::ffff:11.0.0.1", false},
        {"fd00::1", true},
        {"fe00::1", false},
        {"::1", false},
        {"127.0.0.1", false},
    };
    furnish("allow_from = 10.0.0.0/8 192.168.7.3 fd00::/8\n");
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct device *d = call_and_greet(rows[i].client);
        ask(d, "MAIL FROM:<a@example.com>\r\n", "250 2.1.0");
        ask(d, "RCPT TO:<b@example.net>\r\n",
            rows[i].is_allowed ? "250 2.1.5" : "550 5.7.1");
    }
}
END_TEST

/* Who was one of ours when it called is asked for anew at each MAIL. */
START_TEST(allow_from_shrinks_during_a_session)
{
    struct device *d = call_and_greet("10.0.0.9");
    struct device *other = call_and_greet("10.0.0.10");
    send_a_mail(d);
    ck_assert(take_mail());
    furnish("allow_from = 10.0.0.10\n");
    forget_log();
    ask(d, "MAIL FROM:<a@example.com>\r\n", "250 2.1.0");
    ask(d, "RCPT TO:<b@example.net>\r\n", "550 5.7.1 ");
    ask(d, "DATA\r\n", "554 5.5.1");
    ck_assert_uint_eq(logged("why=\"its address is not in allow_from\""), 1);
    expect_nothing_held();
    send_a_mail(other);
    ck_assert(take_mail());
    furnish("");
    ask(d, "RSET\r\n", "250 2.0.0");
    send_a_mail(d);
    ck_assert(take_mail());
}
END_TEST

START_TEST(a_stranger_is_one_log_line_and_then_cut)
{
    struct device *d = call_and_greet("192.0.2.9");
    forget_log();
    ask(d, "MAIL FROM:<a@example.com>\r\n", "250 2.1.0");
    for (int i = 0; i < CLIENT_ERRORS_MAX; i++)
        ask(d, "RCPT TO:<b@example.net>\r\n", "550 5.7.1");
    ck_assert_uint_eq(log_lines, 1);
    ck_assert_uint_eq(logged("allow_from"), 2);
    ask(d, "RCPT TO:<b@example.net>\r\n", "550 5.7.1");
    expect(d, "421 4.7.0");
    expect_end(d);
}
END_TEST

/* ---- Log ----------------------------------------------------------------- */

START_TEST(a11_what_to_change_is_logged)
{
    struct device *d = call("10.0.0.9");
    say_bytes(d, "\x16\x03\x01\x00\xff", 5);
    ck_assert_uint_eq(logged("why=\"TLS hello"), 1);
    ck_assert_uint_eq(logged(" advice=\"set "), 1);
    forget_log();
    d = call("10.0.0.9");
    say_all(d, "GET / HTTP/1.1\r\n");
    ck_assert_uint_eq(logged("another protocol"), 1);
    ck_assert_uint_eq(log_lines, 1);
}
END_TEST

/* The last failure of a device, as a person who asks later is told. */
static const struct client *remembered(const char *address)
{
    struct ip_address a;
    ck_assert(ip_parse(address, &a));
    for (const struct client *c = NULL; (c = clients_walk(c)) != NULL;)
        if (ip_equal(&c->address, &a))
            return c;
    ck_abort_msg("nothing is known of %s", address);
    return NULL;
}

static void expect_last_failure(const char *why, const char *advice)
{
    const struct client *c = remembered("10.0.0.9");
    ck_assert_str_eq(c->why, why);
    ck_assert_str_eq(c->advice, advice);
    ck_assert_int_gt(c->last_failure_s, 0);
}

#define NO_SENDER "message refused: 501 5.1.7 Bad sender address"
#define HALF_SENDER                                                            \
    "message refused: 553 5.1.7 Sender address has no domain: set one on the " \
    "device"
#define HALF_RECIPIENT                                                         \
    "message refused: 550 5.1.3 Recipient address has no domain: set one on "  \
    "the device"

static const struct envelope_row {
    const char *line;
    const char *why, *advice;
} envelope_rows[] = {
    {"MAIL FROM:<root>\r\n", HALF_SENDER " (FROM:<root>)",
     "set default_domain, or sender"},
    {"MAIL FROM:<My Scanner@b.example>\r\n",
     NO_SENDER " (FROM:<My Scanner@b.example>)", ""},
    {"MAIL FROM:<a\"\\\xfc@b c>\r\n", NO_SENDER " (FROM:<a\\\"\\\\\\xFC@b c>)",
     ""},
    {"MAIL FROM:<a@b.example> SIZE=much\r\n",
     "message refused: 501 5.5.4 Bad parameter (FROM:<a@b.example> SIZE=much)",
     ""},
    {"MAIL FROM:<a@b.example> SIZE=99999999999\r\n",
     "message too large: 99999999999 bytes, the limit is 26214400",
     "send less at a time, or raise message_max_bytes"},
    {"RCPT TO:<root>\r\n", HALF_RECIPIENT " (TO:<root>)",
     "set default_domain, or a rewrite_to for it"},
    {"RCPT TO:<postmaster>\r\n",
     "message refused: 550 5.1.1 No postmaster is set here (setting: "
     "postmaster) (TO:<postmaster>)",
     "set postmaster"},
    {"RCPT TO:<\xfc>\r\n",
     "message refused: 501 5.1.3 Bad recipient address (TO:<\\xFC>)", ""},
};

START_TEST(a_refused_envelope_is_one_line_and_remembered)
{
    const struct envelope_row *w = &envelope_rows[_i];
    char line[512];
    struct device *d = call_and_greet("10.0.0.9");
    if (*w->line == 'R')
        ask(d, "MAIL FROM:<a@example.com>\r\n", "250 2.1.0");
    forget_log();
    ask(d, w->line, "5");
    snprintf(line, sizeof line,
             "client=10.0.0.9 helo=\"me\" refused why=\"%s\"%s%s%s\n", w->why,
             *w->advice ? " advice=\"" : "", w->advice, *w->advice ? "\"" : "");
    ck_assert_msg(logged(line) == 1, "%s%s", line, log_text);
    ck_assert_uint_eq(log_lines, 1);
    expect_last_failure(w->why, w->advice);
}
END_TEST

/* A long argument is cut, not the line that tells of it. */
START_TEST(a_refused_envelope_of_any_length_is_a_line)
{
    char line[1200];
    struct device *d = call_and_greet("10.0.0.9");
    for (size_t n = 1; n < 1000; n += 111) {
        snprintf(line, sizeof line, "MAIL FROM:<%0*d a@b.example>\r\n", (int)n,
                 0);
        forget_log();
        ask(d, line, "501 5.1.7");
        ck_assert_uint_eq(log_lines, 1);
        ck_assert_uint_eq(logged(NO_SENDER " (FROM:<0"), 1);
        ck_assert_uint_eq(logged(n > 100 ? "0...)\"\n" : " a@b.example>)\"\n"),
                          1);
    }
}
END_TEST

/* Who does not read our replies sends its header where commands are due; the
 * reason was the recipient. */
START_TEST(a_header_behind_a_refused_recipient_hides_no_reason)
{
    struct device *d = call_and_greet("10.0.0.9");
    ask(d, "MAIL FROM:<a@example.com>\r\n", "250 2.1.0");
    ask(d, "RCPT TO:<root>\r\n", "550 5.1.3");
    ask(d, "DATA\r\n", "554 5.5.1");
    forget_log();
    say_all(d, "Subject: x\r\nTo: root\r\n\r\nhi\r\n.\r\n");
    expect(d, "421 4.7.0 This is a mail server");
    expect_end(d);
    ck_assert_uint_eq(logged("another protocol"), 0);
    expect_last_failure(HALF_RECIPIENT " (TO:<root>)",
                        "set default_domain, or a rewrite_to for it");
}
END_TEST

START_TEST(a_foreign_word_before_helo_is_told)
{
    static const char *const said[] = {"Subject: x\r\n", "GET / HTTP/1.1\r\n",
                                       "SSH-2.0-x\r\n", "\xff\xfe\r\n"};
    for (size_t i = 0; i < COUNT(said); i++) {
        clients_init();
        struct device *d = call("10.0.0.9");
        settle(d);
        expect(d, "220 ");
        forget_log();
        ask(d, said[i], "421 4.7.0");
        expect_end(d);
        ck_assert_uint_eq(log_lines, 1);
        expect_last_failure("it speaks another protocol than SMTP",
                            "this port takes mail only");
        hang_up_device(d);
        settle(NULL);
    }
}
END_TEST

START_TEST(an_accepted_mail_is_one_log_line)
{
    struct device *d = call_and_greet("10.0.0.9");
    forget_log();
    send_a_mail(d);
    ck_assert_uint_eq(log_lines, 1);
    ck_assert_uint_eq(logged("client=10.0.0.9 helo=\"me\" from=<a@example.com> "
                             "rcpt=1 bytes=18"),
                      1);
    ck_assert(take_mail());
}
END_TEST

/* What a device says where a login or nothing at all was understood; what the
 * log must not show of it, and what it must. */
static const struct secret_row {
    const char *lines;
    unsigned replies;
    const char *secret, *shown;
} secrets[] = {
    {" AUTH PLAIN AG1lAHNlY3JldA==\r\n", 1, "AG1l", "Login is not offered"},
    {"\tauth\tplain AG1lAHNlY3JldA==\r\n", 1, "AG1l", "Login is not offered"},
    {"AUTH=PLAIN AG1lAHNlY3JldA==\r\n", 1, "AG1l", "command=\"(hidden)\""},
    {"AUTH LOGIN\r\nbWU=\r\nc2VjcmV0\r\n", 3, "c2Vj", "command=\"(hidden)\""},
    {"AUTH LOGIN\r\nme\r\nhunter\r\n", 3, "hunter", "command=\"(hidden)\""},
    {"AUTH LOGIN\r\nhunter \x01\r\n", 2, "hunter", "command=\"(hidden)\""},
    {"\x01hunter2 x\r\n", 1, "hunter2", "command=\"(hidden)\""},
    {"AUTH PLAIN \x01hunter2\r\n", 1, "hunter2", "command=\"AUTH\""},
    {" AUTH PLAIN \x01hunter2\r\n", 1, "hunter2", "command=\"AUTH\""},
    {" AUTH LOGIN \x01\r\nhunter\r\n", 2, "hunter", "command=\"(hidden)\""},
    {"auth=login\r\nhunter\r\n", 2, "hunter", "command=\"(hidden)\""},
    {"hunter2\r\n", 1, "hunter2", "command=\"(hidden)\""},
    {"hunterishidden\r\n", 1, "hunter", "command=\"(hidden)\""},
    {"XYZZY hunter2\r\n", 1, "hunter2", "command=\"XYZZY\""},
    {" XYZZY\r\n", 1, "hunter2", "command=\"XYZZY\""},
};

START_TEST(secrets_stay_out_of_the_log)
{
    const struct secret_row *w = &secrets[_i];
    furnish("accept_any_auth = no\n");
    for (int by_byte = 0; by_byte < 2; by_byte++) {
        struct device *d = call_and_greet("10.0.0.9");
        forget_log();
        if (by_byte)
            drip(d, w->lines);
        else
            say_all(d, w->lines);
        for (unsigned i = 0; i < w->replies; i++)
            expect(d, "50");
        ck_assert_msg(strstr(log_text, w->secret) == NULL, "%s: %s", w->lines,
                      log_text);
        ck_assert_msg(strstr(log_text, w->shown) != NULL, "%s: %s", w->lines,
                      log_text);
        ck_assert_uint_eq(log_lines, w->replies);
    }
}
END_TEST

START_TEST(repaired_line_ends_are_logged)
{
    static const struct {
        const char *lines;
        unsigned repaired;
    } rows[] = {
        {"hi\r\nho\r\n.\r\n", 0},
        {".\r\n", 0},
        {"hi\nho\r\n.\r\n", 1},
        {"hi\rho\r\n.\r\n", 1},
    };
    struct device *d = call_and_greet("10.0.0.9");
    for (size_t i = 0; i < COUNT(rows); i++) {
        /* of the commands the line ends say nothing */
        ask(d, "MAIL FROM:<a@example.com>\n", "250 2.1.0 ");
        ask(d, "RCPT TO:<b@example.net>\n", "250 2.1.5 ");
        ask(d, "DATA\n", "354 ");
        forget_log();
        ask(d, rows[i].lines, "250 2.0.0 Queued");
        ck_assert_uint_eq(log_lines, 1);
        ck_assert_msg(logged("line-ends") == rows[i].repaired, "row %zu: %s", i,
                      log_text);
        ck_assert_uint_eq(logged(" auth=- repaired=date,from,message-id"), 1);
        ck_assert(take_mail());
    }
}
END_TEST

/* The smarthost may be quicker than our own next turn: whenever the message
 * is settled, the device hears 250, and once that it was passed on. */
START_TEST(a_message_settled_before_its_reply_is_passed_on)
{
    unsigned passed_on = 0;
    for (unsigned before = 0; before < 60; before++) {
        const char *text = "";
        struct device *d = call_and_greet("10.0.0.9");
        transcript[0] = '\0';
        for (unsigned i = 0; i < before; i++)
            push(d, "NOOP\r\n", 6);
        for (size_t i = 1; i < 4; i++)
            push(d, lines[i], strlen(lines[i]));
        push(d, "hi\r\n.\r\n", 7);
        while (queue_next_due_ms(true) > now_ms)
            ck_assert(turn());
        ck_assert(take_mail());
        expect_nothing_held();
        settle(d);
        for (unsigned i = 0; i < before + 4; i++)
            text = reply(d);
        ck_assert_msg(strncmp(text, "250 2.0.0 ", 10) == 0, "%s", text);
        passed_on += strncmp(text + 10, "sent: taken", 11) == 0;
        ask(d, "QUIT\r\n", "221");
        hang_up_device(d);
        settle(NULL);
    }
    ck_assert_uint_ge(passed_on, 1);
}
END_TEST

Suite *suite_smtp_in(void)
{
    Suite *s = suite_create("smtp_in");
    TCase *c = tcase_create("protocol");
    tcase_set_timeout(c, 120);
    tcase_add_checked_fixture(c, open_house, house_in_order);
    tcase_add_loop_test(c, dialogue_in_steps_and_bytes_and_at_once, 0,
                        COUNT(dialogues));
    tcase_add_test(c, tls_and_login_that_are_not_offered);
    tcase_add_loop_test(c, a1_nothing_but_crlf_dot_crlf_ends_data, 0,
                        COUNT(terminators));
    tcase_add_loop_test(c, a2_nothing_but_crlf_dot_crlf_ends_a_message_too_big,
                        0, COUNT(terminators));
    tcase_add_test(c, a3_dot_in_five_segments);
    tcase_add_test(c, a_reply_leaves_in_one_segment);
    tcase_add_test(c, every_order_of_four_verbs);
    tcase_add_test(c, random_walk);
    tcase_add_loop_test(c, every_greeting_is_taken_and_named_in_received, 0,
                        COUNT(greetings));
    tcase_add_test(c, received_names_no_recipient_of_several);
    tcase_add_test(c, long_greetings_are_taken);
    tcase_add_loop_test(c, a16_addresses, 0, COUNT(paths));
    tcase_add_test(c, postmaster_goes_to_its_setting);
    tcase_add_test(c, a15_declared_sizes);
    tcase_add_loop_test(c, a17_header_sections, 0, COUNT(header_rows));
    tcase_add_test(c, a17_many_headers_and_a_long_one);
    tcase_add_test(c, a17_a_loop_ends_at_a_hundred_hops);
    tcase_add_test(c, strangers_get_no_recipient_through);
    tcase_add_test(c, allow_from_is_the_border);
    tcase_add_test(c, allow_from_shrinks_during_a_session);
    tcase_add_test(c, a_stranger_is_one_log_line_and_then_cut);
    tcase_add_test(c, a11_what_to_change_is_logged);
    tcase_add_loop_test(c, a_refused_envelope_is_one_line_and_remembered, 0,
                        COUNT(envelope_rows));
    tcase_add_test(c, a_refused_envelope_of_any_length_is_a_line);
    tcase_add_test(c, a_header_behind_a_refused_recipient_hides_no_reason);
    tcase_add_test(c, a_foreign_word_before_helo_is_told);
    tcase_add_test(c, an_accepted_mail_is_one_log_line);
    tcase_add_loop_test(c, secrets_stay_out_of_the_log, 0, COUNT(secrets));
    tcase_add_test(c, repaired_line_ends_are_logged);
    tcase_add_test(c, a_message_settled_before_its_reply_is_passed_on);
    suite_add_tcase(s, c);
    return s;
}
