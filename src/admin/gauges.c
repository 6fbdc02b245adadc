/* Metrics that others keep: the memory tier, upstreams, the process. They are read when the page is made. */
#include "admin/answer.h"
#include "base/clock.h"
#include "base/heap.h"
#include "upstream/upstream.h"

#include <stdio.h>

unsigned admin_upstreams(const struct http_config *config, struct upstream **ret, unsigned max)
{
    unsigned count = 0;

    for (size_t i = 0; i < config->route_count; i++) {
        bool known = !config->routes[i].upstream;

        for (unsigned k = 0; k < count && !known; k++)
            known = ret[k] == config->routes[i].upstream;
        if (!known && count < max)
            ret[count++] = config->routes[i].upstream;
    }
    return count;
}

static double uptime(void *arg)
{
    const struct admin *admin = arg;

    return (double)(clock_mono_ms() - admin->started_ms) / 1000;
}

static double resident(void *arg)
{
    (void)arg;
    return (double)heap_resident();
}

static double log_dropped(void *arg)
{
    const struct admin *admin = arg;

    return (double)access_log_dropped(admin->server->access_log);
}

static double fills(void *arg)
{
    const struct admin *admin = arg;

    return (double)fill_table_count(admin->server->fill.table);
}

static double refused(void *arg)
{
    const struct admin *admin = arg;

    return metrics_refused(admin->metrics);
}

