/* The gateway's steps. One small loop drives them; a step that cannot go on returns WAIT and the request's task is woken.
 *
 *   CANDIDATE -> CLIMB -> SEMANTIC -> RESERVE -> FILL -> WAIT -> ANSWER
 *        ^---------------------------------------------------'  the call failed before its first content: the next candidate
 *
 * A hit goes from CANDIDATE to ANSWER in one turn, without a lock. */
#include "ai/gateway_internal.h"

#include "base/clock.h"
#include "base/heap.h"
#include "cache/freshness.h"

#include <errno.h>

#define ASK_ARENA_MAX ((size_t)256 * 1024)
#define RESERVE_PAUSE_MS 5u

enum go { GO_ON, GO_WAIT };

/* ---- candidates ---- */

static void leave_fill(struct service_call *q)
{
    fill_leave(q->reader);
    q->reader = NULL;
    q->collapsed = false;
    if (!q->object_held)
        q->object = NULL;
}

static enum go next_candidate(struct service_call *q)
{
    q->at++;
    q->step = ASK_CANDIDATE;
    return GO_ON;
}

/* An answer that was paid for once before. */
static void save(struct service_call *q, const struct ai_usage *usage)
{
    struct ledger_row *row = &q->account->row;

    q->saved = account_worth(q->account, q->candidate->provider->name, q->model, usage);
    row->input = usage->input;
    row->cached = usage->cached;
    row->cache_write = usage->cache_write;
    row->output = usage->output;
    row->reasoning = usage->reasoning;
    row->estimated = !usage->known;
    row->saved = q->saved;
}

void ask_use_hit(struct service_call *q)
{
    struct ai_usage usage;

    q->hit = true;
    if (!q->looked_up_us)
        q->looked_up_us = clock_mono_us() - q->in.started_us;
    if (ask_stored_usage(q->object, &usage))
        save(q, &usage);
    ask_use_object(q);
}

void ask_name(struct service_call *q, struct ai_candidate *candidate)
{
    q->candidate = candidate;
    q->model = candidate->model.len ? candidate->model : q->plain_model;
}

/* Nobody could answer: what is stored and too old may be better than nothing; else the last one's own words. */
static enum go nobody(struct service_call *q)
{
    if (q->stale) {
        leave_fill(q);
        ask_name(q, q->stale_of);
        q->object = q->stale;
        q->object_held = true;
        q->stale = NULL;
        q->is_stale = true;
        ask_use_hit(q);
        return GO_ON;
    }
    if (q->failed) {
        ask_name(q, q->failed_of);
        q->object = q->failed;
        q->object_held = true;
        q->failed = NULL;
        ask_use_object(q);
        return GO_ON;
    }
    q->dead_end = q->dead_end && !q->later && !q->tried;
    if (q->cc.flags & CC_ONLY_IF_CACHED)
        ask_refuse(q, 504, NULL, VIEW("the answer is not stored, and only-if-cached asks for no other"), "not_cached");
    else if (q->cut_short)
        ask_refuse(q, 502, NULL, VIEW("the provider's answer was cut short or is not sound"), NULL);
    else if (q->candidate_count == 0)
        ask_refuse(
            q, q->parsed ? 404 : 503, NULL,
            q->parsed
                ? VIEW("no configured model or provider fits this request: its model is unknown here, or none of its "
                       "candidates can do what is asked")
                : VIEW("no provider of this dialect is configured"),
            "model_not_found");
    else if (q->dead_end)
        ask_refuse(q, 502, NULL,
                   VIEW("the provider accepts none of this node's credentials; who runs the node has to mend that"),
                   "credential");
    else if (q->timed_out)
        ask_refuse(q, 504, NULL, VIEW("no provider answered in time"), NULL);
    else
        ask_refuse(q, q->tried && !q->wait_ms ? 502 : 503, NULL, VIEW("no provider can be reached now"), NULL);
    return GO_ON;
}

/* Spans cost the clock only where somebody records them. */
static uint64_t span_clock(const struct service_call *q)
{
    return q->account->spans ? clock_mono_us() : 0;
}

static void add_span(struct service_call *q, enum ai_span what, bool good)
{
    ai_spans_add(q->account->spans, what, q->since_us, good);
    q->since_us = 0;
}

/* Nobody has the answer to these very words. */
static enum ask_step after_miss(struct service_call *q)
{
    if (!ask_semantic_wanted(q))
        return ASK_RESERVE;
    q->semantic_step = SEM_START;
    q->alias_key = (struct key){ 0 };
    object_unref(q->candidate_answer);
    q->candidate_answer = NULL;
    q->since_us = span_clock(q);
    return ASK_SEMANTIC;
}

