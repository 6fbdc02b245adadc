/* Counting AI requests. A pair (provider, model) of the configuration has a number; under it each loop keeps an array of cells per
 * operation, made when first counted and never freed before the end, which only that loop writes. Readers sum over the loops.
 *
 * Pairs and reasons are only ever added, published by their count and slots; finding one takes no lock. */
#include "ai/telemetry_internal.h"

#include "ai/budget_internal.h"
#include "ai/price.h"
#include "base/check.h"
#include "base/heap.h"

#include <errno.h>

enum { PAIR_NONE, PAIR_OTHER }; /* the first two: nobody was asked; names that found no room */

/* The bounds that the conventions advise; durations in microseconds. */
const struct telemetry_bounds telemetry_bounds[HISTOGRAMS] = {
    [HISTOGRAM_INPUT] = { 14,
                          { 1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216,
                            67108864 } },
    [HISTOGRAM_OUTPUT] = { 14,
                           { 1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216,
                             67108864 } },
    [HISTOGRAM_DURATION] = { 14,
                             { 10000, 20000, 40000, 80000, 160000, 320000, 640000, 1280000, 2560000, 5120000, 10240000,
                               20480000, 40960000, 81920000 } },
    [HISTOGRAM_FIRST] = { 16,
                          { 1000, 5000, 10000, 20000, 40000, 60000, 80000, 100000, 250000, 500000, 750000, 1000000,
                            2500000, 5000000, 7500000, 10000000 } },
    [HISTOGRAM_PER_TOKEN] = { 13,
                              { 10000, 25000, 50000, 75000, 100000, 150000, 200000, 300000, 400000, 500000, 750000,
                                1000000, 2500000 } },
};

/* ---- names ---- */

static uint64_t pair_hash(struct view provider, struct view model)
{
    return hash64(provider) * 0x9e3779b97f4a7c15u ^ hash64(model);
}

/* -1: not known. */
static int find_pair(const struct telemetry *telemetry, struct view provider, struct view model)
{
    uint64_t hash = pair_hash(provider, model);

    for (unsigned i = 0; i < TELEMETRY_SLOTS; i++) {
        unsigned slot = atomic_load_explicit(&telemetry->slots[(hash + i) % TELEMETRY_SLOTS], memory_order_acquire);
        const struct telemetry_pair *pair = &telemetry->pairs[slot ? slot - 1 : 0];

        if (slot == 0)
            break;
        if (pair->hash == hash && view_eq(view_str(pair->provider), provider) && view_eq(view_str(pair->model), model))
            return (int)slot - 1;
    }
    return -1;
}

/* Under the lock. -1: no room, or no memory. */
static int add_pair(struct telemetry *telemetry, struct view provider, struct view model, unsigned rung)
{
    unsigned count = atomic_load_explicit(&telemetry->pair_count, memory_order_relaxed);
    struct telemetry_pair *pair = &telemetry->pairs[count];
    int found = find_pair(telemetry, provider, model);
    uint64_t at;

    if (found >= 0 || count == TELEMETRY_PAIRS)
        return found;
    pair->provider = heap_strdup(provider.ptr, provider.len);
    pair->model = heap_strdup(model.ptr, model.len);
    if (!pair->provider || !pair->model) {
        heap_free(pair->provider);
        heap_free(pair->model);
        *pair = (struct telemetry_pair){ 0 };
        return -1;
    }
    pair->rung = rung;
    pair->hash = pair_hash(provider, model);
    for (at = pair->hash; atomic_load_explicit(&telemetry->slots[at % TELEMETRY_SLOTS], memory_order_relaxed); at++)
        ;
    atomic_store_explicit(&telemetry->slots[at % TELEMETRY_SLOTS], (uint16_t)(count + 1), memory_order_release);
    atomic_store_explicit(&telemetry->pair_count, count + 1, memory_order_release);
    return (int)count;
}

static bool is_glob(struct view name)
{
    return view_find(name, '*') < name.len || view_find(name, '?') < name.len;
}

