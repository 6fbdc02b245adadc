/* Chunks of a chat completion as events of messages. One block is open at a time: chat has no blocks, so another kind of content, or another
 * call, ends the one before. The reason to stop and the usage come in different chunks there and in one event here, so both wait for
 * [DONE]. */
#include "ai/translate_parts.h"

/* ---- blocks ---- */

static void begin(struct translate_stream *s)
{
    struct buf *out;

    if (s->begun)
        return;
    s->begun = true;
    out = translate_event_begin(s);
    buf_lit(out, "\"type\":\"message_start\",\"message\":{\"id\":\"msg_");
    put_id_bytes(out, view_make(s->id, s->id_len));
    buf_lit(out, "\",\"type\":\"message\",\"role\":\"assistant\"");
    put_string(out, VIEW("model"), view_make(s->model, s->model_len));
    buf_lit(out, ",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null");
    put_usage_messages(out, &s->usage);
    buf_char(out, '}');
    translate_event_put(s, VIEW("message_start"));
}

static struct buf *block_event(struct translate_stream *s, struct view type)
{
    struct buf *out = translate_event_begin(s);

    put_string(out, VIEW("type"), type);
    put_u64(out, VIEW("index"), s->block);
    return out;
}

static void close_block(struct translate_stream *s)
{
    if (s->open == BLOCK_NONE)
        return;
    block_event(s, VIEW("content_block_stop"));
    translate_event_put(s, VIEW("content_block_stop"));
    s->open = BLOCK_NONE;
    s->block++;
}

/* Opens a block of text or thoughts, unless one is open. */
static void open_block(struct translate_stream *s, enum block_kind kind)
{
    begin(s);
    if (s->open == kind)
        return;
    close_block(s);
    s->open = (uint8_t)kind;
    buf_put(block_event(s, VIEW("content_block_start")),
            kind == BLOCK_TEXT
                ? VIEW(",\"content_block\":{\"type\":\"text\",\"text\":\"\"}")
                : VIEW(",\"content_block\":{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}"));
    translate_event_put(s, VIEW("content_block_start"));
}

/* A piece of the open block: `quoted` is a JSON string as it stands. */
static void put_delta(struct translate_stream *s, struct view type, struct view member, struct view quoted)
{
    struct buf *out = block_event(s, VIEW("content_block_delta"));

    buf_lit(out, ",\"delta\":{");
    put_string(out, VIEW("type"), type);
    put_name(out, member);
    buf_put(out, quoted);
    buf_char(out, '}');
    translate_event_put(s, VIEW("content_block_delta"));
}

static void put_text(struct translate_stream *s, enum block_kind kind, uint32_t text)
{
    if (!part_has_text(&s->doc, text))
        return;
    open_block(s, kind);
    if (kind == BLOCK_TEXT)
        put_delta(s, VIEW("text_delta"), VIEW("text"), json_raw(&s->doc, text));
    else
        put_delta(s, VIEW("thinking_delta"), VIEW("thinking"), json_raw(&s->doc, text));
}

/* ---- calls ---- */

static uint64_t hash(struct view v)
{
    uint64_t h = 0xcbf29ce484222325;

    for (size_t i = 0; i < v.len; i++)
        h = (h ^ (unsigned char)v.ptr[i]) * 0x100000001b3;
    return h | 1;
}

static int open_call(struct translate_stream *s, uint64_t index, uint32_t id, uint32_t name)
{
    struct buf *out;

    /* Without a name it goes on with a call whose block is closed: calls that take turns cannot be said. */
    if (!part_has_text(&s->doc, name))
        return -EBADMSG;
    begin(s);
    close_block(s);
    s->open = BLOCK_TOOL;
    s->called = true;
    s->call = index;
    s->call_id = part_has_text(&s->doc, id) ? hash(part_inside(&s->doc, id)) : 0;
    out = block_event(s, VIEW("content_block_start"));
    buf_lit(out, ",\"content_block\":{\"type\":\"tool_use\"");
    if (s->call_id)
        put_id(out, VIEW("id"), &s->doc, id);
    else
        buf_printf(out, ",\"id\":\"toolu_%u\"", (unsigned)s->calls);
    put_raw(out, VIEW("name"), &s->doc, name);
    buf_lit(out, ",\"input\":{}}");
    translate_event_put(s, VIEW("content_block_start"));
    s->calls++;
    return 0;
}

