/* The option tables of the whole file, and the cross checks that no single option can do: routes name upstreams that
 * exist, no route hides behind an identical earlier one, options that only make sense together.
 *
 * A site is filled by conf/, then completed here (match split, upstream indices), and never changes afterwards. Its strings
 * live in its own arena, so one free ends it. */
#include "main/site.h"

#include "base/text.h"
#include "conf/conf.h"

#include <errno.h>

#define MEMBER(type, field) offsetof(struct type, field)

static const char *const log_formats[] = { "json", "combined", NULL };
static const char *const log_addresses[] = { "truncated", "full", "none", NULL };
static const char *const guarantees[] = { "http", "available", "bounded", "session", "origin", NULL };
static const char *const set_cookie_rules[] = { "bypass", "strip", "store", NULL };
static const char *const client_rules[] = { "honour", "ignore", NULL };
static const char *const forwarded_rules[] = { "none", "forwarded", "x_forwarded", "both", NULL };

#define YEARS(n) ((uint64_t)(n)*365 * 86400000)
#define HOURS(n) ((uint64_t)(n)*3600000)
#define KIB(n) ((uint64_t)(n) << 10)
#define MIB(n) ((uint64_t)(n) << 20)
#define TIB(n) ((uint64_t)(n) << 40)

static const struct option node_table[] = {
    { .name = "name",
      .type = OPTION_STRING,
      .offset = MEMBER(site_node, name),
      .preset = "doorstep",
      .flags = OPTION_TOKEN,
      .help = "How this node calls itself in `Cache-Status`, `Via` and logs." },
    { .name = "region",
      .type = OPTION_STRING,
      .offset = MEMBER(site_node, region),
      .help = "Where the node stands; a label for people." },
    { .name = NULL },
};

static const struct option memory_table[] = {
    { .name = "size",
      .type = OPTION_SIZE,
      .offset = MEMBER(site_memory, size),
      .preset = "512M",
      .min = MIB(1),
      .max = TIB(64),
      .help = "Hard limit of the memory tier, its overhead included." },
    { .name = "max_object",
      .type = OPTION_SIZE,
      .offset = MEMBER(site_memory, max_object),
      .preset = "32M",
      .min = KIB(1),
      .max = TIB(64),
      .help = "Larger responses are passed on and not kept in memory." },
    { .name = NULL },
};

static const struct option admin_table[] = {
    { .name = "enabled",
      .type = OPTION_BOOL,
      .offset = MEMBER(site_admin, enabled),
      .preset = "true",
      .help = "Whether the admin listener (`/metrics`, `/healthz`, `/readyz`, purge, why, top) runs." },
    { .name = "listen",
      .type = OPTION_ADDRESS,
      .offset = MEMBER(site_admin, listen),
      .preset = "127.0.0.1:9180",
      .help = "Its address, or `unix:/path`." },
    { .name = "token",
      .type = OPTION_STRING,
      .offset = MEMBER(site_admin, token),
      .flags = OPTION_ENV,
      .help = "Bearer token that admin requests must carry. `${NAME}` takes it from the environment. Needed when the "
              "listener is neither on loopback nor a Unix socket." },
    { .name = NULL },
};

static const struct option access_log_table[] = {
    { .name = "path",
      .type = OPTION_STRING,
      .offset = MEMBER(site_access_log, path),
      .preset = "off",
      .help = "A file, `stdout`, `syslog`, or `off`. Files are reopened on SIGUSR1." },
    { .name = "format",
      .type = OPTION_ENUM,
      .offset = MEMBER(site_access_log, format),
      .preset = "json",
      .names = log_formats,
      .help = "JSON lines, or the combined format of common web servers." },
    { .name = "query",
      .type = OPTION_BOOL,
      .offset = MEMBER(site_access_log, query),
      .preset = "false",
      .help = "Whether query values are written." },
    { .name = "cookies", .flags = OPTION_UNAVAILABLE, .help = "Whether cookies are written." },
    { .name = "addresses",
      .type = OPTION_ENUM,
      .offset = MEMBER(site_access_log, addresses),
      .preset = "truncated",
      .names = log_addresses,
      .help = "Client addresses: the network only (/24, /48), in full, or not at all." },
    { .name = NULL },
};

