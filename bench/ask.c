/* Asks an HTTP server (or, with -R, a Redis server) for numbered keys, and prints what that took as one line of JSON.
 *
 *   ask [-c CONNECTIONS] [-n REQUESTS] [-d SECONDS] [-r RATE] [-k KEYS] [-f FIRST] [-s SEED] [-H FIELD] [-R] PORT PREFIX
 *
 * A key is PREFIX and nine digits: KEYS of them from FIRST on, in turn, or at random with a SEED. Without -k it is PREFIX
 * alone. Without -r each connection asks again when it has its answer; with it, requests leave at that rate whatever
 * the server does, on any idle connection. Latencies are microseconds from sending to the answer's last byte; a request that
 * was due while all connections were busy counts from when it was due. Whatever is no 200 with a length is an error.
 *
 * One thread, one connection array; a connection is idle, or has one request in flight. */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum { CONNS_MAX = 16384, EVENTS_MAX = 256, HEAD_MAX = 16384, BUFFER = 65536, DRAIN_MS = 2000 };

/* `skip`: bytes of the body still to come, -1 while the head is not complete. */
struct conn {
    int fd;
    bool busy;
    int64_t since; /* ns */
    long skip;
    unsigned head_len;
    int status;
    char head[HEAD_MAX];
};

static struct {
    unsigned connections;
    unsigned long count, keys, first, seed;
    double seconds, rate;
    const char *field, *prefix;
    bool redis, random;
    uint16_t port;
} opt = { .connections = 1 };

static struct conn *conns;
static unsigned *idle, idle_count, busy_count;
static uint32_t *latencies; /* in 100 ns */
static size_t latencies_len, latencies_room;
static unsigned long asked, errors, bytes;
static int epoll;

static int64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void open_conn(struct conn *c)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(opt.port) };
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = c };
    int one = 1;

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
        die("connect");
    }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event);
    c->busy = false;
}

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 33) * 0xff51afd7ed558ccdu;
    x = (x ^ x >> 33) * 0xc4ceb9fe1a85ec53u;
    return x ^ x >> 33;
}

static int request(char *text, size_t room, unsigned long serial)
{
    char key[1024];
    int len;

    if (opt.keys == 0) {
        len = snprintf(key, sizeof(key), "%s", opt.prefix);
    } else {
        unsigned long n = opt.random ? mix(serial + (opt.seed << 32)) % opt.keys : serial % opt.keys;

        len = snprintf(key, sizeof(key), "%s%09lu", opt.prefix, opt.first + n);
    }
    if (opt.redis) {
        return snprintf(text, room, "*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n", len, key);
    }
    return snprintf(text, room, "GET %s HTTP/1.1\r\nHost: bench\r\n%s%s\r\n", key, opt.field ? opt.field : "",
                    opt.field ? "\r\n" : "");
}

static void ask(struct conn *c, int64_t since)
{
    char text[4096];
    int len = request(text, sizeof(text), asked);

    c->busy = true;
    c->since = since;
    c->skip = -1;
    c->head_len = 0;
    asked++;
    busy_count++;
    if (send(c->fd, text, (size_t)len, MSG_NOSIGNAL) != len) {
        shutdown(c->fd, SHUT_RDWR); /* what follows is an end of file */
    }
}

static void remember(int64_t took)
{
    if (latencies_len == latencies_room) {
        latencies_room = latencies_room != 0 ? 2 * latencies_room : 65536;
        latencies = realloc(latencies, latencies_room * sizeof(*latencies));
        if (latencies == NULL) {
            die("realloc");
        }
    }
    latencies[latencies_len++] = (uint32_t)(took / 100);
}

static void become_idle(struct conn *c, bool good)
{
    busy_count--;
    c->busy = false;
    if (good) {
        remember(now_ns() - c->since);
    } else {
        errors++;
    }
    idle[idle_count++] = (unsigned)(c - conns);
}

static void reopen(struct conn *c)
{
    close(c->fd);
    if (c->busy) {
        become_idle(c, false);
    }
    open_conn(c);
}

/* Sets `skip` when the head is complete: the bytes after it that belong to the answer. 0, or how long the head is. */
static unsigned head_end(struct conn *c)
{
    char *stop = strstr(c->head, opt.redis ? "\r\n" : "\r\n\r\n");
    const char *field;

    if (stop == NULL) {
        return 0;
    }
    if (opt.redis) {
        c->skip = c->head[0] == '$' && c->head[1] != '-' ? strtol(c->head + 1, NULL, 10) + 2 : 0;
        c->status = c->skip > 0 ? 200 : 404;
        return (unsigned)(stop - c->head) + 2;
    }
    stop[2] = '\0';
    c->status = (int)strtol(c->head + 9, NULL, 10);
    field = strcasestr(c->head, "\r\ncontent-length:");
    c->skip = field != NULL ? strtol(field + 17, NULL, 10) : 0;
    c->status = field != NULL ? c->status : 0;
    return (unsigned)(stop - c->head) + 4;
}

