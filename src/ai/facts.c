/* The parameters of a request, by a table: which member, for which interfaces, who reads it. Reading is one pass over
 * the top object; what depends on several members is decided after it. */
#include "ai/facts_internal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

enum {
    CHAT = 1 << AI_CHAT,
    RESPONSES = 1 << AI_RESPONSES,
    COMPLETIONS = 1 << AI_COMPLETIONS,
    EMBEDDINGS = 1 << AI_EMBEDDINGS,
    MESSAGES = 1 << AI_MESSAGES,
    COUNT = 1 << AI_COUNT_TOKENS,
    ANTHROPIC = MESSAGES | COUNT,
    OPENAI = CHAT | RESPONSES | COMPLETIONS | EMBEDDINGS,
    GENERATING = CHAT | RESPONSES | COMPLETIONS | MESSAGES,
    EVERY = OPENAI | ANTHROPIC,
};

#define MODEL_MAX ((size_t)256)
#define MAX_TOKENS ((uint64_t)1 << 31)
#define CHOICES_MAX 128

int facts_refuse(struct facts_reader *r, const char *format, ...)
{
    char memory[256];
    va_list args;
    int len;

    va_start(args, format);
    len = vsnprintf(memory, sizeof(memory), format, args);
    va_end(args);
    if (r->reason && len > 0)
        text_put(r->reason, view_make(memory, MIN((size_t)len, sizeof(memory) - 1)));
    return -EINVAL;
}

static enum json_type type_of(const struct facts_reader *r, uint32_t value)
{
    return json_type(r->doc, value);
}

static bool is_null(const struct facts_reader *r, uint32_t value)
{
    return type_of(r, value) == JSON_NULL;
}

/* ---- one reader for each kind of member ---- */

static int read_model(struct facts_reader *r, uint32_t value)
{
    struct ai_facts *f = &r->facts;

    if (type_of(r, value) != JSON_STRING)
        return facts_refuse(r, "model: must be a string");
    f->model_at = value;
    f->model = json_plain(r->doc, value);
    if (!f->model.ptr) {
        if (r->doc->tokens[value].len > 6 * MODEL_MAX)
            return facts_refuse(r, "model: must be no longer than %zu bytes", MODEL_MAX);
        json_decode(r->doc, value, &f->decoded);
        if (f->decoded.failed)
            return -ENOMEM;
        f->model = buf_view(&f->decoded);
    }
    if (f->model.len == 0 || f->model.len > MODEL_MAX)
        return facts_refuse(r, "model: must be from 1 to %zu bytes long", MODEL_MAX);
    for (size_t i = 0; i < f->model.len; i++)
        if ((unsigned char)f->model.ptr[i] < 0x20 || f->model.ptr[i] == 0x7f)
            return facts_refuse(r, "model: must not have control characters");
    return 0;
}

/* true or false into *ret. */
static int read_bool(struct facts_reader *r, const char *name, uint32_t value, bool *ret)
{
    if (is_null(r, value))
        return 0;
    if (type_of(r, value) != JSON_TRUE && type_of(r, value) != JSON_FALSE)
        return facts_refuse(r, "%s: must be true or false", name);
    *ret = type_of(r, value) == JSON_TRUE;
    return 0;
}

static int read_stream(struct facts_reader *r, uint32_t value)
{
    r->facts.stream_at = value;
    return read_bool(r, "stream", value, &r->facts.stream);
}

static int read_stream_options(struct facts_reader *r, uint32_t value)
{
    uint32_t include;

    r->facts.stream_options_at = value;
    if (is_null(r, value))
        return 0;
    if (type_of(r, value) != JSON_OBJECT)
        return facts_refuse(r, "stream_options: must be an object");
    include = json_get(r->doc, value, VIEW("include_usage"));
    if (!include)
        return 0;
    r->facts.include_usage_at = include;
    return read_bool(r, "stream_options.include_usage", include, &r->facts.include_usage);
}

