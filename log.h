/* log: one key=value line per event, to stderr or syslog.
 *
 * Never blocks: a line that nobody takes is dropped and counted.
 * No secret is ever handed to it. Must never know: who reads it. */
#ifndef LANPOST_LOG_H
#define LANPOST_LOG_H

#include <stdbool.h>
#include <stddef.h>

enum log_level {
    LOG_AT_ERROR,
    LOG_AT_WARN,
    LOG_AT_INFO,
    LOG_AT_DEBUG
};

/* Opens /dev/log when is_syslog; call before a chroot or a drop of
 * privilege. False: there is no /dev/log, and stderr is used. */
bool log_open(bool is_syslog);
void log_set_level(enum log_level level);

/* One event of a room: "in", "out", "dns", "relay", ... The line must not
 * bear its own newline. Bytes outside printable ASCII leave as '?'. */
void log_line(enum log_level level, const char *room, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Makes bytes of a peer safe inside quotes: '"' and '\' get a backslash, all
 * outside printable ASCII becomes \xNN, what does not fit is cut and ends in
 * "...". Returns out. */
const char *log_clean(char *out, size_t room, const void *bytes, size_t count);

/* While the program ends, lines may wait for their reader: so long in all,
 * then they are dropped as before. The loop must not run meanwhile. */
void log_set_patience(int budget_ms);

/* What happened since the start, for people who ask. */
enum log_counter {
    LOG_ACCEPTED_HELD, /* answered with the smarthost's own word */
    LOG_ACCEPTED_LATE, /* 250, and held in memory */
    LOG_REFUSED,       /* behind the final dot, 4yz or 5yz */
    LOG_SENT,          /* recipients, as all that follow */
    LOG_LATER,
    LOG_FAILED,
    LOG_IN_DOUBT, /* messages */
    LOG_JOINED,
    LOG_UNHEARD,
    LOG_LOST,
    LOG_COUNTERS
};
void log_count(enum log_counter what);
unsigned long log_counted(enum log_counter what);

/* For tests: hands each finished line, without newline, to sink instead. */
void log_to(void (*sink)(const char *line));

/* Lines lost because nobody took them. */
unsigned long log_dropped(void);

#endif
