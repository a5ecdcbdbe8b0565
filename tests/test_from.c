/* from: what devices write in From, what we read in it, and what we write. */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "../from.h"
Suite *suite_from(void);

#define COUNT(table) (sizeof(table) / sizeof(table)[0])

#define A16      "abcdefghijklmnop"
#define A48      A16 A16 A16
#define A64      A48 A16
#define A127     A64 A48 "abcdefghijklmno"
#define LABEL_63 A48 "abcdefghijklmno"
#define DOMAIN   LABEL_63 "." LABEL_63 "." LABEL_63 "." LABEL_63
#define UMLAUT   "\xc3\xbc"
#define FAX      "\xf0\x9f\x93\xa0"
#define WORD     "=?utf-8?B?U2Nhbg==?="
#define WORD_60  "=?utf-8?B?" A48 "?="
#define CLEAN    true
#define ODD      false
#define NONE     ""

struct row {
    const char *value, *name, *mailbox;
    bool is_clean;
};

static const struct row addresses[] = {
    /* what the grammar knows, RFC 5322 section 3.4 */
    {" scan@example.com", NONE, "scan@example.com", CLEAN},
    {"scan@example.com\r\n", NONE, "scan@example.com", CLEAN},
    {" <scan@example.com>", NONE, "scan@example.com", CLEAN},
    {" < scan@example.com > ", NONE, "scan@example.com", CLEAN},
    {" Scanner <scan@x.com>", "Scanner", "scan@x.com", CLEAN},
    {"Scanner<scan@x.com>", "Scanner", "scan@x.com", CLEAN},
    {"\"Scan, ner\" <a@b>", "Scan, ner", "a@b", CLEAN},
    {"\"Scan @ <home>\" <a@b>", "Scan @ <home>", "a@b", CLEAN},
    {"\"The \\\"big\\\" one\" <a@b>", "The \"big\" one", "a@b", CLEAN},
    {"\"C:\\\\scan\" <a@b>", "C:\\scan", "a@b", CLEAN},
    {"\"a\" b \"c\" <a@b>", "a b c", "a@b", CLEAN},
    {"\"\" <a@b>", NONE, "a@b", CLEAN},
    {WORD " <a@b>", WORD, "a@b", CLEAN},
    {WORD "\r\n " WORD " <a@b>", WORD " " WORD, "a@b", CLEAN},
    {"\"" WORD "\" <a@b>", WORD, "a@b", CLEAN},
    {"<\"a b\"@x>", NONE, "\"a b\"@x", CLEAN},
    {"\"a@b\"@x", NONE, "\"a@b\"@x", CLEAN},
    {"Fax <\"<,>\"@x>", "Fax", "\"<,>\"@x", CLEAN},
    {"<a@[192.0.2.1]>", NONE, "a@[192.0.2.1]", CLEAN},
    {"<a@[IPv6:2001:db8::1]>", NONE, "a@[IPv6:2001:db8::1]", CLEAN},
    {"a@[IPv6:2001:db8::1]", NONE, "a@[IPv6:2001:db8::1]", CLEAN},
    {"<o'neil+tag={x}@b>", NONE, "o'neil+tag={x}@b", CLEAN},
    /* comments, and names in them */
    {"a@b (Scanner)", "Scanner", "a@b", CLEAN},
    {"<a@b> (Scanner)", "Scanner", "a@b", CLEAN},
    {"Fax (2nd floor) <a@b> (old)", "Fax", "a@b", CLEAN},
    {"Fax(old)Room <a@b>", "Fax Room", "a@b", CLEAN},
    {"a@b (Scan (2nd floor))", "Scan (2nd floor)", "a@b", CLEAN},
    {"a@b (Scan\\) er) (two)", "Scan) er two", "a@b", CLEAN},
    {"(c, <d@e>) a@b", "c, <d@e>", "a@b", CLEAN},
    {"<(x)a@b(y)>", "x y", "a@b", CLEAN},
    {"a (x) @ b", "x", "a@b", CLEAN},
    {"\"a (b\" <c@d> (e)", "a (b", "c@d", CLEAN},
    /* folds */
    {"\r\n Scanner\r\n\t<a@b>\r\n", "Scanner", "a@b", CLEAN},
    {"\"Scan\r\n ner\" <a@b>", "Scan ner", "a@b", CLEAN},
    {"Scan  \t ner <a@b>", "Scan ner", "a@b", CLEAN},
    /* beyond the grammar, and everyone takes it */
    {"Dr. No <a@b>", "Dr. No", "a@b", CLEAN},
    {"J.R. <a@b>", "J.R.", "a@b", CLEAN},
    {"B" UMLAUT "ro <a@b>", "B" UMLAUT "ro", "a@b", CLEAN},
    {"B\xfcro <a@b>", "B\xfcro", "a@b", CLEAN},
    {"\"B\xfcro\" <a@b>", "B\xfcro", "a@b", CLEAN},
    {"<b" UMLAUT "ro@b>", NONE, "b" UMLAUT "ro@b", CLEAN},
};

