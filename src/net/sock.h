/* A connected (or connecting) stream socket on a loop, plain or TLS. Completion-shaped: it owns an input buffer, remembers
 * readiness and wakes its task; what reads it and what writes it never see which transport is below.
 *
 * Single-threaded: a sock belongs to one loop. */
#pragma once

#include "loop/loop.h"

#include <sys/socket.h>
#include <sys/uio.h>

struct tls; /* net/tls.h; NULL for plain TCP */

struct sock {
    struct io io;
    struct loop *loop;
    struct task *task; /* woken on readiness; borrowed */
    struct tls *tls;
    char *in; /* input block; NULL while nothing is buffered */
    uint32_t in_at, in_len, in_cap;
    bool readable, writable; /* edge flags: true until the kernel said EAGAIN */
    bool hangup;             /* the peer will send no more, though bytes may still be buffered in the kernel */
    bool eof;                /* read end reached */
    bool reset;              /* both directions are dead */
    bool connecting;
    int error; /* errno of the first fatal failure, 0 */
};

/* Takes over fd (non-blocking). On failure fd stays the caller's. */
int sock_open(struct sock *sock, struct loop *loop, int fd, struct task *task);
/* Starts connecting; the task is woken when it is decided: connecting turns false, error tells. */
int sock_connect(struct sock *sock, struct loop *loop, const struct sockaddr *address, socklen_t len,
                 struct task *task);
/* Closes and gives the input block back. Idempotent on a zeroed or closed sock. */
void sock_close(struct sock *sock);
/* Same with RST: for peers that must not mistake a cut for an end. */
void sock_reset(struct sock *sock);
static inline bool sock_is_open(const struct sock *sock)
{
    return sock->io.fd >= 0;
}

/* What has been read and not consumed. */
static inline struct view sock_input(const struct sock *sock)
{
    return sock->in ? view_make(sock->in + sock->in_at, sock->in_len) : VIEW_NONE;
}
/* Reads more into the buffer. >0: bytes added. 0: end of input. -EAGAIN: the task will be woken. -ENOBUFS: buffer full at
 * `max` bytes (grows in powers of two from LOOP_BLOCK_SIZE). Other -errno: dead. */
ssize_t sock_fill(struct sock *sock, size_t max);
/* Drops `len` bytes from the front; the block goes back to the loop when nothing is left. */
void sock_consume(struct sock *sock, size_t len);
/* Reads up to `cap` bytes past the buffer straight into `memory`; buffered bytes come first. Same results as sock_fill. */
ssize_t sock_read(struct sock *sock, void *memory, size_t cap);
/* Moves the input block out (views into it stay valid), keeping bytes after the first `consumed` for the sock in a new
 * block. The caller gives it back with loop_block_put() or heap_free() via sock_block_free(). NULL when memory is out. */
char *sock_take_block(struct sock *sock, size_t consumed, uint32_t *ret_cap);
void sock_block_free(struct loop *loop, char *block, uint32_t cap);

/* Writes what it can. >0: bytes. -EAGAIN: the task will be woken. Other -errno: dead. `more`: the caller will write again at
 * once (MSG_MORE). */
ssize_t sock_writev(struct sock *sock, const struct iovec *iov, int count, bool more);
/* The same from a file's page cache; TLS socks cannot: -EOPNOTSUPP. The file ends early: -EIO, and the sock is dead. */
ssize_t sock_sendfile(struct sock *sock, int fd, off_t at, size_t len);
/* Half-close after everything was written. */
void sock_shutdown_write(struct sock *sock);
