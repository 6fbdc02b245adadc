/* The rungs: the key of a candidate's answer, and who has it. What is found must not have been purged since, must be fresh enough for the
 * client and the route, and is otherwise kept at hand in case every candidate fails. */
#include "ai/gateway_internal.h"

#include "base/clock.h"
#include "cache/freshness.h"

/* Fills have no request of a client: every answer has its own key, and no answer varies. */
static const struct http_request nothing = {
    .method = METHOD_GET, .method_name = { "GET", 3 }, .authority = { "ai", 2 }, .path = { "/", 1 }, .minor = 1
};

const struct http_request *ask_no_request(void)
{
    return &nothing;
}

/* Users are called by their addresses: keys are written down where those must not be. */
static void put_user(struct service_call *q, struct text *t)
{
    unsigned char digest[FINGERPRINT_DIGEST_LEN];

    if (q->user.len == 0)
        return;
    if (!ai_digest(q->user, digest)) {
        t->overflow = true;
        return;
    }
    for (size_t i = 0; i < sizeof(digest); i++)
        text_hex(t, digest[i], 2);
}

/* Who may see the answer: the first part of every key. Lengths keep a tenant from imitating another. */
static struct view scope_of(struct service_call *q)
{
    size_t cap = q->tenant.len + q->key_id.len + 128;
    struct text t;

    if (q->route->scope == AI_SCOPE_PUBLIC)
        return VIEW("*");
    t = text_make(arena_alloc(&q->arena, cap), cap);
    if (!t.ptr)
        return VIEW_NONE;
    text_char(&t, 't');
    text_u64(&t, q->tenant.len);
    text_char(&t, ':');
    text_put(&t, q->tenant);
    if (q->route->scope == AI_SCOPE_USER) {
        text_printf(&t, ":k%zu:", q->key_id.len);
        text_put(&t, q->key_id);
        text_lit(&t, ":u");
        put_user(q, &t);
    }
    return t.overflow ? VIEW_NONE : text_view(&t);
}

struct view ask_field(struct service_call *q, struct view name)
{
    const struct fields *fields = &q->request.fields;
    const struct field *first = fields_find(fields, name);
    size_t cap = 0;
    struct text all;

    for (size_t i = 0; first && i < fields->count; i++)
        if (view_eq_icase(fields->list[i].name, name))
            cap += fields->list[i].value.len + 2;
    if (!first || cap == first->value.len + 2)
        return first ? first->value : VIEW_NONE;
    all = text_make(arena_alloc(&q->arena, cap), cap);
    if (!all.ptr)
        return first->value; /* here as there */
    for (size_t i = 0; i < fields->count; i++)
        if (view_eq_icase(fields->list[i].name, name)) {
            text_put(&all, all.len ? VIEW(", ") : VIEW_NONE);
            text_put(&all, fields->list[i].value);
        }
    return text_view(&all);
}

/* The limit that we set is as much a part of what is asked as one that the client sets. */
static uint64_t revision_of(const struct service_call *q)
{
    uint64_t both[2] = { q->policy_revision, q->candidate->max_output };

    return q->facts.max_tokens || !both[1] ? both[0] : hash64(view_make((const char *)both, sizeof(both)));
}

bool ask_fingerprint(struct service_call *q, enum fingerprint_kind kind, struct view last_user, struct key *ret)
{
    struct fingerprint_context context = {
        .kind = kind,
        .last_user = last_user,
        .endpoint = q->endpoint,
        .scope = q->scope.ptr ? q->scope : scope_of(q),
        .epoch = q->route->epoch,
        .policy_revision = revision_of(q),
        .region = q->candidate->provider->region,
        .provider = q->candidate->provider->name,
        .model = q->model,
        .anthropic_version = ask_field(q, VIEW("anthropic-version")),
        .anthropic_beta = ask_field(q, VIEW("anthropic-beta")),
        .openai_beta = ask_field(q, VIEW("OpenAI-Beta")),
        .query = q->request.query,
    };
    size_t cap = context.scope.len + FINGERPRINT_MAX;
    struct text text = text_make(arena_alloc(&q->arena, cap), cap);

    q->scope = context.scope;
    if (!context.scope.ptr || !text.ptr || ai_fingerprint(&context, &q->doc, &q->facts, &text) < 0)
        return false;
    *ret = key_of(text_view(&text));
    return true;
}

