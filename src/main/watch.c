/* One look a second, on one loop, inside its turn. */
#include "main/watch.h"

#include "admin/admin.h"
#include "base/log.h"
#include "upstream/upstream.h"

#define PERIOD_MS 1000

static void look_at_disk(struct watch *watch)
{
    struct disk_stats stats;

    disk_stats(watch->server->disk, &stats);
    if (!stats.on && !watch->disk_off)
        log_error("disk tier off: %s; requests go on without it, and it is tried again", stats.trouble);
    else if (stats.on && watch->disk_off)
        log_info("disk tier on again: %llu responses", (unsigned long long)stats.objects);
    watch->disk_off = !stats.on;
}

static void look_at_store(struct watch *watch)
{
    struct redis_stats stats;

    redis_stats(watch->server->redis, &stats);
    if (stats.breaker_open && !watch->store_away)
        log_warn("shared store: too many failures; it is left alone for a while, requests go on without it");
    else if (!stats.breaker_open && watch->store_away)
        log_info("shared store: asked again");
    watch->store_away = stats.breaker_open;
}

static bool *place_of(struct watch *watch, uint64_t name)
{
    for (unsigned i = 0; i < WATCH_SERVERS; i++) {
        unsigned at = (unsigned)(name + i) % WATCH_SERVERS;

        if (watch->servers[at].name == name)
            return &watch->servers[at].open;
        if (watch->servers[at].name == 0) {
            watch->servers[at].name = name;
            return &watch->servers[at].open;
        }
    }
    return NULL;
}

/* `server`: empty for the upstream as a whole. */
static void look_at_server(struct watch *watch, struct upstream *upstream, unsigned i, struct view server)
{
    const char *name = upstream_name(upstream);
    bool whole = i == upstream_server_count(upstream), open;
    struct upstream_server_stats stats;
    bool *known = place_of(watch, (hash64(view_str(name)) * 31 + hash64(server)) | 1);

    if (!known)
        return;
    upstream_server_stats(upstream, i, &stats);
    open = stats.breaker.state == BREAKER_OPEN || (stats.breaker.state == BREAKER_HALF_OPEN && *known);
    if (open && !*known)
        log_warn("upstream %s%s%.*s: breaker open%s", name, whole ? "" : ", server ", VIEW_ARG(server),
                 stats.breaker.forced == BREAKER_FORCE_OPEN ? ", by hand" : "");
    else if (!open && *known)
        log_info("upstream %s%s%.*s: breaker closed", name, whole ? "" : ", server ", VIEW_ARG(server));
    *known = open;
}

static void look_at_upstreams(struct watch *watch)
{
    struct upstream *list[ADMIN_UPSTREAMS_MAX];
    unsigned count = admin_upstreams(server_config(watch->server), list, ADMIN_UPSTREAMS_MAX);

    for (unsigned i = 0; i < count; i++) {
        unsigned servers = upstream_server_count(list[i]);

        for (unsigned k = 0; k < servers; k++)
            if (upstream_server_name(list[i], k).len)
                look_at_server(watch, list[i], k, upstream_server_name(list[i], k));
        look_at_server(watch, list[i], servers, VIEW_NONE);
    }
}

static void look(struct task *task)
{
    struct watch *watch = CONTAINER_OF(task, struct watch, task);

    if (watch->server->disk)
        look_at_disk(watch);
    if (watch->server->redis)
        look_at_store(watch);
    look_at_upstreams(watch);
    timer_set(&watch->timer, PERIOD_MS);
}

void watch_start(struct watch *watch, struct server *server, struct loop *loop)
{
    struct disk_stats stats;

    watch->server = server;
    if (server->disk) {
        disk_stats(server->disk, &stats);
        watch->disk_off = !stats.on; /* the start has said so */
    }
    task_init(&watch->task, loop, look);
    timer_init(&watch->timer, &watch->task);
    timer_set(&watch->timer, PERIOD_MS);
}

void watch_stop(struct watch *watch)
{
    if (!watch->server)
        return;
    timer_clear(&watch->timer);
    task_cancel(&watch->task);
}
