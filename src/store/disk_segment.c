/* Segment files: which there are, their descriptors, making and removing them.
 *
 * A segment is in the table from its creation until it is recycled. Readers pin it: a pinned file is not removed but renamed,
 * so that what a stream needs stays where it is, counts as used space, and is not taken for ours after a crash. Descriptors
 * are a cache: one that nobody uses may be closed and opened again by name. */
#include "store/disk_internal.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/crc32c.h"
#include "base/heap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

#define OPEN_MAX_SEGMENTS 1024u

int space_init(struct space *space)
{
    struct rlimit limit;

    pthread_mutex_init(&space->lock, NULL);
    list_init(&space->open);
    list_init(&space->retired);
    space->open_max = OPEN_MAX_SEGMENTS;
    /* Clients and origins need descriptors more than we do. */
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur / 8 < space->open_max)
        space->open_max = (unsigned)MAX(limit.rlim_cur / 8, 8);
    return 0;
}

static void segment_free(struct segment *segment)
{
    if (segment->fd >= 0)
        close(segment->fd);
    heap_free(segment);
}

void space_release(struct space *space)
{
    struct node *link;

    for (uint32_t i = 0; i < space->count; i++)
        segment_free(space->table[space->first + i]);
    while ((link = list_pop(&space->retired)))
        segment_free(CONTAINER_OF(link, struct segment, link));
    heap_free(space->table);
    pthread_mutex_destroy(&space->lock);
}

struct segment *segment_new(uint32_t seq)
{
    struct segment *segment = heap_zalloc(sizeof(*segment));

    if (!segment)
        return NULL;
    segment->seq = seq;
    segment->fd = -1;
    list_init(&segment->link);
    return segment;
}

/* Under the lock. The descriptor of a table's segment enters the cache. */
static void note_open(struct space *space, struct segment *segment)
{
    if (!segment->retired) {
        list_push(&space->open, &segment->link);
        space->open_count++;
    }
}

static void note_closed(struct space *space, struct segment *segment)
{
    list_remove(&segment->link);
    space->open_count--;
}

int space_add(struct space *space, struct segment *segment)
{
    int r = 0;

    pthread_mutex_lock(&space->lock);
    if (space->first + space->count == space->cap) {
        if (space->first > space->cap / 2) {
            memmove(space->table, space->table + space->first, space->count * sizeof(*space->table));
            space->first = 0;
        } else {
            uint32_t cap = space->cap ? space->cap * 2 : 64;
            struct segment **table = heap_resize(space->table, cap * sizeof(*space->table));

            r = table ? 0 : -ENOMEM;
            space->table = table ? table : space->table;
            space->cap = table ? cap : space->cap;
        }
    }
    if (r == 0) {
        CHECK(space->count == 0 || space->table[space->first + space->count - 1]->seq < segment->seq);
        space->table[space->first + space->count++] = segment;
        space->bytes += segment->size;
        if (segment->fd >= 0)
            note_open(space, segment);
    }
    pthread_mutex_unlock(&space->lock);
    return r;
}

static struct segment *find(const struct space *space, uint32_t seq)
{
    uint32_t low = space->first, high = space->first + space->count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (space->table[middle]->seq < seq)
            low = middle + 1;
        else
            high = middle;
    }
    return low < space->first + space->count && space->table[low]->seq == seq ? space->table[low] : NULL;
}

struct segment *segment_pin(struct disk *disk, uint32_t seq)
{
    struct segment *segment;

    pthread_mutex_lock(&disk->space.lock);
    segment = find(&disk->space, seq);
    if (segment)
        segment->pins++;
    pthread_mutex_unlock(&disk->space.lock);
    return segment;
}

void segment_unpin(struct disk *disk, struct segment *segment)
{
    bool grave, gone;

    pthread_mutex_lock(&disk->space.lock);
    CHECK(segment->pins > segment->users);
    segment->pins--;
    gone = segment->pins == 0 && segment->abandoned;
    grave = segment->pins == 0 && segment->retired && !gone;
    if (gone)
        list_remove(&segment->link);
    pthread_mutex_unlock(&disk->space.lock);
    if (gone)
        segment_free(segment);
    if (!grave)
        return;
    pthread_mutex_lock(&disk->queue.lock);
    disk->queue.graves = true;
    pthread_cond_signal(&disk->queue.more);
    pthread_mutex_unlock(&disk->queue.lock);
}

