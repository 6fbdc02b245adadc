/* The disk tier: storing, finding, starting again. Damage: store_disk_damage_test.c; streams: store_disk_stream_test.c. */
#include "store_disk_fixture.h"

#include <sys/mount.h>

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
    remove_folder(sub("a"));
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
    remove_folder(sub("a"));
}

static void survives_a_kill(void **state)
{
    /* Killed without a checkpoint, or some time after one: what the kernel had is there, drops stay dropped. */
    struct disk *disk = open_at(sub("a"));

    (void)state;
    put(disk, "old", 1, 5000);
    put(disk, "replaced", 1, 100);
    put(disk, "dropped", 1, 100);
    disk_settle(disk);
    copy_folder(sub("a"), sub("bare"));
    disk_checkpoint(disk);
    assert_int_equal(stats_of(disk).checkpoints, 1);
    put(disk, "replaced", 2, 200);
    put(disk, "new", 1, 70000);
    disk_drop(disk, at_named("dropped"));
    assert_false(has(disk, "dropped"));
    disk_settle(disk);
    copy_folder(sub("a"), sub("since"));
    disk_close(disk);

    disk = open_at(sub("bare"));
    expect(disk, "old", 1, 5000);
    expect(disk, "replaced", 1, 100);
    expect(disk, "dropped", 1, 100);
    expect_miss(disk, "new");
    disk_close(disk);

    disk = open_at(sub("since"));
    expect(disk, "old", 1, 5000);
    expect(disk, "replaced", 2, 200);
    expect(disk, "new", 1, 70000);
    expect_miss(disk, "dropped");
    disk_close(disk);

    /* And without the checkpoint it is the same. */
    (void)unlink(sub("since/checkpoint"));
    disk = open_at(sub("since"));
    expect(disk, "replaced", 2, 200);
    expect_miss(disk, "dropped");
    assert_int_equal(stats_of(disk).objects, 3);
    disk_close(disk);
    remove_folder(sub("a"));
    remove_folder(sub("bare"));
    remove_folder(sub("since"));
}

static void drop_beats_queued_put(void **state)
{
    /* A drop that has returned wins over a put that waits in the queue, now and after a restart. */
    struct disk *disk = open_at(sub("a"));
    char name[16];

    (void)state;
    for (unsigned round = 0; round < 20; round++) {
        for (unsigned i = 0; i < 20; i++) {
            (void)snprintf(name, sizeof(name), "n%u", i);
            put(disk, name, round, 20000);
        }
        for (unsigned i = 0; i < 20; i += 2) {
            (void)snprintf(name, sizeof(name), "n%u", i);
            disk_drop(disk, at_named(name));
            assert_false(has(disk, name));
        }
        disk_settle(disk);
        for (unsigned i = 0; i < 20; i++) {
            (void)snprintf(name, sizeof(name), "n%u", i);
            assert_int_equal(has(disk, name), i % 2);
        }
    }
    copy_folder(sub("a"), sub("b"));
    disk_close(disk);
    disk = open_at(sub("b"));
    for (unsigned i = 0; i < 20; i++) {
        (void)snprintf(name, sizeof(name), "n%u", i);
        assert_int_equal(has(disk, name), i % 2);
    }
    disk_close(disk);
    remove_folder(sub("a"));
    remove_folder(sub("b"));
}

static void keeps_vary_entries(void **state)
{
    /* The names of a key that has variants, with their generation; a variant stands under a key of its own. */
    struct disk *disk = open_at(sub("a"));
    struct key key = key_named("page");
    struct object *object, *variant = make("page", 3, 50);

    (void)state;
    disk_put_vary(disk, &key, VIEW("accept-language"), 42, 7);
    disk_offer(disk, entry_key_variant(&key, 42, VIEW("de\n")), variant, DISK_PINNED);
    object_unref(variant);
    disk_settle(disk);
    disk_put_vary(disk, &key, VIEW("accept-language"), 42, 7);
    disk_settle(disk);
    assert_int_equal(stats_of(disk).written, 2);
    disk_close(disk);
    disk = open_at(sub("a"));
    assert_int_equal(disk_get_blocking(disk, entry_key_primary(&key), &key, &object), 0);
    assert_int_equal(object->status, 0);
    assert_int_equal(object->generation, 42);
    assert_int_equal(atomic_load(&object->purge_pos), 7);
    assert_true(view_eq(object_vary_names(object), VIEW("accept-language")));
    object_unref(object);
    assert_int_equal(disk_get_blocking(disk, entry_key_variant(&key, 42, VIEW("de\n")), &key, &object), 0);
    check_body(object, "page", 3, 50);
    object_unref(object);
    assert_int_equal(disk_get_blocking(disk, entry_key_variant(&key, 41, VIEW("de\n")), &key, &object), -ENOENT);
    disk_close(disk);
    remove_folder(sub("a"));
}

