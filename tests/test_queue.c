/* queue: full is an answer, a promise holds, and no block is ever lost. */
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../config.h"
#include "../log.h"
#include "../queue.h"
Suite *suite_queue(void);

#define COUNT(table) (sizeof(table) / sizeof(table)[0])
#define BLOCK        QUEUE_BLOCK_BYTES

static void no_log(const char *line)
{
    (void)line;
}

static void setup(void)
{
    log_to(no_log);
    queue_init();
}

static void expect_sound(void)
{
    const char *why = queue_unsound();
    ck_assert_msg(why == NULL, "%s", why);
}

static struct queue_counts count_now(void)
{
    struct queue_counts n;
    queue_count(&n);
    return n;
}

static void expect_empty(void)
{
    struct queue_counts n = count_now();
    expect_sound();
    ck_assert_uint_eq(n.messages, 0);
    ck_assert_uint_eq(n.writing, 0);
    ck_assert_uint_eq(n.blocks_free, QUEUE_BLOCKS);
    ck_assert_uint_eq(n.blocks_reserved, 0);
    ck_assert_int_eq(queue_next_due_ms(true) == INT64_MAX, 1);
}

/* The byte at a place of a message: no two blocks look alike. */
static uint8_t byte_at(queue_id id, uint64_t at)
{
    return (uint8_t)(at * 7 + at / 251 + id);
}

/* Writes body bytes; returns how many found room. */
static uint64_t write_body(queue_id id, uint64_t count)
{
    uint64_t done = 0;
    while (done < count) {
        size_t room;
        uint8_t *at = queue_tail(id, QUEUE_BODY, &room);
        if (at == NULL)
            break;
        size_t n = count - done < room ? (size_t)(count - done) : room;
        for (size_t i = 0; i < n; i++)
            at[i] = byte_at(id, done + i);
        queue_wrote(id, QUEUE_BODY, n);
        done += n;
    }
    return done;
}

static void write_head(queue_id id, const char *text)
{
    size_t room;
    uint8_t *at = queue_tail(id, QUEUE_HEAD, &room);
    ck_assert(at != NULL && room >= strlen(text));
    memcpy(at, text, strlen(text));
    queue_wrote(id, QUEUE_HEAD, strlen(text));
}

static queue_id new_message(uint64_t declared)
{
    queue_id id = queue_new("from@x", declared);
    ck_assert_uint_ne(id, QUEUE_NONE);
    ck_assert(queue_add_recipient(id, "to@x"));
    return id;
}

static void settle_all(queue_id id, enum queue_verdict verdict)
{
    struct queue_recipient r = {0};
    while (queue_next_recipient(id, &r))
        if (r.verdict < QUEUE_DONE)
            queue_settle(id, &r, verdict);
}

static void deliver_all(void)
{
    for (queue_id id; (id = queue_due(INT64_MAX, true)) != QUEUE_NONE;) {
        settle_all(id, QUEUE_DONE);
        ck_assert(queue_return(id, 0));
    }
}

/* ---- What is written is read --------------------------------------------- */

static void expect_content(queue_id id, const char *head, uint64_t bytes)
{
    struct queue_reader r = {0};
    const uint8_t *at;
    size_t n, head_bytes = strlen(head);
    uint64_t done = 0;
    while ((at = queue_read(id, &r, &n)) != NULL) {
        ck_assert_uint_gt(n, 0);
        size_t take = done % 3 ? n : (n + 1) / 2; /* half a block, too */
        for (size_t i = 0; i < take; i++, done++) {
            uint8_t want = done < head_bytes ? (uint8_t)head[done]
                                             : byte_at(id, done - head_bytes);
            if (at[i] != want)
                ck_abort_msg("byte %llu of %llu differs",
                             (unsigned long long)done,
                             (unsigned long long)bytes);
        }
        queue_took(&r, take);
    }
    ck_assert_uint_eq(done, head_bytes + bytes);
    ck_assert_uint_eq(queue_bytes(id), head_bytes + bytes);
    ck_assert(queue_read(id, &r, &n) == NULL); /* the end stays the end */
}

START_TEST(read_back_around_block_borders)
{
    static const uint64_t sizes[] = {
        0,
        1,
        2,
        100,
        BLOCK - 1,
        BLOCK,
        BLOCK + 1,
        2 * BLOCK - 1,
        2 * BLOCK,
        2 * BLOCK + 1,
        7 * BLOCK - 3,
        65535,
        65536,
        65537,
        1000000,
    };
    static const char *const heads[] = {"", "R: x\r\n"};
    for (size_t i = 0; i < COUNT(sizes); i++)
        for (size_t k = 0; k < COUNT(heads); k++)
            for (int is_declared = 0; is_declared < 2; is_declared++) {
                queue_id id = new_message(is_declared ? sizes[i] : 0);
                ck_assert_uint_eq(write_body(id, sizes[i]), sizes[i]);
                if (k > 0)
                    write_head(id, heads[k]);
                queue_commit(id, QUEUE_IS_8BIT, 5);
                expect_sound();
                ck_assert_uint_eq(queue_due(5, true), id);
                expect_content(id, heads[k], sizes[i]);
                expect_content(id, heads[k], sizes[i]); /* a second try */
                ck_assert_uint_eq(queue_facts(id), QUEUE_IS_8BIT);
                ck_assert_int_eq(queue_born_ms(id), 5);
                settle_all(id, QUEUE_DONE);
                ck_assert(queue_return(id, 0));
                expect_empty();
            }
}
END_TEST

