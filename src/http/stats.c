/* Request statistics: which metrics exist, and the one place that knows their numbers.
 *
 * Series by route, status class and outcome are registered when first counted, so that a node shows what happens on it and
 * not every combination. The number of a series is cached in an atomic: 0 unknown, else number + 1. Two loops that meet an
 * unknown series both register it and get the same number. Everything else is registered at start.
 *
 * Per loop: its metrics shard, two sketches, one table of reasons; all written by that loop only. */
#include "http/stats.h"

#include "base/check.h"
#include "base/heap.h"

#include <errno.h>
#include <pthread.h>

#define CLASSES 6u /* 1xx..5xx, and 0 for no answer */
#define ROUTE_NAME_MAX 96u

struct part {
    struct metrics_shard *shard;
    struct topk *misses, *bytes;
    struct whynot *whynot;
};

struct route {
    char name[ROUTE_NAME_MAX + 1];
    atomic_uint requests[OUTCOME_COUNT][CLASSES];
};

struct http_stats {
    struct metrics *metrics;
    pthread_mutex_t lock; /* adding routes */
    unsigned loops;
    atomic_uint route_count;
    struct route *routes; /* HTTP_STATS_ROUTES + 1, the first is "other" */
    atomic_uint why[WHY_COUNT], not_stored[WHY_COUNT], bad[HTTP1_ERROR_COUNT];
    unsigned duration[OUTCOME_COUNT], bytes_out[OUTCOME_COUNT];
    unsigned bytes_in, upstream_wait, connections, accepted;
    struct part *parts;
};

struct view http_outcome_name(enum http_outcome outcome)
{
    static const struct view names[] = {
        [OUTCOME_HIT] = { "hit", 3 },
        [OUTCOME_STALE] = { "stale", 5 },
        [OUTCOME_REVALIDATED] = { "revalidated", 11 },
        [OUTCOME_COLLAPSED] = { "collapsed", 9 },
        [OUTCOME_MISS] = { "miss", 4 },
        [OUTCOME_BYPASS] = { "bypass", 6 },
        [OUTCOME_ERROR] = { "error", 5 },
    };

    return (unsigned)outcome < OUTCOME_COUNT ? names[outcome] : VIEW("unknown");
}

/* ---- making ---- */

static const char *label(char *memory, size_t cap, const char *name, struct view value)
{
    struct text labels = text_make(memory, cap);

    metrics_label(&labels, name, value);
    return text_str(&labels);
}

static uint64_t from_store(const uint64_t by_outcome[OUTCOME_COUNT])
{
    return by_outcome[OUTCOME_HIT] + by_outcome[OUTCOME_STALE] + by_outcome[OUTCOME_REVALIDATED] +
           by_outcome[OUTCOME_COLLAPSED];
}

static double ratio(const uint64_t by_outcome[OUTCOME_COUNT])
{
    uint64_t all = 0;

    for (int i = 0; i < OUTCOME_COUNT; i++)
        all += by_outcome[i];
    return all ? (double)from_store(by_outcome) / (double)all : 0;
}

static double hit_ratio(void *arg)
{
    const struct http_stats *stats = arg;
    uint64_t requests[OUTCOME_COUNT];

    for (int i = 0; i < OUTCOME_COUNT; i++)
        requests[i] = metrics_histogram_count(stats->metrics, stats->duration[i]);
    return ratio(requests);
}

static double byte_hit_ratio(void *arg)
{
    const struct http_stats *stats = arg;
    uint64_t bytes[OUTCOME_COUNT];

    for (int i = 0; i < OUTCOME_COUNT; i++)
        bytes[i] = metrics_sum(stats->metrics, stats->bytes_out[i]);
    return ratio(bytes);
}

static double coalesced(void *arg)
{
    const struct http_stats *stats = arg;

    return (double)metrics_histogram_count(stats->metrics, stats->duration[OUTCOME_COLLAPSED]);
}

