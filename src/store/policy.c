/* The eviction policy: a binary heap of items by worth, and sets of ghost fingerprints.
 *
 * Everything here runs under the owner's lock but policy_touch(). Invariants: heap[item->at - 1].item == item for every item
 * in the heap; a node's value is never above what its item was worth when keyed, so a node at the top whose uses have not
 * changed is the least valuable one.
 *
 * A ghost is 28 bits of a hash and 4 bits of frequency. A set holds four, newest first. The table doubles with the heap by
 * copying itself into both halves: the set index gains a bit that the fingerprint does not hold, so each ghost is kept
 * where either value of that bit would look for it. */
#include "store/policy.h"

#include "base/heap.h"

#include <errno.h>
#include <math.h>
#include <string.h>

enum {
    HEAP_FIRST = 64,
    GHOST_WAYS = 4,
    GHOST_SETS_FIRST = 16,
    GHOSTS_PER_ITEM = 2, /* docs/memory-tier.md: 1 loses a little, 4 wins nothing */
};

struct policy_node {
    double value;
    struct policy_item *item;
};

/* ---- ghosts ---- */

static uint32_t fingerprint_of(uint64_t hash)
{
    return (uint32_t)(hash >> 36) << 4;
}

static uint32_t *ghost_set(const struct policy *policy, uint64_t hash)
{
    return policy->ghosts + ((uint32_t)hash & policy->ghost_mask) * GHOST_WAYS;
}

/* Frequency remembered for `hash`, 0 when it is unknown. */
static unsigned ghost_find(const struct policy *policy, uint64_t hash)
{
    const uint32_t *set;

    if (!policy->ghosts)
        return 0;
    set = ghost_set(policy, hash);
    for (unsigned i = 0; i < GHOST_WAYS; i++)
        if ((set[i] & ~15u) == fingerprint_of(hash))
            return set[i] & 15;
    return 0;
}

static void ghost_forget(struct policy *policy, uint64_t hash)
{
    uint32_t *set;

    if (!policy->ghosts)
        return;
    set = ghost_set(policy, hash);
    for (unsigned i = 0; i < GHOST_WAYS; i++)
        if ((set[i] & ~15u) == fingerprint_of(hash))
            set[i] = 0;
}

static void ghosts_grow(struct policy *policy)
{
    uint32_t sets = policy->ghosts ? (policy->ghost_mask + 1) * 2 : GHOST_SETS_FIRST;
    uint32_t *bigger = heap_array(sets, GHOST_WAYS * sizeof(uint32_t));
    size_t half = (size_t)sets / 2 * GHOST_WAYS;

    if (!bigger)
        return; /* remembering less is harmless */
    if (policy->ghosts) {
        memcpy(bigger, policy->ghosts, half * sizeof(uint32_t));
        memcpy(bigger + half, policy->ghosts, half * sizeof(uint32_t));
    } else {
        memset(bigger, 0, (size_t)sets * GHOST_WAYS * sizeof(uint32_t));
    }
    heap_free(policy->ghosts);
    policy->ghosts = bigger;
    policy->ghost_mask = sets - 1;
}

static void ghost_add(struct policy *policy, uint64_t hash, unsigned frequency)
{
    uint32_t *set;

    if (!policy->ghosts || (uint64_t)(policy->ghost_mask + 1) * GHOST_WAYS < (uint64_t)policy->count * GHOSTS_PER_ITEM)
        ghosts_grow(policy);
    if (!policy->ghosts)
        return;
    ghost_forget(policy, hash);
    set = ghost_set(policy, hash);
    memmove(set + 1, set, (GHOST_WAYS - 1) * sizeof(*set));
    set[0] = fingerprint_of(hash) | MIN(frequency, 15u);
}

/* ---- the heap ---- */

static unsigned uses_of(const struct policy_item *item)
{
    return atomic_load_explicit(&item->uses, memory_order_relaxed);
}

/* Being stored counts as the first use. */
static unsigned frequency_of(const struct policy_item *item, unsigned uses)
{
    return MIN(1u + item->past + uses, (unsigned)POLICY_USES_MAX);
}

static double value_of(const struct policy *policy, struct policy_item *item)
{
    return policy->floor + frequency_of(item, item->keyed) * policy->weight(item);
}

static void place(struct policy *policy, uint32_t at, struct policy_node node)
{
    policy->heap[at] = node;
    node.item->at = at + 1;
}

