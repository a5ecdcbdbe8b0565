/* clients: what is remembered of each device: mails today, the last mail, the
 * last failure with its advice; and how many logins it has failed.
 *
 * A fixed table; the address that was silent for longest makes room. Answers
 * "why did my printer fail" for a person who asks later, and slows down who
 * guesses passwords. Must never know: sessions, sockets, the log. */
#ifndef LANPOST_CLIENTS_H
#define LANPOST_CLIENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config.h"
#include "ip.h"

#define CLIENT_WHY_BYTES    160
#define CLIENT_ADVICE_BYTES 120

/* Times in seconds of the wall clock, 0 = never. */
struct client {
    struct ip_address address; /* family 0 = vacant */
    unsigned mails_today;
    int64_t last_mail_s, last_failure_s;
    char why[CLIENT_WHY_BYTES], advice[CLIENT_ADVICE_BYTES];
    uint64_t used; /* the higher, the later */
    struct client_logins {
        unsigned failed;  /* since began_ms */
        int64_t began_ms; /* of the window in which they are counted */
        int64_t told_ms;  /* when the log was last told; 0 = never */
    } logins;
};

void clients_init(void);

void clients_note_mail(const struct ip_address *address, int64_t now_s);

/* why, advice: plain words of ours; advice may be NULL. */
void clients_note_failure(const struct ip_address *address, const char *why,
                          const char *advice, int64_t now_s);

/* How long this address must wait before a password is looked at; 0: not at
 * all. ADDRESS_LOGINS_MAX failures within ADDRESS_LOGINS_SECONDS are borne. */
int64_t clients_login_wait_ms(const struct ip_address *address, int64_t now_ms);

/* Counts a failed login. True: the log should be told, which is once in
 * ADDRESS_LOGINS_SECONDS. A good one changes nothing: else a guesser with a
 * login of his own could go on for ever. */
bool clients_note_bad_login(const struct ip_address *address, int64_t now_ms);

/* The next one in use, in no order; start with NULL. mails_today is of the
 * day of the last mail. */
const struct client *clients_walk(const struct client *after);

size_t clients_memory_bytes(void);

#endif
