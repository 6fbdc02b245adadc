/* Servers named by SRV records: reading the records, the slots they fill, and the whole way with a name server and two origins
 * of our own on loopback. */
#include "upstream/choose.h"
#include "upstream/exchange.h"
#include "upstream/health.h"

#include "base/clock.h"
#include "net/dns.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- reading ---- */

/* "_http._tcp.app", one question, then records. */
static size_t put_head(unsigned char *p, unsigned answers)
{
    static const unsigned char question[] = "\x05_http\x04_tcp\x03"
                                            "app\x00\x00\x21\x00\x01";

    memset(p, 0, 12);
    p[2] = 0x85;
    p[3] = 0x80;
    p[5] = 1;
    p[7] = (unsigned char)answers;
    memcpy(p + 12, question, sizeof(question) - 1);
    return 12 + sizeof(question) - 1;
}

/* An SRV record for 127.0.0.1 as a name of four labels. */
static size_t put_srv(unsigned char *p, unsigned ttl, unsigned priority, unsigned weight, uint16_t port)
{
    static const unsigned char target[] = "\x03"
                                          "127\x01"
                                          "0\x01"
                                          "0\x01"
                                          "1";
    unsigned char head[] = { 0xc0,
                             12,
                             0,
                             33,
                             0,
                             1,
                             0,
                             0,
                             (unsigned char)(ttl >> 8),
                             (unsigned char)ttl,
                             0,
                             6 + sizeof(target),
                             (unsigned char)(priority >> 8),
                             (unsigned char)priority,
                             (unsigned char)(weight >> 8),
                             (unsigned char)weight,
                             (unsigned char)(port >> 8),
                             (unsigned char)port };

    memcpy(p, head, sizeof(head));
    memcpy(p + sizeof(head), target, sizeof(target));
    return sizeof(head) + sizeof(target);
}

static void test_parse(void **state)
{
    /* Hosts, ports, priorities and weights come out, with the shortest TTL within our bounds. */
    unsigned char message[512];
    size_t len = put_head(message, 2);
    static struct dns_srv srv;

    (void)state;
    len += put_srv(message + len, 60, 10, 5, 8080);
    len += put_srv(message + len, 30, 20, 0, 8081);
    assert_int_equal(dns_srv_parse(view_make((char *)message, len), &srv), 0);
    assert_int_equal(srv.count, 2);
    assert_int_equal(srv.ttl_ms, 30000);
    assert_string_equal(srv.targets[0].host, "127.0.0.1");
    assert_int_equal(srv.targets[0].port, 8080);
    assert_int_equal(srv.targets[0].priority, 10);
    assert_int_equal(srv.targets[0].weight, 5);
    assert_int_equal(srv.targets[1].priority, 20);
}

static void test_parse_broken(void **state)
{
    /* Every shortened message is refused without reading past its end. */
    unsigned char message[512];
    size_t len = put_head(message, 1);
    static struct dns_srv srv;

    (void)state;
    len += put_srv(message + len, 0, 1, 1, 80);
    for (size_t cut = 0; cut < len; cut++) {
        char *copy = malloc(cut + 1);

        assert_non_null(copy);
        memcpy(copy, message, cut);
        assert_int_equal(dns_srv_parse(view_make(copy, cut), &srv), -EBADMSG);
        free(copy);
    }
    assert_int_equal(dns_srv_parse(view_make((char *)message, len), &srv), 0);
    assert_int_equal(srv.ttl_ms, 1000);
}

/* ---- slots ---- */

static struct loop *loop;
static struct upstream *upstream;

static void make_upstream(const char *url)
{
    const char *servers[1] = { url };
    char memory[200];
    struct text reason = TEXT_ON(memory);
    struct upstream_options options;

    upstream_options_init(&options);
    options.servers = servers;
    options.server_count = 1;
    options.max_idle = 0;
    assert_int_equal(upstream_new(&upstream, &options, &reason), 0);
}

static void take(unsigned count, const uint16_t *ports, const uint16_t *priorities, uint64_t now)
{
    static struct dns_srv answer;

    memset(&answer, 0, sizeof(answer));
    answer.count = count;
    for (unsigned i = 0; i < count; i++) {
        answer.targets[i] = (struct dns_srv_target){ .host = "127.0.0.1", .port = ports[i], .weight = 1 };
        answer.targets[i].priority = priorities ? priorities[i] : 0;
    }
    upstream_take_targets(upstream, &upstream->srvs[0], &answer, now);
}

static unsigned active(void)
{
    unsigned count = 0;

    for (unsigned i = 0; i < upstream_server_count(upstream); i++)
        count += upstream_server_name(upstream, i).len > 0;
    return count;
}

