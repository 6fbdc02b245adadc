/* Prices: read exactly or refused with the place and what would be right; the entry that is meant is found; costs are exact. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/glob.h"
#include "ai/price.h"

#include <errno.h>
#include <stdlib.h>

static char reason_memory[512];

static struct prices *parsed(const char *json)
{
    struct text reason = TEXT_ON(reason_memory);
    struct prices *prices;

    if (prices_parse(VIEW("p.json"), view_str(json), &prices, &reason) < 0)
        fail_msg("%s", text_str(&reason));
    return prices;
}

static void refused(const char *json, const char *words)
{
    struct text reason = TEXT_ON(reason_memory);
    struct prices *prices;

    assert_int_equal(prices_parse(VIEW("p.json"), view_str(json), &prices, &reason), -EINVAL);
    if (!strstr(text_str(&reason), words))
        fail_msg("\"%s\" is not in: %s", words, reason_memory);
}

static void mistakes_are_told(void **unused)
{
    /* What is wrong is said with its line, and with what would be right. */
    (void)unused;
    refused("{", "p.json:1: ");
    refused("[]", "\"prices\"");
    refused("{\"prices\":[],\n\"price\":1}", "p.json:2: \"price\": no such member; known: currency");
    refused("{\"prices\":[\n\n{\"model\":\"a\",\"input\":1,\"output\":\"2\"}]}",
            "p.json:3: output \"2\": a price for a million tokens is wanted, like 0.15");
    refused("{\"prices\":[{\"model\":\"a\",\"input\":0.0000001,\"output\":2}]}", "6 decimals");
    refused("{\"prices\":[{\"model\":\"a\",\"input\":1e-3,\"output\":2}]}", "input 1e-3");
    refused("{\"prices\":[{\"model\":\"a\",\"input\":-1,\"output\":2}]}", "input -1");
    refused("{\"prices\":[{\"model\":\"a\",\"input\":15000000,\"output\":2}]}", "below 1000000");
    refused("{\"prices\":[{\"model\":\"a\",\"input\":1}]}", "needs \"input\" and \"output\"");
    refused("{\"prices\":[{\"input\":1,\"output\":1}]}", "needs a \"model\"");
    refused("{\"prices\":[{\"model\":\"\",\"input\":1,\"output\":1}]}", "a name in quotes");
    refused("{\"prices\":[{\"model\":\"a\",\"inputs\":1,\"output\":1}]}", "\"inputs\": no such member");
    refused("{\"prices\":[{\"model\":\"a\",\"from\":\"2025-02-29\",\"input\":1,\"output\":1}]}", "a date is wanted");
    refused(
        "{\"prices\":[{\"model\":\"a\",\"from\":\"2025-03-01\",\"until\":\"2025-03-01\",\"input\":1,\"output\":1}]}",
        "comes after");
    refused("{\"prices\":[{\"model\":\"a\",\"input\":1,\"output\":1},{\"model\":\"a\",\"input\":2,\"output\":1}]}",
            "two prices of \"a\" begin on the same day");
    refused("{\"currency\":\"dollars\",\"prices\":[]}", "three letters");
}

static int64_t input_of(const struct prices *prices, const char *provider, const char *model, int32_t day)
{
    struct price price;

    return price_find(prices, view_str(provider), view_str(model), day, &price) ? (int64_t)price.input : -1;
}

