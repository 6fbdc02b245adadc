/* The option tables of the AI gateway, and what they cannot check. */
#include "main/site_table.h"

#include "ai/classify.h"
#include "ai/config.h"
#include "base/text.h"
#include "conf/conf.h"

static const char *const auth_names[] = { "none", "keys", NULL };
static const char *const dialect_names[] = { "openai", "anthropic", NULL };
static const char *const rung_names[] = { "device", "edge", "cloud", NULL };
static const char *const order_names[] = { "listed", "weighted", NULL };
static const char *const price_names[] = { "allow", "refuse", NULL };
static const char *const unit_names[] = { "money", "tokens", NULL };
static const char *const window_names[] = { "day", "month", "total", NULL };
static const char *const scope_names[] = { "tenant", "user", "public", NULL };
static const char *const semantic_names[] = { "off", "canonical", "embedding", NULL };

static const struct option provider_table[] = {
    { .name = "url",
      .type = OPTION_URL,
      .offset = MEMBER(site_ai_provider, url),
      .flags = OPTION_REQUIRED,
      .help = "Where its interface is, with or without `/v1` at the end: `https://api.openai.com/v1`." },
    { .name = "dialect",
      .type = OPTION_ENUM,
      .offset = MEMBER(site_ai_provider, dialect),
      .preset = "openai",
      .names = dialect_names,
      .help = "What it speaks. llama-server, Ollama and vLLM speak `openai`." },
    { .name = "rung",
      .type = OPTION_ENUM,
      .offset = MEMBER(site_ai_provider, rung),
      .preset = "cloud",
      .names = rung_names,
      .help = "`device`: on this machine. `edge`: a node or server nearby. `cloud`: far away." },
    { .name = "region",
      .type = OPTION_STRING,
      .offset = MEMBER(site_ai_provider, region),
      .flags = OPTION_TOKEN,
      .help = "Where prompts go when they go there; part of every key, and what residency rules speak of." },
    { .name = "keys",
      .type = OPTION_STRINGS,
      .offset = MEMBER(site_ai_provider, keys),
      .flags = OPTION_ENV,
      .help = "Credentials, used in turn; write `${NAME}` to take them from the environment. Clients never see them." },
    { .name = "key_files",
      .type = OPTION_STRINGS,
      .offset = MEMBER(site_ai_provider, key_files),
      .help = "Files that hold one credential each." },
    { .name = "models",
      .type = OPTION_STRINGS,
      .offset = MEMBER(site_ai_provider, models),
      .help = "Models (`*` allowed) that clients may name directly; default: all. Aliases may use any." },
    { .name = "first_token_timeout",
      .type = OPTION_DURATION,
      .offset = MEMBER(site_ai_provider, first_token_timeout),
      .min = 10,
      .max = HOURS(1),
      .help =
          "From the request to the first content; default: 10s on `device`, 30s on `edge`, 120s on `cloud`. Reasoning counts, "
          "keep-alives do not." },
    { .name = "token_timeout",
      .type = OPTION_DURATION,
      .offset = MEMBER(site_ai_provider, token_timeout),
      .min = 10,
      .max = HOURS(1),
      .help = "Between two pieces of content; default: 30s on `device`, 120s elsewhere." },
    { .name = "total_timeout",
      .type = OPTION_DURATION,
      .offset = MEMBER(site_ai_provider, upstream.total_timeout),
      .preset = "600s",
      .min = 10,
      .max = HOURS(24),
      .help = "For a whole answer." },
    { .name = "connect_timeout",
      .type = OPTION_DURATION,
      .offset = MEMBER(site_ai_provider, upstream.connect_timeout),
      .preset = "2s",
      .min = 10,
      .max = HOURS(1),
      .help = "For connecting, each address." },
    { .name = "retries",
      .type = OPTION_INT,
      .offset = MEMBER(site_ai_provider, retries),
      .preset = "1",
      .max = 5,
      .help = "How often it is asked again after a failure without content, when no other candidate is left." },
    { .name = "max_connections",
      .type = OPTION_INT,
      .offset = MEMBER(site_ai_provider, upstream.max_connections),
      .preset = "1024",
      .max = 1000000,
      .help = "Connections per event loop; 0: no limit." },
    { .name = "keepalive",
      .type = OPTION_STRUCT,
      .offset = MEMBER(site_ai_provider, upstream.keepalive),
      .table = site_upstream_keepalive_table,
      .help = "Reuse of connections." },
    { .name = "breaker",
      .type = OPTION_STRUCT,
      .offset = MEMBER(site_ai_provider, upstream.breaker),
      .table = site_upstream_breaker_table,
      .help =
          "When it is not asked any more. 429 is no failure: it rests the credential. `statuses` are 500, 502, 503, 504 and 529 here "
          "unless said otherwise." },
    { .name = "tls",
      .type = OPTION_STRUCT,
      .offset = MEMBER(site_ai_provider, upstream.tls),
      .table = site_tls_table,
      .help = "For an https URL." },
    { .name = NULL },
};

