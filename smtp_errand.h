/* smtp_errand: a courier's dialogue with the smarthost: what each reply means,
 * from the greeting to the verdict on a message, and a turn of one connection.
 *
 * Must never know: other connections, smtp_session. */
#ifndef LANPOST_SMTP_ERRAND_H
#define LANPOST_SMTP_ERRAND_H

#include "smtp_courier.h"

/* Takes a borrowed message, while COURIER_IDLE. */
void errand_begin(struct courier *c, queue_id id, int64_t now_ms);

/* Acts on what came and on what is overdue; it may be vacant afterwards. */
void errand_run(struct courier *c, const struct poller *p, int64_t now_ms);

#endif
