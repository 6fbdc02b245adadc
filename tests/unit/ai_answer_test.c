/* Streams put together into plain answers, plain answers told as streams, and both after each other. */
#include "ai_fixture.h"

#include "ai/answer.h"
#include "ai/watch.h"
#include "base/heap.h"
#include "proto/json.h"

#include <errno.h>

#define ANSWER_MAX ((size_t)8 << 20)

static void canonical(struct view json, struct buf *out)
{
    struct json doc = { 0 };
    size_t at;

    if (json_parse(&doc, json, JSON_LIMITS, &at) != JSON_OK)
        fail_msg("at %zu: %.*s", at, VIEW_ARG(json));
    json_canonical(&doc, 0, NULL, NULL, out);
    json_free(&doc);
}

static void assert_same_json(struct view got, struct view wanted)
{
    struct buf a = buf_make(ANSWER_MAX), b = buf_make(ANSWER_MAX);

    canonical(got, &a);
    canonical(wanted, &b);
    if (!view_eq(buf_view(&a), buf_view(&b)))
        fail_msg("got\n%.*s\nwanted\n%.*s", VIEW_ARG(a), VIEW_ARG(b));
    buf_free(&a);
    buf_free(&b);
}

static void check_assembled(enum ai_endpoint endpoint, struct view stream, const char *plain)
{
    struct buf out = buf_make(ANSWER_MAX);
    int error = ai_answer_assemble(endpoint, stream, &out);

    if (error < 0)
        fail_msg("%d: %.*s", error, VIEW_ARG(out));
    assert_same_json(buf_view(&out), view_str(plain));
    buf_free(&out);
}

static void test_assemble(void **state)
{
    /* Proves that captured streams become the plain answers of the official API. */
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(answers); i++)
        check_assembled(answers[i].endpoint, view_str(answers[i].stream), answers[i].plain);
}

