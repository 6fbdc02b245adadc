/* The Redis client before scripted servers: greetings, answers in any shape and order, the breaker, the clock. */
#include "redis_fixture.h"

#include "store/redis_pool.h"

#define HELLO \
    { OP_READ_UNTIL, "\r\n3\r\n", 0 }, \
    { \
        OP_SEND, "%1\r\n+mode\r\n+standalone\r\n", 0 \
    }
#define TIME \
    { OP_READ_UNTIL, "TIME\r\n", 0 }, \
    { \
        OP_SEND, "*2\r\n$10\r\n1700000000\r\n$6\r\n500000\r\n", 0 \
    }
#define UP { OP_ACCEPT, NULL, 0 }, HELLO, TIME
#define ASKED(word) \
    { \
        OP_READ_UNTIL, word "\r\n", 0 \
    }
#define SAY(text) \
    { \
        OP_SEND, text, 0 \
    }
#define CLOSED \
    { \
        OP_READ_EOF, NULL, 0 \
    }
#define END \
    { \
        OP_END, NULL, 0 \
    }

static struct origin fake;

static void open_fake(const struct op *script, struct redis_options options)
{
    origin_start(&fake, script, NULL);
    options.host = VIEW("127.0.0.1");
    options.port = fake.port;
    options.connections = options.connections ? options.connections : 1;
    redis_open(&options);
}

static void close_fake(void)
{
    redis_shut();
    origin_join(&fake);
}

/* ---- greeting ---- */

static void test_hello_with_password(void **state)
{
    /* The password goes with HELLO, the database is chosen before the first command leaves. */
    static const struct op script[] = {
        { OP_ACCEPT, NULL, 0 },
        ASKED("secret"),
        SAY("%1\r\n+mode\r\n+standalone\r\n"),
        ASKED("\r\n7"),
        SAY("+OK\r\n"),
        TIME,
        ASKED("k"),
        SAY("$1\r\nv\r\n"),
        CLOSED,
        END,
    };

    (void)state;
    open_fake(script, (struct redis_options){ .password = VIEW("secret"), .database = 7 });
    assert_answer(asked(800, "GET k"), "v");
    close_fake();
    assert_non_null(strstr(fake.got, "$5\r\nHELLO\r\n$1\r\n3\r\n$4\r\nAUTH\r\n$7\r\ndefault\r\n$6\r\nsecret\r\n"));
    assert_non_null(strstr(fake.got, "*2\r\n$6\r\nSELECT\r\n$1\r\n7\r\n*1\r\n$4\r\nTIME\r\n*2\r\n$3\r\nGET"));
}

static void test_resp2_fallback(void **state)
{
    /* A server without HELLO is spoken to in RESP2. */
    static const struct op script[] = {
        { OP_ACCEPT, NULL, 0 },
        ASKED("secret"),
        SAY("-ERR unknown command 'HELLO', with args\r\n"),
        ASKED("secret"),
        SAY("+OK\r\n"),
        TIME,
        ASKED("k"),
        SAY("$-1\r\n"),
        CLOSED,
        END,
    };
    struct ask ask;

    (void)state;
    open_fake(script, (struct redis_options){ .user = VIEW("ada"), .password = VIEW("secret") });
    ask = asked(800, "GET k");
    assert_int_equal(ask.error, 0);
    assert_int_equal(ask.type, RESP_NULL);
    close_fake();
    assert_non_null(strstr(fake.got, "*3\r\n$4\r\nAUTH\r\n$3\r\nada\r\n$6\r\nsecret\r\n*1\r\n$4\r\nTIME"));
}

static void test_refused_at_the_door(void **state)
{
    /* A wrong password ends the calls; nothing is sent to a server that does not know us. */
    static const struct op script[] = {
        { OP_ACCEPT, NULL, 0 }, ASKED("secret"), SAY("-WRONGPASS invalid username-password pair\r\n"), CLOSED, END,
    };

    (void)state;
    open_fake(script, (struct redis_options){ .password = VIEW("secret") });
    assert_int_equal(asked(800, "GET k").error, -EACCES);
    close_fake();
    assert_null(strstr(fake.got, "GET"));
}

