/* For tests of the purge bus: two nodes, each with its own loop, client, state and marks, each behind a relay of its own that can be
 * cut, stopped or made to talk rubbish, before a real server. */
#pragma once

#include "redis_fixture.h"

#include "base/check.h"
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
    RELAY_GARBLE,  /* answers are passed with a byte changed now and then */
};

#define PAIRS 32

struct relay {
    char path[96];
    const struct server *_Atomic to;
    atomic_bool old; /* the server does not say how many entries were ever added, as before Redis 7 */
    int listener, wake[2];
    struct {
        int near, far;
    } pairs[PAIRS];
    _Atomic enum relay_mode mode;
    atomic_uint accepted, pieces; /* pieces: what came from the client while it was not passed on */
    atomic_bool stop;
    uint64_t random;
    sem_t seen;
    pthread_t thread;
};

static inline bool passes(enum relay_mode mode)
{
    return mode == RELAY_PASS || mode == RELAY_GARBLE;
}

static inline int dial(const char *path)
{
    struct sockaddr_un local = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(local.sun_path, sizeof(local.sun_path), "%s", path);
    if (connect(fd, (struct sockaddr *)&local, sizeof(local)) == 0)
        return fd;
    close(fd);
    return -1;
}

static inline void pair_close(struct relay *relay, int i)
{
    close(relay->pairs[i].near);
    if (relay->pairs[i].far >= 0)
        close(relay->pairs[i].far);
    relay->pairs[i].near = relay->pairs[i].far = -1;
}

static inline void relay_accept(struct relay *relay)
{
    enum relay_mode mode = relay->mode;
    int fd = accept4(relay->listener, NULL, NULL, SOCK_CLOEXEC), far = -1, i = 0;

    while (i < PAIRS && relay->pairs[i].near >= 0)
        i++;
    relay->accepted++;
    if (fd >= 0 && i < PAIRS && passes(mode))
        far = dial(relay->to->path);
    if (fd >= 0 && (i == PAIRS || mode == RELAY_CUT || (passes(mode) && far < 0))) {
        close(fd);
        return;
    }
    relay->pairs[i].near = fd;
    relay->pairs[i].far = far;
}

/* What the relay does to answers on their way. */
static inline void change(struct relay *relay, char *bytes, size_t len)
{
    char *word;

    if (relay->old && (word = memmem(bytes, len, "entries-added", 13)))
        *word = '-';
    if (relay->mode != RELAY_GARBLE)
        return;
    relay->random = relay->random * 6364136223846793005u + 1442695040888963407u;
    if (relay->random >> 62 == 0) {
        bytes[(relay->random >> 20) % len] = (char)(relay->random >> 40);
        relay->pieces++;
    }
}

static inline bool pass(struct relay *relay, int from, int to)
{
    char bytes[16384];
    ssize_t got = read(from, bytes, sizeof(bytes)), sent = 0;

    if (got > 0 && relay)
        change(relay, bytes, (size_t)got);
    while (got > 0 && sent < got) {
        ssize_t n = send(to, bytes + sent, (size_t)(got - sent), MSG_NOSIGNAL);

        if (n <= 0)
            return false;
        sent += n;
    }
    return got > 0;
}

/* In the modes that answer by themselves. */
static inline bool answer(struct relay *relay, int fd, enum relay_mode mode)
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

static inline void relay_pair(struct relay *relay, int i, bool near, bool far)
{
    enum relay_mode mode = relay->mode;
    bool up = true;

    if (mode == RELAY_HANG)
        return;
    if (mode == RELAY_CUT || (passes(mode) && relay->pairs[i].far < 0)) {
        pair_close(relay, i);
        return;
    }
    if (passes(mode)) {
        if (near)
            up = pass(NULL, relay->pairs[i].near, relay->pairs[i].far);
        if (far && up)
            up = pass(relay, relay->pairs[i].far, relay->pairs[i].near);
    } else if (near) {
        up = answer(relay, relay->pairs[i].near, mode);
    }
    if (!up)
        pair_close(relay, i);
}

