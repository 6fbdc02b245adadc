/* The limit on connections and the queue behind it, with three exchanges at once. */
#include "upstream_fixture.h"

#include "upstream/pool.h"

#define GET "GET / HTTP/1.1\r\nHost: o\r\n\r\n"
#define ANSWER "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

struct crowd {
    struct task task;
    struct loop *loop;
    struct upstream *upstream;
    struct exchange *x[3];
    enum exchange_error errors[3];
    int order[3];
    int ended;
    struct upstream_stats at_start, at_end;
};

static struct crowd crowd;
static struct origin origin;

static bool is_over(struct exchange *x)
{
    char memory[64];

    while (exchange_state(x) == EXCHANGE_BODY)
        if (exchange_read(x, memory, sizeof(memory)) == -EAGAIN)
            return false;
    return exchange_state(x) >= EXCHANGE_DONE;
}

static void crowd_run(struct task *task)
{
    struct crowd *c = CONTAINER_OF(task, struct crowd, task);
    const struct exchange_request request = { .method = METHOD_GET, .head = VIEW(GET), .replayable = true };

    if (c->at_start.exchanges == 0) {
        for (int i = 0; i < 3; i++)
            assert_int_equal(exchange_start(&c->x[i], c->upstream, task, &request), 0);
        upstream_stats(c->upstream, &c->at_start);
    }
    for (int i = 0; i < 3; i++) {
        if (!c->x[i] || !is_over(c->x[i]))
            continue;
        c->errors[i] = exchange_error(c->x[i]);
        c->order[c->ended++] = i;
        exchange_close(c->x[i]);
        c->x[i] = NULL;
    }
    if (c->ended == 3) {
        upstream_stats(c->upstream, &c->at_end);
        loop_stop(c->loop);
    }
}

static void gather(const struct op *script, uint32_t connections, uint32_t waiting)
{
    char url[64], memory[200];
    const char *servers[1] = { url };
    struct text reason = TEXT_ON(memory);
    struct upstream_options options;

    memset(&crowd, 0, sizeof(crowd));
    origin_start(&origin, script, NULL);
    snprintf(url, sizeof(url), "http://127.0.0.1:%u", origin.port);
    upstream_options_init(&options);
    options.servers = servers;
    options.server_count = 1;
    options.max_connections = connections;
    options.max_waiting = waiting;
    assert_int_equal(loop_new(&crowd.loop, 0), 0);
    assert_int_equal(upstream_new(&crowd.upstream, &options, &reason), 0);
    task_init(&crowd.task, crowd.loop, crowd_run);
    task_wake(&crowd.task);
    loop_run(crowd.loop);
    upstream_loop_close(crowd.upstream, crowd.loop);
    upstream_free(crowd.upstream);
    loop_free(crowd.loop);
    origin_join(&origin);
}

static void test_queue(void **state)
{
    /* With one connection allowed, three exchanges go through it one after the other in the order they came. */
    static const struct op script[] = {
        { OP_ACCEPT, NULL, 0 },    { OP_READ_HEAD, NULL, 0 }, { OP_SEND, ANSWER, 0 },
        { OP_READ_HEAD, NULL, 0 }, { OP_SEND, ANSWER, 0 },    { OP_READ_HEAD, NULL, 0 },
        { OP_SEND, ANSWER, 0 },    { OP_READ_EOF, NULL, 0 },  { OP_END, NULL, 0 },
    };

    (void)state;
    gather(script, 1, 10);
    assert_int_equal(crowd.at_start.waiting, 2);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(crowd.errors[i], EXCHANGE_OK);
        assert_int_equal(crowd.order[i], i);
    }
    assert_int_equal(origin.accepted, 1);
    assert_int_equal(crowd.at_end.reuses, 2);
    assert_int_equal(crowd.at_end.waiting, 0);
    assert_int_equal(crowd.at_end.active, 0);
    assert_int_equal(crowd.at_end.idle, 1);
}

