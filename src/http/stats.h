/* What is counted about requests: one call when a request ends feeds the metrics, the lists of top URLs and the memory of
 * reasons. Every function but the constructors costs a handful of plain stores on the loop's own cache lines. */
#pragma once

#include "base/metrics.h"
#include "cache/why.h"
#include "http/topk.h"
#include "http/whynot.h"
#include "loop/loop.h"
#include "proto/http1.h"

enum http_outcome {
    OUTCOME_HIT,         /* fresh, from a tier */
    OUTCOME_STALE,       /* stored, served stale */
    OUTCOME_REVALIDATED, /* stored, after the origin's 304 */
    OUTCOME_COLLAPSED,   /* streamed from another request's fill */
    OUTCOME_MISS,        /* fetched for this request */
    OUTCOME_BYPASS,      /* passed through: method, route, pass marker, upgrade */
    OUTCOME_ERROR,       /* answered by the node itself with an error */
    OUTCOME_COUNT
};
/* "hit", "stale", ... for the log, labels and top. */
struct view http_outcome_name(enum http_outcome outcome);

#define HTTP_STATS_ROUTES 64u /* routes with counters of their own; further ones share "other" */

struct http_stats;

/* 0 or -ENOMEM. `metrics` outlives the stats; `loops` as in metrics_new(). */
int http_stats_new(struct http_stats **ret, struct metrics *metrics, unsigned loops);
/* Accepts NULL. */
void http_stats_free(struct http_stats *stats);

/* The number of a route in the counters, by name; the same name gives the same number (reloads). Any thread. */
unsigned http_stats_route(struct http_stats *stats, struct view name);

struct http_stats_request {
    unsigned route; /* http_stats_route() */
    enum http_outcome outcome;
    enum why why;
    uint16_t status;              /* 0: the client left before an answer */
    uint64_t bytes_in, bytes_out; /* heads included */
    uint64_t duration_us;
    uint64_t upstream_us; /* 0: no upstream was asked */
    struct view host, path;
    bool has_query;
};
/* On the loop's thread, once per request. */
void http_stats_finish(struct http_stats *stats, struct loop *loop, const struct http_stats_request *request);

/* A response was not kept. `key_hash`: key.hash[0]. */
void http_stats_not_stored(struct http_stats *stats, struct loop *loop, uint64_t key_hash, enum why why,
                           uint16_t status);
/* A connection was accepted, or closed. */
void http_stats_connection(struct http_stats *stats, struct loop *loop, bool opened);
/* A connection sent bytes that are no valid request. */
void http_stats_bad_request(struct http_stats *stats, struct loop *loop, enum http1_error error);

/* ---- reading, any thread ---- */

struct http_stats_totals {
    uint64_t requests[OUTCOME_COUNT];
    uint64_t bytes_out[OUTCOME_COUNT];
    uint64_t why[WHY_COUNT];        /* requests by reason */
    uint64_t not_stored[WHY_COUNT]; /* responses not kept, by reason */
    uint64_t bytes_in;
    uint64_t connections; /* open now */
    uint64_t accepted;
    uint64_t hit_us_p50, hit_us_p99, miss_us_p50, miss_us_p99; /* since start; upper bucket bounds, 0: none */
};
void http_stats_totals(const struct http_stats *stats, struct http_stats_totals *ret);
/* Both return how many; heaviest first. */
unsigned http_stats_top_misses(const struct http_stats *stats, struct topk_item *ret_items, unsigned max);
unsigned http_stats_top_bytes(const struct http_stats *stats, struct topk_item *ret_items, unsigned max);
/* The newest note of any loop. */
bool http_stats_why_not(const struct http_stats *stats, uint64_t key_hash, struct whynot_note *ret);
