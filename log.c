/* See log.h. */
#include "log.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "config.h"

static enum log_level loudest = LOG_AT_INFO;
static int syslog_fd = -1;
static unsigned long dropped;
static int patience_ms; /* what is left of it */
static void (*line_sink)(const char *line);

bool log_open(bool is_syslog)
{
    if (syslog_fd >= 0)
        close(syslog_fd);
    syslog_fd = -1;
    if (!is_syslog)
        return true;
    struct sockaddr_un at = {.sun_family = AF_UNIX, .sun_path = "/dev/log"};
    syslog_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (syslog_fd < 0)
        return false;
    if (connect(syslog_fd, (struct sockaddr *)&at, sizeof at) == 0)
        return true;
    close(syslog_fd);
    syslog_fd = -1;
    return false;
}

void log_set_level(enum log_level level)
{
    loudest = level;
}

void log_to(void (*sink)(const char *line))
{
    line_sink = sink;
}

unsigned long log_dropped(void)
{
    return dropped;
}

const char *log_clean(char *out, size_t room, const void *bytes, size_t count)
{
    const unsigned char *in = bytes;
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        char one[5] = {(char)in[i], '\0'};
        if (in[i] == '"' || in[i] == '\\')
            snprintf(one, sizeof one, "\\%c", in[i]);
        else if (in[i] < 0x20 || in[i] > 0x7e)
            snprintf(one, sizeof one, "\\x%02X", in[i]);
        size_t length = strlen(one);
        if (used + length + 4 > room) { /* "..." and the NUL always fit */
            used += (size_t)snprintf(out + used, room - used, "...");
            break;
        }
        memcpy(out + used, one, length);
        used += length;
    }
    out[used < room ? used : room - 1] = '\0';
    return out;
}

/* The last guard: whatever a caller forgot to clean cannot forge a line or
 * steer a terminal. */
static void blind_controls(char *line)
{
    for (; *line; line++)
        if (*line < 0x20 || *line > 0x7e)
            *line = '?';
}

/* True when fd takes a line without blocking, at once or within what is left
 * of our patience. */
static bool is_ready(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    struct timespec before, after;
    clock_gettime(CLOCK_MONOTONIC, &before);
    bool ready = poll(&p, 1, patience_ms) == 1 && (p.revents & POLLOUT);
    clock_gettime(CLOCK_MONOTONIC, &after);
    int64_t waited_ms = (int64_t)(after.tv_sec - before.tv_sec) * 1000 +
                        (after.tv_nsec - before.tv_nsec) / 1000000;
    patience_ms -= waited_ms < patience_ms ? (int)waited_ms : patience_ms;
    return ready;
}

/* RFC 3164, the form that every /dev/log takes: facility mail (2). */
static bool send_syslog(enum log_level level, const char *room,
                        const char *text)
{
    static const int severity[] = {3, 4, 6, 7};
    char packet[LOG_LINE_BYTES + 64];
    int length = snprintf(packet, sizeof packet, "<%d>lanpost[%d]: %s %s",
                          2 * 8 + severity[level], (int)getpid(), room, text);
    if (send(syslog_fd, packet, (size_t)length, MSG_NOSIGNAL) >= 0)
        return true;
    /* Full: wait if we may. Else a syslogd that was started anew has a new
     * socket. */
    if (errno == EAGAIN ? !is_ready(syslog_fd) : !log_open(true))
        return false;
    return send(syslog_fd, packet, (size_t)length, MSG_NOSIGNAL) >= 0;
}

/* A pipe that is ready takes PIPE_BUF bytes without blocking, and a line is
 * shorter than that. */
static bool send_stderr(const char *room, const char *text)
{
    char line[LOG_LINE_BYTES + 64], when[32];
    time_t now = time(NULL);
    struct tm tm;
    localtime_r(&now, &tm);
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S%z", &tm);
    int length = snprintf(line, sizeof line, "%s %-5s %s\n", when, room, text);
    return is_ready(STDERR_FILENO) &&
           write(STDERR_FILENO, line, (size_t)length) >= 0;
}

void log_set_patience(int budget_ms)
{
    patience_ms = budget_ms;
}

void log_line(enum log_level level, const char *room, const char *format, ...)
{
    char text[LOG_LINE_BYTES];
    if (level > loudest)
        return;
    va_list args;
    va_start(args, format);
    int length = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (length >= (int)sizeof text)
        memcpy(text + sizeof text - 4, "...", 4);
    blind_controls(text);
    if (line_sink != NULL)
        line_sink(text);
    else if (syslog_fd >= 0 ? !send_syslog(level, room, text)
                            : !send_stderr(room, text))
        dropped++;
}

static unsigned long counters[LOG_COUNTERS];

void log_count(enum log_counter what)
{
    counters[what]++;
}

unsigned long log_counted(enum log_counter what)
{
    return counters[what];
}
