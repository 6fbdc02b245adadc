/* Bodies piece by piece: up to four blocks are verified into the stream's buffer at a time, from the page cache where we
 * stand, else by a worker, who then also asks the kernel for what comes next. The stream pins every segment its body lies in,
 * so that recycling them only gives them another name. */
#include "store/disk_internal.h"

#include "base/check.h"
#include "base/crc32c.h"
#include "base/heap.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/uio.h>

#define WINDOW_BLOCKS 4u

struct disk_stream {
    struct disk_job job;
    struct disk *disk;
    struct object *object;
    struct disk_body *body;
    struct task *task;
    char *buffer;
    uint64_t at; /* body offset of the buffer's first byte */
    size_t len;
    bool busy, closed;
    bool sequential;
    int error;
    struct segment *sending;      /* its descriptor is in use by the caller of disk_stream_span() */
    uint32_t extent, from, count; /* of the job: blocks [from, from + count) of an extent */
    struct segment *segments[];   /* one pin for each extent */
};

/* ---- blocks ---- */

static int read_some(int fd, char *memory, size_t len, uint64_t offset, bool may_block)
{
    struct iovec iov = { .iov_base = memory, .iov_len = len };
    ssize_t n;

    if (may_block)
        return file_read(fd, memory, len, offset);
    n = preadv2(fd, &iov, 1, (off_t)offset, RWF_NOWAIT);
    return n < 0 || (size_t)n < len ? -EAGAIN : 0;
}

/* The extent's own head and table of blocks. 0 or -EBADMSG. */
static int check_extent(const struct segment *segment, const struct disk_body *body, const struct disk_extent *extent,
                        struct view front, struct record *ret)
{
    uint32_t size = atomic_load(&segment->size), block, blocks;
    uint64_t id;

    if (extent->offset >= size || record_parse(front, segment->stamp, size - extent->offset, ret) < 0 ||
        ret->type != RECORD_EXTENT || !(ret->flags & RECORD_ENCRYPTED) != !segment->encrypted ||
        extent_blocks(ret->payload_len) != extent->blocks || record_payload_at(ret) > front.len ||
        crc32c(0, front.ptr + RECORD_HEAD, record_payload_at(ret) - RECORD_HEAD) != ret->payload_crc)
        return -EBADMSG;
    extent_head_parse(front.ptr + RECORD_HEAD, &id, &block, &blocks);
    return id == body->id && block == extent->block && blocks == extent->blocks ? 0 : -EBADMSG;
}

static int check_block(struct disk *disk, const struct segment *segment, const struct disk_body *body,
                       const struct disk_extent *extent, uint32_t number, const char *table, char *bytes, size_t len,
                       const char *id)
{
    struct crypt_place place = {
        .key = segment->key, .offset = extent->offset, .block = extent->block + number, .bound = view_make(id, 8)
    };

    if (!segment->encrypted)
        return crc32c(0, bytes, len) == get_le32(table + (size_t)number * 4) ? 0 : -EBADMSG;
    place.what = (uint64_t)(place.block + 1) * BLOCK_SIZE >= body->len ? CRYPT_LAST_BLOCK : CRYPT_BLOCK;
    return disk_crypt_open(disk->crypt, &place, bytes, len, table + (size_t)number * RECORD_TAG);
}

int read_blocks(struct disk *disk, struct segment *segment, const struct disk_body *body,
                const struct disk_extent *extent, uint32_t from, uint32_t count, char *out, bool may_block)
{
    char front[RECORD_HEAD + EXTENT_HEAD + EXTENT_BLOCKS_MAX * RECORD_TAG];
    size_t front_len = RECORD_HEAD + EXTENT_HEAD + extent_table(extent->blocks, segment->encrypted), len;
    struct record record;
    int fd, r;

    fd = segment_use(disk, segment, may_block);
    if (fd < 0)
        return fd;
    r = read_some(fd, front, front_len, extent->offset, may_block);
    if (r == 0)
        r = check_extent(segment, body, extent, view_make(front, front_len), &record);
    if (r == 0) {
        len = MIN(count * BLOCK_SIZE, record.payload_len - from * BLOCK_SIZE);
        r = read_some(fd, out, len, extent->offset + front_len + from * BLOCK_SIZE, may_block);
    }
    segment_done(disk, segment);
    for (uint32_t i = 0; r == 0 && i < count; i++) {
        size_t at = i * BLOCK_SIZE;

        r = check_block(disk, segment, body, extent, from + i, front + RECORD_HEAD + EXTENT_HEAD, out + at,
                        MIN(len - at, BLOCK_SIZE), front + RECORD_HEAD);
    }
    return r;
}

