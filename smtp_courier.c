/* See smtp_courier.h.
 *
 * A connection walks (the names without COURIER_):
 *
 *   CONNECT -> [HANDSHAKE] -> GREETING -> EHLO
 *     -> [STARTTLS -> HANDSHAKE -> EHLO] -> [AUTH] -> IDLE
 *   IDLE -> MAIL -> RCPT ... -> DATA -> BODY -> DOT -> IDLE, or RSET -> IDLE
 *   IDLE -> QUIT
 *
 * A state is what we wait for. Two tables face each other: entering[] says
 * what a state sends, meaning[] what a reply means in it. Where the smarthost
 * offers PIPELINING (RFC 2920), MAIL sends all RCPTs and DATA along, and the
 * states behind it send nothing; the replies mean the same either way.
 *
 * One door per effect: enter() changes a state and sends, fate_settle() gives
 * a recipient its verdict, give_back() returns the message, drop() ends a
 * connection.
 *
 * The smarthost is hostile until proven slow: words that nobody asked for end
 * the connection, every state has its deadline, and a reply is bounded in
 * lines and bytes. */
#include "smtp_courier.h"

#include <stdio.h>
#include <string.h>

#include "config.h"
#include "fate.h"
#include "log.h"
#include "route.h"
#include "settings.h"

#define CHALLENGES_MAX   4 /* 334s of one login */
#define FLUSHES_PER_TURN 16

static const char R_OUT_OF_STEP[] =
    "the smarthost is out of step: it replies unasked";

static const char *hostname;

static void enter(struct courier *c, enum courier_state state, int64_t now_ms);

/* ---- Ends ---------------------------------------------------------------- */

/* Freed when all recipients are settled, else tried again at due_ms. */
static void give_back(struct courier *c, int64_t due_ms)
{
    if (c->d.id != QUEUE_NONE)
        queue_return(c->d.id, due_ms);
    memset(&c->d, 0, sizeof c->d);
}

static void drop(struct courier *c)
{
    if (c->is_ready)
        route_left();
    link_close(&c->link);
    memset(c, 0, sizeof *c);
}

/* The connection died with a message in hand. One that died before any reply,
 * after messages that went well, was closed while idle: nothing was tried
 * yet, and a fresh one takes the message at once. */
static void lose_message(struct courier *c, const char *why, int64_t now_ms)
{
    char text[TLS_WHY_BYTES + 40];
    bool has_dot_left = c->d.has_sent_dot && buf_len(&c->link.out) == 0;
    if (!c->d.has_reply && c->messages > 0) {
        log_line(LOG_AT_INFO, "out",
                 "id=%08X host=%s why=\"%s\" again=\"on a fresh connection\"",
                 (unsigned)c->d.id, route_smarthost(), why);
        give_back(c, now_ms);
        return;
    }
    snprintf(text, sizeof text, "%s%s", why,
             has_dot_left && c->d.accepted > 0 ? " (may arrive twice)" : "");
    if (c->d.is_mail_refused)
        fate_settle_all(c->d.id, QUEUE_OPEN, fate_verdict(&c->d.refusal),
                        c->d.refusal.text, now_ms);
    else
        fate_settle_all(c->d.id, QUEUE_OPEN, QUEUE_OPEN, text, now_ms);
    give_back(c, fate_next_try_ms(c->d.id, now_ms));
}

/* A connection that cannot go on. Whom that concerns depends on how far it
 * was: the message in hand, the address, or nobody. */
static void stumble(struct courier *c, const char *why, int64_t now_ms)
{
    char clean[TLS_WHY_BYTES];
    struct ip_endpoint at = c->at;
    /* Ended before any word on any message: were that not the address's
     * fault, too, each waiting message would log in once, at once. */
    bool is_good =
        c->messages > 0 || (c->state > COURIER_IDLE && c->d.has_reply);
    log_clean(clean, sizeof clean, why, strlen(why));
    if (c->d.id != QUEUE_NONE)
        lose_message(c, clean, now_ms);
    drop(c);
    if (!is_good)
        route_address_failed(&at, clean, now_ms);
}

