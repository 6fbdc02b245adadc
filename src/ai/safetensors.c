/* Reading safetensors. The header is parsed for each tensor that is asked for: a model has three, and is opened once. */
#include "ai/safetensors.h"

#include "proto/json.h"

#include <errno.h>

#define HEADER_MAX (16u << 20)
#define STEP 8u /* columns converted together */

static const struct {
    struct view name;
    unsigned size;
} types[] = {
    [TENSOR_F64] = { { "F64", 3 }, 8 },   [TENSOR_F32] = { { "F32", 3 }, 4 }, [TENSOR_F16] = { { "F16", 3 }, 2 },
    [TENSOR_BF16] = { { "BF16", 4 }, 2 }, [TENSOR_I64] = { { "I64", 3 }, 8 }, [TENSOR_I32] = { { "I32", 3 }, 4 },
    [TENSOR_I8] = { { "I8", 2 }, 1 },
};

static int refuse(struct text *reason, int error, const char *why)
{
    text_put(reason, view_str(why));
    return error;
}

/* Type, shape and place of a tensor whose entry is object `at`; `data` is everything behind the header. */
static int read_tensor(const struct json *doc, uint32_t at, struct view data, struct safetensors_tensor *ret,
                       struct text *reason)
{
    uint32_t type = json_get_typed(doc, at, VIEW("dtype"), JSON_STRING);
    uint32_t shape = json_get_typed(doc, at, VIEW("shape"), JSON_ARRAY);
    uint32_t offsets = json_get_typed(doc, at, VIEW("data_offsets"), JSON_ARRAY);
    struct safetensors_tensor tensor = { .rows = 1, .cols = 1 };
    uint64_t begin, end, size, elements;
    unsigned found = 0;

    if (!type || !shape || !offsets || doc->tokens[offsets].count != 2 ||
        !json_u64(doc, json_first(doc, offsets), &begin) ||
        !json_u64(doc, json_after(doc, json_first(doc, offsets)), &end) || begin > end || end > data.len)
        return refuse(reason, -EINVAL, "a tensor lies outside of the file");
    while (found < ARRAY_LEN(types) && !json_is(doc, type, types[found].name))
        found++;
    if (found == ARRAY_LEN(types))
        return refuse(reason, -ENOTSUP, "numbers are none of F64, F32, F16, BF16, I64, I32, I8");
    if (doc->tokens[shape].count < 1 || doc->tokens[shape].count > 2)
        return refuse(reason, -ENOTSUP, "a tensor has other than one or two dimensions");
    if (!json_u64(doc, json_first(doc, shape), &tensor.rows) ||
        (doc->tokens[shape].count == 2 && !json_u64(doc, json_after(doc, json_first(doc, shape)), &tensor.cols)) ||
        __builtin_mul_overflow(tensor.rows, tensor.cols, &elements) ||
        __builtin_mul_overflow(elements, types[found].size, &size) || size != end - begin)
        return refuse(reason, -EINVAL, "a tensor's shape does not fit its data");
    tensor.type = (enum safetensors_type)found;
    tensor.data = (const uint8_t *)data.ptr + begin;
    *ret = tensor;
    return 0;
}

int safetensors_find(struct view file, struct view name, struct safetensors_tensor *ret, struct text *reason)
{
    struct json doc = { 0 };
    uint64_t len = 0;
    size_t at;
    int r;

    for (unsigned i = 8; i-- > 0 && file.len >= 8;)
        len = len << 8 | (uint8_t)file.ptr[i];
    if (file.len < 8 || len > file.len - 8 || len > HEADER_MAX)
        return refuse(reason, -EINVAL, "no safetensors header");
    switch (json_parse(&doc, view_make(file.ptr + 8, len), JSON_LIMITS, &at)) {
    case JSON_OK: r = json_type(&doc, 0) == JSON_OBJECT ? 0 : -EINVAL; break;
    case JSON_NO_MEMORY: r = -ENOMEM; break;
    default: r = -EINVAL; break;
    }
    if (r == 0) {
        uint32_t entry = json_get_typed(&doc, 0, name, JSON_OBJECT);

        r = entry ? read_tensor(&doc, entry, view_skip(file, 8 + len), ret, reason) : -ENOENT;
    } else {
        text_lit(reason, "the safetensors header is not read");
    }
    json_free(&doc);
    return r;
}

static float from_bits(uint32_t bits)
{
    float value;

    memcpy(&value, &bits, sizeof(value));
    return value;
}

/* IEEE half precision. Exponent and fraction moved to where a float has them are a number too small by 2^112, be it normal or subnormal; only
 * infinity and what is no number need their exponent set. No branches: this runs for every element of a row. */
static float from_half(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, magnitude = (uint32_t)(half & 0x7fff) << 13, bits;
    float scaled = from_bits(magnitude) * 0x1p112f;

    memcpy(&bits, &scaled, sizeof(bits));
    return from_bits(sign | bits | (magnitude >= 0x7c00u << 13 ? 0x7f800000u : 0));
}

static const uint8_t *place(const struct safetensors_tensor *tensor, uint64_t row, uint64_t col)
{
    return tensor->data + (row * tensor->cols + col) * types[tensor->type].size;
}

double safetensors_number(const struct safetensors_tensor *tensor, uint64_t row, uint64_t col)
{
    const uint8_t *at = place(tensor, row, col);
    double wide;
    float narrow;
    int64_t integer;
    int32_t word;
    uint16_t half;

    switch (tensor->type) {
    case TENSOR_F64: memcpy(&wide, at, sizeof(wide)); return wide;
    case TENSOR_F32: memcpy(&narrow, at, sizeof(narrow)); return (double)narrow;
    case TENSOR_F16: memcpy(&half, at, sizeof(half)); return (double)from_half(half);
    case TENSOR_BF16: memcpy(&half, at, sizeof(half)); return (double)from_bits((uint32_t)half << 16);
    case TENSOR_I64: memcpy(&integer, at, sizeof(integer)); return (double)integer;
    case TENSOR_I32: memcpy(&word, at, sizeof(word)); return (double)word;
    case TENSOR_I8: return (double)(int8_t)*at;
    }
    return 0;
}

/* STEP columns at `at` as floats, for the types that models really have. */
static bool convert(enum safetensors_type type, const uint8_t *at, float out[STEP])
{
    uint16_t halves[STEP];

    switch (type) {
    case TENSOR_F32: memcpy(out, at, STEP * sizeof(*out)); return true;
    case TENSOR_F16:
        memcpy(halves, at, sizeof(halves));
        for (unsigned i = 0; i < STEP; i++)
            out[i] = from_half(halves[i]);
        return true;
    case TENSOR_BF16:
        memcpy(halves, at, sizeof(halves));
        for (unsigned i = 0; i < STEP; i++)
            out[i] = from_bits((uint32_t)halves[i] << 16);
        return true;
    default: return false;
    }
}

void safetensors_add_row(const struct safetensors_tensor *tensor, uint64_t row, float weight, float *out)
{
    uint64_t col = 0;
    float some[STEP];

    for (; col + STEP <= tensor->cols && convert(tensor->type, place(tensor, row, col), some); col += STEP)
        for (unsigned i = 0; i < STEP; i++)
            out[col + i] += weight * some[i];
    for (; col < tensor->cols; col++)
        out[col] += weight * (float)safetensors_number(tensor, row, col);
}
