/* message: what the editor makes of header sections good and odd, and the
 * lines that we put before them. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../ip.h"
#include "../message.h"
#include "../settings.h"
Suite *suite_message(void);

#define COUNT(table) (sizeof(table) / sizeof(table)[0])
#define WIRE(text)   text, sizeof(text) - 1

#define NOW                1792929600 /* 2026-10-25 12:00:00 UTC */
#define DATE               "Sun, 25 Oct 2026 12:00:00 +0000"
#define ID                 "0000ABCD"
#define OURS               "relay.lan"
#define RANDOM             0xfeedbeef
#define SENDER_OF_ENVELOPE "scan@example.org"

#define BASE "smarthost = 127.0.0.1:9\nsmarthost_tls = none\n"

static char space[4096];
static struct buf out;

static void set_zone(const char *zone)
{
    setenv("TZ", zone, 1);
    tzset();
}

static void use(const char *more)
{
    char text[1024], error[SETTINGS_ERROR_BYTES];
    snprintf(text, sizeof text, BASE "%s", more);
    ck_assert_msg(settings_load_text("conf", text, strlen(text), error), "%s",
                  error);
}

static void setup(void)
{
    buf_init(&out, space, sizeof space);
    set_zone("UTC0");
    use("");
}

static struct rewrite_who somebody(void)
{
    struct rewrite_who who = {.user = ""};
    ip_parse("192.0.2.9", &who.client);
    return who;
}

static struct message_origin origin(void)
{
    return (struct message_origin){
        .helo = "printer",
        .hostname = OURS,
        .protocol = "ESMTP",
        .id = ID,
        .only_recipient = "boss@example.org",
    };
}

static const char *head_of(struct message *m, const struct message_origin *o)
{
    buf_clear(&out);
    message_put_head(m, o, NOW, RANDOM, &out);
    ck_assert(!out.overflow);
    ck_assert_uint_lt(buf_len(&out), sizeof space);
    space[buf_len(&out)] = '\0';
    return space;
}

/* A whole message through the editor. */
struct edited {
    struct message m;
    char body[1 << 16];
    size_t count;
};

static void keep(struct edited *e, struct buf *piece)
{
    /* each ck_assert() is a write: too slow for every byte */
    if (piece->overflow || e->count + buf_len(piece) > sizeof e->body)
        ck_abort_msg("%zu bytes and more", e->count);
    memcpy(e->body + e->count, buf_data(piece), buf_len(piece));
    e->count += buf_len(piece);
    buf_clear(piece);
}

static void edit(struct edited *e, const char *reverse_path, const void *bytes,
                 size_t count, size_t piece)
{
    static uint8_t room[MESSAGE_PIECE_ROOM];
    struct rewrite_who who = somebody();
    struct buf some;
    buf_init(&some, room, sizeof room);
    message_start(&e->m, &who, reverse_path);
    e->count = 0;
    for (size_t at = 0; at < count; at += piece) {
        size_t n = count - at < piece ? count - at : piece;
        message_edit(&e->m, (const uint8_t *)bytes + at, n, &some);
        keep(e, &some);
    }
    message_end(&e->m, &some);
    keep(e, &some);
}

static const size_t pieces[] = {MESSAGE_PIECE_BYTES, 1, 2, 3, 7, 61, 509};

/* In pieces of any size it must become the same; e is what it became. */
static void edit_all_ways(struct edited *e, const char *reverse_path,
                          const void *bytes, size_t count)
{
    static struct edited other;
    edit(e, reverse_path, bytes, count, MESSAGE_PIECE_BYTES);
    for (size_t i = 1; i < COUNT(pieces); i++) {
        edit(&other, reverse_path, bytes, count, pieces[i]);
        ck_assert_msg(other.count == e->count &&
                          memcmp(other.body, e->body, e->count) == 0,
                      "pieces of %zu: %.*s", pieces[i], (int)other.count,
                      other.body);
        ck_assert_uint_eq(other.m.facts, e->m.facts);
        ck_assert_uint_eq(other.m.repairs, e->m.repairs);
        ck_assert_uint_eq(other.m.received, e->m.received);
        ck_assert_int_eq(other.m.is_over, e->m.is_over);
        ck_assert_int_eq(other.m.is_blank_first, e->m.is_blank_first);
        ck_assert_int_eq(other.m.has_8bit_header, e->m.has_8bit_header);
        ck_assert_int_eq(other.m.has_8bit_body, e->m.has_8bit_body);
        ck_assert_int_eq(other.m.utf8.is_bad, e->m.utf8.is_bad);
        ck_assert_int_eq(other.m.utf8.due, e->m.utf8.due);
        ck_assert_str_eq(other.m.from, e->m.from);
        ck_assert_str_eq(other.m.from_name, e->m.from_name);
        ck_assert_str_eq(other.m.reply_to, e->m.reply_to);
    }
}

/* ---- What arrives -------------------------------------------------------- */

#define D     "Date: " DATE "\r\n"
#define F     "From: <" SENDER_OF_ENVELOPE ">\r\n"
#define M     "Message-ID: <6addef40.feedbeef." ID "@" OURS ">\r\n"
#define MIME  "MIME-Version: 1.0\r\n"
#define TEXT  "Content-Type: text/plain; charset="
#define EIGHT "Content-Transfer-Encoding: 8bit\r\n"
#define BLANK "\r\n"

/* A header that needs nothing, and parts of it. */
#define GOOD_D "Date: Mon, 1 Jan 2026 00:00:00 +0000\r\n"
#define GOOD_F "From: a@b.example\r\n"
#define GOOD_M "Message-ID: <z@b.example>\r\n"
#define GOOD   GOOD_D GOOD_F GOOD_M
#define REST   GOOD_D GOOD_M

#define ALWAYS  "sender_rewrite = always\nsender = relay@example.com\n"
#define DOMAINS "sender_domains = example.com\nsender = relay@example.com\n"

enum {
    RD = REPAIRED_DATE,
    RF = REPAIRED_FROM,
    RM = REPAIRED_MESSAGE_ID,
    RMIME = REPAIRED_MIME,
    RH = REPAIRED_HEADER,
    RBCC = REPAIRED_BCC,
    RLONG = REPAIRED_LONG_LINE,
    RALL = RD | RF | RM | RH
};

