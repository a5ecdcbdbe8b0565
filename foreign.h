/* foreign: tells by its first words whether a peer speaks SMTP at all.
 *
 * A browser can be made to speak to our port; what it says must never be
 * taken for mail (CVE-2021-3618). Pure. Must never know: connections,
 * replies. */
#ifndef LANPOST_FOREIGN_H
#define LANPOST_FOREIGN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FOREIGN_TLS_HELLO  0x16 /* the record type of a ClientHello */
#define FOREIGN_SSL2_HELLO 0x80 /* how SSL 2.0 began, and SSL 3.0 at times */

/* The first word of a line that is no command of ours. */
bool foreign_is_word(const char *word, size_t length);

/* The very first byte: none that a command or a line end begins with. */
bool foreign_is_byte(uint8_t first);

/* A control byte other than a tab: no command holds one. */
bool foreign_has_control(const char *line, size_t length);

#endif
