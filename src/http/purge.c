/* Purge: normalise the target, doom what is in flight, then drop what is stored.
 *
 * The order matters (invariant 3): a fill that finishes between the two steps was doomed and stores nothing; one that
 * starts after the first step asks the origin after the purge. */
#include "http/purge.h"

#include "base/heap.h"
#include "proto/uri.h"

#include <errno.h>

struct matcher {
    const struct purge *purge;
    struct view text; /* normalised; with scheme and host, or from the path on */
    bool any_host;
    uint64_t matched;
};

/* What follows "scheme://host". */
static struct view url_path(struct view url)
{
    size_t colon = view_find(url, ':');
    struct view rest = view_skip(url, colon + 3);

    return view_skip(rest, view_find(rest, '/'));
}

static bool matches(struct view url, void *arg)
{
    const struct matcher *matcher = arg;
    struct view candidate = matcher->any_host ? url_path(url) : url;

    switch (matcher->purge->kind) {
    case PURGE_ALL: return true;
    case PURGE_PREFIX: return view_starts_with(candidate, matcher->text);
    case PURGE_URL: return view_eq(candidate, matcher->text);
    }
    return false;
}

static enum memory_visit visit(struct object *object, void *arg)
{
    struct matcher *matcher = arg;

    if (!matches(object_url(object), matcher))
        return MEMORY_KEEP;
    matcher->matched++;
    return matcher->purge->soft ? MEMORY_SOFT : MEMORY_DROP;
}

/* As received: keys do not change the spelling of paths either. */
static void put_path(struct view path, struct view query, struct text *out)
{
    text_put(out, path);
    if (query.ptr) {
        text_char(out, '?');
        text_put(out, query);
    }
}

/* "/path?query" for every host. */
static int normalise_path(struct matcher *matcher, struct text *out)
{
    struct view target = matcher->purge->target;
    size_t question = view_find(target, '?');
    struct view query =
        question < target.len ? view_make(target.ptr + question + 1, target.len - question - 1) : VIEW_NONE;

    for (size_t i = 0; i < target.len; i++)
        if (target.ptr[i] <= ' ' || target.ptr[i] > '~')
            return -EINVAL;
    matcher->any_host = true;
    put_path(view_first(target, question), query, out);
    matcher->text = text_view(out);
    return out->overflow ? -ENOMEM : 0;
}

/* The form that object.url has. A prefix is not a whole query, so query rules of the route do not apply to it. */
static int normalise_url(struct matcher *matcher, const struct uri *uri, const struct route *route,
                         struct view authority, struct text *out)
{
    struct view scheme = uri->https ? VIEW("https") : VIEW("http");

    if (matcher->purge->kind == PURGE_URL && route) {
        if (key_url(&route->cache.key, scheme, authority, uri->path, uri->query, out) < 0)
            return -ENOMEM;
    } else {
        text_put(out, scheme);
        text_lit(out, "://");
        text_put(out, route && route->cache.key.host.len ? route->cache.key.host : authority);
        put_path(uri->path, uri->query, out);
    }
    matcher->text = text_view(out);
    return out->overflow ? -ENOMEM : 0;
}

static void drop_matching(struct server *server, struct matcher *matcher)
{
    unsigned cursor = 0;
    bool more = true;

    fill_table_doom_matching(server->fill.table, matches, matcher);
    while (more)
        more = memory_each(server->memory, &cursor, visit, matcher);
}

/* The common case without a walk: the key follows from the URL. */
static int drop_key(struct server *server, const struct route *route, const struct uri *uri, struct view authority,
                    const struct purge *purge, struct text *memory, uint64_t *ret_objects)
{
    struct key key;

    if (key_build_url(&route->cache.key, route->cache.scope, uri->https ? VIEW("https") : VIEW("http"), authority,
                      uri->path, uri->query, memory) < 0)
        return -ENOMEM;
    key = key_of(text_view(memory));
    fill_table_doom(server->fill.table, &key);
    *ret_objects = purge->soft ? memory_soft_purge(server->memory, &key) : memory_drop(server->memory, &key);
    /* What was not cacheable before may be so now. */
    (void)!memory_mark_pass(server->memory, &key, 0);
    return 0;
}

static int run_absolute(struct server *server, struct matcher *matcher, struct text *memory, uint64_t *ret_objects)
{
    const struct http_config *config = server_config(server);
    char authority_memory[300];
    struct text authority = TEXT_ON(authority_memory);
    const struct route *route;
    struct uri uri;
    int r = uri_parse(matcher->purge->target, &uri);

    if (r < 0)
        return -EINVAL;
    uri_put_authority(&uri, &authority);
    if (authority.overflow)
        return -EINVAL;
    route = route_find(config, text_view(&authority), uri.path);
    if (matcher->purge->kind == PURGE_URL && route && route->cache.key.cookie_count == 0 &&
        route->cache.key.header_count == 0)
        return drop_key(server, route, &uri, text_view(&authority), matcher->purge, memory, ret_objects);
    r = normalise_url(matcher, &uri, route, text_view(&authority), memory);
    if (r < 0)
        return r;
    drop_matching(server, matcher);
    *ret_objects = matcher->matched;
    return 0;
}

int purge_run(struct server *server, const struct purge *purge, uint64_t *ret_objects)
{
    struct matcher matcher = { .purge = purge };
    size_t cap = purge->target.len * 3 + 1024;
    struct text memory = text_make(heap_alloc(cap), cap);
    int r = 0;

    if (!memory.ptr)
        return -ENOMEM;
    if (purge->kind != PURGE_ALL && !view_starts_with(purge->target, VIEW("/"))) {
        r = run_absolute(server, &matcher, &memory, ret_objects);
        heap_free(memory.ptr);
        return r;
    }
    if (purge->kind != PURGE_ALL)
        r = normalise_path(&matcher, &memory);
    if (r == 0) {
        drop_matching(server, &matcher);
        *ret_objects = matcher.matched;
    }
    heap_free(memory.ptr);
    return r;
}
