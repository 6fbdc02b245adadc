/* Redis Cluster: a table of 16384 slots says which server has a key. It is asked for (CLUSTER SLOTS) when a server turns out to be
 * part of a cluster, after a MOVED, and when a server fails; a second at least lies between two questions. Until it is there,
 * and where it is wrong, servers redirect: MOVED corrects the table, ASK goes once to the other server with ASKING before. */
#include "store/redis_pool.h"

#include "base/heap.h"

#include <errno.h>

#define REFRESH_MS 1000u
#define SLOT_UNKNOWN UINT8_MAX

_Static_assert(REDIS_NODES_MAX < SLOT_UNKNOWN, "a node's number fits a slot");

static int make_table(struct redis_pool *pool)
{
    if (pool->slots)
        return 0;
    pool->slots = heap_alloc(RESP_SLOTS);
    if (!pool->slots)
        return -ENOMEM;
    memset(pool->slots, SLOT_UNKNOWN, RESP_SLOTS);
    return 0;
}

struct redis_node *redis_cluster_node(struct redis_pool *pool, struct view key)
{
    uint8_t number;

    if (!pool->slots || !key.ptr)
        return pool->nodes[0];
    number = pool->slots[resp_slot(key)];
    return pool->nodes[number == SLOT_UNKNOWN ? 0 : number];
}

static uint8_t number_of(const struct redis_pool *pool, const struct redis_node *node)
{
    uint8_t i = 0;

    while (pool->nodes[i] != node)
        i++;
    return i;
}

/* ---- asking ---- */

/* Of a server that answers, or at least one that has not failed. */
static struct redis_lane *lane_to_ask(struct redis_pool *pool, const struct redis_node *except)
{
    struct redis_lane *lane = NULL;

    for (unsigned i = 0; i < pool->node_count && !lane; i++)
        if (pool->nodes[i] != except && !pool->nodes[i]->open)
            lane = redis_node_ready_lane(pool->nodes[i]);
    for (unsigned i = 0; i < pool->node_count && !lane; i++)
        if (pool->nodes[i] != except && !pool->nodes[i]->open)
            lane = redis_node_lane(pool->nodes[i], false, false);
    return lane;
}

void redis_cluster_refresh(struct redis_pool *pool, const struct redis_node *except)
{
    static const struct view args[] = { { "CLUSTER", 7 }, { "SLOTS", 5 } };
    uint64_t now = loop_now_ms(pool->loop);
    struct redis_lane *lane;

    if (pool->closed || pool->slots_asked || (pool->slots_at_ms && now < pool->slots_at_ms + REFRESH_MS))
        return;
    lane = lane_to_ask(pool, except);
    if (!lane)
        return; /* whoever connects next asks, or is redirected and asks then */
    pool->slots_at_ms = now;
    pool->slots_asked = redis_lane_ask(lane, REQUEST_SLOTS, args, 2) == 0;
}

/* ---- learning ---- */

/* [first, last, [host, port, ...], replicas ...] */
static void learn_range(struct redis_lane *from, const struct resp_value *range, uint8_t *slots)
{
    const struct resp_value *master = range->count > 2 ? &range->items[2] : NULL;
    struct redis_target target;
    struct redis_node *node;
    struct view host;

    if (range->type != RESP_ARRAY || !master || master->type != RESP_ARRAY || master->count < 2 ||
        range->items[0].type != RESP_INTEGER || range->items[1].type != RESP_INTEGER ||
        master->items[1].type != RESP_INTEGER || master->items[1].integer <= 0 ||
        master->items[1].integer > UINT16_MAX || range->items[0].integer < 0 ||
        range->items[1].integer >= (int64_t)RESP_SLOTS)
        return;
    /* A server that does not know its own name means the one we reached it by. */
    host = master->items[0].type == RESP_STRING ? master->items[0].text : VIEW_NONE;
    if (host.len == 0 || view_eq(host, VIEW("?")))
        host = view_str(from->node->target.host);
    if (host.len == 0 || host.len > 255 || memchr(host.ptr, '\0', host.len))
        return;
    target = (struct redis_target){ heap_strdup(host.ptr, host.len), (uint16_t)master->items[1].integer };
    if (!target.host)
        return;
    node = redis_node_get(from->node->pool, &target);
    if (!node) {
        heap_free(target.host);
        return;
    }
    node->in_use = true;
    for (int64_t slot = range->items[0].integer; slot <= range->items[1].integer; slot++)
        slots[slot] = number_of(from->node->pool, node);
}

