/* FETCH: join or start a fill, relay what comes before the answer, and settle on what to deliver. Re-entered at every wake; each
 * pass looks at the fill again and decides again. */
#include "http/conn.h"

#include <errno.h>

#define RESTARTS_MAX 4

/* Refreshing ahead of time. */
#define EARLY_MAX_MS 60000
#define EARLY_USES 4
#define EARLY_AT_ONCE 4u

static enum flow restart(struct req *r, bool alone)
{
    fill_leave(r->reader);
    object_unref(r->stored);
    r->reader = NULL;
    r->stored = NULL;
    r->object = NULL;
    r->collapsed = false;
    r->no_collapse = r->no_collapse || alone || ++r->restarts >= RESTARTS_MAX;
    r->step = STEP_LOOKUP;
    return FLOW_CONTINUE;
}

static bool wants_upgrade(const struct req *r)
{
    return fields_has(&r->request.fields, FIELD_UPGRADE) &&
           fields_list_has(&r->request.fields, FIELD_CONNECTION, VIEW("upgrade")) && r->request.minor >= 1;
}

/* The head for the origin, by what is stored and what the client wants. */
static struct view make_head(struct req *r, struct fill_request *request)
{
    uint64_t first, last;

    if (request->completing) {
        char *memory = arena_alloc(&r->arena, 64);
        struct text range = text_make(memory, memory ? 64 : 0);

        text_printf(&range, "bytes=%llu-", (unsigned long long)atomic_load(&r->stored->body_len));
        return forward_head(r, r->stored, text_view(&range), true);
    }
    if (!r->private_fetch && !r->stored && r->request.method == METHOD_GET &&
        range_parse_single(fields_value(&r->request.fields, FIELD_RANGE), &first, &last)) {
        /* Only this part is wanted: it is asked for, and kept as a part. */
        r->range_forwarded = true;
        request->shared = false;
        return forward_head(r, NULL, VIEW_NONE, false);
    }
    return forward_head(r, request->stored, VIEW_NONE, !r->private_fetch);
}

static struct fill_request describe(struct req *r)
{
    const struct hop *hop = r->fell_back ? &r->route->fallback : &r->route->to;

    return (struct fill_request){
        .context = &r->hl->server->fill,
        .keep = &r->config->keep,
        .policy = &r->route->cache,
        .upstream = hop->upstream,
        .parent = hop->parent,
        .insists = r->insists,
        .deadline_ms = r->deadline_ms,
        .request = &r->request,
        .request_bytes = r->request_bytes,
        .scheme = r->scheme,
        .key = r->key,
        .newest_seen = r->newest_seen,
    };
}

void fetch_in_background(struct req *r)
{
    struct http_request saved = r->request;
    const struct route *route = r->route;
    uint64_t deadline_ms = r->deadline_ms;
    struct fill_request request;
    struct fill_reader *none;

    if (fill_in_flight(r->hl->server->fill.table, &r->key) || !req_make_url(r))
        return;
    /* Nobody waits, so nobody could turn to the fallback later. */
    r->fell_back = route->fallback.upstream && upstream_is_down(route->to.upstream);
    request = describe(r);
    request.url = r->url;
    request.stored = r->object;
    request.shared = request.background = true;
    /* A HEAD is refreshed by the GET that its stored response came from. */
    r->request.method = METHOD_GET;
    r->request.method_name = VIEW("GET");
    r->request.body = BODY_NONE;
    r->deadline_ms = 0; /* nobody waits for it */
    request.head = forward_head(r, r->object, VIEW_NONE, true);
    if (request.head.len)
        (void)!fill_start(&request, r->task, &none);
    r->request = saved;
    r->deadline_ms = deadline_ms;
    r->fell_back = false;
}

/* Responses that were stored together would run out together, and all be asked for again in one moment. Each has a moment of its own
 * in the last tenth of its lifetime, drawn from what it is and when it came; few are fetched at a time, so that few kept connections
 * carry them. The parent's copy runs out when ours does, so a fresher one is asked for: the first child makes the parent ask, and
 * the others get what it then has. Only once per response: when that fails, it runs out as usual. */
void fetch_early(struct req *r)
{
    struct object *object = r->object;
    int64_t window = MIN(object->times.lifetime_ms / 10, EARLY_MAX_MS);
    uint64_t draw;

    if (likely(r->decision.ttl_ms >= window) ||
        atomic_load_explicit(&object->item.uses, memory_order_relaxed) < EARLY_USES ||
        atomic_load_explicit(&object->flags, memory_order_relaxed) & (OBJECT_REFRESHED | OBJECT_PARTIAL))
        return;
    draw = (object->key.hash[1] ^ (uint64_t)object->times.response_ms) * 0x9e3779b97f4a7c15u;
    if (r->decision.ttl_ms > (int64_t)((draw >> 32) % (uint64_t)window) ||
        fill_table_background(r->hl->server->fill.table, r->hl->loop) >= EARLY_AT_ONCE ||
        atomic_fetch_or(&object->flags, OBJECT_REFRESHED) & OBJECT_REFRESHED)
        return;
    r->fresher_s = (uint32_t)((window + 999) / 1000);
    fetch_in_background(r);
    r->fresher_s = 0;
}

