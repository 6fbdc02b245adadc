/* The request body on its way to the origin: decoded from the client's framing, framed anew by the exchange, never held: what
 * the origin does not take stays in the client's socket. A service gets it whole instead. */
#include "http/conn.h"

#include <errno.h>

/* The next decoded body bytes in the input buffer; framing before them is consumed. 0 ok (perhaps empty), -errno. */
static int next_bytes(struct req *r, struct view *ret)
{
    struct sock *sock = req_sock(r);
    int used;

    if (r->request.body == BODY_LENGTH) {
        *ret = view_first(sock_input(sock), (size_t)MIN(r->body_left, SIZE_MAX));
        r->body_done = r->body_left == 0;
        return 0;
    }
    /* The decoder counts a run as taken when it shows it; what the origin did not take yet is remembered here. */
    if (r->chunk_pending == 0) {
        struct view run;

        if (!r->body_trailers.ptr)
            r->body_trailers = text_make(arena_alloc(&r->arena, 1024), 1024);
        used = http1_chunked_next(&r->decoder, sock_input(sock), &run, r->body_trailers.ptr ? &r->body_trailers : NULL);
        if (used < 0)
            return used;
        sock_consume(sock, (size_t)used);
        r->chunk_pending = run.len;
        r->body_done = r->decoder.done;
    }
    *ret = view_first(sock_input(sock), r->chunk_pending);
    return 0;
}

static void took(struct req *r, size_t len)
{
    sock_consume(req_sock(r), len);
    r->body_seen += len;
    if (r->request.body == BODY_LENGTH) {
        r->body_left -= len;
        r->body_done = r->body_left == 0;
    } else {
        r->chunk_pending -= len;
    }
}

static enum flow refuse(struct req *r, int status, const char *detail)
{
    r->close = true;
    if (r->status) { /* the answer is on its way: all that can be done is to cut it */
        r->broken = true;
        r->step = STEP_FINISH;
        return FLOW_DONE;
    }
    fill_leave(r->reader);
    r->reader = NULL;
    if (r->route->service)
        service_refuse(r, status, detail);
    else
        reply_error(r, status, detail);
    return FLOW_DONE;
}

/* Bytes taken, or -EAGAIN, -EPIPE; -ENOMEM only with a service. */
static ssize_t hand_on(struct req *r, struct view bytes)
{
    struct iovec iov = { .iov_base = (char *)(uintptr_t)bytes.ptr, .iov_len = bytes.len };

    if (!r->route->service)
        return fill_write(r->reader, &iov, 1);
    buf_put(&r->body, bytes);
    return r->body.failed ? -ENOMEM : (ssize_t)bytes.len;
}

static void hand_on_end(struct req *r)
{
    r->body_end_written = true;
    if (!r->route->service)
        fill_write_end(r->reader, r->body_trailers.ptr ? text_view(&r->body_trailers) : VIEW_NONE);
}

enum flow upload_some(struct req *r)
{
    uint64_t limit = r->route->body_limit;
    struct view bytes;

    if (r->request.body == BODY_NONE || r->body_end_written)
        return FLOW_CONTINUE;
    req_pin(r);
    if (r->broken)
        return FLOW_DONE;
    for (;;) {
        ssize_t n;
        int got;

        if (next_bytes(r, &bytes) < 0)
            return refuse(r, 400, "the chunked request body is malformed");
        if (r->body_done)
            break;
        if (limit && r->body_seen + bytes.len > limit)
            return refuse(r, 413, "the request body is larger than this route allows");
        if (bytes.len) {
            n = hand_on(r, bytes);
            if (n == -EAGAIN)
                return FLOW_CONTINUE; /* the fill wakes us */
            if (n == -ENOMEM)
                return refuse(r, 503, "out of memory");
            if (n < 0) {
                r->body_end_written = true; /* the origin wants no more: its answer or its error follows */
                return FLOW_CONTINUE;
            }
            took(r, (size_t)n);
            continue;
        }
        got = req_fill_input(r);
        r->body_stalled = r->body_stalled && got <= 0;
        if (got == -EAGAIN) {
            /* Once the origin answers, its answer decides how long this takes. */
            if (r->status)
                return FLOW_CONTINUE;
            if (r->body_stalled)
                r->timer_chosen = true;
            else
                req_set_timer(r, r->config->limits.body_timeout_ms);
            r->body_stalled = true;
            return FLOW_CONTINUE;
        }
        if (got <= 0) {
            r->broken = true; /* the client left in the middle of its body */
            r->step = STEP_FINISH;
            return FLOW_DONE;
        }
    }
    hand_on_end(r);
    return FLOW_CONTINUE;
}
