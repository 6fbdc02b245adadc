/* Wiring of the AI gateway. */
#include "main/gateway.h"

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
        r = budget_restore(gateway->budgets, gateway->state, clock_wall_ms());
    return r;
}

/* ---- all of it ---- */

int gateway_open(struct gateway *gateway, struct server *server, const struct site *site, unsigned loop_count)
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
    if (r == 0) {
        struct ai_gateway_options options = {
            .fill = &server->fill,
            .ladder = server->ladder,
            .loops = loop_count,
            .money = { .ledger = gateway->ledger, .budgets = gateway->budgets, .prices = &gateway->prices },
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
    ai_gateway_free(gateway->ai);
    ledger_close(gateway->ledger);
    budget_free(gateway->budgets);
    prices_free(atomic_load(&gateway->prices));
}
