/* Whole answers. */
#include "ai/translate_parts.h"

/* "model": the name the client knows, or the provider's. */
static void put_model(struct buf *out, struct view model, const struct json *in)
{
    if (model.len)
        put_string(out, VIEW("model"), model);
    else
        put_copy(out, VIEW("model"), in, part_top(in, VIEW("model")));
}

/* "id": the provider's, marked as one of the other dialect. */
static void put_answer_id(struct buf *out, struct view prefix, const struct json *in)
{
    put_name(out, VIEW("id"));
    buf_char(out, '"');
    buf_put(out, prefix);
    put_id_bytes(out, part_inside(in, part_top(in, VIEW("id"))));
    buf_char(out, '"');
}

/* ---- messages -> chat ---- */

/* The pieces of one kind, joined: texts and answers that came through a tool of ours, or thoughts. */
static void put_pieces(const struct json *in, uint32_t content, bool thoughts, struct buf *out)
{
    for (uint32_t i = json_first(in, content); i < json_end(in, content); i = json_after(in, i)) {
        uint32_t input = part_get(in, i, VIEW("input"));

        if (thoughts) {
            if (part_is(in, i, VIEW("thinking")))
                buf_put(out, part_inside(in, part_get(in, i, VIEW("thinking"))));
        } else if (part_is(in, i, VIEW("text")))
            buf_put(out, part_inside(in, part_get(in, i, VIEW("text"))));
        else if (input && part_is(in, i, VIEW("tool_use")) && part_is_answer_tool(in, part_get(in, i, VIEW("name")))) {
            size_t quote = out->len;

            buf_json(out, json_raw(in, input));
            if (out->failed)
                return;
            /* Inside of a string that is being written. */
            memmove(out->ptr + quote, out->ptr + quote + 1, out->len - quote - 2);
            out->len -= 2;
        }
    }
}

/* "name": "..."; null, or nothing at all, when it would be empty. */
static void put_joined(struct buf *out, struct view name, const struct json *in, uint32_t content, bool thoughts)
{
    size_t start = out->len, empty;

    put_name(out, name);
    buf_char(out, '"');
    empty = out->len;
    put_pieces(in, content, thoughts, out);
    if (out->failed)
        return;
    if (out->len > empty) {
        buf_char(out, '"');
        return;
    }
    out->len = start;
    if (thoughts)
        return;
    put_name(out, name);
    buf_lit(out, "null");
}

/* Returns whether there are calls, or -EBADMSG. */
static int put_calls(struct buf *out, const struct json *in, uint32_t content)
{
    size_t start = out->len;
    int calls = 0;

    put_name(out, VIEW("tool_calls"));
    buf_char(out, '[');
    for (uint32_t i = json_first(in, content); i < json_end(in, content); i = json_after(in, i)) {
        uint32_t name = part_get(in, i, VIEW("name")), input = part_get(in, i, VIEW("input"));

        if (!part_is(in, i, VIEW("tool_use")) || part_is_answer_tool(in, name))
            continue;
        if (!part_has_text(in, name) || !part_is_type(in, input, JSON_OBJECT))
            return -EBADMSG;
        calls = 1;
        put_next(out);
        buf_char(out, '{');
        put_id(out, VIEW("id"), in, part_get(in, i, VIEW("id")));
        buf_lit(out, ",\"type\":\"function\",\"function\":{");
        put_raw(out, VIEW("name"), in, name);
        put_string(out, VIEW("arguments"), json_raw(in, input));
        buf_lit(out, "}}");
    }
    buf_char(out, ']');
    if (!calls && !out->failed)
        out->len = start;
    return calls;
}

static int message_to_chat(const struct json *in, struct view model, uint64_t now, struct buf *out)
{
    uint32_t content = part_top(in, VIEW("content")), stop = part_top(in, VIEW("stop_reason"));
    struct ai_usage usage = { 0 };
    int called;

    if (!part_is_type(in, content, JSON_ARRAY))
        return -EBADMSG;
    if (part_top(in, VIEW("usage")))
        ai_usage_read(in, part_top(in, VIEW("usage")), &usage);
    buf_char(out, '{');
    put_answer_id(out, VIEW("chatcmpl-"), in);
    put_string(out, VIEW("object"), VIEW("chat.completion"));
    put_u64(out, VIEW("created"), now);
    put_model(out, model, in);
    put_name(out, VIEW("choices"));
    buf_lit(out, "[{\"index\":0,\"message\":{\"role\":\"assistant\"");
    put_joined(out, VIEW("content"), in, content, false);
    put_joined(out, VIEW("reasoning_content"), in, content, true);
    buf_lit(out, ",\"refusal\":null");
    called = put_calls(out, in, content);
    if (called < 0)
        return called;
    buf_lit(out, "},\"logprobs\":null");
    put_string(out, VIEW("finish_reason"), translate_finish_reason(part_inside(in, stop), called));
    buf_lit(out, "}]");
    put_usage_chat(out, &usage);
    buf_char(out, '}');
    return 0;
}

