/* See notice.h.
 *
 * The failures stand in the order in which they came. One is noted either
 * due, or held until its device was told or is gone; those that are due leave
 * together. Each mail keeps the words of one recipient at least, for as long
 * as there are no more mails than NOTICE_FAILURES: in a full pool the others
 * of a mail become a number.
 *
 * What peers said is made safe when it is noted, and stands behind a word of
 * ours in each line: it can forge neither a header field nor a boundary. */
#include "notice.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "buf.h"
#include "config.h"
#include "crypto.h"
#include "from.h"
#include "log.h"
#include "path.h"
#include "settings.h"
#include "stamp.h"

#define ADDRESS_BYTES (PATH_BYTES + 4)
#define REPLY_BYTES   240
#define ADVICE_BYTES  200
#define DAY_MS        (24 * 3600 * (int64_t)1000)
#define DELAY_MS      (NOTICE_DELAY_SECONDS * (int64_t)1000)

struct failure {
    queue_id id;
    bool is_held;
    int64_t born_ms;  /* of the mail */
    int64_t since_ms; /* that it has been due */
    unsigned more;    /* recipients of this mail that had to become a number */
    char sender[ADDRESS_BYTES], recipient[ADDRESS_BYTES];
    char reply[REPLY_BYTES], advice[ADVICE_BYTES];
};

static struct {
    const char *hostname;
    struct failure failures[NOTICE_FAILURES];
    size_t count;
    unsigned more; /* of mails that have no place in the pool */
    bool has_told; /* ever */
    int64_t told_ms;
    int64_t again_ms; /* the queue was full: not before */
    int64_t day_ms;   /* its beginning */
    int64_t of_day;   /* notices in it */
} n;

void notice_init(const char *hostname)
{
    memset(&n, 0, sizeof n);
    n.hostname = hostname;
}

/* ---- The pool ------------------------------------------------------------ */

/* Printable ASCII stays as it is, all else becomes \xNN as in the log. */
static void clean(char *out, size_t room, const char *text)
{
    size_t used = 0;
    for (const char *c = text; *c; c++) {
        char one[5] = {*c, '\0'};
        if (*c < ' ' || *c > '~')
            snprintf(one, sizeof one, "\\x%02X", (unsigned char)*c);
        if (used + strlen(one) + sizeof "..." > room) {
            used += (size_t)snprintf(out + used, room - used, "...");
            break;
        }
        memcpy(out + used, one, strlen(one));
        used += strlen(one);
    }
    out[used] = '\0';
}

/* A held one and a due one of the same mail may have different ends, so they
 * are never one number. */
static struct failure *find(queue_id id, bool is_held)
{
    for (size_t i = 0; i < n.count; i++)
        if (n.failures[i].id == id && n.failures[i].is_held == is_held)
            return &n.failures[i];
    return NULL;
}

static void remove_at(size_t place)
{
    n.count--;
    memmove(&n.failures[place], &n.failures[place + 1],
            (n.count - place) * sizeof n.failures[0]);
}

/* Makes a number of a failure whose mail has another one in the pool, the
 * latest first. False: each mail has but one. */
static bool fold_one(void)
{
    for (size_t i = n.count; i-- > 1;) {
        struct failure *f = &n.failures[i], *first = find(f->id, f->is_held);
        if (first == f)
            continue;
        first->more += 1 + f->more;
        remove_at(i);
        return true;
    }
    return false;
}

/* A place for a failure of this mail; NULL: it has been counted. */
static struct failure *place_for(queue_id id, bool is_held)
{
    struct failure *same = find(id, is_held);
    if (n.count == NOTICE_FAILURES && same != NULL) {
        same->more++;
        return NULL;
    }
    /* No place for any word of this mail: should a device hold it, and be told
     * itself after all, then we count one too many. */
    if (n.count == NOTICE_FAILURES && !fold_one()) {
        n.more++;
        return NULL;
    }
    return &n.failures[n.count++];
}

