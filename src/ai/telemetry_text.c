/* Telemetry as Prometheus text. Families are written one after the other, each over all pairs: the format wants a family's samples
 * together. */
#include "ai/telemetry_internal.h"

#include "base/metrics.h"

#define LABELS_MAX 1024u

static const char *const operation_names[OPERATIONS] = { "chat", "text_completion", "embeddings", "other" };

static void family(struct text *out, const char *name, const char *type, const char *help)
{
    text_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void sample(struct text *out, const char *name, const char *suffix, const struct text *labels, uint64_t value)
{
    text_printf(out, "%s%s{%.*s} %llu\n", name, suffix, VIEW_ARG(text_view(labels)), (unsigned long long)value);
}

/* ---- histograms ---- */

static void sum_histogram(const struct telemetry *telemetry, unsigned pair, unsigned operation,
                          enum telemetry_histogram which, uint64_t counts[TELEMETRY_BUCKETS], uint64_t *sum)
{
    memset(counts, 0, sizeof(counts[0]) * TELEMETRY_BUCKETS);
    *sum = 0;
    for (unsigned i = 0; i < telemetry->loops; i++) {
        const struct telemetry_cells *cells =
            atomic_load_explicit(&telemetry->parts[i].cells[pair][operation], memory_order_acquire);

        if (!cells)
            continue;
        for (unsigned k = 0; k < TELEMETRY_BUCKETS; k++)
            counts[k] += atomic_load_explicit(&cells->histograms[which].counts[k], memory_order_relaxed);
        *sum += atomic_load_explicit(&cells->histograms[which].sum, memory_order_relaxed);
    }
}

/* 2500000 -> "2.5" */
static void put_seconds(struct text *out, uint64_t us)
{
    char digits[8];
    size_t len = 6;

    text_u64(out, us / 1000000);
    if (us % 1000000 == 0)
        return;
    for (uint64_t i = 0, rest = us % 1000000; i < 6; i++, rest /= 10)
        digits[5 - i] = (char)('0' + rest % 10);
    while (digits[len - 1] == '0')
        len--;
    text_char(out, '.');
    text_put(out, view_make(digits, len));
}

static void put_histogram(struct text *out, const char *name, const struct text *labels, bool seconds,
                          const struct telemetry_bounds *bounds, const uint64_t counts[], uint64_t sum)
{
    uint64_t count = 0;

    for (unsigned i = 0; i <= bounds->count; i++) {
        count += counts[i];
        text_printf(out, "%s_bucket{%.*s,le=\"", name, VIEW_ARG(text_view(labels)));
        if (i == bounds->count)
            text_lit(out, "+Inf");
        else if (seconds)
            put_seconds(out, bounds->at[i]);
        else
            text_u64(out, bounds->at[i]);
        text_printf(out, "\"} %llu\n", (unsigned long long)count);
    }
    text_printf(out, "%s_sum{%.*s} ", name, VIEW_ARG(text_view(labels)));
    if (seconds)
        put_seconds(out, sum);
    else
        text_u64(out, sum);
    text_char(out, '\n');
    sample(out, name, "_count", labels, count);
}

static void write_histogram(const struct telemetry *telemetry, struct text *out, const char *name,
                            enum telemetry_histogram which, const char *token_type)
{
    unsigned pairs = atomic_load_explicit(&telemetry->pair_count, memory_order_acquire);

    for (unsigned i = 0; i < pairs * OPERATIONS; i++) {
        const struct telemetry_pair *pair = &telemetry->pairs[i / OPERATIONS];
        uint64_t counts[TELEMETRY_BUCKETS], sum, all = 0;
        char memory[LABELS_MAX];
        struct text labels = TEXT_ON(memory);

        sum_histogram(telemetry, i / OPERATIONS, i % OPERATIONS, which, counts, &sum);
        for (unsigned k = 0; k < TELEMETRY_BUCKETS; k++)
            all += counts[k];
        if (all == 0)
            continue;
        metrics_label(&labels, "gen_ai_operation_name", view_str(operation_names[i % OPERATIONS]));
        metrics_label(&labels, "gen_ai_provider_name", view_str(pair->provider));
        metrics_label(&labels, "gen_ai_request_model", view_str(pair->model));
        if (token_type)
            metrics_label(&labels, "gen_ai_token_type", view_str(token_type));
        put_histogram(out, name, &labels, !token_type, &telemetry_bounds[which], counts, sum);
    }
}

static void write_histograms(const struct telemetry *telemetry, struct text *out)
{
    static const char tokens[] = "gen_ai_client_token_usage", duration[] = "gen_ai_server_request_duration_seconds",
                      first[] = "gen_ai_server_time_to_first_token_seconds",
                      per_token[] = "gen_ai_server_time_per_output_token_seconds";

    family(out, tokens, "histogram", "Tokens that providers were paid for, by request.");
    write_histogram(telemetry, out, tokens, HISTOGRAM_INPUT, "input");
    write_histogram(telemetry, out, tokens, HISTOGRAM_OUTPUT, "output");
    family(out, duration, "histogram", "Time of a provider's whole answer, from the call to its last byte.");
    write_histogram(telemetry, out, duration, HISTOGRAM_DURATION, NULL);
    family(out, first, "histogram", "Time from the call to the first content.");
    write_histogram(telemetry, out, first, HISTOGRAM_FIRST, NULL);
    family(out, per_token, "histogram", "Time for each token of the output after the first.");
    write_histogram(telemetry, out, per_token, HISTOGRAM_PER_TOKEN, NULL);
}

/* ---- counters ---- */

struct sums {
    uint64_t requests[TELEMETRY_RUNGS][LEDGER_OUTCOMES][LEDGER_TIERS];
};

static void sum_requests(const struct telemetry_model *model, void *arg)
{
    struct sums *sums = arg;

    for (unsigned i = 0; i < LEDGER_OUTCOMES; i++)
        for (unsigned k = 0; k < LEDGER_TIERS; k++)
            sums->requests[model->rung][i][k] += model->requests[i][k];
}

static void write_requests(const struct telemetry *telemetry, struct text *out)
{
    struct sums sums = { 0 };

    telemetry_each(telemetry, sum_requests, &sums);
    family(out, "doorstep_ai_requests_total", "counter",
           "AI requests by what became of them, the tier of the cache that answered, and the rung of the provider.");
    for (unsigned i = 0; i < TELEMETRY_RUNGS * LEDGER_OUTCOMES * LEDGER_TIERS; i++) {
        unsigned rung = i / (LEDGER_OUTCOMES * LEDGER_TIERS), outcome = i / LEDGER_TIERS % LEDGER_OUTCOMES,
                 tier = i % LEDGER_TIERS;
        char memory[LABELS_MAX];
        struct text labels = TEXT_ON(memory);

        if (sums.requests[rung][outcome][tier] == 0)
            continue;
        metrics_label(&labels, "outcome", ledger_outcome_name((enum ledger_outcome)outcome));
        metrics_label(&labels, "tier", ledger_tier_name((enum ledger_tier)tier));
        metrics_label(&labels, "rung", telemetry_rung_name(rung));
        sample(out, "doorstep_ai_requests_total", "", &labels, sums.requests[rung][outcome][tier]);
    }
}

static const struct {
    const char *name, *help;
    size_t offset;
} counters[] = {
    { "doorstep_ai_cost_micro_total", "Money spent, in millionths.", offsetof(struct telemetry_model, cost) },
    { "doorstep_ai_saved_micro_total", "What answers from the cache would have cost, in millionths.",
      offsetof(struct telemetry_model, saved) },
    { "doorstep_ai_tokens_saved_total", "Tokens of answers from the cache.",
      offsetof(struct telemetry_model, tokens_saved) },
    { "doorstep_ai_cached_input_tokens_total", "Input tokens that the provider had cached.",
      offsetof(struct telemetry_model, cached) },
    { "doorstep_ai_reasoning_tokens_total", "Output tokens that were reasoning.",
      offsetof(struct telemetry_model, reasoning) },
    { "doorstep_ai_attempts_total", "Calls to providers, retries included.",
      offsetof(struct telemetry_model, attempts) },
    { "doorstep_ai_failovers_total", "Candidates that failed before this one was asked.",
      offsetof(struct telemetry_model, failovers) },
    { "doorstep_ai_hedges_total", "Second calls, made to this one because another one was late.",
      offsetof(struct telemetry_model, hedges) },
    { "doorstep_ai_hedges_won_total", "Of these, those that answered first, or alone.",
      offsetof(struct telemetry_model, hedges_won) },
    { "doorstep_ai_estimated_total", "Requests whose usage the provider did not say.",
      offsetof(struct telemetry_model, estimated) },
};

struct one {
    struct text *out;
    unsigned counter; /* ARRAY_LEN(counters): requests */
};

static void write_one(const struct telemetry_model *model, void *arg)
{
    const struct one *one = arg;
    char memory[LABELS_MAX];
    struct text labels = TEXT_ON(memory);
    uint64_t value;

    metrics_label(&labels, "provider", model->provider);
    metrics_label(&labels, "model", model->model);
    if (one->counter < ARRAY_LEN(counters)) {
        memcpy(&value, (const char *)model + counters[one->counter].offset, sizeof(value));
        if (value || model->rung < TELEMETRY_RUNGS - 1)
            sample(one->out, counters[one->counter].name, "", &labels, value);
        return;
    }
    for (unsigned i = 0; i < LEDGER_OUTCOMES; i++) {
        struct text more = labels;

        value = 0;
        for (unsigned k = 0; k < LEDGER_TIERS; k++)
            value += model->requests[i][k];
        if (value == 0)
            continue;
        metrics_label(&more, "outcome", ledger_outcome_name((enum ledger_outcome)i));
        sample(one->out, "doorstep_ai_model_requests_total", "", &more, value);
    }
}

static void write_reasons(const struct telemetry *telemetry, struct text *out, bool refused)
{
    const char *name = refused ? "doorstep_ai_refused_total" : "doorstep_ai_errors_total";
    unsigned count = atomic_load_explicit(&telemetry->reason_count, memory_order_acquire);

    family(out, name, "counter",
           refused ? "Requests refused before any provider was asked, by reason."
                   : "Requests that no provider answered, by what the last one did.");
    for (unsigned i = 0; i < count; i++) {
        char memory[LABELS_MAX];
        struct text labels = TEXT_ON(memory);
        uint64_t value = 0;

        for (unsigned k = 0; k < telemetry->loops; k++)
            value += atomic_load_explicit(refused ? &telemetry->parts[k].refused[i] : &telemetry->parts[k].errors[i],
                                          memory_order_relaxed);
        if (value == 0)
            continue;
        metrics_label(&labels, refused ? "reason" : "class",
                      i == TELEMETRY_REASONS - 1 ? VIEW("other") : view_str(telemetry->reasons[i]));
        sample(out, name, "", &labels, value);
    }
}

void telemetry_write(const struct telemetry *telemetry, struct text *out)
{
    struct one one = { out, ARRAY_LEN(counters) };

    write_histograms(telemetry, out);
    write_requests(telemetry, out);
    family(out, "doorstep_ai_model_requests_total", "counter", "AI requests by provider, model and outcome.");
    telemetry_each(telemetry, write_one, &one);
    for (one.counter = 0; one.counter < ARRAY_LEN(counters); one.counter++) {
        family(out, counters[one.counter].name, "counter", counters[one.counter].help);
        telemetry_each(telemetry, write_one, &one);
    }
    write_reasons(telemetry, out, true);
    write_reasons(telemetry, out, false);
}
