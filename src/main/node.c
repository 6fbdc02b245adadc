/* Wiring. One thread per loop; this (the main) thread only waits for signals. Start-up goes from the bottom of the design's
 * order to its top, the end the other way round. */
#include "main/node.h"

#include "admin/admin.h"
#include "base/check.h"
#include "base/heap.h"
#include "base/log.h"
#include "conf/conf.h"
#include "main/compile.h"
#include "main/gateway.h"
#include "main/tiers.h"
#include "main/tracing.h"
#include "main/watch.h"
#include "net/dns.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#define LOOPS_MAX 64
#define METRIC_CELLS 16384

struct runtime {
    struct server server;
    struct tiers tiers;
    struct gateway gateway;
    struct tracer *tracer;
    struct message tiers_order;
    struct watch watch;
    struct metrics *metrics;
    struct admin *admin;
    struct loop *loops[LOOPS_MAX];
    struct http_loop *http[LOOPS_MAX];
    pthread_t threads[LOOPS_MAX];
    struct message orders[LOOPS_MAX];
    unsigned loop_count, running;
    const char *file;
    atomic_uint obeyed; /* loops that have carried out the last order */
};

/* ---- start ---- */

static unsigned pick_threads(const struct site *site)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);

    if (site->threads)
        return (unsigned)MIN(site->threads, (uint64_t)LOOPS_MAX);
    return (unsigned)MIN(MAX(cpus, 1L), (long)LOOPS_MAX);
}

/* As many descriptors as the system lets us have: each connection is one. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static int make_loops(struct runtime *node)
{
    int r = metrics_new(&node->metrics, node->loop_count, METRIC_CELLS);

    if (r == 0)
        r = http_stats_new(&node->server.stats, node->metrics, node->loop_count);
    for (unsigned i = 0; r == 0 && i < node->loop_count; i++) {
        r = loop_new(&node->loops[i], i);
        if (r == 0)
            r = http_loop_new(&node->server, node->loops[i], &node->http[i]);
    }
    return r;
}

static void memory_evicted(void *arg, struct object *object)
{
    const struct server *server = arg;

    if (server->ladder)
        ladder_evicted(server->ladder, object);
}

static int make_tiers(struct runtime *node, const struct site *site)
{
    struct memory_options options = {
        .limit = site->memory.size,
        .max_variants = (unsigned)site->limits.variants_per_key,
        .evicted = memory_evicted,
        .evicted_arg = &node->server,
    };
    int r = memory_new(&options, &node->server.memory);

    if (r == 0)
        r = fill_table_new(&node->server.fill.table);
    node->server.fill.memory = node->server.memory;
    node->server.fill.window = 256 * 1024;
    if (r == 0)
        r = tiers_open(&node->tiers, &node->server, site, node->loops, node->loop_count);
    if (r == 0)
        r = tracing_open(site, node->loop_count, &node->tracer);
    node->gateway.tracer = node->tracer;
    if (r == 0)
        r = gateway_open(&node->gateway, &node->server, node->tiers.workers, site, node->loop_count);
    return r;
}

static int open_access_log(struct runtime *node, const struct site *site)
{
    struct view path = site->access_log.path;
    struct access_log_options options = {
        .target = view_eq(path, VIEW("stdout"))   ? ACCESS_STDOUT
                  : view_eq(path, VIEW("syslog")) ? ACCESS_SYSLOG
                                                  : ACCESS_FILE,
        .format = site->access_log.format == LOG_FORMAT_JSON ? ACCESS_JSON : ACCESS_COMBINED,
        .query_values = site->access_log.query,
        .addresses = site->access_log.addresses == LOG_ADDRESSES_FULL   ? ACCESS_ADDRESSES_FULL
                     : site->access_log.addresses == LOG_ADDRESSES_NONE ? ACCESS_ADDRESSES_NONE
                                                                        : ACCESS_ADDRESSES_TRUNCATED,
    };
    int r;

    if (view_eq(path, VIEW("off")) || path.len == 0)
        return 0;
    options.path = options.target == ACCESS_FILE ? path.ptr : NULL;
    r = access_log_open(&node->server.access_log, &options, node->loop_count);
    if (r < 0) {
        log_error("access log %.*s: %s", VIEW_ARG(path), strerror(-r));
        return r;
    }
    for (unsigned i = 0; i < node->loop_count; i++)
        access_log_attach(node->server.access_log, node->loops[i]);
    return 0;
}

static int make_admin(struct runtime *node, const struct site *site)
{
    struct admin_options options = {
        .server = &node->server,
        .metrics = node->metrics,
        .token = site->admin.token,
        .ai_keys = node->gateway.keys,
        .ledger = node->gateway.ledger,
        .budgets = node->gateway.budgets,
        .telemetry = node->gateway.telemetry,
        .ai_config = compiled_ai,
        .semantic = node->gateway.semantic,
        .tracer = node->tracer,
    };
    int r = admin_new(&node->admin, &options);

    if (r < 0)
        log_error("cannot start: %s", strerror(-r));
    node->server.admin = admin_handle;
    node->server.admin_arg = node->admin;
    return r;
}

/* From the parsed parts: port 0 (the system chooses) is fine for listeners, which address_parse() refuses. */
static int option_to_address(const struct option_address *from, struct address *ret)
{
    struct view host = from->host.len ? from->host : VIEW("::");

    if (from->path.len)
        return address_parse(from->text, 0, ret);
    return address_parse_ip(view_eq(host, VIEW("localhost")) ? VIEW("127.0.0.1") : host, from->port, ret);
}