static const struct option limits_table[] = {
    { .name = "head",
      .type = OPTION_SIZE,
      .offset = MEMBER(site_limit, head),
      .preset = "32K",
      .min = KIB(1),
      .max = MIB(1),
      .help = "Bytes of a request head. Heads of responses may have 64 KiB." },
    { .name = "fields",
      .type = OPTION_INT,
      .offset = MEMBER(site_limit, fields),
      .preset = "100",
      .min = 8,
      .max = 256,
      .help = "Fields of a request head." },
    { .name = "target",
      .type = OPTION_SIZE,
      .offset = MEMBER(site_limit, target),
      .preset = "8K",
      .min = 256,
      .max = MIB(1),
      .help = "Bytes of a request target." },
    { .name = "body",
      .type = OPTION_SIZE,
      .offset = MEMBER(site_limit, body),
      .preset = "0",
      .help = "Bytes of a request body; 0: no limit. Routes may say otherwise with `body_limit`." },
    { .name = "connections",
      .type = OPTION_INT,
      .offset = MEMBER(site_limit, connections),
      .preset = "10000",
      .min = 1,
      .max = 10000000,
      .help = "Client connections per event loop." },
    { .name = "connections_per_client",
      .type = OPTION_INT,
      .offset = MEMBER(site_limit, connections_per_client),
      .preset = "1000",
      .max = 10000000,
      .help = "Connections one client address may hold open; 0: no limit." },
    { .name = "requests_per_connection",
      .type = OPTION_INT,
      .offset = MEMBER(site_limit, requests_per_connection),
      .preset = "100000",
      .help = "Requests after which a connection is closed; 0: no limit." },
    { .name = "pipelined",
      .type = OPTION_INT,
      .offset = MEMBER(site_limit, pipelined),
      .preset = "16",
      .min = 1,
      .max = 1000,
      .help =
          "Pipelined requests of one connection answered in a row before other connections get a turn. What a client sends "
          "ahead beyond that waits in the socket." },
    { .name = "waiters_per_fill",
      .type = OPTION_INT,
      .offset = MEMBER(site_limit, waiters_per_fill),
      .preset = "10000",
      .min = 1,
      .max = 10000000,
      .help = "Requests that may wait for one fetch of the same key." },
    { .name = "variants_per_key",
      .type = OPTION_INT,
      .offset = MEMBER(site_limit, variants_per_key),
      .preset = "16",
      .min = 1,
      .max = 256,
      .help = "Stored variants (`Vary`) of one key." },
    { .name = "header_timeout",
      .type = OPTION_DURATION,
      .offset = MEMBER(site_limit, header_timeout),
      .preset = "10s",
      .min = 10,
      .max = HOURS(24),
      .help = "From a request's first byte to the end of its head." },
    { .name = "body_timeout",
      .type = OPTION_DURATION,
      .offset = MEMBER(site_limit, body_timeout),
      .preset = "30s",
      .min = 10,
      .max = HOURS(24),
      .help = "Between two pieces of a request body." },
    { .name = "idle_timeout",
      .type = OPTION_DURATION,
      .offset = MEMBER(site_limit, idle_timeout),
      .preset = "60s",
      .min = 10,
      .max = HOURS(24),
      .help = "How long a connection may stay open without a request." },
    { .name = "write_timeout",
      .type = OPTION_DURATION,
      .offset = MEMBER(site_limit, write_timeout),
      .preset = "30s",
      .min = 10,
      .max = HOURS(24),
      .help = "How long a client may take nothing of a response." },
    { .name = "total_timeout",
      .type = OPTION_DURATION,
      .offset = MEMBER(site_limit, total_timeout),
      .preset = "0",
      .help = "For a whole request and its response; 0: no limit." },
    { .name = NULL },
};

