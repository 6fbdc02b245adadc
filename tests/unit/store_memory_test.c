/* The memory tier on one thread: variants, replacement, markers, purges, the limit. Threads: store_memory_threads_test.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/heap.h"
#include "base/rcu.h"
#include "store/memory.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { MIB = 1 << 20 };

static struct memory *tier(uint64_t limit)
{
    struct memory *memory = NULL;

    assert_int_equal(memory_new(&(struct memory_options){ .limit = limit, .max_variants = 3 }, &memory), 0);
    return memory;
}

static struct key key_named(const char *name)
{
    return key_of(view_str(name));
}

/* A complete object; NULL when memory is out. */
static struct object *make(const char *name, const char *vary, size_t body, unsigned flags)
{
    struct key key = key_named(name);
    struct object_parts parts = { .key = key.text,
                                  .url = view_str(name),
                                  .head = VIEW("HTTP/1.1 200 OK\r\n"),
                                  .vary_names = vary ? VIEW("accept-language") : VIEW_NONE,
                                  .vary_values = view_str(vary),
                                  .body_hint = body };
    struct object *object = object_new(&key, &parts);

    for (size_t done = 0, cap; object && done < body; done += cap) {
        char *at = object_reserve(object, body - done, &cap);

        if (!at) {
            object_unref(object);
            return NULL;
        }
        memset(at, 'x', cap);
        object_commit(object, cap);
    }
    if (object)
        atomic_fetch_or(&object->flags, flags | OBJECT_COMPLETE);
    return object;
}

/* Puts and forgets; the tier's own reference remains. */
static int put(struct memory *memory, const char *name, const char *vary, size_t body, unsigned flags,
               enum memory_refusal *why)
{
    struct object *object = make(name, vary, body, flags);
    int r;

    assert_non_null(object);
    r = memory_put(memory, object, why);
    object_unref(object);
    return r;
}

static unsigned variants_of(struct memory *memory, const char *name)
{
    struct key key = key_named(name);
    const struct memory_entry *entry = memory_find(memory, &key);

    return entry ? memory_variants(entry).count : 0;
}

static struct memory_stats stats_of(struct memory *memory)
{
    struct memory_stats stats;

    memory_stats(memory, &stats);
    return stats;
}

static void stores_and_finds(void **state)
{
    /* What was put is found under its key and no other, and freeing the tier frees every byte charged. */
    uint64_t before = object_account();
    struct memory *memory = tier(16 * MIB);
    struct key key = key_named("a"), other = key_named("b");
    const struct memory_entry *entry;
    struct object *object;

    (void)state;
    assert_int_equal(put(memory, "a", NULL, 100, 0, NULL), 0);
    assert_null(memory_find(memory, &other));
    entry = memory_find(memory, &key);
    assert_non_null(entry);
    assert_int_equal(memory_variants(entry).count, 1);
    object = memory_variant(memory_variants(entry), 0);
    assert_true(view_eq(object->key.text, key.text));
    assert_int_equal(memory_pass_until(entry), 0);
    for (int i = 0; i < 40; i++)
        memory_touch(object);
    assert_int_equal(object->item.uses, POLICY_USES_MAX);
    assert_true(object_try_ref(object));
    memory_free(memory);
    assert_true(object_account() > before);
    object_unref(object);
    assert_int_equal(object_account(), before);
}

static void replaces_equal_variants(void **state)
{
    /* An equal variant is replaced, others are added in front, and a full set gives up its least used. */
    struct memory *memory = tier(16 * MIB);
    struct key key = key_named("a");
    struct memory_variants variants;

    (void)state;
    put(memory, "a", "de", 10, 0, NULL);
    put(memory, "a", "de", 20, 0, NULL);
    assert_int_equal(variants_of(memory, "a"), 1);
    put(memory, "a", "en", 10, 0, NULL);
    put(memory, "a", "fr", 10, 0, NULL);
    variants = memory_variants(memory_find(memory, &key));
    assert_int_equal(variants.count, 3);
    assert_true(view_eq(object_vary_values(memory_variant(variants, 0)), VIEW("fr")));
    assert_int_equal(memory_variant(variants, 2)->body_len, 20);
    memory_touch(memory_variant(variants, 0));
    memory_touch(memory_variant(variants, 2));
    put(memory, "a", "pt", 10, 0, NULL);
    variants = memory_variants(memory_find(memory, &key));
    assert_int_equal(variants.count, 3);
    for (unsigned i = 0; i < 3; i++)
        assert_false(view_eq(object_vary_values(memory_variant(variants, i)), VIEW("en")));
    assert_int_equal(stats_of(memory).objects, 3);
    assert_int_equal(stats_of(memory).replaced, 2);
    memory_free(memory);
}