static void register_series(struct http_stats *stats)
{
    struct metrics *m = stats->metrics;
    char memory[64];

    for (int i = 0; i < OUTCOME_COUNT; i++)
        stats->duration[i] = metrics_histogram(
            m, "doorstep_request_duration_seconds", "Time from a request's complete head to its last byte sent.",
            label(memory, sizeof(memory), "outcome", http_outcome_name((enum http_outcome)i)));
    for (int i = 0; i < OUTCOME_COUNT; i++)
        stats->bytes_out[i] =
            metrics_counter(m, "doorstep_response_bytes_total", "Bytes sent to clients, heads included.",
                            label(memory, sizeof(memory), "outcome", http_outcome_name((enum http_outcome)i)));
    stats->bytes_in =
        metrics_counter(m, "doorstep_request_bytes_total", "Bytes received from clients, heads included.", NULL);
    stats->upstream_wait = metrics_histogram(m, "doorstep_upstream_wait_seconds",
                                             "Time requests waited for an upstream's response head.", NULL);
    stats->connections = metrics_level(m, "doorstep_connections", "Client connections open now.", NULL);
    stats->accepted = metrics_counter(m, "doorstep_connections_accepted_total", "Client connections accepted.", NULL);
    metrics_callback(m, METRICS_COUNTER, "doorstep_coalesced_requests_total",
                     "Requests that streamed from a fetch another request had started.", NULL, coalesced, stats);
    metrics_callback(m, METRICS_GAUGE, "doorstep_hit_ratio",
                     "Share of requests since start answered from what was stored or already being fetched.", NULL,
                     hit_ratio, stats);
    metrics_callback(m, METRICS_GAUGE, "doorstep_byte_hit_ratio", "The same share of bytes sent.", NULL, byte_hit_ratio,
                     stats);
}

int http_stats_new(struct http_stats **ret, struct metrics *metrics, unsigned loops)
{
    struct http_stats *stats = heap_zalloc(sizeof(*stats));
    int r = 0;

    if (!stats)
        return -ENOMEM;
    pthread_mutex_init(&stats->lock, NULL);
    stats->metrics = metrics;
    stats->loops = loops;
    stats->routes = heap_zalloc(sizeof(*stats->routes) * (HTTP_STATS_ROUTES + 1));
    stats->parts = heap_zalloc(sizeof(*stats->parts) * loops);
    if (!stats->routes || !stats->parts)
        r = -ENOMEM;
    for (unsigned i = 0; r == 0 && i < loops; i++) {
        stats->parts[i].shard = metrics_shard(metrics, i);
        if (topk_new(&stats->parts[i].misses) < 0 || topk_new(&stats->parts[i].bytes) < 0 ||
            whynot_new(&stats->parts[i].whynot) < 0)
            r = -ENOMEM;
    }
    if (r < 0) {
        http_stats_free(stats);
        return r;
    }
    memcpy(stats->routes[0].name, "other", sizeof("other"));
    atomic_store(&stats->route_count, 1);
    register_series(stats);
    *ret = stats;
    return 0;
}

void http_stats_free(struct http_stats *stats)
{
    if (!stats)
        return;
    for (unsigned i = 0; stats->parts && i < stats->loops; i++) {
        topk_free(stats->parts[i].misses);
        topk_free(stats->parts[i].bytes);
        whynot_free(stats->parts[i].whynot);
    }
    pthread_mutex_destroy(&stats->lock);
    heap_free(stats->parts);
    heap_free(stats->routes);
    heap_free(stats);
}

unsigned http_stats_route(struct http_stats *stats, struct view name)
{
    unsigned count, found = 0;

    name = view_first(name, ROUTE_NAME_MAX);
    pthread_mutex_lock(&stats->lock);
    count = atomic_load_explicit(&stats->route_count, memory_order_relaxed);
    for (unsigned i = 0; i < count && found == 0; i++)
        if (view_eq(view_str(stats->routes[i].name), name))
            found = i;
    if (found == 0 && !view_eq(name, VIEW("other")) && count <= HTTP_STATS_ROUTES) {
        if (name.len)
            memcpy(stats->routes[count].name, name.ptr, name.len);
        found = count;
        atomic_store_explicit(&stats->route_count, count + 1, memory_order_release);
    }
    pthread_mutex_unlock(&stats->lock);
    return found;
}

