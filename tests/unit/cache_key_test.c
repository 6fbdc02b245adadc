#include "message_fixture.h"

#include "cache/key.h"

#define V(text) \
    { \
        text, sizeof(text) - 1 \
    }

static struct view build(const struct key_rules *rules, enum http_method method, struct view scope, struct view query,
                         const char *lines, char memory[1024])
{
    struct text out = text_make(memory, 1024);
    struct message m;
    struct http_request r = { .method = method,
                              .method_name = method == METHOD_POST ? VIEW("POST") : VIEW("GET"),
                              .authority = VIEW("Example.COM:80"),
                              .path = VIEW("/a"),
                              .query = query };

    message_of(&m, lines);
    r.fields = m.fields;
    assert_int_equal(key_build(rules, scope, VIEW("http"), &r, &out), 0);
    return text_view(&out);
}

static void test_query_rules(void **state)
{
    /* Proves ignore, keep, sort and the difference between no query and an empty one. */
    static const struct view utm[] = { V("utm_*"), V("fbclid") }, keep[] = { V("id"), V("p*") };
    static const struct key_rules plain = { 0 }, ignore = { .ignore_query = utm, .ignore_query_count = 2 },
                                  keeps = { .keep_query = keep, .keep_query_count = 2 }, sort = { .sort_query = true },
                                  none = { .ignore_query_all = true };
    static const struct {
        const struct key_rules *rules;
        struct view query;
        const char *part;
    } cases[] = {
        { &plain, V("b=2&a=1&&"), "10:?b=2&a=1&&" },
        { &plain, { NULL, 0 }, "0:" },
        { &plain, { "", 0 }, "1:?" },
        { &ignore, V("utm_source=x&a=1&fbclid=7&fbclidx=1"), "14:?a=1&fbclidx=1" },
        { &ignore, V("utm_source=x"), "0:" },
        { &keeps, V("x=1&id=2&page=3"), "12:?id=2&page=3" },
        { &sort, V("b=2&a=2&a=1&ab=0"), "17:?a=2&a=1&ab=0&b=2" },
        { &none, V("a=1"), "0:" },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char memory[1024], wanted[128];
        struct text t = TEXT_ON(wanted);

        text_printf(&t, "1:s3:GET0:11:example.com2:/a%s", cases[i].part);
        assert_view(build(cases[i].rules, METHOD_GET, VIEW("s"), cases[i].query, "", memory), text_str(&t));
    }
}

static void test_parts(void **state)
{
    /* Proves that parts cannot imitate each other, HEAD shares GET's key, and secrets are hashed. */
    static const struct view cookies[] = { V("sid") }, headers[] = { V("X-Plan") };
    static const struct key_rules plain = { 0 },
                                  extra = { .cookies = cookies,
                                            .cookie_count = 1,
                                            .headers = headers,
                                            .header_count = 1 },
                                  alias = { .host = V("main.example") };
    char a[1024], b[1024], tiny[8];
    struct view x;
    struct text out = TEXT_ON(a), small = TEXT_ON(tiny);

    (void)state;
    assert_false(view_eq(build(&plain, METHOD_GET, VIEW("s"), VIEW_NONE, "", a),
                         build(&plain, METHOD_GET, VIEW("s3:GET"), VIEW_NONE, "", b)));
    assert_true(view_eq(build(&plain, METHOD_GET, VIEW("s"), VIEW_NONE, "", a),
                        build(&plain, METHOD_HEAD, VIEW("s"), VIEW_NONE, "", b)));
    assert_false(view_eq(build(&plain, METHOD_GET, VIEW("s"), VIEW_NONE, "", a),
                         build(&plain, METHOD_POST, VIEW("s"), VIEW_NONE, "", b)));
    x = build(&extra, METHOD_GET, VIEW("s"), VIEW_NONE, "Cookie: x=1; sid=hunter2\nX-Plan: gold", a);
    assert_null(memmem(x.ptr, x.len, "hunter2", 7));
    assert_null(memmem(x.ptr, x.len, "gold", 4));
    assert_true(
        view_eq(x, build(&extra, METHOD_GET, VIEW("s"), VIEW_NONE, "Cookie: sid=hunter2\nx-plan: gold\nX-Z: 1", b)));
    assert_false(view_eq(x, build(&extra, METHOD_GET, VIEW("s"), VIEW_NONE, "Cookie: sid=other\nX-Plan: gold", b)));
    assert_false(view_eq(x, build(&extra, METHOD_GET, VIEW("s"), VIEW_NONE, "X-Plan: gold", b)));
    assert_false(view_eq(
        x, build(&extra, METHOD_GET, VIEW("s"), VIEW_NONE, "Cookie: sid=hunter2\nX-Plan: gold\nX-Plan: gold", b)));
    out.len = 0;
    assert_int_equal(key_build_url(&plain, VIEW("s"), VIEW("http"), VIEW("example.com"), VIEW("/a"), VIEW_NONE, &out),
                     0);
    assert_true(view_eq(text_view(&out), build(&plain, METHOD_GET, VIEW("s"), VIEW_NONE, "", b)));
    assert_true(key_build_url(&plain, VIEW("scope"), VIEW("http"), VIEW("h"), VIEW("/"), VIEW_NONE, &small) < 0);
    assert_int_equal(small.len, 0);
    out.len = 0;
    assert_int_equal(key_url(&alias, VIEW("HTTPS"), VIEW("x:443"), VIEW("/P"), VIEW("q=1"), &out), 0);
    assert_view(text_view(&out), "https://main.example/P?q=1");
    assert_view(key_authority(VIEW("https"), VIEW("h:443")), "h");
    assert_view(key_authority(VIEW("https"), VIEW("h:80")), "h:80");
    assert_view(key_authority(VIEW("http"), VIEW("[::1]:80")), "[::1]");
    assert_view(key_authority(VIEW("http"), VIEW("h:")), "h");
}

static void test_cookie_value(void **state)
{
    /* Proves cookie lookup over lines, with look-alike names and empty values. */
    struct message m;
    const struct fields *f = message_of(&m, "Cookie: xsid=1; sid2=2;sid=\nCookie: a=b=c");

    (void)state;
    assert_non_null(key_cookie_value(f, VIEW("sid")).ptr);
    assert_int_equal(key_cookie_value(f, VIEW("sid")).len, 0);
    assert_view(key_cookie_value(f, VIEW("a")), "b=c");
    assert_null(key_cookie_value(f, VIEW("SID")).ptr);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_query_rules),
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_cookie_value),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
