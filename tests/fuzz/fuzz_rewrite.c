/* The paths of MAIL and RCPT, from the device's words to what the settings
 * make of them: whatever is let through stands there as it will stand in the
 * envelope, and means itself when it is read again.
 *
 * The first byte picks the settings; the rest is what came behind the
 * colon. */
#include <stdlib.h>
#include <string.h>

#include "../../envelope.h"
#include "variants.h"

static void demand(bool good)
{
    if (!good)
        abort();
}

static size_t local_bytes(const char *mailbox)
{
    const char *at = strrchr(mailbox, '@');
    return at ? (size_t)(at - mailbox) : strlen(mailbox);
}

static void expect_read_as(const char *text, const struct path *p)
{
    struct path again;
    const char *rest;
    demand(path_parse(text, &again, &rest) && *rest == '\0' &&
           strcmp(again.mailbox, p->mailbox) == 0 &&
           again.has_domain == p->has_domain && again.is_utf8 == p->is_utf8);
}

static void expect_canonical(const struct path *p)
{
    char text[PATH_BYTES + 2];
    demand(memchr(p->mailbox, '\0', sizeof p->mailbox) != NULL);
    bool is_quoted = *p->mailbox == '"';
    for (const char *c = p->mailbox; *c; c++)
        demand((unsigned char)*c >= ' ' && *c != 0x7f &&
               (*c != ' ' || is_quoted));
    /* A local-part that was quoted may have grown beyond its limit. */
    if (is_quoted && local_bytes(p->mailbox) > PATH_LOCAL_MAX)
        return;
    snprintf(text, sizeof text, "<%s>", p->mailbox);
    expect_read_as(text, p);
    if (*p->mailbox != '\0')
        expect_read_as(p->mailbox, p);
}

static void check_sender(const struct rewrite_who *who, unsigned variant,
                         struct path p)
{
    bool was_null = *p.mailbox == '\0';
    enum rewrite_verdict verdict = rewrite_sender(who, &p);
    if (verdict > REWRITE_CHANGED)
        return;
    expect_canonical(&p);
    demand(p.has_domain || (*p.mailbox == '\0' && was_null));
    if (variant == VARIANT_ALWAYS)
        demand(strcmp(p.mailbox, settings()->sender) == 0);
    if (variant == VARIANT_USER)
        demand(users_may_send(who->user, p.mailbox));
    struct path again = p;
    demand(rewrite_sender(who, &again) == REWRITE_KEPT &&
           memcmp(&again, &p, sizeof p) == 0);
    rewrite_is_impossible(p.mailbox);
}

static void check_recipient(struct path p)
{
    if (*p.mailbox == '\0' || rewrite_recipient(&p) > REWRITE_CHANGED)
        return;
    expect_canonical(&p);
    demand(p.has_domain);
}

/* A reply is one line of ours; what is good is so for the envelope, too. */
static void check_envelope(const struct rewrite_who *who, const char *mail,
                           const char *rcpt)
{
    struct path p;
    uint64_t size = 0;
    const char *refusal = envelope_take_mail(mail, who, &p, &size);
    if (refusal == NULL)
        expect_canonical(&p);
    else
        demand(*refusal == '5');
    refusal = envelope_take_rcpt(rcpt, &p);
    if (refusal == NULL) {
        expect_canonical(&p);
        demand(p.has_domain);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct path from, to;
    uint64_t size = 0;
    if (bytes == 0)
        return 0;
    unsigned variant = data[0] % VARIANTS;
    struct rewrite_who who = choose_variant(variant);
    char *mail = malloc(bytes + 5), *rcpt = malloc(bytes + 3);
    snprintf(mail, bytes + 5, "FROM:%.*s", (int)bytes - 1, (char *)data + 1);
    snprintf(rcpt, bytes + 3, "TO:%.*s", (int)bytes - 1, (char *)data + 1);
    bool has_mail = path_mail(mail, &from, &size) == PATH_GOOD;
    bool has_rcpt = path_rcpt(rcpt, &to) == PATH_GOOD;
    demand(has_rcpt || !has_mail); /* RCPT looks at no parameter's value */
    if (has_rcpt) {
        expect_canonical(&to);
        check_recipient(to);
        check_sender(&who, variant, to);
    }
    if (has_mail)
        demand(memcmp(&from, &to, sizeof to) == 0);
    check_envelope(&who, mail, rcpt);
    free(mail);
    free(rcpt);
    return 0;
}