void telemetry_learn(struct telemetry *telemetry, const struct ai_config *config)
{
    pthread_mutex_lock(&telemetry->lock);
    for (unsigned i = 0; i < config->provider_count; i++)
        add_pair(telemetry, config->providers[i].name, VIEW("other"), config->providers[i].rung);
    for (unsigned i = 0; i < config->model_count; i++) {
        const struct ai_model *model = &config->models[i];

        for (unsigned k = 0; k < model->candidate_count; k++) {
            const struct ai_candidate *candidate = &model->candidates[k];

            add_pair(telemetry, candidate->provider->name, candidate->model.len ? candidate->model : model->name,
                     candidate->provider->rung);
        }
    }
    for (unsigned i = 0; i < config->provider_count; i++)
        for (size_t k = 0; k < config->providers[i].model_count; k++)
            if (!is_glob(config->providers[i].models[k]))
                add_pair(telemetry, config->providers[i].name, config->providers[i].models[k],
                         config->providers[i].rung);
    pthread_mutex_unlock(&telemetry->lock);
}

bool telemetry_knows(const struct telemetry *telemetry, struct view provider, struct view model)
{
    return find_pair(telemetry, provider, model) >= 0;
}

static unsigned pair_of(const struct telemetry *telemetry, struct view provider, struct view model)
{
    int found;

    if (provider.len == 0)
        return PAIR_NONE;
    found = find_pair(telemetry, provider, model);
    if (found < 0)
        found = find_pair(telemetry, provider, VIEW("other"));
    return found < 0 ? PAIR_OTHER : (unsigned)found;
}

/* Reasons are words of this source, so they are few; the last place is for those beyond the bound. */
static unsigned reason_of(struct telemetry *telemetry, struct view reason)
{
    unsigned count = atomic_load_explicit(&telemetry->reason_count, memory_order_acquire), i;

    reason = reason.len ? view_first(reason, sizeof(telemetry->reasons[0]) - 1) : VIEW("unknown");
    for (i = 0; i < count; i++)
        if (view_eq(view_str(telemetry->reasons[i]), reason))
            return i;
    pthread_mutex_lock(&telemetry->lock);
    count = atomic_load_explicit(&telemetry->reason_count, memory_order_relaxed);
    while (i < count && !view_eq(view_str(telemetry->reasons[i]), reason))
        i++;
    if (i == count && count < TELEMETRY_REASONS) {
        memcpy(telemetry->reasons[i], reason.ptr, reason.len);
        atomic_store_explicit(&telemetry->reason_count, count + 1, memory_order_release);
    }
    pthread_mutex_unlock(&telemetry->lock);
    return MIN(i, TELEMETRY_REASONS - 1);
}

/* ---- life ---- */

int telemetry_new(unsigned loops, struct telemetry **ret)
{
    struct telemetry *telemetry = heap_zalloc(sizeof(*telemetry));

    if (!telemetry)
        return -ENOMEM;
    pthread_mutex_init(&telemetry->lock, NULL);
    telemetry->loops = MAX(loops, 1u);
    telemetry->parts = heap_zalloc(sizeof(*telemetry->parts) * telemetry->loops);
    if (!telemetry->parts || add_pair(telemetry, VIEW("none"), VIEW("none"), TELEMETRY_RUNGS - 1) < 0 ||
        add_pair(telemetry, VIEW("other"), VIEW("other"), TELEMETRY_RUNGS - 1) < 0) {
        telemetry_free(telemetry);
        return -ENOMEM;
    }
    *ret = telemetry;
    return 0;
}

