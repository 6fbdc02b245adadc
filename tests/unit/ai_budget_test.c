/* Budgets: all or none, never more than the limit, and the same number to the micro-unit in budget, rows and sums, also after kill -9. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ai/budget.h"
#include "ai/ledger.h"
#include "base/check.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define DAY_MS 86400000LL
#define NOW (20000 * DAY_MS + 1000) /* 2024-10-04 */

static struct loop *loop;
static struct budgets *budgets;
static char reason_memory[256];

static int begin(void **state)
{
    (void)state;
    return loop_new(&loop, 0);
}

static int end(void **state)
{
    (void)state;
    budget_free(budgets);
    budgets = NULL;
    loop_free(loop);
    return 0;
}

static void make(const struct budget_rule *rules, unsigned count)
{
    struct budget_options options = { .rules = rules, .count = count };
    struct text reason = TEXT_ON(reason_memory);

    if (budget_new(&options, &budgets, &reason) < 0)
        fail_msg("%s", text_str(&reason));
}

static struct budget_refusal refusal;

static int take(const char *tenant, const char *key, const char *model, int64_t money, uint64_t tokens, int64_t now,
                struct reservation *ret)
{
    struct budget_identity identity = { view_str(tenant), view_str(key), view_str(model) };

    return budget_reserve(budgets, loop, now, &identity, money, tokens, ret, &refusal);
}

struct found {
    const char *name, *tenant;
    struct budget_view view;
    unsigned count;
};

static void find(const struct budget_view *view, void *arg)
{
    struct found *found = arg;

    if (!view_eq(view->name, view_str(found->name)) || !view_eq(view->tenant, view_str(found->tenant)))
        return;
    found->view = *view;
    found->count++;
}

static struct budget_view seen(const char *name, const char *tenant, int64_t now)
{
    struct found found = { .name = name, .tenant = tenant };

    budget_each(budgets, now, find, &found);
    assert_int_equal(found.count, 1);
    return found.view;
}

static void all_or_none(void **unused)
{
    /* A request is held on every budget that fits, or, when one of them refuses, on none; the refusal says which and until when. */
    const struct budget_rule rules[] = {
        { .name = VIEW("all"), .limit = 1000, .window = BUDGET_MONTH },
        { .name = VIEW("acme"), .tenant = VIEW("acme"), .limit = 100, .window = BUDGET_DAY },
        { .name = VIEW("tokens"), .model = VIEW("gpt-*"), .unit = BUDGET_TOKENS, .limit = 50, .window = BUDGET_TOTAL },
    };
    struct reservation a = { 0 }, b = { 0 };

    (void)unused;
    make(rules, 3);
    assert_int_equal(take("acme", "k", "gpt-4", 60, 30, NOW, &a), 0);
    assert_int_equal(a.count, 3);
    assert_int_equal(take("acme", "k", "gpt-4", 41, 1, NOW, &b), -EDQUOT);
    assert_string_equal(refusal.name, "acme");
    assert_int_equal(refusal.used, 60);
    assert_int_equal(refusal.resets_ms, 20001 * DAY_MS);
    assert_int_equal(take("other", "k", "gpt-4", 1, 21, NOW, &b), -EDQUOT);
    assert_string_equal(refusal.name, "tokens");
    assert_int_equal(refusal.resets_ms, 0);
    assert_int_equal(b.count, 0);
    assert_int_equal(seen("all", "", NOW).reserved, 60);
    assert_int_equal(take("acme", "k", "claude", 40, 1000, NOW, &b), 0);
    budget_settle(budgets, &a, 25, 12);
    budget_settle(budgets, &a, 25, 12); /* harmless */
    budget_settle(budgets, &b, 0, 0);
    assert_int_equal(seen("all", "", NOW).reserved, 0);
    assert_int_equal(seen("all", "", NOW).spent, 25);
    assert_int_equal(seen("tokens", "", NOW).spent, 12);
    assert_int_equal(seen("acme", "", NOW).refused, 1);
    /* What costs nothing is not refused for money. */
    assert_int_equal(take("acme", "k", "claude", 75, 0, NOW, &a), 0);
    assert_int_equal(take("acme", "k", "claude", 0, 9, NOW, &b), 0);
    budget_settle(budgets, &a, 75, 0);
    budget_settle(budgets, &b, 0, 9);
}

