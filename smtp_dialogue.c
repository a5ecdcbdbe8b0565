/* See smtp_dialogue.h. */
#include "smtp_dialogue.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "clients.h"
#include "config.h"
#include "envelope.h"
#include "foreign.h"
#include "log.h"
#include "queue.h"
#include "reason.h"
#include "settings.h"
#include "smtp_verbs.h"

#define TOLD_MS    2000 /* for an acknowledgement on a LAN, and more */
#define REPLY_ROOM 1024 /* the longest reply, with a line to spare */

static const char R_LONG_LINE[] = "500 5.5.2 Command line too long";
static const char R_LOOP[] = "554 5.4.6 Too many hops: this mail is in a loop";
static const char R_NAMES[] = "554 5.6.0 Its names are too long to be handled";
static const char R_FOREIGN[] = "421 4.7.0 This is a mail server";
static const char R_ERRORS[] = "421 4.7.0 Too many errors";
static const char R_JUNK[] = "421 4.7.0 Too many commands without a message";
static const char R_LATE[] = "421 4.4.2 Waited too long";
static const char R_SLOW[] = "421 4.4.2 The message comes too slowly";
static const char R_STOPPED[] = "451 4.3.2 Shutting down, send it again";

/* ---- Begin --------------------------------------------------------------- */

static void greet(struct session *c, int64_t now_ms)
{
    c->is_greeted = true;
    buf_format(&c->link.out, "220 %s ESMTP lanpost\r\n", session_hostname());
    session_enter(c, SESSION_HELO, now_ms);
}

static void start_tls(struct session *c, int64_t now_ms)
{
    session_enter(c, SESSION_TLS, now_ms);
    if (session_can_have_tls() && link_start_tls(&c->link, NULL))
        return;
    session_tell(c, tls_serves() ? REASON_TLS_FULL : REASON_TLS_NONE, NULL);
    session_hang_up(c, NULL, now_ms);
}

void dialogue_start(struct session *c, int fd, const struct ip_endpoint *client,
                    bool is_tls, int64_t now_ms)
{
    link_open(&c->link, fd, false, c->in, sizeof c->in, c->out, sizeof c->out);
    c->client = *client;
    c->is_allowed = session_is_in(c, &settings()->allow_from);
    c->progress_ms = now_ms;
    session_enter(c, SESSION_SILENT, now_ms);
    if (is_tls && !c->is_allowed) { /* no handshake for strangers: it is dear */
        session_tell(c, REASON_STRANGER, NULL);
        session_hang_up(c, NULL, now_ms);
    } else if (is_tls) {
        start_tls(c, now_ms);
    } else if (!c->is_allowed || !tls_can_serve() ||
               settings()->tls_detect_ms == 0) {
        greet(c, now_ms);
    }
}

/* The device has said something, or its time is over. It stays unread, so
 * that the TLS library gets it whole. */
static bool break_silence(struct session *c, int64_t now_ms)
{
    int first = link_peek(&c->link);
    if (first == -1 && now_ms < c->since_ms + settings()->tls_detect_ms)
        return false;
    if (first == FOREIGN_TLS_HELLO)
        start_tls(c, now_ms);
    else
        greet(c, now_ms);
    return true;
}

/* Behind STARTTLS its reply leaves first, in clear; behind the handshake all
 * that was said before it is forgotten (RFC 3207 section 4.2). */
static bool go_on_with_tls(struct session *c, int64_t now_ms)
{
    /* At once: another must not take the place that was promised. */
    if (c->link.tls == NULL)
        link_flush(&c->link);
    if (c->link.tls == NULL && buf_len(&c->link.out) == 0) {
        start_tls(c, now_ms);
        return true;
    }
    if (c->link.tls == NULL || c->link.step != LINK_UP)
        return false;
    c->has_fresh_tls = true;
    if (c->is_greeted)
        session_enter(c, SESSION_HELO, now_ms);
    else
        greet(c, now_ms);
    return true;
}

/* ---- Lines --------------------------------------------------------------- */

static void refuse_long_line(struct session *c, int64_t now_ms)
{
    if (c->state != SESSION_LOGIN) {
        session_refuse(c, R_LONG_LINE, "");
        return;
    }
    verbs_drop_login(c, now_ms);
}

/* A line without an end is refused once; its bytes are then thrown away up to
 * the next line end, never read as a command. */
