/* Shared budgets against a real Redis: two nodes never spend more than the limit, slices come back, a killed node finds its own
 * again, and without Redis what is in hand and the configured share are spent, no more. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "redis_fixture.h"

#include "ai/budget.h"

/* Far enough ahead for the hashes not to be over (Redis has its own clock). */
#define AHEAD (40000 * 86400000LL)

static struct server server;

static struct budgets *node(const char *name, const struct budget_rule *rule, double share)
{
    struct budget_options options = {
        .rules = rule, .count = 1, .redis = client_redis, .node = view_str(name), .share = share
    };
    char memory[256];
    struct text reason = TEXT_ON(memory);
    struct budgets *budgets;

    assert_int_equal(budget_new(&options, &budgets, &reason), 0);
    return budgets;
}

struct attempt {
    struct budgets *budgets;
    int64_t money;
    struct reservation reservation;
    struct budget_refusal refusal;
    int result;
};

static void attempt_run(void *arg)
{
    struct attempt *a = arg;
    struct budget_identity identity = { VIEW("t{}:"), VIEW("k"), VIEW("m") };

    a->result = budget_reserve(a->budgets, bench_loop, AHEAD, &identity, a->money, 1, &a->reservation, &a->refusal);
}

/* As a request does: comes back while it is told to. */
static int spend(struct budgets *budgets, int64_t money)
{
    struct attempt a = { .budgets = budgets, .money = money };

    for (;;) {
        on_loop(attempt_run, &a);
        if (a.result != -EAGAIN)
            break;
        usleep(2000);
    }
    if (a.result == 0)
        budget_settle(budgets, &a.reservation, money, 1);
    return a.result;
}

static void close_run(void *arg)
{
    budget_loop_close(arg, bench_loop);
}

static void give_back_run(void *arg)
{
    budget_give_back(arg, bench_loop);
}

static void node_end(struct budgets *budgets)
{
    on_loop(close_run, budgets);
    budget_free(budgets);
}

static void look(const struct budget_view *view, void *arg)
{
    *(struct budget_view *)arg = *view;
}

static struct budget_view seen(struct budgets *budgets)
{
    struct budget_view view = { 0 };

    budget_each(budgets, AHEAD, look, &view);
    return view;
}

static int begin(void **state)
{
    static char path[96];

    (void)state;
    if (!server_start(&server, 0, ""))
        return -1;
    snprintf(path, sizeof(path), "%s", server.path);
    redis_open(&(struct redis_options){ .path = view_str(path), .breaker_failures = 1000 });
    return 0;
}

static int end(void **state)
{
    (void)state;
    redis_shut();
    server_end(&server);
    return 0;
}

static const struct budget_rule rule = { .name = VIEW("team"), .limit = 10000, .shared = true };

static void two_nodes_share_a_limit(void **unused)
{
    /* Two nodes that spend until both are refused have spent the limit, but for what cannot be split; none waited for long. */
    struct budgets *a = node("a", &rule, 0), *b = node("b", &rule, 0);
    int64_t spent = 0;
    int ra = 0, rb = 0;

    (void)unused;
    for (int i = 0; i < 20000 && (ra == 0 || rb == 0); i++) {
        ra = ra == 0 ? spend(a, 7) : ra;
        rb = rb == 0 ? spend(b, 3) : rb;
        spent += (ra == 0 ? 7 : 0) + (rb == 0 ? 3 : 0);
    }
    assert_int_equal(ra, -EDQUOT);
    assert_int_equal(rb, -EDQUOT);
    assert_true(spent <= 10000);
    assert_true(spent >= 10000 - 2 * 200);
    assert_int_equal(seen(a).spent + seen(b).spent, spent);
    assert_int_equal(seen(a).everywhere, 10000);
    node_end(a);
    node_end(b);
}

