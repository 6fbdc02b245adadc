#include "message_fixture.h"

#include "cache/decide.h"

#define S ((int64_t)1000)
#define NOW ((int64_t)1700000000 * S)

enum { RESULT_NONE = -1 };

struct one {
    const char *request;
    unsigned flags;
    int64_t age_s, lifetime_s, swr_s, sie_s;
    enum verdict verdict;
    enum why why;
};

static void object_fill(struct object *o, const struct one *c)
{
    memset(o, 0, sizeof(*o));
    o->status = 200;
    atomic_store(&o->flags, c->flags);
    o->times = (struct object_times){ .response_ms = NOW - c->age_s * S,
                                      .lifetime_ms = c->lifetime_s * S,
                                      .swr_ms = c->swr_s * S,
                                      .sie_ms = c->sie_s * S,
                                      .last_modified_s = -1 };
}

static struct decision ask(const struct one *c, const struct decide_policy *policy, struct decide_input *input,
                           struct object *object, int status)
{
    struct message m;
    struct cache_control cc;

    object_fill(object, c);
    cache_control_parse_request(message_of(&m, c->request), &cc);
    *input = (struct decide_input){
        .stored = object, .method = METHOD_GET, .request = &cc, .policy = policy, .now_ms = NOW
    };
    return status == RESULT_NONE ? decide(input) : decide_on_error(input, (uint16_t)status);
}

static void check(const struct one *cases, size_t count, const struct decide_policy *policy, int status)
{
    for (size_t i = 0; i < count; i++) {
        struct decide_input input;
        struct object object;
        struct decision d = ask(&cases[i], policy, &input, &object, status);

        if (d.verdict != cases[i].verdict || d.why != cases[i].why)
            fail_msg("case %zu (%s): %.*s %.*s", i, cases[i].request, VIEW_ARG(verdict_name(d.verdict)),
                     VIEW_ARG(why_name(d.why)));
        assert_int_equal(d.background, d.verdict == VERDICT_STALE_SERVE && d.why == WHY_STALE_REVALIDATE);
        assert_int_equal(d.age_ms, cases[i].age_s * S);
    }
}

#define CC "Cache-Control: "

static void test_wishes_and_windows(void **state)
{
    /* Proves what a stored response and a request's wishes lead to under RFC 9111, 5861 and 8246. */
    static const struct one cases[] = {
        { "", 0, 10, 60, -1, -1, VERDICT_FRESH, WHY_FRESH },
        { "", 0, 60, 60, -1, -1, VERDICT_REVALIDATE, WHY_EXPIRED },
        { "", 0, 61, 60, 5, -1, VERDICT_STALE_SERVE, WHY_STALE_REVALIDATE },
        { "", 0, 65, 60, 5, -1, VERDICT_REVALIDATE, WHY_EXPIRED },
        { "", 0, 61, 60, 0, -1, VERDICT_REVALIDATE, WHY_EXPIRED },
        { "", OBJECT_MUST_REVALIDATE, 61, 60, 5, -1, VERDICT_STALE_SERVE,
          WHY_STALE_REVALIDATE }, /* s-maxage with its own swr */
        { "", OBJECT_NO_CACHE, 1, 60, 0, 0, VERDICT_REVALIDATE, WHY_NO_CACHE },
        { CC "max-stale", OBJECT_NO_CACHE, 1, 60, 0, 0, VERDICT_REVALIDATE, WHY_NO_CACHE },
        { CC "no-cache", 0, 10, 60, -1, -1, VERDICT_REVALIDATE, WHY_REQUEST_NO_CACHE },
        { "Pragma: no-cache", 0, 10, 60, -1, -1, VERDICT_REVALIDATE, WHY_REQUEST_NO_CACHE },
        { CC "max-age=9", 0, 10, 60, -1, -1, VERDICT_REVALIDATE, WHY_REQUEST_MAX_AGE },
        { CC "max-age=10", 0, 10, 60, -1, -1, VERDICT_FRESH, WHY_FRESH },
        { CC "max-age=0", 0, 10, 60, -1, -1, VERDICT_REVALIDATE, WHY_REQUEST_MAX_AGE },
        { CC "max-age=0", OBJECT_IMMUTABLE, 10, 60, -1, -1, VERDICT_FRESH, WHY_FRESH },
        { CC "max-age=1", OBJECT_IMMUTABLE, 10, 60, -1, -1, VERDICT_REVALIDATE, WHY_REQUEST_MAX_AGE },
        { CC "no-cache", OBJECT_IMMUTABLE, 10, 60, -1, -1, VERDICT_REVALIDATE, WHY_REQUEST_NO_CACHE },
        { CC "max-age=0", OBJECT_IMMUTABLE, 70, 60, -1, -1, VERDICT_REVALIDATE, WHY_REQUEST_MAX_AGE },
        { CC "max-age=100", 0, 61, 60, 5, -1, VERDICT_REVALIDATE, WHY_EXPIRED },
        { CC "min-fresh=50", 0, 10, 60, -1, -1, VERDICT_FRESH, WHY_FRESH },
        { CC "min-fresh=51", 0, 10, 60, -1, -1, VERDICT_REVALIDATE, WHY_REQUEST_MIN_FRESH },
        { CC "max-stale", 0, 999, 60, -1, -1, VERDICT_STALE_SERVE, WHY_STALE_CLIENT },
        { CC "max-stale=10", 0, 70, 60, -1, -1, VERDICT_STALE_SERVE, WHY_STALE_CLIENT },
        { CC "max-stale=10", 0, 71, 60, -1, -1, VERDICT_REVALIDATE, WHY_EXPIRED },
        { CC "max-stale", OBJECT_MUST_REVALIDATE, 61, 60, 0, 0, VERDICT_REVALIDATE, WHY_EXPIRED },
        { CC "only-if-cached", 0, 10, 60, -1, -1, VERDICT_FRESH, WHY_FRESH },
        { CC "only-if-cached", 0, 61, 60, -1, -1, VERDICT_REFUSE, WHY_ONLY_IF_CACHED },
        { CC "only-if-cached, max-stale", 0, 61, 60, -1, -1, VERDICT_STALE_SERVE, WHY_STALE_CLIENT },
    };
    static const struct one deaf[] = {
        { CC "no-cache", 0, 10, 60, -1, -1, VERDICT_FRESH, WHY_FRESH },
        { CC "max-stale", 0, 61, 60, -1, -1, VERDICT_REVALIDATE, WHY_EXPIRED },
    };
    struct decide_policy policy;

    (void)state;
    decide_policy_init(&policy);
    check(cases, ARRAY_LEN(cases), &policy, RESULT_NONE);
    policy.ignore_client_cache_control = true;
    check(deaf, ARRAY_LEN(deaf), &policy, RESULT_NONE);
}

