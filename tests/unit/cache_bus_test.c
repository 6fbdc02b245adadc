/* The purge bus on real servers: two nodes, each with its own loop, client, state and marks, each behind a relay of its own that
 * can be cut, stopped or made to talk rubbish. */
#include "redis_fixture.h"

#include "cache/bus.h"

#include <poll.h>
#include <sys/stat.h>

static struct server server;

/* ---- a relay before the server ---- */

enum relay_mode {
    RELAY_PASS,
    RELAY_CUT,     /* nobody listens */
    RELAY_HANG,    /* connections stay, nothing moves */
    RELAY_RUBBISH, /* answers are bytes that are no answers */
    RELAY_LOADING, /* every command is answered with an error */
};

#define PAIRS 32

struct relay {
    char path[96];
    int listener, wake[2];
    struct {
        int near, far;
    } pairs[PAIRS];
    _Atomic enum relay_mode mode;
    atomic_uint accepted, pieces; /* pieces: what came from the client while it was not passed on */
    atomic_bool stop;
    pthread_t thread;
};

static int dial(const char *path)
{
    struct sockaddr_un local = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(local.sun_path, sizeof(local.sun_path), "%s", path);
    if (connect(fd, (struct sockaddr *)&local, sizeof(local)) == 0)
        return fd;
    close(fd);
    return -1;
}

static void pair_close(struct relay *relay, int i)
{
    close(relay->pairs[i].near);
    if (relay->pairs[i].far >= 0)
        close(relay->pairs[i].far);
    relay->pairs[i].near = relay->pairs[i].far = -1;
}

static void relay_accept(struct relay *relay)
{
    enum relay_mode mode = relay->mode;
    int fd = accept4(relay->listener, NULL, NULL, SOCK_CLOEXEC), far = -1, i = 0;

    while (i < PAIRS && relay->pairs[i].near >= 0)
        i++;
    relay->accepted++;
    if (fd >= 0 && i < PAIRS && mode == RELAY_PASS)
        far = dial(server.path);
    if (fd >= 0 && (i == PAIRS || mode == RELAY_CUT || (mode == RELAY_PASS && far < 0))) {
        close(fd);
        return;
    }
    relay->pairs[i].near = fd;
    relay->pairs[i].far = far;
}

static bool pass(int from, int to)
{
    char bytes[16384];
    ssize_t got = read(from, bytes, sizeof(bytes)), sent = 0;

    while (got > 0 && sent < got) {
        ssize_t n = send(to, bytes + sent, (size_t)(got - sent), MSG_NOSIGNAL);

        if (n <= 0)
            return false;
        sent += n;
    }
    return got > 0;
}

/* In the modes that answer by themselves. */
static bool answer(struct relay *relay, int fd, enum relay_mode mode)
{
    static const char rubbish[] = "$x\r\n*-7\r\n\1\2\3\r\n", loading[] = "-LOADING it is\r\n";
    char bytes[16384];

    if (read(fd, bytes, sizeof(bytes)) <= 0)
        return false;
    relay->pieces++;
    if (mode == RELAY_RUBBISH)
        return send(fd, rubbish, sizeof(rubbish) - 1, MSG_NOSIGNAL) > 0;
    return send(fd, loading, sizeof(loading) - 1, MSG_NOSIGNAL) > 0;
}

static void relay_pair(struct relay *relay, int i, bool near, bool far)
{
    enum relay_mode mode = relay->mode;
    bool up = true;

    if (mode == RELAY_HANG)
        return;
    if (mode == RELAY_CUT || (mode == RELAY_PASS && relay->pairs[i].far < 0)) {
        pair_close(relay, i);
        return;
    }
    if (mode == RELAY_PASS) {
        if (near)
            up = pass(relay->pairs[i].near, relay->pairs[i].far);
        if (far && up)
            up = pass(relay->pairs[i].far, relay->pairs[i].near);
    } else if (near) {
        up = answer(relay, relay->pairs[i].near, mode);
    }
    if (!up)
        pair_close(relay, i);
}