static void test_no_redis(void **state)
{
    /* Another protocol at the door is rubbish. */
    static const struct op script[] = {
        { OP_ACCEPT, NULL, 0 }, { OP_READ_UNTIL, "\r\n", 0 }, SAY("HTTP/1.1 400 Bad Request\r\n\r\n"), CLOSED, END,
    };

    (void)state;
    open_fake(script, (struct redis_options){ 0 });
    assert_int_equal(asked(800, "GET k").error, -EBADMSG);
    assert_int_equal(redis_now().connect_failures, 1);
    close_fake();
}

static void test_silent_server(void **state)
{
    /* A server that accepts and never greets is given up after the connect timeout; calls have their own. */
    static const struct op script[] = { { OP_ACCEPT, NULL, 0 }, CLOSED, { OP_ACCEPT, NULL, 0 }, CLOSED, END };

    (void)state;
    open_fake(script, (struct redis_options){ .connect_timeout_ms = 60, .breaker_failures = 100 });
    assert_int_equal(asked(800, "GET k").error, -ETIMEDOUT);
    assert_int_equal(redis_now().connect_failures, 1);
    assert_int_equal(redis_now().timeouts, 0);
    for (int i = 0; i < 1000 && asked(20, "GET k").error == -EHOSTDOWN; i++)
        usleep(1000);
    assert_int_equal(redis_now().timeouts, 1);
    close_fake();
}

/* ---- calls ---- */

static void test_pipelined(void **state)
{
    /* Calls of one turn leave together and get their own answers, whatever pieces these come in; pushes between them are not
     * answers. */
    static const struct op script[] = {
        UP,     ASKED("last"), SAY(":1\r\n$3\r\nt"), SAY("wo\r\n>1\r\n+x\r\n-ERR thr"), SAY("ee\r\n*2\r\n+a\r\n+b\r\n"),
        CLOSED, END,
    };
    struct ask one, two, three, four;

    (void)state;
    open_fake(script, (struct redis_options){ 0 });
    ask_begin(&one, 5000, "INCR k");
    ask_begin(&two, 5000, "GET k");
    ask_begin(&three, 5000, "BAD k");
    ask_begin(&four, 5000, "LRANGE last");
    ask_end(&one);
    ask_end(&two);
    ask_end(&three);
    ask_end(&four);
    assert_int_equal(one.integer, 1);
    assert_string_equal(two.text, "two");
    assert_int_equal(three.type, RESP_ERROR);
    assert_string_equal(three.text, "ERR three");
    assert_int_equal(four.items, 2);
    assert_int_equal(redis_now().errors, 1);
    assert_int_equal(redis_now().connections, 1);
    close_fake();
}

static void test_late_reply(void **state)
{
    /* The answer to a call that timed out is consumed and dropped: the next call gets its own. */
    static const struct op script[] = {
        UP, ASKED("one"), { OP_GATE, NULL, 0 }, SAY("+late\r\n"), ASKED("two"), SAY("+second\r\n"), CLOSED, END,
    };
    struct ask second;

    (void)state;
    open_fake(script, (struct redis_options){ 0 });
    assert_int_equal(asked(20, "GET one").error, -ETIMEDOUT);
    ask_begin(&second, 5000, "GET two");
    sem_post(&fake.gate);
    ask_end(&second);
    assert_string_equal(second.text, "second");
    assert_int_equal(redis_now().timeouts, 1);
    close_fake();
}

static void end_call(void *arg)
{
    redis_call_end(&((struct ask *)arg)->call);
}

static void send_and_end(void *arg)
{
    struct ask *ask = arg;

    memset(ask, 0, sizeof(*ask));
    ask->args[0] = VIEW("GET");
    ask->args[1] = VIEW("zero");
    ask->count = 2;
    ask->timeout_ms = 5000;
    ask_send(ask);
    redis_call_end(&ask->call);
}