/* ---- streams ---- */

static void end_span(struct disk_stream *stream)
{
    if (stream->sending)
        segment_done(stream->disk, stream->sending);
    stream->sending = NULL;
}

static void stream_free(struct disk_stream *stream)
{
    object_unref(stream->object);
    heap_free(stream->buffer);
    heap_free(stream);
}

static void unpin_all(struct disk_stream *stream, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        segment_unpin(stream->disk, stream->segments[i]);
}

int disk_stream_open(struct disk *disk, struct object *object, struct task *task, struct disk_stream **ret)
{
    struct disk_body *body = disk_body_of(object);
    struct disk_stream *stream;

    if (!body)
        return -ESTALE;
    stream = heap_zalloc(sizeof(*stream) + body->count * sizeof(stream->segments[0]));
    if (!stream)
        return -ENOMEM;
    stream->disk = disk;
    stream->body = body;
    stream->task = task;
    stream->buffer = heap_alloc(WINDOW_BLOCKS * BLOCK_SIZE);
    if (!stream->buffer) {
        stream_free(stream);
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < body->count; i++) {
        stream->segments[i] = segment_pin(disk, body->extents[i].seq);
        if (!stream->segments[i]) {
            unpin_all(stream, i);
            stream_free(stream);
            return -ESTALE;
        }
    }
    stream->object = object_ref(object);
    *ret = stream;
    return 0;
}

/* The kernel fetches the rest of this extent and the next one while the client takes what we have. */
static void prefetch(struct disk_stream *stream)
{
    for (uint32_t i = stream->extent; i < MIN(stream->extent + 2, stream->body->count); i++) {
        const struct disk_extent *extent = &stream->body->extents[i];
        int fd = segment_use(stream->disk, stream->segments[i], true);

        if (fd < 0)
            return;
        (void)posix_fadvise(fd, extent->offset, (off_t)(extent->blocks * BLOCK_SIZE + 512), POSIX_FADV_WILLNEED);
        segment_done(stream->disk, stream->segments[i]);
    }
}

static void stream_run(struct work *work)
{
    struct disk_stream *stream = CONTAINER_OF(CONTAINER_OF(work, struct disk_job, work), struct disk_stream, job);
    int r;

    if (stream->sequential)
        prefetch(stream);
    r = read_blocks(stream->disk, stream->segments[stream->extent], stream->body,
                    &stream->body->extents[stream->extent], stream->from, stream->count, stream->buffer, true);
    stream->error = r;
    disk_job_ran(&stream->job);
}

static void close_now(struct disk_stream *stream)
{
    end_span(stream);
    unpin_all(stream, stream->body->count);
    stream_free(stream);
}

/* What is in the buffer now. */
static void loaded(struct disk_stream *stream)
{
    uint32_t block = stream->body->extents[stream->extent].block + stream->from;

    disk_body_verified(stream->body, block, stream->count);
    stream->at = (uint64_t)block * BLOCK_SIZE;
    stream->len = (size_t)MIN(stream->count * BLOCK_SIZE, stream->body->len - stream->at);
}

static void failed(struct disk_stream *stream)
{
    if (stream->error == -EBADMSG) {
        disk_add(&stream->disk->count.corrupt, 1);
        queue_drop(stream->disk, stream->body->key);
    } else if (stream->error != -ENOMEM) {
        disk_read_failed(stream->disk, -stream->error);
    }
}

static void stream_done(struct loop *loop, struct message *message)
{
    struct work *work = CONTAINER_OF(message, struct work, done);
    struct disk_stream *stream = CONTAINER_OF(CONTAINER_OF(work, struct disk_job, work), struct disk_stream, job);

    (void)loop;
    disk_job_back(&stream->job);
    stream->busy = false;
    if (stream->closed) {
        close_now(stream);
        return;
    }
    if (stream->error < 0)
        failed(stream);
    else
        loaded(stream);
    task_wake(stream->task);
}

static void stream_abandon(struct disk_job *job)
{
    struct disk_stream *stream = CONTAINER_OF(job, struct disk_stream, job);

    if (stream->closed)
        close_now(stream);
}