static const struct row devices[] = {
    /* a raw @ in the name: what Microsoft says it refuses */
    {"scan@x.com <scan@x.com>", "scan@x.com", "scan@x.com", ODD},
    {"HP@Office <a@b>", "HP@Office", "a@b", ODD},
    {"HP @ Office <a@b>", "HP @ Office", "a@b", ODD},
    /* no brackets */
    {"Scanner scan@x.com", "Scanner", "scan@x.com", ODD},
    {"Scanner: scan@x.com", "Scanner", "scan@x.com", ODD},
    {"\"HP@Office\" scan@x.com", "HP@Office", "scan@x.com", ODD},
    {"scan@x.com Scanner", NONE, "scan@x.com", ODD},
    {"mailto:a@b", NONE, "a@b", ODD},
    {"<mailto:a@b>", NONE, "a@b", ODD},
    {"mailto <a@b>", "mailto", "a@b", CLEAN},
    {"Scanner <Scanner a@b>", "Scanner", "a@b", ODD},
    /* specials in the name */
    {"Scan; Room <a@b>", "Scan; Room", "a@b", ODD},
    {"[Scan] <a@b>", "[Scan]", "a@b", ODD},
    {"Scan: <a@b>", "Scan", "a@b", ODD},
    {"Scan, Room <a@b>", "Scan, Room", "a@b", ODD},
    {"Scan, Room a@b", "Scan, Room", "a@b", ODD},
    {"LAN\\scan <a@b>", "LAN\\scan", "a@b", ODD},
    {".No <a@b>", ".No", "a@b", ODD},
    {"a) b <a@b>", "a) b", "a@b", ODD},
    /* more than one */
    {"a@b, c@d", NONE, "a@b", ODD},
    {"A <a@b>, C <c@d>", "A", "a@b", ODD},
    {"<a@b> <c@d>", NONE, "a@b", ODD},
    {"a@b c@d", NONE, "a@b", ODD},
    {"a@b; c@d", NONE, "a@b", ODD},
    {"<>, C <c@d>", "C", "c@d", ODD},
    {"@, c@d", NONE, "c@d", ODD},
    {"a@b,", NONE, "a@b", ODD},
    {", a@b", NONE, "a@b", ODD},
    {",, <a@b>", NONE, "a@b", ODD},
    {"<@a,@b:c@d>", "@b", "c@d", ODD}, /* a route: nobody writes them */
    /* groups */
    {"undisclosed:;", "undisclosed", NONE, ODD},
    {"Team: a@b;", "Team", "a@b", ODD},
    {"Team: A <a@b>, c@d;", "Team: A", "a@b", ODD},
    /* no domain */
    {"root", NONE, "root", ODD},
    {"<root>", NONE, "root", ODD},
    {"Printer <root>", "Printer", "root", ODD},
    {"root (Cron)", "Cron", "root", ODD},
    {"user@", NONE, "user", ODD},
    {"Printer <user@>", "Printer", "user", ODD},
    {"Office Scanner", "Office Scanner", NONE, ODD},
    {"\"Scanner\"", "Scanner", NONE, ODD},
    {"Scanner", NONE, "Scanner", ODD}, /* or is it a name? as root is */
    /* nothing */
    {"", NONE, NONE, ODD},
    {"\r\n", NONE, NONE, ODD},
    {" \t ", NONE, NONE, ODD},
    {"<>", NONE, NONE, ODD},
    {"< >", NONE, NONE, ODD},
    {"Printer <>", "Printer", NONE, ODD},
    {"@", "@", NONE, ODD},
    {"<@>", NONE, NONE, ODD},
    {"<@b>", NONE, NONE, ODD},
    {",", NONE, NONE, ODD},
    {"()", NONE, NONE, ODD},
    {"\"\"", NONE, NONE, ODD},
    /* what never ends */
    {"\"Scanner <a@b>", "Scanner", "a@b", ODD},
    {"Scanner\" <a@b>", "Scanner", "a@b", ODD},
    {"\"Scanner\\\" <a@b>", "Scanner\\", "a@b", ODD},
    {"Scan (2 <a@b>", "Scan (2", "a@b", ODD},
    {"<a@b> (2", NONE, "a@b", ODD},
    {"<<a@b>>", NONE, "a@b", ODD},
    {"a@b>", NONE, "a@b", ODD},
    {"<a@b", NONE, "a@b", ODD},
    {"Fax <a@b, c@d>", "Fax", "a@b", ODD},
    {"\\", "\\", NONE, ODD},
    {"((((((((x)))))))) <a@b>", "(((((((x)))))))", "a@b", CLEAN},
    {"(((((((((x))))))))) <a@b>", "( )", "a@b", ODD},
    {"<a@b>x", NONE, "a@b", ODD},
    /* a mailbox that path.h repairs, or refuses */
    {"scan.@x.com", NONE, "\"scan.\"@x.com", ODD},
    {"<a..b@x>", NONE, "\"a..b\"@x", ODD},
    {"<a@b.>", NONE, "a@b", ODD},
    {"<@a:b@c>", NONE, "b@c", ODD},
    {"<a b@c>", NONE, "b@c", ODD},
    {"<a@b@c>", NONE, NONE, ODD},
    {"<a@[300.0.0.1]>", NONE, NONE, ODD},
    {"<b\xfcro@b>", NONE, NONE, ODD},
    {"<\"a\r\n b\"@x>", NONE, NONE, ODD},
    /* line ends and control characters that have no place here */
    {"Scan\nner <a@b>", "Scan ner", "a@b", ODD},
    {"Scan\rner <a@b>", "Scan ner", "a@b", ODD},
    {"<a@b>\r\nX-Evil: 1", NONE, "a@b", ODD},
    {"<a@b>\n", NONE, "a@b", ODD},
    {"<a@b>\r", NONE, "a@b", ODD},
    {"<a@b>\r\n ", NONE, "a@b", ODD},
    {"Scan\r\n \r\n <a@b>", "Scan", "a@b", ODD},
    {"Scan\x01ner\x7f <a@b>", "Scan ner", "a@b", ODD},
    {"\"\\\x1b[0m\" <a@b>", "[0m", "a@b", ODD},
};

