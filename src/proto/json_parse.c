/* Text to tape in one pass, without recursion: open containers stand on a small stack of token numbers. Long strings
 * are looked at sixteen bytes at a time; only bytes that are not plain ASCII are looked at one by one (RFC 8259, RFC
 * 3629 for UTF-8).
 *
 * Duplicate names are looked for when an object ends: pair by pair in small ones, with a hash of names in large ones.
 * The hash has a random seed, since a peer chooses the names. */
#define XXH_INLINE_ALL
#include <xxhash.h> /* before base/compiler.h, as base/key.c tells */

#include "base/heap.h"
#include "proto/json_parts.h"

#include <sys/random.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

enum { DEPTH_MAX = 256, PAIRWISE_MAX = 16, TOKENS_FIRST = 64 };

struct parser {
    const unsigned char *start, *at, *end;
    struct json *doc;
    struct json_limits limits;
    enum json_error error;
    uint32_t depth;
    uint64_t seed; /* 0: not drawn yet */
    uint32_t open[DEPTH_MAX];
};

static bool fail(struct parser *p, enum json_error error)
{
    p->error = error;
    return false;
}

static bool grow(struct parser *p)
{
    struct json *doc = p->doc;
    uint32_t cap = doc->cap < TOKENS_FIRST ? TOKENS_FIRST : doc->cap * 2;
    struct json_token *grown;

    if (doc->cap > UINT32_MAX / 2 || doc->count >= p->limits.tokens)
        return fail(p, JSON_TOO_LARGE);
    grown = heap_resize(doc->tokens, cap * sizeof(*grown));
    if (!grown)
        return fail(p, JSON_NO_MEMORY);
    doc->tokens = grown;
    doc->cap = cap;
    return true;
}

/* Appends a token from `from` to where the parser stands. */
static bool add(struct parser *p, enum json_type type, const unsigned char *from, unsigned flags)
{
    struct json *doc = p->doc;
    struct json_token *token;

    if (unlikely(doc->count >= doc->cap || doc->count >= p->limits.tokens) && !grow(p))
        return false;
    token = &doc->tokens[doc->count++];
    token->at = (uint32_t)(from - p->start);
    token->len = (uint32_t)(p->at - from);
    token->next = doc->count;
    token->count = 0;
    token->type = (uint8_t)type;
    token->flags = (uint8_t)flags;
    doc->odd |= flags & JSON_ODD;
    return true;
}

/* The byte after white space; -1 at the end. */
static int peek(struct parser *p)
{
    while (p->at < p->end) {
        unsigned char c = *p->at;

        if (c > ' ' || (c != ' ' && c != '\n' && c != '\r' && c != '\t'))
            return c;
        p->at++;
    }
    return -1;
}

/* The first byte that is a quote, a backslash, a control character or no ASCII. */
static const unsigned char *skip_plain(const unsigned char *at, const unsigned char *end)
{
#ifdef __SSE2__
    const __m128i quote = _mm_set1_epi8('"'), backslash = _mm_set1_epi8('\\'), space = _mm_set1_epi8(0x20);

    for (; end - at >= 16; at += 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)at);
        /* As signed bytes, what is no ASCII is less than a space, too. */
        __m128i hit = _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(bytes, quote), _mm_cmpeq_epi8(bytes, backslash)),
                                   _mm_cmplt_epi8(bytes, space));
        unsigned mask = (unsigned)_mm_movemask_epi8(hit);

        if (mask)
            return at + __builtin_ctz(mask);
    }
#else
    for (; end - at >= 8; at += 8) {
        const uint64_t ones = 0x0101010101010101u, tops = 0x8080808080808080u;
        uint64_t bytes, quote, backslash;

        memcpy(&bytes, at, sizeof(bytes));
        quote = bytes ^ (ones * '"');
        backslash = bytes ^ (ones * '\\');
        /* May report a byte too many (borrows), never one too few; the loop below decides. */
        if ((bytes | (bytes - ones * 0x20) | (quote - ones) | (backslash - ones)) & tops)
            break;
    }
#endif
    while (at < end && *at >= 0x20 && *at < 0x80 && *at != '"' && *at != '\\')
        at++;
    return at;
}