static void overshoots_are_recorded(void **unused)
{
    /* What was more than its bound is spent all the same, and told; a soft budget counts and lets through. */
    const struct budget_rule rules[] = {
        { .name = VIEW("hard"), .limit = 100 },
        { .name = VIEW("soft"), .limit = 10, .soft = true },
    };
    struct reservation a = { 0 };
    struct budget_view view;

    (void)unused;
    make(rules, 2);
    assert_int_equal(take("t", "k", "m", 60, 0, NOW, &a), 0);
    budget_settle(budgets, &a, 75, 0);
    assert_int_equal(take("t", "k", "m", 20, 0, NOW, &a), 0);
    budget_settle(budgets, &a, 120, 0);
    view = seen("hard", "", NOW);
    assert_int_equal(view.spent, 195);
    assert_int_equal(view.overshoots, 2);
    assert_int_equal(view.overshoot_max, 100);
    assert_int_equal(view.overshoot_sum, 115);
    assert_int_equal(seen("soft", "", NOW).soft_exceeded, 2);
    assert_int_equal(take("t", "k", "m", 1, 0, NOW, &a), -EDQUOT);
}

static void each_has_its_own(void **unused)
{
    /* A budget for each tenant is one for each, and there are no more of them than allowed. */
    const struct budget_rule rule = { .name = VIEW("each"), .each_tenant = true, .limit = 10 };
    struct budget_options options = { .rules = &rule, .count = 1, .instances = 600 };
    struct text reason = TEXT_ON(reason_memory);
    struct reservation a = { 0 };
    char tenant[16];

    (void)unused;
    assert_int_equal(budget_new(&options, &budgets, &reason), 0);
    for (int i = 0; i < 600; i++) {
        snprintf(tenant, sizeof(tenant), "t%d", i);
        assert_int_equal(take(tenant, "k", "m", 10, 0, NOW, &a), 0);
        assert_int_equal(take(tenant, "k", "m", 1, 0, NOW, &a), -EDQUOT);
        budget_settle(budgets, &a, 10, 0);
    }
    assert_int_equal(seen("each", "t77", NOW).spent, 10);
    assert_int_equal(take("new", "k", "m", 1, 0, NOW, &a), -ENOMEM);
    budget_settle(budgets, &a, 0, 0);
}

static void windows_begin_anew(void **unused)
{
    /* At midnight (UTC) a day's budget is full again; a request of before is settled where it was reserved, late ones are told. */
    const struct budget_rule rules[] = {
        { .name = VIEW("day"), .limit = 100 },
        { .name = VIEW("month"), .limit = 1000, .window = BUDGET_MONTH },
    };
    int64_t eve = 20000 * DAY_MS - 1, next = 20000 * DAY_MS;
    struct reservation a = { 0 }, b = { 0 }, c = { 0 };

    (void)unused;
    make(rules, 2);
    assert_int_equal(take("t", "k", "m", 90, 0, eve, &a), 0);
    assert_int_equal(take("t", "k", "m", 90, 0, next, &b), 0);
    assert_int_equal(seen("day", "", next).reserved, 90);
    assert_int_equal(take("t", "k", "m", 11, 0, eve, &c), -EDQUOT); /* began before midnight: the old window's */
    assert_int_equal(take("t", "k", "m", 10, 0, eve, &c), 0);
    budget_settle(budgets, &c, 10, 0);
    budget_settle(budgets, &a, 80, 0);
    assert_int_equal(seen("day", "", next).spent, 0);
    budget_settle(budgets, &b, 70, 0);
    assert_int_equal(seen("day", "", next).spent, 70);
    assert_int_equal(seen("month", "", next).spent, 160);
    assert_int_equal(take("t", "k", "m", 5, 0, next, &a), 0);
    assert_int_equal(take("t", "k", "m", 5, 0, next + 2 * DAY_MS, &b), 0);
    assert_int_equal(take("t", "k", "m", 5, 0, next + 4 * DAY_MS, &c), 0);
    budget_settle(budgets, &a, 5, 0);
    assert_int_equal(seen("day", "", next + 4 * DAY_MS).late, 1);
    budget_settle(budgets, &b, 5, 0);
    budget_settle(budgets, &c, 5, 0);
    assert_int_equal(budget_resets_ms(BUDGET_MONTH, NOW), 20028 * DAY_MS); /* 2024-11-01 */
}

