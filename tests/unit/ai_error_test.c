/* Error bodies and events: each dialect's shape, and what providers mean by theirs. */
#include "ai_fixture.h"

#include "ai/error.h"

static void test_bodies(void **state)
{
    /* Proves the shape of each dialect, with types by status. */
    static const struct {
        enum ai_dialect dialect;
        int status;
        const char *type, *code, *param, *body;
    } cases[] = {
        { AI_OPENAI, 401, NULL, "invalid_api_key", NULL,
          "{\"error\":{\"message\":\"a \\\"b\\\"\",\"type\":\"authentication_error\",\"param\":null,\"code\":\"invalid_api_key\"}}" },
        { AI_OPENAI, 400, NULL, NULL, "model",
          "{\"error\":{\"message\":\"a \\\"b\\\"\",\"type\":\"invalid_request_error\",\"param\":\"model\",\"code\":null}}" },
        { AI_OPENAI, 402, NULL, NULL, NULL,
          "{\"error\":{\"message\":\"a \\\"b\\\"\",\"type\":\"insufficient_quota\",\"param\":null,\"code\":null}}" },
        { AI_OPENAI, 500, "mine", NULL, NULL,
          "{\"error\":{\"message\":\"a \\\"b\\\"\",\"type\":\"mine\",\"param\":null,\"code\":null}}" },
        { AI_ANTHROPIC, 429, NULL, "x", "y",
          "{\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\",\"message\":\"a \\\"b\\\"\"}}" },
        { AI_ANTHROPIC, 402, NULL, NULL, NULL,
          "{\"type\":\"error\",\"error\":{\"type\":\"billing_error\",\"message\":\"a \\\"b\\\"\"}}" },
        { AI_ANTHROPIC, 502, NULL, NULL, NULL,
          "{\"type\":\"error\",\"error\":{\"type\":\"api_error\",\"message\":\"a \\\"b\\\"\"}}" },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf out = buf_make(4096);

        ai_error_put(&out, cases[i].dialect, cases[i].status, cases[i].type, VIEW("a \"b\""), cases[i].code,
                     cases[i].param);
        assert_view(buf_view(&out), cases[i].body);
        buf_free(&out);
    }
}

static void test_events(void **state)
{
    /* Proves that the event of each endpoint is one event that a watch takes for an error of that class. */
    static const enum ai_endpoint endpoints[] = { AI_CHAT, AI_COMPLETIONS, AI_RESPONSES, AI_MESSAGES };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(endpoints); i++) {
        struct buf out = buf_make(4096);
        struct sse_event event;
        struct view input;
        struct watch watch;
        struct sse sse;

        ai_error_event(&out, endpoints[i], 529, VIEW("line\nbreak"));
        input = buf_view(&out);
        sse_init(&sse, 4096);
        watch_init(&watch, endpoints[i]);
        assert_int_equal(sse_next(&sse, &input, &event), 1);
        assert_int_equal(input.len, 0);
        assert_int_equal(event.name.len > 0, endpoints[i] == AI_RESPONSES || endpoints[i] == AI_MESSAGES);
        assert_int_equal(watch_event(&watch, &event), WATCH_ERROR);
        assert_int_equal(watch.error, WATCH_OVERLOADED);
        watch_free(&watch);
        sse_free(&sse);
        buf_free(&out);
    }
}

static void test_read(void **state)
{
    /* Proves that status, type and code are weighed: the most telling wins. */
    static const struct {
        int status;
        const char *body;
        enum watch_error error;
    } cases[] = {
        { 429, "", WATCH_RATE_LIMIT },
        { 429, "{\"error\":{\"type\":\"insufficient_quota\",\"code\":\"insufficient_quota\"}}", WATCH_QUOTA },
        { 429, "{\"error\":{\"type\":\"tokens\",\"code\":\"rate_limit_exceeded\"}}", WATCH_RATE_LIMIT },
        { 429, "{\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\"}}", WATCH_RATE_LIMIT },
        { 429, "{\"error\":{\"type\":\"server_error\"}}", WATCH_RATE_LIMIT },
        { 529, "{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}", WATCH_OVERLOADED },
        { 529, "{\"type\":\"error\",\"error\":{\"type\":\"api_error\"}}", WATCH_OVERLOADED },
        { 503, "<html>", WATCH_OVERLOADED },
        { 500, "{\"error\":{\"type\":\"server_error\"}}", WATCH_SERVER_ERROR },
        { 402, "", WATCH_QUOTA },
        { 401, "{\"error\":{\"type\":\"authentication_error\"}}", WATCH_BAD_REQUEST },
        { 200, "{\"error\":{\"type\":\"authentication_error\"}}", WATCH_QUOTA },
        { 400,
          "{\"type\":\"error\",\"error\":{\"type\":\"invalid_request_error\",\"message\":\"Your credit balance is too low to\"}}",
          WATCH_QUOTA },
        { 404, "{\"error\":\"model 'x' not found\"}", WATCH_BAD_REQUEST },
        { 422, "{\"detail\":\"x\"}", WATCH_BAD_REQUEST },
        { 200, "{\"choices\":[]}", WATCH_NO_ERROR },
        { 200, "[]", WATCH_NO_ERROR },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        if (ai_error_read(cases[i].status, view_str(cases[i].body)) != cases[i].error)
            fail_msg("%d %s", cases[i].status, cases[i].body);
}

static void test_message(void **state)
{
    /* Proves that the message is found wherever it stands, and cut at a character. */
    static const struct {
        const char *body, *message;
    } cases[] = {
        { "{\"error\":{\"message\":\"bad\"}}", "bad" },
        { "{\"error\":\"bad\"}", "bad" },
        { "{\"detail\":\"bad\"}", "bad" },
        { "{\"message\":\"bad\"}", "bad" },
        { "{\"detail\":[{\"loc\":[],\"msg\":\"bad\"},{\"msg\":\"worse\"}]}", "bad" },
        { "{\"detail\":[]}", "" },
        { "{\"error\":{\"message\":\"1234567\\u00f6\"}}", "1234567" },
        { "{\"error\":{}}", "" },
        { "nothing", "" },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char memory[8];
        struct text text = TEXT_ON(memory);

        assert_int_equal(ai_error_message(view_str(cases[i].body), &text), cases[i].message[0] != '\0');
        assert_view(text_view(&text), cases[i].message);
    }
}

static void test_shaped(void **state)
{
    /* Proves which bodies go on as they are: those that the SDKs of the dialect read. */
    static const struct {
        const char *body;
        bool openai, anthropic;
    } cases[] = {
        { "{\"error\":{\"message\":\"bad\"}}", true, false },
        { "{\"type\":\"error\",\"error\":{\"type\":\"x\",\"message\":\"bad\"}}", true, true },
        { "{\"error\":\"bad\"}", false, false },
        { "{\"error\":{}}", false, false },
        { "{\"detail\":\"bad\"}", false, false },
        { "[]", false, false },
        { "<html>", false, false },
        { "", false, false },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_int_equal(ai_error_is_shaped(AI_OPENAI, view_str(cases[i].body)), cases[i].openai);
        assert_int_equal(ai_error_is_shaped(AI_ANTHROPIC, view_str(cases[i].body)), cases[i].anthropic);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bodies),  cmocka_unit_test(test_events), cmocka_unit_test(test_read),
        cmocka_unit_test(test_message), cmocka_unit_test(test_shaped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
