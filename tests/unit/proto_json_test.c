#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/heap.h"
#include "base/text.h"
#include "proto/json.h"

static enum json_error parse(struct json *doc, const char *text)
{
    return json_parse(doc, view_str(text), JSON_LIMITS, NULL);
}

static void must_parse(struct json *doc, const char *text)
{
    if (parse(doc, text) != JSON_OK)
        fail_msg("refused <%s>", text);
}

static void assert_canonical(const char *text, const char *expected)
{
    struct json doc = { 0 };
    struct buf out = buf_make(1 << 20);

    must_parse(&doc, text);
    json_canonical(&doc, 0, NULL, NULL, &out);
    if (out.failed || !view_eq(buf_view(&out), view_str(expected)))
        fail_msg("<%s> is <%.*s>, not <%s>", text, VIEW_ARG(buf_view(&out)), expected);
    buf_free(&out);
    json_free(&doc);
}

static void test_accepted(void **state)
{
    /* Proves that all of RFC 8259's grammar is read: white space, every kind of value, every escape, UTF-8 up to its
     * last character. */
    static const char *const good[] = {
        "[]",
        "{}",
        " [ ] ",
        "\t\n\r [1 , 2]\n",
        "null",
        "true",
        "false",
        "0",
        "-0",
        "-0.0",
        "1",
        "-1",
        "12.50",
        "1e5",
        "1E5",
        "1E+5",
        "1e-5",
        "0e0",
        "0e+1",
        "0.1e1",
        "123456789012345678901234567890",
        "1e400",
        "1e-400",
        "\"\"",
        "\"a\"",
        "\" \"",
        "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
        "\"\\u0041\\u00e9\\u20AC\\ud83d\\ude00\"",
        "\"\\uD800\"",
        "\"\\uDC00\\uD800\"",
        "\"\\uD800\\u0041\"",
        "\"\\uD800\\n\"",
        "\"\\u0000\"",
        "\"\x7f\"",
        "\"\xc2\x80\xdf\xbf\"",
        "\"\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf\"",
        "\"\xf0\x90\x80\x80\xf4\x8f\xbf\xbf\"",
        "[[[[]]]]",
        "{\"a\":{\"a\":{\"a\":[]}}}",
        "{\"\":0}",
        "{\"a\":1,\"A\":2,\"a \":3}",
        "[[],{},\"\",0,null,true,false]",
        "\"0123456789abcdef0123456789abcdef\"",
        "\"0123456789abcde\xc3\xa9xyz\"",
        "{\"a\":[{\"b\":1},{\"b\":2}]}",
        "\"/* no comment */\"",
        "[1\n]",
        "[[] ]",
        "[\"\xe2\x80\xa8\"]",
        "[-123.456e-7]",
    };
    struct json doc = { 0 };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        must_parse(&doc, good[i]);
    json_free(&doc);
}

