/* The shared tier on a real server: entries there and back, what is refused, leases, and the store's faults. */
#include "redis_fixture.h"

#include "base/heap.h"
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
    if (job->result != -EAGAIN)
        sem_post(&job->done);
}

static int job_wait(struct job *job)
{
    sem_init(&job->done, 0, 0);
    on_loop(start_get, job);
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

static void test_not_written(void **state)
{
    /* What is too large, incomplete, external, from the future, or too much is not written, and counted where it should be. */
    static struct object_external external;
    struct shared_options options = { .max_object = 5000, .queue_bytes = 6000 };
    struct object *object;
    int r;

    (void)state;
    need_server();
    open_shared(&options, NULL);
    put(make_object("early", 10, 60000), 1, false); /* the clock is not known yet */
    assert_int_equal(stats().dropped_other, 1);
    warm_up();
    put(make_object("large", 5000, 60000), 1, false);
    assert_int_equal(stats().dropped_large, 1);
    object = make_object("incomplete", 10, 60000);
    atomic_store(&object->flags, 0);
    put(object, 1, false);
    object = make_object("external", 0, 60000);
    atomic_store(&external.refs, 1);
    object->external = &external;
    object_ref(object);
    put(object, 1, false);
    object->external = NULL;
    object_unref(object);
    object = make_object("future", 10, 60000);
    object->times.response_ms += 5000;
    put(object, 1, false);
    assert_int_equal(stats().writes, 0);
    assert_null(get("future", &r));
    close_shared();
    server_end(&server);
}

static struct object *batch[4];

static void put_batch(void *arg)
{
    (void)arg;
    for (size_t i = 0; i < ARRAY_LEN(batch); i++)
        shared_put(shared, bench_loop, entry_key_primary(&batch[i]->key), batch[i], 1, false);
}

static void test_queue_is_bounded(void **state)
{
    /* Writes that are not acknowledged are bounded in bytes: what is above is dropped and counted. */
    struct shared_options options = { .queue_bytes = 10000 };

    (void)state;
    need_server();
    open_shared(&options, NULL);
    warm_up();
    for (size_t i = 0; i < ARRAY_LEN(batch); i++)
        batch[i] = make_object("k", 4000, 60000);
    on_loop(put_batch, NULL);
    for (size_t i = 0; i < ARRAY_LEN(batch); i++)
        object_unref(batch[i]);
    assert_int_equal(stats().writes, 2);
    assert_int_equal(stats().dropped_full, 2);
    settle();
    put(make_object("k", 4000, 60000), 1, false);
    assert_int_equal(stats().writes, 3);
    close_shared();
    server_end(&server);
}

static void put_names(const char *key_text, uint64_t generation)
{
    struct job job = { .key = key_of(view_str(key_text)),
                       .names = VIEW("accept-language"),
                       .generation = generation,
                       .position = 9,
                       .lifetime_ms = 60000 };

    job.at = entry_key_primary(&job.key);
    on_loop(do_put_vary, &job);
}

static void test_vary(void **state)
{
    /* An entry that only names variants comes back as an object without a status. */
    struct object *names;
    int r;

    (void)state;
    need_server();
    open_shared(NULL, NULL);
    warm_up();
    put_names("k", 1234567890123u);
    settle();
    names = get("k", &r);
    assert_int_equal(r, 0);
    assert_int_equal(names->status, 0);
    assert_int_equal(names->generation, 1234567890123u);
    assert_int_equal(atomic_load(&names->purge_pos), 9);
    assert_true(view_eq(object_vary_names(names), VIEW("accept-language")));
    object_unref(names);
    close_shared();
    server_end(&server);
}

/* The key of the only entry there is, as the store has it. */
static void only_key(char *name, size_t cap)
{
    struct ask ask = asked(5000, "EVAL return(redis.call('KEYS','*')[1]) 0");

    assert_int_equal(ask.type, RESP_STRING);
    snprintf(name, cap, "%.100s", ask.text);
}

static void test_not_believed(void **state)
{
    /* A torn, foreign, rotten, misplaced or impossible entry is a miss, and the right one is counted. */
    static const struct {
        const char *before, *after; /* the key */
        uint64_t torn, foreign, errors;
    } cases[] = {
        { "SET ", " rubbish", 1, 0, 0 },
        { "SETRANGE ", " 0 X", 1, 0, 0 },   /* no entry */
        { "SETRANGE ", " 4 9", 0, 1, 0 },   /* another version */
        { "SETRANGE ", " 60 Z", 1, 0, 0 },  /* a rotten head */
        { "SETRANGE ", " 700 Z", 1, 0, 0 }, /* a rotten body */
        { "APPEND ", " x", 1, 0, 0 },       /* too long */
        { "EVAL redis.call('SET',KEYS[1],string.sub(redis.call('GET',KEYS[1]),1,-2)) 1 ", "", 1, 0, 0 }, /* too short */
        { "EVAL redis.call('DEL',KEYS[1]);redis.call('LPUSH',KEYS[1],'a') 1 ", "", 0, 0, 1 },            /* WRONGTYPE */
        { "EVAL redis.call('SET',KEYS[1],'') 1 ", "", 1, 0, 0 },
    };
    char name[128], line[256];
    int r;

    (void)state;
    need_server();
    open_shared(NULL, NULL);
    warm_up();
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct shared_stats before = stats();

        asked(5000, "FLUSHALL");
        put(make_object("k", 1000, 60000), 1, false);
        settle();
        only_key(name, sizeof(name));
        snprintf(line, sizeof(line), "%s%s%s", cases[i].before, name, cases[i].after);
        assert_int_equal(asked(5000, line).error, 0);
        assert_null(get("k", &r));
        assert_int_equal(r, -ENOENT);
        assert_int_equal(stats().torn - before.torn, cases[i].torn);
        assert_int_equal(stats().foreign - before.foreign, cases[i].foreign);
        assert_int_equal(stats().errors - before.errors, cases[i].errors);
        assert_int_equal(stats().hits, 0);
    }
    close_shared();
    server_end(&server);
}

