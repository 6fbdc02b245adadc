/* Entity tags (RFC 9110 §8.8.3). */
#pragma once

#include "proto/field.h"

struct etag {
    struct view opaque; /* with its quotes */
    bool weak;
};

/* One whole entity tag: "x" or W/"x". False on anything else. */
bool etag_parse(struct view text, struct etag *ret);
bool etag_strong_eq(struct etag a, struct etag b);
bool etag_weak_eq(struct etag a, struct etag b);

enum etag_list {
    ETAG_LIST_NONE,  /* no such field */
    ETAG_LIST_MATCH, /* `*`, or a member that compares equal */
    ETAG_LIST_OTHER, /* none does; also when the list is malformed from the first member on */
};
/* Looks for `etag` (a field value; may be empty) in all lines of If-Match (weak = false) or If-None-Match (weak = true). A
 * malformed member ends its line; what stood before it counts. A comma inside the quotes belongs to the tag. */
enum etag_list etag_list_match(const struct fields *fields, enum field_id id, struct view etag, bool weak);
