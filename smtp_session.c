/* See smtp_session.h.
 *
 * A session walks: SESSION_HELO -> SESSION_READY -> SESSION_MAIL ->
 * SESSION_RCPT -> SESSION_BODY -> SESSION_VERDICT -> SESSION_READY ...;
 * SESSION_BYE from anywhere. A state is what we wait for. The verb table is
 * the policy: where a verb is legal, and what it does.
 *
 * One door per effect: say() queues a reply, enter() changes the state,
 * hang_up() ends a session. */
#include "smtp_session.h"

#include <stdio.h>
#include <string.h>

#include "config.h"
#include "log.h"
#include "path.h"
#include "queue.h"
#include "settings.h"

#define REPLY_ROOM 1024 /* the longest reply, with a line to spare */
#define VERB_BYTES 13

#define S(state) (1u << (state))
#define S_ANY    (~0u)

static const char *hostname;
static bool is_stopping;

/* ---- Replies ------------------------------------------------------------- */

static const char R_DONE[] = "250 2.0.0 Ok";
static const char R_SENDER_OK[] = "250 2.1.0 Sender ok";
static const char R_RECIPIENT_OK[] = "250 2.1.5 Recipient ok";
static const char R_GO_AHEAD[] = "354 End data with <CRLF>.<CRLF>";
static const char R_BYE[] = "221 2.0.0 Bye";
static const char R_HELP[] = "214 2.0.0 See RFC 5321; this is lanpost, a relay";
static const char R_VRFY[] = "252 2.5.0 Send the mail, and we will try";
static const char R_UNKNOWN[] = "500 5.5.1 Unknown command";
static const char R_LONG_LINE[] = "500 5.5.2 Command line too long";
static const char R_CONTROL[] = "501 5.5.2 Control character in a command";
static const char R_BAD_PARAMETER[] = "501 5.5.4 Bad parameter";
static const char R_HELO_FIRST[] = "503 5.5.1 EHLO or HELO first";
static const char R_MAIL_FIRST[] = "503 5.5.1 MAIL first";
static const char R_RCPT_FIRST[] = "503 5.5.1 RCPT first";
static const char R_NESTED_MAIL[] = "503 5.5.1 A message is under way already";
static const char R_NO_RECIPIENT[] = "554 5.5.1 No valid recipients";
static const char R_NO_TLS[] =
    "502 5.5.1 TLS is not offered: set the device to no encryption";
static const char R_NO_AUTH[] =
    "502 5.5.1 Login is not offered: set the device to no authentication";
static const char R_NO_BDAT[] = "502 5.5.1 BDAT is not offered";
static const char R_BAD_SENDER[] = "501 5.1.7 Bad sender address";
static const char R_HALF_SENDER[] =
    "553 5.1.7 Sender address has no domain: set one on the device";
static const char R_BAD_RECIPIENT[] = "501 5.1.3 Bad recipient address";
static const char R_HALF_RECIPIENT[] =
    "550 5.1.3 Recipient address has no domain: set one on the device";
static const char R_NO_POSTMASTER[] =
    "550 5.1.1 No postmaster is set here (setting: postmaster)";
static const char R_NOT_ALLOWED[] =
    "550 5.7.1 Your address may not relay here (setting: allow_from)";
static const char R_TOO_MANY[] = "452 4.5.3 Too many recipients";
static const char R_FULL[] = "452 4.3.1 Queue full, try again later";
static const char R_TOO_BIG[] = "552 5.3.4 Message too large";
static const char R_LOOP[] = "554 5.4.6 Too many hops: this mail is in a loop";
static const char R_NAMES[] = "554 5.6.0 Its names are too long to be handled";
static const char R_FOREIGN[] = "421 4.7.0 This is a mail server";
static const char R_ERRORS[] = "421 4.7.0 Too many errors";
static const char R_JUNK[] = "421 4.7.0 Too many commands without a message";
static const char R_LATE[] = "421 4.4.2 Waited too long";
static const char R_SLOW[] = "421 4.4.2 The message comes too slowly";
static const char R_STOPPED[] = "451 4.3.2 Shutting down, send it again";
static const char R_STOPPING[] = "421 4.3.2 Shutting down";

const char *session_client(const struct session *c)
{
    static char text[IP_TEXT_BYTES];
    return ip_format(&c->client.address, text);
}

static void say(struct session *c, const char *reply)
{
    buf_puts(&c->link.out, reply);
    buf_puts(&c->link.out, "\r\n");
}

