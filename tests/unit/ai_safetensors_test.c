/* Safetensors: every number type is read as what it means, and a header that lies is refused. */
#include "ai/safetensors.h"

#include "base/heap.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static char memory[4096];
static char why[256];
static struct text reason;

/* A file with this header and these data. */
static struct view file_of(struct view header, const void *data, size_t len)
{
    struct text text = TEXT_ON(memory);

    for (unsigned i = 0; i < 8; i++)
        text_char(&text, (char)((uint64_t)header.len >> (8 * i) & 255));
    text_put(&text, header);
    text_put(&text, view_make(data, len));
    assert_false(text.overflow);
    reason = TEXT_ON(why);
    return text_view(&text);
}

static int find(struct view header, const void *data, size_t len, struct safetensors_tensor *ret)
{
    return safetensors_find(file_of(header, data, len), VIEW("x"), ret, &reason);
}

/* Each type gives its values, rows add up with their weight, and the tensor need not be aligned. */
static void test_types(void **unused)
{
    static const float singles[] = { 1, -2, 0.5f, 3, 4, 5, 6, 7, 8, 9, -10, 11 };
    static const double doubles[] = { 0.25, -1e300 };
    static const uint16_t halves[] = { 0x3c00, 0xc000, 0x0001, 0x7bff, 0x8000, 0x3555, 0xfc00, 0x7e00 };
    static const uint16_t brains[] = { 0x3f80, 0xc000, 0x4049 };
    static const int64_t wide[] = { 5, -6 };
    static const int32_t words[] = { 7, -8 };
    static const int8_t bytes[] = { 127, -128, 3 };
    struct safetensors_tensor t;
    float sum[10] = { 0 };

    (void)unused;
    assert_int_equal(
        find(VIEW("{\"x\":{\"dtype\":\"F32\",\"shape\":[1,10],\"data_offsets\":[8,48]} }"), singles, 48, &t), 0);
    assert_int_equal(t.rows, 1);
    assert_int_equal(t.cols, 10);
    safetensors_add_row(&t, 0, 2, sum);
    safetensors_add_row(&t, 0, 1, sum);
    for (unsigned i = 0; i < 10; i++)
        assert_float_equal(sum[i], 3 * singles[i + 2], 0);
    assert_int_equal(find(VIEW("{\"x\":{\"dtype\":\"F64\",\"shape\":[2],\"data_offsets\":[0,16]}}"), doubles, 16, &t),
                     0);
    assert_int_equal(t.rows, 2);
    assert_int_equal(t.cols, 1);
    assert_true(safetensors_number(&t, 1, 0) == -1e300);
    assert_int_equal(find(VIEW("{\"x\":{\"dtype\":\"F16\",\"shape\":[8],\"data_offsets\":[0,16]}}"), halves, 16, &t),
                     0);
    assert_true(safetensors_number(&t, 0, 0) == 1);
    assert_true(safetensors_number(&t, 1, 0) == -2);
    assert_true(safetensors_number(&t, 2, 0) == 0x1p-24);
    assert_true(safetensors_number(&t, 3, 0) == 65504);
    assert_true(safetensors_number(&t, 4, 0) == 0);
    assert_float_equal((float)safetensors_number(&t, 5, 0), 0.33325f, 1e-4f);
    assert_true(safetensors_number(&t, 6, 0) < -1e300);
    assert_true(isnan(safetensors_number(&t, 7, 0)));
    assert_int_equal(find(VIEW("{\"x\":{\"dtype\":\"BF16\",\"shape\":[3,1],\"data_offsets\":[0,6]}}"), brains, 6, &t),
                     0);
    assert_true(safetensors_number(&t, 1, 0) == -2);
    assert_float_equal((float)safetensors_number(&t, 2, 0), 3.140625f, 0);
    assert_int_equal(find(VIEW("{\"x\":{\"dtype\":\"I64\",\"shape\":[2],\"data_offsets\":[0,16]}}"), wide, 16, &t), 0);
    assert_true(safetensors_number(&t, 1, 0) == -6);
    assert_int_equal(find(VIEW("{\"x\":{\"dtype\":\"I32\",\"shape\":[2],\"data_offsets\":[0,8]}}"), words, 8, &t), 0);
    assert_true(safetensors_number(&t, 1, 0) == -8);
    assert_int_equal(find(VIEW("{\"x\":{\"dtype\":\"I8\",\"shape\":[1,3],\"data_offsets\":[0,3]}}"), bytes, 3, &t), 0);
    memset(sum, 0, sizeof(sum));
    safetensors_add_row(&t, 0, 1, sum);
    assert_true(sum[0] == 127 && sum[1] == -128 && sum[2] == 3);
}

