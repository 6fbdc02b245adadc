/* What waits for the writer: puts, extents of bodies that arrive, tombstones. And who is let in at all.
 *
 * A put stands in `pending` from the offer until it is findable. A drop marks it there, under the same lock under which the
 * writer makes it findable: so a drop that has returned wins over any put before it, whereever that one is. Tombstones pass
 * the puts that wait, which is harmless: those of the same key were marked. */
#include "store/disk_internal.h"

#include "base/heap.h"

#include <errno.h>
#include <stdio.h>

#define ITEM_COST ((size_t)512) /* what an item is worth beside its bytes */

int queue_init(struct queue *queue)
{
    pthread_condattr_t attr;

    pthread_mutex_init(&queue->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&queue->more, &attr);
    pthread_condattr_destroy(&attr);
    pthread_cond_init(&queue->idle, NULL);
    list_init(&queue->items);
    list_init(&queue->tombstones);
    list_init(&queue->writers);
    for (size_t i = 0; i < ARRAY_LEN(queue->pending); i++)
        list_init(&queue->pending[i]);
    queue->lost = heap_array(DISK_LOST_MAX, sizeof(*queue->lost));
    return queue->lost ? 0 : -ENOMEM;
}

void queue_release(struct disk *disk)
{
    queue_flush(disk);
    heap_free(disk->queue.lost);
    pthread_cond_destroy(&disk->queue.more);
    pthread_cond_destroy(&disk->queue.idle);
    pthread_mutex_destroy(&disk->queue.lock);
}

void queue_kick(struct disk *disk)
{
    pthread_mutex_lock(&disk->queue.lock);
    pthread_cond_signal(&disk->queue.more);
    pthread_mutex_unlock(&disk->queue.lock);
}

static struct node *bucket(struct queue *queue, const uint64_t key[2])
{
    return &queue->pending[key[0] % ARRAY_LEN(queue->pending)];
}

/* Marks what waits under this key. Under the lock. True when there was something. */
static bool cancel_pending(struct queue *queue, const uint64_t key[2])
{
    bool any = false;

    LIST_EACH (link, bucket(queue, key)) {
        struct disk_item *item = CONTAINER_OF(link, struct disk_item, by_key);

        if (item->key[0] == key[0]) {
            item->cancelled = true;
            any = true;
        }
    }
    return any;
}

/* Under the lock. */
static void remember_lost(struct queue *queue, const uint64_t key[2])
{
    if (queue->lost_count == DISK_LOST_MAX) {
        queue->lost_overflow = true;
        return;
    }
    queue->lost[queue->lost_count][0] = key[0];
    queue->lost[queue->lost_count++][1] = key[1];
}

void queue_push(struct disk *disk, struct disk_item *item)
{
    struct queue *queue = &disk->queue;

    pthread_mutex_lock(&queue->lock);
    list_init(&item->by_key);
    if (item->kind == ITEM_PUT) {
        cancel_pending(queue, item->key);
        list_push(bucket(queue, item->key), &item->by_key);
    }
    queue->bytes += item->cost;
    list_push(&queue->items, &item->link);
    pthread_cond_signal(&queue->more);
    pthread_mutex_unlock(&queue->lock);
}

void queue_flush(struct disk *disk)
{
    struct queue *queue = &disk->queue;
    struct node items, *link;

    pthread_mutex_lock(&queue->lock);
    list_take(&items, &queue->items);
    while ((link = list_pop(&queue->tombstones))) {
        struct disk_item *item = CONTAINER_OF(link, struct disk_item, link);

        remember_lost(queue, item->key);
        heap_free(item);
    }
    pthread_mutex_unlock(&queue->lock);
    while ((link = list_pop(&items))) {
        struct disk_item *item = CONTAINER_OF(link, struct disk_item, link);

        if (item->writer)
            disk_writer_fail(item->writer, EIO);
        queue_item_free(disk, item);
    }
}

void queue_item_free(struct disk *disk, struct disk_item *item)
{
    struct queue *queue = &disk->queue;

    pthread_mutex_lock(&queue->lock);
    list_remove(&item->by_key);
    queue->bytes -= item->cost;
    if (queue->bytes < disk->options.queue_max / 2)
        disk_writers_wake(queue);
    pthread_mutex_unlock(&queue->lock);
    if (item->writer)
        disk_writer_unref(item->writer);
    object_unref(item->object);
    heap_free(item->bytes);
    heap_free(item);
}

