/* An origin that answers every URL with the same cacheable body, at once or after a delay.
 *
 *   origin PORT BODY_BYTES DELAY_MS
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
    int64_t due_ms;
};

static struct conn conns[FDS_MAX];
static struct pending ring[PENDING_MAX];
static unsigned ring_first, ring_end;
static char *response;
static size_t response_len;
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

static void answer(int fd, const char *head)
{
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
    if (delay_ms == 0 || ring_end - ring_first == PENDING_MAX) {
        send_all(fd, response, response_len);
        return;
    }
    ring[ring_end++ % PENDING_MAX] =
        (struct pending){ .fd = fd, .generation = conns[fd].generation, .due_ms = now_ms() + delay_ms };
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
            send_all(p->fd, response, response_len);
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

static bool make_response(size_t body_len)
{
    size_t room = body_len + 512;
    int len;

    response = malloc(room);
    if (response == NULL) {
        return false;
    }
    len = snprintf(response, room,
                   "HTTP/1.1 200 OK\r\nServer: origin\r\nContent-Type: application/octet-stream\r\n"
                   "Content-Length: %zu\r\nCache-Control: max-age=86400\r\n\r\n",
                   body_len);
    memset(response + len, 'x', body_len);
    response_len = (size_t)len + body_len;
    return true;
}

int main(int argc, char **argv)
{
    struct epoll_event events[EVENTS_MAX];
    struct rlimit files = { FDS_MAX, FDS_MAX };
    struct epoll_event event = { .events = EPOLLIN };
    int epoll, listener, n;

    if (argc != 4) {
        fprintf(stderr, "usage: origin PORT BODY_BYTES DELAY_MS\n");
        return 2;
    }
    setrlimit(RLIMIT_NOFILE, &files);
    if (!make_response(strtoul(argv[2], NULL, 10))) {
        return 1;
    }
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
