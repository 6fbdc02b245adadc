/* The ladder as its two files see it: ladder.c (up), ladder_put.c (down). */
#pragma once

#include "cache/ladder.h"

#define LADDER_LOOPS_MAX 64
#define CLIMB_BUCKETS 256u
#define VALUES_MAX 2048

struct ladder_loop {                   /* touched by its loop alone */
    struct node climbs[CLIMB_BUCKETS]; /* struct climb, by key */
    struct node puts;                  /* struct put: variants on their way down */
    bool ready;
};

struct ladder {
    struct ladder_options options;
    struct ladder_loop loops[LADDER_LOOPS_MAX];
};

struct ladder_loop *ladder_loop(struct ladder *ladder, struct loop *loop);
/* Ends the puts of a loop. */
void ladder_puts_close(struct ladder_loop *here);
