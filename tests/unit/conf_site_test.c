/* The site's tables and the checks between options. */
#include "conf/conf.h"
#include "main/site.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>

#define APP "upstreams: { app: { servers: 'http://127.0.0.1:3000' } }\n"
#define ROUTES APP "routes:\n"

static int load(const char *text, struct site *site, struct conf_report *report)
{
    char path[] = "/tmp/doorstep-site-XXXXXX";
    int fd = mkstemp(path);
    int r;

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    conf_report_init(report);
    r = site_load(path, site, report);
    unlink(path);
    return r;
}

static void expect(const char *text, unsigned line, const char *message)
{
    struct conf_report report;
    struct site site;
    int r = load(text, &site, &report);

    if (r != -EINVAL || report.count != 1 || report.first->line != line || strcmp(report.first->text, message) != 0) {
        conf_report_print(&report, stderr);
        fail_msg("for: %s", text);
    }
    conf_report_free(&report);
}

/* Proves that the smallest useful file gives the documented defaults. */
static void test_small(void **state)
{
    struct conf_report report;
    struct site site;
    const struct site_route *route;

    (void)state;
    assert_int_equal(load(ROUTES "  - { match: 'Example.com/x/*', upstream: app }\n", &site, &report), 0);
    route = &site.routes.items[0];
    assert_true(view_eq(route->match_host, VIEW("Example.com")));
    assert_true(view_eq(route->match_path, VIEW("/x/*")));
    assert_int_equal(route->upstream_index, 0);
    assert_int_equal(route->guarantee, ROUTE_GUARANTEE_HTTP);
    assert_int_equal(route->max_stale_on_error, 86400000);
    assert_true(route->ttl == OPTION_UNSET && route->cache && route->via);
    assert_int_equal(route->forwarded, FORWARDED_X);
    assert_int_equal(site.listen.count, 1);
    assert_int_equal(site.listen.items[0].port, 8080);
    assert_int_equal(site.limits.head, 32768);
    assert_int_equal(site.limits.header_timeout, 10000);
    assert_int_equal(site.upstreams.items[0].connect_timeout, 2000);
    assert_true(site.upstreams.items[0].tls.verify);
    assert_int_equal(site.purge.allow.count, 2);
    site_free(&site);
    conf_report_free(&report);
}

/* Proves that each cross check finds its mistake, at its place. */
static void test_cross_checks(void **state)
{
    (void)state;
    expect(ROUTES "  - { match: '/*', upstream: ap }\n", 3,
           "routes[0].upstream: no upstream \"ap\"; did you mean \"app\"?");
    expect(ROUTES "  - { match: '/*', upstream: zzzzz }\n", 3,
           "routes[0].upstream: no upstream \"zzzzz\" under upstreams");
    expect(ROUTES "  - { match: '/*', upstream: app }\n  - { match: '/*', upstream: app }\n", 4,
           "routes[1].match: can never be reached: routes[0] in line 3 has the same match");
    expect(ROUTES "  - { match: 'x', upstream: app }\n", 3,
           "routes[0].match: no path in it; a path starts with \"/\", as in \"/*\" or \"x/*\"");
    expect(ROUTES "  - { match: '/*', upstream: app, guarantee: bounded }\n", 3,
           "routes[0].guarantee: \"bounded\" needs max_stale, as in max_stale: 5s");
    expect(ROUTES "  - { match: '/*', upstream: app, max_stale: 5s }\n", 3,
           "routes[0].max_stale: works with guarantee: bounded only");
    expect(ROUTES "  - { match: '/*', upstream: app, guarantee: session }\n", 3,
           "routes[0].guarantee: \"session\" is known, but not available in this version");
    expect(ROUTES "  - { match: '/*', upstream: app, ttl_min: 2s, ttl_max: 1s }\n", 3,
           "routes[0].ttl_min: larger than ttl_max");
    expect(APP "routes: []\n", 2, "routes: at least one route is needed, as in { match: \"/*\", upstream: app }");
    expect(APP, 1, "\"routes\" is missing");
    expect(ROUTES "  - { match: '/*', upstream: app }\nadmin: { listen: ':9180' }\n", 4,
           "admin.listen: others can reach this address: set admin.token");
    expect(ROUTES "  - { match: '/*', upstream: app }\nlisten: [':80', ':80']\n", 4, "listen[1]: given twice");
    expect(ROUTES "  - { match: '/*', upstream: app }\nai: { tenants: { a: { rules: b } }, rules: { bb: {} } }\n", 4,
           "ai.tenants.a.rules: no rules \"b\"; did you mean \"bb\"?");
    expect("upstreams: { a: { servers: [] } }\nroutes:\n  - { match: '/*', upstream: a }\n", 1,
           "upstreams.a.servers: at least one server is needed");
    expect("upstreams: { a: { servers: 'http://x', tls: { ca: /x } } }\nroutes:\n  - { match: '/*', upstream: a }\n", 1,
           "upstreams.a.tls: none of the servers is https");
}

