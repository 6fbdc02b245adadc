/* How long a response is fresh (RFC 9111 §4.2) and how old it is. The order is in docs/freshness.md. */
#pragma once

#include "proto/cache_control.h"
#include "store/object.h"

/* A route's wishes, milliseconds; -1: not set. freshness_policy_init() gives plain RFC 9111. */
struct freshness_policy {
    int64_t ttl_ms;     /* lifetime where the response gives none (before heuristics), cacheable statuses only */
    int64_t ttl_min_ms; /* raises a shorter lifetime, explicit or not */
    int64_t ttl_max_ms; /* lowers a longer one; wins over ttl_min */
    uint32_t heuristic_permille; /* share of Date - Last-Modified; 100; 0: no heuristic */
    int64_t heuristic_max_ms;    /* one day */
    int64_t swr_ms, sie_ms;      /* windows where the response gives none and forbids none */
};
void freshness_policy_init(struct freshness_policy *policy);

enum freshness_source {
    FRESHNESS_NONE, /* no lifetime: 0 */
    FRESHNESS_S_MAXAGE,
    FRESHNESS_MAX_AGE,
    FRESHNESS_EXPIRES,
    FRESHNESS_ROUTE_TTL,
    FRESHNESS_HEURISTIC,
    FRESHNESS_SOURCE_COUNT
};
enum freshness_field { FRESHNESS_DOORSTEP_CC, FRESHNESS_CDN_CC, FRESHNESS_CC };

struct freshness {
    struct object_times times;
    struct cache_control cc; /* the directives in force */
    enum freshness_source source;
    enum freshness_field field; /* where cc comes from; not FRESHNESS_CC: targeted */
    int64_t age_field_s;        /* Age as received; -1: none or invalid */
    bool is_explicit;           /* s-maxage, max-age or Expires were given (even if they say 0) */
    bool clamped;               /* ttl_min or ttl_max changed the lifetime */
    /* For object.flags: NO_CACHE, MUST_REVALIDATE, IMMUTABLE, HEURISTIC. The windows in `times` are already 0 where the
     * response forbids stale answers, so a reader only compares. */
    uint32_t object_flags;
};

/* Fills *ret. `request_ms` and `response_ms`: wall clock when the request left and when the head arrived. Never fails: a
 * response that makes no sense is stale. */
void freshness_compute(const struct fields *response, uint16_t status, const struct freshness_policy *policy,
                       int64_t request_ms, int64_t response_ms, struct freshness *ret);

/* current_age (§4.2.3), >= 0 even when the wall clock jumped back. */
int64_t object_age_ms(const struct object_times *times, int64_t now_ms);
/* Lifetime left; negative when stale. */
int64_t object_ttl_ms(const struct object_times *times, int64_t now_ms);

/* 200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501 (RFC 9110 §15.1; 206 is judged as the 200 it is part of). */
bool status_is_heuristic(uint16_t status);

/* "s-maxage", "route ttl", ... and "Doorstep-Cache-Control", ... for `doorstep why`. */
struct view freshness_source_name(enum freshness_source source);
struct view freshness_field_name(enum freshness_field field);
