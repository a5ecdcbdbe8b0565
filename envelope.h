/* envelope: what a device says in MAIL and RCPT: read, completed or rewritten
 * as the settings want, or refused with the reply that says why.
 *
 * Must never know: connections, the queue. */
#ifndef LANPOST_ENVELOPE_H
#define LANPOST_ENVELOPE_H

#include <stdint.h>

#include "path.h"
#include "rewrite.h"

/* The arguments of MAIL and RCPT. NULL: good; else the reply that refuses.
 * size: what was declared, else it stays as it is. */
const char *envelope_take_mail(const char *arg, const struct rewrite_who *who,
                               struct path *from, uint64_t *size);
const char *envelope_take_rcpt(const char *arg, struct path *to);

/* One of the replies above: more than message_max_bytes was declared. */
extern const char envelope_too_big[];

/* What a person can do about a reply above; NULL: nothing but fix it there. */
const char *envelope_advice(const char *reply);

#endif
