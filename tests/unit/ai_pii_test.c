/* Personal data: what is found, what is left alone, that nothing hides behind escapes, and that redaction touches nothing else. */
#include "ai/pii.h"

#include "base/heap.h"

#include <errno.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

static unsigned kinds_of(const char *text)
{
    return pii_kinds(view_str(text), PII_ALL);
}

/* Exactly one find, of this kind and with these bytes. */
static void assert_find(const char *text, enum pii_kind kind, const char *value)
{
    struct pii_find find;

    if (pii_scan(view_str(text), PII_ALL, &find, 1) != 1)
        fail_msg("not one find in: %s", text);
    assert_int_equal(find.kind, kind);
    if (!view_eq(view_make(text + find.at, find.len), view_str(value)))
        fail_msg("%.*s found instead of %s", (int)find.len, text + find.at, value);
}

static void kinds_are_found(void **state)
{
    /* Each kind is found with exactly its bytes, punctuation around it left out. */
    (void)state;
    assert_find("Write to <jane.doe@example.com>.", PII_EMAIL, "jane.doe@example.com");
    assert_find("?mail=jane%40example.com&x", PII_EMAIL, "jane%40example.com");
    assert_find("\"jane doe\"@example.com", PII_EMAIL, "\"jane doe\"@example.com");
    assert_find("Call +1 (415) 555-2671!", PII_PHONE, "+1 (415) 555-2671");
    assert_find("(020) 7946 0958 is it", PII_PHONE, "(020) 7946 0958");
    assert_find("card 4111 1111 1111 1111.", PII_CARD, "4111 1111 1111 1111");
    assert_find("4111111111111111 04/29", PII_CARD, "4111111111111111");
    assert_find("IBAN DE89 3704 0044 0532 0130 00, danke", PII_IBAN, "DE89 3704 0044 0532 0130 00");
    assert_find("gb82west12345698765432", PII_IBAN, "gb82west12345698765432");
    assert_find("http://203.0.113.7:80/", PII_IP, "203.0.113.7");
    assert_find("[2001:db8::8a2e:370:7334]:443", PII_IP, "2001:db8::8a2e:370:7334");
    assert_find("Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl;", PII_JWT,
                "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl");
    assert_find("x AKIAIOSFODNN7EXAMPLE y", PII_KEY, "AKIAIOSFODNN7EXAMPLE");
    assert_find("a -----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIBpU8R4x9yqZ4x9yqZ\nAbCd==\n-----END EC PRIVATE KEY----- b",
                PII_PEM,
                "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIBpU8R4x9yqZ4x9yqZ\nAbCd==\n-----END EC PRIVATE KEY-----");
    assert_find("cut: -----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIBpU8R4x9yqZ4x9yqZ", PII_PEM,
                "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIBpU8R4x9yqZ4x9yqZ");
}

