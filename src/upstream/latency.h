/* How long answers take to begin, as a histogram that forgets: only the last few hundred count. Any thread. */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#define LATENCY_BUCKETS 96u

struct latency { /* zeroed at first */
    _Atomic uint32_t total;
    _Atomic uint32_t counts[LATENCY_BUCKETS];
};

void latency_note(struct latency *latency, uint64_t us);
/* Milliseconds that 95 % stay below, to within a fifth; 0 while fewer than 32 are known. */
uint32_t latency_p95_ms(const struct latency *latency);
