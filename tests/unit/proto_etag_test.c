#include "message_fixture.h"

#include "proto/accept.h"
#include "proto/etag.h"

static void test_parse(void **state)
{
    /* Proves what is an entity tag and what is not. */
    static const char *const bad[] = { "",    "a",        "\"",      "\"a",    "a\"",        "w/\"a\"",
                                       "W/a", "W/ \"a\"", "\"a b\"", "\"a\"b", "\"a\"\"b\"", "'a'" };
    struct etag e;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (etag_parse(view_str(bad[i]), &e))
            fail_msg("accepted <%s>", bad[i]);
    assert_true(etag_parse(VIEW("\"\""), &e) && !e.weak);
    assert_true(etag_parse(VIEW("W/\"a,b\\\""), &e) && e.weak);
    assert_view(e.opaque, "\"a,b\\\"");
}

static void test_lists(void **state)
{
    /* Proves list matching: weak and strong, commas inside tags, several lines, `*`, malformed rest. */
    static const struct {
        const char *lines;
        const char *etag;
        bool weak;
        enum etag_list result;
    } cases[] = {
        { "", "\"a\"", true, ETAG_LIST_NONE },
        { "If-None-Match: \"a\"", "\"a\"", true, ETAG_LIST_MATCH },
        { "If-None-Match: \"b\", \"a\"", "\"a\"", true, ETAG_LIST_MATCH },
        { "If-None-Match: \"b\",\t,W/\"a\"", "\"a\"", true, ETAG_LIST_MATCH },
        { "If-None-Match: \"a\"", "W/\"a\"", true, ETAG_LIST_MATCH },
        { "If-None-Match: \"b,\\\"\nIf-None-Match: \"a\"", "\"a\"", true, ETAG_LIST_MATCH },
        { "If-None-Match: \"x,\"a\",y\"", "\"a\"", true, ETAG_LIST_OTHER },
        { "If-None-Match: *", "", true, ETAG_LIST_MATCH },
        { "If-None-Match: \"*\"", "\"a\"", true, ETAG_LIST_OTHER },
        { "If-None-Match: a", "\"a\"", true, ETAG_LIST_OTHER },
        { "If-None-Match: \"a\"", "", true, ETAG_LIST_OTHER },
        { "If-None-Match: \"A\"", "\"a\"", true, ETAG_LIST_OTHER },
        { "If-None-Match: \"a\", junk", "\"a\"", true, ETAG_LIST_MATCH },
        { "If-None-Match: junk, \"a\"", "\"a\"", true, ETAG_LIST_OTHER },
        { "If-None-Match: W/\"a\"", "W/\"a\"", false, ETAG_LIST_OTHER },
        { "If-None-Match: \"a\"", "\"a\"", false, ETAG_LIST_MATCH },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct message m;
        const struct fields *f = message_of(&m, cases[i].lines);

        if (etag_list_match(f, FIELD_IF_NONE_MATCH, view_str(cases[i].etag), cases[i].weak) != cases[i].result)
            fail_msg("case %zu: %s", i, cases[i].lines);
    }
}

static void test_accept(void **state)
{
    /* Proves quality values, the star of Accept-Encoding, and HTML or JSON by Accept. */
    struct message m;
    uint16_t q[CODING_COUNT];
    unsigned quality;

    (void)state;
    assert_view(accept_member(VIEW("en ; q=0.25"), &quality), "en");
    assert_int_equal(quality, 250);
    accept_member(VIEW("a;Q=1.000"), &quality);
    assert_int_equal(quality, 1000);
    accept_member(VIEW("a;q=1.001"), &quality);
    assert_int_equal(quality, 0);
    accept_encoding(message_of(&m, ""), q);
    assert_true(q[CODING_IDENTITY] == 1000 && q[CODING_GZIP] == 0);
    accept_encoding(message_of(&m, "Accept-Encoding: gzip;q=0, *;q=0.5"), q);
    assert_true(q[CODING_GZIP] == 0 && q[CODING_BR] == 500 && q[CODING_IDENTITY] == 500);
    accept_encoding(message_of(&m, "Accept-Encoding: X-GZIP, identity;q=0"), q);
    assert_true(q[CODING_GZIP] == 1000 && q[CODING_IDENTITY] == 0);
    assert_false(accept_prefers_json(message_of(&m, "")));
    assert_false(accept_prefers_json(message_of(&m, "Accept: */*")));
    assert_true(accept_prefers_json(message_of(&m, "Accept: application/json, */*")));
    assert_false(accept_prefers_json(message_of(&m, "Accept: text/html,application/json;q=0.9")));
    assert_true(accept_names_html(message_of(&m, "Accept: text/html,*/*;q=0.8")));
    assert_false(accept_names_html(message_of(&m, "Accept: */*")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_accept),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
