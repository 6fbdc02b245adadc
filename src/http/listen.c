/* Listeners. Every loop has its own socket per address (SO_REUSEPORT), so that the kernel spreads connections and no lock is
 * shared. SO_REUSEPORT would let a second node take half of the first one's connections in silence; so the first bind is made
 * without it. */
#include "http/conn.h"

#include "base/heap.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define BACKLOG 4096
#define ACCEPTS_PER_TURN 64
#define ACCEPT_RETRY_MS 100
#define COMPLAIN_MS 1000

static int socket_open(const struct address *address, bool shared)
{
    int fd = socket(address->is.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1, zero = 0, r;

    if (fd < 0)
        return -errno;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (address->is.any.sa_family == AF_INET6) /* "[::]" answers IPv4 too, whatever the system's default is */
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero));
    if (shared)
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
    if (bind(fd, &address->is.any, address->len) < 0) {
        r = -errno;
        close(fd);
        return r;
    }
    return fd;
}

/* A socket file left by a node that is gone is removed; one that somebody listens on is in use, and so is any other file. */
static int clear_stale_path(const struct address *address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), r = 0;
    struct stat info;

    if (fd < 0)
        return -errno;
    if (connect(fd, &address->is.any, address->len) == 0)
        r = -EADDRINUSE;
    else if (errno == ECONNREFUSED && lstat(address->is.local.sun_path, &info) == 0 && S_ISSOCK(info.st_mode))
        unlink(address->is.local.sun_path);
    close(fd);
    return r;
}

/* The port is ours if nobody else holds it: tried without SO_REUSEPORT. *address gets the port that was chosen. */
static int probe(struct address *address)
{
    int fd = socket_open(address, false), r = 0;

    if (fd < 0)
        return fd;
    if (listen(fd, 1) < 0 || getsockname(fd, &address->is.any, &address->len) < 0)
        r = -errno;
    close(fd);
    return r;
}

int listen_open(const struct address *address, unsigned count, int fds[], struct address *ret_bound)
{
    bool local = address->is.any.sa_family == AF_UNIX;
    struct address bound = *address;
    int r = local ? clear_stale_path(address) : probe(&bound);

    for (unsigned i = 0; r == 0 && i < (local ? 1 : count); i++) {
        fds[i] = socket_open(&bound, !local);
        if (fds[i] < 0 || listen(fds[i], BACKLOG) < 0) {
            r = fds[i] < 0 ? fds[i] : -errno;
            if (fds[i] >= 0)
                close(fds[i]);
            while (i-- > 0)
                close(fds[i]);
        }
    }
    if (r == 0)
        *ret_bound = bound;
    return r;
}

/* ---- accepting ---- */

/* This may happen for every connection of a flood. */
static void complain(struct http_loop *hl)
{
    uint64_t now = loop_now_ms(hl->loop);

    if (now < hl->complain_ms)
        return;
    log_warn("out of file descriptors: refusing connections (raise LimitNOFILE, now see ulimit -n)");
    hl->complain_ms = now + COMPLAIN_MS;
}

/* Out of descriptors: the spare one is given up to accept and close one connection, so that its client is told at once instead
 * of hanging in the backlog. */
static void accept_without_fds(struct listener *l)
{
    struct http_loop *hl = l->owner;
    int fd;

    complain(hl);
    if (hl->spare_fd >= 0)
        close(hl->spare_fd);
    fd = accept4(l->io.fd, NULL, NULL, SOCK_CLOEXEC);
    if (fd >= 0)
        close(fd);
    hl->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    timer_set(&l->retry, ACCEPT_RETRY_MS);
}

