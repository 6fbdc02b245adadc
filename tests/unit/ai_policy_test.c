#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ai/policy.h"
#include "base/heap.h"

#include <errno.h>

/* Monday 2024-01-01 00:00 UTC. */
#define MONDAY_MS ((int64_t)1704067200000)
#define AT(day, hour, minute) (MONDAY_MS + ((((int64_t)(day)*24 + (hour)) * 60) + (minute)) * 60000)

struct request {
    struct json doc;
    struct ai_facts facts;
};

static void read_request(struct request *r, enum ai_endpoint endpoint, const char *text)
{
    char memory[300];
    struct text reason = TEXT_ON(memory);

    *r = (struct request){ 0 };
    if (json_parse(&r->doc, view_str(text), JSON_LIMITS, NULL) != JSON_OK)
        fail_msg("no JSON: %s", text);
    if (ai_facts_read(&r->facts, endpoint, &r->doc, &reason) < 0)
        fail_msg("%s: %.*s", text, VIEW_ARG(text_view(&reason)));
}

static void done(struct request *r)
{
    ai_facts_free(&r->facts);
    json_free(&r->doc);
}

static void assert_check(const struct ai_rules *rules, enum ai_endpoint endpoint, const char *text, int64_t now_ms,
                         int status, const char *words)
{
    const struct ai_rules free_of_rules = { 0 }, *levels[] = { &free_of_rules, rules };
    char memory[300];
    struct text reason = TEXT_ON(memory);
    struct request r;
    int got;

    read_request(&r, endpoint, text);
    got = ai_rules_check(levels, 2, &r.doc, &r.facts, now_ms, &reason);
    if (got != status || !view_eq(text_view(&reason), view_str(words)))
        fail_msg("%s: %d %.*s", text, got, VIEW_ARG(text_view(&reason)));
    assert_int_equal(ai_rules_check(levels, 2, &r.doc, &r.facts, now_ms, NULL), status);
    done(&r);
}

#define CHAT(rest) "{\"model\":\"gpt-4o\",\"messages\":[{\"role\":\"user\",\"content\":\"hello\"}]" rest "}"

static void test_models(void **state)
{
    /* Proves lists of models: no list allows all, deny wins and cannot be passed by another case. */
    static const struct view globs[] = { { "fast", 4 }, { "gpt-*", 5 }, { "claude-*", 8 }, { "GPT-4*", 6 } };
    struct ai_rules rules = { 0 };
    const struct ai_rules *levels[] = { &rules };

    (void)state;
    assert_check(&rules, AI_CHAT, CHAT(""), 0, 0, "");
    rules = (struct ai_rules){ .allow = globs, .allow_count = 2 };
    assert_check(&rules, AI_CHAT, CHAT(""), 0, 0, "");
    rules = (struct ai_rules){ .allow = &globs[2], .allow_count = 2 };
    assert_check(&rules, AI_CHAT, CHAT(""), 0, 403, "this model is not allowed for this key");
    rules = (struct ai_rules){ .allow = globs, .allow_count = 2, .deny = &globs[3], .deny_count = 1 };
    assert_check(&rules, AI_CHAT, CHAT(""), 0, 403, "this model is not allowed for this key");
    assert_false(ai_rules_candidate(levels, 1, VIEW("gpt-4o-mini"), VIEW("eu")));
    assert_true(ai_rules_candidate(levels, 1, VIEW("gpt-3"), VIEW("eu")));
}

static void test_regions(void **state)
{
    /* Proves that a region must be named by every level that names any, and that one without a name is nowhere. */
    static const struct view regions[] = { { "ch", 2 }, { "eu", 2 }, { "us", 2 } };
    struct ai_rules key = { .regions = regions, .region_count = 2 },
                    tenant = { .regions = &regions[1], .region_count = 2 }, none = { 0 };
    const struct ai_rules *levels[] = { &key, &none, &tenant };

    (void)state;
    assert_true(ai_rules_region(levels, 3, VIEW("eu")));
    assert_false(ai_rules_region(levels, 3, VIEW("us")));
    assert_false(ai_rules_region(levels, 3, VIEW("ch")));
    assert_false(ai_rules_region(levels, 3, VIEW("")));
    assert_false(ai_rules_candidate(levels, 3, VIEW("m"), VIEW("us")));
    assert_true(ai_rules_region(&levels[1], 1, VIEW("")));
}