static int read_limit(struct facts_reader *r, const char *name, uint32_t value)
{
    struct ai_facts *f = &r->facts;
    uint64_t tokens;

    if (f->max_at)
        f->max_also_at = value;
    else
        f->max_at = value;
    if (is_null(r, value))
        return 0;
    if (r->endpoint == AI_COMPLETIONS && json_u64(r->doc, value, &tokens) && tokens == 0) {
        f->max_tokens = 1; /* only the prompt is to be scored; the bound is no lower than this */
        return 0;
    }
    if (!json_u64(r->doc, value, &tokens) || tokens == 0 || tokens > MAX_TOKENS)
        return facts_refuse(r, "%s: must be a whole number from 1 to %llu", name, (unsigned long long)MAX_TOKENS);
    if (f->max_tokens && f->max_tokens != tokens)
        return facts_refuse(r, "max_tokens: must not differ from max_completion_tokens");
    f->max_tokens = tokens;
    return 0;
}

static int read_max_tokens(struct facts_reader *r, uint32_t value)
{
    return read_limit(r, "max_tokens", value);
}

static int read_max_completion_tokens(struct facts_reader *r, uint32_t value)
{
    return read_limit(r, "max_completion_tokens", value);
}

static int read_max_output_tokens(struct facts_reader *r, uint32_t value)
{
    return read_limit(r, "max_output_tokens", value);
}

static int read_choices(struct facts_reader *r, const char *name, uint32_t value, uint32_t *ret)
{
    uint64_t count;

    if (is_null(r, value))
        return 0;
    if (!json_u64(r->doc, value, &count) || count == 0 || count > CHOICES_MAX)
        return facts_refuse(r, "%s: must be a whole number from 1 to %d", name, CHOICES_MAX);
    *ret = (uint32_t)count;
    return 0;
}

static int read_n(struct facts_reader *r, uint32_t value)
{
    return read_choices(r, "n", value, &r->facts.n);
}

static int read_best_of(struct facts_reader *r, uint32_t value)
{
    return read_choices(r, "best_of", value, &r->facts.best_of);
}

static int read_temperature(struct facts_reader *r, uint32_t value)
{
    uint64_t whole;

    if (is_null(r, value))
        return 0;
    if (type_of(r, value) != JSON_NUMBER)
        return facts_refuse(r, "temperature: must be a number");
    r->facts.temperature_given = true;
    r->facts.temperature_zero = json_u64(r->doc, value, &whole) && whole == 0;
    return 0;
}

static int read_seed(struct facts_reader *r, uint32_t value)
{
    if (is_null(r, value))
        return 0;
    if (type_of(r, value) != JSON_NUMBER)
        return facts_refuse(r, "seed: must be a number");
    r->facts.seed_given = true;
    return 0;
}

/* A tool without a type, or of one of these two, is run by the client; whatever else there is, by the provider. */
static bool is_client_tool(const struct facts_reader *r, uint32_t tool)
{
    uint32_t type = json_get(r->doc, tool, VIEW("type"));

    return !type || is_null(r, type) || json_is(r->doc, type, VIEW("function")) ||
           json_is(r->doc, type, VIEW("custom"));
}

static int read_tools(struct facts_reader *r, uint32_t value)
{
    uint32_t index = 0;

    r->facts.tools_at = value;
    if (is_null(r, value))
        return 0;
    if (type_of(r, value) != JSON_ARRAY)
        return facts_refuse(r, "tools: must be an array");
    for (uint32_t i = json_first(r->doc, value); i < json_end(r->doc, value); i = json_after(r->doc, i), index++) {
        if (type_of(r, i) != JSON_OBJECT)
            return facts_refuse(r, "tools[%u]: must be an object", index);
        r->facts.has_tools = true;
        r->facts.has_server_tools |= !is_client_tool(r, i);
    }
    return 0;
}

static int read_functions(struct facts_reader *r, uint32_t value)
{
    if (is_null(r, value))
        return 0;
    if (type_of(r, value) != JSON_ARRAY)
        return facts_refuse(r, "functions: must be an array");
    r->facts.has_tools |= r->doc->tokens[value].count > 0;
    return 0;
}

/* Anything said here makes the provider look elsewhere: web_search_options, mcp_servers, container. */
static int read_server_tool(struct facts_reader *r, uint32_t value)
{
    bool empty_list = type_of(r, value) == JSON_ARRAY && r->doc->tokens[value].count == 0;

    r->facts.has_server_tools |= !is_null(r, value) && !empty_list;
    return 0;
}

