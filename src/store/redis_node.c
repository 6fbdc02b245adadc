/* One server as one loop sees it: which of its lanes takes a command, whether it is worth asking at all, what time it is there.
 *
 * Breaker: closed -> (failures in a row, or half of the calls late) -> open -> (its time is over; one call as probe) -> closed or
 * open for longer. Only what somebody waits for, answered in time, is a success: a store that answers everything a little too
 * late would otherwise cost every request its timeout.
 *
 * Clock: TIME gives the server's clock at some moment between sending and answer; the middle is wrong by half the round trip at
 * most. Samples are kept against the monotonic clock and turned into the wall clock's terms when asked. They are dropped when
 * the two clocks of this node part (the wall clock was set, or the machine slept): which of them moved cannot be told. */
#include "store/redis_pool.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/heap.h"

#include <errno.h>
#include <sys/random.h>

#define OPEN_FIRST_MS 500u
#define OPEN_MAX_MS 30000u
#define FORGIVE_MS 1000u
#define WINDOW_MS 5000u
#define LATE_MIN 10u
#define CLOCK_STEP_MS 100
#define CLOCK_GRAIN_US 5000u
#define CLOCK_DRIFT_PPM 100u /* quartz is better; a virtual machine's may be as bad */

uint64_t redis_random(void)
{
    uint64_t seed = 0;

    if (getrandom(&seed, sizeof(seed), GRND_NONBLOCK) != (ssize_t)sizeof(seed))
        seed = clock_mono_us() ^ (uint64_t)(uintptr_t)&seed;
    return seed | 1;
}

uint64_t redis_jitter(uint64_t *random, uint64_t value)
{
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    return value - value / 4 + *random % (value / 2 + 1);
}

/* ---- life ---- */

static struct redis_node *find_node(struct redis_pool *pool, const struct redis_target *target)
{
    for (unsigned i = 0; i < pool->node_count; i++) {
        const struct redis_target *have = &pool->nodes[i]->target;

        if (have->port == target->port && strcmp(have->host, target->host) == 0)
            return pool->nodes[i];
    }
    return NULL;
}

static bool node_is_idle(const struct redis_node *node)
{
    for (unsigned i = 0; i < node->pool->redis->lanes; i++)
        if (node->lanes[i] && !redis_lane_is_idle(node->lanes[i]))
            return false;
    return true;
}

/* A place for a new node: a free one, or that of one which left the cluster. */
static unsigned node_place(struct redis_pool *pool)
{
    if (pool->node_count < REDIS_NODES_MAX)
        return pool->node_count;
    for (unsigned i = 1; i < pool->node_count; i++) {
        if (pool->nodes[i]->in_use || !node_is_idle(pool->nodes[i]))
            continue;
        for (unsigned slot = 0; pool->slots && slot < RESP_SLOTS; slot++)
            if (pool->slots[slot] == i)
                pool->slots[slot] = UINT8_MAX;
        redis_node_free(pool->nodes[i]);
        return i;
    }
    return REDIS_NODES_MAX;
}

struct redis_node *redis_node_get(struct redis_pool *pool, struct redis_target *target)
{
    struct redis_node *node = find_node(pool, target);
    unsigned place;

    if (node) {
        heap_free(target->host);
        return node;
    }
    node = heap_zalloc(sizeof(*node));
    place = node ? node_place(pool) : REDIS_NODES_MAX;
    if (place == REDIS_NODES_MAX) {
        heap_free(node);
        return NULL;
    }
    node->pool = pool;
    node->target = *target;
    pool->nodes[place] = node;
    pool->node_count = MAX(pool->node_count, place + 1);
    return node;
}

void redis_node_free(struct redis_node *node)
{
    for (unsigned i = 0; i < REDIS_LANES_MAX; i++)
        redis_lane_free(node->lanes[i]);
    if (node->open)
        redis_count(node->pool, REDIS_BREAKERS, (uint64_t)-1);
    heap_free(node->target.host);
    heap_free(node);
}

/* ---- lanes ---- */

