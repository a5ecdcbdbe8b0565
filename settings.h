/* settings: the values that people choose: what config.h says, then what the
 * optional file says over it; checked, and printable.
 *
 * The rows stand in config.h. Must never know: how they are used. */
#ifndef LANPOST_SETTINGS_H
#define LANPOST_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "config.h"
#include "ip.h"
#include "value.h"

/* One field a row, of the row's name: settings()->smarthost. A CHOICE is the
 * number of its word, in the order of config.h; PAIRS are one text, walked
 * with value_next_pair(). */
#define TEXT_FIELD(key, preset, room, unit, help)        char key[(room) + 1];
#define SECRET_FIELD(key, preset, room, help)            char key[(room) + 1];
#define NUMBER_FIELD(key, preset, low, high, unit, help) int64_t key;
#define CHOICE_FIELD(key, preset, words, help)           unsigned key;

#define ENDPOINTS_FIELD(key, preset, most, help) struct value_endpoints key;
#define NETWORKS_FIELD(key, preset, most, help)  struct value_networks key;
#define PAIRS_FIELD(key, preset, room, help)     char key[(room) + 1];

struct settings {
    SETTINGS_ROWS(TEXT_FIELD, SECRET_FIELD, NUMBER_FIELD, CHOICE_FIELD,
                  ENDPOINTS_FIELD, NETWORKS_FIELD, PAIRS_FIELD)
    /* Derived from the rows, once they are known to be good. */
    char smarthost_name[256]; /* a host name or an address, no brackets */
    uint16_t smarthost_port;
    bool listen_is_preset; /* nobody chose the ports: 2525 may stand in */
};

enum settings_family {
    FAMILY_ANY,
    FAMILY_IPV4,
    FAMILY_IPV6
};
enum settings_tls {
    TLS_STARTTLS,
    TLS_IMPLICIT,
    TLS_NONE
};
enum settings_auth {
    AUTH_AUTO,
    AUTH_NONE,
    AUTH_PLAIN,
    AUTH_LOGIN
};
enum settings_any_auth {
    ANY_AUTH_AUTO,
    ANY_AUTH_NO,
    ANY_AUTH_YES
};
enum settings_ack_late {
    ACK_LATE_QUEUE,
    ACK_LATE_REFUSE
};
enum settings_rewrite {
    REWRITE_NEVER,
    REWRITE_UNQUALIFIED,
    REWRITE_ALWAYS
};
enum settings_log {
    LOG_STDERR,
    LOG_SYSLOG
};

/* The values in force. */
const struct settings *settings(void);

/* ack_wait_seconds of the listener at this port. */
int64_t settings_ack_wait_ms(uint16_t port);

#define SETTINGS_ERROR_BYTES 512
#define SETTINGS_WHY_BYTES   320

/* A last say on good values before they come into force. NULL: they are
 * good; else the key of the setting at fault, and why. May be NULL. */
typedef const char *settings_accept(const struct settings *s,
                                    char why[SETTINGS_WHY_BYTES]);

/* Reads config.h's values and the file over them (NULL: SETTINGS_FILE when it
 * exists; a sealed binary reads none), checks them, and only then puts them
 * in force. False: error says file, line, key and cure, and nothing changed.
 * Bad values of the file never show a secret in error. */
bool settings_load(const char *file, settings_accept *accept,
                   char error[SETTINGS_ERROR_BYTES]);

/* config.h's values, unchecked: for showing what there is to set. */
void settings_preset(void);

/* The same from text, for tests and fuzzing; name stands for the file's. */
bool settings_load_text(const char *name, const char *text, size_t length,
                        char error[SETTINGS_ERROR_BYTES]);

/* Every setting with its value and where it came from, secrets masked. */
void settings_print(FILE *out);

/* Wipes the secrets; for the end of the program. */
void settings_wipe(void);

size_t settings_memory_bytes(void);

#endif
