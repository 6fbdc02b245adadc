/* Filters the servers, lets balance.c choose, asks the chosen one's breaker. A breaker may say no although it looked willing (its
 * one probe went to another loop): then the rest is asked. */
#include "upstream/choose.h"

#include "base/check.h"

#include <errno.h>

#define SHARE_FULL 1000u

static bool is_usable(struct upstream_server *server, uint64_t now_ms)
{
    return atomic_load_explicit(&server->active, memory_order_relaxed) &&
           !atomic_load_explicit(&server->unhealthy, memory_order_relaxed) && breaker_may(&server->breaker, now_ms);
}

bool choose_possible(struct pool *pool, uint32_t tried)
{
    uint64_t now = loop_now_ms(pool->loop);

    for (unsigned i = 0; i < upstream_slots(pool->upstream); i++)
        if (!(tried & 1u << i) && is_usable(&pool->upstream->servers[i], now))
            return true;
    return false;
}

struct candidates {
    struct balance_server list[UPSTREAM_SERVERS_MAX];
    unsigned count;
    uint32_t share;  /* the largest among them */
    bool room, safe; /* kinds of servers that are preferred, as far as there are any */
};

/* RFC 2782: the lowest number first; the others only when none of those can be asked. */
static unsigned first_priority(struct upstream *up, uint32_t tried, uint64_t now_ms)
{
    unsigned lowest = UINT32_MAX;

    for (unsigned i = 0; i < upstream_slots(up); i++)
        if (!(tried & 1u << i) && is_usable(&up->servers[i], now_ms))
            lowest = MIN(lowest, (unsigned)upstream_target(up, i)->priority);
    return lowest;
}

/* One pass finds out what there is, the second takes the best kind. */
static void find_candidates(struct pool *pool, const struct choose_ask *ask, struct candidates *ret)
{
    uint64_t now = loop_now_ms(pool->loop);
    unsigned priority = first_priority(pool->upstream, ask->tried, now);

    ret->room = ret->safe = false;
    for (unsigned pass = 0; pass < 2; pass++) {
        bool any_room = false, any_safe = false;

        ret->count = ret->share = 0;
        for (unsigned i = 0; i < upstream_slots(pool->upstream); i++) {
            struct upstream_server *server = &pool->upstream->servers[i];
            const struct upstream_target *target = upstream_target(pool->upstream, i);
            bool room = !pool_is_full(pool, i), safe = ask->replayable || breaker_is_trusted(&server->breaker);

            if (ask->tried & 1u << i || !is_usable(server, now) || target->priority != priority ||
                (ret->room && !room) || (ret->safe && !safe))
                continue;
            any_room = any_room || (room && safe);
            any_safe = any_safe || safe;
            ret->share = MAX(ret->share, breaker_share(&server->breaker, now));
            ret->list[ret->count++] = (struct balance_server){
                .index = i,
                .weight = MAX(upstream_share(pool->upstream, i, now), 1u) * target->weight,
                .in_flight = atomic_load_explicit(&server->in_flight, memory_order_relaxed),
                .hash = target->hash,
                .current = &pool->servers[i].turn,
            };
        }
        ret->room = any_room;
        ret->safe = any_safe;
    }
}

/* While every server that could take it has just failed and is ramping up, only a share of the requests is let through. */
static bool is_shed(struct pool *pool, const struct candidates *from)
{
    return from->share < SHARE_FULL && pool_random(pool) % SHARE_FULL >= from->share;
}

static bool admit(struct pool *pool, unsigned server, struct choice *ret)
{
    struct upstream_server *s = &pool->upstream->servers[server];
    struct choice choice = { .server = server, .since_ms = loop_now_ms(pool->loop), .held = true };

    if (!breaker_admit(&s->breaker, choice.since_ms, &choice.ticket))
        return false;
    atomic_fetch_add_explicit(&s->in_flight, 1, memory_order_relaxed);
    *ret = choice;
    return true;
}

int choose_server(struct pool *pool, const struct choose_ask *ask, struct choice *ret)
{
    struct choose_ask now = *ask;
    struct candidates found;

    for (;;) {
        unsigned at, server;
        uint64_t random;

        find_candidates(pool, &now, &found);
        if (found.count == 0 || (now.tried == ask->tried && is_shed(pool, &found)))
            return -ENOENT;
        random = (uint64_t)pool_random(pool) << 32 | pool_random(pool);
        at = balance_pick(pool->upstream->options.balance, found.list, found.count, loop_index(pool->loop), random,
                          ask->key);
        server = found.list[at].index;
        if (admit(pool, server, ret))
            return 0;
        now.tried |= 1u << server;
    }
}

int choose_same(struct pool *pool, unsigned server, struct choice *ret)
{
    return is_usable(&pool->upstream->servers[server], loop_now_ms(pool->loop)) && admit(pool, server, ret) ? 0
                                                                                                            : -ENOENT;
}

bool choose_is_void(struct pool *pool, const struct choice *choice)
{
    struct upstream_server *server = &pool->upstream->servers[choice->server];

    return !choice->ticket.probe && (!atomic_load_explicit(&server->active, memory_order_relaxed) ||
                                     atomic_load_explicit(&server->unhealthy, memory_order_relaxed) ||
                                     breaker_is_open(&server->breaker, loop_now_ms(pool->loop)));
}

uint64_t choice_took(const struct choice *choice, uint64_t now_ms)
{
    return (choice->answered_ms ? choice->answered_ms : now_ms) - choice->since_ms;
}

void choose_report(struct pool *pool, struct choice *choice, enum breaker_outcome outcome)
{
    uint64_t now = loop_now_ms(pool->loop);

    if (!choice->held || choice->reported)
        return;
    choice->reported = true;
    breaker_report(&pool->upstream->servers[choice->server].breaker, choice->ticket, outcome, choice_took(choice, now),
                   now);
}

void choose_end(struct pool *pool, struct choice *choice)
{
    if (!choice->held)
        return;
    choose_report(pool, choice, BREAKER_NOTHING);
    choice->held = false;
    atomic_fetch_sub_explicit(&pool->upstream->servers[choice->server].in_flight, 1, memory_order_relaxed);
}
