/* A stored head and the fields of a 304: the merged head is well-formed, keeps the status line, and takes nothing it must not;
 * the head of our own 304 is well-formed too. */
#include "cache/conditional.h"

#include "base/check.h"
#include "base/heap.h"
#include "proto/http1.h"

/* Parses as a response head. */
static bool well_formed(struct view head, struct http_response *response, struct field *list, size_t count)
{
    static const struct http1_limits limits = { .head_max = SIZE_MAX, .target_max = SIZE_MAX };
    enum http1_error error;
    size_t scanned = 0;

    fields_init(&response->fields, list, count);
    return http1_parse_response(head, &limits, &scanned, METHOD_HEAD, response, &error) == (int)head.len;
}

/* Status line and fields of a parsed head in the form of object.head: without Age, Content-Length and hop-by-hop fields. */
static void write_head(struct text *out, const struct http_response *response)
{
    text_lit(out, "HTTP/1.1 ");
    text_u64(out, response->status);
    text_char(out, ' ');
    text_put(out, response->reason);
    text_lit(out, "\r\n");
    for (size_t i = 0; i < response->fields.count; i++) {
        const struct field *field = &response->fields.list[i];

        if (field->id == FIELD_AGE || field->id == FIELD_CONTENT_LENGTH ||
            field_is_hop_by_hop(&response->fields, field))
            continue;
        text_put(out, field->name);
        text_lit(out, ": ");
        text_put(out, field->value);
        text_lit(out, "\r\n");
    }
}

/* Input: two response heads, one after the other. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct http1_limits limits = { .head_max = 65536, .target_max = 8192 };
    static const enum field_id of_the_body[] = { FIELD_CONTENT_TYPE, FIELD_CONTENT_ENCODING, FIELD_CONTENT_RANGE,
                                                 FIELD_ETAG, FIELD_SET_COOKIE };
    struct view input = view_make((const char *)data, size);
    struct field stored_list[64], news_list[64], merged_list[128];
    struct http_response stored, news, merged;
    enum http1_error error;
    size_t scanned = 0, cap = 4 * size + 1024;
    struct text head, out;
    int used;

    fields_init(&stored.fields, stored_list, 64);
    used = http1_parse_response(input, &limits, &scanned, METHOD_GET, &stored, &error);
    if (used < 0)
        return 0;
    scanned = 0;
    fields_init(&news.fields, news_list, 64);
    if (http1_parse_response(view_skip(input, (size_t)used), &limits, &scanned, METHOD_GET, &news, &error) < 0)
        return 0;
    head = text_make(heap_alloc(cap), cap);
    out = text_make(heap_alloc(cap), cap);
    CHECK(head.ptr && out.ptr);
    write_head(&head, &stored);
    head_merge_304(text_view(&head), &news.fields, &out);
    text_lit(&out, "\r\n");
    CHECK(!out.overflow && well_formed(text_view(&out), &merged, merged_list, 128));
    CHECK(merged.status == stored.status && merged.fields.count <= stored.fields.count + news.fields.count);
    CHECK(!fields_has(&merged.fields, FIELD_CONNECTION) && !fields_has(&merged.fields, FIELD_AGE));
    for (size_t i = 0; i < ARRAY_LEN(of_the_body); i++)
        CHECK(view_eq(fields_value(&merged.fields, of_the_body[i]), head_value(text_view(&head), of_the_body[i])));
    out.len = 0;
    conditional_304_head(text_view(&head), &out);
    text_lit(&out, "\r\n");
    CHECK(!out.overflow && well_formed(text_view(&out), &merged, merged_list, 128) && merged.status == 304);
    heap_free(head.ptr);
    heap_free(out.ptr);
    return 0;
}