static void rules_change_in_use(void **unused)
{
    /* A reload keeps what was spent where the same is counted, forgets what is gone, refuses what makes no sense. */
    struct budget_rule rules[] = { { .name = VIEW("a"), .limit = 100 }, { .name = VIEW("b"), .limit = 100 } };
    struct text reason = TEXT_ON(reason_memory);
    struct reservation a = { 0 }, b = { 0 };

    (void)unused;
    make(rules, 2);
    assert_int_equal(take("t", "k", "m", 60, 0, NOW, &a), 0);
    rules[0].limit = 70;
    assert_int_equal(budget_set_rules(budgets, rules, 1, &reason), 0);
    assert_int_equal(take("t", "k", "m", 11, 0, NOW, &b), -EDQUOT);
    assert_int_equal(take("t", "k", "m", 10, 0, NOW, &b), 0);
    assert_int_equal(b.count, 1);
    budget_settle(budgets, &a, 60, 0);
    budget_settle(budgets, &b, 10, 0);
    rules[1].name = VIEW("a");
    assert_int_equal(budget_set_rules(budgets, rules, 2, &reason), -EINVAL);
    assert_non_null(strstr(text_str(&reason), "another one has this name"));
    assert_int_equal(seen("a", "", NOW).spent, 70);
}

/* ---- with the ledger ---- */

static const struct budget_rule ledger_rules[] = {
    { .name = VIEW("all"), .limit = INT64_MAX, .window = BUDGET_TOTAL },
    { .name = VIEW("each"), .each_tenant = true, .limit = INT64_MAX, .window = BUDGET_MONTH },
    { .name = VIEW("tokens"), .unit = BUDGET_TOKENS, .limit = INT64_MAX, .window = BUDGET_DAY },
};

static struct state *open_state(const char *path)
{
    struct text reason = TEXT_ON(reason_memory);
    struct state *state;

    CHECK(state_open(view_str(path), &state, &reason) == 0);
    return state;
}

static void stop_soon(struct loop *l, struct message *message)
{
    (void)message;
    loop_stop(l);
}

/* Makes requests, closes the ledger (so that all is committed), tells the sums, and is killed without closing anything else. */
static void make_requests(const char *path, int to)
{
    struct ledger_options options = { .state = open_state(path), .retention_days = 100000 };
    struct message stop = { .handle = stop_soon };
    struct ledger *ledger;
    int64_t totals[2] = { 0 };
    unsigned seed = 5;

    make(ledger_rules, 3);
    CHECK(ledger_new(&options, &ledger) == 0);
    for (int i = 0; i < 1000; i++) {
        int64_t cost = rand_r(&seed) % 1000000;
        uint64_t tokens = (uint64_t)rand_r(&seed) % 5000;
        const char *tenant = i % 2 ? "a" : "b";
        struct ledger_row row = { .time_ms = NOW + i,
                                  .tenant = view_str(tenant),
                                  .key = VIEW("k"),
                                  .model = VIEW("m"),
                                  .cost = cost,
                                  .tokens = tokens };
        struct reservation r = { 0 };

        CHECK(take(tenant, "k", "m", 2000000, 9000, row.time_ms, &r) == 0);
        budget_settle(budgets, &r, cost, tokens);
        ledger_write(ledger, loop, &row);
        totals[0] += cost;
        totals[1] += (int64_t)tokens;
    }
    loop_post(loop, &stop);
    loop_run(loop);
    ledger_loop_close(ledger, loop);
    ledger_close(ledger);
    CHECK(seen("all", "", NOW).spent == totals[0]);
    CHECK(seen("tokens", "", NOW).spent == totals[1]);
    CHECK(write(to, totals, sizeof(totals)) == sizeof(totals));
    _exit(0);
}

