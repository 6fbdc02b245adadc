/* A chat completions request as a messages request. System and developer messages are gathered into `system`; the others become turns that
 * alternate, since messages know no two of one role in a row and keep results of tools in the user's turn. */
#include "ai/translate_parts.h"

enum turn { TURN_NONE, TURN_USER, TURN_ASSISTANT };

/* Goes to that role's turn, closing the one before. Called only where a block follows: no turn is empty. */
static void go_to(struct translation *t, enum turn *at, enum turn turn)
{
    if (*at != turn) {
        if (*at != TURN_NONE)
            buf_lit(t->out, "]}");
        if (turn != TURN_NONE) {
            put_next(t->out);
            buf_put(t->out, turn == TURN_USER ? VIEW("{\"role\":\"user\",\"content\":[")
                                              : VIEW("{\"role\":\"assistant\",\"content\":["));
        }
        *at = turn;
    }
    if (turn != TURN_NONE)
        put_next(t->out);
}

static void put_text_block(struct translation *t, uint32_t text)
{
    buf_lit(t->out, "{\"type\":\"text\"");
    put_raw(t->out, VIEW("text"), t->in, text);
    buf_char(t->out, '}');
}

/* Cuts "data:TYPE;base64,DATA" up. */
static bool cut_data_url(struct view url, struct view *ret_type, struct view *ret_data)
{
    struct view rest = view_skip(url, 5), head = view_cut(&rest, ',');

    if (!view_starts_with_icase(url, VIEW("data:")) || !rest.ptr || !view_ends_with(head, VIEW(";base64")))
        return false;
    head.len -= 7;
    *ret_type = view_first(head, view_find(head, ';'));
    *ret_data = rest;
    return true;
}

/* {"type": block, "source": ...} from a data: URL, or an http(s) one if `links`. The URL may hold escaped slashes. */
static int put_source(struct translation *t, struct view block, uint32_t url, bool links)
{
    struct view text = json_plain(t->in, url), type, data;

    if (!text.ptr) {
        t->decoded.len = 0;
        if (!json_decode(t->in, url, &t->decoded))
            return -EINVAL;
        if (t->decoded.failed)
            return -ENOMEM;
        text = buf_view(&t->decoded);
    }
    buf_char(t->out, '{');
    put_string(t->out, VIEW("type"), block);
    put_name(t->out, VIEW("source"));
    if (cut_data_url(text, &type, &data)) {
        buf_lit(t->out, "{\"type\":\"base64\"");
        put_string(t->out, VIEW("media_type"), view_eq_icase(type, VIEW("image/jpg")) ? VIEW("image/jpeg") : type);
        put_string(t->out, VIEW("data"), data);
    } else if (links &&
               (view_starts_with_icase(text, VIEW("https://")) || view_starts_with_icase(text, VIEW("http://")))) {
        buf_lit(t->out, "{\"type\":\"url\"");
        put_string(t->out, VIEW("url"), text);
    } else
        return -EINVAL;
    buf_lit(t->out, "}}");
    return 0;
}

/* One part of a message's content as a block. 1: there was nothing in it. */
static int put_part(struct translation *t, uint32_t part, enum turn *at, enum turn turn, unsigned n)
{
    const struct json *in = t->in;
    uint32_t text = part_get(in, part, part_is(in, part, VIEW("refusal")) ? VIEW("refusal") : VIEW("text"));
    uint32_t url = part_get(in, part_get(in, part, VIEW("image_url")), VIEW("url"));
    uint32_t file = part_get(in, part_get(in, part, VIEW("file")), VIEW("file_data"));
    int r;

    if (part_is(in, part, VIEW("text")) || part_is(in, part, VIEW("refusal"))) {
        if (!part_is_type(in, text, JSON_STRING))
            return REFUSE(t, "messages[%u].content: a text part without text", n);
        if (!part_has_text(in, text))
            return 0;
        go_to(t, at, turn);
        put_text_block(t, text);
        return 0;
    }
    if (turn == TURN_USER && part_is(in, part, VIEW("image_url"))) {
        go_to(t, at, turn);
        r = put_source(t, VIEW("image"), url, true);
        return r == -EINVAL ? REFUSE(t, "messages[%u].content: an image needs an http(s) or base64 data URL", n) : r;
    }
    if (turn == TURN_USER && part_is(in, part, VIEW("file"))) {
        go_to(t, at, turn);
        r = put_source(t, VIEW("document"), file, false);
        return r == -EINVAL ? REFUSE(t, "messages[%u].content: a file needs file_data with a base64 data URL", n) : r;
    }
    return REFUSE(t, "messages[%u].content: a part of this type cannot be translated", n);
}