/* Why nobody may be told of this mail's end (RFC 3834 section 2): a notice
 * about a notice would have no end. NULL: the postmaster may. */
static const char *why_nobody(queue_id id)
{
    if (queue_facts(id) & QUEUE_IS_NOTICE)
        return "it is a notice itself";
    if (*queue_reverse_path(id) == '\0')
        return "its reverse-path is null";
    return NULL;
}

void notice_note(queue_id id, const char *recipient, const char *reply,
                 const char *advice, bool is_held, int64_t now_ms)
{
    const char *why = why_nobody(id);
    if (why != NULL) {
        log_line(LOG_AT_DEBUG, "out", "id=%08X notice=none why=\"%s\"",
                 (unsigned)id, why);
        return;
    }
    struct failure *f = place_for(id, is_held);
    if (f == NULL)
        return;
    *f = (struct failure){.id = id,
                          .is_held = is_held,
                          .born_ms = queue_born_ms(id),
                          .since_ms = now_ms};
    clean(f->sender, sizeof f->sender, queue_reverse_path(id));
    clean(f->recipient, sizeof f->recipient, recipient);
    clean(f->reply, sizeof f->reply, reply);
    clean(f->advice, sizeof f->advice, advice != NULL ? advice : "");
}

void notice_release(queue_id id, int64_t now_ms)
{
    for (size_t i = 0; i < n.count; i++) {
        struct failure *f = &n.failures[i];
        if (f->id != id || !f->is_held)
            continue;
        f->is_held = false;
        f->since_ms = now_ms;
    }
}

void notice_discard(queue_id id)
{
    for (size_t i = n.count; i-- > 0;)
        if (n.failures[i].id == id && n.failures[i].is_held)
            remove_at(i);
}

/* ---- What a failure says ------------------------------------------------- */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Is it the smarthost's, rather than words of ours? */
static bool is_reply(const char *text)
{
    return text[0] >= '2' && text[0] <= '5' && is_digit(text[1]) &&
           is_digit(text[2]) && (text[3] == ' ' || text[3] == '\0');
}

/* The length of an enhanced status code (RFC 3463 section 2); 0: none. */
static size_t status_length(const char *text)
{
    const char *at = text;
    if (*at++ != '5')
        return 0;
    for (int part = 0; part < 2; part++) {
        size_t digits = 0;
        if (*at++ != '.')
            return 0;
        while (is_digit(at[digits]))
            digits++;
        if (digits == 0 || digits > 3)
            return 0;
        at += digits;
    }
    return *at == ' ' || *at == '\0' ? (size_t)(at - text) : 0;
}

/* Only a 5yz ends a recipient at once. Whatever else was the last word, what
 * ended it was its age. */
static void put_status(const struct failure *f, struct buf *out)
{
    bool is_refused = is_reply(f->reply) && f->reply[0] == '5';
    const char *code = is_refused && f->reply[3] != '\0' ? f->reply + 4 : "";
    size_t length = status_length(code);
    buf_puts(out, "Status: ");
    if (length > 0)
        buf_put(out, code, length);
    else
        buf_puts(out, is_refused ? "5.0.0" : "4.4.7");
    buf_puts(out, "\r\n");
}

static void put_age(int64_t age_s, struct buf *out)
{
    static const struct {
        int64_t seconds;
        const char *unit;
    } units[] = {{86400, "days"}, {3600, "hours"}, {60, "minutes"}};
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (age_s < 2 * units[i].seconds)
            continue;
        buf_format(out, "%lld %s", (long long)(age_s / units[i].seconds),
                   units[i].unit);
        return;
    }
    buf_format(out, "%lld seconds", (long long)age_s);
}

static unsigned count_due(void)
{
    unsigned count = n.more;
    for (size_t i = 0; i < n.count; i++)
        if (!n.failures[i].is_held)
            count += 1 + n.failures[i].more;
    return count;
}

/* ---- The letter ---------------------------------------------------------- */

#define LETTER_PART_BYTES 4096 /* a header, or a failure */

