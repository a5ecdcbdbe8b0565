/* See queue.h.
 *
 * The legal moves of a message, and who makes them:
 *
 *   state      new      commit   due   launch  land  return    drop    withdraw
 *   VACANT     WRITING  -        -     -       -     -         -       -
 *   WRITING    -        WAITING  -     -       -     -         VACANT  -
 *   WAITING    -        -        LENT  -       -     -         -       VACANT*
 *   LENT       -        -        -     FLYING  -     WAITING   -       LENT*
 *                                                    or VACANT
 *   FLYING     -        -        -     -       LENT  -         -       (no)
 *
 * * Not when in doubt: its final dot has left, and the answer was lost. What is
 * withdrawn while lent is VACANT when it is returned, and never launched. A
 * move that is not in the table is our own mistake and dies at once.
 *
 * In the words of the model (tests/held_reply.pml): have = WAITING, LENT or
 * FLYING; inflight = FLYING; doubt = is_in_doubt; settled = no longer here.
 *
 * Small messages and big ones wait in orders of their own: alerts overtake.
 *
 * Blocks are named by number and linked beside the arena, not in it, so the
 * payload of a block is whole and aligned. Freed blocks are reused last in,
 * first out: pages that were never needed are never touched.
 *
 * The envelope and the head share one chain. An envelope record never
 * straddles a block and leaves HEAD_TEXT_BYTES behind it, so the head, which
 * is written last, always has its room. */
#include "queue.h"

#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "crypto.h"
#include "log.h"

#define NO_BLOCK        UINT32_MAX
#define NOT_IN_HEAP     UINT32_MAX
#define HEAD_TEXT_BYTES 3072
#define MENDING_BYTES   64 /* line ends and folds, beyond what was declared */

static_assert(QUEUE_BLOCK_BYTES >= HEAD_TEXT_BYTES + 1024,
              "the head must fit behind an envelope: raise QUEUE_BLOCK_BYTES");

enum state {
    VACANT,
    WRITING,
    WAITING,
    LENT,
    FLYING /* lent, and its final dot has left unanswered */
};

struct chain {
    uint32_t first, last;
    uint32_t used; /* bytes of the last block */
};

struct message {
    enum state state;
    queue_id id;
    struct chain head, body;
    uint32_t text_offset; /* of the head text, in the head's last block */
    uint32_t reserved;    /* blocks promised and not yet taken */
    uint64_t declared_bytes;
    uint64_t body_bytes;
    int64_t born_ms, due_ms;
    uint32_t heap_place;
    unsigned facts;
    unsigned recipients, open_recipients;
    unsigned tries;
    bool is_in_doubt, is_withdrawn, is_promised;
};

/* A record of the envelope: the reverse-path, then a recipient each. */
struct record {
    uint16_t bytes; /* of the whole record; 0 ends the block's records */
    uint16_t verdict;
    char text[]; /* NUL-terminated */
};

static struct {
    _Alignas(64) uint8_t blocks[QUEUE_BLOCKS][QUEUE_BLOCK_BYTES];
    uint32_t next[QUEUE_BLOCKS];
    uint32_t free_first, free_count, reserved;
    struct message messages[QUEUE_MESSAGES];
    uint16_t vacant[QUEUE_MESSAGES]; /* a stack of places */
    uint32_t vacant_count;
    struct heap { /* waiting messages, earliest due first */
        uint32_t count;
        uint32_t numbers[QUEUE_MESSAGES];
    } heaps[2]; /* small ones, big ones */
    uint32_t generation;
    unsigned writing;
} q;

static _Noreturn void bug(const char *what)
{
    log_line(LOG_AT_ERROR, "queue", "bug=\"%s\"", what);
    abort();
}

void queue_init(void)
{
    memset(q.messages, 0, sizeof q.messages);
    q.heaps[0].count = q.heaps[1].count = q.reserved = q.writing = 0;
    q.free_count = QUEUE_BLOCKS;
    q.free_first = 0;
    for (uint32_t i = 0; i < QUEUE_BLOCKS; i++)
        q.next[i] = i + 1 < QUEUE_BLOCKS ? i + 1 : NO_BLOCK;
    q.vacant_count = QUEUE_MESSAGES;
    for (uint32_t i = 0; i < QUEUE_MESSAGES; i++)
        q.vacant[i] = (uint16_t)(QUEUE_MESSAGES - 1 - i);
    crypto_random(&q.generation, sizeof q.generation);
}

