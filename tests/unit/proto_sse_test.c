/* Server-sent events: line ends, fields, pieces, limits, writing. */
#include "message_fixture.h"

#include "proto/sse.h"

#include <errno.h>

/* What a stream means, written down: one line an event. */
static int describe(struct sse *sse, struct view bytes, struct buf *out, struct buf *raws)
{
    struct sse_event event;
    int got;

    while ((got = sse_next(sse, &bytes, &event)) > 0) {
        buf_printf(out, "%s[%.*s](%.*s)\n", event.comment ? "#" : "", VIEW_ARG(event.name), VIEW_ARG(event.data));
        buf_put(raws, event.raw);
    }
    assert_true(got < 0 || bytes.len == 0);
    return got;
}

static int finish(struct sse *sse, struct buf *out, struct buf *raws)
{
    struct sse_event event;
    int got = sse_finish(sse, &event);

    if (got > 0) {
        buf_printf(out, "%s[%.*s](%.*s)\n", event.comment ? "#" : "", VIEW_ARG(event.name), VIEW_ARG(event.data));
        buf_put(raws, event.raw);
    } else {
        buf_put(raws, buf_view(&sse->rest));
    }
    return got;
}

/* The stream in three pieces cut at `a` and `b` shows `expected`, and its raw bytes are the stream. */
static void check_cut(struct view stream, size_t a, size_t b, const char *expected)
{
    struct buf out = buf_make(65536), raws = buf_make(65536);
    struct sse sse;

    sse_init(&sse, 4096);
    assert_int_equal(describe(&sse, view_first(stream, a), &out, &raws), 0);
    assert_int_equal(describe(&sse, view_first(view_skip(stream, a), b - a), &out, &raws), 0);
    assert_int_equal(describe(&sse, view_skip(stream, b), &out, &raws), 0);
    assert_true(finish(&sse, &out, &raws) >= 0);
    assert_true(view_eq(buf_view(&out), view_str(expected)));
    assert_true(view_eq(buf_view(&raws), stream));
    sse_free(&sse);
    buf_free(&out);
    buf_free(&raws);
}

static const struct {
    const char *stream, *events;
} cases[] = {
    { "data: a\n\n", "[](a)\n" },
    { "data: a\r\n\r\n", "[](a)\n" },
    { "data: a\r\r", "[](a)\n" },
    { "data: a\r\n\ndata: b\n\r\ndata: c\r\rdata: d\n\r", "[](a)\n[](b)\n[](c)\n[](d)\n" },
    { "event: ping\ndata: {}\n\n", "[ping]({})\n" },
    { "event:ping\ndata:{}\n\n", "[ping]({})\n" },
    { "data:  two\n\n", "[]( two)\n" },
    { "\xef\xbb\xbf"
      "data: a\n\n\xef\xbb\xbf"
      "data: b\n\n",
      "[](a)\n#[]()\n" },
    { ": keep-alive\n\ndata: a\n\n", "#[]()\n[](a)\n" },
    { ": note\r\nid: 7\r\nretry: 10\r\n\r\n", "#[]()\n" },
    { ": note\ndata: a\n\n", "[](a)\n" },
    { "data: a\ndata: b\r\ndata\ndata:\rdata: c\n\n", "[](a\nb\n\n\nc)\n" },
    { "\n\n\ndata: a\n\n\n", "#[]()\n#[]()\n#[]()\n[](a)\n#[]()\n" },
    { "event: only\n\n", "[only]()\n" },
    { "data: \xe2\x82\xac \xf0\x9f\x98\x80\n\n", "[](\xe2\x82\xac \xf0\x9f\x98\x80)\n" },
    { "data: [DONE]", "" },
    { "data: a\n\ndata: cut\n", "[](a)\n" },
    { "nonsense\n\ndatax: a\nDATA: b\n\n", "#[]()\n#[]()\n" },
};

static void test_every_cut(void **state)
{
    /* Proves that a stream cut at any two places shows the same events, and that their raw bytes are the stream. */
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct view stream = view_str(cases[i].stream);

        for (size_t a = 0; a <= stream.len; a++)
            for (size_t b = a; b <= stream.len; b++)
                check_cut(stream, a, b, cases[i].events);
    }
}

