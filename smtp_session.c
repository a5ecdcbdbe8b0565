/* See smtp_session.h. */
#include "smtp_session.h"

#include <string.h>

#include "log.h"
#include "settings.h"

const char session_full[] = "452 4.3.1 Queue full, try again later";
const char session_stopping[] = "421 4.3.2 Shutting down";

static const char *hostname;
static bool is_stopping;
static bool has_tls_wish; /* of one that found all slots taken */

const char *session_hostname(void)
{
    return hostname;
}

bool session_can_have_tls(void)
{
    has_tls_wish |= tls_serves() && !tls_can_serve();
    return tls_can_serve();
}

bool session_take_tls_wish(void)
{
    bool had_one = has_tls_wish;
    has_tls_wish = false;
    return had_one;
}

bool session_is_stopping(void)
{
    return is_stopping;
}

const char *session_client(const struct session *c)
{
    static char text[IP_TEXT_BYTES];
    return ip_format(&c->client.address, text);
}

void session_say(struct session *c, const char *reply)
{
    buf_puts(&c->link.out, reply);
    buf_puts(&c->link.out, "\r\n");
}

void session_enter(struct session *c, enum session_state state, int64_t now_ms)
{
    c->state = state;
    c->since_ms = now_ms;
}

void session_hear(struct session *c)
{
    promise_heard(c->told);
    c->told = 0;
}

static void log_unheard(const struct session *c, promise_ticket t)
{
    log_line(LOG_AT_WARN, "in",
             "id=%08X client=%s unheard why=\"%s\" advice=\"it may send the "
             "same again: that joins this one\"",
             (unsigned)promise_message(t), session_client(c),
             *c->link.why ? c->link.why : "its side was shut");
}

/* Whoever resets behind our answer is alive, and has mostly read it: some
 * cameras always leave so, at times before their acknowledgement. To take
 * their next alarm for a resend would lose it; a second copy only annoys. One
 * that had shut its side before was closed already, and never read it. */
bool session_is_unsure(const struct session *c)
{
    if (c->link.was_reset && !c->was_shut_when_told)
        return false;
    return promise_message(c->told) != QUEUE_NONE && link_has_unheard(&c->link);
}

/* A reply that the kernel could not get rid of was not heard; one that was
 * acknowledged was, however rudely the device left. */
static void lose(struct session *c, int64_t now_ms)
{
    if (promise_message(c->held) != QUEUE_NONE) {
        log_unheard(c, c->held);
        promise_unheard(c->held, now_ms);
        log_count(LOG_UNHEARD);
    }
    c->held = 0;
    if (session_is_unsure(c)) {
        log_unheard(c, c->told);
        promise_unheard(c->told, now_ms);
        log_count(LOG_UNHEARD);
        c->told = 0;
    }
    session_hear(c);
}

void session_end_transaction(struct session *c)
{
    intake_cancel(&c->t);
    c->has_told_full = false;
}

/* Ends a client once what was said has left. reply may be NULL. */
void session_hang_up(struct session *c, const char *reply, int64_t now_ms)
{
    if (c->state == SESSION_BYE)
        return;
    if (reply != NULL && c->link.step == LINK_UP)
        session_say(c, reply); /* in mid-handshake there is nobody to hear it */
    session_end_transaction(c);
    login_end(&c->login);
    session_enter(c, SESSION_BYE, now_ms);
}

void session_tell(const struct session *c, enum reason reason,
                  const char *detail)
{
    reason_tell(reason, &c->client.address, c->helo, detail, NULL);
}

/* A 5yz to a command: logged with what was refused, and counted. */
void session_refuse(struct session *c, const char *reply, const char *what)
{
    char clean[128];
    session_say(c, reply);
    c->errors++;
    log_clean(clean, sizeof clean, what, strlen(what));
    log_line(LOG_AT_INFO, "in", "client=%s refused reply=\"%s\" command=\"%s\"",
             session_client(c), reply, clean);
}

bool session_is_in(const struct session *c, const struct value_networks *n)
{
    return ip_in_any(&c->client.address, n->items, n->count);
}

void session_init(const char *our_name)
{
    hostname = our_name;
    is_stopping = false;
}

void session_stop_all(void)
{
    is_stopping = true;
    promise_stop_all();
}

void session_vacate(struct session *c, int64_t now_ms)
{
    lose(c, now_ms);
    session_end_transaction(c);
    login_end(&c->login);
    link_close(&c->link);
    memset(c, 0, sizeof *c);
}