static void family(struct text *out, const char *name, const char *type, const char *help)
{
    text_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void single(struct text *out, const char *name, const char *type, const char *help, uint64_t value)
{
    family(out, name, type, help);
    text_printf(out, "%s %llu\n", name, (unsigned long long)value);
}

static void write_memory(struct text *out, void *arg)
{
    const struct admin *admin = arg;
    struct memory_stats stats;

    memory_stats(admin->server->memory, &stats);
    single(out, "doorstep_memory_limit_bytes", "gauge", "Configured size of the memory tier.", stats.limit);
    single(out, "doorstep_memory_effective_limit_bytes", "gauge", "The limit less what the allocator wastes.",
           stats.effective_limit);
    single(out, "doorstep_memory_bytes", "gauge", "Bytes charged to the memory tier, index and overhead included.",
           stats.bytes);
    single(out, "doorstep_memory_waiting_bytes", "gauge", "Of these, waiting to be freed.", stats.waiting);
    single(out, "doorstep_memory_objects", "gauge", "Stored responses.", stats.objects);
    single(out, "doorstep_memory_entries", "gauge", "Keys, each with one or more variants.", stats.entries);
    single(out, "doorstep_memory_inserts_total", "counter", "Responses stored.", stats.inserts);
    single(out, "doorstep_memory_replaced_total", "counter", "Of these, in the place of an older one.", stats.replaced);
    single(out, "doorstep_memory_evictions_total", "counter", "Responses pushed out by others.", stats.evictions);
    single(out, "doorstep_memory_evicted_bytes_total", "counter", "Their bytes.", stats.evicted_bytes);
    single(out, "doorstep_memory_dropped_total", "counter", "Responses purged or invalidated.", stats.dropped);
    single(out, "doorstep_memory_ghost_hits_total", "counter", "Responses stored again soon after their eviction.",
           stats.ghost_hits);
    family(out, "doorstep_memory_refused_total", "counter", "Responses the tier did not take, by reason.");
    for (unsigned i = MEMORY_STORED + 1; i < MEMORY_REFUSALS; i++)
        text_printf(out, "doorstep_memory_refused_total{why=\"%s\"} %llu\n",
                    memory_refusal_name((enum memory_refusal)i), (unsigned long long)stats.refused[i]);
}

/* The numbers of an upstream that are one value each. */
static const struct {
    const char *name, *type, *help;
    size_t offset;
} upstream_series[] = {
#define AT(member) offsetof(struct upstream_stats, member)
    { "doorstep_upstream_exchanges_total", "counter", "Requests started towards the upstream.", AT(exchanges) },
    { "doorstep_upstream_connects_total", "counter", "Connections established.", AT(connects) },
    { "doorstep_upstream_reuses_total", "counter", "Requests that found an idle connection.", AT(reuses) },
    { "doorstep_upstream_retries_total", "counter", "Requests sent again on a fresh connection.", AT(retries) },
    { "doorstep_upstream_connect_failures_total", "counter", "Connection attempts that failed.", AT(connect_failures) },
    { "doorstep_upstream_active_connections", "gauge", "Connections in use now.", AT(active) },
    { "doorstep_upstream_idle_connections", "gauge", "Idle connections now.", AT(idle) },
    { "doorstep_upstream_waiting", "gauge", "Requests queued for a connection now.", AT(waiting) },
    { "doorstep_upstream_received_bytes_total", "counter", "Body bytes received.", AT(bytes_in) },
    { "doorstep_upstream_sent_bytes_total", "counter", "Body bytes sent.", AT(bytes_out) },
#undef AT
};

static void write_failures(struct text *out, const struct upstream_stats *stats, const char *labels)
{
    for (unsigned k = EXCHANGE_OK + 1; k < EXCHANGE_ERROR_COUNT; k++)
        if (stats->failures[k])
            text_printf(out, "doorstep_upstream_failures_total{%s,error=\"%.*s\"} %llu\n", labels,
                        VIEW_ARG(exchange_error_token((enum exchange_error)k)), (unsigned long long)stats->failures[k]);
}

static void write_upstreams(struct text *out, void *arg)
{
    const struct admin *admin = arg;
    const struct http_config *config = server_config(admin->server);
    struct upstream *list[ADMIN_UPSTREAMS_MAX];
    struct upstream_stats stats[ADMIN_UPSTREAMS_MAX];
    char memory[ADMIN_UPSTREAMS_MAX][128];
    unsigned count = config ? admin_upstreams(config, list, ADMIN_UPSTREAMS_MAX) : 0;

    for (unsigned i = 0; i < count; i++) {
        struct text labels = TEXT_ON(memory[i]);

        upstream_stats(list[i], &stats[i]);
        metrics_label(&labels, "upstream", view_first(view_str(upstream_name(list[i])), 48));
        text_str(&labels);
    }
    for (size_t k = 0; count && k < ARRAY_LEN(upstream_series); k++) {
        family(out, upstream_series[k].name, upstream_series[k].type, upstream_series[k].help);
        for (unsigned i = 0; i < count; i++) {
            uint64_t value;

            memcpy(&value, (const char *)&stats[i] + upstream_series[k].offset, sizeof(value));
            text_printf(out, "%s{%s} %llu\n", upstream_series[k].name, memory[i], (unsigned long long)value);
        }
    }
    if (count)
        family(out, "doorstep_upstream_failures_total", "counter", "Exchanges that failed, by RFC 9209 error type.");
    for (unsigned i = 0; i < count; i++)
        write_failures(out, &stats[i], memory[i]);
}

void admin_register_gauges(struct admin *admin)
{
    struct metrics *m = admin->metrics;

    metrics_callback(m, METRICS_GAUGE, "doorstep_uptime_seconds", "Since the node started.", NULL, uptime, admin);
    metrics_callback(m, METRICS_GAUGE, "doorstep_resident_bytes",
                     "Memory the allocator holds from the system; 0 where it cannot tell.", NULL, resident, NULL);
    metrics_callback(m, METRICS_GAUGE, "doorstep_fills", "Fetches in flight that others may join.", NULL, fills, admin);
    metrics_callback(m, METRICS_COUNTER, "doorstep_access_log_dropped_total", "Log lines that could not be written.",
                     NULL, log_dropped, admin);
    metrics_callback(m, METRICS_COUNTER, "doorstep_metrics_refused_total",
                     "Series that were not made because their number is bounded.", NULL, refused, admin);
    metrics_collector(m, write_memory, admin);
    metrics_collector(m, write_upstreams, admin);
}
