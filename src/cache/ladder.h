/* The ladder below memory: disk, then the store shared with other nodes. What is found there is put into memory on the way
 * up, and what the store had is offered to the disk; what a fill brings is written down to them, off the request's path.
 * Nothing is ever required to be there: every kind of failure is "not found", which asks the next rung.
 *
 * A climb is one search for one key on one loop; requests for the same key wait for it together. Fetches from the origin are
 * not its business (cache/fill.h). */
#pragma once

#include "cache/marks.h"
#include "proto/http1.h"
#include "store/disk.h"
#include "store/memory.h"
#include "store/shared.h"

enum rung { RUNG_MEMORY, RUNG_DISK, RUNG_SHARED, RUNG_COUNT };
/* "memory", "disk", "shared". */
struct view rung_name(enum rung rung);

struct ladder;

struct ladder_options { /* all borrowed; disk and shared may be NULL */
    struct memory *memory;
    struct disk *disk;
    struct shared *shared;
    struct marks *marks;
    unsigned loops;
    uint32_t lease_ms;      /* one node of a region fetches for all; 0: off */
    uint32_t lease_wait_ms; /* how long the others wait for it */
    /* A write could not be told to the store: its URL is purged instead, on every node, when they can be reached. NULL: not. */
    void (*purge)(void *arg, struct loop *loop, const struct mark *mark, bool everywhere);
    void *purge_arg;
};

int ladder_new(const struct ladder_options *options, struct ladder **ret);
/* On that loop's thread, when no request waits any more. */
void ladder_loop_close(struct ladder *ladder, struct loop *loop);
void ladder_free(struct ladder *ladder);

/* ---- up: looking for a response ---- */

enum ladder_disk { LADDER_DISK_AUTO, LADDER_DISK_PIN, LADDER_DISK_OFF };

struct ladder_query {
    const struct key *key;
    const struct http_request *request; /* for Vary; borrowed until ladder_leave() */
    bool disk, shared;                  /* which rungs may be asked */
    bool lease;                         /* a miss leads to a fetch that others may wait for */
    enum ladder_disk keep;              /* what is found in the shared store: for the disk, as what a fill brings */
};

struct climb;

/* A request's place at a climb; embedded in it. */
struct ladder_waiter {
    struct node link;
    struct task *task; /* woken when the climb has ended */
    struct climb *climb;
    const struct http_request *request;
};

/* Would a search have anything to ask? No I/O. */
bool ladder_may_have(struct ladder *ladder, const struct ladder_query *query);
/* Joins a climb for the key or starts one. True: look at ladder_answer() now and after each wake. False: memory is out. */
bool ladder_climb(struct ladder *ladder, const struct ladder_query *query, struct task *task,
                  struct ladder_waiter *waiter);

struct ladder_answer {
    struct object
        *object; /* a reference, which the caller gives back; NULL: nowhere. Its Vary may not be this request's */
    enum rung rung;
    bool leased;                 /* the fetch that follows is the one the region waits for */
    uint32_t disk_us, shared_us; /* what asking took; 0: not asked */
};
/* False: still under way. */
bool ladder_answer(struct ladder_waiter *waiter, struct ladder_answer *ret);
/* The end of the wait, in any state. Harmless on a zeroed waiter. */
void ladder_leave(struct ladder_waiter *waiter);

/* ---- down: keeping a response; on a loop's thread, returns at once ---- */

struct ladder_rule { /* of a route */
    enum ladder_disk disk;
    bool shared;
};

/* A complete response that is in memory (or would be). `confirmed`: only its head is new (304). `leased`: the region waits. */
void ladder_put(struct ladder *ladder, struct loop *loop, struct object *object, const struct ladder_rule *rule,
                bool confirmed, bool leased);
/* The fetch for this key ended without anything to keep. */
void ladder_release(struct ladder *ladder, struct loop *loop, const struct key *key);
/* A write concerns the key: every variant of it goes from every rung, memory too, and no search or write under way on this node
 * brings it back. Copies that other nodes fetched before it are not taken from the store here, and the store's own goes, at the
 * latest when it can be reached again. `url`: as object_url() has it, copied. */
void ladder_drop(struct ladder *ladder, struct loop *loop, const struct key *key, struct view url);
/* From the memory tier when it evicts; any thread, under its locks. */
void ladder_evicted(struct ladder *ladder, struct object *object);
