/* Tokens in thousandths. Every change is one atomic addition; the most it holds is enforced when it is filled, so a race between
 * loops may overshoot by a request, never by more. */
#include "upstream/budget.h"

#include "base/compiler.h"

#define TOKEN 1000

static int64_t most(const struct budget *b)
{
    return ((int64_t)b->per_second + b->percent) * TOKEN;
}

void budget_init(struct budget *budget, uint32_t percent, uint32_t per_second, uint64_t now_ms)
{
    budget->percent = percent;
    budget->per_second = per_second;
    atomic_init(&budget->tokens, (int64_t)per_second * TOKEN);
    atomic_init(&budget->filled_ms, now_ms);
}

static void add(struct budget *b, int64_t tokens)
{
    int64_t now = atomic_load_explicit(&b->tokens, memory_order_relaxed), sum;

    do {
        sum = MIN(now + tokens, most(b));
    } while (!atomic_compare_exchange_weak_explicit(&b->tokens, &now, sum, memory_order_relaxed, memory_order_relaxed));
}

void budget_deposit(struct budget *budget)
{
    add(budget, (int64_t)budget->percent * (TOKEN / 100));
}

bool budget_take(struct budget *budget, uint64_t now_ms)
{
    uint64_t filled = atomic_load_explicit(&budget->filled_ms, memory_order_relaxed);
    int64_t now;

    /* Whoever moves the time forward brings what it earned. */
    if (now_ms > filled && atomic_compare_exchange_strong_explicit(&budget->filled_ms, &filled, now_ms,
                                                                   memory_order_relaxed, memory_order_relaxed))
        add(budget, (int64_t)MIN(now_ms - filled, (uint64_t)1000) * budget->per_second);
    now = atomic_load_explicit(&budget->tokens, memory_order_relaxed);
    while (now >= TOKEN)
        if (atomic_compare_exchange_weak_explicit(&budget->tokens, &now, now - TOKEN, memory_order_relaxed,
                                                  memory_order_relaxed))
            return true;
    return false;
}
