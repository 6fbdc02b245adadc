/* Writing and reading the stored form. The numbers stand in one table of (offset, size) pairs so that what is written and what
 * is read cannot drift apart. */
/* Before ours: its headers use `unused` as an attribute name, which base/compiler.h makes a macro. */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "store/entry.h"

#include "base/check.h"
#include "base/crc32c.h"

#include <errno.h>

#define MAGIC "DSE1"
#define MAGIC_LEN 4u
#define CRC_LEN 4u

/* Every number of an entry: X(member, bytes on disk). Texts follow in the order of their lengths. */
#define NUMBERS(X) \
    X(flags, 4) \
    X(status, 2) \
    X(method, 2) \
    X(cost_ms, 4) \
    X(etag_at, 4) \
    X(etag_len, 4) \
    X(times.response_ms, 8) \
    X(times.initial_age_ms, 8) \
    X(times.lifetime_ms, 8) \
    X(times.swr_ms, 8) \
    X(times.sie_ms, 8) \
    X(times.date_s, 8) \
    X(times.last_modified_s, 8) \
    X(position, 8) \
    X(generation, 8) \
    X(body_first, 8) \
    X(body_len, 8) \
    X(complete_len, 8) \
    X(body_crc, 4) \
    X(key.len, 4) \
    X(url.len, 4) \
    X(tags.len, 4) \
    X(head.len, 4) \
    X(vary_names.len, 4) \
    X(vary_values.len, 4)

#define SIZE_OF(member, bytes) +(bytes)
#define FIXED_LEN (ENTRY_PREFIX + (0 NUMBERS(SIZE_OF)))

static char *put_number(char *at, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        *at++ = (char)(value >> 8 * i);
    return at;
}

static uint64_t get_number(const char *at, unsigned bytes)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < bytes; i++)
        value |= (uint64_t)(unsigned char)at[i] << 8 * i;
    return value;
}

static char *put_text(char *at, struct view v)
{
    if (v.len)
        memcpy(at, v.ptr, v.len);
    return at + v.len;
}

static size_t texts_len(const struct entry *e)
{
    return e->key.len + e->url.len + e->tags.len + e->head.len + e->vary_names.len + e->vary_values.len;
}

size_t entry_head_len(const struct entry *entry)
{
    return FIXED_LEN + texts_len(entry) + CRC_LEN;
}

void entry_put(const struct entry *entry, int64_t shift_ms, char *out)
{
    struct entry e = *entry;
    size_t len = entry_head_len(entry);
    char *at = out;

    e.times.response_ms += shift_ms;
    memcpy(at, MAGIC, MAGIC_LEN);
    at = put_number(at + MAGIC_LEN, ENTRY_VERSION, 2);
    at = put_number(at, (uint64_t)e.kind, 2);
    at = put_number(at, len, 4);
#define PUT(member, bytes) at = put_number(at, (uint64_t)e.member, bytes);
    NUMBERS(PUT)
#undef PUT
    at = put_text(at, e.key);
    at = put_text(at, e.url);
    at = put_text(at, e.tags);
    at = put_text(at, e.head);
    at = put_text(at, e.vary_names);
    at = put_text(at, e.vary_values);
    at = put_number(at, crc32c(0, out, (size_t)(at - out)), CRC_LEN);
    CHECK((size_t)(at - out) == len);
}

void entry_of(const struct object *object, struct entry *ret)
{
    *ret = (struct entry){
        .kind = object->status ? ENTRY_RESPONSE : ENTRY_VARY,
        .flags = atomic_load(&object->flags) & OBJECT_STORED_FLAGS,
        .status = object->status,
        .method = object->method,
        .cost_ms = object->cost_ms,
        .etag_at = object->etag_at,
        .etag_len = object->etag_len,
        .times = object->times,
        .position = atomic_load(&object->purge_pos),
        .generation = object->generation,
        .body_first = object->body_first,
        .body_len = atomic_load_explicit(&object->body_len, memory_order_acquire),
        .complete_len = object->complete_len,
        .key = object->key.text,
        .url = object_url(object),
        .tags = object_tags(object),
        .head = object_head(object),
        .vary_names = object_vary_names(object),
        .vary_values = object_vary_values(object),
    };
}

