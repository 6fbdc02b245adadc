/* Asking: what a call may cost, joining the fill that is under way for the same key or starting one.
 * A call outlives its request when others read its answer, so all that it needs is copied into its flight. */
#include "ai/gateway_internal.h"

#include "ai/translate.h"
#include "base/clock.h"
#include "base/heap.h"

#include <errno.h>

#define OUTPUT_BOUND_DEFAULT 16384u /* tokens, when neither client nor configuration sets a limit */
#define SMOOTHING 8                 /* how much of the past the expected time to first content keeps */

/* One call under way and what it must be settled against. */
struct flight {
    struct ai_call_request request;
    struct ai_candidate *candidate;
    struct account *account;
    struct reservation reservation;
    struct fill_keep *keep;
    struct view model;
    uint64_t span;
    struct arena arena; /* texts of the request */
    char memory[1024];
};

#define FLIGHT_TEXTS_MAX ((size_t)64 * 1024)

/* ---- money ---- */

static void refuse_budget(struct service_call *q, const struct budget_refusal *refusal)
{
    char memory[384];
    struct text message = TEXT_ON(memory);
    struct view window = budget_window_name(refusal->window);

    text_printf(&message,
                "the budget \"%s\" (%.*s) has no room for this request: %lld of %lld %s are spent or held for others",
                refusal->name, VIEW_ARG(window), (long long)refusal->used, (long long)refusal->limit,
                refusal->unit == BUDGET_MONEY ? "micro-units" : "tokens");
    if (refusal->unavailable)
        text_lit(&message, "; it is shared by nodes, and the store that they share it through does not answer");
    ask_bar(q, 402, "budget", text_view(&message), "budget_exceeded");
}

uint64_t ask_output_bound(const struct service_call *q)
{
    uint64_t context = q->candidate->context, prompt = q->facts.prompt_bytes / 4;

    if (q->candidate->max_output)
        return q->candidate->max_output;
    return context ? MIN(context - MIN(context - 1, prompt), (uint64_t)OUTPUT_BOUND_DEFAULT) : OUTPUT_BOUND_DEFAULT;
}

int ask_reserve(struct service_call *q)
{
    uint64_t context = q->candidate->context;
    uint64_t input =
        context && (q->facts.unbounded || q->facts.prompt_bytes > context) ? context : q->facts.prompt_bytes;
    uint64_t output = q->facts.max_tokens ? q->facts.max_tokens : ask_output_bound(q);
    struct budget_refusal refusal = { 0 };
    int r;

    if (!q->parsed || q->endpoint == AI_COUNT_TOKENS)
        return 0;
    if (q->endpoint == AI_EMBEDDINGS)
        output = 0;
    r = account_reserve(q->account, q->candidate, q->model, input, output * MAX(MAX(q->facts.n, q->facts.best_of), 1u),
                        q->config->price_needed, &q->reservation, &refusal);
    if (r == 0 || r == -EAGAIN)
        return r;
    if (r == -EDQUOT)
        refuse_budget(q, &refusal);
    else if (r == -ENOENT)
        ask_bar(q, 402, "budget", VIEW("this model has no price, and the node's policy asks for one"), "no_price");
    else if (r == -E2BIG)
        ask_refuse(q, 503, NULL, VIEW("more than 12 budgets of this node's configuration fit this request"), NULL);
    else
        ask_refuse(q, 503, NULL, VIEW("out of memory"), NULL);
    return -EINVAL;
}

/* ---- the call ---- */

static void flight_free(struct flight *flight)
{
    flight->account->open--;
    account_unref(flight->account);
    flight->keep->release(flight->keep);
    buf_free(&flight->request.body);
    arena_release(&flight->arena);
    heap_free(flight);
}

