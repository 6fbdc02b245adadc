/* A call's life: attempts with one credential after the other, the limits in time, and the functions its fill reads through. The call's
 * own task does everything; exchange and timers wake it, and it wakes the fill. */
#include "ai/call_internal.h"

#include "ai/error.h"
#include "base/clock.h"
#include "base/heap.h"
#include "proto/date.h"

#include <errno.h>
#include <stdio.h>

#define READ_SIZE ((size_t)16384)

static void call_run(struct task *task);

static struct call *call_of(const struct source *source)
{
    return CONTAINER_OF((struct source *)(uintptr_t)source, struct call, source);
}

/* ---- the end of an attempt ---- */

void call_publish(struct call *call, int status, struct view content_type)
{
    if (!call_write_head(call, status, content_type, call->x ? exchange_head(call->x) : NULL)) {
        call->error = EXCHANGE_INTERNAL;
        call->state = EXCHANGE_FAILED;
        call->mode = CALL_OVER;
        return;
    }
    call->published = true;
    call->report.status = (uint16_t)status;
    call->state = EXCHANGE_BODY;
}

void call_over(struct call *call, bool sound)
{
    call->sound = sound && !call->out.failed;
    call->mode = CALL_OVER;
    timer_clear(&call->timer);
    timer_clear(&call->total);
    /* An ended stream may have its last chunk still to come: read to the end, the connection can be kept. */
}

/* The provider never answered: the fill fails as if it had asked itself. */
static void give_up(struct call *call, enum exchange_error error, const char *detail)
{
    call->error = error;
    snprintf(call->detail, sizeof(call->detail), "%s", detail);
    call->report.error_class = error == EXCHANGE_RESPONSE_TIMEOUT ? "timeout" : "connection";
    call->state = EXCHANGE_FAILED;
    call_over(call, false);
}

/* May it be sent again after it may have been carried out? Questions to a model may; what other paths do is not known. */
static bool may_repeat(const struct call *call)
{
    static const struct view harmless[] = {
        { "GET", 3 }, { "HEAD", 4 }, { "PUT", 3 }, { "DELETE", 6 }, { "OPTIONS", 7 }
    };

    if (!call->request.raw)
        return true;
    for (size_t i = 0; i < ARRAY_LEN(harmless); i++)
        if (view_eq(call->request.method, harmless[i]))
            return true;
    return false;
}

/* Another attempt is in the budget. To be asked last: it takes it. */
static bool take_repeat(struct call *call)
{
    return may_repeat(call) && call->repeats < call->request.retries &&
           upstream_may_retry(call->provider->upstream, loop_now_ms(call->task.loop));
}

static void begin_attempt(struct call *call);

/* For who looks at times afterwards. */
static void note_attempt(struct call *call, bool failed)
{
    struct ai_call_report *report = &call->report;
    struct ai_call_try *try;

    if (!call->x || report->attempts == 0 || report->attempts > AI_CALL_TRIES)
        return;
    try = &report->tries[report->attempts - 1];
    try->end_us = clock_mono_us();
    try->queue_us = exchange_timing(call->x)->queue_us;
    try->status = exchange_head(call->x) ? exchange_head(call->x)->status : 0;
    if (failed)
        try->error_class = report->error_class ? report->error_class : "connection";
}

static void reset_attempt(struct call *call)
{
    note_attempt(call, true);
    exchange_close(call->x);
    call->x = NULL;
    call->in.len = call->out.len = call->out_at = 0;
    call->in.failed = call->out.failed = false;
    call->held_events = 0;
    sse_free(&call->sse);
    sse_init(&call->sse, CALL_EVENT_MAX);
    watch_free(&call->watch);
    watch_init(&call->watch, call->request.provider);
    translate_stream_free(call->translate);
    call->translate = NULL;
    call->mode = CALL_WAITING;
}

void call_failed(struct call *call, int status, enum watch_error error, struct view body)
{
    const struct http_response *head = call->x ? exchange_head(call->x) : NULL;
    bool fault = status >= 500 && status != 529, refusal = call_is_refusal(call, status, body);

    call->report.error_class = call_error_class(status, error);
    if (status >= 500 && head && head->status == 200)
        exchange_blame(call->x); /* the breaker has not seen it */
    if ((!refusal && call_blame_credential(call, status, error)) || (fault && take_repeat(call))) {
        call->repeats += fault;
        begin_attempt(call);
        return;
    }
    if (error == WATCH_QUOTA)
        status = 402; /* some say it with a 400 or a 429, which are for who asks */
    call->too_long = call_is_of_request(status) && ai_error_is_too_long(body);
    call_put_error(call, refusal ? 400 : status, body);
    call_publish(call, refusal ? status : call_status_for_client(status), VIEW("application/json"));
    if (call->mode != CALL_OVER)
        call_over(call, false);
}