#define ROUTE ROUTES "  - { match: '/*', upstream: app }\n"

/* Proves that the rungs below memory are checked: what they need, what does not go together. */
static void test_tiers(void **state)
{
    (void)state;
    expect(ROUTE "disk: { size: 1G }\n", 4, "disk: \"path\" is missing: the directory of the tier");
    expect(ROUTE "disk: { path: /x, key: abc }\n", 4,
           "disk.key: not 64 hexadecimal digits (32 bytes); make one with: openssl rand -hex 32");
    expect(ROUTE "disk: { path: /x, size: 32M, segment: 16M }\n", 4,
           "disk.size: smaller than four segments: at least 4 times disk.segment");
    expect(ROUTE "shared: { prefix: x }\n", 4, "shared: \"url\" is missing, as in url: \"redis://127.0.0.1:6379\"");
    expect(ROUTE "shared: { url: 'http://x' }\n", 4,
           "shared.url: write redis://host:port, rediss://host:port or unix:/path");
    expect(ROUTE "shared: { url: 'redis://h:0' }\n", 4, "shared.url: the port is no number from 1 to 65535");
    expect(ROUTE "shared: { url: 'redis://h/x' }\n", 4,
           "shared.url: what follows the host is no database number, as in redis://host/2");
    expect(ROUTE "shared: { url: 'redis://h', prefix: 'a{b}' }\n", 4,
           "shared.prefix: no braces, and 64 bytes at most: it begins every key");
    expect(ROUTE "purge: { redis_channel: x }\n", 4, "purge.redis_channel: needs a shared store: set shared.url");
    expect(ROUTE "purge: { postgres: 'mysql://x' }\n", 4,
           "purge.postgres: not a connection URL: write postgres://user@host:port/database");
    expect(ROUTES "  - { match: '/*', upstream: app, disk: pin }\n", 3,
           "routes[0].disk: \"pin\" needs a disk tier: set disk.path");
    expect(ROUTES "  - { match: '/*', upstream: app, fallback: app }\n", 3,
           "routes[0].fallback: the same as upstream: name another one");
}

/* Proves that mistakes of options and of their combination come together. */
static void test_together(void **state)
{
    struct conf_report report;
    struct site site;

    (void)state;
    assert_int_equal(load(ROUTES "  - { match: '/*', upstream: ap, tll: 1s }\nthreads: x\n", &site, &report), -EINVAL);
    assert_int_equal(report.count, 3);
    conf_report_free(&report);
}

/* Proves that `serve URL` has a whole configuration behind it, and that switches change it. */
static void test_default(void **state)
{
    struct conf_report report;
    struct site site;

    (void)state;
    conf_report_init(&report);
    assert_int_equal(site_default("https://example.com", &site, &report), 0);
    assert_int_equal(site.routes.count, 1);
    assert_true(view_eq(site.upstreams.items[0].servers.items[0].host, VIEW("example.com")));
    assert_int_equal(site.upstreams.items[0].servers.items[0].port, 443);
    assert_int_equal(site_set(&site, "listen", "127.0.0.1:0", &report), 0);
    assert_int_equal(site.listen.items[0].port, 0);
    assert_int_equal(site_set(&site, "memory.size", "64M", &report), 0);
    assert_int_equal(site.memory.size, 64 << 20);
    assert_int_equal(site_set(&site, "memory.sizes", "64M", &report), -EINVAL);
    site_free(&site);
    assert_int_equal(site_default("example.com", &site, &report), -EINVAL);
    assert_int_equal(report.count, 2);
    conf_report_free(&report);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small),    cmocka_unit_test(test_cross_checks), cmocka_unit_test(test_tiers),
        cmocka_unit_test(test_together), cmocka_unit_test(test_default),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
