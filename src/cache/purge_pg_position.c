/* Positions in an outbox table: reading, writing and judging them.
 *
 * Rows deleted while we were away leave no trace but the two numbers of the table's state row: how many deletions there were, and
 * the highest transaction number they took. A row we had not read has a number at or above our snapshot's xmin. So deletions that
 * stayed below it took nothing from us; others may have. */
#include "cache/purge_pg_position.h"

#include "base/heap.h"

#include <errno.h>
#include <stdio.h>

int position_parse_snapshot(const char *snapshot, uint64_t *ret_xmin, uint64_t *ret_xmax)
{
    struct view rest = view_str(snapshot);
    uint64_t xmin, xmax;

    if (rest.len > POSITION_SNAPSHOT_MAX || strspn(snapshot, "0123456789:,") != rest.len ||
        !view_parse_u64(view_cut(&rest, ':'), &xmin) || !view_parse_u64(view_cut(&rest, ':'), &xmax) || !rest.ptr ||
        xmin == 0 || xmin > xmax)
        return -EINVAL;
    *ret_xmin = xmin;
    *ret_xmax = xmax;
    return 0;
}

int position_copy(struct position *to, const struct position *from)
{
    char *snapshot = from->snapshot ? heap_strdup(from->snapshot, strlen(from->snapshot)) : NULL;

    if (from->snapshot && !snapshot)
        return -ENOMEM;
    heap_free(to->snapshot);
    *to = *from;
    to->snapshot = snapshot;
    return 0;
}

void position_free(struct position *position)
{
    heap_free(position->snapshot);
    position->snapshot = NULL;
}

const char *position_gap(const struct position *position, const struct position_facts *facts)
{
    uint64_t anchor = 0;

    if (!position->snapshot)
        return "no position is known yet";
    if (strcmp(position->identity, facts->identity) != 0)
        return "this is another database or table than before, or one that was restored";
    if (facts->xmax < position->xmax || facts->deletions < position->deletions)
        return "the database is older than what was read from it";
    if (facts->deletions != position->deletions && facts->deleted_xid >= position->xmin)
        return "rows may have been deleted before they were read";
    view_parse_u64(view_str(position->anchor_xid), &anchor);
    if (anchor && !facts->anchor_found && facts->deleted_xid < anchor)
        return "a row that was read is not there any more, and was not deleted";
    return NULL;
}

#define FORM VIEW("1")

void position_put(const struct position *position, struct text *out)
{
    text_put(out, FORM);
    text_char(out, ' ');
    text_put(out, view_str(position->identity));
    text_char(out, ' ');
    text_put(out, view_str(position->snapshot));
    text_char(out, ' ');
    text_u64(out, position->deletions);
    text_printf(out, " %s %s %s", position->anchor_xid, position->anchor_id, position->anchor_made);
}

/* The next word, copied with a NUL; `digits`: it must be a number (perhaps negative). */
static bool take_word(struct view *rest, char *to, size_t cap, bool digits)
{
    struct view word = view_cut(rest, ' ');

    if (word.len == 0 || word.len >= cap)
        return false;
    memcpy(to, word.ptr, word.len);
    to[word.len] = '\0';
    return !digits || strspn(to[0] == '-' ? to + 1 : to, "0123456789") == word.len - (to[0] == '-');
}

int position_parse(struct view line, struct position *ret)
{
    struct position read = { 0 };
    struct view rest = line, snapshot;
    char deletions[24];

    if (!view_eq(view_cut(&rest, ' '), FORM) || !take_word(&rest, read.identity, sizeof(read.identity), false))
        return -EINVAL;
    snapshot = view_cut(&rest, ' ');
    if (!take_word(&rest, deletions, sizeof(deletions), true) ||
        !view_parse_u64(view_str(deletions), &read.deletions) ||
        !take_word(&rest, read.anchor_xid, sizeof(read.anchor_xid), true) ||
        !take_word(&rest, read.anchor_id, sizeof(read.anchor_id), true) ||
        !take_word(&rest, read.anchor_made, sizeof(read.anchor_made), true) || rest.ptr)
        return -EINVAL;
    read.snapshot = heap_strdup(snapshot.ptr, snapshot.len);
    if (!read.snapshot)
        return -ENOMEM;
    if (strlen(read.snapshot) != snapshot.len || position_parse_snapshot(read.snapshot, &read.xmin, &read.xmax) < 0) {
        heap_free(read.snapshot);
        return -EINVAL;
    }
    *ret = read;
    return 0;
}
