/* Events of messages as chunks of a chat completion. Blocks have numbers of their own there; here only calls are numbered, so a table says
 * what each block is. */
#include "ai/translate_parts.h"

/* ---- chunks ---- */

static struct buf *chunk_head(struct translate_stream *s)
{
    struct buf *out = translate_event_begin(s);

    put_name(out, VIEW("id"));
    buf_lit(out, "\"chatcmpl-");
    put_id_bytes(out, view_make(s->id, s->id_len));
    buf_char(out, '"');
    put_string(out, VIEW("object"), VIEW("chat.completion.chunk"));
    put_u64(out, VIEW("created"), s->now);
    put_string(out, VIEW("model"), view_make(s->model, s->model_len));
    put_name(out, VIEW("choices"));
    return out;
}

/* Opens the delta of a chunk. */
static struct buf *chunk_begin(struct translate_stream *s)
{
    struct buf *out = chunk_head(s);

    buf_lit(out, "[{\"index\":0,\"delta\":{");
    return out;
}

static void chunk_end(struct translate_stream *s, struct view finish_reason)
{
    struct buf *out = &s->event;

    buf_lit(out, "},\"logprobs\":null");
    if (finish_reason.len)
        put_string(out, VIEW("finish_reason"), finish_reason);
    else
        buf_lit(out, ",\"finish_reason\":null");
    buf_lit(out, "}]");
    translate_event_put(s, VIEW_NONE);
}

static void begin(struct translate_stream *s)
{
    if (s->begun)
        return;
    s->begun = true;
    buf_lit(chunk_begin(s), "\"role\":\"assistant\",\"content\":\"\"");
    chunk_end(s, VIEW_NONE);
}

/* A chunk whose delta is one string. */
static void put_delta(struct translate_stream *s, struct view name, uint32_t text)
{
    if (!part_has_text(&s->doc, text))
        return;
    begin(s);
    put_raw(chunk_begin(s), name, &s->doc, text);
    chunk_end(s, VIEW_NONE);
}

/* ---- calls ---- */

static struct buf *call_begin(struct translate_stream *s, uint32_t call)
{
    struct buf *out;

    begin(s);
    out = chunk_begin(s);
    buf_lit(out, "\"tool_calls\":[{");
    put_u64(out, VIEW("index"), call);
    return out;
}

static void call_end(struct translate_stream *s)
{
    buf_lit(&s->event, "}}]");
    chunk_end(s, VIEW_NONE);
}

/* A piece of a call's arguments: a JSON string as it stands in the text. */
static void put_arguments(struct translate_stream *s, uint32_t call, struct view quoted)
{
    struct buf *out = call_begin(s, call);

    buf_lit(out, ",\"function\":{\"arguments\":");
    buf_put(out, quoted);
    call_end(s);
}

/* An input that comes whole: as the arguments, or as the text of an answer. */
static void put_whole_input(struct translate_stream *s, uint32_t n, uint32_t input)
{
    struct buf *out;

    if (!part_is_type(&s->doc, input, JSON_OBJECT) || s->doc.tokens[input].count == 0)
        return;
    s->blocks[n].filled = true;
    begin(s);
    if (s->blocks[n].kind == BLOCK_ANSWER) {
        put_string(chunk_begin(s), VIEW("content"), json_raw(&s->doc, input));
        chunk_end(s, VIEW_NONE);
        return;
    }
    out = call_begin(s, s->blocks[n].call);
    buf_lit(out, ",\"function\":{");
    put_string(out, VIEW("arguments"), json_raw(&s->doc, input));
    call_end(s);
}

static int begin_tool(struct translate_stream *s, uint32_t n, uint32_t block)
{
    const struct json *in = &s->doc;
    uint32_t name = part_get(in, block, VIEW("name"));
    struct buf *out;

    if (!part_has_text(in, name))
        return -EBADMSG;
    if (part_is_answer_tool(in, name))
        s->blocks[n].kind = BLOCK_ANSWER;
    else {
        s->blocks[n].kind = BLOCK_TOOL;
        s->blocks[n].call = s->calls++;
        s->called = true;
        out = call_begin(s, s->blocks[n].call);
        put_id(out, VIEW("id"), in, part_get(in, block, VIEW("id")));
        buf_lit(out, ",\"type\":\"function\",\"function\":{");
        put_raw(out, VIEW("name"), in, name);
        buf_lit(out, ",\"arguments\":\"\"");
        call_end(s);
    }
    put_whole_input(s, n, part_get(in, block, VIEW("input")));
    return 0;
}

/* ---- events ---- */

