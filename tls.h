/* tls: a TLS session on a given fd: handshake, read, write, verify.
 *
 * TLS 1.2, and 1.3 where the library has it. Towards the smarthost the chain
 * must lead to an authority of the CA file and the certificate must bear the
 * name that we were told to expect (RFC 9525): by its subjectAltName alone,
 * never by its common name; there is no way to switch that off. Towards
 * devices we show our own certificate and ask for none.
 * Must never know: lines, SMTP, deadlines. The only room besides crypto that
 * names mbedTLS. */
#ifndef LANPOST_TLS_H
#define LANPOST_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "trust.h"

#define TLS_WHY_BYTES TRUST_WHY_BYTES

struct tls;

/* Loads the authorities. False: why says what is wrong with the file. Like
 * tls_serve(), it can be called again while sessions live, and what it brings
 * is in force from tls_commit() on: a reload is all or nothing. */
bool tls_init(const char *ca_file, char why[TLS_WHY_BYTES]);

/* Takes the certificate (with its chain) and the key that devices are shown,
 * both PEM. False: why says what is wrong, and the ones before stay. */
bool tls_serve(const char *certificate, const char *key,
               char why[TLS_WHY_BYTES]);

void tls_commit(void);

/* What was brought and not committed is nothing any more. */
void tls_forget(void);

/* Is there a certificate for devices? Can one more of them be served now, or
 * are all CLIENT_TLS_MAX slots taken? How many are? */
bool tls_serves(void);
bool tls_can_serve(void);
unsigned tls_served(void);

/* A session on fd (which stays the caller's) towards a server that must
 * prove to be name, or, with name NULL, with a device. NULL: all slots of
 * that side are taken, or the library has no memory. */
struct tls *tls_open(int fd, const char *name);
void tls_shut(struct tls *t); /* says goodbye: nothing more will be sent */
void tls_close(
    struct tls *t); /* the same, if that was not yet; frees the slot */

enum tls_result {
    TLS_DONE,
    TLS_AGAIN, /* when poll says tls_wants() */
    TLS_FAILED /* tls_why() tells */
};

/* Nothing may be sent before this has answered TLS_DONE once. */
enum tls_result tls_handshake(struct tls *t);

/* poll events that the last TLS_AGAIN or -1/EAGAIN waits for. */
short tls_wants(const struct tls *t);

/* As read(2) and write(2): 0 = the peer ended the session; -1 with EAGAIN:
 * again when tls_wants() comes; -1 with EIO: over, tls_why() tells. After an
 * EAGAIN, tls_write() must be called with the same bytes first. */
ssize_t tls_read(struct tls *t, void *data, size_t room);
ssize_t tls_write(struct tls *t, const void *data, size_t count);

/* Decrypted bytes lie inside, which poll() knows nothing of. */
bool tls_has_pending(const struct tls *t);

/* The failure in one plain sentence, safe for a log line. */
const char *tls_why(const struct tls *t);

/* What ended a handshake with a device, as far as a person can mend it. */
enum tls_fault {
    TLS_FAULT_OTHER,
    TLS_FAULT_TOO_OLD,   /* it knows no TLS 1.2 */
    TLS_FAULT_NO_CIPHER, /* none in common */
    TLS_FAULT_DISTRUST,  /* it does not trust our certificate, and says so */
    TLS_FAULT_NOT_TLS,
    TLS_FAULT_GONE /* hung up */
};
enum tls_fault tls_fault(const struct tls *t);

/* "TLSv1.2", for Received and the log. */
const char *tls_version(const struct tls *t);

/* "mbed TLS 2.28.3". */
const char *tls_library(void);

size_t tls_memory_bytes(void);  /* static */
size_t tls_session_bytes(void); /* the library's heap, a session; estimate */

#endif