static void test_another_key(void **state)
{
    /* Two keys with one hash: the text decides, the other one's answer is nobody's. */
    struct job job = { .key = key_of(VIEW("b")) };

    (void)state;
    need_server();
    open_shared(NULL, NULL);
    warm_up();
    put(make_object("a", 10, 60000), 1, false);
    settle();
    job.at = entry_key_primary(&(struct key){ .hash = { key_of(VIEW("a")).hash[0], key_of(VIEW("a")).hash[1] } });
    assert_int_equal(job_wait(&job), -ENOENT);
    job.key = key_of(VIEW("a"));
    assert_int_equal(job_wait(&job), 0);
    object_unref(job.object);
    close_shared();
    server_end(&server);
}

static void test_drop(void **state)
{
    /* A dropped entry is gone; the keys say prefix, region and kind. */
    struct job job = { .key = key_of(VIEW("k")) };
    char name[128], wanted[128];
    int r;

    (void)state;
    need_server();
    open_shared(NULL, NULL);
    warm_up();
    put(make_object("k", 10, 60000), 1, false);
    settle();
    only_key(name, sizeof(name));
    job.at = entry_key_primary(&job.key);
    snprintf(wanted, sizeof(wanted), "t:eu:o:{%016llx%016llx}", (unsigned long long)job.at.hash[0],
             (unsigned long long)job.at.hash[1]);
    assert_string_equal(name, wanted);
    on_loop(do_drop, &job);
    settle();
    assert_null(get("k", &r));
    assert_int_equal(stats().drops, 1);
    close_shared();
    server_end(&server);
}

static void test_lease(void **state)
{
    /* One at a time has the lease of a key; it ends with the entry, with a release by its holder, or by itself. */
    struct job job = { .key = key_of(VIEW("k")) };
    char line[256];
    struct ask ask;

    (void)state;
    need_server();
    open_shared(NULL, NULL);
    warm_up();
    job.at = entry_key_primary(&job.key);
    assert_int_equal(lease("k", 60000), 0);
    assert_int_equal(lease("k", 60000), -EBUSY);
    assert_int_equal(lease("other", 60000), 0);
    put(make_object("k", 10, 60000), 1, true);
    settle();
    assert_int_equal(lease("k", 60000), 0);
    on_loop(do_release, &job);
    settle();
    assert_int_equal(lease("k", 60000), 0);
    /* Another node's lease is not ours to end. */
    snprintf(line, sizeof(line), "SET t:eu:l:{%016llx%016llx} theirs", (unsigned long long)job.at.hash[0],
             (unsigned long long)job.at.hash[1]);
    assert_answer(asked(5000, line), "OK");
    on_loop(do_release, &job);
    on_loop(do_drop, &job); /* later on the same connection: settled means the release was carried out */
    settle();
    assert_int_equal(lease("k", 1), -EBUSY);
    memcpy(line, "DEL", 3);
    *strchr(strchr(line, ' ') + 1, ' ') = '\0';
    ask = asked(5000, line);
    assert_int_equal(ask.integer, 1);
    /* A holder that dies: the lease runs out. */
    assert_int_equal(lease("k", 30), 0);
    while (lease("k", 30) == -EBUSY)
        usleep(1000);
    assert_int_equal(stats().leases, 6);
    close_shared();
    server_end(&server);
}