/* Behind the characters beyond ASCII that start at `at`; NULL when they are no UTF-8 (RFC 3629 §4). */
static const unsigned char *skip_utf8(const unsigned char *at, const unsigned char *end)
{
    while (at < end && *at >= 0x80) {
        unsigned char c = at[0];
        ptrdiff_t left = end - at;

        if (c < 0xe0) {
            if (c < 0xc2 || left < 2 || (at[1] & 0xc0) != 0x80)
                return NULL;
            at += 2;
        } else if (c < 0xf0) {
            if (left < 3 || (at[1] & 0xc0) != 0x80 || (at[2] & 0xc0) != 0x80 || (c == 0xe0 && at[1] < 0xa0) ||
                (c == 0xed && at[1] > 0x9f))
                return NULL;
            at += 3;
        } else {
            if (c > 0xf4 || left < 4 || (at[1] & 0xc0) != 0x80 || (at[2] & 0xc0) != 0x80 || (at[3] & 0xc0) != 0x80 ||
                (c == 0xf0 && at[1] < 0x90) || (c == 0xf4 && at[1] > 0x8f))
                return NULL;
            at += 4;
        }
    }
    return at;
}

/* Four hexadecimal digits at `at`, or -1. */
static int hex4(const unsigned char *at, const unsigned char *end)
{
    int value = 0;

    if (end - at < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        unsigned char c = at[i];
        int digit = c >= '0' && c <= '9'                     ? c - '0'
                    : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10
                                                             : -1;

        if (digit < 0)
            return -1;
        value = value << 4 | digit;
    }
    return value;
}

/* One escape, both halves of a pair at once. */
static bool read_escape(struct parser *p, unsigned *flags)
{
    int code, low;

    *flags |= JSON_ESCAPED;
    if (p->end - p->at < 2)
        return fail(p, JSON_SYNTAX);
    if (p->at[1] != 'u') {
        if (p->at[1] == '\0' || !strchr("\"\\/bfnrt", p->at[1]))
            return fail(p, JSON_SYNTAX);
        p->at += 2;
        return true;
    }
    code = hex4(p->at + 2, p->end);
    if (code < 0)
        return fail(p, JSON_SYNTAX);
    p->at += 6;
    if (code == 0)
        *flags |= JSON_ODD;
    if ((code & 0xf800) != 0xd800)
        return true;
    low = code < 0xdc00 && p->end - p->at >= 6 && p->at[0] == '\\' && p->at[1] == 'u' ? hex4(p->at + 2, p->end) : -1;
    if (low >= 0xdc00 && low <= 0xdfff)
        p->at += 6;
    else
        *flags |= JSON_ODD;
    return true;
}

static bool read_string(struct parser *p)
{
    const unsigned char *from = p->at++;
    unsigned flags = 0;

    for (;;) {
        p->at = skip_plain(p->at, p->end);
        if (p->at == p->end || *p->at < 0x20)
            return fail(p, JSON_SYNTAX);
        if (*p->at == '"') {
            p->at++;
            return add(p, JSON_STRING, from, flags);
        }
        if (*p->at == '\\') {
            if (!read_escape(p, &flags))
                return false;
        } else {
            const unsigned char *behind = skip_utf8(p->at, p->end);

            if (!behind)
                return fail(p, JSON_UTF8);
            p->at = behind;
        }
    }
}

static bool skip_digits(struct parser *p)
{
    const unsigned char *from = p->at;

    while (p->at < p->end && *p->at >= '0' && *p->at <= '9')
        p->at++;
    return p->at > from || fail(p, JSON_SYNTAX);
}

/* Numbers that some reader cannot hold. At the edge of doubles this says "odd" a little early. */
static bool is_odd(struct view number, bool integer)
{
    static const struct view largest = { "17976931348623157", 17 }, beyond = { "9223372036854775808", 19 };
    struct json_decimal d;
    size_t digits;
    int64_t magnitude;
    int order;

    if (integer) {
        struct view value = view_skip(number, number.ptr[0] == '-');

        if (value.len != beyond.len)
            return value.len > beyond.len;
        order = view_compare(value, beyond);
        return order > 0 || (order == 0 && number.ptr[0] != '-');
    }
    d = json_decimal(number);
    digits = d.head.len + d.tail.len;
    if (d.huge || digits == 0)
        return d.huge;
    magnitude = d.exponent + (int64_t)digits - 1;
    if (magnitude < -323)
        return magnitude < -324 || (d.head.len ? d.head.ptr[0] : d.tail.ptr[0]) < '5';
    if (magnitude != 308)
        return magnitude > 308;
    for (size_t i = 0; i < largest.len && i < digits; i++) {
        char c = i < d.head.len ? d.head.ptr[i] : d.tail.ptr[i - d.head.len];

        if (c != largest.ptr[i])
            return c > largest.ptr[i];
    }
    return digits > largest.len;
}

