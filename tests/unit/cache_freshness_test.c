#include "message_fixture.h"

#include "cache/freshness.h"

#define NOW_S 784111777 /* Sun, 06 Nov 1994 08:49:37 GMT */
#define NOW_MS ((int64_t)NOW_S * 1000)
#define DATE "Date: Sun, 06 Nov 1994 08:49:37 GMT\n"
#define LATER "Sun, 06 Nov 1994 08:50:37 GMT"   /* 60 s */
#define EARLIER "Sun, 06 Nov 1994 08:32:57 GMT" /* 1000 s */

static struct freshness fresh_of(const char *lines, uint16_t status, const struct freshness_policy *policy)
{
    struct message m;
    struct freshness f;

    freshness_compute(message_of(&m, lines), status, policy, NOW_MS, NOW_MS, &f);
    return f;
}

static void test_order_of_sources(void **state)
{
    /* Proves targeted > s-maxage > max-age > Expires - Date > route ttl > heuristic, and each trap in between. */
    static const struct {
        const char *lines;
        uint16_t status;
        int64_t lifetime_s;
        enum freshness_source source;
        enum freshness_field field;
    } cases[] = {
        { DATE "Cache-Control: max-age=5, s-maxage=7\nExpires: " LATER, 200, 7, FRESHNESS_S_MAXAGE, FRESHNESS_CC },
        { DATE "Cache-Control: max-age=5\nExpires: " LATER, 200, 5, FRESHNESS_MAX_AGE, FRESHNESS_CC },
        { DATE "Cache-Control: foo\nExpires: " LATER, 200, 60, FRESHNESS_EXPIRES, FRESHNESS_CC },
        { DATE "Expires: Sun, 06 Nov 1994 08:49:37 GMT", 200, 0, FRESHNESS_EXPIRES, FRESHNESS_CC },
        { DATE "Expires: " EARLIER, 200, 0, FRESHNESS_EXPIRES, FRESHNESS_CC },
        { DATE "Expires: 0", 200, 0, FRESHNESS_EXPIRES, FRESHNESS_CC },
        { DATE "Expires: Sun, 06 Nov 1994 08:50:37 UTC", 200, 0, FRESHNESS_EXPIRES, FRESHNESS_CC },
        { DATE "Expires: " LATER "\nExpires: " LATER, 200, 0, FRESHNESS_EXPIRES, FRESHNESS_CC },
        { DATE "Expires: Sunday, 06-Nov-94 08:50:37 GMT", 200, 60, FRESHNESS_EXPIRES, FRESHNESS_CC },
        { DATE "Expires: Sun Nov  6 08:50:37 1994", 200, 60, FRESHNESS_EXPIRES, FRESHNESS_CC },
        { "Expires: " LATER, 200, 60, FRESHNESS_EXPIRES, FRESHNESS_CC },
        { DATE "Cache-Control: max-age='5'\nExpires: " LATER, 200, 0, FRESHNESS_MAX_AGE, FRESHNESS_CC },
        { DATE "Cache-Control: max-age=99999999999", 200, CC_SECONDS_MAX, FRESHNESS_MAX_AGE, FRESHNESS_CC },
        { DATE "CDN-Cache-Control: max-age=9\nCache-Control: no-store, s-maxage=1", 200, 9, FRESHNESS_MAX_AGE,
          FRESHNESS_CDN_CC },
        { DATE "Doorstep-Cache-Control: max-age=3\nCDN-Cache-Control: max-age=9", 200, 3, FRESHNESS_MAX_AGE,
          FRESHNESS_DOORSTEP_CC },
        { DATE "Doorstep-Cache-Control: x=\nCDN-Cache-Control: max-age=9", 200, 9, FRESHNESS_MAX_AGE,
          FRESHNESS_CDN_CC },
        { DATE "CDN-Cache-Control:\nCache-Control: max-age=4", 200, 4, FRESHNESS_MAX_AGE, FRESHNESS_CC },
        { DATE "CDN-Cache-Control: foo\nExpires: " LATER, 200, 0, FRESHNESS_NONE, FRESHNESS_CDN_CC },
        { DATE "Last-Modified: " EARLIER, 200, 100, FRESHNESS_HEURISTIC, FRESHNESS_CC },
        { DATE "Last-Modified: Thu, 01 Jan 1970 00:00:00 GMT", 200, 86400, FRESHNESS_HEURISTIC, FRESHNESS_CC },
        { DATE "Last-Modified: " LATER, 200, 0, FRESHNESS_NONE, FRESHNESS_CC },
        { DATE "Last-Modified: " EARLIER, 302, 0, FRESHNESS_NONE, FRESHNESS_CC },
        { DATE "Last-Modified: " EARLIER "\nCache-Control: public", 599, 100, FRESHNESS_HEURISTIC, FRESHNESS_CC },
        { DATE "Cache-Control: max-age=5", 599, 5, FRESHNESS_MAX_AGE, FRESHNESS_CC },
        { DATE, 200, 0, FRESHNESS_NONE, FRESHNESS_CC },
    };
    struct freshness_policy policy;

    (void)state;
    freshness_policy_init(&policy);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct freshness f = fresh_of(cases[i].lines, cases[i].status, &policy);

        if (f.times.lifetime_ms != cases[i].lifetime_s * 1000 || f.source != cases[i].source ||
            f.field != cases[i].field)
            fail_msg("case %zu: %lld ms, source %d, field %d\n%s", i, (long long)f.times.lifetime_ms, (int)f.source,
                     (int)f.field, cases[i].lines);
    }
}

