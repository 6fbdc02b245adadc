/* The semantic index: scopes, their entries, lookups and verdicts.
 *
 * A scope belongs to the shard its name hashes to, and all of it is under that shard's lock: its vector index, its entries (a ring by
 * age, and buckets by key), what it has learned. An entry's address is its id in the vector index; it leaves both at once. Texts are kept because the
 * guards compare words. Counters are atomics and never locked. Scopes are few (tenants): a list. */
#include "ai/semantic_internal.h"

#include "ai/guards.h"
#include "base/check.h"
#include "base/heap.h"
#include "base/key.h"

#include <errno.h>
#include <math.h>

#define HITS_MAX 8u

static struct semantic_shard *shard_of(struct semantic *s, uint64_t hash)
{
    return &s->shards[hash % SEMANTIC_SHARDS];
}

static void lock(struct semantic_shard *shard)
{
    CHECK(pthread_mutex_lock(&shard->lock) == 0);
}

static void unlock(struct semantic_shard *shard)
{
    CHECK(pthread_mutex_unlock(&shard->lock) == 0);
}

static uint64_t id_of(const struct semantic_entry *e)
{
    return (uint64_t)(uintptr_t)e;
}

static struct semantic_entry *entry_of(uint64_t id)
{
    return (struct semantic_entry *)(uintptr_t)id;
}

/* The index compares 32 bits; candidates are compared in full. */
static uint32_t tag_of(const uint8_t partition[16])
{
    uint32_t tag;

    memcpy(&tag, partition, sizeof(tag));
    return tag;
}

static size_t entry_bytes(const struct semantic_scope *scope, const struct semantic_entry *e)
{
    return sizeof(*e) + e->key_len + e->text_len + vectors_dims(scope->index) * 9u / 8 + 64;
}

static struct semantic_entry **bucket_of(const struct semantic_scope *scope, uint64_t key_hash)
{
    return &scope->buckets[key_hash & (scope->bucket_count - 1)];
}

static struct semantic_entry *entry_find(const struct semantic_scope *scope, struct view key)
{
    uint64_t hash = hash64(key);

    if (!scope->buckets)
        return NULL;
    for (struct semantic_entry *e = *bucket_of(scope, hash); e; e = e->next)
        if (e->key_hash == hash && view_eq(semantic_entry_key(e), key))
            return e;
    return NULL;
}

static void entry_drop(struct semantic_scope *scope, struct semantic_entry *e)
{
    struct semantic_entry **at = bucket_of(scope, e->key_hash);

    while (*at != e)
        at = &(*at)->next;
    *at = e->next;
    list_remove(&e->by_age);
    scope->bytes -= entry_bytes(scope, e);
    scope->count--;
    atomic_fetch_add(&scope->owner->changes, 1);
    (void)vectors_remove(scope->index, id_of(e));
    heap_free(e);
}

static bool buckets_grow(struct semantic_scope *scope)
{
    uint32_t count = scope->bucket_count ? scope->bucket_count * 2 : 64;
    struct semantic_entry **old = scope->buckets, **buckets = heap_zalloc(count * sizeof(struct semantic_entry *));

    if (!buckets)
        return old != NULL;
    scope->buckets = buckets;
    scope->bucket_count = count;
    LIST_EACH (node, &scope->entries) {
        struct semantic_entry *e = CONTAINER_OF(node, struct semantic_entry, by_age),
                              **at = bucket_of(scope, e->key_hash);

        e->next = *at;
        *at = e;
    }
    heap_free(old);
    return true;
}

static void scope_empty(struct semantic_scope *scope)
{
    while (!list_empty(&scope->entries))
        entry_drop(scope, CONTAINER_OF(scope->entries.next, struct semantic_entry, by_age));
}

static void scope_free(struct semantic_scope *scope)
{
    scope_empty(scope);
    vectors_free(scope->index);
    heap_free(scope->buckets);
    heap_free((void *)(uintptr_t)scope->name.ptr);
    heap_free(scope);
}

static struct semantic_scope *scope_find(const struct semantic_shard *shard, uint64_t hash, struct view name)
{
    for (struct semantic_scope *scope = shard->scopes; scope; scope = scope->next)
        if (scope->hash == hash && (!name.ptr || view_eq(scope->name, name)))
            return scope;
    return NULL;
}

static void scope_remove(struct semantic *s, struct semantic_shard *shard, struct semantic_scope *scope)
{
    struct semantic_scope **at = &shard->scopes;

    while (*at != scope)
        at = &(*at)->next;
    *at = scope->next;
    scope_free(scope);
    atomic_fetch_sub(&s->scopes, 1);
}

