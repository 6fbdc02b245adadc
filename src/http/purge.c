/* From an event to a mark. What a mark cannot do, freeing memory at once, is done for the one case where the key is known. */
#include "http/purge.h"

#include "base/heap.h"
#include "base/log.h"
#include "proto/uri.h"

#include <errno.h>

/* As received: keys do not change the spelling of paths either. */
static void put_path(struct view path, struct view query, struct text *out)
{
    text_put(out, path);
    if (query.ptr) {
        text_char(out, '?');
        text_put(out, query);
    }
}

/* What marks look for ends before the slash that begins the next segment. */
static void end_at_segment(struct text *prefix)
{
    while (prefix->len && prefix->ptr[prefix->len - 1] == '/')
        prefix->len--;
}

/* A path, for every host. */
static int path_mark(const struct purge_event *event, struct text *out)
{
    struct view target = event->target;

    if (event->kind == MARK_PREFIX && view_contains(target, '?'))
        return -EINVAL;
    for (size_t i = 0; i < target.len; i++)
        if (target.ptr[i] <= ' ' || target.ptr[i] > '~')
            return -EINVAL;
    text_put(out, target);
    if (event->kind == MARK_PREFIX)
        end_at_segment(out);
    return 0;
}

/* The key of a URL on this node, where nothing but the URL enters it. */
static void drop_now(struct server *server, const struct route *route, const struct uri *uri, struct view authority,
                     bool soft)
{
    size_t cap = uri->path.len + uri->query.len + 3 * authority.len + route->cache.scope.len + 512;
    struct text text = text_make(heap_alloc(cap), cap);
    struct key key;

    if (text.ptr && key_build_url(&route->cache.key, route->cache.scope, uri->https ? VIEW("https") : VIEW("http"),
                                  authority, uri->path, uri->query, &text) == 0) {
        key = key_of(text_view(&text));
        if (!soft)
            memory_drop(server->memory, &key);
        /* What was not cacheable before may be so now. */
        (void)!memory_mark_pass(server->memory, &key, 0);
    }
    heap_free(text.ptr);
}

/* An absolute URL or prefix, in the form that object_url() has. A prefix is not a whole query, so query rules do not apply. */
static int absolute_mark(struct server *server, const struct purge_event *event, struct text *out)
{
    char memory[300];
    struct text authority = TEXT_ON(memory);
    const struct route *route;
    struct view scheme;
    struct uri uri;

    if (uri_parse(event->target, &uri) < 0)
        return -EINVAL;
    uri_put_authority(&uri, &authority);
    if (authority.overflow || (event->kind == MARK_PREFIX && uri.query.ptr))
        return -EINVAL;
    scheme = uri.https ? VIEW("https") : VIEW("http");
    route = route_find(server_config(server), text_view(&authority), uri.path);
    if (event->kind == MARK_URL && route) {
        drop_now(server, route, &uri, text_view(&authority), event->soft);
        return key_url(&route->cache.key, scheme, text_view(&authority), uri.path, uri.query, out);
    }
    text_put(out, scheme);
    text_lit(out, "://");
    text_put(out, route && route->cache.key.host.len ? route->cache.key.host : text_view(&authority));
    put_path(uri.path, uri.query, out);
    if (event->kind == MARK_PREFIX)
        end_at_segment(out);
    return 0;
}

static void put_lower(struct view v, struct text *out)
{
    for (size_t i = 0; i < v.len; i++)
        text_char(out, (char)(v.ptr[i] >= 'A' && v.ptr[i] <= 'Z' ? v.ptr[i] + 32 : v.ptr[i]));
}

/* "http://shop.example name": the origin, then the group. */
static int group_mark(const struct purge_event *event, struct text *out)
{
    struct view name = event->target, origin = view_cut(&name, ' ');

    put_lower(origin, out);
    if (name.len == 0)
        return -EINVAL;
    marks_group_put(out, name);
    return 0;
}

static int make_mark(struct server *server, const struct purge_event *event, struct text *out, struct mark *ret)
{
    int r = 0;

    switch (event->kind) {
    case MARK_URL:
    case MARK_PREFIX:
        r = view_starts_with(event->target, VIEW("/")) ? path_mark(event, out) : absolute_mark(server, event, out);
        break;
    case MARK_HOST: put_lower(event->target, out); break;
    case MARK_TAG: text_put(out, event->target); break;
    case MARK_GROUP: r = group_mark(event, out); break;
    case MARK_ALL:
    case MARK_KINDS: break;
    }
    *ret = (struct mark){ .kind = event->kind, .soft = event->soft, .text = text_view(out) };
    return r < 0 ? r : out->overflow ? -ENOMEM : 0;
}

int purge_run(struct server *server, struct loop *loop, const struct purge_event *event, bool everywhere,
              struct task *task, struct purge_job **ret_job)
{
    size_t cap = event->target.len * 3 + 1024;
    struct text text = text_make(heap_alloc(cap), cap);
    struct mark mark;
    int r = text.ptr ? make_mark(server, event, &text, &mark) : -ENOMEM;

    if (r == 0)
        r = purger_purge(server->purger, loop, &mark, everywhere ? event : NULL, task, ret_job);
    heap_free(text.ptr);
    return r;
}

int purge_apply(struct server *server, struct loop *loop, const struct purge_event *event, uint64_t bus)
{
    size_t cap = event->target.len * 3 + 1024;
    struct text text = text_make(heap_alloc(cap), cap);
    struct mark mark;
    int r = text.ptr ? make_mark(server, event, &text, &mark) : -ENOMEM;

    if (r == 0)
        purger_apply(server->purger, loop, &mark, bus);
    heap_free(text.ptr);
    return r;
}

void purge_by_write(void *arg, struct loop *loop, const struct mark *mark, bool everywhere)
{
    struct server *server = arg;
    char memory[MARK_TEXT_MAX];
    struct text target = TEXT_ON(memory);
    struct purge_event event = { .kind = mark->kind, .soft = mark->soft };

    /* The bytes that hold a group's words together in a mark are spaces in an event. */
    for (size_t i = 0; i < mark->text.len; i++)
        text_char(&target, (char)(mark->text.ptr[i] < ' ' ? ' ' : mark->text.ptr[i]));
    event.target = text_view(&target);
    if (purger_purge(server->purger, loop, mark, everywhere && !target.overflow ? &event : NULL, NULL, NULL) < 0)
        log_error("an invalidation is in effect, but other nodes were not told: out of memory");
}

/* ---- the answer ---- */

int purge_result_status(const struct purge_result *result)
{
    return result->durable ? 200 : 503;
}

void purge_result_put(struct text *out, const struct purge_result *result)
{
    text_lit(out, "{\"purged\":true,\"position\":");
    text_u64(out, result->position);
    text_lit(out, ",\"durable\":");
    text_put(out, result->durable ? VIEW("true") : VIEW("false"));
    if (result->bus) {
        text_lit(out, ",\"bus\":");
        text_put(out, result->bus_result == 0           ? VIEW("\"sent\"")
                      : result->bus_result == -ENOTCONN ? VIEW("\"queued\"")
                                                        : VIEW("\"lost\""));
        text_lit(out, ",\"id\":");
        text_json(out, view_str(result->id));
        text_lit(out, ",\"nodes\":");
        text_u64(out, result->nodes);
        text_lit(out, ",\"applied\":");
        text_u64(out, result->applied);
    }
    text_lit(out, "}\n");
}
