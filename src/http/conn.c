/* Client connections. The connection's task does three things in turn: read a head, run its request, read the next. A request
 * that waits holds the connection; pipelined bytes stay in the socket's buffer (and then in the kernel's) until it is done,
 * which is all the back-pressure pipelining needs.
 *
 * Closing after an answer that did not read all of its request would make the kernel send RST, which may destroy the answer
 * on its way; such a connection is shut down for writing and read for a moment first (RFC 9112 §9.6). */
#include "http/conn.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/heap.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <unistd.h>

#define LINGER_MS 2000
#define LINGER_BYTES (64u * 1024u * 1024u) /* clients send all of a body before they read why it is refused */
#define LINGER_TURN (256u * 1024u)
/* Pushing a timer out is cheaper than taking it off the wheel. */
#define NO_TIMEOUT_MS ((uint64_t)365 * 86400 * 1000)
#define REQ_ARENA_MAX ((size_t)512 * 1024)

static void conn_run(struct task *task);

static const struct http_limits *limits_of(const struct conn *c)
{
    return &server_config(c->hl->server)->limits;
}

void http_conn_new(struct http_loop *hl, int fd, const struct address *peer, enum listener_kind kind, bool local)
{
    struct conn *c = heap_zalloc(sizeof(*c));
    uint64_t limit;
    int one = 1;

    if (!c) {
        close(fd);
        return;
    }
    c->hl = hl;
    c->kind = (uint8_t)kind;
    c->local = local;
    if (peer->is.any.sa_family == AF_INET) {
        memcpy(c->address, "\0\0\0\0\0\0\0\0\0\0\xff\xff", 12);
        memcpy(c->address + 12, &peer->is.v4.sin_addr, 4);
    } else if (peer->is.any.sa_family == AF_INET6) {
        memcpy(c->address, &peer->is.v6.sin6_addr, 16);
    }
    task_init(&c->task, hl->loop, conn_run);
    timer_init(&c->timer, &c->task);
    list_init(&c->link);
    if (!local)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    limit = local ? 0 : limits_of(c)->connections_per_client;
    if (clients_add(hl, c->address, limit) < 0) {
        close(fd);
        heap_free(c);
        return;
    }
    c->counted = limit > 0; /* a reload may change whether they are */
    if (sock_open(&c->sock, hl->loop, fd, &c->task) < 0) {
        if (c->counted)
            clients_remove(hl, c->address);
        close(fd);
        heap_free(c);
        return;
    }
    list_push(&hl->conns, &c->link);
    hl->conn_count += kind == LISTENER_PUBLIC;
    if (kind == LISTENER_PUBLIC)
        http_stats_connection(hl->server->stats, hl->loop, true);
    timer_set(&c->timer, limits_of(c)->header_timeout_ms);
    task_wake(&c->task);
}

bool http_conn_is_idle(const struct conn *c)
{
    return !c->req && (c->lingering || c->sock.in_len == 0);
}

static void drop_req(struct conn *c)
{
    struct req *r = c->req;

    c->req = NULL;
    req_release(r);
    loop_block_put(c->hl->loop, r);
}

void http_conn_close(struct conn *c)
{
    /* An answer that ends here is cut: an orderly close would look like its end where the end of the connection is that. */
    if (c->req && c->req->status)
        sock_reset(&c->sock);
    if (c->req) {
        step_finish(c->req); /* the client left first: counted and logged all the same */
        drop_req(c);
    }
    timer_clear(&c->timer);
    task_cancel(&c->task);
    sock_close(&c->sock);
    list_remove(&c->link);
    c->hl->conn_count -= c->kind == LISTENER_PUBLIC;
    if (c->kind == LISTENER_PUBLIC)
        http_stats_connection(c->hl->server->stats, c->hl->loop, false);
    if (c->counted)
        clients_remove(c->hl, c->address);
    heap_free(c);
}

/* ---- what a request sees of its connection ---- */

struct sock *req_sock(struct req *r)
{
    return &r->conn->sock;
}

/* The wait that begins now may last this long; the request's total limit may cut it shorter. 0: no limit of its own. */
void req_set_timer(struct req *r, uint64_t after_ms)
{
    uint64_t now = loop_now_ms(r->hl->loop);

    if (r->deadline_ms)
        after_ms = MIN(after_ms ? after_ms : UINT64_MAX, r->deadline_ms - MIN(now, r->deadline_ms));
    else if (!after_ms)
        after_ms = NO_TIMEOUT_MS;
    timer_set(&r->conn->timer, after_ms);
    r->timer_chosen = true;
}