static void close_from(const int fds[], unsigned from, unsigned count)
{
    for (unsigned i = from; i < count; i++)
        close(fds[i]);
}

static int listen_on(struct runtime *node, const struct option_address *at, enum listener_kind kind)
{
    char memory[160];
    struct text bound_text = TEXT_ON(memory);
    struct address address, bound;
    int fds[LOOPS_MAX], r = option_to_address(at, &address);
    unsigned count = kind == LISTENER_ADMIN ? 1 : node->loop_count;
    bool local;

    if (r == 0)
        r = listen_open(&address, count, fds, &bound);
    if (r < 0) {
        log_error("cannot listen on %.*s: %s%s", VIEW_ARG(at->text), strerror(-r),
                  r == -EADDRINUSE ? "; another program (or another node) has it: choose another port or stop that one"
                                   : "");
        return r;
    }
    local = bound.is.any.sa_family == AF_UNIX;
    if (local)
        count = 1;
    for (unsigned i = 0; r == 0 && i < count; i++) {
        r = http_loop_listen(node->http[i], fds[i], kind, local);
        if (r < 0)
            close_from(fds, i, count);
    }
    if (r < 0) {
        log_error("cannot listen on %.*s: %s", VIEW_ARG(at->text), strerror(-r));
        return r;
    }
    address_print(&bound_text, &bound);
    log_info("%s on %s", kind == LISTENER_ADMIN ? "admin" : "listening", text_str(&bound_text));
    return 0;
}

static int open_listeners(struct runtime *node, const struct site *site)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < site->listen.count; i++)
        r = listen_on(node, &site->listen.items[i], LISTENER_PUBLIC);
    if (r == 0 && site->admin.enabled)
        r = listen_on(node, &site->admin.listen, LISTENER_ADMIN);
    return r;
}

static void *loop_thread(void *arg)
{
    char memory[16];
    struct text name = TEXT_ON(memory);

    text_printf(&name, "loop-%u", loop_index(arg));
    (void)pthread_setname_np(pthread_self(), text_str(&name));
    loop_run(arg);
    return NULL;
}

static int start_threads(struct runtime *node)
{
    for (; node->running < node->loop_count; node->running++) {
        int r = pthread_create(&node->threads[node->running], NULL, loop_thread, node->loops[node->running]);

        if (r != 0) {
            log_error("cannot start a thread: %s", strerror(r));
            return -r;
        }
    }
    return 0;
}

/* ---- orders to the loops ---- */

/* The one node of this process: orders are messages without room for an argument. */
static struct runtime *the_node;

static void order_done(struct loop *loop)
{
    (void)loop;
    atomic_fetch_add(&the_node->obeyed, 1);
}

static void order_drain(struct loop *loop, struct message *message)
{
    (void)message;
    http_loop_drain(*loop_slot(loop, LOOP_SLOT_HTTP));
    order_done(loop);
}

static void order_close(struct loop *loop, struct message *message)
{
    (void)message;
    http_loop_free(*loop_slot(loop, LOOP_SLOT_HTTP));
    order_done(loop);
}

static void order_end_fills(struct loop *loop, struct message *message)
{
    (void)message;
    fill_table_close_loop(the_node->server.fill.table, loop);
    order_done(loop);
}

static void order_start_tiers(struct loop *loop, struct message *message)
{
    (void)message;
    tiers_start(&the_node->tiers);
    tracer_start(the_node->tracer, loop);
    watch_start(&the_node->watch, &the_node->server, loop);
}

static void order_stop_tiers(struct loop *loop, struct message *message)
{
    (void)message;
    if (loop == the_node->loops[0]) {
        watch_stop(&the_node->watch);
        tracer_stop(the_node->tracer, loop);
        if (the_node->gateway.budgets)
            budget_give_back(the_node->gateway.budgets, loop);
        tiers_stop(&the_node->tiers);
    }
    order_done(loop);
}

