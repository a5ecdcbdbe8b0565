/* base64: what is decoded must be encoded to the very same text; what is
 * encoded must be decoded to the very same bytes. */
#include <stdlib.h>
#include <string.h>

#include "../../buf.h"

static void fuzz_decode(const char *text, size_t count)
{
    size_t room = 3 * (count / 4);
    uint8_t *out = malloc(room + 1), *again = malloc(count + 1);
    struct buf b;
    ssize_t n = base64_decode(text, count, out, room);
    if (n > 0 && base64_decode(text, count, out, (size_t)n - 1) != -1)
        abort();
    if (n >= 0) {
        buf_init(&b, again, count);
        buf_put_base64(&b, out, (size_t)n);
        if (b.overflow || buf_len(&b) != count ||
            (count > 0 && memcmp(again, text, count) != 0))
            abort();
    }
    free(out);
    free(again);
}

static void fuzz_encode(const uint8_t *data, size_t count)
{
    size_t room = (count + 2) / 3 * 4;
    uint8_t *text = malloc(room + 1), *again = malloc(count + 3);
    struct buf b;
    buf_init(&b, text, room);
    buf_put_base64(&b, data, count);
    if (b.overflow || base64_decode((char *)text, buf_len(&b), again, count) !=
                          (ssize_t)count)
        abort();
    if (count > 0 && memcmp(again, data, count) != 0)
        abort();
    free(text);
    free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    uint8_t *copy = malloc(bytes + 1);
    memcpy(copy + 1, data, bytes); /* ends where the memory ends */
    fuzz_decode((char *)copy + 1, bytes);
    fuzz_encode(copy + 1, bytes);
    free(copy);
    return 0;
}
