/* The tags of a response: names under which it can be purged. From Cache-Tag and Surrogate-Key (lists that sites use), and from
 * Cache-Groups (RFC 9875 §2), whose names count within one origin only. */
#pragma once

#include "base/text.h"
#include "proto/field.h"

#define GROUPS_MAX 64 /* members of one message that count; RFC 9875 §2 asks for 32 at least */

/* Appends the tags of a response, separated by single spaces, in the form that marks look for: groups as marks_group_put()
 * writes them. A Cache-Groups that is no list of strings counts as absent. Takes no more room than the fields' values. */
void tags_put(struct text *out, const struct fields *response);

/* The same for a stored response that a 304 has confirmed: `merged` are the fields it has now, `stored` the tags it had. They stay
 * where the 304 names none, though no field says them any more. */
void tags_put_confirmed(struct text *out, const struct fields *merged, const struct fields *not_modified,
                        struct view stored);
/* Walks object_tags(), groups left out: false at the end. */
bool tags_next(struct view *rest, struct view *ret_tag);

/* The members of a Cache-Group-Invalidation (RFC 9875 §3): up to GROUPS_MAX names, escapes resolved, into `memory`. Returns
 * how many; 0 as well when the field is absent or no list of strings. */
size_t tags_invalidated(const struct fields *response, struct text *memory, struct view names[GROUPS_MAX]);
