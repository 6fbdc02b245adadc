/* What the provider's bytes become: watched event by event, translated when the client speaks another dialect, held back until there is
 * content. The same dialect's bytes are passed on as they are. */
#include "ai/call_internal.h"

#include "ai/error.h"
#include "base/clock.h"

#include <errno.h>

static bool translates(const struct call *call)
{
    return translate_can(call->request.provider, call->request.client);
}

/* The answer broke after content was seen: the client must hear of it in its own dialect, since SDKs do not miss a missing end. */
static void cut_short(struct call *call, struct view why)
{
    ai_error_event(&call->out, call->request.client, 502, why);
    exchange_blame(call->x);
    call->report.error_class = "stream_cut";
    call_over(call, false);
}

static void broke(struct call *call, int status, enum watch_error error, struct view body, struct view why)
{
    if (call->published)
        cut_short(call, why);
    else
        call_failed(call, status, error, body);
}

static int status_of(enum watch_error error)
{
    switch (error) {
    case WATCH_RATE_LIMIT:
    case WATCH_QUOTA: return 429;
    case WATCH_OVERLOADED: return 529;
    case WATCH_BAD_REQUEST: return 400;
    case WATCH_SERVER_ERROR:
    case WATCH_NO_ERROR: break;
    }
    return 502;
}

/* False: the event could not be said in the client's dialect. */
static bool put_event(struct call *call, const struct sse_event *event)
{
    if (!call->translate) {
        buf_put(&call->out, event->raw);
        return !call->out.failed;
    }
    return translate_stream_event(call->translate, event, &call->out) == 0;
}

/* Would the client's SDK take this event of its dialect for an error? */
static bool is_seen_as_error(const struct call *call, const struct sse_event *event)
{
    enum ai_dialect dialect = ai_endpoint_dialect(call->request.client);

    if (call->request.client == AI_RESPONSES)
        return view_eq(event->name, VIEW("error")) || view_starts_with(event->name, VIEW("response."));
    return ai_error_is_shaped(dialect, event->data) && (dialect == AI_OPENAI || view_eq(event->name, VIEW("error")));
}

/* An error after content. One that clients would overlook, like any other end too soon, is said in their words. */
static bool put_error_event(struct call *call, const struct sse_event *event)
{
    static const struct view choices = { "\"choices\"", 9 };
    char memory[512];
    struct text message = TEXT_ON(memory);

    if (!call->translate && is_seen_as_error(call, event))
        return put_event(call, event);
    /* A reason to stop, which is an error by its name only, comes with a piece of the answer. */
    if (event->data.len && memmem(event->data.ptr, event->data.len, choices.ptr, choices.len) &&
        !put_event(call, event))
        return false;
    if (call->watch.error == WATCH_QUOTA || !ai_error_message(event->data, &message))
        text_lit(&message, "the provider reported an error within its answer");
    ai_error_event(&call->out, call->request.client, status_of(call->watch.error), text_view(&message));
    return !call->out.failed;
}

static void note_content(struct call *call)
{
    call->billed = true;
    if (!call->report.first_us) {
        call->report.first_us = MAX(clock_mono_us() - call->started_us, (uint64_t)1);
        call->timing.first_byte_us = (uint32_t)MIN(call->report.first_us, (uint64_t)UINT32_MAX);
    }
    timer_set(&call->timer, call->request.candidate->idle_ms);
}

