/* Request heads: every way of being wrong, targets, Host, framing, and that pieces give the same result as the whole. */
#include "proto/http1.h"

#include "base/heap.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

static const struct http1_limits limits = { .head_max = 32768, .target_max = 8192 };

static int parse(struct view input, const struct http1_limits *limit, struct field *memory, size_t cap,
                 struct http_request *request, enum http1_error *ret_error)
{
    size_t scanned = 0;

    fields_init(&request->fields, memory, cap);
    *ret_error = HTTP1_OK;
    return http1_parse_request(input, limit, &scanned, request, ret_error);
}

static void assert_view(struct view got, const char *want)
{
    if (!view_eq(got, view_str(want)))
        fail_msg("got '%.*s', expected '%s'", VIEW_ARG(got), want);
}

struct bad_row {
    struct view head;
    enum http1_error error;
};
#define ROW(text, e) \
    { \
        { text, sizeof(text) - 1 }, HTTP1_##e \
    }
#define H "Host: a\r\n"
#define GET "GET / HTTP/1.1\r\n"

static const struct bad_row bad[] = {
    /* request line */
    ROW("GET /\r\n\r\n", BAD_REQUEST_LINE),
    ROW("GET  / HTTP/1.1\r\n" H "\r\n", BAD_REQUEST_LINE),
    ROW("GET /  HTTP/1.1\r\n" H "\r\n", BAD_REQUEST_LINE),
    ROW("GET\t/ HTTP/1.1\r\n" H "\r\n", BAD_REQUEST_LINE),
    ROW(" GET / HTTP/1.1\r\n" H "\r\n", BAD_REQUEST_LINE),
    ROW("G@T / HTTP/1.1\r\n" H "\r\n", BAD_REQUEST_LINE),
    ROW("GET / HTTP/1.1 \r\n" H "\r\n", BAD_REQUEST_LINE),
    ROW("GET / http/1.1\r\n" H "\r\n", BAD_REQUEST_LINE),
    ROW("GET / HTTP/1,1\r\n" H "\r\n", BAD_REQUEST_LINE),
    ROW("GET / HTTP/11.1\r\n" H "\r\n", BAD_REQUEST_LINE),
    ROW("GET / FTP\r\n" H "\r\n", BAD_REQUEST_LINE),
    ROW("GET / HTTP/1.1\n" H "\r\n", BAD_REQUEST_LINE),
    ROW("GET / HTTP/1.1\r" H "\r\n", BAD_REQUEST_LINE),
    ROW("\nGET / HTTP/1.1\r\n" H "\r\n", BAD_REQUEST_LINE),
    ROW("\r\n\r\n\r\nGET / HTTP/1.1\r\n" H "\r\n", BAD_REQUEST_LINE),
    ROW("GET / HTTP/2.0\r\n" H "\r\n", BAD_VERSION),
    ROW("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", BAD_VERSION),
    ROW("GET / HTTP/0.9\r\n" H "\r\n", BAD_VERSION),
    ROW("GET /a#b HTTP/1.1\r\n" H "\r\n", BAD_REQUEST_LINE),
    ROW("GET /a\xc3\xa4 HTTP/1.1\r\n" H "\r\n", BAD_REQUEST_LINE),
    ROW("GET /a\x01 HTTP/1.1\r\n" H "\r\n", BAD_REQUEST_LINE),
    ROW("GET /a\0b HTTP/1.1\r\n" H "\r\n", BAD_REQUEST_LINE),
    ROW("GET /0123456789abcdef0123456789\x7f HTTP/1.1\r\n" H "\r\n", BAD_REQUEST_LINE),
    ROW("GET a HTTP/1.1\r\n" H "\r\n", BAD_REQUEST_LINE),
    ROW("GET * HTTP/1.1\r\n" H "\r\n", BAD_REQUEST_LINE),
    ROW("GET ftp://a/ HTTP/1.1\r\n" H "\r\n", BAD_REQUEST_LINE),
    ROW("GET http:/a HTTP/1.1\r\n" H "\r\n", BAD_REQUEST_LINE),
    ROW("GET http:///a HTTP/1.1\r\n" H "\r\n", BAD_REQUEST_LINE),
    ROW("GET http://u@a/ HTTP/1.1\r\n" H "\r\n", BAD_REQUEST_LINE),
    ROW("GET http://u:p@a/ HTTP/1.1\r\n" H "\r\n", BAD_REQUEST_LINE),
    ROW("CONNECT a HTTP/1.1\r\n" H "\r\n", BAD_REQUEST_LINE),
    ROW("CONNECT /a:1 HTTP/1.1\r\n" H "\r\n", BAD_REQUEST_LINE),
    ROW("CONNECT http://a:1 HTTP/1.1\r\n" H "\r\n", BAD_REQUEST_LINE),
    /* field names and folds */
    ROW(GET H "A : b\r\n\r\n", BAD_FIELD_NAME),
    ROW(GET H "A\t: b\r\n\r\n", BAD_FIELD_NAME),
    ROW(GET H ": b\r\n\r\n", BAD_FIELD_NAME),
    ROW(GET H "A b: c\r\n\r\n", BAD_FIELD_NAME),
    ROW(GET H "A\xc3\xa4: c\r\n\r\n", BAD_FIELD_NAME),
    ROW(GET H "A\0: c\r\n\r\n", BAD_FIELD_NAME),
    ROW(GET H "novalue\r\n\r\n", BAD_FIELD_NAME),
    ROW(GET H "A: b\r\n c\r\n\r\n", BAD_FIELD_NAME),
    ROW(GET H "A: b\r\n\tc\r\n\r\n", BAD_FIELD_NAME),
    ROW(GET " Host: a\r\n\r\n", BAD_FIELD_NAME),
    ROW(GET H "Transfer-Encoding : chunked\r\n\r\n", BAD_FIELD_NAME),
    ROW(GET H "\n\r\n", BAD_FIELD_NAME),
    ROW(GET H "\rX: y\r\n\r\n", BAD_FIELD_NAME),
    /* field values */
    ROW(GET H "A: b\n\r\n", BAD_FIELD_VALUE),
    ROW(GET H "A: b\nC: d\r\n\r\n", BAD_FIELD_VALUE),
    ROW(GET H "A: b\rC: d\r\n\r\n", BAD_FIELD_VALUE),
    ROW(GET H "A: b\r\r\n\r\n", BAD_FIELD_VALUE),
    ROW(GET H "A: b\0c\r\n\r\n", BAD_FIELD_VALUE),
    ROW(GET H "A: b\x0b\r\n\r\n", BAD_FIELD_VALUE),
    ROW(GET H "A: 0123456789abcdef0123456789abcde\x7f\r\n\r\n", BAD_FIELD_VALUE),
    ROW(GET H "Transfer-Encoding: \x0b"
              "chunked\r\n\r\n",
        BAD_FIELD_VALUE),
    /* Host */
    ROW(GET "\r\n", BAD_HOST),
    ROW(GET H H "\r\n", BAD_HOST),
    ROW(GET H "hOST: b\r\n\r\n", BAD_HOST),
    ROW(GET "Host:\r\n\r\n", BAD_HOST),
    ROW(GET "Host: a b\r\n\r\n", BAD_HOST),
    ROW(GET "Host: a, b\r\n\r\n", BAD_HOST),
    ROW(GET "Host: a/b\r\n\r\n", BAD_HOST),
    ROW(GET "Host: u@a\r\n\r\n", BAD_HOST),
    ROW(GET "Host: a:b\r\n\r\n", BAD_HOST),
    ROW(GET "Host: a:0\r\n\r\n", BAD_HOST),
    ROW(GET "Host: a:65536\r\n\r\n", BAD_HOST),
    ROW(GET "Host: a:+80\r\n\r\n", BAD_HOST),
    ROW(GET "Host: :80\r\n\r\n", BAD_HOST),
    ROW(GET "Host: a:80:80\r\n\r\n", BAD_HOST),
    ROW(GET "Host: ::1\r\n\r\n", BAD_HOST),
    ROW(GET "Host: [::1\r\n\r\n", BAD_HOST),
    ROW(GET "Host: [::g]\r\n\r\n", BAD_HOST),
    ROW(GET "Host: []\r\n\r\n", BAD_HOST),
    ROW(GET "Host: [::1]a\r\n\r\n", BAD_HOST),
    ROW(GET "Host: \xc3\xa4\r\n\r\n", BAD_HOST),
    ROW("GET http://a/ HTTP/1.1\r\n\r\n", BAD_HOST),
    ROW("GET http://a/ HTTP/1.1\r\n" H "Host: b\r\n\r\n", BAD_HOST),
    ROW("GET / HTTP/1.0\r\nHost: a b\r\n\r\n", BAD_HOST),
    /* Content-Length */
    ROW(GET H "Content-Length:\r\n\r\n", BAD_CONTENT_LENGTH),
    ROW(GET H "Content-Length: -1\r\n\r\n", BAD_CONTENT_LENGTH),
    ROW(GET H "Content-Length: +1\r\n\r\n", BAD_CONTENT_LENGTH),
    ROW(GET H "Content-Length: 0x1\r\n\r\n", BAD_CONTENT_LENGTH),
    ROW(GET H "Content-Length: 1 1\r\n\r\n", BAD_CONTENT_LENGTH),
    ROW(GET H "Content-Length: 1_0\r\n\r\n", BAD_CONTENT_LENGTH),
    ROW(GET H "Content-Length: 1,\r\n\r\n", BAD_CONTENT_LENGTH),
    ROW(GET H "Content-Length: ,1\r\n\r\n", BAD_CONTENT_LENGTH),
    ROW(GET H "Content-Length: 1, 2\r\n\r\n", BAD_CONTENT_LENGTH),
    ROW(GET H "Content-Length: 1\r\nContent-Length: 2\r\n\r\n", BAD_CONTENT_LENGTH),
    ROW(GET H "Content-Length: 1\r\ncontent-length: \r\n\r\n", BAD_CONTENT_LENGTH),
    ROW(GET H "Content-Length: 9223372036854775808\r\n\r\n", BAD_CONTENT_LENGTH),
    ROW(GET H "Content-Length: 18446744073709551617\r\n\r\n", BAD_CONTENT_LENGTH),
    ROW(GET H "Content-Length: \"1\"\r\n\r\n", BAD_CONTENT_LENGTH),
    /* Transfer-Encoding */
    ROW(GET H "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", BAD_TRANSFER_ENCODING),
    ROW(GET H "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", BAD_TRANSFER_ENCODING),
    ROW(GET H "Transfer-Encoding: gzip\r\nContent-Length: 1\r\n\r\n", BAD_TRANSFER_ENCODING),
    ROW(GET H "Transfer-Encoding:\r\n\r\n", BAD_TRANSFER_ENCODING),
    ROW(GET H "Transfer-Encoding: ,\r\n\r\n", BAD_TRANSFER_ENCODING),
    ROW(GET H "Transfer-Encoding: identity\r\n\r\n", BAD_TRANSFER_ENCODING),
    ROW(GET H "Transfer-Encoding: xchunked\r\n\r\n", BAD_TRANSFER_ENCODING),
    ROW(GET H "Transfer-Encoding: chunkedx\r\n\r\n", BAD_TRANSFER_ENCODING),
    ROW(GET H "Transfer-Encoding: \"chunked\"\r\n\r\n", BAD_TRANSFER_ENCODING),
    ROW(GET H "Transfer-Encoding: 'chunked'\r\n\r\n", BAD_TRANSFER_ENCODING),
    ROW(GET H "Transfer-Encoding: chunked;q=1\r\n\r\n", BAD_TRANSFER_ENCODING),
    ROW(GET H "Transfer-Encoding: chunked, gzip\r\n\r\n", BAD_TRANSFER_ENCODING),
    ROW(GET H "Transfer-Encoding: chunked, identity\r\n\r\n", BAD_TRANSFER_ENCODING),
    ROW(GET H "Transfer-Encoding: chunked, chunked\r\n\r\n", BAD_TRANSFER_ENCODING),
    ROW(GET H "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n", BAD_TRANSFER_ENCODING),
    ROW(GET H "Transfer-Encoding: gzip;a=\"x, chunked\r\n\r\n", BAD_TRANSFER_ENCODING),
    ROW(GET H "Transfer-Encoding: chunked\xa0\r\n\r\n", BAD_TRANSFER_ENCODING),
    ROW("POST / HTTP/1.0\r\n" H "Transfer-Encoding: chunked\r\n\r\n", BAD_TRANSFER_ENCODING),
    ROW(GET H "Transfer-Encoding: gzip, chunked\r\n\r\n", UNSUPPORTED_CODING),
    ROW(GET H "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n", UNSUPPORTED_CODING),
    ROW(GET H "Transfer-Encoding: identity, chunked\r\n\r\n", UNSUPPORTED_CODING),
};

