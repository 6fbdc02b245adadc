/* The same on a JSON tape. Strings (member names among them) without escapes are read where they stand; others are decoded first. Of a data: URL the base64 is
 * passed over, nothing else. */
#include "ai/pii_parts.h"

#include <errno.h>

#define CARD_MIN 13u
#define CARD_MAX 19u

static bool is_long(struct view number)
{
    for (size_t i = 0; i < number.len; i++)
        if (number.ptr[i] < '0' || number.ptr[i] > '9')
            return false;
    return number.len >= CARD_MIN && number.len <= CARD_MAX;
}

/* A number is no telephone number, whatever it looks like. */
static unsigned kinds_in(const struct json *doc, uint32_t i, unsigned kinds)
{
    return json_type(doc, i) == JSON_NUMBER ? kinds & PII_CARD : kinds;
}

/* The token of the next thing that may hold a find, from *at on: a string, be it a value or a member's name, or a whole number of as many
 * digits as cards have. UINT32_MAX: there is none. */
static uint32_t next_text(const struct json *doc, uint32_t *at)
{
    while (*at < doc->count) {
        uint32_t i = (*at)++;
        enum json_type type = json_type(doc, i);

        if (type == JSON_STRING || (type == JSON_NUMBER && is_long(json_raw(doc, i))))
            return i;
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

/* What token `i` says; `scratch` holds it when it has to be decoded. False when memory is out. */
static bool read_string(const struct json *doc, uint32_t i, struct buf *scratch, struct view *ret)
{
    if (json_type(doc, i) == JSON_NUMBER || !(doc->tokens[i].flags & JSON_ESCAPED)) {
        *ret = json_type(doc, i) == JSON_NUMBER ? json_raw(doc, i) : json_plain(doc, i);
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
    unsigned seen = 0;
    uint32_t at = 0;

    for (uint32_t i = next_text(doc, &at); i != UINT32_MAX && seen != kinds; i = next_text(doc, &at)) {
        struct view text;

        if (!read_string(doc, i, &scratch, &text)) {
            seen = kinds;
            break;
        }
        text = view_skip(text, data_url_len(text));
        seen |= pii_kinds(text, kinds_in(doc, i, kinds & ~seen));
    }
    buf_free(&scratch);
    return seen;
}

/* Appends token `i` redacted, as a string, if there is something to redact. The number of finds, or -ENOMEM. */
static int redact_string(const struct json *doc, uint32_t i, unsigned kinds, struct pii_map *map, struct buf *scratch,
                         size_t *copied, struct buf *out)
{
    struct buf clean = buf_make(doc->text.len * 4 + 64);
    struct view text, kept;
    int r;

    kinds = kinds_in(doc, i, kinds);
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
    size_t copied = 0;
    uint32_t at = 0;
    int count = 0, r = 0;

    for (uint32_t i = next_text(doc, &at); r >= 0 && i != UINT32_MAX; i = next_text(doc, &at)) {
        r = redact_string(doc, i, kinds, map, &scratch, &copied, out);
        count += MAX(r, 0);
    }
    buf_put(out, view_skip(doc->text, copied));
    buf_free(&scratch);
    return r < 0 || out->failed ? -ENOMEM : count;
}
