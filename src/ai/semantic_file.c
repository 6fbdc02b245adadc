/* Walking over all entries a few at a time, and with that: sweeping, and the semantic index in a file: a header, then one checksummed record an entry.
 *
 * Records are little-endian: length and CRC-32C of what follows; dimensions, lengths of scope, key and text, partition, what was learned, scope,
 * key, text, row. A record that does not check is left out; a length that cannot be ends the file. What one scope has learned as a whole is
 * not kept: its entries know. */
#include "ai/semantic_internal.h"

#include "base/buf.h"
#include "base/check.h"
#include "base/crc32c.h"
#include "base/heap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX ((size_t)1 << 30)
#define RECORD_MAX (64u << 10)
#define WALK_MIN 256u  /* entries in one go */
#define WALK_PARTS 16u /* or this part of a scope: finding the place again costs a walk, too */

struct header {
    char magic[8];
    uint32_t form; /* of the rows */
    uint32_t record_head;
    char model[32];
};

struct record_head {
    uint32_t len, crc; /* of all behind them */
    uint16_t dims, scope_len, key_len, text_len;
    int64_t expires_ms;
    uint8_t partition[16];
    struct learned learned;
};

static struct header header_for(const char *model)
{
    struct header header = { "DSSEMAN2", VECTORS_FORM, sizeof(struct record_head), { 0 } };

    memcpy(header.model, model, MIN(strlen(model), sizeof(header.model)));
    return header;
}

/* ---- walking ---- */

/* The scope that the walk is in, or the next one: by hash, since scopes come and go. */
static struct semantic_scope *walk_scope(const struct semantic_shard *shard, struct semantic_walk *walk)
{
    struct semantic_scope *best = NULL;

    for (struct semantic_scope *scope = shard->scopes; scope; scope = scope->next) {
        if (walk->inside && scope->hash == walk->hash)
            return scope;
        if (scope->hash > walk->hash && (!best || scope->hash < best->hash))
            best = scope;
    }
    if (best) {
        walk->hash = best->hash;
        walk->number = 0;
        walk->inside = true;
    }
    return best;
}

bool semantic_walk(struct semantic *s, struct semantic_walk *walk,
                   void (*visit)(struct semantic_scope *scope, struct semantic_entry *e, void *arg), void *arg)
{
    struct semantic_shard *shard = &s->shards[walk->shard];
    struct semantic_scope *scope;
    uint32_t left;

    CHECK(pthread_mutex_lock(&shard->lock) == 0);
    scope = walk_scope(shard, walk);
    left = scope ? MAX(WALK_MIN, scope->count / WALK_PARTS) : 0;
    if (scope)
        LIST_EACH (node, &scope->entries) {
            struct semantic_entry *e = CONTAINER_OF(node, struct semantic_entry, by_age);

            if (e->number <= walk->number)
                continue;
            if (left-- == 0)
                break;
            walk->number = e->number;
            visit(scope, e, arg);
        }
    if (scope && left != UINT32_MAX)
        walk->inside = false; /* all of it was seen */
    CHECK(pthread_mutex_unlock(&shard->lock) == 0);
    if (scope)
        return true;
    *walk = (struct semantic_walk){ .shard = walk->shard + 1 };
    return walk->shard < SEMANTIC_SHARDS;
}

/* ---- sweeping ---- */

struct sweep {
    struct buf
        found; /* for each entry: lengths of its scope's name and its key, whether it has expired; the name, the key */
    int64_t now_ms;
};

struct swept {
    uint32_t name_len, key_len;
    bool expired;
};

static void sweep_visit(struct semantic_scope *scope, struct semantic_entry *e, void *arg)
{
    struct sweep *sweep = arg;
    struct swept one = { (uint32_t)scope->name.len, e->key_len, e->expires_ms && e->expires_ms <= sweep->now_ms };

    buf_put(&sweep->found, view_make((const char *)&one, sizeof(one)));
    buf_put(&sweep->found, scope->name);
    buf_put(&sweep->found, semantic_entry_key(e));
}

static unsigned sweep_found(struct semantic *s, struct view rest, bool (*lives)(void *arg, struct view key), void *arg)
{
    unsigned count = 0;
    struct swept one;

    while (rest.len > 0) {
        struct view name, key;

        memcpy(&one, rest.ptr, sizeof(one));
        rest = view_skip(rest, sizeof(one));
        name = view_first(rest, one.name_len);
        rest = view_skip(rest, one.name_len);
        key = view_first(rest, one.key_len);
        rest = view_skip(rest, one.key_len);
        if (one.expired || !lives(arg, key))
            count += semantic_forget(s, name, key);
    }
    return count;
}

unsigned semantic_sweep(struct semantic *s, int64_t now_ms, bool (*lives)(void *arg, struct view key), void *arg)
{
    struct sweep sweep = { .found = buf_make(FILE_MAX), .now_ms = now_ms };
    struct semantic_walk walk = { 0 };
    unsigned count = 0;

    while (semantic_walk(s, &walk, sweep_visit, &sweep)) {
        if (!sweep.found.failed)
            count += sweep_found(s, buf_view(&sweep.found), lives, arg);
        sweep.found.len = 0;
        sweep.found.failed = false;
    }
    buf_free(&sweep.found);
    return count;
}

uint64_t semantic_changes(const struct semantic *s)
{
    return atomic_load(&s->changes);
}

/* ---- writing ---- */

struct save {
    struct buf out;
    int8_t *row;
};

