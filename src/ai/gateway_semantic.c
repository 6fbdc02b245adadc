/* The semantic cache's part of a request, after every rung has missed under the exact key (docs/ai-semantic.md).
 *
 *   level 0   the canonical prompt's fingerprint is the key of an alias: a small object whose body is the exact key of an answer
 *   level 1   the vector of the last user message finds the exact key of the answer to a near prompt, when the guards agree
 *
 * Either way the answer is then looked for as any other. In shadow mode, and for a sample of hits, it is not given but kept, and compared
 * with what the provider says. */
#include "ai/gateway_internal.h"

#include "ai/answer.h"
#include "ai/canonical.h"
#include "ai/embed_remote.h"
#include "ai/provider.h"
#include "base/clock.h"
#include "base/heap.h"

#include <errno.h>
#include <stdlib.h>

#define TURNS_MAX 4u
#define ALIAS_HEAD VIEW("HTTP/1.1 200 -\r\nContent-Type: text/plain\r\n")
#define ANSWER_TEXT_MAX ((size_t)4 * 1024 * 1024)

bool ask_semantic_wanted(const struct service_call *q)
{
    const struct ai_facts *facts = &q->facts;

    /* The index is kept on disk. */
    return q->route->semantic != AI_SEMANTIC_OFF && !ask_is_passing(q) && q->gateway->options.semantic &&
           ask_may_look(q) && facts->last_user_at && !facts->has_tools && !facts->has_tool_turns &&
           !facts->has_images && !facts->has_audio && !facts->has_files && facts->turns <= TURNS_MAX &&
           q->endpoint != AI_EMBEDDINGS && q->endpoint != AI_COUNT_TOKENS;
}

/* ---- keys ---- */

static bool last_user(struct service_call *q, struct buf *out)
{
    *out = buf_make(CANONICAL_TEXT_MAX + 1);
    return json_decode(&q->doc, q->facts.last_user_at, out) && !out->failed;
}

/* False: this prompt has no canonical form, or memory is out. */
static bool make_alias_key(struct service_call *q)
{
    struct buf text, canonical = buf_make(CANONICAL_TEXT_MAX + 1);
    bool made = last_user(q, &text) && ai_canonical(buf_view(&text), &canonical) == 0 &&
                ask_fingerprint(q, FINGERPRINT_CANONICAL, buf_view(&canonical), &q->alias_key);

    buf_free(&text);
    buf_free(&canonical);
    return made;
}

/* From here on q->key is what is looked for; the exact key comes back when nothing was found. */
static void look_for(struct service_call *q, const struct key *key, enum semantic_step step)
{
    q->key = *key;
    q->semantic_step = step;
}

static void over(struct service_call *q)
{
    q->key = q->exact_key;
    q->semantic_step = SEM_OVER;
    q->step = ASK_RESERVE;
}

/* ---- level 0 ---- */

/* What the alias found says is the next key. False: it is none. */
static bool follow_alias(struct service_call *q)
{
    struct object_cursor cursor = { 0 };
    struct view body = object_peek(q->object, &cursor);
    char *copy = body.len && body.len <= SEMANTIC_KEY_MAX ? arena_alloc(&q->arena, body.len) : NULL;
    struct key key;

    if (copy)
        memcpy(copy, body.ptr, body.len);
    object_unref(q->object);
    q->object = NULL;
    q->object_held = false;
    if (!copy)
        return false;
    key = key_of(view_make(copy, body.len));
    if (key_eq(&key, &q->exact_key))
        return false;
    q->match = (struct semantic_match){ .level = SEMANTIC_CANONICAL, .similarity = 1 };
    look_for(q, &key, SEM_TARGET);
    return true;
}

/* ---- level 1 ---- */

static bool make_query(struct service_call *q, struct semantic_query *ret, struct buf *text)
{
    struct key partition;
    const struct field *threshold = fields_find(&q->request.fields, VIEW("Doorstep-AI-Threshold"));
    double wanted = 0;
    char number[16];

    if (!last_user(q, text) || !ask_fingerprint(q, FINGERPRINT_PARTITION, VIEW_NONE, &partition))
        return false;
    if (threshold && threshold->value.len < sizeof(number)) {
        memcpy(number, threshold->value.ptr, threshold->value.len);
        number[threshold->value.len] = '\0';
        wanted = strtod(number, NULL);
    }
    *ret = (struct semantic_query){
        .scope = q->scope,
        .text = buf_view(text),
        .vector = q->vector,
        .dims = embed_dims(q->gateway->options.embed),
        .threshold = wanted > 0 && wanted <= 1 ? (float)wanted : 0,
    };
    memcpy(ret->partition, partition.hash, sizeof(ret->partition));
    for (size_t i = 0; i < sizeof(ret->partition); i++) /* another model's vectors are another space */
        ret->partition[i] ^= (uint8_t)embed_id(q->gateway->options.embed)[i];
    return true;
}

