/* A messages request as a chat completions request. A user's turn falls apart: chat gives each result of a tool a message of its own, which
 * must come right behind the calls, and only texts go into it; what is left becomes one message of the user. */
#include "ai/translate_parts.h"

/* ---- content ---- */

/* "data:TYPE;base64,DATA" from a source; the pieces stay escaped as they are. */
static void put_data_url(struct translation *t, struct view name, uint32_t source)
{
    put_name(t->out, name);
    buf_lit(t->out, "\"data:");
    buf_put(t->out, part_inside(t->in, part_get(t->in, source, VIEW("media_type"))));
    buf_lit(t->out, ";base64,");
    buf_put(t->out, part_inside(t->in, part_get(t->in, source, VIEW("data"))));
    buf_char(t->out, '"');
}

static bool is_base64(const struct json *in, uint32_t source)
{
    return part_is(in, source, VIEW("base64")) && part_has_text(in, part_get(in, source, VIEW("media_type"))) &&
           part_has_text(in, part_get(in, source, VIEW("data")));
}

static int put_image(struct translation *t, uint32_t block, unsigned n)
{
    const struct json *in = t->in;
    uint32_t source = part_get(in, block, VIEW("source")), url = part_get(in, source, VIEW("url"));

    put_next(t->out);
    buf_lit(t->out, "{\"type\":\"image_url\",\"image_url\":{");
    if (is_base64(in, source))
        put_data_url(t, VIEW("url"), source);
    else if (part_is(in, source, VIEW("url")) && part_has_text(in, url))
        put_raw(t->out, VIEW("url"), in, url);
    else
        return REFUSE(t, "messages[%u].content: an image needs a base64 or url source", n);
    buf_lit(t->out, "}}");
    return 0;
}

static void put_text_part(struct translation *t, uint32_t text)
{
    put_next(t->out);
    buf_lit(t->out, "{\"type\":\"text\"");
    put_raw(t->out, VIEW("text"), t->in, text);
    buf_char(t->out, '}');
}

static int put_document(struct translation *t, uint32_t block, unsigned n)
{
    const struct json *in = t->in;
    uint32_t source = part_get(in, block, VIEW("source")), title = part_get(in, block, VIEW("title"));
    uint32_t data = part_get(in, source, VIEW("data"));

    if (part_is(in, source, VIEW("text")) && part_is_type(in, data, JSON_STRING)) {
        put_text_part(t, data);
        return 0;
    }
    if (!is_base64(in, source))
        return REFUSE(t, "messages[%u].content: a document needs a base64 or text source", n);
    put_next(t->out);
    buf_lit(t->out, "{\"type\":\"file\",\"file\":{");
    if (part_has_text(in, title))
        put_raw(t->out, VIEW("filename"), in, title);
    else
        put_string(t->out, VIEW("filename"), VIEW("document.pdf"));
    put_data_url(t, VIEW("file_data"), source);
    buf_lit(t->out, "}}");
    return 0;
}

static int put_part(struct translation *t, uint32_t block, unsigned n)
{
    const struct json *in = t->in;
    uint32_t text = part_get(in, block, VIEW("text"));

    if (part_is(in, block, VIEW("image")))
        return put_image(t, block, n);
    if (part_is(in, block, VIEW("document")))
        return put_document(t, block, n);
    if (!part_is(in, block, VIEW("text")))
        return REFUSE(t, "messages[%u].content: a block of this type cannot be translated", n);
    if (!part_is_type(in, text, JSON_STRING))
        return REFUSE(t, "messages[%u].content: a text block without text", n);
    put_text_part(t, text);
    return 0;
}

/* The texts of `content` (a string or blocks) inside of one string, `between` them. Other blocks are left for the caller. */
static void put_joined(struct translation *t, uint32_t content, struct view between)
{
    const struct json *in = t->in;
    bool begun = false;

    if (!part_is_type(in, content, JSON_ARRAY)) {
        buf_put(t->out, part_inside(in, content));
        return;
    }
    for (uint32_t i = json_first(in, content); i < json_end(in, content); i = json_after(in, i)) {
        struct view text = part_inside(in, part_get(in, i, VIEW("text")));

        if (!part_is(in, i, VIEW("text")) || text.len == 0)
            continue;
        if (begun)
            buf_put(t->out, between);
        begun = true;
        buf_put(t->out, text);
    }
}