static const struct option tls_table[] = {
    { .name = "verify",
      .type = OPTION_BOOL,
      .offset = MEMBER(site_tls, verify),
      .preset = "true",
      .help = "Whether the server's certificate and name are checked." },
    { .name = "ca",
      .type = OPTION_STRING,
      .offset = MEMBER(site_tls, ca),
      .help = "PEM file of trusted authorities; default: the system's." },
    { .name = "server_name",
      .type = OPTION_STRING,
      .offset = MEMBER(site_tls, server_name),
      .help = "Name to ask for (SNI) and to check; default: the host of the server's URL." },
    { .name = "certificate",
      .type = OPTION_STRING,
      .offset = MEMBER(site_tls, certificate),
      .help = "PEM file of a client certificate chain; needs `key`." },
    { .name = "key",
      .type = OPTION_STRING,
      .offset = MEMBER(site_tls, key),
      .help = "PEM file of the client certificate's key." },
    { .name = NULL },
};

static const struct option keepalive_table[] = {
    { .name = "max_idle",
      .type = OPTION_INT,
      .offset = MEMBER(site_keepalive, max_idle),
      .preset = "256",
      .max = 100000,
      .help = "Idle connections kept per server and event loop; 0: none." },
    { .name = "idle_timeout",
      .type = OPTION_DURATION,
      .offset = MEMBER(site_keepalive, idle_timeout),
      .preset = "4s",
      .max = HOURS(24),
      .help = "How long an idle connection is kept. Stay below the server's own limit (Node.js: 5s)." },
    { .name = NULL },
};

static const struct option upstream_table[] = {
    { .name = "servers",
      .type = OPTION_URLS,
      .offset = MEMBER(site_upstream, servers),
      .flags = OPTION_REQUIRED,
      .help = "URLs, `http` or `https`. Scheme, host and port only: the client's path reaches them unchanged." },
    { .name = "tls",
      .type = OPTION_STRUCT,
      .offset = MEMBER(site_upstream, tls),
      .table = tls_table,
      .help = "For https servers." },
    { .name = "host",
      .type = OPTION_STRING,
      .offset = MEMBER(site_upstream, host),
      .preset = "preserve",
      .help = "`preserve` sends the client's Host, anything else is sent as the Host." },
    { .name = "max_connections",
      .type = OPTION_INT,
      .offset = MEMBER(site_upstream, max_connections),
      .preset = "256",
      .max = 1000000,
      .help = "Connections per server and event loop; 0: no limit." },
    { .name = "keepalive",
      .type = OPTION_STRUCT,
      .offset = MEMBER(site_upstream, keepalive),
      .table = keepalive_table,
      .help = "Reuse of connections." },
    { .name = "connect_timeout",
      .type = OPTION_DURATION,
      .offset = MEMBER(site_upstream, connect_timeout),
      .preset = "2s",
      .min = 10,
      .max = HOURS(1),
      .help = "For connecting, TLS included." },
    { .name = "first_byte_timeout",
      .type = OPTION_DURATION,
      .offset = MEMBER(site_upstream, first_byte_timeout),
      .preset = "30s",
      .min = 10,
      .max = HOURS(24),
      .help = "From the sent request to the response head." },
    { .name = "idle_timeout",
      .type = OPTION_DURATION,
      .offset = MEMBER(site_upstream, idle_timeout),
      .preset = "30s",
      .min = 10,
      .max = HOURS(24),
      .help = "Between two pieces of a response body." },
    { .name = "parent", .flags = OPTION_UNAVAILABLE, .help = "The servers are Doorstep nodes." },
    { .name = NULL },
};

static const struct option query_table[] = {
    { .name = "ignore",
      .type = OPTION_STRINGS,
      .offset = MEMBER(site_query, ignore),
      .help = "Parameters (names, `*` allowed) that do not enter the key, such as `utm_*`." },
    { .name = "keep",
      .type = OPTION_STRINGS,
      .offset = MEMBER(site_query, keep),
      .help = "When given, only these parameters enter the key." },
    { .name = "sort",
      .type = OPTION_BOOL,
      .offset = MEMBER(site_query, sort),
      .preset = "false",
      .help = "Whether parameters are sorted by name in the key." },
    { .name = NULL },
};

