/* Says in one dialect what was said in the other: requests, answers, streams and errors between OpenAI's chat completions (AI_CHAT)
 * and Anthropic's messages (AI_MESSAGES). What becomes what, what is refused and what is dropped: docs/ai-translation.md.
 *
 * Pure: no clock, no I/O, no state but a stream's. Any thread. All input is foreign; none of it is repeated in a reason. */
#pragma once

#include "ai/endpoint.h"
#include "base/buf.h"
#include "base/text.h"
#include "proto/json.h"
#include "proto/sse.h"

/* Can translate_request() and its sisters go between these two? False also when they are the same: then nothing has to be said anew. */
bool translate_can(enum ai_endpoint from, enum ai_endpoint to);

/* Appends the client's request (`from`) as the provider's endpoint (`to`) wants it, for `model`. `default_max_tokens` stands in when the
 * client gave no limit and messages demand one. 0; -EINVAL: it cannot be said in the other dialect or is malformed, and *reason names
 * the member; -ENOTSUP: not a pair of translate_can(); -ENOMEM: no memory, or no room in *out. After an error *out is not to be used. */
int translate_request(enum ai_endpoint from, enum ai_endpoint to, const struct json *request, struct view model,
                      uint64_t default_max_tokens, struct buf *out, struct text *reason);

/* Appends a provider's whole answer (`from`) as the client's endpoint (`to`) gives it. `model`: the name to show; empty: the provider's.
 * `now`: seconds since 1970, for OpenAI's `created`. 0; -EBADMSG: no sound answer of that endpoint (an error object inside of a 200, no
 * message in it, a tool call whose arguments are no object); -ENOTSUP, -ENOMEM as above. */
int translate_answer(enum ai_endpoint from, enum ai_endpoint to, const struct json *answer, struct view model,
                     uint64_t now, struct buf *out);

/* One stream: the provider's events go in, the client's come out. `include_usage`: an AI_CHAT client asked for the chunk with usage.
 * `model` is copied (at most 256 bytes). NULL: no memory, or not a pair of translate_can(). */
struct translate_stream *translate_stream_new(enum ai_endpoint from, enum ai_endpoint to, struct view model,
                                              uint64_t now, bool include_usage);
void translate_stream_free(struct translate_stream *stream);
/* Appends what `event` becomes: nothing, or one or more whole events. An error inside the stream becomes the client's error event;
 * what comes after that, or after the terminal event, is ignored. 0; -EBADMSG: broken (no JSON, a tool call out of turn): nothing was appended
 * for this event and the stream should be given up; -ENOMEM: no memory or no room in *out; *out may then end in half an event. */
int translate_stream_event(struct translate_stream *stream, const struct sse_event *event, struct buf *out);
/* The provider's stream is over. 0: it ended well, or with an error. A provider that said why it stopped but left the terminal event out has
 * ended too: what is missing is appended. -ENODATA: cut, nothing is appended and no terminal event was: the caller signals the cut
 * (ai_error_event()). -ENOMEM. */
int translate_stream_end(struct translate_stream *stream, struct buf *out);

/* The error body a client of dialect `to` understands, for a provider's answer of `status` with `body`, whatever that holds. Messages of
 * 401, 402 and 403 are ours: the provider's may show a part of its key. 0 or -ENOMEM. */
int translate_error(enum ai_dialect from, enum ai_dialect to, int status, struct view body, struct buf *out);
/* What a chat request calls the limit of its answer: servers at large know max_tokens, OpenAI's reasoning models refuse it. `reasons`: the
 * request says how hard to think. A literal. */
struct view translate_limit_name(struct view model, bool reasons);
/* About how many tokens the prompt of `request` (system, messages, input, tools) has, for providers that cannot count: four bytes of text
 * to a token, four tokens a message, 1,600 an image. Within about 20% for English, low for scripts with few bytes to a word. */
uint64_t translate_count_estimate(const struct json *request);
