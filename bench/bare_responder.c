/* The least a server can do: epoll, one read, one writev, nothing parsed. What it costs is the floor under every ratio that
 * `make bench` prints.
 *
 *   bare_responder PORT BODY_BYTES
 *
 * One read is taken for one request, which holds for a client that waits for each answer. All connections share one
 * immutable response; a connection remembers only how much of it is still to be sent. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define FDS_MAX 65536
#define EVENTS_MAX 256

static char head[512];
static size_t head_len;
static char *body;
static size_t body_len;

/* Bytes of the response that the kernel did not take yet, by file descriptor. */
static size_t left[FDS_MAX];

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

static void watch(int epoll, int fd, int operation, uint32_t events)
{
    struct epoll_event event = { .events = events, .data.fd = fd };

    if (epoll_ctl(epoll, operation, fd, &event) != 0) {
        perror("epoll_ctl");
        exit(1);
    }
}

static void accept_all(int epoll, int listener)
{
    int one = 1;
    int fd;

    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        if (fd >= FDS_MAX) {
            close(fd);
            continue;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        left[fd] = 0;
        watch(epoll, fd, EPOLL_CTL_ADD, EPOLLIN);
    }
}

/* Returns 0, or -1 when the connection is over. */
static int send_left(int epoll, int fd, int was_waiting)
{
    size_t sent = head_len + body_len - left[fd];
    struct iovec parts[2] = { { .iov_base = body, .iov_len = body_len } };
    int count = 1;
    ssize_t n;

    if (sent < head_len) {
        parts[0] = (struct iovec){ .iov_base = head + sent, .iov_len = head_len - sent };
        parts[1] = (struct iovec){ .iov_base = body, .iov_len = body_len };
        count = 2;
    } else {
        parts[0] = (struct iovec){ .iov_base = body + (sent - head_len), .iov_len = left[fd] };
    }
    n = writev(fd, parts, count);
    if (n < 0 && errno != EAGAIN) {
        return -1;
    }
    left[fd] -= n > 0 ? (size_t)n : 0;
    if (left[fd] > 0 && !was_waiting) {
        watch(epoll, fd, EPOLL_CTL_MOD, EPOLLOUT);
    } else if (left[fd] == 0 && was_waiting) {
        watch(epoll, fd, EPOLL_CTL_MOD, EPOLLIN);
    }
    return 0;
}

static void serve(int epoll, int fd, uint32_t events)
{
    char request[16384];
    ssize_t n;

    if (events & EPOLLOUT) {
        if (send_left(epoll, fd, 1) != 0) {
            close(fd);
        }
        return;
    }
    n = read(fd, request, sizeof(request));
    if (n < 0 && errno == EAGAIN) {
        return;
    }
    if (n <= 0) {
        close(fd);
        return;
    }
    left[fd] = head_len + body_len;
    if (send_left(epoll, fd, 0) != 0) {
        close(fd);
    }
}

int main(int argc, char **argv)
{
    struct epoll_event events[EVENTS_MAX];
    struct rlimit files = { FDS_MAX, FDS_MAX };
    int epoll, listener, n;

    if (argc != 3) {
        fprintf(stderr, "usage: bare_responder PORT BODY_BYTES\n");
        return 2;
    }
    setrlimit(RLIMIT_NOFILE, &files);
    body_len = strtoul(argv[2], NULL, 10);
    body = malloc(body_len);
    if (body == NULL) {
        return 1;
    }
    memset(body, 'x', body_len);
    head_len = (size_t)snprintf(head, sizeof(head),
                                "HTTP/1.1 200 OK\r\nServer: bare\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n"
                                "Content-Type: application/octet-stream\r\nContent-Length: %zu\r\n"
                                "Cache-Control: max-age=3600\r\nAge: 1\r\n\r\n",
                                body_len);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    listener = listen_on((uint16_t)strtoul(argv[1], NULL, 10));
    watch(epoll, listener, EPOLL_CTL_ADD, EPOLLIN);
    for (;;) {
        n = epoll_wait(epoll, events, EVENTS_MAX, -1);
        for (int i = 0; i < n; i++) {
            if (events[i].data.fd == listener) {
                accept_all(epoll, listener);
            } else {
                serve(epoll, events[i].data.fd, events[i].events);
            }
        }
    }
}
