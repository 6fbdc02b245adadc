/* Any bytes as an answer of any endpoint, as a stream and plain: nothing is sound that has not ended, memory stays bounded, counts are
 * believable; and error bodies of any kind are read. */
#include "ai/error.h"
#include "ai/watch.h"
#include "base/check.h"

static void check(const struct watch *watch)
{
    struct ai_usage usage = watch_usage(watch, 1000);

    CHECK(!watch_is_sound(watch) || (watch->ended && watch->finished && watch->error == WATCH_NO_ERROR));
    CHECK(watch->tool.cap <= WATCH_TOOL_MAX && watch->call.cap <= WATCH_TOOL_MAX);
    CHECK(watch->usage.cached <= watch->usage.input && watch->usage.reasoning <= watch->usage.output);
    CHECK(watch->usage.input <= 3 * AI_USAGE_MAX && watch->usage.output <= AI_USAGE_MAX);
    CHECK(!usage.known || watch->finished || watch->ended);
}

static void stream(enum ai_endpoint endpoint, struct view input)
{
    struct sse_event event;
    struct watch watch;
    struct sse sse;

    watch_init(&watch, endpoint);
    sse_init(&sse, 1u << 16);
    while (sse_next(&sse, &input, &event) > 0) {
        unsigned marks = watch_event(&watch, &event);

        CHECK(!(marks & WATCH_ERROR) || watch.error != WATCH_NO_ERROR);
        check(&watch);
    }
    sse_free(&sse);
    watch_free(&watch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum ai_endpoint endpoint;
    char memory[64];
    struct text text = TEXT_ON(memory);
    struct watch watch;
    struct view input;

    if (size == 0)
        return 0;
    endpoint = (enum ai_endpoint)(data[0] % AI_ENDPOINT_COUNT);
    input = view_make((const char *)data + 1, size - 1);
    stream(endpoint, input);
    watch_init(&watch, endpoint);
    watch_plain(&watch, input);
    check(&watch);
    watch_free(&watch);
    CHECK(ai_error_read(500, input) != WATCH_NO_ERROR);
    ai_error_message(input, &text);
    return 0;
}
