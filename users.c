/* See users.h. */
#include "users.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "buf.h"
#include "file.h"
#include "path.h"

#define ROUNDS_LEAST     1000
#define ROUNDS_LARGEST   1000000
#define SALT_LEAST_BYTES 8
#define SALT_OURS_BYTES  16
#define HASH_NAME        "$pbkdf2-sha256$"
#define MAKE_IT          "`lanpost hash-password` makes one"

struct user {
    char name[USER_NAME_BYTES];
    char senders[USER_SENDERS_BYTES]; /* canonical, in blanks; "" = any */
    unsigned line;
    uint32_t rounds;
    uint8_t salt_bytes;
    uint8_t salt[CRYPTO_SALT_BYTES];
    uint8_t key[CRYPTO_KEY_BYTES];
};

/* Two, so that a bad file changes nothing. */
static struct table {
    unsigned count;
    struct user users[USERS_MAX];
} tables[2];
static struct table *table = &tables[0];

/* What an unknown name is checked against, so that it costs as much. */
static struct user nobody = {.rounds = USERS_ROUNDS,
                             .salt_bytes = SALT_OURS_BYTES};

static char file_text[USERS_FILE_BYTES + 1];

static struct user *find(struct table *t, const char *name)
{
    for (unsigned i = 0; i < t->count; i++)
        if (strcmp(t->users[i].name, name) == 0)
            return &t->users[i];
    return NULL;
}

/* ---- One line of the file ------------------------------------------------ */

struct load {
    char *why;
    unsigned line;
    struct table *into;
};

__attribute__((format(printf, 2, 3))) static bool fail(struct load *l,
                                                       const char *format, ...)
{
    int used = snprintf(l->why, USERS_WHY_BYTES, "line %u: ", l->line);
    va_list args;
    va_start(args, format);
    vsnprintf(l->why + used, USERS_WHY_BYTES - (size_t)used, format, args);
    va_end(args);
    return false;
}

/* What is wrong with a name, or NULL. */
static const char *fault_of_name(const char *name)
{
    size_t length = strlen(name);
    if (length == 0)
        return "the name is empty";
    if (length >= USER_NAME_BYTES)
        return "the name is too long";
    for (const char *c = name; *c; c++)
        if (*c < ' ' || *c > '~' || *c == ':')
            return "the name has other characters than printable ASCII";
    /* the file could not tell them from a comment and from its own blanks */
    if (*name == '#' || *name == ' ' || name[length - 1] == ' ')
        return "the name starts with '#', or starts or ends with a blank";
    return NULL;
}

static bool read_name(struct load *l, struct user *u, const char *name)
{
    const char *fault = fault_of_name(name);
    if (fault != NULL)
        return fail(l, "%s; take 1 to %d letters, digits or signs", fault,
                    USER_NAME_BYTES - 1);
    const struct user *twin = find(l->into, name);
    if (twin != NULL)
        return fail(l, "the user \"%s\" is in line %u already; keep one", name,
                    twin->line);
    text_copy(u->name, sizeof u->name, name);
    return true;
}

/* Cuts text at its first separator and returns what is behind it; NULL: there
 * is none. */
static char *cut(char *text, char separator)
{
    char *at = strchr(text, separator);
    if (at != NULL)
        *at++ = '\0';
    return at;
}

