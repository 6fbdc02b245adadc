/* Objects: bodies that grow while they are read, shared bodies, trimming behind the slowest reader. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/object.h"

#include <string.h>
#include <sys/uio.h>

static struct object *make(size_t body_hint)
{
    struct key key = key_of(VIEW("6:public4:test"));
    struct object_parts parts = {
        .key = key.text, .url = VIEW("http://a/"), .head = VIEW("HTTP/1.1 200 OK\r\n"), .body_hint = body_hint
    };

    return object_new(&key, &parts);
}

static void append(struct object *object, char first, size_t len)
{
    for (size_t done = 0; done < len;) {
        size_t cap;
        char *memory = object_reserve(object, len - done, &cap);

        assert_non_null(memory);
        for (size_t i = 0; i < cap; i++)
            memory[i] = (char)(first + (char)((done + i) % 23));
        object_commit(object, cap);
        done += cap;
    }
}

static void reader_follows_growth(void **state)
{
    /* A reader that has caught up sees exactly what is appended later, across chunk borders, for every body size. */
    static const size_t sizes[] = { 1, 100, 16384, 16385, 70000, 300000 };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct object *object = make(i % 2 ? sizes[i] : 0);
        struct object_cursor cursor = { 0 };
        size_t seen = 0;

        assert_int_equal(object_peek(object, &cursor).len, 0);
        append(object, 'a', sizes[i]);
        for (struct view run; (run = object_peek(object, &cursor)).len; object_advance(object, &cursor, run.len)) {
            for (size_t k = 0; k < run.len; k++)
                assert_int_equal(run.ptr[k], 'a' + (int)((seen + k) % 23));
            seen += run.len;
        }
        assert_int_equal(seen, sizes[i]);
        append(object, 'A', 5);
        assert_int_equal(object_peek(object, &cursor).ptr[0], 'A');
        object_unref(object);
    }
}

static void seek_and_vector(void **state)
{
    /* A range is the same bytes wherever the cursor stood before. */
    struct object *object = make(0);
    struct object_cursor cursor = { 0 };
    struct iovec iov[8];
    int n;

    (void)state;
    append(object, 'a', 100000);
    object_seek(object, &cursor, 60000);
    assert_int_equal(object_peek(object, &cursor).ptr[0], 'a' + 60000 % 23);
    object_seek(object, &cursor, 10);
    n = object_peekv(object, &cursor, iov, 8, 40000);
    assert_true(n >= 2);
    size_t total = 0;
    for (int i = 0; i < n; i++)
        total += iov[i].iov_len;
    assert_int_equal(total, 40000);
    object_unref(object);
}

static void shared_body_outlives_its_first_head(void **state)
{
    /* A freshened head keeps the old body alive after the old object is gone. */
    struct object *old = make(0), *fresh = make(0);
    struct object_cursor cursor = { 0 };

    (void)state;
    append(old, 'a', 20000);
    object_share_body(fresh, old);
    object_unref(old);
    assert_int_equal(object_peek(fresh, &cursor).ptr[0], 'a');
    assert_int_equal(atomic_load(&fresh->body_len), 20000);
    object_unref(fresh);
}

static void trim_frees_only_what_was_passed(void **state)
{
    /* Trimming behind a reader leaves everything it has yet to read. */
    struct object *object = make(0);
    struct object_cursor cursor = { 0 };
    uint64_t at = 0, seen = 0;

    (void)state;
    atomic_fetch_or(&object->flags, OBJECT_TRANSIENT);
    for (int i = 0; i < 40; i++) {
        append(object, 'a', 10000);
        for (struct view run; (run = object_peek(object, &cursor)).len;) {
            size_t step = MIN(run.len, (size_t)3000);

            object_advance(object, &cursor, step);
            seen += step;
            object_trim(object, &at, seen);
        }
    }
    assert_int_equal(seen, 400000);
    assert_true(at > 300000);
    object_unref(object);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reader_follows_growth),
        cmocka_unit_test(seek_and_vector),
        cmocka_unit_test(shared_body_outlives_its_first_head),
        cmocka_unit_test(trim_frees_only_what_was_passed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
