/* See from.h. */
#include "from.h"

#include <stdio.h>
#include <string.h>

#define FOLD_COLUMNS 78  /* RFC 5322 section 2.1.1: should not pass this, */
#define LINE_COLUMNS 998 /* and must not pass that */

/* Nobody nests deeper; so comments that never end cost no time. */
#define COMMENT_DEPTH 8

/* Control characters part words as blanks do; bytes_are_good() judges them. */
static bool is_blank(char c)
{
    return (unsigned char)c <= ' ' || c == 0x7f;
}

/* What no atom may hold, RFC 5322 section 3.2.3. */
static bool is_special(char c)
{
    return c != '\0' && strchr("()<>[]:;@\\,.\"", c) != NULL;
}

static bool is_atext(char c)
{
    return !is_blank(c) && !is_special(c);
}

/* ---- Display names as text ---------------------------------------------- */

struct text {
    char *out; /* FROM_NAME_BYTES */
    size_t used;
    bool has_gap; /* blanks came: one is due before the next byte */
    bool is_cut;
};

static void text_put(struct text *t, char c)
{
    size_t gap = t->has_gap && t->used > 0;
    if (is_blank(c)) {
        t->has_gap = true;
        return;
    }
    t->is_cut |= t->used + gap + 1 >= FROM_NAME_BYTES;
    if (t->is_cut)
        return;
    if (gap)
        t->out[t->used++] = ' ';
    t->out[t->used++] = c;
    t->has_gap = false;
}

/* The part of a UTF-8 character that a cut left at the end: its bytes. */
static size_t torn_bytes(const char *text, size_t count)
{
    for (size_t n = 1; n <= 3 && n <= count; n++) {
        unsigned char c = (unsigned char)text[count - n];
        if (c >= 0xc0)
            return n < (c >= 0xf0 ? 4u : c >= 0xe0 ? 3u : 2u) ? n : 0;
        if (c < 0x80)
            return 0;
    }
    return 0;
}

/* A cut goes through no character and through no encoded-word (RFC 2047):
 * half of one would be shown as it is written. */
static void text_end(struct text *t)
{
    t->out[t->used] = '\0';
    if (!t->is_cut)
        return;
    t->used -= torn_bytes(t->out, t->used);
    t->used -= t->used > 0 && t->out[t->used - 1] == ' ';
    t->out[t->used] = '\0';
    char *blank = strrchr(t->out, ' ');
    char *word = blank != NULL ? blank + 1 : t->out;
    bool is_whole = t->used >= 2 && strcmp(t->out + t->used - 2, "?=") == 0;
    if (strncmp(word, "=?", 2) == 0 && !is_whole)
        *(blank != NULL ? blank : word) = '\0';
}

/* ---- Walking over a field ----------------------------------------------- */

/* Behind the quoted-string or the comment that starts here; else, and when it
 * never ends, behind this byte. */
static const char *skip_unit(const char *at, const char *end)
{
    char opens = *at;
    size_t depth = 1;
    if (opens != '"' && opens != '(')
        return at + 1;
    for (const char *c = at + 1; c < end && depth <= COMMENT_DEPTH; c++) {
        if (*c == '\\')
            c++;
        else if (*c == (opens == '(' ? ')' : '"'))
            depth--;
        else if (*c == '(' && opens == '(')
            depth++;
        if (depth == 0)
            return c + 1;
    }
    return at + 1;
}

static bool is_comment(const char *at, const char *behind)
{
    return *at == '(' && behind > at + 1;
}

/* The next such byte outside of quotes and comments, or end. */
static const char *find(const char *at, const char *end, char wanted)
{
    while (at < end && *at != wanted)
        at = skip_unit(at, end);
    return at < end ? at : end;
}

static bool is_gap(const char *at, const char *end)
{
    for (const char *behind; at < end; at = behind) {
        behind = skip_unit(at, end);
        if (!is_blank(*at) && !is_comment(at, behind))
            return false;
    }
    return true;
}

/* A phrase, or nothing; dots in it are obs-phrase (section 4.1), which
 * everyone takes. */
static bool is_phrase(const char *at, const char *end)
{
    bool has_word = false;
    for (const char *behind; at < end; at = behind) {
        behind = skip_unit(at, end);
        bool is_quoted = *at == '"' && behind > at + 1;
        if (is_blank(*at) || is_comment(at, behind))
            continue;
        if (!is_quoted && !is_atext(*at) && !(has_word && *at == '.'))
            return false;
        has_word = true;
    }
    return true;
}

/* False: a CRLF that neither folds the field nor ends it. */
static bool is_fold(const char *crlf, const char *end)
{
    return end - crlf >= 2 && crlf[1] == '\n' &&
           (end - crlf == 2 || crlf[2] == ' ' || crlf[2] == '\t');
}

