/* Who is there, and how far they are. Each node says in a hash which position it has made durable, and when, by the server's
 * clock: after every commit, and every two seconds. Whoever has not said anything for ten seconds is not waited for.
 *
 * Whoever waits for an acknowledgement asks for the whole hash, soon at first and then ever more slowly; all who wait share one
 * answer. */
#include "cache/bus_internal.h"

#include "base/heap.h"

#define POLL_FIRST_MS 4u
#define POLL_MAX_MS 25u
#define GONE_MS 3600000u /* a name that is not heard of for so long is removed */

/* ---- saying ---- */

void nodes_say(struct bus *bus)
{
    struct nodes *nodes = &bus->nodes;
    char memory[STREAM_ID_MAX + 24];
    struct text value = TEXT_ON(memory);
    uint64_t now = follow_server_ms(bus);
    struct view args[] = { VIEW("HSET"), bus->nodes_key, bus->node, VIEW_NONE };

    if (nodes->say.state != REDIS_IDLE) {
        nodes->say_again = true;
        return;
    }
    nodes->say_again = false;
    if (!bus->follow.connected || !bus->follow.has_durable || !now)
        return;
    stream_id_put(&value, bus->follow.durable.id);
    text_char(&value, ' ');
    text_u64(&value, now);
    args[3] = text_view(&value);
    /* Refused or failed: the next tick says it. */
    (void)redis_send(bus->redis, &nodes->task, &nodes->say, args, 4, 1, BUS_CALL_MS);
}

/* ---- hearing ---- */

static void count_node(struct bus *bus, struct stream_id id)
{
    LIST_EACH (it, &bus->publish.waiting) {
        struct parcel *parcel = CONTAINER_OF(it, struct parcel, link);

        parcel->ack.nodes++;
        parcel->ack.applied += stream_id_compare(id, parcel->id) >= 0;
    }
}

static void forget_node(struct bus *bus, struct view name)
{
    struct view args[] = { VIEW("HDEL"), bus->nodes_key, name };

    (void)redis_forget(bus->redis, bus->loop, args, 3, 1, NULL);
}

/* True: it is live. */
static bool take_node(struct bus *bus, struct view name, struct view said, uint64_t now)
{
    struct view id_text = view_cut(&said, ' ');
    struct stream_id id;
    uint64_t at;

    if (!stream_id_parse(id_text, &id) || !view_parse_u64(said, &at))
        return false;
    if (at + GONE_MS < now)
        forget_node(bus, name);
    if (at + BUS_LIVE_MS <= now)
        return false;
    count_node(bus, id);
    return true;
}

/* A map, or a flat array of names and values. */
static void take_nodes(struct bus *bus, const struct resp_value *reply)
{
    uint64_t now = follow_server_ms(bus);
    unsigned live = 0;

    if ((reply->type != RESP_MAP && reply->type != RESP_ARRAY) || !now)
        return;
    LIST_EACH (it, &bus->publish.waiting) {
        struct parcel *parcel = CONTAINER_OF(it, struct parcel, link);

        parcel->ack.nodes = parcel->ack.applied = 0;
    }
    for (size_t i = 0; i + 1 < reply->count; i += 2) {
        struct view name = reply->items[i].text;

        if (!view_eq(name, bus->node))
            live += take_node(bus, name, reply->items[i + 1].text, now);
    }
    /* Of ourselves we know more than the hash. */
    live++;
    count_node(bus, bus->follow.has_durable ? bus->follow.durable.id : (struct stream_id){ 0, 0 });
    atomic_store_explicit(&bus->counters.nodes, live, memory_order_relaxed);
}

static void ask_nodes(struct bus *bus)
{
    struct nodes *nodes = &bus->nodes;
    struct view args[] = { VIEW("HGETALL"), bus->nodes_key };

    if (nodes->ask.state == REDIS_IDLE)
        (void)redis_send(bus->redis, &nodes->task, &nodes->ask, args, 2, 1, BUS_CALL_MS);
}

void nodes_poll(struct bus *bus)
{
    bus->nodes.poll_ms = POLL_FIRST_MS;
    timer_set(&bus->nodes.poll, POLL_FIRST_MS);
}

/* ---- the task ---- */

