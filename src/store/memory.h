/* The memory tier: complete (or usefully partial) objects by key, within a hard limit of bytes.
 *
 * Lookups are lock-free (liburcu, QSBR): the calling thread is registered with RCU and inside its turn, and nothing found
 * here outlives the turn without object_try_ref(). Writers take the lock of one shard for microseconds. Every function but
 * memory_new, memory_free and memory_stats wants a registered, online thread.
 *
 * Memory. object.c charges what objects really occupy to one process-wide account (object_account()), from allocation to
 * free; objects that wait for a grace period or for a slow reader stay charged. The tier adds its own index, heap and ghosts.
 * Who is about to allocate for an object calls memory_reserve() first and memory_unreserve() after the allocation (charged by
 * then), so that concurrent fills cannot pass the limit together:
 *
 *     if (memory_reserve(memory, n) < 0) -> stream without storing
 *     ptr = object_reserve(object, n, &cap);
 *     memory_unreserve(memory, n);
 */
#pragma once

#include "store/object.h"

struct memory;
struct memory_entry;

enum memory_cost {
    MEMORY_COST_FLAT,    /* every miss costs the same: fewest misses */
    MEMORY_COST_LATENCY, /* a miss costs what the fill took */
};

struct memory_options {
    uint64_t limit;        /* bytes, everything included; at least 1 MiB */
    unsigned max_variants; /* per key; 0: 8 */
    unsigned share;        /* an object larger than limit/share is not kept; 0: 8 */
    unsigned shards;       /* power of two, at most 64; 0: by the limit */
    bool admit_all;        /* switches the picky admission off */
    enum memory_cost cost;
    /* An object is about to be evicted; under the tier's locks: short, and no call of this tier. May be NULL. */
    void (*evicted)(void *arg, struct object *object);
    void *evicted_arg;
};

/* 0, -ENOMEM, -EINVAL. Starts one thread that frees after grace periods. */
int memory_new(const struct memory_options *options, struct memory **ret);
/* No other thread uses the tier any more. The caller may be registered with RCU; it is taken offline meanwhile. */
void memory_free(struct memory *memory);

/* ---- reading: no lock, no write ---- */

/* The entry of a key, or NULL. Valid until the end of the caller's turn. */
const struct memory_entry *memory_find(struct memory *memory, const struct key *key);

/* The variants of an entry at one instant; immutable, valid until the end of the turn. */
struct memory_variants {
    uintptr_t slot;
    unsigned count;
};
struct memory_variants memory_variants(const struct memory_entry *entry);
/* i < count. Newest first. */
struct object *memory_variant(struct memory_variants variants, unsigned i);

/* Requests for this key do not wait for each other before this time (the unit the caller used in memory_mark_pass());
 * 0: no marker. */
uint64_t memory_pass_until(const struct memory_entry *entry);

/* Counts a hit; writes only while the saturating counter is below 15. */
static inline void memory_touch(struct object *object)
{
    policy_touch(&object->item);
}

/* ---- writing ---- */

enum memory_refusal {
    MEMORY_STORED,
    MEMORY_TOO_LARGE, /* above limit / share */
    MEMORY_NOT_WORTH, /* a newcomer worth less than what it would push out */
    MEMORY_FULL,      /* nothing more to evict: the rest is in use or waits for a grace period */
    MEMORY_NO_HEAP,   /* allocation failed */
    MEMORY_WORSE,     /* partial, and a complete one is here */
    MEMORY_REFUSALS,
};
/* For logs and metrics: "too-large", "not-worth", ... */
const char *memory_refusal_name(enum memory_refusal why);

/* Stores a complete object (flag set) as the variant with its vary_names and vary_values, replacing that variant; complete
 * replaces partial, not the other way round. Takes its own reference. 0, or -ENOSPC with *ret_why (may be NULL). An object
 * is put once, into one tier. */
int memory_put(struct memory *memory, struct object *object, enum memory_refusal *ret_why);

/* Each returns how many objects it dropped. */
unsigned memory_drop(struct memory *memory, const struct key *key);
unsigned memory_drop_object(struct memory *memory, struct object *object);
/* Marks all variants of a key stale (object.soft_purged); returns how many. */
unsigned memory_soft_purge(struct memory *memory, const struct key *key);
/* Hit-for-pass until `until` (any clock but 0); 0 removes the marker. Bounded: the oldest markers give way. 0 or -ENOMEM. */
int memory_mark_pass(struct memory *memory, const struct key *key, uint64_t until);

/* Walks over all objects, one shard (1/64 of them at most) per call, under that shard's lock: `visit` must be short and must
 * not call this tier. *cursor starts at 0; returns true while there is more. Objects that were here when the walk began and
 * still are get visited exactly once; ones stored meanwhile perhaps (purges compare purge_pos for those). */
enum memory_visit { MEMORY_KEEP, MEMORY_DROP, MEMORY_SOFT };
bool memory_each(struct memory *memory, unsigned *cursor, enum memory_visit (*visit)(struct object *object, void *arg),
                 void *arg);

/* ---- the limit ---- */

/* Makes room for `bytes` by evicting, and holds them. 0, or -ENOMEM when they cannot be had now: do not store. */
int memory_reserve(struct memory *memory, uint64_t bytes);
void memory_unreserve(struct memory *memory, uint64_t bytes);
/* Returns when everything dropped or evicted before has been given back; takes a reader offline, so nothing found before is
 * valid afterwards. For tests, benches and shutdown: a loop never calls it. */
void memory_settle(struct memory *memory);
/* The largest object worth trying to store, in bytes. */
uint64_t memory_object_max(const struct memory *memory);

struct memory_stats {
    uint64_t limit, effective_limit; /* the second shrinks by what the allocator wastes */
    uint64_t bytes;                  /* charged: objects alive anywhere, index, reservations */
    uint64_t waiting;                /* of these, waiting for a grace period */
    uint64_t objects, entries;
    uint64_t inserts, replaced, evictions, dropped, evicted_bytes;
    uint64_t refused[MEMORY_REFUSALS];
    uint64_t ghost_hits; /* stored again while its fingerprint was remembered */
};
/* Any thread. Counters are read one by one: not one instant. */
void memory_stats(struct memory *memory, struct memory_stats *ret);
