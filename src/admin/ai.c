/* The AI gateway for /metrics and /top: what telemetry counted, and what budgets, ledger and keys say of themselves. Counts and names of
 * the configuration; never a key, a prompt or an answer. */
#include "admin/answer.h"
#include "ai/budget.h"
#include "ai/keys.h"
#include "ai/telemetry.h"
#include "base/clock.h"
#include "upstream/tracer.h"

#define BUDGETS_SHOWN 64u
#define LABELS_MAX 1024u

/* ---- budgets: those for each key, tenant or model are summed under their name, so that series are few ---- */

struct budgets_seen {
    struct budget_sum {
        char name[65];
        enum budget_unit unit;
        enum budget_window window;
        uint64_t unavailable; /* instances */
        uint64_t instances;
        int64_t limit, spent, reserved; /* the limit of one */
        uint64_t overshoots, refused, soft_exceeded;
        int64_t overshoot_max;
    } sums[BUDGETS_SHOWN];
    unsigned count;
};

static void see_budget(const struct budget_view *view, void *arg)
{
    struct budgets_seen *seen = arg;
    struct budget_sum *sum = seen->sums;
    struct view name = view_first(view->name, sizeof(sum->name) - 1);

    while (sum < seen->sums + seen->count && !view_eq(view_str(sum->name), name))
        sum++;
    if (sum == seen->sums + BUDGETS_SHOWN)
        return;
    if (sum == seen->sums + seen->count) {
        seen->count++;
        *sum = (struct budget_sum){ .unit = view->unit, .window = view->window, .limit = view->limit };
        memcpy(sum->name, name.ptr, name.len);
    }
    sum->instances++;
    sum->spent += view->spent;
    sum->reserved += view->reserved;
    sum->overshoots += view->overshoots;
    sum->overshoot_max = MAX(sum->overshoot_max, view->overshoot_max);
    sum->refused += view->refused;
    sum->soft_exceeded += view->soft_exceeded;
    sum->unavailable += view->unavailable;
}

static void look_at_budgets(const struct admin *admin, struct budgets_seen *ret)
{
    memset(ret, 0, sizeof(*ret));
    if (admin->budgets)
        budget_each(admin->budgets, clock_wall_ms(), see_budget, ret);
}

static const struct series budget_series[] = {
    { "doorstep_ai_budget_limit", "gauge", "Limit of the budget (of each of its instances): millionths, or tokens.",
      offsetof(struct budget_sum, limit) },
    { "doorstep_ai_budget_spent", "gauge", "Spent in the present window.", offsetof(struct budget_sum, spent) },
    { "doorstep_ai_budget_reserved", "gauge", "Held for calls under way.", offsetof(struct budget_sum, reserved) },
    { "doorstep_ai_budget_instances", "gauge", "Keys, tenants or models that have one.",
      offsetof(struct budget_sum, instances) },
    { "doorstep_ai_budget_overshoots_total", "counter", "Calls that came to more than was reserved for them.",
      offsetof(struct budget_sum, overshoots) },
    { "doorstep_ai_budget_refused_total", "counter", "Requests refused because it was used up.",
      offsetof(struct budget_sum, refused) },
    { "doorstep_ai_budget_soft_exceeded_total", "counter", "Requests that went over a soft limit.",
      offsetof(struct budget_sum, soft_exceeded) },
    { "doorstep_ai_budget_unavailable", "gauge",
      "Instances of a shared budget whose store did not answer when asked last.",
      offsetof(struct budget_sum, unavailable) },
};

static void write_budgets(struct text *out, const struct admin *admin)
{
    struct budgets_seen seen;

    look_at_budgets(admin, &seen);
    for (size_t i = 0; seen.count && i < ARRAY_LEN(budget_series); i++) {
        admin_family(out, budget_series[i].name, budget_series[i].type, budget_series[i].help);
        for (unsigned k = 0; k < seen.count; k++) {
            char memory[LABELS_MAX];
            struct text labels = TEXT_ON(memory);
            int64_t value;

            metrics_label(&labels, "budget", view_str(seen.sums[k].name));
            metrics_label(&labels, "unit", budget_unit_name(seen.sums[k].unit));
            metrics_label(&labels, "window", budget_window_name(seen.sums[k].window));
            memcpy(&value, (const char *)&seen.sums[k] + budget_series[i].offset, sizeof(value));
            text_printf(out, "%s{%.*s} %lld\n", budget_series[i].name, VIEW_ARG(text_view(&labels)), (long long)value);
        }
    }
}

