/* The same on a JSON tape. Strings without escapes are read where they stand; others are decoded first. Of a data: URL the base64 is
 * passed over, nothing else. */
#include "ai/pii_parts.h"

#include <errno.h>

#define DEPTH_MAX 256u /* of a tape */

/* Visits every string value in order. */
struct walk {
    const struct json *doc;
    uint32_t at;
    unsigned depth;
    struct {
        uint32_t end;
        bool object, value; /* value: a member's name has been passed */
    } open[DEPTH_MAX + 1];
};

/* The token of the next string that is no member name; 0 as a value is possible only for the whole document, so that the end is
 * UINT32_MAX. */
static uint32_t next_string(struct walk *w)
{
    while (w->at < w->doc->count) {
        uint32_t i = w->at++;
        enum json_type type = json_type(w->doc, i);

        while (w->depth && i >= w->open[w->depth - 1].end)
            w->depth--;
        if (w->depth && w->open[w->depth - 1].object) {
            w->open[w->depth - 1].value = !w->open[w->depth - 1].value;
            if (w->open[w->depth - 1].value) /* this token is the name */
                continue;
        }
        if (type == JSON_STRING)
            return i;
        if ((type == JSON_OBJECT || type == JSON_ARRAY) && w->depth <= DEPTH_MAX) {
            w->open[w->depth].end = json_end(w->doc, i);
            w->open[w->depth].object = type == JSON_OBJECT;
            w->open[w->depth++].value = false;
        }
    }
    return UINT32_MAX;
}

/* How many bytes a text begins with that are a media type and base64: pictures, sound. */
static size_t data_url_len(struct view text)
{
    struct pii_text t = { .ptr = text.ptr, .len = text.len };
    size_t comma;

    if (!view_starts_with(text, VIEW("data:")))
        return 0;
    comma = view_find(view_first(text, 128), ',');
    if (comma < 12 || !view_eq(view_make(text.ptr + comma - 7, 7), VIEW(";base64")))
        return 0;
    for (size_t i = 5; i < comma; i++)
        if (text.ptr[i] <= ' ' || text.ptr[i] == '@')
            return 0;
    for (comma++; pii_is(&t, comma, PII_BASE64) || pii_at(&t, comma) == '+' || pii_at(&t, comma) == '/' ||
                  pii_at(&t, comma) == '=';)
        comma++;
    return comma;
}

/* What string `i` says; `scratch` holds it when it has to be decoded. False when memory is out. */
static bool read_string(const struct json *doc, uint32_t i, struct buf *scratch, struct view *ret)
{
    if (!(doc->tokens[i].flags & JSON_ESCAPED)) {
        *ret = json_plain(doc, i);
        return true;
    }
    scratch->len = 0;
    scratch->failed = false;
    json_decode(doc, i, scratch);
    *ret = buf_view(scratch);
    return !scratch->failed;
}

unsigned pii_scan_json(const struct json *doc, unsigned kinds)
{
    struct buf scratch = buf_make(doc->text.len + 16);
    struct walk w = { .doc = doc };
    unsigned seen = 0;

    for (uint32_t i = next_string(&w); i != UINT32_MAX && seen != kinds; i = next_string(&w)) {
        struct view text;

        if (!read_string(doc, i, &scratch, &text)) {
            seen = kinds;
            break;
        }
        text = view_skip(text, data_url_len(text));
        seen |= pii_kinds(text, kinds & ~seen);
    }
    buf_free(&scratch);
    return seen;
}

/* Appends string `i` redacted if there is something to redact. The number of finds, or -ENOMEM. */
static int redact_string(const struct json *doc, uint32_t i, unsigned kinds, struct pii_map *map, struct buf *scratch,
                         size_t *copied, struct buf *out)
{
    struct buf clean = buf_make(doc->text.len * 4 + 64);
    struct view text, kept;
    int r;

    if (!read_string(doc, i, scratch, &text))
        return -ENOMEM;
    kept = view_first(text, data_url_len(text));
    text = view_skip(text, kept.len);
    if (!pii_kinds(text, kinds))
        return 0;
    buf_put(&clean, kept);
    r = pii_redact(text, kinds, map, &clean);
    if (r > 0) {
        buf_put(out, view_make(doc->text.ptr + *copied, doc->tokens[i].at - *copied));
        buf_json(out, buf_view(&clean));
        *copied = doc->tokens[i].at + doc->tokens[i].len;
    }
    buf_free(&clean);
    return r;
}

int pii_redact_json(const struct json *doc, unsigned kinds, struct pii_map *map, struct buf *out)
{
    struct buf scratch = buf_make(doc->text.len + 16);
    struct walk w = { .doc = doc };
    size_t copied = 0;
    int count = 0, r = 0;

    for (uint32_t i = next_string(&w); r >= 0 && i != UINT32_MAX; i = next_string(&w)) {
        r = redact_string(doc, i, kinds, map, &scratch, &copied, out);
        count += MAX(r, 0);
    }
    buf_put(out, view_skip(doc->text, copied));
    buf_free(&scratch);
    return r < 0 || out->failed ? -ENOMEM : count;
}