static int put_content(struct translation *t, uint32_t content, enum turn *at, enum turn turn, unsigned n)
{
    const struct json *in = t->in;

    if (!content)
        return 0;
    if (json_type(in, content) == JSON_STRING) {
        if (part_has_text(in, content)) {
            go_to(t, at, turn);
            put_text_block(t, content);
        }
        return 0;
    }
    if (json_type(in, content) != JSON_ARRAY)
        return REFUSE(t, "messages[%u].content: must be a string or an array", n);
    for (uint32_t i = json_first(in, content); i < json_end(in, content); i = json_after(in, i)) {
        int r = put_part(t, i, at, turn, n);

        if (r < 0)
            return r;
    }
    return 0;
}

static int put_calls(struct translation *t, uint32_t calls, enum turn *at, unsigned n)
{
    const struct json *in = t->in;

    if (!calls)
        return 0;
    if (json_type(in, calls) != JSON_ARRAY)
        return REFUSE(t, "messages[%u].tool_calls: must be an array", n);
    for (uint32_t i = json_first(in, calls); i < json_end(in, calls); i = json_after(in, i)) {
        uint32_t function = part_get(in, i, VIEW("function")), id = part_get(in, i, VIEW("id"));
        uint32_t name = part_get(in, function, VIEW("name")), arguments = part_get(in, function, VIEW("arguments"));
        int r;

        if (!part_has_text(in, id) || !part_has_text(in, name))
            return REFUSE(t, "messages[%u].tool_calls: a call needs an id and a function with a name", n);
        go_to(t, at, TURN_ASSISTANT);
        buf_lit(t->out, "{\"type\":\"tool_use\"");
        put_id(t->out, VIEW("id"), in, id);
        put_raw(t->out, VIEW("name"), in, name);
        put_name(t->out, VIEW("input"));
        r = part_put_arguments(in, arguments, &t->inner, &t->decoded, t->out);
        if (r < 0)
            return r == -EINVAL ? REFUSE(t, "messages[%u].tool_calls: arguments are not a JSON object", n) : r;
        buf_char(t->out, '}');
    }
    return 0;
}

/* What a tool gave. Parts of its content are texts (and, where a server allows them, images), as in a user's message. */
static int put_result(struct translation *t, uint32_t message, enum turn *at, unsigned n)
{
    const struct json *in = t->in;
    uint32_t id = part_get(in, message, VIEW("tool_call_id")), content = part_get(in, message, VIEW("content"));
    enum turn inside = TURN_USER;
    int r = 0;

    if (!part_has_text(in, id))
        return REFUSE(t, "messages[%u].tool_call_id: missing", n);
    go_to(t, at, TURN_USER);
    buf_lit(t->out, "{\"type\":\"tool_result\"");
    put_id(t->out, VIEW("tool_use_id"), in, id);
    if (part_is_type(in, content, JSON_ARRAY)) {
        put_name(t->out, VIEW("content"));
        buf_char(t->out, '[');
        r = put_content(t, content, &inside, TURN_USER, n);
        buf_char(t->out, ']');
    } else if (part_is_type(in, content, JSON_STRING))
        put_raw(t->out, VIEW("content"), in, content);
    else if (content)
        return REFUSE(t, "messages[%u].content: must be a string or an array", n);
    buf_char(t->out, '}');
    return r;
}

static bool is_system(const struct json *in, uint32_t role)
{
    return role && (json_is(in, role, VIEW("system")) || json_is(in, role, VIEW("developer")));
}

static int put_message(struct translation *t, uint32_t message, enum turn *at, unsigned n)
{
    const struct json *in = t->in;
    uint32_t role = part_get(in, message, VIEW("role")), content = part_get(in, message, VIEW("content"));
    int r;

    if (!role)
        return REFUSE(t, "messages[%u].role: missing", n);
    if (is_system(in, role))
        return 0;
    if (json_is(in, role, VIEW("user")))
        return put_content(t, content, at, TURN_USER, n);
    if (json_is(in, role, VIEW("tool")))
        return put_result(t, message, at, n);
    if (!json_is(in, role, VIEW("assistant")))
        return REFUSE(t, "messages[%u].role: cannot be translated", n);
    if (part_get(in, message, VIEW("audio")) || part_get(in, message, VIEW("function_call")))
        return REFUSE(t, "messages[%u]: audio and function_call cannot be translated", n);
    r = put_content(t, content, at, TURN_ASSISTANT, n);
    return r < 0 ? r : put_calls(t, part_get(in, message, VIEW("tool_calls")), at, n);
}

