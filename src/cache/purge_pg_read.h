/* The SQL of the outbox table, and what its answers say. No thread, no policy. */
#pragma once

#include "cache/pg.h"
#include "cache/purge_pg_position.h"

#define OUTBOX_BATCH 1000

struct outbox {
    char *listen_sql, *read_sql; /* heap */
    char server[64];             /* identity without the table, once connected */
    unsigned answer_ms;
};

/* Texts for `channel` and `table`. `answer_ms`: for each answer of the server. 0; -EINVAL (names that are none), -ENOMEM, with the reason appended. */
int outbox_init(struct outbox *outbox, struct view channel, struct view table, unsigned answer_ms, struct text *reason);
void outbox_free(struct outbox *outbox);

/* Right after pg_open(): settings of the session, who the server is, LISTEN. 0, or as pg_query() says. */
int outbox_begin(struct outbox *outbox, struct pg *pg, struct text *reason);

/* One look at the table: up to OUTBOX_BATCH rows, and what is so in the same moment. */
struct outbox_look {
    struct pg_result *result;
    int facts_row;
    char identity[POSITION_IDENTITY_MAX];
    const char *snapshot; /* inside result */
    uint64_t xmin, xmax;
    uint64_t deletions, deleted_xid;
    uint64_t wal_inserted, wal_flushed;
    bool anchor_found;
    int rows;
};
struct outbox_row {
    struct view kind, target; /* target.ptr NULL: too long */
    bool soft;
    uint64_t xid;
    int64_t id;
    const char *xid_text, *id_text, *made_text;
};
/* Rows that `position` (none: no rows) has not seen and `until` (a snapshot; NULL: now) has, behind (after_xid, after_id).
 * 0 and *ret (PQclear(ret->result)), or as pg_query() says. */
int outbox_look(struct outbox *outbox, struct pg *pg, const struct position *position, const char *until,
                const char *after_xid, const char *after_id, struct outbox_look *ret, struct text *reason);
/* Row i of 0..rows-1, in any order. False: its numbers are none. */
bool outbox_row(const struct outbox_look *look, int i, struct outbox_row *ret);
