/* Who asks, and whether they may: the client's key, the rules of key, tenant and route, requests and tokens a minute. Whatever is against
 * a request is said before anybody is asked, and nothing that is said repeats a key.
 *
 * The tenant comes from the key and from nothing else: no field of a request can name one. */
#include "ai/gateway_internal.h"

#include "ai/pii.h"

#include <errno.h>
#include <stdlib.h>

#define REASON_MAX 256u

int ask_bar(struct service_call *q, int status, const char *reason, struct view message, const char *code)
{
    ask_refuse(q, status, NULL, message, code);
    q->reason = reason;
    return -EINVAL;
}

/* ---- the key ---- */

static struct view field_of(const struct service_call *q, struct view name)
{
    const struct field *field = fields_find(&q->request.fields, name);

    return field ? view_trim(field->value) : VIEW_NONE;
}

static struct view bearer(const struct service_call *q)
{
    struct view value = field_of(q, VIEW("Authorization"));

    return view_starts_with_icase(value, VIEW("Bearer ")) ? view_trim(view_skip(value, 7)) : VIEW_NONE;
}

/* Where each dialect's SDKs put it; the first that is there decides. */
static struct view presented(const struct service_call *q)
{
    struct view own = field_of(q, VIEW("x-api-key")), key = q->dialect == AI_ANTHROPIC && own.len ? own : bearer(q);

    if (key.len == 0)
        key = own;
    return key.len ? key : field_of(q, VIEW("api-key"));
}

static bool contains(struct view text, struct view part)
{
    return text.len && part.len && memmem(text.ptr, text.len, part.ptr, part.len);
}

/* Paths that we do not know may list what other tenants keep at the provider: keys need a scope of its own for them. */
static struct view scope_needed(enum ai_endpoint endpoint)
{
    switch (endpoint) {
    case AI_EMBEDDINGS: return VIEW("embeddings");
    case AI_MODELS: return VIEW("models");
    case AI_OTHER: return VIEW("other");
    default: return VIEW("inference");
    }
}

static int refuse_key(struct service_call *q, int error)
{
    struct view message = error == -EKEYEXPIRED   ? VIEW("this API key has expired")
                          : error == -EKEYREVOKED ? VIEW("this API key was revoked")
                                                  : VIEW("this API key is not known here");

    return ask_bar(q, 401, "key", message, "invalid_api_key");
}

static int read_key(struct service_call *q, struct ai_identity *identity)
{
    struct view key = presented(q), scope = scope_needed(q->endpoint);
    char memory[REASON_MAX];
    struct text message = TEXT_ON(memory);
    int r;

    if (key.len == 0)
        return ask_bar(q, 401, "key",
                       VIEW("an API key is needed: send it as Authorization: Bearer KEY, or as x-api-key"),
                       "invalid_api_key");
    r = q->gateway->options.keys ? ai_keys_find(q->gateway->options.keys, key, q->in.now_ms / 1000, identity) : -ENOENT;
    if (r < 0)
        return refuse_key(q, r);
    q->tenant = identity->tenant;
    q->key_id = identity->id;
    if (contains(q->request.query, key) || contains(q->path, key)) /* it would go on to the provider */
        return ask_bar(q, 400, "key", VIEW("an API key does not belong into a URL"), "invalid_api_key");
    if (ai_identity_may(identity, scope))
        return 0;
    text_printf(&message, "this API key lacks the scope \"%.*s\", which this path needs", VIEW_ARG(scope));
    return ask_bar(q, 403, "key", text_view(&message), "insufficient_scope");
}

/* ---- what is in force ---- */

static const struct ai_ruleset *find_rules(const struct ai_config *config, struct view name)
{
    for (unsigned i = 0; i < config->rules_count; i++)
        if (view_eq(config->rules[i].name, name))
            return &config->rules[i];
    return NULL;
}

static int compare_tenant(const void *name, const void *tenant)
{
    return view_compare(*(const struct view *)name, ((const struct ai_tenant *)tenant)->name);
}

static const struct ai_tenant *find_tenant(const struct ai_config *config, struct view name)
{
    if (config->tenant_count == 0)
        return NULL;
    return bsearch(&name, config->tenants, config->tenant_count, sizeof(*config->tenants), compare_tenant);
}

