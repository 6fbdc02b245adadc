/* The part of a Redis client that belongs to one loop: servers, their connections ("lanes"), what waits on each. Internal to the
 * Redis client. */
#pragma once

#include "store/redis_conn.h"

#define REDIS_NODES_MAX 128u
#define REDIS_LANES_MAX 64u
#define REDIS_REDIRECTS_MAX 3u
#define REDIS_CLOCK_SAMPLES 8u

struct redis_pool;
struct redis_node;

struct redis {
    struct redis_access access;
    struct redis_target seed;
    char *user, *password, *tls_name;
    unsigned lanes, loops, breaker_failures;
    bool cluster;
    uint64_t queue_bytes;
    _Atomic(struct redis_pool *) pools[]; /* by loop index; each loop makes its own; freed by redis_free() */
};

/* Written by the pool's loop alone, read by whoever prints metrics. */
enum redis_counter {
    REDIS_CALLS,
    REDIS_ERRORS, /* error replies and calls that ended without one, timeouts apart */
    REDIS_TIMEOUTS,
    REDIS_REFUSED_FULL,
    REDIS_REFUSED_BREAKER,
    REDIS_CONNECTS,
    REDIS_CONNECT_FAILURES,
    REDIS_REDIRECTS,
    REDIS_BYTES_IN,
    REDIS_BYTES_OUT,
    REDIS_OPEN,     /* gauge: connections */
    REDIS_BREAKERS, /* gauge: open ones */
    REDIS_COUNTERS,
};

enum redis_request_kind { REQUEST_CALL, REQUEST_TIME, REQUEST_SLOTS, REQUEST_ASKING };

/* A command from the moment it is queued until its reply has been consumed, which may be after its caller has gone. */
struct redis_request {
    struct node link;        /* in its lane's waiting or sent */
    struct redis_call *call; /* NULL: forgotten, timed out or ended */
    struct redis_ledger *ledger;
    struct redis_lane *lane;
    enum redis_request_kind kind;
    bool forget, patient;
    bool probe; /* what it meets decides an open breaker */
    bool block; /* the bytes are a heap block of their own */
    uint8_t redirects;
    uint64_t deadline_ms; /* 0: none */
    uint64_t queued_us, sent_us;
    char *bytes;
    size_t len, sent;
};

/* One connection and its queue. Replies come in the order of `sent`. */
struct redis_lane {
    struct redis_conn conn;
    struct redis_node *node;
    struct task task;
    struct node waiting; /* struct redis_request; the first may have left in part */
    struct node sent;
    struct timer deadline; /* of the call that times out first */
    struct timer owing;    /* a server that owes replies and is silent for long is gone */
    struct timer tick;     /* asks for the time again */
    uint64_t retry_at_ms;  /* no new attempt before */
    unsigned failures;     /* attempts in a row */
    bool started, ready;
};

/* Server minus monotonic clock at some moment. */
struct redis_sample {
    int64_t offset_us;
    uint64_t error_us, at_us;
};

struct redis_node {
    struct redis_pool *pool;
    struct redis_target target;
    struct redis_lane *lanes[REDIS_LANES_MAX];
    unsigned next_lane;
    bool in_use; /* the slot map names it */
    /* breaker */
    bool open, probing;
    unsigned failures, openings; /* in a row */
    unsigned in_time, late;      /* calls of this window */
    uint64_t open_until_ms, failed_at_ms, window_ms;
    /* clock */
    struct redis_sample samples[REDIS_CLOCK_SAMPLES];
    unsigned sample_count, sample_next;
    int64_t wall_base_ms; /* wall minus monotonic clock when last sampled */
};

