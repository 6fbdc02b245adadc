/* The identity of a cached thing: a 128-bit hash for the index and the full key text, which is compared on every match,
 * so that a hash collision can never serve one URL's bytes for another's. */
#pragma once

#include "base/view.h"

struct key {
    uint64_t hash[2];
    struct view text; /* length-delimited parts, tenant scope first (docs/cache.md) */
};

/* Hashes `text` (XXH3, 128 bits; the same on every node, so disk and shared tiers can use it). Borrows the text. */
struct key key_of(struct view text);

static inline bool key_eq(const struct key *a, const struct key *b)
{
    return a->hash[0] == b->hash[0] && a->hash[1] == b->hash[1] && view_eq(a->text, b->text);
}

/* 64-bit hash for tables and shards, not for identity. */
uint64_t hash64(struct view v);
