/* Bodies in extents: written from memory or while they arrive, read from any place, while their segments are recycled. */
#include "store_disk_fixture.h"

#include "store/disk_internal.h"

static void check_stream(struct disk *disk, const char *name, unsigned version, uint64_t from, uint64_t to)
{
    struct streaming s = { 0 };

    assert_true(stream_from(&s, disk, name, version, from, to) > 0);
    check_head(s.object, name, version);
    object_unref(s.object);
}

/* ---- writing one ---- */

struct writing_body {
    struct task task;
    struct disk *disk;
    struct disk_writer *writer;
    struct object *object;
    const char *name;
    unsigned version;
    uint64_t at, len;
    unsigned waits;
    int result;
    bool abort;
};

static bool hold_writer; /* nothing is written until the queue is full once */

static void writing_run(struct task *task)
{
    struct writing_body *w = CONTAINER_OF(task, struct writing_body, task);
    static char bytes[50000];
    uint64_t seed = body_seed(w->name, w->version);

    while (w->at < w->len) {
        size_t n = (size_t)MIN(sizeof(bytes), w->len - w->at);

        for (size_t i = 0; i < n; i++)
            bytes[i] = body_byte(seed, w->at + i);
        w->result = disk_writer_append(w->writer, view_make(bytes, n));
        if (w->result == -EAGAIN) {
            if (hold_writer && !w->waits)
                pthread_mutex_unlock(&w->disk->space.lock);
            w->waits++;
            return;
        }
        if (w->result < 0)
            break;
        w->at += n;
    }
    if (w->result < 0 || w->abort)
        disk_writer_abort(w->writer);
    else
        disk_writer_commit(w->writer);
    loop_stop(task->loop);
}

static unsigned waits; /* of the last writer */

static int write_body(struct disk *disk, const char *name, unsigned version, uint64_t len, bool abort)
{
    struct writing_body w = {
        .disk = disk, .name = name, .version = version, .len = len, .object = make(name, version, 0), .abort = abort
    };
    struct loop *loop;

    w.object->complete_len = len;
    assert_int_equal(loop_new(&loop, 0), 0);
    task_init(&w.task, loop, writing_run);
    assert_int_equal(disk_writer_new(disk, at_named(name), w.object, &w.task, &w.writer), 0);
    if (hold_writer)
        pthread_mutex_lock(&disk->space.lock);
    task_wake(&w.task);
    loop_run(loop);
    disk_settle(disk);
    /* A wake that is still on its way must find its loop. */
    loop_free(loop);
    object_unref(w.object);
    waits = w.waits;
    return w.result;
}

/* ---- tests ---- */

static struct disk *open_large(bool encrypted)
{
    static const uint8_t key[32] = "a key that is thirty-two bytes..";
    struct disk_options options = options_for(sub("a"));

    options.size = 128 * MIB;
    options.segment_size = 8 * MIB;
    options.max_object = 32 * MIB;
    options.key = encrypted ? key : NULL;
    return open_with(&options);
}

static void streams(bool encrypted)
{
    static const uint64_t sizes[] = { 1, 65536, 65537, 1048576, 1048577, 3000000, 20000000 };
    struct disk *disk = open_large(encrypted);
    char name[16];

    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        (void)snprintf(name, sizeof(name), "n%zu", i);
        assert_int_equal(write_body(disk, name, 1, sizes[i], false), 0);
    }
    assert_int_equal(write_body(disk, "aborted", 1, 5000000, true), 0);
    assert_false(has(disk, "aborted"));
    assert_int_equal(write_body(disk, "too-large", 1, 40000000, false), -EFBIG);
    put(disk, "from-memory", 4, 2500000);
    disk_settle(disk);
    for (int restarted = 0; restarted < 2; restarted++) {
        for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
            uint64_t size = sizes[i];

            (void)snprintf(name, sizeof(name), "n%zu", i);
            check_stream(disk, name, 1, 0, size);
            check_stream(disk, name, 1, size / 3, size);
            check_stream(disk, name, 1, size - 1, size);
            check_stream(disk, name, 1, size / 2, size / 2 + 1);
        }
        check_stream(disk, "from-memory", 4, 0, 2500000);
        each_file(sub("a"), chill, NULL);
        check_stream(disk, "n6", 1, 0, 20000000);
        check_stream(disk, "n5", 1, 1999999, 2500000);
        assert_true(stats_of(disk).live_bytes > 27000000);
        disk_close(disk);
        disk = open_large(encrypted);
    }
    assert_int_equal(stats_of(disk).corrupt, 0);
    disk_close(disk);
    remove_folder(sub("a"));
}

