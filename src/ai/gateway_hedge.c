/* Hedging: when the first content is late, the next candidate is asked as well; whoever has content first leads, the other call ends and is
 * paid for as far as it came. Only the request that started a call does so, once, and within a budget of the alias: a slow provider must
 * not double what everybody spends.
 *
 * The rival is a second fill with a key of its own. While both are under way either may fail: the other one is then what is waited for. */
#include "ai/gateway_internal.h"

#include "cache/conditional.h"

static void swap(struct service_call *q)
{
    struct ask_rival main = { .reader = q->reader,
                              .candidate = q->candidate,
                              .model = q->model,
                              .key = q->key,
                              .newest_seen = q->newest_seen,
                              .collapsed = q->collapsed };

    q->reader = q->rival.reader;
    q->candidate = q->rival.candidate;
    q->model = q->rival.model;
    q->key = q->rival.key;
    q->newest_seen = q->rival.newest_seen;
    q->collapsed = q->rival.collapsed;
    q->rival = main;
}

void ask_hedge_end(struct service_call *q)
{
    fill_leave(q->rival.reader);
    q->rival = (struct ask_rival){ 0 };
}

/* Under the rival's name. */
static void count(struct service_call *q, bool won)
{
    struct telemetry *telemetry = q->gateway->options.money.telemetry;

    if (telemetry)
        telemetry_hedge(telemetry, q->loop, q->candidate->provider->name, q->model, q->endpoint, won);
}

/* The semantic cache learns what its own candidate said, and nobody else. */
static void lead(struct service_call *q)
{
    swap(q);
    count(q, true);
    q->exact_key = q->alias_key = (struct key){ 0 };
    q->embedded = false;
}

void ask_hedge_arm(struct service_call *q)
{
    const struct ai_model *alias = q->alias;
    uint32_t late_ms;

    if (!alias || !alias->hedges || q->hedged || q->at + 1 >= q->candidate_count)
        return;
    late_ms = alias->hedge_after_ms ? alias->hedge_after_ms : latency_p95_ms(&q->candidate->latency[q->facts.stream]);
    if (late_ms)
        timer_set(&q->timer, late_ms);
}

/* A refusal for the rival is none for the request. */
static void take_back(struct service_call *q)
{
    buf_free(&q->out);
    q->form = ASK_TEXT;
    q->refused = false;
    q->status = 0;
    q->reason = NULL;
    q->step = ASK_WAIT;
}

/* Under the rival's name. False: it cannot be asked. q->hit: it need not. */
static bool begin(struct service_call *q)
{
    int r;

    if (q->parsed && !ask_make_key(q))
        return false;
    if (ask_may_look(q) && ask_find(q)) {
        ask_use_hit(q);
        return true;
    }
    if (ask_join(q) == 0)
        return true;
    r = ask_reserve(q);
    if (r == 0)
        r = ask_fill(q);
    if (r == 0)
        return true;
    budget_settle(q->gateway->options.money.budgets, &q->reservation, 0, 0);
    take_back(q);
    return false;
}

static void start_rival(struct service_call *q)
{
    unsigned next = q->at + 1, before = q->at;

    while (next < q->candidate_count && !ask_candidate_is_up(q, q->candidates[next]))
        next++;
    if (next >= q->candidate_count || !budget_take(&q->alias->hedge_budget, loop_now_ms(q->loop)))
        return;
    q->hedged = true;
    swap(q);
    q->at = next;
    ask_name(q, q->candidates[next]);
    if (begin(q)) {
        if (q->hit) {
            ask_hedge_end(q);
        } else {
            count(q, false);
            swap(q);
        }
        return;
    }
    q->at = before;
    q->reader = NULL;
    swap(q);
    q->rival = (struct ask_rival){ 0 };
}

/* The model's context is too small, whatever we had thought of the prompt: that escalates, too. */
static bool is_too_long(const struct object *object)
{
    struct view rest = object_head(object), name, value;

    while (head_next(&rest, &name, &value))
        if (view_eq_icase(name, VIEW("Doorstep-AI-Too-Long")))
            return true;
    return false;
}

bool ask_has_failed(const struct fill_view *look)
{
    if (look->outcome == FILL_ERROR)
        return true;
    if (!look->object)
        return false;
    return look->status == 429 || look->status >= 500 || (look->status >= 400 && is_too_long(look->object));
}

bool ask_hedge(struct service_call *q)
{
    struct fill_view look;

    if (q->timer.fired) {
        timer_clear(&q->timer);
        fill_look(q->reader, &look);
        if (look.outcome == FILL_UNDECIDED && !q->hedged)
            start_rival(q);
    }
    if (q->hit || !q->rival.reader)
        return q->hit;
    fill_look(q->rival.reader, &look);
    if (look.outcome == FILL_UNDECIDED)
        return false;
    if (ask_has_failed(&look)) {
        ask_hedge_end(q);
        return false;
    }
    fill_look(q->reader, &look);
    if (look.outcome != FILL_UNDECIDED && !ask_has_failed(&look))
        return false;
    lead(q);
    ask_hedge_end(q);
    return false;
}

bool ask_hedge_take_over(struct service_call *q)
{
    if (!q->rival.reader)
        return false;
    lead(q);
    q->rival = (struct ask_rival){ 0 };
    return true;
}