static void enter(struct session *c, enum session_state state, int64_t now_ms)
{
    c->state = state;
    c->since_ms = now_ms;
}

static void end_transaction(struct session *c)
{
    intake_cancel(&c->t);
    c->has_told_full = false;
}

/* Ends a client once what was said has left. reply may be NULL. */
static void hang_up(struct session *c, const char *reply, int64_t now_ms)
{
    if (c->state == SESSION_BYE)
        return;
    if (reply != NULL)
        say(c, reply);
    end_transaction(c);
    enter(c, SESSION_BYE, now_ms);
}

static void log_refusal(const struct session *c, const char *why,
                        const char *advice)
{
    char helo[64];
    log_clean(helo, sizeof helo, c->helo, strlen(c->helo));
    log_line(LOG_AT_WARN, "in",
             "client=%s helo=\"%s\" refused why=\"%s\"%s%s%s",
             session_client(c), helo, why, advice ? " advice=\"" : "",
             advice ? advice : "", advice ? "\"" : "");
}

/* A 5yz to a command: logged with what was refused, and counted. */
static void refuse(struct session *c, const char *reply, const char *what)
{
    char clean[128];
    say(c, reply);
    c->errors++;
    log_clean(clean, sizeof clean, what, strlen(what));
    log_line(LOG_AT_INFO, "in", "client=%s refused reply=\"%s\" command=\"%s\"",
             session_client(c), reply, clean);
}

/* ---- Verbs --------------------------------------------------------------- */

static void greet_back(struct session *c, const char *name, int64_t now_ms)
{
    end_transaction(c); /* a second EHLO is a RSET: RFC 5321 section 4.1.4 */
    name += strspn(name, " \t");
    text_copy(c->helo, sizeof c->helo, name);
    for (size_t n = strlen(c->helo); n > 0 && c->helo[n - 1] == ' '; n--)
        c->helo[n - 1] = '\0';
    enter(c, SESSION_READY, now_ms);
}

static void act_ehlo(struct session *c, const char *arg, int64_t now_ms)
{
    greet_back(c, arg, now_ms);
    c->is_esmtp = true;
    buf_format(&c->link.out,
               "250-%s\r\n250-PIPELINING\r\n250-SIZE %lld\r\n250-8BITMIME\r\n"
               "250-SMTPUTF8\r\n250 ENHANCEDSTATUSCODES\r\n",
               hostname, (long long)settings()->message_max_bytes);
}

static void act_helo(struct session *c, const char *arg, int64_t now_ms)
{
    greet_back(c, arg, now_ms);
    c->is_esmtp = false;
    buf_format(&c->link.out, "250 %s\r\n", hostname);
}

static const char *check_mail(const char *arg, struct path *from,
                              uint64_t *size)
{
    switch (path_mail(arg, from, size)) {
    case PATH_BAD: return R_BAD_SENDER;
    case PATH_BAD_PARAMETER: return R_BAD_PARAMETER;
    case PATH_GOOD: break;
    }
    if (*from->mailbox != '\0' && !from->has_domain)
        return R_HALF_SENDER;
    return *size > (uint64_t)settings()->message_max_bytes ? R_TOO_BIG : NULL;
}

static void tell_full(struct session *c)
{
    struct queue_counts n;
    queue_count(&n);
    say(c, R_FULL);
    if (!c->has_told_full)
        log_line(LOG_AT_WARN, "in",
                 "client=%s refused why=\"the queue is full\" messages=%u "
                 "blocks_free=%u blocks_reserved=%u",
                 session_client(c), n.messages, n.blocks_free,
                 n.blocks_reserved);
    c->has_told_full = true;
}

static void act_mail(struct session *c, const char *arg, int64_t now_ms)
{
    struct path from;
    uint64_t size = 0;
    if (is_stopping) {
        hang_up(c, R_STOPPING, now_ms);
        return;
    }
    const char *refusal = check_mail(arg, &from, &size);
    if (refusal != NULL) {
        refuse(c, refusal, arg);
        return;
    }
    /* A stranger gets no room in the queue; RCPT will tell him. */
    if (c->is_allowed && !intake_start(&c->t, &from, size)) {
        tell_full(c);
        return;
    }
    say(c, R_SENDER_OK);
    enter(c, SESSION_MAIL, now_ms);
}

