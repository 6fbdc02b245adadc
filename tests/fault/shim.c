/* Preloaded into the program (LD_PRELOAD): makes the system calls of its stream sockets behave as badly as the kernel may.
 *
 *   FAULT_SEED=n        the same seed draws the same faults, as far as timing lets it
 *   FAULT_SHORT=percent reads and writes move only a part (often 1 to 7 bytes), or say EINTR, or EAGAIN
 *   FAULT_RESET=n       one read or write in n finds the connection reset
 *   FAULT_BUFFER=bytes  send buffers of this size, so that real EAGAINs are frequent
 *   FAULT_CLOCK=hours   CLOCK_REALTIME jumps within so many hours, back and forth, every 20 ms
 *   FAULT_CLOCK_FILE=path  its first 8 bytes, an int64_t, are milliseconds to add to the wall clock; read anew each time
 *
 * The disk's faults are in shim_disk.c. Both are compiled into one library.
 *
 * Sockets are watched edge-triggered, and the program takes a read shorter than its buffer for "nothing is left" (true of
 * the kernel). So wherever the shim holds something back it sees to a real edge afterwards: EPOLL_CTL_MOD with the same
 * events reports what is ready again. To the program that is data, or room, that came a moment later. */
#include "shim_disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define FDS_MAX 4096
#define IOV_MAX_USED 64

struct watched {
    int epfd;
    struct epoll_event event;
    bool stream; /* a connected or connecting TCP or Unix socket */
    bool listening;
    bool dead; /* a reset was made up: nothing comes or goes any more */
};

static struct watched fds[FDS_MAX];
static unsigned long seed, percent, reset_every, buffer, clock_hours;
static atomic_ulong threads;
static const _Atomic int64_t *clock_offset; /* FAULT_CLOCK_FILE; NULL: none */

/* The kernel itself, not the next library: sanitizers call these before any constructor has run. */
static ssize_t real_recv(int fd, void *memory, size_t len, int flags)
{
    return syscall(SYS_recvfrom, fd, memory, len, flags, NULL, NULL);
}

static ssize_t real_sendmsg(int fd, const struct msghdr *message, int flags)
{
    return syscall(SYS_sendmsg, fd, message, flags);
}

static int real_epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
    return (int)syscall(SYS_epoll_ctl, epfd, op, fd, event);
}

static int real_close(int fd)
{
    return (int)syscall(SYS_close, fd);
}

static int real_clock_gettime(clockid_t which, struct timespec *ret)
{
    return (int)syscall(SYS_clock_gettime, which, ret);
}

static unsigned long setting(const char *name)
{
    const char *text = getenv(name);

    return text ? strtoul(text, NULL, 10) : 0;
}

static const _Atomic int64_t *map_offset(const char *path)
{
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *memory = fd >= 0 ? mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;

    if (fd >= 0)
        real_close(fd);
    return memory == MAP_FAILED ? NULL : memory;
}

__attribute__((constructor)) static void start(void)
{
    clock_offset = map_offset(getenv("FAULT_CLOCK_FILE"));
    seed = setting("FAULT_SEED");
    percent = setting("FAULT_SHORT");
    reset_every = setting("FAULT_RESET");
    buffer = setting("FAULT_BUFFER");
    clock_hours = setting("FAULT_CLOCK");
}

/* splitmix64, a row for each thread. */
static unsigned long draw(unsigned long below)
{
    static _Thread_local uint64_t state;
    uint64_t z;

    if (state == 0)
        state = (seed + 1) * 0x9e3779b97f4a7c15u + atomic_fetch_add(&threads, 1);
    z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (unsigned long)((z ^ (z >> 31)) % below);
}

static struct watched *stream_of(int fd)
{
    return fd >= 0 && fd < FDS_MAX && fds[fd].stream ? &fds[fd] : NULL;
}

/* Whatever is ready is reported once more. */
static void edge(int fd)
{
    real_epoll_ctl(fds[fd].epfd, EPOLL_CTL_MOD, fd, &fds[fd].event);
}

