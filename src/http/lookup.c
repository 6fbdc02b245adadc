/* LOOKUP: the key, what is stored under it in memory or, once asked, on the rungs below, and what to do with it. */
#include "http/conn.h"

#include "base/clock.h"
#include "cache/conditional.h"
#include "cache/vary.h"

static bool make_key(struct req *r)
{
    size_t cap =
        r->request.path.len + r->request.query.len + 3 * r->request.authority.len + r->route->cache.scope.len + 512;
    struct text text = text_make(arena_alloc(&r->arena, cap), cap);

    if (!text.ptr || key_build(&r->route->cache.key, r->route->cache.scope, r->scheme, &r->request, &text) < 0)
        return false;
    r->key = key_of(text_view(&text));
    return true;
}

bool req_make_url(struct req *r)
{
    size_t cap = r->request.path.len + r->request.query.len + r->request.authority.len + 64;
    struct text text = text_make(arena_alloc(&r->arena, cap), cap);

    if (!text.ptr ||
        key_url(&r->route->cache.key, r->scheme, r->request.authority, r->request.path, r->request.query, &text) < 0)
        return false;
    r->url = text_view(&text);
    return true;
}

/* Among variants that depend on request fields; apart from pick_variant() so that the common case needs no scratch memory. */
static struct object *pick_by_vary(struct req *r, struct memory_variants variants)
{
    not_zeroed char memory[2048];
    struct view done = VIEW_NONE;
    struct text values = TEXT_ON(memory);
    bool known = false;

    for (unsigned i = 0; i < variants.count; i++) {
        struct object *object = memory_variant(variants, i);

        if (object_vary_names(object).len == 0)
            return object;
        if (!known || !view_eq(done, object_vary_names(object))) {
            values.len = 0;
            values.overflow = false;
            known = vary_values(object_vary_names(object), &r->request.fields, &values);
            done = object_vary_names(object);
        }
        if (known && view_eq(text_view(&values), object_vary_values(object)))
            return object;
        if (known &&
            vary_same_but_language(object_vary_names(object), object_vary_values(object), text_view(&values)) &&
            vary_language_match(head_value(object_head(object), FIELD_CONTENT_LANGUAGE), &r->request.fields))
            return object;
    }
    return NULL;
}

bool object_fits(struct req *r, const struct object *object)
{
    not_zeroed char memory[2048];
    struct text values = TEXT_ON(memory);

    return object_vary_names(object).len == 0 || (vary_values(object_vary_names(object), &r->request.fields, &values) &&
                                                  view_eq(text_view(&values), object_vary_values(object)));
}

/* The variant whose Vary values are this request's. Different variants may have different Vary names. */
static struct object *pick_variant(struct req *r, struct memory_variants variants)
{
    struct object *newest = variants.count ? memory_variant(variants, 0) : NULL;

    return !newest || object_vary_names(newest).len == 0 ? newest : pick_by_vary(r, variants);
}

/* A stored part answers only requests for ranges inside it. */
static bool part_covers(struct req *r, const struct object *object)
{
    uint64_t first, last, end = object->body_first + atomic_load(&object->body_len);
    struct view range = fields_value(&r->request.fields, FIELD_RANGE);

    return r->request.method == METHOD_GET && range_parse_single(range, &first, &last) &&
           range_if_range(fields_value(&r->request.fields, FIELD_IF_RANGE), object_etag(object),
                          object->times.last_modified_s, object->times.date_s) &&
           first >= object->body_first && MIN(last, object->complete_len - 1) < end && first < end;
}

static void decide_now(struct req *r, struct object *object, bool other, bool passing)
{
    struct decide_input input = {
        .stored = object,
        .other_variants = other,
        .passing = passing,
        .doubt = marks_in_doubt(r->hl->server->marks),
        .method = r->request.method,
        .request = &r->cc,
        .policy = &r->route->cache.decide,
        .now_ms = r->now_ms,
    };

    r->decision = decide(&input);
    r->why = r->decision.why;
}

/* What is stored must not have been purged since. NULL: nothing usable; a hard mark takes it out of memory on the way. */
static struct object *unless_purged(struct req *r, struct object *object)
{
    struct server *server = r->hl->server;

    switch (marks_check(server->marks, object)) {
    case MARKS_CLEAR: return object;
    case MARKS_SOFT: return object; /* decide() looks at object.soft_purged */
    case MARKS_HARD: break;
    }
    memory_drop_object(server->memory, object);
    return NULL;
}

/* The best response at hand: from memory, or what the lower rungs have brought if memory did not keep it. */
static struct object *find_stored(struct req *r, bool *ret_others, bool *ret_passing)
{
    const struct memory_entry *entry = memory_find(r->hl->server->memory, &r->key);
    struct memory_variants variants = { 0 };
    struct object *object = NULL, *raised = r->raised.object;