static void poll_passed(struct bus *bus)
{
    struct nodes *nodes = &bus->nodes;

    timer_clear(&nodes->poll);
    publish_check(bus);
    if (list_empty(&bus->publish.waiting))
        return;
    ask_nodes(bus);
    nodes->poll_ms = MIN(nodes->poll_ms * 2, POLL_MAX_MS);
    timer_set(&nodes->poll, nodes->poll_ms);
}

/* Marks that came another way get a place among those of the bus: behind them an entry without an event is added, and what is asked
 * for after it was read back says so. Until then no copy of another node is believed to know of them. */
static void place_marks(struct bus *bus)
{
    struct nodes *nodes = &bus->nodes;

    if (!bus->follow.caught_up || nodes->placing.state != REDIS_IDLE || !marks_bus_is_owed(bus->marks))
        return;
    nodes->placed = marks_position(bus->marks);
    (void)publish_send(bus, &nodes->task, &nodes->placing, VIEW("*"), VIEW_NONE);
}

static void marks_placed(struct bus *bus)
{
    struct nodes *nodes = &bus->nodes;
    const struct resp_value *reply = nodes->placing.reply;
    struct stream_id id;

    if (nodes->placing.error == 0 && reply->type == RESP_STRING && stream_id_parse(reply->text, &id))
        marks_bus_passed(bus->marks, nodes->placed, stream_id_position(id));
    redis_call_end(&nodes->placing);
}

/* What did not succeed is tried again here. */
static void tick_passed(struct bus *bus)
{
    timer_set(&bus->nodes.tick, BUS_TICK_MS);
    if (bus->follow.write_again || bus->follow.identity_due)
        follow_write_position(bus);
    unsent_drain(bus);
    if (!bus->follow.connected)
        return;
    place_marks(bus);
    nodes_say(bus);
    ask_nodes(bus);
}

static void nodes_run(struct task *task)
{
    struct bus *bus = CONTAINER_OF(task, struct bus, nodes.task);
    struct nodes *nodes = &bus->nodes;

    if (nodes->say.state == REDIS_DONE) {
        redis_call_end(&nodes->say);
        if (nodes->say_again)
            nodes_say(bus);
    }
    if (nodes->ask.state == REDIS_DONE) {
        if (nodes->ask.error == 0)
            take_nodes(bus, nodes->ask.reply);
        redis_call_end(&nodes->ask);
        publish_check(bus);
    }
    if (nodes->placing.state == REDIS_DONE)
        marks_placed(bus);
    if (nodes->poll.fired)
        poll_passed(bus);
    if (nodes->tick.fired)
        tick_passed(bus);
}

void nodes_start(struct bus *bus)
{
    struct nodes *nodes = &bus->nodes;

    task_init(&nodes->task, bus->loop, nodes_run);
    timer_init(&nodes->tick, &nodes->task);
    timer_init(&nodes->poll, &nodes->task);
    timer_set(&nodes->tick, BUS_TICK_MS);
}

/* Outlives the bus, and ends with its answer or when the client is closed. */
struct farewell {
    struct task task;
    struct redis_call call;
};

static void farewell_run(struct task *task)
{
    struct farewell *farewell = CONTAINER_OF(task, struct farewell, task);

    if (farewell->call.state == REDIS_WAITING)
        return;
    redis_call_end(&farewell->call);
    task_cancel(&farewell->task);
    heap_free(farewell);
}

/* Behind what was said last: it goes over the same connection. */
static void say_farewell(struct bus *bus)
{
    struct view args[] = { VIEW("HDEL"), bus->nodes_key, bus->node };
    struct farewell *farewell = heap_zalloc(sizeof(*farewell));

    if (!farewell)
        return;
    task_init(&farewell->task, bus->loop, farewell_run);
    if (redis_send(bus->redis, &farewell->task, &farewell->call, args, 3, 1, BUS_CALL_MS) < 0)
        heap_free(farewell);
}

void nodes_stop(struct bus *bus)
{
    struct nodes *nodes = &bus->nodes;

    redis_call_end(&nodes->say);
    redis_call_end(&nodes->ask);
    redis_call_end(&nodes->placing);
    timer_clear(&nodes->tick);
    timer_clear(&nodes->poll);
    task_cancel(&nodes->task);
    if (bus->follow.has_durable)
        say_farewell(bus);
}