/* The smarthost will not work for us at any address: the message in hand, if
 * any, waits with the others. */
static void end_route(struct courier *c, int64_t least_s, const char *why,
                      const char *reply, int64_t now_ms)
{
    char clean[REPLY_TEXT_BYTES], text[REPLY_TEXT_BYTES + 200];
    log_clean(clean, sizeof clean, reply, strlen(reply));
    snprintf(text, sizeof text, "%s%s%s", why, *clean ? ": " : "", clean);
    give_back(c, now_ms);
    drop(c);
    route_failed(least_s * 1000, text, now_ms);
}

/* ---- Entering a state: what we send -------------------------------------- */

static void send_ehlo(struct courier *c)
{
    c->features = c->mechanisms = 0; /* those of before TLS are worth nothing */
    buf_format(&c->link.out, "EHLO %s\r\n", hostname);
}

static void send_helo(struct courier *c)
{
    c->features = 0; /* a refused EHLO offers nothing */
    buf_format(&c->link.out, "HELO %s\r\n", hostname);
}

static enum sasl_mechanism chosen_mechanism(const struct courier *c)
{
    static const enum sasl_mechanism wanted[] = {[AUTH_AUTO] = SASL_NONE,
                                                 [AUTH_NONE] = SASL_NONE,
                                                 [AUTH_PLAIN] = SASL_PLAIN,
                                                 [AUTH_LOGIN] = SASL_LOGIN};
    return sasl_choose(c->mechanisms, wanted[settings()->smarthost_auth]);
}

static void send_auth(struct courier *c)
{
    c->challenges = 0;
    sasl_start(&c->sasl, chosen_mechanism(c), settings()->smarthost_user,
               settings()->smarthost_password, &c->link.out);
}

static bool is_pipelining(const struct courier *c)
{
    return c->features & HAS_PIPELINING;
}

static void send_mail(struct courier *c)
{
    delivery_put_mail(&c->d, c->features, &c->link.out);
}

static void send_rcpt(struct courier *c)
{
    if (!is_pipelining(c))
        delivery_put_rcpt(&c->d.asked, &c->link.out);
}

static void send_data(struct courier *c)
{
    if (!is_pipelining(c))
        buf_puts(&c->link.out, "DATA\r\n");
}

static void send_dot(struct courier *c)
{
    delivery_put_dot(&c->d, &c->link.out);
}

static const struct {
    void (*send)(struct courier *c);
    const char *text; /* or a command that is always the same */
    int wait_seconds;
    const char *late; /* what did not come in that time */
} entering[COURIER_STATES] = {
    [COURIER_CONNECT] = {NULL, NULL, CONNECT_SECONDS, "it does not answer"},
    [COURIER_HANDSHAKE] = {NULL, NULL, HANDSHAKE_SECONDS,
                           "the TLS handshake stalled"},
    [COURIER_GREETING] = {NULL, NULL, REPLY_SECONDS, "no greeting came"},
    [COURIER_EHLO] = {send_ehlo, NULL, REPLY_SECONDS, "no reply to EHLO came"},
    [COURIER_HELO] = {send_helo, NULL, REPLY_SECONDS, "no reply to HELO came"},
    [COURIER_STARTTLS] = {NULL, "STARTTLS\r\n", REPLY_DATA_SECONDS,
                          "no reply to STARTTLS came"},
    [COURIER_AUTH] = {send_auth, NULL, REPLY_SECONDS, "no reply to AUTH came"},
    [COURIER_IDLE] = {NULL, NULL, CONNECTION_IDLE_SECONDS, ""},
    [COURIER_MAIL] = {send_mail, NULL, REPLY_SECONDS, "no reply to MAIL came"},
    [COURIER_RCPT] = {send_rcpt, NULL, REPLY_SECONDS, "no reply to RCPT came"},
    [COURIER_DATA] = {send_data, NULL, REPLY_DATA_SECONDS,
                      "no reply to DATA came"},
    [COURIER_BODY] = {NULL, NULL, REPLY_BLOCK_SECONDS,
                      "the message was not taken"},
    [COURIER_DOT] = {send_dot, NULL, REPLY_DOT_SECONDS,
                     "no verdict on the message came"},
    [COURIER_RSET] = {NULL, "RSET\r\n", REPLY_SECONDS, ""},
    [COURIER_QUIT] = {NULL, "QUIT\r\n", REPLY_QUIT_SECONDS, ""},
};

