/* Providers, models and routes of the AI gateway out of what the file says. */
#include "main/compile_ai.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define KEY_FILE_MAX 4096

static void *zeroed(struct site *site, size_t count, size_t size)
{
    void *memory = arena_alloc(&site->_arena, (count + 1) * size);

    if (memory)
        memset(memory, 0, (count + 1) * size);
    return memory;
}

/* The first line of the file. */
static int read_key(struct site *site, struct view path, struct view *ret, struct text *reason)
{
    char memory[KEY_FILE_MAX];
    int fd = open(path.ptr, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd >= 0 ? read(fd, memory, sizeof(memory)) : -1;
    struct view line;

    if (got < 0) {
        text_printf(reason, "cannot read the key file %.*s: %s", VIEW_ARG(path), strerror(errno));
        if (fd >= 0)
            close(fd);
        return -EINVAL;
    }
    close(fd);
    line = view_make(memory, (size_t)got);
    line = view_first(line, view_find(line, '\n'));
    while (line.len && (line.ptr[line.len - 1] == '\r' || line.ptr[line.len - 1] == ' '))
        line.len--;
    for (size_t i = 0; i < line.len; i++)
        if (line.ptr[i] <= ' ' || line.ptr[i] > '~')
            line.len = 0;
    if (line.len == 0) {
        text_printf(reason, "the key file %.*s does not begin with a key on a line of its own", VIEW_ARG(path));
        return -EINVAL;
    }
    *ret = arena_copy(&site->_arena, line);
    return ret->ptr ? 0 : -ENOMEM;
}

static int compile_credentials(struct site *site, const struct site_ai_provider *from, struct ai_provider *to,
                               struct text *reason)
{
    size_t count = from->keys.count + from->key_files.count;
    int r = 0;

    to->credentials = zeroed(site, count, sizeof(*to->credentials));
    if (!to->credentials)
        return -ENOMEM;
    for (size_t i = 0; i < from->keys.count; i++)
        to->credentials[to->credential_count++].value = from->keys.items[i];
    for (size_t i = 0; i < from->key_files.count && r == 0; i++)
        r = read_key(site, from->key_files.items[i], &to->credentials[to->credential_count++].value, reason);
    return r;
}

/* "http://host:port/api/v1" -> Host "host:port", prefix "/api". */
static void split_url(const struct option_url *url, struct ai_provider *to)
{
    struct view rest = view_skip(url->text, view_find(url->text, ':') + 3);

    to->host = view_first(rest, view_find(rest, '/'));
    to->prefix = url->path;
    while (view_ends_with(to->prefix, VIEW("/")))
        to->prefix.len--;
    if (view_ends_with(to->prefix, VIEW("/v1")))
        to->prefix.len -= 3;
}

static int compile_provider(struct site *site, const struct site_ai_provider *from, struct upstream *upstream,
                            struct ai_provider *to, struct text *reason)
{
    to->name = from->name;
    to->region = from->region;
    to->dialect = (enum ai_dialect)from->dialect;
    to->rung = (enum ai_rung)from->rung;
    to->upstream = upstream;
    to->models = from->models.items;
    to->model_count = from->models.count;
    to->total_ms = (uint32_t)from->upstream.total_timeout;
    to->retries = (uint32_t)from->retries;
    split_url(&from->url, to);
    return compile_credentials(site, from, to, reason);
}

static uint32_t or_else(uint64_t own, uint64_t other)
{
    return (uint32_t)(own == OPTION_UNSET ? other : own);
}

static void compile_candidate(const struct site *site, const struct site_ai_candidate *from,
                              struct ai_provider *providers, struct ai_candidate *to)
{
    const struct site_ai_provider *provider = &site->ai.providers.items[from->provider_index];

    to->first_ms = or_else(from->first_token_timeout, provider->first_token_timeout);
    to->idle_ms = or_else(from->token_timeout, provider->token_timeout);
    to->provider = &providers[from->provider_index];
    to->model = from->model;
    to->context = from->context;
    to->max_output = from->max_output;
    to->weight = (uint32_t)from->weight;
    to->concurrency = (uint32_t)from->concurrency;
    to->latency_ms = (uint32_t)from->max_first_token;
    to->tools = from->tools;
    to->images = from->images;
    to->schema = from->json_schema;
}

static int compile_model(struct site *site, const struct site_ai_model *from, struct ai_provider *providers,
                         struct ai_model *to)
{
    to->name = from->name;
    to->order = (enum ai_order)from->order;
    to->escalates = from->escalate.threshold > 0;
    to->threshold = (float)from->escalate.threshold;
    to->languages = from->escalate.known;
    to->hedges = from->hedge.enabled;
    to->hedge_after_ms = (uint32_t)from->hedge.after;
    budget_init(&to->hedge_budget, (uint32_t)from->hedge.percent, 0, clock_mono_ms());
    to->candidates = zeroed(site, from->candidates.count, sizeof(*to->candidates));
    if (!to->candidates)
        return -ENOMEM;
    for (; to->candidate_count < from->candidates.count; to->candidate_count++)
        compile_candidate(site, &from->candidates.items[to->candidate_count], providers,
                          &to->candidates[to->candidate_count]);
    return 0;
}

int compile_ai(struct site *site, struct upstream *const *upstreams, struct fill_keep *keep, struct ai_config **ret,
               struct text *reason)
{
    const struct site_ai *from = &site->ai;
    struct ai_config *config = zeroed(site, 1, sizeof(*config));
    int r = 0;

    if (!config)
        return -ENOMEM;
    config->node = site->node.name;
    config->region = site->node.region;
    config->store_region = site->shared.region.len ? site->shared.region : site->node.region;
    config->keys = from->auth == 1;
    config->price_needed = from->unknown_price == 1;
    config->keep = keep;
    config->providers = zeroed(site, from->providers.count, sizeof(*config->providers));
    config->direct = zeroed(site, from->providers.count, sizeof(*config->direct));
    config->models = zeroed(site, from->models.count, sizeof(*config->models));
    if (!config->providers || !config->direct || !config->models)
        return -ENOMEM;
    for (size_t i = 0; i < from->providers.count && r == 0; i++) {
        r = compile_provider(site, &from->providers.items[i], upstreams[i], &config->providers[i], reason);
        config->direct[i] = (struct ai_candidate){
            .provider = &config->providers[i],
            .weight = 1,
            .tools = true,
            .images = true,
            .schema = true,
            .first_ms = (uint32_t)from->providers.items[i].first_token_timeout,
            .idle_ms = (uint32_t)from->providers.items[i].token_timeout,
        };
    }
    config->provider_count = (unsigned)from->providers.count;
    for (size_t i = 0; i < from->models.count && r == 0; i++)
        r = compile_model(site, &from->models.items[i], config->providers, &config->models[i]);
    config->model_count = (unsigned)from->models.count;
    if (r == 0)
        r = compile_ai_rules(site, config);
    *ret = config;
    return r;
}

struct ai_route *compile_ai_route(struct site *site, const struct ai_config *config, const struct site_route *from)
{
    const struct site_ai_route *ai = &from->ai;
    struct ai_route *to = zeroed(site, 1, sizeof(*to));

    if (!to || !compile_ai_route_rules(config, ai, to))
        return NULL;
    to->config = config;
    to->name = from->name.len ? from->name : from->match;
    to->ttl_ms = ai->ttl;
    to->ttl_max_ms = ai->ttl_max;
    to->stale_ms = ai->stale_if_error;
    to->scope = (enum ai_scope)ai->scope;
    to->only_deterministic = ai->only_deterministic;
    to->pace = (uint32_t)ai->pace;
    to->semantic = (enum ai_semantic)ai->semantic;
    to->semantic_shadow = ai->shadow;
    to->verify_permille = (uint32_t)(ai->verify * 1000 + 0.5);
    to->epoch = ai->epoch;
    to->waiters = (uint32_t)MIN(site->limits.waiters_per_fill, (uint64_t)UINT32_MAX);
    return to;
}
