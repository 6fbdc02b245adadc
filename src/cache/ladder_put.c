/* The way down: a response that is worth keeping is offered to disk and written to the shared store. Nobody waits for it.
 *
 * A response with a Vary goes under the key of its variant, which depends on the generation that the rung's entry for the
 * primary key names: that entry is read first, and made when it is missing or names other fields. Two nodes that make it at
 * the same time leave one of their variants unreachable: a miss. */
#include "cache/ladder_internal.h"

#include "base/clock.h"
#include "base/heap.h"

#include <errno.h>
#include <openssl/rand.h>

/* A confirmed response is written to disk again only when that costs little: its body lies there already. */
#define REWRITE_MAX ((uint64_t)64 * 1024)
/* Variants on their way down at once, per loop; more are not kept below memory. */
#define PUTS_MAX 64u

struct put {
    struct task task;
    struct node link;
    struct ladder *ladder;
    struct object *object;
    uint32_t drops;
    bool pin, to_disk, to_shared, release;
    bool disk_asked, shared_asked;
    struct disk_get *disk_get;
    struct shared_get shared_get;
};

static uint64_t generation_new(void)
{
    uint64_t generation = 0;

    if (RAND_bytes((unsigned char *)&generation, sizeof(generation)) != 1)
        generation = (uint64_t)clock_wall_ms();
    return generation ? generation : 1;
}

static void put_free(struct put *put)
{
    disk_get_cancel(put->disk_get);
    if (put->shared_asked)
        shared_get_cancel(&put->shared_get);
    task_cancel(&put->task);
    list_remove(&put->link);
    object_unref(put->object);
    heap_free(put);
}

/* A write whose key the store is to forget. */
struct unlink {
    struct task task;
    struct node link;
    struct ladder *ladder;
    struct shared_get call;
    struct view url;
    char memory[];
};

static void unlink_free(struct unlink *unlink)
{
    shared_get_cancel(&unlink->call);
    task_cancel(&unlink->task);
    list_remove(&unlink->link);
    heap_free(unlink);
}

void ladder_puts_close(struct ladder_loop *here)
{
    while (!list_empty(&here->unlinks))
        unlink_free(CONTAINER_OF(here->unlinks.next, struct unlink, link));
    while (!list_empty(&here->puts))
        put_free(CONTAINER_OF(here->puts.next, struct put, link));
}

static uint64_t bus_position(struct ladder *ladder, const struct object *object)
{
    return marks_bus_at(ladder->options.marks, atomic_load(&object->purge_pos));
}

/* A soft purge is a flag, which other nodes do not see, behind which the position moves on: looked at in the opposite order. */
static void share(struct ladder *ladder, struct loop *loop, struct entry_key at, struct object *object, bool release)
{
    uint64_t position = bus_position(ladder, object);

    if (!atomic_load(&object->soft_purged))
        shared_put(ladder->options.shared, loop, at, object, position, release);
    else if (release)
        shared_lease_release(ladder->options.shared, loop, at);
}

/* The generation of the rung's entry, or a new one when that entry is of no use. Gives `names` back. */
static uint64_t generation_of(struct object *names, const struct object *object, bool *ret_made)
{
    uint64_t generation = 0;

    if (names && names->status == 0 && view_eq(object_vary_names(names), object_vary_names(object)))
        generation = names->generation;
    object_unref(names);
    *ret_made = generation == 0;
    return generation ? generation : generation_new();
}

static void variant_to_disk(struct put *put, struct object *names)
{
    struct disk *disk = put->ladder->options.disk;
    struct object *object = put->object;
    bool made;
    uint64_t generation = generation_of(names, object, &made);
    struct entry_key at = entry_key_variant(&object->key, generation, object_vary_values(object));

    if (made)
        disk_put_vary(disk, &object->key, object_vary_names(object), generation, atomic_load(&object->purge_pos));
    if (object->external)
        disk_put_head(disk, at, object);
    else
        disk_offer(disk, at, object, put->pin ? DISK_PINNED : DISK_FILLED);
}

static void variant_to_shared(struct put *put, struct object *names)
{
    struct shared *shared = put->ladder->options.shared;
    struct object *object = put->object;
    struct entry_key primary = entry_key_primary(&object->key);
    bool made;
    uint64_t generation = generation_of(names, object, &made), position = bus_position(put->ladder, object);

    if (made)
        shared_put_vary(shared, put->task.loop, primary, &object->key, object_vary_names(object), generation, position,
                        object->times.lifetime_ms);
    share(put->ladder, put->task.loop, entry_key_variant(&object->key, generation, object_vary_values(object)), object,
          false);
}

static void drop_below(struct ladder *ladder, struct loop *loop, const struct key *key)
{
    struct entry_key primary = entry_key_primary(key);

    if (ladder->options.disk)
        disk_drop(ladder->options.disk, primary);
    if (ladder->options.shared)
        shared_drop(ladder->options.shared, loop, primary);
}