/* A piece of one call. Some servers say no index, or 0 for each of several calls, which then differ by their ids. */
static int take_call(struct translate_stream *s, uint32_t call)
{
    const struct json *in = &s->doc;
    uint32_t function = part_get(in, call, VIEW("function")), id = part_get(in, call, VIEW("id"));
    uint32_t name = part_get(in, function, VIEW("name")), arguments = part_get(in, function, VIEW("arguments"));
    uint32_t number = part_get(in, call, VIEW("index"));
    uint64_t index = s->call;
    bool same, other_id = s->call_id && part_has_text(in, id) && hash(part_inside(in, id)) != s->call_id;
    int r;

    if (number && !json_u64(in, number, &index))
        return -EBADMSG;
    same = s->open == BLOCK_TOOL && index == s->call && !other_id;
    r = same ? 0 : open_call(s, index, id, name);
    if (r < 0)
        return r;
    if (part_has_text(in, arguments))
        put_delta(s, VIEW("input_json_delta"), VIEW("partial_json"), json_raw(in, arguments));
    return 0;
}

static int take_calls(struct translate_stream *s, uint32_t calls)
{
    int r = 0;

    if (part_is_type(&s->doc, calls, JSON_ARRAY))
        for (uint32_t i = json_first(&s->doc, calls); i < json_end(&s->doc, calls) && r == 0;
             i = json_after(&s->doc, i))
            r = take_call(s, i);
    return r;
}

/* ---- chunks ---- */

static int take_choice(struct translate_stream *s, uint32_t choice)
{
    const struct json *in = &s->doc;
    uint32_t delta = part_get(in, choice, VIEW("delta")), finish = part_get(in, choice, VIEW("finish_reason"));
    uint32_t thoughts = part_get(in, delta, VIEW("reasoning_content")), refusal = part_get(in, delta, VIEW("refusal"));
    struct view reason;
    int r;

    begin(s);
    put_text(s, BLOCK_THINKING, thoughts ? thoughts : part_get(in, delta, VIEW("reasoning")));
    put_text(s, BLOCK_TEXT, part_get(in, delta, VIEW("content")));
    put_text(s, BLOCK_TEXT, refusal);
    s->refused |= part_has_text(in, refusal);
    r = take_calls(s, part_get(in, delta, VIEW("tool_calls")));
    if (r < 0)
        return r;
    reason = view_first(part_inside(in, finish), sizeof(s->finish));
    if (reason.len) {
        memcpy(s->finish, reason.ptr, reason.len);
        s->finish_len = reason.len;
        s->finished = true;
        close_block(s);
    }
    return 0;
}

int translate_event_to_messages(struct translate_stream *s)
{
    const struct json *in = &s->doc;
    uint32_t choices = part_top(in, VIEW("choices")), usage = part_top(in, VIEW("usage"));
    uint64_t index;

    translate_stream_named(s, part_top(in, VIEW("id")), part_top(in, VIEW("model")));
    if (usage)
        ai_usage_read(in, usage, &s->usage);
    if (!part_is_type(in, choices, JSON_ARRAY))
        return 0;
    for (uint32_t i = json_first(in, choices); i < json_end(in, choices); i = json_after(in, i)) {
        uint32_t number = part_get(in, i, VIEW("index"));

        if (json_type(in, i) == JSON_OBJECT && (!number || (json_u64(in, number, &index) && index == 0)))
            return take_choice(s, i);
    }
    return 0;
}

int translate_done_to_messages(struct translate_stream *s)
{
    struct buf *out;

    if (!s->begun)
        return -EBADMSG;
    close_block(s);
    out = translate_event_begin(s);
    buf_lit(out, "\"type\":\"message_delta\",\"delta\":{");
    put_string(out, VIEW("stop_reason"),
               translate_stop_reason(view_make(s->finish, s->finish_len), s->called, s->refused));
    buf_lit(out, ",\"stop_sequence\":null}");
    put_usage_messages(out, &s->usage);
    translate_event_put(s, VIEW("message_delta"));
    sse_put(&s->staged, VIEW("message_stop"), VIEW("{\"type\":\"message_stop\"}"));
    s->ended = true;
    return 0;
}