struct redis_pool {
    struct redis *redis;
    struct loop *loop;
    bool closed;
    uint64_t random;
    uint64_t call_bytes, forget_bytes;
    struct redis_node *nodes[REDIS_NODES_MAX]; /* the first is the configured server */
    unsigned node_count;
    bool cluster, slots_asked;
    uint64_t slots_at_ms; /* when they were asked for */
    uint8_t *slots;       /* RESP_SLOTS node numbers; 255: not known. NULL: no cluster yet */
    _Atomic uint64_t counters[REDIS_COUNTERS];
};

static inline void redis_count(struct redis_pool *pool, enum redis_counter counter, uint64_t add)
{
    uint64_t now = atomic_load_explicit(&pool->counters[counter], memory_order_relaxed);

    atomic_store_explicit(&pool->counters[counter], now + add, memory_order_relaxed);
}

/* `value` spread by a quarter to both sides. */
uint64_t redis_jitter(uint64_t *random, uint64_t value);
/* A seed for it. */
uint64_t redis_random(void);

/* ---- redis_node.c: servers, their breaker and their clock ---- */

/* The node at `target` (taken over on success, else the caller's), made when it is new. NULL: too many, or memory is out. */
struct redis_node *redis_node_get(struct redis_pool *pool, struct redis_target *target);
void redis_node_free(struct redis_node *node);
/* A channel got through to it: whatever was waited for before the next attempt is over. */
void redis_node_reachable(struct redis_pool *pool, const struct redis_target *target);
/* Whether a call may be sent: 0, 1: as the probe of an open breaker; -EHOSTDOWN. */
int redis_node_admit(const struct redis_node *node);
/* A lane to queue on, started if need be; NULL: none is up and it is too early to try (unless `force`), or memory is out. */
struct redis_lane *redis_node_lane(struct redis_node *node, bool forget, bool force);
/* One that is up, or NULL. */
struct redis_lane *redis_node_ready_lane(const struct redis_node *node);
void redis_node_succeeded(struct redis_node *node);
void redis_node_failed(struct redis_node *node);
/* It answered a request, which says more or less. */
void redis_node_answered(struct redis_node *node, const struct redis_request *request);
/* One call was not answered in time; redis_node_failed() is told once for all of a turn. */
void redis_node_timed_out(struct redis_node *node);
void redis_node_sample(struct redis_node *node, uint64_t sent_us, uint64_t server_us);
void redis_node_clock(struct redis_node *node, struct redis_clock *ret);

/* ---- redis_lane.c: one connection's queue ---- */

struct redis_lane *redis_lane_new(struct redis_node *node);
void redis_lane_free(struct redis_lane *lane);
bool redis_lane_is_idle(const struct redis_lane *lane);
/* Ends everything on it with `error`, closes the connection. */
void redis_lane_close(struct redis_lane *lane, int error);
void redis_lane_queue(struct redis_lane *lane, struct redis_request *request);
/* A command of our own. 0 or -ENOMEM. */
int redis_lane_ask(struct redis_lane *lane, enum redis_request_kind kind, const struct view *args, unsigned count);
/* Asks for the server's time. */
void redis_lane_ask_time(struct redis_lane *lane);

/* `block`: NULL, or heap bytes it takes over when it succeeds. */
struct redis_request *redis_request_new(enum redis_request_kind kind, char *block, size_t len);
/* Its caller waits no longer. Frees it when nothing has left yet. */
void redis_request_abandon(struct redis_request *request);
/* Ends it: tells the call, the ledger and the breaker; frees it. `reply` is taken over. */
void redis_request_end(struct redis_request *request, int error, struct redis_reply *reply);

/* ---- redis_cluster.c: which server has which slot ---- */

struct redis_node *redis_cluster_node(struct redis_pool *pool, struct view key);
/* Asks for the slot map, not too often, and not of `except` (may be NULL). */
void redis_cluster_refresh(struct redis_pool *pool, const struct redis_node *except);
void redis_cluster_learn(struct redis_lane *from, const struct resp_value *reply);
/* Follows MOVED and ASK: true when the request went on. */
bool redis_cluster_redirect(struct redis_request *request, struct view error);
