/* See promise.h.
 *
 * A place walks: VACANT -> HELD -> TOLD -> VACANT, the common way; HELD or
 * TOLD -> UNHEARD -> HELD, when the same bytes come again. In the words of the
 * model (tests/held_reply.pml): waiting = HELD; fp = UNHEARD, or a doubt about
 * HELD and TOLD.
 *
 * Each device that waits has a place, since there are as many places as
 * devices and PROMISES_REMEMBERED more: when all are taken, the oldest
 * unheard one is forgotten, which costs a second copy at the worst. */
#include "promise.h"

#include <stdio.h>
#include <string.h>

#include "buf.h"
#include "config.h"
#include "notice.h"
#include "settings.h"

#define PLACES       (CLIENTS_MAX + PROMISES_REMEMBERED)
#define WORDS_BYTES  320
#define ADVICE_BYTES 168

enum place_state {
    VACANT, /* must stay 0 */
    HELD,
    TOLD,
    UNHEARD
};

struct place {
    enum place_state state;
    promise_ticket ticket;
    bool is_doubted;   /* its device may be gone */
    bool is_back;      /* was tried, and waits for another try */
    bool is_over;      /* has left the queue */
    bool is_withdrawn; /* told 4yz: nothing to join */
    bool is_promised;  /* told 250: is never taken back, whoever joins */
    unsigned taken, refused;
    enum queue_verdict words_of; /* the verdict that the words are of */
    int64_t window_ms, last_ms;  /* when the answer is due, or overdue */
    int64_t next_try_ms;
    int64_t doubted_ms, unheard_ms;
    uint8_t print[CRYPTO_SHA256_BYTES];
    char words[WORDS_BYTES]; /* "550 5.1.1 No such user" */
    char advice[ADVICE_BYTES];
};

static struct {
    queue_id ids[PLACES]; /* apart, so that a look-up is quick */
    struct place places[PLACES];
    uint32_t generation;
    bool is_stopping;
    int64_t rest_until_ms; /* of the route */
    char rest_why[200];
    char outlook[PROMISE_REPLY_BYTES];
} p;

void promise_init(void)
{
    memset(&p, 0, sizeof p);
}

/* ---- Places -------------------------------------------------------------- */

static struct place *find(promise_ticket t)
{
    struct place *at = &p.places[t % PLACES];
    return t != 0 && at->state != VACANT && at->ticket == t ? at : NULL;
}

static queue_id *id_of(const struct place *at)
{
    return &p.ids[at - p.places];
}

/* The latest place of a message; NULL: nobody cares. */
static struct place *place_of(queue_id id)
{
    for (size_t i = 0; i < PLACES; i++)
        if (p.ids[i] == id && p.places[i].state != VACANT)
            return &p.places[i];
    return NULL;
}

static void vacate(struct place *at)
{
    *id_of(at) = QUEUE_NONE;
    memset(at, 0, sizeof *at);
}

static bool is_remembered(const struct place *at, int64_t now_ms)
{
    return at->state == UNHEARD &&
           now_ms < at->unheard_ms + PROMISE_SECONDS * (int64_t)1000;
}

static struct place *free_place(int64_t now_ms)
{
    struct place *oldest = NULL;
    for (struct place *at = p.places; at < p.places + PLACES; at++) {
        if (at->state == VACANT)
            return at;
        if (at->state == UNHEARD && !is_remembered(at, now_ms)) {
            vacate(at);
            return at;
        }
        if (at->state == UNHEARD &&
            (oldest == NULL || at->unheard_ms < oldest->unheard_ms))
            oldest = at;
    }
    if (oldest != NULL)
        vacate(oldest);
    return oldest;
}

/* ticket % PLACES is the place. */
static promise_ticket new_ticket(const struct place *at)
{
    p.generation = p.generation % (UINT32_MAX / PLACES - 1) + 1;
    return p.generation * PLACES + (promise_ticket)(at - p.places);
}

