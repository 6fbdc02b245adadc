/* Compiles a site into what the node runs on. The compiled form keeps the site: routes borrow its strings and lists. The end
 * of a generation visits every loop, since connections must be closed where they live. */
#include "main/compile.h"

#include "base/heap.h"
#include "main/compile_ai.h"

#include <errno.h>

struct compiled {
    struct http_config config;
    struct site site;
    struct upstream **upstreams; /* of the site, then of its AI providers */
    unsigned upstream_count;
    struct ai_config *ai;
    const struct service *ai_service;
    struct loop *const *loops;
    unsigned loop_count;
    char *texts;             /* via_line, cache_status_name */
    struct message farewell; /* visits every loop before the memory goes */
    unsigned visited;
};

static struct compiled *compiled_of(const struct http_config *config)
{
    return CONTAINER_OF((struct http_config *)(uintptr_t)config, struct compiled, config);
}

static int64_t unset_or(uint64_t value, int64_t otherwise)
{
    return value == OPTION_UNSET ? otherwise : (int64_t)MIN(value, (uint64_t)INT64_MAX);
}

/* An answer of a model, in bytes, that is worth keeping. */
#define COMPILE_AI_ANSWER_MAX ((uint64_t)1024 * 1024)

/* ---- upstreams ---- */

static uint32_t narrow(uint64_t value)
{
    return (uint32_t)MIN(value, (uint64_t)UINT32_MAX);
}

static uint32_t permille(double ratio)
{
    return (uint32_t)(ratio * 1000 + 0.5);
}

/* Checked by check_upstreams(). */
static void compile_statuses(const struct option_strings *from, uint16_t to[UPSTREAM_STATUSES_MAX])
{
    memset(to, 0, UPSTREAM_STATUSES_MAX * sizeof(to[0]));
    for (size_t i = 0; i < from->count && i < UPSTREAM_STATUSES_MAX; i++) {
        uint64_t status = 0;

        if (view_parse_u64(from->items[i], &status))
            to[i] = (uint16_t)status;
    }
}

static void compile_breaker(const struct site_upstream *from, struct upstream_options *to)
{
    const struct site_breaker *b = &from->breaker;

    to->breaker = (struct breaker_options){
        .enabled = b->enabled,
        .failures = narrow(b->failures),
        .ratio_permille = permille(b->ratio),
        .requests = narrow(b->requests),
        .window_ms = narrow(b->window),
        .slow_ms = narrow(b->slow),
        .slow_permille = permille(b->slow_ratio),
        .open_ms = narrow(b->open),
        .open_max_ms = narrow(MAX(b->open, b->open_max)),
        .successes = 2,
        .ramp_ms = narrow(from->slow_start),
    };
    compile_statuses(&b->statuses, to->breaker_statuses);
}

static void compile_timeouts(const struct site_upstream *from, struct upstream_timeouts *to)
{
    *to = (struct upstream_timeouts){
        .queue_ms = narrow(from->queue_timeout),
        .dns_ms = narrow(from->dns_timeout),
        .connect_ms = narrow(from->connect_timeout),
        .tls_ms = narrow(from->tls_timeout),
        .first_byte_ms = narrow(from->first_byte_timeout),
        .idle_ms = narrow(from->idle_timeout),
        .total_ms = narrow(from->total_timeout),
    };
}

static void compile_health(const struct site_upstream *from, struct upstream_options *to)
{
    to->health_path = from->health.path.len ? from->health.path.ptr : NULL;
    to->health_host = from->health.host.len ? from->health.host.ptr : NULL;
    to->health_interval_ms = narrow(from->health.interval);
    to->health_timeout_ms = narrow(from->health.timeout);
    to->healthy = narrow(from->health.healthy);
    to->unhealthy = narrow(from->health.unhealthy);
    to->slow_start_ms = narrow(from->slow_start);
    compile_statuses(&from->health.statuses, to->health_statuses);
}

static int make_upstream(struct compiled *c, const struct site_upstream *from, struct upstream **ret,
                         struct text *reason)
{
    const char *servers[UPSTREAM_SERVERS_MAX];
    struct upstream_options options;