static const struct option key_table[] = {
    { .name = "query",
      .type = OPTION_STRUCT,
      .offset = MEMBER(site_key, query),
      .table = query_table,
      .help = "What of the query enters the key; default: all of it as it is." },
    { .name = "cookies",
      .type = OPTION_STRINGS,
      .offset = MEMBER(site_key, cookies),
      .flags = OPTION_TOKEN,
      .help = "Cookies whose values enter the key." },
    { .name = "headers",
      .type = OPTION_STRINGS,
      .offset = MEMBER(site_key, headers),
      .flags = OPTION_TOKEN,
      .help = "Request fields whose values enter the key." },
    { .name = "host",
      .type = OPTION_STRING,
      .offset = MEMBER(site_key, host),
      .help = "Host used in the key instead of the request's, so that aliases of a site share what is stored." },
    { .name = NULL },
};

static const struct option heuristic_table[] = {
    { .name = "fraction",
      .type = OPTION_RATIO,
      .offset = MEMBER(site_heuristic, fraction),
      .preset = "0.1",
      .help = "Share of the time since Last-Modified for which a response without explicit freshness is fresh; 0: "
              "never." },
    { .name = "max",
      .type = OPTION_DURATION,
      .offset = MEMBER(site_heuristic, max),
      .preset = "1d",
      .max = YEARS(10),
      .help = "Upper bound of that time." },
    { .name = NULL },
};