static void receive(struct conn *c)
{
    static char buffer[BUFFER];
    ssize_t n = recv(c->fd, c->skip < 0 ? c->head + c->head_len : buffer,
                     c->skip < 0 ? HEAD_MAX - 1 - c->head_len : sizeof(buffer), MSG_DONTWAIT);
    unsigned used;

    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (n <= 0 || !c->busy) {
        reopen(c);
        return;
    }
    if (c->skip < 0) {
        c->head_len += (unsigned)n;
        c->head[c->head_len] = '\0';
        used = head_end(c);
        if (used == 0) {
            if (c->head_len == HEAD_MAX - 1) {
                reopen(c);
            }
            return;
        }
        n = (ssize_t)(c->head_len - used);
    }
    c->skip -= n;
    bytes += (unsigned long)n;
    if (c->skip < 0) {
        reopen(c);
    } else if (c->skip == 0) {
        become_idle(c, c->status == 200);
    }
}

static bool more(int64_t start, int64_t now)
{
    return (opt.count == 0 || asked < opt.count) && (opt.seconds <= 0 || (double)(now - start) < opt.seconds * 1e9);
}

/* Sends what may leave; returns nanoseconds until the next is due, -1: when an answer comes. */
static int64_t send_due(int64_t start)
{
    while (idle_count > 0) {
        struct conn *next;
        int64_t now = now_ns();
        int64_t due = opt.rate > 0 ? start + (int64_t)((double)asked * 1e9 / opt.rate) : now;

        if (!more(start, now)) {
            return -1;
        }
        if (due > now) {
            return due - now;
        }
        next = &conns[idle[--idle_count]];
        /* The last idle connection, and late by more than our own waking up: it was due while all were busy. */
        ask(next, now - due > 1000000 && idle_count == 0 ? due : now);
    }
    return -1;
}

static int64_t least(int64_t a, int64_t b)
{
    return a < 0 || b < a ? b : a;
}

static void run(void)
{
    struct epoll_event events[EVENTS_MAX];
    int64_t start = now_ns();
    int64_t stop = 0;

    for (;;) {
        int64_t wait = send_due(start);
        int64_t now = now_ns();
        struct timespec t;
        int n;

        if (!more(start, now)) {
            stop = stop != 0 ? stop : now;
            if (busy_count == 0 || now - stop > (int64_t)DRAIN_MS * 1000000) {
                break;
            }
        }
        wait = least(wait, 100000000);
        t = (struct timespec){ .tv_sec = wait / 1000000000, .tv_nsec = wait % 1000000000 };
        n = epoll_pwait2(epoll, events, EVENTS_MAX, &t, NULL);
        for (int i = 0; i < n; i++) {
            receive(events[i].data.ptr);
        }
    }
    opt.seconds = (double)((stop != 0 ? stop : now_ns()) - start) / 1e9;
}

static int by_size(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

static double share(double part)
{
    return latencies_len == 0 ? 0 : (double)latencies[(size_t)(part * (double)(latencies_len - 1))] / 10;
}

static void options(int argc, char **argv)
{
    int c;

    while ((c = getopt(argc, argv, "c:n:d:r:k:f:s:H:R")) != -1) {
        switch (c) {
        case 'c': opt.connections = (unsigned)strtoul(optarg, NULL, 10); break;
        case 'n': opt.count = strtoul(optarg, NULL, 10); break;
        case 'd': opt.seconds = strtod(optarg, NULL); break;
        case 'r': opt.rate = strtod(optarg, NULL); break;
        case 'k': opt.keys = strtoul(optarg, NULL, 10); break;
        case 'f': opt.first = strtoul(optarg, NULL, 10); break;
        case 's': opt.seed = strtoul(optarg, NULL, 10), opt.random = true; break;
        case 'H': opt.field = optarg; break;
        case 'R': opt.redis = true; break;
        default: optind = argc;
        }
    }
    if (argc - optind != 2 || opt.connections == 0 || opt.connections > CONNS_MAX) {
        fprintf(stderr,
                "usage: ask [-c CONNECTIONS] [-n REQUESTS] [-d SECONDS] [-r RATE] [-k KEYS] [-f FIRST] [-s SEED] "
                "[-H FIELD] [-R] PORT PREFIX\n");
        exit(2);
    }
    opt.port = (uint16_t)strtoul(argv[optind], NULL, 10);
    opt.prefix = argv[optind + 1];
}

int main(int argc, char **argv)
{
    options(argc, argv);
    prctl(PR_SET_TIMERSLACK, 1UL);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    conns = calloc(opt.connections, sizeof(*conns));
    idle = calloc(opt.connections, sizeof(*idle));
    if (conns == NULL || idle == NULL) {
        die("calloc");
    }
    for (unsigned i = 0; i < opt.connections; i++) {
        open_conn(&conns[i]);
        idle[idle_count++] = i;
    }
    run();
    qsort(latencies, latencies_len, sizeof(*latencies), by_size);
    printf("{\"asked\":%lu,\"good\":%zu,\"errors\":%lu,\"unanswered\":%u,\"seconds\":%.4f,\"rate\":%.1f,\"bytes\":%lu,"
           "\"p50\":%.1f,\"p90\":%.1f,\"p99\":%.1f,\"p999\":%.1f,\"max\":%.1f}\n",
           asked, latencies_len, errors, busy_count, opt.seconds, (double)latencies_len / opt.seconds, bytes,
           share(0.5), share(0.9), share(0.99), share(0.999), share(1));
    return 0;
}
