/* See file.h. */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

ssize_t file_read(const char *name, void *data, size_t room, bool *is_open)
{
    int fd = open(name, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return -1;
    struct stat st;
    *is_open = fstat(fd, &st) != 0 || (st.st_mode & (S_IRWXO | S_IWGRP));
    size_t used = 0;
    ssize_t n = 1;
    while (n != 0 && used < room) {
        n = read(fd, (char *)data + used, room - used);
        if (n < 0 && errno != EINTR)
            break;
        used += n > 0 ? (size_t)n : 0;
    }
    int fault = n < 0 ? errno : used == room ? EFBIG : 0;
    close(fd);
    errno = fault;
    return fault != 0 ? -1 : (ssize_t)used;
}

enum file_line file_next_line(const char **text, const char *end, char *line,
                              size_t room)
{
    if (*text >= end)
        return FILE_LINE_NONE;
    const char *start = *text;
    const char *lf = memchr(start, '\n', (size_t)(end - start));
    size_t n = (size_t)((lf != NULL ? lf : end) - start);
    *text = start + n + (lf != NULL);
    if (n >= room)
        return FILE_LINE_TOO_LONG;
    if (memchr(start, '\0', n) != NULL)
        return FILE_LINE_HAS_NUL;
    memcpy(line, start, n);
    line[n] = '\0';
    return FILE_LINE_GOOD;
}

static bool write_all(int fd, const char *data, size_t count)
{
    for (size_t done = 0; done < count;) {
        ssize_t n = write(fd, data + done, count - done);
        if (n < 0 && errno != EINTR)
            return false;
        done += n > 0 ? (size_t)n : 0;
    }
    return fsync(fd) == 0;
}

bool file_write(const char *name, const void *data, size_t count)
{
    char draft[PATH_MAX];
    if (snprintf(draft, sizeof draft, "%s.new", name) >= (int)sizeof draft) {
        errno = ENAMETOOLONG;
        return false;
    }
    unlink(draft); /* of a run that was cut short */
    int fd = open(draft, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
                  S_IRUSR | S_IWUSR);
    if (fd < 0)
        return false;
    bool is_good = write_all(fd, data, count);
    int fault = errno;
    close(fd);
    if (is_good && rename(draft, name) == 0)
        return true;
    fault = is_good ? errno : fault;
    unlink(draft);
    errno = fault;
    return false;
}
