#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ai/fingerprint.h"
#include "base/heap.h"

#include <errno.h>
#include <stdio.h>

#define KEY_MAX 600

/* The key of a chat request. */
static int key_of_request(char *ret, const struct fingerprint_context *context, const char *request)
{
    struct json doc = { 0 };
    struct ai_facts facts;
    char memory[KEY_MAX], why[200];
    struct text key = TEXT_ON(memory), reason = TEXT_ON(why);
    int err;

    if (json_parse(&doc, view_str(request), JSON_LIMITS, NULL) != JSON_OK)
        fail_msg("no JSON: %s", request);
    if (ai_facts_read(&facts, context->endpoint, &doc, &reason) < 0)
        fail_msg("%s: %.*s", request, VIEW_ARG(text_view(&reason)));
    err = ai_fingerprint(context, &doc, &facts, &key);
    if (err == 0)
        snprintf(ret, KEY_MAX, "%s", text_str(&key));
    ai_facts_free(&facts);
    json_free(&doc);
    return err;
}

static struct fingerprint_context base_context(void)
{
    return (struct fingerprint_context){
        .endpoint = AI_CHAT,
        .scope = VIEW("acme"),
        .epoch = 3,
        .policy_revision = 9,
        .region = VIEW("eu"),
        .provider = VIEW("openai"),
        .model = VIEW("gpt-4o"),
        .anthropic_version = VIEW("v"),
        .anthropic_beta = VIEW("a,b"),
        .openai_beta = VIEW("c"),
    };
}

#define M "\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"Hello World\"}]"

static void test_form(void **state)
{
    /* Proves the form of a key, that it is the same each time, and that it fits the bound callers use. */
    struct fingerprint_context context = base_context();
    char key[KEY_MAX], again[KEY_MAX];

    (void)state;
    assert_int_equal(key_of_request(key, &context, "{" M "}"), 0);
    assert_int_equal(key_of_request(again, &context, "{" M "}"), 0);
    assert_string_equal(key, again);
    assert_memory_equal(key, "4:acme:3:", 9);
    assert_int_equal(strlen(key), 9 + 64);
    assert_int_equal(strspn(key + 9, "0123456789abcdef"), 64);
    context.epoch = UINT64_MAX;
    assert_int_equal(key_of_request(key, &context, "{" M "}"), 0);
    assert_in_range(strlen(key), 1, FINGERPRINT_MAX + context.scope.len - 1);
}

static void test_same(void **state)
{
    /* Proves that spelling, order and what does not change an answer leave the key as it is. */
    static const char *const same[] = {
        "{" M ",\"temperature\":0.5,\"x\":{\"a\":1,\"b\":[2]}}",
        "{\"x\":{\"b\":[2],\"a\":1},\"temperature\":0.5," M "}",
        " {\t\"temperature\" : 5e-1 , " M " ,\r\n \"x\":{\"a\" : 1.0,\"b\" :[ 20e-1 ]} } ",
        "{" M ",\"t\\u0065mperature\":0.50,\"x\":{\"\\u0061\":1,\"b\":[2]}}",
        "{\"model\":\"other\",\"messages\":[{\"content\":\"Hello\\u0020Wor\\u006cd\",\"role\":\"user\"}],\"temperature\":0.5,\"x\":{\"a\":1,\"b\":[2]}}",
        "{" M
        ",\"temperature\":0.5,\"x\":{\"a\":1,\"b\":[2]},\"stream\":true,\"stream_options\":{\"include_usage\":true}}",
        "{" M
        ",\"temperature\":0.5,\"x\":{\"a\":1,\"b\":[2]},\"stream\":false,\"user\":\"u\",\"metadata\":{\"a\":\"b\"},"
        "\"safety_identifier\":\"s\",\"prompt_cache_key\":\"k\",\"timeout\":5,\"request_id\":\"r\"}",
        "{" M ",\"temperature\":0.5,\"x\":{\"a\":1,\"b\":[2]},\"us\\u0065r\":\"u\"}",
    };
    struct fingerprint_context context = base_context();
    char first[KEY_MAX], key[KEY_MAX];

    (void)state;
    assert_int_equal(key_of_request(first, &context, same[0]), 0);
    for (size_t i = 1; i < ARRAY_LEN(same); i++) {
        assert_int_equal(key_of_request(key, &context, same[i]), 0);
        if (strcmp(first, key) != 0)
            fail_msg("another key: %s", same[i]);
    }
}

