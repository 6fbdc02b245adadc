/* Inside of the semantic index: shared by semantic.c and semantic_file.c. */
#pragma once

#include "ai/semantic.h"
#include "ai/semantic_learn.h"
#include "ai/vectors.h"
#include "base/list.h"

#include <pthread.h>
#include <stdatomic.h>

#define SEMANTIC_SHARDS 8u

/* A prompt whose answer is stored. Owned by its scope; its address is its id in the index. */
struct semantic_entry {
    struct node by_age;
    struct semantic_entry *next; /* in its bucket */
    uint64_t key_hash, number;   /* number: counts up in the order of age */
    int64_t expires_ms;
    uint8_t partition[16];
    struct learned learned;
    uint16_t key_len, text_len;
    char bytes[]; /* key, text */
};

struct semantic_scope {
    struct semantic_scope *next;
    struct semantic *owner;
    uint64_t hash, used; /* used: tick of the last lookup or add */
    struct view name;    /* owned */
    struct vectors *index;
    struct node entries; /* oldest first */
    struct semantic_entry **buckets;
    uint32_t bucket_count, count;
    size_t bytes; /* of entries */
    struct learned learned;
};

struct semantic_shard {
    pthread_mutex_t lock;
    struct semantic_scope *scopes;
};

struct semantic {
    struct semantic_options options;
    struct semantic_shard shards[SEMANTIC_SHARDS];
    _Atomic uint64_t counts[SEMANTIC_LEVELS][3], verified[SEMANTIC_LEVELS], wrong[SEMANTIC_LEVELS];
    _Atomic uint64_t by_guards, by_threshold, evicted, tick, changes;
    _Atomic uint32_t scopes;
};

static inline struct view semantic_entry_key(const struct semantic_entry *e)
{
    return view_make(e->bytes, e->key_len);
}

static inline struct view semantic_entry_text(const struct semantic_entry *e)
{
    return view_make(e->bytes + e->key_len, e->text_len);
}

/* Where a walk over all entries is. Starts zeroed. */
struct semantic_walk {
    unsigned shard;
    bool inside; /* of the scope with this hash, behind this entry */
    uint64_t hash, number;
};
/* Visits some entries under their shard's lock, so that lookups do not wait for long; entries may come and go between two calls. False: that
 * was all. */
bool semantic_walk(struct semantic *s, struct semantic_walk *walk,
                   void (*visit)(struct semantic_scope *scope, struct semantic_entry *e, void *arg), void *arg);

/* As semantic_add(), from a saved row instead of a vector when `row` is set. `learned`: NULL for a new entry. */
int semantic_put(struct semantic *s, const struct semantic_query *query, struct view key, const int8_t *row,
                 const struct learned *learned);
