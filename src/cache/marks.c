/* Two tables of the same size. New marks go into the young one; when it is full, the old one is forgotten (its marks fold into
 * the floor) and takes its place. Writers hold the lock; readers take none:
 *
 *   writer: slots, then position (release).      fold: floor (release), then clears slots.
 *   reader: position (acquire), slots, then floor (acquire).
 *
 * A reader that saw a slot half cleared sees the floor that made it irrelevant: every mark of a cleared table lies at or below
 * the floor, and a response below the floor is a miss anyway. */
#include "cache/marks.h"

#include "base/check.h"
#include "base/heap.h"
#include "base/text.h"

#include <errno.h>
#include <pthread.h>

#define CAPACITY 65536u

struct slot {
    _Atomic uint64_t hash;       /* 0: free */
    _Atomic uint64_t hard, soft; /* position of the newest mark of each sort */
};

struct table {
    struct slot *slots;
    unsigned used;
    uint64_t newest; /* position of the newest mark in it */
};

struct pair {
    uint64_t position, bus;
};

/* Marks that have no bus position, from `first` on: whoever knew of `bus` had not heard of them necessarily, whoever knew of more
 * came after them. */
struct offbus {
    uint64_t first, bus;
};
#define OFFBUS_MAX 256u

struct marks {
    pthread_mutex_t lock;
    _Atomic uint64_t position, floor;
    _Atomic uint64_t all_hard, all_soft, tagged; /* newest mark of everything; of tags and groups */
    _Atomic uint64_t newest[MARK_KINDS];         /* newest mark of a kind: what was never used is not probed */
    atomic_bool doubt, doubt_database;
    unsigned mask, limit;
    struct table tables[2];
    unsigned young;
    /* Which bus position belongs to which of ours, oldest first, in a ring. */
    struct pair *pairs;
    unsigned pair_first, pair_count, pair_cap;
    uint64_t bus_floor;
    uint64_t pair_lost; /* our position of the newest pair that left the ring */
    /* Both grow; the last marks, of which nothing is known yet, begin at offbus_open (0: none) and end at offbus_last. */
    struct offbus offbus[OFFBUS_MAX];
    unsigned offbus_count;
    uint64_t offbus_open, offbus_last;
    _Atomic uint64_t bus_identity;
    uint64_t marks, folds;
    _Atomic uint64_t checks;
};

int marks_new(unsigned capacity, struct marks **ret)
{
    struct marks *marks = heap_zalloc(sizeof(*marks));
    unsigned slots = 16;

    if (!marks)
        return -ENOMEM;
    marks->limit = MAX((capacity ? capacity : CAPACITY) / 2, 4u);
    while (slots < marks->limit * 2)
        slots *= 2;
    marks->mask = slots - 1;
    marks->pair_cap = marks->limit * 2;
    marks->pairs = heap_array(marks->pair_cap, sizeof(*marks->pairs));
    for (int i = 0; i < 2; i++)
        marks->tables[i].slots = heap_zalloc(slots * sizeof(struct slot));
    if (!marks->pairs || !marks->tables[0].slots || !marks->tables[1].slots) {
        marks_free(marks);
        return -ENOMEM;
    }
    pthread_mutex_init(&marks->lock, NULL);
    *ret = marks;
    return 0;
}

void marks_free(struct marks *marks)
{
    if (!marks)
        return;
    for (int i = 0; i < 2; i++)
        heap_free(marks->tables[i].slots);
    heap_free(marks->pairs);
    heap_free(marks);
}

uint64_t marks_position(const struct marks *marks)
{
    return atomic_load_explicit(&marks->position, memory_order_acquire);
}

static uint64_t hash_of(enum mark_kind kind, struct view text)
{
    uint64_t hash = hash64(text) ^ (uint64_t)kind * 0x9e3779b97f4a7c15u;

    return hash ? hash : 1;
}

/* ---- adding ---- */

static void raise_to(_Atomic uint64_t *at, uint64_t position)
{
    if (atomic_load_explicit(at, memory_order_relaxed) < position)
        atomic_store_explicit(at, position, memory_order_release);
}

