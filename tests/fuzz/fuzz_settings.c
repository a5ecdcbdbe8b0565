/* The settings file. What is taken must be printable as a settings file that
 * means the same; what is refused must change nothing. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../settings.h"

static size_t print(char *text, size_t room)
{
    FILE *out = fmemopen(text, room, "w");
    if (out == NULL)
        abort();
    settings_print(out);
    long used = ftell(out);
    fclose(out);
    if (used <= 0 || (size_t)used >= room - 1)
        abort();
    return (size_t)used;
}

/* Pairs have two sides, each fits its room, and together they are all that
 * there is. */
static void check_pairs(const char *text)
{
    char left[VALUE_PAIR_BYTES], right[VALUE_PAIR_BYTES];
    const char *at = text;
    size_t used = 0;
    while (value_next_pair(&at, left, right)) {
        size_t before = strlen(left), count = before + 1 + strlen(right);
        used += used > 0;
        if (before == 0 || right[0] == '\0' ||
            strncmp(text + used, left, before) != 0 ||
            text[used + before] != '=' ||
            strncmp(text + used + before + 1, right, strlen(right)) != 0)
            abort();
        used += count;
    }
    if (used != strlen(text))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static char text[65536];
    char error[SETTINGS_ERROR_BYTES] = "";
    struct settings before = *settings();
    char *copy = malloc(bytes + 1);
    memcpy(copy, data, bytes);
    bool good = settings_load_text("fuzz", copy, bytes, error);
    free(copy);
    if (!good) {
        if (*error == '\0' || strlen(error) >= sizeof error ||
            memcmp(&before, settings(), sizeof before) != 0)
            abort();
        return 0;
    }
    before = *settings();
    check_pairs(before.rewrite_from);
    check_pairs(before.rewrite_to);
    size_t used = print(text, sizeof text);
    bool has_secret = *before.smarthost_password != '\0';
    if (!has_secret && !settings_load_text("printed", text, used, error))
        abort();
    before.listen_is_preset = settings()->listen_is_preset;
    if (memcmp(&before, settings(), sizeof before) != 0)
        abort();
    return 0;
}
