/* The writer's thread: takes items from the queue, lays records behind each other in the current segment, hands them to the
 * kernel in large pieces, and then makes them findable. Nothing is findable before the kernel has it, so a kill -9 loses
 * what still lies in the buffer and nothing else. */
#include "store/disk_internal.h"

#include "base/check.h"
#include "base/crc32c.h"
#include "base/heap.h"

#include <errno.h>
#include <sys/random.h>

int writing_init(struct disk *disk)
{
    disk->writing.buffer = heap_alloc(DISK_BUFFER);
    return disk->writing.buffer ? 0 : -ENOMEM;
}

void writing_reset(struct disk *disk)
{
    struct writing *w = &disk->writing;

    for (uint32_t i = 0; i < w->batch_count; i++)
        if (w->batch[i].item)
            queue_item_free(disk, w->batch[i].item);
    w->batch_count = w->footer_count = w->buffer_len = 0;
    w->current = NULL;
}

void writing_release(struct disk *disk)
{
    writing_reset(disk);
    heap_free(disk->writing.buffer);
    heap_free(disk->writing.footer);
    heap_free(disk->writing.batch);
}

/* Makes what the batch wrote findable, unless it was dropped meanwhile. */
static void publish(struct disk *disk)
{
    struct writing *w = &disk->writing;
    struct queue *queue = &disk->queue;

    pthread_mutex_lock(&queue->lock);
    for (uint32_t i = 0; i < w->batch_count; i++) {
        struct batch_entry *entry = &w->batch[i];

        if (!entry->item) {
            (void)disk_index_move(disk->index, &entry->old, &entry->slot);
        } else if (entry->item->kind == ITEM_PUT && !entry->item->cancelled) {
            (void)!disk_index_put(disk->index, &entry->slot);
            disk_add(&disk->count.written, 1);
        }
        if (entry->item)
            list_remove(&entry->item->by_key);
    }
    queue->done_seq = w->current->seq;
    queue->done_offset = w->buffer_at;
    pthread_mutex_unlock(&queue->lock);
    for (uint32_t i = 0; i < w->batch_count; i++)
        if (w->batch[i].item)
            queue_item_free(disk, w->batch[i].item);
    w->batch_count = 0;
}

int writing_flush(struct disk *disk)
{
    struct writing *w = &disk->writing;
    int r;

    if (!w->current || w->buffer_len == 0)
        return 0;
    r = segment_use(disk, w->current, true);
    if (r >= 0) {
        r = file_write(r, w->buffer, w->buffer_len, w->buffer_at);
        segment_done(disk, w->current);
    }
    if (r < 0) {
        disk_add(&disk->count.write_errors, 1);
        disk_trouble(disk, -r, "writing to a segment");
        return r;
    }
    disk_add(&disk->count.written_bytes, w->buffer_len);
    w->buffer_at += w->buffer_len;
    w->buffer_len = 0;
    publish(disk);
    return 0;
}

int writing_seal(struct disk *disk, bool cut)
{
    struct writing *w = &disk->writing;
    struct segment *segment = w->current;
    int64_t size;
    int r = writing_flush(disk);

    if (r < 0 || !segment)
        return r;
    r = segment_use(disk, segment, true);
    size = r < 0 ? r : segment_seal(r, segment, w->footer, w->footer_count, w->buffer_at, cut);
    if (r >= 0)
        segment_done(disk, segment);
    if (size < 0) {
        disk_add(&disk->count.write_errors, 1);
        disk_trouble(disk, (int)-size, "closing a segment");
        return (int)size;
    }
    pthread_mutex_lock(&disk->space.lock);
    disk->space.bytes -= segment->size - (uint32_t)size;
    segment->size = (uint32_t)size;
    segment->sealed = true;
    pthread_mutex_unlock(&disk->space.lock);
    w->current = NULL;
    w->footer_count = 0;
    keeper_kick(disk);
    return 0;
}

/* Will `size` more bytes and their footer fit? */
static bool fits(const struct writing *w, uint32_t size)
{
    uint64_t end = (uint64_t)w->buffer_at + w->buffer_len + size;

    return end + (uint64_t)(w->footer_count + 1) * SLOT_SIZE + SEGMENT_TRAILER <= w->current->size;
}