static const struct option route_table[] = {
    { .name = "match",
      .type = OPTION_STRING,
      .offset = MEMBER(site_route, match),
      .flags = OPTION_REQUIRED,
      .help = "Path, or host and path, with `*` for any bytes: `/assets/*`, `*.example.com/api/*`. The longest match "
              "wins." },
    { .name = "name",
      .type = OPTION_STRING,
      .offset = MEMBER(site_route, name),
      .flags = OPTION_TOKEN,
      .help = "Label for logs and metrics; default: the text of `match`." },
    { .name = "hosts",
      .type = OPTION_STRINGS,
      .offset = MEMBER(site_route, hosts),
      .help = "Hosts (`*` allowed) this route is for; default: all." },
    { .name = "upstream",
      .type = OPTION_STRING,
      .offset = MEMBER(site_route, upstream),
      .flags = OPTION_REQUIRED,
      .help = "Name of an upstream." },
    { .name = "scope",
      .type = OPTION_STRING,
      .offset = MEMBER(site_route, scope),
      .preset = "public",
      .help = "Tenant scope: nothing stored under one scope is ever served to another." },
    { .name = "guarantee",
      .type = OPTION_ENUM,
      .offset = MEMBER(site_route, guarantee),
      .preset = "http",
      .names = guarantees,
      .help = "`http`: as RFC 9111 says. `available`: anything stored rather than an error. `bounded`: never older "
              "than `max_stale`. `origin`: nothing without the origin's word. `session` is not available yet." },
    { .name = "cache",
      .type = OPTION_BOOL,
      .offset = MEMBER(site_route, cache),
      .preset = "true",
      .help = "Off: everything is passed on." },
    { .name = "ttl",
      .type = OPTION_DURATION,
      .offset = MEMBER(site_route, ttl),
      .max = YEARS(10),
      .help = "Freshness of responses that state none." },
    { .name = "ttl_min",
      .type = OPTION_DURATION,
      .offset = MEMBER(site_route, ttl_min),
      .max = YEARS(10),
      .help = "Lower bound of a response's freshness." },
    { .name = "ttl_max",
      .type = OPTION_DURATION,
      .offset = MEMBER(site_route, ttl_max),
      .max = YEARS(10),
      .help = "Upper bound of a response's freshness." },
    { .name = "stale_while_revalidate",
      .type = OPTION_DURATION,
      .offset = MEMBER(site_route, stale_while_revalidate),
      .max = YEARS(10),
      .help = "Window in which a stale response is served while it is refreshed, unless the response states one." },
    { .name = "stale_if_error",
      .type = OPTION_DURATION,
      .offset = MEMBER(site_route, stale_if_error),
      .max = YEARS(10),
      .help = "Window in which a stale response replaces a 5xx, unless the response states one." },
    { .name = "max_stale_on_error",
      .type = OPTION_DURATION,
      .offset = MEMBER(site_route, max_stale_on_error),
      .preset = "1d",
      .max = YEARS(10),
      .help = "How stale an answer may be while the origin cannot be reached." },
    { .name = "max_stale",
      .type = OPTION_DURATION,
      .offset = MEMBER(site_route, max_stale),
      .max = YEARS(10),
      .help = "The bound of guarantee `bounded`." },
    { .name = "set_cookie",
      .type = OPTION_ENUM,
      .offset = MEMBER(site_route, set_cookie),
      .preset = "bypass",
      .names = set_cookie_rules,
      .help = "Responses with Set-Cookie: not stored unless they say `public`, `s-maxage` or a targeted field; stored "
              "without the cookie; or stored as the RFC allows." },
    { .name = "client_cache_control",
      .type = OPTION_ENUM,
      .offset = MEMBER(site_route, client_cache_control),
      .preset = "honour",
      .names = client_rules,
      .help = "What the request's Cache-Control does." },
    { .name = "max_object",
      .type = OPTION_SIZE,
      .offset = MEMBER(site_route, max_object),
      .max = TIB(64),
      .help = "Larger responses are not kept; default: `memory.max_object`." },
    { .name = "body_limit",
      .type = OPTION_SIZE,
      .offset = MEMBER(site_route, body_limit),
      .max = TIB(64),
      .help = "Bytes of a request body, 0: no limit; default: `limits.body`." },
    { .name = "key",
      .type = OPTION_STRUCT,
      .offset = MEMBER(site_route, key),
      .table = key_table,
      .help = "What distinguishes one stored response from another." },
    { .name = "forwarded",
      .type = OPTION_ENUM,
      .offset = MEMBER(site_route, forwarded),
      .preset = "x_forwarded",
      .names = forwarded_rules,
      .help = "Which fields tell the origin about the client." },
    { .name = "via",
      .type = OPTION_BOOL,
      .offset = MEMBER(site_route, via),
      .preset = "true",
      .help = "Whether Via is sent, both ways." },
    { .name = "heuristic",
      .type = OPTION_STRUCT,
      .offset = MEMBER(site_route, heuristic),
      .table = heuristic_table,
      .help = "Freshness of responses that state none (RFC 9111 §4.2.2)." },
    { .name = "pass_marker",
      .type = OPTION_DURATION,
      .offset = MEMBER(site_route, pass_marker),
      .preset = "60s",
      .max = HOURS(24),
      .help = "How long it is remembered that a key cannot be stored, so that nobody waits for it." },
    { .name = "cache_status",
      .type = OPTION_BOOL,
      .offset = MEMBER(site_route, cache_status),
      .preset = "true",
      .help = "Whether answers carry `Cache-Status`." },
    { .name = "server_timing",
      .type = OPTION_BOOL,
      .offset = MEMBER(site_route, server_timing),
      .preset = "true",
      .help = "Whether answers carry `Server-Timing`." },
    { .name = "request_id",
      .type = OPTION_BOOL,
      .offset = MEMBER(site_route, request_id),
      .preset = "true",
      .help = "Whether requests and answers carry a request id." },
    { .name = NULL },
};

static const struct option headers_table[] = {
    { .name = "request_id",
      .type = OPTION_STRING,
      .offset = MEMBER(site_header, request_id),
      .preset = "X-Request-Id",
      .flags = OPTION_TOKEN,
      .help = "Name of the field that carries the request id." },
    { .name = NULL },
};

static const struct option purge_table[] = {
    { .name = "method",
      .type = OPTION_BOOL,
      .offset = MEMBER(site_purge, method),
      .preset = "false",
      .help = "Whether the `PURGE` method works on the client listeners." },
    { .name = "allow",
      .type = OPTION_CIDRS,
      .offset = MEMBER(site_purge, allow),
      .preset = "127.0.0.0/8, ::1",
      .help = "Who may use it." },
    { .name = NULL },
};

