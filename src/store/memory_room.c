/* The limit. What counts is everything charged: objects alive anywhere (in the index, in a fill, held by a slow reader,
 * waiting for a grace period), the index itself, and reservations.
 *
 *     0 ........................... soft ......... effective ..... limit
 *       objects that are worth it    | fills and    | what the allocator
 *                                    | what waits   | wastes
 *
 * Storing evicts down to `soft`, weighing the newcomer against what would go. Reserving takes from the room above it, and
 * evicts without asking only when that is used up. `effective` follows the allocator: resident memory above the limit, from
 * fragmentation, its own tables or other parts of the node, comes out of it. */
#include "store/memory_index.h"

#include "base/heap.h"

#include <errno.h>
#include <math.h>

enum {
    EVICT_MAX = 4096,      /* per call: a bound on how long a loop is kept busy, not on what is possible */
    CHECK_EVERY = 2 << 20, /* bytes stored between two looks at the allocator */
    RECOVER_EVERY = 16,
};
#define TRIM_ABOVE ((uint64_t)8 << 20)

static uint64_t load(_Atomic uint64_t *value)
{
    return atomic_load_explicit(value, memory_order_relaxed);
}

uint64_t memory_used(struct memory *memory)
{
    return object_account() + load(&memory->index_bytes) + load(&memory->reserved);
}

/* Without what is gone already but for a grace period: evicting more would not help it. Counters are read one by one, so
 * the difference is clamped. */
static uint64_t used_soon(struct memory *memory)
{
    uint64_t waiting = load(&memory->waiting), used = memory_used(memory);

    return used - MIN(used, waiting);
}

/* ---- eviction ---- */

static unsigned least_shard(struct memory *memory)
{
    double least = HUGE_VAL;
    unsigned at = memory->shard_count;

    for (unsigned i = 0; i < memory->shard_count; i++) {
        double value = atomic_load_explicit(&memory->worst[i], memory_order_relaxed);

        if (value < least) {
            least = value;
            at = i;
        }
    }
    return at;
}

static void evict(struct memory *memory, struct memory_shard *shard, struct object *object)
{
    policy_evict(&shard->policy, &object->item, policy_hash(&object->key));
    memory_count(memory, COUNT_EVICTIONS, 1);
    memory_count(memory, COUNT_EVICTED_BYTES, object_size(object));
    if (memory->options.evicted)
        memory->options.evicted(memory->options.evicted_arg, object);
    memory_index_unlink(memory, shard, object);
}

enum outcome { EVICTED, NOTHING_LEFT, ALL_BETTER };

/* Evicts the least valuable object unless it is worth more than `value`. A shard's published value may be too low, so the
 * choice is made again until the shard's true worst is the least published. */
static enum outcome evict_one(struct memory *memory, double value)
{
    for (unsigned tries = 0;; tries++) {
        unsigned at = least_shard(memory);
        struct memory_shard *shard;
        struct policy_item *item;
        enum outcome outcome = EVICTED;
        double worst;

        if (at == memory->shard_count)
            return NOTHING_LEFT;
        shard = &memory->shards[at];
        memory_lock(memory, shard);
        item = policy_worst(&shard->policy);
        worst = policy_worst_value(&shard->policy);
        if (!item || (tries < 8 && worst > atomic_load_explicit(&memory->worst[at], memory_order_relaxed))) {
            memory_unlock(memory, shard);
            continue;
        }
        if (worst > value)
            outcome = ALL_BETTER;
        else
            evict(memory, shard, object_of(item));
        memory_unlock(memory, shard);
        return outcome;
    }
}

enum memory_refusal memory_make_room(struct memory *memory, double value)
{
    uint64_t effective = load(&memory->effective), soft = effective - memory->slack;

    for (unsigned i = 0; i < EVICT_MAX && used_soon(memory) > soft; i++) {
        enum outcome outcome = evict_one(memory, value);

        if (outcome == ALL_BETTER)
            return MEMORY_NOT_WORTH;
        if (outcome == NOTHING_LEFT)
            break;
    }
    return memory_used(memory) <= effective ? MEMORY_STORED : MEMORY_FULL;
}

int memory_reserve(struct memory *memory, uint64_t bytes)
{
    uint64_t effective = load(&memory->effective);

    if (bytes > effective)
        return -ENOMEM;
    /* First, so that two who see the same free bytes cannot both have them. */
    atomic_fetch_add_explicit(&memory->reserved, bytes, memory_order_relaxed);
    for (unsigned i = 0; i < EVICT_MAX && used_soon(memory) > effective; i++)
        if (evict_one(memory, HUGE_VAL) != EVICTED)
            break;
    if (memory_used(memory) <= effective)
        return 0;
    memory_unreserve(memory, bytes);
    return -ENOMEM;
}

void memory_unreserve(struct memory *memory, uint64_t bytes)
{
    atomic_fetch_sub_explicit(&memory->reserved, bytes, memory_order_relaxed);
}

/* ---- the allocator ---- */

/* What the allocator keeps at hand for itself is resident but not lost, so nothing is judged before it was told to give that
 * back. Giving back costs system calls and page faults: it is asked for when resident memory is well above the limit, and
 * once in a while as long as the limit is cut short, to find out whether it still must be. */
void memory_follow_allocator(struct memory *memory)
{
    uint64_t limit = memory->options.limit, resident = heap_resident(), now = load(&memory->effective);
    bool retry = now < limit && ++memory->cut_checks % RECOVER_EVERY == 0;

    if (resident <= limit + TRIM_ABOVE && !retry)
        return;
    heap_trim();
    resident = heap_resident();
    if (resident > limit) {
        uint64_t full = MIN(now, used_soon(memory) + memory->slack);

        now = full - MIN(full, resident - limit);
        now = MAX(now, limit / 2);
    } else {
        now = MIN(limit, now + (limit - resident) / 2);
    }
    atomic_store_explicit(&memory->effective, now, memory_order_relaxed);
}

void memory_check_resident(struct memory *memory, uint64_t bytes)
{
    uint64_t unchecked = atomic_fetch_add_explicit(&memory->unchecked, bytes, memory_order_relaxed) + bytes;

    if (unchecked < CHECK_EVERY || memory_used(memory) < memory->options.limit / 2)
        return;
    atomic_store_explicit(&memory->unchecked, 0, memory_order_relaxed);
    atomic_store_explicit(&memory->check_wanted, true, memory_order_relaxed);
    reclaim_wake(memory->reclaim);
}
