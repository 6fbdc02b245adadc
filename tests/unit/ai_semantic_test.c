/* The semantic index: who is found by whom, bounds, learning from verdicts, and files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ai/semantic.h"
#include "ai/semantic_learn.h"
#include "base/heap.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define DIMS 64

/* A unit vector of its own for each `seed`, turned by `angle` towards another. */
static void vector(float *out, unsigned seed, float angle)
{
    float length = 0;

    for (unsigned i = 0; i < DIMS; i++) {
        uint32_t x = (seed * 2654435761u) ^ (i * 40503u + 12345u);

        x ^= x >> 15;
        x *= 2246822519u;
        x ^= x >> 13;
        x *= 3266489917u;
        x ^= x >> 16;
        out[i] = (float)(int32_t)x;
        length += out[i] * out[i];
    }
    length = sqrtf(length);
    for (unsigned i = 0; i < DIMS; i++)
        out[i] /= length;
    if (angle > 0) {
        float other[DIMS], dot = 0, norm = 0;

        vector(other, seed + 77777, 0);
        for (unsigned i = 0; i < DIMS; i++)
            dot += other[i] * out[i];
        for (unsigned i = 0; i < DIMS; i++) {
            other[i] -= dot * out[i];
            norm += other[i] * other[i];
        }
        for (unsigned i = 0; i < DIMS; i++)
            out[i] = out[i] * cosf(angle) + other[i] / sqrtf(norm) * sinf(angle);
    }
}

static struct semantic *make(const struct semantic_options *options)
{
    static const struct semantic_options none;
    struct semantic *s;

    assert_int_equal(semantic_new(options ? options : &none, &s), 0);
    return s;
}

static struct semantic_query query(const char *scope, const char *text, const float *v)
{
    return (struct semantic_query){
        .partition = { 1, 2, 3 }, .scope = view_str(scope), .text = view_str(text), .vector = v, .dims = DIMS
    };
}

static void finds(void **state)
{
    /* A near vector in the same scope and partition whose words agree is a hit; any of these missing, it is none. */
    struct semantic *s = make(NULL);
    struct semantic_match match;
    struct semantic_report report;
    float v[DIMS], near[DIMS], far[DIMS];
    struct semantic_query q;

    (void)state;
    vector(v, 1, 0);
    vector(near, 1, 0.1f); /* cosine 0.995 */
    vector(far, 1, 0.5f);  /* 0.88 */
    q = query("a", "How do I delete my account?", v);
    assert_int_equal(semantic_lookup(s, &q, &match), 0);
    assert_int_equal(semantic_add(s, &q, VIEW("key-1")), 0);
    q = query("a", "How can I delete my account?", near);
    assert_int_equal(semantic_lookup(s, &q, &match), 1);
    assert_true(view_eq(semantic_key(&match), VIEW("key-1")) && match.similarity > 0.99f &&
                match.level == SEMANTIC_EMBEDDING);
    q.threshold = 0.999f;
    assert_int_equal(semantic_lookup(s, &q, &match), 0);
    q.threshold = 0.5f; /* a caller cannot lower it */
    q.vector = far;
    assert_int_equal(semantic_lookup(s, &q, &match), 0);
    q.vector = near;
    q.partition[15] = 1; /* behind the 32 bits that the index looks at */
    assert_int_equal(semantic_lookup(s, &q, &match), 0);
    q = query("b", "How can I delete my account?", near);
    assert_int_equal(semantic_lookup(s, &q, &match), 0);
    q = query("a", "How can I delete your account?", near);
    assert_int_equal(semantic_lookup(s, &q, &match), 0);
    q.dims = 8;
    assert_int_equal(semantic_lookup(s, &q, &match), 0);
    semantic_report(s, &report);
    assert_true(report.level[SEMANTIC_EMBEDDING].lookups == 8 && report.refused_by_guards == 1 && report.entries == 1);
    semantic_free(s);
}

static void forgets(void **state)
{
    /* What is forgotten by key, by scope or by being replaced is not found any more. */
    struct semantic *s = make(NULL);
    struct semantic_match match;
    struct semantic_report report;
    float v[DIMS];
    struct semantic_query q, other;

    (void)state;
    vector(v, 2, 0);
    q = query("a", "What is tea?", v);
    other = query("b", "What is tea?", v);
    assert_int_equal(semantic_add(s, &q, VIEW("k")), 0);
    assert_int_equal(semantic_add(s, &q, VIEW("k")), 0);
    assert_int_equal(semantic_add(s, &other, VIEW("l")), 0);
    semantic_report(s, &report);
    assert_true(report.entries == 2 && report.scopes == 2);
    assert_false(semantic_forget(s, VIEW("b"), VIEW("k")));
    assert_true(semantic_forget(s, VIEW_NONE, VIEW("k")));
    assert_int_equal(semantic_lookup(s, &q, &match), 0);
    assert_int_equal(semantic_lookup(s, &other, &match), 1);
    semantic_forget_scope(s, VIEW("b"));
    assert_int_equal(semantic_lookup(s, &other, &match), 0);
    semantic_report(s, &report);
    assert_true(report.entries == 0 && report.scopes == 1 && report.bytes == 0);
    semantic_free(s);
}

