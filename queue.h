/* queue: messages, recipients and their fate, in fixed blocks; who is due
 * when.
 *
 * The front wall of the house: smtp_in writes here, smtp_out reads here, and
 * they meet nowhere else. Memory is fixed; full is an answer. Who owns a
 * message is in the verbs: queue_new (the writer) -> queue_commit (the queue)
 * or queue_drop; queue_due (the reader borrows) -> queue_launch, queue_land
 * around the final dot -> queue_settle a recipient at a time -> queue_return.
 * Until the launch the writer may still queue_withdraw what it committed.
 * Must never know: sockets, SMTP verbs. */
#ifndef LANPOST_QUEUE_H
#define LANPOST_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Names one message for as long as it lives, here and in the log. A stale
 * one is noticed, never mistaken for another message. */
typedef uint32_t queue_id;
#define QUEUE_NONE 0

enum queue_verdict {
    QUEUE_OPEN,  /* no verdict yet, or LATER: to be tried */
    QUEUE_TAKEN, /* accepted at RCPT; OPEN again if the message comes back */
    QUEUE_DONE,  /* the smarthost took it */
    QUEUE_NEVER  /* refused for good, or given up */
};

enum queue_fate {
    QUEUE_WRITING,   /* not committed: the writer's own affair */
    QUEUE_HELD,      /* in memory, and tried until its recipients are settled */
    QUEUE_IN_FLIGHT, /* its final dot has left, unanswered yet */
    QUEUE_IN_DOUBT,  /* an answer was lost: it may have arrived already */
    QUEUE_OVER       /* all its recipients are settled, or it is withdrawn */
};

enum queue_part {
    QUEUE_HEAD, /* the header lines that we add or repair */
    QUEUE_BODY  /* what the device sent, header and all */
};

enum queue_fact {
    QUEUE_IS_8BIT = 1,        /* bytes above 0x7f in the message */
    QUEUE_NEEDS_UTF8 = 2,     /* an address needs SMTPUTF8 */
    QUEUE_HAS_LONG_LINES = 8, /* they may be broken on their way out */
    QUEUE_IS_NOTICE = 4       /* of ours, about other mail */
};

void queue_init(void);

/* ---- Writer -------------------------------------------------------------- */

/* A new message from reverse_path ("" = null). declared_bytes (0 = unknown)
 * are set aside at once, so that a promise at MAIL holds at the final dot.
 * QUEUE_NONE: full. */
queue_id queue_new(const char *reverse_path, uint64_t declared_bytes);

/* False: no room for another recipient. */
bool queue_add_recipient(queue_id id, const char *mailbox);

/* Lends room behind what was written. NULL: the queue is full for this
 * message (or the head has had its room). queue_wrote() takes the room back,
 * filled with count bytes. */
uint8_t *queue_tail(queue_id id, enum queue_part part, size_t *room);
void queue_wrote(queue_id id, enum queue_part part, size_t count);

/* Hands it over. From here on the queue answers for it. */
void queue_commit(queue_id id, unsigned facts, int64_t now_ms);
void queue_drop(queue_id id);

/* Takes back what was committed: its device is told to send it again. False:
 * too late, it is in flight, in doubt or over. */
bool queue_withdraw(queue_id id);

/* A device was told, or may believe, that we answer for it: its loss must be
 * declared. */
void queue_promise(queue_id id);

/* Messages that devices are about to commit; and a number that changes with
 * each new one. */
unsigned queue_writing(void);
uint32_t queue_begun(void);

/* What a device may be told about a message that it committed (or is still
 * writing); a queue that loses none knows that one which is gone is over. */
enum queue_fate queue_fate(queue_id id);

/* ---- Reader -------------------------------------------------------------- */

/* Borrows the message that is due longest, small ones (QUEUE_SMALL_BYTES)
 * before big ones unless one of these has waited for QUEUE_YIELD_MS more;
 * QUEUE_NONE: none is. */
queue_id queue_due(int64_t now_ms, bool may_be_big);

/* When the next one is due; INT64_MAX: nobody waits. */
int64_t queue_next_due_ms(bool may_be_big);

/* The final dot is about to leave. False: the message was withdrawn, and must
 * not. queue_land() when its answer came, or never will: then the message is
 * in doubt from here on. Landing what does not fly is no fault. */
bool queue_launch(queue_id id);
void queue_land(queue_id id, bool is_answered);

/* Lent, and withdrawn meanwhile: give it back. */
bool queue_is_withdrawn(queue_id id);

/* All that wait are due now, for a last try. */
void queue_hasten(int64_t now_ms);

/* Borrows a waiting message born before this time, whether due or not. */
queue_id queue_older_than(int64_t born_ms);

/* A walk over the recipients; start with a zeroed one. */
struct queue_recipient {
    const char *mailbox; /* stays valid while the message is borrowed */
    enum queue_verdict verdict;
    uint32_t block; /* the walk's own place */
    uint32_t offset;
};
bool queue_next_recipient(queue_id id, struct queue_recipient *r);
void queue_settle(queue_id id, const struct queue_recipient *r,
                  enum queue_verdict verdict);

/* A walk over the bytes, head then body; start with a zeroed one. Lends the
 * next unread bytes, NULL at the end; queue_took() moves on. */
struct queue_reader {
    enum queue_part part;
    uint32_t block;
    uint32_t offset;
    bool has_started;
};
const uint8_t *queue_read(queue_id id, struct queue_reader *r, size_t *count);
void queue_took(struct queue_reader *r, size_t count);

/* Gives a borrowed message back: freed when no recipient is open, or when it
 * was withdrawn; else it waits until due_ms. True: it was freed. */
bool queue_return(queue_id id, int64_t due_ms);

const char *queue_reverse_path(queue_id id);
uint64_t queue_bytes(queue_id id); /* head and body */
unsigned queue_facts(queue_id id);
unsigned queue_recipients(queue_id id); /* all, settled or not */
int64_t queue_born_ms(queue_id id);
unsigned queue_tries(queue_id id);
void queue_count_try(queue_id id);

/* How long to wait at this age: the wait grows as the message does, so it
 * doubles from first to max. Pure. */
int64_t queue_retry_ms(int64_t age_ms, int64_t first_ms, int64_t max_ms);

/* ---- For people and tests ------------------------------------------------ */

struct queue_counts {
    unsigned messages; /* committed and not settled */
    unsigned writing;
    unsigned sending, in_doubt;
    unsigned promised; /* a power cut now would lose these */
    int64_t oldest_ms; /* when the oldest was committed; 0: there is none */
    uint32_t blocks_free;
    uint32_t blocks_reserved;
};
void queue_count(struct queue_counts *out);

/* What else there is to say of a committed message; state is static text.
 * False: there is no such message. */
struct queue_view {
    const char *state;
    unsigned open_recipients;
    int64_t due_ms;
    bool is_in_doubt, is_promised;
};
bool queue_look(queue_id id, struct queue_view *out);

/* Walks committed messages, borrowed or not; start with QUEUE_NONE. */
queue_id queue_walk(queue_id after);

/* The debug walk: free + owned + queued blocks = all blocks, no block twice,
 * reservations and the due order right. NULL = sound, else what is not. */
const char *queue_unsound(void);

size_t queue_memory_bytes(void);

#endif
