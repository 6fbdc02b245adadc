/* The index: a lock-free hash table of entries, each with the variants of one key.
 *
 * An entry's slot is one word, published with release: nothing, one object, or an immutable list of objects, so that the
 * common single variant costs no list. Writers hold the lock of the key's shard, make a new word, publish it, and leave the
 * old list and objects to the reclaimer. An entry usually has no key text of its own: its variants have it. Only an entry
 * that began as a pass marker, or may be left with nothing else, carries a copy.
 *
 * The tier owns one reference of every object in a slot; it is dropped after a grace period, which is why readers may use
 * what they found until the end of their turn. */
#include "store/memory_index.h"

#include "base/check.h"
#include "base/heap.h"

#include <errno.h>

#define SLOT_LIST ((uintptr_t)1)

/* ---- slots ---- */

static struct variant_list *list_in(uintptr_t slot)
{
    return slot & SLOT_LIST ? (struct variant_list *)(slot & ~SLOT_LIST) : NULL;
}

static unsigned slot_count(uintptr_t slot)
{
    return slot & SLOT_LIST ? list_in(slot)->count : slot != 0;
}

static struct object *slot_object(uintptr_t slot, unsigned i)
{
    return slot & SLOT_LIST ? list_in(slot)->objects[i] : (struct object *)slot;
}

struct memory_variants memory_variants(const struct memory_entry *entry)
{
    uintptr_t slot = atomic_load_explicit(&entry->slot, memory_order_acquire);

    return (struct memory_variants){ slot, slot_count(slot) };
}

struct object *memory_variant(struct memory_variants variants, unsigned i)
{
    CHECK(i < variants.count);
    return slot_object(variants.slot, i);
}

uint64_t memory_pass_until(const struct memory_entry *entry)
{
    return atomic_load_explicit(&entry->pass_until, memory_order_relaxed);
}

/* ---- bytes ---- */

static size_t entry_cost(uint32_t text_len)
{
    return heap_cost(sizeof(struct memory_entry) + text_len);
}

static size_t list_cost(unsigned count)
{
    return heap_cost(sizeof(struct variant_list) + count * sizeof(struct object *));
}

static void charge(struct memory *memory, size_t bytes)
{
    atomic_fetch_add_explicit(&memory->index_bytes, bytes, memory_order_relaxed);
}

/* ---- entries ---- */

static int match(struct cds_lfht_node *node, const void *arg)
{
    struct memory_entry *entry = CONTAINER_OF(node, struct memory_entry, node);
    const struct key *key = arg;
    uintptr_t slot;

    /* The table's own publication is invisible to TSan. */
    rcu_annotate_acquire(entry);
    if (atomic_load_explicit(&entry->hash1, memory_order_relaxed) != key->hash[1])
        return 0;
    if (entry->text_len)
        return view_eq(view_make(entry->text, entry->text_len), key->text);
    slot = atomic_load_explicit(&entry->slot, memory_order_acquire);
    return slot && view_eq(slot_object(slot, 0)->key.text, key->text);
}

struct memory_entry *memory_index_find(struct memory *memory, const struct key *key)
{
    struct cds_lfht_iter at;
    struct cds_lfht_node *node;

    cds_lfht_lookup(memory->table, key->hash[0], match, key, &at);
    node = cds_lfht_iter_get_node(&at);
    return node ? CONTAINER_OF(node, struct memory_entry, node) : NULL;
}

const struct memory_entry *memory_find(struct memory *memory, const struct key *key)
{
    return memory_index_find(memory, key);
}

static struct memory_entry *entry_new(struct memory *memory, const struct key *key, uintptr_t slot, bool with_text)
{
    uint32_t text_len = with_text ? (uint32_t)key->text.len : 0;
    struct memory_entry *entry = heap_alloc(sizeof(*entry) + text_len);

    if (!entry)
        return NULL;
    cds_lfht_node_init(&entry->node);
    atomic_init(&entry->hash1, key->hash[1]);
    atomic_init(&entry->slot, slot);
    atomic_init(&entry->pass_until, 0);
    entry->ring_at = 0;
    entry->text_len = text_len;
    if (text_len)
        memcpy(entry->text, key->text.ptr, text_len);
    charge(memory, entry_cost(text_len));
    rcu_annotate_release(entry);
    return entry;
}

