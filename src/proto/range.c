/* Byte ranges. Parsing is bounded (RANGE_MEMBERS_MAX members, RANGE_MAX parts in the answer) and overlapping or crowded
 * ranges are coalesced, so that a small request cannot ask for a huge answer (RFC 9110 §14.2, §17.15). */
#include "proto/range.h"

#include "proto/date.h"
#include "proto/etag.h"

#include <inttypes.h>

/* Ranges closer than this are sent as one: a part head costs about as much. */
#define GAP_MIN 80

static bool take_number(struct view *rest, uint64_t *ret)
{
    size_t digits = 0;
    uint64_t value = 0;

    while (digits < rest->len && rest->ptr[digits] >= '0' && rest->ptr[digits] <= '9')
        digits++;
    if (!view_parse_u64(view_first(*rest, digits), &value))
        return false;
    *rest = view_skip(*rest, digits);
    *ret = value;
    return true;
}

/* A range-spec as written: `has_first` and `has_last` tell the forms apart. */
struct spec {
    uint64_t first, last;
    bool has_first, has_last;
};

static bool parse_spec(struct view text, struct spec *ret)
{
    struct spec spec = { 0 };

    spec.has_first = take_number(&text, &spec.first);
    if (!text.len || text.ptr[0] != '-')
        return false;
    text = view_skip(text, 1);
    spec.has_last = take_number(&text, &spec.last);
    if (text.len || (!spec.has_first && !spec.has_last))
        return false;
    if (spec.has_first && spec.has_last && spec.first > spec.last)
        return false;
    *ret = spec;
    return true;
}

/* Cuts "bytes=" off; the unit is case-insensitive. */
static bool take_unit(struct view *value)
{
    *value = view_trim(*value);
    if (!view_starts_with_icase(*value, VIEW("bytes=")))
        return false;
    *value = view_skip(*value, 6);
    return true;
}

/* False when the spec selects nothing of `len` bytes. */
static bool resolve(const struct spec *spec, uint64_t len, struct range *ret)
{
    if (len == 0)
        return false;
    if (!spec->has_first) {
        if (spec->last == 0)
            return false;
        *ret = (struct range){ spec->last >= len ? 0 : len - spec->last, len - 1 };
        return true;
    }
    if (spec->first >= len)
        return false;
    *ret = (struct range){ spec->first, spec->has_last ? MIN(spec->last, len - 1) : len - 1 };
    return true;
}

static bool close_together(const struct range *a, const struct range *b)
{
    const struct range *low = a->first <= b->first ? a : b, *high = low == a ? b : a;

    return high->first <= low->last || high->first - low->last <= GAP_MIN;
}

static bool is_crowded(const struct range list[], size_t count)
{
    for (size_t i = 0; i < count; i++)
        for (size_t j = i + 1; j < count; j++)
            if (close_together(&list[i], &list[j]))
                return true;
    return false;
}

/* Sorts by first byte and joins neighbours; returns how many are left. */
static size_t coalesce(struct range list[], size_t count)
{
    size_t kept = 0;

    for (size_t i = 1; i < count; i++) {
        struct range moving = list[i];
        size_t j = i;

        for (; j > 0 && list[j - 1].first > moving.first; j--)
            list[j] = list[j - 1];
        list[j] = moving;
    }
    for (size_t i = 1; i < count; i++) {
        if (close_together(&list[kept], &list[i]))
            list[kept].last = MAX(list[kept].last, list[i].last);
        else
            list[++kept] = list[i];
    }
    return kept + 1;
}

enum range_result range_parse(struct view value, uint64_t complete_len, struct range list[], size_t cap,
                              size_t *ret_count)
{
    struct range all[RANGE_MEMBERS_MAX];
    size_t members = 0, count = 0;

    if (!take_unit(&value))
        return RANGE_IGNORE;
    while (value.ptr) {
        struct view member = view_trim(view_cut(&value, ','));
        struct spec spec;

        if (!member.len)
            continue;
        if (++members > RANGE_MEMBERS_MAX || !parse_spec(member, &spec))
            return RANGE_IGNORE;
        if (!spec.has_first && spec.last > 0 && complete_len == 0)
            return RANGE_IGNORE; /* the last bytes of nothing: satisfiable, but Content-Range cannot say it */
        if (resolve(&spec, complete_len, &all[count]))
            count++;
    }
    if (!members)
        return RANGE_IGNORE;
    if (!count)
        return RANGE_UNSATISFIABLE;
    if (is_crowded(all, count))
        count = coalesce(all, count);
    if (count > MIN(cap, (size_t)RANGE_MAX))
        return RANGE_IGNORE;
    memcpy(list, all, count * sizeof(all[0]));
    *ret_count = count;
    return RANGE_OK;
}

