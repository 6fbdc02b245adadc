#include "ai/telemetry.h"

#include "base/clock.h"
#include "base/heap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define DAY_MS ((int64_t)86400000)
#define NOW ((int64_t)1767225600000) /* 2026-01-01, midnight */
#define TEXT_MAX ((size_t)1 << 22)

static struct telemetry *telemetry;
static struct loop *loops[2];

static struct view serves[] = { { "exact", 5 }, { "glob-*", 6 } };
static struct ai_provider providers[] = {
    { .name = { "cloud", 5 }, .rung = AI_CLOUD, .models = serves, .model_count = 2 },
    { .name = { "here \"quoted\"", 13 }, .rung = AI_DEVICE },
};
static struct ai_candidate candidates[] = { { .provider = &providers[0], .model = { "big", 3 } },
                                            { .provider = &providers[1] } };
static struct ai_model models[] = { { .name = { "fast", 4 }, .candidates = candidates, .candidate_count = 2 } };
static const struct ai_config config = {
    .providers = providers, .provider_count = 2, .models = models, .model_count = 1
};

static int setup(void **state)
{
    (void)state;
    if (telemetry_new(2, &telemetry) < 0)
        return -1;
    for (unsigned i = 0; i < 2; i++)
        if (loop_new(&loops[i], i) < 0)
            return -1;
    telemetry_learn(telemetry, &config);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    telemetry_free(telemetry);
    loop_free(loops[0]);
    loop_free(loops[1]);
    return 0;
}

static struct ledger_row row_of(const char *provider, const char *model)
{
    return (struct ledger_row){
        .time_ms = NOW,
        .provider = view_str(provider),
        .model = view_str(model),
        .input = 100,
        .output = 11,
        .tokens = 111,
        .cost = 1000,
        .first_token_us = 50000,
        .duration_us = 150000,
        .attempts = 1,
        .status = 200,
        .outcome = LEDGER_OK,
    };
}

static void count(unsigned loop, const struct ledger_row *row)
{
    telemetry_request(
        telemetry, loops[loop], row,
        &(struct telemetry_more){ .call_us = 150000, .failovers = 2, .streamed = row->endpoint == AI_CHAT });
}

static char *written(void)
{
    struct text text = text_make(heap_alloc(TEXT_MAX), TEXT_MAX);

    assert_non_null(text.ptr);
    telemetry_write(telemetry, &text);
    assert_false(text.overflow);
    text_str(&text);
    return text.ptr;
}

static void assert_written(const char *line)
{
    char *text = written();

    if (!strstr(text, line))
        fail_msg("not there: %s", line);
    heap_free(text);
}

static void assert_not_written(const char *line)
{
    char *text = written();

    if (strstr(text, line))
        fail_msg("there: %s", line);
    heap_free(text);
}

/* Proves that second calls are counted under who was asked second, summed over the loops, though no request was answered there. */
static void test_hedges(void **state)
{
    (void)state;
    telemetry_hedge(telemetry, loops[0], VIEW("cloud"), VIEW("big"), AI_CHAT, false);
    telemetry_hedge(telemetry, loops[1], VIEW("cloud"), VIEW("big"), AI_MESSAGES, false);
    telemetry_hedge(telemetry, loops[1], VIEW("cloud"), VIEW("big"), AI_MESSAGES, true);
    telemetry_hedge(telemetry, loops[1], VIEW("cloud"), VIEW("what a client says"), AI_CHAT, false);
    assert_written("doorstep_ai_hedges_total{provider=\"cloud\",model=\"big\"} 2\n");
    assert_written("doorstep_ai_hedges_won_total{provider=\"cloud\",model=\"big\"} 1\n");
    assert_written("doorstep_ai_hedges_total{provider=\"cloud\",model=\"other\"} 1\n");
    assert_not_written("client says");
}

