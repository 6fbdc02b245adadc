/* One stored form of an answer serves both ways to ask for it: a stream is put together into the plain answer the official API would
 * have given, and a plain answer is told as a stream. Pure; any thread. Both append to `out` (whose limit is the caller's) and leave
 * there what was written so far on an error: 0; -EINVAL: not such an answer; -ENOMEM: no memory, or more than `out` may hold. */
#pragma once

#include "ai/endpoint.h"
#include "base/buf.h"

/* The bytes of a sound stream of `endpoint` (chat, completions, messages, responses) as plain JSON. */
int ai_answer_assemble(enum ai_endpoint endpoint, struct view stream, struct buf *out);

/* A plain answer as the whole stream, ended as the endpoint ends one. `include_usage`: with OpenAI's usage chunk (chat, completions;
 * the others always say it). */
int ai_answer_stream(enum ai_endpoint endpoint, struct view plain, bool include_usage, struct buf *out);