static void wait_anew(struct courier *c, int64_t now_ms)
{
    int64_t seconds = entering[c->state].wait_seconds;
    /* While another address is left, this one must not keep all waiting. */
    if (c->state == COURIER_CONNECT && !c->is_last)
        seconds = CONNECT_NEXT_SECONDS;
    else if (c->state < COURIER_IDLE && !c->is_last)
        seconds = seconds < SETUP_NEXT_SECONDS ? seconds : SETUP_NEXT_SECONDS;
    c->link.deadline_ms = now_ms + seconds * 1000;
    /* A smarthost that takes a byte a minute makes progress for ever. */
    int64_t last_ms = c->d.began_ms + TRANSACTION_SECONDS * (int64_t)1000;
    if (c->d.id != QUEUE_NONE && c->link.deadline_ms > last_ms)
        c->link.deadline_ms = last_ms;
}

/* A state that sends speaks last: words that are here already answer nothing
 * that we said (two replies to one command, an injected one). */
static bool speaks_last(const struct courier *c, enum courier_state state)
{
    bool is_in_flight = state == COURIER_RCPT || state == COURIER_DATA;
    bool is_speaking = entering[state].send || entering[state].text;
    return is_speaking && !(is_in_flight && is_pipelining(c));
}

static void enter(struct courier *c, enum courier_state state, int64_t now_ms)
{
    c->state = state;
    reply_start(&c->reply);
    if (speaks_last(c, state) && buf_len(&c->link.in) > 0)
        c->is_out_of_step = true;
    else if (entering[state].send != NULL)
        entering[state].send(c);
    else if (entering[state].text != NULL)
        buf_puts(&c->link.out, entering[state].text);
    wait_anew(c, now_ms);
}

/* ---- A reply: what it means ---------------------------------------------- */

/* The message goes back, and the connection on to the next. */
static void finish(struct courier *c, bool needs_reset, int64_t now_ms)
{
    bool is_closing = c->reply.code == 421; /* RFC 5321 section 3.8 */
    if (is_closing && c->messages == 0) {
        /* Not even one message over a fresh connection: that is no fault of
         * the message, and the next would fare no better. */
        end_route(c, 0, "the smarthost is too busy", c->reply.text, now_ms);
        return;
    }
    give_back(c, fate_next_try_ms(c->d.id, now_ms));
    route_proved();
    c->messages++;
    if (is_closing)
        drop(c);
    else if (c->messages >= CONNECTION_MESSAGES_MAX)
        enter(c, COURIER_QUIT, now_ms);
    else
        enter(c, needs_reset ? COURIER_RSET : COURIER_IDLE, now_ms);
}

static void start_handshake(struct courier *c, int64_t now_ms)
{
    const struct settings *s = settings();
    const char *name =
        *s->smarthost_tls_name ? s->smarthost_tls_name : s->smarthost_name;
    if (link_start_tls(&c->link, name))
        enter(c, COURIER_HANDSHAKE, now_ms);
    else
        stumble(c, "no memory is left for TLS", now_ms);
}

static void on_greeting(struct courier *c, int64_t now_ms)
{
    if (reply_class(&c->reply) == 2)
        enter(c, COURIER_EHLO, now_ms);
    else
        stumble(c, c->reply.text, now_ms);
}

static void be_ready(struct courier *c, int64_t now_ms)
{
    char at[IP_ENDPOINT_BYTES];
    c->is_ready = true;
    route_ready(&c->at);
    log_line(LOG_AT_DEBUG, "out", "host=%s at=%s tls=%s auth=%s ready",
             route_smarthost(), ip_format_endpoint(&c->at, at),
             c->is_secure ? tls_version(c->link.tls) : "-",
             sasl_name(c->sasl.mechanism));
    enter(c, COURIER_IDLE, now_ms);
}