/* Proves that a provider's answer is in every series it belongs to, summed over the loops, in the right buckets. */
static void test_answer(void **state)
{
    struct ledger_row row = row_of("cloud", "big");

    (void)state;
    count(0, &row);
    count(1, &row);
    assert_written("gen_ai_client_token_usage_bucket{gen_ai_operation_name=\"chat\",gen_ai_provider_name=\"cloud\","
                   "gen_ai_request_model=\"big\",gen_ai_token_type=\"input\",le=\"64\"} 0\n");
    assert_written("gen_ai_token_type=\"input\",le=\"256\"} 2\n");
    assert_written("gen_ai_token_type=\"input\"} 200\n");
    assert_written("gen_ai_token_type=\"output\",le=\"16\"} 2\n");
    assert_written("gen_ai_server_request_duration_seconds_bucket{gen_ai_operation_name=\"chat\",gen_ai_provider_name="
                   "\"cloud\",gen_ai_request_model=\"big\",le=\"0.16\"} 2\n");
    assert_written(
        "gen_ai_server_request_duration_seconds_sum{gen_ai_operation_name=\"chat\",gen_ai_provider_name=\"cloud\","
        "gen_ai_request_model=\"big\"} 0.3\n");
    assert_written("gen_ai_request_model=\"big\",le=\"0.04\"} 0\n");
    assert_written("gen_ai_request_model=\"big\",le=\"0.06\"} 2\n");
    /* 100 ms for the ten tokens after the first */
    assert_written(
        "gen_ai_server_time_per_output_token_seconds_bucket{gen_ai_operation_name=\"chat\",gen_ai_provider_name="
        "\"cloud\",gen_ai_request_model=\"big\",le=\"0.01\"} 2\n");
    assert_written("doorstep_ai_requests_total{outcome=\"ok\",tier=\"none\",rung=\"cloud\"} 2\n");
    assert_written("doorstep_ai_cost_micro_total{provider=\"cloud\",model=\"big\"} 2000\n");
    assert_written("doorstep_ai_failovers_total{provider=\"cloud\",model=\"big\"} 4\n");
}

/* Proves that an answer that came at once tells nothing about first tokens. */
static void test_plain(void **state)
{
    struct ledger_row row = row_of("cloud", "big");

    (void)state;
    row.endpoint = AI_RESPONSES;
    count(0, &row);
    assert_written("gen_ai_server_request_duration_seconds_count{");
    assert_not_written("gen_ai_server_time_to_first_token_seconds_count{");
    assert_not_written("gen_ai_server_time_per_output_token_seconds_count{");
}

/* Proves that a hit is savings, and neither usage nor a provider's time. */
static void test_hit(void **state)
{
    struct ledger_row row = row_of("cloud", "big");

    (void)state;
    row.outcome = LEDGER_HIT;
    row.tier = LEDGER_TIER_SHARED;
    row.cost = 0;
    row.saved = 700;
    row.tokens = row.attempts = 0;
    row.first_token_us = -1;
    count(0, &row);
    assert_written("doorstep_ai_requests_total{outcome=\"hit\",tier=\"shared\",rung=\"cloud\"} 1\n");
    assert_written("doorstep_ai_saved_micro_total{provider=\"cloud\",model=\"big\"} 700\n");
    assert_written("doorstep_ai_tokens_saved_total{provider=\"cloud\",model=\"big\"} 111\n");
    assert_not_written("gen_ai_client_token_usage_sum");
    assert_not_written("gen_ai_server_request_duration_seconds_sum");
}

/* Proves that labels are the configuration's names, escaped, and that all others share one. */
static void test_names(void **state)
{
    static const char *const made_up[] = { "glob-7", "glob-*", "fast", "x\"} 1\n" };
    struct ledger_row row;

    (void)state;
    assert_true(telemetry_knows(telemetry, VIEW("cloud"), VIEW("exact")));
    assert_true(telemetry_knows(telemetry, VIEW("here \"quoted\""), VIEW("fast")));
    for (size_t i = 0; i < ARRAY_LEN(made_up); i++) {
        assert_false(telemetry_knows(telemetry, VIEW("cloud"), view_str(made_up[i])));
        row = row_of("cloud", made_up[i]);
        count(0, &row);
    }
    row = row_of("nobody", "knows");
    count(0, &row);
    row = row_of("", "");
    row.outcome = LEDGER_REFUSED;
    row.error_class = VIEW("key");
    count(0, &row);
    row = row_of("here \"quoted\"", "fast");
    count(0, &row);
    assert_written("doorstep_ai_model_requests_total{provider=\"cloud\",model=\"other\",outcome=\"ok\"} 4\n");
    assert_written("doorstep_ai_model_requests_total{provider=\"other\",model=\"other\",outcome=\"ok\"} 1\n");
    assert_written("doorstep_ai_requests_total{outcome=\"refused\",tier=\"none\",rung=\"none\"} 1\n");
    assert_written("doorstep_ai_refused_total{reason=\"key\"} 1\n");
    assert_written("{provider=\"here \\\"quoted\\\"\",model=\"fast\",outcome=\"ok\"} 1\n");
    assert_not_written("glob-");
}

