/* See clients.h. */
#include "clients.h"

#include <string.h>
#include <time.h>

#include "buf.h"

static struct client table[CLIENTS_REMEMBERED];
static uint64_t uses;
static int64_t latest_ms; /* of the last login */

void clients_init(void)
{
    memset(table, 0, sizeof table);
    uses = 0;
    latest_ms = 0;
}

static struct client *find(const struct ip_address *address)
{
    for (size_t i = 0; i < CLIENTS_REMEMBERED; i++)
        if (table[i].address.family != 0 &&
            ip_equal(&table[i].address, address))
            return &table[i];
    return NULL;
}

static int64_t window_end_ms(const struct client *c)
{
    return c->logins.began_ms + ADDRESS_LOGINS_SECONDS * (int64_t)1000;
}

/* What is worth keeping: failed logins that still count, or a guesser with
 * many addresses would wipe out his own; then a device that has sent mail, or
 * a scan of the network would wipe out the devices. */
static unsigned worth(const struct client *c)
{
    bool is_counting = c->logins.failed > 0 && latest_ms < window_end_ms(c);
    return (is_counting ? 2u : 0u) + (c->last_mail_s != 0 ? 1u : 0u);
}

static bool is_better_to_lose(const struct client *a, const struct client *b)
{
    return worth(a) != worth(b) ? worth(a) < worth(b) : a->used < b->used;
}

static struct client *find_or_make(const struct ip_address *address)
{
    struct client *c = find(address);
    if (c == NULL) {
        c = &table[0];
        for (size_t i = 1; i < CLIENTS_REMEMBERED; i++)
            if (is_better_to_lose(&table[i], c))
                c = &table[i];
        memset(c, 0, sizeof *c);
        c->address = *address;
    }
    c->used = ++uses;
    return c;
}

static bool is_same_day(int64_t a_s, int64_t b_s)
{
    struct tm a, b;
    time_t at = (time_t)a_s;
    localtime_r(&at, &a);
    at = (time_t)b_s;
    localtime_r(&at, &b);
    return a.tm_yday == b.tm_yday && a.tm_year == b.tm_year;
}

void clients_note_mail(const struct ip_address *address, int64_t now_s)
{
    struct client *c = find_or_make(address);
    if (!is_same_day(c->last_mail_s, now_s))
        c->mails_today = 0;
    c->mails_today++;
    c->last_mail_s = now_s;
}

void clients_note_failure(const struct ip_address *address, const char *why,
                          const char *advice, int64_t now_s)
{
    struct client *c = find_or_make(address);
    text_copy(c->why, sizeof c->why, why);
    text_copy(c->advice, sizeof c->advice, advice != NULL ? advice : "");
    c->last_failure_s = now_s;
}

int64_t clients_login_wait_ms(const struct ip_address *address, int64_t now_ms)
{
    const struct client *c = find(address);
    if (c == NULL || c->logins.failed < ADDRESS_LOGINS_MAX ||
        now_ms >= window_end_ms(c))
        return 0;
    return window_end_ms(c) - now_ms;
}

bool clients_note_bad_login(const struct ip_address *address, int64_t now_ms)
{
    latest_ms = now_ms;
    struct client *c = find_or_make(address);
    if (c->logins.failed == 0 || now_ms >= window_end_ms(c)) {
        c->logins.failed = 0;
        c->logins.began_ms = now_ms;
    }
    if (++c->logins.failed == ADDRESS_LOGINS_MAX)
        c->logins.began_ms = now_ms; /* the wait is a whole one */
    bool is_due =
        c->logins.told_ms == 0 ||
        now_ms - c->logins.told_ms >= ADDRESS_LOGINS_SECONDS * (int64_t)1000;
    if (is_due)
        c->logins.told_ms = now_ms;
    return is_due;
}

const struct client *clients_walk(const struct client *after)
{
    const struct client *c = after != NULL ? after + 1 : table;
    while (c < table + CLIENTS_REMEMBERED && c->address.family == 0)
        c++;
    return c < table + CLIENTS_REMEMBERED ? c : NULL;
}

size_t clients_memory_bytes(void)
{
    return sizeof table;
}