/* The head has its room even behind the longest envelope. */
START_TEST(head_has_its_room)
{
    char mailbox[386];
    memset(mailbox, 'm', sizeof mailbox - 1);
    for (size_t length = 1; length < sizeof mailbox; length += 3) {
        size_t room;
        mailbox[length] = '\0';
        queue_id id = queue_new(mailbox, 0);
        for (int i = 0; i < 20; i++)
            ck_assert(queue_add_recipient(id, mailbox));
        ck_assert(queue_tail(id, QUEUE_HEAD, &room) != NULL);
        ck_assert_uint_ge(room, 2000);
        memset(queue_tail(id, QUEUE_HEAD, &room), 'h', room);
        queue_wrote(id, QUEUE_HEAD, room);
        ck_assert(queue_tail(id, QUEUE_HEAD, &room) == NULL);
        queue_commit(id, 0, 0);
        struct queue_recipient r = {0};
        int count = 0;
        for (; queue_next_recipient(id, &r); count++)
            ck_assert_str_eq(r.mailbox, mailbox);
        ck_assert_int_eq(count, 20);
        deliver_all();
        mailbox[length] = 'm';
    }
    expect_empty();
}
END_TEST

START_TEST(thousand_recipients)
{
    char to[400], want[400];
    queue_id id = queue_new("", 0);
    for (int i = 0; i < 1000; i++) {
        snprintf(to, sizeof to, "%0*d@example.org", 1 + i % 300, i);
        ck_assert(queue_add_recipient(id, to));
    }
    write_head(id, "H: 1\r\n");
    write_body(id, 10);
    queue_commit(id, 0, 0);
    expect_sound();
    ck_assert_uint_eq(queue_recipients(id), 1000);
    ck_assert_str_eq(queue_reverse_path(id), "");
    ck_assert_uint_eq(queue_due(0, true), id);
    for (int pass = 0; pass < 2; pass++) {
        struct queue_recipient r = {0};
        int i = 0;
        for (; queue_next_recipient(id, &r); i++) {
            snprintf(want, sizeof want, "%0*d@example.org", 1 + i % 300, i);
            ck_assert_str_eq(r.mailbox, want);
            ck_assert_int_eq(r.verdict, pass == 0    ? QUEUE_OPEN
                                        : i % 3 == 0 ? QUEUE_OPEN
                                                     : QUEUE_DONE);
            if (pass == 0 && i % 3 != 0)
                queue_settle(id, &r, QUEUE_DONE);
        }
        ck_assert_int_eq(i, 1000);
        ck_assert(!queue_next_recipient(id, &r));
    }
    expect_content(id, "H: 1\r\n", 10);
    settle_all(id, QUEUE_NEVER);
    ck_assert(queue_return(id, 0));
    expect_empty();
}
END_TEST

/* ---- Full is an answer --------------------------------------------------- */

START_TEST(full_of_messages)
{
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < QUEUE_MESSAGES; i++)
            queue_commit(new_message(0), 0, i);
        ck_assert_uint_eq(queue_new("from@x", 0), QUEUE_NONE);
        ck_assert_uint_eq(count_now().messages, QUEUE_MESSAGES);
        expect_sound();
        queue_id id = queue_due(0, true); /* one goes, one comes */
        settle_all(id, QUEUE_DONE);
        ck_assert(queue_return(id, 0));
        queue_commit(new_message(0), 0, 0);
        ck_assert_uint_eq(queue_new("from@x", 0), QUEUE_NONE);
        deliver_all();
        expect_empty();
    }
}
END_TEST

START_TEST(full_of_blocks)
{
    unsigned big = 0;
    uint64_t size = 1000 * BLOCK;
    queue_id last = QUEUE_NONE, id;
    while ((id = queue_new("big@x", size)) != QUEUE_NONE) {
        queue_add_recipient(id, "to@x");
        ck_assert_uint_eq(write_body(id, size), size);
        queue_commit(id, 0, 0);
        last = id;
        big++;
    }
    ck_assert_uint_eq(big, (QUEUE_BLOCKS - QUEUE_SMALL_BLOCKS) / 1002);
    expect_sound();
    /* Undeclared and growing: refused once it is big and the slice is all
     * that is left. */
    id = new_message(0);
    uint64_t done = write_body(id, (uint64_t)QUEUE_BLOCKS * BLOCK);
    ck_assert_uint_ge(done, QUEUE_SMALL_BYTES);
    ck_assert_uint_ge(count_now().blocks_free, QUEUE_SMALL_BLOCKS - 1);
    size_t room;
    ck_assert(queue_tail(id, QUEUE_BODY, &room) == NULL);
    /* what was taken before the refusal is still good */
    ck_assert_uint_eq(queue_new("big@x", QUEUE_SMALL_BYTES + 1), QUEUE_NONE);
    queue_id alert = new_message(QUEUE_SMALL_BYTES);
    ck_assert_uint_eq(write_body(alert, QUEUE_SMALL_BYTES), QUEUE_SMALL_BYTES);
    queue_commit(alert, 0, 0);
    queue_drop(id);
    expect_sound();
    ck_assert_int_eq(queue_fate(last), QUEUE_HELD);
    deliver_all();
    expect_empty();
}
END_TEST

/* The slice for alerts is theirs to the last block, and then it is full. */
START_TEST(small_fit_while_big_are_refused)
{
    queue_id big =
        new_message((uint64_t)(QUEUE_BLOCKS - QUEUE_SMALL_BLOCKS - 2) * BLOCK);
    ck_assert_uint_eq(queue_new("b@x", QUEUE_SMALL_BYTES + 1), QUEUE_NONE);
    unsigned alerts = 0;
    while (queue_new("a@x", 1000) != QUEUE_NONE)
        alerts++;
    ck_assert_uint_eq(alerts, QUEUE_SMALL_BLOCKS / 2);
    expect_sound();
    ck_assert_uint_eq(queue_new("b@x", 0), QUEUE_NONE);
    queue_drop(big);
    ck_assert_uint_ne(queue_new("b@x", QUEUE_SMALL_BYTES + 1), QUEUE_NONE);
}
END_TEST

