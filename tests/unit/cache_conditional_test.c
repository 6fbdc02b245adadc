#include "message_fixture.h"

#include "cache/conditional.h"

#define DATE "Sun, 06 Nov 1994 08:49:37 GMT" /* 784111777 */
#define BEFORE "Sun, 06 Nov 1994 08:49:36 GMT"
#define HEAD \
    "HTTP/1.1 200 OK: fine\r\nDate: " DATE "\r\nETag: \"a\"\r\nCache-Control: max-age=1\r\nContent-Type: text/css\r\n" \
    "X-A: 1\r\nx-a: 2\r\nSet-Cookie: mine\r\nVary: X\r\nLast-Modified: " BEFORE "\r\n"

static void test_evaluate(void **state)
{
    /* Proves the order of conditions and that unparsable ones change nothing (RFC 9110 §13.2.2). */
    static const struct {
        const char *lines;
        const char *etag;
        int64_t modified_s;
        uint16_t status;
        enum condition result;
    } cases[] = {
        { "", "\"a\"", 784111777, 200, COND_NONE },
        { "If-None-Match: \"a\"", "\"a\"", -1, 200, COND_NOT_MODIFIED },
        { "If-None-Match: W/\"a\"", "\"a\"", -1, 200, COND_NOT_MODIFIED },
        { "If-None-Match: \"b\", \"a\"", "W/\"a\"", -1, 200, COND_NOT_MODIFIED },
        { "If-None-Match: *", "", -1, 200, COND_NOT_MODIFIED },
        { "If-None-Match: \"a\"", "\"a\"", -1, 404, COND_NONE },
        { "If-None-Match: \"b\"\nIf-Modified-Since: " DATE, "\"a\"", 784111777, 200, COND_NONE },
        { "If-None-Match: \"b\"\nIf-Modified-Since: " DATE, "", 784111777, 200, COND_NONE },
        { "If-Modified-Since: " DATE, "", 784111777, 200, COND_NOT_MODIFIED },
        { "If-Modified-Since: " DATE, "", 784111770, 200, COND_NOT_MODIFIED },
        { "If-Modified-Since: " BEFORE, "", 784111777, 200, COND_NONE },
        { "If-Modified-Since: " DATE, "", -1, 200, COND_NOT_MODIFIED }, /* by Date */
        { "If-Modified-Since: " BEFORE, "", -1, 200, COND_NONE },
        { "If-Modified-Since: junk", "", 784111777, 200, COND_NONE },
        { "If-Modified-Since: " DATE "\nIf-Modified-Since: " DATE, "", 784111777, 200, COND_NONE },
        { "If-Match: \"a\"", "\"a\"", -1, 200, COND_NONE },
        { "If-Match: *", "", -1, 200, COND_NONE },
        { "If-Match: \"b\"", "\"a\"", -1, 200, COND_FAILED },
        { "If-Match: \"a\"", "W/\"a\"", -1, 200, COND_FAILED },
        { "If-Match: \"a\"\nIf-Unmodified-Since: " BEFORE, "\"a\"", 784111777, 200, COND_NONE },
        { "If-Unmodified-Since: " BEFORE, "", 784111777, 200, COND_FAILED },
        { "If-Unmodified-Since: " DATE, "", 784111777, 200, COND_NONE },
        { "If-Unmodified-Since: junk", "", 784111777, 200, COND_NONE },
        { "If-Match: \"b\"\nIf-None-Match: \"a\"", "\"a\"", -1, 200, COND_FAILED },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct object_times times = { .response_ms = 784111777000,
                                      .date_s = 784111777,
                                      .last_modified_s = cases[i].modified_s };
        struct message m;
        enum condition c = conditional_evaluate(message_of(&m, cases[i].lines), METHOD_GET, cases[i].status,
                                                view_str(cases[i].etag), &times);

        if (c != cases[i].result)
            fail_msg("case %zu: %d\n%s", i, (int)c, cases[i].lines);
    }
}

