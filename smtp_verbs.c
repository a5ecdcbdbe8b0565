/* See smtp_verbs.h. */
#include "smtp_verbs.h"

#include <stdio.h>
#include <string.h>

#include "clients.h"
#include "config.h"
#include "envelope.h"
#include "foreign.h"
#include "log.h"
#include "queue.h"
#include "reason.h"
#include "settings.h"

#define VERB_BYTES 13

#define S(state) (1u << (state))
#define S_ANY    (~0u)

/* ---- Replies ------------------------------------------------------------- */

static const char R_DONE[] = "250 2.0.0 Ok";
static const char R_SENDER_OK[] = "250 2.1.0 Sender ok";
static const char R_RECIPIENT_OK[] = "250 2.1.5 Recipient ok";
static const char R_GO_AHEAD[] = "354 End data with <CRLF>.<CRLF>";
static const char R_BYE[] = "221 2.0.0 Bye";
static const char R_HELP[] = "214 2.0.0 See RFC 5321; this is lanpost, a relay";
static const char R_VRFY[] = "252 2.5.0 Send the mail, and we will try";
static const char R_UNKNOWN[] = "500 5.5.1 Unknown command";
static const char R_CONTROL[] = "501 5.5.2 Control character in a command";
static const char R_BAD_PARAMETER[] = "501 5.5.4 Bad parameter";
static const char R_HELO_FIRST[] = "503 5.5.1 EHLO or HELO first";
static const char R_MAIL_FIRST[] = "503 5.5.1 MAIL first";
static const char R_RCPT_FIRST[] = "503 5.5.1 RCPT first";
static const char R_NESTED_MAIL[] = "503 5.5.1 A message is under way already";
static const char R_NO_RECIPIENT[] = "554 5.5.1 No valid recipients";
static const char R_START_TLS[] = "220 2.0.0 Ready to start TLS";
static const char R_TLS_TWICE[] = "503 5.5.1 This is TLS already";
static const char R_TLS_FULL[] = "454 4.7.0 TLS is not available now";
static const char R_TLS_PIPELINED[] =
    "501 5.5.1 Nothing may follow STARTTLS before its reply";
static const char R_TLS_FIRST[] = "530 5.7.0 Issue a STARTTLS command first";
static const char R_NO_TLS[] =
    "502 5.5.1 TLS is not offered: set the device to no encryption";
static const char R_AUTH_FIRST[] = "530 5.7.0 Authentication required";
static const char R_AUTH_TWICE[] = "503 5.5.1 You are logged in already";
static const char R_LONG_AUTH[] = "500 5.5.6 Login line too long";
static const char R_AUTH_ERRORS[] = "421 4.7.0 Too many failed logins";
static const char R_NO_AUTH[] =
    "502 5.5.1 Login is not offered: set the device to no authentication";
static const char R_NO_BDAT[] = "502 5.5.1 BDAT is not offered";
static const char R_NOT_ALLOWED[] =
    "550 5.7.1 Your address may not relay here (setting: allow_from)";
static const char R_TOO_MANY[] = "452 4.5.3 Too many recipients";
static const char R_FOREIGN[] = "421 4.7.0 This is a mail server";

/* ---- What they do -------------------------------------------------------- */

static void greet_back(struct session *c, const char *name, int64_t now_ms)
{
    /* A second EHLO is a RSET: RFC 5321 section 4.1.4. */
    session_end_transaction(c);
    name += strspn(name, " \t");
    text_copy(c->helo, sizeof c->helo, name);
    for (size_t n = strlen(c->helo); n > 0 && c->helo[n - 1] == ' '; n--)
        c->helo[n - 1] = '\0';
    session_enter(c, SESSION_READY, now_ms);
}

static bool offers_tls(const struct session *c)
{
    return c->is_allowed && c->link.tls == NULL && session_can_have_tls() &&
           !session_is_in(c, &settings()->no_starttls_to);
}

static bool offers_auth(const struct session *c)
{
    return c->is_allowed && login_is_offered();
}

static bool needs_tls(const struct session *c)
{
    return c->link.tls == NULL && session_is_in(c, &settings()->require_tls) &&
           !session_is_in(c, &settings()->no_starttls_to);
}

