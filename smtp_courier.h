/* smtp_courier: one connection to the smarthost, the client side of RFC 5321
 * from connect to QUIT.
 *
 * Reports to the route what became of an address, and to the queue what
 * became of a message. Must never know: other connections, smtp_session. */
#ifndef LANPOST_SMTP_COURIER_H
#define LANPOST_SMTP_COURIER_H

#include <stdbool.h>
#include <stdint.h>

#include "config.h"
#include "delivery.h"
#include "ip.h"
#include "link.h"
#include "reply.h"
#include "sasl.h"

struct poller;

enum courier_state {
    COURIER_VACANT, /* free slot: must stay 0 */
    COURIER_CONNECT,
    COURIER_HANDSHAKE,
    COURIER_GREETING,
    COURIER_EHLO,
    COURIER_HELO,
    COURIER_STARTTLS,
    COURIER_AUTH,
    COURIER_IDLE, /* nothing due; ready for a message */
    COURIER_MAIL,
    COURIER_RCPT,
    COURIER_DATA,
    COURIER_BODY, /* the smarthost to take our bytes */
    COURIER_DOT,  /* the verdict; once the dot has left, we are in doubt */
    COURIER_RSET,
    COURIER_QUIT,
    COURIER_STATES
};

struct courier {
    enum courier_state state;
    struct link link;
    struct ip_endpoint at;
    struct reply reply;
    struct sasl sasl;
    unsigned challenges;
    unsigned features;   /* delivery_feature bits */
    unsigned mechanisms; /* SASL_BITs offered */
    unsigned messages;   /* given back over this connection */
    bool is_last;        /* address of its round; else the next may be better */
    bool is_secure;      /* TLS is up and verified */
    bool is_ready;       /* logged in; the route counts on it */
    bool is_out_of_step; /* words came that nobody asked for */
    struct delivery d;
    uint8_t in[CONNECTION_IN_BYTES], out[CONNECTION_OUT_BYTES];
};

/* hostname (our EHLO name) must outlive the room. */
void courier_init(const char *hostname);

/* Takes over an fd that is connecting to at; a vacant courier. */
void courier_start(struct courier *c, int fd, const struct ip_endpoint *at,
                   bool is_last, int64_t now_ms);

/* Takes a borrowed message, while COURIER_IDLE. */
void courier_begin(struct courier *c, queue_id id, int64_t now_ms);

/* Acts on what came and on what is overdue; it may be vacant afterwards. */
void courier_run(struct courier *c, const struct poller *p, int64_t now_ms);

/* The program ends: gives the message in hand back, in doubt or not. */
void courier_abandon(struct courier *c, int64_t now_ms);

/* Says QUIT when idle, or behind the message in hand; ends at once when not
 * yet ready. */
void courier_quit(struct courier *c, int64_t now_ms);

#endif
