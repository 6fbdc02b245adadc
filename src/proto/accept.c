/* Content negotiation: quality values, Accept-Encoding, and the one question we ask of Accept. Borrows only. */
#include "proto/accept.h"

static const struct view CODING_NAMES[CODING_COUNT] = {
    [CODING_IDENTITY] = { "identity", 8 }, [CODING_GZIP] = { "gzip", 4 },       [CODING_BR] = { "br", 2 },
    [CODING_ZSTD] = { "zstd", 4 },         [CODING_DEFLATE] = { "deflate", 7 },
};

struct view coding_name(enum coding coding)
{
    return coding < CODING_COUNT ? CODING_NAMES[coding] : VIEW_NONE;
}

enum coding coding_lookup(struct view name)
{
    for (unsigned i = 0; i < CODING_COUNT; i++)
        if (view_eq_icase(name, CODING_NAMES[i]))
            return (enum coding)i;
    return view_eq_icase(name, VIEW("x-gzip")) ? CODING_GZIP : CODING_COUNT;
}

/* qvalue = ("0" ["." 0*3DIGIT]) / ("1" ["." 0*3("0")]), in thousandths; 0 when malformed. */
static unsigned parse_quality(struct view text)
{
    unsigned value, scale = 100;

    if (!text.len || text.len > 5 || (text.ptr[0] != '0' && text.ptr[0] != '1'))
        return 0;
    value = text.ptr[0] == '1' ? 1000 : 0;
    if (text.len > 1 && text.ptr[1] != '.')
        return 0;
    for (size_t i = 2; i < text.len; i++, scale /= 10) {
        if (text.ptr[i] < '0' || text.ptr[i] > '9')
            return 0;
        value += (unsigned)(text.ptr[i] - '0') * scale;
    }
    return value > 1000 ? 0 : value;
}

struct view accept_member(struct view member, unsigned *ret_quality)
{
    struct view value = view_trim(view_cut(&member, ';'));

    *ret_quality = 1000;
    while (member.ptr) {
        struct view param = view_trim(view_cut(&member, ';'));

        if (param.len >= 2 && ascii_lower(param.ptr[0]) == 'q' && param.ptr[1] == '=') {
            *ret_quality = parse_quality(view_skip(param, 2));
            break;
        }
    }
    return value;
}

void accept_encoding(const struct fields *fields, uint16_t ret_quality[CODING_COUNT])
{
    struct field_list list = field_list(fields, FIELD_ACCEPT_ENCODING);
    bool named[CODING_COUNT] = { false }, any_named = false;
    unsigned any = 0;
    struct view member;

    memset(ret_quality, 0, CODING_COUNT * sizeof(ret_quality[0]));
    ret_quality[CODING_IDENTITY] = 1000;
    if (!fields_has(fields, FIELD_ACCEPT_ENCODING))
        return;
    while (field_list_next(&list, &member)) {
        unsigned quality = 0;
        struct view name = accept_member(member, &quality);
        enum coding coding = coding_lookup(name);

        if (view_eq(name, VIEW("*"))) {
            any = quality;
            any_named = true;
        } else if (coding < CODING_COUNT) {
            ret_quality[coding] = (uint16_t)quality;
            named[coding] = true;
        }
    }
    for (unsigned i = 0; any_named && i < CODING_COUNT; i++)
        if (!named[i])
            ret_quality[i] = (uint16_t)any;
}

/* The quality Accept gives a media type "type/sub": the most specific range counts (§12.5.1). */
static unsigned media_quality(const struct fields *fields, struct view type, struct view whole, unsigned *ret_specific)
{
    struct field_list list = field_list(fields, FIELD_ACCEPT);
    unsigned best = 0, specific = 0;
    struct view member;

    while (field_list_next(&list, &member)) {
        unsigned quality = 0, rank = 0;
        struct view range = accept_member(member, &quality);

        if (view_eq_icase(range, whole))
            rank = 3;
        else if (range.len == type.len + 2 && view_starts_with_icase(range, type) && view_ends_with(range, VIEW("/*")))
            rank = 2;
        else if (view_eq(range, VIEW("*/*")))
            rank = 1;
        if (rank > specific || (rank == specific && rank && quality > best)) {
            specific = rank;
            best = quality;
        }
    }
    *ret_specific = specific;
    return best;
}

bool accept_prefers_json(const struct fields *fields)
{
    unsigned json_specific = 0, html_specific = 0;
    unsigned json = media_quality(fields, VIEW("application"), VIEW("application/json"), &json_specific);
    unsigned html = media_quality(fields, VIEW("text"), VIEW("text/html"), &html_specific);

    return json > html || (json == html && json > 0 && json_specific > html_specific);
}

bool accept_names_html(const struct fields *fields)
{
    unsigned specific = 0;

    return media_quality(fields, VIEW("text"), VIEW("text/html"), &specific) > 0 && specific >= 2;
}
