/* Connections of one loop to one upstream.
 *
 *   new -> in use -> idle -> in use ... -> closed
 *
 * While in use a connection belongs to its exchange; while idle to the pool, which closes it when its time is over, when
 * the peer closes, or when the peer says something nobody asked for. Limit and queue are each server's own, so that a
 * server that hangs holds up nobody else; the limit counts both kinds. When a connection becomes free the first in the queue is woken and tries again; it keeps its place until it succeeds, so nobody can
 * overtake it. */
#include "upstream/pool.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/heap.h"

#include <errno.h>

int pool_get(struct pool **ret, struct upstream *upstream, struct loop *loop)
{
    unsigned index = loop_index(loop), count = UPSTREAM_SERVERS_MAX;
    struct pool *pool;

    CHECK(index < upstream->options.loops);
    pool = atomic_load_explicit(&upstream->pools[index], memory_order_relaxed);
    if (!pool) {
        pool = heap_zalloc(sizeof(*pool) + count * sizeof(pool->servers[0]));
        if (!pool)
            return -ENOMEM;
        pool->upstream = upstream;
        pool->loop = loop;
        pool->random = clock_mono_us() * 2 + index + 1;
        for (unsigned i = 0; i < count; i++) {
            list_init(&pool->servers[i].idle);
            list_init(&pool->servers[i].waiting);
        }
        atomic_store_explicit(&upstream->pools[index], pool, memory_order_release);
    }
    *ret = pool;
    return 0;
}

void pool_free(struct pool *pool)
{
    if (!pool)
        return;
    for (unsigned i = 0; i < UPSTREAM_SERVERS_MAX; i++) {
        CHECK(list_empty(&pool->servers[i].waiting));
        while (!list_empty(&pool->servers[i].idle))
            conn_close(CONTAINER_OF(pool->servers[i].idle.next, struct conn, link));
        tls_session_clear(&pool->servers[i].session);
    }
    CHECK(pool_counter(pool, POOL_OPEN) == 0);
    heap_free(pool);
}

/* xorshift64* */
uint32_t pool_random(struct pool *pool)
{
    pool->random ^= pool->random >> 12;
    pool->random ^= pool->random << 25;
    pool->random ^= pool->random >> 27;
    return (uint32_t)((pool->random * 0x2545F4914F6CDD1Du) >> 32);
}

static bool below_limit(const struct pool *pool, unsigned server)
{
    uint32_t limit = pool->upstream->options.max_connections;

    return limit == 0 || pool->servers[server].open < limit;
}

bool pool_is_full(const struct pool *pool, unsigned server)
{
    return !below_limit(pool, server) && list_empty(&pool->servers[server].idle);
}

static void wake_first(struct pool *pool, unsigned server)
{
    struct node *waiting = &pool->servers[server].waiting;

    if (!list_empty(waiting) && !pool_is_full(pool, server))
        task_wake(CONTAINER_OF(waiting->next, struct pool_place, link)->task);
}

/* ---- idle connections ---- */

static void idle_end(struct conn *conn)
{
    list_remove(&conn->link);
    timer_clear(&conn->timer);
    task_cancel(&conn->task);
    conn->idle = false;
    conn->pool->servers[conn->server].idle_count--;
    pool_count(conn->pool, POOL_IDLE, (uint64_t)-1);
}

/* True when the peer neither closed nor said anything: then the connection may carry a request. TLS records without
 * data (session tickets) are taken in passing. */
static bool is_quiet(struct conn *conn)
{
    conn->sock.readable = true;
    return !conn->sock.hangup && sock_fill(&conn->sock, LOOP_BLOCK_SIZE) == -EAGAIN && conn->sock.error == 0;
}

static void idle_run(struct task *task)
{
    struct conn *conn = CONTAINER_OF(task, struct conn, task);

    if (conn->timer.fired || !is_quiet(conn))
        conn_close(conn);
}

static struct conn *take_idle(struct pool *pool, unsigned server, bool careful)
{
    struct node *idle = &pool->servers[server].idle;

    while (!list_empty(idle)) {
        struct conn *conn = CONTAINER_OF(idle->next, struct conn, link);

        if (conn->sock.hangup || conn->sock.error || (careful && !is_quiet(conn))) {
            conn_close(conn);
            continue;
        }
        idle_end(conn);
        return conn;
    }
    return NULL;
}

static struct conn *conn_new(struct pool *pool, unsigned server)
{
    struct conn *conn = heap_zalloc(sizeof(*conn));

    if (!conn)
        return NULL;
    conn->pool = pool;
    conn->server = server;
    conn->generation = pool->servers[server].generation;
    conn->sock.io.fd = -1;
    list_init(&conn->link);
    task_init(&conn->task, pool->loop, idle_run);
    timer_init(&conn->timer, &conn->task);
    pool->servers[server].open++;
    pool_count(pool, POOL_OPEN, 1);
    return conn;
}

