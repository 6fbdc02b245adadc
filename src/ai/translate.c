/* Front of the translators: which pairs there are, requests as a whole, and the estimate of a prompt's tokens. */
#include "ai/translate.h"

#include "ai/translate_parts.h"

bool translate_can(enum ai_endpoint from, enum ai_endpoint to)
{
    return (from == AI_CHAT && to == AI_MESSAGES) || (from == AI_MESSAGES && to == AI_CHAT);
}

int translate_request(enum ai_endpoint from, enum ai_endpoint to, const struct json *request, struct view model,
                      uint64_t default_max_tokens, struct buf *out, struct text *reason)
{
    struct translation t = { .in = request, .model = model, .out = out, .reason = reason };
    int r;

    if (!translate_can(from, to))
        return -ENOTSUP;
    if (json_type(request, 0) != JSON_OBJECT)
        return REFUSE(&t, "the body must be a JSON object");
    t.decoded = buf_make(request->text.len);
    r = to == AI_MESSAGES ? translate_chat_to_messages(&t, default_max_tokens) : translate_messages_to_chat(&t);
    json_free(&t.inner);
    buf_free(&t.decoded);
    return out->failed ? -ENOMEM : r;
}

/* ---- tokens ---- */

#define BYTES_A_TOKEN 4
#define TOKENS_A_MESSAGE 4
#define TOKENS_AN_IMAGE 1600

/* Names and types that messages are made of: no part of the prompt. */
static bool is_frame(const struct json *in, uint32_t i)
{
    static const struct view words[] = {
        { "role", 4 },      { "content", 7 },   { "type", 4 },   { "text", 4 },     { "user", 4 },
        { "assistant", 9 }, { "input", 5 },     { "name", 4 },   { "tool_use", 8 }, { "tool_result", 11 },
        { "id", 2 },        { "image", 5 },     { "source", 6 }, { "system", 6 },   { "tool_use_id", 11 },
        { "function", 8 },  { "arguments", 9 },
    };

    for (size_t k = 0; k < ARRAY_LEN(words); k++)
        if (view_eq(part_inside(in, i), words[k]))
            return true;
    return false;
}

/* A block of binary data, by its source or its URL. */
static bool is_image(const struct json *in, uint32_t i)
{
    return json_type(in, i) == JSON_OBJECT && (part_is(in, i, VIEW("image")) || part_is(in, i, VIEW("image_url")) ||
                                               part_is(in, i, VIEW("input_image")) || part_is(in, i, VIEW("document")));
}

static uint64_t estimate_part(const struct json *in, uint32_t part)
{
    uint64_t bytes = 0, tokens = 0;

    if (!part)
        return 0;
    for (uint32_t i = part; i < json_end(in, part);) {
        enum json_type type = json_type(in, i);

        if (is_image(in, i)) {
            tokens += TOKENS_AN_IMAGE;
            i = json_after(in, i);
            continue;
        }
        if (type == JSON_STRING && !is_frame(in, i))
            bytes += part_inside(in, i).len;
        else if (type == JSON_NUMBER)
            bytes += json_raw(in, i).len;
        else if (type == JSON_OBJECT && part_get(in, i, VIEW("role")))
            tokens += TOKENS_A_MESSAGE;
        i++;
    }
    return tokens + (bytes + BYTES_A_TOKEN - 1) / BYTES_A_TOKEN;
}

uint64_t translate_count_estimate(const struct json *request)
{
    if (json_type(request, 0) != JSON_OBJECT)
        return 0;
    return estimate_part(request, part_top(request, VIEW("system"))) +
           estimate_part(request, part_top(request, VIEW("messages"))) +
           estimate_part(request, part_top(request, VIEW("input"))) +
           estimate_part(request, part_top(request, VIEW("prompt"))) +
           estimate_part(request, part_top(request, VIEW("instructions"))) +
           estimate_part(request, part_top(request, VIEW("tools")));
}
