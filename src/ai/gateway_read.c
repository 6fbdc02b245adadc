/* What a request is: its endpoint, its body, what the client wishes of the cache. Whatever is wrong with it is said here, before anybody is
 * asked or anything is paid. */
#include "ai/gateway_internal.h"

#include "base/clock.h"

#include <errno.h>

#define REASON_MAX 256u

static bool field_is(const struct service_call *q, struct view name, struct view value)
{
    const struct field *field = fields_find(&q->request.fields, name);

    return field && view_eq_icase(field->value, value);
}

/* Cache-Control, and the names other gateways gave to the same wishes. What the route allows is the bound. */
static void read_wishes(struct service_call *q)
{
    const struct field *ttl = fields_find(&q->request.fields, VIEW("cf-aig-cache-ttl"));
    uint64_t seconds;

    cache_control_parse_request(&q->request.fields, &q->cc);
    q->ttl_ms = q->route->ttl_ms;
    q->max_age_ms = q->cc.max_age >= 0 ? q->cc.max_age * 1000 : -1;
    if (ttl && view_parse_u64(ttl->value, &seconds))
        q->ttl_ms = MIN(MIN(seconds, UINT64_MAX / 1000) * 1000, q->route->ttl_max_ms);
    if (field_is(q, VIEW("Helicone-Cache-Enabled"), VIEW("false")) ||
        field_is(q, VIEW("cf-aig-skip-cache"), VIEW("true")) || q->cc.flags & CC_NO_STORE) {
        q->ttl_ms = 0;
        q->no_store = true;
    }
    if (field_is(q, VIEW("x-portkey-cache-force-refresh"), VIEW("true")) || q->cc.flags & CC_NO_CACHE)
        q->no_lookup = true;
    if (q->route->only_deterministic && !q->facts.deterministic)
        q->ttl_ms = 0;
    if (!q->parsed || q->facts.never != AI_CACHEABLE)
        q->ttl_ms = 0;
}

static int refuse_json(struct service_call *q, enum json_error error, size_t at)
{
    char memory[REASON_MAX];
    struct text reason = TEXT_ON(memory);

    text_printf(&reason, "the request body is no usable JSON: %s, at byte %zu", json_error_text(error), at);
    ask_refuse(q, error == JSON_NO_MEMORY ? 503 : error == JSON_TOO_LARGE ? 413 : 400, NULL, text_view(&reason), NULL);
    return -EINVAL;
}

int ask_read_body(struct service_call *q, struct view body)
{
    char memory[REASON_MAX];
    struct text reason = TEXT_ON(memory);
    enum json_error error;
    size_t at = 0;
    int r;

    ai_facts_free(&q->facts);
    q->facts = (struct ai_facts){ 0 };
    q->parsed = false;
    q->in.body = body;
    error = json_parse(&q->doc, q->in.body, JSON_LIMITS, &at);
    if (error != JSON_OK)
        return refuse_json(q, error, at);
    r = ai_facts_read(&q->facts, q->endpoint, &q->doc, &reason);
    if (r == -EINVAL)
        ask_refuse(q, 400, NULL, text_view(&reason), NULL);
    else if (r < 0)
        ask_refuse(q, 503, NULL, VIEW("out of memory"), NULL);
    if (r < 0)
        return r;
    q->parsed = true;
    return 0;
}

static void read_account(struct service_call *q)
{
    struct ledger_row *row;

    q->account = account_new(&q->gateway->options.money, q->loop);
    if (!q->account)
        return;
    row = &q->account->row;
    row->time_ms = q->in.now_ms;
    row->endpoint = (uint8_t)q->endpoint;
    row->tenant = account_text(q->account, q->tenant);
    row->key = account_text(q->account, q->key_id);
    row->route = account_text(q->account, q->route->name);
    row->request_id = account_text(q->account, q->in.request_id);
    row->client_model = account_text(q->account, q->facts.model);
}

static int refuse(struct service_call *q, int status, struct view message)
{
    ask_refuse(q, status, NULL, message, NULL);
    return -EINVAL;
}

static bool is_packed(const struct service_call *q)
{
    struct view coding = view_trim(fields_value(&q->request.fields, FIELD_CONTENT_ENCODING));

    return coding.len > 0 && !view_eq_icase(coding, VIEW("identity"));
}

static int read_all(struct service_call *q)
{
    bool get = view_eq(q->request.method_name, VIEW("GET")) || view_eq(q->request.method_name, VIEW("HEAD"));
    int r = ask_identify(q);

    if (r < 0)
        return r;
    if (q->in.refused)
        return refuse(q, q->in.refused, view_str(q->in.detail));
    if (q->path.len == 0)
        return refuse(q, 404, VIEW("no such path: this is an AI gateway, its paths begin with /v1/"));
    if (ai_path_is_odd(q->path))
        return refuse(q, 404, VIEW("no such path: it looks like another one than it is"));
    if (q->endpoint == AI_MODELS && !get)
        return refuse(q, 405, VIEW("models are listed with GET"));
    if (q->endpoint != AI_MODELS && q->endpoint != AI_OTHER) {
        if (!view_eq(q->request.method_name, VIEW("POST")))
            return refuse(q, 405, VIEW("this path takes POST"));
        if (is_packed(q))
            return refuse(q, 415, VIEW("the body must not be compressed"));
        r = ask_read_body(q, q->in.body);
    }
    return r;
}

struct view ask_url(struct service_call *q)
{
    size_t cap = q->in.scheme.len + q->request.authority.len + q->request.path.len + 3;
    struct text url = text_make(arena_alloc(&q->arena, cap), cap);

    if (!url.ptr)
        return VIEW_NONE;
    text_put(&url, q->in.scheme);
    text_lit(&url, "://");
    for (size_t i = 0; i < q->request.authority.len; i++)
        text_char(&url, ascii_lower(q->request.authority.ptr[i]));
    text_put(&url, q->request.path);
    return text_view(&url);
}

int ask_read(struct service_call *q)
{
    int r;

    q->path = ai_path(q->request.path);
    q->endpoint = ai_endpoint_of(q->path);
    q->dialect = ai_endpoint_dialect(q->endpoint);
    if ((q->endpoint == AI_MODELS || q->endpoint == AI_OTHER) &&
        fields_find(&q->request.fields, VIEW("anthropic-version")))
        q->dialect = AI_ANTHROPIC;
    r = read_all(q);
    read_account(q);
    if (!q->account) {
        if (r == 0)
            ask_refuse(q, 503, NULL, VIEW("out of memory"), NULL);
        return -ENOMEM;
    }
    if (r == 0)
        r = ask_admit(q);
    if (r < 0)
        return r;
    if (ask_models(q))
        return -EINVAL;
    read_wishes(q);
    q->streams = q->facts.stream;
    q->read_us = clock_mono_us() - q->in.started_us;
    return 0;
}
