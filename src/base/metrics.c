/* The registry of what is counted, and its text form.
 *
 * A registry holds families (one name, help and type) in order of registration; a family holds series (one label set).
 * A series owns a run of cells at the same position of every shard, or a callback. Families and series are only ever
 * added, under the lock; rendering holds the same lock. Counting takes no lock: a cell has one writer, its loop.
 *
 * The first cells of a shard are scrap: METRICS_NONE points there, so that a caller whose registration was refused counts
 * into nothing instead of checking. */
#include "base/metrics.h"

#include "base/check.h"
#include "base/heap.h"

#include <errno.h>
#include <pthread.h>

#define CACHE_LINE ((size_t)64)

/* Upper bounds in µs; Prometheus wants seconds, so each has its text beside it. */
static const struct {
    uint64_t us;
    const char *seconds;
} buckets[] = {
    { 10, "1e-05" },    { 20, "2e-05" },    { 50, "5e-05" },    { 100, "0.0001" }, { 200, "0.0002" }, { 500, "0.0005" },
    { 1000, "0.001" },  { 2000, "0.002" },  { 5000, "0.005" },  { 10000, "0.01" }, { 20000, "0.02" }, { 50000, "0.05" },
    { 100000, "0.1" },  { 200000, "0.2" },  { 500000, "0.5" },  { 1000000, "1" },  { 2000000, "2" },  { 5000000, "5" },
    { 10000000, "10" }, { 20000000, "20" }, { 50000000, "50" },
};

/* A histogram's cells: one per bucket, one above the last bound, the sum. */
#define ABOVE_CELL ARRAY_LEN(buckets)
#define SUM_CELL (ABOVE_CELL + 1)
#define HISTOGRAM_CELLS (SUM_CELL + 1)
#define SCRAP_CELLS HISTOGRAM_CELLS

enum kind { KIND_COUNTER, KIND_LEVEL, KIND_HISTOGRAM, KIND_COUNTER_CALLBACK, KIND_GAUGE_CALLBACK };

struct series {
    struct series *next;
    char *labels; /* never NULL; empty when there are none */
    unsigned cell;
    double (*read)(void *arg);
    void *arg;
};

struct family {
    struct family *next;
    char *name, *help;
    enum kind kind;
    struct series *first, **end;
};

struct collector {
    struct collector *next;
    void (*write)(struct text *out, void *arg);
    void *arg;
};

struct metrics {
    pthread_mutex_t lock;
    struct family *first, **end;
    struct collector *collectors, **collectors_end;
    unsigned shards, cells, used;
    atomic_uint refused;
    size_t stride; /* bytes from shard to shard, a multiple of a cache line */
    void *memory;  /* as allocated */
    char *base;    /* aligned */
};

int metrics_new(struct metrics **ret, unsigned shards, unsigned cells)
{
    struct metrics *metrics = heap_zalloc(sizeof(*metrics));

    CHECK(shards > 0);
    if (!metrics)
        return -ENOMEM;
    metrics->cells = (cells ? cells : METRICS_CELLS_DEFAULT) + (unsigned)SCRAP_CELLS;
    metrics->used = (unsigned)SCRAP_CELLS;
    metrics->shards = shards;
    metrics->stride = (metrics->cells * sizeof(uint64_t) + CACHE_LINE - 1) & ~(CACHE_LINE - 1);
    metrics->memory = heap_zalloc(metrics->stride * shards + CACHE_LINE);
    if (!metrics->memory) {
        heap_free(metrics);
        return -ENOMEM;
    }
    metrics->base = (char *)metrics->memory + (CACHE_LINE - (uintptr_t)metrics->memory % CACHE_LINE) % CACHE_LINE;
    metrics->end = &metrics->first;
    metrics->collectors_end = &metrics->collectors;
    pthread_mutex_init(&metrics->lock, NULL);
    *ret = metrics;
    return 0;
}

static void free_family(struct family *family)
{
    for (struct series *series = family->first, *next; series; series = next) {
        next = series->next;
        heap_free(series->labels);
        heap_free(series);
    }
    heap_free(family->name);
    heap_free(family->help);
    heap_free(family);
}

void metrics_free(struct metrics *metrics)
{
    if (!metrics)
        return;
    for (struct family *family = metrics->first, *next; family; family = next) {
        next = family->next;
        free_family(family);
    }
    for (struct collector *collector = metrics->collectors, *next; collector; collector = next) {
        next = collector->next;
        heap_free(collector);
    }
    pthread_mutex_destroy(&metrics->lock);
    heap_free(metrics->memory);
    heap_free(metrics);
}

struct metrics_shard *metrics_shard(struct metrics *metrics, unsigned index)
{
    CHECK(index < metrics->shards);
    return (struct metrics_shard *)(void *)(metrics->base + metrics->stride * index);
}

/* ---- registration ---- */

