/* Vary: names come out sorted, unique and bounded, and normalising them again changes nothing; a request fits itself. */
#include "cache/vary.h"

#include "base/check.h"

static volatile unsigned char sink;

static void read_all(struct view v)
{
    for (size_t i = 0; i < v.len; i++)
        sink ^= (unsigned char)v.ptr[i];
}

/* Once more as a response would list them. */
static void check_names(struct view names)
{
    struct field memory[1];
    struct fields response;
    char again_memory[1024];
    struct text again = TEXT_ON(again_memory);
    struct view rest = names, last = VIEW_NONE;
    unsigned count = 0;

    while (rest.len) {
        struct view name = view_cut(&rest, ',');

        CHECK(name.len > 0 && (!last.ptr || view_compare(last, name) < 0));
        last = name;
        count++;
    }
    CHECK(count > 0 && count <= VARY_NAMES_MAX);
    fields_init(&response, memory, 1);
    CHECK(fields_add(&response, FIELD_VARY, VIEW("Vary"), names) == 0);
    CHECK(vary_names(&response, &again) == VARY_NAMES && view_eq(text_view(&again), names));
}

/* Input: a Vary value, then request lines "Name: value", each ended by \n. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct view rest = view_make((const char *)data, size), vary = view_trim(view_cut(&rest, '\n'));
    struct field response_memory[1], request_memory[32];
    struct fields response, request;
    char names_memory[512], a_memory[2048], b_memory[2048];
    struct text names = TEXT_ON(names_memory), a = TEXT_ON(a_memory), b = TEXT_ON(b_memory);

    fields_init(&response, response_memory, 1);
    CHECK(fields_add(&response, FIELD_VARY, VIEW("Vary"), vary) == 0);
    fields_init(&request, request_memory, ARRAY_LEN(request_memory));
    while (rest.len) {
        struct view value = view_cut(&rest, '\n'), name = view_cut(&value, ':');

        value = view_trim(value);
        if (name.len && fields_add(&request, field_lookup(name), name, value) == 0)
            CHECK(request.count <= ARRAY_LEN(request_memory));
        vary_language_match(vary, &request);
    }
    if (vary_names(&response, &names) != VARY_NAMES || names.overflow)
        return 0;
    check_names(text_view(&names));
    if (!vary_values(text_view(&names), &request, &a))
        return 0;
    read_all(text_view(&a));
    CHECK(vary_values(text_view(&names), &request, &b) && view_eq(text_view(&a), text_view(&b)));
    CHECK(vary_same_but_language(text_view(&names), text_view(&a), text_view(&b)));
    return 0;
}
