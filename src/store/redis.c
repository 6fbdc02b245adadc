/* Commands: what callers see of the client. The client itself is immutable and shared; each loop has a pool of its own, made on
 * first use, which only that loop touches but for the counters. Pools live until redis_free(), so that the statistics may be read
 * while loops close theirs. */
#include "store/redis_pool.h"

#include "base/check.h"
#include "base/heap.h"

#include <errno.h>

/* ---- life ---- */

static int copy_text(struct view v, char **ret)
{
    *ret = NULL;
    if (!v.ptr)
        return 0;
    *ret = heap_strdup(v.ptr, v.len);
    return *ret ? 0 : -ENOMEM;
}

static int check_options(const struct redis_options *options, struct text *reason)
{
    if (options->path.len == 0 && (options->host.len == 0 || options->port == 0)) {
        text_lit(reason, "neither a host and port nor a Unix socket is given");
        return -EINVAL;
    }
    if (options->path.len > 107) {
        text_lit(reason, "the path of the Unix socket is longer than 107 bytes");
        return -EINVAL;
    }
    if (options->cluster && options->database) {
        text_lit(reason, "a cluster has no databases");
        return -EINVAL;
    }
    if (options->connections > REDIS_LANES_MAX) {
        text_printf(reason, "more than %u connections per loop", REDIS_LANES_MAX);
        return -EINVAL;
    }
    return 0;
}

static int set_up(struct redis *redis, const struct redis_options *options, struct text *reason)
{
    const uint64_t queue = (uint64_t)16 << 20, reply = (uint64_t)64 << 20;

    redis->lanes = options->connections ? options->connections : 2;
    redis->breaker_failures = options->breaker_failures ? options->breaker_failures : 5;
    redis->cluster = options->cluster;
    redis->queue_bytes = options->queue_bytes ? options->queue_bytes : queue;
    redis->seed.port = options->path.len ? 0 : options->port;
    redis->access.database = options->database;
    redis->access.connect_timeout_ms = options->connect_timeout_ms ? options->connect_timeout_ms : 1000;
    redis->access.limits = (struct resp_limits){ options->reply_max ? options->reply_max : reply, 1 << 20, 8 };
    if (copy_text(options->path.len ? options->path : options->host, &redis->seed.host) < 0 ||
        copy_text(options->user, &redis->user) < 0 || copy_text(options->password, &redis->password) < 0 ||
        copy_text(view_str(options->tls_name), &redis->tls_name) < 0)
        return -ENOMEM;
    redis->access.user = view_make(redis->user, redis->user ? options->user.len : 0);
    redis->access.password = view_make(redis->password, redis->password ? options->password.len : 0);
    redis->access.tls_name = redis->tls_name;
    return options->tls ? tls_context_client(&redis->access.tls, &options->tls_options, reason) : 0;
}

int redis_new(const struct redis_options *options, struct redis **ret, struct text *reason)
{
    unsigned loops = options->loops ? options->loops : 1;
    struct redis *redis;
    int r = check_options(options, reason);

    if (r < 0)
        return r;
    redis = heap_zalloc(sizeof(*redis) + loops * sizeof(redis->pools[0]));
    if (!redis)
        return -ENOMEM;
    redis->loops = loops;
    r = set_up(redis, options, reason);
    if (r < 0) {
        redis_free(redis);
        return r;
    }
    *ret = redis;
    return 0;
}

static void pool_free(struct redis_pool *pool)
{
    if (!pool)
        return;
    CHECK(pool->closed);
    heap_free(pool);
}

void redis_free(struct redis *redis)
{
    if (!redis)
        return;
    for (unsigned i = 0; i < redis->loops; i++)
        pool_free(atomic_load_explicit(&redis->pools[i], memory_order_acquire));
    if (redis->access.tls)
        tls_context_unref(redis->access.tls);
    heap_free(redis->seed.host);
    heap_free(redis->user);
    heap_free(redis->password);
    heap_free(redis->tls_name);
    heap_free(redis);
}

