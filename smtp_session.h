/* smtp_session: one device's dialogue, RFC 5321 from greeting to committed
 * message: verbs, replies, states.
 *
 * What may be promised to a device is the queue's to say. Must never know:
 * other sessions, listeners, deadlines, smtp_out. */
#ifndef LANPOST_SMTP_SESSION_H
#define LANPOST_SMTP_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "config.h"
#include "intake.h"
#include "ip.h"
#include "link.h"

enum session_state {
    SESSION_VACANT,  /* free slot: must stay 0 */
    SESSION_HELO,    /* greeting sent; EHLO or HELO due */
    SESSION_READY,   /* MAIL due */
    SESSION_MAIL,    /* the first RCPT due */
    SESSION_RCPT,    /* RCPT or DATA due */
    SESSION_BODY,    /* bytes until CRLF.CRLF */
    SESSION_VERDICT, /* the queue's word due */
    SESSION_BYE,     /* the last reply to be sent, then the end */
    SESSION_STATES
};

struct session {
    enum session_state state;
    struct ip_endpoint client;
    bool is_allowed;
    bool is_esmtp;
    bool is_skipping_line; /* until the end of a line that is too long */
    bool has_tried_auth;   /* what follows may be a password */
    bool has_told_refusal;
    bool has_told_full;    /* one log line for a thousand recipients */
    bool has_said_goodbye; /* our side of the connection is shut */
    char helo[256];
    unsigned errors, junk;
    int64_t since_ms;      /* of the state, or of the last command */
    int64_t progress_ms;   /* of the start, or of the last message taken */
    int64_t data_since_ms; /* of DATA */
    struct intake t;       /* the message under way */
    struct link link;
    uint8_t in[CLIENT_IN_BYTES], out[CLIENT_OUT_BYTES];
};

/* hostname (ours) must outlive the room. */
void session_init(const char *hostname);

/* From here on no session begins a new message. */
void session_stop_all(void);

/* Greets a client in a vacant slot; takes fd over. */
void session_start(struct session *c, int fd, const struct ip_endpoint *client,
                   int64_t now_ms);

/* What it can make use of now: bytes from the device; a turn without any. */
bool session_wants_input(const struct session *c);
bool session_has_work(const struct session *c);

/* One command, one stretch of a message, or one verdict. False: there was
 * nothing to do. */
bool session_act(struct session *c, int64_t now_ms);

/* Ends a session for one of these reasons, with its 421; the slot is freed by
 * its owner once what was said has left. */
enum session_end {
    SESSION_ENDS_GONE, /* nobody is there to be told */
    SESSION_ENDS_LATE,
    SESSION_ENDS_STOPPING
};
void session_end(struct session *c, enum session_end why, int64_t now_ms);

/* Cancels what is under way, closes the link, and makes the slot vacant. */
void session_vacate(struct session *c);

const char *session_client(const struct session *c); /* static */

#endif
