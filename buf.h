/* buf: bounded bytes. Append, find a line, take; base64; case-blind compare.
 *
 * A buf is a view on memory that its owner holds for as long as the view
 * lives. All offset arithmetic on bytes in flight is done here.
 * Must never know: file descriptors, time, SMTP. */
#ifndef LANPOST_BUF_H
#define LANPOST_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct buf {
    uint8_t *space;
    size_t size;
    size_t head;   /* first byte not yet taken */
    size_t tail;   /* first free byte */
    bool overflow; /* a put did not fit; sticky until buf_clear() */
};

void buf_init(struct buf *b, void *space, size_t size);
void buf_clear(struct buf *b);

size_t buf_len(const struct buf *b);
size_t buf_room(const struct buf *b);
const uint8_t *buf_data(const struct buf *b); /* buf_len() bytes, until taken */
void buf_take(struct buf *b, size_t count);   /* at most buf_len() */

/* Lends all free room (after moving what is held to the front); buf_wrote()
 * says how much of it was filled. */
uint8_t *buf_tail(struct buf *b, size_t *room);
void buf_wrote(struct buf *b, size_t count);

/* All or nothing: what does not fit leaves the bytes as they are and sets
 * overflow, so a chain of puts needs one test at its end. */
void buf_put(struct buf *b, const void *data, size_t count);
void buf_puts(struct buf *b, const char *text);
void buf_format(struct buf *b, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void buf_put_base64(struct buf *b, const void *data, size_t count);

/* The first line without its CRLF or LF, or NULL when none is complete.
 * whole = bytes to buf_take() once the line is dealt with. */
const char *buf_line(const struct buf *b, size_t *length, size_t *whole);

/* Strict RFC 4648 section 4: no stray characters, padding required.
 * The bytes written to out (room for 3 * (count / 4) is enough), or -1. */
ssize_t base64_decode(const char *text, size_t count, uint8_t *out,
                      size_t room);

/* ASCII only: the locale never decides what a verb is. */
bool text_equal_nocase(const char *a, const char *b);
bool bytes_equal_nocase(const void *a, size_t count, const char *text);
bool text_copy(char *out, size_t room, const char *text); /* false: cut */

/* Survives the optimiser; for secrets where they die. */
void bytes_wipe(void *data, size_t count);

#endif
