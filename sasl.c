/* See sasl.h. */
#include "sasl.h"

#include <string.h>

static const char *const names[SASL_MECHANISMS] = {"none", "PLAIN", "LOGIN"};

/* Best first: PLAIN takes one round trip, LOGIN three. */
static const enum sasl_mechanism ranking[] = {SASL_PLAIN, SASL_LOGIN};

const char *sasl_name(enum sasl_mechanism mechanism)
{
    return names[mechanism];
}

unsigned sasl_offered(const char *line, size_t length)
{
    unsigned bits = 0;
    if (length < 5 || !bytes_equal_nocase(line, 4, "AUTH") ||
        (line[4] != ' ' && line[4] != '='))
        return 0;
    for (size_t at = 5; at < length;) {
        const char *blank = memchr(line + at, ' ', length - at);
        size_t n = blank ? (size_t)(blank - line) - at : length - at;
        for (int m = SASL_PLAIN; m < SASL_MECHANISMS; m++)
            if (bytes_equal_nocase(line + at, n, names[m]))
                bits |= SASL_BIT(m);
        at += n + 1;
    }
    return bits;
}

enum sasl_mechanism sasl_choose(unsigned offered, enum sasl_mechanism wanted)
{
    for (size_t i = 0; i < sizeof ranking / sizeof ranking[0]; i++)
        if ((offered & SASL_BIT(ranking[i])) &&
            (wanted == SASL_NONE || wanted == ranking[i]))
            return ranking[i];
    return SASL_NONE;
}

/* RFC 4616: authorization identity (none), NUL, user, NUL, password. */
static void put_plain(const char *user, const char *password, struct buf *out)
{
    char text[2 * 256 + 2];
    struct buf b;
    buf_init(&b, text, sizeof text);
    buf_put(&b, "", 1);
    buf_puts(&b, user);
    buf_put(&b, "", 1);
    buf_puts(&b, password);
    out->overflow |= b.overflow;
    buf_put_base64(out, buf_data(&b), buf_len(&b));
    bytes_wipe(text, sizeof text);
}

void sasl_start(struct sasl *s, enum sasl_mechanism mechanism, const char *user,
                const char *password, struct buf *out)
{
    *s = (struct sasl){.mechanism = mechanism};
    buf_format(out, "AUTH %s", names[mechanism]);
    if (mechanism == SASL_PLAIN) {
        buf_puts(out, " ");
        put_plain(user, password, out);
    }
    buf_puts(out, "\r\n");
}

bool sasl_answer(struct sasl *s, const char *user, const char *password,
                 struct buf *out)
{
    /* LOGIN: the prompts are worded in many ways and always come in this
     * order, so their text is not looked at. */
    if (s->mechanism != SASL_LOGIN || s->step > 1)
        return false;
    const char *text = s->step == 0 ? user : password;
    buf_put_base64(out, text, strlen(text));
    buf_puts(out, "\r\n");
    s->step++;
    return true;
}
