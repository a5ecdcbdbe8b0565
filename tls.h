/* tls: a TLS session on a given fd: handshake, read, write, verify.
 *
 * Client side. TLS 1.2, and 1.3 where the library has it. The chain must lead
 * to an authority of the CA file and the certificate must bear the name that
 * we were told to expect (RFC 9525): by its subjectAltName alone, never by
 * its common name. There is no way to switch that off.
 * Must never know: lines, SMTP, deadlines. The only room besides crypto that
 * names mbedTLS. */
#ifndef LANPOST_TLS_H
#define LANPOST_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define TLS_WHY_BYTES 320

struct tls;

/* Loads the authorities. False: why says what is wrong with the file. May be
 * called again to load a changed file; sessions must have ended. */
bool tls_init(const char *ca_file, char why[TLS_WHY_BYTES]);

/* A session on fd (which stays the caller's) towards a server that must
 * prove to be name. NULL: all slots are taken, or the library has no
 * memory. */
struct tls *tls_open(int fd, const char *name);
void tls_close(struct tls *t); /* tries to say goodbye; frees the slot */

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

/* "TLSv1.2", for Received and the log. */
const char *tls_version(const struct tls *t);

/* Does one name of a certificate (a dNSName as it stands in there) cover the
 * host? Pure: RFC 9525 section 6.3, a wildcard is the whole left-most label
 * and covers one label, of a name with three labels at least. */
bool tls_name_covers(const void *pattern, size_t count, const char *host);

/* "mbed TLS 2.28.3". */
const char *tls_library(void);

size_t tls_memory_bytes(void);  /* static */
size_t tls_session_bytes(void); /* the library's heap, a session; estimate */

#endif
