/* Replaying streams to clients: hidden usage, pace, untouched bytes. */
#include "ai_fixture.h"

#include "ai/replay.h"

#include <errno.h>

/* Everything that comes out when the stream goes in in pieces of `piece` bytes. */
static void pass(struct view stream, size_t piece, bool hide, struct buf *out)
{
    struct replay r;
    struct view run;
    uint64_t wait;

    replay_init(&r, AI_CHAT, hide, 0);
    while (stream.len) {
        struct view input = view_first(stream, piece);

        stream = view_skip(stream, piece);
        while (replay_next(&r, &input, 1, &run, &wait) > 0)
            buf_put(out, run);
        assert_int_equal(input.len, 0);
        assert_int_equal(wait, 0);
    }
    if (replay_end(&r, &run))
        buf_put(out, run);
    replay_free(&r);
}

#define BEFORE \
    "data: {\"choices\":[{\"delta\":{\"content\":\"say \\\"choices\\\":[] and \"}}]}\n\n" \
    ": note\r\n\r\ndata: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"

static void test_hides_usage(void **state)
{
    /* Proves that only the usage chunk is left out, however the stream is cut, and that nothing is when the client asked for it. */
    static const char *const chunks[] = { CHAT_USAGE_CHUNK, "data: {\"choices\" :\t[ ] , \"usage\":{}}\r\n\r\n",
                                          "data: {\"usage\":{},\ndata: \"choices\":[]}\n\n" };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(chunks); i++) {
        struct buf stream = buf_make(8192);

        buf_lit(&stream, BEFORE);
        buf_put(&stream, view_str(chunks[i]));
        buf_lit(&stream, CHAT_DONE "data: cut");
        for (size_t piece = 1; piece <= stream.len; piece++) {
            struct buf out = buf_make(8192), all = buf_make(8192);

            pass(buf_view(&stream), piece, true, &out);
            assert_view(buf_view(&out), BEFORE CHAT_DONE "data: cut");
            pass(buf_view(&stream), piece, false, &all);
            assert_true(view_eq(buf_view(&all), buf_view(&stream)));
            buf_free(&out);
            buf_free(&all);
        }
        buf_free(&stream);
    }
}

static void test_keeps_others(void **state)
{
    /* Proves that chunks which only look like the usage chunk pass. */
    static const char stream[] = "data: {\"choices\":[],\"prompt_filter_results\":[]}\n\n"
                                 "data: {\"choices\":[{\"index\":0}],\"usage\":{}}\n\n"
                                 "data: {\"choices\":[{\"choices\":[]}],\"usage\":{}}\n\n"
                                 "data: {\"choices\":[],\"usage\":{}\n\n";
    struct buf out = buf_make(8192);

    (void)state;
    pass(VIEW(stream), sizeof(stream), true, &out);
    assert_view(buf_view(&out), stream);
    buf_free(&out);
}

static void test_hides_null(void **state)
{
    /* Proves that what a provider says of usage that is to come is hidden, too, in one run and however the stream is cut, but not what only
     * looks like it. */
    static const struct {
        const char *in, *out;
    } chunks[] = {
        { "{\"choices\":[],\"usage\":null}", "{\"choices\":[]}" },
        { "{\"usage\":null,\"choices\":[{}]}", "{\"choices\":[{}]}" },
        { "{ \"a\":1 , \"usage\" : null , \"b\":2}", "{ \"a\":1  , \"b\":2}" },
        { "{\"usage\":null}", "{}" },
        { "{\"choices\":[{\"delta\":{\"content\":\"\\\"usage\\\":null }\"}}],\"usage\":null}",
          "{\"choices\":[{\"delta\":{\"content\":\"\\\"usage\\\":null }\"}}]}" },
        { "{\"x\":{\"usage\":null},\"usage\":{}}", "{\"x\":{\"usage\":null},\"usage\":{}}" },
        { "{\"x\":{\"usage\":null},\"usage\":null}", "{\"x\":{\"usage\":null}}" },
        { "{\"x\":\"usage\"}", "{\"x\":\"usage\"}" },
    };
    struct buf stream = buf_make(8192), wanted = buf_make(8192);
    struct view input, run;
    struct replay r;
    uint64_t wait;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(chunks); i++) {
        buf_printf(&stream, "data: %s\r\n\r\n: note\n\n", chunks[i].in);
        buf_printf(&wanted, "data: %s\r\n\r\n: note\n\n", chunks[i].out);
    }
    for (size_t piece = 1; piece <= stream.len; piece++) {
        struct buf out = buf_make(8192);

        pass(buf_view(&stream), piece, true, &out);
        assert_true(view_eq(buf_view(&out), buf_view(&wanted)));
        out.len = 0;
        pass(buf_view(&stream), piece, false, &out);
        assert_true(view_eq(buf_view(&out), buf_view(&stream)));
        buf_free(&out);
    }
    replay_init(&r, AI_CHAT, true, 0);
    input = buf_view(&stream);
    assert_int_equal(replay_next(&r, &input, 1, &run, &wait), 1);
    assert_true(view_eq(run, buf_view(&wanted)));
    replay_free(&r);
    buf_free(&stream);
    buf_free(&wanted);
}