static void *relay_main(void *arg)
{
    struct relay *relay = arg;

    while (!relay->stop) {
        enum relay_mode mode = relay->mode;
        struct pollfd fds[2 + 2 * PAIRS] = { { .fd = relay->wake[0], .events = POLLIN },
                                             { .fd = relay->listener, .events = POLLIN } };
        char c;

        for (int i = 0; i < PAIRS; i++) {
            bool watched = mode != RELAY_HANG;

            fds[2 + 2 * i] = (struct pollfd){ .fd = watched ? relay->pairs[i].near : -1, .events = POLLIN };
            fds[3 + 2 * i] = (struct pollfd){ .fd = mode == RELAY_PASS ? relay->pairs[i].far : -1, .events = POLLIN };
        }
        poll(fds, ARRAY_LEN(fds), -1);
        if (fds[0].revents && read(relay->wake[0], &c, 1) == 1 && relay->mode == RELAY_CUT)
            for (int i = 0; i < PAIRS; i++)
                if (relay->pairs[i].near >= 0)
                    pair_close(relay, i);
        for (int i = 0; i < PAIRS; i++)
            if (relay->pairs[i].near >= 0 && (fds[2 + 2 * i].revents || fds[3 + 2 * i].revents))
                relay_pair(relay, i, fds[2 + 2 * i].revents, fds[3 + 2 * i].revents);
        if (fds[1].revents)
            relay_accept(relay);
    }
    return NULL;
}

static void relay_set(struct relay *relay, enum relay_mode mode)
{
    relay->mode = mode;
    assert_int_equal(write(relay->wake[1], "", 1), 1);
}

static void relay_start(struct relay *relay, const char *dir)
{
    struct sockaddr_un local = { .sun_family = AF_UNIX };

    memset(relay, 0, sizeof(*relay));
    snprintf(relay->path, sizeof(relay->path), "%s/relay", dir);
    snprintf(local.sun_path, sizeof(local.sun_path), "%s", relay->path);
    for (int i = 0; i < PAIRS; i++)
        relay->pairs[i].near = relay->pairs[i].far = -1;
    assert_int_equal(pipe2(relay->wake, O_CLOEXEC), 0);
    relay->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(relay->listener, (struct sockaddr *)&local, sizeof(local)), 0);
    assert_int_equal(listen(relay->listener, 64), 0);
    assert_int_equal(pthread_create(&relay->thread, NULL, relay_main, relay), 0);
}

static void relay_end(struct relay *relay)
{
    relay->stop = true;
    relay_set(relay, RELAY_CUT);
    pthread_join(relay->thread, NULL);
    for (int i = 0; i < PAIRS; i++)
        if (relay->pairs[i].near >= 0)
            pair_close(relay, i);
    close(relay->listener);
    close(relay->wake[0]);
    close(relay->wake[1]);
    unlink(relay->path);
}

/* ---- nodes ---- */

#define APPLIED_MAX 4096

struct applied {
    char line[64];
    uint64_t bus;
};

struct testnode {
    char dir[64], name[16];
    struct relay relay;
    bool durable;
    uint32_t stream_max, doubt_ms;
    /* of one run */
    struct loop *loop;
    pthread_t thread;
    struct redis *redis;
    struct state *state;
    struct marks *marks;
    struct bus *bus;
    pthread_mutex_t lock;
    struct applied list[APPLIED_MAX];
    unsigned count;
};

static struct testnode nodes[2];
#define A (&nodes[0])
#define B (&nodes[1])

static void on_node(struct testnode *node, void (*run)(void *), void *arg)
{
    struct errand errand = { .message.handle = errand_handle, .run = run, .arg = arg };

    sem_init(&errand.done, 0, 0);
    loop_post(node->loop, &errand.message);
    sem_wait(&errand.done);
    sem_destroy(&errand.done);
}