static void test_refused(void **state)
{
    /* Proves that what is no JSON is refused, and for what reason. */
    static const struct {
        const char *text;
        enum json_error error;
    } bad[] = {
        { "", JSON_SYNTAX },
        { " ", JSON_SYNTAX },
        { "[", JSON_SYNTAX },
        { "]", JSON_SYNTAX },
        { "{", JSON_SYNTAX },
        { "[1", JSON_SYNTAX },
        { "[1,", JSON_SYNTAX },
        { "[1,]", JSON_SYNTAX },
        { "[,1]", JSON_SYNTAX },
        { "[1 2]", JSON_SYNTAX },
        { "[1}", JSON_SYNTAX },
        { "{]", JSON_SYNTAX },
        { "{\"a\"", JSON_SYNTAX },
        { "{\"a\":", JSON_SYNTAX },
        { "{\"a\":}", JSON_SYNTAX },
        { "{\"a\":1,}", JSON_SYNTAX },
        { "{\"a\" 1}", JSON_SYNTAX },
        { "{a:1}", JSON_SYNTAX },
        { "{1:1}", JSON_SYNTAX },
        { "{'a':1}", JSON_SYNTAX },
        { "{\"a\":1 \"b\":2}", JSON_SYNTAX },
        { "{,}", JSON_SYNTAX },
        { "{\"a\":1]", JSON_SYNTAX },
        { "1 2", JSON_SYNTAX },
        { "[]]", JSON_SYNTAX },
        { "{}x", JSON_SYNTAX },
        { "[] //", JSON_SYNTAX },
        { "01", JSON_SYNTAX },
        { "-", JSON_SYNTAX },
        { "-01", JSON_SYNTAX },
        { "+1", JSON_SYNTAX },
        { ".5", JSON_SYNTAX },
        { "1.", JSON_SYNTAX },
        { "1.e5", JSON_SYNTAX },
        { "1e", JSON_SYNTAX },
        { "1e+", JSON_SYNTAX },
        { "1ee5", JSON_SYNTAX },
        { "0x10", JSON_SYNTAX },
        { "NaN", JSON_SYNTAX },
        { "Infinity", JSON_SYNTAX },
        { "-Infinity", JSON_SYNTAX },
        { "- 1", JSON_SYNTAX },
        { "nul", JSON_SYNTAX },
        { "nulll", JSON_SYNTAX },
        { "True", JSON_SYNTAX },
        { "tru", JSON_SYNTAX },
        { "\"", JSON_SYNTAX },
        { "\"a", JSON_SYNTAX },
        { "\"\\", JSON_SYNTAX },
        { "\"\\\"", JSON_SYNTAX },
        { "\"\\a\"", JSON_SYNTAX },
        { "\"\\x41\"", JSON_SYNTAX },
        { "\"\\u\"", JSON_SYNTAX },
        { "\"\\u12\"", JSON_SYNTAX },
        { "\"\\u123g\"", JSON_SYNTAX },
        { "\"\\U0041\"", JSON_SYNTAX },
        { "\"\\u 123\"", JSON_SYNTAX },
        { "\"\n\"", JSON_SYNTAX },
        { "\"\t\"", JSON_SYNTAX },
        { "\"\x1f\"", JSON_SYNTAX },
        { "\xef\xbb\xbf{}", JSON_SYNTAX },
        { "\x0b[]", JSON_SYNTAX },
        { "[\xc2\xa0]", JSON_SYNTAX },
        { "\xff", JSON_SYNTAX },
        { "\"\x80\"", JSON_UTF8 },
        { "\"\xc0\x80\"", JSON_UTF8 },
        { "\"\xc1\xbf\"", JSON_UTF8 },
        { "\"\xc3\"", JSON_UTF8 },
        { "\"\xe0\x80\x80\"", JSON_UTF8 },
        { "\"\xe0\x9f\xbf\"", JSON_UTF8 },
        { "\"\xed\xa0\x80\"", JSON_UTF8 },
        { "\"\xe2\x82\"", JSON_UTF8 },
        { "\"\xf0\x8f\xbf\xbf\"", JSON_UTF8 },
        { "\"\xf4\x90\x80\x80\"", JSON_UTF8 },
        { "\"\xf5\x80\x80\x80\"", JSON_UTF8 },
        { "\"\xf0\x90\x80\"", JSON_UTF8 },
        { "\"0123456789abcdef\xff\"", JSON_UTF8 },
        { "{\"\xff\":1}", JSON_UTF8 },
        { "{\"a\":1,\"a\":1}", JSON_DUPLICATE },
        { "{\"a\":1,\"\\u0061\":1}", JSON_DUPLICATE },
        { "[{\"b\":{\"x\":1,\"y\":2,\"x\":3}}]", JSON_DUPLICATE },
        { "{\"\":1,\"\":1}", JSON_DUPLICATE },
        { "{\"\\ud83d\\ude00\":1,\"\xf0\x9f\x98\x80\":1}", JSON_DUPLICATE },
        { "{\"\\/\":1,\"/\":1}", JSON_DUPLICATE },
    };
    struct json doc = { 0 };
    char nul[] = "[\0]";
    size_t at = 99;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        enum json_error error = parse(&doc, bad[i].text);

        if (error != bad[i].error)
            fail_msg("<%s>: %s, expected: %s", bad[i].text, json_error_text(error), json_error_text(bad[i].error));
        assert_int_equal(doc.count, 0);
    }
    assert_int_equal(json_parse(&doc, view_make(nul, 3), JSON_LIMITS, &at), JSON_SYNTAX);
    assert_int_equal(at, 1);
    assert_int_equal(json_parse(&doc, VIEW("{\"a\":1, \"a\":2}"), JSON_LIMITS, &at), JSON_DUPLICATE);
    assert_int_equal(at, 8);
    json_free(&doc);
}

