/* Bodies. Out: our framing stands in line before the owner's bytes and the owner's bytes are never kept. In: a body of
 * known length goes from the socket straight into the owner's memory; chunked ones pass the input buffer, except the
 * inside of large chunks. */
#include "upstream/exchange_internal.h"

#include "base/check.h"

#include <errno.h>

/* Below this the read that fetches framing and data together is cheaper than two exact ones. */
#define DIRECT_MIN (LOOP_BLOCK_SIZE / 2)
#define IOV_MAX_USED 60

/* ---- out ---- */

bool exchange_request_sent(const struct exchange *x)
{
    return x->body_ended && x->out_at == x->out_count && !x->write_dead;
}

static void put_out(struct exchange *x, struct view v)
{
    if (v.len == 0)
        return;
    CHECK((size_t)x->out_count < ARRAY_LEN(x->out));
    x->out[x->out_count++] = (struct iovec){ (void *)(uintptr_t)v.ptr, v.len };
}

/* The origin takes nothing now: it gets idle_ms to change that. */
static void blocked(struct exchange *x)
{
    if (!x->write_blocked)
        exchange_arm(x, x->upstream->options.timeouts.idle_ms);
    x->write_blocked = true;
}

static void unblocked(struct exchange *x)
{
    if (x->write_blocked && !x->read_waiting)
        timer_clear(&x->timer);
    x->write_blocked = false;
    x->sent_any = true;
}

/* An answer may lie in the kernel although the connection takes nothing more (413 and close). */
static void writing_died(struct exchange *x)
{
    x->write_dead = true;
    x->write_blocked = false;
    x->conn->sock.readable = true;
    if (x->step <= X_HEAD)
        exchange_arm(x, x->upstream->options.timeouts.first_byte_ms);
    task_wake(&x->task);
}

int exchange_flush(struct exchange *x)
{
    if (x->write_dead)
        return -EPIPE;
    while (x->out_at < x->out_count) {
        ssize_t n = sock_writev(&x->conn->sock, &x->out[x->out_at], x->out_count - x->out_at, false);

        if (n == -EAGAIN) {
            blocked(x);
            return -EAGAIN;
        }
        if (n < 0) {
            writing_died(x);
            return -EPIPE;
        }
        unblocked(x);
        for (size_t left = (size_t)n; left;) {
            struct iovec *piece = &x->out[x->out_at];
            size_t part = MIN(left, piece->iov_len);

            piece->iov_base = (char *)piece->iov_base + part;
            piece->iov_len -= part;
            left -= part;
            if (piece->iov_len == 0)
                x->out_at++;
        }
    }
    x->out_at = x->out_count = 0;
    return 0;
}

void exchange_queue_end(struct exchange *x)
{
    if (x->request.body != BODY_CHUNKED)
        return;
    put_out(x, VIEW("0\r\n"));
    put_out(x, x->trailers_out);
    put_out(x, VIEW("\r\n"));
}

/* The connection takes nothing more, but the owner goes on with the next one, unless an answer is found in this one. */
static bool retry_coming(const struct exchange *x)
{
    return x->write_dead && x->step <= X_HEAD && exchange_may_retry(x);
}

/* May the owner write now? 0, -EAGAIN, -EPIPE. */
static int check_writable(struct exchange *x)
{
    if (x->step < X_SEND)
        return -EAGAIN;
    if (x->step > X_BODY || x->write_dead || x->body_ended)
        return -EPIPE;
    return exchange_flush(x);
}

/* At most `max` bytes of the owner's pieces; returns how many pieces, their bytes in *ret_len. */
static int clip(const struct iovec *iov, int count, uint64_t max, struct iovec *to, size_t *ret_len)
{
    size_t len = 0;
    int n = 0;

    for (int i = 0; i < count && n < IOV_MAX_USED && max; i++) {
        size_t part = (size_t)MIN((uint64_t)iov[i].iov_len, max);

        if (part == 0)
            continue;
        to[n++] = (struct iovec){ iov[i].iov_base, part };
        len += part;
        max -= part;
    }
    *ret_len = len;
    return n;
}

static ssize_t send_pieces(struct exchange *x, const struct iovec *iov, int count)
{
    ssize_t n = sock_writev(&x->conn->sock, iov, count, false);

    if (n == -EAGAIN) {
        blocked(x);
        return n;
    }
    if (n < 0) {
        writing_died(x);
        return -EPIPE;
    }
    unblocked(x);
    return n;
}

