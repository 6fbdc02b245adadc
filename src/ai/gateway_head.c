/* The fields of an answer: what the client's SDK reads, and where the answer came from. */
#include "ai/gateway_internal.h"

#include "base/clock.h"
#include "cache/conditional.h"
#include "cache/freshness.h"

#define FIELDS_ROOM ((size_t)4096)

static void put_micro(struct text *t, int64_t micro)
{
    text_i64(t, micro / 1000000);
    text_char(t, '.');
    for (int64_t unit = 100000; unit > 0; unit /= 10)
        text_char(t, (char)('0' + micro / unit % 10));
}

bool ask_stored_usage(const struct object *object, struct ai_usage *ret)
{
    struct view rest = object_head(object), name, value;
    uint64_t *parts[] = { &ret->input, &ret->cached, &ret->cache_write, &ret->output, &ret->reasoning };

    *ret = (struct ai_usage){ 0 };
    while (head_next(&rest, &name, &value)) {
        if (!view_eq_icase(name, VIEW("Doorstep-AI-Usage")))
            continue;
        for (size_t i = 0; i < ARRAY_LEN(parts); i++)
            if (!view_parse_u64(view_cut(&value, ' '), parts[i]))
                return false;
        ret->known = view_eq(value, VIEW("1"));
        return true;
    }
    return false;
}

static void put_cache_status(struct service_call *q, struct text *t)
{
    text_lit(t, "Cache-Status: \"");
    text_put(t, q->config->node);
    text_lit(t, "\"; ");
    if (q->hit) {
        int64_t ttl = MIN(q->object->times.lifetime_ms, (int64_t)q->ttl_ms) -
                      object_age_ms(&q->object->times, loop_wall_ms(q->loop));

        text_lit(t, "hit; ttl=");
        text_i64(t, ttl >= 0 ? ttl / 1000 : -((-ttl + 999) / 1000));
        text_lit(t, "; detail=");
        text_put(t, rung_name(q->rung));
    } else if (q->refused || q->local) {
        text_put(t, q->refused ? VIEW("detail=refused") : VIEW("detail=node"));
    } else {
        text_put(t, q->no_lookup ? VIEW("fwd=request") : ask_may_look(q) ? VIEW("fwd=uri-miss") : VIEW("fwd=bypass"));
        text_lit(t, "; fwd-status=");
        text_u64(t, q->status);
        if (q->stored)
            text_lit(t, "; stored");
        if (q->collapsed)
            text_lit(t, "; collapsed");
        if (q->facts.never != AI_CACHEABLE) {
            text_lit(t, "; detail=");
            text_put(t, view_str(ai_never_text(q->facts.never)));
        }
    }
    text_lit(t, "\r\n");
}

/* What was asked for this request, with the call that is still under way: its whole answer says what it used, a stream will at its end, and
 * then the ledger has it. What a node at the edge charges is not known before its call is settled. */
static void put_calls(struct service_call *q, struct text *t)
{
    const struct account *account = q->account;
    unsigned attempts = account->row.attempts;
    int64_t cost = account->row.cost;
    bool known = account->open == 0;
    struct ai_usage usage;

    if (!known && !q->hit && !q->collapsed && q->reader) {
        attempts += MAX(fill_timing(q->reader)->attempts, 1u) + account->open - 1;
        if (q->object && q->candidate->provider->rung != AI_EDGE && ask_stored_usage(q->object, &usage)) {
            cost += account_worth(account, q->candidate->provider->name, q->model, &usage);
            known = account->open == 1;
        }
    }
    text_lit(t, "; attempts=");
    text_u64(t, attempts);
    if (known || q->hit || q->collapsed) {
        text_lit(t, "; cost=");
        put_micro(t, cost);
    }
}

static void put_source(struct service_call *q, struct text *t)
{
    text_lit(t, "Doorstep-AI: provider=");
    text_put(t, q->candidate->provider->name);
    if (q->model.len)
        text_lit(t, "; model=\"");
    for (size_t i = 0; i < q->model.len; i++) /* a string of RFC 8941: printable, these two escaped */
        if (q->model.ptr[i] >= ' ' && q->model.ptr[i] <= '~' && q->model.ptr[i] != '"' && q->model.ptr[i] != '\\')
            text_char(t, q->model.ptr[i]);
    if (q->model.len)
        text_char(t, '"');
    if (q->candidate->provider->region.len) {
        text_lit(t, "; region=");
        text_put(t, q->candidate->provider->region);
    }
    put_calls(q, t);
    if (q->hit) {
        text_lit(t, "; saved=");
        put_micro(t, q->saved);
    }
    if (q->semantic_hit)
        text_printf(t, "; similarity=%.3f; semantic=%s", (double)q->match.similarity,
                    q->match.level == SEMANTIC_CANONICAL ? "canonical" : "embedding");
    if (q->is_stale)
        text_lit(t, "; stale");
    if (q->hedged)
        text_lit(t, "; hedged");
    text_lit(t, "\r\n");
}