/* A size that no queue has, up to the largest number there is. */
START_TEST(absurd_sizes)
{
    static const uint64_t sizes[] = {
        (uint64_t)QUEUE_BLOCKS * BLOCK, UINT32_MAX, (uint64_t)UINT32_MAX + 1,
        (uint64_t)UINT32_MAX * BLOCK,   INT64_MAX,  UINT64_MAX,
    };
    for (size_t i = 0; i < COUNT(sizes); i++)
        ck_assert_uint_eq(queue_new("a@x", sizes[i]), QUEUE_NONE);
    expect_empty();
}
END_TEST

/* Takes every block that is not promised to somebody else. */
static queue_id take_all_the_rest(void)
{
    queue_id hog = QUEUE_NONE, id;
    while ((id = queue_new("hog@x", 0)) != QUEUE_NONE) {
        write_body(id, QUEUE_SMALL_BYTES);
        hog = id;
    }
    return hog;
}

START_TEST(reservation_holds)
{
    static const uint64_t sizes[] = {1, BLOCK, BLOCK + 1, 100000, 5000000};
    for (size_t i = 0; i < COUNT(sizes); i++) {
        queue_init();
        queue_id id = queue_new("from@x", sizes[i]);
        take_all_the_rest();
        ck_assert_uint_eq(queue_new("late@x", 0), QUEUE_NONE);
        ck_assert(queue_add_recipient(id, "to@x"));
        ck_assert_uint_eq(write_body(id, sizes[i]), sizes[i]);
        write_head(id, "H: 1\r\n");
        queue_commit(id, 0, 0);
        expect_sound();
        ck_assert_uint_eq(queue_due(0, true), id);
        expect_content(id, "H: 1\r\n", sizes[i]);
    }
}
END_TEST

/* Mended line ends and folds make a body longer than its device counted: so
 * much of it is promised, too, up to the last block. */
START_TEST(a_body_that_grows_by_its_repairs_fits)
{
    static const struct {
        uint64_t declared, written;
        bool fits;
    } table[] = {
        {BLOCK - 1, BLOCK - 1, true},
        {BLOCK - 1, BLOCK, true},
        {BLOCK - 1, BLOCK + 63, true},
        {20 * BLOCK - 1, 20 * BLOCK + 1, true},
        {20 * BLOCK - 1, 20 * BLOCK + 63, true},
        {20 * BLOCK - 64, 20 * BLOCK, true},
        {20 * BLOCK - 63, 20 * BLOCK + 1, true},
        {20 * BLOCK, 20 * BLOCK + 64, true},
        {20 * BLOCK - 65, 20 * BLOCK + 1, false}, /* more than 64 */
    };
    for (size_t i = 0; i < COUNT(table); i++) {
        queue_init();
        queue_id id = queue_new("from@x", table[i].declared);
        take_all_the_rest();
        ck_assert(queue_add_recipient(id, "to@x"));
        uint64_t written = write_body(id, table[i].written);
        ck_assert_msg((written == table[i].written) == table[i].fits,
                      "row %zu: %llu bytes", i, (unsigned long long)written);
        write_head(id, "H: 1\r\n");
        expect_sound();
        queue_drop(id);
        expect_sound();
    }
}
END_TEST

/* Recipients that need blocks of their own must not eat what was promised to
 * the body: they are refused instead, and the body fits. */
START_TEST(recipients_do_not_eat_the_reservation)
{
    uint64_t size = 20 * BLOCK - 1;
    unsigned taken = 0;
    char to[300];
    memset(to, 't', sizeof to);
    to[sizeof to - 1] = '\0';
    queue_id id = queue_new("from@x", size);
    take_all_the_rest();
    while (taken < 1000 && queue_add_recipient(id, to))
        taken++;
    ck_assert_uint_gt(taken, 0);
    ck_assert_uint_lt(taken, 1000);
    ck_assert_uint_eq(write_body(id, size), size);
    queue_commit(id, 0, 0);
    expect_sound();
    struct queue_recipient r = {0};
    unsigned count = 0;
    while (queue_next_recipient(id, &r))
        count++;
    ck_assert_uint_eq(count, taken);
}
END_TEST

START_TEST(recipients_that_do_not_fit)
{
    static char huge[BLOCK];
    memset(huge, 'x', sizeof huge - 1);
    queue_id id = new_message(0);
    ck_assert(!queue_add_recipient(id, huge)); /* of no block's size */
    ck_assert_uint_eq(queue_recipients(id), 1);
    ck_assert_uint_eq(queue_new(huge, 0), QUEUE_NONE);
    expect_sound();
    queue_drop(id);
    expect_empty();
}
END_TEST

START_TEST(commit_and_drop_release_the_reservation)
{
    queue_id id = new_message(1000 * BLOCK);
    ck_assert_uint_ge(count_now().blocks_reserved, 1000);
    write_body(id, 10);
    queue_commit(id, 0, 0);
    ck_assert_uint_eq(count_now().blocks_reserved, 0);
    ck_assert_uint_eq(count_now().blocks_free, QUEUE_BLOCKS - 2);
    id = new_message(1000 * BLOCK);
    queue_drop(id);
    ck_assert_uint_eq(count_now().blocks_reserved, 0);
    ck_assert_uint_eq(count_now().blocks_free, QUEUE_BLOCKS - 2);
    expect_sound();
    deliver_all();
    expect_empty();
}
END_TEST

START_TEST(more_than_declared)
{
    queue_id id = new_message(10);
    ck_assert_uint_eq(write_body(id, 300000), 300000);
    expect_sound();
    queue_commit(id, 0, 0);
    ck_assert_uint_eq(queue_due(0, true), id);
    expect_content(id, "", 300000);
}
END_TEST

/* ---- Verdicts and names -------------------------------------------------- */

