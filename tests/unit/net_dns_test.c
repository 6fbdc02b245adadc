/* Lookups against a name server of our own on loopback. It answers by the first label: "a" has an A record, "none" does not
 * exist, "fail" gives SERVFAIL; it counts questions. */
#include "net/dns.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

struct server {
    int fd, stop[2];
    uint16_t port;
    atomic_uint questions;
    pthread_t thread;
};

/* Answers one question in place; returns the new length. */
static size_t respond(unsigned char *p, size_t len)
{
    static const unsigned char a_record[] = { 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 9, 8, 7 };
    size_t name_end = 12;
    bool is_a;

    while (name_end < len && p[name_end])
        name_end += p[name_end] + 1u;
    is_a = p[name_end + 2] == 1;
    len = name_end + 5; /* whatever EDNS came along is dropped */
    p[2] = 0x85;
    p[3] = 0x80;
    memset(p + 6, 0, 6);
    if (p[12] == 4 && memcmp(p + 13, "none", 4) == 0) {
        p[3] |= 3;
    } else if (p[12] == 4 && memcmp(p + 13, "fail", 4) == 0) {
        p[3] |= 2;
    } else if (is_a) {
        p[7] = 1;
        memcpy(p + len, a_record, sizeof(a_record));
        len += sizeof(a_record);
    }
    return len;
}

static void *serve(void *arg)
{
    struct server *s = arg;
    struct pollfd fds[2] = { { .fd = s->fd, .events = POLLIN }, { .fd = s->stop[0], .events = POLLIN } };
    unsigned char packet[1024];
    struct sockaddr_in peer;

    while (poll(fds, 2, -1) >= 0 && !fds[1].revents) {
        socklen_t peer_len = sizeof(peer);
        ssize_t n = recvfrom(s->fd, packet, 512, 0, (struct sockaddr *)&peer, &peer_len);

        if (n < 17)
            continue;
        atomic_fetch_add(&s->questions, 1);
        sendto(s->fd, packet, respond(packet, (size_t)n), 0, (struct sockaddr *)&peer, peer_len);
    }
    return NULL;
}

static struct server server;

static int start(void **state)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof(address);

    (void)state;
    server.fd = socket(AF_INET, SOCK_DGRAM, 0);
    assert_int_equal(bind(server.fd, (struct sockaddr *)&address, sizeof(address)), 0);
    getsockname(server.fd, (struct sockaddr *)&address, &len);
    server.port = ntohs(address.sin_port);
    assert_int_equal(pipe(server.stop), 0);
    atomic_store(&server.questions, 0);
    return pthread_create(&server.thread, NULL, serve, &server);
}

static int stop(void **state)
{
    (void)state;
    close(server.stop[1]);
    pthread_join(server.thread, NULL);
    close(server.stop[0]);
    close(server.fd);
    return 0;
}

/* Asks for one name after the other. */
struct asker {
    struct task task;
    struct loop *loop;
    struct dns_waiter waiter;
    const char *const *names;
    int results[8];
    struct dns_answer answers[8];
    unsigned at, waits[8];
};

static void ask(struct task *task)
{
    struct asker *a = CONTAINER_OF(task, struct asker, task);

    for (; a->names[a->at]; a->at++) {
        int r = dns_lookup(a->loop, view_str(a->names[a->at]), 80, &a->waiter, &a->answers[a->at]);

        if (r == -EAGAIN) {
            a->waits[a->at]++;
            return;
        }
        a->results[a->at] = r;
    }
    loop_stop(a->loop);
}

static struct asker asker;

static void resolve(const char *const *names)
{
    char servers[64];

    memset(&asker, 0, sizeof(asker));
    asker.names = names;
    snprintf(servers, sizeof(servers), "127.0.0.1:%u", server.port);
    assert_int_equal(loop_new(&asker.loop, 0), 0);
    assert_int_equal(dns_use_servers(asker.loop, servers), 0);
    task_init(&asker.task, asker.loop, ask);
    asker.waiter.task = &asker.task;
    task_wake(&asker.task);
    loop_run(asker.loop);
    dns_loop_close(asker.loop);
    loop_free(asker.loop);
}

static void test_names(void **state)
{
    /* A name is asked for once and then remembered, whatever its case; the port is the asker's. */
    const char *names[] = { "a.test", "A.Test.", NULL };
    struct address expected;
    unsigned asked;

    (void)state;
    resolve(names);
    asked = atomic_load(&server.questions);
    assert_int_equal(asker.results[0], 0);
    assert_int_equal(asker.answers[0].count, 1);
    assert_int_equal(address_parse_ip(VIEW("127.9.8.7"), 80, &expected), 0);
    assert_true(address_eq(&asker.answers[0].list[0], &expected));
    assert_int_equal(asker.results[1], 0);
    assert_int_equal(asker.waits[1], 0);
    assert_true(asked >= 1 && asked <= 2); /* A and AAAA */
}

static void test_local(void **state)
{
    /* Literal addresses and localhost need no name server. */
    const char *names[] = { "127.0.0.1", "::1", "localhost", NULL };

    (void)state;
    resolve(names);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(asker.results[i], 0);
        assert_true(asker.answers[i].count >= 1);
        assert_true(address_is_loopback(&asker.answers[i].list[0]));
    }
    assert_int_equal(atomic_load(&server.questions), 0);
}

static void test_failures(void **state)
{
    /* A name that does not exist, a server that fails and a name that is none are told apart. */
    const char *names[] = { "none.test", "fail.test", "a b", "", NULL };

    (void)state;
    resolve(names);
    assert_int_equal(asker.results[0], -ENOENT);
    assert_int_equal(asker.results[1], -EIO);
    assert_int_equal(asker.results[2], -EINVAL);
    assert_int_equal(asker.results[3], -EINVAL);
}

static void test_cancel(void **state)
{
    /* An asker may leave while its question is open. */
    struct loop *loop;
    struct task task;
    struct dns_waiter waiter = { .entry = NULL };
    struct dns_answer answer;

    (void)state;
    assert_int_equal(loop_new(&loop, 0), 0);
    task_init(&task, loop, NULL);
    waiter.task = &task;
    assert_int_equal(dns_use_servers(loop, "127.0.0.1:1"), 0);
    assert_int_equal(dns_lookup(loop, VIEW("a.test"), 80, &waiter, &answer), -EAGAIN);
    dns_cancel(&waiter);
    dns_cancel(&waiter);
    dns_loop_close(loop);
    loop_free(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_names, start, stop),
        cmocka_unit_test_setup_teardown(test_local, start, stop),
        cmocka_unit_test_setup_teardown(test_failures, start, stop),
        cmocka_unit_test(test_cancel),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
