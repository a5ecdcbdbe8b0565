/* stamp: the date and the Message-ID of a message that we write or mend (RFC
 * 5322 sections 3.3 and 3.6.4). Pure. Must never know: clocks, the queue. */
#ifndef LANPOST_STAMP_H
#define LANPOST_STAMP_H

#include <stdint.h>

#include "buf.h"

#define STAMP_DATE_BYTES 48

/* "Thu, 01 Jan 2026 13:00:00 +0100", in the zone of this machine. Returns
 * out. */
const char *stamp_date(int64_t now_s, char out[STAMP_DATE_BYTES]);

/* The whole field. id: the queue's name for the message; random makes it
 * unique where the clock starts anew with each boot. */
void stamp_put_message_id(int64_t now_s, uint32_t random, const char *id,
                          const char *hostname, struct buf *out);

#endif
