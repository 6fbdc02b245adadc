/* A connection of its own for commands that block or push. Its task keeps it up: connects, writes what is queued, and wakes the
 * owner whenever something may have changed; the owner reads. Nothing is repeated over a reconnect: the owner sees the epoch move
 * and asks anew.
 *
 * In a Cluster a command may belong to another server (XREAD on a stream's key): a MOVED makes the channel go there. */
#include "store/redis_pool.h"

#include "base/check.h"
#include "base/heap.h"

#include <errno.h>

#define RETRY_FIRST_MS 50u
#define RETRY_MAX_MS 5000u
#define ELSEWHERE_TRIES 2u
/* Commands not written yet; a channel carries few and small ones. */
#define OUT_MAX ((size_t)1 << 20)

struct redis_channel {
    struct redis *redis;
    struct redis_conn conn;
    struct redis_target target; /* ours; the configured server, or where MOVED sent us */
    struct task task, *owner;
    struct timer retry;
    struct redis_reply *reply; /* what the owner looks at */
    char *out;
    size_t out_len, out_sent, out_cap;
    uint64_t random;
    unsigned epoch, failures;
    bool ready;
};

static void channel_lost(struct redis_channel *channel)
{
    uint64_t pause = MIN((uint64_t)RETRY_FIRST_MS << MIN(channel->failures, 10u), RETRY_MAX_MS);

    redis_conn_close(&channel->conn);
    channel->out_len = channel->out_sent = 0;
    channel->failures++;
    channel->ready = false;
    timer_set(&channel->retry, redis_jitter(&channel->random, pause));
    task_wake(channel->owner);
}

static int flush(struct redis_channel *channel)
{
    while (channel->out_sent < channel->out_len) {
        struct iovec iov = { channel->out + channel->out_sent, channel->out_len - channel->out_sent };
        ssize_t sent = sock_writev(&channel->conn.sock, &iov, 1, false);

        if (sent < 0)
            return sent == -EAGAIN ? 0 : (int)sent;
        channel->out_sent += (size_t)sent;
    }
    channel->out_len = channel->out_sent = 0;
    return 0;
}

/* Where MOVED sent us nobody is any more: the configured server knows the way. */
static void go_home(struct redis_channel *channel)
{
    const struct redis_target *seed = &channel->redis->seed;
    char *host = heap_strdup(seed->host, strlen(seed->host));

    if (!host)
        return;
    heap_free(channel->target.host);
    channel->target = (struct redis_target){ host, seed->port };
}

/* The loop's calls need not wait out their own pauses, which grow longer than ours. */
static void tell_pool(const struct redis_channel *channel)
{
    struct redis_pool *pool =
        atomic_load_explicit(&channel->redis->pools[loop_index(channel->task.loop)], memory_order_relaxed);

    if (pool && !pool->closed)
        redis_node_reachable(pool, &channel->target);
}

static void channel_run(struct task *task)
{
    struct redis_channel *channel = CONTAINER_OF(task, struct redis_channel, task);
    int r;

    if (channel->retry.fired) {
        timer_clear(&channel->retry);
        if (channel->failures > ELSEWHERE_TRIES)
            go_home(channel);
        redis_conn_start(&channel->conn);
    }
    if (channel->conn.step == CONN_CLOSED)
        return;
    r = redis_conn_drive(&channel->conn);
    if (r == -EAGAIN)
        return;
    if (r == 0 && !channel->ready) {
        channel->ready = true;
        channel->epoch++;
        tell_pool(channel);
    }
    if (r == 0)
        r = flush(channel);
    if (r < 0)
        channel_lost(channel);
    task_wake(channel->owner);
}

int redis_channel_open(struct redis *redis, struct task *task, struct redis_channel **ret)
{
    struct redis_channel *channel = heap_zalloc(sizeof(*channel));

    if (!channel)
        return -ENOMEM;
    channel->target =
        (struct redis_target){ heap_strdup(redis->seed.host, strlen(redis->seed.host)), redis->seed.port };
    if (!channel->target.host) {
        heap_free(channel);
        return -ENOMEM;
    }
    channel->redis = redis;
    channel->owner = task;
    channel->random = redis_random();
    task_init(&channel->task, task->loop, channel_run);
    timer_init(&channel->retry, &channel->task);
    redis_conn_init(&channel->conn, &redis->access, &channel->target, &channel->task);
    redis_conn_start(&channel->conn);
    task_wake(&channel->task);
    *ret = channel;
    return 0;
}

void redis_channel_close(struct redis_channel *channel)
{
    if (!channel)
        return;
    redis_conn_release(&channel->conn);
    timer_clear(&channel->retry);
    task_cancel(&channel->task);
    redis_reply_free(channel->reply);
    heap_free(channel->target.host);
    heap_free(channel->out);
    heap_free(channel);
}

bool redis_channel_ready(const struct redis_channel *channel)
{
    return channel->ready;
}

unsigned redis_channel_epoch(const struct redis_channel *channel)
{
    return channel->epoch;
}

void redis_channel_reset(struct redis_channel *channel)
{
    if (channel->conn.step != CONN_CLOSED)
        channel_lost(channel);
}

/* ---- talking ---- */

static int make_room(struct redis_channel *channel, size_t len)
{
    size_t cap = MAX(channel->out_cap, (size_t)256);
    char *out;

    if (channel->out_len + len > OUT_MAX)
        return -ENOMEM;
    while (cap < channel->out_len + len)
        cap *= 2;
    if (cap == channel->out_cap)
        return 0;
    out = heap_resize(channel->out, cap);
    if (!out)
        return -ENOMEM;
    channel->out = out;
    channel->out_cap = cap;
    return 0;
}

int redis_channel_send(struct redis_channel *channel, const struct view *args, unsigned count)
{
    size_t len = resp_command_len(args, count);
    struct text text;

    if (!channel->ready)
        return -ENOTCONN;
    if (make_room(channel, len) < 0)
        return -ENOMEM;
    text = text_make(channel->out + channel->out_len, len);
    resp_put_command(&text, args, count);
    channel->out_len += len;
    task_wake(&channel->task);
    return 0;
}

/* "MOVED 3999 127.0.0.1:6381": from now on there. */
static bool moved(struct redis_channel *channel, const struct resp_value *value)
{
    struct redis_target target;
    struct view rest = value->text;

    if (!resp_is_error(value) || !view_eq(view_cut(&rest, ' '), VIEW("MOVED")))
        return false;
    view_cut(&rest, ' ');
    if (redis_target_parse(rest, channel->target.host, &target) < 0)
        return false;
    channel_lost(channel);
    heap_free(channel->target.host);
    channel->target = target;
    return true;
}

int redis_channel_next(struct redis_channel *channel, struct resp_value **ret_value)
{
    struct view bytes;
    int r;

    redis_reply_free(channel->reply);
    channel->reply = NULL;
    if (!channel->ready)
        return -ENOTCONN;
    r = redis_conn_peek(&channel->conn, &bytes);
    if (r == 0) {
        r = redis_reply_new(bytes, &channel->redis->access.limits, &channel->reply);
        redis_conn_consume(&channel->conn, bytes);
    }
    if (r == -EAGAIN)
        return r;
    if (r < 0) {
        channel_lost(channel);
        return -ENOTCONN;
    }
    if (moved(channel, &channel->reply->value))
        return -ENOTCONN;
    /* It serves what we ask: the next pauses are short again. */
    channel->failures = 0;
    *ret_value = &channel->reply->value;
    return 0;
}