static void test_ended_call(void **state)
{
    /* A call may be ended before it is answered, sent or not; nobody is woken, and order is kept. */
    static const struct op script[] = {
        UP, ASKED("one"), { OP_GATE, NULL, 0 }, SAY("+late\r\n"), ASKED("two"), SAY("+second\r\n"), CLOSED, END,
    };
    struct ask one, two;

    (void)state;
    open_fake(script, (struct redis_options){ 0 });
    on_loop(send_and_end, &one); /* it never leaves */
    ask_begin(&one, 5000, "GET one");
    for (int i = 0; i < 2000 && redis_now().bytes_out < 36; i++)
        usleep(1000);
    on_loop(end_call, &one);
    ask_begin(&two, 5000, "GET two");
    sem_post(&fake.gate);
    ask_end(&two);
    assert_string_equal(two.text, "second");
    close_fake();
    assert_null(strstr(fake.got, "zero"));
}

static void test_rubbish(void **state)
{
    /* An answer that is none ends the connection and every call on it; the next call connects anew. */
    static const struct op script[] = {
        UP, ASKED("two"), SAY("+fine\r\n$abc\r\n"), CLOSED, UP, ASKED("three"), SAY("+well\r\n"), CLOSED, END,
    };
    struct ask zero, one, two, three;

    (void)state;
    open_fake(script, (struct redis_options){ 0 });
    ask_begin(&zero, 5000, "GET zero");
    ask_begin(&one, 5000, "GET one");
    ask_begin(&two, 5000, "GET two");
    ask_end(&zero);
    ask_end(&one);
    ask_end(&two);
    assert_string_equal(zero.text, "fine");
    assert_int_equal(one.error, -EBADMSG);
    assert_int_equal(two.error, -EBADMSG);
    do
        three = asked(800, "GET three");
    while (three.error == -EHOSTDOWN);
    assert_string_equal(three.text, "well");
    close_fake();
}

static void test_unasked_answer(void **state)
{
    /* An answer that nobody asked for means that the server counts differently: the connection is of no use. */
    static const struct op script[] = {
        UP, ASKED("one"), SAY("+fine\r\n+more\r\n"), CLOSED, UP, ASKED("two"), SAY("+well\r\n"), CLOSED, END,
    };
    struct ask two;

    (void)state;
    open_fake(script, (struct redis_options){ 0 });
    assert_answer(asked(800, "GET one"), "fine");
    do
        two = asked(800, "GET two");
    while (two.error);
    assert_string_equal(two.text, "well");
    close_fake();
}

static void test_reply_too_large(void **state)
{
    /* A reply above the limit is refused at its announcement. */
    static const struct op script[] = { UP, ASKED("k"), SAY("$2000\r\n"), CLOSED, END };

    (void)state;
    open_fake(script, (struct redis_options){ .reply_max = 1000 });
    assert_int_equal(asked(800, "GET k").error, -EMSGSIZE);
    close_fake();
}

static void test_broken_connection(void **state)
{
    /* A connection that ends with calls on it ends them; nothing is sent twice. */
    static const struct op script[] = {
        UP, ASKED("one"), { OP_RESET, NULL, 0 }, UP, ASKED("two"), SAY("+well\r\n"), CLOSED, END,
    };
    struct ask two;

    (void)state;
    open_fake(script, (struct redis_options){ 0 });
    assert_int_equal(asked(800, "GET one").error, -ECONNRESET);
    do
        two = asked(800, "GET two");
    while (two.error == -EHOSTDOWN);
    assert_string_equal(two.text, "well");
    assert_int_equal(redis_now().connects, 2);
    close_fake();
    assert_null(strstr(strstr(fake.got, "one") + 1, "one"));
}

static void test_server_unable(void **state)
{
    /* LOADING goes to the caller as an error and opens the breaker like any failure; other errors do not. */
    static const struct op script[] = {
        UP,
        ASKED("one"),
        SAY("-READONLY no\r\n"),
        ASKED("two"),
        SAY("-OOM no\r\n"),
        ASKED("three"),
        SAY("-LOADING later\r\n"),
        ASKED("four"),
        SAY("-LOADING later\r\n"),
        CLOSED,
        END,
    };

    (void)state;
    open_fake(script, (struct redis_options){ .breaker_failures = 2 });
    assert_answer(asked(800, "GET one"), "READONLY no");
    assert_answer(asked(800, "GET two"), "OOM no");
    assert_answer(asked(800, "GET three"), "LOADING later");
    assert_false(redis_now().breaker_open);
    assert_answer(asked(800, "GET four"), "LOADING later");
    assert_true(redis_now().breaker_open);
    assert_int_equal(asked(800, "GET five").error, -EHOSTDOWN);
    assert_int_equal(redis_now().refused_breaker, 1);
    close_fake();
}