/* <postmaster> needs no domain (RFC 5321 section 4.5.1). */
static const char *complete_recipient(struct path *to)
{
    if (*to->mailbox == '\0')
        return R_BAD_RECIPIENT;
    if (to->has_domain)
        return NULL;
    if (!text_equal_nocase(to->mailbox, "postmaster"))
        return R_HALF_RECIPIENT;
    if (*settings()->postmaster == '\0')
        return R_NO_POSTMASTER;
    text_copy(to->mailbox, sizeof to->mailbox, settings()->postmaster);
    return NULL;
}

static const char *check_rcpt(const char *arg, struct path *to)
{
    switch (path_rcpt(arg, to)) {
    case PATH_BAD: return R_BAD_RECIPIENT;
    case PATH_BAD_PARAMETER: return R_BAD_PARAMETER;
    case PATH_GOOD: break;
    }
    return complete_recipient(to);
}

static void refuse_stranger(struct session *c)
{
    say(c, R_NOT_ALLOWED);
    c->errors++;
    if (!c->has_told_refusal)
        log_refusal(c, "its address is not in allow_from",
                    "add it to allow_from if it is one of yours");
    c->has_told_refusal = true;
}

static void act_rcpt(struct session *c, const char *arg, int64_t now_ms)
{
    struct path to;
    const char *refusal = check_rcpt(arg, &to);
    if (!c->is_allowed) {
        refuse_stranger(c);
        return;
    }
    if (refusal != NULL) {
        refuse(c, refusal, arg);
        return;
    }
    if (c->t.recipients == (unsigned)settings()->recipients_max) {
        say(c, R_TOO_MANY);
        if (!c->has_told_full)
            log_refusal(c, "too many recipients", "raise recipients_max");
        c->has_told_full = true;
        return;
    }
    if (!intake_add_recipient(&c->t, &to)) {
        tell_full(c);
        return;
    }
    say(c, R_RECIPIENT_OK);
    enter(c, SESSION_RCPT, now_ms);
}

static void act_data(struct session *c, const char *arg, int64_t now_ms)
{
    if (*arg != '\0') {
        refuse(c, R_BAD_PARAMETER, arg);
        return;
    }
    say(c, R_GO_AHEAD);
    c->data_since_ms = now_ms;
    enter(c, SESSION_BODY, now_ms);
}

static void act_rset(struct session *c, const char *arg, int64_t now_ms)
{
    (void)arg;
    end_transaction(c);
    say(c, R_DONE);
    if (c->state != SESSION_HELO)
        enter(c, SESSION_READY, now_ms);
}

static void act_noop(struct session *c, const char *arg, int64_t now_ms)
{
    (void)arg, (void)now_ms;
    say(c, R_DONE);
}

static void act_vrfy(struct session *c, const char *arg, int64_t now_ms)
{
    (void)arg, (void)now_ms;
    say(c, R_VRFY);
}

static void act_help(struct session *c, const char *arg, int64_t now_ms)
{
    (void)arg, (void)now_ms;
    say(c, R_HELP);
}

static void act_quit(struct session *c, const char *arg, int64_t now_ms)
{
    (void)arg;
    hang_up(c, R_BYE, now_ms);
}

static void act_starttls(struct session *c, const char *arg, int64_t now_ms)
{
    (void)arg, (void)now_ms;
    refuse(c, R_NO_TLS, "STARTTLS");
}

static void act_auth(struct session *c, const char *arg, int64_t now_ms)
{
    (void)arg, (void)now_ms;
    c->has_tried_auth = true;
    refuse(c, R_NO_AUTH, "AUTH");
}

/* Its payload would follow as commands: no way to stay in step. */
static void act_bdat(struct session *c, const char *arg, int64_t now_ms)
{
    refuse(c, R_NO_BDAT, arg);
    hang_up(c, NULL, now_ms);
}

