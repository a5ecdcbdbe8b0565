/* See identity.h. */
#include "identity.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "buf.h"
#include "crypto.h"
#include "file.h"
#include "log.h"
#include "tls.h"

#define FILE_MAX_BYTES 16384 /* a chain of ten */

static char certificate[FILE_MAX_BYTES], key[FILE_MAX_BYTES];

/* Reads a PEM file as text. False: why. A key that others can read is no
 * secret. */
static bool read_pem(const char *name, bool is_key, char text[FILE_MAX_BYTES],
                     char why[SETTINGS_WHY_BYTES])
{
    bool is_open = false;
    ssize_t n = file_read(name, text, FILE_MAX_BYTES, &is_open);
    text[n > 0 ? n : 0] = '\0';
    bool has_key = strstr(text, "PRIVATE KEY-----") != NULL;
    if (n < 0)
        snprintf(why, SETTINGS_WHY_BYTES, "cannot read %.150s: %s", name,
                 strerror(errno));
    else if (is_open && (is_key || has_key))
        snprintf(why, SETTINGS_WHY_BYTES,
                 "%.150s can be read by others; chmod 600 it", name);
    else
        return true;
    return false;
}

const char *identity_load(const struct settings *s,
                          char why[SETTINGS_WHY_BYTES])
{
    char text[TLS_WHY_BYTES] = "";
    bool has_key_file = *s->tls_key_file != '\0';
    const char *fault = NULL;
    if (*s->tls_cert_file == '\0')
        return NULL;
    if (!read_pem(s->tls_cert_file, false, certificate, why))
        fault = "tls_cert_file";
    else if (has_key_file && !read_pem(s->tls_key_file, true, key, why))
        fault = "tls_key_file";
    else if (!tls_serve(certificate, has_key_file ? key : certificate, text)) {
        snprintf(why, SETTINGS_WHY_BYTES, "%s", text);
        fault = "tls_cert_file";
    }
    bytes_wipe(certificate, sizeof certificate);
    bytes_wipe(key, sizeof key);
    return fault;
}

static bool take_kept(const char *file)
{
    char text[CRYPTO_CERTIFICATE_BYTES], why[TLS_WHY_BYTES] = "";
    bool is_open = false;
    ssize_t n = file_read(file, text, sizeof text - 1, &is_open);
    text[n > 0 ? n : 0] = '\0';
    bool is_good = n > 0 && !is_open && tls_serve(text, text, why);
    if (is_good)
        tls_commit();
    if (!is_good && (n >= 0 || errno != ENOENT))
        log_line(LOG_AT_WARN, "relay",
                 "file=%s cannot be used (%s): a new certificate is made", file,
                 n < 0     ? strerror(errno)
                 : is_open ? "others can read it"
                           : why);
    bytes_wipe(text, sizeof text);
    return is_good;
}

static void make_new(const char *file, const char *const *names, size_t count)
{
    char text[CRYPTO_CERTIFICATE_BYTES], why[TLS_WHY_BYTES] = "";
    bool is_made = crypto_make_certificate(names, count, (int64_t)time(NULL),
                                           text, sizeof text) &&
                   tls_serve(text, text, why);
    if (is_made)
        tls_commit();
    if (!is_made)
        log_line(LOG_AT_ERROR, "relay",
                 "no certificate could be made (%s): devices get no TLS", why);
    else if (file_write(file, text, strlen(text)))
        log_line(LOG_AT_INFO, "relay",
                 "file=%s made: a self-signed certificate for %s", file,
                 names[0]);
    else
        log_line(LOG_AT_WARN, "relay",
                 "file=%s cannot be written (%s): devices see a new "
                 "certificate at each start; set state_folder",
                 file, strerror(errno));
    bytes_wipe(text, sizeof text);
}

void identity_make(const char *const *names, size_t count)
{
    char file[300];
    if (*settings()->tls_cert_file != '\0')
        return;
    mkdir(settings()->state_folder, S_IRWXU);
    snprintf(file, sizeof file, "%s/lanpost.pem", settings()->state_folder);
    if (!take_kept(file))
        make_new(file, names, count);
}

size_t identity_memory_bytes(void)
{
    return sizeof certificate + sizeof key;
}
