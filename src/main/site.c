/* Loading a site, and the cross checks that no single option can do: routes name upstreams that exist, no route hides behind
 * an identical earlier one, options that only make sense together.
 *
 * A site is filled by conf/, then completed here (match split, upstream indices), and never changes afterwards. Its strings
 * live in its own arena, so one free ends it. */
#include "main/site_table.h"

#include "base/text.h"
#include "conf/conf.h"
#include "main/store_url.h"

#include <errno.h>

/* The path of a member of a route or upstream, for messages. */
static const char *route_path(struct text *t, size_t index, const char *member)
{
    t->len = 0;
    text_printf(t, "routes[%zu]%s%s", index, *member ? "." : "", member);
    return text_str(t);
}

static void check_match(struct site *site, size_t index, struct conf_report *report)
{
    struct site_route *route = &site->routes.items[index];
    size_t slash = view_find(route->match, '/');
    char buffer[64];
    struct text path = TEXT_ON(buffer);

    if (route->match.len == 0)
        return; /* missing, and said so */
    route->match_host = view_first(route->match, slash);
    route->match_path = view_skip(route->match, slash);
    if (route->match_path.len == 0)
        conf_complain(report, route_path(&path, index, "match"),
                      "no path in it; a path starts with \"/\", as in \"/*\" or \"%.*s/*\"",
                      VIEW_ARG(view_first(route->match, 64)));
    else if (view_contains(route->match, '?') || view_contains(route->match, '#'))
        conf_complain(report, route_path(&path, index, "match"), "queries and fragments are not matched");
    else if (view_starts_with_icase(route->match, VIEW("http:")) ||
             view_starts_with_icase(route->match, VIEW("https:")))
        conf_complain(report, route_path(&path, index, "match"), "write host and path without \"http://\"");
    for (size_t i = 0; i < index && report->count <= CONF_MISTAKES_MAX; i++) {
        const struct site_route *earlier = &site->routes.items[i];
        unsigned line;

        if (!view_eq(earlier->match_path, route->match_path) || earlier->match.len == 0 ||
            !view_eq_icase(earlier->match_host, route->match_host) || earlier->hosts.count || route->hosts.count)
            continue;
        line = conf_line(report, route_path(&path, i, "match"));
        conf_complain(report, route_path(&path, index, "match"),
                      "can never be reached: routes[%zu] in line %u has the same match", i, line);
        return;
    }
}

/* The upstream that a member of a route names. */
static void find_upstream(struct site *site, size_t index, const char *member, struct view name, size_t *ret_index,
                          struct conf_report *report)
{
    struct view names[64];
    struct view nearest;
    char buffer[64];
    struct text path = TEXT_ON(buffer);
    size_t count = MIN(site->upstreams.count, ARRAY_LEN(names));

    if (name.len == 0)
        return;
    for (size_t i = 0; i < site->upstreams.count; i++) {
        if (view_eq(site->upstreams.items[i].name, name)) {
            *ret_index = i;
            return;
        }
    }
    for (size_t i = 0; i < count; i++)
        names[i] = site->upstreams.items[i].name;
    nearest = conf_nearest(name, names, count);
    if (nearest.len)
        conf_complain(report, route_path(&path, index, member), "no upstream \"%.*s\"; did you mean \"%.*s\"?",
                      VIEW_ARG(view_first(name, 64)), VIEW_ARG(nearest));
    else
        conf_complain(report, route_path(&path, index, member), "no upstream \"%.*s\" under upstreams",
                      VIEW_ARG(view_first(name, 64)));
}

