/* Purge marks: what was purged, when, in this node's own order. Accepting one costs O(1) whatever it covers; a stored response
 * is looked at again only when it is asked for and the position has moved since it was last looked at.
 *
 * A position is a number that grows by one with every mark of this node. A response carries the position that was sampled
 * before its request went upstream (object.purge_pos): marks after that may concern it, marks before cannot. A check that finds
 * nothing moves the response's position forward, so the next hit compares two numbers.
 *
 * Marks are bounded. When the table is full its older half is folded into "everything before P": what has not been looked at
 * since P is a miss then, which is too much but never too little.
 *
 * The bus position is the same thing in the order of all nodes (the id of a stream entry). Marks that came over the bus carry
 * both, so that a copy from another node, which knows only the bus's, can be judged here. */
#pragma once

#include "store/object.h"

struct marks;

enum mark_kind {
    MARK_ALL = 1,
    MARK_HOST,   /* "shop.example" or "shop.example:8080": authority as in URLs, lower case */
    MARK_PREFIX, /* "http://shop.example/a/b" or, for every host, "/a/b": that path and everything below it */
    MARK_URL,    /* "http://shop.example/a?b" or "/a?b" */
    MARK_TAG,
    MARK_GROUP, /* RFC 9875: "http://shop.example" + what marks_group_put() makes of the name */
    MARK_KINDS,
};

#define MARK_SEGMENTS_MAX 64 /* path segments of a prefix */
#define MARK_TEXT_MAX 8192
#define MARK_GROUP_BYTE '\x1f' /* begins an item of object_tags() that is a group: no tag can hold a control byte */

struct mark {
    enum mark_kind kind;
    bool soft; /* stale: still good for revalidation and errors */
    struct view text;
};

enum mark_verdict { MARKS_CLEAR, MARKS_SOFT, MARKS_HARD };

/* `capacity`: distinct marks remembered before the older half folds; 0: 65536. 0 or -ENOMEM. */
int marks_new(unsigned capacity, struct marks **ret);
void marks_free(struct marks *marks);

/* The position of the last mark. Any thread. */
uint64_t marks_position(const struct marks *marks);

/* Adds a mark at once for every thread. `bus`: its bus position, 0 when it has none. Returns its position. Any thread. */
uint64_t marks_add(struct marks *marks, const struct mark *mark, uint64_t bus);
/* At start: a mark as it was, in the order of positions. */
void marks_restore(struct marks *marks, const struct mark *mark, uint64_t position, uint64_t bus);
/* Positions start behind this one (what is stored elsewhere may carry it); marks up to `floor` are not known one by one. */
void marks_start_at(struct marks *marks, uint64_t position, uint64_t floor);

/* Is this response still what it was? Moves its position forward when nothing concerns it, and sets soft_purged for a soft
 * mark. Any thread; two compares when no mark came since the last look. */
enum mark_verdict marks_check(struct marks *marks, struct object *object);
/* For a response whose purge_pos is a bus position: the same, and turns it into ours. */
enum mark_verdict marks_check_foreign(struct marks *marks, struct object *object);
/* May a response that was asked for at `position`, and whose tags are not known yet, be joined now? */
bool marks_unmoved_for(struct marks *marks, uint64_t position, struct view url);

/* The newest bus position among the marks up to `position`. */
uint64_t marks_bus_at(struct marks *marks, uint64_t position);
/* Which bus the positions are of: positions of different buses cannot be compared. 0: none, or not known yet. Any thread. */
void marks_set_bus_identity(struct marks *marks, uint64_t identity);
uint64_t marks_bus_identity(const struct marks *marks);
/* Every mark up to `position` was made before anything on the bus with a position above `bus`. Until something of the kind is said,
 * a foreign copy is not believed to have heard of marks that were added with bus position 0. Any thread. */
void marks_bus_passed(struct marks *marks, uint64_t position, uint64_t bus);
/* Are there marks of which nothing of the kind was said yet? */
bool marks_bus_is_owed(struct marks *marks);
/* Everything on the bus up to this position has been heard, although it brought no mark: what is asked for from now on may say so. */
void marks_bus_heard(struct marks *marks, uint64_t bus);
/* Nothing is known here of bus marks up to this one: copies from before it are not trusted. */
void marks_set_bus_floor(struct marks *marks, uint64_t bus);
/* The node has been away and does not know yet what was purged meanwhile: until it does, nothing stored is used without the
 * origin's word. */
void marks_set_doubt(struct marks *marks, bool doubt);
/* The same for purges that come from a database: either is enough. */
void marks_set_doubt_database(struct marks *marks, bool doubt);
bool marks_in_doubt(const struct marks *marks);

/* Appends a group's name as an item of object_tags(): no other tag looks like it. */
struct text;
void marks_group_put(struct text *out, struct view name);
/* Appends the text of a MARK_GROUP: the origin of `url`, then the item. */
void marks_group_mark(struct text *out, struct view url, struct view name);

struct marks_stats {
    uint64_t position, marks, folds, checks;
    uint64_t floor;
};
void marks_stats(struct marks *marks, struct marks_stats *ret);