const struct option site_options[] = {
    { .name = "node",
      .type = OPTION_STRUCT,
      .offset = MEMBER(site, node),
      .table = node_table,
      .help = "Who this node is." },
    { .name = "listen",
      .type = OPTION_ADDRESSES,
      .offset = MEMBER(site, listen),
      .preset = "127.0.0.1:8080",
      .help = "Addresses for clients." },
    { .name = "threads",
      .type = OPTION_INT,
      .offset = MEMBER(site, threads),
      .preset = "0",
      .max = 64,
      .help = "Event loops; 0: one per CPU." },
    { .name = "memory",
      .type = OPTION_STRUCT,
      .offset = MEMBER(site, memory),
      .table = memory_table,
      .help = "The memory tier." },
    { .name = "upstreams",
      .type = OPTION_MAP,
      .offset = MEMBER(site, upstreams),
      .table = upstream_table,
      .item_size = sizeof(struct site_upstream),
      .flags = OPTION_REQUIRED,
      .help = "Origins, by name." },
    { .name = "routes",
      .type = OPTION_LIST,
      .offset = MEMBER(site, routes),
      .table = route_table,
      .item_size = sizeof(struct site_route),
      .flags = OPTION_REQUIRED,
      .help = "Which requests go where, and how they are treated." },
    { .name = "admin",
      .type = OPTION_STRUCT,
      .offset = MEMBER(site, admin),
      .table = admin_table,
      .help = "The admin listener." },
    { .name = "access_log",
      .type = OPTION_STRUCT,
      .offset = MEMBER(site, access_log),
      .table = access_log_table,
      .help = "One line per request." },
    { .name = "trusted_proxies",
      .type = OPTION_CIDRS,
      .offset = MEMBER(site, trusted_proxies),
      .help = "Peers whose Forwarded and X-Forwarded-* fields are believed." },
    { .name = "limits",
      .type = OPTION_STRUCT,
      .offset = MEMBER(site, limits),
      .table = limits_table,
      .help = "What clients may take." },
    { .name = "headers",
      .type = OPTION_STRUCT,
      .offset = MEMBER(site, headers),
      .table = headers_table,
      .help = "Names of fields." },
    { .name = "purge",
      .type = OPTION_STRUCT,
      .offset = MEMBER(site, purge),
      .table = purge_table,
      .help = "Purging by request." },
    { .name = "shutdown_timeout",
      .type = OPTION_DURATION,
      .offset = MEMBER(site, shutdown_timeout),
      .preset = "30s",
      .max = HOURS(24),
      .help = "How long SIGTERM waits for requests in flight." },
    { .name = "disk", .flags = OPTION_UNAVAILABLE, .help = "The disk tier." },
    { .name = "shared", .flags = OPTION_UNAVAILABLE, .help = "The shared store." },
    { .name = "ai", .flags = OPTION_UNAVAILABLE, .help = "The AI gateway." },
    { .name = NULL },
};

/* The path of a member of a route or upstream, for messages. */
static const char *route_path(struct text *t, size_t index, const char *member)
{
    t->len = 0;
    text_printf(t, "routes[%zu]%s%s", index, *member ? "." : "", member);
    return text_str(t);
}

static void check_match(struct site *site, size_t index, struct conf_report *report)
{
    struct site_route *route = &site->routes.items[index];
    size_t slash = view_find(route->match, '/');
    char buffer[64];
    struct text path = TEXT_ON(buffer);

    if (route->match.len == 0)
        return; /* missing, and said so */
    route->match_host = view_first(route->match, slash);
    route->match_path = view_skip(route->match, slash);
    if (route->match_path.len == 0)
        conf_complain(report, route_path(&path, index, "match"),
                      "no path in it; a path starts with \"/\", as in \"/*\" or \"%.*s/*\"",
                      VIEW_ARG(view_first(route->match, 64)));
    else if (view_contains(route->match, '?') || view_contains(route->match, '#'))
        conf_complain(report, route_path(&path, index, "match"), "queries and fragments are not matched");
    else if (view_starts_with_icase(route->match, VIEW("http:")) ||
             view_starts_with_icase(route->match, VIEW("https:")))
        conf_complain(report, route_path(&path, index, "match"), "write host and path without \"http://\"");
    for (size_t i = 0; i < index && report->count <= CONF_MISTAKES_MAX; i++) {
        const struct site_route *earlier = &site->routes.items[i];
        unsigned line;

        if (!view_eq(earlier->match_path, route->match_path) || earlier->match.len == 0 ||
            !view_eq_icase(earlier->match_host, route->match_host) || earlier->hosts.count || route->hosts.count)
            continue;
        line = conf_line(report, route_path(&path, i, "match"));
        conf_complain(report, route_path(&path, index, "match"),
                      "can never be reached: routes[%zu] in line %u has the same match", i, line);
        return;
    }
}

