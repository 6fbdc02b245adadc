/* The database file under state.c: SQLite is spoken here and nowhere else. Not thread-safe; state.c holds a lock. */
#pragma once

#include "store/state.h"

#include <sqlite3.h>

#define STATE_IDENTITY_SIZE 16

struct state_db {
    sqlite3 *handle;
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
