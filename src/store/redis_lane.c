/* One connection and what is queued on it.
 *
 *   waiting -> (written) -> sent -> (its reply, in order) -> ended
 *
 * A request whose caller has gone keeps its place until its reply was consumed, so that order is kept. Only what has not begun
 * to leave may be taken out. When the connection ends, everything on it ends: nobody knows what of it was carried out.
 *
 * Queueing wakes the lane's task, which runs after all tasks that were queued with the one that sends: the commands of a turn go
 * out with one system call. */
#include "store/redis_pool.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/heap.h"

#include <errno.h>

#define IOV_PER_WRITE 64
#define REPLIES_PER_RUN 256
#define BYTES_PER_RUN ((uint64_t)4 << 20)
#define OWING_MS 5000u
#define TICK_MS 10000u
#define RETRY_FIRST_MS 20u
#define RETRY_MAX_MS 1000u

static void lane_run(struct task *task);

/* ---- requests ---- */

struct redis_request *redis_request_new(enum redis_request_kind kind, char *block, size_t len)
{
    struct redis_request *request = heap_alloc(sizeof(*request) + (block ? 0 : len));

    if (!request)
        return NULL;
    *request = (struct redis_request){ .kind = kind, .block = block != NULL, .len = len };
    request->bytes = block ? block : (char *)(request + 1);
    request->queued_us = clock_mono_us();
    list_init(&request->link);
    return request;
}

static void request_free(struct redis_request *request)
{
    struct redis_pool *pool = request->lane->node->pool;

    if (request->probe)
        request->lane->node->probing = false;
    if (request->kind == REQUEST_SLOTS)
        pool->slots_asked = false;
    if (request->kind == REQUEST_CALL)
        *(request->forget ? &pool->forget_bytes : &pool->call_bytes) -= request->len;
    list_remove(&request->link);
    if (request->block)
        heap_free(request->bytes);
    heap_free(request);
}

static void call_done(struct redis_request *request, int error, struct redis_reply *reply)
{
    struct redis_call *call = request->call;

    if (!call) {
        redis_reply_free(reply);
        return;
    }
    call->state = REDIS_DONE;
    call->error = error;
    call->reply = reply ? &reply->value : NULL;
    call->request = NULL;
    call->took_us = (uint32_t)MIN(clock_mono_us() - request->queued_us, UINT32_MAX);
    redis_node_clock(request->lane->node, &call->clock);
    request->call = NULL;
    task_wake(call->task);
}

void redis_request_abandon(struct redis_request *request)
{
    request->call = NULL;
    if (request->sent == 0)
        request_free(request);
}

static void ledger_add(_Atomic uint64_t *count, uint64_t add)
{
    atomic_store_explicit(count, atomic_load_explicit(count, memory_order_relaxed) + add, memory_order_relaxed);
}

static void ledger_end(struct redis_ledger *ledger, const struct redis_request *request, int error, bool refused)
{
    if (!ledger)
        return;
    ledger_add(&ledger->bytes, (uint64_t)0 - request->len);
    ledger_add(error ? &ledger->failed : refused ? &ledger->refused : &ledger->done, 1);
}

static void end_request(struct redis_request *request, int error, struct redis_reply *reply, bool refused)
{
    ledger_end(request->ledger, request, error, refused);
    if (request->kind == REQUEST_CALL && (error || refused))
        redis_count(request->lane->node->pool, REDIS_ERRORS, 1);
    call_done(request, error, reply);
    request_free(request);
}

void redis_request_end(struct redis_request *request, int error, struct redis_reply *reply)
{
    end_request(request, error, reply, reply && resp_is_error(&reply->value));
}

/* ---- life ---- */

struct redis_lane *redis_lane_new(struct redis_node *node)
{
    struct redis_lane *lane = heap_zalloc(sizeof(*lane));