static void test_views(void **state)
{
    /* Proves that an event that lies whole in the input is not copied. */
    struct view stream = VIEW("event: x\ndata: abc\n\n"), input = stream;
    struct sse_event event;
    struct sse sse;

    (void)state;
    sse_init(&sse, 64);
    assert_int_equal(sse_next(&sse, &input, &event), 1);
    assert_ptr_equal(event.raw.ptr, stream.ptr);
    assert_int_equal(event.raw.len, stream.len);
    assert_ptr_equal(event.data.ptr, stream.ptr + 15);
    assert_null(sse.rest.ptr);
    assert_int_equal(sse_next(&sse, &input, &event), 0);
    sse_free(&sse);
}

static int read_pieces(struct view stream, size_t piece, size_t event_max)
{
    struct buf out = buf_make(65536), raws = buf_make(65536);
    struct sse sse;
    int got = 0;

    sse_init(&sse, event_max);
    while (stream.len && got >= 0) {
        got = describe(&sse, view_first(stream, piece), &out, &raws);
        stream = view_skip(stream, piece);
    }
    sse_free(&sse);
    buf_free(&out);
    buf_free(&raws);
    return got;
}

static void test_limits(void **state)
{
    /* Proves that an event at the limit passes and one beyond it is refused, in whatever pieces it comes. */
    struct view at = VIEW("data: 0123456789\n\n"), beyond = VIEW("data: 0123456789+\n\n");

    (void)state;
    for (size_t piece = 1; piece <= beyond.len; piece++) {
        assert_int_equal(read_pieces(at, piece, at.len), 0);
        assert_int_equal(read_pieces(beyond, piece, at.len), -EMSGSIZE);
    }
}

static void test_utf8(void **state)
{
    /* Proves that data which is not UTF-8 is refused, and that a sequence split between pieces is not. */
    static const char *const bad[] = { "data: \xff\n\n",         "data: \xc0\x80\n\n",
                                       "data: \xed\xa0\x80\n\n", "data: \xf4\x90\x80\x80\n\n",
                                       "data: \xe2\x82\n\n",     "data: 0123456789abcdef\x80\n\n" };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        for (size_t piece = 1; piece < 24; piece++)
            assert_int_equal(read_pieces(view_str(bad[i]), piece, 4096), -EINVAL);
    for (size_t piece = 1; piece < 12; piece++)
        assert_int_equal(read_pieces(VIEW("data: \xf0\x9f\x98\x80\n\n"), piece, 4096), 0);
}

static void test_cut_is_told(void **state)
{
    /* Proves that a stream that ends within an event is told from one that ends behind one. */
    static const struct {
        const char *stream;
        bool cut;
    } ends[] = {
        { "", false },
        { "data: a\n\n", false },
        { "data: a\n", true },
        { "data: a\n\nd", true },
        { "data: a\r\r", false },
        { "data: a\r\n\r", false },
        { "data: a\r\n", true },
        { "data: a\n\n: c", true },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        struct buf out = buf_make(4096), raws = buf_make(4096);
        struct sse sse;

        sse_init(&sse, 4096);
        assert_int_equal(describe(&sse, view_str(ends[i].stream), &out, &raws), 0);
        assert_int_equal(sse_is_cut(&sse), ends[i].cut);
        finish(&sse, &out, &raws);
        assert_int_equal(sse_is_cut(&sse), ends[i].cut);
        sse_free(&sse);
        buf_free(&out);
        buf_free(&raws);
    }
}

static void test_put(void **state)
{
    /* Proves that what is written reads back as the same event, line breaks included. */
    static const struct {
        const char *name, *data, *bytes;
    } events[] = {
        { "", "[DONE]", "data: [DONE]\n\n" },
        { "ping", "{}", "event: ping\ndata: {}\n\n" },
        { "", "", "data: \n\n" },
        { "", "a\nb\r\nc\rd\n", "data: a\ndata: b\ndata: c\ndata: d\ndata: \n\n" },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(events); i++) {
        struct buf out = buf_make(4096);

        sse_put(&out, view_str(events[i].name), view_str(events[i].data));
        assert_true(view_eq(buf_view(&out), view_str(events[i].bytes)));
        buf_free(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_cut), cmocka_unit_test(test_views),       cmocka_unit_test(test_limits),
        cmocka_unit_test(test_utf8),      cmocka_unit_test(test_cut_is_told), cmocka_unit_test(test_put),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