static void test_every_cut(void **state)
{
    /* Proves that no prefix of a value is taken for a value, wherever it is cut. */
    static const char text[] =
        "{\"model\":\"m\\u00e9\\ud83d\\ude00\",\"messages\":[{\"role\":\"user\",\"content\":\"0123456789 0123456789 \xc3\xa9\xe2\x82\xac\"}],"
        "\"n\":-1.5e+3,\"t\":true,\"f\":false,\"z\":null,\"e\":[],\"o\":{}}";
    struct json doc = { 0 };

    (void)state;
    must_parse(&doc, text);
    for (size_t len = 0; len < sizeof(text) - 1; len++) {
        char *exact = heap_alloc(len + 1); /* so that reading too far is seen by the sanitizer */

        memcpy(exact, text, len);
        if (json_parse(&doc, view_make(exact, len), JSON_LIMITS, NULL) == JSON_OK)
            fail_msg("accepted the first %zu bytes", len);
        heap_free(exact);
    }
    json_free(&doc);
}

static void test_limits(void **state)
{
    /* Proves the limits: depth exactly, tokens exactly, no stack used up by what a peer sends. */
    struct json_limits limits = { .depth = 3, .tokens = 4 };
    struct json doc = { 0 };
    static char deep[200000];

    (void)state;
    assert_int_equal(json_parse(&doc, VIEW("[[[1]]]"), limits, NULL), JSON_OK);
    assert_int_equal(doc.count, 4);
    assert_int_equal(json_parse(&doc, VIEW("[[[[]]]]"), limits, NULL), JSON_DEPTH);
    assert_int_equal(json_parse(&doc, VIEW("[1,2,3]"), limits, NULL), JSON_OK);
    assert_int_equal(json_parse(&doc, VIEW("[1,2,3,4]"), limits, NULL), JSON_TOO_LARGE);
    assert_int_equal(json_parse(&doc, VIEW("{\"a\":1,\"b\":2}"), limits, NULL), JSON_TOO_LARGE);
    memset(deep, '[', sizeof(deep));
    limits = (struct json_limits){ .depth = UINT32_MAX, .tokens = UINT32_MAX };
    assert_int_equal(json_parse(&doc, view_make(deep, sizeof(deep)), limits, NULL), JSON_DEPTH);
    memset(deep + 256, ']', 256);
    assert_int_equal(json_parse(&doc, view_make(deep, 512), limits, NULL), JSON_OK);
    json_free(&doc);
}

