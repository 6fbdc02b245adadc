/* The vector index: what is near is found, what is elsewhere is not, whatever was added and removed before, by every kernel alike. */
#include "ai/vectors.h"

#include "ai/vectors_kernel.h"
#include "ai/vectors_rotate.h"
#include "base/heap.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define DIMS 96
#define MANY 6000

static uint64_t state;
static float rows[MANY][DIMS];

static float uniform(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (float)(state >> 40) / 8388608.0f - 1;
}

static void direction(float *x, unsigned dims)
{
    float square = 0;

    for (unsigned i = 0; i < dims; i++) {
        x[i] = uniform() + uniform() + uniform();
        square += x[i] * x[i];
    }
    for (unsigned i = 0; i < dims; i++)
        x[i] /= sqrtf(square);
}

static void near(const float *x, float *ret, unsigned dims, float noise)
{
    float square = 0;

    for (unsigned i = 0; i < dims; i++) {
        ret[i] = x[i] + noise * uniform() / sqrtf((float)dims);
        square += ret[i] * ret[i];
    }
    for (unsigned i = 0; i < dims; i++)
        ret[i] /= sqrtf(square);
}

static float cosine(const float *a, const float *b, unsigned dims)
{
    float sum = 0;

    for (unsigned i = 0; i < dims; i++)
        sum += a[i] * b[i];
    return sum;
}

static int setup(void **unused)
{
    (void)unused;
    state = 88172645463325252u;
    for (unsigned i = 0; i < MANY; i++)
        direction(rows[i], DIMS);
    return 0;
}

static struct vectors *make(unsigned dims, uint32_t max)
{
    struct vectors *v = NULL;

    assert_int_equal(vectors_new(dims, max, &v), 0);
    assert_int_equal(vectors_dims(v), dims);
    return v;
}

/* The rotation keeps lengths and angles for every number of dimensions, and never changes: saved rows depend on it. */
static void test_rotation(void **unused)
{
    static const unsigned dims[] = { 8, 9, 100, 256, 384, 768, 1000 };
    float a[1000], b[1000], before, one[8] = { 1 };

    (void)unused;
    for (unsigned i = 0; i < ARRAY_LEN(dims); i++) {
        direction(a, dims[i]);
        direction(b, dims[i]);
        before = cosine(a, b, dims[i]);
        vectors_rotate(a, dims[i]);
        vectors_rotate(b, dims[i]);
        assert_float_equal(cosine(a, b, dims[i]), before, 1e-4f);
        assert_float_equal(cosine(a, a, dims[i]), 1, 1e-4f);
    }
    vectors_rotate(one, 8);
    for (unsigned i = 0; i < 8; i++)
        assert_float_equal(fabsf(one[i]), 0.35355339f, 1e-6f);
    direction(a, 100);
    for (unsigned i = 0; i < 100; i++)
        a[i] = i == 3 ? 1 : 0;
    vectors_rotate(a, 100);
    assert_float_equal(a[0], -0.0078125f, 1e-6f);
    assert_float_equal(a[99], -0.08789062f, 1e-6f);
}

/* All kernels of this machine give the same sums, masks and products. */
static void test_kernels(void **unused)
{
    static const char *const names[] = { "ssse3", "avx2", "avx512" };
    uint8_t codes[32 * 16], table[32 * 16];
    uint16_t right[VECTORS_GROUP], scores[VECTORS_GROUP];
    int8_t row[96];
    int16_t query[96];

    (void)unused;
    for (unsigned i = 0; i < sizeof(codes); i++) {
        codes[i] = (uint8_t)(uniform() * 128 + 128);
        table[i] = (uint8_t)(fabsf(uniform()) * VECTORS_TABLE_MAX);
    }
    for (unsigned i = 0; i < 96; i++) {
        row[i] = (int8_t)(uniform() * 127);
        query[i] = (int16_t)(uniform() * 4095);
    }
    for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
        const struct vectors_kernel *best, *portable;

        if (!vectors_use_kernel(names[i]))
            continue;
        best = vectors_kernel_get();
        assert_true(vectors_use_kernel("portable"));
        portable = vectors_kernel_get();
        assert_int_equal(best->dot(row, query, 96), portable->dot(row, query, 96));
        for (uint16_t threshold = 0; threshold < 1200; threshold = (uint16_t)(threshold + 7)) {
            uint32_t mask = portable->score(codes, table, 32, threshold, right);

            assert_int_equal(best->score(codes, table, 32, threshold, scores), mask);
            assert_memory_equal(scores, right, sizeof(right));
        }
    }
    assert_false(vectors_use_kernel("sse9"));
    assert_true(vectors_use_kernel(NULL));
}