/* {type: ...} of response_format, of text.format, of output_config.format. */
static int read_format(struct facts_reader *r, const char *name, uint32_t value)
{
    uint32_t type;

    if (is_null(r, value))
        return 0;
    if (type_of(r, value) != JSON_OBJECT)
        return facts_refuse(r, "%s: must be an object", name);
    type = json_get(r->doc, value, VIEW("type"));
    r->facts.wants_schema |= type && !json_is(r->doc, type, VIEW("text"));
    return 0;
}

static int read_response_format(struct facts_reader *r, uint32_t value)
{
    return read_format(r, "response_format", value);
}

static int read_format_in(struct facts_reader *r, const char *name, const char *path, uint32_t value)
{
    uint32_t format;

    if (is_null(r, value))
        return 0;
    if (type_of(r, value) != JSON_OBJECT)
        return facts_refuse(r, "%s: must be an object", name);
    format = json_get(r->doc, value, VIEW("format"));
    return format ? read_format(r, path, format) : 0;
}

static int read_text(struct facts_reader *r, uint32_t value)
{
    return read_format_in(r, "text", "text.format", value);
}

static int read_output_config(struct facts_reader *r, uint32_t value)
{
    uint32_t effort = json_get(r->doc, value, VIEW("effort"));

    r->facts.has_reasoning |= effort && !is_null(r, effort);
    return read_format_in(r, "output_config", "output_config.format", value);
}

static int read_output_format(struct facts_reader *r, uint32_t value)
{
    return read_format(r, "output_format", value);
}

static int read_reasoning(struct facts_reader *r, uint32_t value)
{
    r->facts.has_reasoning |= !is_null(r, value);
    return 0;
}

static int read_thinking(struct facts_reader *r, uint32_t value)
{
    uint32_t type = json_get(r->doc, value, VIEW("type"));

    if (!is_null(r, value) && type_of(r, value) != JSON_OBJECT)
        return facts_refuse(r, "thinking: must be an object");
    r->facts.has_reasoning |= type && !json_is(r->doc, type, VIEW("disabled"));
    return 0;
}

/* It depends on something the provider keeps, or begins it: previous_response_id, conversation, prompt, thread. */
static int read_state(struct facts_reader *r, uint32_t value)
{
    if (!is_null(r, value))
        r->facts.never = AI_STATEFUL;
    return 0;
}

static int read_background(struct facts_reader *r, uint32_t value)
{
    bool background = false;
    int err = read_bool(r, "background", value, &background);

    if (background)
        r->facts.never = AI_STATEFUL;
    return err;
}

static int read_store(struct facts_reader *r, uint32_t value)
{
    return read_bool(r, "store", value, &r->facts.store);
}

static int read_user(struct facts_reader *r, uint32_t value)
{
    if (is_null(r, value))
        return 0;
    if (type_of(r, value) != JSON_STRING)
        return facts_refuse(r, "user: must be a string");
    r->facts.user_at = value;
    return 0;
}

static int read_metadata(struct facts_reader *r, uint32_t value)
{
    uint32_t user;

    if (is_null(r, value))
        return 0;
    if (type_of(r, value) != JSON_OBJECT)
        return facts_refuse(r, "metadata: must be an object");
    user = json_get_typed(r->doc, value, VIEW("user_id"), JSON_STRING);
    /* `user` comes first, wherever it stands. */
    if (user && !json_get_typed(r->doc, 0, VIEW("user"), JSON_STRING))
        r->facts.user_at = user;
    return 0;
}

static int read_safety_identifier(struct facts_reader *r, uint32_t value)
{
    uint32_t metadata = json_get(r->doc, 0, VIEW("metadata"));

    if (type_of(r, value) == JSON_STRING && !json_get_typed(r->doc, 0, VIEW("user"), JSON_STRING) &&
        !(metadata && json_get_typed(r->doc, metadata, VIEW("user_id"), JSON_STRING)))
        r->facts.user_at = value;
    return 0;
}

static int read_audio(struct facts_reader *r, uint32_t value)
{
    r->facts.has_audio |= !is_null(r, value);
    return 0;
}

