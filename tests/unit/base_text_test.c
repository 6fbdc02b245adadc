/* Texts: overflow, numbers, JSON strings over any bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/text.h"

#include <stdlib.h>

static void assert_text(const struct text *t, const char *wanted)
{
    if (!view_eq(text_view(t), view_str(wanted)))
        fail_msg("got <%.*s>, wanted <%s>", VIEW_ARG(text_view(t)), wanted);
}

static void overflow_sticks(void **state)
{
    /* What does not fit is dropped whole, the flag stays, and nothing is written past the capacity. */
    char memory[8] = "........";
    struct text t = text_make(memory, 6), none = text_make(NULL, 0);

    (void)state;
    text_lit(&t, "abcd");
    assert_false(t.overflow);
    text_lit(&t, "xyz");
    assert_true(t.overflow);
    text_lit(&t, "ef");
    assert_text(&t, "abcdef");
    assert_true(t.overflow);
    assert_memory_equal(memory, "abcdef..", 8);
    assert_string_equal(text_str(&t), "abcde"); /* the last byte gives way */
    text_put(&none, VIEW_NONE);
    assert_false(none.overflow);
    text_char(&none, 'x');
    assert_true(none.overflow);
    assert_string_equal(text_str(&none), "");
}

static void numbers(void **state)
{
    /* Extremes of every number form. */
    char memory[256];
    struct text t = TEXT_ON(memory);

    (void)state;
    text_u64(&t, 0);
    text_char(&t, ' ');
    text_u64(&t, UINT64_MAX);
    text_char(&t, ' ');
    text_i64(&t, INT64_MIN);
    text_char(&t, ' ');
    text_i64(&t, -1);
    text_char(&t, ' ');
    text_hex(&t, 0xdeadbeef12345678, 16);
    text_char(&t, ' ');
    text_hex(&t, 0xabc, 2);
    text_printf(&t, " %s-%d", "a", 7);
    assert_text(&t, "0 18446744073709551615 -9223372036854775808 -1 deadbeef12345678 bc a-7");
    assert_false(t.overflow);
}

static void printf_truncates_nothing(void **state)
{
    /* A formatted piece that does not fit leaves no half of itself. */
    char memory[8];
    struct text t = TEXT_ON(memory);

    (void)state;
    text_lit(&t, "abc");
    text_printf(&t, "%d", 1234567);
    assert_true(t.overflow);
    assert_text(&t, "abc");
    t = TEXT_ON(memory);
    text_lit(&t, "12345678");
    text_printf(&t, "x");
    assert_true(t.overflow);
    assert_text(&t, "12345678");
}

static void json_forms(void **state)
{
    /* Quotes, controls and all forms of valid and broken UTF-8 (RFC 3629, RFC 8259 §7). */
    static const struct {
        struct view in;
        const char *out;
    } cases[] = {
        { { "", 0 }, "\"\"" },
        { { "a\"b\\c/", 6 }, "\"a\\\"b\\\\c/\"" },
        { { "\0\n\x1f\x7f", 4 }, "\"\\u0000\\u000a\\u001f\\u007f\"" },
        { { "\xc3\xa9", 2 }, "\"\xc3\xa9\"" },
        { { "\xe2\x82\xac", 3 }, "\"\xe2\x82\xac\"" },
        { { "\xf0\x9f\x98\x80", 4 }, "\"\xf0\x9f\x98\x80\"" },
        { { "\xf4\x8f\xbf\xbf", 4 }, "\"\xf4\x8f\xbf\xbf\"" },
        { { "\x80", 1 }, "\"\\ufffd\"" },                                  /* lone continuation */
        { { "\xc0\xaf", 2 }, "\"\\ufffd\\ufffd\"" },                       /* overlong slash */
        { { "\xe0\x80\xaf", 3 }, "\"\\ufffd\\ufffd\\ufffd\"" },            /* overlong in three */
        { { "\xed\xa0\x80", 3 }, "\"\\ufffd\\ufffd\\ufffd\"" },            /* surrogate */
        { { "\xf4\x90\x80\x80", 4 }, "\"\\ufffd\\ufffd\\ufffd\\ufffd\"" }, /* above U+10FFFF */
        { { "\xf5\x80", 2 }, "\"\\ufffd\\ufffd\"" },
        { { "\xe2\x82", 2 }, "\"\\ufffd\\ufffd\"" }, /* cut short */
        { { "\xf0\x9f\x98"
            "a",
            4 },
          "\"\\ufffd\\ufffd\\ufffd"
          "a\"" },
        { { "\xff", 1 }, "\"\\ufffd\"" },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char memory[64];
        struct text t = TEXT_ON(memory);
        /* On the heap, so that a look past the end is seen by ASan. */
        char *copy = malloc(cases[i].in.len + 1);

        assert_non_null(copy);
        memcpy(copy, cases[i].in.ptr, cases[i].in.len);
        copy[cases[i].in.len] = (char)0x80;
        text_json(&t, view_make(copy, cases[i].in.len));
        assert_text(&t, cases[i].out);
        free(copy);
    }
}

static void json_any_bytes(void **state)
{
    /* Whatever the bytes, a string of printable ASCII and UTF-8 comes out that ends in an unescaped quote. */
    uint32_t seed = 1;

    (void)state;
    for (int round = 0; round < 2000; round++) {
        char memory[256], in[32];
        struct text t = TEXT_ON(memory);
        bool escaped = false;

        for (size_t i = 0; i < sizeof(in); i++) {
            seed = seed * 1664525 + 1013904223;
            in[i] = (char)(seed >> 24);
        }
        text_json(&t, view_make(in, sizeof(in)));
        assert_false(t.overflow);
        assert_true(t.ptr[0] == '"' && t.ptr[t.len - 1] == '"');
        for (size_t i = 1; i < t.len; i++) {
            assert_true((unsigned char)t.ptr[i] >= 0x20);
            if (!escaped && t.ptr[i] == '"')
                assert_int_equal(i, t.len - 1);
            escaped = !escaped && t.ptr[i] == '\\';
        }
        assert_false(escaped);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(overflow_sticks), cmocka_unit_test(numbers),        cmocka_unit_test(printf_truncates_nothing),
        cmocka_unit_test(json_forms),      cmocka_unit_test(json_any_bytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
