/* Streams: what both directions share. An event is translated into `staged` first and given out only when all of it was right, so a broken
 * event leaves no half of itself behind. State is bounded: the struct itself, one event's tape, and one event's bytes. */
#include "ai/translate_parts.h"
#include "base/heap.h"

/* Room for what one event becomes: the same text in other words, some of it escaped once more. */
#define STAGED_MAX ((size_t)64 << 20)

struct translate_stream *translate_stream_new(enum ai_endpoint from, enum ai_endpoint to, struct view model,
                                              uint64_t now, bool include_usage)
{
    struct translate_stream *s;

    if (!translate_can(from, to))
        return NULL;
    s = heap_zalloc(sizeof(*s));
    if (!s)
        return NULL;
    s->from = from;
    s->to = to;
    model = view_first(model, sizeof(s->model));
    if (model.len)
        memcpy(s->model, model.ptr, model.len);
    s->model_len = model.len;
    s->now = now;
    s->include_usage = include_usage;
    s->event = buf_make(STAGED_MAX);
    s->staged = buf_make(STAGED_MAX);
    return s;
}

void translate_stream_free(struct translate_stream *s)
{
    if (!s)
        return;
    json_free(&s->doc);
    buf_free(&s->event);
    buf_free(&s->staged);
    heap_free(s);
}

struct buf *translate_event_begin(struct translate_stream *s)
{
    s->event.len = 0;
    buf_char(&s->event, '{');
    return &s->event;
}

void translate_event_put(struct translate_stream *s, struct view name)
{
    buf_char(&s->event, '}');
    sse_put(&s->staged, name, buf_view(&s->event));
}

void translate_stream_named(struct translate_stream *s, uint32_t id, uint32_t model)
{
    struct view name;

    if (s->id_len == 0) {
        name = view_first(part_inside(&s->doc, id), sizeof(s->id));
        if (name.len)
            memcpy(s->id, name.ptr, name.len);
        s->id_len = name.len;
    }
    if (s->model_len == 0) {
        /* Only as it stands: an escape must not be cut in two. */
        name = model ? json_plain(&s->doc, model) : VIEW_NONE;
        if (name.len && name.len <= sizeof(s->model)) {
            memcpy(s->model, name.ptr, name.len);
            s->model_len = name.len;
        }
    }
}

static int read_event(struct translate_stream *s, const struct sse_event *event)
{
    bool done = view_eq(view_trim(event->data), VIEW("[DONE]"));
    size_t at;

    if (event->comment || event->data.len == 0) {
        buf_put(&s->staged,
                s->to == AI_MESSAGES ? VIEW("event: ping\ndata: {\"type\":\"ping\"}\n\n") : VIEW(": ping\n\n"));
        return 0;
    }
    if (done)
        return s->from == AI_CHAT ? translate_done_to_messages(s) : 0;
    if (json_parse(&s->doc, event->data, JSON_LIMITS, &at) != JSON_OK || json_type(&s->doc, 0) != JSON_OBJECT)
        return -EBADMSG;
    if (part_top(&s->doc, VIEW("error"))) {
        translate_error_inside(s->to, &s->doc, &s->staged);
        s->failed = true;
        return 0;
    }
    return s->from == AI_CHAT ? translate_event_to_messages(s) : translate_event_to_chat(s);
}

static int give_out(struct translate_stream *s, int r, struct buf *out)
{
    if (s->staged.failed || s->event.failed)
        return -ENOMEM;
    if (r < 0)
        return r;
    buf_put(out, buf_view(&s->staged));
    return out->failed ? -ENOMEM : 0;
}

int translate_stream_event(struct translate_stream *s, const struct sse_event *event, struct buf *out)
{
    if (s->ended || s->failed)
        return 0;
    s->staged.len = 0;
    return give_out(s, read_event(s, event), out);
}

int translate_stream_end(struct translate_stream *s, struct buf *out)
{
    if (s->ended || s->failed)
        return 0;
    if (!s->finished)
        return -ENODATA;
    s->staged.len = 0;
    return give_out(s, s->from == AI_CHAT ? translate_done_to_messages(s) : translate_stop_to_chat(s), out);
}
