/* For unit tests of the translators: JSON written with ' for ", and compared by what it means. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ai/translate.h"

#include <errno.h>
#include <stdlib.h>

#define TEXT_MAX ((size_t)1 << 20)

/* A copy of `text` with " for '; the caller frees it. */
static inline char *unquote(const char *text)
{
    size_t len = strlen(text);
    char *copy = malloc(len + 1);

    assert_non_null(copy);
    for (size_t i = 0; i <= len; i++)
        copy[i] = text[i] == '\'' ? '"' : text[i];
    return copy;
}

static inline void parse_view(struct json *doc, struct view text)
{
    size_t at = 0;
    enum json_error error = json_parse(doc, text, JSON_LIMITS, &at);

    if (error != JSON_OK)
        print_message("not JSON at %zu: %.*s\n", at, VIEW_ARG(text));
    assert_int_equal(error, JSON_OK);
}

/* Both mean the same, whatever their order and spacing. `expected` with ' for ". */
static inline void assert_same(struct view got, const char *expected)
{
    struct buf a = buf_make(TEXT_MAX), b = buf_make(TEXT_MAX);
    struct json one = { 0 }, two = { 0 };
    char *copy = unquote(expected);

    parse_view(&one, got);
    parse_view(&two, view_str(copy));
    json_canonical(&one, 0, NULL, NULL, &a);
    json_canonical(&two, 0, NULL, NULL, &b);
    if (!view_eq(buf_view(&a), buf_view(&b)))
        print_message("got      %.*s\nexpected %.*s\n", VIEW_ARG(buf_view(&a)), VIEW_ARG(buf_view(&b)));
    assert_true(view_eq(buf_view(&a), buf_view(&b)));
    buf_free(&a);
    buf_free(&b);
    json_free(&one);
    json_free(&two);
    free(copy);
}
