/* See intake.h. */
#include "intake.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "buf.h"
#include "config.h"
#include "crypto.h"

bool intake_start(struct intake *t, const struct path *from,
                  const struct rewrite_who *who, uint64_t declared_bytes)
{
    char client[IP_TEXT_BYTES];
    struct rewrite_who own = *who;
    memset(t, 0, sizeof *t);
    t->id = queue_new(from->mailbox, declared_bytes);
    if (t->id == QUEUE_NONE)
        return false;
    t->needs_utf8 = from->is_utf8;
    text_copy(t->reverse_path, sizeof t->reverse_path, from->mailbox);
    text_copy(t->user, sizeof t->user, who->user);
    own.user = t->user;
    message_start(&t->message, &own, t->reverse_path);
    crypto_sha256_start(&t->print);
    ip_format(&who->client, client);
    crypto_sha256_add(&t->print, client, strlen(client) + 1);
    crypto_sha256_add(&t->print, t->reverse_path, strlen(t->reverse_path) + 1);
    return true;
}

bool intake_add_recipient(struct intake *t, const struct path *to)
{
    if (!queue_add_recipient(t->id, to->mailbox))
        return false;
    t->needs_utf8 |= to->is_utf8;
    t->recipients++;
    text_copy(t->last_recipient, sizeof t->last_recipient, to->mailbox);
    crypto_sha256_add(&t->print, to->mailbox, strlen(to->mailbox) + 1);
    return true;
}

/* From here on the bytes are thrown away: the room is for others. */
static void spoil(struct intake *t, enum intake_fault fault)
{
    queue_drop(t->id);
    t->id = QUEUE_NONE;
    t->fault = fault;
}

/* Into the queue's blocks, across their borders. */
static void put_body(struct intake *t, const uint8_t *bytes, size_t count)
{
    for (size_t done = 0, room; done < count;) {
        uint8_t *at = queue_tail(t->id, QUEUE_BODY, &room);
        if (at == NULL) {
            spoil(t, INTAKE_FULL);
            return;
        }
        size_t n = count - done < room ? count - done : room;
        memcpy(at, bytes + done, n);
        queue_wrote(t->id, QUEUE_BODY, n);
        done += n;
    }
}

/* While the header section lasts: from the wire into a spare room, through
 * the editor, and from there into the queue. */
static size_t take_header(struct intake *t, const uint8_t *in, size_t count)
{
    uint8_t spare[MESSAGE_PIECE_BYTES], edited[MESSAGE_PIECE_ROOM];
    struct buf out;
    size_t written;
    buf_init(&out, edited, sizeof edited);
    size_t used =
        dot_receive(&t->dot, in, count, spare, sizeof spare, &written);
    message_edit(&t->message, spare, written, &out);
    t->bytes += written;
    put_body(t, buf_data(&out), buf_len(&out));
    t->dot.has_8bit = false; /* from here on: of the body */
    return used;
}

static void note(struct intake *t, const uint8_t *bytes, size_t count)
{
    message_note_body(&t->message, bytes, count, t->dot.has_8bit);
    t->bytes += count;
}

/* The last bytes of a block are fewer than one step may need: it goes into a
 * spare room and from there across the border. */
static size_t take_across(struct intake *t, const uint8_t *in)
{
    uint8_t spare[DOT_ROOM_MIN];
    size_t written;
    size_t used = dot_receive(&t->dot, in, 1, spare, sizeof spare, &written);
    note(t, spare, written);
    put_body(t, spare, written);
    return used;
}

static size_t take_some(struct intake *t, const uint8_t *in, size_t count)
{
    size_t room, written;
    if (!t->message.is_over)
        return take_header(t, in, count);
    uint8_t *at = queue_tail(t->id, QUEUE_BODY, &room);
    if (at == NULL) {
        spoil(t, INTAKE_FULL);
        return 0;
    }
    if (room < DOT_ROOM_MIN)
        return take_across(t, in);
    size_t used = dot_receive(&t->dot, in, count, at, room, &written);
    note(t, at, written);
    queue_wrote(t->id, QUEUE_BODY, written);
    return used;
}

void intake_print(struct intake *t, uint8_t out[CRYPTO_SHA256_BYTES])
{
    crypto_sha256_end(&t->print, out);
}

static size_t throw_away(struct intake *t, const uint8_t *in, size_t count)
{
    uint8_t nowhere[1024];
    size_t written;
    return dot_receive(&t->dot, in, count, nowhere, sizeof nowhere, &written);
}

bool intake_is_over(const struct intake *t)
{
    return t->dot.state == DOT_END;
}

size_t intake_take(struct intake *t, const uint8_t *in, size_t count,
                   uint64_t max_bytes)
{
    size_t done = 0;
    while (done < count && !intake_is_over(t)) {
        size_t used = t->fault ? throw_away(t, in + done, count - done)
                               : take_some(t, in + done, count - done);
        if (t->fault == INTAKE_GOOD && t->bytes > max_bytes)
            spoil(t, INTAKE_TOO_BIG);
        crypto_sha256_add(&t->print, in + done, t->fault ? 0 : used);
        done += used;
        t->wire_bytes += used;
    }
    return done;
}

static bool put_head(struct intake *t, struct message_origin *origin)
{
    char id[16];
    size_t room;
    struct buf head;
    uint8_t *at = queue_tail(t->id, QUEUE_HEAD, &room);
    snprintf(id, sizeof id, "%08X", (unsigned)t->id);
    origin->id = id;
    origin->only_recipient = t->recipients == 1 ? t->last_recipient : NULL;
    buf_init(&head, at, at ? room : 0);
    message_put_head(&t->message, origin, (int64_t)time(NULL),
                     crypto_random_u32(), &head);
    if (head.overflow)
        return false;
    queue_wrote(t->id, QUEUE_HEAD, buf_len(&head));
    return true;
}

/* The last words of a message that is all header. */
static void end_header(struct intake *t)
{
    uint8_t edited[MESSAGE_PIECE_ROOM];
    struct buf out;
    buf_init(&out, edited, sizeof edited);
    message_end(&t->message, &out);
    put_body(t, buf_data(&out), buf_len(&out));
}

static unsigned facts_of(const struct intake *t)
{
    const struct message *m = &t->message;
    return (m->has_8bit_header || m->has_8bit_body ? QUEUE_IS_8BIT : 0u) |
           (t->dot.has_long_lines ? QUEUE_HAS_LONG_LINES : 0u) |
           (t->needs_utf8 ? QUEUE_NEEDS_UTF8 : 0u);
}

enum intake_fault intake_end(struct intake *t, struct message_origin *origin,
                             int64_t now_ms)
{
    if (t->fault == INTAKE_GOOD)
        end_header(t);
    if (t->fault == INTAKE_GOOD && t->message.received >= RECEIVED_MAX)
        spoil(t, INTAKE_LOOP);
    if (t->fault == INTAKE_GOOD && !put_head(t, origin))
        spoil(t, INTAKE_NAMES);
    if (t->fault == INTAKE_GOOD)
        queue_commit(t->id, facts_of(t), now_ms);
    return t->fault;
}

void intake_cancel(struct intake *t)
{
    if (t->id != QUEUE_NONE && queue_fate(t->id) == QUEUE_WRITING)
        queue_drop(t->id);
    memset(t, 0, sizeof *t);
}
