/* Hierarchical timing wheel behind timer_set(): 4 levels of 64 slots, 4 ms, 256 ms, 16 s and 17 min wide; anything beyond
 * 18 hours is refiled from the last slot. Filing and removal are O(1). */
#pragma once

#include "loop/loop.h"

#define TIMER_LEVELS 4
#define TIMER_SLOTS 64

struct timers {
    struct node slots[TIMER_LEVELS][TIMER_SLOTS];
    uint64_t tick;                   /* everything filed before this tick has been looked at; a tick is TIMER_TICK_MS */
    uint64_t occupied[TIMER_LEVELS]; /* may have stale bits: a hint */
};

void timers_init(struct timers *timers, uint64_t now_ms);
void timers_file(struct timers *timers, struct timer *timer);
/* Wakes the task of every timer due at now_ms; refiles those that were extended. */
void timers_fire(struct timers *timers, uint64_t now_ms);
/* Milliseconds until something may be due: an epoll timeout, -1 when nothing is filed. */
int timers_next_ms(struct timers *timers, uint64_t now_ms);
