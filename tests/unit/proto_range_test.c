#include "message_fixture.h"

#include "proto/range.h"

static void test_range(void **state)
{
    /* Proves forms, order, clamping, coalescing and what is ignored rather than refused (RFC 9110 §14.2). */
    static const struct {
        const char *value;
        uint64_t len;
        enum range_result result;
        const char *ranges;
    } cases[] = {
        { "bytes=0-0", 1000, RANGE_OK, "0-0 " },
        { "bytes=0-", 1000, RANGE_OK, "0-999 " },
        { "bytes=500-5000", 1000, RANGE_OK, "500-999 " },
        { "bytes=-1", 1000, RANGE_OK, "999-999 " },
        { "bytes=-5000", 1000, RANGE_OK, "0-999 " },
        { "Bytes=0-1", 1000, RANGE_OK, "0-1 " },
        { "bytes=0-99999999999999999999999", 1000, RANGE_OK, "0-999 " },
        { "bytes=0-9, 500-509", 1000, RANGE_OK, "0-9 500-509 " },
        { "bytes=500-509,0-9", 1000, RANGE_OK, "500-509 0-9 " },
        { "bytes=,0-9,,", 1000, RANGE_OK, "0-9 " },
        { "bytes=0-9,2000-", 1000, RANGE_OK, "0-9 " },
        { "bytes=500-600,0-9,550-700", 1000, RANGE_OK, "0-9 500-700 " },
        { "bytes=0-9,20-29", 1000, RANGE_OK, "0-29 " },
        { "bytes=0-,0-,0-,0-", 1000, RANGE_OK, "0-999 " },
        { "bytes=1000-", 1000, RANGE_UNSATISFIABLE, "" },
        { "bytes=-0", 1000, RANGE_UNSATISFIABLE, "" },
        { "bytes=0-0", 0, RANGE_UNSATISFIABLE, "" },
        { "bytes=99999999999999999999999-", 1000, RANGE_UNSATISFIABLE, "" },
        { "bytes=-5", 0, RANGE_IGNORE, "" },
        { "bytes=5-4", 1000, RANGE_IGNORE, "" },
        { "bytes=", 1000, RANGE_IGNORE, "" },
        { "bytes=-", 1000, RANGE_IGNORE, "" },
        { "bytes=a-b", 1000, RANGE_IGNORE, "" },
        { "bytes=0 - 5", 1000, RANGE_IGNORE, "" },
        { "bytes 0-5", 1000, RANGE_IGNORE, "" },
        { "items=0-5", 1000, RANGE_IGNORE, "" },
        { "bytes=0-5,x", 1000, RANGE_IGNORE, "" },
        { "bytes=0-5-6", 1000, RANGE_IGNORE, "" },
        { "", 1000, RANGE_IGNORE, "" },
        { "bytes=0-0,100-100,200-200,300-300,400-400,500-500,600-600,700-700,800-800,900-900,1000-1000,1100-1100,"
          "1200-1200,1300-1300,1400-1400,1500-1500,1600-1600",
          5000, RANGE_IGNORE, "" },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct range list[RANGE_MAX];
        size_t count = 0;
        char memory[256];
        struct text out = TEXT_ON(memory);
        enum range_result r = range_parse(view_str(cases[i].value), cases[i].len, list, RANGE_MAX, &count);

        if (r != cases[i].result)
            fail_msg("%s: %d", cases[i].value, r);
        for (size_t j = 0; j < count; j++)
            text_printf(&out, "%llu-%llu ", (unsigned long long)list[j].first, (unsigned long long)list[j].last);
        assert_view(text_view(&out), cases[i].ranges);
    }
}

