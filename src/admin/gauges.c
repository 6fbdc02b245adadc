/* Metrics that others keep: the memory tier, the process. They are read when the page is made. */
#include "admin/answer.h"
#include "base/clock.h"
#include "base/heap.h"

#include <stdio.h>

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

static void write_memory(struct text *out, void *arg)
{
    const struct admin *admin = arg;
    struct memory_stats stats;

    memory_stats(admin->server->memory, &stats);
    admin_single(out, "doorstep_memory_limit_bytes", "gauge", "Configured size of the memory tier.", stats.limit);
    admin_single(out, "doorstep_memory_effective_limit_bytes", "gauge", "The limit less what the allocator wastes.",
                 stats.effective_limit);
    admin_single(out, "doorstep_memory_bytes", "gauge",
                 "Bytes charged to the memory tier, index and overhead included.", stats.bytes);
    admin_single(out, "doorstep_memory_waiting_bytes", "gauge", "Of these, waiting to be freed.", stats.waiting);
    admin_single(out, "doorstep_memory_objects", "gauge", "Stored responses.", stats.objects);
    admin_single(out, "doorstep_memory_entries", "gauge", "Keys, each with one or more variants.", stats.entries);
    admin_single(out, "doorstep_memory_inserts_total", "counter", "Responses stored.", stats.inserts);
    admin_single(out, "doorstep_memory_replaced_total", "counter", "Of these, in the place of an older one.",
                 stats.replaced);
    admin_single(out, "doorstep_memory_evictions_total", "counter", "Responses pushed out by others.", stats.evictions);
    admin_single(out, "doorstep_memory_evicted_bytes_total", "counter", "Their bytes.", stats.evicted_bytes);
    admin_single(out, "doorstep_memory_dropped_total", "counter", "Responses purged or invalidated.", stats.dropped);
    admin_single(out, "doorstep_memory_ghost_hits_total", "counter",
                 "Responses stored again soon after their eviction.", stats.ghost_hits);
    admin_family(out, "doorstep_memory_refused_total", "counter", "Responses the tier did not take, by reason.");
    for (unsigned i = MEMORY_STORED + 1; i < MEMORY_REFUSALS; i++)
        text_printf(out, "doorstep_memory_refused_total{why=\"%s\"} %llu\n",
                    memory_refusal_name((enum memory_refusal)i), (unsigned long long)stats.refused[i]);
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
    metrics_collector(m, admin_upstream_metrics, admin);
}
