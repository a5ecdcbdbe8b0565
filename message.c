/* See message.h.
 *
 * The editor works in whole lines, up to MESSAGE_LINE_BYTES; of a longer one
 * the first part decides and the rest follows it. A field goes one of three
 * ways: it passes, it is dropped, or it is held until its last line is known
 * and then judged. What is judged bad is not mended in place: it is dropped,
 * and the head gets it anew. */
#include "message.h"

#include <stdio.h>
#include <string.h>

#include "stamp.h"

/* ---- Fields -------------------------------------------------------------- */

static const struct field {
    const char *name; /* "X-": all that begin so */
    unsigned facts;
    enum message_way way;
} fields[] = {
    {"Date", MESSAGE_HAS_DATE, WAY_HOLD_BLANK},
    {"Message-ID", MESSAGE_HAS_MESSAGE_ID, WAY_HOLD_BLANK},
    {"From", 0, WAY_HOLD_FROM},
    {"Sender", 0, WAY_HOLD_SENDER},
    {"Bcc", MESSAGE_HAS_BCC, WAY_DROP},
    {"Resent-Bcc", MESSAGE_HAS_BCC, WAY_DROP},
    {"Return-Path", 0, WAY_DROP}, /* the last server's to write */
    {"Content-Length", 0, WAY_DROP},
    {"MIME-Version", MESSAGE_HAS_MIME_VERSION, WAY_PASS},
    {"Content-Type", MESSAGE_HAS_CONTENT_TYPE, WAY_PASS},
    {"Content-Transfer-Encoding", MESSAGE_HAS_ENCODING, WAY_PASS},
    {"Reply-To", MESSAGE_HAS_REPLY_TO, WAY_PASS},
    {"To", 0, WAY_PASS},
    {"Cc", 0, WAY_PASS},
    {"Subject", 0, WAY_PASS},
    {"Received", 0, WAY_PASS},
    {"References", 0, WAY_PASS},
    {"In-Reply-To", 0, WAY_PASS},
    {"Comments", 0, WAY_PASS},
    {"Keywords", 0, WAY_PASS},
    {"Importance", 0, WAY_PASS},
    {"Priority", 0, WAY_PASS},
    {"Precedence", 0, WAY_PASS},
    {"Sensitivity", 0, WAY_PASS},
    {"Organization", 0, WAY_PASS},
    {"Errors-To", 0, WAY_PASS},
    {"Delivered-To", 0, WAY_PASS},
    {"User-Agent", 0, WAY_PASS},
    {"Auto-Submitted", 0, WAY_PASS},
    {"Authentication-Results", 0, WAY_PASS},
    {"X-", 0, WAY_PASS},
    {"Content-", 0, WAY_PASS},
    {"Resent-", 0, WAY_PASS},
    {"List-", 0, WAY_PASS},
    {"ARC-", 0, WAY_PASS},
    {"DKIM-", 0, WAY_PASS},
    {"Disposition-", 0, WAY_PASS},
    {"Thread-", 0, WAY_PASS},
};

static const struct field *find_field(const char *name, size_t length)
{
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        size_t n = strlen(fields[i].name);
        bool is_prefix = fields[i].name[n - 1] == '-' && length > n;
        if (bytes_equal_nocase(name, is_prefix ? n : length, fields[i].name))
            return &fields[i];
    }
    return NULL;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* RFC 5322 section 3.6.8: a field name is printable ASCII but for ':'; section
 * 4.5 lets blanks stand before the colon. Among other fields an 8-bit name is
 * borne: to end the header there would cost the fields behind it. Returns the
 * name's length, 0: this line is no field. */
static size_t name_length(const char *line, size_t count, bool may_be_8bit)
{
    size_t n = 0, colon;
    while (n < count && line[n] != ':' &&
           ((line[n] > ' ' && line[n] < 0x7f) ||
            (may_be_8bit && (uint8_t)line[n] >= 0x80)))
        n++;
    for (colon = n; colon < count && is_blank(line[colon]); colon++)
        ;
    if (colon == count || line[colon] != ':')
        return 0;
    /* "http://..." is what a device says, no field that anybody has. */
    bool is_url = count - colon > 2 && memcmp(line + colon, "://", 3) == 0;
    return is_url ? 0 : n;
}