void telemetry_free(struct telemetry *telemetry)
{
    if (!telemetry)
        return;
    for (unsigned i = 0; telemetry->parts && i < telemetry->loops; i++)
        for (unsigned k = 0; k < TELEMETRY_PAIRS; k++)
            for (unsigned op = 0; op < OPERATIONS; op++)
                heap_free(atomic_load(&telemetry->parts[i].cells[k][op]));
    for (unsigned i = 0; i < TELEMETRY_PAIRS; i++) {
        heap_free(telemetry->pairs[i].provider);
        heap_free(telemetry->pairs[i].model);
    }
    pthread_mutex_destroy(&telemetry->lock);
    heap_free(telemetry->parts);
    heap_free(telemetry);
}

/* ---- counting ---- */

static void add(_Atomic uint64_t *cell, uint64_t n)
{
    if (n)
        atomic_store_explicit(cell, atomic_load_explicit(cell, memory_order_relaxed) + n, memory_order_relaxed);
}

static void observe(struct telemetry_cells *cells, enum telemetry_histogram which, uint64_t value)
{
    const struct telemetry_bounds *bounds = &telemetry_bounds[which];
    struct telemetry_buckets *buckets = &cells->histograms[which];
    unsigned i = 0;

    while (i < bounds->count && value > bounds->at[i])
        i++;
    add(&buckets->counts[i], 1);
    add(&buckets->sum, value);
}

static enum telemetry_operation operation_of(uint8_t endpoint)
{
    switch ((enum ai_endpoint)endpoint) {
    case AI_CHAT:
    case AI_RESPONSES:
    case AI_MESSAGES: return OPERATION_CHAT;
    case AI_COMPLETIONS: return OPERATION_TEXT;
    case AI_EMBEDDINGS: return OPERATION_EMBEDDINGS;
    default: return OPERATION_OTHER;
    }
}

static struct telemetry_cells *cells_of(struct telemetry_part *part, unsigned pair, enum telemetry_operation operation)
{
    struct telemetry_cells *cells = atomic_load_explicit(&part->cells[pair][operation], memory_order_relaxed);

    if (likely(cells != NULL))
        return cells;
    cells = heap_zalloc(sizeof(*cells));
    atomic_store_explicit(&part->cells[pair][operation], cells, memory_order_release);
    return cells;
}

static void add_money(struct telemetry_window windows[2], int64_t id, const struct ledger_row *row)
{
    struct telemetry_window *window = &windows[id & 1];

    if (atomic_load_explicit(&window->id, memory_order_relaxed) != id) {
        if (atomic_load_explicit(&window->id, memory_order_relaxed) > id)
            return; /* a request from before the last two */
        atomic_store_explicit(&window->id, 0, memory_order_relaxed);
        atomic_store_explicit(&window->cost, 0, memory_order_relaxed);
        atomic_store_explicit(&window->saved, 0, memory_order_release);
        atomic_store_explicit(&window->id, id, memory_order_release);
    }
    atomic_store_explicit(&window->cost, atomic_load_explicit(&window->cost, memory_order_relaxed) + row->cost,
                          memory_order_relaxed);
    atomic_store_explicit(&window->saved, atomic_load_explicit(&window->saved, memory_order_relaxed) + row->saved,
                          memory_order_relaxed);
}

static void count_money(struct telemetry_part *part, const struct ledger_row *row)
{
    if (row->cost == 0 && row->saved == 0)
        return;
    if (row->time_ms < part->month_from_ms || row->time_ms >= part->month_until_ms) {
        part->month = budget_window_of(BUDGET_MONTH, row->time_ms);
        part->month_from_ms = (int64_t)budget_first_day(BUDGET_MONTH, row->time_ms) * 86400000;
        part->month_until_ms = budget_resets_ms(BUDGET_MONTH, row->time_ms);
    }
    add_money(part->days, price_day(row->time_ms), row);
    add_money(part->months, part->month, row);
}

