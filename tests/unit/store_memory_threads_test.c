/* The memory tier under several threads, meant for TSan and ASan: readers without locks while writers store, replace, drop,
 * mark and purge the same few keys under pressure. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/heap.h"
#include "base/rcu.h"
#include "store/memory.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { KEYS = 200, THREADS = 4, TURNS = 2000, READS_A_TURN = 8 };

struct worker {
    pthread_t thread;
    struct memory *memory;
    unsigned number;
    uint64_t random;
    unsigned long reads, wrong, kept_bytes;
};

static unsigned dice(struct worker *w, unsigned sides)
{
    w->random ^= w->random << 13;
    w->random ^= w->random >> 7;
    w->random ^= w->random << 17;
    return (unsigned)(w->random >> 32) % sides;
}

static struct key key_number(char name[16], unsigned number)
{
    int len = snprintf(name, 16, "key-%u", number);

    return key_of(view_make(name, (size_t)len));
}

/* A body that says which key it belongs to in every byte. */
static struct object *make(unsigned number, unsigned variant, size_t body)
{
    static const char *const values[] = { "", "de", "en", "fr" };
    char name[16];
    struct key key = key_number(name, number);
    struct object_parts parts = { .key = key.text,
                                  .url = key.text,
                                  .head = VIEW("HTTP/1.1 200 OK\r\n"),
                                  .vary_names = variant ? VIEW("accept-language") : VIEW_NONE,
                                  .vary_values = view_str(values[variant]),
                                  .body_hint = body };
    struct object *object = object_new(&key, &parts);

    for (size_t done = 0, cap; object && done < body; done += cap) {
        char *at = object_reserve(object, body - done, &cap);

        if (!at) {
            object_unref(object);
            return NULL;
        }
        memset(at, (int)(number & 0xff), cap);
        object_commit(object, cap);
    }
    if (object)
        atomic_fetch_or(&object->flags, OBJECT_COMPLETE);
    return object;
}

static bool body_is(struct object *object, unsigned number)
{
    struct object_cursor cursor = { 0 };

    for (struct view run; (run = object_peek(object, &cursor)).len; object_advance(object, &cursor, run.len))
        for (size_t i = 0; i < run.len; i++)
            if ((unsigned char)run.ptr[i] != (number & 0xff))
                return false;
    return cursor.offset == object->body_len;
}

static void read_one(struct worker *w, struct object **held)
{
    unsigned number = dice(w, KEYS);
    char name[16];
    struct key key = key_number(name, number);
    const struct memory_entry *entry = memory_find(w->memory, &key);
    struct memory_variants variants;

    if (!entry)
        return;
    variants = memory_variants(entry);
    for (unsigned i = 0; i < variants.count; i++) {
        struct object *object = memory_variant(variants, i);

        memory_touch(object);
        w->reads++;
        w->wrong += !view_eq(object->key.text, key.text) || !body_is(object, number);
        if (!*held && object_try_ref(object))
            *held = object;
    }
}

static enum memory_visit visit(struct object *object, void *arg)
{
    struct worker *w = arg;

    w->kept_bytes += object->body_len;
    return dice(w, 50) == 0 ? MEMORY_DROP : MEMORY_KEEP;
}

static void write_one(struct worker *w)
{
    unsigned number = dice(w, KEYS), cursor = 0;
    struct object *object;
    char name[16];
    struct key key = key_number(name, number);

    switch (dice(w, 16)) {
    case 0: memory_drop(w->memory, &key); break;
    case 1: (void)!memory_mark_pass(w->memory, &key, dice(w, 2) * 1000); break;
    case 2: memory_soft_purge(w->memory, &key); break;
    case 3:
        if (dice(w, 20) == 0)
            while (memory_each(w->memory, &cursor, visit, w))
                continue;
        break;
    default:
        object = make(number, dice(w, 4), 200 + dice(w, 40000));
        if (object && memory_put(w->memory, object, NULL) == 0 && dice(w, 10) == 0)
            memory_drop_object(w->memory, object);
        object_unref(object);
    }
}