/* ---- attempts ---- */

static void begin_attempt(struct call *call)
{
    bool head = view_eq(call->request.method, VIEW("HEAD"));
    struct exchange_request request = { .method = head ? METHOD_HEAD : METHOD_POST, .replayable = may_repeat(call) };
    uint64_t wait = 0;

    reset_attempt(call);
    call->credential = ai_credential_choose(call->provider, call->tried, loop_now_ms(call->task.loop), &wait);
    if (call->credential < 0) {
        call->retry_after_s = (wait + 999) / 1000;
        call->report.error_class = call->credential == -EAGAIN ? "rate_limit" : "credential";
        translate_error(call->provider->dialect, call_client_dialect(call), call->credential == -EAGAIN ? 429 : 502,
                        VIEW_NONE, &call->out);
        call_publish(call, call->credential == -EAGAIN ? 429 : 502, VIEW("application/json"));
        if (call->mode != CALL_OVER)
            call_over(call, false);
        return;
    }
    call->report.attempts++;
    if (call->report.attempts <= AI_CALL_TRIES)
        call->report.tries[call->report.attempts - 1].start_us = clock_mono_us();
    call->timing.attempts = (uint8_t)MIN(call->report.attempts, 255u);
    if (!call_write_request(call)) {
        give_up(call, EXCHANGE_INTERNAL, "out of memory");
        return;
    }
    request.head = buf_view(&call->message);
    if (exchange_start(&call->x, call->provider->upstream, &call->task, &request) < 0) {
        give_up(call, EXCHANGE_INTERNAL, "out of memory");
        return;
    }
    timer_set(&call->timer, call->request.stream ? call->request.candidate->first_ms : call->provider->total_ms);
    task_wake(&call->task);
}

/* Retry-After is a number or a date (RFC 9110 §10.2.3). */
static uint64_t seconds_of(struct view value)
{
    int64_t now = clock_wall_ms() / 1000, date;
    uint64_t seconds;

    if (value.ptr && view_parse_u64(value, &seconds))
        return seconds;
    return value.ptr && date_parse(value, now, &date) && date > now ? (uint64_t)(date - now) : 0;
}

/* RFC 9211: another node had it stored, so nobody was paid. */
static bool is_hit(const struct fields *fields)
{
    const struct field *status = fields_find(fields, VIEW("Cache-Status"));

    return status && memmem(status->value.ptr, status->value.len, "; hit", 5);
}

/* The provider's head is here: what is its body going to be? */
static void take_head(struct call *call)
{
    const struct http_response *head = exchange_head(call->x);
    struct view type = fields_value(&head->fields, FIELD_CONTENT_TYPE);

    call->retry_after_s = seconds_of(fields_value(&head->fields, FIELD_RETRY_AFTER));
    call->report.stored = call->provider->rung == AI_EDGE && is_hit(&head->fields);
    if (head->status < 200 || head->status >= 300) {
        call->mode = CALL_ERROR;
    } else if (call->request.raw) {
        call->mode = CALL_RAW;
        timer_clear(&call->timer);
        call_publish(call, head->status, type.len ? type : VIEW("application/octet-stream"));
    } else if (view_starts_with_icase(type, VIEW("text/event-stream"))) {
        call->mode = CALL_STREAM;
        if (translate_can(call->request.provider, call->request.client)) {
            call->translate = translate_stream_new(call->request.provider, call->request.client, call->request.model,
                                                   (uint64_t)clock_wall_ms() / 1000, true);
            if (!call->translate)
                give_up(call, EXCHANGE_INTERNAL, "out of memory");
        }
    } else {
        call->mode = CALL_PLAIN;
    }
}

static void take_bytes(struct call *call, struct view bytes)
{
    switch (call->mode) {
    case CALL_STREAM: call_take_stream(call, bytes); break;
    case CALL_RAW:
        call->billed = true;
        buf_put(&call->out, bytes);
        break;
    case CALL_ERROR:
        /* Enough to see what it is about; the rest is thrown away. */
        buf_put(&call->in, view_first(bytes, CALL_ERROR_MAX - MIN(call->in.len, CALL_ERROR_MAX)));
        break;
    case CALL_PLAIN:
        buf_put(&call->in, bytes);
        if (call->in.failed)
            call_failed(call, 502, WATCH_SERVER_ERROR, VIEW_NONE);
        break;
    case CALL_WAITING:
    case CALL_OVER: break;
    }
}

