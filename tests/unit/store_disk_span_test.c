/* What may leave by sendfile(): bytes that were verified, lie in clear and are in the page cache, and no others. */
#include "store_disk_fixture.h"

#include "store/disk_internal.h"

static struct disk *open_large(bool encrypted)
{
    static const uint8_t key[32] = "a key that is thirty-two bytes..";
    struct disk_options options = options_for(sub("a"));

    options.size = 64 * MIB;
    options.segment_size = 8 * MIB;
    options.max_object = 32 * MIB;
    options.key = encrypted ? key : NULL;
    return open_with(&options);
}

static struct task nobody;

/* Spans over the whole body: how many bytes they cover; each of them is what was stored. */
static uint64_t covered(struct disk *disk, struct object *object, const char *name, uint64_t len)
{
    struct disk_stream *stream;
    static char bytes[MIB];
    uint64_t sum = 0, seed = body_seed(name, 1);
    off_t at;
    int fd;

    assert_int_equal(disk_stream_open(disk, object, &nobody, &stream), 0);
    for (uint64_t offset = 0; offset < len;) {
        ssize_t n = disk_stream_span(stream, offset, sizeof(bytes), &fd, &at);

        assert_true(n >= 0 && (uint64_t)n <= len - offset);
        if (n == 0) {
            offset += 1000;
            continue;
        }
        assert_int_equal(pread(fd, bytes, (size_t)n, at), n);
        for (ssize_t i = 0; i < n; i++)
            if (bytes[i] != body_byte(seed, offset + (uint64_t)i))
                fail_msg("byte %zu is wrong", (size_t)offset + (size_t)i);
        sum += (uint64_t)n;
        offset += (uint64_t)n;
    }
    disk_stream_close(stream);
    return sum;
}

static void spans(bool encrypted)
{
    enum { LEN = 5 * MIB + 12345 };
    struct disk *disk = open_large(encrypted);
    struct streaming whole = { 0 }, part = { 0 };

    put(disk, "n", 1, LEN);
    disk_settle(disk);
    assert_true(stream_from(&part, disk, "n", 1, 100000, 200000) > 0);
    /* Only the blocks that were read: 1 to 3. */
    assert_int_equal(covered(disk, part.object, "n", LEN), encrypted ? 0 : 3 * BLOCK_SIZE - 464);
    object_unref(part.object);
    assert_true(stream_from(&whole, disk, "n", 1, 0, LEN) > 0);
    assert_int_equal(covered(disk, whole.object, "n", LEN), encrypted ? 0 : LEN);
    each_file(sub("a"), chill, NULL);
    assert_true(covered(disk, whole.object, "n", LEN) < LEN);
    object_unref(whole.object);
    disk_close(disk);
}

static void test_in_clear(void **state)
{
    /* Verified blocks can be sent from the file, all of them and only them; cold ones cannot. */
    (void)state;
    spans(false);
}

static void test_encrypted(void **state)
{
    /* Encrypted bodies never can. */
    (void)state;
    spans(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_in_clear, setup, teardown),
        cmocka_unit_test_setup_teardown(test_encrypted, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