static void hold(struct place *at, int64_t wait_ms, int64_t now_ms)
{
    at->state = HELD;
    at->is_doubted = false;
    at->ticket = new_ticket(at);
    at->window_ms = now_ms + wait_ms;
    /* In flight and not to be taken back: the verdict is near. */
    at->last_ms = at->window_ms + wait_ms;
}

promise_ticket promise_make(queue_id id,
                            const uint8_t print[CRYPTO_SHA256_BYTES],
                            int64_t wait_ms, int64_t now_ms)
{
    struct place *at = free_place(now_ms);
    if (at == NULL)
        return 0;
    memset(at, 0, sizeof *at);
    memcpy(at->print, print, CRYPTO_SHA256_BYTES);
    *id_of(at) = id;
    hold(at, wait_ms, now_ms);
    return at->ticket;
}

static bool may_be_joined(const struct place *at, int64_t now_ms)
{
    if (at->state == UNHEARD)
        return is_remembered(at, now_ms);
    return at->is_doubted && now_ms >= at->doubted_ms && !at->is_withdrawn;
}

promise_ticket promise_join(const uint8_t print[CRYPTO_SHA256_BYTES],
                            int64_t wait_ms, int64_t now_ms)
{
    for (struct place *at = p.places; at < p.places + PLACES; at++)
        if (at->state != VACANT && may_be_joined(at, now_ms) &&
            memcmp(at->print, print, CRYPTO_SHA256_BYTES) == 0) {
            hold(at, wait_ms, now_ms);
            return at->ticket;
        }
    return 0;
}

queue_id promise_message(promise_ticket t)
{
    const struct place *at = find(t);
    return at != NULL ? *id_of(at) : QUEUE_NONE;
}

int64_t promise_due_ms(promise_ticket t, int64_t now_ms)
{
    const struct place *at = find(t);
    if (at == NULL)
        return now_ms;
    return now_ms < at->window_ms ? at->window_ms : at->last_ms;
}

void promise_hurry(promise_ticket t, int64_t now_ms)
{
    struct place *at = find(t);
    if (at != NULL)
        at->window_ms = at->last_ms = now_ms;
}

/* ---- The answer ---------------------------------------------------------- */

static bool refuses_when_late(void)
{
    return settings()->ack_late == ACK_LATE_REFUSE || p.is_stopping;
}

/* It can be destroyed, and its device sends it again: not one that may be
 * deaf, and believe in success while the only copy is gone. */
static bool may_be_withdrawn(const struct place *at, enum queue_fate fate)
{
    return fate == QUEUE_HELD && !at->is_promised && !at->is_doubted;
}

/* Over, or as good as: no verdict can come within the window. */
static bool is_window_over(const struct place *at, int64_t now_ms)
{
    return now_ms >= at->window_ms || p.rest_until_ms > at->window_ms ||
           (at->is_back && at->next_try_ms > at->window_ms);
}

static enum promise_answer answer_when_late(const struct place *at,
                                            enum queue_fate fate,
                                            int64_t now_ms)
{
    if (!refuses_when_late())
        return PROMISE_QUEUED;
    if (may_be_withdrawn(at, fate))
        return PROMISE_AGAIN;
    if (fate == QUEUE_IN_FLIGHT && now_ms < at->last_ms)
        return PROMISE_WAITS;
    /* "queued" would be a lie to one who is told that we stop. */
    return p.is_stopping ? PROMISE_SILENCE : PROMISE_QUEUED;
}

/* What is to be said now. Pure. */
static enum promise_answer decide(const struct place *at, int64_t now_ms)
{
    enum queue_fate fate = queue_fate(*id_of(at));
    if (at->taken > 0 && (at->is_over || at->is_back))
        return PROMISE_SENT;
    if (at->is_over || fate == QUEUE_OVER)
        return at->refused > 0 ? PROMISE_REFUSED : PROMISE_SILENCE;
    /* The smarthost said "later", and the device knows how to wait. */
    if (at->is_back && at->words_of == QUEUE_OPEN && at->words[0] == '4' &&
        refuses_when_late() && may_be_withdrawn(at, fate))
        return PROMISE_AGAIN;
    return is_window_over(at, now_ms) ? answer_when_late(at, fate, now_ms)
                                      : PROMISE_WAITS;
}

