/* The trace of one AI request: what it did and when, kept while it runs and handed to the tracer when it is over. Times and names; no
 * prompt, no answer, no field of the client's, no query. One loop's.
 *
 *   POST /v1/chat/completions            server: route, outcome, tier, what it cost
 *     auth                               reading, key, policy
 *     lookup memory | disk | shared | semantic
 *     wait budget | collapsed | queue
 *     chat gpt-4o-mini                   client: one provider's call, with what it used; event gen_ai.first_token
 *       attempt                          when there was more than one */
#pragma once

#include "ai/call.h"
#include "ai/telemetry.h"
#include "upstream/tracer.h"

struct ai_spans;

enum ai_span {
    AI_SPAN_AUTH,
    AI_SPAN_MEMORY,
    AI_SPAN_DISK,
    AI_SPAN_SHARED,
    AI_SPAN_SEMANTIC,
    AI_SPAN_BUDGET,
    AI_SPAN_COLLAPSED,
    AI_SPAN_QUEUE, /* for a connection to the provider */
    AI_SPAN_CALL,
    AI_SPAN_ATTEMPT
};

/* NULL: this request is not recorded (or memory is out); every function here takes that. *ret: for traceparent fields.
 * `started_us` is monotonic, `started_ms` the same moment on the wall clock. */
struct ai_spans *ai_spans_begin(struct tracer *tracer, struct view traceparent, uint64_t started_us, int64_t started_ms,
                                struct trace_context *ret);
/* Something that began at `start_us` and ends now; `good`: a lookup that found, a wait that was worth it. */
void ai_spans_add(struct ai_spans *spans, enum ai_span what, uint64_t start_us, bool good);
/* Both times known; monotonic microseconds. */
void ai_spans_put(struct ai_spans *spans, enum ai_span what, uint64_t start_us, uint64_t end_us, bool good);
/* A call is going to be made; its id, for the provider. 0 without spans. */
uint64_t ai_spans_call_id(struct ai_spans *spans);
/* It has ended. `streamed`: its first content has a time of its own. */
void ai_spans_call(struct ai_spans *spans, uint64_t id, const struct ai_candidate *candidate, struct view model,
                   enum ai_endpoint endpoint, bool streamed, const struct ai_call_report *report);
/* The request and all its calls are over: the spans go to the tracer. `known`: names may be told as they are. Frees. */
void ai_spans_end(struct ai_spans *spans, const struct ledger_row *row, bool known);
