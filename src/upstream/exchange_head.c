/* Sending the request head; reading 1xx heads and the final one. The head of the final response keeps the input block it
 * was received in, so that its views stay valid while the body is read into a new one. */
#include "upstream/exchange_internal.h"

#include "base/check.h"
#include "base/clock.h"

#include <errno.h>

void exchange_queue_head(struct exchange *x)
{
    const struct view head = x->request.head;

    x->out[0] = (struct iovec){ (void *)(uintptr_t)head.ptr, head.len };
    x->out_at = 0;
    x->out_count = 1;
    if (x->request.body != BODY_NONE && x->body_ended)
        exchange_queue_end(x);
}

/* Once the whole request has left the origin has the word, and the clock runs. */
static void arm_response_timer(struct exchange *x)
{
    const struct upstream_timeouts *t = &x->upstream->options.timeouts;

    if (exchange_request_sent(x) || x->write_dead)
        exchange_arm(x, t->first_byte_ms);
    else if (!x->write_blocked)
        timer_clear(&x->timer);
}

enum exchange_verdict exchange_step_send(struct exchange *x)
{
    int r = exchange_flush(x);

    if (r == -EAGAIN)
        return X_WAIT;
    x->step = X_HEAD;
    arm_response_timer(x);
    /* The owner may have been refused while there was no connection. */
    if (!x->body_ended)
        task_wake(x->owner);
    return X_CONTINUE;
}

static void fail_parse(struct exchange *x, enum http1_error error)
{
    enum exchange_error type = EXCHANGE_PROTOCOL_ERROR;

    if (error == HTTP1_HEAD_TOO_LARGE || error == HTTP1_TOO_MANY_FIELDS)
        type = EXCHANGE_HEAD_TOO_LARGE;
    else if (error == HTTP1_BAD_TRANSFER_ENCODING || error == HTTP1_UNSUPPORTED_CODING)
        type = EXCHANGE_TRANSFER_CODING;
    exchange_fail(x, type, http1_error_text(error));
}

/* Drops the interim head at the front of the input. */
static void drop_interim(struct exchange *x)
{
    sock_consume(&x->conn->sock, x->interim_len);
    x->interim_len = 0;
    x->scanned = 0;
    arm_response_timer(x);
}

static enum exchange_verdict got_interim(struct exchange *x, size_t len)
{
    if (++x->interim_count > EXCHANGE_INTERIM_MAX) {
        exchange_fail(x, EXCHANGE_PROTOCOL_ERROR, "too many interim responses");
        return X_WAIT;
    }
    x->interim_len = len;
    if (!x->request.want_interim) {
        drop_interim(x);
        return X_CONTINUE;
    }
    timer_clear(&x->timer); /* it is the owner's turn */
    exchange_hedge_drop(x);
    x->step = X_INTERIM;
    task_wake(x->owner);
    return X_WAIT;
}

static enum exchange_verdict got_head(struct exchange *x, size_t len)
{
    struct sock *sock = &x->conn->sock;
    struct http_response *response = &x->response;

    if (exchange_judge_head(x))
        return X_CONTINUE;
    x->block_at = sock->in_at;
    x->block = sock_take_block(sock, len, &x->block_cap);
    if (!x->block) {
        exchange_fail(x, EXCHANGE_INTERNAL, "out of memory");
        return X_WAIT;
    }
    x->head_len = len;
    x->have_head = true;
    timer_clear(&x->timer);
    x->left = response->body == BODY_LENGTH ? response->content_length : 0;
    if (response->status == 101) {
        timer_clear(&x->total);
        x->step = X_TUNNEL;
    } else if (response->body == BODY_NONE || (response->body == BODY_LENGTH && x->left == 0)) {
        timer_clear(&x->total);
        x->step = X_DONE;
    } else {
        x->step = X_BODY;
    }
    task_wake(x->owner);
    return X_WAIT;
}

static enum exchange_verdict got_any(struct exchange *x, size_t len)
{
    unsigned status = x->response.status;

    if (status >= 200)
        return got_head(x, len);
    if (status != 101)
        return got_interim(x, len);
    if (x->request.upgrade && exchange_request_sent(x))
        return got_head(x, len);
    exchange_fail(x, EXCHANGE_PROTOCOL_ERROR, "101 without an upgrade request");
    return X_WAIT;
}

enum exchange_verdict exchange_step_head(struct exchange *x)
{
    struct http1_limits limits = { .head_max = x->upstream->options.head_max };
    struct sock *sock = &x->conn->sock;
    enum http1_error error = HTTP1_OK;
    bool sent = exchange_request_sent(x);
    ssize_t r;

    /* What is left of the request goes out beside the reading; its failure shows when there is nothing to read. */
    if (!sent && exchange_flush(x) == 0 && exchange_request_sent(x))
        arm_response_timer(x);
    for (;;) {
        if (sock_input(sock).len) {
            r = http1_parse_response(sock_input(sock), &limits, &x->scanned, x->request.method, &x->response, &error);
            if (r > 0)
                return got_any(x, (size_t)r);
            if (r != -EAGAIN) {
                fail_parse(x, error);
                return X_WAIT;
            }
        }
        r = sock_fill(sock, limits.head_max);
        if (r == -EAGAIN)
            return X_WAIT;
        if (r == -ENOBUFS) {
            fail_parse(x, HTTP1_HEAD_TOO_LARGE);
            return X_WAIT;
        }
        if (r <= 0)
            return exchange_broken(x, (int)-r);
        if (!x->timing.first_byte_us)
            x->timing.first_byte_us = (uint32_t)MIN(clock_mono_us() - x->started_us, UINT32_MAX);
    }
}

const struct http_response *exchange_interim(const struct exchange *x)
{
    return x->step == X_INTERIM ? &x->response : NULL;
}

void exchange_interim_next(struct exchange *x)
{
    if (x->step != X_INTERIM)
        return;
    drop_interim(x);
    x->step = X_HEAD;
    while (x->step == X_HEAD && exchange_step_head(x) == X_CONTINUE)
        ;
    /* A retry is out of the question after an interim response; whatever else happened is in the state. */
    if (x->step != X_HEAD)
        task_wake(x->owner);
}

const struct http_response *exchange_head(const struct exchange *x)
{
    x = exchange_live(x);
    return x->have_head ? &x->response : NULL;
}

struct view exchange_head_bytes(const struct exchange *x)
{
    x = exchange_live(x);
    if (x->have_head)
        return view_make(x->block + x->block_at, x->head_len);
    if (x->step == X_INTERIM)
        return view_first(sock_input(&x->conn->sock), x->interim_len);
    return VIEW_NONE;
}
