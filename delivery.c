/* See delivery.h. */
#include "delivery.h"

#include <string.h>

#include "config.h"
#include "path.h"

#define COMMAND_ROOM (PATH_BYTES + 64) /* the longest command, with CRLF */

static const struct {
    const char *keyword;
    enum delivery_feature feature;
} keywords[] = {
    {"STARTTLS", HAS_STARTTLS}, {"PIPELINING", HAS_PIPELINING},
    {"8BITMIME", HAS_8BITMIME}, {"SIZE", HAS_SIZE},
    {"SMTPUTF8", HAS_SMTPUTF8}, {"CHUNKING", HAS_CHUNKING},
};

unsigned delivery_feature(const char *line, size_t length)
{
    const char *blank = memchr(line, ' ', length);
    size_t n = blank ? (size_t)(blank - line) : length;
    for (size_t i = 0; i < sizeof keywords / sizeof keywords[0]; i++)
        if (bytes_equal_nocase(line, n, keywords[i].keyword))
            return keywords[i].feature;
    return 0;
}

bool delivery_next_open(queue_id id, struct queue_recipient *r)
{
    while (queue_next_recipient(id, r))
        if (r->verdict == QUEUE_OPEN)
            return true;
    return false;
}

void delivery_put_rcpt(const struct queue_recipient *r, struct buf *out)
{
    buf_format(out, "RCPT TO:<%s>\r\n", r->mailbox);
}

void delivery_put_pipeline(struct delivery *d, struct buf *out)
{
    while (!d->has_sent_data && buf_room(out) > COMMAND_ROOM) {
        if (delivery_next_open(d->id, &d->announced)) {
            delivery_put_rcpt(&d->announced, out);
            d->replies_due++;
        } else {
            if (d->is_one_flight)
                buf_format(out, "BDAT %llu LAST\r\n",
                           (unsigned long long)queue_bytes(d->id));
            else
                buf_puts(out, "DATA\r\n");
            d->has_sent_data = true;
        }
    }
}

void delivery_put_mail(struct delivery *d, unsigned features, struct buf *out)
{
    unsigned facts = queue_facts(d->id);
    /* Lines that are broken on the way change the size that BDAT tells. */
    d->is_one_flight =
        (features & HAS_PIPELINING) && (features & HAS_CHUNKING) &&
        !(facts & QUEUE_HAS_LONG_LINES) && queue_bytes(d->id) > 0 &&
        queue_bytes(d->id) <= QUEUE_SMALL_BYTES;
    buf_format(out, "MAIL FROM:<%s>", queue_reverse_path(d->id));
    if (features & HAS_SIZE)
        buf_format(out, " SIZE=%llu", (unsigned long long)queue_bytes(d->id));
    if ((features & HAS_8BITMIME) && (facts & QUEUE_IS_8BIT))
        buf_puts(out, " BODY=8BITMIME");
    if (facts & QUEUE_NEEDS_UTF8)
        buf_puts(out, " SMTPUTF8");
    buf_puts(out, "\r\n");
    if (features & HAS_PIPELINING)
        delivery_put_pipeline(d, out);
}

bool delivery_put_chunk(struct delivery *d, struct buf *out)
{
    size_t count, room;
    const uint8_t *bytes;
    while ((bytes = queue_read(d->id, &d->reader, &count)) != NULL) {
        uint8_t *at = buf_tail(out, &room);
        size_t n = count < room ? count : room;
        if (n == 0)
            return false;
        memcpy(at, bytes, n);
        buf_wrote(out, n);
        queue_took(&d->reader, n);
    }
    d->has_sent_dot = true;
    return true;
}

bool delivery_put_body(struct delivery *d, struct buf *out)
{
    size_t count, room, written;
    const uint8_t *bytes;
    while ((bytes = queue_read(d->id, &d->reader, &count)) != NULL) {
        uint8_t *at = buf_tail(out, &room);
        size_t used = dot_send(&d->dot, bytes, count, at, room, &written);
        buf_wrote(out, written);
        queue_took(&d->reader, used);
        if (used < count)
            return false;
    }
    return buf_room(out) >= DOT_END_BYTES;
}

void delivery_put_dot(struct delivery *d, struct buf *out)
{
    buf_puts(out, dot_end(&d->dot));
    d->has_sent_dot = true;
}
