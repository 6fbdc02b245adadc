/* Edge-triggered socket: `readable` and `writable` start true and turn false when the kernel says EAGAIN; the loop turns
 * them true again and wakes the task. A short read clears `readable` too: the kernel's buffer was emptied, and what comes
 * later is a new edge. That saves the read that would only return EAGAIN. */
#include "net/sock.h"

#include "base/check.h"
#include "base/heap.h"
#include "net/tls.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/sendfile.h>
#include <unistd.h>

static void sock_ready(struct io *io, unsigned events)
{
    struct sock *sock = CONTAINER_OF(io, struct sock, io);

    if (events & IO_READ)
        sock->readable = true;
    if (events & IO_WRITE)
        sock->writable = true;
    if (events & IO_HANGUP)
        sock->hangup = true;
    if (sock->connecting && (events & (IO_WRITE | IO_ERROR | IO_HANGUP))) {
        socklen_t len = sizeof(sock->error);

        sock->connecting = false;
        if (getsockopt(io->fd, SOL_SOCKET, SO_ERROR, &sock->error, &len) < 0)
            sock->error = errno;
    } else if (events & IO_ERROR) {
        /* Bytes already received are still read; the reader meets the error when it gets there. */
        sock->hangup = sock->reset = true;
    }
    task_wake(sock->task);
}

int sock_open(struct sock *sock, struct loop *loop, int fd, struct task *task)
{
    *sock = (struct sock){
        .io = { .fd = fd, .ready = sock_ready }, .loop = loop, .task = task, .readable = true, .writable = true
    };
    int r = loop_io_add(loop, &sock->io);

    if (r < 0)
        sock->io.fd = -1;
    return r;
}

int sock_connect(struct sock *sock, struct loop *loop, const struct sockaddr *address, socklen_t len, struct task *task)
{
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1, r;

    if (fd < 0)
        return -errno;
    if (address->sa_family != AF_UNIX)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (connect(fd, address, len) < 0 && errno != EINPROGRESS) {
        r = -errno;
        close(fd);
        return r;
    }
    r = sock_open(sock, loop, fd, task);
    if (r < 0) {
        close(fd);
        return r;
    }
    sock->connecting = true;
    sock->readable = sock->writable = false;
    return 0;
}

void sock_block_free(struct loop *loop, char *block, uint32_t cap)
{
    if (cap == LOOP_BLOCK_SIZE)
        loop_block_put(loop, block);
    else
        heap_free(block);
}

static void drop_block(struct sock *sock)
{
    if (sock->in)
        sock_block_free(sock->loop, sock->in, sock->in_cap);
    sock->in = NULL;
    sock->in_at = sock->in_len = sock->in_cap = 0;
}

void sock_close(struct sock *sock)
{
    if (!sock->loop)
        return;
    tls_free(sock->tls);
    sock->tls = NULL;
    drop_block(sock);
    if (sock->io.fd >= 0) {
        loop_io_remove(sock->loop, &sock->io);
        close(sock->io.fd);
    }
    sock->io.fd = -1;
}

