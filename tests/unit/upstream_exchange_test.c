/* Exchanges with a scripted origin over loopback. */
#include "upstream_fixture.h"

#define GET "GET / HTTP/1.1\r\nHost: o\r\n\r\n"
#define POST_LEN(n) "POST / HTTP/1.1\r\nHost: o\r\nContent-Length: " #n "\r\n\r\n"
#define POST_CHUNKED "POST / HTTP/1.1\r\nHost: o\r\nTransfer-Encoding: chunked\r\n\r\n"

static struct client client;
static struct origin origin;
static struct upstream_stats stats;

static void options_for(struct upstream_options *options, char *url, size_t cap, const char **servers)
{
    snprintf(url, cap, "http://127.0.0.1:%u", origin.port);
    servers[0] = url;
    upstream_options_init(options);
    options->servers = servers;
    options->server_count = 1;
}

static void talk(const struct op *script, const struct call *calls, unsigned count)
{
    char url[64];
    const char *servers[1];
    struct upstream_options options;

    origin_start(&origin, script, NULL);
    options_for(&options, url, sizeof(url), servers);
    client_make(&client, &options, calls, count, &stats);
    origin_join(&origin);
}

/* One answer to one GET; says how it ended. */
static const struct result *answer(const char *response)
{
    const struct op script[] = {
        { OP_ACCEPT, NULL, 0 },
        { OP_READ_HEAD, NULL, 0 },
        { OP_SEND, response, 0 },
        { OP_END, NULL, 0 },
    };
    const struct call calls[] = { { .head = GET } };

    talk(script, calls, 1);
    return &client.results[0];
}

static void test_reuse(void **state)
{
    /* Two complete exchanges share one connection; the second one says so. */
    const struct op script[] = {
        { OP_ACCEPT, NULL, 0 },
        { OP_READ_HEAD, NULL, 0 },
        { OP_SEND, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 0 },
        { OP_READ_HEAD, NULL, 0 },
        { OP_SEND, "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", 0 },
        { OP_READ_EOF, NULL, 0 },
        { OP_END, NULL, 0 },
    };
    const struct call calls[] = { { .head = GET }, { .head = GET } };

    (void)state;
    talk(script, calls, 2);
    assert_int_equal(origin.accepted, 1);
    assert_int_equal(client.results[0].status, 200);
    assert_string_equal(client.results[0].body, "hello");
    assert_false(client.results[0].timing.reused);
    assert_int_equal(client.results[1].status, 404);
    assert_true(client.results[1].timing.reused);
    assert_int_equal(stats.connects, 1);
    assert_int_equal(stats.reuses, 1);
    assert_int_equal(stats.idle, 1);
    assert_int_equal(stats.active, 0);
    assert_int_equal(stats.bytes_in, 5);
    assert_string_equal(origin.got, GET GET);
}

static void test_large_body(void **state)
{
    /* A body much larger than every buffer arrives whole, and the connection is kept. */
    const struct op script[] = {
        { OP_ACCEPT, NULL, 0 },
        { OP_READ_HEAD, NULL, 0 },
        { OP_SEND, "HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n", 0 },
        { OP_FILL, NULL, 3000000 },
        { OP_READ_HEAD, NULL, 0 },
        { OP_SEND, "HTTP/1.1 204 None\r\n\r\n", 0 },
        { OP_END, NULL, 0 },
    };
    const struct call calls[] = { { .head = GET }, { .head = GET } };

    (void)state;
    talk(script, calls, 2);
    assert_int_equal(client.results[0].body_len, 3000000);
    assert_int_equal(client.results[1].status, 204);
    assert_int_equal(origin.accepted, 1);
}

