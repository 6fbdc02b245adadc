/* Any bytes as a text and as JSON: finds lie in the text, in order, apart from each other; a redacted text has its other bytes as they
 * were; redacted JSON is JSON. */
#include "ai/pii.h"
#include "base/check.h"

static void check_text(struct view input)
{
    static struct pii_find finds[4096];
    size_t count = pii_scan(input, PII_ALL, finds, ARRAY_LEN(finds)), end = 0;
    struct buf out = buf_make(input.len * 16 + 64);
    struct pii_map map;
    unsigned kinds = 0;
    int replaced;

    CHECK(count <= ARRAY_LEN(finds));
    for (size_t i = 0; i < count; i++) {
        CHECK(finds[i].len > 0 && finds[i].at >= end && finds[i].at + finds[i].len <= input.len);
        end = finds[i].at + finds[i].len;
        kinds |= finds[i].kind;
    }
    CHECK(pii_kinds(input, PII_ALL) == kinds);
    pii_map_init(&map);
    replaced = pii_redact(input, PII_ALL, &map, &out);
    CHECK(replaced >= 0 && (size_t)replaced == count);
    CHECK(count || view_eq(buf_view(&out), input));
    CHECK(!count || view_eq(view_first(buf_view(&out), finds[0].at), view_first(input, finds[0].at)));
    pii_map_free(&map);
    buf_free(&out);
}

static void check_json(struct view input)
{
    struct json doc = { 0 }, again = { 0 };
    struct buf out = buf_make(input.len * 16 + 64);
    struct pii_map map;
    size_t at;
    int replaced;

    if (json_parse(&doc, input, JSON_LIMITS, &at) == JSON_OK) {
        pii_map_init(&map);
        replaced = pii_redact_json(&doc, PII_ALL, &map, &out);
        CHECK(replaced >= 0 && (replaced > 0) == (pii_scan_json(&doc, PII_ALL) != 0));
        CHECK(replaced || view_eq(buf_view(&out), input));
        CHECK(json_parse(&again, buf_view(&out), JSON_LIMITS, &at) == JSON_OK);
        CHECK(again.count == doc.count);
        pii_map_free(&map);
    }
    buf_free(&out);
    json_free(&doc);
    json_free(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct view input = view_make((const char *)data, MIN(size, (size_t)8192));

    check_text(input);
    check_json(input);
    return 0;
}