/* Makes room for one more scope at the cost of this shard's least recently used one. */
static void scopes_shrink(struct semantic *s, struct semantic_shard *shard)
{
    struct semantic_scope *oldest = shard->scopes;

    if (atomic_load(&s->scopes) < s->options.scopes_max || !oldest)
        return;
    for (struct semantic_scope *scope = oldest; scope; scope = scope->next)
        if (scope->used < oldest->used)
            oldest = scope;
    atomic_fetch_add(&s->evicted, oldest->count);
    scope_remove(s, shard, oldest);
}

static struct semantic_scope *scope_make(struct semantic *s, struct semantic_shard *shard, uint64_t hash,
                                         struct view name, unsigned dims)
{
    struct semantic_scope *scope;

    scopes_shrink(s, shard);
    scope = heap_zalloc(sizeof(*scope));
    if (!scope)
        return NULL;
    list_init(&scope->entries);
    scope->owner = s;
    scope->hash = hash;
    scope->name = view_make(heap_strdup(name.ptr, name.len), name.len);
    if (!scope->name.ptr || vectors_new(dims, s->options.entries_max, &scope->index) < 0 || !buckets_grow(scope)) {
        scope_free(scope);
        return NULL;
    }
    scope->next = shard->scopes;
    shard->scopes = scope;
    atomic_fetch_add(&s->scopes, 1);
    return scope;
}

/* Another embedding model with other dimensions: what the old one made is of no use. */
static int scope_redimension(struct semantic *s, struct semantic_scope *scope, unsigned dims)
{
    struct vectors *index;
    int error = vectors_new(dims, s->options.entries_max, &index);

    if (error < 0)
        return error;
    scope_empty(scope);
    vectors_free(scope->index);
    scope->index = index;
    return 0;
}

int semantic_new(const struct semantic_options *options, struct semantic **ret)
{
    struct semantic_options o = *options;
    struct semantic *s;

    o.entries_max = o.entries_max ? o.entries_max : 10000;
    o.bytes_max = o.bytes_max ? o.bytes_max : 32u << 20;
    o.scopes_max = o.scopes_max ? o.scopes_max : 256;
    o.threshold = o.threshold > 0 ? o.threshold : 0.95f;
    o.false_hit_rate = o.false_hit_rate > 0 ? o.false_hit_rate : 0.01;
    if (!(o.threshold >= 0.8f && o.threshold <= 1) || !(o.false_hit_rate <= 0.5) || o.entries_max > 100u << 20)
        return -EINVAL;
    s = heap_zalloc(sizeof(*s));
    if (!s)
        return -ENOMEM;
    s->options = o;
    for (unsigned i = 0; i < SEMANTIC_SHARDS; i++)
        CHECK(pthread_mutex_init(&s->shards[i].lock, NULL) == 0);
    *ret = s;
    return 0;
}

void semantic_free(struct semantic *s)
{
    if (!s)
        return;
    semantic_forget_scope(s, VIEW_NONE);
    for (unsigned i = 0; i < SEMANTIC_SHARDS; i++)
        (void)pthread_mutex_destroy(&s->shards[i].lock);
    heap_free(s);
}

/* Whether this near entry may answer, and if not, why not. */
static bool serves(struct semantic *s, const struct semantic_scope *scope, const struct semantic_query *query,
                   float floor, const struct vectors_hit *hit)
{
    const struct semantic_entry *e = entry_of(hit->id);

    if (memcmp(e->partition, query->partition, sizeof(e->partition)) != 0)
        return false;
    if (hit->similarity < learned_threshold(&e->learned, floor, s->options.false_hit_rate) ||
        hit->similarity < learned_threshold(&scope->learned, floor, s->options.false_hit_rate)) {
        atomic_fetch_add(&s->by_threshold, 1);
        return false;
    }
    if (!ai_guards_agree(query->text, semantic_entry_text(e), NULL)) {
        atomic_fetch_add(&s->by_guards, 1);
        return false;
    }
    return true;
}