START_TEST(verdicts)
{
    queue_id id = queue_new("", 0);
    for (int i = 0; i < 4; i++)
        ck_assert(queue_add_recipient(id, "a@x"));
    ck_assert_int_eq(queue_fate(id), QUEUE_WRITING);
    queue_commit(id, QUEUE_NEEDS_UTF8, 10);
    ck_assert_int_eq(queue_fate(id), QUEUE_HELD);
    static const struct {
        enum queue_verdict before[4], after[4], back[4];
        bool is_freed;
    } tries[] = {
        {{QUEUE_OPEN, QUEUE_OPEN, QUEUE_OPEN, QUEUE_OPEN},
         {QUEUE_TAKEN, QUEUE_DONE, QUEUE_NEVER, QUEUE_OPEN},
         {QUEUE_OPEN, QUEUE_DONE, QUEUE_NEVER, QUEUE_OPEN},
         false},
        {{QUEUE_OPEN, QUEUE_DONE, QUEUE_NEVER, QUEUE_OPEN},
         {QUEUE_TAKEN, QUEUE_DONE, QUEUE_NEVER, QUEUE_TAKEN},
         {QUEUE_OPEN, QUEUE_DONE, QUEUE_NEVER, QUEUE_OPEN},
         false},
        {{QUEUE_OPEN, QUEUE_DONE, QUEUE_NEVER, QUEUE_OPEN},
         {QUEUE_DONE, QUEUE_DONE, QUEUE_NEVER, QUEUE_NEVER},
         {QUEUE_OPEN},
         true},
    };
    for (unsigned t = 0; t < COUNT(tries); t++) {
        ck_assert_uint_eq(queue_due(1000 * (int64_t)t, true), QUEUE_NONE);
        ck_assert_uint_eq(queue_due(1000 * (int64_t)t + 10, true), id);
        ck_assert_uint_eq(queue_tries(id), t);
        queue_count_try(id);
        struct queue_recipient r = {0};
        for (int i = 0; queue_next_recipient(id, &r); i++) {
            ck_assert_int_eq(r.verdict, tries[t].before[i]);
            if (r.verdict < QUEUE_DONE)
                queue_settle(id, &r, tries[t].after[i]);
        }
        bool is_freed = queue_return(id, 1000 * (int64_t)(t + 1) + 10);
        ck_assert_int_eq(is_freed, tries[t].is_freed);
        expect_sound();
        r = (struct queue_recipient){0};
        for (int i = 0; !is_freed && queue_next_recipient(id, &r); i++)
            ck_assert_int_eq(r.verdict, tries[t].back[i]);
    }
    ck_assert_int_eq(queue_fate(id), QUEUE_OVER);
    expect_empty();
}
END_TEST

/* A taken one may be settled: the smarthost's word at the dot. */
START_TEST(taken_then_done)
{
    queue_id id = new_message(0);
    queue_commit(id, 0, 0);
    queue_due(0, true);
    settle_all(id, QUEUE_TAKEN);
    settle_all(id, QUEUE_DONE);
    ck_assert(queue_return(id, 0));
    expect_empty();
}
END_TEST

START_TEST(stale_ids_are_noticed)
{
    static queue_id ids[3 * QUEUE_MESSAGES];
    for (size_t i = 0; i < COUNT(ids); i++) {
        ids[i] = new_message(0);
        ck_assert_uint_ne(ids[i], QUEUE_NONE);
        if (i > 0) /* the place is the same, the name is not */
            ck_assert_uint_ne(ids[i], ids[i - 1]);
        queue_drop(ids[i]);
    }
    queue_id alive = new_message(0);
    queue_commit(alive, 0, 0);
    struct queue_recipient r = {0};
    for (size_t i = 0; i < COUNT(ids); i++) {
        ck_assert_int_eq(queue_fate(ids[i]), QUEUE_OVER);
        ck_assert_str_eq(queue_reverse_path(ids[i]), "");
        ck_assert_uint_eq(queue_bytes(ids[i]), 0);
        ck_assert_uint_eq(queue_facts(ids[i]), 0);
        ck_assert_uint_eq(queue_recipients(ids[i]), 0);
        ck_assert_int_eq(queue_born_ms(ids[i]), 0);
        ck_assert_uint_eq(queue_tries(ids[i]), 0);
        ck_assert(!queue_next_recipient(ids[i], &r));
    }
    ck_assert_int_eq(queue_fate(QUEUE_NONE), QUEUE_OVER);
    ck_assert_uint_eq(queue_walk(QUEUE_NONE), alive);
    ck_assert_uint_eq(queue_walk(alive), QUEUE_NONE);
}
END_TEST

/* ---- Who is due ---------------------------------------------------------- */

static uint32_t seed = 1;

static uint32_t dice(uint32_t sides)
{
    seed = seed * 1664525 + 1013904223;
    return (seed >> 8) % sides;
}

START_TEST(due_order)
{
    static const struct {
        int64_t committed_ms[4];
        int order[4];
    } table[] = {
        {{1, 2, 3, 4}, {0, 1, 2, 3}},
        {{4, 3, 2, 1}, {3, 2, 1, 0}},
        {{2, 4, 1, 3}, {2, 0, 3, 1}},
    };
    for (size_t i = 0; i < COUNT(table); i++) {
        queue_id ids[4];
        for (int k = 0; k < 4; k++) {
            ids[k] = new_message(0);
            queue_commit(ids[k], 0, table[i].committed_ms[k]);
        }
        ck_assert_uint_eq(queue_due(0, true), QUEUE_NONE);
        for (int k = 0; k < 4; k++) {
            queue_id id = ids[table[i].order[k]];
            ck_assert_int_eq(queue_next_due_ms(true), k + 1);
            ck_assert_uint_eq(queue_due(k + 1, true), id);
            ck_assert_uint_eq(queue_due(k + 1, true), QUEUE_NONE);
            settle_all(id, QUEUE_DONE);
            ck_assert(queue_return(id, 0));
        }
        expect_empty();
    }
}
END_TEST