/* Proves that neither many models nor many reasons make many series. */
static void test_bounds(void **state)
{
    static char names[400][16];
    static struct view list[400];
    struct ai_provider provider = { .name = VIEW("many"), .models = list, .model_count = 400 };
    const struct ai_config many = { .providers = &provider, .provider_count = 1 };
    struct ledger_row row;
    char *text;
    unsigned lines = 0;

    (void)state;
    for (unsigned i = 0; i < 400; i++) {
        snprintf(names[i], sizeof(names[i]), "model-%u", i);
        list[i] = view_str(names[i]);
    }
    telemetry_learn(telemetry, &many);
    telemetry_learn(telemetry, &many);
    for (unsigned i = 0; i < 400; i++) {
        row = row_of("many", names[i]);
        count(0, &row);
        row.outcome = LEDGER_ERROR;
        row.error_class = list[i];
        count(1, &row);
    }
    text = written();
    for (const char *at = text; (at = strstr(at, "doorstep_ai_attempts_total{")); at++)
        lines++;
    assert_in_range(lines, 200, 256);
    assert_non_null(
        strstr(text, "doorstep_ai_model_requests_total{provider=\"many\",model=\"other\",outcome=\"ok\"} "));
    lines = 0;
    for (const char *at = text; (at = strstr(at, "doorstep_ai_errors_total{class=\"")); at++)
        lines++;
    assert_int_equal(lines, 48);
    assert_non_null(strstr(text, "doorstep_ai_errors_total{class=\"other\"} 353\n"));
    heap_free(text);
}

/* Proves that money is counted by UTC day and month, also for requests that began in the one before. */
static void test_money(void **state)
{
    struct ledger_row row = row_of("cloud", "big");
    struct telemetry_money money;

    (void)state;
    assert_int_equal(telemetry_restore(telemetry, NULL, NOW), 0);
    row.saved = 5;
    count(0, &row);
    count(1, &row);
    row.time_ms = NOW - 1; /* last year's */
    count(1, &row);
    telemetry_money(telemetry, NOW, &money);
    assert_int_equal(money.today, 2000);
    assert_int_equal(money.month, 2000);
    assert_int_equal(money.today_saved, 10);
    telemetry_money(telemetry, NOW - 1, &money);
    assert_int_equal(money.today, 1000);
    assert_int_equal(money.month, 1000);
    row.time_ms = NOW + DAY_MS;
    count(0, &row);
    telemetry_money(telemetry, NOW + DAY_MS, &money);
    assert_int_equal(money.today, 1000);
    assert_int_equal(money.month, 3000);
    row.time_ms = NOW + 2 * DAY_MS;
    count(0, &row);
    row.time_ms = NOW;
    count(0, &row); /* too late for its day, which is not shown any more; in time for its month */
    telemetry_money(telemetry, NOW + 2 * DAY_MS, &money);
    assert_int_equal(money.today, 1000);
    assert_int_equal(money.month, 5000);
    telemetry_money(telemetry, NOW + 400 * DAY_MS, &money);
    assert_int_equal(money.today, 0);
    assert_int_equal(money.month, 0);
}

/* Says what a request costs: shown, not judged. */
static void test_cost(void **state)
{
    struct ledger_row hit = row_of("cloud", "big"), paid = hit;
    uint64_t started, half, ended;

    (void)state;
    hit.outcome = LEDGER_HIT;
    hit.tier = LEDGER_TIER_MEMORY;
    hit.saved = 7;
    hit.tokens = hit.attempts = 0;
    hit.cost = 0;
    started = clock_mono_us();
    for (unsigned i = 0; i < 1000000; i++)
        count(0, &hit);
    half = clock_mono_us();
    for (unsigned i = 0; i < 1000000; i++)
        count(0, &paid);
    ended = clock_mono_us();
    print_message("a hit: %u ns, a paid request: %u ns\n", (unsigned)((half - started) / 1000),
                  (unsigned)((ended - half) / 1000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_answer, setup, teardown),
        cmocka_unit_test_setup_teardown(test_plain, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hedges, setup, teardown),
        cmocka_unit_test_setup_teardown(test_names, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bounds, setup, teardown),
        cmocka_unit_test_setup_teardown(test_money, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cost, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
