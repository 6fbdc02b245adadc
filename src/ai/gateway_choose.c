/* Whom to ask, in which order: the candidates of an alias, or the provider that a model's name leads to, less those that cannot do what is
 * asked, or may not. When nobody is left the client is told why. */
#include "ai/gateway_internal.h"

#include "ai/classify.h"
#include "ai/provider.h"
#include "ai/translate.h"
#include "base/clock.h"
#include "base/glob.h"

#include <errno.h>

/* A slow candidate is given one request after so long, so that it can show that it is no longer slow. */
#define PROBE_AFTER_MS 10000u
#define ANY_RUNG (-1)

static const struct view rungs[] = { { "device", 6 }, { "edge", 4 }, { "cloud", 5 } };

struct choice {
    struct service_call *q;
    int rung; /* the only one the caller wants */
    unsigned mute, elsewhere, too_small,
        lacking; /* candidates that were left out, and why; mute: of another interface */
    struct ai_candidate *last[AI_CANDIDATES_MAX]; /* on `device`, when the caller wants a rung above it */
    unsigned last_count;
};

/* ---- who can ---- */

static void put(struct choice *c, struct ai_candidate *candidate)
{
    struct service_call *q = c->q;
    enum ai_endpoint unused;

    if (q->candidate_count == AI_CANDIDATES_MAX)
        return;
    if (!ask_endpoint(q, candidate->provider, &unused))
        c->mute++;
    else if (!ask_admits(q, candidate))
        q->barred++;
    else if (c->rung != ANY_RUNG && c->rung != (int)candidate->provider->rung &&
             (candidate->provider->rung != AI_DEVICE || !q->alias))
        c->elsewhere++;
    else if (candidate->context && q->facts.prompt_bytes / 4 + q->facts.max_tokens > candidate->context)
        c->too_small++;
    else if (((q->facts.has_tools || q->facts.has_tool_turns) && !candidate->tools) ||
             (q->facts.has_images && !candidate->images) || (q->facts.wants_schema && !candidate->schema))
        c->lacking++;
    else if (c->rung != ANY_RUNG && c->rung != (int)candidate->provider->rung)
        c->last[c->last_count++] = candidate;
    else
        q->candidates[q->candidate_count++] = candidate;
}

static bool serves(const struct ai_provider *provider, struct view model)
{
    for (size_t i = 0; i < provider->model_count; i++)
        if (glob_match(provider->models[i], model))
            return true;
    return provider->model_count == 0;
}

/* "provider/model" names both; else providers of the client's dialect come first. */
static void choose_direct(struct choice *c)
{
    struct service_call *q = c->q;
    const struct ai_config *config = q->config;
    struct view rest = q->facts.model, name = view_cut(&rest, '/');

    for (unsigned i = 0; rest.ptr && i < config->provider_count; i++) {
        if (view_eq(config->providers[i].name, name)) {
            q->plain_model = rest;
            put(c, &config->direct[i]);
            return;
        }
    }
    for (int other = 0; other < 2; other++)
        for (unsigned i = 0; i < config->provider_count && !q->candidate_count; i++)
            if ((config->providers[i].dialect != q->dialect) == other &&
                (!q->parsed || serves(&config->providers[i], q->facts.model)))
                put(c, &config->direct[i]);
}

/* ---- in which order ---- */

/* By weight: the first is drawn, the others follow in the order of the list. */
static unsigned draw(const struct ai_model *model)
{
    uint64_t sum = 0, ticket;

    for (unsigned i = 0; i < model->candidate_count; i++)
        sum += model->candidates[i].weight;
    ticket = sum ? hash64(view_make((const char *)&(uint64_t){ clock_mono_us() }, 8)) % sum : 0;
    for (unsigned i = 0; i < model->candidate_count; i++) {
        if (ticket < model->candidates[i].weight)
            return i;
        ticket -= model->candidates[i].weight;
    }
    return 0;
}

static bool is_late(struct ai_candidate *candidate)
{
    uint32_t expected = atomic_load_explicit(&candidate->first_content_us, memory_order_relaxed);
    uint64_t measured = atomic_load_explicit(&candidate->measured_ms, memory_order_relaxed), now;

    if (!candidate->latency_ms || expected / 1000 <= candidate->latency_ms)
        return false;
    now = clock_mono_ms();
    return now - MIN(now, measured) < PROBE_AFTER_MS ||
           !atomic_compare_exchange_strong_explicit(&candidate->measured_ms, &measured, now, memory_order_relaxed,
                                                    memory_order_relaxed);
}

static bool is_hard(struct service_call *q, const struct ai_model *model)
{
    struct classify_prompt prompt = { .bytes = q->facts.prompt_bytes,
                                      .turns = q->facts.turns,
                                      .languages = model->languages };
    struct buf text = buf_make(SIZE_MAX);
    struct classify_score score;

    if (q->facts.last_user_at) {
        prompt.text = json_plain(&q->doc, q->facts.last_user_at);
        if (!prompt.text.ptr && json_decode(&q->doc, q->facts.last_user_at, &text))
            prompt.text = buf_view(&text);
    }
    ai_classify(&prompt, &score);
    buf_free(&text);
    return score.total >= model->threshold;
}