static void check_upstream(struct site *site, size_t index, struct conf_report *report)
{
    struct site_route *route = &site->routes.items[index];
    struct view names[64];
    struct view nearest;
    char buffer[64];
    struct text path = TEXT_ON(buffer);
    size_t count = MIN(site->upstreams.count, ARRAY_LEN(names));

    if (route->upstream.len == 0)
        return;
    for (size_t i = 0; i < site->upstreams.count; i++) {
        if (view_eq(site->upstreams.items[i].name, route->upstream)) {
            route->upstream_index = i;
            return;
        }
    }
    for (size_t i = 0; i < count; i++)
        names[i] = site->upstreams.items[i].name;
    nearest = conf_nearest(route->upstream, names, count);
    if (nearest.len)
        conf_complain(report, route_path(&path, index, "upstream"), "no upstream \"%.*s\"; did you mean \"%.*s\"?",
                      VIEW_ARG(view_first(route->upstream, 64)), VIEW_ARG(nearest));
    else
        conf_complain(report, route_path(&path, index, "upstream"), "no upstream \"%.*s\" under upstreams",
                      VIEW_ARG(view_first(route->upstream, 64)));
}

static void check_route(struct site *site, size_t index, struct conf_report *report)
{
    const struct site_route *route = &site->routes.items[index];
    char buffer[64];
    struct text path = TEXT_ON(buffer);

    check_match(site, index, report);
    if (!report->incomplete)
        check_upstream(site, index, report);
    if (route->guarantee == ROUTE_GUARANTEE_SESSION)
        conf_complain(report, route_path(&path, index, "guarantee"),
                      "\"session\" is known, but not available in this version");
    if (route->guarantee == ROUTE_GUARANTEE_BOUNDED && route->max_stale == OPTION_UNSET && !report->incomplete)
        conf_complain(report, route_path(&path, index, "guarantee"),
                      "\"bounded\" needs max_stale, as in max_stale: 5s");
    if (route->guarantee != ROUTE_GUARANTEE_BOUNDED && route->max_stale != OPTION_UNSET)
        conf_complain(report, route_path(&path, index, "max_stale"), "works with guarantee: bounded only");
    if (route->ttl_min != OPTION_UNSET && route->ttl_max != OPTION_UNSET && route->ttl_min > route->ttl_max)
        conf_complain(report, route_path(&path, index, "ttl_min"), "larger than ttl_max");
    if (route->key.query.keep.count && route->key.query.ignore.count)
        conf_complain(report, route_path(&path, index, "key.query.keep"), "give either keep or ignore");
}

/* A path in front of the client's would make it reach the origin changed; the client's own path decides. */
static void check_server_paths(const struct site_upstream *u, struct conf_report *report)
{
    char buffer[160];

    for (size_t k = 0; k < u->servers.count; k++) {
        struct text path = TEXT_ON(buffer);

        if (u->servers.items[k].path.len == 0)
            continue;
        text_printf(&path, "upstreams.%.*s.servers[%zu]", VIEW_ARG(u->name), k);
        conf_complain(report, text_str(&path), "the path '%.*s' is not used: give scheme, host and port only",
                      VIEW_ARG(u->servers.items[k].path));
    }
}