static void act_ehlo(struct session *c, const char *arg, int64_t now_ms)
{
    greet_back(c, arg, now_ms);
    c->is_esmtp = true;
    buf_format(&c->link.out,
               "250-%s\r\n250-PIPELINING\r\n250-SIZE %lld\r\n250-8BITMIME\r\n"
               "250-SMTPUTF8\r\n%s%s250 ENHANCEDSTATUSCODES\r\n",
               session_hostname(), (long long)settings()->message_max_bytes,
               offers_tls(c) ? "250-STARTTLS\r\n" : "",
               offers_auth(c) && !needs_tls(c) ? "250-AUTH PLAIN LOGIN\r\n"
                                               : "");
}

static void act_helo(struct session *c, const char *arg, int64_t now_ms)
{
    greet_back(c, arg, now_ms);
    c->is_esmtp = false;
    buf_format(&c->link.out, "250 %s\r\n", session_hostname());
}

static void tell_full(struct session *c)
{
    struct queue_counts n;
    char detail[96];
    queue_count(&n);
    session_say(c, session_full);
    snprintf(detail, sizeof detail,
             "messages=%u blocks_free=%u blocks_reserved=%u", n.messages,
             n.blocks_free, n.blocks_reserved);
    if (!c->has_told_full)
        session_tell(c, REASON_QUEUE_FULL, detail);
    c->has_told_full = true;
}

static void refuse_stranger(struct session *c)
{
    session_say(c, R_NOT_ALLOWED);
    c->errors++;
    if (!c->has_told_refusal)
        session_tell(c, REASON_STRANGER, NULL);
    c->has_told_refusal = true;
}

/* What the settings demand before MAIL. NULL: nothing is missing. */
static const char *missing_for_mail(struct session *c)
{
    bool needs_auth =
        !c->is_logged_in && session_is_in(c, &settings()->require_auth);
    if (!c->is_allowed || (!needs_tls(c) && !needs_auth))
        return NULL;
    if (!c->has_told_refusal)
        session_tell(
            c, needs_tls(c) ? REASON_TLS_MISSING : REASON_LOGIN_MISSING, NULL);
    c->has_told_refusal = true;
    return needs_tls(c) ? R_TLS_FIRST : R_AUTH_FIRST;
}

static void refuse_envelope(struct session *c, const char *reply,
                            const char *arg, uint64_t size)
{
    char clean[100], detail[200];
    session_say(c, reply);
    c->errors++;
    snprintf(detail, sizeof detail, "%llu bytes, the limit is %lld",
             (unsigned long long)size,
             (long long)settings()->message_max_bytes);
    if (reply == envelope_too_big) {
        session_tell(c, REASON_TOO_LARGE, detail);
        return;
    }
    snprintf(detail, sizeof detail, "%s (%s)", reply,
             log_clean(clean, sizeof clean, arg, strlen(arg)));
    reason_tell(REASON_REFUSED, &c->client.address, c->helo, detail,
                envelope_advice(reply));
}

static struct rewrite_who who(const struct session *c)
{
    return (struct rewrite_who){.client = c->client.address,
                                .user = c->is_known_user ? c->user : ""};
}

static void act_mail(struct session *c, const char *arg, int64_t now_ms)
{
    struct path from;
    struct rewrite_who sender = who(c);
    uint64_t size = 0;
    /* Asked for anew: a reload may have taken it out. */
    c->is_allowed = session_is_in(c, &settings()->allow_from);
    const char *missing = missing_for_mail(c);
    if (session_is_stopping()) {
        session_hang_up(c, session_stopping, now_ms);
        return;
    }
    if (missing != NULL) {
        session_refuse(c, missing, "MAIL");
        return;
    }
    const char *refusal = envelope_take_mail(arg, &sender, &from, &size);
    if (refusal != NULL) {
        refuse_envelope(c, refusal, arg, size);
        return;
    }
    /* Before the upload, while it costs nothing. */
    refusal = c->is_allowed ? promise_outlook(c->ack_wait_ms, now_ms) : NULL;
    if (refusal != NULL) {
        session_say(c, refusal);
        session_tell(c, REASON_ROUTE_RESTS, NULL);
        return;
    }
    /* A stranger gets no room in the queue; RCPT will tell him. */
    if (c->is_allowed && !intake_start(&c->t, &from, &sender, size)) {
        tell_full(c);
        return;
    }
    session_say(c, R_SENDER_OK);
    session_enter(c, SESSION_MAIL, now_ms);
}