/* ---- messages ---- */

static int put_result(struct translation *t, uint32_t block, unsigned n)
{
    const struct json *in = t->in;
    uint32_t id = part_get(in, block, VIEW("tool_use_id")), content = part_get(in, block, VIEW("content"));

    if (!part_has_text(in, id))
        return REFUSE(t, "messages[%u].content: a tool_result without tool_use_id", n);
    if (content && !part_is_type(in, content, JSON_STRING) && !part_is_type(in, content, JSON_ARRAY))
        return REFUSE(t, "messages[%u].content: the content of a tool_result must be a string or an array", n);
    if (part_is_type(in, content, JSON_ARRAY))
        for (uint32_t i = json_first(in, content); i < json_end(in, content); i = json_after(in, i))
            if (!part_is(in, i, VIEW("text")) && !part_is(in, i, VIEW("image")))
                return REFUSE(t, "messages[%u].content: a tool_result holds only text and images", n);
    put_next(t->out);
    buf_lit(t->out, "{\"role\":\"tool\"");
    put_id(t->out, VIEW("tool_call_id"), in, id);
    put_name(t->out, VIEW("content"));
    buf_char(t->out, '"');
    if (json_true(in, part_get(in, block, VIEW("is_error"))))
        buf_lit(t->out, "Error: ");
    put_joined(t, content, VIEW("\\n\\n"));
    buf_lit(t->out, "\"}");
    return 0;
}

/* Images of a tool's result, which go into the message of the user. */
static int put_result_images(struct translation *t, uint32_t block, unsigned n)
{
    const struct json *in = t->in;
    uint32_t content = part_get(in, block, VIEW("content"));
    int r = 0;

    if (part_is_type(in, content, JSON_ARRAY))
        for (uint32_t i = json_first(in, content); i < json_end(in, content) && r == 0; i = json_after(in, i))
            if (part_is(in, i, VIEW("image")))
                r = put_image(t, i, n);
    return r;
}

/* The text of a turn that has, beside results without images, nothing but this one; else 0. */
static uint32_t only_text(const struct json *in, uint32_t content)
{
    uint32_t text = 0;
    bool seen = false;

    for (uint32_t i = json_first(in, content); i < json_end(in, content); i = json_after(in, i)) {
        uint32_t inside = part_get(in, i, VIEW("content"));

        if (part_is(in, i, VIEW("tool_result")) && part_is_type(in, inside, JSON_ARRAY)) {
            for (uint32_t k = json_first(in, inside); k < json_end(in, inside); k = json_after(in, k))
                if (!part_is(in, k, VIEW("text")))
                    return 0;
        } else if (!part_is(in, i, VIEW("tool_result"))) {
            if (seen || !part_is(in, i, VIEW("text")))
                return 0;
            seen = true;
            text = part_get(in, i, VIEW("text"));
        }
    }
    return part_is_type(in, text, JSON_STRING) ? text : 0;
}

/* What is not a result. One text alone is a string: that is what every server understands. */
static int put_user(struct translation *t, uint32_t content, unsigned n)
{
    const struct json *in = t->in;
    uint32_t text = only_text(in, content);
    size_t start = t->out->len, empty;
    int r = 0;

    put_next(t->out);
    buf_lit(t->out, "{\"role\":\"user\",\"content\":");
    if (text) {
        buf_put(t->out, json_raw(in, text));
        buf_char(t->out, '}');
        return 0;
    }
    buf_char(t->out, '[');
    empty = t->out->len;
    for (uint32_t i = json_first(in, content); i < json_end(in, content) && r == 0; i = json_after(in, i))
        r = part_is(in, i, VIEW("tool_result")) ? put_result_images(t, i, n) : put_part(t, i, n);
    if (t->out->len == empty && !t->out->failed)
        t->out->len = start;
    else
        buf_lit(t->out, "]}");
    return r;
}

