/* The circuit breaker, with times of our own. */
#include "upstream/breaker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct breaker breaker;
static struct breaker_options options;
static uint64_t now;

static int set_up(void **state)
{
    (void)state;
    breaker_options_init(&options);
    breaker_init(&breaker, &options, 7);
    now = 1000000;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    breaker_end(&breaker);
    return 0;
}

static void renew(void)
{
    breaker_end(&breaker);
    breaker_init(&breaker, &options, 7);
}

static enum breaker_state state_now(void)
{
    struct breaker_view view;

    breaker_look(&breaker, now, &view);
    return view.state;
}

static uint64_t open_for(void)
{
    struct breaker_view view;

    breaker_look(&breaker, now, &view);
    return view.open_for_ms;
}

/* One request that must be let through. */
static bool request(enum breaker_outcome outcome, uint64_t took_ms)
{
    struct breaker_ticket ticket;

    assert_true(breaker_admit(&breaker, now, &ticket));
    breaker_report(&breaker, ticket, outcome, took_ms, now);
    return ticket.probe;
}

static void fail_times(unsigned count)
{
    while (count--)
        request(BREAKER_FAILED, 0);
}

static bool is_refused(void)
{
    struct breaker_ticket ticket;

    return !breaker_may(&breaker, now) && !breaker_admit(&breaker, now, &ticket);
}

static void test_consecutive(void **state)
{
    /* Five failures in a row open it, four and a success do not. */
    (void)state;
    fail_times(4);
    request(BREAKER_GOOD, 1);
    fail_times(4);
    assert_int_equal(state_now(), BREAKER_CLOSED);
    fail_times(1);
    assert_int_equal(state_now(), BREAKER_OPEN);
    assert_true(is_refused());
    assert_true(breaker_is_open(&breaker, now));
}

static void test_ratio(void **state)
{
    /* Half of ten failing within 30 s opens it; fewer requests, or failures longer ago, do not. */
    (void)state;
    for (int i = 0; i < 4; i++) {
        request(BREAKER_GOOD, 1);
        request(BREAKER_FAILED, 1);
    }
    assert_int_equal(state_now(), BREAKER_CLOSED);
    now += 40000;
    request(BREAKER_GOOD, 1);
    request(BREAKER_FAILED, 1);
    assert_int_equal(state_now(), BREAKER_CLOSED);
    for (int i = 0; i < 4; i++) {
        request(BREAKER_GOOD, 1);
        assert_int_equal(state_now(), BREAKER_CLOSED);
        request(BREAKER_FAILED, 1);
    }
    assert_int_equal(state_now(), BREAKER_OPEN);
}

static void test_good_answer_never_opens(void **state)
{
    /* Many failures under the rules' limits followed by a good answer: the good one is not what opens it. */
    (void)state;
    options.failures = 0;
    renew();
    fail_times(9);
    request(BREAKER_GOOD, 1);
    assert_int_equal(state_now(), BREAKER_CLOSED);
    fail_times(1);
    assert_int_equal(state_now(), BREAKER_OPEN);
}

static void test_slow(void **state)
{
    /* With `slow` set, a share of slow answers opens it although every one was good; a slow probe opens it again. */
    struct breaker_ticket probe;

    (void)state;
    options.slow_ms = 100;
    renew();
    for (int i = 0; i < 5; i++)
        request(BREAKER_GOOD, 100);
    for (int i = 0; i < 4; i++)
        request(BREAKER_GOOD, 101);
    assert_int_equal(state_now(), BREAKER_CLOSED);
    request(BREAKER_GOOD, 101);
    assert_int_equal(state_now(), BREAKER_OPEN);
    now += open_for();
    assert_true(breaker_admit(&breaker, now, &probe));
    breaker_report(&breaker, probe, BREAKER_GOOD, 500, now);
    assert_int_equal(state_now(), BREAKER_OPEN);
}

