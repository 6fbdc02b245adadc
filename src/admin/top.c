/* /top: everything the terminal view and a dashboard need, as totals since start; rates are the reader's subtraction. Zero
 * reasons are left out. */
#include "admin/answer.h"
#include "base/clock.h"
#include "upstream/upstream.h"

#define TOP_URLS 20u

struct top {
    struct admin *admin;
    struct loop *loop;
    struct http_stats_totals totals;
    struct memory_stats memory;
    struct topk_item misses[TOP_URLS], bytes[TOP_URLS];
    unsigned miss_count, byte_count;
};

static void put_outcomes(struct text *out, const char *name, const uint64_t values[OUTCOME_COUNT])
{
    member_name(out, name);
    text_char(out, '{');
    for (unsigned i = 0; i < OUTCOME_COUNT; i++)
        member_u64(out, http_outcome_name((enum http_outcome)i).ptr, values[i]);
    text_char(out, '}');
}

static void put_reasons(struct text *out, const char *name, const uint64_t values[WHY_COUNT])
{
    member_name(out, name);
    text_char(out, '{');
    for (unsigned i = 0; i < WHY_COUNT; i++) {
        if (values[i] == 0)
            continue;
        member_comma(out);
        text_json(out, why_name((enum why)i));
        text_char(out, ':');
        text_u64(out, values[i]);
    }
    text_char(out, '}');
}

static void put_latency(struct text *out, const struct http_stats_totals *totals)
{
    member_name(out, "latency_us");
    text_char(out, '{');
    member_u64(out, "hit_p50", totals->hit_us_p50);
    member_u64(out, "hit_p99", totals->hit_us_p99);
    member_u64(out, "miss_p50", totals->miss_us_p50);
    member_u64(out, "miss_p99", totals->miss_us_p99);
    text_char(out, '}');
}

static void put_memory(struct text *out, const struct memory_stats *stats)
{
    member_name(out, "memory");
    text_char(out, '{');
    member_u64(out, "limit", stats->limit);
    member_u64(out, "bytes", stats->bytes);
    member_u64(out, "objects", stats->objects);
    member_u64(out, "entries", stats->entries);
    member_u64(out, "inserts", stats->inserts);
    member_u64(out, "evictions", stats->evictions);
    member_u64(out, "dropped", stats->dropped);
    text_char(out, '}');
}

static void put_urls(struct text *out, const char *name, const struct topk_item *items, unsigned count)
{
    member_name(out, name);
    text_char(out, '[');
    for (unsigned i = 0; i < count; i++) {
        member_comma(out);
        text_char(out, '{');
        member_text(out, "url", view_str(items[i].name));
        member_u64(out, "weight", items[i].weight);
        text_char(out, '}');
    }
    text_char(out, ']');
}

static void put_upstream(struct text *out, struct upstream *upstream)
{
    struct upstream_stats stats;
    uint64_t failures = 0;

    upstream_stats(upstream, &stats);
    for (unsigned i = EXCHANGE_OK + 1; i < EXCHANGE_ERROR_COUNT; i++)
        failures += stats.failures[i];
    member_comma(out);
    text_char(out, '{');
    member_text(out, "name", view_str(upstream_name(upstream)));
    member_name(out, "servers");
    text_char(out, '[');
    for (unsigned i = 0; i < upstream_server_count(upstream); i++) {
        member_comma(out);
        text_json(out, upstream_server_name(upstream, i));
    }
    text_char(out, ']');
    member_u64(out, "exchanges", stats.exchanges);
    member_u64(out, "failures", failures);
    member_u64(out, "connect_failures", stats.connect_failures);
    member_u64(out, "connects", stats.connects);
    member_u64(out, "reuses", stats.reuses);
    member_u64(out, "retries", stats.retries);
    member_u64(out, "active", stats.active);
    member_u64(out, "idle", stats.idle);
    member_u64(out, "waiting", stats.waiting);
    admin_put_breakers(out, upstream);
    text_char(out, '}');
}

static void write_top(struct text *out, void *arg)
{
    const struct top *top = arg;
    const struct server *server = top->admin->server;
    const struct http_config *config = server_config(server);
    struct upstream *upstreams[ADMIN_UPSTREAMS_MAX];
    unsigned count = config ? admin_upstreams(config, upstreams, ADMIN_UPSTREAMS_MAX) : 0;

    text_char(out, '{');
    member_text(out, "node", config ? config->node_name : VIEW_NONE);
    member_u64(out, "mono_ms", clock_mono_ms());
    member_ms(out, "uptime_s", (int64_t)(clock_mono_ms() - top->admin->started_ms));
    member_bool(out, "draining", atomic_load_explicit(&server->draining, memory_order_relaxed));
    put_outcomes(out, "requests", top->totals.requests);
    put_outcomes(out, "bytes_out", top->totals.bytes_out);
    put_reasons(out, "why", top->totals.why);
    put_reasons(out, "not_stored", top->totals.not_stored);
    member_u64(out, "bytes_in", top->totals.bytes_in);
    member_u64(out, "connections", top->totals.connections);
    member_u64(out, "accepted", top->totals.accepted);
    member_u64(out, "fills", fill_table_count(server->fill.table));
    put_latency(out, &top->totals);
    put_memory(out, &top->memory);
    admin_put_tiers(out, server);
    admin_put_ai(out, top->admin);
    put_urls(out, "top_misses", top->misses, top->miss_count);
    put_urls(out, "top_bytes", top->bytes, top->byte_count);
    member_name(out, "upstreams");
    text_char(out, '[');
    for (unsigned i = 0; i < count; i++)
        put_upstream(out, upstreams[i]);
    text_lit(out, "]}\n");
}

void admin_top(struct admin *admin, struct loop *loop, struct admin_answer *ret)
{
    struct top top = { .admin = admin, .loop = loop };

    http_stats_totals(admin->server->stats, &top.totals);
    memory_stats(admin->server->memory, &top.memory);
    top.miss_count = http_stats_top_misses(admin->server->stats, top.misses, TOP_URLS);
    top.byte_count = http_stats_top_bytes(admin->server->stats, top.bytes, TOP_URLS);
    answer_write(ret, 200, "application/json", write_top, &top);
}