/* As a node does it: the mark counts at once, and is queued to the state. */
static void apply(void *arg, struct loop *loop, const struct purge_event *event, uint64_t bus)
{
    struct testnode *node = arg;
    struct mark mark = { event->kind, event->soft, event->target };
    struct state_write *write = heap_zalloc(sizeof(*write));
    struct text line;

    assert_ptr_equal(loop, node->loop);
    write->mark = (struct state_mark){ marks_add(node->marks, &mark, bus), bus, (uint16_t)event->kind, event->soft,
                                       event->target };
    assert_int_equal(state_write(node->state, write), 0);
    pthread_mutex_lock(&node->lock);
    assert_true(node->count < APPLIED_MAX);
    line = TEXT_ON(node->list[node->count].line);
    purge_event_put(&line, event);
    text_str(&line);
    node->list[node->count++].bus = bus;
    pthread_mutex_unlock(&node->lock);
}

static void restore(const struct state_mark *kept, void *arg)
{
    struct mark mark = { (enum mark_kind)kept->kind, kept->soft, kept->text };

    marks_restore(arg, &mark, kept->position, kept->bus);
}

static void bus_up(void *arg)
{
    struct testnode *node = arg;

    bus_start(node->bus);
}

static void bus_down(void *arg)
{
    struct testnode *node = arg;

    bus_stop(node->bus);
}

static void client_down(void *arg)
{
    struct testnode *node = arg;

    redis_loop_close(node->redis, node->loop);
}

static void nothing(void *arg)
{
    (void)arg;
}

static void node_open(struct testnode *node)
{
    char path[128], memory[256];
    struct text reason = TEXT_ON(memory);
    struct redis_options options = { .path = view_str(node->relay.path), .connect_timeout_ms = 300 };
    struct bus_options bus;

    snprintf(path, sizeof(path), "%s/state", node->dir);
    node->count = 0;
    pthread_mutex_init(&node->lock, NULL);
    assert_int_equal(loop_new(&node->loop, 0), 0);
    assert_int_equal(marks_new(0, &node->marks), 0);
    if (state_open(node->durable ? view_str(path) : VIEW_NONE, &node->state, &reason) < 0 ||
        redis_new(&options, &node->redis, &reason) < 0)
        fail_msg("%.*s", VIEW_ARG(text_view(&reason)));
    assert_int_equal(state_marks(node->state, restore, node->marks), 0);
    bus = (struct bus_options){ .redis = node->redis,
                                .state = node->state,
                                .marks = node->marks,
                                .loop = node->loop,
                                .node = view_str(node->name),
                                .prefix = VIEW("t:"),
                                .region = VIEW("eu"),
                                .channel = VIEW("purges"),
                                .stream_max = node->stream_max,
                                .doubt_ms = node->doubt_ms,
                                .apply = apply,
                                .arg = node };
    assert_int_equal(bus_new(&bus, &node->bus), 0);
    assert_int_equal(pthread_create(&node->thread, NULL, bench_main, node->loop), 0);
}

static void node_start(struct testnode *node)
{
    node_open(node);
    on_node(node, bus_up, node);
}

static void node_stop(struct testnode *node)
{
    struct state_stats stats;

    if (!node->loop)
        return;
    on_node(node, bus_down, node);
    on_node(node, client_down, node);
    do /* answers are posted before this says that nothing is queued */
        state_stats(node->state, &stats);
    while (stats.queued > 0 && usleep(1000) == 0);
    on_node(node, nothing, NULL);
    loop_stop(node->loop);
    pthread_join(node->thread, NULL);
    bus_free(node->bus);
    redis_free(node->redis);
    state_close(node->state);
    marks_free(node->marks);
    dns_loop_close(node->loop);
    loop_free(node->loop);
    pthread_mutex_destroy(&node->lock);
    node->loop = NULL;
}

static void node_wipe(struct testnode *node)
{
    static const char *const files[] = { "state", "state-wal", "state-shm" };
    char path[128];

    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        snprintf(path, sizeof(path), "%s/%s", node->dir, files[i]);
        unlink(path);
    }
}

