/* Server-sent events, reader and writer.
 *
 * The reader looks for the end of an event first (an empty line; lines end in LF, CR or CRLF) and reads its fields after. The usual
 * event lies whole in the input and has one data line: everything shown is then a view into the input. Only an event that is cut is
 * copied, into `rest`, and the place of the search is kept, so that no byte is searched twice however small the pieces are.
 *
 * A CR at the end of the bytes at hand may be half of a CRLF. The event is held back until the next byte tells, since otherwise the
 * LF would be passed on with the next event, which may come much later; sse_finish() shows it when no byte comes any more. */
#include "proto/sse.h"

#include <errno.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

/* The first CR or LF, or `end`. */
static const char *line_end(const char *at, const char *end)
{
#ifdef __SSE2__
    const __m128i cr = _mm_set1_epi8('\r'), lf = _mm_set1_epi8('\n');

    for (; end - at >= 16; at += 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)at);
        unsigned hits = (unsigned)_mm_movemask_epi8(_mm_or_si128(_mm_cmpeq_epi8(bytes, cr), _mm_cmpeq_epi8(bytes, lf)));

        if (hits)
            return at + __builtin_ctz(hits);
    }
#endif
    while (at < end && *at != '\r' && *at != '\n')
        at++;
    return at;
}

static const char *ascii_end(const char *at, const char *end)
{
#ifdef __SSE2__
    for (; end - at >= 16; at += 16) {
        unsigned high = (unsigned)_mm_movemask_epi8(_mm_loadu_si128((const __m128i *)(const void *)at));

        if (high)
            return at + __builtin_ctz(high);
    }
#endif
    while (at < end && (unsigned char)*at < 0x80)
        at++;
    return at;
}

/* Length of the well-formed sequence at `at` (RFC 3629 §4), 0 when it is none. */
static size_t utf8_sequence(const char *at, size_t left)
{
    const unsigned char *b = (const unsigned char *)at;
    unsigned char low = 0x80, high = 0xbf;
    size_t len = b[0] < 0xc2 ? 0 : b[0] < 0xe0 ? 2 : b[0] < 0xf0 ? 3 : b[0] < 0xf5 ? 4 : 0;

    if (len == 0 || left < len)
        return 0;
    if (b[0] == 0xe0)
        low = 0xa0;
    else if (b[0] == 0xed)
        high = 0x9f;
    else if (b[0] == 0xf0)
        low = 0x90;
    else if (b[0] == 0xf4)
        high = 0x8f;
    if (b[1] < low || b[1] > high)
        return 0;
    for (size_t i = 2; i < len; i++)
        if ((b[i] & 0xc0) != 0x80)
            return 0;
    return len;
}

static bool is_utf8(struct view v)
{
    const char *at = v.ptr, *end = v.len ? v.ptr + v.len : v.ptr;
    size_t len;

    while ((at = ascii_end(at, end)) < end) {
        len = utf8_sequence(at, (size_t)(end - at));
        if (len == 0)
            return false;
        at += len;
    }
    return true;
}

void sse_init(struct sse *sse, size_t event_max)
{
    *sse = (struct sse){ .rest = buf_make(event_max), .joined = buf_make(event_max) };
}

void sse_free(struct sse *sse)
{
    buf_free(&sse->rest);
    buf_free(&sse->joined);
}

/* Goes on with the search for the event's end over `in`. True: *ret_len bytes of it (perhaps none) belong to the event. */
static bool find_end(struct sse *sse, struct view in, size_t *ret_len)
{
    const char *at = in.ptr, *end = in.ptr + in.len;

    while (at < end) {
        const char *stop;
        bool empty;

        if (sse->over || sse->after_cr) {
            at += *at == '\n';
            if (sse->over) {
                *ret_len = (size_t)(at - in.ptr);
                return true;
            }
            sse->after_cr = false;
            continue;
        }
        stop = line_end(at, end);
        if (stop == end) {
            sse->in_line = true;
            return false;
        }
        empty = !sse->in_line && stop == at;
        sse->in_line = false;
        at = stop + 1;
        if (*stop == '\r') {
            sse->over = empty;
            sse->after_cr = !empty;
        } else if (empty) {
            *ret_len = (size_t)(at - in.ptr);
            return true;
        }
    }
    return false;
}

