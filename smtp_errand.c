/* See smtp_errand.h.
 *
 * The smarthost is hostile until proven slow: words that nobody asked for end
 * the connection, every state has its deadline, and a reply is bounded in
 * lines and bytes. */
#include "smtp_errand.h"

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

/* ---- A reply: what it means ---------------------------------------------- */

/* The message goes back, and the connection on to the next. */
static void finish(struct courier *c, bool needs_reset, int64_t now_ms)
{
    bool is_closing = c->reply.code == 421; /* RFC 5321 section 3.8 */
    if (is_closing && c->messages == 0) {
        /* Not even one message over a fresh connection: that is no fault of
         * the message, and the next would fare no better. */
        courier_end_route(c, "the smarthost is too busy", c->reply.text,
                          now_ms);
        return;
    }
    courier_give_back(c, fate_next_try_ms(c->d.id, now_ms));
    route_proved();
    c->messages++;
    if (is_closing)
        courier_drop(c);
    else if (c->messages >= CONNECTION_MESSAGES_MAX)
        courier_enter(c, COURIER_QUIT, now_ms);
    else
        courier_enter(c, needs_reset ? COURIER_RSET : COURIER_IDLE, now_ms);
}

static void start_handshake(struct courier *c, int64_t now_ms)
{
    const struct settings *s = settings();
    const char *name =
        *s->smarthost_tls_name ? s->smarthost_tls_name : s->smarthost_name;
    if (link_start_tls(&c->link, name))
        courier_enter(c, COURIER_HANDSHAKE, now_ms);
    else
        courier_stumble(c, "no memory is left for TLS", now_ms);
}

static void on_greeting(struct courier *c, int64_t now_ms)
{
    if (reply_class(&c->reply) == 2)
        courier_enter(c, COURIER_EHLO, now_ms);
    else
        courier_stumble(c, c->reply.text, now_ms);
}

static void be_ready(struct courier *c, int64_t now_ms)
{
    char at[IP_ENDPOINT_BYTES];
    c->is_ready = true;
    c->ready_ms = now_ms;
    route_ready(&c->at);
    log_line(LOG_AT_DEBUG, "out", "host=%s at=%s tls=%s auth=%s ready",
             route_smarthost(), ip_format_endpoint(&c->at, at),
             c->is_secure ? tls_version(c->link.tls) : "-",
             sasl_name(c->sasl.mechanism));
    courier_enter(c, COURIER_IDLE, now_ms);
}

static void log_in(struct courier *c, int64_t now_ms)
{
    if (*settings()->smarthost_user == '\0')
        be_ready(c, now_ms);
    else if (courier_mechanism(c) != SASL_NONE)
        courier_enter(c, COURIER_AUTH, now_ms);
    else
        courier_end_route(c, "the smarthost offers no login that we can use",
                          "", now_ms);
}

static void on_ehlo(struct courier *c, int64_t now_ms)
{
    const struct settings *s = settings();
    bool needs_ehlo = s->smarthost_tls != TLS_NONE || *s->smarthost_user;
    if (reply_class(&c->reply) == 5 && !needs_ehlo)
        courier_enter(c, COURIER_HELO, now_ms);
    else if (reply_class(&c->reply) != 2)
        courier_stumble(c, c->reply.text, now_ms);
    else if (s->smarthost_tls != TLS_STARTTLS || c->is_secure)
        log_in(c, now_ms);
    else if (c->features & HAS_STARTTLS)
        courier_enter(c, COURIER_STARTTLS, now_ms);
    else
        courier_end_route(
            c,
            "the smarthost offers no STARTTLS (wrong port, or somebody "
            "in between hides it); nothing is sent in clear",
            "", now_ms);
}

static void on_helo(struct courier *c, int64_t now_ms)
{
    if (reply_class(&c->reply) == 2)
        be_ready(c, now_ms);
    else
        courier_stumble(c, c->reply.text, now_ms);
}

/* What stands behind the 220 would be read as if it had come through TLS. A
 * whole reply or the start of one: the attempt is over (CVE-2021-38371). */
