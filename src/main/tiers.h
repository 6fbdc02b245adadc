/* Everything below memory and what keeps it right: durable state, purge marks, disk tier, shared store, bus, database listener.
 * Made before the loops run and ended while they still do, in the order of the functions below. */
#pragma once

#include "cache/purge_pg.h"
#include "http/server.h"
#include "main/site.h"

struct tiers {
    struct server *server; /* its disk, shared, ladder, marks, purger and bus are set by tiers_open() */
    struct state *state;
    bool forgetful; /* the state could not be opened: nothing that outlives the run can be trusted */
    struct workers *workers;
    struct redis *redis;
    struct purge_pg *pg;
    struct loop *home; /* where bus and database listener live */
    struct task pg_task;
    struct timer pg_timer;
    struct node pg_batch; /* struct pg_purge */
    struct task watch_task;
    struct timer watch_timer;
    bool disk_on; /* as last said in the log */
    uint64_t disk_switched_off;
    struct view url, channel, table;
};

/* 0; -errno, the reason logged: a state that cannot be read, options that cannot work. A disk or store that is away is no
 * failure. `server->memory` and its table exist. */
int tiers_open(struct tiers *tiers, struct server *server, const struct site *site, struct loop *const *loops,
               unsigned loop_count);
/* On the home loop's thread: begins to follow the other nodes and the database. */
void tiers_start(struct tiers *tiers);
/* On the home loop's thread, the clients gone: stops following. */
void tiers_stop(struct tiers *tiers);
/* On each loop's thread, the fills ended. */
void tiers_close_loop(struct tiers *tiers, struct loop *loop);
/* From the main thread while the loops still run: commits what is queued; answers go to the loops. */
void tiers_close_state(struct tiers *tiers);
/* The loops have ended, but are not freed yet. */
void tiers_free(struct tiers *tiers);
