/* Durable state: what must survive kill -9 and power loss (purge marks and positions now; queued writes and ledgers later).
 * One SQLite database (WAL, synchronous=FULL) on its own thread; whatever is queued while a commit runs shares the next one
 * (group commit). An answer comes after the fsync.
 *
 * Without a path the same interface keeps nothing: a node without disk tier and bus has nothing that must outlive it. */
#pragma once

#include "base/text.h"
#include "loop/loop.h"

struct state;

/* Opens or makes the database (and the last folder of its path) and starts the thread. 0; -errno with the reason appended:
 * -EINVAL (not a database, somebody else's, made by a newer version, damaged), -EBUSY (another node has it open), -EACCES,
 * -EROFS, -ENOENT, -ENOSPC, -EIO, -ENOMEM. `path` empty: nothing is kept. A file that is refused is left as it is. */
int state_open(struct view path, struct state **ret, struct text *reason);
/* Commits what is queued, joins the thread. Nobody writes any more; what waits for an answer on a loop gets it posted before
 * this returns, so those loops still exist. NULL is fine. */
void state_close(struct state *state);
/* Random, made with the database: what was written to other places under another identity is not trusted. Without a path it
 * is random at every start. */
const uint8_t *state_identity(const struct state *state); /* 16 bytes */
bool state_is_durable(const struct state *state);

/* ---- small named values; reading blocks (behind a commit too): at start, or on an own thread ---- */

/* 0 and *ret (heap, a NUL behind it; the caller frees), -ENOENT, -EIO, -ENOMEM. */
int state_get(struct state *state, struct view name, char **ret, size_t *ret_len);

/* ---- purge marks, kept in the order of their positions ---- */

struct state_mark {
    uint64_t position; /* this node's, growing; at most INT64_MAX. A mark with the position of another replaces it */
    uint64_t bus;      /* the bus's, 0: never was on it */
    uint16_t kind;     /* of marks.h */
    bool soft;
    struct view text;
};
/* At start: every mark kept, oldest first. `each` must copy what it keeps, and not call the state. 0 or -EIO. */
int state_marks(struct state *state, void (*each)(const struct state_mark *mark, void *arg), void *arg);

/* ---- writing; any thread ---- */

struct state_write {
    struct message
        done; /* handled on `loop` after the commit; owns the struct. done.handle NULL: nobody waits, it is freed */
    struct loop *loop;
    int result; /* 0: it is on disk; -EIO, -ENOSPC, -ENOMEM: treat it as lost (after a crash it may turn out to be there) */
    struct node link;
    struct state_mark mark;   /* kind 0: none; text is copied by state_write() */
    uint64_t forget_before;   /* marks with smaller positions go; 0: none */
    struct view name, value;  /* name empty: none; copied. An empty value removes the name */
    char *_copies;            /* the state's */
    bool _waited, _committed; /* the state's */
};
/* Queues all that the struct says as one transaction: all of it is kept, or nothing. Writes are committed in the order in which
 * they were queued. 0 or -ENOMEM (nothing queued: no memory, or 64 MiB are waiting). */
int state_write(struct state *state, struct state_write *write);
/* The same, and blocks until it is committed: for threads of their own, never on a loop. `done` and `loop` are not used, the
 * struct stays the caller's. The result. */
int state_write_wait(struct state *state, struct state_write *write);

struct state_stats {
    uint64_t commits, writes; /* what succeeded; writes / commits is how well commits are shared */
    uint64_t errors;          /* writes that were answered with an error */
    uint64_t queued;          /* now */
    char trouble[128];        /* why the latest commit failed; "" when it did not */
};
void state_stats(struct state *state, struct state_stats *ret);
