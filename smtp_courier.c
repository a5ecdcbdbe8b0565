/* See smtp_courier.h.
 *
 * A connection walks (the names without COURIER_):
 *
 *   CONNECT -> [HANDSHAKE] -> GREETING -> EHLO
 *     -> [STARTTLS -> HANDSHAKE -> EHLO] -> [AUTH] -> IDLE
 *   IDLE -> MAIL -> RCPT ... -> DATA -> BODY -> DOT -> IDLE, or RSET -> IDLE
 *   IDLE -> QUIT
 *
 * A state is what we wait for. Two tables face each other: entering[] here
 * says what a state sends, meaning[] in smtp_errand what a reply means in it.
 * Where the smarthost offers PIPELINING (RFC 2920), MAIL sends all RCPTs and
 * DATA along, with CHUNKING (RFC 3030) the message, too, and the states behind
 * it send nothing; the replies mean the same either way.
 *
 * One door per effect: courier_enter() changes a state and sends,
 * fate_settle() gives a recipient its verdict, courier_give_back() returns the
 * message, courier_drop() ends a connection. */
#include "smtp_courier.h"

#include <stdio.h>
#include <string.h>

#include "config.h"
#include "fate.h"
#include "log.h"
#include "route.h"
#include "settings.h"

static const char *hostname;

/* ---- Ends ---------------------------------------------------------------- */

/* Freed when all recipients are settled, else tried again at due_ms. */
void courier_give_back(struct courier *c, int64_t due_ms)
{
    if (c->d.id != QUEUE_NONE) {
        queue_land(c->d.id, true); /* who was in doubt has said so before */
        fate_return(c->d.id, due_ms);
    }
    memset(&c->d, 0, sizeof c->d);
}

void courier_drop(struct courier *c)
{
    if (c->is_ready)
        route_left();
    link_close(&c->link);
    memset(c, 0, sizeof *c);
}

static void log_doubt(const struct courier *c, const char *why)
{
    log_count(LOG_IN_DOUBT);
    log_line(LOG_AT_WARN, "out", "id=%08X host=%s in_doubt why=\"%s\"",
             (unsigned)c->d.id, route_smarthost(), why);
}

/* The connection died with a message in hand. One that died before any reply,
 * after messages that went well, was closed while idle: nothing was tried
 * yet, and a fresh one takes the message at once. */
static void lose_message(struct courier *c, const char *why, int64_t now_ms)
{
    /* In one flight somebody may have been accepted without our hearing. */
    bool may_have_taker =
        c->d.accepted > 0 ||
        (c->d.is_one_flight && c->state < COURIER_DOT && !c->d.is_mail_refused);
    bool has_dot_left =
        c->d.has_sent_dot && may_have_taker && buf_len(&c->link.out) == 0;
    char text[TLS_WHY_BYTES + 40];
    snprintf(text, sizeof text, "%s%s", why,
             has_dot_left ? " (may arrive twice)" : "");
    queue_land(c->d.id, !has_dot_left);
    if (has_dot_left)
        log_doubt(c, why);
    if (!c->d.has_reply && c->messages > 0) {
        log_line(LOG_AT_INFO, "out",
                 "id=%08X host=%s why=\"%s\" again=\"on a fresh connection\"",
                 (unsigned)c->d.id, route_smarthost(), text);
        courier_give_back(c, now_ms);
        return;
    }
    if (c->d.is_mail_refused)
        fate_settle_all(
            c->d.id, QUEUE_OPEN, fate_verdict(&c->d.refusal), c->d.refusal.text,
            advice_on_reply(ADVICE_AT_MAIL, c->d.refusal.text).text, now_ms);
    else
        fate_settle_all(c->d.id, QUEUE_OPEN, QUEUE_OPEN, text, NULL, now_ms);
    courier_give_back(c, fate_next_try_ms(c->d.id, now_ms));
}

static const enum advice_step steps[COURIER_STATES] = {
    [COURIER_CONNECT] = ADVICE_AT_CONNECT,
    [COURIER_HANDSHAKE] = ADVICE_AT_TLS,
    [COURIER_GREETING] = ADVICE_AT_GREETING,
    [COURIER_EHLO] = ADVICE_AT_EHLO,
    [COURIER_HELO] = ADVICE_AT_EHLO,
    [COURIER_STARTTLS] = ADVICE_AT_STARTTLS,
    [COURIER_AUTH] = ADVICE_AT_AUTH,
    [COURIER_IDLE] = ADVICE_AT_MAIL,
    [COURIER_MAIL] = ADVICE_AT_MAIL,
    [COURIER_RCPT] = ADVICE_AT_RCPT,
    [COURIER_DATA] = ADVICE_AT_DATA,
    [COURIER_BODY] = ADVICE_AT_DOT,
    [COURIER_DOT] = ADVICE_AT_DOT,
    [COURIER_RSET] = ADVICE_AT_MAIL,
    [COURIER_QUIT] = ADVICE_AT_MAIL,
};