static struct slot *slot_of(const struct marks *marks, const struct table *table, uint64_t hash)
{
    for (unsigned i = (unsigned)hash & marks->mask;; i = (i + 1) & marks->mask) {
        struct slot *slot = &table->slots[i];
        uint64_t found = atomic_load_explicit(&slot->hash, memory_order_acquire);

        if (found == hash || found == 0)
            return slot;
    }
}

/* The old table's marks become "everything before": it is empty and young afterwards. */
static void fold(struct marks *marks)
{
    struct table *old = &marks->tables[!marks->young];

    if (old->used) {
        raise_to(&marks->floor, old->newest);
        marks->folds++;
        for (unsigned i = 0; i <= marks->mask; i++) {
            atomic_store_explicit(&old->slots[i].hash, 0, memory_order_release);
            atomic_store_explicit(&old->slots[i].hard, 0, memory_order_relaxed);
            atomic_store_explicit(&old->slots[i].soft, 0, memory_order_relaxed);
        }
        old->used = 0;
    }
    marks->young = !marks->young;
}

static void enter(struct marks *marks, const struct mark *mark, uint64_t position)
{
    uint64_t hash = hash_of(mark->kind, mark->text);
    struct table *young = &marks->tables[marks->young];
    struct slot *slot = slot_of(marks, young, hash);

    if (atomic_load_explicit(&slot->hash, memory_order_relaxed) == 0) {
        if (young->used >= marks->limit) {
            fold(marks);
            young = &marks->tables[marks->young];
            slot = slot_of(marks, young, hash);
        }
        young->used++;
    }
    raise_to(mark->soft ? &slot->soft : &slot->hard, position);
    atomic_store_explicit(&slot->hash, hash, memory_order_release);
    young->newest = position;
}

static void remember_pair(struct marks *marks, uint64_t position, uint64_t bus)
{
    if (marks->pair_count == marks->pair_cap) {
        struct pair *lost = &marks->pairs[marks->pair_first];

        marks->bus_floor = MAX(marks->bus_floor, lost->bus);
        marks->pair_lost = lost->position;
        marks->pair_first = (marks->pair_first + 1) % marks->pair_cap;
        marks->pair_count--;
    }
    marks->pairs[(marks->pair_first + marks->pair_count++) % marks->pair_cap] =
        (struct pair){ .position = position, .bus = bus };
}

static void add_locked(struct marks *marks, const struct mark *mark, uint64_t position, uint64_t bus)
{
    CHECK(mark->kind > 0 && mark->kind < MARK_KINDS);
    if (mark->kind == MARK_ALL)
        raise_to(mark->soft ? &marks->all_soft : &marks->all_hard, position);
    else
        enter(marks, mark, position);
    raise_to(&marks->newest[mark->kind], position);
    if (bus) {
        remember_pair(marks, position, bus);
    } else {
        marks->offbus_open = marks->offbus_open ? marks->offbus_open : position;
        marks->offbus_last = position;
    }
    marks->marks++;
    atomic_store_explicit(&marks->position, position, memory_order_release);
}

uint64_t marks_add(struct marks *marks, const struct mark *mark, uint64_t bus)
{
    uint64_t position;

    pthread_mutex_lock(&marks->lock);
    position = atomic_load_explicit(&marks->position, memory_order_relaxed) + 1;
    add_locked(marks, mark, position, bus);
    pthread_mutex_unlock(&marks->lock);
    return position;
}

void marks_restore(struct marks *marks, const struct mark *mark, uint64_t position, uint64_t bus)
{
    pthread_mutex_lock(&marks->lock);
    if (position > atomic_load_explicit(&marks->position, memory_order_relaxed))
        add_locked(marks, mark, position, bus);
    pthread_mutex_unlock(&marks->lock);
}

void marks_start_at(struct marks *marks, uint64_t position, uint64_t floor)
{
    pthread_mutex_lock(&marks->lock);
    raise_to(&marks->floor, floor);
    raise_to(&marks->position, position);
    pthread_mutex_unlock(&marks->lock);
}

