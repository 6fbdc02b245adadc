/* Time enters pure code as an argument; these are the only two places that ask the system. */
#pragma once

#include <stdint.h>

/* Monotonic milliseconds: timers, durations. */
uint64_t clock_mono_ms(void);
/* Monotonic microseconds: Server-Timing, latency histograms. */
uint64_t clock_mono_us(void);
/* Milliseconds since 1970 by the wall clock: Date arithmetic. May jump. */
int64_t clock_wall_ms(void);