struct advice courier_judge(const struct courier *c)
{
    return advice_on_reply(steps[c->state], c->reply.text);
}

static struct advice advice_on(const struct courier *c, const char *why)
{
    return why == c->reply.text
               ? courier_judge(c)
               : advice_on_fault(steps[c->state], c->at.port, why);
}

void courier_stumble(struct courier *c, const char *why, int64_t now_ms)
{
    char clean[TLS_WHY_BYTES];
    struct ip_endpoint at = c->at;
    struct advice a = advice_on(c, why);
    /* Ended before any word on any message: were that not the address's
     * fault, too, each waiting message would log in once, at once. Only one
     * that was kept warm and not needed ends for nobody's fault. */
    bool was_warm = c->state == COURIER_IDLE && now_ms > c->ready_ms;
    bool is_good = c->messages > 0 || was_warm ||
                   (c->state > COURIER_IDLE && c->d.has_reply);
    log_clean(clean, sizeof clean, why, strlen(why));
    if (c->d.id != QUEUE_NONE)
        lose_message(c, clean, now_ms);
    courier_drop(c);
    if (!is_good)
        route_address_failed(&at, clean, a.text, now_ms);
}

/* A message that met the fault waits behind those that did not: else one that
 * a smarthost answers so, for whatever reason, would keep all others back. */
void courier_end_route(struct courier *c, const char *why, const char *reply,
                       int64_t now_ms)
{
    char clean[REPLY_TEXT_BYTES], text[REPLY_TEXT_BYTES + 200];
    struct advice a = *reply != '\0' ? courier_judge(c) : advice_on(c, why);
    log_clean(clean, sizeof clean, reply, strlen(reply));
    snprintf(text, sizeof text, "%s%s%s", why, *clean ? ": " : "", clean);
    courier_give_back(
        c, c->d.id != QUEUE_NONE ? fate_next_try_ms(c->d.id, now_ms) : now_ms);
    courier_drop(c);
    route_failed(a.rest_s * (int64_t)1000, text, a.text, now_ms);
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

enum sasl_mechanism courier_mechanism(const struct courier *c)
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
    sasl_start(&c->sasl, courier_mechanism(c), settings()->smarthost_user,
               settings()->smarthost_password, &c->link.out);
}

bool courier_is_pipelining(const struct courier *c)
{
    return c->features & HAS_PIPELINING;
}

static void send_mail(struct courier *c)
{
    delivery_put_mail(&c->d, c->features, &c->link.out);
}

static void send_rcpt(struct courier *c)
{
    if (!courier_is_pipelining(c))
        delivery_put_rcpt(&c->d.asked, &c->link.out);
}

static void send_data(struct courier *c)
{
    if (!courier_is_pipelining(c))
        buf_puts(&c->link.out, "DATA\r\n");
}

static void send_dot(struct courier *c)
{
    if (c->d.is_one_flight)
        return;
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

void courier_wait_anew(struct courier *c, int64_t now_ms)
{
    int64_t seconds = entering[c->state].wait_seconds;
    if (c->state == COURIER_IDLE && queue_writing() > 0)
        seconds = CONNECTION_WARM_SECONDS; /* a device is about to need it */
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
    bool is_in_flight = state == COURIER_RCPT || state == COURIER_DATA ||
                        (state == COURIER_DOT && c->d.is_one_flight);
    bool is_speaking = entering[state].send || entering[state].text;
    return is_speaking && !(is_in_flight && courier_is_pipelining(c));
}

void courier_enter(struct courier *c, enum courier_state state, int64_t now_ms)
{
    c->state = state;
    reply_start(&c->reply);
    if (speaks_last(c, state) && buf_len(&c->link.in) > 0)
        c->is_out_of_step = true;
    else if (entering[state].send != NULL)
        entering[state].send(c);
    else if (entering[state].text != NULL)
        buf_puts(&c->link.out, entering[state].text);
    courier_wait_anew(c, now_ms);
}

const char *courier_late(const struct courier *c)
{
    return entering[c->state].late;
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
    courier_enter(c, COURIER_CONNECT, now_ms);
}

void courier_abandon(struct courier *c, int64_t now_ms)
{
    if (c->d.id != QUEUE_NONE) {
        c->d.has_reply = true; /* there is no fresh connection to come */
        lose_message(c, "lanpost stops", now_ms);
    }
    courier_drop(c);
}

void courier_quit(struct courier *c, int64_t now_ms)
{
    if (c->state < COURIER_IDLE)
        courier_drop(c);
    else if (c->d.id != QUEUE_NONE)
        c->messages = CONNECTION_MESSAGES_MAX; /* the one in hand is its last */
    else if (c->state != COURIER_QUIT)
        courier_enter(c, COURIER_QUIT, now_ms);
}
