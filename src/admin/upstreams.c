/* Upstreams: their metrics, the page /upstreams, and the switch of their breakers. */
#include "admin/answer.h"
#include "upstream/upstream.h"

#include <errno.h>

#define NAME_MAX_LEN 512u

/* Adds it unless it is there already. */
static unsigned add_once(struct upstream *upstream, struct upstream **ret, unsigned count, unsigned max)
{
    for (unsigned i = 0; i < count; i++)
        if (ret[i] == upstream)
            return count;
    if (!upstream || count == max)
        return count;
    ret[count] = upstream;
    return count + 1;
}

unsigned admin_upstreams(const struct http_config *config, struct upstream **ret, unsigned max)
{
    unsigned count = 0;

    for (size_t i = 0; i < config->route_count; i++) {
        count = add_once(config->routes[i].to.upstream, ret, count, max);
        count = add_once(config->routes[i].fallback.upstream, ret, count, max);
    }
    return count;
}

/* ---- metrics ---- */

void admin_family(struct text *out, const char *name, const char *type, const char *help)
{
    text_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
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
    { "doorstep_upstream_hedges_total", "counter", "Second requests sent because the first took long.", AT(hedges) },
    { "doorstep_upstream_hedges_won_total", "counter", "Of these, answered first.", AT(hedges_won) },
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

static const struct {
    const char *name, *type, *help;
} server_series[] = {
    { "doorstep_upstream_breaker_state", "gauge",
      "Of each server, and of the upstream as a whole (server=\"\"): 0 closed, 1 open, 2 half-open, 3 ramping up." },
    { "doorstep_upstream_breaker_opens_total", "counter", "Times the breaker opened." },
    { "doorstep_upstream_server_in_flight", "gauge", "Requests at the server now." },
    { "doorstep_upstream_server_healthy", "gauge", "0 while active checks fail." },
};

static uint64_t server_value(const struct upstream_server_stats *stats, size_t series)
{
    switch (series) {
    case 0: return stats->breaker.state;
    case 1: return stats->breaker.opens;
    case 2: return stats->in_flight;
    default: return stats->healthy;
    }
}

/* The upstream as a whole has a breaker when there are several servers, and only that. */
static void write_servers(struct text *out, struct upstream *upstream, const char *labels, size_t series)
{
    unsigned count = upstream_server_count(upstream);

    for (unsigned i = 0; i < count + (count > 1 && series < 2 ? 1 : 0); i++) {
        struct upstream_server_stats stats;
        char memory[256];
        struct text server = TEXT_ON(memory);

        if (i < count && upstream_server_name(upstream, i).len == 0)
            continue;
        upstream_server_stats(upstream, i, &stats);
        text_put(&server, view_str(labels));
        metrics_label(&server, "server", view_first(upstream_server_name(upstream, i), 80));
        text_printf(out, "%s{%s} %llu\n", server_series[series].name, text_str(&server),
                    (unsigned long long)server_value(&stats, series));
    }
}

void admin_upstream_metrics(struct text *out, void *arg)
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
        admin_family(out, upstream_series[k].name, upstream_series[k].type, upstream_series[k].help);
        for (unsigned i = 0; i < count; i++) {
            uint64_t value;

            memcpy(&value, (const char *)&stats[i] + upstream_series[k].offset, sizeof(value));
            text_printf(out, "%s{%s} %llu\n", upstream_series[k].name, memory[i], (unsigned long long)value);
        }
    }
    if (count)
        admin_family(out, "doorstep_upstream_failures_total", "counter",
                     "Exchanges that failed, by RFC 9209 error type.");
    for (unsigned i = 0; i < count; i++)
        write_failures(out, &stats[i], memory[i]);
    for (size_t k = 0; count && k < ARRAY_LEN(server_series); k++) {
        admin_family(out, server_series[k].name, server_series[k].type, server_series[k].help);
        for (unsigned i = 0; i < count; i++)
            write_servers(out, list[i], memory[i], k);
    }
}

/* ---- the page ---- */

static void put_breaker(struct text *out, const struct upstream_server_stats *stats)
{
    static const char *const forces[] = { "auto", "open", "closed" };

    member_text(out, "state", view_str(breaker_state_name(stats->breaker.state)));
    member_text(out, "forced", view_str(forces[stats->breaker.forced]));
    member_u64(out, "consecutive_failures", stats->breaker.consecutive);
    member_u64(out, "opens", stats->breaker.opens);
    member_ms(out, "open_for_s", (int64_t)stats->breaker.open_for_ms);
    member_u64(out, "share_percent", stats->breaker.share_permille / 10);
}

