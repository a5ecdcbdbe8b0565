/* intake: from the bytes behind DATA to a committed message, or to the one
 * fault that answers it. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../config.h"
#include "../intake.h"
#include "../log.h"
#include "../settings.h"
Suite *suite_intake(void);

#define COUNT(table) (sizeof(table) / sizeof(table)[0])
#define NO_LIMIT     UINT64_MAX

static void no_log(const char *line)
{
    (void)line;
}

static struct intake t;

static void use(const char *more)
{
    char text[512], error[SETTINGS_ERROR_BYTES];
    snprintf(text, sizeof text,
             "smarthost = 127.0.0.1:9\nsmarthost_tls = none\n%s", more);
    ck_assert_msg(settings_load_text("conf", text, strlen(text), error), "%s",
                  error);
}

static void setup(void)
{
    log_to(no_log);
    use("");
    queue_init();
    memset(&t, 0, sizeof t);
}

static void expect_empty(void)
{
    struct queue_counts n;
    queue_count(&n);
    ck_assert(queue_unsound() == NULL);
    ck_assert_uint_eq(n.messages + n.writing, 0);
    ck_assert_uint_eq(n.blocks_free, QUEUE_BLOCKS);
}

static struct path path(const char *text)
{
    struct path p;
    const char *rest;
    ck_assert(path_parse(text, &p, &rest));
    return p;
}

static const struct rewrite_who somebody = {.client.family = AF_INET,
                                            .user = ""};

static void start(uint64_t declared)
{
    struct path from = path("<from@x>"), to = path("<to@x>");
    ck_assert(intake_start(&t, &from, &somebody, declared));
    ck_assert(intake_add_recipient(&t, &to));
}

static struct message_origin origin(void)
{
    return (struct message_origin){
        .helo = "printer", .hostname = "relay.lan", .protocol = "ESMTP"};
}

static enum intake_fault end(void)
{
    struct message_origin o = origin();
    return intake_end(&t, &o, 7);
}

static void take(const char *bytes, size_t count, size_t piece, uint64_t max)
{
    for (size_t at = 0; at < count; at += piece) {
        size_t n = count - at < piece ? count - at : piece;
        size_t used = intake_take(&t, (const uint8_t *)bytes + at, n, max);
        if (used != n && !intake_is_over(&t)) /* no ck_assert() each byte */
            ck_abort_msg("%zu of %zu bytes", used, n);
    }
}

/* The body as the reader gets it: what is behind the head. */
static size_t read_body(char *out, size_t room)
{
    struct queue_reader r = {0};
    size_t n, used = 0;
    ck_assert_uint_eq(queue_due(INT64_MAX, true), t.id);
    for (const uint8_t *at; (at = queue_read(t.id, &r, &n)) != NULL;
         queue_took(&r, n)) {
        if (r.part == QUEUE_HEAD)
            continue;
        ck_assert_uint_le(used + n, room);
        memcpy(out + used, at, n);
        used += n;
    }
    return used;
}

static void deliver(void)
{
    struct queue_recipient r = {0};
    while (queue_next_recipient(t.id, &r))
        queue_settle(t.id, &r, QUEUE_DONE);
    ck_assert(queue_return(t.id, 0));
}

/* Sizes around the block's border, with what grows and what shrinks there:
 * every step of the receiver may fall on it. */
