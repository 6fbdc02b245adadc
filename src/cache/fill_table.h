/* The fills in flight, by key. Internal to cache/fill*.c. */
#pragma once

#include "cache/fill.h"

#define FILL_SHARDS 64

struct fill_shard {
    pthread_mutex_t lock;
    struct node fills;
};

#define FILL_LOOPS_MAX 64

struct fill_table {
    struct node live[FILL_LOOPS_MAX];    /* every fill of a loop, private ones too; that loop's own */
    unsigned background[FILL_LOOPS_MAX]; /* of them, those without a client; likewise */
    struct fill_shard shards[FILL_SHARDS];
};

#define FILL_INTERIMS_MAX 8

struct fill {
    struct task task;
    struct node link; /* in its shard; guarded by the shard's lock */
    struct node live;
    struct fill_shard *shard; /* NULL: nothing of it can be stored */
    bool shared;              /* others may join; a private fill is listed only so that a purge or a write finds it */
    struct fill_context context;
    struct fill_keep *keep;
    const struct cache_policy *policy;
    struct upstream *upstream;
    struct exchange *x;          /* where the bytes come from, until the end: this, */
    struct source *source;       /* or this */
    struct http_request request; /* views into `bytes` */
    struct field *field_list;
    struct view scheme, url;
    struct key key;
    char *own_key; /* holds key.text when it is not the request's own (POST) */
    struct object *stored;
    int64_t request_ms; /* wall clock when it started */
    uint64_t started_us;
    uint64_t purge_pos; /* sampled before the request leaves */
    bool leased;        /* until something was kept, or given up */
    struct spill *spill;
    bool completing, background;
    bool parent, insists;
    bool behind;         /* the answer was of no use: see fill_view */
    bool storing;        /* the object is still meant for the cache */
    atomic_bool stalled; /* waits for the slowest reader */
    uint64_t trimmed;    /* body bytes freed behind the slowest reader */
    atomic_bool doomed;  /* a purge or a write came later */

    pthread_mutex_t lock;
    struct node readers;
    unsigned reader_count;
    unsigned refs; /* readers with messages under way count too */
    enum fill_phase phase;
    enum fill_outcome outcome;
    enum why why;
    uint16_t status;
    struct object *object;
    struct view interims[FILL_INTERIMS_MAX];
    unsigned interim_count;
    enum exchange_error error;
    struct exchange_timing timing;
    char detail[96];
    struct view trailers;
    struct view trailers_out; /* of the request body: the client's memory may go before they are sent */
    struct message nudge;     /* a reader on another loop asks the owner to look */
    bool nudged;
    char bytes[]; /* texts */
};

/* ---- where the bytes come from ---- */

static inline enum exchange_state fill_state(const struct fill *fill)
{
    return fill->source ? fill->source->functions->state(fill->source) : exchange_state(fill->x);
}

static inline const struct http_response *fill_head(const struct fill *fill)
{
    return fill->source ? fill->source->functions->head(fill->source) : exchange_head(fill->x);
}

static inline struct view fill_head_bytes(const struct fill *fill)
{
    return fill->source ? fill->source->functions->head_bytes(fill->source) : exchange_head_bytes(fill->x);
}

static inline ssize_t fill_read(struct fill *fill, void *memory, size_t cap)
{
    return fill->source ? fill->source->functions->read(fill->source, memory, cap)
                        : exchange_read(fill->x, memory, cap);
}

static inline const struct exchange_timing *fill_exchange_timing(const struct fill *fill)
{
    return fill->source ? fill->source->functions->timing(fill->source) : exchange_timing(fill->x);
}

static inline uint64_t fill_body_left(const struct fill *fill)
{
    return fill->source ? fill->source->functions->left(fill->source) : exchange_body_left(fill->x);
}

struct fill_shard *fill_table_shard(struct fill_table *table, const struct key *key);
/* Does a response that is arriving fit this request? Unknown until its head is here: then yes, for now. */
bool fill_fits(struct fill *fill, const struct http_request *request);
/* No purge since it started could concern it: who asks now may have its answer. */
bool fill_is_current(const struct fill *fill);
/* Nobody new can join, but a write or a purge finds it still; under no lock. */
void fill_unshare(struct fill *fill);
/* Nobody finds it any more; under no lock. */
void fill_unlist(struct fill *fill);
/* Frees when `refs` drops to 0; called with fill.lock held, which is released. */
void fill_put_locked(struct fill *fill);
/* Wakes every reader; on other loops by message. Called with fill.lock held. */
void fill_wake_readers(struct fill *fill);
/* The first reader, before anybody else can know the fill. NULL when memory is out. */
struct fill_reader *fill_add_starter(struct fill *fill, struct task *task);
/* Keeps a copy of a 1xx head for the readers to relay; false when there is no room for it: only a 101 is missed then. */
bool fill_add_interim(struct fill *fill, struct view head);
/* The response head arrived: decides the outcome (fill_head.c). Left undecided, with fill.error set, when the response is of
 * no use: the fill has failed. */
void fill_decide(struct fill *fill);
/* Keeps the complete object in memory and below, unless a write or a purge came in between. */
void fill_keep_object(struct fill *fill, struct object *object, bool confirmed);

/* fill_spill.c: a body that is too large for memory is written to disk while it passes by. */

/* From the body's first byte, which must still be here. False: not to be had now. */
bool fill_spill_begin(struct fill *fill);
/* Hands over what has arrived. False: the disk is behind, the fill's task will be woken. */
bool fill_spill_feed(struct fill *fill);
/* Body bytes that are no longer needed for it; UINT64_MAX without one. */
uint64_t fill_spill_passed(const struct fill *fill);
/* Ends it; `complete`: the body is whole. Harmless without one. */
void fill_spill_end(struct fill *fill, bool complete);