/* The next line of *rest without its end, which is cut off as well. */
static struct view cut_line(struct view *rest)
{
    const char *stop = line_end(rest->ptr, rest->ptr + rest->len);
    struct view line = view_make(rest->ptr, (size_t)(stop - rest->ptr));
    size_t used = line.len;

    if (used < rest->len)
        used += rest->ptr[used] == '\r' && used + 1 < rest->len && rest->ptr[used + 1] == '\n' ? 2 : 1;
    rest->ptr += used;
    rest->len -= used;
    return line;
}

static int add_data(struct sse *sse, struct sse_event *event, struct view value, unsigned lines)
{
    if (lines == 0) {
        event->data = value;
        return 0;
    }
    if (lines == 1) {
        sse->joined.len = 0;
        buf_put(&sse->joined, event->data);
    }
    buf_char(&sse->joined, '\n');
    buf_put(&sse->joined, value);
    if (sse->joined.failed)
        return -ENOMEM;
    event->data = buf_view(&sse->joined);
    return 0;
}

static int read_event(struct sse *sse, struct view raw, struct sse_event *ret)
{
    struct sse_event event = { .raw = raw, .comment = true };
    unsigned lines = 0;

    if (!sse->started && view_starts_with(raw, VIEW("\xef\xbb\xbf")))
        raw = view_skip(raw, 3);
    sse->started = true;
    while (raw.len > 0) {
        struct view line = cut_line(&raw), name = view_first(line, view_find(line, ':'));
        struct view value = view_skip(line, name.len + 1);

        if (value.len > 0 && value.ptr[0] == ' ')
            value = view_skip(value, 1);
        if (view_eq(name, VIEW("data"))) {
            if (add_data(sse, &event, value, lines++) < 0)
                return -ENOMEM;
            event.comment = false;
        } else if (view_eq(name, VIEW("event"))) {
            event.name = value;
            event.comment = false;
        }
    }
    if (!is_utf8(event.data))
        return -EINVAL;
    *ret = event;
    return 1;
}

static int keep(struct sse *sse, struct view *input, size_t len)
{
    if (len > sse->rest.max - sse->rest.len)
        return -EMSGSIZE;
    buf_put(&sse->rest, view_first(*input, len));
    *input = view_skip(*input, len);
    return sse->rest.failed ? -ENOMEM : 0;
}

int sse_next(struct sse *sse, struct view *input, struct sse_event *ret)
{
    struct view raw;
    size_t len = 0;
    int error;

    if (sse->taken)
        sse->rest.len = 0;
    sse->taken = false;
    if (input->len == 0)
        return 0;
    if (!find_end(sse, *input, &len))
        return keep(sse, input, input->len);
    if (sse->rest.len == 0) {
        raw = view_first(*input, len);
        if (len > sse->rest.max)
            return -EMSGSIZE;
        *input = view_skip(*input, len);
    } else {
        error = keep(sse, input, len);
        if (error < 0)
            return error;
        raw = buf_view(&sse->rest);
        sse->taken = true;
    }
    sse->in_line = sse->after_cr = sse->over = false;
    return read_event(sse, raw, ret);
}

int sse_finish(struct sse *sse, struct sse_event *ret)
{
    if (sse->taken || !sse->over)
        return 0;
    sse->over = false;
    sse->taken = true;
    return read_event(sse, buf_view(&sse->rest), ret);
}

bool sse_is_cut(const struct sse *sse)
{
    return !sse->taken && !sse->over && sse->rest.len > 0;
}

void sse_put(struct buf *out, struct view name, struct view data)
{
    if (name.len > 0) {
        buf_lit(out, "event: ");
        buf_put(out, name);
        buf_char(out, '\n');
    }
    do {
        const char *stop = data.len ? line_end(data.ptr, data.ptr + data.len) : data.ptr;
        size_t len = data.len ? (size_t)(stop - data.ptr) : 0;
        bool more = len < data.len;

        buf_lit(out, "data: ");
        buf_put(out, view_first(data, len));
        buf_char(out, '\n');
        if (!more)
            break;
        data =
            view_skip(data, len + (data.ptr[len] == '\r' && len + 1 < data.len && data.ptr[len + 1] == '\n' ? 2 : 1));
    } while (true);
    buf_char(out, '\n');
}