static void skip_long_line(struct session *c, int64_t now_ms)
{
    if (!c->is_skipping_line)
        refuse_long_line(c, now_ms);
    c->is_skipping_line = true;
    buf_clear(&c->link.in);
}

/* Takes a whole line out of the buffer; no copy of a password stays there.
 * False: it was too long. */
static bool cut_line(struct session *c, const char *start, size_t length,
                     size_t whole, char line[COMMAND_MAX_BYTES + 1])
{
    bool fits = whole <= COMMAND_MAX_BYTES;
    if (fits) {
        memcpy(line, start, length);
        line[length] = '\0';
    }
    bytes_wipe(c->in + ((const uint8_t *)start - c->in), whole);
    buf_take(&c->link.in, whole);
    return fits;
}

/* True: a line was dealt with, and there may be more. */
static bool take_line(struct session *c, int64_t now_ms)
{
    char line[COMMAND_MAX_BYTES + 1];
    size_t length, whole;
    const char *start = buf_line(&c->link.in, &length, &whole);
    if (start == NULL) {
        if (buf_len(&c->link.in) > COMMAND_MAX_BYTES || c->is_skipping_line)
            skip_long_line(c, now_ms);
        return false;
    }
    bool is_rest = c->is_skipping_line;
    bool fits = cut_line(c, start, length, whole, line);
    c->is_skipping_line = false;
    if (is_rest)
        return true;
    if (!fits)
        refuse_long_line(c, now_ms);
    else if (c->state == SESSION_LOGIN)
        verbs_take_login_line(c, line, now_ms);
    else
        verbs_act(c, line, length, now_ms);
    bytes_wipe(line, fits ? length : 0);
    return true;
}

static enum reason reason_of_hello(const struct session *c, uint8_t first)
{
    if (!c->is_allowed)
        return REASON_STRANGER;
    if (first == FOREIGN_SSL2_HELLO)
        return REASON_TLS_TOO_OLD;
    if (first != FOREIGN_TLS_HELLO)
        return REASON_FOREIGN_PROTOCOL;
    if (!tls_serves())
        return REASON_TLS_NONE;
    return session_can_have_tls() ? REASON_TLS_HELLO : REASON_TLS_FULL;
}

/* Before the first command: a byte that no SMTP verb begins with. */
static bool is_binary_hello(struct session *c, int64_t now_ms)
{
    if (c->state != SESSION_HELO || c->junk > 0 || buf_len(&c->link.in) == 0)
        return false;
    uint8_t first = *buf_data(&c->link.in);
    if (!foreign_is_byte(first))
        return false;
    bool is_tls = first == FOREIGN_TLS_HELLO || first == FOREIGN_SSL2_HELLO;
    session_tell(c, reason_of_hello(c, first), NULL);
    session_hang_up(c, is_tls ? NULL : R_FOREIGN, now_ms);
    return true;
}

/* ---- The message --------------------------------------------------------- */

static const struct {
    unsigned bit;
    const char *name;
} repair_names[] = {
    {REPAIRED_DATE, "date"},     {REPAIRED_FROM, "from"},
    {REPAIRED_MIME, "mime"},     {REPAIRED_MESSAGE_ID, "message-id"},
    {REPAIRED_HEADER, "header"}, {REPAIRED_BCC, "bcc"},
    {REPAIRED_LONG_LINE, "fold"}};

/* " repaired=date,from", or nothing. */
static const char *repairs_text(const struct session *c, char *text,
                                size_t room)
{
    struct buf b;
    buf_init(&b, text, room - 1);
    const char *before = " repaired=";
    for (size_t i = 0; i < sizeof repair_names / sizeof repair_names[0]; i++)
        if (c->t.message.repairs & repair_names[i].bit) {
            buf_format(&b, "%s%s", before, repair_names[i].name);
            before = ",";
        }
    if (c->t.dot.has_bare_line_ends) {
        buf_format(&b, "%sline-ends", before);
        before = ",";
    }
    if (c->t.dot.has_nul)
        buf_format(&b, "%snul", before);
    if (c->t.dot.has_long_lines)
        buf_puts(&b, " long_lines=yes");
    text[buf_len(&b)] = '\0';
    return text;
}

/* A name with blanks must not look like keys of ours. */
static const char *user_text(const struct session *c, char *text, size_t room)
{
    if (!c->is_logged_in)
        return "-";
    log_clean(text, room, c->user, strlen(c->user));
    for (char *at = text; *at != '\0'; at++)
        *at = *at == ' ' ? '_' : *at;
    return *text != '\0' ? text : "\"\"";
}