static const struct option candidate_table[] = {
    { .name = "provider",
      .type = OPTION_STRING,
      .offset = MEMBER(site_ai_candidate, provider),
      .flags = OPTION_REQUIRED,
      .help = "Name of a provider." },
    { .name = "model",
      .type = OPTION_STRING,
      .offset = MEMBER(site_ai_candidate, model),
      .flags = OPTION_REQUIRED,
      .help = "What the provider calls the model." },
    { .name = "weight",
      .type = OPTION_INT,
      .offset = MEMBER(site_ai_candidate, weight),
      .preset = "1",
      .max = 1000000,
      .help = "Share of the requests, with `order: weighted`." },
    { .name = "context",
      .type = OPTION_INT,
      .offset = MEMBER(site_ai_candidate, context),
      .preset = "0",
      .help = "Tokens it takes, prompt and answer together; longer prompts go to the next candidate. 0: not known." },
    { .name = "max_output",
      .type = OPTION_INT,
      .offset = MEMBER(site_ai_candidate, max_output),
      .preset = "0",
      .max = INT32_MAX,
      .help = "Set as the limit of answers where the client sets none, so that budgets have a bound. 0: "
              "none, but under hard budgets, which need one (16384 tokens, or what the context leaves)." },
    { .name = "concurrency",
      .type = OPTION_INT,
      .offset = MEMBER(site_ai_candidate, concurrency),
      .preset = "0",
      .max = 1000000,
      .help = "Requests at once; more go to the next candidate. 0: no limit." },
    { .name = "max_first_token",
      .type = OPTION_DURATION,
      .offset = MEMBER(site_ai_candidate, max_first_token),
      .preset = "0s",
      .max = HOURS(1),
      .help = "While its first content takes longer than this on average, the others are asked first. 0: no limit." },
    { .name = "first_token_timeout",
      .type = OPTION_DURATION,
      .offset = MEMBER(site_ai_candidate, first_token_timeout),
      .min = 10,
      .max = HOURS(1),
      .help = "From the request to the first content of this model; default: as its provider." },
    { .name = "token_timeout",
      .type = OPTION_DURATION,
      .offset = MEMBER(site_ai_candidate, token_timeout),
      .min = 10,
      .max = HOURS(1),
      .help = "Between two pieces of content of this model; default: as its provider." },
    { .name = "tools",
      .type = OPTION_BOOL,
      .offset = MEMBER(site_ai_candidate, tools),
      .preset = "true",
      .help = "Whether it can call tools." },
    { .name = "images",
      .type = OPTION_BOOL,
      .offset = MEMBER(site_ai_candidate, images),
      .preset = "true",
      .help = "Whether it takes images." },
    { .name = "json_schema",
      .type = OPTION_BOOL,
      .offset = MEMBER(site_ai_candidate, json_schema),
      .preset = "true",
      .help = "Whether it can answer to a schema." },
    { .name = NULL },
};

