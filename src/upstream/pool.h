/* The servers of an upstream, and the part of it that belongs to one loop: its connections, idle or in use, and who waits for
 * one. Internal to src/upstream. */
#pragma once

#include "net/address.h"
#include "net/sock.h"
#include "upstream/budget.h"
#include "upstream/latency.h"
#include "upstream/upstream.h"

#include <stdatomic.h>

/* Where a server is. Immutable; borrowed for a turn of the loop only. */
struct upstream_target {
    char *host;                      /* NUL-terminated, without brackets */
    char *tls_name;                  /* sent and checked in TLS */
    char *name;                      /* "host:port" */
    char *authority;                 /* as a Host field says it */
    uint64_t hash;                   /* of the name */
    uint16_t port, priority, weight; /* the last two as in SRV records (RFC 2782); 0 and 1 without */
    bool tls;
    struct upstream_target *next; /* retired ones */
    uint64_t retired_ms;
};

/* A slot for a server. Those configured keep theirs for ever; targets of SRV records come and go. */
struct upstream_server {
    _Atomic(struct upstream_target *) target; /* NULL: never used */
    _Atomic bool active;                      /* may be asked */
    _Atomic uint32_t generation;              /* counts the servers that had this slot */
    const struct upstream_srv *srv;           /* what named it; NULL: the configuration. The keeper's */
    uint64_t idle_since_ms;                   /* not active since; the keeper's */
    struct breaker breaker;
    _Atomic uint32_t in_flight;
    _Atomic bool unhealthy;   /* active checks say so */
    _Atomic uint64_t back_ms; /* when checks brought it back; 0: they never took it out */
};

/* A configured URL that names SRV records. */
struct upstream_srv {
    char *name;
    const char *tls_name; /* NULL: each target's own host */
    bool tls;
};

struct pool;
struct keeper;

struct upstream {
    struct upstream_options
        options; /* name, health_path and health_host point to our copies; servers and tls are not kept */
    char *name, *health_path, *health_host, *tls_name;
    char *authority;         /* of the first configured server */
    bool is_tls;             /* likewise */
    struct tls_context *tls; /* NULL when no server wants it */
    struct breaker breaker;  /* of the whole; not asked when there is only one server */
    struct budget retry_budget, hedge_budget;
    struct latency latency; /* only when hedging */
    _Atomic unsigned slots; /* used so far; only grows */
    struct upstream_server servers[UPSTREAM_SERVERS_MAX];
    unsigned srv_count;
    struct upstream_srv srvs[UPSTREAM_SERVERS_MAX];
    _Atomic bool srv_answered;       /* a first answer has come, good or not */
    struct upstream_target *retired; /* the keeper's */
    struct keeper *keeper;           /* its loop's */
    struct loop *keeper_loop;        /* set by upstream_start(), before other loops know the upstream */
    struct message start;
    _Atomic(struct pool *) pools[]; /* by loop index */
};

static inline unsigned upstream_slots(const struct upstream *upstream)
{
    return atomic_load_explicit(&upstream->slots, memory_order_acquire);
}

static inline const struct upstream_target *upstream_target(const struct upstream *upstream, unsigned i)
{
    return atomic_load_explicit(&upstream->servers[i].target, memory_order_acquire);
}

/* What share of its traffic a server should get: 1000, less while it ramps up after an absence. */
uint32_t upstream_share(const struct upstream *upstream, unsigned i, uint64_t now_ms);

struct dns_srv;
/* The servers that `srv` names are now those of `answer`. The keeper's. */
void upstream_take_targets(struct upstream *upstream, const struct upstream_srv *srv, const struct dns_srv *answer,
                           uint64_t now_ms);

/* Written by the pool's loop alone, read by whoever prints metrics. */
enum pool_counter {
    POOL_EXCHANGES,
    POOL_CONNECTS,
    POOL_REUSES,
    POOL_RETRIES,
    POOL_HEDGES,
    POOL_HEDGES_WON,
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
    uint32_t idle_count; /* in `idle` */
    uint32_t queued;     /* in `waiting` */
    uint32_t hold_ms;    /* how long an exchange keeps a connection, on average */
    uint32_t generation; /* of the slot: what is kept here belongs to that server */
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
    uint32_t generation; /* of the server's slot */
    uint32_t requests;   /* started on it */
    uint64_t busy_ms;    /* since when it is in use */
    bool idle;
};

/* A place in the queue for a connection. */
struct pool_place {
    struct node link;
    struct task *task;
    unsigned server;
    uint64_t deadline_ms; /* monotonic: who cannot be served before it does not queue; 0: none */
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
 * 0; -EAGAIN: queued in `place`, whose task is woken when it is its turn; -EBUSY: the queue is full; -ETIMEDOUT: the queue is
 * too long for the place's deadline; -ENOMEM. */
int pool_acquire(struct pool *pool, unsigned server, bool fresh, bool careful, struct pool_place *place,
                 struct conn **ret);
/* A new connection whatever the limit says. 0 or -ENOMEM. */
int pool_connect(struct pool *pool, unsigned server, struct conn **ret);
void pool_leave_queue(struct pool *pool, struct pool_place *place);

/* Gives a connection back for reuse (or closes it when there are enough). */
void conn_release(struct conn *conn);
void conn_close(struct conn *conn);
