/* Paths: what they ask for, and what only looks like another one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ai/endpoint.h"

static void test_paths(void **state)
{
    /* Proves what is cut off before a path, and which endpoint it names. */
    static const struct {
        const char *path, *rest;
        enum ai_endpoint endpoint;
    } cases[] = {
        { "/v1/chat/completions", "/v1/chat/completions", AI_CHAT },
        { "/openai/v1/chat/completions", "/v1/chat/completions", AI_CHAT },
        { "/v1/responses", "/v1/responses", AI_RESPONSES },
        { "/v1/responses/resp_1", "/v1/responses/resp_1", AI_OTHER },
        { "/v1/completions", "/v1/completions", AI_COMPLETIONS },
        { "/v1/embeddings", "/v1/embeddings", AI_EMBEDDINGS },
        { "/v1/models", "/v1/models", AI_MODELS },
        { "/v1/models/a/b", "/v1/models/a/b", AI_MODELS },
        { "/v1/messages", "/v1/messages", AI_MESSAGES },
        { "/v1/messages/count_tokens", "/v1/messages/count_tokens", AI_COUNT_TOKENS },
        { "/v1/messages/batches", "/v1/messages/batches", AI_OTHER },
        { "/v2/chat/completions", "", AI_OTHER },
        { "/v1", "", AI_OTHER },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct view rest = ai_path(view_str(cases[i].path));

        if (!view_eq(rest, view_str(cases[i].rest)) || ai_endpoint_of(rest) != cases[i].endpoint)
            fail_msg("%s", cases[i].path);
    }
}

static void test_odd_paths(void **state)
{
    /* Proves that no spelling which a provider may undo into an endpoint's path, or out of its own folder, passes as another path. */
    static const char *const odd[] = {
        "/v1/chat/completions/",
        "/v1/ch%61t/completions",
        "/v1/chat%2Fcompletions",
        "/v1/chat%2fcompletions",
        "/v1/Chat/Completions",
        "/v1/chat;a=b/completions",
        "/v1/chat/completions;",
        "/v1/chat//completions",
        "/v1//chat/completions",
        "/v1/./chat/completions",
        "/v1/a/../b",
        "/v1/a/%2e%2E/b",
        "/v1/a/.%2e/b",
        "/v1/..;x/b",
        "/v1/..",
        "/v1/a/.",
        "/v1/chat\\completions",
        "/v1/a%5cb",
        "/v1/a%00",
        "/v1/a%20b",
        "/v1/a%7f",
        "/v1/a%0d%0a",
        "/v1/ch%2561t/completions",
        "/v1/a%",
        "/v1/a%4",
        "/v1/a%zz",
        "/v1/messages/",
        "/v1/MESSAGES",
        "/v1/messages/count%5ftokens",
        "/v1/messages/count_tokens/",
        "/v1/embedding%73",
        "/v1/responses/",
        "/v1/completions/",
    };
    static const char *const even[] = {
        "/v1/chat/completions",
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/v1/embeddings",
        "/v1/responses",
        "/v1/completions",
        "/v1/models",
        "/v1/models/",
        "/v1/models/a%2Fb",
        "/v1/models/ft%3Ax",
        "/v1/files/",
        "/v1/files/a.b..c",
        "/v1/files/...",
        "/v1/files/.a",
        "/v1/chat/completions/x",
        "/v1/responses/r1/cancel",
        "/v1/audio/speech;v=1",
        "/v1/files/%C3%A9",
        "/v1/",
        "",
        "/v1/a-path-that-is-much-longer-than-the-path-of-any-endpoint-that-we-know-of/and/then/some",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(odd); i++)
        if (!ai_path_is_odd(view_str(odd[i])))
            fail_msg("passes: %s", odd[i]);
    for (size_t i = 0; i < ARRAY_LEN(even); i++)
        if (ai_path_is_odd(view_str(even[i])))
            fail_msg("refused: %s", even[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_odd_paths),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
