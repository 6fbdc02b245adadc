#include "message_fixture.h"

#include "proto/date.h"

#define NOW 1700000000 /* 14 Nov 2023 */

static void test_accepts_three_forms(void **state)
{
    /* Proves that the three forms of RFC 9110 §5.6.7 mean the same second, and where a two-digit year falls. */
    static const struct {
        const char *text;
        int64_t seconds;
    } cases[] = {
        { "Sun, 06 Nov 1994 08:49:37 GMT", 784111777 },
        { "Sunday, 06-Nov-94 08:49:37 GMT", 784111777 },
        { "Sun Nov  6 08:49:37 1994", 784111777 },
        { "Thu, 01 Jan 1970 00:00:00 GMT", 0 },
        { "Wed, 31 Dec 1969 23:59:59 GMT", -1 },
        { "Thu, 29 Feb 2024 12:00:00 GMT", 1709208000 },
        { "Fri, 31 Dec 9999 23:59:59 GMT", 253402300799 },
        { "Sat, 31 Dec 2016 23:59:60 GMT", 1483228800 },
        { "Wednesday, 01-Jan-70 00:00:00 GMT", 3155760000 }, /* 2070: 47 years ahead */
        { "Tuesday, 01-Jan-74 00:00:00 GMT", 126230400 },    /* 2074 would be 51 ahead */
        { "Mon Nov 14 08:49:37 2022", 1668415777 },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int64_t got = 0;

        if (!date_parse(view_str(cases[i].text), NOW, &got) || got != cases[i].seconds)
            fail_msg("%s: %lld", cases[i].text, (long long)got);
    }
}

static void test_refuses_everything_else(void **state)
{
    /* Proves strictness: wrong case, zone, digits, spaces, separators and impossible days are no dates. */
    static const char *const cases[] = {
        "",
        "0",
        "-1",
        "Sun",
        "sun, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 gmt",
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 +0000",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sun, 06  Nov 1994 08:49:37 GMT",
        "Sun 06 Nov 1994 08:49:37 GMT",
        "Sun, 06-Nov-1994 08:49:37 GMT",
        "Sun, 06 Nov 94 08:49:37 GMT",
        "Sun, 06 Nov 1994 8:49:37 GMT",
        "Sun, 06 Nov 1994 24:49:37 GMT",
        "Sun, 06 Nov 1994 08:60:37 GMT",
        "Sun, 06 Nov 1994 08:49:61 GMT",
        "Sun, 00 Nov 1994 08:49:37 GMT",
        "Sun, 31 Nov 1994 08:49:37 GMT",
        "Tue, 29 Feb 2023 00:00:00 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT ",
        " Sun, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
        "Sun Nov 6 08:49:37 1994",
        "Sun Nov 06 08:49:37 94",
        "Sunday, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08.49.37 GMT",
        "Thu, 18 Aug 2050 02:01:18 AEST",
        "Thu,  18 Aug 2050 02:01:18 GMT",
        "Sunday, 06-Nov-1994 08:49:37 GMT",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int64_t got = 42;

        if (date_parse(view_str(cases[i]), NOW, &got) || got != 42)
            fail_msg("accepted: %s", cases[i]);
    }
}

static void test_round_trip(void **state)
{
    /* Proves that what we write we read back, over leap years, centuries and the clamped ends. */
    char out[DATE_LEN];

    (void)state;
    for (int64_t s = -62167219200; s < 253402300799; s += 86400LL * 97 + 12345) {
        int64_t got = 0;

        date_format(s, out);
        assert_true(date_parse(view_make(out, DATE_LEN), NOW, &got));
        assert_true(got == s);
    }
    date_format(INT64_MAX, out);
    assert_view(view_make(out, DATE_LEN), "Fri, 31 Dec 9999 23:59:59 GMT");
    date_format(784111777, out);
    assert_view(view_make(out, DATE_LEN), "Sun, 06 Nov 1994 08:49:37 GMT");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accepts_three_forms),
        cmocka_unit_test(test_refuses_everything_else),
        cmocka_unit_test(test_round_trip),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
