/* A growing buffer: doubled when full, never past its limit. */
#include "base/buf.h"

#include "base/heap.h"
#include "base/text.h"

#include <stdarg.h>
#include <stdio.h>

#define BUF_FIRST ((size_t)256)

char *buf_room(struct buf *b, size_t len)
{
    size_t cap;
    char *grown;

    if (len <= b->cap - b->len)
        return b->ptr + b->len;
    if (b->failed || len > b->max - MIN(b->len, b->max)) {
        b->failed = true;
        return NULL;
    }
    cap = MAX(MAX(BUF_FIRST, 2 * b->cap), b->len + len);
    cap = MIN(cap, b->max);
    grown = heap_resize(b->ptr, cap);
    if (!grown) {
        b->failed = true;
        return NULL;
    }
    b->ptr = grown;
    b->cap = cap;
    return b->ptr + b->len;
}

void buf_put(struct buf *b, struct view v)
{
    char *to = v.len ? buf_room(b, v.len) : NULL;

    if (!to)
        return;
    memcpy(to, v.ptr, v.len);
    b->len += v.len;
}

void buf_char(struct buf *b, char c)
{
    buf_put(b, view_make(&c, 1));
}

void buf_u64(struct buf *b, uint64_t value)
{
    char memory[24];
    struct text text = TEXT_ON(memory);

    text_u64(&text, value);
    buf_put(b, text_view(&text));
}

void buf_i64(struct buf *b, int64_t value)
{
    char memory[24];
    struct text text = TEXT_ON(memory);

    text_i64(&text, value);
    buf_put(b, text_view(&text));
}

void buf_printf(struct buf *b, const char *format, ...)
{
    va_list arguments;
    int len;
    char *to;

    va_start(arguments, format);
    len = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    to = len > 0 ? buf_room(b, (size_t)len + 1) : NULL; /* vsnprintf() ends with a NUL that is not kept */
    if (!to)
        return;
    va_start(arguments, format);
    vsnprintf(to, (size_t)len + 1, format, arguments);
    va_end(arguments);
    b->len += (size_t)len;
}

static bool try_json(struct buf *b, struct view v, size_t cap)
{
    char *to = buf_room(b, cap);
    struct text text = text_make(to, to ? cap : 0);

    if (!to)
        return false;
    text_json(&text, v);
    if (!text.overflow)
        b->len += text.len;
    return !text.overflow;
}

/* Most bytes take one, none takes more than six: \u00XX. */
void buf_json(struct buf *b, struct view v)
{
    if (!try_json(b, v, v.len + v.len / 8 + 16) && !b->failed)
        (void)!try_json(b, v, 6 * v.len + 2);
}

void buf_consume(struct buf *b, size_t len)
{
    len = MIN(len, b->len);
    b->len -= len;
    if (b->len)
        memmove(b->ptr, b->ptr + len, b->len);
}

void buf_free(struct buf *b)
{
    heap_free(b->ptr);
    *b = buf_make(b->max);
}
