/* One request and its response: how it gets a connection, how it ends, what it tells.
 *
 * The steps run from the exchange's own task (readiness, timers, names, places in the queue wake it) and from
 * exchange_start(); the calls of the owner read and write the socket directly. Towards the owner there are only wakes.
 *
 * The exchange lives in one pooled block of its loop. Its connection is its own until exchange_close(); after a failure it
 * has none. Every retry happens before the first byte of a response (exchange_broken()), so the owner never sees one. */
#include "upstream/exchange_internal.h"

#include "base/check.h"
#include "base/clock.h"

#include <errno.h>

/* How often an exchange looks whether a first answer about SRV records has come. */
#define NAMELESS_POLL_MS 20u
/* How often one that waits in a queue looks whether its server may still be asked. */
#define QUEUE_LOOK_MS 250u

_Static_assert(sizeof(struct exchange) <= LOOP_BLOCK_SIZE, "an exchange fits a pooled block");

void exchange_arm(struct exchange *x, uint32_t after_ms)
{
    if (after_ms)
        timer_set(&x->timer, after_ms);
    else
        timer_clear(&x->timer);
}

static const struct upstream_timeouts *timeouts(const struct exchange *x)
{
    return &x->upstream->options.timeouts;
}

/* Microseconds since the phase began; the next one begins. */
static uint32_t phase_end(struct exchange *x)
{
    uint64_t now = clock_mono_us(), took = now - x->phase_us;

    x->phase_us = now;
    return (uint32_t)MIN(took, UINT32_MAX);
}

void exchange_drop_conn(struct exchange *x)
{
    if (x->conn)
        conn_close(x->conn);
    x->conn = NULL;
}

void exchange_fail(struct exchange *x, enum exchange_error error, const char *detail)
{
    struct text text = TEXT_ON(x->detail);

    text_put(&text, view_first(view_str(detail), sizeof(x->detail) - 1));
    text_str(&text);
    exchange_judge_end(x, error);
    x->error = error;
    timer_clear(&x->late);
    x->step = x->twin ? X_TWIN : X_FAILED;
    pool_leave_queue(x->pool, &x->place);
    dns_cancel(&x->dns);
    timer_clear(&x->timer);
    timer_clear(&x->total);
    exchange_drop_conn(x);
    if (!x->check)
        pool_count(x->pool, POOL_FAILURES + error, 1);
}

/* ---- getting a connection ---- */

static enum exchange_verdict step_backoff(struct exchange *x)
{
    if (!x->timer.fired)
        return X_WAIT;
    timer_clear(&x->timer);
    phase_end(x);
    x->step = X_ACQUIRE;
    return X_CONTINUE;
}

/* Holds a server from here on; one that was given up while we stood in its line is left for another. */
static int have_server(struct exchange *x)
{
    if (x->check)
        return 0;
    if (x->place.queued && choose_is_void(x->pool, &x->choice)) {
        pool_leave_queue(x->pool, &x->place);
        choose_end(x->pool, &x->choice);
    }
    return x->choice.held ? 0 : exchange_choose(x);
}

/* Nobody wakes us when another loop finds the server bad: we look now and then. */
static void wait_in_queue(struct exchange *x)
{
    uint64_t now = loop_now_ms(x->pool->loop);
    uint32_t limit = timeouts(x)->queue_ms;

    if (x->queue_until_ms == 0)
        x->queue_until_ms = limit ? now + limit : UINT64_MAX;
    if (!x->timer.expires_ms)
        exchange_arm(x, (uint32_t)MIN(x->queue_until_ms - MIN(now, x->queue_until_ms - 1), (uint64_t)QUEUE_LOOK_MS));
}

static enum exchange_verdict step_acquire(struct exchange *x)
{
    int r = have_server(x);