static const struct row sizes[] = {
    {A127 " <a@b>", A127, "a@b", CLEAN},
    {A127 "x <a@b>", A127, "a@b", CLEAN},
    {A127 " x <a@b>", A127, "a@b", CLEAN},
    {"\"" A127 "x\" <a@b>", A127, "a@b", CLEAN},
    {"a@b (" A127 "x)", A127, "a@b", CLEAN},
    /* a cut goes through no character, whole ones stay */
    {A64 A48 "abcdefghijklmn" UMLAUT " <a@b>", A64 A48 "abcdefghijklmn", "a@b",
     CLEAN},
    {A64 A48 "abcdefghijklm" UMLAUT "x <a@b>", A64 A48 "abcdefghijklm" UMLAUT,
     "a@b", CLEAN},
    {A64 A48 "abcdefghijkl" FAX " <a@b>", A64 A48 "abcdefghijkl", "a@b", CLEAN},
    {A64 A48 "abcdefghijk" FAX "x <a@b>", A64 A48 "abcdefghijk" FAX, "a@b",
     CLEAN},
    {A64 A48 "abcdefghijklm " UMLAUT " <a@b>", A64 A48 "abcdefghijklm", "a@b",
     CLEAN},
    /* nor through an encoded-word */
    {WORD_60 " " WORD_60 " " WORD " <a@b>", WORD_60 " " WORD_60, "a@b", CLEAN},
    {"x " WORD_60 " " WORD_60 "\r\n " WORD_60 " <a@b>",
     "x " WORD_60 " " WORD_60, "a@b", CLEAN},
    {"=?utf-8?B?" A127 "?= <a@b>", NONE, "a@b", CLEAN},
    /* the longest address, and one more */
    {"<" A64 "@" DOMAIN ">", NONE, A64 "@" DOMAIN, CLEAN},
    {"<" A64 "x@" DOMAIN ">", NONE, NONE, ODD},
    {"<" A64 "@" DOMAIN "x>", NONE, NONE, ODD},
    {"<" A64 "@" DOMAIN "." DOMAIN ">", NONE, NONE, ODD},
    /* quotes would make it too long to be read again */
    {"<" A48 "abcdefghijklm.@x>", NONE, "\"" A48 "abcdefghijklm.\"@x", ODD},
    {"<" A48 "abcdefghijklmn.@x>", NONE, NONE, ODD},
};