/* What is forgotten has the last lane to itself, when there are two. */
static unsigned call_lanes(const struct redis *redis)
{
    return redis->lanes > 1 ? redis->lanes - 1 : 1;
}

/* The lane, connecting at least; NULL when it is too early for that. */
static struct redis_lane *started(struct redis_node *node, unsigned index, bool force)
{
    struct redis_lane *lane = node->lanes[index];

    if (!lane)
        lane = node->lanes[index] = redis_lane_new(node);
    if (!lane || lane->conn.step != CONN_CLOSED)
        return lane;
    if (!force && loop_now_ms(node->pool->loop) < lane->retry_at_ms)
        return NULL;
    redis_conn_start(&lane->conn);
    lane->started = true;
    redis_count(node->pool, REDIS_OPEN, 1);
    task_wake(&lane->task);
    return lane;
}

struct redis_lane *redis_node_lane(struct redis_node *node, bool forget, bool force)
{
    unsigned count = call_lanes(node->pool->redis), closed = count;
    struct redis_lane *busy = NULL, *connecting = NULL, *fresh;

    if (forget)
        return started(node, node->pool->redis->lanes - 1, force);
    node->next_lane = (node->next_lane + 1) % count;
    for (unsigned i = 0; i < count; i++) {
        unsigned index = (node->next_lane + i) % count;
        struct redis_lane *lane = node->lanes[index];

        if (lane && lane->ready && redis_lane_is_idle(lane))
            return lane;
        if (!lane || lane->conn.step == CONN_CLOSED)
            closed = MIN(closed, index);
        else if (lane->ready)
            busy = busy ? busy : lane;
        else
            connecting = connecting ? connecting : lane;
    }
    /* One attempt at a time; the calls go on over what is up meanwhile. */
    fresh = closed < count && !connecting ? started(node, closed, force) : NULL;
    return busy ? busy : connecting ? connecting : fresh;
}

struct redis_lane *redis_node_ready_lane(const struct redis_node *node)
{
    for (unsigned i = 0; i < node->pool->redis->lanes; i++)
        if (node->lanes[i] && node->lanes[i]->ready)
            return node->lanes[i];
    return NULL;
}

/* ---- breaker ---- */

int redis_node_admit(const struct redis_node *node)
{
    if (!node->open)
        return 0;
    return node->probing || loop_now_ms(node->pool->loop) < node->open_until_ms ? -EHOSTDOWN : 1;
}

void redis_node_succeeded(struct redis_node *node)
{
    node->failures = node->openings = 0;
    node->probing = false;
    if (node->open)
        redis_count(node->pool, REDIS_BREAKERS, (uint64_t)-1);
    node->open = false;
}

static void open_breaker(struct redis_node *node)
{
    struct redis_pool *pool = node->pool;
    uint64_t pause = MIN((uint64_t)OPEN_FIRST_MS << MIN(node->openings, 16u), OPEN_MAX_MS);

    node->open_until_ms = loop_now_ms(pool->loop) + redis_jitter(&pool->random, pause);
    node->openings++;
    node->failures = node->in_time = node->late = 0;
    node->probing = false;
    if (!node->open)
        redis_count(pool, REDIS_BREAKERS, 1);
    node->open = true;
}

void redis_node_reachable(struct redis_pool *pool, const struct redis_target *target)
{
    struct redis_node *node = find_node(pool, target);

    if (!node)
        return;
    node->open_until_ms = 0; /* the next call probes */
    node->openings = 0;
    for (unsigned i = 0; i < REDIS_LANES_MAX; i++)
        if (node->lanes[i])
            node->lanes[i]->retry_at_ms = 0;
}

void redis_node_failed(struct redis_node *node)
{
    struct redis_pool *pool = node->pool;

    if (pool->cluster)
        redis_cluster_refresh(pool, node);
    node->failures++;
    node->failed_at_ms = loop_now_ms(pool->loop);
    /* While it is open only the probe's fate counts; what was sent before it opened fails late. */
    if (node->open ? node->probing : node->failures >= pool->redis->breaker_failures)
        open_breaker(node);
}

