/* A provider of OpenAI's chat dialect that does next to nothing: an answer of fixed bytes, or a stream of fixed events.
 *
 *   ai_provider PORT ANSWER_BYTES CHUNKS DELAY_US
 *
 * A POST is answered when all of it has come: with a stream of CHUNKS events when `"stream":true` (or with a blank) stands in its
 * first bytes, else with a completion of about ANSWER_BYTES. DELAY_US pass before the answer, and before each event. An event says
 * when it left (`t=`, nanoseconds of the monotonic clock), so that a client on this machine can tell how long it took. Any GET
 * is answered as a plain origin would: 1 KiB, cacheable unless the target begins with /pass. GET /-/count: POSTs so far.
 *
 * The delay is the same for everybody, so what is due is a ring in order of time. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { FDS_MAX = 65536, EVENTS_MAX = 256, SEEN_MAX = 8192, PENDING_MAX = 65536, PLAIN_BYTES = 1024, EVENT_MAX = 1024 };

/* What is kept of a request: its first bytes. `left`: bytes of its body still to come, -1 while its head is not complete. */
struct conn {
    char *seen;
    size_t len;
    long left;
    unsigned generation, chunk;
    bool stream;
};

struct pending {
    int fd;
    unsigned generation;
    int64_t due_ns;
};

static struct conn conns[FDS_MAX];
static struct pending ring[PENDING_MAX];
static unsigned ring_first, ring_end;
static char *answer, *plain[2];
static size_t answer_len, plain_len[2];
static unsigned chunks;
static int64_t delay_ns;
static unsigned long posts;

static const char stream_head[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
                                  "x-request-id: req_1\r\n\r\n";

static int64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void end(int fd)
{
    close(fd);
    free(conns[fd].seen);
    conns[fd].seen = NULL;
    conns[fd].generation++;
}

/* Loopback buffers take a small answer whole; where they do not, the socket blocks for it: this is a load tool. */
static void send_all(int fd, const char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, bytes, len, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return;
        }
        bytes += n;
        len -= (size_t)n;
    }
}

static void wait_for(int fd)
{
    if (ring_end - ring_first < PENDING_MAX) {
        ring[ring_end++ % PENDING_MAX] =
            (struct pending){ .fd = fd, .generation = conns[fd].generation, .due_ns = now_ns() + delay_ns };
    }
}

static void send_event(int fd)
{
    static const char frame[] =
        "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,"
        "\"model\":\"gpt-bench\",\"choices\":[{\"index\":0,\"delta\":{%s},\"finish_reason\":%s}]}\n\n";
    char data[EVENT_MAX], text[EVENT_MAX + 512], content[64];
    struct conn *c = &conns[fd];
    bool last = ++c->chunk == chunks;
    int len;

    snprintf(content, sizeof(content), "\"content\":\"t=%lld \"", (long long)now_ns());
    len = snprintf(data, sizeof(data), frame, content, "null");
    len = snprintf(text, sizeof(text), "%x\r\n%s\r\n", (unsigned)len, data);
    send_all(fd, text, (size_t)len);
    if (!last) {
        return;
    }
    len = snprintf(data, sizeof(data), frame, "", "\"stop\"");
    len +=
        snprintf(data + len, sizeof(data) - (size_t)len,
                 "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":"
                 "\"gpt-bench\",\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":%u,"
                 "\"total_tokens\":%u}}\n\n",
                 chunks, chunks + 9);
    len = snprintf(text, sizeof(text), "%x\r\n%s\r\ne\r\ndata: [DONE]\n\n\r\n0\r\n\r\n", (unsigned)len, data);
    send_all(fd, text, (size_t)len);
}

/* What a request gets next. False: it has everything. */
static bool respond(int fd)
{
    struct conn *c = &conns[fd];

    if (!c->stream) {
        send_all(fd, answer, answer_len);
        return false;
    }
    if (c->chunk == 0) {
        send_all(fd, stream_head, sizeof(stream_head) - 1);
    }
    send_event(fd);
    return c->chunk < chunks;
}

static void complete(int fd)
{
    struct conn *c = &conns[fd];
    char text[128];
    int len;

    if (strncmp(c->seen, "GET /-/count ", 13) == 0) {
        len = snprintf(text, sizeof(text), "%lu", posts);
        len = snprintf(text, sizeof(text),
                       "HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Length: %d\r\n\r\n%lu", len, posts);
        send_all(fd, text, (size_t)len);
    } else if (strncmp(c->seen, "GET ", 4) == 0) {
        int pass = strncmp(c->seen + 4, "/pass", 5) == 0;

        send_all(fd, plain[pass], plain_len[pass]);
    } else {
        posts++;
        c->stream = strstr(c->seen, "\"stream\":true") != NULL || strstr(c->seen, "\"stream\": true") != NULL;
        c->chunk = 0;
        if (delay_ns > 0) {
            wait_for(fd);
            return;
        }
        while (respond(fd)) {
        }
    }
}