START_TEST(body_across_block_borders)
{
    static const char *const tails[] = {
        "", "\n", "\r", "\r\n.", "\r\n..", "\n.\n", "\r\n.\r", "x\r\n.\rx"};
    static const char *const texts[] = {"",          "\r\n",       "\r\n",
                                        "\r\n",      "\r\n.",      "\r\n.\r\n",
                                        "\r\n.\r\n", "x\r\n.\r\nx"};
    static char wire[3 * QUEUE_BLOCK_BYTES], body[sizeof wire];
    for (size_t size = QUEUE_BLOCK_BYTES - 12; size < QUEUE_BLOCK_BYTES + 3;
         size++)
        for (size_t i = 0; i < COUNT(tails); i++)
            for (size_t piece = 1; piece < 5000; piece += 4998) {
                memset(wire, 'b', size);
                memcpy(wire, "A: b\r\n\r\n", 8);
                strcpy(wire + size, tails[i]);
                strcat(wire + size, "tail\r\n.\r\nQUIT\r\n");
                size_t count = size + strlen(wire + size);
                start(i % 2 ? size : 0);
                take(wire, count, piece, NO_LIMIT);
                ck_assert(intake_is_over(&t));
                ck_assert_uint_eq(t.wire_bytes, count - 6);
                ck_assert_int_eq(end(), INTAKE_GOOD);
                size_t n = read_body(body, sizeof body);
                size_t text = strlen(texts[i]);
                /* a stuffed dot before "tail" is not ours to keep */
                ck_assert_uint_eq(n, size + text + 6);
                ck_assert_mem_eq(body, wire, size);
                ck_assert_mem_eq(body + size, texts[i], text);
                ck_assert_mem_eq(body + size + text, "tail\r\n", 6);
                deliver();
                intake_cancel(&t);
                expect_empty();
            }
}
END_TEST

/* What stays and what goes, each once at every offset of the border: in whole
 * lines it goes to the queue, and what is dropped leaves no gap. */
static const char in_header[] =
    "Bcc: secret@x\r\n\tmore@x\r\n"
    "From: scan@room <from@x.example>\r\n"
    "Subject: B\xfcro\r\n folded\r\n"
    "Message-ID:\r\n <1@x>\r\n"
    "Date:\r\n\r\n"
    "Bcc: text\r\n..dot\r\nFrom: text\r\n.\r\nQUIT\r\n";
static const char in_queue[] = "Subject: B\xfcro\r\n folded\r\n"
                               "Message-ID:\r\n <1@x>\r\n"
                               "\r\n"
                               "Bcc: text\r\n.dot\r\nFrom: text\r\n";

/* Lines of up to 62 bytes, so many bytes in all. */
static void put_padding(char *at, size_t bytes)
{
    while (bytes > 0) {
        size_t line = bytes < 100 ? bytes : 62;
        memset(at, 'p', line);
        memcpy(at, "X-Pad: ", 7);
        memcpy(at + line - 2, "\r\n", 2);
        at += line;
        bytes -= line;
    }
}

START_TEST(header_across_block_borders)
{
    static char wire[3 * QUEUE_BLOCK_BYTES], body[sizeof wire];
    static const size_t steps[] = {1, 2, 7, 511, 512, 513, 9000};
    const size_t span = sizeof in_queue + 8;
    for (size_t size = QUEUE_BLOCK_BYTES - span; size < QUEUE_BLOCK_BYTES + 4;
         size++)
        for (size_t k = 0; k < COUNT(steps); k++) {
            put_padding(wire, size);
            memcpy(wire + size, in_header, sizeof in_header - 1);
            size_t count = size + sizeof in_header - 1;
            start(k % 2 ? 8000 : 0);
            take(wire, count, steps[k], NO_LIMIT);
            ck_assert(intake_is_over(&t));
            ck_assert_uint_eq(t.wire_bytes, count - 6);
            /* without the final dot and the stuffed one */
            ck_assert_uint_eq(t.bytes, count - 6 - 3 - 1);
            ck_assert_int_eq(end(), INTAKE_GOOD);
            ck_assert_uint_eq(t.message.repairs,
                              REPAIRED_BCC | REPAIRED_FROM | REPAIRED_DATE);
            ck_assert_uint_eq(queue_facts(t.id), QUEUE_IS_8BIT);
            size_t n = read_body(body, sizeof body);
            ck_assert_uint_eq(n, size + sizeof in_queue - 1);
            ck_assert_mem_eq(body, wire, size);
            ck_assert_mem_eq(body + size, in_queue, sizeof in_queue - 1);
            deliver();
            intake_cancel(&t);
            expect_empty();
        }
}
END_TEST