static int read_encoding_format(struct facts_reader *r, uint32_t value)
{
    if (is_null(r, value))
        return 0;
    if (type_of(r, value) != JSON_STRING)
        return facts_refuse(r, "encoding_format: must be a string");
    r->facts.base64 = json_is(r->doc, value, VIEW("base64"));
    return 0;
}

static int read_prompt(struct facts_reader *r, uint32_t value)
{
    r->facts.prompt_at = value;
    switch (r->endpoint) {
    case AI_RESPONSES: return is_null(r, value) ? 0 : facts_input(r, value);
    case AI_COMPLETIONS: return is_null(r, value) ? 0 : facts_prompt(r, value);
    case AI_EMBEDDINGS: return facts_prompt(r, value);
    default: return facts_messages(r, value);
    }
}

/* ---- the table ---- */

#define NAMED(literal) \
    { \
        literal, sizeof(literal) - 1 \
    }

static const struct {
    struct view name;
    unsigned endpoints;
    bool prompt; /* its bytes count as prompt */
    int (*read)(struct facts_reader *r, uint32_t value);
} members[] = {
    { NAMED("model"), EVERY, false, read_model },
    { NAMED("messages"), CHAT | ANTHROPIC, true, read_prompt },
    { NAMED("input"), RESPONSES | EMBEDDINGS, true, read_prompt },
    { NAMED("prompt"), COMPLETIONS, true, read_prompt },
    { NAMED("prompt"), RESPONSES, true, read_state },
    { NAMED("system"), ANTHROPIC, true, facts_system },
    { NAMED("instructions"), RESPONSES, true, facts_system },
    { NAMED("suffix"), COMPLETIONS, true, NULL },
    { NAMED("stream"), GENERATING, false, read_stream },
    { NAMED("stream_options"), CHAT | RESPONSES | COMPLETIONS, false, read_stream_options },
    { NAMED("max_tokens"), CHAT | COMPLETIONS | MESSAGES, false, read_max_tokens },
    { NAMED("max_completion_tokens"), CHAT, false, read_max_completion_tokens },
    { NAMED("max_output_tokens"), RESPONSES, false, read_max_output_tokens },
    { NAMED("n"), CHAT | COMPLETIONS, false, read_n },
    { NAMED("best_of"), COMPLETIONS, false, read_best_of },
    { NAMED("temperature"), GENERATING, false, read_temperature },
    { NAMED("seed"), GENERATING, false, read_seed },
    { NAMED("tools"), CHAT | RESPONSES | ANTHROPIC, true, read_tools },
    { NAMED("functions"), CHAT, true, read_functions },
    { NAMED("web_search_options"), CHAT, false, read_server_tool },
    { NAMED("search_parameters"), CHAT | RESPONSES, false, read_server_tool },
    { NAMED("plugins"), CHAT | RESPONSES, false, read_server_tool },
    { NAMED("mcp_servers"), ANTHROPIC, true, read_server_tool },
    { NAMED("container"), ANTHROPIC, false, read_server_tool },
    { NAMED("response_format"), CHAT | COMPLETIONS, true, read_response_format },
    { NAMED("text"), RESPONSES, true, read_text },
    { NAMED("output_config"), ANTHROPIC, true, read_output_config },
    { NAMED("output_format"), ANTHROPIC, true, read_output_format },
    { NAMED("reasoning_effort"), CHAT, false, read_reasoning },
    { NAMED("reasoning"), CHAT | RESPONSES, false, read_reasoning },
    { NAMED("thinking"), ANTHROPIC, false, read_thinking },
    { NAMED("background"), RESPONSES, false, read_background },
    { NAMED("previous_response_id"), RESPONSES, false, read_state },
    { NAMED("conversation"), RESPONSES, false, read_state },
    { NAMED("thread"), ANTHROPIC, false, read_state },
    { NAMED("diagnostics"), ANTHROPIC, false, read_state },
    { NAMED("store"), CHAT | RESPONSES, false, read_store },
    { NAMED("user"), OPENAI, false, read_user },
    { NAMED("metadata"), EVERY, false, read_metadata },
    { NAMED("safety_identifier"), CHAT | RESPONSES, false, read_safety_identifier },
    { NAMED("audio"), CHAT, false, read_audio },
    { NAMED("encoding_format"), EMBEDDINGS, false, read_encoding_format },
};

