/* The header editor: whole and byte by byte it must make the same of a
 * message; what it makes, with our head before it, is a mail with one sender,
 * no blind recipients and legal lines, in which it finds nothing to mend.
 *
 * The first byte picks the settings; the rest is what came behind DATA. */
#include <stdlib.h>
#include <string.h>

#include "../../dot.h"
#include "../../message.h"
#include "variants.h"

#define LINE_COLUMNS 998

static void demand(bool good)
{
    if (!good)
        abort();
}

struct bytes {
    uint8_t *at;
    size_t count, room;
};

static void join(struct bytes *to, const void *at, size_t count)
{
    if (to->count + count >= to->room) {
        to->room = 2 * (to->count + count) + 4096;
        to->at = realloc(to->at, to->room);
    }
    memcpy(to->at + to->count, at, count);
    to->count += count;
}

static bool is_same(const struct bytes *a, const struct bytes *b)
{
    return a->count == b->count && memcmp(a->at, b->at, a->count) == 0;
}

/* ---- What comes in, what goes out ---------------------------------------- */

/* As the wire's end leaves it: CRLF line ends, no NUL, a last line end. */
static struct bytes receive(const uint8_t *data, size_t count)
{
    struct dot_receiver d = {0};
    struct bytes wire = {0}, text = {0};
    join(&wire, data, count);
    join(&wire, "\r\n.\r\n", 5);
    size_t room = DOT_ROOM_MIN * (wire.count + 1);
    text.at = malloc(room);
    dot_receive(&d, wire.at, wire.count, text.at, room, &text.count);
    demand(d.state == DOT_END);
    free(wire.at);
    return text;
}

static void edit_piece(struct message *m, const uint8_t *in, size_t count,
                       struct bytes *to)
{
    static uint8_t space[MESSAGE_PIECE_ROOM];
    struct buf out;
    buf_init(&out, space, sizeof space);
    if (in != NULL)
        message_edit(m, in, count, &out);
    else
        message_end(m, &out);
    demand(!out.overflow);
    join(to, buf_data(&out), buf_len(&out));
}

static struct bytes edit(struct message *m, const struct rewrite_who *who,
                         const char *reverse_path, const struct bytes *in,
                         size_t piece)
{
    struct bytes out = {0};
    message_start(m, who, reverse_path);
    for (size_t done = 0; done < in->count;) {
        size_t n = in->count - done < piece ? in->count - done : piece;
        bool was_over = m->is_over;
        edit_piece(m, in->at + done, n, &out);
        if (was_over) /* the body passes as it is */
            demand(memcmp(out.at + out.count - n, in->at + done, n) == 0);
        done += n;
    }
    edit_piece(m, NULL, 0, &out);
    return out;
}

static struct bytes put_head(struct message *m, const char *reverse_path,
                             const char *helo)
{
    char space[4096];
    struct bytes head = {0};
    struct buf out;
    struct message_origin o = {.helo = helo,
                               .hostname = "our.example",
                               .protocol = "ESMTP",
                               .id = "0000ABCD",
                               .only_recipient = "c@d.example"};
    buf_init(&out, space, sizeof space);
    message_put_head(m, &o, 1792929600, 7, &out);
    demand(!out.overflow && m->reverse_path == reverse_path);
    join(&head, buf_data(&out), buf_len(&out));
    return head;
}

/* ---- What must hold ------------------------------------------------------ */

static void expect_same(const struct message *a, const struct message *b)
{
    demand(a->facts == b->facts && a->repairs == b->repairs &&
           a->received == b->received && a->is_over == b->is_over &&
           a->is_blank_first == b->is_blank_first &&
           a->has_8bit_header == b->has_8bit_header &&
           a->has_8bit_body == b->has_8bit_body &&
           a->has_seen_from == b->has_seen_from &&
           strcmp(a->from, b->from) == 0 &&
           strcmp(a->from_name, b->from_name) == 0 &&
           strcmp(a->reply_to, b->reply_to) == 0);
}

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t';
}

/* Behind this line, whose end is CRLF. */
static const uint8_t *next_line(const uint8_t *at, const uint8_t *end)
{
    const uint8_t *lf = memchr(at, '\n', (size_t)(end - at));
    demand(lf != NULL && lf > at && lf[-1] == '\r' &&
           memchr(at, '\r', (size_t)(lf - at) - 1) == NULL);
    return lf + 1;
}

