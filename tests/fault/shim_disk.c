/* The preloaded library's second half: a disk that is full, read-only or broken, as far as the files below one directory go.
 *
 *   FAULT_DISK_DIR=path   files below it (absolute, no symbolic links)
 *   FAULT_DISK_FILE=path  a file of struct control; the test writes it and may change it under the running program
 *
 * tests/flow/harness/disk.mjs is the other side. Only calls that go through the C library's symbols are seen: what stdio writes
 * is not. Nothing is remembered about descriptors: which file one is says /proc, and only while some fault is set. */
#include "shim_disk.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* What a call does to the disk. */
enum kind {
    KIND_WRITE,    /* write, pwrite, writev, pwritev */
    KIND_ALLOCATE, /* fallocate */
    KIND_SYNC,     /* fsync, fdatasync, sync_file_range */
    KIND_OPEN,     /* open for writing, mkdir */
    KIND_TIDY,     /* rename, unlink, ftruncate, punching holes: what a full disk still allows */
    KIND_READ,     /* read, pread, preadv, sendfile */
    KIND_COUNT
};

#define CRASH (-1) /* in place of an errno: the program is killed, in the middle of the call if it writes */

struct control {
    _Atomic int32_t error[KIND_COUNT]; /* errno, CRASH, or 0: goes well */
    _Atomic int32_t after;             /* so many calls that would fail go well first */
    _Atomic int32_t every;             /* then one call in so many fails; 0 and 1: each */
    _Atomic int32_t torn;              /* a write that fails has moved its first half */
    _Atomic int32_t cold;              /* RWF_NOWAIT finds nothing in the page cache */
    _Atomic int32_t calls;             /* that had a fault set for their kind */
    _Atomic int32_t failed;            /* of these */
};

static struct control *control; /* NULL: no faults at all */
static const char *folder;
static size_t folder_len;

__attribute__((constructor)) static void start(void)
{
    const char *path = getenv("FAULT_DISK_FILE");
    int fd;
    void *memory;

    folder = getenv("FAULT_DISK_DIR");
    if (!path || !folder)
        return;
    folder_len = strlen(folder);
    fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);
    memory = fd >= 0 ? mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
    if (fd >= 0)
        syscall(SYS_close, fd);
    if (memory != MAP_FAILED)
        control = memory;
}

static bool is_below(const char *path)
{
    return strncmp(path, folder, folder_len) == 0 && (path[folder_len] == 0 || path[folder_len] == '/');
}

static bool link_below(const char *link)
{
    char path[4096];
    ssize_t len = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof(path) - 1);

    if (len < 0)
        return false;
    path[len] = 0;
    return is_below(path);
}

static bool fd_below(int fd)
{
    char link[32];

    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    return link_below(link);
}

static bool name_below(int at, const char *path)
{
    if (path[0] == '/')
        return is_below(path);
    return at == AT_FDCWD ? link_below("/proc/self/cwd") : fd_below(at);
}

/* 0: the call goes well. The caller knows already that it is about the folder's files. */
static int draw_fault(enum kind kind)
{
    int32_t call = atomic_fetch_add(&control->calls, 1) - atomic_load(&control->after);
    int32_t every = atomic_load(&control->every);

    if (call < 0 || (every > 1 && call % every != 0))
        return 0;
    atomic_fetch_add(&control->failed, 1);
    return atomic_load(&control->error[kind]);
}

static bool is_set(enum kind kind)
{
    return control && atomic_load(&control->error[kind]) != 0;
}

/* True: the call fails with errno (or the program is no more). */
static bool fails(int error)
{
    if (error == CRASH)
        kill(getpid(), SIGKILL);
    errno = error;
    return error != 0;
}

static bool fd_fails(int fd, enum kind kind)
{
    return is_set(kind) && fd_below(fd) && fails(draw_fault(kind));
}

static bool name_fails(int at, const char *path, enum kind kind)
{
    return is_set(kind) && name_below(at, path) && fails(draw_fault(kind));
}

/* ---- writing ---- */

/* `at` < 0: at the file's own position. */
static bool write_fails(int fd, const void *memory, size_t len, off_t at)
{
    int error = is_set(KIND_WRITE) && fd_below(fd) ? draw_fault(KIND_WRITE) : 0;

    if (error != 0 && (atomic_load(&control->torn) || error == CRASH)) {
        if (at < 0)
            syscall(SYS_write, fd, memory, len / 2);
        else
            syscall(SYS_pwrite64, fd, memory, len / 2, at);
    }
    return fails(error);
}

ssize_t disk_write(int fd, const void *memory, size_t len)
{
    return write_fails(fd, memory, len, -1) ? -1 : syscall(SYS_write, fd, memory, len);
}

ssize_t pwrite(int fd, const void *memory, size_t len, off_t at)
{
    return write_fails(fd, memory, len, at) ? -1 : syscall(SYS_pwrite64, fd, memory, len, at);
}

ssize_t pwritev2(int fd, const struct iovec *iov, int count, off_t at, int flags)
{
    if (count > 0 && write_fails(fd, iov[0].iov_base, iov[0].iov_len, at))
        return -1;
    return syscall(SYS_pwritev2, fd, iov, count, at, 0L, flags);
}

ssize_t pwritev(int fd, const struct iovec *iov, int count, off_t at)
{
    return pwritev2(fd, iov, count, at, 0);
}

