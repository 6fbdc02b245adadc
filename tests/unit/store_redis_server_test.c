/* The Redis client before real servers that stop, hang, refuse, run out of memory, and move keys about in a cluster. */
#include "redis_fixture.h"

static struct server server;

#define need_server(words) \
    do { \
        if (!server_start(&server, 0, words)) \
            skip(); \
    } while (0)

static void open_server(struct redis_options options)
{
    options.path = view_str(server.path);
    redis_open(&options);
}

static void close_server(void)
{
    redis_shut();
    server_end(&server);
}

/* Asks until there is an answer that is no error. */
static struct ask persistently(const char *line)
{
    struct ask ask;
    int tries = 0;

    do {
        ask = asked(5000, line);
        if (ask.error || ask.type == RESP_ERROR)
            usleep(2000);
    } while ((ask.error || ask.type == RESP_ERROR) && ++tries < 5000);
    return ask;
}

static void test_real_commands(void **state)
{
    /* RESP3 with a real server: strings, nulls, numbers, maps, errors. */
    struct ask ask;

    (void)state;
    need_server("");
    open_server((struct redis_options){ 0 });
    assert_answer(asked(5000, "SET k value"), "OK");
    assert_answer(asked(5000, "GET k"), "value");
    assert_int_equal(asked(5000, "GET none").type, RESP_NULL);
    assert_int_equal(asked(5000, "INCR n").integer, 1);
    ask = asked(5000, "HSET h a 1 b 2");
    assert_int_equal(asked(5000, "HGETALL h").type, RESP_MAP);
    assert_int_equal(asked(5000, "HGETALL h").items, 4);
    ask = asked(5000, "INCR h");
    assert_int_equal(ask.type, RESP_ERROR);
    assert_true(ask.clock.known && llabs(ask.clock.offset_ms) <= ask.clock.error_ms + 2);
    close_server();
}

static void test_by_name(void **state)
{
    /* A name is resolved, and of its addresses the one that answers is used. */
    struct redis_options options = { .host = VIEW("localhost") };

    (void)state;
    if (!server_start(&server, free_port(), ""))
        skip();
    options.port = server.port;
    redis_open(&options);
    assert_answer(asked(5000, "SET k value"), "OK");
    redis_shut();
    options.host = VIEW("no-such-host.invalid");
    redis_open(&options);
    assert_true(asked(5000, "GET k").error < 0);
    assert_int_equal(redis_now().connect_failures, 1);
    close_server();
}

static void test_password_and_database(void **state)
{
    /* A password and a database of a real server; without the password it does not serve. */
    (void)state;
    need_server("--requirepass hush");
    open_server((struct redis_options){ .password = VIEW("hush"), .database = 3 });
    assert_answer(asked(5000, "SET k value"), "OK");
    redis_shut();
    open_server((struct redis_options){ .password = VIEW("hush") });
    assert_int_equal(asked(5000, "GET k").type, RESP_NULL);
    redis_shut();
    open_server((struct redis_options){ .password = VIEW("wrong") });
    assert_int_equal(asked(5000, "GET k").error, -EACCES);
    redis_shut();
    open_server((struct redis_options){ 0 });
    assert_int_equal(asked(5000, "GET k").error, -EACCES);
    close_server();
}

static void test_stop_and_restart(void **state)
{
    /* A server that dies ends calls; while it is away they are refused at once; when it is back they are answered. */
    (void)state;
    need_server("");
    open_server((struct redis_options){ .breaker_failures = 3 });
    assert_answer(asked(5000, "SET k value"), "OK");
    server_kill(&server);
    while (!redis_now().breaker_open)
        assert_int_not_equal(asked(5000, "GET k").error, 0);
    assert_int_equal(asked(5000, "GET k").error, -EHOSTDOWN);
    server_run(&server, "");
    assert_int_equal(persistently("GET k").type, RESP_NULL);
    assert_false(redis_now().breaker_open);
    close_server();
}

static void test_hanging_server(void **state)
{
    /* A server that hangs costs a few timeouts, then nothing; when it goes on, so do we, and old answers go to nobody. */
    (void)state;
    need_server("");
    open_server((struct redis_options){ 0 });
    assert_answer(asked(5000, "SET k value"), "OK");
    kill(server.pid, SIGSTOP);
    while (!redis_now().breaker_open)
        assert_int_equal(asked(10, "GET none").error, -ETIMEDOUT);
    assert_int_equal(redis_now().timeouts, 5);
    for (int i = 0; i < 10; i++)
        assert_int_equal(asked(10, "GET none").error, -EHOSTDOWN);
    assert_int_equal(redis_now().timeouts, 5);
    kill(server.pid, SIGCONT);
    assert_answer(persistently("GET k"), "value");
    assert_int_equal(redis_now().connects, 1);
    close_server();
}