static struct message *find(queue_id id)
{
    struct message *m = &q.messages[id % QUEUE_MESSAGES];
    return id != QUEUE_NONE && m->state != VACANT && m->id == id ? m : NULL;
}

static struct message *owned(queue_id id, enum state state)
{
    struct message *m = find(id);
    if (m == NULL || m->state != state)
        bug("a message was used by someone who does not own it");
    return m;
}

/* ---- Blocks -------------------------------------------------------------- */

static bool is_big(const struct message *m)
{
    return m->declared_bytes > QUEUE_SMALL_BYTES ||
           m->body_bytes > QUEUE_SMALL_BYTES;
}

/* Neither reserved nor, for a scan, kept for alerts. */
static uint32_t blocks_available(bool for_big)
{
    uint32_t kept = q.reserved + (for_big ? QUEUE_SMALL_BLOCKS : 0);
    return q.free_count > kept ? q.free_count - kept : 0;
}

static bool grow(struct message *m, struct chain *c)
{
    /* Promised were the envelope's first block and the body: more recipients
     * must not eat what the body was promised. */
    bool is_promised = c == &m->body || c->first == NO_BLOCK;
    if (is_promised && m->reserved > 0) {
        m->reserved--;
        q.reserved--;
    } else if (blocks_available(is_big(m)) == 0) {
        return false;
    }
    uint32_t block = q.free_first;
    q.free_first = q.next[block];
    q.free_count--;
    q.next[block] = NO_BLOCK;
    if (c->first == NO_BLOCK)
        c->first = block;
    else
        q.next[c->last] = block;
    c->last = block;
    c->used = 0;
    return true;
}

static void free_chain(struct chain *c)
{
    if (c->first == NO_BLOCK)
        return;
    uint32_t count = 1;
    for (uint32_t block = c->first; block != c->last; block = q.next[block])
        count++;
    q.next[c->last] = q.free_first;
    q.free_first = c->first;
    q.free_count += count;
    *c = (struct chain){.first = NO_BLOCK, .last = NO_BLOCK};
}

static void release_reserve(struct message *m)
{
    q.reserved -= m->reserved;
    m->reserved = 0;
}

static void vacate(struct message *m)
{
    release_reserve(m);
    q.writing -= m->state == WRITING;
    free_chain(&m->head);
    free_chain(&m->body);
    memset(m, 0, sizeof *m);
    q.vacant[q.vacant_count++] = (uint16_t)(m - q.messages);
}

/* ---- The due orders: binary heaps of message numbers --------------------- */

static struct heap *heap_of(const struct message *m)
{
    return &q.heaps[is_big(m)];
}

static int64_t due_at(const struct heap *h, uint32_t place)
{
    return q.messages[h->numbers[place]].due_ms;
}

static void heap_put(struct heap *h, uint32_t place, uint32_t number)
{
    h->numbers[place] = number;
    q.messages[number].heap_place = place;
}

static void heap_swap(struct heap *h, uint32_t a, uint32_t b)
{
    uint32_t number = h->numbers[a];
    heap_put(h, a, h->numbers[b]);
    heap_put(h, b, number);
}

static void heap_rise(struct heap *h, uint32_t place)
{
    for (; place > 0 && due_at(h, place) < due_at(h, (place - 1) / 2);
         place = (place - 1) / 2)
        heap_swap(h, place, (place - 1) / 2);
}

static void heap_sink(struct heap *h, uint32_t place)
{
    for (;;) {
        uint32_t least = place, child = 2 * place + 1;
        for (uint32_t c = child; c <= child + 1 && c < h->count; c++)
            if (due_at(h, c) < due_at(h, least))
                least = c;
        if (least == place)
            return;
        heap_swap(h, place, least);
        place = least;
    }
}

static void wait_until(struct message *m, int64_t due_ms)
{
    struct heap *h = heap_of(m);
    m->state = WAITING;
    m->due_ms = due_ms;
    heap_put(h, h->count, (uint32_t)(m - q.messages));
    heap_rise(h, h->count++);
}