/* Feeds `input` in two pieces cut at `cut`, from a heap block of exactly that size so that a read past it is caught.
 * The views of the result are into `input`. */
static int parse_split(struct view input, size_t cut, struct field *memory, size_t cap, struct http_request *request,
                       enum http1_error *ret_error)
{
    size_t scanned = 0;
    char *part = heap_alloc(cut ? cut : 1);
    int r;

    assert_non_null(part);
    memcpy(part, input.ptr, cut);
    fields_init(&request->fields, memory, cap);
    *ret_error = HTTP1_OK;
    r = http1_parse_request(view_make(part, cut), &limits, &scanned, request, ret_error);
    heap_free(part);
    if (r == -EBADMSG)
        return r;
    return http1_parse_request(input, &limits, &scanned, request, ret_error);
}

/* Every smuggling vector and malformed head is refused with its own reason, whole and cut anywhere. */
static void malformed_heads_are_refused(void **state)
{
    struct field memory[100];
    struct http_request request;
    enum http1_error error;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        int r = parse(bad[i].head, &limits, memory, 100, &request, &error);

        if (r != -EBADMSG || error != bad[i].error)
            fail_msg("'%.*s': %d, %s", VIEW_ARG(bad[i].head), r, http1_error_text(error));
        for (size_t cut = 0; cut <= bad[i].head.len; cut++) {
            r = parse_split(bad[i].head, cut, memory, 100, &request, &error);
            if (r != -EBADMSG || error != bad[i].error)
                fail_msg("'%.*s' cut at %zu: %d, %s", VIEW_ARG(bad[i].head), cut, r, http1_error_text(error));
        }
    }
}