/* An entry finds itself with similarity 1 and others in order, only in its partition and above the limit. */
static void test_search(void **unused)
{
    struct vectors *v = make(DIMS, 100);
    struct vectors_hit hits[8];
    float close[DIMS], closer[DIMS];

    (void)unused;
    assert_int_equal(vectors_search(v, rows[0], 1, -1, hits, 8), 0);
    near(rows[0], close, DIMS, 0.9f);
    near(rows[0], closer, DIMS, 0.3f);
    assert_int_equal(vectors_add(v, close, 1, 10), 0);
    assert_int_equal(vectors_add(v, rows[0], 1, 11), 0);
    assert_int_equal(vectors_add(v, closer, 1, 12), 0);
    assert_int_equal(vectors_add(v, rows[0], 2, 13), 0);
    assert_int_equal(vectors_add(v, rows[1], 1, 14), 0);
    assert_int_equal(vectors_search(v, rows[0], 1, 0.5f, hits, 8), 3);
    assert_int_equal(hits[0].id, 11);
    assert_int_equal(hits[1].id, 12);
    assert_int_equal(hits[2].id, 10);
    assert_float_equal(hits[0].similarity, 1, 1e-3f);
    assert_true(hits[0].similarity <= 1);
    assert_float_equal(hits[2].similarity, cosine(rows[0], close, DIMS), 3e-3f);
    assert_int_equal(vectors_search(v, rows[0], 1, 0.5f, hits, 2), 2);
    assert_int_equal(hits[1].id, 12);
    assert_int_equal(vectors_search(v, rows[0], 2, 0.999f, hits, 8), 1);
    assert_int_equal(hits[0].id, 13);
    assert_int_equal(vectors_search(v, rows[0], 3, -1, hits, 8), 0);
    assert_int_equal(vectors_search(v, rows[0], 1, -1, hits, 0), 0);
    vectors_free(v);
    vectors_free(NULL);
}

/* What is no direction, is in already or is too much is refused and changes nothing. */
static void test_refusals(void **unused)
{
    float zero[DIMS] = { 0 }, odd[DIMS] = { NAN }, far[DIMS] = { INFINITY };
    struct vectors *v = NULL;
    struct vectors_hit hit;
    int8_t row[DIMS] = { 0 };

    (void)unused;
    assert_int_equal(vectors_new(VECTORS_DIMS_MIN - 1, 10, &v), -EINVAL);
    assert_int_equal(vectors_new(VECTORS_DIMS_MAX + 1, 10, &v), -EINVAL);
    v = make(DIMS, 2);
    assert_int_equal(vectors_add(v, zero, 1, 1), -EINVAL);
    assert_int_equal(vectors_add(v, odd, 1, 1), -EINVAL);
    assert_int_equal(vectors_add(v, far, 1, 1), -EINVAL);
    assert_int_equal(vectors_restore(v, row, 1, 1), -EINVAL);
    assert_int_equal(vectors_add(v, rows[0], 1, 1), 0);
    assert_int_equal(vectors_add(v, rows[1], 1, 1), -EEXIST);
    assert_int_equal(vectors_add(v, rows[1], 1, 2), 0);
    assert_int_equal(vectors_add(v, rows[2], 1, 3), -ENOSPC);
    assert_int_equal(vectors_search(v, odd, 1, -1, &hit, 1), 0);
    assert_int_equal(vectors_count(v), 2);
    assert_false(vectors_remove(v, 3));
    assert_true(vectors_remove(v, 1));
    assert_int_equal(vectors_add(v, rows[2], 1, 3), 0);
    vectors_free(v);
}

/* In an index so large that the bits choose, every noisy copy finds its original, by each kernel. */
static void test_recall(void **unused)
{
    static const char *const names[] = { "portable", "ssse3", "avx2", "avx512" };
    struct vectors *v = make(DIMS, MANY);
    struct vectors_hit hit;
    float query[DIMS];

    (void)unused;
    for (unsigned i = 0; i < MANY; i++)
        assert_int_equal(vectors_add(v, rows[i], i % 3, i), 0);
    for (unsigned k = 0; k < ARRAY_LEN(names); k++) {
        if (!vectors_use_kernel(names[k]))
            continue;
        for (unsigned i = 0; i < MANY; i += 97) {
            near(rows[i], query, DIMS, 0.5f);
            assert_int_equal(vectors_search(v, query, i % 3, 0.9f, &hit, 1), 1);
            assert_int_equal(hit.id, i);
            assert_int_equal(vectors_search(v, query, i % 3, -1, &hit, 1), 1);
            assert_int_equal(hit.id, i);
            assert_float_equal(hit.similarity, cosine(query, rows[i], DIMS), 3e-3f);
            assert_int_equal(vectors_search(v, query, (i + 1) % 3, 0.9f, &hit, 1), 0);
        }
    }
    assert_true(vectors_use_kernel(NULL));
    vectors_free(v);
}

