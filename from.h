/* from: the From field as devices write it. Read, judged, and built anew (RFC
 * 5322 section 3.4, RFC 6409 section 8).
 *
 * Pure, and whatever comes in, what from_put() writes is clean: one mailbox
 * in <>, its display name a legal phrase. Clean is also what the grammar
 * forbids but everyone takes: dots and 8-bit bytes in the display name.
 * Must never know: connections, settings, which sender a mail may have. */
#ifndef LANPOST_FROM_H
#define LANPOST_FROM_H

#include <stdbool.h>
#include <stddef.h>

#include "buf.h"
#include "path.h"

#define FROM_NAME_BYTES  128  /* a longer display name is cut */
#define FROM_VALUE_BYTES 2048 /* what we read of a field; none is longer */

struct from {
    char name[FROM_NAME_BYTES]; /* display name as text: no quotes, folds or
                                   comments, single blanks; "" = none */
    char mailbox[PATH_BYTES];   /* the first that can be read, as path.h makes
                                   it; "" = none */
    bool has_domain;
    bool is_clean; /* exactly one mailbox, in a form that may pass as it is */
};

/* value: what stands behind "From:", any bytes, with or without the last
 * CRLF. The name may be set where the mailbox is not. */
void from_read(const char *value, size_t count, struct from *out);

/* "From: name <mailbox>\r\n", for any such field; folded at 78 columns where
 * it has blanks. name: any text, cut as from_read() does; mailbox: as path.h
 * makes it, not "". All or nothing. */
void from_put(const char *field, const char *name, const char *mailbox,
              struct buf *out);

#endif
