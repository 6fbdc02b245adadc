/* Thresholds from verdicts, and how sure we are of a rate. */
#include "ai/semantic_learn.h"

#include <math.h>

static unsigned step_of(float similarity)
{
    float at = (similarity - 0.9f) / LEARN_STEP;

    return at < 0 ? 0 : at >= LEARN_STEPS ? LEARN_STEPS - 1 : (unsigned)at;
}

void learned_add(struct learned *l, float similarity, bool correct)
{
    uint16_t *at = correct ? &l->right[step_of(similarity)] : &l->wrong[step_of(similarity)];

    if (*at < UINT16_MAX)
        (*at)++;
}

float learned_threshold(const struct learned *l, float floor, double rate)
{
    double right = 0, wrong = 0, weight = 1 / rate;
    float lowest = 2;

    for (unsigned i = LEARN_STEPS; i-- > 0;) {
        float from = 0.9f + LEARN_STEP * (float)i;

        right += l->right[i];
        wrong += l->wrong[i];
        if (l->wrong[i] > 0 && (wrong + 1) / (right + wrong + weight) > rate)
            break;
        lowest = i == 0 ? 0 : from;
    }
    return lowest > floor ? lowest : floor;
}

void learned_interval(uint64_t wrong, uint64_t count, double *ret_low, double *ret_high)
{
    const double z = 1.959964;
    double n = (double)count, p = count ? (double)wrong / n : 0, middle, half;

    if (count == 0) {
        *ret_low = 0;
        *ret_high = 1;
        return;
    }
    middle = (p + z * z / (2 * n)) / (1 + z * z / n);
    half = z / (1 + z * z / n) * sqrt(p * (1 - p) / n + z * z / (4 * n * n));
    *ret_low = wrong == 0 ? 0 : fmax(0, middle - half);
    *ret_high = wrong == count ? 1 : fmin(1, middle + half);
}
