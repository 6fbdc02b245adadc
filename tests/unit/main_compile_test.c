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
    return compile_site(&site, stats, NULL, loops, 2, ret, reason);
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

#define AI(rules) \
    "ai:\n  providers: { local: { url: 'http://127.0.0.1:8081', rung: device } }\n  limits: { requests_per_minute: 60 }\n" \
    "  rules:\n    a: " rules "\n    b: { tokens_per_minute: 5 }\n" \
    "  tenants: { zoe: { rules: b }, acme: { rules: a, requests_per_minute: 7 } }\n" \
    "routes:\n  - { match: '/v1/*', ai: { rules: a, private: { do: pin, region: eu } } }\n"

static void what_may_be_asked(void **state)
{
    /* Rules, tenants in the order of a search, limits that fall back to each key's, and what may not leave the node. */
    struct http_config *config;
    const struct ai_config *ai;
    const struct ai_route *route;
    const struct ai_rules *rules;
    struct text reason;

    (void)state;
    assert_int_equal(
        compile(
            AI("{ force: ['temperature=0', 'stop=\"=\"'], hours: 'Mon 09:00-17:00', utc_offset: '-05:30', images: false }"),
            &config, &reason),
        0);
    ai = compiled_ai(config);
    route = config->routes[0].service_route;
    rules = &ai->rules[0].rules;
    assert_int_equal(rules->forced_count, 2);
    assert_true(view_eq(rules->forced[1].name, VIEW("stop")) && view_eq(rules->forced[1].json, VIEW("\"=\"")));
    assert_int_equal(rules->windows[0].until, 17 * 60);
    assert_int_equal(rules->utc_offset, -330);
    assert_true(rules->no_images && !rules->no_tools);
    assert_int_equal(ai->rules[1].limits.requests, 60);
    assert_int_equal(ai->rules[1].limits.tokens, 5);
    assert_true(view_eq(ai->tenants[0].name, VIEW("acme")) && ai->tenants[0].rules == &ai->rules[0]);
    assert_true(view_eq(ai->tenants[1].name, VIEW("zoe")));
    assert_ptr_equal(route->rules, &ai->rules[0]);
    assert_true(route->private.kinds && route->private.act == AI_PRIVATE_PIN);
    assert_true(route->cache.ladder.shared && !route->local.ladder.shared && !route->passing.ladder.shared);
    assert_int_equal(route->local.ladder.disk, route->cache.ladder.disk);
    assert_int_equal(route->passing.ladder.disk, LADDER_DISK_OFF);
    compiled_free(config);
}

static uint64_t revision(const char *text)
{
    struct http_config *config;
    struct text reason;
    uint64_t found;

    assert_int_equal(compile(text, &config, &reason), 0);
    found = compiled_ai(config)->rules[0].revision;
    compiled_free(config);
    return found;
}

static void revisions(void **state)
{
    /* A revision changes with what shapes requests, and with nothing else: not with a clock or a limit. */
    uint64_t plain = revision(AI("{}"));

    (void)state;
    assert_true(plain == revision(AI("{ hours: '00:00-24:00', requests_per_minute: 3 }")));
    assert_true(plain != revision(AI("{ images: false }")));
    assert_true(plain != revision(AI("{ force: 'seed=1' }")));
    assert_true(revision(AI("{ models: { allow: [a, b] } }")) != revision(AI("{ models: { allow: [ab] } }")));
    assert_true(revision(AI("{ models: { allow: [a] } }")) != revision(AI("{ models: { deny: [a] } }")));
    assert_true(revision(AI("{ private: { do: redact } }")) != revision(AI("{ private: { do: refuse } }")));
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
        int r = compile_site(&site, stats, NULL, loops, 2, &config, &reason);

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
        cmocka_unit_test_setup_teardown(what_may_be_asked, set_up, tear_down),
        cmocka_unit_test_setup_teardown(revisions, set_up, tear_down),
        cmocka_unit_test_setup_teardown(unusable_upstream, set_up, tear_down),
        cmocka_unit_test_setup_teardown(allocations_fail, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_end_visits_every_loop, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