static struct family *find_family(struct metrics *metrics, const char *name)
{
    for (struct family *family = metrics->first; family; family = family->next)
        if (strcmp(family->name, name) == 0)
            return family;
    return NULL;
}

static struct family *add_family(struct metrics *metrics, enum kind kind, const char *name, const char *help)
{
    struct family *family = heap_zalloc(sizeof(*family));

    if (!family)
        return NULL;
    family->kind = kind;
    family->end = &family->first;
    family->name = heap_strdup(name, strlen(name));
    family->help = heap_strdup(help, strlen(help));
    if (!family->name || !family->help) {
        free_family(family);
        return NULL;
    }
    *metrics->end = family;
    metrics->end = &family->next;
    return family;
}

static size_t kind_cells(enum kind kind)
{
    return kind == KIND_HISTOGRAM ? HISTOGRAM_CELLS : kind == KIND_COUNTER || kind == KIND_LEVEL ? 1 : 0;
}

/* The series of these labels, made when it is new. NULL: no memory, no cells, or another kind has the name. */
static struct series *find_or_add_series(struct metrics *metrics, enum kind kind, const char *name, const char *help,
                                         const char *labels)
{
    struct family *family = find_family(metrics, name);
    struct series *series;

    labels = labels ? labels : "";
    if (family && family->kind != kind)
        return NULL;
    for (series = family ? family->first : NULL; series; series = series->next)
        if (strcmp(series->labels, labels) == 0)
            return series;
    if (kind_cells(kind) > metrics->cells - metrics->used)
        return NULL;
    if (!family && !(family = add_family(metrics, kind, name, help)))
        return NULL;
    series = heap_zalloc(sizeof(*series));
    if (series)
        series->labels = heap_strdup(labels, strlen(labels));
    if (!series || !series->labels) {
        heap_free(series);
        return NULL;
    }
    series->cell = metrics->used;
    metrics->used += (unsigned)kind_cells(kind);
    *family->end = series;
    family->end = &series->next;
    return series;
}

static unsigned add_cells(struct metrics *metrics, enum kind kind, const char *name, const char *help,
                          const char *labels)
{
    struct series *series;
    unsigned cell;

    pthread_mutex_lock(&metrics->lock);
    series = find_or_add_series(metrics, kind, name, help, labels);
    cell = series ? series->cell : METRICS_NONE;
    pthread_mutex_unlock(&metrics->lock);
    if (!series)
        atomic_fetch_add_explicit(&metrics->refused, 1, memory_order_relaxed);
    return cell;
}

unsigned metrics_counter(struct metrics *metrics, const char *name, const char *help, const char *labels)
{
    return add_cells(metrics, KIND_COUNTER, name, help, labels);
}

unsigned metrics_level(struct metrics *metrics, const char *name, const char *help, const char *labels)
{
    return add_cells(metrics, KIND_LEVEL, name, help, labels);
}

unsigned metrics_histogram(struct metrics *metrics, const char *name, const char *help, const char *labels)
{
    return add_cells(metrics, KIND_HISTOGRAM, name, help, labels);
}

void metrics_callback(struct metrics *metrics, enum metrics_type type, const char *name, const char *help,
                      const char *labels, double (*read)(void *arg), void *arg)
{
    struct series *series;

    pthread_mutex_lock(&metrics->lock);
    series = find_or_add_series(metrics, type == METRICS_COUNTER ? KIND_COUNTER_CALLBACK : KIND_GAUGE_CALLBACK, name,
                                help, labels);
    if (series) {
        series->read = read;
        series->arg = arg;
    }
    pthread_mutex_unlock(&metrics->lock);
    if (!series)
        atomic_fetch_add_explicit(&metrics->refused, 1, memory_order_relaxed);
}

void metrics_collector(struct metrics *metrics, void (*write)(struct text *out, void *arg), void *arg)
{
    struct collector *collector = heap_zalloc(sizeof(*collector));

    if (!collector) {
        atomic_fetch_add_explicit(&metrics->refused, 1, memory_order_relaxed);
        return;
    }
    collector->write = write;
    collector->arg = arg;
    pthread_mutex_lock(&metrics->lock);
    *metrics->collectors_end = collector;
    metrics->collectors_end = &collector->next;
    pthread_mutex_unlock(&metrics->lock);
}

unsigned metrics_refused(const struct metrics *metrics)
{
    return atomic_load_explicit(&metrics->refused, memory_order_relaxed);
}

void metrics_label(struct text *labels, const char *name, struct view value)
{
    if (labels->len)
        text_char(labels, ',');
    text_put(labels, view_str(name));
    text_lit(labels, "=\"");
    for (size_t i = 0; i < value.len; i++) {
        char c = value.ptr[i];

        if (c == '\n') {
            text_lit(labels, "\\n");
            continue;
        }
        if (c == '"' || c == '\\')
            text_char(labels, '\\');
        text_char(labels, c);
    }
    text_char(labels, '"');
}

/* ---- counting and reading ---- */