static void the_meant_entry_is_found(void **unused)
{
    /* Exact models before patterns, longer patterns before shorter, named providers before any, the latest date that has begun. */
    struct prices *prices = parsed("{\"currency\":\"EUR\",\"prices\":["
                                   "{\"model\":\"*\",\"input\":9,\"output\":9},"
                                   "{\"model\":\"gpt-*\",\"input\":1,\"output\":1},"
                                   "{\"model\":\"gpt-4*\",\"input\":2,\"output\":1},"
                                   "{\"model\":\"gpt-4o\",\"input\":3,\"output\":1},"
                                   "{\"model\":\"gpt-4o\",\"provider\":\"azure\",\"input\":4,\"output\":1},"
                                   "{\"model\":\"gpt-4o\",\"from\":\"1970-01-11\",\"input\":5,\"output\":1},"
                                   "{\"model\":\"gpt-4o\",\"from\":\"1970-01-21\",\"until\":\"1970-01-31\",\"input\":6,"
                                   "\"output\":1}]}");

    (void)unused;
    assert_int_equal(prices_count(prices), 7);
    assert_true(view_eq(prices_currency(prices), VIEW("EUR")));
    assert_int_equal(input_of(prices, "x", "llama", 1), 9000000);
    assert_int_equal(input_of(prices, "x", "gpt-3", 1), 1000000);
    assert_int_equal(input_of(prices, "x", "gpt-4-turbo", 1), 2000000);
    assert_int_equal(input_of(prices, "x", "gpt-4o", 9), 3000000);
    assert_int_equal(input_of(prices, "azure", "gpt-4o", 9), 4000000);
    assert_int_equal(input_of(prices, "x", "gpt-4o", 10), 5000000);
    assert_int_equal(input_of(prices, "x", "gpt-4o", 20), 6000000);
    assert_int_equal(input_of(prices, "x", "gpt-4o", 29), 6000000);
    assert_int_equal(input_of(prices, "x", "gpt-4o", 30), 5000000);
    prices_free(prices);
    prices = parsed("{\"prices\":[{\"model\":\"a\",\"input\":1,\"output\":1}]}");
    assert_int_equal(input_of(prices, "x", "b", 1), -1);
    prices_free(prices);
}

static void costs_are_exact(void **unused)
{
    /* Every kind of token has its price, the sum is rounded up once, and rubbish from a provider neither wraps nor is free. */
    struct prices *prices =
        parsed("{\"prices\":[{\"model\":\"m\",\"input\":0.15,\"cached_input\":0.075,\"cache_write\":0.2,"
               "\"output\":0.6,\"reasoning\":0.7,\"per_request\":0.000003},"
               "{\"model\":\"n\",\"input\":0.000001,\"output\":2}]}");
    struct ai_usage usage = { .input = 1000, .cached = 100, .cache_write = 50, .output = 200, .reasoning = 30 };
    struct price price;

    (void)unused;
    assert_true(price_find(prices, VIEW("x"), VIEW("m"), 0, &price));
    assert_int_equal(price.input, 150000);
    /* 850 * 0.15 + 100 * 0.075 + 50 * 0.2 + 170 * 0.6 + 30 * 0.7 = 127.5 + 7.5 + 10 + 102 + 21 = 268, and 3 */
    assert_int_equal(price_cost(&price, &usage), 271);
    usage.input++; /* 0.15 more */
    assert_int_equal(price_cost(&price, &usage), 272);
    assert_int_equal(price_bound(&price, 1, 0), 4);
    assert_int_equal(price_bound(&price, 0, 10), 10);
    usage = (struct ai_usage){ .input = 1, .cached = 1000, .output = 1, .reasoning = 1000 };
    assert_int_equal(price_cost(&price, &usage), 75 + 700 + 3);
    usage = (struct ai_usage){ .input = UINT64_MAX, .output = UINT64_MAX };
    assert_true(price_cost(&price, &usage) > 0);
    assert_true(price_bound(&price, UINT64_MAX, UINT64_MAX) >= price_cost(&price, &usage));
    assert_true(price_find(prices, VIEW("x"), VIEW("n"), 0, &price));
    assert_int_equal(price.reasoning, 2000000);
    assert_int_equal(price.cached_input, 1);
    usage = (struct ai_usage){ .input = 1 };
    assert_int_equal(price_cost(&price, &usage), 1);
    usage = (struct ai_usage){ .input = 1000000 };
    assert_int_equal(price_cost(&price, &usage), 1);
    usage = (struct ai_usage){ .input = 1000001 };
    assert_int_equal(price_cost(&price, &usage), 2);
    prices_free(prices);
}

