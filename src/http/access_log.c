/* The access log: formatting, one buffer per loop, writing.
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

#include <arpa/inet.h>
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

/* Longest printed value in raw bytes; the rest is cut. Escaping may make six bytes of one, so a line that does not fit is
 * made again with an eighth, or an eighth of that, which always does. */
enum {
    MAX_METHOD = 32,
    MAX_HOST = 255,
    MAX_PATH = 1024,
    MAX_QUERY = 1024,
    MAX_AGENT = 256,
    MAX_REFERER = 512,
    MAX_NAME = 128
};

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

/* ---- formatting ---- */

static bool is_plain(struct view v)
{
    for (size_t i = 0; i < v.len; i++) {
        unsigned char c = (unsigned char)v.ptr[i];

        if (c < 0x20 || c > 0x7e || c == '"' || c == '\\')
            return false;
    }
    return true;
}

static void put_json(struct text *out, struct view v)
{
    if (!is_plain(v)) {
        text_json(out, v);
        return;
    }
    text_char(out, '"');
    text_put(out, v);
    text_char(out, '"');
}

/* For the combined format: what could end a field or a line is written as \xHH, as nginx and Apache do. */
static void put_escaped(struct text *out, struct view v)
{
    if (is_plain(v)) {
        text_put(out, v);
        return;
    }
    for (size_t i = 0; i < v.len; i++) {
        unsigned char c = (unsigned char)v.ptr[i];

        if (c < 0x20 || c > 0x7e || c == '"' || c == '\\') {
            text_lit(out, "\\x");
            text_hex(out, c, 2);
        } else {
            text_char(out, (char)c);
        }
    }
}

static void put_2(struct text *out, unsigned value)
{
    text_char(out, (char)('0' + value / 10 % 10));
    text_char(out, (char)('0' + value % 10));
}

/* Year, month 1..12 and day of a day number since 1970 (years counted from March, so that leap days come last). */
static void date_of_day(int64_t day, unsigned *ret_year, unsigned *ret_month, unsigned *ret_day)
{
    int64_t shifted = day + 719468, era = (shifted >= 0 ? shifted : shifted - 146096) / 146097;
    unsigned of_era = (unsigned)(shifted - era * 146097);
    unsigned year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    unsigned of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    unsigned month = (5 * of_year + 2) / 153;

    *ret_day = of_year - (153 * month + 2) / 5 + 1;
    *ret_month = month < 10 ? month + 3 : month - 9;
    *ret_year = (unsigned)(year_of_era + era * 400 + (*ret_month <= 2));
}

static void put_time(struct text *out, int64_t time_ms, enum access_format format)
{
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    int64_t ms = MAX(time_ms, 0);
    unsigned of_day = (unsigned)(ms / 1000 % 86400), year, month, day;

    date_of_day(ms / 86400000, &year, &month, &day);
    if (format == ACCESS_COMBINED) {
        text_char(out, '[');
        put_2(out, day);
        text_char(out, '/');
        text_put(out, view_make(months + (month - 1) * 3, 3));
        text_char(out, '/');
        text_u64(out, year);
        text_char(out, ':');
    } else {
        text_u64(out, year);
        text_char(out, '-');
        put_2(out, month);
        text_char(out, '-');
        put_2(out, day);
        text_char(out, 'T');
    }
    put_2(out, of_day / 3600);
    text_char(out, ':');
    put_2(out, of_day / 60 % 60);
    text_char(out, ':');
    put_2(out, of_day % 60);
    if (format == ACCESS_COMBINED) {
        text_lit(out, " +0000]");
        return;
    }
    text_char(out, '.');
    text_char(out, (char)('0' + ms / 100 % 10));
    put_2(out, (unsigned)(ms % 100));
    text_char(out, 'Z');
}

