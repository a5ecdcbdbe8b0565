/* smtp_courier: one connection to the smarthost: its state, and the doors
 * through which all that happens to it goes.
 *
 * Reports to the route what became of an address, and to the queue what
 * became of a message. Must never know: what a reply means, other connections,
 * smtp_session. */
#ifndef LANPOST_SMTP_COURIER_H
#define LANPOST_SMTP_COURIER_H

#include <stdbool.h>
#include <stdint.h>

#include "advice.h"
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
    int64_t ready_ms;    /* of the login */
    bool is_last;        /* address of its round; else the next may be better */
    bool is_secure;      /* TLS is up and verified */
    bool is_ready;       /* logged in; the route counts on it */
    bool has_idled;      /* for a device that was still writing, once */
    bool is_out_of_step; /* words came that nobody asked for */
    struct delivery d;
    uint8_t in[CONNECTION_IN_BYTES], out[CONNECTION_OUT_BYTES];
};

/* hostname (our EHLO name) must outlive the room. */
void courier_init(const char *hostname);

/* Takes over an fd that is connecting to at; a vacant courier. */
void courier_start(struct courier *c, int fd, const struct ip_endpoint *at,
                   bool is_last, int64_t now_ms);

/* The program ends: gives the message in hand back, in doubt or not. */
void courier_abandon(struct courier *c, int64_t now_ms);

/* Says QUIT when idle, or behind the message in hand; ends at once when not
 * yet ready. */
void courier_quit(struct courier *c, int64_t now_ms);

/* ---- Doors: nothing else gives a message back or ends a connection ------- */

/* Waits for what comes in a state, and sends what it sends. wait_anew: for as
 * long again, after progress. */
void courier_enter(struct courier *c, enum courier_state state, int64_t now_ms);
void courier_wait_anew(struct courier *c, int64_t now_ms);

/* The message in hand, if any, goes back: freed when all its recipients are
 * settled, else tried again at due_ms. */
void courier_give_back(struct courier *c, int64_t due_ms);

/* The slot is vacant behind it. */
void courier_drop(struct courier *c);

/* A connection that cannot go on. Whom that concerns depends on how far it
 * was: the message in hand, the address, or nobody. why: any bytes. */
void courier_stumble(struct courier *c, const char *why, int64_t now_ms);

/* The smarthost will not work for us at any address. reply: "" = it said
 * nothing. */
void courier_end_route(struct courier *c, const char *why, const char *reply,
                       int64_t now_ms);

/* What the reply at hand means for whom, by the step that it answers. */
struct advice courier_judge(const struct courier *c);

/* What did not come in time. */
const char *courier_late(const struct courier *c);
bool courier_is_pipelining(const struct courier *c);
enum sasl_mechanism courier_mechanism(const struct courier *c);

#endif