/* One request at a time on a connection; what is kept begins with it. False: the connection is over. */
static bool take_head(struct conn *c)
{
    char *stop = strstr(c->seen, "\r\n\r\n"), *length;
    size_t head, have;

    if (stop == NULL) {
        return c->len < SEEN_MAX;
    }
    head = (size_t)(stop + 4 - c->seen);
    have = c->len - head;
    *stop = '\0';
    length = strcasestr(c->seen, "\r\ncontent-length:");
    c->left = length != NULL ? strtol(length + 17, NULL, 10) : 0;
    *stop = '\r';
    if (have > (size_t)c->left) {
        return false;
    }
    c->left -= (long)have;
    return true;
}

static void receive(int fd)
{
    static char rest[262144];
    struct conn *c = &conns[fd];
    bool kept = c->len < SEEN_MAX;
    ssize_t n = recv(fd, kept ? c->seen + c->len : rest, kept ? SEEN_MAX - c->len : sizeof(rest), MSG_DONTWAIT);

    if (n < 0 && errno == EAGAIN) {
        return;
    }
    if (n <= 0) {
        end(fd);
        return;
    }
    if (kept) {
        c->len += (size_t)n;
        c->seen[c->len] = '\0';
    }
    if (c->left >= 0) {
        c->left -= n;
    } else if (!take_head(c)) {
        end(fd);
        return;
    }
    if (c->left == 0) {
        complete(fd);
        c->len = 0;
        c->left = -1;
    }
}

static void accept_all(int epoll, int listener)
{
    int one = 1;
    int fd;

    while ((fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
        struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };

        if (fd >= FDS_MAX || (conns[fd].seen = malloc(SEEN_MAX + 1)) == NULL) {
            close(fd);
            continue;
        }
        conns[fd].len = 0;
        conns[fd].left = -1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
    }
}

/* Sends what is due; returns how long to wait, -1 for ever. */
static int64_t send_due(void)
{
    while (ring_first != ring_end) {
        struct pending p = ring[ring_first % PENDING_MAX];
        int64_t wait = p.due_ns - now_ns();

        if (wait > 0) {
            return wait;
        }
        ring_first++;
        if (conns[p.fd].seen != NULL && conns[p.fd].generation == p.generation && respond(p.fd)) {
            wait_for(p.fd);
        }
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

/* A message with `fill` x where its body has a hole. */
static char *message(const char *fields, const char *before, size_t fill, const char *after, size_t *ret_len)
{
    size_t body = strlen(before) + fill + strlen(after), room = body + 512;
    char *text = malloc(room);
    size_t len;

    if (text == NULL) {
        exit(1);
    }
    len = (size_t)snprintf(text, room, "HTTP/1.1 200 OK\r\n%sContent-Length: %zu\r\n\r\n%s", fields, body, before);
    memset(text + len, 'x', fill);
    memcpy(text + len + fill, after, strlen(after));
    *ret_len = len + fill + strlen(after);
    return text;
}

int main(int argc, char **argv)
{
    static const char before[] =
        "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion\",\"created\":1700000000,\"model\":"
        "\"gpt-bench\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"";
    static const char after[] =
        "\"},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":200,"
        "\"total_tokens\":209}}";
    struct epoll_event events[EVENTS_MAX], event = { .events = EPOLLIN };
    struct rlimit files = { FDS_MAX, FDS_MAX };
    size_t bytes;
    int epoll, listener, n;

    if (argc != 5) {
        fprintf(stderr, "usage: ai_provider PORT ANSWER_BYTES CHUNKS DELAY_US\n");
        return 2;
    }
    setrlimit(RLIMIT_NOFILE, &files);
    bytes = strtoul(argv[2], NULL, 10);
    chunks = (unsigned)strtoul(argv[3], NULL, 10);
    delay_ns = strtol(argv[4], NULL, 10) * 1000;
    bytes = bytes > sizeof(before) + sizeof(after) ? bytes - sizeof(before) - sizeof(after) + 2 : 1;
    answer = message("Content-Type: application/json\r\nx-request-id: req_1\r\n", before, bytes, after, &answer_len);
    plain[0] = message("Content-Type: application/octet-stream\r\nCache-Control: max-age=86400\r\n", "", PLAIN_BYTES,
                       "", &plain_len[0]);
    plain[1] = message("Content-Type: application/octet-stream\r\nCache-Control: no-store\r\n", "", PLAIN_BYTES, "",
                       &plain_len[1]);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    listener = listen_on((uint16_t)strtoul(argv[1], NULL, 10));
    event.data.fd = listener;
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int64_t wait = send_due();
        struct timespec time = { .tv_sec = wait / 1000000000, .tv_nsec = wait % 1000000000 };

        n = epoll_pwait2(epoll, events, EVENTS_MAX, wait >= 0 ? &time : NULL, NULL);
        for (int i = 0; i < n; i++) {
            if (events[i].data.fd == listener) {
                accept_all(epoll, listener);
            } else {
                receive(events[i].data.fd);
            }
        }
    }
}