enum fate { FATE_REAL, FATE_SHORT, FATE_ERROR };

static enum fate draw_fate(struct watched *w, int fd, bool reading)
{
    unsigned long roll;

    if (w->dead) {
        errno = reading ? ECONNRESET : EPIPE;
        return FATE_ERROR;
    }
    if (reset_every && draw(reset_every) == 0) {
        w->dead = true;
        shutdown(fd, SHUT_RDWR);
        errno = ECONNRESET;
        return FATE_ERROR;
    }
    roll = draw(100);
    if (roll >= percent)
        return FATE_REAL;
    switch (draw(6)) {
    case 0: errno = EINTR; return FATE_ERROR;
    case 1:
        edge(fd);
        errno = EAGAIN;
        return FATE_ERROR;
    default: return FATE_SHORT;
    }
}

/* How much of `len` moves. */
static size_t draw_len(size_t len)
{
    size_t few = draw(2) ? 1 + draw(7) : 1 + draw(len);

    return few < len ? few : len;
}

ssize_t recv(int fd, void *memory, size_t len, int flags)
{
    struct watched *w = stream_of(fd);
    ssize_t got;

    if (!w || len == 0 || flags & MSG_PEEK)
        return real_recv(fd, memory, len, flags);
    switch (draw_fate(w, fd, true)) {
    case FATE_ERROR: return -1;
    case FATE_SHORT:
        got = real_recv(fd, memory, draw_len(len), flags);
        if (got >= 0)
            edge(fd); /* there may be more, or the end */
        return got;
    case FATE_REAL: break;
    }
    return real_recv(fd, memory, len, flags);
}

ssize_t read(int fd, void *memory, size_t len)
{
    return stream_of(fd) ? recv(fd, memory, len, 0) : disk_read(fd, memory, len);
}

/* What read() becomes where _FORTIFY_SOURCE knows the buffer. */
ssize_t __read_chk(int fd, void *memory, size_t len, size_t room)
{
    if (len > room)
        abort();
    return read(fd, memory, len);
}

ssize_t __recv_chk(int fd, void *memory, size_t len, size_t room, int flags)
{
    if (len > room)
        abort();
    return recv(fd, memory, len, flags);
}

/* The first `len` bytes of what `from` points at. */
static void shorten(const struct msghdr *from, size_t len, struct msghdr *to, struct iovec iov[IOV_MAX_USED])
{
    *to = *from;
    to->msg_iov = iov;
    to->msg_iovlen = 0;
    for (size_t i = 0; i < from->msg_iovlen && i < IOV_MAX_USED && len > 0; i++) {
        iov[i] = from->msg_iov[i];
        if (iov[i].iov_len > len)
            iov[i].iov_len = len;
        len -= iov[i].iov_len;
        to->msg_iovlen++;
    }
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    struct watched *w = stream_of(fd);
    struct iovec iov[IOV_MAX_USED];
    struct msghdr less;
    size_t total = 0;

    for (size_t i = 0; i < message->msg_iovlen; i++)
        total += message->msg_iov[i].iov_len;
    if (!w || total == 0)
        return real_sendmsg(fd, message, flags);
    switch (draw_fate(w, fd, false)) {
    case FATE_ERROR: return -1;
    case FATE_SHORT: shorten(message, draw_len(total), &less, iov); return real_sendmsg(fd, &less, flags);
    case FATE_REAL: break;
    }
    return real_sendmsg(fd, message, flags);
}

ssize_t send(int fd, const void *memory, size_t len, int flags)
{
    struct iovec iov = { .iov_base = (void *)(uintptr_t)memory, .iov_len = len };
    struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };

    return stream_of(fd) ? sendmsg(fd, &message, flags) : syscall(SYS_sendto, fd, memory, len, flags, NULL, 0);
}

ssize_t write(int fd, const void *memory, size_t len)
{
    return stream_of(fd) ? send(fd, memory, len, MSG_NOSIGNAL) : disk_write(fd, memory, len);
}

