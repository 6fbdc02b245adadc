/* Any bytes as an event stream: whole, or in pieces whose lengths the input says, the same events are shown, views are readable, and
 * their raw bytes one after the other are the stream. */
#include "base/check.h"
#include "proto/sse.h"

static void add(struct buf *seen, const struct sse_event *event)
{
    buf_printf(seen, "%d %zu %zu %zu ", event->comment, event->name.len, event->data.len, event->raw.len);
    buf_put(seen, event->name);
    buf_put(seen, event->data);
    buf_put(seen, event->raw);
}

static int drain(struct sse *sse, struct view input, struct buf *seen)
{
    struct sse_event event;
    int got;

    while ((got = sse_next(sse, &input, &event)) > 0)
        add(seen, &event);
    CHECK(got < 0 || input.len == 0);
    return got;
}

static int read_all(struct view stream, const uint8_t *pieces, size_t count, struct buf *seen)
{
    struct sse_event event;
    struct sse sse;
    size_t at = 0;
    int got = 0;

    sse_init(&sse, 300);
    while (stream.len > 0 && got >= 0) {
        size_t len = count ? pieces[at++ % count] % 23u + 1 : stream.len;

        got = drain(&sse, view_first(stream, len), seen);
        stream = view_skip(stream, len);
    }
    if (got >= 0 && (got = sse_finish(&sse, &event)) > 0)
        add(seen, &event);
    if (got >= 0 && !sse.taken)
        buf_put(seen, buf_view(&sse.rest));
    sse_free(&sse);
    return got;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf whole = buf_make(1u << 20), parts = buf_make(1u << 20);
    size_t pieces = size > 2 ? MIN(size / 4, (size_t)8) : 0;
    struct view stream;
    int got[2];

    size = MIN(size, (size_t)4096);
    if (size == 0)
        return 0;
    stream = view_make((const char *)data + pieces, size - pieces);
    got[0] = read_all(stream, NULL, 0, &whole);
    got[1] = read_all(stream, data, pieces, &parts);
    CHECK(got[0] == got[1]);
    CHECK(got[0] < 0 || view_eq(buf_view(&whole), buf_view(&parts)));
    buf_free(&whole);
    buf_free(&parts);
    return 0;
}
