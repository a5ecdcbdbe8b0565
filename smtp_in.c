/* See smtp_in.h.
 *
 * The pool of sessions: who gets a slot, when it acts, when its time is over.
 * Nothing is stored that can be computed: what a session waits for, and its
 * deadline, follow from its state each turn. */
#include "smtp_in.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clients.h"
#include "config.h"
#include "door.h"
#include "log.h"
#include "poller.h"
#include "settings.h"
#include "smtp_dialogue.h"

#define COMMANDS_PER_TURN 50 /* then the others have their turn */
#define ACCEPTS_PER_TURN  32
#define BYE_MS            2000
#define ARRIVAL_MS        20 /* between two looks whether it arrived */
#define TELL_AGAIN_MS     10000

static const char R_HOUSE_FULL[] = "421 4.3.2 Too many connections\r\n";
static const char R_YOURS_FULL[] =
    "421 4.7.0 Too many connections from your address\r\n";

static struct session sessions[CLIENTS_MAX];
static int64_t full_told_ms; /* when a full house was last logged; 0: never */

static unsigned clients_taken(void)
{
    unsigned count = 0;
    for (size_t i = 0; i < CLIENTS_MAX; i++)
        count += sessions[i].state != SESSION_VACANT;
    return count;
}

unsigned smtp_in_clients(void)
{
    return clients_taken();
}

/* While slots are short, of sessions or of TLS, the idle make room for those
 * who work. */
static bool is_crowded(void)
{
    return clients_taken() >= CLIENTS_MAX * 3 / 4 ||
           tls_served() >= CLIENT_TLS_MAX * 3 / 4;
}

/* In DATA a device has what it sent as credit: the time in which so many
 * bytes must have come at the least rate. A scanner may pause between pages;
 * a byte a second is no scanner. */
static int64_t merit_ms(const struct session *c)
{
    if (c->state != SESSION_BODY)
        return c->since_ms;
    return c->data_since_ms +
           (int64_t)(c->t.wire_bytes * 1000 / CLIENT_RATE_BYTES);
}

static int64_t earlier(int64_t a_ms, int64_t b_ms)
{
    return a_ms < b_ms ? a_ms : b_ms;
}

/* Deadlines follow commands and whole messages, never single bytes, or a slow
 * drip would live for ever; and even commands without end end. */
static int64_t deadline_of(const struct session *c, bool crowded)
{
    int64_t idle_s =
        crowded ? CLIENT_IDLE_CROWDED_SECONDS : CLIENT_IDLE_SECONDS;
    int64_t patience_s =
        crowded ? CLIENT_PATIENCE_CROWDED_SECONDS : CLIENT_PATIENCE_SECONDS;
    int64_t grace_s =
        crowded ? CLIENT_RATE_GRACE_CROWDED_SECONDS : CLIENT_RATE_GRACE_SECONDS;
    if (c->state == SESSION_BYE)
        return c->since_ms + BYE_MS;
    if (c->state == SESSION_SILENT) /* no fault: then it is greeted */
        return c->since_ms + settings()->tls_detect_ms;
    if (c->state == SESSION_VERDICT) /* it wakes us; then it is asked */
        return INT64_MAX;
    if (c->state == SESSION_TLS)
        return c->since_ms + CLIENT_TLS_SECONDS * (int64_t)1000;
    if (c->state == SESSION_BODY)
        return earlier(merit_ms(c) + grace_s * 1000,
                       c->data_since_ms +
                           CLIENT_MESSAGE_SECONDS * (int64_t)1000);
    return earlier(merit_ms(c) + idle_s * 1000,
                   c->progress_ms + patience_s * 1000);
}

/* The last reply must not die of a reset: a socket closed with unread bytes
 * sends one. So our side is shut first, and theirs read to its end. */
static void say_goodbye(struct session *c, int64_t now_ms)
{
    buf_clear(&c->link.in);
    if (buf_len(&c->link.out) == 0 && !c->has_said_goodbye) {
        link_shut(&c->link);
        c->has_said_goodbye = true;
    }
    /* Half a connection is closed only when it is known whether our answer
     * arrived: else the next mail could be taken for a resend. */
    bool is_gone = c->link.is_broken || c->link.was_reset;
    if (is_gone || (c->link.has_ended && !session_is_unsure(c)))
        session_vacate(c, now_ms);
}

/* The peer is gone, and its last words are dealt with. */
static bool is_over(const struct session *c, int64_t now_ms)
{
    return c->link.is_broken ||
           (c->link.has_ended && !dialogue_has_work(c, now_ms) &&
            dialogue_wants_input(c));
}

