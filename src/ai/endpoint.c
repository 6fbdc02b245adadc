/* A table of paths. */
#include "ai/endpoint.h"

static const struct {
    struct view path, name;
    enum ai_dialect dialect;
} endpoints[AI_ENDPOINT_COUNT] = {
    [AI_CHAT] = { { "/v1/chat/completions", 20 }, { "chat", 4 }, AI_OPENAI },
    [AI_RESPONSES] = { { "/v1/responses", 13 }, { "responses", 9 }, AI_OPENAI },
    [AI_COMPLETIONS] = { { "/v1/completions", 15 }, { "completions", 11 }, AI_OPENAI },
    [AI_EMBEDDINGS] = { { "/v1/embeddings", 14 }, { "embeddings", 10 }, AI_OPENAI },
    [AI_MODELS] = { { "/v1/models", 10 }, { "models", 6 }, AI_OPENAI },
    [AI_MESSAGES] = { { "/v1/messages", 12 }, { "messages", 8 }, AI_ANTHROPIC },
    [AI_COUNT_TOKENS] = { { "/v1/messages/count_tokens", 25 }, { "count_tokens", 12 }, AI_ANTHROPIC },
    [AI_OTHER] = { { NULL, 0 }, { "other", 5 }, AI_OPENAI },
};

struct view ai_path(struct view path)
{
    for (struct view rest = path; rest.len; rest = view_skip(rest, 1 + view_find(view_skip(rest, 1), '/')))
        if (view_starts_with(rest, VIEW("/v1/")))
            return rest;
    return VIEW_NONE;
}

enum ai_endpoint ai_endpoint_of(struct view path)
{
    for (unsigned i = 0; i < AI_OTHER; i++)
        if (view_eq(path, endpoints[i].path))
            return (enum ai_endpoint)i;
    return view_starts_with(path, VIEW("/v1/models/")) ? AI_MODELS : AI_OTHER;
}

struct view ai_endpoint_path(enum ai_endpoint endpoint)
{
    return endpoints[endpoint].path;
}

struct view ai_endpoint_name(enum ai_endpoint endpoint)
{
    return endpoints[endpoint].name;
}

enum ai_dialect ai_endpoint_dialect(enum ai_endpoint endpoint)
{
    return endpoints[endpoint].dialect;
}
