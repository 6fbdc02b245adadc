/* What the client gets: an error in its dialect, the bytes of an object as they arrive, or the same answer in the other form. */
#include "ai/gateway_internal.h"

#include "ai/answer.h"
#include "ai/error.h"
#include "base/clock.h"
#include "cache/conditional.h"

#include <errno.h>

#define CONVERTED_MAX ((size_t)96 * 1024 * 1024)

static const char *reason_of(int status)
{
    switch (status) {
    case 401: return "key";
    case 402: return "budget";
    case 403: return "policy";
    case 404: return "not_found";
    case 405: return "method";
    case 413: return "too_large";
    case 429: return "rate_limit";
    case 502: return "provider";
    case 503: return "unavailable";
    case 504: return "timeout";
    default: return status < 500 ? "bad_request" : "internal";
    }
}

void ask_refuse(struct service_call *q, int status, const char *type, struct view message, const char *code)
{
    q->step = ASK_ANSWER;
    q->form = ASK_TEXT;
    q->refused = true;
    q->status = (uint16_t)status;
    q->reason = code ? code : reason_of(status);
    q->out = buf_make(CONVERTED_MAX);
    ai_error_put(&q->out, q->dialect, status, type, message, code, NULL);
}

/* ---- an object ---- */

static enum fill_phase phase_of(struct service_call *q)
{
    struct fill_view look;

    if (!q->reader)
        return FILL_DONE;
    fill_look(q->reader, &look);
    return look.phase;
}

bool ask_is_stream(const struct object *object)
{
    return view_starts_with_icase(head_value(object_head(object), FIELD_CONTENT_TYPE), VIEW("text/event-stream"));
}

/* OpenAI's chunk with usage is for those who asked; Anthropic's streams always have it. */
static bool hides_usage(const struct service_call *q)
{
    return (q->endpoint == AI_CHAT || q->endpoint == AI_COMPLETIONS) && !q->facts.include_usage;
}

void ask_use_object(struct service_call *q)
{
    bool stream = ask_is_stream(q->object), whole = q->object->status == 200 && q->parsed;

    q->step = ASK_ANSWER;
    q->status = q->object->status;
    if (whole && stream != q->facts.stream)
        q->form = ASK_CONVERT;
    else if (whole && stream && (hides_usage(q) || (q->hit && q->route->pace)))
        q->form = ASK_FILTER;
    else
        q->form = ASK_OBJECT;
    q->streams = whole ? q->facts.stream : stream;
    if (q->form == ASK_FILTER)
        replay_init(&q->replay, q->endpoint, hides_usage(q), q->hit ? q->route->pace : 0);
}

/* The next readable bytes of the object. */
static ssize_t peek(struct service_call *q, struct view *ret)
{
    enum fill_phase phase = phase_of(q); /* first: what is readable after DONE was seen is all */

    *ret = object_peek(q->object, &q->cursor);
    if (ret->len)
        return 1;
    return phase == FILL_DONE ? 0 : phase == FILL_FAILED ? -EIO : -EAGAIN;
}

static ssize_t next_filtered(struct service_call *q, struct view *ret)
{
    uint64_t wait_us = 0;
    size_t before;
    ssize_t got;
    int r;

    for (;;) {
        got = peek(q, &q->input);
        if (got == 0 &&
            replay_end(&q->replay, ret)) /* an event whose last line ends in a CR: a LF could have followed */
            return (ssize_t)ret->len;
        if (got <= 0)
            return got;
        before = q->input.len;
        r = replay_next(&q->replay, &q->input, clock_mono_us(), ret, &wait_us);
        q->consumed = before - q->input.len;
        if (r < 0)
            return r;
        if (r > 0 && ret->len)
            return (ssize_t)ret->len;
        object_advance(q->object, &q->cursor, q->consumed);
        if (q->reader)
            fill_passed(q->reader, q->consumed);
        q->consumed = 0;
        if (wait_us) {
            timer_set(&q->timer, MAX(wait_us / 1000, (uint64_t)1));
            return -EAGAIN;
        }
    }
}

static int gather(struct service_call *q, struct buf *ret)
{
    struct view run;
    ssize_t got;

    while ((got = peek(q, &run)) > 0) {
        buf_put(ret, run);
        object_advance(q->object, &q->cursor, run.len);
        if (q->reader)
            fill_passed(q->reader, run.len);
    }
    return ret->failed ? -ENOMEM : (int)got;
}

int ask_convert(struct service_call *q)
{
    struct buf *whole = &q->gathered;
    int r;

    if (!whole->max)
        *whole = buf_make(CONVERTED_MAX);
    r = gather(q, whole);
    if (r < 0)
        return r;
    q->out = buf_make(CONVERTED_MAX);
    r = q->streams ? ai_answer_stream(q->endpoint, buf_view(whole), q->facts.include_usage, &q->out)
                   : ai_answer_assemble(q->endpoint, buf_view(whole), &q->out);
    buf_free(whole);
    if (r < 0)
        buf_free(&q->out);
    if (r < 0 && r != -ENOMEM)
        return -EIO;
    q->form = ASK_TEXT;
    if (r < 0)
        ask_refuse(q, 503, NULL, VIEW("out of memory"), NULL);
    return 0;
}

ssize_t ask_next(struct service_call *q, struct view *ret)
{
    ssize_t got;

    switch (q->form) {
    case ASK_TEXT: *ret = view_skip(buf_view(&q->out), q->out_at); return (ssize_t)ret->len;
    case ASK_FILTER: return next_filtered(q, ret);
    case ASK_OBJECT:
        got = peek(q, ret);
        q->consumed = ret->len;
        return got > 0 ? (ssize_t)ret->len : got;
    case ASK_CONVERT: break;
    }
    return -EIO;
}

void ask_took(struct service_call *q, size_t len)
{
    if (q->form == ASK_TEXT) {
        q->out_at += len;
        return;
    }
    object_advance(q->object, &q->cursor, q->consumed);
    if (q->reader)
        fill_passed(q->reader, q->consumed);
    q->consumed = 0;
}