/* ---- checking ---- */

static enum mark_verdict probe(const struct marks *marks, uint64_t since, enum mark_kind kind, struct view text)
{
    enum mark_verdict verdict = MARKS_CLEAR;
    uint64_t hash;

    if (atomic_load_explicit(&marks->newest[kind], memory_order_acquire) <= since)
        return MARKS_CLEAR;
    hash = hash_of(kind, text);
    for (int i = 0; i < 2; i++) {
        const struct slot *slot = slot_of(marks, &marks->tables[i], hash);

        if (atomic_load_explicit(&slot->hash, memory_order_acquire) != hash)
            continue;
        if (atomic_load_explicit(&slot->hard, memory_order_acquire) > since)
            return MARKS_HARD;
        if (atomic_load_explicit(&slot->soft, memory_order_acquire) > since)
            verdict = MARKS_SOFT;
    }
    return verdict;
}

/* Where the path begins in "scheme://host/path". */
static size_t path_at(struct view url)
{
    size_t host = view_find(url, ':') + 3;

    return host >= url.len ? url.len : host + view_find(view_skip(url, host), '/');
}

/* Every prefix that ends at a segment's end, with the host and without. */
static enum mark_verdict probe_prefixes(const struct marks *marks, uint64_t since, struct view url)
{
    size_t start = path_at(url), end = view_find(url, '?');
    enum mark_verdict verdict = MARKS_CLEAR;
    unsigned segments = 0;

    if (atomic_load_explicit(&marks->newest[MARK_PREFIX], memory_order_acquire) <= since)
        return MARKS_CLEAR;
    for (size_t i = start; i <= end && segments <= MARK_SEGMENTS_MAX; i++) {
        if (i < end && url.ptr[i] != '/')
            continue;
        segments++;
        verdict = MAX(verdict, probe(marks, since, MARK_PREFIX, view_first(url, i)));
        verdict = MAX(verdict, probe(marks, since, MARK_PREFIX, view_make(url.ptr + start, i - start)));
    }
    return verdict;
}

static enum mark_verdict probe_url(const struct marks *marks, uint64_t since, struct view url)
{
    size_t start = path_at(url), host = MIN(view_find(url, ':') + 3, start);
    enum mark_verdict verdict = MARKS_CLEAR;

    if (atomic_load_explicit(&marks->all_hard, memory_order_acquire) > since)
        return MARKS_HARD;
    if (atomic_load_explicit(&marks->all_soft, memory_order_acquire) > since)
        verdict = MARKS_SOFT;
    verdict = MAX(verdict, probe(marks, since, MARK_HOST, view_make(url.ptr + host, start - host)));
    verdict = MAX(verdict, probe(marks, since, MARK_URL, url));
    verdict = MAX(verdict, probe(marks, since, MARK_URL, view_skip(url, start)));
    return MAX(verdict, probe_prefixes(marks, since, url));
}

static enum mark_verdict probe_tags(const struct marks *marks, uint64_t since, struct view url, struct view tags)
{
    enum mark_verdict verdict = MARKS_CLEAR;
    struct view tag;

    if (MAX(atomic_load_explicit(&marks->newest[MARK_TAG], memory_order_acquire),
            atomic_load_explicit(&marks->newest[MARK_GROUP], memory_order_acquire)) <= since)
        return MARKS_CLEAR;
    while (tags.len) {
        tag = view_cut(&tags, ' ');
        if (tag.len == 0)
            continue;
        if (tag.ptr[0] == MARK_GROUP_BYTE) {
            char memory[1024];
            struct text text = TEXT_ON(memory);

            text_put(&text, view_first(url, path_at(url)));
            text_put(&text, tag);
            /* A group too long to be compared counts as purged with every group. */
            verdict = MAX(verdict, text.overflow ? MARKS_HARD : probe(marks, since, MARK_GROUP, text_view(&text)));
        } else {
            verdict = MAX(verdict, probe(marks, since, MARK_TAG, tag));
        }
    }
    return verdict;
}