static void others_are_left_alone(void **state)
{
    /* Numbers and words that only look similar are no finds: wrong check digits, dates, versions, order numbers, code. */
    static const char *const texts[] = {
        "4111 1111 1111 1112",
        "DE88 3704 0044 0532 0130 00",
        "DE89 3704 0044 0532 0130",
        "2026-11-21 10:15:30",
        "ISBN 978-0-306-40615-7",
        "order 415-555-2671",
        "version 1.2.3.4",
        "1.2.3.4.5",
        "127.0.0.1",
        "255.255.255.0",
        "00:1b:63:84:45:e6",
        "00:1b:63:ff:fe:84:45:e6",
        "std::vector, a::b, ::1",
        "lodash@4.17.21 logo@2x.png @app.route",
        "git@github.com:acme/site",
        "eyJmb28iOiJiYXIifQ.eyJhIjoxfQ.c2ln",
        "-----BEGIN CERTIFICATE----- is its first line",
        "sk-fading-circle-container-large",
        "550e8400-e29b-41d4-a716-446655440000",
        "+1000000 points",
        "",
        "@",
        ":",
        "%40",
        "\\u0040",
        "+",
        "-----BEGIN",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        if (kinds_of(texts[i]))
            fail_msg("found something in: %s", texts[i]);
}

static void kinds_can_be_chosen(void **state)
{
    /* Only what is asked for is found, the count goes on beyond the room for finds, and names lead back to kinds. */
    struct pii_find find;
    struct view text = VIEW("a@example.com b@example.com 203.0.113.7");

    (void)state;
    assert_int_equal(pii_scan(text, PII_ALL, &find, 1), 3);
    assert_int_equal(pii_scan(text, PII_IP, &find, 1), 1);
    assert_int_equal(find.kind, PII_IP);
    assert_int_equal(pii_scan(text, PII_EMAIL, NULL, 0), 2);
    assert_int_equal(pii_kinds(text, PII_ALL), PII_EMAIL | PII_IP);
    for (unsigned kind = 1; kind < PII_ALL; kind <<= 1)
        assert_int_equal(pii_kind_of(view_str(pii_name((enum pii_kind)kind))), kind);
    assert_int_equal(pii_kind_of(VIEW("nonsense")), 0);
}

static void same_value_same_placeholder(void **state)
{
    /* A value keeps its number over several texts of a request; another value gets another one. */
    struct buf out = buf_make(4096);
    struct pii_map map;

    (void)state;
    pii_map_init(&map);
    assert_int_equal(
        pii_redact(VIEW("a@example.com, b@example.com, a@example.com at 203.0.113.7"), PII_ALL, &map, &out), 4);
    assert_true(view_eq(buf_view(&out), VIEW("[EMAIL_1], [EMAIL_2], [EMAIL_1] at [IP_1]")));
    out.len = 0;
    assert_int_equal(pii_redact(VIEW("b@example.com"), PII_ALL, &map, &out), 1);
    assert_true(view_eq(buf_view(&out), VIEW("[EMAIL_2]")));
    for (int i = 0; i < 100; i++) {
        char text[32];

        snprintf(text, sizeof(text), "u%d@example.com", i);
        out.len = 0;
        assert_int_equal(pii_redact(view_str(text), PII_ALL, &map, &out), 1);
    }
    assert_true(view_eq(buf_view(&out), VIEW("[EMAIL_102]")));
    pii_map_free(&map);
    buf_free(&out);
}

static struct json parsed(const char *text)
{
    struct json doc = { 0 };
    size_t at;

    assert_int_equal(json_parse(&doc, view_str(text), JSON_LIMITS, &at), JSON_OK);
    return doc;
}

static void assert_json(const char *text, unsigned kinds)
{
    struct json doc = parsed(text);

    if (pii_scan_json(&doc, PII_ALL) != kinds)
        fail_msg("%x instead of %x in %s", pii_scan_json(&doc, PII_ALL), kinds, text);
    json_free(&doc);
}

static void json_hides_nothing(void **state)
{
    /* Values are looked at decoded, wherever they are; member names are not; neither is the base64 of a picture, but what follows
     * it is. */
    (void)state;
    assert_json("{\"messages\":[{\"role\":\"user\",\"content\":\"jane\\u0040example.com\"}]}", PII_EMAIL);
    assert_json("[[{\"a\":{\"b\":[\"x\",\"203.0.113.\\u0037\"]}}]]", PII_IP);
    assert_json("\"4111\\u0020 1111\"", 0);
    assert_json("\"4111\\u00201111\\u00201111\\u00201111\"", PII_CARD);
    assert_json("{\"jane@example.com\":{\"x\":1},\"y\":[],\"z\":{}}", PII_EMAIL);
    assert_json("{\"a\":{\"jane\\u0040example.com\":null}}", PII_EMAIL);
    assert_json("{\"card\":4111111111111111}", PII_CARD);
    assert_json("{\"card\":4111111111111112,\"phone\":2025550143,\"seed\":4111,\"f\":4111111111111111e0}", 0);
    assert_json("{\"arguments\":\"{\\\"mail\\\":\\\"jane\\\\u0040example.com\\\"}\"}", PII_EMAIL);
    assert_json("{\"text\":\"first\\\\n203.0.113.7\"}", PII_IP);
    assert_json("{\"url\":\"data:image/png;base64,iVBORw0KGgoAKIAIOSFODNN7EXAMPLE\"}", 0);
    assert_json("{\"url\":\"data:image/png;base64,iVBORw0KGgo= jane@example.com\"}", PII_EMAIL);
    assert_json("{\"text\":\"data: jane@example.com\"}", PII_EMAIL);
    assert_json("{\"text\":\"data:jane@example.com;base64,AAAA\"}", PII_EMAIL);
}

static void assert_redacted(const char *text, int count, const char *expected)
{
    struct json doc = parsed(text);
    struct buf out = buf_make(4096);
    struct pii_map map;

    pii_map_init(&map);
    assert_int_equal(pii_redact_json(&doc, PII_ALL, &map, &out), count);
    if (!view_eq(buf_view(&out), view_str(expected)))
        fail_msg("%.*s", VIEW_ARG(buf_view(&out)));
    buf_free(&out);
    pii_map_free(&map);
    json_free(&doc);
}

static void json_is_redacted_in_place(void **state)
{
    /* Only strings and numbers with finds are written anew; spaces, numbers and escapes elsewhere stay byte for byte. */
    (void)state;
    assert_redacted(" { \"a\" : \"jane\\u0040example.com \\n\" ,\"n\":1.50, \"s\":\"\\u0041\" } ", 1,
                    " { \"a\" : \"[EMAIL_1] \\u000a\" ,\"n\":1.50, \"s\":\"\\u0041\" } ");
    assert_redacted("[\"a@example.com\",\"b@example.com\",{\"a@example.com\":\"a@example.com\"}]", 4,
                    "[\"[EMAIL_1]\",\"[EMAIL_2]\",{\"[EMAIL_1]\":\"[EMAIL_1]\"}]");
    assert_redacted("{\"a\":1}", 0, "{\"a\":1}");
    assert_redacted("{\"card\":4111111111111111,\"jane@example.com\":1,\"n\":7}", 2,
                    "{\"card\":\"[CARD_1]\",\"[EMAIL_1]\":1,\"n\":7}");
}

static void without_memory_it_is_found(void **state)
{
    /* When memory is out, the document counts as full of personal data, and redaction refuses. */
    struct json doc = parsed("{\"a\":\"nothing \\n here\",\"b\":\"203.0.113.7 \\n\"}");
    struct buf out = buf_make(4096);
    struct pii_map map;

    (void)state;
    pii_map_init(&map);
    heap_fault(1, 1);
    assert_int_equal(pii_scan_json(&doc, PII_ALL), PII_ALL);
    assert_int_equal(pii_redact_json(&doc, PII_ALL, &map, &out), -ENOMEM);
    assert_int_equal(kinds_of("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"), PII_JWT);
    heap_fault(0, 0);
    pii_map_free(&map);
    buf_free(&out);
    json_free(&doc);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kinds_are_found),
        cmocka_unit_test(others_are_left_alone),
        cmocka_unit_test(kinds_can_be_chosen),
        cmocka_unit_test(same_value_same_placeholder),
        cmocka_unit_test(json_hides_nothing),
        cmocka_unit_test(json_is_redacted_in_place),
        cmocka_unit_test(without_memory_it_is_found),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