struct letter {
    queue_id id;
    int64_t now_ms, now_s;
    const char *sender, *recipient;
    struct buf text; /* of the part under way */
    uint8_t space[LETTER_PART_BYTES];
    bool is_full; /* the queue is */
};

static_assert(sizeof(struct failure) + 1024 <= LETTER_PART_BYTES,
              "all that is said of a failure must fit");

/* Moves the part under way into the queue's blocks. */
static void flush(struct letter *l)
{
    while (buf_len(&l->text) > 0 && !l->is_full) {
        size_t room, count = buf_len(&l->text);
        uint8_t *at = queue_tail(l->id, QUEUE_BODY, &room);
        if (at == NULL) {
            l->is_full = true;
            break;
        }
        if (count > room)
            count = room;
        memcpy(at, buf_data(&l->text), count);
        queue_wrote(l->id, QUEUE_BODY, count);
        buf_take(&l->text, count);
    }
    l->is_full |= l->text.overflow;
    buf_clear(&l->text);
}

static void write_header(struct letter *l, unsigned failures)
{
    struct buf *out = &l->text;
    char id[16], date[STAMP_DATE_BYTES];
    snprintf(id, sizeof id, "%08X", (unsigned)l->id);
    from_put("From", "lanpost", l->sender, out);
    from_put("To", "", l->recipient, out);
    buf_format(out, "Subject: Mail that could not be delivered (%u)\r\n",
               failures);
    buf_format(out, "Date: %s\r\n", stamp_date(l->now_s, date));
    stamp_put_message_id(l->now_s, crypto_random_u32(), id, n.hostname, out);
    buf_format(out,
               "Auto-Submitted: auto-replied\r\n"
               "MIME-Version: 1.0\r\n"
               "Content-Type: multipart/report; report-type=delivery-status;"
               "\r\n\tboundary=\"=_lanpost_%s\"\r\n\r\n",
               id);
    flush(l);
}

static void write_boundary(struct letter *l, const char *end)
{
    buf_format(&l->text, "--=_lanpost_%08X%s\r\n", (unsigned)l->id, end);
}

static void put_failure(const struct letter *l, const struct failure *f,
                        struct buf *out)
{
    char date[STAMP_DATE_BYTES];
    int64_t age_s = (l->now_ms - f->born_ms) / 1000;
    buf_format(out, "\r\nMail %08X\r\n", (unsigned)f->id);
    buf_format(out, "    from:  <%s>\r\n", f->sender);
    buf_format(out, "    to:    <%s>\r\n", f->recipient);
    buf_format(out, "    came:  %s (", stamp_date(l->now_s - age_s, date));
    put_age(age_s, out);
    buf_format(out, " ago)\r\n    why:   %s\r\n", f->reply);
    if (*f->advice != '\0')
        buf_format(out, "    to do: %s\r\n", f->advice);
    if (f->more > 0)
        buf_format(out, "    and so for %u more of its recipients\r\n",
                   f->more);
}

/* For a person. */
static void write_text(struct letter *l)
{
    write_boundary(l, "");
    buf_format(&l->text,
               "Content-Type: text/plain; charset=us-ascii\r\n\r\n"
               "This is lanpost on %s.\r\n"
               "It took the mail below from devices, could not deliver it and "
               "has given up.\r\n"
               "The log says more: there, each mail goes by its id.\r\n",
               n.hostname);
    flush(l);
    for (size_t i = 0; i < n.count; i++) {
        if (n.failures[i].is_held)
            continue;
        put_failure(l, &n.failures[i], &l->text);
        flush(l);
    }
    if (n.more > 0)
        buf_format(&l->text,
                   "\r\n%u more failed, which only the log names.\r\n", n.more);
    flush(l);
}