/* Slow ones after the others; and for a prompt that seems hard, `device` after everybody. */
static void arrange(struct service_call *q, bool hard)
{
    struct ai_candidate *ordered[AI_CANDIDATES_MAX];
    unsigned char ranks[AI_CANDIDATES_MAX];
    unsigned count = 0;

    for (unsigned i = 0; i < q->candidate_count; i++)
        ranks[i] =
            (unsigned char)(is_late(q->candidates[i]) + 2 * (hard && q->candidates[i]->provider->rung == AI_DEVICE));
    for (unsigned rank = 0; rank < 4; rank++)
        for (unsigned i = 0; i < q->candidate_count; i++)
            if (ranks[i] == rank)
                ordered[count++] = q->candidates[i];
    for (unsigned i = 0; i < count; i++)
        q->candidates[i] = ordered[i];
}

static void choose_of(struct choice *c, struct ai_model *model)
{
    unsigned first = model->order == AI_WEIGHTED ? draw(model) : 0;

    c->q->alias = model;
    if (model->hedges)
        budget_deposit(&model->hedge_budget);
    if (first < model->candidate_count)
        put(c, &model->candidates[first]);
    for (unsigned k = 0; k < model->candidate_count; k++)
        if (k != first)
            put(c, &model->candidates[k]);
    if (c->q->candidate_count > 1)
        arrange(c->q, model->escalates && c->q->parsed && c->rung == ANY_RUNG && is_hard(c->q, model));
}

static struct ai_model *find_model(const struct service_call *q)
{
    for (unsigned i = 0; i < q->config->model_count; i++)
        if (view_eq(q->config->models[i].name, q->facts.model))
            return &q->config->models[i];
    return NULL;
}

/* ---- nobody ---- */

/* Those who could answer cannot count. */
static void estimate(struct service_call *q)
{
    q->step = ASK_ANSWER;
    q->form = ASK_TEXT;
    q->status = 200;
    q->local = true;
    q->out = buf_make(64);
    buf_lit(&q->out, "{\"input_tokens\":");
    buf_u64(&q->out, translate_count_estimate(&q->doc));
    buf_char(&q->out, '}');
}

static void refuse_interface(struct service_call *q)
{
    char memory[128];
    struct text message = TEXT_ON(memory);

    text_lit(&message, "the providers of this model do not speak this interface: ");
    text_put(&message, ai_endpoint_path(q->endpoint));
    ask_refuse(q, 400, NULL, text_view(&message), "unsupported_interface");
}

static void refuse(const struct choice *c)
{
    struct service_call *q = c->q;

    if (q->barred)
        ask_refuse_barred(q);
    else if (c->too_small)
        ask_refuse(q, 400, NULL,
                   VIEW("the prompt and the answer it asks for are too long for every model that could take them"),
                   "context_length_exceeded");
    else if (c->lacking)
        ask_refuse(q, 400, NULL, VIEW("this model cannot do what is asked: tools, images or answers to a schema"),
                   "unsupported_feature");
    else if (c->elsewhere)
        ask_refuse(q, 400, NULL, VIEW("nobody on the rung that Doorstep-AI-Tier names answers for this model"),
                   "tier_not_available");
    else if (c->mute && q->endpoint == AI_COUNT_TOKENS)
        estimate(q);
    else if (c->mute && q->parsed)
        refuse_interface(q);
}

/* False: refused. */
static bool read_rung(struct choice *c)
{
    const struct field *wanted = fields_find(&c->q->request.fields, VIEW("Doorstep-AI-Tier"));

    if (!wanted)
        return true;
    for (size_t i = 0; i < ARRAY_LEN(rungs); i++)
        if (view_eq_icase(view_trim(wanted->value), rungs[i]))
            c->rung = (int)i;
    if (c->rung == ANY_RUNG)
        ask_refuse(c->q, 400, NULL, VIEW("Doorstep-AI-Tier is one of device, edge, cloud"), "invalid_tier");
    return c->rung != ANY_RUNG;
}

void ask_choose_candidates(struct service_call *q)
{
    struct choice c = { .q = q, .rung = ANY_RUNG };
    struct ai_model *model;

    if (!read_rung(&c))
        return;
    model = find_model(q);
    if (model)
        choose_of(&c, model);
    else
        choose_direct(&c);
    if (q->candidate_count == 0) {
        c.elsewhere += c.last_count;
        refuse(&c);
        return;
    }
    /* Who wants more than this machine has gets what there is when nothing above it answers. */
    q->last_resort = q->candidate_count;
    for (unsigned i = 0; i < c.last_count && q->candidate_count < AI_CANDIDATES_MAX; i++)
        q->candidates[q->candidate_count++] = c.last[i];
}

bool ask_candidate_is_up(struct service_call *q, struct ai_candidate *candidate)
{
    uint64_t wait = 0;
    int r;

    if (candidate->concurrency &&
        atomic_load_explicit(&candidate->in_flight, memory_order_relaxed) >= candidate->concurrency) {
        q->later = true;
        return false;
    }
    r = ai_provider_look(candidate->provider, loop_now_ms(q->loop), &wait);
    if (r == 0)
        return true;
    q->later = q->later || r == -EAGAIN;
    q->dead_end = q->dead_end || r == -ENOENT;
    if (wait)
        q->wait_ms = q->wait_ms ? MIN(q->wait_ms, wait) : wait;
    return false;
}