static void test_single_and_if_range(void **state)
{
    /* Proves the length-free reading of one range, and that If-Range needs a strong match. */
    uint64_t first, last;
    struct view date = VIEW("Sun, 06 Nov 1994 08:49:37 GMT");

    (void)state;
    assert_true(range_parse_single(VIEW("bytes=5-"), &first, &last) && first == 5 && last == UINT64_MAX);
    assert_true(range_parse_single(VIEW("bytes=5-9"), &first, &last) && last == 9);
    assert_false(range_parse_single(VIEW("bytes=-9"), &first, &last));
    assert_false(range_parse_single(VIEW("bytes=1-2,3-4"), &first, &last));
    assert_true(range_if_range(VIEW_NONE, VIEW_NONE, -1, 0));
    assert_true(range_if_range(VIEW("\"a\""), VIEW("\"a\""), -1, 0));
    assert_false(range_if_range(VIEW("\"a\""), VIEW("\"b\""), -1, 0));
    assert_false(range_if_range(VIEW("W/\"a\""), VIEW("W/\"a\""), -1, 0));
    assert_false(range_if_range(VIEW("\"a\""), VIEW("W/\"a\""), -1, 0));
    assert_false(range_if_range(VIEW("\"a\""), VIEW_NONE, -1, 0));
    assert_true(range_if_range(date, VIEW_NONE, 784111777, 784111778));
    assert_false(range_if_range(date, VIEW_NONE, 784111777, 784111777)); /* weak: changed within this second */
    assert_false(range_if_range(date, VIEW_NONE, 784111776, 784119999)); /* must be equal, not just earlier */
    assert_false(range_if_range(VIEW("yesterday"), VIEW_NONE, 784111777, 784119999));
}

static void test_content_range(void **state)
{
    /* Proves that only a strict Content-Range is believed. */
    static const char *const bad[] = { "",
                                       "bytes",
                                       "bytes 0-9",
                                       "bytes 5-4/10",
                                       "bytes 0-10/10",
                                       "bytes 0-9/10x",
                                       "bytes  0-9/10",
                                       "bytes 0-9/",
                                       "bytes */*",
                                       "bytes -9/10",
                                       "bytes 0-/10",
                                       "items 0-9/10",
                                       "bytes=0-9/10",
                                       "bytes 0-9 /10",
                                       "bytes 0-9/99999999999999999999",
                                       "bytes +0-9/10",
                                       "bytes 0-9/10, bytes 0-9/10" };
    struct content_range r;
    char memory[64];
    struct text out = TEXT_ON(memory);

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (content_range_parse(view_str(bad[i]), &r))
            fail_msg("accepted <%s>", bad[i]);
    assert_true(content_range_parse(VIEW("bytes 0-9/10"), &r) && r.complete == 10 && r.last == 9 && r.complete_known);
    assert_true(content_range_parse(VIEW("bytes 5-9/*"), &r) && r.first == 5 && !r.complete_known);
    assert_true(content_range_parse(VIEW("bytes */10"), &r) && r.unsatisfied && r.complete == 10);
    content_range_put(&out, (struct range){ 1, 2 }, 3);
    text_char(&out, ' ');
    content_range_put_unsatisfied(&out, 7);
    assert_view(text_view(&out), "bytes 1-2/3 bytes */7");
}

static void test_multipart(void **state)
{
    /* Proves that the announced length of a multipart body is what its parts add up to, with and without a type. */
    static const struct range list[] = { { 0, 9 }, { 500, 1499 }, { 123456, 123456 } };

    (void)state;
    for (int typed = 0; typed < 2; typed++) {
        struct view type = typed ? VIEW("text/plain") : VIEW_NONE;
        char memory[1024];
        struct text out = TEXT_ON(memory);
        uint64_t total = 0;

        for (size_t i = 0; i < ARRAY_LEN(list); i++) {
            range_part_head(&out, VIEW("BOUND"), type, list[i], 200000, i == 0);
            total += list[i].last - list[i].first + 1;
        }
        range_part_end(&out, VIEW("BOUND"));
        assert_true(total + out.len == range_multipart_len(list, ARRAY_LEN(list), VIEW("BOUND"), type, 200000));
        assert_true(view_starts_with(text_view(&out), VIEW("--BOUND\r\nContent-")));
        assert_true(view_ends_with(text_view(&out), VIEW("\r\n--BOUND--\r\n")));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_range),
        cmocka_unit_test(test_single_and_if_range),
        cmocka_unit_test(test_content_range),
        cmocka_unit_test(test_multipart),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
