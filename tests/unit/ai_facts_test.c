#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ai/facts.h"

struct request {
    struct json doc;
    struct ai_facts facts;
};

static void read_facts(struct request *r, enum ai_endpoint endpoint, const char *text)
{
    char memory[300];
    struct text reason = TEXT_ON(memory);

    *r = (struct request){ 0 };
    if (json_parse(&r->doc, view_str(text), JSON_LIMITS, NULL) != JSON_OK)
        fail_msg("no JSON: %s", text);
    if (ai_facts_read(&r->facts, endpoint, &r->doc, &reason) < 0)
        fail_msg("refused: %s: %.*s", text, VIEW_ARG(text_view(&reason)));
}

static void done(struct request *r)
{
    ai_facts_free(&r->facts);
    json_free(&r->doc);
}

#define assert_token(r, at, expected) assert_true((at) && view_eq(json_raw(&(r)->doc, (at)), view_str(expected)))

static void test_chat(void **state)
{
    /* Proves what is read of a full chat request, wherever its members stand. */
    struct request r;
    struct ai_facts *f = &r.facts;

    (void)state;
    read_facts(
        &r, AI_CHAT,
        "{\"stream_options\":{\"include_usage\":true},\"unknown\":{\"deep\":[1]},\"messages\":["
        "{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\",\"content\":\"one\"},"
        "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{}]},{\"role\":\"tool\",\"content\":\"t\"},"
        "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"two\"}]}],\"stream\":true,\"model\":\"gpt\","
        "\"max_completion_tokens\":1e2,\"n\":1.0,\"temperature\":0.0,\"user\":\"u\",\"tools\":[{\"type\":\"function\"}],"
        "\"response_format\":{\"type\":\"json_schema\"},\"reasoning_effort\":\"low\",\"store\":true}");
    assert_true(view_eq(f->model, VIEW("gpt")));
    assert_token(&r, f->model_at, "\"gpt\"");
    assert_token(&r, f->model_at - 1, "\"model\"");
    assert_token(&r, f->stream_at, "true");
    assert_token(&r, f->stream_options_at, "{\"include_usage\":true}");
    assert_token(&r, f->include_usage_at, "true");
    assert_token(&r, f->max_at, "1e2");
    assert_token(&r, f->user_at, "\"u\"");
    assert_token(&r, f->last_user_at, "\"two\"");
    assert_token(&r, f->tools_at, "[{\"type\":\"function\"}]");
    assert_int_equal(json_type(&r.doc, f->prompt_at), JSON_ARRAY);
    assert_int_equal(f->max_also_at, 0);
    assert_int_equal(f->max_tokens, 100);
    assert_int_equal(f->messages, 5);
    assert_int_equal(f->turns, 2);
    assert_true(f->stream && f->include_usage && f->has_system && f->has_tools && f->has_tool_turns && f->wants_schema);
    assert_true(f->has_reasoning && f->temperature_given && f->temperature_zero && f->deterministic && f->store);
    assert_false(f->has_server_tools || f->has_images || f->has_audio || f->has_files || f->seed_given || f->base64);
    assert_int_equal(f->never, AI_CACHEABLE);
    assert_int_equal(f->prompt_bytes, r.doc.tokens[f->prompt_at].len + r.doc.tokens[f->tools_at].len + 22);
    done(&r);
    read_facts(&r, AI_CHAT, "{\"model\":\"\\u0067p\\u0074\",\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}");
    assert_true(view_eq(f->model, VIEW("gpt")));
    assert_false(f->stream || f->deterministic || f->has_tools || f->has_system);
    assert_true(f->n == 1 && f->best_of == 1 && f->max_tokens == 0 && f->max_at == 0);
    done(&r);
}