static void streams_in_clear(void **state)
{
    /* Bodies of every size, read from the start, the middle and the end, warm and cold, before and after a restart. */
    (void)state;
    streams(false);
}

static void streams_encrypted(void **state)
{
    /* The same under a key. */
    (void)state;
    streams(true);
}

static unsigned fill_next;

static void fill_up(struct disk *disk, unsigned mib)
{
    char name[24];

    for (unsigned i = 0; i < mib * 8; i++) {
        (void)snprintf(name, sizeof(name), "fill%u", fill_next++);
        put(disk, name, 1, 128 * KIB);
        if (i % 64 == 0)
            disk_settle(disk);
    }
    disk_settle(disk);
}

static void recycle_all(struct streaming *s)
{
    fill_up(s->disk, 40);
}

static void recycled_under_a_stream(void **state)
{
    /* A stream reads what it began to read although every segment of it is recycled meanwhile; then the space is given back. */
    struct disk_options options = options_for(sub("a"));
    struct disk *disk;
    struct streaming s = { .between = recycle_all, .max = 1000 };

    (void)state;
    options.size = 24 * MIB;
    disk = open_with(&options);
    assert_int_equal(write_body(disk, "big", 1, 5000000, false), 0);
    assert_true(stream_from(&s, disk, "big", 1, 0, 5000000) > 0);
    assert_false(has(disk, "big"));
    assert_true(folder_size(sub("a")) <= options.size);
    /* The head that is still in somebody's hands has no body any more. */
    assert_int_equal(stream_from(&s, disk, "big", 1, 0, 5000000), -ESTALE);
    object_unref(s.object);
    fill_up(disk, 8);
    assert_true(folder_size(sub("a")) <= options.size);
    assert_int_equal(stats_of(disk).corrupt, 0);
    disk_close(disk);
    assert_true(folder_size(sub("a")) <= options.size);
    remove_folder(sub("a"));
}

static unsigned count_fill(struct disk *disk, unsigned from, unsigned to)
{
    unsigned there = 0;
    char name[24];

    for (unsigned i = from; i < to; i++) {
        (void)snprintf(name, sizeof(name), "fill%u", i);
        there += has(disk, name);
    }
    return there;
}

static void slow_readers(void **state)
{
    /* Readers that hold old segments for long cost a part of the tier, not all of it: then writing waits, reading goes on. */
    struct disk_options options = options_for(sub("a"));
    struct disk *disk;
    struct task task;
    struct loop *loop;
    struct object *objects[4];
    struct disk_stream *streams[4];
    char name[16];

    (void)state;
    options.size = 24 * MIB;
    disk = open_with(&options);
    assert_int_equal(loop_new(&loop, 0), 0);
    task_init(&task, loop, streaming_run);
    for (unsigned i = 0; i < 4; i++) {
        (void)snprintf(name, sizeof(name), "big%u", i);
        assert_int_equal(write_body(disk, name, 1, 4500000, false), 0);
        objects[i] = get(disk, name);
        assert_int_equal(disk_stream_open(disk, objects[i], &task, &streams[i]), 0);
    }
    fill_next = 1000;
    fill_up(disk, 40);
    assert_true(count_fill(disk, 1000, fill_next) > 8);
    assert_true(stats_of(disk).on && stats_of(disk).refused_full > 0);
    assert_true(folder_size(sub("a")) <= options.size);
    /* A drop finds its way all the same. */
    disk_drop(disk, at_named("big3"));
    disk_settle(disk);
    assert_true(stats_of(disk).on);
    for (unsigned i = 0; i < 4; i++) {
        disk_stream_close(streams[i]);
        object_unref(objects[i]);
    }
    disk_settle(disk);
    fill_next = 2000;
    fill_up(disk, 10);
    assert_int_equal(count_fill(disk, 2000, fill_next), fill_next - 2000);
    disk_close(disk);
    loop_free(loop);
    remove_folder(sub("a"));
}

/* A new head over the body of `old`. */
static struct object *freshened(const char *name, unsigned version, struct object *old)
{
    struct object *object = make(name, version, 0);

    object_share_body(object, old);
    return object;
}

