/* Any bytes as a price file: it is refused with a reason, or every price that is found in it costs no more than its bound. */
#include "ai/price.h"
#include "base/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void ask(const struct prices *prices, struct view model)
{
    static const struct ai_usage usages[] = {
        { .input = 1, .output = 1 },
        { .input = 1000, .cached = 10, .cache_write = 20, .output = 77, .reasoning = 70 },
        { .input = UINT64_MAX, .cached = 3, .output = UINT64_MAX, .reasoning = UINT64_MAX },
    };
    struct price price;

    for (int32_t day = 0; day < 30000; day += 9999) {
        if (!price_find(prices, VIEW("openai"), model, day, &price))
            continue;
        CHECK(day >= price.from && day < price.until && price.model.len);
        for (size_t i = 0; i < ARRAY_LEN(usages); i++) {
            int64_t cost = price_cost(&price, &usages[i]);

            CHECK(cost >= 0 && cost <= price_bound(&price, usages[i].input, usages[i].output));
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char memory[1024];
    struct text reason = TEXT_ON(memory);
    struct view input = view_make((const char *)data, MIN(size, (size_t)65536));
    struct prices *prices;

    if (prices_parse(VIEW("prices.json"), input, &prices, &reason) < 0) {
        CHECK(reason.len > 0);
        return 0;
    }
    CHECK(prices_currency(prices).len == 3);
    ask(prices, VIEW("gpt-4o"));
    ask(prices, view_first(input, 6));
    prices_free(prices);
    return 0;
}
