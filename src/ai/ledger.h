/* The ledger: one row for every request, whatever became of it. A loop copies rows into a batch of its own; the state's thread
 * writes whole batches. A row costs its loop a copy, and never a wait.
 *
 * A batch leaves when it is full or 50 ms old. A crash loses what has not left and what is not committed, nothing else. When the
 * disk is full or too slow, rows without money are dropped first (counted); rows with money are kept in memory, up to a bound, and
 * tried again. */
#pragma once

#include "loop/work.h"
#include "store/state_ledger.h"

struct ledger;

struct ledger_options {
    struct state *state;     /* borrowed; closed after the ledger */
    unsigned loops;          /* 0: 1 */
    unsigned retention_days; /* rows older than this are deleted, sums are not; 0: 90 */
    size_t batch_bytes;      /* 0: 64 KiB */
    size_t pending_bytes;    /* not committed yet, per loop; 0: 8 MiB. Half of it is for rows with money alone */
};

int ledger_new(const struct ledger_options *options, struct ledger **ret); /* 0 or -ENOMEM */
/* On its loop's thread, at the end: hands over what it has. A row that is written there afterwards is lost. */
void ledger_loop_close(struct ledger *ledger, struct loop *loop);
/* After all loops, before state_close(): waits until everything is committed, tries once more what failed, frees. Accepts NULL. */
void ledger_close(struct ledger *ledger);

/* On the loop's thread. Copies the row. */
void ledger_write(struct ledger *ledger, struct loop *loop, const struct ledger_row *row);

struct ledger_stats {
    uint64_t rows;             /* written to the ledger by loops */
    uint64_t committed;        /* on disk */
    uint64_t lost, lost_money; /* dropped; of these, rows that cost something */
    int64_t lost_cost;         /* what those cost, micro-units */
    uint64_t retried;          /* batches tried again */
    uint64_t forgotten;        /* deleted by age */
    uint64_t pending_bytes;    /* now */
    bool in_trouble;           /* the latest batch was not committed */
};
/* Any thread. */
struct state *ledger_state(struct ledger *ledger);
void ledger_stats(struct ledger *ledger, struct ledger_stats *ret);

/* ---- to look at; blocks: on a worker, never on a loop ---- */

/* A thread of the ledger's for reading it; ledger_close() finishes what it was given. NULL: nothing is kept. */
struct workers *ledger_workers(struct ledger *ledger);

enum ledger_format { LEDGER_CSV, LEDGER_JSON };

/* A page as CSV (with its head when query->after is 0) or JSON lines. 0 and *ret_after (0: that was all); -EIO, -ENOMEM. */
int ledger_export(struct ledger *ledger, const struct state_ledger_query *query, enum ledger_format format,
                  struct buf *out, int64_t *ret_after);

enum ledger_by { LEDGER_BY_DAY, LEDGER_BY_TENANT, LEDGER_BY_KEY, LEDGER_BY_MODEL };
/* Sums over whole UTC days, in the same formats. 0, -EIO, -ENOMEM. */
int ledger_export_sums(struct ledger *ledger, int32_t first_day, int32_t last_day, struct view tenant,
                       enum ledger_by by, enum ledger_format format, struct buf *out);

/* "ok", "hit", ...; "none", "memory", ... */
struct view ledger_outcome_name(enum ledger_outcome outcome);
struct view ledger_tier_name(enum ledger_tier tier);