static void test_breaker_and_probe(void **state)
{
    /* After so many failures calls are refused at once; when the pause is over one goes through, and its answer lets all. */
    static const struct op script[] = { UP,
                                        ASKED("two"),
                                        { OP_GATE, NULL, 0 },
                                        SAY("+a\r\n+b\r\n"),
                                        ASKED("k"),
                                        SAY("+well\r\n"),
                                        ASKED("k"),
                                        SAY("+again\r\n"),
                                        CLOSED,
                                        END };
    struct ask ask;
    uint64_t refused = 0;

    (void)state;
    open_fake(script, (struct redis_options){ .breaker_failures = 2 });
    assert_int_equal(asked(10, "GET one").error, -ETIMEDOUT);
    assert_int_equal(asked(10, "GET two").error, -ETIMEDOUT);
    assert_true(redis_now().breaker_open);
    for (;;) {
        ask_begin(&ask, 800, "GET k");
        if (!ask.refused)
            break;
        assert_int_equal(ask.refused, -EHOSTDOWN);
        refused++;
        usleep(2000);
    }
    assert_true(refused > 0);
    assert_int_equal(asked(800, "GET k").error, -EHOSTDOWN); /* one at a time */
    sem_post(&fake.gate);
    ask_end(&ask);
    assert_string_equal(ask.text, "well");
    assert_false(redis_now().breaker_open);
    assert_answer(asked(800, "GET k"), "again");
    close_fake();
}

static void test_always_late(void **state)
{
    /* A server that answers everything, each time too late, is not worth asking: late answers are no successes. */
    static const struct op script[] = {
        UP,
        ASKED("one"),
        { OP_GATE, NULL, 0 },
        SAY("+late\r\n"),
        ASKED("one"),
        { OP_GATE, NULL, 0 },
        SAY("+late\r\n"),
        ASKED("one"),
        ASKED("two"),
        { OP_GATE, NULL, 0 },
        SAY("+late\r\n+at last\r\n"),
        CLOSED,
        END,
    };
    struct ask patient;

    (void)state;
    open_fake(script, (struct redis_options){ .breaker_failures = 3 });
    for (int i = 0; i < 3; i++) {
        uint64_t before = redis_now().bytes_in;

        assert_false(redis_now().breaker_open);
        assert_int_equal(asked(10, "GET one").error, -ETIMEDOUT);
        if (i < 2)
            sem_post(&fake.gate);
        while (i < 2 && redis_now().bytes_in < before + 7)
            usleep(1000);
    }
    assert_true(redis_now().breaker_open);
    assert_int_equal(asked(10, "GET one").error, -EHOSTDOWN);
    /* Who can wait is not refused, and his answer does not let the others in. */
    ask_begin(&patient, 5000, "GET two");
    sem_post(&fake.gate);
    ask_end(&patient);
    assert_string_equal(patient.text, "at last");
    assert_true(redis_now().breaker_open);
    close_fake();
}

static void test_queue_bound(void **state)
{
    /* Requests that are not answered are bounded in bytes; what waits when the loop closes is cancelled. */
    static const struct op script[] = { UP, CLOSED, END };
    struct ask one, two;

    (void)state;
    open_fake(script, (struct redis_options){ .queue_bytes = 30 });
    ask_begin(&one, 5000, "GET k");
    ask_begin(&two, 5000, "GET k");
    assert_int_equal(two.refused, -EBUSY);
    assert_int_equal(redis_now().refused_full, 1);
    close_fake();
    ask_end(&one);
    assert_int_equal(one.error, -ECANCELED);
}

static struct redis_ledger ledger;
static int forget_result;

static void forget_three(void *arg)
{
    struct view args[] = { VIEW("SET"), VIEW("k"), VIEW("v") };

    (void)arg;
    forget_result = 0;
    for (int i = 0; i < 3; i++)
        forget_result |= redis_forget(client_redis, bench_loop, args, 3, 1, &ledger);
}