static void test_open_times(void **state)
{
    /* It stays open 30 s times n with 10 % jitter, never more than 300 s, and never less than 27. */
    (void)state;
    fail_times(5);
    for (uint64_t n = 1; n < 30; n++) {
        uint64_t whole = n * 30000 > 300000 ? 300000 : n * 30000, wait = open_for();

        assert_in_range(wait, whole * 9 / 10, whole * 11 / 10 > 300000 ? 300000 : whole * 11 / 10);
        now += wait - 1;
        assert_true(is_refused());
        now += 1;
        assert_true(request(BREAKER_FAILED, 0));
    }
}

static void test_half_open(void **state)
{
    /* One probe at a time; two good ones close it, and traffic grows from 20 to 100 %. */
    struct breaker_ticket probe;

    (void)state;
    fail_times(5);
    now += open_for();
    assert_true(breaker_admit(&breaker, now, &probe));
    assert_true(probe.probe);
    assert_int_equal(state_now(), BREAKER_HALF_OPEN);
    assert_true(is_refused());
    breaker_report(&breaker, probe, BREAKER_GOOD, 1, now);
    assert_int_equal(state_now(), BREAKER_HALF_OPEN);
    assert_true(request(BREAKER_GOOD, 1));
    assert_int_equal(state_now(), BREAKER_RAMP);
    assert_int_equal(breaker_share(&breaker, now), 200);
    now += options.ramp_ms / 2;
    assert_int_equal(breaker_share(&breaker, now), 600);
    assert_false(request(BREAKER_GOOD, 1));
    now += options.ramp_ms / 2;
    assert_int_equal(breaker_share(&breaker, now), 1000);
    assert_int_equal(state_now(), BREAKER_CLOSED);
}

static void test_lost_probe(void **state)
{
    /* A probe that ends without a verdict makes room at once; one that never reports is given up after a while. */
    struct breaker_ticket probe;

    (void)state;
    fail_times(5);
    now += open_for();
    assert_true(breaker_admit(&breaker, now, &probe));
    breaker_report(&breaker, probe, BREAKER_NOTHING, 0, now);
    assert_true(breaker_admit(&breaker, now, &probe));
    now += options.open_ms - 1;
    assert_true(is_refused());
    now += 1;
    assert_true(breaker_admit(&breaker, now, &probe));
}

static void test_late_news(void **state)
{
    /* Requests let through before it opened say nothing about the state it is in when they end. */
    struct breaker_ticket early, probe;

    (void)state;
    assert_true(breaker_admit(&breaker, now, &early));
    fail_times(5);
    now += open_for();
    breaker_report(&breaker, early, BREAKER_GOOD, 1, now);
    assert_int_equal(state_now(), BREAKER_OPEN);
    assert_true(breaker_admit(&breaker, now, &probe));
    breaker_report(&breaker, early, BREAKER_FAILED, 1, now);
    assert_int_equal(state_now(), BREAKER_HALF_OPEN);
    breaker_report(&breaker, probe, BREAKER_GOOD, 1, now);
    request(BREAKER_GOOD, 1);
    breaker_report(&breaker, early, BREAKER_FAILED, 1, now);
    assert_int_equal(state_now(), BREAKER_RAMP);
}

static void test_cancels(void **state)
{
    /* What a client gave up counts neither way: failures in a row stay in a row. */
    (void)state;
    fail_times(4);
    for (int i = 0; i < 100; i++)
        request(BREAKER_NOTHING, 0);
    fail_times(1);
    assert_int_equal(state_now(), BREAKER_OPEN);
}

static void test_flapping(void **state)
{
    /* Failing again in the ramp lengthens the next open time; after long good behaviour it starts over. */
    (void)state;
    fail_times(5);
    now += open_for();
    request(BREAKER_GOOD, 1);
    request(BREAKER_GOOD, 1);
    now += 2000;
    fail_times(5);
    assert_in_range(open_for(), 54000, 66000);
    now += open_for();
    request(BREAKER_GOOD, 1);
    request(BREAKER_GOOD, 1);
    now += 3600000;
    fail_times(5);
    assert_in_range(open_for(), 27000, 33000);
}

