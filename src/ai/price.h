/* What tokens cost. Money is in micro-units of one currency (1 USD = 1,000,000), prices are in micro-units per million tokens, so a
 * cost is tokens * price / 1,000,000, summed exactly over the kinds of tokens and rounded up once.
 *
 * The file is JSON, with prices as people write them, in the currency per million tokens and at most 6 decimals:
 *
 *   {"currency": "USD", "prices": [
 *     {"provider": "openai", "model": "gpt-4o-mini*", "from": "2024-07-18", "until": "2027-01-01",
 *      "input": 0.15, "cached_input": 0.075, "cache_write": 0.15, "output": 0.6, "reasoning": 0.6, "per_request": 0}]}
 *
 * Left out: provider: any; from, until: always (until is the first day without it); cached_input, cache_write: as input; reasoning:
 * as output; per_request: 0. Of the entries that fit, the most specific model name wins (exact, then the longest pattern), then a
 * provider said by name, then the latest `from`. */
#pragma once

#include "ai/usage.h"
#include "base/text.h"

struct prices;

struct price {
    struct view provider, model;                                  /* of the entry; live as long as the prices */
    int32_t from, until;                                          /* days since 1970; INT32_MIN, INT32_MAX: not said */
    uint64_t input, cached_input, cache_write, output, reasoning; /* micro-units per million tokens */
    int64_t per_request;                                          /* micro-units */
};

/* 0; -EINVAL with what is wrong, where ("prices.json:12: ...") and what would be right; -errno of reading. */
int prices_load(const char *path, struct prices **ret, struct text *reason);
/* The same from memory; `name` is for the messages. */
int prices_parse(struct view name, struct view json, struct prices **ret, struct text *reason);
/* Accepts NULL. Found prices borrow from it. */
void prices_free(struct prices *prices);
unsigned prices_count(const struct prices *prices);
struct view prices_currency(const struct prices *prices);

/* Any thread. False: nothing fits; whether that is refused or free is the caller's policy. */
bool price_find(const struct prices *prices, struct view provider, struct view model, int32_t day, struct price *ret);
/* The UTC day of a wall clock time. */
int32_t price_day(int64_t wall_ms);

/* Exact, rounded up to the micro-unit, at most INT64_MAX. Parts that are more than the whole they are of (a provider's mistake) are
 * all charged. */
int64_t price_cost(const struct price *price, const struct ai_usage *usage);
/* No usage within these numbers costs more. */
int64_t price_bound(const struct price *price, uint64_t input_max, uint64_t output_max);
