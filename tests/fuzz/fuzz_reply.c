/* Replies of a hostile smarthost, as they come out of the line buffer. */
#include <stdlib.h>
#include <string.h>

#include "../../buf.h"
#include "../../config.h"
#include "../../reply.h"

static void check(const struct reply *r, enum reply_state state)
{
    if (memchr(r->text, '\0', sizeof r->text) == NULL)
        abort();
    if (state == REPLY_BAD)
        return;
    if (r->code < 200 || r->code > 599 || r->lines > REPLY_LINES_MAX)
        abort();
    if (atoi(r->text) != r->code || reply_class(r) != r->code / 100)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct reply r;
    struct buf b;
    size_t length, whole;
    uint8_t *space = malloc(bytes + 1);
    buf_init(&b, space, bytes);
    buf_put(&b, data, bytes);
    reply_start(&r);
    for (const char *line; (line = buf_line(&b, &length, &whole)) != NULL;
         buf_take(&b, whole)) {
        enum reply_state state = reply_line(&r, line, length);
        check(&r, state);
        if (state != REPLY_MORE)
            reply_start(&r);
    }
    free(space);
    return 0;
}
