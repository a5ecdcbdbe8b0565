/* reason: why a device could not send, in plain words, with what to do about
 * it. One log line, and a note for whoever asks later.
 *
 * All such sentences stand in one table. Must never know: sessions, replies. */
#ifndef LANPOST_REASON_H
#define LANPOST_REASON_H

#include "ip.h"

enum reason {
    REASON_STRANGER,
    REASON_FOREIGN_PROTOCOL,
    REASON_TLS_HELLO,
    REASON_TLS_TOO_OLD,
    REASON_TLS_NO_CIPHER,
    REASON_TLS_DISTRUST,
    REASON_TLS_NOT,
    REASON_TLS_GONE,
    REASON_TLS_LEFT,
    REASON_TLS_SLOW,
    REASON_TLS_FAILED,
    REASON_TLS_FULL,
    REASON_TLS_NONE,
    REASON_TLS_PIPELINED,
    REASON_LOGIN_ABANDONED, /* detail: where */
    REASON_LOGIN_WRONG,     /* detail: who */
    REASON_LOGIN_MISSING,
    REASON_TLS_MISSING,
    REASON_SILENT,
    REASON_SILENT_IN_DATA,  /* detail: "1234 bytes" */
    REASON_HUNG_UP_IN_DATA, /* likewise */
    REASON_TOO_LARGE,       /* detail: size and limit */
    REASON_REFUSED,         /* detail: the reply */
    REASON_QUEUE_FULL,
    REASON_ROUTE_RESTS,
    REASON_TOO_MANY_RECIPIENTS,
    REASON_TOO_MANY_ERRORS,
    REASON_NO_MESSAGE,
    REASON_STOPPING,
    REASONS
};

/* helo: as the client said it, any bytes. detail: of ours, or NULL; it is put
 * behind the sentence. advice: NULL = the table's. */
void reason_tell(enum reason reason, const struct ip_address *client,
                 const char *helo, const char *detail, const char *advice);

/* The sentence, for tests and tables. */
const char *reason_why(enum reason reason);

#endif