static const struct option escalate_table[] = {
    { .name = "threshold",
      .type = OPTION_RATIO,
      .offset = MEMBER(site_ai_model, escalate.threshold),
      .preset = "0",
      .help =
          "Prompts whose score (docs/ai-routing.md) is this or more are for the candidates on `edge` and `cloud` first. "
          "0: never." },
    { .name = "languages",
      .type = OPTION_STRINGS,
      .offset = MEMBER(site_ai_model, escalate.languages),
      .help = "Languages that the models on `device` know: `en`, `de`, ...; other ones count as hard. Default: any." },
    { .name = NULL },
};

static const struct option model_hedge_table[] = {
    { .name = "enabled",
      .type = OPTION_BOOL,
      .offset = MEMBER(site_ai_model, hedge.enabled),
      .preset = "false",
      .help =
          "Whether the next candidate is asked as well when the first content is late. Whoever has content first answers; the other "
          "call ends, and what came of it is paid for." },
    { .name = "after",
      .type = OPTION_DURATION,
      .offset = MEMBER(site_ai_model, hedge.after),
      .preset = "0s",
      .max = HOURS(1),
      .help = "What is late; 0: what takes longer than 95 % of the candidate's answers." },
    { .name = "percent",
      .type = OPTION_INT,
      .offset = MEMBER(site_ai_model, hedge.percent),
      .preset = "5",
      .min = 1,
      .max = 100,
      .help = "Second calls allowed per hundred requests." },
    { .name = NULL },
};

static const struct option model_table[] = {
    { .name = "candidates",
      .type = OPTION_LIST,
      .offset = MEMBER(site_ai_model, candidates),
      .table = candidate_table,
      .item_size = sizeof(struct site_ai_candidate),
      .flags = OPTION_REQUIRED,
      .help = "Who can answer, the first choice first; at most 16." },
    { .name = "order",
      .type = OPTION_ENUM,
      .offset = MEMBER(site_ai_model, order),
      .preset = "listed",
      .names = order_names,
      .help = "`listed`: always the first that can. `weighted`: the first is drawn by weight." },
    { .name = "escalate",
      .type = OPTION_STRUCT,
      .table = escalate_table,
      .help = "Which prompts are too hard for the models on this machine, by rules of thumb." },
    { .name = "hedge",
      .type = OPTION_STRUCT,
      .table = model_hedge_table,
      .help = "Second calls against slow answers." },
    { .name = NULL },
};

static const struct option budget_table[] = {
    { .name = "name",
      .type = OPTION_STRING,
      .offset = MEMBER(site_ai_budget, name),
      .flags = OPTION_REQUIRED,
      .help = "What messages and metrics call it." },
    { .name = "limit",
      .type = OPTION_STRING,
      .offset = MEMBER(site_ai_budget, limit),
      .flags = OPTION_REQUIRED,
      .help = "Money in the currency of the prices (`12.50`), or tokens (`1000000`)." },
    { .name = "unit",
      .type = OPTION_ENUM,
      .offset = MEMBER(site_ai_budget, unit),
      .preset = "money",
      .names = unit_names,
      .help = "What is counted." },
    { .name = "per",
      .type = OPTION_ENUM,
      .offset = MEMBER(site_ai_budget, window),
      .preset = "month",
      .names = window_names,
      .help = "UTC day, UTC month, or all time." },
    { .name = "tenant",
      .type = OPTION_STRING,
      .offset = MEMBER(site_ai_budget, tenant),
      .help = "Whose requests (`*` allowed); default: everybody's." },
    { .name = "key",
      .type = OPTION_STRING,
      .offset = MEMBER(site_ai_budget, key),
      .help = "Those made with this key (its id, `*` allowed); default: any." },
    { .name = "model",
      .type = OPTION_STRING,
      .offset = MEMBER(site_ai_budget, model),
      .help = "Those to this model of a provider (`*` allowed); default: any." },
    { .name = "each",
      .type = OPTION_STRINGS,
      .offset = MEMBER(site_ai_budget, each),
      .help = "`tenant`, `key`, `model`: one budget for each of them instead of one for all." },
    { .name = "soft",
      .type = OPTION_BOOL,
      .offset = MEMBER(site_ai_budget, soft),
      .preset = "false",
      .help = "Counted and shown, never refused." },
    { .name = "shared",
      .type = OPTION_BOOL,
      .offset = MEMBER(site_ai_budget, shared),
      .preset = "false",
      .help = "Spent together with the other nodes of the shared store." },
    { .name = NULL },
};

