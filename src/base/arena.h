/* An arena dies all at once: memory for one request. The first block is given by the owner (usually part of a pooled
 * struct), so that short requests never reach the heap; more blocks come from the heap up to `limit`. */
#pragma once

#include "base/view.h"

struct arena_block;

struct arena {
    char *at, *end;
    struct arena_block *blocks; /* newest first */
    size_t left;                /* bytes that may still come from the heap */
};

void arena_init(struct arena *a, void *first, size_t first_len, size_t limit);
/* 16-byte aligned; NULL when the limit or the heap is exhausted. Not zeroed. */
void *arena_alloc(struct arena *a, size_t size) must_use;
/* A copy of v; {NULL, 0} when memory is out and v is not empty. */
struct view arena_copy(struct arena *a, struct view v) must_use;
/* Frees every heap block. The first block is the owner's. */
void arena_release(struct arena *a);
