/* Entity tags and their lists: a tag that parses matches itself in a list, weakly always and strongly unless weak. */
#include "proto/etag.h"

#include "base/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct view value = view_make((const char *)data, size);
    struct field memory[2];
    struct fields fields;
    struct etag etag;

    fields_init(&fields, memory, ARRAY_LEN(memory));
    CHECK(fields_add(&fields, FIELD_IF_NONE_MATCH, VIEW("If-None-Match"), value) == 0);
    (void)etag_list_match(&fields, FIELD_IF_NONE_MATCH, VIEW("\"a\""), true);
    if (etag_parse(value, &etag)) {
        CHECK(etag_weak_eq(etag, etag) && etag_strong_eq(etag, etag) == !etag.weak);
        CHECK(etag_list_match(&fields, FIELD_IF_NONE_MATCH, value, true) == ETAG_LIST_MATCH);
        CHECK((etag_list_match(&fields, FIELD_IF_NONE_MATCH, value, false) == ETAG_LIST_MATCH) == !etag.weak);
    }
    return 0;
}