/* A message of so many bytes, committed. */
static queue_id commit_of(size_t bytes, int64_t now_ms)
{
    queue_id id = new_message(0);
    ck_assert_uint_eq(write_body(id, bytes), bytes);
    queue_commit(id, 0, now_ms);
    return id;
}

START_TEST(alerts_overtake_scans)
{
    static const struct {
        int64_t big_ms, small_ms, now_ms;
        bool is_small_first;
    } table[] = {
        {5, 5, 5, true},
        {1, 9, 9, true},
        {9, 1, 9, true},
        {1, 9, 8, false}, /* the alert is not due yet */
        {1, 9, 1 + QUEUE_YIELD_MS, true},
        {1, 9, 2 + QUEUE_YIELD_MS, false}, /* it has waited for long enough */
        {9, 1, 10 + QUEUE_YIELD_MS, true}, /* and so has the alert */
        {9, 9, 10 + QUEUE_YIELD_MS, true},
    };
    for (size_t i = 0; i < COUNT(table); i++) {
        queue_id big = commit_of(QUEUE_SMALL_BYTES + 1, table[i].big_ms);
        queue_id small = commit_of(QUEUE_SMALL_BYTES, table[i].small_ms);
        queue_id first = table[i].is_small_first ? small : big;
        int64_t earliest_ms = table[i].big_ms < table[i].small_ms
                                  ? table[i].big_ms
                                  : table[i].small_ms;
        ck_assert_int_eq(queue_next_due_ms(true), earliest_ms);
        ck_assert_int_eq(queue_next_due_ms(false), table[i].small_ms);
        ck_assert_uint_eq(queue_due(table[i].now_ms, true), first);
        expect_sound();
        settle_all(first, QUEUE_DONE);
        queue_return(first, 0);
        deliver_all();
        expect_empty();
    }
}
END_TEST

START_TEST(scans_wait_where_only_alerts_may_go)
{
    queue_id declared = new_message(QUEUE_SMALL_BYTES + 1); /* and sent less */
    queue_commit(declared, 0, 1);
    queue_id big = commit_of(QUEUE_SMALL_BYTES + 1, 2);
    ck_assert_uint_eq(queue_due(1000, false), QUEUE_NONE);
    ck_assert_int_eq(queue_next_due_ms(false), INT64_MAX);
    queue_id small = commit_of(10, 3);
    ck_assert_uint_eq(queue_due(1000, false), small);
    ck_assert_uint_eq(queue_due(1000, false), QUEUE_NONE);
    ck_assert_uint_eq(queue_older_than(2), declared); /* big or not */
    ck_assert_uint_eq(queue_due(1000, true), big);
    ck_assert_uint_eq(queue_due(1000, true), QUEUE_NONE);
    ck_assert(!queue_return(big, 7));
    ck_assert_int_eq(queue_next_due_ms(true), 7);
    expect_sound();
}
END_TEST

START_TEST(older_than)
{
    queue_id ids[5];
    for (int i = 0; i < 5; i++) {
        ids[i] = new_message(0);
        queue_commit(ids[i], 0, 100 * i);
    }
    ck_assert_uint_eq(queue_older_than(0), QUEUE_NONE);
    ck_assert_uint_eq(queue_older_than(1), ids[0]);
    ck_assert_uint_eq(queue_older_than(100), QUEUE_NONE); /* it is lent */
    ck_assert(!queue_return(ids[0], 99999)); /* due late, born early */
    ck_assert_uint_eq(queue_older_than(100), ids[0]);
    expect_sound();
    unsigned found = 0;
    while (queue_older_than(401) != QUEUE_NONE)
        found++;
    ck_assert_uint_eq(found, 4);
    expect_sound();
}
END_TEST

/* ---- Every move in every state ------------------------------------------- */

/* The states by letters: Writing, Queued, Lent, Flying; small ones: in doubt.
 * X: lent and withdrawn; 0: gone. */
static char state_of(queue_id id)
{
    struct queue_view v;
    enum queue_fate fate = queue_fate(id);
    if (fate == QUEUE_WRITING)
        return 'W';
    if (fate == QUEUE_OVER)
        return queue_is_withdrawn(id) ? 'X' : '0';
    ck_assert(queue_look(id, &v));
    ck_assert_int_eq(v.is_in_doubt, fate == QUEUE_IN_DOUBT);
    char letter = strcmp(v.state, "waiting") == 0   ? 'Q'
                  : strcmp(v.state, "sending") == 0 ? 'L'
                                                    : 'F';
    if (!v.is_in_doubt)
        ck_assert_int_eq(fate, letter == 'F' ? QUEUE_IN_FLIGHT : QUEUE_HELD);
    return (char)(v.is_in_doubt ? letter + 'a' - 'A' : letter);
}

static queue_id in_state(char state)
{
    bool is_in_doubt = state == 'q' || state == 'l' || state == 'f';
    queue_id id = new_message(0);
    if (state == 'W')
        return id;
    queue_commit(id, 0, 0);
    if (state == 'Q')
        return id;
    ck_assert_uint_eq(queue_due(0, true), id);
    if (is_in_doubt) {
        ck_assert(queue_launch(id));
        queue_land(id, false);
    }
    if (state == 'X')
        ck_assert(queue_withdraw(id));
    if (state == 'F' || state == 'f')
        ck_assert(queue_launch(id));
    if (state == 'q')
        ck_assert(!queue_return(id, 0));
    if (state == '0') {
        settle_all(id, QUEUE_DONE);
        ck_assert(queue_return(id, 0));
    }
    ck_assert_int_eq(state_of(id), state);
    return id;
}