static void log_accepted(const struct session *c, queue_id id, const char *ack)
{
    char helo[64], from[128], user[64], repairs[128];
    log_line(LOG_AT_INFO, "in",
             "id=%08X client=%s helo=\"%s\" from=<%s> rcpt=%u bytes=%llu "
             "tls=%s auth=%s%s accepted ack=%s",
             (unsigned)id, session_client(c),
             log_clean(helo, sizeof helo, c->helo, strlen(c->helo)),
             log_clean(from, sizeof from, c->t.reverse_path,
                       strlen(c->t.reverse_path)),
             c->t.recipients, (unsigned long long)c->t.bytes,
             c->link.tls != NULL ? tls_version(c->link.tls) : "-",
             user_text(c, user, sizeof user),
             repairs_text(c, repairs, sizeof repairs), ack);
}

static void refuse_message(struct session *c, const char *reply, int64_t now_ms)
{
    char detail[96];
    snprintf(detail, sizeof detail, "%llu bytes, the limit is %lld",
             (unsigned long long)c->t.wire_bytes,
             (long long)settings()->message_max_bytes);
    session_say(c, reply);
    if (reply == session_full)
        session_tell(c, REASON_QUEUE_FULL, NULL);
    else if (reply == envelope_too_big)
        session_tell(c, REASON_TOO_LARGE, detail);
    else
        session_tell(c, REASON_REFUSED, reply);
    session_end_transaction(c);
    session_enter(c, SESSION_READY, now_ms);
}

/* RFC 3848 knows only the ESMTP ones. */
static const char *protocol_of(const struct session *c)
{
    static const char *const names[] = {"ESMTP", "ESMTPS", "ESMTPA", "ESMTPSA"};
    unsigned kind =
        (c->link.tls != NULL ? 1u : 0u) | (c->is_logged_in ? 2u : 0u);
    return c->is_esmtp ? names[kind] : "SMTP";
}

/* The same bytes once more, behind an answer that never arrived: our second
 * copy goes, and its device gets the first one's verdict. */
static bool join(struct session *c, const uint8_t print[CRYPTO_SHA256_BYTES],
                 int64_t now_ms)
{
    c->held = c->t.fault == INTAKE_GOOD
                  ? promise_join(print, c->ack_wait_ms, now_ms)
                  : 0;
    if (c->held == 0)
        return false;
    log_accepted(c, promise_message(c->held), "joined");
    log_count(LOG_JOINED);
    session_end_transaction(c);
    session_enter(c, SESSION_VERDICT, now_ms);
    return true;
}

static void commit(struct session *c, const uint8_t print[CRYPTO_SHA256_BYTES],
                   int64_t now_ms)
{
    static const char *const replies[] = {[INTAKE_FULL] = session_full,
                                          [INTAKE_TOO_BIG] = envelope_too_big,
                                          [INTAKE_LOOP] = R_LOOP,
                                          [INTAKE_NAMES] = R_NAMES};
    struct message_origin origin = {.helo = c->helo,
                                    .hostname = session_hostname(),
                                    .protocol = protocol_of(c)};
    enum intake_fault fault = intake_end(&c->t, &origin, now_ms);
    if (fault != INTAKE_GOOD) {
        refuse_message(c, replies[fault], now_ms);
        return;
    }
    c->held = promise_make(c->t.id, print, c->ack_wait_ms, now_ms);
    log_accepted(c, c->t.id, c->ack_wait_ms > 0 ? "held" : "queued");
    session_end_transaction(c);
    session_enter(c, SESSION_VERDICT, now_ms);
}

static void finish_body(struct session *c, int64_t now_ms)
{
    uint8_t print[CRYPTO_SHA256_BYTES];
    if (session_is_stopping()) { /* its own memory is the better place now */
        session_tell(c, REASON_STOPPING, NULL);
        session_hang_up(c, R_STOPPED, now_ms);
        return;
    }
    session_hear(c); /* it has read our 354, and what came before */
    intake_print(&c->t, print);
    if (!join(c, print, now_ms))
        commit(c, print, now_ms);
}

static void take_body(struct session *c, int64_t now_ms)
{
    buf_take(&c->link.in,
             intake_take(&c->t, buf_data(&c->link.in), buf_len(&c->link.in),
                         (uint64_t)settings()->message_max_bytes));
    if (intake_is_over(&c->t))
        finish_body(c, now_ms);
}