/* A half row of eight columns goes the fast way and gives the same. */
static void test_fast_way(void **unused)
{
    static const uint16_t halves[16] = { 0x3c00, 0xc000, 0x0001, 0x7bff, 0x8000, 0x3555, 0x4200, 0x4400,
                                         0x3f80, 0x4049, 0x4000, 0x4100, 0x4200, 0xc300, 0x4400, 0x4500 };
    struct safetensors_tensor t;
    float sum[8];

    (void)unused;
    for (unsigned type = 0; type < 2; type++) {
        assert_int_equal(find(type ? VIEW("{\"x\":{\"dtype\":\"BF16\",\"shape\":[2,8],\"data_offsets\":[0,32]}}")
                                   : VIEW("{\"x\":{\"dtype\":\"F16\",\"shape\":[2,8],\"data_offsets\":[0,32]}}"),
                              halves, 32, &t),
                         0);
        for (uint64_t row = 0; row < 2; row++) {
            memset(sum, 0, sizeof(sum));
            safetensors_add_row(&t, row, 1, sum);
            for (uint64_t i = 0; i < 8; i++)
                assert_true((double)sum[i] == safetensors_number(&t, row, i));
        }
    }
}

/* Headers that are cut, no JSON, or say what is not so. */
static void test_lies(void **unused)
{
    static const struct {
        struct view header;
        int error;
    } cases[] = {
        { { "{\"y\":{}}", 8 }, -ENOENT },
        { { "{\"x\":3}", 7 }, -ENOENT },
        { { "[]", 2 }, -EINVAL },
        { { "{\"x\":", 5 }, -EINVAL },
        { { "{\"x\":{}}", 8 }, -EINVAL },
#define CASE(literal, error) { { literal, sizeof(literal) - 1 }, error }
        CASE("{\"x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,12]}}", -EINVAL),
        CASE("{\"x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}", -EINVAL),
        CASE("{\"x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,8]}}", -EINVAL),
        CASE("{\"x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[-4,4]}}", -EINVAL),
        CASE("{\"x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8,9]}}", -EINVAL),
        CASE("{\"x\":{\"dtype\":\"F32\",\"shape\":[4611686018427387906],\"data_offsets\":[0,8]}}", -EINVAL),
        CASE("{\"x\":{\"dtype\":\"F32\",\"shape\":[9223372036854775808,2],\"data_offsets\":[0,8]}}", -EINVAL),
        CASE("{\"x\":{\"dtype\":\"F32\",\"shape\":[\"2\"],\"data_offsets\":[0,8]}}", -EINVAL),
        CASE("{\"x\":{\"dtype\":\"F32\",\"shape\":[2,1,1],\"data_offsets\":[0,8]}}", -ENOTSUP),
        CASE("{\"x\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}", -ENOTSUP),
        CASE("{\"x\":{\"dtype\":\"C64\",\"shape\":[1],\"data_offsets\":[0,8]}}", -ENOTSUP),
    };
    struct safetensors_tensor t;
    struct view file;

    (void)unused;
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++)
        assert_int_equal(find(cases[i].header, "12345678", 8, &t), cases[i].error);
    assert_true(reason.len > 0);
    assert_int_equal(safetensors_find(VIEW_NONE, VIEW("x"), &t, &reason), -EINVAL);
    file = file_of(VIEW("{\"x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}"), "12345678", 8);
    assert_int_equal(safetensors_find(file, VIEW("x"), &t, &reason), 0);
    for (size_t len = 0; len < file.len; len++)
        assert_int_equal(safetensors_find(view_first(file, len), VIEW("x"), &t, &reason), -EINVAL);
    memset(memory, 0xff, 8);
    assert_int_equal(safetensors_find(file, VIEW("x"), &t, &reason), -EINVAL);
}

/* Without memory for the header it says so. */
static void test_out_of_memory(void **unused)
{
    struct safetensors_tensor t;
    struct view header = VIEW("{\"x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}");

    (void)unused;
    heap_fault(1, 0);
    assert_int_equal(find(header, "12345678", 8, &t), -ENOMEM);
    heap_fault(0, 0);
    assert_int_equal(find(header, "12345678", 8, &t), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_fast_way),
        cmocka_unit_test(test_lies),
        cmocka_unit_test(test_out_of_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