static void bounded(void **state)
{
    /* Entries and bytes of a scope, and scopes, never exceed their bounds; the oldest make way. */
    struct semantic_options options = { .entries_max = 100, .scopes_max = 4 };
    struct semantic *s = make(&options);
    struct semantic_report report;
    struct semantic_match match;
    float v[DIMS];
    char name[32];
    struct semantic_query q;

    (void)state;
    for (unsigned i = 0; i < 250; i++) {
        vector(v, i, 0);
        (void)snprintf(name, sizeof(name), "key-%u", i);
        q = query("a", "What is tea?", v);
        assert_int_equal(semantic_add(s, &q, view_str(name)), 0);
    }
    semantic_report(s, &report);
    assert_true(report.entries == 100 && report.evicted == 150);
    vector(v, 249, 0);
    assert_int_equal(semantic_lookup(s, &q, &match), 1);
    vector(v, 10, 0);
    assert_int_equal(semantic_lookup(s, &q, &match), 0);
    for (unsigned i = 0; i < 200; i++) {
        (void)snprintf(name, sizeof(name), "scope-%u", i);
        q = query(name, "What is tea?", v);
        assert_int_equal(semantic_add(s, &q, VIEW("k")), 0);
    }
    semantic_report(s, &report);
    assert_true(report.scopes <= 4 + 8);
    semantic_free(s);

    options = (struct semantic_options){ .bytes_max = 2000 };
    s = make(&options);
    for (unsigned i = 0; i < 50; i++) {
        vector(v, i, 0);
        (void)snprintf(name, sizeof(name), "key-%u", i);
        q = query("a", "What is tea?", v);
        assert_int_equal(semantic_add(s, &q, view_str(name)), 0);
        semantic_report(s, &report);
        assert_true(report.bytes <= 2000 && report.entries > 0);
    }
    semantic_free(s);
}

static void refuses(void **state)
{
    /* Options out of range, long keys and texts, and vectors that are none are refused. */
    static char big[SEMANTIC_TEXT_MAX + 2];
    struct semantic_options options = { .threshold = 0.5f };
    struct semantic *s;
    float v[DIMS] = { 0 };
    struct semantic_query q = query("a", "What is tea?", v);

    (void)state;
    assert_int_equal(semantic_new(&options, &s), -EINVAL);
    s = make(NULL);
    assert_int_equal(semantic_add(s, &q, VIEW("k")), -EINVAL);
    vector(v, 1, 0);
    memset(big, 'a', sizeof(big) - 1);
    assert_int_equal(semantic_add(s, &q, view_make(big, SEMANTIC_KEY_MAX + 1)), -E2BIG);
    assert_int_equal(semantic_add(s, &q, VIEW("")), -EINVAL);
    q.text = view_str(big);
    assert_int_equal(semantic_add(s, &q, VIEW("k")), -E2BIG);
    q = query("", "What is tea?", v);
    assert_int_equal(semantic_add(s, &q, VIEW("k")), -EINVAL);
    semantic_free(s);
}