static void expect(const struct from *f, const struct row *row)
{
    ck_assert_msg(strcmp(f->name, row->name) == 0, "%s: name %s", row->value,
                  f->name);
    ck_assert_msg(strcmp(f->mailbox, row->mailbox) == 0, "%s: mailbox %s",
                  row->value, f->mailbox);
    ck_assert_msg(f->has_domain == (strchr(row->mailbox, '@') != NULL), "%s",
                  row->value);
    ck_assert_msg(f->is_clean == row->is_clean, "%s: clean %d", row->value,
                  f->is_clean);
}

/* One field, its lines folded and bounded, no stray byte. */
static void expect_lines(const char *text)
{
    for (const char *end; *text; text = end + 2) {
        end = strstr(text, "\r\n");
        ck_assert_ptr_nonnull(end);
        ck_assert_int_le(end - text, 998);
        ck_assert_int_gt(end - text, strspn(text, " ")); /* never all blank */
        for (const char *c = text; c < end; c++)
            ck_assert((unsigned char)*c >= ' ' && *c != 0x7f);
        ck_assert(end[2] == '\0' || end[2] == ' ');
    }
}

static void expect_rebuilt(const struct from *f, const char *why)
{
    char space[1024];
    struct buf out;
    struct from again;
    buf_init(&out, space, sizeof space);
    from_put("From", f->name, f->mailbox, &out);
    ck_assert_msg(!out.overflow, "%s", why);
    buf_put(&out, "", 1);
    expect_lines(space);
    ck_assert_int_eq(strncmp(space, "From: ", 6), 0);
    from_read(space + 5, strlen(space + 5), &again);
    struct row same = {space, f->name, f->mailbox, f->has_domain};
    expect(&again, &same);
}