const struct option site_ai_table[] = {
    { .name = "auth",
      .type = OPTION_ENUM,
      .offset = MEMBER(site_ai, auth),
      .preset = "none",
      .names = auth_names,
      .help =
          "`keys`: clients need a key made with `doorstep keys create`. `none`: whoever reaches the node may ask." },
    { .name = "providers",
      .type = OPTION_MAP,
      .offset = MEMBER(site_ai, providers),
      .table = provider_table,
      .item_size = sizeof(struct site_ai_provider),
      .help = "Who answers prompts, by name." },
    { .name = "models",
      .type = OPTION_MAP,
      .offset = MEMBER(site_ai, models),
      .table = model_table,
      .item_size = sizeof(struct site_ai_model),
      .help = "Aliases: names that clients use as the model, and who answers for them." },
    { .name = "prices",
      .type = OPTION_STRING,
      .offset = MEMBER(site_ai, prices),
      .help = "File of prices (JSON, see docs/ai-money.md)." },
    { .name = "unknown_price",
      .type = OPTION_ENUM,
      .offset = MEMBER(site_ai, unknown_price),
      .preset = "allow",
      .names = price_names,
      .help =
          "What happens to requests for a model without a price: free of charge, or refused (402). `device` never costs." },
    { .name = "budgets",
      .type = OPTION_LIST,
      .offset = MEMBER(site_ai, budgets),
      .table = budget_table,
      .item_size = sizeof(struct site_ai_budget),
      .help = "What may be spent. A request must fit into all budgets that it falls under." },
    { .name = "budget_share",
      .type = OPTION_RATIO,
      .offset = MEMBER(site_ai, budget_share),
      .preset = "0",
      .help = "Share of a shared budget that this node may spend while the shared store is away." },
    { .name = "ledger_days",
      .type = OPTION_INT,
      .offset = MEMBER(site_ai, ledger_days),
      .preset = "90",
      .min = 1,
      .max = 36500,
      .help = "How long rows of the ledger are kept; sums by day stay." },
    { .name = "semantic",
      .type = OPTION_STRUCT,
      .offset = MEMBER(site_ai, semantic),
      .table = site_ai_semantic_table,
      .help = "The semantic cache; routes turn it on." },
    { .name = "rules",
      .type = OPTION_MAP,
      .offset = MEMBER(site_ai, rules),
      .table = site_ai_rules_table,
      .item_size = sizeof(struct site_ai_rules),
      .help = "What may be asked, by names that keys, tenants and routes refer to (docs/ai-policy.md)." },
    { .name = "tenants",
      .type = OPTION_MAP,
      .offset = MEMBER(site_ai, tenants),
      .table = site_ai_tenant_table,
      .item_size = sizeof(struct site_ai_tenant),
      .help = "Tenants that need rules or limits; others just exist. Without keys everybody is `default`." },
    { .name = "limits",
      .type = OPTION_STRUCT,
      .offset = MEMBER(site_ai, limits),
      .table = site_ai_limits_table,
      .help = "Of each key; with `auth: none` of each client address." },
    { .name = NULL },
};