/* ---- Ways ---------------------------------------------------------------- */

static void hold_bytes(struct message *m, const char *bytes, size_t count)
{
    size_t room = sizeof m->held - m->held_bytes;
    m->is_cut |= count > room;
    if (count > room)
        count = room;
    memcpy(m->held + m->held_bytes, bytes, count);
    m->held_bytes += count;
}

static void go(struct message *m, const char *bytes, size_t count,
               struct buf *out)
{
    if (m->way == WAY_PASS)
        buf_put(out, bytes, count);
    else if (m->way != WAY_DROP)
        hold_bytes(m, bytes, count);
}

/* The held field's body: behind its colon. */
static const char *held_value(const struct message *m, size_t *count)
{
    const char *colon = memchr(m->held, ':', m->held_bytes);
    const char *value = colon != NULL ? colon + 1 : m->held;
    *count = m->held_bytes - (size_t)(value - m->held);
    return value;
}

static void settle_blank(struct message *m, struct buf *out)
{
    size_t count;
    const char *value = held_value(m, &count);
    bool is_empty = true;
    for (size_t i = 0; i < count; i++)
        is_empty &= strchr(" \t\r\n", value[i]) != NULL;
    if (is_empty || m->is_cut) { /* a Message-ID of 1 KiB is none either */
        m->repairs |= m->held_facts & MESSAGE_HAS_DATE ? REPAIRED_DATE
                                                       : REPAIRED_MESSAGE_ID;
        return;
    }
    m->facts |= m->held_facts;
    buf_put(out, m->held, m->held_bytes);
}

/* What rewrite says of the address that was read; p is what it shall be. */
static enum rewrite_verdict judge(const struct message *m, const struct from *f,
                                  struct path *p)
{
    const char *rest;
    memset(p, 0, sizeof *p);
    if (*f->mailbox == '\0' || !path_parse(f->mailbox, p, &rest))
        return REWRITE_HALF;
    return rewrite_sender(&m->who, p);
}

/* The old From lives on as the display name and, if they can get there, where
 * replies go. */
static void replace_from(struct message *m, const struct from *f,
                         const struct path *p)
{
    bool is_other = strcmp(f->mailbox, p->mailbox) != 0;
    size_t local = strlen(f->mailbox);
    bool is_completed = !f->has_domain &&
                        strncmp(f->mailbox, p->mailbox, local) == 0 &&
                        p->mailbox[local] == '@';
    text_copy(m->from, sizeof m->from, p->mailbox);
    text_copy(m->from_name, sizeof m->from_name, f->name);
    if (*f->name == '\0' && is_other && !is_completed)
        text_copy(m->from_name, sizeof m->from_name, f->mailbox);
    if (f->has_domain && is_other)
        text_copy(m->reply_to, sizeof m->reply_to, f->mailbox);
}

static void settle_from(struct message *m, struct buf *out)
{
    struct from f;
    struct path p;
    size_t count;
    const char *value = held_value(m, &count);
    from_read(value, count, &f);
    bool is_empty = *f.name == '\0' && *f.mailbox == '\0';
    if (m->has_seen_from || is_empty) {
        m->repairs |= REPAIRED_FROM;
        return;
    }
    m->has_seen_from = true;
    enum rewrite_verdict verdict = judge(m, &f, &p);
    if (verdict == REWRITE_KEPT && f.is_clean && !m->is_cut) {
        m->facts |= MESSAGE_HAS_FROM;
        buf_put(out, m->held, m->held_bytes);
        return;
    }
    m->repairs |= REPAIRED_FROM;
    if (verdict > REWRITE_CHANGED) /* none that may be: the envelope's is */
        text_copy(p.mailbox, sizeof p.mailbox, m->reverse_path);
    replace_from(m, &f, &p);
}

/* A Sender that may not be is dropped: From is sender enough. So is a second
 * one, which is not even worth a look. */
static void settle_sender(struct message *m, struct buf *out)
{
    struct from f = {.is_clean = false};
    struct path p;
    size_t count;
    const char *value = held_value(m, &count);
    if (!m->has_seen_sender && !m->is_cut)
        from_read(value, count, &f);
    m->has_seen_sender = true;
    if (f.is_clean && judge(m, &f, &p) == REWRITE_KEPT)
        buf_put(out, m->held, m->held_bytes);
    else
        m->repairs |= REPAIRED_FROM;
}