void queue_drop(struct disk *disk, const uint64_t key[2])
{
    struct queue *queue = &disk->queue;
    struct disk_item *item = heap_zalloc(sizeof(*item));
    bool there;

    pthread_mutex_lock(&queue->lock);
    there = cancel_pending(queue, key);
    there |= disk_index_remove(disk->index, key[0]);
    if (!atomic_load(&disk->on)) {
        remember_lost(queue, key);
    } else if (there && item) {
        item->kind = ITEM_TOMBSTONE;
        item->key[0] = key[0];
        item->key[1] = key[1];
        list_init(&item->by_key);
        list_push(&queue->tombstones, &item->link);
        pthread_cond_signal(&queue->more);
        item = NULL;
    } else if (there) {
        /* No memory for the tombstone: the tier starts over without what it holds rather than forget a drop. */
        queue->lost_overflow = true;
        atomic_store(&disk->on, false);
        queue->fault = true;
        (void)snprintf(queue->trouble, sizeof(queue->trouble), "out of memory");
        pthread_cond_signal(&queue->more);
    }
    pthread_mutex_unlock(&queue->lock);
    heap_free(item);
    if (there)
        disk_add(&disk->count.dropped, 1);
}

void disk_settle(struct disk *disk)
{
    struct queue *queue = &disk->queue;

    pthread_mutex_lock(&queue->lock);
    while (!queue->is_idle || !list_empty(&queue->items) || !list_empty(&queue->tombstones) || queue->graves ||
           queue->fault)
        pthread_cond_wait(&queue->idle, &queue->lock);
    pthread_mutex_unlock(&queue->lock);
}

void disk_drop(struct disk *disk, struct entry_key at)
{
    uint64_t key[2];

    disk_mask(disk, at, key);
    queue_drop(disk, key);
}

/* ---- admission ---- */

/* Two Bloom filters of which the older one is emptied when the younger is half full. */
int sights_init(struct sights *sights, uint64_t objects)
{
    uint32_t bits = 1u << 16;

    while (bits < objects * 8 && bits < 1u << 26)
        bits <<= 1;
    sights->bits = bits;
    for (int i = 0; i < 2; i++) {
        sights->filters[i] = heap_zalloc(bits / 8);
        if (!sights->filters[i])
            return -ENOMEM;
    }
    return 0;
}

void sights_release(struct sights *sights)
{
    heap_free(sights->filters[0]);
    heap_free(sights->filters[1]);
}

static bool all_set(const struct sights *sights, unsigned filter, uint64_t hash)
{
    for (int i = 0; i < 3; i++, hash = hash >> 21 | hash << 43) {
        uint32_t bit = (uint32_t)hash & (sights->bits - 1);

        if (!(__atomic_load_n(&sights->filters[filter][bit / 64], __ATOMIC_RELAXED) >> bit % 64 & 1))
            return false;
    }
    return true;
}

bool sights_seen(struct sights *sights, uint64_t tag)
{
    unsigned young = atomic_load_explicit(&sights->young, memory_order_relaxed);
    uint64_t hash = tag * 0x9e3779b97f4a7c15u;
    bool seen = all_set(sights, 0, hash) || all_set(sights, 1, hash);

    for (int i = 0; i < 3; i++, hash = hash >> 21 | hash << 43) {
        uint32_t bit = (uint32_t)hash & (sights->bits - 1);

        __atomic_fetch_or(&sights->filters[young][bit / 64], (uint64_t)1 << bit % 64, __ATOMIC_RELAXED);
    }
    /* At bits/6 keys with three bits each, four in ten bits are set: one in sixteen is taken at first sight. */
    if (!seen && atomic_fetch_add_explicit(&sights->count, 1, memory_order_relaxed) + 1 == sights->bits / 6) {
        for (uint32_t i = 0; i < sights->bits / 64; i++)
            __atomic_store_n(&sights->filters[!young][i], 0, __ATOMIC_RELAXED);
        atomic_store_explicit(&sights->young, !young, memory_order_relaxed);
        atomic_store_explicit(&sights->count, 0, memory_order_relaxed);
    }
    return seen;
}