static void sift_up(struct policy *policy, uint32_t at, struct policy_node node)
{
    while (at > 0 && policy->heap[(at - 1) / 2].value > node.value) {
        place(policy, at, policy->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    place(policy, at, node);
}

static void sift_down(struct policy *policy, uint32_t at, struct policy_node node)
{
    for (;;) {
        uint32_t child = at * 2 + 1;

        if (child >= policy->count)
            break;
        if (child + 1 < policy->count && policy->heap[child + 1].value < policy->heap[child].value)
            child++;
        if (policy->heap[child].value >= node.value)
            break;
        place(policy, at, policy->heap[child]);
        at = child;
    }
    place(policy, at, node);
}

/* Puts a node whose value may have gone either way where it belongs. */
static void settle(struct policy *policy, uint32_t at, struct policy_node node)
{
    if (at > 0 && policy->heap[(at - 1) / 2].value > node.value)
        sift_up(policy, at, node);
    else
        sift_down(policy, at, node);
}

static void rekey(struct policy *policy, struct policy_item *item)
{
    item->keyed = (uint8_t)uses_of(item);
    settle(policy, item->at - 1, (struct policy_node){ value_of(policy, item), item });
}

/* ---- the interface ---- */

void policy_init(struct policy *policy, double (*weight)(struct policy_item *item))
{
    *policy = (struct policy){ .weight = weight };
}

void policy_release(struct policy *policy)
{
    heap_free(policy->heap);
    heap_free(policy->ghosts);
    policy->heap = NULL;
    policy->ghosts = NULL;
    policy->count = policy->cap = 0;
}

void policy_touch_exact(struct policy *policy, struct policy_item *item)
{
    policy_touch(item);
    rekey(policy, item);
}

/* By a quarter, not by doubling: sixteen bytes an object are part of the overhead we promise. */
static int grow(struct policy *policy)
{
    uint32_t cap = MAX(policy->cap + policy->cap / 4, (uint32_t)HEAP_FIRST);
    struct policy_node *heap;

    if (cap <= policy->cap)
        return -ENOMEM; /* 2^32 items */
    heap = heap_resize(policy->heap, cap * sizeof(*heap));
    if (!heap)
        return -ENOMEM;
    policy->heap = heap;
    policy->cap = cap;
    return 0;
}

int policy_insert(struct policy *policy, struct policy_item *item, uint64_t hash)
{
    unsigned past = ghost_find(policy, hash);

    if (policy->count == policy->cap && grow(policy) < 0)
        return -ENOMEM;
    if (past) {
        policy->ghost_hits++;
        ghost_forget(policy, hash);
    }
    item->past = (uint8_t)past;
    item->keyed = (uint8_t)uses_of(item);
    policy->count++;
    sift_up(policy, policy->count - 1, (struct policy_node){ value_of(policy, item), item });
    return 0;
}

void policy_remove(struct policy *policy, struct policy_item *item)
{
    uint32_t at = item->at - 1;
    struct policy_node last;

    if (item->at == 0)
        return;
    item->at = 0;
    last = policy->heap[--policy->count];
    if (last.item != item)
        settle(policy, at, last);
}

void policy_replace(struct policy *policy, struct policy_item *old, struct policy_item *item)
{
    uint32_t at = old->at - 1;

    item->past = (uint8_t)(frequency_of(old, uses_of(old)) - 1);
    item->keyed = (uint8_t)uses_of(item);
    old->at = 0;
    settle(policy, at, (struct policy_node){ value_of(policy, item), item });
}

struct policy_item *policy_worst(struct policy *policy)
{
    while (policy->count) {
        struct policy_item *item = policy->heap[0].item;

        if (uses_of(item) == item->keyed)
            return item;
        rekey(policy, item);
    }
    return NULL;
}

double policy_worst_value(const struct policy *policy)
{
    return policy->count ? policy->heap[0].value : HUGE_VAL;
}

void policy_evict(struct policy *policy, struct policy_item *item, uint64_t hash)
{
    double value = policy->heap[item->at - 1].value;

    policy->floor = MAX(policy->floor, value);
    ghost_add(policy, hash, frequency_of(item, uses_of(item)));
    policy_remove(policy, item);
}

void policy_refuse(struct policy *policy, double value, uint64_t hash)
{
    policy->floor = MAX(policy->floor, value);
    ghost_add(policy, hash, ghost_find(policy, hash) + 1);
}

double policy_value(const struct policy *policy, struct policy_item *item, uint64_t hash)
{
    unsigned frequency = MIN(1 + ghost_find(policy, hash) + uses_of(item), (unsigned)POLICY_USES_MAX);

    return policy->floor + frequency * policy->weight(item);
}

struct policy_item *policy_at(const struct policy *policy, uint32_t i)
{
    return policy->heap[i].item;
}

uint64_t policy_bytes(const struct policy *policy)
{
    uint64_t ghosts = policy->ghosts ? (uint64_t)(policy->ghost_mask + 1) * GHOST_WAYS * sizeof(uint32_t) : 0;

    return policy->cap * sizeof(struct policy_node) + ghosts;
}
