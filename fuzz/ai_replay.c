/* Any bytes replayed in any pieces, with and without a pace: what comes out is the stream without its usage chunks and null usages, in the same order
 * and untouched. */
#include "ai/replay.h"
#include "base/check.h"

/* An event without a null "usage". */
static void put_event(struct buf *out, const struct sse_event *event)
{
    struct view raw = event->raw, null;
    bool inside = event->data.ptr >= raw.ptr && event->data.ptr < raw.ptr + raw.len;

    if (event->comment || !inside || !replay_has_null(event->data, &null)) {
        buf_put(out, raw);
        return;
    }
    CHECK(null.ptr >= event->data.ptr && null.ptr + null.len <= event->data.ptr + event->data.len);
    buf_put(out, view_first(raw, (size_t)(null.ptr - raw.ptr)));
    buf_put(out, view_skip(raw, (size_t)(null.ptr - raw.ptr) + null.len));
}

/* The stream without usage chunks, by the reader alone. False: it cannot be read to its end. */
static bool expected(struct view stream, struct buf *out)
{
    struct json doc = { 0 };
    struct sse_event event;
    struct sse sse;
    int got;

    sse_init(&sse, REPLAY_EVENT_MAX);
    while ((got = sse_next(&sse, &stream, &event)) > 0)
        if (event.comment || !replay_is_usage(&doc, event.data))
            put_event(out, &event);
    if (got == 0)
        buf_put(out, buf_view(&sse.rest));
    sse_free(&sse);
    json_free(&doc);
    return got == 0;
}

static bool replayed(struct view stream, const uint8_t *pieces, size_t count, uint32_t pace, struct buf *out)
{
    struct replay r;
    struct view run;
    uint64_t now = 5, wait = 0;
    size_t at = 0;
    int got = 0;

    replay_init(&r, AI_CHAT, true, pace);
    while (stream.len > 0 && got >= 0) {
        size_t len = count ? pieces[at++ % count] % 37u + 1 : stream.len;
        struct view input = view_first(stream, len);

        while ((got = replay_next(&r, &input, now, &run, &wait)) > 0 || wait > 0) {
            if (got > 0) {
                CHECK(run.len > 0 && wait == 0);
                buf_put(out, run);
            }
            now += wait;
        }
        CHECK(got < 0 || input.len == 0);
        stream = view_skip(stream, len);
    }
    if (got == 0 && replay_end(&r, &run))
        buf_put(out, run);
    replay_free(&r);
    return got == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf wanted = buf_make(1u << 16), whole = buf_make(1u << 16), parts = buf_make(1u << 16);
    size_t pieces = size > 2 ? MIN(size / 4, (size_t)8) : 0;
    struct view stream;
    bool readable;

    size = MIN(size, (size_t)16384);
    if (size == 0)
        return 0;
    stream = view_make((const char *)data + pieces, size - pieces);
    readable = expected(stream, &wanted);
    CHECK(replayed(stream, NULL, 0, 0, &whole) == readable);
    CHECK(replayed(stream, data, pieces, data[0] % 50, &parts) == readable);
    CHECK(view_eq(buf_view(&wanted), buf_view(&whole)) && view_eq(buf_view(&wanted), buf_view(&parts)));
    buf_free(&wanted);
    buf_free(&whole);
    buf_free(&parts);
    return 0;
}