static void leave_heap(struct message *m)
{
    struct heap *h = heap_of(m);
    uint32_t place = m->heap_place;
    h->count--;
    if (place != h->count) {
        heap_put(h, place, h->numbers[h->count]);
        heap_rise(h, place);
        heap_sink(h, place);
    }
    m->heap_place = NOT_IN_HEAP;
}

static queue_id lend(struct message *m)
{
    leave_heap(m);
    m->state = LENT;
    return m->id;
}

/* ---- Writer -------------------------------------------------------------- */

/* id % QUEUE_MESSAGES is the message's place, so a look-up is one step. */
static queue_id new_id(const struct message *m)
{
    uint32_t generations = (UINT32_MAX - QUEUE_MESSAGES) / QUEUE_MESSAGES;
    q.generation = q.generation % generations + 1;
    return q.generation * QUEUE_MESSAGES + (uint32_t)(m - q.messages);
}

static bool put_record(struct message *m, const char *text)
{
    size_t length = strlen(text) + 1;
    size_t bytes = (sizeof(struct record) + length + 3) & ~(size_t)3;
    size_t limit = QUEUE_BLOCK_BYTES - HEAD_TEXT_BYTES;
    if (bytes > limit)
        return false;
    if (m->head.first == NO_BLOCK || m->head.used + bytes > limit)
        if (!grow(m, &m->head))
            return false;
    uint8_t *at = q.blocks[m->head.last] + m->head.used;
    struct record *r = (struct record *)(void *)at;
    r->bytes = (uint16_t)bytes;
    r->verdict = QUEUE_OPEN;
    memcpy(r->text, text, length);
    m->head.used += (uint32_t)bytes;
    memset(at + bytes, 0, sizeof *r); /* the end mark, until overwritten */
    m->text_offset = m->head.used + (uint32_t)sizeof *r;
    return true;
}

queue_id queue_new(const char *reverse_path, uint64_t declared_bytes)
{
    if (declared_bytes > (uint64_t)QUEUE_BLOCKS * QUEUE_BLOCK_BYTES)
        return QUEUE_NONE;
    uint64_t body_bytes = declared_bytes + MENDING_BYTES;
    uint64_t blocks = 1 + body_bytes / QUEUE_BLOCK_BYTES + 1;
    bool for_big = declared_bytes > QUEUE_SMALL_BYTES;
    if (blocks > blocks_available(for_big) || q.vacant_count == 0)
        return QUEUE_NONE;
    struct message *m = &q.messages[q.vacant[--q.vacant_count]];
    m->state = WRITING;
    q.writing++;
    m->id = new_id(m);
    m->head = m->body = (struct chain){.first = NO_BLOCK, .last = NO_BLOCK};
    m->heap_place = NOT_IN_HEAP;
    m->declared_bytes = declared_bytes;
    m->reserved = (uint32_t)blocks;
    q.reserved += m->reserved;
    if (put_record(m, reverse_path))
        return m->id;
    vacate(m);
    return QUEUE_NONE;
}

bool queue_add_recipient(queue_id id, const char *mailbox)
{
    struct message *m = owned(id, WRITING);
    if (!put_record(m, mailbox))
        return false;
    m->recipients++;
    m->open_recipients++;
    return true;
}

uint8_t *queue_tail(queue_id id, enum queue_part part, size_t *room)
{
    struct message *m = owned(id, WRITING);
    if (part == QUEUE_HEAD) {
        if (m->head.used < m->text_offset)
            m->head.used = m->text_offset;
        *room = QUEUE_BLOCK_BYTES - m->head.used;
        return *room ? q.blocks[m->head.last] + m->head.used : NULL;
    }
    if (m->body.first == NO_BLOCK || m->body.used == QUEUE_BLOCK_BYTES)
        if (!grow(m, &m->body))
            return NULL;
    *room = QUEUE_BLOCK_BYTES - m->body.used;
    return q.blocks[m->body.last] + m->body.used;
}

