/* Climbs: one search for one key, by steps, on its own task.
 *
 *     DISK -> (the key has variants: once more, for the variant) -> SHARED -> (variant) -> LEASE -> END
 *                                                                      ^------- PAUSE <----'
 *
 * It ends early with the first response that is fresh; of two stale ones the younger wins. It belongs to its waiters: when the
 * last one leaves it is over. What is found goes into memory by the way, whether or not somebody still waits. */
#include "cache/ladder_internal.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/heap.h"
#include "cache/freshness.h"
#include "cache/vary.h"

#include <errno.h>

/* Clocks of two nodes, read over the store, differ by a few milliseconds. */
#define CLOCK_SLACK_MS 50
/* How often those who wait for another node's fetch look whether it has come. */
#define LEASE_PAUSE_MS 20

enum climb_step {
    CLIMB_DISK,
    CLIMB_DISK_READ,
    CLIMB_SHARED,
    CLIMB_SHARED_READ,
    CLIMB_LEASE,
    CLIMB_LEASE_WAIT,
    CLIMB_PAUSE,
    CLIMB_END
};

struct climb {
    struct task task;
    struct timer timer;
    struct node link;
    struct node waiters;
    struct ladder *ladder;
    struct key key; /* its text lies behind the struct */
    enum climb_step step;
    uint32_t drops;
    bool ask_disk, ask_shared, ask_lease;
    enum ladder_disk keep;
    bool variant;        /* the present rung said that the key has variants */
    uint64_t generation; /* of them, there */
    struct disk_get *disk_get;
    struct shared_get shared_get;
    bool shared_busy;
    struct object *best;
    enum rung rung;
    bool leased;
    uint64_t rung_us, deadline_ms;
    uint32_t disk_us, shared_us;
    struct text values; /* of the asking request, for the variants' names; empty: not needed so far */
    char values_memory[VALUES_MAX];
    char key_memory[];
};

struct view rung_name(enum rung rung)
{
    static const struct view names[] = { { "memory", 6 }, { "disk", 4 }, { "shared", 6 } };

    return rung < RUNG_COUNT ? names[rung] : VIEW_NONE;
}

/* ---- life ---- */

int ladder_new(const struct ladder_options *options, struct ladder **ret)
{
    struct ladder *ladder = heap_zalloc(sizeof(*ladder));

    if (!ladder)
        return -ENOMEM;
    CHECK(options->loops <= LADDER_LOOPS_MAX);
    ladder->options = *options;
    *ret = ladder;
    return 0;
}

struct ladder_loop *ladder_loop(struct ladder *ladder, struct loop *loop)
{
    struct ladder_loop *here = &ladder->loops[loop_index(loop)];

    if (!here->ready) {
        for (unsigned i = 0; i < CLIMB_BUCKETS; i++)
            list_init(&here->climbs[i]);
        list_init(&here->puts);
        list_init(&here->unlinks);
        here->ready = true;
    }
    return here;
}

void ladder_loop_close(struct ladder *ladder, struct loop *loop)
{
    struct ladder_loop *here = ladder_loop(ladder, loop);

    for (unsigned i = 0; i < CLIMB_BUCKETS; i++)
        CHECK(list_empty(&here->climbs[i]));
    ladder_puts_close(here);
}

void ladder_free(struct ladder *ladder)
{
    heap_free(ladder);
}

bool ladder_may_have(struct ladder *ladder, const struct ladder_query *query)
{
    return (query->shared && ladder->options.shared) ||
           (query->disk && ladder->options.disk && disk_has(ladder->options.disk, entry_key_primary(query->key)));
}

static void climb_run(struct task *task);

static struct climb *climb_new(struct ladder *ladder, const struct ladder_query *query, struct loop *loop)
{
    struct climb *climb = heap_alloc(sizeof(*climb) + query->key->text.len);

