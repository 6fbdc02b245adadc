/* Asks chat completions (or, with -g, plain GETs) over so many connections, and prints what that took as one line of JSON.
 *
 *   ai_ask [-c CONNECTIONS] [-n REQUESTS] [-d SECONDS] [-s] [-u] [-b PROMPT_BYTES] [-m MODEL] [-p PATH] [-g] [-H FIELD]... PORT
 *
 * Each connection asks again when it has its answer. -s: streams; -u: no two prompts alike. Times are microseconds from sending:
 * `p50`... to the last byte, `first` to the first piece of a stream, `lag`: how long a piece was under way, by what ai_provider
 * wrote into it. Whatever is no 200 is an error. */
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
#include <time.h>
#include <unistd.h>

enum { CONNS_MAX = 16384, EVENTS_MAX = 256, HEAD_MAX = 8192, BUFFER = 262144, SERIAL = 12, TAIL = 7 };

/* `left`: bytes of the body still to come; -1: the head is not complete; -2: chunked. */
struct conn {
    int fd;
    bool busy, first_seen;
    int64_t since;
    long left;
    unsigned head_len;
    char head[HEAD_MAX + 1];
    char tail[TAIL];
    size_t to_send; /* of the request, from its end */
};

struct samples {
    uint32_t *list; /* in 100 ns */
    size_t len, room;
};

static struct {
    unsigned connections;
    unsigned long count, prompt;
    double seconds;
    bool stream, unique, get;
    const char *path, *model;
    uint16_t port;
} opt = { .connections = 1, .prompt = 200, .path = "/v1/chat/completions", .model = "gpt-bench" };

static struct conn *conns;
static struct samples totals, firsts, lags;
static char *request, *serial_at;
static size_t request_len;
static unsigned long asked, good, errors;
static unsigned busy;
static int64_t stop_at;
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

static void sample(struct samples *s, int64_t ns)
{
    if (s->len == s->room) {
        s->room = s->room ? 2 * s->room : 65536;
        s->list = realloc(s->list, s->room * sizeof(*s->list));
        if (s->list == NULL) {
            die("memory");
        }
    }
    s->list[s->len++] = ns < 0 ? 0 : (uint32_t)(ns / 100 > UINT32_MAX ? UINT32_MAX : ns / 100);
}

static int by_size(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

static double quantile(const struct samples *s, double share)
{
    return s->len ? s->list[(size_t)(share * (double)(s->len - 1))] / 10.0 : -1;
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
}

static bool over(void)
{
    return opt.count ? asked >= opt.count : now_ns() >= stop_at;
}

/* A long request leaves as the socket takes it: nobody else waits for it. */
static void send_more(struct conn *c)
{
    struct epoll_event event = { .data.ptr = c };
    ssize_t n = send(c->fd, request + request_len - c->to_send, c->to_send, MSG_NOSIGNAL | MSG_DONTWAIT);
    bool waited = c->to_send != request_len;

    if (n > 0) {
        c->to_send -= (size_t)n;
    }
    if (c->to_send > 0 || waited) {
        event.events = EPOLLIN | (c->to_send > 0 ? (uint32_t)EPOLLOUT : 0);
        epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &event);
    }
}

static void ask(struct conn *c)
{
    char digits[SERIAL + 1];

    if (over()) {
        return;
    }
    if (serial_at != NULL && opt.unique) {
        snprintf(digits, sizeof(digits), "%0*lu", SERIAL, asked);
        memcpy(serial_at, digits, SERIAL);
    }
    asked++;
    busy++;
    c->busy = true;
    c->first_seen = false;
    c->left = -1;
    c->head_len = 0;
    memset(c->tail, 0, TAIL);
    c->since = now_ns();
    c->to_send = request_len;
    send_more(c);
}

static void done(struct conn *c, bool well)
{
    busy--;
    c->busy = false;
    if (well) {
        good++;
        sample(&totals, now_ns() - c->since);
    } else {
        errors++;
    }
}

static void look(struct conn *c, const char *bytes, size_t len)
{
    const char *at = bytes, *stop = bytes + len;
    int64_t now = now_ns();

    while ((at = memmem(at, (size_t)(stop - at), "\"t=", 3)) != NULL) {
        at += 3;
        sample(&lags, now - strtoll(at, NULL, 10));
        if (!c->first_seen) {
            sample(&firsts, now - c->since);
            c->first_seen = true;
        }
    }
}

/* True: the answer is complete. */
static bool take_body(struct conn *c, const char *bytes, size_t len)
{
    if (opt.stream) {
        look(c, bytes, len);
    }
    if (c->left >= 0) {
        c->left -= (long)len;
        return c->left <= 0;
    }
    if (len >= TAIL) {
        memcpy(c->tail, bytes + len - TAIL, TAIL);
    } else {
        memmove(c->tail, c->tail + len, TAIL - len);
        memcpy(c->tail + TAIL - len, bytes, len);
    }
    return memcmp(c->tail, "\r\n0\r\n\r\n", TAIL) == 0;
}

static bool take(struct conn *c, char *bytes, size_t len)
{
    char *stop, *length;
    size_t before = c->head_len, part, head;

    if (c->left != -1) {
        return take_body(c, bytes, len);
    }
    part = len < HEAD_MAX - before ? len : HEAD_MAX - before;
    memcpy(c->head + before, bytes, part);
    c->head_len += (unsigned)part;
    c->head[c->head_len] = '\0';
    stop = strstr(c->head, "\r\n\r\n");
    if (stop == NULL) {
        return false;
    }
    head = (size_t)(stop + 4 - c->head);
    *stop = '\0';
    length = strcasestr(c->head, "\r\ncontent-length:");
    c->left = length != NULL ? strtol(length + 17, NULL, 10) : -2;
    return take_body(c, bytes + (head - before), len - (head - before));
}