/* An exchange has let go of it: moves the average an eighth of the way. */
static void note_hold(struct conn *conn)
{
    struct pool_server *mine = &conn->pool->servers[conn->server];
    uint64_t now = loop_now_ms(conn->pool->loop), held = MIN(now - conn->busy_ms, (uint64_t)3600000);

    if (conn->busy_ms)
        mine->hold_ms = (uint32_t)((mine->hold_ms * (uint64_t)7 + held + 4) / 8);
    conn->busy_ms = 0;
}

void conn_close(struct conn *conn)
{
    struct pool *pool = conn->pool;
    unsigned server = conn->server;

    if (conn->idle)
        idle_end(conn);
    note_hold(conn);
    sock_close(&conn->sock);
    heap_free(conn);
    pool->servers[server].open--;
    pool_count(pool, POOL_OPEN, (uint64_t)-1);
    wake_first(pool, server);
}

void conn_release(struct conn *conn)
{
    struct pool *pool = conn->pool;
    const struct upstream_options *options = &pool->upstream->options;

    /* Bytes behind the response must not become the answer to the next request; while `readable` is set nobody knows
     * whether there are any. */
    if (pool->servers[conn->server].idle_count >= options->max_idle ||
        conn->generation !=
            atomic_load_explicit(&pool->upstream->servers[conn->server].generation, memory_order_acquire) ||
        (options->max_requests && conn->requests >= options->max_requests) ||
        (conn->sock.readable && !is_quiet(conn))) {
        conn_close(conn);
        return;
    }
    note_hold(conn);
    conn->sock.task = &conn->task;
    conn->idle = true;
    list_push_front(&pool->servers[conn->server].idle, &conn->link);
    pool->servers[conn->server].idle_count++;
    if (options->idle_timeout_ms)
        timer_set(&conn->timer, options->idle_timeout_ms);
    pool_count(pool, POOL_IDLE, 1);
    wake_first(pool, conn->server);
}

/* ---- the queue ---- */

void pool_leave_queue(struct pool *pool, struct pool_place *place)
{
    if (!place->queued)
        return;
    list_remove(&place->link);
    place->queued = false;
    pool->servers[place->server].queued--;
    pool_count(pool, POOL_WAITING, (uint64_t)-1);
    wake_first(pool, place->server);
}

/* By how long connections were kept so far: each of them serves its part of those before us. */
static uint64_t expected_wait(const struct pool *pool, unsigned server)
{
    const struct pool_server *mine = &pool->servers[server];

    return (uint64_t)(mine->queued + 1) * mine->hold_ms / MAX(pool->upstream->options.max_connections, 1u);
}

static int enqueue(struct pool *pool, unsigned server, struct pool_place *place)
{
    if (place->queued)
        return -EAGAIN;
    if (pool_counter(pool, POOL_WAITING) >= pool->upstream->options.max_waiting)
        return -EBUSY;
    if (place->deadline_ms && loop_now_ms(pool->loop) + expected_wait(pool, server) > place->deadline_ms)
        return -ETIMEDOUT;
    list_push(&pool->servers[server].waiting, &place->link);
    place->server = server;
    place->queued = true;
    pool->servers[server].queued++;
    pool_count(pool, POOL_WAITING, 1);
    return -EAGAIN;
}

/* The slot has another server now: nothing kept for the old one may be used for it. */
static void adopt(struct pool *pool, unsigned server)
{
    struct pool_server *mine = &pool->servers[server];
    uint32_t generation = atomic_load_explicit(&pool->upstream->servers[server].generation, memory_order_acquire);

    if (likely(mine->generation == generation))
        return;
    while (!list_empty(&mine->idle))
        conn_close(CONTAINER_OF(mine->idle.next, struct conn, link));
    tls_session_clear(&mine->session);
    mine->preferred.len = 0;
    mine->generation = generation;
}

int pool_connect(struct pool *pool, unsigned server, struct conn **ret)
{
    adopt(pool, server);
    *ret = conn_new(pool, server);
    return *ret ? 0 : -ENOMEM;
}

int pool_acquire(struct pool *pool, unsigned server, bool fresh, bool careful, struct pool_place *place,
                 struct conn **ret)
{
    const struct node *waiting = &pool->servers[server].waiting;
    bool my_turn = fresh || list_empty(waiting) || waiting->next == &place->link;
    struct conn *conn;

    if (!my_turn)
        return enqueue(pool, server, place);
    adopt(pool, server);
    conn = fresh && below_limit(pool, server) ? NULL : take_idle(pool, server, careful);
    if (conn && fresh) {
        conn_close(conn);
        conn = NULL;
    }
    if (!conn && !below_limit(pool, server))
        return enqueue(pool, server, place);
    if (!conn) {
        conn = conn_new(pool, server);
        if (!conn)
            return -ENOMEM;
    }
    pool_leave_queue(pool, place);
    conn->busy_ms = loop_now_ms(pool->loop);
    *ret = conn;
    return 0;
}
