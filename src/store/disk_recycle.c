/* Making room: the oldest segment goes; entries of it that were used since they were written move to the new one, at most
 * half a segment of them, so that moving never starves writing.
 *
 * Order: read what moves, take the rest out of the index, remove the file, make the new one. So the limit holds at any
 * moment. What moves is not found for that long. */
#include "store/disk_internal.h"

#include "base/heap.h"

#include <errno.h>

struct carried {
    struct node link;
    struct disk_slot old;
    struct record record;
    char *memory; /* of the payload */
    struct view payload;
    size_t head_len;        /* of an entry with extents: its own part of the payload */
    struct disk_body *body; /* where they were */
    char *bytes;            /* the body */
};

struct carry {
    struct node list;
    uint64_t bytes, budget;
};

static void carried_free(struct carried *carried)
{
    heap_free(carried->memory);
    heap_free(carried->body);
    heap_free(carried->bytes);
    heap_free(carried);
}

/* Reads one entry to be written again. NULL: it cannot be read, or there is no room for it. */
static struct carried *take(struct disk *disk, struct segment *segment, const struct disk_slot *slot,
                            struct carry *carry)
{
    struct carried *carried;

    if (carry->bytes + slot_length(slot) > carry->budget)
        return NULL;
    carried = heap_zalloc(sizeof(*carried));
    if (!carried)
        return NULL;
    if (read_record(disk, segment, slot, NULL, &carried->memory, &carried->record, &carried->payload) < 0) {
        disk_add(&disk->count.corrupt, 1);
        heap_free(carried);
        return NULL;
    }
    carried->old = *slot;
    return carried;
}

static bool keep(struct carry *carry, struct carried *carried, uint64_t bytes)
{
    carry->bytes += bytes;
    list_push(&carry->list, &carried->link);
    return true;
}

static bool take_entry(struct disk *disk, struct segment *segment, const struct disk_slot *slot, struct carry *carry)
{
    struct carried *carried = take(disk, segment, slot, carry);

    return carried && keep(carry, carried, record_size(&carried->record));
}

/* ---- entries whose bodies lie in extents ---- */

static bool is_carried(const struct carry *carry, const struct disk_slot *head)
{
    LIST_EACH (link, &carry->list)
        if (slot_same(&CONTAINER_OF(link, struct carried, link)->old, head))
            return true;
    return false;
}

/* All blocks of the body into memory, verified. */
static bool read_body(struct disk *disk, struct carried *carried)
{
    const struct disk_body *body = carried->body;
    bool ok = true;

    carried->bytes = heap_alloc(body->len);
    for (uint32_t i = 0; carried->bytes && ok && i < body->count; i++) {
        const struct disk_extent *extent = &body->extents[i];
        struct segment *segment = segment_pin(disk, extent->seq);

        ok = segment && read_blocks(disk, segment, body, extent, 0, extent->blocks,
                                    carried->bytes + extent->block * BLOCK_SIZE, true) == 0;
        if (segment)
            segment_unpin(disk, segment);
    }
    return carried->bytes && ok;
}

/* Bytes that the body takes when it is written again, more or less. */
static uint64_t body_cost(const struct disk_body *body)
{
    return body->len + body->count * (uint64_t)512 + 4096;
}

/* The entry loses extents with this segment: false, or it moves as a whole. */
static bool take_external(struct disk *disk, struct segment *segment, const struct disk_slot *head, struct carry *carry)
{
    struct carried *carried = take(disk, segment, head, carry);
    uint64_t cost = 0;
    bool ok;

    if (!carried)
        return false;
    ok = entry_peek(carried->payload, &carried->head_len) == 0 &&
         body_from_list(disk, &carried->record, view_skip(carried->payload, carried->head_len), &carried->body) == 0;
    if (ok)
        cost = body_cost(carried->body) + record_size(&carried->record);
    if (ok && carry->bytes + cost <= carry->budget && read_body(disk, carried))
        return keep(carry, carried, cost);
    carried_free(carried);
    return false;
}

/* Does the entry's list name the segment? Yes, when it cannot be read. */
static bool lies_in(struct disk *disk, struct segment *segment, const struct disk_slot *head, uint32_t seq)
{
    struct record record;
    struct view payload;
    struct extent_list list;
    size_t head_len;
    char *memory;
    bool hit;

    if (read_record(disk, segment, head, NULL, &memory, &record, &payload) < 0)
        return true;
    hit = entry_peek(payload, &head_len) < 0 || extent_list_parse(view_skip(payload, head_len), &list) < 0;
    for (uint32_t i = 0; !hit && i < list.count; i++)
        hit = extent_list_at(&list, i).seq == seq;
    heap_free(memory);
    return hit;
}

/* An extent goes: its owner moves, or goes too. */
static void leave_extent(struct disk *disk, const struct segment *victim, const struct disk_slot *extent,
                         struct carry *carry)
{
    struct disk_slot head;
    struct segment *segment;
    bool stays = false;

    if (!disk_index_find(disk->index, slot_tag(extent), false, &head) || !(head.where & SLOT_EXTERNAL) ||
        is_carried(carry, &head))
        return;
    segment = segment_pin(disk, head.seq);
    if (segment) {
        stays = !lies_in(disk, segment, &head, victim->seq) ||
                (head.where & SLOT_USED && take_external(disk, segment, &head, carry));
        segment_unpin(disk, segment);
    }
    if (!stays && disk_index_remove_slot(disk->index, &head))
        disk_add(&disk->count.evicted, 1);
}

