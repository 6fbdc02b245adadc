/* Arenas: bump allocation from the owner's first block, then from heap blocks that are freed together. */
#include "base/arena.h"

#include "base/heap.h"

#define BLOCK_SIZE ((size_t)8192)

struct arena_block {
    struct arena_block *next;
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
    const size_t header = align_up(sizeof(struct arena_block));
    size_t room = MAX(BLOCK_SIZE - header, size);
    struct arena_block *block;

    if (size > a->left)
        return NULL;
    room = MIN(room, a->left); /* the last block takes what the limit still allows */
    block = heap_alloc(header + room);
    if (!block)
        return NULL;
    block->next = a->blocks;
    a->blocks = block;
    a->left -= room;
    a->at = (char *)block + header + size;
    a->end = (char *)block + header + room;
    return (char *)block + header;
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
