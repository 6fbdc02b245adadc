/* Usage objects of all dialects, told apart by the names of their members. */
#include "ai/usage.h"

static bool number(const struct json *doc, uint32_t object, struct view name, uint64_t *ret)
{
    uint32_t value = json_get_typed(doc, object, name, JSON_NUMBER);

    if (!value || !json_u64(doc, value, ret))
        return false;
    *ret = MIN(*ret, AI_USAGE_MAX);
    return true;
}

static bool detail(const struct json *doc, uint32_t object, struct view details, struct view name, uint64_t *ret)
{
    uint32_t inner = json_get_typed(doc, object, details, JSON_OBJECT);

    return inner && number(doc, inner, name, ret);
}

/* The parts of the prompt that Anthropic counts beside input_tokens. */
static bool read_cache(const struct json *doc, uint32_t usage, struct ai_usage *ret)
{
    bool found = number(doc, usage, VIEW("cache_read_input_tokens"), &ret->cached);

    return number(doc, usage, VIEW("cache_creation_input_tokens"), &ret->cache_write) || found;
}

static bool read_messages(const struct json *doc, uint32_t usage, struct ai_usage *ret)
{
    uint64_t beside = ret->cached + ret->cache_write, plain = ret->input > beside ? ret->input - beside : 0;
    bool found = read_cache(doc, usage, ret);

    found |= number(doc, usage, VIEW("input_tokens"), &plain);
    ret->input = plain + ret->cached + ret->cache_write;
    return found;
}

bool ai_usage_read(const struct json *doc, uint32_t usage, struct ai_usage *ret)
{
    bool found;

    if (json_type(doc, usage) != JSON_OBJECT)
        return false;
    found = number(doc, usage, VIEW("completion_tokens"), &ret->output);
    found |= number(doc, usage, VIEW("output_tokens"), &ret->output);
    if (detail(doc, usage, VIEW("completion_tokens_details"), VIEW("reasoning_tokens"), &ret->reasoning))
        found = true;
    if (detail(doc, usage, VIEW("output_tokens_details"), VIEW("reasoning_tokens"), &ret->reasoning) ||
        detail(doc, usage, VIEW("output_tokens_details"), VIEW("thinking_tokens"), &ret->reasoning))
        found = true;
    if (number(doc, usage, VIEW("prompt_tokens"), &ret->input)) {
        found = true;
        /* DeepSeek's name first, the usual one wins. */
        number(doc, usage, VIEW("prompt_cache_hit_tokens"), &ret->cached);
        detail(doc, usage, VIEW("prompt_tokens_details"), VIEW("cached_tokens"), &ret->cached);
        detail(doc, usage, VIEW("prompt_tokens_details"), VIEW("cache_write_tokens"), &ret->cache_write);
    } else if (json_get_typed(doc, usage, VIEW("input_tokens_details"), JSON_OBJECT)) {
        found |= number(doc, usage, VIEW("input_tokens"), &ret->input);
        detail(doc, usage, VIEW("input_tokens_details"), VIEW("cached_tokens"), &ret->cached);
        detail(doc, usage, VIEW("input_tokens_details"), VIEW("cache_write_tokens"), &ret->cache_write);
    } else {
        found |= read_messages(doc, usage, ret);
    }
    ret->cached = MIN(ret->cached, ret->input);
    ret->cache_write = MIN(ret->cache_write, ret->input - ret->cached);
    ret->reasoning = MIN(ret->reasoning, ret->output);
    ret->known |= found;
    return found;
}