static void complete_beats_partial(void **state)
{
    /* A partial object never replaces a complete one; a complete one replaces a partial. */
    struct memory *memory = tier(16 * MIB);
    enum memory_refusal why = MEMORY_STORED;

    (void)state;
    assert_int_equal(put(memory, "a", NULL, 10, OBJECT_PARTIAL, NULL), 0);
    assert_int_equal(put(memory, "a", NULL, 20, 0, NULL), 0);
    assert_int_equal(put(memory, "a", NULL, 10, OBJECT_PARTIAL, &why), -ENOSPC);
    assert_int_equal(why, MEMORY_WORSE);
    assert_string_equal(memory_refusal_name(why), "worse");
    assert_int_equal(variants_of(memory, "a"), 1);
    memory_free(memory);
}

static void drops(void **state)
{
    /* Dropping a key takes all its variants, dropping an object only that one, and twice is harmless. */
    struct memory *memory = tier(16 * MIB);
    struct key key = key_named("a");
    struct object *object = make("b", NULL, 10, 0);

    (void)state;
    put(memory, "a", "de", 10, 0, NULL);
    put(memory, "a", "en", 10, 0, NULL);
    assert_int_equal(memory_put(memory, object, NULL), 0);
    assert_int_equal(memory_soft_purge(memory, &key), 2);
    assert_int_equal(memory_variant(memory_variants(memory_find(memory, &key)), 1)->soft_purged, 1);
    assert_int_equal(memory_drop(memory, &key), 2);
    assert_int_equal(memory_drop(memory, &key), 0);
    assert_int_equal(memory_soft_purge(memory, &key), 0);
    assert_null(memory_find(memory, &key));
    assert_int_equal(memory_drop_object(memory, object), 1);
    assert_int_equal(memory_drop_object(memory, object), 0);
    object_unref(object);
    assert_int_equal(stats_of(memory).entries, 0);
    assert_int_equal(stats_of(memory).objects, 0);
    memory_free(memory);
}

static void pass_markers(void **state)
{
    /* A marker lives beside variants, survives their going, is bounded in number and goes when told. */
    struct memory *memory = tier(16 * MIB);
    struct key key = key_named("a");
    char name[16];

    (void)state;
    put(memory, "a", NULL, 10, 0, NULL);
    assert_int_equal(memory_mark_pass(memory, &key, 77), 0);
    assert_int_equal(memory_pass_until(memory_find(memory, &key)), 77);
    assert_int_equal(variants_of(memory, "a"), 1);
    assert_int_equal(memory_drop(memory, &key), 1);
    assert_int_equal(memory_pass_until(memory_find(memory, &key)), 77);
    assert_int_equal(variants_of(memory, "a"), 0);
    put(memory, "a", NULL, 10, 0, NULL);
    assert_int_equal(variants_of(memory, "a"), 1);
    assert_int_equal(memory_mark_pass(memory, &key, 0), 0);
    assert_int_equal(memory_pass_until(memory_find(memory, &key)), 0);
    assert_int_equal(memory_drop(memory, &key), 1);
    assert_null(memory_find(memory, &key));
    for (unsigned i = 0; i < 3000; i++) {
        snprintf(name, sizeof(name), "m%u", i);
        key = key_named(name);
        assert_int_equal(memory_mark_pass(memory, &key, i + 1), 0);
    }
    assert_int_equal(memory_pass_until(memory_find(memory, &key)), 3000);
    assert_true(stats_of(memory).entries <= 256 * 4);
    memory_free(memory);
}

static enum memory_visit visit_half(struct object *object, void *arg)
{
    unsigned *seen = arg;

    ++*seen;
    if (object_url(object).ptr[object_url(object).len - 1] % 2)
        return MEMORY_DROP;
    return object_url(object).ptr[object_url(object).len - 1] == '4' ? MEMORY_SOFT : MEMORY_KEEP;
}

static void walks(void **state)
{
    /* A walk sees every object once, in slices, and drops exactly those it says. */
    struct memory *memory = tier(64 * MIB);
    unsigned seen = 0, cursor = 0, slices = 0;
    char name[16];

    (void)state;
    for (unsigned i = 0; i < 5000; i++) {
        snprintf(name, sizeof(name), "o%u", i);
        assert_int_equal(put(memory, name, NULL, 10, 0, NULL), 0);
    }
    do
        slices++;
    while (memory_each(memory, &cursor, visit_half, &seen));
    assert_int_equal(seen, 5000);
    assert_true(slices > 1);
    for (unsigned i = 0; i < 5000; i++) {
        snprintf(name, sizeof(name), "o%u", i);
        assert_int_equal(variants_of(memory, name), i % 2 == 0);
    }
    assert_int_equal(stats_of(memory).dropped, 2500);
    memory_free(memory);
}