/* After any mix of adding and removing, exactly what should be in is in and is found; memory follows. */
static void test_churn(void **unused)
{
    struct vectors *v = make(DIMS, MANY);
    static bool in[MANY];
    struct vectors_hit hit;
    unsigned count = 0;
    size_t full;

    (void)unused;
    for (unsigned turn = 0; turn < 40000; turn++) {
        unsigned i = (unsigned)(fabsf(uniform()) * (MANY - 1)), likely_in = turn < 25000 ? 7 : 1;

        if (in[i] && turn % 8 >= likely_in) {
            assert_true(vectors_remove(v, i * UINT64_C(0x100000001)));
            in[i] = false;
            count--;
        } else if (!in[i] && turn % 8 < likely_in) {
            assert_int_equal(vectors_add(v, rows[i], 5, i * UINT64_C(0x100000001)), 0);
            in[i] = true;
            count++;
        }
        assert_int_equal(vectors_count(v), count);
    }
    for (unsigned i = 0; i < MANY; i++) {
        assert_int_equal(vectors_has(v, i * UINT64_C(0x100000001)), in[i]);
        assert_int_equal(vectors_search(v, rows[i], 5, 0.99f, &hit, 1), in[i]);
        if (in[i])
            assert_int_equal(hit.id, i * UINT64_C(0x100000001));
    }
    full = vectors_bytes(v);
    for (unsigned i = 0; i < MANY; i++)
        vectors_remove(v, i * UINT64_C(0x100000001));
    assert_int_equal(vectors_count(v), 0);
    assert_true(vectors_bytes(v) < full);
    vectors_free(v);
}

struct copy {
    struct vectors *to;
    unsigned count;
};

static bool copy_one(uint64_t id, uint32_t partition, const int8_t *row, void *arg)
{
    struct copy *copy = arg;

    assert_int_equal(vectors_restore(copy->to, row, partition, id), 0);
    return ++copy->count < 3;
}

/* A row that was saved and restored is the same entry; a walk visits all and can be stopped. */
static void test_save_and_restore(void **unused)
{
    struct vectors *a = make(DIMS, 10), *b = make(DIMS, 10);
    struct copy copy = { b, 0 };
    struct vectors_hit hits[2][5];
    int8_t row[DIMS];

    (void)unused;
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(vectors_add(a, rows[i], 3, 100 + i), 0);
    vectors_each(a, copy_one, &copy);
    assert_int_equal(vectors_count(b), 3);
    assert_false(vectors_save(a, 99, row));
    assert_true(vectors_save(a, 103, row));
    assert_int_equal(vectors_restore(b, row, 3, 103), 0);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(vectors_search(a, rows[i], 3, -1, hits[0], 5), 4);
        assert_int_equal(vectors_search(b, rows[i], 3, -1, hits[1], 5), 4);
        for (unsigned k = 0; k < 4; k++) {
            assert_int_equal(hits[0][k].id, hits[1][k].id);
            assert_true(hits[0][k].similarity == hits[1][k].similarity);
        }
    }
    vectors_free(a);
    vectors_free(b);
}

/* More equals than candidates are kept: some are found, and it ends. */
static void test_all_the_same(void **unused)
{
    struct vectors *v = make(DIMS, MANY);
    struct vectors_hit hits[3];

    (void)unused;
    for (unsigned i = 0; i < MANY; i++)
        assert_int_equal(vectors_add(v, rows[0], 1, i), 0);
    assert_int_equal(vectors_search(v, rows[0], 1, -1, hits, 3), 3);
    assert_int_equal(vectors_search(v, rows[0], 1, 0.99f, hits, 3), 3);
    assert_float_equal(hits[2].similarity, 1, 1e-3f);
    vectors_free(v);
}

/* Whichever allocation fails, the index says so and stays as it was. */
static void test_out_of_memory(void **unused)
{
    struct vectors *v;
    struct vectors_hit hit;

    (void)unused;
    for (unsigned long nth = 1; nth <= 2; nth++) {
        v = NULL;
        heap_fault(nth, 0);
        assert_int_equal(vectors_new(DIMS, 10, &v), -ENOMEM);
        heap_fault(0, 0);
        assert_null(v);
    }
    for (unsigned long nth = 1; nth <= 3; nth++) {
        v = make(DIMS, 10);
        heap_fault(nth, 0);
        assert_int_equal(vectors_add(v, rows[0], 1, 1), -ENOMEM);
        heap_fault(0, 0);
        assert_int_equal(vectors_count(v), 0);
        assert_false(vectors_has(v, 1));
        assert_int_equal(vectors_add(v, rows[0], 1, 1), 0);
        assert_int_equal(vectors_search(v, rows[0], 1, 0.9f, &hit, 1), 1);
        vectors_free(v);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rotation),         cmocka_unit_test(test_kernels),
        cmocka_unit_test(test_search),           cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_recall),           cmocka_unit_test(test_churn),
        cmocka_unit_test(test_save_and_restore), cmocka_unit_test(test_all_the_same),
        cmocka_unit_test(test_out_of_memory),
    };

    return cmocka_run_group_tests(tests, setup, NULL);
}