static void test_last_user(void **state)
{
    /* Proves that the last user message's text is found only where it is one text and nothing else. */
    static const struct {
        enum ai_endpoint endpoint;
        const char *text, *last;
    } cases[] = {
        { AI_CHAT, "\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":\"b\"}]",
          "\"a\"" },
        { AI_CHAT,
          "\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"text\",\"text\":\"b\"}]}]",
          NULL },
        { AI_CHAT,
          "\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"image_url\"}]}]",
          NULL },
        { AI_CHAT,
          "\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}]",
          NULL },
        { AI_CHAT, "\"messages\":[{\"role\":\"user\",\"content\":[]}]", NULL },
        { AI_CHAT, "\"messages\":[{\"role\":\"system\",\"content\":\"a\"}]", NULL },
        { AI_MESSAGES,
          "\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\",\"content\":[{\"type\":\"text\",\"text\":\"a\"}]}]}]",
          NULL },
        { AI_MESSAGES, "\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\",\"content\":\"a\"}]}]",
          NULL },
        { AI_MESSAGES,
          "\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"system\":[{\"type\":\"text\",\"text\":\"s\"}]",
          "\"a\"" },
        { AI_RESPONSES, "\"input\":\"a\"", "\"a\"" },
        { AI_RESPONSES, "\"input\":[{\"role\":\"user\",\"content\":[{\"type\":\"input_text\",\"text\":\"a\"}]}]",
          "\"a\"" },
        { AI_RESPONSES,
          "\"input\":[{\"role\":\"user\",\"content\":\"a\"},{\"type\":\"function_call_output\",\"output\":\"b\"}]",
          "\"a\"" },
        { AI_COMPLETIONS, "\"prompt\":\"a\"", "\"a\"" },
        { AI_COMPLETIONS, "\"prompt\":[\"a\"]", "\"a\"" },
        { AI_COMPLETIONS, "\"prompt\":[\"a\",\"b\"]", NULL },
        { AI_EMBEDDINGS, "\"input\":[1,2,3]", NULL },
        { AI_EMBEDDINGS, "\"input\":[]", NULL },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char memory[1000];
        struct text text = TEXT_ON(memory);
        struct request r;

        text_printf(&text, "{\"model\":\"m\",%s}", cases[i].text);
        read_facts(&r, cases[i].endpoint, text_str(&text));
        if (cases[i].last
                ? !r.facts.last_user_at || !view_eq(json_raw(&r.doc, r.facts.last_user_at), view_str(cases[i].last))
                : r.facts.last_user_at != 0)
            fail_msg("%s", cases[i].text);
        done(&r);
    }
}

enum {
    IMAGES = 1,
    AUDIO = 2,
    FILES = 4,
    TOOLS = 8,
    SERVER = 16,
    SCHEMA = 32,
    DETERMINISTIC = 64,
    REASONING = 128,
    BASE64 = 256,
    SYSTEM = 512,
    STORE = 1024,
    TOOL_TURNS = 2048
};

static unsigned flags_of(const struct ai_facts *f)
{
    return (f->has_images ? IMAGES : 0u) | (f->has_audio ? AUDIO : 0u) | (f->has_files ? FILES : 0u) |
           (f->has_tools ? TOOLS : 0u) | (f->has_server_tools ? SERVER : 0u) | (f->wants_schema ? SCHEMA : 0u) |
           (f->deterministic ? DETERMINISTIC : 0u) | (f->has_reasoning ? REASONING : 0u) | (f->base64 ? BASE64 : 0u) |
           (f->has_system ? SYSTEM : 0u) | (f->store ? STORE : 0u) | (f->has_tool_turns ? TOOL_TURNS : 0u);
}

#define M "\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]"
#define CONTENT(parts) "\"messages\":[{\"role\":\"user\",\"content\":[" parts "]}]"