static void offer(struct disk *disk, const char *name, enum disk_reason reason, unsigned uses, unsigned flags)
{
    struct object *object = make(name, 1, 100);

    atomic_fetch_or(&object->flags, flags);
    atomic_store(&object->item.uses, (uint8_t)uses);
    disk_offer(disk, at_named(name), object, reason);
    object_unref(object);
    disk_settle(disk);
}

static void admits(void **state)
{
    /* Second sight, immutable, two uses, or pinned; the same version is not written twice. */
    struct disk *disk = open_at(sub("a"));

    (void)state;
    offer(disk, "twice", DISK_FILLED, 0, 0);
    assert_false(has(disk, "twice"));
    assert_int_equal(stats_of(disk).refused_admission, 1);
    offer(disk, "twice", DISK_FILLED, 0, 0);
    assert_true(has(disk, "twice"));
    offer(disk, "immutable", DISK_FILLED, 0, OBJECT_IMMUTABLE);
    assert_true(has(disk, "immutable"));
    offer(disk, "evicted", DISK_EVICTED, 1, 0);
    assert_false(has(disk, "evicted"));
    offer(disk, "evicted", DISK_EVICTED, 2, 0);
    assert_true(has(disk, "evicted"));
    offer(disk, "pinned", DISK_PINNED, 0, 0);
    assert_true(has(disk, "pinned"));
    assert_int_equal(stats_of(disk).written, 4);
    offer(disk, "pinned", DISK_PINNED, 0, 0);
    offer(disk, "evicted", DISK_EVICTED, 5, 0);
    assert_int_equal(stats_of(disk).written, 4);
    offer(disk, "transient", DISK_PINNED, 0, OBJECT_TRANSIENT);
    assert_false(has(disk, "transient"));
    disk_close(disk);
    remove_folder(sub("a"));
}

static void reads_through_workers(void **state)
{
    /* What is not in the page cache is read by a worker; what is, without one. A cancelled read wakes nobody. */
    struct disk *disk = open_at(sub("a"));
    struct object *object;
    bool waited;

    (void)state;
    put(disk, "one", 1, 5000);
    put(disk, "large", 1, 90000);
    disk_settle(disk);
    object = get_on_loop(disk, "one", &waited);
    check_body(object, "one", 1, 5000);
    object_unref(object);
    each_file(sub("a"), chill, NULL);
    object = get_on_loop(disk, "large", &waited);
    check_body(object, "large", 1, 90000);
    object_unref(object);
    assert_true(stats_of(disk).hits == 2);
    disk_close(disk);
    remove_folder(sub("a"));
}

static void drop_while_reading(struct task *task)
{
    struct reading *reading = CONTAINER_OF(task, struct reading, task);

    reading_run(task);
    if (reading->result == -EAGAIN)
        disk_drop(reading->disk, entry_key_primary(&reading->key));
}

static void dropped_while_read(void **state)
{
    /* A drop also wins over a read that is under way. */
    struct disk *disk = open_at(sub("a"));
    struct reading reading = { .disk = disk, .key = key_named("large") };
    struct loop *loop;

    (void)state;
    put(disk, "large", 1, 120 * KIB);
    disk_settle(disk);
    disk_close(disk);
    each_file(sub("a"), chill, NULL);
    disk = reading.disk = open_at(sub("a"));
    assert_int_equal(loop_new(&loop, 0), 0);
    task_init(&reading.task, loop, drop_while_reading);
    task_wake(&reading.task);
    loop_run(loop);
    loop_free(loop);
    /* Where files cannot be put out of the page cache nothing was under way. */
    assert_int_equal(reading.result, reading.waited ? -ENOENT : 0);
    object_unref(reading.object);
    disk_close(disk);
    remove_folder(sub("a"));
}

