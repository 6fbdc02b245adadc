/* A timer sits in the level whose slots are just wide enough for its distance; when time reaches a slot of a higher level,
 * its timers are refiled lower. An extended timer stays where it was and is refiled when its old slot comes up, so that
 * pushing a timeout forward for every request costs nothing. */
#include "loop/timers.h"

#include "base/check.h"

#define TIMER_TICK_MS 4u
#define LEVEL_BITS 6

static unsigned slot_of(uint64_t tick, int level)
{
    return (unsigned)(tick >> (level * LEVEL_BITS)) & (TIMER_SLOTS - 1);
}

void timers_init(struct timers *timers, uint64_t now_ms)
{
    for (int level = 0; level < TIMER_LEVELS; level++) {
        timers->occupied[level] = 0;
        for (int slot = 0; slot < TIMER_SLOTS; slot++)
            list_init(&timers->slots[level][slot]);
    }
    timers->tick = now_ms / TIMER_TICK_MS;
}

void timers_file(struct timers *timers, struct timer *timer)
{
    /* Rounded up: a timer never fires early. */
    uint64_t due = (timer->expires_ms + TIMER_TICK_MS - 1) / TIMER_TICK_MS;
    uint64_t distance;
    int level = 0;

    due = MAX(due, timers->tick + 1);
    distance = due - timers->tick;
    while (level < TIMER_LEVELS - 1 && distance >= (uint64_t)1 << ((level + 1) * LEVEL_BITS))
        level++;
    if (distance >= (uint64_t)1 << (TIMER_LEVELS * LEVEL_BITS))
        due = timers->tick + ((uint64_t)1 << (TIMER_LEVELS * LEVEL_BITS)) - 1;
    list_remove(&timer->link);
    list_push(&timers->slots[level][slot_of(due, level)], &timer->link);
    timers->occupied[level] |= (uint64_t)1 << slot_of(due, level);
    timer->slot_ms = due * TIMER_TICK_MS;
}

static void expire_or_refile(struct timers *timers, struct timer *timer)
{
    if (timer->expires_ms > timers->tick * TIMER_TICK_MS) {
        timers_file(timers, timer);
        return;
    }
    timer->fired = true;
    task_wake(timer->task);
}

static void empty_slot(struct timers *timers, int level, unsigned slot)
{
    struct node due, *link;

    timers->occupied[level] &= ~((uint64_t)1 << slot);
    list_take(&due, &timers->slots[level][slot]);
    while ((link = list_pop(&due)))
        expire_or_refile(timers, CONTAINER_OF(link, struct timer, link));
}

void timers_fire(struct timers *timers, uint64_t now_ms)
{
    uint64_t now = now_ms / TIMER_TICK_MS;

    while (timers->tick < now) {
        /* Nothing below level `skip` is filed: jump to where the next level needs a look. */
        if (!timers->occupied[0] && slot_of(timers->tick, 0) != TIMER_SLOTS - 1) {
            uint64_t boundary = timers->tick | (TIMER_SLOTS - 1);

            timers->tick = MIN(boundary, now);
            continue;
        }
        timers->tick++;
        for (int level = TIMER_LEVELS - 1; level > 0; level--)
            if ((timers->tick & (((uint64_t)1 << (level * LEVEL_BITS)) - 1)) == 0)
                empty_slot(timers, level, slot_of(timers->tick, level));
        empty_slot(timers, 0, slot_of(timers->tick, 0));
    }
}

int timers_next_ms(struct timers *timers, uint64_t now_ms)
{
    uint64_t best = UINT64_MAX;

    for (int level = 0; level < TIMER_LEVELS; level++) {
        unsigned here = slot_of(timers->tick, level), ahead;
        uint64_t turned, start;

        if (!timers->occupied[level])
            continue;
        /* Rotate so that bit 0 is the slot after the present one. */
        turned = timers->occupied[level] >> ((here + 1) & 63);
        if ((here + 1) & 63)
            turned |= timers->occupied[level] << (64 - ((here + 1) & 63));
        ahead = (unsigned)__builtin_ctzll(turned) + 1;
        start = ((timers->tick >> (level * LEVEL_BITS)) + ahead) << (level * LEVEL_BITS);
        best = MIN(best, start);
    }
    if (best == UINT64_MAX)
        return -1;
    best *= TIMER_TICK_MS;
    return best <= now_ms ? 0 : (int)MIN(best - now_ms, 3600000u);
}