/* ---- counting ---- */

static struct part *part_of(struct http_stats *stats, struct loop *loop)
{
    CHECK(loop_index(loop) < stats->loops);
    return &stats->parts[loop_index(loop)];
}

/* The number behind a cache of "0 unknown, else number + 1"; `one_label` is used the first time only. */
static unsigned known(struct http_stats *stats, atomic_uint *cached, const char *name, const char *help,
                      const char *label_name, struct view value)
{
    unsigned id = atomic_load_explicit(cached, memory_order_relaxed);
    char memory[256];

    if (likely(id > 0))
        return id - 1;
    id = metrics_counter(stats->metrics, name, help, label(memory, sizeof(memory), label_name, value));
    atomic_store_explicit(cached, id + 1, memory_order_relaxed);
    return id;
}

static unsigned request_series(struct http_stats *stats, unsigned route, enum http_outcome outcome, unsigned class)
{
    static const char *const classes[CLASSES] = { "none", "1xx", "2xx", "3xx", "4xx", "5xx" };
    atomic_uint *cached = &stats->routes[route].requests[outcome][class];
    unsigned id = atomic_load_explicit(cached, memory_order_relaxed);
    char memory[ROUTE_NAME_MAX * 2 + 64];
    struct text labels = TEXT_ON(memory);

    if (likely(id > 0))
        return id - 1;
    metrics_label(&labels, "route", view_str(stats->routes[route].name));
    metrics_label(&labels, "status", view_str(classes[class]));
    metrics_label(&labels, "outcome", http_outcome_name(outcome));
    id = metrics_counter(stats->metrics, "doorstep_requests_total",
                         "Requests by route, status class and cache outcome.", text_str(&labels));
    atomic_store_explicit(cached, id + 1, memory_order_relaxed);
    return id;
}

void http_stats_finish(struct http_stats *stats, struct loop *loop, const struct http_stats_request *request)
{
    struct part *part = part_of(stats, loop);
    unsigned class = request->status / 100 < CLASSES ? request->status / 100u : CLASSES - 1;
    uint64_t now_ms = loop_now_ms(loop);

    CHECK(request->outcome < OUTCOME_COUNT && request->why < WHY_COUNT && request->route <= HTTP_STATS_ROUTES);
    metrics_add(part->shard, request_series(stats, request->route, request->outcome, class), 1);
    metrics_observe(part->shard, stats->duration[request->outcome], request->duration_us);
    metrics_add(part->shard, stats->bytes_out[request->outcome], request->bytes_out);
    metrics_add(part->shard, stats->bytes_in, request->bytes_in);
    if (request->upstream_us)
        metrics_observe(part->shard, stats->upstream_wait, request->upstream_us);
    if (request->why != WHY_NONE)
        metrics_add(part->shard,
                    known(stats, &stats->why[request->why], "doorstep_request_reasons_total",
                          "Requests by the reason of what the cache did.", "why", why_name(request->why)),
                    1);
    if (request->outcome == OUTCOME_MISS || request->outcome == OUTCOME_BYPASS ||
        request->outcome == OUTCOME_REVALIDATED)
        topk_add(part->misses, request->host, request->path, request->has_query, 1, now_ms);
    topk_add(part->bytes, request->host, request->path, request->has_query, request->bytes_out, now_ms);
}

void http_stats_not_stored(struct http_stats *stats, struct loop *loop, uint64_t key_hash, enum why why,
                           uint16_t status)
{
    struct part *part = part_of(stats, loop);

    CHECK(why < WHY_COUNT);
    metrics_add(part->shard,
                known(stats, &stats->not_stored[why], "doorstep_not_stored_total",
                      "Responses that were not kept, by reason.", "why", why_name(why)),
                1);
    /* A marker only repeats what was found before it: the reason is worth more. */
    if (why != WHY_PASS_MARKER)
        whynot_put(part->whynot, key_hash, why, status, loop_wall_ms(loop) / 1000);
}

