/* crypto: randomness, hashes, password hashes and a certificate of our own;
 * thin and proof against library versions.
 *
 * Nothing here holds memory of the library between two calls.
 * Must never know: TLS, SMTP, files of users. */
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

/* Takes the same time wherever the difference is. */
bool crypto_equal(const void *a, const void *b, size_t count);

/* ---- SHA-256 (FIPS 180-4) ------------------------------------------------
 *
 * Plain bytes: may be copied, so that one beginning goes on in two ways, and
 * needs no release. */
#define CRYPTO_SHA256_BYTES 32

struct crypto_sha256 {
    uint64_t opaque[32]; /* aligned for whatever the library keeps in it */
};

void crypto_sha256_start(struct crypto_sha256 *h);
void crypto_sha256_add(struct crypto_sha256 *h, const void *data, size_t count);

/* Wipes the state. */
void crypto_sha256_end(struct crypto_sha256 *h,
                       uint8_t out[CRYPTO_SHA256_BYTES]);

/* ---- PBKDF2 with HMAC-SHA-256, one block of output (RFC 8018 5.2) --------
 *
 * Slow on purpose, so it is done in slices between turns of the loop. Plain
 * bytes: may be copied, needs no release, but crypto_pbkdf2_wipe() when it is
 * given up early. */
#define CRYPTO_KEY_BYTES   32 /* what comes out */
#define CRYPTO_SALT_BYTES  32 /* the longest salt */
#define CRYPTO_BLOCK_BYTES 64

struct crypto_pbkdf2 {
    uint8_t key[CRYPTO_BLOCK_BYTES]; /* the password, or its hash, and zeros */
    uint8_t u[CRYPTO_KEY_BYTES];     /* the last round */
    uint8_t t[CRYPTO_KEY_BYTES];     /* all rounds so far */
    uint32_t rounds_left;
};

/* Does the first of the rounds (at least one). The salt: CRYPTO_SALT_BYTES
 * at most. */
void crypto_pbkdf2_start(struct crypto_pbkdf2 *p, const void *password,
                         size_t password_bytes, const void *salt,
                         size_t salt_bytes, uint32_t rounds);

/* Does so many more. True: done, out is filled and the state wiped. */
bool crypto_pbkdf2_run(struct crypto_pbkdf2 *p, uint32_t rounds_at_most,
                       uint8_t out[CRYPTO_KEY_BYTES]);
void crypto_pbkdf2_wipe(struct crypto_pbkdf2 *p);

/* ---- A certificate that signs itself ------------------------------------ */

#define CRYPTO_CERTIFICATE_BYTES 8192 /* room enough for all names we have */

/* A fresh ECDSA P-256 key in PEM, and behind it a server certificate for it,
 * good for twenty years from now_s, or from 2026 when the clock stands before
 * that. The names: host names and addresses ("192.0.2.1", "[192.0.2.1]",
 * "[IPv6:2001:db8::1]"); what is neither is left out, and the first that
 * is left names the subject. NUL-terminated. False: no name is left, or it
 * does not fit; out is wiped. */
bool crypto_make_certificate(const char *const *names, size_t count,
                             int64_t now_s, char *out, size_t room);

#endif