/* What it says, where it says something. */
static bool make_move(size_t move, queue_id id)
{
    struct queue_recipient r = {0};
    struct queue_reader reader = {0};
    size_t count;
    switch (move) {
    case 0: queue_commit(id, 0, 0); return true;
    case 1: queue_drop(id); return true;
    case 2: return queue_due(0, true) == id;
    case 3: return queue_launch(id);
    case 4: queue_land(id, true); return true;
    case 5: queue_land(id, false); return true;
    case 6: queue_return(id, 0); return true;
    case 7: return queue_withdraw(id);
    case 8: queue_count_try(id); return true;
    case 9: queue_read(id, &reader, &count); return true;
    default:
        queue_next_recipient(id, &r);
        queue_settle(id, &r, QUEUE_TAKEN);
        return true;
    }
}
#define MOVES 11

/* What each becomes; a blank: it refuses, and all stays; !: it dies.
 * commit, drop, due, launch, land answered, unanswered, return, withdraw,
 * count_try, read, settle */
static const struct {
    char state;
    const char *becomes;
} moves[] = {
    {'W', "Q0 !WW! !!!"}, {'Q', "!!L!QQ!0!!!"}, {'L', "!! FLLQXLLL"},
    {'F', "!! !Ll! !!F"}, {'X', "!!  XX0 XXX"}, {'q', "!!l!qq! !!!"},
    {'l', "!! fllq lll"}, {'f', "!! !ll! !!f"}, {'0', "!! !00! !!!"},
};

START_TEST(every_move_in_every_state)
{
    for (size_t i = 0; i < COUNT(moves); i++)
        for (size_t move = 0; move < MOVES; move++) {
            char becomes = moves[i].becomes[move];
            if (becomes == '!')
                continue;
            queue_init();
            queue_id id = in_state(moves[i].state);
            bool is_made = make_move(move, id);
            ck_assert_msg(is_made == (becomes != ' '), "%c, move %zu",
                          moves[i].state, move);
            char now = state_of(id);
            ck_assert_msg(now == (is_made ? becomes : moves[i].state),
                          "%c, move %zu: %c", moves[i].state, move, now);
            expect_sound();
        }
}
END_TEST

START_TEST(illegal_moves_abort)
{
    if (moves[(size_t)_i / MOVES].becomes[_i % MOVES] != '!')
        raise(SIGABRT); /* no business of this test */
    queue_id id = in_state(moves[(size_t)_i / MOVES].state);
    make_move((size_t)_i % MOVES, id);
}
END_TEST

/* A withdrawn one is nobody's loss, and its room is free at once, or when it
 * is given back. */
START_TEST(withdrawn_is_not_counted)
{
    queue_id waiting = new_message(0), lent = in_state('L');
    queue_commit(waiting, 0, 0);
    queue_promise(lent);
    ck_assert_uint_eq(count_now().messages, 2);
    ck_assert_uint_eq(count_now().sending, 1);
    ck_assert(queue_withdraw(lent));
    ck_assert(queue_withdraw(waiting));
    ck_assert_uint_eq(count_now().messages, 0);
    ck_assert_uint_eq(count_now().sending, 0);
    ck_assert_uint_eq(count_now().promised, 0);
    ck_assert_int_eq(queue_next_due_ms(true), INT64_MAX);
    ck_assert_uint_ne(count_now().blocks_free, QUEUE_BLOCKS);
    ck_assert(queue_return(lent, 0));
    expect_empty();
    expect_sound();
}
END_TEST

START_TEST(promises_and_doubts_are_counted)
{
    queue_id id = new_message(0);
    struct queue_view v;
    queue_promise(id); /* nothing is committed: nothing is promised */
    queue_promise(QUEUE_NONE);
    ck_assert(!queue_look(id, &v));
    queue_commit(id, 0, 40);
    ck_assert_uint_eq(count_now().promised, 0);
    ck_assert_int_eq(count_now().oldest_ms, 40);
    queue_promise(id);
    queue_promise(id);
    ck_assert_uint_eq(count_now().promised, 1);
    ck_assert_uint_eq(queue_due(40, true), id);
    ck_assert(queue_launch(id));
    queue_land(id, false);
    ck_assert_uint_eq(count_now().in_doubt, 1);
    ck_assert(queue_launch(id)); /* once more; an answer ends no doubt about */
    queue_land(id, true);        /* the first time */
    ck_assert_int_eq(queue_fate(id), QUEUE_IN_DOUBT);
    ck_assert(!queue_return(id, 99));
    ck_assert(queue_look(id, &v));
    ck_assert_str_eq(v.state, "waiting");
    ck_assert_uint_eq(v.open_recipients, 1);
    ck_assert_int_eq(v.due_ms, 99);
    ck_assert(v.is_promised && v.is_in_doubt);
    deliver_all();
    expect_empty();
    ck_assert_uint_eq(count_now().promised + count_now().in_doubt, 0);
    queue_id next = new_message(0); /* in the same place */
    queue_commit(next, 0, 0);
    ck_assert(queue_look(next, &v));
    ck_assert(!v.is_promised && !v.is_in_doubt);
    deliver_all();
}
END_TEST

/* ---- A long random walk beside a simple model ---------------------------- */

#define MODEL_MAX 300

enum model_state {
    M_NONE,
    M_WRITING,
    M_WAITING,
    M_LENT,
    M_FLYING
};

static struct model {
    enum model_state state;
    queue_id id;
    uint64_t bytes, declared;
    int64_t due_ms;
    unsigned recipients, open;
    bool is_in_doubt, is_withdrawn;
} model[MODEL_MAX];

static struct model *pick(enum model_state state)
{
    uint32_t start = dice(MODEL_MAX);
    for (uint32_t i = 0; i < MODEL_MAX; i++) {
        struct model *m = &model[(start + i) % MODEL_MAX];
        if (m->state == state)
            return m;
    }
    return NULL;
}