    if (!lane)
        return NULL;
    lane->node = node;
    task_init(&lane->task, node->pool->loop, lane_run);
    redis_conn_init(&lane->conn, &node->pool->redis->access, &node->target, &lane->task);
    timer_init(&lane->deadline, &lane->task);
    timer_init(&lane->owing, &lane->task);
    timer_init(&lane->tick, &lane->task);
    list_init(&lane->waiting);
    list_init(&lane->sent);
    return lane;
}

void redis_lane_free(struct redis_lane *lane)
{
    if (!lane)
        return;
    redis_lane_close(lane, -ECANCELED);
    redis_conn_release(&lane->conn);
    task_cancel(&lane->task);
    heap_free(lane);
}

bool redis_lane_is_idle(const struct redis_lane *lane)
{
    return list_empty(&lane->waiting) && list_empty(&lane->sent);
}

static void end_all(struct node *list, int error)
{
    struct node mine, *link;

    list_take(&mine, list);
    while ((link = list_pop(&mine)))
        redis_request_end(CONTAINER_OF(link, struct redis_request, link), error, NULL);
}

void redis_lane_close(struct redis_lane *lane, int error)
{
    if (lane->started)
        redis_count(lane->node->pool, REDIS_OPEN, (uint64_t)-1);
    lane->started = lane->ready = false;
    redis_conn_close(&lane->conn);
    timer_clear(&lane->deadline);
    timer_clear(&lane->owing);
    timer_clear(&lane->tick);
    end_all(&lane->sent, error);
    end_all(&lane->waiting, error);
}

/* The connection is of no more use. An idle one that the server closed is no failure. */
static void lane_failed(struct redis_lane *lane, int error)
{
    struct redis_pool *pool = lane->node->pool;
    bool counts = !lane->ready || !redis_lane_is_idle(lane) || error == -EBADMSG;

    if (!lane->ready)
        redis_count(pool, REDIS_CONNECT_FAILURES, 1);
    lane->ready = false;
    if (counts) {
        uint64_t pause = MIN((uint64_t)RETRY_FIRST_MS << MIN(lane->failures, 10u), RETRY_MAX_MS);

        lane->retry_at_ms = loop_now_ms(pool->loop) + redis_jitter(&pool->random, pause);
        lane->failures++;
        redis_node_failed(lane->node);
    }
    redis_lane_close(lane, error);
}

/* ---- queueing ---- */

void redis_lane_queue(struct redis_lane *lane, struct redis_request *request)
{
    request->lane = lane;
    request->sent = 0;
    list_push(&lane->waiting, &request->link);
    if (request->deadline_ms && (!lane->deadline.expires_ms || request->deadline_ms < lane->deadline.expires_ms)) {
        uint64_t now = loop_now_ms(lane->node->pool->loop);

        timer_set(&lane->deadline, request->deadline_ms - MIN(now, request->deadline_ms));
    }
    if (lane->ready && !lane->owing.expires_ms)
        timer_set(&lane->owing, OWING_MS);
    task_wake(&lane->task);
}

int redis_lane_ask(struct redis_lane *lane, enum redis_request_kind kind, const struct view *args, unsigned count)
{
    size_t len = resp_command_len(args, count);
    struct redis_request *request = redis_request_new(kind, NULL, len);
    struct text text;

    if (!request)
        return -ENOMEM;
    text = text_make(request->bytes, len);
    resp_put_command(&text, args, count);
    redis_lane_queue(lane, request);
    return 0;
}

void redis_lane_ask_time(struct redis_lane *lane)
{
    static const struct view time[] = { { "TIME", 4 } };

    redis_lane_ask(lane, REQUEST_TIME, time, 1);
    timer_set(&lane->tick, TICK_MS);
}

/* ---- deadlines ---- */