static void learns(void **state)
{
    /* A wrong verdict raises the threshold above its similarity, at once; many right ones bring it back, never below the configured one. */
    struct semantic *s = make(NULL);
    struct semantic_match match, low;
    struct semantic_report report;
    struct learned l = { .right = { 0 } };
    float v[DIMS], near[DIMS];
    struct semantic_query q;

    (void)state;
    assert_true(learned_threshold(&l, 0.95f, 0.01) == 0.95f);
    learned_add(&l, 0.962f, false);
    assert_true(learned_threshold(&l, 0.95f, 0.01) > 0.962f && learned_threshold(&l, 0.95f, 0.01) < 0.966f);
    for (unsigned i = 0; i < 150; i++)
        learned_add(&l, 0.97f, true);
    assert_true(learned_threshold(&l, 0.95f, 0.01) == 0.95f);
    learned_add(&l, 0.9999f, false);
    learned_add(&l, 0.9999f, false);
    assert_true(learned_threshold(&l, 0.95f, 0.01) > 1);

    vector(v, 3, 0);
    vector(near, 3, 0.25f); /* 0.969 */
    q = query("a", "How do I delete my account?", v);
    assert_int_equal(semantic_add(s, &q, VIEW("k")), 0);
    q = query("a", "How can I delete my account?", near);
    assert_int_equal(semantic_lookup(s, &q, &low), 1);
    semantic_count(s, SEMANTIC_EMBEDDING, SEMANTIC_HIT);
    semantic_feedback(s, &low, false);
    assert_int_equal(semantic_lookup(s, &q, &match), 0);
    q.vector = v;
    assert_int_equal(semantic_lookup(s, &q, &match), 1);
    for (unsigned i = 0; i < 150; i++)
        semantic_feedback(s, &match, true);
    q.vector = near;
    assert_int_equal(semantic_lookup(s, &q, &match), 1);
    match.level = SEMANTIC_CANONICAL;
    semantic_feedback(s, &match, true);
    semantic_report(s, &report);
    assert_true(report.level[1].verified == 151 && report.level[1].wrong == 1 && report.level[1].hits == 1);
    assert_true(report.level[1].low > 0 && report.level[1].low < 1.0 / 151 && report.level[1].high > 0.02 &&
                report.level[1].high < 0.05);
    assert_true(report.level[0].verified == 1 && report.level[0].false_hit_rate == 0 &&
                report.refused_by_threshold == 1);
    semantic_free(s);
}

static void agrees(void **state)
{
    /* Answers that say the same in other words agree; another number, a yes for a no, or other content do not. */
    (void)state;
    assert_true(semantic_agree(VIEW("Paris."), VIEW("The capital of France is Paris.")));
    assert_true(
        semantic_agree(VIEW("Water boils at 100 degrees."), VIEW("At sea level water boils at 100 degrees celsius.")));
    assert_true(semantic_agree(VIEW("Yes, it is safe."), VIEW("yes it is perfectly safe")));
    assert_true(semantic_agree(VIEW("1,000"), VIEW("It is 1000.")));
    assert_false(semantic_agree(VIEW("Yes."), VIEW("No.")));
    assert_false(semantic_agree(VIEW("It is 42."), VIEW("It is 43.")));
    assert_false(semantic_agree(VIEW("Paris."), VIEW("The capital of Italy is Rome.")));
    assert_false(semantic_agree(VIEW("It is safe to eat."), VIEW("It is not safe to eat.")));
    assert_false(semantic_agree(VIEW(""), VIEW("Rome")));
}

static char path[64];

static void put_file(const char *bytes, size_t len)
{
    FILE *file = fopen(path, "we");

    assert_non_null(file);
    assert_true(fwrite(bytes, 1, len, file) == len);
    assert_int_equal(fclose(file), 0);
}

static void files(void **state)
{
    /* What was saved is found after loading; one flipped byte costs one record, a cut file its end, garbage everything, and each is said. */
    struct semantic *s = make(NULL), *t = make(NULL);
    struct semantic_match match;
    float v[DIMS];
    char name[32], bytes[8192];
    struct semantic_query q;
    uint32_t bad;
    FILE *file;
    size_t len;

    (void)state;
    (void)snprintf(path, sizeof(path), "/tmp/doorstep-semantic-%d", (int)getpid());
    assert_int_equal(semantic_load(t, path, "m", 1, &bad), -ENOENT);
    for (unsigned i = 0; i < 10; i++) {
        vector(v, i, 0);
        (void)snprintf(name, sizeof(name), "key-%u", i);
        q = query("a", "What is tea?", v);
        assert_int_equal(semantic_add(s, &q, view_str(name)), 0);
    }
    assert_int_equal(semantic_save(s, path, "m"), 0);
    assert_int_equal(semantic_load(t, path, "m", 1, &bad), 10);
    assert_int_equal(bad, 0);
    assert_int_equal(semantic_lookup(t, &q, &match), 1);
    assert_true(view_eq(semantic_key(&match), VIEW("key-9")));
    semantic_forget_scope(t, VIEW_NONE);

    file = fopen(path, "re");
    assert_non_null(file);
    len = fread(bytes, 1, sizeof(bytes), file);
    (void)fclose(file);
    assert_true(len > 1000 && len < sizeof(bytes));
    bytes[len / 2] = (char)(bytes[len / 2] ^ 1);
    put_file(bytes, len);
    assert_int_equal(semantic_load(t, path, "m", 1, &bad), 9);
    assert_int_equal(bad, 1);
    semantic_forget_scope(t, VIEW_NONE);
    put_file(bytes, len - 3);
    assert_int_equal(semantic_load(t, path, "m", 1, &bad), 8);
    assert_int_equal(bad, 2);
    memset(bytes, 'x', len);
    put_file(bytes, len);
    assert_int_equal(semantic_load(t, path, "m", 1, &bad), -EINVAL);
    (void)unlink(path);
    semantic_free(s);
    semantic_free(t);
}

