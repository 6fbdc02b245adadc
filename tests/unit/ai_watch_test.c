/* Watching answers: marks, usage, ends, errors inside of a 200, tool calls; usage objects of all dialects. */
#include "ai_fixture.h"

#include "ai/watch.h"

#include <stdio.h>
#include <time.h>

static unsigned watch_all(struct watch *watch, enum ai_endpoint endpoint, const char *stream)
{
    struct view input = view_str(stream);
    struct sse_event event;
    unsigned marks = 0;
    struct sse sse;

    watch_init(watch, endpoint);
    sse_init(&sse, 1u << 20);
    while (sse_next(&sse, &input, &event) > 0)
        marks |= watch_event(watch, &event);
    sse_free(&sse);
    return marks;
}

static unsigned one(enum ai_endpoint endpoint, const char *stream)
{
    struct watch watch;
    unsigned marks = watch_all(&watch, endpoint, stream);

    watch_free(&watch);
    return marks;
}

static bool is_sound(enum ai_endpoint endpoint, const char *stream)
{
    struct watch watch;
    bool sound;

    watch_all(&watch, endpoint, stream);
    sound = watch_is_sound(&watch);
    watch_free(&watch);
    return sound;
}

static void test_answers(void **state)
{
    /* Proves that usual answers of each endpoint are sound with their usage, as streams and plain. */
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
        struct watch streamed, plain;
        unsigned marks = watch_all(&streamed, answers[i].endpoint, answers[i].stream);

        assert_true(marks & WATCH_CONTENT && marks & WATCH_END && !(marks & (WATCH_BROKEN | WATCH_ERROR)));
        assert_true(watch_is_sound(&streamed) && streamed.content && streamed.usage.known);
        watch_init(&plain, answers[i].endpoint);
        marks = watch_plain(&plain, view_str(answers[i].plain));
        assert_int_equal(marks, WATCH_CONTENT | WATCH_END);
        assert_true(watch_is_sound(&plain) && plain.content);
        assert_memory_equal(&plain.usage, &streamed.usage, sizeof(plain.usage));
        watch_free(&streamed);
        watch_free(&plain);
    }
}

static void test_cut_answers(void **state)
{
    /* Proves that no prefix of an answer is sound. */
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
        struct view input = view_str(answers[i].stream);
        struct sse_event event;
        struct watch watch;
        struct sse sse;

        watch_init(&watch, answers[i].endpoint);
        sse_init(&sse, 1u << 20);
        while (sse_next(&sse, &input, &event) > 0) {
            assert_false(watch_is_sound(&watch));
            watch_event(&watch, &event);
        }
        assert_true(watch_is_sound(&watch));
        sse_free(&sse);
        watch_free(&watch);
    }
}

static void test_usage(void **state)
{
    /* Proves that each dialect's usage means the same afterwards. */
    static const struct {
        const char *json;
        struct ai_usage usage;
    } cases[] = {
        { "{\"prompt_tokens\":19,\"completion_tokens\":10,\"prompt_tokens_details\":{\"cached_tokens\":8},"
          "\"completion_tokens_details\":{\"reasoning_tokens\":4}}",
          { 19, 8, 0, 10, 4, true } },
        { "{\"prompt_tokens\":19,\"completion_tokens\":10,\"prompt_tokens_details\":{\"cached_tokens\":8,\"cache_write_tokens\":12}}",
          { 19, 8, 11, 10, 0, true } },
        { "{\"input_tokens\":36,\"input_tokens_details\":{\"cached_tokens\":6,\"cache_write_tokens\":30},\"output_tokens\":8}",
          { 36, 6, 30, 8, 0, true } },
        { "{\"input_tokens\":36,\"output_tokens\":87,\"output_tokens_details\":{\"thinking_tokens\":7}}",
          { 36, 0, 0, 87, 7, true } },
        { "{\"input_tokens\":36,\"input_tokens_details\":{\"cached_tokens\":6},\"output_tokens\":87,"
          "\"output_tokens_details\":{\"reasoning_tokens\":7}}",
          { 36, 6, 0, 87, 7, true } },
        { "{\"input_tokens\":25,\"cache_creation_input_tokens\":100,\"cache_read_input_tokens\":1000,\"output_tokens\":3}",
          { 1125, 1000, 100, 3, 0, true } },
        { "{\"input_tokens\":25,\"cache_creation_input_tokens\":null,\"cache_read_input_tokens\":null,\"output_tokens\":3}",
          { 25, 0, 0, 3, 0, true } },
        { "{\"prompt_tokens\":8,\"total_tokens\":8}", { 8, 0, 0, 0, 0, true } },
        { "{\"prompt_tokens\":-1,\"completion_tokens\":\"3\"}", { 0, 0, 0, 0, 0, false } },
        { "{\"prompt_tokens\":1e300}", { 0, 0, 0, 0, 0, false } },
        { "{\"prompt_tokens\":18446744073709551615}", { AI_USAGE_MAX, 0, 0, 0, 0, true } },
        { "{\"prompt_tokens\":5,\"prompt_tokens_details\":{\"cached_tokens\":9}}", { 5, 5, 0, 0, 0, true } },
        { "[]", { 0, 0, 0, 0, 0, false } },
    };
    struct json doc = { 0 };
    size_t at;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct ai_usage usage = { 0 };

        assert_int_equal(json_parse(&doc, view_str(cases[i].json), JSON_LIMITS, &at), JSON_OK);
        assert_int_equal(ai_usage_read(&doc, 0, &usage), cases[i].usage.known);
        assert_int_equal(usage.input, cases[i].usage.input);
        assert_int_equal(usage.cached, cases[i].usage.cached);
        assert_int_equal(usage.cache_write, cases[i].usage.cache_write);
        assert_int_equal(usage.output, cases[i].usage.output);
        assert_int_equal(usage.reasoning, cases[i].usage.reasoning);
    }
    json_free(&doc);
}

