/* Objects: one allocation for struct, texts and (when the length is known and small) the body; chunks for the rest.
 *
 * Publication: the fill writes bytes, then raises body_len with release; a new chunk is linked with release before any
 * byte in it is counted. A reader that acquired body_len may follow `next` as far as that many bytes reach. */
#include "store/object.h"

#include "base/check.h"
#include "base/heap.h"
#include "base/text.h"

#include <errno.h>
#include <sys/uio.h>

#define INLINE_BODY_MAX ((size_t)64 * 1024)
#define COMPACT_MAX ((uint64_t)256 * 1024)
#define CHUNK_MIN ((size_t)16 * 1024)
#define CHUNK_MAX ((size_t)256 * 1024)

static _Atomic uint64_t account;

uint64_t object_account(void)
{
    return atomic_load_explicit(&account, memory_order_relaxed);
}

static void charge(struct object *object, size_t bytes)
{
    atomic_fetch_add_explicit(&object->charged, bytes, memory_order_relaxed);
    atomic_fetch_add_explicit(&account, bytes, memory_order_relaxed);
}

static void discharge(struct object *object, uint64_t bytes)
{
    atomic_fetch_sub_explicit(&object->charged, bytes, memory_order_relaxed);
    atomic_fetch_sub_explicit(&account, bytes, memory_order_relaxed);
}

/* Copies; returns where to. */
static struct view place(char **at, struct view v)
{
    char *start = *at;

    if (v.len)
        memcpy(start, v.ptr, v.len);
    *at += v.len;
    return view_make(start, v.len);
}

struct object *object_new(const struct key *key, const struct object_parts *parts)
{
    size_t texts = parts->key.len + parts->url.len + parts->tags.len + parts->head.len + parts->vary_names.len +
                   parts->vary_values.len;
    size_t body = parts->body_hint <= INLINE_BODY_MAX ? parts->body_hint : 0;
    size_t chunk_at = (sizeof(struct object) + texts + 7) & ~(size_t)7;
    size_t size = body ? chunk_at + sizeof(struct chunk) + body : sizeof(struct object) + texts;
    struct object *object = heap_alloc(size);
    char *at;

    if (!object)
        return NULL;
    at = (char *)(object + 1);
    *object = (struct object){ .key = *key };
    atomic_init(&object->refs, 1);
    object->key.text = place(&at, parts->key);
    place(&at, parts->url);
    place(&at, parts->tags);
    place(&at, parts->head);
    place(&at, parts->vary_names);
    place(&at, parts->vary_values);
    object->url_len = (uint32_t)parts->url.len;
    object->tags_len = (uint32_t)parts->tags.len;
    object->head_len = (uint32_t)parts->head.len;
    object->vary_names_len = (uint16_t)parts->vary_names.len;
    object->vary_values_len = (uint16_t)parts->vary_values.len;
    object->etag_at = (uint32_t)parts->etag_at;
    object->etag_len = (uint32_t)parts->etag_len;
    if (body) {
        struct chunk *chunk = (struct chunk *)(void *)((char *)object + chunk_at);

        *chunk = (struct chunk){ .cap = (uint32_t)body };
        object->first = object->last = chunk;
    }
    charge(object, heap_cost(size));
    return object;
}

/* The inline chunk lies inside the object's own allocation, at the only place it can. */
static bool chunk_is_inline(const struct object *object, const struct chunk *chunk)
{
    const char *after_texts = object_vary_values(object).ptr + object->vary_values_len;

    return (const char *)chunk >= after_texts && (const char *)chunk < after_texts + 8;
}

static void chunk_free(struct object *object, struct chunk *chunk)
{
    if (chunk_is_inline(object, chunk))
        return;
    discharge(object, heap_cost(sizeof(*chunk) + chunk->cap));
    heap_free(chunk);
}

struct object_external *object_external_ref(struct object_external *external)
{
    if (external)
        atomic_fetch_add_explicit(&external->refs, 1, memory_order_relaxed);
    return external;
}

void object_external_unref(struct object_external *external)
{
    if (external && atomic_fetch_sub_explicit(&external->refs, 1, memory_order_acq_rel) == 1)
        external->release(external);
}

struct object *object_ref(struct object *object)
{
    unsigned before = atomic_fetch_add_explicit(&object->refs, 1, memory_order_relaxed);