/* head: ours, behind Received. */
static const struct row {
    const char *settings, *in, *head, *out;
    unsigned repairs;
} rows[] = {
    /* nothing to mend: every byte passes */
    {"", GOOD "\r\ntext\r\n", "", GOOD "\r\ntext\r\n", 0},
    {"", GOOD "\r\n", "", GOOD "\r\n", 0},
    {"", GOOD, "", GOOD, 0},
    {"",
     GOOD "To: x\r\n\ty\r\n \tz\r\nX-Odd : 1\r\nx-UPPER:2\r\n\r\nFrom: "
          "c\r\n",
     "",
     GOOD "To: x\r\n\ty\r\n \tz\r\nX-Odd : 1\r\nx-UPPER:2\r\n\r\nFrom: "
          "c\r\n",
     0},
    {"",
     "dAtE: x\r\nFROM : a@b.example\r\nmessage-id\t: <z>\r\n\r\nBcc: "
     "x\r\n",
     "",
     "dAtE: x\r\nFROM : a@b.example\r\nmessage-id\t: <z>\r\n\r\nBcc: "
     "x\r\n",
     0},
    {"", GOOD "\r\n\r\n\r\n", "", GOOD "\r\n\r\n\r\n", 0},

    /* what is missing is put, and only that */
    {"", "Subject: x\r\n\r\nt\r\n", D F M, "Subject: x\r\n\r\nt\r\n",
     RD | RF | RM},
    {"", GOOD_F GOOD_M "\r\nt\r\n", D, GOOD_F GOOD_M "\r\nt\r\n", RD},
    {"", REST "\r\nt\r\n", F, REST "\r\nt\r\n", RF},
    {"", GOOD_D GOOD_F "\r\nt\r\n", M, GOOD_D GOOD_F "\r\nt\r\n", RM},
    {"", "To: x@y\r\n", D F M, "To: x@y\r\n", RD | RF | RM},
    {"", GOOD_F "Resent-Date: x\r\nX-Message-ID: y\r\n\r\n", D M,
     GOOD_F "Resent-Date: x\r\nX-Message-ID: y\r\n\r\n", RD | RM},

    /* an empty one is missing, however it is folded; a folded one is not */
    {"", GOOD_F "Date:\r\nMessage-ID: <z>\r\n\r\n", D,
     GOOD_F "Message-ID: <z>\r\n\r\n", RD},
    {"", GOOD_F "Date: \t \r\nMessage-ID:\r\n \r\n\t\r\n\r\n", D M,
     GOOD_F "\r\n", RD | RM},
    {"", GOOD_D GOOD_F "Message-ID:\r\n <x>\r\n\r\n", "",
     GOOD_D GOOD_F "Message-ID:\r\n <x>\r\n\r\n", 0},
    {"", "Date:\r\n\r\n", D F M, "\r\n", RD | RF | RM},
    {"", GOOD_F GOOD_M "Date:", D, GOOD_F GOOD_M, RD},
    {"", GOOD_F GOOD_M "Date: x", "", GOOD_F GOOD_M "Date: x", 0},
    {"", "Date:\r\n" GOOD "\r\n", "", GOOD "\r\n", RD},

    /* nobody else's business, with their folded lines */
    {"", GOOD "Bcc: x@y.example\r\n\tz@y.example\r\nTo: a\r\n\r\nt\r\n", "",
     GOOD "To: a\r\n\r\nt\r\n", RBCC},
    {"", "BCC : x\r\n" GOOD "\r\n", "", GOOD "\r\n", RBCC},
    {"", GOOD "Resent-Bcc: x\r\n y\r\n z\r\nSubject: s\r\n s\r\n\r\n", "",
     GOOD "Subject: s\r\n s\r\n\r\n", RBCC},
    {"", "Return-Path: <x@y>\r\n" GOOD "\r\n", "", GOOD "\r\n", 0},
    {"", GOOD "Content-Length: 5\r\n\r\n", "", GOOD "\r\n", 0},
    {"", GOOD "Bcc: x", "", GOOD, RBCC},
    {"", GOOD "X-Bcc: x\r\nBcc-To: y\r\n\r\nBcc: t\r\n", "",
     GOOD "X-Bcc: x\r\nBcc-To: y\r\n\r\nBcc: t\r\n", 0},
    {"", "Bcc: x\r\n y\r\n\r\nt\r\n", D F M, "\r\nt\r\n", RD | RF | RM | RBCC},

    /* a good From passes where it stands, byte for byte */
    {"", REST "From: Office  Scanner <a@b.example> (2nd\r\n floor)\r\n\r\n", "",
     REST "From: Office  Scanner <a@b.example> (2nd\r\n floor)\r\n\r\n", 0},
    {"",
     REST "From:\r\n =?utf-8?Q?B=C3=BCro?=\r\n\t<a@b.example>\r\nTo: "
          "x\r\n\r\n",
     "",
     REST "From:\r\n =?utf-8?Q?B=C3=BCro?=\r\n\t<a@b.example>\r\nTo: "
          "x\r\n\r\n",
     0},
    {"", REST "From: \"a, b\" <a@b.example>\r\n\r\n", "",
     REST "From: \"a, b\" <a@b.example>\r\n\r\n", 0},
    {"", GOOD "From: c@d.example\r\n folded\r\nTo: x\r\n\r\n", "",
     GOOD "To: x\r\n\r\n", RF},
    {"", GOOD "FROM:\r\n\r\n", "", GOOD "\r\n", RF},
    /* an empty one is none: the real one behind it counts */
    {"", "From:\r\n" GOOD "\r\n", "", GOOD "\r\n", RF},
    {"", "From: \t\r\n \r\n" GOOD "\r\n", "", GOOD "\r\n", RF},
    {"", "From: <>\r\n" GOOD "\r\n", "", GOOD "\r\n", RF},
    {"", "From: \"\" <>\r\nFrom:\r\n" GOOD "\r\n", "", GOOD "\r\n", RF},
    {"", "From: x y\r\n" GOOD "\r\n", "From: x y <" SENDER_OF_ENVELOPE ">\r\n",
     REST "\r\n", RF},

    /* one that is none is built anew, and keeps its name */
    {"", REST "From: scan@room.2 <a@b.example>\r\nTo: x\r\n\r\n",
     "From: \"scan@room.2\" <a@b.example>\r\n", REST "To: x\r\n\r\n", RF},
    {"", REST "From: a@b.example, c@d.example\r\n\r\n",
     "From: <a@b.example>\r\n", REST "\r\n", RF},
    {"", REST "From: Office <a@b.example\r\n\r\n",
     "From: Office <a@b.example>\r\n", REST "\r\n", RF},
    {"", REST "From: Office Scanner\r\n\r\n",
     "From: Office Scanner <" SENDER_OF_ENVELOPE ">\r\n", REST "\r\n", RF},
    {"", REST "From:\r\n \r\n\r\n", F, REST "\r\n", RF},
    {"", REST "From: <>\r\n\r\n", F, REST "\r\n", RF},
    {"", REST "From: root\r\n\r\n", "From: root <" SENDER_OF_ENVELOPE ">\r\n",
     REST "\r\n", RF},
    {"", REST "From: root (Cron Daemon)\r\n\r\n",
     "From: Cron Daemon <" SENDER_OF_ENVELOPE ">\r\n", REST "\r\n", RF},

    /* one without a domain, and something to complete it with */
    {"default_domain = example.com\n", REST "From: root\r\n\r\n",
     "From: <root@example.com>\r\n", REST "\r\n", RF},
    {"default_domain = example.com\n", REST "From: Me <root>\r\n\r\n",
     "From: Me <root@example.com>\r\n", REST "\r\n", RF},
    {"default_domain = example.com\n", REST "From: root@nas\r\n\r\n", "",
     REST "From: root@nas\r\n\r\n", 0},

    /* one that may not be lives on as name and Reply-To */
    {ALWAYS, REST "From: a@b.example\r\n\r\n",
     "From: \"a@b.example\" <relay@example.com>\r\n"
     "Reply-To: <a@b.example>\r\n",
     REST "\r\n", RF},
    {ALWAYS, REST "From: Office <a@b.example>\r\n\r\n",
     "From: Office <relay@example.com>\r\nReply-To: <a@b.example>\r\n",
     REST "\r\n", RF},
    {ALWAYS, REST "Reply-To: c@d.example\r\nFrom: Office <a@b.example>\r\n\r\n",
     "From: Office <relay@example.com>\r\n",
     REST "Reply-To: c@d.example\r\n\r\n", RF},
    {ALWAYS, REST "From: Office <a@b.example>\r\nreply-to: c@d.example\r\n\r\n",
     "From: Office <relay@example.com>\r\n",
     REST "reply-to: c@d.example\r\n\r\n", RF},
    {ALWAYS, REST "From: Office <relay@example.com>\r\n\r\n", "",
     REST "From: Office <relay@example.com>\r\n\r\n", 0},
    {ALWAYS, REST "From: root\r\n\r\n", "From: root <relay@example.com>\r\n",
     REST "\r\n", RF},
    {DOMAINS, REST "From: Office <a@b.example>\r\n\r\n",
     "From: Office <relay@example.com>\r\nReply-To: <a@b.example>\r\n",
     REST "\r\n", RF},
    {DOMAINS, REST "From: Office <a@Example.COM>\r\n\r\n", "",
     REST "From: Office <a@Example.COM>\r\n\r\n", 0},
    {"sender_domains = example.org\n",
     REST "From: Office <a@b.example>\r\n\r\n",
     "From: Office <" SENDER_OF_ENVELOPE ">\r\nReply-To: <a@b.example>\r\n",
     REST "\r\n", RF},
    {"sender = relay@example.com\n", REST "From: root@nas\r\n\r\n",
     "From: \"root@nas\" <relay@example.com>\r\nReply-To: "
     "<root@nas>\r\n", /* no reply gets there */
     REST "\r\n", RF},
    {"sender = relay@example.com\n", REST "From: NAS <root@nas.local>\r\n\r\n",
     "From: NAS <relay@example.com>\r\nReply-To: <root@nas.local>\r\n",
     REST "\r\n", RF},
    {"rewrite_from 192.0.2.9 = scanner@example.com\n",
     REST "From: Office <a@b.example>\r\n\r\n",
     "From: Office <scanner@example.com>\r\nReply-To: "
     "<a@b.example>\r\n",
     REST "\r\n", RF},
    {"rewrite_from 192.0.2.8 = scanner@example.com\n", GOOD "\r\n", "",
     GOOD "\r\n", 0},

    /* Sender: kept, or gone */
    {"", GOOD "Sender: Me <c@d.example>\r\n\r\n", "",
     GOOD "Sender: Me <c@d.example>\r\n\r\n", 0},
    {"", GOOD "Sender:\r\n c@d.example\r\n\r\n", "",
     GOOD "Sender:\r\n c@d.example\r\n\r\n", 0},
    {"", GOOD "Sender: root\r\n folded\r\n\r\n", "", GOOD "\r\n", RF},
    {"", GOOD "Sender: a@b.example, c@d.example\r\n\r\n", "", GOOD "\r\n", RF},
    {"", GOOD "Sender:\r\n\r\n", "", GOOD "\r\n", RF},
    {"", GOOD "Sender: c@d.example\r\nSender: e@d.example\r\n\r\n", "",
     GOOD "Sender: c@d.example\r\n\r\n", RF},
    /* a second one is not read, however good it is */
    {"", GOOD "Sender: root\r\nSender: c@d.example\r\n x\r\n\r\n", "",
     GOOD "\r\n", RF},
    {DOMAINS, REST "From: a@example.com\r\nSender: c@d.example\r\n\r\n", "",
     REST "From: a@example.com\r\n\r\n", RF},

    /* a mailbox file's first line */
    {"", "From root@nas Sat Nov 21 12:00:00 2026\r\n" GOOD "\r\nt\r\n", "",
     GOOD "\r\nt\r\n", RH},
    {"", ">From root@nas Sat Nov 21 12:00:00 2026\r\n" GOOD "\r\nt\r\n", "",
     GOOD "\r\nt\r\n", RH},
    {"", "From root@nas Sat Nov 21 12:00:00 2026\r\nDisk failed\r\n",
     D F M BLANK, "Disk failed\r\n", RALL},
    {"", "From root@nas Sat Nov 21 12:00:00 2026\r\n\r\nt\r\n", D F M,
     "\r\nt\r\n", RD | RF | RM | RH},
    {"", "From - Sat Nov 21 12:00:00 2026\r\n" GOOD "\r\nt\r\n", "",
     GOOD "\r\nt\r\n", RH},
    {"", "From UPS1 at 12:03:44: power lost\r\n", D F M BLANK,
     "From UPS1 at 12:03:44: power lost\r\n", RALL},
    {"", "From UPS1 at 12:03:44: power lost\r\nSubject: x\r\n", D F M BLANK,
     "From UPS1 at 12:03:44: power lost\r\nSubject: x\r\n", RALL},
    {"", "From UPS1 on Tuesday: power lost\r\n", D F M BLANK,
     "From UPS1 on Tuesday: power lost\r\n", RALL},
    {"", "From UPS1 Saturday: power lost\r\n", D F M BLANK,
     "From UPS1 Saturday: power lost\r\n", RALL},
    {"", "From UPS1 Sat\r\n", D F M BLANK, "From UPS1 Sat\r\n", RALL},
    {"", "From now on the disk is full\r\n", D F M BLANK,
     "From now on the disk is full\r\n", RALL},
    {"", "From 10:00 to 11:00 the disk was full\r\n", D F M BLANK,
     "From 10:00 to 11:00 the disk was full\r\n", RALL},
    {"", GOOD "\r\nFrom root@nas Sat Nov 21 12:00:00 2026\r\n", "",
     GOOD "\r\nFrom root@nas Sat Nov 21 12:00:00 2026\r\n", 0},

    /* text and no header */
    {"", "Disk failed\r\n", D F M BLANK, "Disk failed\r\n", RALL},
    {"", "Disk failed", D F M BLANK, "Disk failed", RALL},
    {"", "http://nas/alarm\r\nTo: x\r\n", D F M BLANK,
     "http://nas/alarm\r\nTo: x\r\n", RALL},
    {"", "C: disk\r\n", D F M BLANK, "C: disk\r\n", RALL},
    {"", "Disk: failed\r\nSlot: 3\r\n", D F M BLANK,
     "Disk: failed\r\nSlot: 3\r\n", RALL},
    {"", "Disk: failed\r\nSlot: 3\r\n\r\nDate: x\r\n", D F M BLANK,
     "Disk: failed\r\nSlot: 3\r\n\r\nDate: x\r\n", RALL},
    {"", "Disk: failed\r\nin slot 3\r\nBcc: x\r\n", D F M BLANK,
     "Disk: failed\r\nin slot 3\r\nBcc: x\r\n", RALL},
    {"", "Disk:\r\n failed\r\n", D F M BLANK, "Disk:\r\n failed\r\n", RALL},
    {"", " folded first\r\nDate: x\r\n", D F M BLANK,
     " folded first\r\nDate: x\r\n", RALL},
    {"", ": no name\r\nDate: x\r\n", D F M BLANK, ": no name\r\nDate: x\r\n",
     RALL},
    {"", "hello world: it works\r\nDate: x\r\n", D F M BLANK,
     "hello world: it works\r\nDate: x\r\n", RALL},
    {"", "Na\x01me: x\r\nDate: x\r\n", D F M BLANK,
     "Na\x01me: x\r\nDate: x\r\n", RALL},
    {"", "Subject \r\nDate: x\r\n", D F M BLANK, "Subject \r\nDate: x\r\n",
     RALL},
    {"", "", D F M BLANK, "", RALL},
    {"", "\r\n", D F M, "\r\n", RD | RF | RM},
    {"", "\r\nDate: in the body\r\n", D F M, "\r\nDate: in the body\r\n",
     RD | RF | RM},
    {"", "\r\n\r\n", D F M, "\r\n\r\n", RD | RF | RM},

    /* text right behind fields */
    {"", GOOD "Disk failed\r\nBcc: x\r\n", "",
     GOOD "\r\nDisk failed\r\nBcc: x\r\n", RH},
    {"", "Subject: x\r\nDisk failed", D F M, "Subject: x\r\n\r\nDisk failed",
     RALL},
    {"", GOOD "To: x\r\n y\r\nhttp://nas/\r\n", "",
     GOOD "To: x\r\n y\r\n\r\nhttp://nas/\r\n", RH},
    {"",
     GOOD "Gr\xf6\xdf"
          "e: 5\r\nBcc: x\r\nTo: x\r\n\r\nt\r\n",
     "",
     GOOD "Gr\xf6\xdf"
          "e: 5\r\nTo: x\r\n\r\nt\r\n",
     RBCC},
    {"", REST "From: x\r\n y\r\n: z\r\n",
     "From: x y <" SENDER_OF_ENVELOPE ">\r\n", REST "\r\n: z\r\n", RF | RH},
    {"", GOOD "Bcc: x\r\nDisk failed\r\n", "", GOOD "\r\nDisk failed\r\n",
     RBCC | RH},

    /* 8-bit text that does not say what it is */
    {"", GOOD "\r\nB\xc3\xbcro\r\n", MIME TEXT "utf-8\r\n" EIGHT,
     GOOD "\r\nB\xc3\xbcro\r\n", RMIME},
    {"", GOOD "\r\nB\xfcro\r\n", MIME TEXT "windows-1252\r\n" EIGHT,
     GOOD "\r\nB\xfcro\r\n", RMIME},
    {"", GOOD "MIME-Version: 1.0\r\n\r\nB\xfcro\r\n", "",
     GOOD "MIME-Version: 1.0\r\n\r\nB\xfcro\r\n", 0},
    {"", GOOD "Content-Type: text/html\r\n\r\nB\xfcro\r\n", MIME EIGHT,
     GOOD "Content-Type: text/html\r\n\r\nB\xfcro\r\n", RMIME},
    {"", GOOD "Content-Transfer-Encoding: binary\r\n\r\nB\xfcro\r\n",
     MIME TEXT "windows-1252\r\n",
     GOOD "Content-Transfer-Encoding: binary\r\n\r\nB\xfcro\r\n", RMIME},
    {"",
     GOOD "Content-Type: x\r\nContent-Transfer-Encoding: "
          "8bit\r\n\r\n\xff\r\n",
     MIME,
     GOOD "Content-Type: x\r\nContent-Transfer-Encoding: "
          "8bit\r\n\r\n\xff\r\n",
     RMIME},
    {"", GOOD "Subject: B\xfcro\r\n\r\nt\r\n", "",
     GOOD "Subject: B\xfcro\r\n\r\nt\r\n", 0},
    {"", GOOD "Subject: B\xfcro\r\n\r\nB\xc3\xbcro\r\n",
     MIME TEXT "utf-8\r\n" EIGHT,
     GOOD "Subject: B\xfcro\r\n\r\nB\xc3\xbcro\r\n", RMIME},
    {"", "Odd: B\xfcro\r\n" GOOD "\r\nB\xc3\xbcro\r\n",
     MIME TEXT "utf-8\r\n" EIGHT, "Odd: B\xfcro\r\n" GOOD "\r\nB\xc3\xbcro\r\n",
     RMIME},
    {"", "B\xfcro\r\n", D F M MIME TEXT "windows-1252\r\n" EIGHT BLANK,
     "B\xfcro\r\n", RALL | RMIME},
    {"", "\xef\xbb\xbfSubject: x\r\n", D F M MIME TEXT "utf-8\r\n" EIGHT BLANK,
     "\xef\xbb\xbfSubject: x\r\n", RALL | RMIME},
    {"",
     "Gr\xf6\xdf"
     "e: 5\r\nDate: x\r\n",
     D F M MIME TEXT "windows-1252\r\n" EIGHT BLANK,
     "Gr\xf6\xdf"
     "e: 5\r\nDate: x\r\n",
     RALL | RMIME},
    {"",
     "Disk: 1\r\nGr\xf6\xdf"
     "e: 5\r\nDate: x\r\n",
     D F M MIME TEXT "windows-1252\r\n" EIGHT BLANK,
     "Disk: 1\r\nGr\xf6\xdf"
     "e: 5\r\nDate: x\r\n",
     RALL | RMIME},
    {"", "Disk: kaputt in B\xfcro 2\r\n",
     D F M MIME TEXT "windows-1252\r\n" EIGHT BLANK,
     "Disk: kaputt in B\xfcro 2\r\n", RALL | RMIME},
    {"", "Disk: in B\xc3\xbcro 2\r\nSlot 3\r\n",
     D F M MIME TEXT "utf-8\r\n" EIGHT BLANK,
     "Disk: in B\xc3\xbcro 2\r\nSlot 3\r\n", RALL | RMIME},
    {"", GOOD "B\xfcro\r\n", MIME TEXT "windows-1252\r\n" EIGHT,
     GOOD "\r\nB\xfcro\r\n", RH | RMIME},
    {"", GOOD "\r\nB\xc3", MIME TEXT "windows-1252\r\n" EIGHT, GOOD "\r\nB\xc3",
     RMIME},
};