static void put_run(struct task *task)
{
    struct put *put = CONTAINER_OF(task, struct put, task);
    const struct ladder_options *options = &put->ladder->options;
    struct entry_key primary = entry_key_primary(&put->object->key);
    struct object *names = NULL;
    int r;

    if (put->to_disk) {
        r = put->disk_asked ? disk_get_result(put->disk_get, &names)
                            : disk_get(options->disk, primary, &put->object->key, &put->task, &put->disk_get, &names);
        put->disk_asked = true;
        if (r == -EAGAIN)
            return;
        put->disk_get = NULL;
        put->to_disk = false;
        variant_to_disk(put, r == 0 ? names : NULL);
    }
    if (put->to_shared) {
        names = NULL;
        r = put->shared_asked ? shared_get_result(&put->shared_get, &names)
                              : shared_get(options->shared, primary, &put->object->key, &put->task, &put->shared_get);
        put->shared_asked = r == -EAGAIN;
        if (r == -EAGAIN)
            return;
        variant_to_shared(put, r == 0 ? names : NULL);
    }
    /* A write has come while the names were read: what went down just now is from before it. */
    if (ladder_drops(put->ladder, &put->object->key) != put->drops)
        drop_below(put->ladder, task->loop, &put->object->key);
    if (put->release)
        ladder_release(put->ladder, task->loop, &put->object->key);
    put_free(put);
}

static void put_variant(struct ladder *ladder, struct loop *loop, struct object *object, bool pin, bool to_disk,
                        bool to_shared, bool release)
{
    struct ladder_loop *here = ladder_loop(ladder, loop);
    unsigned under_way = 0;
    struct put *put;

    LIST_EACH (link, &here->puts)
        under_way++;
    put = under_way < PUTS_MAX ? heap_zalloc(sizeof(*put)) : NULL;
    if (!put) {
        if (release)
            ladder_release(ladder, loop, &object->key);
        return;
    }
    task_init(&put->task, loop, put_run);
    put->ladder = ladder;
    put->object = object_ref(object);
    put->drops = ladder_drops(ladder, &object->key);
    put->pin = pin;
    put->to_disk = to_disk;
    put->to_shared = to_shared;
    put->release = release;
    list_push(&here->puts, &put->link);
    task_wake(&put->task);
}

void ladder_put(struct ladder *ladder, struct loop *loop, struct object *object, const struct ladder_rule *rule,
                bool confirmed, bool leased)
{
    const struct ladder_options *options = &ladder->options;
    struct entry_key primary = entry_key_primary(&object->key);
    bool whole = !(object->flags & OBJECT_PARTIAL), pin = rule->disk == LADDER_DISK_PIN;
    bool to_disk = options->disk && rule->disk != LADDER_DISK_OFF && whole;
    bool to_shared = options->shared && rule->shared && whole && !object->external;

    if (rule->disk == LADDER_DISK_OFF)
        atomic_fetch_or(&object->flags, OBJECT_NOT_TO_DISK);
    if (to_disk && confirmed && !object->external)
        to_disk = disk_has(options->disk, primary) && atomic_load(&object->body_len) <= REWRITE_MAX;
    if (object_vary_names(object).len && (to_disk || to_shared)) {
        put_variant(ladder, loop, object, pin, to_disk, to_shared, leased);
        return;
    }
    if (to_disk && object->external)
        disk_put_head(options->disk, primary, object);
    else if (to_disk)
        disk_offer(options->disk, primary, object, pin || confirmed ? DISK_PINNED : DISK_FILLED);
    if (to_shared)
        share(ladder, loop, primary, object, leased);
    else if (leased)
        ladder_release(ladder, loop, &object->key);
}

void ladder_release(struct ladder *ladder, struct loop *loop, const struct key *key)
{
    shared_lease_release(ladder->options.shared, loop, entry_key_primary(key));
}

static void purge_instead(struct ladder *ladder, struct loop *loop, struct view url)
{
    if (ladder->options.purge)
        ladder->options.purge(ladder->options.purge_arg, loop, &(struct mark){ .kind = MARK_URL, .text = url }, true);
}

static void unlink_run(struct task *task)
{
    struct unlink *unlink = CONTAINER_OF(task, struct unlink, task);
    int r = shared_unlink_result(&unlink->call);

    if (r == -EAGAIN)
        return;
    if (r < 0)
        purge_instead(unlink->ladder, task->loop, unlink->url);
    unlink_free(unlink);
}

/* The store must not hand out what was there before a write. Where it cannot be told, the URL is purged: the bus keeps that until
 * the store is back. */
static void unlink_begin(struct ladder *ladder, struct loop *loop, const struct key *key, struct view url)
{
    struct unlink *unlink = heap_zalloc(sizeof(*unlink) + url.len);

    if (!unlink) {
        purge_instead(ladder, loop, url);
        return;
    }
    task_init(&unlink->task, loop, unlink_run);
    unlink->ladder = ladder;
    memcpy(unlink->memory, url.ptr, url.len);
    unlink->url = view_make(unlink->memory, url.len);
    list_push(&ladder_loop(ladder, loop)->unlinks, &unlink->link);
    if (shared_unlink(ladder->options.shared, entry_key_primary(key), &unlink->task, &unlink->call) == -EAGAIN)
        return;
    purge_instead(ladder, loop, url);
    unlink_free(unlink);
}

void ladder_drop(struct ladder *ladder, struct loop *loop, const struct key *key, struct view url)
{
    atomic_store(&ladder->dropped_ms[key->hash[1] % DROP_SLOTS], clock_wall_ms());
    atomic_fetch_add(&ladder->drops[key->hash[1] % DROP_SLOTS], 1);
    memory_drop(ladder->options.memory, key);
    drop_below(ladder, loop, key);
    if (ladder->options.shared)
        unlink_begin(ladder, loop, key, url);
}

void ladder_evicted(struct ladder *ladder, struct object *object)
{
    /* Variants need their generation, which must be read: they were offered when they were filled. */
    if (ladder->options.disk && !(object->flags & (OBJECT_PARTIAL | OBJECT_NOT_TO_DISK)) && !object->external &&
        object_vary_names(object).len == 0)
        disk_offer(ladder->options.disk, entry_key_primary(&object->key), object, DISK_EVICTED);
}