/* 8-bit bytes of the header are not the body's, though both are the wire's. */
START_TEST(header_and_body_are_told_apart)
{
    static const struct {
        const char *text;
        bool has_mime, is_8bit;
    } table[] = {
        {"Subject: x\r\n\r\nt\r\n.\r\n", false, false},
        {"Subject: \xfc\r\n\r\nt\r\n.\r\n", false, true},
        {"Subject: x\r\n\r\n\xfc\r\n.\r\n", true, true},
        {"Subject: x\r\n\r\n\r\n\r\n\xfc\r\n.\r\n", true, true},
        {"Subject: \xfc\r\n\r\n.\r\n", false, true},
        {"\xfc\r\n.\r\n", true, true},
        {"Subject: x\r\nMIME-Version: 1.0\r\n\r\n\xfc\r\n.\r\n", false, true},
    };
    for (size_t i = 0; i < COUNT(table); i++)
        for (size_t piece = 1; piece < 60; piece++) {
            start(0);
            take(table[i].text, strlen(table[i].text), piece, NO_LIMIT);
            ck_assert_int_eq(end(), INTAKE_GOOD);
            bool has_mime = (t.message.repairs & REPAIRED_MIME) != 0;
            ck_assert_msg(has_mime == table[i].has_mime, "row %zu", i);
            ck_assert_msg(queue_facts(t.id) ==
                              (table[i].is_8bit ? QUEUE_IS_8BIT : 0u),
                          "row %zu", i);
            ck_assert_uint_eq(queue_due(INT64_MAX, true), t.id);
            deliver();
            intake_cancel(&t);
        }
    expect_empty();
}
END_TEST

/* The limit is of what the device sends, kept or not. */
START_TEST(size_limit_counts_what_is_dropped)
{
    static const char text[] = "Bcc: 1234567890\r\nTo: x\r\n\r\n.\r\n";
    const size_t bytes = sizeof text - 1 - 3;
    for (size_t limit = bytes - 2; limit < bytes + 2; limit++)
        for (size_t piece = 1; piece < 40; piece += 6) {
            start(0);
            take(text, sizeof text - 1, piece, limit);
            ck_assert(intake_is_over(&t));
            ck_assert_uint_eq(t.wire_bytes, sizeof text - 1);
            ck_assert_int_eq(end(),
                             limit < bytes ? INTAKE_TOO_BIG : INTAKE_GOOD);
            if (t.fault == INTAKE_GOOD) {
                ck_assert_uint_eq(queue_due(INT64_MAX, true), t.id);
                deliver();
            }
            intake_cancel(&t);
            expect_empty();
        }
}
END_TEST

START_TEST(size_limit)
{
    static char wire[70000];
    static const size_t limits[] = {100, 4093, 4094, 4095, 4096, 4097, 65536};
    for (size_t i = 0; i < COUNT(limits); i++)
        for (size_t more = 0; more < 6; more++)
            for (size_t piece = 1; piece < 9000; piece += 8190) {
                size_t size = limits[i] + more - 2; /* and the CRLF */
                memset(wire, 'b', size);
                strcpy(wire + size, "\r\n.\r\n");
                start(0);
                take(wire, size + 5, piece, limits[i]);
                ck_assert(intake_is_over(&t));
                enum intake_fault fault = end();
                ck_assert_msg(fault == (more ? INTAKE_TOO_BIG : INTAKE_GOOD),
                              "limit %zu, %zu more: %d", limits[i], more,
                              fault);
                if (fault == INTAKE_GOOD) {
                    ck_assert_uint_eq(t.bytes, limits[i]);
                    ck_assert_uint_eq(queue_due(INT64_MAX, true), t.id);
                    deliver();
                }
                intake_cancel(&t);
                expect_empty();
            }
}
END_TEST

/* A2: the room is free at once, and only the true end ends. */
START_TEST(a2_too_big_is_thrown_away_to_the_true_end)
{
    static char wire[20000];
    static const char end_of_it[] =
        "\n.\r\nMAIL FROM:<evil@x>\r\n.\nx\r\n.\r\nNOOP\r\n";
    memset(wire, 'b', sizeof wire);
    strcpy(wire + 15000, end_of_it);
    size_t count = 15000 + strlen(end_of_it);
    for (size_t piece = 1; piece < 20000; piece += 997) {
        start(0);
        take(wire, count, piece, 10000);
        ck_assert(intake_is_over(&t));
        ck_assert_uint_eq(t.wire_bytes, count - 6);
        expect_empty();
        ck_assert_int_eq(end(), INTAKE_TOO_BIG);
        intake_cancel(&t);
    }
}
END_TEST