static void test_errors(void **state)
{
    /* Proves who may get a stale answer when the origin is gone (0) or answers 5xx. */
    static const struct one gone[] = {
        { "", 0, 100, 60, -1, -1, VERDICT_STALE_SERVE, WHY_STALE_DISCONNECTED },
        { "", 0, 60 + 86400, 60, -1, -1, VERDICT_STALE_SERVE, WHY_STALE_DISCONNECTED },
        { "", 0, 61 + 86400, 60, -1, -1, VERDICT_REFUSE, WHY_STALE_TOO_OLD },
        { "", 0, 61 + 86400, 60, -1, 999999, VERDICT_STALE_SERVE, WHY_STALE_IF_ERROR },
        { "", OBJECT_MUST_REVALIDATE, 61, 60, 0, 0, VERDICT_REFUSE, WHY_STALE_FORBIDDEN },
        { "", OBJECT_MUST_REVALIDATE, 61, 60, 0, 9, VERDICT_STALE_SERVE, WHY_STALE_IF_ERROR },
        { "", OBJECT_NO_CACHE, 61, 60, 0, 0, VERDICT_REFUSE, WHY_STALE_FORBIDDEN },
        { CC "no-cache", OBJECT_MUST_REVALIDATE, 10, 60, 0, 0, VERDICT_STALE_SERVE, WHY_STALE_DISCONNECTED },
    };
    static const struct one failed[] = {
        { "", 0, 61, 60, -1, -1, VERDICT_REFUSE, WHY_STALE_TOO_OLD },
        { "", 0, 61, 60, -1, 5, VERDICT_STALE_SERVE, WHY_STALE_IF_ERROR },
        { "", 0, 66, 60, -1, 5, VERDICT_REFUSE, WHY_STALE_TOO_OLD },
        { CC "stale-if-error=10", 0, 66, 60, -1, -1, VERDICT_STALE_SERVE, WHY_STALE_IF_ERROR },
        { CC "stale-if-error=10", OBJECT_MUST_REVALIDATE, 66, 60, 0, 0, VERDICT_REFUSE, WHY_STALE_FORBIDDEN },
    };
    static const struct one any = { "", 0, 61, 60, -1, 5, VERDICT_REFUSE, WHY_ORIGIN_STATUS };
    struct decide_policy policy;
    struct decide_input input;
    struct object object;

    (void)state;
    decide_policy_init(&policy);
    check(gone, ARRAY_LEN(gone), &policy, 0);
    check(failed, ARRAY_LEN(failed), &policy, 503);
    check(&any, 1, &policy, 501);
    check(&any, 1, &policy, 404);
    assert_int_equal(ask(&any, &policy, &input, &object, 503).verdict, VERDICT_STALE_SERVE);
    object.status = 500; /* a stored 5xx replaces nothing */
    input.request = NULL;
    assert_int_equal(decide_on_error(&input, 503).verdict, VERDICT_REFUSE);
    input.stored = NULL;
    assert_int_equal(decide_on_error(&input, 0).why, WHY_ORIGIN_ERROR);
    policy.max_stale_on_error_ms = 0;
    assert_int_equal(ask(&gone[0], &policy, &input, &object, 0).verdict, VERDICT_REFUSE);
}