/* ---- chat -> messages ---- */

static void put_block(struct buf *out, struct view type, struct view member, const struct json *in, uint32_t text)
{
    if (!part_has_text(in, text))
        return;
    put_next(out);
    buf_char(out, '{');
    put_string(out, VIEW("type"), type);
    put_raw(out, member, in, text);
    if (view_eq(type, VIEW("thinking")))
        buf_lit(out, ",\"signature\":\"\"");
    buf_char(out, '}');
}

static int put_tool_uses(struct buf *out, const struct json *in, uint32_t calls)
{
    struct buf decoded = buf_make(in->text.len);
    struct json inner = { 0 };
    unsigned n = 0;
    int r = 0;

    for (uint32_t i = json_first(in, calls); i < json_end(in, calls) && r == 0; i = json_after(in, i), n++) {
        uint32_t function = part_get(in, i, VIEW("function")), id = part_get(in, i, VIEW("id"));
        uint32_t name = part_get(in, function, VIEW("name")), arguments = part_get(in, function, VIEW("arguments"));

        put_next(out);
        buf_lit(out, "{\"type\":\"tool_use\"");
        if (part_has_text(in, id))
            put_id(out, VIEW("id"), in, id);
        else
            buf_printf(out, ",\"id\":\"toolu_%u\"", n);
        put_copy(out, VIEW("name"), in, name);
        put_name(out, VIEW("input"));
        r = part_has_text(in, name) ? part_put_arguments(in, arguments, &inner, &decoded, out) : -EINVAL;
        buf_char(out, '}');
    }
    json_free(&inner);
    buf_free(&decoded);
    return r == -EINVAL ? -EBADMSG : r;
}

static int chat_to_message(const struct json *in, struct view model, struct buf *out)
{
    uint32_t choices = part_top(in, VIEW("choices")), choice, message, calls, content, thoughts, refusal;
    struct ai_usage usage = { 0 };
    bool called;
    int r = 0;

    if (!part_is_type(in, choices, JSON_ARRAY) || in->tokens[choices].count == 0)
        return -EBADMSG;
    choice = json_first(in, choices);
    message = part_get(in, choice, VIEW("message"));
    content = part_get(in, message, VIEW("content"));
    calls = part_get(in, message, VIEW("tool_calls"));
    refusal = part_get(in, message, VIEW("refusal"));
    thoughts = part_get(in, message, VIEW("reasoning_content"));
    thoughts = thoughts ? thoughts : part_get(in, message, VIEW("reasoning"));
    called = part_is_type(in, calls, JSON_ARRAY) && in->tokens[calls].count > 0;
    if (!part_is_type(in, message, JSON_OBJECT) || (content && !part_is_type(in, content, JSON_STRING)))
        return -EBADMSG;
    if (part_top(in, VIEW("usage")))
        ai_usage_read(in, part_top(in, VIEW("usage")), &usage);
    buf_char(out, '{');
    put_answer_id(out, VIEW("msg_"), in);
    buf_lit(out, ",\"type\":\"message\",\"role\":\"assistant\"");
    put_model(out, model, in);
    put_name(out, VIEW("content"));
    buf_char(out, '[');
    put_block(out, VIEW("thinking"), VIEW("thinking"), in, thoughts);
    put_block(out, VIEW("text"), VIEW("text"), in, content);
    put_block(out, VIEW("text"), VIEW("text"), in, refusal);
    if (called)
        r = put_tool_uses(out, in, calls);
    if (r < 0)
        return r;
    buf_char(out, ']');
    put_string(out, VIEW("stop_reason"),
               translate_stop_reason(part_inside(in, part_get(in, choice, VIEW("finish_reason"))), called,
                                     part_has_text(in, refusal)));
    buf_lit(out, ",\"stop_sequence\":null");
    put_usage_messages(out, &usage);
    buf_char(out, '}');
    return 0;
}

int translate_answer(enum ai_endpoint from, enum ai_endpoint to, const struct json *answer, struct view model,
                     uint64_t now, struct buf *out)
{
    int r;

    if (!translate_can(from, to))
        return -ENOTSUP;
    if (json_type(answer, 0) != JSON_OBJECT || part_top(answer, VIEW("error")))
        return -EBADMSG;
    r = from == AI_MESSAGES ? message_to_chat(answer, model, now, out) : chat_to_message(answer, model, out);
    return out->failed ? -ENOMEM : r;
}
