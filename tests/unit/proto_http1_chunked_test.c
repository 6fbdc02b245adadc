/* Chunked decoding: any cut gives the same body and trailers, and every malformed framing is refused. */
#include "proto/http1.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

/* Feeds what there is; data goes to `body`. Returns bytes used or -EBADMSG. */
static int feed(struct http1_chunked *decoder, struct view input, struct text *body, struct text *trailers)
{
    size_t used = 0;

    for (;;) {
        struct view data;
        int r = http1_chunked_next(decoder, view_skip(input, used), &data, trailers);

        if (r < 0)
            return r;
        used += (size_t)r + data.len;
        text_put(body, data);
        if (r == 0 && data.len == 0)
            return (int)used;
    }
}

/* Extensions, leading zeros, upper case and trailers are understood; every cut gives the same. */
static void pieces_equal_the_whole(void **state)
{
    struct view input =
        VIEW("5;a=\"b;c\"\r\nhello\r\n000A ; x\r\n 0123\r\n567\r\n0;last\r\nX-A: b\r\nX-B:\t\xe4\r\n\r\nNEXT");

    (void)state;
    for (size_t cut = 0; cut <= input.len; cut++) {
        struct http1_chunked decoder = { 0 };
        char body_memory[64], trailer_memory[64];
        struct text body = TEXT_ON(body_memory), trailers = TEXT_ON(trailer_memory);
        int first = feed(&decoder, view_first(input, cut), &body, &trailers);
        int second;

        assert_int_equal(first, MIN(cut, input.len - 4));
        second = feed(&decoder, view_skip(input, (size_t)first), &body, &trailers);
        assert_int_equal((size_t)first + (size_t)second, input.len - 4);
        assert_true(decoder.done);
        assert_true(view_eq(text_view(&body), VIEW("hello 0123\r\n567")));
        assert_true(view_eq(text_view(&trailers), VIEW("X-A: b\r\nX-B:\t\xe4\r\n")));
    }
}

/* Each malformed framing is refused at the same byte however it arrives. */
static void malformed_framing_is_refused(void **state)
{
    static const struct view rows[] = {
#define V(text) { text, sizeof(text) - 1 }
        V("\r\n"),
        V("g\r\n"),
        V("-1\r\n"),
        V("+1\r\n"),
        V("0x1\r\n"),
        V(" 1\r\n"),
        V("1 \r\n"),
        V("1\t\r\n"),
        V("1\n"),
        V("1\rx"),
        V(";a\r\n"),
        V("1;a\n"),
        V("1;a\r\r"),
        V("1;a\0"),
        V("1\r\nab"),
        V("1\r\na\n"),
        V("1\r\na\rx"),
        V("0\n"),
        V("0\r\n\n"),
        V("0\r\n\rx"),
        V("0\r\n x: y\r\n"),
        V("0\r\nx : y\r\n"),
        V("0\r\nx: y\n"),
        V("0\r\nx: y\r\n z\r\n"),
        V("0\r\n: y\r\n"),
        V("0\r\nx\r\n"),
        V("0\r\nx: \0"),
        V("00000000000000001"),
        V("8000000000000000\r"),
        V("ffffffffffffffff0"),
        V("1,1\r\n"),
        V("1\0"),
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        for (size_t cut = 0; cut < rows[i].len; cut++) {
            struct http1_chunked decoder = { 0 };
            char memory[64];
            struct text body = TEXT_ON(memory);
            int r = feed(&decoder, view_first(rows[i], cut), &body, NULL);

            if (r >= 0)
                r = feed(&decoder, view_skip(rows[i], (size_t)r), &body, NULL);
            if (r != -EBADMSG)
                fail_msg("'%.*s' cut at %zu: %d", VIEW_ARG(rows[i]), cut, r);
        }
    }
}

/* Extensions and trailers have a limit over the whole message; the largest size is 2^63 - 1. */
static void limits_hold(void **state)
{
    struct http1_chunked decoder = { 0 };
    char memory[16];
    struct text body = TEXT_ON(memory);
    int r = 0, rounds = 0;

    (void)state;
    while (r >= 0 && rounds++ < 10000) {
        body.len = 0;
        r = feed(&decoder, VIEW("1;0123456789\r\nx\r\n"), &body, NULL);
    }
    assert_in_range(rounds, 4096 / 12, 4096 / 10);
    decoder = (struct http1_chunked){ 0 };
    assert_true(feed(&decoder, VIEW("0\r\n"), &body, NULL) >= 0);
    for (r = 0, rounds = 0; r >= 0 && rounds < 10000; rounds++)
        r = feed(&decoder, VIEW("x: 34567\r\n"), &body, NULL);
    assert_in_range(rounds, 819, 821);
    decoder = (struct http1_chunked){ 0 };
    assert_int_equal(feed(&decoder, VIEW("7fffffffffffffff\r\n"), &body, NULL), 18);
    assert_true(decoder.left == INT64_MAX);
}

/* Trailers that do not fit are dropped altogether, and the message still ends. */
static void trailers_that_do_not_fit_are_dropped(void **state)
{
    struct http1_chunked decoder = { 0 };
    char memory[8], body_memory[8];
    struct text trailers = TEXT_ON(memory), body = TEXT_ON(body_memory);

    (void)state;
    assert_int_equal(feed(&decoder, VIEW("0\r\na: b\r\nc: d\r\n\r\n"), &body, &trailers), 17);
    assert_true(decoder.done);
    assert_true(trailers.overflow);
    assert_int_equal(trailers.len, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_equal_the_whole),
        cmocka_unit_test(malformed_framing_is_refused),
        cmocka_unit_test(limits_hold),
        cmocka_unit_test(trailers_that_do_not_fit_are_dropped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
