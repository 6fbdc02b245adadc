#include "main/flat.h"
#include "base/heap.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

static struct flat parse(const char *json)
{
    struct flat flat;

    assert_int_equal(flat_parse(view_str(json), &flat), 0);
    return flat;
}

/* Every member is found by its path, in objects and arrays, with white space anywhere. */
static void members_have_paths(void **state)
{
    struct flat flat =
        parse(" { \"a\" : { \"b\" : [ 1 , \"x\" , { \"c\" : true } ] } , \"d\" : -2.5e1 , \"e\":{}, \"f\":[] }\n");

    (void)state;
    assert_int_equal(flat.count, 4);
    assert_string_equal(flat_string(&flat, "a.b.0"), "1");
    assert_string_equal(flat_string(&flat, "a.b.1"), "x");
    assert_string_equal(flat_string(&flat, "a.b.2.c"), "true");
    assert_true(flat_number(&flat, "d") == -25);
    assert_null(flat_string(&flat, "e"));
    assert_true(flat_number(&flat, "nothing") == 0);
    flat_free(&flat);
    flat = parse("7");
    assert_string_equal(flat_string(&flat, ""), "7");
    flat_free(&flat);
}

/* What a client once sent as a URL cannot move the terminal's cursor when it is shown. */
static void strings_are_made_printable(void **state)
{
    struct flat flat = parse("{\"u\":\"a\\\"b\\\\c\\u001b[2J\x1b\xc3\xa9\"}");

    (void)state;
    assert_string_equal(flat_string(&flat, "u"), "a\"b\\c?[2J???");
    flat_free(&flat);
}

/* What is not JSON is refused, never read past its end. */
static void garbage_is_refused(void **state)
{
    static const char *const bad[] = { "",
                                       "{",
                                       "[1",
                                       "{\"a\"}",
                                       "{\"a\":}",
                                       "[1 2]",
                                       "{\"a\":1,}",
                                       "\"abc",
                                       "{\"a\":\"x",
                                       "{1:2}",
                                       "[[[[[[[[[1]]]]]]]]]",
                                       "1 2",
                                       "\"\\",
                                       "\"\\u00",
                                       "[,1]",
                                       "]",
                                       "{\"a\"" };
    struct flat flat;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(flat_parse(view_str(bad[i]), &flat), -EBADMSG);
        flat_free(&flat);
    }
}

/* Size is bounded: too many members or too much text is an error, not more memory. */
static void size_is_bounded(void **state)
{
    size_t len = 2 * 9000 + 1;
    char *json = heap_alloc(len);
    struct flat flat;

    (void)state;
    for (size_t i = 0; i < 9000; i++) {
        json[2 * i] = i ? ',' : '[';
        json[2 * i + 1] = '1';
    }
    json[len - 1] = ']';
    assert_int_equal(flat_parse(view_make(json, len), &flat), -ENOMEM);
    flat_free(&flat);
    heap_free(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_have_paths),
        cmocka_unit_test(strings_are_made_printable),
        cmocka_unit_test(garbage_is_refused),
        cmocka_unit_test(size_is_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
