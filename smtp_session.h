/* smtp_session: one device's session: its state, and the doors through which
 * all that happens to it goes.
 *
 * A session walks: SESSION_HELO -> SESSION_READY -> SESSION_MAIL ->
 * SESSION_RCPT -> SESSION_BODY -> SESSION_VERDICT -> SESSION_READY ...;
 * SESSION_BYE from anywhere. Before it SESSION_SILENT and SESSION_TLS, aside
 * from SESSION_READY the login and STARTTLS. A state is what we wait for.
 * Must never know: verbs, other sessions, listeners, deadlines, smtp_out. */
#ifndef LANPOST_SMTP_SESSION_H
#define LANPOST_SMTP_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "config.h"
#include "intake.h"
#include "ip.h"
#include "link.h"
#include "login.h"
#include "promise.h"
#include "reason.h"
#include "value.h"

enum session_state {
    SESSION_VACANT,  /* free slot: must stay 0 */
    SESSION_SILENT,  /* no greeting yet: TLS or plain? The first byte tells */
    SESSION_TLS,     /* a handshake under way, or about to begin */
    SESSION_HELO,    /* greeting sent; EHLO or HELO due */
    SESSION_READY,   /* MAIL due */
    SESSION_LOGIN,   /* a line of the login due */
    SESSION_CHECK,   /* its password is being looked at */
    SESSION_MAIL,    /* the first RCPT due */
    SESSION_RCPT,    /* RCPT or DATA due */
    SESSION_BODY,    /* bytes until CRLF.CRLF */
    SESSION_VERDICT, /* its reply is held: the smarthost's word due */
    SESSION_BYE,     /* the last reply to be sent, then the end */
    SESSION_STATES
};

struct session {
    enum session_state state;
    struct ip_endpoint client;
    bool is_allowed;
    bool is_greeted;
    bool is_esmtp;
    bool has_fresh_tls; /* nothing was said in it yet */
    bool is_logged_in;
    bool is_known_user;    /* of the users_file: its senders are bound */
    bool is_skipping_line; /* until the end of a line that is too long */
    bool has_tried_auth;   /* what follows may be a password */
    bool has_told_refusal;
    bool has_told_full;    /* one log line for a thousand recipients */
    bool has_said_goodbye; /* our side of the connection is shut */
    char helo[256];
    char user[INTAKE_USER_BYTES]; /* any bytes; cut */
    unsigned errors, junk, bad_logins;
    int64_t since_ms;      /* of the state, or of the last command */
    int64_t progress_ms;   /* of the start, or of the last message taken */
    int64_t data_since_ms; /* of DATA */
    struct login login;    /* under way */
    struct intake t;       /* the message under way */
    int64_t ack_wait_ms;   /* of its listener */
    promise_ticket held;   /* an answer that is due */
    int64_t told_ms;
    bool was_shut_when_told; /* its side, before our answer */
    promise_ticket told;     /* one that was given, and may not have arrived */
    struct link link;
    uint8_t in[CLIENT_IN_BYTES], out[CLIENT_OUT_BYTES];
};

/* hostname (ours) must outlive the room. */
void session_init(const char *hostname);

/* From here on no session begins a new message. */
void session_stop_all(void);

/* The slot is vacant behind it: cancels what is under way, closes the link,
 * wipes the rest. */
void session_vacate(struct session *c, int64_t now_ms);

const char *session_client(const struct session *c); /* static */
const char *session_hostname(void);
bool session_is_stopping(void);

/* Can this one be offered TLS now? If all slots are taken, the wish is noted;
 * true once for its taker: somebody asked in vain. */
bool session_can_have_tls(void);
bool session_take_tls_wish(void);
bool session_is_in(const struct session *c, const struct value_networks *n);

/* ---- Doors: nothing else replies, changes the state or ends a session ---- */

void session_say(struct session *c, const char *reply);
void session_enter(struct session *c, enum session_state state, int64_t now_ms);

/* The last answer was heard. unsure: it is on its way still, as far as the
 * kernel knows. */
void session_hear(struct session *c);
bool session_is_unsure(const struct session *c);

/* The message under way is dropped; the session goes on. */
void session_end_transaction(struct session *c);

/* Ends a session once what was said has left. reply may be NULL. */
void session_hang_up(struct session *c, const char *reply, int64_t now_ms);

/* A 5yz to a command: logged with what was refused, and counted. */
void session_refuse(struct session *c, const char *reply, const char *what);

/* Why it could not send, for a person: reason.h. detail may be NULL. */
void session_tell(const struct session *c, enum reason reason,
                  const char *detail);

/* Replies that more than one room gives. */
extern const char session_full[], session_stopping[];

#endif
