#include "upstream/tracer.h"

#include "base/heap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#define TRACE "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0"

static struct tracer *make(const char *server, double sample, bool follow)
{
    struct tracer_options options = { .server = server,
                                      .path = VIEW("/v1/traces"),
                                      .service = { .name = VIEW("test") },
                                      .sample = sample,
                                      .follow = follow,
                                      .loops = 1,
                                      .queue_bytes = 1000 };
    char memory[256];
    struct text reason = TEXT_ON(memory);
    struct tracer *tracer;

    assert_int_equal(tracer_new(&options, &tracer, &reason), 0);
    return tracer;
}

/* Proves that without a collector nothing is recorded, and that those asked next still get a context: the caller's, or a new one. */
static void test_off(void **state)
{
    struct tracer *off = make(NULL, 1, true);
    const struct tracer *const none[] = { NULL, off };
    struct trace_context trace, other;

    (void)state;
    assert_false(tracer_is_on(off));
    for (size_t i = 0; i < ARRAY_LEN(none); i++) {
        assert_false(tracer_begin(none[i], VIEW(TRACE "1"), &trace));
        assert_true(trace.trace_id[0] == 0x0af7651916cd43dd && trace.parent_id == 0xb7ad6b7169203331 &&
                    trace.flags == 1);
        assert_false(tracer_begin(none[i], VIEW("00-nonsense"), &trace));
        assert_false(tracer_begin(none[i], VIEW_NONE, &other));
        assert_true(trace.parent_id && other.parent_id && trace.flags == 0);
        assert_true(trace.trace_id[0] != other.trace_id[0] && trace.trace_id[1] != other.trace_id[1]);
    }
    tracer_free(off);
}

/* Proves who is recorded: the caller's word where it is followed, else the share. */
static void test_sampling(void **state)
{
    struct tracer *all = make("http://127.0.0.1:1", 1, true), *nobody = make("http://127.0.0.1:1", 0, true),
                  *own = make("http://127.0.0.1:1", 0, false), *half = make("http://127.0.0.1:1", 0.5, false);
    struct trace_context trace;
    unsigned recorded = 0;

    (void)state;
    assert_true(tracer_begin(all, VIEW_NONE, &trace));
    assert_true(trace.parent_id == 0 && trace.flags == TRACE_SAMPLED);
    assert_false(tracer_begin(all, VIEW(TRACE "0"), &trace));
    assert_true(trace.parent_id == 0xb7ad6b7169203331 && trace.flags == 0);
    assert_true(tracer_begin(nobody, VIEW(TRACE "1"), &trace));
    assert_true(trace.parent_id == 0xb7ad6b7169203331);
    assert_false(tracer_begin(nobody, VIEW_NONE, &trace));
    assert_false(tracer_begin(own, VIEW(TRACE "1"), &trace));
    for (int i = 0; i < 10000; i++)
        recorded += tracer_begin(half, VIEW_NONE, &trace);
    assert_in_range(recorded, 4500, 5500);
    /* Two nodes with the same share agree about a trace. */
    assert_int_equal(tracer_begin(half, VIEW(TRACE "0"), &trace), tracer_begin(half, VIEW(TRACE "1"), &trace));
    tracer_free(all);
    tracer_free(nobody);
    tracer_free(own);
    tracer_free(half);
}

/* Proves that the queue is bounded, and that what does not fit is counted. */
static void test_queue(void **state)
{
    struct tracer *tracer = make("http://127.0.0.1:1", 1, true);
    struct tracer_stats stats;
    char bytes[400] = { 0 };

    (void)state;
    for (int i = 0; i < 5; i++)
        tracer_put(tracer, view_make(bytes, sizeof(bytes)), 3);
    tracer_stats(tracer, &stats);
    assert_true(stats.spans == 15 && stats.dropped == 9 && stats.queued_bytes == 800 && stats.exported == 0);
    assert_true(tracer_is_idle(tracer)); /* nobody sends */
    tracer_flush(tracer);
    tracer_free(tracer);
}

/* Proves that a collector's address that is none is refused with a reason. */
static void test_bad(void **state)
{
    struct tracer_options options = { .server = "ftp://x", .loops = 1 };
    char memory[256];
    struct text reason = TEXT_ON(memory);
    struct tracer *tracer;

    (void)state;
    assert_int_equal(tracer_new(&options, &tracer, &reason), -22);
    assert_true(reason.len > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_off), cmocka_unit_test(test_sampling),
                                        cmocka_unit_test(test_queue), cmocka_unit_test(test_bad) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
