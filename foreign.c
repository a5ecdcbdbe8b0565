/* See foreign.h. */
#include "foreign.h"

#include "buf.h"

static const char *const words[] = {"GET",    "POST",    "HEAD",  "PUT",
                                    "DELETE", "OPTIONS", "TRACE", "CONNECT",
                                    "PATCH",  "PRI"};

bool foreign_is_word(const char *word, size_t length)
{
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (bytes_equal_nocase(word, length, words[i]))
            return true;
    return (length > 0 && word[length - 1] == ':') ||
           (length >= 4 && bytes_equal_nocase(word, 4, "SSH-"));
}

bool foreign_is_byte(uint8_t first)
{
    return (first < ' ' || first >= 0x7f) && first != '\r' && first != '\n';
}

bool foreign_has_control(const char *line, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (((unsigned char)line[i] < ' ' && line[i] != '\t') ||
            line[i] == 0x7f)
            return true;
    return false;
}