/* Looks for a near prompt. True: its answer's key is the next one. */
static bool find_near(struct service_call *q)
{
    struct semantic_query query;
    struct buf text;
    char *copy;
    struct key key;
    bool found = make_query(q, &query, &text) && semantic_lookup(q->gateway->options.semantic, &query, &q->match) == 1;

    buf_free(&text);
    copy = found ? arena_alloc(&q->arena, q->match.key_len) : NULL;
    if (!copy)
        return false;
    memcpy(copy, q->match.key, q->match.key_len);
    key = key_of(view_make(copy, q->match.key_len));
    if (key_eq(&key, &q->exact_key))
        return false;
    look_for(q, &key, SEM_TARGET);
    return true;
}

static void end_asking(void *arg, const struct ai_call_report *report)
{
    struct service_call *q = arg;
    struct view model = embed_remote(q->gateway->options.embed)->model;

    ai_spans_call(q->account->spans, q->asked_span, q->asked, model, AI_EMBEDDINGS, false, report);
    account_settle_aside(q->account, q->asked, model, &q->asked_reservation, report);
}

/* The provider of the vectors, if this prompt may be shown to it: personal data that is pinned elsewhere and rules about regions hold here
 * too. The model is the node's choice and not the client's, so rules about models are asked about the client's. */
static struct ai_candidate *find_embedder(struct service_call *q)
{
    const struct embed_remote_options *remote = embed_remote(q->gateway->options.embed);
    uint64_t wait;

    for (unsigned i = 0; i < q->config->provider_count; i++) {
        struct ai_candidate *candidate = &q->config->direct[i];
        struct ai_candidate there = { .provider = candidate->provider, .model = q->model };

        if (view_eq(candidate->provider->name, remote->provider))
            return ask_admits(q, &there) && ai_provider_look(candidate->provider, loop_now_ms(q->loop), &wait) == 0
                       ? candidate
                       : NULL;
    }
    return NULL;
}

static struct embed_ask *ask_provider(struct service_call *q, struct view text)
{
    const struct embed *embed = q->gateway->options.embed;
    struct trace_context trace = q->trace;
    char memory[128];
    struct text fields = TEXT_ON(memory);
    struct embed_ask_options options = { .embed = embed, .text = text, .done = end_asking, .arg = q };
    struct budget_refusal refusal;
    struct embed_ask *ask;

    q->asked = embed_remote_is_up(embed, loop_now_ms(q->loop)) ? find_embedder(q) : NULL;
    if (!q->asked || account_reserve(q->account, q->asked, embed_remote(embed)->model, text.len, 0,
                                     q->config->price_needed, &q->asked_reservation, &refusal) < 0)
        return NULL;
    q->asked_span = ai_spans_call_id(q->account->spans);
    trace.parent_id = q->asked_span ? q->asked_span : trace.parent_id;
    text_lit(&fields, "Accept: application/json\r\ntraceparent: ");
    trace_put(&trace, &fields);
    text_lit(&fields, "\r\n");
    options.candidate = q->asked;
    options.fields = text_view(&fields);
    ask = embed_ask_start(&options, q->task);
    if (!ask)
        end_asking(q, &(struct ai_call_report){ 0 });
    return ask;
}

/* One vector does for all candidates. */
static void begin_embedding(struct service_call *q)
{
    const struct ai_gateway_options *options = &q->gateway->options;
    struct buf text = buf_make(0);

    q->semantic_step = SEM_EMBED;
    if (q->route->semantic != AI_SEMANTIC_EMBEDDING || !options->embed || q->embed_failed) {
        over(q);
        return;
    }
    if (q->embedded)
        return;
    q->vector = arena_alloc(&q->arena, embed_dims(options->embed) * sizeof(float));
    if (q->vector && last_user(q, &text) && text.len > 0 && text.len <= SEMANTIC_TEXT_MAX) {
        if (embed_remote(options->embed))
            q->asking = ask_provider(q, buf_view(&text));
        else
            q->embedding = embed_start(options->embed, options->workers, q->loop, q->task, buf_view(&text));
    }
    buf_free(&text);
    q->embed_failed = !q->embedding && !q->asking;
    if (q->embed_failed)
        over(q);
}

/* ---- what was found ---- */

static bool is_checked(struct service_call *q)
{
    uint64_t draw = q->exact_key.hash[0] ^ (uint64_t)q->in.started_us * 0x9e3779b97f4a7c15u;

    return q->route->semantic_shadow || (draw >> 33) % 1000 < q->route->verify_permille;
}