static void log_in(struct courier *c, int64_t now_ms)
{
    if (*settings()->smarthost_user == '\0')
        be_ready(c, now_ms);
    else if (chosen_mechanism(c) != SASL_NONE)
        enter(c, COURIER_AUTH, now_ms);
    else
        end_route(c, ROUTE_AUTH_SECONDS,
                  "the smarthost offers no login that we can use", "", now_ms);
}

static void on_ehlo(struct courier *c, int64_t now_ms)
{
    const struct settings *s = settings();
    bool needs_ehlo = s->smarthost_tls != TLS_NONE || *s->smarthost_user;
    if (reply_class(&c->reply) == 5 && !needs_ehlo)
        enter(c, COURIER_HELO, now_ms);
    else if (reply_class(&c->reply) != 2)
        stumble(c, c->reply.text, now_ms);
    else if (s->smarthost_tls != TLS_STARTTLS || c->is_secure)
        log_in(c, now_ms);
    else if (c->features & HAS_STARTTLS)
        enter(c, COURIER_STARTTLS, now_ms);
    else
        end_route(c, 0,
                  "the smarthost offers no STARTTLS (wrong port, or somebody "
                  "in between hides it); nothing is sent in clear",
                  "", now_ms);
}

static void on_helo(struct courier *c, int64_t now_ms)
{
    if (reply_class(&c->reply) == 2)
        be_ready(c, now_ms);
    else
        stumble(c, c->reply.text, now_ms);
}

/* What stands behind the 220 would be read as if it had come through TLS. A
 * whole reply or the start of one: the attempt is over (CVE-2021-38371). */
static void on_starttls(struct courier *c, int64_t now_ms)
{
    if (c->reply.code != 220)
        end_route(c, 0,
                  "the smarthost refuses STARTTLS; nothing is sent in clear",
                  c->reply.text, now_ms);
    else if (buf_len(&c->link.in) > 0)
        end_route(c, 0,
                  "somebody put words behind the reply to STARTTLS: an attack; "
                  "nothing is sent",
                  "", now_ms);
    else
        start_handshake(c, now_ms);
}

static void on_auth(struct courier *c, int64_t now_ms)
{
    const struct settings *s = settings();
    if (reply_class(&c->reply) == 2) {
        be_ready(c, now_ms);
        return;
    }
    if (c->reply.code == 334 && c->challenges++ < CHALLENGES_MAX &&
        sasl_answer(&c->sasl, s->smarthost_user, s->smarthost_password,
                    &c->link.out)) {
        reply_start(&c->reply);
        wait_anew(c, now_ms);
        return;
    }
    bool is_refused = reply_class(&c->reply) == 5;
    end_route(c, is_refused ? ROUTE_AUTH_SECONDS : 0,
              is_refused ? "the smarthost refuses our login: check "
                           "smarthost_user and the password"
                         : "the smarthost does not take our login now",
              c->reply.text, now_ms);
}

static void ask_next_recipient(struct courier *c, int64_t now_ms)
{
    if (delivery_next_open(c->d.id, &c->d.asked))
        enter(c, COURIER_RCPT, now_ms);
    else if (c->d.accepted > 0 || is_pipelining(c))
        enter(c, COURIER_DATA, now_ms);
    else
        finish(c, true, now_ms);
}

/* Replies that speak of us, not of the mail: a login is missing, or was
 * withdrawn. They hold the queue and bounce nothing. */
static bool is_about_login(struct courier *c, int64_t now_ms)
{
    int code = c->reply.code;
    if (c->d.is_mail_refused ||
        (code != 530 && code != 534 && code != 535 && code != 538))
        return false;
    end_route(c, ROUTE_AUTH_SECONDS, "the smarthost wants a login first",
              c->reply.text, now_ms);
    return true;
}

