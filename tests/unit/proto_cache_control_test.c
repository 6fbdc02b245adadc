#include "message_fixture.h"

#include "proto/cache_control.h"

static void test_list_form(void **state)
{
    /* Proves how directives are split and which numbers count (RFC 9111 §4.2.1, §5.2). */
    static const struct {
        const char *line;
        uint32_t flags;
        int64_t max_age, s_maxage;
    } cases[] = {
        { "max-age=3600", 0, 3600, -1 },
        { "Max-Age=3600, S-MAXAGE=10", 0, 3600, 10 },
        { "max-age=\"3600\"", 0, 3600, -1 },
        { "max-age='3600'", CC_BAD_AGE, 0, -1 },
        { "max-age=007", 0, 7, -1 },
        { "max-age=99999999999999999999999", 0, CC_SECONDS_MAX, -1 },
        { "max-age=2147483648", 0, CC_SECONDS_MAX, -1 },
        { "max-age=-1", CC_BAD_AGE, 0, -1 },
        { "max-age=1.5", CC_BAD_AGE, 0, -1 },
        { "max-age=3600a", CC_BAD_AGE, 0, -1 },
        { "max-age", CC_BAD_AGE, 0, -1 },
        { "max-age=", CC_BAD_AGE, 0, -1 },
        { "max-age =3600", CC_BAD_AGE, 0, -1 },
        { "max-age= 3600", CC_BAD_AGE, 0, -1 },
        { "max-age=1, max-age=3600", 0, 1, -1 },
        { "max-age=3600, max-age=1", 0, 3600, -1 },
        { "foo=\"max-age=60, no-store\", max-age=5", 0, 5, -1 },
        { "foo=\"a\\\", no-store\", max-age=5", 0, 5, -1 },
        { "foo=\"open, no-store, max-age=5", 0, -1, -1 },
        { ",, no-store ,,", CC_NO_STORE, -1, -1 },
        { "no-store=x", CC_NO_STORE, -1, -1 },
        { "NO-CACHE", CC_NO_CACHE, -1, -1 },
        { "no-cache=\"set-cookie, a\", max-age=5", CC_NO_CACHE, 5, -1 },
        { "private=\"x\"", CC_PRIVATE, -1, -1 },
        { "public, immutable, must-revalidate, proxy-revalidate, must-understand, no-transform",
          CC_PUBLIC | CC_IMMUTABLE | CC_MUST_REVALIDATE | CC_PROXY_REVALIDATE | CC_MUST_UNDERSTAND | CC_NO_TRANSFORM,
          -1, -1 },
        { "unknown, community=\"UCI\"", 0, -1, -1 },
        { "no-storex, xno-store", 0, -1, -1 },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct cache_control cc;

        cache_control_init(&cc);
        cache_control_add(&cc, view_str(cases[i].line));
        if ((cc.flags & ~(uint32_t)CC_PRESENT) != cases[i].flags || cc.max_age != cases[i].max_age ||
            cc.s_maxage != cases[i].s_maxage)
            fail_msg("%s: flags %x max-age %lld s-maxage %lld", cases[i].line, cc.flags, (long long)cc.max_age,
                     (long long)cc.s_maxage);
    }
}

static void test_request_wishes(void **state)
{
    /* Proves the request's directives, and that Pragma counts only without Cache-Control. */
    struct message m;
    struct cache_control cc;

    (void)state;
    cache_control_parse_request(message_of(&m, "Cache-Control: max-stale\nCache-Control: min-fresh=5, only-if-cached"),
                                &cc);
    assert_int_equal(cc.flags, CC_PRESENT | CC_MAX_STALE_ANY | CC_ONLY_IF_CACHED);
    assert_int_equal(cc.min_fresh, 5);
    cache_control_parse_request(message_of(&m, "Cache-Control: max-stale=60, stale-if-error=9"), &cc);
    assert_int_equal(cc.max_stale, 60);
    assert_int_equal(cc.sie, 9);
    cache_control_parse_request(message_of(&m, "Cache-Control: max-stale=x"), &cc);
    assert_true(cc.max_stale == -1 && !(cc.flags & CC_MAX_STALE_ANY));
    cache_control_parse_request(message_of(&m, "Pragma: foo, No-Cache"), &cc);
    assert_true(cc.flags & CC_NO_CACHE);
    cache_control_parse_request(message_of(&m, "Pragma: no-cache\nCache-Control: max-age=1"), &cc);
    assert_false(cc.flags & CC_NO_CACHE);
}

static void test_targeted(void **state)
{
    /* Proves that a targeted field is a dictionary: taken whole when valid, ignored whole when invalid or empty. */
    static const struct {
        const char *lines;
        bool valid;
        uint32_t flags;
        int64_t max_age;
    } cases[] = {
        { "CDN-Cache-Control: max-age=60", true, 0, 60 },
        { "CDN-Cache-Control: max-age=60, no-store", true, CC_NO_STORE, 60 },
        { "CDN-Cache-Control: no-store, no-store=?0", true, 0, -1 },
        { "CDN-Cache-Control: max-age=1, max-age=9", true, 0, 9 },
        { "CDN-Cache-Control: max-age=60;x=1", true, 0, 60 },
        { "CDN-Cache-Control: max-age=-5", true, CC_BAD_AGE, 0 },
        { "CDN-Cache-Control: max-age=\"60\"", true, CC_BAD_AGE, 0 },
        { "CDN-Cache-Control: max-age=9999999999", true, 0, CC_SECONDS_MAX },
        { "CDN-Cache-Control: max-age=5\nCDN-Cache-Control: private", true, CC_PRIVATE, 5 },
        { "CDN-Cache-Control: max-age=60, &&&&", false, 0, 0 },
        { "CDN-Cache-Control: Max-Age=60", false, 0, 0 },
        { "CDN-Cache-Control: max-age =60", false, 0, 0 },
        { "CDN-Cache-Control: max-age='60'", false, 0, 0 },
        { "CDN-Cache-Control:", false, 0, 0 },
        { "Cache-Control: max-age=60", false, 0, 0 },
        { "CDN-Cache-Control: max-age=60\nCDN-Cache-Control: a=", false, 0, 0 },
        { "CDN-Cache-Control: other=(a b)", true, 0, -1 },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct message m;
        struct cache_control cc;

        if (cache_control_parse_targeted(message_of(&m, cases[i].lines), FIELD_CDN_CACHE_CONTROL, &cc) !=
            cases[i].valid)
            fail_msg("%s", cases[i].lines);
        if (cases[i].valid && ((cc.flags & ~(uint32_t)CC_PRESENT) != cases[i].flags || cc.max_age != cases[i].max_age))
            fail_msg("%s: %x %lld", cases[i].lines, cc.flags, (long long)cc.max_age);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_list_form),
        cmocka_unit_test(test_request_wishes),
        cmocka_unit_test(test_targeted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