static void test_requests_differ(void **state)
{
    /* Proves that every change of meaning, in members known or not, is another key. */
    static const char *const other[] = {
        "{" M "}",
        "{" M ",\"temperature\":0}",
        "{" M ",\"temperature\":0.1}",
        "{" M ",\"temperature\":null}",
        "{" M ",\"top_p\":0.1}",
        "{" M ",\"presence_penalty\":1}",
        "{" M ",\"frequency_penalty\":1}",
        "{" M ",\"top_k\":1}",
        "{" M ",\"logprobs\":true}",
        "{" M ",\"top_logprobs\":1}",
        "{" M ",\"reasoning\":{\"effort\":\"low\"}}",
        "{" M ",\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":1024}}",
        "{" M ",\"parallel_tool_calls\":false}",
        "{" M ",\"modalities\":[\"text\"]}",
        "{" M ",\"verbosity\":\"low\"}",
        "{" M ",\"prediction\":{\"type\":\"content\",\"content\":\"x\"}}",
        "{" M ",\"system\":\"s\"}",
        "{" M ",\"instructions\":\"s\"}",
        "{" M ",\"encoding_format\":\"base64\"}",
        "{" M ",\"dimensions\":8}",
        "{" M ",\"seed\":1}",
        "{" M ",\"seed\":2}",
        "{" M ",\"n\":1}",
        "{" M ",\"n\":2}",
        "{" M ",\"stop\":\"a\"}",
        "{" M ",\"stop\":[\"a\"]}",
        "{" M ",\"max_tokens\":5}",
        "{" M ",\"max_completion_tokens\":5}",
        "{" M ",\"tools\":[]}",
        "{" M ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}]}",
        "{" M ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"g\"}}]}",
        "{" M ",\"tool_choice\":\"auto\"}",
        "{" M ",\"response_format\":{\"type\":\"json_object\"}}",
        "{" M ",\"reasoning_effort\":\"low\"}",
        "{" M ",\"logit_bias\":{\"50256\":-100}}",
        "{" M ",\"store\":true}",
        "{" M ",\"service_tier\":\"flex\"}",
        "{" M ",\"unknown\":1}",
        "{" M ",\"unknown\":\"1\"}",
        "{" M ",\"unknown\":[1]}",
        "{" M ",\"unknown\":{\"user\":\"a\"}}",
        "{" M ",\"unknown\":{\"user\":\"b\"}}",
        "{" M ",\"unknown\":{\"stream\":true}}",
        "{" M ",\"User\":\"a\"}",
        "{" M ",\"big\":100000000000000000000000001}",
        "{" M ",\"big\":100000000000000000000000002}",
        "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"hello World\"}]}",
        "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"Hello World \"}]}",
        "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"Hello  World\"}]}",
        "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"Hello World\",\"name\":\"x\"}]}",
        "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"Hello World\"}]}]}",
        "{\"model\":\"m\",\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"a\",\"function\":{\"arguments\":\"{}\"}}]}]}",
        "{\"model\":\"m\",\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"b\",\"function\":{\"arguments\":\"{}\"}}]}]}",
        "{\"model\":\"m\",\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"b\",\"function\":{\"arguments\":\"{} \"}}]}]}",
        "{\"model\":\"m\",\"messages\":[{\"role\":\"system\",\"content\":\"Hello World\"}]}",
        "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"Hello World\"},{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"user\",\"content\":\"b\"}]}",
        "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"Hello World\"},{\"role\":\"user\",\"content\":\"b\"},{\"role\":\"user\",\"content\":\"a\"}]}",
        "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:a\"}}]}]}",
        "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:b\"}}]}]}",
    };
    static char keys[ARRAY_LEN(other)][KEY_MAX];
    struct fingerprint_context context = base_context();

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(other); i++) {
        assert_int_equal(key_of_request(keys[i], &context, other[i]), 0);
        for (size_t k = 0; k < i; k++)
            if (strcmp(keys[i], keys[k]) == 0)
                fail_msg("one key: %s and %s", other[i], other[k]);
    }
}