static void receive(struct conn *c)
{
    static char buffer[BUFFER + 1];
    ssize_t n = recv(c->fd, buffer, BUFFER, MSG_DONTWAIT);

    if (n < 0 && errno == EAGAIN) {
        return;
    }
    if (n <= 0) {
        close(c->fd);
        if (c->busy) {
            done(c, false);
        }
        open_conn(c);
        ask(c);
        return;
    }
    buffer[n] = '\0';
    if (c->busy && take(c, buffer, (size_t)n)) {
        done(c, strncmp(c->head, "HTTP/1.1 200", 12) == 0);
        ask(c);
    }
}

static void compose(char *const *fields, unsigned count)
{
    size_t room = opt.prompt + 8192;
    char *body = malloc(room);
    size_t body_len = 0, len;

    request = malloc(2 * room);
    if (body == NULL || request == NULL) {
        die("memory");
    }
    if (!opt.get) {
        body_len = (size_t)snprintf(body, room,
                                    "{\"model\":\"%s\",%s\"messages\":[{\"role\":\"system\",\"content\":"
                                    "\"You are a terse assistant.\"},{\"role\":\"user\",\"content\":\"#%0*d ",
                                    opt.model, opt.stream ? "\"stream\":true," : "", SERIAL, 0);
        for (size_t i = 0; i < opt.prompt; i++) {
            body[body_len++] = "the quick brown fox jumps over the lazy dog "[i % 44];
        }
        body_len += (size_t)snprintf(body + body_len, room - body_len, "\"}],\"temperature\":0.2}");
    }
    len = (size_t)snprintf(request, room, "%s %s HTTP/1.1\r\nHost: bench\r\n", opt.get ? "GET" : "POST", opt.path);
    for (unsigned i = 0; i < count; i++) {
        len += (size_t)snprintf(request + len, room - len, "%s\r\n", fields[i]);
    }
    if (!opt.get) {
        len += (size_t)snprintf(request + len, room - len, "Content-Type: application/json\r\nContent-Length: %zu\r\n",
                                body_len);
    }
    len += (size_t)snprintf(request + len, room - len, "\r\n");
    memcpy(request + len, body, body_len);
    request_len = len + body_len;
    serial_at = opt.get ? NULL : (char *)memmem(request, request_len, "\"#", 2) + 2;
    free(body);
}

static void print(int64_t took)
{
    struct samples *all[] = { &totals, &firsts, &lags };

    for (unsigned i = 0; i < 3; i++) {
        qsort(all[i]->list, all[i]->len, sizeof(uint32_t), by_size);
    }
    printf(
        "{\"asked\":%lu,\"good\":%lu,\"errors\":%lu,\"seconds\":%.4f,\"rate\":%.1f,\"p50\":%.1f,\"p99\":%.1f,\"first50\":%.1f,"
        "\"first99\":%.1f,\"lag50\":%.1f,\"lag99\":%.1f,\"pieces\":%zu}\n",
        asked, good, errors, (double)took / 1e9, (double)good * 1e9 / (double)took, quantile(&totals, 0.5),
        quantile(&totals, 0.99), quantile(&firsts, 0.5), quantile(&firsts, 0.99), quantile(&lags, 0.5),
        quantile(&lags, 0.99), lags.len);
}

int main(int argc, char **argv)
{
    struct epoll_event events[EVENTS_MAX];
    char *fields[16];
    unsigned field_count = 0;
    int64_t began;
    int flag;

    while ((flag = getopt(argc, argv, "c:n:d:sub:m:p:gH:")) != -1) {
        switch (flag) {
        case 'c': opt.connections = (unsigned)strtoul(optarg, NULL, 10); break;
        case 'n': opt.count = strtoul(optarg, NULL, 10); break;
        case 'd': opt.seconds = strtod(optarg, NULL); break;
        case 's': opt.stream = true; break;
        case 'u': opt.unique = true; break;
        case 'b': opt.prompt = strtoul(optarg, NULL, 10); break;
        case 'm': opt.model = optarg; break;
        case 'p': opt.path = optarg; break;
        case 'g': opt.get = true; break;
        case 'H':
            if (field_count < 16) {
                fields[field_count++] = optarg;
            }
            break;
        default: return 2;
        }
    }
    if (optind + 1 != argc || opt.connections == 0 || opt.connections > CONNS_MAX) {
        fprintf(
            stderr,
            "usage: ai_ask [-c N] [-n N] [-d S] [-s] [-u] [-b BYTES] [-m MODEL] [-p PATH] [-g] [-H FIELD]... PORT\n");
        return 2;
    }
    opt.port = (uint16_t)strtoul(argv[optind], NULL, 10);
    compose(fields, field_count);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    conns = calloc(opt.connections, sizeof(*conns));
    if (conns == NULL) {
        die("memory");
    }
    for (unsigned i = 0; i < opt.connections; i++) {
        open_conn(&conns[i]);
    }
    began = now_ns();
    stop_at = began + (int64_t)(opt.seconds * 1e9);
    for (unsigned i = 0; i < opt.connections; i++) {
        ask(&conns[i]);
    }
    while (busy > 0) {
        int n = epoll_wait(epoll, events, EVENTS_MAX, 30000);

        if (n == 0) {
            fprintf(stderr, "no answer for 30 s\n");
            return 1;
        }
        for (int i = 0; i < n; i++) {
            struct conn *c = events[i].data.ptr;

            if (events[i].events & EPOLLOUT) {
                send_more(c);
            }
            if (events[i].events & ~(uint32_t)EPOLLOUT) {
                receive(c);
            }
        }
    }
    print(now_ns() - began);
    return 0;
}