char *writing_reserve(struct disk *disk, uint32_t size, uint32_t *ret_offset)
{
    struct writing *w = &disk->writing;
    char *at;

    CHECK(size <= DISK_BUFFER && size % RECORD_ALIGN == 0);
    if (w->current && !fits(w, size) && writing_seal(disk, false) < 0)
        return NULL;
    if (!w->current && recycle(disk) < 0)
        return NULL;
    if (!fits(w, size)) /* only when what moved over filled the new one: it is at most half of it */
        return NULL;
    if (w->buffer_len + size > DISK_BUFFER && writing_flush(disk) < 0)
        return NULL;
    at = w->buffer + w->buffer_len;
    *ret_offset = w->buffer_at + w->buffer_len;
    w->buffer_len += size;
    return at;
}

static void *grown(void *memory, uint32_t *cap, size_t size)
{
    uint32_t more = *cap ? *cap * 2 : 256;
    void *bigger = heap_resize(memory, more * size);

    if (bigger)
        *cap = more;
    return bigger;
}

/* Without memory for its footer a segment is closed early and scanned at the next start. */
void writing_note(struct disk *disk, const struct disk_slot *slot)
{
    struct writing *w = &disk->writing;

    if (w->footer_count == w->footer_cap) {
        struct disk_slot *footer = grown(w->footer, &w->footer_cap, sizeof(*footer));

        if (!footer) {
            disk_trouble(disk, ENOMEM, "listing records");
            return;
        }
        w->footer = footer;
    }
    w->footer[w->footer_count++] = *slot;
}

int writing_batch(struct disk *disk, struct disk_item *item, const struct disk_slot *slot, const struct disk_slot *old)
{
    struct writing *w = &disk->writing;
    struct batch_entry *at;

    if (w->batch_count == w->batch_cap) {
        struct batch_entry *batch = grown(w->batch, &w->batch_cap, sizeof(*batch));

        if (!batch)
            return -ENOMEM;
        w->batch = batch;
    }
    at = &w->batch[w->batch_count++];
    at->item = item;
    at->slot = *slot;
    at->old = old ? *old : *slot;
    return 0;
}

/* ---- records ---- */

/* Header, tag or CRC for a payload that already lies behind them. */
static int finish_record(struct disk *disk, struct record *record, char *at, uint32_t offset)
{
    const struct segment *segment = disk->writing.current;
    char *payload = at + record_payload_at(record);
    struct crypt_place place = { .key = segment->key, .offset = offset, .what = CRYPT_ENTRY };
    uint32_t end = record_payload_at(record) + record->payload_len;

    memset(at + end, 0, record_size(record) - end);
    record->stamp = segment->stamp;
    record->payload_crc = disk->crypt ? 0 : crc32c(0, payload, record->payload_len);
    record_put(record, at);
    if (!disk->crypt || record->type == RECORD_TOMBSTONE)
        return 0;
    place.bound = view_make(at, RECORD_HEAD);
    return disk_crypt_seal(disk->crypt, &place, payload, record->payload_len, at + RECORD_HEAD);
}

/* A place for a record, its payload still to be filled in. */
static char *begin_record(struct disk *disk, struct record *record, uint32_t *ret_offset)
{
    if (disk->crypt && record->type != RECORD_TOMBSTONE)
        record->flags |= RECORD_ENCRYPTED;
    return writing_reserve(disk, record_size(record), ret_offset);
}

static int end_record(struct disk *disk, struct record *record, char *at, uint32_t offset, struct disk_slot *ret)
{
    int r = finish_record(disk, record, at, offset);

    if (r < 0) {
        /* Nothing else was reserved since. */
        disk->writing.buffer_len -= record_size(record);
        return r;
    }
    *ret = record_slot(record, disk->writing.current->seq, offset);
    writing_note(disk, ret);
    return 0;
}

int write_record(struct disk *disk, struct record *record, struct view payload, struct disk_slot *ret)
{
    uint32_t offset;
    char *at;

    record->payload_len = (uint32_t)payload.len;
    at = begin_record(disk, record, &offset);
    if (!at)
        return -EIO;
    if (payload.len)
        memcpy(at + record_payload_at(record), payload.ptr, payload.len);
    return end_record(disk, record, at, offset, ret);
}

