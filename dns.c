/* See dns.h.
 *
 * A question holds a slot. A literal, the hosts file or the cache answer it at
 * once; else its legs do, one for each record type. A second question for a
 * name that is being asked waits ("parked") and is then answered by the cache:
 * two queries at a time would double a forger's luck (RFC 5452 section 5).
 *
 * The search list of resolv.conf is ignored: a smarthost's name is absolute,
 * and a list would let another domain answer for a mistyped one. */
#include "dns.h"

#include <string.h>

#include "buf.h"
#include "crypto.h"
#include "dns_files.h"
#include "dns_leg.h"
#include "log.h"
#include "poller.h"

#define GRACE_MS        1000 /* for the other family once one is found */
#define QUIET_MS        5000 /* no question for a name that just failed */
#define TTL_MIN_SECONDS 30   /* also of "no such name" and of half answers */
#define TTL_MAX_SECONDS 86400
#define STALE_MS        (3 * 86400 * INT64_C(1000)) /* RFC 8767 section 5 */
#define LEGS            2

static_assert(DNS_CACHE_ENTRIES >= DNS_SLOTS,
              "a parked question finds its answer in the cache: raise "
              "DNS_CACHE_ENTRIES");

struct slot {
    bool is_taken;
    bool is_asking; /* legs are under way; else parked, while DNS_WAIT */
    enum dns_state state;
    enum dns_kind kind;
    char name[DNS_NAME_BYTES];
    int64_t grace_ms; /* 0: no leg has found anything yet */
    struct dns_answer answer;
    struct dns_leg legs[LEGS]; /* A or MX; AAAA */
};

struct entry {
    char name[DNS_NAME_BYTES]; /* "" = vacant */
    enum dns_kind kind;
    enum dns_state state; /* DNS_WAIT: nothing known but quiet_until_ms */
    int64_t expires_ms;
    int64_t quiet_until_ms;
    const char *why_quiet; /* the failure that made it so */
    int64_t used_ms;       /* the least used one makes room */
    struct dns_answer answer;
};

static struct slot slots[DNS_SLOTS];
static struct entry cache[DNS_CACHE_ENTRIES];
static const char *hosts_path;
static bool is_failing; /* said once, not for every question */

static const char WHY_BAD_NAME[] = "this is not a name that can be looked up";
static const char WHY_BAD_ADDRESS[] = "no host can have this address";
static const char WHY_NO_TICKET[] = "nothing was asked";

/* ---- Answers ------------------------------------------------------------- */

static void slot_answer(struct slot *s, enum dns_state state, const char *why)
{
    s->state = state;
    s->is_asking = false;
    s->answer.why = why;
}

/* One of each family in turn: the caller that tries the first few has tried
 * both. IPv4 leads, for there are more LANs with broken IPv6 than without
 * IPv4. */
static void merge_addresses(struct slot *s)
{
    struct dns_answer *a = &s->answer;
    for (unsigned i = 0; i < DNS_ADDRESSES_MAX; i++)
        for (int k = 0; k < LEGS; k++)
            if (i < s->legs[k].records.count && a->count < DNS_ADDRESSES_MAX)
                a->addresses[a->count++] = s->legs[k].records.addresses[i];
}

/* RFC 5321 section 5.1: those of equal preference in random order. */
static void shuffle_equals(struct dns_answer *a)
{
    struct dns_exchanger *e = a->exchangers;
    for (unsigned i = 0; i + 1 < a->count; i++) {
        unsigned equals = 1;
        while (i + equals < a->count &&
               e[i + equals].preference == e[i].preference)
            equals++;
        unsigned pick = i + crypto_random_u32() % equals;
        struct dns_exchanger other = e[pick];
        e[pick] = e[i];
        e[i] = other;
    }
}

/* ---- The cache ----------------------------------------------------------- */

