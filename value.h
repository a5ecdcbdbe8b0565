/* value: one setting's value, as its row says: read from text, printed again.
 *
 * A row's kind is all that a new kind of setting needs. Pure but for the
 * printing. Must never know: which settings there are, files, lines. */
#ifndef LANPOST_VALUE_H
#define LANPOST_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "config.h"
#include "ip.h"

enum value_kind {
    VALUE_TEXT,      /* char[high + 1] */
    VALUE_SECRET,    /* the same; never printed */
    VALUE_NUMBER,    /* int64_t from low to high */
    VALUE_CHOICE,    /* unsigned: the number of its word */
    VALUE_ENDPOINTS, /* struct value_endpoints, up to high */
    VALUE_NETWORKS,  /* struct value_networks, up to high */
    VALUE_PAIRS      /* char[high + 1], see value_next_pair() */
};

struct value_endpoints {
    unsigned count;
    struct ip_endpoint items[LISTENERS_MAX];
};

struct value_networks {
    unsigned count;
    struct ip_network items[NETWORKS_MAX];
};

struct value_row {
    const char *key;
    enum value_kind kind;
    size_t offset; /* of its field in the owner's struct */
    const char *preset_text;
    int64_t preset_number, low, high; /* high = room of a text */
    const char *words;                /* of a choice */
    const char *unit;
    const char *help;
};

#define VALUE_WHY_BYTES 320

/* Reads text into field. False: why says what is wrong with it, never
 * showing a secret. */
bool value_read(const struct value_row *row, void *field, const char *text,
                char why[VALUE_WHY_BYTES]);

/* The row's own preset, likewise. */
bool value_preset(const struct value_row *row, void *field,
                  char why[VALUE_WHY_BYTES]);

/* PAIRS: adds to what the field holds, "left=right ...". */
bool value_add_pairs(const struct value_row *row, char *field, const char *text,
                     char why[VALUE_WHY_BYTES]);

void value_print(FILE *out, const struct value_row *row, const void *field);

/* The next word of a list in blanks, as bytes of text, moving *at behind it;
 * 0 at the end. */
size_t value_next_word(const char **at, const char **word);

/* The next "left=right" of PAIRS, moving *at behind it. False: none is left.
 * What was read fits the rooms. */
#define VALUE_PAIR_BYTES 256
bool value_next_pair(const char **at, char left[VALUE_PAIR_BYTES],
                     char right[VALUE_PAIR_BYTES]);

#endif