static void put_budgets(struct text *out, const struct admin *admin)
{
    struct budgets_seen seen;

    look_at_budgets(admin, &seen);
    member_name(out, "budgets");
    text_char(out, '[');
    for (unsigned i = 0; i < seen.count; i++) {
        const struct budget_sum *sum = &seen.sums[i];

        member_comma(out);
        text_char(out, '{');
        member_text(out, "name", view_str(sum->name));
        member_text(out, "unit", budget_unit_name(sum->unit));
        member_text(out, "window", budget_window_name(sum->window));
        member_i64(out, "limit", sum->limit);
        member_i64(out, "spent", sum->spent);
        member_i64(out, "reserved", sum->reserved);
        member_u64(out, "instances", sum->instances);
        member_u64(out, "overshoots", sum->overshoots);
        member_i64(out, "overshoot_max", sum->overshoot_max);
        member_u64(out, "refused", sum->refused);
        member_bool(out, "unavailable", sum->unavailable > 0);
        text_char(out, '}');
    }
    text_char(out, ']');
}

/* ---- the ledger ---- */

#define LEDGER(member, name, type, help) \
    { \
        "doorstep_ai_ledger_" name, type, help, offsetof(struct ledger_stats, member) \
    }

static const struct series ledger_series[] = {
    LEDGER(rows, "rows_total", "counter", "Rows written: one for each request."),
    LEDGER(committed, "committed_total", "counter", "Of these, on disk."),
    LEDGER(lost, "lost_total", "counter", "Rows that were dropped, because the disk did not take them."),
    LEDGER(lost_money, "lost_money_total", "counter", "Of these, rows that cost something."),
    LEDGER(lost_cost, "lost_cost_micro_total", "counter", "What those cost, in millionths."),
    LEDGER(retried, "retried_total", "counter", "Batches of rows tried again."),
    LEDGER(forgotten, "forgotten_total", "counter", "Rows deleted by age."),
    LEDGER(pending_bytes, "pending_bytes", "gauge", "Rows that wait for the disk."),
};

static void write_ledger(struct text *out, const struct admin *admin)
{
    struct ledger_stats stats;

    if (!admin->ledger)
        return;
    ledger_stats(admin->ledger, &stats);
    admin_series(out, ledger_series, ARRAY_LEN(ledger_series), &stats);
    admin_single(out, "doorstep_ai_ledger_in_trouble", "gauge", "1: the latest batch could not be committed.",
                 stats.in_trouble);
}

static void put_ledger(struct text *out, const struct admin *admin)
{
    struct ledger_stats stats;

    if (!admin->ledger)
        return;
    ledger_stats(admin->ledger, &stats);
    member_name(out, "ledger");
    text_char(out, '{');
    member_u64(out, "rows", stats.rows);
    member_u64(out, "committed", stats.committed);
    member_u64(out, "lost", stats.lost);
    member_u64(out, "lost_money", stats.lost_money);
    member_i64(out, "lost_cost", stats.lost_cost);
    member_bool(out, "in_trouble", stats.in_trouble);
    text_char(out, '}');
}

/* ---- spans ---- */

#define SPANS(member, name, type, help) \
    { \
        "doorstep_trace_" name, type, help, offsetof(struct tracer_stats, member) \
    }

static const struct series tracer_series[] = {
    SPANS(spans, "spans_total", "counter", "Spans recorded."),
    SPANS(exported, "exported_total", "counter", "Of these, taken by the collector."),
    SPANS(dropped, "dropped_total", "counter", "Of these, dropped because too many waited."),
    SPANS(failed, "failed_total", "counter", "Of these, not taken by the collector."),
    SPANS(batches, "batches_total", "counter", "Requests to the collector."),
    SPANS(retries, "retries_total", "counter", "Requests to it that were repeated."),
    SPANS(queued_bytes, "queued_bytes", "gauge", "Spans that wait."),
};

static void write_tracer(struct text *out, const struct admin *admin)
{
    struct tracer_stats stats;

    if (!admin->tracer || !tracer_is_on(admin->tracer))
        return;
    tracer_stats(admin->tracer, &stats);
    admin_series(out, tracer_series, ARRAY_LEN(tracer_series), &stats);
}