static void step_new(void)
{
    struct model *m = pick(M_NONE);
    if (m == NULL)
        return;
    uint64_t declared = dice(3) == 0 ? dice(2000000) : 0;
    m->id = queue_new("from@x", declared);
    if (m->id == QUEUE_NONE)
        return;
    m->state = M_WRITING;
    m->is_in_doubt = m->is_withdrawn = false;
    m->declared = declared;
    m->bytes = 0;
    m->recipients = m->open = 0;
}

static void step_write(struct model *m)
{
    uint64_t room = queue_bytes(m->id);
    ck_assert_uint_eq(room, m->bytes);
    if (dice(2) && m->recipients < 200) {
        m->open = m->recipients += queue_add_recipient(m->id, "to@example.org");
        return;
    }
    for (uint32_t n = dice(60); n > 0; n--) {
        size_t some;
        uint8_t *at = queue_tail(m->id, QUEUE_BODY, &some);
        if (at == NULL)
            return;
        some = 1 + dice((uint32_t)some);
        memset(at, (int)m->id & 0xff, some);
        queue_wrote(m->id, QUEUE_BODY, some);
        m->bytes += some;
    }
}

static void step_finish(struct model *m, int64_t now_ms)
{
    if (dice(4) == 0 || m->recipients == 0) {
        queue_drop(m->id);
        m->state = M_NONE;
        return;
    }
    queue_commit(m->id, 0, now_ms);
    m->due_ms = now_ms;
    m->state = M_WAITING;
}

static bool is_big_model(const struct model *m)
{
    return m->bytes > QUEUE_SMALL_BYTES || m->declared > QUEUE_SMALL_BYTES;
}

static void step_due(int64_t now_ms)
{
    bool may_be_big = dice(3) > 0;
    queue_id id = queue_due(now_ms, may_be_big);
    struct model *lent = NULL;
    int64_t first_ms[2] = {INT64_MAX, INT64_MAX}; /* of small and of big */
    for (int i = 0; i < MODEL_MAX; i++)
        if (model[i].state == M_WAITING) {
            bool is_big = is_big_model(&model[i]);
            if (model[i].due_ms < first_ms[is_big])
                first_ms[is_big] = model[i].due_ms;
            if (model[i].id == id)
                lent = &model[i];
        }
    bool has_small = first_ms[0] <= now_ms;
    bool has_big = may_be_big && first_ms[1] <= now_ms;
    bool has_yielded = has_big && first_ms[1] + QUEUE_YIELD_MS < now_ms &&
                       first_ms[1] < first_ms[0];
    ck_assert((id != QUEUE_NONE) == (has_small || has_big));
    if (id == QUEUE_NONE)
        return;
    ck_assert(lent != NULL);
    bool is_big = !has_small || has_yielded;
    ck_assert_int_eq(is_big_model(lent), is_big);
    ck_assert_int_eq(lent->due_ms, first_ms[is_big]);
    lent->state = M_LENT;
}

static void step_withdraw(struct model *m)
{
    bool may = (m->state == M_WAITING || m->state == M_LENT) &&
               !m->is_in_doubt && !m->is_withdrawn;
    ck_assert_int_eq(queue_withdraw(m->id), may);
    if (!may)
        return;
    ck_assert_int_eq(queue_fate(m->id), QUEUE_OVER);
    if (m->state == M_WAITING)
        m->state = M_NONE;
    else
        m->is_withdrawn = true;
}

static void step_fly(struct model *m)
{
    if (m->state == M_LENT) {
        ck_assert_int_eq(queue_launch(m->id), !m->is_withdrawn);
        m->state = m->is_withdrawn ? M_LENT : M_FLYING;
        return;
    }
    bool is_answered = dice(2);
    queue_land(m->id, is_answered);
    m->is_in_doubt |= !is_answered;
    m->state = M_LENT;
    ck_assert_int_eq(queue_fate(m->id),
                     m->is_in_doubt ? QUEUE_IN_DOUBT : QUEUE_HELD);
}

static void expect_bytes(const struct model *m)
{
    struct queue_reader r = {0};
    uint64_t done = 0;
    size_t n;
    for (const uint8_t *at; (at = queue_read(m->id, &r, &n)) != NULL;) {
        ck_assert(at[0] == (m->id & 0xff) && at[n - 1] == (m->id & 0xff));
        done += n;
        queue_took(&r, n);
    }
    ck_assert_uint_eq(done, m->bytes);
}

static void step_return(struct model *m, int64_t now_ms)
{
    struct queue_recipient r = {0};
    unsigned seen = 0;
    expect_bytes(m);
    for (; queue_next_recipient(m->id, &r); seen++) {
        ck_assert_str_eq(r.mailbox, "to@example.org");
        if (r.verdict >= QUEUE_DONE)
            continue;
        enum queue_verdict verdict = (enum queue_verdict)dice(4);
        queue_settle(m->id, &r, verdict);
        m->open -= verdict >= QUEUE_DONE;
    }
    ck_assert_uint_eq(seen, m->recipients);
    m->due_ms = now_ms + dice(5000);
    bool is_freed = queue_return(m->id, m->due_ms);
    ck_assert(is_freed == (m->open == 0 || m->is_withdrawn));
    m->state = is_freed ? M_NONE : M_WAITING;
}

static void walk_step(int64_t now_ms)
{
    struct model *m;
    switch (dice(12)) {
    case 0: step_new(); break;
    case 1:
    case 2:
    case 3:
        if ((m = pick(M_WRITING)) != NULL)
            step_write(m);
        break;
    case 4:
        if ((m = pick(M_WRITING)) != NULL)
            step_finish(m, now_ms);
        break;
    case 5:
    case 6: step_due(now_ms); break;
    case 7:
    case 8:
        if ((m = pick(M_LENT)) != NULL)
            step_return(m, now_ms);
        break;
    case 9:
        if ((m = pick((enum model_state)(M_WRITING + dice(4)))) != NULL)
            step_withdraw(m);
        break;
    case 10:
    case 11:
        if ((m = pick(dice(2) ? M_LENT : M_FLYING)) != NULL)
            step_fly(m);
        break;
    }
}