void queue_wrote(queue_id id, enum queue_part part, size_t count)
{
    struct message *m = owned(id, WRITING);
    struct chain *c = part == QUEUE_HEAD ? &m->head : &m->body;
    if (count > QUEUE_BLOCK_BYTES - c->used)
        bug("more was written than was lent");
    c->used += (uint32_t)count;
    if (part == QUEUE_BODY)
        m->body_bytes += count;
}

void queue_commit(queue_id id, unsigned facts, int64_t now_ms)
{
    struct message *m = owned(id, WRITING);
    release_reserve(m); /* a device may declare more than it sends */
    if (m->head.used < m->text_offset)
        m->head.used = m->text_offset;
    q.writing--;
    m->facts = facts;
    m->born_ms = now_ms;
    wait_until(m, now_ms);
}

void queue_drop(queue_id id)
{
    vacate(owned(id, WRITING));
}

enum queue_fate queue_fate(queue_id id)
{
    const struct message *m = find(id);
    if (m == NULL || m->is_withdrawn)
        return QUEUE_OVER;
    if (m->state == WRITING)
        return QUEUE_WRITING;
    if (m->is_in_doubt)
        return QUEUE_IN_DOUBT;
    return m->state == FLYING ? QUEUE_IN_FLIGHT : QUEUE_HELD;
}

bool queue_withdraw(queue_id id)
{
    struct message *m = find(id);
    if (m == NULL || queue_fate(id) != QUEUE_HELD)
        return false;
    if (m->state == LENT) {
        m->is_withdrawn = true;
        return true;
    }
    leave_heap(m);
    vacate(m);
    return true;
}

void queue_promise(queue_id id)
{
    struct message *m = find(id);
    if (m != NULL && m->state != WRITING)
        m->is_promised = true;
}

unsigned queue_writing(void)
{
    return q.writing;
}

uint32_t queue_begun(void)
{
    return q.generation;
}

/* ---- Reader -------------------------------------------------------------- */

static struct message *first_of(const struct heap *h, int64_t by_ms)
{
    bool has_one = h->count > 0 && due_at(h, 0) <= by_ms;
    return has_one ? &q.messages[h->numbers[0]] : NULL;
}

queue_id queue_due(int64_t now_ms, bool may_be_big)
{
    struct message *small = first_of(&q.heaps[0], now_ms);
    struct message *big = may_be_big ? first_of(&q.heaps[1], now_ms) : NULL;
    /* Alerts first, yet a stream of them must not keep a scan for ever. */
    if (small != NULL && big != NULL && big->due_ms + QUEUE_YIELD_MS < now_ms &&
        big->due_ms < small->due_ms)
        small = NULL;
    if (small != NULL)
        return lend(small);
    return big != NULL ? lend(big) : QUEUE_NONE;
}

int64_t queue_next_due_ms(bool may_be_big)
{
    int64_t due_ms = INT64_MAX;
    for (const struct heap *h = q.heaps; h <= q.heaps + may_be_big; h++)
        if (h->count > 0 && due_at(h, 0) < due_ms)
            due_ms = due_at(h, 0);
    return due_ms;
}

void queue_hasten(int64_t now_ms)
{
    for (struct message *m = q.messages; m < q.messages + QUEUE_MESSAGES; m++)
        if (m->state == WAITING && m->due_ms > now_ms)
            m->due_ms = now_ms;
}

queue_id queue_older_than(int64_t born_ms)
{
    for (size_t h = 0; h < 2; h++)
        for (uint32_t i = 0; i < q.heaps[h].count; i++) {
            struct message *m = &q.messages[q.heaps[h].numbers[i]];
            if (m->born_ms < born_ms)
                return lend(m);
        }
    return QUEUE_NONE;
}

static struct record *record_at(uint32_t block, uint32_t offset)
{
    return (struct record *)(void *)(q.blocks[block] + offset);
}

bool queue_next_recipient(queue_id id, struct queue_recipient *r)
{
    const struct message *m = find(id);
    if (m == NULL)
        return false;
    if (r->mailbox == NULL) { /* the first record is the reverse-path */
        r->block = m->head.first;
        r->offset = 0;
    }
    r->offset += record_at(r->block, r->offset)->bytes;
    struct record *record = record_at(r->block, r->offset);
    if (record->bytes == 0) {
        if (r->block == m->head.last)
            return false;
        r->block = q.next[r->block];
        r->offset = 0;
        record = record_at(r->block, 0);
    }
    r->mailbox = record->text;
    r->verdict = (enum queue_verdict)record->verdict;
    return true;
}