static void test_out_of_memory(void **state)
{
    /* A full server refuses writes with an error and goes on to serve reads: no reason to stop asking. */
    struct ask ask;

    (void)state;
    need_server("--maxmemory 1 --maxmemory-policy noeviction");
    open_server((struct redis_options){ .breaker_failures = 1 });
    ask = asked(5000, "SET k value");
    assert_int_equal(ask.type, RESP_ERROR);
    assert_non_null(strstr(ask.text, "OOM"));
    assert_int_equal(asked(5000, "GET k").type, RESP_NULL);
    assert_false(redis_now().breaker_open);
    close_server();
}

/* ---- many at once ---- */

static struct ask many[MANY];
static char lines[MANY][32];

static void send_many(void *arg)
{
    (void)arg;
    for (int i = 0; i < MANY; i++)
        ask_send(&many[i]);
}

static void test_many_at_once(void **state)
{
    /* Sixty-four calls of one turn over four connections: each gets its own answer. */
    (void)state;
    need_server("");
    open_server((struct redis_options){ .connections = 5 });
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < MANY; i++) {
            snprintf(lines[i], sizeof(lines[i]), "ECHO %d-%d", round, i);
            memset(&many[i], 0, sizeof(many[i]));
            sem_init(&many[i].done, 0, 0);
            many[i].args[0] = VIEW("ECHO");
            many[i].args[1] = view_str(lines[i] + 5);
            many[i].count = 2;
            many[i].key = -1;
            many[i].timeout_ms = 5000;
        }
        on_loop(send_many, NULL);
        for (int i = 0; i < MANY; i++) {
            ask_end(&many[i]);
            assert_answer(many[i], lines[i] + 5);
        }
    }
    assert_true(redis_now().connections >= 2 && redis_now().connections <= 4);
    close_server();
}

/* ---- channels ---- */

struct listener {
    struct task task;
    struct redis_channel *channel;
    unsigned epoch;
    sem_t connected, heard;
    char last[64];
};

static struct listener listener;

static void listener_run(struct task *task)
{
    struct view args[] = { VIEW("SUBSCRIBE"), VIEW("c") };
    struct resp_value *value;

    (void)task;
    if (redis_channel_ready(listener.channel) && redis_channel_epoch(listener.channel) != listener.epoch) {
        listener.epoch = redis_channel_epoch(listener.channel);
        assert_int_equal(redis_channel_send(listener.channel, args, 2), 0);
    }
    while (redis_channel_next(listener.channel, &value) == 0) {
        assert_int_equal(value->type, RESP_PUSH);
        assert_int_equal(value->count, 3);
        if (view_eq(value->items[0].text, VIEW("subscribe"))) {
            sem_post(&listener.connected);
            continue;
        }
        snprintf(listener.last, sizeof(listener.last), "%.*s", VIEW_ARG(value->items[2].text));
        sem_post(&listener.heard);
    }
}

static void listener_open(void *arg)
{
    (void)arg;
    task_init(&listener.task, bench_loop, listener_run);
    assert_int_equal(redis_channel_open(client_redis, &listener.task, &listener.channel), 0);
}

static void listener_close(void *arg)
{
    (void)arg;
    redis_channel_close(listener.channel);
    task_cancel(&listener.task);
}

static void test_channel(void **state)
{
    /* A channel hears what is published, and is back with a new epoch after the server was away. */
    (void)state;
    need_server("");
    open_server((struct redis_options){ .breaker_failures = 1000 });
    memset(&listener, 0, sizeof(listener));
    sem_init(&listener.connected, 0, 0);
    sem_init(&listener.heard, 0, 0);
    on_loop(listener_open, NULL);
    sem_wait(&listener.connected);
    assert_int_equal(asked(5000, "PUBLISH c one").integer, 1);
    sem_wait(&listener.heard);
    assert_string_equal(listener.last, "one");
    server_kill(&server);
    server_run(&server, "");
    sem_wait(&listener.connected);
    assert_int_equal(listener.epoch, 2);
    assert_int_equal(persistently("PUBLISH c two").integer, 1);
    sem_wait(&listener.heard);
    assert_string_equal(listener.last, "two");
    on_loop(listener_close, NULL);
    close_server();
}

/* ---- TLS ---- */

static void test_tls(void **state)
{
    /* A real server behind TLS, its certificate checked against our own authority, and refused without it. */
    char cert[96], key[96], words[512];
    struct redis_options options = { .host = VIEW("127.0.0.1"), .tls = true, .tls_name = "store.test" };

    (void)state;
    if (!server_prepare(&server, 0))
        skip();
    options.port = free_port();
    snprintf(cert, sizeof(cert), "%s/cert", server.dir);
    snprintf(key, sizeof(key), "%s/key", server.dir);
    make_certificate(cert, key);
    snprintf(words, sizeof(words),
             "--tls-port %u --tls-cert-file %s --tls-key-file %s --tls-ca-cert-file %s --tls-auth-clients no",
             options.port, cert, key, cert);
    server_run(&server, words);
    options.tls_options.ca_file = cert;
    redis_open(&options);
    assert_answer(asked(5000, "SET k value"), "OK");
    assert_answer(asked(5000, "GET k"), "value");
    redis_shut();
    options.tls_name = "other.test";
    redis_open(&options);
    assert_int_equal(asked(5000, "GET k").error, -EPROTO);
    redis_shut();
    server_end(&server);
}

