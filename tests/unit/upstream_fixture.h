/* A scripted origin (a thread with blocking sockets, ordered by what it reads) and a client that makes exchanges one after
 * the other on a real loop. Nothing here waits by time. */
#pragma once

#include <openssl/ssl.h>

#include "base/heap.h"
#include "base/text.h"
#include "net/dns.h"
#include "upstream/exchange.h"

#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

enum op_kind {
    OP_END,
    OP_ACCEPT,
    OP_READ_HEAD,
    OP_READ_UNTIL,
    OP_SEND,
    OP_FILL,
    OP_CLOSE,
    OP_RESET,
    OP_READ_EOF,
    OP_GATE
};

struct op {
    enum op_kind kind;
    const char *text; /* OP_SEND: what; OP_READ_UNTIL: up to these bytes */
    size_t len;       /* OP_FILL: so many 'x' */
};

struct origin {
    int listener, fd;
    uint16_t port;
    const struct op *script;
    SSL_CTX *tls;
    SSL *ssl;
    pthread_t thread;
    char got[65536]; /* everything read, all connections */
    size_t got_len;
    unsigned accepted, resumed, refused;
    sem_t gate; /* OP_GATE waits for a post */
};

static inline ssize_t origin_recv(struct origin *o, char *memory, size_t cap)
{
    return o->ssl ? SSL_read(o->ssl, memory, (int)cap) : recv(o->fd, memory, cap, 0);
}

static inline void origin_send(struct origin *o, const char *ptr, size_t len)
{
    while (len) {
        ssize_t n = o->ssl ? SSL_write(o->ssl, ptr, (int)len) : send(o->fd, ptr, len, MSG_NOSIGNAL);

        if (n <= 0)
            return;
        ptr += n;
        len -= (size_t)n;
    }
}

/* Byte by byte, so that nothing of the next message is taken. */
static inline void origin_read_until(struct origin *o, const char *mark)
{
    size_t len = strlen(mark), from = o->got_len;

    while (o->got_len < sizeof(o->got) && origin_recv(o, o->got + o->got_len, 1) == 1) {
        o->got_len++;
        if (o->got_len - from >= len && memcmp(o->got + o->got_len - len, mark, len) == 0)
            return;
    }
}

static inline void origin_close(struct origin *o, bool reset)
{
    struct linger linger = { .l_onoff = 1 };

    if (o->fd < 0)
        return;
    if (o->ssl) {
        SSL_shutdown(o->ssl);
        SSL_free(o->ssl);
        o->ssl = NULL;
    }
    if (reset)
        setsockopt(o->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
    close(o->fd);
    o->fd = -1;
}

static inline void origin_accept(struct origin *o)
{
    origin_close(o, false);
    o->fd = accept(o->listener, NULL, NULL);
    o->accepted++;
    if (!o->tls || o->fd < 0)
        return;
    o->ssl = SSL_new(o->tls);
    SSL_set_fd(o->ssl, o->fd);
    if (SSL_accept(o->ssl) != 1)
        o->refused++;
    else if (SSL_session_reused(o->ssl))
        o->resumed++;
}

static inline void *origin_main(void *arg)
{
    struct origin *o = arg;
    char block[4096], c;

    memset(block, 'x', sizeof(block));
    for (const struct op *op = o->script; op->kind != OP_END; op++) {
        switch (op->kind) {
        case OP_ACCEPT: origin_accept(o); break;
        case OP_READ_HEAD: origin_read_until(o, "\r\n\r\n"); break;
        case OP_READ_UNTIL: origin_read_until(o, op->text); break;
        case OP_SEND: origin_send(o, op->text, strlen(op->text)); break;
        case OP_FILL:
            for (size_t left = op->len; left; left -= MIN(left, sizeof(block)))
                origin_send(o, block, MIN(left, sizeof(block)));
            break;
        case OP_READ_EOF:
            while (origin_recv(o, &c, 1) > 0)
                ;
            break;
        case OP_GATE: sem_wait(&o->gate); break;
        default: origin_close(o, op->kind == OP_RESET);
        }
    }
    origin_close(o, false);
    return NULL;
}

static inline void origin_start(struct origin *o, const struct op *script, SSL_CTX *tls)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof(address);

    memset(o, 0, sizeof(*o));
    o->fd = -1;
    o->script = script;
    o->tls = tls;
    sem_init(&o->gate, 0, 0);
    o->listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(o->listener, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(o->listener, 16), 0);
    getsockname(o->listener, (struct sockaddr *)&address, &len);
    o->port = ntohs(address.sin_port);
    assert_int_equal(pthread_create(&o->thread, NULL, origin_main, o), 0);
}

static inline void origin_join(struct origin *o)
{
    pthread_join(o->thread, NULL);
    close(o->listener);
    sem_destroy(&o->gate);
    o->got[MIN(o->got_len, sizeof(o->got) - 1)] = '\0';
}

/* ---- the client ---- */

struct call {
    const char *head, *body, *trailers;
    enum http_method method; /* METHOD_OTHER: GET */
    enum http_body kind;
    bool replayable, want_interim, upgrade;
    bool leave_early; /* close as soon as the head is there */
    size_t piece;     /* body bytes per write; 0: all */
    int deadline_in;  /* milliseconds from the start; negative: over already; 0: none */
};

struct result {
    enum exchange_error error;
    char detail[96];
    int status;
    char body[4096], interim[1024], trailers[256];
    size_t body_len, interim_len, trailers_len;
    struct exchange_timing timing;
    bool write_refused, body_broken;
};