ssize_t writev(int fd, const struct iovec *iov, int count)
{
    if (count > 0 && write_fails(fd, iov[0].iov_base, iov[0].iov_len, -1))
        return -1;
    return syscall(SYS_writev, fd, iov, count);
}

int fallocate(int fd, int mode, off_t at, off_t len)
{
    return fd_fails(fd, mode & FALLOC_FL_PUNCH_HOLE ? KIND_TIDY : KIND_ALLOCATE)
               ? -1
               : (int)syscall(SYS_fallocate, fd, mode, at, len);
}

int posix_fallocate(int fd, off_t at, off_t len)
{
    return fallocate(fd, 0, at, len) == 0 ? 0 : errno;
}

int ftruncate(int fd, off_t len)
{
    return fd_fails(fd, KIND_TIDY) ? -1 : (int)syscall(SYS_ftruncate, fd, len);
}

int fsync(int fd)
{
    return fd_fails(fd, KIND_SYNC) ? -1 : (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd)
{
    return fd_fails(fd, KIND_SYNC) ? -1 : (int)syscall(SYS_fdatasync, fd);
}

int sync_file_range(int fd, off_t at, off_t len, unsigned flags)
{
    return fd_fails(fd, KIND_SYNC) ? -1 : (int)syscall(SYS_sync_file_range, fd, at, len, flags);
}

/* ---- names ---- */

int openat(int at, const char *path, int flags, ...)
{
    bool writing = (flags & O_ACCMODE) != O_RDONLY || flags & O_CREAT;
    bool takes_mode = flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE;
    va_list rest;
    mode_t mode = 0;

    if (takes_mode) {
        va_start(rest, flags);
        mode = (mode_t)va_arg(rest, int);
        va_end(rest);
    }
    return writing && name_fails(at, path, KIND_OPEN) ? -1 : (int)syscall(SYS_openat, at, path, flags, mode);
}

int open(const char *path, int flags, ...)
{
    va_list rest;
    mode_t mode;

    va_start(rest, flags);
    mode = flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE ? (mode_t)va_arg(rest, int) : 0;
    va_end(rest);
    return openat(AT_FDCWD, path, flags, mode);
}

int mkdirat(int at, const char *path, mode_t mode)
{
    return name_fails(at, path, KIND_OPEN) ? -1 : (int)syscall(SYS_mkdirat, at, path, mode);
}

int mkdir(const char *path, mode_t mode)
{
    return mkdirat(AT_FDCWD, path, mode);
}

int renameat(int from_at, const char *from, int to_at, const char *to)
{
    return name_fails(to_at, to, KIND_TIDY) ? -1 : (int)syscall(SYS_renameat2, from_at, from, to_at, to, 0);
}

int rename(const char *from, const char *to)
{
    return renameat(AT_FDCWD, from, AT_FDCWD, to);
}

int unlinkat(int at, const char *path, int flags)
{
    return name_fails(at, path, KIND_TIDY) ? -1 : (int)syscall(SYS_unlinkat, at, path, flags);
}

int unlink(const char *path)
{
    return unlinkat(AT_FDCWD, path, 0);
}

/* ---- reading ---- */

ssize_t disk_read(int fd, void *memory, size_t len)
{
    return fd_fails(fd, KIND_READ) ? -1 : syscall(SYS_read, fd, memory, len);
}

ssize_t pread(int fd, void *memory, size_t len, off_t at)
{
    return fd_fails(fd, KIND_READ) ? -1 : syscall(SYS_pread64, fd, memory, len, at);
}

ssize_t preadv2(int fd, const struct iovec *iov, int count, off_t at, int flags)
{
    if (flags & RWF_NOWAIT && control && atomic_load(&control->cold) && fd_below(fd)) {
        errno = EAGAIN;
        return -1;
    }
    return fd_fails(fd, KIND_READ) ? -1 : syscall(SYS_preadv2, fd, iov, count, at, 0L, flags);
}

ssize_t preadv(int fd, const struct iovec *iov, int count, off_t at)
{
    return preadv2(fd, iov, count, at, 0);
}

ssize_t disk_sendfile(int to, int from, off_t *at, size_t len)
{
    return fd_fails(from, KIND_READ) ? -1 : syscall(SYS_sendfile, to, from, at, len);
}

/* ---- the other names the same calls go by: large files, and _FORTIFY_SOURCE ---- */

ssize_t __pread_chk(int fd, void *memory, size_t len, off_t at, size_t room)
{
    if (len > room)
        abort();
    return pread(fd, memory, len, at);
}

int __open_2(const char *path, int flags)
{
    return open(path, flags);
}

int __openat_2(int at, const char *path, int flags)
{
    return openat(at, path, flags);
}

#define ALSO(name, target) extern __typeof__(target) name __attribute__((alias(#target)))

ALSO(pwrite64, pwrite);
ALSO(pwritev64, pwritev);
ALSO(pwritev64v2, pwritev2);
ALSO(pread64, pread);
ALSO(__pread64_chk, __pread_chk);
ALSO(preadv64, preadv);
ALSO(preadv64v2, preadv2);
ALSO(fallocate64, fallocate);
ALSO(posix_fallocate64, posix_fallocate);
ALSO(ftruncate64, ftruncate);
ALSO(open64, open);
ALSO(openat64, openat);
ALSO(__open64_2, __open_2);
ALSO(__openat64_2, __openat_2);
