/* Arenas: alignment, the limit, failing allocations, copies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/heap.h"

static void aligned_and_apart(void **state)
{
    /* Every allocation is 16-byte aligned and overlaps no other, in the first block and in those from the heap. */
    static const size_t sizes[] = { 1, 16, 17, 0, 500, 8192, 3, 20000, 15, 8176, 8177 };
    _Alignas(16) char first[256];
    unsigned char *got[ARRAY_LEN(sizes)];
    struct arena a;

    (void)state;
    arena_init(&a, first, sizeof(first), 1 << 20);
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        got[i] = arena_alloc(&a, sizes[i]);
        assert_non_null(got[i]);
        assert_int_equal((uintptr_t)got[i] % 16, 0);
        memset(got[i], (int)i + 1, sizes[i]);
    }
    assert_ptr_equal(got[0], first);
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
        for (size_t k = 0; k < sizes[i]; k++)
            assert_int_equal(got[i][k], i + 1);
    arena_release(&a);
}

static void limit_holds(void **state)
{
    /* The heap gives no more than the limit; the first block does not count; huge sizes do not wrap around. */
    _Alignas(16) char first[64];
    struct arena a;
    size_t total = 0;

    (void)state;
    arena_init(&a, first, sizeof(first), 65536);
    assert_non_null(arena_alloc(&a, 64));
    assert_null(arena_alloc(&a, 65537));
    assert_null(arena_alloc(&a, SIZE_MAX));
    assert_null(arena_alloc(&a, SIZE_MAX / 2));
    while (arena_alloc(&a, 1000))
        total += 1000;
    assert_in_range(total, 65536 * 3 / 4, 65536);
    arena_release(&a);

    arena_init(&a, NULL, 0, 0);
    assert_null(arena_alloc(&a, 1));
    arena_release(&a);
}

static void small_limit_is_usable(void **state)
{
    /* A limit below the usual block size still gives what it promises. */
    struct arena a;

    (void)state;
    arena_init(&a, NULL, 0, 1024);
    assert_non_null(arena_alloc(&a, 600));
    assert_null(arena_alloc(&a, 600));
    arena_release(&a);
}

static void heap_runs_out(void **state)
{
    /* A failing heap is NULL for the caller, and the arena works on afterwards. */
    struct arena a;
    struct view copy;

    (void)state;
    arena_init(&a, NULL, 0, 1 << 20);
    heap_fault(1, 0);
    assert_null(arena_alloc(&a, 10));
    heap_fault(1, 0);
    copy = arena_copy(&a, VIEW("text"));
    heap_fault(0, 0);
    assert_null(copy.ptr);
    assert_int_equal(copy.len, 0);
    copy = arena_copy(&a, VIEW("text"));
    assert_true(view_eq(copy, VIEW("text")));
    copy = arena_copy(&a, VIEW_NONE);
    assert_non_null(copy.ptr);
    assert_int_equal(copy.len, 0);
    arena_release(&a);
    arena_release(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(aligned_and_apart),
        cmocka_unit_test(limit_holds),
        cmocka_unit_test(small_limit_is_usable),
        cmocka_unit_test(heap_runs_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