static int start(struct req *r)
{
    struct fill_request request = describe(r);
    int result;

    request.stored = r->stored;
    request.want_interim = r->request.minor >= 1;
    r->private_fetch = !r->decision.may_collapse || r->no_collapse || r->request.body != BODY_NONE ||
                       r->request.method == METHOD_HEAD || wants_upgrade(r);
    request.shared = !r->private_fetch;
    request.leased = r->raised.leased;
    request.upgrade = r->private_fetch && wants_upgrade(r);
    request.completing = r->stored && !r->unconditional && r->stored->flags & OBJECT_PARTIAL &&
                         r->stored->body_first == 0 && !fields_has(&r->request.fields, FIELD_RANGE);
    if (r->unconditional)
        request.stored = NULL; /* r->stored stays at hand in case the origin fails */
    if (r->private_fetch && !request.completing) {
        object_unref(r->stored);
        r->stored = request.stored = NULL;
    }
    request.head = make_head(r, &request);
    if (!req_make_url(r) || request.head.len == 0)
        return -ENOMEM;
    request.url = r->url;
    result = fill_start(&request, r->task, &r->reader);
    if (result == 0)
        r->raised.leased = false; /* the fill's now */
    return result;
}

/* The origin failed us (status 0) or answered 5xx: perhaps what is stored may be used. */
static bool fall_back(struct req *r, uint16_t status)
{
    struct decide_input input = {
        .stored = r->stored,
        .method = r->request.method,
        .request = &r->cc,
        .policy = &r->route->cache.decide,
        .now_ms = loop_wall_ms(r->hl->loop),
    };
    struct decision decision;

    if (!r->stored || r->stored->flags & OBJECT_PARTIAL || marks_check(r->hl->server->marks, r->stored) == MARKS_HARD)
        return false;
    decision = decide_on_error(&input, status);
    if (decision.verdict != VERDICT_STALE_SERVE)
        return false;
    r->decision = decision;
    if (atomic_load_explicit(&r->stored->soft_purged, memory_order_relaxed))
        r->decision.ttl_ms = MIN(r->decision.ttl_ms, 0);
    r->why = decision.why;
    fill_leave(r->reader);
    r->reader = NULL;
    r->object = object_ref(r->stored);
    r->object_held = true;
    r->from_cache = true;
    r->outcome = OUTCOME_STALE;
    return true;
}

/* Joins what is in flight, or starts. */
static enum flow attach(struct req *r)
{
    int result;

    if (r->deadline_ms && loop_now_ms(r->hl->loop) >= r->deadline_ms)
        return fall_back(r, 0) ? deliver_object(r) : reply_error(r, 504, "the time for this request is over");
    /* A child that insists has reason not to trust a fetch that began before. */
    r->no_collapse = r->no_collapse || (r->child && r->cc.flags & CC_NO_CACHE);
    if (r->decision.may_collapse && !r->no_collapse && r->request.body == BODY_NONE &&
        r->request.method == METHOD_GET && !wants_upgrade(r)) {
        switch (fill_join(r->hl->server->fill.table, &r->key, &r->request, (unsigned)r->config->limits.waiters_per_fill,
                          r->task, &r->reader)) {
        case FILL_JOINED: r->collapsed = r->forwarded = true; return FLOW_CONTINUE;
        case FILL_CROWDED: r->no_collapse = true; break;
        case FILL_NO_MEMORY: return reply_error(r, 503, "out of memory");
        case FILL_NONE: break;
        }
    }
    result = start(r);
    if (result == -EALREADY || result == -ESTALE)
        return restart(r, false);
    if (result < 0)
        return reply_error(r, 503, "out of memory");
    r->forwarded = true;
    return FLOW_CONTINUE;
}

/* 1xx heads as they come (RFC 9110 §15.2); an HTTP/1.0 client gets none. */
static enum flow relay_interims(struct req *r, const struct fill_view *look)
{
    while (r->reader->interims_seen < look->interims) {
        struct view head = fill_interim(r->reader, r->reader->interims_seen++);

        if (r->request.minor == 0)
            continue;
        deliver_push(&r->out, head);
        if (r->out.count == DELIVERY_SEGMENTS && deliver_flush(r) != FLOW_CONTINUE)
            return FLOW_WAIT;
    }
    return r->out.count ? deliver_flush(r) : FLOW_CONTINUE;
}