/* Fills in the table of blocks: a CRC each, or a tag each with the block sealed in place. */
static int finish_blocks(struct disk *disk, char *table, char *blocks, const struct crypt_place *first, uint32_t len,
                         bool last)
{
    struct crypt_place place = *first;

    for (uint32_t at = 0; at < len; at += BLOCK_SIZE, place.block++) {
        size_t size = MIN((size_t)(len - at), BLOCK_SIZE);
        int r;

        if (!disk->crypt) {
            put_le(table, crc32c(0, blocks + at, size), 4);
            table += 4;
            continue;
        }
        place.what = last && at + size == len ? CRYPT_LAST_BLOCK : CRYPT_BLOCK;
        r = disk_crypt_seal(disk->crypt, &place, blocks + at, size, table);
        if (r < 0)
            return r;
        table += RECORD_TAG;
    }
    return 0;
}

int write_extent(struct disk *disk, const uint64_t key[2], uint64_t body_id, uint32_t block, bool last,
                 const char *bytes, uint32_t len, struct disk_extent *ret)
{
    struct record record = { .type = RECORD_EXTENT,
                             .flags = disk->crypt ? RECORD_ENCRYPTED : 0,
                             .payload_len = len,
                             .key = { key[0], key[1] } };
    uint32_t offset, blocks = extent_blocks(len), payload_at = record_payload_at(&record);
    char *at = writing_reserve(disk, record_size(&record), &offset), *head;
    struct crypt_place place = { .offset = offset, .block = block };
    struct disk_slot slot;
    int r;

    if (!at)
        return -EIO;
    head = at + RECORD_HEAD;
    memset(at, 0, payload_at);
    memcpy(at + payload_at, bytes, len);
    memset(at + payload_at + len, 0, record_size(&record) - payload_at - len);
    extent_head_put(body_id, block, blocks, head);
    place.key = disk->writing.current->key;
    place.bound = view_make(head, 8);
    r = finish_blocks(disk, head + EXTENT_HEAD, at + payload_at, &place, len, last);
    if (r < 0) {
        disk->writing.buffer_len -= record_size(&record);
        return r;
    }
    record.stamp = disk->writing.current->stamp;
    record.payload_crc = crc32c(0, head, payload_at - RECORD_HEAD);
    record_put(&record, at);
    slot = record_slot(&record, disk->writing.current->seq, offset);
    writing_note(disk, &slot);
    *ret = (struct disk_extent){ .seq = slot.seq, .offset = offset, .block = block, .blocks = blocks };
    return 0;
}

/* ---- items ---- */

/* Copies the object's body from `offset` on, up to `len` bytes. */
static void copy_body(struct object *object, struct object_cursor *cursor, char *out, size_t len)
{
    while (len) {
        struct view run = view_first(object_peek(object, cursor), len);

        CHECK(run.len > 0);
        memcpy(out, run.ptr, run.len);
        out += run.len;
        len -= run.len;
        object_advance(object, cursor, run.len);
    }
}

/* A body in memory that is too large for one record becomes extents. */
static int spill_body(struct disk *disk, const struct disk_item *item, struct disk_body **ret)
{
    uint64_t len = atomic_load(&item->object->body_len), done = 0, id;
    uint32_t piece = (uint32_t)(disk->extent_blocks * BLOCK_SIZE), count = (uint32_t)((len - 1) / piece + 1);
    struct disk_body *body;
    struct object_cursor cursor = { 0 };
    char *memory = heap_alloc(piece);
    int r = memory && getrandom(&id, sizeof(id), 0) == sizeof(id) ? 0 : -ENOMEM;

    body = r == 0 ? disk_body_new(id, len, count) : NULL;
    if (!body)
        r = -ENOMEM;
    for (uint32_t i = 0; r == 0 && i < count; i++) {
        uint32_t n = (uint32_t)MIN(len - done, (uint64_t)piece);

        copy_body(item->object, &cursor, memory, n);
        done += n;
        r = write_extent(disk, item->key, id, i * disk->extent_blocks, done == len, memory, n, &body->extents[i]);
    }
    heap_free(memory);
    if (r < 0) {
        heap_free(body);
        return r;
    }
    *ret = body;
    return 0;
}

/* Are all segments of the body still there? Asked by the only thread that removes some. */
static bool body_is_here(struct disk *disk, const struct disk_body *body)
{
    for (uint32_t i = 0; i < body->count; i++) {
        struct segment *segment = segment_pin(disk, body->extents[i].seq);

        if (!segment)
            return false;
        segment_unpin(disk, segment);
    }
    return true;
}