static void add_revision(struct service_call *q, uint64_t revision)
{
    uint64_t both[2] = { q->policy_revision, revision };

    q->policy_revision = hash64(view_make((const char *)both, sizeof(both)));
}

static void add_level(struct service_call *q, const struct ai_ruleset *set)
{
    if (!set)
        return;
    q->sets[q->level_count] = set;
    q->levels[q->level_count++] = &set->rules;
    if (set->private.kinds)
        q->privates[q->private_count++] = &set->private;
    add_revision(q, set->revision);
}

static void add_limit(struct service_call *q, char kind, struct view name, const struct ai_limits *limits)
{
    if (limits->requests || limits->tokens)
        q->limits[q->limit_count++] =
            (struct rate_subject){ .kind = kind, .name = name, .requests = limits->requests, .tokens = limits->tokens };
}

/* Rules that a key names and nobody knows any more must not mean that there are none. */
int ask_identify(struct service_call *q)
{
    const struct ai_config *config = q->config;
    const struct ai_ruleset *own = NULL;
    const struct ai_tenant *tenant;
    struct ai_identity identity = { 0 };
    int r = 0;

    q->cache = &q->route->cache;
    if (config->keys) {
        r = read_key(q, &identity);
        own = identity.rules.len ? find_rules(config, identity.rules) : NULL;
        if (r == 0 && identity.rules.len && !own)
            r = ask_bar(q, 403, "rules", VIEW("the rules of this API key are not configured on this node"), "policy");
    } else {
        q->tenant = VIEW("default");
    }
    if (r < 0)
        return r;
    tenant = find_tenant(config, q->tenant);
    add_level(q, own);
    add_level(q, tenant ? tenant->rules : NULL);
    add_level(q, q->route->rules);
    if (q->route->private.kinds) {
        q->privates[q->private_count++] = &q->route->private;
        add_revision(q, q->route->private_revision);
    }
    add_limit(q, config->keys ? 'k' : 'a', config->keys ? q->key_id : q->in.client,
              own ? &own->limits : &config->limits);
    if (tenant)
        add_limit(q, 't', q->tenant, &tenant->limits);
    add_limit(q, 'r', q->route->name, &q->route->limits);
    if (!ai_rules_region(q->levels, q->level_count, q->config->region))
        q->cache = &q->route->passing;
    return 0;
}

/* ---- rules ---- */

/* What a client calls the model may mean another one: then that is what it asks for, as if it had said so. */
static int apply_aliases(struct service_call *q)
{
    const struct ai_alias *found = NULL;
    struct view raw;

    for (unsigned level = 0; level < q->level_count && !found; level++)
        for (size_t i = 0; i < q->sets[level]->alias_count && !found; i++)
            if (view_eq(q->sets[level]->aliases[i].name, q->facts.model))
                found = &q->sets[level]->aliases[i];
    if (!found || !q->facts.model_at)
        return 0;
    raw = json_raw(&q->doc, q->facts.model_at);
    q->aliased = buf_make(AI_BODY_MAX);
    buf_put(&q->aliased, view_first(q->in.body, (size_t)(raw.ptr - q->in.body.ptr)));
    buf_json(&q->aliased, found->model);
    buf_put(&q->aliased, view_skip(q->in.body, (size_t)(raw.ptr - q->in.body.ptr) + raw.len));
    if (q->aliased.failed)
        return ask_bar(q, 503, "unavailable", VIEW("out of memory"), NULL);
    return ask_read_body(q, buf_view(&q->aliased));
}

/* Of a path that we do not know the body may be anything. When it is JSON, a model can be read in it; when it is not, and some model is
 * denied, nobody knows which one it asks for. */
static int check_unknown(struct service_call *q, struct ai_facts *facts)
{
    bool denies = false;
    size_t unused;

    for (unsigned i = 0; i < q->level_count; i++)
        denies = denies || q->levels[i]->deny_count || q->levels[i]->allow_count;
    if (denies && q->in.body.len) {
        if (json_parse(&q->doc, q->in.body, JSON_LIMITS, &unused) != JSON_OK ||
            ai_facts_read(facts, AI_OTHER, &q->doc, NULL) < 0)
            return ask_bar(q, 403, "rules", VIEW("this interface is not allowed for this key"), "policy");
    }
    facts->never = AI_UNKNOWN;
    return 0;
}