static const char good[] = "POST /a/b?c=d HTTP/1.1\r\nHost: example.com:8080\r\nUser-Agent: \t x y \t\r\n"
                           "Accept:\r\nX-Text: \xc3\xa4\tb 0123456789 0123456789\r\nConnection: foo, Close\r\n"
                           "Expect: 100-Continue\r\nContent-Length: 5, 5\r\nContent-Length: 005\r\n\r\n";

/* A full head gives every part, and cutting it anywhere changes nothing. */
static void pieces_equal_the_whole(void **state)
{
    struct view input = view_make(good, sizeof(good) - 1);
    struct field memory[100];
    struct http_request request;
    enum http1_error error;

    (void)state;
    for (size_t cut = 0; cut <= input.len; cut++) {
        assert_int_equal(parse_split(input, cut, memory, 100, &request, &error), (int)input.len);
        assert_int_equal(request.method, METHOD_POST);
        assert_view(request.target, "/a/b?c=d");
        assert_view(request.path, "/a/b");
        assert_view(request.query, "c=d");
        assert_view(request.authority, "example.com:8080");
        assert_int_equal(request.scheme.len, 0);
        assert_int_equal(request.minor, 1);
        assert_false(request.keep_alive);
        assert_true(request.expect_continue);
        assert_int_equal(request.body, BODY_LENGTH);
        assert_int_equal(request.content_length, 5);
        assert_int_equal(request.fields.count, 8);
        assert_view(fields_value(&request.fields, FIELD_USER_AGENT), "x y");
        assert_view(fields_value(&request.fields, FIELD_ACCEPT), "");
        assert_view(fields_find(&request.fields, VIEW("x-text"))->value, "\xc3\xa4\tb 0123456789 0123456789");
    }
}

