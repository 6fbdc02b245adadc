/* Appending to bounded memory. What does not fit is dropped whole and remembered in `overflow`; nothing here allocates. */
#include "base/text.h"

#include <stdarg.h>
#include <stdio.h>

void text_u64(struct text *t, uint64_t value)
{
    char digits[20];
    size_t at = sizeof(digits);

    if (value < 10) {
        text_char(t, (char)('0' + value));
        return;
    }
    do {
        digits[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value);
    text_put(t, view_make(digits + at, sizeof(digits) - at));
}

void text_i64(struct text *t, int64_t value)
{
    if (value < 0) {
        text_char(t, '-');
        text_u64(t, (uint64_t)0 - (uint64_t)value);
    } else {
        text_u64(t, (uint64_t)value);
    }
}

void text_hex(struct text *t, uint64_t value, unsigned digits)
{
    while (digits--)
        text_char(t, "0123456789abcdef"[(value >> (4 * digits)) & 15]);
}

void text_printf(struct text *t, const char *format, ...)
{
    va_list args;
    int wrote;

    va_start(args, format);
    wrote = vsnprintf(t->ptr + t->len, t->cap - t->len, format, args);
    va_end(args);
    if (wrote < 0 || (size_t)wrote >= t->cap - t->len)
        t->overflow = true; /* vsnprintf needs room for its NUL: a text is full one byte early here */
    else
        t->len += (size_t)wrote;
}

/* Length of the valid UTF-8 sequence at the start of v, 0 when there is none (RFC 3629 §4). */
static size_t utf8_length(struct view v)
{
    static const struct {
        unsigned char first_min, first_max, second_min, second_max;
        size_t len;
    } forms[] = {
        { 0xc2, 0xdf, 0x80, 0xbf, 2 }, { 0xe0, 0xe0, 0xa0, 0xbf, 3 }, { 0xe1, 0xec, 0x80, 0xbf, 3 },
        { 0xed, 0xed, 0x80, 0x9f, 3 }, { 0xee, 0xef, 0x80, 0xbf, 3 }, { 0xf0, 0xf0, 0x90, 0xbf, 4 },
        { 0xf1, 0xf3, 0x80, 0xbf, 4 }, { 0xf4, 0xf4, 0x80, 0x8f, 4 },
    };
    const unsigned char *byte = (const unsigned char *)v.ptr;

    for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
        if (byte[0] < forms[i].first_min || byte[0] > forms[i].first_max)
            continue;
        if (v.len < forms[i].len || byte[1] < forms[i].second_min || byte[1] > forms[i].second_max)
            return 0;
        for (size_t k = 2; k < forms[i].len; k++)
            if ((byte[k] & 0xc0) != 0x80)
                return 0;
        return forms[i].len;
    }
    return 0;
}

void text_json(struct text *t, struct view v)
{
    text_char(t, '"');
    while (v.len) {
        unsigned char c = (unsigned char)v.ptr[0];
        size_t used = 1;

        if (c == '"' || c == '\\') {
            text_char(t, '\\');
            text_char(t, (char)c);
        } else if (c < 0x20 || c == 0x7f) {
            text_lit(t, "\\u00");
            text_hex(t, c, 2);
        } else if (c < 0x80) {
            text_char(t, (char)c);
        } else if ((used = utf8_length(v)) > 0) {
            text_put(t, view_first(v, used));
        } else {
            text_lit(t, "\\ufffd");
            used = 1;
        }
        v = view_skip(v, used);
    }
    text_char(t, '"');
}

const char *text_str(struct text *t)
{
    if (t->cap == 0)
        return "";
    t->ptr[MIN(t->len, t->cap - 1)] = '\0';
    return t->ptr;
}
