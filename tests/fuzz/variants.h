/* For targets whose work depends on the settings: a handful of those that
 * people have, by number. */
#ifndef LANPOST_FUZZ_VARIANTS_H
#define LANPOST_FUZZ_VARIANTS_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../rewrite.h"
#include "../../settings.h"
#include "../../users.h"

#define VARIANTS       8
#define VARIANT_ALWAYS 2
#define VARIANT_USER   7

#define LABEL "a234567890123456789012345678901234567890123456789012345678901."

static const char *const variants[VARIANTS] = {
    "sender_rewrite = never\n",
    "sender = me@our.example\n"
    "default_domain = our.example\n"
    "postmaster = admin@our.example\n",
    "sender = me@our.example\n"
    "sender_rewrite = always\n",
    "sender_domains = our.example sub.our.example\n"
    "default_domain = our.example\n",
    "sender = me@our.example\n"
    "sender_domains = our.example\n",
    "rewrite_from 10.0.0.0/8 = scan@our.example\n"
    "rewrite_to root = admin@our.example\n"
    "rewrite_to @old.example = @our.example\n"
    "rewrite_to a@b.example = c@our.example\n",
    "default_domain = " LABEL LABEL LABEL LABEL "example\n",
    "default_domain = our.example\n"
    "sender_rewrite = never\n",
};

#define VARIANT_USERS                                                          \
    "scan:$pbkdf2-sha256$1000$c2FsdHNhbHQ=$"                                   \
    "hgR9HsqtKupWxpnv8y99TrPDajTT/9PcSTlNafpdLXQ=:@our.example me@b.example\n"

/* Puts them in force; returns who sends. */
static struct rewrite_who choose_variant(unsigned number)
{
    static unsigned chosen = VARIANTS;
    struct rewrite_who who = {.user = number == VARIANT_USER ? "scan" : ""};
    char text[1024], error[SETTINGS_ERROR_BYTES], why[USERS_WHY_BYTES];
    ip_parse("10.0.0.9", &who.client);
    if (number == chosen)
        return who;
    chosen = number;
    int n = snprintf(text, sizeof text,
                     "smarthost = 127.0.0.1:9\nsmarthost_tls = none\n%s",
                     variants[number]);
    if (!settings_load_text("variant", text, (size_t)n, error) ||
        !users_load_text(VARIANT_USERS, strlen(VARIANT_USERS), why))
        abort();
    return who;
}

#endif
