/* The numbers a node counts, and their text form (Prometheus exposition format 0.0.4).
 *
 * Every loop owns a shard: one array of cells, aligned to a cache line, that only its thread writes. An increment is a
 * plain relaxed load and store of the own cell; no lock, no atomic read-modify-write, no shared line. Rendering sums the
 * cells of all shards from any thread.
 *
 * Series are registered at start (and again by a reload: the same name and labels give the same id). The number of cells
 * is fixed when the registry is made; when they are used up, registration returns METRICS_NONE, an id that every shard
 * accepts and nobody renders, and metrics_refused() tells. So labels are bounded, and callers never check an id.
 * Labels hold names of our own (route, outcome, status class): never a URL, an address or a payload. */
#pragma once

#include "base/text.h"

#include <stdatomic.h>
#include <stdint.h>

struct metrics;

struct metrics_shard {
    _Atomic uint64_t cells[1]; /* really as many as the registry has */
};

#define METRICS_NONE 0u

/* Cells a registry gets when nothing else is asked for: 32 KiB a loop. A counter takes 1, a histogram 23. */
#define METRICS_CELLS_DEFAULT 4096u

enum metrics_type { METRICS_COUNTER, METRICS_GAUGE };

/* `shards`: number of loops. `cells` 0: the default. 0 or -ENOMEM. */
int metrics_new(struct metrics **ret, unsigned shards, unsigned cells);
/* Accepts NULL. No shard may be in use any more. */
void metrics_free(struct metrics *metrics);

/* The shard of one loop; written by that loop's thread only. */
struct metrics_shard *metrics_shard(struct metrics *metrics, unsigned index);

/* ---- registration: any thread, under a lock; texts are copied. `labels` is the inside of the braces, made with
 *      metrics_label() or written as a literal like "route=\"/a\",status=\"2xx\"", or NULL ---- */

unsigned metrics_counter(struct metrics *metrics, const char *name, const char *help, const char *labels);
/* A value that goes up and down by metrics_add and metrics_sub, on any shard. */
unsigned metrics_level(struct metrics *metrics, const char *name, const char *help, const char *labels);
/* Durations. `name` ends in "_seconds"; observed in microseconds. Buckets 1-2-5 from 10 µs to 50 s. */
unsigned metrics_histogram(struct metrics *metrics, const char *name, const char *help, const char *labels);

/* A value that somebody else keeps; `read` is called on the rendering thread and must be safe there. */
void metrics_callback(struct metrics *metrics, enum metrics_type type, const char *name, const char *help,
                      const char *labels, double (*read)(void *arg), void *arg);
/* Whole families written by their owner, comments included: for label sets that change (upstream servers). Called last,
 * on the rendering thread; may be called several times for one answer. */
void metrics_collector(struct metrics *metrics, void (*write)(struct text *out, void *arg), void *arg);

/* Registrations that got METRICS_NONE: out of cells, out of memory, or a name used with two types. */
unsigned metrics_refused(const struct metrics *metrics);

/* Appends name="value" (with a comma before it unless `labels` is empty), escaped. */
void metrics_label(struct text *labels, const char *name, struct view value);

/* ---- counting: only the shard's own thread ---- */

static inline void metrics_add(struct metrics_shard *shard, unsigned id, uint64_t n)
{
    uint64_t now = atomic_load_explicit(&shard->cells[id], memory_order_relaxed);

    atomic_store_explicit(&shard->cells[id], now + n, memory_order_relaxed);
}

static inline void metrics_sub(struct metrics_shard *shard, unsigned id, uint64_t n)
{
    metrics_add(shard, id, (uint64_t)0 - n);
}

void metrics_observe(struct metrics_shard *shard, unsigned id, uint64_t us);

/* ---- reading: any thread ---- */

/* A counter or level summed over the shards; 0 for METRICS_NONE. A level below zero wraps: cast to int64_t. */
uint64_t metrics_sum(const struct metrics *metrics, unsigned id);
/* Observations of a histogram so far, and the microsecond below which `percent` of them lie (upper bucket bound;
 * UINT64_MAX above 50 s, 0 when there are none). */
uint64_t metrics_histogram_count(const struct metrics *metrics, unsigned id);
uint64_t metrics_histogram_us(const struct metrics *metrics, unsigned id, unsigned percent);

/* Everything, as text. Check out->overflow and come again with more room. */
void metrics_render(struct metrics *metrics, struct text *out);
