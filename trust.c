/* See trust.h. */
#include "trust.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include <mbedtls/x509_crt.h>

#include "buf.h"
#include "ip.h"
#include "log.h"

/* ---- Names --------------------------------------------------------------- */

bool trust_name_covers(const void *pattern, size_t count, const char *host)
{
    const char *p = pattern;
    struct ip_address ip;
    if (memchr(p, '\0', count) != NULL)
        return false; /* "smtp.example.com\0.evil.net" */
    if (ip_parse(host, &ip) || (count > 0 && p[count - 1] == '.'))
        return false; /* "*.0.2.1" is no address, and "*.com." has two labels */
    if (count < 2 || p[0] != '*' || p[1] != '.')
        return bytes_equal_nocase(p, count, host);
    const char *dot = strchr(host, '.');
    if (dot == NULL || dot == host || memchr(p + 2, '.', count - 2) == NULL)
        return false;
    return bytes_equal_nocase(p + 1, count - 1, dot);
}

#define TAG_DNS_NAME   2 /* RFC 5280 section 4.2.1.6 */
#define TAG_IP_ADDRESS 7

static bool certificate_bears(const mbedtls_x509_crt *crt, const char *name)
{
    struct ip_address ip;
    bool is_ip = ip_parse(name, &ip);
    size_t ip_bytes = ip.family == AF_INET ? 4 : 16;
    const mbedtls_x509_sequence *at = &crt->subject_alt_names;
    for (; at != NULL && at->buf.p != NULL; at = at->next) {
        int tag = at->buf.tag & MBEDTLS_ASN1_TAG_VALUE_MASK;
        if (!is_ip && tag == TAG_DNS_NAME &&
            trust_name_covers(at->buf.p, at->buf.len, name))
            return true;
        if (is_ip && tag == TAG_IP_ADDRESS && at->buf.len == ip_bytes &&
            memcmp(at->buf.p, ip.bytes, ip_bytes) == 0)
            return true;
    }
    return false;
}

/* ---- Reasons in words ---------------------------------------------------- */

static void give_why(struct trust *t, const char *text)
{
    if (t->why[0] == '\0')
        text_copy(t->why, sizeof t->why, text);
}

static const char *name_text(const mbedtls_x509_name *dn, char *out,
                             size_t room)
{
    char raw[160];
    int n = mbedtls_x509_dn_gets(raw, sizeof raw, dn);
    return log_clean(out, room, raw, n > 0 ? (size_t)n : 0);
}

static void why_not_trusted(struct trust *t, const mbedtls_x509_crt *crt,
                            int depth)
{
    char issuer[120], text[TRUST_WHY_BYTES];
    bool is_own =
        crt->issuer_raw.len == crt->subject_raw.len &&
        memcmp(crt->issuer_raw.p, crt->subject_raw.p, crt->issuer_raw.len) == 0;
    name_text(&crt->issuer, issuer, sizeof issuer);
    if (is_own && depth == 0)
        snprintf(text, sizeof text,
                 "its certificate is self-signed; put it into "
                 "smarthost_ca_file if you trust it");
    else if (depth == 0)
        snprintf(text, sizeof text,
                 "its certificate comes from %s, which smarthost_ca_file does "
                 "not know; a private authority belongs in there, else the "
                 "server fails to send its intermediate certificate",
                 issuer);
    else
        snprintf(text, sizeof text,
                 "its certificate leads to %s, which smarthost_ca_file does "
                 "not know",
                 issuer);
    give_why(t, text);
}

static void why_date(struct trust *t, const char *what,
                     const mbedtls_x509_time *date)
{
    char text[TRUST_WHY_BYTES], today[16];
    time_t now = time(NULL);
    struct tm tm;
    strftime(today, sizeof today, "%Y-%m-%d", gmtime_r(&now, &tm));
    snprintf(text, sizeof text,
             "its certificate %s %04d-%02d-%02d, and our clock says %s", what,
             date->year, date->mon, date->day, today);
    give_why(t, text);
}

static void why_name(struct trust *t, const mbedtls_x509_crt *crt)
{
    char names[120], clean[140], text[TRUST_WHY_BYTES];
    struct buf b;
    buf_init(&b, names, sizeof names);
    const mbedtls_x509_sequence *at = &crt->subject_alt_names;
    for (; at != NULL && at->buf.p != NULL && buf_room(&b) > at->buf.len + 1;
         at = at->next)
        if ((at->buf.tag & MBEDTLS_ASN1_TAG_VALUE_MASK) == TAG_DNS_NAME) {
            buf_puts(&b, buf_len(&b) ? " " : "");
            buf_put(&b, at->buf.p, at->buf.len);
        }
    log_clean(clean, sizeof clean, buf_data(&b), buf_len(&b));
    snprintf(text, sizeof text, "its certificate is for %s, not for %.80s",
             *clean ? clean : "no name at all (subjectAltName is missing)",
             t->name);
    give_why(t, text);
}

int trust_look_at(void *trust, mbedtls_x509_crt *crt, int depth,
                  uint32_t *flags)
{
    struct trust *t = trust;
    if (depth == 0) {
        struct ip_address ip;
        t->name_is_proven = certificate_bears(crt, t->name);
        if (!t->name_is_proven)
            *flags |= MBEDTLS_X509_BADCERT_CN_MISMATCH;
        else if (ip_parse(t->name, &ip))
            *flags &= ~(uint32_t)MBEDTLS_X509_BADCERT_CN_MISMATCH;
    }
    if (*flags & MBEDTLS_X509_BADCERT_EXPIRED)
        why_date(t, "expired on", &crt->valid_to);
    if (*flags & MBEDTLS_X509_BADCERT_FUTURE)
        why_date(t, "is valid only from", &crt->valid_from);
    if (*flags & (MBEDTLS_X509_BADCERT_BAD_MD | MBEDTLS_X509_BADCERT_BAD_PK |
                  MBEDTLS_X509_BADCERT_BAD_KEY))
        give_why(t, "its certificate has a key or signature too weak to trust");
    if (*flags & MBEDTLS_X509_BADCERT_NOT_TRUSTED)
        why_not_trusted(t, crt, depth);
    if (*flags & MBEDTLS_X509_BADCERT_CN_MISMATCH)
        why_name(t, crt);
    if (*flags != 0)
        give_why(t, "its certificate may not be used for this");
    return 0;
}