static void mask_v6(struct text *out, struct view address)
{
    char copy[INET6_ADDRSTRLEN + 1], masked[INET6_ADDRSTRLEN];
    struct in6_addr bits;

    if (address.len >= sizeof(copy)) {
        text_char(out, '-');
        return;
    }
    memcpy(copy, address.ptr, address.len);
    copy[address.len] = '\0';
    if (inet_pton(AF_INET6, copy, &bits) != 1) {
        text_char(out, '-');
        return;
    }
    if (IN6_IS_ADDR_V4MAPPED(&bits)) {
        text_printf(out, "%u.%u.%u.0", bits.s6_addr[12], bits.s6_addr[13], bits.s6_addr[14]);
        return;
    }
    memset(bits.s6_addr + 6, 0, 10); /* /48 */
    text_put(out, view_str(inet_ntop(AF_INET6, &bits, masked, sizeof(masked))));
}

void access_log_mask(struct text *out, struct view address)
{
    size_t dots = 0, keep = 0;

    if (view_contains(address, ':')) {
        mask_v6(out, address);
        return;
    }
    for (size_t i = 0; i < address.len; i++) {
        if (address.ptr[i] == '.' && ++dots == 3)
            keep = i + 1;
        else if (address.ptr[i] != '.' && (address.ptr[i] < '0' || address.ptr[i] > '9'))
            dots = 4;
    }
    if (dots != 3 || address.len > sizeof("255.255.255.255") - 1) {
        text_char(out, '-');
        return;
    }
    text_put(out, view_first(address, keep));
    text_char(out, '0');
}

/* Without query, fragment and user information. */
static struct view referer_bare(struct view referer, struct view *ret_rest)
{
    size_t end = MIN(view_find(referer, '?'), view_find(referer, '#')), slashes = 0, scheme = 0;

    referer = view_first(referer, end);
    *ret_rest = VIEW_NONE;
    while (scheme < referer.len && slashes < 2)
        if (referer.ptr[scheme++] == '/')
            slashes++;
    if (slashes == 2) {
        struct view rest = view_skip(referer, scheme), authority = view_first(rest, view_find(rest, '/'));
        size_t at = authority.len;

        while (at > 0 && authority.ptr[at - 1] != '@')
            at--;
        if (at > 0) {
            *ret_rest = view_skip(rest, at);
            return view_first(referer, scheme);
        }
    }
    return referer;
}

/* Scratch for values that are put together before they are escaped. */
struct scratch {
    char bytes[2 * MAX_PATH + MAX_QUERY];
};

static struct view make_path(struct scratch *scratch, const struct access_log_options *options,
                             const struct access_record *record, unsigned shrink)
{
    struct text path = TEXT_ON(scratch->bytes);

    text_put(&path, view_first(record->path, MAX_PATH / shrink));
    if (record->query.ptr) {
        text_char(&path, '?');
        text_put(&path, options->query_values ? view_first(record->query, MAX_QUERY / shrink) : VIEW("*"));
    }
    return text_view(&path);
}

static struct view make_referer(struct scratch *scratch, struct view referer, unsigned shrink)
{
    struct text out = TEXT_ON(scratch->bytes);
    struct view rest, start = referer_bare(referer, &rest);

    text_put(&out, view_first(start, MAX_REFERER / shrink));
    text_put(&out, view_first(rest, MAX_REFERER / shrink));
    return view_first(text_view(&out), MAX_REFERER / shrink);
}

static struct view make_address(struct scratch *scratch, const struct access_log_options *options, struct view client)
{
    struct text out = TEXT_ON(scratch->bytes);

    if (options->addresses == ACCESS_ADDRESSES_NONE)
        return VIEW_NONE;
    if (options->addresses == ACCESS_ADDRESSES_FULL || client.len == 0)
        return view_first(client, INET6_ADDRSTRLEN);
    access_log_mask(&out, client);
    return text_view(&out);
}

static struct view make_cookies(struct scratch *scratch, struct view cookie, unsigned shrink)
{
    struct text out = TEXT_ON(scratch->bytes);
    struct view rest = cookie;

    while (rest.ptr) {
        struct view pair = view_trim(view_cut(&rest, ';')), name = view_first(pair, view_find(pair, '='));

        if (name.len == pair.len) /* no '=': by the browsers' rules all of it is the value */
            continue;
        if (out.len)
            text_char(&out, ' ');
        text_put(&out, view_first(name, MAX_NAME));
    }
    return view_first(text_view(&out), MAX_REFERER / shrink);
}

static void member(struct text *out, struct view name, struct view value)
{
    if (value.len == 0)
        return;
    text_char(out, ',');
    text_put(out, name);
    put_json(out, value);
}

