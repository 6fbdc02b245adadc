/* The shared tier on a real server: entries there and back, what is refused, leases, and the store's faults. */
#include "redis_fixture.h"

#include "store/shared.h"

static struct server server;
static struct shared *shared;

/* ---- doing things on the loop ---- */

struct job {
    struct task task;
    sem_t done;
    struct shared_get get;
    struct entry_key at;
    struct key key;
    struct object *object; /* in or out */
    uint64_t position, generation;
    uint32_t lease_ms;
    int64_t lifetime_ms;
    struct view names;
    bool release, lease;
    int result;
};

static void job_run(struct task *task)
{
    struct job *job = CONTAINER_OF(task, struct job, task);

    job->result = job->lease ? shared_lease_result(&job->get) : shared_get_result(&job->get, &job->object);
    if (job->result != -EAGAIN)
        sem_post(&job->done);
}

static void start_get(void *arg)
{
    struct job *job = arg;

    task_init(&job->task, bench_loop, job_run);
    job->result = job->lease ? shared_lease(shared, job->at, job->lease_ms, &job->task, &job->get)
                             : shared_get(shared, job->at, &job->key, &job->task, &job->get);
}

static int job_wait(struct job *job)
{
    sem_init(&job->done, 0, 0);
    on_loop(start_get, job);
    if (job->result == -EAGAIN)
        sem_wait(&job->done);
    return job->result;
}

static struct object *get(const char *key, int *ret)
{
    struct job job = { .key = key_of(view_str(key)) };

    job.at = entry_key_primary(&job.key);
    *ret = job_wait(&job);
    return job.object;
}

static int lease(const char *key, uint32_t ms)
{
    struct job job = { .key = key_of(view_str(key)), .lease = true, .lease_ms = ms };

    job.at = entry_key_primary(&job.key);
    return job_wait(&job);
}

static void do_put(void *arg)
{
    struct job *job = arg;

    shared_put(shared, bench_loop, entry_key_primary(&job->object->key), job->object, job->position, job->release);
}

static void do_put_vary(void *arg)
{
    struct job *job = arg;

    shared_put_vary(shared, bench_loop, job->at, &job->key, job->names, job->generation, job->position,
                    job->lifetime_ms);
}

static void do_drop(void *arg)
{
    shared_drop(shared, bench_loop, ((struct job *)arg)->at);
}

static void do_release(void *arg)
{
    shared_lease_release(shared, bench_loop, ((struct job *)arg)->at);
}

static struct object *make_object(const char *key_text, size_t body_len, int64_t lifetime_ms)
{
    struct key key = key_of(view_str(key_text));
    struct object_parts parts = {
        .key = key.text,
        .url = VIEW("http://o/x"),
        .tags = VIEW("a b"),
        .head = VIEW("HTTP/1.1 200 OK\r\nETag: \"1\"\r\n"),
        .etag_at = 23,
        .etag_len = 3,
    };
    struct object *object = object_new(&key, &parts);

    object->status = 200;
    object->times = (struct object_times){ .response_ms = clock_wall_ms(),
                                           .lifetime_ms = lifetime_ms,
                                           .swr_ms = -1,
                                           .sie_ms = -1,
                                           .date_s = 1700000000,
                                           .last_modified_s = -1 };
    for (size_t i = 0; i < body_len;) {
        size_t cap;
        char *room = object_reserve(object, body_len - i, &cap);

        for (size_t j = 0; j < cap; j++)
            room[j] = (char)('a' + (i + j) % 23);
        object_commit(object, cap);
        i += cap;
    }
    object->complete_len = body_len;
    atomic_store(&object->flags, OBJECT_COMPLETE | OBJECT_IMMUTABLE);
    return object;
}

static void put(struct object *object, uint64_t position, bool release)
{
    struct job job = { .object = object, .position = position, .release = release };

    on_loop(do_put, &job);
    object_unref(object);
}

static struct shared_stats stats(void)
{
    struct shared_stats s;

    shared_stats(shared, &s);
    return s;
}