static int block_start(struct translate_stream *s, uint32_t n)
{
    const struct json *in = &s->doc;
    uint32_t block = part_top(in, VIEW("content_block"));

    s->blocks[n].kind = BLOCK_NONE;
    s->blocks[n].filled = false;
    if (part_is(in, block, VIEW("text"))) {
        s->blocks[n].kind = BLOCK_TEXT;
        put_delta(s, VIEW("content"), part_get(in, block, VIEW("text")));
    } else if (part_is(in, block, VIEW("thinking"))) {
        s->blocks[n].kind = BLOCK_THINKING;
        put_delta(s, VIEW("reasoning_content"), part_get(in, block, VIEW("thinking")));
    } else if (part_is(in, block, VIEW("tool_use")))
        return begin_tool(s, n, block);
    return 0;
}

static int block_delta(struct translate_stream *s, uint32_t n)
{
    const struct json *in = &s->doc;
    uint32_t delta = part_top(in, VIEW("delta")), json = part_get(in, delta, VIEW("partial_json"));

    if (part_is(in, delta, VIEW("text_delta")))
        put_delta(s, VIEW("content"), part_get(in, delta, VIEW("text")));
    else if (part_is(in, delta, VIEW("thinking_delta")))
        put_delta(s, VIEW("reasoning_content"), part_get(in, delta, VIEW("thinking")));
    else if (part_is(in, delta, VIEW("input_json_delta")) && part_has_text(in, json)) {
        s->blocks[n].filled = true;
        if (s->blocks[n].kind == BLOCK_ANSWER)
            put_delta(s, VIEW("content"), json);
        else if (s->blocks[n].kind == BLOCK_TOOL)
            put_arguments(s, s->blocks[n].call, json_raw(in, json));
    }
    return 0;
}

/* Clients read the arguments as JSON, so a call without any has an empty object. */
static int block_stop(struct translate_stream *s, uint32_t n)
{
    if (s->blocks[n].kind == BLOCK_TOOL && !s->blocks[n].filled)
        put_arguments(s, s->blocks[n].call, VIEW("\"{}\""));
    else if (s->blocks[n].kind == BLOCK_ANSWER && !s->blocks[n].filled) {
        begin(s);
        put_string(chunk_begin(s), VIEW("content"), VIEW("{}"));
        chunk_end(s, VIEW_NONE);
    }
    s->blocks[n].kind = BLOCK_NONE;
    return 0;
}

static void message_start(struct translate_stream *s)
{
    const struct json *in = &s->doc;
    uint32_t message = part_top(in, VIEW("message")), usage = part_get(in, message, VIEW("usage"));

    translate_stream_named(s, part_get(in, message, VIEW("id")), part_get(in, message, VIEW("model")));
    if (usage)
        ai_usage_read(in, usage, &s->usage);
    begin(s);
}

static void message_delta(struct translate_stream *s)
{
    const struct json *in = &s->doc;
    uint32_t usage = part_top(in, VIEW("usage"));
    uint32_t reason = part_get(in, part_top(in, VIEW("delta")), VIEW("stop_reason"));

    if (usage)
        ai_usage_read(in, usage, &s->usage);
    if (!part_has_text(in, reason))
        return;
    s->finished = true;
    begin(s);
    chunk_begin(s);
    chunk_end(s, translate_finish_reason(part_inside(in, reason), s->called));
}

int translate_stop_to_chat(struct translate_stream *s)
{
    struct buf *out;

    s->ended = true;
    if (s->include_usage) {
        out = chunk_head(s);
        buf_lit(out, "[]");
        put_usage_chat(out, &s->usage);
        translate_event_put(s, VIEW_NONE);
    }
    sse_put(&s->staged, VIEW_NONE, VIEW("[DONE]"));
    return 0;
}

int translate_event_to_chat(struct translate_stream *s)
{
    static const struct {
        struct view type;
        int (*take)(struct translate_stream *s, uint32_t n);
    } block_events[] = {
        { { "content_block_start", 19 }, block_start },
        { { "content_block_delta", 19 }, block_delta },
        { { "content_block_stop", 18 }, block_stop },
    };
    const struct json *in = &s->doc;
    uint32_t type = part_top(in, VIEW("type")), index = part_top(in, VIEW("index"));
    uint64_t n;

    if (!part_is_type(in, type, JSON_STRING))
        return -EBADMSG;
    for (size_t i = 0; i < ARRAY_LEN(block_events); i++) {
        if (!json_is(in, type, block_events[i].type))
            continue;
        if (!index || !json_u64(in, index, &n) || n >= STREAM_BLOCKS)
            return -EBADMSG;
        return block_events[i].take(s, (uint32_t)n);
    }
    if (json_is(in, type, VIEW("message_start")))
        message_start(s);
    else if (json_is(in, type, VIEW("message_delta")))
        message_delta(s);
    else if (json_is(in, type, VIEW("message_stop")))
        return translate_stop_to_chat(s);
    else if (json_is(in, type, VIEW("ping")))
        buf_lit(&s->staged, ": ping\n\n");
    return 0;
}