/* Ours, behind Received. */
static const char *repairs_of(struct message *m)
{
    struct message_origin o = origin();
    const char *head = head_of(m, &o);
    return strstr(head, "\t" DATE "\r\n") + strlen("\t" DATE "\r\n");
}

START_TEST(what_arrives)
{
    static struct edited e;
    for (size_t i = 0; i < COUNT(rows); i++) {
        use(rows[i].settings);
        edit_all_ways(&e, SENDER_OF_ENVELOPE, rows[i].in, strlen(rows[i].in));
        const char *head = repairs_of(&e.m);
        ck_assert_msg(strcmp(head, rows[i].head) == 0, "row %zu:\n%s\n%s", i,
                      rows[i].in, head);
        ck_assert_msg(e.count == strlen(rows[i].out) &&
                          memcmp(e.body, rows[i].out, e.count) == 0,
                      "row %zu:\n%s\n%.*s", i, rows[i].in, (int)e.count,
                      e.body);
        ck_assert_msg(e.m.repairs == rows[i].repairs, "row %zu: %x", i,
                      e.m.repairs);
    }
}
END_TEST

/* What arrived is sent through another relay like us: it changes nothing. */
START_TEST(what_arrived_is_good)
{
    static struct edited e;
    static char mail[1 << 15];
    for (size_t i = 0; i < COUNT(rows); i++) {
        use(rows[i].settings);
        int n = snprintf(mail, sizeof mail, "%s%s", rows[i].head, rows[i].out);
        edit_all_ways(&e, SENDER_OF_ENVELOPE, mail, (size_t)n);
        ck_assert_msg(e.count == (size_t)n &&
                          memcmp(mail, e.body, e.count) == 0,
                      "row %zu:\n%s\n%.*s", i, mail, (int)e.count, e.body);
        const char *head = repairs_of(&e.m);
        ck_assert_msg(*head == '\0' && e.m.repairs == 0, "row %zu: %s", i,
                      head);
    }
}
END_TEST

