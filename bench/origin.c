/* An origin that answers every URL with a cacheable body, at once, after a delay, or never.
 *
 *   origin PORT BODY_BYTES[-MOST] DELAY_MS [FIELD ...]
 *
 * With MOST the length depends on the URL: any from BODY_BYTES to MOST. DELAY_MS -1: accepts, reads, and says nothing. A FIELD
 * (`Cache-Tag: shop`) is part of every head; `%s` in it becomes the target's first segment. FIELD `Cache-Control: ...` replaces ours.
 *
 * A head ends at an empty line, requests have no bodies, and the delay is the same for all: answers leave in the order in
 * which requests came, so one ring is the whole timer queue. GET /-/count answers the number of other requests so far. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define FDS_MAX 65536
#define EVENTS_MAX 256
#define HEAD_MAX 4096
#define HEAD_ROOM 2048
#define PENDING_MAX 65536

/* What of a request head has arrived; a request in flight is remembered by its connection and that one's generation. */
struct conn {
    char *head;
    size_t head_len;
    unsigned generation;
};

struct pending {
    int fd;
    unsigned generation;
    size_t body_len;
    char segment[24];
    int64_t due_ms;
};

static struct conn conns[FDS_MAX];
static struct pending ring[PENDING_MAX];
static unsigned ring_first, ring_end;
static char *room; /* for the longest answer: a head is written so that it ends where the body begins */
static size_t body_least, body_most;
static char **fields;
static int delay_ms;
static unsigned long requests;

static int64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void end(int fd)
{
    close(fd);
    free(conns[fd].head);
    conns[fd].head = NULL;
    conns[fd].generation++;
}

/* Loopback buffers take a small answer whole; where they do not, the socket blocks for it: this is a load tool. */
static void send_all(int fd, const char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, bytes, len, MSG_NOSIGNAL);

        if (n < 0) {
            if (errno == EINTR) {
                continue;
            }
            return;
        }
        bytes += n;
        len -= (size_t)n;
    }
}

static size_t body_of(const char *target, size_t len)
{
    uint64_t hash = 0xcbf29ce484222325u;

    for (size_t i = 0; i < len; i++) {
        hash = (hash ^ (unsigned char)target[i]) * 0x100000001b3u;
    }
    hash = (hash ^ hash >> 33) * 0xff51afd7ed558ccdu;
    return body_least + (size_t)((hash ^ hash >> 33) % (body_most - body_least + 1));
}

static void put(char *head, size_t *len, const char *text, size_t n)
{
    if (*len + n < HEAD_ROOM) {
        memcpy(head + *len, text, n);
        *len += n;
    }
}

static void respond(int fd, const struct pending *p)
{
    char head[HEAD_ROOM];
    bool own_control = false;
    size_t len;

    len = (size_t)snprintf(head, sizeof(head),
                           "HTTP/1.1 200 OK\r\nServer: origin\r\nContent-Type: application/octet-stream\r\n"
                           "Content-Length: %zu\r\n",
                           p->body_len);
    for (char **field = fields; *field != NULL; field++) {
        const char *hole = strstr(*field, "%s");

        own_control = own_control || strncasecmp(*field, "cache-control:", 14) == 0;
        if (hole != NULL) {
            put(head, &len, *field, (size_t)(hole - *field));
            put(head, &len, p->segment, strlen(p->segment));
            put(head, &len, hole + 2, strlen(hole + 2));
        } else {
            put(head, &len, *field, strlen(*field));
        }
        put(head, &len, "\r\n", 2);
    }
    if (!own_control) {
        put(head, &len, "Cache-Control: max-age=86400\r\n", 30);
    }
    put(head, &len, "\r\n", 2);
    memcpy(room + HEAD_ROOM - len, head, len);
    send_all(fd, room + HEAD_ROOM - len, len + p->body_len);
}