static void refuse_full(int fd)
{
    static const char answer[] = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n"
                                 "Content-Length: 0\r\n\r\n";

    /* Best effort: an empty socket buffer takes these bytes. */
    if (send(fd, answer, sizeof(answer) - 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        log_debug("connection refused at the limit; the client was gone");
    close(fd);
}

static void listener_run(struct task *task)
{
    struct listener *l = CONTAINER_OF(task, struct listener, task);
    struct http_loop *hl = l->owner;

    timer_clear(&l->retry);
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        struct address peer = { .len = sizeof(peer.is) };
        uint64_t limit = server_config(hl->server)->limits.connections;
        int fd = accept4(l->io.fd, &peer.is.any, &peer.len, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE)
                accept_without_fds(l);
            else if (errno != EAGAIN) /* others may wait behind what failed, and no edge will tell */
                timer_set(&l->retry, ACCEPT_RETRY_MS);
            return;
        }
        if (fd >= hl->fd_ceiling)
            complain(hl);
        if (l->kind == LISTENER_PUBLIC && ((limit && hl->conn_count >= limit) || fd >= hl->fd_ceiling))
            refuse_full(fd);
        else
            http_conn_new(hl, fd, &peer, l->kind, l->local);
    }
    task_wake(task);
}

static void listener_ready(struct io *io, unsigned events)
{
    struct listener *l = CONTAINER_OF(io, struct listener, io);

    (void)events;
    task_wake(&l->task);
}

/* Clients may not take every descriptor: connections to origins need some, and so does whoever asks /healthz. */
static int fd_ceiling(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= INT_MAX)
        return INT_MAX;
    return (int)(limit.rlim_cur - MIN(limit.rlim_cur / 8, (rlim_t)1024));
}

int http_loop_new(struct server *server, struct loop *loop, struct http_loop **ret)
{
    struct http_loop *hl = heap_zalloc(sizeof(*hl));

    if (!hl)
        return -ENOMEM;
    hl->server = server;
    hl->loop = loop;
    hl->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    hl->fd_ceiling = fd_ceiling();
    list_init(&hl->conns);
    if (getrandom(&hl->random, sizeof(hl->random), 0) != (ssize_t)sizeof(hl->random) || hl->random == 0)
        hl->random = (uint64_t)(uintptr_t)hl | 1;
    *loop_slot(loop, LOOP_SLOT_HTTP) = hl;
    *ret = hl;
    return 0;
}

int http_loop_listen(struct http_loop *hl, int fd, enum listener_kind kind, bool local)
{
    struct listener *l;
    int r;

    if (hl->listener_count == LISTENERS_MAX)
        return -ENOSPC;
    l = &hl->listeners[hl->listener_count];
    *l = (struct listener){ .io = { .fd = fd, .ready = listener_ready }, .owner = hl, .kind = kind, .local = local };
    task_init(&l->task, hl->loop, listener_run);
    timer_init(&l->retry, &l->task);
    r = loop_io_add(hl->loop, &l->io);
    if (r < 0)
        return r; /* the descriptor stays the caller's */
    hl->listener_count++;
    task_wake(&l->task);
    return 0;
}

void http_loop_drain(struct http_loop *hl)
{
    for (unsigned i = 0; i < hl->listener_count; i++) {
        struct listener *l = &hl->listeners[i];

        if (l->io.fd < 0 || l->kind == LISTENER_ADMIN)
            continue;
        loop_io_remove(hl->loop, &l->io);
        timer_clear(&l->retry);
        task_cancel(&l->task);
        close(l->io.fd);
        l->io.fd = -1;
    }
    LIST_EACH_SAFE (link, &hl->conns) {
        struct conn *c = CONTAINER_OF(link, struct conn, link);

        if (http_conn_is_idle(c) && c->kind == LISTENER_PUBLIC)
            http_conn_close(c);
    }
}

void http_loop_free(struct http_loop *hl)
{
    if (!hl)
        return;
    LIST_EACH_SAFE (link, &hl->conns)
        http_conn_close(CONTAINER_OF(link, struct conn, link));
    for (unsigned i = 0; i < hl->listener_count; i++) {
        struct listener *l = &hl->listeners[i];

        if (l->io.fd < 0)
            continue;
        loop_io_remove(hl->loop, &l->io);
        timer_clear(&l->retry);
        task_cancel(&l->task);
        close(l->io.fd);
    }
    if (hl->spare_fd >= 0)
        close(hl->spare_fd);
    heap_free(hl->clients);
    heap_free(hl);
}
