/* A library to preload: counts calls that allocate, in a file that others can read while the program runs.
 *
 *   MALLOC_COUNT_FILE=/dev/shm/count LD_PRELOAD=build/bench/malloc_count.so PROGRAM
 *
 * The file holds one uint64_t in native byte order. Calls are passed on to whatever allocator the program brought. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static _Atomic uint64_t unseen;
static _Atomic uint64_t *calls = &unseen;

static void *(*next_malloc)(size_t);
static void *(*next_calloc)(size_t, size_t);
static void *(*next_realloc)(void *, size_t);
static int (*next_posix_memalign)(void **, size_t, size_t);
static void *(*next_aligned_alloc)(size_t, size_t);

/* dlsym() itself may allocate before the real functions are known: that little comes from here and is never freed. */
static char early[65536];
static size_t early_used;

static void *early_alloc(size_t size)
{
    size_t at = early_used;

    size = (size + 15) & ~(size_t)15;
    if (size > sizeof(early) - at) {
        return NULL;
    }
    early_used += size;
    return early + at;
}

/* ISO C has no cast from object to function pointer; POSIX promises that the bytes are the same. */
static void find(void *ret_function, const char *name)
{
    void *symbol = dlsym(RTLD_NEXT, name);

    memcpy(ret_function, &symbol, sizeof(symbol));
}

static void find_all(void)
{
    find(&next_calloc, "calloc");
    find(&next_realloc, "realloc");
    find(&next_posix_memalign, "posix_memalign");
    find(&next_aligned_alloc, "aligned_alloc");
    find(&next_malloc, "malloc");
}

__attribute__((constructor)) static void start(void)
{
    const char *path = getenv("MALLOC_COUNT_FILE");
    int fd;
    void *shared;

    if (path == NULL || (fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600)) < 0) {
        return;
    }
    if (ftruncate(fd, sizeof(uint64_t)) == 0) {
        shared = mmap(NULL, sizeof(uint64_t), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (shared != MAP_FAILED) {
            calls = shared;
        }
    }
    close(fd);
}

/* Libraries allocate in their constructors, which may run before ours. */
static int ready(void)
{
    static int finding;

    atomic_fetch_add_explicit(calls, 1, memory_order_relaxed);
    if (next_malloc == NULL && !finding) {
        finding = 1;
        find_all();
        finding = 0;
    }
    return next_malloc != NULL;
}

void *malloc(size_t size)
{
    return ready() ? next_malloc(size) : early_alloc(size);
}

void *calloc(size_t n, size_t size)
{
    return ready() ? next_calloc(n, size) : early_alloc(n * size);
}

void *realloc(void *old, size_t size)
{
    return ready() ? next_realloc(old, size) : early_alloc(size);
}

int posix_memalign(void **ret_memory, size_t alignment, size_t size)
{
    return ready() ? next_posix_memalign(ret_memory, alignment, size) : ENOMEM;
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return ready() ? next_aligned_alloc(alignment, size) : NULL;
}