static void take_end(struct call *call)
{
    switch (call->mode) {
    case CALL_STREAM: call_end_stream(call); break;
    case CALL_PLAIN: call_end_plain(call); break;
    case CALL_ERROR: call_end_error(call, exchange_head(call->x)->status); break;
    case CALL_RAW: call_over(call, true); break;
    case CALL_WAITING:
    case CALL_OVER: break;
    }
}

/* The connection failed. */
static void take_failure(struct call *call)
{
    enum exchange_error error = exchange_error(call->x);

    if (call->mode == CALL_ERROR) {
        call_end_error(call, exchange_head(call->x)->status); /* what its status says is known */
        return;
    }
    if (call->mode == CALL_STREAM && call->published) {
        call_end_stream(call); /* not ended: says so; ended: only the connection was lost */
        return;
    }
    if (call->mode == CALL_RAW) {
        give_up(call, error, exchange_error_detail(call->x));
        return;
    }
    if (error != EXCHANGE_DESTINATION_UNAVAILABLE && take_repeat(call)) {
        call->repeats++;
        begin_attempt(call);
        return;
    }
    give_up(call, error, exchange_error_detail(call->x));
}

/* A limit in time has passed: for the first content, between two, or for all. */
static void take_timeout(struct call *call)
{
    bool all = call->total.fired, slow_reader = call->published && call->paused;

    timer_clear(&call->timer);
    if (slow_reader && !all)
        return; /* the fill's readers are slow, not the provider; see resume() */
    if (call->mode == CALL_ERROR) {
        call_end_error(call, exchange_head(call->x)->status);
        return;
    }
    if (call->mode == CALL_STREAM && call->watch.ended) {
        call_end_stream(call); /* it is complete, only its connection is not */
        return;
    }
    if (call->published && call->mode == CALL_STREAM) {
        ai_error_event(&call->out, call->request.client, 504,
                       all ? VIEW("the answer took longer than this provider is given")
                           : VIEW("the provider sent no content for too long"));
        if (!slow_reader)
            exchange_blame(call->x);
        call->report.error_class = "timeout";
        call_over(call, false);
        return;
    }
    if (!slow_reader)
        exchange_blame(call->x);
    give_up(call, EXCHANGE_RESPONSE_TIMEOUT,
            all ? "the answer took longer than this provider is given" : "no content came in time");
}

static void read_some(struct call *call)
{
    not_zeroed char memory[READ_SIZE];
    ssize_t got;

    call->paused = false;
    while (call->mode != CALL_OVER && call->mode != CALL_WAITING) {
        struct exchange *x = call->x;

        /* The fill is behind: it wakes us when it has taken what there is. */
        if (call->out.len - call->out_at >= CALL_HELD_MAX) {
            call->paused = true;
            return;
        }
        got = exchange_read(x, memory, sizeof(memory));
        if (got == -EAGAIN)
            return;
        if (got < 0)
            take_failure(call);
        else if (got == 0)
            take_end(call);
        else
            take_bytes(call, view_make(memory, (size_t)got));
        if (call->x != x)
            return; /* another attempt */
    }
}

static void call_run(struct task *task)
{
    struct call *call = CONTAINER_OF(task, struct call, task);
    bool was_published = call->published;
    size_t had = call->out.len;

    if (call->mode != CALL_OVER && (call->timer.fired || call->total.fired))
        take_timeout(call);
    if (call->mode == CALL_WAITING && call->x) {
        switch (exchange_state(call->x)) {
        case EXCHANGE_BODY:
        case EXCHANGE_DONE: take_head(call); break;
        case EXCHANGE_FAILED: take_failure(call); break;
        default: break;
        }
    }
    if (call->x)
        read_some(call);
    if (call->mode == CALL_OVER || call->published != was_published || call->out.len != had)
        task_wake(call->owner);
}

/* ---- what the fill sees ---- */

static enum exchange_state call_state(const struct source *source)
{
    return call_of(source)->state;
}

static const struct http_response *call_head(const struct source *source)
{
    return &call_of(source)->head;
}

static struct view call_head_bytes(const struct source *source)
{
    return buf_view(&call_of(source)->head_bytes);
}