static enum mark_verdict check_since(struct marks *marks, struct object *object, uint64_t since)
{
    uint64_t now = marks_position(marks);
    enum mark_verdict verdict = probe_url(marks, since, object_url(object));

    atomic_fetch_add_explicit(&marks->checks, 1, memory_order_relaxed);
    if (verdict != MARKS_HARD)
        verdict = MAX(verdict, probe_tags(marks, since, object_url(object), object_tags(object)));
    if (verdict == MARKS_HARD || since < atomic_load_explicit(&marks->floor, memory_order_acquire))
        return MARKS_HARD;
    if (verdict == MARKS_SOFT)
        atomic_store_explicit(&object->soft_purged, 1, memory_order_relaxed);
    /* Two readers may store different values: either is a position up to which nothing more concerns this response. */
    atomic_store_explicit(&object->purge_pos, now, memory_order_release);
    return verdict;
}

enum mark_verdict marks_check(struct marks *marks, struct object *object)
{
    uint64_t since = atomic_load_explicit(&object->purge_pos, memory_order_acquire);

    return since < marks_position(marks) ? check_since(marks, object, since) : MARKS_CLEAR;
}

bool marks_unmoved_for(struct marks *marks, uint64_t position, struct view url)
{
    if (position >= marks_position(marks))
        return true;
    return position >= atomic_load_explicit(&marks->newest[MARK_TAG], memory_order_acquire) &&
           position >= atomic_load_explicit(&marks->newest[MARK_GROUP], memory_order_acquire) &&
           probe_url(marks, position, url) == MARKS_CLEAR &&
           position >= atomic_load_explicit(&marks->floor, memory_order_acquire);
}

/* ---- the bus ---- */