    if (from->servers.count > UPSTREAM_SERVERS_MAX) {
        text_printf(reason, "upstream %s has more than %u servers", from->name.ptr, UPSTREAM_SERVERS_MAX);
        return -EINVAL;
    }
    upstream_options_init(&options);
    for (size_t i = 0; i < from->servers.count; i++)
        servers[i] = from->servers.items[i].text.ptr;
    options.name = from->name.ptr;
    options.servers = servers;
    options.server_count = (unsigned)from->servers.count;
    options.loops = c->loop_count;
    options.tls.ca_file = from->tls.ca.len ? from->tls.ca.ptr : NULL;
    options.tls.cert_file = from->tls.certificate.len ? from->tls.certificate.ptr : NULL;
    options.tls.key_file = from->tls.key.len ? from->tls.key.ptr : NULL;
    options.tls.insecure = !from->tls.verify;
    options.tls_name = from->tls.server_name.len ? from->tls.server_name.ptr : NULL;
    options.max_connections = narrow(from->max_connections);
    options.max_waiting = narrow(from->max_waiting);
    options.max_idle = narrow(from->keepalive.max_idle);
    options.idle_timeout_ms = narrow(from->keepalive.idle_timeout);
    options.balance = (enum balance)from->balance;
    options.hedge = from->hedge.enabled;
    options.hedge_percent = narrow(from->hedge.percent);
    options.retries = narrow(from->retries);
    options.retry_statuses = from->retry_statuses;
    options.retry_percent = narrow(from->retry_budget.percent);
    options.retry_per_second = narrow(from->retry_budget.per_second);
    compile_breaker(from, &options);
    compile_health(from, &options);
    compile_timeouts(from, &options.timeouts);
    return upstream_new(ret, &options, reason);
}

static int make_upstreams(struct compiled *c, struct text *reason)
{
    size_t plain = c->site.upstreams.count, all = plain + c->site.ai.providers.count;

    c->upstreams = heap_zalloc((all + 1) * sizeof(*c->upstreams));
    if (!c->upstreams)
        return -ENOMEM;
    for (; c->upstream_count < all; c->upstream_count++) {
        unsigned i = c->upstream_count;
        const struct site_upstream *from =
            i < plain ? &c->site.upstreams.items[i] : &c->site.ai.providers.items[i - plain].upstream;
        int r = make_upstream(c, from, &c->upstreams[i], reason);

        if (r < 0)
            return r;
    }
    return 0;
}

/* ---- routes ---- */

static void compile_cache(const struct site *site, const struct site_route *from, struct cache_policy *to)
{
    to->key = (struct key_rules){
        .ignore_query = from->key.query.ignore.items,
        .ignore_query_count = from->key.query.ignore.count,
        .keep_query = from->key.query.keep.items,
        .keep_query_count = from->key.query.keep.count,
        .sort_query = from->key.query.sort,
        .cookies = from->key.cookies.items,
        .cookie_count = from->key.cookies.count,
        .headers = from->key.headers.items,
        .header_count = from->key.headers.count,
        .host = from->key.host,
        .with_scheme = true,
    };
    to->scope = from->scope.len ? from->scope : VIEW("public");
    freshness_policy_init(&to->freshness);
    to->freshness.ttl_ms = unset_or(from->ttl, -1);
    to->freshness.ttl_min_ms = unset_or(from->ttl_min, -1);
    to->freshness.ttl_max_ms = unset_or(from->ttl_max, -1);
    to->freshness.swr_ms = unset_or(from->stale_while_revalidate, -1);
    to->freshness.sie_ms = unset_or(from->stale_if_error, -1);
    to->freshness.heuristic_permille = (uint32_t)(from->heuristic.fraction * 1000 + 0.5);
    to->freshness.heuristic_max_ms = unset_or(from->heuristic.max, 86400000);
    to->storable.set_cookie = (enum set_cookie_mode)from->set_cookie;
    to->storable.no_store = !from->cache;
    to->storable.ignore_client_cache_control = from->client_cache_control == CLIENT_IGNORE;
    to->storable.keep_stale = from->guarantee == ROUTE_GUARANTEE_AVAILABLE;
    decide_policy_init(&to->decide);
    to->decide.guarantee = (enum guarantee)from->guarantee;
    to->decide.bypass = !from->cache;
    to->decide.ignore_client_cache_control = to->storable.ignore_client_cache_control;
    to->decide.max_stale_ms = unset_or(from->max_stale, 0);
    to->decide.max_stale_on_error_ms = unset_or(from->max_stale_on_error, 86400000);
    to->memory_max = site->memory.max_object;
    to->max_object = site->disk.path.len ? site->disk.max_object : site->memory.max_object;
    if (from->max_object != OPTION_UNSET)
        to->max_object = from->max_object;
    to->ladder = (struct ladder_rule){ .disk = (enum ladder_disk)from->disk, .shared = from->shared };
    to->strip_tags = from->tags == ROUTE_TAGS_STRIP;
    to->pass_marker_ms = unset_or(from->pass_marker, 0);
}

