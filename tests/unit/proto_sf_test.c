#include "message_fixture.h"

#include "proto/sf.h"

#include <errno.h>

static void test_items(void **state)
{
    /* Proves that each bare item type is read with its value, and bad ones are refused. */
    static const struct {
        const char *text;
        int result;
        enum sf_type type;
        int64_t number;
        const char *value;
    } cases[] = {
        { "42", 0, SF_INTEGER, 42, "" },
        { "-0", 0, SF_INTEGER, 0, "" },
        { "  7 ", 0, SF_INTEGER, 7, "" },
        { "007", 0, SF_INTEGER, 7, "" },
        { "999999999999999", 0, SF_INTEGER, 999999999999999, "" },
        { "1000000000000000", -EBADMSG, 0, 0, "" },
        { "1.5", 0, SF_DECIMAL, 1500, "" },
        { "-4.125", 0, SF_DECIMAL, -4125, "" },
        { "1.", -EBADMSG, 0, 0, "" },
        { "1.1234", -EBADMSG, 0, 0, "" },
        { "1234567890123.1", -EBADMSG, 0, 0, "" },
        { "--1", -EBADMSG, 0, 0, "" },
        { "-", -EBADMSG, 0, 0, "" },
        { "\"a b\"", 0, SF_STRING, 0, "a b" },
        { "\"a\\\"b\\\\\"", 0, SF_STRING, 0, "a\"b\\" },
        { "\"a\\n\"", -EBADMSG, 0, 0, "" },
        { "\"open", -EBADMSG, 0, 0, "" },
        { "\"tab\t\"", -EBADMSG, 0, 0, "" },
        { "'x'", -EBADMSG, 0, 0, "" },
        { "foo/bar:baz", 0, SF_TOKEN, 0, "foo/bar:baz" },
        { "*a", 0, SF_TOKEN, 0, "*a" },
        { ":aGVsbG8=:", 0, SF_BYTES, 0, "hello" },
        { ":aGVsbG8:", 0, SF_BYTES, 0, "hello" },
        { "::", 0, SF_BYTES, 0, "" },
        { ":a:", -EBADMSG, 0, 0, "" },
        { ":=aaa:", -EBADMSG, 0, 0, "" },
        { ":aGVs", -EBADMSG, 0, 0, "" },
        { "?1", 0, SF_BOOLEAN, 1, "" },
        { "?0", 0, SF_BOOLEAN, 0, "" },
        { "?2", -EBADMSG, 0, 0, "" },
        { "", -EBADMSG, 0, 0, "" },
        { "a b", -EBADMSG, 0, 0, "" },
        { "a,b", -EBADMSG, 0, 0, "" },
        { "a;", -EBADMSG, 0, 0, "" },
        { "a;A=1", -EBADMSG, 0, 0, "" },
        { "a; b; c=2", 0, SF_TOKEN, 0, "a" },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct sf_item item;
        char memory[64];
        struct text out = TEXT_ON(memory);
        int r = sf_parse_item(view_str(cases[i].text), &item);

        if (r != cases[i].result)
            fail_msg("%s: %d", cases[i].text, r);
        if (r)
            continue;
        assert_int_equal(item.type, cases[i].type);
        assert_true(item.number == cases[i].number);
        if (item.type == SF_STRING)
            sf_string_put(&out, &item);
        else if (item.type == SF_BYTES)
            sf_bytes_put(&out, &item);
        else
            text_put(&out, item.text);
        assert_view(text_view(&out), cases[i].value);
    }
}

static int count_list(const char *text)
{
    struct sf_cursor cursor = sf_cursor(view_str(text));
    struct sf_item item;
    int count = 0, r;

    while ((r = sf_list_next(&cursor, &item)) > 0)
        count++;
    return r < 0 ? r : count;
}

static int count_dict(const char *text)
{
    struct sf_cursor cursor = sf_cursor(view_str(text));
    struct sf_item item;
    struct view key;
    int count = 0, r;

    while ((r = sf_dict_next(&cursor, &key, &item)) > 0)
        count++;
    if (r < 0)
        assert_int_equal(sf_dict_next(&cursor, &key, &item), r);
    return r < 0 ? r : count;
}

static void test_lists_and_dictionaries(void **state)
{
    /* Proves commas, white space, inner lists and that one bad byte spoils the whole field for good. */
    (void)state;
    assert_int_equal(count_list(""), 0);
    assert_int_equal(count_list("a, b ,\tc"), 3);
    assert_int_equal(count_list("a,b,"), -EBADMSG);
    assert_int_equal(count_list(",a"), -EBADMSG);
    assert_int_equal(count_list("a,,b"), -EBADMSG);
    assert_int_equal(count_list("a b"), -EBADMSG);
    assert_int_equal(count_list("(a b), ();x, ( \"1\"  2;y )"), 3);
    assert_int_equal(count_list("(a b"), -EBADMSG);
    assert_int_equal(count_list("(a,b)"), -EBADMSG);
    assert_int_equal(count_list("((a))"), -EBADMSG);
    assert_int_equal(count_list("(a\"b\")"), -EBADMSG);
    assert_int_equal(count_dict("a=1, b, c;x=2, *d=(1 2)"), 4);
    assert_int_equal(count_dict("a=1, a=2"), 2);
    assert_int_equal(count_dict("A=1"), -EBADMSG);
    assert_int_equal(count_dict("a=, b"), -EBADMSG);
    assert_int_equal(count_dict("max-age=10000, &&&&&"), -EBADMSG);
    assert_int_equal(count_dict("a = 1"), -EBADMSG);
}

static void test_nested_iterators(void **state)
{
    /* Proves that parameters and inner members come back in order with their values. */
    struct sf_item list, item;
    struct sf_cursor cursor = sf_cursor(VIEW("(one;q=1 \"two\");p=?0; r"));
    struct sf_cursor inner, params;
    struct view key;

    (void)state;
    assert_int_equal(sf_list_next(&cursor, &list), 1);
    inner = sf_inner(&list);
    assert_int_equal(sf_inner_next(&inner, &item), 1);
    assert_view(item.text, "one");
    assert_view(item.params, ";q=1");
    assert_int_equal(sf_inner_next(&inner, &item), 1);
    assert_view(item.text, "two");
    assert_int_equal(sf_inner_next(&inner, &item), 0);
    params = sf_params(&list);
    assert_int_equal(sf_param_next(&params, &key, &item), 1);
    assert_view(key, "p");
    assert_true(item.type == SF_BOOLEAN && item.number == 0);
    assert_int_equal(sf_param_next(&params, &key, &item), 1);
    assert_view(key, "r");
    assert_true(item.type == SF_BOOLEAN && item.number == 1);
    assert_int_equal(sf_param_next(&params, &key, &item), 0);
}

static void test_serialising(void **state)
{
    /* Proves that any bytes become a valid string, and what may stand as token or key. */
    char memory[64];
    struct text out = TEXT_ON(memory);

    (void)state;
    sf_put_string(&out, VIEW("a\"b\\c\xc3\xa9\n"));
    assert_view(text_view(&out), "\"a\\\"b\\\\c???\"");
    assert_true(sf_is_token(VIEW("uri-miss")) && !sf_is_token(VIEW("1a")) && !sf_is_token(VIEW("a b")));
    assert_true(sf_is_key(VIEW("fwd-status")) && !sf_is_key(VIEW("Fwd")) && !sf_is_key(VIEW("")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_items),
        cmocka_unit_test(test_lists_and_dictionaries),
        cmocka_unit_test(test_nested_iterators),
        cmocka_unit_test(test_serialising),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