static void on_starttls(struct courier *c, int64_t now_ms)
{
    if (c->reply.code != 220)
        courier_end_route(
            c, "the smarthost refuses STARTTLS; nothing is sent in clear",
            c->reply.text, now_ms);
    else if (buf_len(&c->link.in) > 0)
        courier_end_route(
            c,
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
        courier_wait_anew(c, now_ms);
        return;
    }
    bool is_refused = reply_class(&c->reply) == 5;
    courier_end_route(c,
                      is_refused ? "the smarthost refuses our login: check "
                                   "smarthost_user and the password"
                                 : "the smarthost does not take our login now",
                      c->reply.text, now_ms);
}

static void end_route(struct courier *c, const struct reply *r, int64_t now_ms)
{
    struct reply words = *r;
    c->reply = words;
    courier_end_route(c, "the smarthost takes no mail from us now", words.text,
                      now_ms);
}

static void ask_next_recipient(struct courier *c, int64_t now_ms)
{
    if (delivery_next_open(c->d.id, &c->d.asked))
        courier_enter(c, COURIER_RCPT, now_ms);
    else if (c->d.has_route_fault && c->d.accepted == 0)
        end_route(c, &c->d.refusal, now_ms);
    else if (c->d.is_one_flight)
        courier_enter(c, COURIER_DOT, now_ms);
    else if (c->d.accepted > 0 || courier_is_pipelining(c))
        courier_enter(c, COURIER_DATA, now_ms);
    else
        finish(c, true, now_ms);
}

/* Replies that speak of us or of the smarthost, not of the mail: a login that
 * is missing, a pace that is too fast, a closed account. They hold the queue
 * and bounce nothing. 421 has ways of its own: it may be the end of this one
 * connection alone. */
static bool is_for_route(struct courier *c, int64_t now_ms)
{
    if (reply_class(&c->reply) < 4 || c->d.is_mail_refused ||
        c->reply.code == 421 || courier_judge(c).scope != ADVICE_FOR_ROUTE)
        return false;
    end_route(c, &c->reply, now_ms);
    return true;
}

/* In one flight the message is on its way already, and others may have been
 * accepted: it ends the route only when nobody was. */
static bool is_route_fault_in_flight(struct courier *c)
{
    if (reply_class(&c->reply) < 4 || !c->d.is_one_flight ||
        c->d.is_mail_refused || c->reply.code == 421 ||
        courier_judge(c).scope != ADVICE_FOR_ROUTE)
        return false;
    c->d.has_route_fault = true;
    c->d.refusal = c->reply;
    return true;
}

static void settle(struct courier *c, enum queue_verdict was, int64_t now_ms)
{
    fate_settle_all(c->d.id, was, fate_verdict(&c->reply), c->reply.text,
                    courier_judge(c).text, now_ms);
}

static void settle_refused_mail(struct courier *c, int64_t now_ms)
{
    const struct reply *r = &c->d.refusal;
    fate_settle_all(c->d.id, QUEUE_OPEN, fate_verdict(r), r->text,
                    advice_on_reply(ADVICE_AT_MAIL, r->text).text, now_ms);
}

/* 421 in mid-transaction: whatever was still to come will not. */
static void be_turned_away(struct courier *c, int64_t now_ms)
{
    if (c->d.is_mail_refused)
        settle_refused_mail(c, now_ms);
    else
        settle(c, QUEUE_OPEN, now_ms);
    finish(c, false, now_ms);
}

