/* identity: the certificate that we show to devices: of the settings' files,
 * or one that we make ourselves and keep.
 *
 * Must never know: connections, what the certificate is checked against. */
#ifndef LANPOST_IDENTITY_H
#define LANPOST_IDENTITY_H

#include <stddef.h>

#include "settings.h"

/* Takes tls_cert_file and tls_key_file, when they are set. NULL: good (or
 * none is set); else the key of the setting at fault, and why. */
const char *identity_load(const struct settings *s,
                          char why[SETTINGS_WHY_BYTES]);

/* With no tls_cert_file: takes the one in state_folder, or makes one for these
 * names (of us, as devices may call us; see crypto_make_certificate()) and
 * keeps it there. What fails is a line in the log: without a certificate
 * devices are served in plain. For the start; may take a second. */
void identity_make(const char *const *names, size_t count);

size_t identity_memory_bytes(void);

#endif
