/* Purges in words. What comes in was written by people, triggers and scripts: it is checked here once, and what could never
 * match anything (a tag with a comma in it, a host with a path) is refused, so that a mistake is seen instead of swallowed. */
#include "cache/purge_event.h"

#include <errno.h>

static const struct {
    struct view word;
    enum mark_kind kind;
} words[] = {
    { { "all", 3 }, MARK_ALL }, { { "host", 4 }, MARK_HOST }, { { "prefix", 6 }, MARK_PREFIX },
    { { "url", 3 }, MARK_URL }, { { "tag", 3 }, MARK_TAG },   { { "group", 5 }, MARK_GROUP },
};

static bool has_control(struct view v)
{
    for (size_t i = 0; i < v.len; i++)
        if ((unsigned char)v.ptr[i] < 0x20 || v.ptr[i] == 0x7f)
            return true;
    return false;
}

/* Behind "http://" or "https://"; ptr is NULL when it is neither. */
static struct view after_scheme(struct view url)
{
    if (view_starts_with_icase(url, VIEW("http://")))
        return view_skip(url, 7);
    if (view_starts_with_icase(url, VIEW("https://")))
        return view_skip(url, 8);
    return VIEW_NONE;
}

static bool is_authority(struct view v)
{
    return v.len && v.ptr[0] != ':' && !view_contains(v, '/') && !view_contains(v, '?') && !view_contains(v, '#') &&
           !view_contains(v, '@') && !view_contains(v, ' ') && !view_contains(v, ',');
}

/* Absolute, or a path. The rest is for those who know URLs (proto/uri.h). */
static bool is_url(struct view v)
{
    struct view rest = after_scheme(v);

    if (view_contains(v, ' ') || view_contains(v, '#'))
        return false;
    if (!rest.ptr)
        return v.len && v.ptr[0] == '/';
    for (size_t i = 0; i < rest.len; i++)
        if (rest.ptr[i] == '/' || rest.ptr[i] == '?')
            return is_authority(view_first(rest, i));
    return is_authority(rest);
}

/* An origin, a space, the name. */
static bool is_group(struct view v)
{
    struct view rest = v, origin = view_cut(&rest, ' '), authority = after_scheme(origin);

    return authority.ptr && is_authority(authority) && rest.len && rest.ptr[0] != ' ';
}

static bool target_fits(enum mark_kind kind, struct view target)
{
    switch (kind) {
    case MARK_ALL: return target.len == 0;
    case MARK_HOST: return is_authority(target);
    case MARK_PREFIX:
    case MARK_URL: return is_url(target);
    case MARK_TAG:
        /* Cache-Tag is a list with commas, Surrogate-Key one with spaces: a tag with either is none. */
        return target.len && !view_contains(target, ',') && !view_contains(target, ' ');
    case MARK_GROUP: return is_group(target);
    default: return false;
    }
}

int purge_event_make(struct view kind, struct view target, bool soft, struct purge_event *ret)
{
    target = view_trim(target);
    if (target.len > PURGE_TARGET_MAX)
        return -EMSGSIZE;
    if (has_control(target))
        return -EINVAL;
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (!view_eq(words[i].word, kind))
            continue;
        if (!target_fits(words[i].kind, target))
            return -EINVAL;
        *ret = (struct purge_event){ .kind = words[i].kind, .soft = soft, .target = target };
        return 0;
    }
    return -EINVAL;
}

int purge_event_parse(struct view line, struct purge_event *ret)
{
    struct view rest = line, kind;
    bool soft = false;

    if (view_ends_with(rest, VIEW("\n")))
        rest.len--;
    if (view_ends_with(rest, VIEW("\r")))
        rest.len--;
    rest = view_trim(rest);
    kind = view_cut(&rest, ' ');
    if (view_eq(kind, VIEW("soft"))) {
        soft = true;
        kind = view_cut(&rest, ' ');
    }
    return purge_event_make(kind, rest, soft, ret);
}

void purge_event_put(struct text *out, const struct purge_event *event)
{
    if (event->soft)
        text_lit(out, "soft ");
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (words[i].kind == event->kind)
            text_put(out, words[i].word);
    if (event->target.len) {
        text_char(out, ' ');
        text_put(out, event->target);
    }
}
