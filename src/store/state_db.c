/* Opening, checking, reading and writing the one database file.
 *
 * A file is ours when its application_id says so. The check comes before anything is written, under the exclusive lock that is
 * then kept until the end (locking_mode=EXCLUSIVE): two nodes cannot have it open, and SQLite needs no shared memory file.
 * Making the database is one transaction, done before WAL is switched on, so that a file is either empty or carries our id,
 * whenever the power goes.
 *
 * synchronous=FULL in WAL mode: every commit syncs the log before it is answered. A checkpoint (after some 4 MB of log, as a
 * part of the commit that passes this mark) syncs the database file before the log is used again.
 *
 * A file that was removed or renamed under us still takes writes, which nobody would find again: a commit looks (one stat). */
#include "store/state_db.h"

#include "base/check.h"
#include "base/heap.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define APPLICATION_ID 0x44535450 /* "DSTP" */
#define FORMAT 2                  /* 1: without the ledger */
#define PATH_MAX_LEN 4000

static_assert(APPLICATION_ID == 0x44535450 && FORMAT == 2, "the SQL says the same");
static const char make_sql[] =
    "CREATE TABLE node(identity BLOB NOT NULL);"
    "CREATE TABLE mark(position INTEGER PRIMARY KEY, bus INTEGER NOT NULL, kind INTEGER NOT NULL,"
    " soft INTEGER NOT NULL, text BLOB NOT NULL);"
    "CREATE TABLE value(name BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;"
    "PRAGMA application_id=0x44535450;";
static const char set_format_sql[] = "PRAGMA user_version=2;";

/* ---- errors ---- */

int state_db_errno(int rc)
{
    switch (rc & 0xff) {
    case SQLITE_OK:
    case SQLITE_DONE:
    case SQLITE_ROW: return 0;
    case SQLITE_FULL: return -ENOSPC;
    case SQLITE_NOMEM: return -ENOMEM;
    default: return -EIO;
    }
}

void state_db_trouble(struct state_db *db, struct text *to)
{
    text_put(to, view_str(sqlite3_errmsg(db->handle)));
    if (sqlite3_system_errno(db->handle))
        text_printf(to, " (%s)", strerrordesc_np(sqlite3_system_errno(db->handle)));
}

/* One line of what is broken; only asked when SQLite has said that something is. */
static void say_damage(struct state_db *db, struct text *reason)
{
    sqlite3_stmt *check = NULL;

    text_lit(reason, "it is damaged");
    if (sqlite3_prepare_v2(db->handle, "PRAGMA quick_check(1)", -1, &check, NULL) == SQLITE_OK &&
        sqlite3_step(check) == SQLITE_ROW)
        text_printf(reason, " (%.80s)", (const char *)sqlite3_column_text(check, 0));
    sqlite3_finalize(check);
    text_lit(reason, "; move it away to start with an empty one");
}

/* Why opening failed; the code that state_open() returns. */
static int say_why(struct state_db *db, int rc, struct text *reason)
{
    int system = db->handle ? sqlite3_system_errno(db->handle) : 0;

    switch (rc & 0xff) {
    case SQLITE_NOMEM: text_lit(reason, "out of memory"); return -ENOMEM;
    case SQLITE_BUSY:
    case SQLITE_LOCKED: text_lit(reason, "another node has it open"); return -EBUSY;
    case SQLITE_NOTADB: text_lit(reason, "not a database"); return -EINVAL;
    case SQLITE_CORRUPT: say_damage(db, reason); return -EINVAL;
    case SQLITE_FULL: text_lit(reason, "no space left on the device"); return -ENOSPC;
    case SQLITE_READONLY: text_lit(reason, "it cannot be written"); return -EACCES;
    default: state_db_trouble(db, reason); return system ? -system : -EIO;
    }
}

/* ---- opening ---- */

/* The file, and its folder when only that is missing. Made here for the mode: what was purged is nobody else's business. An
 * existing file is not opened: closing it again would drop the locks that this process may hold on it. */
