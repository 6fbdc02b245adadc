/* Which server an exchange goes to, whether it is tried again, and what the breakers learn from it.
 *
 *   happened                                             then
 *   a kept connection had been closed by the origin      once more, at once, on a new connection; costs no budget
 *   no connection could be made; nothing was sent        another server, else the same one after a pause; any method
 *   no answer on a new connection, or none in time       another server, when the request may be repeated
 *   a status that counts as failure                      the same, when the upstream asks for it, safe methods only
 *   a byte of the body was handed over, or of an answer  never
 *
 * Every attempt is told to its server's breaker once; the exchange as a whole, once, to the upstream's. */
#include "upstream/exchange_internal.h"

#include "base/clock.h"

#include <errno.h>

#define BACKOFF_MS 25u
#define BACKOFF_MAX_MS 250u

static bool has_own_breaker(const struct upstream *up)
{
    return up->srv_count > 0 || upstream_slots(up) > 1;
}

/* Its servers stand in SRV records that nobody has answered about yet. */
static bool is_nameless(const struct upstream *up)
{
    return up->srv_count > 0 && up->keeper_loop && !atomic_load_explicit(&up->srv_answered, memory_order_relaxed);
}

int exchange_choose(struct exchange *x)
{
    struct choose_ask ask = { .tried = x->tried, .key = x->request.key_hash, .replayable = x->request.replayable };
    uint64_t now = loop_now_ms(x->pool->loop);

    if (is_nameless(x->upstream) && clock_mono_us() - x->started_us < x->upstream->options.timeouts.dns_ms * 1000u)
        return -EAGAIN;
    if (x->same)
        return choose_same(x->pool, x->choice.server, &x->choice);
    if (!x->has_whole && has_own_breaker(x->upstream)) {
        uint32_t share = breaker_share(&x->upstream->breaker, now);

        if ((share < 1000 && pool_random(x->pool) % 1000 >= share) ||
            !breaker_admit(&x->upstream->breaker, now, &x->whole))
            return -ENOENT;
        x->has_whole = true;
    }
    return choose_server(x->pool, &ask, &x->choice);
}

/* ---- what the breakers learn ---- */

/* Whose fault it was: NOTHING when it says little about the server (our limits, one response that is too large). */
static enum breaker_outcome outcome_of(enum exchange_error error)
{
    switch (error) {
    case EXCHANGE_OK: return BREAKER_GOOD;
    case EXCHANGE_CONNECTION_LIMIT:
    case EXCHANGE_HEAD_TOO_LARGE:
    case EXCHANGE_INTERNAL:
    case EXCHANGE_DESTINATION_UNAVAILABLE:
    case EXCHANGE_ERROR_COUNT: return BREAKER_NOTHING;
    default: return BREAKER_FAILED;
    }
}

static void report_whole(struct exchange *x, enum breaker_outcome outcome)
{
    uint64_t now = loop_now_ms(x->pool->loop);

    if (x->has_whole)
        breaker_report(&x->upstream->breaker, x->whole, outcome, choice_took(&x->choice, now), now);
    x->has_whole = false;
}

static bool is_failure_status(const struct upstream *up, unsigned status)
{
    for (unsigned i = 0; i < UPSTREAM_STATUSES_MAX && up->options.breaker_statuses[i]; i++)
        if (up->options.breaker_statuses[i] == status)
            return true;
    return false;
}

bool exchange_judge_head(struct exchange *x)
{
    bool failed = is_failure_status(x->upstream, x->response.status);

    if (failed && x->upstream->options.retry_statuses &&
        (x->request.method == METHOD_GET || x->request.method == METHOD_HEAD) &&
        exchange_try_again(x, EXCHANGE_RESPONSE_INCOMPLETE))
        return true;
    if (failed) {
        exchange_hedge_drop(x);
        choose_report(x->pool, &x->choice, BREAKER_FAILED);
        report_whole(x, BREAKER_FAILED);
        return false;
    }
    exchange_hedge_drop(x);
    exchange_hedge_note(x);
    x->choice.answered_ms = loop_now_ms(x->pool->loop);
    /* A probe is judged by its head: a body that takes for ever must not keep the breaker half-open. */
    if (x->choice.ticket.probe)
        choose_report(x->pool, &x->choice, BREAKER_GOOD);
    if (x->has_whole && x->whole.probe)
        report_whole(x, BREAKER_GOOD);
    return false;
}

