/* The database file under state.c: SQLite is spoken here, in its ledger part, and nowhere else. Not thread-safe; state.c holds a lock. */
#pragma once

#include "store/state.h"
#include "store/state_ledger.h"

#include <sqlite3.h>

#define STATE_IDENTITY_SIZE 16

#define STATE_DB_LEDGER_SUMS 128u

struct state_db_ledger {
    sqlite3_stmt *insert, *add, *forget, *by_time, *by_tenant, *sums;
    uint32_t sequence;
    struct ledger_sum gathered[STATE_DB_LEDGER_SUMS]; /* of the batch being written */
};

struct state_db {
    sqlite3 *handle;
    struct state_db_ledger ledger;
    sqlite3_stmt *begin, *commit, *rollback, *put_mark, *forget, *put_value, *drop_value, *get_value, *marks;
};

/* As state_open(). On failure nothing stays open. */
int state_db_open(struct state_db *db, struct view path, uint8_t ret_identity[STATE_IDENTITY_SIZE],
                  struct text *reason);
void state_db_close(struct state_db *db);

/* One transaction: begin, any number of writes, commit. 0, -EIO, -ENOSPC, -ENOMEM; after any failure (or instead of the
 * commit) state_db_rollback(). The commit has reached the disk when it returns 0. */
int state_db_begin(struct state_db *db);
int state_db_write(struct state_db *db, const struct state_write *write);
int state_db_commit(struct state_db *db);
void state_db_rollback(struct state_db *db);
/* What the last failing call ran into, in words. */
void state_db_trouble(struct state_db *db, struct text *to);

int state_db_get(struct state_db *db, struct view name, char **ret, size_t *ret_len);
int state_db_marks(struct state_db *db, void (*each)(const struct state_mark *mark, void *arg), void *arg);

/* What an answer of SQLite is as the result of a function of ours. */
int state_db_errno(int rc);

/* ---- state_db_ledger.c ---- */

extern const char state_db_ledger_sql[]; /* makes the tables */
int state_db_ledger_prepare(struct state_db *db);
void state_db_ledger_close(struct state_db *db);
/* Inside a transaction. As state_db_write(). */
int state_db_ledger_write(struct state_db *db, struct state_rows *rows);
int state_db_ledger_page(struct state_db *db, const struct state_ledger_query *query,
                         void (*each)(const struct ledger_row *row, int64_t id, void *arg), void *arg,
                         int64_t *ret_after);
int state_db_ledger_sums(struct state_db *db, int32_t first, int32_t last,
                         void (*each)(const struct ledger_sum *sum, void *arg), void *arg);