static void act_rcpt(struct session *c, const char *arg, int64_t now_ms)
{
    struct path to;
    if (!c->is_allowed) {
        refuse_stranger(c);
        return;
    }
    const char *refusal = envelope_take_rcpt(arg, &to);
    if (refusal != NULL) {
        refuse_envelope(c, refusal, arg, 0);
        return;
    }
    if (c->t.recipients == (unsigned)settings()->recipients_max) {
        session_say(c, R_TOO_MANY);
        if (!c->has_told_full)
            session_tell(c, REASON_TOO_MANY_RECIPIENTS, NULL);
        c->has_told_full = true;
        return;
    }
    if (!intake_add_recipient(&c->t, &to)) {
        tell_full(c);
        return;
    }
    session_say(c, R_RECIPIENT_OK);
    session_enter(c, SESSION_RCPT, now_ms);
}

static void act_data(struct session *c, const char *arg, int64_t now_ms)
{
    if (*arg != '\0') {
        session_refuse(c, R_BAD_PARAMETER, arg);
        return;
    }
    session_say(c, R_GO_AHEAD);
    c->data_since_ms = now_ms;
    session_enter(c, SESSION_BODY, now_ms);
}

static void act_rset(struct session *c, const char *arg, int64_t now_ms)
{
    (void)arg;
    session_end_transaction(c);
    session_say(c, R_DONE);
    if (c->state != SESSION_HELO)
        session_enter(c, SESSION_READY, now_ms);
}

static void act_noop(struct session *c, const char *arg, int64_t now_ms)
{
    (void)arg, (void)now_ms;
    session_say(c, R_DONE);
}

static void act_vrfy(struct session *c, const char *arg, int64_t now_ms)
{
    (void)arg, (void)now_ms;
    session_say(c, R_VRFY);
}

static void act_help(struct session *c, const char *arg, int64_t now_ms)
{
    (void)arg, (void)now_ms;
    session_say(c, R_HELP);
}

static void act_quit(struct session *c, const char *arg, int64_t now_ms)
{
    (void)arg;
    session_hang_up(c, R_BYE, now_ms);
}

/* Its payload would follow as commands: no way to stay in step. */
static void act_bdat(struct session *c, const char *arg, int64_t now_ms)
{
    session_refuse(c, R_NO_BDAT, arg);
    session_hang_up(c, NULL, now_ms);
}

static void act_starttls(struct session *c, const char *arg, int64_t now_ms)
{
    if (!c->is_allowed) {
        refuse_stranger(c);
    } else if (c->link.tls != NULL) {
        session_refuse(c, R_TLS_TWICE, "STARTTLS");
    } else if (session_is_in(c, &settings()->no_starttls_to)) {
        session_refuse(c, R_NO_TLS, "STARTTLS"); /* it was told so in EHLO */
    } else if (*arg != '\0') {
        session_refuse(c, R_BAD_PARAMETER, arg);
    } else if (buf_len(&c->link.in) > 0) {
        /* Said in clear, perhaps by another, and to be obeyed under TLS: that
         * was CVE-2011-0411. */
        session_tell(c, REASON_TLS_PIPELINED, NULL);
        session_hang_up(c, R_TLS_PIPELINED, now_ms);
    } else if (!session_can_have_tls()) {
        session_say(c, R_TLS_FULL);
        session_tell(c, tls_serves() ? REASON_TLS_FULL : REASON_TLS_NONE, NULL);
    } else {
        session_end_transaction(c);
        session_say(c, R_START_TLS);
        /* The name stays, for the log alone: another EHLO is due. */
        c->is_esmtp = c->is_logged_in = c->is_known_user = false;
        session_enter(c, SESSION_TLS, now_ms);
    }
}

/* ---- Login --------------------------------------------------------------- */

static void end_login(struct session *c, const char *reply, int64_t now_ms)
{
    session_say(c, reply);
    login_end(&c->login);
    session_enter(c, SESSION_READY, now_ms);
}

static void take_good_login(struct session *c, const char *reply,
                            int64_t now_ms)
{
    text_copy(c->user, sizeof c->user, login_user(&c->login));
    c->is_logged_in = true;
    c->is_known_user = login_is_known(&c->login);
    end_login(c, reply, now_ms);
}

static void take_bad_login(struct session *c, const char *reply, int64_t now_ms)
{
    char user[64];
    log_clean(user, sizeof user, login_user(&c->login),
              strlen(login_user(&c->login)));
    if (clients_note_bad_login(&c->client.address, now_ms))
        session_tell(c, REASON_LOGIN_WRONG, user);
    end_login(c, reply, now_ms);
    if (++c->bad_logins >= CLIENT_LOGINS_MAX)
        session_hang_up(c, R_AUTH_ERRORS, now_ms);
}

