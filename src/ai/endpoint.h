/* The interfaces that AI clients and providers speak, and what their paths mean. */
#pragma once

#include "base/view.h"
#include "proto/field.h"

enum ai_dialect { AI_OPENAI, AI_ANTHROPIC };

enum ai_endpoint {
    AI_CHAT,         /* POST /v1/chat/completions */
    AI_RESPONSES,    /* POST /v1/responses */
    AI_COMPLETIONS,  /* POST /v1/completions */
    AI_EMBEDDINGS,   /* POST /v1/embeddings */
    AI_MODELS,       /* GET /v1/models, /v1/models/{id} */
    AI_MESSAGES,     /* POST /v1/messages */
    AI_COUNT_TOKENS, /* POST /v1/messages/count_tokens */
    AI_OTHER,        /* any other /v1/ path: passed through */
    AI_ENDPOINT_COUNT
};

/* The part of a request path from "/v1/" on, whatever stands before it; empty when there is none. */
struct view ai_path(struct view path);
/* What `path` (from ai_path()) asks for. */
enum ai_endpoint ai_endpoint_of(struct view path);
/* A path that a provider may take for another one than we do: dot segments, empty ones, bytes that hide behind escapes, or an endpoint's
 * path in other letters ("/v1/ch%61t/completions/"). Passed through, it would be a question to a model that no rule and no price saw. */
bool ai_path_is_odd(struct view path);
/* "/v1/chat/completions"; empty for AI_OTHER. */
struct view ai_endpoint_path(enum ai_endpoint endpoint);
/* "chat", "messages", ...: for labels and logs. */
struct view ai_endpoint_name(enum ai_endpoint endpoint);
/* Whose errors a client there expects: AI_MESSAGES and AI_COUNT_TOKENS are Anthropic's; AI_MODELS and AI_OTHER are told by the
 * anthropic-version field, which the caller looks at. */
enum ai_dialect ai_endpoint_dialect(enum ai_endpoint endpoint);