    if (r == -EAGAIN) {
        exchange_arm(x, NAMELESS_POLL_MS);
        x->step = X_BACKOFF;
        return X_CONTINUE;
    }
    if (r < 0) {
        exchange_fail(x, EXCHANGE_DESTINATION_UNAVAILABLE, "no server may be asked now: they have failed too often");
        return X_WAIT;
    }
    r = x->check ? pool_connect(x->pool, x->choice.server, &x->conn)
                 : pool_acquire(x->pool, x->choice.server, x->fresh, !x->request.replayable, &x->place, &x->conn);
    if (r == -EAGAIN) {
        wait_in_queue(x);
        return X_WAIT;
    }
    if (r < 0) {
        exchange_fail(x, r == -ENOMEM ? EXCHANGE_INTERNAL : EXCHANGE_CONNECTION_LIMIT,
                      r == -EBUSY       ? "too many requests wait for a connection"
                      : r == -ETIMEDOUT ? "no connection would become free before the request's deadline"
                                        : "out of memory");
        return X_WAIT;
    }
    timer_clear(&x->timer);
    x->timing.queue_us += phase_end(x);
    x->timing.attempts++;
    x->conn->requests++;
    x->choice.since_ms = loop_now_ms(x->pool->loop);
    x->timing.reused = sock_is_open(&x->conn->sock);
    x->timing.server = x->choice.server;
    if (x->timing.reused) {
        pool_count(x->pool, POOL_REUSES, 1);
        x->conn->sock.task = &x->task;
        exchange_queue_head(x);
        x->step = X_SEND;
    } else {
        x->step = X_RESOLVE;
    }
    return X_CONTINUE;
}

/* The address that worked last goes first: no attempt is wasted on a family this host cannot reach. */
static void put_preferred_first(struct dns_answer *answer, const struct address *preferred)
{
    for (unsigned i = 1; i < answer->count && preferred->len; i++) {
        if (address_eq(&answer->list[i], preferred)) {
            struct address first = answer->list[0];

            answer->list[0] = answer->list[i];
            answer->list[i] = first;
            return;
        }
    }
}

/* What to do after an attempt that failed before anything was sent: the next address, else perhaps another server. */
static enum exchange_verdict next_attempt(struct exchange *x, enum exchange_error error, const char *detail)
{
    sock_close(&x->conn->sock);
    x->conn->sock = (struct sock){ .io = { .fd = -1 } };
    pool_count(x->pool, POOL_CONNECT_FAILURES, 1);
    if (x->timing.attempts < EXCHANGE_ATTEMPTS_MAX && x->address + 1 < x->addresses.count) {
        x->address++;
        x->timing.attempts++;
        x->step = X_CONNECT;
        return X_CONTINUE;
    }
    if (exchange_try_again(x, error))
        return X_CONTINUE;
    exchange_fail(x, error, detail);
    return X_WAIT;
}

static enum exchange_verdict step_resolve(struct exchange *x)
{
    const struct upstream_target *server = upstream_target(x->upstream, x->choice.server);
    int r = dns_lookup(x->pool->loop, view_str(server->host), server->port, &x->dns, &x->addresses);

    if (r == -EAGAIN && x->timer.fired) {
        dns_cancel(&x->dns);
        r = -ETIMEDOUT;
    }
    if (r == -EAGAIN) {
        if (!x->timer.expires_ms)
            exchange_arm(x, timeouts(x)->dns_ms);
        return X_WAIT;
    }
    timer_clear(&x->timer);
    x->timing.dns_us += phase_end(x);
    x->address = 0;
    if (r < 0) {
        x->addresses.count = 0;
        return next_attempt(x, r == -ETIMEDOUT ? EXCHANGE_DNS_TIMEOUT : EXCHANGE_DNS_ERROR,
                            r == -ETIMEDOUT ? "no name server answered" : "the name of the origin is not known");
    }
    put_preferred_first(&x->addresses, &x->pool->servers[x->choice.server].preferred);
    x->step = X_CONNECT;
    return X_CONTINUE;
}

static enum exchange_verdict connect_failed(struct exchange *x, int error)
{
    timer_clear(&x->timer);
    switch (error) {
    case ETIMEDOUT: return next_attempt(x, EXCHANGE_CONNECTION_TIMEOUT, "connecting took too long");
    case ENETUNREACH:
    case EHOSTUNREACH:
    case EADDRNOTAVAIL:
    case EAFNOSUPPORT: return next_attempt(x, EXCHANGE_UNROUTABLE, "there is no way to the origin's address");
    case ECONNRESET:
        return next_attempt(x, EXCHANGE_CONNECTION_TERMINATED, "the connection was reset while connecting");
    case ECONNREFUSED: return next_attempt(x, EXCHANGE_CONNECTION_REFUSED, "connection refused");
    default: return next_attempt(x, EXCHANGE_INTERNAL, "no socket could be opened");
    }
}

static enum exchange_verdict connected(struct exchange *x)
{
    const struct upstream_target *server = upstream_target(x->upstream, x->choice.server);
    struct pool_server *mine = &x->pool->servers[x->choice.server];
    struct sock *sock = &x->conn->sock;

