/* Upstreams, those of AI providers among them: their metrics, the page /upstreams, and the switch of their breakers. */
#include "admin/answer.h"
#include "ai/config.h"
#include "upstream/upstream.h"

#include <errno.h>

#define NAME_MAX_LEN 512u
#define METERED_MAX (2 * ADMIN_UPSTREAMS_MAX)
#define LABELS_MAX 192u

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

/* The numbers of an upstream that are one value each. */
static const struct series upstream_series[] = {
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
        char memory[LABELS_MAX + 192];
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

/* Upstreams as `upstream`, those of providers as `provider`: the two may share a name. */
struct metered {
    struct upstream *upstreams[METERED_MAX];
    struct upstream_stats stats[METERED_MAX];
    char labels[METERED_MAX][LABELS_MAX];
    unsigned count;
};

static void meter(struct metered *metered, struct upstream *upstream, const char *label)
{
    struct text labels = TEXT_ON(metered->labels[metered->count]);

    metered->upstreams[metered->count] = upstream;
    upstream_stats(upstream, &metered->stats[metered->count]);
    metrics_label(&labels, label, view_first(view_str(upstream_name(upstream)), 64));
    text_str(&labels);
    metered->count++;
}

static void meter_all(const struct admin *admin, struct metered *metered)
{
    const struct http_config *config = server_config(admin->server);
    const struct ai_config *ai = admin_ai_config(admin);
    unsigned count = config ? admin_upstreams(config, metered->upstreams, ADMIN_UPSTREAMS_MAX) : 0;

    metered->count = 0;
    for (unsigned i = 0; i < count; i++)
        meter(metered, metered->upstreams[i], "upstream");
    for (unsigned i = 0; ai && i < ai->provider_count && metered->count < METERED_MAX; i++)
        meter(metered, ai->providers[i].upstream, "provider");
}

void admin_upstream_metrics(struct text *out, void *arg)
{
    struct metered m;

    meter_all(arg, &m);
    for (size_t k = 0; m.count && k < ARRAY_LEN(upstream_series); k++) {
        admin_family(out, upstream_series[k].name, upstream_series[k].type, upstream_series[k].help);
        for (unsigned i = 0; i < m.count; i++) {
            uint64_t value;

            memcpy(&value, (const char *)&m.stats[i] + upstream_series[k].offset, sizeof(value));
            text_printf(out, "%s{%s} %llu\n", upstream_series[k].name, m.labels[i], (unsigned long long)value);
        }
    }
    if (m.count)
        admin_family(out, "doorstep_upstream_failures_total", "counter",
                     "Exchanges that failed, by RFC 9209 error type.");
    for (unsigned i = 0; i < m.count; i++)
        write_failures(out, &m.stats[i], m.labels[i]);
    for (size_t k = 0; m.count && k < ARRAY_LEN(server_series); k++) {
        admin_family(out, server_series[k].name, server_series[k].type, server_series[k].help);
        for (unsigned i = 0; i < m.count; i++)
            write_servers(out, m.upstreams[i], m.labels[i], k);
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
    const struct admin *admin = arg;
    const struct http_config *config = server_config(admin->server);
    struct upstream *list[ADMIN_UPSTREAMS_MAX];
    unsigned count = config ? admin_upstreams(config, list, ADMIN_UPSTREAMS_MAX) : 0;

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
    text_char(out, ']');
    admin_put_providers(out, admin_ai_config(admin));
    text_lit(out, "}\n");
}

void admin_upstreams_page(struct admin *admin, struct admin_answer *ret)
{
    answer_write(ret, 200, "application/json", write_page, admin);
}

/* ---- the switch ---- */

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

enum kind { ANY_KIND, OF_UPSTREAM, OF_PROVIDER };

static bool read_kind(const struct http_request *request, enum kind *ret)
{
    char memory[16];
    struct text kind = TEXT_ON(memory);

    *ret = ANY_KIND;
    if (!answer_param(request, VIEW("kind"), &kind))
        return true;
    *ret = view_eq(text_view(&kind), VIEW("provider")) ? OF_PROVIDER : OF_UPSTREAM;
    return *ret == OF_PROVIDER || view_eq(text_view(&kind), VIEW("upstream"));
}

/* How many are called so: an upstream and a provider may share a name. */
static unsigned find_named(const struct admin *admin, struct view name, enum kind kind, struct upstream **ret)
{
    const struct http_config *config = server_config(admin->server);
    const struct ai_config *ai = admin_ai_config(admin);
    struct upstream *list[ADMIN_UPSTREAMS_MAX];
    unsigned count = config ? admin_upstreams(config, list, ADMIN_UPSTREAMS_MAX) : 0, found = 0;

    for (unsigned i = 0; kind != OF_PROVIDER && i < count; i++) {
        if (!view_eq(view_str(upstream_name(list[i])), name))
            continue;
        *ret = list[i];
        found++;
    }
    for (unsigned i = 0; kind != OF_UPSTREAM && ai && i < ai->provider_count; i++) {
        if (!view_eq(ai->providers[i].name, name))
            continue;
        *ret = ai->providers[i].upstream;
        found++;
    }
    return found;
}

void admin_switch_breaker(struct admin *admin, const struct http_request *request, struct admin_answer *ret)
{
    char name_memory[NAME_MAX_LEN], server_memory[NAME_MAX_LEN];
    struct text name = TEXT_ON(name_memory), server = TEXT_ON(server_memory);
    struct upstream *upstream = NULL;
    enum breaker_force force;
    enum kind kind;
    unsigned found;

    answer_decode(name_in(request->path), &name);
    answer_param(request, VIEW("server"), &server);
    if (!read_state(request, &force)) {
        answer_error(ret, 400, "say which state: state=open, state=closed or state=auto");
        return;
    }
    if (!read_kind(request, &kind)) {
        answer_error(ret, 400, "kind is upstream or provider");
        return;
    }
    found = find_named(admin, text_view(&name), kind, &upstream);
    if (found == 0)
        answer_error(ret, 404, "no such upstream or provider: /upstreams lists them");
    else if (found > 1)
        answer_error(ret, 409, "an upstream and a provider have this name: say kind=upstream or kind=provider");
    else if (upstream_breaker_force(upstream, text_view(&server), force) < 0)
        answer_error(ret, 404, "it has no such server: /upstreams lists them");
    else
        admin_upstreams_page(admin, ret);
}
