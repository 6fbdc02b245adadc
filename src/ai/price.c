/* Prices: looked up and multiplied. The entries lie in the order in which they win, so the first that fits is the answer; each
 * borrows its texts from one block of the file's decoded strings. */
#include "ai/price_internal.h"

#include "base/glob.h"
#include "base/heap.h"

#define MILLION 1000000u
#define DAY_MS 86400000

void prices_free(struct prices *prices)
{
    if (!prices)
        return;
    heap_free(prices->items);
    buf_free(&prices->texts);
    heap_free(prices);
}

unsigned prices_count(const struct prices *prices)
{
    return prices->count;
}

struct view prices_currency(const struct prices *prices)
{
    return prices->currency;
}

bool price_find(const struct prices *prices, struct view provider, struct view model, int32_t day, struct price *ret)
{
    for (unsigned i = 0; i < prices->count; i++) {
        const struct price *price = &prices->items[i];

        if (day < price->from || day >= price->until || !glob_match(price->model, model) ||
            (price->provider.len && !glob_match(price->provider, provider)))
            continue;
        *ret = *price;
        return true;
    }
    return false;
}

int32_t price_day(int64_t wall_ms)
{
    return (int32_t)(MIN(MAX(wall_ms, 0), (int64_t)INT32_MAX * DAY_MS) / DAY_MS);
}

/* From token-prices (tokens * micro-units per million) to micro-units, up, with the price of the request itself. 128 bits hold
 * five products of 64 by 64 bits only when prices are bounded, which they are where they are read (PRICE_MAX). */
static int64_t rounded_up(unsigned __int128 exact, int64_t per_request)
{
    unsigned __int128 micro = (exact + MILLION - 1) / MILLION + (uint64_t)per_request;

    return micro > INT64_MAX ? INT64_MAX : (int64_t)micro;
}

static unsigned __int128 times(uint64_t tokens, uint64_t price)
{
    return (unsigned __int128)tokens * price;
}

int64_t price_cost(const struct price *price, const struct ai_usage *usage)
{
    uint64_t plain = usage->input - MIN(usage->input, usage->cached);
    uint64_t spoken = usage->output - MIN(usage->output, usage->reasoning);

    plain -= MIN(plain, usage->cache_write);
    return rounded_up(times(plain, price->input) + times(usage->cached, price->cached_input) +
                          times(usage->cache_write, price->cache_write) + times(spoken, price->output) +
                          times(usage->reasoning, price->reasoning),
                      price->per_request);
}

int64_t price_bound(const struct price *price, uint64_t input_max, uint64_t output_max)
{
    uint64_t in = MAX(price->input, MAX(price->cached_input, price->cache_write));

    return rounded_up(times(input_max, in) + times(output_max, MAX(price->output, price->reasoning)),
                      price->per_request);
}