int semantic_lookup(struct semantic *s, const struct semantic_query *query, struct semantic_match *ret)
{
    uint64_t hash = hash64(query->scope);
    struct semantic_shard *shard = shard_of(s, hash);
    float floor = query->threshold > s->options.threshold ? query->threshold : s->options.threshold;
    struct vectors_hit hits[HITS_MAX];
    struct semantic_scope *scope;
    unsigned count = 0;
    int found = 0;

    atomic_fetch_add(&s->counts[SEMANTIC_EMBEDDING][SEMANTIC_LOOKUP], 1);
    if (query->scope.len == 0 || query->text.len == 0 || query->text.len > SEMANTIC_TEXT_MAX)
        return 0;
    lock(shard);
    scope = scope_find(shard, hash, query->scope);
    if (scope && vectors_dims(scope->index) == query->dims) {
        scope->used = atomic_fetch_add(&s->tick, 1);
        count = vectors_search(scope->index, query->vector, tag_of(query->partition), floor, hits, HITS_MAX);
    }
    for (unsigned i = 0; i < count && !found; i++) {
        const struct semantic_entry *e = entry_of(hits[i].id);

        if (!serves(s, scope, query, floor, &hits[i]))
            continue;
        ret->level = SEMANTIC_EMBEDDING;
        ret->similarity = hits[i].similarity;
        ret->scope = hash;
        ret->key_len = e->key_len;
        memcpy(ret->key, e->bytes, e->key_len);
        found = 1;
    }
    unlock(shard);
    return found;
}

/* Finds or makes the scope, ready for a vector of these dimensions. */
static int scope_for(struct semantic *s, struct semantic_shard *shard, const struct semantic_query *query,
                     struct semantic_scope **ret)
{
    uint64_t hash = hash64(query->scope);
    struct semantic_scope *scope = scope_find(shard, hash, query->scope);
    int error = 0;

    if (!scope)
        scope = scope_make(s, shard, hash, query->scope, query->dims);
    else if (vectors_dims(scope->index) != query->dims)
        error = scope_redimension(s, scope, query->dims);
    if (!scope)
        return -ENOMEM;
    scope->used = atomic_fetch_add(&s->tick, 1);
    *ret = scope;
    return error;
}

static void make_room(struct semantic *s, struct semantic_scope *scope, size_t bytes)
{
    while (!list_empty(&scope->entries) &&
           (scope->count >= s->options.entries_max || scope->bytes + bytes > s->options.bytes_max)) {
        entry_drop(scope, CONTAINER_OF(scope->entries.next, struct semantic_entry, by_age));
        atomic_fetch_add(&s->evicted, 1);
    }
}

static void entry_link(struct semantic_scope *scope, struct semantic_entry *e)
{
    struct semantic_entry **at;

    e->number = atomic_fetch_add(&scope->owner->changes, 1) + 1;
    if (scope->count >= scope->bucket_count)
        (void)buckets_grow(scope);
    at = bucket_of(scope, e->key_hash);
    e->next = *at;
    *at = e;
    list_push(&scope->entries, &e->by_age);
    scope->bytes += entry_bytes(scope, e);
    scope->count++;
}

static struct semantic_entry *entry_make(const struct semantic_query *query, struct view key,
                                         const struct learned *learned)
{
    struct semantic_entry *e = heap_zalloc(sizeof(*e) + key.len + query->text.len);

    if (!e)
        return NULL;
    memcpy(e->partition, query->partition, sizeof(e->partition));
    e->key_hash = hash64(key);
    e->expires_ms = query->expires_ms;
    e->key_len = (uint16_t)key.len;
    e->text_len = (uint16_t)query->text.len;
    memcpy(e->bytes, key.ptr, key.len);
    memcpy(e->bytes + key.len, query->text.ptr, query->text.len);
    if (learned)
        e->learned = *learned;
    return e;
}

static int put_locked(struct semantic *s, struct semantic_shard *shard, const struct semantic_query *query,
                      const int8_t *row, struct semantic_entry *e)
{
    struct semantic_scope *scope;
    struct semantic_entry *old;
    uint32_t tag = tag_of(query->partition);
    size_t bytes;
    int error = scope_for(s, shard, query, &scope);

    if (error < 0)
        return error;
    bytes = entry_bytes(scope, e);
    if (bytes > s->options.bytes_max)
        return -E2BIG;
    old = entry_find(scope, semantic_entry_key(e));
    if (old && !row && memcmp(old->partition, e->partition, sizeof(e->partition)) == 0)
        e->learned = old->learned; /* the same prompt, answered anew */
    if (old)
        entry_drop(scope, old);
    make_room(s, scope, bytes);
    error = row ? vectors_restore(scope->index, row, tag, id_of(e))
                : vectors_add(scope->index, query->vector, tag, id_of(e));
    if (error < 0)
        return error;
    entry_link(scope, e);
    return 0;
}