bool ask_make_key(struct service_call *q)
{
    return ask_fingerprint(q, FINGERPRINT_EXACT, VIEW_NONE, &q->key);
}

bool ask_may_look(const struct service_call *q)
{
    return q->parsed && q->facts.never == AI_CACHEABLE && q->ttl_ms > 0 && !q->no_lookup;
}

/* Takes over a reference. True: it is the answer. */
static bool judge(struct service_call *q, struct object *object, enum rung rung)
{
    int64_t now = loop_wall_ms(q->loop), age = object_age_ms(&object->times, now), ttl;

    if (marks_check(q->gateway->options.fill->marks, object) == MARKS_HARD || object->external ||
        !(object->flags & OBJECT_COMPLETE)) {
        if (rung == RUNG_MEMORY && !object->external)
            memory_drop_object(q->gateway->options.fill->memory, object);
        object_unref(object);
        return false;
    }
    ttl = MIN(object->times.lifetime_ms, (int64_t)q->ttl_ms) - age;
    if (ttl <= 0 || atomic_load_explicit(&object->soft_purged, memory_order_relaxed) ||
        (q->max_age_ms >= 0 && (age > q->max_age_ms || q->max_age_ms == 0)) || /* 0: not even of this millisecond */
        marks_in_doubt(q->gateway->options.fill->marks)) {
        if (age < (int64_t)q->route->stale_ms && !q->stale && q->step != ASK_SEMANTIC) {
            q->stale = object;
            q->stale_of = q->candidate;
        } else {
            object_unref(object);
        }
        return false;
    }
    q->object = object;
    q->object_held = true;
    q->rung = rung;
    return true;
}

bool ask_find(struct service_call *q)
{
    const struct memory_entry *entry = memory_find(q->gateway->options.fill->memory, &q->key);
    struct memory_variants variants = entry ? memory_variants(entry) : (struct memory_variants){ 0 };
    struct object *object = variants.count ? memory_variant(variants, 0) : NULL, *raised = q->raised.object;
    bool found = false;

    if (q->step != ASK_SEMANTIC)
        q->newest_seen = object;
    q->raised.object = NULL;
    if (object && object_try_ref(object)) {
        memory_touch(object);
        found = judge(q, object, raised ? q->raised.rung : RUNG_MEMORY);
    }
    if (!raised)
        return found;
    if (!found)
        return judge(q, raised, q->raised.rung);
    object_unref(raised);
    return true;
}

bool ask_peek_usage(struct service_call *q, struct ai_usage *ret)
{
    const struct memory_entry *entry = memory_find(q->gateway->options.fill->memory, &q->key);
    struct memory_variants variants = entry ? memory_variants(entry) : (struct memory_variants){ 0 };
    struct object *object = variants.count ? memory_variant(variants, 0) : NULL;
    bool found;

    if (!object || !object_try_ref(object))
        return false;
    found = ask_stored_usage(object, ret);
    object_unref(object);
    return found;
}

enum ask_climb ask_begin_climb(struct service_call *q)
{
    const struct ladder_rule *rule = &q->cache->ladder;
    struct ladder *ladder = q->gateway->options.ladder;
    struct ladder_query query = {
        .key = &q->key,
        .request = &nothing,
        .disk = rule->disk != LADDER_DISK_OFF,
        .shared = rule->shared,
        .keep = rule->disk,
    };

    if (!ladder || !ladder_may_have(ladder, &query) || !ladder_climb(ladder, &query, q->task, &q->climb))
        return ASK_CLIMB_NONE;
    return ASK_CLIMB_STARTED;
}
