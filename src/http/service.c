/* SERVICE: routes whose answers a service makes (cache/service.h). The request is read whole, handed over, and the answer sent as it
 * comes. What the service shows is borrowed, written, and only then reported as taken. */
#include "http/conn.h"

#include "proto/date.h"

#include <errno.h>

#define HEAD_ROOM ((size_t)2048)

/* A client that waits for permission to send its body gets it: nothing of the head speaks against it (RFC 9110 §10.1.1). */
static enum flow permit(struct req *r)
{
    if (!r->request.expect_continue || r->request.minor == 0 || r->body_done || r->body_seen || r->permitted)
        return FLOW_CONTINUE;
    r->permitted = true;
    deliver_push(&r->out, VIEW("HTTP/1.1 100 Continue\r\n\r\n"));
    return deliver_flush(r);
}

static enum flow open_call(struct req *r, int status, const char *detail)
{
    const struct service *service = r->route->service;
    struct text client = text_make(arena_alloc(&r->arena, 64), 64);
    struct service_request request = {
        .request = &r->request,
        .body = buf_view(&r->body),
        .request_id = r->request_id,
        .scheme = r->scheme,
        .trace_goes_on = r->trace_goes_on,
        .now_ms = r->now_ms,
        .started_us = r->started_us,
        .refused = status,
        .detail = detail,
        .discreet = &r->discreet,
    };

    if (client.ptr)
        client_print(r, &client);
    request.client = text_view(&client);
    req_pin(r); /* the service keeps views of the head */
    if (r->broken || service->open(service->arg, r->route->service_route, r->hl->loop, r->task, &request, &r->call) < 0)
        return reply_error(r, 503, "out of memory");
    return FLOW_CONTINUE;
}

enum flow service_refuse(struct req *r, int status, const char *detail)
{
    if (r->call || r->status)
        return reply_error(r, status, detail);
    r->step = STEP_SERVICE;
    return open_call(r, status, detail);
}

/* RFC 9110 §6.4.1. */
static bool has_no_body(const struct req *r)
{
    return r->request.method == METHOD_HEAD || r->status < 200 || r->status == 204 || r->status == 304;
}

static void put_framing(struct req *r, struct text *t, const struct service_head *head)
{
    struct delivery *d = &r->out;

    if (r->status == 204 || r->status == 304) { /* nor fields that would speak of one (RFC 9112 §6.1) */
        d->framing = BODY_NONE;
    } else if (head->length_known) {
        text_lit(t, "Content-Length: ");
        text_u64(t, head->length);
        text_lit(t, "\r\n");
        d->framing = BODY_LENGTH;
        r->answer_left = head->length;
    } else if (r->request.minor >= 1) {
        text_lit(t, "Transfer-Encoding: chunked\r\n");
        d->framing = BODY_CHUNKED;
    } else {
        d->framing = BODY_EOF;
        r->close = true;
    }
}

static enum flow put_head(struct req *r, const struct service_head *head)
{
    size_t cap = HEAD_ROOM + r->config->region_line.len + r->config->via_line.len + r->request_id.len;
    struct text t = text_make(arena_alloc(&r->arena, cap), cap);

    if (!t.ptr)
        return reply_error(r, 503, "out of memory");
    r->status = head->status;
    r->served_by = head->upstream;
    r->served_rung = head->rung;
    r->outcome = head->hit         ? OUTCOME_HIT
                 : head->collapsed ? OUTCOME_COLLAPSED
                 : head->stored    ? OUTCOME_MISS
                 : head->refused   ? OUTCOME_ERROR
                                   : OUTCOME_BYPASS;
    text_lit(&t, "HTTP/1.1 ");
    text_u64(&t, head->status);
    text_char(&t, ' ');
    text_put(&t, reply_reason(head->status));
    text_lit(&t, "\r\nDate: ");
    date_put(&t, loop_wall_ms(r->hl->loop) / 1000);
    text_lit(&t, "\r\n");
    deliver_push(&r->out, text_view(&t));
    deliver_push(&r->out, head->fields);
    t = text_make(t.ptr + t.len, t.cap - t.len);
    put_framing(r, &t, head);
    head_fields(r, &t);
    text_lit(&t, "\r\n");
    deliver_push(&r->out, text_view(&t));
    return FLOW_CONTINUE;
}

/* Queues the next piece of the body. 1: queued; 0: the end; -EAGAIN; -EIO. */
static ssize_t queue_piece(struct req *r)
{
    struct delivery *d = &r->out;
    struct text frame = TEXT_ON(d->frame);
    struct view run;
    ssize_t got = r->route->service->read(r->call, &run);

    if (got <= 0)
        return got;
    if (d->framing == BODY_LENGTH) {
        if (run.len > r->answer_left)
            return -EIO;
        r->answer_left -= run.len;
    }
    d->queued_body = run.len;
    if (has_no_body(r))
        return 1;
    if (d->framing == BODY_CHUNKED) {
        text_printf(&frame, "%zx\r\n", run.len);
        deliver_push(d, text_view(&frame));
    }
    deliver_push(d, run);
    if (d->framing == BODY_CHUNKED)
        deliver_push(d, VIEW("\r\n"));
    return 1;
}

static void queue_end(struct req *r)
{
    struct delivery *d = &r->out;

    if (d->framing == BODY_CHUNKED && !has_no_body(r))
        deliver_push(d, VIEW("0\r\n\r\n"));
    d->framing = BODY_NONE;
    r->answered = true;
}

static enum flow cut(struct req *r)
{
    r->broken = true;
    r->step = STEP_FINISH;
    return FLOW_CONTINUE;
}

/* Head and the first piece leave in one write, and so do the last piece and the end. */
static enum flow send_answer(struct req *r)
{
    struct delivery *d = &r->out;
    enum flow flow;

    for (;;) {
        ssize_t got = 0;

        while (!r->answered && !d->queued_body && (got = queue_piece(r)) == 0) {
            if (d->framing == BODY_LENGTH && r->answer_left && !has_no_body(r))
                return cut(r);
            queue_end(r);
        }
        if (got < 0 && got != -EAGAIN)
            return cut(r);
        if (d->count == 0 && d->queued_body == 0) {
            if (!r->answered)
                return FLOW_WAIT;
            r->step = STEP_FINISH;
            return FLOW_CONTINUE;
        }
        flow = deliver_flush(r);
        if (flow != FLOW_CONTINUE)
            return flow == FLOW_DONE ? FLOW_CONTINUE : flow;
        if (d->queued_body)
            r->route->service->took(r->call, (size_t)d->queued_body);
        d->queued_body = 0;
    }
}

enum flow step_service(struct req *r)
{
    struct service_head head = { 0 };
    enum flow flow;
    int got;

    if (r->status)
        return send_answer(r);
    if (!r->call) {
        flow = permit(r);
        if (flow != FLOW_CONTINUE)
            return flow == FLOW_DONE ? FLOW_CONTINUE : flow;
        if (upload_some(r) == FLOW_DONE)
            return FLOW_CONTINUE;
        if (r->request.body != BODY_NONE && !r->body_end_written)
            return FLOW_WAIT;
        flow = open_call(r, 0, NULL);
        if (!r->call)
            return flow;
    }
    got = r->route->service->head(r->call, &head);
    if (got == -EAGAIN)
        return FLOW_WAIT;
    if (got < 0)
        return reply_error(r, 503, "out of memory");
    flow = put_head(r, &head);
    if (!r->status || r->step != STEP_SERVICE)
        return flow;
    return send_answer(r);
}
