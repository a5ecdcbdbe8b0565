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

/* Moves *text behind the next line and copies that, without its newline, to
 * line. */
enum file_line {
    FILE_LINE_NONE, /* *text is at its end */
    FILE_LINE_GOOD,
    FILE_LINE_TOO_LONG,
    FILE_LINE_HAS_NUL
};
enum file_line file_next_line(const char **text, const char *end, char *line,
                              size_t room);

/* Puts a new file in place of name, for its owner alone; a reader sees the
 * old one or the new one, whole. False: errno. */
bool file_write(const char *name, const void *data, size_t count);

#endif
