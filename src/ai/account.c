/* Accounts join price, budget and ledger; each of them knows nothing of the others. */
#include "ai/account.h"

#include "base/clock.h"
#include "base/heap.h"

#include <errno.h>

#define ACCOUNT_TEXTS_MAX ((size_t)4096)

struct account *account_new(const struct ai_money *money, struct loop *loop)
{
    struct account *account = heap_alloc(sizeof(*account));

    if (!account)
        return NULL;
    memset(account, 0, offsetof(struct account, memory));
    account->refs = 1;
    account->money = money;
    account->loop = loop;
    account->row.first_token_us = -1;
    arena_init(&account->arena, account->memory, sizeof(account->memory), ACCOUNT_TEXTS_MAX);
    return account;
}

void account_ref(struct account *account)
{
    account->refs++;
}

/* A model's name is told when it is one of ours, or a provider has answered to it: clients can write anything there. */
static void end_spans(struct account *account)
{
    const struct ledger_row *row = &account->row;
    const struct telemetry *telemetry = account->money->telemetry;

    if (account->spans)
        ai_spans_end(account->spans, row,
                     row->provider.len &&
                         (row->status == 200 || (telemetry && telemetry_knows(telemetry, row->provider, row->model))));
}

/* Budgets of a model begin with the ledger's sums after a restart: each model's calls are its own. */
static void name_other(struct account *account)
{
    for (unsigned i = 0; i < ACCOUNT_MODELS_MAX && account->models[i].model.len; i++) {
        if (view_eq(account->models[i].model, account->row.model))
            continue;
        account->row.other_model = account->models[i].model;
        account->row.other_cost = account->models[i].cost;
        account->row.other_tokens = account->models[i].tokens;
        return;
    }
}

void account_unref(struct account *account)
{
    if (!account || --account->refs)
        return;
    if (account->row.outcome == LEDGER_OK && account->broken.len && view_eq(account->broken, account->row.provider))
        account->row.outcome = LEDGER_ERROR; /* the client has an error event at the end */
    if (account->limit_count)
        rate_correct(account->money->rates, clock_mono_us(), account->limits, account->limit_count, account->taken,
                     account->row.tokens);
    name_other(account);
    if (account->money->ledger)
        ledger_write(account->money->ledger, account->loop, &account->row);
    if (account->money->telemetry)
        telemetry_request(account->money->telemetry, account->loop, &account->row, &account->more);
    end_spans(account);
    arena_release(&account->arena);
    heap_free(account);
}

struct view account_text(struct account *account, struct view text)
{
    return arena_copy(&account->arena, view_first(text, LEDGER_TEXT_MAX));
}

void account_limit(struct account *account, const struct rate_subject *limits, unsigned count, uint64_t tokens,
                   struct rate_result *ret)
{
    rate_take(account->money->rates, clock_mono_us(), limits, count, tokens, ret);
    for (unsigned i = 0; i < count && i < ACCOUNT_LIMITS_MAX && ret->allowed; i++) {
        account->limits[i] = limits[i];
        account->limits[i].name = account_text(account, limits[i].name);
        account->limit_count = i + 1;
        account->taken = tokens;
    }
}

static bool find_price(const struct account *account, struct view provider, struct view model, struct price *ret)
{
    const struct prices *prices = account->money->prices ? atomic_load(account->money->prices) : NULL;

    return prices && price_find(prices, provider, model, price_day(account->row.time_ms), ret);
}

int account_reserve(struct account *account, const struct ai_candidate *candidate, struct view model, uint64_t input,
                    uint64_t output, bool need_price, struct reservation *ret, struct budget_refusal *ret_refusal)
{
    struct budget_identity identity = { .tenant = account->row.tenant, .key = account->row.key, .model = model };
    bool local = candidate->provider->rung == AI_DEVICE;
    struct price price;
    int64_t bound = 0;
    int r;

    *ret = (struct reservation){ 0 };
    if (find_price(account, candidate->provider->name, model, &price))
        bound = price_bound(&price, input, output);
    else if (need_price && !local)
        return -ENOENT;
    if (!account->money->budgets)
        return 0;
    r = budget_reserve(account->money->budgets, account->loop, account->row.time_ms, &identity, bound, input + output,
                       ret, ret_refusal);
    if (r == 0)
        account->row.reserved += bound;
    return r;
}

static uint64_t tokens_of(const struct ai_usage *usage)
{
    return usage->input + usage->output;
}

static void charge(struct account *account, struct view model, int64_t cost, uint64_t tokens)
{
    unsigned i = 0;

    account->row.cost += cost;
    account->row.tokens += tokens;
    if (!cost && !tokens)
        return;
    while (i < ACCOUNT_MODELS_MAX && account->models[i].model.len && !view_eq(account->models[i].model, model))
        i++;
    if (i == ACCOUNT_MODELS_MAX)
        return; /* counts for the row's model */
    if (!account->models[i].model.len)
        account->models[i].model = account_text(account, model);
    account->models[i].cost += cost;
    account->models[i].tokens += tokens;
}

/* What the edge had stored costs nothing, and saves what it would have cost. */
static int64_t settle(struct account *account, const struct ai_candidate *candidate, struct view model,
                      struct reservation *reservation, const struct ai_call_report *report)
{
    bool paid = report->billed && !report->stored;
    int64_t worth = report->billed ? account_worth(account, candidate->provider->name, model, &report->usage) : 0;
    int64_t cost = paid ? worth : 0;
    uint64_t tokens = paid ? tokens_of(&report->usage) : 0;

    budget_settle(account->money->budgets, reservation, cost, tokens);
    charge(account, model, cost, tokens);
    account->row.saved += worth - cost;
    return cost;
}

int64_t account_settle(struct account *account, const struct ai_candidate *candidate, struct view model,
                       struct reservation *reservation, const struct ai_call_report *report)
{
    int64_t cost = settle(account, candidate, model, reservation, report);
    struct ledger_row *row = &account->row;

    if (report->attempts) {
        account->more.failovers = account->calls++;
        account->more.call_us = report->duration_us;
    }
    row->attempts += report->attempts;
    if (report->billed) {
        row->input += report->usage.input;
        row->cached += report->usage.cached;
        row->cache_write += report->usage.cache_write;
        row->output += report->usage.output;
        row->reasoning += report->usage.reasoning;
        row->estimated = row->estimated || !report->usage.known;
    }
    if (report->first_us)
        row->first_token_us = (int64_t)report->first_us;
    if (report->error_class)
        row->error_class = view_str(report->error_class);
    if (report->error_class && report->status == 200 && !report->sound)
        account->broken = account_text(account, candidate->provider->name);
    return cost;
}

void account_settle_aside(struct account *account, const struct ai_candidate *candidate, struct view model,
                          struct reservation *reservation, const struct ai_call_report *report)
{
    (void)settle(account, candidate, model, reservation, report);
}

int64_t account_worth(const struct account *account, struct view provider, struct view model,
                      const struct ai_usage *usage)
{
    struct price price;

    return find_price(account, provider, model, &price) ? price_cost(&price, usage) : 0;
}