/* The extent that holds a block. */
static uint32_t find_extent(const struct disk_body *body, uint32_t block)
{
    uint32_t low = 0, high = body->count - 1;

    while (low < high) {
        uint32_t middle = low + (high - low + 1) / 2;

        if (body->extents[middle].block <= block)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

/* Which blocks to read for `offset`: whole ones, of one extent. */
static void plan(struct disk_stream *stream, uint64_t offset, size_t max)
{
    uint32_t block = (uint32_t)(offset / BLOCK_SIZE), low = find_extent(stream->body, block), want;
    const struct disk_extent *extent = &stream->body->extents[low];

    stream->sequential = offset == 0 || (stream->len && offset == stream->at + stream->len);
    want = (uint32_t)((offset % BLOCK_SIZE + MIN(max, WINDOW_BLOCKS * BLOCK_SIZE) + BLOCK_SIZE - 1) / BLOCK_SIZE);
    stream->extent = low;
    stream->from = block - extent->block;
    stream->count = MIN(MIN(MAX(want, 1), WINDOW_BLOCKS), extent->blocks - stream->from);
    stream->len = 0;
}

ssize_t disk_stream_read(struct disk_stream *stream, uint64_t offset, size_t max, struct view *ret)
{
    CHECK(offset < stream->body->len && max > 0);
    if (stream->busy)
        return -EAGAIN;
    if (stream->error < 0)
        return -EIO;
    if (offset < stream->at || offset >= stream->at + stream->len) {
        plan(stream, offset, max);
        stream->error =
            read_blocks(stream->disk, stream->segments[stream->extent], stream->body,
                        &stream->body->extents[stream->extent], stream->from, stream->count, stream->buffer, false);
        if (stream->error == -EAGAIN) {
            stream->error = 0;
            stream->busy = true;
            stream->job = (struct disk_job){
                .work = { .done.handle = stream_done, .run = stream_run, .loop = stream->task->loop },
                .disk = stream->disk,
                .abandon = stream_abandon,
            };
            disk_job_send(&stream->job);
            return -EAGAIN;
        }
        if (stream->error < 0) {
            failed(stream);
            return -EIO;
        }
        loaded(stream);
    }
    *ret =
        view_first(view_make(stream->buffer + (offset - stream->at), (size_t)(stream->at + stream->len - offset)), max);
    return (ssize_t)ret->len;
}

/* Is this byte in the page cache? A block is asked for at both ends: its pages mostly come and go together. */
static bool is_resident(int fd, off_t at)
{
    char byte;
    struct iovec iov = { .iov_base = &byte, .iov_len = 1 };

    return preadv2(fd, &iov, 1, at, RWF_NOWAIT) == 1;
}

ssize_t disk_stream_span(struct disk_stream *stream, uint64_t offset, size_t max, int *ret_fd, off_t *ret_at)
{
    const struct disk_body *body = stream->body;
    uint32_t block = (uint32_t)(offset / BLOCK_SIZE), low = find_extent(body, block), end;
    const struct disk_extent *extent = &body->extents[low];
    struct segment *segment = stream->segments[low];
    off_t payload = (off_t)(extent->offset + RECORD_HEAD + EXTENT_HEAD + extent_table(extent->blocks, false));
    off_t first = payload + (off_t)((block - extent->block) * BLOCK_SIZE);
    int fd;

    CHECK(offset < body->len && max > 0);
    end_span(stream);
    if (stream->busy || segment->encrypted || !disk_body_is_verified(body, block))
        return 0;
    fd = segment_use(stream->disk, segment, false);
    if (fd < 0)
        return 0;
    for (end = block; end < extent->block + extent->blocks && (uint64_t)end * BLOCK_SIZE < offset + max; end++)
        if (!disk_body_is_verified(body, end) || !is_resident(fd, first + (off_t)((end - block) * BLOCK_SIZE)) ||
            !is_resident(fd, first + (off_t)(MIN((uint64_t)(end + 1) * BLOCK_SIZE, body->len) - 1 -
                                             (uint64_t)block * BLOCK_SIZE)))
            break;
    if (end == block) {
        segment_done(stream->disk, segment);
        return 0;
    }
    stream->sending = segment;
    *ret_fd = fd;
    *ret_at = first + (off_t)(offset % BLOCK_SIZE);
    return (ssize_t)MIN(MIN((uint64_t)end * BLOCK_SIZE, body->len) - offset, (uint64_t)max);
}

void disk_stream_close(struct disk_stream *stream)
{
    if (!stream)
        return;
    if (stream->busy)
        stream->closed = true;
    else
        close_now(stream);
}