START_TEST(full_queue)
{
    static char wire[10000];
    memset(wire, 'b', sizeof wire);
    strcpy(wire + 9000, "\r\n.\r\n");
    start(0);
    queue_id hog;
    size_t room;
    while ((hog = queue_new("hog@x", 0)) != QUEUE_NONE)
        while (queue_tail(hog, QUEUE_BODY, &room) != NULL)
            queue_wrote(hog, QUEUE_BODY, room);
    take(wire, 9005, 9005, NO_LIMIT);
    ck_assert(intake_is_over(&t));
    ck_assert_int_eq(end(), INTAKE_FULL);
    intake_cancel(&t);
    ck_assert(queue_unsound() == NULL);
    struct path from = path("<from@x>");
    ck_assert(
        intake_start(&t, &from, &somebody, 0)); /* its two blocks came back */
    struct intake other;
    ck_assert(!intake_start(&other, &from, &somebody, 0));
    intake_cancel(&t);
}
END_TEST

/* All blocks but so many are somebody else's. */
static void leave_blocks(uint32_t count)
{
    struct queue_counts n;
    size_t room;
    queue_id hog = queue_new("hog@x", 0);
    for (queue_count(&n); n.blocks_free > count; queue_count(&n))
        if (queue_tail(hog, QUEUE_BODY, &room) != NULL)
            queue_wrote(hog, QUEUE_BODY, room);
        else /* a large one is kept from the last blocks */
            ck_assert((hog = queue_new("hog@x", 0)) != QUEUE_NONE);
}

/* Full in the middle of the header section, or at its very last line: thrown
 * away up to the true end, and answered once. */
START_TEST(full_queue_in_the_header)
{
    static char wire[40 * 1024];
    static const char tail[] = "Message-ID: <1@x>\r\n\r\n.\r\nNOOP\r\n";
    static const size_t steps[] = {1, 512, 100000};
    for (size_t size = 100; size < 3 * QUEUE_BLOCK_BYTES; size += 2999)
        for (size_t k = 0; k < COUNT(steps); k++) {
            queue_init();
            start(0);
            leave_blocks(1);
            put_padding(wire, size);
            strcpy(wire + size, tail);
            size_t count = size + strlen(tail);
            take(wire, count, steps[k], NO_LIMIT);
            ck_assert(intake_is_over(&t));
            ck_assert_uint_eq(t.wire_bytes, count - 6);
            enum intake_fault fault = end();
            ck_assert_msg(fault == INTAKE_GOOD || fault == INTAKE_FULL, "%d",
                          fault);
            if (size > 2 * QUEUE_BLOCK_BYTES)
                ck_assert_int_eq(fault, INTAKE_FULL);
            ck_assert(fault == INTAKE_GOOD || t.id == QUEUE_NONE);
            intake_cancel(&t);
            ck_assert(queue_unsound() == NULL);
        }
}
END_TEST

/* What is held back to the end needs room, too. */
START_TEST(full_queue_at_the_last_word)
{
    static char wire[2 * QUEUE_BLOCK_BYTES];
    unsigned full = 0;
    for (size_t size = QUEUE_BLOCK_BYTES - 30; size < QUEUE_BLOCK_BYTES + 30;
         size += 4) {
        queue_init();
        start(0);
        leave_blocks(1);
        put_padding(wire, size);
        strcpy(wire + size, "From: me@x.example\r\n.\r\n");
        take(wire, size + 23, 100000, NO_LIMIT);
        ck_assert(intake_is_over(&t));
        enum intake_fault fault = end();
        full += fault == INTAKE_FULL;
        ck_assert(fault == INTAKE_FULL || fault == INTAKE_GOOD);
        intake_cancel(&t);
        ck_assert(queue_unsound() == NULL);
    }
    ck_assert_msg(full > 0 && full < 15, "%u", full);
}
END_TEST

