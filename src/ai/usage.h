/* What an answer cost in tokens, in one shape for all dialects. */
#pragma once

#include "proto/json.h"

/* No count is believed to be larger, so that sums and prices cannot overflow. */
#define AI_USAGE_MAX ((uint64_t)1000000000)

/* `input` is all of the prompt, cached parts included; `output` is all that was generated, reasoning included. */
struct ai_usage {
    uint64_t input;
    uint64_t cached;      /* of input: read from the provider's prompt cache */
    uint64_t cache_write; /* of input: written to it */
    uint64_t output;
    uint64_t reasoning; /* of output */
    bool known;         /* the provider said so; else estimated, or nothing */
};

/* Reads a usage object of either dialect (members prompt_tokens / completion_tokens, or input_tokens / output_tokens with their
 * details; Anthropic's input_tokens excludes what its cache read and wrote, which is added here). What is not said stays as it is in *ret, so that the parts of a
 * stream add up (Anthropic says input first and output last). True when anything was found; sets known. */
bool ai_usage_read(const struct json *doc, uint32_t usage, struct ai_usage *ret);
