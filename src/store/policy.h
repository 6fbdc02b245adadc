/* What stays in memory: the eviction and ghost policy of one shard, pure bookkeeping without locks, clocks or I/O, so that
 * the memory tier and the trace replayer run the same code.
 *
 * An item's worth is H = L + frequency * cost / sqrt(size). L is the H of what was evicted last, so that what nobody asks
 * for any more ages out. Hits only bump `uses`; the heap re-keys an item when it would be evicted and has been used since
 * (docs/memory-tier.md has the numbers). Fingerprints of evicted keys remember their frequency for a while. */
#pragma once

#include "base/compiler.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { POLICY_USES_MAX = 15 };

/* Embedded in what is kept; zeroed before policy_insert(). */
struct policy_item {
    uint32_t at;          /* place in the heap + 1; 0: not in it */
    uint8_t shard;        /* the owner's */
    uint8_t past;         /* frequency it had before it was last evicted, from the ghosts */
    uint8_t keyed;        /* uses when its place in the heap was computed */
    _Atomic uint8_t uses; /* hits since stored, saturating; relaxed, may lose counts */
};

struct policy_node;

struct policy {
    struct policy_node *heap;
    uint32_t count, cap;
    double floor;     /* L */
    uint32_t *ghosts; /* sets of fingerprints with a frequency */
    uint32_t ghost_mask;
    uint64_t ghost_hits;
    double (*weight)(struct policy_item *item); /* cost / sqrt(size) */
};

void policy_init(struct policy *policy, double (*weight)(struct policy_item *item));
/* Frees the heap and the ghosts; items are the owner's. */
void policy_release(struct policy *policy);

/* A hit; any thread, no lock. A saturated counter is not written, so that a hot item's cache line stays shared. */
static inline void policy_touch(struct policy_item *item)
{
    uint8_t uses = atomic_load_explicit(&item->uses, memory_order_relaxed);

    if (unlikely(uses < POLICY_USES_MAX))
        atomic_store_explicit(&item->uses, (uint8_t)(uses + 1), memory_order_relaxed);
}

/* A hit with the heap put right at once: what the lazy way is measured against. Needs the owner's lock. */
void policy_touch_exact(struct policy *policy, struct policy_item *item);

/* Adds an item; `hash` finds its ghost. 0 or -ENOMEM. */
int policy_insert(struct policy *policy, struct policy_item *item, uint64_t hash);
/* Takes an item out that is dropped or replaced, leaving no ghost. Harmless when it is not in. */
void policy_remove(struct policy *policy, struct policy_item *item);
/* Puts `item` in the place of `old`, which is taken out; its frequency goes over. */
void policy_replace(struct policy *policy, struct policy_item *old, struct policy_item *item);

/* The item worth least, its H up to date; NULL when there is none. */
struct policy_item *policy_worst(struct policy *policy);
/* H of that item, possibly too low (used since it was keyed); HUGE_VAL when empty. */
double policy_worst_value(const struct policy *policy);
/* Evicts an item that policy_worst() returned: raises L and leaves a ghost. */
void policy_evict(struct policy *policy, struct policy_item *item, uint64_t hash);
/* A newcomer worth `value` that was not let in, as if it had come in and been evicted: L rises, so that what is in ages, and
 * a ghost makes it worth more when it is asked for again. */
void policy_refuse(struct policy *policy, double value, uint64_t hash);
/* What an item that is not in yet would be worth, its ghost considered. */
double policy_value(const struct policy *policy, struct policy_item *item, uint64_t hash);
/* The item at place i < count, in no order: for walking over all. */
struct policy_item *policy_at(const struct policy *policy, uint32_t i);
/* Bytes held by heap and ghosts. */
uint64_t policy_bytes(const struct policy *policy);