static void run_client(struct session *c, const struct poller *p,
                       int64_t now_ms)
{
    link_run(&c->link, p, dialogue_takes_input(c));
    for (int i = 0; i < COMMANDS_PER_TURN && dialogue_act(c, now_ms); i++)
        ;
    link_flush(&c->link);
    c->link.deadline_ms = deadline_of(c, is_crowded());
    bool is_late = link_is_late(&c->link, now_ms);
    if (c->state == SESSION_BYE && is_late) {
        session_vacate(c, now_ms);
        return;
    }
    if (c->state != SESSION_BYE && is_over(c, now_ms))
        dialogue_end(c, DIALOGUE_ENDS_GONE, now_ms);
    else if (is_late)
        dialogue_end(c, DIALOGUE_ENDS_LATE, now_ms);
    link_flush(&c->link);
    if (c->state == SESSION_BYE)
        say_goodbye(c, now_ms);
}

/* ---- Connections --------------------------------------------------------- */

static struct session *vacant_slot(void)
{
    for (size_t i = 0; i < CLIENTS_MAX; i++)
        if (sessions[i].state == SESSION_VACANT)
            return &sessions[i];
    return NULL;
}

static unsigned clients_from(const struct ip_address *address)
{
    unsigned count = 0;
    for (size_t i = 0; i < CLIENTS_MAX; i++)
        count += sessions[i].state != SESSION_VACANT &&
                 ip_equal(&sessions[i].client.address, address);
    return count;
}

/* A flood of refused connections is one log line every ten seconds. */
static void turn_away(int fd, const struct ip_endpoint *client, bool is_tls,
                      const char *reply, int64_t now_ms)
{
    char text[IP_TEXT_BYTES];
    /* Who does not take a 421 is turned away all the same; who speaks TLS would
     * not even read it. */
    ssize_t n = 0;
    if (!is_tls)
        n = send(fd, reply, strlen(reply), MSG_NOSIGNAL | MSG_DONTWAIT);
    (void)n;
    shutdown(fd, SHUT_WR);
    close(fd);
    if (now_ms < full_told_ms + TELL_AGAIN_MS && full_told_ms != 0)
        return;
    full_told_ms = now_ms;
    log_line(LOG_AT_WARN, "in", "client=%s refused why=\"%.*s\" clients=%u",
             ip_format(&client->address, text), (int)strcspn(reply + 10, "\r"),
             reply + 10, clients_taken());
}

/* Reading to the end of one who has his last reply is a courtesy, and gives
 * way when slots are short: a device that reconnects in the very turn of its
 * QUIT would else count twice. */
static void end_goodbyes(int64_t now_ms)
{
    for (size_t i = 0; i < CLIENTS_MAX; i++)
        if (sessions[i].state == SESSION_BYE && sessions[i].has_said_goodbye)
            session_vacate(&sessions[i], now_ms);
}

/* For TLS neither a handshake gives way, which has a deadline of its own, nor
 * a message. */
static bool may_give_way(const struct session *c, bool is_for_tls)
{
    if (is_for_tls)
        return c->link.tls != NULL && c->state >= SESSION_HELO &&
               c->state < SESSION_BODY;
    return c->state != SESSION_VACANT && c->state < SESSION_VERDICT;
}

/* No slot is left: the one who has been lazy for longest makes room, if that
 * was long enough for him not to be at work. */
static void evict_laziest(bool is_for_tls, int64_t now_ms)
{
    struct session *laziest = NULL;
    for (size_t i = 0; i < CLIENTS_MAX; i++)
        if (may_give_way(&sessions[i], is_for_tls) &&
            (laziest == NULL || merit_ms(&sessions[i]) < merit_ms(laziest)))
            laziest = &sessions[i];
    if (laziest == NULL ||
        now_ms - merit_ms(laziest) < CLIENT_EVICT_SECONDS * (int64_t)1000)
        return;
    dialogue_end(laziest, DIALOGUE_ENDS_LATE, now_ms);
    link_flush(&laziest->link);
    session_vacate(laziest, now_ms);
}

static bool is_address_full(const struct ip_address *address)
{
    return clients_from(address) >= (unsigned)settings()->clients_per_address;
}

/* Listeners differ in it only where somebody says so. */
static int64_t ack_wait_of(int fd)
{
    struct sockaddr_storage address;
    struct ip_endpoint own = {.port = 0};
    socklen_t length = sizeof address;
    if (*settings()->ack_wait_at != '\0' &&
        getsockname(fd, (struct sockaddr *)&address, &length) == 0)
        ip_from_sockaddr(&address, &own);
    return settings_ack_wait_ms(own.port);
}

void smtp_in_adopt(int fd, const struct ip_endpoint *client, bool is_tls,
                   int64_t now_ms)
{
    int on = 1;
    if (vacant_slot() == NULL || is_address_full(&client->address))
        end_goodbyes(now_ms);
    if (is_address_full(&client->address)) {
        turn_away(fd, client, is_tls, R_YOURS_FULL, now_ms);
        return;
    }
    if (vacant_slot() == NULL)
        evict_laziest(false, now_ms);
    struct session *c = vacant_slot();
    if (c == NULL) {
        turn_away(fd, client, is_tls, R_HOUSE_FULL, now_ms);
        return;
    }
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    c->ack_wait_ms = ack_wait_of(fd);
    dialogue_start(c, fd, client, is_tls, now_ms);
    link_flush(&c->link);
    if (c->state == SESSION_BYE) /* nothing else would wake it */
        say_goodbye(c, now_ms);
}

