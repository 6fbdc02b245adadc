/* The shared tier: responses by key in a Redis-protocol store that the nodes of a region have in common. Eventually
 * consistent by design: writes are asynchronous, bounded and droppable, and nothing is required to be there.
 *
 * Every failure (missing, torn, foreign version, store gone, slow, out of memory, rubbish) is a miss. Times in an entry are in
 * the store's clock, which each loop measures (TIME) against its own; what an entry's times can be wrong by is the half round
 * trip of that measurement. While it is not known, nothing is written and what is read is a miss.
 *
 * Keys: <prefix><region>:o:{<32 hex digits>}, leases <prefix><region>:l:{<32 hex digits>}. The braces are Redis Cluster's hash tag:
 * an entry and its lease lie in one slot. The position in an entry is the purge bus's. */
#pragma once

#include "store/entry.h"
#include "store/redis.h"

struct shared;

struct shared_options {
    struct redis *redis;        /* borrowed; its loop_close comes after ours, its free too */
    struct view prefix, region; /* no braces; 64 bytes each at most */
    uint64_t max_object;        /* bytes of head and body; 0: 1 MiB */
    uint32_t timeout_ms;        /* of a read or lease; 0: 50 */
    uint64_t queue_bytes;       /* of writes not acknowledged, per loop; 0: 16 MiB */
    unsigned loops;             /* 0: 1 */
    int64_t
        keep_stale_ms; /* how long an entry stays after its freshness and stale windows are over; 0: 1 hour; <0: not */
};

/* 0, -EINVAL: prefix or region, -ENOMEM. */
int shared_new(const struct shared_options *options, struct shared **ret);
/* On each loop's thread, before redis_loop_close(). Reads under way must have been cancelled or ended. */
void shared_loop_close(struct shared *shared, struct loop *loop);
void shared_free(struct shared *shared);

/* ---- reading ---- */

struct shared_get {
    struct redis_call call;
    struct shared *shared;
    struct loop *loop;
    const struct key *key; /* borrowed until the end */
    struct entry_key at;
    bool lease;
};
/* -EAGAIN: `task` is woken, then shared_get_result(). -ENOENT: not to be had (also: breaker open). `get` is zeroed by this. */
int shared_get(struct shared *shared, struct entry_key at, const struct key *key, struct task *task,
               struct shared_get *get);
/* -EAGAIN; 0 and *ret_object (one reference, complete; status 0 for an ENTRY_VARY; purge_pos in terms of the bus, times in
 * this node's wall clock); -ENOENT for every kind of miss. Any answer but -EAGAIN ends it. */
int shared_get_result(struct shared_get *get, struct object **ret_object);
/* Also ends a lease that is asked for; one that was granted meanwhile runs out by itself. Harmless when ended or zeroed. */
void shared_get_cancel(struct shared_get *get);

/* ---- writing; on a loop's thread ---- */

/* Queues a SET with the entry's absolute end of life. `position` is the bus's. Drops and counts what is too large or too much; what
 * is incomplete, external or past its life is not written. `release`: the lease of `at` ends with it, in any of these cases. */
void shared_put(struct shared *shared, struct loop *loop, struct entry_key at, struct object *object, uint64_t position,
                bool release);
/* The names under which variants of `key` stand. `lifetime_ms` from now: of the longest-lived variant; keep_stale_ms is added. */
void shared_put_vary(struct shared *shared, struct loop *loop, struct entry_key at, const struct key *key,
                     struct view vary_names, uint64_t generation, uint64_t position, int64_t lifetime_ms);
void shared_drop(struct shared *shared, struct loop *loop, struct entry_key at);
/* The same ahead of queued writes, and with an answer: like shared_get(), then shared_unlink_result() says -EAGAIN; 0: the entry is
 * gone; -ENOENT: no word from the store. Together with shared_drop(), which keeps the order of writes, nothing from before is left. */
int shared_unlink(struct shared *shared, struct entry_key at, struct task *task, struct shared_get *get);
int shared_unlink_result(struct shared_get *get);

/* ---- leases: one node of a region fills, the others wait a little ---- */

/* Like shared_get(): then shared_lease_result() says -EAGAIN; 0: ours for lease_ms; -EBUSY: another has it; -ENOENT: no word from
 * the store (go on without). */
int shared_lease(struct shared *shared, struct entry_key at, uint32_t lease_ms, struct task *task,
                 struct shared_get *get);
int shared_lease_result(struct shared_get *get);
/* Ours is over without an entry (the response cannot be stored). Only removes a lease that is still this node's. */
void shared_lease_release(struct shared *shared, struct loop *loop, struct entry_key at);

struct shared_stats {
    uint64_t hits, misses; /* every read is one of them; those below are kinds of misses */
    uint64_t errors, timeouts, torn, foreign;
    uint64_t writes, written_bytes; /* queued */
    uint64_t write_failures;        /* of those: no answer, or an error (out of memory, read-only) */
    uint64_t dropped_full, dropped_large,
        dropped_other;            /* not queued: queue; size; store down or its clock not known */
    uint64_t drops;               /* shared_drop() */
    uint64_t leases, leases_lost; /* granted to us; another had it */
    uint64_t queued_bytes;        /* writes not acknowledged now */
    int64_t clock_offset_ms;      /* store minus node, as last used */
    uint32_t clock_error_ms;
    bool clock_known;
};
/* Any thread. */
void shared_stats(struct shared *shared, struct shared_stats *ret);