static void test_access(void **state)
{
    /* Proves the tape: members by value of their names, order, counts, raw bytes; 0 for what is not there. */
    struct json doc = { 0 };
    uint32_t list, i, seen = 0;

    (void)state;
    must_parse(&doc, " {\"a\\u0062\" : 1, \"list\": [10, {\"x\":[1,2]}, \"s\"] ,\"flag\":false,\"on\":true} ");
    assert_int_equal(doc.tokens[0].count, 4);
    assert_int_equal(json_type(&doc, json_get(&doc, 0, VIEW("ab"))), JSON_NUMBER);
    assert_int_equal(json_get(&doc, 0, VIEW("a")), 0);
    assert_int_equal(json_get(&doc, 0, VIEW("x")), 0);
    list = json_get_typed(&doc, 0, VIEW("list"), JSON_ARRAY);
    assert_int_equal(doc.tokens[list].count, 3);
    assert_int_equal(json_get(&doc, list, VIEW("x")), 0);
    assert_true(view_eq(json_raw(&doc, list), VIEW("[10, {\"x\":[1,2]}, \"s\"]")));
    for (i = json_first(&doc, list); i < json_end(&doc, list); i = json_after(&doc, i))
        seen++;
    assert_int_equal(seen, 3);
    assert_int_equal(json_get_typed(&doc, 0, VIEW("list"), JSON_OBJECT), 0);
    assert_true(json_get_typed(&doc, 0, VIEW("flag"), JSON_TRUE) != 0);
    assert_false(json_true(&doc, json_get(&doc, 0, VIEW("flag"))));
    assert_true(json_true(&doc, json_get(&doc, 0, VIEW("on"))));
    assert_false(json_true(&doc, json_get(&doc, 0, VIEW("off"))));
    for (seen = 0, i = json_first(&doc, 0); i < json_end(&doc, 0); i = json_after(&doc, i + 1))
        seen++;
    assert_int_equal(seen, 4);
    json_free(&doc);
}

static void test_strings(void **state)
{
    /* Proves that escapes are resolved, pairs joined, lone surrogates replaced, and that comparing needs no copy. */
    static const struct {
        const char *text, *value;
    } cases[] = {
        { "\"plain\"", "plain" },
        { "\"\\u0041\\n\\t\\r\\b\\f\\/\\\\\\\"\"", "A\n\t\r\b\f/\\\"" },
        { "\"x\\u00e9y\\u20acz\\ud83d\\ude00\"", "x\xc3\xa9y\xe2\x82\xacz\xf0\x9f\x98\x80" },
        { "\"\\ud800\"", "\xef\xbf\xbd" },
        { "\"\\ud800\\ud83d\\ude00\"", "\xef\xbf\xbd\xf0\x9f\x98\x80" },
        { "\"\\udbff\\udfff\"", "\xf4\x8f\xbf\xbf" },
    };
    struct json doc = { 0 };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf out = buf_make(1000);
        bool lone = view_starts_with(view_str(cases[i].value), VIEW("\xef\xbf\xbd"));

        must_parse(&doc, cases[i].text);
        assert_true(json_decode(&doc, 0, &out));
        if (!view_eq(buf_view(&out), view_str(cases[i].value)))
            fail_msg("%s", cases[i].text);
        assert_int_equal(doc.odd, lone);
        assert_int_equal(json_is(&doc, 0, view_str(cases[i].value)), !lone);
        assert_int_equal(json_plain(&doc, 0).ptr != NULL, i == 0);
        assert_false(json_is(&doc, 0, VIEW("plai")));
        assert_false(json_is(&doc, 0, VIEW("plainx")));
        buf_free(&out);
    }
    must_parse(&doc, "[1]");
    assert_false(json_is(&doc, 1, VIEW("1")));
    assert_false(json_decode(&doc, 1, NULL));
    json_free(&doc);
}

