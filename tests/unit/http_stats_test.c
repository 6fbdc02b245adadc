#include "http/stats.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

static char page[1 << 17];

struct place {
    struct metrics *metrics;
    struct http_stats *stats;
    struct loop *loop;
};

static struct place place;

static int setup(void **state)
{
    (void)state;
    return metrics_new(&place.metrics, 1, 0) || http_stats_new(&place.stats, place.metrics, 1) ||
           loop_new(&place.loop, 0);
}

static int teardown(void **state)
{
    (void)state;
    loop_free(place.loop);
    http_stats_free(place.stats);
    metrics_free(place.metrics);
    return 0;
}

static bool page_has(const char *line)
{
    struct text out = TEXT_ON(page);

    metrics_render(place.metrics, &out);
    assert_false(out.overflow);
    return strstr(text_str(&out), line) != NULL;
}

/* One call per request moves every number that tells about it. */
static void a_request_is_counted_once_everywhere(void **state)
{
    struct http_stats_request hit = {
        .route = http_stats_route(place.stats, VIEW("/assets/*")),
        .outcome = OUTCOME_HIT,
        .why = WHY_FRESH,
        .status = 200,
        .bytes_in = 100,
        .bytes_out = 3000,
        .duration_us = 15,
        .host = VIEW("h"),
        .path = VIEW("/assets/a"),
    };
    struct http_stats_request miss = hit;
    struct http_stats_totals totals;
    struct topk_item item;

    (void)state;
    miss.outcome = OUTCOME_MISS;
    miss.why = WHY_MISS_URI;
    miss.status = 404;
    miss.bytes_out = 1000;
    miss.upstream_us = 900;
    miss.path = VIEW("/assets/b");
    for (int i = 0; i < 3; i++)
        http_stats_finish(place.stats, place.loop, &hit);
    http_stats_finish(place.stats, place.loop, &miss);
    assert_true(page_has("doorstep_requests_total{route=\"/assets/*\",status=\"2xx\",outcome=\"hit\"} 3\n"));
    assert_true(page_has("doorstep_requests_total{route=\"/assets/*\",status=\"4xx\",outcome=\"miss\"} 1\n"));
    assert_true(page_has("doorstep_request_reasons_total{why=\"fresh\"} 3\n"));
    assert_true(page_has("doorstep_request_duration_seconds_count{outcome=\"hit\"} 3\n"));
    assert_true(page_has("doorstep_hit_ratio 0.75\n"));
    assert_true(page_has("doorstep_byte_hit_ratio 0.9\n"));
    assert_true(page_has("doorstep_upstream_wait_seconds_count 1\n"));
    http_stats_totals(place.stats, &totals);
    assert_int_equal(totals.requests[OUTCOME_HIT], 3);
    assert_int_equal(totals.requests[OUTCOME_MISS], 1);
    assert_int_equal(totals.why[WHY_FRESH], 3);
    assert_int_equal(totals.bytes_in, 400);
    assert_int_equal(totals.hit_us_p99, 20);
    assert_int_equal(http_stats_top_misses(place.stats, &item, 1), 1);
    assert_string_equal(item.name, "h/assets/b");
    assert_int_equal(http_stats_top_bytes(place.stats, &item, 1), 1);
    assert_string_equal(item.name, "h/assets/a");
    assert_int_equal(item.weight, 9000);
}

/* However many routes reloads bring, the label set is bounded: the rest is "other". */
static void routes_are_bounded(void **state)
{
    char name[32];
    unsigned first = http_stats_route(place.stats, VIEW("/1")), last = 0;

    (void)state;
    assert_int_not_equal(first, 0);
    assert_int_equal(http_stats_route(place.stats, VIEW("/1")), first);
    for (int i = 0; i < 200; i++) {
        snprintf(name, sizeof(name), "/many/%d", i);
        last = http_stats_route(place.stats, view_str(name));
        assert_true(last <= HTTP_STATS_ROUTES);
    }
    assert_int_equal(last, 0);
    assert_int_equal(http_stats_route(place.stats, VIEW("other")), 0);
}

/* Why something was not stored is counted and remembered; connections rise and fall; bad bytes have a reason. */
static void reasons_connections_and_bad_bytes(void **state)
{
    struct http_stats_totals totals;
    struct whynot_note note;

    (void)state;
    http_stats_not_stored(place.stats, place.loop, 99, WHY_SET_COOKIE, 200);
    assert_true(http_stats_why_not(place.stats, 99, &note));
    assert_int_equal(note.why, WHY_SET_COOKIE);
    assert_false(http_stats_why_not(place.stats, 98, &note));
    http_stats_connection(place.stats, place.loop, true);
    http_stats_connection(place.stats, place.loop, true);
    http_stats_connection(place.stats, place.loop, false);
    http_stats_bad_request(place.stats, place.loop, HTTP1_BAD_HOST);
    http_stats_totals(place.stats, &totals);
    assert_int_equal(totals.connections, 1);
    assert_int_equal(totals.accepted, 2);
    assert_int_equal(totals.not_stored[WHY_SET_COOKIE], 1);
    assert_true(page_has("doorstep_not_stored_total{why=\"set-cookie\"} 1\n"));
    assert_true(page_has("doorstep_bad_requests_total{reason=\""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_request_is_counted_once_everywhere, setup, teardown),
        cmocka_unit_test_setup_teardown(routes_are_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(reasons_connections_and_bad_bytes, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
