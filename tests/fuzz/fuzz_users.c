/* The users file. What is taken: every name is known to a login, and every
 * sender of its list may be used. What is refused changes nothing, and says
 * in which line and why. */
#include <stdlib.h>
#include <string.h>

#include "../../path.h"
#include "../../users.h"

#define BEFORE                                                                 \
    "before:$pbkdf2-sha256$1000$c2FsdHNhbHQ=$"                                 \
    "hgR9HsqtKupWxpnv8y99TrPDajTT/9PcSTlNafpdLXQ=:a@b\n"

static void demand(bool good)
{
    if (!good)
        abort();
}

static void check_senders(const char *name, char *list)
{
    char *rest = NULL;
    for (char *one = strtok_r(list, " \t", &rest); one != NULL;
         one = strtok_r(NULL, " \t", &rest)) {
        struct path path;
        char text[USERS_LINE_BYTES];
        const char *behind;
        text[0] = 'x';
        strcpy(text + 1, one);
        demand(*one == '@' || path_parse(one, &path, &behind));
        demand(users_may_send(name, *one == '@' ? text : path.mailbox));
    }
    demand(users_may_send(name, ""));
}

/* Is the line one of a user? */
static bool check_line(char *line)
{
    struct users_check c;
    line += strspn(line, " \t");
    size_t length = strlen(line);
    while (length > 0 && strchr(" \t\r", line[length - 1]))
        line[--length] = '\0';
    if (length == 0 || *line == '#')
        return false;
    char *hash = strchr(line, ':');
    demand(hash != NULL);
    *hash++ = '\0';
    users_check_start(&c, line, "secret");
    demand(c.is_known && c.work.rounds_left > 0);
    users_check_wipe(&c);
    char *senders = strchr(hash, ':');
    if (senders != NULL)
        check_senders(line, senders + 1);
    else
        demand(users_may_send(line, "any@where"));
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    char why[USERS_WHY_BYTES] = "";
    demand(users_load_text(BEFORE, strlen(BEFORE), why));
    char *copy = malloc(bytes + 1);
    memcpy(copy, data, bytes);
    copy[bytes] = 'x'; /* not of the text */
    bool good = users_load_text(copy, bytes, why);
    copy[bytes] = '\0';
    unsigned count = 0;
    for (char *line = copy; good && line != NULL;) {
        char *next = strchr(line, '\n');
        if (next != NULL)
            *next++ = '\0';
        count += check_line(line);
        line = next;
    }
    free(copy);
    if (good) {
        demand(users_count() == count);
        return 0;
    }
    demand(strncmp(why, "line ", 5) == 0 && strlen(why) < sizeof why);
    demand(users_count() == 1 && users_may_send("before", "A@B") &&
           !users_may_send("before", "c@b"));
    return 0;
}