/* Nothing of the hash is ever shown: it may be a password in clear. */
static bool read_hash(struct load *l, struct user *u, char *hash)
{
    size_t prefix = strlen(HASH_NAME);
    char *rounds = strncmp(hash, HASH_NAME, prefix) == 0 ? hash + prefix : NULL;
    char *salt = rounds ? cut(rounds, '$') : NULL;
    char *key = salt ? cut(salt, '$') : NULL;
    if (key == NULL)
        return fail(l, "the hash is no " HASH_NAME "ROUNDS$SALT$KEY; " MAKE_IT);
    size_t digits = strspn(rounds, "0123456789");
    unsigned long count = strtoul(rounds, NULL, 10);
    if (digits == 0 || digits > 7 || rounds[digits] != '\0' ||
        count < ROUNDS_LEAST || count > ROUNDS_LARGEST)
        return fail(l, "the hash must have %d to %d rounds; " MAKE_IT,
                    ROUNDS_LEAST, ROUNDS_LARGEST);
    u->rounds = (uint32_t)count;
    ssize_t n = base64_decode(salt, strlen(salt), u->salt, sizeof u->salt);
    if (n < SALT_LEAST_BYTES)
        return fail(l,
                    "the salt must be %d to %d bytes in base64, with "
                    "padding; " MAKE_IT,
                    SALT_LEAST_BYTES, CRYPTO_SALT_BYTES);
    u->salt_bytes = (uint8_t)n;
    n = base64_decode(key, strlen(key), u->key, sizeof u->key);
    if (n != CRYPTO_KEY_BYTES)
        return fail(
            l, "the key must be %d bytes in base64, with padding; " MAKE_IT,
            CRYPTO_KEY_BYTES);
    return true;
}

/* An address in its canonical form, or "@domain". False: neither. */
static bool put_sender(struct buf *list, const char *text)
{
    struct path path;
    const char *rest;
    buf_puts(list, buf_len(list) > 0 ? " " : "");
    if (*text == '@') {
        buf_puts(list, text);
        return path_is_domain(text + 1);
    }
    bool is_good =
        path_parse(text, &path, &rest) && *rest == '\0' && path.has_domain;
    buf_puts(list, path.mailbox);
    return is_good;
}

static bool read_senders(struct load *l, struct user *u, char *text)
{
    struct buf list;
    char *rest = NULL;
    buf_init(&list, u->senders, sizeof u->senders);
    for (char *one = strtok_r(text, " \t", &rest); one != NULL;
         one = strtok_r(NULL, " \t", &rest))
        if (!put_sender(&list, one))
            return fail(l,
                        "\"%.100s\" is no address (such as a@example.com) and "
                        "no @domain",
                        one);
    if (buf_len(&list) == 0)
        return fail(l, "the list of senders is empty; name one, or drop the "
                       "last colon");
    buf_put(&list, "", 1);
    if (list.overflow)
        return fail(l,
                    "the list of senders is too long: %d bytes at most; name "
                    "an @domain instead",
                    USER_SENDERS_BYTES - 1);
    return true;
}

static bool load_line(struct load *l, char *line)
{
    line += strspn(line, " \t");
    size_t length = strlen(line);
    while (length > 0 && strchr(" \t\r", line[length - 1]))
        line[--length] = '\0';
    if (length == 0 || *line == '#')
        return true;
    if (l->into->count == USERS_MAX)
        return fail(l, "is one user too many: %d at most", USERS_MAX);
    char *hash = cut(line, ':');
    if (hash == NULL)
        return fail(l, "is no \"name:hash\" line; " MAKE_IT);
    char *senders = cut(hash, ':');
    struct user *u = &l->into->users[l->into->count];
    u->line = l->line;
    if (!read_name(l, u, line) || !read_hash(l, u, hash) ||
        (senders != NULL && !read_senders(l, u, senders)))
        return false;
    l->into->count++;
    return true;
}

/* ---- The file ------------------------------------------------------------ */

static bool load_lines(struct load *l, const char *text, size_t length)
{
    const char *end = text + length;
    char line[USERS_LINE_BYTES];
    bool is_good = true;
    enum file_line found;
    while (is_good && (found = file_next_line(&text, end, line, sizeof line)) !=
                          FILE_LINE_NONE) {
        l->line++;
        if (found == FILE_LINE_TOO_LONG)
            return fail(l, "is too long: %d bytes at most",
                        USERS_LINE_BYTES - 1);
        if (found == FILE_LINE_HAS_NUL)
            return fail(l, "holds a NUL byte; this is no text file");
        is_good = load_line(l, line);
        bytes_wipe(line, sizeof line);
    }
    return is_good;
}

