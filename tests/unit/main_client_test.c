#include "main/client.h"

#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

/* A server that answers one connection with fixed bytes and keeps what it was sent. */
struct server {
    int listener;
    const char *answer;
    char request[4096], address[32];
    pthread_t thread;
};

static void *serve(void *arg)
{
    struct server *server = arg;
    int fd = accept(server->listener, NULL, NULL);
    size_t len = 0;
    ssize_t n;

    while ((n = recv(fd, server->request + len, sizeof(server->request) - 1 - len, 0)) > 0) {
        len += (size_t)n;
        if (len >= 4 && memcmp(server->request + len - 4, "\r\n\r\n", 4) == 0)
            break;
    }
    assert_int_equal(send(fd, server->answer, strlen(server->answer), MSG_NOSIGNAL), strlen(server->answer));
    close(fd);
    return NULL;
}

static void start(struct server *server, const char *answer)
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof(at);

    memset(server, 0, sizeof(*server));
    server->answer = answer;
    server->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(server->listener, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(server->listener, 1), 0);
    getsockname(server->listener, (struct sockaddr *)&at, &len);
    snprintf(server->address, sizeof(server->address), "127.0.0.1:%u", ntohs(at.sin_port));
    assert_int_equal(pthread_create(&server->thread, NULL, serve, server), 0);
}

static void stop(struct server *server)
{
    pthread_join(server->thread, NULL);
    close(server->listener);
}

static int ask(struct server *server, const char *answer, const char *token, struct client_reply *ret)
{
    struct client client;
    int r;

    start(server, answer);
    unsetenv("DOORSTEP_ADMIN");
    setenv("DOORSTEP_ADMIN_TOKEN", token, 1);
    client_init(&client, "test");
    client.admin = server->address;
    r = client_ask(&client, "GET", VIEW("/top"), ret);
    stop(server);
    return r;
}

/* Bodies with a length, in chunks, or until the end are all read whole; the token goes along when there is one. */
static void bodies_are_read_whole(void **state)
{
    static const char *const answers[] = {
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\nhello",
    };
    struct client_reply reply;
    struct server server;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
        assert_int_equal(ask(&server, answers[i], i ? "s3cret" : "", &reply), 0);
        assert_int_equal(reply.status, 200);
        assert_true(view_eq(reply.body, VIEW("hello")));
        assert_int_equal(strstr(server.request, "Authorization: Bearer s3cret\r\n") != NULL, i > 0);
        assert_memory_equal(server.request, "GET /top HTTP/1.1\r\nHost: ", 25);
        client_reply_free(&reply);
    }
}

/* An answer that is cut short, or is not HTTP, is an error and not half an answer. */
static void broken_answers_are_refused(void **state)
{
    static const char *const answers[] = {
        "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        "SSH-2.0-OpenSSH\r\n",
        "",
    };
    struct client_reply reply;
    struct server server;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(answers); i++)
        assert_int_equal(ask(&server, answers[i], "", &reply), -1);
}

/* Where nobody listens the command says so and fails. */
static void nobody_listening_is_an_error(void **state)
{
    struct client client;
    struct client_reply reply;

    (void)state;
    client_init(&client, "test");
    client.admin = "unix:/nonexistent/doorstep.sock";
    assert_int_equal(client_ask(&client, "GET", VIEW("/top"), &reply), -1);
    client.admin = "not an address";
    assert_int_equal(client_ask(&client, "GET", VIEW("/top"), &reply), -1);
}

/* Options are taken in both spellings; a missing value is an error. */
static void options_are_taken(void **state)
{
    char *argv[] = { (char *)(uintptr_t) "x",      (char *)(uintptr_t) "--admin=a:1", (char *)(uintptr_t) "--admin",
                     (char *)(uintptr_t) "b:2",    (char *)(uintptr_t) "--json",      (char *)(uintptr_t) "--adminx",
                     (char *)(uintptr_t) "--admin" };
    struct client client;
    int at = 1;

    (void)state;
    client_init(&client, "test");
    assert_int_equal(client_option(&client, 7, argv, &at), 1);
    assert_string_equal(client.admin, "a:1");
    at = 2;
    assert_int_equal(client_option(&client, 7, argv, &at), 1);
    assert_int_equal(at, 3);
    assert_string_equal(client.admin, "b:2");
    at = 4;
    assert_int_equal(client_option(&client, 7, argv, &at), 1);
    assert_true(client.json);
    at = 5;
    assert_int_equal(client_option(&client, 7, argv, &at), 0);
    at = 6;
    assert_int_equal(client_option(&client, 7, argv, &at), -1);
}

/* A URL survives being a query parameter. */
static void urls_are_encoded(void **state)
{
    char memory[128];
    struct text out = TEXT_ON(memory);

    (void)state;
    client_encode(&out, VIEW("http://h/a b?x=1&y=%41+\xc3\xa9#"));
    assert_string_equal(text_str(&out), "http://h/a%20b%3Fx%3D1%26y%3D%2541%2B%C3%A9%23");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bodies_are_read_whole),
        cmocka_unit_test(broken_answers_are_refused),
        cmocka_unit_test(nobody_listening_is_an_error),
        cmocka_unit_test(options_are_taken),
        cmocka_unit_test(urls_are_encoded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