static void read_rows(const struct row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct from f;
        from_read(rows[i].value, strlen(rows[i].value), &f);
        expect(&f, &rows[i]);
        if (*f.mailbox != '\0')
            expect_rebuilt(&f, rows[i].value);
    }
}

START_TEST(addresses_of_the_grammar)
{
    read_rows(addresses, COUNT(addresses));
}
END_TEST

START_TEST(addresses_of_devices)
{
    read_rows(devices, COUNT(devices));
}
END_TEST

START_TEST(sizes_are_bounded)
{
    read_rows(sizes, COUNT(sizes));
}
END_TEST

START_TEST(nul_bytes_are_blanks)
{
    static const struct row ends = {"a NUL at the end", NONE, "a@b", ODD};
    static const struct row inside = {"a NUL inside", "a", "b@c", ODD};
    struct from f;
    from_read("a@b\0", 4, &f);
    expect(&f, &ends);
    from_read("a\0b@c", 5, &f);
    expect(&f, &inside);
}
END_TEST

/* Line lengths: of what came, and where we stop to read. */
START_TEST(long_fields)
{
    static const struct {
        size_t blanks;
        const char *tail, *mailbox;
        bool is_clean;
    } table[] = {
        {998 - 5 - 3, "a@b", "a@b", CLEAN},
        {998 - 5 - 2, "a@b", "a@b", ODD},
        {998 - 5, "\r\n a@b", "a@b", CLEAN},
        {FROM_VALUE_BYTES - 4, "a@b x", "a@b", ODD},
        {FROM_VALUE_BYTES - 5, "a@b, c@d", "a@b", ODD},
        {FROM_VALUE_BYTES - 3, "a@b.example", NONE, ODD},
        {FROM_VALUE_BYTES, "a@b", NONE, ODD},
    };
    for (size_t i = 0; i < COUNT(table); i++) {
        char value[2 * FROM_VALUE_BYTES];
        struct from f;
        int n = snprintf(value, sizeof value, "%*s%s", (int)table[i].blanks, "",
                         table[i].tail);
        struct row row = {table[i].tail, NONE, table[i].mailbox,
                          table[i].is_clean};
        from_read(value, (size_t)n, &f);
        expect(&f, &row);
    }
}
END_TEST

/* Lines that are short enough do not make it clean: we cannot know what
 * stands where we did not read. */
START_TEST(many_short_lines)
{
    static const struct row fits = {"fits", NONE, "a@b", CLEAN};
    static const struct row more = {"one more", NONE, "a@b", ODD};
    static const char line[] = "(comment)\r\n      ";
    char value[FROM_VALUE_BYTES + 1] = "a@b ";
    struct from f;
    size_t n = strlen(value);
    while (n + strlen(line) <= FROM_VALUE_BYTES) {
        memcpy(value + n, line, strlen(line));
        n += strlen(line);
    }
    while (n < sizeof value)
        value[n++] = ' ';
    memcpy(value + sizeof value - 4, "()", 2); /* no last line of blanks */
    from_read(value, FROM_VALUE_BYTES, &f);
    ck_assert_uint_eq(strspn(f.name, "coment "), FROM_NAME_BYTES - 1);
    *f.name = '\0';
    expect(&f, &fits);
    from_read(value, FROM_VALUE_BYTES + 1, &f);
    *f.name = '\0';
    expect(&f, &more);
}
END_TEST