static struct entry *cache_find(const struct slot *s)
{
    for (int i = 0; i < DNS_CACHE_ENTRIES; i++)
        if (cache[i].name[0] != '\0' && cache[i].kind == s->kind &&
            text_equal_nocase(cache[i].name, s->name))
            return &cache[i];
    return NULL;
}

/* The question's entry, or the least used one emptied for it. */
static struct entry *cache_entry(const struct slot *s)
{
    struct entry *e = cache_find(s);
    if (e != NULL)
        return e;
    e = &cache[0];
    for (int i = 1; i < DNS_CACHE_ENTRIES; i++)
        if (cache[i].used_ms < e->used_ms)
            e = &cache[i];
    *e = (struct entry){.kind = s->kind};
    text_copy(e->name, sizeof e->name, s->name);
    return e;
}

static void cache_store(const struct slot *s, uint32_t ttl_seconds,
                        int64_t now_ms)
{
    struct entry *e = cache_entry(s);
    if (ttl_seconds < TTL_MIN_SECONDS)
        ttl_seconds = TTL_MIN_SECONDS;
    if (ttl_seconds > TTL_MAX_SECONDS)
        ttl_seconds = TTL_MAX_SECONDS;
    e->state = s->state;
    e->answer = s->answer;
    e->used_ms = now_ms;
    e->quiet_until_ms = 0;
    e->expires_ms = now_ms + (int64_t)ttl_seconds * 1000;
}

/* New servers may know what the old ones did not. */
static void cache_forget_failures(void)
{
    for (int i = 0; i < DNS_CACHE_ENTRIES; i++)
        cache[i].quiet_until_ms = 0;
}

static void slot_answer_from(struct slot *s, const struct entry *e)
{
    s->answer = e->answer;
    slot_answer(s, e->state, e->answer.why);
    if (s->kind == DNS_MX)
        shuffle_equals(&s->answer);
}

/* An address that worked yesterday beats no address (RFC 8767). */
static void slot_answer_failed(struct slot *s, const struct entry *e,
                               int64_t now_ms)
{
    if (e->state == DNS_FOUND && now_ms < e->expires_ms + STALE_MS) {
        slot_answer_from(s, e);
        s->answer.is_stale = true;
    } else {
        slot_answer(s, DNS_FAILED, e->why_quiet);
    }
}

static bool slot_answer_cached(struct slot *s, int64_t now_ms)
{
    struct entry *e = cache_find(s);
    if (e == NULL)
        return false;
    e->used_ms = now_ms;
    if (e->state != DNS_WAIT && now_ms < e->expires_ms)
        slot_answer_from(s, e);
    else if (now_ms < e->quiet_until_ms)
        slot_answer_failed(s, e, now_ms);
    else
        return false;
    return true;
}

/* ---- Questions ----------------------------------------------------------- */

static bool is_asked_already(const struct slot *s)
{
    for (int i = 0; i < DNS_SLOTS; i++)
        if (slots[i].is_asking && slots[i].kind == s->kind &&
            text_equal_nocase(slots[i].name, s->name))
            return true;
    return false;
}

static const struct dns_leg *slot_leg_in(const struct slot *s,
                                         enum dns_leg_state state)
{
    for (int i = 0; i < LEGS; i++)
        if (s->legs[i].state == state)
            return &s->legs[i];
    return NULL;
}

static void slot_finish_found(struct slot *s, int64_t now_ms)
{
    uint32_t ttl_seconds = UINT32_MAX;
    if (s->kind == DNS_MX) {
        s->answer.count = s->legs[0].records.count;
        memcpy(s->answer.exchangers, s->legs[0].records.exchangers,
               sizeof s->answer.exchangers);
        shuffle_equals(&s->answer);
    }
    for (int i = 0; i < LEGS; i++) {
        if (s->legs[i].state != DNS_LEG_FOUND)
            s->legs[i].records.count = 0;
        else if (s->legs[i].ttl_seconds < ttl_seconds)
            ttl_seconds = s->legs[i].ttl_seconds;
    }
    if (s->kind == DNS_HOST)
        merge_addresses(s);
    /* Half an answer must not hide the other half for a day. */
    if (slot_leg_in(s, DNS_LEG_FAILED) != NULL)
        ttl_seconds = TTL_MIN_SECONDS;
    slot_answer(s, DNS_FOUND, NULL);
    cache_store(s, ttl_seconds, now_ms);
}

