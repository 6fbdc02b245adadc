/* The access log: one buffer per loop, writing. What a line looks like is in access_log_format.c.
 *
 * A loop appends whole lines to its buffer and writes the buffer when its turn ends (or when it is full). All buffers share
 * one descriptor. access_log_reopen() puts the new file under the same descriptor number with dup3(2), which the kernel
 * does atomically, so a writer sees the old file or the new one and never a closed or foreign descriptor.
 *
 * Invariants: a buffer holds whole lines, or the rest of a line whose beginning was written; nothing here ever waits for a
 * target; every line that is lost is counted. Counters have one writer each. */
#include "http/access_log.h"

#include "base/check.h"
#include "base/heap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define BUFFER_SIZE ((size_t)65536)
#define CACHE_LINE 64

struct buffer {
    char *bytes; /* NULL until the first line */
    size_t len;
    bool torn; /* what reached the target last does not end in '\n' and its rest was dropped */
    _Atomic uint64_t dropped;
} __attribute__((aligned(CACHE_LINE)));

struct access_log {
    struct access_log_options options;
    char *path;
    int fd;
    atomic_bool whole; /* a regular file takes a buffer in one write; pipes and sockets get pieces they take whole */
    bool socket;       /* descriptor is a stream socket (standard output under a service manager) */
    struct sockaddr_un syslog;
    unsigned loops;
    void *memory;
    struct buffer *buffers;
};

/* ---- targets ---- */

static int open_file(const char *path)
{
    /* Non-blocking matters where the path is a FIFO; a regular file ignores it. */
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0640);

    return fd < 0 ? -errno : fd;
}

/* Standard output through an open file description of our own, so that making it non-blocking does not change the terminal
 * or pipe for the process that gave it to us. Sockets cannot be opened again; they get MSG_DONTWAIT instead. */
static int open_stdout(void)
{
    int fd = open("/proc/self/fd/1", O_WRONLY | O_APPEND | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

    if (fd < 0)
        fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    return fd < 0 ? -errno : fd;
}

static int open_target(const struct access_log *log)
{
    int fd;

    switch (log->options.target) {
    case ACCESS_FILE: return open_file(log->path);
    case ACCESS_STDOUT: return open_stdout();
    case ACCESS_SYSLOG: fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0); return fd < 0 ? -errno : fd;
    case ACCESS_OFF: break;
    }
    return -EINVAL;
}

/* Called again by a reopen, while loops write: an answer that is late by one write is harmless. */
static mode_t learn_kind(struct access_log *log, int fd)
{
    struct stat about = { 0 };
    mode_t mode = fstat(fd, &about) == 0 ? about.st_mode : 0;

    atomic_store_explicit(&log->whole, S_ISREG(mode), memory_order_relaxed);
    return mode;
}

static int set_path(struct access_log *log, const struct access_log_options *options)
{
    const char *path = options->path;

    if (options->target == ACCESS_SYSLOG) {
        path = path ? path : "/dev/log";
        if (strlen(path) >= sizeof(log->syslog.sun_path))
            return -ENAMETOOLONG;
        log->syslog.sun_family = AF_UNIX;
        memcpy(log->syslog.sun_path, path, strlen(path) + 1);
    }
    if (options->target == ACCESS_FILE) {
        log->path = path ? heap_strdup(path, strlen(path)) : NULL;
        return log->path ? 0 : path ? -ENOMEM : -EINVAL;
    }
    return 0;
}

int access_log_open(struct access_log **ret, const struct access_log_options *options, unsigned loops)
{
    struct access_log *log = heap_zalloc(sizeof(*log));
    int r;

    if (!log)
        return -ENOMEM;
    log->options = *options;
    log->options.path = NULL; /* the caller's; ours is log->path */
    log->fd = -1;
    log->loops = loops;
    log->memory = heap_zalloc(sizeof(struct buffer) * loops + CACHE_LINE);
    r = log->memory ? set_path(log, options) : -ENOMEM;
    if (r == 0 && options->target != ACCESS_OFF) {
        r = open_target(log);
        if (r >= 0) {
            log->fd = r;
            log->socket = S_ISSOCK(learn_kind(log, r));
        }
    }
    if (r < 0) {
        access_log_close(log);
        return r;
    }
    log->buffers = (struct buffer *)(void *)((char *)log->memory +
                                             (CACHE_LINE - (uintptr_t)log->memory % CACHE_LINE) % CACHE_LINE);
    *ret = log;
    return 0;
}

int access_log_reopen(struct access_log *log)
{
    int fd, r = 0;

    if (!log || log->options.target == ACCESS_OFF || log->options.target == ACCESS_STDOUT)
        return 0;
    fd = open_target(log);
    if (fd < 0)
        return fd;
    learn_kind(log, fd);
    if (dup3(fd, log->fd, O_CLOEXEC) < 0)
        r = -errno;
    close(fd);
    return r;
}

/* ---- writing ---- */

static size_t count_lines(struct view v)
{
    size_t lines = 0;

    for (size_t at = view_find(v, '\n'); at < v.len; at = view_find(v, '\n')) {
        lines++;
        v = view_make(v.ptr + at + 1, v.len - at - 1);
    }
    return lines;
}