/* Nobody in the envelope, and nobody in the header. */
START_TEST(null_reverse_path)
{
    static const struct {
        const char *settings, *in, *head;
    } table[] = {
        {"", REST "\r\n", "From: <postmaster@" OURS ">\r\n"},
        {"", REST "From: root\r\n\r\n", "From: root <postmaster@" OURS ">\r\n"},
        {"", REST "From: MAILER-DAEMON <>\r\n\r\n",
         "From: MAILER-DAEMON <postmaster@" OURS ">\r\n"},
        {"", GOOD "\r\n", ""},
        {"sender = relay@example.com\n", REST "\r\n",
         "From: <relay@example.com>\r\n"},
        {ALWAYS, GOOD "\r\n",
         "From: \"a@b.example\" <relay@example.com>\r\n"
         "Reply-To: <a@b.example>\r\n"},
        {"sender_domains = example.com\n", REST "\r\n",
         "From: <postmaster@" OURS ">\r\n"},
    };
    static struct edited e;
    for (size_t i = 0; i < COUNT(table); i++) {
        use(table[i].settings);
        edit_all_ways(&e, "", table[i].in, strlen(table[i].in));
        const char *head = repairs_of(&e.m);
        ck_assert_msg(strcmp(head, table[i].head) == 0, "row %zu: %s", i, head);
    }
}
END_TEST