/* False: control characters, line ends that are no fold, too long a line, or
 * one of blanks, at which some readers think that the header has ended. */
static bool bytes_are_good(const char *at, const char *end)
{
    size_t column = strlen("From:");
    bool has_text = true; /* the first line has the field's name */
    for (; at < end; at++) {
        if (*at == '\r') {
            if (!has_text || !is_fold(at, end))
                return false;
            at++;
            column = 0;
            has_text = false;
            continue;
        }
        if (is_blank(*at) && *at != ' ' && *at != '\t')
            return false;
        has_text |= !is_blank(*at);
        if (++column > LINE_COLUMNS)
            return false;
    }
    return has_text || column == 0;
}

/* ---- Reading ------------------------------------------------------------ */

/* What parts a display name from an address, or one from the next. */
static bool is_stop(char c)
{
    return is_blank(c) || c == ':' || strchr("<>,;", c) != NULL;
}

/* What a quoted-string or a comment holds, its quoted-pairs taken off. */
static void put_inner(struct text *t, const char *at, const char *behind)
{
    for (at++; at < behind - 1; at++) {
        if (*at == '\\' && at + 1 < behind - 1)
            at++;
        text_put(t, *at);
    }
}

static void read_name(const char *at, const char *end, char *name)
{
    struct text t = {.out = name};
    while (end > at && is_stop(end[-1]))
        end--;
    for (const char *behind; at < end; at = behind) {
        behind = skip_unit(at, end);
        if (is_comment(at, behind))
            text_put(&t, ' ');
        else if (behind > at + 1)
            put_inner(&t, at, behind);
        else if (*at != '"') /* one that never ends is a slip */
            text_put(&t, *at);
    }
    text_end(&t);
}

/* "a@b (Scanner)": how names were written before there were phrases. */
static void read_comment(const char *at, const char *end, char *name)
{
    struct text t = {.out = name};
    for (const char *behind; at < end; at = behind) {
        behind = skip_unit(at, end);
        if (!is_comment(at, behind))
            continue;
        put_inner(&t, at, behind);
        text_put(&t, ' ');
    }
    text_end(&t);
}

/* Copies an address without its comments and blanks; those that stand inside
 * it leave one blank, but for those at the @, which mean nothing. */
static bool copy_address(const char *at, const char *end, char *out,
                         size_t room)
{
    size_t used = 0;
    bool has_gap = false;
    for (const char *behind; at < end; at = behind) {
        behind = skip_unit(at, end);
        size_t count = (size_t)(behind - at);
        if (is_blank(*at) || is_comment(at, behind)) {
            has_gap = used > 0;
            continue;
        }
        if (used + count + 2 > room)
            return false;
        if (has_gap && *at != '@' && out[used - 1] != '@')
            out[used++] = ' ';
        memcpy(out + used, at, count);
        used += count;
        has_gap = false;
    }
    out[used] = '\0';
    return true;
}

static bool parse(const char *text, struct path *out)
{
    char bracketed[PATH_BYTES + 2];
    const char *rest;
    snprintf(bracketed, sizeof bracketed, "<%s>", text);
    return path_parse(bracketed, out, &rest) && *rest == '\0' &&
           *out->mailbox != '\0';
}

/* Sets the mailbox if this is one. True: it stands there as it shall. */
static bool read_address(const char *at, const char *end, struct from *out)
{
    char text[PATH_BYTES];
    struct path p, again;
    /* Again, since quoting can make a local-part too long to be read. */
    if (!copy_address(at, end, text, sizeof text) || !parse(text, &p) ||
        !parse(p.mailbox, &again))
        return false;
    if (!p.has_domain && *p.mailbox == '"')
        return false; /* "Office Scanner" and no more: that is a name */
    text_copy(out->mailbox, sizeof out->mailbox, p.mailbox);
    out->has_domain = p.has_domain;
    return p.has_domain && strcmp(text, p.mailbox) == 0;
}

/* Where nothing stands where it should: the first word with an @ that is an
 * address. Returns where it starts, or end. */
static const char *find_address(const char *at, const char *end,
                                struct from *out)
{
    while (at < end) {
        const char *word = at;
        bool has_at = false;
        for (; at < end && !is_stop(*at); at = skip_unit(at, end))
            has_at |= *at == '@';
        if (has_at)
            read_address(word, at, out);
        if (*out->mailbox != '\0')
            return word;
        at += at < end;
    }
    return end;
}

static void read_bracketed(const char *at, const char *bracket,
                           const char *stop, const char *end, struct from *out)
{
    const char *close = find(bracket + 1, stop, '>');
    bool is_exact = read_address(bracket + 1, close, out);
    if (*out->mailbox == '\0')
        find_address(bracket + 1, stop, out);
    out->is_clean = is_exact && is_phrase(at, bracket) && close < stop &&
                    is_gap(close + 1, end);
    read_name(at, bracket, out->name);
}