struct memory_entry *memory_index_add(struct memory *memory, const struct key *key, uintptr_t slot, bool with_text)
{
    struct memory_entry *entry = entry_new(memory, key, slot, with_text);
    uint64_t entries;

    if (!entry)
        return NULL;
    CHECK(cds_lfht_add_unique(memory->table, key->hash[0], match, key, &entry->node) == &entry->node);
    entries = atomic_fetch_add_explicit(&memory->entries, 1, memory_order_relaxed) + 1;
    if (entries > atomic_load_explicit(&memory->buckets, memory_order_relaxed) * 2)
        reclaim_wake(memory->reclaim);
    return entry;
}

struct memory_entry *memory_index_own_text(struct memory *memory, struct memory_shard *shard,
                                           struct memory_entry *entry, const struct key *key)
{
    struct memory_entry *other;
    struct cds_lfht_iter at;

    if (entry->text_len)
        return entry;
    other = entry_new(memory, key, atomic_load_explicit(&entry->slot, memory_order_relaxed), true);
    if (!other)
        return NULL;
    CHECK(entry->ring_at == 0 && memory_pass_until(entry) == 0);
    (void)shard;
    cds_lfht_lookup(memory->table, key->hash[0], match, key, &at);
    CHECK(cds_lfht_iter_get_node(&at) == &entry->node);
    CHECK(cds_lfht_replace(memory->table, &at, key->hash[0], match, key, &other->node) == 0);
    reclaim_defer(memory->reclaim, &entry->waiting, WAIT_ENTRY);
    return other;
}

void memory_index_tidy(struct memory *memory, struct memory_entry *entry)
{
    if (atomic_load_explicit(&entry->slot, memory_order_relaxed) || entry->ring_at)
        return;
    CHECK(cds_lfht_del(memory->table, &entry->node) == 0);
    atomic_fetch_sub_explicit(&memory->entries, 1, memory_order_relaxed);
    reclaim_defer(memory->reclaim, &entry->waiting, WAIT_ENTRY);
}

void memory_clear_marker(struct memory *memory, struct memory_shard *shard, struct memory_entry *entry)
{
    (void)memory;
    if (entry->ring_at == 0)
        return;
    shard->ring[entry->ring_at - 1] = NULL;
    entry->ring_at = 0;
    atomic_store_explicit(&entry->pass_until, 0, memory_order_relaxed);
}

/* ---- variants ---- */

static void publish(struct memory *memory, struct memory_entry *entry, uintptr_t slot)
{
    uintptr_t old = atomic_load_explicit(&entry->slot, memory_order_relaxed);

    atomic_store_explicit(&entry->slot, slot, memory_order_release);
    if (old & SLOT_LIST)
        reclaim_defer(memory->reclaim, &list_in(old)->waiting, WAIT_LIST);
}

int memory_index_change(struct memory *memory, struct memory_entry *entry, const struct object *out, struct object *in)
{
    uintptr_t old = atomic_load_explicit(&entry->slot, memory_order_relaxed), slot = (uintptr_t)in;
    unsigned old_count = slot_count(old), kept = 0, count;
    struct variant_list *list;

    for (unsigned i = 0; i < old_count; i++)
        if (slot_object(old, i) != out) {
            slot = in ? slot : (uintptr_t)slot_object(old, i);
            kept++;
        }
    count = kept + (in != NULL);
    if (count > 1) {
        list = heap_alloc(sizeof(*list) + count * sizeof(struct object *));
        if (!list)
            return -ENOMEM;
        charge(memory, list_cost(count));
        list->count = 0;
        if (in)
            list->objects[list->count++] = in;
        for (unsigned i = 0; i < old_count; i++)
            if (slot_object(old, i) != out)
                list->objects[list->count++] = slot_object(old, i);
        slot = (uintptr_t)list | SLOT_LIST;
    }
    publish(memory, entry, slot);
    return 0;
}

