/* A fixed random rotation, the same in every process: it spreads what any one dimension says over all of them. */
#pragma once

/* Turns `dims` (at least 1) floats in place; lengths and angles stay. */
void vectors_rotate(float *x, unsigned dims);
