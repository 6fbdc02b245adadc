/* The timing wheel with time as an argument: nothing early, nothing lost, extensions lazily refiled. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "loop/loop.h"
#include "loop/timers.h"

#include <stdlib.h>

static struct loop *loop;

static int open_loop(void **state)
{
    (void)state;
    return loop_new(&loop, 0);
}

static int close_loop(void **state)
{
    (void)state;
    loop_free(loop);
    return 0;
}

static void nothing(struct task *task)
{
    (void)task;
}

struct probe {
    struct task task;
    struct timer timer;
};

static void probe_init(struct probe *p)
{
    task_init(&p->task, loop, nothing);
    timer_init(&p->timer, &p->task);
}

static void probe_end(struct probe *p)
{
    task_cancel(&p->task);
    timer_clear(&p->timer);
}

static void never_early_never_lost(void **state)
{
    /* Whatever the distance, a timer has not fired one millisecond before its time and has 8 ms after. */
    static const uint64_t distances[] = {
        1,     3,     4,     5,       250,     255,     256,      257,      1000,
        16383, 16384, 60000, 1048575, 1048576, 4000000, 67108864, 90000000, 400000000
    };
    uint64_t start = 1000003;
    struct timers wheel;
    struct probe p;

    (void)state;
    probe_init(&p);
    for (size_t i = 0; i < ARRAY_LEN(distances); i++) {
        timers_init(&wheel, start);
        p.timer.expires_ms = start + distances[i];
        p.timer.fired = false;
        timers_file(&wheel, &p.timer);
        timers_fire(&wheel, start + distances[i] - 1);
        assert_false(p.timer.fired);
        timers_fire(&wheel, start + distances[i] + 8);
        assert_true(p.timer.fired);
        task_cancel(&p.task);
    }
    probe_end(&p);
}

static void extended_timer_waits(void **state)
{
    /* Pushing a timer forward without refiling it must not let it fire at the old time. */
    struct timers wheel;
    struct probe p;

    (void)state;
    probe_init(&p);
    timers_init(&wheel, 5000);
    p.timer.expires_ms = 5100;
    timers_file(&wheel, &p.timer);
    p.timer.expires_ms = 9000;
    timers_fire(&wheel, 6000);
    assert_false(p.timer.fired);
    timers_fire(&wheel, 9010);
    assert_true(p.timer.fired);
    probe_end(&p);
}

static void next_covers_every_timer(void **state)
{
    /* Sleeping for what timers_next_ms() says, again and again, fires every timer within a tick of its time. */
    struct timers wheel;
    struct probe probes[64];
    uint64_t now = 777, fired = 0;

    (void)state;
    srandom(7);
    timers_init(&wheel, now);
    for (size_t i = 0; i < ARRAY_LEN(probes); i++) {
        probe_init(&probes[i]);
        probes[i].timer.expires_ms = now + 1 + (uint64_t)random() % 3000000;
        timers_file(&wheel, &probes[i].timer);
    }
    for (int turns = 0; fired < ARRAY_LEN(probes); turns++) {
        int wait = timers_next_ms(&wheel, now);

        assert_true(wait >= 0 && turns < 100000);
        now += (uint64_t)wait;
        timers_fire(&wheel, now);
        for (size_t i = 0; i < ARRAY_LEN(probes); i++)
            if (probes[i].timer.fired) {
                assert_in_range(now, probes[i].timer.expires_ms, probes[i].timer.expires_ms + 8);
                probes[i].timer.fired = false;
                fired++;
            }
    }
    assert_int_equal(timers_next_ms(&wheel, now), -1);
    for (size_t i = 0; i < ARRAY_LEN(probes); i++)
        probe_end(&probes[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(never_early_never_lost),
        cmocka_unit_test(extended_timer_waits),
        cmocka_unit_test(next_covers_every_timer),
    };

    return cmocka_run_group_tests(tests, open_loop, close_loop);
}
