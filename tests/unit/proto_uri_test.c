/* URLs, references and the normal forms for keys. */
#include "proto/uri.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

static void assert_view(struct view got, const char *want)
{
    if (!view_eq(got, view_str(want)))
        fail_msg("got '%.*s', expected '%s'", VIEW_ARG(got), want);
}

/* Absolute URLs are split; ports, paths and brackets get their defaults and fragments go. */
static void urls_are_parsed(void **state)
{
    static const struct {
        const char *url;
        bool https, ipv6;
        const char *host;
        uint16_t port;
        const char *path, *query;
    } rows[] = {
        { "http://a", false, false, "a", 80, "/", NULL },
        { "HTTPS://A.b_c:8443/x?y#z", true, false, "A.b_c", 8443, "/x", "y" },
        { "https://a?q?r", true, false, "a", 443, "/", "q?r" },
        { "http://a:/", false, false, "a", 80, "/", NULL },
        { "http://[2001:db8::1]:81/x", false, true, "2001:db8::1", 81, "/x", NULL },
        { "http://a/x?", false, false, "a", 80, "/x", "" },
        { "http://a#b", false, false, "a", 80, "/", NULL },
    };
    struct uri uri;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_int_equal(uri_parse(view_str(rows[i].url), &uri), 0);
        assert_int_equal(uri.https, rows[i].https);
        assert_int_equal(uri.ipv6, rows[i].ipv6);
        assert_view(uri.host, rows[i].host);
        assert_int_equal(uri.port, rows[i].port);
        assert_view(uri.path, rows[i].path);
        assert_int_equal(uri.query.ptr == NULL, rows[i].query == NULL);
        if (rows[i].query)
            assert_view(uri.query, rows[i].query);
    }
}

/* Other schemes and bad URLs are told apart. */
static void bad_urls_are_refused(void **state)
{
    static const struct {
        const char *url;
        int error;
    } rows[] = {
        { "", -EPROTONOSUPPORT },         { "a", -EPROTONOSUPPORT },         { "/a", -EPROTONOSUPPORT },
        { "ftp://a/", -EPROTONOSUPPORT }, { "://a", -EPROTONOSUPPORT },      { "http:a", -EBADMSG },
        { "http://", -EBADMSG },          { "http:///a", -EBADMSG },         { "http://u@a/", -EBADMSG },
        { "http://a b/", -EBADMSG },      { "http://a/\xc3\xa4", -EBADMSG }, { "http://a/b c", -EBADMSG },
        { "http://a:99999/", -EBADMSG },  { "http://[::1/", -EBADMSG },      { "http://[::1%25lo]/", -EBADMSG },
        { "http://a%2e/", -EBADMSG },     { "http://a/\r\nX: y", -EBADMSG },
    };
    struct uri uri;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        assert_int_equal(uri_parse(view_str(rows[i].url), &uri), rows[i].error);
}

/* The examples of RFC 3986 §5.4, as far as they are http. */
static void references_are_resolved(void **state)
{
    static const struct {
        const char *reference, *host, *path, *query;
    } rows[] = {
        { "g", "a", "/b/c/g", NULL },       { "./g", "a", "/b/c/g", NULL },
        { "g/", "a", "/b/c/g/", NULL },     { "/g", "a", "/g", NULL },
        { "//g", "g", "/", NULL },          { "?y", "a", "/b/c/d;p", "y" },
        { "g?y", "a", "/b/c/g", "y" },      { "#s", "a", "/b/c/d;p", "q" },
        { "g#s", "a", "/b/c/g", NULL },     { ";x", "a", "/b/c/;x", NULL },
        { "", "a", "/b/c/d;p", "q" },       { ".", "a", "/b/c/", NULL },
        { "./", "a", "/b/c/", NULL },       { "..", "a", "/b/", NULL },
        { "../", "a", "/b/", NULL },        { "../g", "a", "/b/g", NULL },
        { "../..", "a", "/", NULL },        { "../../g", "a", "/g", NULL },
        { "../../../g", "a", "/g", NULL },  { "/./g", "a", "/g", NULL },
        { "/../g", "a", "/g", NULL },       { "g.", "a", "/b/c/g.", NULL },
        { "..g", "a", "/b/c/..g", NULL },   { "./../g", "a", "/b/g", NULL },
        { "./g/.", "a", "/b/c/g/", NULL },  { "g/./h", "a", "/b/c/g/h", NULL },
        { "g/../h", "a", "/b/c/h", NULL },  { "g?y/../x", "a", "/b/c/g", "y/../x" },
        { "https://o/x", "o", "/x", NULL },
    };
    struct uri base, uri;

    (void)state;
    assert_int_equal(uri_parse(VIEW("http://a/b/c/d;p?q"), &base), 0);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char memory[64];
        struct text text = TEXT_ON(memory);

        assert_int_equal(uri_resolve(&base, view_str(rows[i].reference), &text, &uri), 0);
        assert_view(uri.host, rows[i].host);
        assert_view(uri.path, rows[i].path);
        assert_int_equal(uri.query.ptr == NULL, rows[i].query == NULL);
        if (rows[i].query)
            assert_view(uri.query, rows[i].query);
    }
}