/* A header and no more: its last field is held until the end. */
START_TEST(last_field_is_kept)
{
    static const char text[] = "Subject: x\r\nFrom: a@b.example\r\n.\r\n";
    for (size_t piece = 1; piece < sizeof text; piece++) {
        char body[100];
        start(0);
        take(text, sizeof text - 1, piece, NO_LIMIT);
        ck_assert_int_eq(end(), INTAKE_GOOD);
        ck_assert_uint_eq(read_body(body, sizeof body), sizeof text - 4);
        ck_assert_mem_eq(body, text, sizeof text - 4);
        deliver();
        intake_cancel(&t);
    }
    expect_empty();
}
END_TEST

START_TEST(many_recipients)
{
    struct path from = path("<from@x>");
    struct queue_recipient r = {0};
    char text[32];
    unsigned count = 0;
    ck_assert(intake_start(&t, &from, &somebody, 0));
    for (; count < 500; count++) {
        snprintf(text, sizeof text, "<to%u@x>", count);
        struct path to = path(text);
        ck_assert(intake_add_recipient(&t, &to));
        ck_assert_uint_eq(t.recipients, count + 1);
    }
    ck_assert_str_eq(t.last_recipient, "to499@x");
    take("Subject: x\r\n\r\n.\r\n", 17, 17, NO_LIMIT);
    ck_assert_int_eq(end(), INTAKE_GOOD);
    ck_assert_uint_eq(queue_recipients(t.id), count);
    ck_assert_uint_eq(queue_due(INT64_MAX, true), t.id);
    for (count = 0; queue_next_recipient(t.id, &r); count++) {
        snprintf(text, sizeof text, "to%u@x", count);
        ck_assert_str_eq(r.mailbox, text);
    }
    ck_assert_uint_eq(count, 500);
    deliver();
    intake_cancel(&t);
    expect_empty();
}
END_TEST

/* The user's name is the intake's own copy: a session may forget its. */
START_TEST(user_is_copied)
{
    char user[] = "nobody";
    struct rewrite_who who = {.client.family = AF_INET, .user = user};
    struct path from = path("<from@x.example>"), to = path("<to@x>");
    ck_assert(intake_start(&t, &from, &who, 0));
    ck_assert(intake_add_recipient(&t, &to));
    memset(user, 'X', sizeof user - 1);
    ck_assert_str_eq(t.user, "nobody");
    ck_assert_str_eq(t.message.who.user, "nobody");
    /* who is not in the users_file may send as nobody: From is dropped */
    take("From: a@b.example\r\n\r\n.\r\n", 25, 25, NO_LIMIT);
    ck_assert_int_eq(end(), INTAKE_GOOD);
    ck_assert_uint_eq(t.message.repairs & REPAIRED_FROM, REPAIRED_FROM);
    ck_assert_uint_eq(queue_due(INT64_MAX, true), t.id);
    deliver();
    intake_cancel(&t);
    expect_empty();
}
END_TEST

START_TEST(loops_end)
{
    static const struct {
        unsigned hops;
        enum intake_fault fault;
    } table[] = {
        {RECEIVED_MAX - 1, INTAKE_GOOD},
        {RECEIVED_MAX, INTAKE_LOOP},
        {RECEIVED_MAX + 1, INTAKE_LOOP},
    };
    for (size_t i = 0; i < COUNT(table); i++) {
        static const char line[] = "Received: from a by b\r\n";
        start(0);
        for (unsigned k = 0; k < table[i].hops; k++)
            take(line, sizeof line - 1, sizeof line, NO_LIMIT);
        take("\r\n.\r\n", 5, 5, NO_LIMIT);
        ck_assert_int_eq(end(), table[i].fault);
        if (table[i].fault == INTAKE_GOOD) {
            queue_due(7, true);
            deliver();
        }
        intake_cancel(&t);
        expect_empty();
    }
}
END_TEST

START_TEST(names_too_long_for_the_head)
{
    static char name[2500];
    memset(name, 'n', sizeof name - 1);
    struct message_origin o = origin();
    o.hostname = name;
    start(0);
    take("x\r\n.\r\n", 6, 6, NO_LIMIT);
    ck_assert_int_eq(intake_end(&t, &o, 0), INTAKE_NAMES);
    intake_cancel(&t);
    expect_empty();
}
END_TEST