static void no_usage_exceeds_its_bound(void **unused)
{
    /* Random prices and usages within the bounds: the cost is never above the bound, and as 128-bit arithmetic says. */
    unsigned seed = 7;

    (void)unused;
    for (int i = 0; i < 20000; i++) {
        struct price price = { .input = (uint64_t)rand_r(&seed) % 5000000,
                               .cached_input = (uint64_t)rand_r(&seed) % 5000000,
                               .cache_write = (uint64_t)rand_r(&seed) % 5000000,
                               .output = (uint64_t)rand_r(&seed) % 90000000,
                               .reasoning = (uint64_t)rand_r(&seed) % 90000000,
                               .per_request = rand_r(&seed) % 100 };
        uint64_t in = (uint64_t)rand_r(&seed) % 200000, out = (uint64_t)rand_r(&seed) % 20000;
        struct ai_usage usage = { .input = in, .output = out };
        unsigned __int128 exact;
        int64_t cost;

        usage.cached = in ? (uint64_t)rand_r(&seed) % in : 0;
        usage.cache_write = in > usage.cached ? (uint64_t)rand_r(&seed) % (in - usage.cached) : 0;
        usage.reasoning = out ? (uint64_t)rand_r(&seed) % out : 0;
        cost = price_cost(&price, &usage);
        assert_true(cost <= price_bound(&price, in, out));
        exact = (unsigned __int128)(in - usage.cached - usage.cache_write) * price.input +
                usage.cached * price.cached_input + usage.cache_write * price.cache_write +
                (out - usage.reasoning) * price.output + usage.reasoning * price.reasoning;
        assert_int_equal(cost, (int64_t)((exact + 999999) / 1000000) + price.per_request);
    }
}

static void the_example_is_good(void **unused)
{
    /* The file that is shipped is read, and knows the models it names. */
    struct text reason = TEXT_ON(reason_memory);
    struct prices *prices;

    (void)unused;
    if (prices_load("examples/ai/prices.json", &prices, &reason) < 0)
        fail_msg("%s", text_str(&reason));
    assert_int_equal(input_of(prices, "openai", "gpt-4o-mini-2024-07-18", 21000), 150000);
    assert_int_equal(input_of(prices, "openai", "gpt-4o-2024-11-20", 21000), 2500000);
    assert_int_equal(input_of(prices, "anthropic", "claude-sonnet-4-5", 21000), 3000000);
    prices_free(prices);
    reason.len = 0;
    assert_int_equal(prices_load("/nowhere/prices.json", &prices, &reason), -ENOENT);
    assert_non_null(strstr(text_str(&reason), "/nowhere/prices.json: No such file"));
}

static void days_and_patterns(void **unused)
{
    /* Days are UTC; patterns with * fit what they should, in time that does not explode. */
    char name[2000];

    (void)unused;
    assert_int_equal(price_day(0), 0);
    assert_int_equal(price_day(86399999), 0);
    assert_int_equal(price_day(86400000), 1);
    assert_int_equal(price_day(-5), 0);
    assert_true(glob_match(VIEW("*"), VIEW_NONE) && glob_match(VIEW("a*c*e"), VIEW("abcde")));
    assert_false(glob_match(VIEW("a*c"), VIEW("abcd")) || glob_match(VIEW("a"), VIEW("ab")));
    memset(name, 'a', sizeof(name));
    assert_false(glob_match(VIEW("*a*a*a*a*a*a*a*a*a*b"), view_make(name, sizeof(name))));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mistakes_are_told),   cmocka_unit_test(the_meant_entry_is_found),
        cmocka_unit_test(costs_are_exact),     cmocka_unit_test(no_usage_exceeds_its_bound),
        cmocka_unit_test(the_example_is_good), cmocka_unit_test(days_and_patterns),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
