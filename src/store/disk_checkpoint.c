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

/* One block of slots: how many, or -errno. */
static int load_block(struct disk *disk, const struct known *known, int fd, char *memory, uint64_t *offset,
                      uint32_t *crc_of_all)
{
    uint32_t count;
    int r = file_read(fd, memory, BLOCK_HEAD, *offset);

    if (r < 0)
        return r;
    count = get_le32(memory);
    if (count == 0)
        return get_le32(memory + 4) == *crc_of_all ? 0 : -EBADMSG;
    if (count > BLOCK_SLOTS)
        return -EBADMSG;
    r = file_read(fd, memory + BLOCK_HEAD, (size_t)count * SLOT_SIZE, *offset + BLOCK_HEAD);
    if (r < 0)
        return r;
    if (crc32c(0, memory + BLOCK_HEAD, (size_t)count * SLOT_SIZE) != get_le32(memory + 4))
        return -EBADMSG;
    *crc_of_all = crc32c(*crc_of_all, memory, BLOCK_HEAD);
    for (uint32_t i = 0; i < count; i++) {
        struct disk_slot slot = slot_get(memory + BLOCK_HEAD + (size_t)i * SLOT_SIZE);

        if (is_known(known, &slot))
            (void)!disk_index_put(disk->index, &slot);
    }
    *offset += BLOCK_HEAD + (uint64_t)count * SLOT_SIZE;
    return (int)count;
}

int checkpoint_load(struct disk *disk, struct checkpoint_head *ret)
{
    char *memory = heap_alloc(BLOCK_HEAD + BLOCK_SLOTS * SLOT_SIZE);
    struct known known = { 0 };
    struct checkpoint_head head;
    uint64_t offset = CHECKPOINT_HEAD;
    uint32_t crc = 0;
    int fd = openat(disk->dir_fd, "checkpoint", O_RDONLY | O_CLOEXEC), r;

    r = fd < 0 ? -errno : memory ? file_read(fd, memory, CHECKPOINT_HEAD, 0) : -ENOMEM;
    if (r == 0)
        r = checkpoint_head_parse(view_make(memory, CHECKPOINT_HEAD), &head);
    if (r == 0 && memcmp(head.identity, disk->options.identity, sizeof(head.identity)) != 0)
        r = -EBADMSG;
    if (r == 0)
        r = know(&disk->space, &known);
    if (r == 0) {
        disk_index_expect(disk->index, MIN(head.objects, disk->space.bytes / RECORD_HEAD));
        crc = crc32c(0, memory, CHECKPOINT_HEAD);
        do
            r = load_block(disk, &known, fd, memory, &offset, &crc);
        while (r > 0);
    }
    if (fd >= 0)
        close(fd);
    heap_free(known.sizes);
    heap_free(memory);
    if (r == 0)
        *ret = head;
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

static int put_block(int fd, const struct disk_slot *slots, uint32_t count, char *memory, uint64_t *offset,
                     uint32_t *crc_of_all)
{
    size_t len = (size_t)count * SLOT_SIZE;
    int r;

    for (uint32_t i = 0; i < count; i++)
        slot_put(&slots[i], memory + BLOCK_HEAD + (size_t)i * SLOT_SIZE);
    put_le(memory, count, 4);
    put_le(memory + 4, count ? crc32c(0, memory + BLOCK_HEAD, len) : *crc_of_all, 4);
    *crc_of_all = crc32c(*crc_of_all, memory, BLOCK_HEAD);
    r = file_write(fd, memory, BLOCK_HEAD + len, *offset);
    *offset += BLOCK_HEAD + len;
    return r;
}

static int put_shards(struct disk *disk, int fd, char *memory, uint64_t *offset, uint32_t *crc, uint64_t limit)
{
    int r = 0;

    for (unsigned i = 0; r == 0 && i < INDEX_SHARDS; i++) {
        struct disk_slot *slots;
        int count = disk_index_copy(disk->index, i, &slots);

        if (count < 0)
            return count;
        for (uint32_t at = 0, n; r == 0 && at < (uint32_t)count; at += n) {
            n = MIN((uint32_t)count - at, BLOCK_SLOTS);
            r = *offset + 2 * BLOCK_HEAD + (uint64_t)n * SLOT_SIZE > limit
                    ? -EFBIG
                    : put_block(fd, slots + at, n, memory, offset, crc);
        }
        heap_free(slots);
    }
    return r;
}

/* The new file, synced, not yet in place. Its length or -errno. */
static int64_t write_file(struct disk *disk, const struct checkpoint_head *head, uint64_t limit)
{
    char *memory = heap_alloc(BLOCK_HEAD + BLOCK_SLOTS * SLOT_SIZE);
    uint64_t offset = CHECKPOINT_HEAD;
    uint32_t crc;
    int fd = openat(disk->dir_fd, "checkpoint.new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int r = fd < 0 ? -errno : memory ? 0 : -ENOMEM;

    if (r == 0) {
        checkpoint_head_put(head, memory);
        crc = crc32c(0, memory, CHECKPOINT_HEAD);
        r = file_write(fd, memory, CHECKPOINT_HEAD, 0);
        if (r == 0)
            r = put_shards(disk, fd, memory, &offset, &crc, limit);
        if (r == 0)
            r = put_block(fd, NULL, 0, memory, &offset, &crc);
        if (r == 0 && fdatasync(fd) < 0)
            r = -errno;
    }
    if (fd >= 0)
        close(fd);
    heap_free(memory);
    return r < 0 ? r : (int64_t)offset;
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
    int64_t size;
    int r;

    disk_index_count(disk->index, &head->objects, &live, &memory);
    size = write_file(disk, head, make_room(disk, head->objects * SLOT_SIZE + 8192));
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
