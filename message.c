/* See message.h. */
#include "message.h"

#include <string.h>
#include <time.h>

#include "path.h"

#define DATE_BYTES 48

/* RFC 5322 section 3.6.8: a field name is printable ASCII but for ':'. */
static bool is_name_char(uint8_t c)
{
    return c > ' ' && c < 0x7f && c != ':';
}

/* The line is no header field: the header section is over, with or without
 * the blank line that should have said so. */
static void leave(struct message_scan *s)
{
    s->is_headerless |= !s->has_fields;
    s->state = SCAN_OVER;
}

static void end_of_name(struct message_scan *s)
{
    const char *name = s->name;
    size_t n = s->name_length;
    s->has_fields = true;
    s->has_date |= bytes_equal_nocase(name, n, "Date");
    s->has_from |= bytes_equal_nocase(name, n, "From");
    s->has_message_id |= bytes_equal_nocase(name, n, "Message-ID");
    s->received += bytes_equal_nocase(name, n, "Received");
    s->state = SCAN_VALUE;
}

static void start_of_line(struct message_scan *s, uint8_t c)
{
    s->name_length = 0;
    if (c == '\r')
        s->state = SCAN_OVER; /* the blank line: there is one, all is well */
    else if ((c == ' ' || c == '\t') && s->has_fields)
        s->state = SCAN_VALUE;
    else if (is_name_char(c))
        s->state = SCAN_NAME;
    else
        leave(s);
}

static void in_name(struct message_scan *s, uint8_t c)
{
    if (s->state == SCAN_NAME && is_name_char(c)) {
        if (s->name_length < sizeof s->name)
            s->name[s->name_length++] = (char)c;
    } else if (c == ':') {
        end_of_name(s);
    } else if (c == ' ' || c == '\t') {
        s->state = SCAN_BLANK; /* "Subject : x", RFC 5322 section 4.5 */
    } else {
        leave(s);
    }
}

void message_scan(struct message_scan *s, const uint8_t *bytes, size_t count)
{
    for (size_t i = 0; i < count && s->state != SCAN_OVER; i++) {
        uint8_t c = bytes[i];
        if (s->state == SCAN_VALUE) {
            const uint8_t *lf = memchr(bytes + i, '\n', count - i);
            if (lf == NULL)
                return;
            i = (size_t)(lf - bytes);
            s->state = SCAN_LINE;
            continue;
        }
        if (s->state == SCAN_LINE)
            start_of_line(s, c);
        if (s->state == SCAN_NAME || s->state == SCAN_BLANK)
            in_name(s, c);
    }
}

void message_scan_end(struct message_scan *s)
{
    s->is_empty = s->state == SCAN_LINE && !s->has_fields;
    if (s->state == SCAN_NAME || s->state == SCAN_BLANK)
        leave(s);
}

/* A comment of RFC 5322 cannot hold everything that devices say in HELO, and
 * a Received line of nonsense is worse than one without the name. */
static const char *helo_or_literal(const struct message_origin *o,
                                   char literal[IP_ENDPOINT_BYTES])
{
    ip_format_literal(&o->client, literal);
    for (const char *c = o->helo; *c; c++)
        if ((unsigned char)*c >= 0x80)
            return literal;
    return path_is_domain(o->helo) ? o->helo : literal;
}

static void put_date(int64_t now_s, char out[DATE_BYTES])
{
    time_t now = (time_t)now_s;
    struct tm tm;
    localtime_r(&now, &tm);
    strftime(out, DATE_BYTES, "%a, %d %b %Y %H:%M:%S %z", &tm);
}

static void put_received(const struct message_origin *o, const char *date,
                         struct buf *out)
{
    char literal[IP_ENDPOINT_BYTES], name[IP_ENDPOINT_BYTES];
    ip_format_literal(&o->client, literal);
    buf_format(out, "Received: from %s (%s)\r\n", helo_or_literal(o, name),
               literal);
    buf_format(out, "\tby %s with %s id %s", o->hostname, o->protocol, o->id);
    if (o->only_recipient != NULL)
        buf_format(out, "\r\n\tfor <%s>", o->only_recipient);
    buf_format(out, ";\r\n\t%s\r\n", date);
}

static void put_message_id(const struct message_origin *o, int64_t now_s,
                           uint32_t random, struct buf *out)
{
    buf_format(out, "Message-ID: <%llx.%08x.%s@%s>\r\n",
               (unsigned long long)now_s, random, o->id, o->hostname);
}

static void put_from(const struct message_origin *o, struct buf *out)
{
    if (*o->reverse_path != '\0')
        buf_format(out, "From: <%s>\r\n", o->reverse_path);
    else
        buf_format(out, "From: <postmaster@%s>\r\n", o->hostname);
}

void message_put_head(const struct message_scan *s,
                      const struct message_origin *o, int64_t now_s,
                      uint32_t random, struct buf *out)
{
    char date[DATE_BYTES];
    put_date(now_s, date);
    put_received(o, date, out);
    if (!s->has_date)
        buf_format(out, "Date: %s\r\n", date);
    if (!s->has_from)
        put_from(o, out);
    if (!s->has_message_id)
        put_message_id(o, now_s, random, out);
    if (s->is_headerless || s->is_empty)
        buf_puts(out, "\r\n");
}