void queue_settle(queue_id id, const struct queue_recipient *r,
                  enum queue_verdict verdict)
{
    /* With one flight for all, recipients are refused behind the launch. */
    struct message *m = find(id);
    if (m == NULL || (m->state != LENT && m->state != FLYING))
        bug("a message was settled by someone who does not own it");
    struct record *record = record_at(r->block, r->offset);
    if (record->verdict >= QUEUE_DONE)
        bug("a recipient was settled twice");
    record->verdict = (uint16_t)verdict;
    if (verdict >= QUEUE_DONE)
        m->open_recipients--;
}

/* The bytes of a chain's block, from where the part starts in it. */
static uint32_t part_end(const struct chain *c, uint32_t block)
{
    return block == c->last ? c->used : QUEUE_BLOCK_BYTES;
}

const uint8_t *queue_read(queue_id id, struct queue_reader *r, size_t *count)
{
    const struct message *m = owned(id, LENT);
    if (!r->has_started) {
        *r = (struct queue_reader){.part = QUEUE_HEAD,
                                   .block = m->head.last,
                                   .offset = m->text_offset,
                                   .has_started = true};
    }
    const struct chain *c = r->part == QUEUE_HEAD ? &m->head : &m->body;
    if (r->block != NO_BLOCK && r->offset == part_end(c, r->block)) {
        bool has_head_ended = r->part == QUEUE_HEAD;
        r->block = has_head_ended        ? m->body.first
                   : r->block == c->last ? NO_BLOCK
                                         : q.next[r->block];
        r->part = QUEUE_BODY;
        r->offset = 0;
        c = &m->body;
    }
    if (r->block == NO_BLOCK || r->offset == part_end(c, r->block))
        return NULL;
    *count = part_end(c, r->block) - r->offset;
    return q.blocks[r->block] + r->offset;
}

void queue_took(struct queue_reader *r, size_t count)
{
    r->offset += (uint32_t)count;
}

bool queue_return(queue_id id, int64_t due_ms)
{
    struct message *m = owned(id, LENT);
    struct queue_recipient r = {0};
    if (m->open_recipients == 0 || m->is_withdrawn) {
        vacate(m);
        return true;
    }
    while (queue_next_recipient(id, &r))
        if (r.verdict == QUEUE_TAKEN)
            record_at(r.block, r.offset)->verdict = QUEUE_OPEN;
    wait_until(m, due_ms);
    return false;
}

bool queue_launch(queue_id id)
{
    struct message *m = owned(id, LENT);
    if (m->is_withdrawn)
        return false;
    m->state = FLYING;
    return true;
}

void queue_land(queue_id id, bool is_answered)
{
    struct message *m = find(id);
    if (m == NULL || m->state != FLYING)
        return;
    m->state = LENT;
    m->is_in_doubt |= !is_answered;
}

bool queue_is_withdrawn(queue_id id)
{
    const struct message *m = find(id);
    return m != NULL && m->is_withdrawn;
}

const char *queue_reverse_path(queue_id id)
{
    const struct message *m = find(id);
    return m ? record_at(m->head.first, 0)->text : "";
}

uint64_t queue_bytes(queue_id id)
{
    const struct message *m = find(id);
    if (m == NULL)
        return 0;
    bool has_head = m->head.used > m->text_offset; /* not while it is written */
    return m->body_bytes + (has_head ? m->head.used - m->text_offset : 0);
}

unsigned queue_facts(queue_id id)
{
    const struct message *m = find(id);
    return m ? m->facts : 0;
}

unsigned queue_recipients(queue_id id)
{
    const struct message *m = find(id);
    return m ? m->recipients : 0;
}

int64_t queue_born_ms(queue_id id)
{
    const struct message *m = find(id);
    return m ? m->born_ms : 0;
}

unsigned queue_tries(queue_id id)
{
    const struct message *m = find(id);
    return m ? m->tries : 0;
}

void queue_count_try(queue_id id)
{
    owned(id, LENT)->tries++;
}

