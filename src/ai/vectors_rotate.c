/* Random signs, then a Walsh-Hadamard transform: an orthogonal turn in n log n additions. It needs a power of two, so other lengths turn
 * their first and their last 2^k dimensions by turns, which overlap: after two rounds everything has met everything.
 *
 * The signs come from a counter hashed with a constant, so they never change: rows that were saved stay good (VECTORS_FORM). */
#include "ai/vectors_rotate.h"

#include <math.h>
#include <stdint.h>

static uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* `round` picks other signs; `len` is a power of two. */
static void turn(float *x, unsigned len, unsigned round)
{
    float scale = 1.0f / sqrtf((float)len);
    uint64_t signs = 0;

    for (unsigned i = 0; i < len; i++, signs >>= 1) {
        if (i % 64 == 0)
            signs = mix((uint64_t)round << 32 | i);
        x[i] = signs & 1 ? -x[i] * scale : x[i] * scale;
    }
    for (unsigned half = 1; half < len; half *= 2) {
        for (unsigned start = 0; start < len; start += 2 * half) {
            for (unsigned i = start; i < start + half; i++) {
                float a = x[i], b = x[i + half];

                x[i] = a + b;
                x[i + half] = a - b;
            }
        }
    }
}

void vectors_rotate(float *x, unsigned dims)
{
    unsigned len = 1;

    while (len * 2 <= dims)
        len *= 2;
    turn(x, len, 0);
    if (len == dims)
        return;
    turn(x + (dims - len), len, 1);
    turn(x, len, 2);
    turn(x + (dims - len), len, 3);
}
