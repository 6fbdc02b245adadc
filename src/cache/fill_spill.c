/* A body too large for memory goes to disk while it passes by: the fill runs at the pace of the slower of its readers and the
 * disk, and forgets what both have taken. Losing the disk on the way costs the readers nothing. */
#include "cache/fill_table.h"

#include "base/heap.h"

#include <errno.h>

struct spill {
    struct disk_writer *writer;
    struct object_cursor cursor;
};

bool fill_spill_begin(struct fill *fill)
{
    struct object *object = fill->object;
    struct spill *spill;

    if (!fill->context.disk || fill->policy->ladder.disk == LADDER_DISK_OFF || object_vary_names(object).len ||
        object->flags & OBJECT_PARTIAL || object->body_owner || fill->trimmed)
        return false;
    spill = heap_zalloc(sizeof(*spill));
    if (spill &&
        disk_writer_new(fill->context.disk, entry_key_primary(&fill->key), object, &fill->task, &spill->writer) == 0) {
        fill->spill = spill;
        return true;
    }
    heap_free(spill);
    return false;
}

bool fill_spill_feed(struct fill *fill)
{
    struct spill *spill = fill->spill;
    struct view run;
    int r = 0;

    while (spill && (run = object_peek(fill->object, &spill->cursor)).len) {
        r = disk_writer_append(spill->writer, run);
        if (r < 0)
            break;
        object_advance(fill->object, &spill->cursor, run.len);
    }
    if (r < 0 && r != -EAGAIN) {
        fill_spill_end(fill, false);
        return true;
    }
    return r == 0;
}

uint64_t fill_spill_passed(const struct fill *fill)
{
    return fill->spill ? fill->spill->cursor.offset : UINT64_MAX;
}

void fill_spill_end(struct fill *fill, bool complete)
{
    struct spill *spill = fill->spill;

    if (!spill)
        return;
    fill->spill = NULL;
    if (complete && !atomic_load(&fill->doomed) && marks_check(fill->context.marks, fill->object) == MARKS_CLEAR) {
        disk_writer_commit(spill->writer);
        /* As in fill_keep_object(): what dooms, dooms before it drops. */
        if (atomic_load(&fill->doomed))
            disk_drop(fill->context.disk, entry_key_primary(&fill->key));
    } else {
        disk_writer_abort(spill->writer);
    }
    heap_free(spill);
}
