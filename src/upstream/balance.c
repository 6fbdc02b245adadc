/* Three ways to choose. Weights are relative; servers that ramp up have small ones. */
#include "upstream/balance.h"

#include "base/compiler.h"

#include <math.h>
#include <stdbool.h>

/* Smooth: everybody gains its weight, the richest is chosen and pays what was handed out. */
static unsigned pick_in_turn(const struct balance_server *list, unsigned count, unsigned turn)
{
    unsigned best = turn % count;
    int64_t total = 0;

    for (unsigned i = 0; i < count; i++) {
        *list[i].current += list[i].weight;
        total += list[i].weight;
    }
    for (unsigned k = 0; k < count; k++) {
        unsigned i = (turn + k) % count;

        if (*list[i].current > *list[best].current)
            best = i;
    }
    *list[best].current -= total;
    return best;
}

static unsigned pick_at_random(const struct balance_server *list, unsigned count, uint32_t random, unsigned except)
{
    uint64_t total = 0, at;

    for (unsigned i = 0; i < count; i++)
        total += i == except ? 0 : list[i].weight;
    at = total * random >> 32;
    for (unsigned i = 0; i < count; i++) {
        if (i == except)
            continue;
        if (at < list[i].weight)
            return i;
        at -= list[i].weight;
    }
    return except == 0 ? 1 : 0;
}

static bool is_less_loaded(const struct balance_server *a, const struct balance_server *b)
{
    return ((uint64_t)a->in_flight + 1) * b->weight < ((uint64_t)b->in_flight + 1) * a->weight;
}

static unsigned pick_least(const struct balance_server *list, unsigned count, uint64_t random)
{
    unsigned a = pick_at_random(list, count, (uint32_t)random, UINT32_MAX);
    unsigned b = pick_at_random(list, count, (uint32_t)(random >> 32), a);

    return is_less_loaded(&list[b], &list[a]) ? b : a;
}

static uint64_t mix(uint64_t a)
{
    a = (a ^ (a >> 30)) * 0xBF58476D1CE4E5B9u;
    a = (a ^ (a >> 27)) * 0x94D049BB133111EBu;
    return a ^ (a >> 31);
}

/* Weighted rendezvous: each draws -w / ln(u), u in (0, 1) by the key and its own name; the highest wins. */
static unsigned pick_by_key(const struct balance_server *list, unsigned count, uint64_t key)
{
    double highest = -1;
    unsigned best = 0;

    for (unsigned i = 0; i < count; i++) {
        double u = ((double)(mix(key ^ mix(list[i].hash)) >> 11) + 0.5) / 9007199254740992.0;
        double score = -(double)list[i].weight / log(u);

        if (score > highest) {
            highest = score;
            best = i;
        }
    }
    return best;
}

unsigned balance_pick(enum balance how, const struct balance_server *list, unsigned count, unsigned turn,
                      uint64_t random, uint64_t key)
{
    if (count == 1)
        return 0;
    switch (how) {
    case BALANCE_LEAST_REQUESTS: return pick_least(list, count, random);
    case BALANCE_HASH: return pick_by_key(list, count, key);
    case BALANCE_ROUND_ROBIN: break;
    }
    return pick_in_turn(list, count, turn);
}
