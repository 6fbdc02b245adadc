/* The space-saving sketch: a newcomer takes the place of the lightest and inherits its weight, so that something heavy is
 * never kept out by what came before it.
 *
 * Hot path: adding usually touches one word. Only the URL at which the pending sum passes a thousandth of the total enters
 * the table, with the whole sum: each URL is sampled in proportion to its weight. While the total is small every call
 * enters, so a node that just started is exact.
 *
 * Locking: the table is under a mutex that the owner only tries; `pending`, `total` and `halved_ms` are the owner's. */
#include "http/topk.h"

#include "base/heap.h"
#include "base/key.h"
#include "base/text.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#define HALVE_MS 60000u
#define SAMPLE_SHIFT 10 /* about a thousandth */

struct slot {
    uint64_t hash, weight;
    char name[TOPK_NAME_MAX + 1];
};

struct topk {
    uint64_t pending, total, halved_ms;
    pthread_mutex_t lock;
    unsigned used;
    struct slot slots[TOPK_SLOTS];
};

int topk_new(struct topk **ret)
{
    struct topk *topk = heap_zalloc(sizeof(*topk));

    if (!topk)
        return -ENOMEM;
    pthread_mutex_init(&topk->lock, NULL);
    *ret = topk;
    return 0;
}

void topk_free(struct topk *topk)
{
    if (!topk)
        return;
    pthread_mutex_destroy(&topk->lock);
    heap_free(topk);
}

static void halve(struct topk *topk, uint64_t now_ms)
{
    uint64_t minutes = (now_ms - topk->halved_ms) / HALVE_MS;
    unsigned shift = (unsigned)MIN(minutes, (uint64_t)63);
    unsigned kept = 0;

    for (unsigned i = 0; i < topk->used; i++) {
        topk->slots[i].weight >>= shift;
        if (topk->slots[i].weight > 0) {
            if (kept != i)
                topk->slots[kept] = topk->slots[i];
            kept++;
        }
    }
    topk->used = kept;
    topk->total >>= shift;
    topk->halved_ms += minutes * HALVE_MS;
}

/* Its slot, a free one, or the lightest. */
static struct slot *find_slot(struct topk *topk, uint64_t hash)
{
    struct slot *lightest = &topk->slots[0];

    for (unsigned i = 0; i < topk->used; i++) {
        if (topk->slots[i].hash == hash)
            return &topk->slots[i];
        if (topk->slots[i].weight < lightest->weight)
            lightest = &topk->slots[i];
    }
    if (topk->used < TOPK_SLOTS) {
        lightest = &topk->slots[topk->used++];
        lightest->weight = 0;
        lightest->hash = ~hash;
    }
    return lightest;
}

static void set_name(struct slot *slot, struct view host, struct view path, bool has_query)
{
    struct text name = text_make(slot->name, TOPK_NAME_MAX);

    text_put(&name, view_first(host, TOPK_NAME_MAX / 2));
    text_put(&name, view_first(path, TOPK_NAME_MAX - 2 - name.len));
    if (has_query)
        text_lit(&name, "?*");
    slot->name[name.len] = '\0';
}

void topk_add(struct topk *topk, struct view host, struct view path, bool has_query, uint64_t weight, uint64_t now_ms)
{
    struct slot *slot;
    uint64_t hash;

    topk->pending += weight;
    if (topk->pending <= topk->total >> SAMPLE_SHIFT)
        return;
    if (pthread_mutex_trylock(&topk->lock) != 0)
        return; /* kept in pending: the next one gets it */
    if (topk->halved_ms == 0)
        topk->halved_ms = now_ms;
    if (now_ms - topk->halved_ms >= HALVE_MS)
        halve(topk, now_ms);
    hash = hash64(host) * 31 + hash64(path) + has_query;
    slot = find_slot(topk, hash);
    if (slot->hash != hash) {
        slot->hash = hash;
        set_name(slot, host, path, has_query);
    }
    slot->weight += topk->pending;
    topk->total += topk->pending;
    topk->pending = 0;
    pthread_mutex_unlock(&topk->lock);
}

static int by_hash(const void *a, const void *b)
{
    uint64_t left = ((const struct slot *)a)->hash, right = ((const struct slot *)b)->hash;

    return left < right ? -1 : left > right;
}

static int by_weight(const void *a, const void *b)
{
    uint64_t left = ((const struct slot *)a)->weight, right = ((const struct slot *)b)->weight;

    return left > right ? -1 : left < right;
}

unsigned topk_read(struct topk *const *sketches, unsigned count, struct topk_item *ret_items, unsigned max)
{
    struct slot *all = heap_array((size_t)count * TOPK_SLOTS, sizeof(*all));
    unsigned used = 0, merged = 0;

    if (!all)
        return 0;
    for (unsigned i = 0; i < count; i++) {
        pthread_mutex_lock(&sketches[i]->lock);
        memcpy(all + used, sketches[i]->slots, sketches[i]->used * sizeof(*all));
        used += sketches[i]->used;
        pthread_mutex_unlock(&sketches[i]->lock);
    }
    qsort(all, used, sizeof(*all), by_hash);
    for (unsigned i = 0; i < used; i++) {
        if (merged > 0 && all[merged - 1].hash == all[i].hash)
            all[merged - 1].weight += all[i].weight;
        else
            all[merged++] = all[i];
    }
    qsort(all, merged, sizeof(*all), by_weight);
    merged = MIN(merged, max);
    for (unsigned i = 0; i < merged; i++) {
        ret_items[i].weight = all[i].weight;
        memcpy(ret_items[i].name, all[i].name, sizeof(ret_items[i].name));
    }
    heap_free(all);
    return merged;
}
