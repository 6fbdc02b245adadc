/* Servers in their slots.
 *
 * A slot that is active is chosen from; one whose SRV record has gone is left to end what it has, and given to another target
 * when it has been quiet for a while. Other loops borrow a target for a turn at most, so one that was replaced is freed
 * when no turn can be that old. Only the keeper's loop changes slots after upstream_new(). */
#include "upstream/servers.h"

#include "base/clock.h"
#include "base/heap.h"
#include "base/key.h"
#include "net/dns.h"
#include "proto/uri.h"

#include <errno.h>

#define AUTHORITY_MAX 300u
#define QUIET_MS 2000u     /* before a slot is used again */
#define RETIRED_MS 600000u /* no turn of a loop lasts that long */
#define SHARE_FROM 200u

void servers_init(struct upstream *upstream, const struct breaker_options *breaker)
{
    for (unsigned i = 0; i < UPSTREAM_SERVERS_MAX; i++)
        breaker_init(&upstream->servers[i].breaker, breaker, clock_mono_us() + i);
}

static void target_free(struct upstream_target *target)
{
    if (!target)
        return;
    heap_free(target->host);
    heap_free(target->tls_name);
    heap_free(target->name);
    heap_free(target->authority);
    heap_free(target);
}

static struct upstream_target *target_new(const struct uri *uri, const char *tls_name)
{
    struct upstream_target *t = heap_zalloc(sizeof(*t));
    char authority_memory[AUTHORITY_MAX], name_memory[AUTHORITY_MAX];
    struct text authority = TEXT_ON(authority_memory), name = TEXT_ON(name_memory);

    if (!t)
        return NULL;
    uri_put_authority(uri, &authority);
    text_printf(&name, uri->ipv6 ? "[%.*s]:%u" : "%.*s:%u", VIEW_ARG(uri->host), uri->port);
    t->host = heap_strdup(uri->host.ptr, uri->host.len);
    t->authority = heap_strdup(authority.ptr, authority.len);
    t->name = heap_strdup(name.ptr, name.len);
    t->tls_name = tls_name ? heap_strdup(tls_name, strlen(tls_name)) : heap_strdup(uri->host.ptr, uri->host.len);
    t->hash = hash64(text_view(&name));
    t->port = uri->port;
    t->tls = uri->https;
    t->weight = 1;
    if (t->host && t->authority && t->name && t->tls_name)
        return t;
    target_free(t);
    return NULL;
}

/* ---- configured ones ---- */

static int add_srv(struct upstream *up, const struct uri *uri)
{
    struct upstream_srv *srv = &up->srvs[up->srv_count];

    srv->name = heap_strdup(uri->host.ptr, uri->host.len);
    srv->tls_name = up->tls_name;
    srv->tls = uri->https;
    up->srv_count += srv->name != NULL;
    return srv->name ? 0 : -ENOMEM;
}

static int add_slot(struct upstream *up, const struct uri *uri)
{
    unsigned i = upstream_slots(up);
    struct upstream_target *target = target_new(uri, up->tls_name);

    if (!target)
        return -ENOMEM;
    atomic_store_explicit(&up->servers[i].target, target, memory_order_release);
    atomic_store(&up->servers[i].active, true);
    atomic_store_explicit(&up->slots, i + 1, memory_order_release);
    return 0;
}

/* "_http._tcp.example" stands for "example" where a name is needed. */
static struct view without_labels(struct view host)
{
    while (host.len && host.ptr[0] == '_' && view_contains(host, '.'))
        host = view_skip(host, view_find(host, '.') + 1);
    return host;
}

static int note_first(struct upstream *up, const struct uri *uri)
{
    char memory[AUTHORITY_MAX];
    struct text authority = TEXT_ON(memory);
    struct uri named = *uri;

    named.host = without_labels(uri->host);
    uri_put_authority(&named, &authority);
    up->authority = heap_strdup(authority.ptr, authority.len);
    up->is_tls = uri->https;
    return up->authority ? 0 : -ENOMEM;
}

int servers_add(struct upstream *upstream, const char *url, bool *tls, struct text *reason)
{
    struct uri uri;
    int r = uri_parse(view_str(url), &uri);

    if (r < 0) {
        text_printf(reason, "'%s' is not a URL like http://host:port or https://host", url);
        return -EINVAL;
    }
    if (uri.path.len > 1 || uri.query.ptr) {
        text_printf(reason, "'%s' must not have a path or query", url);
        return -EINVAL;
    }
    if (uri.host.len + 16 > AUTHORITY_MAX) {
        text_printf(reason, "'%s': the host is too long", url);
        return -EINVAL;
    }
    r = upstream->authority ? 0 : note_first(upstream, &uri);
    if (r < 0)
        return r;
    *tls = *tls || uri.https;
    return uri.host.ptr[0] == '_' ? add_srv(upstream, &uri) : add_slot(upstream, &uri);
}