/* The field that was under way has ended. */
static void end_field(struct message *m, struct buf *out)
{
    switch (m->way) {
    case WAY_HOLD_BLANK: settle_blank(m, out); break;
    case WAY_HOLD_FROM: settle_from(m, out); break;
    case WAY_HOLD_SENDER: settle_sender(m, out); break;
    case WAY_PASS:
    case WAY_DROP: break;
    }
    m->way = WAY_PASS;
    m->held_bytes = 0;
    m->is_cut = false;
}

/* ---- UTF-8 --------------------------------------------------------------- */

/* RFC 3629: the bounds of the second byte keep out overlong forms, surrogates
 * and what is above U+10FFFF. */
static void start_utf8(struct message_utf8 *u, uint8_t c)
{
    u->low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
    u->high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
    u->due = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : c >= 0xc2 ? 1 : 0;
    u->is_bad |= c >= 0x80 && (c < 0xc2 || c > 0xf4);
}

static void check_utf8(struct message_utf8 *u, const uint8_t *bytes,
                       size_t count)
{
    for (size_t i = 0; i < count && !u->is_bad; i++) {
        if (u->due == 0) {
            start_utf8(u, bytes[i]);
            continue;
        }
        u->is_bad = bytes[i] < u->low || bytes[i] > u->high;
        u->low = 0x80;
        u->high = 0xbf;
        u->due--;
    }
}

/* ---- Lines --------------------------------------------------------------- */

static void start_field(struct message *m, size_t name_bytes)
{
    const struct field *f = find_field(m->line, name_bytes);
    m->facts |= MESSAGE_HAS_FIELDS;
    m->received += bytes_equal_nocase(m->line, name_bytes, "Received");
    if (f == NULL)
        return;
    if (!(m->facts & MESSAGE_HAS_KNOWN)) /* no text, then, what came so far */
        m->utf8 = (struct message_utf8){0};
    m->facts |= MESSAGE_HAS_KNOWN;
    m->way = f->way;
    if (f->way == WAY_HOLD_BLANK)
        m->held_facts = f->facts;
    else
        m->facts |= f->facts;
    if (f->facts & MESSAGE_HAS_BCC)
        m->repairs |= REPAIRED_BCC;
}

/* A mailbox file's first line (RFC 4155), "From me@x Sat Nov 21 10:00:00 2026",
 * which some programs send along. "From UPS1 at 12:00:00: power lost" is none,
 * but the news. */
static bool is_mailbox_line(const struct message *m)
{
    static const char days[] = "Sun Mon Tue Wed Thu Fri Sat ";
    char text[320], day[5] = "";
    snprintf(text, sizeof text, "%.*s", (int)m->line_bytes, m->line);
    const char *at = *text == '>' ? text + 1 : text;
    if (m->facts != 0 || strncmp(at, "From ", 5) != 0)
        return false;
    at += 5 + strcspn(at + 5, " ");
    at += strspn(at, " ");
    snprintf(day, sizeof day, "%.4s", at);
    return day[3] == ' ' && strstr(days, day) != NULL; /* not "on T" */
}

/* The text begins. Where fields came before it, the blank line that should
 * have stood between them is put there. */
static void start_text(struct message *m, struct buf *out)
{
    if (m->facts & MESSAGE_HAS_KNOWN) {
        buf_puts(out, "\r\n");
        m->repairs |= REPAIRED_HEADER;
    }
    m->is_over = true;
}

/* The start of a line decides what it is; all of it follows. */
static void start_line(struct message *m, struct buf *out)
{
    if (is_blank(m->line[0]) && (m->facts & MESSAGE_HAS_FIELDS))
        return;
    end_field(m, out);
    size_t name =
        name_length(m->line, m->line_bytes, m->facts & MESSAGE_HAS_KNOWN);
    if (m->line_bytes == 2 && m->line[0] == '\r') {
        m->is_over = true;
        m->is_blank_first = !(m->facts & MESSAGE_HAS_FIELDS);
    } else if (name > 0) {
        start_field(m, name);
    } else if (is_mailbox_line(m)) {
        m->way = WAY_DROP;
        m->repairs |= REPAIRED_HEADER;
    } else {
        start_text(m, out);
    }
}