static void test_content(void **state)
{
    /* Proves what may be in a request, each rule alone, and that an interface whose content cannot be seen is refused
     * by such rules. */
    struct ai_rules rules = { .no_tools = true };
    static const struct view forbidden[] = { { "logit_bias", 10 }, { "x y", 3 } };

    (void)state;
    assert_check(&rules, AI_CHAT, CHAT(",\"tools\":[{\"type\":\"function\"}]"), 0, 403,
                 "tools are not allowed for this key");
    assert_check(&rules, AI_CHAT, CHAT(",\"web_search_options\":{}"), 0, 403,
                 "tools that the provider runs are not allowed for this key");
    assert_check(&rules, AI_OTHER, "{\"model\":\"gpt-4o\"}", 0, 403, "this interface is not allowed for this key");
    rules = (struct ai_rules){ .no_server_tools = true };
    assert_check(&rules, AI_CHAT, CHAT(",\"tools\":[{\"type\":\"function\"}]"), 0, 0, "");
    assert_check(&rules, AI_CHAT, CHAT(",\"web_search_options\":{}"), 0, 403,
                 "tools that the provider runs are not allowed for this key");
    rules = (struct ai_rules){ .no_images = true };
    assert_check(&rules, AI_CHAT,
                 "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}]}", 0, 403,
                 "images are not allowed for this key");
    rules = (struct ai_rules){ .max_tokens = 100 };
    assert_check(&rules, AI_CHAT, CHAT(",\"max_tokens\":100"), 0, 0, "");
    assert_check(&rules, AI_CHAT, CHAT(",\"max_completion_tokens\":101"), 0, 400,
                 "max_tokens: must be at most 100 for this key");
    rules = (struct ai_rules){ .context_bytes = 20 };
    assert_check(&rules, AI_CHAT, CHAT(""), 0, 400, "the prompt is longer than is allowed for this key");
    assert_check(&rules, AI_OTHER, "{\"a\":\"0123456789012345\"}", 0, 400,
                 "the prompt is longer than is allowed for this key");
    rules = (struct ai_rules){ .context_tokens = 8 };
    assert_check(&rules, AI_CHAT, CHAT(""), 0, 400, "the prompt is longer than is allowed for this key");
    rules = (struct ai_rules){ .context_tokens = 9, .context_bytes = 50 };
    assert_check(&rules, AI_CHAT, CHAT(""), 0, 0, "");
    rules = (struct ai_rules){ .forbidden = forbidden, .forbidden_count = 2 };
    assert_check(&rules, AI_CHAT, CHAT(",\"logit_bi\\u0061s\":null"), 0, 400,
                 "logit_bias: is not allowed for this key");
    assert_check(&rules, AI_CHAT, CHAT(",\"metadata\":{\"logit_bias\":1}"), 0, 0, "");
}

static void test_windows(void **state)
{
    /* Proves hours of a week: their ends, nights, other time zones, and what is no window. */
    static const struct {
        const char *window;
        int offset, day, hour, minute;
        bool open;
    } cases[] = {
        { "Mon-Fri 08:00-18:00", 0, 0, 7, 59, false },   { "Mon-Fri 08:00-18:00", 0, 0, 8, 0, true },
        { "Mon-Fri 08:00-18:00", 0, 4, 17, 59, true },   { "Mon-Fri 08:00-18:00", 0, 4, 18, 0, false },
        { "Mon-Fri 08:00-18:00", 0, 5, 12, 0, false },   { "Mon-Fri 08:00-18:00", 60, 0, 7, 0, true },
        { "Mon-Fri 08:00-18:00", -300, 0, 8, 0, false }, { "Mon-Fri 08:00-18:00", -300, 4, 22, 59, true },
        { "Mon-Fri 00:00-24:00", 120, 4, 22, 0, false }, { "Mon-Fri 00:00-24:00", 120, 6, 22, 0, true },
        { "sat,SUN 00:00-24:00", 0, 6, 23, 59, true },   { "sat,SUN 00:00-24:00", 0, 7, 0, 0, false },
        { "Fri 22:00-06:00", 0, 4, 23, 0, true },        { "Fri 22:00-06:00", 0, 5, 5, 59, true },
        { "Fri 22:00-06:00", 0, 5, 6, 0, false },        { "Fri 22:00-06:00", 0, 4, 5, 0, false },
        { "Sat-Mon 10:00-11:00", 0, 0, 10, 30, true },   { "Sat-Mon 10:00-11:00", 0, 1, 10, 30, false },
        { "Sun 20:00-04:00", 0, 0, 3, 0, true },         { " 09:00-17:00 ", 0, 6, 9, 0, true },
    };
    static const char *const bad[] = { "",
                                       "Mon",
                                       "Mon-Fri",
                                       "8:00-18:00",
                                       "08:00",
                                       "08:00-08:00",
                                       "24:00-08:00",
                                       "08:00-24:01",
                                       "08:60-09:00",
                                       "Mon-Foo 08:00-18:00",
                                       ", 08:00-18:00",
                                       "Mon- 08:00-18:00",
                                       "08:00-18:00-19:00",
                                       "Mon,, 08:00-18:00",
                                       "08-18",
                                       "-1:00-18:00" };
    struct ai_window window;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct ai_rules rules = { .windows = &window, .window_count = 1, .utc_offset = cases[i].offset };

        assert_int_equal(ai_window_parse(view_str(cases[i].window), &window), 0);
        assert_check(&rules, AI_CHAT, CHAT(""), AT(cases[i].day, cases[i].hour, cases[i].minute),
                     cases[i].open ? 0 : 403, cases[i].open ? "" : "this key must not be used at this time");
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (ai_window_parse(view_str(bad[i]), &window) != -EINVAL)
            fail_msg("accepted <%s>", bad[i]);
}