static void add_cost(const struct ledger_row *row, int64_t id, void *arg)
{
    (void)id;
    *(int64_t *)arg += row->cost;
}

static void ledger_and_budget_agree(void **unused)
{
    /* 1000 random requests: what was settled, the rows, the sums and the budgets of a node that starts after a kill are the same. */
    char folder[] = "/tmp/doorstep-budget-XXXXXX", path[64], command[64];
    struct state_ledger_query query = { .limit = 333 };
    int64_t totals[2], rows = 0;
    struct state *state;
    int ends[2], status;

    (void)unused;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/state", folder);
    assert_int_equal(pipe(ends), 0);
    if (fork() == 0)
        make_requests(path, ends[1]);
    assert_int_equal(read(ends[0], totals, sizeof(totals)), sizeof(totals));
    wait(&status);
    close(ends[0]);
    close(ends[1]);
    state = open_state(path);
    make(ledger_rules, 3);
    assert_int_equal(budget_restore(budgets, state, NOW + 5000), 0);
    assert_int_equal(budget_restore(budgets, state, NOW + 5000), 0); /* not twice */
    do {
        assert_int_equal(state_ledger_page(state, &query, add_cost, &rows, &query.after), 0);
    } while (query.after);
    assert_int_equal(rows, totals[0]);
    assert_int_equal(seen("all", "", NOW).spent, totals[0]);
    assert_int_equal(seen("each", "a", NOW).spent + seen("each", "b", NOW).spent, totals[0]);
    assert_int_equal(seen("tokens", "", NOW).spent, totals[1]);
    budget_free(budgets);
    make(ledger_rules, 3);
    assert_int_equal(budget_restore(budgets, state, NOW + 40 * DAY_MS), 0);
    assert_int_equal(seen("all", "", NOW + 40 * DAY_MS).spent, totals[0]);
    state_close(state);
    snprintf(command, sizeof(command), "rm -rf %s", folder);
    assert_int_equal(system(command), 0);
}

/* ---- threads ---- */

static _Atomic int64_t spent, held;

static void *spend(void *arg)
{
    unsigned seed = (unsigned)(uintptr_t)arg;
    struct loop *own;

    assert_int_equal(loop_new(&own, 0), 0);
    for (int i = 0; i < 5000; i++) {
        struct budget_identity identity = { VIEW("t"), VIEW("k"), VIEW("m") };
        struct budget_refusal why;
        struct reservation r = { 0 };
        int64_t bound = 1 + rand_r(&seed) % 20, cost = rand_r(&seed) % (bound + 1);

        if (budget_reserve(budgets, own, NOW, &identity, bound, 1, &r, &why) < 0)
            continue;
        CHECK(atomic_fetch_add(&held, bound) + bound <= 10000 + 4 * 20);
        spent += cost;
        atomic_fetch_sub(&held, bound - cost);
        budget_settle(budgets, &r, cost, 1);
    }
    loop_free(own);
    return NULL;
}

static void threads_never_exceed(void **unused)
{
    /* Several threads at once: never more than the limit is out, and in the end what was settled is what is spent. */
    const struct budget_rule rules[] = { { .name = VIEW("money"), .limit = 10000 },
                                         { .name = VIEW("tokens"), .unit = BUDGET_TOKENS, .limit = 1000000 } };
    pthread_t threads[4];

    (void)unused;
    make(rules, 2);
    spent = held = 0;
    for (uintptr_t i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, spend, (void *)(i + 1));
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(seen("money", "", NOW).spent, spent);
    assert_int_equal(seen("money", "", NOW).reserved, 0);
    assert_true(spent <= 10000);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(all_or_none),         TEST(overshoots_are_recorded), TEST(each_has_its_own),     TEST(windows_begin_anew),
        TEST(rules_change_in_use), TEST(ledger_and_budget_agree), TEST(threads_never_exceed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