static struct hop hop_to(const struct compiled *c, size_t index)
{
    const struct site_upstream *upstream = &c->site.upstreams.items[index];

    return (struct hop){
        .upstream = c->upstreams[index],
        .host = view_eq(upstream->host, VIEW("preserve")) ? VIEW_NONE : upstream->host,
        .token = upstream->token,
        .total_ms = upstream->total_timeout,
        .parent = upstream->parent,
    };
}

/* Answers to prompts: fresh for as long as their source says, on every rung the route allows. */
static int compile_service(struct compiled *c, const struct site_route *from, struct route *to)
{
    struct ai_route *route = compile_ai_route(&c->site, c->ai, from);

    if (!route)
        return -ENOMEM;
    compile_cache(&c->site, from, &route->cache);
    route->cache.max_object = route->cache.memory_max = MIN(c->site.memory.max_object, COMPILE_AI_ANSWER_MAX);
    route->cache.freshness.ttl_max_ms = -1;
    route->cache.strip_tags = true;
    compile_ai_caches(route);
    to->service = c->ai_service;
    to->service_route = route;
    to->body_limit = from->ai.body_limit;
    return 0;
}

static int compile_route(struct compiled *c, const struct site_route *from, struct http_stats *stats, struct route *to)
{
    *to = (struct route){
        .name = from->name.len ? from->name : from->match,
        .match_host = from->match_host,
        .match_path = from->match_path,
        .hosts = from->hosts.items,
        .host_count = from->hosts.count,
        .to = from->ai.present ? (struct hop){ 0 } : hop_to(c, from->upstream_index),
        .fallback = from->fallback.len ? hop_to(c, from->fallback_index) : (struct hop){ 0 },
        .body_limit = from->body_limit == OPTION_UNSET ? c->site.limits.body : from->body_limit,
        .forwarding = from->forwarded == FORWARDED_NONE       ? FORWARDING_NONE
                      : from->forwarded == FORWARDED_STANDARD ? FORWARDING_STANDARD
                      : from->forwarded == FORWARDED_X        ? FORWARDING_X
                                                              : FORWARDING_BOTH,
        .via = from->via,
        .cache_status = from->cache_status,
        .server_timing = from->server_timing,
        .request_id = from->request_id,
    };
    to->stats = http_stats_route(stats, to->name);
    compile_cache(&c->site, from, &to->cache);
    return from->ai.present ? compile_service(c, from, to) : 0;
}

static int compile_routes(struct compiled *c, struct http_stats *stats)
{
    struct http_config *config = &c->config;

    config->routes = heap_array(c->site.routes.count + 1, sizeof(*config->routes));
    if (!config->routes)
        return -ENOMEM;
    for (; config->route_count < c->site.routes.count; config->route_count++) {
        size_t i = config->route_count;
        int r = compile_route(c, &c->site.routes.items[i], stats, &config->routes[i]);

        if (r < 0)
            return r;
    }
    routes_sort(config->routes, config->route_count);
    return 0;
}

static void compile_limits(const struct site_limit *from, struct http_limits *to)
{
    *to = (struct http_limits){
        .head = { .head_max = (size_t)from->head, .target_max = (size_t)from->target },
        .fields = (size_t)from->fields,
        .connections = from->connections,
        .connections_per_client = from->connections_per_client,
        .requests_per_connection = from->requests_per_connection,
        .pipelined = MAX(from->pipelined, (uint64_t)1),
        .waiters_per_fill = from->waiters_per_fill ? from->waiters_per_fill : UINT32_MAX,
        .header_timeout_ms = from->header_timeout,
        .body_timeout_ms = from->body_timeout,
        .idle_timeout_ms = from->idle_timeout,
        .write_timeout_ms = from->write_timeout,
        .total_timeout_ms = from->total_timeout,
    };
}