static void test_304_head(void **state)
{
    /* Proves which stored fields a 304 of ours carries. */
    char memory[512];
    struct text out = TEXT_ON(memory);

    (void)state;
    conditional_304_head(VIEW(HEAD), &out);
    assert_view(text_view(&out),
                "HTTP/1.1 304 Not Modified\r\nDate: " DATE "\r\nETag: \"a\"\r\nCache-Control: max-age=1\r\n"
                "Vary: X\r\n");
    out.len = 0;
    conditional_304_head(VIEW("HTTP/1.1 200 OK\r\nLast-Modified: " BEFORE "\r\n"), &out);
    assert_view(text_view(&out), "HTTP/1.1 304 Not Modified\r\nLast-Modified: " BEFORE "\r\n");
    assert_view(head_value(VIEW(HEAD), FIELD_CONTENT_TYPE), "text/css");
    assert_null(head_value(VIEW(HEAD), FIELD_EXPIRES).ptr);
}

static void test_merge(void **state)
{
    /* Proves that a 304 replaces named fields whole, and never what describes the body, one client's cookie or a hop. */
    struct message m;
    char memory[1024];
    struct text out = TEXT_ON(memory);

    (void)state;
    message_of(
        &m,
        "Cache-Control: max-age=9\nX-A: 3\nETag: W/\"a\"\nContent-Length: 0\nContent-Type: text/html\nContent-Encoding: br\n"
        "Content-Range: bytes 0-1/2\nSet-Cookie: yours\nAge: 5\nConnection: X-Hop\nX-Hop: 1\nX-New: n\n"
        "Transfer-Encoding: chunked");
    head_merge_304(VIEW(HEAD), &m.fields, &out);
    assert_view(text_view(&out), "HTTP/1.1 200 OK: fine\r\nDate: " DATE "\r\nETag: \"a\"\r\nContent-Type: text/css\r\n"
                                 "Set-Cookie: mine\r\nVary: X\r\nLast-Modified: " BEFORE "\r\n"
                                 "Cache-Control: max-age=9\r\nX-A: 3\r\nX-New: n\r\n");
}

static void test_validators(void **state)
{
    /* Proves which 304 speaks about the stored response, and what we ask with. */
    struct message m;
    char memory[256];
    struct text out = TEXT_ON(memory);

    (void)state;
    assert_true(validator_selects(message_of(&m, "ETag: \"a\""), VIEW("\"a\""), -1, 0));
    assert_false(validator_selects(message_of(&m, "ETag: \"b\""), VIEW("\"a\""), -1, 0));
    assert_true(validator_selects(message_of(&m, "ETag: \"a\""), VIEW("W/\"a\""), -1, 0));
    assert_true(validator_selects(message_of(&m, "ETag: \"a\""), VIEW_NONE, -1, 0));
    assert_true(validator_selects(message_of(&m, "ETag: W/\"a\""), VIEW("\"a\""), -1, 0));
    assert_true(validator_selects(message_of(&m, ""), VIEW("\"a\""), 5, 0));
    assert_false(validator_selects(message_of(&m, "Last-Modified: " DATE), VIEW_NONE, 5, 0));
    assert_true(validator_selects(message_of(&m, "Last-Modified: " DATE), VIEW_NONE, 784111777, 0));
    assert_true(conditional_request_put(&out, VIEW("W/\"a\""), 784111777));
    assert_view(text_view(&out), "If-None-Match: W/\"a\"\r\nIf-Modified-Since: " DATE "\r\n");
    assert_false(conditional_request_put(&out, VIEW_NONE, -1));
    assert_false(conditional_request_put(&out, VIEW("not a tag"), -1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_evaluate),
        cmocka_unit_test(test_304_head),
        cmocka_unit_test(test_merge),
        cmocka_unit_test(test_validators),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
