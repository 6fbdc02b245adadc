/* Bytes that grow on the heap, up to a limit set where the buffer is made. Running out of memory or room sets `failed` and drops
 * what does not fit, so a caller appends freely and checks once. For texts of a known bound see base/text.h. */
#pragma once

#include "base/view.h"

struct buf {
    char *ptr;
    size_t len, cap, max;
    bool failed;
};

static inline struct buf buf_make(size_t max)
{
    return (struct buf){ .max = max };
}

/* Makes room for `len` more bytes and returns where they go; NULL (and `failed`) when there is none. buf_took() publishes them. */
char *buf_room(struct buf *b, size_t len);

static inline void buf_took(struct buf *b, size_t len)
{
    b->len += len;
}

static inline struct view buf_view(const struct buf *b)
{
    return view_make(b->ptr, b->len);
}

void buf_put(struct buf *b, struct view v);
#define buf_lit(b, literal) buf_put((b), VIEW(literal))
void buf_char(struct buf *b, char c);
void buf_u64(struct buf *b, uint64_t value);
void buf_i64(struct buf *b, int64_t value);
void buf_printf(struct buf *b, const char *format, ...) printf_like(2, 3);
/* A JSON string with its quotes; bytes that are not UTF-8 are written as U+FFFD. */
void buf_json(struct buf *b, struct view v);
/* Drops the first `len` bytes. */
void buf_consume(struct buf *b, size_t len);
/* Frees the memory; the buffer can be used again. */
void buf_free(struct buf *b);
