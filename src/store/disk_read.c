/* Looking up and reading whole entries. What lies in the page cache is read where we stand (RWF_NOWAIT); the rest by a worker.
 * Nothing is handed out that does not pass its check, and a record that fails it is forgotten, with a tombstone, so that an
 * older one of the same key does not come back at the next start. */
#include "store/disk_internal.h"

#include "base/crc32c.h"
#include "base/heap.h"

#include <errno.h>
#include <sys/uio.h>

#define LIST_GUESS ((uint64_t)24 * 1024) /* head and list of a large body; mostly enough */
#define READ_ERRORS_MAX 3u               /* in a row: the disk, not a sector */

struct disk_get {
    struct disk_job job;
    struct task *task;
    struct segment *segment; /* pinned until the job has run */
    struct disk_slot slot;
    uint64_t at[2];
    struct key key;
    struct object *object;
    int result;
    bool done, cancelled;
    char text[];
};

/* ---- bodies elsewhere ---- */

static void body_release(struct object_external *external)
{
    heap_free(CONTAINER_OF(external, struct disk_body, base));
}

struct disk_body *disk_body_new(uint64_t id, uint64_t len, uint32_t count)
{
    size_t fixed = sizeof(struct disk_body) + count * sizeof(struct disk_extent), words = len / BLOCK_SIZE / 64 + 1;
    size_t bits_at = (fixed + 7) & ~(size_t)7;
    struct disk_body *body = heap_zalloc(bits_at + words * sizeof(*body->verified));

    if (!body)
        return NULL;
    body->base.release = body_release;
    body->id = id;
    body->len = len;
    body->count = count;
    body->verified = (_Atomic uint64_t *)(void *)((char *)body + bits_at);
    atomic_init(&body->base.refs, 1);
    return body;
}

void disk_body_verified(struct disk_body *body, uint32_t block, uint32_t count)
{
    for (uint32_t i = block; i < block + count; i++)
        atomic_fetch_or_explicit(&body->verified[i / 64], (uint64_t)1 << i % 64, memory_order_relaxed);
}

bool disk_body_is_verified(const struct disk_body *body, uint32_t block)
{
    return atomic_load_explicit(&body->verified[block / 64], memory_order_relaxed) >> block % 64 & 1;
}

struct disk_body *disk_body_of(const struct object *object)
{
    if (!object->external || object->external->release != body_release)
        return NULL;
    return CONTAINER_OF(object->external, struct disk_body, base);
}

int body_from_list(struct disk *disk, const struct record *record, struct view bytes, struct disk_body **ret)
{
    struct extent_list list;
    struct disk_body *body;
    uint32_t block = 0;
    int r = extent_list_parse(bytes, &list);

    if (r < 0)
        return r;
    body = disk_body_new(list.body_id, list.body_len, list.count);
    if (!body)
        return -ENOMEM;
    memcpy(body->key, record->key, sizeof(body->key));
    for (uint32_t i = 0; i < list.count; i++) {
        struct disk_extent extent = extent_list_at(&list, i);
        struct segment *segment = i && extent.seq == body->extents[i - 1].seq ? NULL : segment_pin(disk, extent.seq);

        if (segment)
            segment_unpin(disk, segment);
        else if (!i || extent.seq != body->extents[i - 1].seq)
            r = -ESTALE;
        extent.block = block;
        block += extent.blocks;
        body->extents[i] = extent;
    }
    if (r < 0) {
        heap_free(body);
        return r;
    }
    *ret = body;
    return 0;
}

/* ---- records ---- */