/* 421 in mid-transaction: whatever was still to come will not. */
static void be_turned_away(struct courier *c, int64_t now_ms)
{
    const struct reply *r = c->d.is_mail_refused ? &c->d.refusal : &c->reply;
    fate_settle_all(c->d.id, QUEUE_OPEN, fate_verdict(r), r->text, now_ms);
    finish(c, false, now_ms);
}

static void on_mail(struct courier *c, int64_t now_ms)
{
    bool is_good = reply_class(&c->reply) == 2;
    if (is_about_login(c, now_ms))
        return;
    if (c->reply.code == 421 && c->messages > 0) {
        c->d.has_reply = false; /* its fill of one connection: as if closed */
        stumble(c, c->reply.text, now_ms);
    } else if (c->reply.code == 421) {
        be_turned_away(c, now_ms);
    } else if (!is_good && !is_pipelining(c)) {
        fate_settle_all(c->d.id, QUEUE_OPEN, fate_verdict(&c->reply),
                        c->reply.text, now_ms);
        finish(c, true, now_ms);
    } else {
        /* Refused with the pipeline on its way: its replies must be read,
         * and only echo this one. */
        c->d.is_mail_refused = !is_good;
        c->d.refusal = c->reply;
        ask_next_recipient(c, now_ms);
    }
}

static void on_rcpt(struct courier *c, int64_t now_ms)
{
    bool is_good = reply_class(&c->reply) == 2;
    /* 552 to RCPT is the 452 of an older standard: RFC 5321 section
     * 4.5.3.1.10. */
    enum queue_verdict verdict =
        c->reply.code == 552 ? QUEUE_OPEN : fate_verdict(&c->reply);
    if (is_about_login(c, now_ms))
        return;
    if (c->reply.code == 421) {
        be_turned_away(c, now_ms);
        return;
    }
    if (is_pipelining(c) && c->d.replies_due-- == 0) {
        c->is_out_of_step = true; /* its RCPT has not even left */
        return;
    }
    if (!c->d.is_mail_refused && is_good) {
        c->d.accepted++;
        queue_settle(c->d.id, &c->d.asked, QUEUE_TAKEN);
    } else if (!c->d.is_mail_refused) {
        fate_settle(c->d.id, &c->d.asked, verdict, c->reply.text, now_ms);
    }
    ask_next_recipient(c, now_ms);
}

static void settle_taken(struct courier *c, int64_t now_ms)
{
    fate_settle_all(c->d.id, QUEUE_TAKEN, fate_verdict(&c->reply),
                    c->reply.text, now_ms);
}

static void on_data(struct courier *c, int64_t now_ms)
{
    if (is_about_login(c, now_ms))
        return;
    if (c->reply.code == 421) {
        be_turned_away(c, now_ms);
        return;
    }
    if (is_pipelining(c) && !c->d.has_sent_data) {
        c->is_out_of_step = true;
        return;
    }
    if (c->d.is_mail_refused)
        fate_settle_all(c->d.id, QUEUE_OPEN, fate_verdict(&c->d.refusal),
                        c->d.refusal.text, now_ms);
    if (c->reply.code == 354 && c->d.accepted > 0)
        enter(c, COURIER_BODY, now_ms);
    else if (c->reply.code == 354) /* nobody to send to: a lone dot, whose */
        enter(c, COURIER_DOT, now_ms); /* reply counts for nothing (RFC 2920) */
    else if (reply_class(&c->reply) < 4)
        stumble(c, "the smarthost is out of step: DATA needs a 354", now_ms);
    else {
        settle_taken(c, now_ms);
        finish(c, true, now_ms);
    }
}

/* A verdict in mid-message: it counts, but the rest of our bytes would be
 * read as commands, so the connection ends here. */
static void on_body(struct courier *c, int64_t now_ms)
{
    if (is_about_login(c, now_ms))
        return;
    if (reply_class(&c->reply) < 4) {
        stumble(c, "the smarthost replies before the message is over", now_ms);
        return;
    }
    settle_taken(c, now_ms);
    give_back(c, fate_next_try_ms(c->d.id, now_ms));
    drop(c);
}

