/* The Redis serialization protocol, RESP2 and RESP3, as a client reads and writes it. Pure: no I/O. Lengths are checked against
 * limits before anything is allocated: a server that announces a billion elements costs nothing.
 *
 * A reply is found in two steps: resp_scan() walks what has arrived until one reply is complete (keeping its place, so that a
 * reply that comes in many pieces is walked once), resp_build() makes values of it. resp_parse() is both. */
#pragma once

#include "base/arena.h"
#include "base/text.h"

#include <sys/types.h>

enum resp_type {
    RESP_NULL,
    RESP_STRING, /* simple, bulk and verbatim strings (without their "txt:"), big numbers */
    RESP_ERROR,  /* simple and bulk errors */
    RESP_INTEGER,
    RESP_DOUBLE,
    RESP_BOOLEAN,
    RESP_ARRAY, /* arrays and sets */
    RESP_MAP,   /* items: key, value, key, value ... */
    RESP_PUSH,
};

struct resp_value {
    enum resp_type type;
    int64_t integer;  /* INTEGER, BOOLEAN (0, 1) */
    double number;    /* DOUBLE */
    struct view text; /* STRING, ERROR; borrowed from the input */
    struct resp_value *items;
    size_t count; /* ARRAY, PUSH: items; MAP: 2 x pairs */
};

#define RESP_DEPTH_MAX 16u

struct resp_limits {
    size_t bytes;    /* of one whole reply */
    size_t elements; /* of one whole reply, everything nested included */
    unsigned depth;  /* of nesting, 0: no aggregates; at most RESP_DEPTH_MAX */
};

/* Where a scan stands; zeroed at the front of each reply. */
struct resp_scan {
    size_t at;      /* bytes walked */
    size_t pending; /* values still to come */
    size_t elements;
    bool started;
};

/* Goes on with the reply at the front of `bytes` (the same bytes as before, and more). >0: the reply is complete and this long;
 * 0: more bytes are needed (*ret_hint: at least so many in all); -EBADMSG; -EMSGSIZE: above the limit of bytes or elements. */
ssize_t resp_scan(struct resp_scan *scan, struct view bytes, const struct resp_limits *limits, size_t *ret_hint);

/* Values of one complete reply; nested ones in `arena` (not touched by a reply without any). Attributes are skipped. 0;
 * -EBADMSG; -EMSGSIZE: nested too deep; -ENOMEM. Never recurses. */
int resp_build(struct view reply, const struct resp_limits *limits, struct arena *arena, struct resp_value *ret);

/* Parses one reply from the front of `bytes`. >0: bytes consumed; otherwise as resp_scan() and resp_build(). */
ssize_t resp_parse(struct view bytes, const struct resp_limits *limits, struct arena *arena, struct resp_value *ret,
                   size_t *ret_hint);

/* Appends a command as an array of bulk strings (out->overflow when it does not fit; resp_command_len() bytes do). */
void resp_put_command(struct text *out, const struct view *args, unsigned count);
size_t resp_command_len(const struct view *args, unsigned count);
/* The same in pieces, for an argument that lies in several places: the array's head, whole arguments, and an argument's head,
 * after which come `len` bytes and CRLF. RESP_HEAD_MAX bounds the length of a head. */
#define RESP_HEAD_MAX 24u
void resp_put_array(struct text *out, unsigned count);
void resp_put_arg(struct text *out, struct view arg);
void resp_put_arg_head(struct text *out, size_t len);

static inline bool resp_is_error(const struct resp_value *value)
{
    return value->type == RESP_ERROR;
}
/* Field of a map or of a flat key-value array: NULL when absent, or when it is neither. */
struct resp_value *resp_get(const struct resp_value *map, struct view name);

/* The Cluster slot of a key: CRC16 of the hash tag or the whole key, modulo 16384. */
#define RESP_SLOTS 16384u
unsigned resp_slot(struct view key);
