/* Any bytes as a chunked body: the whole and the input cut at every place (short inputs) or at the place the first byte
 * says give the same data, the same trailers and the same end. */
#include "base/check.h"
#include "proto/http1.h"

#include <errno.h>

struct outcome {
    uint64_t data_sum;
    size_t data_len, used;
    int result;
    bool done;
    char memory[256];
    struct text trailers;
};

static void feed(struct http1_chunked *decoder, struct view input, struct outcome *outcome)
{
    size_t start = outcome->used;

    for (;;) {
        struct view data;
        int r = http1_chunked_next(decoder, view_skip(input, outcome->used - start), &data, &outcome->trailers);

        outcome->result = MIN(r, 0);
        if (r < 0)
            return;
        CHECK(outcome->used - start + (size_t)r + data.len <= input.len);
        outcome->used += (size_t)r + data.len;
        for (size_t i = 0; i < data.len; i++)
            outcome->data_sum = outcome->data_sum * 31 + (unsigned char)data.ptr[i];
        outcome->data_len += data.len;
        outcome->done = decoder->done;
        if (r == 0 && data.len == 0)
            return;
    }
}

static void decode(struct view input, size_t cut, struct outcome *outcome)
{
    struct http1_chunked decoder = { 0 };

    *outcome = (struct outcome){ 0 };
    outcome->trailers = TEXT_ON(outcome->memory);
    feed(&decoder, view_first(input, cut), outcome);
    if (outcome->result == 0 && !outcome->done) {
        CHECK(outcome->used == MIN(cut, input.len));
        feed(&decoder, view_skip(input, cut), outcome);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct view input = view_make((const char *)data + 1, size ? size - 1 : 0);
    struct outcome whole, pieces;

    if (size < 1)
        return 0;
    decode(input, input.len, &whole);
    for (size_t cut = input.len < 64 ? 0 : data[0]; cut <= (input.len < 64 ? input.len : data[0]); cut++) {
        decode(input, cut, &pieces);
        CHECK(pieces.result == whole.result);
        if (whole.result < 0)
            continue;
        CHECK(pieces.data_sum == whole.data_sum && pieces.data_len == whole.data_len && pieces.used == whole.used);
        CHECK(pieces.done == whole.done && view_eq(text_view(&pieces.trailers), text_view(&whole.trailers)));
    }
    return 0;
}