static const struct verb {
    const char *name;
    unsigned states;     /* where it is legal */
    const char *refusal; /* elsewhere, once a HELO was said */
    void (*act)(struct session *c, const char *arg, int64_t now_ms);
    bool is_progress; /* not junk: a message comes of it */
} verbs[] = {
    {"EHLO", S_ANY, NULL, act_ehlo, false},
    {"HELO", S_ANY, NULL, act_helo, false},
    {"MAIL", S(SESSION_READY), R_NESTED_MAIL, act_mail, false},
    {"RCPT", S(SESSION_MAIL) | S(SESSION_RCPT), R_MAIL_FIRST, act_rcpt, true},
    {"DATA", S(SESSION_RCPT), R_RCPT_FIRST, act_data, true},
    {"RSET", S_ANY, NULL, act_rset, false},
    {"NOOP", S_ANY, NULL, act_noop, false},
    {"VRFY", S_ANY, NULL, act_vrfy, false},
    {"HELP", S_ANY, NULL, act_help, false},
    {"QUIT", S_ANY, NULL, act_quit, true},
    {"STARTTLS", S_ANY, NULL, act_starttls, false},
    {"AUTH", S_ANY, NULL, act_auth, false},
    {"BDAT", S_ANY, NULL, act_bdat, false},
};

/* First words of other protocols. A browser can be made to speak to our port;
 * what it says must never be taken for mail (CVE-2021-3618). */
static const char *const foreign[] = {"GET",    "POST",    "HEAD",  "PUT",
                                      "DELETE", "OPTIONS", "TRACE", "CONNECT",
                                      "PATCH",  "PRI"};

static bool is_foreign(const char *word, size_t length)
{
    for (size_t i = 0; i < sizeof foreign / sizeof foreign[0]; i++)
        if (bytes_equal_nocase(word, length, foreign[i]))
            return true;
    return (length > 0 && word[length - 1] == ':') ||
           (length >= 4 && bytes_equal_nocase(word, 4, "SSH-"));
}

static const struct verb *find_verb(const char *word, size_t length)
{
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
        if (bytes_equal_nocase(word, length, verbs[i].name))
            return &verbs[i];
    return NULL;
}

static void refuse_order(struct session *c, const struct verb *v,
                         const char *line)
{
    if (c->state == SESSION_HELO)
        refuse(c, R_HELO_FIRST, line);
    else if (v->act == act_data && c->has_told_full)
        say(c, R_FULL); /* as were its recipients: later, not never */
    else if (v->act == act_data && c->state == SESSION_MAIL && c->errors > 0)
        refuse(c, R_NO_RECIPIENT, line);
    else
        refuse(c, v->refusal, line);
}

/* A device that did not read our 502 to AUTH sends its password next, and
 * one that was never understood may send anything: of a line that is no
 * command only what looks like a verb is logged. */
static void refuse_line(struct session *c, const char *reply, const char *line)
{
    char verb[VERB_BYTES] = "(hidden)";
    line += strspn(line, " \t");
    size_t letters = strspn(line, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  "abcdefghijklmnopqrstuvwxyz");
    if (!c->has_tried_auth && letters == strcspn(line, " \t") &&
        letters < sizeof verb) {
        memcpy(verb, line, letters);
        verb[letters] = '\0';
    }
    /* "AUTH=LOGIN" and the like: no verb of ours, and a password follows. */
    c->has_tried_auth |= letters >= 4 && bytes_equal_nocase(line, 4, "AUTH");
    refuse(c, reply, verb);
}

static bool has_control(const char *line, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (((unsigned char)line[i] < ' ' && line[i] != '\t') ||
            line[i] == 0x7f)
            return true;
    return false;
}

static void act_on_command(struct session *c, char *line, size_t length,
                           int64_t now_ms)
{
    c->since_ms = now_ms;
    if (has_control(line, length)) {
        refuse_line(c, R_CONTROL, line);
        return;
    }
    line += strspn(line, " \t");
    size_t word = strcspn(line, " \t");
    const char *arg = line + word + strspn(line + word, " \t");
    const struct verb *v = find_verb(line, word);
    c->junk += v == NULL || !v->is_progress;
    if (v == NULL && is_foreign(line, word)) {
        log_refusal(c, "it speaks another protocol than SMTP", NULL);
        hang_up(c, R_FOREIGN, now_ms);
    } else if (v == NULL) {
        refuse_line(c, R_UNKNOWN, line);
    } else if (!(v->states & S(c->state))) {
        refuse_order(c, v, line);
    } else {
        v->act(c, arg, now_ms);
    }
}

/* ---- Lines --------------------------------------------------------------- */

/* A line without an end is refused once; its bytes are then thrown away up to
 * the next line end, never read as a command. */
static void skip_long_line(struct session *c)
{
    if (!c->is_skipping_line)
        refuse(c, R_LONG_LINE, "");
    c->is_skipping_line = true;
    buf_clear(&c->link.in);
}

