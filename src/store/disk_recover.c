/* What is in the directory at start: the lock, the segments that are ours, the index from checkpoint and footers.
 *
 * Segments are read in the order they were written, so the last word about a key is the last one applied. A segment without
 * a footer (the one that was open when the process died) is walked record by record, gets its footer, and is cut to what it
 * holds: nothing is ever appended to a file of another life. */
#include "store/disk_internal.h"

#include "base/heap.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- the directory ---- */

static int take_lock(struct disk *disk, const char **ret_what)
{
    disk->lock_fd = openat(disk->dir_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    *ret_what = "opening the lock file";
    if (disk->lock_fd < 0)
        return -errno;
    if (flock(disk->lock_fd, LOCK_EX | LOCK_NB) == 0)
        return 0;
    *ret_what = "the directory is used by another process";
    return errno == EWOULDBLOCK ? -EBUSY : -errno;
}

/* Readers may be using the descriptor: its number stays, what it stands for is exchanged. */
static int open_directory(struct disk *disk, const char **ret_what)
{
    int fd, r = 0;

    *ret_what = "making the directory";
    if (mkdir(disk->path, 0700) < 0 && errno != EEXIST)
        return -errno;
    *ret_what = "opening the directory";
    fd = open(disk->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (disk->dir_fd < 0) {
        disk->dir_fd = fd;
        return 0;
    }
    if (dup3(fd, disk->dir_fd, O_CLOEXEC) < 0)
        r = -errno;
    close(fd);
    return r;
}

/* A name of ours, "0000002a.segment": its number, or 0. */
static uint32_t parse_name(const char *name, const char *suffix)
{
    uint32_t seq = 0;

    for (int i = 0; i < 8; i++, name++) {
        if (*name >= '0' && *name <= '9')
            seq = seq << 4 | (uint32_t)(*name - '0');
        else if (*name >= 'a' && *name <= 'f')
            seq = seq << 4 | (uint32_t)(*name - 'a' + 10);
        else
            return 0;
    }
    return *name == '.' && strcmp(name + 1, suffix) == 0 ? seq : 0;
}

static int compare_seq(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

/* The numbers of all segments, ascending (heap, the caller's). Removes what a crash left over. */
static int list_segments(struct disk *disk, uint32_t **ret)
{
    int fd = openat(disk->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    uint32_t *list = NULL, count = 0, cap = 0;
    const struct dirent *entry;
    int r = dir ? 0 : -errno;

    if (!dir && fd >= 0)
        close(fd);
    while (r == 0 && (entry = readdir(dir))) {
        uint32_t seq = parse_name(entry->d_name, "segment"), dead = parse_name(entry->d_name, "dead");

        disk->next_seq = MAX(disk->next_seq, MAX(seq, dead) + 1);
        if (dead || strcmp(entry->d_name, "checkpoint.new") == 0)
            (void)unlinkat(disk->dir_fd, entry->d_name, 0);
        if (!seq)
            continue;
        if (count == cap) {
            uint32_t *bigger = heap_resize(list, (cap = cap ? cap * 2 : 64) * sizeof(*list));

            r = bigger ? 0 : -ENOMEM;
            list = bigger ? bigger : list;
        }
        if (r == 0)
            list[count++] = seq;
    }
    if (dir)
        (void)closedir(dir);
    if (r < 0) {
        heap_free(list);
        return r;
    }
    if (count)
        qsort(list, count, sizeof(*list), compare_seq);
    *ret = list;
    return (int)count;
}

/* ---- one segment ---- */

enum verdict { OURS, TORN, FOREIGN, OTHER_KEY, OTHER_FORMAT };

static enum verdict judge(struct disk *disk, struct segment *segment, const struct segment_head *head)
{
    uint8_t check[16];

    if (head->seq != segment->seq)
        return TORN;
    if (memcmp(head->identity, disk->options.identity, sizeof(head->identity)) != 0)
        return FOREIGN;
    if (head->encrypted != (disk->crypt != NULL))
        return OTHER_KEY;
    if (disk->crypt && (disk_crypt_segment(disk->crypt, head->salt, segment->key, check) < 0 ||
                        memcmp(check, head->check, sizeof(check)) != 0))
        return OTHER_KEY;
    segment->stamp = head->stamp;
    segment->encrypted = head->encrypted;
    return OURS;
}

/* Reads the header from the file. 0 and the verdict so far, or -errno. */
static int open_segment(struct disk *disk, struct segment *segment, const char *name, enum verdict *verdict)
{
    struct segment_head head;
    struct stat info;
    int r;

    segment->fd = openat(disk->dir_fd, name, O_RDWR | O_CLOEXEC);
    if (segment->fd < 0 || fstat(segment->fd, &info) < 0)
        return -errno;
    if (info.st_size < SEGMENT_HEAD || info.st_size > SEGMENT_SIZE_MAX)
        return 0;
    r = file_read(segment->fd, segment->head, SEGMENT_HEAD, 0);
    if (r < 0)
        return r;
    segment->size = (uint32_t)info.st_size;
    r = segment_head_parse(view_make(segment->head, SEGMENT_HEAD), &head);
    if (r == 0)
        *verdict = judge(disk, segment, &head);
    else if (r == -EPROTONOSUPPORT)
        *verdict = OTHER_FORMAT;
    return 0;
}

/* What the checkpoint says of it is enough: the file is opened when it is read. */
static bool recall_segment(struct disk *disk, struct segment *segment, const char *saved)
{
    struct segment_head head;

    if (!saved || segment_head_parse(view_make(saved + 4, SEGMENT_HEAD), &head) < 0 ||
        judge(disk, segment, &head) != OURS)
        return false;
    segment->size = get_le32(saved);
    memcpy(segment->head, saved + 4, SEGMENT_HEAD);
    return segment->size >= SEGMENT_HEAD && segment->size <= SEGMENT_SIZE_MAX;
}

/* A segment that is not ours to use is removed. 0 or -errno. */
static int load_segment(struct disk *disk, uint32_t seq, const char *saved, unsigned verdicts[5])
{
    struct segment *segment = segment_new(seq);
    enum verdict verdict = TORN;
    char name[24];
    int r = 0;

    if (!segment)
        return -ENOMEM;
    segment_name(name, seq, "segment");
    if (recall_segment(disk, segment, saved))
        verdict = OURS;
    else
        r = open_segment(disk, segment, name, &verdict);
    if (r == 0) {
        verdicts[verdict]++;
        if (verdict == OURS) {
            segment->sealed = true;
            r = space_add(&disk->space, segment);
            segment = r == 0 ? NULL : segment;
        } else {
            (void)unlinkat(disk->dir_fd, name, 0);
        }
    }
    if (segment && segment->fd >= 0)
        close(segment->fd);
    heap_free(segment);
    return r;
}

/* ---- records ---- */

static void apply(struct disk *disk, const struct disk_slot *slot)
{
    struct disk_slot now;

    switch (slot_type(slot)) {
    case RECORD_ENTRY:
        if (!disk_index_find(disk->index, slot_tag(slot), false, &now) || !slot_same(&now, slot))
            (void)!disk_index_put(disk->index, slot);
        break;
    case RECORD_TOMBSTONE: (void)disk_index_remove(disk->index, slot_tag(slot)); break;
    case RECORD_EXTENT:
    default: break;
    }
}

/* Bytes of the body that an entry has in extents. */
static uint64_t length_elsewhere(const struct record *record, struct view payload)
{
    struct extent_list list;
    size_t head_len;

    if (!(record->flags & RECORD_EXTERNAL) || entry_peek(payload, &head_len) < 0 ||
        extent_list_parse(view_skip(payload, head_len), &list) < 0)
        return 0;
    return list.body_len;
}

/* Is the record whole? Then its slot. Leaves the payload in clear. */
static bool verify(struct disk *disk, const struct segment *segment, struct record *record, uint32_t offset, char *at,
                   struct disk_slot *ret)
{
    struct record whole;
    struct view payload;
    size_t size;

    *ret = record_slot(record, segment->seq, offset);
    if (record->type != RECORD_ENTRY)
        return true;
    if (decode_record(disk, segment, ret, NULL, at, record_size(record), &whole, &payload, &size) < 0)
        return false;
    record->elsewhere = length_elsewhere(record, payload);
    *ret = record_slot(record, segment->seq, offset);
    return true;
}

/* Walks the records of a segment without footer. Behind a torn one may be more, tombstones among them, so the walk goes on at
 * the next header; the stamp, which nobody outside knows, keeps bodies from posing as records. Returns how many. */
static int walk(struct disk *disk, const struct segment *segment, char *bytes, uint32_t size, struct disk_slot **ret,
                uint32_t *ret_end)
{
    uint32_t count = 0, cap = 0, offset = SEGMENT_HEAD, end = offset;
    struct disk_slot *slots = NULL;
    struct record record;

    while (offset + RECORD_HEAD <= size) {
        if (record_parse(view_make(bytes + offset, size - offset), segment->stamp, size - offset, &record) < 0) {
            offset += RECORD_ALIGN;
            continue;
        }
        if (count == cap) {
            struct disk_slot *bigger = heap_resize(slots, (cap = cap ? cap * 2 : 256) * sizeof(*slots));

            if (!bigger) {
                heap_free(slots);
                return -ENOMEM;
            }
            slots = bigger;
        }
        if (verify(disk, segment, &record, offset, bytes + offset, &slots[count]))
            count++;
        offset += record_size(&record);
        end = offset;
    }
    *ret = slots;
    *ret_end = end;
    return (int)count;
}

/* Gives a walked segment its footer, cut behind it. */
static int close_walked(struct disk *disk, struct segment *segment, const struct disk_slot *slots, uint32_t count,
                        uint32_t end)
{
    int64_t size = segment_seal(segment->fd, segment, slots, count, end, true);

    if (size < 0)
        return (int)size;
    pthread_mutex_lock(&disk->space.lock);
    disk->space.bytes += (uint64_t)size - segment->size;
    segment->size = (uint32_t)size;
    pthread_mutex_unlock(&disk->space.lock);
    return 0;
}

static int walk_segment(struct disk *disk, struct segment *segment, struct disk_slot **ret)
{
    uint32_t size = segment->size, end = 0;
    char *bytes = heap_alloc(size);
    int r = bytes ? file_read(segment->fd, bytes, size, 0) : -ENOMEM;

    if (r == 0)
        r = walk(disk, segment, bytes, size, ret, &end);
    heap_free(bytes);
    if (r >= 0) {
        int sealed = close_walked(disk, segment, *ret, (uint32_t)r, end);

        disk_add(&disk->count.scanned_bytes, size);
        if (sealed < 0) {
            heap_free(*ret);
            return sealed;
        }
    }
    return r;
}

static int scan_segment(struct disk *disk, uint32_t seq)
{
    struct segment *segment = segment_pin(disk, seq);
    struct disk_slot *slots = NULL;
    int fd = segment ? segment_use(disk, segment, true) : -ENOENT, count;

    if (fd < 0) {
        if (segment)
            segment_unpin(disk, segment);
        return fd;
    }
    count = segment_footer(fd, segment, segment->size, &slots);
    if (count >= 0)
        disk_add(&disk->count.scanned_bytes, (uint64_t)count * SLOT_SIZE + SEGMENT_TRAILER);
    else if (count == -EBADMSG)
        count = walk_segment(disk, segment, &slots);
    for (int i = 0; i < count; i++)
        apply(disk, &slots[i]);
    if (count >= 0)
        heap_free(slots);
    segment_done(disk, segment);
    segment_unpin(disk, segment);
    return MIN(count, 0);
}

/* ---- all of it ---- */

static void say_removed(struct disk *disk, const unsigned verdicts[5])
{
    struct queue *queue = &disk->queue;
    const char *why = verdicts[OTHER_KEY] ? "written under another encryption key, or none where there is one now"
                      : verdicts[FOREIGN] ? "written by a node with another identity"
                                          : "in another version's format";
    unsigned count = verdicts[OTHER_KEY] + verdicts[FOREIGN] + verdicts[OTHER_FORMAT];

    disk_add(&disk->count.foreign, count);
    pthread_mutex_lock(&queue->lock);
    if (count)
        (void)snprintf(queue->notice, sizeof(queue->notice), "%u segments removed: %s", count, why);
    pthread_mutex_unlock(&queue->lock);
}

static int fill_index(struct disk *disk, struct checkpoint *checkpoint)
{
    uint32_t first = disk->space.first, count = disk->space.count, covered = checkpoint->head.seq;
    int r = 0;

    if (checkpoint_load(disk, checkpoint) < 0) {
        disk_index_clear(disk->index);
        covered = 0;
    }
    for (uint32_t i = 0; r == 0 && i < count; i++) {
        struct segment *segment = disk->space.table[first + i];

        if (segment->seq >= covered)
            r = scan_segment(disk, segment->seq);
        else
            segment->synced = true; /* a checkpoint is written after what it covers */
    }
    if (count) {
        struct segment *last = disk->space.table[first + count - 1];

        disk->queue.done_seq = last->seq;
        disk->queue.done_offset = last->size;
    }
    return r;
}

/* Segments, then the index. Of what is not listed in the checkpoint the header is read. */
static int load_all(struct disk *disk, const uint32_t *list, uint32_t count, struct checkpoint *checkpoint)
{
    unsigned verdicts[5] = { 0 };
    int r = 0;

    for (uint32_t i = 0; r == 0 && i < count; i++)
        r = load_segment(disk, list[i], checkpoint_segment(checkpoint, list[i]), verdicts);
    if (r < 0)
        return r;
    say_removed(disk, verdicts);
    while (disk->space.count && disk->space.bytes + disk->space.checkpoint_bytes > disk->options.size)
        segment_retire_oldest(disk);
    return fill_index(disk, checkpoint);
}

/* Nothing of ours may be used. */
static void wipe(struct disk *disk, const uint32_t *list, uint32_t count)
{
    char name[24];

    for (uint32_t i = 0; i < count; i++) {
        segment_name(name, list[i], "segment");
        (void)unlinkat(disk->dir_fd, name, 0);
    }
    (void)unlinkat(disk->dir_fd, "checkpoint", 0);
}

int recover(struct disk *disk, bool empty, const char **ret_what)
{
    struct checkpoint checkpoint;
    uint32_t *list = NULL;
    struct stat info;
    int r = open_directory(disk, ret_what), count;

    if (r == 0)
        r = take_lock(disk, ret_what);
    if (r < 0)
        return r;
    *ret_what = "reading the directory";
    count = list_segments(disk, &list);
    if (count < 0)
        return count;
    if (empty) {
        wipe(disk, list, (uint32_t)count);
        count = 0;
    }
    pthread_mutex_lock(&disk->space.lock);
    disk->space.checkpoint_bytes =
        fstatat(disk->dir_fd, "checkpoint", &info, AT_SYMLINK_NOFOLLOW) == 0 ? (uint64_t)info.st_size : 0;
    pthread_mutex_unlock(&disk->space.lock);
    *ret_what = "reading segments";
    (void)checkpoint_open(disk, &checkpoint);
    disk->next_seq = MAX(disk->next_seq, checkpoint.head.next_seq);
    r = load_all(disk, list, (uint32_t)count, &checkpoint);
    checkpoint_close(&checkpoint);
    heap_free(list);
    return r;
}
