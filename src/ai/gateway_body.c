/* The body for a provider. When it speaks the client's dialect, the client's bytes are copied but for the members that must change: the
 * model's name, and for streams the wish for usage, which metering needs. Else the request is translated. */
#include "ai/gateway_internal.h"

#include "ai/translate.h"

#include <errno.h>

#define EDITS_MAX 4u
#define LIMIT_MAX 64u
#define MAX_TOKENS_DEFAULT 4096u /* where a dialect demands a limit and nobody has set one */

/* Bytes of the client's body that are replaced; len 0: inserted before. */
struct edit {
    size_t at, len;
    struct view text;
};

struct edits {
    struct edit list[EDITS_MAX];
    unsigned count;
};

static void add(struct edits *edits, size_t at, size_t len, struct view text)
{
    unsigned i = edits->count++;

    for (; i > 0 && edits->list[i - 1].at > at; i--)
        edits->list[i] = edits->list[i - 1];
    edits->list[i] = (struct edit){ at, len, text };
}

static void replace(struct edits *edits, const struct json *doc, uint32_t token, struct view text)
{
    add(edits, doc->tokens[token].at, doc->tokens[token].len, text);
}

/* As the last member of the whole. */
static void append_member(struct edits *edits, const struct json *doc, struct view member)
{
    add(edits, (size_t)doc->tokens[0].at + doc->tokens[0].len - 1, 0, member);
}

/* The client's other stream options stay. */
static void ask_usage(struct service_call *q, struct edits *edits, struct buf *scratch)
{
    const struct json *doc = &q->doc;
    uint32_t options = q->facts.stream_options_at;
    size_t from = scratch->len;

    if (options && json_type(doc, options) == JSON_OBJECT) {
        buf_lit(scratch, "{\"include_usage\":true");
        for (uint32_t name = json_first(doc, options); name < json_end(doc, options);
             name = json_after(doc, name + 1)) {
            if (json_is(doc, name, VIEW("include_usage")))
                continue;
            buf_char(scratch, ',');
            buf_put(scratch, json_raw(doc, name));
            buf_char(scratch, ':');
            buf_put(scratch, json_raw(doc, name + 1));
        }
        buf_char(scratch, '}');
        replace(edits, doc, options, view_make(scratch->ptr + from, scratch->len - from));
    } else if (options) {
        replace(edits, doc, options, VIEW("{\"include_usage\":true}"));
    } else {
        append_member(edits, doc, VIEW(",\"stream_options\":{\"include_usage\":true}"));
    }
}

static void apply(const struct edits *edits, struct view body, struct buf *out)
{
    size_t at = 0, room = body.len;

    for (unsigned i = 0; i < edits->count; i++)
        room += edits->list[i].text.len;
    (void)buf_room(out, room);
    for (unsigned i = 0; i < edits->count; i++) {
        const struct edit *edit = &edits->list[i];

        buf_put(out, view_make(body.ptr + at, edit->at - at));
        buf_put(out, edit->text);
        at = edit->at + edit->len;
    }
    buf_put(out, view_skip(body, at));
}

/* What a hard budget has reserved must be all that can come. Completions have a limit of their own when none is said (16 tokens, says
 * OpenAI): a larger one would make them dearer. */
bool ask_must_limit(const struct service_call *q)
{
    if (q->facts.max_tokens)
        return false;
    if (q->endpoint == AI_COMPLETIONS)
        return q->candidate->max_output > 0;
    return (q->endpoint == AI_CHAT || q->endpoint == AI_RESPONSES) && (q->candidate->max_output || q->reservation.hard);
}

