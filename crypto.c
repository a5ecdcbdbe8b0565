/* See crypto.h.
 *
 * getrandom(2) waits at boot until the kernel has entropy, which is what we
 * want; kernels before 3.17 (NAS boxes) lack it and get /dev/urandom. */
#include "crypto.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

static int urandom_fd = -1;

bool crypto_init(void)
{
    if (urandom_fd < 0)
        urandom_fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
    uint8_t probe;
    return urandom_fd >= 0 || getrandom(&probe, 1, 0) == 1;
}

static ssize_t random_some(void *data, size_t count)
{
    ssize_t got = getrandom(data, count, 0);
    if (got < 0 && errno != EINTR && urandom_fd >= 0)
        got = read(urandom_fd, data, count);
    return got;
}

void crypto_random(void *data, size_t count)
{
    uint8_t *at = data;
    while (count > 0) {
        ssize_t got = random_some(at, count);
        if (got > 0) {
            at += got;
            count -= (size_t)got;
        } else if (got == 0 || errno != EINTR) {
            fputs("lanpost: the source of randomness failed\n", stderr);
            abort();
        }
    }
}

uint32_t crypto_random_u32(void)
{
    uint32_t value;
    crypto_random(&value, sizeof value);
    return value;
}
