/* Compiling a site: what the file says is what the node runs on, failures give everything back, and a generation's end
 * visits every loop. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/heap.h"
#include "conf/conf.h"
#include "main/compile.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define UPSTREAMS \
    "upstreams:\n  app: { servers: ['http://127.0.0.1:3000', 'http://127.0.0.1:3001'] }\n" \
    "  other: { servers: 'http://127.0.0.1:4000', host: 'o.example' }\n"
#define ROUTES \
    "routes:\n" \
    "  - { match: '/*', upstream: app, stale_if_error: 7d }\n" \
    "  - { match: '/assets/*', upstream: other, ttl: 1h, ttl_max: 2h, set_cookie: strip, body_limit: 5K, scope: t1 }\n"

static struct metrics *metrics;
static struct http_stats *stats;
static struct loop *loops[2];
static char reason_memory[256];

static int set_up(void **state)
{
    (void)state;
    if (metrics_new(&metrics, 2, 0) < 0 || http_stats_new(&stats, metrics, 2) < 0)
        return -1;
    return loop_new(&loops[0], 0) < 0 || loop_new(&loops[1], 1) < 0 ? -1 : 0;
}

static int tear_down(void **state)
{
    (void)state;
    http_stats_free(stats);
    metrics_free(metrics);
    loop_free(loops[0]);
    loop_free(loops[1]);
    return 0;
}

static int compile(const char *text, struct http_config **ret, struct text *reason)
{
    char path[] = "/tmp/doorstep-compile-XXXXXX";
    int fd = mkstemp(path), r;
    struct conf_report report;
    struct site site;

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    conf_report_init(&report);
    r = site_load(path, &site, &report);
    unlink(path);
    if (r < 0)
        conf_report_print(&report, stderr);
    assert_int_equal(r, 0);
    conf_report_free(&report);
    *reason = TEXT_ON(reason_memory);
    return compile_site(&site, stats, loops, 2, ret, reason);
}

static void what_the_file_says(void **state)
{
    /* Routes come most specific first with their options in the units of the node, and texts are made once. */
    struct http_config *config;
    struct upstream *const *upstreams;
    const struct route *route;
    struct text reason;

    (void)state;
    assert_int_equal(compile("node: { name: lisbon }\n" UPSTREAMS ROUTES, &config, &reason), 0);
    assert_int_equal(config->route_count, 2);
    assert_int_equal(compiled_upstreams(config, &upstreams), 2);
    route = &config->routes[0];
    assert_true(view_eq(route->match_path, VIEW("/assets/*")));
    assert_ptr_equal(route->to.upstream, upstreams[1]);
    assert_true(view_eq(route->to.host, VIEW("o.example")));
    assert_int_equal(route->body_limit, 5 * 1024);
    assert_int_equal(route->cache.freshness.ttl_ms, 3600000);
    assert_int_equal(route->cache.freshness.ttl_max_ms, 7200000);
    assert_int_equal(route->cache.storable.set_cookie, SET_COOKIE_STRIP);
    assert_true(view_eq(route->cache.scope, VIEW("t1")));
    route = &config->routes[1];
    assert_ptr_equal(route->to.upstream, upstreams[0]);
    assert_int_equal(route->to.host.len, 0); /* the client's is preserved */
    assert_int_equal(route->cache.freshness.sie_ms, 7 * 86400000);
    assert_true(route->stats != config->routes[0].stats);
    assert_true(view_eq(config->via_line, VIEW("Via: 1.1 lisbon\r\n")));
    assert_true(view_eq(config->cache_status_name, VIEW("Cache-Status: \"lisbon\"; ")));
    assert_int_equal(config->limits.head.head_max, 32768);
    assert_true(view_eq(compiled_site(config)->node.name, VIEW("lisbon")));
    compiled_free(config);
}

static void unusable_upstream(void **state)
{
    /* What only shows now, like a missing CA file, is told with its reason, and nothing is left behind. */
    struct http_config *config;
    struct text reason;

    (void)state;
    assert_true(compile("upstreams:\n  app: { servers: 'http://127.0.0.1:3000' }\n"
                        "  tls: { servers: 'https://127.0.0.1:3000', tls: { ca: /no/such/file } }\n"
                        "routes:\n  - { match: '/*', upstream: tls }\n",
                        &config, &reason) < 0);
    assert_true(reason.len > 0);
}

static void allocations_fail(void **state)
{
    /* Whichever allocation fails: an error, or a whole configuration. */
    (void)state;
    for (unsigned long nth = 1; nth < 40; nth++) {
        struct http_config *config;
        struct conf_report report;
        struct text reason = TEXT_ON(reason_memory);
        struct site site;

        conf_report_init(&report);
        assert_int_equal(site_default("http://127.0.0.1:3000", &site, &report), 0);
        conf_report_free(&report);
        heap_fault(nth, 0);
        int r = compile_site(&site, stats, loops, 2, &config, &reason);

        heap_fault(0, 0);
        if (r == 0)
            compiled_free(config);
        else
            assert_int_equal(r, -ENOMEM);
    }
}

static void stop_message(struct loop *loop, struct message *message)
{
    (void)message;
    loop_stop(loop);
}

static void the_end_visits_every_loop(void **state)
{
    /* The last user's leaving closes connections loop by loop, then frees: run under ASan, this sees a leak or a late use. */
    struct message stops[2] = { { .handle = stop_message }, { .handle = stop_message } };
    struct http_config *config;
    struct text reason;

    (void)state;
    assert_int_equal(compile(UPSTREAMS ROUTES, &config, &reason), 0);
    http_config_ref(config);
    http_config_unref(config);
    assert_int_equal(config->route_count, 2);
    http_config_unref(config);
    for (int i = 0; i < 2; i++) {
        loop_post(loops[i], &stops[i]);
        loop_run(loops[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_the_file_says, set_up, tear_down),
        cmocka_unit_test_setup_teardown(unusable_upstream, set_up, tear_down),
        cmocka_unit_test_setup_teardown(allocations_fail, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_end_visits_every_loop, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
