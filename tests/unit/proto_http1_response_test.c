/* Response heads: status lines, body length rules and what is refused. */
#include "proto/http1.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

static const struct http1_limits limits = { .head_max = 4096 };

static int parse(struct view input, enum http_method method, struct field *memory, struct http_response *response,
                 enum http1_error *ret_error)
{
    size_t scanned = 0;

    fields_init(&response->fields, memory, 16);
    *ret_error = HTTP1_OK;
    return http1_parse_response(input, &limits, &scanned, method, response, ret_error);
}

/* Malformed heads are refused with their reason, whole and when the first piece is cut anywhere. */
static void malformed_heads_are_refused(void **state)
{
    static const struct {
        struct view head;
        enum http1_error error;
    } rows[] = {
#define ROW(text, e) { { text "\r\n", sizeof(text "\r\n") - 1 }, HTTP1_##e }
#define OK "HTTP/1.1 200 OK\r\n"
        ROW("HTTP/1.1 20 OK\r\n", BAD_STATUS_LINE),
        ROW("HTTP/1.1 2000 OK\r\n", BAD_STATUS_LINE),
        ROW("HTTP/1.1 099 OK\r\n", BAD_STATUS_LINE),
        ROW("HTTP/1.1  200 OK\r\n", BAD_STATUS_LINE),
        ROW("HTTP/1.1\t200 OK\r\n", BAD_STATUS_LINE),
        ROW("HTTP/1.1 2x0 OK\r\n", BAD_STATUS_LINE),
        ROW("HTTP/1.1 200 O\1\r\n", BAD_STATUS_LINE),
        ROW("HTTP/1.1 200 OK\n", BAD_STATUS_LINE),
        ROW("\r\n" OK, BAD_STATUS_LINE),
        ROW("ICY 200 OK\r\n", BAD_STATUS_LINE),
        ROW("<html>\r\n", BAD_STATUS_LINE),
        ROW("HTTP/2.0 200 OK\r\n", BAD_VERSION),
        ROW(OK "A : b\r\n", BAD_FIELD_NAME),
        ROW(OK "A: b\r\n c\r\n", BAD_FIELD_NAME),
        ROW(OK "A: b\n", BAD_FIELD_VALUE),
        ROW(OK "Content-Length: x\r\n", BAD_CONTENT_LENGTH),
        ROW(OK "Content-Length: 1\r\nContent-Length: 2\r\n", BAD_CONTENT_LENGTH),
        ROW(OK "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", BAD_TRANSFER_ENCODING),
        ROW(OK "Transfer-Encoding: gzip\r\n", BAD_TRANSFER_ENCODING),
        ROW(OK "Transfer-Encoding: chunked, chunked\r\n", BAD_TRANSFER_ENCODING),
        ROW("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n", BAD_TRANSFER_ENCODING),
        ROW(OK "Transfer-Encoding: gzip, chunked\r\n", UNSUPPORTED_CODING),
    };
    struct field memory[16];
    struct http_response response;
    enum http1_error error;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        for (size_t cut = 0; cut <= rows[i].head.len; cut++) {
            size_t scanned = 0;
            int r;

            fields_init(&response.fields, memory, 16);
            error = HTTP1_OK;
            r = http1_parse_response(view_first(rows[i].head, cut), &limits, &scanned, METHOD_GET, &response, &error);
            if (r == -EAGAIN)
                r = http1_parse_response(rows[i].head, &limits, &scanned, METHOD_GET, &response, &error);
            if (r != -EBADMSG || error != rows[i].error)
                fail_msg("'%.*s' cut at %zu: %d, %s", VIEW_ARG(rows[i].head), cut, r, http1_error_text(error));
        }
    }
}

/* RFC 9112 §6.3: the method and the status decide before the fields do. */
static void body_rules(void **state)
{
    static const struct {
        enum http_method method;
        struct view head;
        uint16_t status;
        enum http_body body;
        bool keep_alive, has_length;
    } rows[] = {
#define R(m, text, ...) { METHOD_##m, { "HTTP/1." text "\r\n", sizeof("HTTP/1." text "\r\n") - 1 }, __VA_ARGS__ }
#define CL5 "Content-Length: 5\r\n"
#define TE "Transfer-Encoding: chunked\r\n"
        R(GET, "1 200 OK\r\n" CL5, 200, BODY_LENGTH, true, true),
        R(GET, "1 200\r\n" CL5, 200, BODY_LENGTH, true, true),
        R(GET, "1 200 \r\n" CL5 CL5, 200, BODY_LENGTH, true, true),
        R(GET, "1 999 \xe4?\r\n" TE, 999, BODY_CHUNKED, true, false),
        R(GET, "1 200 OK\r\n", 200, BODY_EOF, false, false),
        R(GET, "0 200 OK\r\nConnection: keep-alive\r\n", 200, BODY_EOF, false, false),
        R(GET, "0 200 OK\r\nConnection: keep-alive\r\n" CL5, 200, BODY_LENGTH, true, true),
        R(GET, "0 200 OK\r\n" CL5, 200, BODY_LENGTH, false, true),
        R(GET, "1 200 OK\r\nConnection: close\r\n" CL5, 200, BODY_LENGTH, false, true),
        R(HEAD, "1 200 OK\r\n" CL5, 200, BODY_NONE, true, true),
        R(HEAD, "1 200 OK\r\n" TE, 200, BODY_NONE, true, false),
        R(HEAD, "1 200 OK\r\n", 200, BODY_NONE, true, false),
        R(GET, "1 304 Not\r\n" CL5, 304, BODY_NONE, true, true),
        R(GET, "1 204 No\r\n", 204, BODY_NONE, true, false),
        R(GET, "1 204 No\r\nContent-Length: 0\r\n", 204, BODY_NONE, true, true),
        R(GET, "1 204 No\r\n" CL5, 204, BODY_NONE, false, true),
        R(GET, "1 204 No\r\n" TE, 204, BODY_NONE, false, false),
        R(GET, "1 103 Early\r\nLink: x\r\n", 103, BODY_NONE, true, false),
        R(GET, "1 101 Switching\r\nConnection: upgrade\r\n", 101, BODY_NONE, true, false),
        R(CONNECT, "1 200 OK\r\n" TE, 200, BODY_NONE, true, false),
        R(CONNECT, "1 403 No\r\n" CL5, 403, BODY_LENGTH, true, true),
    };
    struct field memory[16];
    struct http_response response;
    enum http1_error error;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_int_equal(parse(rows[i].head, rows[i].method, memory, &response, &error), (int)rows[i].head.len);
        assert_int_equal(response.status, rows[i].status);
        assert_int_equal(response.body, rows[i].body);
        assert_int_equal(response.keep_alive, rows[i].keep_alive);
        assert_int_equal(response.has_content_length, rows[i].has_length);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(malformed_heads_are_refused),
        cmocka_unit_test(body_rules),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