/* Connections to servers that left have nothing to do. */
static void close_unused(struct redis_pool *pool)
{
    for (unsigned i = 1; i < pool->node_count; i++)
        for (unsigned j = 0; j < pool->redis->lanes && !pool->nodes[i]->in_use; j++)
            if (pool->nodes[i]->lanes[j] && redis_lane_is_idle(pool->nodes[i]->lanes[j]))
                redis_lane_close(pool->nodes[i]->lanes[j], -ECANCELED);
}

void redis_cluster_learn(struct redis_lane *from, const struct resp_value *reply)
{
    struct redis_pool *pool = from->node->pool;

    if (reply->type != RESP_ARRAY || reply->count == 0 || make_table(pool) < 0)
        return;
    for (unsigned i = 1; i < pool->node_count; i++)
        pool->nodes[i]->in_use = pool->nodes[i] == from->node;
    memset(pool->slots, SLOT_UNKNOWN, RESP_SLOTS);
    for (size_t i = 0; i < reply->count; i++)
        learn_range(from, &reply->items[i], pool->slots);
    close_unused(pool);
}

/* ---- redirections ---- */

/* "MOVED 3999 127.0.0.1:6381": the slot, the server. */
static int parse_redirect(struct view error, const char *fallback, unsigned *ret_slot, struct redis_target *ret)
{
    struct view rest = error, slot_text;
    uint64_t slot;

    view_cut(&rest, ' ');
    slot_text = view_cut(&rest, ' ');
    if (!view_parse_u64(slot_text, &slot) || slot >= RESP_SLOTS)
        return -EBADMSG;
    *ret_slot = (unsigned)slot;
    return redis_target_parse(view_cut(&rest, ' '), fallback, ret);
}

static struct redis_node *redirect_node(struct redis_pool *pool, struct view error, bool moved, const char *fallback)
{
    struct redis_target target;
    struct redis_node *node;
    unsigned slot;

    if (parse_redirect(error, fallback, &slot, &target) < 0)
        return NULL;
    node = redis_node_get(pool, &target);
    if (!node) {
        heap_free(target.host);
        return NULL;
    }
    if (moved && make_table(pool) == 0) {
        node->in_use = true;
        pool->slots[slot] = number_of(pool, node);
    }
    return node;
}

bool redis_cluster_redirect(struct redis_request *request, struct view error)
{
    static const struct view asking[] = { { "ASKING", 6 } };
    struct redis_lane *from = request->lane, *lane;
    struct redis_pool *pool = from->node->pool;
    bool moved = view_starts_with(error, VIEW("MOVED ")), ask = view_starts_with(error, VIEW("ASK "));
    struct redis_node *node;

    if ((!moved && !ask) || (!request->call && !request->forget))
        return false;
    if (moved) {
        pool->cluster = true;
        redis_cluster_refresh(pool, NULL);
    }
    if (request->redirects >= REDIS_REDIRECTS_MAX)
        return false;
    node = redirect_node(pool, error, moved, from->node->target.host);
    /* Another server's breaker is not ours to probe. */
    lane = node && redis_node_admit(node) == 0 ? redis_node_lane(node, request->forget, false) : NULL;
    if (!lane || (ask && redis_lane_ask(lane, REQUEST_ASKING, asking, 1) < 0))
        return false;
    redis_node_succeeded(from->node);
    redis_count(pool, REDIS_REDIRECTS, 1);
    request->probe = false;
    request->redirects++;
    list_remove(&request->link);
    redis_lane_queue(lane, request);
    return true;
}