/* Ends what is due in the list. *next: the earliest of the others. However many are due, the server failed once. */
static void expire_in(struct redis_lane *lane, struct node *list, bool *failed, uint64_t *next)
{
    uint64_t now = loop_now_ms(lane->node->pool->loop);

    LIST_EACH_SAFE (it, list) {
        struct redis_request *request = CONTAINER_OF(it, struct redis_request, link);

        if (!request->call || !request->deadline_ms)
            continue;
        if (request->deadline_ms > now) {
            *next = MIN(*next, request->deadline_ms);
            continue;
        }
        if (!*failed)
            redis_node_failed(lane->node);
        *failed = true;
        redis_node_timed_out(lane->node);
        request->probe = false;
        redis_count(lane->node->pool, REDIS_TIMEOUTS, 1);
        call_done(request, -ETIMEDOUT, NULL);
        redis_request_abandon(request);
    }
}

static void expire(struct redis_lane *lane)
{
    uint64_t next = UINT64_MAX;
    bool failed = false;

    timer_clear(&lane->deadline);
    expire_in(lane, &lane->sent, &failed, &next);
    expire_in(lane, &lane->waiting, &failed, &next);
    if (next != UINT64_MAX)
        timer_set(&lane->deadline, next - loop_now_ms(lane->node->pool->loop));
}

/* ---- writing ---- */

static void left(struct redis_lane *lane, size_t bytes)
{
    while (!list_empty(&lane->waiting)) {
        struct redis_request *request = CONTAINER_OF(lane->waiting.next, struct redis_request, link);
        size_t part = MIN(bytes, request->len - request->sent);

        request->sent += part;
        bytes -= part;
        if (request->sent < request->len)
            return;
        if (request->kind == REQUEST_TIME)
            request->sent_us = clock_mono_us();
        list_remove(&request->link);
        list_push(&lane->sent, &request->link);
    }
}

static int flush(struct redis_lane *lane)
{
    while (!list_empty(&lane->waiting)) {
        struct iovec iov[IOV_PER_WRITE];
        int count = 0;
        ssize_t sent;

        LIST_EACH (it, &lane->waiting) {
            const struct redis_request *request = CONTAINER_OF(it, struct redis_request, link);

            if (count == IOV_PER_WRITE)
                break;
            iov[count].iov_base = request->bytes + request->sent;
            iov[count++].iov_len = request->len - request->sent;
        }
        sent = sock_writev(&lane->conn.sock, iov, count, false);
        if (sent < 0)
            return sent == -EAGAIN ? 0 : (int)sent;
        redis_count(lane->node->pool, REDIS_BYTES_OUT, (uint64_t)sent);
        left(lane, (size_t)sent);
    }
    return 0;
}

/* ---- reading ---- */

static int time_answered(struct redis_request *request, const struct resp_value *reply)
{
    uint64_t seconds, micros;

    if (resp_is_error(reply))
        return 0; /* TIME may be forbidden by an ACL: then the clock is never known */
    if (reply->type != RESP_ARRAY || reply->count != 2 || reply->items[0].type != RESP_STRING ||
        reply->items[1].type != RESP_STRING || !view_parse_u64(reply->items[0].text, &seconds) ||
        !view_parse_u64(reply->items[1].text, &micros) || seconds > (uint64_t)1 << 40 || micros >= 1000000)
        return -EBADMSG;
    redis_node_sample(request->lane->node, request->sent_us, seconds * 1000000 + micros);
    return 0;
}

static int own_answered(struct redis_lane *lane, struct redis_request *request, struct view bytes)
{
    struct redis_reply *reply = NULL;
    int r = redis_reply_new(bytes, &lane->conn.access->limits, &reply);

    if (r == 0 && request->kind == REQUEST_TIME)
        r = time_answered(request, &reply->value);
    if (r == 0 && request->kind == REQUEST_SLOTS)
        redis_cluster_learn(lane, &reply->value);
    redis_reply_free(reply);
    request_free(request);
    return r == -EBADMSG ? r : 0;
}

/* The server is there and cannot serve: as good as gone for a while. */
static bool is_unable(struct view error)
{
    return view_starts_with(error, VIEW("LOADING")) || view_starts_with(error, VIEW("MASTERDOWN")) ||
           view_starts_with(error, VIEW("CLUSTERDOWN"));
}

