#include "message_fixture.h"

#include "cache/storable.h"

#define NOW_MS ((int64_t)784111777 * 1000)
#define DATE "Date: Sun, 06 Nov 1994 08:49:37 GMT\n"
#define LM "Last-Modified: Sun, 06 Nov 1994 08:32:57 GMT\n"
#define CC "Cache-Control: "

struct one {
    enum http_method method;
    const char *request;
    uint16_t status;
    const char *response; /* behind Date */
    enum why why;
};

static enum why ask(const struct one *c, const struct storable_policy *policy)
{
    struct http_request request = {
        .method = c->method, .authority = VIEW("Example.com:80"), .path = VIEW("/a"), .query = VIEW("x=1")
    };
    struct freshness_policy times;
    struct freshness fresh;
    struct message in, out;
    char memory[512];
    struct text t = TEXT_ON(memory);
    struct storable_input input = { .request = &request,
                                    .scheme = VIEW("http"),
                                    .status = c->status,
                                    .freshness = &fresh,
                                    .policy = policy,
                                    .now_ms = NOW_MS };

    freshness_policy_init(&times);
    message_of(&in, c->request);
    request.fields = in.fields;
    text_printf(&t, DATE "%s", c->response);
    input.response = message_of(&out, text_str(&t));
    freshness_compute(input.response, c->status, &times, NOW_MS, NOW_MS, &fresh);
    return storable(&input);
}

static void check(const struct one *cases, size_t count, const struct storable_policy *policy)
{
    for (size_t i = 0; i < count; i++) {
        enum why why = ask(&cases[i], policy);

        if (why != cases[i].why)
            fail_msg("case %zu: %.*s, wanted %.*s\n%s", i, VIEW_ARG(why_name(why)), VIEW_ARG(why_name(cases[i].why)),
                     cases[i].response);
    }
}