bool promise_is_ripe(promise_ticket t, int64_t now_ms)
{
    const struct place *at = find(t);
    return at == NULL || decide(at, now_ms) != PROMISE_WAITS;
}

/* "5.7.1 " at the start of the words: its length, 0: there is none. */
static size_t enhanced_length(const char *text)
{
    size_t n = 0;
    unsigned dots = 0;
    for (; (text[n] >= '0' && text[n] <= '9') || text[n] == '.'; n++)
        dots += text[n] == '.';
    return dots == 2 && (text[n] == ' ' || text[n] == '\0') ? n : 0;
}

/* code enhanced: words, each a smarthost's own as far as it has them. */
static void put_words(const struct place *at, const char *lead, bool is_again,
                      char reply[PROMISE_REPLY_BYTES])
{
    char code[4] = "554"; /* of what we gave up ourselves */
    bool has_code = strspn(at->words, "0123456789") == 3;
    const char *words = at->words + (has_code ? 3 : 0);
    words += strspn(words, " -");
    size_t length = enhanced_length(words);
    if (has_code)
        memcpy(code, at->words, 3);
    if (code[0] == '2') /* 251 and the like: a device knows this one */
        memcpy(code, "250", 3);
    if (is_again && strcmp(code, "421") == 0)
        memcpy(code, "451", 3); /* 421 would end the session: RFC 5321 3.8 */
    char own[16];
    snprintf(own, sizeof own, "%c.0.0", code[0]);
    bool has_own = length > 0 && length < sizeof own && words[0] == code[0];
    if (has_own)
        snprintf(own, sizeof own, "%.*s", (int)length, words);
    words += length;
    words += strspn(words, " ");
    const char *advice = code[0] == '2' ? "" : at->advice;
    snprintf(reply, PROMISE_REPLY_BYTES - 2, "%s %s %s%s%s%s%s", code, own,
             lead,
             *words           ? words
             : code[0] == '2' ? "Ok"
                              : "no reason given",
             *advice ? " (" : "", advice, *advice ? ")" : "");
}

static void put_again(const struct place *at, int64_t now_ms,
                      char reply[PROMISE_REPLY_BYTES])
{
    if (p.is_stopping)
        snprintf(reply, PROMISE_REPLY_BYTES,
                 "451 4.3.2 Shutting down, send it again");
    else if (p.rest_until_ms > now_ms)
        snprintf(reply, PROMISE_REPLY_BYTES,
                 "451 4.4.1 %s; send it again later", p.rest_why);
    else if (at->is_back && at->words[0] == '4')
        put_words(at, "", true, reply);
    else
        snprintf(reply, PROMISE_REPLY_BYTES,
                 "451 4.4.1 The smarthost gave no answer in time, send it "
                 "again later");
}

static void put_sent(const struct place *at, char reply[PROMISE_REPLY_BYTES])
{
    char lead[64] = "sent: ";
    unsigned all = at->taken + at->refused;
    struct queue_view view;
    if (queue_look(*id_of(at), &view))
        all += view.open_recipients;
    if (at->taken < all)
        snprintf(lead, sizeof lead, "sent to %u of %u recipients: ", at->taken,
                 all);
    put_words(at, lead, false, reply);
}

/* What an answer does to the message and its failures. */
static void keep(struct place *at, enum promise_answer a, int64_t now_ms)
{
    queue_id id = *id_of(at);
    if (a == PROMISE_SENT || a == PROMISE_QUEUED) {
        at->is_promised = true;
        queue_promise(id);
        notice_release(id, now_ms);
    } else if (a == PROMISE_AGAIN) {
        notice_discard(id);
    }
    at->is_withdrawn = a == PROMISE_AGAIN;
}

