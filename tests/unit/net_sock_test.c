/* A sock over a socket pair: buffering, growing, taking blocks, half-closes, resets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/heap.h"
#include "net/sock.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

static struct loop *loop;
static struct sock sock;
static struct task task;
static int peer;
static unsigned wakes;
static void (*on_wake)(void);

static void woken(struct task *which)
{
    (void)which;
    wakes++;
    if (on_wake)
        on_wake();
}

static int set_up(void **state)
{
    int ends[2];

    (void)state;
    wakes = 0;
    on_wake = NULL;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) < 0 || loop_new(&loop, 0) < 0)
        return -1;
    peer = ends[1];
    task_init(&task, loop, woken);
    return sock_open(&sock, loop, ends[0], &task);
}

static int tear_down(void **state)
{
    (void)state;
    sock_close(&sock);
    sock_close(&sock);
    if (peer >= 0)
        close(peer);
    task_cancel(&task);
    loop_free(loop);
    return 0;
}

static void feed(const char *ptr, size_t len)
{
    assert_int_equal(send(peer, ptr, len, MSG_NOSIGNAL), (ssize_t)len);
    sock.readable = true; /* what the loop would say */
}

static void fill_and_consume(void **state)
{
    /* Input gathers over reads, is dropped from the front, and the block is given back when nothing is left. */
    (void)state;
    assert_int_equal(sock_fill(&sock, 32768), -EAGAIN);
    assert_null(sock.in); /* nothing buffered: no block held */
    assert_int_equal(sock_fill(&sock, 32768), -EAGAIN);
    feed("hello ", 6);
    assert_int_equal(sock_fill(&sock, 32768), 6);
    assert_false(sock.readable); /* a short read says the kernel is empty */
    feed("world", 5);
    assert_int_equal(sock_fill(&sock, 32768), 5);
    assert_true(view_eq(sock_input(&sock), VIEW("hello world")));
    sock_consume(&sock, 6);
    assert_true(view_eq(sock_input(&sock), VIEW("world")));
    sock_consume(&sock, 5);
    assert_int_equal(sock_input(&sock).len, 0);
    assert_null(sock.in);
}

static void read_takes_buffered_first(void **state)
{
    /* Direct reads continue exactly where the buffer ends. */
    char memory[16];

    (void)state;
    feed("abcdef", 6);
    assert_int_equal(sock_fill(&sock, 32768), 6);
    feed("gh", 2);
    assert_int_equal(sock_read(&sock, memory, 4), 4);
    assert_memory_equal(memory, "abcd", 4);
    assert_int_equal(sock_read(&sock, memory, 16), 2);
    assert_memory_equal(memory, "ef", 2);
    assert_null(sock.in);
    assert_int_equal(sock_read(&sock, memory, 16), 2);
    assert_memory_equal(memory, "gh", 2);
    assert_int_equal(sock_read(&sock, memory, 16), -EAGAIN);
}

static char pattern(size_t i)
{
    return (char)('a' + i % 23);
}

static void assert_pattern(size_t from)
{
    struct view got = sock_input(&sock);

    for (size_t i = 0; got.ptr && i < got.len; i++)
        assert_int_equal(got.ptr[i], pattern(from + i));
}

static void big_head_grows_to_max(void **state)
{
    /* The buffer grows while the head does, keeps every byte, and stops at max with -ENOBUFS. */
    static char much[100000];
    size_t sent = 0;
    ssize_t got;

    (void)state;
    for (size_t i = 0; i < sizeof(much); i++)
        much[i] = pattern(i);
    do {
        ssize_t n = send(peer, much + sent, MIN(sizeof(much) - sent, (size_t)10000), MSG_NOSIGNAL);

        if (n > 0)
            sent += (size_t)n;
        sock.readable = true;
        got = sock_fill(&sock, 65536);
    } while (got > 0);
    assert_int_equal(got, -ENOBUFS);
    assert_int_equal(sock_input(&sock).len, 65536);
    assert_pattern(0);
    /* Room made at the front is found again. */
    sock_consume(&sock, 60000);
    assert_true(sock_fill(&sock, 65536) > 0);
    assert_pattern(60000);
}