/* How many pairs have a bus position (or, by `ours`, a position) of at most `limit`. */
static unsigned pairs_upto(const struct marks *marks, uint64_t limit, bool ours)
{
    unsigned low = 0, high = marks->pair_count;

    while (low < high) {
        unsigned middle = (low + high) / 2;
        const struct pair *pair = &marks->pairs[(marks->pair_first + middle) % marks->pair_cap];

        if ((ours ? pair->position : pair->bus) <= limit)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

uint64_t marks_bus_at(struct marks *marks, uint64_t position)
{
    uint64_t bus;
    unsigned n;

    pthread_mutex_lock(&marks->lock);
    n = pairs_upto(marks, position, true);
    bus = n ? marks->pairs[(marks->pair_first + n - 1) % marks->pair_cap].bus : marks->bus_floor;
    pthread_mutex_unlock(&marks->lock);
    return bus;
}

void marks_bus_passed(struct marks *marks, uint64_t position, uint64_t bus)
{
    struct offbus *last;

    pthread_mutex_lock(&marks->lock);
    last = marks->offbus_count ? &marks->offbus[marks->offbus_count - 1] : NULL;
    if (marks->offbus_open && marks->offbus_open <= position) {
        if (last && last->bus >= bus) {
            /* Covered by what is said there already. */
        } else if (marks->offbus_count < OFFBUS_MAX) {
            marks->offbus[marks->offbus_count++] = (struct offbus){ .first = marks->offbus_open, .bus = bus };
        } else {
            /* The oldest two become one: more is looked at than need be. */
            marks->offbus[1].first = marks->offbus[0].first;
            memmove(marks->offbus, marks->offbus + 1, (OFFBUS_MAX - 1) * sizeof(*last));
            *last = (struct offbus){ .first = marks->offbus_open, .bus = bus };
        }
        marks->offbus_open = marks->offbus_last > position ? position + 1 : 0;
    }
    pthread_mutex_unlock(&marks->lock);
}

bool marks_bus_is_owed(struct marks *marks)
{
    bool owed;

    pthread_mutex_lock(&marks->lock);
    owed = marks->offbus_open != 0;
    pthread_mutex_unlock(&marks->lock);
    return owed;
}

void marks_bus_heard(struct marks *marks, uint64_t bus)
{
    uint64_t last;

    pthread_mutex_lock(&marks->lock);
    last = marks->pair_count ? marks->pairs[(marks->pair_first + marks->pair_count - 1) % marks->pair_cap].bus
                             : marks->bus_floor;
    if (bus > last)
        remember_pair(marks, atomic_load_explicit(&marks->position, memory_order_relaxed), bus);
    pthread_mutex_unlock(&marks->lock);
}

/* The position before the first mark without a bus position that a copy with this one need not have heard of. */
static uint64_t offbus_before(const struct marks *marks, uint64_t bus)
{
    unsigned low = 0, high = marks->offbus_count;

    while (low < high) {
        unsigned middle = (low + high) / 2;

        if (marks->offbus[middle].bus <= bus)
            low = middle + 1;
        else
            high = middle;
    }
    if (low < marks->offbus_count)
        return marks->offbus[low].first - 1;
    return marks->offbus_open ? marks->offbus_open - 1 : UINT64_MAX;
}

enum mark_verdict marks_check_foreign(struct marks *marks, struct object *object)
{
    uint64_t bus = atomic_load_explicit(&object->purge_pos, memory_order_relaxed), since;
    bool known;
    unsigned n;

    pthread_mutex_lock(&marks->lock);
    known = bus >= marks->bus_floor;
    n = pairs_upto(marks, bus, false);
    /* What came after the last mark it knew of counts, marks that never were on the bus included. */
    since = n ? marks->pairs[(marks->pair_first + n - 1) % marks->pair_cap].position : marks->pair_lost;
    /* A bus mark that was made before one of ours, but heard of after it, says nothing about ours. */
    since = MIN(since, offbus_before(marks, bus));
    pthread_mutex_unlock(&marks->lock);
    if (!known)
        return MARKS_HARD;
    atomic_store_explicit(&object->purge_pos, since, memory_order_relaxed);
    return marks_check(marks, object);
}

void marks_set_bus_identity(struct marks *marks, uint64_t identity)
{
    atomic_store(&marks->bus_identity, identity);
}

uint64_t marks_bus_identity(const struct marks *marks)
{
    return atomic_load_explicit(&marks->bus_identity, memory_order_relaxed);
}

void marks_set_bus_floor(struct marks *marks, uint64_t bus)
{
    pthread_mutex_lock(&marks->lock);
    marks->bus_floor = MAX(marks->bus_floor, bus);
    pthread_mutex_unlock(&marks->lock);
}

void marks_set_doubt(struct marks *marks, bool doubt)
{
    atomic_store(&marks->doubt, doubt);
}

void marks_set_doubt_database(struct marks *marks, bool doubt)
{
    atomic_store(&marks->doubt_database, doubt);
}

bool marks_in_doubt(const struct marks *marks)
{
    return atomic_load_explicit(&marks->doubt, memory_order_relaxed) ||
           atomic_load_explicit(&marks->doubt_database, memory_order_relaxed);
}

/* ---- groups ---- */

void marks_group_put(struct text *out, struct view name)
{
    text_char(out, MARK_GROUP_BYTE);
    for (size_t i = 0; i < name.len; i++) {
        if (name.ptr[i] == ' ')
            text_char(out, MARK_GROUP_BYTE); /* a group name has no control bytes of its own (RFC 9651 §3.3.3) */
        else
            text_char(out, name.ptr[i]);
    }
}

void marks_group_mark(struct text *out, struct view url, struct view name)
{
    text_put(out, view_first(url, path_at(url)));
    marks_group_put(out, name);
}

void marks_stats(struct marks *marks, struct marks_stats *ret)
{
    pthread_mutex_lock(&marks->lock);
    *ret = (struct marks_stats){
        .position = atomic_load(&marks->position),
        .marks = marks->marks,
        .folds = marks->folds,
        .checks = atomic_load(&marks->checks),
        .floor = atomic_load(&marks->floor),
    };
    pthread_mutex_unlock(&marks->lock);
}
