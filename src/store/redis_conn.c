/* The way to a usable connection, step by step, and the replies that come over it.
 *
 *   resolve -> connect (each address in turn) -> TLS -> HELLO 3 [AUTH] -> [AUTH] -> [SELECT] -> ready
 *
 * A server that does not know HELLO (Redis before 6, proxies) is spoken to in RESP2. A server that refuses our password or
 * database is left: what it would do without either is not what was configured. One timer bounds the whole way, anew for each
 * address. */
#include "store/redis_conn.h"

#include "base/check.h"
#include "base/heap.h"

#include <errno.h>
#include <stddef.h>

#define GREETING_REPLY_MAX ((size_t)64 * 1024)
/* Room behind the longest reply, so that the socket's buffer is never the limit. */
#define INPUT_SLACK ((size_t)64 * 1024)

static const struct resp_limits greeting_limits = { GREETING_REPLY_MAX, 1024, 4 };

/* ---- replies ---- */

int redis_reply_new(struct view bytes, const struct resp_limits *limits, struct redis_reply **ret)
{
    struct redis_reply *reply = heap_alloc(sizeof(*reply) + bytes.len);
    int r;

    if (!reply)
        return -ENOMEM;
    memcpy(reply->bytes, bytes.ptr, bytes.len);
    arena_init(&reply->arena, NULL, 0, limits->elements * sizeof(struct resp_value) + INPUT_SLACK);
    r = resp_build(view_make(reply->bytes, bytes.len), limits, &reply->arena, &reply->value);
    if (r < 0) {
        redis_reply_free(reply);
        return r;
    }
    *ret = reply;
    return 0;
}

void redis_reply_free(struct redis_reply *reply)
{
    if (!reply)
        return;
    arena_release(&reply->arena);
    heap_free(reply);
}

int redis_target_parse(struct view text, const char *fallback, struct redis_target *ret)
{
    size_t colon = text.len;
    uint64_t port;
    struct view host;
    char *copy;

    while (colon > 0 && text.ptr[colon - 1] != ':')
        colon--;
    if (colon == 0 || !view_parse_u64(view_skip(text, colon), &port) || port == 0 || port > UINT16_MAX)
        return -EBADMSG;
    host = view_first(text, colon - 1);
    if (host.len >= 2 && host.ptr[0] == '[' && host.ptr[host.len - 1] == ']')
        host = view_make(host.ptr + 1, host.len - 2);
    if (host.len == 0 || view_eq(host, VIEW("?")))
        host = view_str(fallback);
    if (host.len == 0 || host.len > 255 || memchr(host.ptr, '\0', host.len))
        return -EBADMSG;
    copy = heap_strdup(host.ptr, host.len);
    if (!copy)
        return -ENOMEM;
    *ret = (struct redis_target){ .host = copy, .port = (uint16_t)port };
    return 0;
}

/* ---- life ---- */

void redis_conn_init(struct redis_conn *conn, const struct redis_access *access, const struct redis_target *target,
                     struct task *task)
{
    *conn = (struct redis_conn){ .sock = { .io.fd = -1 }, .access = access, .target = target, .task = task };
    conn->loop = task->loop;
    list_init(&conn->dns.link);
    conn->dns.task = task;
    timer_init(&conn->timer, task);
}

void redis_conn_start(struct redis_conn *conn)
{
    CHECK(conn->step == CONN_CLOSED);
    conn->step = conn->target->port ? CONN_RESOLVE : CONN_CONNECT;
    conn->addresses.count = conn->address = 0;
    conn->is_cluster = false;
    timer_set(&conn->timer, conn->access->connect_timeout_ms);
}

void redis_conn_close(struct redis_conn *conn)
{
    dns_cancel(&conn->dns);
    timer_clear(&conn->timer);
    sock_close(&conn->sock);
    conn->sock = (struct sock){ .io.fd = -1 };
    heap_free(conn->greeting);
    conn->greeting = NULL;
    conn->greeting_len = conn->greeting_sent = 0;
    conn->scan = (struct resp_scan){ 0 };
    conn->hint = 0;
    conn->step = CONN_CLOSED;
}

void redis_conn_release(struct redis_conn *conn)
{
    redis_conn_close(conn);
    tls_session_clear(&conn->session);
}

/* ---- getting through ---- */