static void test_least_rights(void **state)
{
    /* The commands that the documentation names are enough. */
    struct redis_options how = { .user = VIEW("node"), .password = VIEW("hush") };
    struct object *object;
    int r;

    (void)state;
    need_server();
    open_shared(NULL, NULL);
    assert_answer(asked(5000, "ACL SETUSER node on >hush ~t:* -@all +hello +auth +select +time +get"), "OK");
    assert_answer(asked(5000, "ACL SETUSER node +set +unlink +eval +cluster|slots +asking"), "OK");
    close_shared();
    how.path = view_str(server.path);
    open_shared(NULL, &how);
    warm_up();
    assert_int_equal(lease("k", 60000), 0);
    put(make_object("k", 10, 60000), 1, true);
    settle();
    object = get("k", &r);
    assert_int_equal(r, 0);
    object_unref(object);
    while (lease("k", 60000) == -EBUSY)
        usleep(1000);
    assert_int_equal(stats().leases, 2);
    assert_int_equal(stats().write_failures, 0);
    close_shared();
    server_end(&server);
}

static void test_store_gone(void **state)
{
    /* Store down, hanging, full, back: reads are misses, writes are dropped or counted as failed, leases say to go on without. */
    struct shared_options options = { .timeout_ms = 50 };
    uint64_t failures;
    int r;

    (void)state;
    need_server();
    open_shared(&options, NULL);
    while (!stats().clock_known)
        get("k", &r);
    put(make_object("k", 10, 60000), 1, false);
    settle();
    kill(server.pid, SIGSTOP);
    for (int i = 0; i < 20; i++) {
        assert_null(get("k", &r));
        assert_int_equal(r, -ENOENT);
    }
    assert_true(stats().timeouts >= 1);
    assert_int_equal(lease("k", 1000), -ENOENT);
    put(make_object("k", 10, 60000), 1, false);
    kill(server.pid, SIGCONT);
    server_kill(&server);
    assert_null(get("k", &r));
    assert_int_equal(lease("k", 1000), -ENOENT);
    server_run(&server, "--maxmemory 1 --maxmemory-policy noeviction");
    failures = stats().write_failures;
    for (int i = 0; i < 5000 && stats().write_failures == failures; i++) {
        put(make_object("k", 10, 60000), 1, false);
        get("k", &r);
        usleep(1000);
    }
    assert_true(stats().write_failures > failures);
    server_kill(&server);
    server_run(&server, "");
    for (int i = 0; i < 5000 && stats().hits == 0; i++) {
        struct object *object;

        put(make_object("k", 10, 60000), 1, false);
        object = get("k", &r);
        if (object)
            object_unref(object);
        usleep(1000);
    }
    assert_true(stats().hits > 0);
    close_shared();
    server_end(&server);
}

static void test_memory_is_out(void **state)
{
    /* Whichever allocation fails, every read ends, as a hit or a miss, and the next ones succeed. */
    struct object *object;
    int r;

    (void)state;
    need_server();
    open_shared(NULL, NULL);
    warm_up();
    for (unsigned long nth = 1; nth <= 40; nth++) {
        uint64_t hits = stats().hits;

        object = make_object("k", 40000, 60000);
        heap_fault(nth, 0);
        put(object, 1, true);
        object = get("k", &r);
        if (object)
            object_unref(object);
        heap_fault(0, 0);
        settle();
        for (int i = 0; i < 5000 && stats().hits <= hits; i++) {
            put(make_object("k", 40000, 60000), 1, false);
            settle();
            object = get("k", &r);
            if (object)
                object_unref(object);
        }
        assert_true(stats().hits > hits);
    }
    close_shared();
    server_end(&server);
}