void admin_put_breakers(struct text *out, struct upstream *upstream)
{
    unsigned count = upstream_server_count(upstream);
    struct upstream_server_stats stats;

    member_bool(out, "down", upstream_is_down(upstream));
    if (count > 1) {
        upstream_server_stats(upstream, count, &stats);
        member_name(out, "breaker");
        text_char(out, '{');
        put_breaker(out, &stats);
        text_char(out, '}');
    }
    member_name(out, "breakers");
    text_char(out, '[');
    for (unsigned i = 0; i < count; i++) {
        if (upstream_server_name(upstream, i).len == 0)
            continue;
        upstream_server_stats(upstream, i, &stats);
        member_comma(out);
        text_char(out, '{');
        member_text(out, "server", upstream_server_name(upstream, i));
        put_breaker(out, &stats);
        member_bool(out, "healthy", stats.healthy);
        member_u64(out, "in_flight", stats.in_flight);
        text_char(out, '}');
    }
    text_char(out, ']');
}

static void write_page(struct text *out, void *arg)
{
    struct upstream *list[ADMIN_UPSTREAMS_MAX];
    unsigned count = arg ? admin_upstreams(arg, list, ADMIN_UPSTREAMS_MAX) : 0;

    text_char(out, '{');
    member_name(out, "upstreams");
    text_char(out, '[');
    for (unsigned i = 0; i < count; i++) {
        member_comma(out);
        text_char(out, '{');
        member_text(out, "name", view_str(upstream_name(list[i])));
        admin_put_breakers(out, list[i]);
        text_char(out, '}');
    }
    text_lit(out, "]}\n");
}

void admin_upstreams_page(struct admin *admin, struct admin_answer *ret)
{
    answer_write(ret, 200, "application/json", write_page, (void *)(uintptr_t)server_config(admin->server));
}

/* "/upstreams/NAME/breaker" -> NAME, still encoded; empty when it is another path. */
static struct view name_in(struct view path)
{
    const struct view before = VIEW("/upstreams/"), after = VIEW("/breaker");

    if (path.len <= before.len + after.len || !view_starts_with(path, before) || !view_ends_with(path, after))
        return VIEW_NONE;
    return view_first(view_skip(path, before.len), path.len - before.len - after.len);
}

bool admin_is_breaker_path(struct view path)
{
    return name_in(path).len > 0;
}

static bool read_state(const struct http_request *request, enum breaker_force *ret)
{
    static const struct view names[] = { { "auto", 4 }, { "open", 4 }, { "closed", 6 } };
    char memory[16];
    struct text state = TEXT_ON(memory);

    if (!answer_param(request, VIEW("state"), &state))
        return false;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (!view_eq(text_view(&state), names[i]))
            continue;
        *ret = (enum breaker_force)i;
        return true;
    }
    return false;
}

void admin_switch_breaker(struct admin *admin, const struct http_request *request, struct admin_answer *ret)
{
    const struct http_config *config = server_config(admin->server);
    struct upstream *list[ADMIN_UPSTREAMS_MAX];
    unsigned count = config ? admin_upstreams(config, list, ADMIN_UPSTREAMS_MAX) : 0;
    char name_memory[NAME_MAX_LEN], server_memory[NAME_MAX_LEN];
    struct text name = TEXT_ON(name_memory), server = TEXT_ON(server_memory);
    enum breaker_force force;

    answer_decode(name_in(request->path), &name);
    answer_param(request, VIEW("server"), &server);
    if (!read_state(request, &force)) {
        answer_error(ret, 400, "say which state: state=open, state=closed or state=auto");
        return;
    }
    for (unsigned i = 0; i < count; i++) {
        if (!view_eq(view_str(upstream_name(list[i])), text_view(&name)))
            continue;
        if (upstream_breaker_force(list[i], text_view(&server), force) < 0)
            answer_error(ret, 404, "this upstream has no such server: /upstreams lists them");
        else
            admin_upstreams_page(admin, ret);
        return;
    }
    answer_error(ret, 404, "no such upstream: /upstreams lists them");
}