static int read_member(struct facts_reader *r, uint32_t name)
{
    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        if (!(members[i].endpoints & 1u << r->endpoint) || !json_is(r->doc, name, members[i].name))
            continue;
        if (members[i].prompt)
            r->facts.prompt_bytes += r->doc->tokens[name + 1].len;
        return members[i].read ? members[i].read(r, name + 1) : 0;
    }
    return 0;
}

/* What several members together say. */
static int conclude(struct facts_reader *r)
{
    struct ai_facts *f = &r->facts;
    bool needs_prompt = r->endpoint != AI_RESPONSES && r->endpoint != AI_COMPLETIONS; /* those two have other ways */

    if (!f->model_at)
        return facts_refuse(r, "model: is missing");
    if (needs_prompt && !f->prompt_at)
        return facts_refuse(r, "%s: is missing", r->endpoint == AI_EMBEDDINGS ? "input" : "messages");
    if (f->stream_options_at && !is_null(r, f->stream_options_at) && !f->stream)
        return facts_refuse(r, "stream_options: must be used with stream: true only");
    f->deterministic = r->endpoint == AI_EMBEDDINGS || r->endpoint == AI_COUNT_TOKENS ||
                       ((f->temperature_zero || f->seed_given) && f->n == 1 && f->best_of == 1);
    f->unbounded = f->has_images || f->has_audio || f->has_files || f->has_server_tools || f->never == AI_STATEFUL;
    if (f->never == AI_CACHEABLE && f->has_server_tools)
        f->never = AI_SERVER_TOOLS;
    if (f->never == AI_CACHEABLE && r->doc->odd)
        f->never = AI_ODD;
    return 0;
}

static int read_known(struct facts_reader *r)
{
    int err = 0;

    if (r->doc->count == 0 || type_of(r, 0) != JSON_OBJECT)
        return facts_refuse(r, "the request: must be a JSON object");
    for (uint32_t name = json_first(r->doc, 0); name < json_end(r->doc, 0) && err == 0;
         name = json_after(r->doc, name + 1))
        err = read_member(r, name);
    return err < 0 ? err : conclude(r);
}

/* Only what can be told without knowing the interface; nothing is wrong there. */
static void read_unknown(struct facts_reader *r)
{
    uint32_t model;

    r->facts.never = AI_UNKNOWN;
    r->facts.unbounded = true;
    if (r->doc->count == 0)
        return;
    r->facts.prompt_bytes = r->doc->text.len;
    model = json_get_typed(r->doc, 0, VIEW("model"), JSON_STRING);
    r->facts.stream_at = json_get_typed(r->doc, 0, VIEW("stream"), JSON_TRUE);
    r->facts.stream = json_true(r->doc, r->facts.stream_at);
    if (model && json_plain(r->doc, model).len) {
        r->facts.model_at = model;
        r->facts.model = json_plain(r->doc, model);
    }
}

int ai_facts_read(struct ai_facts *ret, enum ai_endpoint endpoint, const struct json *doc, struct text *reason)
{
    struct facts_reader r = { .endpoint = endpoint, .doc = doc, .reason = reason };
    int err = 0;

    r.facts.n = r.facts.best_of = 1;
    r.facts.decoded = buf_make(6 * MODEL_MAX);
    if (endpoint == AI_MODELS || endpoint == AI_OTHER)
        read_unknown(&r);
    else
        err = read_known(&r);
    if (err < 0) {
        buf_free(&r.facts.decoded);
        return err;
    }
    *ret = r.facts;
    return 0;
}

void ai_facts_free(struct ai_facts *facts)
{
    buf_free(&facts->decoded);
}

const char *ai_never_text(enum ai_never never)
{
    switch (never) {
    case AI_CACHEABLE: return "cacheable";
    case AI_STATEFUL: return "stateful";
    case AI_SERVER_TOOLS: return "server-tools";
    case AI_ODD: return "odd";
    case AI_UNKNOWN: return "unknown";
    }
    return "unknown";
}
