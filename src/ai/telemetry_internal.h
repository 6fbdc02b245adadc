/* Telemetry as its own files see it: telemetry.c (counting), telemetry_text.c (the text form). */
#pragma once

#include "ai/telemetry.h"

#include <pthread.h>

#define TELEMETRY_PAIRS 256u /* provider and model; further ones are the provider's "other" */
#define TELEMETRY_SLOTS 1024u
#define TELEMETRY_REASONS 48u
#define TELEMETRY_BUCKETS 18u

enum telemetry_operation { OPERATION_CHAT, OPERATION_TEXT, OPERATION_EMBEDDINGS, OPERATION_OTHER, OPERATIONS };

enum telemetry_histogram {
    HISTOGRAM_INPUT,
    HISTOGRAM_OUTPUT,
    HISTOGRAM_DURATION,
    HISTOGRAM_FIRST,
    HISTOGRAM_PER_TOKEN,
    HISTOGRAMS
};

enum telemetry_counter {
    COUNTER_INPUT,
    COUNTER_CACHED,
    COUNTER_CACHE_WRITE,
    COUNTER_OUTPUT,
    COUNTER_REASONING,
    COUNTER_TOKENS_SAVED,
    COUNTER_ATTEMPTS,
    COUNTER_FAILOVERS,
    COUNTER_HEDGES,
    COUNTER_HEDGES_WON,
    COUNTER_COST,
    COUNTER_SAVED,
    COUNTER_ESTIMATED,
    COUNTERS
};

struct telemetry_buckets {
    _Atomic uint64_t counts[TELEMETRY_BUCKETS];
    _Atomic uint64_t sum;
};

/* Of one pair and operation on one loop, which alone writes. */
struct telemetry_cells {
    _Atomic uint64_t counters[COUNTERS];
    _Atomic uint64_t requests[LEDGER_OUTCOMES][LEDGER_TIERS];
    struct telemetry_buckets histograms[HISTOGRAMS];
};

/* Money of one day or month. */
struct telemetry_window {
    _Atomic int64_t id, cost, saved;
};

struct telemetry_part {
    struct telemetry_cells *_Atomic cells[TELEMETRY_PAIRS][OPERATIONS]; /* made when first counted */
    _Atomic uint64_t refused[TELEMETRY_REASONS], errors[TELEMETRY_REASONS];
    struct telemetry_window days[2], months[2]; /* this one and the last */
    int64_t month, month_from_ms, month_until_ms;
};

struct telemetry_pair {
    char *provider, *model;
    unsigned rung;
    uint64_t hash;
};

struct telemetry {
    pthread_mutex_t lock; /* adding pairs */
    unsigned loops;
    atomic_uint pair_count;
    struct telemetry_pair pairs[TELEMETRY_PAIRS];
    _Atomic uint16_t slots[TELEMETRY_SLOTS]; /* pair + 1; open addressing; nothing is ever taken out */
    atomic_uint reason_count;
    char reasons[TELEMETRY_REASONS][48];
    struct telemetry_window day, month; /* of earlier runs */
    struct telemetry_part *parts;
};

/* Upper bounds, ascending: tokens, or microseconds. */
extern const struct telemetry_bounds {
    unsigned count;
    uint64_t at[TELEMETRY_BUCKETS - 1];
} telemetry_bounds[HISTOGRAMS];