static void test_route_times(void **state)
{
    /* Proves where ttl, ttl_min and ttl_max sit, and that ttl never covers a status nobody would guess about. */
    struct freshness_policy p;
    struct freshness f;

    (void)state;
    freshness_policy_init(&p);
    p.ttl_ms = 30000;
    f = fresh_of(DATE "Last-Modified: " EARLIER, 200, &p);
    assert_true(f.source == FRESHNESS_ROUTE_TTL && f.times.lifetime_ms == 30000 && !f.is_explicit);
    assert_int_equal(fresh_of(DATE, 500, &p).source, FRESHNESS_NONE);
    assert_int_equal(fresh_of(DATE "Cache-Control: max-age=5", 200, &p).times.lifetime_ms, 5000);
    p.ttl_min_ms = 10000;
    f = fresh_of(DATE "Cache-Control: max-age=5", 200, &p);
    assert_true(f.times.lifetime_ms == 10000 && f.clamped && f.is_explicit);
    p.ttl_max_ms = 8000;
    assert_int_equal(fresh_of(DATE "Cache-Control: max-age=5", 200, &p).times.lifetime_ms, 8000);
    assert_int_equal(fresh_of(DATE, 200, &p).times.lifetime_ms, 8000);
    assert_int_equal(fresh_of(DATE, 500, &p).times.lifetime_ms, 0);
}

