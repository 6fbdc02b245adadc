/* Cache-Control, list and dictionary form: every number is -1 or in range, and adding a line twice changes nothing but the
 * flags an already seen number cannot change. */
#include "proto/cache_control.h"

#include "base/check.h"

static void check_range(const struct cache_control *cc)
{
    const int64_t all[] = { cc->max_age, cc->s_maxage, cc->swr, cc->sie, cc->max_stale, cc->min_fresh };

    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        CHECK(all[i] >= -1 && all[i] <= CC_SECONDS_MAX);
    CHECK(cc->flags == 0 || (cc->flags & CC_PRESENT));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct view line = view_make((const char *)data, size);
    struct field memory[2];
    struct fields fields;
    struct cache_control cc, twice, targeted;

    cache_control_init(&cc);
    cache_control_add(&cc, line);
    check_range(&cc);
    twice = cc;
    cache_control_add(&twice, line);
    CHECK(twice.max_age == cc.max_age && twice.s_maxage == cc.s_maxage && (twice.flags & cc.flags) == cc.flags);
    fields_init(&fields, memory, ARRAY_LEN(memory));
    CHECK(fields_add(&fields, FIELD_CDN_CACHE_CONTROL, VIEW("CDN-Cache-Control"), line) == 0);
    if (cache_control_parse_targeted(&fields, FIELD_CDN_CACHE_CONTROL, &targeted))
        check_range(&targeted);
    return 0;
}