/* A line of the text, or of what may turn out to be text, counts as body. */
static void note_line(struct message *m, size_t count)
{
    const uint8_t *line = (const uint8_t *)m->line;
    bool is_8bit = false;
    for (size_t i = 0; i < count; i++)
        is_8bit |= line[i] >= 0x80;
    if (m->is_over)
        message_note_body(m, line, count, is_8bit);
    else if (!(m->facts & MESSAGE_HAS_KNOWN))
        check_utf8(&m->utf8, line, count);
    m->has_8bit_header |= is_8bit && !m->is_over;
}

static void end_line(struct message *m, struct buf *out)
{
    if (!m->is_rest)
        start_line(m, out);
    note_line(m, m->line_bytes);
    go(m, m->line, m->line_bytes, out);
    m->line_bytes = 0;
    m->is_rest = false;
}

/* Where a line of 998 bytes can be folded so that something stands before
 * the fold, and behind it; 0: nowhere. */
static size_t fold_place(const char *line)
{
    size_t place = MESSAGE_LINE_BYTES - 1, text = 0;
    while (text < place && is_blank(line[text]))
        text++;
    while (place > text && (is_blank(line[place]) || line[place] == '\r'))
        place--;
    while (place > text && !is_blank(line[place]))
        place--;
    return place > text ? place : 0;
}

/* The line buffer is full, and the line goes on. */
static void spill_line(struct message *m, struct buf *out)
{
    if (!m->is_rest)
        start_line(m, out);
    size_t place = m->way == WAY_PASS && !m->is_over ? fold_place(m->line) : 0;
    if (place == 0) {
        note_line(m, m->line_bytes);
        go(m, m->line, m->line_bytes, out);
        m->is_cut = true;
        m->line_bytes = 0;
        m->is_rest = true;
        return;
    }
    note_line(m, place);
    buf_put(out, m->line, place);
    buf_puts(out, "\r\n");
    m->repairs |= REPAIRED_LONG_LINE;
    m->line_bytes -= place;
    memmove(m->line, m->line + place, m->line_bytes);
    m->is_rest = true;
}

static size_t take_some(struct message *m, const uint8_t *in, size_t count,
                        struct buf *out)
{
    size_t room = sizeof m->line - m->line_bytes;
    size_t n = count < room ? count : room;
    const uint8_t *lf = memchr(in, '\n', n);
    if (lf != NULL)
        n = (size_t)(lf - in) + 1;
    memcpy(m->line + m->line_bytes, in, n);
    m->line_bytes += n;
    if (lf != NULL)
        end_line(m, out);
    else if (m->line_bytes == sizeof m->line)
        spill_line(m, out);
    return n;
}

void message_start(struct message *m, const struct rewrite_who *who,
                   const char *reverse_path)
{
    memset(m, 0, sizeof *m);
    m->who = *who;
    m->reverse_path = reverse_path;
}

void message_edit(struct message *m, const uint8_t *in, size_t count,
                  struct buf *out)
{
    size_t done = 0;
    while (done < count && !m->is_over)
        done += take_some(m, in + done, count - done, out);
    if (done == count)
        return;
    bool is_8bit = false;
    for (size_t i = done; i < count; i++)
        is_8bit |= in[i] >= 0x80;
    message_note_body(m, in + done, count - done, is_8bit);
    buf_put(out, in + done, count - done);
}

void message_end(struct message *m, struct buf *out)
{
    if (m->is_over)
        return;
    if (m->line_bytes > 0)
        end_line(m, out);
    end_field(m, out);
}

/* ---- The body ------------------------------------------------------------ */

/* Only a message that does not say what it is has its bytes looked at. */
void message_note_body(struct message *m, const uint8_t *bytes, size_t count,
                       bool is_8bit)
{
    m->has_8bit_body |= is_8bit;
    if (!(m->facts & (MESSAGE_HAS_MIME_VERSION | MESSAGE_HAS_CONTENT_TYPE)) &&
        (is_8bit || m->utf8.due > 0))
        check_utf8(&m->utf8, bytes, count);
}

/* ---- The head ------------------------------------------------------------ */

