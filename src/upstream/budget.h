/* A budget for extra requests (retries, hedges): a share of the ordinary ones plus some per second, so that extra requests never
 * feed an outage. A bucket of tokens; any thread may call everything but init. Time is an argument. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct budget {
    uint32_t percent;       /* of ordinary requests */
    uint32_t per_second;    /* besides */
    _Atomic int64_t tokens; /* thousandths */
    _Atomic uint64_t filled_ms;
};

/* Full at first: what one second and a hundred requests bring is also the most it holds. */
void budget_init(struct budget *budget, uint32_t percent, uint32_t per_second, uint64_t now_ms);
/* An ordinary request was made. */
void budget_deposit(struct budget *budget);
/* May an extra one be made? True takes it from the budget. */
bool budget_take(struct budget *budget, uint64_t now_ms);
