/* See dns_packet.h.
 *
 * A reader walks the bytes forwards only and is stuck once it failed; the one
 * way back, a compression pointer, must lead strictly backwards, so that every
 * name ends (RFC 9267 section 2). Answers are walked once for each alias: the
 * order of records in a packet means nothing (RFC 1034 section 3.6). */
#include "dns_packet.h"

#include <string.h>
#include <sys/socket.h>

#include "buf.h"

#define HEADER_BYTES   12
#define NAME_TEXT_MAX  253 /* 255 octets of wire, RFC 1035 section 2.3.4 */
#define LABEL_MAX      63
#define POINTERS_MAX   127
#define CLASS_IN       1
#define EDNS_UDP_BYTES 1232 /* passes every path unfragmented */

#define FLAG_RESPONSE  0x8000
#define FLAG_OPCODE    0x7800
#define FLAG_AUTHORITY 0x0400
#define FLAG_TRUNCATED 0x0200
#define FLAG_RECURSE   0x0100
#define FLAG_RECURSION 0x0080 /* the server would */
#define FLAG_RCODE     0x000f

struct reader {
    const uint8_t *data;
    size_t bytes;
    size_t at; /* never beyond bytes */
    bool has_failed;
};

struct record {
    char owner[DNS_NAME_BYTES];
    uint16_t type;
    uint16_t class;
    uint32_t ttl_seconds;
    struct reader data; /* ends where the data end; names in it look back */
};

/* ---- Names --------------------------------------------------------------- */

static bool is_name_byte(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c >= '0' && c <= '9') || c == '-' || c == '_';
}

bool dns_name_is_valid(const char *name)
{
    size_t length = strnlen(name, DNS_NAME_BYTES), label = 0;
    if (length > 0 && name[length - 1] == '.')
        length--;
    if (length == 0 || length > NAME_TEXT_MAX)
        return false;
    for (size_t i = 0; i < length; i++) {
        if (name[i] == '.' && label > 0)
            label = 0;
        else if (!is_name_byte((uint8_t)name[i]) || ++label > LABEL_MAX)
            return false;
    }
    return label > 0;
}

/* Appends a label to text. Bytes that no host name has become '?', which
 * equals nothing that we ask: a dot inside a label must not make two. */
static bool append_label(char out[DNS_NAME_BYTES], size_t *used,
                         const uint8_t *label, size_t length)
{
    if (*used + (*used > 0) + length > NAME_TEXT_MAX)
        return false;
    if (*used > 0)
        out[(*used)++] = '.';
    for (size_t i = 0; i < length; i++)
        out[(*used)++] = is_name_byte(label[i]) ? (char)label[i] : '?';
    return true;
}

/* ---- Reading ------------------------------------------------------------- */

static bool reader_fails(struct reader *r)
{
    r->has_failed = true;
    return false;
}

static uint32_t read_number(struct reader *r, size_t count)
{
    uint32_t value = 0;
    if (r->has_failed || r->bytes - r->at < count)
        return reader_fails(r);
    while (count-- > 0)
        value = value << 8 | r->data[r->at++];
    return value;
}

static uint16_t read_u16(struct reader *r)
{
    return (uint16_t)read_number(r, 2);
}

/* One step of a name, RFC 1035 section 4.1.4: a pointer leads to before the
 * start of the piece that it ends, and never into the header. */
static bool follow_pointer(struct reader *piece, size_t *start)
{
    size_t target = read_number(piece, 2) & 0x3fff;
    if (piece->has_failed || target < HEADER_BYTES || target >= *start)
        return false;
    piece->at = *start = target;
    return true;
}

static bool read_name(struct reader *r, char out[DNS_NAME_BYTES])
{
    struct reader piece = *r;
    size_t start = r->at, used = 0;
    unsigned pointers = 0;
    for (;;) {
        if (piece.has_failed || piece.at == piece.bytes)
            return reader_fails(r);
        uint8_t length = piece.data[piece.at];
        if (length >= 0xc0) {
            size_t behind = piece.at + 2;
            if (pointers == POINTERS_MAX || !follow_pointer(&piece, &start))
                return reader_fails(r);
            if (pointers++ == 0)
                r->at = behind;
            continue;
        }
        piece.at++;
        if (length == 0)
            break;
        if (length > LABEL_MAX || piece.bytes - piece.at < length ||
            !append_label(out, &used, piece.data + piece.at, length))
            return reader_fails(r);
        piece.at += length;
    }
    out[used] = '\0';
    if (pointers == 0)
        r->at = piece.at;
    return true;
}

static bool read_record(struct reader *r, struct record *out)
{
    if (!read_name(r, out->owner))
        return false;
    out->type = read_u16(r);
    out->class = read_u16(r);
    out->ttl_seconds = read_number(r, 4);
    size_t data_bytes = read_u16(r);
    if (r->has_failed || r->bytes - r->at < data_bytes)
        return reader_fails(r);
    out->data = *r;
    out->data.bytes = r->at + data_bytes;
    r->at += data_bytes;
    return true;
}

