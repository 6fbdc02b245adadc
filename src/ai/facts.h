/* What the gateway must know of a request, read from its tape in one pass over the top object. Members we interpret
 * must have the right type; members we do not know are nobody's business here and never an error. */
#pragma once

#include "ai/endpoint.h"
#include "base/text.h"
#include "proto/json.h"

/* Why a request's answer can never be kept, whatever a route allows. */
enum ai_never {
    AI_CACHEABLE,
    AI_STATEFUL,     /* background, previous_response_id, conversation, a stored prompt or item */
    AI_SERVER_TOOLS, /* the provider looks into the world while it answers */
    AI_ODD,          /* doc->odd: two readers may take it for two different requests */
    AI_UNKNOWN,      /* AI_MODELS, AI_OTHER: we do not know what it means */
};

/* The fields that end in _at are tokens of the tape: values, 0 when they are not there (null counts as there, so that
 * it can be replaced). A member's name is the token before its value. Everything else treats null as not said. */
struct ai_facts {
    struct view model; /* decoded: a view into the text, or into `decoded` */
    struct buf decoded;
    uint32_t model_at, stream_at, stream_options_at, include_usage_at;
    uint32_t max_at, max_also_at; /* max_tokens, max_completion_tokens, max_output_tokens; two when it says two */
    uint32_t prompt_at;           /* messages, input or prompt */
    uint32_t system_at;           /* system or instructions */
    uint32_t tools_at;
    uint32_t user_at;      /* user, metadata.user_id or safety_identifier, the first of them that is a string */
    uint32_t last_user_at; /* the text of the last user message; 0 when it is anything else than one text */

    uint64_t max_tokens; /* of output; 0: not said */
    /* Of messages, input, prompt, system, instructions, tools and schemas as written: no fewer than their tokens,
     * unless `unbounded`. */
    uint64_t prompt_bytes;
    uint32_t n, best_of;      /* 1 when not said */
    uint32_t messages, turns; /* all messages or items; those of role user */

    bool stream, include_usage;
    bool has_system, has_tools, has_tool_turns, has_server_tools;
    bool has_images, has_audio, has_files;
    bool has_numbers;   /* the prompt, or a part of it, is token numbers: nobody here can read it */
    bool unbounded;     /* prompt_bytes is no bound: images, audio, files, what the provider keeps or finds by itself */
    bool wants_schema;  /* a JSON object or schema is asked for */
    bool has_reasoning; /* an effort, or thinking, is asked for */
    bool temperature_given, temperature_zero, seed_given;
    bool deterministic; /* one choice, and temperature 0 or a seed; embeddings and token counts always */
    bool store;         /* store: true */
    bool base64;        /* embeddings: encoding_format base64 */
    enum ai_never never;
};

/* Reads the facts of a request to `endpoint`; for AI_MODELS and AI_OTHER only the model and stream, where they have
 * the right type (a tape without tokens is fine there). *ret borrows from `doc` and its text; give it to
 * ai_facts_free(). -EINVAL: `reason` says which member is wrong and what it should be, in words that hold nothing of
 * the request but its member names; *ret is untouched. -ENOMEM. */
int ai_facts_read(struct ai_facts *ret, enum ai_endpoint endpoint, const struct json *doc, struct text *reason);
void ai_facts_free(struct ai_facts *facts);
/* "stateful", "server-tools", "odd", ...: for Cache-Status and logs. */
const char *ai_never_text(enum ai_never never);