int decode_record(struct disk *disk, const struct segment *segment, const struct disk_slot *slot, const uint64_t *key,
                  char *bytes, size_t len, struct record *ret, struct view *ret_payload, size_t *ret_size)
{
    uint32_t offset = slot_offset(slot), size = atomic_load(&segment->size);
    struct crypt_place place = { .key = segment->key, .offset = offset, .what = CRYPT_ENTRY };
    struct record record;
    char *payload;

    if (offset >= size || record_parse(view_make(bytes, len), segment->stamp, size - offset, &record) < 0)
        return -EBADMSG;
    if (record.type != RECORD_ENTRY || record.key[0] != slot_tag(slot) || (key && record.key[1] != key[1]) ||
        !(record.flags & RECORD_ENCRYPTED) != !segment->encrypted)
        return -EBADMSG;
    if (record_size(&record) > len) {
        *ret_size = record_size(&record);
        return -ENODATA;
    }
    payload = bytes + record_payload_at(&record);
    if (segment->encrypted) {
        place.bound = view_make(bytes, RECORD_HEAD);
        if (disk_crypt_open(disk->crypt, &place, payload, record.payload_len, bytes + RECORD_HEAD) < 0)
            return -EBADMSG;
    } else if (crc32c(0, payload, record.payload_len) != record.payload_crc) {
        return -EBADMSG;
    }
    *ret = record;
    *ret_payload = view_make(payload, record.payload_len);
    return 0;
}

/* Bytes to read so that one read is enough. */
static size_t read_size(const struct segment *segment, const struct disk_slot *slot)
{
    uint32_t offset = slot_offset(slot), size = atomic_load(&segment->size);

    uint64_t len = slot->where & SLOT_EXTERNAL ? MIN(slot_length(slot), LIST_GUESS) : slot_length(slot);

    return offset < size ? (size_t)MIN(len, (uint64_t)(size - offset)) : 0;
}

int read_record(struct disk *disk, struct segment *segment, const struct disk_slot *slot, const uint64_t *key,
                char **ret_memory, struct record *ret, struct view *ret_payload)
{
    size_t len = read_size(segment, slot), need = 0;
    char *memory = NULL;
    int fd, r;

    if (len < RECORD_HEAD)
        return -EBADMSG;
    fd = segment_use(disk, segment, true);
    if (fd < 0)
        return fd;
    do {
        len = MAX(len, need);
        heap_free(memory);
        memory = heap_alloc(len);
        r = memory ? file_read(fd, memory, len, slot_offset(slot)) : -ENOMEM;
        if (r == 0)
            r = decode_record(disk, segment, slot, key, memory, len, ret, ret_payload, &need);
    } while (r == -ENODATA && need > len);
    segment_done(disk, segment);
    if (r < 0) {
        heap_free(memory);
        return r == -ENODATA ? -EBADMSG : r;
    }
    *ret_memory = memory;
    return 0;
}

/* ---- entries ---- */

static int fill_body(struct disk *disk, struct object *object, const struct record *record, const struct entry *entry,
                     struct view rest)
{
    struct disk_body *body;
    int r;

    if (record->flags & RECORD_EXTERNAL) {
        r = body_from_list(disk, record, rest, &body);
        if (r < 0)
            return r;
        object->external = &body->base;
        if (body->len != entry->body_len)
            return -EBADMSG;
        atomic_store_explicit(&object->body_len, body->len, memory_order_release);
        return 0;
    }
    if (rest.len != entry->body_len)
        return -EBADMSG;
    while (rest.len) {
        size_t cap;
        char *memory = object_reserve(object, rest.len, &cap);

        if (!memory)
            return -ENOMEM;
        memcpy(memory, rest.ptr, cap);
        object_commit(object, cap);
        rest = view_skip(rest, cap);
    }
    return 0;
}

static int make_object(struct disk *disk, const struct key *key, const struct record *record, struct view payload,
                       struct object **ret)
{
    struct entry entry;
    struct object *object;
    size_t head_len;
    int r = entry_peek(payload, &head_len);

    if (r == 0)
        r = head_len > payload.len ? -EBADMSG : entry_parse(view_first(payload, head_len), 0, &entry);
    if (r < 0)
        return r;
    if (!view_eq(entry.key, key->text))
        return -ENOENT;
    object = entry_object(&entry, key, record->flags & RECORD_EXTERNAL ? 0 : (size_t)entry.body_len);
    if (!object)
        return -ENOMEM;
    r = fill_body(disk, object, record, &entry, view_skip(payload, head_len));
    if (r < 0) {
        object_unref(object);
        return r;
    }
    atomic_fetch_or(&object->flags, OBJECT_COMPLETE);
    *ret = object;
    return 0;
}