static inline void *relay_main(void *arg)
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
            fds[3 + 2 * i] = (struct pollfd){ .fd = passes(mode) ? relay->pairs[i].far : -1, .events = POLLIN };
        }
        poll(fds, ARRAY_LEN(fds), -1);
        if (fds[0].revents && read(relay->wake[0], &c, 1) == 1) {
            for (int i = 0; i < PAIRS; i++)
                if (relay->pairs[i].near >= 0 && relay->mode == RELAY_CUT)
                    pair_close(relay, i);
            sem_post(&relay->seen);
            continue;
        }
        for (int i = 0; i < PAIRS; i++)
            if (relay->pairs[i].near >= 0 && (fds[2 + 2 * i].revents || fds[3 + 2 * i].revents))
                relay_pair(relay, i, fds[2 + 2 * i].revents, fds[3 + 2 * i].revents);
        if (fds[1].revents)
            relay_accept(relay);
    }
    return NULL;
}

static inline void relay_set(struct relay *relay, enum relay_mode mode)
{
    relay->mode = mode;
    assert_int_equal(write(relay->wake[1], "", 1), 1);
    sem_wait(&relay->seen);
}

static inline void relay_start(struct relay *relay, const char *dir)
{
    struct sockaddr_un local = { .sun_family = AF_UNIX };

    memset(relay, 0, sizeof(*relay));
    relay->to = &server;
    sem_init(&relay->seen, 0, 0);
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

static inline void relay_end(struct relay *relay)
{
    relay->stop = true;
    relay_set(relay, RELAY_CUT);
    pthread_join(relay->thread, NULL);
    for (int i = 0; i < PAIRS; i++)
        if (relay->pairs[i].near >= 0)
            pair_close(relay, i);
    sem_destroy(&relay->seen);
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
    bool doubt; /* at that moment */
};

struct testnode {
    char dir[64], name[16];
    struct relay relay;
    bool durable;
    uint16_t port;    /* of a server without a relay between */
    const char *user; /* and password; NULL: none */
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

static inline void on_node(struct testnode *node, void (*run)(void *), void *arg)
{
    struct errand errand = { .message.handle = errand_handle, .run = run, .arg = arg };

    sem_init(&errand.done, 0, 0);
    loop_post(node->loop, &errand.message);
    sem_wait(&errand.done);
    sem_destroy(&errand.done);
}

/* As a node does it: the mark counts at once, and is queued to the state. On the loop's thread, where cmocka cannot say which
 * assertion failed: CHECK() can. */
static inline void apply(void *arg, struct loop *loop, const struct purge_event *event, uint64_t bus)
{
    struct testnode *node = arg;
    struct mark mark = { event->kind, event->soft, event->target };
    struct state_write *write = heap_zalloc(sizeof(*write));
    struct text line;

    CHECK(loop == node->loop && write);
    write->mark = (struct state_mark){ marks_add(node->marks, &mark, bus), bus, (uint16_t)event->kind, event->soft,
                                       event->target };
    CHECK(state_write(node->state, write) == 0);
    pthread_mutex_lock(&node->lock);
    CHECK(node->count < APPLIED_MAX);
    line = TEXT_ON(node->list[node->count].line);
    purge_event_put(&line, event);
    text_str(&line);
    node->list[node->count].doubt = marks_in_doubt(node->marks);
    node->list[node->count++].bus = bus;
    pthread_mutex_unlock(&node->lock);
}

static inline void restore(const struct state_mark *kept, void *arg)
{
    struct mark mark = { (enum mark_kind)kept->kind, kept->soft, kept->text };

    marks_restore(arg, &mark, kept->position, kept->bus);
}

static inline void bus_up(void *arg)
{
    struct testnode *node = arg;

    bus_start(node->bus);
}

static inline void bus_down(void *arg)
{
    struct testnode *node = arg;

    bus_stop(node->bus);
}

static inline void client_down(void *arg)
{
    struct testnode *node = arg;

    redis_loop_close(node->redis, node->loop);
}

static inline void nothing(void *arg)
{
    (void)arg;
}

static inline void node_open(struct testnode *node)
{
    char path[128], memory[256];
    struct text reason = TEXT_ON(memory);
    struct redis_options options = { .path = view_str(node->relay.path), .connect_timeout_ms = 300 };
    struct bus_options bus;

    options.user = options.password = view_str(node->user);
    if (node->port)
        options = (struct redis_options){ .host = VIEW("127.0.0.1"), .port = node->port };
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

static inline void node_start(struct testnode *node)
{
    node_open(node);
    on_node(node, bus_up, node);
}

static inline void node_stop(struct testnode *node)
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

static inline void node_wipe(struct testnode *node)
{
    static const char *const files[] = { "state", "state-wal", "state-shm" };
    char path[128];

    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        snprintf(path, sizeof(path), "%s/%s", node->dir, files[i]);
        unlink(path);
    }
}

static inline void node_make(struct testnode *node, const char *name)
{
    memset(node, 0, sizeof(*node));
    snprintf(node->name, sizeof(node->name), "%s", name);
    snprintf(node->dir, sizeof(node->dir), "/tmp/doorstep-bus-XXXXXX");
    assert_non_null(mkdtemp(node->dir));
    node->durable = true;
    node->doubt_ms = 60000;
    relay_start(&node->relay, node->dir);
}

static inline void node_end(struct testnode *node)
{
    node_stop(node);
    relay_end(&node->relay);
    node_wipe(node);
    rmdir(node->dir);
}

/* ---- looking ---- */

static inline struct bus_stats now(struct testnode *node)
{
    struct bus_stats stats;

    bus_stats(node->bus, &stats);
    return stats;
}

static inline unsigned times_applied(struct testnode *node, const char *line)
{
    unsigned count = 0;

    pthread_mutex_lock(&node->lock);
    for (unsigned i = 0; i < node->count; i++)
        count += strcmp(node->list[i].line, line) == 0;
    pthread_mutex_unlock(&node->lock);
    return count;
}

/* Of its last time; line "" when it was never applied. */
static inline struct applied applied(struct testnode *node, const char *line)
{
    struct applied found = { .line = "" };

    pthread_mutex_lock(&node->lock);
    for (unsigned i = 0; i < node->count; i++)
        if (strcmp(node->list[i].line, line) == 0)
            found = node->list[i];
    pthread_mutex_unlock(&node->lock);
    return found;
}

static inline bool trusts(struct testnode *node)
{
    return !marks_in_doubt(node->marks);
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

static inline void both_ready(void)
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

static inline void sender_run(struct task *task)
{
    struct sender *sender = CONTAINER_OF(task, struct sender, task);

    if (sender->send.done)
        sem_post(&sender->done);
}

static inline void sender_begin(void *arg)
{
    struct sender *sender = arg;

    task_init(&sender->task, sender->node->loop, sender_run);
    assert_int_equal(bus_publish(sender->node->bus, sender->node->loop, &sender->event, sender->wait_ms, &sender->task,
                                 &sender->send),
                     0);
}

static inline void send_begin(struct sender *sender, struct testnode *node, const char *line, uint32_t wait_ms)
{
    memset(sender, 0, sizeof(*sender));
    sender->node = node;
    sender->wait_ms = wait_ms;
    assert_int_equal(purge_event_parse(view_str(line), &sender->event), 0);
    sem_init(&sender->done, 0, 0);
    on_node(node, sender_begin, sender);
}

static inline struct bus_ack send_end(struct sender *sender)
{
    sem_wait(&sender->done);
    return sender->send.ack;
}

static inline struct bus_ack publish(struct testnode *node, const char *line, uint32_t wait_ms)
{
    struct sender sender;

    send_begin(&sender, node, line, wait_ms);
    return send_end(&sender);
}

/* ---- each test ---- */

static bool have_server;

static inline int open_on(uint16_t port)
{
    struct redis_options options = { 0 };

    have_server = server_start(&server, port, "--repl-diskless-sync-delay 0");
    if (!have_server)
        return 0;
    options.path = view_str(server.path);
    redis_open(&options);
    node_make(A, "a");
    node_make(B, "b");
    return 0;
}

static inline int open_all(void **state)
{
    (void)state;
    return open_on(0);
}

/* For servers that follow this one. */
static inline int open_with_port(void **state)
{
    (void)state;
    return open_on(free_port());
}

static inline int close_all(void **state)
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

static inline void start_both(void)
{
    node_start(A);
    node_start(B);
    both_ready();
}