static void node_make(struct testnode *node, const char *name)
{
    memset(node, 0, sizeof(*node));
    snprintf(node->name, sizeof(node->name), "%s", name);
    snprintf(node->dir, sizeof(node->dir), "/tmp/doorstep-bus-XXXXXX");
    assert_non_null(mkdtemp(node->dir));
    node->durable = true;
    node->doubt_ms = 60000;
    relay_start(&node->relay, node->dir);
}

static void node_end(struct testnode *node)
{
    node_stop(node);
    relay_end(&node->relay);
    node_wipe(node);
    rmdir(node->dir);
}

/* ---- looking ---- */

static struct bus_stats now(struct testnode *node)
{
    struct bus_stats stats;

    bus_stats(node->bus, &stats);
    return stats;
}

static unsigned times_applied(struct testnode *node, const char *line)
{
    unsigned count = 0;

    pthread_mutex_lock(&node->lock);
    for (unsigned i = 0; i < node->count; i++)
        count += strcmp(node->list[i].line, line) == 0;
    pthread_mutex_unlock(&node->lock);
    return count;
}

static uint64_t bus_of(struct testnode *node, const char *line)
{
    uint64_t bus = 0;

    pthread_mutex_lock(&node->lock);
    for (unsigned i = 0; i < node->count; i++)
        if (strcmp(node->list[i].line, line) == 0)
            bus = node->list[i].bus;
    pthread_mutex_unlock(&node->lock);
    return bus;
}

/* What a response without tags, up to date by its position, is taken for. */
static bool trusts(struct testnode *node)
{
    struct key key = key_of(VIEW("http://h/"));
    struct object_parts parts = { .key = key.text, .url = VIEW("http://h/"), .head = VIEW("HTTP/1.1 200 OK\r\n") };
    struct object *object = object_new(&key, &parts);
    enum mark_verdict verdict;

    assert_non_null(object);
    atomic_store(&object->purge_pos, marks_position(node->marks));
    verdict = marks_check(node->marks, object);
    object_unref(object);
    return verdict == MARKS_CLEAR;
}

