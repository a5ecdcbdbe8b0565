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
    size_t used = print(text, sizeof text);
    bool has_secret = *before.smarthost_password != '\0';
    if (!has_secret && !settings_load_text("printed", text, used, error))
        abort();
    before.listen_is_preset = settings()->listen_is_preset;
    if (memcmp(&before, settings(), sizeof before) != 0)
        abort();
    return 0;
}