void memory_let_go(struct memory *memory, struct object *object)
{
    atomic_fetch_sub_explicit(&memory->objects, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&memory->waiting, object_size(object), memory_order_relaxed);
    reclaim_defer(memory->reclaim, &object->waiting, WAIT_OBJECT);
}

/* No memory for the shorter list: one survivor needs none, the others go too. */
static void keep_one(struct memory *memory, struct memory_shard *shard, struct memory_entry *entry,
                     const struct object *out)
{
    uintptr_t old = atomic_load_explicit(&entry->slot, memory_order_relaxed);
    struct object *survivor = slot_object(old, 0) == out ? slot_object(old, 1) : slot_object(old, 0);
    unsigned count = slot_count(old);

    publish(memory, entry, (uintptr_t)survivor);
    for (unsigned i = 0; i < count; i++) {
        struct object *object = slot_object(old, i);

        if (object == survivor || object == out)
            continue;
        policy_remove(&shard->policy, &object->item);
        memory_let_go(memory, object);
    }
}

void memory_index_unlink(struct memory *memory, struct memory_shard *shard, struct object *object)
{
    struct memory_entry *entry = memory_index_find(memory, &object->key);

    CHECK(entry);
    if (memory_index_change(memory, entry, object, NULL) < 0)
        keep_one(memory, shard, entry, object);
    memory_index_tidy(memory, entry);
    memory_let_go(memory, object);
}

/* ---- after the grace period ---- */

void memory_release_waiting(void *arg, struct reclaim_node *node, unsigned kind)
{
    struct memory *memory = arg;

    if (kind == WAIT_OBJECT) {
        struct object *object = CONTAINER_OF(node, struct object, waiting);
        uint64_t size = object_size(object);

        object_unref(object);
        atomic_fetch_sub_explicit(&memory->waiting, size, memory_order_relaxed);
    } else if (kind == WAIT_ENTRY) {
        struct memory_entry *entry = CONTAINER_OF(node, struct memory_entry, waiting);

        charge(memory, (size_t)0 - entry_cost(entry->text_len));
        heap_free(entry);
    } else {
        struct variant_list *list = CONTAINER_OF(node, struct variant_list, waiting);

        charge(memory, (size_t)0 - list_cost(list->count));
        heap_free(list);
    }
}

/* On the reclaiming thread, a registered reader: resizing waits for grace periods of its own and is no job for a loop. */
void memory_background_work(void *arg)
{
    struct memory *memory = arg;
    uint64_t buckets = atomic_load(&memory->buckets), wanted = buckets;

    /* One or two entries a bucket: half the table's memory for half a comparison more. */
    while (atomic_load_explicit(&memory->entries, memory_order_relaxed) > wanted * 2)
        wanted *= 2;
    if (wanted != buckets) {
        charge(memory, (wanted - buckets) * sizeof(struct cds_lfht_node));
        cds_lfht_resize(memory->table, wanted);
        atomic_store(&memory->buckets, wanted);
    }
    if (atomic_exchange_explicit(&memory->check_wanted, false, memory_order_relaxed)) {
        rcu_offline();
        memory_follow_allocator(memory);
        rcu_online();
    }
    if (atomic_load(&memory->closing))
        memory_index_empty(memory);
}

static void empty_entry(struct memory *memory, struct memory_entry *entry)
{
    uintptr_t slot = atomic_load_explicit(&entry->slot, memory_order_acquire);
    unsigned count = slot_count(slot);

    for (unsigned i = 0; i < count; i++) {
        slot_object(slot, i)->item.at = 0;
        memory_let_go(memory, slot_object(slot, i));
    }
    publish(memory, entry, 0);
    entry->ring_at = 0;
    memory_index_tidy(memory, entry);
}

void memory_index_empty(struct memory *memory)
{
    struct cds_lfht_iter at;
    struct cds_lfht_node *node;

    cds_lfht_first(memory->table, &at);
    while ((node = cds_lfht_iter_get_node(&at)) != NULL) {
        struct memory_entry *entry = CONTAINER_OF(node, struct memory_entry, node);

        cds_lfht_next(memory->table, &at);
        rcu_annotate_acquire(entry);
        empty_entry(memory, entry);
    }
}