static void slot_finish_failed(struct slot *s, const char *why, int64_t now_ms)
{
    struct entry *e = cache_entry(s);
    log_line(is_failing ? LOG_AT_DEBUG : LOG_AT_WARN, "dns",
             "name=%s failed: %s", s->name, why);
    is_failing = true;
    e->quiet_until_ms = now_ms + QUIET_MS;
    e->why_quiet = why;
    e->used_ms = now_ms;
    slot_answer_failed(s, e, now_ms);
}

static void slot_finish_none(struct slot *s, int64_t now_ms)
{
    slot_answer(s, DNS_NONE, s->legs[0].why);
    cache_store(s, TTL_MIN_SECONDS, now_ms);
}

static void say_recovered(void)
{
    if (is_failing)
        log_line(LOG_AT_INFO, "dns", "name servers answer again");
    is_failing = false;
}

/* Has the question its answer? Nobody waits longer than GRACE_MS for the
 * other family: many routers never answer AAAA. */
static void slot_settle(struct slot *s, int64_t now_ms)
{
    bool is_found = slot_leg_in(s, DNS_LEG_FOUND) != NULL, is_waiting = false;
    for (int i = 0; i < LEGS; i++)
        is_waiting |= dns_leg_is_waiting(&s->legs[i]);
    if (is_found && s->grace_ms == 0)
        s->grace_ms = now_ms + GRACE_MS;
    if (is_waiting && (!is_found || now_ms < s->grace_ms))
        return;
    for (int i = 0; i < LEGS; i++)
        if (dns_leg_is_waiting(&s->legs[i]))
            dns_leg_end(&s->legs[i], DNS_LEG_FAILED);
    const struct dns_leg *failed = slot_leg_in(s, DNS_LEG_FAILED);
    if (!is_found && failed != NULL) {
        slot_finish_failed(s, failed->why, now_ms);
        return;
    }
    say_recovered();
    if (is_found)
        slot_finish_found(s, now_ms);
    else
        slot_finish_none(s, now_ms);
}

/* Asks the servers, unless somebody does already. When none of them can be
 * reached at all, that is the answer. */
static void slot_start(struct slot *s, int64_t now_ms)
{
    if (is_asked_already(s))
        return;
    s->is_asking = true;
    if (s->kind == DNS_MX) {
        dns_leg_start(&s->legs[0], s->name, DNS_TYPE_MX, now_ms);
    } else {
        dns_leg_start(&s->legs[0], s->name, DNS_TYPE_A, now_ms);
        dns_leg_start(&s->legs[1], s->name, DNS_TYPE_AAAA, now_ms);
    }
    slot_settle(s, now_ms);
}

static bool slot_answer_literal(struct slot *s, const char *name)
{
    struct ip_address a;
    if (s->kind != DNS_HOST || !ip_parse(name, &a))
        return false;
    dns_records_add_address(&s->legs[0].records, &a);
    merge_addresses(s);
    if (s->answer.count > 0)
        slot_answer(s, DNS_FOUND, NULL);
    else
        slot_answer(s, DNS_NONE, WHY_BAD_ADDRESS);
    return true;
}

/* Read anew for each question: that is one small file for one connection to
 * the smarthost, and needs no memory of what it said. */
