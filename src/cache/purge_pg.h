/* Purges from a PostgreSQL table: a thread that LISTENs, and reads what an outbox table says whenever it is woken, every few
 * seconds, and after each reconnect. A notification only wakes; the table is the truth. docs/purge-on-write.md has the SQL and
 * the reasoning, purge_pg_position.h how far was read.
 *
 * Each event is applied at least once, in no particular order, and what was applied is not asked for again once the position
 * behind it is kept. When nobody can say what was missed (the outbox was cleared, another or restored database, no position yet)
 * one event "soft, all" stands for it. */
#pragma once

#include "cache/purge_event.h"
#include "store/state.h"

struct purge_pg;
struct purge_pg_done; /* one batch; each event of it is told once */

struct purge_pg_options { /* texts are copied */
    struct view url;      /* postgres://..., or a key=value list */
    struct view channel;  /* default doorstep_purge */
    struct view table;    /* default doorstep_outbox; may have a schema: shop.doorstep_outbox */
    struct state *state;  /* borrowed; the position is its value "postgres" */
    struct loop *loop;    /* apply and caught_up run here */
    /* Called for every event of a batch; `event` is borrowed until its purge_pg_done(). */
    void (*apply)(void *arg, const struct purge_event *event, struct purge_pg_done *done);
    /* All that had happened when the (re)connected listener looked is applied. May be NULL. */
    void (*caught_up)(void *arg);
    void *arg;
    unsigned poll_ms;   /* the table is looked at at least this often; 0: 5000 */
    unsigned answer_ms; /* how long the server may take for one; 0: 25000 */
};

/* Checks the options and starts the thread; the server need not be there. 0, -ENOMEM, -EINVAL with the reason appended. */
int purge_pg_new(const struct purge_pg_options *options, struct purge_pg **ret, struct text *reason);
/* Stops and joins the thread; what is under way is given up (and done again after the next start). On the loop's own thread:
 * nothing is called any more from then on. While the thread looks up a host name this waits for the resolver. */
void purge_pg_stop(struct purge_pg *pg);
/* After purge_pg_stop(), when `loop` runs no more and no purge_pg_done() is to come. NULL is fine. */
void purge_pg_free(struct purge_pg *pg);

/* The event is applied, and durably so (0), or could not be (-errno: the whole batch comes again later). Any thread, also from
 * within apply. */
void purge_pg_done(struct purge_pg_done *done, int result);

/* Connected, and nothing is known that is not applied. False at first, and again from each lost connection until it has caught
 * up. Any thread. */
bool purge_pg_current(struct purge_pg *pg);

struct purge_pg_stats {
    bool current;
    bool kept;         /* the kept position covers all that was applied: a restart applies nothing again */
    uint64_t events;   /* applied */
    uint64_t refused;  /* rows that say no purge: skipped */
    uint64_t gaps;     /* times everything was made stale */
    uint64_t connects; /* connections that came to listening */
    uint64_t errors;   /* connections and attempts that failed */
    uint64_t reads;    /* looks at the table */
    char trouble[160]; /* why it is not connected; "" when it is */
};
void purge_pg_stats(struct purge_pg *pg, struct purge_pg_stats *ret);
