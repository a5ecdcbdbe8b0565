/* The From field. Whatever comes in, what we build of it is one field of
 * legal lines that holds one address, and is read as the same again. */
#include <stdlib.h>
#include <string.h>

#include "../../from.h"

static void expect_lines(const char *text)
{
    for (const char *end; *text; text = end + 2) {
        end = strstr(text, "\r\n");
        if (end == NULL || end - text > 998 ||
            (end[2] != '\0' && end[2] != ' ') ||
            (size_t)(end - text) == strspn(text, " "))
            abort();
        for (const char *c = text; c < end; c++)
            if ((unsigned char)*c < ' ' || *c == 0x7f)
                abort();
    }
}

static void put(const char *name, const char *mailbox, char *space, size_t room)
{
    struct buf out;
    buf_init(&out, space, room);
    from_put("From", name, mailbox, &out);
    buf_put(&out, "", 1);
    if (out.overflow)
        abort();
    expect_lines(space);
}

static void expect_same(const struct from *f)
{
    char space[1024];
    struct from again;
    put(f->name, f->mailbox, space, sizeof space);
    const char *value = space + strlen("From:");
    from_read(value, strlen(value), &again);
    if (strcmp(again.name, f->name) != 0 ||
        strcmp(again.mailbox, f->mailbox) != 0 ||
        again.has_domain != f->has_domain || again.is_clean != f->has_domain)
        abort();
}

/* A clean field may pass as it is: one address, and no line of its own. */
static void expect_clean(const struct from *f, const char *value, size_t count)
{
    if (*f->mailbox == '\0' || !f->has_domain)
        abort();
    for (size_t i = 0; i < count; i++)
        if ((value[i] == '\n' && (i == 0 || value[i - 1] != '\r')) ||
            (value[i] == '\r' && (i + 1 == count || value[i + 1] != '\n')) ||
            (value[i] == '\n' && i + 1 < count && value[i + 1] != ' ' &&
             value[i + 1] != '\t'))
            abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct from f;
    char space[1024];
    char *text = malloc(bytes + 1);
    memcpy(text, data, bytes);
    text[bytes] = '\0';
    from_read((const char *)data, bytes, &f);
    if (f.is_clean)
        expect_clean(&f, (const char *)data, bytes);
    if (*f.mailbox != '\0')
        expect_same(&f);
    put(text, "a@b", space, sizeof space); /* any text can be a name */
    free(text);
    return 0;
}
