/* The option tables of an upstream, and what they cannot check. */
#include "main/site_table.h"

#include "base/text.h"
#include "conf/conf.h"
#include "upstream/upstream.h"

const struct option site_tls_table[] = {
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

const struct option site_upstream_keepalive_table[] = {
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

static const struct option retry_budget_table[] = {
    { .name = "percent",
      .type = OPTION_INT,
      .offset = MEMBER(site_retry_budget, percent),
      .preset = "20",
      .max = 100,
      .help = "Retries allowed per hundred requests." },
    { .name = "per_second",
      .type = OPTION_INT,
      .offset = MEMBER(site_retry_budget, per_second),
      .preset = "10",
      .max = 100000,
      .help = "Retries allowed besides, each second." },
    { .name = NULL },
};

const struct option site_upstream_breaker_table[] = {
    { .name = "enabled",
      .type = OPTION_BOOL,
      .offset = MEMBER(site_breaker, enabled),
      .preset = "true",
      .help = "Whether a failing server is left alone for a while. Off, it can still be switched by hand." },
    { .name = "failures",
      .type = OPTION_INT,
      .offset = MEMBER(site_breaker, failures),
      .preset = "5",
      .max = 10000,
      .help = "Failures in a row that open it; 0: this rule is off." },
    { .name = "ratio",
      .type = OPTION_RATIO,
      .offset = MEMBER(site_breaker, ratio),
      .preset = "0.5",
      .help = "Share of failures within `window` that opens it; 0: this rule is off." },
    { .name = "requests",
      .type = OPTION_INT,
      .offset = MEMBER(site_breaker, requests),
      .preset = "10",
      .min = 1,
      .max = 1000000,
      .help = "Requests within `window` below which a share says nothing." },
    { .name = "window",
      .type = OPTION_DURATION,
      .offset = MEMBER(site_breaker, window),
      .preset = "30s",
      .min = 100,
      .max = HOURS(1),
      .help = "How far back shares are counted." },
    { .name = "slow",
      .type = OPTION_DURATION,
      .offset = MEMBER(site_breaker, slow),
      .preset = "0s",
      .max = HOURS(1),
      .help = "An answer that takes longer to begin is slow; 0: slowness is no failure." },
    { .name = "slow_ratio",
      .type = OPTION_RATIO,
      .offset = MEMBER(site_breaker, slow_ratio),
      .preset = "0.5",
      .help = "Share of slow answers that opens it." },
    { .name = "open",
      .type = OPTION_DURATION,
      .offset = MEMBER(site_breaker, open),
      .preset = "30s",
      .min = 10,
      .max = HOURS(1),
      .help = "How long it stays open the first time, with 10 % jitter; n times as long the n-th time in a row." },
    { .name = "open_max",
      .type = OPTION_DURATION,
      .offset = MEMBER(site_breaker, open_max),
      .preset = "300s",
      .min = 10,
      .max = HOURS(24),
      .help = "How long at most." },
    { .name = "statuses",
      .type = OPTION_STRINGS,
      .offset = MEMBER(site_breaker, statuses),
      .preset = "502, 503, 504",
      .help = "Statuses that count as failures, at most 8." },
    { .name = NULL },
};

static const struct option health_table[] = {
    { .name = "path",
      .type = OPTION_STRING,
      .offset = MEMBER(site_health, path),
      .help = "What each server is asked for, as in `/healthz`. Without it there are no checks." },
    { .name = "host",
      .type = OPTION_STRING,
      .offset = MEMBER(site_health, host),
      .help = "Host field of the checks; default: the server's own." },
    { .name = "interval",
      .type = OPTION_DURATION,
      .offset = MEMBER(site_health, interval),
      .preset = "5s",
      .min = 10,
      .max = HOURS(1),
      .help = "Between two checks of a server, with 10 % jitter." },
    { .name = "timeout",
      .type = OPTION_DURATION,
      .offset = MEMBER(site_health, timeout),
      .preset = "2s",
      .min = 10,
      .max = HOURS(1),
      .help = "For a whole check." },
    { .name = "healthy",
      .type = OPTION_INT,
      .offset = MEMBER(site_health, healthy),
      .preset = "2",
      .min = 1,
      .max = 1000,
      .help = "Good checks in a row that bring a server back." },
    { .name = "unhealthy",
      .type = OPTION_INT,
      .offset = MEMBER(site_health, unhealthy),
      .preset = "3",
      .min = 1,
      .max = 1000,
      .help = "Bad checks in a row that take a server out." },
    { .name = "statuses",
      .type = OPTION_STRINGS,
      .offset = MEMBER(site_health, statuses),
      .help = "Statuses that are good, at most 8; default: every 2xx." },
    { .name = NULL },
};

static const struct option hedge_table[] = {
    { .name = "enabled",
      .type = OPTION_BOOL,
      .offset = MEMBER(site_hedge, enabled),
      .preset = "false",
      .help =
          "Whether a GET or HEAD that takes longer than 95 % of this upstream's answers is sent to a second server as "
          "well. The first answer is used, the other request is dropped." },
    { .name = "percent",
      .type = OPTION_INT,
      .offset = MEMBER(site_hedge, percent),
      .preset = "5",
      .min = 1,
      .max = 100,
      .help = "Second requests allowed per hundred." },
    { .name = NULL },
};

static const char *const balance_names[] = { "round_robin", "least_requests", "hash", NULL };

const struct option site_upstream_table[] = {
    { .name = "servers",
      .type = OPTION_URLS,
      .offset = MEMBER(site_upstream, servers),
      .flags = OPTION_REQUIRED,
      .help =
          "URLs, `http` or `https`. Scheme, host and port only: the client's path reaches them unchanged. A host that "
          "begins with an underscore, as in `http://_http._tcp.example`, names SRV records: their targets are the "
          "servers." },
    { .name = "tls",
      .type = OPTION_STRUCT,
      .offset = MEMBER(site_upstream, tls),
      .table = site_tls_table,
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
    { .name = "max_waiting",
      .type = OPTION_INT,
      .offset = MEMBER(site_upstream, max_waiting),
      .preset = "1024",
      .max = 1000000,
      .help = "Requests per event loop that may wait for a connection; the next one fails at once." },
    { .name = "keepalive",
      .type = OPTION_STRUCT,
      .offset = MEMBER(site_upstream, keepalive),
      .table = site_upstream_keepalive_table,
      .help = "Reuse of connections." },
    { .name = "balance",
      .type = OPTION_ENUM,
      .offset = MEMBER(site_upstream, balance),
      .preset = "round_robin",
      .names = balance_names,
      .help =
          "How a server is chosen: in turn, the less busy of two at random, or by the cache key, so that equal requests "
          "go to the same server." },
    { .name = "retries",
      .type = OPTION_INT,
      .offset = MEMBER(site_upstream, retries),
      .preset = "1",
      .max = 10,
      .help = "How often a request may be sent again when that is safe." },
    { .name = "retry_statuses",
      .type = OPTION_BOOL,
      .offset = MEMBER(site_upstream, retry_statuses),
      .preset = "false",
      .help = "Whether GET and HEAD are also sent again, to another server, after one of `breaker.statuses`." },
    { .name = "retry_budget",
      .type = OPTION_STRUCT,
      .offset = MEMBER(site_upstream, retry_budget),
      .table = retry_budget_table,
      .help = "What all retries together may amount to, so that they never feed an outage." },
    { .name = "breaker",
      .type = OPTION_STRUCT,
      .offset = MEMBER(site_upstream, breaker),
      .table = site_upstream_breaker_table,
      .help = "When a server (or the upstream as a whole) is not asked any more." },
    { .name = "health",
      .type = OPTION_STRUCT,
      .offset = MEMBER(site_upstream, health),
      .table = health_table,
      .help = "Regular checks of each server." },
    { .name = "hedge",
      .type = OPTION_STRUCT,
      .offset = MEMBER(site_upstream, hedge),
      .table = hedge_table,
      .help = "Second requests against slow answers." },
    { .name = "slow_start",
      .type = OPTION_DURATION,
      .offset = MEMBER(site_upstream, slow_start),
      .preset = "10s",
      .max = HOURS(1),
      .help = "How long a server that returns takes to grow from 20 to 100 % of its traffic; 0: all of it at once." },
    { .name = "queue_timeout",
      .type = OPTION_DURATION,
      .offset = MEMBER(site_upstream, queue_timeout),
      .preset = "10s",
      .min = 10,
      .max = HOURS(1),
      .help = "For a free connection when `max_connections` are in use." },
    { .name = "dns_timeout",
      .type = OPTION_DURATION,
      .offset = MEMBER(site_upstream, dns_timeout),
      .preset = "5s",
      .min = 10,
      .max = HOURS(1),
      .help = "For the address of a server." },
    { .name = "connect_timeout",
      .type = OPTION_DURATION,
      .offset = MEMBER(site_upstream, connect_timeout),
      .preset = "2s",
      .min = 10,
      .max = HOURS(1),
      .help = "For connecting, each address." },
    { .name = "tls_timeout",
      .type = OPTION_DURATION,
      .offset = MEMBER(site_upstream, tls_timeout),
      .preset = "5s",
      .min = 10,
      .max = HOURS(1),
      .help = "For the TLS handshake." },
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
    { .name = "total_timeout",
      .type = OPTION_DURATION,
      .offset = MEMBER(site_upstream, total_timeout),
      .preset = "0s",
      .max = HOURS(24),
      .help = "For a whole request and its response, retries included; 0: none." },
    { .name = "parent",
      .type = OPTION_BOOL,
      .offset = MEMBER(site_upstream, parent),
      .preset = "false",
      .help = "The servers are Doorstep nodes." },
    { .name = "token",
      .type = OPTION_STRING,
      .offset = MEMBER(site_upstream, token),
      .flags = OPTION_ENV,
      .help = "What a parent asks of its children; `${NAME}` is taken from the environment." },
    { .name = NULL },
};

static void check_statuses(const struct site_upstream *u, const char *member, const struct option_strings *statuses,
                           struct conf_report *report)
{
    char buffer[160];
    struct text path = TEXT_ON(buffer);

    text_printf(&path, "upstreams.%.*s.%s", VIEW_ARG(view_first(u->name, 64)), member);
    if (statuses->count > UPSTREAM_STATUSES_MAX)
        conf_complain(report, text_str(&path), "at most %u statuses", UPSTREAM_STATUSES_MAX);
    for (size_t i = 0; i < statuses->count; i++) {
        uint64_t status = 0;

        if (statuses->items[i].len && (!view_parse_u64(statuses->items[i], &status) || status < 200 || status > 599))
            conf_complain(report, text_str(&path), "\"%.*s\" is not a status from 200 to 599",
                          VIEW_ARG(view_first(statuses->items[i], 32)));
    }
}

static void check_health(const struct site_upstream *u, struct conf_report *report)
{
    struct view path = u->health.path;
    char buffer[128];
    struct text at = TEXT_ON(buffer);
    bool good = path.len == 0 || path.ptr[0] == '/';

    text_printf(&at, "upstreams.%.*s.health.path", VIEW_ARG(view_first(u->name, 64)));
    for (size_t i = 0; i < path.len; i++)
        good = good && path.ptr[i] > ' ' && path.ptr[i] != 0x7f;
    if (!good)
        conf_complain(report, text_str(&at), "a path begins with \"/\" and has no spaces, as in \"/healthz\"");
    for (size_t i = 0; i < u->health.host.len; i++) {
        if (u->health.host.ptr[i] > ' ' && u->health.host.ptr[i] != 0x7f)
            continue;
        at.len = 0;
        text_printf(&at, "upstreams.%.*s.health.host", VIEW_ARG(view_first(u->name, 64)));
        conf_complain(report, text_str(&at), "a host has no spaces");
        return;
    }
}

/* It opens what a parent keeps from strangers: an origin, which needs none, must not learn it by mistake. */
static void check_token(const struct site_upstream *u, struct conf_report *report)
{
    char buffer[128];
    struct text path = TEXT_ON(buffer);

    if (u->token.len == 0)
        return;
    text_printf(&path, "upstreams.%.*s.token", VIEW_ARG(view_first(u->name, 64)));
    if (!u->parent)
        conf_complain(report, text_str(&path), "only parents are shown a token: set parent: true");
    for (size_t i = 0; i < u->token.len; i++) {
        if (u->token.ptr[i] > ' ' && u->token.ptr[i] != 0x7f)
            continue;
        conf_complain(report, text_str(&path), "a token has letters, digits and signs only");
        return;
    }
}

void site_upstream_check(const struct site_upstream *u, struct conf_report *report)
{
    check_statuses(u, "breaker.statuses", &u->breaker.statuses, report);
    check_statuses(u, "health.statuses", &u->health.statuses, report);
    check_health(u, report);
    check_token(u, report);
}
