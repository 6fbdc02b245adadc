/* An upstream: the servers that answer for one origin, and on each loop a pool of connections to them.
 *
 * The upstream is shared by all loops. Its options and servers are immutable; what is known about the servers' health is kept
 * in atomics and under small locks. Its pools belong to one loop each and are made on first use. */
#pragma once

#include "base/text.h"
#include "loop/loop.h"
#include "net/tls.h"
#include "upstream/balance.h"
#include "upstream/breaker.h"

#define UPSTREAM_SERVERS_MAX 32u
#define UPSTREAM_STATUSES_MAX 8u

struct upstream_timeouts { /* milliseconds; 0: none */
    uint32_t queue_ms;     /* for a free connection when max_connections is reached */
    uint32_t dns_ms;
    uint32_t connect_ms; /* one attempt, one address */
    uint32_t tls_ms;
    uint32_t first_byte_ms; /* from the request sent to the first byte of the answer */
    uint32_t idle_ms;       /* between two reads, or two writes */
    uint32_t total_ms;      /* exchange_start to the last body byte */
};

struct upstream_options {
    const char *name; /* for metrics and messages */
    const char *const
        *servers; /* "http://host[:port]" or "https://host[:port]", no path; "http://_name": SRV records */
    unsigned server_count;
    unsigned loops; /* number of loops that may use it; loop_index() < loops */
    struct tls_options tls;
    const char *tls_name;     /* sent and checked instead of the server's host; NULL: the host */
    uint32_t max_connections; /* per server and loop; 0: no limit */
    uint32_t max_waiting;     /* exchanges queued for a connection, per loop */
    uint32_t max_idle;        /* idle keep-alive connections, per server and loop; 0: no keep-alive */
    uint32_t idle_timeout_ms; /* of an idle connection */
    uint32_t max_requests;    /* per connection; 0: no limit */
    size_t head_max;          /* bytes of a response head */
    struct upstream_timeouts timeouts;
    enum balance balance;
    struct breaker_options breaker; /* of each server, and of the upstream as a whole when it has several */
    uint16_t breaker_statuses[UPSTREAM_STATUSES_MAX]; /* answers that count as failures; 0 ends the list */
    uint32_t retries;                                 /* of one request, a lost keep-alive connection not counted */
    uint32_t retry_percent, retry_per_second;         /* budget: share of all requests, and besides */
    const char *health_path;                          /* NULL: no checks */
    const char *health_host;                          /* NULL: the server's own */
    uint32_t health_interval_ms, health_timeout_ms, healthy, unhealthy;
    uint16_t health_statuses[UPSTREAM_STATUSES_MAX]; /* good ones; none: every 2xx */
    uint32_t slow_start_ms; /* from 20 to 100 % of the traffic after checks brought a server back */
    bool hedge;             /* ask a second server when an answer is later than 95 % of them */
    uint32_t hedge_percent; /* of all requests, at most */
    bool retry_statuses;    /* also retry after a breaker status, safe methods only */
};

/* The defaults: 1024 connections, 1024 waiting, 64 idle for 55 s, head 64 KiB; dns 5 s, connect 2 s, tls 5 s, first byte and
 * idle 30 s; round robin; the breaker's own; 502, 503 and 504 are failures; 1 retry, budget 20 % and 10/s; no checks (every
 * 5 s with 2 s to answer, 2 good, 3 bad, when there is a path); slow start 10 s. Fill in name,
 * servers and loops. */
void upstream_options_init(struct upstream_options *options);

struct upstream;

/* Copies the options. 0; -EINVAL with the reason appended to `reason` (bad URL, unusable certificate file); -ENOMEM. */
int upstream_new(struct upstream **ret, const struct upstream_options *options, struct text *reason);
/* Lets `loop` check the servers and follow their SRV records, when the options ask for either: posts a message to it, so the
 * upstream must live until the loop has handled what was posted. Without this call neither happens. */
void upstream_start(struct upstream *upstream, struct loop *loop);
/* Closes the idle connections of one loop and frees its pool; on that loop's thread, with no exchange of it open there. */
void upstream_loop_close(struct upstream *upstream, struct loop *loop);
/* After upstream_loop_close() on every loop that used it. NULL is fine. */
void upstream_free(struct upstream *upstream);