static void test_usage_adds_up(void **state)
{
    /* Proves that the parts of a messages stream make one usage, also when the end repeats the input. */
    struct watch watch;

    (void)state;
    watch_all(&watch, AI_MESSAGES, messages_tools);
    assert_int_equal(watch.usage.input, 1125);
    assert_int_equal(watch.usage.output, 89);
    watch_free(&watch);
    watch_all(
        &watch, AI_MESSAGES,
        "data: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":5,\"cache_read_input_tokens\":7,\"output_tokens\":1}}}\n\n"
        "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"input_tokens\":6,"
        "\"cache_read_input_tokens\":8,\"output_tokens\":9}}\n\n");
    assert_int_equal(watch.usage.input, 14);
    assert_int_equal(watch.usage.cached, 8);
    assert_int_equal(watch.usage.output, 9);
    watch_free(&watch);
}

static void test_marks(void **state)
{
    /* Proves what each kind of event is taken for. */
    static const struct {
        enum ai_endpoint endpoint;
        const char *event;
        unsigned marks;
    } cases[] = {
        { AI_CHAT, CHAT_CHUNK("0", "{\"role\":\"assistant\",\"content\":\"\"}", "null"), 0 },
        { AI_CHAT, CHAT_CHUNK("0", "{\"content\":\"a\"}", "null"), WATCH_CONTENT },
        { AI_CHAT, CHAT_CHUNK("0", "{\"reasoning_content\":\"a\"}", "null"), WATCH_CONTENT },
        { AI_CHAT, CHAT_CHUNK("0", "{\"reasoning\":\"a\",\"content\":null}", "null"), WATCH_CONTENT },
        { AI_CHAT, CHAT_CHUNK("0", "{\"refusal\":\"no\"}", "null"), WATCH_CONTENT },
        { AI_CHAT, CHAT_CHUNK("0", "{\"audio\":{\"id\":\"a\"}}", "null"), WATCH_CONTENT },
        { AI_CHAT, CHAT_CHUNK("0", "{\"tool_calls\":[]}", "null"), 0 },
        { AI_CHAT, CHAT_CHUNK("0", "{}", "\"stop\""), 0 },
        { AI_CHAT, CHAT_CHUNK("0", "{}", "\"error\""), WATCH_ERROR },
        { AI_CHAT, CHAT_CHUNK("128", "{}", "null"), WATCH_BROKEN },
        { AI_CHAT, CHAT_USAGE_CHUNK, WATCH_USAGE },
        { AI_CHAT, "data: {\"choices\":[],\"prompt_filter_results\":[]}\n\n", 0 },
        { AI_CHAT, "data: {\"choices\":[],\"usage\":null}\n\n", 0 },
        { AI_CHAT, CHAT_DONE, WATCH_END },
        { AI_CHAT, ": OPENROUTER PROCESSING\n\n", WATCH_KEEPALIVE },
        { AI_CHAT, "data: {\"choices\":[\n\n", WATCH_BROKEN },
        { AI_CHAT, "data: 7\n\n", WATCH_BROKEN },
        { AI_CHAT, "data: {\"error\":{\"message\":\"x\"}}\n\n", WATCH_ERROR },
        { AI_CHAT, "data: {\"error\":\"x\"}\n\n", WATCH_ERROR },
        { AI_CHAT, "event: error\ndata: oops\n\n", WATCH_ERROR },
        { AI_COMPLETIONS, TEXT_CHUNK("a", "null"), WATCH_CONTENT },
        { AI_COMPLETIONS, TEXT_CHUNK("", "null"), 0 },
        { AI_MESSAGES, MESSAGE_EVENT("ping", ""), WATCH_KEEPALIVE },
        { AI_MESSAGES,
          MESSAGE_EVENT("content_block_start", ",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}"), 0 },
        { AI_MESSAGES,
          MESSAGE_EVENT(
              "content_block_start",
              ",\"index\":0,\"content_block\":{\"type\":\"tool_use\",\"id\":\"t\",\"name\":\"n\",\"input\":{}}"),
          WATCH_CONTENT },
        { AI_MESSAGES,
          MESSAGE_EVENT("content_block_start",
                        ",\"index\":0,\"content_block\":{\"type\":\"redacted_thinking\",\"data\":\"x\"}"),
          WATCH_CONTENT },
        { AI_MESSAGES,
          MESSAGE_EVENT("content_block_delta",
                        ",\"index\":0,\"delta\":{\"type\":\"thinking_delta\",\"thinking\":\"x\"}"),
          WATCH_CONTENT },
        { AI_MESSAGES,
          MESSAGE_EVENT("content_block_delta",
                        ",\"index\":0,\"delta\":{\"type\":\"signature_delta\",\"signature\":\"x\"}"),
          0 },
        { AI_MESSAGES, MESSAGE_EVENT("error", ",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}"),
          WATCH_ERROR },
        { AI_MESSAGES, MESSAGE_EVENT("message_stop", ""), WATCH_END },
        { AI_RESPONSES, RESPONSE_EVENT("response.output_text.delta", ",\"delta\":\"a\""), WATCH_CONTENT },
        { AI_RESPONSES, RESPONSE_EVENT("response.reasoning_text.delta", ",\"delta\":\"a\""), WATCH_CONTENT },
        { AI_RESPONSES, RESPONSE_EVENT("response.output_text.delta", ",\"delta\":\"\""), 0 },
        { AI_RESPONSES, RESPONSE_EVENT("response.created", ",\"response\":{\"error\":null,\"output\":[]}"), 0 },
        { AI_RESPONSES,
          RESPONSE_EVENT("response.failed", ",\"response\":{\"error\":{\"code\":\"server_error\",\"message\":\"x\"}}"),
          WATCH_ERROR },
        { AI_RESPONSES, "event: error\ndata: {\"type\":\"error\",\"code\":\"x\",\"message\":\"y\"}\n\n", WATCH_ERROR },
        { AI_RESPONSES,
          RESPONSE_EVENT("response.incomplete", ",\"response\":{\"status\":\"incomplete\",\"output\":[]}"), WATCH_END },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        unsigned marks = one(cases[i].endpoint, cases[i].event);

        if (marks != cases[i].marks)
            fail_msg("marks %x, wanted %x: %s", marks, cases[i].marks, cases[i].event);
    }
}

