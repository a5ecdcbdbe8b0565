/* See buf.h. */
#include "buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void buf_init(struct buf *b, void *space, size_t size)
{
    *b = (struct buf){.space = space, .size = size};
}

void buf_clear(struct buf *b)
{
    b->head = b->tail = 0;
    b->overflow = false;
}

size_t buf_len(const struct buf *b)
{
    return b->tail - b->head;
}

size_t buf_room(const struct buf *b)
{
    return b->size - buf_len(b);
}

const uint8_t *buf_data(const struct buf *b)
{
    return b->space + b->head;
}

void buf_take(struct buf *b, size_t count)
{
    b->head += count < buf_len(b) ? count : buf_len(b);
    if (b->head == b->tail)
        b->head = b->tail = 0;
}

uint8_t *buf_tail(struct buf *b, size_t *room)
{
    if (b->head > 0) {
        memmove(b->space, b->space + b->head, buf_len(b));
        b->tail -= b->head;
        b->head = 0;
    }
    *room = b->size - b->tail;
    return b->space + b->tail;
}

void buf_wrote(struct buf *b, size_t count)
{
    size_t room = b->size - b->tail;
    b->tail += count < room ? count : room;
}

void buf_put(struct buf *b, const void *data, size_t count)
{
    if (b->overflow || count > buf_room(b)) {
        b->overflow = true;
        return;
    }
    size_t room;
    uint8_t *at = buf_tail(b, &room);
    if (count > 0)
        memcpy(at, data, count);
    buf_wrote(b, count);
}

void buf_puts(struct buf *b, const char *text)
{
    buf_put(b, text, strlen(text));
}

void buf_format(struct buf *b, const char *format, ...)
{
    size_t room;
    char *at = (char *)buf_tail(b, &room);
    va_list args;
    va_start(args, format);
    int count = vsnprintf(at, room, format, args);
    va_end(args);
    /* vsnprintf wants a byte for its NUL: text that fits to the last byte
     * is refused too, which costs nothing here. */
    if (b->overflow || count < 0 || (size_t)count >= room)
        b->overflow = true;
    else
        buf_wrote(b, (size_t)count);
}

static const char base64_alphabet[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void buf_put_base64(struct buf *b, const void *data, size_t count)
{
    const uint8_t *in = data;
    if (b->overflow || (count + 2) / 3 * 4 > buf_room(b)) {
        b->overflow = true;
        return;
    }
    for (size_t i = 0; i < count; i += 3) {
        uint32_t group = (uint32_t)in[i] << 16;
        if (i + 1 < count)
            group |= (uint32_t)in[i + 1] << 8;
        if (i + 2 < count)
            group |= in[i + 2];
        char four[4] = {base64_alphabet[group >> 18],
                        base64_alphabet[group >> 12 & 63], '=', '='};
        if (i + 1 < count)
            four[2] = base64_alphabet[group >> 6 & 63];
        if (i + 2 < count)
            four[3] = base64_alphabet[group & 63];
        buf_put(b, four, sizeof four);
        bytes_wipe(four, sizeof four);
    }
}

const char *buf_line(const struct buf *b, size_t *length, size_t *whole)
{
    const uint8_t *start = buf_data(b);
    const uint8_t *lf = buf_len(b) ? memchr(start, '\n', buf_len(b)) : NULL;
    if (lf == NULL)
        return NULL;
    *length = (size_t)(lf - start);
    *whole = *length + 1;
    if (*length > 0 && start[*length - 1] == '\r')
        (*length)--;
    return (const char *)start;
}

static int base64_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

ssize_t base64_decode(const char *text, size_t count, uint8_t *out, size_t room)
{
    size_t written = 0;
    if (count % 4 != 0)
        return -1;
    for (size_t i = 0; i < count; i += 4) {
        bool is_last = i + 4 == count;
        size_t pad = 0;
        if (is_last && text[i + 3] == '=')
            pad = text[i + 2] == '=' ? 2 : 1;
        uint32_t group = 0;
        for (size_t k = 0; k < 4; k++) {
            int value = k < 4 - pad ? base64_value(text[i + k]) : 0;
            if (value < 0)
                return -1;
            group = group << 6 | (uint32_t)value;
        }
        /* Bits under the padding must be zero: one text, one meaning. */
        if ((pad == 1 && (group & 0xff)) || (pad == 2 && (group & 0xffff)))
            return -1;
        for (size_t k = 0; k < 3 - pad; k++) {
            if (written == room)
                return -1;
            out[written++] = (uint8_t)(group >> (16 - 8 * k));
        }
    }
    return (ssize_t)written;
}

static unsigned char ascii_lower(unsigned char c)
{
    return c >= 'A' && c <= 'Z' ? (unsigned char)(c + 32) : c;
}

bool bytes_equal_nocase(const void *a, size_t count, const char *text)
{
    const unsigned char *bytes = a;
    if (strlen(text) != count)
        return false;
    for (size_t i = 0; i < count; i++)
        if (ascii_lower(bytes[i]) != ascii_lower((unsigned char)text[i]))
            return false;
    return true;
}

bool text_equal_nocase(const char *a, const char *b)
{
    return bytes_equal_nocase(a, strlen(a), b);
}

bool text_copy(char *out, size_t room, const char *text)
{
    size_t length = strlen(text);
    bool fits = length < room;
    if (!fits)
        length = room - 1;
    memcpy(out, text, length);
    out[length] = '\0';
    return fits;
}

void bytes_wipe(void *data, size_t count)
{
    volatile uint8_t *p = data;
    while (count-- > 0)
        *p++ = 0;
}
