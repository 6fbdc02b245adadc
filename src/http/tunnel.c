/* After 101 Switching Protocols (RFC 9110 §7.8) the node only moves bytes, both ways, each at the pace of its taker. The
 * sockets' own input buffers are the only ones. */
#include "http/conn.h"

#include <errno.h>

#define TUNNEL_BUFFER LOOP_BLOCK_SIZE

/* 0: nothing more now. 1: the source has ended and everything was passed on. -1: broken. */
static int move(struct sock *from, struct sock *to, bool *shut, uint64_t *moved)
{
    for (;;) {
        struct view ready = sock_input(from);
        ssize_t n;

        if (ready.len) {
            struct iovec iov = { .iov_base = (char *)(uintptr_t)ready.ptr, .iov_len = ready.len };

            n = sock_writev(to, &iov, 1, false);
            if (n == -EAGAIN)
                return 0;
            if (n < 0)
                return -1;
            *moved += (uint64_t)n;
            sock_consume(from, (size_t)n);
            continue;
        }
        n = sock_fill(from, TUNNEL_BUFFER);
        if (n == -EAGAIN)
            return 0;
        if (n < 0)
            return -1;
        if (n == 0) {
            if (!*shut)
                sock_shutdown_write(to);
            *shut = true;
            return 1;
        }
    }
}

static bool tunnel_begin(struct req *r)
{
    req_pin(r);
    if (r->broken || fill_take_sock(r->reader, r->task, &r->tunnel) < 0)
        return false;
    r->tunnel_open = true;
    r->status = 101;
    r->outcome = OUTCOME_BYPASS;
    r->why = WHY_UPGRADE;
    r->close = true;
    return true;
}

/* A peer that is gone looks like one that only closed its side. The other one is waited for as long as bytes come; it must not
 * hold a connection to the origin for ever. */
static void limit_half_closed(struct req *r, bool moved)
{
    if (!r->out.suffix_queued && !r->out.prefix_queued)
        return;
    if (moved || !r->body_stalled)
        req_set_timer(r, r->config->limits.idle_timeout_ms);
    r->timer_chosen = r->body_stalled = true;
}

enum flow step_tunnel(struct req *r)
{
    uint64_t before = r->bytes_out + r->body_seen;
    int up, down;

    if (!r->tunnel_open && !tunnel_begin(r)) {
        r->broken = true;
        r->step = STEP_FINISH;
        return FLOW_CONTINUE;
    }
    if (r->out.count && deliver_flush(r) != FLOW_CONTINUE)
        return r->step == STEP_FINISH ? FLOW_CONTINUE : FLOW_WAIT;
    down = move(&r->tunnel, req_sock(r), &r->out.suffix_queued, &r->bytes_out);
    up = move(req_sock(r), &r->tunnel, &r->out.prefix_queued, &r->body_seen);
    if (up < 0 || down < 0 || (r->out.suffix_queued && r->out.prefix_queued)) {
        r->broken = up < 0 || down < 0;
        r->step = STEP_FINISH;
        return FLOW_CONTINUE;
    }
    limit_half_closed(r, r->bytes_out + r->body_seen > before);
    return FLOW_WAIT;
}
