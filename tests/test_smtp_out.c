/* smtp_out, smtp_courier, route, fate, sasl: the protocol as it should go,
 * and the verdicts. The smarthost that breaks it is in
 * test_smtp_out_faults.c. */
#include "smarthost_talk.h"
Suite *suite_smtp_out(void);

/* ---- One mail, word for word --------------------------------------------- */

START_TEST(lock_step)
{
    static const struct talk script[] = {
        {'a', ""},
        {'=', ""},
        {'<', GREETING},
        {'>', EHLO_LINE},
        {'<', "250 hello\r\n"},
        {'>', MAIL_LINE},
        {'=', ""},
        {'<', "250 ok\r\n"},
        {'>', RCPT_LINE},
        {'=', ""},
        {'<', "250 ok\r\n"},
        {'>', DATA_LINE},
        {'=', ""},
        {'<', "354 go\r\n"},
        {'>', BODY_WIRE},
        {'=', ""},
        {'<', "250 took\r\n"},
        {'t', "4"},
        {'=', ""},
        {'t', "1"},
        {'>', "QUIT\r\n"},
        {'<', "221 bye\r\n"},
        {'e', ""},
        {0, NULL},
    };
    talk_both_ways("", script, 'S');
}
END_TEST

START_TEST(pipelined)
{
    static const struct talk script[] = {
        {'a', ""},
        {'<', GREETING},
        {'>', EHLO_LINE},
        {'<', "250-hello\r\n250-pipelining\r\n250 HELP\r\n"},
        {'>', MAIL_LINE RCPT_LINE DATA_LINE},
        {'=', ""},
        {'<', "250-2.1.0 two\r\n250 2.1.0 lines\r\n250 ok\r\n354 go\r\n"},
        {'>', BODY_WIRE},
        {'=', ""},
        {'<', "250 took\r\n"},
        {'t', "5"},
        {'>', "QUIT\r\n"},
        {'<', "221 bye\r\n"},
        {'e', ""},
        {0, NULL},
    };
    talk_both_ways("", script, 'S');
}
END_TEST

/* B21: the pipeline has left; its replies come one by one, late. */
START_TEST(b21_pipelined_replies_are_delayed)
{
    static const struct talk script[] = {
        {'a', ""},
        {'<', GREETING},
        {'>', EHLO_LINE},
        {'<', "250-hello\r\n250 PIPELINING\r\n"},
        {'>', MAIL_LINE RCPT_LINE DATA_LINE},
        {'t', "200"},
        {'=', ""},
        {'<', "250 ok\r\n"},
        {'t', "200"},
        {'=', ""},
        {'<', "250 ok\r\n"},
        {'t', "100"},
        {'=', ""},
        {'<', "354 go\r\n"},
        {'>', BODY_WIRE},
        {'t', "500"},
        {'<', "250 took\r\n"},
        {0, NULL},
    };
    talk_both_ways("", script, 'S');
}
END_TEST

START_TEST(mail_parameters_when_offered_and_needed)
{
    static const struct {
        const char *extensions;
        unsigned facts;
        const char *mail;
    } rows[] = {
        {"250 HELP\r\n", 0, MAIL_LINE},
        {"250 HELP\r\n", QUEUE_IS_8BIT, MAIL_LINE},
        {"250 8BITMIME\r\n", 0, MAIL_LINE},
        {"250 8BITMIME\r\n", QUEUE_IS_8BIT,
         "MAIL FROM:<a@x.test> BODY=8BITMIME\r\n"},
        {"250 SIZE\r\n", 0, "MAIL FROM:<a@x.test> SIZE=22\r\n"},
        {"250 SIZE 1000\r\n", 0, "MAIL FROM:<a@x.test> SIZE=22\r\n"},
        {"250 SMTPUTF8\r\n", 0, MAIL_LINE},
        {"250 SMTPUTF8\r\n", QUEUE_NEEDS_UTF8,
         "MAIL FROM:<a@x.test> SMTPUTF8\r\n"},
        {"250-size 99\r\n250-8BitMime\r\n250 smtputf8\r\n",
         QUEUE_IS_8BIT | QUEUE_NEEDS_UTF8,
         "MAIL FROM:<a@x.test> SIZE=22 BODY=8BITMIME SMTPUTF8\r\n"},
        {"250 X8BITMIME\r\n", QUEUE_IS_8BIT, MAIL_LINE},
        {"250 SIZEX\r\n", 0, MAIL_LINE},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        talk_begin(1, "");
        talk_mail_of("a@x.test", "b@y.test", BODY_TEXT, strlen(BODY_TEXT),
                     rows[i].facts);
        talk_until(AT_EHLO, false);
        talk_say("250-8BITMIME SIZE smtputf8 are my name\r\n");
        talk_say(rows[i].extensions);
        talk_expect(rows[i].mail);
        talk_expect_nothing();
        talk_end();
    }
}
END_TEST

START_TEST(smtputf8_not_offered_refuses_that_mail_alone)
{
    talk_begin(1, "");
    talk_mail_of("a@x.test", "b@y.test", BODY_TEXT, strlen(BODY_TEXT),
                 QUEUE_NEEDS_UTF8);
    talk_mail_to("c@y.test");
    talk_until(AT_EHLO, false);
    talk_say("250 smart.test\r\n");
    talk_expect(MAIL_LINE);
    talk_expect_fate("b@y.test", 'R');
    talk_expect_log("5.6.7", 1);
    talk_say("250 ok\r\n");
    talk_expect("RCPT TO:<c@y.test>\r\n");
    talk_end();
}
END_TEST