    mine->preferred = x->addresses.list[x->address];
    x->timing.connect_us = phase_end(x);
    if (!server->tls) {
        timer_clear(&x->timer);
        pool_count(x->pool, POOL_CONNECTS, 1);
        exchange_queue_head(x);
        x->step = X_SEND;
        return X_CONTINUE;
    }
    if (tls_client_new(&sock->tls, x->upstream->tls, sock->io.fd, server->tls_name, &mine->session) < 0)
        return next_attempt(x, EXCHANGE_INTERNAL, "TLS could not be set up");
    exchange_arm(x, timeouts(x)->tls_ms);
    x->step = X_TLS;
    return X_CONTINUE;
}

static enum exchange_verdict step_connect(struct exchange *x)
{
    struct sock *sock = &x->conn->sock;
    const struct address *address = &x->addresses.list[x->address];
    int r;

    if (!sock_is_open(sock)) {
        r = sock_connect(sock, x->pool->loop, &address->is.any, address->len, &x->task);
        if (r < 0)
            return connect_failed(x, -r);
        exchange_arm(x, timeouts(x)->connect_ms);
    }
    if (sock->connecting)
        return x->timer.fired ? connect_failed(x, ETIMEDOUT) : X_WAIT;
    return sock->error ? connect_failed(x, sock->error) : connected(x);
}

static enum exchange_verdict step_tls(struct exchange *x)
{
    struct tls *tls = x->conn->sock.tls;
    int r = tls_handshake(tls);

    if (r == -EAGAIN && !x->timer.fired)
        return X_WAIT;
    timer_clear(&x->timer);
    x->timing.tls_us = phase_end(x);
    if (r == 0) {
        /* What came with the last flight is in the TLS layer or still in the kernel; no edge will announce it. */
        x->conn->sock.readable = x->conn->sock.writable = true;
        pool_count(x->pool, POOL_CONNECTS, 1);
        exchange_queue_head(x);
        x->step = X_SEND;
        return X_CONTINUE;
    }
    if (r == -EAGAIN)
        return next_attempt(x, EXCHANGE_CONNECTION_TIMEOUT, "the TLS handshake took too long");
    if (r == -EPROTO) {
        char why[96];
        struct text text = TEXT_ON(why);
        enum tls_failure failure = tls_failure(tls);

        text_put(&text, view_first(view_str(tls_failure_text(tls)), sizeof(why) - 1));
        return next_attempt(x,
                            failure == TLS_CERTIFICATE ? EXCHANGE_TLS_CERTIFICATE
                            : failure == TLS_ALERT     ? EXCHANGE_TLS_ALERT
                                                       : EXCHANGE_TLS_PROTOCOL,
                            text_str(&text));
    }
    return next_attempt(x, EXCHANGE_CONNECTION_TERMINATED, "the connection ended during the TLS handshake");
}

/* ---- broken connections ---- */

enum exchange_verdict exchange_broken(struct exchange *x, int error)
{
    bool begun = sock_is_open(&x->conn->sock) && sock_input(&x->conn->sock).len > 0;

    if (!begun && exchange_try_again(x, EXCHANGE_CONNECTION_TERMINATED))
        return X_CONTINUE;
    if (begun)
        exchange_fail(x, EXCHANGE_RESPONSE_INCOMPLETE, "the connection ended within the response head");
    else if (error == EPROTO && x->conn->sock.tls)
        exchange_fail(x, EXCHANGE_TLS_PROTOCOL, tls_failure_text(x->conn->sock.tls));
    else if (error == ENOMEM)
        exchange_fail(x, EXCHANGE_INTERNAL, "out of memory");
    else
        exchange_fail(x, EXCHANGE_CONNECTION_TERMINATED, "the connection ended before a response");
    return X_WAIT;
}

/* ---- driving ---- */

/* A phase took too long. Steps that try something else instead look at timer.fired themselves. */
static void phase_timed_out(struct exchange *x)
{
    bool writing = x->step == X_SEND || x->write_blocked;

    switch (x->step) {
    case X_ACQUIRE:
        timer_clear(&x->timer);
        if (loop_now_ms(x->pool->loop) >= x->queue_until_ms)
            exchange_fail(x, EXCHANGE_CONNECTION_LIMIT, "no connection became free in time");
        break;
    case X_SEND:
    case X_HEAD:
        if (!sock_input(&x->conn->sock).len &&
            exchange_try_again(x, writing ? EXCHANGE_CONNECTION_WRITE_TIMEOUT : EXCHANGE_RESPONSE_TIMEOUT))
            break;
        exchange_fail(x, writing ? EXCHANGE_CONNECTION_WRITE_TIMEOUT : EXCHANGE_RESPONSE_TIMEOUT,
                      writing ? "the origin does not take the request" : "the origin did not answer in time");
        break;
    case X_BODY:
        if (x->read_waiting)
            exchange_fail(x, EXCHANGE_CONNECTION_READ_TIMEOUT, "the response stopped coming");
        break;
    default: break;
    }
}