static int make_file(const char *path, struct text *reason)
{
    const char *slash = strrchr(path, '/');
    char folder[PATH_MAX_LEN + 1];
    int fd, r;

    if (slash && slash != path) {
        memcpy(folder, path, (size_t)(slash - path));
        folder[slash - path] = '\0';
        if (mkdir(folder, 0700) < 0 && errno != EEXIST) {
            r = -errno;
            text_printf(reason, "making %s: %s", folder, strerrordesc_np(-r));
            return r;
        }
    }
    fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0 && errno != EEXIST) {
        r = -errno;
        text_put(reason, view_str(strerrordesc_np(-r)));
        return r;
    }
    if (fd >= 0)
        close(fd);
    return 0;
}

static int run(struct state_db *db, const char *sql)
{
    return sqlite3_exec(db->handle, sql, NULL, NULL, NULL);
}

/* The first column of the first row, as a number. */
static int ask_number(struct state_db *db, const char *sql, int64_t *ret)
{
    sqlite3_stmt *question = NULL;
    int rc = sqlite3_prepare_v2(db->handle, sql, -1, &question, NULL);

    if (rc == SQLITE_OK)
        rc = sqlite3_step(question);
    if (rc == SQLITE_ROW)
        *ret = sqlite3_column_int64(question, 0);
    sqlite3_finalize(question);
    return rc == SQLITE_ROW ? SQLITE_OK : rc == SQLITE_DONE ? SQLITE_CORRUPT : rc;
}

/* What format 2 has that format 1 had not. */
static int add_ledger(struct state_db *db)
{
    int rc = run(db, state_db_ledger_sql);

    return rc == SQLITE_OK ? run(db, set_format_sql) : rc;
}