/* ---- Records ------------------------------------------------------------- */

/* A mapped address would smuggle an IPv4 address past the checks; a
 * link-local one names no interface, and leads nowhere. */
static bool is_usable(const struct ip_address *a)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    bool is_link_local = a->bytes[0] == 0xfe && (a->bytes[1] & 0xc0) == 0x80;
    if (a->family == AF_INET6 &&
        (memcmp(a->bytes, mapped, 12) == 0 || (is_link_local && a->zone == 0)))
        return false;
    return ip_is_host(a);
}

void dns_records_add_address(struct dns_records *out,
                             const struct ip_address *a)
{
    if (!is_usable(a) || out->count == DNS_ADDRESSES_MAX)
        return;
    for (unsigned i = 0; i < out->count; i++)
        if (ip_equal(&out->addresses[i], a))
            return;
    out->addresses[out->count++] = *a;
}

static bool take_address(struct record *rec, struct dns_records *out)
{
    struct ip_address a = {.family =
                               rec->type == DNS_TYPE_A ? AF_INET : AF_INET6};
    size_t count = rec->type == DNS_TYPE_A ? 4 : 16;
    if (rec->data.bytes - rec->data.at != count)
        return false;
    memcpy(a.bytes, rec->data.data + rec->data.at, count);
    dns_records_add_address(out, &a);
    return true;
}

/* Sorted by preference, those of equal preference as they came. When there
 * are too many, the least preferred are lost. */
static bool take_exchanger(struct record *rec, struct dns_records *out)
{
    struct dns_exchanger e = {.preference = read_u16(&rec->data)};
    if (!read_name(&rec->data, e.name) || rec->data.at != rec->data.bytes)
        return false;
    if (e.name[0] != '\0' && !dns_name_is_valid(e.name))
        return true;
    unsigned at = out->count;
    while (at > 0 && out->exchangers[at - 1].preference > e.preference)
        at--;
    if (at == DNS_EXCHANGERS_MAX)
        return true;
    if (out->count < DNS_EXCHANGERS_MAX)
        out->count++;
    memmove(&out->exchangers[at + 1], &out->exchangers[at],
            (out->count - at - 1) * sizeof e);
    out->exchangers[at] = e;
    return true;
}

static bool take_alias(struct record *rec, struct dns_records *out)
{
    return read_name(&rec->data, out->alias) &&
           rec->data.at == rec->data.bytes && dns_name_is_valid(out->alias);
}

static const struct taker {
    uint16_t type;
    bool (*take)(struct record *rec, struct dns_records *out);
} takers[] = {
    {DNS_TYPE_A, take_address},
    {DNS_TYPE_AAAA, take_address},
    {DNS_TYPE_MX, take_exchanger},
    {DNS_TYPE_CNAME, take_alias},
};

static bool take_record(struct record *rec, struct dns_records *out)
{
    /* RFC 2181 section 8: a TTL with its top bit set is zero. */
    uint32_t ttl_seconds = rec->ttl_seconds > INT32_MAX ? 0 : rec->ttl_seconds;
    if (ttl_seconds < out->ttl_seconds)
        out->ttl_seconds = ttl_seconds;
    for (size_t i = 0; i < sizeof takers / sizeof *takers; i++)
        if (takers[i].type == rec->type)
            return takers[i].take(rec, out);
    return true;
}

/* All records that a name has in the answer section. */
static bool take_answers_of(const char *name, uint16_t type,
                            const struct reader *answers, unsigned count,
                            bool is_prefix, struct dns_records *out)
{
    struct reader r = *answers;
    struct record rec;
    out->alias[0] = '\0';
    for (unsigned i = 0; i < count; i++) {
        if (!read_record(&r, &rec))
            return is_prefix;
        if (rec.class != CLASS_IN || !text_equal_nocase(rec.owner, name))
            continue;
        if (rec.type != type && rec.type != DNS_TYPE_CNAME)
            continue;
        if (!take_record(&rec, out))
            return false;
    }
    return true;
}

/* RFC 7505 section 3: a null MX stands alone; beside others it is a slip. */
static void drop_null_exchangers(struct dns_records *out)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < out->count; i++)
        if (out->exchangers[i].name[0] != '\0')
            out->exchangers[kept++] = out->exchangers[i];
    if (kept > 0)
        out->count = kept;
}

