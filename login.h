/* login: one device's login, from AUTH to its verdict (RFC 4954).
 *
 * Any credentials are good where accept_any_auth says so; else those of the
 * users_file. Who fails too often must wait before a password is looked at.
 * What comes back is the reply to send. Must never know: connections, the
 * rest of the dialogue. */
#ifndef LANPOST_LOGIN_H
#define LANPOST_LOGIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ip.h"
#include "sasl.h"
#include "users.h"

enum login_state {
    LOGIN_OFF,   /* none is under way; must be 0 */
    LOGIN_LINE,  /* a line of the device is due */
    LOGIN_CHECK, /* login_run() is due, once a turn */
    LOGIN_GOOD,
    LOGIN_REFUSED, /* not for its password: the exchange went wrong */
    LOGIN_BAD      /* wrong user or password */
};

struct login {
    enum login_state state;
    bool is_known;
    struct ip_address client;
    struct sasl_server sasl;
    struct users_check check;
};

/* Is AUTH of any use: are there users, or is anybody welcome? */
bool login_is_offered(void);

/* The argument of AUTH, from this client. Sets *reply, or leaves it while
 * the state is LOGIN_CHECK. */
enum login_state login_start(struct login *l, const char *arg,
                             const struct ip_address *client, int64_t now_ms,
                             const char **reply);
enum login_state login_take(struct login *l, const char *line, int64_t now_ms,
                            const char **reply);

/* A slice of the work on a password. */
enum login_state login_run(struct login *l, const char **reply);

/* Who logged in, once LOGIN_GOOD; whom it tried to be, once LOGIN_BAD. Peer
 * bytes; until the wipe. */
const char *login_user(const struct login *l);

/* Is the name one of the users_file, whose senders are bound? False where
 * anybody was welcome. */
bool login_is_known(const struct login *l);

/* Where it stands, in words for the log: "the user prompt". */
const char *login_place(const struct login *l);

/* Wipes it: nothing of a login outlives its verdict (CVE-2011-1720). */
void login_end(struct login *l);

#endif