static void put_timing(struct text *t, struct view name, uint64_t us, bool *first)
{
    text_put(t, *first ? VIEW("Server-Timing: ") : VIEW(", "));
    *first = false;
    text_put(t, name);
    text_lit(t, ";dur=");
    text_u64(t, us / 1000);
    text_char(t, '.');
    text_char(t, (char)('0' + us / 100 % 10));
    text_char(t, (char)('0' + us / 10 % 10));
    text_char(t, (char)('0' + us % 10));
}

static void put_timings(struct service_call *q, struct text *t)
{
    uint64_t now = clock_mono_us() - q->in.started_us;
    bool first = true;

    put_timing(t, VIEW("auth"), q->read_us, &first);
    if (q->looked_up_us)
        put_timing(t, VIEW("lookup"), q->looked_up_us - q->read_us, &first);
    if (q->disk_us)
        put_timing(t, VIEW("disk"), q->disk_us, &first);
    if (q->shared_us)
        put_timing(t, VIEW("shared"), q->shared_us, &first);
    if (q->reader) {
        uint32_t content = fill_timing(q->reader)->first_byte_us;

        put_timing(t, q->collapsed ? VIEW("wait") : VIEW("provider"), now - MIN(now, q->looked_up_us), &first);
        if (content)
            put_timing(t, VIEW("first-token"), content, &first);
    }
    put_timing(t, VIEW("total"), now, &first);
    text_lit(t, "\r\n");
}

/* The provider's rate limits mean something to the one whose call met them, in the dialect its SDK reads, and nothing in a hit. Our own
 * limits are the narrower ones. */
static bool is_for_client(const struct service_call *q, struct view name)
{
    if (view_eq_icase(name, VIEW("retry-after")) || view_eq_icase(name, VIEW("x-should-retry")))
        return true;
    /* What is passed through unread is described by its provider; the type has a place of its own. */
    if (!q->parsed && view_starts_with_icase(name, VIEW("content-")))
        return !view_eq_icase(name, VIEW("content-type"));
    if (q->dialect == AI_ANTHROPIC)
        return !q->limited && view_starts_with_icase(name, VIEW("anthropic-ratelimit-"));
    return view_starts_with_icase(name, VIEW("openai-")) ||
           (!q->limited && view_starts_with_icase(name, VIEW("x-ratelimit-")));
}

static void put_provider_fields(struct service_call *q, struct text *t)
{
    struct view rest = object_head(q->object), name, value;

    while (head_next(&rest, &name, &value)) {
        if (!is_for_client(q, name))
            continue;
        text_put(t, name);
        text_lit(t, ": ");
        text_put(t, value);
        text_lit(t, "\r\n");
    }
}

static struct view type_of(const struct service_call *q)
{
    if (q->refused || q->local)
        return VIEW("application/json");
    if (q->parsed && q->status == 200)
        return q->streams ? VIEW("text/event-stream; charset=utf-8") : VIEW("application/json");
    return q->object ? head_value(object_head(q->object), FIELD_CONTENT_TYPE) : VIEW("application/json");
}

bool ask_write_fields(struct service_call *q)
{
    size_t cap =
        FIELDS_ROOM + q->config->node.len + (q->object && !q->hit ? object_head(q->object).len : 0) + q->model.len;
    struct text *t = &q->fields;

    *t = text_make(arena_alloc(&q->arena, cap), cap);
    if (!t->ptr)
        return false;
    text_lit(t, "Content-Type: ");
    text_put(t, type_of(q));
    text_lit(t, "\r\n");
    if (q->streams || q->refused)
        text_put(t, q->refused ? VIEW("Cache-Control: no-store\r\n") : VIEW("Cache-Control: no-cache\r\n"));
    if (q->hit) {
        text_lit(t, "Age: ");
        text_i64(t, object_age_ms(&q->object->times, loop_wall_ms(q->loop)) / 1000);
        text_lit(t, "\r\n");
    }
    put_cache_status(q, t);
    if (q->candidate && q->object)
        put_source(q, t);
    put_timings(q, t);
    if (q->object && !q->hit && !q->collapsed)
        put_provider_fields(q, t);
    if (q->limited)
        rate_put_headers(t, q->dialect, &q->rate, loop_wall_ms(q->loop));
    if (q->status == 402 || (q->refused && q->dead_end))
        text_lit(t, "x-should-retry: false\r\n");
    if (q->refused && q->status == 401)
        text_lit(t, "WWW-Authenticate: Bearer\r\n");
    if (q->refused && q->status == 405)
        text_put(t, q->endpoint == AI_MODELS ? VIEW("Allow: GET, HEAD\r\n") : VIEW("Allow: POST\r\n"));
    if (q->refused && (q->status == 503 || q->status == 429) && !(q->limited && !q->rate.allowed)) {
        text_lit(t, "Retry-After: ");
        text_u64(t, MIN(MAX((q->wait_ms + 999) / 1000, (uint64_t)1), (uint64_t)60));
        text_lit(t, "\r\n");
    }
    if (q->dialect == AI_ANTHROPIC && q->in.request_id.len) {
        text_lit(t, "request-id: ");
        text_put(t, q->in.request_id);
        text_lit(t, "\r\n");
    }
    return !t->overflow;
}