/* Origins are compared without case and with default ports; a bad reference or too little memory is an error. */
static void origins_are_compared(void **state)
{
    struct uri base, uri;
    char memory[4];
    struct text text = TEXT_ON(memory);

    (void)state;
    assert_int_equal(uri_parse(VIEW("http://Example.com/x/y"), &base), 0);
    assert_int_equal(uri_resolve(&base, VIEW("http://example.COM:80/z"), &text, &uri), 0);
    assert_true(uri_same_origin(&base, &uri));
    assert_int_equal(uri_resolve(&base, VIEW("https://example.com/"), &text, &uri), 0);
    assert_false(uri_same_origin(&base, &uri));
    assert_int_equal(uri_resolve(&base, VIEW("//example.com:81"), &text, &uri), 0);
    assert_false(uri_same_origin(&base, &uri));
    assert_int_equal(uri_resolve(&base, VIEW("mailto:x"), &text, &uri), -EPROTONOSUPPORT);
    assert_int_equal(uri_resolve(&base, VIEW("a b"), &text, &uri), -EBADMSG);
    assert_int_equal(uri_resolve(&base, VIEW("longer"), &text, &uri), -ENOBUFS);
}

/* Equal resources get equal keys; what might be another resource keeps its own. */
static void normal_forms(void **state)
{
    static const struct {
        const char *path, *normal;
    } paths[] = {
        { "/", "/" },
        { "/%7euser/%41%2f", "/~user/A%2F" },
        { "/a/../b/./c", "/a/../b/./c" },
        { "/%2e%2E/", "/../" },
        { "/a%", "/a%" },
        { "/%7e%4", "/%7e%4" },
        { "/%zz%7e", "/%zz%7e" },
        { "/%2541", "/%2541" },
        { "/\"{}", "/\"{}" },
        { "/%c3%a4", "/%C3%A4" },
    };
    static const struct {
        const char *authority;
        bool https;
        const char *normal;
    } hosts[] = {
        { "A.Com", false, "a.com" },
        { "A:80", false, "a" },
        { "a:80", true, "a:80" },
        { "a:443", true, "a" },
        { "a:", false, "a" },
        { "a:0080", false, "a" },
        { "[2001:DB8::1]:81", false, "[2001:db8::1]:81" },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        char memory[64];
        struct text text = TEXT_ON(memory);

        uri_normalize_path(view_str(paths[i].path), &text);
        assert_view(text_view(&text), paths[i].normal);
    }
    for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
        char memory[64];
        struct text text = TEXT_ON(memory);

        assert_int_equal(uri_normalize_authority(view_str(hosts[i].authority), hosts[i].https, &text), 0);
        assert_view(text_view(&text), hosts[i].normal);
    }
}

/* Parameters come in order, empty ones are skipped, a missing '=' is told from an empty value. */
static void queries_are_walked(void **state)
{
    struct view rest = VIEW("&a=1&&b&c==2&=&d=");
    static const char *const want[][2] = { { "a", "1" }, { "b", NULL }, { "c", "=2" }, { "", "" }, { "d", "" } };
    struct uri_param param;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(want); i++) {
        assert_true(uri_query_next(&rest, &param));
        assert_view(param.name, want[i][0]);
        assert_int_equal(param.value.ptr == NULL, want[i][1] == NULL);
        if (want[i][1])
            assert_view(param.value, want[i][1]);
    }
    assert_false(uri_query_next(&rest, &param));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(urls_are_parsed),
        cmocka_unit_test(bad_urls_are_refused),
        cmocka_unit_test(references_are_resolved),
        cmocka_unit_test(origins_are_compared),
        cmocka_unit_test(normal_forms),
        cmocka_unit_test(queries_are_walked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