/* Waits for what must come; a test that hangs ends by the runner's limit, one that fails says where. */
#define until(condition) \
    do { \
        int left_ = 20000; \
        while (!(condition) && left_-- > 0) \
            usleep(1000); \
        if (left_ <= 0) \
            fail_msg("line %d: never came: %s", __LINE__, #condition); \
    } while (0)

static void both_ready(void)
{
    until(now(A).caught_up && now(B).caught_up);
}

/* ---- publishing ---- */

struct sender {
    struct task task;
    struct bus_send send;
    struct testnode *node;
    struct purge_event event;
    uint32_t wait_ms;
    sem_t done;
};

static void sender_run(struct task *task)
{
    struct sender *sender = CONTAINER_OF(task, struct sender, task);

    if (sender->send.done)
        sem_post(&sender->done);
}

static void sender_begin(void *arg)
{
    struct sender *sender = arg;

    task_init(&sender->task, sender->node->loop, sender_run);
    assert_int_equal(bus_publish(sender->node->bus, sender->node->loop, &sender->event, sender->wait_ms, &sender->task,
                                 &sender->send),
                     0);
}

static void send_begin(struct sender *sender, struct testnode *node, const char *line, uint32_t wait_ms)
{
    memset(sender, 0, sizeof(*sender));
    sender->node = node;
    sender->wait_ms = wait_ms;
    assert_int_equal(purge_event_parse(view_str(line), &sender->event), 0);
    sem_init(&sender->done, 0, 0);
    on_node(node, sender_begin, sender);
}

static struct bus_ack send_end(struct sender *sender)
{
    sem_wait(&sender->done);
    return sender->send.ack;
}

static struct bus_ack publish(struct testnode *node, const char *line, uint32_t wait_ms)
{
    struct sender sender;

    send_begin(&sender, node, line, wait_ms);
    return send_end(&sender);
}

/* ---- each test ---- */

static bool have_server;

static int open_all(void **state)
{
    struct redis_options options = { 0 };

    (void)state;
    have_server = server_start(&server, 0, "--databases 1");
    if (!have_server)
        return 0;
    options.path = view_str(server.path);
    redis_open(&options);
    node_make(A, "a");
    node_make(B, "b");
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    if (!have_server)
        return 0;
    node_end(A);
    node_end(B);
    redis_shut();
    server_end(&server);
    return 0;
}

#define NEEDS_SERVER() \
    do { \
        if (!have_server) \
            skip(); \
    } while (0)

static void start_both(void)
{
    node_start(A);
    node_start(B);
    both_ready();
}

static void reaches_all(void **state)
{
    /* What one node publishes is applied on both with the entry's position; the acknowledgement counts both nodes after they made
     * their positions durable. */
    struct bus_ack ack;

    (void)state;
    NEEDS_SERVER();
    start_both();
    until(asked(1000, "HLEN t:{eu}:nodes").integer == 2);
    ack = publish(A, "tag product-42", 10000);
    assert_int_equal(ack.result, 0);
    assert_int_equal(ack.nodes, 2);
    assert_int_equal(ack.applied, 2);
    assert_true(strchr(ack.id, '-'));
    assert_int_equal(times_applied(A, "tag product-42"), 1);
    assert_int_equal(times_applied(B, "tag product-42"), 1);
    assert_true(bus_of(A, "tag product-42") == ack.position && bus_of(B, "tag product-42") == ack.position);
    assert_true(now(B).position == ack.position && marks_bus_at(B->marks, UINT64_MAX) == ack.position);
    assert_true(trusts(A) && trusts(B));
    assert_int_equal(now(A).gaps + now(B).gaps, 0);
    assert_int_equal(now(A).published, 1);
    node_stop(B);
    until(asked(1000, "HLEN t:{eu}:nodes").integer == 1);
    assert_int_equal(publish(A, "soft host h", 10000).nodes, 1);
}

static void catches_up(void **state)
{
    /* A node that was cut off reads what it missed when it is back, in order, and only that; while it was away it trusted what
     * it had, and the others did not wait for it for ever. */
    char line[32];

    (void)state;
    NEEDS_SERVER();
    start_both();
    publish(A, "tag before", 10000);
    relay_set(&B->relay, RELAY_CUT);
    until(!now(B).connected);
    assert_true(trusts(B));
    for (int i = 0; i < 20; i++) {
        struct bus_ack ack;

        snprintf(line, sizeof(line), "tag missed-%d", i);
        ack = publish(A, line, 20);
        assert_int_equal(ack.result, 0);
        assert_int_equal(ack.applied, 1);
    }
    assert_int_equal(times_applied(B, "tag missed-0"), 0);
    relay_set(&B->relay, RELAY_PASS);
    until(times_applied(B, "tag missed-19"));
    for (int i = 0; i < 20; i++) {
        snprintf(line, sizeof(line), "tag missed-%d", i);
        assert_int_equal(times_applied(B, line), 1);
    }
    assert_int_equal(times_applied(B, "tag before"), 1);
    until(now(B).caught_up);
    assert_true(trusts(B));
    assert_int_equal(now(B).gaps, 0);
}

static void remembers(void **state)
{
    /* A node that was stopped goes on behind its durable position; its marks and the position come back from the state. */
    struct bus_ack last;

    (void)state;
    NEEDS_SERVER();
    start_both();
    publish(A, "tag one", 10000);
    node_stop(B);
    publish(A, "tag two", 10000);
    last = publish(A, "tag three", 10000);
    node_start(B);
    assert_false(now(B).position == 0);
    until(now(B).caught_up);
    assert_int_equal(times_applied(B, "tag one"), 0);
    assert_int_equal(times_applied(B, "tag two"), 1);
    assert_int_equal(times_applied(B, "tag three"), 1);
    assert_true(now(B).position == last.position);
    assert_int_equal(now(B).gaps, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(reaches_all, open_all, close_all),
        cmocka_unit_test_setup_teardown(catches_up, open_all, close_all),
        cmocka_unit_test_setup_teardown(remembers, open_all, close_all),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