static int make_tables(struct state_db *db)
{
    uint8_t identity[STATE_IDENTITY_SIZE];
    sqlite3_stmt *insert = NULL;
    int rc = run(db, make_sql);

    if (rc == SQLITE_OK)
        rc = add_ledger(db);
    if (rc != SQLITE_OK)
        return rc;
    CHECK(getrandom(identity, sizeof(identity), 0) == sizeof(identity));
    rc = sqlite3_prepare_v2(db->handle, "INSERT INTO node VALUES(?1)", -1, &insert, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_bind_blob(insert, 1, identity, sizeof(identity), SQLITE_STATIC);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(insert);
    sqlite3_finalize(insert);
    return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

/* Inside the exclusive transaction: ours, new, or to be refused? *refused when the reason is told already. */
static int claim(struct state_db *db, bool *refused, struct text *reason)
{
    int64_t application = 0, format = 0, things = 0;
    int rc = ask_number(db, "PRAGMA application_id", &application);

    if (rc == SQLITE_OK)
        rc = ask_number(db, "PRAGMA user_version", &format);
    if (rc == SQLITE_OK)
        rc = ask_number(db, "SELECT count(*) FROM sqlite_master", &things);
    if (rc != SQLITE_OK)
        return rc;
    if (application == 0 && format == 0 && things == 0)
        return make_tables(db);
    if (application != APPLICATION_ID) {
        text_lit(reason, "it is the database of another program");
        *refused = true;
    } else if (format > FORMAT || format < 1) {
        text_printf(reason, "it was made by a newer version (format %lld, this version knows %d)", (long long)format,
                    FORMAT);
        *refused = true;
    } else if (format == 1) {
        return add_ledger(db);
    }
    return SQLITE_OK;
}

static int set_up(struct state_db *db, bool *refused, struct text *reason)
{
    int rc;

    sqlite3_extended_result_codes(db->handle, 1);
    sqlite3_db_config(db->handle, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(db->handle, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    rc = run(db, "PRAGMA locking_mode=EXCLUSIVE; PRAGMA synchronous=FULL; PRAGMA temp_store=MEMORY; PRAGMA mmap_size=0;"
                 "PRAGMA cache_size=-1024; PRAGMA cell_size_check=ON; BEGIN EXCLUSIVE");
    if (rc != SQLITE_OK)
        return rc;
    rc = claim(db, refused, reason);
    if (rc != SQLITE_OK || *refused) {
        run(db, "ROLLBACK");
        return rc;
    }
    rc = run(db, "COMMIT");
    /* The pragma answers with the mode that is then in force; a file system without what WAL needs would keep the old one,
     * whose commits are as durable. The empty transaction makes sure of the lock in the new mode. */
    if (rc == SQLITE_OK)
        rc = run(db, "PRAGMA journal_mode=WAL; BEGIN IMMEDIATE; COMMIT");
    return rc;
}

static int prepare_all(struct state_db *db)
{
    const struct {
        sqlite3_stmt **to;
        const char *sql;
    } list[] = {
        { &db->begin, "BEGIN IMMEDIATE" },
        { &db->commit, "COMMIT" },
        { &db->rollback, "ROLLBACK" },
        { &db->put_mark, "INSERT OR REPLACE INTO mark(position, bus, kind, soft, text) VALUES(?1, ?2, ?3, ?4, ?5)" },
        { &db->forget, "DELETE FROM mark WHERE position < ?1" },
        { &db->put_value, "INSERT OR REPLACE INTO value(name, value) VALUES(?1, ?2)" },
        { &db->drop_value, "DELETE FROM value WHERE name = ?1" },
        { &db->get_value, "SELECT value FROM value WHERE name = ?1" },
        { &db->marks, "SELECT position, bus, kind, soft, text FROM mark ORDER BY position" },
    };
    int rc = SQLITE_OK;

    for (size_t i = 0; i < ARRAY_LEN(list) && rc == SQLITE_OK; i++)
        rc = sqlite3_prepare_v3(db->handle, list[i].sql, -1, SQLITE_PREPARE_PERSISTENT, list[i].to, NULL);
    return rc == SQLITE_OK ? state_db_ledger_prepare(db) : rc;
}

static int read_identity(struct state_db *db, uint8_t ret[STATE_IDENTITY_SIZE])
{
    sqlite3_stmt *question = NULL;
    int rc = sqlite3_prepare_v2(db->handle, "SELECT identity FROM node", -1, &question, NULL);

    if (rc == SQLITE_OK)
        rc = sqlite3_step(question);
    if (rc == SQLITE_ROW && sqlite3_column_bytes(question, 0) == STATE_IDENTITY_SIZE) {
        memcpy(ret, sqlite3_column_blob(question, 0), STATE_IDENTITY_SIZE);
        rc = SQLITE_OK;
    } else if (rc == SQLITE_ROW || rc == SQLITE_DONE) {
        rc = SQLITE_CORRUPT;
    }
    sqlite3_finalize(question);
    return rc;
}

int state_db_open(struct state_db *db, struct view path, uint8_t ret_identity[STATE_IDENTITY_SIZE], struct text *reason)
{
    char name[PATH_MAX_LEN + 1];
    bool refused = false;
    int rc, r;

    *db = (struct state_db){ 0 };
    if (path.len > PATH_MAX_LEN || view_contains(path, '\0')) {
        text_lit(reason, "the path is too long");
        return -ENAMETOOLONG;
    }
    memcpy(name, path.ptr, path.len);
    name[path.len] = '\0';
    r = make_file(name, reason);
    if (r < 0)
        return r;
    rc = sqlite3_open_v2(name, &db->handle, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    if (rc == SQLITE_OK)
        rc = set_up(db, &refused, reason);
    if (rc == SQLITE_OK && !refused)
        rc = prepare_all(db);
    if (rc == SQLITE_OK && !refused)
        rc = read_identity(db, ret_identity);
    if (rc == SQLITE_OK && !refused)
        return 0;
    r = refused ? -EINVAL : say_why(db, rc, reason);
    state_db_close(db);
    return r;
}

void state_db_close(struct state_db *db)
{
    sqlite3_stmt *list[] = { db->begin,     db->commit,     db->rollback,  db->put_mark, db->forget,
                             db->put_value, db->drop_value, db->get_value, db->marks };

    for (size_t i = 0; i < ARRAY_LEN(list); i++)
        sqlite3_finalize(list[i]);
    state_db_ledger_close(db);
    sqlite3_close(db->handle);
    *db = (struct state_db){ 0 };
}

/* ---- writing ---- */

/* Runs a statement that gives no rows, and makes it ready for the next time. */
static int step(sqlite3_stmt *statement)
{
    int rc = sqlite3_step(statement);

    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
    return state_db_errno(rc);
}

/* An empty view is an empty blob, not NULL. Borrowed until the statement has run. */
static void bind_view(sqlite3_stmt *statement, int at, struct view v)
{
    sqlite3_bind_blob64(statement, at, v.len ? v.ptr : "", v.len, SQLITE_STATIC);
}

int state_db_begin(struct state_db *db)
{
    return step(db->begin);
}

int state_db_write(struct state_db *db, const struct state_write *write)
{
    int r = 0;

    if (write->mark.kind) {
        sqlite3_bind_int64(db->put_mark, 1, (int64_t)write->mark.position);
        sqlite3_bind_int64(db->put_mark, 2, (int64_t)write->mark.bus);
        sqlite3_bind_int(db->put_mark, 3, write->mark.kind);
        sqlite3_bind_int(db->put_mark, 4, write->mark.soft);
        bind_view(db->put_mark, 5, write->mark.text);
        r = step(db->put_mark);
    }
    if (r == 0 && write->forget_before) {
        sqlite3_bind_int64(db->forget, 1, (int64_t)MIN(write->forget_before, (uint64_t)INT64_MAX));
        r = step(db->forget);
    }
    if (r == 0 && write->name.len) {
        sqlite3_stmt *statement = write->value.len ? db->put_value : db->drop_value;

        bind_view(statement, 1, write->name);
        if (write->value.len)
            bind_view(statement, 2, write->value);
        r = step(statement);
    }
    return r;
}

int state_db_commit(struct state_db *db)
{
    int moved = 0, r = step(db->commit);

    if (r == 0 && sqlite3_file_control(db->handle, "main", SQLITE_FCNTL_HAS_MOVED, &moved) == SQLITE_OK && moved)
        r = -ESTALE;
    return r;
}

void state_db_rollback(struct state_db *db)
{
    if (!sqlite3_get_autocommit(db->handle))
        step(db->rollback);
}

/* ---- reading ---- */

static struct view column_view(sqlite3_stmt *row, int at)
{
    const void *bytes = sqlite3_column_blob(row, at);

    return view_make(bytes, (size_t)sqlite3_column_bytes(row, at));
}

int state_db_get(struct state_db *db, struct view name, char **ret, size_t *ret_len)
{
    int rc, r;

    bind_view(db->get_value, 1, name);
    rc = sqlite3_step(db->get_value);
    if (rc == SQLITE_ROW) {
        struct view value = column_view(db->get_value, 0);
        char *copy = heap_strdup(value.ptr, value.len);

        r = copy ? 0 : -ENOMEM;
        if (copy) {
            *ret = copy;
            *ret_len = value.len;
        }
    } else {
        r = rc == SQLITE_DONE ? -ENOENT : state_db_errno(rc);
    }
    sqlite3_reset(db->get_value);
    sqlite3_clear_bindings(db->get_value);
    return r;
}

int state_db_marks(struct state_db *db, void (*each)(const struct state_mark *mark, void *arg), void *arg)
{
    int rc;

    while ((rc = sqlite3_step(db->marks)) == SQLITE_ROW) {
        struct state_mark mark = {
            .position = (uint64_t)sqlite3_column_int64(db->marks, 0),
            .bus = (uint64_t)sqlite3_column_int64(db->marks, 1),
            .kind = (uint16_t)sqlite3_column_int(db->marks, 2),
            .soft = sqlite3_column_int(db->marks, 3) != 0,
            .text = column_view(db->marks, 4),
        };

        each(&mark, arg);
    }
    sqlite3_reset(db->marks);
    return rc == SQLITE_DONE ? 0 : -EIO;
}