bool users_load_text(const char *text, size_t length, char why[USERS_WHY_BYTES])
{
    struct table *spare = &tables[table == &tables[0]];
    struct load l = {.why = why, .into = spare};
    bool is_good = load_lines(&l, text, length);
    if (is_good) {
        struct table *old = table;
        table = spare;
        spare = old;
        nobody.rounds =
            table->count > 0 ? table->users[0].rounds : USERS_ROUNDS;
        crypto_random(nobody.salt, sizeof nobody.salt);
    }
    bytes_wipe(spare, sizeof *spare);
    return is_good;
}

bool users_load(const char *file, char why[USERS_WHY_BYTES])
{
    bool is_open = false;
    if (*file == '\0')
        return users_load_text("", 0, why);
    ssize_t n = file_read(file, file_text, sizeof file_text, &is_open);
    if (n < 0)
        snprintf(why, USERS_WHY_BYTES, "cannot read %.150s: %s", file,
                 strerror(errno));
    else if (is_open)
        snprintf(why, USERS_WHY_BYTES,
                 "%.200s can be read by others; chmod 600 it", file);
    bool is_good =
        n >= 0 && !is_open && users_load_text(file_text, (size_t)n, why);
    bytes_wipe(file_text, sizeof file_text);
    return is_good;
}

void users_wipe(void)
{
    bytes_wipe(tables, sizeof tables);
    nobody.rounds = USERS_ROUNDS;
}

unsigned users_count(void)
{
    return table->count;
}

size_t users_memory_bytes(void)
{
    return sizeof tables + sizeof file_text;
}

/* ---- One login ----------------------------------------------------------- */

void users_check_start(struct users_check *c, const char *name,
                       const char *password)
{
    const struct user *u = find(table, name);
    c->is_known = u != NULL;
    if (u == NULL)
        u = &nobody;
    memcpy(c->key, u->key, sizeof c->key);
    crypto_pbkdf2_start(&c->work, password, strlen(password), u->salt,
                        u->salt_bytes, u->rounds);
}

enum users_verdict users_check_run(struct users_check *c)
{
    uint8_t key[CRYPTO_KEY_BYTES];
    if (!crypto_pbkdf2_run(&c->work, PASSWORD_SLICE_ROUNDS, key))
        return USERS_BUSY;
    bool is_equal = crypto_equal(key, c->key, sizeof key);
    enum users_verdict verdict =
        is_equal && c->is_known ? USERS_GOOD : USERS_BAD;
    bytes_wipe(key, sizeof key);
    users_check_wipe(c);
    return verdict;
}

void users_check_wipe(struct users_check *c)
{
    bytes_wipe(c, sizeof *c);
}

/* ---- After the login ----------------------------------------------------- */

bool users_may_send(const char *name, const char *mailbox)
{
    const struct user *u = find(table, name);
    if (u == NULL)
        return false;
    if (*u->senders == '\0' || *mailbox == '\0')
        return true;
    /* the last one: a quoted local part may hold others */
    const char *domain = strrchr(mailbox, '@');
    for (const char *at = u->senders; *at != '\0';) {
        size_t length = strcspn(at, " ");
        const char *wanted = *at == '@' ? domain : mailbox;
        if (wanted != NULL && bytes_equal_nocase(at, length, wanted))
            return true;
        at += length + (at[length] == ' ');
    }
    return false;
}

/* ---- For the administrator ----------------------------------------------- */

bool users_format(const char *name, const char *password, char *out,
                  size_t room)
{
    uint8_t salt[SALT_OURS_BYTES], key[CRYPTO_KEY_BYTES];
    struct crypto_pbkdf2 work;
    struct buf b;
    if (fault_of_name(name) != NULL || *password == '\0')
        return false;
    crypto_random(salt, sizeof salt);
    crypto_pbkdf2_start(&work, password, strlen(password), salt, sizeof salt,
                        USERS_ROUNDS);
    while (!crypto_pbkdf2_run(&work, USERS_ROUNDS, key))
        ;
    buf_init(&b, out, room);
    buf_format(&b, "%s:" HASH_NAME "%d$", name, USERS_ROUNDS);
    buf_put_base64(&b, salt, sizeof salt);
    buf_puts(&b, "$");
    buf_put_base64(&b, key, sizeof key);
    buf_put(&b, "", 1);
    bytes_wipe(key, sizeof key);
    return !b.overflow;
}
