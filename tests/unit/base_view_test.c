/* Views and the list: clamping, cutting, folding; rings that survive removal while walked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/list.h"
#include "base/view.h"

static void pieces(void **state)
{
    /* The helpers clamp instead of running past the end. */
    struct view v = VIEW("abc");

    (void)state;
    assert_true(view_eq(view_first(v, 9), v));
    assert_int_equal(view_skip(v, 9).len, 0);
    assert_true(view_eq(view_skip(v, 1), VIEW("bc")));
    assert_int_equal(view_skip(VIEW_NONE, 3).len, 0);
    assert_int_equal(view_find(v, 'c'), 2);
    assert_int_equal(view_find(v, 'x'), 3);
    assert_int_equal(view_find(VIEW_NONE, 'x'), 0);
    assert_false(view_contains(VIEW_NONE, 'x'));
    assert_true(view_starts_with(v, VIEW("")));
    assert_false(view_starts_with(v, VIEW("abcd")));
    assert_true(view_starts_with_icase(v, VIEW("AB")));
    assert_true(view_ends_with(v, VIEW("bc")) && view_ends_with(v, VIEW_NONE));
    assert_false(view_ends_with(v, VIEW("xabc")));
    assert_true(view_eq(VIEW_NONE, VIEW("")));
    assert_int_equal(view_str(NULL).len, 0);
}

static void folding_is_ascii(void **state)
{
    /* Only A-Z fold: not @ and `, not [ and {, not bytes above 127. */
    (void)state;
    assert_true(view_eq_icase(VIEW("AZaz-09"), VIEW("azAZ-09")));
    assert_false(view_eq_icase(VIEW("@"), VIEW("`")));
    assert_false(view_eq_icase(VIEW("["), VIEW("{")));
    assert_false(view_eq_icase(VIEW("\xc3\x84"), VIEW("\xc3\xa4")));
    assert_false(view_eq_icase(VIEW("a"), VIEW("ab")));
}

static void trim_and_cut(void **state)
{
    /* Optional white space is SP and HTAB alone; cutting meets every piece, empty ones too, and ends. */
    static const char *const wanted[] = { "", "a", "", "b ", "" };
    struct view rest = VIEW(",a,,b ,");
    size_t n = 0;

    (void)state;
    assert_true(view_eq(view_trim(VIEW(" \t a b\t ")), VIEW("a b")));
    assert_int_equal(view_trim(VIEW(" \t ")).len, 0);
    assert_true(view_eq(view_trim(VIEW("\ra\n")), VIEW("\ra\n")));
    while (rest.ptr) {
        struct view piece = view_cut(&rest, ',');

        assert_true(n < ARRAY_LEN(wanted));
        assert_true(view_eq(piece, view_str(wanted[n++])));
    }
    assert_int_equal(n, ARRAY_LEN(wanted));
}

static void parse_u64(void **state)
{
    /* Digits only; what does not fit saturates; on failure the output is untouched. */
    static const struct {
        const char *text;
        bool ok;
        uint64_t value;
    } cases[] = {
        { "0", true, 0 },
        { "007", true, 7 },
        { "18446744073709551614", true, UINT64_MAX - 1 },
        { "18446744073709551615", true, UINT64_MAX },
        { "18446744073709551616", true, UINT64_MAX },
        { "18446744073709551620", true, UINT64_MAX },
        { "99999999999999999999999999999999999", true, UINT64_MAX },
        { "99999999999999999999999999999999999x", false, 0 },
        { "", false, 0 },
        { "-1", false, 0 },
        { "+1", false, 0 },
        { " 1", false, 0 },
        { "1 ", false, 0 },
        { "1a", false, 0 },
        { "\xb2", false, 0 },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        uint64_t value = 12345;

        assert_int_equal(view_parse_u64(view_str(cases[i].text), &value), cases[i].ok);
        assert_true(value == (cases[i].ok ? cases[i].value : 12345));
    }
}

static void compare(void **state)
{
    /* Bytes compare unsigned, a prefix comes first. */
    (void)state;
    assert_true(view_compare(VIEW("a"), VIEW("b")) < 0);
    assert_true(view_compare(VIEW("\xff"), VIEW("a")) > 0);
    assert_true(view_compare(VIEW("a"), VIEW("aa")) < 0);
    assert_true(view_compare(VIEW_NONE, VIEW("a")) < 0);
    assert_int_equal(view_compare(VIEW_NONE, VIEW("")), 0);
}

struct element {
    struct node link;
    int id;
};

static void list_order(void **state)
{
    /* First in, first out; removing twice is harmless; the current element may go while walking; taking moves all. */
    struct element e[5];
    struct node list, other;
    int seen = 0;

    (void)state;
    list_init(&list);
    assert_true(list_empty(&list));
    assert_null(list_pop(&list));
    for (int i = 0; i < 5; i++) {
        e[i].id = i;
        list_init(&e[i].link);
        assert_false(list_linked(&e[i].link));
    }
    for (int i = 1; i < 5; i++)
        list_push(&list, &e[i].link);
    list_push_front(&list, &e[0].link);
    LIST_EACH_SAFE (it, &list) {
        struct element *element = CONTAINER_OF(it, struct element, link);

        assert_int_equal(element->id, seen++);
        if (element->id % 2) {
            list_remove(it);
            list_remove(it);
        }
    }
    assert_int_equal(seen, 5);
    assert_false(list_linked(&e[1].link));
    list_take(&other, &list);
    assert_true(list_empty(&list));
    for (int i = 0; i < 5; i += 2)
        assert_ptr_equal(list_pop(&other), &e[i].link);
    assert_null(list_pop(&other));
    list_take(&other, &list);
    assert_true(list_empty(&other));
}

static void secrets(void **state)
{
    /* Proves that a secret equals itself alone, and that nobody knows an empty one. */
    struct view secret = VIEW("s3cret");

    (void)state;
    assert_true(view_eq_secret(VIEW("s3cret"), secret));
    assert_false(view_eq_secret(VIEW("s3creT"), secret));
    assert_false(view_eq_secret(VIEW("s3cre"), secret));
    assert_false(view_eq_secret(VIEW("s3crets"), secret));
    assert_false(view_eq_secret(VIEW("s3crets3cret"), secret));
    assert_false(view_eq_secret(VIEW_NONE, secret));
    assert_false(view_eq_secret(VIEW_NONE, VIEW_NONE));
    assert_false(view_eq_secret(VIEW("a"), VIEW_NONE));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces),    cmocka_unit_test(folding_is_ascii), cmocka_unit_test(trim_and_cut),
        cmocka_unit_test(parse_u64), cmocka_unit_test(compare),          cmocka_unit_test(list_order),
        cmocka_unit_test(secrets),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