static void test_runs(void **state)
{
    /* Proves that events which lie together are one run, and a view into the input. */
    struct view stream = VIEW(BEFORE CHAT_USAGE_CHUNK CHAT_DONE), input = stream, run;
    struct replay r;
    uint64_t wait;

    (void)state;
    replay_init(&r, AI_CHAT, true, 0);
    assert_int_equal(replay_next(&r, &input, 1, &run, &wait), 1);
    assert_ptr_equal(run.ptr, stream.ptr);
    assert_int_equal(run.len, sizeof(BEFORE) - 1);
    assert_int_equal(replay_next(&r, &input, 1, &run, &wait), 1);
    assert_view(run, CHAT_DONE);
    assert_int_equal(replay_next(&r, &input, 1, &run, &wait), 0);
    replay_free(&r);
}

static void test_pace(void **state)
{
    /* Proves that at ten tokens a second an event of two tokens holds the next one back for 200 ms, whole or cut. */
    static const char stream[] = "data: {\"content\":\"12345678\"}\n\n"
                                 "data: {\"content\":\"1234\"}\n\n"
                                 "data: {}\n\n";

    (void)state;
    for (size_t cut = 0; cut < sizeof(stream) - 1; cut++) {
        struct view parts[2] = { view_make(stream, cut), view_make(stream + cut, sizeof(stream) - 1 - cut) }, run;
        struct buf out = buf_make(8192);
        uint64_t now = 1000, wait, waited = 0;
        struct replay r;
        int got;

        replay_init(&r, AI_MESSAGES, true, 10);
        for (int part = 0; part < 2; part++)
            while ((got = replay_next(&r, &parts[part], now, &run, &wait)) > 0 || wait > 0) {
                assert_true(got >= 0);
                if (got > 0)
                    buf_put(&out, run);
                now += wait;
                waited += wait;
            }
        assert_view(buf_view(&out), stream);
        assert_int_equal(waited, 200000);
        replay_free(&r);
        buf_free(&out);
    }
}

static void test_bad_bytes(void **state)
{
    /* Proves that what is before bytes which are no UTF-8 is sent first, and that the error stays. */
    struct view input = VIEW("data: a\n\ndata: \xff\n\ndata: b\n\n"), run;
    struct replay r;
    uint64_t wait;

    (void)state;
    replay_init(&r, AI_CHAT, true, 0);
    assert_int_equal(replay_next(&r, &input, 1, &run, &wait), 1);
    assert_view(run, "data: a\n\n");
    assert_int_equal(replay_next(&r, &input, 1, &run, &wait), -EINVAL);
    assert_int_equal(replay_next(&r, &input, 1, &run, &wait), -EINVAL);
    replay_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hides_usage), cmocka_unit_test(test_keeps_others), cmocka_unit_test(test_hides_null),
        cmocka_unit_test(test_runs),        cmocka_unit_test(test_pace),         cmocka_unit_test(test_bad_bytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
