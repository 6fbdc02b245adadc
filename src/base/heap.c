/* The one door to the heap. jemalloc in normal builds, the C library's malloc (which the sanitizers replace) otherwise; the
 * fault switch counts allocations down over all threads. */
#include "base/heap.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HEAP_JEMALLOC 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define HEAP_JEMALLOC 0
#endif
#endif
#ifndef HEAP_JEMALLOC
#define HEAP_JEMALLOC 1
#endif

#if HEAP_JEMALLOC
#include <jemalloc/jemalloc.h>
/* Dirty pages go back within a second: the memory limit is about what is resident, not about what is in use. */
const char *malloc_conf = "narenas:2,dirty_decay_ms:1000,muzzy_decay_ms:0,tcache_max:4096,"
                          /* jemalloc keeps 128 bytes for every slab, and a slab holds only 4 to 16 objects of the sizes
                           * that small responses have: larger ones, of lengths those sizes divide, hold 32. */
                          "slab_sizes:1024-1024:8|1280-1280:10|1536-1536:12|1792-1792:14|2048-2048:16|2560-2560:20|"
                          "3072-3072:24";
#endif

static atomic_ulong fault_countdown; /* 0: off */
static atomic_ulong fault_every;

void heap_fault(unsigned long nth, unsigned long every)
{
    atomic_store(&fault_every, every);
    atomic_store(&fault_countdown, nth);
}

unsigned long heap_fault_left(void)
{
    return atomic_load(&fault_countdown);
}

static bool fault_due(void)
{
    unsigned long left = atomic_load_explicit(&fault_countdown, memory_order_relaxed);

    do {
        if (likely(left == 0))
            return false;
    } while (!atomic_compare_exchange_weak(&fault_countdown, &left, left == 1 ? atomic_load(&fault_every) : left - 1));
    return left == 1;
}

void *heap_alloc(size_t size)
{
    return fault_due() ? NULL : malloc(size);
}

void *heap_zalloc(size_t size)
{
    return fault_due() ? NULL : calloc(1, size);
}

void *heap_array(size_t count, size_t size)
{
    size_t total;

    return fault_due() || __builtin_mul_overflow(count, size, &total) ? NULL : malloc(total);
}

void *heap_resize(void *memory, size_t size)
{
    return fault_due() ? NULL : realloc(memory, size);
}

void heap_free(void *memory)
{
    free(memory);
}

char *heap_strdup(const char *ptr, size_t len)
{
    char *copy = heap_alloc(len + 1);

    if (!copy)
        return NULL;
    if (len)
        memcpy(copy, ptr, len);
    copy[len] = '\0';
    return copy;
}

#if HEAP_JEMALLOC
size_t heap_cost(size_t size)
{
    return nallocx(size ? size : 1, 0);
}

size_t heap_resident(void)
{
    uint64_t epoch = 1;
    size_t len = sizeof(epoch), resident = 0, resident_len = sizeof(resident);

    mallctl("epoch", &epoch, &len, &epoch, len);
    if (mallctl("stats.resident", &resident, &resident_len, NULL, 0) != 0)
        return 0;
    return resident;
}

void heap_trim(void)
{
    /* 4096 is MALLCTL_ARENAS_ALL. */
    mallctl("arena.4096.purge", NULL, NULL, NULL, 0);
}
#else
size_t heap_cost(size_t size)
{
    return (size + 31) & ~(size_t)15;
}

size_t heap_resident(void)
{
    return 0;
}

void heap_trim(void)
{
}
#endif