/* False: the stream is over for us. */
static bool take_event(struct call *call, const struct sse_event *event)
{
    size_t before = call->out.len;
    unsigned marks;

    /* Clients stop reading at the end: what comes behind it is no part of the answer, in whichever form it is asked for. */
    if (call->watch.ended)
        return true;
    marks = watch_event(&call->watch, event);
    call->held_events += !(marks & WATCH_KEEPALIVE);
    if (marks & WATCH_ERROR && !call->published) {
        call_failed(call, status_of(call->watch.error), call->watch.error, event->data);
        return false;
    }
    if (marks & WATCH_END && !call->watch.finished && !call->watch.content) {
        broke(call, 502, WATCH_SERVER_ERROR, VIEW_NONE, VIEW("the provider ended its stream without an answer"));
        return false;
    }
    if (marks & WATCH_BROKEN || !(marks & WATCH_ERROR ? put_error_event(call, event) : put_event(call, event))) {
        broke(call, 502, WATCH_SERVER_ERROR, VIEW_NONE,
              VIEW("the provider sent something that is no event of its interface"));
        return false;
    }
    if (marks & WATCH_CONTENT)
        note_content(call);
    if (!call->published && (marks & (WATCH_CONTENT | WATCH_END) || call->held_events >= CALL_HELD_EVENTS ||
                             call->out.len >= CALL_HELD_MAX))
        call_publish(call, 200, VIEW("text/event-stream; charset=utf-8"));
    if (marks & WATCH_END)
        timer_set(&call->timer, CALL_LINGER_MS);
    if (marks & WATCH_ERROR) {
        call_hide_keys(call, before);
        call->report.error_class = "error_in_stream";
        call_over(call, false);
        return false;
    }
    return call->mode == CALL_STREAM;
}

void call_take_stream(struct call *call, struct view bytes)
{
    struct sse_event event;
    int got;

    while ((got = sse_next(&call->sse, &bytes, &event)) > 0)
        if (!take_event(call, &event))
            return;
    if (got < 0)
        broke(call, 502, WATCH_SERVER_ERROR, VIEW_NONE,
              got == -EMSGSIZE ? VIEW("the provider sent an event that is too large")
                               : VIEW("the provider's stream cannot be read"));
}

void call_end_stream(struct call *call)
{
    struct sse_event last;
    bool cut;

    if (sse_finish(&call->sse, &last) > 0 && !take_event(call, &last))
        return;
    cut = !call->watch.ended; /* behind the end nothing counts */
    if (!cut && call->translate)
        cut = translate_stream_end(call->translate, &call->out) < 0;
    if (cut) {
        broke(call, 502, WATCH_SERVER_ERROR, VIEW_NONE, VIEW("the provider's stream ended early"));
        return;
    }
    if (!call->published)
        call_publish(call, 200, VIEW("text/event-stream; charset=utf-8"));
    call_over(call, watch_is_sound(&call->watch));
}

/* A whole answer: it may be an error in the clothes of a 200, or no answer at all. */
void call_end_plain(struct call *call)
{
    unsigned marks = watch_plain(&call->watch, buf_view(&call->in));
    struct json doc = { 0 };
    size_t at;
    int r = 0;

    if (marks & (WATCH_ERROR | WATCH_BROKEN)) {
        call_failed(call, marks & WATCH_ERROR ? status_of(call->watch.error) : 502, call->watch.error,
                    buf_view(&call->in));
        return;
    }
    if (marks & WATCH_CONTENT)
        note_content(call);
    call->billed = call->request.provider != AI_COUNT_TOKENS; /* no model was asked */
    if (translates(call)) {
        r = json_parse(&doc, buf_view(&call->in), JSON_LIMITS, &at) == JSON_OK
                ? translate_answer(call->request.provider, call->request.client, &doc, call->request.model,
                                   (uint64_t)clock_wall_ms() / 1000, &call->out)
                : -EBADMSG;
        json_free(&doc);
    } else {
        call->out = call->in;
        call->in = buf_make(CALL_ANSWER_MAX);
    }
    if (r < 0) {
        call_failed(call, 502, WATCH_SERVER_ERROR, VIEW_NONE);
        return;
    }
    call_publish(call, 200, VIEW("application/json"));
    call_over(call, watch_is_sound(&call->watch));
}

void call_end_error(struct call *call, int status)
{
    enum watch_error error = ai_error_read(status, buf_view(&call->in));

    call_failed(call, status, error, buf_view(&call->in));
}
