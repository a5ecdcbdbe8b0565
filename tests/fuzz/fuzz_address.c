/* Addresses in commands, and addresses of hosts and networks.
 *
 * The first byte picks the reader. What a reader takes, it must print in a
 * form that it takes again, with the same meaning. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../ip.h"
#include "../../path.h"

static void expect_read_as(const char *text, const struct path *p)
{
    struct path again;
    const char *end;
    if (!path_parse(text, &again, &end) || *end != '\0' ||
        strcmp(again.mailbox, p->mailbox) != 0 ||
        again.has_domain != p->has_domain || again.is_utf8 != p->is_utf8)
        abort();
}

static void fuzz_path(const char *text)
{
    struct path p;
    struct path_parameter parameter;
    const char *rest;
    char printed[PATH_BYTES + 2];
    if (!path_parse(text, &p, &rest))
        return;
    if (rest < text || rest > text + strlen(text) || strpbrk(p.mailbox, "\r\n"))
        abort();
    snprintf(printed, sizeof printed, "<%s>", p.mailbox);
    /* A local-part that we quoted may have grown beyond its limit. */
    const char *at = strrchr(p.mailbox, '@');
    size_t local = at ? (size_t)(at - p.mailbox) : strlen(p.mailbox);
    if (local <= PATH_LOCAL_MAX)
        expect_read_as(printed, &p);
    if (local <= PATH_LOCAL_MAX && *p.mailbox != '\0')
        expect_read_as(p.mailbox, &p);
    while (path_next_parameter(&rest, &parameter) == 1)
        if (*parameter.keyword == '\0')
            abort();
}

static void fuzz_ip(const char *text)
{
    char printed[IP_ENDPOINT_BYTES];
    struct ip_address a, again;
    struct ip_endpoint e, e_again;
    struct ip_network n;
    if (ip_parse(text, &a)) {
        if (!ip_parse(ip_format(&a, printed), &again) || !ip_equal(&a, &again))
            abort();
        ip_format_literal(&a, printed);
        if (!path_is_domain(printed))
            abort();
    }
    if (ip_parse_endpoint(text, 0, &e) &&
        (!ip_parse_endpoint(ip_format_endpoint(&e, printed), 0, &e_again) ||
         !ip_equal(&e.address, &e_again.address) || e.port != e_again.port))
        abort();
    if (ip_parse_network(text, &n) && !ip_in_network(&n.address, &n))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    if (bytes == 0)
        return 0;
    char *text = malloc(bytes);
    memcpy(text, data + 1, bytes - 1);
    text[bytes - 1] = '\0';
    if (data[0] == 'I')
        fuzz_ip(text);
    else if (data[0] == 'D')
        path_is_domain(text);
    else
        fuzz_path(text);
    free(text);
    return 0;
}