static void test_assemble_details(void **state)
{
    /* Proves what becomes of choices, logprobs, unknown members, citations, and of servers that say too much or too little. */
    static const struct {
        enum ai_endpoint endpoint;
        const char *stream, *plain;
    } cases[] = {
        { AI_CHAT,
          "data: {\"id\":\"a\",\"choices\":[{\"index\":1,\"delta\":{\"content\":\"B\"}}]}\n\n"
          "data: {\"id\":\"a\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"A\"}}]}\n\n"
          "data: {\"id\":\"a\",\"choices\":[{\"index\":1,\"delta\":{\"content\":\"b\"},\"finish_reason\":\"stop\"},"
          "{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"a\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n",
          "{\"id\":\"a\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"Aa\"},\"finish_reason\":\"stop\"},"
          "{\"index\":1,\"message\":{\"role\":\"assistant\",\"content\":\"Bb\"},\"finish_reason\":\"stop\"}]}" },
        { AI_CHAT,
          "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\",\"refusal\":null}}]}\n\n"
          "data: {\"choices\":[{\"index\":0,\"delta\":{\"refusal\":\"I can\"}}]}\n\n"
          "data: {\"choices\":[{\"index\":0,\"delta\":{\"refusal\":\" not\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n",
          "{\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":null,\"refusal\":\"I can not\"},"
          "\"finish_reason\":\"stop\"}]}" },
        { AI_CHAT,
          "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"reasoning_content\":\"th\",\"x_text\":\"p\",\"x_number\":1}}]}\n\n"
          "data: {\"choices\":[{\"index\":0,\"delta\":{\"reasoning_content\":\"ink\",\"x_text\":\"q\",\"x_number\":2,\"annotations\":[{\"a\":1}]},"
          "\"logprobs\":{\"content\":[{\"token\":\"a\"}],\"refusal\":null}}]}\n\n"
          "data: {\"x_top\":[1],\"choices\":[{\"index\":0,\"delta\":{\"content\":\"ok\",\"annotations\":[{\"a\":2}]},"
          "\"logprobs\":{\"content\":[{\"token\":\"b\"}],\"refusal\":null},\"finish_reason\":\"stop\",\"x_choice\":true}]}\n\n"
          "data: {\"x_top\":[2],\"choices\":[]}\n\ndata: [DONE]\n\n",
          "{\"x_top\":[2],\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"reasoning_content\":\"think\",\"x_text\":\"pq\","
          "\"x_number\":2,\"annotations\":[{\"a\":1},{\"a\":2}],\"content\":\"ok\"},\"logprobs\":{\"content\":[{\"token\":\"a\"},"
          "{\"token\":\"b\"}],\"refusal\":null},\"finish_reason\":\"stop\",\"x_choice\":true}]}" },
        { AI_CHAT,
          ": hello\n\ndata: {\"choices\":[{\"index\":0,\"delta\":\ndata: {\"tool_calls\":[{\"index\":0,\"id\":\"c\",\"type\":\"function\","
          "\"function\":{\"name\":\"f\",\"arguments\":\"{\"}}]}}]}\n\n"
          "data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"c\",\"type\":\"function\","
          "\"function\":{\"name\":\"f\",\"arguments\":\"}\"}}]},\"finish_reason\":\"tool_calls\"}]}\r\rdata: [DONE]\r\r",
          "{\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"c\",\"type\":\"function\","
          "\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]},\"finish_reason\":\"tool_calls\"}]}" },
        { AI_MESSAGES,
          MESSAGE_EVENT(
              "message_start",
              ",\"message\":{\"id\":\"m\",\"content\":[],\"stop_reason\":null,\"usage\":{\"input_tokens\":1}}")
              MESSAGE_EVENT("content_block_start",
                            ",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\",\"citations\":[]}")
                  MESSAGE_EVENT(
                      "content_block_delta",
                      ",\"index\":0,\"delta\":{\"type\":\"citations_delta\",\"citation\":{\"type\":\"char_location\",\"n\":1}}")
                      MESSAGE_EVENT("content_block_delta",
                                    ",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"q\"}")
                          MESSAGE_EVENT(
                              "content_block_start",
                              ",\"index\":1,\"content_block\":{\"type\":\"web_search_tool_result\",\"content\":[{\"url\":\"u\"}]}")
                              MESSAGE_EVENT(
                                  "message_delta",
                                  ",\"delta\":{\"stop_reason\":\"stop_sequence\",\"stop_sequence\":\"END\"},"
                                  "\"usage\":{\"output_tokens\":4},\"context_management\":{\"applied_edits\":[]}")
                                  MESSAGE_EVENT("message_stop", ""),
          "{\"id\":\"m\",\"content\":[{\"type\":\"text\",\"text\":\"q\",\"citations\":[{\"type\":\"char_location\",\"n\":1}]},"
          "{\"type\":\"web_search_tool_result\",\"content\":[{\"url\":\"u\"}]}],\"stop_reason\":\"stop_sequence\",\"stop_sequence\":\"END\","
          "\"usage\":{\"input_tokens\":1,\"output_tokens\":4},\"context_management\":{\"applied_edits\":[]}}" },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        check_assembled(cases[i].endpoint, view_str(cases[i].stream), cases[i].plain);
}

static void test_refused(void **state)
{
    /* Proves that what is no whole answer is not made one. */
    static const struct {
        enum ai_endpoint endpoint;
        const char *stream;
    } cases[] = {
        { AI_CHAT, "" },
        { AI_CHAT, "data: [DONE]\n\n" },
        { AI_CHAT, CHAT_CHUNK("0", "{\"content\":\"a\"}", "null") },
        { AI_CHAT, CHAT_CHUNK("0", "{\"content\":\"a\"}", "null") "data: {\"error\":{}}\n\n" CHAT_DONE },
        { AI_CHAT, "data: {\n\n" CHAT_DONE },
        { AI_CHAT, "data: []\n\n" CHAT_DONE },
        { AI_MESSAGES,
          MESSAGE_EVENT("content_block_start", ",\"index\":0,\"content_block\":{}") MESSAGE_EVENT("message_stop", "") },
        { AI_MESSAGES, MESSAGE_EVENT("message_start", ",\"message\":{\"content\":[]}") MESSAGE_EVENT(
                           "content_block_start", ",\"index\":0,\"content_block\":{\"type\":\"tool_use\",\"input\":{}}")
                           MESSAGE_EVENT("content_block_delta", ",\"index\":0,\"delta\":{\"partial_json\":\"{\"}")
                               MESSAGE_EVENT("message_stop", "") },
        { AI_RESPONSES, RESPONSE_EVENT("response.created", ",\"response\":{}") },
        { AI_EMBEDDINGS, CHAT_DONE },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf out = buf_make(ANSWER_MAX);

        assert_int_equal(ai_answer_assemble(cases[i].endpoint, view_str(cases[i].stream), &out), -EINVAL);
        buf_free(&out);
    }
}

static const struct {
    enum ai_endpoint endpoint;
    const char *plain;
} plains[] = {
    { AI_CHAT, chat_text_plain },
    { AI_CHAT, chat_tools_plain },
    { AI_CHAT,
      "{\n  \"id\": \"a\",\n  \"object\": \"chat.completion\",\n  \"created\": 1,\n  \"model\": \"m\",\n  \"choices\": [\n"
      "    {\"index\": 0, \"message\": {\"role\": \"assistant\", \"content\": \"line\\nbreak and a longer text that must be cut "
      "in pieces\\u2028 \\ud83d\\ude00\\ud83d\\ude00\\ud83d\\ude00\\ud83d\\ude00 \xf0\x9f\x98\x80\xf0\x9f\x98\x80\xf0\x9f\x98\x80\xf0\x9f\x98\x80\xf0\x9f\x98\x80\xf0\x9f\x98\x80\\\\\\\"\\\\\\\"\\\\\\\"\","
      "\n \"annotations\": []}, \"finish_reason\": \"stop\"},\r\n"
      "    {\"index\": 1, \"message\": {\"role\": \"assistant\", \"content\": null, \"refusal\": \"I can't help with that.\"},"
      " \"logprobs\": {\"content\": null, \"refusal\": [{\"token\": \"I\", \"top_logprobs\": []}]}, \"finish_reason\": \"stop\"}],\n"
      " \"x_filters\": [{\"a\": 1}], \"usage\": {\n \"prompt_tokens\": 1}}" },
    { AI_CHAT,
      "{\"object\":\"chat.completion\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"reasoning_content\":\"because of this and that and more\","
      "\"content\":\"\",\"audio\":{\"id\":\"x\",\"data\":\"AAAA\",\"transcript\":\"hi\"},\"tool_calls\":[{\"id\":\"c1\",\"type\":\"custom\","
      "\"custom\":{\"name\":\"sql\",\"input\":\"select 1\"}}]},\"content_filter_results\":{\"hate\":{\"filtered\":false}},"
      "\"finish_reason\":\"length\"}],\"usage\":{\"total_tokens\":1.0e2}}" },
    { AI_CHAT,
      "{\"object\":\"chat.completion\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"x\",\"tool_calls\":[],"
      "\"function_call\":{\"name\":\"f\",\"arguments\":\"{}\"}},\"finish_reason\":\"function_call\"}],\"usage\":{}}" },
    { AI_COMPLETIONS, completions_text_plain },
    { AI_COMPLETIONS,
      "{\"object\":\"text_completion\",\"choices\":[{\"index\":0,\"text\":\"a b\",\"logprobs\":{\"tokens\":[\"a\",\" b\"],\"text_offset\":[0,1]},"
      "\"finish_reason\":\"stop\"},{\"index\":1,\"text\":\"\",\"logprobs\":null,\"finish_reason\":\"length\"}],\"usage\":{\"total_tokens\":1}}" },
    { AI_MESSAGES, messages_tools_plain },
    { AI_MESSAGES,
      "{\"id\":\"m\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"c\",\"content\":[{\"type\":\"text\",\"text\":\"a\\u0000b\",\"citations\":["
      "{\"type\":\"char_location\",\"cited_text\":\"x\"},{\"type\":\"y\"}]},{\"type\":\"text\",\"text\":\"\",\"citations\":null},"
      "{\"type\":\"redacted_thinking\",\"data\":\"zz\"},{\"type\":\"server_tool_use\",\"id\":\"s\",\"name\":\"web_search\",\"input\":"
      "{\"query\": \"\\u00e9 \\\"q\\\"\\n\"}},{\"type\":\"web_search_tool_result\",\"tool_use_id\":\"s\",\"content\":[{\"type\":\"r\",\"index\":3}]},"
      "{\"type\":\"tool_use\",\"id\":\"t\",\"name\":\"now\",\"input\":{}}],\"stop_reason\":\"end_turn\",\"stop_sequence\":null,"
      "\"usage\":{\"input_tokens\":1,\"output_tokens\":2,\"server_tool_use\":{\"web_search_requests\":1}}}" },
    { AI_MESSAGES,
      "{\"type\":\"message\",\"content\":[],\"stop_reason\":\"refusal\",\"stop_sequence\":null,\"usage\":{\"output_tokens\":0}}" },
    { AI_RESPONSES, responses_tools_plain },
    { AI_RESPONSES,
      "{\"id\":\"r\",\"object\":\"response\",\"status\":\"incomplete\",\"incomplete_details\":{\"reason\":\"max_output_tokens\"},\n\"output\":["
      "{\"type\":\"reasoning\",\"id\":\"x\",\"summary\":[],\"content\":[{\"type\":\"reasoning_text\",\"text\":\"t\"}],\"encrypted_content\":\"e\"},"
      "{\"type\":\"message\",\"content\":[{\"type\":\"refusal\",\"refusal\":\"no\"},{\"type\":\"output_text\",\"text\":\"see\",\"annotations\":"
      "[{\"type\":\"url_citation\",\"url\":\"u\"}]},{\"type\":\"new_kind\",\"x\":1}]},"
      "{\"type\":\"custom_tool_call\",\"id\":\"c\",\"input\":\"abc\"},{\"type\":\"image_generation_call\",\"id\":\"i\",\"result\":\"AAA\"}]}" },
};

static void test_round_trip(void **state)
{
    /* Proves that a plain answer told as a stream is a sound stream, and put together again the same answer. */
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(plains); i++) {
        struct buf stream = buf_make(ANSWER_MAX);
        struct sse_event event;
        struct watch watch;
        struct view input;
        struct sse sse;

        if (ai_answer_stream(plains[i].endpoint, view_str(plains[i].plain), true, &stream) < 0)
            fail_msg("%s", plains[i].plain);
        input = buf_view(&stream);
        watch_init(&watch, plains[i].endpoint);
        sse_init(&sse, ANSWER_MAX);
        while (sse_next(&sse, &input, &event) > 0)
            if (watch_event(&watch, &event) & (WATCH_BROKEN | WATCH_ERROR))
                fail_msg("%.*s", VIEW_ARG(event.raw));
        if (!watch_is_sound(&watch))
            fail_msg("not sound: %.*s", VIEW_ARG(stream));
        check_assembled(plains[i].endpoint, buf_view(&stream), plains[i].plain);
        watch_free(&watch);
        sse_free(&sse);
        buf_free(&stream);
    }
}

