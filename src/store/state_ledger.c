/* Rows in a batch: an image of the numbers, then the texts. A batch never leaves the process, so the image is the machine's own. */
#include "store/state_ledger.h"

#include <assert.h>

#define NUMBERS 13

struct image {
    int64_t time_ms;
    uint64_t numbers[NUMBERS];
    uint32_t attempts;
    uint16_t status, similarity;
    uint8_t endpoint, outcome, tier, estimated;
    uint8_t lens[LEDGER_TEXTS];
};

static_assert(sizeof(struct image) + LEDGER_TEXTS * LEDGER_TEXT_MAX <= LEDGER_ROW_MAX, "a row fits");

/* The texts in the order of the image. */
static void list_texts(const struct ledger_row *row, struct view ret[LEDGER_TEXTS])
{
    const struct view texts[LEDGER_TEXTS] = { row->request_id,   row->tenant,     row->key,   row->route,
                                              row->client_model, row->provider,   row->model, row->region,
                                              row->error_class,  row->other_model };

    memcpy(ret, texts, sizeof(texts));
}

bool state_ledger_put(struct text *batch, const struct ledger_row *row)
{
    struct image image = {
        .time_ms = row->time_ms,
        .numbers = { row->input, row->cached, row->cache_write, row->output, row->reasoning, row->tokens,
                     (uint64_t)row->reserved, (uint64_t)row->cost, (uint64_t)row->saved, (uint64_t)row->first_token_us,
                     (uint64_t)row->duration_us, row->other_tokens, (uint64_t)row->other_cost },
        .attempts = row->attempts,
        .status = row->status,
        .similarity = row->similarity,
        .endpoint = row->endpoint,
        .outcome = row->outcome,
        .tier = row->tier,
        .estimated = row->estimated,
    };
    struct view texts[LEDGER_TEXTS];
    size_t len = sizeof(image);

    list_texts(row, texts);
    for (unsigned i = 0; i < LEDGER_TEXTS; i++) {
        texts[i] = view_first(texts[i], LEDGER_TEXT_MAX);
        image.lens[i] = (uint8_t)texts[i].len;
        len += texts[i].len;
    }
    if (len > batch->cap - batch->len)
        return false;
    text_put(batch, view_make((const char *)&image, sizeof(image)));
    for (unsigned i = 0; i < LEDGER_TEXTS; i++)
        text_put(batch, texts[i]);
    return true;
}

bool state_ledger_take(struct view *batch, struct ledger_row *ret)
{
    struct view texts[LEDGER_TEXTS];
    struct image image;

    if (batch->len < sizeof(image))
        return false;
    memcpy(&image, batch->ptr, sizeof(image));
    *batch = view_skip(*batch, sizeof(image));
    for (unsigned i = 0; i < LEDGER_TEXTS; i++) {
        texts[i] = view_first(*batch, image.lens[i]);
        *batch = view_skip(*batch, image.lens[i]);
    }
    *ret = (struct ledger_row){
        .time_ms = image.time_ms,
        .request_id = texts[0],
        .tenant = texts[1],
        .key = texts[2],
        .route = texts[3],
        .client_model = texts[4],
        .provider = texts[5],
        .model = texts[6],
        .region = texts[7],
        .error_class = texts[8],
        .other_model = texts[9],
        .input = image.numbers[0],
        .cached = image.numbers[1],
        .cache_write = image.numbers[2],
        .output = image.numbers[3],
        .reasoning = image.numbers[4],
        .tokens = image.numbers[5],
        .reserved = (int64_t)image.numbers[6],
        .cost = (int64_t)image.numbers[7],
        .saved = (int64_t)image.numbers[8],
        .first_token_us = (int64_t)image.numbers[9],
        .duration_us = (int64_t)image.numbers[10],
        .other_tokens = image.numbers[11],
        .other_cost = (int64_t)image.numbers[12],
        .attempts = image.attempts,
        .status = image.status,
        .similarity = image.similarity,
        .endpoint = image.endpoint,
        .outcome = image.outcome,
        .tier = image.tier,
        .estimated = image.estimated != 0,
    };
    return true;
}
