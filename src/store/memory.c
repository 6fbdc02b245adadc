/* The memory tier's interface: storing, dropping, markers, walking. The index is memory_index.c, the limit memory_room.c, the
 * choice of what goes policy.c, freeing after grace periods reclaim.c.
 *
 * Invariants, under a shard's lock: an object is in a slot of the index exactly while its item is in the shard's heap
 * (item.at != 0), and the tier then owns one reference; entries are added, replaced and taken out only by the holder of
 * their shard's lock; at most one shard is locked at a time. */
#include "store/memory_index.h"

#include "base/check.h"
#include "base/heap.h"

#include <errno.h>
#include <math.h>

/* ---- life ---- */

static double weight_flat(struct policy_item *item)
{
    const struct object *object = object_of(item);

    return 1.0 / sqrt((double)object_size(object));
}

/* The hundredth of a second that a cheap origin takes costs one. */
static double weight_latency(struct policy_item *item)
{
    const struct object *object = object_of(item);

    return (1.0 + object->cost_ms / 10.0) / sqrt((double)object_size(object));
}

static unsigned pick_shards(const struct memory_options *options)
{
    unsigned shards = 1;

    if (options->shards)
        return options->shards;
    while (shards < MEMORY_SHARDS_MAX && options->limit / shards > (uint64_t)4 << 20)
        shards *= 2;
    return shards;
}

static int make_shards(struct memory *memory)
{
    unsigned count = memory->shard_count;

    memory->shards = heap_zalloc(count * sizeof(*memory->shards));
    if (!memory->shards)
        return -ENOMEM;
    for (unsigned i = 0; i < count; i++) {
        struct memory_shard *shard = &memory->shards[i];

        pthread_mutex_init(&shard->lock, NULL);
        policy_init(&shard->policy, memory->options.cost == MEMORY_COST_LATENCY ? weight_latency : weight_flat);
        atomic_init(&memory->worst[i], HUGE_VAL);
    }
    return 0;
}

static void release(struct memory *memory)
{
    for (unsigned i = 0; memory->shards && i < memory->shard_count; i++) {
        policy_release(&memory->shards[i].policy);
        heap_free(memory->shards[i].ring);
        pthread_mutex_destroy(&memory->shards[i].lock);
    }
    if (memory->table)
        CHECK(cds_lfht_destroy(memory->table, NULL) == 0);
    heap_free(memory->shards);
    heap_free(memory);
}

int memory_new(const struct memory_options *options, struct memory **ret)
{
    enum { BUCKETS_FIRST = 1024 };
    unsigned shards = pick_shards(options);
    struct memory *memory;
    int r;

    if (options->limit < (uint64_t)1 << 20 || shards > MEMORY_SHARDS_MAX || (shards & (shards - 1)))
        return -EINVAL;
    memory = heap_zalloc(sizeof(*memory));
    if (!memory)
        return -ENOMEM;
    memory->options = *options;
    memory->options.max_variants = options->max_variants ? options->max_variants : 8;
    memory->options.share = options->share ? options->share : 8;
    memory->slack = MIN(options->limit / 16, (uint64_t)32 << 20);
    memory->shard_count = shards;
    atomic_init(&memory->effective, options->limit);
    atomic_init(&memory->buckets, BUCKETS_FIRST);
    r = make_shards(memory);
    if (r == 0) {
        memory->table = cds_lfht_new_flavor(BUCKETS_FIRST, BUCKETS_FIRST, 0, 0, &urcu_qsbr_flavor, NULL);
        r = memory->table ? 0 : -ENOMEM;
    }
    if (r == 0)
        r = reclaim_new(&(struct reclaim_options){ .release = memory_release_waiting,
                                                   .work = memory_background_work,
                                                   .arg = memory },
                        &memory->reclaim);
    if (r < 0) {
        release(memory);
        return r;
    }
    *ret = memory;
    return 0;
}

void memory_free(struct memory *memory)
{
    bool reader;

    if (!memory)
        return;
    reader = urcu_qsbr_read_ongoing();
    if (reader)
        rcu_offline();
    atomic_store(&memory->closing, true);
    reclaim_wake(memory->reclaim);
    reclaim_free(memory->reclaim);
    release(memory);
    if (reader)
        rcu_online();
}

void memory_settle(struct memory *memory)
{
    reclaim_barrier(memory->reclaim);
}

/* ---- shards ---- */

struct memory_shard *memory_shard_of(struct memory *memory, const struct key *key)
{
    return &memory->shards[(key->hash[1] >> 32) & (memory->shard_count - 1)];
}