static void no_memory(void **state)
{
    /* A heap that fails is told, loses nothing, and can be tried again. */
    static char much[LOOP_BLOCK_SIZE];

    (void)state;
    feed("abc", 3);
    heap_fault(1, 0);
    assert_int_equal(sock_fill(&sock, 65536), -ENOMEM);
    heap_fault(0, 0);
    assert_int_equal(sock_fill(&sock, 65536), 3);
    memset(much, 'x', sizeof(much));
    feed(much, sizeof(much));
    assert_int_equal(sock_fill(&sock, 65536), LOOP_BLOCK_SIZE - 3);
    heap_fault(1, 0);
    assert_int_equal(sock_fill(&sock, 65536), -ENOMEM);
    heap_fault(0, 0);
    assert_int_equal(sock_fill(&sock, 65536), 3);
    assert_int_equal(sock_input(&sock).len, LOOP_BLOCK_SIZE + 3);
    assert_memory_equal(sock_input(&sock).ptr, "abcxxx", 6);
}

static void block_is_taken(void **state)
{
    /* A head moves out with its block, its views stay; what came after it stays with the sock. */
    struct view head;
    uint32_t cap, cap2;
    char *block, *second;

    (void)state;
    feed("..headrest", 10);
    assert_int_equal(sock_fill(&sock, 32768), 10);
    sock_consume(&sock, 2);
    head = view_first(sock_input(&sock), 4);
    block = sock_take_block(&sock, 4, &cap);
    assert_non_null(block);
    assert_int_equal(cap, LOOP_BLOCK_SIZE);
    assert_true(head.ptr >= block && head.ptr < block + cap);
    assert_true(view_eq(head, VIEW("head")));
    assert_true(view_eq(sock_input(&sock), VIEW("rest")));
    feed("!", 1);
    assert_int_equal(sock_fill(&sock, 32768), 1);
    assert_true(view_eq(sock_input(&sock), VIEW("rest!")));
    heap_fault(1, 0);
    second = sock_take_block(&sock, 4, &cap2); /* needs another block for the "!" */
    heap_fault(0, 0);
    assert_null(second);
    assert_true(view_eq(sock_input(&sock), VIEW("rest!")));
    second = sock_take_block(&sock, 5, &cap2);
    assert_non_null(second);
    assert_null(sock.in);
    assert_true(view_eq(head, VIEW("head")));
    sock_block_free(loop, block, cap);
    sock_block_free(loop, second, cap2);
}

static void big_block_is_taken(void **state)
{
    /* The same for a grown buffer: it is the heap's and goes back there. */
    static char much[LOOP_BLOCK_SIZE + 100];
    uint32_t cap;
    char *block;

    (void)state;
    memset(much, 'y', sizeof(much));
    feed(much, sizeof(much));
    assert_int_equal(sock_fill(&sock, 65536), LOOP_BLOCK_SIZE);
    assert_int_equal(sock_fill(&sock, 65536), 100);
    block = sock_take_block(&sock, LOOP_BLOCK_SIZE, &cap);
    assert_non_null(block);
    assert_int_equal(cap, 2 * LOOP_BLOCK_SIZE);
    assert_int_equal(sock_input(&sock).len, 100);
    sock_block_free(loop, block, cap);
}

static void half_close(void **state)
{
    /* Bytes before the peer's end come first, then 0; our side still writes; the peer sees our end after it. */
    struct iovec iov[] = { { "by", 2 }, { "e", 1 } };
    char memory[8];

    (void)state;
    feed("last", 4);
    shutdown(peer, SHUT_WR);
    sock.hangup = true; /* what the loop would say */
    assert_int_equal(sock_fill(&sock, 32768), 4);
    assert_false(sock.eof);
    assert_int_equal(sock_fill(&sock, 32768), 0);
    assert_true(sock.eof);
    assert_true(view_eq(sock_input(&sock), VIEW("last")));
    assert_int_equal(sock_writev(&sock, iov, 2, false), 3);
    sock_shutdown_write(&sock);
    assert_int_equal(recv(peer, memory, sizeof(memory), 0), 3);
    assert_memory_equal(memory, "bye", 3);
    assert_int_equal(recv(peer, memory, sizeof(memory), 0), 0);
}

static void write_until_full(void **state)
{
    /* A full socket says -EAGAIN without asking the kernel again, and the loop wakes the task when there is room. */
    static char much[65536];
    struct iovec iov = { much, sizeof(much) };
    size_t sent = 0, read = 0;
    ssize_t n;

    (void)state;
    while ((n = sock_writev(&sock, &iov, 1, sent % 2)) > 0)
        sent += (size_t)n;
    assert_int_equal(n, -EAGAIN);
    assert_false(sock.writable);
    assert_int_equal(sock_writev(&sock, &iov, 1, false), -EAGAIN);
    while ((n = recv(peer, much, sizeof(much), 0)) > 0)
        read += (size_t)n;
    assert_int_equal(read, sent);
}

