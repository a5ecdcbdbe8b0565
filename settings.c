/* See settings.h.
 *
 * A row's kind says how its text is read and printed; that is all a new kind
 * needs. The file is loaded into a scratch copy, so that a broken file
 * changes nothing. */
#include "settings.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "buf.h"
#include "file.h"
#include "path.h"

#define FILE_MAX_BYTES 16384
#define LINE_BYTES     1088 /* the longest value, and its key */

#define FIELD(key) offsetof(struct settings, key)
#define TEXT_ROW(key, preset, room, unit, help)                                \
    {#key, VALUE_TEXT, FIELD(key), preset, 0, 0, room, "", unit, help},
#define SECRET_ROW(key, preset, room, help)                                    \
    {#key, VALUE_SECRET, FIELD(key), preset, 0, 0, room, "", "", help},
#define NUMBER_ROW(key, preset, low, high, unit, help)                         \
    {#key, VALUE_NUMBER, FIELD(key), NULL, preset, low, high, "", unit, help},
#define CHOICE_ROW(key, preset, words, help)                                   \
    {#key, VALUE_CHOICE, FIELD(key), preset, 0, 0, 0, words, "", help},
#define ENDPOINTS_ROW(key, preset, most, help)                                 \
    {#key, VALUE_ENDPOINTS, FIELD(key), preset, 0, 0, most, "", "", help},
#define NETWORKS_ROW(key, preset, most, help)                                  \
    {#key, VALUE_NETWORKS, FIELD(key), preset, 0, 0, most, "", "", help},

#define PAIRS_ROW(key, preset, room, help)                                     \
    {#key, VALUE_PAIRS, FIELD(key), preset, 0, 0, room, "", "", help},

static const struct value_row rows[] = {
    SETTINGS_ROWS(TEXT_ROW, SECRET_ROW, NUMBER_ROW, CHOICE_ROW, ENDPOINTS_ROW,
                  NETWORKS_ROW, PAIRS_ROW)};
#define ROWS (sizeof rows / sizeof rows[0])

/* Where a load is: for its error texts. */
struct load {
    struct settings s;
    unsigned line_of[ROWS]; /* 0: config.h */
    const char *name;
    unsigned line;
    bool file_is_open; /* others can read it */
    bool has_file;
    settings_accept *accept;
    char *error;
};

static struct settings in_force;
static unsigned line_in_force[ROWS];
static char name_in_force[256];
static struct load scratch; /* static: it holds secrets and is 4 KiB */

const struct settings *settings(void)
{
    return &in_force;
}

static bool fail(struct load *l, const struct value_row *row,
                 const char *format, ...) __attribute__((format(printf, 3, 4)));

static bool fail(struct load *l, const struct value_row *row,
                 const char *format, ...)
{
    char why[SETTINGS_WHY_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    unsigned line = row ? l->line_of[row - rows] : l->line;
    char where[300];
    if (line == 0)
        snprintf(where, sizeof where, "%.255s",
                 l->has_file ? l->name : "config.h");
    else
        snprintf(where, sizeof where, "%.255s line %u", l->name, line);
    snprintf(l->error, SETTINGS_ERROR_BYTES, "%s: %s%s%s", where,
             row ? row->key : "", row ? ": " : "", why);
    return false;
}

static const struct value_row *row_of(const char *key)
{
    for (size_t i = 0; i < ROWS; i++)
        if (text_equal_nocase(rows[i].key, key))
            return &rows[i];
    return NULL;
}

/* ---- Lines --------------------------------------------------------------- */

static bool read_value(struct load *l, const struct value_row *row,
                       const char *text)
{
    char why[VALUE_WHY_BYTES] = "";
    return value_read(row, (char *)&l->s + row->offset, text, why) ||
           fail(l, row, "%s", why);
}

/* "key left = right": the first such line takes the place of the build's
 * pairs, the next ones join it. */
static bool read_pair_line(struct load *l, const struct value_row *row,
                           const char *left, const char *right)
{
    char pair[2 * VALUE_PAIR_BYTES], why[VALUE_WHY_BYTES] = "";
    char *field = (char *)&l->s + row->offset;
    if (l->line_of[row - rows] == 0)
        *field = '\0';
    l->line_of[row - rows] = l->line;
    int n = snprintf(pair, sizeof pair, "%s=%s", left, right);
    if (n >= (int)sizeof pair || strpbrk(pair, " \t") != NULL)
        return fail(l, row, "\"%.60s\" is no \"left = right\"", pair);
    return value_add_pairs(row, field, pair, why) || fail(l, row, "%s", why);
}

static bool load_presets(struct load *l)
{
    char why[VALUE_WHY_BYTES] = "";
    for (size_t i = 0; i < ROWS; i++)
        if (!value_preset(&rows[i], (char *)&l->s + rows[i].offset, why))
            return fail(l, &rows[i], "%s", why);
    return true;
}

/* One line of the file: blank, a comment, or "key = value". */
static bool load_line(struct load *l, char *line)
{
    line += strspn(line, " \t");
    size_t length = strlen(line);
    while (length > 0 && strchr(" \t\r", line[length - 1]))
        line[--length] = '\0';
    if (length == 0 || *line == '#')
        return true;
    char *equals = strchr(line, '=');
    if (equals == NULL)
        return fail(l, NULL, "is no \"key = value\" line");
    char *value = equals + 1 + strspn(equals + 1, " \t");
    while (equals > line && strchr(" \t", equals[-1]))
        equals--;
    *equals = '\0';
    char *left = line + strcspn(line, " \t");
    if (*left != '\0') {
        *left++ = '\0';
        left += strspn(left, " \t");
    }
    const struct value_row *row = row_of(line);
    if (row != NULL && row->kind == VALUE_PAIRS && *left != '\0')
        return read_pair_line(l, row, left, value);
    if (row == NULL || *left != '\0')
        return fail(l, NULL,
                    "there is no setting \"%.40s\"; `lanpost settings` lists "
                    "them",
                    line);
    unsigned before = l->line_of[row - rows];
    l->line_of[row - rows] = l->line;
    if (before != 0)
        return fail(l, row, "was set in line %u already; keep one", before);
    return read_value(l, row, value);
}

static bool load_lines(struct load *l, const char *text, size_t length)
{
    const char *end = text + length;
    char line[LINE_BYTES];
    bool is_good = true;
    enum file_line found;
    while (is_good && (found = file_next_line(&text, end, line, sizeof line)) !=
                          FILE_LINE_NONE) {
        l->line++;
        if (found == FILE_LINE_TOO_LONG)
            return fail(l, NULL, "is too long: %d bytes at most",
                        LINE_BYTES - 1);
        if (found == FILE_LINE_HAS_NUL)
            return fail(l, NULL, "holds a NUL byte; this is no text file");
        is_good = load_line(l, line);
        bytes_wipe(line, sizeof line);
    }
    return is_good;
}

/* ---- Files --------------------------------------------------------------- */

static bool load_password(struct load *l)
{
    const struct value_row *row = row_of("smarthost_password_file");
    const char *file = l->s.smarthost_password_file;
    if (*file == '\0')
        return true;
    if (*l->s.smarthost_password != '\0')
        return fail(l, row, "smarthost_password is set too; keep one of them");
    char text[sizeof l->s.smarthost_password + 3]; /* CRLF, and a NUL */
    bool is_open = false;
    ssize_t n = file_read(file, text, sizeof text - 1, &is_open);
    if (n < 0)
        return fail(l, row, "cannot read %.150s: %s", file, strerror(errno));
    if (is_open)
        return fail(l, row, "%.200s can be read by others; chmod 600 it", file);
    text[n] = '\0';
    text[strcspn(text, "\r\n")] = '\0';
    char why[VALUE_WHY_BYTES] = "";
    bool is_good = value_read(row_of("smarthost_password"),
                              l->s.smarthost_password, text, why) ||
                   fail(l, row, "%s", why);
    bytes_wipe(text, sizeof text);
    return is_good;
}

/* ---- Contradictions ------------------------------------------------------ */

static bool parse_smarthost(struct load *l)
{
    const struct value_row *row = row_of("smarthost");
    const char *text = l->s.smarthost;
    if (*text == '\0')
        return fail(l, row,
                    "is not set; name the server that takes our mail, in %s: "
                    "smarthost = smtp.example.com:587",
                    l->has_file ? "this file" : SETTINGS_FILE);
    struct ip_endpoint endpoint;
    if (ip_parse_endpoint(text, 0, &endpoint)) {
        ip_format(&endpoint.address, l->s.smarthost_name);
        l->s.smarthost_port = endpoint.port;
        return true;
    }
    const char *colon = strrchr(text, ':');
    char *end = NULL;
    unsigned long port = colon ? strtoul(colon + 1, &end, 10) : 0;
    size_t length = colon ? (size_t)(colon - text) : 0;
    if (port == 0 || port > 65535 || *end != '\0' || length == 0 ||
        length > 253 || memchr(text, ':', length))
        return fail(l, row, "\"%.60s\" is no host:port", text);
    memcpy(l->s.smarthost_name, text, length);
    l->s.smarthost_name[length] = '\0';
    if (strspn(l->s.smarthost_name,
               "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
               "0123456789-._") != length)
        return fail(l, row, "\"%.60s\" is no host name", text);
    l->s.smarthost_port = (uint16_t)port;
    return true;
}

static bool check_secret_is_kept(struct load *l)
{
    const struct value_row *row = row_of("smarthost_password");
    if (l->line_of[row - rows] == 0 || !l->file_is_open)
        return true;
    return fail(l, row,
                "others can read this file; chmod 600 it, or put the password "
                "into a smarthost_password_file");
}

static bool check_auth(struct load *l)
{
    const struct settings *s = &l->s;
    bool has_password = *s->smarthost_password != '\0';
    const struct value_row *row = row_of("smarthost_auth");
    if (s->smarthost_auth == AUTH_NONE &&
        (has_password || *s->smarthost_user != '\0'))
        return fail(l, row, "is none, but a login is set; take one out");
    if (s->smarthost_auth > AUTH_NONE &&
        (!has_password || *s->smarthost_user == '\0'))
        return fail(l, row, "needs smarthost_user and a password");
    if (has_password != (*s->smarthost_user != '\0'))
        return fail(l, row_of("smarthost_user"),
                    "a login needs both smarthost_user and a password");
    if (s->smarthost_tls == TLS_NONE && has_password) {
        struct ip_address address;
        if (!ip_parse(s->smarthost_name, &address) || !ip_is_loopback(&address))
            return fail(l, row_of("smarthost_tls"),
                        "none would send the password in clear; use starttls");
    }
    return true;
}

static bool check_ca_file(struct load *l)
{
    const struct value_row *row = row_of("smarthost_ca_file");
    if (l->s.smarthost_tls == TLS_NONE)
        return true;
    int fd = open(l->s.smarthost_ca_file, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return fail(l, row,
                    "cannot read %.150s: %s; install ca-certificates, or name "
                    "the file",
                    l->s.smarthost_ca_file, strerror(errno));
    close(fd);
    return true;
}

/* Our name is said where nobody has offered SMTPUTF8 yet. */
static bool is_ascii(const char *text)
{
    while (*text != '\0' && (unsigned char)*text < 0x80)
        text++;
    return *text == '\0';
}

/* An address as it will stand in the envelope. */
static bool is_plain_address(const char *text)
{
    struct path p;
    const char *rest;
    return path_parse(text, &p, &rest) && *rest == '\0' && p.has_domain &&
           !p.is_utf8 && strcmp(p.mailbox, text) == 0;
}

static bool check_addresses(struct load *l)
{
    const struct {
        const char *key, *value;
    } addresses[] = {{"postmaster", l->s.postmaster}, {"sender", l->s.sender}};
    for (size_t i = 0; i < sizeof addresses / sizeof addresses[0]; i++)
        if (*addresses[i].value != '\0' &&
            !is_plain_address(addresses[i].value))
            return fail(l, row_of(addresses[i].key),
                        "\"%.60s\" is no plain address such as me@example.com",
                        addresses[i].value);
    if (l->s.sender_rewrite == REWRITE_ALWAYS && *l->s.sender == '\0')
        return fail(l, row_of("sender_rewrite"),
                    "is always, but no sender is set; set one");
    return true;
}

/* A side of rewrite_to: "root", "me@example.com" or "@example.com". */
static bool is_rewrite_side(const char *text)
{
    struct path p;
    const char *rest;
    if (*text == '@')
        return path_is_domain(text + 1) && is_ascii(text + 1);
    return path_parse(text, &p, &rest) && *rest == '\0' && !p.is_utf8 &&
           strcmp(p.mailbox, text) == 0;
}

static bool check_rewrites(struct load *l)
{
    char left[VALUE_PAIR_BYTES], right[VALUE_PAIR_BYTES];
    struct ip_network network;
    const char *at = l->s.rewrite_from;
    while (value_next_pair(&at, left, right))
        if (!ip_parse_network(left, &network) || !is_plain_address(right))
            return fail(l, row_of("rewrite_from"),
                        "\"%.60s=%.60s\" is no network=address such as "
                        "192.168.1.9=scanner@example.com",
                        left, right);
    at = l->s.rewrite_to;
    while (value_next_pair(&at, left, right))
        if (!is_rewrite_side(left) || !is_rewrite_side(right) ||
            (*right == '@') != (*left == '@') ||
            (*right != '@' && !is_plain_address(right)))
            return fail(
                l, row_of("rewrite_to"),
                "\"%.60s=%.60s\" is none of root=me@example.com, "
                "a@old.example=b@example.com, @old.example=@new.example",
                left, right);
    return true;
}

static bool check_domains(struct load *l)
{
    char domain[256];
    const char *at = l->s.sender_domains, *word;
    for (size_t n; (n = value_next_word(&at, &word)) > 0;) {
        snprintf(domain, sizeof domain, "%.*s", (int)n, word);
        if (n >= sizeof domain || !path_is_domain(domain) || !is_ascii(domain))
            return fail(l, row_of("sender_domains"), "\"%.60s\" is no domain",
                        domain);
    }
    if (*l->s.default_domain != '\0' && (!path_is_domain(l->s.default_domain) ||
                                         !is_ascii(l->s.default_domain)))
        return fail(l, row_of("default_domain"), "\"%.60s\" is no domain",
                    l->s.default_domain);
    return true;
}

static bool lies_in(const struct ip_network *n,
                    const struct value_networks *all)
{
    for (unsigned i = 0; i < all->count; i++)
        if (n->prefix_bits >= all->items[i].prefix_bits &&
            ip_in_network(&n->address, &all->items[i]))
            return true;
    return false;
}

/* What devices must do they must also be able to do. */
static bool check_policy(struct load *l)
{
    for (unsigned i = 0; i < l->s.require_tls.count; i++)
        if (lies_in(&l->s.require_tls.items[i], &l->s.no_starttls_to))
            return fail(l, row_of("require_tls"),
                        "names devices that no_starttls_to names too; take "
                        "them out of one");
    /* While any login is good, to demand one protects nothing; who wants that
     * all the same has to say so. */
    if (l->s.require_auth.count > 0 && *l->s.users_file == '\0' &&
        l->s.accept_any_auth != ANY_AUTH_YES)
        return fail(l, row_of("require_auth"),
                    "needs a users_file (or accept_any_auth = yes)");
    if (*l->s.tls_key_file != '\0' && *l->s.tls_cert_file == '\0')
        return fail(l, row_of("tls_key_file"), "needs a tls_cert_file");
    return true;
}

/* The seconds of "port=seconds"; -1: that is none. */
static int64_t wait_of_pair(const char *left, const char *right, unsigned *port)
{
    char rest;
    unsigned seconds;
    if (sscanf(left, "%5u%c", port, &rest) != 1 || *port == 0 ||
        *port > UINT16_MAX || sscanf(right, "%3u%c", &seconds, &rest) != 1 ||
        seconds > 600)
        return -1;
    return seconds;
}

/* Without a wait every message would be late, and refused. */
static bool check_waits(struct load *l)
{
    char left[VALUE_PAIR_BYTES], right[VALUE_PAIR_BYTES];
    const char *at = l->s.ack_wait_at;
    bool has_none = l->s.ack_wait_seconds == 0;
    while (value_next_pair(&at, left, right)) {
        unsigned port;
        int64_t seconds = wait_of_pair(left, right, &port);
        if (seconds < 0)
            return fail(l, row_of("ack_wait_at"),
                        "\"%.60s=%.60s\" is no port=seconds such as 465=60, "
                        "0 to 600 seconds",
                        left, right);
        has_none |= seconds == 0;
    }
    if (has_none && l->s.ack_late == ACK_LATE_REFUSE)
        return fail(l, row_of("ack_late"),
                    "refuse needs ack_wait_seconds (and each of ack_wait_at) "
                    "above 0");
    return true;
}

static bool check_names(struct load *l)
{
    if (*l->s.hostname != '\0' &&
        (!path_is_domain(l->s.hostname) || !is_ascii(l->s.hostname)))
        return fail(l, row_of("hostname"), "\"%.60s\" is no host name",
                    l->s.hostname);
    return true;
}

static bool check_all(struct load *l)
{
    if (!parse_smarthost(l) || !check_secret_is_kept(l) || !load_password(l) ||
        !check_auth(l) || !check_ca_file(l) || !check_names(l) ||
        !check_addresses(l) || !check_rewrites(l) || !check_domains(l) ||
        !check_policy(l) || !check_waits(l))
        return false;
    if (l->s.listen.count == 0 && l->s.listen_tls.count == 0)
        return fail(l, row_of("listen"), "is empty; no device could connect");
    if (l->s.allow_from.count == 0)
        return fail(l, row_of("allow_from"), "is empty; no device could send");
    if (l->s.retry_first_seconds > l->s.retry_max_seconds)
        return fail(l, row_of("retry_first_seconds"),
                    "is above retry_max_seconds; lower it");
    l->s.listen_is_preset = l->line_of[row_of("listen") - rows] == 0;
    return true;
}

int64_t settings_ack_wait_ms(uint16_t port)
{
    char left[VALUE_PAIR_BYTES], right[VALUE_PAIR_BYTES];
    const char *at = settings()->ack_wait_at;
    unsigned listed;
    while (value_next_pair(&at, left, right)) {
        int64_t seconds = wait_of_pair(left, right, &listed);
        if (seconds >= 0 && listed == port)
            return seconds * 1000;
    }
    return settings()->ack_wait_seconds * 1000;
}

/* ---- Loading ------------------------------------------------------------- */

/* The values of scratch, once all agree to them. */
static bool put_in_force(struct load *l)
{
    char why[SETTINGS_WHY_BYTES] = "";
    const char *key = l->accept ? l->accept(&l->s, why) : NULL;
    if (key != NULL)
        return fail(l, row_of(key), "%s", why);
    in_force = l->s;
    memcpy(line_in_force, l->line_of, sizeof line_in_force);
    text_copy(name_in_force, sizeof name_in_force, l->name);
    return true;
}

static bool load(const char *text, size_t length)
{
    struct load *l = &scratch;
    bool is_good = load_presets(l) && load_lines(l, text, length) &&
                   check_all(l) && put_in_force(l);
    bytes_wipe(&l->s, sizeof l->s);
    return is_good;
}

bool settings_load_text(const char *name, const char *text, size_t length,
                        char error[SETTINGS_ERROR_BYTES])
{
    scratch = (struct load){.name = name, .error = error, .has_file = true};
    return load(text, length);
}

bool settings_load(const char *file, settings_accept *accept,
                   char error[SETTINGS_ERROR_BYTES])
{
    static char text[FILE_MAX_BYTES];
    const char *name = file ? file : SETTINGS_FILE;
    ssize_t n = -1;
    bool is_open = false;
    if (!WITH_SETTINGS_FILE && file != NULL) {
        snprintf(error, SETTINGS_ERROR_BYTES,
                 "this binary is sealed: it reads no settings file");
        return false;
    }
    if (WITH_SETTINGS_FILE) {
        n = file_read(name, text, sizeof text, &is_open);
        if (n < 0 && (file != NULL || errno != ENOENT)) {
            snprintf(error, SETTINGS_ERROR_BYTES, "cannot read %.255s: %s",
                     name, strerror(errno));
            return false;
        }
    }
    scratch = (struct load){.name = name,
                            .error = error,
                            .has_file = n >= 0,
                            .file_is_open = is_open,
                            .accept = accept};
    bool is_good = load(text, n > 0 ? (size_t)n : 0);
    bytes_wipe(text, sizeof text);
    return is_good;
}

void settings_preset(void)
{
    char error[SETTINGS_ERROR_BYTES];
    scratch = (struct load){.name = "", .error = error};
    if (load_presets(&scratch))
        in_force = scratch.s;
}

/* ---- Values out ---------------------------------------------------------- */

void settings_print(FILE *out)
{
    for (size_t i = 0; i < ROWS; i++) {
        fprintf(out, "%s = ", rows[i].key);
        value_print(out, &rows[i], (const char *)&in_force + rows[i].offset);
        if (line_in_force[i] == 0)
            fprintf(out, "\n    # from the build");
        else
            fprintf(out, "\n    # from %s line %u", name_in_force,
                    line_in_force[i]);
        fprintf(out, "; %s", rows[i].help);
        if (rows[i].kind == VALUE_NUMBER)
            fprintf(out, " (%lld to %lld %s)", (long long)rows[i].low,
                    (long long)rows[i].high, rows[i].unit);
        if (rows[i].kind == VALUE_CHOICE)
            fprintf(out, " (%s)", rows[i].words);
        fprintf(out, "\n");
    }
}

void settings_wipe(void)
{
    bytes_wipe(&in_force, sizeof in_force);
}

size_t settings_memory_bytes(void)
{
    return sizeof in_force + sizeof line_in_force + sizeof name_in_force +
           sizeof scratch + FILE_MAX_BYTES;
}