static void test_queue_after_failure(void **state)
{
    /* A connection that breaks makes room for the next in the queue as well. */
    static const struct op script[] = {
        { OP_ACCEPT, NULL, 0 },    { OP_READ_HEAD, NULL, 0 }, { OP_CLOSE, NULL, 0 },     { OP_ACCEPT, NULL, 0 },
        { OP_READ_HEAD, NULL, 0 }, { OP_SEND, ANSWER, 0 },    { OP_READ_HEAD, NULL, 0 }, { OP_SEND, ANSWER, 0 },
        { OP_READ_EOF, NULL, 0 },  { OP_END, NULL, 0 },
    };

    (void)state;
    gather(script, 1, 10);
    assert_int_equal(crowd.errors[0], EXCHANGE_CONNECTION_TERMINATED);
    assert_int_equal(crowd.errors[1], EXCHANGE_OK);
    assert_int_equal(crowd.errors[2], EXCHANGE_OK);
}

static void test_queue_full(void **state)
{
    /* Behind a full queue an exchange fails at once with connection_limit_reached. */
    static const struct op script[] = {
        { OP_ACCEPT, NULL, 0 }, { OP_READ_HEAD, NULL, 0 }, { OP_SEND, ANSWER, 0 }, { OP_READ_HEAD, NULL, 0 },
        { OP_SEND, ANSWER, 0 }, { OP_READ_EOF, NULL, 0 },  { OP_END, NULL, 0 },
    };

    (void)state;
    gather(script, 1, 1);
    assert_int_equal(crowd.errors[2], EXCHANGE_CONNECTION_LIMIT);
    assert_int_equal(crowd.order[0], 2);
    assert_int_equal(crowd.errors[0], EXCHANGE_OK);
    assert_int_equal(crowd.errors[1], EXCHANGE_OK);
    assert_int_equal(exchange_error_status(EXCHANGE_CONNECTION_LIMIT), 503);
}

/* A pool whose connections are kept for 100 ms on average, all in use. */
static void test_queue_and_deadline(void **state)
{
    /* Who cannot be served before its deadline is refused at once instead of waiting for nothing; who can, waits. */
    const char *servers[1] = { "http://127.0.0.1:1" };
    char memory[200];
    struct text reason = TEXT_ON(memory);
    struct upstream_options options;
    struct task task = { .loop = NULL };
    struct pool_place first = { .task = &task }, second = first, third = first;
    struct upstream *upstream;
    struct conn *conn, *none;
    struct loop *loop;
    struct pool *pool;
    uint64_t now;

    (void)state;
    upstream_options_init(&options);
    options.servers = servers;
    options.server_count = 1;
    options.max_connections = 1;
    assert_int_equal(loop_new(&loop, 0), 0);
    assert_int_equal(upstream_new(&upstream, &options, &reason), 0);
    assert_int_equal(pool_get(&pool, upstream, loop), 0);
    task_init(&task, loop, NULL);
    now = loop_now_ms(loop);
    assert_int_equal(pool_acquire(pool, 0, false, false, &first, &conn), 0);
    pool->servers[0].hold_ms = 100;
    first.deadline_ms = now + 150;
    assert_int_equal(pool_acquire(pool, 0, false, false, &first, &none), -EAGAIN);
    second.deadline_ms = now + 150;
    assert_int_equal(pool_acquire(pool, 0, false, false, &second, &none), -ETIMEDOUT);
    second.deadline_ms = now + 250;
    assert_int_equal(pool_acquire(pool, 0, false, false, &second, &none), -EAGAIN);
    assert_int_equal(pool_acquire(pool, 0, false, false, &third, &none), -EAGAIN);
    pool_leave_queue(pool, &first);
    pool_leave_queue(pool, &second);
    pool_leave_queue(pool, &third);
    assert_int_equal(pool->servers[0].queued, 0);
    task_cancel(&task);
    conn_close(conn);
    upstream_loop_close(upstream, loop);
    upstream_free(upstream);
    loop_free(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_queue),
        cmocka_unit_test(test_queue_after_failure),
        cmocka_unit_test(test_queue_full),
        cmocka_unit_test(test_queue_and_deadline),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