static void limit_output(struct service_call *q, struct edits *edits, char memory[LIMIT_MAX])
{
    struct text limit = text_make(memory, LIMIT_MAX);
    bool reasons = json_get(&q->doc, 0, VIEW("reasoning_effort")) != 0;
    size_t value;

    text_lit(&limit, ",\"");
    text_put(&limit, q->endpoint == AI_RESPONSES     ? VIEW("max_output_tokens")
                     : q->endpoint == AI_COMPLETIONS ? VIEW("max_tokens")
                                                     : translate_limit_name(q->model, reasons));
    text_lit(&limit, "\":");
    value = limit.len;
    text_u64(&limit, ask_output_bound(q));
    if (q->facts.max_at) /* null: said, and to be replaced */
        replace(edits, &q->doc, q->facts.max_at, view_skip(text_view(&limit), value));
    else
        append_member(edits, &q->doc, text_view(&limit));
}

static int copy_with_edits(struct service_call *q, struct buf *ret)
{
    struct buf model = buf_make(4096), options = buf_make(AI_BODY_MAX);
    struct edits edits = { 0 };
    char memory[LIMIT_MAX];
    bool metered = q->endpoint == AI_CHAT || q->endpoint == AI_COMPLETIONS;

    if (q->facts.model_at && !view_eq(q->model, q->facts.model)) {
        buf_json(&model, q->model);
        replace(&edits, &q->doc, q->facts.model_at, buf_view(&model));
    }
    if (metered && q->facts.stream && !q->facts.include_usage)
        ask_usage(q, &edits, &options);
    if (ask_must_limit(q))
        limit_output(q, &edits, memory);
    apply(&edits, q->in.body, ret);
    if (model.failed || options.failed)
        ret->failed = true;
    buf_free(&model);
    buf_free(&options);
    return ret->failed ? -ENOMEM : 0;
}

bool ask_endpoint(const struct service_call *q, const struct ai_provider *provider, enum ai_endpoint *ret)
{
    enum ai_endpoint other = q->endpoint == AI_CHAT ? AI_MESSAGES : AI_CHAT;

    *ret = q->endpoint;
    if (q->dialect == provider->dialect)
        return true;
    if (!q->parsed || !translate_can(q->endpoint, other) || ai_endpoint_dialect(other) != provider->dialect)
        return false;
    *ret = other;
    return true;
}

/* What the client's interface has no words for may be forced in the provider's. */
static int force(struct service_call *q, enum ai_endpoint provider, struct buf *body)
{
    struct buf forced = buf_make(AI_BODY_MAX);
    struct ai_facts facts = { 0 };
    struct json doc = { 0 };
    size_t at;
    int r = json_parse(&doc, buf_view(body), JSON_LIMITS, &at) == JSON_OK ? 0 : -ENOMEM;

    if (r == 0)
        r = ai_facts_read(&facts, provider, &doc, NULL);
    if (r == 0)
        r = ai_rules_apply(q->levels, q->level_count, provider, &doc, &facts, &forced);
    ai_facts_free(&facts);
    json_free(&doc);
    if (r <= 0) {
        buf_free(&forced);
        return r < 0 ? -ENOMEM : 0;
    }
    buf_free(body);
    *body = forced;
    return 0;
}

static int translate(struct service_call *q, enum ai_endpoint provider, uint64_t max, struct buf *ret,
                     struct text *reason)
{
    int r = translate_request(q->endpoint, provider, &q->doc, q->model, max, ret, reason);

    for (unsigned i = 0; i < q->level_count && r == 0; i++)
        if (q->levels[i]->forced_count)
            return force(q, provider, ret);
    return r;
}

int ask_body(struct service_call *q, enum ai_endpoint provider, struct buf *ret, struct text *reason)
{
    uint64_t max = q->candidate->max_output ? q->candidate->max_output : MAX_TOKENS_DEFAULT;
    int r;

    *ret = buf_make(AI_BODY_MAX);
    if (!q->parsed)
        buf_put(ret, q->in.body);
    else if (provider != q->endpoint)
        return translate(q, provider, max, ret, reason);
    else if ((r = copy_with_edits(q, ret)) < 0)
        return r;
    return ret->failed ? -ENOMEM : 0;
}
