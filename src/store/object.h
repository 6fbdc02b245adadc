/* A stored (or arriving) response: head, body chunks, times. Reference-counted and, once complete, immutable but for the few
 * atomics that say so. A fill appends to it; readers on any loop follow behind `body_len`.
 *
 *   phase      body grows   in the index   who may read
 *   arriving   yes          no             readers of its fill
 *   complete   no           maybe          anybody with a reference or inside an RCU turn
 *
 * One allocation holds the struct, the text parts and, when the length is known and small, the body. */
#pragma once

#include "base/key.h"
#include "store/policy.h"
#include "store/reclaim.h"

#include <stdatomic.h>
#include <stdint.h>

struct chunk {
    _Atomic(struct chunk *) next; /* published with release once this chunk is full */
    uint32_t len, cap;            /* len: owner's; readers go by object.body_len */
    char data[];
};

enum object_flag {
    OBJECT_COMPLETE = 1 << 0,        /* the body is whole (or, with PARTIAL, the stored part is) */
    OBJECT_PARTIAL = 1 << 1,         /* bytes body_first .. body_first+body_len-1 of complete_len */
    OBJECT_NO_CACHE = 1 << 2,        /* never without validation */
    OBJECT_MUST_REVALIDATE = 1 << 3, /* must-revalidate, proxy-revalidate or s-maxage: never stale */
    OBJECT_IMMUTABLE = 1 << 4,
    OBJECT_HEURISTIC = 1 << 5,    /* freshness was estimated */
    OBJECT_LENGTH_KNOWN = 1 << 6, /* complete_len is right although the body still arrives */
    OBJECT_TRANSIENT = 1 << 7,    /* pass-through: not for the cache, chunks freed behind the readers */
    OBJECT_AUTHORIZED = 1 << 8,   /* stored from a request with Authorization */
    OBJECT_NOT_TO_DISK = 1 << 9,  /* its route keeps it off the disk */
    OBJECT_REFRESHED = 1 << 10,   /* asked for again ahead of time: once is enough */
};
/* Of these, what outlives the process and goes to other nodes. */
#define OBJECT_STORED_FLAGS \
    (OBJECT_PARTIAL | OBJECT_NO_CACHE | OBJECT_MUST_REVALIDATE | OBJECT_IMMUTABLE | OBJECT_HEURISTIC | \
     OBJECT_AUTHORIZED)

/* A body that lies elsewhere (the disk tier): where, in the terms of that tier. Shared by the heads that stand over it. */
struct object_external {
    atomic_uint refs;
    void (*release)(struct object_external *external); /* the last reference is gone */
};

/* The times of a response (RFC 9111 §4.2), milliseconds unless named otherwise. */
struct object_times {
    int64_t response_ms;     /* wall clock when the head arrived */
    int64_t initial_age_ms;  /* corrected_initial_age, §4.2.3 */
    int64_t lifetime_ms;     /* freshness lifetime, §4.2.1 */
    int64_t swr_ms, sie_ms;  /* stale-while-revalidate, stale-if-error windows (RFC 5861); -1: not given */
    int64_t date_s;          /* Date, seconds since 1970; response time when absent */
    int64_t last_modified_s; /* -1: none */
};

struct object {
    atomic_uint refs;
    atomic_uint flags;
    atomic_uint soft_purged; /* serve only as stale */
    uint16_t status;
    uint16_t method;         /* enum http_method of the request that filled it */
    uint32_t cost_ms;        /* what the fill took: the price of a miss */
    struct policy_item item; /* the memory tier's bookkeeping; item.uses: hits, see memory_touch() */
    struct key key;          /* text inside this allocation; the other texts follow it in this order: */
    uint32_t url_len, tags_len, head_len;
    uint16_t vary_names_len, vary_values_len;
    uint32_t etag_at, etag_len; /* inside the head */
    struct object_times times;
    _Atomic uint64_t
        purge_pos; /* no purge up to here concerns it: sampled before the request went upstream, moved on by checks */
    uint64_t generation; /* of an entry that only names variants (status 0) */
    uint64_t body_first, complete_len;
    _Atomic uint64_t body_len; /* bytes readable; release by the fill, acquire by readers */
    struct chunk *first, *last;
    struct object_external *external; /* no chunks: the body lies there; a reference */
    struct object *body_owner;   /* the chunks are this object's (a freshened head over an old body); a reference */
    _Atomic uint64_t charged;    /* bytes accounted for this object, allocator slack included */
    struct reclaim_node waiting; /* the memory tier's: waits for a grace period */
};