static void encrypts(void **state)
{
    /* With a key nothing of the texts or bodies stands in the files; another key, or none, finds an empty tier and says so. */
    static const uint8_t key[32] = "a key that is thirty-two bytes..", other[32] = "another one of thirty-two bytes.";
    struct disk_options options = options_for(sub("a"));
    struct disk *disk;
    char memory[65536];
    int fd;
    ssize_t n;

    (void)state;
    options.key = key;
    disk = open_with(&options);
    put(disk, "secret-name", 1, 3000);
    put(disk, "empty", 1, 0);
    disk_settle(disk);
    fd = open(last_segment(sub("a")), O_RDONLY);
    n = read(fd, memory, sizeof(memory));
    close(fd);
    assert_true(n > 4000);
    assert_null(memmem(memory, (size_t)n, "secret-name", 11));
    assert_null(memmem(memory, (size_t)n, "HTTP/1.1", 8));
    copy_folder(sub("a"), sub("killed"));
    disk_close(disk);

    disk = open_with(&options);
    expect(disk, "secret-name", 1, 3000);
    expect(disk, "empty", 1, 0);
    assert_string_equal(stats_of(disk).notice, "");
    disk_close(disk);

    options.path = sub("killed");
    disk = open_with(&options);
    expect(disk, "secret-name", 1, 3000);
    disk_close(disk);

    options.path = sub("a");
    options.key = other;
    disk = open_with(&options);
    assert_true(stats_of(disk).on);
    assert_int_equal(stats_of(disk).objects, 0);
    assert_int_equal(stats_of(disk).foreign, 1);
    assert_non_null(strstr(stats_of(disk).notice, "another encryption key"));
    put(disk, "next", 1, 10);
    disk_settle(disk);
    expect(disk, "next", 1, 10);
    disk_close(disk);

    options.key = NULL;
    disk = open_with(&options);
    expect_miss(disk, "next");
    assert_int_equal(stats_of(disk).foreign, 1);
    disk_close(disk);
    remove_folder(sub("a"));
    remove_folder(sub("killed"));
}

static void knows_its_own(void **state)
{
    /* Another identity means an empty tier; files that are not ours are left alone; a second node stays off. */
    struct disk_options options = options_for(sub("a"));
    struct disk *disk = open_with(&options), *second;
    struct disk_stats stats;
    int fd;

    (void)state;
    put(disk, "one", 1, 10);
    disk_settle(disk);
    second = open_with(&options);
    stats = stats_of(second);
    assert_false(stats.on);
    assert_string_equal(stats.trouble, "the directory is used by another process");
    assert_false(has(second, "one"));
    put(second, "two", 1, 10);
    disk_drop(second, at_named("one"));
    disk_settle(second);
    disk_close(second);
    expect(disk, "one", 1, 10);
    disk_close(disk);

    fd = open(sub("a/notes.txt"), O_CREAT | O_WRONLY, 0600);
    assert_int_equal(write(fd, "mine", 4), 4);
    close(fd);
    memset(options.identity, 9, sizeof(options.identity));
    disk = open_with(&options);
    assert_true(stats_of(disk).on);
    assert_int_equal(stats_of(disk).objects, 0);
    assert_int_equal(stats_of(disk).foreign, 1);
    assert_non_null(strstr(stats_of(disk).notice, "identity"));
    assert_int_equal(access(sub("a/notes.txt"), F_OK), 0);
    disk_close(disk);
    remove_folder(sub("a"));
}

static void keeps_within_its_size(void **state)
{
    /* Under random load the files never take more than the limit; what is there is right; what is used stays. */
    enum { NAMES = 3000, ROUNDS = 12000 };
    struct disk_options options = options_for(sub("a"));
    static unsigned versions[NAMES];
    struct disk *disk;
    struct disk_stats stats;
    uint64_t peak = 0;
    unsigned found = 0, seed = 1;
    char name[16];

    (void)state;
    options.size = 8 * MIB;
    disk = open_with(&options);
    put(disk, "favourite", 1, 3000);
    for (unsigned i = 1; i <= ROUNDS; i++) {
        unsigned n;
        struct object *object;

        seed = seed * 1103515245 + 12345;
        n = seed / 65536 % NAMES;
        (void)snprintf(name, sizeof(name), "n%u", n);
        versions[n] = i;
        put(disk, name, i, seed / 7 % 8000);
        if (i % 100 == 0) {
            disk_settle(disk);
            object = get(disk, "favourite");
            assert_non_null(object);
            object_unref(object);
            peak = MAX(peak, folder_size(sub("a")));
        }
        if (i % 3000 == 0)
            disk_checkpoint(disk);
    }
    disk_settle(disk);
    peak = MAX(peak, folder_size(sub("a")));
    assert_true(peak <= options.size);
    stats = stats_of(disk);
    assert_true(stats.evicted > 1000 && stats.reinserted > 0 && stats.bytes <= options.size);
    assert_int_equal(stats.refused_full + stats.corrupt + stats.switched_off, 0);
    assert_true(stats.live_bytes > options.size / 3);
    for (int restarted = 0; restarted < 2; restarted++) {
        for (unsigned n = 0; n < NAMES; n++) {
            struct object *object;

            (void)snprintf(name, sizeof(name), "n%u", n);
            object = get(disk, name);
            if (!object)
                continue;
            found++;
            check_head(object, name, versions[n]);
            check_body(object, name, versions[n], atomic_load(&object->body_len));
            object_unref(object);
        }
        assert_true(found > 500);
        disk_close(disk);
        assert_true(folder_size(sub("a")) <= options.size);
        disk = open_with(&options);
    }
    disk_close(disk);
    options.size = 4 * MIB;
    disk = open_with(&options);
    assert_true(folder_size(sub("a")) <= options.size);
    assert_true(stats_of(disk).objects > 100);
    disk_close(disk);
    remove_folder(sub("a"));
}