void sock_reset(struct sock *sock)
{
    struct linger linger = { .l_onoff = 1, .l_linger = 0 };

    if (sock->io.fd >= 0)
        setsockopt(sock->io.fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
    sock_close(sock);
}

/* ---- input ---- */

static ssize_t receive(struct sock *sock, void *memory, size_t cap)
{
    ssize_t got;

    if (!sock->readable)
        return sock->error ? -sock->error : -EAGAIN;
    if (sock->tls) {
        got = tls_read(sock->tls, memory, cap);
        if (got == -EAGAIN)
            sock->readable = false;
    } else {
        do {
            got = recv(sock->io.fd, memory, cap, 0);
        } while (got < 0 && errno == EINTR);
        if (got < 0) {
            got = -errno;
            sock->readable = got != -EAGAIN;
        } else if ((size_t)got < cap && !sock->hangup) {
            sock->readable = false;
        }
    }
    if (got == 0)
        sock->eof = true;
    else if (got < 0 && got != -EAGAIN)
        sock->error = (int)-got;
    return got;
}

/* Makes room behind the input: moves it to the front, or into a larger block. */
static int make_room(struct sock *sock, size_t max)
{
    uint32_t cap;
    char *block;

    if (!sock->in) {
        sock->in = loop_block_get(sock->loop);
        sock->in_cap = sock->in ? (uint32_t)LOOP_BLOCK_SIZE : 0;
        return sock->in ? 0 : -ENOMEM;
    }
    if (sock->in_at + sock->in_len < sock->in_cap)
        return 0;
    if (sock->in_len >= max)
        return -ENOBUFS;
    if (sock->in_at > 0) {
        memmove(sock->in, sock->in + sock->in_at, sock->in_len);
        sock->in_at = 0;
        return 0;
    }
    cap = sock->in_cap * 2;
    block = heap_alloc(cap);
    if (!block)
        return -ENOMEM;
    memcpy(block, sock->in, sock->in_len);
    sock_block_free(sock->loop, sock->in, sock->in_cap);
    sock->in = block;
    sock->in_cap = cap;
    return 0;
}

ssize_t sock_fill(struct sock *sock, size_t max)
{
    int r = make_room(sock, max);
    ssize_t got;

    if (r < 0)
        return r;
    got = receive(sock, sock->in + sock->in_at + sock->in_len, sock->in_cap - sock->in_at - sock->in_len);
    if (got > 0)
        sock->in_len += (uint32_t)got;
    else if (sock->in_len == 0)
        drop_block(sock);
    return got;
}

void sock_consume(struct sock *sock, size_t len)
{
    CHECK(len <= sock->in_len);
    sock->in_at += (uint32_t)len;
    sock->in_len -= (uint32_t)len;
    if (sock->in_len == 0)
        drop_block(sock);
}

ssize_t sock_read(struct sock *sock, void *memory, size_t cap)
{
    size_t buffered = MIN(cap, sock->in_len);

    if (buffered) {
        memcpy(memory, sock->in + sock->in_at, buffered);
        sock_consume(sock, buffered);
        return (ssize_t)buffered;
    }
    return receive(sock, memory, cap);
}

char *sock_take_block(struct sock *sock, size_t consumed, uint32_t *ret_cap)
{
    char *taken = sock->in, *fresh = NULL;
    uint32_t rest = sock->in_len - (uint32_t)consumed, cap = 0;

    CHECK(consumed <= sock->in_len);
    if (rest) {
        cap = MAX((uint32_t)LOOP_BLOCK_SIZE, sock->in_cap);
        fresh = cap == LOOP_BLOCK_SIZE ? loop_block_get(sock->loop) : heap_alloc(cap);
        if (!fresh)
            return NULL;
        memcpy(fresh, taken + sock->in_at + consumed, rest);
    }
    *ret_cap = sock->in_cap;
    sock->in = fresh;
    sock->in_at = 0;
    sock->in_len = rest;
    sock->in_cap = cap;
    return taken;
}

/* ---- output ---- */

ssize_t sock_writev(struct sock *sock, const struct iovec *iov, int count, bool more)
{
    struct msghdr message = { .msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = (size_t)count };
    ssize_t sent;

    if (sock->error)
        return -sock->error;
    if (!sock->writable)
        return -EAGAIN;
    if (sock->tls) {
        sent = tls_writev(sock->tls, iov, count);
    } else {
        do {
            sent = sendmsg(sock->io.fd, &message, MSG_NOSIGNAL | (more ? MSG_MORE : 0));
        } while (sent < 0 && errno == EINTR);
        if (sent < 0)
            sent = -errno;
    }
    if (sent == -EAGAIN)
        sock->writable = false;
    else if (sent < 0)
        sock->error = (int)-sent;
    return sent;
}

ssize_t sock_sendfile(struct sock *sock, int fd, off_t at, size_t len)
{
    ssize_t sent;

    if (sock->error)
        return -sock->error;
    if (sock->tls)
        return -EOPNOTSUPP;
    if (!sock->writable)
        return -EAGAIN;
    do {
        sent = sendfile(sock->io.fd, fd, &at, len);
    } while (sent < 0 && errno == EINTR);
    if (sent <= 0)
        sent = sent < 0 ? -errno : -EIO;
    if (sent == -EAGAIN)
        sock->writable = false;
    else if (sent < 0)
        sock->error = (int)-sent;
    return sent;
}

void sock_shutdown_write(struct sock *sock)
{
    if (sock->io.fd >= 0)
        shutdown(sock->io.fd, SHUT_WR);
}
