/* Cache-Control: directives of a request or response into a small struct. Borrows nothing beyond the call.
 *
 * The list form splits on commas outside quoted strings by itself instead of through field_list, because it must see the raw
 * member: `max-age='3600'` and an unterminated quote have to end up invalid, not tidied. */
#include "proto/cache_control.h"

#include "proto/sf.h"

enum argument { ARG_NONE, ARG_AGE, ARG_WINDOW };

static const struct directive {
    struct view name;
    enum argument argument;
    uint32_t flag; /* ARG_NONE */
    size_t offset; /* of an int64_t in struct cache_control */
} DIRECTIVES[] = {
#define FLAG(text, bit) \
    { \
        { text, sizeof(text) - 1 }, ARG_NONE, bit, 0 \
    }
#define SECONDS(text, kind, member) \
    { \
        { text, sizeof(text) - 1 }, kind, 0, offsetof(struct cache_control, member) \
    }
    FLAG("no-store", CC_NO_STORE),
    FLAG("no-cache", CC_NO_CACHE),
    FLAG("private", CC_PRIVATE),
    FLAG("public", CC_PUBLIC),
    FLAG("must-revalidate", CC_MUST_REVALIDATE),
    FLAG("proxy-revalidate", CC_PROXY_REVALIDATE),
    FLAG("must-understand", CC_MUST_UNDERSTAND),
    FLAG("immutable", CC_IMMUTABLE),
    FLAG("no-transform", CC_NO_TRANSFORM),
    FLAG("only-if-cached", CC_ONLY_IF_CACHED),
    SECONDS("max-age", ARG_AGE, max_age),
    SECONDS("s-maxage", ARG_AGE, s_maxage),
    SECONDS("stale-while-revalidate", ARG_WINDOW, swr),
    SECONDS("stale-if-error", ARG_WINDOW, sie),
    SECONDS("max-stale", ARG_WINDOW, max_stale),
    SECONDS("min-fresh", ARG_WINDOW, min_fresh),
#undef FLAG
#undef SECONDS
};

static const struct directive *directive_find(struct view name)
{
    for (size_t i = 0; i < ARRAY_LEN(DIRECTIVES); i++)
        if (view_eq_icase(name, DIRECTIVES[i].name))
            return &DIRECTIVES[i];
    return NULL;
}

static int64_t *directive_slot(struct cache_control *cc, const struct directive *directive)
{
    return (int64_t *)(void *)((char *)cc + directive->offset);
}

void cache_control_init(struct cache_control *cc)
{
    *cc =
        (struct cache_control){ .max_age = -1, .s_maxage = -1, .swr = -1, .sie = -1, .max_stale = -1, .min_fresh = -1 };
}

/* Digits, bare or between double quotes. -1 when it is anything else. */
static int64_t parse_seconds(struct view value)
{
    uint64_t seconds = 0;

    if (value.len >= 2 && value.ptr[0] == '"' && value.ptr[value.len - 1] == '"')
        value = view_make(value.ptr + 1, value.len - 2);
    if (!view_parse_u64(value, &seconds))
        return -1;
    return seconds > (uint64_t)CC_SECONDS_MAX ? CC_SECONDS_MAX : (int64_t)seconds;
}

/* `seconds` is -1 when the argument was missing or bad. */
static void apply(struct cache_control *cc, const struct directive *directive, bool has_argument, int64_t seconds)
{
    int64_t *slot;

    cc->flags |= CC_PRESENT;
    if (!directive)
        return;
    if (directive->argument == ARG_NONE) {
        cc->flags |= directive->flag;
        return;
    }
    slot = directive_slot(cc, directive);
    if (*slot >= 0)
        return; /* the first one counts */
    if (slot == &cc->max_stale && !has_argument) {
        cc->flags |= CC_MAX_STALE_ANY;
        return;
    }
    if (seconds < 0 && directive->argument == ARG_AGE) {
        cc->flags |= CC_BAD_AGE;
        seconds = 0;
    }
    *slot = seconds;
}

/* Up to the next comma outside quotes. An unterminated quote runs to the end of the line. */
static struct view cut_directive(struct view *rest)
{
    bool quoted = false;
    size_t i = 0;
    struct view piece;

    for (; i < rest->len && (quoted || rest->ptr[i] != ','); i++) {
        if (quoted && rest->ptr[i] == '\\' && i + 1 < rest->len)
            i++;
        else if (rest->ptr[i] == '"')
            quoted = !quoted;
    }
    piece = view_first(*rest, i);
    *rest = view_skip(*rest, i + 1);
    return view_trim(piece);
}

void cache_control_add(struct cache_control *cc, struct view line)
{
    while (line.len) {
        struct view argument = cut_directive(&line), name;
        size_t at = view_find(argument, '=');
        bool has_argument = at < argument.len;

        name = view_trim(view_first(argument, at));
        if (!name.len)
            continue;
        /* White space around "=" is not in the grammar: the name is recognised, so that a limit is not lost, but the
         * argument keeps its space and is invalid. */
        argument = view_skip(argument, at + 1);
        apply(cc, directive_find(name), has_argument, at == name.len && has_argument ? parse_seconds(argument) : -1);
    }
}

void cache_control_parse(const struct fields *fields, enum field_id id, struct cache_control *ret)
{
    cache_control_init(ret);
    for (const struct field *f = fields_get(fields, id); f; f = fields_next(fields, f))
        cache_control_add(ret, f->value);
}

void cache_control_parse_request(const struct fields *fields, struct cache_control *ret)
{
    cache_control_parse(fields, FIELD_CACHE_CONTROL, ret);
    if (!fields_has(fields, FIELD_CACHE_CONTROL) && fields_list_has(fields, FIELD_PRAGMA, VIEW("no-cache")))
        ret->flags |= CC_PRESENT | CC_NO_CACHE;
}

/* A dictionary member. A boolean directive is true for anything but ?0; a number must be a non-negative integer (RFC 9213
 * §2.1), anything else in its place makes max-age and s-maxage 0 and a window absent. The last of equal keys wins. */
static void apply_member(struct cache_control *cc, struct view key, const struct sf_item *item)
{
    const struct directive *directive = directive_find(key);

    cc->flags |= CC_PRESENT;
    if (!directive || !view_eq(key, directive->name))
        return;
    if (directive->argument == ARG_NONE) {
        if (item->type == SF_BOOLEAN && item->number == 0)
            cc->flags &= ~directive->flag;
        else
            cc->flags |= directive->flag;
        return;
    }
    *directive_slot(cc, directive) = -1;
    apply(cc, directive, true, item->type == SF_INTEGER && item->number >= 0 ? MIN(item->number, CC_SECONDS_MAX) : -1);
}

bool cache_control_parse_targeted(const struct fields *fields, enum field_id id, struct cache_control *ret)
{
    struct cache_control cc;
    bool any = false;

    cache_control_init(&cc);
    for (const struct field *f = fields_get(fields, id); f; f = fields_next(fields, f)) {
        struct sf_cursor cursor = sf_cursor(f->value);
        struct sf_item item;
        struct view key;
        int r;

        while ((r = sf_dict_next(&cursor, &key, &item)) > 0) {
            apply_member(&cc, key, &item);
            any = true;
        }
        if (r < 0)
            return false;
    }
    if (any)
        *ret = cc;
    return any;
}
