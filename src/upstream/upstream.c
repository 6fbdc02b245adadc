/* An upstream as the loops share it: parsed servers, the TLS context, the options. Immutable after upstream_new() except
 * for the array of pools, in which each loop writes its own element, and what is known about health (breakers, budgets,
 * counts), which looks after itself. */
#include "upstream/upstream.h"

#include "base/clock.h"
#include "base/heap.h"
#include "upstream/keeper.h"
#include "upstream/servers.h"

#include <errno.h>

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
        .health_interval_ms = 5000,
        .health_timeout_ms = 2000,
        .healthy = 2,
        .unhealthy = 3,
        .slow_start_ms = 10000,
        .hedge_percent = 5,
    };
    breaker_options_init(&options->breaker);
}

static int servers_set_up(struct upstream *up, const struct upstream_options *options, struct text *reason)
{
    bool tls = false;

    for (unsigned i = 0; i < options->server_count; i++) {
        int r = servers_add(up, options->servers[i], &tls, reason);

        if (r < 0)
            return r;
    }
    return tls ? tls_context_client(&up->tls, &options->tls, reason) : 0;
}

static char *copy_option(const char *s)
{
    return s ? heap_strdup(s, strlen(s)) : NULL;
}

static int options_set_up(struct upstream *up, const struct upstream_options *options)
{
    up->options = *options;
    up->options.servers = NULL;
    up->options.tls = (struct tls_options){ .ca_file = NULL };
    up->options.tls_name = up->tls_name = copy_option(options->tls_name);
    up->options.name = up->name = copy_option(options->name);
    up->options.health_path = up->health_path = copy_option(options->health_path);
    up->options.health_host = up->health_host = copy_option(options->health_host);
    return up->name && !up->tls_name == !options->tls_name && !up->health_path == !options->health_path &&
                   !up->health_host == !options->health_host
               ? 0
               : -ENOMEM;
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
    breaker_init(&up->breaker, &options->breaker, clock_mono_us());
    budget_init(&up->hedge_budget, options->hedge_percent, 0, clock_mono_ms());
    budget_init(&up->retry_budget, options->retry_percent, options->retry_per_second, clock_mono_ms());
    servers_init(up, &options->breaker);
    r = options_set_up(up, options);
    if (r == 0)
        r = servers_set_up(up, options, reason);
    if (r < 0) {
        upstream_free(up);
        return r;
    }
    *ret = up;
    return 0;
}

static void start(struct loop *loop, struct message *message)
{
    struct upstream *up = CONTAINER_OF(message, struct upstream, start);

    up->keeper = keeper_new(up, loop);
}

void upstream_start(struct upstream *upstream, struct loop *loop)
{
    if (!upstream->options.health_path && upstream->srv_count == 0)
        return;
    upstream->keeper_loop = loop;
    upstream->start.handle = start;
    loop_post(loop, &upstream->start);
}

void upstream_loop_close(struct upstream *upstream, struct loop *loop)
{
    _Atomic(struct pool *) *slot = &upstream->pools[loop_index(loop)];
    struct pool *pool = atomic_load_explicit(slot, memory_order_relaxed);

    if (upstream->keeper_loop == loop) {
        keeper_free(upstream->keeper);
        upstream->keeper = NULL;
    }
    atomic_store_explicit(slot, NULL, memory_order_release);
    pool_free(pool);
}

void upstream_free(struct upstream *upstream)
{
    if (!upstream)
        return;
    servers_free(upstream);
    breaker_end(&upstream->breaker);
    tls_context_unref(upstream->tls);
    heap_free(upstream->tls_name);
    heap_free(upstream->health_path);
    heap_free(upstream->health_host);
    heap_free(upstream->name);
    heap_free(upstream);
}

const char *upstream_name(const struct upstream *upstream)
{
    return upstream->name;
}

struct view upstream_authority(const struct upstream *upstream)
{
    return view_str(upstream->authority);
}

bool upstream_is_tls(const struct upstream *upstream)
{
    return upstream->is_tls;
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
        s.hedges += pool_counter(pool, POOL_HEDGES);
        s.hedges_won += pool_counter(pool, POOL_HEDGES_WON);
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