/* Asks until the tier is on, or not; the writer's thread takes its time. */
static void await(struct disk *disk, bool on)
{
    for (int i = 0; i < 3000 && stats_of(disk).on != on; i++)
        usleep(10000);
    assert_int_equal(stats_of(disk).on, on);
}

static void put_many(struct disk *disk, unsigned count, unsigned version)
{
    char name[16];

    for (unsigned i = 0; i < count && stats_of(disk).on; i++) {
        (void)snprintf(name, sizeof(name), "n%u", i);
        put(disk, name, version, 10000);
    }
    disk_settle(disk);
}

static void cut(const char *file, void *arg)
{
    (void)arg;
    if (strstr(file, ".segment"))
        assert_int_equal(truncate(file, 128), 0);
}

static void unreadable(void **state)
{
    /* Reads fail (the file ends too early, which is the same to us): misses, then off with a reason, and on again. */
    struct disk *disk = open_at(sub("a"));
    struct object *object;
    struct disk_stats stats;
    bool waited;

    (void)state;
    put_many(disk, 10, 1);
    each_file(sub("a"), cut, NULL);
    expect_miss(disk, "n1");
    object = get_on_loop(disk, "n2", &waited);
    assert_null(object);
    assert_true(waited && stats_of(disk).on);
    expect_miss(disk, "n3");
    disk_settle(disk);
    stats = stats_of(disk);
    assert_false(stats.on);
    assert_int_equal(stats.read_errors, 3);
    assert_string_equal(stats.trouble, "reading: Input/output error");
    await(disk, true);
    assert_int_equal(stats_of(disk).objects, 0);
    put_many(disk, 1, 2);
    expect(disk, "n0", 2, 10000);
    disk_close(disk);
    remove_folder(sub("a"));
}

static void directory_removed(void **state)
{
    /* The directory goes away: off, with a reason; misses; and by itself on again, without what was dropped meanwhile. */
    struct disk *disk = open_at(sub("a"));
    struct disk_stats stats;
    char name[16];
    bool off;

    (void)state;
    put(disk, "kept", 1, 100);
    put(disk, "dropped", 1, 100);
    disk_settle(disk);
    assert_int_equal(rename(sub("a"), sub("away")), 0);
    remove_folder(sub("a"));
    /* Files that are open do not mind; a checkpoint does not either, in the moved directory. Removed, it does. */
    each_file(sub("away"), remove_file, NULL);
    assert_int_equal(rmdir(sub("away")), 0);
    for (unsigned i = 0; i < 400; i++) {
        (void)snprintf(name, sizeof(name), "n%u", i);
        put(disk, name, 1, 5000);
    }
    disk_settle(disk);
    stats = stats_of(disk);
    /* It may be back already: it tries after a second. */
    assert_true(stats.on || stats.trouble[0]);
    assert_int_equal(stats.switched_off, 1);
    expect_miss(disk, "kept");
    put(disk, "ignored", 1, 10);
    off = !stats_of(disk).on;
    disk_drop(disk, at_named("dropped"));
    await(disk, true);
    assert_string_equal(stats_of(disk).trouble, "");
    if (off)
        expect_miss(disk, "ignored");
    put(disk, "again", 1, 10);
    disk_settle(disk);
    expect(disk, "again", 1, 10);
    disk_close(disk);
    remove_folder(sub("a"));
}

/* A file system of its own for "a"; skips the test where that is not allowed. */
static void mount_small(const char *size)
{
    char text[32];

    (void)snprintf(text, sizeof(text), "size=%s", size);
    assert_int_equal(mkdir(sub("a"), 0700), 0);
    if (mount("none", sub("a"), "tmpfs", 0, text) == 0)
        return;
    (void)rmdir(sub("a"));
    skip();
}

