/* Range and Content-Range: what comes back lies inside the length, is bounded, and never adds up to more than the whole where it
 * was coalesced; Content-Range survives writing. */
#include "proto/range.h"

#include "base/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint64_t lengths[] = { 0, 1, 100, 1000, 1000000, INT64_MAX };
    struct view value = view_make((const char *)data, size);
    struct range list[RANGE_MAX];
    struct content_range cr, again;
    uint64_t first, last;
    size_t count;

    for (size_t l = 0; l < ARRAY_LEN(lengths); l++) {
        uint64_t total = 0;

        if (range_parse(value, lengths[l], list, RANGE_MAX, &count) != RANGE_OK)
            continue;
        CHECK(count >= 1 && count <= RANGE_MAX);
        for (size_t i = 0; i < count; i++) {
            CHECK(list[i].first <= list[i].last && list[i].last < lengths[l]);
            total += list[i].last - list[i].first + 1;
        }
        CHECK(total <= lengths[l]);
    }
    if (range_parse_single(value, &first, &last))
        CHECK(first <= last);
    (void)range_if_range(value, VIEW("\"a\""), 784111777, 784111999);
    if (content_range_parse(value, &cr) && !cr.unsatisfied && cr.complete_known) {
        char memory[128];
        struct text out = TEXT_ON(memory);

        CHECK(cr.first <= cr.last && cr.last < cr.complete);
        content_range_put(&out, (struct range){ cr.first, cr.last }, cr.complete);
        CHECK(content_range_parse(text_view(&out), &again) && again.first == cr.first && again.last == cr.last &&
              again.complete == cr.complete);
    }
    return 0;
}