enum promise_answer promise_answer(promise_ticket t, int64_t now_ms,
                                   char reply[PROMISE_REPLY_BYTES])
{
    struct place *at = find(t);
    enum promise_answer a = at != NULL ? decide(at, now_ms) : PROMISE_SILENCE;
    if (a == PROMISE_WAITS || a == PROMISE_SILENCE)
        return a;
    if (a == PROMISE_AGAIN && !queue_withdraw(*id_of(at)))
        a = PROMISE_QUEUED;
    switch (a) {
    case PROMISE_SENT: put_sent(at, reply); break;
    case PROMISE_REFUSED: put_words(at, "", false, reply); break;
    case PROMISE_AGAIN: put_again(at, now_ms, reply); break;
    default:
        snprintf(reply, PROMISE_REPLY_BYTES,
                 "250 2.0.0 Queued in memory as %08X", (unsigned)*id_of(at));
    }
    keep(at, a, now_ms);
    at->state = TOLD;
    return a;
}

void promise_heard(promise_ticket t)
{
    struct place *at = find(t);
    if (at == NULL)
        return;
    notice_discard(*id_of(at)); /* it knows of the refusal itself */
    vacate(at);
}

void promise_unheard(promise_ticket t, int64_t now_ms)
{
    struct place *at = find(t);
    if (at == NULL)
        return;
    if (at->is_withdrawn) { /* nothing is left to be joined */
        vacate(at);
        return;
    }
    /* It may have believed in success. */
    queue_promise(*id_of(at));
    notice_release(*id_of(at), now_ms);
    at->state = UNHEARD;
    at->unheard_ms = now_ms;
    at->ticket = 0;
}

void promise_doubt(promise_ticket t, int64_t now_ms)
{
    struct place *at = find(t);
    if (at == NULL || at->is_doubted)
        return;
    at->is_doubted = true;
    at->doubted_ms = now_ms;
}

void promise_stop_all(void)
{
    p.is_stopping = true;
}

const char *promise_outlook(int64_t wait_ms, int64_t now_ms)
{
    if (settings()->ack_late != ACK_LATE_REFUSE ||
        p.rest_until_ms <= now_ms + wait_ms)
        return NULL;
    snprintf(p.outlook, sizeof p.outlook, "451 4.4.1 %s; send it again later",
             p.rest_why);
    return p.outlook;
}

/* ---- The smarthost's side ------------------------------------------------ */

/* Worth most: the words of who took it; then the first refusal; then the
 * latest delay. */
static bool are_better_words(const struct place *at, enum queue_verdict verdict)
{
    if (at->words[0] == '\0' || at->words_of == QUEUE_OPEN)
        return true;
    return verdict == QUEUE_DONE && at->words_of == QUEUE_NEVER;
}

/* Printable ASCII alone: these words go on to a device. */
static void copy_words(char *out, size_t room, const char *text)
{
    size_t n = 0;
    for (; text[n] != '\0' && n + 1 < room; n++)
        out[n] = text[n] >= ' ' && text[n] <= '~' ? text[n] : '?';
    out[n] = '\0';
}

void promise_note(queue_id id, enum queue_verdict verdict, const char *reply,
                  const char *advice)
{
    struct place *at = place_of(id);
    if (at == NULL)
        return;
    at->taken += verdict == QUEUE_DONE;
    at->refused += verdict == QUEUE_NEVER;
    if (!are_better_words(at, verdict))
        return;
    at->words_of = verdict;
    copy_words(at->words, sizeof at->words, reply);
    copy_words(at->advice, sizeof at->advice, advice != NULL ? advice : "");
}

void promise_returned(queue_id id, int64_t due_ms)
{
    struct place *at = place_of(id);
    if (at == NULL)
        return;
    at->is_back = true;
    at->is_over = queue_fate(id) == QUEUE_OVER;
    at->next_try_ms = due_ms;
}

bool promise_is_held(queue_id id)
{
    const struct place *at = place_of(id);
    return at != NULL && at->state == HELD && !at->is_promised;
}

void promise_route_rests(int64_t until_ms, const char *why)
{
    p.rest_until_ms = until_ms;
    copy_words(p.rest_why, sizeof p.rest_why, why);
}

unsigned promise_count_held(void)
{
    unsigned count = 0;
    for (const struct place *at = p.places; at < p.places + PLACES; at++)
        count += at->state == HELD;
    return count;
}

size_t promise_memory_bytes(void)
{
    return sizeof p;
}
