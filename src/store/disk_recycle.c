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
};

struct carry {
    struct node list;
    uint64_t bytes, budget;
};

static void carried_free(struct carried *carried)
{
    heap_free(carried->memory);
    heap_free(carried);
}

/* Reads one entry to be written again. */
static bool take(struct disk *disk, struct segment *segment, const struct disk_slot *slot, struct carry *carry)
{
    struct carried *carried;

    if (carry->bytes + slot_length(slot) > carry->budget)
        return false;
    carried = heap_zalloc(sizeof(*carried));
    if (!carried)
        return false;
    if (read_record(disk, segment, slot, NULL, &carried->memory, &carried->record, &carried->payload) < 0) {
        disk_add(&disk->count.corrupt, 1);
        heap_free(carried);
        return false;
    }
    carried->old = *slot;
    carry->bytes += record_size(&carried->record);
    list_push(&carry->list, &carried->link);
    return true;
}

/* An entry with its body in extents loses some of them: it goes. */
static void drop_owner(struct disk *disk, const struct segment *victim, const struct disk_slot *extent)
{
    struct disk_slot head;
    struct segment *segment;
    struct record record;
    struct view payload;
    struct extent_list list;
    size_t head_len;
    char *memory;
    bool hit = true;

    if (!disk_index_find(disk->index, slot_tag(extent), false, &head) || !(head.where & SLOT_EXTERNAL))
        return;
    segment = segment_pin(disk, head.seq);
    if (segment) {
        if (read_record(disk, segment, &head, NULL, &memory, &record, &payload) == 0) {
            hit = entry_peek(payload, &head_len) < 0 || extent_list_parse(view_skip(payload, head_len), &list) < 0;
            for (uint32_t i = 0; !hit && i < list.count; i++)
                hit = extent_list_at(&list, i).seq == victim->seq;
            heap_free(memory);
        }
        segment_unpin(disk, segment);
    }
    if (hit && disk_index_remove_slot(disk->index, &head))
        disk_add(&disk->count.evicted, 1);
}

static void leave(struct disk *disk, struct segment *victim, const struct disk_slot *slot, struct carry *carry)
{
    struct disk_slot now;

    if (slot_type(slot) == RECORD_EXTENT) {
        drop_owner(disk, victim, slot);
        return;
    }
    if (slot_type(slot) != RECORD_ENTRY || !disk_index_find(disk->index, slot_tag(slot), false, &now) ||
        !slot_same(&now, slot))
        return;
    if (now.where & SLOT_USED && !(now.where & SLOT_EXTERNAL) && take(disk, victim, &now, carry))
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

static void write_carried(struct disk *disk, struct carry *carry)
{
    struct node *link;

    while ((link = list_pop(&carry->list))) {
        struct carried *carried = CONTAINER_OF(link, struct carried, link);
        struct record record = carried->record;
        struct disk_slot slot, now;

        record.flags &= (uint8_t)~RECORD_ENCRYPTED;
        /* Dropped while it was being moved: then there is a tombstone on its way, which must stay the last word. */
        if (disk_index_find(disk->index, slot_tag(&carried->old), false, &now) && slot_same(&now, &carried->old) &&
            write_record(disk, &record, carried->payload, &slot) == 0 &&
            writing_batch(disk, NULL, &slot, &carried->old) == 0) {
            disk_add(&disk->count.reinserted, 1);
            disk_add(&disk->count.reinserted_bytes, record_size(&record));
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
    while (!space_has_room(disk) && disk->space.count > 0)
        evacuate(disk, &carry);
    if (disk->space.count == 0)
        space_lift(disk); /* the file system may have room again: the next lines find out */
    if (!space_has_room(disk))
        r = -EDQUOT; /* recycled segments are still being read */
    if (r == 0)
        r = segment_create(disk, &segment);
    if (r < 0) {
        while ((link = list_pop(&carry.list)))
            carried_free(CONTAINER_OF(link, struct carried, link));
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