static int check_rules(struct service_call *q)
{
    struct ai_facts unknown = { 0 };
    char memory[REASON_MAX];
    struct text reason = TEXT_ON(memory);
    int status, r = q->parsed ? 0 : check_unknown(q, &unknown);

    if (r < 0)
        return r;
    status =
        ai_rules_check(q->levels, q->level_count, &q->doc, q->parsed ? &q->facts : &unknown, q->in.now_ms, &reason);
    ai_facts_free(&unknown);
    return status ? ask_bar(q, status, "rules", text_view(&reason), "policy") : 0;
}

bool ask_admits(const struct service_call *q, const struct ai_candidate *candidate)
{
    const struct ai_provider *provider = candidate->provider;
    struct view model = candidate->model.len ? candidate->model : q->plain_model;

    for (unsigned i = 0; i < q->pin_count; i++)
        if (provider->rung != AI_DEVICE && !(q->pins[i]->region.len && view_eq(q->pins[i]->region, provider->region)))
            return false;
    return ai_rules_candidate(q->levels, q->level_count, model, provider->region);
}

void ask_refuse_barred(struct service_call *q)
{
    if (q->pin_count)
        ask_bar(q, 403, "private",
                VIEW("the prompt holds personal data, and no provider that may see it is there for this request"),
                "private");
    else
        ask_bar(q, 403, "rules", VIEW("no provider that is allowed for this key can answer this request"), "policy");
}

/* ---- requests and tokens a minute ---- */

static int take(struct service_call *q)
{
    uint64_t prompt = q->parsed ? q->facts.prompt_bytes : q->in.body.len;
    char memory[REASON_MAX];
    struct text message = TEXT_ON(memory);
    char kind;

    if (q->limit_count == 0 || !q->gateway->options.money.rates)
        return 0;
    account_limit(q->account, q->limits, q->limit_count, prompt / 4 + q->facts.max_tokens, &q->rate);
    q->limited = true;
    if (q->rate.allowed)
        return 0;
    kind = q->limits[q->rate.subject].kind;
    text_printf(
        &message, "too many %s: the limit of %llu a minute of this %s is used up",
        q->rate.tokens ? "tokens" : "requests",
        (unsigned long long)(q->rate.tokens ? q->limits[q->rate.subject].tokens : q->limits[q->rate.subject].requests),
        kind == 'k'   ? "API key"
        : kind == 't' ? "tenant"
        : kind == 'r' ? "route"
                      : "address");
    q->wait_ms = (uint64_t)q->rate.retry_after_s * 1000;
    return ask_bar(q, 429, "rate", text_view(&message), "rate_limit_exceeded");
}

/* ---- all of it ---- */

/* The request as the rules want it: read again, so that keys, prices and calls are of what is really asked. */
static int apply_rules(struct service_call *q)
{
    int r;

    if (!q->parsed)
        return 0;
    q->forced = buf_make(AI_BODY_MAX);
    r = ai_rules_apply(q->levels, q->level_count, q->endpoint, &q->doc, &q->facts, &q->forced);
    if (r == 0)
        return 0;
    if (r < 0)
        return ask_bar(q, 503, "unavailable", VIEW("out of memory"), NULL);
    return ask_read_body(q, buf_view(&q->forced));
}

int ask_admit(struct service_call *q)
{
    int r;

    if (q->facts.user_at) /* before anything is redacted: two users must not become one */
        q->user = json_raw(&q->doc, q->facts.user_at);
    if (q->endpoint == AI_MODELS) {
        r = take(q);
        return r < 0 ? r : ask_private(q);
    }
    r = q->parsed ? apply_aliases(q) : 0;
    if (r == 0)
        r = check_rules(q);
    if (r == 0)
        r = take(q);
    if (r == 0)
        r = apply_rules(q);
    if (r == 0)
        r = ask_private(q);
    if (r < 0)
        return r;
    if (!ask_is_passing(q) && (q->pin_count || !ai_rules_region(q->levels, q->level_count, q->config->store_region)))
        q->cache = &q->route->local;
    return 0;
}
