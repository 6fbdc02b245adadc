/* The shared tier: responses by key in a Redis-protocol store that the nodes of a region have in common. Eventually
 * consistent by design: writes are asynchronous, bounded and droppable, and nothing is required to be there.
 *
 * Every failure (missing, torn, foreign version, store gone, slow, out of memory, rubbish) is a miss. Times in an entry are in
 * the store's clock, which each loop measures (TIME) against its own; what an entry's times can be wrong by is the half round
 * trip of that measurement. While it is not known, nothing is read or written.
 *
 * Keys: <prefix><region>:o:<32 hex digits>, leases <prefix><region>:l:<32 hex digits>. The position in an entry is the purge bus's. */
#pragma once

#include "store/entry.h"
#include "store/redis.h"

struct shared;

struct shared_options {
    struct redis *redis; /* borrowed */
    struct view prefix, region;
    uint64_t max_object;  /* bytes of head and body; 0: 1 MiB */
    uint32_t timeout_ms;  /* of a read; 0: 50 */
    uint64_t queue_bytes; /* of writes under way, per loop; 0: 16 MiB */
    unsigned loops;
    int64_t keep_stale_ms; /* how long an entry stays after its freshness and stale windows are over; 0: 1 hour */
};

int shared_new(const struct shared_options *options, struct shared **ret);
void shared_loop_close(struct shared *shared, struct loop *loop);
void shared_free(struct shared *shared);

/* ---- reading ---- */

struct shared_get {
    struct redis_call call;
    const struct key *key; /* borrowed until the end */
    struct shared *shared;
};
/* -EAGAIN: `task` is woken, then shared_get_result(). -ENOENT: not to be had (also: breaker open). `get` is zeroed by this. */
int shared_get(struct shared *shared, struct entry_key at, const struct key *key, struct task *task,
               struct shared_get *get);
/* -EAGAIN; 0 and *ret_object (one reference, complete; status 0 for an ENTRY_VARY; purge_pos in terms of the bus, times in
 * this node's wall clock); -ENOENT for every kind of miss. Any answer but -EAGAIN ends it. */
int shared_get_result(struct shared_get *get, struct object **ret_object);
void shared_get_cancel(struct shared_get *get);

/* ---- writing; on a loop's thread ---- */

/* Queues a SET with the entry's absolute end of life. `position` is the bus's. Drops and counts what is too large or too much.
 * `release`: the lease of `at` ends with it. */
void shared_put(struct shared *shared, struct loop *loop, struct entry_key at, struct object *object, uint64_t position,
                bool release);
void shared_put_vary(struct shared *shared, struct loop *loop, struct entry_key at, const struct key *key,
                     struct view vary_names, uint64_t generation, uint64_t position, int64_t lifetime_ms);
void shared_drop(struct shared *shared, struct loop *loop, struct entry_key at);

/* ---- leases: one node of a region fills, the others wait a little ---- */

/* Like shared_get(): then shared_lease_result() says 0: ours; -EBUSY: another node has it; -ENOENT: no word from the store
 * (go on without). */
int shared_lease(struct shared *shared, struct entry_key at, uint32_t lease_ms, struct task *task, struct shared_get *get);
int shared_lease_result(struct shared_get *get);
/* Ours is over without an entry (the response cannot be stored). Only removes a lease that is still this node's. */
void shared_lease_release(struct shared *shared, struct loop *loop, struct entry_key at);

struct shared_stats {
    uint64_t hits, misses, errors, timeouts, torn, foreign, writes, written_bytes, dropped_full, dropped_large, drops,
        leases, leases_lost;
    int64_t clock_offset_ms; /* store minus node, as last measured */
    uint32_t clock_error_ms;
    bool clock_known;
};
void shared_stats(struct shared *shared, struct shared_stats *ret);