/* A plain "sent" needs no line: that of the smarthost's verdict has it. */
static void log_answer(const struct session *c, queue_id id, const char *reply,
                       enum promise_answer a, int64_t now_ms)
{
    static const enum log_counter counters[] = {
        [PROMISE_SENT] = LOG_ACCEPTED_HELD,
        [PROMISE_QUEUED] = LOG_ACCEPTED_LATE,
        [PROMISE_REFUSED] = LOG_REFUSED,
        [PROMISE_AGAIN] = LOG_REFUSED};
    char text[PROMISE_REPLY_BYTES];
    bool is_bad = a == PROMISE_REFUSED || a == PROMISE_AGAIN;
    log_count(counters[a]);
    log_clean(text, sizeof text, reply, strlen(reply));
    if (is_bad || (a == PROMISE_QUEUED && c->ack_wait_ms > 0))
        log_line(is_bad ? LOG_AT_WARN : LOG_AT_INFO, "in",
                 "id=%08X client=%s answered=\"%s\" held_ms=%lld", (unsigned)id,
                 session_client(c), text, (long long)(now_ms - c->since_ms));
    if (is_bad)
        clients_note_failure(&c->client.address, reply, NULL,
                             (int64_t)time(NULL));
    else
        clients_note_mail(&c->client.address, (int64_t)time(NULL));
}

/* False: it is not known yet what may be promised. */
static bool take_verdict(struct session *c, int64_t now_ms)
{
    char reply[PROMISE_REPLY_BYTES];
    queue_id id = promise_message(c->held);
    if (c->link.is_shut) /* half a connection: it may be deaf, or gone */
        promise_doubt(c->held, now_ms);
    enum promise_answer a = promise_answer(c->held, now_ms, reply);
    if (a == PROMISE_WAITS)
        return false;
    if (a == PROMISE_SILENCE) {
        session_hang_up(c, NULL, now_ms);
        return false;
    }
    session_say(c, reply);
    log_answer(c, id, reply, a, now_ms);
    c->told = c->held;
    c->told_ms = now_ms;
    c->was_shut_when_told = c->link.is_shut;
    c->held = 0;
    c->junk = c->errors = 0;
    c->progress_ms = now_ms;
    session_enter(c, SESSION_READY, now_ms);
    if (session_is_stopping())
        session_hang_up(c, session_stopping, now_ms);
    return true;
}

/* An answer that arrives is acknowledged in milliseconds, and asked about
 * until then; what takes longer may be lost on a dead line. */
static void follow_answer(struct session *c, int64_t now_ms)
{
    if (!link_has_unheard(&c->link))
        session_hear(c);
    else if (now_ms >= c->told_ms + TOLD_MS)
        promise_doubt(c->told, now_ms);
}

/* ---- A turn -------------------------------------------------------------- */

static bool has_room_to_answer(const struct session *c)
{
    return buf_room(&c->link.out) >= REPLY_ROOM;
}

bool dialogue_wants_input(const struct session *c)
{
    switch (c->state) {
    case SESSION_BYE: return true;
    case SESSION_VERDICT:
    case SESSION_CHECK: return false;
    case SESSION_TLS: return c->link.tls != NULL;
    default: return has_room_to_answer(c);
    }
}

bool dialogue_takes_input(const struct session *c)
{
    return c->state != SESSION_SILENT && dialogue_wants_input(c);
}

bool dialogue_is_heavy(const struct session *c)
{
    return c->state == SESSION_CHECK || c->link.step == LINK_HANDSHAKE;
}

/* Refused too often, or idle talk for too long: its 421 is due. */
static bool has_had_enough(const struct session *c)
{
    return c->errors > CLIENT_ERRORS_MAX || c->junk > CLIENT_JUNK_MAX;
}

bool dialogue_has_work(const struct session *c, int64_t now_ms)
{
    size_t length, whole;
    if (!has_room_to_answer(c))
        return false;
    switch (c->state) {
    case SESSION_BYE:
    case SESSION_SILENT: return false;
    case SESSION_CHECK: return true;
    case SESSION_VERDICT: return promise_is_ripe(c->held, now_ms);
    case SESSION_TLS:
        return c->link.step == LINK_UP &&
               (c->link.tls != NULL || buf_len(&c->link.out) == 0);
    case SESSION_BODY: return buf_len(&c->link.in) > 0;
    default:
        return has_had_enough(c) ||
               buf_line(&c->link.in, &length, &whole) != NULL;
    }
}

