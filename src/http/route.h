/* Compiled configuration of the HTTP side: one generation. Reload makes a new one and swaps the pointer; a generation is freed
 * when the last request and fill that use it have gone. */
#pragma once

#include "base/glob.h"
#include "base/option.h"
#include "cache/fill.h"
#include "cache/service.h"
#include "http/stats.h"

enum forwarding { FORWARDING_NONE, FORWARDING_STANDARD, FORWARDING_X, FORWARDING_BOTH };

/* A place to forward to. */
struct hop {
    struct upstream *upstream;
    struct view host;  /* Host sent there; empty: the client's */
    struct view token; /* shown there: we are its child; empty: none */
    uint64_t total_ms; /* its limit for one exchange; 0: none */
    bool parent;       /* a cache like us */
};

struct route {
    struct view name;         /* the pattern as written: label and log */
    struct view match_host;   /* glob, empty: any */
    struct view match_path;   /* glob */
    const struct view *hosts; /* further host globs; none: any */
    size_t host_count;
    struct hop to;
    const struct service *service; /* makes the answers; NULL: `to` is asked, through the cache */
    const void *service_route;     /* what it knows of this route */
    struct hop fallback;           /* asked when `to` fails; upstream NULL: none */
    struct cache_policy cache;
    uint64_t body_limit; /* request body bytes; 0: none */
    enum forwarding forwarding;
    bool via, cache_status, server_timing, request_id;
    unsigned stats; /* http_stats_route() */
};

struct http_limits {
    struct http1_limits head;
    size_t fields;
    uint64_t connections;            /* per loop; 0: none */
    uint64_t connections_per_client; /* per loop; 0: none */
    uint64_t requests_per_connection;
    uint64_t pipelined; /* answered in a row before other connections get a turn */
    uint64_t waiters_per_fill;
    uint64_t header_timeout_ms, body_timeout_ms, idle_timeout_ms, write_timeout_ms, total_timeout_ms;
};

struct http_config {
    struct fill_keep keep;
    atomic_uint refs;
    struct view node_name;
    struct view via_line;          /* "Via: 1.1 name\r\n" */
    struct view cache_status_name; /* "Cache-Status: \"name\"; " */
    struct view region_line;       /* "Doorstep-Region: eu\r\n", or empty */
    struct view child_token;       /* what children show; empty: there are none */
    struct view request_id_name;
    enum field_id request_id_field; /* of that name; FIELD_OTHER: compare names */
    struct http_limits limits;
    struct option_cidrs trusted; /* proxies whose Forwarded and X-Forwarded-* are believed */
    struct option_cidrs purgers; /* who may use PURGE */
    bool purge_method;
    struct route *routes; /* most specific first */
    size_t route_count;
    void (*destroy)(struct http_config *config);
};

/* The first (most specific) route for this host and path, or NULL. */
const struct route *route_find(const struct http_config *config, struct view authority, struct view path);
/* Puts the most specific first: longer literal text before the first `*` of the path, then those that name a host. */
void routes_sort(struct route *routes, size_t count);

struct http_config *http_config_ref(struct http_config *config);
void http_config_unref(struct http_config *config);
/* refs = 1 and the keep functions; the caller fills in the rest. */
void http_config_init(struct http_config *config);