    if (!climb)
        return NULL;
    memset(climb, 0, offsetof(struct climb, values_memory));
    task_init(&climb->task, loop, climb_run);
    timer_init(&climb->timer, &climb->task);
    list_init(&climb->waiters);
    climb->ladder = ladder;
    climb->drops = ladder_drops(ladder, query->key);
    climb->key = *query->key;
    memcpy(climb->key_memory, query->key->text.ptr, query->key->text.len);
    climb->key.text.ptr = climb->key_memory;
    climb->ask_disk = query->disk && ladder->options.disk;
    climb->ask_shared = query->shared && ladder->options.shared;
    climb->ask_lease = climb->ask_shared && query->lease && ladder->options.lease_ms;
    climb->keep = query->keep;
    climb->values = text_make(climb->values_memory, sizeof(climb->values_memory));
    climb->rung_us = clock_mono_us();
    list_push(&ladder_loop(ladder, loop)->climbs[climb->key.hash[0] % CLIMB_BUCKETS], &climb->link);
    return climb;
}

static void climb_free(struct climb *climb)
{
    disk_get_cancel(climb->disk_get);
    if (climb->shared_busy)
        shared_get_cancel(&climb->shared_get);
    /* Nobody will make the fetch that others were told to wait for. */
    if (climb->leased)
        shared_lease_release(climb->ladder->options.shared, climb->task.loop, entry_key_primary(&climb->key));
    timer_clear(&climb->timer);
    task_cancel(&climb->task);
    list_remove(&climb->link);
    object_unref(climb->best);
    heap_free(climb);
}

/* ---- what is found ---- */

static bool is_fresh(const struct object *object)
{
    return !(object->flags & OBJECT_NO_CACHE) && !atomic_load(&object->soft_purged) &&
           object_ttl_ms(&object->times, clock_wall_ms()) > 0;
}

/* Was it asked for before a write that went through this node? Another node may have put it into the store later. */
static bool is_from_before_write(const struct climb *climb, const struct object *object)
{
    int64_t asked_ms = object->times.response_ms - object->times.initial_age_ms;

    return asked_ms <= atomic_load(&climb->ladder->dropped_ms[climb->key.hash[1] % DROP_SLOTS]) + CLOCK_SLACK_MS;
}

/* Takes the reference. False: what was found is no longer good. */
static bool consider(struct climb *climb, struct object *object, enum rung rung)
{
    struct marks *marks = climb->ladder->options.marks;
    enum mark_verdict verdict = rung == RUNG_SHARED ? marks_check_foreign(marks, object) : marks_check(marks, object);

    if (verdict == MARKS_HARD || (rung == RUNG_SHARED && is_from_before_write(climb, object)) ||
        (climb->variant && !view_eq(object_vary_values(object), text_view(&climb->values)))) {
        object_unref(object);
        return false;
    }
    if (climb->best && climb->best->times.response_ms >= object->times.response_ms) {
        object_unref(object);
    } else {
        object_unref(climb->best);
        climb->best = object;
        climb->rung = rung;
    }
    return is_fresh(climb->best);
}

/* The key has variants there: which one is wanted follows from the request. False: it cannot be told. */
static bool choose_variant(struct climb *climb, struct object *names)
{
    const struct ladder_waiter *first = CONTAINER_OF(climb->waiters.next, struct ladder_waiter, link);
    bool usable = !climb->variant;

    climb->values.len = 0;
    climb->values.overflow = false;
    usable = usable && vary_values(object_vary_names(names), &first->request->fields, &climb->values);
    climb->generation = names->generation;
    climb->variant = true;
    object_unref(names);
    return usable;
}

static struct entry_key place(const struct climb *climb)
{
    return climb->variant ? entry_key_variant(&climb->key, climb->generation, text_view(&climb->values))
                          : entry_key_primary(&climb->key);
}

/* The answer of a rung: which step follows. `again` reads the variant from the same rung. */
static enum climb_step answered(struct climb *climb, int r, struct object *object, enum rung rung,
                                enum climb_step again, enum climb_step next)
{
    uint64_t now = clock_mono_us();
    uint32_t *took = rung == RUNG_DISK ? &climb->disk_us : &climb->shared_us;
    bool usable = r == 0 && object;

