/* Sending. A purge is a parcel: made on its sender's loop, posted to the bus's, and posted back when it is done. In between only
 * the bus's loop touches it, but for `send`, which only the sender's loop touches: so a sender can forget at any time.
 *
 *   sending -> (in the stream) waiting -> ended        sending -> (no bus) queued -> (durable) ended
 *
 * An XADD whose answer was lost may have happened. It is sent again: purging twice is harmless, purging never is not. */
#include "cache/bus_internal.h"

#include "base/heap.h"

#include <errno.h>

int publish_send(struct bus *bus, struct task *task, struct redis_call *call, struct view id, struct view line)
{
    char memory[16];
    struct text max = TEXT_ON(memory);
    struct view args[] = { VIEW("XADD"), bus->stream_key, VIEW("MAXLEN"), VIEW("~"),     VIEW_NONE,
                           id,           VIEW("node"),    bus->node,      VIEW("event"), line };

    text_u64(&max, bus->stream_max);
    args[4] = text_view(&max);
    /* An entry without an event only lifts the stream's last id. */
    return redis_send(bus->redis, task, call, args, line.len ? 10 : 8, 1, BUS_CALL_MS);
}

/* ---- the end ---- */

static void back_home(struct loop *loop, struct message *message)
{
    struct parcel *parcel = CONTAINER_OF(message, struct parcel, message);
    struct bus_send *send = parcel->send;

    (void)loop;
    if (send) {
        send->ack = parcel->ack;
        send->done = true;
        send->parcel = NULL;
        task_wake(send->task);
    }
    heap_free(parcel);
}

void parcel_end(struct parcel *parcel, int result)
{
    list_remove(&parcel->link);
    redis_call_end(&parcel->call);
    parcel->ack.result = result;
    if (!parcel->awaited) {
        heap_free(parcel);
        return;
    }
    parcel->message.handle = back_home;
    loop_post(parcel->from, &parcel->message);
}

void publish_queued(struct bus *bus, uint64_t version, int result)
{
    LIST_EACH_SAFE (it, &bus->publish.queued) {
        struct parcel *parcel = CONTAINER_OF(it, struct parcel, link);

        if (parcel->unsent_version <= version)
            parcel_end(parcel, result < 0 ? -ENOSPC : -ENOTCONN);
    }
}

void publish_check(struct bus *bus)
{
    uint64_t now = loop_now_ms(bus->loop);

    LIST_EACH_SAFE (it, &bus->publish.waiting) {
        struct parcel *parcel = CONTAINER_OF(it, struct parcel, link);

        if ((parcel->ack.nodes && parcel->ack.applied >= parcel->ack.nodes) || now >= parcel->deadline_ms)
            parcel_end(parcel, 0);
    }
}

/* ---- sending ---- */

/* It cannot be sent now: kept for later. */
static void set_aside(struct parcel *parcel)
{
    struct bus *bus = parcel->bus;

    list_remove(&parcel->link);
    redis_call_end(&parcel->call);
    if (unsent_add(bus, view_make(parcel->line, parcel->len), &parcel->unsent_version) < 0) {
        parcel_end(parcel, -ENOSPC);
        return;
    }
    if (bus->running)
        list_push(&bus->publish.queued, &parcel->link);
    else
        parcel_end(parcel, -ENOTCONN);
    unsent_write(bus);
}

static void in_stream(struct parcel *parcel, struct stream_id id)
{
    struct bus *bus = parcel->bus;
    struct text text = text_make(parcel->ack.id, sizeof(parcel->ack.id));

    atomic_fetch_add_explicit(&bus->counters.published, 1, memory_order_relaxed);
    stream_id_put(&text, id);
    text_str(&text);
    parcel->id = id;
    parcel->ack.position = stream_id_position(id);
    marks_bus_passed(bus->marks, parcel->marks_position, parcel->ack.position);
    if (!parcel->awaited) {
        parcel_end(parcel, 0);
        return;
    }
    list_remove(&parcel->link);
    redis_call_end(&parcel->call);
    parcel->deadline_ms = loop_now_ms(bus->loop) + parcel->wait_ms;
    parcel->ack.nodes = MAX(atomic_load_explicit(&bus->counters.nodes, memory_order_relaxed), 1u);
    list_push(&bus->publish.waiting, &parcel->link);
    nodes_poll(bus);
}

static void publish_run(struct task *task)
{
    struct bus *bus = CONTAINER_OF(task, struct bus, publish.task);

    LIST_EACH_SAFE (it, &bus->publish.sending) {
        struct parcel *parcel = CONTAINER_OF(it, struct parcel, link);
        const struct resp_value *reply = parcel->call.reply;
        struct stream_id id;

        if (parcel->call.state != REDIS_DONE)
            continue;
        if (parcel->call.error == 0 && reply->type == RESP_STRING && stream_id_parse(reply->text, &id))
            in_stream(parcel, id);
        else
            set_aside(parcel);
    }
}

static void arrived(struct loop *loop, struct message *message)
{
    struct parcel *parcel = CONTAINER_OF(message, struct parcel, message);
    struct bus *bus = parcel->bus;

    (void)loop;
    parcel->marks_position = marks_position(bus->marks);
    list_push(&bus->publish.sending, &parcel->link);
    if (!bus->running ||
        publish_send(bus, &bus->publish.task, &parcel->call, VIEW("*"), view_make(parcel->line, parcel->len)) < 0)
        set_aside(parcel);
}

int bus_publish(struct bus *bus, struct loop *from, const struct purge_event *event, uint32_t wait_ms,
                struct task *task, struct bus_send *send)
{
    size_t room = event->target.len + 64;
    struct parcel *parcel = heap_zalloc(sizeof(*parcel) + room);
    struct text line;

    if (!parcel)
        return -ENOMEM;
    line = text_make(parcel->line, room);
    purge_event_put(&line, event);
    parcel->len = line.len;
    parcel->bus = bus;
    parcel->from = from;
    parcel->wait_ms = wait_ms;
    parcel->awaited = task != NULL;
    list_init(&parcel->link);
    if (task) {
        *send = (struct bus_send){ .task = task, .parcel = parcel };
        parcel->send = send;
    }
    parcel->message.handle = arrived;
    loop_post(bus->loop, &parcel->message);
    return 0;
}

void bus_forget(struct bus_send *send)
{
    struct parcel *parcel = send->parcel;

    if (parcel)
        parcel->send = NULL;
    send->parcel = NULL;
}

/* ---- life ---- */

void publish_start(struct bus *bus)
{
    task_init(&bus->publish.task, bus->loop, publish_run);
}

void publish_stop(struct bus *bus)
{
    struct publish *publish = &bus->publish;

    task_cancel(&publish->task);
    LIST_EACH_SAFE (it, &publish->sending)
        set_aside(CONTAINER_OF(it, struct parcel, link));
    LIST_EACH_SAFE (it, &publish->queued)
        parcel_end(CONTAINER_OF(it, struct parcel, link), -ENOTCONN);
    LIST_EACH_SAFE (it, &publish->waiting)
        parcel_end(CONTAINER_OF(it, struct parcel, link), 0);
}
