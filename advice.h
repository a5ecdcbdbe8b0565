/* advice: what a refusal or a fault at the smarthost means: whom it concerns,
 * how long to rest, and what a person can do about it, in one sentence.
 *
 * Two tables of the same form, one for replies and one for faults without a
 * reply. A row names steps of the dialogue, reply codes (or the smarthost's
 * port), enhanced status codes (RFC 3463) and a phrase, whatever of it is
 * needed; the first row that fits counts. docs/replies.md is the same for
 * people. Must never know: connections, the queue, the log. */
#ifndef LANPOST_ADVICE_H
#define LANPOST_ADVICE_H

#include <stddef.h>

/* Where in the dialogue it happened; bits, so that a row names several. */
enum advice_step {
    ADVICE_AT_NAME = 1,    /* the smarthost's name has no address */
    ADVICE_AT_CONNECT = 2, /* TCP */
    ADVICE_AT_TLS = 4,     /* handshake and certificate */
    ADVICE_AT_GREETING = 8,
    ADVICE_AT_EHLO = 16,
    ADVICE_AT_STARTTLS = 32,
    ADVICE_AT_AUTH = 64,
    ADVICE_AT_MAIL = 128,
    ADVICE_AT_RCPT = 256,
    ADVICE_AT_DATA = 512,
    ADVICE_AT_DOT = 1024
};

enum advice_scope {
    ADVICE_FOR_ROUTE,    /* every message waits, and none is blamed */
    ADVICE_FOR_MESSAGE,  /* this one alone: the reply code decides its fate */
    ADVICE_FOR_RECIPIENT /* likewise */
};

struct advice {
    enum advice_scope scope;
    int rest_s;       /* of the route, at least; 0: as usual */
    const char *text; /* static; NULL: there is nothing to be said */
};

/* reply: "535 5.7.139 words" or "535-5.7.139 words", any bytes but NUL, of any
 * length. 530, 534, 535 and 538 are about our login and for the route at any
 * step. What is in no row: up to AUTH, and 421 at any step, it is for the
 * route; at RCPT for the recipient; else for the message. */
struct advice advice_on_reply(enum advice_step step, const char *reply);

/* A fault without a reply: why is in our own plain words (of tls, dns, link,
 * strerror). Always for the route. port: of the smarthost. */
struct advice advice_on_fault(enum advice_step step, unsigned port,
                              const char *why);

/* The sentences of both tables, no two the same: for tests and documents. */
size_t advice_rows(void);
const char *advice_row_text(size_t row);

#endif