int semantic_put(struct semantic *s, const struct semantic_query *query, struct view key, const int8_t *row,
                 const struct learned *learned)
{
    struct semantic_shard *shard = shard_of(s, hash64(query->scope));
    struct semantic_entry *e;
    int error;

    if (query->scope.len == 0 || query->text.len == 0 || key.len == 0 || query->dims < VECTORS_DIMS_MIN ||
        query->dims > VECTORS_DIMS_MAX)
        return -EINVAL;
    if (key.len > SEMANTIC_KEY_MAX || query->text.len > SEMANTIC_TEXT_MAX)
        return -E2BIG;
    e = entry_make(query, key, learned);
    if (!e)
        return -ENOMEM;
    lock(shard);
    error = put_locked(s, shard, query, row, e);
    unlock(shard);
    if (error < 0)
        heap_free(e);
    return error;
}

int semantic_add(struct semantic *s, const struct semantic_query *query, struct view key)
{
    return semantic_put(s, query, key, NULL, NULL);
}

bool semantic_forget(struct semantic *s, struct view name, struct view key)
{
    bool found = false;

    for (unsigned i = 0; i < SEMANTIC_SHARDS; i++) {
        struct semantic_shard *shard = &s->shards[i];

        if (name.len > 0 && shard != shard_of(s, hash64(name)))
            continue;
        lock(shard);
        for (struct semantic_scope *scope = shard->scopes; scope; scope = scope->next) {
            struct semantic_entry *e = name.len == 0 || view_eq(scope->name, name) ? entry_find(scope, key) : NULL;

            found |= e != NULL;
            if (e)
                entry_drop(scope, e);
        }
        unlock(shard);
    }
    return found;
}

void semantic_forget_scope(struct semantic *s, struct view name)
{
    for (unsigned i = 0; i < SEMANTIC_SHARDS; i++) {
        struct semantic_shard *shard = &s->shards[i];
        struct semantic_scope *scope;

        lock(shard);
        while ((scope = name.len ? scope_find(shard, hash64(name), name) : shard->scopes))
            scope_remove(s, shard, scope);
        unlock(shard);
    }
}

void semantic_count(struct semantic *s, enum semantic_level level, enum semantic_event event)
{
    CHECK(level < SEMANTIC_LEVELS && event <= SEMANTIC_SHADOW);
    atomic_fetch_add(&s->counts[level][event], 1);
}

void semantic_feedback(struct semantic *s, const struct semantic_match *match, bool correct)
{
    struct semantic_shard *shard = shard_of(s, match->scope);
    struct semantic_scope *scope;
    struct semantic_entry *e;

    CHECK(match->level < SEMANTIC_LEVELS);
    atomic_fetch_add(&s->verified[match->level], 1);
    atomic_fetch_add(&s->wrong[match->level], !correct);
    if (match->level != SEMANTIC_EMBEDDING)
        return;
    lock(shard);
    scope = scope_find(shard, match->scope, VIEW_NONE);
    if (scope) {
        learned_add(&scope->learned, match->similarity, correct);
        atomic_fetch_add(&s->changes, 1);
        e = entry_find(scope, semantic_key(match));
        if (e)
            learned_add(&e->learned, match->similarity, correct);
    }
    unlock(shard);
}

void semantic_report(struct semantic *s, struct semantic_report *ret)
{
    *ret = (struct semantic_report){ .refused_by_guards = atomic_load(&s->by_guards),
                                     .refused_by_threshold = atomic_load(&s->by_threshold),
                                     .evicted = atomic_load(&s->evicted) };
    for (unsigned i = 0; i < SEMANTIC_LEVELS; i++) {
        ret->level[i].lookups = atomic_load(&s->counts[i][SEMANTIC_LOOKUP]);
        ret->level[i].hits = atomic_load(&s->counts[i][SEMANTIC_HIT]);
        ret->level[i].shadow_hits = atomic_load(&s->counts[i][SEMANTIC_SHADOW]);
        ret->level[i].wrong = atomic_load(&s->wrong[i]);
        ret->level[i].verified = MAX(atomic_load(&s->verified[i]), ret->level[i].wrong);
        if (ret->level[i].verified > 0)
            ret->level[i].false_hit_rate = (double)ret->level[i].wrong / (double)ret->level[i].verified;
        learned_interval(ret->level[i].wrong, ret->level[i].verified, &ret->level[i].low, &ret->level[i].high);
    }
    for (unsigned i = 0; i < SEMANTIC_SHARDS; i++) {
        lock(&s->shards[i]);
        for (struct semantic_scope *scope = s->shards[i].scopes; scope; scope = scope->next) {
            ret->scopes++;
            ret->entries += scope->count;
            ret->bytes += scope->bytes;
        }
        unlock(&s->shards[i]);
    }
}