    if (usable && object->status == 0) {
        if (choose_variant(climb, object))
            return again;
        usable = false;
    }
    *took += (uint32_t)MAX(now - climb->rung_us, (uint64_t)1);
    climb->rung_us = now;
    if (usable && consider(climb, object, rung))
        next = CLIMB_END;
    climb->variant = false;
    return next;
}

/* ---- the steps: true to go on at once ---- */

static bool step_disk(struct climb *climb)
{
    struct object *object = NULL;
    int r = -ENOENT;

    if (climb->ask_disk)
        r = disk_get(climb->ladder->options.disk, place(climb), &climb->key, &climb->task, &climb->disk_get, &object);
    else
        climb->step = CLIMB_SHARED;
    if (r == -EAGAIN)
        climb->step = CLIMB_DISK_READ;
    else if (climb->ask_disk)
        climb->step = answered(climb, r, object, RUNG_DISK, CLIMB_DISK, CLIMB_SHARED);
    return climb->step != CLIMB_DISK_READ;
}

static bool step_disk_read(struct climb *climb)
{
    struct object *object = NULL;
    int r = disk_get_result(climb->disk_get, &object);

    if (r == -EAGAIN)
        return false;
    climb->disk_get = NULL;
    climb->step = answered(climb, r, object, RUNG_DISK, CLIMB_DISK, CLIMB_SHARED);
    return true;
}

static bool step_shared(struct climb *climb)
{
    int r = -ENOENT;

    if (climb->ask_shared)
        r = shared_get(climb->ladder->options.shared, place(climb), &climb->key, &climb->task, &climb->shared_get);
    climb->shared_busy = r == -EAGAIN;
    climb->step = climb->shared_busy ? CLIMB_SHARED_READ : CLIMB_LEASE;
    /* A store that cannot be asked knows of no leases either. */
    if (!climb->shared_busy)
        climb->ask_lease = false;
    return !climb->shared_busy;
}

static bool step_shared_read(struct climb *climb)
{
    struct object *object = NULL;
    int r = shared_get_result(&climb->shared_get, &object);

    if (r == -EAGAIN)
        return false;
    climb->shared_busy = false;
    climb->step = answered(climb, r, object, RUNG_SHARED, CLIMB_SHARED, CLIMB_LEASE);
    return true;
}

static bool step_lease(struct climb *climb)
{
    const struct ladder_options *options = &climb->ladder->options;

    climb->step = CLIMB_END;
    if (!climb->ask_lease)
        return true;
    if (!climb->deadline_ms)
        climb->deadline_ms = clock_mono_ms() + options->lease_wait_ms;
    if (shared_lease(options->shared, entry_key_primary(&climb->key), options->lease_ms, &climb->task,
                     &climb->shared_get) != -EAGAIN)
        return true;
    climb->shared_busy = true;
    climb->step = CLIMB_LEASE_WAIT;
    return false;
}

static bool step_lease_wait(struct climb *climb)
{
    int r = shared_lease_result(&climb->shared_get);

    if (r == -EAGAIN)
        return false;
    climb->shared_busy = false;
    climb->leased = r == 0;
    climb->step = CLIMB_END;
    if (r == -EBUSY && clock_mono_ms() < climb->deadline_ms) {
        timer_set(&climb->timer, LEASE_PAUSE_MS);
        climb->step = CLIMB_PAUSE;
        return false;
    }
    return true;
}

static bool step_pause(struct climb *climb)
{
    if (!climb->timer.fired)
        return false;
    climb->step = CLIMB_SHARED;
    return true;
}

/* A write has come since the search began: what it finds may be from before. */
static bool is_overtaken(const struct climb *climb)
{
    return ladder_drops(climb->ladder, &climb->key) != climb->drops;
}

