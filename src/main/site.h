/* Everything a configuration file says, as plain structs. The tables in site.c give every option its name, default,
 * bounds and help. Durations are milliseconds, sizes bytes; OPTION_UNSET marks numbers nobody set. Strings and lists
 * belong to site.memory and live as long as the site. */
#pragma once

#include "base/arena.h"
#include "main/site_ai.h"

#include <stdio.h>

struct conf_report;

struct site_node {
    struct view name;
    struct view region;
};

struct site_memory {
    uint64_t size;
    uint64_t max_object;
};

struct site_disk {
    struct view path; /* empty: no disk tier */
    uint64_t size;
    uint64_t max_object;
    uint64_t segment;
    uint64_t checkpoint;
    struct view key;      /* 64 hexadecimal digits; empty: none */
    struct view key_file; /* the same, in a file */
};

/* A Redis-protocol server as its URL names it. */
struct site_store {
    bool tls;
    struct view host; /* empty: `path` is a Unix socket */
    uint16_t port;
    struct view path;
    struct view user, password;
    uint64_t database; /* OPTION_UNSET: not named */
};

struct site_lease {
    uint64_t time; /* 0: off */
    uint64_t wait;
};

struct site_shared {
    struct view url;      /* empty: no shared tier, no bus */
    struct site_store at; /* what it says; filled by site_check() */
    struct site_tls tls;
    struct view user, password;
    uint64_t database;
    struct view prefix;
    struct view region; /* empty: the node's */
    bool cluster;
    uint64_t connections;
    uint64_t timeout;
    uint64_t max_object;
    uint64_t queue;
    struct site_lease lease;
};

struct site_state {
    struct view path; /* empty: beside the disk tier, or nothing is kept */
};

struct site_admin {
    struct option_address listen;
    bool enabled;
    struct view token; /* empty: no token asked for */
};

enum log_format { LOG_FORMAT_JSON, LOG_FORMAT_COMBINED };
enum log_addresses { LOG_ADDRESSES_TRUNCATED, LOG_ADDRESSES_FULL, LOG_ADDRESSES_NONE };

struct site_access_log {
    struct view path; /* "off", "stdout", "syslog" or a file */
    enum log_format format;
    bool query; /* whether query values are written */
    enum log_addresses addresses;
};

/* 0 means no limit wherever that makes sense (site.c says where). */
struct site_limit {
    uint64_t head;
    uint64_t fields;
    uint64_t target;
    uint64_t body;
    uint64_t connections; /* per event loop */
    uint64_t connections_per_client;
    uint64_t requests_per_connection;
    uint64_t pipelined;
    uint64_t waiters_per_fill;
    uint64_t variants_per_key;
    uint64_t header_timeout;
    uint64_t body_timeout;
    uint64_t idle_timeout;
    uint64_t write_timeout;
    uint64_t total_timeout;
};

struct site_query {
    struct option_strings ignore; /* globs on parameter names */
    struct option_strings keep;   /* when not empty, only these enter the key */
    bool sort;
};

struct site_key {
    struct site_query query;
    struct option_strings cookies;
    struct option_strings headers;
    struct view host; /* empty: the request's; else this name, so that aliases share entries */
};

struct site_heuristic {
    double fraction;
    uint64_t max;
};

enum route_guarantee {
    ROUTE_GUARANTEE_HTTP,
    ROUTE_GUARANTEE_AVAILABLE,
    ROUTE_GUARANTEE_BOUNDED,
    ROUTE_GUARANTEE_SESSION,
    ROUTE_GUARANTEE_ORIGIN,
};
enum set_cookie_rule { ROUTE_SET_COOKIE_BYPASS, ROUTE_SET_COOKIE_STRIP, ROUTE_SET_COOKIE_STORE };
enum client_rule { CLIENT_HONOUR, CLIENT_IGNORE };
enum disk_rule { ROUTE_DISK_AUTO, ROUTE_DISK_PIN, ROUTE_DISK_OFF };
enum tags_rule { ROUTE_TAGS_STRIP, ROUTE_TAGS_KEEP };
enum forwarded_rule { FORWARDED_NONE, FORWARDED_STANDARD, FORWARDED_X, FORWARDED_BOTH };

