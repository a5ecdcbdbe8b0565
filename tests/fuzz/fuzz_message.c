/* The header walker: whole and byte by byte it must see the same, and the
 * head that we put before any message must be well formed. */
#include <stdlib.h>
#include <string.h>

#include "../../buf.h"
#include "../../message.h"

static void expect_lines(const char *head, const struct message_scan *s)
{
    const char *at = head;
    while (*at && strncmp(at, "\r\n", 2) != 0) {
        const char *end = strstr(at, "\r\n");
        if (end == NULL || end - at > 998)
            abort();
        for (; at < end; at++)
            if ((*at < ' ' && *at != '\t') || *at == 0x7f)
                abort();
        at = end + 2;
    }
    /* at most the one blank line, and only where the message has none */
    bool has_blank = *at != '\0';
    if (has_blank != (s->is_headerless || s->is_empty) ||
        (has_blank && at[2] != '\0'))
        abort();
}

static void put_head(const struct message_scan *s, const char *helo)
{
    char space[2044]; /* what the queue keeps for it */
    struct buf out;
    struct message_origin o = {.client.family = AF_INET,
                               .helo = helo,
                               .hostname = "relay.example",
                               .protocol = "ESMTP",
                               .id = "0000ABCD",
                               .reverse_path = "a@b.example",
                               .only_recipient = "c@d.example"};
    buf_init(&out, space, sizeof space - 1);
    message_put_head(s, &o, 1792929600, 7, &out);
    if (out.overflow)
        abort();
    space[buf_len(&out)] = '\0';
    expect_lines(space, s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct message_scan whole = {0}, slow = {0};
    char helo[256];
    size_t n = bytes < sizeof helo ? bytes : sizeof helo - 1;
    message_scan(&whole, data, bytes);
    for (size_t i = 0; i < bytes; i++)
        message_scan(&slow, data + i, 1);
    message_scan_end(&whole);
    message_scan_end(&slow);
    if (whole.state != slow.state || whole.received != slow.received ||
        whole.has_date != slow.has_date || whole.has_from != slow.has_from ||
        whole.has_message_id != slow.has_message_id ||
        whole.is_headerless != slow.is_headerless ||
        whole.is_empty != slow.is_empty)
        abort();
    memcpy(helo, data, n);
    helo[n] = '\0';
    put_head(&whole, helo);
    return 0;
}