static bool is_even(void *arg, struct view key)
{
    ++*(unsigned *)arg;
    return (key.ptr[key.len - 1] - '0') % 2 == 0;
}

static void sweeps(void **state)
{
    /* A sweep visits every entry of every scope once, also of large ones, and takes what expired and what lives no more; a file has all
     * others, once each, and none of another model or too old. */
    struct semantic *s = make(NULL), *t = make(NULL);
    struct semantic_report report;
    unsigned asked = 0;
    char name[32], scope[8];
    float v[DIMS];
    uint32_t bad;

    (void)state;
    (void)snprintf(path, sizeof(path), "/tmp/doorstep-semantic-%d", (int)getpid());
    for (unsigned i = 0; i < 3000; i++) {
        struct semantic_query q;

        vector(v, i, 0);
        (void)snprintf(name, sizeof(name), "key-%u", i);
        (void)snprintf(scope, sizeof(scope), "s%u", i < 1500 ? 0 : i % 20);
        q = query(scope, "What is tea?", v);
        q.expires_ms = i < 10 ? 1000 : i < 20 ? 3000 : 0;
        assert_int_equal(semantic_add(s, &q, view_str(name)), 0);
    }
    assert_int_equal(semantic_save(s, path, "m"), 0);
    assert_int_equal(semantic_load(t, path, "m", 0, &bad), 3000);
    assert_int_equal(semantic_load(t, path, "m", 2000, &bad), 2990);
    assert_int_equal(semantic_load(t, path, "n", 0, &bad), -ESTALE);
    assert_int_equal(semantic_load(t, path, "", 0, &bad), -ESTALE);
    assert_int_equal(semantic_sweep(s, 2000, is_even, &asked), 10 + 1495);
    assert_int_equal(asked, 2990);
    semantic_report(s, &report);
    assert_int_equal(report.entries, 1495);
    (void)unlink(path);
    semantic_free(s);
    semantic_free(t);
}

static void *hammer(void *arg)
{
    struct semantic *s = arg;
    struct semantic_match match;
    unsigned asked = 0;
    float v[DIMS];
    char name[32];

    for (unsigned i = 0; i < 500; i++) {
        struct semantic_query q = query(i % 3 ? "a" : "b", "What is tea?", v);

        vector(v, i % 50, 0);
        (void)snprintf(name, sizeof(name), "key-%u", i % 50);
        assert_int_equal(semantic_add(s, &q, view_str(name)), 0);
        if (semantic_lookup(s, &q, &match))
            semantic_feedback(s, &match, true);
        if (i % 7 == 0)
            (void)semantic_forget(s, VIEW_NONE, view_str(name));
        if (i % 100 == 0)
            (void)semantic_sweep(s, 1, is_even, &asked);
    }
    return NULL;
}

static void threads(void **state)
{
    /* Four threads add, look up, judge and forget at once (the thread sanitizer watches). */
    struct semantic *s = make(NULL);
    pthread_t ids[4];

    (void)state;
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&ids[i], NULL, hammer, s), 0);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(pthread_join(ids[i], NULL), 0);
    semantic_free(s);
}

static void out_of_memory(void **state)
{
    /* Each allocation of an add, a lookup, a save and a load may fail: an error, and everything still works afterwards. */
    float v[DIMS];
    struct semantic_query q = query("a", "What is tea?", v);
    struct semantic_match match;
    uint32_t bad;

    (void)state;
    vector(v, 1, 0);
    (void)snprintf(path, sizeof(path), "/tmp/doorstep-semantic-%d", (int)getpid());
    for (unsigned long nth = 1; nth < 40; nth++) {
        struct semantic *s = make(NULL);
        int error;

        heap_fault(nth, 1);
        error = semantic_add(s, &q, VIEW("k"));
        if (error == 0)
            error = semantic_save(s, path, "m");
        if (error == 0)
            error = semantic_load(s, path, "m", 1, &bad) == 1 ? 0 : -ENOMEM;
        heap_fault(0, 0);
        assert_true(error == 0 || error == -ENOMEM);
        assert_int_equal(semantic_add(s, &q, VIEW("k")), 0);
        assert_int_equal(semantic_lookup(s, &q, &match), 1);
        semantic_free(s);
    }
    (void)unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds),         cmocka_unit_test(forgets), cmocka_unit_test(bounded),
        cmocka_unit_test(refuses),       cmocka_unit_test(learns),  cmocka_unit_test(agrees),
        cmocka_unit_test(files),         cmocka_unit_test(sweeps),  cmocka_unit_test(threads),
        cmocka_unit_test(out_of_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