/* For programs: RFC 3464 sections 2.2 and 2.3. */
static void write_status(struct letter *l)
{
    buf_puts(&l->text, "\r\n");
    write_boundary(l, "");
    buf_format(&l->text,
               "Content-Type: message/delivery-status\r\n\r\n"
               "Reporting-MTA: dns; %s\r\n",
               n.hostname);
    flush(l);
    for (size_t i = 0; i < n.count; i++) {
        const struct failure *f = &n.failures[i];
        if (f->is_held)
            continue;
        buf_format(&l->text,
                   "\r\nFinal-Recipient: rfc822; %s\r\nAction: failed\r\n",
                   f->recipient);
        put_status(f, &l->text);
        /* Section 2.3.6: type smtp is for replies. */
        buf_format(&l->text, "Diagnostic-Code: %s; %s\r\n",
                   is_reply(f->reply) ? "smtp" : "X-lanpost", f->reply);
        flush(l);
    }
    buf_puts(&l->text, "\r\n");
    write_boundary(l, "--");
    flush(l);
}

/* False: the queue is full. */
static bool write_letter(unsigned failures, int64_t now_ms, int64_t now_s)
{
    const struct settings *s = settings();
    struct letter l = {.now_ms = now_ms,
                       .now_s = now_s,
                       .sender = *s->sender ? s->sender : s->postmaster,
                       .recipient = s->postmaster};
    l.id = queue_new(l.sender, 0);
    if (l.id == QUEUE_NONE)
        return false;
    buf_init(&l.text, l.space, sizeof l.space);
    l.is_full = !queue_add_recipient(l.id, l.recipient);
    write_header(&l, failures);
    write_text(&l);
    write_status(&l);
    if (l.is_full) {
        queue_drop(l.id);
        return false;
    }
    queue_commit(l.id, QUEUE_IS_NOTICE, now_ms);
    log_line(LOG_AT_INFO, "out", "id=%08X notice to=<%s> failures=%u",
             (unsigned)l.id, l.recipient, failures);
    return true;
}

/* ---- When ---------------------------------------------------------------- */

static int64_t later_of(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* The day of the cap begins with its first notice. */
static void count_notice(int64_t now_ms)
{
    if (n.of_day == 0 || now_ms - n.day_ms >= DAY_MS) {
        n.day_ms = now_ms;
        n.of_day = 0;
    }
    n.of_day++;
}

int64_t notice_wake_ms(void)
{
    const struct settings *s = settings();
    int64_t first_ms = INT64_MAX, at_ms;
    for (size_t i = 0; i < n.count; i++)
        if (!n.failures[i].is_held && n.failures[i].since_ms < first_ms)
            first_ms = n.failures[i].since_ms;
    if (first_ms == INT64_MAX)
        return INT64_MAX;
    at_ms = later_of(first_ms + DELAY_MS, n.again_ms);
    if (n.has_told)
        at_ms = later_of(at_ms, n.told_ms + s->notice_seconds * 1000);
    if (s->notices_per_day > 0 && n.of_day >= s->notices_per_day)
        at_ms = later_of(at_ms, n.day_ms + DAY_MS);
    return at_ms;
}

/* Nobody is to be told. */
static void log_none(enum log_level level, const char *why, unsigned failures)
{
    log_line(level, "out", "notice=none why=\"%s\" failures=%u", why, failures);
}

static void forget_due(void)
{
    for (size_t i = n.count; i-- > 0;)
        if (!n.failures[i].is_held)
            remove_at(i);
    n.more = 0;
}

void notice_run(int64_t now_ms, int64_t now_s)
{
    if (now_ms < notice_wake_ms())
        return;
    unsigned failures = count_due();
    if (*settings()->postmaster == '\0') {
        log_none(LOG_AT_WARN, "postmaster is not set", failures);
    } else if (settings()->notices_per_day == 0) {
        log_none(LOG_AT_DEBUG, "notices_per_day is 0", failures);
    } else if (write_letter(failures, now_ms, now_s)) {
        count_notice(now_ms);
    } else {
        n.again_ms = now_ms + DELAY_MS;
        return;
    }
    n.has_told = true;
    n.told_ms = now_ms;
    forget_due();
}

size_t notice_memory_bytes(void)
{
    return sizeof n;
}
