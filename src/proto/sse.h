/* Server-sent events (WHATWG HTML §9.2.6), read piece by piece as they arrive, and written. Used by one thread at a time. */
#pragma once

#include "base/buf.h"

struct sse_event {
    struct view name; /* "event:"; empty: not said */
    struct view data; /* "data:" lines joined with LF */
    struct view raw;  /* the bytes of the event with the empty line that ends it, and comments before it */
    bool comment;     /* nothing but comments or unknown fields: a keep-alive. name and data are empty */
};

/* Events that end in the bytes at hand are views into them; one that is cut is kept in `rest` until it is whole. The raw bytes of all
 * events one after the other are the stream. */
struct sse {
    struct buf rest;   /* the limit of one event is the buffer's */
    struct buf joined; /* data of several lines */
    bool started;      /* a byte order mark can only come first */
    bool taken;        /* `rest` holds the event that was shown last */
    bool in_line;      /* the bytes of `rest` end within a line, */
    bool after_cr;     /* or behind a CR that ended one, which a LF may follow, */
    bool over;         /* or behind the CR of the empty line: the event is whole, but a LF may still belong to it */
};

void sse_init(struct sse *sse, size_t event_max);
void sse_free(struct sse *sse);
/* Takes the next event from the front of *input. 1: *ret, valid until the next call and as long as the input's bytes; 0: more bytes are
 * needed, *input is used up; -EMSGSIZE: an event larger than the limit; -ENOMEM; -EINVAL: not UTF-8 in the data of a whole event.
 * After an error the stream cannot be read on. */
int sse_next(struct sse *sse, struct view *input, struct sse_event *ret);
/* The stream has ended: 1: *ret is a last event, held back because its empty line was ended by a CR that a LF could have followed;
 * 0: there is none; errors as above. */
int sse_finish(struct sse *sse, struct sse_event *ret);
/* True when bytes of an unfinished event are kept (`rest`): the stream was cut. */
bool sse_is_cut(const struct sse *sse);

/* "event: name\ndata: ...\n\n"; `name` empty: left out. Line breaks in data become several data lines. */
void sse_put(struct buf *out, struct view name, struct view data);