static enum dns_reply take_answers(const struct dns_query *q,
                                   const struct reader *answers, unsigned count,
                                   bool is_prefix, struct dns_records *out)
{
    char name[DNS_NAME_BYTES];
    text_copy(name, sizeof name, q->name);
    out->ttl_seconds = UINT32_MAX;
    out->count = out->aliases = 0;
    for (;;) {
        if (!take_answers_of(name, q->type, answers, count, is_prefix, out))
            return DNS_REPLY_BROKEN;
        if (out->count > 0 || out->alias[0] == '\0')
            break;
        if (++out->aliases > DNS_ALIASES_MAX)
            return DNS_REPLY_BROKEN;
        text_copy(name, sizeof name, out->alias);
    }
    if (out->count > 0 && q->type == DNS_TYPE_MX)
        drop_null_exchangers(out);
    if (out->count > 0)
        return DNS_REPLY_RECORDS;
    text_copy(out->alias, sizeof out->alias, name);
    return out->aliases > 0 ? DNS_REPLY_ALIAS : DNS_REPLY_NO_RECORD;
}

/* ---- A reply ------------------------------------------------------------- */

/* RFC 5452 section 9.1: who cannot repeat our question did not see it. This
 * drops the bare header that some servers send as FORMERR, too: it costs a
 * timeout, and the next try goes without OPT anyway. */
static bool repeats_question(const struct dns_query *q, struct reader *r)
{
    char name[DNS_NAME_BYTES], asked[DNS_NAME_BYTES];
    text_copy(asked, sizeof asked, q->name);
    size_t length = strlen(asked);
    if (length > 0 && asked[length - 1] == '.')
        asked[length - 1] = '\0';
    if (!read_name(r, name) || !text_equal_nocase(name, asked))
        return false;
    uint16_t type = read_u16(r), class = read_u16(r);
    return !r->has_failed && type == q->type && class == CLASS_IN;
}

/* What a reply means before its records are read; RECORDS: read them. */
static enum dns_reply verdict_of_flags(uint16_t flags, unsigned answers)
{
    static const enum dns_reply by_rcode[] = {
        DNS_REPLY_RECORDS, DNS_REPLY_NO_EDNS, DNS_REPLY_REFUSED,
        DNS_REPLY_NO_NAME, DNS_REPLY_NO_EDNS, DNS_REPLY_REFUSED};
    unsigned rcode = flags & FLAG_RCODE;
    if (rcode >= sizeof by_rcode / sizeof *by_rcode)
        return DNS_REPLY_REFUSED;
    if (rcode != 0)
        return by_rcode[rcode];
    if (flags & FLAG_TRUNCATED)
        return DNS_REPLY_CUT;
    /* Neither knows nor would ask: a referral, of no use to a stub. */
    if (answers == 0 && !(flags & (FLAG_AUTHORITY | FLAG_RECURSION)))
        return DNS_REPLY_REFUSED;
    return DNS_REPLY_RECORDS;
}

enum dns_reply dns_packet_parse(const struct dns_query *q, const uint8_t *data,
                                size_t bytes, bool is_prefix,
                                struct dns_records *out)
{
    struct reader r = {.data = data, .bytes = bytes};
    uint16_t id = read_u16(&r), flags = read_u16(&r);
    uint16_t questions = read_u16(&r), answers = read_u16(&r);
    read_number(&r, 4); /* authority and additional: nothing that we use */
    if (r.has_failed || id != q->id || !(flags & FLAG_RESPONSE) ||
        (flags & FLAG_OPCODE) || questions != 1 || !repeats_question(q, &r))
        return DNS_REPLY_ALIEN;
    enum dns_reply reply = verdict_of_flags(flags, answers);
    if (reply != DNS_REPLY_RECORDS)
        return reply;
    return take_answers(q, &r, answers, is_prefix, out);
}

/* ---- A query ------------------------------------------------------------- */

static void put_u16(struct buf *b, unsigned value)
{
    uint8_t two[2] = {(uint8_t)(value >> 8), (uint8_t)value};
    buf_put(b, two, sizeof two);
}

static void put_name(struct buf *b, const char *name)
{
    while (*name != '\0') {
        uint8_t length = (uint8_t)strcspn(name, ".");
        buf_put(b, &length, 1);
        buf_put(b, name, length);
        name += length + (name[length] == '.');
    }
    buf_put(b, "", 1);
}

size_t dns_packet_build(const struct dns_query *q, uint8_t out[DNS_QUERY_BYTES])
{
    struct buf b;
    if (!dns_name_is_valid(q->name))
        return 0;
    buf_init(&b, out, DNS_QUERY_BYTES);
    const unsigned header[] = {q->id, FLAG_RECURSE, 1, 0, 0, q->has_edns};
    for (size_t i = 0; i < sizeof header / sizeof *header; i++)
        put_u16(&b, header[i]);
    put_name(&b, q->name);
    put_u16(&b, q->type);
    put_u16(&b, CLASS_IN);
    if (q->has_edns) { /* RFC 6891 section 6.1.2: root, OPT, size, zeroes */
        buf_put(&b, "", 1);
        put_u16(&b, DNS_TYPE_OPT);
        put_u16(&b, EDNS_UDP_BYTES);
        buf_put(&b, "\0\0\0\0\0", 6);
    }
    return b.overflow ? 0 : buf_len(&b);
}