static void on_dot(struct courier *c, int64_t now_ms)
{
    if (buf_len(&c->link.out) > 0) { /* the dot is still with us */
        on_body(c, now_ms);
        return;
    }
    if (is_about_login(c, now_ms))
        return;
    settle_taken(c, now_ms);
    finish(c, false, now_ms);
}

static void on_idle(struct courier *c, int64_t now_ms)
{
    /* A 421, or words that nobody asked for: out it goes. */
    stumble(c, c->reply.text, now_ms);
}

static void on_rset(struct courier *c, int64_t now_ms)
{
    if (reply_class(&c->reply) == 2)
        enter(c, COURIER_IDLE, now_ms);
    else
        drop(c);
}

static void (*const meaning[COURIER_STATES])(struct courier *c,
                                             int64_t now_ms) = {
    [COURIER_GREETING] = on_greeting, [COURIER_EHLO] = on_ehlo,
    [COURIER_HELO] = on_helo,         [COURIER_STARTTLS] = on_starttls,
    [COURIER_AUTH] = on_auth,         [COURIER_IDLE] = on_idle,
    [COURIER_MAIL] = on_mail,         [COURIER_RCPT] = on_rcpt,
    [COURIER_DATA] = on_data,         [COURIER_BODY] = on_body,
    [COURIER_DOT] = on_dot,           [COURIER_RSET] = on_rset,
    [COURIER_QUIT] = on_idle,
};

/* ---- Replies in ---------------------------------------------------------- */

/* A line of the EHLO reply, behind its code. */
static void note_keyword(struct courier *c, const char *line, size_t length)
{
    c->features |= delivery_feature(line, length);
    c->mechanisms |= sasl_offered(line, length);
}

/* One line of a reply. False: none is complete, or nobody is there any more
 * to read the next. */
static bool take_line(struct courier *c, int64_t now_ms)
{
    size_t length, whole;
    const char *line = buf_line(&c->link.in, &length, &whole);
    if (line == NULL && buf_room(&c->link.in) == 0) {
        stumble(c, "the smarthost sends endless lines", now_ms);
        return false;
    }
    if (line == NULL)
        return false;
    if (c->state == COURIER_EHLO && c->reply.lines > 0 && length > 4)
        note_keyword(c, line + 4, length - 4);
    enum reply_state state = reply_line(&c->reply, line, length);
    if (state == REPLY_BAD) {
        char text[120] = "no SMTP reply: ";
        size_t used = strlen(text), rest = sizeof text - used;
        snprintf(text + used, rest, "%.*s", (int)(length < 80 ? length : 80),
                 line);
        stumble(c, text, now_ms);
        return false;
    }
    buf_take(&c->link.in, whole);
    if (state == REPLY_MORE)
        return true;
    c->d.has_reply = true;
    bool may_ask_for_more =
        c->state == COURIER_AUTH || c->state == COURIER_DATA;
    if (reply_class(&c->reply) == 3 && !may_ask_for_more)
        c->is_out_of_step = true;
    else
        meaning[c->state](c, now_ms);
    if (c->is_out_of_step)
        stumble(c, R_OUT_OF_STEP, now_ms);
    return c->state != COURIER_VACANT && c->state != COURIER_HANDSHAKE;
}

/* ---- One connection's turn ----------------------------------------------- */

static void follow_link(struct courier *c, int64_t now_ms)
{
    bool is_implicit = settings()->smarthost_tls == TLS_IMPLICIT;
    if (c->link.step != LINK_UP)
        return;
    if (c->state == COURIER_CONNECT && is_implicit)
        start_handshake(c, now_ms);
    else if (c->state == COURIER_CONNECT)
        enter(c, COURIER_GREETING, now_ms);
    else if (c->state == COURIER_HANDSHAKE) {
        c->is_secure = true;
        enter(c, is_implicit ? COURIER_GREETING : COURIER_EHLO, now_ms);
    }
}