static void order_close_tiers(struct loop *loop, struct message *message)
{
    (void)message;
    gateway_close_loop(&the_node->gateway, loop);
    tiers_close_loop(&the_node->tiers, loop);
    order_done(loop);
}

static void order_nothing(struct loop *loop, struct message *message)
{
    (void)message;
    order_done(loop);
}

static void order_stop(struct loop *loop, struct message *message)
{
    (void)message;
    compiled_close_loop(server_config(&the_node->server), loop);
    dns_loop_close(loop);
    loop_stop(loop);
}

static void order_all(struct runtime *node, void (*handle)(struct loop *, struct message *))
{
    for (unsigned i = 0; i < node->running; i++) {
        node->orders[i].handle = handle;
        loop_post(node->loops[i], &node->orders[i]);
    }
}

/* Waits until every loop has obeyed: what a loop was sent before is handled then, too. */
static void order_all_and_wait(struct runtime *node, void (*handle)(struct loop *, struct message *))
{
    struct timespec pause = { .tv_nsec = 200000 };

    atomic_store(&node->obeyed, 0);
    order_all(node, handle);
    while (atomic_load(&node->obeyed) < node->running)
        nanosleep(&pause, NULL);
}

/* ---- signals ---- */

/* What is made once at start: said, so that nobody believes a reload changed it. */
static bool differ(double a, double b)
{
    return a < b || a > b;
}

static bool semantic_differs(const struct site_ai_semantic *a, const struct site_ai_semantic *b)
{
    return !view_eq(a->model, b->model) || a->kind != b->kind || !view_eq(a->library, b->library) ||
           !view_eq(a->provider, b->provider) || a->entries != b->entries || a->dimensions != b->dimensions ||
           a->timeout != b->timeout || differ(a->threshold, b->threshold) || differ(a->false_hits, b->false_hits);
}

static void warn_unchangeable(const struct site *old, const struct site *new)
{
    bool listen = old->listen.count != new->listen.count;

    for (size_t i = 0; !listen && i < old->listen.count; i++)
        listen = !view_eq(old->listen.items[i].text, new->listen.items[i].text);
    if (listen)
        log_warn("listen has changed: restart the node for that");
    if (old->memory.size != new->memory.size || old->threads != new->threads)
        log_warn("memory.size or threads has changed: restart the node for that");
    if (!view_eq(old->disk.path, new->disk.path) || old->disk.size != new->disk.size ||
        !view_eq(old->shared.url, new->shared.url) || !view_eq(old->state.path, new->state.path) ||
        !view_eq(old->purge.postgres, new->purge.postgres))
        log_warn("disk, shared, state or purge.postgres has changed: restart the node for that");
    if (old->admin.enabled != new->admin.enabled || !view_eq(old->admin.listen.text, new->admin.listen.text) ||
        !view_eq(old->admin.token, new->admin.token))
        log_warn("admin has changed: restart the node for that");
    if (semantic_differs(&old->ai.semantic, &new->ai.semantic) || old->ai.ledger_days != new->ai.ledger_days ||
        differ(old->ai.budget_share, new->ai.budget_share))
        log_warn("ai.semantic, ai.ledger_days or ai.budget_share has changed: restart the node for that");
    if (!view_eq(old->tracing.otlp.text, new->tracing.otlp.text) || old->tracing.sample != new->tracing.sample)
        log_warn("tracing has changed: restart the node for that");
    if (!view_eq(old->access_log.path, new->access_log.path) || old->access_log.format != new->access_log.format)
        log_warn("access_log has changed: restart the node for that");
}

static void reload(struct runtime *node)
{
    struct http_config *config;
    struct conf_report report;
    struct site site;
    char memory[256];
    struct text reason = TEXT_ON(memory);
    int r;

    if (!node->file) {
        log_warn("nothing to reload: started without a configuration file");
        return;
    }
    conf_report_init(&report);
    r = site_load(node->file, &site, &report);
    if (r < 0) {
        conf_report_print(&report, stderr);
        if (r == -ENOMEM)
            log_error("%s was not loaded, out of memory: the node goes on with the old configuration", node->file);
        else
            log_error("%s was not loaded (%u mistakes): the node goes on with the old configuration", node->file,
                      report.count);
    } else {
        r = compile_site(&site, node->server.stats, ai_gateway_service(node->gateway.ai), node->loops, node->loop_count,
                         &config, &reason);
        if (r == 0 && !gateway_reload(&node->gateway, compiled_site(config), &reason)) {
            http_config_unref(config);
            r = -EINVAL;
        }
        if (r < 0) {
            log_error("%s was not loaded: %s; the node goes on with the old configuration", node->file,
                      text_str(&reason));
        } else {
            warn_unchangeable(compiled_site(node->server.config), compiled_site(config));
            compiled_inherit(config, node->server.config);
            telemetry_learn(node->gateway.telemetry, compiled_ai(config));
            server_set_config(&node->server, config);
            log_info("reloaded %s", node->file);
        }
    }
    conf_report_free(&report);
}