static void test_numbers(void **state)
{
    /* Proves integers exactly and doubles to the nearest, however they are spelled. */
    static const struct {
        const char *text;
        bool whole;
        uint64_t u;
        bool real;
        double d;
    } cases[] = {
        { "0", true, 0, true, 0 },
        { "-0", true, 0, true, 0 },
        { "-0.0e9", true, 0, true, 0 },
        { "1e3", true, 1000, true, 1000 },
        { "5.0", true, 5, true, 5 },
        { "0.05e2", true, 5, true, 5 },
        { "50e-1", true, 5, true, 5 },
        { "5.5", false, 0, true, 5.5 },
        { "-1", false, 0, true, -1 },
        { "18446744073709551615", true, UINT64_MAX, true, 18446744073709551615.0 },
        { "18446744073709551616", false, 0, true, 18446744073709551616.0 },
        { "1e20", false, 0, true, 1e20 },
        { "0.1", false, 0, true, 0.1 },
        { "1.7976931348623157e308", false, 0, true, 1.7976931348623157e308 },
        { "1e309", false, 0, false, 0 },
        { "1e-400", false, 0, false, 0 },
        { "1e999999999999999999999999", false, 0, false, 0 },
        { "0e999999999999999999999999", true, 0, true, 0 },
        { "9007199254740993", true, 9007199254740993u, true, 9007199254740992.0 },
        { "5e-324", false, 0, true, 5e-324 },
    };
    struct json doc = { 0 };
    static char many[3000];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        uint64_t u = 7;
        double d = 7;

        must_parse(&doc, cases[i].text);
        if (json_u64(&doc, 0, &u) != cases[i].whole || u != (cases[i].whole ? cases[i].u : 7))
            fail_msg("%s as an integer", cases[i].text);
        if (json_double(&doc, 0, &d) != cases[i].real || d < (cases[i].real ? cases[i].d : 7) ||
            d > (cases[i].real ? cases[i].d : 7))
            fail_msg("%s as a double", cases[i].text);
    }
    /* Halfway between two doubles, and a little more: far behind all digits that are kept. */
    memset(many, '0', sizeof(many));
    memcpy(many, "9007199254740993.", 17);
    memcpy(many + sizeof(many) - 2, "1", 2);
    must_parse(&doc, many);
    {
        double d = 0;

        assert_true(json_double(&doc, 0, &d));
        assert_true(d > 9007199254740992.0 && d < 9007199254740996.0);
    }
    json_free(&doc);
}

static void test_odd(void **state)
{
    /* Proves what counts as read differently by different readers. */
    static const char *const odd[] = { "9223372036854775808",
                                       "-9223372036854775809",
                                       "18446744073709551615",
                                       "123456789012345678901",
                                       "1e400",
                                       "-1e400",
                                       "1e309",
                                       "1.8e308",
                                       "1e-400",
                                       "0.01e-330",
                                       "1e99999999999999999999",
                                       "\"\\ud800\"",
                                       "\"\\udc00x\"",
                                       "{\"\\ud800\":1}",
                                       "[[\"\\u0000\"]]",
                                       "1797693134862315800000000000000000000000000000000000e300" };
    static const char *const even[] = { "9223372036854775807",
                                        "-9223372036854775808",
                                        "1.7976931348623157e308",
                                        "1e308",
                                        "5e-324",
                                        "0e999",
                                        "0.0e99999999999999999999",
                                        "\"\\ud83d\\ude00\"",
                                        "\"\\u0001\"",
                                        "0.1234567890123456789012345",
                                        "100000000000000000000e-5" };
    struct json doc = { 0 };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(odd); i++) {
        must_parse(&doc, odd[i]);
        if (!doc.odd)
            fail_msg("%s is odd", odd[i]);
    }
    for (size_t i = 0; i < ARRAY_LEN(even); i++) {
        must_parse(&doc, even[i]);
        if (doc.odd)
            fail_msg("%s is not odd", even[i]);
    }
    json_free(&doc);
}