/* Moves the head out of the socket's buffer, so that body bytes can be read behind it. */
void req_pin(struct req *r)
{
    struct sock *sock = &r->conn->sock;

    if (r->block)
        return;
    r->block = sock_take_block(sock, r->request_bytes.len, &r->block_cap);
    if (!r->block) {
        /* Out of memory: the request cannot be read on. */
        r->broken = true;
        r->step = STEP_FINISH;
    }
}

int req_fill_input(struct req *r)
{
    return (int)sock_fill(&r->conn->sock, LOOP_BLOCK_SIZE);
}

/* A client whose connection was reset is gone. One that closed its side while nothing has been sent yet is gone: a half-closed client that still listens looks the
 * same, and waiting for a distant origin on behalf of nobody is the worse mistake (docs/http.md). */
bool req_client_gone(struct req *r)
{
    const struct conn *c = r->conn;
    bool body_read = r->request.body == BODY_NONE || r->body_done;
    int error = 0;
    socklen_t len = sizeof(error);

    if (c->sock.error || c->sock.reset)
        return true;
    /* Waiting for more of the body to arrive: nothing is written that would meet the reset. */
    if (c->sock.hangup && r->step == STEP_DELIVER)
        return getsockopt(c->sock.io.fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 && error != 0;
    return c->sock.hangup && (r->step == STEP_FETCH || r->step == STEP_SERVICE) && body_read &&
           c->sock.in_len == (r->block ? 0 : r->request_bytes.len);
}

/* ---- reading heads ---- */

static struct req *req_new(struct conn *c)
{
    struct req *r = loop_block_get(c->hl->loop);

    if (!r)
        return NULL;
    memset(r, 0, offsetof(struct req, field_list));
    r->conn = c;
    r->task = &c->task;
    r->hl = c->hl;
    r->config = server_config(c->hl->server);
    arena_init(&r->arena, r->memory, LOOP_BLOCK_SIZE - offsetof(struct req, memory), REQ_ARENA_MAX);
    fields_init(&r->request.fields, r->field_list, MIN(r->config->limits.fields, (size_t)REQ_FIELDS_MAX));
    return r;
}

static void begin_request(struct conn *c, struct req *r, size_t head_len)
{
    c->req = r;
    c->scanned = 0;
    c->head_started = false;
    c->requests++;
    r->request_bytes = view_first(sock_input(&c->sock), head_len);
    r->started_us = clock_mono_us();
    r->now_ms = loop_wall_ms(c->hl->loop);
    if (r->config->limits.total_timeout_ms)
        r->deadline_ms = loop_now_ms(c->hl->loop) + r->config->limits.total_timeout_ms;
    if (r->request.body == BODY_LENGTH && r->request.content_length == 0 &&
        (r->request.method == METHOD_GET || r->request.method == METHOD_HEAD))
        r->request.body = BODY_NONE;
    r->body_left = r->request.content_length;
    r->body_done = r->request.body == BODY_LENGTH && r->body_left == 0;
    r->close =
        !r->request.keep_alive ||
        (r->config->limits.requests_per_connection && c->requests >= r->config->limits.requests_per_connection) ||
        atomic_load_explicit(&c->hl->server->draining, memory_order_relaxed);
}

/* The head was refused: answer, then close, since where the next message begins is unknown. */
static void begin_refusal(struct conn *c, struct req *r, int status, const char *detail)
{
    c->req = r;
    r->started_us = clock_mono_us();
    r->now_ms = loop_wall_ms(c->hl->loop);
    r->request.minor = 1;
    r->request.method = METHOD_GET;
    r->request.body = BODY_NONE;
    r->close = true;
    reply_error(r, status, detail);
}

/* 1: c->req is set. 0: wait. -1: nothing more to do here, the connection is closed or closing. */
static int read_request(struct conn *c)
{
    const struct http_limits *limits = limits_of(c);
    enum http1_error error = HTTP1_OK;
    ssize_t got = 1;
    struct req *r;
    int used;

    if (c->sock.in_len == 0 || c->scanned)
        got = sock_fill(&c->sock, limits->head.head_max + 1);
    for (;;) {
        if (got == -ENOBUFS) {
            error = HTTP1_HEAD_TOO_LARGE;
        } else if (got == 0 || (got < 0 && got != -EAGAIN)) {
            http_conn_close(c);
            return -1;
        }
        if (c->sock.in_len == 0)
            return 0;
        r = req_new(c);
        if (!r) {
            http_conn_close(c);
            return -1;
        }
        if (error == HTTP1_OK) {
            size_t scanned = c->scanned;

            used = http1_parse_request(sock_input(&c->sock), &limits->head, &scanned, &r->request, &error);
            c->scanned = (uint32_t)scanned;
            if (used > 0) {
                begin_request(c, r, (size_t)used);
                return 1;
            }
        }
        if (error != HTTP1_OK) {
            http_stats_bad_request(c->hl->server->stats, c->hl->loop, error);
            begin_refusal(c, r, http1_error_status(error), http1_error_text(error));
            return 1;
        }
        loop_block_put(c->hl->loop, r);
        if (!c->scanned)
            c->scanned = 1;
        if (got == -EAGAIN)
            return 0;
        got = sock_fill(&c->sock, limits->head.head_max + 1);
    }
}

/* ---- the end of a request ---- */

static void linger(struct conn *c)
{
    c->lingering = true;
    sock_shutdown_write(&c->sock);
    timer_set(&c->timer, LINGER_MS);
}

static void run_lingering(struct conn *c)
{
    not_zeroed char waste[8192];
    uint32_t turn = 0;
    ssize_t got = 1;

    while (turn < LINGER_TURN && (got = sock_read(&c->sock, waste, sizeof(waste))) > 0)
        turn += (uint32_t)got;
    c->lingered += turn;
    if (c->lingered > LINGER_BYTES || c->timer.fired || (got <= 0 && got != -EAGAIN))
        http_conn_close(c);
    else if (got > 0)
        task_wake(&c->task);
}

/* False: the connection is closed or closing. */
static bool end_request(struct conn *c)
{
    struct req *r = c->req;
    bool unread = r->request.body != BODY_NONE && !r->body_done;
    bool close = r->close || unread, broken = r->broken;

    if (!r->block && r->request_bytes.len)
        sock_consume(&c->sock, r->request_bytes.len);
    drop_req(c);
    if (broken) {
        sock_reset(&c->sock);
        http_conn_close(c);
        return false;
    }
    if (close) {
        linger(c);
        run_lingering(c);
        return false;
    }
    c->idle_answered = true;
    timer_set(&c->timer, limits_of(c)->idle_timeout_ms);
    return true;
}

/* True: the timeout was dealt with and the run ends. */
static bool timed_out(struct conn *c)
{
    struct req *r;

    timer_clear(&c->timer);
    if (c->req) {
        /* Waiting for request body bytes, or for the client to take the answer, or the total is used up. */
        if ((c->req->step == STEP_FETCH || c->req->step == STEP_CLIMB || c->req->step == STEP_SERVICE) &&
            c->req->status == 0 && !c->req->write_stalled) {
            bool total = c->req->deadline_ms && loop_now_ms(c->hl->loop) >= c->req->deadline_ms;

            c->req->close = true;
            if (c->req->step == STEP_SERVICE && !c->req->call && !total) {
                service_refuse(c->req, 408, "the request body did not arrive in time");
                return false;
            }
            reply_error(c->req, total ? 504 : 408,
                        total ? "the request took longer than total_timeout"
                              : "the request body did not arrive in time");
            return false;
        }
        http_conn_close(c);
        return true;
    }
    if (!c->head_started && c->idle_answered) {
        http_conn_close(c);
        return true;
    }
    if (c->sock.in_len == 0 || !(r = req_new(c))) {
        http_conn_close(c);
        return true;
    }
    begin_refusal(c, r, 408, "the request head did not arrive in time");
    return false;
}

static void conn_run(struct task *task)
{
    struct conn *c = CONTAINER_OF(task, struct conn, task);

    if (c->lingering) {
        run_lingering(c);
        return;
    }
    if (c->timer.fired && timed_out(c))
        return;
    for (uint64_t left = limits_of(c)->pipelined; left > 0; left--) {
        int r = c->req ? 1 : read_request(c);

        if (r < 0)
            return;
        if (r == 0) {
            if (c->sock.in_len && !c->head_started) {
                c->head_started = true;
                timer_set(&c->timer, limits_of(c)->header_timeout_ms);
            }
            return;
        }
        c->req->timer_chosen = false;
        if (req_run(c->req) == FLOW_WAIT) {
            if (req_client_gone(c->req))
                http_conn_close(c);
            else if (!c->req->timer_chosen)
                req_set_timer(c->req, 0);
            return;
        }
        if (!end_request(c))
            return;
        if (atomic_load_explicit(&c->hl->server->draining, memory_order_relaxed) && http_conn_is_idle(c)) {
            http_conn_close(c);
            return;
        }
    }
    task_wake(&c->task);
}