static void test_age(void **state)
{
    /* Proves corrected initial age: max(apparent, Age + delay), Age by its first member only, and residence on top. */
    static const struct {
        const char *lines;
        int64_t request_ms, response_ms, initial_ms;
    } cases[] = {
        { DATE, NOW_MS, NOW_MS, 0 },
        { DATE "Age: 10", NOW_MS, NOW_MS, 10000 },
        { DATE "Age: 10, 20", NOW_MS, NOW_MS, 10000 },
        { DATE "Age: 10\nAge: 20", NOW_MS, NOW_MS, 10000 },
        { DATE "Age: 007", NOW_MS, NOW_MS, 7000 },
        { DATE "Age: -1", NOW_MS, NOW_MS, 0 },
        { DATE "Age: 10s", NOW_MS, NOW_MS, 0 },
        { DATE "Age: 1.5", NOW_MS, NOW_MS, 0 },
        { DATE "Age: x, 10", NOW_MS, NOW_MS, 0 },
        { DATE "Age: 99999999999999999999", NOW_MS, NOW_MS, CC_SECONDS_MAX * 1000 },
        { DATE "Age: 1", NOW_MS, NOW_MS + 2500, 3500 },
        { DATE, NOW_MS + 100000, NOW_MS + 100000, 100000 },
        { DATE "Age: 99", NOW_MS + 100000, NOW_MS + 102000, 102000 },
        { DATE, NOW_MS + 900, NOW_MS + 1100, 200 },  /* made during the exchange: a new second is no second of age */
        { DATE, NOW_MS - 50000, NOW_MS - 50000, 0 }, /* the origin's clock is ahead */
        { "Age: 3", NOW_MS, NOW_MS, 3000 },
    };
    struct freshness_policy policy;
    struct freshness f;

    (void)state;
    freshness_policy_init(&policy);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct message m;

        freshness_compute(message_of(&m, cases[i].lines), 200, &policy, cases[i].request_ms, cases[i].response_ms, &f);
        if (f.times.initial_age_ms != cases[i].initial_ms)
            fail_msg("case %zu: %lld", i, (long long)f.times.initial_age_ms);
    }
    f = fresh_of(DATE "Age: 10\nCache-Control: max-age=60", 200, &policy);
    assert_int_equal(object_age_ms(&f.times, NOW_MS + 5000), 15000);
    assert_int_equal(object_ttl_ms(&f.times, NOW_MS + 5000), 45000);
    assert_int_equal(object_age_ms(&f.times, NOW_MS - 5000), 10000);
}

static void test_windows_and_flags(void **state)
{
    /* Proves that stale windows come from the response, then the route, and vanish where stale is forbidden. */
    static const struct {
        const char *cc;
        int64_t swr_ms, sie_ms;
        uint32_t flags;
    } cases[] = {
        { "max-age=1", 7000, 8000, 0 },
        { "max-age=1, stale-while-revalidate=2, stale-if-error=3", 2000, 3000, 0 },
        { "max-age=1, stale-while-revalidate=0", 0, 8000, 0 },
        { "max-age=1, must-revalidate, stale-while-revalidate=2", 0, 0, OBJECT_MUST_REVALIDATE },
        { "max-age=1, proxy-revalidate, stale-if-error=2", 0, 0, OBJECT_MUST_REVALIDATE },
        { "no-cache, stale-while-revalidate=2", 0, 0, OBJECT_NO_CACHE },
        { "no-cache=\"x\", max-age=1", 0, 0, OBJECT_NO_CACHE },
        { "s-maxage=1", 0, 0, OBJECT_MUST_REVALIDATE },
        { "s-maxage=1, stale-while-revalidate=2", 2000, 0, OBJECT_MUST_REVALIDATE },
        { "max-age=1, immutable", 7000, 8000, OBJECT_IMMUTABLE },
    };
    struct freshness_policy policy;

    (void)state;
    freshness_policy_init(&policy);
    policy.swr_ms = 7000;
    policy.sie_ms = 8000;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char memory[256];
        struct text t = TEXT_ON(memory);
        struct freshness f;

        text_printf(&t, DATE "Cache-Control: %s", cases[i].cc);
        f = fresh_of(text_str(&t), 200, &policy);
        if (f.times.swr_ms != cases[i].swr_ms || f.times.sie_ms != cases[i].sie_ms || f.object_flags != cases[i].flags)
            fail_msg("%s: %lld %lld %x", cases[i].cc, (long long)f.times.swr_ms, (long long)f.times.sie_ms,
                     f.object_flags);
    }
    freshness_policy_init(&policy);
    assert_int_equal(fresh_of(DATE "Cache-Control: max-age=1", 200, &policy).times.swr_ms, -1);
    assert_true(fresh_of(DATE "Last-Modified: " EARLIER, 200, &policy).object_flags & OBJECT_HEURISTIC);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_of_sources),
        cmocka_unit_test(test_route_times),
        cmocka_unit_test(test_age),
        cmocka_unit_test(test_windows_and_flags),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