static void total_timed_out(struct exchange *x)
{
    bool connecting = x->step < X_SEND, body = x->step == X_BODY;

    if (x->step < X_TUNNEL)
        x->deadline_over = x->by_deadline;
    if (x->step < X_TUNNEL)
        exchange_fail(x,
                      connecting ? EXCHANGE_CONNECTION_TIMEOUT
                      : body     ? EXCHANGE_CONNECTION_READ_TIMEOUT
                                 : EXCHANGE_RESPONSE_TIMEOUT,
                      "the exchange took too long altogether");
}

static void drive(struct exchange *x)
{
    enum exchange_verdict v;

    do {
        switch (x->step) {
        case X_BACKOFF: v = step_backoff(x); break;
        case X_ACQUIRE: v = step_acquire(x); break;
        case X_RESOLVE: v = step_resolve(x); break;
        case X_CONNECT: v = step_connect(x); break;
        case X_TLS: v = step_tls(x); break;
        case X_SEND: v = exchange_step_send(x); break;
        case X_HEAD: v = exchange_step_head(x); break;
        case X_BODY:
        case X_INTERIM:
            exchange_flush(x);
            v = X_WAIT;
            break;
        default: v = X_WAIT;
        }
    } while (v == X_CONTINUE);
}

static void exchange_run(struct task *task)
{
    struct exchange *x = CONTAINER_OF(task, struct exchange, task);
    enum exchange_step before = x->step;

    if (x->total.fired)
        total_timed_out(x);
    else if (x->timer.fired && x->step != X_BACKOFF && x->step != X_RESOLVE && x->step != X_CONNECT && x->step != X_TLS)
        phase_timed_out(x);
    drive(x);
    exchange_hedge_look(x);
    if (x->step != before || x->step > X_SEND)
        task_wake(x->owner);
}

/* ---- life ---- */

/* Our own limit for the whole, or the owner's deadline when that comes first. */
static void arm_total(struct exchange *x)
{
    uint64_t total = timeouts(x)->total_ms, deadline = x->request.deadline_ms, now = loop_now_ms(x->pool->loop);

    if (deadline && (total == 0 || deadline < now + total)) {
        x->by_deadline = true;
        total = deadline > now ? deadline - now : 0;
        if (total == 0) {
            x->deadline_over = true;
            exchange_fail(x, EXCHANGE_RESPONSE_TIMEOUT, "the request's deadline was over before it began");
            return;
        }
    }
    if (total)
        timer_set(&x->total, total);
}

static int make(struct exchange **ret, struct upstream *upstream, struct task *owner,
                const struct exchange_request *request)
{
    struct pool *pool;
    struct exchange *x;
    int r = pool_get(&pool, upstream, owner->loop);

    if (r < 0)
        return r;
    x = loop_block_get(owner->loop);
    if (!x)
        return -ENOMEM;
    memset(x, 0, offsetof(struct exchange, fields));
    x->step = X_ACQUIRE;
    x->upstream = upstream;
    x->pool = pool;
    x->owner = owner;
    x->request = *request;
    x->body_left = request->body == BODY_LENGTH ? request->content_length : 0;
    x->body_ended = request->body == BODY_NONE;
    x->started_us = x->phase_us = clock_mono_us();
    x->trailers = TEXT_ON(x->trailers_memory);
    list_init(&x->place.link);
    x->place.task = &x->task;
    x->place.deadline_ms = request->deadline_ms;
    x->dns.task = &x->task;
    task_init(&x->task, owner->loop, exchange_run);
    timer_init(&x->timer, &x->task);
    timer_init(&x->total, &x->task);
    timer_init(&x->late, &x->task);
    fields_init(&x->response.fields, x->fields, EXCHANGE_FIELDS_MAX);
    arm_total(x);
    *ret = x;
    return 0;
}

int exchange_start(struct exchange **ret, struct upstream *upstream, struct task *owner,
                   const struct exchange_request *request)
{
    int r = make(ret, upstream, owner, request);

    if (r < 0)
        return r;
    pool_count((*ret)->pool, POOL_EXCHANGES, 1);
    budget_deposit(&upstream->retry_budget);
    budget_deposit(&upstream->hedge_budget);
    exchange_hedge_arm(*ret);
    drive(*ret);
    return 0;
}