static void test_plain(void **state)
{
    /* Proves RFC 9111 §3 row by row with the default policy. */
    static const struct one cases[] = {
        { METHOD_GET, "", 200, CC "max-age=60", WHY_NONE },
        { METHOD_GET, "", 299, CC "max-age=60", WHY_NONE },
        { METHOD_GET, "", 499, CC "max-age=60", WHY_NONE },
        { METHOD_GET, "", 599, CC "max-age=60", WHY_NONE },
        { METHOD_GET, "", 200, LM, WHY_NONE },
        { METHOD_GET, "", 404, LM, WHY_NONE },
        { METHOD_GET, "", 302, LM, WHY_NO_FRESHNESS },
        { METHOD_GET, "", 500, LM "ETag: \"a\"", WHY_NO_FRESHNESS },
        { METHOD_GET, "", 302, LM CC "public", WHY_NONE },
        { METHOD_GET, "", 200, "", WHY_NO_FRESHNESS },
        { METHOD_GET, "", 200, "ETag: \"a\"", WHY_NONE },
        { METHOD_GET, "Cookie: a=b", 200, LM, WHY_COOKIE_HEURISTIC },
        { METHOD_GET, "Cookie: a=b", 200, "ETag: \"a\"", WHY_COOKIE_HEURISTIC },
        { METHOD_GET, "Cookie: a=b", 200, LM CC "public", WHY_COOKIE_HEURISTIC },
        { METHOD_GET, "Cookie: a=b", 200, CC "max-age=60", WHY_NONE },
        { METHOD_GET, "", 200, CC "no-cache", WHY_NO_VALIDATOR },
        { METHOD_GET, "", 200, CC "no-cache\nETag: \"a\"", WHY_NONE },
        { METHOD_GET, "", 200, CC "no-cache\n" LM, WHY_NONE },
        { METHOD_GET, "", 200, CC "no-store, max-age=60", WHY_NO_STORE },
        { METHOD_GET, "", 200, CC "no-store\nCDN-Cache-Control: max-age=60", WHY_NONE },
        { METHOD_GET, "", 200, CC "max-age=60\nCDN-Cache-Control: no-store", WHY_NO_STORE },
        { METHOD_GET, "", 200, CC "no-store\nCDN-Cache-Control: max-age=60, &&", WHY_NO_STORE },
        { METHOD_GET, "", 200, CC "private, max-age=60", WHY_PRIVATE },
        { METHOD_GET, "", 200, CC "private=\"x\", max-age=60", WHY_PRIVATE },
        { METHOD_GET, "Cache-Control: no-store", 200, CC "max-age=60", WHY_REQUEST_NO_STORE },
        { METHOD_GET, "Authorization: x", 200, CC "max-age=60", WHY_AUTHORIZATION },
        { METHOD_GET, "Authorization: x", 200, CC "max-age=60, proxy-revalidate", WHY_AUTHORIZATION },
        { METHOD_GET, "Authorization: x", 200, CC "max-age=60, public", WHY_NONE },
        { METHOD_GET, "Authorization: x", 200, CC "max-age=60, must-revalidate", WHY_NONE },
        { METHOD_GET, "Authorization: x", 200, CC "s-maxage=60", WHY_NONE },
        { METHOD_GET, "", 200, CC "max-age=60, no-store, must-understand", WHY_NONE },
        { METHOD_GET, "", 299, CC "max-age=60, no-store, must-understand", WHY_STATUS_UNKNOWN },
        { METHOD_GET, "", 599, CC "max-age=60, must-understand", WHY_STATUS_UNKNOWN },
        { METHOD_GET, "", 200, CC "max-age=60\nVary: accept, *", WHY_VARY_STAR },
        { METHOD_GET, "", 200, CC "max-age=60\nVary: a\nVary: *", WHY_VARY_STAR },
        { METHOD_GET, "", 200, CC "max-age=60, unknown=1", WHY_NONE },
        { METHOD_GET, "", 200, CC "max-age=0", WHY_EXPIRED },
        { METHOD_GET, "", 200, CC "max-age=60\nAge: 60", WHY_EXPIRED },
        { METHOD_GET, "", 200, CC "max-age=0\nETag: \"a\"", WHY_NONE },
        { METHOD_GET, "", 200, CC "max-age=0, stale-while-revalidate=5", WHY_NONE },
        { METHOD_GET, "", 200, "Expires: 0", WHY_EXPIRED },
        { METHOD_GET, "", 304, CC "max-age=60", WHY_STATUS },
        { METHOD_GET, "", 416, CC "max-age=60", WHY_STATUS },
        { METHOD_GET, "", 206, CC "max-age=60\nContent-Range: bytes 0-9/10", WHY_NONE },
        { METHOD_GET, "", 206, CC "max-age=60\nContent-Range: bytes 0-9", WHY_BAD_PARTIAL },
        { METHOD_GET, "", 206, CC "max-age=60", WHY_BAD_PARTIAL },
        { METHOD_HEAD, "", 200, CC "max-age=60", WHY_METHOD },
        { METHOD_PUT, "", 200, CC "max-age=60", WHY_METHOD },
        { METHOD_OTHER, "", 200, CC "max-age=60", WHY_METHOD },
    };
    static const struct storable_policy policy = { .set_cookie = SET_COOKIE_BYPASS };

    (void)state;
    check(cases, ARRAY_LEN(cases), &policy);
}

