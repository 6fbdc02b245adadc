/* Pieces that every direction of translation needs. Values are passed on as they stand in the source wherever the other dialect has the
 * same ones: strings are never decoded and encoded again, so no escape and no odd character changes on the way. */
#include "ai/translate_parts.h"

uint32_t part_get(const struct json *in, uint32_t object, struct view name)
{
    uint32_t i = object ? json_get(in, object, name) : 0;

    return i && json_type(in, i) != JSON_NULL ? i : 0;
}

uint32_t part_top(const struct json *in, struct view name)
{
    uint32_t i = json_get(in, 0, name);

    return i && json_type(in, i) != JSON_NULL ? i : 0;
}

struct view part_inside(const struct json *in, uint32_t i)
{
    struct view raw;

    if (!part_is_type(in, i, JSON_STRING))
        return VIEW_NONE;
    raw = json_raw(in, i);
    return view_make(raw.ptr + 1, raw.len - 2);
}

void put_name(struct buf *out, struct view name)
{
    put_next(out);
    buf_char(out, '"');
    buf_put(out, name);
    buf_lit(out, "\":");
}

void put_string(struct buf *out, struct view name, struct view value)
{
    put_name(out, name);
    buf_json(out, value);
}

void put_u64(struct buf *out, struct view name, uint64_t value)
{
    put_name(out, name);
    buf_u64(out, value);
}

void put_raw(struct buf *out, struct view name, const struct json *in, uint32_t i)
{
    put_name(out, name);
    buf_put(out, json_raw(in, i));
}

void put_copy(struct buf *out, struct view name, const struct json *in, uint32_t i)
{
    if (i)
        put_raw(out, name, in, i);
}

static bool is_id_byte(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '-';
}

void put_id_bytes(struct buf *out, struct view id)
{
    for (size_t k = 0; k < id.len; k++)
        buf_char(out, is_id_byte(id.ptr[k]) ? id.ptr[k] : '_');
}

void put_id(struct buf *out, struct view name, const struct json *in, uint32_t i)
{
    put_name(out, name);
    buf_char(out, '"');
    put_id_bytes(out, part_inside(in, i));
    buf_char(out, '"');
}

int part_put_arguments(const struct json *in, uint32_t i, struct json *inner, struct buf *decoded, struct buf *out)
{
    enum json_error error;
    struct view text;
    size_t at;

    decoded->len = 0;
    if (!part_is_type(in, i, JSON_STRING))
        return -EINVAL;
    json_decode(in, i, decoded);
    if (decoded->failed)
        return -ENOMEM;
    text = view_trim(buf_view(decoded));
    if (text.len == 0) {
        buf_lit(out, "{}");
        return 0;
    }
    error = json_parse(inner, text, JSON_LIMITS, &at);
    if (error != JSON_OK)
        return error == JSON_NO_MEMORY ? -ENOMEM : -EINVAL;
    if (json_type(inner, 0) != JSON_OBJECT)
        return -EINVAL;
    buf_put(out, json_raw(inner, 0));
    return 0;
}

struct view translate_stop_reason(struct view finish_reason, bool called, bool refused)
{
    if (refused || view_eq(finish_reason, VIEW("content_filter")))
        return VIEW("refusal");
    if (view_eq(finish_reason, VIEW("length")))
        return VIEW("max_tokens");
    if (called)
        return VIEW("tool_use");
    return VIEW("end_turn");
}

struct view translate_finish_reason(struct view stop_reason, bool called)
{
    if (view_eq(stop_reason, VIEW("max_tokens")) || view_eq(stop_reason, VIEW("model_context_window_exceeded")))
        return VIEW("length");
    if (view_eq(stop_reason, VIEW("refusal")))
        return VIEW("content_filter");
    /* An answer given through a tool of ours is no call. */
    if (view_eq(stop_reason, VIEW("tool_use")) && called)
        return VIEW("tool_calls");
    return VIEW("stop");
}

void put_usage_chat(struct buf *out, const struct ai_usage *usage)
{
    put_name(out, VIEW("usage"));
    buf_char(out, '{');
    put_u64(out, VIEW("prompt_tokens"), usage->input);
    put_u64(out, VIEW("completion_tokens"), usage->output);
    put_u64(out, VIEW("total_tokens"), usage->input + usage->output);
    put_name(out, VIEW("prompt_tokens_details"));
    buf_char(out, '{');
    put_u64(out, VIEW("cached_tokens"), usage->cached);
    buf_lit(out, "}");
    if (usage->reasoning) {
        put_name(out, VIEW("completion_tokens_details"));
        buf_char(out, '{');
        put_u64(out, VIEW("reasoning_tokens"), usage->reasoning);
        buf_lit(out, "}");
    }
    buf_lit(out, "}");
}

void put_usage_messages(struct buf *out, const struct ai_usage *usage)
{
    uint64_t known = usage->cached + usage->cache_write;

    put_name(out, VIEW("usage"));
    buf_char(out, '{');
    put_u64(out, VIEW("input_tokens"), usage->input - MIN(known, usage->input));
    put_u64(out, VIEW("cache_creation_input_tokens"), usage->cache_write);
    put_u64(out, VIEW("cache_read_input_tokens"), usage->cached);
    put_u64(out, VIEW("output_tokens"), usage->output);
    if (usage->reasoning) {
        put_name(out, VIEW("output_tokens_details"));
        buf_char(out, '{');
        put_u64(out, VIEW("thinking_tokens"), usage->reasoning);
        buf_lit(out, "}");
    }
    buf_lit(out, "}");
}
