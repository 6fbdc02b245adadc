#include "message_fixture.h"

#include "cache/marks.h"
#include "cache/tags.h"

#define GROUP "\x1f"

static void test_put(void **state)
{
    /* Proves that both fields are lists by comma or space, and that groups are told from tags. */
    static const struct {
        const char *lines, *tags;
    } cases[] = {
        { "", "" },
        { "Cache-Tag: a", "a" },
        { "Cache-Tag: a,b , c\nCache-Tag: d", "a b c d" },
        { "Surrogate-Key: a b\tc", "a b c" },
        { "Surrogate-Key: s\nCache-Tag: c", "c s" },
        { "Cache-Tag: , ,", "" },
        { "Cache-Groups: \"a\", \"b c\"", GROUP "a " GROUP "b" GROUP "c" },
        { "Cache-Tag: t\nCache-Groups: \"a\"", "t " GROUP "a" },
        { "Cache-Tag: t\nCache-Groups: \"a\", b", "t" },
        { "Cache-Groups: \"a", "" },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct message m;
        char memory[256];
        struct text out = TEXT_ON(memory);

        tags_put(&out, message_of(&m, cases[i].lines));
        assert_view(text_view(&out), cases[i].tags);
    }
}

static void test_confirmed(void **state)
{
    /* Proves that a 304 without tags leaves those of the stored response, and that one with tags replaces them. */
    static const struct {
        const char *merged, *not_modified, *stored, *tags;
    } cases[] = {
        { "", "", "a b", "a b" },
        { "", "", "", "" },
        { "Cache-Tag: a", "", "a", "a" }, /* kept in the head, and not twice among the tags */
        { "Cache-Tag: c", "Cache-Tag: c", "a b", "c" },
        { "Surrogate-Key: c", "Surrogate-Key: c", "a", "c" },
        { "Cache-Groups: \"g\"", "", "a " GROUP "g", "a " GROUP "g" },
        { "Cache-Groups: \"h\"", "Cache-Groups: \"h\"", "a " GROUP "g", "a " GROUP "h" },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct message merged, not_modified;
        char memory[256];
        struct text out = TEXT_ON(memory);

        tags_put_confirmed(&out, message_of(&merged, cases[i].merged), message_of(&not_modified, cases[i].not_modified),
                           view_str(cases[i].stored));
        assert_view(text_view(&out), cases[i].tags);
    }
}

static void test_next(void **state)
{
    /* Proves that the walk shows every tag once and no group. */
    struct view rest = VIEW("a " GROUP "g  b " GROUP "h"), tag;

    (void)state;
    assert_true(tags_next(&rest, &tag));
    assert_view(tag, "a");
    assert_true(tags_next(&rest, &tag));
    assert_view(tag, "b");
    assert_false(tags_next(&rest, &tag));
    rest = VIEW_NONE;
    assert_false(tags_next(&rest, &tag));
}

static void test_invalidated(void **state)
{
    /* Proves that group names lose their escapes, and that a mistake makes the whole field count for nothing. */
    struct message m;
    struct view names[GROUPS_MAX];
    char memory[256];
    struct text out = TEXT_ON(memory);

    (void)state;
    assert_int_equal(tags_invalidated(message_of(&m, "Cache-Group-Invalidation: \"a\\\"b\", \"c\";x=1"), &out, names),
                     2);
    assert_view(names[0], "a\"b");
    assert_view(names[1], "c");
    assert_int_equal(tags_invalidated(message_of(&m, "Cache-Group-Invalidation: \"a\", 5"), &out, names), 0);
    assert_int_equal(tags_invalidated(message_of(&m, ""), &out, names), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put),
        cmocka_unit_test(test_confirmed),
        cmocka_unit_test(test_next),
        cmocka_unit_test(test_invalidated),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