static void write_to_nobody(void **state)
{
    /* Writing to a closed peer is an error for good, without a signal. */
    struct iovec iov = { "x", 1 };

    (void)state;
    close(peer);
    peer = -1;
    assert_int_equal(sock_writev(&sock, &iov, 1, false), -EPIPE);
    assert_int_equal(sock_writev(&sock, &iov, 1, false), -EPIPE);
    assert_int_equal(sock.error, EPIPE);
}

static unsigned stage;
static size_t echoed;

static void follow(void)
{
    ssize_t n;

    while ((n = sock_fill(&sock, 32768)) > 0) {
        echoed += (size_t)n;
        sock_consume(&sock, (size_t)n);
    }
    if (n == -EAGAIN) {
        if (stage++ == 0)
            assert_int_equal(send(peer, "one", 3, 0), 3);
        else if (echoed == 3) {
            assert_int_equal(send(peer, "two!", 4, 0), 4);
            close(peer);
            peer = -1;
        }
        return;
    }
    assert_int_equal(n, 0);
    loop_stop(loop);
}

static void loop_tells(void **state)
{
    /* On a real loop every piece and the end arrive, each after a wake. */
    (void)state;
    stage = 0;
    echoed = 0;
    on_wake = follow;
    loop_run(loop);
    assert_int_equal(echoed, 7);
    assert_true(sock.eof && sock.hangup);
    assert_true(wakes >= 3);
}

static struct sock client;

static void connected(void)
{
    if (client.connecting)
        return;
    loop_stop(loop);
}

static void connect_decides(void **state)
{
    /* Connecting ends with an open sock, or with the error of a port where nobody listens. */
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    bool refuse = *state != NULL;
    int r;

    assert_int_equal(bind(listener, (struct sockaddr *)&address, len), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &len), 0);
    if (!refuse)
        assert_int_equal(listen(listener, 1), 0);
    on_wake = connected;
    r = sock_connect(&client, loop, (struct sockaddr *)&address, len, &task);
    if (r == 0) {
        assert_true(client.connecting);
        loop_run(loop);
        assert_int_equal(client.error, refuse ? ECONNREFUSED : 0);
        sock_close(&client);
        assert_false(sock_is_open(&client));
    } else {
        assert_true(refuse && r == -ECONNREFUSED);
    }
    close(listener);
}

static void reset_is_seen(void **state)
{
    /* sock_reset() is not mistaken for an end by the peer. */
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM, 0), fd = socket(AF_INET, SOCK_STREAM, 0), accepted;
    char c;

    (void)state;
    assert_int_equal(bind(listener, (struct sockaddr *)&address, len), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &len), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, len), 0);
    accepted = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    assert_int_equal(sock_open(&client, loop, accepted, &task), 0);
    sock_reset(&client);
    assert_int_equal(recv(fd, &c, 1, 0), -1);
    assert_int_equal(errno, ECONNRESET);
    close(fd);
    close(listener);
}

int main(void)
{
    static int yes = 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(fill_and_consume, set_up, tear_down),
        cmocka_unit_test_setup_teardown(read_takes_buffered_first, set_up, tear_down),
        cmocka_unit_test_setup_teardown(big_head_grows_to_max, set_up, tear_down),
        cmocka_unit_test_setup_teardown(no_memory, set_up, tear_down),
        cmocka_unit_test_setup_teardown(block_is_taken, set_up, tear_down),
        cmocka_unit_test_setup_teardown(big_block_is_taken, set_up, tear_down),
        cmocka_unit_test_setup_teardown(half_close, set_up, tear_down),
        cmocka_unit_test_setup_teardown(write_until_full, set_up, tear_down),
        cmocka_unit_test_setup_teardown(write_to_nobody, set_up, tear_down),
        cmocka_unit_test_setup_teardown(loop_tells, set_up, tear_down),
        cmocka_unit_test_setup_teardown(connect_decides, set_up, tear_down),
        cmocka_unit_test_prestate_setup_teardown(connect_decides, set_up, tear_down, &yes),
        cmocka_unit_test_setup_teardown(reset_is_seen, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
