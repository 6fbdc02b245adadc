/* The purge bus: a Redis stream that carries purges between the nodes of a region. Its entry ids are the bus positions that
 * marks and shared copies carry (bus_position_of()). Each node keeps the last id it has applied in its durable state, so that a
 * node that was away catches up before it trusts what it holds; where catching up is impossible (the stream was trimmed past
 * us, lies behind us, or is another one) everything older is made stale.
 *
 * Keys: <prefix>{<region>}:purges (stream), <prefix>{<region>}:purges:id (its identity), <prefix>{<region>}:nodes (hash: who has
 * applied what, and when it last said so). The braces keep them in one slot of a Cluster; an empty region is "default". */
#pragma once

#include "cache/marks.h"
#include "cache/purge_event.h"
#include "store/redis.h"
#include "store/state.h"

struct bus;

struct bus_options { /* everything borrowed */
    struct redis *redis;
    struct state *state;
    struct marks *marks;
    struct loop *loop; /* where it lives: one loop of the node */
    struct view node, prefix, region;
    uint32_t stream_max; /* entries kept, about; 0: 100000 */
    uint32_t doubt_ms;   /* at start, how long to wait for the bus before trusting what is stored; 0: 5000 */
    struct view channel; /* a Redis pub/sub channel whose messages are purges (purge_event.h); empty: none */
    /* On `loop`: makes the purge effective at once and queues it to the state, in that order. `bus` 0: it has no position (it
     * came over the channel; it says that something was missed; it is read once more in another stream). */
    void (*apply)(void *arg, struct loop *loop, const struct purge_event *event, uint64_t bus);
    void *arg;
};

/* Reads the durable values (blocks a moment); the marks have been restored before. 0, -ENOMEM, -EIO. */
int bus_new(const struct bus_options *options, struct bus **ret);
/* On its loop's thread: connects, catches up, follows. */
void bus_start(struct bus *bus);
/* On its loop's thread, at least a turn before redis_loop_close(), so that the others hear that this node has gone. Ends what waits;
 * what could not be sent is queued to the state. */
void bus_stop(struct bus *bus);
/* After bus_stop(), when no loop has messages of it any more. NULL is fine. */
void bus_free(struct bus *bus);

/* A stream id "ms-seq" as one number that orders like it: ms << 20 | seq, seq saturated. */
uint64_t bus_position_of(uint64_t ms, uint64_t seq);

/* ---- sending; any loop ---- */

struct bus_ack {
    int result; /* 0; -ENOTCONN: queued durably, sent when the bus is back; -ENOSPC: could not even be queued */
    uint64_t position;
    char id[48];             /* of the stream entry, "" when queued */
    unsigned nodes, applied; /* live nodes, this one included, and how many of them have applied it */
};
struct bus_send {
    struct bus_ack ack;
    bool done;
    struct task *task; /* internal */
    void *parcel;      /* internal */
};
/* Publishes an event (copied). `task` is woken (on its loop) when `done` is set: after the entry is in the stream and every
 * live node has applied it, or `wait_ms` after it is in the stream, whichever comes first. 0 or -ENOMEM. `task` NULL: nobody
 * waits, `send` may be NULL. */
int bus_publish(struct bus *bus, struct loop *from, const struct purge_event *event, uint32_t wait_ms,
                struct task *task, struct bus_send *send);
/* The sender does not wait any more; the event is sent all the same. */
void bus_forget(struct bus_send *send);

struct bus_stats {
    bool connected, caught_up;
    uint64_t position; /* last applied */
    uint64_t published, received, gaps, queued, bad;
    unsigned nodes;
};
void bus_stats(struct bus *bus, struct bus_stats *ret);