START_TEST(null_reverse_path)
{
    talk_begin(1, "");
    talk_mail_of("", "b@y.test", BODY_TEXT, strlen(BODY_TEXT), 0);
    talk_until(AT_EHLO, false);
    talk_say("250 smart.test\r\n");
    talk_expect("MAIL FROM:<>\r\n");
    talk_end();
}
END_TEST

START_TEST(bodies_on_the_wire)
{
    static const struct {
        const char *body, *wire;
    } rows[] = {
        {"hi\r\n", "hi\r\n.\r\n"},
        {"no final line end", "no final line end\r\n.\r\n"},
        {"", ".\r\n"},
        {".\r\n", "..\r\n.\r\n"},
        {".", "..\r\n.\r\n"},
        {"..\r\n", "...\r\n.\r\n"},
        {".a\r\nb.\r\n.\r\nc\r\n", "..a\r\nb.\r\n..\r\nc\r\n.\r\n"},
        {"a\r\n.\r\nQUIT\r\n", "a\r\n..\r\nQUIT\r\n.\r\n"},
        {"gr\xfc\xdf\xc3\xa9\r\n", "gr\xfc\xdf\xc3\xa9\r\n.\r\n"},
        {"\r\n\r\n", "\r\n\r\n.\r\n"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        talk_begin(1, TALK_LOGIN);
        talk_mail_of("a@x.test", "b@y.test", rows[i].body, strlen(rows[i].body),
                     QUEUE_IS_8BIT);
        talk_until(AT_DATA, i % 2);
        talk_say("354 go\r\n");
        talk_expect(rows[i].wire);
        talk_expect_nothing();
        talk_say("250 took\r\n");
        talk_expect_fate("b@y.test", 'S');
        talk_end();
    }
}
END_TEST

/* Head, then body; longer than all buffers. */
START_TEST(big_body_arrives_whole)
{
    const size_t bytes = 3000000;
    size_t got = 0, size = 4 * bytes;
    char *all = malloc(size), *body = malloc(bytes);
    talk_begin(1, "");
    for (size_t i = 0; i < bytes; i++)
        body[i] = i % 7 == 5 ? '\r' : i % 7 == 6 ? '\n' : i % 7 ? 'x' : '.';
    queue_id id = queue_new("a@x.test", bytes);
    ck_assert(queue_add_recipient(id, "b@y.test"));
    size_t room;
    memcpy(queue_tail(id, QUEUE_HEAD, &room), "Date: now\r\n", 11);
    queue_wrote(id, QUEUE_HEAD, 11);
    for (size_t i = 0; i < bytes; i += room) {
        uint8_t *at = queue_tail(id, QUEUE_BODY, &room);
        room = room < bytes - i ? room : bytes - i;
        memcpy(at, body + i, room);
        queue_wrote(id, QUEUE_BODY, room);
    }
    queue_commit(id, 0, talk.now_ms);
    talk_until(AT_DATA, true);
    talk_say("354 go\r\n");
    for (unsigned idle = 0; idle < 100; idle++) {
        ssize_t n = recv(talk.fd, all + got, size - got, 0);
        if (n > 0) {
            got += (size_t)n;
            idle = 0;
        }
        talk_turn(n > 0 ? 0 : 1);
    }
    ck_assert_uint_gt(got, bytes);
    ck_assert_int_eq(memcmp(all, "Date: now\r\n", 11), 0);
    ck_assert_int_eq(memcmp(all + got - 5, "\r\n.\r\n", 3), 0);
    size_t at = 11;
    for (size_t i = 0; i < bytes; i++) {
        if (i % 7 == 0)
            ck_assert_int_eq(all[at++], '.');
        ck_assert_msg(all[at++] == body[i], "byte %zu", i);
    }
    talk_say("250 took\r\n");
    talk_expect_fate("b@y.test", 'S');
    free(all);
    free(body);
    talk_end();
}
END_TEST

/* ---- Login --------------------------------------------------------------- */

START_TEST(login_mechanisms)
{
    static const struct {
        const char *settings, *offered, *first;
    } rows[] = {
        {"", "AUTH PLAIN LOGIN", TALK_PLAIN},
        {"", "AUTH LOGIN PLAIN", TALK_PLAIN},
        {"", "AUTH LOGIN", "AUTH LOGIN\r\n"},
        {"", "AUTH=LOGIN", "AUTH LOGIN\r\n"},
        {"", "auth=login plain", TALK_PLAIN},
        {"", "auth x-y  login", "AUTH LOGIN\r\n"},
        {"smarthost_auth = login\n", "AUTH PLAIN LOGIN", "AUTH LOGIN\r\n"},
        {"smarthost_auth = plain\n", "AUTH LOGIN PLAIN", TALK_PLAIN},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        char settings[200], ehlo[200];
        snprintf(settings, sizeof settings, TALK_LOGIN "%s", rows[i].settings);
        snprintf(ehlo, sizeof ehlo, "250-smart.test\r\n250 %s\r\n",
                 rows[i].offered);
        talk_begin(1, settings);
        talk.is_byte_wise = i % 2;
        talk_mail();
        talk_until(AT_EHLO, false);
        talk_say(ehlo);
        talk_expect(rows[i].first);
        talk_expect_nothing();
        if (strcmp(rows[i].first, TALK_PLAIN) != 0) {
            talk_say("334 VXNlcm5hbWU6\r\n");
            talk_expect("bWU=\r\n");
            talk_expect_nothing();
            talk_say("334 UGFzc3dvcmQ6\r\n");
            talk_expect("c2VjcmV0\r\n");
        }
        talk_say("235 2.7.0 welcome\r\n");
        talk_expect(MAIL_LINE);
        talk_expect_log("secret", 0);
        talk_expect_log("c2VjcmV0", 0);
        talk_end();
    }
}
END_TEST

START_TEST(login_is_left_out_where_none_is_set)
{
    talk_begin(1, "");
    talk_mail();
    talk_until(AT_EHLO, false);
    talk_say("250-smart.test\r\n250 AUTH PLAIN LOGIN\r\n");
    talk_expect(MAIL_LINE);
    talk_end();
}
END_TEST

/* ---- Recipients ---------------------------------------------------------- */

START_TEST(each_recipient_has_its_own_reply)
{
    for (int way = 0; way < 4; way++) {
        bool is_pipelining = way & 1;
        talk_begin(1, TALK_LOGIN);
        talk.is_byte_wise = way & 2;
        talk_mail_to("b@y.test c@y.test d@y.test e@y.test");
        talk_until_mail(AT_AUTH, is_pipelining);
        talk_say("235 ok\r\n");
        talk_expect(MAIL_LINE);
        talk_say("250 ok\r\n");
        talk_expect(RCPT_LINE);
        talk_say("250 ok\r\n");
        talk_expect("RCPT TO:<c@y.test>\r\n");
        talk_say("550 5.1.1 who?\r\n");
        talk_expect("RCPT TO:<d@y.test>\r\n");
        talk_say("450 4.2.0 greylisted\r\n");
        talk_expect("RCPT TO:<e@y.test>\r\n");
        talk_say("251 will forward\r\n");
        talk_expect(DATA_LINE);
        talk_say("354 go\r\n");
        talk_expect(BODY_WIRE);
        talk_say("250 2.0.0 took\r\n");
        talk_expect_fate("b@y.test", 'S');
        talk_expect_fate("c@y.test", 'R');
        talk_expect_fate("d@y.test", 'L');
        talk_expect_fate("e@y.test", 'S');
        talk_expect_log("5.1.1 who?", 1);
        ck_assert_uint_eq(talk_waiting(), 1);
        talk_hang_up(false);
        talk_forget_log();
        talk_serve(3600); /* only the greylisted one goes out again */
        talk_expect_log("rcpt=<", 1);
        talk_expect_fate("d@y.test", 'S');
        talk_end();
    }
}
END_TEST

/* What the table says a reply means, at each stage; B9. kept = the whole
 * queue is kept and the route rests, '-' for no verdict at all. */
START_TEST(b9_replies_at_each_stage)
{
    static const struct {
        enum talk_stage stage;
        const char *reply;
        char fate;
        bool is_route_fault;
    } rows[] = {
        {AT_GREETING, "421 4.3.2 down\r\n", '-', true},
        {AT_GREETING, "450 4.3.2 busy\r\n", '-', true},
        {AT_GREETING, "554 5.3.2 no service\r\n", '-', true},
        {AT_EHLO, "421 4.3.2 down\r\n", '-', true},
        {AT_EHLO, "450 4.3.2 busy\r\n", '-', true},
        {AT_EHLO, "550 5.7.1 who?\r\n", '-', true},
        {AT_AUTH, "421 4.3.2 down\r\n", '-', true},
        {AT_AUTH, "454 4.7.0 later\r\n", '-', true},
        {AT_AUTH, "535 5.7.8 wrong\r\n", '-', true},
        {AT_AUTH, "534 5.7.9 too weak\r\n", '-', true},
        {AT_MAIL, "421 4.3.2 down\r\n", 'L', false},
        {AT_MAIL, "451 4.7.1 slow down\r\n", 'L', false},
        {AT_MAIL, "452 4.3.1 full\r\n", 'L', false},
        {AT_MAIL, "550 5.1.8 bad sender\r\n", 'R', false},
        {AT_MAIL, "552 5.3.4 too big\r\n", 'R', false},
        {AT_MAIL, "530 5.7.0 log in\r\n", '-', true},
        {AT_MAIL, "535 5.7.8 log in\r\n", '-', true},
        {AT_RCPT, "421 4.3.2 down\r\n", 'L', false},
        {AT_RCPT, "450 4.2.0 greylisted\r\n", 'L', false},
        {AT_RCPT, "452 4.5.3 too many\r\n", 'L', false},
        {AT_RCPT, "550 5.1.1 who?\r\n", 'R', false},
        {AT_RCPT, "552 5.5.3 too many\r\n", 'L', false},
        {AT_RCPT, "530 5.7.0 log in\r\n", '-', true},
        {AT_DATA, "421 4.3.2 down\r\n", 'L', false},
        {AT_DATA, "451 4.3.0 busy\r\n", 'L', false},
        {AT_DATA, "554 5.7.1 no\r\n", 'R', false},
        {AT_DATA, "530 5.7.0 log in\r\n", '-', true},
        {AT_DOT, "421 4.3.2 down\r\n", 'L', false},
        {AT_DOT, "451 4.3.0 busy\r\n", 'L', false},
        {AT_DOT, "452 4.3.1 full\r\n", 'L', false},
        {AT_DOT, "550 5.7.1 spam\r\n", 'R', false},
        {AT_DOT, "554-5.6.0 no\r\n554 5.6.0 way\r\n", 'R', false},
        {AT_DOT, "530 5.7.0 log in\r\n", '-', true},
        {AT_DOT, "535 5.7.8 log in\r\n", '-', true},
        {AT_DOT, "250 2.0.0 ok\r\n", 'S', false},
        {AT_DOT, "252 2.0.0 ok\r\n", 'S', false},
    };
    for (size_t i = 0; i < 4 * COUNT(rows); i++) {
        bool is_pipelining = i & 1;
        size_t n = i / 4;
        enum talk_stage stage = rows[n].stage;
        talk_begin(1, TALK_LOGIN);
        talk.is_byte_wise = i & 2;
        talk_mail();
        talk_until(stage, is_pipelining);
        talk_say(rows[n].reply);
        /* 421 over a fresh connection rests the route, too. */
        bool is_closing =
            stage >= AT_MAIL && strncmp(rows[n].reply, "421", 3) == 0;
        /* The rest of the pipeline is answered as servers do. */
        if (is_pipelining && !is_closing && !rows[n].is_route_fault &&
            stage == AT_MAIL)
            talk_say("503 5.5.1 MAIL first\r\n");
        if (is_pipelining && !is_closing && !rows[n].is_route_fault &&
            (stage == AT_MAIL || stage == AT_RCPT))
            talk_say("503 5.5.1 RCPT first\r\n");
        talk_expect_fate("b@y.test", rows[n].fate);
        ck_assert_uint_eq(talk_waiting(),
                          rows[n].fate == 'L' || rows[n].fate == '-');
        talk_expect_log("route=paused", rows[n].is_route_fault || is_closing);
        talk_expect_log("rcpt=<b@y.test>", !rows[n].is_route_fault);
        if (rows[n].is_route_fault || is_closing)
            talk_expect_end();
        talk_end();
    }
}
END_TEST

/* After a refusal the connection is good for the next, and RSET keeps the
 * two apart. */
START_TEST(rset_after_a_refusal_then_the_next)
{
    for (int way = 0; way < 2; way++) {
        talk_begin(1, "");
        talk.is_byte_wise = way;
        talk_mail();
        talk_mail_to("c@y.test");
        talk_until(AT_RCPT, false);
        talk_say("550 5.1.1 who?\r\n");
        talk_expect("RSET\r\n");
        talk_expect_nothing();
        talk_say("250 ok\r\n");
        talk_expect(MAIL_LINE);
        talk_say("250 ok\r\n");
        talk_expect("RCPT TO:<c@y.test>\r\n");
        talk_end();
    }
}
END_TEST

/* ---- Connections --------------------------------------------------------- */

START_TEST(several_mails_over_one_connection)
{
    talk_begin(1, TALK_LOGIN "connections_max = 1\n");
    for (unsigned i = 0; i < 20; i++)
        talk_mail();
    talk_serve(60);
    ck_assert_uint_eq(talk.delivered, 20);
    ck_assert_uint_eq(talk.connections, 1);
    talk_end();
}
END_TEST

START_TEST(fresh_connection_after_so_many_mails)
{
    talk_begin(1, "connections_max = 1\n");
    for (unsigned i = 0; i < CONNECTION_MESSAGES_MAX; i++)
        talk_mail();
    talk_serve(60);
    ck_assert_uint_eq(talk.delivered, CONNECTION_MESSAGES_MAX);
    ck_assert_uint_eq(talk.connections, 1);
    talk_mail();
    talk_serve(60);
    ck_assert_uint_eq(talk.connections, 2);
    talk_end();
}
END_TEST

/* Says nothing to a mail, for ever. */
static const char *hold_mail(struct talk_client *c, const char *line)
{
    (void)c;
    return *line == 'M' || *line == 'R' || *line == 'D' ? "" : NULL;
}

START_TEST(connections_max_is_kept)
{
    for (unsigned most = 1; most <= CONNECTION_SLOTS; most++) {
        char settings[64];
        snprintf(settings, sizeof settings, "connections_max = %u\n", most);
        talk_begin(1, settings);
        talk.rule = hold_mail;
        for (unsigned i = 0; i < 20; i++)
            talk_mail();
        talk_serve(HANG_SECONDS - 1);
        ck_assert_uint_eq(talk.peak, most);
        ck_assert_uint_eq(talk.connections, most);
        talk.rule = NULL;
        for (unsigned i = 0; i < TALK_CLIENTS; i++)
            if (talk.clients[i].fd)
                talk_robot_end(&talk.clients[i]);
        talk_end();
    }
}
END_TEST

/* A second connection is begun only when the first is logged in. */
START_TEST(connections_grow_one_at_a_time)
{
    talk_begin(1, TALK_LOGIN);
    talk_mail();
    talk_mail();
    talk_until(AT_AUTH, false);
    ck_assert_int_eq(talk_take(0), -1);
    talk_say("235 ok\r\n");
    int second = talk_take(0);
    ck_assert_int_ge(second, 0);
    ck_assert_int_eq(talk_take(0), -1);
    close(second);
    talk_end();
}
END_TEST

/* The smarthost greets a second connection with a 421 while the first works:
 * that is no fault of the route. One is enough, then, as long as it lives. */
START_TEST(one_connection_is_enough)
{
    talk_begin(1, "");
    talk_mail();
    talk_mail_to("c@y.test");
    talk_until(AT_MAIL, false);
    int second = talk_take(0);
    ck_assert_int_ge(second, 0);
    ck_assert_int_gt(send(second, "421 4.7.0 enough\r\n", 18, 0), 0);
    talk_settle();
    close(second);
    talk_expect_log("connections=1 enough why=\"127.0.0.1:", 1);
    talk_expect_log("route=", 0);
    talk_advance(HANG_SECONDS - 10);
    ck_assert_int_eq(talk_take(0), -1);
    talk_say("250 ok\r\n");
    talk_expect(RCPT_LINE);
    talk_say("250 ok\r\n");
    talk_expect(DATA_LINE);
    talk_say("354 go\r\n");
    talk_expect(BODY_WIRE);
    /* the other follows at once, and so does what comes now */
    static const char *const rest[] = {"RCPT TO:<c@y.test>\r\n",
                                       "RCPT TO:<alert@y.test>\r\n"};
    for (size_t i = 0; i < COUNT(rest); i++) {
        if (i == 1)
            talk_mail_to("alert@y.test");
        talk_say("250 took\r\n");
        talk_expect(MAIL_LINE);
        talk_say("250 ok\r\n");
        talk_expect(rest[i]);
        talk_say("250 ok\r\n");
        talk_expect(DATA_LINE);
        talk_say("354 go\r\n");
        talk_expect(BODY_WIRE);
    }
    talk_say("250 took\r\n");
    talk_expect_fate("alert@y.test", 'S');
    talk_expect_log("delay_ms=0 ", 1);
    ck_assert_int_eq(talk_take(0), -1);
    talk_advance(CONNECTION_IDLE_SECONDS);
    talk_expect("QUIT\r\n");
    talk_say("221 bye\r\n");
    talk_expect_end();
    talk_expect_log("connections=", 1);
    /* A new first one, and a second may be tried again. */
    talk_mail();
    talk_mail_to("c@y.test");
    talk_until(AT_MAIL, false);
    second = talk_take(0);
    ck_assert_int_ge(second, 0);
    close(second);
    talk_end();
}
END_TEST

/* ---- Addresses and the route --------------------------------------------- */

START_TEST(each_address_is_tried_then_the_route_rests)
{
    talk_begin(3, "");
    talk_mail();
    for (unsigned i = 0; i < 3; i++) {
        talk_expect_log("route=paused", 0);
        talk_accept_at(i);
        talk_say("421 4.3.2 down\r\n");
        talk_expect_end();
    }
    talk_expect_log("address=failed", 2);
    talk_expect_log("route=paused", 1);
    int rest_s = talk_expect_rest(15);
    talk_expect_log("421 4.3.2 down", 3);
    talk_advance_ms(rest_s * 1000 - 1);
    for (unsigned i = 0; i < 3; i++)
        ck_assert_int_eq(talk_take(i), -1);
    talk_advance_ms(1000);
    talk_accept_at(0);
    talk_end();
}
END_TEST

START_TEST(last_good_address_goes_first)
{
    talk_begin(3, "");
    talk_stop_listening(0);
    talk_stop_listening(1);
    talk_mail();
    talk_accept_at(2);
    talk_expect_log("address=failed", 2);
    talk_say(GREETING);
    talk_expect(EHLO_LINE);
    talk_say("250 ok\r\n");
    talk_expect(MAIL_LINE);
    talk_hang_up(true);
    talk_listen_again(0);
    talk_listen_again(1);
    talk_advance(18);
    talk_accept_at(2);
    talk_say("421 not now\r\n"); /* good no more: on to the others */
    talk_expect_end();
    talk_accept_at(1);
    talk_end();
}
END_TEST

/* As long again as the failing has lasted, within bounds. */
static int rest_after(int failing_s, int first_s, int max_s)
{
    int rest_s = failing_s > first_s ? failing_s : first_s;
    return rest_s < max_s ? rest_s : max_s;
}

/* The rest grows as the failing goes on, up to retry_max_seconds; each is one
 * line, however many wait. */
START_TEST(rest_of_the_route_grows)
{
    int64_t began_ms;
    talk_begin(2, "retry_max_seconds = 300\n");
    talk_stop_listening(0);
    talk_stop_listening(1);
    talk_mail();
    talk_mail();
    began_ms = talk.now_ms;
    talk_settle();
    for (size_t i = 0; i < 9; i++) {
        int failing_s = (int)((talk.now_ms - began_ms) / 1000);
        int rest_s = talk_expect_rest(rest_after(failing_s, 15, 300));
        talk_expect_log("route=paused", 1);
        talk_expect_log("waiting=2", 1);
        talk_expect_log("rcpt=", 0);
        talk_forget_log();
        talk_advance_ms(rest_s * 1000 - 1);
        talk_expect_log("route=", 0);
        talk_turn_to_next_wake();
    }
    talk_listen_again(0);
    talk_forget_log();
    talk_serve(361);
    ck_assert_uint_eq(talk.delivered, 2);
    talk_expect_log("route=up", 1);
    talk_end();
}
END_TEST

static const char *busy_line, *busy_reply;
static int64_t busy_ms; /* when it was so last */

static const char *be_busy(struct talk_client *c, const char *line)
{
    (void)c;
    bool is_busy = strncmp(line, busy_line, strlen(busy_line)) == 0;
    if (is_busy)
        busy_ms = talk.now_ms;
    return is_busy ? busy_reply : NULL;
}

/* A login that is taken proves nothing: who then will not work for us rests
 * the route for longer each time, until a message is done. */
START_TEST(rest_grows_although_the_login_is_taken)
{
    static const struct {
        const char *line, *reply;
        int first_s; /* of one who is known to be out of service: a minute */
    } rows[] = {
        {"MAIL", "421 4.3.2 busy\r\n", 60},
        {"AUTH", "235 ok\r\n421 4.3.2 busy\r\n", 15},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        talk_begin(1, TALK_LOGIN "connections_max = 1\n");
        busy_line = rows[i].line;
        busy_reply = rows[i].reply;
        talk.rule = be_busy;
        talk.extensions = "250 AUTH PLAIN\r\n";
        talk_mail();
        int64_t began_ms = talk.now_ms;
        for (size_t n = 0; n < 9; n++) {
            talk_forget_log();
            for (unsigned s = 0; talk_logged("route=") == 0 && s < 1300; s++)
                talk_serve(1);
            talk_expect_log("route=paused", 1);
            talk_expect_rest(rest_after((int)((busy_ms - began_ms) / 1000),
                                        rows[i].first_s, 900));
        }
        talk_expect_log("route=up", 0);
        talk.rule = NULL;
        talk_serve(1081);
        talk_mail();
        talk_serve(10);
        talk_expect_log("route=up", 1);
        ck_assert_uint_eq(talk.delivered, 2);
        talk_end();
    }
}
END_TEST

/* One that hangs up at MAIL without a word is tried by the message's age. */
START_TEST(retries_grow_although_the_login_is_taken)
{
    int64_t age_ms, wait_ms, born_ms;
    talk_begin(1, TALK_LOGIN);
    queue_id id = talk_mail();
    born_ms = talk.now_ms;
    for (unsigned i = 0; i < 5; i++) {
        talk_until(AT_MAIL, i & 1);
        talk_forget_log();
        talk_hang_up(i & 2);
        age_ms = talk.now_ms - born_ms;
        wait_ms = fate_next_try_ms(id, talk.now_ms) - talk.now_ms;
        int least_s = rest_after((int)(age_ms / 1000), 15, 900);
        ck_assert_int_ge(wait_ms, least_s * 1000);
        ck_assert_int_le(wait_ms, least_s * 1200 + 1200);
        talk_expect_log("later next_s=", 1);
        talk_advance_ms(least_s * 1000 - 1);
        ck_assert_int_eq(talk_take(0), -1);
        talk_advance_ms(least_s * 200 + 1202); /* the route rests likewise */
    }
    talk_end();
}
END_TEST

START_TEST(busy_smarthost_is_not_stormed)
{
    for (unsigned way = 0; way < 2; way++) {
        talk_begin(1, TALK_LOGIN);
        busy_line = "MAIL";
        busy_reply = "421 4.3.2 busy\r\n";
        talk.rule = be_busy;
        if (way)
            talk.extensions = "250 AUTH PLAIN\r\n";
        for (unsigned i = 0; i < 200; i++)
            talk_mail();
        talk_serve(300);
        ck_assert_uint_eq(talk_waiting(), 200);
        ck_assert_uint_ge(talk.connections, 3);
        ck_assert_uint_le(talk.connections, 8);
        talk_end();
    }
}
END_TEST

START_TEST(name_that_is_not_found_rests_the_route)
{
    talk_begin(1, "");
    talk_set("unknown.test", "");
    talk_mail();
    talk_advance(10);
    talk_expect_log("route=paused", 1);
    talk_expect_log("unknown.test: ", 1);
    talk_expect_log("rcpt=", 0);
    ck_assert_uint_eq(talk_waiting(), 1);
    talk_advance(3600);
    ck_assert_uint_eq(talk_waiting(), 1);
    ck_assert_uint_le(talk_logged("route=paused"), 12);
    talk_set("127.0.0.1", "");
    smtp_out_renew(talk.now_ms);
    talk_serve(1);
    talk_expect_fate("b@y.test", 'S');
    talk_end();
}
END_TEST

START_TEST(family_that_is_not_there_rests_the_route)
{
    talk_begin(2, "smarthost_family = ipv6\n");
    talk_mail();
    talk_settle();
    talk_expect_log("route=paused", 1);
    talk_expect_log("smarthost_family wants", 1);
    talk_set("smart.test", "smarthost_family = ipv4\n");
    talk_end();
}
END_TEST

START_TEST(slots_of_dns_are_all_taken)
{
    int tickets[DNS_SLOTS];
    talk_begin(2, "");
    for (int i = 0; i < DNS_SLOTS; i++)
        tickets[i] = dns_ask("127.0.0.1", DNS_HOST, talk.now_ms);
    talk_mail();
    talk_advance(10);
    ck_assert_int_eq(talk_take(0), -1);
    talk_expect_log("route=", 0);
    for (int i = 0; i < DNS_SLOTS; i++)
        dns_forget(tickets[i]);
    talk_advance(1);
    talk_accept();
    talk_end();
}
END_TEST

START_TEST(new_settings_end_a_rest)
{
    talk_begin(1, TALK_LOGIN);
    talk_mail();
    talk_until(AT_AUTH, false);
    talk_say("535 5.7.8 wrong\r\n");
    talk_expect_end();
    talk_advance(60);
    ck_assert_int_eq(talk_take(0), -1);
    smtp_out_renew(talk.now_ms);
    talk_until(AT_IDLE, false);
    talk_expect_fate("b@y.test", 'S');
    talk_end();
}
END_TEST

/* An idle connection quits, one that is on its way ends, and one with a
 * message in its hands finishes that, but takes no other to where the old
 * settings led. */
START_TEST(new_settings_end_connections)
{
    talk_begin(1, "connections_max = 1\n");
    talk_mail();
    talk_until(AT_IDLE, false);
    smtp_out_renew(talk.now_ms);
    talk_expect("QUIT\r\n");
    talk_say("221 bye\r\n");
    talk_expect_end();
    talk_mail();
    talk_until(AT_EHLO, false);
    smtp_out_renew(talk.now_ms);
    talk_expect_end();
    talk_until(AT_DOT, true);
    talk_mail_to("c@y.test");
    smtp_out_renew(talk.now_ms);
    talk_expect_nothing();
    talk_say("250 took\r\n");
    talk_expect_fate("b@y.test", 'S');
    talk_expect("QUIT\r\n");
    talk_say("221 bye\r\n");
    talk_expect_end();
    talk_end();
}
END_TEST

/* ---- Deadlines ----------------------------------------------------------- */

START_TEST(deadline_of_each_state)
{
    static const struct {
        enum talk_stage stage;
        int seconds;
        const char *why;
        char fate;
    } rows[] = {
        {AT_GREETING, 300, "no greeting came", '-'},
        {AT_EHLO, 300, "no reply to EHLO came", '-'},
        {AT_AUTH, 300, "no reply to AUTH came", '-'},
        {AT_MAIL, 300, "no reply to MAIL came", 'L'},
        {AT_RCPT, 300, "no reply to RCPT came", 'L'},
        {AT_DATA, 120, "no reply to DATA came", 'L'},
        {AT_DOT, 600, "no verdict on the message came", 'L'},
        {AT_IDLE, 5, "", 'S'},
        {AT_QUIT, 2, "", 'S'},
    };
    for (size_t i = 0; i < 2 * COUNT(rows); i++) {
        size_t n = i / 2;
        talk_begin(1, TALK_LOGIN);
        talk_mail();
        talk_until(rows[n].stage, i % 2);
        talk_advance_ms(rows[n].seconds * 1000 - 1);
        talk_expect_nothing();
        talk_expect_log("no ", 0);
        talk_advance_ms(1);
        if (rows[n].stage == AT_IDLE)
            talk_expect("QUIT\r\n");
        else
            talk_expect_end();
        talk_expect_fate("b@y.test", rows[n].fate);
        bool is_route_fault = rows[n].stage <= AT_MAIL;
        if (rows[n].why[0])
            talk_expect_log(
                rows[n].why,
                rows[n].stage == AT_MAIL || rows[n].stage == AT_DOT ? 2 : 1);
        talk_expect_log("route=paused", is_route_fault);
        talk_end();
    }
}
END_TEST

/* Lines that come keep no deadline away: one for the whole reply. */
START_TEST(deadline_is_for_the_whole_reply)
{
    talk_begin(1, "");
    talk_mail();
    talk_until(AT_GREETING, false);
    for (unsigned i = 0; i < 29; i++) {
        talk_say("220-wait\r\n");
        talk_advance(10);
    }
    talk_expect_nothing();
    talk_advance(10);
    talk_expect_end();
    talk_expect_log("route=paused", 1);
    talk_end();
}
END_TEST

/* While another address is left, a silent one has less time. */
START_TEST(deadline_of_an_address_that_is_not_the_last)
{
    static const enum talk_stage stages[] = {AT_GREETING, AT_EHLO};
    static const char *const whys[] = {"no greeting came",
                                       "no reply to EHLO came"};
    for (size_t i = 0; i < COUNT(stages); i++) {
        talk_begin(2, "");
        talk_mail();
        talk_until(stages[i], false);
        talk_advance_ms(SETUP_NEXT_SECONDS * 1000 - 1);
        talk_expect_nothing();
        ck_assert_int_eq(talk_take(1), -1);
        talk_advance_ms(1);
        talk_expect_end();
        talk_expect_log("address=failed", 1);
        talk_expect_log(whys[i], 1);
        talk_accept_at(1); /* the last of them */
        talk_advance_ms(REPLY_SECONDS * 1000 - 1);
        talk_expect_nothing();
        talk_expect_log("route=paused", 0);
        talk_advance_ms(1);
        talk_expect_end();
        talk_expect_log("route=paused", 1);
        talk_end();
    }
}
END_TEST

START_TEST(deadline_of_rset)
{
    talk_begin(1, "");
    talk_mail();
    talk_until(AT_RCPT, false);
    talk_say("550 no\r\n");
    talk_expect("RSET\r\n");
    talk_advance(299);
    talk_expect_nothing();
    talk_advance(1);
    talk_expect_end();
    talk_expect_log("route=", 0);
    talk_end();
}
END_TEST

/* ---- Time ---------------------------------------------------------------- */

static int64_t mail_tries[64];
static unsigned mail_try_count;

static const char *defer_mail(struct talk_client *c, const char *line)
{
    (void)c;
    if (strncmp(line, "MAIL", 4) != 0 || mail_try_count == COUNT(mail_tries))
        return NULL;
    mail_tries[mail_try_count++] = talk.now_ms;
    return "451 4.3.0 not yet\r\n";
}

START_TEST(retries_by_age)
{
    talk_begin(1, "");
    talk.extensions = "250 HELP\r\n";
    mail_try_count = 0;
    talk_mail();
    talk.rule = defer_mail;
    talk_serve(3600);
    ck_assert_uint_ge(mail_try_count, 8);
    for (size_t i = 0; i + 1 < mail_try_count; i++) {
        int64_t age_ms = mail_tries[i] - mail_tries[0];
        int64_t least_ms = queue_retry_ms(age_ms, 15000, 900000);
        int64_t wait_ms = mail_tries[i + 1] - mail_tries[i];
        ck_assert_int_ge(wait_ms, least_ms);
        ck_assert_int_le(wait_ms, least_ms + least_ms / 5);
    }
    talk_expect_log("tries=1 ", 1);
    talk_end();
}
END_TEST

START_TEST(expired_while_tried)
{
    talk_begin(1, "expire_hours = 1\n");
    talk.extensions = "250 HELP\r\n";
    mail_try_count = 0;
    talk_mail();
    talk.rule = defer_mail;
    talk_serve(3600);
    ck_assert_uint_eq(talk_waiting(), 1);
    talk_serve(120);
    ck_assert_uint_eq(talk_waiting(), 0);
    talk_expect_fate("b@y.test", 'R');
    talk_expect_log("given up after 1 hours", 1);
    talk_end();
}
END_TEST

START_TEST(expired_while_the_route_rests)
{
    talk_begin(1, "expire_hours = 1\n");
    talk_stop_listening(0);
    talk_mail_to("b@y.test c@y.test");
    talk_advance(1800);
    talk_mail_to("d@y.test");
    talk_advance(1800);
    ck_assert_uint_eq(talk_waiting(), 2);
    talk_advance(60);
    ck_assert_uint_eq(talk_waiting(), 1);
    talk_expect_fate("b@y.test", 'R');
    talk_expect_fate("c@y.test", 'R');
    talk_expect_fate("d@y.test", '-');
    talk_end();
}
END_TEST

START_TEST(a_message_in_hand_is_not_expired)
{
    talk_begin(1, "expire_hours = 1\n");
    talk_stop_listening(0);
    talk_mail();
    talk_advance(3590);
    talk_listen_again(0);
    smtp_out_renew(talk.now_ms);
    talk_until(AT_DOT, false);
    talk_advance(200);
    talk_say("250 took\r\n");
    talk_expect_fate("b@y.test", 'S');
    talk_expect_log("given up", 0);
    talk_end();
}
END_TEST

/* ---- The end ------------------------------------------------------------- */

START_TEST(lost_mail_is_named)
{
    talk_begin(1, "");
    talk_mail_to("b@y.test c@y.test");
    talk_mail_to("d@y.test");
    talk_until_mail(AT_EHLO, false);
    talk_say("250 ok\r\n");
    talk_expect(MAIL_LINE);
    talk_say("250 ok\r\n");
    talk_expect(RCPT_LINE);
    talk_say("550 5.1.1 who?\r\n");
    talk_advance(7);
    talk_forget_log();
    ck_assert_uint_eq(fate_log_lost(talk.now_ms), 2);
    talk_expect_log("rcpt=<b@y.test>", 0); /* refused, not lost */
    talk_expect_log("lost reason=shutdown from=<a@x.test> rcpt=<c@y.test> "
                    "bytes=22 age_s=7",
                    1);
    talk_expect_log("rcpt=<d@y.test>", 1);
    talk_end();
    talk_begin(1, "");
    ck_assert_uint_eq(fate_log_lost(talk.now_ms), 0);
    talk_end();
}
END_TEST

Suite *suite_smtp_out(void)
{
    Suite *suite = suite_create("smtp_out");
    TCase *protocol = tcase_create("protocol");
    tcase_set_timeout(protocol, 60);
    tcase_add_test(protocol, lock_step);
    tcase_add_test(protocol, pipelined);
    tcase_add_test(protocol, b21_pipelined_replies_are_delayed);
    tcase_add_test(protocol, mail_parameters_when_offered_and_needed);
    tcase_add_test(protocol, smtputf8_not_offered_refuses_that_mail_alone);
    tcase_add_test(protocol, null_reverse_path);
    tcase_add_test(protocol, bodies_on_the_wire);
    tcase_add_test(protocol, big_body_arrives_whole);
    tcase_add_test(protocol, login_mechanisms);
    tcase_add_test(protocol, login_is_left_out_where_none_is_set);
    suite_add_tcase(suite, protocol);
    TCase *verdicts = tcase_create("verdicts");
    tcase_set_timeout(verdicts, 60);
    tcase_add_test(verdicts, each_recipient_has_its_own_reply);
    tcase_add_test(verdicts, b9_replies_at_each_stage);
    tcase_add_test(verdicts, rset_after_a_refusal_then_the_next);
    tcase_add_test(verdicts, lost_mail_is_named);
    suite_add_tcase(suite, verdicts);
    TCase *connections = tcase_create("connections");
    tcase_set_timeout(connections, 60);
    tcase_add_test(connections, several_mails_over_one_connection);
    tcase_add_test(connections, fresh_connection_after_so_many_mails);
    tcase_add_test(connections, connections_max_is_kept);
    tcase_add_test(connections, connections_grow_one_at_a_time);
    tcase_add_test(connections, one_connection_is_enough);
    tcase_add_test(connections, each_address_is_tried_then_the_route_rests);
    tcase_add_test(connections, last_good_address_goes_first);
    tcase_add_test(connections, rest_of_the_route_grows);
    tcase_add_test(connections, rest_grows_although_the_login_is_taken);
    tcase_add_test(connections, retries_grow_although_the_login_is_taken);
    tcase_add_test(connections, busy_smarthost_is_not_stormed);
    tcase_add_test(connections, name_that_is_not_found_rests_the_route);
    tcase_add_test(connections, family_that_is_not_there_rests_the_route);
    tcase_add_test(connections, slots_of_dns_are_all_taken);
    tcase_add_test(connections, new_settings_end_a_rest);
    tcase_add_test(connections, new_settings_end_connections);
    suite_add_tcase(suite, connections);
    TCase *time = tcase_create("time");
    tcase_set_timeout(time, 60);
    tcase_add_test(time, deadline_of_each_state);
    tcase_add_test(time, deadline_is_for_the_whole_reply);
    tcase_add_test(time, deadline_of_an_address_that_is_not_the_last);
    tcase_add_test(time, deadline_of_rset);
    tcase_add_test(time, retries_by_age);
    tcase_add_test(time, expired_while_tried);
    tcase_add_test(time, expired_while_the_route_rests);
    tcase_add_test(time, a_message_in_hand_is_not_expired);
    suite_add_tcase(suite, time);
    return suite;
}
