/* Any bytes as JSON: a tape is well formed and every accessor can be asked about every token; the canonical form is
 * JSON with the same meaning, and its own canonical form. */
#include "base/check.h"
#include "proto/json.h"

static volatile unsigned sink;

static void ask(const struct json *doc, uint32_t i, struct buf *scratch)
{
    const struct json_token *token = &doc->tokens[i];
    uint32_t children = 0, first = json_first(doc, i);
    bool is_string = json_type(doc, i) == JSON_STRING, is_object = json_type(doc, i) == JSON_OBJECT;
    uint64_t u;
    double d;

    CHECK(token->len > 0 && token->at + (size_t)token->len <= doc->text.len);
    CHECK(token->next > i && token->next <= doc->count);
    scratch->len = 0;
    CHECK(json_decode(doc, i, scratch) == is_string && !scratch->failed);
    CHECK(!is_string || scratch->len <= token->len - 2);
    if (is_string && !(token->flags & JSON_ODD))
        CHECK(json_is(doc, i, buf_view(scratch)));
    CHECK(!json_plain(doc, i).ptr || view_eq(json_plain(doc, i), buf_view(scratch)));
    if (json_u64(doc, i, &u) && json_double(doc, i, &d))
        CHECK(d >= 0 && d <= 18446744073709551616.0);
    for (uint32_t at = first; at < json_end(doc, i); at = json_after(doc, at + is_object)) {
        CHECK(doc->tokens[at].at > token->at && doc->tokens[at].at < token->at + token->len);
        children++;
    }
    CHECK(children == token->count);
    if (is_object && children && children < 64 && !(doc->tokens[first].flags & JSON_ODD)) {
        scratch->len = 0;
        json_decode(doc, first, scratch);
        CHECK(json_get(doc, i, buf_view(scratch)) == first + 1);
    }
    sink += (unsigned)json_get(doc, i, VIEW("a"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct json doc = { 0 }, again = { 0 };
    struct buf once = buf_make(1 << 24), twice = buf_make(1 << 24), scratch = buf_make(1 << 24);
    size_t at = 0;

    if (json_parse(&doc, view_make((const char *)data, size), JSON_LIMITS, &at) != JSON_OK) {
        CHECK(at <= size && doc.count == 0);
        json_free(&doc);
        return 0;
    }
    for (uint32_t i = 0; i < doc.count; i++)
        ask(&doc, i, &scratch);
    json_canonical(&doc, 0, NULL, NULL, &once);
    CHECK(!once.failed && json_parse(&again, buf_view(&once), JSON_LIMITS, NULL) == JSON_OK);
    CHECK(again.count == doc.count);
    json_canonical(&again, 0, NULL, NULL, &twice);
    CHECK(view_eq(buf_view(&once), buf_view(&twice)));
    buf_free(&once);
    buf_free(&twice);
    buf_free(&scratch);
    json_free(&doc);
    json_free(&again);
    return 0;
}
