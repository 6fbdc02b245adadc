/* How far an outbox table was read. Pure.
 *
 * Transactions get their numbers when they first write and become visible when they commit, in any other order: "all rows up to
 * number N" would skip those that commit late. So the position is a snapshot, as pg_current_snapshot() says it: "xmin:xmax:" and
 * the numbers between them that were still running. Everything it could see is applied. The next read asks for what is visible
 * now and was not visible then: rows of late transactions are among them, rows from beyond a long-running one do not wait for it, and
 * nothing is read twice.
 *
 * With it goes what shows that this history is not the one we read: whose it is, how many deletions there had been, and one row that
 * was read (the anchor). */
#pragma once

#include "base/text.h"

#define POSITION_IDENTITY_MAX 96
/* A running transaction takes up to 20 bytes in a snapshot; longer ones are refused, and the position waits. */
#define POSITION_SNAPSHOT_MAX ((size_t)1 << 20)

struct position {
    char identity[POSITION_IDENTITY_MAX]; /* system identifier, timeline, database, table */
    char *snapshot;                       /* heap, owned; NULL: there is no position */
    uint64_t xmin, xmax;                  /* of the snapshot */
    uint64_t deletions;
    char anchor_xid[24], anchor_id[24], anchor_made[24]; /* as numbers in text; anchor_xid "0": none */
    uint64_t wal;                                        /* the snapshot's history was written up to here; not kept */
};

/* What a read of the table says about the table itself. */
struct position_facts {
    const char *identity;
    uint64_t xmax;        /* of the read's snapshot */
    uint64_t deletions;   /* how often rows were deleted */
    uint64_t deleted_xid; /* the highest number among deleted rows */
    bool anchor_found;
};

/* "xmin:xmax:..." with only digits, colons and commas. 0 or -EINVAL. */
int position_parse_snapshot(const char *snapshot, uint64_t *ret_xmin, uint64_t *ret_xmax);
/* A copy. 0 or -ENOMEM (`to` is untouched). What `to` held is freed. */
int position_copy(struct position *to, const struct position *from);
void position_free(struct position *position);

/* NULL: rows after `position` are all that was missed; else why nobody can say. */
const char *position_gap(const struct position *position, const struct position_facts *facts);

/* The form that is kept: one line of words. `out` must have room for the snapshot and 400 bytes. */
void position_put(const struct position *position, struct text *out);
/* 0 and *ret (free it); -EINVAL; -ENOMEM. */
int position_parse(struct view line, struct position *ret);
