#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/heap.h"

#define assert_buf(b, expected) assert_true(view_eq(buf_view(b), view_str(expected)))

static void test_append(void **state)
{
    /* Proves that everything appended is there, in order, across growth; and that consuming takes from the front. */
    struct buf b = buf_make(1 << 16);

    (void)state;
    buf_put(&b, VIEW_NONE);
    assert_null(b.ptr);
    buf_lit(&b, "a");
    buf_char(&b, '=');
    buf_u64(&b, UINT64_MAX);
    buf_i64(&b, INT64_MIN);
    buf_printf(&b, " %s-%d", "x", 7);
    assert_buf(&b, "a=18446744073709551615-9223372036854775808 x-7");
    buf_consume(&b, 2);
    buf_consume(&b, b.len - 3);
    assert_buf(&b, "x-7");
    for (unsigned i = 0; i < 1000; i++)
        buf_printf(&b, "%03u", i);
    assert_int_equal(b.len, 3003);
    assert_true(view_eq(view_skip(buf_view(&b), 3000), VIEW("999")));
    buf_consume(&b, 100000);
    assert_int_equal(b.len, 0);
    assert_false(b.failed);
    buf_free(&b);
    buf_lit(&b, "again");
    assert_buf(&b, "again");
    buf_free(&b);
}

static void test_limit(void **state)
{
    /* Proves the limit: exactly so many bytes, what does not fit is dropped whole, and failing stays said until it is freed. */
    struct buf b = buf_make(10);

    (void)state;
    buf_lit(&b, "12345");
    buf_lit(&b, "1234567");
    assert_true(b.failed);
    assert_buf(&b, "12345");
    assert_null(buf_room(&b, SIZE_MAX));
    buf_free(&b);
    assert_false(b.failed);
    assert_non_null(buf_room(&b, 10));
    buf_lit(&b, "0123456789");
    assert_false(b.failed);
    assert_null(buf_room(&b, 1));
    assert_true(b.failed);
    buf_free(&b);
}

static void test_room(void **state)
{
    /* Proves that room is only taken when it is said to be. */
    struct buf b = buf_make(100);
    char *to = buf_room(&b, 50);

    (void)state;
    assert_non_null(to);
    memcpy(to, "xyz", 3);
    assert_int_equal(b.len, 0);
    buf_took(&b, 3);
    assert_buf(&b, "xyz");
    buf_free(&b);
}

static void test_json(void **state)
{
    /* Proves strings: escapes, UTF-8 as it is, what is no UTF-8 replaced; also when every byte needs the longest escape. */
    struct buf b = buf_make(1 << 16);
    char controls[100];

    (void)state;
    buf_json(&b, VIEW("a\"b\\c\n\xc3\xa9\xff/"));
    assert_buf(&b, "\"a\\\"b\\\\c\\u000a\xc3\xa9\\ufffd/\"");
    b.len = 0;
    memset(controls, 1, sizeof(controls));
    buf_json(&b, view_make(controls, sizeof(controls)));
    assert_int_equal(b.len, 602);
    assert_false(b.failed);
    buf_free(&b);
    b = buf_make(20);
    buf_json(&b, view_make(controls, sizeof(controls)));
    assert_true(b.failed);
    assert_int_equal(b.len, 0);
    buf_free(&b);
}

static void test_no_memory(void **state)
{
    /* Proves that running out of memory loses what did not fit and nothing else. */
    struct buf b = buf_make(1 << 20);
    char kib[1024] = { 0 };

    (void)state;
    buf_lit(&b, "kept");
    heap_fault(1, 0);
    buf_put(&b, view_make(kib, sizeof(kib)));
    heap_fault(0, 0);
    assert_true(b.failed);
    assert_buf(&b, "kept");
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_append), cmocka_unit_test(test_limit),     cmocka_unit_test(test_room),
        cmocka_unit_test(test_json),   cmocka_unit_test(test_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