static void check_upstreams(const struct site *site, struct conf_report *report)
{
    for (size_t i = 0; i < site->upstreams.count; i++) {
        const struct site_upstream *u = &site->upstreams.items[i];
        bool plain = u->servers.count > 0;
        char buffer[128];
        struct text path = TEXT_ON(buffer);

        check_server_paths(u, report);
        for (size_t k = 0; k < u->servers.count; k++)
            plain = plain && u->servers.items[k].text.len && !u->servers.items[k].tls;
        text_printf(&path, "upstreams.%.*s", VIEW_ARG(u->name));
        if (u->tls.certificate.len && !u->tls.key.len)
            conf_complain(report, text_str(&path), "tls.certificate needs tls.key");
        if (u->tls.key.len && !u->tls.certificate.len)
            conf_complain(report, text_str(&path), "tls.key needs tls.certificate");
        if (u->servers.count == 0 && conf_line(report, text_str(&path)) && !report->incomplete) {
            text_lit(&path, ".servers");
            if (conf_line(report, text_str(&path)))
                conf_complain(report, text_str(&path), "at least one server is needed");
        } else if (plain && (u->tls.ca.len || u->tls.server_name.len || u->tls.certificate.len)) {
            text_lit(&path, ".tls");
            conf_complain(report, text_str(&path), "none of the servers is https");
        }
    }
}

static bool is_loopback(const struct option_address *a)
{
    return a->path.len || view_eq(a->host, VIEW("localhost")) || view_eq(a->host, VIEW("::1")) ||
           view_starts_with(a->host, VIEW("127."));
}

static void check_listeners(const struct site *site, struct conf_report *report)
{
    char buffer[32];

    if (site->listen.count == 0)
        conf_complain(report, "listen", "at least one address is needed");
    for (size_t i = 0; i < site->listen.count; i++) {
        const struct option_address *a = &site->listen.items[i];

        for (size_t k = 0; k < i; k++) {
            struct text path = TEXT_ON(buffer);

            text_printf(&path, "listen[%zu]", i);
            if (a->text.len && (a->port || a->path.len) && view_eq(a->text, site->listen.items[k].text))
                conf_complain(report, text_str(&path), "given twice");
        }
    }
    if (site->admin.enabled && !is_loopback(&site->admin.listen) && site->admin.token.len == 0 &&
        conf_line(report, "admin.token") == 0)
        conf_complain(report, "admin.listen", "others can reach this address: set admin.token");
}

/* Cross checks; fills match_host, match_path and upstream_index. */
static void site_check(struct site *site, struct conf_report *report)
{
    check_listeners(site, report);
    check_upstreams(site, report);
    for (size_t i = 0; i < site->routes.count; i++)
        check_route(site, i, report);
    if (site->routes.count == 0 && conf_line(report, "routes") && !report->incomplete)
        conf_complain(report, "routes", "at least one route is needed, as in { match: \"/*\", upstream: app }");
}

static int finish(struct site *site, int r, struct conf_report *report, struct site *ret_site)
{
    if (r == 0 || r == -EINVAL)
        site_check(site, report);
    if (r == 0 && report->count)
        r = -EINVAL;
    if (r < 0) {
        site_free(site);
        return r;
    }
    *ret_site = *site;
    return 0;
}

int site_load(const char *path, struct site *ret_site, struct conf_report *report)
{
    struct site site = { 0 };
    int r;

    arena_init(&site._arena, NULL, 0, CONF_MEMORY_MAX);
    r = conf_load_file(path, site_options, &site, &site._arena, report);
    return finish(&site, r, report, ret_site);
}

int site_default(const char *origin_url, struct site *ret_site, struct conf_report *report)
{
    struct view text = VIEW("upstreams: { origin: { servers: [\"http://localhost\"] } }\n"
                            "routes: [ { match: \"/*\", upstream: origin } ]\n");
    struct site site = { 0 };
    int r;

    arena_init(&site._arena, NULL, 0, CONF_MEMORY_MAX);
    r = conf_load_text(text, site_options, &site, &site._arena, report);
    if (r == 0)
        r = conf_set(upstream_table, &site.upstreams.items[0], "servers", origin_url, &site._arena, report);
    return finish(&site, r, report, ret_site);
}

int site_set(struct site *site, const char *path, const char *value, struct conf_report *report)
{
    return conf_set(site_options, site, path, value, &site->_arena, report);
}

void site_free(struct site *site)
{
    if (site)
        arena_release(&site->_arena);
}