static void act_on_login(struct session *c, enum login_state state,
                         const char *reply, int64_t now_ms)
{
    switch (state) {
    case LOGIN_LINE:
        session_say(c, reply);
        session_enter(c, SESSION_LOGIN, now_ms);
        break;
    case LOGIN_CHECK:
        if (c->state != SESSION_CHECK)
            session_enter(c, SESSION_CHECK, now_ms);
        break;
    case LOGIN_GOOD: take_good_login(c, reply, now_ms); break;
    case LOGIN_BAD: take_bad_login(c, reply, now_ms); break;
    case LOGIN_OFF:
    case LOGIN_REFUSED:
        c->errors++;
        if (*reply == '5') /* the wait of those who failed is told once */
            session_tell(c, REASON_REFUSED, reply);
        end_login(c, reply, now_ms);
        break;
    }
}

/* Not in the table of EHLO, yet sent: HELO shows no table, and some devices
 * do not read it. */
static void act_auth(struct session *c, const char *arg, int64_t now_ms)
{
    const char *reply = NULL;
    c->has_tried_auth = true;
    if (!c->is_allowed) {
        refuse_stranger(c);
    } else if (c->is_logged_in) {
        session_refuse(c, R_AUTH_TWICE, "AUTH");
    } else if (!offers_auth(c)) {
        /* Most devices give up here. */
        session_say(c, R_NO_AUTH);
        c->errors++;
        session_tell(c, REASON_REFUSED, R_NO_AUTH);
    } else if (needs_tls(c)) {
        session_refuse(c, R_TLS_FIRST, "AUTH");
    } else {
        enum login_state state =
            login_start(&c->login, arg, &c->client.address, now_ms, &reply);
        act_on_login(c, state, reply, now_ms);
    }
}

void verbs_take_login_line(struct session *c, const char *line, int64_t now_ms)
{
    const char *reply = NULL;
    /* As base64 it would be a name with a control character in it. */
    if (text_equal_nocase(line, "QUIT")) {
        session_tell(c, REASON_LOGIN_ABANDONED, login_place(&c->login));
        session_hang_up(c, R_BYE, now_ms);
        return;
    }
    enum login_state state = login_take(&c->login, line, now_ms, &reply);
    act_on_login(c, state, reply, now_ms);
}

void verbs_check_login(struct session *c, int64_t now_ms)
{
    const char *reply = NULL;
    enum login_state state = login_run(&c->login, &reply);
    act_on_login(c, state, reply, now_ms);
}

/* ---- The table of verbs -------------------------------------------------- */

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
    {"AUTH", S(SESSION_READY), R_NESTED_MAIL, act_auth, false},
    {"BDAT", S_ANY, NULL, act_bdat, false},
};

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
    if (v->act == act_auth) {
        line = v->name; /* a password may stand behind it, or follow */
        c->has_tried_auth = true;
    }
    if (c->state == SESSION_HELO)
        session_refuse(c, R_HELO_FIRST, line);
    else if (v->act == act_data && c->has_told_full)
        session_say(c, session_full); /* as were its recipients: later */
    else if (v->act == act_data && c->state == SESSION_MAIL && c->errors > 0)
        session_refuse(c, R_NO_RECIPIENT, line);
    else
        session_refuse(c, v->refusal, line);
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
    session_refuse(c, reply, verb);
}

void verbs_act(struct session *c, char *line, size_t length, int64_t now_ms)
{
    c->since_ms = now_ms;
    c->has_fresh_tls = false;
    if (foreign_has_control(line, length)) {
        refuse_line(c, R_CONTROL, line);
        return;
    }
    line += strspn(line, " \t");
    size_t word = strcspn(line, " \t");
    const char *arg = line + word + strspn(line + word, " \t");
    const struct verb *v = find_verb(line, word);
    c->junk += v == NULL || !v->is_progress;
    if (v == NULL && foreign_is_word(line, word)) {
        /* Behind a HELO it is a device whose header follows a refused DATA:
         * why that was refused is told already. */
        if (c->state == SESSION_HELO)
            session_tell(c, REASON_FOREIGN_PROTOCOL, NULL);
        session_hang_up(c, R_FOREIGN, now_ms);
    } else if (v == NULL) {
        refuse_line(c, R_UNKNOWN, line);
    } else if (!(v->states & S(c->state))) {
        refuse_order(c, v, line);
    } else {
        v->act(c, arg, now_ms);
    }
}

void verbs_drop_login(struct session *c, int64_t now_ms)
{
    c->errors++;
    session_tell(c, REASON_REFUSED, R_LONG_AUTH);
    end_login(c, R_LONG_AUTH, now_ms);
}