/* The address that answered last goes first: no attempt is wasted on one that is dead. */
static void put_preferred_first(struct dns_answer *answer, const struct address *preferred)
{
    for (unsigned i = 1; i < answer->count && preferred->len; i++) {
        if (address_eq(&answer->list[i], preferred)) {
            struct address first = answer->list[0];

            answer->list[0] = answer->list[i];
            answer->list[i] = first;
            return;
        }
    }
}

static int step_resolve(struct redis_conn *conn)
{
    int r = dns_lookup(conn->loop, view_str(conn->target->host), conn->target->port, &conn->dns, &conn->addresses);

    if (r < 0)
        return r;
    put_preferred_first(&conn->addresses, &conn->preferred);
    conn->step = CONN_CONNECT;
    return 0;
}

static int local_address(const char *path, struct address *ret)
{
    size_t len = strlen(path);

    if (len >= sizeof(ret->is.local.sun_path))
        return -EINVAL;
    *ret = (struct address){ .len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + 1) };
    ret->is.local.sun_family = AF_UNIX;
    memcpy(ret->is.local.sun_path, path, len + 1);
    return 0;
}

static int queue_greeting(struct redis_conn *conn, enum redis_conn_step step, const struct view *args, unsigned count)
{
    size_t len = resp_command_len(args, count);
    struct text text = text_make(heap_alloc(len), len);

    if (!text.ptr)
        return -ENOMEM;
    resp_put_command(&text, args, count);
    heap_free(conn->greeting);
    conn->greeting = text.ptr;
    conn->greeting_len = len;
    conn->greeting_sent = 0;
    conn->step = step;
    return 0;
}

static int queue_hello(struct redis_conn *conn)
{
    const struct redis_access *access = conn->access;
    struct view user = access->user.len ? access->user : VIEW("default");
    struct view args[] = { VIEW("HELLO"), VIEW("3"), VIEW("AUTH"), user, access->password };

    return queue_greeting(conn, CONN_HELLO, args, access->password.len ? 5 : 2);
}

static int queue_auth(struct redis_conn *conn)
{
    const struct redis_access *access = conn->access;
    struct view args[] = { VIEW("AUTH"), access->user, access->password };

    if (access->user.len)
        return queue_greeting(conn, CONN_AUTH, args, 3);
    args[1] = access->password;
    return queue_greeting(conn, CONN_AUTH, args, 2);
}

static int ready(struct redis_conn *conn)
{
    conn->preferred = conn->addresses.list[conn->address];
    conn->step = CONN_READY;
    timer_clear(&conn->timer);
    return 0;
}

/* Credentials are through. */
static int queue_select(struct redis_conn *conn)
{
    char memory[16];
    struct text number = TEXT_ON(memory);
    struct view args[] = { VIEW("SELECT"), VIEW_NONE };

    if (conn->access->database == 0)
        return ready(conn);
    text_u64(&number, conn->access->database);
    args[1] = text_view(&number);
    return queue_greeting(conn, CONN_SELECT, args, 2);
}

static int connected(struct redis_conn *conn)
{
    const struct redis_access *access = conn->access;
    const char *name = access->tls_name ? access->tls_name : conn->target->host;

    if (!access->tls)
        return queue_hello(conn);
    conn->step = CONN_TLS;
    return tls_client_new(&conn->sock.tls, access->tls, conn->sock.io.fd, name, &conn->session);
}

/* Every address once. */
static int connect_failed(struct redis_conn *conn, int r)
{
    sock_close(&conn->sock);
    conn->sock = (struct sock){ .io.fd = -1 };
    return ++conn->address < conn->addresses.count ? 0 : r;
}

static int step_connect(struct redis_conn *conn)
{
    struct address *address = &conn->addresses.list[conn->address];
    int r;

    if (!sock_is_open(&conn->sock)) {
        if (conn->target->port == 0) {
            conn->addresses.count = 1;
            r = local_address(conn->target->host, address);
            if (r < 0)
                return r;
        }
        r = sock_connect(&conn->sock, conn->loop, &address->is.any, address->len, conn->task);
        if (r < 0)
            return connect_failed(conn, r);
    }
    if (conn->sock.connecting)
        return -EAGAIN;
    return conn->sock.error ? connect_failed(conn, -conn->sock.error) : connected(conn);
}

static int step_tls(struct redis_conn *conn)
{
    int r = tls_handshake(conn->sock.tls);

    if (r < 0)
        return r;
    /* What came with the last flight is in the TLS layer or still in the kernel; no edge will announce it. */
    conn->sock.readable = conn->sock.writable = true;
    return queue_hello(conn);
}

/* ---- greeting ---- */