/* ---- pools ---- */

static struct redis_pool *find_pool(struct redis *redis, struct loop *loop)
{
    CHECK(loop_index(loop) < redis->loops);
    return atomic_load_explicit(&redis->pools[loop_index(loop)], memory_order_relaxed);
}

static int get_pool(struct redis *redis, struct loop *loop, struct redis_pool **ret)
{
    struct redis_pool *pool = find_pool(redis, loop);
    struct redis_target seed = redis->seed;

    if (!pool) {
        pool = heap_zalloc(sizeof(*pool));
        seed.host = heap_strdup(seed.host, strlen(seed.host));
        if (!pool || !seed.host) {
            heap_free(pool);
            heap_free(seed.host);
            return -ENOMEM;
        }
        pool->redis = redis;
        pool->loop = loop;
        pool->random = redis_random();
        pool->cluster = redis->cluster;
        if (!redis_node_get(pool, &seed)) {
            heap_free(pool);
            heap_free(seed.host);
            return -ENOMEM;
        }
        atomic_store_explicit(&redis->pools[loop_index(loop)], pool, memory_order_release);
    }
    if (pool->closed)
        return -ECANCELED;
    *ret = pool;
    return 0;
}

void redis_loop_close(struct redis *redis, struct loop *loop)
{
    struct redis_pool *pool = find_pool(redis, loop);

    if (!pool || pool->closed)
        return;
    pool->closed = true;
    for (unsigned i = 0; i < pool->node_count; i++)
        redis_node_free(pool->nodes[i]);
    pool->node_count = 0;
    heap_free(pool->slots);
    pool->slots = NULL;
}

void redis_clock(struct redis *redis, struct loop *loop, struct view key, struct redis_clock *ret)
{
    struct redis_pool *pool = find_pool(redis, loop);

    *ret = (struct redis_clock){ .known = false };
    if (pool && !pool->closed)
        redis_node_clock(redis_cluster_node(pool, key), ret);
}

/* ---- commands ---- */

/* Where a command may go now. */
struct passage {
    struct redis_pool *pool;
    struct redis_lane *lane;
    bool probe;
};

/* `patient`: see redis_send(). */
static int admit(struct redis *redis, struct loop *loop, struct view key, size_t len, bool forget, bool patient,
                 struct passage *ret)
{
    struct redis_pool *pool;
    struct redis_node *node;
    struct redis_lane *lane;
    int r = get_pool(redis, loop, &pool);

    if (r < 0)
        return r;
    redis_count(pool, REDIS_CALLS, 1);
    if ((forget ? pool->forget_bytes : pool->call_bytes) + len > redis->queue_bytes) {
        redis_count(pool, REDIS_REFUSED_FULL, 1);
        return -EBUSY;
    }
    node = redis_cluster_node(pool, key);
    r = patient && redis_node_ready_lane(node) ? 0 : redis_node_admit(node);
    lane = r < 0 ? NULL : redis_node_lane(node, forget, r == 1);
    if (!lane) {
        redis_count(pool, REDIS_REFUSED_BREAKER, 1);
        return -EHOSTDOWN;
    }
    *ret = (struct passage){ pool, lane, r == 1 };
    return 0;
}

static void enter(const struct passage *passage, struct redis_request *request)
{
    request->probe = passage->probe;
    if (passage->probe)
        passage->lane->node->probing = true;
    *(request->forget ? &passage->pool->forget_bytes : &passage->pool->call_bytes) += request->len;
    redis_lane_queue(passage->lane, request);
}

static int encode(const struct view *args, unsigned count, struct redis_request **ret)
{
    size_t len = resp_command_len(args, count);
    struct redis_request *request = redis_request_new(REQUEST_CALL, NULL, len);
    struct text text;

    if (!request)
        return -ENOMEM;
    text = text_make(request->bytes, len);
    resp_put_command(&text, args, count);
    *ret = request;
    return 0;
}