/* Times and tokens of an answer that a provider gave to this request. */
static void count_answer(struct telemetry_cells *cells, const struct ledger_row *row, const struct telemetry_more *more)
{
    uint64_t first = row->first_token_us > 0 ? (uint64_t)row->first_token_us : 0;

    observe(cells, HISTOGRAM_INPUT, row->input);
    if (row->endpoint != AI_EMBEDDINGS)
        observe(cells, HISTOGRAM_OUTPUT, row->output);
    if (row->status != 200 || more->call_us == 0)
        return;
    observe(cells, HISTOGRAM_DURATION, more->call_us);
    if (first && more->streamed) {
        observe(cells, HISTOGRAM_FIRST, first);
        if (row->output > 1 && more->call_us > first)
            observe(cells, HISTOGRAM_PER_TOKEN, (more->call_us - first) / (row->output - 1));
    }
}

static void count_tokens(struct telemetry_cells *cells, const struct ledger_row *row)
{
    if (row->outcome == LEDGER_HIT || row->outcome == LEDGER_COLLAPSED ||
        (row->tier != LEDGER_TIER_NONE && row->tokens == 0)) {
        add(&cells->counters[COUNTER_TOKENS_SAVED], row->input + row->output);
        return;
    }
    add(&cells->counters[COUNTER_INPUT], row->input);
    add(&cells->counters[COUNTER_CACHED], row->cached);
    add(&cells->counters[COUNTER_CACHE_WRITE], row->cache_write);
    add(&cells->counters[COUNTER_OUTPUT], row->output);
    add(&cells->counters[COUNTER_REASONING], row->reasoning);
    add(&cells->counters[COUNTER_ESTIMATED], row->estimated);
}

void telemetry_request(struct telemetry *telemetry, struct loop *loop, const struct ledger_row *row,
                       const struct telemetry_more *more)
{
    struct telemetry_part *part = &telemetry->parts[loop_index(loop)];
    struct telemetry_cells *cells =
        cells_of(part, pair_of(telemetry, row->provider, row->model), operation_of(row->endpoint));

    CHECK(loop_index(loop) < telemetry->loops && row->outcome < LEDGER_OUTCOMES && row->tier < LEDGER_TIERS);
    count_money(part, row);
    if (row->outcome == LEDGER_REFUSED)
        add(&part->refused[reason_of(telemetry, row->error_class)], 1);
    else if (row->outcome == LEDGER_ERROR)
        add(&part->errors[reason_of(telemetry, row->error_class)], 1);
    if (!cells)
        return; /* memory is out */
    add(&cells->requests[row->outcome][row->tier], 1);
    add(&cells->counters[COUNTER_ATTEMPTS], row->attempts);
    add(&cells->counters[COUNTER_FAILOVERS], more->failovers);
    add(&cells->counters[COUNTER_COST], (uint64_t)row->cost);
    add(&cells->counters[COUNTER_SAVED], (uint64_t)row->saved);
    count_tokens(cells, row);
    if (row->attempts && row->input + row->output)
        count_answer(cells, row, more);
}

void telemetry_hedge(struct telemetry *telemetry, struct loop *loop, struct view provider, struct view model,
                     enum ai_endpoint endpoint, bool won)
{
    struct telemetry_part *part = &telemetry->parts[loop_index(loop)];
    struct telemetry_cells *cells =
        cells_of(part, pair_of(telemetry, provider, model), operation_of((uint8_t)endpoint));

    if (cells)
        add(&cells->counters[won ? COUNTER_HEDGES_WON : COUNTER_HEDGES], 1);
}

/* ---- money ---- */

static void restore_sum(const struct ledger_sum *sum, void *arg)
{
    struct telemetry *telemetry = arg;

    telemetry->month.cost += sum->cost;
    telemetry->month.saved += sum->saved;
    if (sum->day != telemetry->day.id)
        return;
    telemetry->day.cost += sum->cost;
    telemetry->day.saved += sum->saved;
}

int telemetry_restore(struct telemetry *telemetry, struct state *state, int64_t now_ms)
{
    telemetry->day.id = price_day(now_ms);
    telemetry->month.id = budget_window_of(BUDGET_MONTH, now_ms);
    if (!state)
        return 0;
    return state_ledger_sums(state, budget_first_day(BUDGET_MONTH, now_ms), price_day(now_ms), restore_sum, telemetry);
}

