/* Watches an answer of a provider as it comes, event by event or whole: has content begun, has it ended well, did it cost what. Pure;
 * one per answer. It never changes bytes. */
#pragma once

#include "ai/endpoint.h"
#include "ai/usage.h"
#include "proto/sse.h"

enum watch_mark {
    WATCH_CONTENT = 1 << 0,   /* carries something generated: text, reasoning, a tool call, a refusal, audio */
    WATCH_END = 1 << 1,       /* the terminal event: [DONE], message_stop, response.completed / .incomplete */
    WATCH_ERROR = 1 << 2,     /* an error inside of a 200 */
    WATCH_USAGE = 1 << 3,     /* nothing but usage: OpenAI's chunk with empty choices, which only those see who asked */
    WATCH_KEEPALIVE = 1 << 4, /* comment, ping: no progress */
    WATCH_BROKEN = 1 << 5,    /* data that is no JSON */
};

enum watch_error {
    WATCH_NO_ERROR,
    WATCH_RATE_LIMIT,
    WATCH_OVERLOADED,
    WATCH_QUOTA, /* the account is empty: this credential is of no use */
    WATCH_SERVER_ERROR,
    WATCH_BAD_REQUEST
};

#define WATCH_TOOL_MAX ((size_t)256 << 10) /* arguments of all tool calls of an answer; more is bad_tool */
#define WATCH_CHOICES 128                  /* as many as `n` may ask for */

struct watch {
    enum ai_endpoint
        endpoint; /* of the provider's side: AI_CHAT, AI_RESPONSES, AI_COMPLETIONS, AI_MESSAGES, AI_EMBEDDINGS, ... */
    struct ai_usage usage;
    uint64_t output_bytes; /* of generated text, for an estimate when no usage came */
    uint32_t events;
    bool begun;                    /* messages: there was a message_start */
    bool content, ended, finished; /* finished: a finish_reason / stop_reason was said, by every choice */
    bool limited;                  /* ... and one was that there may be no more tokens */
    bool bad_tool;                 /* a tool call whose arguments are no JSON object */
    bool broken;                   /* data that is no JSON, or not what the endpoint answers */
    enum watch_error error;
    struct json doc; /* scratch */
    struct buf
        tool; /* arguments of the tool calls under way: records of one call's next bytes each, in the order they came */
    struct buf call;                                             /* arguments of one call, when its records lie apart */
    size_t record;                                               /* where the last record begins */
    uint64_t seen[WATCH_CHOICES / 64], done[WATCH_CHOICES / 64]; /* choices, as bits */
};

void watch_init(struct watch *watch, enum ai_endpoint endpoint);
void watch_free(struct watch *watch);
/* Marks of this event (OR of enum watch_mark). */
unsigned watch_event(struct watch *watch, const struct sse_event *event);
/* The same for a whole answer that is not a stream. */
unsigned watch_plain(struct watch *watch, struct view body);
/* A whole and sound answer: ended (a plain one: well formed), no error, finished, tool calls valid. What is not, is not stored. */
bool watch_is_sound(const struct watch *watch);
/* What it used: as the provider says at the end. Until then, or when it says nothing, estimated (known is false): what was said so far,
 * output from bytes (about 4 to a token), input from `prompt_bytes`. */
struct ai_usage watch_usage(const struct watch *watch, uint64_t prompt_bytes);