/* True: a line was dealt with, and there may be more. */
static bool take_line(struct session *c, int64_t now_ms)
{
    char line[COMMAND_MAX_BYTES + 1];
    size_t length, whole;
    const char *start = buf_line(&c->link.in, &length, &whole);
    if (start == NULL) {
        if (buf_len(&c->link.in) > COMMAND_MAX_BYTES || c->is_skipping_line)
            skip_long_line(c);
        return false;
    }
    bool is_rest = c->is_skipping_line;
    bool fits = whole <= COMMAND_MAX_BYTES;
    if (fits) {
        memcpy(line, start, length);
        line[length] = '\0';
    }
    buf_take(&c->link.in, whole);
    c->is_skipping_line = false;
    if (is_rest)
        return true;
    if (fits)
        act_on_command(c, line, length, now_ms);
    else
        refuse(c, R_LONG_LINE, "");
    return true;
}

/* Before the first command: a byte that no SMTP verb begins with. */
static bool is_binary_hello(struct session *c, int64_t now_ms)
{
    if (c->state != SESSION_HELO || c->junk > 0 || buf_len(&c->link.in) == 0)
        return false;
    uint8_t first = *buf_data(&c->link.in);
    if (first == 0x16) { /* the record type of a ClientHello */
        log_refusal(c, "TLS hello on the plain port",
                    "set the device to no encryption: TLS is not offered");
        hang_up(c, NULL, now_ms);
        return true;
    }
    if (first >= ' ' && first < 0x7f)
        return false;
    if (first == '\r' || first == '\n')
        return false;
    log_refusal(c, "it speaks another protocol than SMTP", NULL);
    hang_up(c, R_FOREIGN, now_ms);
    return true;
}

/* ---- The message --------------------------------------------------------- */

static void log_accepted(const struct session *c)
{
    char helo[64], from[128];
    log_line(LOG_AT_INFO, "in",
             "id=%08X client=%s helo=\"%s\" from=<%s> rcpt=%u bytes=%llu "
             "tls=- auth=-%s accepted ack=queued",
             (unsigned)c->t.id, session_client(c),
             log_clean(helo, sizeof helo, c->helo, strlen(c->helo)),
             log_clean(from, sizeof from, c->t.reverse_path,
                       strlen(c->t.reverse_path)),
             c->t.recipients, (unsigned long long)c->t.bytes,
             c->t.dot.has_bare_line_ends ? " repaired=line-ends" : "");
}

static void refuse_message(struct session *c, const char *reply, int64_t now_ms)
{
    say(c, reply);
    log_line(LOG_AT_WARN, "in",
             "client=%s refused reply=\"%s\" bytes=%llu limit=%lld",
             session_client(c), reply, (unsigned long long)c->t.wire_bytes,
             (long long)settings()->message_max_bytes);
    end_transaction(c);
    enter(c, SESSION_READY, now_ms);
}

static void finish_body(struct session *c, int64_t now_ms)
{
    if (is_stopping) { /* the device still has it: that is the better place */
        log_refusal(c, "lanpost stops before it could pass the message on",
                    NULL);
        hang_up(c, R_STOPPED, now_ms);
        return;
    }
    static const char *const replies[] = {[INTAKE_FULL] = R_FULL,
                                          [INTAKE_TOO_BIG] = R_TOO_BIG,
                                          [INTAKE_LOOP] = R_LOOP,
                                          [INTAKE_NAMES] = R_NAMES};
    struct message_origin origin = {.client = c->client.address,
                                    .helo = c->helo,
                                    .hostname = hostname,
                                    .protocol = c->is_esmtp ? "ESMTP" : "SMTP"};
    enum intake_fault fault = intake_end(&c->t, &origin, now_ms);
    if (fault == INTAKE_GOOD)
        enter(c, SESSION_VERDICT, now_ms);
    else
        refuse_message(c, replies[fault], now_ms);
}

static void take_body(struct session *c, int64_t now_ms)
{
    buf_take(&c->link.in,
             intake_take(&c->t, buf_data(&c->link.in), buf_len(&c->link.in),
                         (uint64_t)settings()->message_max_bytes));
    if (intake_is_over(&c->t))
        finish_body(c, now_ms);
}