static void test_contexts_differ(void **state)
{
    /* Proves that every part of the context is in the key, and that no part can be moved into its neighbour. */
    struct fingerprint_context c[24];
    static char keys[ARRAY_LEN(c)][KEY_MAX];
    size_t count = 0;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(c); i++)
        c[i] = base_context();
    count++;
    c[count++].scope = VIEW("acme2");
    c[count++].scope = VIEW("");
    c[count++].epoch = 4;
    c[count++].policy_revision = 10;
    c[count++].region = VIEW("us");
    c[count++].region = VIEW("");
    c[count++].provider = VIEW("azure");
    c[count++].model = VIEW("gpt-4o-mini");
    c[count++].anthropic_version = VIEW("w");
    c[count++].anthropic_beta = VIEW("b,a");
    c[count++].openai_beta = VIEW("d");
    c[count++].query = VIEW("beta=true");
    c[count++].stream_matters = true;
    c[count++].kind = FINGERPRINT_PARTITION;
    c[count].kind = FINGERPRINT_CANONICAL;
    c[count++].last_user = VIEW("hello world");
    c[count].kind = FINGERPRINT_CANONICAL;
    c[count++].last_user = VIEW("hello worlds");
    c[count].kind = FINGERPRINT_CANONICAL;
    c[count++].last_user = VIEW("");
    c[count].region = VIEW("euopenai");
    c[count++].provider = VIEW("");
    c[count].provider = VIEW("openaigpt-4o");
    c[count++].model = VIEW("");
    c[count++].endpoint = AI_MESSAGES;
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(key_of_request(keys[i], &c[i], "{" M "}"), 0);
        for (size_t k = 0; k < i; k++)
            if (strcmp(keys[i] + strlen(keys[i]) - 64, keys[k] + strlen(keys[k]) - 64) == 0)
                fail_msg("contexts %zu and %zu have one hash", i, k);
    }
}

static void test_scopes(void **state)
{
    /* Proves that no tenant can choose a name that makes its keys another's, whatever is in it. */
    static const struct view scopes[] = {
        { "a", 1 },      { "a:1", 3 },    { "1:a", 3 },       { "a:3:", 4 },   { "a\0b", 3 },     { "a\0", 2 },
        { "", 0 },       { ":", 1 },      { "1:a:3", 5 },     { "a:3", 3 },    { "a\n", 2 },      { "A", 1 },
        { "a user", 6 }, { "a/user", 6 }, { "4:acme:3:", 9 }, { "acme:3", 6 }, { "tenant:a", 8 }, { "\xff", 1 },
    };
    char memory[ARRAY_LEN(scopes)][KEY_MAX];
    struct text keys[ARRAY_LEN(scopes)];
    struct json doc = { 0 };
    struct ai_facts facts;

    (void)state;
    assert_int_equal(json_parse(&doc, VIEW("{" M "}"), JSON_LIMITS, NULL), JSON_OK);
    assert_int_equal(ai_facts_read(&facts, AI_CHAT, &doc, NULL), 0);
    for (size_t i = 0; i < ARRAY_LEN(scopes); i++) {
        struct fingerprint_context context = base_context();

        context.scope = scopes[i];
        keys[i] = TEXT_ON(memory[i]);
        assert_int_equal(ai_fingerprint(&context, &doc, &facts, &keys[i]), 0);
        for (size_t k = 0; k < i; k++) {
            struct view one = text_view(&keys[i]), other = text_view(&keys[k]);

            /* Not even the part before the hash is the same, nor is one a prefix of the other. */
            if (view_eq(view_first(one, one.len - 64), view_first(other, other.len - 64)) ||
                view_starts_with(one, view_first(other, other.len - 64)) ||
                view_starts_with(other, view_first(one, one.len - 64)))
                fail_msg("scopes %zu and %zu", i, k);
        }
    }
    ai_facts_free(&facts);
    json_free(&doc);
}