/* ---- keys of clients ---- */

struct keys_seen {
    int64_t now_s;
    uint64_t valid, expired, revoked;
};

static void see_key(const struct ai_key_info *info, void *arg)
{
    struct keys_seen *seen = arg;

    if (info->revoked_s)
        seen->revoked++;
    else if (info->identity.expires_s && info->identity.expires_s <= seen->now_s)
        seen->expired++;
    else
        seen->valid++;
}

static void look_at_keys(const struct admin *admin, struct keys_seen *ret)
{
    *ret = (struct keys_seen){ .now_s = clock_wall_ms() / 1000 };
    if (admin->ai_keys)
        ai_keys_list(admin->ai_keys, see_key, ret);
}

static void write_keys(struct text *out, const struct admin *admin)
{
    struct keys_seen seen;

    look_at_keys(admin, &seen);
    admin_family(out, "doorstep_ai_keys", "gauge", "API keys that this node has given to clients.");
    text_printf(out, "doorstep_ai_keys{state=\"valid\"} %llu\n", (unsigned long long)seen.valid);
    text_printf(out, "doorstep_ai_keys{state=\"expired\"} %llu\n", (unsigned long long)seen.expired);
    text_printf(out, "doorstep_ai_keys{state=\"revoked\"} %llu\n", (unsigned long long)seen.revoked);
}

/* ---- what telemetry counted ---- */

struct counted {
    struct text *out; /* models are written as they come; NULL: only summed */
    uint64_t outcomes[LEDGER_OUTCOMES], tiers[LEDGER_TIERS], all, hits;
    uint64_t rungs[TELEMETRY_RUNGS], rung_hits[TELEMETRY_RUNGS];
    uint64_t input, output, tokens_saved, cost, saved, attempts, failovers, hedges, hedges_won;
};

/* Out of a hundred thousand, so that three decimals of a percentage can be shown. */
static void put_ratio(struct text *out, const char *name, uint64_t part, uint64_t all)
{
    uint64_t ratio = all ? part * 100000 / all : 0;

    member_name(out, name);
    text_printf(out, "%llu.%05llu", (unsigned long long)(ratio / 100000), (unsigned long long)(ratio % 100000));
}

static void put_model(struct text *out, const struct telemetry_model *model, uint64_t all, uint64_t hits)
{
    uint64_t errors = 0;

    for (unsigned i = 0; i < LEDGER_TIERS; i++)
        errors += model->requests[LEDGER_ERROR][i];
    member_comma(out);
    text_char(out, '{');
    member_text(out, "provider", model->provider);
    member_text(out, "model", model->model);
    member_text(out, "rung", telemetry_rung_name(model->rung));
    member_u64(out, "requests", all);
    member_u64(out, "hits", hits);
    put_ratio(out, "hit_ratio", hits, all);
    member_u64(out, "errors", errors);
    member_u64(out, "input", model->input);
    member_u64(out, "output", model->output);
    member_u64(out, "tokens_saved", model->tokens_saved);
    member_u64(out, "attempts", model->attempts);
    member_u64(out, "failovers", model->failovers);
    member_u64(out, "hedges", model->hedges);
    member_u64(out, "hedges_won", model->hedges_won);
    member_u64(out, "cost", model->cost);
    member_u64(out, "saved", model->saved);
    text_char(out, '}');
}

static void count_model(const struct telemetry_model *model, void *arg)
{
    struct counted *counted = arg;
    uint64_t all = 0, hits = 0;

    for (unsigned i = 0; i < LEDGER_OUTCOMES; i++)
        for (unsigned k = 0; k < LEDGER_TIERS; k++) {
            uint64_t n = model->requests[i][k];

            all += n;
            hits += k != LEDGER_TIER_NONE || i == LEDGER_COLLAPSED ? n : 0;
            counted->outcomes[i] += n;
            counted->tiers[k] += n;
        }
    counted->all += all;
    counted->hits += hits;
    counted->rungs[model->rung] += all;
    counted->rung_hits[model->rung] += hits;
    counted->input += model->input;
    counted->output += model->output;
    counted->tokens_saved += model->tokens_saved;
    counted->cost += model->cost;
    counted->saved += model->saved;
    counted->attempts += model->attempts;
    counted->failovers += model->failovers;
    counted->hedges += model->hedges;
    counted->hedges_won += model->hedges_won;
    if (counted->out)
        put_model(counted->out, model, all, hits);
}