static void check_route(struct site *site, size_t index, struct conf_report *report)
{
    struct site_route *route = &site->routes.items[index];
    char buffer[64];
    struct text path = TEXT_ON(buffer);

    check_match(site, index, report);
    route->ai.present = conf_line(report, route_path(&path, index, "ai")) != 0;
    site->ai.present = site->ai.present || route->ai.present;
    if (!report->incomplete && !route->ai.present) {
        if (route->upstream.len == 0)
            conf_complain(report, route_path(&path, index, ""), "\"upstream\" is missing");
        find_upstream(site, index, "upstream", route->upstream, &route->upstream_index, report);
        find_upstream(site, index, "fallback", route->fallback, &route->fallback_index, report);
    }
    if (route->fallback.len && view_eq(route->fallback, route->upstream))
        conf_complain(report, route_path(&path, index, "fallback"), "the same as upstream: name another one");
    if (route->disk == ROUTE_DISK_PIN && site->disk.path.len == 0 && !report->incomplete)
        conf_complain(report, route_path(&path, index, "disk"), "\"pin\" needs a disk tier: set disk.path");
    if (route->guarantee == ROUTE_GUARANTEE_SESSION)
        conf_complain(report, route_path(&path, index, "guarantee"),
                      "\"session\" is known, but not available in this version");
    if (route->guarantee == ROUTE_GUARANTEE_BOUNDED && route->max_stale == OPTION_UNSET && !report->incomplete)
        conf_complain(report, route_path(&path, index, "guarantee"),
                      "\"bounded\" needs max_stale, as in max_stale: 5s");
    if (route->guarantee != ROUTE_GUARANTEE_BOUNDED && route->max_stale != OPTION_UNSET)
        conf_complain(report, route_path(&path, index, "max_stale"), "works with guarantee: bounded only");
    if (route->ttl_min != OPTION_UNSET && route->ttl_max != OPTION_UNSET && route->ttl_min > route->ttl_max)
        conf_complain(report, route_path(&path, index, "ttl_min"), "larger than ttl_max");
    if (route->key.query.keep.count && route->key.query.ignore.count)
        conf_complain(report, route_path(&path, index, "key.query.keep"), "give either keep or ignore");
}

/* A path in front of the client's would make it reach the origin changed; the client's own path decides. */
static void check_server_paths(const struct site_upstream *u, struct conf_report *report)
{
    char buffer[160];

    for (size_t k = 0; k < u->servers.count; k++) {
        struct text path = TEXT_ON(buffer);

        if (u->servers.items[k].path.len == 0)
            continue;
        text_printf(&path, "upstreams.%.*s.servers[%zu]", VIEW_ARG(u->name), k);
        conf_complain(report, text_str(&path), "the path '%.*s' is not used: give scheme, host and port only",
                      VIEW_ARG(u->servers.items[k].path));
    }
}

static void check_upstreams(const struct site *site, struct conf_report *report)
{
    for (size_t i = 0; i < site->upstreams.count; i++) {
        const struct site_upstream *u = &site->upstreams.items[i];
        bool plain = u->servers.count > 0;
        char buffer[128];
        struct text path = TEXT_ON(buffer);

        check_server_paths(u, report);
        site_upstream_check(u, report);
        for (size_t k = 0; k < u->servers.count; k++)
            plain = plain && u->servers.items[k].text.len && !u->servers.items[k].tls;
        text_printf(&path, "upstreams.%.*s", VIEW_ARG(u->name));
        if (u->tls.certificate.len && !u->tls.key.len)
            conf_complain(report, text_str(&path), "tls.certificate needs tls.key");
        if (u->tls.key.len && !u->tls.certificate.len)
            conf_complain(report, text_str(&path), "tls.key needs tls.certificate");
        if (u->servers.count == 0 && conf_line(report, text_str(&path)) && !report->incomplete) {
            text_lit(&path, ".servers");
            if (conf_line(report, text_str(&path)))
                conf_complain(report, text_str(&path), "at least one server is needed");
        } else if (plain && (u->tls.ca.len || u->tls.server_name.len || u->tls.certificate.len)) {
            text_lit(&path, ".tls");
            conf_complain(report, text_str(&path), "none of the servers is https");
        }
    }
}

static bool is_loopback(const struct option_address *a)
{
    return a->path.len || view_eq(a->host, VIEW("localhost")) || view_eq(a->host, VIEW("::1")) ||
           view_starts_with(a->host, VIEW("127."));
}

static void check_listeners(const struct site *site, struct conf_report *report)
{
    char buffer[32];

    if (site->listen.count == 0)
        conf_complain(report, "listen", "at least one address is needed");
    for (size_t i = 0; i < site->listen.count; i++) {
        const struct option_address *a = &site->listen.items[i];

        for (size_t k = 0; k < i; k++) {
            struct text path = TEXT_ON(buffer);

            text_printf(&path, "listen[%zu]", i);
            if (a->text.len && (a->port || a->path.len) && view_eq(a->text, site->listen.items[k].text))
                conf_complain(report, text_str(&path), "given twice");
        }
    }
    if (site->admin.enabled && !is_loopback(&site->admin.listen) && site->admin.token.len == 0 &&
        conf_line(report, "admin.token") == 0)
        conf_complain(report, "admin.listen", "others can reach this address: set admin.token");
}

static bool is_hex_key(struct view key)
{
    for (size_t i = 0; i < key.len; i++)
        if (!memchr("0123456789abcdefABCDEF", key.ptr[i], 22))
            return false;
    return key.len == 64;
}

