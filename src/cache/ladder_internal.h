/* The ladder as its two files see it: ladder.c (up), ladder_put.c (down). */
#pragma once

#include "cache/ladder.h"

#define LADDER_LOOPS_MAX 64
#define CLIMB_BUCKETS 256u
#define VALUES_MAX 2048
#define DROP_SLOTS 4096u

struct ladder_loop {                   /* touched by its loop alone */
    struct node climbs[CLIMB_BUCKETS]; /* struct climb, by key */
    struct node puts;                  /* struct put: variants on their way down */
    struct node unlinks;               /* struct unlink: writes the store has not confirmed */
    bool ready;
};

struct ladder {
    struct ladder_options options;
    struct ladder_loop loops[LADDER_LOOPS_MAX];
    /* How often keys were dropped, several of them sharing a count: whoever has read before one and stores after it compares. A
     * count is raised before anything is dropped, and looked at after storing. */
    _Atomic uint32_t drops[DROP_SLOTS];
    _Atomic int64_t dropped_ms[DROP_SLOTS]; /* wall clock of the last one */
};

static inline uint32_t ladder_drops(struct ladder *ladder, const struct key *key)
{
    return atomic_load(&ladder->drops[key->hash[1] % DROP_SLOTS]);
}

struct ladder_loop *ladder_loop(struct ladder *ladder, struct loop *loop);
/* Ends the puts of a loop. */
void ladder_puts_close(struct ladder_loop *here);