static void assert_applied(const struct ai_rules *const *levels, size_t count, enum ai_endpoint endpoint,
                           const char *text, const char *expected)
{
    struct buf out = buf_make(4096);
    struct json again = { 0 };
    struct request r;
    int changed;

    read_request(&r, endpoint, text);
    buf_lit(&out, ">");
    changed = ai_rules_apply(levels, count, endpoint, &r.doc, &r.facts, &out);
    assert_int_equal(changed, expected != NULL);
    buf_consume(&out, 1);
    if (!view_eq(buf_view(&out), view_str(expected ? expected : "")))
        fail_msg("%s: %.*s", text, VIEW_ARG(buf_view(&out)));
    if (expected)
        assert_int_equal(json_parse(&again, buf_view(&out), JSON_LIMITS, NULL), JSON_OK);
    json_free(&again);
    buf_free(&out);
    done(&r);
}

#define M "\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]"

static void test_apply(void **state)
{
    /* Proves that forced members are set in place or added, the first level deciding; that a limit is added only
     * where none is said; and that all other bytes stay. */
    static const struct ai_forced by_key[] = { { { "temperature", 11 }, { "0", 1 } } };
    static const struct ai_forced by_tenant[] = { { { "temperature", 11 }, { "1", 1 } },
                                                  { { "service_tier", 12 }, { "\"flex\"", 6 } } };
    static const struct ai_forced by_route[] = { { { "max_completion_tokens", 21 }, { "5", 1 } } };
    struct ai_rules key = { .forced = by_key, .forced_count = 1, .max_tokens = 50 },
                    tenant = { .forced = by_tenant, .forced_count = 2, .max_tokens = 20 }, none = { 0 },
                    route = { .forced = by_route, .forced_count = 1 };
    const struct ai_rules *levels[] = { &key, &none, &tenant }, *limited[] = { &tenant, &route };

    (void)state;
    assert_applied(&levels[1], 1, AI_CHAT, "{\"model\":\"m\"," M "}", NULL);
    assert_applied(levels, 3, AI_EMBEDDINGS, "{\"model\":\"m\",\"input\":\"a\"}", NULL);
    assert_applied(levels, 3, AI_CHAT, "{\"model\":\"m\"," M "}",
                   "{\"model\":\"m\"," M ",\"temperature\":0,\"service_tier\":\"flex\",\"max_tokens\":20}");
    assert_applied(
        levels, 3, AI_CHAT, " { \"t\\u0065mperature\" : 0.7 , \"max_tokens\" : null, \"model\":\"m\"," M " } ",
        " { \"t\\u0065mperature\" : 0 , \"max_tokens\" : 20, \"model\":\"m\"," M " ,\"service_tier\":\"flex\"} ");
    assert_applied(levels, 1, AI_CHAT, "{\"model\":\"m\",\"max_tokens\":7,\"temperature\":1," M "}",
                   "{\"model\":\"m\",\"max_tokens\":7,\"temperature\":0," M "}");
    assert_applied(levels, 1, AI_RESPONSES, "{\"model\":\"m\",\"input\":\"a\"}",
                   "{\"model\":\"m\",\"input\":\"a\",\"temperature\":0,\"max_output_tokens\":50}");
    assert_applied(limited, 2, AI_CHAT, "{\"model\":\"m\",\"service_tier\":\"auto\",\"temperature\":1," M "}",
                   "{\"model\":\"m\",\"service_tier\":\"flex\",\"temperature\":1," M ",\"max_completion_tokens\":5}");
}

static void test_no_memory(void **state)
{
    /* Proves that running out of memory leaves the output as it was. */
    struct ai_rules rules = { .max_tokens = 5 };
    const struct ai_rules *levels[] = { &rules };
    struct buf out = buf_make(4096);
    struct request r;

    (void)state;
    read_request(&r, AI_CHAT, CHAT(""));
    heap_fault(1, 0);
    assert_int_equal(ai_rules_apply(levels, 1, AI_CHAT, &r.doc, &r.facts, &out), -ENOMEM);
    heap_fault(0, 0);
    assert_int_equal(out.len, 0);
    buf_free(&out);
    done(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_models),  cmocka_unit_test(test_regions), cmocka_unit_test(test_content),
        cmocka_unit_test(test_windows), cmocka_unit_test(test_apply),   cmocka_unit_test(test_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