void memory_lock(struct memory *memory, struct memory_shard *shard)
{
    pthread_mutex_lock(&shard->lock);
    shard->policy.floor = MAX(shard->policy.floor, atomic_load_explicit(&memory->floor, memory_order_relaxed));
}

void memory_unlock(struct memory *memory, struct memory_shard *shard)
{
    uint64_t bytes = policy_bytes(&shard->policy);

    atomic_store_explicit(&memory->worst[shard - memory->shards], policy_worst_value(&shard->policy),
                          memory_order_relaxed);
    /* Two shards may overwrite each other's: the floor is then a little low for a while, never wrong. */
    if (shard->policy.floor > atomic_load_explicit(&memory->floor, memory_order_relaxed))
        atomic_store_explicit(&memory->floor, shard->policy.floor, memory_order_relaxed);
    if (bytes != shard->policy_charged) {
        atomic_fetch_add_explicit(&memory->index_bytes, bytes - shard->policy_charged, memory_order_relaxed);
        shard->policy_charged = bytes;
    }
    pthread_mutex_unlock(&shard->lock);
}

/* ---- storing ---- */

static const char *const refusal_names[MEMORY_REFUSALS] = {
    [MEMORY_STORED] = "stored", [MEMORY_TOO_LARGE] = "too-large", [MEMORY_NOT_WORTH] = "not-worth",
    [MEMORY_FULL] = "full",     [MEMORY_NO_HEAP] = "no-heap",     [MEMORY_WORSE] = "worse",
};

const char *memory_refusal_name(enum memory_refusal why)
{
    return (unsigned)why < MEMORY_REFUSALS ? refusal_names[why] : "unknown";
}

static bool same_variant(const struct object *a, const struct object *b)
{
    return view_eq(object_vary_names(a), object_vary_names(b)) && view_eq(object_vary_values(a), object_vary_values(b));
}

static bool is_partial(const struct object *object)
{
    return atomic_load_explicit(&object->flags, memory_order_relaxed) & OBJECT_PARTIAL;
}

/* The variant that `object` takes the place of: the equal one, or the least used (of those the oldest) of a full set. */
static struct object *find_place(const struct memory *memory, const struct memory_entry *entry,
                                 const struct object *object)
{
    struct memory_variants variants = memory_variants(entry);
    struct object *least = NULL;

    for (unsigned i = 0; i < variants.count; i++) {
        struct object *other = memory_variant(variants, i);

        if (same_variant(other, object))
            return other;
        if (!least || atomic_load_explicit(&other->item.uses, memory_order_relaxed) <=
                          atomic_load_explicit(&least->item.uses, memory_order_relaxed))
            least = other;
    }
    return variants.count >= memory->options.max_variants ? least : NULL;
}

static enum memory_refusal replace(struct memory *memory, struct memory_shard *shard, struct memory_entry *entry,
                                   struct object *old, struct object *object)
{
    if (same_variant(old, object) && is_partial(object) && !is_partial(old))
        return MEMORY_WORSE;
    if (memory_index_change(memory, entry, old, object) < 0)
        return MEMORY_NO_HEAP;
    policy_replace(&shard->policy, &old->item, &object->item);
    memory_let_go(memory, old);
    memory_count(memory, COUNT_REPLACED, 1);
    return MEMORY_STORED;
}

static enum memory_refusal insert(struct memory *memory, struct memory_shard *shard, struct memory_entry *entry,
                                  struct object *object)
{
    if (policy_insert(&shard->policy, &object->item, policy_hash(&object->key)) < 0)
        return MEMORY_NO_HEAP;
    if (entry ? memory_index_change(memory, entry, NULL, object) < 0
              : !memory_index_add(memory, &object->key, (uintptr_t)object, false)) {
        policy_remove(&shard->policy, &object->item);
        return MEMORY_NO_HEAP;
    }
    return MEMORY_STORED;
}

/* The object is the tier's, one reference more, from the moment a reader can find it: so that comes first. */
static enum memory_refusal store(struct memory *memory, struct object *object)
{
    struct memory_shard *shard = memory_shard_of(memory, &object->key);
    enum memory_refusal why;
    struct memory_entry *entry;
    struct object *old;

    memory_lock(memory, shard);
    CHECK(object->item.at == 0);
    object->item.shard = (uint8_t)(shard - memory->shards);
    object_ref(object);
    entry = memory_index_find(memory, &object->key);
    old = entry ? find_place(memory, entry, object) : NULL;
    why = old ? replace(memory, shard, entry, old, object) : insert(memory, shard, entry, object);
    if (why == MEMORY_STORED)
        atomic_fetch_add_explicit(&memory->objects, 1, memory_order_relaxed);
    memory_unlock(memory, shard);
    if (why != MEMORY_STORED)
        object_unref(object);
    return why;
}