const struct option site_ai_route_table[] = {
    { .name = "ttl",
      .type = OPTION_DURATION,
      .offset = MEMBER(site_ai_route, ttl),
      .preset = "1h",
      .max = YEARS(10),
      .help = "How long answers are fresh; 0: none is kept." },
    { .name = "ttl_max",
      .type = OPTION_DURATION,
      .offset = MEMBER(site_ai_route, ttl_max),
      .preset = "30d",
      .max = YEARS(10),
      .help = "The most that a client may ask for with `cf-aig-cache-ttl`." },
    { .name = "stale_if_error",
      .type = OPTION_DURATION,
      .offset = MEMBER(site_ai_route, stale_if_error),
      .preset = "0s",
      .max = YEARS(10),
      .help = "How old an answer may be that is given, marked `stale`, when no candidate can answer; 0: none is." },
    { .name = "scope",
      .type = OPTION_ENUM,
      .offset = MEMBER(site_ai_route, scope),
      .preset = "tenant",
      .names = scope_names,
      .help = "Who shares answers: the keys of a tenant, one user (key and the request's `user`), or everybody." },
    { .name = "only_deterministic",
      .type = OPTION_BOOL,
      .offset = MEMBER(site_ai_route, only_deterministic),
      .preset = "false",
      .help = "Keep only answers to requests with temperature 0 or a seed." },
    { .name = "pace",
      .type = OPTION_INT,
      .offset = MEMBER(site_ai_route, pace),
      .preset = "0",
      .max = 100000,
      .help = "Tokens per second of a stored stream that is replayed; 0: at once." },
    { .name = "semantic",
      .type = OPTION_ENUM,
      .offset = MEMBER(site_ai_route, semantic),
      .preset = "off",
      .names = semantic_names,
      .help = "Whether differently worded prompts may share an answer (docs/ai-semantic.md)." },
    { .name = "shadow",
      .type = OPTION_BOOL,
      .offset = MEMBER(site_ai_route, shadow),
      .preset = "false",
      .help = "Semantic hits are counted and compared with the provider's answer, which is the one given." },
    { .name = "verify",
      .type = OPTION_RATIO,
      .offset = MEMBER(site_ai_route, verify),
      .preset = "0.02",
      .help = "Share of semantic hits that ask the provider all the same and compare." },
    { .name = "epoch",
      .type = OPTION_INT,
      .offset = MEMBER(site_ai_route, epoch),
      .preset = "0",
      .help = "Part of every key: count it up to forget all answers of the route." },
    { .name = "body_limit",
      .type = OPTION_SIZE,
      .offset = MEMBER(site_ai_route, body_limit),
      .preset = "32M",
      .min = KIB(1),
      .max = MIB(48),
      .help = "Bytes of a request body." },
    { .name = "rules",
      .type = OPTION_STRING,
      .offset = MEMBER(site_ai_route, rules),
      .help = "Name of rules (`ai.rules`) that every request of the route must pass." },
    { .name = "requests_per_minute",
      .type = OPTION_INT,
      .offset = MEMBER(site_ai_route, requests),
      .preset = "0",
      .max = 1000000000,
      .help = "Of the whole route; 0: no limit." },
    { .name = "tokens_per_minute",
      .type = OPTION_INT,
      .offset = MEMBER(site_ai_route, tokens),
      .preset = "0",
      .max = 1000000000,
      .help = "Of the whole route; 0: no limit." },
    { .name = "private",
      .type = OPTION_STRUCT,
      .offset = MEMBER(site_ai_route, private),
      .table = site_ai_private_table,
      .help = "What happens to prompts with personal data." },
    { .name = NULL },
};

/* ---- checks ---- */

static const struct site_ai_provider *find_provider(const struct site_ai *ai, struct view name, size_t *ret_index)
{
    for (size_t i = 0; i < ai->providers.count; i++) {
        if (!view_eq(ai->providers.items[i].name, name))
            continue;
        *ret_index = i;
        return &ai->providers.items[i];
    }
    return NULL;
}