static void test_post(void **state)
{
    /* Proves that POST is stored only with explicit freshness and Content-Location equal to the target. */
    static const struct one cases[] = {
        { METHOD_POST, "", 200, CC "max-age=60\nContent-Location: /a?x=1", WHY_NONE },
        { METHOD_POST, "", 200, CC "max-age=60\nContent-Location: http://example.COM/a?x=1", WHY_NONE },
        { METHOD_POST, "", 200, CC "max-age=60\nContent-Location: https://example.com/a?x=1", WHY_METHOD },
        { METHOD_POST, "", 200, CC "max-age=60\nContent-Location: http://other.com/a?x=1", WHY_METHOD },
        { METHOD_POST, "", 200, CC "max-age=60\nContent-Location: http://example.com@evil/a?x=1", WHY_METHOD },
        { METHOD_POST, "", 200, CC "max-age=60\nContent-Location: /a?x=12", WHY_METHOD },
        { METHOD_POST, "", 200, CC "max-age=60\nContent-Location: /a", WHY_METHOD },
        { METHOD_POST, "", 200, CC "max-age=60\nContent-Location: /b", WHY_METHOD },
        { METHOD_POST, "", 200, CC "max-age=60", WHY_METHOD },
        { METHOD_POST, "", 200, LM "Content-Location: /a?x=1", WHY_METHOD },
        { METHOD_POST, "", 400, CC "max-age=60\nContent-Location: /a?x=1", WHY_METHOD },
    };
    static const struct storable_policy policy = { .set_cookie = SET_COOKIE_BYPASS };

    (void)state;
    check(cases, ARRAY_LEN(cases), &policy);
}

static void test_set_cookie_and_route(void **state)
{
    /* Proves the three Set-Cookie modes and the route's own switches. */
#define SC "\nSet-Cookie: a=b"
    static const struct one bypass[] = {
        { METHOD_GET, "", 200, CC "max-age=60" SC, WHY_SET_COOKIE },
        { METHOD_GET, "", 200, CC "max-age=60, public" SC, WHY_NONE },
        { METHOD_GET, "", 200, CC "s-maxage=60" SC, WHY_NONE },
        { METHOD_GET, "", 200, "CDN-Cache-Control: max-age=60" SC, WHY_NONE },
    };
    static const struct one strip[] = { { METHOD_GET, "", 200, CC "max-age=60" SC, WHY_NONE } };
    static const struct one store[] = {
        { METHOD_GET, "", 200, CC "max-age=60" SC, WHY_NONE },
        { METHOD_GET, "", 200, LM "Set-Cookie: a=b", WHY_SET_COOKIE },
    };
    static const struct one none[] = { { METHOD_GET, "", 200, CC "max-age=60", WHY_BYPASS_ROUTE } };
    static const struct one deaf[] = { { METHOD_GET, "Cache-Control: no-store", 200, CC "max-age=60", WHY_NONE } };
    static const struct one keep[] = {
        { METHOD_GET, "", 200, CC "max-age=0", WHY_NONE },
        { METHOD_GET, "", 200, CC "no-store", WHY_NO_STORE },
    };

    (void)state;
    check(bypass, ARRAY_LEN(bypass), &(struct storable_policy){ .set_cookie = SET_COOKIE_BYPASS });
    check(strip, ARRAY_LEN(strip), &(struct storable_policy){ .set_cookie = SET_COOKIE_STRIP });
    check(store, ARRAY_LEN(store), &(struct storable_policy){ .set_cookie = SET_COOKIE_STORE });
    check(none, ARRAY_LEN(none), &(struct storable_policy){ .no_store = true });
    check(deaf, ARRAY_LEN(deaf), &(struct storable_policy){ .ignore_client_cache_control = true });
    check(keep, ARRAY_LEN(keep), &(struct storable_policy){ .keep_stale = true });
}

static void test_why_names(void **state)
{
    /* Proves that every reason has a unique name that is safe as a metric label. */
    (void)state;
    for (unsigned i = 0; i < WHY_COUNT; i++) {
        struct view name = why_name((enum why)i);

        assert_true(name.len > 0);
        for (size_t j = 0; j < name.len; j++)
            assert_true((name.ptr[j] >= 'a' && name.ptr[j] <= 'z') || name.ptr[j] == '-');
        for (unsigned j = 0; j < i; j++)
            assert_false(view_eq(name, why_name((enum why)j)));
    }
    assert_view(why_fwd(WHY_MISS_URI), "uri-miss");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_post),
        cmocka_unit_test(test_set_cookie_and_route),
        cmocka_unit_test(test_why_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