int exchange_start_twin(struct exchange **ret, struct exchange *of, uint32_t tried)
{
    struct exchange_request request = of->request;
    int r;

    request.want_interim = false;
    r = make(ret, of->upstream, &of->task, &request);
    if (r < 0)
        return r;
    (*ret)->tried = tried;
    (*ret)->retries = UINT8_MAX;
    (*ret)->started_us = of->started_us;
    drive(*ret);
    return 0;
}

int exchange_start_check(struct exchange **ret, struct upstream *upstream, struct task *owner,
                         const struct exchange_request *request, unsigned server)
{
    int r = make(ret, upstream, owner, request);

    if (r < 0)
        return r;
    (*ret)->check = true;
    (*ret)->choice.server = server;
    drive(*ret);
    task_wake(owner);
    return 0;
}

/* The connection may carry another request: both messages ended, nothing follows, both sides want to go on. */
static bool is_reusable(const struct exchange *x)
{
    const struct sock *sock = &x->conn->sock;

    return x->step == X_DONE && x->response.keep_alive && exchange_request_sent(x) && sock_is_open(sock) &&
           sock_input(sock).len == 0 && !sock->error && !sock->eof && !sock->hangup;
}

void exchange_close(struct exchange *x)
{
    struct loop *loop;

    if (!x)
        return;
    exchange_close(x->twin);
    loop = x->pool->loop;
    timer_clear(&x->late);
    dns_cancel(&x->dns);
    pool_leave_queue(x->pool, &x->place);
    timer_clear(&x->timer);
    timer_clear(&x->total);
    task_cancel(&x->task);
    exchange_judge_end(x, x->blamed ? EXCHANGE_RESPONSE_TIMEOUT : EXCHANGE_OK);
    if (x->conn && is_reusable(x))
        conn_release(x->conn);
    else
        exchange_drop_conn(x);
    if (x->block)
        sock_block_free(loop, x->block, x->block_cap);
    loop_block_put(loop, x);
}

void exchange_blame(struct exchange *x)
{
    exchange_live(x)->blamed = true;
}

void exchange_set_owner(struct exchange *x, struct task *owner)
{
    CHECK(owner->loop == x->pool->loop);
    exchange_live(x)->owner = x->owner = owner;
}

enum exchange_state exchange_state(const struct exchange *x)
{
    static const enum exchange_state states[] = {
        [X_BACKOFF] = EXCHANGE_CONNECTING, [X_ACQUIRE] = EXCHANGE_CONNECTING, [X_RESOLVE] = EXCHANGE_CONNECTING,
        [X_CONNECT] = EXCHANGE_CONNECTING, [X_TLS] = EXCHANGE_CONNECTING,     [X_SEND] = EXCHANGE_WAITING,
        [X_HEAD] = EXCHANGE_WAITING,       [X_INTERIM] = EXCHANGE_INTERIM,    [X_BODY] = EXCHANGE_BODY,
        [X_TUNNEL] = EXCHANGE_TUNNEL,      [X_DONE] = EXCHANGE_DONE,          [X_FAILED] = EXCHANGE_FAILED,
        [X_TWIN] = EXCHANGE_WAITING,
    };

    return states[exchange_live(x)->step];
}

int exchange_take_sock(struct exchange *x, struct task *task, struct sock *ret)
{
    struct sock *sock = &x->conn->sock; /* an upgrade has no twin */
    int r;

    CHECK(x->step == X_TUNNEL && sock_is_open(sock));
    loop_io_remove(x->pool->loop, &sock->io);
    *ret = *sock;
    ret->task = task;
    /* Readiness is told anew after this; until then try. */
    ret->readable = ret->writable = true;
    r = loop_io_add(x->pool->loop, &ret->io);
    if (r < 0) {
        *ret = (struct sock){ .io = { .fd = -1 } };
        exchange_fail(x, EXCHANGE_INTERNAL, "the connection could not be moved");
        return r;
    }
    *sock = (struct sock){ .io = { .fd = -1 } };
    return 0;
}

enum exchange_error exchange_error(const struct exchange *x)
{
    return exchange_live(x)->error;
}

const char *exchange_error_detail(const struct exchange *x)
{
    return exchange_live(x)->detail;
}

const struct exchange_timing *exchange_timing(const struct exchange *x)
{
    return &exchange_live(x)->timing;
}