static void put_entry(struct semantic_scope *scope, struct semantic_entry *e, void *arg)
{
    struct save *save = arg;
    struct buf *out = &save->out;
    int8_t *row = save->row;
    struct record_head head = { .dims = (uint16_t)vectors_dims(scope->index),
                                .scope_len = (uint16_t)scope->name.len,
                                .key_len = e->key_len,
                                .text_len = e->text_len,
                                .expires_ms = e->expires_ms,
                                .learned = e->learned };
    size_t at = out->len;

    if (scope->name.len > UINT16_MAX || !vectors_save(scope->index, (uint64_t)(uintptr_t)e, row))
        return;
    memcpy(head.partition, e->partition, sizeof(head.partition));
    buf_put(out, view_make((const char *)&head, sizeof(head)));
    buf_put(out, scope->name);
    buf_put(out, view_make(e->bytes, (size_t)e->key_len + e->text_len));
    buf_put(out, view_make((const char *)row, head.dims));
    if (out->failed)
        return;
    head.len = (uint32_t)(out->len - at);
    memcpy(out->ptr + at, &head, sizeof(head));
    head.crc = crc32c(0, out->ptr + at + 8, head.len - 8);
    memcpy(out->ptr + at + 4, &head.crc, sizeof(head.crc));
}

static int write_all(int fd, struct view bytes)
{
    while (bytes.len > 0) {
        ssize_t n = write(fd, bytes.ptr, bytes.len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        bytes = view_skip(bytes, (size_t)n);
    }
    return 0;
}

/* A few entries at a time. */
static int write_entries(struct semantic *s, int fd, struct save *save)
{
    struct semantic_walk walk = { 0 };
    int error = 0;

    while (error == 0 && semantic_walk(s, &walk, put_entry, save)) {
        error = save->out.failed ? -ENOMEM : write_all(fd, buf_view(&save->out));
        save->out.len = 0;
    }
    return error < 0 ? error : fsync(fd) < 0 ? -errno : 0;
}

int semantic_save(struct semantic *s, const char *path, const char *model)
{
    struct header header = header_for(model);
    struct save save = { .out = buf_make(FILE_MAX), .row = heap_alloc(VECTORS_DIMS_MAX) };
    struct buf next = buf_make(8192);
    int fd = -1, error = -ENOMEM;

    buf_printf(&next, "%s.new", path);
    buf_char(&next, '\0');
    if (save.row && !next.failed) {
        fd = open(next.ptr, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        error = fd < 0 ? -errno : write_all(fd, view_make((const char *)&header, sizeof(header)));
        if (error == 0)
            error = write_entries(s, fd, &save);
        if (fd >= 0 && close(fd) < 0 && error == 0)
            error = -errno;
        if (error == 0 && rename(next.ptr, path) < 0)
            error = -errno;
        if (error < 0 && fd >= 0)
            (void)unlink(next.ptr);
    }
    heap_free(save.row);
    buf_free(&save.out);
    buf_free(&next);
    return error;
}

static int read_whole(const char *path, struct buf *out)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC), error = 0;
    struct stat st;
    ssize_t n = 1;

    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) < 0)
        error = -errno;
    else if (!S_ISREG(st.st_mode) || st.st_size < (off_t)sizeof(struct header) || (size_t)st.st_size > FILE_MAX)
        error = -EINVAL;
    while (error == 0 && n > 0 && out->len < (size_t)st.st_size) {
        char *room = buf_room(out, (size_t)st.st_size - out->len);

        if (!room) {
            error = -ENOMEM;
            break;
        }
        n = read(fd, room, (size_t)st.st_size - out->len);
        if (n < 0)
            error = -errno;
        else
            buf_took(out, (size_t)n);
    }
    (void)close(fd);
    return error;
}

/* One record, whose length is known to fit. */
static bool load_record(struct semantic *s, const char *at, const struct record_head *head)
{
    struct semantic_query query = { .dims = head->dims, .expires_ms = head->expires_ms };
    size_t want = sizeof(*head) + head->scope_len + (size_t)head->key_len + head->text_len + head->dims;
    struct view rest, key;

    if (head->len != want || crc32c(0, at + 8, head->len - 8) != head->crc)
        return false;
    rest = view_make(at + sizeof(*head), want - sizeof(*head));
    memcpy(query.partition, head->partition, sizeof(query.partition));
    query.scope = view_first(rest, head->scope_len);
    rest = view_skip(rest, head->scope_len);
    key = view_first(rest, head->key_len);
    rest = view_skip(rest, head->key_len);
    query.text = view_first(rest, head->text_len);
    rest = view_skip(rest, head->text_len);
    return semantic_put(s, &query, key, (const int8_t *)rest.ptr, &head->learned) == 0;
}

int semantic_load(struct semantic *s, const char *path, const char *model, int64_t now_ms, uint32_t *ret_bad)
{
    struct header header = header_for(model);
    struct buf file = buf_make(FILE_MAX);
    int error = read_whole(path, &file), count = 0;
    struct view rest = buf_view(&file);
    struct record_head head;

    *ret_bad = 0;
    if (error == 0 && (rest.len < sizeof(header) || memcmp(rest.ptr, &header, offsetof(struct header, model)) != 0))
        error = -EINVAL;
    else if (error == 0 && memcmp(rest.ptr, &header, sizeof(header)) != 0)
        error = -ESTALE;
    rest = view_skip(rest, sizeof(header));
    while (error == 0 && rest.len > 0) {
        if (rest.len >= sizeof(head))
            memcpy(&head, rest.ptr, sizeof(head));
        if (rest.len < sizeof(head) || head.len < sizeof(head) || head.len > RECORD_MAX || head.len > rest.len) {
            ++*ret_bad;
            break;
        }
        if (head.expires_ms && head.expires_ms <= now_ms)
            ; /* its answer is too old */
        else if (load_record(s, rest.ptr, &head))
            count++;
        else
            ++*ret_bad;
        rest = view_skip(rest, head.len);
    }
    buf_free(&file);
    return error < 0 ? error : count;
}
