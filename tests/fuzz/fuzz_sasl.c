/* A device's login, line by line: what is taken must be text that ends, and
 * the same when it is said in the one right way.
 *
 * The first line is the mechanism, the others are what the device says. */
#include <stdlib.h>
#include <string.h>

#include "../../sasl.h"

static void demand(bool good)
{
    if (!good)
        abort();
}

static void expect_ended(const struct sasl_server *s)
{
    demand(memchr(s->user, '\0', sizeof s->user) != NULL &&
           memchr(s->password, '\0', sizeof s->password) != NULL);
}

static bool is_prompt(const char *text)
{
    return strcmp(text, "334 ") == 0 || strcmp(text, "334 VXNlcm5hbWU6") == 0 ||
           strcmp(text, "334 UGFzc3dvcmQ6") == 0;
}

/* Its bytes end in what was understood, and nothing of it is lost. */
static void expect_text(const struct sasl_server *s, const uint8_t *bytes,
                        size_t count)
{
    bool is_plain = s->mechanism == SASL_PLAIN;
    size_t user = strlen(s->user), password = strlen(s->password);
    size_t tail = is_plain ? user + password + 2 : password;
    demand(is_plain ? count >= tail : count == tail);
    const uint8_t *at = bytes + count - tail;
    demand(memcmp(bytes + count - password, s->password, password) == 0);
    if (is_plain) /* the first NUL ends the authorization identity */
        demand(memchr(bytes, '\0', count) == at &&
               memcmp(at + 1, s->user, user + 1) == 0);
}

/* A line of base64 can be written in one way alone, and an empty one in
 * two. */
static void expect_same_line(const struct sasl_server *before,
                             const struct sasl_server *after, const char *line,
                             enum sasl_result result)
{
    struct sasl_server other = *before;
    size_t count = strlen(line);
    if (count == 0)
        demand(sasl_take(&other, "=") == result);
    if (count <= 1 || result != SASL_GOT)
        return;
    uint8_t *bytes = malloc(count);
    char *again = malloc(count + 1);
    struct buf b;
    buf_init(&b, again, count + 1);
    ssize_t n = base64_decode(line, count, bytes, count);
    demand(n >= 0);
    expect_text(after, bytes, (size_t)n);
    buf_put_base64(&b, bytes, (size_t)n);
    buf_put(&b, "", 1);
    demand(!b.overflow && strcmp(again, line) == 0);
    free(bytes);
    free(again);
}

/* The next line of a client that does it by the book. */
static bool cut_line(char *text, char **rest)
{
    char *end = strstr(text, "\r\n");
    if (end == NULL)
        return false;
    *end = '\0';
    *rest = end + 2;
    return true;
}

/* What was understood, said by our own client, is understood again. */
static void expect_same_login(const struct sasl_server *got)
{
    char text[4 * SASL_TEXT_BYTES] = "", *rest;
    struct sasl client;
    struct sasl_server server;
    struct buf b;
    buf_init(&b, text, sizeof text - 1);
    sasl_start(&client, got->mechanism, got->user, got->password, &b);
    while (sasl_answer(&client, got->user, got->password, &b))
        ;
    demand(!b.overflow && strncmp(text, "AUTH ", 5) == 0);
    demand(cut_line(text, &rest));
    char *mechanism = text + 5, *initial = strchr(mechanism, ' ');
    size_t length = strcspn(mechanism, " ");
    demand(sasl_serve(&server, mechanism, length));
    enum sasl_result result =
        sasl_take(&server, initial != NULL ? initial + 1 : NULL);
    for (char *line = rest; result == SASL_ASKS && cut_line(line, &rest);
         line = rest)
        result = sasl_take(&server, line);
    demand(result == SASL_GOT && server.mechanism == got->mechanism &&
           strcmp(server.user, got->user) == 0 &&
           strcmp(server.password, got->password) == 0);
}

static void expect_wiped(struct sasl_server *s)
{
    static const struct sasl_server zero;
    sasl_wipe(s);
    demand(memcmp(s, &zero, sizeof zero) == 0);
}

/* A line as it lies in memory that ends behind it. */
static char *copy_line(const uint8_t **at, const uint8_t *end)
{
    const uint8_t *lf = memchr(*at, '\n', (size_t)(end - *at));
    size_t n = (size_t)((lf ? lf : end) - *at);
    char *line = malloc(n + 1);
    memcpy(line, *at, n);
    line[n] = '\0'; /* a NUL before it ends it, too */
    *at += n + (lf != NULL);
    return line;
}

static void serve(struct sasl_server *s, const uint8_t *at, const uint8_t *end)
{
    enum sasl_result result = sasl_take(s, NULL);
    demand(result == SASL_ASKS && is_prompt(sasl_prompt(s)));
    for (unsigned lines = 0; result == SASL_ASKS && at < end; lines++) {
        struct sasl_server before = *s;
        char *line = copy_line(&at, end);
        result = sasl_take(s, line);
        expect_ended(s);
        expect_same_line(&before, s, line, result);
        demand(lines < 2 && is_prompt(sasl_prompt(s)));
        demand((result == SASL_CANCELLED) == (strcmp(line, "*") == 0));
        free(line);
    }
    if (result == SASL_GOT)
        expect_same_login(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    const uint8_t *at = data, *end = data + bytes;
    struct sasl_server *s = malloc(sizeof *s);
    memset(s, 0xa5, sizeof *s);
    char *mechanism = copy_line(&at, end);
    size_t length = strlen(mechanism);
    if (sasl_serve(s, mechanism, length))
        serve(s, at, end);
    else
        demand(s->mechanism == SASL_NONE);
    demand(sasl_offered(mechanism, length) < SASL_BIT(SASL_MECHANISMS));
    expect_wiped(s);
    free(mechanism);
    free(s);
    return 0;
}
