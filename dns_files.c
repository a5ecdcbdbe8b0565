/* See dns_files.h. */
#include "dns_files.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "buf.h"

#define BLANKS " \t\r"

typedef void line_taker(char *line, void *context);

struct hosts_query {
    const char *name;
    struct ip_address *out;
    unsigned count, room;
};

struct servers_query {
    struct ip_endpoint *out;
    unsigned count;
};

/* Hands each whole line, cut at a comment, to take. A line longer than we
 * bear is left out to its end: the cut half of a name is another name. */
static void take_lines(struct buf *b, bool *is_overlong, line_taker *take,
                       void *context)
{
    char text[DNS_FILE_LINE_BYTES + 1];
    size_t length, whole;
    const char *line;
    while ((line = buf_line(b, &length, &whole)) != NULL) {
        memcpy(text, line, length);
        text[length] = '\0';
        text[strcspn(text, "#;")] = '\0';
        if (!*is_overlong)
            take(text, context);
        *is_overlong = false;
        buf_take(b, whole);
    }
    if (buf_room(b) == 0) {
        *is_overlong = true;
        buf_clear(b);
    }
}

static void each_line(const char *path, line_taker *take, void *context)
{
    char space[DNS_FILE_LINE_BYTES];
    struct buf b;
    bool is_overlong = false;
    ssize_t got = 1;
    /* O_NONBLOCK: whoever names a FIFO gets no line, and we do not hang. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return;
    buf_init(&b, space, sizeof space);
    for (size_t total = 0; got > 0 && total < DNS_FILE_MAX_BYTES;) {
        size_t room;
        uint8_t *tail = buf_tail(&b, &room);
        got = read(fd, tail, room);
        if (got > 0)
            buf_wrote(&b, (size_t)got);
        else
            buf_put(&b, "\n", 1); /* the last line may lack its own */
        total += got > 0 ? (size_t)got : 0;
        take_lines(&b, &is_overlong, take, context);
    }
    close(fd);
}

static void take_resolv_line(char *line, void *context)
{
    struct servers_query *q = context;
    struct ip_endpoint e;
    char *at, *word = strtok_r(line, BLANKS, &at);
    if (word == NULL || strcmp(word, "nameserver") != 0)
        return;
    word = strtok_r(NULL, BLANKS, &at);
    if (word != NULL && q->count < DNS_SERVERS_MAX &&
        ip_parse_endpoint(word, 53, &e) && ip_is_host(&e.address))
        q->out[q->count++] = e;
}

static void take_hosts_line(char *line, void *context)
{
    struct hosts_query *q = context;
    struct ip_address a;
    char *at, *word = strtok_r(line, BLANKS, &at);
    if (word == NULL || !ip_parse(word, &a))
        return;
    while ((word = strtok_r(NULL, BLANKS, &at)) != NULL) {
        size_t length = strlen(word);
        if (word[length - 1] == '.')
            length--;
        if (q->count < q->room && bytes_equal_nocase(word, length, q->name))
            q->out[q->count++] = a;
    }
}

bool dns_files_has_changed(const char *path, struct stat *seen)
{
    struct stat was = *seen;
    if (stat(path, seen) != 0)
        *seen = (struct stat){0};
    return was.st_dev != seen->st_dev || was.st_ino != seen->st_ino ||
           was.st_size != seen->st_size ||
           was.st_mtim.tv_sec != seen->st_mtim.tv_sec ||
           was.st_mtim.tv_nsec != seen->st_mtim.tv_nsec;
}

unsigned dns_files_servers(const char *path,
                           struct ip_endpoint out[DNS_SERVERS_MAX])
{
    struct servers_query q = {.out = out};
    each_line(path, take_resolv_line, &q);
    return q.count;
}

unsigned dns_files_hosts(const char *path, const char *name,
                         struct ip_address *out, unsigned room)
{
    struct hosts_query q = {.name = name, .out = out, .room = room};
    each_line(path, take_hosts_line, &q);
    return q.count;
}
