/* smtp_verbs: the verbs of RFC 5321, 3207 and 4954: where each is legal, what
 * it does, what it answers.
 *
 * The table at the end of the .c file is the policy; there is no second
 * switch. Must never know: bytes on the wire, deadlines, other sessions. */
#ifndef LANPOST_SMTP_VERBS_H
#define LANPOST_SMTP_VERBS_H

#include <stddef.h>
#include <stdint.h>

#include "smtp_session.h"

/* One command line, NUL behind it, without its end. */
void verbs_act(struct session *c, char *line, size_t length, int64_t now_ms);

/* In SESSION_LOGIN: a line of the login, or one that was too long for any. */
void verbs_take_login_line(struct session *c, const char *line, int64_t now_ms);
void verbs_drop_login(struct session *c, int64_t now_ms);

/* In SESSION_CHECK: a slice of the work on its password. */
void verbs_check_login(struct session *c, int64_t now_ms);

#endif