struct client {
    struct task task;
    struct loop *loop;
    struct upstream *upstream;
    const struct call *calls;
    unsigned count, at;
    struct exchange *x;
    size_t written;
    bool ended;
    struct sock tunnel;
    struct upstream_server_stats server; /* the first one's, at the end */
    struct result results[8];
};

static inline void keep(char *to, size_t cap, size_t *len, const char *ptr, size_t n)
{
    size_t part = *len < cap ? MIN(n, cap - *len) : 0;

    if (part)
        memcpy(to + *len, ptr, part);
    *len += n;
}

static inline void client_write(struct client *c, const struct call *call, struct result *result)
{
    while (!c->ended && call->kind != BODY_NONE) {
        size_t left = strlen(call->body) - c->written, want = call->piece ? MIN(call->piece, left) : left;
        struct iovec iov = { (char *)(uintptr_t)call->body + c->written, want };
        ssize_t n = want ? exchange_write(c->x, &iov, 1) : 0;

        if (n == -EAGAIN)
            return;
        if (n < 0) {
            result->write_refused = true;
            c->ended = true;
            return;
        }
        c->written += (size_t)n;
        if (c->written == strlen(call->body)) {
            c->ended = true;
            exchange_write_end(c->x, view_str(call->trailers));
        }
    }
}

static inline void client_finish(struct client *c, struct result *result)
{
    const struct http_response *head = exchange_head(c->x);
    struct view trailers = exchange_trailers(c->x);

    result->error = exchange_error(c->x);
    snprintf(result->detail, sizeof(result->detail), "%s", exchange_error_detail(c->x));
    result->timing = *exchange_timing(c->x);
    result->status = head ? head->status : 0;
    keep(result->trailers, sizeof(result->trailers) - 1, &result->trailers_len, trailers.ptr, trailers.len);
    exchange_close(c->x);
    c->x = NULL;
    c->at++;
}

/* False: wait. */
static inline bool client_step(struct client *c)
{
    const struct call *call = &c->calls[c->at];
    struct result *result = &c->results[c->at];
    static char memory[65536];
    struct view head;
    ssize_t n;

    client_write(c, call, result);
    switch (exchange_state(c->x)) {
    case EXCHANGE_CONNECTING:
    case EXCHANGE_WAITING: return false;
    case EXCHANGE_INTERIM:
        head = exchange_head_bytes(c->x);
        keep(result->interim, sizeof(result->interim) - 1, &result->interim_len, head.ptr, head.len);
        exchange_interim_next(c->x);
        return true;
    case EXCHANGE_BODY:
        if (!call->leave_early) {
            n = exchange_read(c->x, memory, sizeof(memory));
            if (n == -EAGAIN)
                return false;
            if (n > 0)
                keep(result->body, sizeof(result->body) - 1, &result->body_len, memory, (size_t)n);
            result->body_broken = n < 0;
            return true;
        }
        break;
    case EXCHANGE_TUNNEL:
        if (!sock_is_open(&c->tunnel))
            assert_int_equal(exchange_take_sock(c->x, &c->task, &c->tunnel), 0);
        n = sock_read(&c->tunnel, memory, sizeof(memory));
        if (n == -EAGAIN)
            return false;
        if (n > 0) {
            struct iovec echo = { memory, (size_t)n };

            keep(result->body, sizeof(result->body) - 1, &result->body_len, memory, (size_t)n);
            assert_int_equal(sock_writev(&c->tunnel, &echo, 1, false), n);
            return true;
        }
        sock_close(&c->tunnel);
        break;
    default: break;
    }
    client_finish(c, result);
    return true;
}

static inline void client_run(struct task *task)
{
    struct client *c = CONTAINER_OF(task, struct client, task);

    for (;;) {
        if (!c->x) {
            const struct call *call = &c->calls[c->at];
            struct exchange_request request;

            if (c->at == c->count) {
                loop_stop(c->loop);
                return;
            }
            c->written = 0;
            c->ended = call->kind == BODY_NONE;
            request = (struct exchange_request){
                .method = call->method ? call->method : METHOD_GET,
                .head = view_str(call->head),
                .body = call->kind,
                .content_length = call->body ? strlen(call->body) : 0,
                .replayable = call->replayable,
                .upgrade = call->upgrade,
                .want_interim = call->want_interim,
                .deadline_ms = call->deadline_in ? loop_now_ms(c->loop) + (uint64_t)call->deadline_in : 0,
            };
            assert_int_equal(exchange_start(&c->x, c->upstream, &c->task, &request), 0);
        }
        if (!client_step(c))
            return;
    }
}

/* Makes the calls one after the other; results and statistics are left in the client and *stats. */
static inline void client_make(struct client *c, const struct upstream_options *options, const struct call *calls,
                               unsigned count, struct upstream_stats *stats)
{
    char memory[256];
    struct text reason = TEXT_ON(memory);

    signal(SIGPIPE, SIG_IGN);
    memset(c, 0, sizeof(*c));
    c->calls = calls;
    c->count = count;
    c->tunnel.io.fd = -1;
    assert_int_equal(loop_new(&c->loop, 0), 0);
    if (upstream_new(&c->upstream, options, &reason) < 0)
        fail_msg("%.*s", VIEW_ARG(text_view(&reason)));
    task_init(&c->task, c->loop, client_run);
    task_wake(&c->task);
    loop_run(c->loop);
    upstream_stats(c->upstream, stats);
    upstream_server_stats(c->upstream, 0, &c->server);
    upstream_loop_close(c->upstream, c->loop);
    upstream_free(c->upstream);
    dns_loop_close(c->loop);
    loop_free(c->loop);
}