START_TEST(facts_and_envelope)
{
    static const struct {
        const char *from, *to, *body;
        unsigned facts;
    } table[] = {
        {"<a@x>", "<b@x>", "x\r\n.\r\n", 0},
        {"<a@x>", "<b@x>", "\xff\r\n.\r\n", QUEUE_IS_8BIT},
        {"<\xc3\xbc@x>", "<b@x>", "x\r\n.\r\n", QUEUE_NEEDS_UTF8},
        {"<>", "<\xc3\xbc@x>", "x\r\n.\r\n", QUEUE_NEEDS_UTF8},
    };
    for (size_t i = 0; i < COUNT(table); i++) {
        struct path from = path(table[i].from), to = path(table[i].to);
        ck_assert(intake_start(&t, &from, &somebody, 0));
        ck_assert(intake_add_recipient(&t, &to));
        take(table[i].body, strlen(table[i].body), 99, NO_LIMIT);
        ck_assert_int_eq(end(), INTAKE_GOOD);
        ck_assert_uint_eq(queue_facts(t.id), table[i].facts);
        ck_assert_str_eq(queue_reverse_path(t.id), from.mailbox);
        ck_assert_int_eq(queue_born_ms(t.id), 7);
        queue_id id = t.id;
        intake_cancel(&t); /* it is the queue's: nothing to take back */
        ck_assert_int_eq(queue_fate(id), QUEUE_HELD);
        ck_assert_uint_eq(t.id, QUEUE_NONE);
    }
}
END_TEST

/* Received names the recipient only when there is but one. */
START_TEST(for_clause)
{
    for (int recipients = 1; recipients <= 2; recipients++) {
        struct queue_reader r = {0};
        struct path more = path("<second@x>");
        char head[2048];
        size_t n;
        start(0);
        if (recipients == 2)
            ck_assert(intake_add_recipient(&t, &more));
        take("x\r\n.\r\n", 6, 1, NO_LIMIT);
        ck_assert_int_eq(end(), INTAKE_GOOD);
        ck_assert_uint_eq(queue_due(7, true), t.id);
        const uint8_t *at = queue_read(t.id, &r, &n);
        ck_assert(at != NULL && n < sizeof head);
        memcpy(head, at, n);
        head[n] = '\0';
        ck_assert((strstr(head, "for <to@x>") != NULL) == (recipients == 1));
        ck_assert(strstr(head, "second@x") == NULL);
        deliver();
        intake_cancel(&t);
    }
    expect_empty();
}
END_TEST

START_TEST(cancel_in_every_state)
{
    intake_cancel(&t); /* vacant */
    expect_empty();
    start(100000);
    intake_cancel(&t);
    expect_empty();
    start(0);
    take("half a mess", 11, 11, NO_LIMIT);
    intake_cancel(&t);
    expect_empty();
    start(0);
    take("too much", 8, 8, 3);
    intake_cancel(&t);
    expect_empty();
}
END_TEST

Suite *suite_intake(void)
{
    Suite *s = suite_create("intake");
    TCase *c = tcase_create("intake");
    tcase_add_checked_fixture(c, setup, NULL);
    tcase_set_timeout(c, 60);
    tcase_add_test(c, body_across_block_borders);
    tcase_add_test(c, header_across_block_borders);
    tcase_add_test(c, header_and_body_are_told_apart);
    tcase_add_test(c, size_limit_counts_what_is_dropped);
    tcase_add_test(c, size_limit);
    tcase_add_test(c, a2_too_big_is_thrown_away_to_the_true_end);
    tcase_add_test(c, full_queue);
    tcase_add_test(c, full_queue_in_the_header);
    tcase_add_test(c, full_queue_at_the_last_word);
    tcase_add_test(c, last_field_is_kept);
    tcase_add_test(c, many_recipients);
    tcase_add_test(c, user_is_copied);
    tcase_add_test(c, loops_end);
    tcase_add_test(c, names_too_long_for_the_head);
    tcase_add_test(c, facts_and_envelope);
    tcase_add_test(c, for_clause);
    tcase_add_test(c, cancel_in_every_state);
    suite_add_tcase(s, c);
    return s;
}