void http_stats_connection(struct http_stats *stats, struct loop *loop, bool opened)
{
    struct part *part = part_of(stats, loop);

    if (opened) {
        metrics_add(part->shard, stats->accepted, 1);
        metrics_add(part->shard, stats->connections, 1);
    } else {
        metrics_sub(part->shard, stats->connections, 1);
    }
}

void http_stats_bad_request(struct http_stats *stats, struct loop *loop, enum http1_error error)
{
    struct part *part = part_of(stats, loop);

    CHECK(error < HTTP1_ERROR_COUNT);
    metrics_add(part->shard,
                known(stats, &stats->bad[error], "doorstep_bad_requests_total",
                      "Requests refused because their bytes are not valid HTTP.", "reason",
                      view_str(http1_error_text(error))),
                1);
}

/* ---- reading ---- */

static uint64_t sum_known(const struct http_stats *stats, const atomic_uint *cached)
{
    unsigned id = atomic_load_explicit(cached, memory_order_relaxed);

    return id ? metrics_sum(stats->metrics, id - 1) : 0;
}

void http_stats_totals(const struct http_stats *stats, struct http_stats_totals *ret)
{
    const struct metrics *m = stats->metrics;

    memset(ret, 0, sizeof(*ret));
    for (int i = 0; i < OUTCOME_COUNT; i++) {
        ret->requests[i] = metrics_histogram_count(m, stats->duration[i]);
        ret->bytes_out[i] = metrics_sum(m, stats->bytes_out[i]);
    }
    for (int i = 0; i < WHY_COUNT; i++) {
        ret->why[i] = sum_known(stats, &stats->why[i]);
        ret->not_stored[i] = sum_known(stats, &stats->not_stored[i]);
    }
    ret->bytes_in = metrics_sum(m, stats->bytes_in);
    ret->connections = metrics_sum(m, stats->connections);
    ret->accepted = metrics_sum(m, stats->accepted);
    ret->hit_us_p50 = metrics_histogram_us(m, stats->duration[OUTCOME_HIT], 50);
    ret->hit_us_p99 = metrics_histogram_us(m, stats->duration[OUTCOME_HIT], 99);
    ret->miss_us_p50 = metrics_histogram_us(m, stats->duration[OUTCOME_MISS], 50);
    ret->miss_us_p99 = metrics_histogram_us(m, stats->duration[OUTCOME_MISS], 99);
}

static unsigned read_top(const struct http_stats *stats, bool bytes, struct topk_item *ret_items, unsigned max)
{
    struct topk **list = heap_array(stats->loops, sizeof(struct topk *));
    unsigned count;

    if (!list)
        return 0;
    for (unsigned i = 0; i < stats->loops; i++)
        list[i] = bytes ? stats->parts[i].bytes : stats->parts[i].misses;
    count = topk_read(list, stats->loops, ret_items, max);
    heap_free(list);
    return count;
}

unsigned http_stats_top_misses(const struct http_stats *stats, struct topk_item *ret_items, unsigned max)
{
    return read_top(stats, false, ret_items, max);
}

unsigned http_stats_top_bytes(const struct http_stats *stats, struct topk_item *ret_items, unsigned max)
{
    return read_top(stats, true, ret_items, max);
}

bool http_stats_why_not(const struct http_stats *stats, uint64_t key_hash, struct whynot_note *ret)
{
    struct whynot_note note;
    bool found = false;

    for (unsigned i = 0; i < stats->loops; i++)
        if (whynot_get(stats->parts[i].whynot, key_hash, &note) && (!found || note.at_s > ret->at_s)) {
            *ret = note;
            found = true;
        }
    return found;
}