static void test_forgotten(void **state)
{
    /* What is forgotten is entered in its ledger: carried out, refused, failed. */
    static const struct op script[] = { UP,         ASKED("k"),         ASKED("v"), SAY("+OK\r\n"),
                                        ASKED("v"), SAY("-OOM no\r\n"), ASKED("v"), { OP_CLOSE, NULL, 0 },
                                        END };

    (void)state;
    open_fake(script, (struct redis_options){ 0 });
    memset(&ledger, 0, sizeof(ledger));
    on_loop(forget_three, NULL);
    assert_int_equal(forget_result, 0);
    for (int i = 0; i < 2000 && atomic_load(&ledger.failed) == 0; i++)
        usleep(1000);
    assert_int_equal(ledger.done, 1);
    assert_int_equal(ledger.refused, 1);
    assert_int_equal(ledger.failed, 1);
    assert_int_equal(ledger.bytes, 0);
    close_fake();
}

static void shift_base(void *arg)
{
    struct redis_node *node = atomic_load(&client_redis->pools[0])->nodes[0];

    node->wall_base_ms -= *(int64_t *)arg;
}

static void read_clock(void *arg)
{
    redis_clock(client_redis, bench_loop, VIEW_NONE, arg);
}

static void test_clock(void **state)
{
    /* The server's clock is known with the first answer; when this node's clocks part it is unknown until measured again. */
    static const struct op script[] = { UP, ASKED("k"), SAY("+v\r\n"), TIME, ASKED("k"), SAY("+v\r\n"), CLOSED, END };
    struct redis_clock clock;
    int64_t shift = 50;
    struct ask ask;

    (void)state;
    open_fake(script, (struct redis_options){ 0 });
    ask = asked(800, "GET k");
    assert_true(ask.clock.known);
    assert_true(llabs(ask.clock.offset_ms - (1700000000500 - clock_wall_ms())) <= ask.clock.error_ms + 2000);
    on_loop(shift_base, &shift); /* within what a step of the clock may be */
    on_loop(read_clock, &clock);
    assert_true(clock.known);
    shift = 200;
    on_loop(shift_base, &shift);
    on_loop(read_clock, &clock);
    assert_false(clock.known);
    ask = asked(800, "GET k");
    assert_true(ask.clock.known);
    close_fake();
}

/* ---- a server out of its mind ---- */

struct madhouse {
    int listener;
    uint16_t port;
    uint64_t random;
    atomic_bool over;
    pthread_t thread;
};

static uint64_t next_random(struct madhouse *m)
{
    m->random ^= m->random << 13;
    m->random ^= m->random >> 7;
    m->random ^= m->random << 17;
    return m->random;
}

/* Pieces of what a server may say, and of what none may. */
static void rave(struct madhouse *m, int fd)
{
    static const char *const pieces[] = {
        "%1\r\n+mode\r\n+standalone\r\n",
        "%1\r\n+mode\r\n+cluster\r\n",
        "*2\r\n$10\r\n1700000000\r\n$1\r\n0\r\n",
        "*2\r\n$1\r\nx\r\n$1\r\n0\r\n",
        "+OK\r\n",
        "$-1\r\n",
        "$3\r\nabc\r\n",
        "-ERR unknown command\r\n",
        "-MOVED 5 127.0.0.1:1\r\n",
        "-MOVED 99999 nowhere\r\n",
        "-ASK 5 :1\r\n",
        "-LOADING x\r\n",
        "*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:1\r\n",
        "*1\r\n*3\r\n:5\r\n:99999\r\n*2\r\n_\r\n:1\r\n",
        "*100000000\r\n",
        "$",
        ">1\r\n+x\r\n",
        "|1\r\n+a\r\n+b\r\n",
        "rubbish",
    };
    char sink[4096];

    for (int i = 0; i < 12; i++) {
        const char *piece = pieces[i == 0 && next_random(m) % 4 ? 0 : next_random(m) % ARRAY_LEN(pieces)];

        if (recv(fd, sink, sizeof(sink), i % 3 ? MSG_DONTWAIT : 0) == 0 ||
            send(fd, piece, strlen(piece), MSG_NOSIGNAL) < 0)
            return;
    }
}