struct site_route {
    struct view name;            /* for logs and metrics; empty: use `match` */
    struct view match;           /* as written */
    struct view match_host;      /* what stood before the first '/', empty: any; filled by site_check() */
    struct view match_path;      /* from the first '/' on; filled by site_check() */
    struct option_strings hosts; /* further host globs; empty: any */
    struct view upstream;
    size_t upstream_index; /* in site.upstreams; filled by site_check() */
    struct view scope;     /* tenant scope: first part of every key */
    enum route_guarantee guarantee;
    bool cache;
    uint64_t ttl; /* OPTION_UNSET: what the response says */
    uint64_t ttl_min;
    uint64_t ttl_max;
    uint64_t stale_while_revalidate;
    uint64_t stale_if_error;
    uint64_t max_stale_on_error;
    uint64_t max_stale; /* guarantee bounded */
    enum set_cookie_rule set_cookie;
    enum client_rule client_cache_control;
    uint64_t max_object; /* OPTION_UNSET: what the tiers take */
    enum disk_rule disk;
    bool shared;
    enum tags_rule tags;
    struct view fallback; /* upstream asked when `upstream` fails; empty: none */
    size_t fallback_index;
    uint64_t body_limit; /* OPTION_UNSET: limits.body */
    struct site_key key;
    enum forwarded_rule forwarded;
    bool via;
    struct site_heuristic heuristic;
    uint64_t pass_marker; /* how long "this key is not cacheable" is remembered */
    bool cache_status;
    bool server_timing;
    bool request_id;
    struct site_ai_route ai;
};

struct site_header {
    struct view request_id;
};

struct site_purge {
    bool method;
    struct option_cidrs allow;
    uint64_t marks;
    uint64_t wait;
    bool bus; /* over the shared store, when there is one */
    struct view redis_channel;
    struct view postgres; /* connection URL; empty: none */
    struct view channel;
    struct view table;
};

struct site_tracing {
    struct option_url otlp; /* empty: nothing is traced */
    double sample;
    bool follow;
    struct option_strings headers; /* "Name: value" */
    uint64_t interval;
    uint64_t queue;
    struct site_tls tls;
};

struct site_children {
    struct view token;
};

struct site_upstreams {
    struct site_upstream *items;
    size_t count;
};

struct site_routes {
    struct site_route *items;
    size_t count;
};

struct site {
    struct site_node node;
    struct option_addresses listen;
    uint64_t threads; /* 0: one per CPU */
    struct site_memory memory;
    struct site_disk disk;
    struct site_shared shared;
    struct site_state state;
    struct site_children children;
    struct site_admin admin;
    struct site_access_log access_log;
    struct option_cidrs trusted_proxies;
    struct site_limit limits;
    struct site_header headers;
    struct site_purge purge;
    struct site_tracing tracing;
    uint64_t shutdown_timeout;
    struct site_upstreams upstreams;
    struct site_ai ai;
    struct site_routes routes;
    struct arena _arena;
};

extern const struct option site_options[];

/* Reads and cross-checks a file. 0 and *ret_site (release with site_free()), or -EINVAL when the report holds mistakes,
 * or -ENOMEM; *ret_site is untouched then. The report needs conf_report_free() in every case. */
int site_load(const char *path, struct site *ret_site, struct conf_report *report) must_use;

/* The configuration of `doorstep serve URL`: defaults, one upstream "origin", one route "/" + "*". Mistakes in the URL go
 * to the report. Same returns as site_load(). */
int site_default(const char *origin_url, struct site *ret_site, struct conf_report *report) must_use;

/* Sets one option by its path as if the file had said so, for command line switches: ("listen", "127.0.0.1:0"),
 * ("memory.size", "64M"). Top-level options and those of nested structs only. -EINVAL with the reason in the report. */
int site_set(struct site *site, const char *path, const char *value, struct conf_report *report) must_use;

void site_free(struct site *site);