int entry_peek(struct view bytes, size_t *ret_head_len)
{
    size_t len;

    if (bytes.len < ENTRY_PREFIX || memcmp(bytes.ptr, MAGIC, MAGIC_LEN) != 0)
        return -EBADMSG;
    if (get_number(bytes.ptr + MAGIC_LEN, 2) != ENTRY_VERSION)
        return -EPROTONOSUPPORT;
    len = get_number(bytes.ptr + 8, 4);
    if (len < FIXED_LEN + CRC_LEN || len > ENTRY_HEAD_MAX)
        return -EBADMSG;
    *ret_head_len = len;
    return 0;
}

/* Lengths and places that a reader may rely on. What a CRC vouches for was written by us, but a shared store is open to others. */
static bool is_sound(const struct entry *e)
{
    if (e->kind == ENTRY_VARY)
        return e->status == 0 && e->vary_names.len > 0 && e->body_len == 0;
    return e->kind == ENTRY_RESPONSE && e->status >= 200 && e->status < 600 &&
           !(e->flags & ~(uint32_t)OBJECT_STORED_FLAGS) && (uint64_t)e->etag_at + e->etag_len <= e->head.len &&
           e->vary_names.len <= UINT16_MAX && e->vary_values.len <= UINT16_MAX && e->body_len <= UINT64_MAX / 2 &&
           e->body_first <= UINT64_MAX / 2 && e->body_first + e->body_len <= e->complete_len &&
           view_starts_with(e->head, VIEW("HTTP/1.1 ")) && e->head.ptr[e->head.len - 1] == '\n';
}

static struct view take_text(const char **at, size_t len)
{
    struct view v = view_make(*at, len);

    *at += len;
    return v;
}

int entry_parse(struct view bytes, int64_t shift_ms, struct entry *ret)
{
    const char *at = bytes.ptr + ENTRY_PREFIX;
    struct entry e = { 0 };
    size_t len;
    int r = entry_peek(bytes, &len);

    if (r < 0)
        return r;
    if (bytes.len < len || crc32c(0, bytes.ptr, len - CRC_LEN) != get_number(bytes.ptr + len - CRC_LEN, CRC_LEN))
        return -EBADMSG;
    e.kind = (enum entry_kind)get_number(bytes.ptr + 6, 2);
#define GET(member, bytes) \
    e.member = (__typeof__(e.member))get_number(at, bytes); \
    at += bytes;
    NUMBERS(GET)
#undef GET
    /* Six lengths of 32 bits cannot overflow a size_t. */
    if (FIXED_LEN + texts_len(&e) + CRC_LEN != len)
        return -EBADMSG;
    e.times.response_ms = (int64_t)((uint64_t)e.times.response_ms - (uint64_t)shift_ms);
    e.key = take_text(&at, e.key.len);
    e.url = take_text(&at, e.url.len);
    e.tags = take_text(&at, e.tags.len);
    e.head = take_text(&at, e.head.len);
    e.vary_names = take_text(&at, e.vary_names.len);
    e.vary_values = take_text(&at, e.vary_values.len);
    if (!is_sound(&e))
        return -EBADMSG;
    *ret = e;
    return 0;
}

struct object *entry_object(const struct entry *entry, const struct key *key, size_t body_hint)
{
    struct object_parts parts = {
        .key = key->text,
        .url = entry->url,
        .tags = entry->tags,
        .head = entry->head,
        .vary_names = entry->vary_names,
        .vary_values = entry->vary_values,
        .etag_at = entry->etag_at,
        .etag_len = entry->etag_len,
        .body_hint = body_hint,
    };
    struct object *object = object_new(key, &parts);

    if (!object)
        return NULL;
    atomic_store(&object->flags, entry->flags | OBJECT_LENGTH_KNOWN);
    object->status = entry->status;
    object->method = entry->method;
    object->cost_ms = entry->cost_ms;
    object->times = entry->times;
    atomic_store(&object->purge_pos, entry->position);
    object->generation = entry->generation;
    object->body_first = entry->body_first;
    object->complete_len = entry->complete_len;
    return object;
}

/* ---- keys ---- */

struct entry_key entry_key_primary(const struct key *key)
{
    return (struct entry_key){ { key->hash[0], key->hash[1] } };
}

struct entry_key entry_key_variant(const struct key *key, uint64_t generation, struct view vary_values)
{
    uint64_t front[3] = { key->hash[0], key->hash[1], generation };
    XXH3_state_t state;
    XXH128_hash_t hash;

    XXH3_128bits_reset(&state);
    XXH3_128bits_update(&state, front, sizeof(front));
    XXH3_128bits_update(&state, vary_values.ptr, vary_values.len);
    hash = XXH3_128bits_digest(&state);
    return (struct entry_key){ { hash.low64, hash.high64 } };
}