static void test_errors(void **state)
{
    /* Proves that an error inside of a 200 is told by its code and type. */
    static const struct {
        const char *body;
        enum watch_error error;
    } cases[] = {
        { "{\"error\":{\"message\":\"x\",\"type\":\"insufficient_quota\",\"code\":\"insufficient_quota\"}}",
          WATCH_QUOTA },
        { "{\"error\":{\"message\":\"x\",\"type\":\"requests\",\"code\":\"rate_limit_exceeded\"}}", WATCH_RATE_LIMIT },
        { "{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"x\"}}", WATCH_OVERLOADED },
        { "{\"error\":{\"message\":\"x\",\"type\":\"invalid_request_error\",\"code\":null}}", WATCH_BAD_REQUEST },
        { "{\"error\":{\"message\":\"x\",\"code\":429}}", WATCH_RATE_LIMIT },
        { "{\"error\":{\"message\":\"x\",\"code\":502}}", WATCH_SERVER_ERROR },
        { "{\"error\":\"x\"}", WATCH_SERVER_ERROR },
        { "{\"object\":\"error\",\"message\":\"x\",\"type\":\"BadRequestError\",\"code\":400}", WATCH_BAD_REQUEST },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct watch watch;

        watch_init(&watch, AI_CHAT);
        assert_int_equal(watch_plain(&watch, view_str(cases[i].body)), WATCH_ERROR);
        assert_int_equal(watch.error, cases[i].error);
        assert_false(watch_is_sound(&watch));
        watch_free(&watch);
    }
}