static void test_slots(void **state)
{
    /* Targets keep their slot over changes; one that goes is switched off; a slot is given away only after a while. */
    const uint16_t ports[] = { 1, 2, 3 }, others[] = { 3, 2, 4 }, back[] = { 1, 2, 3, 4 };

    (void)state;
    make_upstream("http://_http._tcp.app");
    assert_true(view_eq(upstream_authority(upstream), VIEW("app")));
    take(3, ports, NULL, 10000);
    assert_int_equal(active(), 3);
    assert_int_equal(upstream_server_count(upstream), 3);
    take(3, others, NULL, 11000);
    assert_int_equal(active(), 3);
    assert_int_equal(upstream_server_count(upstream), 4);
    assert_int_equal(upstream_server_name(upstream, 0).len, 0);
    assert_true(view_eq(upstream_server_name(upstream, 2), VIEW("127.0.0.1:3")));
    assert_true(view_eq(upstream_server_name(upstream, 3), VIEW("127.0.0.1:4")));
    take(4, back, NULL, 12000);
    assert_int_equal(active(), 4);
    assert_true(view_eq(upstream_server_name(upstream, 0), VIEW("127.0.0.1:1")));
    assert_int_equal(atomic_load(&upstream->servers[0].generation), 1);
    take(1, ports + 1, NULL, 13000);
    take(2, (const uint16_t[]){ 2, 9 }, NULL, 20000);
    assert_int_equal(upstream_server_count(upstream), 4);
    assert_true(view_eq(upstream_server_name(upstream, 0), VIEW("127.0.0.1:9")));
    assert_int_equal(atomic_load(&upstream->servers[0].generation), 2);
    take(0, NULL, NULL, 30000);
    assert_int_equal(active(), 0);
    assert_true(upstream_is_down(upstream));
    upstream_free(upstream);
}

static void test_many(void **state)
{
    /* More targets than there are slots: the first ones are used, nothing breaks, and churn over a long time is bounded. */
    uint16_t ports[DNS_SRV_MAX];

    (void)state;
    make_upstream("http://_http._tcp.app");
    for (uint16_t round = 0; round < 200; round++) {
        for (uint16_t i = 0; i < DNS_SRV_MAX; i++)
            ports[i] = (uint16_t)(1 + round * 7 + i);
        take(DNS_SRV_MAX, ports, NULL, 10000u + round * 5000u);
        assert_true(active() > 0);
        assert_true(upstream_server_count(upstream) <= UPSTREAM_SERVERS_MAX);
    }
    upstream_free(upstream);
}

static void test_priority(void **state)
{
    /* Only the lowest priority is asked while any of it may be; then the next. */
    const uint16_t ports[] = { 1, 2, 3 }, priorities[] = { 5, 1, 1 };
    struct choose_ask ask = { .replayable = true };
    struct choice choice;
    struct pool *pool;
    unsigned seen = 0;

    (void)state;
    make_upstream("http://_http._tcp.app");
    assert_int_equal(loop_new(&loop, 0), 0);
    take(3, ports, priorities, 10000);
    assert_int_equal(pool_get(&pool, upstream, loop), 0);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(choose_server(pool, &ask, &choice), 0);
        choose_end(pool, &choice);
        seen |= 1u << choice.server;
    }
    assert_int_equal(seen, 6);
    ask.tried = 6;
    assert_int_equal(choose_server(pool, &ask, &choice), 0);
    assert_int_equal(choice.server, 0);
    choose_end(pool, &choice);
    upstream_loop_close(upstream, loop);
    upstream_free(upstream);
    loop_free(loop);
}

static void test_health_note(void **state)
{
    /* Three bad checks in a row take it out, two good ones bring it back; mixed ones change nothing. */
    struct health_mark mark = { .out = false };

    (void)state;
    assert_false(health_note(&mark, false, 2, 3));
    assert_false(health_note(&mark, false, 2, 3));
    assert_false(health_note(&mark, true, 2, 3));
    assert_false(health_note(&mark, false, 2, 3));
    assert_false(health_note(&mark, false, 2, 3));
    assert_true(health_note(&mark, false, 2, 3));
    assert_true(mark.out);
    assert_false(health_note(&mark, true, 2, 3));
    assert_false(health_note(&mark, false, 2, 3));
    assert_false(health_note(&mark, true, 2, 3));
    assert_true(health_note(&mark, true, 2, 3));
    assert_false(mark.out);
}

/* ---- the whole way ---- */

struct peer {
    int fd, stop[2];
    uint16_t port;
    pthread_t thread;
    char letter;
};

static struct peer names, origins[2];
static atomic_uint current;

