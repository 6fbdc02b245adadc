/* Hedging: a request whose answer is late is sent to a second server as well; the first head wins, the other request is
 * dropped.
 *
 * The second attempt is an exchange of its own (the twin) that wakes the first one's task. While neither has a head the first
 * one leads. When the twin's head comes first the exchange becomes a mere front: every call goes to the twin
 * (exchange_live()). When the first one fails meanwhile it waits for the twin before it says so. */
#include "upstream/exchange_internal.h"

#include "base/clock.h"

void exchange_hedge_arm(struct exchange *x)
{
    const struct exchange_request *request = &x->request;
    uint32_t late_ms;

    if (!x->upstream->options.hedge || (request->method != METHOD_GET && request->method != METHOD_HEAD) ||
        request->body != BODY_NONE || request->upgrade || !request->replayable)
        return;
    late_ms = latency_p95_ms(&x->upstream->latency);
    if (late_ms)
        timer_set(&x->late, late_ms);
}

void exchange_hedge_note(struct exchange *x)
{
    if (x->upstream->options.hedge && !x->check)
        latency_note(&x->upstream->latency, clock_mono_us() - x->started_us);
}

void exchange_hedge_drop(struct exchange *x)
{
    timer_clear(&x->late);
    if (x->twin && !x->twin_won) {
        exchange_close(x->twin);
        x->twin = NULL;
    }
}

/* Late, and another server could do it. */
static void send_twin(struct exchange *x)
{
    uint32_t tried = x->tried | 1u << x->choice.server;

    timer_clear(&x->late);
    if (!x->conn || x->step >= X_INTERIM || x->interim_count || x->twin || !choose_possible(x->pool, tried) ||
        !budget_take(&x->upstream->hedge_budget, loop_now_ms(x->pool->loop)))
        return;
    if (exchange_start_twin(&x->twin, x, tried) == 0)
        pool_count(x->pool, POOL_HEDGES, 1);
}

static void let_twin_win(struct exchange *x)
{
    pool_leave_queue(x->pool, &x->place);
    dns_cancel(&x->dns);
    timer_clear(&x->timer);
    timer_clear(&x->total);
    timer_clear(&x->late);
    exchange_drop_conn(x);
    exchange_judge_end(x, EXCHANGE_OK); /* no head: says nothing about its server */
    x->step = X_TWIN;
    x->twin_won = true;
    x->twin->owner = x->owner;
    x->twin->timing.hedged = true;
    pool_count(x->pool, POOL_HEDGES_WON, 1);
    task_wake(x->owner);
}

void exchange_hedge_look(struct exchange *x)
{
    if (x->late.fired)
        send_twin(x);
    if (!x->twin || x->twin_won)
        return;
    if (x->twin->have_head) {
        let_twin_win(x);
    } else if (x->twin->step == X_FAILED) {
        exchange_close(x->twin);
        x->twin = NULL;
        if (x->step != X_TWIN)
            return;
        x->step = X_FAILED;
        task_wake(x->owner);
    }
}