/* While it was paused the provider had no chance to be late. */
static void resume(struct call *call)
{
    if (call->mode == CALL_STREAM && !call->watch.ended)
        timer_set(&call->timer, call->request.candidate->idle_ms);
    task_wake(&call->task);
}

static ssize_t call_read(struct source *source, void *memory, size_t cap)
{
    struct call *call = call_of(source);
    size_t have = call->out.len - call->out_at, take = MIN(have, cap);

    if (take == 0) {
        if (call->mode != CALL_OVER)
            return -EAGAIN;
        if (call->state == EXCHANGE_FAILED || call->out.failed)
            return -EIO;
        call->state = EXCHANGE_DONE;
        return 0;
    }
    memcpy(memory, call->out.ptr + call->out_at, take);
    call->out_at += take;
    if (call->out_at == call->out.len) {
        call->out.len = call->out_at = 0;
        if (call->paused)
            resume(call);
    } else if (call->out_at >= CALL_HELD_MAX) {
        buf_consume(&call->out, call->out_at); /* so that it never grows with what has been read */
        call->out_at = 0;
    }
    return (ssize_t)take;
}

/* Once the model has finished, little is left of a stream: usage and the terminal event. */
static uint64_t call_left(const struct source *source)
{
    const struct call *call = call_of(source);
    size_t held = call->out.len - call->out_at;

    if (call->mode == CALL_OVER)
        return held;
    return call->watch.finished ? held + CALL_TAIL_BYTES : UINT64_MAX;
}

static enum exchange_error call_error(const struct source *source)
{
    return call_of(source)->error;
}

static const char *call_detail(const struct source *source)
{
    return call_of(source)->detail;
}

static const struct exchange_timing *call_timing(const struct source *source)
{
    return &call_of(source)->timing;
}

/* What a stream used is known at its end; of a whole answer its head says it. */
static bool call_sound(struct source *source, struct buf *fields)
{
    struct call *call = call_of(source);

    if (call->sound && call->head.body != BODY_LENGTH)
        call_put_usage(call, fields);
    return call->sound && !(call->request.limited && call->watch.limited);
}

static void call_close(struct source *source)
{
    struct call *call = call_of(source);
    struct ai_call_report *report = &call->report;

    report->sound = call->sound;
    report->billed = call->billed;
    report->duration_us = clock_mono_us() - call->started_us;
    if (call->billed)
        report->usage = watch_usage(&call->watch, call->request.prompt_bytes);
    note_attempt(call, !call->sound);
    call->request.done(call->request.arg, report);
    exchange_close(call->x);
    timer_clear(&call->timer);
    timer_clear(&call->total);
    task_cancel(&call->task);
    sse_free(&call->sse);
    watch_free(&call->watch);
    translate_stream_free(call->translate);
    buf_free(&call->request.body);
    buf_free(&call->message);
    buf_free(&call->in);
    buf_free(&call->out);
    buf_free(&call->head_bytes);
    heap_free(call);
}

static const struct source_functions call_functions = {
    .state = call_state,
    .head = call_head,
    .head_bytes = call_head_bytes,
    .read = call_read,
    .left = call_left,
    .error = call_error,
    .detail = call_detail,
    .timing = call_timing,
    .sound = call_sound,
    .close = call_close,
};

int ai_call_open(void *arg, struct task *owner, struct source **ret)
{
    struct ai_call_request *request = arg;
    struct call *call = heap_zalloc(sizeof(*call));

    if (!call)
        return -ENOMEM;
    call->source.functions = &call_functions;
    task_init(&call->task, owner->loop, call_run);
    timer_init(&call->timer, &call->task);
    timer_init(&call->total, &call->task);
    call->owner = owner;
    call->request = *request;
    request->body = buf_make(request->body.max); /* ours now */
    call->provider = request->candidate->provider;
    call->credential = -1;
    call->message = buf_make(SIZE_MAX);
    call->in = buf_make(CALL_ANSWER_MAX);
    call->out = buf_make(CALL_ANSWER_MAX + CALL_EVENT_MAX);
    call->head_bytes = buf_make(CALL_HEAD_MAX);
    call->started_us = clock_mono_us();
    call->state = EXCHANGE_CONNECTING;
    sse_init(&call->sse, CALL_EVENT_MAX);
    watch_init(&call->watch, request->provider);
    timer_set(&call->total, call->provider->total_ms);
    begin_attempt(call);
    *ret = &call->source;
    return 0;
}
