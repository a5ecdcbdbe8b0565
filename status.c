/* See status.h.
 *
 * The least of HTTP that a browser, curl and we need: the request's first
 * line is read, the rest of it thrown away, one answer given, the connection
 * closed. */
#include "status.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "clients.h"
#include "config.h"
#include "door.h"
#include "link.h"
#include "log.h"
#include "poller.h"
#include "promise.h"
#include "queue.h"
#include "route.h"
#include "settings.h"

#define ASK_MS        5000 /* to ask, and to be told */
#define REQUEST_BYTES 1024
#define PAGE_BYTES    (2048 + CLIENTS_REMEMBERED * 480)

static struct visitor {
    struct link link; /* LINK_CLOSED: vacant */
    bool has_asked;
    uint8_t in[REQUEST_BYTES], out[PAGE_BYTES];
} visitors[STATUS_SLOTS];
static int64_t started_ms;

/* ---- The page ------------------------------------------------------------ */

/* "3 h 20 min ago"; the coarser the older. */
static const char *age_text(int64_t age_s, char text[40])
{
    long long s = age_s < 0 ? 0 : (long long)age_s;
    if (s < 120)
        snprintf(text, 40, "%lld s", s);
    else if (s < 7200)
        snprintf(text, 40, "%lld min", s / 60);
    else if (s < 172800)
        snprintf(text, 40, "%lld h %lld min", s / 3600, s / 60 % 60);
    else
        snprintf(text, 40, "%lld days", s / 86400);
    return text;
}

static void put_route(struct buf *out, int64_t now_ms)
{
    char text[40];
    int64_t rest_ms;
    const char *advice, *why = route_why(now_ms, &rest_ms, &advice);
    buf_format(out, "smarthost  %s\n", route_smarthost());
    if (why == NULL)
        buf_puts(out, "route      up\n");
    else
        buf_format(out, "route      rests for %s: %s%s%s\n",
                   age_text(rest_ms / 1000, text), why,
                   advice != NULL ? "\nadvice     " : "",
                   advice != NULL ? advice : "");
}

/* Held ones have been promised to nobody yet, and notices never are. */
static void put_queue(struct buf *out, int64_t now_ms)
{
    struct queue_counts n;
    char text[40];
    queue_count(&n);
    int64_t oldest_s = (now_ms - n.oldest_ms) / 1000;
    buf_format(out,
               "queue      %u waiting, %u being sent, %u in doubt, "
               "%u being written, %u devices wait for their answer\n"
               "           %s%s%u of %u KiB free\n",
               n.messages - n.sending, n.sending, n.in_doubt, n.writing,
               promise_count_held(),
               n.messages > 0 ? age_text(oldest_s, text) : "",
               n.messages > 0 ? " is the age of the oldest; " : "",
               (unsigned)((uint64_t)n.blocks_free * QUEUE_BLOCK_BYTES / 1024),
               (unsigned)((uint64_t)QUEUE_BLOCKS * QUEUE_BLOCK_BYTES / 1024));
    buf_format(out, "power cut  %u messages would be lost by a power cut now\n",
               n.promised);
}

static void put_counters(struct buf *out)
{
    buf_format(out,
               "answered   %lu with the smarthost's word, %lu queued, %lu "
               "refused, %lu never heard, %lu sent again and joined\n"
               "recipients %lu sent, %lu put off, %lu failed, %lu lost; "
               "%lu messages in doubt\n",
               log_counted(LOG_ACCEPTED_HELD), log_counted(LOG_ACCEPTED_LATE),
               log_counted(LOG_REFUSED), log_counted(LOG_UNHEARD),
               log_counted(LOG_JOINED), log_counted(LOG_SENT),
               log_counted(LOG_LATER), log_counted(LOG_FAILED),
               log_counted(LOG_LOST), log_counted(LOG_IN_DOUBT));
}

static void put_client(struct buf *out, const struct client *c, int64_t now_s)
{
    char address[IP_TEXT_BYTES], text[40];
    buf_format(out, "\n%s\n", ip_format(&c->address, address));
    if (c->last_mail_s != 0)
        buf_format(out, "  last mail     %s ago, %u that day\n",
                   age_text(now_s - c->last_mail_s, text), c->mails_today);
    if (c->last_failure_s == 0)
        return;
    buf_format(out, "  last failure  %s ago: %s\n",
               age_text(now_s - c->last_failure_s, text), c->why);
    if (*c->advice != '\0')
        buf_format(out, "  advice        %s\n", c->advice);
}

void status_put_page(struct buf *out, int64_t now_ms, int64_t now_s)
{
    char text[40];
    buf_format(out, "lanpost " LANPOST_VERSION ", up for %s\n",
               age_text((now_ms - started_ms) / 1000, text));
    put_route(out, now_ms);
    put_queue(out, now_ms);
    put_counters(out);
    const struct client *c = clients_walk(NULL);
    if (c == NULL)
        buf_puts(out, "\nNo device has called yet.\n");
    for (; c != NULL; c = clients_walk(c))
        put_client(out, c, now_s);
}