static void add_dropped(struct buffer *buffer, uint64_t lines)
{
    uint64_t now = atomic_load_explicit(&buffer->dropped, memory_order_relaxed);

    atomic_store_explicit(&buffer->dropped, now + lines, memory_order_relaxed);
}

/* The longest run of whole lines, at most ACCESS_LINE_MAX bytes; at least one line. */
static size_t piece_length(struct view v)
{
    size_t len = MIN(v.len, (size_t)ACCESS_LINE_MAX);

    while (len > 0 && v.ptr[len - 1] != '\n')
        len--;
    return len > 0 ? len : MIN(v.len, (size_t)ACCESS_LINE_MAX);
}

/* One datagram a line, in the form local syslog daemons expect (RFC 3164 §4.1, facility local0, severity info). */
static ssize_t send_syslog(struct access_log *log, struct view v)
{
    size_t len = view_find(v, '\n');
    char prefix[64];
    time_t now = time(NULL);
    struct tm local;
    struct text out = TEXT_ON(prefix);
    struct iovec iov[2] = { { .iov_base = prefix }, { .iov_len = len } };
    struct msghdr message = {
        .msg_name = &log->syslog, .msg_namelen = sizeof(log->syslog), .msg_iov = iov, .msg_iovlen = 2
    };

    /* sendmsg() only reads; its struct is shared with recvmsg() and so lacks the const. */
    memcpy(&iov[1].iov_base, &v.ptr, sizeof(v.ptr));
    localtime_r(&now, &local);
    text_lit(&out, "<134>");
    out.len += strftime(prefix + out.len, sizeof(prefix) - out.len, "%b %e %H:%M:%S", &local);
    text_printf(&out, " doorstep[%ld]: ", (long)getpid());
    iov[0].iov_len = out.len;
    if (sendmsg(log->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        return -errno;
    return (ssize_t)MIN(len + 1, v.len);
}

static ssize_t write_some(struct access_log *log, struct view v)
{
    ssize_t wrote;

    if (log->options.target == ACCESS_SYSLOG)
        return send_syslog(log, v);
    if (!atomic_load_explicit(&log->whole, memory_order_relaxed))
        v.len = piece_length(v);
    wrote = log->socket ? send(log->fd, v.ptr, v.len, MSG_DONTWAIT | MSG_NOSIGNAL) : write(log->fd, v.ptr, v.len);
    return wrote < 0 ? -errno : wrote;
}

static void flush(struct access_log *log, struct buffer *buffer)
{
    size_t at = 0;

    if (buffer->torn && buffer->len && write_some(log, VIEW("\n")) == 1)
        buffer->torn = false; /* ends the cut line, so that the next ones can be read */
    while (at < buffer->len) {
        struct view rest = view_make(buffer->bytes + at, buffer->len - at);
        ssize_t wrote = write_some(log, rest);

        if (wrote == -EINTR)
            continue;
        if (wrote == -EAGAIN || wrote == -ENOBUFS) {
            memmove(buffer->bytes, rest.ptr, rest.len);
            buffer->len = rest.len;
            return;
        }
        if (wrote <= 0) {
            add_dropped(buffer, count_lines(rest));
            buffer->torn = buffer->torn || (at > 0 && buffer->bytes[at - 1] != '\n');
            break;
        }
        at += (size_t)wrote;
    }
    buffer->len = 0;
}

void access_log_write(struct access_log *log, struct loop *loop, const struct access_record *record)
{
    struct buffer *buffer;
    struct text out;

    if (!log || log->fd < 0)
        return;
    CHECK(loop_index(loop) < log->loops);
    buffer = &log->buffers[loop_index(loop)];
    if (!buffer->bytes && !(buffer->bytes = heap_alloc(BUFFER_SIZE))) {
        add_dropped(buffer, 1);
        return;
    }
    if (BUFFER_SIZE - buffer->len < ACCESS_LINE_MAX)
        flush(log, buffer);
    out = text_make(buffer->bytes + buffer->len, BUFFER_SIZE - buffer->len);
    if (access_log_format(&out, &log->options, record))
        buffer->len += out.len;
    else
        add_dropped(buffer, 1);
}

void access_log_flush(struct access_log *log, struct loop *loop)
{
    if (!log || log->fd < 0)
        return;
    CHECK(loop_index(loop) < log->loops);
    flush(log, &log->buffers[loop_index(loop)]);
}

static void at_turn_end(struct loop *loop, void *arg)
{
    access_log_flush(arg, loop);
}

void access_log_attach(struct access_log *log, struct loop *loop)
{
    if (log && log->fd >= 0)
        loop_at_turn_end(loop, (struct loop_hook){ .run = at_turn_end, .arg = log });
}

uint64_t access_log_dropped(const struct access_log *log)
{
    uint64_t dropped = 0;

    for (unsigned i = 0; log && i < log->loops; i++)
        dropped += atomic_load_explicit(&log->buffers[i].dropped, memory_order_relaxed);
    return dropped;
}

void access_log_close(struct access_log *log)
{
    if (!log)
        return;
    for (unsigned i = 0; log->buffers && i < log->loops; i++) {
        if (log->fd >= 0)
            flush(log, &log->buffers[i]);
        heap_free(log->buffers[i].bytes);
    }
    if (log->fd >= 0)
        close(log->fd);
    heap_free(log->path);
    heap_free(log->memory);
    heap_free(log);
}
