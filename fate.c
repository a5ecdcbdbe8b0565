/* See fate.h. */
#include "fate.h"

#include <stdio.h>
#include <string.h>

#include "config.h"
#include "log.h"
#include "notice.h"
#include "promise.h"
#include "route.h"
#include "settings.h"

#define SWEEP_MS 60000 /* between two looks for the expired */

static int64_t sweep_at_ms;

enum queue_verdict fate_verdict(const struct reply *r)
{
    switch (reply_class(r)) {
    case 2: return QUEUE_DONE;
    case 5: return QUEUE_NEVER;
    default: return QUEUE_OPEN;
    }
}

/* Up to a fifth more, so that what failed together does not come back
 * together; the same for all that ask about one try. */
static int64_t jitter_ms(queue_id id, int64_t wait_ms)
{
    uint32_t mixed = (id ^ queue_tries(id) * 0x9e3779b9u) * 0x85ebca6bu;
    return wait_ms / 5 * (mixed >> 24) / 255;
}

int64_t fate_next_try_ms(queue_id id, int64_t now_ms)
{
    int64_t wait_ms = queue_retry_ms(now_ms - queue_born_ms(id),
                                     settings()->retry_first_seconds * 1000,
                                     settings()->retry_max_seconds * 1000);
    return now_ms + wait_ms + jitter_ms(id, wait_ms);
}

static void log_fate(queue_id id, const char *mailbox, const char *reply,
                     const char *advice, const char *fate, int64_t now_ms)
{
    /* All parts together fit a line of the log: its last word is the fate. */
    char to[128], text[320];
    bool is_sent = strcmp(fate, "sent") == 0;
    log_line(is_sent ? LOG_AT_INFO : LOG_AT_WARN, "out",
             "id=%08X rcpt=<%s> host=%s tries=%u delay_ms=%lld "
             "reply=\"%s\"%s%s%s %s",
             (unsigned)id, log_clean(to, sizeof to, mailbox, strlen(mailbox)),
             route_smarthost(), queue_tries(id),
             (long long)(now_ms - queue_born_ms(id)),
             log_clean(text, sizeof text, reply, strlen(reply)),
             advice != NULL ? " advice=\"" : "", advice != NULL ? advice : "",
             advice != NULL ? "\"" : "", fate);
}

void fate_settle(queue_id id, const struct queue_recipient *r,
                 enum queue_verdict verdict, const char *reply,
                 const char *advice, int64_t now_ms)
{
    char later[48];
    bool is_good = verdict == QUEUE_DONE;
    snprintf(later, sizeof later, "later next_s=%lld",
             (long long)((fate_next_try_ms(id, now_ms) - now_ms) / 1000));
    log_fate(id, r->mailbox, reply, is_good ? NULL : advice,
             is_good                  ? "sent"
             : verdict == QUEUE_NEVER ? "refused"
                                      : later,
             now_ms);
    log_count(is_good                  ? LOG_SENT
              : verdict == QUEUE_NEVER ? LOG_FAILED
                                       : LOG_LATER);
    if (verdict == QUEUE_NEVER)
        notice_note(id, r->mailbox, reply, advice, promise_is_held(id), now_ms);
    promise_note(id, verdict, reply, advice);
    queue_settle(id, r, verdict);
}

void fate_return(queue_id id, int64_t due_ms)
{
    queue_return(id, due_ms);
    promise_returned(id, due_ms);
}

void fate_settle_all(queue_id id, enum queue_verdict was,
                     enum queue_verdict verdict, const char *reply,
                     const char *advice, int64_t now_ms)
{
    struct queue_recipient r = {0};
    while (queue_next_recipient(id, &r))
        if (r.verdict == was || (was == QUEUE_OPEN && r.verdict == QUEUE_TAKEN))
            fate_settle(id, &r, verdict, reply, advice, now_ms);
}

bool fate_is_expired(queue_id id, int64_t now_ms)
{
    return now_ms - queue_born_ms(id) > settings()->expire_hours * 3600 * 1000;
}

void fate_give_up(queue_id id, int64_t now_ms)
{
    char text[80];
    snprintf(text, sizeof text, "given up after %lld hours (expire_hours)",
             (long long)settings()->expire_hours);
    fate_settle_all(id, QUEUE_OPEN, QUEUE_NEVER, text, NULL, now_ms);
    fate_return(id, now_ms);
}

void fate_sweep(int64_t now_ms)
{
    queue_id id;
    int64_t oldest_ms = now_ms - settings()->expire_hours * 3600 * 1000;
    if (now_ms < sweep_at_ms)
        return;
    sweep_at_ms = now_ms + SWEEP_MS;
    while ((id = queue_older_than(oldest_ms)) != QUEUE_NONE)
        fate_give_up(id, now_ms);
}

static void log_waiting(queue_id id, int64_t now_ms)
{
    struct queue_view v;
    char from[128];
    const char *sender = queue_reverse_path(id);
    if (!queue_look(id, &v))
        return;
    log_line(LOG_AT_INFO, "relay",
             "id=%08X state=%s from=<%s> rcpt=%u/%u bytes=%llu age_s=%lld "
             "tries=%u next_s=%lld in_doubt=%s promised=%s",
             (unsigned)id, v.state,
             log_clean(from, sizeof from, sender, strlen(sender)),
             v.open_recipients, queue_recipients(id),
             (unsigned long long)queue_bytes(id),
             (long long)((now_ms - queue_born_ms(id)) / 1000), queue_tries(id),
             (long long)(v.due_ms > now_ms ? (v.due_ms - now_ms) / 1000 : 0),
             v.is_in_doubt ? "yes" : "no", v.is_promised ? "yes" : "no");
}

queue_id fate_log_queue(queue_id after, unsigned lines, int64_t now_ms)
{
    while (lines-- > 0) {
        after = queue_walk(after);
        if (after == QUEUE_NONE)
            return QUEUE_NONE;
        log_waiting(after, now_ms);
    }
    return after;
}

unsigned fate_log_lost(int64_t now_ms)
{
    unsigned count = 0;
    for (queue_id id = queue_walk(QUEUE_NONE); id != QUEUE_NONE;
         id = queue_walk(id), count++) {
        char from[128], to[128];
        struct queue_recipient r = {0};
        const char *sender = queue_reverse_path(id);
        log_clean(from, sizeof from, sender, strlen(sender));
        while (queue_next_recipient(id, &r))
            if (r.verdict <= QUEUE_TAKEN) {
                log_count(LOG_LOST);
                log_line(LOG_AT_ERROR, "out",
                         "id=%08X lost reason=shutdown from=<%s> rcpt=<%s> "
                         "bytes=%llu age_s=%lld",
                         (unsigned)id, from,
                         log_clean(to, sizeof to, r.mailbox, strlen(r.mailbox)),
                         (unsigned long long)queue_bytes(id),
                         (long long)((now_ms - queue_born_ms(id)) / 1000));
            }
    }
    return count;
}

int64_t fate_wake_ms(void)
{
    return sweep_at_ms;
}