int64_t queue_retry_ms(int64_t age_ms, int64_t first_ms, int64_t max_ms)
{
    int64_t wait_ms = age_ms > first_ms ? age_ms : first_ms;
    return wait_ms > max_ms ? max_ms : wait_ms;
}

/* ---- For people and tests ------------------------------------------------ */

static void count_message(struct queue_counts *out, const struct message *m)
{
    if (m->state < WAITING || m->is_withdrawn)
        return;
    out->messages++;
    out->sending += m->state >= LENT;
    out->in_doubt += m->is_in_doubt;
    out->promised += m->is_promised;
    if (out->oldest_ms == 0 || m->born_ms < out->oldest_ms)
        out->oldest_ms = m->born_ms;
}

void queue_count(struct queue_counts *out)
{
    *out = (struct queue_counts){.writing = q.writing,
                                 .blocks_free = q.free_count,
                                 .blocks_reserved = q.reserved};
    for (uint32_t i = 0; i < QUEUE_MESSAGES; i++)
        count_message(out, &q.messages[i]);
}

static const char *const state_names[] = {"", "", "waiting", "sending",
                                          "in_flight"};
bool queue_look(queue_id id, struct queue_view *out)
{
    const struct message *m = find(id);
    if (m == NULL || m->state < WAITING)
        return false;
    *out = (struct queue_view){.state = m->is_withdrawn ? "withdrawn"
                                                        : state_names[m->state],
                               .open_recipients = m->open_recipients,
                               .due_ms = m->due_ms,
                               .is_in_doubt = m->is_in_doubt,
                               .is_promised = m->is_promised};
    return true;
}

queue_id queue_walk(queue_id after)
{
    uint32_t i = after == QUEUE_NONE ? 0 : after % QUEUE_MESSAGES + 1;
    for (; i < QUEUE_MESSAGES; i++)
        if (q.messages[i].state >= WAITING && !q.messages[i].is_withdrawn)
            return q.messages[i].id;
    return QUEUE_NONE;
}

static uint8_t seen[QUEUE_BLOCKS];

/* Marks the blocks from first to last; false when one was seen before. */
static bool mark_chain(uint32_t first, uint32_t last, uint32_t *count)
{
    for (uint32_t block = first; block != NO_BLOCK; block = q.next[block]) {
        if (block >= QUEUE_BLOCKS || seen[block]++)
            return false;
        ++*count;
        if (block == last)
            break;
    }
    return true;
}

static const char *unsound_message(const struct message *m, uint32_t *blocks)
{
    if (!mark_chain(m->head.first, m->head.last, blocks) ||
        !mark_chain(m->body.first, m->body.last, blocks))
        return "a block is in two chains";
    bool in_heap = m->heap_place != NOT_IN_HEAP;
    const struct heap *h = heap_of(m);
    if (in_heap != (m->state == WAITING) ||
        (in_heap && (m->heap_place >= h->count ||
                     &q.messages[h->numbers[m->heap_place]] != m)))
        return "the due order and a message disagree";
    if (m->state != WRITING && m->reserved != 0)
        return "a committed message holds a reservation";
    return NULL;
}

const char *queue_unsound(void)
{
    uint32_t blocks = 0, reserved = 0, free_blocks = 0;
    memset(seen, 0, sizeof seen);
    for (uint32_t i = 0; i < QUEUE_MESSAGES; i++) {
        const struct message *m = &q.messages[i];
        const char *why =
            m->state == VACANT ? NULL : unsound_message(m, &blocks);
        if (why != NULL)
            return why;
        reserved += m->reserved;
    }
    if (!mark_chain(q.free_first, NO_BLOCK, &free_blocks))
        return "a free block is in use";
    if (free_blocks != q.free_count || free_blocks + blocks != QUEUE_BLOCKS)
        return "blocks are lost";
    if (reserved != q.reserved || reserved > q.free_count)
        return "reservations do not add up";
    for (const struct heap *h = q.heaps; h < q.heaps + 2; h++)
        for (uint32_t i = 1; i < h->count; i++)
            if (due_at(h, i) < due_at(h, (i - 1) / 2))
                return "the due order is broken";
    return NULL;
}

size_t queue_memory_bytes(void)
{
    return sizeof q + sizeof seen;
}
