/* What the option tables share: internal to src/main/site*.c. */
#pragma once

#include "main/site.h"

#define MEMBER(type, field) offsetof(struct type, field)

#define YEARS(n) ((uint64_t)(n)*365 * 86400000)
#define HOURS(n) ((uint64_t)(n)*3600000)
#define KIB(n) ((uint64_t)(n) << 10)
#define MIB(n) ((uint64_t)(n) << 20)
#define TIB(n) ((uint64_t)(n) << 40)

/* Members of the site that have a file of their own. */
extern const struct option site_upstream_table[];
