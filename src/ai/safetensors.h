/* The safetensors format: eight bytes of length, a JSON header that names tensors, their data. Read in place: a tensor points into the
 * bytes, which are the caller's (a mapped file) and outlive it. Nothing of the header is believed before it is checked. */
#pragma once

#include "base/text.h"

enum safetensors_type { TENSOR_F64, TENSOR_F32, TENSOR_F16, TENSOR_BF16, TENSOR_I64, TENSOR_I32, TENSOR_I8 };

/* At most two dimensions; a vector has one column. */
struct safetensors_tensor {
    enum safetensors_type type;
    uint64_t rows, cols;
    const uint8_t *data; /* not aligned; all rows * cols elements are there */
};

/* Finds tensor `name` in a file. 0; -ENOENT: no such tensor; -EINVAL: the file is broken; -ENOTSUP: a type or number of dimensions
 * that we do not read; -ENOMEM. But for -ENOENT the reason is appended to *reason. */
int safetensors_find(struct view file, struct view name, struct safetensors_tensor *ret, struct text *reason);

/* out[i] += weight * element i of `row`, for all columns. */
void safetensors_add_row(const struct safetensors_tensor *tensor, uint64_t row, float weight, float *out);
/* One element as a number; integers beyond 2^53 lose their last digits. */
double safetensors_number(const struct safetensors_tensor *tensor, uint64_t row, uint64_t col);