static ssize_t write_plain(struct exchange *x, const struct iovec *iov, int count)
{
    struct iovec pieces[IOV_MAX_USED];
    size_t len;
    int used = clip(iov, count, x->body_left, pieces, &len);
    ssize_t n;

    if (used == 0)
        return -EMSGSIZE;
    n = send_pieces(x, pieces, used);
    if (n > 0)
        x->body_left -= (uint64_t)n;
    return n;
}

/* A chunk is promised with its size line and then filled, however many calls that takes. The promise is kept even when
 * nothing of it could be sent: under TLS the very same bytes must be offered again. */
static ssize_t write_chunk(struct exchange *x, const struct iovec *iov, int count)
{
    struct iovec pieces[IOV_MAX_USED + 2];
    size_t data, framed, crlf;
    int used;
    ssize_t n;

    if (x->chunk_left == 0) {
        struct text line = TEXT_ON(x->frame);

        clip(iov, count, UINT64_MAX, pieces + 1, &data);
        text_printf(&line, "%zx\r\n", data);
        x->chunk_left = data;
        x->frame_at = 0;
        x->frame_len = (uint8_t)line.len;
    }
    framed = x->frame_len;
    pieces[0] = (struct iovec){ x->frame + x->frame_at, framed };
    used = 1 + clip(iov, count, x->chunk_left, pieces + 1, &data);
    crlf = data == x->chunk_left ? 2 : 0;
    if (crlf)
        pieces[used++] = (struct iovec){ (char *)(uintptr_t) "\r\n", 2 };
    n = framed ? send_pieces(x, pieces, used) : send_pieces(x, pieces + 1, used - 1);
    if (n < 0)
        return n;
    framed = MIN(framed, (size_t)n);
    x->frame_at = (uint8_t)(x->frame_at + framed);
    x->frame_len = (uint8_t)(x->frame_len - framed);
    data = MIN(data, (size_t)n - framed);
    x->chunk_left -= data;
    if (x->chunk_left == 0 && crlf)
        put_out(x, view_skip(VIEW("\r\n"), (size_t)n - framed - data));
    return data ? (ssize_t)data : -EAGAIN;
}

ssize_t exchange_write(struct exchange *x, const struct iovec *iov, int count)
{
    struct iovec probe[IOV_MAX_USED];
    size_t len;
    ssize_t n;
    int r = check_writable(x);

    if (r < 0)
        return retry_coming(x) ? -EAGAIN : r;
    if (clip(iov, count, UINT64_MAX, probe, &len) == 0)
        return 0;
    /* From here on the request cannot be repeated: the owner's bytes are gone once taken. */
    n = x->request.body == BODY_CHUNKED ? write_chunk(x, iov, count) : write_plain(x, iov, count);
    if (n == -EAGAIN) {
        /* Some framing may have left without a byte of the owner's; the edge may already have been used up. */
        if (x->conn->sock.writable)
            task_wake(&x->task);
        return n;
    }
    if (n < 0)
        return retry_coming(x) ? -EAGAIN : n;
    x->body_started = true;
    pool_count(x->pool, POOL_BYTES_OUT, (uint64_t)n);
    return n;
}

int exchange_write_end(struct exchange *x, struct view trailers)
{
    x = exchange_live(x);
    if (x->body_left > 0 || x->chunk_left > 0)
        return -EMSGSIZE;
    if (x->step == X_TWIN)
        return 0; /* no body, and its end is known */
    if (x->step > X_BODY || (x->write_dead && !retry_coming(x)))
        return -EPIPE;
    if (x->body_ended)
        return 0;
    x->body_ended = true;
    x->trailers_out = trailers;
    if (x->step < X_SEND || x->write_dead)
        return 0; /* queued with the head */
    exchange_queue_end(x);
    if (exchange_flush(x) == -EPIPE)
        return -EPIPE;
    if (x->step == X_HEAD && exchange_request_sent(x))
        exchange_arm(x, x->upstream->options.timeouts.first_byte_ms);
    return 0;
}

/* ---- in ---- */

static void finish(struct exchange *x)
{
    timer_clear(&x->timer);
    timer_clear(&x->total);
    x->step = X_DONE;
}