#define CALL(index, arguments) \
    CHAT_CHUNK( \
        "0", "{\"tool_calls\":[{\"index\":" index ",\"function\":{\"name\":\"f\",\"arguments\":\"" arguments "\"}}]}", \
        "null")
#define CALL_END CHAT_CHUNK("0", "{}", "\"tool_calls\"") CHAT_DONE

static void test_tools(void **state)
{
    /* Proves that calls in interleaved pieces are put together, and that what is no object is never sound. */
    (void)state;
    assert_true(is_sound(AI_CHAT, CALL("0", "{") CALL("1", "{\\\"b\\\":") CALL("0", "}") CALL("1", "2}") CALL_END));
    assert_true(is_sound(AI_CHAT, CALL("0", "") CALL_END));
    assert_false(is_sound(AI_CHAT, CALL("0", "{") CALL_END));
    assert_false(is_sound(AI_CHAT, CALL("0", "{}") CALL("1", "{}") CALL("0", "{}") CALL_END));
    assert_false(is_sound(AI_CHAT, CALL("0", "[1]") CALL_END));
    assert_false(is_sound(AI_CHAT, CALL("0", "\\\"text\\\"") CALL_END));
    assert_false(is_sound(AI_CHAT, CALL("-1", "{}") CALL_END));
    assert_false(is_sound(AI_CHAT, CHAT_CHUNK("0", "{\"function_call\":{\"name\":\"f\",\"arguments\":\"{\"}}", "null")
                                       CALL_END));
}