/* Braces mean something in the keys of a Cluster. */
static bool is_key_part(struct view part)
{
    return part.len <= 64 && !view_contains(part, '{') && !view_contains(part, '}');
}

static void check_tiers(struct site *site, struct conf_report *report)
{
    const char *why;

    if (site->disk.path.len == 0 && conf_line(report, "disk") && !report->incomplete)
        conf_complain(report, "disk", "\"path\" is missing: the directory of the tier");
    if (site->shared.url.len == 0 && conf_line(report, "shared") && !report->incomplete)
        conf_complain(report, "shared", "\"url\" is missing, as in url: \"redis://127.0.0.1:6379\"");
    if (site->disk.key.len && !is_hex_key(site->disk.key))
        conf_complain(report, "disk.key", "not 64 hexadecimal digits (32 bytes); make one with: openssl rand -hex 32");
    if (site->disk.key.len && site->disk.key_file.len)
        conf_complain(report, "disk.key_file", "give either key or key_file");
    if (site->disk.path.len && site->disk.size < 4 * site->disk.segment)
        conf_complain(report, "disk.size", "smaller than four segments: at least 4 times disk.segment");
    if (site->shared.url.len && store_url_parse(site->shared.url, &site->_arena, &site->shared.at, &why) < 0)
        conf_complain(report, "shared.url", "%s", why);
    if (!is_key_part(site->shared.prefix))
        conf_complain(report, "shared.prefix", "no braces, and 64 bytes at most: it begins every key");
    if (site->shared.url.len && !is_key_part(site->node.region))
        conf_complain(report, "node.region", "no braces, and 64 bytes at most: it is in every key of the shared store");
    if (!is_key_part(site->shared.region))
        conf_complain(report, "shared.region", "no braces, and 64 bytes at most: it is in every key of the store");
    if (site->shared.at.tls == false && site->shared.tls.ca.len)
        conf_complain(report, "shared.tls", "the store is not reached over TLS: write rediss://");
    if (site->shared.url.len == 0 && site->purge.redis_channel.len)
        conf_complain(report, "purge.redis_channel", "needs a shared store: set shared.url");
    if (site->purge.postgres.len && !view_starts_with(site->purge.postgres, VIEW("postgres://")) &&
        !view_starts_with(site->purge.postgres, VIEW("postgresql://")))
        conf_complain(report, "purge.postgres", "not a connection URL: write postgres://user@host:port/database");
}

/* Cross checks; fills match_host, match_path and upstream_index. */
static void site_check(struct site *site, struct conf_report *report)
{
    check_listeners(site, report);
    check_upstreams(site, report);
    check_tiers(site, report);
    for (size_t i = 0; i < site->routes.count; i++)
        check_route(site, i, report);
    site_tracing_check(&site->tracing, report);
    site_ai_check(site, report);
    if (site->routes.count == 0 && conf_line(report, "routes") && !report->incomplete)
        conf_complain(report, "routes", "at least one route is needed, as in { match: \"/*\", upstream: app }");
}

static int finish(struct site *site, int r, struct conf_report *report, struct site *ret_site)
{
    if (r == 0 || r == -EINVAL)
        site_check(site, report);
    if (r == 0 && report->count)
        r = -EINVAL;
    if (r < 0) {
        site_free(site);
        return r;
    }
    *ret_site = *site;
    return 0;
}

int site_load(const char *path, struct site *ret_site, struct conf_report *report)
{
    struct site site = { 0 };
    int r;

    arena_init(&site._arena, NULL, 0, CONF_MEMORY_MAX);
    r = conf_load_file(path, site_options, &site, &site._arena, report);
    return finish(&site, r, report, ret_site);
}

int site_default(const char *origin_url, struct site *ret_site, struct conf_report *report)
{
    struct view text = VIEW("upstreams: { origin: { servers: [\"http://localhost\"] } }\n"
                            "routes: [ { match: \"/*\", upstream: origin } ]\n");
    struct site site = { 0 };
    int r;

    arena_init(&site._arena, NULL, 0, CONF_MEMORY_MAX);
    r = conf_load_text(text, site_options, &site, &site._arena, report);
    if (r == 0)
        r = conf_set(site_upstream_table, &site.upstreams.items[0], "servers", origin_url, &site._arena, report);
    return finish(&site, r, report, ret_site);
}

int site_set(struct site *site, const char *path, const char *value, struct conf_report *report)
{
    return conf_set(site_options, site, path, value, &site->_arena, report);
}

void site_free(struct site *site)
{
    if (site)
        arena_release(&site->_arena);
}