static void drain(struct runtime *node, uint64_t timeout_ms)
{
    struct http_stats_totals totals;
    struct timespec pause = { .tv_nsec = 20000000 };

    log_info("stopping: waiting up to %llu s for requests under way", (unsigned long long)(timeout_ms / 1000));
    atomic_store(&node->server.draining, true);
    order_all_and_wait(node, order_drain);
    for (uint64_t waited = 0; waited < timeout_ms; waited += 20) {
        nanosleep(&pause, NULL);
        http_stats_totals(node->server.stats, &totals);
        if (totals.connections == 0)
            return;
    }
    log_warn("shutdown_timeout is over: %llu connections are cut", (unsigned long long)totals.connections);
}

static void obey_signals(struct runtime *node, const sigset_t *signals)
{
    for (;;) {
        int signal_number = 0;

        if (sigwait(signals, &signal_number) != 0)
            continue;
        if (signal_number == SIGHUP) {
            reload(node);
        } else if (signal_number == SIGUSR1) {
            int r = access_log_reopen(node->server.access_log);

            if (r < 0)
                log_error("access log could not be reopened: %s", strerror(-r));
        } else {
            drain(node, compiled_site(node->server.config)->shutdown_timeout);
            return;
        }
    }
}

/* ---- all of it ---- */

static void node_free(struct runtime *node)
{
    order_all_and_wait(node, order_close);
    order_all_and_wait(node, order_end_fills);
    if (node->tiers.server) {
        if (node->tracer)
            tracing_flush(node->tracer);
        order_all_and_wait(node, order_stop_tiers);
        order_all_and_wait(node, order_close_tiers);
        gateway_close(&node->gateway);
        tiers_close_state(&node->tiers);
    }
    /* A retired configuration visits the loops one after the other: let it arrive. */
    for (unsigned i = 0; i <= node->running; i++)
        order_all_and_wait(node, order_nothing);
    order_all(node, order_stop);
    for (unsigned i = 0; i < node->running; i++)
        pthread_join(node->threads[i], NULL);
    access_log_close(node->server.access_log);
    if (node->server.config)
        compiled_free(node->server.config);
    tiers_free(&node->tiers);
    for (unsigned i = 0; i < node->loop_count; i++) {
        if (i >= node->running)
            http_loop_free(node->http[i]);
        loop_free(node->loops[i]);
    }
    fill_table_free(node->server.fill.table);
    if (node->server.memory)
        memory_free(node->server.memory);
    admin_free(node->admin);
    gateway_free(&node->gateway);
    tracer_free(node->tracer);
    http_stats_free(node->server.stats);
    metrics_free(node->metrics);
}

static int start(struct runtime *node, struct site *site)
{
    char memory[256];
    struct text reason = TEXT_ON(memory);
    struct http_config *config;
    int r = make_loops(node);

    if (r == 0)
        r = make_tiers(node, site);
    if (r < 0) {
        log_error("cannot start: %s", strerror(-r));
        site_free(site);
        return r;
    }
    r = compile_site(site, node->server.stats, ai_gateway_service(node->gateway.ai), node->loops, node->loop_count,
                     &config, &reason);
    if (r < 0) {
        log_error("cannot start: %s", reason.len ? text_str(&reason) : strerror(-r));
        return r;
    }
    site = NULL;
    node->server.config = config;
    telemetry_learn(node->gateway.telemetry, compiled_ai(config));
    r = open_access_log(node, compiled_site(config));
    if (r == 0)
        r = make_admin(node, compiled_site(config));
    if (r == 0)
        r = open_listeners(node, compiled_site(config));
    if (r == 0)
        r = start_threads(node);
    if (r == 0) {
        node->tiers_order.handle = order_start_tiers;
        loop_post(node->loops[0], &node->tiers_order);
    }
    return r;
}

int node_run(struct site *site, const char *file)
{
    struct runtime *node = aligned_alloc(64, (sizeof(*node) + 63) & ~(size_t)63);
    sigset_t signals;
    int r;

    CHECK(node);
    memset(node, 0, sizeof(*node));
    the_node = node;
    node->file = file;
    node->loop_count = pick_threads(site);
    raise_descriptor_limit();
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    sigaddset(&signals, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    r = start(node, site);
    if (r == 0)
        obey_signals(node, &signals);
    node_free(node);
    heap_free(node);
    return r < 0 ? 1 : 0;
}