    CHECK(before > 0);
    return object;
}

bool object_try_ref(struct object *object)
{
    unsigned refs = atomic_load_explicit(&object->refs, memory_order_relaxed);

    while (refs > 0)
        if (atomic_compare_exchange_weak_explicit(&object->refs, &refs, refs + 1, memory_order_acquire,
                                                  memory_order_relaxed))
            return true;
    return false;
}

void object_unref(struct object *object)
{
    if (!object || atomic_fetch_sub_explicit(&object->refs, 1, memory_order_acq_rel) != 1)
        return;
    object_external_unref(object->external);
    if (object->body_owner) {
        object_unref(object->body_owner);
        object->first = NULL;
    }
    for (struct chunk *chunk = object->first; chunk;) {
        struct chunk *next = atomic_load_explicit(&chunk->next, memory_order_relaxed);

        chunk_free(object, chunk);
        chunk = next;
    }
    discharge(object, atomic_load_explicit(&object->charged, memory_order_relaxed));
    heap_free(object);
}

/* Doubling keeps a growing body at few chunks; an announced length gets what is left of it. */
static size_t next_chunk_cap(const struct object *object, size_t want)
{
    uint64_t have = atomic_load_explicit(&object->body_len, memory_order_relaxed);
    size_t cap = MAX(CHUNK_MIN, (size_t)MIN(have, CHUNK_MAX));

    if (object->flags & OBJECT_TRANSIENT)
        return CHUNK_MIN;
    if ((object->flags & OBJECT_LENGTH_KNOWN) && object->complete_len > have)
        cap = (size_t)MIN(object->complete_len - have, CHUNK_MAX);
    return MAX(cap, MIN(want, CHUNK_MIN));
}

char *object_reserve(struct object *object, size_t want, size_t *ret_cap)
{
    struct chunk *last = object->last;

    if (!last || last->len == last->cap) {
        size_t cap = next_chunk_cap(object, want);
        struct chunk *chunk = heap_alloc(sizeof(*chunk) + cap);

        if (!chunk)
            return NULL;
        *chunk = (struct chunk){ .cap = (uint32_t)cap };
        charge(object, heap_cost(sizeof(*chunk) + cap));
        if (last)
            atomic_store_explicit(&last->next, chunk, memory_order_release);
        else
            object->first = chunk;
        object->last = last = chunk;
    }
    *ret_cap = MIN(want, (size_t)(last->cap - last->len));
    return last->data + last->len;
}

void object_commit(struct object *object, size_t len)
{
    CHECK(object->last && len <= object->last->cap - object->last->len);
    object->last->len += (uint32_t)len;
    atomic_fetch_add_explicit(&object->body_len, len, memory_order_release);
}

int object_copy_body(struct object *to, struct object *from)
{
    struct object_cursor cursor = { 0 };
    struct view run;
    size_t cap;

    while ((run = object_peek(from, &cursor)).len) {
        char *memory = object_reserve(to, run.len, &cap);

        if (!memory)
            return -ENOMEM;
        memcpy(memory, run.ptr, cap);
        object_commit(to, cap);
        object_advance(from, &cursor, cap);
    }
    return 0;
}

struct object *object_compact(struct object *object, struct view fields)
{
    uint64_t body = atomic_load(&object->body_len);
    struct chunk *last = object->last;
    struct text head = text_make(NULL, 0);
    struct object_parts parts = {
        .key = object->key.text,
        .url = object_url(object),
        .tags = object_tags(object),
        .head = object_head(object),
        .vary_names = object_vary_names(object),
        .vary_values = object_vary_values(object),
        .etag_at = object->etag_at,
        .etag_len = object->etag_len,
        .body_hint = (size_t)body,
    };
    struct object *compact;

