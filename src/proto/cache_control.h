/* Cache-Control (RFC 9111 §5.2) of requests and responses, and targeted fields (RFC 9213).
 *
 * Choices where the RFC leaves one:
 *   - no-cache="x" and private="x" are read like the unqualified form (allowed by §5.2.2.4, §5.2.2.7, and safe);
 *   - of several values for one directive the first counts (§4.2.1);
 *   - token and quoted forms of a number are equal; anything else (sign, space, ' quotes, fraction) is invalid;
 *     an invalid max-age or s-maxage counts as 0, an invalid optional window as absent;
 *   - values over CC_SECONDS_MAX saturate. */
#pragma once

#include "proto/field.h"

enum cc_flag {
    CC_PRESENT = 1 << 0, /* at least one directive was seen */
    CC_NO_STORE = 1 << 1,
    CC_NO_CACHE = 1 << 2, /* also no-cache="field" */
    CC_PRIVATE = 1 << 3,  /* also private="field" */
    CC_PUBLIC = 1 << 4,
    CC_MUST_REVALIDATE = 1 << 5,
    CC_PROXY_REVALIDATE = 1 << 6,
    CC_MUST_UNDERSTAND = 1 << 7,
    CC_IMMUTABLE = 1 << 8,
    CC_NO_TRANSFORM = 1 << 9,
    CC_ONLY_IF_CACHED = 1 << 10,
    CC_MAX_STALE_ANY = 1 << 11, /* max-stale without a value */
    CC_BAD_AGE = 1 << 12,       /* max-age or s-maxage did not parse; its value here is 0 */
};

#define CC_SECONDS_MAX ((int64_t)INT32_MAX)

/* Seconds; -1: absent. */
struct cache_control {
    uint32_t flags;
    int64_t max_age, s_maxage;
    int64_t swr, sie; /* stale-while-revalidate, stale-if-error */
    int64_t max_stale, min_fresh;
};

void cache_control_init(struct cache_control *cc);
/* Adds the directives of one field line. */
void cache_control_add(struct cache_control *cc, struct view line);
/* All lines of `id` (FIELD_CACHE_CONTROL) as one list. Initialises *ret. */
void cache_control_parse(const struct fields *fields, enum field_id id, struct cache_control *ret);
/* A request's wishes: Cache-Control, or Pragma: no-cache where there is no Cache-Control (§5.4). */
void cache_control_parse_request(const struct fields *fields, struct cache_control *ret);

/* A targeted field as a dictionary: true when it is present, valid and not empty, so that it replaces Cache-Control and
 * Expires altogether; false (and *ret untouched) when it is to be ignored as a whole. */
bool cache_control_parse_targeted(const struct fields *fields, enum field_id id, struct cache_control *ret);