static int put_calls(struct translation *t, uint32_t content, unsigned n)
{
    const struct json *in = t->in;
    size_t start = t->out->len, empty;

    put_name(t->out, VIEW("tool_calls"));
    buf_char(t->out, '[');
    empty = t->out->len;
    for (uint32_t i = json_first(in, content); i < json_end(in, content); i = json_after(in, i)) {
        uint32_t id = part_get(in, i, VIEW("id")), name = part_get(in, i, VIEW("name"));
        uint32_t input = part_get(in, i, VIEW("input"));

        if (part_is(in, i, VIEW("text")) || part_is(in, i, VIEW("thinking")) ||
            part_is(in, i, VIEW("redacted_thinking")))
            continue;
        if (!part_is(in, i, VIEW("tool_use")))
            return REFUSE(t, "messages[%u].content: a block of this type cannot be translated", n);
        if (!part_has_text(in, id) || !part_has_text(in, name) || !part_is_type(in, input, JSON_OBJECT))
            return REFUSE(t, "messages[%u].content: a tool_use needs an id, a name and an input", n);
        put_next(t->out);
        buf_char(t->out, '{');
        put_id(t->out, VIEW("id"), in, id);
        buf_lit(t->out, ",\"type\":\"function\",\"function\":{");
        put_raw(t->out, VIEW("name"), in, name);
        put_string(t->out, VIEW("arguments"), json_raw(in, input));
        buf_lit(t->out, "}}");
    }
    buf_char(t->out, ']');
    if (t->out->len == empty + 1 && !t->out->failed)
        t->out->len = start;
    return 0;
}

/* Blocks of an assistant's turn are pieces of one text. Thoughts stay behind: chat has no place for them. */
static int put_assistant(struct translation *t, uint32_t content, unsigned n)
{
    int r = 0;

    put_next(t->out);
    buf_lit(t->out, "{\"role\":\"assistant\",\"content\":\"");
    put_joined(t, content, VIEW_NONE);
    buf_char(t->out, '"');
    if (part_is_type(t->in, content, JSON_ARRAY))
        r = put_calls(t, content, n);
    buf_char(t->out, '}');
    return r;
}

/* Words of the operator's between turns stay where they are. */
static int put_system(struct translation *t, uint32_t content)
{
    put_next(t->out);
    buf_lit(t->out, "{\"role\":\"system\",\"content\":\"");
    put_joined(t, content, VIEW("\\n\\n"));
    buf_lit(t->out, "\"}");
    return 0;
}

static int put_message(struct translation *t, uint32_t message, unsigned n)
{
    const struct json *in = t->in;
    uint32_t role = part_get(in, message, VIEW("role")), content = part_get(in, message, VIEW("content"));
    bool user = role && json_is(in, role, VIEW("user"));
    bool system = role && json_is(in, role, VIEW("system"));

    if (!user && !system && (!role || !json_is(in, role, VIEW("assistant"))))
        return REFUSE(t, "messages[%u].role: must be user, assistant or system", n);
    if (!part_is_type(in, content, JSON_STRING) && !part_is_type(in, content, JSON_ARRAY))
        return REFUSE(t, "messages[%u].content: must be a string or an array", n);
    if (!user)
        return system ? put_system(t, content) : put_assistant(t, content, n);
    if (json_type(in, content) == JSON_STRING) {
        put_next(t->out);
        buf_lit(t->out, "{\"role\":\"user\"");
        put_raw(t->out, VIEW("content"), in, content);
        buf_char(t->out, '}');
        return 0;
    }
    for (uint32_t i = json_first(in, content); i < json_end(in, content); i = json_after(in, i)) {
        int r = part_is(in, i, VIEW("tool_result")) ? put_result(t, i, n) : 0;

        if (r < 0)
            return r;
    }
    return put_user(t, content, n);
}

static int put_messages(struct translation *t)
{
    const struct json *in = t->in;
    uint32_t messages = part_top(in, VIEW("messages")), system = part_top(in, VIEW("system"));
    unsigned n = 0;
    size_t begun;

    if (!part_is_type(in, messages, JSON_ARRAY) || in->tokens[messages].count == 0)
        return REFUSE(t, "messages: must be an array with something in it");
    if (system && json_type(in, system) != JSON_STRING && json_type(in, system) != JSON_ARRAY)
        return REFUSE(t, "system: must be a string or an array");
    put_name(t->out, VIEW("messages"));
    buf_char(t->out, '[');
    if (system)
        put_system(t, system);
    begun = t->out->len;
    for (uint32_t i = json_first(in, messages); i < json_end(in, messages); i = json_after(in, i)) {
        int r = put_message(t, i, n++);

        if (r < 0)
            return r;
    }
    if (t->out->len == begun && !t->out->failed)
        return REFUSE(t, "messages: need something in one of them");
    buf_char(t->out, ']');
    return 0;
}

