/* Purges that could not be sent: lines in memory and, the same, in the durable value "bus.unsent", sent one after another when the
 * server is back. Bounded: where too many wait they become one line that covers them all.
 *
 * The value is written whole. One write runs at a time; what comes meanwhile shares the next one. */
#include "cache/bus_internal.h"

#include "base/heap.h"
#include "base/log.h"

#include <errno.h>

#define LINES_MAX 1000u
#define BYTES_MAX ((size_t)256 * 1024)

static const struct view everything = { "soft all\n", 9 };

static struct view value_name(void)
{
    return VIEW("bus.unsent");
}

static void count_lines(struct unsent *unsent)
{
    unsent->lines = 0;
    for (size_t i = 0; i < unsent->len; i++)
        unsent->lines += unsent->bytes[i] == '\n';
}

static void tell_count(struct bus *bus)
{
    atomic_store_explicit(&bus->counters.queued, bus->unsent.lines, memory_order_relaxed);
}

int unsent_load(struct bus *bus)
{
    struct unsent *unsent = &bus->unsent;
    int r = state_get(bus->state, value_name(), &unsent->bytes, &unsent->len);

    if (r < 0)
        return r == -ENOENT ? 0 : r;
    unsent->cap = unsent->len;
    count_lines(unsent);
    tell_count(bus);
    return 0;
}

/* ---- writing ---- */

static void value_written(struct bus *bus, int result)
{
    struct unsent *unsent = &bus->unsent;

    unsent->writing = false;
    publish_queued(bus, unsent->written, result);
    if (result < 0)
        return; /* the next tick tries again */
    unsent->durable = unsent->written;
    unsent_write(bus);
}

void unsent_write(struct bus *bus)
{
    struct unsent *unsent = &bus->unsent;

    if (unsent->writing || unsent->durable == unsent->version)
        return;
    unsent->written = unsent->version;
    if (bus_write(bus, value_name(), view_make(unsent->bytes, unsent->len), value_written) < 0)
        publish_queued(bus, unsent->version, -ENOSPC);
    else
        unsent->writing = bus->running;
}

/* ---- adding ---- */

static int make_room(struct unsent *unsent, size_t len)
{
    size_t cap = MAX(unsent->cap, (size_t)512);
    char *bytes;

    if (unsent->cap - unsent->len >= len)
        return 0;
    while (cap < unsent->len + len)
        cap *= 2;
    bytes = heap_resize(unsent->bytes, cap);
    if (!bytes)
        return -ENOMEM;
    unsent->bytes = bytes;
    unsent->cap = cap;
    return 0;
}

int unsent_add(struct bus *bus, struct view line, uint64_t *ret_version)
{
    struct unsent *unsent = &bus->unsent;
    int r = make_room(unsent, MAX(line.len + 1, everything.len));

    if (r < 0)
        return r;
    if (unsent->lines >= LINES_MAX || unsent->len + line.len >= BYTES_MAX) {
        log_warn("bus: %u purges wait to be sent; everything counts as purged (soft) instead", unsent->lines);
        memcpy(unsent->bytes, everything.ptr, everything.len);
        unsent->len = everything.len;
        unsent->lines = 1;
        unsent->sending_len = 0; /* the line being sent is not the first any more */
    } else {
        memcpy(unsent->bytes + unsent->len, line.ptr, line.len);
        unsent->bytes[unsent->len + line.len] = '\n';
        unsent->len += line.len + 1;
        unsent->lines++;
    }
    *ret_version = ++unsent->version;
    tell_count(bus);
    return 0;
}

/* ---- sending ---- */

static void drop_first(struct bus *bus)
{
    struct unsent *unsent = &bus->unsent;

    memmove(unsent->bytes, unsent->bytes + unsent->sending_len, unsent->len - unsent->sending_len);
    unsent->len -= unsent->sending_len;
    unsent->lines -= unsent->sending_len != 0;
    unsent->version++;
    atomic_fetch_add_explicit(&bus->counters.published, 1, memory_order_relaxed);
    tell_count(bus);
}

void unsent_drain(struct bus *bus)
{
    struct unsent *unsent = &bus->unsent;
    struct view bytes = view_make(unsent->bytes, unsent->len), line;

    if (unsent->call.state != REDIS_IDLE)
        return;
    line = view_first(bytes, view_find(bytes, '\n'));
    if (unsent->len && bus->follow.connected && publish_send(bus, &unsent->task, &unsent->call, VIEW("*"), line) == 0) {
        unsent->sending_len = MIN(line.len + 1, unsent->len);
        return;
    }
    unsent_write(bus);
}

static void unsent_run(struct task *task)
{
    struct bus *bus = CONTAINER_OF(task, struct bus, unsent.task);
    struct unsent *unsent = &bus->unsent;
    const struct resp_value *reply = unsent->call.reply;
    bool sent;

    if (unsent->call.state != REDIS_DONE)
        return;
    sent = unsent->call.error == 0 && reply->type == RESP_STRING;
    redis_call_end(&unsent->call);
    if (sent) {
        drop_first(bus);
        unsent_drain(bus);
    } else {
        unsent_write(bus);
    }
}

/* ---- life ---- */

void unsent_start(struct bus *bus)
{
    task_init(&bus->unsent.task, bus->loop, unsent_run);
}

void unsent_stop(struct bus *bus)
{
    redis_call_end(&bus->unsent.call);
    task_cancel(&bus->unsent.task);
    /* A write that still runs may hold something else than what is there now. */
    bus->unsent.writing = false;
    unsent_write(bus);
}