static void stays_within_limit(void **state)
{
    /* Whatever is put, what is charged never exceeds the limit, and what is used often outlives what is not. */
    struct memory *memory = tier(4 * MIB);
    struct key hot = key_named("hot");
    enum memory_refusal why = MEMORY_STORED;
    char name[16];

    (void)state;
    put(memory, "hot", NULL, 1000, 0, NULL);
    for (unsigned i = 0; i < 20000; i++) {
        const struct memory_entry *entry = memory_find(memory, &hot);

        if (i % 100 == 0) {
            assert_non_null(entry);
            memory_touch(memory_variant(memory_variants(entry), 0));
        }
        snprintf(name, sizeof(name), "c%u", i);
        put(memory, name, NULL, 100 + i * 37 % 5000, 0, NULL);
        assert_true(stats_of(memory).bytes <= 4 * MIB);
        if (i % 4 == 0)
            memory_settle(memory);
    }
    assert_true(stats_of(memory).evictions > 10000);
    assert_int_equal(put(memory, "large", NULL, MIB, 0, &why), -ENOSPC);
    assert_int_equal(why, MEMORY_TOO_LARGE);
    memory_free(memory);
}

static void reserves(void **state)
{
    /* A reservation evicts, counts against the limit, fails beyond it and is given back. */
    struct memory *memory = tier(4 * MIB);
    char name[16];
    uint64_t before;

    (void)state;
    for (unsigned i = 0; i < 400; i++) {
        snprintf(name, sizeof(name), "c%u", i);
        put(memory, name, NULL, 10000, 0, NULL);
        if (i % 4 == 0)
            memory_settle(memory);
    }
    memory_settle(memory);
    before = stats_of(memory).bytes;
    assert_int_equal(memory_reserve(memory, 100000), 0);
    assert_int_equal(memory_reserve(memory, 5 * MIB), -ENOMEM);
    assert_true(stats_of(memory).bytes <= 4 * MIB);
    memory_unreserve(memory, 100000);
    assert_true(stats_of(memory).bytes <= before);
    memory_free(memory);
}

static void ghosts_bring_frequency_back(void **state)
{
    /* A key stored again soon after it was evicted counts as a ghost hit. */
    struct memory *memory = tier(1 * MIB);
    char name[16];

    (void)state;
    for (unsigned round = 0; round < 3; round++)
        for (unsigned i = 0; i < 300; i++) {
            snprintf(name, sizeof(name), "c%u", i);
            if (!variants_of(memory, name))
                put(memory, name, NULL, 5000, 0, NULL);
            if (i % 4 == 0)
                memory_settle(memory);
        }
    assert_true(stats_of(memory).ghost_hits > 0);
    memory_free(memory);
}

static void survives_failing_allocations(void **state)
{
    /* Whichever allocation fails, nothing breaks or leaks: the object is just not stored. */
    uint64_t before = object_account();

    (void)state;
    for (unsigned long nth = 1; nth < 60; nth++) {
        static const char *const vary[] = { "de", "en", "fr", "pt" };
        struct memory *memory = tier(4 * MIB);
        struct key key = key_named("a");

        heap_fault(nth, 3);
        for (unsigned i = 0; i < 24; i++) {
            struct object *object = make("a", vary[i % 4], 100, 0);

            if (object && i % 5 == 4)
                (void)!memory_mark_pass(memory, &key, 5);
            if (object)
                (void)memory_put(memory, object, NULL);
            if (object && i % 7 == 6)
                memory_drop_object(memory, object);
            object_unref(object);
        }
        heap_fault(0, 0);
        assert_true(variants_of(memory, "a") <= 3);
        assert_int_equal(variants_of(memory, "a"), stats_of(memory).objects);
        memory_free(memory);
        assert_int_equal(object_account(), before);
    }
}

static int join_rcu(void **state)
{
    (void)state;
    urcu_qsbr_register_thread();
    return 0;
}

static int leave_rcu(void **state)
{
    (void)state;
    urcu_qsbr_unregister_thread();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stores_and_finds),
        cmocka_unit_test(replaces_equal_variants),
        cmocka_unit_test(complete_beats_partial),
        cmocka_unit_test(drops),
        cmocka_unit_test(pass_markers),
        cmocka_unit_test(walks),
        cmocka_unit_test(stays_within_limit),
        cmocka_unit_test(reserves),
        cmocka_unit_test(ghosts_bring_frequency_back),
        cmocka_unit_test(survives_failing_allocations),
    };

    return cmocka_run_group_tests(tests, join_rcu, leave_rcu);
}