static int compile_texts(struct compiled *c)
{
    struct http_config *config = &c->config;
    size_t cap = 2 * c->site.node.name.len + c->site.node.region.len + 128;
    struct text t;

    c->texts = heap_alloc(cap);
    if (!c->texts)
        return -ENOMEM;
    t = text_make(c->texts, cap);
    text_lit(&t, "Via: 1.1 ");
    text_put(&t, c->site.node.name);
    text_lit(&t, "\r\n");
    config->via_line = text_view(&t);
    text_lit(&t, "Cache-Status: \"");
    text_put(&t, c->site.node.name);
    text_lit(&t, "\"; ");
    config->cache_status_name = view_make(t.ptr + config->via_line.len, t.len - config->via_line.len);
    if (c->site.node.region.len) {
        size_t from = t.len;

        text_lit(&t, "Doorstep-Region: ");
        text_put(&t, c->site.node.region);
        text_lit(&t, "\r\n");
        config->region_line = view_make(t.ptr + from, t.len - from);
    }
    config->child_token = c->site.children.token;
    config->node_name = c->site.node.name;
    config->request_id_name = c->site.headers.request_id.len ? c->site.headers.request_id : VIEW("X-Request-Id");
    config->request_id_field = field_lookup(config->request_id_name);
    return 0;
}

/* ---- the end ---- */

void compiled_close_loop(struct http_config *config, struct loop *loop)
{
    struct compiled *c = compiled_of(config);

    for (unsigned i = 0; i < c->upstream_count; i++)
        upstream_loop_close(c->upstreams[i], loop);
}

void compiled_free(struct http_config *config)
{
    struct compiled *c = compiled_of(config);

    for (unsigned i = 0; i < c->upstream_count; i++)
        upstream_free(c->upstreams[i]);
    heap_free(c->upstreams);
    heap_free(c->config.routes);
    heap_free(c->texts);
    site_free(&c->site);
    heap_free(c);
}

static void say_farewell(struct loop *loop, struct message *message)
{
    struct compiled *c = CONTAINER_OF(message, struct compiled, farewell);

    compiled_close_loop(&c->config, loop);
    if (++c->visited < c->loop_count)
        loop_post(c->loops[c->visited], &c->farewell);
    else
        compiled_free(&c->config);
}

static void destroy(struct http_config *config)
{
    struct compiled *c = compiled_of(config);

    c->farewell.handle = say_farewell;
    loop_post(c->loops[0], &c->farewell);
}

int compile_site(struct site *site, struct http_stats *stats, const struct service *ai, struct loop *const *loops,
                 unsigned loop_count, struct http_config **ret, struct text *reason)
{
    struct compiled *c = heap_zalloc(sizeof(*c));
    int r;

    if (!c) {
        site_free(site);
        return -ENOMEM;
    }
    http_config_init(&c->config);
    c->site = *site;
    c->loops = loops;
    c->loop_count = loop_count;
    c->config.destroy = destroy;
    c->config.trusted = c->site.trusted_proxies;
    c->config.purgers = c->site.purge.allow;
    c->config.purge_method = c->site.purge.method;
    compile_limits(&c->site.limits, &c->config.limits);
    c->ai_service = ai;
    r = make_upstreams(c, reason);
    if (r == 0)
        r = compile_ai(&c->site, c->upstreams + c->site.upstreams.count, &c->config.keep, &c->ai, reason);
    if (r == 0)
        r = compile_routes(c, stats);
    if (r == 0)
        r = compile_texts(c);
    if (r < 0) {
        compiled_free(&c->config);
        return r;
    }
    for (unsigned i = 0; i < c->upstream_count; i++)
        upstream_start(c->upstreams[i], loops[0]);
    *ret = &c->config;
    return 0;
}

const struct ai_config *compiled_ai(const struct http_config *config)
{
    return compiled_of(config)->ai;
}

const struct site *compiled_site(const struct http_config *config)
{
    return &compiled_of(config)->site;
}

unsigned compiled_upstreams(const struct http_config *config, struct upstream *const **ret)
{
    *ret = compiled_of(config)->upstreams;
    return compiled_of(config)->upstream_count;
}

void compiled_inherit(struct http_config *config, const struct http_config *old)
{
    struct compiled *c = compiled_of(config), *from = compiled_of(old);

    for (unsigned i = 0; i < c->upstream_count; i++)
        for (unsigned k = 0; k < from->upstream_count; k++)
            if ((i < c->site.upstreams.count) == (k < from->site.upstreams.count) &&
                strcmp(upstream_name(c->upstreams[i]), upstream_name(from->upstreams[k])) == 0)
                upstream_inherit(c->upstreams[i], from->upstreams[k]);
}