static void be_late(struct courier *c, int64_t now_ms)
{
    if (c->state == COURIER_IDLE)
        enter(c, COURIER_QUIT, now_ms);
    else
        stumble(c, entering[c->state].late, now_ms);
}

/* Moves bytes while the kernel takes them, a bounded number of times: then
 * the others have their turn, and what lies in the buffer brings us back. */
static void send_more(struct courier *c, int64_t now_ms)
{
    size_t before;
    for (int i = 0; i < FLUSHES_PER_TURN; i++) {
        if (c->state >= COURIER_MAIL && c->state <= COURIER_DATA &&
            is_pipelining(c))
            delivery_put_pipeline(&c->d, &c->link.out);
        if (c->state == COURIER_BODY && delivery_put_body(&c->d, &c->link.out))
            enter(c, COURIER_DOT, now_ms);
        if (c->is_out_of_step || c->link.out.overflow) {
            stumble(c, R_OUT_OF_STEP, now_ms);
            return;
        }
        before = buf_len(&c->link.out);
        if (i + 1 < FLUSHES_PER_TURN)
            link_flush(&c->link);
        if (c->state != COURIER_BODY || buf_len(&c->link.out) == before)
            return;
        wait_anew(c, now_ms);
    }
}

void courier_begin(struct courier *c, queue_id id, int64_t now_ms)
{
    if (fate_is_expired(id, now_ms)) {
        fate_give_up(id, now_ms);
        return;
    }
    queue_count_try(id);
    if ((queue_facts(id) & QUEUE_NEEDS_UTF8) && !(c->features & HAS_SMTPUTF8)) {
        fate_settle_all(
            id, QUEUE_OPEN, QUEUE_NEVER,
            "5.6.7 an address is not ASCII, and the smarthost has no "
            "SMTPUTF8",
            now_ms);
        queue_return(id, now_ms);
        return;
    }
    c->d = (struct delivery){.id = id, .began_ms = now_ms};
    enter(c, COURIER_MAIL, now_ms);
    send_more(c, now_ms);
}

void courier_run(struct courier *c, const struct poller *p, int64_t now_ms)
{
    size_t unsent = buf_len(&c->link.out);
    link_run(&c->link, p, true);
    if (c->state == COURIER_BODY && buf_len(&c->link.out) < unsent)
        wait_anew(c, now_ms);
    follow_link(c, now_ms);
    while (c->state != COURIER_VACANT && c->state != COURIER_HANDSHAKE &&
           take_line(c, now_ms))
        ;
    /* Only now, with its last words read, is a lost link lost. */
    if (c->state != COURIER_VACANT && c->link.has_ended) {
        stumble(c, c->link.why, now_ms);
        return;
    }
    if (c->state != COURIER_VACANT)
        send_more(c, now_ms);
    if (c->state != COURIER_VACANT && link_is_late(&c->link, now_ms))
        be_late(c, now_ms);
}

/* ---- Begin and end ------------------------------------------------------- */

void courier_init(const char *our_name)
{
    hostname = our_name;
}

void courier_start(struct courier *c, int fd, const struct ip_endpoint *at,
                   bool is_last, int64_t now_ms)
{
    link_open(&c->link, fd, true, c->in, sizeof c->in, c->out, sizeof c->out);
    c->at = *at;
    c->is_last = is_last;
    enter(c, COURIER_CONNECT, now_ms);
}

void courier_abandon(struct courier *c, int64_t now_ms)
{
    if (c->d.id != QUEUE_NONE) {
        c->d.has_reply = true; /* there is no fresh connection to come */
        lose_message(c, "lanpost stops", now_ms);
    }
    drop(c);
}

void courier_quit(struct courier *c, int64_t now_ms)
{
    if (c->state < COURIER_IDLE)
        drop(c);
    else if (c->d.id != QUEUE_NONE)
        c->messages = CONNECTION_MESSAGES_MAX; /* the one in hand is its last */
    else if (c->state != COURIER_QUIT)
        enter(c, COURIER_QUIT, now_ms);
}
