/* path: reverse-paths and forward-paths, and their parameters (RFC 5321
 * sections 4.1.2 and 4.1.3), read as devices really write them.
 *
 * Pure. Accepted beyond the grammar: blanks before the path, missing angle
 * brackets, a name before them, a source route (dropped), dots in odd places
 * of the local-part (quoted), a trailing dot of the domain (dropped), a
 * missing domain (has_domain tells).
 * Must never know: connections, replies. */
#ifndef LANPOST_PATH_H
#define LANPOST_PATH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PATH_LOCAL_MAX  64  /* RFC 5321 section 4.5.3.1.1 */
#define PATH_DOMAIN_MAX 255 /* section 4.5.3.1.2 */
#define PATH_BYTES      (2 * PATH_LOCAL_MAX + 2 + 1 + PATH_DOMAIN_MAX + 1)

struct path {
    char mailbox[PATH_BYTES]; /* canonical, without <>; "" = the null path */
    bool has_domain;
    bool is_utf8; /* needs SMTPUTF8 (RFC 6531) */
};

/* Reads the path at the start of text; rest = what follows it. False: no
 * path of any form that we know. */
bool path_parse(const char *text, struct path *out, const char **rest);

/* One esmtp-param: its keyword in upper case, its value or "". */
struct path_parameter {
    char keyword[16];
    char value[64]; /* a longer value is cut: we read none that long */
};

/* 1: one was read and *at moved behind it; 0: none is left; -1: no
 * parameter has this form. */
int path_next_parameter(const char **at, struct path_parameter *out);

enum path_fault {
    PATH_GOOD,
    PATH_BAD,          /* no "FROM:" or "TO:", or no path behind it */
    PATH_BAD_PARAMETER /* not of the form, or a value that is none */
};

/* The argument of MAIL, "FROM:<path> SIZE=...": size is set when it is given
 * (UINT64_MAX: more than any). The argument of RCPT, "TO:<path> ...".
 * Parameters that we do not know are for extensions that were not offered;
 * devices send them anyway, and they change nothing for us. */
enum path_fault path_mail(const char *arg, struct path *from, uint64_t *size);
enum path_fault path_rcpt(const char *arg, struct path *to);

/* A domain or address literal as RFC 5321 section 4.1.2 wants it (what may
 * stand in EHLO and Received). */
bool path_is_domain(const char *text);

#endif
