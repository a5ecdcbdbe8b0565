/* See path.h. */
#include "path.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "buf.h"
#include "ip.h"

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static bool is_utf8_byte(char c)
{
    return (unsigned char)c >= 0x80;
}

static bool is_alnum(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
           (c >= 'a' && c <= 'z');
}

/* atext of RFC 5322 section 3.2.3, and UTF-8 of RFC 6531. */
static bool is_atext(char c)
{
    return is_alnum(c) || is_utf8_byte(c) ||
           (c != '\0' && strchr("!#$%&'*+-/=?^_`{|}~", c) != NULL);
}

static bool is_domain_char(char c)
{
    return is_alnum(c) || c == '-' || c == '_' || is_utf8_byte(c);
}

/* Moves past a quoted-string; NULL when it never ends. */
static const char *skip_quoted(const char *at)
{
    for (at++; *at != '"'; at++) {
        if (*at == '\\')
            at++;
        if ((unsigned char)*at < ' ' || *at == 0x7f)
            return NULL;
    }
    return at + 1;
}

/* RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF. */
static bool is_valid_utf8(const char *text)
{
    const unsigned char *at = (const unsigned char *)text;
    while (*at) {
        unsigned char c = *at++;
        if (c < 0x80)
            continue;
        int more = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : 1;
        uint32_t point = c & (0x3fu >> more);
        if (c < 0xc2 || c > 0xf4)
            return false;
        for (int i = 0; i < more; i++, at++) {
            if ((*at & 0xc0) != 0x80)
                return false;
            point = point << 6 | (*at & 0x3f);
        }
        static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
        if (point < least[more] || point > 0x10ffff ||
            (point >= 0xd800 && point <= 0xdfff))
            return false;
    }
    return true;
}

static const char *skip_local(const char *at)
{
    if (*at == '"')
        return skip_quoted(at);
    while (is_atext(*at) || *at == '.')
        at++;
    return at;
}

static bool dots_are_odd(const char *local)
{
    return local[0] == '.' || local[strlen(local) - 1] == '.' ||
           strstr(local, "..") != NULL;
}

static bool is_literal(const char *text, size_t length)
{
    char inner[IP_TEXT_BYTES];
    struct ip_address address;
    if (length < 2 || length - 2 >= sizeof inner || text[length - 1] != ']')
        return false;
    memcpy(inner, text + 1, length - 2);
    inner[length - 2] = '\0';
    bool is_tagged = bytes_equal_nocase(inner, length < 7 ? 0 : 5, "IPv6:");
    if (strchr(inner, '%') != NULL)
        return false;
    return ip_parse(is_tagged ? inner + 5 : inner, &address) &&
           (is_tagged || strchr(inner, ':') == NULL);
}

static size_t domain_length(const char *at)
{
    size_t length = 0;
    if (*at == '[')
        return strcspn(at, "]") + (strchr(at, ']') != NULL);
    while (is_domain_char(at[length]) || at[length] == '.')
        length++;
    return length;
}

static bool domain_is_good(const char *text, size_t length)
{
    if (length == 0 || length > PATH_DOMAIN_MAX)
        return false;
    if (*text == '[')
        return is_literal(text, length);
    size_t label = 0;
    for (size_t i = 0; i < length; i++) {
        if (text[i] == '.' && label == 0)
            return false;
        label = text[i] == '.' ? 0 : label + 1;
        if (label > 63 || (text[i] != '.' && !is_domain_char(text[i])))
            return false;
    }
    return label > 0;
}

bool path_is_domain(const char *text)
{
    return domain_is_good(text, strlen(text));
}

/* "@a,@b:" of RFC 5321 appendix C: read and dropped, as section 3.6.1 says. */
static const char *skip_route(const char *at)
{
    if (*at != '@')
        return at;
    for (;;) {
        size_t length = *at == '@' ? domain_length(at + 1) : 0;
        if (length == 0)
            return NULL;
        at += 1 + length;
        if (*at == ':')
            return at + 1;
        if (*at++ != ',')
            return NULL;
    }
}

static void put_local(struct path *out, const char *local)
{
    bool quote = *local != '"' && dots_are_odd(local);
    snprintf(out->mailbox, sizeof out->mailbox, quote ? "\"%s\"" : "%s", local);
}

/* Local-part and domain; the bracket, if any, is the caller's. */
static const char *parse_mailbox(const char *at, struct path *out)
{
    const char *local = at;
    at = skip_local(at);
    if (at == NULL || at == local || at - local > PATH_LOCAL_MAX)
        return NULL;
    char copy[PATH_LOCAL_MAX + 1];
    size_t length = (size_t)(at - local);
    memcpy(copy, local, length);
    copy[length] = '\0';
    put_local(out, copy);
    out->has_domain = *at == '@';
    if (!out->has_domain)
        return at;
    at++;
    if (*at == '\0' || *at == '>' || is_blank(*at)) { /* "user@" */
        out->has_domain = false;
        return at;
    }
    size_t whole = domain_length(at), kept = whole;
    if (kept > 1 && *at != '[' && at[kept - 1] == '.')
        kept--;
    if (!domain_is_good(at, kept))
        return NULL;
    size_t used = strlen(out->mailbox);
    out->mailbox[used++] = '@';
    memcpy(out->mailbox + used, at, kept);
    out->mailbox[used + kept] = '\0';
    return at + whole;
}

