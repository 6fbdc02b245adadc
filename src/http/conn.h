/* A client connection: HTTP/1.1 over a sock. While idle it is this struct and nothing else; buffers and the request exist
 * only while there is something to read or answer. Internal to src/http. */
#pragma once

#include "http/req.h"

struct conn {
    struct sock sock;
    struct task task;
    struct timer timer;
    struct node link;
    struct http_loop *hl;
    struct req *req;     /* NULL between requests */
    uint8_t address[16]; /* IPv4 mapped into IPv6; zero for Unix sockets */
    uint32_t requests;
    uint32_t scanned;   /* of a head that is still incomplete */
    uint8_t kind;       /* enum listener_kind */
    bool local;         /* Unix socket */
    bool counted;       /* among the connections of its address */
    bool head_started;  /* the header timeout runs */
    bool lingering;     /* everything sent, our side shut; reading what the client still sends */
    bool idle_answered; /* at least one answer: an idle timeout closes silently */
    uint32_t lingered;  /* bytes thrown away */
};

/* Takes the descriptor over; closes it when memory is out. */
void http_conn_new(struct http_loop *hl, int fd, const struct address *peer, enum listener_kind kind, bool local);
void http_conn_close(struct conn *c);
bool http_conn_is_idle(const struct conn *c);

/* Connections per client address on this loop. 0, or -EUSERS at the limit. */
int clients_add(struct http_loop *hl, const uint8_t address[16], uint64_t limit);
void clients_remove(struct http_loop *hl, const uint8_t address[16]);
