/* The bus as a whole: made once, started and stopped on its loop. It borrows the client, the state and the marks; it owns its
 * connections and what waits to be sent.
 *
 * Three durable values: "bus.identity" (of the stream), "bus.position" ("ms-seq ordinal", and "torn" behind it when the state has
 * lost a write), "bus.floor" (the bus position before which nothing can be known here). The position is always queued before the
 * identity: a position with another identity is a gap, an identity with an older stream's position would go unnoticed. */
#include "cache/bus_internal.h"

#include "base/check.h"
#include "base/heap.h"

#include <errno.h>

#define STREAM_MAX 100000u
#define DOUBT_MS 5000u

/* ---- stream ids ---- */

uint64_t bus_position_of(uint64_t ms, uint64_t seq)
{
    const uint64_t seq_max = (1u << 20) - 1, ms_max = UINT64_MAX >> 20;

    return MIN(ms, ms_max) << 20 | MIN(seq, seq_max);
}

bool stream_id_parse(struct view v, struct stream_id *ret)
{
    struct view ms = view_cut(&v, '-');
    struct stream_id id;

    if (!view_parse_u64(ms, &id.ms) || !view_parse_u64(v, &id.seq))
        return false;
    *ret = id;
    return true;
}

void stream_id_put(struct text *out, struct stream_id id)
{
    text_u64(out, id.ms);
    text_char(out, '-');
    text_u64(out, id.seq);
}

int stream_id_compare(struct stream_id a, struct stream_id b)
{
    if (a.ms != b.ms)
        return a.ms < b.ms ? -1 : 1;
    return a.seq == b.seq ? 0 : a.seq < b.seq ? -1 : 1;
}

/* ---- durable values ---- */

struct bus_write {
    struct state_write write; /* first: the state frees it when nobody waits */
    struct bus *bus;          /* NULL: the bus was stopped */
    void (*done)(struct bus *bus, int result);
    struct node link;
};

static void written(struct loop *loop, struct message *message)
{
    struct bus_write *write = CONTAINER_OF(message, struct bus_write, write.done);

    (void)loop;
    if (write->bus) {
        list_remove(&write->link);
        write->done(write->bus, write->write.result);
    }
    heap_free(write);
}

int bus_write(struct bus *bus, struct view name, struct view value, void (*done)(struct bus *bus, int result))
{
    struct bus_write *write = heap_zalloc(sizeof(*write));
    int r;

    if (!write)
        return -ENOMEM;
    write->write.name = name;
    write->write.value = value;
    write->bus = bus;
    write->done = done;
    list_init(&write->link);
    if (done && bus->running) {
        write->write.loop = bus->loop;
        write->write.done.handle = written;
        list_push(&bus->writes, &write->link);
    }
    r = state_write(bus->state, &write->write);
    if (r < 0) {
        list_remove(&write->link);
        heap_free(write);
    }
    return r;
}

/* ---- life ---- */

/* <prefix>{<region>}<suffix>, appended to the bus's memory. */
static struct view make_key(struct text *memory, const struct bus_options *options, struct view suffix)
{
    size_t start = memory->len;

    text_put(memory, options->prefix);
    text_char(memory, '{');
    text_put(memory, options->region.len ? options->region : VIEW("default"));
    text_char(memory, '}');
    text_put(memory, suffix);
    return view_make(memory->ptr + start, memory->len - start);
}

/* The name, and eight digits of what makes this node unlike another of the same name. */
static struct view make_name(struct text *memory, const struct bus_options *options)
{
    const uint8_t *identity = state_identity(options->state);
    size_t start = memory->len;

    text_put(memory, options->node);
    text_char(memory, '/');
    for (int i = 0; i < 4; i++)
        text_hex(memory, identity[i], 2);
    return view_make(memory->ptr + start, memory->len - start);
}

static void make_names(struct bus *bus, const struct bus_options *options, struct text *memory)
{
    bus->stream_key = make_key(memory, options, VIEW(":purges"));
    bus->identity_key = make_key(memory, options, VIEW(":purges:id"));
    bus->nodes_key = make_key(memory, options, VIEW(":nodes"));
    bus->node = make_name(memory, options);
    bus->channel = view_make(memory->ptr + memory->len, options->channel.len);
    text_put(memory, options->channel);
    CHECK(!memory->overflow);
}

int bus_new(const struct bus_options *options, struct bus **ret)
{
    size_t room = 3 * (options->prefix.len + options->region.len + 32) + options->node.len + 16 + options->channel.len;
    struct bus *bus = heap_zalloc(sizeof(*bus) + room);
    struct text memory;
    int r;

    if (!bus)
        return -ENOMEM;
    memory = text_make(bus->memory, room);
    bus->redis = options->redis;
    bus->state = options->state;
    bus->marks = options->marks;
    bus->loop = options->loop;
    bus->apply = options->apply;
    bus->arg = options->arg;
    bus->stream_max = options->stream_max ? options->stream_max : STREAM_MAX;
    bus->doubt_ms = options->doubt_ms ? options->doubt_ms : DOUBT_MS;
    make_names(bus, options, &memory);
    list_init(&bus->writes);
    list_init(&bus->publish.sending);
    list_init(&bus->publish.waiting);
    list_init(&bus->publish.queued);
    r = follow_load(bus);
    if (r == 0)
        r = unsent_load(bus);
    if (r < 0) {
        bus_free(bus);
        return r;
    }
    *ret = bus;
    return 0;
}

void bus_start(struct bus *bus)
{
    CHECK(!bus->running);
    bus->running = true;
    publish_start(bus);
    unsent_start(bus);
    nodes_start(bus);
    follow_start(bus);
    hearing_start(bus);
}

void bus_stop(struct bus *bus)
{
    if (!bus->running)
        return;
    hearing_stop(bus);
    follow_stop(bus);
    nodes_stop(bus);
    bus->running = false;
    publish_stop(bus);
    unsent_stop(bus);
    /* Their answers find nobody. */
    LIST_EACH_SAFE (it, &bus->writes) {
        struct bus_write *write = CONTAINER_OF(it, struct bus_write, link);

        write->bus = NULL;
        list_remove(it);
    }
}

void bus_free(struct bus *bus)
{
    if (!bus)
        return;
    CHECK(!bus->running);
    heap_free(bus->unsent.bytes);
    heap_free(bus);
}

void bus_stats(struct bus *bus, struct bus_stats *ret)
{
    struct bus_counters *counters = &bus->counters;

    *ret = (struct bus_stats){
        .connected = atomic_load(&counters->connected),
        .caught_up = atomic_load(&counters->caught_up),
        .position = atomic_load(&counters->position),
        .published = atomic_load(&counters->published),
        .received = atomic_load(&counters->received),
        .gaps = atomic_load(&counters->gaps),
        .queued = atomic_load(&counters->queued),
        .bad = atomic_load(&counters->bad),
        .nodes = atomic_load(&counters->nodes),
    };
}