/* The message is the queue's now; so is the word on what may be promised. */
static void take_verdict(struct session *c, int64_t now_ms)
{
    bool is_over = queue_fate(c->t.id) == QUEUE_OVER; /* it was quick */
    buf_format(&c->link.out, "250 2.0.0 %s as %08X\r\n",
               is_over ? "Passed on" : "Queued in memory", (unsigned)c->t.id);
    log_accepted(c);
    c->junk = c->errors = 0;
    c->progress_ms = now_ms;
    end_transaction(c);
    enter(c, SESSION_READY, now_ms);
    if (is_stopping)
        hang_up(c, R_STOPPING, now_ms);
}

/* ---- A session's turn ---------------------------------------------------- */

static bool has_room_to_answer(const struct session *c)
{
    return buf_room(&c->link.out) >= REPLY_ROOM;
}

bool session_wants_input(const struct session *c)
{
    return c->state == SESSION_BYE ||
           (c->state != SESSION_VERDICT && has_room_to_answer(c));
}

/* Refused too often, or idle talk for too long: its 421 is due. */
static bool has_had_enough(const struct session *c)
{
    return c->errors > CLIENT_ERRORS_MAX || c->junk > CLIENT_JUNK_MAX;
}

bool session_has_work(const struct session *c)
{
    size_t length, whole;
    if (c->state == SESSION_BYE || !has_room_to_answer(c))
        return false;
    if (c->state == SESSION_VERDICT)
        return true;
    if (c->state == SESSION_BODY)
        return buf_len(&c->link.in) > 0;
    return has_had_enough(c) || buf_line(&c->link.in, &length, &whole) != NULL;
}

/* One command, one stretch of body or one verdict. False: nothing to do. */
bool session_act(struct session *c, int64_t now_ms)
{
    if (c->state == SESSION_BYE || !has_room_to_answer(c))
        return false;
    if (c->state == SESSION_VERDICT) {
        take_verdict(c, now_ms);
        return true;
    }
    if (c->state == SESSION_BODY) {
        bool has_bytes = buf_len(&c->link.in) > 0;
        take_body(c, now_ms);
        return has_bytes;
    }
    if (has_had_enough(c)) {
        const char *reply = c->errors > CLIENT_ERRORS_MAX ? R_ERRORS : R_JUNK;
        log_refusal(c, reply + 10, NULL); /* behind "421 4.7.0 " */
        hang_up(c, reply, now_ms);
        return false;
    }
    return !is_binary_hello(c, now_ms) && take_line(c, now_ms);
}

/* ---- Begin and end ------------------------------------------------------- */

void session_init(const char *our_name)
{
    hostname = our_name;
    is_stopping = false;
}

void session_stop_all(void)
{
    is_stopping = true;
}

void session_start(struct session *c, int fd, const struct ip_endpoint *client,
                   int64_t now_ms)
{
    link_open(&c->link, fd, false, c->in, sizeof c->in, c->out, sizeof c->out);
    c->client = *client;
    c->is_allowed = ip_in_any(&client->address, settings()->allow_from.items,
                              settings()->allow_from.count);
    c->progress_ms = now_ms;
    enter(c, SESSION_HELO, now_ms);
    buf_format(&c->link.out, "220 %s ESMTP lanpost\r\n", hostname);
}

static void end_gone(struct session *c, int64_t now_ms)
{
    bool is_cut = c->state == SESSION_BODY;
    log_line(is_cut ? LOG_AT_WARN : LOG_AT_DEBUG, "in",
             "client=%s gone why=\"%s\" data_bytes=%llu", session_client(c),
             c->link.why, (unsigned long long)c->t.wire_bytes);
    hang_up(c, NULL, now_ms);
}

static void end_late(struct session *c, int64_t now_ms)
{
    bool in_body = c->state == SESSION_BODY;
    char why[80];
    snprintf(why, sizeof why,
             in_body ? "too slow in DATA, after %llu bytes"
                     : "silent for too long",
             (unsigned long long)c->t.wire_bytes);
    log_refusal(c, why, NULL);
    hang_up(c, in_body ? R_SLOW : R_LATE, now_ms);
}

void session_end(struct session *c, enum session_end why, int64_t now_ms)
{
    switch (why) {
    case SESSION_ENDS_GONE: end_gone(c, now_ms); break;
    case SESSION_ENDS_LATE: end_late(c, now_ms); break;
    case SESSION_ENDS_STOPPING: hang_up(c, R_STOPPING, now_ms); break;
    }
}

void session_vacate(struct session *c)
{
    end_transaction(c);
    link_close(&c->link);
    memset(c, 0, sizeof *c);
}