/* Writes are carried out in order on their own connection; one that is answered was, and all before it. */
static void settle(void)
{
    for (int i = 0; i < 1000 && stats().queued_bytes; i++)
        usleep(1000);
    assert_int_equal(stats().queued_bytes, 0);
}

static void open_shared(const struct shared_options *more, const struct redis_options *how)
{
    struct redis_options redis_options = { .path = view_str(server.path) };
    struct shared_options options = { 0 };

    redis_open(how ? how : &redis_options);
    if (more)
        options = *more;
    options.redis = client_redis;
    options.prefix = VIEW("t:");
    options.region = VIEW("eu");
    if (!options.timeout_ms)
        options.timeout_ms = 5000;
    assert_int_equal(shared_new(&options, &shared), 0);
}

static void close_shared(void)
{
    redis_shut();
    shared_free(shared);
}

/* Makes the clock known. */
static void warm_up(void)
{
    int r;

    assert_null(get("nothing", &r));
    assert_int_equal(r, -ENOENT);
}

#define need_server() \
    do { \
        if (!server_start(&server, 0, "")) \
            skip(); \
    } while (0)

static void test_there_and_back(void **state)
{
    /* What is put comes back the same: texts, times, flags, position and a body of many chunks. */
    struct object *object, *back;
    struct object_cursor cursor = { 0 };
    struct view run;
    size_t at = 0;
    int r;

    (void)state;
    need_server();
    open_shared(NULL, NULL);
    warm_up();
    object = make_object("k", 300000, 60000);
    object_ref(object);
    put(object, 77, false);
    settle();
    back = get("k", &r);
    assert_int_equal(r, 0);
    assert_int_equal(back->status, 200);
    assert_int_equal(atomic_load(&back->purge_pos), 77);
    assert_true(view_eq(object_head(back), object_head(object)));
    assert_true(view_eq(object_tags(back), VIEW("a b")));
    assert_true(view_eq(object_etag(back), VIEW("\"1\"")));
    assert_true(view_eq(back->key.text, VIEW("k")));
    assert_true(atomic_load(&back->flags) & OBJECT_COMPLETE);
    assert_true(atomic_load(&back->flags) & OBJECT_IMMUTABLE);
    /* One machine, one clock: the times move by the error of two measurements at most. */
    assert_true(llabs(back->times.response_ms - object->times.response_ms) <= 2 * (int64_t)stats().clock_error_ms);
    assert_int_equal(back->times.lifetime_ms, 60000);
    while ((run = object_peek(back, &cursor)).len) {
        for (size_t i = 0; i < run.len; i++, at++)
            assert_int_equal(run.ptr[i], 'a' + at % 23);
        object_advance(back, &cursor, run.len);
    }
    assert_int_equal(at, 300000);
    object_unref(back);
    object_unref(object);
    assert_int_equal(stats().hits, 1);
    assert_int_equal(stats().misses, 1);
    assert_int_equal(stats().writes, 1);
    close_shared();
    server_end(&server);
}

static void test_life(void **state)
{
    /* An entry ends by itself when its freshness, its stale windows and the time to keep it are over; what is past that already
     * is not written. */
    struct shared_options options = { .keep_stale_ms = 20000 };
    struct object *old;
    struct ask ttl;

    (void)state;
    need_server();
    open_shared(&options, NULL);
    warm_up();
    old = make_object("old", 10, 60000);
    old->times.initial_age_ms = 90000;
    put(old, 1, false);
    old = make_object("aged", 10, 60000);
    old->times.initial_age_ms = 50000;
    old->times.sie_ms = 7000;
    put(old, 1, false);
    settle();
    assert_int_equal(stats().writes, 1);
    ttl = asked(5000, "KEYS *");
    assert_int_equal(ttl.items, 1);
    ttl = asked(5000, "EVAL return(redis.call('PTTL',redis.call('KEYS','*')[1])) 0");
    assert_int_equal(ttl.type, RESP_INTEGER);
    assert_true(ttl.integer > 27000 && ttl.integer <= 37000);
    close_shared();
    server_end(&server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_there_and_back),
        cmocka_unit_test(test_life),
    };

    (void)do_put_vary;
    (void)do_drop;
    (void)do_release;
    (void)lease;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