/* A comment of RFC 5322 cannot hold everything that devices say in HELO, and
 * a Received line of nonsense is worse than one without the name. */
static const char *helo_or_literal(const struct message *m,
                                   const struct message_origin *o,
                                   char literal[IP_ENDPOINT_BYTES])
{
    ip_format_literal(&m->who.client, literal);
    for (const char *c = o->helo; *c; c++)
        if ((unsigned char)*c >= 0x80)
            return literal;
    return path_is_domain(o->helo) ? o->helo : literal;
}

static void put_received(const struct message *m,
                         const struct message_origin *o, const char *date,
                         struct buf *out)
{
    char literal[IP_ENDPOINT_BYTES], name[IP_ENDPOINT_BYTES];
    ip_format_literal(&m->who.client, literal);
    buf_format(out, "Received: from %s (%s)\r\n", helo_or_literal(m, o, name),
               literal);
    buf_format(out, "\tby %s with %s id %s", o->hostname, o->protocol, o->id);
    if (o->only_recipient != NULL)
        buf_format(out, "\r\n\tfor <%s>", o->only_recipient);
    buf_format(out, ";\r\n\t%s\r\n", date);
}

/* Nobody said who sends: the postmaster does, if the settings have no better
 * idea. */
static void put_from(struct message *m, const struct message_origin *o,
                     struct buf *out)
{
    struct path p;
    char postmaster[PATH_BYTES];
    const char *rest;
    if (*m->from == '\0')
        text_copy(m->from, sizeof m->from, m->reverse_path);
    if (*m->from == '\0') {
        snprintf(postmaster, sizeof postmaster, "postmaster@%s", o->hostname);
        if (path_parse(postmaster, &p, &rest))
            rewrite_sender(&m->who, &p);
        text_copy(m->from, sizeof m->from, p.mailbox);
    }
    from_put("From", m->from_name, m->from, out);
    if (*m->reply_to != '\0' && !(m->facts & MESSAGE_HAS_REPLY_TO))
        from_put("Reply-To", "", m->reply_to, out);
}

/* 8-bit text without a word on its encoding: UTF-8 if it is that, else what
 * old devices speak. RFC 2045 section 4, RFC 6152. */
static void put_mime(struct message *m, struct buf *out)
{
    const char *charset =
        m->utf8.is_bad || m->utf8.due ? "windows-1252" : "utf-8";
    buf_puts(out, "MIME-Version: 1.0\r\n");
    if (!(m->facts & MESSAGE_HAS_CONTENT_TYPE))
        buf_format(out, "Content-Type: text/plain; charset=%s\r\n", charset);
    if (!(m->facts & MESSAGE_HAS_ENCODING))
        buf_puts(out, "Content-Transfer-Encoding: 8bit\r\n");
}

void message_put_head(struct message *m, const struct message_origin *o,
                      int64_t now_s, uint32_t random, struct buf *out)
{
    char date[STAMP_DATE_BYTES];
    /* No field that mail has: this is text, or there is nothing at all. */
    bool is_headerless = !(m->facts & MESSAGE_HAS_KNOWN) && !m->is_blank_first;
    bool has_8bit_text =
        m->has_8bit_body || (is_headerless && m->has_8bit_header);
    unsigned missing = ~(is_headerless ? 0 : m->facts);
    stamp_date(now_s, date);
    put_received(m, o, date, out);
    if (missing & MESSAGE_HAS_DATE) {
        buf_format(out, "Date: %s\r\n", date);
        m->repairs |= REPAIRED_DATE;
    }
    if (missing & MESSAGE_HAS_FROM) {
        put_from(m, o, out);
        m->repairs |= REPAIRED_FROM;
    }
    if (missing & MESSAGE_HAS_MESSAGE_ID) {
        stamp_put_message_id(now_s, random, o->id, o->hostname, out);
        m->repairs |= REPAIRED_MESSAGE_ID;
    }
    if ((missing & MESSAGE_HAS_MIME_VERSION) && has_8bit_text) {
        put_mime(m, out);
        m->repairs |= REPAIRED_MIME;
    }
    if (is_headerless) {
        buf_puts(out, "\r\n");
        m->repairs |= REPAIRED_HEADER;
    }
}