/* A head that arrives byte by byte is incomplete until its last byte; what follows it is not touched. */
static void byte_by_byte(void **state)
{
    struct field memory[100];
    struct http_request request;
    enum http1_error error = HTTP1_OK;
    size_t scanned = 0;

    (void)state;
    fields_init(&request.fields, memory, 100);
    for (size_t len = 0; len < sizeof(good) - 1; len++)
        assert_int_equal(http1_parse_request(view_make(good, len), &limits, &scanned, &request, &error), -EAGAIN);
    assert_int_equal(http1_parse_request(view_make(good, sizeof(good) - 1), &limits, &scanned, &request, &error),
                     (int)sizeof(good) - 1);
    assert_int_equal(parse(VIEW("\r\n\r\nGET / HTTP/1.0\r\n\r\nGET \1"), &limits, memory, 100, &request, &error), 22);
}

/* The four forms of a target and which authority wins. */
static void targets(void **state)
{
    static const struct {
        struct view head;
        const char *scheme, *authority, *path, *query;
    } rows[] = {
#define T(line, ...) \
    { { line " HTTP/1.1\r\nHost: h:1\r\n\r\n", sizeof(line " HTTP/1.1\r\nHost: h:1\r\n\r\n") - 1 }, __VA_ARGS__ }
        T("GET /", "", "h:1", "/", NULL),
        T("GET /?", "", "h:1", "/", ""),
        T("GET //x/../y?a?b", "", "h:1", "//x/../y", "a?b"),
        T("GET /{a}|b\"", "", "h:1", "/{a}|b\"", NULL),
        T("GET http://o:80/p?q", "http", "o:80", "/p", "q"),
        T("GET HTTPS://[::1]:8/p", "HTTPS", "[::1]:8", "/p", NULL),
        T("GET http://o", "http", "o", "/", NULL),
        T("GET http://o?q", "http", "o", "/", "q"),
        T("OPTIONS http://o", "http", "o", "*", NULL),
        T("OPTIONS http://o/", "http", "o", "/", NULL),
        T("OPTIONS *", "", "h:1", "*", NULL),
        T("CONNECT o:443", "", "o:443", "", NULL),
        T("BREW /pot", "", "h:1", "/pot", NULL),
    };
    struct field memory[8];
    struct http_request request;
    enum http1_error error;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_int_equal(parse(rows[i].head, &limits, memory, 8, &request, &error), (int)rows[i].head.len);
        assert_view(request.scheme, rows[i].scheme);
        assert_view(request.authority, rows[i].authority);
        assert_view(request.path, rows[i].path);
        assert_int_equal(request.query.ptr == NULL, rows[i].query == NULL);
        if (rows[i].query)
            assert_view(request.query, rows[i].query);
    }
    assert_int_equal(request.method, METHOD_OTHER);
}

