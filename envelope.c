/* See envelope.h. */
#include "envelope.h"

#include <stddef.h>
#include <string.h>

#include "buf.h"
#include "settings.h"

const char envelope_too_big[] = "552 5.3.4 Message too large";

static const char R_BAD_SENDER[] = "501 5.1.7 Bad sender address";
static const char R_BAD_RECIPIENT[] = "501 5.1.3 Bad recipient address";
static const char R_BAD_PARAMETER[] = "501 5.5.4 Bad parameter";
static const char R_HALF_SENDER[] =
    "553 5.1.7 Sender address has no domain: set one on the device";
static const char R_FOREIGN[] =
    "550 5.7.1 This sender is not of a domain that we send for";
static const char R_FORBIDDEN[] = "553 5.7.1 You may not send as this address";
static const char R_HALF_RECIPIENT[] =
    "550 5.1.3 Recipient address has no domain: set one on the device";
static const char R_NO_POSTMASTER[] =
    "550 5.1.1 No postmaster is set here (setting: postmaster)";

static const struct {
    const char *reply, *advice;
} advices[] = {
    {R_HALF_SENDER, "set default_domain, or sender"},
    {R_HALF_RECIPIENT, "set default_domain, or a rewrite_to for it"},
    {R_FOREIGN, "set sender, or add the domain to sender_domains"},
    {R_FORBIDDEN, "add the address to the user's line in users_file"},
    {R_NO_POSTMASTER, "set postmaster"},
    {envelope_too_big, "send less at a time, or raise message_max_bytes"},
};

const char *envelope_advice(const char *reply)
{
    for (size_t i = 0; i < sizeof advices / sizeof advices[0]; i++)
        if (advices[i].reply == reply)
            return advices[i].advice;
    return NULL;
}

static bool is_from(const char *arg)
{
    size_t length = strcspn(arg, " \t:");
    return bytes_equal_nocase(arg, length, "FROM") &&
           arg[length + strspn(arg + length, " \t")] == ':';
}

const char *envelope_take_mail(const char *arg, const struct rewrite_who *who,
                               struct path *from, uint64_t *size)
{
    switch (path_mail(arg, from, size)) {
    case PATH_BAD:
        if (!is_from(arg) || !rewrite_unreadable(who, from))
            return R_BAD_SENDER;
        break;
    case PATH_BAD_PARAMETER: return R_BAD_PARAMETER;
    case PATH_GOOD: break;
    }
    switch (rewrite_sender(who, from)) {
    case REWRITE_HALF: return R_HALF_SENDER;
    case REWRITE_FOREIGN: return R_FOREIGN;
    case REWRITE_FORBIDDEN: return R_FORBIDDEN;
    case REWRITE_KEPT:
    case REWRITE_CHANGED: break;
    }
    return *size > (uint64_t)settings()->message_max_bytes ? envelope_too_big
                                                           : NULL;
}

const char *envelope_take_rcpt(const char *arg, struct path *to)
{
    switch (path_rcpt(arg, to)) {
    case PATH_BAD: return R_BAD_RECIPIENT;
    case PATH_BAD_PARAMETER: return R_BAD_PARAMETER;
    case PATH_GOOD: break;
    }
    if (*to->mailbox == '\0')
        return R_BAD_RECIPIENT;
    if (rewrite_recipient(to) != REWRITE_HALF)
        return NULL;
    return text_equal_nocase(to->mailbox, "postmaster") ? R_NO_POSTMASTER
                                                        : R_HALF_RECIPIENT;
}
