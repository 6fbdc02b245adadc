/* The keeper: syncs segments when they are full, and writes checkpoints of the index. In this order: position, sync of
 * everything up to it, copy of the index, a new file, sync, rename. So a checkpoint never speaks of bytes that a power loss
 * can take, and what happened while it was written is found again by the scan from its position. */
#include "store/disk_internal.h"

#include "base/clock.h"
#include "base/crc32c.h"
#include "base/heap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define BLOCK_HEAD 8u
#define BLOCK_SLOTS 8192u
#define BLOCK_SEGMENTS 1024u

/* ---- reading ---- */

/* Sizes of the segments that are there, by number: asked once for each slot. */
struct known {
    uint32_t first, count;
    uint32_t *sizes; /* 0: no such segment */
};

static int know(const struct space *space, struct known *ret)
{
    struct segment *const *table = space->count ? space->table + space->first : NULL;
    struct known known = { 0 };

    if (space->count) {
        known.first = table[0]->seq;
        known.count = table[space->count - 1]->seq - known.first + 1;
    }
    known.sizes = heap_zalloc((known.count + (size_t)1) * sizeof(*known.sizes));
    if (!known.sizes)
        return -ENOMEM;
    for (uint32_t i = 0; i < space->count; i++)
        known.sizes[table[i]->seq - known.first] = table[i]->size;
    *ret = known;
    return 0;
}

static bool is_known(const struct known *known, const struct disk_slot *slot)
{
    uint32_t at = slot->seq - known->first;

    return at < known->count && slot_offset(slot) < known->sizes[at] && slot_type(slot) == RECORD_ENTRY;
}

/* The next block of items of `size` bytes into memory, behind its head: how many, or -errno. */
static int read_block(struct checkpoint *c, uint32_t size, uint32_t max)
{
    uint32_t count;
    size_t len;
    int r = file_read(c->fd, c->memory, BLOCK_HEAD, c->offset);

    if (r < 0)
        return r;
    count = get_le32(c->memory);
    len = (size_t)count * size;
    if (count == 0)
        return get_le32(c->memory + 4) == c->crc ? 0 : -EBADMSG;
    if (count > max)
        return -EBADMSG;
    r = file_read(c->fd, c->memory + BLOCK_HEAD, len, c->offset + BLOCK_HEAD);
    if (r < 0)
        return r;
    if (crc32c(0, c->memory + BLOCK_HEAD, len) != get_le32(c->memory + 4))
        return -EBADMSG;
    c->crc = crc32c(c->crc, c->memory, BLOCK_HEAD);
    c->offset += BLOCK_HEAD + len;
    return (int)count;
}

static int read_segments(struct checkpoint *c)
{
    uint32_t have = 0;
    int n;

    c->segments = heap_array(c->head.segments + (size_t)1, SAVED_SEGMENT);
    if (!c->segments)
        return -ENOMEM;
    while (have < c->head.segments) {
        n = read_block(c, SAVED_SEGMENT, MIN(c->head.segments - have, BLOCK_SEGMENTS));
        if (n <= 0)
            return n < 0 ? n : -EBADMSG;
        memcpy(c->segments + have * (size_t)SAVED_SEGMENT, c->memory + BLOCK_HEAD, (size_t)n * SAVED_SEGMENT);
        have += (uint32_t)n;
    }
    return 0;
}

void checkpoint_close(struct checkpoint *checkpoint)
{
    if (checkpoint->fd >= 0)
        close(checkpoint->fd);
    heap_free(checkpoint->memory);
    heap_free(checkpoint->segments);
    *checkpoint = (struct checkpoint){ .fd = -1 };
}

int checkpoint_open(struct disk *disk, struct checkpoint *ret)
{
    struct checkpoint *c = ret;
    struct stat info;
    int r;

    *c = (struct checkpoint){ .fd = openat(disk->dir_fd, "checkpoint", O_RDONLY | O_CLOEXEC),
                              .offset = CHECKPOINT_HEAD };
    r = c->fd < 0 || fstat(c->fd, &info) < 0 ? -errno : 0;
    c->memory = r == 0 ? heap_alloc(BLOCK_HEAD + BLOCK_SLOTS * (size_t)SLOT_SIZE) : NULL;
    if (r == 0)
        r = c->memory ? file_read(c->fd, c->memory, CHECKPOINT_HEAD, 0) : -ENOMEM;
    if (r == 0)
        r = checkpoint_head_parse(view_make(c->memory, CHECKPOINT_HEAD), &c->head);
    if (r == 0 && (memcmp(c->head.identity, disk->options.identity, sizeof(c->head.identity)) != 0 ||
                   c->head.segments > (uint64_t)info.st_size / SAVED_SEGMENT))
        r = -EBADMSG;
    if (r == 0) {
        c->crc = crc32c(0, c->memory, CHECKPOINT_HEAD);
        r = read_segments(c);
    }
    if (r < 0)
        checkpoint_close(c);
    return r;
}