/* What the newcomer is worth; HUGE_VAL when it need not be weighed because it takes the place of one that is here. */
static double worth(struct memory *memory, struct object *object)
{
    struct memory_shard *shard = memory_shard_of(memory, &object->key);
    const struct memory_entry *entry;
    double value = HUGE_VAL;

    if (memory->options.admit_all)
        return HUGE_VAL;
    memory_lock(memory, shard);
    entry = memory_index_find(memory, &object->key);
    if (!entry || memory_variants(entry).count == 0)
        value = policy_value(&shard->policy, &object->item, policy_hash(&object->key));
    memory_unlock(memory, shard);
    return value;
}

static void remember_refused(struct memory *memory, const struct object *object, double value)
{
    struct memory_shard *shard = memory_shard_of(memory, &object->key);

    memory_lock(memory, shard);
    policy_refuse(&shard->policy, value, policy_hash(&object->key));
    memory_unlock(memory, shard);
}

int memory_put(struct memory *memory, struct object *object, enum memory_refusal *ret_why)
{
    uint64_t size = object_size(object);
    enum memory_refusal why = MEMORY_TOO_LARGE;
    double value;

    CHECK(atomic_load_explicit(&object->flags, memory_order_relaxed) & OBJECT_COMPLETE);
    if (size <= memory_object_max(memory)) {
        value = worth(memory, object);
        why = memory_make_room(memory, value);
        if (why == MEMORY_STORED)
            why = store(memory, object);
        else if (why == MEMORY_NOT_WORTH)
            remember_refused(memory, object, value);
        memory_check_resident(memory, size);
    }
    memory_count(memory, why == MEMORY_STORED ? (unsigned)COUNT_INSERTS : COUNT_REFUSED + (unsigned)why, 1);
    if (why == MEMORY_STORED)
        return 0;
    if (ret_why)
        *ret_why = why;
    return -ENOSPC;
}

uint64_t memory_object_max(const struct memory *memory)
{
    return atomic_load_explicit(&memory->effective, memory_order_relaxed) / memory->options.share;
}

/* ---- dropping ---- */

static void drop_object(struct memory *memory, struct memory_shard *shard, struct object *object)
{
    policy_remove(&shard->policy, &object->item);
    memory_index_unlink(memory, shard, object);
    memory_count(memory, COUNT_DROPPED, 1);
}

unsigned memory_drop(struct memory *memory, const struct key *key)
{
    struct memory_shard *shard = memory_shard_of(memory, key);
    struct memory_entry *entry;
    unsigned dropped = 0;

    memory_lock(memory, shard);
    while ((entry = memory_index_find(memory, key)) && memory_variants(entry).count) {
        drop_object(memory, shard, memory_variant(memory_variants(entry), 0));
        dropped++;
    }
    memory_unlock(memory, shard);
    return dropped;
}

unsigned memory_drop_object(struct memory *memory, struct object *object)
{
    struct memory_shard *shard = memory_shard_of(memory, &object->key);
    bool here;

    memory_lock(memory, shard);
    here = object->item.at != 0;
    if (here)
        drop_object(memory, shard, object);
    memory_unlock(memory, shard);
    return here;
}

unsigned memory_soft_purge(struct memory *memory, const struct key *key)
{
    const struct memory_entry *entry = memory_find(memory, key);
    struct memory_variants variants = entry ? memory_variants(entry) : (struct memory_variants){ 0 };

    for (unsigned i = 0; i < variants.count; i++)
        atomic_store_explicit(&memory_variant(variants, i)->soft_purged, 1, memory_order_relaxed);
    return variants.count;
}

/* ---- pass markers ---- */

static int make_ring(struct memory *memory, struct memory_shard *shard)
{
    size_t size = MEMORY_PASS_RING * sizeof(*shard->ring);

    if (shard->ring)
        return 0;
    shard->ring = heap_zalloc(size);
    if (!shard->ring)
        return -ENOMEM;
    atomic_fetch_add_explicit(&memory->index_bytes, heap_cost(size), memory_order_relaxed);
    return 0;
}

/* The entry of `key` with a place in the ring of markers, the oldest marker's if need be. NULL when memory is out. */
static struct memory_entry *marked_entry(struct memory *memory, struct memory_shard *shard, const struct key *key)
{
    struct memory_entry *entry = memory_index_find(memory, key), *oldest;

