#include "proto/otlp.h"

#include "proto/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

static struct otlp_span span_of(struct view name)
{
    return (struct otlp_span){
        .trace_id = { 0x0af7651916cd43dd, 0x8448eb211c80319c },
        .id = 0x00b7ad6b71692033,
        .name = name,
        .kind = OTLP_SERVER,
        .start_ns = 1767225600000000001,
        .end_ns = 1767225600000000009,
    };
}

static void assert_json(const struct buf *out)
{
    struct json doc = { 0 };
    size_t at = 0;

    assert_false(out->failed);
    if (json_parse(&doc, buf_view(out), JSON_LIMITS, &at) != JSON_OK)
        fail_msg("no JSON at %zu: %.*s", at, (int)out->len, out->ptr);
    json_free(&doc);
}

/* Proves the form of a span: ids in hexadecimal with their zeros, times and numbers as strings, no parent when there is none. */
static void test_span(void **state)
{
    static const char wanted[] =
        "{\"traceId\":\"0af7651916cd43dd8448eb211c80319c\",\"spanId\":\"00b7ad6b71692033\",\"name\":\"GET /\",\"kind\":2,"
        "\"startTimeUnixNano\":\"1767225600000000001\",\"endTimeUnixNano\":\"1767225600000000009\",\"attributes\":["
        "{\"key\":\"a\",\"value\":{\"stringValue\":\"x\"}},{\"key\":\"n\",\"value\":{\"intValue\":\"-5\"}},"
        "{\"key\":\"b\",\"value\":{\"boolValue\":true}}]}";
    struct buf out = buf_make(4096);
    struct otlp otlp = otlp_make(&out);
    struct otlp_span span = span_of(VIEW("GET /"));

    (void)state;
    otlp_begin(&otlp, &span);
    otlp_text(&otlp, "a", VIEW("x"));
    otlp_text(&otlp, "empty", VIEW_NONE);
    otlp_number(&otlp, "n", -5);
    otlp_bool(&otlp, "b", true);
    otlp_end(&otlp);
    assert_int_equal(out.len, strlen(wanted));
    assert_memory_equal(out.ptr, wanted, out.len);
    buf_free(&out);
}

/* Proves that spans, events and their attributes in any number make one document, whatever is in the texts. */
static void test_document(void **state)
{
    struct otlp_service service = { .name = VIEW("doorstep"), .instance = VIEW("a\"b\\c\xff\n") };
    struct buf out = buf_make(1 << 20);
    struct otlp otlp = otlp_make(&out);
    struct otlp_span span = span_of(VIEW("\"}]\x01\xc3(\xf0\x9f\x98\x80"));

    (void)state;
    otlp_open(&out, &service);
    for (int i = 0; i < 20; i++) {
        span.parent = (uint64_t)i;
        span.failed = i & 1;
        span.end_ns = i & 2 ? 0 : span.end_ns; /* a clock that went back */
        otlp_begin(&otlp, &span);
        for (int k = 0; k < i % 3; k++)
            otlp_text(&otlp, "text", VIEW("\xe2\x82"));
        for (int k = 0; k < i % 4; k++) {
            otlp_event(&otlp, "event", 1);
            for (int n = 0; n < k; n++)
                otlp_number(&otlp, "n", INT64_MIN);
        }
        otlp_end(&otlp);
    }
    otlp_close(&out);
    assert_json(&out);
    out.len = 0;
    otlp_open(&out, &service);
    otlp_close(&out);
    assert_json(&out);
    buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_span), cmocka_unit_test(test_document) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