void disk_read_failed(struct disk *disk, int error)
{
    disk_add(&disk->count.read_errors, 1);
    if (error == ENOENT)
        disk_trouble(disk, error, "a segment is gone");
    else if (error == EIO && atomic_fetch_add(&disk->read_errors_row, 1) + 1 >= READ_ERRORS_MAX)
        disk_trouble(disk, error, "reading");
}

/* Counts the outcome, forgets what cannot be read, and makes everything but memory a miss. */
static int settle(struct disk *disk, const struct disk_slot *slot, const uint64_t at[2], int r, bool resident)
{
    struct disk_slot now;

    if (r == 0) {
        disk_add(&disk->count.hits, 1);
        if (resident)
            disk_add(&disk->count.hits_resident, 1);
        atomic_store_explicit(&disk->read_errors_row, 0, memory_order_relaxed);
        return 0;
    }
    disk_add(&disk->count.misses, 1);
    if (r == -EBADMSG || r == -EPROTONOSUPPORT || r == -ESTALE) {
        if (r != -ESTALE)
            disk_add(&disk->count.corrupt, 1);
        if (disk_index_find(disk->index, at[0], false, &now) && slot_same(&now, slot))
            queue_drop(disk, at);
    } else if (r != -ENOMEM && r != -ENOENT) {
        disk_read_failed(disk, -r);
    }
    return -ENOENT;
}

static int get_now(struct disk *disk, struct segment *segment, const struct disk_slot *slot, const uint64_t at[2],
                   const struct key *key, struct object **ret)
{
    struct record record;
    struct view payload;
    char *memory;
    int r = read_record(disk, segment, slot, at, &memory, &record, &payload);

    if (r == -ENOENT) { /* the file, not the entry */
        disk_read_failed(disk, ENOENT);
        return -ENOENT;
    }
    if (r < 0)
        return r;
    r = make_object(disk, key, &record, payload, ret);
    heap_free(memory);
    return r;
}

/* Without waiting: -EAGAIN when anything is not in the page cache. */
static int get_resident(struct disk *disk, struct segment *segment, const struct disk_slot *slot, const uint64_t at[2],
                        const struct key *key, struct object **ret)
{
    size_t len = read_size(segment, slot), size;
    struct record record;
    struct view payload;
    struct iovec iov;
    ssize_t n;
    int fd, r;

    if (len < RECORD_HEAD)
        return -EBADMSG;
    if (len > DISK_NOWAIT_MAX)
        return -EAGAIN;
    fd = segment_use(disk, segment, false);
    if (fd < 0)
        return -EAGAIN;
    iov = (struct iovec){ .iov_base = heap_alloc(len), .iov_len = len };
    n = iov.iov_base ? preadv2(fd, &iov, 1, slot_offset(slot), RWF_NOWAIT) : -1;
    segment_done(disk, segment);
    /* Anything but all of it is for a worker, errors too: it will see them again. */
    r = n < 0 || (size_t)n < len ? -EAGAIN
                                 : decode_record(disk, segment, slot, at, iov.iov_base, len, &record, &payload, &size);
    if (r == 0)
        r = make_object(disk, key, &record, payload, ret);
    heap_free(iov.iov_base);
    return r == -ENODATA ? -EAGAIN : r;
}

/* The slot and its segment, pinned; NULL: a miss. */
static struct segment *look_up(struct disk *disk, struct entry_key at, uint64_t ret_at[2], struct disk_slot *ret_slot)
{
    struct segment *segment;

    disk_mask(disk, at, ret_at);
    if (!atomic_load_explicit(&disk->on, memory_order_relaxed) ||
        !disk_index_find(disk->index, ret_at[0], true, ret_slot)) {
        disk_add(&disk->count.misses, 1);
        return NULL;
    }
    segment = segment_pin(disk, ret_slot->seq);
    if (!segment)
        disk_add(&disk->count.misses, 1); /* just moving, or going */
    return segment;
}

