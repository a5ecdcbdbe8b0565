/* sasl: one mechanism: credentials to next line, challenge to answer (RFC
 * 4954, RFC 4616; LOGIN as every server that offers it speaks it).
 *
 * Both sides. Must never know: connections, which passwords are right. */
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

/* ---- Towards the smarthost ----------------------------------------------- */

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

/* ---- Towards devices ----------------------------------------------------- */

#define SASL_TEXT_BYTES 256 /* of a user name, of a password, with a NUL */

/* One exchange, as above. Holds a password: sasl_wipe() it. */
struct sasl_server {
    enum sasl_mechanism mechanism;
    unsigned step;
    char user[SASL_TEXT_BYTES], password[SASL_TEXT_BYTES];
};

enum sasl_result {
    SASL_ASKS, /* sasl_prompt() is to be sent, and a line will come */
    SASL_GOT,  /* user and password are there */
    SASL_CANCELLED,
    SASL_BAD /* no base64, or not what the mechanism has */
};

/* mechanism: its name in any case. False: none of ours. */
bool sasl_serve(struct sasl_server *s, const char *mechanism, size_t length);

/* A line of the device; NULL: it sent none with AUTH. "=" is an empty one. */
enum sasl_result sasl_take(struct sasl_server *s, const char *line);

/* The whole reply, letter by letter as devices expect it: a Xerox hangs up on
 * any other wording of LOGIN's, and PLAIN's needs its blank. */
const char *sasl_prompt(const struct sasl_server *s);

void sasl_wipe(struct sasl_server *s);

#endif