/* ---- Visitors ------------------------------------------------------------ */

static void answer(struct visitor *v, const char *line, size_t length,
                   int64_t now_ms)
{
    bool is_page = length >= 6 && memcmp(line, "GET / ", 6) == 0;
    buf_format(&v->link.out,
               "HTTP/1.0 %s\r\nContent-Type: text/plain; charset=utf-8\r\n"
               "X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n"
               "Connection: close\r\n\r\n",
               is_page ? "200 OK" : "404 Not Found");
    if (is_page)
        status_put_page(&v->link.out, now_ms, (int64_t)time(NULL));
    else
        buf_puts(&v->link.out, "There is one page here: /\n");
    v->has_asked = true;
}

static void run_visitor(struct visitor *v, const struct poller *p,
                        int64_t now_ms)
{
    size_t length, whole;
    link_run(&v->link, p, true);
    const char *line = buf_line(&v->link.in, &length, &whole);
    if (line != NULL && !v->has_asked)
        answer(v, line, length, now_ms);
    /* The rest of a request is read to its end, or closing would reset the
     * connection under our answer. */
    if (v->has_asked)
        buf_clear(&v->link.in);
    link_flush(&v->link);
    bool is_done = v->has_asked && buf_len(&v->link.out) == 0;
    if (is_done && !v->link.has_ended)
        link_shut(&v->link);
    if (v->link.is_broken ||
        (v->link.has_ended && (is_done || !v->has_asked)) ||
        buf_room(&v->link.in) == 0 || link_is_late(&v->link, now_ms))
        link_close(&v->link);
}

static void let_in(int fd, int64_t now_ms)
{
    for (size_t i = 0; i < STATUS_SLOTS; i++) {
        struct visitor *v = &visitors[i];
        if (v->link.step != LINK_CLOSED)
            continue;
        link_open(&v->link, fd, false, v->in, sizeof v->in, v->out,
                  sizeof v->out);
        v->link.deadline_ms = now_ms + ASK_MS;
        v->has_asked = false;
        return;
    }
    close(fd);
}

void status_prep(struct poller *p, int64_t now_ms)
{
    door_prep(p, DOOR_STATUS, now_ms);
    for (size_t i = 0; i < STATUS_SLOTS; i++)
        link_prep(&visitors[i].link, p, true);
}

void status_run(const struct poller *p, int64_t now_ms)
{
    struct ip_endpoint who;
    for (size_t i = 0; i < STATUS_SLOTS; i++)
        if (visitors[i].link.step != LINK_CLOSED)
            run_visitor(&visitors[i], p, now_ms);
    int fd = door_accept(p, DOOR_STATUS, now_ms, &who);
    if (fd >= 0)
        let_in(fd, now_ms);
}

void status_init(int64_t now_ms)
{
    const struct settings *s = settings();
    started_ms = now_ms;
    if (!door_open(DOOR_STATUS, s->status_listen.items, s->status_listen.count,
                   true))
        log_line(LOG_AT_WARN, "relay",
                 "lanpost status will not answer; set another status_listen");
}

/* ---- The one who asks ---------------------------------------------------- */

static int call(const struct ip_endpoint *at)
{
    static const char request[] = "GET / HTTP/1.0\r\n\r\n";
    const struct timeval patience = {.tv_sec = ASK_MS / 1000};
    struct sockaddr_storage address;
    socklen_t length = ip_to_sockaddr(at, &address);
    int fd = socket(at->address.family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (connect(fd, (struct sockaddr *)&address, length) == 0 &&
        send(fd, request, sizeof request - 1, MSG_NOSIGNAL) > 0)
        return fd;
    int fault = errno;
    close(fd);
    errno = fault;
    return -1;
}

bool status_ask(const struct ip_endpoint *at, FILE *out, const char **why)
{
    char page[PAGE_BYTES];
    size_t used = 0;
    int fd = call(at);
    if (fd < 0) {
        *why = strerror(errno);
        return false;
    }
    for (ssize_t n = 1; n > 0 && used < sizeof page - 1; used += (size_t)n) {
        n = recv(fd, page + used, sizeof page - 1 - used, 0);
        if (n <= 0)
            break;
    }
    close(fd);
    page[used] = '\0';
    const char *text = strstr(page, "\r\n\r\n");
    if (strncmp(page, "HTTP/1.0 200", 12) != 0 || text == NULL) {
        *why = "what answers there is not lanpost, or it is busy";
        return false;
    }
    fputs(text + 4, out);
    return true;
}

size_t status_memory_bytes(void)
{
    return sizeof visitors;
}