bool disk_has(struct disk *disk, struct entry_key at)
{
    struct disk_slot slot;
    uint64_t key[2];

    disk_mask(disk, at, key);
    return atomic_load_explicit(&disk->on, memory_order_relaxed) && disk_index_find(disk->index, key[0], false, &slot);
}

int disk_get_blocking(struct disk *disk, struct entry_key at, const struct key *key, struct object **ret_object)
{
    struct disk_slot slot;
    uint64_t masked[2];
    struct segment *segment = look_up(disk, at, masked, &slot);
    int r;

    if (!segment)
        return -ENOENT;
    r = settle(disk, &slot, masked, get_now(disk, segment, &slot, masked, key, ret_object), false);
    segment_unpin(disk, segment);
    return r;
}

/* ---- by a worker ---- */

static void get_free(struct disk_get *get)
{
    object_unref(get->object);
    heap_free(get);
}

static void get_run(struct work *work)
{
    struct disk_get *get = CONTAINER_OF(CONTAINER_OF(work, struct disk_job, work), struct disk_get, job);
    struct disk *disk = get->job.disk;
    int r = get_now(disk, get->segment, &get->slot, get->at, &get->key, &get->object);

    get->result = settle(disk, &get->slot, get->at, r, false);
    segment_unpin(disk, get->segment);
    disk_job_ran(&get->job);
}

static struct disk_get *get_of(struct message *message)
{
    struct work *work = CONTAINER_OF(message, struct work, done);

    return CONTAINER_OF(CONTAINER_OF(work, struct disk_job, work), struct disk_get, job);
}

static void get_abandon(struct disk_job *job)
{
    get_free(CONTAINER_OF(job, struct disk_get, job));
}

static void get_done(struct loop *loop, struct message *message)
{
    struct disk_get *get = get_of(message);

    (void)loop;
    disk_job_back(&get->job);
    get->done = true;
    if (get->cancelled)
        get_free(get);
    else
        task_wake(get->task);
}

int disk_get(struct disk *disk, struct entry_key at, const struct key *key, struct task *task,
             struct disk_get **ret_get, struct object **ret_object)
{
    struct disk_slot slot;
    uint64_t masked[2];
    struct segment *segment = look_up(disk, at, masked, &slot);
    struct disk_get *get;
    int r;

    if (!segment)
        return -ENOENT;
    r = get_resident(disk, segment, &slot, masked, key, ret_object);
    if (r != -EAGAIN) {
        r = settle(disk, &slot, masked, r, true);
        segment_unpin(disk, segment);
        return r;
    }
    get = heap_alloc(sizeof(*get) + key->text.len);
    if (!get) {
        segment_unpin(disk, segment);
        disk_add(&disk->count.misses, 1);
        return -ENOENT;
    }
    *get = (struct disk_get){ .job = { .work = { .done.handle = get_done, .run = get_run, .loop = task->loop },
                                       .disk = disk,
                                       .abandon = get_abandon },
                              .task = task,
                              .segment = segment,
                              .slot = slot,
                              .at = { masked[0], masked[1] },
                              .key = *key };
    memcpy(get->text, key->text.ptr, key->text.len);
    get->key.text.ptr = get->text;
    *ret_get = get;
    disk_job_send(&get->job);
    return -EAGAIN;
}

/* Dropped or replaced while it was read: then it must not come up into memory now. */
static bool is_current(const struct disk_get *get)
{
    struct disk_slot now;

    return disk_index_find(get->job.disk->index, get->at[0], false, &now) && now.version == get->slot.version;
}

int disk_get_result(struct disk_get *get, struct object **ret_object)
{
    int r = get->result;

    if (!get->done)
        return -EAGAIN;
    if (r == 0 && !is_current(get))
        r = -ENOENT;
    if (r == 0) {
        *ret_object = get->object;
        get->object = NULL;
    }
    get_free(get);
    return r;
}

void disk_get_cancel(struct disk_get *get)
{
    if (!get)
        return;
    if (get->done)
        get_free(get);
    else
        get->cancelled = true;
}