static void test_flags(void **state)
{
    /* Proves each flag alone, and why an answer can never be kept. */
    static const struct {
        enum ai_endpoint endpoint;
        const char *text;
        unsigned flags;
        enum ai_never never;
    } cases[] = {
        { AI_CHAT, M, 0, AI_CACHEABLE },
        { AI_CHAT, M ",\"stream\":null,\"tools\":null,\"user\":null,\"seed\":null,\"n\":null,\"stream_options\":null",
          0, AI_CACHEABLE },
        { AI_CHAT, CONTENT("{\"type\":\"image_url\"}"), IMAGES, AI_CACHEABLE },
        { AI_CHAT, CONTENT("{\"type\":\"input_audio\"},{\"type\":\"file\"},{\"type\":\"new\"}"), AUDIO | FILES,
          AI_CACHEABLE },
        { AI_CHAT, M ",\"seed\":7,\"temperature\":1", DETERMINISTIC, AI_CACHEABLE },
        { AI_CHAT, M ",\"temperature\":0,\"n\":2", 0, AI_CACHEABLE },
        { AI_CHAT, M ",\"temperature\":-0.0", DETERMINISTIC, AI_CACHEABLE },
        { AI_CHAT, M ",\"temperature\":0.0001", 0, AI_CACHEABLE },
        { AI_CHAT, M ",\"tools\":[]", 0, AI_CACHEABLE },
        { AI_CHAT, M ",\"tools\":[{\"type\":\"custom\"}]", TOOLS, AI_CACHEABLE },
        { AI_CHAT, M ",\"functions\":[{}]", TOOLS, AI_CACHEABLE },
        { AI_CHAT, M ",\"web_search_options\":{}", SERVER, AI_SERVER_TOOLS },
        { AI_CHAT, M ",\"search_parameters\":{\"mode\":\"on\"}", SERVER, AI_SERVER_TOOLS },
        { AI_CHAT, M ",\"plugins\":[{\"id\":\"web\"}]", SERVER, AI_SERVER_TOOLS },
        { AI_CHAT, M ",\"response_format\":{\"type\":\"json_object\"}", SCHEMA, AI_CACHEABLE },
        { AI_CHAT, M ",\"response_format\":{\"type\":\"text\"}", 0, AI_CACHEABLE },
        { AI_CHAT, M ",\"seed\":18446744073709551615", DETERMINISTIC, AI_ODD },
        { AI_CHAT, M ",\"x\":1e400", 0, AI_ODD },
        { AI_CHAT, M ",\"x\":\"\\ud800\"", 0, AI_ODD },
        { AI_CHAT, "\"messages\":[{\"role\":\"developer\",\"content\":\"a\"}]", SYSTEM, AI_CACHEABLE },
        { AI_CHAT, M ",\"background\":true,\"conversation\":\"x\"", 0, AI_CACHEABLE },
        { AI_RESPONSES, "\"input\":\"a\",\"tools\":[{\"type\":\"web_search\"}]", TOOLS | SERVER, AI_SERVER_TOOLS },
        { AI_RESPONSES, "\"input\":\"a\",\"tools\":[{\"type\":\"function\"},{\"type\":\"mcp\"}],\"x\":1e999",
          TOOLS | SERVER, AI_SERVER_TOOLS },
        { AI_RESPONSES, "\"input\":\"a\",\"background\":true", 0, AI_STATEFUL },
        { AI_RESPONSES, "\"input\":\"a\",\"background\":false,\"previous_response_id\":null", 0, AI_CACHEABLE },
        { AI_RESPONSES, "\"input\":\"a\",\"previous_response_id\":\"r\"", 0, AI_STATEFUL },
        { AI_MESSAGES, M ",\"thread\":{\"type\":\"create\"}", 0, AI_STATEFUL },
        { AI_MESSAGES, M ",\"diagnostics\":{\"previous_message_id\":\"m\"}", 0, AI_STATEFUL },
        { AI_MESSAGES, M ",\"thread\":null,\"diagnostics\":null", 0, AI_CACHEABLE },
        { AI_RESPONSES, "\"input\":\"a\",\"conversation\":{\"id\":\"c\"}", 0, AI_STATEFUL },
        { AI_RESPONSES, "\"prompt\":{\"id\":\"p\"}", 0, AI_STATEFUL },
        { AI_RESPONSES, "\"input\":[{\"type\":\"item_reference\",\"id\":\"i\"}]", 0, AI_STATEFUL },
        { AI_RESPONSES, "\"input\":\"a\",\"store\":true,\"instructions\":\"i\"", STORE | SYSTEM, AI_CACHEABLE },
        { AI_RESPONSES,
          "\"input\":[{\"role\":\"user\",\"content\":[{\"type\":\"input_image\"},{\"type\":\"input_file\"}]}]",
          IMAGES | FILES, AI_CACHEABLE },
        { AI_RESPONSES, "\"input\":[{\"type\":\"function_call_output\",\"output\":[{\"type\":\"input_image\"}]}]",
          IMAGES | TOOL_TURNS, AI_CACHEABLE },
        { AI_RESPONSES,
          "\"input\":\"a\",\"text\":{\"format\":{\"type\":\"json_schema\"}},\"reasoning\":{\"effort\":\"low\"}",
          SCHEMA | REASONING, AI_CACHEABLE },
        { AI_MESSAGES, M ",\"tools\":[{\"name\":\"f\"}]", TOOLS, AI_CACHEABLE },
        { AI_MESSAGES, M ",\"tools\":[{\"type\":\"web_search_20250305\"}]", TOOLS | SERVER, AI_SERVER_TOOLS },
        { AI_MESSAGES, M ",\"mcp_servers\":[{}]", SERVER, AI_SERVER_TOOLS },
        { AI_MESSAGES, M ",\"thinking\":{\"type\":\"enabled\"}", REASONING, AI_CACHEABLE },
        { AI_MESSAGES, M ",\"thinking\":{\"type\":\"disabled\"}", 0, AI_CACHEABLE },
        { AI_MESSAGES, M ",\"output_config\":{\"format\":{\"type\":\"json_schema\"}},\"system\":\"s\"", SCHEMA | SYSTEM,
          AI_CACHEABLE },
        { AI_MESSAGES, CONTENT("{\"type\":\"tool_result\",\"content\":[{\"type\":\"image\"}]},{\"type\":\"document\"}"),
          IMAGES | FILES | TOOL_TURNS, AI_CACHEABLE },
        { AI_COUNT_TOKENS, M, DETERMINISTIC, AI_CACHEABLE },
        { AI_EMBEDDINGS, "\"input\":\"a\",\"encoding_format\":\"base64\"", BASE64 | DETERMINISTIC, AI_CACHEABLE },
        { AI_COMPLETIONS, "\"prompt\":\"a\",\"seed\":1,\"best_of\":3", 0, AI_CACHEABLE },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char memory[1000];
        struct text text = TEXT_ON(memory);
        struct request r;

        text_printf(&text, "{%s,\"model\":\"m\"}", cases[i].text);
        read_facts(&r, cases[i].endpoint, text_str(&text));
        if (flags_of(&r.facts) != cases[i].flags || r.facts.never != cases[i].never)
            fail_msg("%s: flags %x, expected %x; %s", cases[i].text, flags_of(&r.facts), cases[i].flags,
                     ai_never_text(r.facts.never));
        assert_int_equal(r.facts.unbounded,
                         (cases[i].flags & (IMAGES | AUDIO | FILES | SERVER)) || cases[i].never == AI_STATEFUL);
        done(&r);
    }
}

