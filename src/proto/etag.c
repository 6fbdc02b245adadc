/* Entity tags: parsing and the two comparisons (RFC 9110 §8.8.3.2). Borrows only. */
#include "proto/etag.h"

/* Takes one entity tag from the front of *rest. etagc: 0x21, 0x23..0x7e, obs-text; neither space nor backslash escapes. */
static bool take_etag(struct view *rest, struct etag *ret)
{
    bool weak = view_starts_with(*rest, VIEW("W/"));
    struct view from = view_skip(*rest, weak ? 2 : 0);
    size_t i = 1;

    if (!from.len || from.ptr[0] != '"')
        return false;
    for (; i < from.len && from.ptr[i] != '"'; i++) {
        unsigned char c = (unsigned char)from.ptr[i];

        if (c <= 0x20 || c == 0x7f)
            return false;
    }
    if (i == from.len)
        return false;
    ret->weak = weak;
    ret->opaque = view_first(from, i + 1);
    *rest = view_skip(from, i + 1);
    return true;
}

bool etag_parse(struct view text, struct etag *ret)
{
    struct etag etag;

    if (!take_etag(&text, &etag) || text.len)
        return false;
    *ret = etag;
    return true;
}

bool etag_strong_eq(struct etag a, struct etag b)
{
    return !a.weak && !b.weak && view_eq(a.opaque, b.opaque);
}

bool etag_weak_eq(struct etag a, struct etag b)
{
    return view_eq(a.opaque, b.opaque);
}

static bool line_matches(struct view rest, const struct etag *wanted, bool weak)
{
    struct etag member;

    for (;;) {
        rest = view_trim(rest);
        while (rest.len && rest.ptr[0] == ',')
            rest = view_trim(view_skip(rest, 1));
        if (!rest.len || !take_etag(&rest, &member))
            return false;
        rest = view_trim(rest);
        if (rest.len && rest.ptr[0] != ',')
            return false;
        if (wanted && (weak ? etag_weak_eq(member, *wanted) : etag_strong_eq(member, *wanted)))
            return true;
    }
}

enum etag_list etag_list_match(const struct fields *fields, enum field_id id, struct view etag, bool weak)
{
    const struct field *line = fields_get(fields, id);
    struct etag wanted;
    bool has = etag_parse(etag, &wanted);

    if (!line)
        return ETAG_LIST_NONE;
    for (; line; line = fields_next(fields, line))
        if (view_eq(view_trim(line->value), VIEW("*")) || line_matches(line->value, has ? &wanted : NULL, weak))
            return ETAG_LIST_MATCH;
    return ETAG_LIST_OTHER;
}