void segment_name(char name[24], uint32_t seq, const char *suffix)
{
    (void)snprintf(name, 24, "%08x.%s", seq, suffix);
}

/* Closes the descriptor that was not used for longest. Under the lock. Returns it. */
static int evict_descriptor(struct space *space)
{
    if (space->open_count <= space->open_max)
        return -1;
    LIST_EACH (link, &space->open) {
        struct segment *segment = CONTAINER_OF(link, struct segment, link);
        int fd = segment->fd;

        if (segment->users)
            continue;
        segment->fd = -1;
        note_closed(space, segment);
        return fd;
    }
    return -1;
}

/* By name, which changes when the segment is recycled meanwhile. */
static int open_by_name(struct disk *disk, struct segment *segment)
{
    char name[24];
    bool retired, again;
    int fd;

    do {
        pthread_mutex_lock(&disk->space.lock);
        retired = segment->retired;
        pthread_mutex_unlock(&disk->space.lock);
        segment_name(name, segment->seq, retired ? "dead" : "segment");
        fd = openat(disk->dir_fd, name, O_RDWR | O_CLOEXEC | O_NOATIME);
        if (fd >= 0)
            return fd;
        fd = -errno;
        pthread_mutex_lock(&disk->space.lock);
        again = retired != segment->retired;
        pthread_mutex_unlock(&disk->space.lock);
    } while (again);
    return fd;
}

int segment_use(struct disk *disk, struct segment *segment, bool may_block)
{
    struct space *space = &disk->space;
    int fd = -1, spare = -1;

    pthread_mutex_lock(&space->lock);
    if (segment->abandoned) {
        pthread_mutex_unlock(&space->lock);
        return -EIO;
    }
    if (segment->fd < 0) {
        pthread_mutex_unlock(&space->lock);
        if (!may_block)
            return -EAGAIN;
        fd = open_by_name(disk, segment);
        if (fd < 0)
            return fd;
        pthread_mutex_lock(&space->lock);
        if (segment->fd < 0) {
            segment->fd = fd;
            note_open(space, segment);
            spare = evict_descriptor(space);
        } else {
            spare = fd;
        }
    } else if (!segment->retired) {
        list_remove(&segment->link);
        list_push(&space->open, &segment->link);
    }
    segment->users++;
    segment->pins++;
    fd = segment->fd;
    pthread_mutex_unlock(&space->lock);
    if (spare >= 0)
        close(spare);
    return fd;
}

void segment_done(struct disk *disk, struct segment *segment)
{
    pthread_mutex_lock(&disk->space.lock);
    segment->users--;
    pthread_mutex_unlock(&disk->space.lock);
    segment_unpin(disk, segment);
}

/* ---- files ---- */