static void check_model(struct site_ai *ai, struct site_ai_model *model, struct conf_report *report)
{
    struct view names[64];
    size_t count = MIN(ai->providers.count, ARRAY_LEN(names));
    char buffer[192];

    for (size_t i = 0; i < count; i++)
        names[i] = ai->providers.items[i].name;
    for (size_t i = 0; i < model->candidates.count; i++) {
        struct site_ai_candidate *candidate = &model->candidates.items[i];
        struct text path = TEXT_ON(buffer);
        struct view nearest = conf_nearest(candidate->provider, names, count);

        text_printf(&path, "ai.models.%.*s.candidates[%zu].provider", VIEW_ARG(view_first(model->name, 64)), i);
        if (candidate->provider.len && !find_provider(ai, candidate->provider, &candidate->provider_index))
            conf_complain(report, text_str(&path),
                          nearest.len ? "no provider \"%.*s\"; did you mean \"%.*s\"?"
                                      : "no provider \"%.*s\" under ai.providers%.*s",
                          VIEW_ARG(view_first(candidate->provider, 64)), VIEW_ARG(nearest));
    }
    for (size_t i = 0; i < model->escalate.languages.count; i++) {
        int language = ai_classify_language(model->escalate.languages.items[i]);
        struct text path = TEXT_ON(buffer);

        text_printf(&path, "ai.models.%.*s.escalate.languages", VIEW_ARG(view_first(model->name, 64)));
        if (language < 0)
            conf_complain(report, text_str(&path), "\"%.*s\" is not a language that can be told: write en, de, fr, ...",
                          VIEW_ARG(view_first(model->escalate.languages.items[i], 64)));
        else
            model->escalate.known |= 1u << language;
    }
    if (model->candidates.count > 16)
        conf_complain(report, "ai.models", "model \"%.*s\" has more than 16 candidates", VIEW_ARG(model->name));
}

/* "12.50" in millionths; tokens as they are. */
static bool parse_limit(struct view text, unsigned unit, int64_t *ret)
{
    struct view fraction = text, whole = view_cut(&fraction, '.');
    uint64_t units, millionths = 0;

    if (!view_parse_u64(whole, &units) || units > INT64_MAX / 1000000 || fraction.len > 6)
        return false;
    if (unit != 0) { /* tokens */
        *ret = (int64_t)units;
        return !fraction.ptr;
    }
    if (fraction.ptr && !view_parse_u64(fraction, &millionths))
        return false;
    for (size_t i = fraction.len; i < 6; i++)
        millionths *= 10;
    *ret = (int64_t)(units * 1000000 + millionths);
    return true;
}

static void check_budget(struct site_ai_budget *budget, size_t index, struct conf_report *report)
{
    char buffer[64];
    struct text path = TEXT_ON(buffer);

    text_printf(&path, "ai.budgets[%zu].limit", index);
    if (budget->limit.len && !parse_limit(budget->limit, budget->unit, &budget->amount))
        conf_complain(report, text_str(&path),
                      "not an amount: write \"12.50\" (at most six decimals), or a whole number of tokens");
    path.len = 0;
    text_printf(&path, "ai.budgets[%zu].each", index);
    for (size_t i = 0; i < budget->each.count; i++)
        if (!view_eq(budget->each.items[i], VIEW("tenant")) && !view_eq(budget->each.items[i], VIEW("key")) &&
            !view_eq(budget->each.items[i], VIEW("model")))
            conf_complain(report, text_str(&path), "none of tenant, key, model");
}

/* Scheme, host and port: the server of the provider's upstream. The path goes before those of its interface. */
static struct option_url *origin_of(const struct option_url *url, struct arena *arena)
{
    size_t scheme = view_find(url->text, ':') + 3;
    struct view origin = view_first(url->text, scheme + view_find(view_skip(url->text, scheme), '/'));
    struct option_url *copy = arena_alloc(arena, sizeof(*copy));
    char *text = arena_alloc(arena, origin.len + 1);

