/* Checks and SRV records, on one loop.
 *
 * A check is an exchange of our own that goes to one server whatever its breaker says, past limit and queue. Each slot of the
 * upstream has one; it runs while the slot is active. SRV names are asked again when their TTL is over; while name servers
 * fail the last answer stays in use. */
#include "upstream/keeper.h"

#include "base/heap.h"
#include "net/dns.h"
#include "upstream/exchange_internal.h"
#include "upstream/health.h"

#include <errno.h>

#define SRV_RETRY_MS 1000u

struct check {
    struct keeper *keeper;
    unsigned server;
    uint32_t generation; /* of the slot, when it was last looked at */
    struct task task;
    struct timer timer;
    struct exchange *x;
    struct health_mark mark;
    struct text head; /* kept until the exchange is closed */
};

struct srv_watch {
    struct keeper *keeper;
    const struct upstream_srv *srv;
    struct task task;
    struct timer timer;
    struct dns_srv query;
};

struct keeper {
    struct upstream *upstream;
    struct pool *pool;
    struct check checks[UPSTREAM_SERVERS_MAX];
    struct srv_watch *watches;
    unsigned watch_count;
    bool checking;
};

/* ---- checks ---- */

static uint32_t jittered(struct pool *pool, uint32_t ms)
{
    return ms - ms / 10 + (ms >= 10 ? pool_random(pool) % (ms / 5 + 1) : 0);
}

static bool is_good_status(const struct upstream_options *o, unsigned status)
{
    if (!o->health_statuses[0])
        return status >= 200 && status < 300;
    for (unsigned i = 0; i < UPSTREAM_STATUSES_MAX && o->health_statuses[i]; i++)
        if (o->health_statuses[i] == status)
            return true;
    return false;
}

static bool make_head(struct check *c)
{
    const struct upstream *up = c->keeper->upstream;
    const char *host = up->options.health_host ? up->options.health_host : upstream_target(up, c->server)->authority;
    size_t cap = strlen(up->options.health_path) + strlen(host) + 128;

    c->head = text_make(heap_alloc(cap), cap);
    if (!c->head.ptr)
        return false;
    text_printf(&c->head, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: doorstep\r\nConnection: close\r\n\r\n",
                up->options.health_path, host);
    return true;
}

static void check_end(struct check *c)
{
    exchange_close(c->x);
    c->x = NULL;
    heap_free(c->head.ptr);
    c->head.ptr = NULL;
}

static void check_judge(struct check *c, bool good)
{
    const struct upstream_options *o = &c->keeper->upstream->options;
    struct upstream_server *server = &c->keeper->upstream->servers[c->server];

    check_end(c);
    c->mark.out = atomic_load_explicit(&server->unhealthy, memory_order_relaxed); /* may have been inherited */
    if (health_note(&c->mark, good, o->healthy, o->unhealthy)) {
        if (!c->mark.out)
            atomic_store_explicit(&server->back_ms, loop_now_ms(c->keeper->pool->loop), memory_order_relaxed);
        atomic_store_explicit(&server->unhealthy, c->mark.out, memory_order_relaxed);
    }
    timer_set(&c->timer, jittered(c->keeper->pool, o->health_interval_ms));
}

static void check_start(struct check *c)
{
    struct exchange_request request = {
        .method = METHOD_GET,
        .deadline_ms = loop_now_ms(c->keeper->pool->loop) + c->keeper->upstream->options.health_timeout_ms,
    };
    int r = make_head(c) ? 0 : -ENOMEM;

    request.head = text_view(&c->head);
    if (r == 0)
        r = exchange_start_check(&c->x, c->keeper->upstream, &c->task, &request, c->server);
    if (r < 0) {
        check_end(c); /* memory is out: that is not the server's fault */
        timer_set(&c->timer, c->keeper->upstream->options.health_interval_ms);
    }
}