/* Methods are case-sensitive and exact. */
static void methods(void **state)
{
    static const struct {
        const char *name;
        enum http_method method;
    } rows[] = {
        { "GET", METHOD_GET },         { "HEAD", METHOD_HEAD },   { "POST", METHOD_POST },   { "PUT", METHOD_PUT },
        { "DELETE", METHOD_DELETE },   { "TRACE", METHOD_TRACE }, { "PATCH", METHOD_PATCH }, { "PURGE", METHOD_PURGE },
        { "OPTIONS", METHOD_OPTIONS }, { "get", METHOD_OTHER },   { "GETS", METHOD_OTHER },  { "GE", METHOD_OTHER },
        { "M-SEARCH", METHOD_OTHER },
    };
    struct field memory[8];
    struct http_request request;
    enum http1_error error;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char head[64];
        int len = snprintf(head, sizeof(head), "%s / HTTP/1.1\r\nHost: a\r\n\r\n", rows[i].name);

        assert_int_equal(parse(view_make(head, (size_t)len), &limits, memory, 8, &request, &error), len);
        assert_int_equal(request.method, rows[i].method);
        assert_view(request.method_name, rows[i].name);
    }
}

/* Version and Connection decide about keep-alive; bodies follow the framing fields. */
static void persistence_and_framing(void **state)
{
    static const struct {
        struct view head;
        bool keep_alive;
        enum http_body body;
    } rows[] = {
#define P(text, ...) { { text "\r\n", sizeof(text "\r\n") - 1 }, __VA_ARGS__ }
        P(GET H, true, BODY_NONE),
        P(GET H "Connection: close\r\n", false, BODY_NONE),
        P(GET H "Connection: x\r\nConnection: CLOSE\r\n", false, BODY_NONE),
        P("GET / HTTP/1.0\r\n", false, BODY_NONE),
        P("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n", true, BODY_NONE),
        P("GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n", false, BODY_NONE),
        P("GET / HTTP/1.9\r\n" H, true, BODY_NONE),
        P(GET H "Content-Length: 0\r\n", true, BODY_LENGTH),
        P(GET H "Content-Length: 9223372036854775807\r\n", true, BODY_LENGTH),
        P(GET H "Transfer-Encoding: Chunked\r\n", true, BODY_CHUNKED),
        P(GET H "Transfer-Encoding: , chunked ,\r\n", true, BODY_CHUNKED),
    };
    struct field memory[8];
    struct http_request request;
    enum http1_error error;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_int_equal(parse(rows[i].head, &limits, memory, 8, &request, &error), (int)rows[i].head.len);
        assert_int_equal(request.keep_alive, rows[i].keep_alive);
        assert_int_equal(request.body, rows[i].body);
        assert_false(request.expect_continue);
    }
}