static int put_messages(struct translation *t, uint32_t messages)
{
    const struct json *in = t->in;
    enum turn at = TURN_NONE;
    unsigned n = 0;
    int r;

    if (!part_is_type(in, messages, JSON_ARRAY))
        return REFUSE(t, "messages: must be an array");
    put_name(t->out, VIEW("messages"));
    buf_char(t->out, '[');
    for (uint32_t i = json_first(in, messages); i < json_end(in, messages); i = json_after(in, i)) {
        r = put_message(t, i, &at, n++);
        if (r < 0)
            return r;
    }
    if (at == TURN_NONE)
        return REFUSE(t, "messages: need something beside a system message");
    go_to(t, &at, TURN_NONE);
    buf_char(t->out, ']');
    return 0;
}

/* Texts of the system are joined by an empty line. Texts stay escaped as they are, so they are joined inside of one string. */
static void put_system_text(struct translation *t, uint32_t text, bool *begun)
{
    if (!part_has_text(t->in, text))
        return;
    if (*begun)
        buf_lit(t->out, "\\n\\n");
    else {
        put_name(t->out, VIEW("system"));
        buf_char(t->out, '"');
    }
    *begun = true;
    buf_put(t->out, part_inside(t->in, text));
}

static int put_system(struct translation *t, uint32_t messages)
{
    const struct json *in = t->in;
    bool begun = false;
    unsigned n = 0;

    if (!part_is_type(in, messages, JSON_ARRAY))
        return REFUSE(t, "messages: must be an array");
    for (uint32_t i = json_first(in, messages); i < json_end(in, messages); i = json_after(in, i), n++) {
        uint32_t content = part_get(in, i, VIEW("content"));

        if (!is_system(in, part_get(in, i, VIEW("role"))))
            continue;
        put_system_text(t, content, &begun);
        if (part_is_type(in, content, JSON_ARRAY))
            for (uint32_t k = json_first(in, content); k < json_end(in, content); k = json_after(in, k)) {
                if (!part_is(in, k, VIEW("text")))
                    return REFUSE(t, "messages[%u].content: a system message holds only text", n);
                put_system_text(t, part_get(in, k, VIEW("text")), &begun);
            }
    }
    if (begun)
        buf_char(t->out, '"');
    return 0;
}

/* Members that would change what the answer is, and cannot be said. */
static int check_members(struct translation *t)
{
    static const struct view refused[] = {
        { "audio", 5 },
        { "functions", 9 },
        { "function_call", 13 },
        { "web_search_options", 18 },
    };
    const struct json *in = t->in;
    uint32_t n = part_top(in, VIEW("n")), modalities = part_top(in, VIEW("modalities"));
    uint32_t bias = part_top(in, VIEW("logit_bias")), top = part_top(in, VIEW("top_logprobs"));
    uint64_t value = 1;

    for (size_t i = 0; i < ARRAY_LEN(refused); i++)
        if (part_top(in, refused[i]))
            return REFUSE(t, "%.*s: cannot be translated for the provider of this model", VIEW_ARG(refused[i]));
    if (n && (!json_u64(in, n, &value) || value != 1))
        return REFUSE(t, "n: the provider of this model gives one answer");
    value = 0;
    if (json_true(in, part_top(in, VIEW("logprobs"))) || (top && (!json_u64(in, top, &value) || value > 0)))
        return REFUSE(t, "logprobs: the provider of this model does not tell them");
    if (bias && (json_type(in, bias) != JSON_OBJECT || in->tokens[bias].count > 0))
        return REFUSE(t, "logit_bias: cannot be translated for the provider of this model");
    if (part_is_type(in, modalities, JSON_ARRAY))
        for (uint32_t i = json_first(in, modalities); i < json_end(in, modalities); i = json_after(in, i))
            if (!json_is(in, i, VIEW("text")))
                return REFUSE(t, "modalities: only text can be translated");
    return 0;
}

static int put_stop(struct translation *t)
{
    const struct json *in = t->in;
    uint32_t stop = part_top(in, VIEW("stop"));

    if (!stop)
        return 0;
    put_name(t->out, VIEW("stop_sequences"));
    if (json_type(in, stop) == JSON_ARRAY) {
        buf_put(t->out, json_raw(in, stop));
        return 0;
    }
    if (json_type(in, stop) != JSON_STRING)
        return REFUSE(t, "stop: must be a string or an array");
    buf_char(t->out, '[');
    buf_put(t->out, json_raw(in, stop));
    buf_char(t->out, ']');
    return 0;
}