static void test_semantic(void **state)
{
    /* Proves that a partition is all but the last user message: its text does not matter, anything else does; and
     * what stands in for the text is in the canonical key. */
    struct fingerprint_context partition = base_context(), canonical = base_context();
    char one[KEY_MAX], other[KEY_MAX];

    (void)state;
    partition.kind = FINGERPRINT_PARTITION;
    canonical.kind = FINGERPRINT_CANONICAL;
    canonical.last_user = VIEW("hello");
#define TALK(first, last) \
    "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"" first \
    "\"},{\"role\":\"user\",\"content\":" last "}]}"
    assert_int_equal(key_of_request(one, &partition, TALK("a", "\"b\"")), 0);
    assert_int_equal(key_of_request(other, &partition, TALK("a", "\"c\"")), 0);
    assert_string_equal(one, other);
    assert_int_equal(key_of_request(other, &partition, TALK("b", "\"b\"")), 0);
    assert_string_not_equal(one, other);
    assert_int_equal(key_of_request(other, &partition, TALK("a", "[{\"type\":\"text\",\"text\":\"b\"}]")), 0);
    assert_string_not_equal(one, other);
    partition.last_user = VIEW("ignored");
    assert_int_equal(key_of_request(other, &partition, TALK("a", "\"b\"")), 0);
    assert_string_equal(one, other);
    assert_int_equal(key_of_request(one, &canonical, TALK("a", "\"Hello!\"")), 0);
    assert_int_equal(key_of_request(other, &canonical, TALK("a", "\"hello, please\"")), 0);
    assert_string_equal(one, other);
    assert_int_equal(key_of_request(other, &partition, TALK("a", "[]")), -EINVAL);
    assert_int_equal(key_of_request(other, &canonical, TALK("a", "[]")), -EINVAL);
}

static void test_stream_matters(void **state)
{
    /* Proves that the flag separates keys exactly when it is said to change the content. */
    struct fingerprint_context context = base_context();
    char one[KEY_MAX], other[KEY_MAX];

    (void)state;
    context.stream_matters = true;
    assert_int_equal(key_of_request(one, &context, "{" M ",\"stream\":true}"), 0);
    assert_int_equal(key_of_request(other, &context, "{" M ",\"stream\":false}"), 0);
    assert_string_not_equal(one, other);
}

static void test_errors(void **state)
{
    /* Proves that too little room or memory is an error that leaves the text as it was. */
    struct fingerprint_context context = base_context();
    struct json doc = { 0 };
    struct ai_facts facts;
    char memory[80];
    struct text key = TEXT_ON(memory);

    (void)state;
    assert_int_equal(json_parse(&doc, VIEW("{" M "}"), JSON_LIMITS, NULL), JSON_OK);
    assert_int_equal(ai_facts_read(&facts, AI_CHAT, &doc, NULL), 0);
    text_lit(&key, "before: ");
    assert_int_equal(ai_fingerprint(&context, &doc, &facts, &key), -ENOSPC);
    assert_true(view_eq(text_view(&key), VIEW("before: ")) && !key.overflow);
    key.len = 0;
    heap_fault(1, 0);
    assert_int_equal(ai_fingerprint(&context, &doc, &facts, &key), -ENOMEM);
    heap_fault(0, 0);
    assert_int_equal(key.len, 0);
    assert_int_equal(ai_fingerprint(&context, &doc, &facts, &key), 0);
    assert_int_equal(key.len, 73);
    ai_facts_free(&facts);
    json_free(&doc);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_form),
        cmocka_unit_test(test_same),
        cmocka_unit_test(test_requests_differ),
        cmocka_unit_test(test_contexts_differ),
        cmocka_unit_test(test_scopes),
        cmocka_unit_test(test_semantic),
        cmocka_unit_test(test_stream_matters),
        cmocka_unit_test(test_errors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
