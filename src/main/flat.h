/* JSON as a flat list of paths and values: {"a":{"b":[1,"x"]}} is a.b.0 = "1", a.b.1 = "x". Enough to show a node's answer.
 * Bounded in size and depth, without recursion. */
#pragma once

#include "base/text.h"

struct flat_item {
    const char *path, *value; /* value: a string's text with controls and bytes beyond ASCII as '?', else as written */
};

struct flat {
    struct flat_item *items;
    unsigned count;
    char *memory;
};

/* 0; -EBADMSG: not JSON, or nested deeper than 8; -ENOMEM. *ret may be given to flat_free() in every case. */
int flat_parse(struct view json, struct flat *ret);
void flat_free(struct flat *flat);

/* NULL when the path is not there. */
const char *flat_string(const struct flat *flat, const char *path);
/* 0 when it is not there or no number. */
double flat_number(const struct flat *flat, const char *path);