START_TEST(random_walk)
{
    memset(model, 0, sizeof model);
    seed = 20;
    for (int i = 0; i < 100000; i++) {
        walk_step(i);
        if (i % 100 == 0)
            expect_sound();
    }
    for (int i = 0; i < MODEL_MAX; i++) {
        if (model[i].state == M_WRITING)
            queue_drop(model[i].id);
        if (model[i].state == M_FLYING)
            queue_land(model[i].id, true);
        if (model[i].state >= M_LENT)
            queue_return(model[i].id, 0);
    }
    expect_sound();
    deliver_all();
    expect_empty();
}
END_TEST

/* ---- Our own mistakes die at once ---------------------------------------- */

static void mistake(int which)
{
    size_t room;
    struct queue_recipient r = {0};
    struct queue_reader reader = {0};
    queue_id writing = new_message(0), waiting = new_message(0);
    queue_id lent = new_message(0);
    queue_commit(lent, 0, 0);
    queue_due(0, true);
    queue_commit(waiting, 0, 1);
    queue_next_recipient(lent, &r);
    switch (which) {
    case 0:
        queue_settle(lent, &r, QUEUE_DONE); /* twice */
        queue_settle(lent, &r, QUEUE_DONE);
        break;
    case 1:
        queue_settle(lent, &r, QUEUE_NEVER);
        queue_settle(lent, &r, QUEUE_OPEN);
        break;
    case 2: queue_settle(waiting, &r, QUEUE_DONE); break;
    case 3: queue_return(waiting, 0); break;
    case 4: queue_return(writing, 0); break;
    case 5: queue_commit(waiting, 0, 0); break;
    case 6: queue_drop(waiting); break;
    case 7: queue_drop(lent); break;
    case 8:
        queue_drop(writing);
        queue_drop(writing);
        break;
    case 9: queue_add_recipient(waiting, "a@x"); break;
    case 10: queue_tail(lent, QUEUE_BODY, &room); break;
    case 11: queue_read(waiting, &reader, &room); break;
    case 12: queue_read(writing, &reader, &room); break;
    case 13: queue_count_try(waiting); break;
    case 14: queue_drop(QUEUE_NONE); break;
    case 15:
        queue_tail(writing, QUEUE_BODY, &room);
        queue_wrote(writing, QUEUE_BODY, room + 1);
        break;
    case 16:
        queue_return(lent, 0);
        queue_return(lent, 0);
        break;
    }
}
#define MISTAKES 17

START_TEST(own_mistakes_abort)
{
    mistake(_i);
}
END_TEST

START_TEST(retry_arithmetic)
{
    static const struct {
        int64_t age_ms, wait_ms;
    } table[] = {
        {-5000, 15000}, /* a clock that ran backwards */
        {0, 15000},       {14999, 15000},      {15000, 15000},
        {15001, 15001},   {600000, 600000},    {900000, 900000},
        {900001, 900000}, {INT64_MAX, 900000},
    };
    for (size_t i = 0; i < COUNT(table); i++)
        ck_assert_int_eq(queue_retry_ms(table[i].age_ms, 15000, 900000),
                         table[i].wait_ms);
    ck_assert_int_eq(queue_retry_ms(5, 7, 7), 7);
    /* so the tries come at 0, 15, 30, 60, 120 s ... */
    int64_t age_ms = 0, sum = 0;
    for (int i = 0; i < 7; i++, sum = age_ms)
        age_ms += queue_retry_ms(age_ms, 15000, 900000);
    ck_assert_int_eq(sum, 960000);
}
END_TEST

Suite *suite_queue(void)
{
    Suite *s = suite_create("queue");
    TCase *c = tcase_create("queue");
    tcase_add_checked_fixture(c, setup, NULL);
    tcase_set_timeout(c, 120);
    tcase_add_test(c, read_back_around_block_borders);
    tcase_add_test(c, head_has_its_room);
    tcase_add_test(c, thousand_recipients);
    tcase_add_test(c, full_of_messages);
    tcase_add_test(c, full_of_blocks);
    tcase_add_test(c, small_fit_while_big_are_refused);
    tcase_add_test(c, absurd_sizes);
    tcase_add_test(c, reservation_holds);
    tcase_add_test(c, a_body_that_grows_by_its_repairs_fits);
    tcase_add_test(c, recipients_do_not_eat_the_reservation);
    tcase_add_test(c, recipients_that_do_not_fit);
    tcase_add_test(c, commit_and_drop_release_the_reservation);
    tcase_add_test(c, more_than_declared);
    tcase_add_test(c, verdicts);
    tcase_add_test(c, taken_then_done);
    tcase_add_test(c, stale_ids_are_noticed);
    tcase_add_test(c, due_order);
    tcase_add_test(c, alerts_overtake_scans);
    tcase_add_test(c, scans_wait_where_only_alerts_may_go);
    tcase_add_test(c, older_than);
    tcase_add_test(c, every_move_in_every_state);
    tcase_add_test(c, withdrawn_is_not_counted);
    tcase_add_test(c, promises_and_doubts_are_counted);
    tcase_add_test(c, random_walk);
    tcase_add_test(c, retry_arithmetic);
    const char *fork = getenv("CK_FORK"); /* a death needs its own process */
    if (fork == NULL || strcmp(fork, "no") != 0) {
        tcase_add_loop_test_raise_signal(c, own_mistakes_abort, SIGABRT, 0,
                                         MISTAKES);
        tcase_add_loop_test_raise_signal(c, illegal_moves_abort, SIGABRT, 0,
                                         COUNT(moves) * MOVES);
    }
    suite_add_tcase(s, c);
    return s;
}
