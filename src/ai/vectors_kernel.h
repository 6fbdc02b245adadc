/* The two inner loops of the vector index, in the best form this machine has. */
#pragma once

#include <stdint.h>

/* Entries scored at once. */
#define VECTORS_GROUP 32
/* Largest value in a table, so that four of them add up in a byte. */
#define VECTORS_TABLE_MAX 63

/* Codes of a group: for each nibble position (four dimensions) 16 bytes; byte j holds the nibble of entry j low and that of entry
 * j + 16 high. `table` has 16 bytes for each position: what a nibble there is worth. `positions` is a multiple of 16, at most 1,024. */
struct vectors_kernel {
    const char *name;
    /* Writes the sums of all 32 entries; bit j of the answer: that of entry j is at least `threshold`. */
    uint32_t (*score)(const uint8_t *codes, const uint8_t *table, unsigned positions, uint16_t threshold,
                      uint16_t *scores);
    /* Sum of products; `len` is a multiple of 32 and the result fits. */
    int32_t (*dot)(const int8_t *row, const int16_t *query, unsigned len);
};

/* The one chosen at first use. Any thread. */
const struct vectors_kernel *vectors_kernel_get(void);