static void *work(void *arg)
{
    struct worker *w = arg;
    struct object *held = NULL;

    urcu_qsbr_register_thread();
    for (unsigned turn = 0; turn < TURNS; turn++) {
        for (unsigned i = 0; i < READS_A_TURN; i++)
            read_one(w, &held);
        if (w->number % 2 == 0)
            write_one(w);
        if (dice(w, 64) == 0) {
            rcu_offline();
            sched_yield();
            rcu_online();
        } else {
            rcu_quiet();
        }
        /* What was referenced outlives the turn. */
        if (held && dice(w, 4) == 0) {
            w->wrong += held->body_len != 0 && !body_is(held, (unsigned char)held->first->data[0]);
            object_unref(held);
            held = NULL;
        }
    }
    object_unref(held);
    urcu_qsbr_unregister_thread();
    return NULL;
}

static void readers_and_writers(void **state)
{
    /* No reader ever sees a freed, foreign or half-made object; the account is back to zero at the end. */
    struct memory_options options = { .limit = 3 << 20, .max_variants = 3, .shards = 4 };
    struct worker workers[THREADS];
    uint64_t before = object_account();
    unsigned long reads = 0;
    struct memory_stats stats;
    struct memory *memory;

    (void)state;
    assert_int_equal(memory_new(&options, &memory), 0);
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){ .memory = memory, .number = i, .random = 88172645463325252u + i * 7919 };
        assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
        assert_int_equal(workers[i].wrong, 0);
        reads += workers[i].reads;
    }
    assert_true(reads > 0);
    memory_settle(memory);
    memory_stats(memory, &stats);
    assert_true(stats.bytes <= options.limit);
    assert_int_equal(stats.waiting, 0);
    assert_true(stats.inserts > 0);
    memory_free(memory);
    assert_int_equal(object_account(), before);
}

struct storer {
    pthread_t thread;
    struct memory *memory;
    unsigned first, count;
};

static void *store_many(void *arg)
{
    struct storer *s = arg;

    urcu_qsbr_register_thread();
    for (unsigned i = 0; i < s->count; i++) {
        struct object *object = NULL;
        size_t body = 100 + (i * 2654435761u >> 8) % 8000;

        if (memory_reserve(s->memory, body + 512) == 0) {
            object = make(s->first + i, 0, body);
            memory_unreserve(s->memory, body + 512);
        }
        if (object)
            (void)!memory_put(s->memory, object, NULL);
        object_unref(object);
        rcu_quiet();
        if (i % 64 == 0)
            memory_settle(s->memory);
    }
    urcu_qsbr_unregister_thread();
    return NULL;
}

static uint64_t resident_bytes(void)
{
    unsigned long all = 0, pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");

    if (file) {
        if (fscanf(file, "%lu %lu", &all, &pages) != 2)
            pages = 0;
        (void)fclose(file);
    }
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void resident_memory_within_limit(void **state)
{
    /* Two threads store ten times what fits: charged bytes stay within the limit, and where our allocator runs (not under
     * the sanitizers), resident memory within limit + 32 MiB. */
    bool ours = heap_resident() > 0;
    struct memory_options options = { .limit = 32 << 20 };
    struct storer storers[2];
    struct memory_stats stats;
    struct memory *memory;

    (void)state;
    assert_int_equal(memory_new(&options, &memory), 0);
    for (unsigned i = 0; i < 2; i++) {
        storers[i] = (struct storer){ .memory = memory, .first = i << 24, .count = ours ? 100000 : 8000 };
        assert_int_equal(pthread_create(&storers[i].thread, NULL, store_many, &storers[i]), 0);
    }
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(pthread_join(storers[i].thread, NULL), 0);
    memory_stats(memory, &stats);
    assert_true(stats.bytes <= options.limit);
    assert_true(stats.evictions > 0);
    if (ours)
        assert_true(resident_bytes() <= options.limit + ((uint64_t)32 << 20));
    memory_free(memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(readers_and_writers),
        cmocka_unit_test(resident_memory_within_limit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