static void number(struct text *out, struct view name, uint64_t value)
{
    text_char(out, ',');
    text_put(out, name);
    text_u64(out, value);
}

static void format_json(struct text *out, const struct access_log_options *options, const struct access_record *r,
                        unsigned shrink)
{
    not_zeroed struct scratch scratch;

    text_lit(out, "{\"time\":\"");
    put_time(out, r->time_ms, ACCESS_JSON);
    text_char(out, '"');
    member(out, VIEW("\"client\":"), make_address(&scratch, options, r->client));
    member(out, VIEW("\"method\":"), view_first(r->method, MAX_METHOD));
    member(out, VIEW("\"host\":"), view_first(r->host, MAX_HOST / shrink));
    member(out, VIEW("\"path\":"), make_path(&scratch, options, r, shrink));
    member(out, VIEW("\"protocol\":"), view_first(r->protocol, MAX_METHOD));
    number(out, VIEW("\"status\":"), r->status);
    number(out, VIEW("\"bytes_in\":"), r->bytes_in);
    number(out, VIEW("\"bytes_out\":"), r->bytes_out);
    number(out, VIEW("\"duration_us\":"), r->duration_us);
    member(out, VIEW("\"outcome\":"), view_first(r->outcome, MAX_METHOD));
    member(out, VIEW("\"why\":"), view_first(r->why, MAX_METHOD));
    member(out, VIEW("\"tier\":"), view_first(r->tier, MAX_METHOD));
    member(out, VIEW("\"route\":"), view_first(r->route, MAX_NAME / shrink));
    if (r->upstream.len) {
        member(out, VIEW("\"upstream\":"), view_first(r->upstream, MAX_NAME / shrink));
        number(out, VIEW("\"upstream_us\":"), r->upstream_us);
    }
    member(out, VIEW("\"request_id\":"), view_first(r->request_id, MAX_NAME / shrink));
    member(out, VIEW("\"user_agent\":"), view_first(r->user_agent, MAX_AGENT / shrink));
    member(out, VIEW("\"referer\":"), make_referer(&scratch, r->referer, shrink));
    if (options->cookie_names)
        member(out, VIEW("\"cookie_names\":"), make_cookies(&scratch, r->cookie, shrink));
    text_lit(out, "}\n");
}

static void dash_or(struct text *out, struct view value)
{
    if (value.len)
        put_escaped(out, value);
    else
        text_char(out, '-');
}

static void format_combined(struct text *out, const struct access_log_options *options, const struct access_record *r,
                            unsigned shrink)
{
    not_zeroed struct scratch scratch;

    dash_or(out, make_address(&scratch, options, r->client));
    text_lit(out, " - - ");
    put_time(out, r->time_ms, ACCESS_COMBINED);
    text_lit(out, " \"");
    dash_or(out, view_first(r->method, MAX_METHOD));
    text_char(out, ' ');
    dash_or(out, make_path(&scratch, options, r, shrink));
    text_char(out, ' ');
    dash_or(out, view_first(r->protocol, MAX_METHOD));
    text_lit(out, "\" ");
    text_u64(out, r->status);
    text_char(out, ' ');
    text_u64(out, r->bytes_out);
    text_lit(out, " \"");
    dash_or(out, make_referer(&scratch, r->referer, shrink));
    text_lit(out, "\" \"");
    dash_or(out, view_first(r->user_agent, MAX_AGENT / shrink));
    text_lit(out, "\"\n");
}

bool access_log_format(struct text *out, const struct access_log_options *options, const struct access_record *record)
{
    size_t room = MIN(out->cap - out->len, (size_t)ACCESS_LINE_MAX);
    struct text line = text_make(out->ptr + out->len, room);

    if (room < ACCESS_LINE_MAX)
        return false;
    for (unsigned shrink = 1; shrink <= 64; shrink *= 8) {
        line.len = 0;
        line.overflow = false;
        if (options->format == ACCESS_JSON)
            format_json(&line, options, record, shrink);
        else
            format_combined(&line, options, record, shrink);
        if (!line.overflow)
            break;
    }
    CHECK(!line.overflow);
    out->len += line.len;
    return true;
}

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
