/* Single values: text as written in a file to the C type of an option. */
#pragma once

#include "conf/report.h"

/* The type of an element of a list of values (OPTION_STRINGS -> OPTION_STRING), or `type` itself; and its C size. */
bool value_is_list(enum option_type type);
size_t value_size(enum option_type type);

/* Parses one value (for list types: one element). `raw` is followed by a NUL and outlives *ret. Returns 0; -EINVAL with
 * a sentence in `why` about what would be right; -ENOMEM. */
int value_parse(const struct option *option, struct view raw, void *ret, struct arena *memory,
                struct text *why) must_use;

/* "512 KiB" style and "1h30m" style texts of numbers, for messages and pages. */
void value_print_size(struct text *out, uint64_t bytes);
void value_print_duration(struct text *out, uint64_t ms);
/* A number in the option's own unit. */
void value_print_number(struct text *out, enum option_type type, uint64_t value);
