/* Any bytes as a safetensors file: a tensor that is found lies inside of it, and all of its numbers can be read. */
#include "ai/safetensors.h"

#include "base/check.h"

#define COLS_MAX 64

static volatile double sink;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct view file = view_make((const char *)data, size);
    struct safetensors_tensor tensor;
    char memory[256];
    struct text reason = TEXT_ON(memory);
    float sum[COLS_MAX] = { 0 };

    if (safetensors_find(file, VIEW("x"), &tensor, &reason) < 0)
        return 0;
    CHECK(tensor.data >= data && tensor.data <= data + size);
    CHECK(tensor.cols == 0 || tensor.rows <= size / tensor.cols);
    for (uint64_t row = 0; row < tensor.rows && tensor.cols; row++) {
        for (uint64_t col = 0; col < tensor.cols; col++)
            sink += safetensors_number(&tensor, row, col);
        if (tensor.cols <= COLS_MAX)
            safetensors_add_row(&tensor, row, 0.5f, sum);
    }
    return 0;
}