static void test_canonical(void **state)
{
    /* Proves one spelling for one meaning: order, white space, numbers, escapes; and none shared by two meanings. */
    static const char *const distinct[] = { "1",
                                            "10",
                                            "0.1",
                                            "-1",
                                            "\"1\"",
                                            "[1]",
                                            "1e400",
                                            "1e401",
                                            "-1e400",
                                            "1e99999999999999999999",
                                            "1e99999999999999999998",
                                            "1e-99999999999999999999",
                                            "18446744073709551615",
                                            "18446744073709551616",
                                            "0.1000000000000000000000001",
                                            "\"\\ud800\"",
                                            "\"\\ufffd\"",
                                            "\"\\udc00\"",
                                            "\"A\"",
                                            "\"a\"",
                                            "\" a\"",
                                            "\"\"",
                                            "null",
                                            "[]",
                                            "{}",
                                            "[[]]",
                                            "[null]",
                                            "{\"a\":[1,2]}",
                                            "{\"a\":[1],\"b\":2}",
                                            "\"\\\\u0041\"" };
    struct buf made[ARRAY_LEN(distinct)];

    (void)state;
    assert_canonical(" { \"b\" : 1.0 , \"a\" : [ 1 , 2 ] } ", "{\"a\":[1,2],\"b\":1}");
    assert_canonical("{\"b\":{\"d\":1,\"c\":2},\"\\u0061\":0}", "{\"a\":0,\"b\":{\"c\":2,\"d\":1}}");
    assert_canonical("{\"ab\":1,\"a\":2,\"\":3,\"\xc3\xa9\":4,\"B\":5}",
                     "{\"\":3,\"B\":5,\"a\":2,\"ab\":1,\"\xc3\xa9\":4}");
    assert_canonical("[1,1.0,10e-1,0.1e1,1E0,1e+0,100e-2]", "[1,1,1,1,1,1,1]");
    assert_canonical("[0,-0,0.0,-0.00e5,0e99999999999999999999]", "[0,0,0,0,0]");
    assert_canonical("[100,1e2,-2500,0.0025,-1.50,1e400,10e399,1e-400]",
                     "[1e2,1e2,-25e2,25e-4,-15e-1,1e400,1e400,1e-400]");
    assert_canonical("1e99999999999999999999", "1e99999999999999999999");
    assert_canonical("\"\\u0041\\/\\u00e9\\u000a\\u0001\\u001F\\u007f\\\"\\\\\"",
                     "\"A/\xc3\xa9\\n\\u0001\\u001f\x7f\\\"\\\\\"");
    assert_canonical("\"\\uD800\\u0041\\uD83D\\uDE00\\u0000\"", "\"\\ud800A\xf0\x9f\x98\x80\\u0000\"");
    for (size_t i = 0; i < ARRAY_LEN(distinct); i++) {
        struct json doc = { 0 };

        made[i] = buf_make(1000);
        must_parse(&doc, distinct[i]);
        json_canonical(&doc, 0, NULL, NULL, &made[i]);
        for (size_t k = 0; k < i; k++)
            if (view_eq(buf_view(&made[i]), buf_view(&made[k])))
                fail_msg("%s and %s are one", distinct[i], distinct[k]);
        json_free(&doc);
    }
    for (size_t i = 0; i < ARRAY_LEN(distinct); i++)
        buf_free(&made[i]);
}

static bool skip_b(struct view name, void *arg)
{
    ++*(unsigned *)arg;
    return view_eq(name, VIEW("b"));
}

static void test_canonical_rules(void **state)
{
    /* Proves that only the top object's members are left out, by the value of their name, and that a value can be
     * replaced. */
    struct json doc = { 0 };
    struct buf out = buf_make(1000);
    unsigned asked = 0;
    struct json_rules rules = { .replacement = VIEW("?") };

    (void)state;
    must_parse(&doc, "{\"c\":{\"b\":1,\"a\":[\"x\",\"y\"]},\"\\u0062\":2,\"a\":3}");
    json_canonical(&doc, 0, skip_b, &asked, &out);
    assert_true(view_eq(buf_view(&out), VIEW("{\"a\":3,\"c\":{\"a\":[\"x\",\"y\"],\"b\":1}}")));
    assert_int_equal(asked, 3);
    out.len = 0;
    rules.replaced = json_get(&doc, json_get(&doc, 0, VIEW("c")), VIEW("a")) + 2;
    json_canonical_by(&doc, json_get(&doc, 0, VIEW("c")), &rules, &out);
    assert_true(view_eq(buf_view(&out), VIEW("{\"a\":[\"x\",?],\"b\":1}")));
    buf_free(&out);
    out = buf_make(5);
    json_canonical(&doc, 0, NULL, NULL, &out);
    assert_true(out.failed);
    buf_free(&out);
    json_free(&doc);
}