/* What a read that brought nothing means. */
static ssize_t nothing_read(struct exchange *x, ssize_t r)
{
    if (r == -EAGAIN) {
        if (!x->read_waiting)
            exchange_arm(x, x->upstream->options.timeouts.idle_ms);
        x->read_waiting = true;
        return -EAGAIN;
    }
    /* Without a length the end of the connection is the end of the body, but only an orderly one. */
    if (r == 0 && x->response.body == BODY_EOF) {
        finish(x);
        return 0;
    }
    if (r == -ENOMEM)
        exchange_fail(x, EXCHANGE_INTERNAL, "out of memory");
    else
        exchange_fail(x, EXCHANGE_RESPONSE_INCOMPLETE, "the connection ended within the response body");
    return -EIO;
}

static ssize_t got_bytes(struct exchange *x, size_t len)
{
    x->read_waiting = false;
    pool_count(x->pool, POOL_BYTES_IN, len);
    return (ssize_t)len;
}

static ssize_t read_plain(struct exchange *x, void *memory, size_t cap)
{
    bool counted = x->response.body == BODY_LENGTH;
    ssize_t n = sock_read(&x->conn->sock, memory, counted ? (size_t)MIN((uint64_t)cap, x->left) : cap);

    if (n <= 0)
        return nothing_read(x, n);
    if (counted) {
        x->left -= (uint64_t)n;
        if (x->left == 0)
            finish(x);
    }
    return got_bytes(x, (size_t)n);
}

/* Inside a large chunk with nothing buffered: the data goes where it belongs, the decoder is told afterwards. */
static ssize_t read_inside_chunk(struct exchange *x, void *memory, size_t cap)
{
    ssize_t n = sock_read(&x->conn->sock, memory, (size_t)MIN((uint64_t)cap, x->decoder.left));
    struct view data;

    if (n <= 0)
        return nothing_read(x, n);
    CHECK(http1_chunked_next(&x->decoder, view_make(memory, (size_t)n), &data, NULL) == 0 && data.len == (size_t)n);
    x->mid_chunk = x->decoder.left > 0;
    return got_bytes(x, (size_t)n);
}

static ssize_t read_chunked(struct exchange *x, void *memory, size_t cap)
{
    struct sock *sock = &x->conn->sock;
    struct view data;
    ssize_t n;
    int r;

    for (;;) {
        if (x->run) {
            n = sock_read(sock, memory, MIN(cap, x->run));
            CHECK(n > 0);
            x->run -= (size_t)n;
            return got_bytes(x, (size_t)n);
        }
        if (sock_input(sock).len) {
            r = http1_chunked_next(&x->decoder, sock_input(sock), &data, &x->trailers);
            if (r < 0) {
                exchange_fail(x, EXCHANGE_TRANSFER_CODING, http1_error_text(HTTP1_BAD_CHUNK));
                return -EIO;
            }
            x->run = data.len;
            x->mid_chunk = data.len && x->decoder.left > 0;
            sock_consume(sock, (size_t)r);
            if (x->decoder.done) {
                finish(x);
                return 0;
            }
            if (x->run)
                continue;
        }
        if (x->mid_chunk && cap >= DIRECT_MIN && x->decoder.left >= DIRECT_MIN)
            return read_inside_chunk(x, memory, cap);
        n = sock_fill(sock, LOOP_BLOCK_SIZE);
        if (n <= 0)
            return nothing_read(x, n);
    }
}

ssize_t exchange_read(struct exchange *x, void *memory, size_t cap)
{
    x = exchange_live(x);
    if (x->step == X_FAILED)
        return -EIO;
    if (x->step == X_DONE)
        return 0;
    if (x->step != X_BODY || cap == 0)
        return -EAGAIN;
    return x->response.body == BODY_CHUNKED ? read_chunked(x, memory, cap) : read_plain(x, memory, cap);
}

uint64_t exchange_body_left(const struct exchange *x)
{
    x = exchange_live(x);
    if (x->step == X_DONE || (x->have_head && x->response.body == BODY_NONE))
        return 0;
    return x->have_head && x->response.body == BODY_LENGTH ? x->left : UINT64_MAX;
}

struct view exchange_trailers(const struct exchange *x)
{
    x = exchange_live(x);
    return x->step == X_DONE ? text_view(&x->trailers) : VIEW_NONE;
}
