/* Linear probing in tables of any size: a tag's home is its value scaled to the table. Removal shifts the run back, so there
 * are no graves and a probe ends at the first empty slot. */
#include "store/disk_index.h"

#include "base/heap.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#define SLOTS_MIN 16u

struct shard {
    pthread_mutex_t lock;
    struct disk_slot *slots;
    uint32_t count, cap;
    uint64_t live;
};

struct disk_index {
    struct shard shards[INDEX_SHARDS];
};

/* The top bits choose the shard, the rest the place in it. */
static struct shard *shard_of(struct disk_index *index, uint64_t tag)
{
    return &index->shards[tag >> 58];
}

static uint32_t home_of(const struct shard *shard, uint64_t tag)
{
    return (uint32_t)((tag << 6 >> 32) * shard->cap >> 32);
}

static uint32_t next_of(const struct shard *shard, uint32_t at)
{
    return at + 1 == shard->cap ? 0 : at + 1;
}

struct disk_index *disk_index_new(void)
{
    struct disk_index *index = heap_zalloc(sizeof(*index));

    if (!index)
        return NULL;
    for (unsigned i = 0; i < INDEX_SHARDS; i++)
        pthread_mutex_init(&index->shards[i].lock, NULL);
    return index;
}

void disk_index_free(struct disk_index *index)
{
    if (!index)
        return;
    for (unsigned i = 0; i < INDEX_SHARDS; i++) {
        heap_free(index->shards[i].slots);
        pthread_mutex_destroy(&index->shards[i].lock);
    }
    heap_free(index);
}

void disk_index_clear(struct disk_index *index)
{
    for (unsigned i = 0; i < INDEX_SHARDS; i++) {
        struct shard *shard = &index->shards[i];
        struct disk_slot *old;

        pthread_mutex_lock(&shard->lock);
        old = shard->slots;
        shard->slots = NULL;
        shard->count = shard->cap = 0;
        shard->live = 0;
        pthread_mutex_unlock(&shard->lock);
        heap_free(old);
    }
}

/* The slot of the tag, or the empty one where it would go. The table has an empty slot. */
static struct disk_slot *probe(const struct shard *shard, uint64_t tag)
{
    uint32_t at = home_of(shard, tag);

    while (shard->slots[at].seq && slot_tag(&shard->slots[at]) != tag)
        at = next_of(shard, at);
    return &shard->slots[at];
}

static struct disk_slot *lookup(const struct shard *shard, uint64_t tag)
{
    struct disk_slot *slot = shard->cap ? probe(shard, tag) : NULL;

    return slot && slot->seq ? slot : NULL;
}

bool disk_index_find(struct disk_index *index, uint64_t tag, bool use, struct disk_slot *ret)
{
    struct shard *shard = shard_of(index, tag);
    struct disk_slot *slot;

    pthread_mutex_lock(&shard->lock);
    slot = lookup(shard, tag);
    if (slot) {
        if (use)
            slot->where |= SLOT_USED;
        *ret = *slot;
    }
    pthread_mutex_unlock(&shard->lock);
    return slot;
}

static bool grow(struct shard *shard, uint32_t cap)
{
    struct shard bigger = { .cap = cap };

    bigger.slots = heap_zalloc(bigger.cap * sizeof(*bigger.slots));
    if (!bigger.slots)
        return false;
    for (uint32_t i = 0; i < shard->cap; i++)
        if (shard->slots[i].seq)
            *probe(&bigger, slot_tag(&shard->slots[i])) = shard->slots[i];
    heap_free(shard->slots);
    shard->slots = bigger.slots;
    shard->cap = bigger.cap;
    return true;
}

void disk_index_expect(struct disk_index *index, uint64_t objects)
{
    uint64_t cap = objects / INDEX_SHARDS;

    /* A little above the mean, since hashes are not spread evenly; three quarters full. */
    cap = cap * 4 / 3 + cap / 16 + SLOTS_MIN;
    for (unsigned i = 0; i < INDEX_SHARDS; i++) {
        pthread_mutex_lock(&index->shards[i].lock);
        if (cap > index->shards[i].cap && cap < UINT32_MAX)
            (void)grow(&index->shards[i], (uint32_t)cap);
        pthread_mutex_unlock(&index->shards[i].lock);
    }
}

