/* Routes: globs, who is more specific, hosts, the life of a configuration. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "http/route.h"

#define V(text) \
    { \
        text, sizeof(text) - 1 \
    }

static void globs(void **state)
{
    /* A star is any run, an empty one too; everything else is itself. */
    static const struct {
        struct view pattern, text;
        bool match;
    } cases[] = {
        { V("*"), V(""), true },
        { V("/*"), V("/"), true },
        { V("/*"), V(""), false },
        { V("/a"), V("/a"), true },
        { V("/a"), V("/ab"), false },
        { V("/a*c"), V("/abbbc"), true },
        { V("/a*c"), V("/ac"), true },
        { V("/a*c"), V("/acd"), false },
        { V("/a*c"), V("/acdc"), true },
        { V("*.js"), V("/x/y.min.js"), true },
        { V("*.js"), V("/x/y.js.map"), false },
        { V("/*/x/*/y"), V("/1/x/2/x/3/y"), true },
        { V("/**"), V("/"), true },
        { V("**a**"), V("bab"), true },
        { V("?"), V("a"), false },
        { V(""), V(""), true },
        { V(""), V("a"), false },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        if (glob_match(cases[i].pattern, cases[i].text) != cases[i].match)
            fail_msg("<%.*s> <%.*s>", VIEW_ARG(cases[i].pattern), VIEW_ARG(cases[i].text));
}

static void many_stars_stay_cheap(void **state)
{
    /* A pattern of stars against a long text that just misses ends in time (no exponential backtracking). */
    static char text[8000];

    (void)state;
    for (size_t i = 0; i < sizeof(text); i++)
        text[i] = 'a';
    assert_false(glob_match(VIEW("*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b"), view_make(text, sizeof(text))));
}

static const struct view shop_hosts[] = { V("shop.example"), V("*.shop.example") };

static const char *found(struct http_config *config, const char *authority, const char *path)
{
    const struct route *route = route_find(config, view_str(authority), view_str(path));

    return route ? route->name.ptr : "none";
}

static void most_specific_wins(void **state)
{
    /* The longest literal wins whatever the order in the file; a whole literal beats a prefix; a host breaks the tie; among
     * equals the first written. Names fold case and leave their port out. */
    struct route routes[] = {
        { .name = V("all"), .match_path = V("/*") },
        { .name = V("shop"), .match_path = V("/*"), .hosts = shop_hosts, .host_count = 2 },
        { .name = V("assets"), .match_path = V("/assets/*") },
        { .name = V("shop assets"), .match_path = V("/assets/*"), .match_host = V("shop.example") },
        { .name = V("exact"), .match_path = V("/assets/") },
        { .name = V("scripts"), .match_path = V("/assets/*.js") },
        { .name = V("second all"), .match_path = V("/*") },
        { .name = V("six"), .match_path = V("/six"), .match_host = V("[::1]") },
    };
    struct http_config config;

    (void)state;
    http_config_init(&config);
    config.routes = routes;
    config.route_count = ARRAY_LEN(routes);
    routes_sort(routes, ARRAY_LEN(routes));
    assert_string_equal(found(&config, "a.example", "/"), "all");
    assert_string_equal(found(&config, "Shop.EXAMPLE:8080", "/"), "shop");
    assert_string_equal(found(&config, "www.shop.example", "/x"), "shop");
    assert_string_equal(found(&config, "notshop.example", "/x"), "all");
    assert_string_equal(found(&config, "a.example", "/assets/"), "exact");
    assert_string_equal(found(&config, "shop.example", "/assets/a.css"), "shop assets");
    assert_string_equal(found(&config, "a.example", "/assets/a.css"), "assets");
    assert_string_equal(found(&config, "a.example", "/assets"), "all");
    assert_string_equal(found(&config, "[::1]:80", "/six"), "six");
    assert_string_equal(found(&config, "[::1]", "/six"), "six");
    assert_string_equal(found(&config, "", "/"), "all");
    assert_string_equal(found(&config, "a.example", "*"), "all"); /* OPTIONS * */
    config.route_count = 0;
    assert_string_equal(found(&config, "a.example", "/"), "none");
}

static void long_host(void **state)
{
    /* A name longer than any real one is cut, not overrun. */
    struct route routes[] = { { .name = V("host"), .match_path = V("/*"), .match_host = V("aaaa*") } };
    struct http_config config;
    static char host[5000];

    (void)state;
    memset(host, 'a', sizeof(host));
    http_config_init(&config);
    config.routes = routes;
    config.route_count = 1;
    assert_ptr_equal(route_find(&config, view_make(host, sizeof(host)), VIEW("/")), &routes[0]);
}

static unsigned destroyed;

static void destroy(struct http_config *config)
{
    (void)config;
    destroyed++;
}

static void config_life(void **state)
{
    /* A generation goes with its last user, be it a request or a fill. */
    struct http_config config;

    (void)state;
    destroyed = 0;
    http_config_init(&config);
    config.destroy = destroy;
    assert_ptr_equal(http_config_ref(&config), &config);
    config.keep.retain(&config.keep);
    http_config_unref(&config);
    http_config_unref(&config);
    assert_int_equal(destroyed, 0);
    config.keep.release(&config.keep);
    assert_int_equal(destroyed, 1);
    http_config_unref(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(globs),     cmocka_unit_test(many_stars_stay_cheap), cmocka_unit_test(most_specific_wins),
        cmocka_unit_test(long_host), cmocka_unit_test(config_life),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