static void note_latency(struct ai_candidate *candidate, uint64_t us)
{
    uint32_t old = atomic_load_explicit(&candidate->first_content_us, memory_order_relaxed);
    uint32_t now = (uint32_t)MIN(us, (uint64_t)UINT32_MAX);

    /* Two loops may write at once: then one sample is lost. */
    atomic_store_explicit(&candidate->first_content_us, old ? old - old / SMOOTHING + now / SMOOTHING : now,
                          memory_order_relaxed);
    atomic_store_explicit(&candidate->measured_ms, clock_mono_ms(), memory_order_relaxed);
}

static void landed(void *arg, const struct ai_call_report *report)
{
    struct flight *flight = arg;

    atomic_fetch_sub_explicit(&flight->candidate->in_flight, 1, memory_order_relaxed);
    if (report->first_us) {
        note_latency(flight->candidate, report->first_us);
        latency_note(&flight->candidate->latency[flight->request.stream], report->first_us);
    }
    ai_spans_call(flight->account->spans, flight->span, flight->candidate, flight->model, flight->request.provider,
                  flight->request.stream, report);
    flight->account->more.streamed = flight->request.stream;
    account_settle(flight->account, flight->candidate, flight->model, &flight->reservation, report);
    flight_free(flight);
}

static void put_field(struct text *out, struct view name, struct view value)
{
    text_put(out, name);
    text_lit(out, ": ");
    text_put(out, value);
    text_lit(out, "\r\n");
}

/* RFC 8586: a node that finds its own name in there refuses, so that nodes which are each other's edge do not ask in circles. */
static void put_loop(struct text *out, const struct service_call *q)
{
    struct field_list it = field_list(&q->request.fields, FIELD_CDN_LOOP);
    struct view member;

    text_lit(out, "CDN-Loop: ");
    while (field_list_next(&it, &member)) {
        text_put(out, member);
        text_lit(out, ", ");
    }
    text_put(out, q->config->node);
    text_lit(out, "\r\n");
}

/* The wishes of the client hold for the edge, too, and what must not be written down here, or leave this node, is not for its disk. */
static void put_wishes(struct text *out, const struct service_call *q)
{
    if (q->no_store || q->cache != &q->route->cache) {
        text_lit(out, "Cache-Control: no-store\r\n");
    } else if (q->no_lookup) {
        text_lit(out, "Cache-Control: no-cache\r\n");
    } else if (q->max_age_ms >= 0) {
        text_lit(out, "Cache-Control: max-age=");
        text_i64(out, q->max_age_ms / 1000);
        text_lit(out, "\r\n");
    }
}

static size_t loop_room(const struct service_call *q)
{
    size_t room = q->config->node.len + 64;

    for (size_t i = 0; i < q->request.fields.count; i++)
        if (q->request.fields.list[i].id == FIELD_CDN_LOOP)
            room += q->request.fields.list[i].value.len * 2 + 2; /* "a,b" becomes "a, b" */
    return room;
}

/* What of the client's fields a provider may see: versions and betas of its dialect; the trace; where the request has been, when the provider
 * is another node. Not its organization and project: they go with its own key, and with ours would be refused. */
static struct view provider_fields(struct service_call *q, uint64_t span, struct arena *arena)
{
    static const struct view anthropic[] = { { "anthropic-version", 17 }, { "anthropic-beta", 14 } };
    static const struct view openai[] = { { "OpenAI-Beta", 11 } };
    enum ai_dialect dialect = q->candidate->provider->dialect;
    const struct view *names = dialect == AI_ANTHROPIC ? anthropic : openai;
    size_t count = dialect == AI_ANTHROPIC ? ARRAY_LEN(anthropic) : ARRAY_LEN(openai), cap = 256;
    struct view fields[3] = { 0 };
    struct trace_context trace = q->trace;
    bool edge = q->candidate->provider->rung == AI_EDGE;
    struct view accept = fields_value(&q->request.fields, FIELD_ACCEPT);
    struct view coding = q->parsed ? VIEW_NONE : fields_value(&q->request.fields, FIELD_CONTENT_ENCODING);
    struct text out;