/* Each limit is met exactly: the last allowed byte or field passes, the next is refused with its own reason. */
static void limits_are_exact(void **state)
{
    struct view head = VIEW(GET H "A: b\r\n\r\n"), target = VIEW("GET /12345 HTTP/1.0\r\n\r\n");
    struct http1_limits exact = { .head_max = head.len, .target_max = 6 };
    struct field memory[8];
    struct http_request request;
    enum http1_error error;

    (void)state;
    assert_int_equal(parse(head, &exact, memory, 2, &request, &error), (int)head.len);
    assert_int_equal(parse(head, &exact, memory, 1, &request, &error), -EBADMSG);
    assert_int_equal(error, HTTP1_TOO_MANY_FIELDS);
    exact.head_max--;
    assert_int_equal(parse(head, &exact, memory, 2, &request, &error), -EBADMSG);
    assert_int_equal(error, HTTP1_HEAD_TOO_LARGE);
    assert_int_equal(parse(view_first(head, head.len - 2), &exact, memory, 2, &request, &error), -EAGAIN);
    assert_int_equal(parse(target, &exact, memory, 2, &request, &error), (int)target.len);
    exact.target_max--;
    assert_int_equal(parse(target, &exact, memory, 2, &request, &error), -EBADMSG);
    assert_int_equal(error, HTTP1_TARGET_TOO_LONG);
    assert_int_equal(http1_error_status(HTTP1_TARGET_TOO_LONG), 414);
    assert_int_equal(http1_error_status(HTTP1_HEAD_TOO_LARGE), 431);
    assert_int_equal(http1_error_status(HTTP1_UNSUPPORTED_CODING), 501);
    assert_int_equal(http1_error_status(HTTP1_BAD_VERSION), 505);
    assert_int_equal(http1_error_status(HTTP1_BAD_HOST), 400);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(malformed_heads_are_refused),
        cmocka_unit_test(pieces_equal_the_whole),
        cmocka_unit_test(byte_by_byte),
        cmocka_unit_test(targets),
        cmocka_unit_test(methods),
        cmocka_unit_test(persistence_and_framing),
        cmocka_unit_test(limits_are_exact),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