/* An effort as a budget of tokens; 0: none asked for. */
static uint64_t thinking_budget(const struct json *in)
{
    uint32_t effort = part_top(in, VIEW("reasoning_effort"));

    if (!effort)
        return 0;
    if (json_is(in, effort, VIEW("low")))
        return 1024;
    if (json_is(in, effort, VIEW("medium")))
        return 4096;
    if (json_is(in, effort, VIEW("max")))
        return 32768;
    return json_is(in, effort, VIEW("high")) || json_is(in, effort, VIEW("xhigh")) ? 16384 : 0;
}

/* Thinking needs a turn of the user's own at the end: a turn of the assistant that goes on after a tool would have to begin with its earlier
 * thoughts, which chat does not carry. */
static bool ends_in_user(const struct json *in, uint32_t messages)
{
    uint32_t last = 0;

    for (uint32_t i = json_first(in, messages); i < json_end(in, messages); i = json_after(in, i))
        last = is_system(in, part_get(in, i, VIEW("role"))) ? last : i;
    return last && part_get(in, last, VIEW("role")) && json_is(in, part_get(in, last, VIEW("role")), VIEW("user"));
}

/* Sampling; `thinks`: with thinking only the default temperature is allowed. */
static int put_sampling(struct translation *t, bool thinks)
{
    const struct json *in = t->in;
    uint32_t temperature = part_top(in, VIEW("temperature")), top_p = part_top(in, VIEW("top_p"));
    double value, share;

    if (temperature && !json_double(in, temperature, &value))
        return REFUSE(t, "temperature: must be a number");
    if (thinks)
        return 0;
    if (temperature && value > 1)
        put_u64(t->out, VIEW("temperature"), 1);
    else
        put_copy(t->out, VIEW("temperature"), in, temperature);
    /* All of the tokens is what there is anyway, and many models take one of the two only. */
    if (!top_p || !json_double(in, top_p, &share) || share < 1)
        put_copy(t->out, VIEW("top_p"), in, top_p);
    put_copy(t->out, VIEW("top_k"), in, part_top(in, VIEW("top_k")));
    return 0;
}

static int put_parameters(struct translation *t, uint64_t default_max_tokens, bool forced)
{
    const struct json *in = t->in;
    uint32_t limit = part_top(in, VIEW("max_completion_tokens")), user = part_top(in, VIEW("user"));
    uint64_t max_tokens = default_max_tokens, budget = thinking_budget(in);
    bool thinks;
    int r;

    limit = limit ? limit : part_top(in, VIEW("max_tokens"));
    if (limit && (!json_u64(in, limit, &max_tokens) || max_tokens == 0))
        return REFUSE(t, "max_tokens: must be a positive integer");
    put_u64(t->out, VIEW("max_tokens"), max_tokens);
    thinks = budget && budget < max_tokens && !forced && ends_in_user(in, part_top(in, VIEW("messages")));
    if (thinks) {
        put_name(t->out, VIEW("thinking"));
        buf_lit(t->out, "{\"type\":\"enabled\"");
        put_u64(t->out, VIEW("budget_tokens"), budget);
        buf_char(t->out, '}');
    }
    r = put_sampling(t, thinks);
    if (r == 0)
        r = put_stop(t);
    if (r < 0)
        return r;
    if (part_has_text(in, user)) {
        put_name(t->out, VIEW("metadata"));
        buf_char(t->out, '{');
        put_raw(t->out, VIEW("user_id"), in, user);
        buf_char(t->out, '}');
    }
    if (json_true(in, part_top(in, VIEW("stream"))))
        buf_lit(t->out, ",\"stream\":true");
    return 0;
}

int translate_chat_to_messages(struct translation *t, uint64_t default_max_tokens)
{
    uint32_t messages = part_top(t->in, VIEW("messages"));
    bool forced = false;
    int r = check_members(t);

    if (r < 0)
        return r;
    buf_char(t->out, '{');
    put_string(t->out, VIEW("model"), t->model);
    r = put_system(t, messages);
    if (r == 0)
        r = put_messages(t, messages);
    if (r == 0)
        r = translate_tools_to_messages(t, &forced);
    if (r == 0)
        r = put_parameters(t, default_max_tokens, forced);
    buf_char(t->out, '}');
    return r;
}
