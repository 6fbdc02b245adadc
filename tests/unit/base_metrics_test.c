#include "base/heap.h"
#include "base/metrics.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static char page[1 << 16];

static const char *render(struct metrics *metrics)
{
    struct text out = TEXT_ON(page);

    metrics_render(metrics, &out);
    assert_false(out.overflow);
    return text_str(&out);
}

/* A counter is the sum of what every loop counted in its own shard. */
static void counters_sum_shards(void **state)
{
    struct metrics *metrics;
    unsigned hits, misses;

    (void)state;
    assert_int_equal(metrics_new(&metrics, 3, 0), 0);
    hits = metrics_counter(metrics, "doorstep_requests_total", "Requests.", "outcome=\"hit\"");
    misses = metrics_counter(metrics, "doorstep_requests_total", "Requests.", "outcome=\"miss\"");
    for (unsigned i = 0; i < 3; i++)
        metrics_add(metrics_shard(metrics, i), hits, i + 1);
    metrics_add(metrics_shard(metrics, 2), misses, 10);
    assert_int_equal(metrics_sum(metrics, hits), 6);
    assert_string_equal(render(metrics), "# HELP doorstep_requests_total Requests.\n"
                                         "# TYPE doorstep_requests_total counter\n"
                                         "doorstep_requests_total{outcome=\"hit\"} 6\n"
                                         "doorstep_requests_total{outcome=\"miss\"} 10\n");
    metrics_free(metrics);
}

/* Registering the same series again, as a reload does, gives the same cell; a name used with another type is refused. */
static void registration_is_idempotent(void **state)
{
    struct metrics *metrics;
    unsigned id;

    (void)state;
    assert_int_equal(metrics_new(&metrics, 1, 0), 0);
    id = metrics_counter(metrics, "a_total", "A.", NULL);
    assert_int_equal(metrics_counter(metrics, "a_total", "A.", ""), id);
    assert_int_not_equal(metrics_counter(metrics, "a_total", "A.", "x=\"1\""), id);
    assert_int_equal(metrics_histogram(metrics, "a_total", "A.", NULL), METRICS_NONE);
    assert_int_equal(metrics_refused(metrics), 1);
    metrics_free(metrics);
}

/* When the cells are used up, series are refused and counting into them goes nowhere: nobody overwrites a neighbour. */
static void cells_are_bounded(void **state)
{
    struct metrics *metrics;
    struct metrics_shard *first, *second;
    unsigned a, b, histogram;

    (void)state;
    assert_int_equal(metrics_new(&metrics, 2, 2), 0);
    first = metrics_shard(metrics, 0);
    second = metrics_shard(metrics, 1);
    a = metrics_counter(metrics, "a_total", "A.", NULL);
    histogram = metrics_histogram(metrics, "h_seconds", "H.", NULL);
    b = metrics_counter(metrics, "b_total", "B.", NULL);
    assert_int_not_equal(a, METRICS_NONE);
    assert_int_not_equal(b, METRICS_NONE);
    assert_int_equal(histogram, METRICS_NONE);
    assert_int_equal(metrics_counter(metrics, "c_total", "C.", NULL), METRICS_NONE);
    assert_int_equal(metrics_refused(metrics), 2);
    for (uint64_t us = 1; us < UINT64_MAX / 10; us *= 10) {
        metrics_observe(first, histogram, us);
        metrics_observe(second, histogram, us);
    }
    assert_int_equal(metrics_sum(metrics, a), 0);
    assert_int_equal(metrics_sum(metrics, b), 0);
    assert_int_equal(metrics_histogram_count(metrics, histogram), 0);
    assert_null(strstr(render(metrics), "h_seconds"));
    metrics_free(metrics);
}

/* A level may rise on one loop and fall on another, and is printed as a signed number. */
static void levels_cross_shards(void **state)
{
    struct metrics *metrics;
    unsigned open;

    (void)state;
    assert_int_equal(metrics_new(&metrics, 2, 0), 0);
    open = metrics_level(metrics, "connections", "Open.", NULL);
    metrics_add(metrics_shard(metrics, 0), open, 1);
    metrics_sub(metrics_shard(metrics, 1), open, 3);
    assert_non_null(strstr(render(metrics), "# TYPE connections gauge\nconnections -2\n"));
    metrics_free(metrics);
}