static void on_mail(struct courier *c, int64_t now_ms)
{
    bool is_good = reply_class(&c->reply) == 2;
    if (is_for_route(c, now_ms))
        return;
    if (c->reply.code == 421 && c->messages > 0) {
        c->d.has_reply = false; /* its fill of one connection: as if closed */
        c->d.is_mail_refused = true; /* and so is what flew behind it */
        courier_stumble(c, c->reply.text, now_ms);
    } else if (c->reply.code == 421) {
        be_turned_away(c, now_ms);
    } else if (!is_good && !courier_is_pipelining(c)) {
        settle(c, QUEUE_OPEN, now_ms);
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
    bool is_in_flight = is_route_fault_in_flight(c);
    if (!is_in_flight && is_for_route(c, now_ms))
        return;
    if (c->reply.code == 421) {
        be_turned_away(c, now_ms);
        return;
    }
    if (courier_is_pipelining(c) && c->d.replies_due-- == 0) {
        c->is_out_of_step = true; /* its RCPT has not even left */
        return;
    }
    if (is_in_flight) {
        ask_next_recipient(c, now_ms);
        return;
    }
    if (!c->d.is_mail_refused && is_good) {
        c->d.accepted++;
        queue_settle(c->d.id, &c->d.asked, QUEUE_TAKEN);
    } else if (!c->d.is_mail_refused) {
        fate_settle(c->d.id, &c->d.asked, verdict, c->reply.text,
                    courier_judge(c).text, now_ms);
    }
    ask_next_recipient(c, now_ms);
}

static void settle_taken(struct courier *c, int64_t now_ms)
{
    settle(c, QUEUE_TAKEN, now_ms);
}

static void on_data(struct courier *c, int64_t now_ms)
{
    if (is_for_route(c, now_ms))
        return;
    if (c->reply.code == 421) {
        be_turned_away(c, now_ms);
        return;
    }
    if (courier_is_pipelining(c) && !c->d.has_sent_data) {
        c->is_out_of_step = true;
        return;
    }
    if (c->d.is_mail_refused)
        settle_refused_mail(c, now_ms);
    if (c->reply.code == 354 && c->d.accepted > 0)
        courier_enter(c, COURIER_BODY, now_ms);
    else if (c->reply.code == 354) /* nobody to send to: a lone dot, whose */
        courier_enter(c, COURIER_DOT,
                      now_ms); /* reply counts for nothing (RFC 2920) */
    else if (reply_class(&c->reply) < 4)
        courier_stumble(c, "the smarthost is out of step: DATA needs a 354",
                        now_ms);
    else {
        settle_taken(c, now_ms);
        finish(c, true, now_ms);
    }
}

/* A verdict in mid-message: it counts, but the rest of our bytes would be
 * read as commands, so the connection ends here. */
static void on_body(struct courier *c, int64_t now_ms)
{
    if (is_for_route(c, now_ms))
        return;
    if (reply_class(&c->reply) < 4) {
        courier_stumble(c, "the smarthost replies before the message is over",
                        now_ms);
        return;
    }
    if (c->d.is_mail_refused)
        settle_refused_mail(c, now_ms);
    else
        settle_taken(c, now_ms);
    courier_give_back(c, fate_next_try_ms(c->d.id, now_ms));
    courier_drop(c);
}

static void on_dot(struct courier *c, int64_t now_ms)
{
    bool has_takers = c->d.accepted > 0;
    if (!c->d.has_sent_dot || buf_len(&c->link.out) > 0) { /* it is with us */
        on_body(c, now_ms);
        return;
    }
    if (has_takers && is_for_route(c, now_ms))
        return;
    queue_land(c->d.id, true);
    if (c->d.is_mail_refused && c->d.is_one_flight)
        settle_refused_mail(c, now_ms);
    else
        settle_taken(c, now_ms);
    finish(c, c->d.is_one_flight && !has_takers, now_ms);
}

static void on_idle(struct courier *c, int64_t now_ms)
{
    /* A 421, or words that nobody asked for: out it goes. */
    courier_stumble(c, c->reply.text, now_ms);
}

static void on_rset(struct courier *c, int64_t now_ms)
{
    if (reply_class(&c->reply) == 2)
        courier_enter(c, COURIER_IDLE, now_ms);
    else
        courier_drop(c);
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
        courier_stumble(c, "the smarthost sends endless lines", now_ms);
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
        courier_stumble(c, text, now_ms);
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
        courier_stumble(c, R_OUT_OF_STEP, now_ms);
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
        courier_enter(c, COURIER_GREETING, now_ms);
    else if (c->state == COURIER_HANDSHAKE) {
        c->is_secure = true;
        courier_enter(c, is_implicit ? COURIER_GREETING : COURIER_EHLO, now_ms);
    }
}

static void be_late(struct courier *c, int64_t now_ms)
{
    bool is_needed = queue_writing() > 0 && !c->has_idled;
    if (c->state == COURIER_IDLE && is_needed) {
        courier_wait_anew(c, now_ms);
        c->has_idled = true;
    } else if (c->state == COURIER_IDLE)
        courier_enter(c, COURIER_QUIT, now_ms);
    else
        courier_stumble(c, courier_late(c), now_ms);
}

static bool has_chunk_left(const struct courier *c)
{
    return c->d.is_one_flight && c->d.has_sent_data && !c->d.has_sent_dot;
}

/* Moves bytes while the kernel takes them, a bounded number of times: then
 * the others have their turn, and what lies in the buffer brings us back. */
static void send_more(struct courier *c, int64_t now_ms)
{
    size_t before;
    for (int i = 0; i < FLUSHES_PER_TURN; i++) {
        if (c->state >= COURIER_MAIL && c->state <= COURIER_DATA &&
            courier_is_pipelining(c))
            delivery_put_pipeline(&c->d, &c->link.out);
        if (c->state == COURIER_BODY &&
            delivery_put_body(&c->d, &c->link.out) && queue_launch(c->d.id))
            courier_enter(c, COURIER_DOT, now_ms);
        if (c->is_out_of_step || c->link.out.overflow) {
            courier_stumble(c, R_OUT_OF_STEP, now_ms);
            return;
        }
        bool is_chunk = has_chunk_left(c);
        if (is_chunk && delivery_put_chunk(&c->d, &c->link.out))
            queue_launch(c->d.id);
        before = buf_len(&c->link.out);
        if (i + 1 < FLUSHES_PER_TURN)
            link_flush(&c->link);
        if ((c->state != COURIER_BODY && !is_chunk) ||
            buf_len(&c->link.out) == before)
            return;
        courier_wait_anew(c, now_ms);
    }
}

void errand_begin(struct courier *c, queue_id id, int64_t now_ms)
{
    if (fate_is_expired(id, now_ms)) {
        fate_give_up(id, now_ms);
        return;
    }
    queue_count_try(id);
    if ((queue_facts(id) & QUEUE_NEEDS_UTF8) && !(c->features & HAS_SMTPUTF8)) {
        fate_settle_all(
            id, QUEUE_OPEN, QUEUE_NEVER,
            "550 5.6.7 an address is not ASCII, and the smarthost has no "
            "SMTPUTF8",
            NULL, now_ms);
        fate_return(id, now_ms);
        return;
    }
    c->has_idled = false;
    c->d = (struct delivery){.id = id, .began_ms = now_ms};
    courier_enter(c, COURIER_MAIL, now_ms);
    send_more(c, now_ms);
}

/* Its device was told to send it again: not another byte of it. Half a message
 * cannot be taken back but by hanging up. */
static void be_withdrawn(struct courier *c, int64_t now_ms)
{
    log_line(LOG_AT_INFO, "out", "id=%08X withdrawn", (unsigned)c->d.id);
    courier_give_back(c, now_ms);
    courier_drop(c);
}

void errand_run(struct courier *c, const struct poller *p, int64_t now_ms)
{
    size_t unsent = buf_len(&c->link.out);
    /* The device that it was kept warm for has gone. */
    if (c->state == COURIER_IDLE && queue_writing() == 0 &&
        c->link.deadline_ms > now_ms + CONNECTION_IDLE_SECONDS * 1000)
        courier_wait_anew(c, now_ms);
    if (c->d.id != QUEUE_NONE && queue_is_withdrawn(c->d.id)) {
        be_withdrawn(c, now_ms);
        return;
    }
    link_run(&c->link, p, true);
    if (c->state == COURIER_BODY && buf_len(&c->link.out) < unsent)
        courier_wait_anew(c, now_ms);
    follow_link(c, now_ms);
    while (c->state != COURIER_VACANT && c->state != COURIER_HANDSHAKE &&
           take_line(c, now_ms))
        ;
    /* Only now, with its last words read, is a lost link lost. */
    if (c->state != COURIER_VACANT && c->link.has_ended) {
        courier_stumble(c, c->link.why, now_ms);
        return;
    }
    if (c->state != COURIER_VACANT)
        send_more(c, now_ms);
    if (c->state != COURIER_VACANT && link_is_late(&c->link, now_ms))
        be_late(c, now_ms);
}