static bool find(struct service_call *q)
{
    bool found;

    q->since_us = span_clock(q);
    found = ask_find(q);
    add_span(q, AI_SPAN_MEMORY, found);
    return found;
}

static enum go step_candidate(struct service_call *q)
{
    if (q->at >= q->candidate_count || (q->at >= q->last_resort && q->stale))
        return nobody(q);
    ask_name(q, q->candidates[q->at]);
    q->looked_up_us = 0;
    if (q->parsed && !ask_make_key(q)) {
        ask_refuse(q, 503, NULL, VIEW("out of memory"), NULL);
        return GO_ON;
    }
    if (!ask_may_look(q)) {
        q->step = ASK_RESERVE;
        return GO_ON;
    }
    if (find(q)) {
        ask_use_hit(q);
        return GO_ON;
    }
    if (ask_begin_climb(q) == ASK_CLIMB_STARTED) {
        q->since_us = span_clock(q);
        q->step = ASK_CLIMB;
    } else {
        q->step = after_miss(q);
    }
    return GO_ON;
}

/* The rungs are asked one after the other: the first from the beginning, the last to the end. */
static void add_climb(struct service_call *q, bool found)
{
    struct ai_spans *spans = q->account->spans;
    uint64_t now = span_clock(q);

    if (q->raised.disk_us)
        ai_spans_put(spans, AI_SPAN_DISK, q->since_us, q->since_us + q->raised.disk_us,
                     found && q->raised.rung == RUNG_DISK);
    if (q->raised.shared_us)
        ai_spans_put(spans, AI_SPAN_SHARED, now - MIN(now, (uint64_t)q->raised.shared_us), now,
                     found && q->raised.rung == RUNG_SHARED);
    q->since_us = 0;
}

static enum go step_climb(struct service_call *q)
{
    bool found;

    if (!ladder_answer(&q->climb, &q->raised))
        return GO_WAIT;
    ladder_leave(&q->climb);
    q->disk_us += q->raised.disk_us;
    q->shared_us += q->raised.shared_us;
    found = ask_find(q);
    add_climb(q, found);
    if (found)
        ask_use_hit(q);
    else
        q->step = after_miss(q);
    return GO_ON;
}

static enum go step_semantic(struct service_call *q)
{
    if (!ask_semantic(q))
        return GO_WAIT;
    add_span(q, AI_SPAN_SEMANTIC, q->semantic_hit);
    return GO_ON;
}

/* ---- asking ---- */

static enum go step_reserve(struct service_call *q)
{
    int r;

    if (!q->looked_up_us)
        q->looked_up_us = clock_mono_us() - q->in.started_us;
    if (q->cc.flags & CC_ONLY_IF_CACHED)
        return next_candidate(q);
    if (ask_join(q) == 0) {
        q->since_us = span_clock(q);
        q->step = ASK_WAIT;
        return GO_ON;
    }
    if (!ask_candidate_is_up(q, q->candidate))
        return next_candidate(q);
    r = ask_reserve(q);
    if (r == -EAGAIN) {
        q->since_us = q->since_us ? q->since_us : span_clock(q);
        timer_set(&q->timer, RESERVE_PAUSE_MS);
        return GO_WAIT;
    }
    if (q->since_us)
        add_span(q, AI_SPAN_BUDGET, r == 0);
    if (r == 0)
        q->step = ASK_FILL;
    return GO_ON;
}

static enum go step_fill(struct service_call *q)
{
    int r = ask_fill(q);

    if (r == 0) {
        q->step = ASK_WAIT;
        ask_hedge_arm(q);
    } else if (r == -EALREADY || r == -ESTALE) {
        q->no_lookup = q->no_lookup || ++q->restarts > 4;
        q->step = ASK_CANDIDATE;
    } else if (r == -ENOTSUP) {
        budget_settle(q->gateway->options.money.budgets, &q->reservation, 0, 0);
        return next_candidate(q);
    } else if (q->step != ASK_ANSWER) {
        ask_refuse(q, 503, NULL, VIEW("out of memory"), NULL);
    }
    return GO_ON;
}

static enum go step_wait(struct service_call *q)
{
    struct fill_view look;

