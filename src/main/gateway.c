/* Wiring of the AI gateway. */
#include "main/gateway.h"

#include "ai/embed_remote.h"
#include "ai/semantic_keeper.h"
#include "base/heap.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/rcu.h"

#include <errno.h>

/* ---- money ---- */

static int load_prices(const struct site *site, struct prices **ret, struct text *reason)
{
    *ret = NULL;
    return site->ai.prices.len ? prices_load(site->ai.prices.ptr, ret, reason) : 0;
}

static bool each_has(const struct site_ai_budget *budget, struct view what)
{
    for (size_t i = 0; i < budget->each.count; i++)
        if (view_eq(budget->each.items[i], what))
            return true;
    return false;
}

static struct budget_rule *make_rules(const struct site *site)
{
    struct budget_rule *rules = heap_zalloc((site->ai.budgets.count + 1) * sizeof(*rules));

    for (size_t i = 0; rules && i < site->ai.budgets.count; i++) {
        const struct site_ai_budget *from = &site->ai.budgets.items[i];

        rules[i] = (struct budget_rule){
            .name = from->name,
            .tenant = from->tenant,
            .key = from->key,
            .model = from->model,
            .each_tenant = each_has(from, VIEW("tenant")),
            .each_key = each_has(from, VIEW("key")),
            .each_model = each_has(from, VIEW("model")),
            .unit = (enum budget_unit)from->unit,
            .window = (enum budget_window)from->window,
            .limit = from->amount,
            .soft = from->soft,
            .shared = from->shared,
        };
    }
    return rules;
}

static int open_budgets(struct gateway *gateway, const struct site *site, unsigned loop_count, struct text *reason)
{
    struct budget_rule *rules = make_rules(site);
    struct budget_options options = {
        .rules = rules,
        .count = (unsigned)site->ai.budgets.count,
        .redis = gateway->redis,
        .node = site->node.name,
        .prefix = site->shared.prefix,
        .share = site->ai.budget_share,
        .loops = loop_count,
    };
    int r = rules ? budget_new(&options, &gateway->budgets, reason) : -ENOMEM;

    heap_free(rules);
    return r;
}

static int open_money(struct gateway *gateway, const struct site *site, unsigned loop_count, struct text *reason)
{
    struct ledger_options ledger = { .state = gateway->state,
                                     .loops = loop_count,
                                     .retention_days = (unsigned)site->ai.ledger_days };
    struct prices *prices;
    int r = load_prices(site, &prices, reason);

    if (r < 0)
        return r;
    atomic_store(&gateway->prices, prices);
    r = ledger_new(&ledger, &gateway->ledger);
    if (r == 0)
        r = open_budgets(gateway, site, loop_count, reason);
    if (r == 0)
        r = rate_new(&(struct rate_options){ 0 }, &gateway->rates);
    if (r == 0)
        r = budget_restore(gateway->budgets, gateway->state, clock_wall_ms());
    if (r == 0)
        r = telemetry_new(loop_count, &gateway->telemetry);
    if (r == 0)
        r = telemetry_restore(gateway->telemetry, gateway->state, clock_wall_ms());
    return r;
}

/* ---- other words for the same ---- */

static int open_embedding(struct gateway *gateway, const struct site *site, struct text *reason)
{
    const struct site_ai_semantic *from = &site->ai.semantic;

    if (from->model.len == 0)
        return 0;
    if (from->kind == EMBEDDING_ENDPOINT) {
        struct embed_remote_options options = {
            .provider = from->provider,
            .server = site->ai.providers.items[from->provider_index].url.text,
            .model = from->model,
            .dims = (unsigned)from->dimensions,
            .timeout_ms = (uint32_t)from->timeout,
        };

        return embed_remote_new(&options, &gateway->embed);
    }
    if (from->kind == EMBEDDING_STATIC)
        return embed_static_open(from->model.ptr, &gateway->embed, reason);
    return embed_onnx_open(from->model.ptr, from->library.len ? from->library.ptr : NULL, 1, &gateway->embed, reason);
}

static const char *model_id(const struct gateway *gateway)
{
    return gateway->embed ? embed_id(gateway->embed) : "";
}

static void load_semantic(struct gateway *gateway, const struct site *site)
{
    static const char name[] = "/semantic.index";
    size_t cap = site->disk.path.len + sizeof(name);
    struct text path = text_make(site->disk.path.len ? heap_alloc(cap) : NULL, cap);
    uint32_t bad = 0;
    int r;

    if (!path.ptr)
        return;
    text_put(&path, site->disk.path);
    text_put(&path, view_make(name, sizeof(name))); /* with its NUL */
    gateway->semantic_path = path.ptr;
    r = semantic_load(gateway->semantic, path.ptr, model_id(gateway), clock_wall_ms(), &bad);
    if (r == -ESTALE)
        log_info("ai: %s was made with another embedding model: the semantic index begins empty", path.ptr);
    else if (r < 0 && r != -ENOENT)
        log_warn("ai: %s was not read (%s): the semantic index begins empty", path.ptr, strerror(-r));
    else if (bad)
        log_warn("ai: %s has %u damaged entries, which are left out", path.ptr, bad);
}