    r->newest_seen = NULL;
    if (entry) {
        uint64_t until = memory_pass_until(entry);

        variants = memory_variants(entry);
        r->newest_seen = variants.count ? memory_variant(variants, 0) : NULL;
        object = pick_variant(r, variants);
        *ret_passing = until && until > (uint64_t)r->now_ms;
    }
    *ret_others = variants.count > (object ? 1 : 0);
    if (object)
        object = unless_purged(r, object);
    if (raised && (!object || object->times.response_ms < raised->times.response_ms) && object_fits(r, raised))
        object = unless_purged(r, raised);
    r->rung = object && object->external ? RUNG_DISK : object && object == raised ? r->raised.rung : RUNG_MEMORY;
    return object;
}

/* Would a response from below memory help this request? A stored one that the client, the response itself or the route does not
 * trust is no better on another rung; one that is merely old may have been refreshed by another node. */
static bool wants_more(const struct req *r, const struct object *object)
{
    enum why why = r->decision.why;

    switch (r->decision.verdict) {
    case VERDICT_FRESH:
    case VERDICT_STALE_SERVE: return false;
    case VERDICT_REFUSE: return !object;
    case VERDICT_REVALIDATE: return why == WHY_EXPIRED || why == WHY_SOFT_PURGED;
    case VERDICT_MISS: return r->decision.may_collapse && !r->no_collapse;
    }
    return false;
}

/* Is it worth asking the rungs below memory, and have they not been asked yet? */
static bool should_climb(struct req *r, const struct object *object)
{
    struct ladder *ladder = r->hl->server->ladder;
    const struct ladder_rule *rule = &r->route->cache.ladder;
    struct ladder_query query = { .key = &r->key,
                                  .disk = !object && rule->disk != LADDER_DISK_OFF,
                                  .shared = rule->shared };

    return ladder && !r->climbed && wants_more(r, object) && ladder_may_have(ladder, &query);
}

static enum flow begin_climb(struct req *r, const struct object *object)
{
    const struct ladder_rule *rule = &r->route->cache.ladder;
    struct ladder_query query = {
        .key = &r->key,
        .request = &r->request,
        .disk = !object && rule->disk != LADDER_DISK_OFF,
        .shared = rule->shared,
        .lease = r->request.method == METHOD_GET && !fields_has(&r->request.fields, FIELD_RANGE),
        .keep = rule->disk,
    };

    r->climbed = true;
    if (ladder_climb(r->hl->server->ladder, &query, r->task, &r->climb))
        r->step = STEP_CLIMB;
    return FLOW_CONTINUE;
}

enum flow step_climb(struct req *r)
{
    if (!ladder_answer(&r->climb, &r->raised))
        return FLOW_WAIT;
    ladder_leave(&r->climb);
    r->step = STEP_LOOKUP;
    return FLOW_CONTINUE;
}

static enum flow serve_stored(struct req *r, struct object *object, enum http_outcome outcome)
{
    r->object = object;
    /* Memory may not have kept what the lower rungs brought. */
    r->object_held = object == r->raised.object;
    if (r->object_held)
        object_ref(object);
    r->from_cache = true;
    r->outcome = outcome;
    memory_touch(object);
    if (atomic_load_explicit(&object->soft_purged, memory_order_relaxed))
        r->decision.ttl_ms = MIN(r->decision.ttl_ms, 0);
    if (r->decision.background)
        fetch_in_background(r);
    else if (outcome == OUTCOME_HIT && r->route->to.parent)
        fetch_early(r);
    return deliver_object(r);
}

/* What is to be confirmed, or completed, at the origin. */
static void keep_stored(struct req *r, struct object *object)
{
    if (!object || !object_try_ref(object))
        return;
    object_unref(r->stored);
    r->stored = object;
}

enum flow step_lookup(struct req *r)
{
    bool passing = false, others = false, outside_part = false;
    struct object *object;

    if (!r->key.text.ptr && !make_key(r))
        return reply_error(r, 500, "out of memory");
    cache_control_parse_request(&r->request.fields, &r->cc);
    object = find_stored(r, &others, &passing);
    if (object && (object->flags & OBJECT_PARTIAL) && !part_covers(r, object)) {
        /* What is stored of it helps when the rest can be asked for. */
        if (object->body_first == 0 && !fields_has(&r->request.fields, FIELD_RANGE))
            keep_stored(r, object);
        outside_part = true;
        object = NULL;
    }
    decide_now(r, object, others, passing);
    if (outside_part && r->decision.verdict == VERDICT_MISS)
        r->why = WHY_PARTIAL;
    r->looked_up_us = 0;
    if (should_climb(r, object))
        return begin_climb(r, object);
    switch (r->decision.verdict) {
    case VERDICT_FRESH: return serve_stored(r, object, OUTCOME_HIT);
    case VERDICT_STALE_SERVE: return serve_stored(r, object, OUTCOME_STALE);
    case VERDICT_REFUSE:
        r->outcome = OUTCOME_ERROR;
        return reply_error(r, 504, "only-if-cached was asked for and nothing usable is stored");
    case VERDICT_REVALIDATE: keep_stored(r, object); break;
    case VERDICT_MISS: break;
    }
    r->forward_why = r->why;
    r->looked_up_us = clock_mono_us();
    r->step = STEP_FETCH;
    return FLOW_CONTINUE;
}
