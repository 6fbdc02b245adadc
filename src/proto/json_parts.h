/* What the parser, the accessors and the canonical form of JSON share. Everything here reads tokens of a parsed tape,
 * so that the text is known to be well formed. */
#pragma once

#include "proto/json.h"

/* The code point after a backslash at *at (two escapes when they are a surrogate pair); moves *at behind it. A
 * surrogate that stands alone is returned as it is. */
uint32_t json_unescape(const char **at, const char *end);
/* UTF-8 of `code` (surrogates as if they were characters); returns its length, at most 4. */
unsigned json_utf8(uint32_t code, char *to);

/* The inside of a string, between its quotes. */
static inline struct view json_inside(const struct json *doc, uint32_t i)
{
    return view_make(doc->text.ptr + doc->tokens[i].at + 1, doc->tokens[i].len - 2);
}

/* Orders two strings by the bytes of their values; <0, 0, >0. A lone surrogate is equal to itself only. */
int json_compare(const struct json *doc, uint32_t a, uint32_t b);

/* A number as +-digits * 10^exponent: the digits are head and tail in a row, without zeros at either end. */
struct json_decimal {
    struct view head, tail;
    int64_t exponent;
    bool negative; /* never of zero, whose digits are none */
    bool huge;     /* the exponent was beyond +-10^17: it is not filled in */
};
struct json_decimal json_decimal(struct view number);
