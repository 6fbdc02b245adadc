/* An upstream as the loops share it: parsed servers, the TLS context, the options. Immutable after upstream_new() except
 * for the array of pools, in which each loop writes its own element, and what is known about health (breakers, budgets,
 * counts), which looks after itself. */
#include "upstream/upstream.h"

#include "base/clock.h"
#include "base/heap.h"
#include "base/key.h"
#include "proto/uri.h"
#include "upstream/pool.h"

#include <errno.h>

#define AUTHORITY_MAX 300u

void upstream_options_init(struct upstream_options *options)
{
    *options = (struct upstream_options){
        .name = "origin",
        .loops = 1,
        .max_connections = 1024,
        .max_waiting = 1024,
        .max_idle = 64,
        .idle_timeout_ms = 55000,
        .head_max = 65536,
        .timeouts = {
            .queue_ms = 10000,
            .dns_ms = 5000,
            .connect_ms = 2000,
            .tls_ms = 5000,
            .first_byte_ms = 30000,
            .idle_ms = 30000,
        },
        .breaker_statuses = { 502, 503, 504 },
        .retries = 1,
        .retry_percent = 20,
        .retry_per_second = 10,
    };
    breaker_options_init(&options->breaker);
}

static char *copy_str(const char *s)
{
    return heap_strdup(s, strlen(s));
}

static int server_set_up(struct upstream_server *server, const char *url, const char *tls_name, struct text *reason)
{
    char memory[AUTHORITY_MAX];
    struct text authority = TEXT_ON(memory), name;
    struct uri uri;
    int r = uri_parse(view_str(url), &uri);
    char name_memory[AUTHORITY_MAX];

    if (r < 0) {
        text_printf(reason, "'%s' is not a URL like http://host:port or https://host", url);
        return -EINVAL;
    }
    if (uri.path.len > 1 || uri.query.ptr) {
        text_printf(reason, "'%s' must not have a path or query", url);
        return -EINVAL;
    }
    uri_put_authority(&uri, &authority);
    name = TEXT_ON(name_memory);
    text_printf(&name, uri.ipv6 ? "[%.*s]:%u" : "%.*s:%u", VIEW_ARG(uri.host), uri.port);
    if (authority.overflow || name.overflow) {
        text_printf(reason, "'%s': the host is too long", url);
        return -EINVAL;
    }
    server->host = heap_strdup(uri.host.ptr, uri.host.len);
    server->authority = heap_strdup(authority.ptr, authority.len);
    server->name = heap_strdup(name.ptr, name.len);
    server->hash = hash64(text_view(&name));
    server->port = uri.port;
    server->tls = uri.https;
    server->tls_name = tls_name ? copy_str(tls_name) : heap_strdup(uri.host.ptr, uri.host.len);
    return server->host && server->authority && server->name && server->tls_name ? 0 : -ENOMEM;
}

static int servers_set_up(struct upstream *up, const struct upstream_options *options, struct text *reason)
{
    bool tls = false;
    int r;

    for (unsigned i = 0; i < options->server_count; i++) {
        up->server_count = i + 1;
        breaker_init(&up->servers[i].breaker, &options->breaker, clock_mono_us() + i);
        r = server_set_up(&up->servers[i], options->servers[i], options->tls_name, reason);
        if (r < 0)
            return r;
        tls = tls || up->servers[i].tls;
    }
    return tls ? tls_context_client(&up->tls, &options->tls, reason) : 0;
}

int upstream_new(struct upstream **ret, const struct upstream_options *options, struct text *reason)
{
    struct upstream *up;
    int r;

    if (options->server_count == 0 || options->server_count > UPSTREAM_SERVERS_MAX) {
        text_printf(reason, "upstream '%s' needs 1 to %u servers", options->name, UPSTREAM_SERVERS_MAX);
        return -EINVAL;
    }
    up = heap_zalloc(sizeof(*up) + options->loops * sizeof(up->pools[0]));
    if (!up)
        return -ENOMEM;
    up->options = *options;
    up->options.servers = NULL;
    up->options.tls = (struct tls_options){ .ca_file = NULL };
    up->options.tls_name = NULL;
    up->name = copy_str(options->name);
    up->options.name = up->name;
    breaker_init(&up->breaker, &options->breaker, clock_mono_us());
    budget_init(&up->retry_budget, options->retry_percent, options->retry_per_second, clock_mono_ms());
    r = up->name ? servers_set_up(up, options, reason) : -ENOMEM;
    if (r < 0) {
        upstream_free(up);
        return r;
    }
    *ret = up;
    return 0;
}

