/* Quality values and what the node needs of Accept fields. */
#include "message_fixture.h"

#include "proto/accept.h"

static void members(void **state)
{
    /* Weights are at most three digits between 0 and 1 (RFC 9110 §12.4.2); what is none counts as refused. */
    static const struct {
        const char *member, *value;
        unsigned quality;
    } cases[] = {
        { "gzip", "gzip", 1000 },
        { "gzip;q=0.5", "gzip", 500 },
        { "gzip ; q=0.005", "gzip", 5 },
        { "gzip;Q=1", "gzip", 1000 },
        { "gzip;q=1.000", "gzip", 1000 },
        { "gzip;q=0", "gzip", 0 },
        { "gzip;q=", "gzip", 0 },
        { "gzip;q=1.5", "gzip", 0 },
        { "gzip;q=2", "gzip", 0 },
        { "gzip;q=0.1234", "gzip", 0 },
        { "gzip;q=-1", "gzip", 0 },
        { "gzip;q=a", "gzip", 0 },
        { "text/html;level=1;q=0.4", "text/html", 400 },
        { "", "", 1000 },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        unsigned quality = 12345;

        assert_view(accept_member(view_str(cases[i].member), &quality), cases[i].value);
        if (quality != cases[i].quality)
            fail_msg("<%s> %u", cases[i].member, quality);
    }
}

static void codings(void **state)
{
    /* Names fold case, x-gzip is gzip, the star stands for what is not named, identity is there unless refused. */
    static const struct {
        const char *lines;
        uint16_t quality[CODING_COUNT];
    } cases[] = {
        { "", { 1000, 0, 0, 0, 0 } },
        { "Accept-Encoding: GZIP, br;q=0.8", { 1000, 1000, 800, 0, 0 } },
        { "Accept-Encoding: x-gzip;q=0.3", { 1000, 300, 0, 0, 0 } },
        { "Accept-Encoding: *", { 1000, 1000, 1000, 1000, 1000 } },
        { "Accept-Encoding: gzip\nAccept-Encoding: *;q=0", { 0, 1000, 0, 0, 0 } },
        { "Accept-Encoding: identity;q=0", { 0, 0, 0, 0, 0 } },
        { "Accept-Encoding: foo, deflate;q=0.1", { 1000, 0, 0, 0, 100 } },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        uint16_t quality[CODING_COUNT];
        struct message m;

        accept_encoding(message_of(&m, cases[i].lines), quality);
        for (int k = 0; k < CODING_COUNT; k++)
            if (quality[k] != cases[i].quality[k])
                fail_msg("<%s> %d: %u", cases[i].lines, k, quality[k]);
    }
    for (int k = 0; k < CODING_COUNT; k++)
        assert_int_equal(coding_lookup(coding_name((enum coding)k)), k);
    assert_int_equal(coding_lookup(VIEW("compress")), CODING_COUNT);
    assert_int_equal(coding_lookup(VIEW_NONE), CODING_COUNT);
}

static void error_bodies(void **state)
{
    /* JSON for those who rank it higher, HTML for those who name it, neither for curl. */
    static const struct {
        const char *lines;
        bool json, html;
    } cases[] = {
        { "", false, false },
        { "Accept: */*", false, false },
        { "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", false, true },
        { "Accept: application/json", true, false },
        { "Accept: application/json;q=0.5, text/html", false, true },
        { "Accept: application/json, text/html;q=0.5", true, true },
        { "Accept: application/json;q=0", false, false },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct message m;
        const struct fields *fields = message_of(&m, cases[i].lines);

        if (accept_prefers_json(fields) != cases[i].json || accept_names_html(fields) != cases[i].html)
            fail_msg("<%s>", cases[i].lines);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members),
        cmocka_unit_test(codings),
        cmocka_unit_test(error_bodies),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