void smtp_in_prep(struct poller *p, int64_t now_ms)
{
    bool crowded = is_crowded();
    door_prep(p, DOOR_PLAIN, now_ms);
    door_prep(p, DOOR_TLS, now_ms);
    for (size_t i = 0; i < CLIENTS_MAX; i++) {
        struct session *c = &sessions[i];
        if (c->state == SESSION_VACANT)
            continue;
        c->link.deadline_ms = deadline_of(c, crowded);
        link_prep(&c->link, p, dialogue_wants_input(c));
        if (dialogue_has_work(c, now_ms))
            poller_wake_at(p, now_ms);
        if (c->state == SESSION_VERDICT)
            poller_wake_at(p, promise_due_ms(c->held, now_ms));
        if (c->state == SESSION_BYE && c->link.has_ended)
            poller_wake_at(p, now_ms + ARRIVAL_MS);
    }
}

/* Who waits for the next word of a handshake costs nothing meanwhile. */
static bool is_heavy_now(const struct session *c, const struct poller *p)
{
    return dialogue_is_heavy(c) &&
           (c->state == SESSION_CHECK ||
            poller_events(p, c->link.slot, c->link.fd) != 0);
}

/* Those with heavy work are served in turn, and only so many of them: poll
 * tells of the others again at once. */
static void run_clients(const struct poller *p, int64_t now_ms)
{
    static size_t first;
    size_t start = first;
    int heavy_left = CLIENT_HEAVY_PER_TURN;
    for (size_t i = 0; i < CLIENTS_MAX; i++) {
        size_t place = (start + i) % CLIENTS_MAX;
        struct session *c = &sessions[place];
        if (c->state == SESSION_VACANT)
            continue;
        if (is_heavy_now(c, p) && !link_is_late(&c->link, now_ms)) {
            if (heavy_left == 0)
                continue;
            if (--heavy_left == 0)
                first = place + 1;
        }
        run_client(c, p, now_ms);
    }
}

static void accept_clients(const struct poller *p, enum door_kind kind,
                           int64_t now_ms)
{
    struct ip_endpoint client;
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        int fd = door_accept(p, kind, now_ms, &client);
        if (fd < 0)
            return;
        smtp_in_adopt(fd, &client, kind == DOOR_TLS, now_ms);
    }
}

void smtp_in_run(const struct poller *p, int64_t now_ms)
{
    /* Clients first: a slot that they free serves the next connection. */
    run_clients(p, now_ms);
    accept_clients(p, DOOR_PLAIN, now_ms);
    accept_clients(p, DOOR_TLS, now_ms);
    /* Whoever asked for TLS in vain finds a slot when it asks again: a dozen
     * idle sessions of one device would else shut out all others. */
    if (session_take_tls_wish() && !tls_can_serve())
        evict_laziest(true, now_ms);
}

void smtp_in_drain(int64_t now_ms)
{
    session_stop_all();
    door_close(DOOR_PLAIN);
    door_close(DOOR_TLS);
    for (size_t i = 0; i < CLIENTS_MAX; i++)
        if (sessions[i].state != SESSION_VACANT &&
            sessions[i].state < SESSION_MAIL) {
            dialogue_end(&sessions[i], DIALOGUE_ENDS_STOPPING, now_ms);
            link_flush(&sessions[i].link);
            say_goodbye(&sessions[i], now_ms);
        }
}

void smtp_in_abandon(int64_t now_ms)
{
    for (size_t i = 0; i < CLIENTS_MAX; i++) {
        struct session *c = &sessions[i];
        if (c->state != SESSION_VERDICT)
            continue;
        promise_hurry(c->held, now_ms);
        dialogue_act(c, now_ms);
        if (c->state == SESSION_VERDICT)
            dialogue_end(c, DIALOGUE_ENDS_STOPPING, now_ms);
        link_flush(&c->link);
        say_goodbye(c, now_ms);
    }
}

bool smtp_in_init(const char *hostname)
{
    const struct settings *s = settings();
    session_init(hostname);
    clients_init();
    promise_init();
    return door_open(DOOR_PLAIN, s->listen.items, s->listen.count,
                     s->listen_is_preset) &&
           door_open(DOOR_TLS, s->listen_tls.items, s->listen_tls.count, false);
}

size_t smtp_in_memory_bytes(void)
{
    return sizeof sessions + clients_memory_bytes() + promise_memory_bytes();
}
