/* Freeing after a grace period. One thread takes everything that was deferred, waits for all readers once, frees it all.
 * Deferring never allocates and never fails: the link lies in what is deferred. */
#pragma once

#include "base/compiler.h"

#include <stdatomic.h>
#include <stdint.h>

struct reclaim;

struct reclaim_node {
    _Atomic(struct reclaim_node *) next; /* atomic, relaxed: it may overlay a word that late readers still look at */
};

struct reclaim_options {
    /* On the reclaiming thread, after the grace period; kind is 0..2 as given to reclaim_defer(). */
    void (*release)(void *arg, struct reclaim_node *node, unsigned kind);
    /* On the reclaiming thread, registered with RCU and online: after every reclaim_wake(). */
    void (*work)(void *arg);
    void *arg;
};

/* 0, -ENOMEM, or what creating a thread said. */
int reclaim_new(const struct reclaim_options *options, struct reclaim **ret);
/* Releases what waits, ends the thread. The caller is not a reader (offline, or never registered). */
void reclaim_free(struct reclaim *reclaim);
/* Any thread. The node is 8-byte aligned and out of readers' sight but for those who found it already. */
void reclaim_defer(struct reclaim *reclaim, struct reclaim_node *node, unsigned kind);
/* Returns when everything deferred before has been released; a reader is taken offline meanwhile. */
void reclaim_barrier(struct reclaim *reclaim);
/* Has options.work called soon. */
void reclaim_wake(struct reclaim *reclaim);
