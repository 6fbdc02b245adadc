/* One look a second, on one loop, inside its turn. */
#include "main/watch.h"

#include "admin/admin.h"
#include "base/log.h"
#include "main/compile.h"
#include "upstream/upstream.h"

#define PERIOD_MS 1000
#define NAME_MAX_LEN 512

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

/* Server i of `upstream`, or with as many as there are the upstream as a whole. */
static void look_at_breaker(struct watch *watch, struct upstream *upstream, unsigned i, struct view who)
{
    struct upstream_server_stats stats;
    bool *known = place_of(watch, hash64(who) | 1), open;

    if (!known)
        return;
    upstream_server_stats(upstream, i, &stats);
    open = stats.breaker.state == BREAKER_OPEN || (stats.breaker.state == BREAKER_HALF_OPEN && *known);
    if (open && !*known)
        log_warn("%.*s: breaker open%s", VIEW_ARG(who), stats.breaker.forced == BREAKER_FORCE_OPEN ? ", by hand" : "");
    else if (!open && *known)
        log_info("%.*s: breaker closed", VIEW_ARG(who));
    *known = open;
}

static void look_at_upstreams(struct watch *watch)
{
    struct upstream *list[ADMIN_UPSTREAMS_MAX];
    unsigned count = admin_upstreams(server_config(watch->server), list, ADMIN_UPSTREAMS_MAX);

    for (unsigned i = 0; i < count; i++) {
        unsigned servers = upstream_server_count(list[i]);

        for (unsigned k = 0; k <= servers; k++) {
            struct view server = upstream_server_name(list[i], k);
            char memory[NAME_MAX_LEN];
            struct text who = TEXT_ON(memory);

            if (k < servers && server.len == 0)
                continue;
            text_printf(&who, "upstream %s", upstream_name(list[i]));
            if (k < servers)
                text_printf(&who, ", server %.*s", VIEW_ARG(server));
            look_at_breaker(watch, list[i], k, text_view(&who));
        }
    }
}

/* They have one server each. */
static void look_at_providers(struct watch *watch)
{
    const struct ai_config *config = compiled_ai(server_config(watch->server));

    for (unsigned i = 0; config && i < config->provider_count; i++) {
        char memory[NAME_MAX_LEN];
        struct text who = TEXT_ON(memory);

        text_printf(&who, "provider %.*s", VIEW_ARG(config->providers[i].name));
        look_at_breaker(watch, config->providers[i].upstream, 0, text_view(&who));
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
    look_at_providers(watch);
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
