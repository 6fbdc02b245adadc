/* Durable state: what must survive kill -9 and power loss (purge marks and positions now; queued writes and ledgers later).
 * One SQLite database (WAL, synchronous=FULL) on its own thread; whatever is queued while a commit runs shares the next one
 * (group commit). An answer comes after the fsync.
 *
 * Without a path the same interface keeps nothing: a node without disk tier and bus has nothing that must outlive it. */
#pragma once

#include "base/text.h"
#include "loop/loop.h"

struct state;

/* Opens or makes the database and starts the thread. 0; -errno with the reason appended: not a database, no permission, another
 * node has it open. `path` empty: nothing is kept. */
int state_open(struct view path, struct state **ret, struct text *reason);
/* Commits what is queued, joins the thread. */
void state_close(struct state *state);
/* Random, made with the database: what was written to other places under another identity is not trusted. */
const uint8_t *state_identity(const struct state *state); /* 16 bytes */
bool state_is_durable(const struct state *state);

/* ---- small named values; reading blocks: at start only ---- */

/* 0 and *ret (heap; the caller frees), -ENOENT, -EIO. */
int state_get(struct state *state, struct view name, char **ret, size_t *ret_len);

/* ---- purge marks, kept in the order of their positions ---- */

struct state_mark {
    uint64_t position; /* this node's, growing */
    uint64_t bus;      /* the bus's, 0: never was on it */
    uint16_t kind;     /* of marks.h */
    bool soft;
    struct view text;
};
/* At start: every mark kept, oldest first. `each` must copy what it keeps. 0 or -EIO. */
int state_marks(struct state *state, void (*each)(const struct state_mark *mark, void *arg), void *arg);

/* ---- writing; any thread ---- */

struct state_write {
    struct message done; /* handled on `loop` after the commit; owns the struct. done.handle NULL: nobody waits, it is freed */
    struct loop *loop;
    int result; /* 0, -EIO, -ENOSPC */
    struct node link;
    struct state_mark mark; /* kind 0: none; text is copied by state_write() */
    uint64_t forget_before; /* marks with smaller positions go; 0: none */
    struct view name, value; /* name empty: none; copied */
};
/* Queues all that the struct says as one transaction. 0 or -ENOMEM (nothing queued). */
int state_write(struct state *state, struct state_write *write);

struct state_stats {
    uint64_t commits, writes, errors;
    uint64_t queued;
};
void state_stats(struct state *state, struct state_stats *ret);