static int answered(struct redis_lane *lane, struct redis_request *request, struct view bytes)
{
    const struct resp_limits *limits = &lane->conn.access->limits;
    bool refused = bytes.ptr[0] == '-' || bytes.ptr[0] == '!';
    struct redis_reply *reply = NULL;
    struct resp_value error;
    int r = 0;

    if (request->kind != REQUEST_CALL)
        return own_answered(lane, request, bytes);
    if (refused) {
        r = resp_build(bytes, limits, NULL, &error);
        if (r == 0 && redis_cluster_redirect(request, error.text))
            return 0;
    }
    if (r == 0 && request->call)
        r = redis_reply_new(bytes, limits, &reply);
    if (r == 0 && (!refused || !is_unable(error.text)))
        redis_node_answered(lane->node, request);
    else
        redis_node_failed(lane->node);
    end_request(request, r, reply, refused);
    return r == -EBADMSG ? r : 0;
}

/* 0: all read; 1: there may be more. */
static int read_replies(struct redis_lane *lane)
{
    uint64_t before = lane->conn.bytes_in;
    int r = 0, count;

    for (count = 0; r == 0 && count < REPLIES_PER_RUN && lane->conn.bytes_in - before < BYTES_PER_RUN; count++) {
        struct redis_request *request = NULL;
        struct view bytes;

        r = redis_conn_peek(&lane->conn, &bytes);
        if (r < 0)
            break;
        if (bytes.ptr[0] != '>' && list_empty(&lane->sent)) {
            r = -EBADMSG; /* an answer to no question */
            break;
        }
        if (bytes.ptr[0] != '>') {
            request = CONTAINER_OF(lane->sent.next, struct redis_request, link);
            r = answered(lane, request, bytes);
        }
        redis_conn_consume(&lane->conn, bytes);
    }
    redis_count(lane->node->pool, REDIS_BYTES_IN, lane->conn.bytes_in - before);
    if (lane->conn.bytes_in != before && !redis_lane_is_idle(lane))
        timer_set(&lane->owing, OWING_MS);
    if (redis_lane_is_idle(lane))
        timer_clear(&lane->owing);
    return r == -EAGAIN ? 0 : r < 0 ? r : 1;
}

/* ---- driving ---- */

static void became_ready(struct redis_lane *lane)
{
    struct redis_pool *pool = lane->node->pool;
    struct node calls, *link;

    lane->ready = true;
    lane->failures = 0;
    redis_count(pool, REDIS_CONNECTS, 1);
    /* Before the calls that wait: the clock is known when the first of them is answered. */
    list_take(&calls, &lane->waiting);
    redis_lane_ask_time(lane);
    while ((link = list_pop(&calls)))
        list_push(&lane->waiting, link);
    timer_set(&lane->owing, OWING_MS);
    if (lane->conn.is_cluster)
        pool->cluster = true;
    if (pool->cluster && !pool->slots)
        redis_cluster_refresh(pool, NULL);
}

static void lane_run(struct task *task)
{
    struct redis_lane *lane = CONTAINER_OF(task, struct redis_lane, task);
    int r;

    if (lane->deadline.fired)
        expire(lane);
    if (lane->conn.step == CONN_CLOSED)
        return;
    r = redis_conn_drive(&lane->conn);
    if (r == -EAGAIN)
        return;
    if (r == 0 && !lane->ready)
        became_ready(lane);
    if (r == 0 && lane->owing.fired)
        r = -ETIMEDOUT;
    if (r == 0 && lane->tick.fired)
        redis_lane_ask_time(lane);
    if (r == 0)
        r = flush(lane);
    if (r == 0)
        r = read_replies(lane);
    if (r < 0)
        lane_failed(lane, r);
    else if (r > 0)
        task_wake(&lane->task);
}