static void test_chunked(void **state)
{
    /* Chunks of all sizes are decoded, trailers kept, and the connection stays in step for the next request. */
    const struct op script[] = {
        { OP_ACCEPT, NULL, 0 },
        { OP_READ_HEAD, NULL, 0 },
        { OP_SEND, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1;x=y\r\n \r\n30d40\r\n", 0 },
        { OP_FILL, NULL, 200000 },
        { OP_SEND, "\r\n0\r\nX-Sum: 1\r\n\r\n", 0 },
        { OP_READ_HEAD, NULL, 0 },
        { OP_SEND, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 0 },
        { OP_READ_EOF, NULL, 0 },
        { OP_END, NULL, 0 },
    };
    const struct call calls[] = { { .head = GET }, { .head = GET } };

    (void)state;
    talk(script, calls, 2);
    assert_int_equal(client.results[0].error, EXCHANGE_OK);
    assert_int_equal(client.results[0].body_len, 200006);
    assert_memory_equal(client.results[0].body, "hello xxx", 9);
    assert_string_equal(client.results[0].trailers, "X-Sum: 1\r\n");
    assert_string_equal(client.results[1].body, "ok");
    assert_int_equal(origin.accepted, 1);
}

static void test_body_until_close(void **state)
{
    /* Without a length the body ends with the connection. */
    const struct result *r = answer("HTTP/1.0 200 OK\r\n\r\nall of it");

    (void)state;
    assert_int_equal(r->error, EXCHANGE_OK);
    assert_string_equal(r->body, "all of it");
    assert_int_equal(stats.idle, 0);
}

static void test_short_body(void **state)
{
    /* A body that ends before its length, or before its last chunk, is an error and never a success. */
    const struct result *r = answer("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");

    (void)state;
    assert_int_equal(r->error, EXCHANGE_RESPONSE_INCOMPLETE);
    assert_true(r->body_broken);
    assert_int_equal(r->status, 200);
    assert_string_equal(r->body, "hello");
    r = answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    assert_int_equal(r->error, EXCHANGE_RESPONSE_INCOMPLETE);
    r = answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n");
    assert_int_equal(r->error, EXCHANGE_TRANSFER_CODING);
    r = answer("HTTP/1.1 200 OK\r\nContent-");
    assert_int_equal(r->error, EXCHANGE_RESPONSE_INCOMPLETE);
    assert_int_equal(r->status, 0);
    assert_int_equal(stats.failures[EXCHANGE_RESPONSE_INCOMPLETE], 1);
}

static void test_garbage(void **state)
{
    /* What is not HTTP/1.1, or could be read in two ways, is refused with the right name. */
    (void)state;
    assert_int_equal(answer("SSH-2.0-OpenSSH\r\n\r\n")->error, EXCHANGE_PROTOCOL_ERROR);
    assert_int_equal(answer("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n")->error,
                     EXCHANGE_PROTOCOL_ERROR);
    assert_int_equal(answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n")->error,
                     EXCHANGE_TRANSFER_CODING);
    assert_int_equal(answer("HTTP/1.1 101 Switching\r\n\r\n")->error, EXCHANGE_PROTOCOL_ERROR);
}

static void test_extra_bytes(void **state)
{
    /* Bytes behind the body never become the answer to the next request: the connection is given up. */
    const struct op script[] = {
        { OP_ACCEPT, NULL, 0 },
        { OP_READ_HEAD, NULL, 0 },
        { OP_SEND, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
          0 },
        { OP_ACCEPT, NULL, 0 },
        { OP_READ_HEAD, NULL, 0 },
        { OP_SEND, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood", 0 },
        { OP_END, NULL, 0 },
    };
    const struct call calls[] = { { .head = GET }, { .head = GET } };

    (void)state;
    talk(script, calls, 2);
    assert_string_equal(client.results[0].body, "ok");
    assert_string_equal(client.results[1].body, "good");
    assert_false(client.results[1].timing.reused);
}

static void test_head_and_304(void **state)
{
    /* HEAD and 304 have no body whatever their Content-Length says, and keep the connection. */
    const struct op script[] = {
        { OP_ACCEPT, NULL, 0 },
        { OP_READ_HEAD, NULL, 0 },
        { OP_SEND, "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n", 0 },
        { OP_READ_HEAD, NULL, 0 },
        { OP_SEND, "HTTP/1.1 304 Same\r\nContent-Length: 5000\r\n\r\n", 0 },
        { OP_READ_EOF, NULL, 0 },
        { OP_END, NULL, 0 },
    };
    const struct call calls[] = { { .head = "HEAD / HTTP/1.1\r\nHost: o\r\n\r\n", .method = METHOD_HEAD },
                                  { .head = GET } };

    (void)state;
    talk(script, calls, 2);
    assert_int_equal(client.results[0].status, 200);
    assert_int_equal(client.results[1].status, 304);
    assert_int_equal(origin.accepted, 1);
}

static void test_interim(void **state)
{
    /* Every 1xx head is shown in order with its fields; without the wish they pass unseen. */
    const struct op script[] = {
        { OP_ACCEPT, NULL, 0 },
        { OP_READ_HEAD, NULL, 0 },
        { OP_SEND,
          "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 P\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
          0 },
        { OP_READ_HEAD, NULL, 0 },
        { OP_SEND, "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nho", 0 },
        { OP_READ_EOF, NULL, 0 },
        { OP_END, NULL, 0 },
    };
    const struct call calls[] = { { .head = GET, .want_interim = true }, { .head = GET } };

    (void)state;
    talk(script, calls, 2);
    assert_string_equal(client.results[0].interim,
                        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 P\r\n\r\n");
    assert_string_equal(client.results[0].body, "hi");
    assert_int_equal(client.results[1].interim_len, 0);
    assert_string_equal(client.results[1].body, "ho");
}

static void test_request_bodies(void **state)
{
    /* Bodies with a length and chunked ones, in pieces and with trailers, arrive as they should. */
    const struct op script[] = {
        { OP_ACCEPT, NULL, 0 },
        { OP_READ_UNTIL, "body1", 0 },
        { OP_SEND, "HTTP/1.1 201 A\r\nContent-Length: 0\r\n\r\n", 0 },
        { OP_READ_UNTIL, "T: 1\r\n\r\n", 0 },
        { OP_SEND, "HTTP/1.1 202 B\r\nContent-Length: 0\r\n\r\n", 0 },
        { OP_READ_EOF, NULL, 0 },
        { OP_END, NULL, 0 },
    };
    const struct call calls[] = {
        { .head = POST_LEN(5), .body = "body1", .method = METHOD_POST, .kind = BODY_LENGTH, .piece = 2 },
        { .head = POST_CHUNKED,
          .body = "helloworld",
          .trailers = "T: 1\r\n",
          .method = METHOD_POST,
          .kind = BODY_CHUNKED,
          .piece = 5 },
    };

    (void)state;
    talk(script, calls, 2);
    assert_int_equal(client.results[0].status, 201);
    assert_int_equal(client.results[1].status, 202);
    assert_int_equal(origin.accepted, 1);
    assert_string_equal(origin.got, POST_LEN(5) "body1" POST_CHUNKED "5\r\nhello\r\n5\r\nworld\r\n0\r\nT: 1\r\n\r\n");
}

static void test_early_answer(void **state)
{
    /* An origin that refuses in the middle of a large upload is heard, and its connection is not used again. */
    static char body[4000001];
    const struct op script[] = {
        { OP_ACCEPT, NULL, 0 },
        { OP_READ_HEAD, NULL, 0 },
        { OP_SEND, "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno", 0 },
        { OP_ACCEPT, NULL, 0 },
        { OP_READ_HEAD, NULL, 0 },
        { OP_SEND, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 0 },
        { OP_END, NULL, 0 },
    };
    const struct call calls[] = {
        { .head = POST_LEN(4000000), .body = body, .method = METHOD_POST, .kind = BODY_LENGTH },
        { .head = GET },
    };

    (void)state;
    memset(body, 'b', sizeof(body) - 1);
    talk(script, calls, 2);
    assert_int_equal(client.results[0].status, 413);
    assert_string_equal(client.results[0].body, "no");
    assert_int_equal(client.results[1].status, 200);
    assert_false(client.results[1].timing.reused);
}

/* The first exchange leaves an idle connection; the second finds it, and the origin drops it when the request comes. */
static void drop_reused(const struct call *second, const char *late)
{
    const struct op script[] = {
        { OP_ACCEPT, NULL, 0 },
        { OP_READ_HEAD, NULL, 0 },
        { OP_SEND, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 0 },
        { OP_READ_HEAD, NULL, 0 },
        { OP_SEND, late, 0 },
        { OP_CLOSE, NULL, 0 },
        { second->replayable && !*late ? OP_ACCEPT : OP_END, NULL, 0 },
        { OP_READ_HEAD, NULL, 0 },
        { OP_SEND, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nagain", 0 },
        { OP_END, NULL, 0 },
    };
    const struct call calls[] = { { .head = GET }, *second };

    talk(script, calls, 2);
}

static void test_retry_on_reused(void **state)
{
    /* A replayable request on a reused connection that closes without a byte is sent once more, unseen by the owner. */
    const struct call get = { .head = GET, .replayable = true };

    (void)state;
    drop_reused(&get, "");
    assert_int_equal(client.results[1].error, EXCHANGE_OK);
    assert_string_equal(client.results[1].body, "again");
    assert_int_equal(stats.retries, 1);
    assert_int_equal(origin.accepted, 2);
}

static void test_no_retry(void **state)
{
    /* POST is never sent twice; nor is anything once a byte of the answer came. */
    const struct call post = { .head = POST_LEN(2), .body = "ab", .method = METHOD_POST, .kind = BODY_LENGTH };
    const struct call get = { .head = GET, .replayable = true };

    (void)state;
    drop_reused(&post, "");
    assert_int_equal(client.results[1].error, EXCHANGE_CONNECTION_TERMINATED);
    assert_int_equal(stats.retries, 0);
    drop_reused(&get, "H");
    assert_int_equal(client.results[1].error, EXCHANGE_RESPONSE_INCOMPLETE);
    assert_int_equal(stats.retries, 0);
}

static void test_fresh_close_is_final(void **state)
{
    /* A fresh connection that closes after the request may have acted on it: no retry. */
    const struct op script[] = {
        { OP_ACCEPT, NULL, 0 },
        { OP_READ_HEAD, NULL, 0 },
        { OP_RESET, NULL, 0 },
        { OP_END, NULL, 0 },
    };
    const struct call calls[] = { { .head = GET, .replayable = true } };

    (void)state;
    talk(script, calls, 1);
    assert_int_equal(client.results[0].error, EXCHANGE_CONNECTION_TERMINATED);
    assert_int_equal(stats.retries, 0);
}

static uint16_t closed_port(void)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    getsockname(fd, (struct sockaddr *)&address, &len);
    close(fd);
    return ntohs(address.sin_port);
}

static void test_refused(void **state)
{
    /* A lone origin that refuses is tried once more, then the failure has its name and status. */
    char url[64];
    const char *servers[1] = { url };
    struct upstream_options options;
    const struct call calls[] = { { .head = POST_LEN(1), .body = "x", .method = METHOD_POST, .kind = BODY_LENGTH } };

    (void)state;
    snprintf(url, sizeof(url), "http://127.0.0.1:%u", closed_port());
    upstream_options_init(&options);
    options.servers = servers;
    options.server_count = 1;
    client_make(&client, &options, calls, 1, &stats);
    assert_int_equal(client.results[0].error, EXCHANGE_CONNECTION_REFUSED);
    assert_int_equal(client.results[0].timing.attempts, 2);
    assert_int_equal(stats.connect_failures, 2);
    assert_int_equal(stats.active, 0);
    assert_int_equal(exchange_error_status(EXCHANGE_CONNECTION_REFUSED), 502);
    assert_int_equal(exchange_error_token(EXCHANGE_CONNECTION_REFUSED).len, strlen("connection_refused"));
}

static void test_next_server(void **state)
{
    /* When one server refuses, the next one is asked, also for POST: nothing had been sent. */
    char dead[64], url[64];
    const char *servers[2];
    struct upstream_options options;
    const struct op script[] = {
        { OP_ACCEPT, NULL, 0 },
        { OP_READ_UNTIL, "x", 0 },
        { OP_SEND, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 0 },
        { OP_END, NULL, 0 },
    };
    const struct call calls[] = { { .head = POST_LEN(1), .body = "x", .method = METHOD_POST, .kind = BODY_LENGTH } };

    (void)state;
    origin_start(&origin, script, NULL);
    options_for(&options, url, sizeof(url), &servers[1]);
    snprintf(dead, sizeof(dead), "http://127.0.0.1:%u", closed_port());
    servers[0] = dead;
    options.servers = servers;
    options.server_count = 2;
    client_make(&client, &options, calls, 1, &stats);
    origin_join(&origin);
    assert_int_equal(client.results[0].status, 200);
    assert_int_equal(client.results[0].timing.server, 1);
    assert_int_equal(stats.connect_failures, 1);
}

static void test_localhost(void **state)
{
    /* "localhost" is found without a name server, whatever family it answers on. */
    char url[64];
    const char *servers[1];
    struct upstream_options options;
    const struct op script[] = {
        { OP_ACCEPT, NULL, 0 },
        { OP_READ_HEAD, NULL, 0 },
        { OP_SEND, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 0 },
        { OP_END, NULL, 0 },
    };
    const struct call calls[] = { { .head = GET } };

    (void)state;
    origin_start(&origin, script, NULL);
    options_for(&options, url, sizeof(url), servers);
    snprintf(url, sizeof(url), "http://localhost:%u", origin.port);
    client_make(&client, &options, calls, 1, &stats);
    origin_join(&origin);
    assert_int_equal(client.results[0].status, 200);
}

static void test_timeouts(void **state)
{
    /* An origin that accepts and says nothing is given up with http_response_timeout; one that stops in the middle of a
     * body with connection_read_timeout. */
    char url[64];
    const char *servers[1];
    struct upstream_options options;
    const struct op script[] = {
        { OP_ACCEPT, NULL, 0 },    { OP_READ_HEAD, NULL, 0 },
        { OP_READ_EOF, NULL, 0 },  { OP_ACCEPT, NULL, 0 },
        { OP_READ_HEAD, NULL, 0 }, { OP_SEND, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", 0 },
        { OP_READ_EOF, NULL, 0 },  { OP_END, NULL, 0 },
    };
    const struct call calls[] = { { .head = GET, .replayable = true }, { .head = GET } };

    (void)state;
    origin_start(&origin, script, NULL);
    options_for(&options, url, sizeof(url), servers);
    options.timeouts.first_byte_ms = options.timeouts.idle_ms = 30;
    client_make(&client, &options, calls, 2, &stats);
    origin_join(&origin);
    assert_int_equal(client.results[0].error, EXCHANGE_RESPONSE_TIMEOUT);
    assert_int_equal(client.results[1].error, EXCHANGE_CONNECTION_READ_TIMEOUT);
    assert_string_equal(client.results[1].body, "abc");
    assert_int_equal(exchange_error_status(EXCHANGE_RESPONSE_TIMEOUT), 504);
}

static void test_tunnel(void **state)
{
    /* After 101 the socket is the owner's, with the bytes that came along with the head. */
    const struct op script[] = {
        { OP_ACCEPT, NULL, 0 },
        { OP_READ_HEAD, NULL, 0 },
        { OP_SEND, "HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nfirst", 0 },
        { OP_READ_UNTIL, "first", 0 },
        { OP_SEND, "second", 0 },
        { OP_READ_UNTIL, "second", 0 },
        { OP_END, NULL, 0 },
    };
    const struct call calls[] = { { .head = "GET / HTTP/1.1\r\nHost: o\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
                                    .upgrade = true } };

    (void)state;
    talk(script, calls, 1);
    assert_int_equal(client.results[0].status, 101);
    assert_string_equal(client.results[0].body, "firstsecond");
    assert_int_equal(stats.active, 0);
}

static void test_leave_early(void **state)
{
    /* An owner that leaves before the end of the body costs the connection, never the next exchange. */
    const struct op script[] = {
        { OP_ACCEPT, NULL, 0 },
        { OP_READ_HEAD, NULL, 0 },
        { OP_SEND, "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nab", 0 },
        { OP_ACCEPT, NULL, 0 },
        { OP_READ_HEAD, NULL, 0 },
        { OP_SEND, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 0 },
        { OP_END, NULL, 0 },
    };
    const struct call calls[] = { { .head = GET, .leave_early = true }, { .head = GET } };

    (void)state;
    talk(script, calls, 2);
    assert_string_equal(client.results[1].body, "ok");
    assert_false(client.results[1].timing.reused);
}

static void test_deadline(void **state)
{
    /* No phase outlives the owner's deadline, and that is not held against the server; one that is over sends nothing. */
    const struct op script[] = {
        { OP_ACCEPT, NULL, 0 },
        { OP_READ_HEAD, NULL, 0 },
        { OP_READ_EOF, NULL, 0 },
        { OP_END, NULL, 0 },
    };
    const struct call calls[] = { { .head = GET, .deadline_in = 30 }, { .head = GET, .deadline_in = -5 } };

    (void)state;
    talk(script, calls, 2);
    assert_int_equal(client.results[0].error, EXCHANGE_RESPONSE_TIMEOUT);
    assert_int_equal(client.results[1].error, EXCHANGE_RESPONSE_TIMEOUT);
    assert_int_equal(client.results[1].timing.attempts, 0);
    assert_int_equal(client.server.breaker.consecutive, 0);
    assert_int_equal(client.server.in_flight, 0);
}

static void test_breaker_counts(void **state)
{
    /* What counts as a failure: a cut answer, a cut body, a 503. A good answer and one that was given up do not. */
    const struct op script[] = {
        { OP_ACCEPT, NULL, 0 },
        { OP_READ_HEAD, NULL, 0 },
        { OP_SEND, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", 0 },
        { OP_READ_EOF, NULL, 0 },
        { OP_ACCEPT, NULL, 0 },
        { OP_READ_HEAD, NULL, 0 },
        { OP_CLOSE, NULL, 0 },
        { OP_ACCEPT, NULL, 0 },
        { OP_READ_HEAD, NULL, 0 },
        { OP_SEND, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", 0 },
        { OP_CLOSE, NULL, 0 },
        { OP_ACCEPT, NULL, 0 },
        { OP_READ_HEAD, NULL, 0 },
        { OP_SEND, "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", 0 },
        { OP_READ_EOF, NULL, 0 },
        { OP_END, NULL, 0 },
    };
    const struct call calls[] = {
        { .head = GET, .leave_early = true }, { .head = GET }, { .head = GET }, { .head = GET }
    };

    (void)state;
    talk(script, calls, 4);
    assert_int_equal(client.results[3].status, 503);
    assert_int_equal(client.server.breaker.consecutive, 3);
    assert_int_equal(client.server.in_flight, 0);
}

static void test_breaker_opens(void **state)
{
    /* An open breaker fails the exchange without a connection: destination_unavailable, 503. */
    const struct op script[] = {
        { OP_ACCEPT, NULL, 0 },    { OP_READ_HEAD, NULL, 0 }, { OP_RESET, NULL, 0 }, { OP_ACCEPT, NULL, 0 },
        { OP_READ_HEAD, NULL, 0 }, { OP_RESET, NULL, 0 },     { OP_END, NULL, 0 },
    };
    const struct call calls[] = { { .head = GET }, { .head = GET }, { .head = GET } };
    char url[64];
    const char *servers[1];
    struct upstream_options options;

    (void)state;
    origin_start(&origin, script, NULL);
    options_for(&options, url, sizeof(url), servers);
    options.breaker.failures = 2;
    client_make(&client, &options, calls, 3, &stats);
    origin_join(&origin);
    assert_int_equal(client.results[2].error, EXCHANGE_DESTINATION_UNAVAILABLE);
    assert_int_equal(client.results[2].timing.attempts, 0);
    assert_int_equal(exchange_error_status(EXCHANGE_DESTINATION_UNAVAILABLE), 503);
    assert_int_equal(client.server.breaker.state, BREAKER_OPEN);
    assert_int_equal(origin.accepted, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reuse),         cmocka_unit_test(test_large_body),
        cmocka_unit_test(test_chunked),       cmocka_unit_test(test_body_until_close),
        cmocka_unit_test(test_short_body),    cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_extra_bytes),   cmocka_unit_test(test_head_and_304),
        cmocka_unit_test(test_interim),       cmocka_unit_test(test_request_bodies),
        cmocka_unit_test(test_early_answer),  cmocka_unit_test(test_retry_on_reused),
        cmocka_unit_test(test_no_retry),      cmocka_unit_test(test_fresh_close_is_final),
        cmocka_unit_test(test_refused),       cmocka_unit_test(test_next_server),
        cmocka_unit_test(test_localhost),     cmocka_unit_test(test_timeouts),
        cmocka_unit_test(test_tunnel),        cmocka_unit_test(test_leave_early),
        cmocka_unit_test(test_deadline),      cmocka_unit_test(test_breaker_counts),
        cmocka_unit_test(test_breaker_opens),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