const char *upstream_name(const struct upstream *upstream);
/* What the first server calls itself, for a Host field of our own: "host" or "host:port" (port left out when it is the scheme's). */
struct view upstream_authority(const struct upstream *upstream);
bool upstream_is_tls(const struct upstream *upstream);
/* Slots of servers; with SRV records some may be unused: their name is empty. */
unsigned upstream_server_count(const struct upstream *upstream);
/* "host:port" of server i. Valid for this turn of the loop. */
struct view upstream_server_name(const struct upstream *upstream, unsigned i);

/* Why an exchange failed: the proxy error types of RFC 9209 §2.3. */
enum exchange_error {
    EXCHANGE_OK,
    EXCHANGE_DNS_TIMEOUT,
    EXCHANGE_DNS_ERROR,
    EXCHANGE_CONNECTION_REFUSED,
    EXCHANGE_CONNECTION_TIMEOUT,
    EXCHANGE_CONNECTION_TERMINATED,    /* before a response began */
    EXCHANGE_CONNECTION_READ_TIMEOUT,  /* in the middle of the response body */
    EXCHANGE_CONNECTION_WRITE_TIMEOUT, /* the origin takes no more of the request */
    EXCHANGE_CONNECTION_LIMIT,
    EXCHANGE_UNROUTABLE,
    EXCHANGE_TLS_PROTOCOL,
    EXCHANGE_TLS_CERTIFICATE,
    EXCHANGE_TLS_ALERT,
    EXCHANGE_RESPONSE_INCOMPLETE,
    EXCHANGE_RESPONSE_TIMEOUT,
    EXCHANGE_HEAD_TOO_LARGE,
    EXCHANGE_TRANSFER_CODING,
    EXCHANGE_PROTOCOL_ERROR,
    EXCHANGE_INTERNAL,                /* out of memory or descriptors */
    EXCHANGE_DESTINATION_UNAVAILABLE, /* every server is out: a breaker is open or checks fail. Nothing was sent */
    EXCHANGE_ERROR_COUNT
};

/* Sums over the loops; any thread, while no loop is being closed. */
struct upstream_stats {
    uint64_t exchanges;        /* started */
    uint64_t connects;         /* connections established */
    uint64_t reuses;           /* exchanges that found an idle connection */
    uint64_t retries;          /* requests sent again on a fresh connection */
    uint64_t hedges;           /* second requests sent because the first took long */
    uint64_t hedges_won;       /* of these, answered first */
    uint64_t connect_failures; /* attempts, including those a later attempt made good */
    uint64_t failures[EXCHANGE_ERROR_COUNT];
    uint64_t active;              /* connections in use now */
    uint64_t idle;                /* idle connections now */
    uint64_t waiting;             /* exchanges queued now */
    uint64_t bytes_in, bytes_out; /* bodies */
};
void upstream_stats(const struct upstream *upstream, struct upstream_stats *ret);

/* ---- the servers' health; any thread ---- */

struct upstream_server_stats {
    struct breaker_view breaker;
    uint32_t in_flight; /* requests there now */
    bool healthy;       /* by active checks; true without any */
};
/* Server i, or with i == upstream_server_count() the upstream as a whole (in_flight: the sum). */
void upstream_server_stats(struct upstream *upstream, unsigned i, struct upstream_server_stats *ret);
/* True when an exchange started now would fail at once, because nobody may be asked. */
bool upstream_is_down(struct upstream *upstream);
/* May a request that failed be sent again now? True takes it from the upstream's budget for retries: for owners of exchanges that try again
 * themselves, since they see failures that exchanges do not. */
bool upstream_may_retry(struct upstream *upstream, uint64_t now_ms);
/* How long until the first of its breakers lets a probe through; 0 when none is open, or all of them by hand. */
uint64_t upstream_down_for_ms(struct upstream *upstream);

/* What is known about the servers of `from` holds for those of the same name in `upstream`, which nobody uses yet: for a changed
 * configuration. Any thread. */
void upstream_inherit(struct upstream *upstream, struct upstream *from);

/* Switches breakers by hand: of the server called `server` ("host:port"), or with an empty view of all of them and the
 * upstream's own. 0 or -ENOENT. Lasts until AUTO. */
int upstream_breaker_force(struct upstream *upstream, struct view server, enum breaker_force force);
