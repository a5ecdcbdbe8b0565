/* smtp_out: whose turn it is: messages that are withdrawn, that hang, that are
 * big, or that meet a fault of the route; and connections that are ready
 * before they are needed. */
#include "smarthost_talk.h"
Suite *suite_smtp_out_turns(void);

static struct queue_counts counts(void)
{
    struct queue_counts n;
    queue_count(&n);
    return n;
}

/* ---- Withdrawn ----------------------------------------------------------- */

START_TEST(withdrawn_before_its_dot)
{
    static const enum talk_stage stages[] = {AT_MAIL, AT_RCPT, AT_DATA};
    for (size_t i = 0; i < 2 * COUNT(stages); i++) {
        talk_begin(1, "");
        queue_id id = talk_mail();
        talk_until(stages[i / 2], i % 2);
        ck_assert(queue_withdraw(id));
        talk_expect_end(); /* and not a byte more */
        ck_assert_uint_eq(talk_waiting(), 0);
        talk_expect_log("withdrawn", 1);
        talk_expect_log("rcpt=", 0);
        talk_expect_log("route=", 0);
        talk_end();
    }
}
END_TEST

/* Half a body is on its way: a smarthost that gets no dot takes nothing. */
START_TEST(withdrawn_in_mid_body)
{
    static char taken[65536];
    int segment = 1000, room = 4096;
    size_t total = 0;
    talk_begin(1, "");
    queue_id id = talk_big_mail(8000000);
    setsockopt(talk.listeners[0], IPPROTO_TCP, TCP_MAXSEG, &segment,
               sizeof segment);
    setsockopt(talk.listeners[0], SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    talk_until(AT_DATA, false);
    talk_say("354 go\r\n");
    ck_assert(queue_withdraw(id));
    for (unsigned i = 0; i < 10000; i++) {
        talk_settle();
        ssize_t n = recv(talk.fd, taken, sizeof taken, 0);
        if (n == 0 || (n < 0 && errno != EAGAIN))
            break;
        total += n > 0 ? (size_t)n : 0;
    }
    ck_assert_uint_lt(total, 8000000);
    ck_assert_uint_eq(talk_waiting(), 0);
    talk_expect_log("withdrawn", 1);
    talk_expect_log("rcpt=", 0);
    talk_stop_listening(0);
    talk_end();
}
END_TEST

START_TEST(too_late_to_withdraw)
{
    for (unsigned way = 0; way < 2; way++) {
        talk_begin(1, "");
        queue_id id = talk_mail();
        talk_until(AT_DOT, way);
        ck_assert(!queue_withdraw(id));
        ck_assert_int_eq(queue_fate(id), QUEUE_IN_FLIGHT);
        talk_say("250 took\r\n");
        talk_expect_fate("b@y.test", 'S');
        talk_end();
    }
}
END_TEST

/* The answer is lost: from then on it is in doubt, and stays so. */
START_TEST(in_doubt_for_ever)
{
    talk_begin(1, "");
    queue_id id = talk_mail();
    talk_until(AT_DOT, false);
    talk_hang_up(false);
    ck_assert_int_eq(queue_fate(id), QUEUE_IN_DOUBT);
    ck_assert(!queue_withdraw(id));
    ck_assert_uint_eq(counts().in_doubt, 1);
    talk_expect_log("in_doubt why=", 1);
    talk_advance(40);
    talk_until(AT_RCPT, false);
    ck_assert_int_eq(queue_fate(id), QUEUE_IN_DOUBT);
    ck_assert(!queue_withdraw(id));
    talk_end();
}
END_TEST

/* ---- Warm ---------------------------------------------------------------- */

/* A connection up to where the next message is due. */
static void be_warm(void)
{
    talk_accept();
    talk_say(GREETING);
    talk_expect(EHLO_LINE);
    talk_say("250 smart.test\r\n");
    talk_expect_nothing();
}

static queue_id begin_writing(void)
{
    queue_id id = queue_new("a@x.test", 0);
    size_t room;
    ck_assert(queue_add_recipient(id, "b@y.test"));
    memcpy(queue_tail(id, QUEUE_BODY, &room), BODY_TEXT, strlen(BODY_TEXT));
    queue_wrote(id, QUEUE_BODY, strlen(BODY_TEXT));
    return id;
}

START_TEST(warm_while_a_device_writes)
{
    talk_begin(1, "");
    talk_settle();
    ck_assert_int_eq(talk_take(0), -1); /* for nobody: none */
    queue_id id = begin_writing();
    be_warm();
    talk_advance(2 * CONNECTION_WARM_SECONDS - 1);
    talk_expect_nothing(); /* kept, and not doubled */
    ck_assert_int_eq(talk_take(0), -1);
    queue_commit(id, 0, talk.now_ms);
    talk_expect(MAIL_LINE);
    ck_assert_int_eq(talk_take(0), -1);
    talk_hang_up(true);
    talk_serve(3600);
    talk_end();
}
END_TEST

START_TEST(warm_and_not_needed)
{
    talk_begin(1, "");
    queue_id id = begin_writing();
    be_warm();
    queue_drop(id);
    talk_advance(CONNECTION_WARM_SECONDS);
    talk_expect("QUIT\r\n");
    talk_say("221 bye\r\n");
    talk_expect_end();
    ck_assert_int_eq(talk_take(0), -1);
    talk_end();
}
END_TEST

/* A device that takes its time, or hangs in DATA, has one; then there is none
 * before it is needed. */
START_TEST(warm_for_so_long)
{
    talk_begin(1, "");
    queue_id id = begin_writing();
    be_warm();
    talk_advance(2 * CONNECTION_WARM_SECONDS);
    talk_expect("QUIT\r\n");
    talk_say("221 bye\r\n");
    talk_expect_end();
    talk_advance(300);
    ck_assert_int_eq(talk_take(0), -1);
    queue_commit(id, 0, talk.now_ms);
    talk_until(AT_IDLE, false);
    talk_end();
}
END_TEST

/* A smarthost ends what idles: nobody's fault, and no cause to log in again
 * and again. */
START_TEST(warm_and_ended_by_the_smarthost)
{
    talk_begin(1, "");
    queue_id id = begin_writing();
    be_warm();
    talk_advance(4);
    talk_say("421 4.4.2 idle\r\n");
    talk_expect_end();
    talk_expect_log("route=", 0);
    talk_advance(300);
    ck_assert_int_eq(talk_take(0), -1);
    queue_commit(id, 0, talk.now_ms);
    talk_until(AT_IDLE, false);
    talk_expect_fate("b@y.test", 'S');
    talk_end();
}
END_TEST

/* ---- A message that hangs ------------------------------------------------ */

START_TEST(hanging_steps_aside)
{
    talk_begin(1, "connections_max = 1\n");
    talk_mail();
    talk_until(AT_DOT, false);
    int slow = talk.fd;
    talk.fd = -1;
    talk_mail_to("c@y.test");
    talk_advance_ms(HANG_SECONDS * 1000);
    ck_assert_int_eq(talk_take(0), -1);
    talk_advance_ms(1); /* it wakes by itself */
    talk_serve(1);
    talk_expect_fate("c@y.test", 'S');
    talk_expect_fate("b@y.test", '-');
    ck_assert_uint_eq(talk.connections, 1);
    ck_assert_int_gt(send(slow, "250 took\r\n", 10, 0), 0);
    talk_serve(1);
    talk_expect_fate("b@y.test", 'S');
    close(slow);
    talk_end();
}
END_TEST

/* ---- Big ones ------------------------------------------------------------ */

/* Says nothing to a mail, for ever. */
static const char *hold_mail(struct talk_client *c, const char *line)
{
    (void)c;
    return *line == 'M' || *line == 'R' || *line == 'D' ? "" : NULL;
}

START_TEST(big_ones_leave_a_connection_to_alerts)
{
    static const struct {
        const char *settings;
        unsigned big, with_alert; /* connections */
    } rows[] = {
        {"connections_max = 1\n", 1, 1},
        {"connections_max = 2\n", 1, 2},
        {"connections_max = 3\n", 2, 3},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        talk_begin(1, rows[i].settings);
        talk.rule = hold_mail;
        for (unsigned n = 0; n < 4; n++)
            talk_big_mail(QUEUE_SMALL_BYTES + 1);
        talk_serve(5);
        ck_assert_uint_eq(counts().sending, rows[i].big);
        talk_mail_to("alert@y.test");
        talk_serve(5);
        ck_assert_uint_eq(counts().sending, rows[i].with_alert);
        for (unsigned n = 0; n < TALK_CLIENTS; n++)
            if (talk.clients[n].fd)
                talk_robot_end(&talk.clients[n]);
        talk_end();
    }
}
END_TEST

/* ---- A fault of the route that a message meets --------------------------- */

/* Nobody is blamed, all mail waits, and who met it steps behind the others. */
START_TEST(route_faults_keep_the_mail)
{
    static const struct {
        enum talk_stage stage;
        const char *reply;
    } rows[] = {
        {AT_MAIL, "530 5.7.0 Authentication required\r\n"},
        {AT_RCPT, "530 5.7.0 Authentication required\r\n"},
        {AT_DATA, "530 5.7.0 Authentication required\r\n"},
        {AT_DOT, "530 5.7.0 Authentication required\r\n"},
        {AT_MAIL, "535 5.7.8 not you\r\n"},
        {AT_RCPT, "550 5.7.511 banned\r\n"},
        {AT_DOT, "550 5.7.511 banned\r\n"},
    };
    for (size_t i = 0; i < 2 * COUNT(rows); i++) {
        talk_begin(1, "connections_max = 1\n");
        talk_mail();
        queue_id other = talk_mail_to("c@y.test");
        talk_until(rows[i / 2].stage, i % 2);
        talk_say(rows[i / 2].reply);
        talk_expect_end();
        talk_expect_log("rcpt=", 0);
        talk_expect_log("in_doubt", 0);
        talk_expect_log("route=paused", 1);
        talk_expect_log("advice=\"", 1);
        ck_assert_uint_eq(talk_waiting(), 2);
        ck_assert_uint_eq(queue_tries(other), 0);
        int rest_s = atoi(strstr(talk.log, "for_s=") + 6);
        ck_assert_int_ge(rest_s, 900);
        talk_advance_ms(rest_s * 1000 - 1);
        ck_assert_int_eq(talk_take(0), -1);
        talk_advance_ms(1000);
        talk_accept();
        talk_say(GREETING);
        talk_expect(EHLO_LINE);
        talk_say("250 smart.test\r\n");
        talk_expect(MAIL_LINE);
        talk_say("250 ok\r\n");
        talk_expect("RCPT TO:<c@y.test>\r\n");
        talk_end();
    }
}
END_TEST

Suite *suite_smtp_out_turns(void)
{
    Suite *suite = suite_create("smtp_out_turns");
    TCase *c = tcase_create("turns");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, withdrawn_before_its_dot);
    tcase_add_test(c, withdrawn_in_mid_body);
    tcase_add_test(c, too_late_to_withdraw);
    tcase_add_test(c, in_doubt_for_ever);
    tcase_add_test(c, warm_while_a_device_writes);
    tcase_add_test(c, warm_and_not_needed);
    tcase_add_test(c, warm_for_so_long);
    tcase_add_test(c, warm_and_ended_by_the_smarthost);
    tcase_add_test(c, hanging_steps_aside);
    tcase_add_test(c, big_ones_leave_a_connection_to_alerts);
    tcase_add_test(c, route_faults_keep_the_mail);
    suite_add_tcase(suite, c);
    return suite;
}