static void leave(struct disk *disk, struct segment *victim, const struct disk_slot *slot, struct carry *carry)
{
    struct disk_slot now;

    if (slot_type(slot) == RECORD_EXTENT) {
        leave_extent(disk, victim, slot, carry);
        return;
    }
    if (slot_type(slot) != RECORD_ENTRY || !disk_index_find(disk->index, slot_tag(slot), false, &now) ||
        !slot_same(&now, slot) || is_carried(carry, &now))
        return;
    if (now.where & SLOT_USED && !(now.where & SLOT_EXTERNAL) && take_entry(disk, victim, &now, carry))
        return;
    if (now.where & SLOT_EXTERNAL && now.where & SLOT_USED && take_external(disk, victim, &now, carry))
        return;
    if (disk_index_remove_slot(disk->index, &now))
        disk_add(&disk->count.evicted, 1);
}

/* Without its footer nobody knows what the segment holds: the index does. */
static void leave_unlisted(struct disk *disk, struct segment *victim, struct carry *carry)
{
    for (unsigned i = 0; i < INDEX_SHARDS; i++) {
        struct disk_slot *slots = NULL;
        int count = disk_index_copy(disk->index, i, &slots);

        for (int at = 0; at < count; at++)
            if (slots[at].seq == victim->seq)
                leave(disk, victim, &slots[at], carry);
        heap_free(slots);
    }
}

static void evacuate(struct disk *disk, struct carry *carry)
{
    struct segment *victim = disk->space.table[disk->space.first]; /* the writer alone changes the table */
    struct disk_slot *slots = NULL;
    int fd, count = -EIO;

    if (!segment_pin(disk, victim->seq))
        return;
    fd = segment_use(disk, victim, true);
    if (fd >= 0)
        count = segment_footer(fd, victim, victim->size, &slots);
    if (count < 0)
        leave_unlisted(disk, victim, carry);
    for (int i = 0; i < count; i++)
        leave(disk, victim, &slots[i], carry);
    heap_free(slots);
    if (fd >= 0)
        segment_done(disk, victim);
    segment_unpin(disk, victim);
    segment_retire_oldest(disk);
}

/* The body in new extents, then the head with the new list behind it. */
static int write_external(struct disk *disk, struct carried *carried, struct record *record, struct disk_slot *ret)
{
    uint32_t piece = (uint32_t)(disk->extent_blocks * BLOCK_SIZE);
    uint32_t count = (uint32_t)((carried->body->len - 1) / piece + 1);
    struct disk_extent *extents = heap_array(count, sizeof(*extents));
    size_t len = carried->head_len + extent_list_size(count);
    char *payload = heap_alloc(len);
    int r = extents && payload ? 0 : -ENOMEM;

    for (uint32_t i = 0; r == 0 && i < count; i++) {
        uint64_t at = (uint64_t)i * piece;
        uint32_t n = (uint32_t)MIN(carried->body->len - at, (uint64_t)piece);

        r = write_extent(disk, record->key, carried->body->id, i * disk->extent_blocks, i + 1 == count,
                         carried->bytes + at, n, &extents[i]);
    }
    if (r == 0) {
        record->elsewhere = carried->body->len;
        memcpy(payload, carried->payload.ptr, carried->head_len);
        extent_list_put(carried->body->id, carried->body->len, extents, count, payload + carried->head_len);
        r = write_record(disk, record, view_make(payload, len), ret);
    }
    heap_free(payload);
    heap_free(extents);
    return r;
}

static void write_carried(struct disk *disk, struct carry *carry)
{
    struct node *link;

    while ((link = list_pop(&carry->list))) {
        struct carried *carried = CONTAINER_OF(link, struct carried, link);
        struct record record = carried->record;
        struct disk_slot slot, now;
        int r = -ENOENT;

        record.flags &= (uint8_t)~RECORD_ENCRYPTED;
        /* Dropped while it was being moved: then there is a tombstone on its way, which must stay the last word. */
        if (disk_index_find(disk->index, slot_tag(&carried->old), false, &now) && slot_same(&now, &carried->old))
            r = carried->body ? write_external(disk, carried, &record, &slot)
                              : write_record(disk, &record, carried->payload, &slot);
        if (r == 0)
            r = writing_batch(disk, NULL, &slot, &carried->old);
        if (r == 0) {
            disk_add(&disk->count.reinserted, 1);
            disk_add(&disk->count.reinserted_bytes, record_size(&record) + (carried->body ? carried->body->len : 0));
        } else {
            (void)disk_index_remove_slot(disk->index, &carried->old);
        }
        carried_free(carried);
    }
}

int recycle(struct disk *disk)
{
    struct carry carry = { .budget = disk->options.segment_size / 2 };
    struct segment *segment = NULL;
    struct node *link;
    int r = 0;

    list_init(&carry.list);
    space_bury(disk);
    while (!space_has_room(disk) && disk->space.count > 0 && (disk->writing.urgent || !space_is_held(disk)))
        evacuate(disk, &carry);
    if (disk->space.count == 0)
        space_lift(disk); /* the file system may have room again: the next lines find out */
    if (!space_has_room(disk))
        r = -EDQUOT; /* recycled segments are still being read */
    if (r == 0)
        r = segment_create(disk, &segment);
    if (r < 0) {
        while ((link = list_pop(&carry.list))) {
            struct carried *carried = CONTAINER_OF(link, struct carried, link);

            (void)disk_index_remove_slot(disk->index, &carried->old);
            carried_free(carried);
        }
        disk_add(r == -EDQUOT ? &disk->count.refused_full : &disk->count.write_errors, 1);
        if (r != -EDQUOT)
            disk_trouble(disk, -r, "making a segment");
        return r;
    }
    disk->writing.current = segment;
    disk->writing.buffer_at = SEGMENT_HEAD;
    disk->writing.buffer_len = 0;
    disk->writing.footer_count = 0;
    write_carried(disk, &carry);
    return 0;
}