void exchange_judge_end(struct exchange *x, enum exchange_error error)
{
    enum breaker_outcome outcome = error == EXCHANGE_OK && !x->have_head ? BREAKER_NOTHING : outcome_of(error);

    if (x->deadline_over)
        outcome = BREAKER_NOTHING; /* it was the asker who had no more time */
    choose_report(x->pool, &x->choice, outcome);
    choose_end(x->pool, &x->choice);
    report_whole(x, outcome);
}

/* ---- again ---- */

/* RFC 9110 §9.2.2 and RFC 9112 §9.3.1: what never left may be sent by any method; what may have arrived only when it is
 * idempotent. A body that the owner has begun to hand over cannot be asked for again. */
static bool is_repeatable(const struct exchange *x)
{
    return !x->body_started && x->interim_count == 0 && (!x->sent_any || x->request.replayable);
}

/* A kept connection that ends without an answer says only that the origin had closed it. */
static bool is_stale(const struct exchange *x)
{
    return x->timing.reused && !x->renewed;
}

static bool may_go_elsewhere(const struct exchange *x)
{
    return choose_possible(x->pool, x->tried | 1u << x->choice.server);
}

static bool may_go_back(const struct exchange *x, enum exchange_error error)
{
    return !x->sent_any && x->addresses.count <= 1 &&
           (error == EXCHANGE_CONNECTION_REFUSED || error == EXCHANGE_CONNECTION_TERMINATED);
}

bool exchange_may_retry(const struct exchange *x)
{
    if (!is_repeatable(x))
        return false;
    return is_stale(x) || (x->retries < x->upstream->options.retries &&
                           (may_go_elsewhere(x) || may_go_back(x, EXCHANGE_CONNECTION_TERMINATED)));
}

static void start_over(struct exchange *x)
{
    exchange_drop_conn(x);
    x->sent_any = x->write_dead = x->write_blocked = false;
    x->scanned = 0;
    x->chunk_left = x->frame_len = 0;
    x->timing.first_byte_us = 0;
    x->phase_us = clock_mono_us();
    timer_clear(&x->timer);
    pool_count(x->pool, POOL_RETRIES, 1);
    x->step = X_ACQUIRE;
}

static void pause_before(struct exchange *x)
{
    uint32_t most = MIN(BACKOFF_MS << MIN(x->retries, (uint8_t)8), BACKOFF_MAX_MS);

    exchange_arm(x, most / 2 + pool_random(x->pool) % (most / 2) + 1);
    x->step = X_BACKOFF;
}

bool exchange_try_again(struct exchange *x, enum exchange_error error)
{
    bool elsewhere;

    if (x->check || !is_repeatable(x)) /* the end tells the breaker */
        return false;
    if (error == EXCHANGE_CONNECTION_TERMINATED && is_stale(x)) {
        x->renewed = x->fresh = true;
        start_over(x);
        return true;
    }
    choose_report(x->pool, &x->choice, outcome_of(error));
    elsewhere = may_go_elsewhere(x);
    if (x->retries >= x->upstream->options.retries || (!elsewhere && !may_go_back(x, error)) ||
        !budget_take(&x->upstream->retry_budget, loop_now_ms(x->pool->loop)))
        return false;
    x->retries++;
    x->tried |= 1u << x->choice.server;
    x->fresh = false;
    x->same = !elsewhere;
    choose_end(x->pool, &x->choice);
    start_over(x);
    if (x->same)
        pause_before(x);
    return true;
}
