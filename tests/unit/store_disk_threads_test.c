/* Several threads over one small tier: offers, drops, reads, streams, checkpoints and recycling at once. For TSan above all. */
#include "store_disk_fixture.h"

#include <pthread.h>

enum { THREADS = 4, NAMES = 200, STEPS = 1500 };

static struct disk *tier;
static atomic_uint versions; /* given out so far */

static void check_any(struct object *object, const char *name)
{
    unsigned version = (unsigned)object->times.response_ms;
    uint64_t len = atomic_load(&object->body_len);

    assert_true(version > 0 && version <= atomic_load(&versions));
    check_head(object, name, version);
    if (object->external) {
        struct streaming s = { .object = object };
        ssize_t r = stream_from(&s, tier, name, version, len / 2, len);

        assert_true(r > 0 || r == -ESTALE); /* recycled between the two */
    } else {
        check_body(object, name, version, (size_t)len);
    }
}

static void *run(void *arg)
{
    uint64_t seed = (uintptr_t)arg;
    struct object *object;
    char name[16];

    for (unsigned i = 0; i < STEPS; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        (void)snprintf(name, sizeof(name), "n%u", (unsigned)(seed >> 33) % NAMES);
        switch (seed >> 60) {
        case 0:
        case 1: disk_drop(tier, at_named(name)); break;
        case 2: put(tier, name, atomic_fetch_add(&versions, 1) + 1, 300 * KIB); break;
        case 3:
        case 4:
        case 5:
        case 6: put(tier, name, atomic_fetch_add(&versions, 1) + 1, (size_t)(seed >> 40) % 20000); break;
        case 7:
            object = get_on_loop(tier, name, NULL);
            if (object)
                check_any(object, name);
            object_unref(object);
            break;
        default:
            object = get(tier, name);
            if (object)
                check_any(object, name);
            object_unref(object);
        }
    }
    return NULL;
}

static void all_at_once(void **state)
{
    /* Nothing that is found is ever wrong, and the limit holds; what is there at the end is there after a restart. */
    struct disk_options options = options_for(sub("a"));
    pthread_t threads[THREADS];
    uint64_t objects;

    (void)state;
    options.size = 10 * MIB;
    options.checkpoint_ms = 10;
    tier = open_with(&options);
    for (uintptr_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, run, (void *)(i + 1)), 0);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    disk_settle(tier);
    assert_true(stats_of(tier).on);
    assert_int_equal(stats_of(tier).corrupt, 0);
    assert_true(stats_of(tier).hits > 50 && stats_of(tier).written > 50 && stats_of(tier).dropped > 10);
    assert_true(folder_size(sub("a")) <= options.size);
    objects = stats_of(tier).objects;
    disk_close(tier);
    tier = open_with(&options);
    assert_int_equal(stats_of(tier).objects, objects);
    disk_close(tier);
    remove_folder(sub("a"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(all_at_once, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