static bool read_number(struct parser *p)
{
    const unsigned char *from = p->at;
    bool integer = true, odd;

    if (*p->at == '-')
        p->at++;
    if (p->at < p->end && *p->at == '0')
        p->at++;
    else if (!skip_digits(p))
        return false;
    if (p->at < p->end && *p->at == '.') {
        integer = false;
        p->at++;
        if (!skip_digits(p))
            return false;
    }
    if (p->at < p->end && (*p->at | 0x20) == 'e') {
        integer = false;
        p->at++;
        if (p->at < p->end && (*p->at == '+' || *p->at == '-'))
            p->at++;
        if (!skip_digits(p))
            return false;
    }
    odd = is_odd(view_make((const char *)from, (size_t)(p->at - from)), integer);
    return add(p, JSON_NUMBER, from, odd ? JSON_ODD : 0);
}

static bool read_word(struct parser *p, struct view word, enum json_type type)
{
    const unsigned char *from = p->at;

    if ((size_t)(p->end - p->at) < word.len || memcmp(p->at, word.ptr, word.len) != 0)
        return fail(p, JSON_SYNTAX);
    p->at += word.len;
    return add(p, type, from, 0);
}

/* ---- objects ---- */

static bool refuse_duplicate(struct parser *p, uint32_t name)
{
    p->at = p->start + p->doc->tokens[name].at;
    return fail(p, JSON_DUPLICATE);
}

static bool check_pairs(struct parser *p, const uint32_t *names, uint32_t count)
{
    const struct json *doc = p->doc;

    for (uint32_t i = 1; i < count; i++) {
        const struct json_token *one = &doc->tokens[names[i]];

        for (uint32_t k = 0; k < i; k++) {
            const struct json_token *other = &doc->tokens[names[k]];
            bool plain = !((one->flags | other->flags) & JSON_ESCAPED);

            if (plain ? one->len == other->len && memcmp(p->start + one->at, p->start + other->at, one->len) == 0
                      : json_compare(doc, names[i], names[k]) == 0)
                return refuse_duplicate(p, names[i]);
        }
    }
    return true;
}

static uint64_t hash_name(struct parser *p, uint32_t name)
{
    struct view inside = json_inside(p->doc, name);
    const char *at = inside.ptr, *end = inside.ptr + inside.len;
    uint64_t hash;
    size_t len = 0;
    char *value;

    if (!(p->doc->tokens[name].flags & JSON_ESCAPED))
        return XXH3_64bits_withSeed(inside.ptr, inside.len, p->seed);
    value = heap_alloc(inside.len + 1); /* never longer than its spelling */
    if (!value) {
        fail(p, JSON_NO_MEMORY);
        return 0;
    }
    while (at < end) {
        if (*at == '\\')
            len += json_utf8(json_unescape(&at, end), value + len);
        else
            value[len++] = *at++;
    }
    hash = XXH3_64bits_withSeed(value, len, p->seed);
    heap_free(value);
    return hash;
}

struct slot {
    uint32_t name; /* 0: free (a name is never token 0) */
    uint32_t hash; /* its upper half; the lower one chose the place */
};

static bool check_hashed(struct parser *p, uint32_t object)
{
    const struct json *doc = p->doc;
    size_t size = 64;
    struct slot *slots;
    bool good = true;

    while (size < 2 * (size_t)doc->tokens[object].count)
        size *= 2;
    slots = heap_zalloc(size * sizeof(*slots));
    if (!slots)
        return fail(p, JSON_NO_MEMORY);
    if (p->seed == 0 && getrandom(&p->seed, sizeof(p->seed), GRND_NONBLOCK) < 0)
        p->seed = (uint64_t)(uintptr_t)slots ^ (uint64_t)(uintptr_t)p
                                                   << 20; /* no entropy yet: addresses are better than nothing */
    for (uint32_t name = object + 1; good && name < doc->count; name = doc->tokens[name + 1].next) {
        uint64_t hash = hash_name(p, name);
        size_t at = hash & (size - 1);

        good = p->error == JSON_OK;
        while (good && slots[at].name) {
            if (slots[at].hash == (uint32_t)(hash >> 32) && json_compare(doc, slots[at].name, name) == 0)
                good = refuse_duplicate(p, name);
            at = (at + 1) & (size - 1);
        }
        slots[at] = (struct slot){ .name = name, .hash = (uint32_t)(hash >> 32) };
    }
    heap_free(slots);
    return good;
}