void metrics_observe(struct metrics_shard *shard, unsigned id, uint64_t us)
{
    unsigned bucket = 0;

    /* Most observations are hits of a few tens of µs: a scan from the small end ends after two or three steps. */
    while (bucket < ARRAY_LEN(buckets) && us > buckets[bucket].us)
        bucket++;
    metrics_add(shard, id + bucket, 1);
    metrics_add(shard, id + (unsigned)SUM_CELL, us);
}

static uint64_t sum_cell(const struct metrics *metrics, size_t cell)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < metrics->shards; i++) {
        const struct metrics_shard *shard =
            (const struct metrics_shard *)(const void *)(metrics->base + metrics->stride * i);

        sum += atomic_load_explicit(&shard->cells[cell], memory_order_relaxed);
    }
    return sum;
}

uint64_t metrics_sum(const struct metrics *metrics, unsigned id)
{
    return id == METRICS_NONE ? 0 : sum_cell(metrics, id);
}

uint64_t metrics_histogram_count(const struct metrics *metrics, unsigned id)
{
    uint64_t count = 0;

    if (id == METRICS_NONE)
        return 0;
    for (size_t i = 0; i <= ABOVE_CELL; i++)
        count += sum_cell(metrics, id + i);
    return count;
}

uint64_t metrics_histogram_us(const struct metrics *metrics, unsigned id, unsigned percent)
{
    uint64_t count = metrics_histogram_count(metrics, id), below = 0;

    if (count == 0)
        return 0;
    for (size_t i = 0; i < ARRAY_LEN(buckets); i++) {
        below += sum_cell(metrics, id + i);
        if (below * 100 >= count * percent)
            return buckets[i].us;
    }
    return UINT64_MAX;
}

/* ---- rendering ---- */

/* HELP texts escape backslash and line feed only. */
static void put_help(struct text *out, const char *help)
{
    for (; *help; help++) {
        if (*help == '\n') {
            text_lit(out, "\\n");
            continue;
        }
        if (*help == '\\')
            text_char(out, '\\');
        text_char(out, *help);
    }
}

static void put_name(struct text *out, const struct family *family, const char *suffix, const char *labels,
                     const char *le)
{
    text_put(out, view_str(family->name));
    text_put(out, view_str(suffix));
    if (*labels || le)
        text_char(out, '{');
    text_put(out, view_str(labels));
    if (le) {
        text_put(out, view_str(*labels ? ",le=\"" : "le=\""));
        text_put(out, view_str(le));
        text_char(out, '"');
    }
    if (*labels || le)
        text_char(out, '}');
    text_char(out, ' ');
}

static void put_histogram(const struct metrics *metrics, struct text *out, const struct family *family,
                          const struct series *series)
{
    uint64_t count = 0, sum_us = sum_cell(metrics, series->cell + SUM_CELL);

    for (size_t i = 0; i <= ABOVE_CELL; i++) {
        count += sum_cell(metrics, series->cell + i);
        put_name(out, family, "_bucket", series->labels, i < ABOVE_CELL ? buckets[i].seconds : "+Inf");
        text_u64(out, count);
        text_char(out, '\n');
    }
    put_name(out, family, "_sum", series->labels, NULL);
    text_printf(out, "%llu.%06llu\n", (unsigned long long)(sum_us / 1000000), (unsigned long long)(sum_us % 1000000));
    put_name(out, family, "_count", series->labels, NULL);
    text_u64(out, count);
    text_char(out, '\n');
}

static void put_series(const struct metrics *metrics, struct text *out, const struct family *family,
                       const struct series *series)
{
    if (family->kind == KIND_HISTOGRAM) {
        put_histogram(metrics, out, family, series);
        return;
    }
    put_name(out, family, "", series->labels, NULL);
    if (family->kind == KIND_COUNTER)
        text_u64(out, sum_cell(metrics, series->cell));
    else if (family->kind == KIND_LEVEL)
        text_i64(out, (int64_t)sum_cell(metrics, series->cell));
    else
        text_printf(out, "%.15g", series->read(series->arg));
    text_char(out, '\n');
}

void metrics_render(struct metrics *metrics, struct text *out)
{
    static const char *const types[] = { "counter", "gauge", "histogram", "counter", "gauge" };

    pthread_mutex_lock(&metrics->lock);
    for (const struct family *family = metrics->first; family; family = family->next) {
        text_lit(out, "# HELP ");
        text_put(out, view_str(family->name));
        text_char(out, ' ');
        put_help(out, family->help);
        text_lit(out, "\n# TYPE ");
        text_put(out, view_str(family->name));
        text_char(out, ' ');
        text_put(out, view_str(types[family->kind]));
        text_char(out, '\n');
        for (const struct series *series = family->first; series; series = series->next)
            put_series(metrics, out, family, series);
    }
    for (const struct collector *collector = metrics->collectors; collector; collector = collector->next)
        collector->write(out, collector->arg);
    pthread_mutex_unlock(&metrics->lock);
}
