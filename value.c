/* See value.h. */
#include "value.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "buf.h"

static bool fail(char why[VALUE_WHY_BYTES], const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static bool fail(char why[VALUE_WHY_BYTES], const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(why, VALUE_WHY_BYTES, format, args);
    va_end(args);
    return false;
}

/* ---- Lists --------------------------------------------------------------- */

size_t value_next_word(const char **at, const char **word)
{
    *word = *at + strspn(*at, " \t");
    size_t n = strcspn(*word, " \t");
    *at = *word + n;
    return n;
}

bool value_next_pair(const char **at, char left[VALUE_PAIR_BYTES],
                     char right[VALUE_PAIR_BYTES])
{
    const char *word;
    size_t n = value_next_word(at, &word);
    const char *equals = n > 0 ? memchr(word, '=', n) : NULL;
    if (equals == NULL)
        return false;
    size_t before = (size_t)(equals - word);
    snprintf(left, VALUE_PAIR_BYTES, "%.*s", (int)before, word);
    snprintf(right, VALUE_PAIR_BYTES, "%.*s", (int)(n - before - 1),
             equals + 1);
    return true;
}

/* ---- Text to value ------------------------------------------------------- */

static bool read_text(const struct value_row *row, void *field,
                      const char *text, char *why)
{
    for (const char *c = text; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            return fail(why, "holds a control character; take it out");
    if (row->kind == VALUE_TEXT && strstr(text, " #") != NULL)
        return fail(why, "holds \" #\"; a comment needs its own line");
    if (text_copy(field, (size_t)row->high + 1, text))
        return true;
    return fail(why, "is too long: %d bytes at most", (int)row->high);
}

static bool read_number(const struct value_row *row, void *field,
                        const char *text, char *why)
{
    char *end;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0)
        return fail(why, "\"%.40s\" is no whole number (unit: %s)", text,
                    row->unit);
    if (number < row->low || number > row->high)
        return fail(why, "%lld is out of bounds: %lld to %lld %s", number,
                    (long long)row->low, (long long)row->high, row->unit);
    *(int64_t *)field = number;
    return true;
}

static bool read_choice(const struct value_row *row, void *field,
                        const char *text, char *why)
{
    const char *at = row->words, *word;
    size_t n;
    for (unsigned i = 0; (n = value_next_word(&at, &word)) > 0; i++)
        if (bytes_equal_nocase(word, n, text)) {
            *(unsigned *)field = i;
            return true;
        }
    return fail(why, "\"%.40s\" is none of: %s", text, row->words);
}

typedef bool read_item(const char *word, void *list);

static bool read_endpoint(const char *word, void *list)
{
    struct value_endpoints *e = list;
    return ip_parse_endpoint(word, 0, &e->items[e->count++]);
}

static bool read_network(const char *word, void *list)
{
    struct value_networks *n = list;
    return ip_parse_network(word, &n->items[n->count++]);
}

/* Both lists begin with their count, which is what row->high bounds. */
static bool read_list(const struct value_row *row, void *field,
                      const char *text, char *why)
{
    bool is_network = row->kind == VALUE_NETWORKS;
    read_item *read = is_network ? read_network : read_endpoint;
    const char *at = text, *word;
    int64_t count = 0;
    *(unsigned *)field = 0;
    for (size_t n; (n = value_next_word(&at, &word)) > 0;) {
        char item[IP_ENDPOINT_BYTES + 8];
        if (count++ == row->high)
            return fail(why, "has more than %d entries", (int)row->high);
        bool fits = n < sizeof item;
        snprintf(item, sizeof item, "%.*s", (int)n, word);
        if (!fits || !read(item, field))
            return fail(why, "\"%.40s\" is no %s", item,
                        is_network
                            ? "network (such as 192.168.0.0/16; no bits may "
                              "be set behind the prefix)"
                            : "address:port (such as 0.0.0.0:25 or [::]:25)");
    }
    return true;
}

bool value_add_pairs(const struct value_row *row, char *field, const char *text,
                     char why[VALUE_WHY_BYTES])
{
    const char *at = text, *word;
    size_t used = strlen(field), n;
    while ((n = value_next_word(&at, &word)) > 0) {
        const char *equals = memchr(word, '=', n);
        if (equals == NULL || equals == word || equals == word + n - 1 ||
            n >= VALUE_PAIR_BYTES)
            return fail(why, "\"%.*s\" is no left=right", n < 60 ? (int)n : 60,
                        word);
        if (used + n + 1 > (size_t)row->high)
            return fail(why, "is too long: %d bytes at most", (int)row->high);
        if (used > 0)
            field[used++] = ' ';
        memcpy(field + used, word, n);
        used += n;
        field[used] = '\0';
    }
    return true;
}

bool value_read(const struct value_row *row, void *field, const char *text,
                char why[VALUE_WHY_BYTES])
{
    switch (row->kind) {
    case VALUE_TEXT:
    case VALUE_SECRET: return read_text(row, field, text, why);
    case VALUE_NUMBER: return read_number(row, field, text, why);
    case VALUE_CHOICE: return read_choice(row, field, text, why);
    case VALUE_ENDPOINTS:
    case VALUE_NETWORKS: return read_list(row, field, text, why);
    case VALUE_PAIRS:
        *(char *)field = '\0';
        return value_add_pairs(row, field, text, why);
    }
    return false;
}

bool value_preset(const struct value_row *row, void *field,
                  char why[VALUE_WHY_BYTES])
{
    char number[24];
    snprintf(number, sizeof number, "%lld", (long long)row->preset_number);
    return value_read(row, field, row->preset_text ? row->preset_text : number,
                      why);
}

/* ---- Value to text ------------------------------------------------------- */

static void print_endpoints(FILE *out, const struct value_endpoints *e)
{
    char text[IP_ENDPOINT_BYTES];
    for (unsigned i = 0; i < e->count; i++)
        fprintf(out, "%s%s", i ? " " : "",
                ip_format_endpoint(&e->items[i], text));
}

static void print_networks(FILE *out, const struct value_networks *n)
{
    char text[IP_TEXT_BYTES];
    for (unsigned i = 0; i < n->count; i++)
        fprintf(out, "%s%s/%u", i ? " " : "",
                ip_format(&n->items[i].address, text), n->items[i].prefix_bits);
}

static void print_choice(FILE *out, const struct value_row *row,
                         unsigned number)
{
    const char *at = row->words, *word;
    size_t n = value_next_word(&at, &word);
    for (; number > 0; number--)
        n = value_next_word(&at, &word);
    fprintf(out, "%.*s", (int)n, word);
}

void value_print(FILE *out, const struct value_row *row, const void *field)
{
    const char *text = field;
    switch (row->kind) {
    case VALUE_TEXT:
    case VALUE_PAIRS: fprintf(out, "%s", text); break;
    case VALUE_SECRET: fprintf(out, "%s", *text ? "********" : ""); break;
    case VALUE_NUMBER:
        fprintf(out, "%lld", (long long)*(const int64_t *)field);
        break;
    case VALUE_CHOICE: print_choice(out, row, *(const unsigned *)field); break;
    case VALUE_ENDPOINTS: print_endpoints(out, field); break;
    case VALUE_NETWORKS: print_networks(out, field); break;
    }
}