bool range_parse_single(struct view value, uint64_t *ret_first, uint64_t *ret_last)
{
    struct spec spec;

    if (!take_unit(&value) || !parse_spec(view_trim(value), &spec) || !spec.has_first)
        return false;
    *ret_first = spec.first;
    *ret_last = spec.has_last ? spec.last : UINT64_MAX;
    return true;
}

bool range_if_range(struct view value, struct view etag, int64_t last_modified_s, int64_t date_s)
{
    struct etag wanted, stored;
    int64_t when;

    if (!value.len)
        return true;
    if (etag_parse(value, &wanted))
        return etag_parse(etag, &stored) && etag_strong_eq(wanted, stored);
    /* The clock only settles the century of a two-digit year: Date is near enough. */
    return last_modified_s >= 0 && date_s > last_modified_s && date_parse(value, date_s, &when) &&
           when == last_modified_s;
}

bool content_range_parse(struct view value, struct content_range *ret)
{
    struct content_range range = { 0 };

    if (!view_starts_with_icase(value, VIEW("bytes ")))
        return false;
    value = view_skip(value, 6);
    if (view_starts_with(value, VIEW("*/"))) {
        range.unsatisfied = range.complete_known = true;
        value = view_skip(value, 2);
        if (!take_number(&value, &range.complete) || value.len || range.complete > INT64_MAX)
            return false;
        *ret = range;
        return true;
    }
    if (!take_number(&value, &range.first) || !view_starts_with(value, VIEW("-")))
        return false;
    value = view_skip(value, 1);
    if (!take_number(&value, &range.last) || !view_starts_with(value, VIEW("/")) || range.first > range.last ||
        range.last > INT64_MAX - 1)
        return false;
    value = view_skip(value, 1);
    if (!view_eq(value, VIEW("*"))) {
        range.complete_known = true;
        if (!take_number(&value, &range.complete) || value.len || range.last >= range.complete ||
            range.complete > INT64_MAX)
            return false;
    }
    *ret = range;
    return true;
}

void content_range_put(struct text *t, struct range range, uint64_t complete_len)
{
    text_printf(t, "bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64, range.first, range.last, complete_len);
}

void content_range_put_unsatisfied(struct text *t, uint64_t complete_len)
{
    text_printf(t, "bytes */%" PRIu64, complete_len);
}

void range_part_head(struct text *t, struct view boundary, struct view content_type, struct range range,
                     uint64_t complete_len, bool first_part)
{
    text_put(t, first_part ? VIEW("--") : VIEW("\r\n--"));
    text_put(t, boundary);
    if (content_type.len) {
        text_lit(t, "\r\nContent-Type: ");
        text_put(t, content_type);
    }
    text_lit(t, "\r\nContent-Range: ");
    content_range_put(t, range, complete_len);
    text_lit(t, "\r\n\r\n");
}

void range_part_end(struct text *t, struct view boundary)
{
    text_lit(t, "\r\n--");
    text_put(t, boundary);
    text_lit(t, "--\r\n");
}

static uint64_t decimal_len(uint64_t value)
{
    uint64_t len = 1;

    for (; value >= 10; value /= 10)
        len++;
    return len;
}

uint64_t range_multipart_len(const struct range list[], size_t count, struct view boundary, struct view content_type,
                             uint64_t complete_len)
{
    uint64_t type_len = content_type.len ? sizeof("\r\nContent-Type: ") - 1 + content_type.len : 0;
    uint64_t total = sizeof("\r\n----\r\n") - 1 + boundary.len;

    for (size_t i = 0; i < count; i++) {
        total += (i ? 4 : 2) + boundary.len + type_len + sizeof("\r\nContent-Range: bytes -/\r\n\r\n") - 1;
        total += decimal_len(list[i].first) + decimal_len(list[i].last) + decimal_len(complete_len);
        total += list[i].last - list[i].first + 1;
    }
    return total;
}
