/* Purges from a pub/sub channel: every message is one line. Whoever publishes reaches the nodes that listen at that moment; what
 * is said while a node is away is lost for it. A silent connection is asked now and then whether somebody is there. */
#include "cache/bus_internal.h"

#include "base/log.h"

#include <errno.h>

#define SILENCE_MS 10000u
#define ANSWER_MS 5000u

static void subscribe(struct bus *bus)
{
    struct hearing *hearing = &bus->hearing;
    struct view args[] = { VIEW("SUBSCRIBE"), bus->channel };

    hearing->epoch = redis_channel_epoch(hearing->channel);
    hearing->asked = true;
    timer_set(&hearing->timer, ANSWER_MS);
    if (redis_channel_send(hearing->channel, args, 2) < 0)
        redis_channel_reset(hearing->channel);
}

static void heard(struct bus *bus, const struct resp_value *value)
{
    const struct resp_value *items = value->items;
    struct purge_event event;

    if (resp_is_error(value)) {
        /* Not allowed, or loading: the timer ends this connection. */
        log_debug("bus: the server refuses the channel: %.*s", VIEW_ARG(view_first(value->text, 80)));
        return;
    }
    bus->hearing.asked = false;
    timer_set(&bus->hearing.timer, SILENCE_MS);
    /* RESP3 pushes it, RESP2 answers with an array; anything else says that somebody is there. */
    if ((value->type != RESP_PUSH && value->type != RESP_ARRAY) || value->count != 3 ||
        !view_eq(items[0].text, VIEW("message")) || items[2].type != RESP_STRING)
        return;
    if (purge_event_parse(items[2].text, &event) < 0) {
        bus_bad_event(bus, "the channel");
        return;
    }
    atomic_fetch_add_explicit(&bus->counters.received, 1, memory_order_relaxed);
    bus->apply(bus->arg, bus->loop, &event, 0);
}

static void silence(struct bus *bus)
{
    struct hearing *hearing = &bus->hearing;
    struct view args[] = { VIEW("PING") };

    timer_clear(&hearing->timer);
    if (!redis_channel_ready(hearing->channel))
        return; /* it is connecting again already */
    if (hearing->asked || redis_channel_send(hearing->channel, args, 1) < 0) {
        redis_channel_reset(hearing->channel);
        return;
    }
    hearing->asked = true;
    timer_set(&hearing->timer, ANSWER_MS);
}

static void hearing_run(struct task *task)
{
    struct bus *bus = CONTAINER_OF(task, struct bus, hearing.task);
    struct hearing *hearing = &bus->hearing;
    struct resp_value *value;
    int r = 0;

    if (redis_channel_ready(hearing->channel) && redis_channel_epoch(hearing->channel) != hearing->epoch)
        subscribe(bus);
    if (hearing->timer.fired)
        silence(bus);
    while (r == 0) {
        r = redis_channel_next(hearing->channel, &value);
        if (r == 0)
            heard(bus, value);
    }
}

void hearing_start(struct bus *bus)
{
    struct hearing *hearing = &bus->hearing;

    task_init(&hearing->task, bus->loop, hearing_run);
    timer_init(&hearing->timer, &hearing->task);
    if (bus->channel.len && redis_channel_open(bus->redis, &hearing->task, &hearing->channel) < 0)
        log_error("bus: out of memory; nobody listens on the channel of purges");
}

void hearing_stop(struct bus *bus)
{
    struct hearing *hearing = &bus->hearing;

    redis_channel_close(hearing->channel);
    hearing->channel = NULL;
    timer_clear(&hearing->timer);
    task_cancel(&hearing->task);
}