static void use_match(struct service_call *q)
{
    struct semantic *semantic = q->gateway->options.semantic;

    if (is_checked(q)) {
        if (q->route->semantic_shadow)
            semantic_count(semantic, q->match.level, SEMANTIC_SHADOW);
        q->candidate_answer = q->object;
        q->object = NULL;
        q->object_held = false;
        over(q);
        return;
    }
    semantic_count(semantic, q->match.level, SEMANTIC_HIT);
    q->semantic_hit = true;
    ask_use_hit(q);
}

/* The target is gone: so is what led to it. */
static void forget_match(struct service_call *q)
{
    if (q->match.level == SEMANTIC_EMBEDDING)
        semantic_forget(q->gateway->options.semantic, q->scope, q->key.text);
}

/* One lookup under q->key in memory, then below. 1: found; 0: nowhere; -EAGAIN. */
static int look(struct service_call *q, enum semantic_step climbing)
{
    if (q->semantic_step != climbing) {
        if (ask_find(q))
            return 1;
        if (ask_begin_climb(q) != ASK_CLIMB_STARTED)
            return 0;
        q->semantic_step = climbing;
    }
    if (!ladder_answer(&q->climb, &q->raised))
        return -EAGAIN;
    ladder_leave(&q->climb);
    return ask_find(q);
}

/* ---- the steps ---- */

static bool step_alias(struct service_call *q)
{
    int got = look(q, SEM_ALIAS_CLIMB);

    if (got == -EAGAIN)
        return false;
    if (got == 0 || !follow_alias(q))
        begin_embedding(q);
    return true;
}

static bool step_target(struct service_call *q)
{
    int got = look(q, SEM_TARGET_CLIMB);

    if (got == -EAGAIN)
        return false;
    if (got) {
        use_match(q);
        return true;
    }
    forget_match(q);
    if (q->match.level == SEMANTIC_CANONICAL)
        begin_embedding(q);
    else
        over(q);
    return true;
}

static void drop_embedding(struct service_call *q)
{
    embed_drop(q->embedding);
    embed_ask_drop(q->asking);
    q->embedding = NULL;
    q->asking = NULL;
}

static bool step_embed(struct service_call *q)
{
    int r = q->embedded ? 0 : q->asking ? embed_ask_done(q->asking, q->vector) : embed_done(q->embedding, q->vector);

    if (r == -EAGAIN)
        return false;
    drop_embedding(q);
    q->embedded = r == 0;
    q->embed_failed = r < 0;
    if (r < 0 || !find_near(q))
        over(q);
    return true;
}

bool ask_semantic(struct service_call *q)
{
    bool moved = true;

    while (moved && q->step == ASK_SEMANTIC) {
        switch (q->semantic_step) {
        case SEM_START:
            q->exact_key = q->key;
            semantic_count(q->gateway->options.semantic, SEMANTIC_CANONICAL, SEMANTIC_LOOKUP);
            if (make_alias_key(q))
                look_for(q, &q->alias_key, SEM_ALIAS);
            else
                begin_embedding(q);
            break;
        case SEM_ALIAS:
        case SEM_ALIAS_CLIMB: moved = step_alias(q); break;
        case SEM_TARGET:
        case SEM_TARGET_CLIMB: moved = step_target(q); break;
        case SEM_EMBED: moved = step_embed(q); break;
        case SEM_OVER: over(q); break;
        }
    }
    return moved;
}

/* ---- after the answer ---- */

/* The alias lives and dies like the answer it leads to: its times, its purge position, its tags. */
static void put_alias(struct service_call *q)
{
    const struct ai_gateway_options *options = &q->gateway->options;
    struct object_parts parts = {
        .key = q->alias_key.text,
        .url = object_url(q->object),
        .tags = object_tags(q->object),
        .head = ALIAS_HEAD,
        .body_hint = q->exact_key.text.len,
    };
    struct object *alias = object_new(&q->alias_key, &parts);
    enum memory_refusal refusal;
    size_t cap = 0;
    char *room = alias ? object_reserve(alias, q->exact_key.text.len, &cap) : NULL;

    if (room && cap >= q->exact_key.text.len) {
        memcpy(room, q->exact_key.text.ptr, q->exact_key.text.len);
        object_commit(alias, q->exact_key.text.len);
        alias->status = 200;
        alias->method = METHOD_GET;
        alias->times = q->object->times;
        alias->complete_len = q->exact_key.text.len;
        atomic_store(&alias->purge_pos, atomic_load(&q->object->purge_pos));
        atomic_fetch_or(&alias->flags, OBJECT_COMPLETE | OBJECT_LENGTH_KNOWN);
        (void)!memory_put(options->fill->memory, alias, &refusal);
        if (options->ladder)
            ladder_put(options->ladder, q->loop, alias, &q->cache->ladder, false, false);
    }
    object_unref(alias);
}