static void test_tools_bounded(void **state)
{
    /* Proves that arguments beyond the limit make the answer unsound instead of growing without end. */
    struct buf event = buf_make(1u << 20);
    struct sse_event sse = { 0 };
    struct watch watch;

    (void)state;
    buf_lit(&event,
            "{\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"");
    for (int i = 0; i < 10000; i++)
        buf_char(&event, 'x');
    buf_lit(&event, "\"}}]}}]}");
    sse.data = buf_view(&event);
    watch_init(&watch, AI_CHAT);
    for (int i = 0; i < 40; i++)
        watch_event(&watch, &sse);
    assert_true(watch.bad_tool && watch.tool.cap <= WATCH_TOOL_MAX);
    watch_free(&watch);
    buf_free(&event);
}

static void test_choices(void **state)
{
    /* Proves that an answer of two choices is finished when both are, whether they come mixed or one after the other. */
    (void)state;
    assert_true(is_sound(AI_CHAT, CHAT_CHUNK("0", "{}", "\"stop\"") CHAT_CHUNK("1", "{\"content\":\"b\"}", "null")
                                      CHAT_CHUNK("1", "{}", "\"length\"") CHAT_DONE));
    assert_false(
        is_sound(AI_CHAT, CHAT_CHUNK("0", "{}", "\"stop\"") CHAT_CHUNK("1", "{\"content\":\"b\"}", "null") CHAT_DONE));
}

static void test_plain_shapes(void **state)
{
    /* Proves that JSON without what its endpoint must have is not sound. */
    static const struct {
        enum ai_endpoint endpoint;
        const char *body;
        bool sound;
    } cases[] = {
        { AI_CHAT, "{}", false },
        { AI_CHAT, "{\"choices\":[]}", false },
        { AI_CHAT, "{\"choices\":[{\"message\":{\"content\":\"a\"},\"finish_reason\":null}]}", false },
        { AI_CHAT, "{\"choices\":[{\"message\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}]}", true },
        { AI_CHAT,
          "{\"choices\":[{\"message\":{\"tool_calls\":[{\"function\":{\"arguments\":\"{\"}}]},\"finish_reason\":\"stop\"}]}",
          false },
        { AI_CHAT, "[]", false },
        { AI_CHAT, "<html>", false },
        { AI_COMPLETIONS, "{\"choices\":[{\"text\":\"a\",\"finish_reason\":\"stop\"}]}", true },
        { AI_COMPLETIONS, "{\"choices\":[{\"message\":{},\"finish_reason\":\"stop\"}]}", false },
        { AI_MESSAGES, "{\"type\":\"message\",\"content\":[],\"stop_reason\":\"end_turn\"}", true },
        { AI_MESSAGES,
          "{\"type\":\"message\",\"content\":[{\"type\":\"tool_use\",\"input\":\"{}\"}],\"stop_reason\":\"tool_use\"}",
          false },
        { AI_MESSAGES, "{\"type\":\"message\",\"stop_reason\":\"end_turn\"}", false },
        { AI_RESPONSES, "{\"status\":\"completed\",\"output\":[]}", true },
        { AI_RESPONSES, "{\"status\":\"queued\",\"output\":[]}", false },
        { AI_RESPONSES, "{\"status\":\"completed\"}", false },
        { AI_EMBEDDINGS,
          "{\"object\":\"list\",\"data\":[{\"embedding\":\"AAAA\"}],\"usage\":{\"prompt_tokens\":8,\"total_tokens\":8}}",
          true },
        { AI_EMBEDDINGS, "{\"object\":\"list\"}", false },
        { AI_COUNT_TOKENS, "{\"input_tokens\":14}", true },
        { AI_COUNT_TOKENS, "{}", false },
        { AI_OTHER, "[1]", true },
        { AI_OTHER, "[1", false },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct watch watch;

        watch_init(&watch, cases[i].endpoint);
        watch_plain(&watch, view_str(cases[i].body));
        if (watch_is_sound(&watch) != cases[i].sound)
            fail_msg("%s", cases[i].body);
        watch_free(&watch);
    }
}

static void test_estimate(void **state)
{
    /* Proves that without a usage the bytes seen are counted, and marked as not known. */
    struct ai_usage usage;
    struct watch watch;

    (void)state;
    watch_all(&watch, AI_CHAT, CHAT_CHUNK("0", "{\"content\":\"12345678\"}", "null"));
    usage = watch_usage(&watch, 401);
    assert_int_equal(usage.input, 101);
    assert_int_equal(usage.output, 2);
    assert_false(usage.known);
    watch_free(&watch);
}

static void test_estimate_of_a_part(void **state)
{
    /* Proves that what Anthropic says at the beginning, one output token, is not taken for the whole of a stream that is cut. */
    static const char start[] =
        "event: message_start\n"
        "data: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":9,\"output_tokens\":1}}}\n\n"
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,"
        "\"delta\":{\"type\":\"text_delta\",\"text\":\"123456789012\"}}\n\n";
    static const char end[] = "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":"
                              "\"end_turn\"},\"usage\":{\"output_tokens\":7}}\n\n";
    char all[sizeof(start) + sizeof(end)];
    struct ai_usage usage;
    struct watch watch;

    (void)state;
    watch_all(&watch, AI_MESSAGES, start);
    usage = watch_usage(&watch, 4000);
    assert_int_equal(usage.input, 9);
    assert_int_equal(usage.output, 3);
    assert_false(usage.known);
    watch_free(&watch);
    snprintf(all, sizeof(all), "%s%s", start, end);
    watch_all(&watch, AI_MESSAGES, all);
    usage = watch_usage(&watch, 4000);
    assert_int_equal(usage.output, 7);
    assert_true(usage.known);
    watch_free(&watch);
}

static void test_cost(void **state)
{
    /* Shows (without judging) what an event costs. */
    struct view input = VIEW(CHAT_CHUNK("0", "{\"content\":\" world\"}", "null"));
    struct timespec from, to;
    struct sse_event event;
    struct watch watch;
    struct sse sse;

    (void)state;
    sse_init(&sse, 1u << 20);
    watch_init(&watch, AI_CHAT);
    clock_gettime(CLOCK_MONOTONIC, &from);
    for (int i = 0; i < 20000; i++) {
        struct view rest = input;

        assert_int_equal(sse_next(&sse, &rest, &event), 1);
        watch_event(&watch, &event);
    }
    clock_gettime(CLOCK_MONOTONIC, &to);
    print_message("%.0f ns an event of %zu bytes\n",
                  ((double)(to.tv_sec - from.tv_sec) * 1e9 + (double)(to.tv_nsec - from.tv_nsec)) / 20000, input.len);
    watch_free(&watch);
    sse_free(&sse);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers),  cmocka_unit_test(test_cut_answers),
        cmocka_unit_test(test_usage),    cmocka_unit_test(test_usage_adds_up),
        cmocka_unit_test(test_marks),    cmocka_unit_test(test_errors),
        cmocka_unit_test(test_tools),    cmocka_unit_test(test_tools_bounded),
        cmocka_unit_test(test_choices),  cmocka_unit_test(test_plain_shapes),
        cmocka_unit_test(test_estimate), cmocka_unit_test(test_estimate_of_a_part),
        cmocka_unit_test(test_cost),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
