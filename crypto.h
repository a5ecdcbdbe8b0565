/* crypto: randomness, thin and proof against library versions.
 *
 * Hashes and signatures join it with the issues that need them.
 * Must never know: TLS, SMTP. */
#ifndef LANPOST_CRYPTO_H
#define LANPOST_CRYPTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Opens the source of randomness; call before a chroot. False: there is
 * none, and nothing that needs it may run. */
bool crypto_init(void);

/* Fills data. Dies when the source fails: a relay without randomness has no
 * safe way to go on. */
void crypto_random(void *data, size_t count);
uint32_t crypto_random_u32(void);

#endif
