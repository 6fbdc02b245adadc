/* A view is a borrowed run of bytes: it never owns, never ends in NUL, and dies with what it borrows from. The helpers
 * clamp instead of running past the end. Case folding is ASCII only, as HTTP wants it (RFC 9110 §5.1). */
#pragma once

#include "base/compiler.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct view {
    const char *ptr;
    size_t len;
};

#define VIEW(literal) ((struct view){ (literal), sizeof(literal) - 1 })
#define VIEW_NONE ((struct view){ NULL, 0 })
/* For printf: "%.*s" */
#define VIEW_ARG(v) (int)(v).len, (v).ptr

static inline struct view view_make(const char *ptr, size_t len)
{
    return (struct view){ ptr, len };
}

static inline struct view view_str(const char *nul_terminated)
{
    return nul_terminated ? (struct view){ nul_terminated, strlen(nul_terminated) } : VIEW_NONE;
}

static inline bool view_eq(struct view a, struct view b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

static inline char ascii_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

/* The value of a hexadecimal digit, of either case; -1: it is none. */
static inline int ascii_hex(char c)
{
    c = ascii_lower(c);
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static inline bool view_eq_icase(struct view a, struct view b)
{
    if (a.len != b.len)
        return false;
    for (size_t i = 0; i < a.len; i++)
        if (ascii_lower(a.ptr[i]) != ascii_lower(b.ptr[i]))
            return false;
    return true;
}

/* The first `len` bytes, or all there are. */
static inline struct view view_first(struct view v, size_t len)
{
    return (struct view){ v.ptr, MIN(len, v.len) };
}

/* Without the first `len` bytes. */
static inline struct view view_skip(struct view v, size_t len)
{
    len = MIN(len, v.len);
    return len ? (struct view){ v.ptr + len, v.len - len } : v;
}

static inline bool view_starts_with(struct view v, struct view prefix)
{
    return v.len >= prefix.len && view_eq(view_first(v, prefix.len), prefix);
}

static inline bool view_starts_with_icase(struct view v, struct view prefix)
{
    return v.len >= prefix.len && view_eq_icase(view_first(v, prefix.len), prefix);
}

static inline bool view_ends_with(struct view v, struct view suffix)
{
    return v.len >= suffix.len && view_eq(view_skip(v, v.len - suffix.len), suffix);
}

/* Position of the first `c`, or v.len. */
static inline size_t view_find(struct view v, char c)
{
    const char *hit = v.len ? memchr(v.ptr, c, v.len) : NULL;

    return hit ? (size_t)(hit - v.ptr) : v.len;
}

static inline bool view_contains(struct view v, char c)
{
    return view_find(v, c) < v.len;
}

/* Cuts optional white space (SP and HTAB, RFC 9110 §5.6.3) from both ends. */
static inline struct view view_trim(struct view v)
{
    while (v.len && (v.ptr[0] == ' ' || v.ptr[0] == '\t')) {
        v.ptr++;
        v.len--;
    }
    while (v.len && (v.ptr[v.len - 1] == ' ' || v.ptr[v.len - 1] == '\t'))
        v.len--;
    return v;
}

/* Returns what stands before the first `c` in *rest and moves *rest behind it; the last piece leaves *rest with
 * ptr == NULL, which is how a loop over pieces ends. */
static inline struct view view_cut(struct view *rest, char c)
{
    size_t at = view_find(*rest, c);
    struct view piece = view_first(*rest, at);

    *rest = at < rest->len ? view_make(rest->ptr + at + 1, rest->len - at - 1) : VIEW_NONE;
    return piece;
}

/* 1*DIGIT into *ret; values that do not fit saturate at UINT64_MAX. False (and *ret untouched) on anything else. */
bool view_parse_u64(struct view digits, uint64_t *ret);

/* Lexicographic, bytes as unsigned; <0, 0, >0. */
int view_compare(struct view a, struct view b);

/* Takes as long for a wrong guess as for a right one of the same length: `secret` cannot be found out byte by byte. An empty
 * secret equals nothing. */
bool view_eq_secret(struct view sent, struct view secret);
