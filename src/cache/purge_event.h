/* A purge as somebody outside says it: a row of a database table, a message on a channel. Pure.
 *
 * One line says one purge, words separated by single spaces:
 *
 *   tag product-42
 *   url http://shop.example/a?b      (or /a?b: on every host)
 *   prefix http://shop.example/a     (or /a)
 *   host shop.example                (or shop.example:8080)
 *   group http://shop.example name   (RFC 9875: groups belong to an origin)
 *   all
 *   soft tag product-42              (any of them: mark stale instead of dropping) */
#pragma once

#include "base/text.h"
#include "cache/marks.h"

#define PURGE_TARGET_MAX 8192

struct purge_event {
    enum mark_kind kind;
    bool soft;
    struct view target; /* as it was said, checked but not brought to the form of marks; borrowed; empty for MARK_ALL */
};

/* From the words of a row. 0; -EINVAL: no such kind, or a target that this kind cannot have; -EMSGSIZE: longer than
 * PURGE_TARGET_MAX. White space at the ends of `target` is left out. */
int purge_event_make(struct view kind, struct view target, bool soft, struct purge_event *ret);
/* From a line, with or without its line end. As above. */
int purge_event_parse(struct view line, struct purge_event *ret);
/* Appends the line, without a line end: parsing it gives the same event. */
void purge_event_put(struct text *out, const struct purge_event *event);