static void keep_best(struct climb *climb)
{
    const struct ladder_options *options = &climb->ladder->options;
    const struct ladder_rule rule = { .disk = climb->keep };

    if (climb->best && !is_overtaken(climb)) {
        (void)!memory_put(options->memory, climb->best, NULL);
        /* The disk had nothing, or less. */
        if (climb->rung == RUNG_SHARED)
            ladder_put(climb->ladder, climb->task.loop, climb->best, &rule, false, false);
    }
    if (!climb->best || !is_overtaken(climb))
        return;
    memory_drop_object(options->memory, climb->best);
    if (climb->rung == RUNG_SHARED && options->disk)
        disk_drop(options->disk, entry_key_primary(&climb->key));
    object_unref(climb->best);
    climb->best = NULL;
}

static void finish(struct climb *climb)
{
    list_remove(&climb->link); /* whoever comes now looks into memory */
    list_init(&climb->link);
    keep_best(climb);
    LIST_EACH (link, &climb->waiters)
        task_wake(CONTAINER_OF(link, struct ladder_waiter, link)->task);
}

static void climb_go(struct climb *climb)
{
    static bool (*const steps[])(struct climb *) = {
        [CLIMB_DISK] = step_disk,   [CLIMB_DISK_READ] = step_disk_read,     [CLIMB_SHARED] = step_shared,
        [CLIMB_LEASE] = step_lease, [CLIMB_SHARED_READ] = step_shared_read, [CLIMB_LEASE_WAIT] = step_lease_wait,
        [CLIMB_PAUSE] = step_pause,
    };

    if (climb->step == CLIMB_END)
        return;
    while (climb->step != CLIMB_END && steps[climb->step](climb))
        ;
    if (climb->step == CLIMB_END)
        finish(climb);
}

static void climb_run(struct task *task)
{
    climb_go(CONTAINER_OF(task, struct climb, task));
}

/* ---- waiting ---- */

/* Does the climb look for what this request wants? What its variants depend on may not be known yet. */
static bool may_join(struct climb *climb, const struct ladder_query *query)
{
    return key_eq(&climb->key, query->key) && climb->values.len == 0 && climb->ask_disk >= query->disk &&
           climb->step != CLIMB_END && !is_overtaken(climb);
}

bool ladder_climb(struct ladder *ladder, const struct ladder_query *query, struct task *task,
                  struct ladder_waiter *waiter)
{
    struct node *bucket = &ladder_loop(ladder, task->loop)->climbs[query->key->hash[0] % CLIMB_BUCKETS];
    struct climb *climb = NULL;

    LIST_EACH (link, bucket) {
        climb = CONTAINER_OF(link, struct climb, link);
        if (may_join(climb, query))
            break;
        climb = NULL;
    }
    *waiter = (struct ladder_waiter){ .task = task, .request = query->request };
    if (climb) {
        waiter->climb = climb;
        list_push(&climb->waiters, &waiter->link);
        return true;
    }
    climb = climb_new(ladder, query, task->loop);
    if (!climb)
        return false;
    waiter->climb = climb;
    list_push(&climb->waiters, &waiter->link);
    climb_go(climb); /* what lies in the page cache is answered at once */
    return true;
}

bool ladder_answer(struct ladder_waiter *waiter, struct ladder_answer *ret)
{
    struct climb *climb = waiter->climb;

    if (climb->step != CLIMB_END)
        return false;
    *ret = (struct ladder_answer){
        .object = climb->best ? object_ref(climb->best) : NULL,
        .rung = climb->rung,
        .leased = climb->leased,
        .disk_us = climb->disk_us,
        .shared_us = climb->shared_us,
    };
    climb->leased = false; /* the first to look makes the fetch */
    return true;
}

void ladder_leave(struct ladder_waiter *waiter)
{
    struct climb *climb = waiter->climb;

    if (!climb)
        return;
    waiter->climb = NULL;
    list_remove(&waiter->link);
    if (list_empty(&climb->waiters))
        climb_free(climb);
}
