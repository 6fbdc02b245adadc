/* For tests of the Redis client and what stands on it: a loop on a thread of its own, functions run there while the test waits,
 * calls as plain functions, and real servers on Unix sockets or free ports that end with the test. */
#pragma once

#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "upstream_fixture.h"

#include "base/clock.h"
#include "store/redis.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define MANY 64

/* ---- a loop beside the test ---- */

static struct loop *bench_loop;
static pthread_t bench_thread;

static void *bench_main(void *arg)
{
    loop_run(arg);
    return NULL;
}

struct errand {
    struct message message;
    void (*run)(void *arg);
    void *arg;
    sem_t done;
};

static inline void errand_handle(struct loop *loop, struct message *message)
{
    struct errand *errand = CONTAINER_OF(message, struct errand, message);

    (void)loop;
    errand->run(errand->arg);
    sem_post(&errand->done);
}

/* Runs it on the loop and waits. */
static inline void on_loop(void (*run)(void *), void *arg)
{
    struct errand errand = { .message.handle = errand_handle, .run = run, .arg = arg };

    sem_init(&errand.done, 0, 0);
    loop_post(bench_loop, &errand.message);
    sem_wait(&errand.done);
    sem_destroy(&errand.done);
}

static inline void bench_start(void)
{
    signal(SIGPIPE, SIG_IGN);
    assert_int_equal(loop_new(&bench_loop, 0), 0);
    assert_int_equal(pthread_create(&bench_thread, NULL, bench_main, bench_loop), 0);
}

static inline void bench_stop(void)
{
    loop_stop(bench_loop);
    pthread_join(bench_thread, NULL);
    dns_loop_close(bench_loop);
    loop_free(bench_loop);
}

/* ---- a client on it ---- */

static struct redis *client_redis;

static inline void redis_open(const struct redis_options *options)
{
    char memory[256];
    struct text reason = TEXT_ON(memory);

    bench_start();
    if (redis_new(options, &client_redis, &reason) < 0)
        fail_msg("%.*s", VIEW_ARG(text_view(&reason)));
}

static inline void close_on_loop(void *arg)
{
    (void)arg;
    redis_loop_close(client_redis, bench_loop);
}

static inline void redis_shut(void)
{
    on_loop(close_on_loop, NULL);
    redis_free(client_redis);
    bench_stop();
}

static inline struct redis_stats redis_now(void)
{
    struct redis_stats s;

    redis_stats(client_redis, &s);
    return s;
}

/* ---- calls ---- */

struct ask {
    struct redis_call call;
    struct task task;
    struct view args[16];
    unsigned count;
    int key;
    uint32_t timeout_ms;
    sem_t done;
    int refused; /* what redis_send() said */
    /* the answer, copied */
    int error;
    enum resp_type type;
    int64_t integer;
    char text[2048];
    size_t len, items;
    struct redis_clock clock;
};

static inline void ask_run(struct task *task)
{
    struct ask *ask = CONTAINER_OF(task, struct ask, task);
    const struct resp_value *reply = ask->call.reply;

    if (ask->call.state != REDIS_DONE)
        return;
    ask->error = ask->call.error;
    ask->clock = ask->call.clock;
    if (reply) {
        ask->type = reply->type;
        ask->integer = reply->integer;
        ask->items = reply->count;
        ask->len = reply->text.len;
        memcpy(ask->text, reply->text.ptr ? reply->text.ptr : "", MIN(reply->text.len, sizeof(ask->text) - 1));
    }
    redis_call_end(&ask->call);
    sem_post(&ask->done);
}

static inline void ask_send(void *arg)
{
    struct ask *ask = arg;

    task_init(&ask->task, bench_loop, ask_run);
    ask->refused = redis_send(client_redis, &ask->task, &ask->call, ask->args, ask->count, ask->key, ask->timeout_ms);
}

/* A call with words of `line`, separated by spaces; its second word is the key. */
static inline void ask_begin(struct ask *ask, uint32_t timeout_ms, const char *line)
{
    struct view rest = view_str(line);

    memset(ask, 0, sizeof(*ask));
    sem_init(&ask->done, 0, 0);
    while (rest.ptr && ask->count < ARRAY_LEN(ask->args))
        ask->args[ask->count++] = view_cut(&rest, ' ');
    ask->key = ask->count > 1 ? 1 : -1;
    ask->timeout_ms = timeout_ms;
    on_loop(ask_send, ask);
}

static inline void ask_wait(struct ask *ask)
{
    if (ask->refused == 0)
        sem_wait(&ask->done);
}

static inline void ask_end(struct ask *ask)
{
    ask_wait(ask);
    if (ask->refused)
        ask->error = ask->refused;
}

static inline struct ask asked(uint32_t timeout_ms, const char *line)
{
    struct ask ask;

    ask_begin(&ask, timeout_ms, line);
    ask_end(&ask);
    return ask;
}

