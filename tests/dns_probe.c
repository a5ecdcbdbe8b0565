/* dns_probe: asks one question with a real clock and a real loop.
 *
 *   dns_probe RESOLV_FILE HOSTS_FILE host|mx NAME [TIMES]
 *
 * Prints what came, one record a line, and exits 0 when something was found.
 * With TIMES it asks again and again, two seconds apart, in one process. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../crypto.h"
#include "../dns.h"
#include "../poller.h"

static void print_answer(enum dns_kind kind, const struct dns_answer *a)
{
    char text[IP_TEXT_BYTES];
    for (unsigned i = 0; i < a->count; i++) {
        if (kind == DNS_HOST)
            printf("%s\n", ip_format(&a->addresses[i], text));
        else
            printf("%u %s\n", a->exchangers[i].preference,
                   a->exchangers[i].name);
    }
    if (a->is_stale)
        printf("stale\n");
}

static bool ask(const char *name, enum dns_kind kind)
{
    static struct poller p;
    static struct dns_answer answer;
    enum dns_state state;
    int64_t start_ms = clock_ms();
    int ticket = dns_ask(name, kind, start_ms);
    while ((state = dns_result(ticket, &answer)) == DNS_WAIT) {
        poller_reset(&p);
        dns_prep(&p);
        poller_wait(&p, clock_ms());
        dns_run(&p, clock_ms());
    }
    if (state == DNS_FOUND)
        print_answer(kind, &answer);
    else
        printf("%s: %s\n", state == DNS_NONE ? "none" : "failed", answer.why);
    printf("ms %lld\n", (long long)(clock_ms() - start_ms));
    fflush(stdout);
    dns_forget(ticket);
    return state == DNS_FOUND;
}

int main(int argc, char **argv)
{
    if (argc < 5 || !crypto_init()) {
        fprintf(stderr, "usage: dns_probe RESOLV HOSTS host|mx NAME [TIMES]\n");
        return 64;
    }
    enum dns_kind kind = strcmp(argv[3], "mx") == 0 ? DNS_MX : DNS_HOST;
    int times = argc > 5 ? atoi(argv[5]) : 1;
    bool is_found = false;
    dns_init(argv[1], argv[2]);
    for (int i = 0; i < times; i++) {
        if (i > 0)
            sleep(2);
        is_found = ask(argv[4], kind);
    }
    return is_found ? 0 : 1;
}