/* ---- parameters ---- */

/* What a budget of thoughts is called in chat; the inverse of what the other direction does. */
static struct view effort_of(const struct json *in)
{
    uint32_t thinking = part_top(in, VIEW("thinking")), effort;
    uint64_t budget;

    effort = part_get(in, part_top(in, VIEW("output_config")), VIEW("effort"));
    if (effort)
        return json_is(in, effort, VIEW("max")) ? VIEW("high") : part_inside(in, effort);
    if (!part_is(in, thinking, VIEW("enabled")) ||
        !json_u64(in, part_get(in, thinking, VIEW("budget_tokens")), &budget))
        return VIEW_NONE;
    return budget < 4096 ? VIEW("low") : budget < 16384 ? VIEW("medium") : VIEW("high");
}

struct view translate_limit_name(struct view model, bool reasons)
{
    return reasons || view_starts_with(model, VIEW("gpt-5")) || view_starts_with(model, VIEW("o1")) ||
                   view_starts_with(model, VIEW("o3")) || view_starts_with(model, VIEW("o4"))
               ? VIEW("max_completion_tokens")
               : VIEW("max_tokens");
}

static int put_format(struct translation *t)
{
    const struct json *in = t->in;
    uint32_t format = part_get(in, part_top(in, VIEW("output_config")), VIEW("format"));
    uint32_t schema;

    format = format ? format : part_top(in, VIEW("output_format"));
    schema = part_get(in, format, VIEW("schema"));
    if (!format)
        return 0;
    if (!part_is(in, format, VIEW("json_schema")) || !part_is_type(in, schema, JSON_OBJECT))
        return REFUSE(t, "output_config.format: must be a json_schema");
    put_name(t->out, VIEW("response_format"));
    buf_lit(t->out, "{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"answer\",\"strict\":true");
    put_raw(t->out, VIEW("schema"), in, schema);
    buf_lit(t->out, "}}");
    return 0;
}

static int put_parameters(struct translation *t)
{
    const struct json *in = t->in;
    uint32_t limit = part_top(in, VIEW("max_tokens")), user;
    struct view effort = effort_of(in);
    uint64_t value;

    if (!limit || !json_u64(in, limit, &value) || value == 0)
        return REFUSE(t, "max_tokens: must be a positive integer");
    put_u64(t->out, translate_limit_name(t->model, effort.len > 0), value);
    put_copy(t->out, VIEW("temperature"), in, part_top(in, VIEW("temperature")));
    put_copy(t->out, VIEW("top_p"), in, part_top(in, VIEW("top_p")));
    put_copy(t->out, VIEW("stop"), in, part_top(in, VIEW("stop_sequences")));
    user = part_get(in, part_top(in, VIEW("metadata")), VIEW("user_id"));
    put_copy(t->out, VIEW("user"), in, user);
    if (effort.len) {
        put_name(t->out, VIEW("reasoning_effort"));
        buf_char(t->out, '"');
        buf_put(t->out, effort);
        buf_char(t->out, '"');
    }
    if (json_true(in, part_top(in, VIEW("stream"))))
        buf_lit(t->out, ",\"stream\":true,\"stream_options\":{\"include_usage\":true}");
    return 0;
}

int translate_messages_to_chat(struct translation *t)
{
    static const struct view refused[] = { { "mcp_servers", 11 }, { "container", 9 }, { "thread", 6 } };
    int r;

    for (size_t i = 0; i < ARRAY_LEN(refused); i++)
        if (part_top(t->in, refused[i]))
            return REFUSE(t, "%.*s: cannot be translated for the provider of this model", VIEW_ARG(refused[i]));
    buf_char(t->out, '{');
    put_string(t->out, VIEW("model"), t->model);
    r = put_messages(t);
    if (r == 0)
        r = translate_tools_to_chat(t);
    if (r == 0)
        r = put_format(t);
    if (r == 0)
        r = put_parameters(t);
    buf_char(t->out, '}');
    return r;
}