static bool slot_answer_hosts(struct slot *s)
{
    if (s->kind != DNS_HOST)
        return false;
    struct ip_address found[2 * DNS_ADDRESSES_MAX];
    unsigned count =
        dns_files_hosts(hosts_path, s->name, found, 2 * DNS_ADDRESSES_MAX);
    for (unsigned i = 0; i < count; i++)
        dns_records_add_address(
            &s->legs[found[i].family == AF_INET ? 0 : 1].records, &found[i]);
    merge_addresses(s);
    if (s->answer.count > 0)
        slot_answer(s, DNS_FOUND, NULL);
    return s->answer.count > 0;
}

/* ---- The border ---------------------------------------------------------- */

void dns_init(const char *resolv_file, const char *hosts_file)
{
    for (int i = 0; i < DNS_SLOTS; i++)
        dns_forget(i);
    memset(cache, 0, sizeof cache);
    dns_leg_init(resolv_file);
    hosts_path = hosts_file;
    is_failing = false;
}

/* A name that is known to be valid, without its trailing dot. */
static void slot_take_name(struct slot *s, const char *name)
{
    text_copy(s->name, sizeof s->name, name);
    size_t length = strlen(s->name);
    if (s->name[length - 1] == '.')
        s->name[length - 1] = '\0';
}

int dns_ask(const char *name, enum dns_kind kind, int64_t now_ms)
{
    int ticket = 0;
    while (ticket < DNS_SLOTS && slots[ticket].is_taken)
        ticket++;
    if (ticket == DNS_SLOTS)
        return DNS_NO_SLOT;
    struct slot *s = &slots[ticket];
    s->is_taken = true;
    s->kind = kind;
    if (slot_answer_literal(s, name))
        return ticket;
    if (!dns_name_is_valid(name)) {
        slot_answer(s, DNS_NONE, WHY_BAD_NAME);
        return ticket;
    }
    slot_take_name(s, name);
    if (dns_leg_refresh_servers())
        cache_forget_failures();
    if (!slot_answer_hosts(s) && !slot_answer_cached(s, now_ms))
        slot_start(s, now_ms);
    return ticket;
}

enum dns_state dns_result(int ticket, struct dns_answer *answer)
{
    if (ticket < 0 || ticket >= DNS_SLOTS || !slots[ticket].is_taken) {
        *answer = (struct dns_answer){.why = WHY_NO_TICKET};
        return DNS_FAILED;
    }
    if (slots[ticket].state != DNS_WAIT)
        *answer = slots[ticket].answer;
    return slots[ticket].state;
}

void dns_forget(int ticket)
{
    if (ticket < 0 || ticket >= DNS_SLOTS)
        return;
    for (int i = 0; i < LEGS; i++)
        dns_leg_end(&slots[ticket].legs[i], DNS_LEG_IDLE);
    memset(&slots[ticket], 0, sizeof slots[ticket]);
}

void dns_prep(struct poller *p)
{
    for (int i = 0; i < DNS_SLOTS; i++) {
        struct slot *s = &slots[i];
        if (!s->is_taken || s->state != DNS_WAIT)
            continue;
        for (int k = 0; k < LEGS; k++)
            dns_leg_prep(&s->legs[k], p);
        if (s->grace_ms != 0)
            poller_wake_at(p, s->grace_ms);
        if (!s->is_asking && !is_asked_already(s))
            poller_wake_at(p, 0); /* parked behind one that was forgotten */
    }
}

void dns_run(const struct poller *p, int64_t now_ms)
{
    for (int i = 0; i < DNS_SLOTS; i++) {
        if (!slots[i].is_asking)
            continue;
        for (int k = 0; k < LEGS; k++)
            dns_leg_run(&slots[i].legs[k], p, now_ms);
        slot_settle(&slots[i], now_ms);
    }
    for (int i = 0; i < DNS_SLOTS; i++) {
        struct slot *s = &slots[i];
        if (s->is_taken && s->state == DNS_WAIT && !s->is_asking &&
            !slot_answer_cached(s, now_ms))
            slot_start(s, now_ms);
    }
}

size_t dns_memory_bytes(void)
{
    return sizeof slots + sizeof cache + dns_leg_memory_bytes();
}