int disk_index_put(struct disk_index *index, const struct disk_slot *slot)
{
    struct shard *shard = shard_of(index, slot_tag(slot));
    struct disk_slot *at;
    int r = 0;

    pthread_mutex_lock(&shard->lock);
    at = lookup(shard, slot_tag(slot));
    if (at) {
        shard->live -= slot_length(at);
    } else if ((uint64_t)(shard->count + 1) * 16 > (uint64_t)shard->cap * 13 &&
               !grow(shard, MAX(SLOTS_MIN, shard->cap + shard->cap / 2))) {
        r = -ENOMEM;
    } else {
        at = probe(shard, slot_tag(slot));
        shard->count++;
    }
    if (at) {
        *at = *slot;
        shard->live += slot_length(slot);
    }
    pthread_mutex_unlock(&shard->lock);
    return r;
}

/* Closes the gap: what follows in the run moves back as far as its home allows. */
static void remove_at(struct shard *shard, struct disk_slot *slot)
{
    uint32_t hole = (uint32_t)(slot - shard->slots);

    shard->live -= slot_length(slot);
    shard->count--;
    for (uint32_t at = next_of(shard, hole); shard->slots[at].seq; at = next_of(shard, at)) {
        uint32_t home = home_of(shard, slot_tag(&shard->slots[at]));
        bool stays = hole < at ? home > hole && home <= at : home > hole || home <= at;

        if (stays)
            continue;
        shard->slots[hole] = shard->slots[at];
        hole = at;
    }
    shard->slots[hole] = (struct disk_slot){ 0 };
}

bool disk_index_remove(struct disk_index *index, uint64_t tag)
{
    struct shard *shard = shard_of(index, tag);
    struct disk_slot *slot;

    pthread_mutex_lock(&shard->lock);
    slot = lookup(shard, tag);
    if (slot)
        remove_at(shard, slot);
    pthread_mutex_unlock(&shard->lock);
    return slot;
}

bool disk_index_remove_slot(struct disk_index *index, const struct disk_slot *slot)
{
    struct shard *shard = shard_of(index, slot_tag(slot));
    struct disk_slot *at;

    pthread_mutex_lock(&shard->lock);
    at = lookup(shard, slot_tag(slot));
    if (at && slot_same(at, slot))
        remove_at(shard, at);
    else
        at = NULL;
    pthread_mutex_unlock(&shard->lock);
    return at;
}

bool disk_index_move(struct disk_index *index, const struct disk_slot *old, const struct disk_slot *to)
{
    struct shard *shard = shard_of(index, slot_tag(old));
    struct disk_slot *at;

    pthread_mutex_lock(&shard->lock);
    at = lookup(shard, slot_tag(old));
    if (at && slot_same(at, old)) {
        shard->live += slot_length(to) - slot_length(at);
        *at = *to;
    } else {
        at = NULL;
    }
    pthread_mutex_unlock(&shard->lock);
    return at;
}

int disk_index_copy(struct disk_index *index, unsigned number, struct disk_slot **ret)
{
    struct shard *shard = &index->shards[number];
    struct disk_slot *copy = NULL;
    uint32_t room, count = 0;

    for (;;) {
        pthread_mutex_lock(&shard->lock);
        room = shard->count;
        if (copy && room <= count)
            break;
        pthread_mutex_unlock(&shard->lock);
        heap_free(copy);
        count = room + room / 16 + 16;
        copy = heap_array(count, sizeof(*copy));
        if (!copy)
            return -ENOMEM;
    }
    count = 0;
    for (uint32_t i = 0; i < shard->cap; i++)
        if (shard->slots[i].seq)
            copy[count++] = shard->slots[i];
    pthread_mutex_unlock(&shard->lock);
    *ret = copy;
    return (int)count;
}

void disk_index_count(struct disk_index *index, uint64_t *ret_objects, uint64_t *ret_live, uint64_t *ret_memory)
{
    uint64_t objects = 0, live = 0, memory = sizeof(*index);

    for (unsigned i = 0; i < INDEX_SHARDS; i++) {
        struct shard *shard = &index->shards[i];

        pthread_mutex_lock(&shard->lock);
        objects += shard->count;
        live += shard->live;
        memory += heap_cost(shard->cap * sizeof(*shard->slots));
        pthread_mutex_unlock(&shard->lock);
    }
    *ret_objects = objects;
    *ret_live = live;
    *ret_memory = memory;
}