/* ---- Hops ---------------------------------------------------------------- */

START_TEST(hops_are_counted)
{
    static const struct {
        const char *text;
        unsigned hops;
    } table[] = {
        {"Received: a\r\nRECEIVED: b\r\nX-Received: c\r\n\r\n", 2},
        {"Received : a\r\nReceived-SPF: b\r\nReceive: c\r\n\r\n", 1},
        {"To: a\r\n Received: b\r\n\r\nReceived: c\r\n", 0},
        {"Disk failed\r\nReceived: c\r\n", 0},
    };
    static const unsigned hops[] = {0, 1, 99, 100, 101};
    static const char line[] = "Received: from a by b;\r\n\tSat\r\n";
    static char text[102 * sizeof line];
    static struct edited e;
    for (size_t i = 0; i < COUNT(table); i++) {
        edit_all_ways(&e, "", table[i].text, strlen(table[i].text));
        ck_assert_uint_eq(e.m.received, table[i].hops);
    }
    for (size_t i = 0; i < COUNT(hops); i++) {
        size_t used = 0;
        for (unsigned k = 0; k < hops[i]; k++, used += sizeof line - 1)
            memcpy(text + used, line, sizeof line - 1);
        edit_all_ways(&e, "", text, used);
        ck_assert_uint_eq(e.m.received, hops[i]);
    }
}
END_TEST

/* ---- Large --------------------------------------------------------------- */

START_TEST(ten_thousand_headers)
{
    static char text[400000];
    static uint8_t room[MESSAGE_PIECE_ROOM];
    struct rewrite_who who = somebody();
    size_t used = 0;
    for (int i = 0; i < 10000; i++)
        used += (size_t)snprintf(text + used, sizeof text - used,
                                 "X-Header-%d: some value\r\n", i);
    used += (size_t)snprintf(text + used, sizeof text - used,
                             "Date: at last\r\n\r\nFrom: y\r\n");
    for (size_t p = 0; p < COUNT(pieces); p++) {
        struct message m;
        struct buf some;
        size_t same = 0;
        buf_init(&some, room, sizeof room);
        message_start(&m, &who, "");
        for (size_t at = 0; at < used; at += pieces[p]) {
            size_t n = used - at < pieces[p] ? used - at : pieces[p];
            message_edit(&m, (uint8_t *)text + at, n, &some);
            if (memcmp(buf_data(&some), text + same, buf_len(&some)) != 0)
                ck_abort_msg("at %zu", same);
            same += buf_len(&some);
            buf_clear(&some);
        }
        ck_assert_uint_eq(same, used);
        ck_assert_uint_eq(m.facts, MESSAGE_HAS_DATE | MESSAGE_HAS_KNOWN |
                                       MESSAGE_HAS_FIELDS);
    }
}
END_TEST

START_TEST(folded_megabyte)
{
    static char text[1 << 20], line[74];
    static uint8_t room[MESSAGE_PIECE_ROOM];
    static const char *const names[] = {"Subject: x", "Bcc: x", "From: x",
                                        "Message-ID: <x"};
    struct rewrite_who who = somebody();
    memset(line, 'x', 70);
    for (size_t i = 0; i < COUNT(names); i++) {
        struct message m;
        struct buf some;
        size_t used = strlen(names[i]), put = 0;
        memcpy(text, names[i], used);
        for (; used + 100 < sizeof text; used += 73) {
            memcpy(text + used, "\r\n ", 3);
            memcpy(text + used + 3, line, 70);
        }
        strcpy(text + used, "\r\nDate: x\r\n\r\n");
        used += strlen(text + used);
        buf_init(&some, room, sizeof room);
        message_start(&m, &who, SENDER_OF_ENVELOPE);
        for (size_t at = 0; at < used; at += 509) {
            size_t n = used - at < 509 ? used - at : 509;
            message_edit(&m, (uint8_t *)text + at, n, &some);
            ck_assert(!some.overflow);
            put += buf_len(&some);
            buf_clear(&some);
        }
        message_end(&m, &some);
        ck_assert(m.is_over && (m.facts & MESSAGE_HAS_DATE));
        ck_assert_uint_eq(put, i == 0 ? used : strlen("Date: x\r\n\r\n"));
        ck_assert_uint_eq(buf_len(&some), 0);
        const char *head = repairs_of(&m);
        ck_assert_msg((strstr(head, "Message-ID: ") != NULL), "%s", head);
        ck_assert_uint_eq(m.repairs & REPAIRED_BCC, i == 1 ? REPAIRED_BCC : 0);
    }
}
END_TEST

/* ---- Long lines ---------------------------------------------------------- */

