/* Torn and rotten files: whatever is found is right, the rest is a miss. */
#include "store_disk_fixture.h"

#include "store/disk_record.h"

/* Opens a copy of "a" that `harm` was done to; the objects named must be right or missing. Returns how many are there. */
static unsigned open_harmed(const char *const *names, size_t count, size_t body)
{
    struct disk *disk = open_at(sub("harmed"));
    unsigned there = 0;

    assert_true(stats_of(disk).on);
    for (size_t i = 0; i < count; i++) {
        struct object *object = get(disk, names[i]);

        if (!object)
            continue;
        there++;
        check_head(object, names[i], 1);
        check_body(object, names[i], 1, body);
        object_unref(object);
    }
    put(disk, "new", 1, 10);
    disk_settle(disk);
    expect(disk, "new", 1, 10);
    disk_close(disk);
    remove_folder(sub("harmed"));
    return there;
}

/* Where the last record ends. */
static off_t end_of(const char *file)
{
    static char bytes[MIB];
    int fd = open(file, O_RDONLY);
    ssize_t n = read(fd, bytes, sizeof(bytes));

    close(fd);
    while (n > 0 && !bytes[n - 1])
        n--;
    return (n + RECORD_ALIGN - 1) & ~(ssize_t)(RECORD_ALIGN - 1);
}

static void torn_tail(void **state)
{
    /* The file ends anywhere in its last record: that one is missing, those before it are there. */
    static const char *const names[] = { "one", "two", "three" };
    struct disk *disk = open_at(sub("a"));
    off_t two, three;

    (void)state;
    put(disk, "one", 1, 300);
    put(disk, "two", 1, 300);
    disk_settle(disk);
    two = end_of(last_segment(sub("a")));
    put(disk, "three", 1, 300);
    disk_settle(disk);
    three = end_of(last_segment(sub("a")));
    copy_folder(sub("a"), sub("killed"));
    disk_close(disk);
    assert_true(three > two + 300);
    for (off_t at = two; at <= three + 20; at++) {
        unsigned there;

        copy_folder(sub("killed"), sub("harmed"));
        assert_int_equal(truncate(last_segment(sub("harmed")), at), 0);
        there = open_harmed(names, 3, 300);
        assert_int_equal(there, at >= three ? 3 : 2);
    }
    remove_folder(sub("a"));
    remove_folder(sub("killed"));
}

static void flip(const char *file, off_t at, unsigned char bits)
{
    unsigned char byte;
    int fd = open(file, O_RDWR);

    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= bits;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

/* Flips bits in a file all over; `there_min` of three objects survive each single flip. */
static void flip_all(const char *name, bool checkpoint, off_t begin, off_t end, off_t step, unsigned there_min)
{
    static const char *const names[] = { "one", "two", "three" };
    char from[128];

    (void)snprintf(from, sizeof(from), "%s/%s", home, name);
    for (off_t at = begin; at < end; at += step) {
        unsigned there;

        copy_folder(from, sub("harmed"));
        flip(checkpoint ? sub("harmed/checkpoint") : last_segment(sub("harmed")), at, (unsigned char)(1 << at % 8));
        there = open_harmed(names, 3, 300);
        assert_true(there >= there_min);
    }
}

static void rotten_bits(void **state)
{
    /* A bit is wrong in a record, in a footer, in a trailer, in the checkpoint, in a segment's header. */
    struct disk *disk = open_at(sub("a"));
    struct stat info;

    (void)state;
    put(disk, "one", 1, 300);
    put(disk, "two", 1, 300);
    put(disk, "three", 1, 300);
    disk_settle(disk);
    copy_folder(sub("a"), sub("killed"));
    disk_close(disk);
    assert_int_equal(stat(last_segment(sub("a")), &info), 0);
    /* Closed in order: index by the checkpoint; one record is lost at most. */
    flip_all("a", false, SEGMENT_HEAD, info.st_size, 17, 2);
    assert_int_equal(stat(sub("a/checkpoint"), &info), 0);
    flip_all("a", true, 0, info.st_size, 3, 3);
    flip_all("a", false, 0, SEGMENT_HEAD, 9, 0);
    /* Without a checkpoint, by the footer. */
    (void)unlink(sub("a/checkpoint"));
    assert_int_equal(stat(last_segment(sub("a")), &info), 0);
    flip_all("a", false, SEGMENT_HEAD, info.st_size, 17, 2);
    /* Killed: by walking the records. */
    flip_all("killed", false, SEGMENT_HEAD, end_of(last_segment(sub("killed"))), 17, 2);
    remove_folder(sub("a"));
    remove_folder(sub("killed"));
}

static void rot_while_open(void **state)
{
    /* A record that rots under us is a miss and forgotten, and what it had replaced does not come back at a restart. */
    struct disk *disk = open_at(sub("a"));
    off_t at;

    (void)state;
    put(disk, "one", 1, 300);
    disk_settle(disk);
    put(disk, "one", 2, 300);
    disk_settle(disk);
    at = end_of(last_segment(sub("a")));
    flip(last_segment(sub("a")), at - 40, 1);
    expect_miss(disk, "one");
    assert_int_equal(stats_of(disk).corrupt, 1);
    assert_false(has(disk, "one"));
    disk_settle(disk);
    copy_folder(sub("a"), sub("b"));
    disk_close(disk);
    disk = open_at(sub("b"));
    expect_miss(disk, "one");
    disk_close(disk);
    remove_folder(sub("a"));
    remove_folder(sub("b"));
}

static void lengths_have_classes(void **state)
{
    /* A class covers its lengths with at most an eighth to spare, and order is kept. */
    (void)state;
    for (uint64_t len = 1; len < (uint64_t)1 << 30; len += len / 50 + 1) {
        uint64_t covered = class_length(length_class(len));

        assert_true(covered >= len && covered <= len + len / 8 + 16);
        assert_true(length_class(len) <= length_class(len + 1));
        assert_int_equal(class_length(length_class(covered)), covered);
    }
}

static void bodies_do_not_pose(void **state)
{
    /* A body that holds what looks like a record is no record, even when the walk goes over it. */
    struct disk *disk = open_at(sub("a"));
    struct key key = key_named("victim");
    struct object *object = make("carrier", 1, 0);
    struct record record = { .type = RECORD_ENTRY, .payload_len = 100, .key = { key.hash[0], key.hash[1] } };
    char *at;
    size_t cap;

    (void)state;
    at = object_reserve(object, 4096, &cap);
    for (size_t i = 0; i + RECORD_HEAD <= cap; i += RECORD_HEAD)
        record_put(&record, at + i);
    object_commit(object, cap);
    object->complete_len = cap;
    disk_offer(disk, at_named("carrier"), object, DISK_PINNED);
    object_unref(object);
    disk_settle(disk);
    copy_folder(sub("a"), sub("harmed"));
    disk_close(disk);
    flip(last_segment(sub("harmed")), SEGMENT_HEAD + 1, 1);
    disk = open_at(sub("harmed"));
    assert_int_equal(stats_of(disk).objects, 0);
    disk_close(disk);
    remove_folder(sub("a"));
    remove_folder(sub("harmed"));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(torn_tail), T(rotten_bits), T(rot_while_open), T(bodies_do_not_pose), cmocka_unit_test(lengths_have_classes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
