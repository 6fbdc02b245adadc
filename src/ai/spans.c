/* Spans are collected as small records and encoded when all is over. Names of providers belong to the configuration, which each call
 * keeps alive only until it has landed: they are copied, cut. */
#include "ai/spans.h"

#include "base/clock.h"
#include "base/heap.h"

#define SPANS_MAX 40u
#define NAME_MAX_LEN 96u
#define SPANS_BYTES ((size_t)128 * 1024)

struct record {
    enum ai_span what;
    bool good, billed;
    uint16_t status;
    uint64_t id, parent; /* of a call and its attempts; 0: made at the end, the root */
    uint64_t start_us, end_us, first_us;
    const char *error;
    struct ai_usage usage;
    enum ai_endpoint endpoint;
    enum ai_rung rung;
    unsigned attempts;
    char provider[NAME_MAX_LEN], model[NAME_MAX_LEN];
};

struct ai_spans {
    struct tracer *tracer;
    struct trace_context trace; /* parent_id: the caller's, or 0 */
    uint64_t root;
    uint64_t started_us, started_ns;
    unsigned count, lost;
    struct record list[SPANS_MAX];
};

struct ai_spans *ai_spans_begin(struct tracer *tracer, struct view traceparent, uint64_t started_us, int64_t started_ms,
                                struct trace_context *ret)
{
    struct trace_context trace;
    struct ai_spans *spans;

    if (!tracer_begin(tracer, traceparent, &trace)) {
        *ret = trace;
        return NULL;
    }
    *ret = trace;
    spans = heap_alloc(sizeof(*spans));
    if (!spans) {
        if (!ret->parent_id)
            ret->parent_id = tracer_id();
        return NULL;
    }
    memset(spans, 0, offsetof(struct ai_spans, list));
    spans->tracer = tracer;
    spans->trace = trace;
    spans->root = ret->parent_id = tracer_id();
    spans->started_us = started_us;
    spans->started_ns = (uint64_t)started_ms * 1000000;
    return spans;
}

static struct record *add(struct ai_spans *spans, enum ai_span what, uint64_t start_us, uint64_t end_us)
{
    struct record *record;

    if (spans->count == SPANS_MAX) {
        spans->lost++;
        return NULL;
    }
    record = &spans->list[spans->count++];
    memset(record, 0, sizeof(*record));
    record->what = what;
    record->start_us = start_us;
    record->end_us = end_us;
    return record;
}

void ai_spans_put(struct ai_spans *spans, enum ai_span what, uint64_t start_us, uint64_t end_us, bool good)
{
    struct record *record = spans ? add(spans, what, start_us, end_us) : NULL;

    if (record)
        record->good = good;
}

void ai_spans_add(struct ai_spans *spans, enum ai_span what, uint64_t start_us, bool good)
{
    if (spans)
        ai_spans_put(spans, what, start_us, clock_mono_us(), good);
}

uint64_t ai_spans_call_id(struct ai_spans *spans)
{
    return spans ? tracer_id() : 0;
}

static void keep(char memory[NAME_MAX_LEN], struct view name)
{
    name = view_first(name, NAME_MAX_LEN - 1);
    if (name.len)
        memcpy(memory, name.ptr, name.len);
    memory[name.len] = '\0';
}

static void add_tries(struct ai_spans *spans, uint64_t call, const struct ai_call_report *report)
{
    unsigned count = MIN(report->attempts, AI_CALL_TRIES);

    for (unsigned i = 0; i < count; i++) {
        const struct ai_call_try *try = &report->tries[i];
        struct record *record;
        uint64_t parent = call;

        if (report->attempts > 1 && (record = add(spans, AI_SPAN_ATTEMPT, try->start_us, try->end_us))) {
            record->id = parent = tracer_id();
            record->parent = call;
            record->status = try->status;
            record->error = try->error_class;
        }
        if (try->queue_us && (record = add(spans, AI_SPAN_QUEUE, try->start_us, try->start_us + try->queue_us)))
            record->parent = parent;
    }
}