/* ---- a cluster of three ---- */

static struct server trio[3];

/* redis-cli against one of them. */
static void tell(int node, const char *words)
{
    char command[512];

    snprintf(command, sizeof(command), "redis-cli -p %u %s >/dev/null", trio[node].port, words);
    assert_int_equal(system(command), 0);
}

static void set_and_get_all(void)
{
    char line[64], value[32];

    for (int i = 0; i < 50; i++) {
        snprintf(line, sizeof(line), "SET key-%d value-%d", i, i);
        assert_answer(persistently(line), "OK");
    }
    for (int i = 0; i < 50; i++) {
        snprintf(line, sizeof(line), "GET key-%d", i);
        snprintf(value, sizeof(value), "value-%d", i);
        assert_answer(asked(5000, line), value);
    }
}

/* First line of what redis-cli says. */
static void hear(int node, const char *words, char *line, int cap)
{
    char command[512];
    FILE *pipe;

    snprintf(command, sizeof(command), "redis-cli -p %u %s", trio[node].port, words);
    pipe = popen(command, "r");
    assert_non_null(fgets(line, cap, pipe));
    line[strcspn(line, "\n")] = 0;
    pclose(pipe);
}

static void test_cluster(void **state)
{
    /* Keys of all slots over three servers: the map is learned, a moved slot is followed by MOVED, one that is moving by ASK. */
    struct redis_options options = { .host = VIEW("127.0.0.1") };
    char words[256], line[64], id[3][64];
    struct ask ask;
    unsigned slot = resp_slot(VIEW("key-7"));
    int from = -1, to;

    (void)state;
    if (!trio_start(trio))
        skip();
    options.port = trio[0].port;
    redis_open(&options);
    set_and_get_all();

    /* The configured server dies: what the others have is still served, from the map we have. */
    server_kill(&trio[0]);
    for (int i = 0, answers = 0; i < 50; i++) {
        snprintf(line, sizeof(line), "GET key-%d", i);
        ask = asked(5000, line);
        answers += ask.error == 0 && ask.type == RESP_STRING;
        assert_true(i < 49 || answers > 20);
    }
    server_run(&trio[0], TRIO_WORDS);
    redis_shut();

    /* Again, with the map before the first key: no redirections then. */
    options.cluster = true;
    redis_open(&options);
    assert_answer(persistently("SET key-7 value-7"), "OK");
    for (int i = 0; i < 3; i++) {
        hear(i, "CLUSTER MYID", id[i], sizeof(id[i]));
        snprintf(words, sizeof(words), "CLUSTER COUNTKEYSINSLOT %u", slot);
        hear(i, words, line, sizeof(line));
        if (line[0] == '1')
            from = i;
    }
    assert_true(from >= 0);
    to = (from + 1) % 3;

    /* The slot is moving: a key that is not there yet is asked for at the other server. */
    snprintf(words, sizeof(words), "CLUSTER SETSLOT %u IMPORTING %s", slot, id[from]);
    tell(to, words);
    snprintf(words, sizeof(words), "CLUSTER SETSLOT %u MIGRATING %s", slot, id[to]);
    tell(from, words);
    snprintf(words, sizeof(words), "MIGRATE 127.0.0.1 %u key-7 0 1000", trio[to].port);
    tell(from, words);
    assert_answer(asked(5000, "GET key-7"), "value-7");
    assert_true(redis_now().redirects >= 1);
    ask = asked(5000, "SET key-7 newer");
    assert_string_equal(ask.text, "OK");

    /* It has moved. */
    snprintf(words, sizeof(words), "CLUSTER SETSLOT %u NODE %s", slot, id[to]);
    tell(to, words);
    tell(from, words);
    assert_answer(asked(5000, "GET key-7"), "newer");
    assert_answer(asked(5000, "GET key-7"), "newer");
    redis_shut();
    for (int i = 0; i < 3; i++)
        server_end(&trio[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_real_commands),
        cmocka_unit_test(test_by_name),
        cmocka_unit_test(test_password_and_database),
        cmocka_unit_test(test_stop_and_restart),
        cmocka_unit_test(test_hanging_server),
        cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_many_at_once),
        cmocka_unit_test(test_channel),
        cmocka_unit_test(test_tls),
        cmocka_unit_test(test_cluster),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