struct object_external *object_external_ref(struct object_external *external);
void object_external_unref(struct object_external *external);

/* Bytes charged by all objects of the process that are not freed yet: what the memory limit is about. */
uint64_t object_account(void);

/* Texts; they live as long as the object. */

/* For purge, top, why; no query values when printed. */
static inline struct view object_url(const struct object *object)
{
    return view_make(object->key.text.ptr + object->key.text.len, object->url_len);
}

/* Space-separated; empty when none. */
static inline struct view object_tags(const struct object *object)
{
    return view_make(object_url(object).ptr + object->url_len, object->tags_len);
}

/* Status line and end-to-end fields, each with CRLF, without the empty line, Age, Content-Length and hop-by-hop fields. */
static inline struct view object_head(const struct object *object)
{
    return view_make(object_tags(object).ptr + object->tags_len, object->head_len);
}

/* Normalised: lower case, sorted, comma-separated; empty: no Vary. */
static inline struct view object_vary_names(const struct object *object)
{
    return view_make(object_head(object).ptr + object->head_len, object->vary_names_len);
}

/* The filling request's normalised values, one line each in the order of the names. */
static inline struct view object_vary_values(const struct object *object)
{
    return view_make(object_vary_names(object).ptr + object->vary_names_len, object->vary_values_len);
}

/* Empty when none. */
static inline struct view object_etag(const struct object *object)
{
    return view_make(object_head(object).ptr + object->etag_at, object->etag_len);
}

struct object_parts {
    struct view key, url, tags, head, vary_names, vary_values;
    size_t etag_at, etag_len; /* inside head */
    size_t body_hint;         /* expected body bytes, 0 unknown */
};

/* One reference, flags 0, texts copied. NULL when memory is out. */
struct object *object_new(const struct key *key, const struct object_parts *parts);
struct object *object_ref(struct object *object);
/* Get-unless-zero, for objects found under RCU. */
bool object_try_ref(struct object *object);
void object_unref(struct object *object);

/* Room to append: up to `want` contiguous bytes after body_len, allocating a chunk when needed. NULL when memory is out.
 * *ret_cap is what there is, > 0. */
char *object_reserve(struct object *object, size_t want, size_t *ret_cap);
/* Publishes `len` bytes written at the last reserve. */
void object_commit(struct object *object, size_t len);

/* Shares the body of `owner` (complete, nothing appended yet), wherever it lies: a freshened head over an old body. */
void object_share_body(struct object *object, struct object *owner);
/* Appends a copy of what `from` has. 0 or -ENOMEM. */
int object_copy_body(struct object *to, struct object *from);
/* A copy of a complete object in as little memory as it needs, one reference; NULL when the original is tight enough already or
 * memory is out. Bodies of unknown length grow in chunks that are mostly too large for small ones. `fields`: lines that its head gets
 * besides; with any, there always is a copy. */
struct object *object_compact(struct object *object, struct view fields);
/* Frees the chunks that end before body offset `upto`; `*at` is the offset of the first chunk left, 0 at first. Only for the
 * fill, while no reader is behind `upto`. */
void object_trim(struct object *object, uint64_t *at, uint64_t upto);

/* A reader's place in the body. Start zeroed with offset = 0. */
struct object_cursor {
    struct chunk *chunk;
    uint64_t chunk_at; /* body offset of chunk's first byte */
    uint64_t offset;   /* next byte to read, relative to body_first */
};
/* The next readable run at the cursor without moving; empty when the cursor has caught up. */
struct view object_peek(struct object *object, struct object_cursor *cursor);
/* As many runs as fit in iov (struct iovec array), at most `max_bytes`; returns how many. */
struct iovec;
int object_peekv(struct object *object, struct object_cursor *cursor, struct iovec *iov, int count, uint64_t max_bytes);
/* Moves forward over bytes that were readable. */
void object_advance(struct object *object, struct object_cursor *cursor, uint64_t len);
void object_seek(struct object *object, struct object_cursor *cursor, uint64_t offset);
