/* Four buckets per power of two, from 64 us to 18 minutes. When 512 answers are counted every count is halved; loops that count
 * meanwhile may lose a few, which a percentile does not notice. */
#include "upstream/latency.h"

#include "base/compiler.h"

#define HALVE_AT 512u
#define KNOWN_FROM 32u
#define LOWEST_BITS 6u

static unsigned bucket_of(uint64_t us)
{
    unsigned bits, index;

    us = MAX(us, (uint64_t)1 << LOWEST_BITS);
    bits = 63u - (unsigned)__builtin_clzll(us);
    index = (bits - LOWEST_BITS) * 4 + (unsigned)(us >> (bits - 2) & 3);
    return MIN(index, LATENCY_BUCKETS - 1);
}

static uint64_t upper_us(unsigned bucket)
{
    return (uint64_t)(5 + bucket % 4) << (LOWEST_BITS + bucket / 4 - 2);
}

void latency_note(struct latency *latency, uint64_t us)
{
    uint32_t sum = 0;

    atomic_fetch_add_explicit(&latency->counts[bucket_of(us)], 1, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&latency->total, 1, memory_order_relaxed) + 1 != HALVE_AT)
        return;
    for (unsigned i = 0; i < LATENCY_BUCKETS; i++) {
        uint32_t half = atomic_load_explicit(&latency->counts[i], memory_order_relaxed) / 2;

        atomic_store_explicit(&latency->counts[i], half, memory_order_relaxed);
        sum += half;
    }
    atomic_store_explicit(&latency->total, MIN(sum, HALVE_AT / 2), memory_order_relaxed);
}

uint32_t latency_p95_ms(const struct latency *latency)
{
    uint32_t total = 0, above = 0;

    for (unsigned i = 0; i < LATENCY_BUCKETS; i++)
        total += atomic_load_explicit(&latency->counts[i], memory_order_relaxed);
    if (total < KNOWN_FROM)
        return 0;
    for (unsigned i = LATENCY_BUCKETS; i-- > 0;) {
        above += atomic_load_explicit(&latency->counts[i], memory_order_relaxed);
        if (above * 20 > total)
            return (uint32_t)(upper_us(i) / 1000) + 1;
    }
    return 1;
}
