/* The servers of an upstream, and the part of it that belongs to one loop: its connections, idle or in use, and who waits for
 * one. Internal to src/upstream. */
#pragma once

#include "net/address.h"
#include "net/sock.h"
#include "upstream/budget.h"
#include "upstream/upstream.h"

#include <stdatomic.h>

struct upstream_server {
    char *host;      /* NUL-terminated, without brackets */
    char *tls_name;  /* sent and checked in TLS */
    char *name;      /* "host:port" */
    char *authority; /* as a Host field says it */
    uint64_t hash;   /* of the name */
    uint16_t port;
    bool tls;
    /* shared by the loops */
    struct breaker breaker;
    _Atomic uint32_t in_flight;
    _Atomic bool unhealthy; /* active checks say so */
};

struct pool;

struct upstream {
    struct upstream_options options; /* name points to our copy; servers and tls are not kept */
    char *name;
    struct tls_context *tls; /* NULL when no server wants it */
    struct breaker breaker;  /* of the whole; not asked when there is only one server */
    struct budget retry_budget;
    unsigned server_count;
    struct upstream_server servers[UPSTREAM_SERVERS_MAX];
    _Atomic(struct pool *) pools[]; /* by loop index */
};

/* Written by the pool's loop alone, read by whoever prints metrics. */
enum pool_counter {
    POOL_EXCHANGES,
    POOL_CONNECTS,
    POOL_REUSES,
    POOL_RETRIES,
    POOL_CONNECT_FAILURES,
    POOL_OPEN,    /* gauge: connections, idle ones included */
    POOL_IDLE,    /* gauge */
    POOL_WAITING, /* gauge */
    POOL_BYTES_IN,
    POOL_BYTES_OUT,
    POOL_FAILURES, /* EXCHANGE_ERROR_COUNT of them */
    POOL_COUNTERS = POOL_FAILURES + EXCHANGE_ERROR_COUNT,
};

struct pool_server {
    struct node idle;    /* struct conn, the last used first */
    struct node waiting; /* struct pool_place, first come first served */
    uint32_t open;       /* connections, idle ones included */
    int64_t turn;        /* round robin */
    struct tls_session session;
    struct address preferred; /* the address that answered last; len 0: none yet */
};

struct pool {
    struct upstream *upstream;
    struct loop *loop;
    uint64_t random;
    _Atomic uint64_t counters[POOL_COUNTERS];
    struct pool_server servers[];
};

/* A connection, counted in POOL_OPEN from conn_new() to conn_close(). */
struct conn {
    struct sock sock;
    struct pool *pool;
    struct node link; /* in its server's idle list */
    struct task task; /* watches it while it is idle */
    struct timer timer;
    unsigned server;
    uint32_t requests; /* started on it */
    bool idle;
};

/* A place in the queue for a connection. */
struct pool_place {
    struct node link;
    struct task *task;
    unsigned server;
    bool queued;
};

static inline void pool_count(struct pool *pool, unsigned counter, uint64_t add)
{
    uint64_t now = atomic_load_explicit(&pool->counters[counter], memory_order_relaxed);

    atomic_store_explicit(&pool->counters[counter], now + add, memory_order_relaxed);
}

static inline uint64_t pool_counter(const struct pool *pool, unsigned counter)
{
    return atomic_load_explicit(&pool->counters[counter], memory_order_relaxed);
}

/* The loop's pool, made on first use. 0 or -ENOMEM. */
int pool_get(struct pool **ret, struct upstream *upstream, struct loop *loop);
void pool_free(struct pool *pool);

/* For choosing and jitter. */
uint32_t pool_random(struct pool *pool);

/* No connection to this server can be had now without waiting. */
bool pool_is_full(const struct pool *pool, unsigned server);

/* A connection for an exchange: an idle one of `server`, else a new unconnected one. `fresh`: only a new one, closing an
 * idle one when the limit asks for it. `careful`: look whether the peer has closed it.
 * 0; -EAGAIN: queued in `place`, whose task is woken when it is its turn; -EBUSY: the queue is full; -ENOMEM. */
int pool_acquire(struct pool *pool, unsigned server, bool fresh, bool careful, struct pool_place *place,
                 struct conn **ret);
void pool_leave_queue(struct pool *pool, struct pool_place *place);

/* Gives a connection back for reuse (or closes it when there are enough). */
void conn_release(struct conn *conn);
void conn_close(struct conn *conn);
