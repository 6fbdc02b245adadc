/* What the ways to tell a plain answer as a stream share. Private to them. */
#pragma once

#include "base/buf.h"
#include "proto/json.h"

struct split {
    struct json doc;
    struct buf *out;
    uint64_t sequence; /* of responses' events */
};

/* A member that is told otherwise than it stands there. */
struct split_other {
    struct view name, raw;
};

/* Value `i` as it is spelled, on one line: line breaks between values would end a line of data. */
void split_raw(struct split *s, uint32_t i);
/* Object `i`, with some members told otherwise; others[] ends with an empty name. */
void split_object(struct split *s, uint32_t i, const struct split_other *others);
/* "event: type", and the data's beginning up to `{"type":"type"`; split_end() closes it. */
void split_event(struct split *s, struct view type);
void split_end(struct split *s);
void split_member_u64(struct split *s, struct view name, uint64_t value);
void split_member_raw(struct split *s, struct view name, uint32_t i);

/* The inside of a string in pieces of about a word; cut only between characters, however they are spelled. */
struct pieces {
    struct view rest;
    size_t want;
};
struct pieces pieces_of(struct view inside);
/* The inside of string `i`; empty when it is none. */
struct view split_inside(const struct split *s, uint32_t i);
bool pieces_next(struct pieces *p, struct view *ret);

int split_messages(struct split *s);
int split_responses(struct split *s);