const char *checkpoint_segment(const struct checkpoint *checkpoint, uint32_t seq)
{
    uint32_t low = 0, high = checkpoint->head.segments;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const char *at = checkpoint->segments + middle * (size_t)SAVED_SEGMENT;
        uint32_t here = segment_head_seq(at + 4);

        if (here == seq)
            return at;
        if (here < seq)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

int checkpoint_load(struct disk *disk, struct checkpoint *c)
{
    struct known known = { 0 };
    int r;

    if (c->fd < 0)
        return -ENOENT;
    r = know(&disk->space, &known);
    if (r < 0)
        return r;
    disk_index_expect(disk->index, MIN(c->head.objects, disk->space.bytes / RECORD_HEAD));
    while ((r = read_block(c, SLOT_SIZE, BLOCK_SLOTS)) > 0)
        for (int i = 0; i < r; i++) {
            struct disk_slot slot = slot_get(c->memory + BLOCK_HEAD + (size_t)i * SLOT_SIZE);

            if (is_known(&known, &slot))
                (void)!disk_index_put(disk->index, &slot);
        }
    heap_free(known.sizes);
    return r;
}

/* ---- writing ---- */

/* Syncs segments that are not yet on the disk for sure; with `all` also the one being written. 0 or -errno. */
static int sync_segments(struct disk *disk, bool all)
{
    struct space *space = &disk->space;
    uint32_t after = 0;
    int r = 0;

    for (;;) {
        struct segment *segment = NULL;
        bool sealed = false;
        int fd;

        pthread_mutex_lock(&space->lock);
        for (uint32_t i = space->count; i-- > 0;) {
            struct segment *at = space->table[space->first + i];

            if (at->seq <= after || at->synced)
                break; /* they are synced in the order of their numbers */
            if (at->sealed || all)
                segment = at;
        }
        if (segment) {
            segment->pins++;
            sealed = segment->sealed;
        }
        pthread_mutex_unlock(&space->lock);
        if (!segment)
            return r;
        after = segment->seq;
        fd = segment_use(disk, segment, true);
        if (fd >= 0) {
            r = fdatasync(fd) < 0 ? -errno : 0;
            segment_done(disk, segment);
        } else {
            r = fd;
        }
        pthread_mutex_lock(&space->lock);
        segment->synced = sealed && r == 0;
        pthread_mutex_unlock(&space->lock);
        segment_unpin(disk, segment);
        if (r < 0)
            return r;
    }
}

/* The file being written. */
struct output {
    int fd;
    char *memory; /* a block: its items stand behind BLOCK_HEAD */
    uint64_t offset, limit;
    uint32_t crc; /* as in struct checkpoint */
};

static int put_block(struct output *o, uint32_t count, uint32_t size)
{
    size_t len = (size_t)count * size;
    int r;

    /* The closing block must fit, too. */
    if (o->offset + 2 * BLOCK_HEAD + len > o->limit)
        return -EFBIG;
    put_le(o->memory, count, 4);
    put_le(o->memory + 4, count ? crc32c(0, o->memory + BLOCK_HEAD, len) : o->crc, 4);
    o->crc = crc32c(o->crc, o->memory, BLOCK_HEAD);
    r = file_write(o->fd, o->memory, BLOCK_HEAD + len, o->offset);
    o->offset += BLOCK_HEAD + len;
    return r;
}

static int put_shards(struct disk *disk, struct output *o)
{
    int r = 0;

    for (unsigned i = 0; r == 0 && i < INDEX_SHARDS; i++) {
        struct disk_slot *slots;
        int count = disk_index_copy(disk->index, i, &slots);

        if (count < 0)
            return count;
        for (uint32_t at = 0, n; r == 0 && at < (uint32_t)count; at += n) {
            n = MIN((uint32_t)count - at, BLOCK_SLOTS);
            for (uint32_t k = 0; k < n; k++)
                slot_put(&slots[at + k], o->memory + BLOCK_HEAD + (size_t)k * SLOT_SIZE);
            r = put_block(o, n, SLOT_SIZE);
        }
        heap_free(slots);
    }
    return r;
}

/* Copies what a start needs to know of the segments below `before`, all full and synced by now. How many; -ENOMEM. */
static int64_t copy_segments(struct disk *disk, uint32_t before, char **ret)
{
    struct space *space = &disk->space;
    uint32_t count = 0;
    char *copy, *at;

    pthread_mutex_lock(&space->lock);
    while (count < space->count && space->table[space->first + count]->seq < before &&
           space->table[space->first + count]->synced)
        count++;
    copy = at = heap_array(count + (size_t)1, SAVED_SEGMENT);
    for (uint32_t i = 0; copy && i < count; i++, at += SAVED_SEGMENT) {
        const struct segment *segment = space->table[space->first + i];

        put_le(at, segment->size, 4);
        memcpy(at + 4, segment->head, SEGMENT_HEAD);
    }
    pthread_mutex_unlock(&space->lock);
    if (!copy)
        return -ENOMEM;
    *ret = copy;
    return count;
}

static int put_segments(struct output *o, const char *segments, uint32_t count)
{
    int r = 0;

    for (uint32_t at = 0, n; r == 0 && at < count; at += n) {
        n = MIN(count - at, BLOCK_SEGMENTS);
        memcpy(o->memory + BLOCK_HEAD, segments + at * (size_t)SAVED_SEGMENT, n * (size_t)SAVED_SEGMENT);
        r = put_block(o, n, SAVED_SEGMENT);
    }
    return r;
}

/* The new file, synced, not yet in place. Its length or -errno. */
static int64_t write_file(struct disk *disk, const struct checkpoint_head *head, const char *segments, uint64_t limit)
{
    struct output o = { .offset = CHECKPOINT_HEAD, .limit = limit };
    int r;

    o.memory = heap_alloc(BLOCK_HEAD + BLOCK_SLOTS * (size_t)SLOT_SIZE);
    if (!o.memory)
        return -ENOMEM;
    o.fd = openat(disk->dir_fd, "checkpoint.new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    r = o.fd < 0 ? -errno : 0;
    if (r == 0) {
        checkpoint_head_put(head, o.memory);
        o.crc = crc32c(0, o.memory, CHECKPOINT_HEAD);
        r = file_write(o.fd, o.memory, CHECKPOINT_HEAD, 0);
    }
    if (r == 0)
        r = put_segments(&o, segments, head->segments);
    if (r == 0)
        r = put_shards(disk, &o);
    if (r == 0)
        r = put_block(&o, 0, 0);
    if (r == 0 && fdatasync(o.fd) < 0)
        r = -errno;
    if (o.fd >= 0)
        close(o.fd);
    heap_free(o.memory);
    return r < 0 ? r : (int64_t)o.offset;
}

/* Bytes that a new checkpoint may take. When it does not fit beside the old one, that one goes first. */
static uint64_t make_room(struct disk *disk, uint64_t want)
{
    struct space *space = &disk->space;
    uint64_t room;
    bool alone;

    pthread_mutex_lock(&space->lock);
    room = disk->options.size - MIN(disk->options.size, space->bytes);
    alone = space->checkpoint_bytes + want > room;
    if (alone)
        space->checkpoint_bytes = 0;
    else
        room -= space->checkpoint_bytes;
    space->checkpoint_new = MIN(want + want / 8, room);
    room = space->checkpoint_new;
    pthread_mutex_unlock(&space->lock);
    if (alone)
        (void)unlinkat(disk->dir_fd, "checkpoint", 0);
    return room;
}

static int write_checkpoint(struct disk *disk, struct checkpoint_head *head)
{
    uint64_t live, memory;
    char *segments;
    int64_t size = copy_segments(disk, head->seq, &segments);
    int r;

    if (size < 0)
        return (int)size;
    head->segments = (uint32_t)size;
    disk_index_count(disk->index, &head->objects, &live, &memory);
    size =
        write_file(disk, head, segments,
                   make_room(disk, head->objects * SLOT_SIZE + head->segments * (uint64_t)(SAVED_SEGMENT + 1) + 8192));
    heap_free(segments);
    r = size < 0 ? (int)size : 0;
    if (r == 0 && (renameat(disk->dir_fd, "checkpoint.new", disk->dir_fd, "checkpoint") < 0 || fsync(disk->dir_fd) < 0))
        r = -errno;
    if (r < 0)
        (void)unlinkat(disk->dir_fd, "checkpoint.new", 0);
    pthread_mutex_lock(&disk->space.lock);
    disk->space.checkpoint_new = 0;
    if (r == 0)
        disk->space.checkpoint_bytes = (uint64_t)size;
    pthread_mutex_unlock(&disk->space.lock);
    return r;
}

/* The file system was full: is there room again? */
static void look_for_room(struct disk *disk)
{
    struct statvfs info;

    if (fstatvfs(disk->dir_fd, &info) == 0 &&
        (uint64_t)info.f_bavail * info.f_frsize >= 4 * (uint64_t)disk->options.segment_size)
        space_lift(disk);
}

void keeper_checkpoint(struct disk *disk)
{
    struct checkpoint_head head = { 0 };
    int r;

    if (!atomic_load(&disk->on))
        return;
    look_for_room(disk);
    memcpy(head.identity, disk->options.identity, sizeof(head.identity));
    pthread_mutex_lock(&disk->queue.lock);
    head.seq = disk->queue.done_seq;
    head.offset = disk->queue.done_offset;
    head.next_seq = head.seq + 1;
    pthread_mutex_unlock(&disk->queue.lock);
    if (head.seq == disk->saved_seq && head.offset == disk->saved_offset)
        return;
    r = sync_segments(disk, true);
    if (r == 0 && fsync(disk->dir_fd) < 0)
        r = -errno;
    if (r == 0)
        r = write_checkpoint(disk, &head);
    if (r == 0) {
        disk->saved_seq = head.seq;
        disk->saved_offset = head.offset;
        disk_add(&disk->count.checkpoints, 1);
    } else if (r == -ENOSPC || r == -EDQUOT || r == -EFBIG || r == -ENOMEM) {
        disk_add(&disk->count.checkpoints_skipped, 1); /* the tier works without; the next start reads footers */
    } else if (atomic_load(&disk->on)) {
        disk_add(&disk->count.write_errors, 1);
        disk_trouble(disk, -r, "writing a checkpoint");
    }
}

void disk_checkpoint(struct disk *disk)
{
    pthread_mutex_lock(&disk->keeping);
    keeper_checkpoint(disk);
    pthread_mutex_unlock(&disk->keeping);
}

/* ---- the thread ---- */

void keeper_kick(struct disk *disk)
{
    pthread_mutex_lock(&disk->keeper_lock);
    disk->keeper_kicked = true;
    pthread_cond_signal(&disk->keeper_more);
    pthread_mutex_unlock(&disk->keeper_lock);
}

static struct timespec monotonic(uint64_t ms)
{
    return (struct timespec){ .tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000 };
}

/* Waits for a full segment or the next checkpoint. False: stop. */
static bool keeper_wait(struct disk *disk, uint64_t until_ms)
{
    struct timespec until = monotonic(until_ms);
    bool stop;

    pthread_mutex_lock(&disk->keeper_lock);
    while (!disk->keeper_stop && !disk->keeper_kicked)
        if (pthread_cond_timedwait(&disk->keeper_more, &disk->keeper_lock, &until) == ETIMEDOUT)
            break;
    disk->keeper_kicked = false;
    stop = disk->keeper_stop;
    pthread_mutex_unlock(&disk->keeper_lock);
    return !stop;
}

void *keeper_main(void *arg)
{
    struct disk *disk = arg;
    uint64_t next_ms = clock_mono_ms() + disk->options.checkpoint_ms;

    (void)pthread_setname_np(pthread_self(), "disk-keeper");
    while (keeper_wait(disk, next_ms)) {
        pthread_mutex_lock(&disk->keeping);
        if (clock_mono_ms() >= next_ms) {
            keeper_checkpoint(disk);
            next_ms = clock_mono_ms() + disk->options.checkpoint_ms;
        } else if (atomic_load(&disk->on)) {
            int r = sync_segments(disk, false);

            if (r < 0 && atomic_load(&disk->on))
                disk_trouble(disk, -r, "syncing a segment");
        }
        pthread_mutex_unlock(&disk->keeping);
    }
    return NULL;
}