static bool act_on_lines(struct session *c, int64_t now_ms)
{
    if (has_had_enough(c)) {
        bool is_error = c->errors > CLIENT_ERRORS_MAX;
        /* Of one who guesses passwords the log was told, once: clients.h. */
        if (clients_login_wait_ms(&c->client.address, now_ms) == 0)
            session_tell(
                c, is_error ? REASON_TOO_MANY_ERRORS : REASON_NO_MESSAGE, NULL);
        session_hang_up(c, is_error ? R_ERRORS : R_JUNK, now_ms);
        return false;
    }
    return !is_binary_hello(c, now_ms) && take_line(c, now_ms);
}

bool dialogue_act(struct session *c, int64_t now_ms)
{
    bool has_bytes = buf_len(&c->link.in) > 0;
    if (c->told != 0)
        follow_answer(c, now_ms);
    if (!has_room_to_answer(c))
        return false;
    switch (c->state) {
    case SESSION_BYE: return false;
    case SESSION_SILENT: return break_silence(c, now_ms);
    case SESSION_TLS: return go_on_with_tls(c, now_ms);
    case SESSION_CHECK: verbs_check_login(c, now_ms); return false;
    case SESSION_VERDICT: return take_verdict(c, now_ms);
    case SESSION_BODY: take_body(c, now_ms); return has_bytes;
    default: return act_on_lines(c, now_ms);
    }
}

/* ---- The end ------------------------------------------------------------- */

static enum reason tls_reason(const struct session *c)
{
    switch (tls_fault(c->link.tls)) {
    case TLS_FAULT_TOO_OLD: return REASON_TLS_TOO_OLD;
    case TLS_FAULT_NO_CIPHER: return REASON_TLS_NO_CIPHER;
    case TLS_FAULT_DISTRUST: return REASON_TLS_DISTRUST;
    case TLS_FAULT_NOT_TLS: return REASON_TLS_NOT;
    case TLS_FAULT_GONE: return REASON_TLS_GONE;
    case TLS_FAULT_OTHER: break;
    }
    return REASON_TLS_FAILED;
}

static const char *bytes_text(const struct session *c, char text[32])
{
    snprintf(text, 32, "%llu bytes", (unsigned long long)c->t.wire_bytes);
    return text;
}

/* To be gone between two mails is as good as QUIT: many devices never say
 * it. */
static void end_gone(struct session *c, int64_t now_ms)
{
    char text[32];
    if (c->link.step == LINK_HANDSHAKE)
        session_tell(c, tls_reason(c),
                     tls_fault(c->link.tls) == TLS_FAULT_OTHER ? c->link.why
                                                               : NULL);
    else if (c->has_fresh_tls)
        session_tell(c, REASON_TLS_LEFT, NULL);
    else if (c->state == SESSION_LOGIN)
        session_tell(c, REASON_LOGIN_ABANDONED, login_place(&c->login));
    else if (c->state == SESSION_BODY)
        session_tell(c, REASON_HUNG_UP_IN_DATA, bytes_text(c, text));
    else
        log_line(LOG_AT_DEBUG, "in", "client=%s gone why=\"%s\"",
                 session_client(c), c->link.why);
    session_hang_up(c, NULL, now_ms);
}

static void end_late(struct session *c, int64_t now_ms)
{
    char text[32];
    if (c->state == SESSION_TLS)
        session_tell(c, REASON_TLS_SLOW, NULL);
    else if (c->state == SESSION_LOGIN)
        session_tell(c, REASON_LOGIN_ABANDONED, login_place(&c->login));
    else if (c->state == SESSION_BODY)
        session_tell(c, REASON_SILENT_IN_DATA, bytes_text(c, text));
    else
        session_tell(c, REASON_SILENT, NULL);
    session_hang_up(c, c->state == SESSION_BODY ? R_SLOW : R_LATE, now_ms);
}

void dialogue_end(struct session *c, enum dialogue_end why, int64_t now_ms)
{
    switch (why) {
    case DIALOGUE_ENDS_GONE: end_gone(c, now_ms); break;
    case DIALOGUE_ENDS_LATE: end_late(c, now_ms); break;
    case DIALOGUE_ENDS_STOPPING:
        session_hang_up(c, session_stopping, now_ms);
        break;
    }
}