static void freshened_heads(void **state)
{
    /* A new head over a body on disk; once its extents are recycled it is a miss, also when the head itself is younger. */
    struct disk_options options = options_for(sub("a"));
    struct disk *disk;
    struct object *old, *object;
    struct streaming s = { 0 };

    (void)state;
    options.size = 24 * MIB;
    disk = open_with(&options);
    assert_int_equal(write_body(disk, "big", 1, 3000000, false), 0);
    old = get(disk, "big");
    object = freshened("big", 2, old);
    fill_up(disk, 8);
    disk_put_head(disk, at_named("big"), object);
    disk_settle(disk);
    object_unref(old);
    object_unref(object);
    object = get(disk, "big");
    assert_non_null(object);
    check_head(object, "big", 2);
    s.object = object;
    /* The bytes are those of the first version. */
    assert_true(stream_from(&s, disk, "big", 1, 0, 3000000) > 0);
    for (unsigned i = 0; i < 40 && has(disk, "big"); i++)
        fill_up(disk, 1);
    assert_false(has(disk, "big"));
    /* Offered once more by somebody who still holds it: refused. */
    disk_put_head(disk, at_named("big"), object);
    disk_settle(disk);
    assert_false(has(disk, "big"));
    object_unref(object);
    disk_close(disk);
    remove_folder(sub("a"));
}

static void waits_for_room(void **state)
{
    /* A queue that takes a megabyte: who writes faster waits; offers that do not fit are dropped and counted. */
    struct disk_options options = options_for(sub("a"));
    struct disk *disk;
    char name[16];

    (void)state;
    options.size = 128 * MIB;
    options.segment_size = 8 * MIB;
    options.queue_max = MIB;
    disk = open_with(&options);
    hold_writer = true;
    assert_int_equal(write_body(disk, "big", 1, 30000000, false), 0);
    hold_writer = false;
    assert_true(waits > 0);
    check_stream(disk, "big", 1, 0, 30000000);
    assert_int_equal(stats_of(disk).queued_bytes, 0);
    for (unsigned i = 0; i < 200; i++) {
        (void)snprintf(name, sizeof(name), "n%u", i);
        put(disk, name, 1, 500 * KIB);
        assert_true(stats_of(disk).queued_bytes <= options.queue_max + MIB);
    }
    disk_settle(disk);
    assert_int_equal(stats_of(disk).written + stats_of(disk).refused_full, 201);
    disk_close(disk);
    remove_folder(sub("a"));
}

static void used_bodies_stay(void **state)
{
    /* A body in extents that is read now and then moves along when its segments are recycled; one that nobody reads goes. */
    struct disk_options options = options_for(sub("a"));
    struct disk *disk;
    struct disk_stats stats;

    (void)state;
    options.size = 24 * MIB;
    options.segment_size = 2 * MIB;
    disk = open_with(&options);
    put(disk, "used", 1, 400 * KIB);
    put(disk, "unused", 1, 400 * KIB);
    disk_settle(disk);
    for (unsigned i = 0; i < 80; i++) {
        check_stream(disk, "used", 1, 0, 400 * KIB);
        fill_up(disk, 1);
    }
    assert_false(has(disk, "unused"));
    stats = stats_of(disk);
    assert_true(stats.reinserted >= 3 && stats.reinserted_bytes > 1200 * KIB);
    assert_int_equal(stats.corrupt, 0);
    disk_close(disk);
    disk = open_with(&options);
    check_stream(disk, "used", 1, 0, 400 * KIB);
    disk_close(disk);
    remove_folder(sub("a"));
}

static void drop_beats_a_commit(void **state)
{
    /* A body that was written while it arrived is dropped like any other. */
    struct disk *disk = open_large(false);

    (void)state;
    assert_int_equal(write_body(disk, "big", 1, 3000000, false), 0);
    disk_drop(disk, at_named("big"));
    assert_false(has(disk, "big"));
    disk_settle(disk);
    copy_folder(sub("a"), sub("b"));
    disk_close(disk);
    disk = open_at(sub("b"));
    assert_false(has(disk, "big"));
    disk_close(disk);
    remove_folder(sub("a"));
    remove_folder(sub("b"));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(streams_in_clear), T(streams_encrypted), T(recycled_under_a_stream), T(freshened_heads),
        T(slow_readers),     T(used_bodies_stay),  T(waits_for_room),          T(drop_beats_a_commit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
