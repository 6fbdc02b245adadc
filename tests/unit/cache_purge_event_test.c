/* Purges in words: what is understood, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cache/purge_event.h"

#include <errno.h>

static void lines_are_understood(void **state)
{
    /* Every kind, hard and soft, is understood, and written again as the same line. */
    static const struct {
        const char *line;
        enum mark_kind kind;
        bool soft;
        const char *target;
    } list[] = {
        { "tag product-42", MARK_TAG, false, "product-42" },
        { "tag \xc3\xa4pfel/\"1\"", MARK_TAG, false, "\xc3\xa4pfel/\"1\"" },
        { "soft url http://shop.example/a?b=1&c", MARK_URL, true, "http://shop.example/a?b=1&c" },
        { "url HTTPS://shop.example", MARK_URL, false, "HTTPS://shop.example" },
        { "url http://shop.example?q=1@2", MARK_URL, false, "http://shop.example?q=1@2" },
        { "prefix /assets/", MARK_PREFIX, false, "/assets/" },
        { "prefix http://[::1]:8080/a", MARK_PREFIX, false, "http://[::1]:8080/a" },
        { "host shop.example:8080", MARK_HOST, false, "shop.example:8080" },
        { "soft host shop.example", MARK_HOST, true, "shop.example" },
        { "group http://shop.example two words", MARK_GROUP, false, "http://shop.example two words" },
        { "all", MARK_ALL, false, "" },
        { "soft all", MARK_ALL, true, "" },
    };
    struct purge_event event;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(list); i++) {
        char memory[128];
        struct text again = TEXT_ON(memory);

        assert_int_equal(purge_event_parse(view_str(list[i].line), &event), 0);
        assert_int_equal(event.kind, list[i].kind);
        assert_int_equal(event.soft, list[i].soft);
        assert_true(view_eq(event.target, view_str(list[i].target)));
        purge_event_put(&again, &event);
        assert_string_equal(text_str(&again), list[i].line);
    }
    assert_int_equal(purge_event_parse(VIEW("  tag a \r\n"), &event), 0);
    assert_true(view_eq(event.target, VIEW("a")));
}

static void mistakes_are_refused(void **state)
{
    /* Unknown kinds, missing or superfluous targets and targets that could never match are refused; nothing is written to the
     * result. */
    static const char *const list[] = {
        "",
        " ",
        "soft",
        "soft ",
        "tag",
        "tag ",
        "Tag a",
        "tags a",
        "tag a,b",
        "tag a b",
        "tag a\tb",
        "tag \x7f",
        "tag a\nb",
        "all things",
        "hard all",
        "soft soft all",
        "url",
        "url shop.example/a",
        "url ftp://a/b",
        "url http://",
        "url http:///a",
        "url http://a b/",
        "url http://a/#b",
        "url http://u:p@a/",
        "prefix a",
        "prefix *",
        "host",
        "host http://a",
        "host a/b",
        "host a,b",
        "host :80",
        "group name",
        "group http://a",
        "group http://a ",
        "group http://a/b name",
        "group http://a  name",
        "purge tag a",
        "\xff",
    };
    static const struct purge_event untouched = { .kind = MARK_KINDS };
    struct purge_event event = untouched;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(list); i++)
        if (purge_event_parse(view_str(list[i]), &event) != -EINVAL || event.kind != MARK_KINDS)
            fail_msg("'%s' was not refused", list[i]);
    assert_int_equal(purge_event_make(VIEW("tag"), VIEW("a\0b"), false, &event), -EINVAL);
    assert_int_equal(purge_event_make(VIEW_NONE, VIEW_NONE, false, &event), -EINVAL);
}

static void targets_are_bounded(void **state)
{
    /* 8 KiB is the longest target. */
    static char target[PURGE_TARGET_MAX + 1];
    struct purge_event event;

    (void)state;
    memset(target, 'x', sizeof(target));
    assert_int_equal(purge_event_make(VIEW("tag"), view_make(target, PURGE_TARGET_MAX), true, &event), 0);
    assert_int_equal(event.target.len, PURGE_TARGET_MAX);
    assert_int_equal(purge_event_make(VIEW("tag"), view_make(target, sizeof(target)), true, &event), -EMSGSIZE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_understood),
        cmocka_unit_test(mistakes_are_refused),
        cmocka_unit_test(targets_are_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
