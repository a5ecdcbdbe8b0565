/* sasl: one mechanism: credentials to next line, challenge to answer (RFC
 * 4954, RFC 4616; LOGIN as every server that offers it speaks it).
 *
 * The client side. Must never know: connections. */
#ifndef LANPOST_SASL_H
#define LANPOST_SASL_H

#include <stdbool.h>
#include <stddef.h>

#include "buf.h"

enum sasl_mechanism {
    SASL_NONE,
    SASL_PLAIN,
    SASL_LOGIN,
    SASL_MECHANISMS
};

#define SASL_BIT(mechanism) (1u << (mechanism))

/* The mechanisms named in an AUTH line of EHLO ("AUTH PLAIN LOGIN" or the old
 * "AUTH=LOGIN"), as SASL_BITs; 0 when the line is no AUTH line. */
unsigned sasl_offered(const char *line, size_t length);

/* The best one that is offered; wanted = SASL_NONE: any. SASL_NONE when
 * nothing fits. */
enum sasl_mechanism sasl_choose(unsigned offered, enum sasl_mechanism wanted);

const char *sasl_name(enum sasl_mechanism mechanism);

/* One exchange; zero is its start, and each login takes a fresh one (a state
 * used again was CVE-2011-1720). */
struct sasl {
    enum sasl_mechanism mechanism;
    unsigned step;
};

/* Puts the first line, "AUTH ..." with CRLF. Overflow of out = too long. */
void sasl_start(struct sasl *s, enum sasl_mechanism mechanism, const char *user,
                const char *password, struct buf *out);

/* Puts the answer to a 334. False: the exchange asks for more than the
 * mechanism has, the server is out of step. */
bool sasl_answer(struct sasl *s, const char *user, const char *password,
                 struct buf *out);

#endif
