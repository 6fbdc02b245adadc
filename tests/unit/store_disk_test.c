/* The disk tier: storing, finding, starting again. Damage: store_disk_damage_test.c; streams: store_disk_stream_test.c. */
#include "store_disk_fixture.h"

static void stores_and_finds(void **state)
{
    /* What was offered is found whole, under its key and no other, on a loop and without one. */
    struct disk *disk = open_at(sub("a"));
    struct object *object;
    bool waited;

    (void)state;
    assert_true(stats_of(disk).on);
    put(disk, "one", 1, 0);
    put(disk, "two", 2, 5000);
    put(disk, "three", 3, 100 * KIB);
    disk_settle(disk);
    assert_true(has(disk, "two"));
    assert_false(has(disk, "four"));
    expect(disk, "one", 1, 0);
    expect(disk, "two", 2, 5000);
    expect(disk, "three", 3, 100 * KIB);
    expect_miss(disk, "four");
    object = get_on_loop(disk, "two", &waited);
    assert_non_null(object);
    check_body(object, "two", 2, 5000);
    object_unref(object);
    assert_int_equal(stats_of(disk).objects, 3);
    assert_int_equal(stats_of(disk).written, 3);
    assert_int_equal(stats_of(disk).hits, 4);
    disk_close(disk);
}

static void restarts(void **state)
{
    /* After an orderly end everything is there again, from the checkpoint alone. */
    struct disk *disk = open_at(sub("a"));
    char name[16];

    (void)state;
    for (unsigned i = 0; i < 300; i++) {
        (void)snprintf(name, sizeof(name), "n%u", i);
        put(disk, name, i, i * 37);
    }
    disk_settle(disk);
    disk_close(disk);
    disk = open_at(sub("a"));
    assert_int_equal(stats_of(disk).objects, 300);
    assert_true(stats_of(disk).scanned_bytes < 10000);
    for (unsigned i = 0; i < 300; i++) {
        (void)snprintf(name, sizeof(name), "n%u", i);
        expect(disk, name, i, i * 37);
    }
    disk_close(disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(stores_and_finds, setup, teardown),
        cmocka_unit_test_setup_teardown(restarts, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