static void test_refused(void **state)
{
    /* Proves that wrong types and contradictions are refused, in words that name the member. */
    static const struct {
        enum ai_endpoint endpoint;
        const char *text, *reason;
    } cases[] = {
        { AI_CHAT, "[]", "the request: must be a JSON object" },
        { AI_CHAT, "{" M "}", "model: is missing" },
        { AI_CHAT, "{\"model\":\"m\"}", "messages: is missing" },
        { AI_EMBEDDINGS, "{\"model\":\"m\"}", "input: is missing" },
        { AI_CHAT, "{\"model\":1," M "}", "model: must be a string" },
        { AI_CHAT, "{\"model\":null," M "}", "model: must be a string" },
        { AI_CHAT, "{\"model\":\"\"," M "}", "model: must be from 1 to 256 bytes long" },
        { AI_CHAT, "{\"model\":\"a\\nb\"," M "}", "model: must not have control characters" },
        { AI_CHAT, "{\"model\":\"m\",\"messages\":\"hi\"}", "messages: must be an array" },
        { AI_CHAT, "{\"model\":\"m\",\"messages\":[]}", "messages: must have at least one message" },
        { AI_CHAT, "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"a\"},3]}",
          "messages[1]: must be an object" },
        { AI_CHAT, "{\"model\":\"m\",\"messages\":[{\"content\":\"a\"}]}", "messages[0].role: must be a string" },
        { AI_CHAT, "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":{}}]}",
          "messages[0].content: must be a string or an array of parts" },
        { AI_CHAT, "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[\"a\"]}]}",
          "messages[0].content: a part must be an object" },
        { AI_CHAT, "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[{\"text\":\"a\"}]}]}",
          "messages[0].content: a part must have a type" },
        { AI_CHAT, "{\"model\":\"m\"," M ",\"stream\":\"yes\"}", "stream: must be true or false" },
        { AI_CHAT, "{\"model\":\"m\"," M ",\"stream\":true,\"stream_options\":[]}",
          "stream_options: must be an object" },
        { AI_CHAT, "{\"model\":\"m\"," M ",\"stream_options\":{}}",
          "stream_options: must be used with stream: true only" },
        { AI_CHAT, "{\"model\":\"m\"," M ",\"max_tokens\":0}",
          "max_tokens: must be a whole number from 1 to 2147483648" },
        { AI_CHAT, "{\"model\":\"m\"," M ",\"max_tokens\":-1}",
          "max_tokens: must be a whole number from 1 to 2147483648" },
        { AI_CHAT, "{\"model\":\"m\"," M ",\"max_tokens\":2147483649}",
          "max_tokens: must be a whole number from 1 to 2147483648" },
        { AI_CHAT, "{\"model\":\"m\"," M ",\"max_tokens\":\"1\"}",
          "max_tokens: must be a whole number from 1 to 2147483648" },
        { AI_CHAT, "{\"model\":\"m\"," M ",\"max_tokens\":1,\"max_completion_tokens\":2}",
          "max_tokens: must not differ from max_completion_tokens" },
        { AI_CHAT, "{\"model\":\"m\"," M ",\"n\":0}", "n: must be a whole number from 1 to 128" },
        { AI_CHAT, "{\"model\":\"m\"," M ",\"n\":129}", "n: must be a whole number from 1 to 128" },
        { AI_CHAT, "{\"model\":\"m\"," M ",\"n\":1.5}", "n: must be a whole number from 1 to 128" },
        { AI_CHAT, "{\"model\":\"m\"," M ",\"temperature\":\"0\"}", "temperature: must be a number" },
        { AI_CHAT, "{\"model\":\"m\"," M ",\"seed\":true}", "seed: must be a number" },
        { AI_CHAT, "{\"model\":\"m\"," M ",\"tools\":{}}", "tools: must be an array" },
        { AI_CHAT, "{\"model\":\"m\"," M ",\"tools\":[1]}", "tools[0]: must be an object" },
        { AI_CHAT, "{\"model\":\"m\"," M ",\"user\":5}", "user: must be a string" },
        { AI_CHAT, "{\"model\":\"m\"," M ",\"response_format\":\"json\"}", "response_format: must be an object" },
        { AI_RESPONSES, "{\"model\":\"m\",\"input\":5}", "input: must be a string or an array of items" },
        { AI_RESPONSES, "{\"model\":\"m\",\"input\":[5]}", "input[0]: must be an object" },
        { AI_RESPONSES, "{\"model\":\"m\",\"input\":[{\"type\":5}]}", "input[0].type: must be a string" },
        { AI_RESPONSES, "{\"model\":\"m\",\"input\":[{}]}", "input[0].role: must be a string" },
        { AI_RESPONSES, "{\"model\":\"m\",\"input\":\"a\",\"instructions\":5}",
          "instructions: must be a string or an array of parts" },
        { AI_MESSAGES, "{\"model\":\"m\"," M ",\"system\":5}", "system: must be a string or an array of parts" },
        { AI_MESSAGES, "{\"model\":\"m\"," M ",\"metadata\":5}", "metadata: must be an object" },
        { AI_COMPLETIONS, "{\"model\":\"m\",\"prompt\":{}}", "prompt: must be a string or an array" },
        { AI_EMBEDDINGS, "{\"model\":\"m\",\"input\":[null]}", "input: must have only strings or token numbers" },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct json doc = { 0 };
        struct ai_facts facts = { .n = 77 };
        char memory[300], tight[4];
        struct text reason = TEXT_ON(memory), short_reason = TEXT_ON(tight);

        assert_int_equal(json_parse(&doc, view_str(cases[i].text), JSON_LIMITS, NULL), JSON_OK);
        if (ai_facts_read(&facts, cases[i].endpoint, &doc, &reason) != -22)
            fail_msg("accepted %s", cases[i].text);
        if (!view_eq(text_view(&reason), view_str(cases[i].reason)))
            fail_msg("%s: %.*s", cases[i].text, VIEW_ARG(text_view(&reason)));
        assert_int_equal(ai_facts_read(&facts, cases[i].endpoint, &doc, &short_reason), -22);
        assert_int_equal(facts.n, 77);
        json_free(&doc);
    }
}