/* "Scanner <scan@example.com>": what stands in brackets is the path, however
 * the device names itself before it. Brackets in quotes are none. */
static const char *skip_phrase(const char *text)
{
    const char *behind = *text == '"' ? skip_quoted(text) : NULL;
    const char *bracket = strchr(behind ? behind : text, '<');
    const char *end = bracket ? strchr(bracket, '>') : NULL;
    bool is_phrase = bracket != NULL && bracket > text && end != NULL &&
                     (is_blank(bracket[-1]) || bracket[-1] == '"');
    return is_phrase ? bracket : text;
}

bool path_parse(const char *text, struct path *out, const char **rest)
{
    memset(out, 0, sizeof *out);
    while (is_blank(*text))
        text++;
    text = skip_phrase(text);
    bool has_bracket = *text == '<';
    const char *at = has_bracket ? text + 1 : text;
    while (is_blank(*at))
        at++;
    if (!has_bracket || *at != '>') {
        at = skip_route(at);
        if (at != NULL)
            at = parse_mailbox(at, out);
        if (at == NULL)
            return false;
    }
    while (has_bracket && is_blank(*at))
        at++;
    if (has_bracket && *at++ != '>')
        return false;
    for (const char *c = out->mailbox; *c; c++)
        out->is_utf8 |= is_utf8_byte(*c);
    *rest = at;
    return (*at == '\0' || is_blank(*at)) && is_valid_utf8(out->mailbox);
}

int path_next_parameter(const char **at, struct path_parameter *out)
{
    const char *p = *at;
    while (is_blank(*p))
        p++;
    memset(out, 0, sizeof *out);
    if (*p == '\0')
        return 0;
    size_t length = 0;
    for (; is_alnum(*p) || *p == '-'; p++) {
        char c = *p >= 'a' && *p <= 'z' ? (char)(*p - 32) : *p;
        if (length < sizeof out->keyword - 1)
            out->keyword[length++] = c;
    }
    if (length == 0)
        return -1;
    if (*p == '=') {
        size_t used = 0;
        for (p++; *p > ' ' && *p != 0x7f; p++)
            if (used < sizeof out->value - 1)
                out->value[used++] = *p;
    }
    *at = p;
    return *p == '\0' || is_blank(*p) ? 1 : -1;
}

/* "FROM" or "TO" and its colon, with blanks where devices put them. NULL: it
 * is not there. */
static const char *skip_keyword(const char *arg, const char *keyword)
{
    size_t length = strlen(keyword);
    arg += strspn(arg, " \t");
    if (strlen(arg) < length || !bytes_equal_nocase(arg, length, keyword))
        return NULL;
    arg += length;
    arg += strspn(arg, " \t");
    return *arg == ':' ? arg + 1 : NULL;
}

/* SIZE= of RFC 1870. False: not a number. */
static bool parse_size(const char *value, uint64_t *size)
{
    size_t digits = strspn(value, "0123456789");
    if (digits == 0 || value[digits] != '\0')
        return false;
    *size = digits > 18 ? UINT64_MAX : strtoull(value, NULL, 10);
    return true;
}

enum path_fault path_mail(const char *arg, struct path *from, uint64_t *size)
{
    struct path_parameter p;
    int found;
    const char *at = skip_keyword(arg, "FROM"), *rest;
    if (at == NULL || !path_parse(at, from, &rest))
        return PATH_BAD;
    while ((found = path_next_parameter(&rest, &p)) > 0) {
        if (strcmp(p.keyword, "SIZE") == 0 && !parse_size(p.value, size))
            return PATH_BAD_PARAMETER;
        if (strcmp(p.keyword, "BODY") == 0 &&
            !text_equal_nocase(p.value, "7BIT") &&
            !text_equal_nocase(p.value, "8BITMIME"))
            return PATH_BAD_PARAMETER;
    }
    return found < 0 ? PATH_BAD_PARAMETER : PATH_GOOD;
}

enum path_fault path_rcpt(const char *arg, struct path *to)
{
    struct path_parameter p;
    int found;
    const char *at = skip_keyword(arg, "TO"), *rest;
    if (at == NULL || !path_parse(at, to, &rest))
        return PATH_BAD;
    while ((found = path_next_parameter(&rest, &p)) > 0)
        ;
    return found < 0 ? PATH_BAD_PARAMETER : PATH_GOOD;
}