static void sum_window(const struct telemetry_window *window, int64_t id, int64_t *cost, int64_t *saved)
{
    if (atomic_load_explicit(&window->id, memory_order_acquire) != id)
        return;
    *cost += atomic_load_explicit(&window->cost, memory_order_relaxed);
    *saved += atomic_load_explicit(&window->saved, memory_order_relaxed);
}

void telemetry_money(const struct telemetry *telemetry, int64_t now_ms, struct telemetry_money *ret)
{
    int64_t day = price_day(now_ms), month = budget_window_of(BUDGET_MONTH, now_ms);

    *ret = (struct telemetry_money){ 0 };
    sum_window(&telemetry->day, day, &ret->today, &ret->today_saved);
    sum_window(&telemetry->month, month, &ret->month, &ret->month_saved);
    for (unsigned i = 0; i < telemetry->loops; i++) {
        sum_window(&telemetry->parts[i].days[day & 1], day, &ret->today, &ret->today_saved);
        sum_window(&telemetry->parts[i].months[month & 1], month, &ret->month, &ret->month_saved);
    }
}

/* ---- reading ---- */

static uint64_t add_cells(const struct telemetry_cells *cells, struct telemetry_model *to)
{
    uint64_t *const counters[COUNTERS] = {
        [COUNTER_INPUT] = &to->input,
        [COUNTER_CACHED] = &to->cached,
        [COUNTER_CACHE_WRITE] = &to->cache_write,
        [COUNTER_OUTPUT] = &to->output,
        [COUNTER_REASONING] = &to->reasoning,
        [COUNTER_TOKENS_SAVED] = &to->tokens_saved,
        [COUNTER_ATTEMPTS] = &to->attempts,
        [COUNTER_FAILOVERS] = &to->failovers,
        [COUNTER_HEDGES] = &to->hedges,
        [COUNTER_HEDGES_WON] = &to->hedges_won,
        [COUNTER_COST] = &to->cost,
        [COUNTER_SAVED] = &to->saved,
        [COUNTER_ESTIMATED] = &to->estimated,
    };
    uint64_t all = 0;

    for (unsigned i = 0; i < COUNTERS; i++)
        *counters[i] += atomic_load_explicit(&cells->counters[i], memory_order_relaxed);
    for (unsigned i = 0; i < LEDGER_OUTCOMES; i++)
        for (unsigned k = 0; k < LEDGER_TIERS; k++) {
            uint64_t n = atomic_load_explicit(&cells->requests[i][k], memory_order_relaxed);

            to->requests[i][k] += n;
            all += n;
        }
    return all + atomic_load_explicit(&cells->counters[COUNTER_HEDGES], memory_order_relaxed);
}

void telemetry_each(const struct telemetry *telemetry, void (*each)(const struct telemetry_model *model, void *arg),
                    void *arg)
{
    unsigned count = atomic_load_explicit(&telemetry->pair_count, memory_order_acquire);

    for (unsigned i = 0; i < count; i++) {
        const struct telemetry_pair *pair = &telemetry->pairs[i];
        struct telemetry_model model = { view_str(pair->provider), view_str(pair->model), .rung = pair->rung };
        uint64_t all = 0;

        for (unsigned k = 0; k < telemetry->loops * OPERATIONS; k++) {
            const struct telemetry_cells *cells =
                atomic_load_explicit(&telemetry->parts[k / OPERATIONS].cells[i][k % OPERATIONS], memory_order_acquire);

            all += cells ? add_cells(cells, &model) : 0;
        }
        if (all)
            each(&model, arg);
    }
}

struct view telemetry_rung_name(unsigned rung)
{
    static const struct view names[TELEMETRY_RUNGS] = { { "device", 6 }, { "edge", 4 }, { "cloud", 5 }, { "none", 4 } };

    return names[MIN(rung, TELEMETRY_RUNGS - 1u)];
}
