/* Inside of the memory tier: entries and their variants, shared by memory.c (the interface) and memory_room.c (the limit).
 * Not for others. Functions named with `shard` want that shard's lock. */
#pragma once

/* Before ours: their inline functions spell out an attribute that base/compiler.h makes a word of. */
#include <pthread.h>
#include <urcu-qsbr.h>
#include <urcu/rculfhash.h>

#include "base/rcu.h"
#include "store/memory.h"
#include "store/reclaim.h"

enum {
    MEMORY_SHARDS_MAX = 64,
    MEMORY_PASS_RING = 256, /* pass markers a shard; the oldest gives way */
};

/* One per primary key. Found entries stay readable until the end of the finder's turn. */
struct memory_entry {
    struct cds_lfht_node node;
    union {
        _Atomic uint64_t hash1; /* the half of the hash that is not in the node; once taken out: a link, which a late
                                   reader takes for another key */
        struct reclaim_node waiting;
    };
    _Atomic uintptr_t slot; /* 0, an object, or a struct variant_list | 1 */
    _Atomic uint64_t pass_until;
    uint32_t ring_at;  /* place in the ring of pass markers + 1; 0: none */
    uint32_t text_len; /* own key text; without it, that of the first variant counts */
    char text[];
};

/* Immutable but for `waiting`, once published. */
struct variant_list {
    struct reclaim_node waiting;
    unsigned count;
    struct object *objects[];
};

enum { WAIT_OBJECT, WAIT_ENTRY, WAIT_LIST };

struct memory_shard {
    pthread_mutex_t lock;
    struct policy policy;
    uint64_t policy_charged; /* policy_bytes() when last looked at */
    struct memory_entry **ring;
    uint32_t ring_next;
} __attribute__((aligned(64)));

enum memory_counter {
    COUNT_INSERTS,
    COUNT_REPLACED,
    COUNT_EVICTIONS,
    COUNT_DROPPED,
    COUNT_EVICTED_BYTES,
    COUNT_REFUSED,
    COUNT_END = COUNT_REFUSED + MEMORY_REFUSALS,
};

struct memory {
    struct memory_options options;
    struct cds_lfht *table;
    struct reclaim *reclaim;
    struct memory_shard *shards;
    unsigned shard_count, shard_shift;
    uint64_t slack; /* what fills in flight and grace periods may take before others are evicted for them */
    atomic_bool closing;
    _Atomic uint64_t buckets;

    /* written by all who store */
    _Atomic uint64_t effective __attribute__((aligned(64)));
    _Atomic uint64_t index_bytes, reserved, waiting, objects, entries;
    _Atomic uint64_t unchecked; /* bytes stored since the allocator was last asked */
    atomic_bool check_wanted;
    unsigned cut_checks;  /* the reclaiming thread's */
    _Atomic double floor; /* L, common to all shards */
    _Atomic uint64_t counters[COUNT_END];
    _Atomic double worst[MEMORY_SHARDS_MAX]; /* of each shard, perhaps too low */
};

static inline void memory_count(struct memory *memory, unsigned counter, uint64_t add)
{
    atomic_fetch_add_explicit(&memory->counters[counter], add, memory_order_relaxed);
}

static inline struct object *object_of(struct policy_item *item)
{
    return CONTAINER_OF(item, struct object, item);
}

/* Bytes that go when the object goes: its own, and the body it shares with its older self. */
static inline uint64_t object_size(const struct object *object)
{
    uint64_t size = atomic_load_explicit(&object->charged, memory_order_relaxed);

    if (object->body_owner)
        size += atomic_load_explicit(&object->body_owner->charged, memory_order_relaxed);
    return size;
}

static inline uint64_t policy_hash(const struct key *key)
{
    return key->hash[0] ^ (key->hash[1] << 1);
}

struct memory_shard *memory_shard_of(struct memory *memory, const struct key *key);
void memory_lock(struct memory *memory, struct memory_shard *shard);
/* Publishes what the shard's policy says, then unlocks. */
void memory_unlock(struct memory *memory, struct memory_shard *shard);

struct memory_entry *memory_index_find(struct memory *memory, const struct key *key);
/* A new entry with `slot`, with its own key text if wanted, in the table. NULL when memory is out. */
struct memory_entry *memory_index_add(struct memory *memory, const struct key *key, uintptr_t slot, bool with_text);
/* Gives the entry its own text, which may mean a new entry in its place. NULL when memory is out. */
struct memory_entry *memory_index_own_text(struct memory *memory, struct memory_shard *shard,
                                           struct memory_entry *entry, const struct key *key);
/* Takes the entry out when it has neither variants nor a pass marker. */
void memory_index_tidy(struct memory *memory, struct memory_entry *entry);
/* Publishes the variants of `entry` without `out` (may be NULL) and with `in` (may be NULL) in front. 0 or -ENOMEM. Touches
 * neither references nor the policy. */
int memory_index_change(struct memory *memory, struct memory_entry *entry, const struct object *out, struct object *in);
/* Unlinks an object of this shard and lets it go after a grace period. The policy has let go of it already. */
void memory_index_unlink(struct memory *memory, struct memory_shard *shard, struct object *object);
void memory_clear_marker(struct memory *memory, struct memory_shard *shard, struct memory_entry *entry);

/* For the reclaimer. */
void memory_release_waiting(void *arg, struct reclaim_node *node, unsigned kind);
void memory_background_work(void *arg);
/* Takes everything out; nobody else uses the tier any more. */
void memory_index_empty(struct memory *memory);

/* Drops the tier's reference after a grace period; charged until then. */
void memory_let_go(struct memory *memory, struct object *object);

/* ---- memory_room.c ---- */

uint64_t memory_used(struct memory *memory);
/* Evicts until there is room for an object of this value; MEMORY_STORED, or why not. */
enum memory_refusal memory_make_room(struct memory *memory, double value);
/* After `bytes` more were stored: now and then has what is resident compared with the limit. */
void memory_check_resident(struct memory *memory, uint64_t bytes);
/* That comparison. Gives pages back to the system, which may take milliseconds: on the reclaiming thread, offline. */
void memory_follow_allocator(struct memory *memory);
