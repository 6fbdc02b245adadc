/* The Redis serialization protocol, RESP2 and RESP3, as a client reads and writes it. Pure: no I/O. Lengths are checked against
 * limits before anything is allocated: a server that announces a billion elements costs nothing. */
#pragma once

#include "base/arena.h"
#include "base/text.h"

enum resp_type {
    RESP_NULL,
    RESP_STRING, /* simple, bulk and verbatim strings, big numbers */
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

struct resp_limits {
    size_t bytes;    /* of one whole reply */
    size_t elements; /* of one whole reply */
    unsigned depth;
};

/* Parses one reply from the front of `bytes`; nested values in `arena`. Attributes are skipped. >0: bytes consumed; 0: more
 * bytes are needed (*hint: at least so many in all); -EBADMSG; -EMSGSIZE: above a limit; -ENOMEM. Never recurses. */
ssize_t resp_parse(struct view bytes, const struct resp_limits *limits, struct arena *arena, struct resp_value *ret,
                   size_t *hint);

/* Appends a command as an array of bulk strings; returns bytes needed (also when `out` is too small: out->overflow). */
size_t resp_put_command(struct text *out, const struct view *args, unsigned count);
size_t resp_command_len(const struct view *args, unsigned count);

static inline bool resp_is_error(const struct resp_value *value)
{
    return value->type == RESP_ERROR;
}
/* Field of a map or of a flat key-value array: NULL when absent. */
struct resp_value *resp_get(const struct resp_value *map, struct view name);

/* The Cluster slot of a key: CRC16 of the hash tag or the whole key, modulo 16384. */
unsigned resp_slot(struct view key);