static void slices_come_back(void **unused)
{
    /* A node that ends gives back what it did not spend; one that is killed has it again when it starts under its name. */
    struct budgets *a = node("a", &rule, 0), *b;

    (void)unused;
    assert_int_equal(spend(a, 10), 0);
    assert_true(seen(a).granted > 10);
    on_loop(give_back_run, a);
    while (strcmp(asked(1000, "HGET doorstep:budget:{money:team:::}:day40000 *").text, "10") != 0)
        usleep(1000);
    node_end(a);
    b = node("b", &rule, 0);
    while (assert_int_equal(spend(b, 1), 0), seen(b).everywhere == 0)
        ;
    assert_true(seen(b).everywhere <= 10 + seen(b).granted);
    node_end(b); /* killed: nothing is given back */
    b = node("b", &rule, 0);
    assert_int_equal(spend(b, 1), 0);
    assert_true(seen(b).everywhere <= 10 + seen(b).granted);
    node_end(b);
}

static void without_redis_the_share_is_spent(void **unused)
{
    /* Redis gone: what is in hand, then the configured share of the limit, then no more, and it is shown; when it is back, what was
     * spent without it counts for all. */
    struct budgets *a = node("a", &rule, 0.05), *b;
    struct budget_view view;
    int64_t spent = 0;

    (void)unused;
    assert_int_equal(spend(a, 10), 0);
    spent = 10;
    server_kill(&server);
    while (spend(a, 10) == 0)
        spent += 10;
    view = seen(a);
    assert_true(view.unavailable);
    assert_true(spent > view.granted && spent <= view.granted + 500);
    assert_int_equal(view.without_lease, spent - view.granted);
    server_run(&server, "");
    b = node("b", &rule, 0);
    /* Empty now: a tells what it has spent, in its own time. */
    while (seen(a).unavailable) {
        if (spend(a, 1) == 0)
            spent++;
        usleep(20000);
    }
    assert_true(seen(a).everywhere >= spent);
    while (spend(b, 50) == 0)
        spent += 50;
    assert_true(spent <= 10000);
    node_end(a);
    node_end(b);
}

/* Until it is refused for good. */
static int64_t spend_all(struct budgets *budgets, int64_t money)
{
    int64_t spent = 0;

    for (int refused = 0; refused < 100;) {
        if (spend(budgets, money) == 0) {
            spent += money;
            continue;
        }
        refused += !seen(budgets).unavailable && seen(budgets).everywhere > 0;
        usleep(20000);
    }
    return spent;
}

static void what_redis_forgot_is_not_spent_again(void **unused)
{
    /* Redis comes back empty, and only one of two nodes goes on: what the other one spent is not there to be spent, but for a slice that
     * nobody else had heard of; and what it had in hand is not lost. */
    struct budgets *a = node("a", &rule, 0), *b = node("b", &rule, 0), *c;
    int64_t spent = 0;

    (void)unused;
    for (int i = 0; i < 400; i++) {
        assert_int_equal(spend(a, 10), 0);
        assert_int_equal(spend(b, 10), 0);
        spent += 20;
    }
    assert_int_equal(spend(a, 1), 0); /* it has heard of what b has */
    spent++;
    server_kill(&server);
    server_run(&server, "");
    spent += spend_all(a, 7);
    assert_true(spent <= 10000);
    c = node("c", &rule, 0);
    spent += spend_all(c, 7);
    assert_true(spent <= 10000);
    spent += spend_all(b, 7);
    assert_true(spent <= 10000 + 200);
    assert_true(spent >= 10000 - 3 * 200);
    assert_int_equal(seen(a).spent + seen(b).spent + seen(c).spent, spent);
    node_end(a);
    node_end(b);
    node_end(c);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(two_nodes_share_a_limit),
        TEST(slices_come_back),
        TEST(without_redis_the_share_is_spent),
        TEST(what_redis_forgot_is_not_spent_again),
    };

    if (access("/usr/bin/redis-server", X_OK) < 0)
        return 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