    if (!copy || !text || url->text.len == 0)
        return NULL;
    memcpy(text, origin.ptr, origin.len);
    text[origin.len] = '\0';
    *copy = *url;
    copy->text = view_make(text, origin.len);
    copy->path = VIEW_NONE;
    return copy;
}

/* A model that fails says 500, and one that has too much to do 529. */
static struct view failures[] = { { "500", 3 }, { "502", 3 }, { "503", 3 }, { "504", 3 }, { "529", 3 } };

static void check_provider(struct site_ai_provider *provider, struct arena *arena, struct conf_report *report)
{
    char buffer[160];
    struct text path = TEXT_ON(buffer);
    bool device = provider->rung == AI_DEVICE, edge = provider->rung == AI_EDGE;

    text_printf(&path, "ai.providers.%.*s.breaker.statuses", VIEW_ARG(view_first(provider->name, 64)));
    if (conf_line(report, text_str(&path)) == 0)
        provider->upstream.breaker.statuses = (struct option_strings){ failures, ARRAY_LEN(failures) };
    path.len = 0;

    provider->upstream.name = provider->name;
    provider->upstream.servers.items = origin_of(&provider->url, arena);
    provider->upstream.servers.count = provider->upstream.servers.items != NULL;
    /* Calls have limits of their own for what a model does; these are for the connection. */
    provider->upstream.max_waiting = 1024;
    provider->upstream.slow_start = 10000;
    provider->upstream.queue_timeout = 10000;
    provider->upstream.dns_timeout = provider->upstream.tls_timeout = 5000;
    provider->upstream.retry_budget = (struct site_retry_budget){ .percent = 20, .per_second = 10 };
    if (provider->first_token_timeout == OPTION_UNSET)
        provider->first_token_timeout = device ? 10000 : edge ? 30000 : 120000;
    if (provider->token_timeout == OPTION_UNSET)
        provider->token_timeout = device ? 30000 : 120000;
    text_printf(&path, "ai.providers.%.*s.keys", VIEW_ARG(view_first(provider->name, 64)));
    if (provider->keys.count + provider->key_files.count > 32)
        conf_complain(report, text_str(&path), "more than 32 credentials");
    for (size_t i = 0; i < provider->keys.count; i++)
        for (size_t k = 0; k < provider->keys.items[i].len; k++)
            if (provider->keys.items[i].ptr[k] <= ' ' || provider->keys.items[i].ptr[k] > '~') {
                conf_complain(report, text_str(&path),
                              "a key holds what no field of HTTP can: white space or control bytes");
                return;
            }
}

void site_ai_check(struct site *site, struct conf_report *report)
{
    struct site_ai *ai = &site->ai;

    if (report->incomplete)
        return;
    for (size_t i = 0; i < ai->providers.count; i++)
        check_provider(&ai->providers.items[i], &site->_arena, report);
    for (size_t i = 0; i < ai->models.count; i++)
        check_model(ai, &ai->models.items[i], report);
    for (size_t i = 0; i < ai->budgets.count; i++)
        check_budget(&ai->budgets.items[i], i, report);
    site_ai_rules_check(site, report);
    site_ai_semantic_check(ai, report);
    for (size_t i = 0; i < site->routes.count; i++)
        if (site->routes.items[i].ai.present && site->routes.items[i].ai.semantic == AI_SEMANTIC_EMBEDDING &&
            ai->semantic.model.len == 0)
            conf_complain(report, "routes", "semantic: embedding needs a model: set ai.semantic.model");
    if (ai->present && ai->providers.count == 0)
        conf_complain(
            report, "ai",
            "at least one provider is needed, as in providers: { local: { url: \"http://127.0.0.1:8081\" } }");
}
