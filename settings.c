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
#include <sys/stat.h>
#include <unistd.h>

#include "buf.h"
#include "path.h"

#define FILE_MAX_BYTES 16384
#define VALUE_BYTES    1024

enum kind {
    KIND_TEXT,
    KIND_SECRET,
    KIND_NUMBER,
    KIND_CHOICE,
    KIND_ENDPOINTS,
    KIND_NETWORKS
};

struct row {
    const char *key;
    enum kind kind;
    size_t offset; /* of its field in struct settings */
    const char *preset_text;
    int64_t preset_number, low, high; /* high = room of a text */
    const char *words;                /* of a choice */
    const char *unit;
    const char *help;
};

#define FIELD(key) offsetof(struct settings, key)
#define TEXT_ROW(key, preset, room, unit, help)                                \
    {#key, KIND_TEXT, FIELD(key), preset, 0, 0, room, "", unit, help},
#define SECRET_ROW(key, preset, room, help)                                    \
    {#key, KIND_SECRET, FIELD(key), preset, 0, 0, room, "", "", help},
#define NUMBER_ROW(key, preset, low, high, unit, help)                         \
    {#key, KIND_NUMBER, FIELD(key), NULL, preset, low, high, "", unit, help},
#define CHOICE_ROW(key, preset, words, help)                                   \
    {#key, KIND_CHOICE, FIELD(key), preset, 0, 0, 0, words, "", help},
#define ENDPOINTS_ROW(key, preset, most, help)                                 \
    {#key, KIND_ENDPOINTS, FIELD(key), preset, 0, 0, most, "", "", help},
#define NETWORKS_ROW(key, preset, most, help)                                  \
    {#key, KIND_NETWORKS, FIELD(key), preset, 0, 0, most, "", "", help},

static const struct row rows[] = {SETTINGS_ROWS(
    TEXT_ROW, SECRET_ROW, NUMBER_ROW, CHOICE_ROW, ENDPOINTS_ROW, NETWORKS_ROW)};
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

static bool fail(struct load *l, const struct row *row, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static bool fail(struct load *l, const struct row *row, const char *format, ...)
{
    char why[SETTINGS_ERROR_BYTES / 2];
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

static const struct row *row_of(const char *key)
{
    for (size_t i = 0; i < ROWS; i++)
        if (text_equal_nocase(rows[i].key, key))
            return &rows[i];
    return NULL;
}

/* ---- Values in ----------------------------------------------------------- */

static bool read_text(struct load *l, const struct row *row, void *field,
                      const char *value)
{
    for (const char *c = value; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            return fail(l, row, "holds a control character; take it out");
    if (row->kind == KIND_TEXT && strstr(value, " #") != NULL)
        return fail(l, row, "holds \" #\"; a comment needs its own line");
    if (text_copy(field, (size_t)row->high + 1, value))
        return true;
    return fail(l, row, "is too long: %d bytes at most", (int)row->high);
}

static bool read_number(struct load *l, const struct row *row, void *field,
                        const char *value)
{
    char *end;
    errno = 0;
    long long number = strtoll(value, &end, 10);
    if (end == value || *end != '\0' || errno != 0)
        return fail(l, row, "\"%.40s\" is no whole number (unit: %s)", value,
                    row->unit);
    if (number < row->low || number > row->high)
        return fail(l, row, "%lld is out of bounds: %lld to %lld %s", number,
                    (long long)row->low, (long long)row->high, row->unit);
    *(int64_t *)field = number;
    return true;
}

/* The next word of a list in blanks; 0 at its end. */
static size_t next_word(const char **at)
{
    *at += strspn(*at, " \t");
    return strcspn(*at, " \t");
}

static bool read_choice(struct load *l, const struct row *row, void *field,
                        const char *value)
{
    unsigned number = 0;
    const char *at = row->words;
    for (size_t n; (n = next_word(&at)) > 0; at += n, number++)
        if (bytes_equal_nocase(at, n, value)) {
            *(unsigned *)field = number;
            return true;
        }
    return fail(l, row, "\"%.40s\" is none of: %s", value, row->words);
}

typedef bool read_item(const char *word, void *list);

static bool read_endpoint(const char *word, void *list)
{
    struct settings_endpoints *e = list;
    return ip_parse_endpoint(word, 0, &e->items[e->count++]);
}

static bool read_network(const char *word, void *list)
{
    struct settings_networks *n = list;
    return ip_parse_network(word, &n->items[n->count++]);
}

/* Both lists begin with their count, which is what row->high bounds. */
static bool read_list(struct load *l, const struct row *row, void *field,
                      const char *value, read_item *read, const char *form)
{
    const char *at = value;
    int64_t count = 0;
    *(unsigned *)field = 0;
    for (size_t n; (n = next_word(&at)) > 0; at += n) {
        char word[IP_ENDPOINT_BYTES + 8];
        if (count++ == row->high)
            return fail(l, row, "has more than %d entries", (int)row->high);
        bool fits = n < sizeof word;
        snprintf(word, sizeof word, "%.*s", (int)n, at);
        if (!fits || !read(word, field))
            return fail(l, row, "\"%.40s\" is no %s", word, form);
    }
    return true;
}

static bool read_value(struct load *l, const struct row *row, const char *value)
{
    void *field = (char *)&l->s + row->offset;
    switch (row->kind) {
    case KIND_TEXT:
    case KIND_SECRET: return read_text(l, row, field, value);
    case KIND_NUMBER: return read_number(l, row, field, value);
    case KIND_CHOICE: return read_choice(l, row, field, value);
    case KIND_ENDPOINTS:
        return read_list(l, row, field, value, read_endpoint,
                         "address:port (such as 0.0.0.0:25 or [::]:25)");
    case KIND_NETWORKS:
        return read_list(l, row, field, value, read_network,
                         "network (such as 192.168.0.0/16; no bits may be set "
                         "behind the prefix)");
    }
    return false;
}

static bool load_presets(struct load *l)
{
    for (size_t i = 0; i < ROWS; i++) {
        char number[24];
        snprintf(number, sizeof number, "%lld",
                 (long long)rows[i].preset_number);
        const char *text = rows[i].preset_text ? rows[i].preset_text : number;
        if (!read_value(l, &rows[i], text))
            return false;
    }
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
    const struct row *row = row_of(line);
    if (row == NULL)
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
    while (text < end) {
        char line[VALUE_BYTES];
        const char *lf = memchr(text, '\n', (size_t)(end - text));
        size_t n = (size_t)((lf ? lf : end) - text);
        l->line++;
        if (n >= sizeof line)
            return fail(l, NULL, "is too long: %d bytes at most",
                        VALUE_BYTES - 1);
        if (memchr(text, '\0', n) != NULL)
            return fail(l, NULL, "holds a NUL byte; this is no text file");
        memcpy(line, text, n);
        line[n] = '\0';
        bool is_good = load_line(l, line);
        bytes_wipe(line, sizeof line);
        if (!is_good)
            return false;
        text += n + (lf != NULL);
    }
    return true;
}

/* ---- Files --------------------------------------------------------------- */

/* The bytes read into data, or -1 with errno; EFBIG: it fills all the room.
 * *is_open: others than its owner and group can read it, or change it. */
static ssize_t read_file(const char *name, void *data, size_t room,
                         bool *is_open)
{
    int fd = open(name, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return -1;
    struct stat st;
    *is_open = fstat(fd, &st) != 0 || (st.st_mode & (S_IRWXO | S_IWGRP));
    size_t used = 0;
    for (ssize_t n = 1; n != 0 && used < room;) {
        n = read(fd, (char *)data + used, room - used);
        if (n < 0 && errno != EINTR) {
            close(fd);
            return -1;
        }
        used += n > 0 ? (size_t)n : 0;
        if (n < 0)
            n = 1;
    }
    close(fd);
    if (used == room)
        errno = EFBIG;
    return used == room ? -1 : (ssize_t)used;
}

static bool load_password(struct load *l)
{
    const struct row *row = row_of("smarthost_password_file");
    const char *file = l->s.smarthost_password_file;
    if (*file == '\0')
        return true;
    if (*l->s.smarthost_password != '\0')
        return fail(l, row, "smarthost_password is set too; keep one of them");
    char text[sizeof l->s.smarthost_password + 3]; /* CRLF, and a NUL */
    bool is_open = false;
    ssize_t n = read_file(file, text, sizeof text - 1, &is_open);
    if (n < 0)
        return fail(l, row, "cannot read %.150s: %s", file, strerror(errno));
    if (is_open)
        return fail(l, row, "%.200s can be read by others; chmod 600 it", file);
    text[n] = '\0';
    text[strcspn(text, "\r\n")] = '\0';
    bool is_good = read_text(l, row, l->s.smarthost_password, text);
    bytes_wipe(text, sizeof text);
    return is_good;
}

/* ---- Contradictions ------------------------------------------------------ */

static bool parse_smarthost(struct load *l)
{
    const struct row *row = row_of("smarthost");
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
    const struct row *row = row_of("smarthost_password");
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
    const struct row *row = row_of("smarthost_auth");
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
    const struct row *row = row_of("smarthost_ca_file");
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

static bool check_names(struct load *l)
{
    struct path postmaster;
    const char *rest;
    if (*l->s.hostname != '\0' &&
        (!path_is_domain(l->s.hostname) || !is_ascii(l->s.hostname)))
        return fail(l, row_of("hostname"), "\"%.60s\" is no host name",
                    l->s.hostname);
    if (*l->s.postmaster != '\0' &&
        (!path_parse(l->s.postmaster, &postmaster, &rest) || *rest != '\0' ||
         !postmaster.has_domain || postmaster.is_utf8 ||
         strcmp(postmaster.mailbox, l->s.postmaster) != 0))
        return fail(l, row_of("postmaster"),
                    "\"%.60s\" is no plain address such as me@example.com",
                    l->s.postmaster);
    return true;
}

static bool check_all(struct load *l)
{
    if (!parse_smarthost(l) || !check_secret_is_kept(l) || !load_password(l) ||
        !check_auth(l) || !check_ca_file(l) || !check_names(l))
        return false;
    if (l->s.listen.count == 0)
        return fail(l, row_of("listen"), "is empty; no device could connect");
    if (l->s.allow_from.count == 0)
        return fail(l, row_of("allow_from"), "is empty; no device could send");
    if (l->s.retry_first_seconds > l->s.retry_max_seconds)
        return fail(l, row_of("retry_first_seconds"),
                    "is above retry_max_seconds; lower it");
    l->s.listen_is_preset = l->line_of[row_of("listen") - rows] == 0;
    return true;
}

/* ---- Loading ------------------------------------------------------------- */

/* The values of scratch, once all agree to them. */
static bool put_in_force(struct load *l)
{
    char why[SETTINGS_ERROR_BYTES] = "";
    if (l->accept != NULL && !l->accept(&l->s, why)) {
        snprintf(l->error, SETTINGS_ERROR_BYTES, "%s", why);
        return false;
    }
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
        n = read_file(name, text, sizeof text, &is_open);
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

static void print_list(FILE *out, const struct row *row, const void *field)
{
    char text[IP_ENDPOINT_BYTES];
    if (row->kind == KIND_ENDPOINTS) {
        const struct settings_endpoints *e = field;
        for (unsigned i = 0; i < e->count; i++)
            fprintf(out, "%s%s", i ? " " : "",
                    ip_format_endpoint(&e->items[i], text));
        return;
    }
    const struct settings_networks *n = field;
    for (unsigned i = 0; i < n->count; i++)
        fprintf(out, "%s%s/%u", i ? " " : "",
                ip_format(&n->items[i].address, text), n->items[i].prefix_bits);
}

static void print_choice(FILE *out, const struct row *row, unsigned number)
{
    const char *at = row->words;
    size_t n = next_word(&at);
    for (; number > 0; number--) {
        at += n;
        n = next_word(&at);
    }
    fprintf(out, "%.*s", (int)n, at);
}

static void print_value(FILE *out, const struct row *row)
{
    const void *field = (const char *)&in_force + row->offset;
    const char *text = field;
    switch (row->kind) {
    case KIND_TEXT: fprintf(out, "%s", text); break;
    case KIND_SECRET: fprintf(out, "%s", *text ? "********" : ""); break;
    case KIND_NUMBER:
        fprintf(out, "%lld", (long long)*(const int64_t *)field);
        break;
    case KIND_CHOICE: print_choice(out, row, *(const unsigned *)field); break;
    case KIND_ENDPOINTS:
    case KIND_NETWORKS: print_list(out, row, field); break;
    }
}

void settings_print(FILE *out)
{
    for (size_t i = 0; i < ROWS; i++) {
        fprintf(out, "%s = ", rows[i].key);
        print_value(out, &rows[i]);
        if (line_in_force[i] == 0)
            fprintf(out, "\n    # from the build");
        else
            fprintf(out, "\n    # from %s line %u", name_in_force,
                    line_in_force[i]);
        fprintf(out, "; %s", rows[i].help);
        if (rows[i].kind == KIND_NUMBER)
            fprintf(out, " (%lld to %lld %s)", (long long)rows[i].low,
                    (long long)rows[i].high, rows[i].unit);
        if (rows[i].kind == KIND_CHOICE)
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