/* Are the lines of a within 998 bytes, and a without its folds b? */
static void expect_folded(const char *a, size_t count, const char *b,
                          size_t other)
{
    size_t column = 0, at = 0;
    bool has_text = true;
    for (size_t i = 0; i < count; i++) {
        if (a[i] == '\r' && a[i + 1] == '\n' &&
            (at == other || b[at] != '\r')) {
            ck_assert_msg(a[i + 2] == ' ' || a[i + 2] == '\t', "no fold");
            ck_assert_msg(has_text, "a fold behind nothing");
            column = 0;
            has_text = false;
            i++;
            continue;
        }
        ck_assert_uint_lt(at, other);
        ck_assert_int_eq(a[i], b[at++]);
        if (a[i] == '\n')
            column = 0;
        else if (a[i] != '\r')
            column++;
        has_text |= a[i] != ' ' && a[i] != '\t' && a[i] != '\r';
        ck_assert_uint_le(column, 998);
    }
    ck_assert_uint_eq(at, other);
}

/* A field of so many bytes in its line, of words of so many (0: one word). */
static size_t put_long(char *text, const char *name, size_t bytes, size_t word)
{
    size_t start = strlen(name);
    strcpy(text, name);
    for (size_t i = start; i < bytes; i++)
        text[i] = word > 0 && (i - start) % word == word - 1 ? ' ' : 'w';
    text[bytes - 1] = 'w';
    strcpy(text + bytes, "\r\n");
    return bytes + 2;
}

static const size_t lengths[] = {990,  996,  997,  998,  999,  1000,
                                 1001, 1002, 1998, 1999, 2500, 5000};

START_TEST(long_fields_are_folded)
{
    static const size_t words[] = {2, 3, 70, 500, 900, 990, 997};
    static struct edited e;
    static char text[12000];
    for (size_t i = 0; i < COUNT(lengths); i++)
        for (size_t k = 0; k < COUNT(words); k++) {
            strcpy(text, GOOD);
            size_t used = strlen(text);
            used += put_long(text + used, "X-Long: ", lengths[i], words[k]);
            strcpy(text + used, "To: x\r\n\r\n");
            used += strlen(text + used);
            edit_all_ways(&e, "", text, used);
            bool is_long = lengths[i] > 998;
            ck_assert_uint_eq(e.m.repairs, is_long ? REPAIRED_LONG_LINE : 0);
            if (is_long)
                expect_folded(e.body, e.count, text, used);
            else
                ck_assert_mem_eq(e.body, text, used);
            ck_assert(is_long == (e.count > used));
        }
}
END_TEST

/* No blank, no fold; and what is cut nowhere else is whole. */
START_TEST(long_lines_without_a_blank)
{
    static const char *const starts[] = {"X-Long:", "To:", "Xyz:"};
    static struct edited e;
    static char text[12000];
    for (size_t i = 0; i < COUNT(lengths); i++)
        for (size_t k = 0; k < COUNT(starts); k++) {
            strcpy(text, GOOD);
            size_t used = strlen(text);
            used += put_long(text + used, starts[k], lengths[i], 0);
            strcpy(text + used, "Cc: x\r\n\r\nt\r\n");
            used += strlen(text + used);
            edit_all_ways(&e, "", text, used);
            ck_assert_uint_eq(e.count, used);
            ck_assert_mem_eq(e.body, text, used);
            ck_assert_uint_eq(e.m.repairs, 0);
        }
}
END_TEST

/* A fold leaves no line of blanks: some readers end the header there. */
START_TEST(long_lines_with_blanks_at_their_end)
{
    static struct edited e;
    static char text[4000];
    for (size_t bytes = 985; bytes < 1003; bytes++)
        for (size_t blanks = 1; blanks < 40; blanks += 3) {
            strcpy(text, GOOD);
            size_t used = strlen(text);
            used += put_long(text + used, "X-Long: ", bytes, 40) - 2;
            memset(text + used, ' ', blanks);
            used += blanks;
            strcpy(text + used, "\r\n\r\n");
            used += 4;
            edit_all_ways(&e, "", text, used);
            if (bytes + blanks > 998)
                expect_folded(e.body, e.count, text, used);
            for (size_t i = 0; i + 2 < e.count; i++) {
                size_t n = strspn(e.body + i + 1, " \t");
                ck_assert_msg(e.body[i] != '\n' || n == 0 ||
                                  e.body[i + 1 + n] != '\r',
                              "%zu bytes, %zu blanks", bytes, blanks);
            }
        }
}
END_TEST

/* Lines that are dropped, judged, or no field. */
START_TEST(long_lines_of_other_kinds)
{
    static struct edited e;
    static char text[12000];
    for (size_t i = 0; i < COUNT(lengths); i++) {
        size_t n = lengths[i];
        bool is_long = n > 998;
        /* in a Bcc: gone, and what is behind it stays */
        size_t used = put_long(text, "Bcc: ", n, 70);
        strcpy(text + used, GOOD "\r\nt\r\n");
        edit_all_ways(&e, "", text, strlen(text));
        ck_assert_uint_eq(e.count, strlen(text + used));
        ck_assert_mem_eq(e.body, text + used, e.count);
        ck_assert_uint_eq(e.m.repairs, REPAIRED_BCC);
        /* in a From: built anew, with as much of the name as fits */
        used = put_long(text, "From: ", n - 14, 70) - 2;
        strcpy(text + used, " <a@b.example>\r\n");
        used += strlen(text + used);
        strcpy(text + used, REST "\r\nt\r\n");
        edit_all_ways(&e, SENDER_OF_ENVELOPE, text, strlen(text));
        size_t kept = is_long ? used : 0;
        ck_assert_uint_eq(e.count, strlen(text + kept));
        ck_assert_mem_eq(e.body, text + kept, e.count);
        ck_assert_uint_eq(e.m.repairs, is_long ? REPAIRED_FROM : 0);
        const char *head = repairs_of(&e.m);
        bool was_read = n <= FROM_VALUE_BYTES;
        ck_assert_msg(!is_long == (*head == '\0'), "%s", head);
        ck_assert(!is_long || strncmp(head, "From: wwwwww", 12) == 0);
        ck_assert(!is_long ||
                  strstr(head, was_read ? " <a@b.example>\r\n"
                                        : " <" SENDER_OF_ENVELOPE ">\r\n"));
        /* text without a header: not a byte is touched */
        used = put_long(text, "Disk failed ", n, 70);
        strcpy(text + used, "Date: x\r\n");
        edit_all_ways(&e, "", text, strlen(text));
        ck_assert_uint_eq(e.count, strlen(text));
        ck_assert_mem_eq(e.body, text, e.count);
        ck_assert(e.m.is_over);
        /* and behind a header */
        strcpy(text, GOOD);
        used = strlen(GOOD);
        put_long(text + used, "Disk failed ", n, 70);
        edit_all_ways(&e, "", text, strlen(text));
        ck_assert_uint_eq(e.count, strlen(text) + 2);
        ck_assert_mem_eq(e.body + used + 2, text + used, e.count - used - 2);
        /* one name and no colon */
        memset(text, 'x', n);
        strcpy(text + n, "\r\n");
        edit_all_ways(&e, "", text, n + 2);
        ck_assert_uint_eq(e.count, n + 2);
        ck_assert(e.m.is_over && e.m.facts == 0);
    }
}
END_TEST

