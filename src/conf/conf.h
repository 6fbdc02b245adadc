/* Reads a YAML file into an options struct with the help of option tables (base/option.h), and reports every mistake of
 * the file at once. The same tables print the reference page and the JSON Schema.
 *
 * Ownership: everything the filled struct points at lives in the arena the caller passes. The report owns its texts and
 * positions; it is independent of the struct. */
#pragma once

#include "base/arena.h"
#include "base/option.h"

#include <stdio.h>

#define CONF_FILE_MAX ((size_t)1 << 20)    /* bytes of a file */
#define CONF_DEPTH_MAX 16u                 /* nested lists and mappings */
#define CONF_VALUES_MAX 100000u            /* values of a file, and values visited after following aliases */
#define CONF_ITEMS_MAX 4096u               /* elements of one list or map */
#define CONF_MISTAKES_MAX 100u             /* kept; further ones are only counted */
#define CONF_MEMORY_MAX ((size_t)64 << 20) /* a fitting limit for the caller's arena */

struct conf_mistake {
    struct conf_mistake *next;
    unsigned line, column; /* from 1; 0: about the file as a whole */
    const char *text;      /* "path: what is wrong; what would be right" */
};

struct conf_position;

struct conf_report {
    const char *file;           /* how to call the file; borrowed */
    unsigned count;             /* mistakes, including those beyond CONF_MISTAKES_MAX */
    bool incomplete;            /* reading stopped early (syntax): what is missing may stand behind that point */
    struct conf_mistake *first; /* in the order of the file */
    unsigned _kept;
    struct conf_position *_positions; /* newest first */
    struct arena _memory;
};

void conf_report_init(struct conf_report *report);
void conf_report_free(struct conf_report *report);
/* One line per mistake: "site.yaml:12:5: routes[0].ttl: ...". Without a position: "site.yaml: ...". */
void conf_report_print(const struct conf_report *report, FILE *out);
/* Adds a mistake found after reading (cross checks). `path` as in messages ("routes[2].upstream"); its position, or that
 * of the nearest enclosing value that the file holds, is looked up. */
void conf_complain(struct conf_report *report, const char *path, const char *format, ...) printf_like(3, 4);
/* The line where the file holds `path`, or 0. */
unsigned conf_line(const struct conf_report *report, const char *path);

/* Sets every member to its default, nested structs included; lists of structs become empty. -ENOMEM. */
int conf_defaults(const struct option *table, void *ret_struct, struct arena *memory) must_use;

/* Fills the struct: defaults first, then the file. The report must be initialised. Returns 0, -ENOMEM, or -EINVAL: then
 * the report holds at least one mistake and the struct holds defaults where the file was wrong, so that cross checks
 * can still run over it (they must look at the report's `incomplete`). */
int conf_load_file(const char *path, const struct option *table, void *ret_struct, struct arena *memory,
                   struct conf_report *report) must_use;
/* The same for text in memory. */
int conf_load_text(struct view text, const struct option *table, void *ret_struct, struct arena *memory,
                   struct conf_report *report) must_use;

/* Sets one option from a string, lists with commas: ("memory.size", "64M"). Reaches through nested structs, not into
 * lists or maps. Same returns as conf_load_file(). */
int conf_set(const struct option *table, void *options, const char *path, const char *value, struct arena *memory,
             struct conf_report *report) must_use;

/* The candidate nearest to `word` by spelling, VIEW_NONE when none is near. */
struct view conf_nearest(struct view word, const struct view *candidates, size_t count);

/* docs/configuration.md and docs/doorstep.schema.json. */
void conf_print_reference(const struct option *table, FILE *out);
void conf_print_schema(const struct option *table, FILE *out);
