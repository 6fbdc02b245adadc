/* Vary: secondary keys as text, so that comparing two requests is comparing bytes. Pure.
 *
 * Invariant: two requests whose values text is equal would be answered alike by an origin that selects by the meaning of the
 * fields, not by their spelling. Values never hold a line break (the message parser refuses them), so one line is one field. */
#include "cache/vary.h"

#include "base/key.h"
#include "proto/accept.h"

#define LANGUAGES_MAX 32

static bool is_name(struct view v)
{
    for (size_t i = 0; i < v.len; i++) {
        char c = ascii_lower(v.ptr[i]);

        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c && strchr("!#$%&'*+-.^_`|~", c))))
            return false;
    }
    return v.len > 0;
}

static int compare_icase(struct view a, struct view b)
{
    for (size_t i = 0; i < MIN(a.len, b.len); i++) {
        int d = (unsigned char)ascii_lower(a.ptr[i]) - (unsigned char)ascii_lower(b.ptr[i]);

        if (d)
            return d;
    }
    return a.len < b.len ? -1 : a.len > b.len;
}

static void put_lower(struct text *out, struct view v)
{
    for (size_t i = 0; i < v.len; i++)
        text_char(out, ascii_lower(v.ptr[i]));
}

enum vary vary_names(const struct fields *response, struct text *names)
{
    struct field_list list = field_list(response, FIELD_VARY);
    struct view sorted[VARY_NAMES_MAX], member;
    size_t count = 0;
    bool limit = false;

    if (fields_list_has(response, FIELD_VARY, VIEW("*")))
        return VARY_STAR;
    while (field_list_next(&list, &member)) {
        size_t at = 0;

        while (at < count && compare_icase(sorted[at], member) < 0)
            at++;
        if (at < count && compare_icase(sorted[at], member) == 0)
            continue;
        if (count == VARY_NAMES_MAX || !is_name(member)) {
            limit = true;
            break;
        }
        memmove(&sorted[at + 1], &sorted[at], (count - at) * sizeof(sorted[0]));
        sorted[at] = member;
        count++;
    }
    for (size_t i = 0; i < count; i++) {
        if (i)
            text_char(names, ',');
        put_lower(names, sorted[i]);
    }
    if (limit || names->overflow)
        return VARY_LIMIT;
    return count ? VARY_NAMES : VARY_NONE;
}

/* The codings a client takes, in our order. Their ranking is left out: any coding it accepts is a right answer to it. */
static void put_encoding(struct text *out, const struct fields *request)
{
    uint16_t quality[CODING_COUNT];
    const char *separator = "";

    accept_encoding(request, quality);
    for (unsigned i = CODING_IDENTITY + 1; i < CODING_COUNT; i++) {
        if (!quality[i])
            continue;
        text_put(out, view_str(separator));
        text_put(out, coding_name((enum coding)i));
        separator = ",";
    }
    if (!quality[CODING_IDENTITY]) {
        text_put(out, view_str(separator));
        text_lit(out, "identity;q=0");
    }
}

struct language {
    struct view tag;
    unsigned quality;
};

/* Ranked by quality, then by name: order alone means nothing (RFC 9110 §12.5.4). Returns the count, or -1 when there are more
 * than we sort. */
static int rank_languages(const struct fields *request, struct language ranked[LANGUAGES_MAX])
{
    struct field_list list = field_list(request, FIELD_ACCEPT_LANGUAGE);
    struct view member;
    int count = 0;

    while (field_list_next(&list, &member)) {
        struct language language = { 0 };
        int at = count;

        language.tag = accept_member(member, &language.quality);
        if (count == LANGUAGES_MAX)
            return -1;
        for (; at > 0; at--) {
            const struct language *before = &ranked[at - 1];

            if (before->quality > language.quality ||
                (before->quality == language.quality && compare_icase(before->tag, language.tag) <= 0))
                break;
            ranked[at] = *before;
        }
        ranked[at] = language;
        count++;
    }
    return count;
}

/* Lines joined by ",", white space folded outside quoted strings. */
static void put_folded(struct text *out, const struct fields *fields, const struct field *field)
{
    bool first = true;

    for (; field; field = fields_next(fields, field)) {
        struct view v = view_trim(field->value);
        bool quoted = false, space = false;
        char last = first ? '\0' : ',';

        if (!first)
            text_char(out, ',');
        first = false;
        for (size_t i = 0; i < v.len; i++) {
            char c = v.ptr[i];

            if (!quoted && (c == ' ' || c == '\t')) {
                space = true;
                continue;
            }
            if (space && c != ',' && last != ',')
                text_char(out, ' ');
            space = false;
            text_char(out, c);
            last = c;
            if (quoted && c == '\\' && i + 1 < v.len)
                text_char(out, v.ptr[++i]);
            else if (c == '"')
                quoted = !quoted;
        }
    }
}

/* "de,en>fr>!it": equal ranks joined by ",", the next rank behind ">", refused ones marked. */
static void put_language(struct text *out, const struct fields *request, const struct field *field)
{
    struct language ranked[LANGUAGES_MAX];
    int count = rank_languages(request, ranked);

    if (count < 0) {
        put_folded(out, request, field);
        return;
    }
    for (int i = 0; i < count; i++) {
        if (i)
            text_char(out, ranked[i].quality == ranked[i - 1].quality ? ',' : '>');
        if (!ranked[i].quality)
            text_char(out, '!');
        put_lower(out, ranked[i].tag);
    }
}

/* A secret enters as a hash of each of its lines. */
static void put_hashed(struct text *out, const struct fields *fields, const struct field *field)
{
    for (; field; field = fields_next(fields, field)) {
        struct key hashed = key_of(field->value);

        text_hex(out, hashed.hash[0], 16);
        text_hex(out, hashed.hash[1], 16);
        text_char(out, '.');
    }
}

bool vary_values(struct view names, const struct fields *request, struct text *out)
{
    while (names.len) {
        struct view name = view_cut(&names, ',');
        const struct field *field = fields_find(request, name);

        text_char(out, field ? '=' : '-');
        if (field) {
            switch (field_lookup(name)) {
            case FIELD_ACCEPT_ENCODING: put_encoding(out, request); break;
            case FIELD_ACCEPT_LANGUAGE: put_language(out, request, field); break;
            case FIELD_COOKIE:
            case FIELD_AUTHORIZATION:
            case FIELD_PROXY_AUTHORIZATION: put_hashed(out, request, field); break;
            default: put_folded(out, request, field);
            }
        }
        text_char(out, '\n');
    }
    return !out->overflow;
}

bool vary_language_match(struct view content_language, const struct fields *request)
{
    struct language ranked[LANGUAGES_MAX];
    struct view tag = view_trim(content_language);
    int count = rank_languages(request, ranked);

    if (!tag.len || view_contains(tag, ','))
        return false;
    for (int i = 0; i < count && ranked[i].quality && ranked[i].quality == ranked[0].quality; i++) {
        struct view range = ranked[i].tag;

        if (range.len && view_starts_with_icase(tag, range) && (tag.len == range.len || tag.ptr[range.len] == '-'))
            return true;
    }
    return false;
}

bool vary_same_but_language(struct view names, struct view a, struct view b)
{
    while (names.len) {
        struct view name = view_cut(&names, ','), line_a = view_cut(&a, '\n'), line_b = view_cut(&b, '\n');

        if (!view_eq(name, VIEW("accept-language")) && !view_eq(line_a, line_b))
            return false;
    }
    return view_eq(a, b);
}