int file_read(int fd, char *memory, size_t len, uint64_t offset)
{
    while (len) {
        ssize_t n = pread(fd, memory, len, (off_t)offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        memory += n;
        len -= (size_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

int file_write(int fd, const char *bytes, size_t len, uint64_t offset)
{
    while (len) {
        ssize_t n = pwrite(fd, bytes, len, (off_t)offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        bytes += n;
        len -= (size_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

/* File systems without fallocate() get a sparse file: they may run full later, which is an ordinary write error. */
static int preallocate(int fd, uint32_t size)
{
    if (fallocate(fd, 0, 0, size) == 0)
        return 0;
    if (errno != EOPNOTSUPP && errno != ENOSYS)
        return -errno;
    return ftruncate(fd, size) == 0 ? 0 : -errno;
}

static int write_head(struct disk *disk, struct segment *segment)
{
    struct segment_head head = { .segment_size = disk->options.segment_size,
                                 .seq = segment->seq,
                                 .created_ms = clock_wall_ms(),
                                 .encrypted = disk->crypt != NULL };
    int r;

    if (getrandom(&head.stamp, sizeof(head.stamp), 0) < 0 || getrandom(head.salt, sizeof(head.salt), 0) < 0)
        return -errno;
    memcpy(head.identity, disk->options.identity, sizeof(head.identity));
    if (disk->crypt) {
        r = disk_crypt_segment(disk->crypt, head.salt, segment->key, head.check);
        if (r < 0)
            return r;
    }
    segment->stamp = head.stamp;
    segment->encrypted = head.encrypted;
    segment_head_put(&head, segment->head);
    return file_write(segment->fd, segment->head, sizeof(segment->head), 0);
}

int segment_create(struct disk *disk, struct segment **ret)
{
    struct segment *segment = segment_new(disk->next_seq);
    char name[24];
    int r;

    if (!segment)
        return -ENOMEM;
    segment_name(name, segment->seq, "segment");
    segment->fd = openat(disk->dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (segment->fd < 0) {
        r = -errno;
        segment_free(segment);
        return r;
    }
    disk->next_seq++;
    segment->size = disk->options.segment_size;
    r = preallocate(segment->fd, segment->size);
    if (r == -ENOSPC || r == -EDQUOT)
        space_ceil(disk);
    if (r == 0)
        r = write_head(disk, segment);
    if (r == 0)
        r = space_add(&disk->space, segment);
    if (r < 0) {
        (void)unlinkat(disk->dir_fd, name, 0);
        segment_free(segment);
        return r;
    }
    *ret = segment;
    return 0;
}

/* Bytes of the next checkpoint, more or less. */
static uint64_t checkpoint_estimate(struct disk *disk)
{
    uint64_t objects, live, memory;

    disk_index_count(disk->index, &objects, &live, &memory);
    return objects * SLOT_SIZE + disk->space.count * (uint64_t)(SAVED_SEGMENT + 1) + 16384;
}

bool space_has_room(struct disk *disk)
{
    struct space *space = &disk->space;
    uint64_t estimate = checkpoint_estimate(disk), need;
    bool room;

    pthread_mutex_lock(&space->lock);
    /* While a checkpoint is written the old one is still there. */
    need = space->bytes + disk->options.segment_size + MAX(estimate, space->checkpoint_bytes) +
           MAX(estimate, space->checkpoint_new);
    room =
        need <= disk->options.size && (!space->ceiling || space->bytes + disk->options.segment_size <= space->ceiling);
    pthread_mutex_unlock(&space->lock);
    return room;
}

void space_ceil(struct disk *disk)
{
    pthread_mutex_lock(&disk->space.lock);
    disk->space.ceiling = MAX(disk->space.bytes, 1);
    pthread_mutex_unlock(&disk->space.lock);
}

void space_lift(struct disk *disk)
{
    pthread_mutex_lock(&disk->space.lock);
    disk->space.ceiling = 0;
    pthread_mutex_unlock(&disk->space.lock);
}

bool space_is_held(struct disk *disk)
{
    struct space *space = &disk->space;
    bool held;

    pthread_mutex_lock(&space->lock);
    held = space->count && space->table[space->first]->pins && space->retired_bytes >= disk->options.size / 4;
    pthread_mutex_unlock(&space->lock);
    return held;
}

static void bury(struct disk *disk, struct segment *segment, const char *suffix)
{
    char name[24];

    segment_name(name, segment->seq, suffix);
    (void)unlinkat(disk->dir_fd, name, 0);
    pthread_mutex_lock(&disk->space.lock);
    disk->space.bytes -= segment->size;
    disk->space.retired_bytes -= segment->size;
    pthread_mutex_unlock(&disk->space.lock);
    segment_free(segment);
}

void segment_retire_oldest(struct disk *disk)
{
    struct space *space = &disk->space;
    struct segment *segment;
    char old[24], dead[24];
    bool pinned;

    pthread_mutex_lock(&space->lock);
    CHECK(space->count > 0);
    segment = space->table[space->first++];
    space->count--;
    if (segment->fd >= 0)
        note_closed(space, segment);
    pinned = segment->pins > 0;
    segment->retired = true;
    space->retired_bytes += segment->size;
    if (pinned) {
        /* Under the lock, so that nobody opens the old name in between: a rename of ours in our own directory. */
        segment_name(old, segment->seq, "segment");
        segment_name(dead, segment->seq, "dead");
        (void)renameat(disk->dir_fd, old, disk->dir_fd, dead);
        list_push(&space->retired, &segment->link);
    }
    pthread_mutex_unlock(&space->lock);
    if (!pinned)
        bury(disk, segment, "segment");
}

void space_bury(struct disk *disk)
{
    struct space *space = &disk->space;
    struct segment *grave;

    do {
        grave = NULL;
        pthread_mutex_lock(&space->lock);
        LIST_EACH (link, &space->retired) {
            struct segment *segment = CONTAINER_OF(link, struct segment, link);

            if (segment->pins == 0 && !segment->abandoned) {
                grave = segment;
                list_remove(&segment->link);
                break;
            }
        }
        pthread_mutex_unlock(&space->lock);
        if (grave)
            bury(disk, grave, "dead");
    } while (grave);
}

void space_abandon(struct disk *disk)
{
    struct space *space = &disk->space;
    struct node gone;
    struct node *link;

    list_init(&gone);
    pthread_mutex_lock(&space->lock);
    LIST_EACH_SAFE (at, &space->retired) {
        struct segment *segment = CONTAINER_OF(at, struct segment, link);

        segment->abandoned = true;
        if (segment->pins == 0) {
            list_remove(at);
            list_push(&gone, at);
        }
    }
    for (uint32_t i = 0; i < space->count; i++) {
        struct segment *segment = space->table[space->first + i];

        if (segment->fd >= 0)
            note_closed(space, segment);
        segment->retired = segment->abandoned = true;
        list_push(segment->pins ? &space->retired : &gone, &segment->link);
    }
    space->first = space->count = 0;
    space->bytes = space->retired_bytes = space->checkpoint_bytes = space->checkpoint_new = 0;
    pthread_mutex_unlock(&space->lock);
    while ((link = list_pop(&gone)))
        segment_free(CONTAINER_OF(link, struct segment, link));
}

/* ---- footers ---- */

int64_t segment_seal(int fd, const struct segment *segment, const struct disk_slot *slots, uint32_t count, uint32_t end,
                     bool cut)
{
    uint32_t len = count * SLOT_SIZE, size = cut ? end + len + SEGMENT_TRAILER : segment->size;
    char *bytes = heap_alloc(len + SEGMENT_TRAILER);
    struct segment_trailer trailer = { .count = count, .footer_at = end };
    int r;

    if (!bytes)
        return -ENOMEM;
    for (uint32_t i = 0; i < count; i++)
        slot_put(&slots[i], bytes + (size_t)i * SLOT_SIZE);
    trailer.footer_crc = crc32c(0, bytes, len);
    segment_trailer_put(&trailer, segment->stamp, bytes + len);
    if (end + len + SEGMENT_TRAILER > size)
        r = -EFBIG;
    else
        r = file_write(fd, bytes, len, end);
    if (r == 0)
        r = file_write(fd, bytes + len, SEGMENT_TRAILER, size - SEGMENT_TRAILER);
    if (r == 0 && cut && ftruncate(fd, size) < 0)
        r = -errno;
    heap_free(bytes);
    return r < 0 ? r : (int64_t)size;
}

int segment_footer(int fd, const struct segment *segment, uint32_t file_size, struct disk_slot **ret)
{
    char tail[SEGMENT_TRAILER], *bytes;
    struct segment_trailer trailer;
    struct disk_slot *slots;
    int r;

    if (file_size < SEGMENT_HEAD + SEGMENT_TRAILER)
        return -EBADMSG;
    r = file_read(fd, tail, sizeof(tail), file_size - SEGMENT_TRAILER);
    if (r == 0)
        r = segment_trailer_parse(view_make(tail, sizeof(tail)), segment->stamp, file_size, &trailer);
    if (r < 0)
        return r;
    bytes = heap_alloc((size_t)trailer.count * SLOT_SIZE + 1);
    slots = heap_alloc((trailer.count + 1) * sizeof(*slots));
    if (!bytes || !slots)
        r = -ENOMEM;
    if (r == 0)
        r = file_read(fd, bytes, (size_t)trailer.count * SLOT_SIZE, trailer.footer_at);
    if (r == 0 && crc32c(0, bytes, (size_t)trailer.count * SLOT_SIZE) != trailer.footer_crc)
        r = -EBADMSG;
    for (uint32_t i = 0; r == 0 && i < trailer.count; i++) {
        slots[i] = slot_get(bytes + (size_t)i * SLOT_SIZE);
        if (slots[i].seq != segment->seq || slot_offset(&slots[i]) >= trailer.footer_at)
            r = -EBADMSG;
    }
    heap_free(bytes);
    if (r < 0) {
        heap_free(slots);
        return r;
    }
    *ret = slots;
    return (int)trailer.count;
}
