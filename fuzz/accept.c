/* Accept and Accept-Encoding: every quality is in 0..1000, a member's value lies inside it, and nothing else matters. */
#include "proto/accept.h"

#include "base/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct view line = view_make((const char *)data, size), member, value;
    uint16_t qualities[CODING_COUNT];
    struct field memory[2];
    struct fields fields;
    struct field_list it;
    unsigned quality;

    fields_init(&fields, memory, ARRAY_LEN(memory));
    CHECK(fields_add(&fields, FIELD_ACCEPT_ENCODING, VIEW("Accept-Encoding"), line) == 0);
    CHECK(fields_add(&fields, FIELD_ACCEPT, VIEW("Accept"), line) == 0);
    accept_encoding(&fields, qualities);
    for (int i = 0; i < CODING_COUNT; i++)
        CHECK(qualities[i] <= 1000);
    it = field_list(&fields, FIELD_ACCEPT);
    while (field_list_next(&it, &member)) {
        value = accept_member(member, &quality);
        CHECK(quality <= 1000 && value.len <= member.len);
        CHECK(value.len == 0 || (value.ptr >= member.ptr && value.ptr + value.len <= member.ptr + member.len));
        CHECK(coding_lookup(value) <= CODING_COUNT);
    }
    /* JSON is never preferred where it is not named. */
    CHECK(!accept_prefers_json(&fields) || memmem(line.ptr, line.len, "/", 1));
    (void)accept_names_html(&fields);
    return 0;
}