    for (size_t i = 0; i < count && q->dialect == dialect; i++)
        if ((fields[i] = ask_field(q, names[i])).ptr)
            cap += names[i].len + fields[i].len + 4;
    cap += accept.len + coding.len + (edge ? loop_room(q) : 0);
    out = text_make(arena_alloc(arena, cap), cap);
    if (!out.ptr)
        return VIEW_NONE;
    for (size_t i = 0; i < count; i++)
        if (fields[i].ptr)
            put_field(&out, names[i], fields[i]);
    if (dialect == AI_ANTHROPIC && !fields[0].ptr)
        put_field(&out, anthropic[0], VIEW("2023-06-01"));
    trace.parent_id = span ? span : trace.parent_id;
    text_lit(&out, "traceparent: ");
    trace_put(&trace, &out);
    text_lit(&out, "\r\n");
    if (edge) {
        put_loop(&out, q);
        put_wishes(&out, q);
    }
    if (coding.len) /* the body is passed on as it is */
        put_field(&out, VIEW("Content-Encoding"), coding);
    if (!q->parsed && accept.len)
        put_field(&out, VIEW("Accept"), accept);
    else
        put_field(&out, VIEW("Accept"), q->facts.stream ? VIEW("text/event-stream") : VIEW("application/json"));
    return text_view(&out);
}

/* What purges can name. */
static struct view tags_of(struct service_call *q, struct arena *arena)
{
    size_t cap = q->candidate->provider->name.len + q->model.len + q->tenant.len + 64;
    struct text out = text_make(arena_alloc(arena, cap), cap);

    if (!out.ptr)
        return VIEW_NONE;
    text_lit(&out, "ai,provider:");
    text_put(&out, q->candidate->provider->name);
    text_lit(&out, ",tenant:");
    text_put(&out, q->tenant);
    text_lit(&out, ",model:");
    for (size_t i = 0; i < q->model.len; i++) /* tags are separated by what may stand in a name */
        text_char(&out, strchr(" ,\t\"", q->model.ptr[i]) || q->model.ptr[i] < ' ' ? '_' : q->model.ptr[i]);
    return text_view(&out);
}

static struct view path_for(struct service_call *q, enum ai_endpoint provider, struct arena *arena)
{
    size_t cap = q->path.len + q->request.query.len + 1;
    struct text out;

    if (provider != q->endpoint)
        return ai_endpoint_path(provider);
    out = text_make(arena_alloc(arena, cap), cap);
    if (!out.ptr)
        return VIEW_NONE;
    text_put(&out, q->path);
    if (q->request.query.ptr) {
        text_char(&out, '?');
        text_put(&out, q->request.query);
    }
    return text_view(&out);
}

/* 0; -EINVAL with the answer settled; -ENOTSUP: this candidate's dialect cannot say it, another's may; -ENOMEM. */
static int prepare(struct service_call *q, struct flight *flight)
{
    struct ai_call_request *request = &flight->request;
    struct arena *arena = &flight->arena;
    char memory[256];
    struct text reason = TEXT_ON(memory);
    enum ai_endpoint provider;
    int r;

    if (!ask_endpoint(q, q->candidate->provider, &provider))
        return -EINVAL;
    r = ask_body(q, provider, &request->body, &reason);
    /* Another may, or would have: then it is not the request that is to blame. */
    if (r == -EINVAL && (q->at + 1 < q->candidate_count || q->tried || q->wait_ms))
        return -ENOTSUP;
    if (r == -EINVAL)
        ask_refuse(q, 400, NULL, text_view(&reason), NULL);
    if (r < 0)
        return r;
    request->candidate = q->candidate;
    request->client = q->endpoint;
    request->provider = provider;
    request->method = arena_copy(arena, q->request.method_name);
    request->path = path_for(q, provider, arena);
    request->content_type = arena_copy(arena, fields_value(&q->request.fields, FIELD_CONTENT_TYPE));
    flight->span = ai_spans_call_id(q->account->spans);
    request->fields = provider_fields(q, flight->span, arena);
    request->tags = tags_of(q, arena);
    flight->model = arena_copy(arena, q->model);
    request->model = flight->model; /* as in the key: who calls it by another name may get the same answer */
    request->prompt_bytes = q->facts.prompt_bytes;
    request->max_age_s = q->ttl_ms / 1000;
    request->raw = !q->parsed;
    request->stream = q->facts.stream;
    request->limited = provider == q->endpoint && ask_must_limit(q) && !q->candidate->max_output;
    request->usage_asked = q->facts.include_usage;
    request->retries = q->at + 1 < q->candidate_count ? 0 : q->candidate->provider->retries;
    request->done = landed;
    request->arg = flight;
    return request->path.ptr && request->fields.ptr && request->tags.ptr ? 0 : -ENOMEM;
}