    if (ask_hedge(q))
        return GO_ON;
    fill_look(q->reader, &look);
    if (look.outcome == FILL_UNDECIDED)
        return GO_WAIT;
    if (q->since_us)
        add_span(q, AI_SPAN_COLLAPSED, !ask_has_failed(&look));
    if (ask_has_failed(&look)) {
        if (look.outcome == FILL_ERROR)
            q->timed_out = fill_error(q->reader) == EXCHANGE_RESPONSE_TIMEOUT;
        if (look.object) {
            if (look.phase != FILL_DONE && look.phase != FILL_FAILED)
                return GO_WAIT; /* an error's body is short, and worth having whole */
            object_unref(q->failed);
            q->failed = object_ref(look.object);
            q->failed_of = q->candidate;
        }
        leave_fill(q);
        if (ask_hedge_take_over(q))
            return GO_ON;
        timer_clear(&q->timer);
        return next_candidate(q);
    }
    timer_clear(&q->timer);
    ask_hedge_end(q);
    q->object = look.object;
    q->stored = look.outcome == FILL_STORING && !look.doomed;
    ask_use_object(q);
    return GO_ON;
}

/* ---- the service ---- */

/* The client has seen nothing of the answer that broke. */
static enum go start_over(struct service_call *q)
{
    buf_free(&q->gathered);
    q->cursor = (struct object_cursor){ 0 };
    q->stored = false;
    q->cut_short = true;
    leave_fill(q);
    return next_candidate(q);
}

/* What is stored cannot be said in the form that is asked for: as if nothing were. */
static enum go ask_anew(struct service_call *q)
{
    struct ledger_row *row = &q->account->row;

    object_unref(q->object);
    q->object = NULL;
    q->object_held = false;
    q->cursor = (struct object_cursor){ 0 };
    q->hit = q->is_stale = q->semantic_hit = false;
    q->cut_short = true;
    q->saved = row->saved = 0;
    row->input = row->cached = row->cache_write = row->output = row->reasoning = 0;
    q->no_lookup = true;
    q->step = ASK_CANDIDATE;
    return GO_ON;
}

static enum go step_answer(struct service_call *q)
{
    int r;

    if (q->form != ASK_CONVERT)
        return GO_WAIT;
    r = ask_convert(q);
    if (r == -EAGAIN)
        return GO_WAIT;
    if (r == -EIO && q->reader)
        return start_over(q);
    if (r == -EIO && q->hit)
        return ask_anew(q);
    if (r < 0)
        ask_refuse(q, 502, NULL, VIEW("the provider's answer was cut short"), NULL);
    return GO_WAIT;
}

static void advance(struct service_call *q)
{
    static enum go (*const steps[ASK_STEPS])(struct service_call *) = {
        [ASK_CANDIDATE] = step_candidate, [ASK_CLIMB] = step_climb, [ASK_SEMANTIC] = step_semantic,
        [ASK_RESERVE] = step_reserve,     [ASK_FILL] = step_fill,   [ASK_WAIT] = step_wait,
        [ASK_ANSWER] = step_answer,
    };

    while (steps[q->step](q) == GO_ON)
        ;
}

/* What was done so far is known to be reading, and asking whether it may. */
static void begin_spans(struct service_call *q, bool good)
{
    if (!q->account)
        return;
    /* What may not be written down here is not told to a collector either. */
    q->account->spans =
        ai_spans_begin(ask_is_passing(q) ? NULL : q->gateway->options.tracer,
                       fields_value(&q->request.fields, FIELD_TRACEPARENT), q->in.started_us, q->in.now_ms, &q->trace);
    ai_spans_add(q->account->spans, AI_SPAN_AUTH, q->in.started_us, good);
}

static int gateway_open(void *arg, const void *route, struct loop *loop, struct task *task,
                        const struct service_request *request, struct service_call **ret)
{
    struct service_call *q = heap_alloc(sizeof(*q));
    int r;

    if (!q)
        return -ENOMEM;
    memset(q, 0, offsetof(struct service_call, memory));
    arena_init(&q->arena, q->memory, sizeof(q->memory), ASK_ARENA_MAX);
    q->gateway = arg;
    q->route = route;
    q->config = q->route->config;
    q->loop = loop;
    q->task = task;
    q->in = *request;
    q->request = *request->request;
    timer_init(&q->timer, task);
    *ret = q;
    r = ask_read(q);
    if (q->in.discreet)
        *q->in.discreet = ask_is_passing(q);
    begin_spans(q, r == 0);
    if (r < 0)
        return 0;
    q->plain_model = q->facts.model;
    q->url = ask_url(q);
    ask_choose_candidates(q);
    return 0;
}

static bool length_of(struct service_call *q, uint64_t *ret)
{
    struct object *object = q->object;

    if (q->form == ASK_TEXT && !q->streams) {
        *ret = q->out.len;
        return true;
    }
    if (q->form != ASK_OBJECT || q->streams || !(atomic_load(&object->flags) & OBJECT_COMPLETE))
        return false;
    *ret = atomic_load(&object->body_len);
    return true;
}