static void test_guarantees(void **state)
{
    /* Proves what each guarantee adds or forbids. */
    static const struct one stale = {
        "", OBJECT_MUST_REVALIDATE, 999999, 60, 0, 0, VERDICT_STALE_SERVE, WHY_STALE_AVAILABLE
    };
    static const struct one past = { "", 0, 70, 60, 100, 100, VERDICT_REVALIDATE, WHY_STALE_BOUND };
    static const struct one within = { "", 0, 64, 60, 100, 100, VERDICT_STALE_SERVE, WHY_STALE_REVALIDATE };
    static const struct one past_error = { "", 0, 70, 60, 100, 100, VERDICT_REFUSE, WHY_STALE_BOUND };
    static const struct one fresh = { "", 0, 1, 60, -1, -1, VERDICT_REVALIDATE, WHY_GUARANTEE_ORIGIN };
    static const struct one fresh_error = { "", 0, 1, 60, -1, 9, VERDICT_REFUSE, WHY_ORIGIN_ERROR };
    struct decide_policy policy;
    struct decide_input input;
    struct object object;

    (void)state;
    decide_policy_init(&policy);
    policy.guarantee = GUARANTEE_AVAILABLE;
    check(&stale, 1, &policy, 0);
    check(&stale, 1, &policy, 503);
    policy.guarantee = GUARANTEE_BOUNDED;
    policy.max_stale_ms = 5 * S;
    check(&past, 1, &policy, RESULT_NONE);
    check(&within, 1, &policy, RESULT_NONE);
    check(&past_error, 1, &policy, 0);
    policy.guarantee = GUARANTEE_ORIGIN;
    check(&fresh, 1, &policy, RESULT_NONE);
    check(&fresh_error, 1, &policy, 0);
    policy.guarantee = GUARANTEE_SESSION;
    assert_int_equal(ask(&fresh, &policy, &input, &object, RESULT_NONE).verdict, VERDICT_FRESH);
    input.request = NULL;
    input.session_behind = true;
    assert_int_equal(decide(&input).why, WHY_GUARANTEE_SESSION);
    assert_int_equal(decide_on_error(&input, 0).verdict, VERDICT_REFUSE);
}

static void test_without_object(void **state)
{
    /* Proves the misses: which reason, and who may share a fill. */
    struct decide_policy policy;
    struct decide_input input = { .method = METHOD_GET, .policy = &policy, .now_ms = NOW };
    struct object object;
    static const struct one purged = { "", 0, 1, 60, 5, -1, VERDICT_FRESH, WHY_FRESH };

    (void)state;
    decide_policy_init(&policy);
    assert_true(decide(&input).why == WHY_MISS_URI && decide(&input).may_collapse);
    input.other_variants = true;
    assert_int_equal(decide(&input).why, WHY_MISS_VARY);
    input.passing = true;
    assert_true(decide(&input).why == WHY_PASS_MARKER && !decide(&input).may_collapse);
    policy.bypass = true;
    assert_true(decide(&input).why == WHY_BYPASS_ROUTE && !decide(&input).may_collapse);
    input.method = METHOD_POST;
    assert_true(decide(&input).why == WHY_METHOD && decide(&input).verdict == VERDICT_MISS);
    policy.bypass = false;
    (void)ask(&purged, &policy, &input, &object, RESULT_NONE);
    input.request = NULL;
    atomic_store(&object.soft_purged, 1);
    assert_int_equal(decide(&input).why, WHY_STALE_REVALIDATE);
    object.times.swr_ms = -1;
    assert_int_equal(decide(&input).why, WHY_SOFT_PURGED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wishes_and_windows),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_guarantees),
        cmocka_unit_test(test_without_object),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