ssize_t sendfile(int to, int from, off_t *at, size_t len)
{
    struct watched *w = stream_of(to);

    if (!w || len == 0)
        return disk_sendfile(to, from, at, len);
    switch (draw_fate(w, to, false)) {
    case FATE_ERROR: return -1;
    case FATE_SHORT: return disk_sendfile(to, from, at, draw_len(len));
    case FATE_REAL: break;
    }
    return disk_sendfile(to, from, at, len);
}

ssize_t sendfile64(int to, int from, off_t *at, size_t len) __attribute__((alias("sendfile")));

static void small_buffer(int fd)
{
    int size = (int)buffer;

    if (!buffer)
        return;
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
}

int accept4(int fd, struct sockaddr *address, socklen_t *len, int flags)
{
    int taken = (int)syscall(SYS_accept4, fd, address, len, flags);

    if (taken < 0)
        return taken;
    if (reset_every && draw(reset_every) == 0) {
        /* As when the client reset while it stood in the queue. */
        real_close(taken);
        errno = ECONNABORTED;
        return -1;
    }
    small_buffer(taken);
    return taken;
}

int connect(int fd, const struct sockaddr *address, socklen_t len)
{
    small_buffer(fd);
    return (int)syscall(SYS_connect, fd, address, len);
}

int close(int fd)
{
    if (fd >= 0 && fd < FDS_MAX)
        fds[fd] = (struct watched){ 0 };
    return real_close(fd);
}

int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
    int type = 0, listening = 0;
    socklen_t len = sizeof(type);

    if (fd >= 0 && fd < FDS_MAX && op == EPOLL_CTL_DEL)
        fds[fd] = (struct watched){ 0 };
    if (fd >= 0 && fd < FDS_MAX && op != EPOLL_CTL_DEL && getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0) {
        len = sizeof(listening);
        getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len);
        fds[fd] = (struct watched){
            .epfd = epfd, .event = *event, .stream = type == SOCK_STREAM && !listening, .listening = listening
        };
    }
    return real_epoll_ctl(epfd, op, fd, event);
}

int epoll_wait(int epfd, struct epoll_event *events, int max, int timeout)
{
    if (percent && draw(100) < percent) {
        if (draw(4) == 0) {
            errno = EINTR;
            return -1;
        }
        max = 1 + (int)draw((unsigned long)max);
    }
    return (int)syscall(SYS_epoll_pwait, epfd, events, max, timeout, NULL, (size_t)8);
}

static void add_ms(struct timespec *when, int64_t ms)
{
    int64_t nsec = when->tv_nsec + ms % 1000 * 1000000;

    when->tv_sec += ms / 1000 + (nsec >= 1000000000) - (nsec < 0);
    when->tv_nsec = nsec >= 1000000000 ? nsec - 1000000000 : nsec < 0 ? nsec + 1000000000 : nsec;
}

int clock_gettime(clockid_t which, struct timespec *ret)
{
    struct timespec since;
    uint64_t turn;
    int r = real_clock_gettime(which, ret);

    if (r != 0 || (which != CLOCK_REALTIME && which != CLOCK_REALTIME_COARSE))
        return r;
    if (clock_offset)
        add_ms(ret, atomic_load_explicit(clock_offset, memory_order_relaxed));
    if (!clock_hours)
        return 0;
    real_clock_gettime(CLOCK_MONOTONIC, &since);
    turn = (seed << 32) + (uint64_t)since.tv_sec * 50 + (uint64_t)since.tv_nsec / 20000000;
    turn = (turn + 1) * 0x9e3779b97f4a7c15u;
    turn ^= turn >> 29;
    ret->tv_sec += (time_t)(turn % (2 * clock_hours * 3600 + 1)) - (time_t)(clock_hours * 3600);
    return 0;
}

time_t time(time_t *ret)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    if (ret)
        *ret = now.tv_sec;
    return now.tv_sec;
}

int gettimeofday(struct timeval *restrict ret, void *restrict zone)
{
    struct timespec now;

    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    *ret = (struct timeval){ .tv_sec = now.tv_sec, .tv_usec = now.tv_nsec / 1000 };
    return 0;
}
