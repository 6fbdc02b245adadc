/* Reading values off a tape. The tape was checked when it was made, so nothing here fails on the text's form. */
#include "base/heap.h"
#include "base/text.h"
#include "proto/json_parts.h"

#include <math.h>
#include <stdlib.h>

const char *json_error_text(enum json_error error)
{
    switch (error) {
    case JSON_OK: return "no error";
    case JSON_SYNTAX: return "not JSON";
    case JSON_UTF8: return "not UTF-8";
    case JSON_DUPLICATE: return "a member name that was there before";
    case JSON_DEPTH: return "nested too deeply";
    case JSON_TOO_LARGE: return "too many values";
    case JSON_NO_MEMORY: return "out of memory";
    }
    return "unknown error";
}

void json_free(struct json *doc)
{
    heap_free(doc->tokens);
    *doc = (struct json){ 0 };
}

/* ---- strings ---- */

static uint32_t hex4(const char *at)
{
    uint32_t value = 0;

    for (int i = 0; i < 4; i++) {
        unsigned char c = (unsigned char)at[i];

        value = value << 4 | (c <= '9' ? c - (unsigned)'0' : (c | 0x20u) - (unsigned)'a' + 10);
    }
    return value;
}

uint32_t json_unescape(const char **at, const char *end)
{
    static const struct {
        char name, value;
    } named[] = { { 'n', '\n' }, { 't', '\t' }, { 'r', '\r' }, { 'b', '\b' }, { 'f', '\f' } };
    char c = (*at)[1];
    uint32_t code, low;

    if (c != 'u') {
        *at += 2;
        for (size_t i = 0; i < ARRAY_LEN(named); i++)
            if (named[i].name == c)
                return (unsigned char)named[i].value;
        return (unsigned char)c; /* a quote, a backslash, a slash */
    }
    code = hex4(*at + 2);
    *at += 6;
    if (code < 0xd800 || code > 0xdbff || end - *at < 6 || (*at)[0] != '\\' || (*at)[1] != 'u')
        return code;
    low = hex4(*at + 2);
    if (low < 0xdc00 || low > 0xdfff)
        return code;
    *at += 6;
    return 0x10000 + ((code - 0xd800) << 10 | (low - 0xdc00));
}

unsigned json_utf8(uint32_t code, char *to)
{
    unsigned len = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;

    if (len == 1) {
        to[0] = (char)code;
        return 1;
    }
    for (unsigned i = len - 1; i > 0; i--) {
        to[i] = (char)(0x80 | (code & 0x3f));
        code >>= 6;
    }
    to[0] = (char)((0xf00u >> len & 0xff) | code);
    return len;
}

/* The value of a string, byte by byte. */
struct walk {
    const char *at, *end;
    unsigned pending, pending_len;
    char bytes[4];
};

static int walk_next(struct walk *w)
{
    if (w->pending < w->pending_len)
        return (unsigned char)w->bytes[w->pending++];
    if (w->at == w->end)
        return -1;
    if (*w->at != '\\')
        return (unsigned char)*w->at++;
    w->pending_len = json_utf8(json_unescape(&w->at, w->end), w->bytes);
    w->pending = 1;
    return (unsigned char)w->bytes[0];
}

static struct walk walk_over(struct view inside)
{
    return (struct walk){ .at = inside.ptr, .end = inside.ptr + inside.len };
}

int json_compare(const struct json *doc, uint32_t a, uint32_t b)
{
    struct walk one, other;
    int x, y;

    if (!((doc->tokens[a].flags | doc->tokens[b].flags) & JSON_ESCAPED))
        return view_compare(json_inside(doc, a), json_inside(doc, b));
    one = walk_over(json_inside(doc, a));
    other = walk_over(json_inside(doc, b));
    do {
        x = walk_next(&one);
        y = walk_next(&other);
    } while (x == y && x >= 0);
    return (x > y) - (x < y);
}

bool json_is(const struct json *doc, uint32_t i, struct view value)
{
    struct walk walk;
    size_t at = 0;
    int c;

    if (json_type(doc, i) != JSON_STRING)
        return false;
    if (!(doc->tokens[i].flags & JSON_ESCAPED))
        return view_eq(json_inside(doc, i), value);
    walk = walk_over(json_inside(doc, i));
    while ((c = walk_next(&walk)) >= 0) {
        if (at == value.len || (unsigned char)value.ptr[at] != c)
            return false;
        at++;
    }
    return at == value.len;
}

struct view json_plain(const struct json *doc, uint32_t i)
{
    if (json_type(doc, i) != JSON_STRING || (doc->tokens[i].flags & JSON_ESCAPED))
        return VIEW_NONE;
    return json_inside(doc, i);
}

bool json_decode(const struct json *doc, uint32_t i, struct buf *out)
{
    struct view inside;
    char *to;
    size_t len = 0;

    if (json_type(doc, i) != JSON_STRING)
        return false;
    inside = json_inside(doc, i);
    if (!(doc->tokens[i].flags & JSON_ESCAPED)) {
        buf_put(out, inside);
        return true;
    }
    to = buf_room(out, inside.len); /* a value is never longer than its spelling */
    if (!to)
        return true;
    for (const char *at = inside.ptr, *end = at + inside.len; at < end;) {
        const char *run = memchr(at, '\\', (size_t)(end - at));
        size_t plain = (size_t)((run ? run : end) - at);
        uint32_t code;

        memcpy(to + len, at, plain);
        len += plain;
        at += plain;
        if (!run)
            break;
        code = json_unescape(&at, end);
        len += json_utf8((code & ~0x7ffu) == 0xd800 ? 0xfffd : code, to + len);
    }
    buf_took(out, len);
    return true;
}