void servers_free(struct upstream *upstream)
{
    for (unsigned i = 0; i < UPSTREAM_SERVERS_MAX; i++) {
        target_free(atomic_load(&upstream->servers[i].target));
        breaker_end(&upstream->servers[i].breaker);
    }
    while (upstream->retired) {
        struct upstream_target *next = upstream->retired->next;

        target_free(upstream->retired);
        upstream->retired = next;
    }
    for (unsigned i = 0; i < upstream->srv_count; i++)
        heap_free(upstream->srvs[i].name);
    heap_free(upstream->authority);
}

/* ---- those of SRV records, on the keeper's loop ---- */

static void retire(struct upstream *up, struct upstream_target *target, uint64_t now_ms)
{
    struct upstream_target **at = &up->retired;

    while (*at) {
        struct upstream_target *old = *at;

        if (now_ms - old->retired_ms < RETIRED_MS) {
            at = &old->next;
            continue;
        }
        *at = old->next;
        target_free(old);
    }
    if (!target)
        return;
    target->retired_ms = now_ms;
    target->next = up->retired;
    up->retired = target;
}

static struct upstream_target *target_of(const struct upstream_srv *srv, const struct dns_srv_target *from)
{
    struct uri uri = { .host = view_str(from->host), .port = from->port, .https = srv->tls };
    struct upstream_target *target = target_new(&uri, srv->tls_name);

    if (!target)
        return NULL;
    target->priority = from->priority;
    target->weight = MAX(from->weight, (uint16_t)1);
    return target;
}

static int find_slot(const struct upstream *up, const struct upstream_srv *srv, const struct upstream_target *target)
{
    for (unsigned i = 0; i < upstream_slots(up); i++)
        if (up->servers[i].srv == srv && strcmp(upstream_target(up, i)->name, target->name) == 0)
            return (int)i;
    return -1;
}

/* A slot nobody has used for a while, or a new one. */
static int free_slot(const struct upstream *up, uint64_t now_ms)
{
    unsigned slots = upstream_slots(up);

    for (unsigned i = 0; i < slots; i++) {
        const struct upstream_server *s = &up->servers[i];

        if (!atomic_load(&s->active) && now_ms - s->idle_since_ms >= QUIET_MS && atomic_load(&s->in_flight) == 0)
            return (int)i;
    }
    return slots < UPSTREAM_SERVERS_MAX ? (int)slots : -1;
}

/* Puts the target into its slot; a new one gets a slot of its own as long as there are any. */
static int place(struct upstream *up, const struct upstream_srv *srv, struct upstream_target *target, uint64_t now_ms)
{
    int found = find_slot(up, srv, target), i = found >= 0 ? found : free_slot(up, now_ms);
    struct upstream_server *server;

    if (i < 0) {
        target_free(target);
        return -1;
    }
    server = &up->servers[i];
    server->srv = srv;
    retire(up, atomic_exchange(&server->target, target), now_ms);
    if (found < 0) {
        breaker_force(&server->breaker, BREAKER_AUTO, now_ms);
        atomic_store(&server->unhealthy, false);
        /* Those of the first answer share the work at once; who joins later is given it slowly. */
        atomic_store(&server->back_ms, atomic_load(&up->srv_answered) ? now_ms : 0);
        atomic_fetch_add(&server->generation, 1);
    }
    atomic_store(&server->active, true);
    if ((unsigned)i >= upstream_slots(up))
        atomic_store_explicit(&up->slots, (unsigned)i + 1, memory_order_release);
    return i;
}

void upstream_take_targets(struct upstream *upstream, const struct upstream_srv *srv, const struct dns_srv *answer,
                           uint64_t now_ms)
{
    uint32_t named = 0;

    /* First those that stay, so that a slot which only comes back is not given away. */
    for (unsigned pass = 0; pass < 2; pass++) {
        for (unsigned i = 0; i < answer->count; i++) {
            struct upstream_target *target = target_of(srv, &answer->targets[i]);
            int slot;

            if (!target)
                continue;
            if ((find_slot(upstream, srv, target) >= 0) != (pass == 0)) {
                target_free(target);
                continue;
            }
            slot = place(upstream, srv, target, now_ms);
            if (slot >= 0)
                named |= 1u << slot;
        }
    }
    for (unsigned i = 0; i < upstream_slots(upstream); i++) {
        struct upstream_server *server = &upstream->servers[i];

        if (server->srv != srv || named & 1u << i || !atomic_load(&server->active))
            continue;
        server->idle_since_ms = now_ms;
        atomic_store(&server->active, false);
    }
    retire(upstream, NULL, now_ms);
}