/* 8-bit bytes are seen wherever they stand in a folded line. */
START_TEST(long_lines_of_8_bits)
{
    static struct edited e;
    static char text[4000];
    for (size_t at = 10; at < 2400; at += 23) {
        strcpy(text, GOOD);
        size_t start = strlen(text);
        size_t used = start + put_long(text + start, "Subject: ", 2500, 70);
        text[start + at] = '\xfc';
        strcpy(text + used, "\r\nt\r\n");
        edit_all_ways(&e, "", text, strlen(text));
        ck_assert_msg(e.m.has_8bit_header && !e.m.has_8bit_body, "at %zu", at);
        ck_assert_str_eq(repairs_of(&e.m), "");
    }
}
END_TEST

/* Date and Message-ID are held while they may be empty, not for good. */
START_TEST(long_held_fields)
{
    static struct edited e;
    static char text[12000];
    for (size_t i = 0; i < COUNT(lengths); i++) {
        size_t used = put_long(text, "Message-ID: ", lengths[i], 0);
        strcpy(text + used, GOOD_D GOOD_F "\r\nt\r\n");
        edit_all_ways(&e, "", text, strlen(text));
        bool is_kept = lengths[i] <= 998; /* nobody folds inside of one */
        ck_assert(is_kept == ((e.m.facts & MESSAGE_HAS_MESSAGE_ID) != 0));
        ck_assert(is_kept == (*repairs_of(&e.m) == '\0'));
        size_t kept = is_kept ? 0 : used;
        ck_assert_uint_eq(e.count, strlen(text + kept));
        ck_assert_mem_eq(e.body, text + kept, e.count);
        ck_assert_uint_eq(e.m.repairs, is_kept ? 0 : REPAIRED_MESSAGE_ID);
    }
}
END_TEST

/* A field in short lines, up to a byte more than we hold. */
START_TEST(a_message_id_over_two_kib_counts_as_missing)
{
    static struct edited e;
    static char text[FROM_VALUE_BYTES + 200];
    for (size_t bytes = FROM_VALUE_BYTES - 2; bytes <= FROM_VALUE_BYTES + 2;
         bytes++) {
        strcpy(text, "Message-ID:\r\n <");
        for (size_t at = strlen(text); at < bytes - 3; at++)
            text[at] = "\r\n xxxxxxxxxxxxxxxxxxxxxxxxxxxxx"[at % 32];
        strcpy(text + bytes - 3, ">\r\n");
        memcpy(text + bytes - 40, "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy", 37);
        strcpy(text + bytes, GOOD_D GOOD_F "\r\nt\r\n");
        edit_all_ways(&e, "", text, strlen(text));
        size_t kept = bytes <= FROM_VALUE_BYTES ? 0 : bytes;
        ck_assert_uint_eq(e.count, strlen(text + kept));
        ck_assert_mem_eq(e.body, text + kept, e.count);
        ck_assert_uint_eq(e.m.repairs, kept ? REPAIRED_MESSAGE_ID : 0);
        ck_assert_str_eq(repairs_of(&e.m), kept ? M : "");
    }
}
END_TEST

/* ---- UTF-8 --------------------------------------------------------------- */

static const struct {
    const char *text;
    bool is_utf8;
} encodings[] = {
    {"\xc3\xbc", true},
    {"\xe2\x82\xac", true},
    {"\xf0\x9f\x93\xa0", true},
    {"\xc2\x80", true},
    {"\xdf\xbf", true},
    {"\xe0\xa0\x80", true},
    {"\xed\x9f\xbf", true},
    {"\xee\x80\x80", true},
    {"\xef\xbf\xbf", true},
    {"\xf0\x90\x80\x80", true},
    {"\xf4\x8f\xbf\xbf", true},
    {"\xc3\xbc\xe2\x82\xac\xf0\x9f\x93\xa0", true},
    {"\x80", false},
    {"\xbf", false},
    {"\xc0\xaf", false},
    {"\xc1\xbf", false},
    {"\xe0\x80\xaf", false},
    {"\xe0\x9f\xbf", false},
    {"\xed\xa0\x80", false},
    {"\xf0\x8f\xbf\xbf", false},
    {"\xf4\x90\x80\x80", false},
    {"\xf5\x80\x80\x80", false},
    {"\xff", false},
    {"\xc3", false},
    {"\xc3 ", false},
    {"\xe2\x82", false},
    {"\xe2\x82x", false},
    {"\xf0\x9f\x93", false},
    {"\xc3\xbc\xbc", false},
    {"\xc3\xc3\xbc", false},
};

START_TEST(charset_of_text)
{
    static struct edited e;
    for (size_t i = 0; i < COUNT(encodings); i++)
        for (size_t before = 0; before < 3; before++) {
            char text[200];
            snprintf(text, sizeof text, GOOD "\r\n%.*s%s%s", (int)before, "xx",
                     encodings[i].text, before == 2 ? "" : "\r\nt\r\n");
            edit_all_ways(&e, "", text, strlen(text));
            bool is_utf8 = strstr(repairs_of(&e.m), "charset=utf-8") != NULL;
            ck_assert_msg(is_utf8 == encodings[i].is_utf8, "row %zu", i);
        }
}
END_TEST

/* The body that goes its own way is looked at likewise, and only what may be
 * needed of it. */
START_TEST(noted_bodies)
{
    static struct edited e;
    for (size_t i = 0; i < COUNT(encodings); i++)
        for (size_t cut = 0; cut <= strlen(encodings[i].text); cut++) {
            const uint8_t *body = (const uint8_t *)encodings[i].text;
            size_t count = strlen(encodings[i].text);
            edit(&e, "", GOOD "\r\n", strlen(GOOD) + 2, 100);
            ck_assert(e.m.is_over && !e.m.has_8bit_body);
            message_note_body(&e.m, (const uint8_t *)"plain", 5, false);
            ck_assert(!e.m.has_8bit_body);
            message_note_body(&e.m, body, cut, cut > 0);
            message_note_body(&e.m, body + cut, count - cut, true);
            ck_assert(e.m.has_8bit_body);
            bool is_utf8 = strstr(repairs_of(&e.m), "charset=utf-8") != NULL;
            ck_assert_msg(is_utf8 == encodings[i].is_utf8, "row %zu", i);
        }
}
END_TEST

/* ---- The lines that we put ----------------------------------------------- */

#define RECEIVED_FROM(helo, literal)                                           \
    "Received: from " helo " (" literal ")\r\n"                                \
    "\tby " OURS " with ESMTP id " ID
#define FOR "\r\n\tfor <boss@example.org>"
#define RECEIVED(helo, literal)                                                \
    RECEIVED_FROM(helo, literal) FOR ";\r\n\t" DATE "\r\n"
#define LITERAL "[192.0.2.9]"

START_TEST(golden_heads)
{
    static struct edited e;
    struct message_origin o = origin();
    edit(&e, SENDER_OF_ENVELOPE, WIRE(GOOD "\r\n"), 99);
    ck_assert_str_eq(head_of(&e.m, &o), RECEIVED("printer", LITERAL));
    edit(&e, SENDER_OF_ENVELOPE, WIRE("Subject: x\r\n\r\n"), 99);
    ck_assert_str_eq(head_of(&e.m, &o), RECEIVED("printer", LITERAL) D F M);
    edit(&e, "", WIRE(""), 99);
    o.only_recipient = NULL;
    ck_assert_str_eq(head_of(&e.m, &o),
                     RECEIVED_FROM("printer", LITERAL) ";\r\n\t" DATE "\r\n" D
                                                       "From: <postmaster@" OURS
                                                       ">\r\n" M BLANK);
}
END_TEST