/* {"k<seed * i mod 10007>": i, ...} with `count` members, some names escaped. */
static void put_many(struct buf *b, unsigned count, unsigned step)
{
    buf_char(b, '{');
    for (unsigned i = 0; i < count; i++)
        buf_printf(b, "%s\"%s%06u\":[%u]", i ? "," : "", i % 3 ? "k" : "\\u006b", i * step % 10007, i * step % 10007);
    buf_char(b, '}');
}

static void test_many_members(void **state)
{
    /* Proves large objects: duplicates are found among thousands, sorting is right however they are ordered. */
    struct buf one = buf_make(1 << 20), other = buf_make(1 << 20),
               canonical[2] = { buf_make(1 << 20), buf_make(1 << 20) };
    struct json doc = { 0 };
    size_t at = 0, expected;

    (void)state;
    put_many(&one, 10007, 1);
    put_many(&other, 10007, 4001);
    assert_int_equal(json_parse(&doc, buf_view(&one), JSON_LIMITS, NULL), JSON_OK);
    assert_int_equal(doc.tokens[0].count, 10007);
    json_canonical(&doc, 0, NULL, NULL, &canonical[0]);
    assert_int_equal(json_parse(&doc, buf_view(&other), JSON_LIMITS, NULL), JSON_OK);
    json_canonical(&doc, 0, NULL, NULL, &canonical[1]);
    assert_true(canonical[0].len > 100000 && view_eq(buf_view(&canonical[0]), buf_view(&canonical[1])));
    other.len--;
    expected = other.len + 1;
    buf_lit(&other, ",\"\\u006B000077\":1}");
    assert_int_equal(json_parse(&doc, buf_view(&other), JSON_LIMITS, &at), JSON_DUPLICATE);
    assert_int_equal(at, expected);
    json_free(&doc);
    buf_free(&one);
    buf_free(&other);
    buf_free(&canonical[0]);
    buf_free(&canonical[1]);
}

static void test_no_memory(void **state)
{
    /* Proves that an allocation that fails, whichever it is, is an error and nothing worse. */
    struct buf text = buf_make(1 << 20);
    unsigned long nth = 1;
    enum json_error error;

    (void)state;
    put_many(&text, 500, 1);
    do {
        struct json doc = { 0 };
        struct buf out = buf_make(1 << 20);

        heap_fault(nth, 0);
        error = json_parse(&doc, buf_view(&text), JSON_LIMITS, NULL);
        if (error == JSON_OK)
            json_canonical(&doc, 0, NULL, NULL, &out);
        assert_true(error == JSON_OK || error == JSON_NO_MEMORY);
        error = heap_fault_left() == 0 ? JSON_NO_MEMORY : JSON_OK; /* did it fail? */
        heap_fault(0, 0);
        json_free(&doc);
        buf_free(&out);
        nth++;
    } while (error == JSON_NO_MEMORY && nth < 10000);
    assert_in_range(nth, 5, 9999);
    buf_free(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accepted),        cmocka_unit_test(test_refused),      cmocka_unit_test(test_every_cut),
        cmocka_unit_test(test_limits),          cmocka_unit_test(test_access),       cmocka_unit_test(test_strings),
        cmocka_unit_test(test_numbers),         cmocka_unit_test(test_odd),          cmocka_unit_test(test_canonical),
        cmocka_unit_test(test_canonical_rules), cmocka_unit_test(test_many_members), cmocka_unit_test(test_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