static void put_counts(struct text *out, const struct counted *counted)
{
    member_u64(out, "requests", counted->all);
    put_ratio(out, "hit_ratio", counted->hits, counted->all);
    member_name(out, "outcomes");
    text_char(out, '{');
    for (unsigned i = 0; i < LEDGER_OUTCOMES; i++)
        member_u64(out, ledger_outcome_name((enum ledger_outcome)i).ptr, counted->outcomes[i]);
    text_char(out, '}');
    member_name(out, "tiers");
    text_char(out, '{');
    for (unsigned i = LEDGER_TIER_NONE + 1; i < LEDGER_TIERS; i++) {
        member_name(out, ledger_tier_name((enum ledger_tier)i).ptr);
        text_char(out, '{');
        member_u64(out, "hits", counted->tiers[i]);
        put_ratio(out, "ratio", counted->tiers[i], counted->all);
        text_char(out, '}');
    }
    text_char(out, '}');
    member_name(out, "rungs");
    text_char(out, '{');
    for (unsigned i = 0; i < TELEMETRY_RUNGS - 1; i++) {
        member_name(out, telemetry_rung_name(i).ptr);
        text_char(out, '{');
        member_u64(out, "requests", counted->rungs[i]);
        member_u64(out, "hits", counted->rung_hits[i]);
        put_ratio(out, "hit_ratio", counted->rung_hits[i], counted->rungs[i]);
        text_char(out, '}');
    }
    text_char(out, '}');
}

static void put_money(struct text *out, const struct telemetry *telemetry, const struct counted *counted)
{
    struct telemetry_money money;

    telemetry_money(telemetry, clock_wall_ms(), &money);
    member_name(out, "money");
    text_char(out, '{');
    member_i64(out, "today", money.today);
    member_i64(out, "today_saved", money.today_saved);
    member_i64(out, "month", money.month);
    member_i64(out, "month_saved", money.month_saved);
    member_u64(out, "since_start", counted->cost);
    member_u64(out, "since_start_saved", counted->saved);
    text_char(out, '}');
    member_name(out, "tokens");
    text_char(out, '{');
    member_u64(out, "input", counted->input);
    member_u64(out, "output", counted->output);
    member_u64(out, "saved", counted->tokens_saved);
    text_char(out, '}');
    member_u64(out, "attempts", counted->attempts);
    member_u64(out, "failovers", counted->failovers);
    member_u64(out, "hedges", counted->hedges);
    member_u64(out, "hedges_won", counted->hedges_won);
}

void admin_put_ai(struct text *out, const struct admin *admin)
{
    const struct ai_config *config = admin_ai_config(admin);
    struct counted counted = { 0 }, again = { .out = out };
    struct keys_seen keys;

    if (!config || config->provider_count == 0 || !admin->telemetry)
        return;
    telemetry_each(admin->telemetry, count_model, &counted);
    look_at_keys(admin, &keys);
    member_name(out, "ai");
    text_char(out, '{');
    put_counts(out, &counted);
    put_money(out, admin->telemetry, &counted);
    member_u64(out, "keys", keys.valid);
    member_name(out, "models");
    text_char(out, '[');
    telemetry_each(admin->telemetry, count_model, &again);
    text_char(out, ']');
    admin_put_providers(out, config);
    put_budgets(out, admin);
    put_ledger(out, admin);
    admin_put_semantic(out, admin, counted.all);
    text_char(out, '}');
}

static void write_ai(struct text *out, void *arg)
{
    const struct admin *admin = arg;
    const struct ai_config *config = admin_ai_config(admin);

    write_tracer(out, admin);
    if (!config || config->provider_count == 0 || !admin->telemetry)
        return;
    telemetry_write(admin->telemetry, out);
    admin_write_providers(out, config);
    write_budgets(out, admin);
    write_ledger(out, admin);
    write_keys(out, admin);
    admin_write_semantic(out, admin);
}

void admin_register_ai(struct admin *admin)
{
    metrics_collector(admin->metrics, write_ai, admin);
}