START_TEST(what_is_put)
{
    static const struct {
        const char *name, *line;
    } table[] = {
        {"", "From: <a@b>\r\n"},
        {"Scanner", "From: Scanner <a@b>\r\n"},
        {" Scan \t ner ", "From: Scan ner <a@b>\r\n"},
        {"B" UMLAUT "ro", "From: B" UMLAUT "ro <a@b>\r\n"},
        {"scan@x.com", "From: \"scan@x.com\" <a@b>\r\n"},
        {"Scan, ner", "From: \"Scan, ner\" <a@b>\r\n"},
        {"Dr. No", "From: \"Dr. No\" <a@b>\r\n"},
        {"a \"b\" \\", "From: \"a \\\"b\\\" \\\\\" <a@b>\r\n"},
        {WORD, "From: " WORD " <a@b>\r\n"},
        {WORD " x", "From: " WORD " x <a@b>\r\n"},
        /* in quotes it would be shown as it is written */
        {WORD " Dr. No", "From: " WORD " \"Dr.\" No <a@b>\r\n"},
        {"a\r\nX-Evil: 1", "From: \"a X-Evil: 1\" <a@b>\r\n"},
        {"\x01", "From: <a@b>\r\n"},
        {"a\x7f"
         "b",
         "From: a b <a@b>\r\n"},
        {A127 "x", "From: " A127 "\r\n <a@b>\r\n"},
        /* 78 columns fit, one more does not */
        {A48 " " A16 "x", "From: " A48 " " A16 "x <a@b>\r\n"},
        {A48 " " A16 "xy", "From: " A48 " " A16 "xy\r\n <a@b>\r\n"},
        {A48 " " A16 "x" A16, "From: " A48 "\r\n " A16 "x" A16 " <a@b>\r\n"},
        {A48 ". " A16 " " A16,
         "From: \"" A48 ". " A16 "\r\n " A16 "\" <a@b>\r\n"},
    };
    for (size_t i = 0; i < COUNT(table); i++) {
        char space[1024];
        struct buf out;
        buf_init(&out, space, sizeof space);
        from_put("From", table[i].name, "a@b", &out);
        buf_put(&out, "", 1);
        ck_assert_str_eq(space, table[i].line);
    }
}
END_TEST

START_TEST(all_or_nothing)
{
    static const char line[] = "Reply-To: Fax <a@b>\r\n";
    char space[sizeof line];
    struct buf out;
    for (size_t room = 0; room < sizeof line; room++) {
        bool fits = room >= strlen(line);
        buf_init(&out, space, room);
        from_put("Reply-To", "Fax", "a@b", &out);
        ck_assert(out.overflow == !fits);
        ck_assert_uint_eq(buf_len(&out), fits ? strlen(line) : 0);
        ck_assert(memcmp(space, line, buf_len(&out)) == 0);
    }
}
END_TEST

START_TEST(the_longest_fits)
{
    char quotes[FROM_NAME_BYTES], space[1024];
    struct from f = {.has_domain = true, .mailbox = A64 "@" DOMAIN};
    struct buf out;
    memset(quotes, '"', sizeof quotes - 1);
    quotes[sizeof quotes - 1] = '\0';
    text_copy(f.name, sizeof f.name, quotes);
    expect_rebuilt(&f, "quotes");
    for (size_t i = 1; i < sizeof quotes - 1; i += 2)
        f.name[i] = ' ';
    expect_rebuilt(&f, "quotes and blanks");
    memset(f.name, '.', 2);
    memcpy(f.name + 2, " =?", 3);
    expect_rebuilt(&f, "quotes of their own");
    buf_init(&out, space, sizeof space);
    char field[1000] = "";
    memset(field, 'X', sizeof field - 1);
    from_put(field, "", "a@b", &out);
    ck_assert(out.overflow && buf_len(&out) == 0);
}
END_TEST

Suite *suite_from(void)
{
    Suite *s = suite_create("from");
    TCase *c = tcase_create("from");
    tcase_add_test(c, addresses_of_the_grammar);
    tcase_add_test(c, addresses_of_devices);
    tcase_add_test(c, sizes_are_bounded);
    tcase_add_test(c, nul_bytes_are_blanks);
    tcase_add_test(c, long_fields);
    tcase_add_test(c, many_short_lines);
    tcase_add_test(c, what_is_put);
    tcase_add_test(c, all_or_nothing);
    tcase_add_test(c, the_longest_fits);
    suite_add_tcase(s, c);
    return s;
}
