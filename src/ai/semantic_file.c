/* The semantic index in a file: a header, then one checksummed record an entry.
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

struct header {
    char magic[8];
    uint32_t form; /* of the rows */
    uint32_t record_head;
};

struct record_head {
    uint32_t len, crc; /* of all behind them */
    uint16_t dims, scope_len, key_len, text_len;
    uint8_t partition[16];
    struct learned learned;
};

static const struct header file_header = { "DSSEMAN1", VECTORS_FORM, sizeof(struct record_head) };

static void put_entry(struct buf *out, const struct semantic_scope *scope, const struct semantic_entry *e, int8_t *row)
{
    struct record_head head = { .dims = (uint16_t)vectors_dims(scope->index),
                                .scope_len = (uint16_t)scope->name.len,
                                .key_len = e->key_len,
                                .text_len = e->text_len,
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

static void put_all(struct semantic *s, struct buf *out, int8_t *row)
{
    buf_put(out, view_make((const char *)&file_header, sizeof(file_header)));
    for (unsigned i = 0; i < SEMANTIC_SHARDS; i++) {
        CHECK(pthread_mutex_lock(&s->shards[i].lock) == 0);
        for (struct semantic_scope *scope = s->shards[i].scopes; scope; scope = scope->next)
            LIST_EACH (node, &scope->entries)
                put_entry(out, scope, CONTAINER_OF(node, struct semantic_entry, by_age), row);
        CHECK(pthread_mutex_unlock(&s->shards[i].lock) == 0);
    }
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
    return fsync(fd) < 0 ? -errno : 0;
}

int semantic_save(struct semantic *s, const char *path)
{
    struct buf out = buf_make(FILE_MAX), next = buf_make(8192);
    int8_t *row = heap_alloc(VECTORS_DIMS_MAX);
    int fd = -1, error = -ENOMEM;

    buf_printf(&next, "%s.new", path);
    buf_char(&next, '\0');
    if (row)
        put_all(s, &out, row);
    if (row && !out.failed && !next.failed) {
        fd = open(next.ptr, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        error = fd < 0 ? -errno : write_all(fd, buf_view(&out));
        if (fd >= 0 && close(fd) < 0 && error == 0)
            error = -errno;
        if (error == 0 && rename(next.ptr, path) < 0)
            error = -errno;
        if (error < 0 && fd >= 0)
            (void)unlink(next.ptr);
    }
    heap_free(row);
    buf_free(&out);
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
    else if (!S_ISREG(st.st_mode) || st.st_size < (off_t)sizeof(file_header) || (size_t)st.st_size > FILE_MAX)
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
    struct semantic_query query = { .dims = head->dims };
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

int semantic_load(struct semantic *s, const char *path, uint32_t *ret_bad)
{
    struct buf file = buf_make(FILE_MAX);
    int error = read_whole(path, &file), count = 0;
    struct view rest = buf_view(&file);
    struct record_head head;

    *ret_bad = 0;
    if (error == 0 && (rest.len < sizeof(file_header) || memcmp(rest.ptr, &file_header, sizeof(file_header)) != 0))
        error = -EINVAL;
    rest = view_skip(rest, sizeof(file_header));
    while (error == 0 && rest.len > 0) {
        if (rest.len >= sizeof(head))
            memcpy(&head, rest.ptr, sizeof(head));
        if (rest.len < sizeof(head) || head.len < sizeof(head) || head.len > RECORD_MAX || head.len > rest.len) {
            ++*ret_bad;
            break;
        }
        if (load_record(s, rest.ptr, &head))
            count++;
        else
            ++*ret_bad;
        rest = view_skip(rest, head.len);
    }
    buf_free(&file);
    return error < 0 ? error : count;
}
