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
}

void session_vacate(struct session *c)
{
    session_end_transaction(c);
    login_end(&c->login);
    link_close(&c->link);
    memset(c, 0, sizeof *c);
}