/* The length of a field's name; 0: this is none. 8-bit names are borne. */
static size_t name_bytes(const uint8_t *at, const uint8_t *behind)
{
    const uint8_t *c = at, *end;
    while (c < behind && *c != ':' && *c > ' ' && *c != 0x7f)
        c++;
    end = c;
    while (c < behind && is_blank(*c))
        c++;
    return c < behind && *c == ':' ? (size_t)(end - at) : 0;
}

/* No line is too long that could have been folded. */
static void expect_length(const uint8_t *at, const uint8_t *behind)
{
    if (behind - at <= LINE_COLUMNS + 2)
        return;
    const uint8_t *c = at;
    while (c <= at + LINE_COLUMNS && is_blank(*c))
        c++;
    for (; c <= at + LINE_COLUMNS; c++)
        demand(!is_blank(c[0]) || is_blank(c[1]) || c[1] == '\r');
}

static void expect_header(const struct bytes *mail)
{
    const uint8_t *at = mail->at, *end = mail->at + mail->count, *behind;
    unsigned from = 0, dates = 0, ids = 0, fields = 0;
    for (; at < end && *at != '\r'; at = behind) {
        behind = next_line(at, end);
        size_t n = name_bytes(at, behind);
        demand(n > 0 || (is_blank(*at) && fields > 0));
        expect_length(at, behind);
        fields += n > 0;
        from += bytes_equal_nocase(at, n, "From");
        dates += bytes_equal_nocase(at, n, "Date");
        ids += bytes_equal_nocase(at, n, "Message-ID");
        demand(!bytes_equal_nocase(at, n, "Bcc") &&
               !bytes_equal_nocase(at, n, "Resent-Bcc"));
    }
    demand(from == 1 && dates > 0 && ids > 0);
}

/* Ours: short lines, and nothing that a terminal would obey. */
static void expect_head(const struct bytes *head)
{
    const uint8_t *at = head->at, *end = head->at + head->count, *behind;
    for (; at < end; at = behind) {
        behind = next_line(at, end);
        demand(behind - at <= LINE_COLUMNS + 2);
        for (; at < behind - 2; at++)
            demand((*at >= ' ' || *at == '\t') && *at != 0x7f);
    }
}

/* Lines of blanks, at which some readers think that the header has ended. */
static unsigned hollow_lines(const struct bytes *text)
{
    unsigned count = 0;
    const uint8_t *at = text->at, *end = text->at + text->count, *behind;
    for (; at < end; at = behind) {
        const uint8_t *c = at;
        behind = next_line(at, end);
        while (is_blank(*c))
            c++;
        count += c > at && *c == '\r';
    }
    return count;
}

/* A sender as the envelope would take it. */
static void choose_sender(const struct rewrite_who *who, char *out)
{
    struct path p;
    const char *rest;
    bool is_good = path_parse("a@b.example", &p, &rest) &&
                   rewrite_sender(who, &p) <= REWRITE_CHANGED;
    strcpy(out, is_good ? p.mailbox : "");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct message whole, slow, again;
    char helo[256] = "", sender[PATH_BYTES];
    if (bytes == 0)
        return 0;
    struct rewrite_who who = choose_variant(data[0] % VARIANTS);
    choose_sender(&who, sender);
    memcpy(helo, data + 1, bytes <= sizeof helo ? bytes - 1 : sizeof helo - 1);
    struct bytes in = receive(data + 1, bytes - 1);
    struct bytes out = edit(&whole, &who, sender, &in, MESSAGE_PIECE_BYTES);
    struct bytes drops = edit(&slow, &who, sender, &in, 1);
    demand(is_same(&out, &drops));
    expect_same(&whole, &slow);
    demand(hollow_lines(&out) <= hollow_lines(&in));
    demand(whole.repairs != 0 || is_same(&out, &in));

    struct bytes mail = put_head(&whole, sender, helo);
    expect_head(&mail);
    join(&mail, out.at, out.count);
    expect_header(&mail);
    struct bytes passed = edit(&again, &who, sender, &mail, 7);
    struct bytes none = put_head(&again, sender, helo);
    demand(is_same(&passed, &mail) && again.repairs == 0);
    free(in.at);
    free(out.at);
    free(drops.at);
    free(mail.at);
    free(passed.at);
    free(none.at);
    return 0;
}
