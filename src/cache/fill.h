/* A fill: one fetch of one key from an upstream. It belongs to the loop that started it; readers follow it from any loop.
 *
 *   phase      outcome decided   who may read the object
 *   WAITING    no                nobody: a reader waits for the decision
 *   BODY       yes               readers, behind object.body_len
 *   DONE       yes               readers, all of it
 *   FAILED     maybe             what came before the failure, when an object is there; it is cut short
 *
 * A shared fill stands in the table of fills in flight, so that requests for the same key join it. Nobody can join once it is
 * decided that the response may not be shared. A private fill (unsafe methods, bypass) has one reader, on its own loop, which
 * also writes the request body; where its response could be stored it stands in the table too, for purges and writes to find.
 *
 * Locking: phase, outcome and the reader list change under fill.lock, by the owner's loop only (the list: by each reader's
 * own loop). A table shard's lock is taken before a fill's lock, never after. */
#pragma once

#include "cache/policy.h"
#include "cache/source.h"
#include "store/memory.h"
#include "upstream/exchange.h"

#include <pthread.h>

struct fill_table;
struct fill;

/* What a fill keeps alive while it runs: the owner of `policy` and `upstream`. */
struct fill_keep {
    void (*release)(struct fill_keep *keep);
    void (*retain)(struct fill_keep *keep);
};

struct fill_context {
    struct memory *memory;
    struct fill_table *table;
    struct ladder *ladder; /* NULL: nothing below memory */
    struct disk *disk;     /* for bodies too large for memory; NULL: none */
    struct marks *marks;
    /* A write at the origin concerns more than one key. `everywhere`: other nodes should hear of it. */
    void (*purge)(void *arg, struct loop *loop, const struct mark *mark, bool everywhere);
    void *purge_arg;
    uint64_t window; /* bytes a body that is not stored may run ahead of its slowest reader */
};

int fill_table_new(struct fill_table **ret);
void fill_table_free(struct fill_table *table);
/* On a loop's thread: ends all its fills, for shutdown. Readers see them FAILED. */
void fill_table_close_loop(struct fill_table *table, struct loop *loop);
/* Whatever is in flight for this key must not be stored, nor joined by later requests: it may predate a write or a purge. */
void fill_table_doom(struct fill_table *table, const struct key *key);
unsigned fill_table_count(struct fill_table *table);
/* Fills of this loop that nobody asked for; on its thread. */
unsigned fill_table_background(const struct fill_table *table, const struct loop *loop);

enum fill_phase { FILL_WAITING, FILL_BODY, FILL_DONE, FILL_FAILED };

enum fill_outcome {
    FILL_UNDECIDED,
    FILL_STORING,   /* goes into the cache when complete; anybody whose request matches may read */
    FILL_PASSING,   /* for the reader that started it */
    FILL_FRESHENED, /* 304: the stored response was confirmed, `object` is its fresh form */
    FILL_TUNNEL,    /* 101: take the connection with fill_take_sock() */
    FILL_ERROR,     /* no response: see fill_error() */
};

/* A reader's place: made by start or join, given back by fill_leave(). Its task is woken when the fill moved. */
struct fill_reader {
    struct message message; /* carries a wake to the reader's loop */
    struct node link;
    struct fill *fill;
    struct task *task;
    struct object_cursor cursor;
    _Atomic uint64_t passed; /* bytes the client has taken: the fill runs at most `window` ahead when not storing */
    unsigned interims_seen;
    bool starter;
    bool posted, detached;         /* a message is under way; the reader left meanwhile (fill.lock) */
    struct exchange_timing timing; /* what fill_timing() shows */
};

struct fill_request {
    const struct fill_context *context;
    struct fill_keep *keep;            /* retained */
    const struct cache_policy *policy; /* kept alive by `keep` */
    struct upstream *upstream;         /* likewise; NULL with `open` */
    source_open *open;                 /* what is asked instead of an upstream; NULL: the upstream is */
    void *open_arg;
    const struct http_request *request; /* what the client asked; copied */
    struct view request_bytes;          /* the bytes all views of `request` lie in */
    struct view scheme;                 /* "http" or "https"; literal */
    struct key key;                     /* copied */
    struct view url;                    /* copied */
    struct view head;                   /* for the origin, complete; copied */
    const struct object *newest_seen;   /* newest variant the caller found in memory for the key, or NULL */
    struct object *stored;              /* being revalidated or completed; a reference is taken; or NULL */
    bool completing;                    /* `stored` is partial and the head asks for the rest of it */
    bool shared;                        /* register in the table: others may join */
    bool background;                    /* nobody reads: revalidation */
    bool upgrade;
    bool want_interim;
    bool leased;          /* other nodes wait for what this fetch brings */
    bool parent;          /* `upstream` is another node: its purge position counts */
    bool insists;         /* the parent was told to ask the origin */
    uint64_t deadline_ms; /* monotonic; nobody waits longer; 0: none. Not for what others may join */
};

/* Starts a fill on `task`'s loop. With `background`, *ret_reader is NULL. 0; -EALREADY when a shared fill for the key
 * appeared meanwhile (join that); -ESTALE when the memory tier has a newer variant than the caller saw (look again);
 * -ENOMEM. */
int fill_start(const struct fill_request *request, struct task *task, struct fill_reader **ret_reader);

enum fill_joined { FILL_JOINED, FILL_NONE, FILL_CROWDED, FILL_NO_MEMORY };
/* Joins a fill in flight for `key` whose response fits `request` as far as that is known (Vary), and which no purge since it
 * started could concern. */
enum fill_joined fill_join(struct fill_table *table, const struct key *key, const struct http_request *request,
                           unsigned waiters_max, struct task *task, struct fill_reader **ret_reader);
/* True when a shared fill for the key is under way. */
bool fill_in_flight(struct fill_table *table, const struct key *key);
/* Leaves; the fill goes on if others read or it is worth keeping. NULL is fine. */
void fill_leave(struct fill_reader *reader);

/* What a reader sees in one consistent look. */
struct fill_view {
    enum fill_phase phase;
    enum fill_outcome outcome;
    struct object *object; /* borrowed from the fill while the reader stays; NULL until decided */
    enum why why;          /* why it is not stored, WHY_NONE when it is */
    uint16_t status;       /* the origin's, 0 without a response (304 when freshened) */
    unsigned interims;     /* 1xx heads so far */
    bool doomed;           /* a purge or a write concerns it: nobody else will get it */
    bool behind;           /* the parent's answer may predate a purge that is known here: it was not used */
};
void fill_look(struct fill_reader *reader, struct fill_view *ret);
/* Interim head number i: status line, fields and empty line. Valid while the reader stays. */
struct view fill_interim(struct fill_reader *reader, unsigned i);
/* The reader has handed `bytes` more of the body to its client. */
void fill_passed(struct fill_reader *reader, uint64_t bytes);

/* Only the starter of a private fill, on its loop: */
ssize_t fill_write(struct fill_reader *reader, const struct iovec *iov, int count);
/* `trailers` (raw lines) are copied, without those that must not be trailers. */
int fill_write_end(struct fill_reader *reader, struct view trailers);
int fill_take_sock(struct fill_reader *reader, struct task *task, struct sock *ret);
/* Raw trailer lines once DONE. */
struct view fill_trailers(struct fill_reader *reader);

/* Whom it asks; the reader's configuration keeps it. */
struct upstream *fill_upstream(const struct fill_reader *reader);

/* Once decided: */
enum exchange_error fill_error(struct fill_reader *reader);
const char *fill_error_detail(struct fill_reader *reader);
const struct exchange_timing *fill_timing(struct fill_reader *reader);