static int gateway_head(struct service_call *q, struct service_head *ret)
{
    advance(q);
    if (q->step != ASK_ANSWER || q->form == ASK_CONVERT)
        return -EAGAIN;
    if (!ask_write_fields(q))
        return -ENOMEM;
    *ret = (struct service_head){
        .status = q->status,
        .fields = text_view(&q->fields),
        .hit = q->hit,
        .collapsed = q->collapsed,
        .stored = q->stored,
        .refused = q->refused,
        .rung = q->hit ? rung_name(q->rung) : VIEW_NONE,
        .upstream = q->reader && q->candidate ? q->candidate->provider->name : VIEW_NONE,
    };
    ret->length_known = length_of(q, &ret->length);
    return 0;
}

static ssize_t gateway_read(struct service_call *q, struct view *ret)
{
    ssize_t got = ask_next(q, ret);

    if (got == 0)
        q->ended = true;
    return got;
}

static void gateway_took(struct service_call *q, size_t len)
{
    ask_took(q, len);
}

/* ---- the end ---- */

static enum ledger_outcome outcome_of(const struct service_call *q)
{
    if (!q->ended)
        return LEDGER_DISCONNECTED;
    if (q->refused)
        return q->tried ? LEDGER_ERROR : LEDGER_REFUSED;
    if (q->hit)
        return LEDGER_HIT;
    if (q->local)
        return LEDGER_OK;
    if (q->status != 200)
        return LEDGER_ERROR;
    return q->collapsed ? LEDGER_COLLAPSED : LEDGER_OK;
}

static void write_row(struct service_call *q)
{
    static const enum ledger_tier tiers[] = {
        [RUNG_MEMORY] = LEDGER_TIER_MEMORY, [RUNG_DISK] = LEDGER_TIER_DISK, [RUNG_SHARED] = LEDGER_TIER_SHARED
    };
    struct ledger_row *row = &q->account->row;
    struct ai_usage usage;

    if (q->collapsed && q->ended && q->status == 200 && row->attempts == 0 && ask_peek_usage(q, &usage))
        save(q, &usage);
    if (q->candidate) {
        row->provider = account_text(q->account, q->candidate->provider->name);
        row->model = account_text(q->account, q->model);
        row->region = account_text(q->account, q->candidate->provider->region);
    }
    if (q->refused && row->error_class.len == 0)
        row->error_class = account_text(q->account, view_str(q->reason));
    row->status = q->status;
    row->outcome = (uint8_t)outcome_of(q);
    row->tier = (uint8_t)(q->semantic_hit ? LEDGER_TIER_SEMANTIC : q->hit ? tiers[q->rung] : LEDGER_TIER_NONE);
    row->similarity = q->semantic_hit ? (uint16_t)(q->match.similarity * 10000) : 0;
    row->duration_us = (int64_t)(clock_mono_us() - q->in.started_us);
}

static void gateway_close(struct service_call *q)
{
    timer_clear(&q->timer);
    ladder_leave(&q->climb);
    if (q->account) {
        write_row(q);
        budget_settle(q->gateway->options.money.budgets, &q->reservation, 0, 0);
    }
    /* The account after the fill: its call is settled when it lets go, now if nobody else reads. */
    ask_semantic_learn(q);
    ask_semantic_end(q);
    if (!q->object_held)
        q->object = NULL;
    fill_leave(q->reader);
    fill_leave(q->rival.reader);
    account_unref(q->account);
    object_unref(q->object);
    object_unref(q->raised.object);
    object_unref(q->stale);
    object_unref(q->failed);
    if (q->form == ASK_FILTER)
        replay_free(&q->replay);
    ai_facts_free(&q->facts);
    json_free(&q->doc);
    buf_free(&q->aliased);
    buf_free(&q->forced);
    buf_free(&q->redacted);
    buf_free(&q->out);
    buf_free(&q->gathered);
    arena_release(&q->arena);
    heap_free(q);
}

int ai_gateway_new(const struct ai_gateway_options *options, struct ai_gateway **ret)
{
    struct ai_gateway *gateway = heap_zalloc(sizeof(*gateway));

    if (!gateway)
        return -ENOMEM;
    gateway->options = *options;
    gateway->service = (struct service){
        .arg = gateway,
        .open = gateway_open,
        .head = gateway_head,
        .read = gateway_read,
        .took = gateway_took,
        .close = gateway_close,
    };
    *ret = gateway;
    return 0;
}

void ai_gateway_free(struct ai_gateway *gateway)
{
    heap_free(gateway);
}

const struct service *ai_gateway_service(const struct ai_gateway *gateway)
{
    return &gateway->service;
}
