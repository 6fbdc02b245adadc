/* Appends to memory somebody else owns, up to a fixed capacity. Running out sets `overflow` and drops what does not
 * fit, so a caller appends freely and checks once. No NUL is kept unless text_str() is called. */
#pragma once

#include "base/view.h"

struct text {
    char *ptr;
    size_t len, cap;
    bool overflow;
};

static inline struct text text_make(void *memory, size_t cap)
{
    return (struct text){ .ptr = memory, .cap = cap };
}

/* A text over a local array. */
#define TEXT_ON(array) text_make((array), sizeof(array))

static inline struct view text_view(const struct text *t)
{
    return view_make(t->ptr, t->len);
}

static inline void text_put(struct text *t, struct view v)
{
    if (unlikely(v.len > t->cap - t->len)) {
        t->overflow = true;
        return;
    }
    if (v.len)
        memcpy(t->ptr + t->len, v.ptr, v.len);
    t->len += v.len;
}

#define text_lit(t, literal) text_put((t), VIEW(literal))

static inline void text_char(struct text *t, char c)
{
    text_put(t, view_make(&c, 1));
}

void text_u64(struct text *t, uint64_t value);
void text_i64(struct text *t, int64_t value);
/* Lower-case hexadecimal, `digits` wide. */
void text_hex(struct text *t, uint64_t value, unsigned digits);
void text_printf(struct text *t, const char *format, ...) printf_like(2, 3);
/* A JSON string with its quotes; bytes that are not UTF-8 are written as U+FFFD. */
void text_json(struct text *t, struct view v);
/* Terminates with NUL (not counted in len; the last byte gives way if there is no room) and returns the start. */
const char *text_str(struct text *t);
