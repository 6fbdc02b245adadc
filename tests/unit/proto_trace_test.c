/* W3C Trace Context. */
#include "proto/trace.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#define IDS "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7"

/* A valid traceparent is read and written back the same. */
static void round_trip(void **state)
{
    struct trace_context trace;
    char memory[64];
    struct text text = TEXT_ON(memory);

    (void)state;
    assert_int_equal(trace_parse(VIEW("00-" IDS "-01"), &trace), 0);
    assert_true(trace.trace_id[0] == 0x4bf92f3577b34da6 && trace.trace_id[1] == 0xa3ce929d0e0e4736);
    assert_true(trace.parent_id == 0x00f067aa0ba902b7 && trace.flags == TRACE_SAMPLED);
    trace_put(&trace, &text);
    assert_true(view_eq(text_view(&text), VIEW("00-" IDS "-01")));
    assert_int_equal(trace_parse(VIEW("cc-" IDS "-ff-what-the-future-brings"), &trace), 0);
    assert_int_equal(trace_parse(VIEW("cc-" IDS "-ff"), &trace), 0);
    text.len = 0;
    trace_put(&trace, &text);
    assert_true(view_eq(text_view(&text), VIEW("00-" IDS "-01")));
}

/* Everything the specification calls invalid is. */
static void invalid_is_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "00",
        "ff-" IDS "-01",
        "00-" IDS "-01-",
        "00-" IDS "-01-x",
        "00-" IDS "-0",
        "00-" IDS "-0x",
        "cc-" IDS "-01x",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "00-4BF92F3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00_" IDS "-01",
        "0x-" IDS "-01",
    };
    struct trace_context trace;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(trace_parse(view_str(bad[i]), &trace), -EBADMSG);
}

/* tracestate is passed on only within its bounds. */
static void state_bounds(void **state)
{
    char many[160];
    struct text text = TEXT_ON(many);

    (void)state;
    assert_true(trace_state_valid(VIEW("a=1, t61rcw@b=x y,,c/d=*")));
    assert_false(trace_state_valid(VIEW("")));
    assert_false(trace_state_valid(VIEW("a")));
    assert_false(trace_state_valid(VIEW("a=")));
    assert_false(trace_state_valid(VIEW("A=1")));
    assert_false(trace_state_valid(VIEW("a=1=2")));
    assert_false(trace_state_valid(VIEW("a=\xc3\xa4")));
    for (int i = 0; i < 32; i++)
        text_lit(&text, "a=1,");
    assert_true(trace_state_valid(text_view(&text)));
    text_lit(&text, "a=1");
    assert_false(trace_state_valid(text_view(&text)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),
        cmocka_unit_test(invalid_is_refused),
        cmocka_unit_test(state_bounds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