int redis_send(struct redis *redis, struct task *task, struct redis_call *call, const struct view *args, unsigned count,
               int key, uint32_t timeout_ms)
{
    struct view slot_key = key >= 0 ? args[key] : VIEW_NONE;
    struct redis_request *request;
    struct passage passage;
    int r;

    *call = (struct redis_call){ .task = task };
    r = admit(redis, task->loop, slot_key, resp_command_len(args, count), false, timeout_ms >= REDIS_PATIENT_MS,
              &passage);
    if (r < 0)
        return r;
    r = encode(args, count, &request);
    if (r < 0)
        return r;
    request->call = call;
    request->patient = timeout_ms >= REDIS_PATIENT_MS;
    request->deadline_ms = loop_now_ms(task->loop) + MAX(timeout_ms, 1);
    call->request = request;
    call->state = REDIS_WAITING;
    enter(&passage, request);
    return 0;
}

void redis_call_end(struct redis_call *call)
{
    if (call->state == REDIS_WAITING)
        redis_request_abandon(call->request);
    if (call->reply)
        redis_reply_free(CONTAINER_OF(call->reply, struct redis_reply, value));
    *call = (struct redis_call){ .task = call->task };
}

static void enter_forgotten(const struct passage *passage, struct redis_request *request, struct redis_ledger *ledger)
{
    request->forget = true;
    request->ledger = ledger;
    if (ledger)
        atomic_store_explicit(&ledger->bytes, atomic_load_explicit(&ledger->bytes, memory_order_relaxed) + request->len,
                              memory_order_relaxed);
    enter(passage, request);
}

int redis_forget(struct redis *redis, struct loop *loop, const struct view *args, unsigned count, int key,
                 struct redis_ledger *ledger)
{
    struct redis_request *request;
    struct passage passage;
    int r = admit(redis, loop, key >= 0 ? args[key] : VIEW_NONE, resp_command_len(args, count), true, false, &passage);

    if (r < 0)
        return r;
    r = encode(args, count, &request);
    if (r < 0)
        return r;
    enter_forgotten(&passage, request, ledger);
    return 0;
}

int redis_forget_block(struct redis *redis, struct loop *loop, char *block, size_t len, struct view key,
                       struct redis_ledger *ledger)
{
    struct redis_request *request;
    struct passage passage;
    int r = admit(redis, loop, key, len, true, false, &passage);

    request = r == 0 ? redis_request_new(REQUEST_CALL, block, len) : NULL;
    if (!request) {
        heap_free(block);
        return r < 0 ? r : -ENOMEM;
    }
    enter_forgotten(&passage, request, ledger);
    return 0;
}

void redis_stats(struct redis *redis, struct redis_stats *ret)
{
    uint64_t sum[REDIS_COUNTERS] = { 0 };

    for (unsigned i = 0; i < redis->loops; i++) {
        const struct redis_pool *pool = atomic_load_explicit(&redis->pools[i], memory_order_acquire);

        for (unsigned c = 0; pool && c < REDIS_COUNTERS; c++)
            sum[c] += atomic_load_explicit(&pool->counters[c], memory_order_relaxed);
    }
    *ret = (struct redis_stats){
        .calls = sum[REDIS_CALLS],
        .errors = sum[REDIS_ERRORS],
        .timeouts = sum[REDIS_TIMEOUTS],
        .refused_full = sum[REDIS_REFUSED_FULL],
        .refused_breaker = sum[REDIS_REFUSED_BREAKER],
        .connects = sum[REDIS_CONNECTS],
        .connect_failures = sum[REDIS_CONNECT_FAILURES],
        .redirects = sum[REDIS_REDIRECTS],
        .bytes_in = sum[REDIS_BYTES_IN],
        .bytes_out = sum[REDIS_BYTES_OUT],
        .connections = sum[REDIS_OPEN],
        .breaker_open = sum[REDIS_BREAKERS] > 0,
    };
}
