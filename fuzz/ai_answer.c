/* Any bytes as an answer: what is put together is JSON; a plain answer told as a stream is put together again, and told once more it
 * gives the same bytes as before. */
#include "ai/answer.h"
#include "base/check.h"
#include "proto/json.h"

#define OUT_MAX ((size_t)1 << 20)

static void canonical(struct view text, struct buf *out)
{
    struct json doc = { 0 };
    size_t at;

    CHECK(json_parse(&doc, text, JSON_LIMITS, &at) == JSON_OK);
    json_canonical(&doc, 0, NULL, NULL, out);
    json_free(&doc);
}

/* A plain answer that came out of a stream has a normal form: telling and putting together again changes nothing. */
static void round_trip(enum ai_endpoint endpoint, struct view plain)
{
    struct buf stream = buf_make(OUT_MAX), again = buf_make(OUT_MAX), a = buf_make(OUT_MAX), b = buf_make(OUT_MAX);

    if (ai_answer_stream(endpoint, plain, true, &stream) == 0 &&
        ai_answer_assemble(endpoint, buf_view(&stream), &again) == 0) {
        struct buf third = buf_make(OUT_MAX), fourth = buf_make(OUT_MAX);

        if (ai_answer_stream(endpoint, buf_view(&again), true, &third) == 0 &&
            ai_answer_assemble(endpoint, buf_view(&third), &fourth) == 0) {
            canonical(buf_view(&again), &a);
            canonical(buf_view(&fourth), &b);
            CHECK(view_eq(buf_view(&a), buf_view(&b)));
        }
        buf_free(&third);
        buf_free(&fourth);
    }
    buf_free(&stream);
    buf_free(&again);
    buf_free(&a);
    buf_free(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const enum ai_endpoint endpoints[] = { AI_CHAT, AI_RESPONSES, AI_COMPLETIONS, AI_MESSAGES };
    struct buf plain = buf_make(OUT_MAX), form = buf_make(OUT_MAX);
    enum ai_endpoint endpoint;
    struct view input;

    if (size == 0)
        return 0;
    endpoint = endpoints[data[0] % ARRAY_LEN(endpoints)];
    input = view_make((const char *)data + 1, size - 1);
    if (ai_answer_assemble(endpoint, input, &plain) == 0) {
        canonical(buf_view(&plain), &form);
        round_trip(endpoint, buf_view(&plain));
    }
    round_trip(endpoint, input);
    buf_free(&plain);
    buf_free(&form);
    return 0;
}
