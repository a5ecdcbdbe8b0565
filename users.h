/* users: who may log in, from the users_file; the check of a password in
 * slices; and the senders that a user may name.
 *
 * One line per user, blank lines and '#' comments between them:
 *   name:$pbkdf2-sha256$ROUNDS$SALT$KEY
 *   name:$pbkdf2-sha256$ROUNDS$SALT$KEY:a@example.com @example.net
 * SALT (8 to 32 bytes) and KEY (32 bytes) in base64. Passwords are never held,
 * and no text of the file stays but names and senders.
 * Must never know: connections, mechanisms, settings. */
#ifndef LANPOST_USERS_H
#define LANPOST_USERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config.h"
#include "crypto.h"

#define USERS_WHY_BYTES  256
#define USERS_LINE_BYTES (USER_NAME_BYTES + USER_SENDERS_BYTES + 256)

/* Reads the file in place of the one before; "" = no users. False: why says
 * "line N: what is wrong and the cure" (or that the file cannot be read, or
 * others can read it), and the users of before stay. */
bool users_load(const char *file, char why[USERS_WHY_BYTES]);
bool users_load_text(const char *text, size_t length,
                     char why[USERS_WHY_BYTES]);
void users_wipe(void);
unsigned users_count(void);

/* ---- One login ---------------------------------------------------------- */

enum users_verdict {
    USERS_BUSY, /* run again in the next turn */
    USERS_GOOD,
    USERS_BAD /* the password is wrong, or there is no such user */
};

/* Plain bytes, with all it needs: a reload meanwhile changes nothing. */
struct users_check {
    bool is_known;
    uint8_t key[CRYPTO_KEY_BYTES]; /* what must come out */
    struct crypto_pbkdf2 work;
};

/* An unknown name costs as much work as the first user of the file. */
void users_check_start(struct users_check *c, const char *name,
                       const char *password);

/* Does PASSWORD_SLICE_ROUNDS. With a verdict the check is wiped; running it
 * again says USERS_BAD. */
enum users_verdict users_check_run(struct users_check *c);

/* The login ended early: nothing of the password stays. */
void users_check_wipe(struct users_check *c);

/* ---- After the login ---------------------------------------------------- */

/* May this user send as the mailbox (canonical, as of path_parse())? True when
 * the user has no list, when the list has the mailbox or its "@domain", all
 * without regard to case; and for the null path. False for a name that is not
 * in the file (any more). */
bool users_may_send(const char *name, const char *mailbox);

/* ---- For the administrator ---------------------------------------------- */

/* The line for the file, without senders and newline, with a fresh salt and
 * USERS_ROUNDS. False: a name that no line can have, no password, or it does
 * not fit. */
bool users_format(const char *name, const char *password, char *out,
                  size_t room);
size_t users_memory_bytes(void);

#endif
