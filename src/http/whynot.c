/* A table of 1,024 places, each a hash and a packed note. The writer empties the hash, writes the note, then the hash; a
 * reader takes the note only when the hash is its key's before and after. No lock, no loop. */
#include "http/whynot.h"

#include "base/heap.h"

#include <errno.h>
#include <stdatomic.h>

#define PLACES 1024u

struct place {
    _Atomic uint64_t hash; /* 0: empty */
    _Atomic uint64_t note; /* why in 8 bits, status in 16, seconds in 40 */
};

struct whynot {
    struct place places[PLACES];
};

int whynot_new(struct whynot **ret)
{
    struct whynot *whynot = heap_zalloc(sizeof(*whynot));

    if (!whynot)
        return -ENOMEM;
    *ret = whynot;
    return 0;
}

void whynot_free(struct whynot *whynot)
{
    heap_free(whynot);
}

void whynot_put(struct whynot *whynot, uint64_t key_hash, enum why why, uint16_t status, int64_t now_s)
{
    struct place *place = &whynot->places[key_hash % PLACES];
    uint64_t note = (uint64_t)why | (uint64_t)status << 8 | (uint64_t)MAX(now_s, 0) << 24;

    atomic_store_explicit(&place->hash, 0, memory_order_relaxed);
    atomic_store_explicit(&place->note, note, memory_order_release);
    atomic_store_explicit(&place->hash, key_hash, memory_order_release);
}

bool whynot_get(const struct whynot *whynot, uint64_t key_hash, struct whynot_note *ret)
{
    const struct place *place = &whynot->places[key_hash % PLACES];
    uint64_t note;

    if (key_hash == 0 || atomic_load_explicit(&place->hash, memory_order_acquire) != key_hash)
        return false;
    note = atomic_load_explicit(&place->note, memory_order_acquire);
    if (atomic_load_explicit(&place->hash, memory_order_relaxed) != key_hash || (note & 0xff) >= WHY_COUNT)
        return false;
    ret->why = (enum why)(note & 0xff);
    ret->status = (uint16_t)(note >> 8);
    ret->at_s = (int64_t)(note >> 24);
    return true;
}
