/* See reply.h. */
#include "reply.h"

#include <string.h>

#include "config.h"

void reply_start(struct reply *r)
{
    memset(r, 0, sizeof *r);
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* The code, or 0: a first digit outside 2 to 5 means that we are out of
 * step or that this is no mail server. */
static int parse_code(const char *line, size_t length)
{
    if (length < 3 || line[0] < '2' || line[0] > '5' || !is_digit(line[1]) ||
        !is_digit(line[2]))
        return 0;
    return (line[0] - '0') * 100 + (line[1] - '0') * 10 + (line[2] - '0');
}

/* "5.7.1 " at the start of a text, else 0 (RFC 3463 section 2). */
static size_t enhanced_length(const char *text, size_t length)
{
    size_t at = 0;
    for (int part = 0; part < 3; part++) {
        size_t digits = 0;
        while (at < length && is_digit(text[at]) && digits < 3)
            at++, digits++;
        if (digits == 0 || (part < 2 && (at >= length || text[at++] != '.')))
            return 0;
    }
    return at < length && text[at] == ' ' ? at + 1 : 0;
}

static void append(struct reply *r, const char *text, size_t length)
{
    size_t used = strlen(r->text);
    for (size_t i = 0; i < length && used < sizeof r->text - 1; i++)
        if (text[i] != '\0')
            r->text[used++] = text[i];
    r->text[used] = '\0';
}

enum reply_state reply_line(struct reply *r, const char *line, size_t length)
{
    int code = parse_code(line, length);
    bool is_last = length == 3 || (length > 3 && line[3] == ' ');
    if (code == 0 || (!is_last && line[3] != '-'))
        return REPLY_BAD;
    if (r->lines++ >= REPLY_LINES_MAX || (r->code != 0 && r->code != code))
        return REPLY_BAD;
    size_t skip = 4; /* servers repeat the enhanced code on every line */
    if (r->code == 0)
        append(r, line, 3);
    else if (length > 4)
        skip += enhanced_length(line + 4, length - 4);
    r->code = code;
    if (length > skip) {
        append(r, " ", 1);
        append(r, line + skip, length - skip);
    }
    return is_last ? REPLY_WHOLE : REPLY_MORE;
}

int reply_class(const struct reply *r)
{
    return r->code / 100;
}