uint32_t upstream_share(const struct upstream *upstream, unsigned i, uint64_t now_ms)
{
    const struct upstream_server *server = &upstream->servers[i];
    uint32_t share = breaker_share(&server->breaker, now_ms), ramp = upstream->options.slow_start_ms;
    uint64_t back = atomic_load_explicit(&server->back_ms, memory_order_relaxed);

    if (likely(back == 0) || now_ms >= back + ramp)
        return share;
    return MIN(share, SHARE_FROM + (uint32_t)((1000 - SHARE_FROM) * (now_ms > back ? now_ms - back : 0) / ramp));
}

/* ---- from outside ---- */

unsigned upstream_server_count(const struct upstream *upstream)
{
    return upstream_slots(upstream);
}

struct view upstream_server_name(const struct upstream *upstream, unsigned i)
{
    return i < upstream_slots(upstream) && atomic_load(&upstream->servers[i].active)
               ? view_str(upstream_target(upstream, i)->name)
               : VIEW_NONE;
}

void upstream_server_stats(struct upstream *upstream, unsigned i, struct upstream_server_stats *ret)
{
    uint64_t now = clock_mono_ms();
    bool whole = i >= upstream_slots(upstream);

    *ret = (struct upstream_server_stats){ .healthy = true };
    breaker_look(whole ? &upstream->breaker : &upstream->servers[i].breaker, now, &ret->breaker);
    for (unsigned k = 0; k < upstream_slots(upstream); k++)
        if (whole || k == i)
            ret->in_flight += atomic_load_explicit(&upstream->servers[k].in_flight, memory_order_relaxed);
    if (!whole)
        ret->healthy = !atomic_load_explicit(&upstream->servers[i].unhealthy, memory_order_relaxed);
}

bool upstream_may_retry(struct upstream *upstream, uint64_t now_ms)
{
    return budget_take(&upstream->retry_budget, now_ms);
}

bool upstream_is_down(struct upstream *upstream)
{
    uint64_t now = clock_mono_ms();

    if (upstream_slots(upstream) > 1 && !breaker_may(&upstream->breaker, now))
        return true;
    for (unsigned i = 0; i < upstream_slots(upstream); i++)
        if (atomic_load(&upstream->servers[i].active) &&
            !atomic_load_explicit(&upstream->servers[i].unhealthy, memory_order_relaxed) &&
            breaker_may(&upstream->servers[i].breaker, now))
            return false;
    return true;
}

uint64_t upstream_down_for_ms(struct upstream *upstream)
{
    struct upstream_server_stats stats;
    uint64_t least = 0, whole;

    upstream_server_stats(upstream, upstream_server_count(upstream), &stats);
    whole = stats.breaker.open_for_ms;
    for (unsigned i = 0; i < upstream_server_count(upstream); i++) {
        upstream_server_stats(upstream, i, &stats);
        if (stats.breaker.open_for_ms && (!least || stats.breaker.open_for_ms < least))
            least = stats.breaker.open_for_ms;
    }
    return MAX(least, whole);
}

int upstream_breaker_force(struct upstream *upstream, struct view server, enum breaker_force force)
{
    uint64_t now = clock_mono_ms();
    bool found = false;

    for (unsigned i = 0; i < upstream_slots(upstream); i++) {
        if (!atomic_load(&upstream->servers[i].active) ||
            (server.len && !view_eq(server, upstream_server_name(upstream, i))))
            continue;
        breaker_force(&upstream->servers[i].breaker, force, now);
        found = true;
    }
    if (server.len == 0)
        breaker_force(&upstream->breaker, force, now);
    return found ? 0 : -ENOENT;
}

void upstream_inherit(struct upstream *upstream, struct upstream *from)
{
    breaker_inherit(&upstream->breaker, &from->breaker);
    for (unsigned i = 0; i < upstream_slots(upstream); i++) {
        struct view name = upstream_server_name(upstream, i);

        for (unsigned k = 0; k < upstream_slots(from); k++) {
            if (!view_eq(name, upstream_server_name(from, k)))
                continue;
            breaker_inherit(&upstream->servers[i].breaker, &from->servers[k].breaker);
            /* Without checks nobody would ever find it healthy again. */
            if (upstream->options.health_path)
                atomic_store(&upstream->servers[i].unhealthy, atomic_load(&from->servers[k].unhealthy));
        }
    }
}
