/* Matching requests to routes, and the life of a configuration generation: counted by every request that waits and every
 * fill, destroyed by whoever leaves last. */
#include "http/route.h"

#include <stdlib.h>

static bool host_fits(const struct route *route, struct view host)
{
    if (route->match_host.len && !glob_match(route->match_host, host))
        return false;
    if (route->host_count == 0)
        return true;
    for (size_t i = 0; i < route->host_count; i++)
        if (glob_match(route->hosts[i], host))
            return true;
    return false;
}

/* Most patterns are a literal with one star at the end. */
static bool path_fits(struct view pattern, struct view path)
{
    size_t literal = view_find(pattern, '*');

    if (literal + 1 == pattern.len)
        return view_starts_with(path, view_first(pattern, literal));
    return glob_match(pattern, path);
}

const struct route *route_find(const struct http_config *config, struct view authority, struct view path)
{
    char lower[256];
    struct view host = VIEW_NONE;

    if (view_eq(path, VIEW("*"))) /* OPTIONS * asks about the server: its root's route */
        path = VIEW("/");

    for (size_t i = 0; i < config->route_count; i++) {
        const struct route *route = &config->routes[i];

        if (!path_fits(route->match_path, path))
            continue;
        if (route->match_host.len == 0 && route->host_count == 0)
            return route;
        if (!host.ptr) {
            size_t len = MIN(authority.len, sizeof(lower));

            for (size_t k = 0; k < len; k++)
                lower[k] = ascii_lower(authority.ptr[k]);
            host = view_make(lower, len);
            /* A port is not part of the name; brackets of IPv6 literals are. */
            host.len = len && lower[0] == '[' ? MIN(view_find(host, ']') + 1, len) : view_find(host, ':');
        }
        if (host_fits(route, host))
            return route;
    }
    return NULL;
}

static int more_specific(const void *a, const void *b)
{
    const struct route *x = a, *y = b;
    size_t literal_x = view_find(x->match_path, '*'), literal_y = view_find(y->match_path, '*');
    bool host_x = x->match_host.len || x->host_count, host_y = y->match_host.len || y->host_count;

    if (literal_x != literal_y)
        return literal_x > literal_y ? -1 : 1;
    if ((literal_x == x->match_path.len) != (literal_y == y->match_path.len))
        return literal_x == x->match_path.len ? -1 : 1;
    if (host_x != host_y)
        return host_x ? -1 : 1;
    return 0;
}

void routes_sort(struct route *routes, size_t count)
{
    /* Insertion sort: stable, so that of two equal patterns the first written wins; lists are short. */
    for (size_t i = 1; i < count; i++) {
        struct route moving = routes[i];
        size_t at = i;

        while (at > 0 && more_specific(&moving, &routes[at - 1]) < 0) {
            routes[at] = routes[at - 1];
            at--;
        }
        routes[at] = moving;
    }
}

struct http_config *http_config_ref(struct http_config *config)
{
    atomic_fetch_add_explicit(&config->refs, 1, memory_order_relaxed);
    return config;
}

void http_config_unref(struct http_config *config)
{
    if (config && atomic_fetch_sub_explicit(&config->refs, 1, memory_order_acq_rel) == 1)
        config->destroy(config);
}

static void keep_retain(struct fill_keep *keep)
{
    http_config_ref(CONTAINER_OF(keep, struct http_config, keep));
}

static void keep_release(struct fill_keep *keep)
{
    http_config_unref(CONTAINER_OF(keep, struct http_config, keep));
}

void http_config_init(struct http_config *config)
{
    *config = (struct http_config){ .keep = { .retain = keep_retain, .release = keep_release } };
    atomic_init(&config->refs, 1);
}
