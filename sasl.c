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

/* ---- Towards devices ----------------------------------------------------- */

bool sasl_serve(struct sasl_server *s, const char *mechanism, size_t length)
{
    memset(s, 0, sizeof *s);
    for (int m = SASL_PLAIN; m < SASL_MECHANISMS; m++)
        if (bytes_equal_nocase(mechanism, length, names[m]))
            s->mechanism = (enum sasl_mechanism)m;
    return s->mechanism != SASL_NONE;
}

/* False: it is no base64, or too long. length: of the bytes, which may hold
 * NULs. */
static bool decode(const char *line, char *out, size_t room, size_t *length)
{
    size_t count = strcmp(line, "=") == 0 ? 0 : strlen(line);
    ssize_t n = base64_decode(line, count, (uint8_t *)out, room - 1);
    if (n < 0)
        return false;
    out[n] = '\0';
    *length = (size_t)n;
    return true;
}

static bool decode_text(const char *line, char out[SASL_TEXT_BYTES])
{
    size_t length;
    return decode(line, out, SASL_TEXT_BYTES, &length) && strlen(out) == length;
}

/* RFC 4616; the authorization identity is not looked at: who logs in sends. */
static bool take_plain(struct sasl_server *s, const char *line)
{
    char text[3 * SASL_TEXT_BYTES];
    size_t length = 0;
    bool is_good = decode(line, text, sizeof text, &length);
    const char *end = text + length;
    const char *user = is_good ? memchr(text, '\0', length) : NULL;
    const char *password =
        user != NULL ? memchr(user + 1, '\0', (size_t)(end - user) - 1) : NULL;
    is_good = password != NULL &&
              strlen(password + 1) + 1 == (size_t)(end - password);
    is_good = is_good && text_copy(s->user, sizeof s->user, user + 1) &&
              text_copy(s->password, sizeof s->password, password + 1);
    bytes_wipe(text, sizeof text);
    return is_good;
}

static enum sasl_result take_login(struct sasl_server *s, const char *line)
{
    bool is_user = s->step == 0;
    if (!decode_text(line, is_user ? s->user : s->password))
        return SASL_BAD;
    s->step++;
    return is_user ? SASL_ASKS : SASL_GOT;
}

enum sasl_result sasl_take(struct sasl_server *s, const char *line)
{
    if (line == NULL)
        return SASL_ASKS;
    if (strcmp(line, "*") == 0)
        return SASL_CANCELLED;
    if (s->mechanism == SASL_LOGIN)
        return take_login(s, line);
    return take_plain(s, line) ? SASL_GOT : SASL_BAD;
}

const char *sasl_prompt(const struct sasl_server *s)
{
    if (s->mechanism == SASL_PLAIN)
        return "334 ";
    return s->step == 0 ? "334 VXNlcm5hbWU6" : "334 UGFzc3dvcmQ6";
}

void sasl_wipe(struct sasl_server *s)
{
    bytes_wipe(s, sizeof *s);
}
