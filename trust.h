/* trust: is this certificate the smarthost's? Its names and dates, and in words
 * what is wrong with it.
 *
 * The library verifies the chain and the name; this looks at every certificate
 * too: it is stricter about names (no common name, RFC 9525), knows addresses
 * (2.28 does not), and keeps the reason. Both must agree, so a hole in either
 * is not a hole. Must never know: connections, sessions. */
#ifndef LANPOST_TRUST_H
#define LANPOST_TRUST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TRUST_WHY_BYTES 320

struct trust {
    char name[256]; /* that must be proven: of a host, or an address */
    bool name_is_proven;
    char why[TRUST_WHY_BYTES]; /* the first fault, safe for a log line */
};

struct mbedtls_x509_crt;

/* The library's verify callback: called for each certificate, the authority's
 * first, with the faults that the library found in flags; adds its own. */
int trust_look_at(void *trust, struct mbedtls_x509_crt *crt, int depth,
                  uint32_t *flags);

/* Does one name of a certificate (a dNSName as it stands in there) cover the
 * host? Pure: RFC 9525 section 6.3, a wildcard is the whole left-most label
 * and covers one label, of a name with three labels at least. */
bool trust_name_covers(const void *pattern, size_t count, const char *host);

#endif
