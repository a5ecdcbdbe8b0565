/* See login.h. */
#include "login.h"

#include <string.h>

#include "buf.h"
#include "clients.h"
#include "settings.h"

static const char R_GOOD[] = "235 2.7.0 You are logged in";
static const char R_WRONG[] = "535 5.7.8 Wrong user or password";
static const char R_CANCELLED[] = "501 5.7.0 Login cancelled";
static const char R_NO_BASE64[] = "501 5.5.2 That is no login in base64";
static const char R_NO_MECHANISM[] =
    "504 5.5.4 Only PLAIN and LOGIN are known here";
static const char R_WAIT[] =
    "454 4.7.0 Too many failed logins, try again in a minute";

static bool is_any_welcome(void)
{
    const struct settings *s = settings();
    return s->accept_any_auth == ANY_AUTH_YES ||
           (s->accept_any_auth == ANY_AUTH_AUTO && *s->users_file == '\0');
}

bool login_is_offered(void)
{
    return is_any_welcome() || users_count() > 0;
}

static enum login_state end_with(struct login *l, enum login_state state,
                                 const char *text, const char **reply)
{
    *reply = text;
    l->state = state;
    return state;
}

/* The wait is asked for here, too: many sessions may stand at their prompts
 * when the first of them fails. */
static enum login_state judge(struct login *l, int64_t now_ms,
                              const char **reply)
{
    if (is_any_welcome())
        return end_with(l, LOGIN_GOOD, R_GOOD, reply);
    if (clients_login_wait_ms(&l->client, now_ms) > 0)
        return end_with(l, LOGIN_REFUSED, R_WAIT, reply);
    l->is_known = true;
    users_check_start(&l->check, l->sasl.user, l->sasl.password);
    bytes_wipe(l->sasl.password, sizeof l->sasl.password);
    l->state = LOGIN_CHECK;
    return l->state;
}

enum login_state login_take(struct login *l, const char *line, int64_t now_ms,
                            const char **reply)
{
    switch (sasl_take(&l->sasl, line)) {
    case SASL_ASKS:
        return end_with(l, LOGIN_LINE, sasl_prompt(&l->sasl), reply);
    case SASL_GOT: return judge(l, now_ms, reply);
    case SASL_CANCELLED: return end_with(l, LOGIN_REFUSED, R_CANCELLED, reply);
    case SASL_BAD: break;
    }
    return end_with(l, LOGIN_REFUSED, R_NO_BASE64, reply);
}

enum login_state login_start(struct login *l, const char *arg,
                             const struct ip_address *client, int64_t now_ms,
                             const char **reply)
{
    size_t length = strcspn(arg, " \t");
    const char *initial = arg + length + strspn(arg + length, " \t");
    login_end(l);
    l->client = *client;
    if (!sasl_serve(&l->sasl, arg, length))
        return end_with(l, LOGIN_REFUSED, R_NO_MECHANISM, reply);
    if (clients_login_wait_ms(client, now_ms) > 0)
        return end_with(l, LOGIN_REFUSED, R_WAIT, reply);
    return login_take(l, *initial != '\0' ? initial : NULL, now_ms, reply);
}

enum login_state login_run(struct login *l, const char **reply)
{
    switch (users_check_run(&l->check)) {
    case USERS_BUSY: return LOGIN_CHECK;
    case USERS_GOOD: return end_with(l, LOGIN_GOOD, R_GOOD, reply);
    case USERS_BAD: break;
    }
    return end_with(l, LOGIN_BAD, R_WRONG, reply);
}

const char *login_user(const struct login *l)
{
    return l->sasl.user;
}

bool login_is_known(const struct login *l)
{
    return l->is_known;
}

const char *login_place(const struct login *l)
{
    if (l->sasl.mechanism == SASL_LOGIN)
        return l->sasl.step == 0 ? "the user prompt" : "the password prompt";
    return "the prompt of PLAIN";
}

void login_end(struct login *l)
{
    bytes_wipe(l, sizeof *l);
}