static void read_bare(const char *at, const char *stop, const char *end,
                      struct from *out)
{
    *out->name = '\0';
    out->is_clean = read_address(at, stop, out) && stop == end;
    if (*out->mailbox != '\0')
        return;
    read_name(at, find_address(at, stop, out), out->name);
    if (text_equal_nocase(out->name, "mailto"))
        *out->name = '\0'; /* a link that somebody pasted */
}

/* From at to stop: something that may be an address, with its name. */
static void read_part(const char *at, const char *bracket, const char *stop,
                      const char *end, struct from *out)
{
    if (bracket < stop)
        read_bracketed(at, bracket, stop, end, out);
    else
        read_bare(at, stop, end, out);
    if (*out->name == '\0')
        read_comment(at, stop, out->name);
}

/* The end of what we read of a field: never in the middle of an address. */
static const char *end_of_value(const char *value, size_t count)
{
    if (count <= FROM_VALUE_BYTES)
        return value + count;
    const char *end = value + FROM_VALUE_BYTES;
    while (end > value && !is_blank(end[-1]))
        end--;
    return end;
}

void from_read(const char *value, size_t count, struct from *out)
{
    const char *end = end_of_value(value, count);
    const char *start = value, *comma; /* start: of the name, too */
    memset(out, 0, sizeof *out);
    for (const char *at = value; at < end && *out->mailbox == '\0';
         at = comma + (comma < end)) {
        comma = find(at, end, ',');
        const char *bracket = find(at, comma, '<');
        /* "Scan, Room <a@b>": what has no address is part of the name. */
        if (bracket == comma && find(at, comma, '@') == comma)
            continue;
        read_part(start, bracket, comma, end, out);
        out->is_clean &= start == value;
        start = comma + (comma < end);
    }
    if (*out->mailbox == '\0' && *out->name == '\0')
        read_part(start, end, end, end, out); /* "root" */
    out->is_clean &= count <= FROM_VALUE_BYTES && bytes_are_good(value, end);
}

/* ---- Building ----------------------------------------------------------- */

struct line {
    struct buf bytes;
    size_t column;
};

/* A fold stands where there is a blank anyway, and never before the first
 * token: a line without text is more than some readers bear. */
static void put_token(struct line *l, const char *token, bool may_fold)
{
    size_t length = strlen(token);
    if (may_fold && l->column + 1 + length > FOLD_COLUMNS) {
        buf_puts(&l->bytes, "\r\n");
        l->column = 0;
    }
    buf_puts(&l->bytes, " ");
    buf_puts(&l->bytes, token);
    l->column += 1 + length;
}

static bool is_atoms(const char *at, size_t count)
{
    for (; count > 0; at++, count--)
        if (!is_atext(*at) && *at != ' ')
            return false;
    return true;
}

/* One word of a name, with the quotes that it opens and closes. */
static void quote(const char *word, size_t count, bool opens, bool closes,
                  char out[2 * FROM_NAME_BYTES + 2])
{
    if (opens)
        *out++ = '"';
    for (; count > 0; word++, count--) {
        if (*word == '"' || *word == '\\')
            *out++ = '\\';
        *out++ = *word;
    }
    if (closes)
        *out++ = '"';
    *out = '\0';
}

static void put_phrase(struct line *l, const char *name)
{
    /* In quotes an encoded-word would be shown as it is written, so beside
     * one each word has its own; else one pair is around all. */
    bool each = strstr(name, "=?") != NULL;
    bool is_plain = is_atoms(name, strlen(name));
    for (const char *at = name, *end; *at; at = end + strspn(end, " ")) {
        char token[2 * FROM_NAME_BYTES + 2];
        end = at + strcspn(at, " ");
        size_t count = (size_t)(end - at);
        bool quoted = each ? !is_atoms(at, count) : !is_plain;
        quote(at, count, quoted && (each || at == name),
              quoted && (each || *end == '\0'), token);
        put_token(l, token, at > name);
    }
}

void from_put(const char *field, const char *name, const char *mailbox,
              struct buf *out)
{
    char space[LINE_COLUMNS], text[FROM_NAME_BYTES] = "";
    char token[PATH_BYTES + 2];
    struct text t = {.out = text};
    struct line l = {.column = strlen(field) + 1};
    buf_init(&l.bytes, space, sizeof space);
    while (*name)
        text_put(&t, *name++);
    text_end(&t);
    snprintf(token, sizeof token, "<%s>", mailbox);
    buf_puts(&l.bytes, field);
    buf_puts(&l.bytes, ":");
    put_phrase(&l, text);
    put_token(&l, token, *text != '\0');
    buf_puts(&l.bytes, "\r\n");
    out->overflow |= l.bytes.overflow;
    buf_put(out, buf_data(&l.bytes), buf_len(&l.bytes));
}