static void test_users(void **state)
{
    /* Proves which of the names of a user counts, in any order. */
    struct request r;

    (void)state;
    read_facts(&r, AI_CHAT,
               "{\"safety_identifier\":\"s\",\"metadata\":{\"user_id\":\"m\"},\"user\":\"u\",\"model\":\"m\"," M "}");
    assert_token(&r, r.facts.user_at, "\"u\"");
    done(&r);
    read_facts(&r, AI_CHAT,
               "{\"user\":\"u\",\"metadata\":{\"user_id\":\"m\"},\"safety_identifier\":\"s\",\"model\":\"m\"," M "}");
    assert_token(&r, r.facts.user_at, "\"u\"");
    done(&r);
    read_facts(&r, AI_MESSAGES, "{\"metadata\":{\"user_id\":\"m\"},\"model\":\"m\"," M "}");
    assert_token(&r, r.facts.user_at, "\"m\"");
    done(&r);
    read_facts(&r, AI_CHAT, "{\"metadata\":{\"a\":\"m\"},\"safety_identifier\":\"s\",\"model\":\"m\"," M "}");
    assert_token(&r, r.facts.user_at, "\"s\"");
    done(&r);
}

static void test_unknown(void **state)
{
    /* Proves that of an interface we do not know nothing is required, nothing is wrong and nothing is kept. */
    struct request r;
    struct json none = { 0 };
    struct ai_facts facts;

    (void)state;
    read_facts(&r, AI_OTHER, "{\"model\":\"m\",\"stream\":true,\"messages\":5}");
    assert_true(view_eq(r.facts.model, VIEW("m")) && r.facts.stream && r.facts.never == AI_UNKNOWN);
    done(&r);
    read_facts(&r, AI_OTHER, "[5]");
    assert_true(r.facts.model_at == 0 && r.facts.model.len == 0 && !r.facts.stream);
    done(&r);
    assert_int_equal(ai_facts_read(&facts, AI_MODELS, &none, NULL), 0);
    assert_int_equal(facts.never, AI_UNKNOWN);
    ai_facts_free(&facts);
}

static void test_both_limits(void **state)
{
    /* Proves that a limit said twice with one value is one limit, and both places are known. */
    struct request r;

    (void)state;
    read_facts(&r, AI_CHAT, "{\"model\":\"m\"," M ",\"max_tokens\":5,\"max_completion_tokens\":5.0}");
    assert_token(&r, r.facts.max_at, "5");
    assert_token(&r, r.facts.max_also_at, "5.0");
    assert_int_equal(r.facts.max_tokens, 5);
    done(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chat),        cmocka_unit_test(test_last_user), cmocka_unit_test(test_flags),
        cmocka_unit_test(test_refused),     cmocka_unit_test(test_users),     cmocka_unit_test(test_unknown),
        cmocka_unit_test(test_both_limits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