static void serve_name(struct peer *p)
{
    unsigned char packet[1024];
    struct sockaddr_in from;
    socklen_t from_len = sizeof(from);
    ssize_t n = recvfrom(p->fd, packet, sizeof(packet), 0, (struct sockaddr *)&from, &from_len);
    unsigned char id[2] = { packet[0], packet[1] };
    size_t len = put_head(packet, 1);

    if (n < 17)
        return;
    memcpy(packet, id, 2);
    len += put_srv(packet + len, 1, 0, 0, origins[atomic_load(&current)].port);
    sendto(p->fd, packet, len, 0, (struct sockaddr *)&from, from_len);
}

static void serve_request(struct peer *p)
{
    char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: _\r\n\r\n", head[4096];
    int fd = accept(p->fd, NULL, NULL);

    answer[sizeof(answer) - 6] = p->letter;
    if (recv(fd, head, sizeof(head), 0) > 0)
        send(fd, answer, sizeof(answer) - 1, MSG_NOSIGNAL);
    close(fd);
}

static void *serve(void *arg)
{
    struct peer *p = arg;
    struct pollfd fds[2] = { { .fd = p->fd, .events = POLLIN }, { .fd = p->stop[0], .events = POLLIN } };

    while (poll(fds, 2, -1) >= 0 && !fds[1].revents) {
        if (p == &names)
            serve_name(p);
        else
            serve_request(p);
    }
    return NULL;
}

static void peer_start(struct peer *p, int type)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof(address);

    p->fd = socket(AF_INET, type, 0);
    assert_int_equal(bind(p->fd, (struct sockaddr *)&address, sizeof(address)), 0);
    if (type == SOCK_STREAM)
        assert_int_equal(listen(p->fd, 16), 0);
    getsockname(p->fd, (struct sockaddr *)&address, &len);
    p->port = ntohs(address.sin_port);
    assert_int_equal(pipe(p->stop), 0);
    assert_int_equal(pthread_create(&p->thread, NULL, serve, p), 0);
}

static void peer_stop(struct peer *p)
{
    close(p->stop[1]);
    pthread_join(p->thread, NULL);
    close(p->stop[0]);
    close(p->fd);
}

struct asker {
    struct task task;
    struct timer timer;
    struct exchange *x;
    char letters[8];
    unsigned got, failed;
};

/* Asks until the other origin answers; the name changes after the first answer. */
static void ask_run(struct task *task)
{
    struct asker *a = CONTAINER_OF(task, struct asker, task);
    const struct exchange_request request = { .method = METHOD_GET,
                                              .head = VIEW("GET / HTTP/1.1\r\nHost: o\r\n\r\n"),
                                              .replayable = true };

    if (!a->x && (a->got == 0 || a->timer.fired))
        assert_int_equal(exchange_start(&a->x, upstream, task, &request), 0);
    if (!a->x || exchange_state(a->x) < EXCHANGE_BODY)
        return;
    if (exchange_state(a->x) == EXCHANGE_FAILED) {
        a->failed++;
    } else {
        const struct view head = exchange_head_bytes(a->x);
        char letter = head.ptr[head.len - 5];

        if (a->got == 0 || a->letters[a->got - 1] != letter)
            a->letters[a->got++] = letter;
        atomic_store(&current, 1);
    }
    exchange_close(a->x);
    a->x = NULL;
    if (a->got == 2 || a->failed)
        loop_stop(loop);
    else
        timer_set(&a->timer, 20);
}

static void test_followed(void **state)
{
    /* The first request waits for the records; when they change, requests follow to the new server without a reload. */
    struct asker asker = { .got = 0 };
    char server[64];

    (void)state;
    atomic_store(&current, 0);
    origins[0].letter = 'a';
    origins[1].letter = 'b';
    peer_start(&origins[0], SOCK_STREAM);
    peer_start(&origins[1], SOCK_STREAM);
    peer_start(&names, SOCK_DGRAM);
    snprintf(server, sizeof(server), "127.0.0.1:%u", names.port);
    make_upstream("http://_http._tcp.app");
    assert_int_equal(loop_new(&loop, 0), 0);
    assert_int_equal(dns_use_servers(loop, server), 0);
    upstream_start(upstream, loop);
    task_init(&asker.task, loop, ask_run);
    timer_init(&asker.timer, &asker.task);
    task_wake(&asker.task);
    loop_run(loop);
    assert_int_equal(asker.failed, 0);
    assert_string_equal(asker.letters, "ab");
    upstream_loop_close(upstream, loop);
    dns_loop_close(loop);
    upstream_free(upstream);
    loop_free(loop);
    peer_stop(&names);
    peer_stop(&origins[0]);
    peer_stop(&origins[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),    cmocka_unit_test(test_parse_broken), cmocka_unit_test(test_slots),
        cmocka_unit_test(test_many),     cmocka_unit_test(test_priority),     cmocka_unit_test(test_health_note),
        cmocka_unit_test(test_followed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