/* RFC 5321 section 4.4 has no place for what some devices say in HELO. */
START_TEST(helo_in_received)
{
    static char long_name[300];
    memset(long_name, 'a', sizeof long_name - 1);
    const struct {
        const char *helo, *shown;
    } table[] = {
        {"printer", "printer"},
        {"my_nas.lan", "my_nas.lan"},
        {"[192.0.2.77]", "[192.0.2.77]"},
        {"[IPv6:fe80::1]", "[IPv6:fe80::1]"},
        {"HP LaserJet (2nd)", LITERAL},
        {"", LITERAL},
        {"a..b", LITERAL},
        {"x\r\nEvil: 1", LITERAL},
        {"x) (y", LITERAL},
        {"m\xc3\xbcller", LITERAL},
        {"[192.0.2.", LITERAL},
        {long_name, LITERAL},
    };
    struct rewrite_who who = somebody();
    struct message m;
    message_start(&m, &who, "");
    for (size_t i = 0; i < COUNT(table); i++) {
        char want[512];
        struct message_origin o = origin();
        o.helo = table[i].helo;
        snprintf(want, sizeof want, "Received: from %s (%s)\r\n",
                 table[i].shown, LITERAL);
        ck_assert_msg(strncmp(head_of(&m, &o), want, strlen(want)) == 0,
                      "%s: %s", table[i].helo, space);
    }
    struct message_origin o = origin();
    ip_parse("fe80::9%1", &who.client);
    message_start(&m, &who, "");
    ck_assert_msg(strncmp(head_of(&m, &o),
                          "Received: from printer ([IPv6:fe80::9])\r\n",
                          41) == 0,
                  "%s", space);
}
END_TEST

START_TEST(zone_is_a_number)
{
    static const struct {
        const char *zone, *date;
    } table[] = {
        {"UTC0", DATE},
        {"XYZ-5:30", "Sun, 25 Oct 2026 17:30:00 +0530"},
        {"XYZ9:30", "Sun, 25 Oct 2026 02:30:00 -0930"},
        {"CET-1CEST,M3.5.0,M10.5.0/3", "Sun, 25 Oct 2026 13:00:00 +0100"},
        {"XYZ-14", "Mon, 26 Oct 2026 02:00:00 +1400"},
    };
    static struct edited e;
    struct message_origin o = origin();
    for (size_t i = 0; i < COUNT(table); i++) {
        char want[64];
        set_zone(table[i].zone);
        edit(&e, "", "Subject: x\r\n", 12, 99);
        const char *head = head_of(&e.m, &o);
        snprintf(want, sizeof want, ";\r\n\t%s\r\n", table[i].date);
        ck_assert_msg(strstr(head, want) != NULL, "%s: %s", want, head);
        snprintf(want, sizeof want, "\r\nDate: %s\r\n", table[i].date);
        ck_assert_msg(strstr(head, want) != NULL, "%s: %s", want, head);
    }
}
END_TEST

/* The longest of everything: each line within RFC 5322 section 2.1.1, and the
 * whole within the room that the queue keeps for a head. */
START_TEST(longest_head)
{
    static char text[4000];
    static struct edited e;
    char name[256], mailbox[PATH_LOCAL_MAX + 1 + PATH_DOMAIN_MAX + 1];
    for (int i = 0; i < 255; i++)
        name[i] = i % 64 == 63 ? '.' : 'n';
    name[255] = '\0';
    memset(mailbox, 'm', PATH_LOCAL_MAX);
    mailbox[0] = '"'; /* as long as quotes make it */
    mailbox[PATH_LOCAL_MAX - 1] = '"';
    mailbox[PATH_LOCAL_MAX] = '@';
    strcpy(mailbox + PATH_LOCAL_MAX + 1, name);
    int used = snprintf(text, sizeof text, "From: \"");
    memset(text + used, '\\', 400);
    snprintf(text + used + 400, sizeof text - 500, "\" <%s>\r\n\r\n\xff\r\n",
             mailbox);
    use("sender_domains = example.com\n");
    edit_all_ways(&e, mailbox, text, strlen(text));
    struct message_origin o = origin();
    ip_parse("2001:1111:1111:1111:1111:1111:1111:1111", &e.m.who.client);
    o.helo = o.hostname = name;
    o.only_recipient = mailbox;
    const char *head = head_of(&e.m, &o);
    static const char *const parts[] = {"Received: from nn", "\r\n\tfor <\"mm",
                                        "\r\nDate: ",        "\r\nFrom: \"\\\\",
                                        "\r\n <\"mm",        "\r\nMessage-ID: ",
                                        "charset=windows"};
    for (size_t i = 0; i < COUNT(parts); i++)
        ck_assert_msg(strstr(head, parts[i]) != NULL, "%s: %s", parts[i], head);
    ck_assert_uint_le(strlen(head), 3000);
    for (const char *at = head; *at; at = strchr(at, '\n') + 1) {
        const char *end = strstr(at, "\r\n");
        ck_assert(end != NULL);
        ck_assert_int_le(end - at, 998);
    }
    size_t bytes = strlen(head);
    for (size_t room = 0; room < bytes; room += room < bytes - 3 ? 97 : 1) {
        struct buf small; /* a head that does not fit is noticed */
        buf_init(&small, space, room);
        message_put_head(&e.m, &o, NOW, RANDOM, &small);
        ck_assert(small.overflow);
        room = room + 97 > bytes - 3 && room < bytes - 3 ? bytes - 4 : room;
    }
}
END_TEST

Suite *suite_message(void)
{
    Suite *s = suite_create("message");
    TCase *c = tcase_create("editor");
    tcase_add_checked_fixture(c, setup, NULL);
    tcase_set_timeout(c, 60);
    tcase_add_test(c, what_arrives);
    tcase_add_test(c, what_arrived_is_good);
    tcase_add_test(c, null_reverse_path);
    tcase_add_test(c, hops_are_counted);
    tcase_add_test(c, ten_thousand_headers);
    tcase_add_test(c, folded_megabyte);
    tcase_add_test(c, long_fields_are_folded);
    tcase_add_test(c, long_lines_without_a_blank);
    tcase_add_test(c, long_lines_with_blanks_at_their_end);
    tcase_add_test(c, long_lines_of_other_kinds);
    tcase_add_test(c, long_lines_of_8_bits);
    tcase_add_test(c, long_held_fields);
    tcase_add_test(c, a_message_id_over_two_kib_counts_as_missing);
    tcase_add_test(c, charset_of_text);
    tcase_add_test(c, noted_bodies);
    suite_add_tcase(s, c);
    c = tcase_create("head");
    tcase_add_checked_fixture(c, setup, NULL);
    tcase_add_test(c, golden_heads);
    tcase_add_test(c, helo_in_received);
    tcase_add_test(c, zone_is_a_number);
    tcase_add_test(c, longest_head);
    suite_add_tcase(s, c);
    return s;
}