void redis_node_answered(struct redis_node *node, const struct redis_request *request)
{
    uint64_t now = loop_now_ms(node->pool->loop);

    bool in_time = request->call && !request->patient;

    if (in_time || request->probe) {
        node->in_time++;
        redis_node_succeeded(node);
    } else if ((request->forget || request->call) && !node->open && now > node->failed_at_ms + FORGIVE_MS) {
        /* That what may take long is done some time says nothing of a store that is slow to read. */
        node->failures = 0;
    }
}

void redis_node_timed_out(struct redis_node *node)
{
    uint64_t now = loop_now_ms(node->pool->loop);

    if (now > node->window_ms + WINDOW_MS) {
        node->window_ms = now;
        node->in_time = node->late = 0;
    }
    node->late++;
    if (!node->open && node->late >= LATE_MIN && node->late >= node->in_time)
        open_breaker(node);
}

/* ---- clock ---- */

static int64_t wall_base_ms(const struct redis_node *node)
{
    return loop_wall_ms(node->pool->loop) - (int64_t)loop_now_ms(node->pool->loop);
}

/* What it can be wrong by at `now_us`. */
static uint64_t error_at(const struct redis_sample *sample, uint64_t now_us)
{
    uint64_t age_us = now_us - MIN(now_us, sample->at_us);

    return sample->error_us + age_us / (1000000 / CLOCK_DRIFT_PPM);
}

/* Two samples that cannot both be true: the server's clock was set, or another server answers there. */
static bool contradicts(const struct redis_sample *old, const struct redis_sample *new)
{
    int64_t apart = old->offset_us - new->offset_us;
    uint64_t allowed = error_at(old, new->at_us) + new->error_us + CLOCK_GRAIN_US;

    return (uint64_t)(apart < 0 ? -apart : apart) > allowed;
}

void redis_node_sample(struct redis_node *node, uint64_t sent_us, uint64_t server_us)
{
    uint64_t now_us = clock_mono_us(), half = (now_us - sent_us) / 2;
    int64_t base = wall_base_ms(node), step = base - node->wall_base_ms;
    struct redis_sample sample = {
        .offset_us = (int64_t)server_us - (int64_t)(sent_us + half),
        .error_us = half,
        .at_us = now_us,
    };
    bool consistent = step <= CLOCK_STEP_MS && step >= -CLOCK_STEP_MS;

    for (unsigned i = 0; i < node->sample_count && consistent; i++)
        consistent = !contradicts(&node->samples[i], &sample);
    if (!consistent)
        node->sample_count = node->sample_next = 0;
    node->wall_base_ms = base;
    node->samples[node->sample_next] = sample;
    node->sample_next = (node->sample_next + 1) % REDIS_CLOCK_SAMPLES;
    node->sample_count = MIN(node->sample_count + 1, REDIS_CLOCK_SAMPLES);
}

static void measure_again(struct redis_node *node)
{
    node->sample_count = node->sample_next = 0;
    for (unsigned i = 0; i < node->pool->redis->lanes; i++)
        if (node->lanes[i] && node->lanes[i]->ready)
            redis_lane_ask_time(node->lanes[i]);
}

void redis_node_clock(struct redis_node *node, struct redis_clock *ret)
{
    int64_t base = wall_base_ms(node), step = base - node->wall_base_ms, best_offset = 0;
    uint64_t now_us = loop_now_ms(node->pool->loop) * 1000, best = UINT64_MAX;

    *ret = (struct redis_clock){ .known = false };
    if (node->sample_count == 0)
        return;
    if (step > CLOCK_STEP_MS || step < -CLOCK_STEP_MS) {
        measure_again(node);
        return;
    }
    for (unsigned i = 0; i < node->sample_count; i++) {
        uint64_t error_us = error_at(&node->samples[i], now_us);

        if (error_us < best) {
            best = error_us;
            best_offset = node->samples[i].offset_us;
        }
    }
    /* Two clocks read in whole milliseconds. */
    ret->error_ms = (uint32_t)MIN(best / 1000 + 2, UINT32_MAX);
    ret->offset_ms = (best_offset >= 0 ? best_offset + 500 : best_offset - 500) / 1000 - base;
    ret->known = true;
}
