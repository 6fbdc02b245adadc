/* The heap: the fault switch, overflow, what an allocation costs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/heap.h"

#include <pthread.h>
#include <string.h>

static unsigned failures(int count)
{
    unsigned failed = 0;

    for (int i = 0; i < count; i++) {
        void *memory = heap_alloc(8);

        failed += memory == NULL;
        heap_free(memory);
    }
    return failed;
}

static void fault_switch(void **state)
{
    /* The nth allocation fails, and every so manyth after it; 0 switches off. */
    void *memory, *kept;

    (void)state;
    assert_int_equal(failures(10), 0);
    heap_fault(3, 0);
    assert_int_equal(failures(2), 0);
    assert_int_equal(failures(1), 1);
    assert_int_equal(failures(20), 0);
    heap_fault(2, 4);
    assert_int_equal(failures(1), 0);
    assert_int_equal(failures(1), 1);
    assert_int_equal(failures(3), 0);
    assert_int_equal(failures(1), 1);
    assert_int_equal(failures(8), 2);
    heap_fault(0, 0);
    assert_int_equal(failures(20), 0);

    kept = heap_alloc(4);
    assert_non_null(kept);
    memcpy(kept, "abc", 4);
    heap_fault(1, 1);
    assert_null(heap_zalloc(1));
    assert_null(heap_array(1, 1));
    assert_null(heap_strdup("x", 1));
    memory = heap_resize(kept, 100000);
    heap_fault(0, 0);
    assert_null(memory);
    assert_string_equal(kept, "abc"); /* the old memory stays valid */
    memory = heap_resize(kept, 1000);
    assert_string_equal(memory, "abc");
    heap_free(memory);
    heap_free(NULL);
}

static void sizes(void **state)
{
    /* Products do not wrap around, zeroed memory is zero, copies end in NUL, and nothing costs less than it holds. */
    char *copy, *zero;

    (void)state;
    assert_null(heap_array(SIZE_MAX / 2, 3));
    zero = heap_zalloc(1000);
    assert_non_null(zero);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(zero[i], 0);
    heap_free(zero);
    copy = heap_strdup("abcdef", 3);
    assert_string_equal(copy, "abc");
    heap_free(copy);
    copy = heap_strdup(NULL, 0);
    assert_string_equal(copy, "");
    heap_free(copy);
    for (size_t size = 0; size < 100000; size += 777) {
        assert_true(heap_cost(size) >= size);
        assert_true(heap_cost(size) <= size + size / 4 + 64);
    }
    heap_trim();
}

static void *fail_some(void *arg)
{
    *(unsigned *)arg = failures(5000);
    return NULL;
}

static void fault_switch_over_threads(void **state)
{
    /* Threads share the count: together they see the failures that one would, give or take one for each thread. */
    pthread_t threads[4];
    unsigned failed[4], total = 0;

    (void)state;
    heap_fault(10, 10);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, fail_some, &failed[i]), 0);
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        total += failed[i];
    }
    heap_fault(0, 0);
    assert_in_range(total, 1, 2000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fault_switch),
        cmocka_unit_test(sizes),
        cmocka_unit_test(fault_switch_over_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