void ai_spans_call(struct ai_spans *spans, uint64_t id, const struct ai_candidate *candidate, struct view model,
                   enum ai_endpoint endpoint, bool streamed, const struct ai_call_report *report)
{
    uint64_t now = clock_mono_us();
    struct record *record;

    if (!spans || report->attempts == 0)
        return;
    record = add(spans, AI_SPAN_CALL, now - MIN(report->duration_us, now), now);
    if (!record)
        return;
    record->id = id;
    record->good = report->sound;
    record->billed = report->billed;
    record->usage = report->usage;
    record->status = report->status;
    record->first_us = streamed ? report->first_us : 0;
    record->attempts = report->attempts;
    record->error = report->sound ? NULL : report->error_class;
    record->endpoint = endpoint;
    record->rung = candidate->provider->rung;
    keep(record->provider, candidate->provider->name);
    keep(record->model, model);
    add_tries(spans, id, report);
}

/* ---- the end ---- */

static const struct {
    struct view name;
    bool lookup;
} names[] = {
    [AI_SPAN_AUTH] = { { "auth", 4 }, false },
    [AI_SPAN_MEMORY] = { { "lookup memory", 13 }, true },
    [AI_SPAN_DISK] = { { "lookup disk", 11 }, true },
    [AI_SPAN_SHARED] = { { "lookup shared", 13 }, true },
    [AI_SPAN_SEMANTIC] = { { "lookup semantic", 15 }, true },
    [AI_SPAN_BUDGET] = { { "wait budget", 11 }, false },
    [AI_SPAN_COLLAPSED] = { { "wait collapsed", 14 }, false },
    [AI_SPAN_QUEUE] = { { "wait queue", 10 }, false },
    [AI_SPAN_CALL] = { { "call", 4 }, false },
    [AI_SPAN_ATTEMPT] = { { "attempt", 7 }, false },
};

static struct view operation(enum ai_endpoint endpoint)
{
    switch (endpoint) {
    case AI_CHAT:
    case AI_RESPONSES:
    case AI_MESSAGES: return VIEW("chat");
    case AI_COMPLETIONS: return VIEW("text_completion");
    case AI_EMBEDDINGS: return VIEW("embeddings");
    default: return ai_endpoint_name(endpoint);
    }
}

static uint64_t wall_ns(const struct ai_spans *spans, uint64_t us)
{
    return spans->started_ns + (us - MIN(us, spans->started_us)) * 1000;
}

static void put_call(struct otlp *otlp, const struct ai_spans *spans, const struct record *record, bool known)
{
    otlp_text(otlp, "gen_ai.operation.name", operation(record->endpoint));
    otlp_text(otlp, "gen_ai.provider.name", view_str(record->provider));
    if (known)
        otlp_text(otlp, "gen_ai.request.model", view_str(record->model));
    otlp_text(otlp, "doorstep.rung", telemetry_rung_name(record->rung));
    otlp_number(otlp, "doorstep.attempts", record->attempts);
    if (record->status)
        otlp_number(otlp, "http.response.status_code", record->status);
    if (record->error)
        otlp_text(otlp, "error.type", view_str(record->error));
    if (record->billed) {
        otlp_number(otlp, "gen_ai.usage.input_tokens", (int64_t)record->usage.input);
        otlp_number(otlp, "gen_ai.usage.output_tokens", (int64_t)record->usage.output);
        if (record->usage.cached)
            otlp_number(otlp, "gen_ai.usage.cache_read.input_tokens", (int64_t)record->usage.cached);
        if (record->usage.cache_write)
            otlp_number(otlp, "gen_ai.usage.cache_creation.input_tokens", (int64_t)record->usage.cache_write);
        otlp_bool(otlp, "doorstep.usage_estimated", !record->usage.known);
    }
    if (record->first_us)
        otlp_event(otlp, "gen_ai.first_token", wall_ns(spans, record->start_us + record->first_us));
}

