/* The one decision: what to do with a request, given what is stored. Pure; keeps no pointer. */
#pragma once

#include "cache/why.h"
#include "proto/cache_control.h"
#include "proto/http1.h"
#include "store/object.h"

enum guarantee {
    GUARANTEE_HTTP,
    GUARANTEE_AVAILABLE,
    GUARANTEE_BOUNDED,
    GUARANTEE_SESSION,
    GUARANTEE_ORIGIN,
    GUARANTEE_COUNT
};

struct decide_policy {
    enum guarantee guarantee;
    bool bypass; /* the route never answers from the cache */
    bool ignore_client_cache_control;
    int64_t max_stale_ms;          /* GUARANTEE_BOUNDED: nothing staler, ever */
    int64_t max_stale_on_error_ms; /* origin unreachable: stale up to this; 0: never */
};
/* http, one day on error. */
void decide_policy_init(struct decide_policy *policy);

struct decide_input {
    const struct object *stored; /* the matching variant, or NULL */
    bool other_variants;         /* with NULL: the key is known, this variant is not */
    bool passing;                /* a pass marker stands for this key */
    bool session_behind;         /* GUARANTEE_SESSION: the client has seen newer than what is stored */
    bool doubt;                  /* purges may have been missed */
    enum http_method method;
    const struct cache_control *request; /* cache_control_parse_request() */
    const struct decide_policy *policy;
    int64_t now_ms;
};

enum verdict {
    VERDICT_FRESH,       /* serve */
    VERDICT_STALE_SERVE, /* serve; start one background fill when `background` */
    VERDICT_REVALIDATE,  /* ask the origin first (conditionally where a validator is stored) */
    VERDICT_MISS,        /* fetch */
    VERDICT_REFUSE,      /* 504 */
};

struct decision {
    enum verdict verdict;
    enum why why;
    bool background;
    bool
        may_collapse; /* MISS and REVALIDATE: may join a fill in flight. False for unsafe methods, bypass, pass markers */
    int64_t age_ms;   /* of the stored response; 0 without one */
    int64_t ttl_ms;   /* lifetime left, negative when stale: Cache-Status ttl */
};

struct decision decide(const struct decide_input *input);

/* The origin did not answer for a request that decide() sent forward. `status` is 0 when it could not be reached, closed or
 * timed out, else the status it sent. Returns VERDICT_STALE_SERVE (serve what is stored, why and ttl set) or VERDICT_REFUSE
 * (send the error, or the origin's own answer). Only 500, 502, 503 and 504 may be replaced; a stored
 * 5xx never takes the place of anything. */
struct decision decide_on_error(const struct decide_input *input, uint16_t status);

struct view verdict_name(enum verdict verdict);
