/* Words of a hostile smarthost: no bytes move the blame to where the step
 * does not allow it, and what says the same in other form says the same. The
 * first byte is the step. */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../advice.h"

static const enum advice_step steps[] = {
    ADVICE_AT_NAME, ADVICE_AT_CONNECT,  ADVICE_AT_TLS,  ADVICE_AT_GREETING,
    ADVICE_AT_EHLO, ADVICE_AT_STARTTLS, ADVICE_AT_AUTH, ADVICE_AT_MAIL,
    ADVICE_AT_RCPT, ADVICE_AT_DATA,     ADVICE_AT_DOT,
};

static void expect_known(const struct advice *a)
{
    size_t row = 0;
    while (a->text != NULL && row < advice_rows() &&
           a->text != advice_row_text(row))
        row++;
    if (row == advice_rows() || a->rest_s < 0 || a->rest_s > 3600)
        abort();
    if (a->rest_s > 0 && (a->scope != ADVICE_FOR_ROUTE || a->text == NULL))
        abort();
}

static void expect_scope(const struct advice *a, enum advice_step step,
                         const char *reply)
{
    static const char *const logins[] = {"530", "534", "535", "538"};
    bool is_whole_code = strspn(reply, "0123456789") == 3;
    bool is_last = is_whole_code && strncmp(reply, "421", 3) == 0;
    for (size_t i = 0; i < 4; i++)
        if (is_whole_code && strncmp(reply, logins[i], 3) == 0 &&
            step >= ADVICE_AT_AUTH &&
            (a->scope != ADVICE_FOR_ROUTE || a->rest_s == 0))
            abort();
    if ((step <= ADVICE_AT_AUTH || is_last) && a->scope != ADVICE_FOR_ROUTE)
        abort();
    if (a->scope == ADVICE_FOR_MESSAGE && step == ADVICE_AT_RCPT)
        abort();
    if (a->scope == ADVICE_FOR_RECIPIENT && step != ADVICE_AT_RCPT)
        abort();
}

/* As the first line of a longer reply, and with the id that ends it. */
static void expect_same(const struct advice *a, enum advice_step step,
                        const char *reply)
{
    static const char tail[] = " [AM0PR07CA0021 2026-11-22T05:10:49.120Z]";
    size_t length = strlen(reply);
    char *other = malloc(length + sizeof tail);
    memcpy(other, reply, length);
    memcpy(other + length, tail, sizeof tail);
    if (strspn(reply, "0123456789") == 3 && reply[3] == ' ')
        other[3] = '-';
    struct advice b = advice_on_reply(step, other);
    if (a->scope != b.scope || a->rest_s != b.rest_s || a->text != b.text)
        abort();
    free(other);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    if (bytes == 0)
        return 0;
    enum advice_step step = steps[data[0] % (sizeof steps / sizeof steps[0])];
    char *text = malloc(bytes);
    memcpy(text, data + 1, bytes - 1);
    text[bytes - 1] = '\0';
    struct advice a = advice_on_reply(step, text);
    expect_known(&a);
    expect_scope(&a, step, text);
    expect_same(&a, step, text);
    a = advice_on_fault(step, data[0] * 257U, text);
    expect_known(&a);
    if (a.scope != ADVICE_FOR_ROUTE)
        abort();
    free(text);
    return 0;
}