static int start_keeper(struct gateway *gateway, const struct server *server)
{
    struct semantic_keeper_options options = {
        .semantic = gateway->semantic,
        .path = gateway->semantic_path,
        .model = model_id(gateway),
        .memory = server->memory,
        .disk = server->disk,
        .shared = server->shared != NULL,
        .marks = server->marks,
    };

    return gateway->embed ? semantic_keeper_new(&options, &gateway->keeper) : 0;
}

static int open_semantic(struct gateway *gateway, const struct server *server, const struct site *site,
                         struct text *reason)
{
    const struct site_ai_semantic *from = &site->ai.semantic;
    struct semantic_options options = { .entries_max = (uint32_t)from->entries,
                                        .threshold = (float)MAX(from->threshold, 0.8),
                                        .false_hit_rate = from->false_hits };
    int r = open_embedding(gateway, site, reason);

    if (r == 0)
        r = semantic_new(&options, &gateway->semantic);
    if (r == 0)
        load_semantic(gateway, site);
    return r == 0 ? start_keeper(gateway, server) : r;
}

/* ---- all of it ---- */

int gateway_open(struct gateway *gateway, struct server *server, struct workers *workers, const struct site *site,
                 unsigned loop_count)
{
    char memory[256];
    struct text reason = TEXT_ON(memory);
    int r;

    gateway->redis = server->redis;
    gateway->state = server->state;
    r = ai_keys_open(gateway->state, &gateway->keys);
    if (r < 0)
        text_lit(&reason, "the API keys kept in the state cannot be read");
    else
        r = open_money(gateway, site, loop_count, &reason);
    if (r == 0)
        r = open_semantic(gateway, server, site, &reason);
    if (r == 0) {
        struct ai_gateway_options options = {
            .fill = &server->fill,
            .ladder = server->ladder,
            .loops = loop_count,
            .semantic = gateway->semantic,
            .embed = gateway->embed,
            .workers = workers,
            .tracer = gateway->tracer,
            .money = { .ledger = gateway->ledger,
                       .budgets = gateway->budgets,
                       .prices = &gateway->prices,
                       .telemetry = gateway->telemetry,
                       .rates = gateway->rates },
            .keys = gateway->keys,
        };

        r = ai_gateway_new(&options, &gateway->ai);
    }
    if (r < 0)
        log_error("ai: %s", reason.len ? text_str(&reason) : strerror(-r));
    return r;
}

bool gateway_reload(struct gateway *gateway, const struct site *site, struct text *reason)
{
    struct budget_rule *rules;
    struct prices *prices, *old;
    int r = load_prices(site, &prices, reason);

    if (r < 0)
        return false;
    rules = make_rules(site);
    r = rules ? budget_set_rules(gateway->budgets, rules, (unsigned)site->ai.budgets.count, reason) : -ENOMEM;
    heap_free(rules);
    if (r < 0) {
        prices_free(prices);
        return false;
    }
    /* A budget that is new may be one for what was spent already. */
    r = budget_restore(gateway->budgets, gateway->state, clock_wall_ms());
    if (r < 0)
        log_warn("ai: what the ledger says of new budgets was not read (%s): they begin with nothing spent",
                 strerror(-r));
    old = atomic_exchange(&gateway->prices, prices);
    rcu_synchronize(); /* loops use prices within a turn */
    prices_free(old);
    return true;
}

void gateway_close_loop(struct gateway *gateway, struct loop *loop)
{
    if (gateway->ledger)
        ledger_loop_close(gateway->ledger, loop);
    if (gateway->budgets)
        budget_loop_close(gateway->budgets, loop);
}

void gateway_close(struct gateway *gateway)
{
    semantic_keeper_free(gateway->keeper);
    ai_gateway_free(gateway->ai);
    semantic_free(gateway->semantic);
    embed_free(gateway->embed);
    heap_free(gateway->semantic_path);
    ledger_close(gateway->ledger);
    budget_free(gateway->budgets);
    rate_free(gateway->rates);
    prices_free(atomic_load(&gateway->prices));
}

void gateway_free(struct gateway *gateway)
{
    ai_keys_free(gateway->keys);
    telemetry_free(gateway->telemetry);
}