/* ---- members ---- */

uint32_t json_get(const struct json *doc, uint32_t i, struct view name)
{
    if (json_type(doc, i) != JSON_OBJECT)
        return 0;
    for (uint32_t at = json_first(doc, i), end = json_end(doc, i); at < end; at = json_after(doc, at + 1))
        if (json_is(doc, at, name))
            return at + 1;
    return 0;
}

uint32_t json_get_typed(const struct json *doc, uint32_t i, struct view name, enum json_type type)
{
    uint32_t value = json_get(doc, i, name);
    enum json_type is = json_type(doc, value);

    return value && (is == type || (type == JSON_TRUE && is == JSON_FALSE)) ? value : 0;
}

/* ---- numbers ---- */

/* The exponent as written; false when it is beyond +-10^17. */
static bool read_exponent(struct view digits, int64_t *ret)
{
    bool negative = digits.len && digits.ptr[0] == '-';
    int64_t value = 0;

    if (digits.len && (digits.ptr[0] == '-' || digits.ptr[0] == '+'))
        digits = view_skip(digits, 1);
    for (size_t i = 0; i < digits.len; i++) {
        value = value * 10 + (digits.ptr[i] - '0');
        if (value > 100000000000000000)
            return false;
    }
    *ret = negative ? -value : value;
    return true;
}

struct json_decimal json_decimal(struct view number)
{
    struct json_decimal d = { .negative = number.ptr[0] == '-' };
    struct view rest = view_skip(number, d.negative);
    size_t at = 0;

    while (at < rest.len && rest.ptr[at] >= '0' && rest.ptr[at] <= '9')
        at++;
    d.head = view_first(rest, at);
    rest = view_skip(rest, at);
    if (rest.len && rest.ptr[0] == '.') {
        at = 1;
        while (at < rest.len && rest.ptr[at] >= '0' && rest.ptr[at] <= '9')
            at++;
        d.tail = view_make(rest.ptr + 1, at - 1);
        rest = view_skip(rest, at);
    }
    while (d.head.len && d.head.ptr[0] == '0')
        d.head = view_skip(d.head, 1);
    while (d.tail.len && d.tail.ptr[d.tail.len - 1] == '0')
        d.tail.len--;
    if (d.head.len == 0 && d.tail.len == 0)
        return (struct json_decimal){ 0 };
    d.huge = rest.len && !read_exponent(view_skip(rest, 1), &d.exponent);
    d.exponent -= (int64_t)d.tail.len;
    while (d.head.len == 0 && d.tail.ptr[0] == '0')
        d.tail = view_skip(d.tail, 1);
    while (d.tail.len == 0 && d.head.ptr[d.head.len - 1] == '0') {
        d.head.len--;
        d.exponent++;
    }
    return d;
}

bool json_u64(const struct json *doc, uint32_t i, uint64_t *ret)
{
    struct json_decimal d;
    uint64_t value = 0;
    size_t digits;

    if (json_type(doc, i) != JSON_NUMBER)
        return false;
    d = json_decimal(json_raw(doc, i));
    digits = d.head.len + d.tail.len;
    if (d.negative || d.huge || d.exponent < 0 || digits > 20 || d.exponent > 20)
        return false;
    for (size_t k = 0; k < digits + (size_t)d.exponent; k++) {
        char c = k >= digits ? '0' : k < d.head.len ? d.head.ptr[k] : d.tail.ptr[k - d.head.len];

        if (__builtin_mul_overflow(value, (uint64_t)10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(c - '0'), &value))
            return false;
    }
    *ret = value;
    return true;
}

/* More digits than any double needs to be told from its neighbours; what is cut off is not zero and is stood in for
 * by a 1. */
enum { DIGITS_MAX = 800 };

bool json_double(const struct json *doc, uint32_t i, double *ret)
{
    char memory[DIGITS_MAX + 32];
    struct text text = TEXT_ON(memory);
    struct json_decimal d;
    size_t digits, from_head;
    double value;

    if (json_type(doc, i) != JSON_NUMBER)
        return false;
    d = json_decimal(json_raw(doc, i));
    digits = d.head.len + d.tail.len;
    if (d.huge)
        return false;
    from_head = MIN(d.head.len, (size_t)DIGITS_MAX);
    if (d.negative)
        text_char(&text, '-');
    text_put(&text, view_first(d.head, from_head));
    text_put(&text, view_first(d.tail, DIGITS_MAX - from_head));
    if (digits > DIGITS_MAX) {
        text_char(&text, '1');
        d.exponent += (int64_t)(digits - DIGITS_MAX - 1);
    }
    if (digits == 0)
        text_char(&text, '0');
    text_char(&text, 'e');
    text_i64(&text, d.exponent);
    value = strtod(text_str(&text), NULL);
    if (isinf(value) || (digits && fpclassify(value) == FP_ZERO))
        return false;
    *ret = value;
    return true;
}