void upstream_loop_close(struct upstream *upstream, struct loop *loop)
{
    _Atomic(struct pool *) *slot = &upstream->pools[loop_index(loop)];
    struct pool *pool = atomic_load_explicit(slot, memory_order_relaxed);

    atomic_store_explicit(slot, NULL, memory_order_release);
    pool_free(pool);
}

void upstream_free(struct upstream *upstream)
{
    if (!upstream)
        return;
    for (unsigned i = 0; i < upstream->server_count; i++) {
        struct upstream_server *server = &upstream->servers[i];

        heap_free(server->host);
        heap_free(server->tls_name);
        heap_free(server->name);
        heap_free(server->authority);
        breaker_end(&server->breaker);
    }
    breaker_end(&upstream->breaker);
    tls_context_unref(upstream->tls);
    heap_free(upstream->name);
    heap_free(upstream);
}

const char *upstream_name(const struct upstream *upstream)
{
    return upstream->name;
}

struct view upstream_authority(const struct upstream *upstream)
{
    return view_str(upstream->servers[0].authority);
}

bool upstream_is_tls(const struct upstream *upstream)
{
    return upstream->servers[0].tls;
}

unsigned upstream_server_count(const struct upstream *upstream)
{
    return upstream->server_count;
}

struct view upstream_server_name(const struct upstream *upstream, unsigned i)
{
    return i < upstream->server_count ? view_str(upstream->servers[i].name) : VIEW_NONE;
}

void upstream_stats(const struct upstream *upstream, struct upstream_stats *ret)
{
    struct upstream_stats s = { .exchanges = 0 };

    for (unsigned i = 0; i < upstream->options.loops; i++) {
        const struct pool *pool = atomic_load_explicit(&upstream->pools[i], memory_order_acquire);
        uint64_t open, idle;

        if (!pool)
            continue;
        open = pool_counter(pool, POOL_OPEN);
        idle = pool_counter(pool, POOL_IDLE);
        s.exchanges += pool_counter(pool, POOL_EXCHANGES);
        s.connects += pool_counter(pool, POOL_CONNECTS);
        s.reuses += pool_counter(pool, POOL_REUSES);
        s.retries += pool_counter(pool, POOL_RETRIES);
        s.connect_failures += pool_counter(pool, POOL_CONNECT_FAILURES);
        s.idle += idle;
        s.active += open > idle ? open - idle : 0; /* read at different moments */
        s.waiting += pool_counter(pool, POOL_WAITING);
        s.bytes_in += pool_counter(pool, POOL_BYTES_IN);
        s.bytes_out += pool_counter(pool, POOL_BYTES_OUT);
        for (unsigned e = 0; e < EXCHANGE_ERROR_COUNT; e++)
            s.failures[e] += pool_counter(pool, POOL_FAILURES + e);
    }
    *ret = s;
}

/* ---- health ---- */

void upstream_server_stats(struct upstream *upstream, unsigned i, struct upstream_server_stats *ret)
{
    uint64_t now = clock_mono_ms();
    bool whole = i >= upstream->server_count;

    *ret = (struct upstream_server_stats){ .healthy = true };
    breaker_look(whole ? &upstream->breaker : &upstream->servers[i].breaker, now, &ret->breaker);
    for (unsigned k = 0; k < upstream->server_count; k++)
        if (whole || k == i)
            ret->in_flight += atomic_load_explicit(&upstream->servers[k].in_flight, memory_order_relaxed);
    if (!whole)
        ret->healthy = !atomic_load_explicit(&upstream->servers[i].unhealthy, memory_order_relaxed);
}

bool upstream_is_down(struct upstream *upstream)
{
    uint64_t now = clock_mono_ms();

    if (upstream->server_count > 1 && !breaker_may(&upstream->breaker, now))
        return true;
    for (unsigned i = 0; i < upstream->server_count; i++)
        if (!atomic_load_explicit(&upstream->servers[i].unhealthy, memory_order_relaxed) &&
            breaker_may(&upstream->servers[i].breaker, now))
            return false;
    return true;
}

int upstream_breaker_force(struct upstream *upstream, struct view server, enum breaker_force force)
{
    uint64_t now = clock_mono_ms();
    bool found = false;

    for (unsigned i = 0; i < upstream->server_count; i++) {
        if (server.len && !view_eq(server, view_str(upstream->servers[i].name)))
            continue;
        breaker_force(&upstream->servers[i].breaker, force, now);
        found = true;
    }
    if (server.len == 0)
        breaker_force(&upstream->breaker, force, now);
    return found ? 0 : -ENOENT;
}