static void test_streams(void **state)
{
    /* Shows the exact stream of a short answer of each kind. */
    static const struct {
        enum ai_endpoint endpoint;
        bool usage;
        const char *plain, *stream;
    } cases[] = {
        { AI_CHAT, false,
          "{\"id\":\"a\",\"object\":\"chat.completion\",\"model\":\"m\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"Hi\"},"
          "\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":1}}",
          "data: {\"object\":\"chat.completion.chunk\",\"id\":\"a\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},"
          "\"finish_reason\":null}]}\n\n"
          "data: {\"object\":\"chat.completion.chunk\",\"id\":\"a\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"},\"finish_reason\":null}]}\n\n"
          "data: {\"object\":\"chat.completion.chunk\",\"id\":\"a\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"
          "data: [DONE]\n\n" },
        { AI_COMPLETIONS, true,
          "{\"id\":\"a\",\"choices\":[{\"index\":0,\"text\":\"Hi\",\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":1}}",
          "data: {\"object\":\"text_completion\",\"id\":\"a\",\"choices\":[{\"index\":0,\"text\":\"\",\"finish_reason\":null}]}\n\n"
          "data: {\"object\":\"text_completion\",\"id\":\"a\",\"choices\":[{\"index\":0,\"text\":\"Hi\",\"finish_reason\":null}]}\n\n"
          "data: {\"object\":\"text_completion\",\"id\":\"a\",\"choices\":[{\"index\":0,\"text\":\"\",\"finish_reason\":\"stop\"}]}\n\n"
          "data: {\"object\":\"text_completion\",\"id\":\"a\",\"choices\":[],\"usage\":{\"prompt_tokens\":1}}\n\ndata: [DONE]\n\n" },
        { AI_MESSAGES, false,
          "{\"id\":\"m\",\"type\":\"message\",\"content\":[{\"type\":\"text\",\"text\":\"Hi\"}],\"stop_reason\":\"end_turn\",\"stop_sequence\":null,"
          "\"usage\":{\"input_tokens\":1,\"output_tokens\":2}}",
          MESSAGE_EVENT(
              "message_start",
              ",\"message\":{\"id\":\"m\",\"type\":\"message\",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,"
              "\"usage\":{\"input_tokens\":1,\"output_tokens\":2}}")
              MESSAGE_EVENT("content_block_start", ",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}")
                  MESSAGE_EVENT("content_block_delta",
                                ",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hi\"}")
                      MESSAGE_EVENT("content_block_stop", ",\"index\":0") MESSAGE_EVENT(
                          "message_delta",
                          ",\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":2}")
                          MESSAGE_EVENT("message_stop", "") },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf out = buf_make(ANSWER_MAX);

        assert_int_equal(ai_answer_stream(cases[i].endpoint, view_str(cases[i].plain), cases[i].usage, &out), 0);
        assert_view(buf_view(&out), cases[i].stream);
        buf_free(&out);
    }
}