    if (fields.len == 0 && (!last || object->body_owner || object->external || body > COMPACT_MAX ||
                            last->cap - last->len <= (body + sizeof(*object)) / 8))
        return NULL;
    if (fields.len) {
        head = text_make(heap_alloc(parts.head.len + fields.len), parts.head.len + fields.len);
        if (!head.ptr)
            return NULL;
        text_put(&head, parts.head);
        text_put(&head, fields);
        parts.head = text_view(&head);
    }
    compact = object_new(&object->key, &parts);
    heap_free(head.ptr);
    if (!compact)
        return NULL;
    atomic_store(&compact->flags, atomic_load(&object->flags));
    compact->status = object->status;
    compact->method = object->method;
    compact->cost_ms = object->cost_ms;
    compact->times = object->times;
    atomic_store(&compact->purge_pos, atomic_load(&object->purge_pos));
    atomic_store(&compact->soft_purged, atomic_load(&object->soft_purged)); /* set before the position moves on */
    compact->body_first = object->body_first;
    compact->complete_len = object->complete_len;
    if (object_copy_body(compact, object) < 0) {
        object_unref(compact);
        return NULL;
    }
    return compact;
}

/* ---- readers ---- */

/* The run of readable bytes of `chunk` (which begins at body offset chunk_at) from `offset` on. A chunk's own len belongs
 * to the fill; what a reader may touch follows from `limit`, an acquired body_len, and the chunk's fixed capacity. */
static struct view run_in(const struct chunk *chunk, uint64_t chunk_at, uint64_t offset, uint64_t limit)
{
    uint64_t end = MIN(chunk_at + chunk->cap, limit);

    return offset < end ? view_make(chunk->data + (offset - chunk_at), (size_t)(end - offset)) : VIEW_NONE;
}

static bool settle(struct object *object, struct object_cursor *cursor)
{
    if (!cursor->chunk) {
        cursor->chunk = object->first;
        cursor->chunk_at = 0;
    }
    while (cursor->offset >= cursor->chunk_at + cursor->chunk->cap) {
        struct chunk *next = atomic_load_explicit(&cursor->chunk->next, memory_order_acquire);

        if (!next)
            return false;
        cursor->chunk_at += cursor->chunk->cap;
        cursor->chunk = next;
    }
    return true;
}

struct view object_peek(struct object *object, struct object_cursor *cursor)
{
    uint64_t limit = atomic_load_explicit(&object->body_len, memory_order_acquire);

    if (cursor->offset >= limit || !settle(object, cursor))
        return VIEW_NONE;
    return run_in(cursor->chunk, cursor->chunk_at, cursor->offset, limit);
}

int object_peekv(struct object *object, struct object_cursor *cursor, struct iovec *iov, int count, uint64_t max_bytes)
{
    uint64_t limit = atomic_load_explicit(&object->body_len, memory_order_acquire), offset = cursor->offset, at;
    const struct chunk *chunk;
    int used = 0;

    if (max_bytes < limit - MIN(limit, offset))
        limit = offset + max_bytes;
    if (offset >= limit || !settle(object, cursor))
        return 0;
    chunk = cursor->chunk;
    at = cursor->chunk_at;
    while (used < count && offset < limit) {
        struct view run = run_in(chunk, at, offset, limit);

        iov[used].iov_base = (char *)(uintptr_t)run.ptr;
        iov[used++].iov_len = run.len;
        offset += run.len;
        at += chunk->cap;
        chunk = atomic_load_explicit(&chunk->next, memory_order_acquire);
        if (!chunk)
            break;
    }
    return used;
}

void object_advance(struct object *object, struct object_cursor *cursor, uint64_t len)
{
    cursor->offset += len;
    /* Leaves every chunk that is passed, so that object_trim() may free it. */
    settle(object, cursor);
}

void object_share_body(struct object *object, struct object *owner)
{
    struct object *root = owner->body_owner ? owner->body_owner : owner;

    CHECK(!object->first && !object->external);
    object->external = object_external_ref(root->external);
    if (!object->external) {
        object->body_owner = object_ref(root);
        object->first = root->first;
        object->last = root->last;
    }
    object->body_first = owner->body_first;
    object->complete_len = owner->complete_len;
    atomic_store_explicit(&object->body_len, atomic_load(&owner->body_len), memory_order_release);
}

void object_trim(struct object *object, uint64_t *at, uint64_t upto)
{
    while (object->first && object->first != object->last && *at + object->first->cap < upto) {
        struct chunk *passed = object->first;

        *at += passed->cap;
        object->first = atomic_load_explicit(&passed->next, memory_order_relaxed);
        chunk_free(object, passed);
    }
}

void object_seek(struct object *object, struct object_cursor *cursor, uint64_t offset)
{
    (void)object;
    if (offset < cursor->chunk_at)
        *cursor = (struct object_cursor){ 0 };
    cursor->offset = offset;
}