static bool is_admitted(struct disk *disk, uint64_t tag, const struct object *object, enum disk_reason reason)
{
    bool seen;

    switch (reason) {
    case DISK_PINNED: return true;
    case DISK_EVICTED: return atomic_load_explicit(&object->item.uses, memory_order_relaxed) >= 2;
    case DISK_FILLED: break;
    }
    seen = sights_seen(&disk->sights, tag);
    return seen || atomic_load(&object->flags) & OBJECT_IMMUTABLE;
}

/* ---- offers ---- */

static bool has_room(struct disk *disk, size_t cost)
{
    bool room;

    pthread_mutex_lock(&disk->queue.lock);
    room = disk->queue.bytes == 0 || disk->queue.bytes + cost <= disk->options.queue_max;
    pthread_mutex_unlock(&disk->queue.lock);
    if (!room)
        disk_add(&disk->count.refused_full, 1);
    return room;
}

/* Takes over the reference. */
static void offer(struct disk *disk, const uint64_t key[2], uint32_t version, struct object *object)
{
    size_t cost = ITEM_COST + object->head_len + (object->external ? 0 : (size_t)atomic_load(&object->body_len));
    struct disk_item *item = has_room(disk, cost) ? heap_zalloc(sizeof(*item)) : NULL;

    if (!item) {
        object_unref(object);
        return;
    }
    item->kind = ITEM_PUT;
    item->key[0] = key[0];
    item->key[1] = key[1];
    item->version = version;
    item->cost = cost;
    item->object = object;
    queue_push(disk, item);
}

/* Known already in this version: then it only counts as used. */
static bool is_here(struct disk *disk, uint64_t tag, uint32_t version, bool use)
{
    struct disk_slot slot;

    return disk_index_find(disk->index, tag, false, &slot) && slot.version == version &&
           (!use || disk_index_find(disk->index, tag, true, &slot));
}

void disk_offer(struct disk *disk, struct entry_key at, struct object *object, enum disk_reason reason)
{
    uint32_t version;
    uint64_t key[2];
    unsigned flags = atomic_load(&object->flags);

    if (!atomic_load_explicit(&disk->on, memory_order_relaxed) || !(flags & OBJECT_COMPLETE) ||
        flags & OBJECT_TRANSIENT || atomic_load(&object->soft_purged) ||
        atomic_load(&object->body_len) > disk->options.max_object)
        return;
    disk_mask(disk, at, key);
    version = disk_version(object, atomic_load(&object->body_len));
    if (is_here(disk, key[0], version, reason == DISK_EVICTED))
        return;
    if (!is_admitted(disk, key[0], object, reason)) {
        disk_add(&disk->count.refused_admission, 1);
        return;
    }
    offer(disk, key, version, object_ref(object));
}

void disk_put_vary(struct disk *disk, const struct key *key, struct view vary_names, uint64_t generation,
                   uint64_t position)
{
    struct object_parts parts = { .key = key->text, .vary_names = vary_names };
    struct object *object;
    uint64_t masked[2];

    if (!atomic_load_explicit(&disk->on, memory_order_relaxed) || vary_names.len == 0 || vary_names.len > UINT16_MAX)
        return;
    object = object_new(key, &parts);
    if (!object)
        return;
    object->generation = generation;
    atomic_store(&object->purge_pos, position);
    disk_mask(disk, entry_key_primary(key), masked);
    if (is_here(disk, masked[0], disk_version(object, atomic_load(&object->body_len)), false))
        object_unref(object);
    else
        offer(disk, masked, disk_version(object, atomic_load(&object->body_len)), object);
}

void disk_put_head(struct disk *disk, struct entry_key at, struct object *object)
{
    uint64_t key[2];

    if (!atomic_load_explicit(&disk->on, memory_order_relaxed) || !disk_body_of(object))
        return;
    disk_mask(disk, at, key);
    if (!is_here(disk, key[0], disk_version(object, atomic_load(&object->body_len)), false))
        offer(disk, key, disk_version(object, atomic_load(&object->body_len)), object_ref(object));
}