static void test_cluster(void **state)
{
    /* Entries and leases of many slots over a cluster of three, the map not known at first. */
    static struct server trio[3];
    struct redis_options how = { .host = VIEW("127.0.0.1") };
    char name[16];
    int r;

    (void)state;
    if (!trio_start(trio))
        skip();
    how.port = trio[0].port;
    open_shared(NULL, &how);
    for (int i = 0; i < 30; i++) {
        struct object *object;

        snprintf(name, sizeof(name), "key-%d", i);
        do
            r = lease(name, 60000); /* until the cluster has formed */
        while (r == -ENOENT);
        assert_int_equal(r, 0);
        do { /* until this server's clock is known: its first answer tells it */
            put(make_object(name, 100, 60000), 1, false);
            settle();
            object = get(name, &r);
        } while (r == -ENOENT);
        assert_int_equal(object->status, 200);
        put(object, 2, true);
        settle();
        while ((r = lease(name, 60000)) == -EBUSY)
            usleep(1000);
        assert_int_equal(r, 0);
    }
    assert_int_equal(stats().write_failures, 0);
    assert_int_equal(stats().torn, 0);
    close_shared();
    for (int i = 0; i < 3; i++)
        server_end(&trio[i]);
}

/* ---- a store whose clock is another ---- */

static void test_clocks_apart(void **state)
{
    /* A node whose store is an hour behind writes the store's time and reads its own back. */
    static const char hello[] = "%1\r\n+mode\r\n+standalone\r\n";
    static char time[128];
    static struct op script[] = {
        { OP_ACCEPT, NULL, 0 },    { OP_READ_UNTIL, "\r\n3\r\n", 0 },
        { OP_SEND, hello, 0 },     { OP_READ_UNTIL, "TIME\r\n", 0 },
        { OP_SEND, time, 0 },      { OP_READ_UNTIL, "}\r\n", 0 },
        { OP_SEND, "$-1\r\n", 0 }, { OP_READ_UNTIL, "PX\r\n", 0 },
        { OP_SEND, "+OK\r\n", 0 }, { OP_READ_EOF, NULL, 0 },
        { OP_END, NULL, 0 },
    };
    struct redis_options how = { .host = VIEW("127.0.0.1"), .connections = 1 };
    struct origin fake;
    struct entry entry;
    struct object *object;
    int64_t hour_ago = clock_wall_ms() - 3600000, response_ms;
    const char *at;

    (void)state;
    snprintf(time, sizeof(time), "*2\r\n$10\r\n%lld\r\n$6\r\n%06lld\r\n", (long long)hour_ago / 1000,
             (long long)hour_ago % 1000 * 1000);
    origin_start(&fake, script, NULL);
    how.port = fake.port;
    open_shared(NULL, &how);
    warm_up();
    object = make_object("k", 10, 60000);
    response_ms = object->times.response_ms;
    put(object, 1, false);
    settle();
    /* The scripted store told the time when the test began. */
    assert_true(stats().clock_known);
    assert_true(llabs(stats().clock_offset_ms + 3600000) <= stats().clock_error_ms + 2000);
    close_shared();
    origin_join(&fake);
    at = memmem(fake.got, fake.got_len, "DSE1", 4);
    assert_non_null(at);
    assert_int_equal(entry_parse(view_make(at, fake.got_len - (size_t)(at - fake.got)), 0, &entry), 0);
    assert_true(llabs(entry.times.response_ms - (response_ms - 3600000)) <= 2000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_there_and_back), cmocka_unit_test(test_life),
        cmocka_unit_test(test_not_written),    cmocka_unit_test(test_queue_is_bounded),
        cmocka_unit_test(test_vary),           cmocka_unit_test(test_not_believed),
        cmocka_unit_test(test_another_key),    cmocka_unit_test(test_drop),
        cmocka_unit_test(test_lease),          cmocka_unit_test(test_least_rights),
        cmocka_unit_test(test_store_gone),     cmocka_unit_test(test_memory_is_out),
        cmocka_unit_test(test_cluster),        cmocka_unit_test(test_clocks_apart),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