/* Buckets are cumulative, a bound belongs to its bucket, and sum and count agree with what was observed. */
static void histogram_is_cumulative(void **state)
{
    struct metrics *metrics;
    struct metrics_shard *shard;
    const char *text;
    unsigned id;

    (void)state;
    assert_int_equal(metrics_new(&metrics, 1, 0), 0);
    shard = metrics_shard(metrics, 0);
    id = metrics_histogram(metrics, "t_seconds", "T.", "outcome=\"hit\"");
    assert_int_equal(metrics_histogram_us(metrics, id, 99), 0);
    metrics_observe(shard, id, 0);
    metrics_observe(shard, id, 10);
    metrics_observe(shard, id, 11);
    metrics_observe(shard, id, 1500000);
    metrics_observe(shard, id, 99000000);
    text = render(metrics);
    assert_non_null(strstr(text, "t_seconds_bucket{outcome=\"hit\",le=\"1e-05\"} 2\n"));
    assert_non_null(strstr(text, "t_seconds_bucket{outcome=\"hit\",le=\"2e-05\"} 3\n"));
    assert_non_null(strstr(text, "t_seconds_bucket{outcome=\"hit\",le=\"1\"} 3\n"));
    assert_non_null(strstr(text, "t_seconds_bucket{outcome=\"hit\",le=\"2\"} 4\n"));
    assert_non_null(strstr(text, "t_seconds_bucket{outcome=\"hit\",le=\"50\"} 4\n"));
    assert_non_null(strstr(text, "t_seconds_bucket{outcome=\"hit\",le=\"+Inf\"} 5\n"));
    assert_non_null(strstr(text, "t_seconds_sum{outcome=\"hit\"} 100.500021\n"));
    assert_non_null(strstr(text, "t_seconds_count{outcome=\"hit\"} 5\n"));
    assert_int_equal(metrics_histogram_us(metrics, id, 60), 20);
    assert_int_equal(metrics_histogram_us(metrics, id, 80), 2000000);
    assert_true(metrics_histogram_us(metrics, id, 100) == UINT64_MAX);
    metrics_free(metrics);
}

static double half(void *arg)
{
    return *(double *)arg / 2;
}

static void write_family(struct text *out, void *arg)
{
    text_printf(out, "%s", (const char *)arg);
}

/* Values kept elsewhere are asked for when the page is made; collectors' families come last. */
static void callbacks_are_read_when_rendered(void **state)
{
    static char family[] = "# TYPE up gauge\nup{server=\"a\"} 1\n";
    struct metrics *metrics;
    double value = 5;
    const char *text;

    (void)state;
    assert_int_equal(metrics_new(&metrics, 1, 0), 0);
    metrics_collector(metrics, write_family, family);
    metrics_callback(metrics, METRICS_GAUGE, "bytes", "Line\none \\ two.", NULL, half, &value);
    value = 9;
    text = render(metrics);
    assert_string_equal(text, "# HELP bytes Line\\none \\\\ two.\n# TYPE bytes gauge\nbytes 4.5\n"
                              "# TYPE up gauge\nup{server=\"a\"} 1\n");
    metrics_free(metrics);
}

/* A label value cannot end its string or its line. */
static void labels_are_escaped(void **state)
{
    char memory[128];
    struct text labels = TEXT_ON(memory);

    (void)state;
    metrics_label(&labels, "route", VIEW("/a\"b\\c\nd"));
    metrics_label(&labels, "status", VIEW("2xx"));
    assert_string_equal(text_str(&labels), "route=\"/a\\\"b\\\\c\\nd\",status=\"2xx\"");
}

/* Rendering into too little room says so and stays inside. */
static void overflow_is_reported(void **state)
{
    char little[40];
    struct text out = TEXT_ON(little);
    struct metrics *metrics;

    (void)state;
    assert_int_equal(metrics_new(&metrics, 1, 0), 0);
    metrics_histogram(metrics, "t_seconds", "T.", NULL);
    metrics_render(metrics, &out);
    assert_true(out.overflow);
    assert_true(out.len <= sizeof(little));
    metrics_free(metrics);
}

struct writer {
    struct metrics *metrics;
    unsigned index, id;
};

static void *count_to_100000(void *arg)
{
    struct writer *writer = arg;
    struct metrics_shard *shard = metrics_shard(writer->metrics, writer->index);

    for (int i = 0; i < 100000; i++)
        metrics_add(shard, writer->id, 1);
    return NULL;
}

/* Loops counting at the same time, while a page is rendered, lose nothing (run under TSan as well). */
static void threads_lose_nothing(void **state)
{
    struct writer writers[4];
    pthread_t threads[4];
    struct metrics *metrics;
    unsigned id;

    (void)state;
    assert_int_equal(metrics_new(&metrics, 4, 0), 0);
    id = metrics_counter(metrics, "n_total", "N.", NULL);
    for (unsigned i = 0; i < 4; i++) {
        writers[i] = (struct writer){ metrics, i, id };
        assert_int_equal(pthread_create(&threads[i], NULL, count_to_100000, &writers[i]), 0);
    }
    render(metrics);
    for (unsigned i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(metrics_sum(metrics, id), 400000);
    metrics_free(metrics);
}

/* Every allocation of registration may fail: the series is refused, what was there stays. */
static void out_of_memory_refuses(void **state)
{
    (void)state;
    for (unsigned long nth = 1; nth < 12; nth++) {
        struct metrics *metrics = NULL;
        int r;

        heap_fault(nth, 0);
        r = metrics_new(&metrics, 2, 0);
        if (r == 0) {
            unsigned id = metrics_counter(metrics, "a_total", "A.", "x=\"1\"");

            metrics_add(metrics_shard(metrics, 0), id, 1);
            metrics_collector(metrics, write_family, NULL);
        }
        heap_fault(0, 0);
        metrics_free(metrics);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counters_sum_shards),     cmocka_unit_test(registration_is_idempotent),
        cmocka_unit_test(cells_are_bounded),       cmocka_unit_test(levels_cross_shards),
        cmocka_unit_test(histogram_is_cumulative), cmocka_unit_test(callbacks_are_read_when_rendered),
        cmocka_unit_test(labels_are_escaped),      cmocka_unit_test(overflow_is_reported),
        cmocka_unit_test(threads_lose_nothing),    cmocka_unit_test(out_of_memory_refuses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