static enum flow settle_object(struct req *r, const struct fill_view *look)
{
    if (!r->reader->starter && !object_fits(r, look->object))
        return restart(r, false);
    /* A joined part, or a whole that arrives for somebody who wants what the part does not have. */
    if (!r->reader->starter && look->object->flags & OBJECT_PARTIAL)
        return restart(r, true);
    if (look->status >= 500 && fall_back(r, look->status))
        return deliver_object(r);
    r->object = look->object;
    r->fwd_status = look->status;
    r->now_ms = loop_wall_ms(r->hl->loop);
    r->stored_flag = look->outcome == FILL_STORING && !look->doomed;
    r->outcome = r->collapsed ? OUTCOME_COLLAPSED : look->outcome == FILL_STORING ? OUTCOME_MISS : OUTCOME_BYPASS;
    /* Why it was not kept says more than "a miss"; not for a HEAD, which is never kept, and not over a reason to bypass. */
    if (look->outcome == FILL_PASSING && look->why != WHY_NONE && look->why != WHY_METHOD && r->why != WHY_METHOD &&
        r->why != WHY_PASS_MARKER && r->why != WHY_BYPASS_ROUTE)
        r->why = look->why;
    if (look->doomed)
        r->why = WHY_PURGED;
    if (look->outcome == FILL_FRESHENED) {
        r->outcome = OUTCOME_REVALIDATED;
        r->stored_flag = !look->doomed;
    }
    return deliver_object(r);
}

const struct hop *fetch_hop(const struct req *r)
{
    const struct route *route = r->route;
    bool fell_back = r->fell_back;

    if (r->reader)
        fell_back = route->fallback.upstream && fill_upstream(r->reader) == route->fallback.upstream;
    return fell_back ? &route->fallback : &route->to;
}

/* Nothing came of it, and that is not the last word of who answers for the content. */
static bool has_failed(const struct req *r, const struct fill_view *look)
{
    if (look->outcome == FILL_ERROR)
        return look->status == 0 || look->behind;
    return fetch_hop(r)->parent && look->object && (look->status == 502 || look->status == 503 || look->status == 504);
}

static enum flow ask_again(struct req *r)
{
    fill_leave(r->reader);
    r->reader = NULL;
    r->collapsed = false;
    r->no_collapse = ++r->restarts >= RESTARTS_MAX || r->no_collapse;
    return FLOW_CONTINUE;
}

/* The route's fallback is asked before anything stale is used: fresh is better. A parent that has not heard of a purge yet is
 * asked once more when there is none, for the origin's word. */
static bool try_elsewhere(struct req *r, const struct fill_view *look)
{
    const struct hop *fallback = &r->route->fallback;
    bool again = r->restarts < RESTARTS_MAX; /* it may have joined others, who asked the wrong one */

    if (!has_failed(r, look) || !method_is_safe(r->request.method) || r->request.body != BODY_NONE)
        return false;
    if (fallback->upstream && fetch_hop(r) != fallback && (again || !r->fell_back))
        r->fell_back = true;
    else if (look->behind && (again || !r->insists))
        r->insists = true;
    else
        return false;
    return true;
}

static enum flow settle(struct req *r, const struct fill_view *look)
{
    if (try_elsewhere(r, look))
        return ask_again(r);
    /* Our own Range for the rest of a stored part, not the client's, cannot be satisfied: the whole may have changed. */
    if (look->status == 416 && r->stored && !r->unconditional && !fields_has(&r->request.fields, FIELD_RANGE)) {
        r->unconditional = true;
        return restart(r, false);
    }
    switch (look->outcome) {
    case FILL_UNDECIDED: return FLOW_WAIT;
    case FILL_STORING:
    case FILL_FRESHENED: return settle_object(r, look);
    case FILL_PASSING: return r->reader->starter ? settle_object(r, look) : restart(r, true);
    case FILL_TUNNEL: r->step = STEP_TUNNEL; return FLOW_CONTINUE;
    case FILL_ERROR: break;
    }
    /* The origin answered, but about something else than what is stored (a 304 whose validator differs, a 206 that does not
     * continue our part): that part is worth nothing, the whole is asked for. */
    if (r->stored && !r->unconditional && (look->status == 304 || look->status == 206)) {
        r->unconditional = true;
        return restart(r, false);
    }
    if (fall_back(r, 0))
        return deliver_object(r);
    return reply_upstream_error(r);
}

enum flow step_fetch(struct req *r)
{
    struct fill_view look;
    enum flow flow;

    if (!r->reader) {
        flow = attach(r);
        if (flow != FLOW_CONTINUE || !r->reader)
            return flow;
    }
    fill_look(r->reader, &look);
    flow = relay_interims(r, &look);
    if (flow == FLOW_DONE)
        return FLOW_CONTINUE;
    if (flow == FLOW_WAIT)
        return flow;
    if (r->reader->starter && look.outcome == FILL_UNDECIDED) {
        if (upload_some(r) == FLOW_DONE)
            return FLOW_CONTINUE;
    }
    return settle(r, &look);
}
