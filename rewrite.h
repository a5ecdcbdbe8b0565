/* rewrite: which sender and which recipients a mail may have: completes,
 * replaces or refuses addresses, as the settings say.
 *
 * The same word holds for the envelope and for the From field, so that a
 * smarthost which compares them sees one sender. Pure but for the settings
 * and users that it reads. Must never know: replies, header lines. */
#ifndef LANPOST_REWRITE_H
#define LANPOST_REWRITE_H

#include <stdbool.h>

#include "ip.h"
#include "path.h"

/* Who sends. user: as logged in by the users_file, else "". */
struct rewrite_who {
    struct ip_address client;
    const char *user;
};

enum rewrite_verdict {
    REWRITE_KEPT,
    REWRITE_CHANGED,
    REWRITE_HALF,     /* no domain, and nothing to complete it with */
    REWRITE_FOREIGN,  /* outside sender_domains, and no sender to replace it */
    REWRITE_FORBIDDEN /* not one that this user may send as */
};

/* rewrite_from, sender_rewrite = always, default_domain, sender_rewrite =
 * unqualified and sender_domains, in this order; then the user's own list.
 * The null path is kept unless all mail of the client gets one sender. */
enum rewrite_verdict rewrite_sender(const struct rewrite_who *who,
                                    struct path *from);

/* A sender that cannot be read at all: false, unless the settings give it
 * another. */
bool rewrite_unreadable(const struct rewrite_who *who, struct path *from);

/* rewrite_to, <postmaster>, then default_domain and rewrite_to again; one
 * replacement at most, so there are no loops. "root" in rewrite_to stands for
 * root without a domain, or at a name without a dot. */
enum rewrite_verdict rewrite_recipient(struct path *to);

/* Can no mail host of the world be meant? "nas", "box.local", "[10.0.0.1]",
 * and local-parts that only quoting makes legal: no smarthost takes them as a
 * sender. mailbox: canonical. Pure. */
bool rewrite_is_impossible(const char *mailbox);

#endif
