/* Rate limits: a minute's worth at once, then as fast as it fills; all subjects or none; fields as the clients read them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ai/rate.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define T0 1000000000u
#define SECOND 1000000u

static struct rates *rates;

static int begin(void **state)
{
    (void)state;
    return rate_new(&(struct rate_options){ 0 }, &rates);
}

static int end(void **state)
{
    (void)state;
    rate_free(rates);
    return 0;
}

static struct rate_result take(uint64_t now_us, struct rate_subject subject, uint64_t tokens)
{
    struct rate_result result;

    rate_take(rates, now_us, &subject, 1, tokens, &result);
    return result;
}

static void requests_per_minute(void **unused)
{
    /* As many as the limit at once, then one each 60/limit seconds; the numbers say how many are left and when it is full. */
    struct rate_subject subject = { .kind = 'k', .name = VIEW("a"), .requests = 60 };
    struct rate_result r;

    (void)unused;
    for (unsigned i = 0; i < 60; i++) {
        r = take(T0, subject, 0);
        assert_true(r.allowed);
        assert_int_equal(r.requests_meter.limit, 60);
        assert_int_equal(r.requests_meter.remaining, 59 - i);
        assert_int_equal(r.requests_meter.reset_ms, (i + 1) * 1000);
        assert_int_equal(r.tokens_meter.limit, 0);
    }
    r = take(T0, subject, 0);
    assert_false(r.allowed || r.tokens);
    assert_int_equal(r.retry_after_s, 1);
    assert_int_equal(r.requests_meter.remaining, 0);
    assert_false(take(T0 + SECOND - 1, subject, 0).allowed);
    assert_true(take(T0 + SECOND, subject, 0).allowed);
    assert_false(take(T0 + SECOND, subject, 0).allowed);
    assert_int_equal(take(T0 + 3600ull * SECOND, subject, 0).requests_meter.remaining, 59);
}

static void tokens_are_corrected(void **unused)
{
    /* An estimate is taken, the difference to the real number is given back or taken, also below empty; a request larger than the
     * limit counts as one minute's worth and is not refused for ever. */
    struct rate_subject subject = { .kind = 't', .name = VIEW("a"), .tokens = 60000 };
    struct rate_result r = take(T0, subject, 50000);

    (void)unused;
    assert_true(r.allowed);
    assert_int_equal(r.tokens_meter.remaining, 10000);
    r = take(T0, subject, 20000);
    assert_false(r.allowed);
    assert_true(r.tokens);
    assert_int_equal(r.retry_after_s, 10);
    assert_int_equal(r.tokens_meter.remaining, 10000);
    rate_correct(rates, T0, &subject, 1, 50000, 10000);
    assert_int_equal(take(T0, subject, 0).tokens_meter.remaining, 50000);
    rate_correct(rates, T0, &subject, 1, 0, 110000); /* a minute below empty */
    r = take(T0, subject, 1);
    assert_false(r.allowed);
    assert_int_equal(r.retry_after_s, 60);
    assert_int_equal(r.tokens_meter.remaining, 0);
    assert_true(take(T0 + 120ull * SECOND, subject, 1000000).allowed);
    assert_false(take(T0 + 120ull * SECOND, subject, 1).allowed);
    rate_correct(rates, T0 + 120ull * SECOND, &subject, 1, 1000000, 0);
    assert_int_equal(take(T0 + 120ull * SECOND, subject, 0).tokens_meter.remaining, 60000);
}

static void all_or_none(void **unused)
{
    /* What one subject refuses is not taken from the others; the meter shows the subject with least left. */
    struct rate_subject subjects[] = {
        { .kind = 'k', .name = VIEW("same"), .requests = 100, .tokens = 1000 },
        { .kind = 't', .name = VIEW("same"), .requests = 3 },
    };
    struct rate_result r;

    (void)unused;
    for (int i = 0; i < 3; i++) {
        rate_take(rates, T0, subjects, 2, 10, &r);
        assert_true(r.allowed);
        assert_int_equal(r.requests_meter.limit, 3);
        assert_int_equal(r.requests_meter.remaining, 2 - i);
    }
    for (int i = 0; i < 5; i++) {
        rate_take(rates, T0, subjects, 2, 10, &r);
        assert_false(r.allowed);
        assert_int_equal(r.subject, 1);
        assert_int_equal(r.retry_after_s, 20);
    }
    rate_take(rates, T0, subjects, 1, 0, &r);
    assert_int_equal(r.requests_meter.remaining, 96);
    assert_int_equal(r.tokens_meter.remaining, 970);
    rate_take(rates, T0, subjects, 0, 10, &r);
    assert_true(r.allowed);
    assert_int_equal(r.requests_meter.limit, 0);
}

static void fields_of_both_dialects(void **unused)
{
    /* The names and forms that the official SDKs and their users know. */
    char memory[1024];
    struct text out = TEXT_ON(memory);
    struct rate_result r = { .allowed = false,
                             .retry_after_s = 7,
                             .requests_meter = { 60, 59, 120 },
                             .tokens_meter = { 150000, 149984, 360000 } };

    (void)unused;
    rate_put_headers(&out, AI_OPENAI, &r, 0);
    assert_string_equal(text_str(&out), "x-ratelimit-limit-requests: 60\r\nx-ratelimit-remaining-requests: 59\r\n"
                                        "x-ratelimit-reset-requests: 120ms\r\nx-ratelimit-limit-tokens: 150000\r\n"
                                        "x-ratelimit-remaining-tokens: 149984\r\nx-ratelimit-reset-tokens: 6m0s\r\n"
                                        "retry-after: 7\r\n");
    out.len = 0;
    r.allowed = true;
    r.requests_meter.reset_ms = 61250;
    r.tokens_meter.limit = 0;
    rate_put_headers(&out, AI_OPENAI, &r, 0);
    assert_non_null(strstr(text_str(&out), "reset-requests: 1m1.25s\r\n"));
    out.len = 0;
    rate_put_headers(&out, AI_ANTHROPIC, &r, 1700000000000);
    assert_string_equal(text_str(&out), "anthropic-ratelimit-requests-limit: 60\r\n"
                                        "anthropic-ratelimit-requests-remaining: 59\r\n"
                                        "anthropic-ratelimit-requests-reset: 2023-11-14T22:14:22Z\r\n");
}

static _Atomic unsigned allowed;

static void *take_many(void *arg)
{
    struct rate_subject subjects[] = { { .kind = 'k', .name = VIEW("a"), .requests = 1000, .tokens = 0 },
                                       { .kind = 'r', .name = VIEW("b"), .requests = 5000, .tokens = 70000 } };
    struct rate_result r;

    (void)arg;
    for (int i = 0; i < 2000; i++) {
        rate_take(rates, T0, subjects, 2, 10, &r);
        allowed += r.allowed;
    }
    return NULL;
}

static void threads_share_a_limit(void **unused)
{
    /* Many threads together are allowed what one would be. */
    pthread_t threads[4];

    (void)unused;
    allowed = 0;
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, take_many, NULL);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(allowed, 1000);
}

static void many_names_are_bounded(void **unused)
{
    /* More names than buckets: nobody is refused who should not be. */
    char name[32];

    (void)unused;
    for (int i = 0; i < 200000; i++) {
        snprintf(name, sizeof(name), "name-%d", i);
        assert_true(take(T0, (struct rate_subject){ .kind = 'k', .name = view_str(name), .requests = 1 }, 0).allowed);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(requests_per_minute),     TEST(tokens_are_corrected),  TEST(all_or_none),
        TEST(fields_of_both_dialects), TEST(threads_share_a_limit), TEST(many_names_are_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
