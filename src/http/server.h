/* The HTTP server: what all loops share, what each loop has, and the listeners. */
#pragma once

#include "cache/purge_event.h"
#include "http/access_log.h"
#include "http/route.h"
#include "net/address.h"

struct conn;
struct req;

struct admin_answer;
/* An answer that is not there yet; embedded by whoever makes it. All of it on the loop of the request. */
struct admin_wait {
    bool (*done)(struct admin_wait *wait, struct admin_answer *ret); /* false: wait for the wake of the task */
    void (*leave)(struct admin_wait *wait);                          /* the end in any state; frees it */
};

/* Handles a request on an admin listener: fills in the reply (body in the arena of the request). Wired by main. */
struct admin_answer {
    int status;
    const char *content_type;
    struct view body;  /* heap; freed by the server */
    const char *allow; /* for 405 */
    bool purge;        /* `event` is to be carried out, and its result is the answer; its target lies in `body` */
    struct purge_event event;
    struct task *task;       /* given: what to wake for `wait` */
    struct admin_wait *wait; /* the answer comes later */
};
typedef void admin_handler(void *arg, struct loop *loop, const struct http_request *request, struct view body,
                           bool local, struct admin_answer *ret);

struct server {
    _Atomic(struct http_config *) config; /* RCU: server_config() inside a turn; replaced by server_set_config() */
    struct fill_context fill;
    struct memory *memory;
    struct disk *disk;     /* NULL: none */
    struct shared *shared; /* likewise */
    struct ladder *ladder; /* likewise: nothing below memory */
    struct marks *marks;
    struct purger *purger;
    struct bus *bus;     /* NULL: none */
    struct redis *redis; /* likewise; for its numbers */
    struct state *state; /* likewise */
    struct purge_pg *pg; /* likewise */
    struct http_stats *stats;
    struct access_log *access_log;
    admin_handler *admin;
    void *admin_arg;
    atomic_bool draining;
};

/* Valid for this turn; longer with http_config_ref(). */
static inline struct http_config *server_config(const struct server *server)
{
    return atomic_load_explicit(&server->config, memory_order_acquire);
}

enum listener_kind { LISTENER_PUBLIC, LISTENER_ADMIN };

struct listener {
    struct io io;
    struct task task;
    struct timer retry; /* after running out of descriptors */
    struct http_loop *owner;
    enum listener_kind kind;
    bool local; /* Unix socket */
};

#define LISTENERS_MAX 16

/* One loop's part. */
struct http_loop {
    struct server *server;
    struct loop *loop;
    struct node conns;
    uint64_t conn_count;
    uint64_t random;      /* request ids */
    int fd_ceiling;       /* client connections with higher descriptors are refused with 503 */
    int spare_fd;         /* given up to accept and refuse when descriptors run out */
    uint64_t complain_ms; /* that they have is not said again before this time */
    struct listener listeners[LISTENERS_MAX];
    unsigned listener_count;
    struct client_count *clients; /* connections per address */
};

/* Opens `count` sockets (one per loop, SO_REUSEPORT) for one address. A first bind without SO_REUSEPORT makes sure that
 * nobody else has the port. fds[] are non-blocking and listening. 0 or -errno. *ret_bound has the real port. */
int listen_open(const struct address *address, unsigned count, int fds[], struct address *ret_bound);

int http_loop_new(struct server *server, struct loop *loop, struct http_loop **ret);
/* On the loop's thread (or before it runs). The fd is taken over. */
int http_loop_listen(struct http_loop *hl, int fd, enum listener_kind kind, bool local);
/* Closes the listeners and idle connections; busy ones close after their answer. */
void http_loop_drain(struct http_loop *hl);
/* Closes everything. */
void http_loop_free(struct http_loop *hl);

/* Replaces the configuration; the old generation goes when the last request has left it. Takes the reference. From a
 * registered RCU thread. */
void server_set_config(struct server *server, struct http_config *config);
