#include "message_fixture.h"

#include "cache/vary.h"

static void test_names(void **state)
{
    /* Proves that names are folded, sorted, unique and bounded, and that `*` anywhere wins. */
    static const struct {
        const char *lines;
        enum vary result;
        const char *names;
    } cases[] = {
        { "", VARY_NONE, "" },
        { "Vary:", VARY_NONE, "" },
        { "Vary: , ,", VARY_NONE, "" },
        { "Vary: Cookie ,accept-ENCODING\nVary: cookie", VARY_NAMES, "accept-encoding,cookie" },
        { "Vary: *", VARY_STAR, "" },
        { "Vary: a, *", VARY_STAR, "" },
        { "Vary: a\nVary: b,*", VARY_STAR, "" },
        { "Vary: a b", VARY_LIMIT, "" },
        { "Vary: a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q", VARY_LIMIT, "" },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct message m;
        char memory[128];
        struct text names = TEXT_ON(memory);

        if (vary_names(message_of(&m, cases[i].lines), &names) != cases[i].result)
            fail_msg("%s", cases[i].lines);
        if (cases[i].result <= VARY_NAMES)
            assert_view(text_view(&names), cases[i].names);
    }
}

static bool same(const char *names, const char *a, const char *b)
{
    struct message m;
    char one[512], two[512];
    struct text x = TEXT_ON(one), y = TEXT_ON(two);

    assert_true(vary_values(view_str(names), message_of(&m, a), &x));
    assert_true(vary_values(view_str(names), message_of(&m, b), &y));
    return view_eq(text_view(&x), text_view(&y));
}

static void test_values(void **state)
{
    /* Proves which spellings are one variant and which are two. */
    static const struct {
        const char *names, *a, *b;
        bool same;
    } cases[] = {
        { "foo", "Foo: 1", "foo:   1 ", true },
        { "foo", "Foo: 1", "Foo: 2", false },
        { "foo", "", "", true },
        { "foo", "", "Foo:", false },
        { "foo", "Foo: a, b", "Foo: a\nFoo: b", true },
        { "foo", "Foo: a ,\tb", "Foo: a,b", true },
        { "foo", "Foo: a  b", "Foo: a b", true },
        { "foo", "Foo: a b", "Foo: ab", false },
        { "foo", "Foo: \"a  b\"", "Foo: \"a b\"", false },
        { "foo", "Foo: a,b", "Foo: b,a", false },
        { "foo", "Foo: A", "Foo: a", false },
        { "bar,foo", "Bar: 1", "Foo: 1", false },
        { "accept-language", "Accept-Language: en, de", "Accept-Language: DE,EN", true },
        { "accept-language", "Accept-Language: en;q=0.5, de", "Accept-Language: de;q=1.0, en;q=0.8", true },
        { "accept-language", "Accept-Language: de, en", "Accept-Language: de, en;q=0.5", false },
        { "accept-language", "Accept-Language: en;q=0.5, de", "Accept-Language: en, de;q=0.5", false },
        { "accept-language", "Accept-Language: en", "Accept-Language: en, de;q=0", false },
        { "accept-encoding", "Accept-Encoding: gzip, br", "Accept-Encoding: br;q=0.9,GZIP,compress", true },
        { "accept-encoding", "Accept-Encoding: gzip", "Accept-Encoding: gzip, br", false },
        { "accept-encoding", "Accept-Encoding: gzip", "Accept-Encoding: gzip;q=0", false },
        { "accept-encoding", "Accept-Encoding: gzip", "Accept-Encoding: gzip, identity;q=0", false },
        { "cookie", "Cookie: a=1", "Cookie: a=2", false },
        { "cookie", "Cookie: a=1", "Cookie: a=1", true },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        if (same(cases[i].names, cases[i].a, cases[i].b) != cases[i].same)
            fail_msg("case %zu: <%s> <%s>", i, cases[i].a, cases[i].b);
}

static void test_secrets_and_room(void **state)
{
    /* Proves that a cookie never stands in clear, and that a lack of room is told. */
    struct message m;
    char memory[128], tiny[4];
    struct text out = TEXT_ON(memory), small = TEXT_ON(tiny);

    (void)state;
    assert_true(
        vary_values(VIEW("authorization,cookie"), message_of(&m, "Cookie: sid=hunter2\nAuthorization: hunter2"), &out));
    assert_null(memmem(out.ptr, out.len, "hunter2", 7));
    assert_false(vary_values(VIEW("foo"), message_of(&m, "Foo: longer"), &small));
}

static void test_language(void **state)
{
    /* Proves that a stored language stands in only for the best rank, and only where nothing else differs. */
    struct message m;

    (void)state;
    assert_true(vary_language_match(VIEW("de"), message_of(&m, "Accept-Language: fr;q=0.5, DE;q=1.0")));
    assert_true(vary_language_match(VIEW("en-GB"), message_of(&m, "Accept-Language: en")));
    assert_false(vary_language_match(VIEW("en"), message_of(&m, "Accept-Language: en-GB")));
    assert_false(vary_language_match(VIEW("eng"), message_of(&m, "Accept-Language: en")));
    assert_false(vary_language_match(VIEW("fr"), message_of(&m, "Accept-Language: fr;q=0.5, de")));
    assert_false(vary_language_match(VIEW("de, en"), message_of(&m, "Accept-Language: de")));
    assert_false(vary_language_match(VIEW("de"), message_of(&m, "Accept-Language: de;q=0")));
    assert_false(vary_language_match(VIEW("de"), message_of(&m, "")));
    assert_false(vary_language_match(VIEW("de"), message_of(&m, "Accept-Language: *")));
    assert_true(vary_same_but_language(VIEW("accept-language,foo"), VIEW("=en\n=1\n"), VIEW("=de\n=1\n")));
    assert_false(vary_same_but_language(VIEW("accept-language,foo"), VIEW("=en\n=1\n"), VIEW("=de\n=2\n")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_secrets_and_room),
        cmocka_unit_test(test_language),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
