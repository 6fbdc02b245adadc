/* What verification teaches: at which similarity answers were right and wrong. Pure. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define LEARN_STEPS 20
#define LEARN_STEP 0.005f /* the steps lie between 0.9 and 1; lower similarities count as the first */

struct learned {
    uint16_t right[LEARN_STEPS], wrong[LEARN_STEPS];
};

void learned_add(struct learned *l, float similarity, bool correct);
/* The lowest similarity, at least `floor`, above which the expected share of wrong answers is at most `rate`: the mean of a beta
 * distribution that starts at `rate` with the weight of 1 / rate verdicts, so that one wrong verdict closes its step until about 1 / rate
 * right ones have come. 2 when none is good enough. */
float learned_threshold(const struct learned *l, float floor, double rate);
/* Wilson's 95 % interval of `wrong` in `count`; 0 and 1 when count is 0. */
void learned_interval(uint64_t wrong, uint64_t count, double *ret_low, double *ret_high);