static void file_system_full(void **state)
{
    /* The file system is smaller than the tier: off when it is full, back soon, and then content with what there is. */
    struct disk *disk;
    struct disk_stats stats;
    int fd;

    (void)state;
    mount_small("6m");
    disk = open_at(sub("a"));
    put_many(disk, 700, 1);
    stats = stats_of(disk);
    assert_int_equal(stats.switched_off, 1);
    await(disk, true);
    put_many(disk, 2000, 2);
    stats = stats_of(disk);
    assert_int_equal(stats.switched_off, 1);
    assert_true(stats.objects > 300 && stats.evicted > 1000);
    expect(disk, "n1999", 2, 10000);
    disk_close(disk);

    /* Somebody else has taken all of it. */
    each_file(sub("a"), remove_file, NULL);
    fd = open(sub("a/other"), O_CREAT | O_WRONLY, 0600);
    assert_int_equal(posix_fallocate(fd, 0, 11 * MIB / 2), 0);
    close(fd);
    disk = open_at(sub("a"));
    put(disk, "one", 1, 10000);
    disk_settle(disk);
    stats = stats_of(disk);
    assert_false(stats.on);
    assert_non_null(strstr(stats.trouble, "No space left"));
    expect_miss(disk, "one");
    assert_int_equal(unlink(sub("a/other")), 0);
    await(disk, true);
    put(disk, "two", 1, 10000);
    disk_settle(disk);
    expect(disk, "two", 1, 10000);
    disk_close(disk);
    assert_int_equal(umount(sub("a")), 0);
    assert_int_equal(rmdir(sub("a")), 0);
}

static void read_only(void **state)
{
    /* Read-only while it runs, and from the start: off with a reason, on again when it may write. */
    struct disk *disk;

    (void)state;
    mount_small("32m");
    disk = open_at(sub("a"));
    put_many(disk, 50, 1);
    expect(disk, "n7", 1, 10000);
    disk_close(disk);
    assert_int_equal(mount("none", sub("a"), "tmpfs", MS_REMOUNT | MS_RDONLY, "size=32m"), 0);
    disk = open_at(sub("a"));
    assert_false(stats_of(disk).on);
    assert_non_null(strstr(stats_of(disk).trouble, "Read-only"));
    expect_miss(disk, "n7");
    disk_drop(disk, at_named("n8"));
    assert_int_equal(mount("none", sub("a"), "tmpfs", MS_REMOUNT, "size=32m"), 0);
    await(disk, true);
    expect(disk, "n7", 1, 10000);
    expect_miss(disk, "n8");
    disk_settle(disk);
    copy_folder(sub("a"), sub("b"));
    disk_close(disk);
    assert_int_equal(umount(sub("a")), 0);
    disk = open_at(sub("b"));
    expect(disk, "n7", 1, 10000);
    expect_miss(disk, "n8");
    disk_close(disk);
    remove_folder(sub("a"));
    remove_folder(sub("b"));
}

static void bad_options(void **state)
{
    /* What can never work is said at once. */
    struct disk_options options = options_for(sub("a"));
    char memory[200];
    struct text reason = TEXT_ON(memory);
    struct disk *disk;

    (void)state;
    options.size = MIB;
    assert_int_equal(disk_open(&options, &disk, &reason), -EINVAL);
    assert_true(reason.len > 0);
    options = options_for("");
    assert_int_equal(disk_open(&options, &disk, &reason), -EINVAL);
    options = options_for(sub("a"));
    options.segment_size = 64 * MIB;
    assert_int_equal(disk_open(&options, &disk, &reason), -EINVAL);
    /* What may work later is off. */
    options = options_for("/dev/null/x");
    disk = open_with(&options);
    assert_false(stats_of(disk).on);
    assert_true(stats_of(disk).trouble[0]);
    expect_miss(disk, "one");
    put(disk, "one", 1, 1);
    disk_settle(disk);
    disk_close(disk);
    disk_close(NULL);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(stores_and_finds),      T(restarts),           T(survives_a_kill),
        T(drop_beats_queued_put), T(keeps_vary_entries), T(admits),
        T(reads_through_workers), T(dropped_while_read), T(encrypts),
        T(knows_its_own),         T(bad_options),        T(keeps_within_its_size),
        T(file_system_full),      T(read_only),          T(unreadable),
        T(directory_removed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
