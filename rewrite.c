/* See rewrite.h. */
#include "rewrite.h"

#include <stdio.h>
#include <string.h>

#include "buf.h"
#include "settings.h"
#include "users.h"

/* RFC 6762, 6761, 8375, and what routers call their LANs. */
static const char *const impossible[] = {
    ".local", ".localdomain", ".localhost", ".lan",
    ".home",  ".internal",    ".invalid",   ".home.arpa"};

/* Behind the last '@': a quoted local-part may hold others. */
static const char *domain_of(const char *mailbox)
{
    const char *at = strrchr(mailbox, '@');
    return at != NULL ? at + 1 : "";
}

static bool ends_in(const char *text, const char *end)
{
    size_t length = strlen(text), tail = strlen(end);
    return length > tail && text_equal_nocase(text + length - tail, end);
}

bool rewrite_is_impossible(const char *mailbox)
{
    const char *domain = domain_of(mailbox);
    if (*mailbox == '"' || *domain == '[' || strchr(domain, '.') == NULL)
        return true;
    for (size_t i = 0; i < sizeof impossible / sizeof impossible[0]; i++)
        if (ends_in(domain, impossible[i]))
            return true;
    return false;
}

static void replace(struct path *p, const char *mailbox)
{
    const char *rest;
    path_parse(mailbox, p, &rest); /* of the settings: known to be good */
}

/* False: this is none, and p stays. */
static bool replace_if_good(struct path *p, const char *mailbox)
{
    struct path other;
    const char *rest;
    if (!path_parse(mailbox, &other, &rest))
        return false;
    *p = other;
    return true;
}

/* False: there is no default_domain, or the whole grows too long. */
static bool complete(struct path *p)
{
    char whole[PATH_BYTES];
    const char *domain = settings()->default_domain;
    int n = snprintf(whole, sizeof whole, "%s@%s", p->mailbox, domain);
    return *domain != '\0' && n < (int)sizeof whole &&
           replace_if_good(p, whole);
}

/* ---- Senders ------------------------------------------------------------- */

static bool replace_by_client(const struct rewrite_who *who, struct path *from)
{
    char left[VALUE_PAIR_BYTES], right[VALUE_PAIR_BYTES];
    struct ip_network network;
    const char *at = settings()->rewrite_from;
    while (value_next_pair(&at, left, right))
        if (ip_parse_network(left, &network) &&
            ip_in_network(&who->client, &network)) {
            replace(from, right);
            return true;
        }
    return false;
}

static bool is_of_our_domains(const char *mailbox)
{
    const char *at = settings()->sender_domains, *word;
    const char *domain = domain_of(mailbox);
    if (*at == '\0')
        return true;
    for (size_t n; (n = value_next_word(&at, &word)) > 0;)
        if (bytes_equal_nocase(word, n, domain))
            return true;
    return false;
}

/* Of one sender: what the settings make of it. */
static enum rewrite_verdict judge(const struct rewrite_who *who,
                                  struct path *from)
{
    const struct settings *s = settings();
    bool may_replace = *s->sender != '\0' && s->sender_rewrite != REWRITE_NEVER;
    bool is_changed = false;
    if (replace_by_client(who, from))
        return REWRITE_CHANGED;
    if (s->sender_rewrite == REWRITE_ALWAYS) {
        replace(from, s->sender);
        return REWRITE_CHANGED;
    }
    if (*from->mailbox == '\0')
        return REWRITE_KEPT;
    if (!from->has_domain) {
        is_changed = complete(from);
        if (!is_changed && !may_replace)
            return REWRITE_HALF;
    }
    bool is_ours = is_of_our_domains(from->mailbox);
    if (may_replace && (!is_ours || rewrite_is_impossible(from->mailbox))) {
        replace(from, s->sender);
        return REWRITE_CHANGED;
    }
    if (!is_ours)
        return REWRITE_FOREIGN;
    return is_changed ? REWRITE_CHANGED : REWRITE_KEPT;
}

enum rewrite_verdict rewrite_sender(const struct rewrite_who *who,
                                    struct path *from)
{
    char before[PATH_BYTES];
    text_copy(before, sizeof before, from->mailbox);
    enum rewrite_verdict verdict = judge(who, from);
    if (verdict > REWRITE_CHANGED)
        return verdict;
    if (*who->user != '\0' && !users_may_send(who->user, from->mailbox))
        return REWRITE_FORBIDDEN;
    return strcmp(before, from->mailbox) == 0 ? REWRITE_KEPT : REWRITE_CHANGED;
}

bool rewrite_unreadable(const struct rewrite_who *who, struct path *from)
{
    const struct settings *s = settings();
    memset(from, 0, sizeof *from);
    if (replace_by_client(who, from))
        return true;
    if (*s->sender == '\0' || s->sender_rewrite == REWRITE_NEVER)
        return false;
    replace(from, s->sender);
    return true;
}

/* ---- Recipients ---------------------------------------------------------- */

/* "root" means the root of this house, however a device calls the house. */
static bool is_local_part(const char *left, const char *mailbox)
{
    const char *at = strrchr(mailbox, '@');
    size_t length = at != NULL ? (size_t)(at - mailbox) : strlen(mailbox);
    bool is_at_home = at == NULL || strchr(at, '.') == NULL;
    return strchr(left, '@') == NULL && is_at_home &&
           bytes_equal_nocase(mailbox, length, left);
}

/* "@old.example=@new.example". False: the whole grows too long. */
static bool move_domain(struct path *to, const char *domain)
{
    char whole[PATH_BYTES];
    int local = (int)(domain_of(to->mailbox) - to->mailbox);
    int n =
        snprintf(whole, sizeof whole, "%.*s%s", local, to->mailbox, domain + 1);
    return n < (int)sizeof whole && replace_if_good(to, whole);
}

static bool replace_by_recipient(struct path *to)
{
    char left[VALUE_PAIR_BYTES], right[VALUE_PAIR_BYTES];
    const char *at = settings()->rewrite_to;
    while (value_next_pair(&at, left, right)) {
        if (*left == '@' && to->has_domain &&
            text_equal_nocase(left + 1, domain_of(to->mailbox)))
            return move_domain(to, right);
        if (text_equal_nocase(left, to->mailbox) ||
            is_local_part(left, to->mailbox)) {
            replace(to, right);
            return true;
        }
    }
    return false;
}

enum rewrite_verdict rewrite_recipient(struct path *to)
{
    if (replace_by_recipient(to))
        return REWRITE_CHANGED;
    if (to->has_domain)
        return REWRITE_KEPT;
    bool is_postmaster = text_equal_nocase(to->mailbox, "postmaster");
    if (is_postmaster && *settings()->postmaster != '\0') {
        replace(to, settings()->postmaster);
        return REWRITE_CHANGED;
    }
    /* RFC 5321 section 4.5.1 asks for our postmaster, not for a domain's. */
    if (is_postmaster || !complete(to))
        return REWRITE_HALF;
    replace_by_recipient(to);
    return REWRITE_CHANGED;
}