static void test_not_told(void **state)
{
    /* Proves that what is no answer, or does not fit, is refused. */
    struct buf out = buf_make(ANSWER_MAX), small = buf_make(300);

    (void)state;
    assert_int_equal(ai_answer_stream(AI_CHAT, VIEW("{}"), false, &out), -EINVAL);
    assert_int_equal(ai_answer_stream(AI_CHAT, VIEW("{\"choices\":[]}"), false, &out), -EINVAL);
    assert_int_equal(ai_answer_stream(AI_CHAT, VIEW("{\"choices\":[1]}"), false, &out), -EINVAL);
    assert_int_equal(ai_answer_stream(AI_CHAT, VIEW("nope"), false, &out), -EINVAL);
    assert_int_equal(ai_answer_stream(AI_MESSAGES, VIEW("{\"content\":[2]}"), false, &out), -EINVAL);
    assert_int_equal(ai_answer_stream(AI_RESPONSES, VIEW("{\"status\":\"failed\",\"output\":[]}"), false, &out),
                     -EINVAL);
    assert_int_equal(ai_answer_stream(AI_EMBEDDINGS, VIEW("{\"data\":[]}"), false, &out), -EINVAL);
    assert_int_equal(ai_answer_stream(AI_CHAT, view_str(chat_text_plain), false, &small), -ENOMEM);
    buf_free(&small);
    small = buf_make(300);
    assert_int_equal(ai_answer_assemble(AI_CHAT, view_str(chat_text), &small), -ENOMEM);
    buf_free(&small);
    buf_free(&out);
}

static void test_no_memory(void **state)
{
    /* Proves that whichever allocation fails, the answer is -ENOMEM or right, and nothing leaks. */
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(answers); i++)
        for (unsigned long nth = 1, left = 0; left == 0; nth++) {
            struct buf plain = buf_make(ANSWER_MAX), stream = buf_make(ANSWER_MAX);
            int error;

            heap_fault(nth, 0);
            error = ai_answer_assemble(answers[i].endpoint, view_str(answers[i].stream), &plain);
            assert_true(error == 0 || error == -ENOMEM);
            error = ai_answer_stream(answers[i].endpoint, view_str(answers[i].plain), true, &stream);
            assert_true(error == 0 || error == -ENOMEM);
            left = heap_fault_left();
            heap_fault(0, 0);
            buf_free(&plain);
            buf_free(&stream);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_assemble),   cmocka_unit_test(test_assemble_details), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_streams),          cmocka_unit_test(test_not_told),
        cmocka_unit_test(test_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