static void put_record(struct otlp *otlp, const struct ai_spans *spans, const struct record *record, bool known)
{
    char memory[NAME_MAX_LEN + 32];
    struct text name = TEXT_ON(memory);
    struct otlp_span span = {
        .trace_id = { spans->trace.trace_id[0], spans->trace.trace_id[1] },
        .id = record->id ? record->id : tracer_id(),
        .parent = record->parent ? record->parent : spans->root,
        .name = names[record->what].name,
        .kind = record->what == AI_SPAN_CALL ? OTLP_CLIENT : OTLP_INTERNAL,
        .start_ns = wall_ns(spans, record->start_us),
        .end_ns = wall_ns(spans, record->end_us),
        .failed = record->error != NULL || (record->what == AI_SPAN_CALL && !record->good),
    };

    if (record->what == AI_SPAN_CALL) {
        text_put(&name, operation(record->endpoint));
        text_char(&name, ' ');
        text_put(&name, view_str(known ? record->model : record->provider));
        span.name = text_view(&name);
    }
    otlp_begin(otlp, &span);
    if (names[record->what].lookup)
        otlp_bool(otlp, "doorstep.hit", record->good);
    if (record->what == AI_SPAN_ATTEMPT) {
        if (record->status)
            otlp_number(otlp, "http.response.status_code", record->status);
        if (record->error)
            otlp_text(otlp, "error.type", view_str(record->error));
    }
    if (record->what == AI_SPAN_CALL)
        put_call(otlp, spans, record, known);
    otlp_end(otlp);
}

static void put_root(struct otlp *otlp, const struct ai_spans *spans, const struct ledger_row *row, bool known)
{
    enum ai_endpoint endpoint = (enum ai_endpoint)row->endpoint;
    char memory[64];
    struct text name = TEXT_ON(memory);
    struct otlp_span span = {
        .trace_id = { spans->trace.trace_id[0], spans->trace.trace_id[1] },
        .id = spans->root,
        .parent = spans->trace.parent_id,
        .kind = OTLP_SERVER,
        .start_ns = spans->started_ns,
        .end_ns = spans->started_ns + (uint64_t)MAX(row->duration_us, 0) * 1000,
        .failed = row->outcome == LEDGER_ERROR || row->status >= 500,
    };

    text_put(&name, endpoint == AI_MODELS ? VIEW("GET ") : endpoint == AI_OTHER ? VIEW_NONE : VIEW("POST "));
    text_put(&name, endpoint == AI_OTHER ? VIEW("ai") : ai_endpoint_path(endpoint));
    span.name = text_view(&name);
    otlp_begin(otlp, &span);
    otlp_text(otlp, "gen_ai.operation.name", operation(endpoint));
    if (known)
        otlp_text(otlp, "gen_ai.request.model", row->client_model);
    otlp_text(otlp, "gen_ai.provider.name", row->provider);
    otlp_number(otlp, "http.response.status_code", row->status);
    if (row->outcome != LEDGER_OK && row->outcome != LEDGER_HIT) /* else it is what an earlier candidate did */
        otlp_text(otlp, "error.type", row->error_class);
    otlp_text(otlp, "doorstep.route", row->route);
    otlp_text(otlp, "doorstep.tenant", row->tenant);
    otlp_text(otlp, "doorstep.outcome", ledger_outcome_name((enum ledger_outcome)row->outcome));
    otlp_text(otlp, "doorstep.tier", ledger_tier_name((enum ledger_tier)row->tier));
    otlp_text(otlp, "cloud.region", row->region);
    otlp_number(otlp, "doorstep.attempts", row->attempts);
    otlp_number(otlp, "doorstep.cost_micro", row->cost);
    otlp_number(otlp, "doorstep.saved_micro", row->saved);
    if (spans->lost)
        otlp_number(otlp, "doorstep.spans_lost", spans->lost);
    otlp_end(otlp);
}

void ai_spans_end(struct ai_spans *spans, const struct ledger_row *row, bool known)
{
    struct buf out = buf_make(SPANS_BYTES);
    struct otlp otlp = otlp_make(&out);

    if (!spans)
        return;
    put_root(&otlp, spans, row, known);
    for (unsigned i = 0; i < spans->count; i++)
        put_record(&otlp, spans, &spans->list[i], known);
    if (!out.failed)
        tracer_put(spans->tracer, buf_view(&out), spans->count + 1);
    buf_free(&out);
    heap_free(spans);
}