static int flush_greeting(struct redis_conn *conn)
{
    while (conn->greeting_sent < conn->greeting_len) {
        struct iovec iov = { conn->greeting + conn->greeting_sent, conn->greeting_len - conn->greeting_sent };
        ssize_t sent = sock_writev(&conn->sock, &iov, 1, false);

        if (sent < 0)
            return (int)sent;
        conn->greeting_sent += (size_t)sent;
        conn->bytes_out += (size_t)sent;
    }
    return 0;
}

/* Also a user who may do anything but HELLO. */
static bool knows_no_hello(struct view error)
{
    return view_starts_with(error, VIEW("NOPERM")) || view_starts_with(error, VIEW("NOPROTO")) ||
           view_starts_with(error, VIEW("ERR unknown command")) || view_starts_with(error, VIEW("ERR Unknown command"));
}

static int greeted(struct redis_conn *conn, const struct resp_value *reply)
{
    const struct resp_value *mode;

    if (resp_is_error(reply)) {
        if (conn->step == CONN_HELLO && knows_no_hello(reply->text))
            return conn->access->password.len ? queue_auth(conn) : queue_select(conn);
        /* LOADING and the like pass; WRONGPASS, NOAUTH, NOPERM, "DB index is out of range" do not. */
        return view_starts_with(reply->text, VIEW("LOADING")) ? -EBUSY : -EACCES;
    }
    if (conn->step == CONN_HELLO) {
        mode = resp_get(reply, VIEW("mode"));
        if (reply->type != RESP_MAP && reply->type != RESP_ARRAY)
            return -EBADMSG;
        conn->is_cluster = mode && mode->type == RESP_STRING && view_eq(mode->text, VIEW("cluster"));
    } else if (reply->type != RESP_STRING) {
        return -EBADMSG;
    }
    return conn->step == CONN_SELECT ? ready(conn) : queue_select(conn);
}

static int step_greet(struct redis_conn *conn)
{
    struct redis_reply *reply;
    struct view bytes;
    int r = flush_greeting(conn);

    if (r < 0)
        return r;
    r = redis_conn_peek(conn, &bytes);
    if (r < 0)
        return r;
    r = redis_reply_new(bytes, &greeting_limits, &reply);
    if (r < 0)
        return r;
    redis_conn_consume(conn, bytes);
    r = reply->value.type == RESP_PUSH ? 0 : greeted(conn, &reply->value);
    redis_reply_free(reply);
    return r;
}

/* Its time is over: another address gets its own. */
static int timed_out(struct redis_conn *conn)
{
    int r = conn->step == CONN_CONNECT ? connect_failed(conn, -ETIMEDOUT) : -ETIMEDOUT;

    if (r == 0)
        timer_set(&conn->timer, conn->access->connect_timeout_ms);
    return r;
}

int redis_conn_drive(struct redis_conn *conn)
{
    int r = 0;

    while (r == 0 && conn->step != CONN_READY) {
        switch (conn->step) {
        case CONN_CLOSED: return -ENOTCONN;
        case CONN_RESOLVE: r = step_resolve(conn); break;
        case CONN_CONNECT: r = step_connect(conn); break;
        case CONN_TLS: r = step_tls(conn); break;
        default: r = step_greet(conn);
        }
        if (r == -EAGAIN && conn->timer.fired)
            r = timed_out(conn);
    }
    if (r < 0 && r != -EAGAIN)
        redis_conn_close(conn);
    return r;
}

/* ---- replies ---- */

int redis_conn_peek(struct redis_conn *conn, struct view *ret_reply)
{
    const struct resp_limits *limits = conn->step == CONN_READY ? &conn->access->limits : &greeting_limits;

    for (;;) {
        struct view input = sock_input(&conn->sock);
        ssize_t got;

        if (input.len && input.len >= conn->hint) {
            got = resp_scan(&conn->scan, input, limits, &conn->hint);
            if (got > 0)
                *ret_reply = view_first(input, (size_t)got);
            if (got != 0)
                return got > 0 ? 0 : (int)got;
        }
        got = sock_fill(&conn->sock, limits->bytes + INPUT_SLACK);
        if (got <= 0)
            return got == 0 ? -ECONNRESET : (int)got;
        conn->bytes_in += (size_t)got;
    }
}

void redis_conn_consume(struct redis_conn *conn, struct view reply)
{
    sock_consume(&conn->sock, reply.len);
    conn->scan = (struct resp_scan){ 0 };
    conn->hint = 0;
}
