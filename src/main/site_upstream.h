/* What a configuration file says about an upstream: part of main/site.h, which see for the conventions. */
#pragma once

#include "base/option.h"

struct site_tls {
    bool verify;
    struct view ca;          /* file; empty: the system's store */
    struct view server_name; /* empty: the server's host */
    struct view certificate; /* client certificate and key files; both or neither */
    struct view key;
};

struct site_keepalive {
    uint64_t max_idle; /* per server and event loop */
    uint64_t idle_timeout;
};

struct site_retry_budget {
    uint64_t percent;
    uint64_t per_second;
};

struct site_breaker {
    bool enabled;
    uint64_t failures;
    double ratio;
    uint64_t requests;
    uint64_t window;
    uint64_t slow; /* 0: off */
    double slow_ratio;
    uint64_t open;
    uint64_t open_max;
    struct option_strings statuses; /* three digits each; filled into numbers by make_upstream() */
};

struct site_health {
    struct view path; /* empty: no checks */
    struct view host; /* empty: the server's own */
    uint64_t interval;
    uint64_t timeout;
    uint64_t healthy;
    uint64_t unhealthy;
    struct option_strings statuses;
};

struct site_hedge {
    bool enabled;
    uint64_t percent;
};

enum upstream_balance { UPSTREAM_ROUND_ROBIN, UPSTREAM_LEAST_REQUESTS, UPSTREAM_HASH };

struct site_upstream {
    struct view name;
    struct option_urls servers;
    struct site_tls tls;
    struct view host;         /* "preserve", or the Host to send */
    uint64_t max_connections; /* per server and event loop; 0: no limit */
    uint64_t max_waiting;     /* per event loop */
    struct site_keepalive keepalive;
    enum upstream_balance balance;
    uint64_t retries;
    bool retry_statuses;
    struct site_retry_budget retry_budget;
    struct site_breaker breaker;
    struct site_health health;
    struct site_hedge hedge;
    uint64_t slow_start;
    uint64_t queue_timeout;
    uint64_t dns_timeout;
    uint64_t connect_timeout;
    uint64_t tls_timeout;
    uint64_t first_byte_timeout;
    uint64_t idle_timeout;
    uint64_t total_timeout; /* 0: none */
    bool parent;            /* the servers are caches like us */
    struct view token;      /* what a parent asks of its children; empty: none */
};
