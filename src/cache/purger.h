/* The way of a purge: it takes effect on this node at once (a mark), is made durable, and goes to the other nodes. Whoever asked
 * is answered when all of that has happened, or cannot happen now.
 *
 * Positions survive restarts: every start begins a new block of them, so that what an unfinished run has stored can never look
 * newer than a mark of this one. */
#pragma once

#include "cache/bus.h"
#include "cache/marks.h"
#include "store/state.h"

struct purger;

struct purger_options { /* borrowed */
    struct marks *marks;
    struct state *state; /* NULL: nothing is kept, nothing need be */
    uint32_t wait_ms;    /* how long an answer waits for the other nodes; 0: 1000 */
};

/* Restores what the state holds into the marks. 0, -EIO (the state cannot be read), -ENOMEM. Before the loops run. */
int purger_new(const struct purger_options *options, struct purger **ret);
void purger_free(struct purger *purger);
/* From now on purges go to the other nodes, too. Before the loops run. */
void purger_set_bus(struct purger *purger, struct bus *bus);

struct purge_job;

struct purge_result {
    bool durable;   /* survives a restart; also true where nothing outlives one */
    bool bus;       /* other nodes were told, or will be when the bus is back */
    int bus_result; /* of struct bus_ack */
    uint64_t position;
    char id[48]; /* of the bus's entry */
    unsigned nodes, applied;
};

/* On a loop's thread. The mark counts when this returns. `event`: what other nodes are told, NULL: nothing. With `task`,
 * *ret_job is woken for; otherwise nobody waits. 0, -ENOMEM (the mark counts all the same). */
int purger_purge(struct purger *purger, struct loop *loop, const struct mark *mark, const struct purge_event *event,
                 struct task *task, struct purge_job **ret_job);
/* What came over the bus, or from outside with a position of its own: mark it and make it durable. */
void purger_apply(struct purger *purger, struct loop *loop, const struct mark *mark, uint64_t bus);
/* False: wait for the wake. */
bool purge_job_done(struct purge_job *job, struct purge_result *ret);
/* The end of a job in any state; what was begun goes on. NULL is fine. */
void purge_job_leave(struct purge_job *job);