    if (entry && entry->ring_at)
        return entry;
    if (make_ring(memory, shard) < 0)
        return NULL;
    /* Dropping the variants later must leave a text to compare with. */
    entry = entry ? memory_index_own_text(memory, shard, entry, key) : memory_index_add(memory, key, 0, true);
    if (!entry)
        return NULL;
    oldest = shard->ring[shard->ring_next];
    if (oldest) {
        memory_clear_marker(memory, shard, oldest);
        memory_index_tidy(memory, oldest);
    }
    shard->ring[shard->ring_next] = entry;
    entry->ring_at = shard->ring_next + 1;
    shard->ring_next = (shard->ring_next + 1) % MEMORY_PASS_RING;
    return entry;
}

int memory_mark_pass(struct memory *memory, const struct key *key, uint64_t until)
{
    struct memory_shard *shard = memory_shard_of(memory, key);
    struct memory_entry *entry;
    int r = 0;

    memory_lock(memory, shard);
    if (until == 0) {
        entry = memory_index_find(memory, key);
        if (entry && entry->ring_at) {
            memory_clear_marker(memory, shard, entry);
            memory_index_tidy(memory, entry);
        }
    } else {
        entry = marked_entry(memory, shard, key);
        if (entry)
            atomic_store_explicit(&entry->pass_until, until, memory_order_relaxed);
        else
            r = -ENOMEM;
    }
    memory_unlock(memory, shard);
    return r;
}

/* ---- walking ---- */

enum { MARK_DROP = UINT8_MAX }; /* in item.keyed, which only counts up to POLICY_USES_MAX */

/* Removing moves others about the heap, perhaps to places already looked at: the caller repeats until nothing was found. */
static bool drop_marked(struct memory *memory, struct memory_shard *shard)
{
    bool found = false;

    for (uint32_t i = 0; i < shard->policy.count;) {
        struct policy_item *item = policy_at(&shard->policy, i);

        if (item->keyed == MARK_DROP) {
            drop_object(memory, shard, object_of(item));
            found = true;
        } else {
            i++;
        }
    }
    return found;
}

bool memory_each(struct memory *memory, unsigned *cursor, enum memory_visit (*visit)(struct object *object, void *arg),
                 void *arg)
{
    struct memory_shard *shard;
    bool drops = false;

    if (*cursor >= memory->shard_count)
        return false;
    shard = &memory->shards[(*cursor)++];
    memory_lock(memory, shard);
    for (uint32_t i = 0; i < shard->policy.count; i++) {
        struct policy_item *item = policy_at(&shard->policy, i);
        struct object *object = object_of(item);
        enum memory_visit verdict = visit(object, arg);

        if (verdict == MEMORY_DROP) {
            item->keyed = MARK_DROP;
            drops = true;
        } else if (verdict == MEMORY_SOFT) {
            atomic_store_explicit(&object->soft_purged, 1, memory_order_relaxed);
        }
    }
    while (drops)
        drops = drop_marked(memory, shard);
    memory_unlock(memory, shard);
    return *cursor < memory->shard_count;
}

/* ---- statistics ---- */

void memory_stats(struct memory *memory, struct memory_stats *ret)
{
    uint64_t ghost_hits = 0, c[COUNT_END];

    for (unsigned i = 0; i < memory->shard_count; i++) {
        pthread_mutex_lock(&memory->shards[i].lock);
        ghost_hits += memory->shards[i].policy.ghost_hits;
        pthread_mutex_unlock(&memory->shards[i].lock);
    }
    for (unsigned i = 0; i < COUNT_END; i++)
        c[i] = atomic_load_explicit(&memory->counters[i], memory_order_relaxed);
    *ret = (struct memory_stats){
        .limit = memory->options.limit,
        .effective_limit = atomic_load_explicit(&memory->effective, memory_order_relaxed),
        .bytes = memory_used(memory),
        .waiting = atomic_load_explicit(&memory->waiting, memory_order_relaxed),
        .objects = atomic_load_explicit(&memory->objects, memory_order_relaxed),
        .entries = atomic_load_explicit(&memory->entries, memory_order_relaxed),
        .inserts = c[COUNT_INSERTS],
        .replaced = c[COUNT_REPLACED],
        .evictions = c[COUNT_EVICTIONS],
        .dropped = c[COUNT_DROPPED],
        .evicted_bytes = c[COUNT_EVICTED_BYTES],
        .ghost_hits = ghost_hits,
    };
    for (unsigned i = 0; i < MEMORY_REFUSALS; i++)
        ret->refused[i] = c[COUNT_REFUSED + i];
}