static bool check_names(struct parser *p, uint32_t object)
{
    const struct json *doc = p->doc;
    uint32_t names[PAIRWISE_MAX], count = 0;

    if (doc->tokens[object].count > PAIRWISE_MAX)
        return check_hashed(p, object);
    for (uint32_t name = object + 1; name < doc->count; name = doc->tokens[name + 1].next)
        names[count++] = name;
    return check_pairs(p, names, count);
}

/* ---- the tree ---- */

/* A member's name and the colon behind it. */
static bool read_name(struct parser *p)
{
    if (peek(p) != '"')
        return fail(p, JSON_SYNTAX);
    if (!read_string(p))
        return false;
    if (peek(p) != ':')
        return fail(p, JSON_SYNTAX);
    p->at++;
    return true;
}

/* The innermost container ends with the byte at hand. */
static bool close_container(struct parser *p)
{
    uint32_t i = p->open[--p->depth];
    struct json_token *token = &p->doc->tokens[i];

    p->at++;
    token->len = (uint32_t)(p->at - p->start) - token->at;
    token->next = p->doc->count;
    return token->type != JSON_OBJECT || token->count < 2 || check_names(p, i);
}

/* Leaves the parser before its first element, or behind it when it is empty (*ended). */
static bool open_container(struct parser *p, enum json_type type, bool *ended)
{
    if (p->depth >= MIN(p->limits.depth, (uint32_t)DEPTH_MAX))
        return fail(p, JSON_DEPTH);
    p->open[p->depth++] = p->doc->count;
    p->at++;
    if (!add(p, type, p->at - 1, 0))
        return false;
    if (peek(p) == (type == JSON_OBJECT ? '}' : ']')) {
        *ended = true;
        return close_container(p);
    }
    p->doc->tokens[p->open[p->depth - 1]].count = 1;
    return type != JSON_OBJECT || read_name(p);
}

static bool read_value(struct parser *p, bool *ended)
{
    int c = peek(p);

    *ended = true;
    switch (c) {
    case '"': return read_string(p);
    case '{':
    case '[': *ended = false; return open_container(p, c == '{' ? JSON_OBJECT : JSON_ARRAY, ended);
    case 't': return read_word(p, VIEW("true"), JSON_TRUE);
    case 'f': return read_word(p, VIEW("false"), JSON_FALSE);
    case 'n': return read_word(p, VIEW("null"), JSON_NULL);
    default: return c == '-' || (c >= '0' && c <= '9') ? read_number(p) : fail(p, JSON_SYNTAX);
    }
}

/* After a value: ends the containers that end here. *more: another value follows in the innermost one. */
static bool read_behind(struct parser *p, bool *more)
{
    *more = false;
    while (p->depth) {
        struct json_token *container = &p->doc->tokens[p->open[p->depth - 1]];
        int c = peek(p);

        if (c == ',') {
            p->at++;
            container->count++;
            *more = true;
            return container->type != JSON_OBJECT || read_name(p);
        }
        if (c != (container->type == JSON_OBJECT ? '}' : ']'))
            return fail(p, JSON_SYNTAX);
        if (!close_container(p))
            return false;
    }
    return true;
}

static bool read_all(struct parser *p)
{
    bool ended, more = true;

    while (more) {
        if (!read_value(p, &ended))
            return false;
        if (ended && !read_behind(p, &more))
            return false;
    }
    return peek(p) < 0 || fail(p, JSON_SYNTAX);
}

enum json_error json_parse(struct json *doc, struct view text, struct json_limits limits, size_t *ret_at)
{
    struct parser p not_zeroed; /* the stack is written before it is read */

    doc->text = text;
    doc->count = 0;
    doc->odd = false;
    p.start = p.at = (const unsigned char *)text.ptr;
    p.end = text.len ? p.start + text.len : p.start; /* an empty view may have no address */
    p.doc = doc;
    p.limits = limits;
    p.error = JSON_OK;
    p.depth = 0;
    p.seed = 0;
    if (text.len >= UINT32_MAX)
        fail(&p, JSON_TOO_LARGE);
    else if (text.len == 0)
        fail(&p, JSON_SYNTAX);
    else
        (void)!read_all(&p);
    if (p.error != JSON_OK) {
        doc->count = 0;
        if (ret_at)
            *ret_at = (size_t)(p.at - p.start);
    }
    return p.error;
}
