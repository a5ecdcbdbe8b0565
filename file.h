/* file: small files, read whole and written whole.
 *
 * For start and reload only: disks may block. Must never know: what is in
 * them. */
#ifndef LANPOST_FILE_H
#define LANPOST_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* The bytes read, or -1 with errno; EFBIG: they fill all the room. *is_open:
 * others than its owner and group can read it, or change it. */
ssize_t file_read(const char *name, void *data, size_t room, bool *is_open);

/* Puts a new file in place of name, for its owner alone; a reader sees the
 * old one or the new one, whole. False: errno. */
bool file_write(const char *name, const void *data, size_t count);

#endif