static void test_force(void **state)
{
    /* By hand: open refuses for ever, closed lets everything through, auto starts over. */
    struct breaker_view view;

    (void)state;
    breaker_force(&breaker, BREAKER_FORCE_OPEN, now);
    now += 100000000;
    assert_true(is_refused());
    breaker_look(&breaker, now, &view);
    assert_int_equal(view.forced, BREAKER_FORCE_OPEN);
    assert_int_equal(view.state, BREAKER_OPEN);
    breaker_force(&breaker, BREAKER_FORCE_CLOSED, now);
    fail_times(50);
    assert_int_equal(state_now(), BREAKER_CLOSED);
    breaker_force(&breaker, BREAKER_AUTO, now);
    fail_times(4);
    assert_int_equal(state_now(), BREAKER_CLOSED);
    fail_times(1);
    assert_int_equal(state_now(), BREAKER_OPEN);
}

static void test_disabled(void **state)
{
    /* Switched off it never opens by itself. */
    (void)state;
    options.enabled = false;
    renew();
    fail_times(1000);
    assert_int_equal(state_now(), BREAKER_CLOSED);
}

static void test_clock_behind(void **state)
{
    /* A loop whose clock lies a little behind the one that changed the state breaks nothing. */
    (void)state;
    fail_times(5);
    now += open_for();
    request(BREAKER_GOOD, 1);
    request(BREAKER_GOOD, 1);
    now -= 5;
    assert_int_equal(breaker_share(&breaker, now), 200);
    assert_int_equal(state_now(), BREAKER_RAMP);
    fail_times(5);
    assert_in_range(open_for(), 54000, 66000);
}

static void test_inherit(void **state)
{
    /* A changed configuration goes on where the old one was: the open time, by-hand switches, failures in a row. */
    struct breaker heir;
    struct breaker_view view;
    struct breaker_ticket probe;

    (void)state;
    breaker_init(&heir, &options, 3);
    fail_times(5);
    breaker_inherit(&heir, &breaker);
    assert_true(breaker_is_open(&heir, now));
    now += open_for();
    assert_true(breaker_admit(&breaker, now, &probe));
    breaker_inherit(&heir, &breaker); /* that probe is not the heir's */
    assert_true(breaker_admit(&heir, now, &probe));
    assert_true(probe.probe);
    breaker_force(&breaker, BREAKER_FORCE_OPEN, now);
    heir.options.enabled = false;
    breaker_inherit(&heir, &breaker);
    breaker_look(&heir, now, &view);
    assert_int_equal(view.forced, BREAKER_FORCE_OPEN);
    assert_false(breaker_may(&heir, now + 1000000));
    breaker_end(&heir);
}

static void *storm(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < 20000; i++) {
        struct breaker_ticket ticket;
        uint64_t at = now + i;

        if (breaker_admit(&breaker, at, &ticket))
            breaker_report(&breaker, ticket, (i / 64) % 3 ? BREAKER_GOOD : BREAKER_FAILED, 1, at);
    }
    return NULL;
}

static void test_threads(void **state)
{
    /* Loops that report at the same time leave a breaker that still works (for the race detector, mostly). */
    pthread_t threads[4];

    (void)state;
    options.open_ms = 10;
    options.ramp_ms = 5;
    renew();
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, storm, NULL), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    now += 1000000;
    for (int i = 0; i < 2 && state_now() != BREAKER_CLOSED; i++)
        request(BREAKER_GOOD, 1);
    now += 1000;
    assert_int_equal(state_now(), BREAKER_CLOSED);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_consecutive),  TEST(test_ratio),      TEST(test_good_answer_never_opens),
        TEST(test_slow),         TEST(test_open_times), TEST(test_half_open),
        TEST(test_lost_probe),   TEST(test_late_news),  TEST(test_cancels),
        TEST(test_flapping),     TEST(test_force),      TEST(test_disabled),
        TEST(test_clock_behind), TEST(test_threads),    TEST(test_inherit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