#define assert_answer(answer, wanted) \
    do { \
        struct ask answer_ = (answer); \
        assert_int_equal(answer_.error, 0); \
        assert_string_equal(answer_.text, wanted); \
    } while (0)

/* ---- real servers ---- */

struct server {
    char dir[64], path[96];
    uint16_t port; /* 0: only the Unix socket */
    pid_t pid;
};

static inline bool server_is_up(const struct server *s)
{
    struct sockaddr_un local = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    bool up;

    snprintf(local.sun_path, sizeof(local.sun_path), "%s", s->path);
    up = connect(fd, (struct sockaddr *)&local, sizeof(local)) == 0;
    close(fd);
    return up;
}

static inline bool port_is_free(unsigned port)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_port = htons((uint16_t)port),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    bool is_free;

    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    is_free = bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
    close(fd);
    return is_free;
}

/* Below what the kernel gives to outgoing connections, so that a server finds it free again after a restart; its Cluster bus
 * is 10000 above. */
static inline uint16_t free_port(void)
{
    static unsigned next;

    for (;;) {
        unsigned port = 10000 + ((unsigned)getpid() * 31 + next++ * 7) % 12000;

        if (port_is_free(port) && port_is_free(port + 10000))
            return (uint16_t)port;
    }
}

/* Starts the server again where it was; `words`: more options. */
static inline void server_run(struct server *s, const char *words)
{
    char line[1024], port[8], nothing[1] = "", *argv[64] = { "redis-server", "--save", nothing }, *at = line;
    int count = 3;

    snprintf(port, sizeof(port), "%u", s->port);
    snprintf(line, sizeof(line), "--port %s --bind 127.0.0.1 --unixsocket %s --dir %s --logfile log %s", port, s->path,
             s->dir, words);
    for (char *word; (word = strsep(&at, " ")) && count < 63;)
        if (*word)
            argv[count++] = word;
    s->pid = fork();
    if (s->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execvp("redis-server", argv);
        _exit(127);
    }
    for (int i = 0; i < 2000 && !server_is_up(s); i++)
        usleep(5000);
    assert_true(server_is_up(s));
}

/* A folder for it. False: there is no redis-server here. */
static inline bool server_prepare(struct server *s, uint16_t port)
{
    if (access("/usr/bin/redis-server", X_OK) < 0)
        return false;
    memset(s, 0, sizeof(*s));
    snprintf(s->dir, sizeof(s->dir), "/tmp/doorstep-redis-XXXXXX");
    assert_non_null(mkdtemp(s->dir));
    snprintf(s->path, sizeof(s->path), "%.60s/s", s->dir);
    s->port = port;
    return true;
}

static inline bool server_start(struct server *s, uint16_t port, const char *words)
{
    if (!server_prepare(s, port))
        return false;
    server_run(s, words);
    return true;
}

static inline void server_kill(struct server *s)
{
    if (s->pid <= 0)
        return;
    kill(s->pid, SIGKILL);
    waitpid(s->pid, NULL, 0);
    s->pid = 0;
    unlink(s->path);
}

static inline void server_end(struct server *s)
{
    static const char *const files[] = { "log", "nodes.conf", "dump.rdb", "cert", "key" };
    char path[128];

    server_kill(s);
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        snprintf(path, sizeof(path), "%.60s/%s", s->dir, files[i]);
        unlink(path);
    }
    rmdir(s->dir);
}

/* ---- a cluster of three ---- */

#define TRIO_WORDS \
    "--cluster-enabled yes --cluster-config-file nodes.conf --cluster-node-timeout 1000 " \
    "--cluster-require-full-coverage no"

static inline bool trio_start(struct server trio[3])
{
    char command[256];

    for (int i = 0; i < 3; i++)
        if (!server_start(&trio[i], free_port(), TRIO_WORDS))
            return false;
    snprintf(command, sizeof(command),
             "redis-cli --cluster create 127.0.0.1:%u 127.0.0.1:%u 127.0.0.1:%u --cluster-yes >/dev/null", trio[0].port,
             trio[1].port, trio[2].port);
    return system(command) == 0;
}

/* ---- a certificate ---- */

/* For "127.0.0.1" and "store.test", signing itself: certificate and key into two files in the server's folder. */
static inline void make_certificate(const char *cert_file, const char *key_file)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    X509_NAME *name = X509_get_subject_name(cert);
    X509_EXTENSION *san;
    FILE *file;

    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_set_version(cert, 2);
    X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_set_pubkey(cert, key);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"store.test", -1, -1, 0);
    X509_set_issuer_name(cert, name);
    san = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, "DNS:store.test,IP:127.0.0.1");
    X509_add_ext(cert, san, -1);
    X509_EXTENSION_free(san);
    assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
    file = fopen(cert_file, "w");
    PEM_write_X509(file, cert);
    fclose(file);
    file = fopen(key_file, "w");
    PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL);
    fclose(file);
    X509_free(cert);
    EVP_PKEY_free(key);
}
