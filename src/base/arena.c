#include "base/arena.h"

#include "base/heap.h"

#define BLOCK_SIZE ((size_t)8192)

struct arena_block {
    struct arena_block *next;
    size_t size;
};

static size_t align_up(size_t n)
{
    return (n + 15) & ~(size_t)15;
}

void arena_init(struct arena *a, void *first, size_t first_len, size_t limit)
{
    *a = (struct arena){ .at = first, .end = first ? (char *)first + first_len : NULL, .left = limit };
}

static void *alloc_slow(struct arena *a, size_t size)
{
    size_t want = MAX(BLOCK_SIZE, size + sizeof(struct arena_block));
    struct arena_block *block;

    if (size > a->left || want > a->left + sizeof(*block))
        return NULL;
    block = heap_alloc(want);
    if (!block)
        return NULL;
    block->next = a->blocks;
    block->size = want;
    a->blocks = block;
    a->left -= MIN(want, a->left);
    a->at = (char *)block + align_up(sizeof(*block)) + size;
    a->end = (char *)block + want;
    return (char *)block + align_up(sizeof(*block));
}

void *arena_alloc(struct arena *a, size_t size)
{
    char *memory = a->at;

    if (unlikely(size > SIZE_MAX / 2))
        return NULL;
    size = align_up(size ? size : 1);
    if (unlikely((size_t)(a->end - a->at) < size))
        return alloc_slow(a, size);
    a->at += size;
    return memory;
}

struct view arena_copy(struct arena *a, struct view v)
{
    char *memory;

    if (v.len == 0)
        return view_make("", 0);
    memory = arena_alloc(a, v.len);
    if (!memory)
        return VIEW_NONE;
    memcpy(memory, v.ptr, v.len);
    return view_make(memory, v.len);
}

void arena_release(struct arena *a)
{
    while (a->blocks) {
        struct arena_block *next = a->blocks->next;

        heap_free(a->blocks);
        a->blocks = next;
    }
    a->at = a->end = NULL;
}