static void answer(int fd, const char *head)
{
    struct pending p = { .fd = fd, .generation = conns[fd].generation };
    const char *target = head + 4;
    char text[256];
    int len;

    if (strncmp(head, "GET /-/count ", 13) == 0) {
        len = snprintf(text, sizeof(text), "%lu", requests);
        len = snprintf(text, sizeof(text),
                       "HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Length: %d\r\n\r\n%lu", len, requests);
        send_all(fd, text, (size_t)len);
        return;
    }
    requests++;
    p.body_len = body_of(target, strcspn(target, " "));
    snprintf(p.segment, sizeof(p.segment), "%.*s", (int)strcspn(target + 1, "/ "), target + 1);
    if (delay_ms == 0) {
        respond(fd, &p);
    } else if (delay_ms > 0 && ring_end - ring_first < PENDING_MAX) {
        p.due_ms = now_ms() + delay_ms;
        ring[ring_end++ % PENDING_MAX] = p;
    }
}

static void receive(int fd)
{
    struct conn *c = &conns[fd];
    ssize_t n = recv(fd, c->head + c->head_len, HEAD_MAX - 1 - c->head_len, MSG_DONTWAIT);
    char *stop;

    if (n < 0 && errno == EAGAIN) {
        return;
    }
    if (n <= 0) {
        end(fd);
        return;
    }
    c->head_len += (size_t)n;
    c->head[c->head_len] = '\0';
    while ((stop = strstr(c->head, "\r\n\r\n")) != NULL) {
        size_t used = (size_t)(stop + 4 - c->head);

        answer(fd, c->head);
        memmove(c->head, c->head + used, c->head_len - used + 1);
        c->head_len -= used;
    }
    if (c->head_len == HEAD_MAX - 1) {
        end(fd);
    }
}

static void accept_all(int epoll, int listener)
{
    int one = 1;
    int fd;

    while ((fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
        struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };

        if (fd >= FDS_MAX || (conns[fd].head = malloc(HEAD_MAX)) == NULL) {
            close(fd);
            continue;
        }
        conns[fd].head_len = 0;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
    }
}

/* Sends what is due; returns how long epoll may wait, -1 for ever. */
static int send_due(void)
{
    while (ring_first != ring_end) {
        struct pending *p = &ring[ring_first % PENDING_MAX];
        int64_t wait = p->due_ms - now_ms();

        if (wait > 0) {
            return (int)wait;
        }
        if (conns[p->fd].head != NULL && conns[p->fd].generation == p->generation) {
            respond(p->fd, p);
        }
        ring_first++;
    }
    return -1;
}

static int listen_on(uint16_t port)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };
    int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) != 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0 || listen(fd, 4096) != 0) {
        perror("listen");
        exit(1);
    }
    return fd;
}

int main(int argc, char **argv)
{
    struct epoll_event events[EVENTS_MAX];
    struct rlimit files = { FDS_MAX, FDS_MAX };
    struct epoll_event event = { .events = EPOLLIN };
    int epoll, listener, n;
    char *most;

    if (argc < 4) {
        fprintf(stderr, "usage: origin PORT BODY_BYTES[-MOST] DELAY_MS [FIELD ...]\n");
        return 2;
    }
    setrlimit(RLIMIT_NOFILE, &files);
    body_least = strtoul(argv[2], &most, 10);
    body_most = *most == '-' ? strtoul(most + 1, NULL, 10) : body_least;
    room = malloc(HEAD_ROOM + body_most);
    if (room == NULL || body_most < body_least) {
        return 1;
    }
    memset(room, 'x', HEAD_ROOM + body_most);
    fields = argv + 4;
    delay_ms = (int)strtol(argv[3], NULL, 10);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    listener = listen_on((uint16_t)strtoul(argv[1], NULL, 10));
    event.data.fd = listener;
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        n = epoll_wait(epoll, events, EVENTS_MAX, send_due());
        for (int i = 0; i < n; i++) {
            if (events[i].data.fd == listener) {
                accept_all(epoll, listener);
            } else {
                receive(events[i].data.fd);
            }
        }
    }
}