/* False: other loops were faster, and it is at its limit. */
static bool enter(struct ai_candidate *candidate)
{
    uint32_t before = atomic_fetch_add_explicit(&candidate->in_flight, 1, memory_order_relaxed);

    if (!candidate->concurrency || before < candidate->concurrency)
        return true;
    atomic_fetch_sub_explicit(&candidate->in_flight, 1, memory_order_relaxed);
    return false;
}

static int flight_new(struct service_call *q, struct flight **ret)
{
    struct flight *flight = heap_alloc(sizeof(*flight));
    int r;

    if (!flight)
        return -ENOMEM;
    if (!enter(q->candidate)) {
        heap_free(flight);
        return -ENOTSUP;
    }
    memset(flight, 0, offsetof(struct flight, memory));
    arena_init(&flight->arena, flight->memory, sizeof(flight->memory), FLIGHT_TEXTS_MAX);
    flight->candidate = q->candidate;
    flight->account = q->account;
    account_ref(flight->account);
    flight->account->open++;
    flight->keep = q->config->keep;
    flight->keep->retain(flight->keep);
    r = prepare(q, flight);
    if (r < 0) {
        atomic_fetch_sub_explicit(&q->candidate->in_flight, 1, memory_order_relaxed);
        flight_free(flight);
        return r;
    }
    /* The reservation goes with the call: whatever becomes of the request, it is settled. */
    flight->reservation = q->reservation;
    q->reservation = (struct reservation){ 0 };
    *ret = flight;
    return 0;
}

/* No call was made. */
static void flight_cancel(struct flight *flight)
{
    landed(flight, &(struct ai_call_report){ 0 });
}

/* ---- fills ---- */

static bool join(struct service_call *q)
{
    if (!ask_may_look(q))
        return false;
    q->collapsed = fill_join(q->gateway->options.fill->table, &q->key, ask_no_request(), q->route->waiters, q->task,
                             &q->reader) == FILL_JOINED;
    return q->collapsed;
}

int ask_join(struct service_call *q)
{
    return join(q) ? 0 : -ENOENT;
}

static bool keeps(const struct service_call *q)
{
    return q->parsed && q->facts.never == AI_CACHEABLE && q->ttl_ms > 0;
}

int ask_fill(struct service_call *q)
{
    struct fill_request request = {
        .context = q->gateway->options.fill,
        .keep = q->config->keep,
        .policy = q->cache,
        .open = ai_call_open,
        .request = ask_no_request(),
        .scheme = VIEW("http"),
        .key = q->key,
        .url = q->url,
        .newest_seen = q->newest_seen, /* what came since then is looked at first */
        .shared = keeps(q) && !q->no_lookup,
    };
    struct flight *flight;
    int r = flight_new(q, &flight);

    if (r < 0)
        return r;
    request.open_arg = &flight->request;
    q->tried = true;
    r = fill_start(&request, q->task, &q->reader);
    if (r < 0)
        flight_cancel(flight);
    return r;
}
