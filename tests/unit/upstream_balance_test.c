/* Choosing servers, the budget of extra requests, and the latencies that hedging goes by. */
#include "upstream/balance.h"
#include "upstream/budget.h"
#include "upstream/latency.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define SERVERS 4u

static struct balance_server list[SERVERS];
static int64_t current[SERVERS];

static int set_up(void **state)
{
    (void)state;
    memset(current, 0, sizeof(current));
    for (unsigned i = 0; i < SERVERS; i++)
        list[i] = (struct balance_server){ .index = i, .weight = 1000, .hash = 77 * (i + 1), .current = &current[i] };
    return 0;
}

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545F4914F6CDD1Du;
}

static void test_round_robin(void **state)
{
    /* Equal weights: strictly in turn, beginning where the loop says. */
    (void)state;
    for (unsigned i = 0; i < 12; i++)
        assert_int_equal(balance_pick(BALANCE_ROUND_ROBIN, list, SERVERS, 1, 0, 0), (1 + i) % SERVERS);
}

static void test_round_robin_weights(void **state)
{
    /* Weights 5, 1, 1, 1: the heavy one gets five of eight, never all five in a row. */
    unsigned counts[SERVERS] = { 0 }, row = 0;

    (void)state;
    list[0].weight = 5000;
    for (unsigned i = 0; i < 800; i++) {
        unsigned at = balance_pick(BALANCE_ROUND_ROBIN, list, SERVERS, 0, 0, 0);

        counts[at]++;
        row = at == 0 ? row + 1 : 0;
        assert_true(row < 5);
    }
    assert_int_equal(counts[0], 500);
    assert_int_equal(counts[1], 100);
}

static void test_least(void **state)
{
    /* Of two the one with fewer requests per weight is taken; loads even out over many. */
    uint64_t random = 99;
    uint32_t most = 0, least = UINT32_MAX;

    (void)state;
    for (unsigned i = 0; i < 4000; i++)
        list[balance_pick(BALANCE_LEAST_REQUESTS, list, SERVERS, 0, next_random(&random), 0)].in_flight++;
    for (unsigned i = 0; i < SERVERS; i++) {
        most = list[i].in_flight > most ? list[i].in_flight : most;
        least = list[i].in_flight < least ? list[i].in_flight : least;
    }
    assert_true(most - least < 20);
    list[1].in_flight = 100000;
    for (unsigned i = 0; i < 1000; i++)
        assert_int_not_equal(balance_pick(BALANCE_LEAST_REQUESTS, list, 4, 0, next_random(&random), 0), 1);
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(balance_pick(BALANCE_LEAST_REQUESTS, list, 2, 0, next_random(&random), 0), 0);
}

static void test_hash(void **state)
{
    /* A key keeps its server; taking one away moves only its keys; keys spread evenly and by weight. */
    struct balance_server rest[SERVERS - 1] = { list[0], list[1], list[3] };
    unsigned counts[SERVERS] = { 0 };

    (void)state;
    for (uint64_t key = 1; key <= 8000; key++) {
        unsigned with = list[balance_pick(BALANCE_HASH, list, SERVERS, 0, key * 31, key)].index;
        unsigned without = rest[balance_pick(BALANCE_HASH, rest, SERVERS - 1, 0, 0, key)].index;

        counts[with]++;
        if (with != 2)
            assert_int_equal(with, without);
    }
    for (unsigned i = 0; i < SERVERS; i++)
        assert_in_range(counts[i], 1800, 2200);
    memset(counts, 0, sizeof(counts));
    list[3].weight = 250;
    for (uint64_t key = 1; key <= 13000; key++)
        counts[balance_pick(BALANCE_HASH, list, SERVERS, 0, 0, key)]++;
    assert_in_range(counts[3], 850, 1150);
}

static void test_budget(void **state)
{
    /* 20 % of requests plus 10 a second, with a burst of at most one second and a hundred requests. */
    struct budget budget;
    unsigned taken = 0;

    (void)state;
    budget_init(&budget, 20, 10, 5000);
    while (budget_take(&budget, 5000))
        taken++;
    assert_int_equal(taken, 10);
    for (int i = 0; i < 50; i++)
        budget_deposit(&budget);
    for (taken = 0; budget_take(&budget, 5000);)
        taken++;
    assert_int_equal(taken, 10);
    for (taken = 0; budget_take(&budget, 5500);)
        taken++;
    assert_int_equal(taken, 5);
    assert_false(budget_take(&budget, 4000)); /* a clock behind gives nothing, and takes nothing */
    for (taken = 0; budget_take(&budget, 600000);)
        taken++;
    assert_int_equal(taken, 10);
    for (int i = 0; i < 100000; i++)
        budget_deposit(&budget);
    for (taken = 0; budget_take(&budget, 600000);)
        taken++;
    assert_int_equal(taken, 30);
}

static void test_budget_none(void **state)
{
    /* A budget of nothing allows nothing. */
    struct budget budget;

    (void)state;
    budget_init(&budget, 0, 0, 0);
    budget_deposit(&budget);
    assert_false(budget_take(&budget, 1000000));
}

static void test_latency(void **state)
{
    /* The value that 95 % stay below, to within a fifth; unknown while there are few; old answers are forgotten. */
    struct latency latency;

    (void)state;
    memset(&latency, 0, sizeof(latency));
    for (unsigned i = 0; i < 31; i++)
        latency_note(&latency, 20000);
    assert_int_equal(latency_p95_ms(&latency), 0);
    for (unsigned i = 0; i < 169; i++)
        latency_note(&latency, 20000);
    for (unsigned i = 0; i < 9; i++)
        latency_note(&latency, 900000);
    assert_in_range(latency_p95_ms(&latency), 20, 26);
    for (unsigned i = 0; i < 5; i++)
        latency_note(&latency, 900000);
    assert_in_range(latency_p95_ms(&latency), 900, 1100);
    for (unsigned i = 0; i < 6000; i++)
        latency_note(&latency, 5);
    assert_int_equal(latency_p95_ms(&latency), 1);
    for (unsigned i = 0; i < 6000; i++)
        latency_note(&latency, UINT64_MAX);
    assert_true(latency_p95_ms(&latency) > 60000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_round_robin, set_up),
        cmocka_unit_test_setup(test_round_robin_weights, set_up),
        cmocka_unit_test_setup(test_least, set_up),
        cmocka_unit_test_setup(test_hash, set_up),
        cmocka_unit_test(test_budget),
        cmocka_unit_test(test_budget_none),
        cmocka_unit_test(test_latency),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