static void check_run(struct task *task)
{
    struct check *c = CONTAINER_OF(task, struct check, task);
    struct upstream_server *server = &c->keeper->upstream->servers[c->server];
    uint32_t generation = atomic_load(&server->generation);

    if (!atomic_load(&server->active) || generation != c->generation) {
        check_end(c);
        c->mark = (struct health_mark){ .out = false };
        c->generation = generation;
        if (!atomic_load(&server->active)) {
            timer_clear(&c->timer); /* keeper_look_again() wakes us when the slot is used again */
            return;
        }
    }
    if (!c->x && (c->timer.fired || !c->timer.expires_ms)) {
        timer_clear(&c->timer);
        check_start(c);
    }
    if (!c->x)
        return;
    if (exchange_state(c->x) == EXCHANGE_FAILED)
        check_judge(c, false);
    else if (exchange_head(c->x))
        check_judge(c, is_good_status(&c->keeper->upstream->options, exchange_head(c->x)->status));
}

static void look_again(struct keeper *k)
{
    for (unsigned i = 0; k->checking && i < upstream_slots(k->upstream); i++)
        task_wake(&k->checks[i].task);
}

/* ---- SRV ---- */

static void watch_run(struct task *task)
{
    struct srv_watch *w = CONTAINER_OF(task, struct srv_watch, task);
    struct keeper *k = w->keeper;

    if (w->query.state == DNS_SRV_DONE) {
        uint64_t again = SRV_RETRY_MS;

        w->query.state = DNS_SRV_IDLE;
        if (w->query.error == 0) {
            upstream_take_targets(k->upstream, w->srv, &w->query, loop_now_ms(k->pool->loop));
            again = w->query.ttl_ms;
        }
        atomic_store(&k->upstream->srv_answered, true);
        look_again(k);
        timer_set(&w->timer, again);
    } else if (w->query.state == DNS_SRV_IDLE && (w->timer.fired || !w->timer.expires_ms)) {
        timer_clear(&w->timer);
        if (dns_srv_ask(k->pool->loop, view_str(w->srv->name), &w->query) < 0)
            timer_set(&w->timer, SRV_RETRY_MS);
    }
}

/* ---- life ---- */

struct keeper *keeper_new(struct upstream *upstream, struct loop *loop)
{
    struct keeper *k = heap_zalloc(sizeof(*k));

    if (!k)
        return NULL;
    k->watches = heap_zalloc((upstream->srv_count + 1) * sizeof(*k->watches));
    if (!k->watches || pool_get(&k->pool, upstream, loop) < 0) {
        heap_free(k->watches);
        heap_free(k);
        return NULL;
    }
    k->upstream = upstream;
    k->checking = upstream->options.health_path != NULL;
    for (unsigned i = 0; i < UPSTREAM_SERVERS_MAX; i++) {
        struct check *c = &k->checks[i];

        c->keeper = k;
        c->server = i;
        task_init(&c->task, loop, check_run);
        timer_init(&c->timer, &c->task);
    }
    for (; k->watch_count < upstream->srv_count; k->watch_count++) {
        struct srv_watch *w = &k->watches[k->watch_count];

        w->keeper = k;
        w->srv = &upstream->srvs[k->watch_count];
        w->query.task = &w->task;
        task_init(&w->task, loop, watch_run);
        timer_init(&w->timer, &w->task);
        task_wake(&w->task);
    }
    look_again(k);
    return k;
}

void keeper_free(struct keeper *keeper)
{
    if (!keeper)
        return;
    for (unsigned i = 0; i < UPSTREAM_SERVERS_MAX; i++) {
        check_end(&keeper->checks[i]);
        timer_clear(&keeper->checks[i].timer);
        task_cancel(&keeper->checks[i].task);
    }
    for (unsigned i = 0; i < keeper->watch_count; i++) {
        dns_srv_cancel(&keeper->watches[i].query);
        timer_clear(&keeper->watches[i].timer);
        task_cancel(&keeper->watches[i].task);
    }
    heap_free(keeper->watches);
    heap_free(keeper);
}