static void put_vector(struct service_call *q)
{
    struct semantic_query query;
    struct buf text;

    if (make_query(q, &query, &text)) {
        query.expires_ms = loop_wall_ms(q->loop) + (int64_t)MIN(q->ttl_ms, (uint64_t)INT64_MAX / 2);
        (void)!semantic_add(q->gateway->options.semantic, &query, q->exact_key.text);
    }
    buf_free(&text);
}

static void put_strings(const struct json *doc, uint32_t list, struct view member, struct buf *out)
{
    if (!list || json_type(doc, list) != JSON_ARRAY)
        return;
    for (uint32_t item = json_first(doc, list); item < json_end(doc, list); item = json_after(doc, item))
        json_decode(doc, json_get(doc, item, member), out);
}

/* The words of a plain answer. */
static void put_text(enum ai_endpoint endpoint, const struct json *doc, struct buf *out)
{
    uint32_t list;

    switch (endpoint) {
    case AI_CHAT:
    case AI_COMPLETIONS:
        list = json_get(doc, 0, VIEW("choices"));
        if (!list || json_type(doc, list) != JSON_ARRAY)
            return;
        for (uint32_t i = json_first(doc, list); i < json_end(doc, list); i = json_after(doc, i)) {
            uint32_t message = json_get(doc, i, VIEW("message"));

            json_decode(doc, message ? json_get(doc, message, VIEW("content")) : json_get(doc, i, VIEW("text")), out);
        }
        return;
    case AI_MESSAGES: put_strings(doc, json_get(doc, 0, VIEW("content")), VIEW("text"), out); return;
    case AI_RESPONSES:
        list = json_get(doc, 0, VIEW("output"));
        if (!list || json_type(doc, list) != JSON_ARRAY)
            return;
        for (uint32_t i = json_first(doc, list); i < json_end(doc, list); i = json_after(doc, i))
            put_strings(doc, json_get(doc, i, VIEW("content")), VIEW("text"), out);
        return;
    default: return;
    }
}

static bool answer_text(enum ai_endpoint endpoint, struct object *object, struct buf *out)
{
    struct buf body = buf_make(ANSWER_TEXT_MAX), plain = buf_make(ANSWER_TEXT_MAX);
    struct object_cursor cursor = { 0 };
    struct json doc = { 0 };
    struct view run;
    size_t at;
    bool ok;

    while ((run = object_peek(object, &cursor)).len) {
        buf_put(&body, run);
        object_advance(object, &cursor, run.len);
    }
    if (ask_is_stream(object))
        ok = ai_answer_assemble(endpoint, buf_view(&body), &plain) == 0;
    else
        ok = true;
    ok = ok && !body.failed &&
         json_parse(&doc, ask_is_stream(object) ? buf_view(&plain) : buf_view(&body), JSON_LIMITS, &at) == JSON_OK;
    if (ok)
        put_text(endpoint, &doc, out);
    json_free(&doc);
    buf_free(&body);
    buf_free(&plain);
    return ok && !out->failed;
}

static void compare(struct service_call *q)
{
    struct buf stored = buf_make(ANSWER_TEXT_MAX), real = buf_make(ANSWER_TEXT_MAX);
    bool agree;

    if (answer_text(q->endpoint, q->candidate_answer, &stored) && answer_text(q->endpoint, q->object, &real)) {
        agree = semantic_agree(buf_view(&stored), buf_view(&real));
        semantic_feedback(q->gateway->options.semantic, &q->match, agree);
        if (!agree && q->match.level == SEMANTIC_CANONICAL) {
            if (q->gateway->options.ladder)
                ladder_drop(q->gateway->options.ladder, q->loop, &q->alias_key, object_url(q->object));
            else
                memory_drop(q->gateway->options.fill->memory, &q->alias_key);
        }
    }
    buf_free(&stored);
    buf_free(&real);
}

void ask_semantic_learn(struct service_call *q)
{
    if (!q->exact_key.text.ptr || !q->stored || !q->ended || !q->object ||
        !memory_find(q->gateway->options.fill->memory, &q->exact_key))
        return;
    if (q->candidate_answer)
        compare(q);
    if (q->alias_key.text.ptr)
        put_alias(q);
    if (q->embedded)
        put_vector(q);
}

void ask_semantic_end(struct service_call *q)
{
    drop_embedding(q);
    object_unref(q->candidate_answer);
}
