/* FUZZ_CFLAGS: -DQUEUE_BLOCKS=256 -DQUEUE_SMALL_BLOCKS=32 */
/* FUZZ_CFLAGS: -DQUEUE_MESSAGES=16 -DMESSAGE_MAX_BYTES=131072 */

/* A hostile device: any bytes, in pieces of any size, with any pauses.
 *
 * The first bytes of the input choose piece size, pause, and how the device
 * ends; the rest is what it says. Whatever that is, afterwards no session is
 * left, the queue is sound, and what was committed is a message that may be
 * sent on: only CRLF line ends, at least one recipient, none of a stranger.
 * It is then settled, so that each input starts from nothing. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../log.h"
#include "../../poller.h"
#include "../../queue.h"
#include "../../settings.h"
#include "../../smtp_in.h"
#include "../../smtp_session.h"

#define SETTINGS                                                               \
    "smarthost = 127.0.0.1:9\nsmarthost_tls = none\n"                          \
    "postmaster = admin@example.org\n"

enum how {
    HOW_STRANGER = 1,
    HOW_HALF_CLOSE = 2,
    HOW_DRAIN = 4, /* when half is said */
    HOW_DEAF = 8   /* reads no reply */
};

static struct poller poller;
static int64_t now_ms;

static void no_log(const char *line)
{
    for (; *line; line++)
        if (*line < ' ' || *line > 0x7e)
            abort();
}

static void start_house(void)
{
    static bool is_open;
    char error[SETTINGS_ERROR_BYTES];
    if (!is_open) {
        log_to(no_log);
        log_set_level(LOG_AT_DEBUG);
        queue_init();
        if (!settings_load_text("fuzz", SETTINGS, strlen(SETTINGS), error))
            abort();
    }
    is_open = true;
    session_init("relay.test");
    now_ms += 3600000;
}

static void turn(void)
{
    poller_reset(&poller);
    smtp_in_prep(&poller, now_ms);
    poller_wake_at(&poller, now_ms);
    poller_wait(&poller, now_ms);
    smtp_in_run(&poller, now_ms);
}

static void hear(int fd, bool is_deaf)
{
    char replies[4096];
    while (!is_deaf && recv(fd, replies, sizeof replies, MSG_DONTWAIT) > 0)
        ;
}

static void talk(int fd, const uint8_t *data, size_t bytes, size_t piece,
                 int64_t pause_ms, unsigned how)
{
    for (size_t done = 0; done < bytes && smtp_in_clients() > 0;) {
        size_t n = bytes - done < piece ? bytes - done : piece;
        if (send(fd, data + done, n, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
            break;
        if (how & HOW_DRAIN && done <= bytes / 2 && done + n > bytes / 2)
            smtp_in_drain(now_ms);
        done += n;
        turn();
        hear(fd, how & HOW_DEAF);
        now_ms += pause_ms;
    }
}

/* A session lives no longer than a message may take. */
static void wait_for_the_end(int fd, unsigned how)
{
    if (how & HOW_HALF_CLOSE)
        shutdown(fd, SHUT_WR);
    else
        close(fd);
    for (int turns = 0; smtp_in_clients() > 0; turns++) {
        turn();
        if (how & HOW_HALF_CLOSE)
            hear(fd, how & HOW_DEAF);
        if (turns > 100)
            now_ms += CLIENT_MESSAGE_SECONDS * (int64_t)1000;
        if (turns > 110)
            abort();
    }
    if (how & HOW_HALF_CLOSE)
        close(fd);
}

static void check_body(queue_id id)
{
    struct queue_reader r = {0};
    size_t count, total = 0;
    uint8_t last = 0;
    const uint8_t *at;
    while ((at = queue_read(id, &r, &count)) != NULL) {
        for (size_t i = 0; i < count; i++) {
            if ((at[i] == '\n') != (last == '\r'))
                abort(); /* smuggling */
            last = at[i];
        }
        total += count;
        queue_took(&r, count);
    }
    if (last == '\r' || total != queue_bytes(id))
        abort();
}

static void settle_all(unsigned how)
{
    queue_id id;
    while ((id = queue_due(now_ms)) != QUEUE_NONE) {
        struct queue_recipient r = {0};
        unsigned recipients = 0;
        if (how & HOW_STRANGER)
            abort();
        check_body(id);
        for (; queue_next_recipient(id, &r); recipients++) {
            if (strpbrk(r.mailbox, "\r\n") != NULL)
                abort();
            queue_settle(id, &r, QUEUE_DONE);
        }
        if (recipients == 0 || recipients > RECIPIENTS_MAX)
            abort();
        if (!queue_return(id, 0))
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static const int64_t pauses_ms[] = {0, 1, 1000, 20000, 400000};
    struct ip_endpoint client = {.port = 1};
    struct queue_counts n;
    int fds[2];
    if (bytes < 3 || socketpair(AF_UNIX, SOCK_STREAM, 0, fds) != 0)
        return 0;
    size_t piece = data[0] == 0 ? bytes : data[0] * data[0];
    int64_t pause_ms = pauses_ms[data[1] % 5];
    unsigned how = data[2];
    start_house();
    ip_parse(how & HOW_STRANGER ? "192.0.2.9" : "10.0.0.9", &client.address);
    smtp_in_adopt(fds[1], &client, now_ms);
    talk(fds[0], data + 3, bytes - 3, piece, pause_ms, how);
    wait_for_the_end(fds[0], how);
    settle_all(how);
    queue_count(&n);
    if (queue_unsound() != NULL || n.writing || n.messages ||
        n.blocks_free != QUEUE_BLOCKS || n.blocks_reserved)
        abort();
    return 0;
}