/* Head and body, or head and list of extents, as one record. */
static int put_entry(struct disk *disk, const struct disk_item *item, const struct disk_body *body,
                     struct disk_slot *ret)
{
    struct record record = { .type = RECORD_ENTRY, .key = { item->key[0], item->key[1] }, .version = item->version };
    struct object_cursor cursor = { 0 };
    struct entry entry;
    size_t head_len, tail_len;
    uint32_t offset;
    char *at, *payload;

    entry_of(item->object, &entry);
    /* Soft-purged while it waited: its position has moved on behind the flag, and only the position would be kept. */
    if (atomic_load(&item->object->soft_purged))
        return -ECANCELED;
    if (body)
        entry.body_len = body->len;
    entry.complete_len = MAX(entry.complete_len, entry.body_first + entry.body_len);
    head_len = entry_head_len(&entry);
    tail_len = body ? extent_list_size(body->count) : (size_t)entry.body_len;
    record.flags = (uint8_t)((body ? RECORD_EXTERNAL : 0) | (entry.kind == ENTRY_VARY ? RECORD_VARY : 0));
    if (head_len > ENTRY_HEAD_MAX || head_len + tail_len > DISK_BUFFER - 4096 ||
        head_len + tail_len > disk->options.segment_size / 4)
        return -EFBIG;
    record.payload_len = (uint32_t)(head_len + tail_len);
    record.elsewhere = body ? body->len : 0;
    at = begin_record(disk, &record, &offset);
    if (!at)
        return -EIO;
    payload = at + record_payload_at(&record);
    entry_put(&entry, 0, payload);
    if (body)
        extent_list_put(body->id, body->len, body->extents, body->count, payload + head_len);
    else
        copy_body(item->object, &cursor, payload + head_len, tail_len);
    return end_record(disk, &record, at, offset, ret);
}

/* Only spares the work; publish() looks again. */
static bool is_cancelled(struct disk *disk, const struct disk_item *item)
{
    bool cancelled;

    pthread_mutex_lock(&disk->queue.lock);
    cancelled = item->cancelled;
    pthread_mutex_unlock(&disk->queue.lock);
    return cancelled;
}

static int write_put(struct disk *disk, struct disk_item *item)
{
    struct disk_body *body = disk_body_of(item->object), *spilled = NULL;
    struct disk_slot slot;
    int r = 0;

    if (is_cancelled(disk, item))
        return -ECANCELED;
    if (item->writer) {
        r = disk_writer_body(item->writer, &spilled);
        body = spilled;
    } else if (!body && atomic_load(&item->object->body_len) > disk->options.inline_max) {
        r = spill_body(disk, item, &spilled);
        body = spilled;
    }
    /* Freshened: what it stands over may be recycled by now, or by what the record itself displaces. */
    if (r == 0)
        r = put_entry(disk, item, body, &slot);
    if (r == 0 && body && !body_is_here(disk, body))
        r = -ESTALE;
    heap_free(spilled);
    if (r == 0)
        r = writing_batch(disk, item, &slot, NULL);
    return r;
}

static int write_tombstone(struct disk *disk, struct disk_item *item)
{
    struct record record = { .type = RECORD_TOMBSTONE, .key = { item->key[0], item->key[1] } };

    struct disk_slot slot;
    int r;

    disk->writing.urgent = true;
    r = write_record(disk, &record, VIEW_NONE, &slot);
    disk->writing.urgent = false;
    /* At once, whatever else is in the buffer. */
    return r < 0 ? r : writing_flush(disk);
}

/* Takes the item over. */
void write_item(struct disk *disk, struct disk_item *item)
{
    int r;

    switch (item->kind) {
    case ITEM_PUT: r = write_put(disk, item); break;
    case ITEM_TOMBSTONE:
        r = write_tombstone(disk, item);
        if (r < 0) {
            /* The drop must not be lost: back to where it is remembered when the tier goes off. */
            if (atomic_load(&disk->on))
                disk_trouble(disk, -r, "writing a tombstone");
            pthread_mutex_lock(&disk->queue.lock);
            list_push_front(&disk->queue.tombstones, &item->link);
            pthread_mutex_unlock(&disk->queue.lock);
            return;
        }
        break;
    case ITEM_EXTENT:
    default: r = disk_writer_extent(disk, item); break;
    }
    if (r < 0 || item->kind != ITEM_PUT)
        queue_item_free(disk, item);
}