static void *mad_main(void *arg)
{
    struct madhouse *m = arg;

    while (!atomic_load(&m->over)) {
        int fd = accept(m->listener, NULL, NULL);

        if (fd >= 0 && !atomic_load(&m->over))
            rave(m, fd);
        close(fd);
    }
    return NULL;
}

static void open_madhouse(struct madhouse *m)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof(address);

    m->listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(m->listener, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(m->listener, 64), 0);
    getsockname(m->listener, (struct sockaddr *)&address, &len);
    m->port = ntohs(address.sin_port);
    assert_int_equal(pthread_create(&m->thread, NULL, mad_main, m), 0);
}

static void close_madhouse(struct madhouse *m)
{
    atomic_store(&m->over, true);
    shutdown(m->listener, SHUT_RDWR);
    pthread_join(m->thread, NULL);
    close(m->listener);
}

static void test_anything(void **state)
{
    /* Whatever a server says, every call ends and everything is given back. */
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct madhouse m = { .random = seed * 0x9e3779b97f4a7c15u };
        struct redis_options options = { .host = VIEW("127.0.0.1"), .breaker_failures = 1000 };
        struct ask asks[6];

        memset(&ledger, 0, sizeof(ledger));
        open_madhouse(&m);
        options.port = m.port;
        redis_open(&options);
        for (int round = 0; round < 3; round++) {
            on_loop(forget_three, NULL);
            for (size_t i = 0; i < ARRAY_LEN(asks); i++)
                ask_begin(&asks[i], 15, "GET key");
            for (size_t i = 0; i < ARRAY_LEN(asks); i++)
                ask_end(&asks[i]);
        }
        redis_shut();
        assert_int_equal(ledger.bytes, 0);
        close_madhouse(&m);
    }
}

static void feed_samples(void *arg)
{
    struct redis_node *node = atomic_load(&client_redis->pools[0])->nodes[0];
    uint64_t now = clock_mono_us();

    node->sample_count = node->sample_next = 0;
    redis_node_sample(node, now - 200, 5000000000u);
    redis_node_sample(node, now - 80000, 5000000000u); /* worse, and true as well */
    *(unsigned *)arg = node->sample_count;
}

static void set_servers_clock(void *arg)
{
    struct redis_node *node = atomic_load(&client_redis->pools[0])->nodes[0];

    redis_node_sample(node, clock_mono_us() - 300, 5060000000u);
    *(unsigned *)arg = node->sample_count;
}

static void test_servers_clock_is_set(void **state)
{
    /* Of several measurements the one with the shortest round trip counts; one that contradicts the others ends them. */
    static const struct op script[] = { UP, ASKED("k"), SAY("+v\r\n"), CLOSED, END };
    struct redis_clock before, after;
    unsigned count;

    (void)state;
    open_fake(script, (struct redis_options){ 0 });
    assert_answer(asked(800, "GET k"), "v");
    on_loop(feed_samples, &count);
    assert_int_equal(count, 2);
    on_loop(read_clock, &before);
    assert_true(before.known && before.error_ms <= 10);
    on_loop(set_servers_clock, &count);
    assert_int_equal(count, 1);
    on_loop(read_clock, &after);
    assert_true(after.known && llabs(after.offset_ms - before.offset_ms - 60000) <= 20);
    close_fake();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hello_with_password),
        cmocka_unit_test(test_resp2_fallback),
        cmocka_unit_test(test_refused_at_the_door),
        cmocka_unit_test(test_no_redis),
        cmocka_unit_test(test_silent_server),
        cmocka_unit_test(test_pipelined),
        cmocka_unit_test(test_late_reply),
        cmocka_unit_test(test_ended_call),
        cmocka_unit_test(test_rubbish),
        cmocka_unit_test(test_unasked_answer),
        cmocka_unit_test(test_reply_too_large),
        cmocka_unit_test(test_broken_connection),
        cmocka_unit_test(test_server_unable),
        cmocka_unit_test(test_breaker_and_probe),
        cmocka_unit_test(test_always_late),
        cmocka_unit_test(test_queue_bound),
        cmocka_unit_test(test_forgotten),
        cmocka_unit_test(test_clock),
        cmocka_unit_test(test_servers_clock_is_set),
        cmocka_unit_test(test_anything),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
