/* The driver: jumps from one byte that can matter to the next, asks the matchers of that byte, and never looks at a byte of a find
 * twice. Which bytes matter is chosen so that prose has few of them: of a key's prefix it is the rarest byte that is looked for
 * ('_', the z of AIza), not the first. */
#include "ai/pii_parts.h"

#include "base/heap.h"
#include "base/key.h"

#include <errno.h>

#define D (PII_DIGIT | PII_WORD | PII_HEX | PII_LOCAL | PII_BASE64 | PII_START)
#define L (PII_ALPHA | PII_WORD | PII_LOCAL | PII_BASE64)
#define U (L | PII_UPPER)
#define H (L | PII_HEX)
#define UH (U | PII_HEX)

/* Bytes that are not named have no class. */
const uint8_t pii_classes[256] = {
    ['0'] = D,
    ['1'] = D,
    ['2'] = D,
    ['3'] = D,
    ['4'] = D,
    ['5'] = D,
    ['6'] = D,
    ['7'] = D,
    ['8'] = D,
    ['9'] = D,
    ['a'] = H,
    ['b'] = H,
    ['c'] = H,
    ['d'] = H,
    ['e'] = H,
    ['f'] = H,
    ['g' ... 'y'] = L,
    ['z'] = L | PII_START, /* AIza */
    ['A'] = UH,
    ['B'] = UH,
    ['C'] = UH,
    ['D'] = UH,
    ['E'] = UH,
    ['F'] = UH,
    ['G'] = U | PII_START, /* SG. */
    ['H'] = U,
    ['I'] = U | PII_START, /* AKIA, ASIA */
    ['J'] = U | PII_START, /* eyJ */
    ['K' ... 'Z'] = U,
    ['_'] = PII_WORD | PII_LOCAL | PII_BASE64 | PII_START,
    ['-'] = PII_LOCAL | PII_BASE64 | PII_START,
    ['@'] = PII_START,
    [':'] = PII_START,
    ['/'] = PII_LOCAL | PII_START, /* hooks.slack.com/services/ */
    ['%'] = PII_LOCAL | PII_START, /* %40 */
    ['\\'] = PII_START,            /* \u0040 in JSON inside of a string */
    ['.'] = PII_LOCAL,
    ['+'] = PII_LOCAL,
    ['!'] = PII_LOCAL,
    ['#' ... '$'] = PII_LOCAL,
    ['&' ... '\''] = PII_LOCAL,
    ['*'] = PII_LOCAL,
    ['='] = PII_LOCAL,
    ['?'] = PII_LOCAL,
    ['^'] = PII_LOCAL,
    ['`'] = PII_LOCAL,
    ['{' ... '~'] = PII_LOCAL,
    [0x80 ... 0xff] = PII_WORD | PII_LOCAL,
};

bool pii_starts_word(const struct pii_text *t, size_t at)
{
    char before;

    if (at == t->floor || !pii_is(t, at - 1, PII_WORD))
        return true;
    before = t->ptr[at - 1];
    if (at >= 2 && t->ptr[at - 2] == '\\')
        return before == 'n' || before == 'r' || before == 't';
    /* No-break spaces, dashes, quotes, bullets: general punctuation is U+2000 to U+206F. */
    if (at >= 3 && t->ptr[at - 3] == '\xe2' && (t->ptr[at - 2] == '\x80' || t->ptr[at - 2] == '\x81'))
        return true;
    /* U+00A0 to U+00BF; and CJK punctuation, U+3000 to U+303F and the full-width forms. */
    if (at >= 2 && t->ptr[at - 2] == '\xc2')
        return true;
    return at >= 3 && ((t->ptr[at - 3] == '\xe3' && t->ptr[at - 2] == '\x80') ||
                       (t->ptr[at - 3] == '\xef' && t->ptr[at - 2] == '\xbc'));
}

size_t pii_gap(const struct pii_text *t, size_t at, char *ret)
{
    char c = pii_at(t, at);

    if (c == ' ' || c == '-') {
        *ret = c;
        return 1;
    }
    if (c == '\xc2' && pii_at(t, at + 1) == '\xa0') { /* no-break space */
        *ret = ' ';
        return 2;
    }
    if (c == '\xe2' && pii_at(t, at + 1) == '\x80') {
        unsigned char last = (unsigned char)pii_at(t, at + 2);

        if ((last >= 0x80 && last <= 0x8a) || last == 0xaf) /* U+2000 to U+200A, U+202F */
            *ret = ' ';
        else if (last >= 0x90 && last <= 0x95) /* U+2010 to U+2015 */
            *ret = '-';
        else
            return 0;
        return 3;
    }
    return 0;
}

size_t pii_run(const struct pii_text *t, size_t at, unsigned class, size_t max)
{
    size_t len = 0;

    while (len < max && pii_is(t, at + len, class))
        len++;
    return len;
}

/* ---- labels ---- */

static const struct {
    struct view word;
    enum pii_label label;
} labels[] = {
    { { "phone", 5 }, PII_LABEL_PHONE },        { { "telephone", 9 }, PII_LABEL_PHONE },
    { { "tel", 3 }, PII_LABEL_PHONE },          { { "mobile", 6 }, PII_LABEL_PHONE },
    { { "cell", 4 }, PII_LABEL_PHONE },         { { "cellphone", 9 }, PII_LABEL_PHONE },
    { { "call", 4 }, PII_LABEL_PHONE },         { { "fax", 3 }, PII_LABEL_PHONE },
    { { "whatsapp", 8 }, PII_LABEL_PHONE },     { { "sms", 3 }, PII_LABEL_PHONE },
    { { "ring", 4 }, PII_LABEL_PHONE },         { { "dial", 4 }, PII_LABEL_PHONE },
    { { "mob", 3 }, PII_LABEL_PHONE },          { { "landline", 8 }, PII_LABEL_PHONE },
    { { "hotline", 7 }, PII_LABEL_PHONE },      { { "callback", 8 }, PII_LABEL_PHONE },
    { { "telefon", 7 }, PII_LABEL_PHONE },      { { "handy", 5 }, PII_LABEL_PHONE },
    { { "handynummer", 11 }, PII_LABEL_PHONE }, { { "telefono", 8 }, PII_LABEL_PHONE },
    { { "movil", 5 }, PII_LABEL_PHONE },        { { "portable", 8 }, PII_LABEL_PHONE },
    { { "order", 5 }, PII_LABEL_OTHER },        { { "orders", 6 }, PII_LABEL_OTHER },
    { { "invoice", 7 }, PII_LABEL_OTHER },      { { "ticket", 6 }, PII_LABEL_OTHER },
    { { "ref", 3 }, PII_LABEL_OTHER },          { { "reference", 9 }, PII_LABEL_OTHER },
    { { "isbn", 4 }, PII_LABEL_OTHER },         { { "issn", 4 }, PII_LABEL_OTHER },
    { { "sku", 3 }, PII_LABEL_OTHER },          { { "serial", 6 }, PII_LABEL_OTHER },
    { { "tracking", 8 }, PII_LABEL_OTHER },     { { "part", 4 }, PII_LABEL_OTHER },
    { { "case", 4 }, PII_LABEL_OTHER },         { { "id", 2 }, PII_LABEL_OTHER },
    { { "model", 5 }, PII_LABEL_OTHER },        { { "lot", 3 }, PII_LABEL_OTHER },
    { { "batch", 5 }, PII_LABEL_OTHER },        { { "po", 2 }, PII_LABEL_OTHER },
    { { "rma", 3 }, PII_LABEL_OTHER },          { { "item", 4 }, PII_LABEL_OTHER },
    { { "ean", 3 }, PII_LABEL_OTHER },          { { "upc", 3 }, PII_LABEL_OTHER },
    { { "gtin", 4 }, PII_LABEL_OTHER },         { { "product", 7 }, PII_LABEL_OTHER },
    { { "article", 7 }, PII_LABEL_OTHER },      { { "barcode", 7 }, PII_LABEL_OTHER },
    { { "parcel", 6 }, PII_LABEL_OTHER },       { { "shipment", 8 }, PII_LABEL_OTHER },
    { { "date", 4 }, PII_LABEL_OTHER },         { { "version", 7 }, PII_LABEL_VERSION },
    { { "versions", 8 }, PII_LABEL_VERSION },   { { "ver", 3 }, PII_LABEL_VERSION },
    { { "v", 1 }, PII_LABEL_VERSION },          { { "release", 7 }, PII_LABEL_VERSION },
    { { "build", 5 }, PII_LABEL_VERSION },      { { "firmware", 8 }, PII_LABEL_VERSION },
    { { "section", 7 }, PII_LABEL_VERSION },    { { "chapter", 7 }, PII_LABEL_VERSION },
    { { "clause", 6 }, PII_LABEL_VERSION },     { { "rev", 3 }, PII_LABEL_VERSION },
    { { "revision", 8 }, PII_LABEL_VERSION },   { { "upgrade", 7 }, PII_LABEL_VERSION },
    { { "upgraded", 8 }, PII_LABEL_VERSION },   { { "driver", 6 }, PII_LABEL_VERSION },
    { { "paragraph", 9 }, PII_LABEL_VERSION },  { { "oid", 3 }, PII_LABEL_VERSION },
};

static enum pii_label label_of(struct view word)
{
    for (size_t i = 0; i < ARRAY_LEN(labels); i++)
        if (view_eq_icase(labels[i].word, word))
            return labels[i].label;
    return PII_LABEL_NONE;
}

/* The nearest of the last four words wins; a sentence or line that has ended says nothing about this one. */
enum pii_label pii_label_before(const struct pii_text *t, size_t at)
{
    size_t end = at, stop = at > 48 ? at - 48 : 0;

    for (unsigned words = 0; words < 4; words++) {
        enum pii_label label;
        size_t start;

        while (end > stop && !pii_is(t, end - 1, PII_ALPHA)) {
            char c = t->ptr[end - 1];

            if (c == '\n' || ((c == '.' || c == ';' || c == '?') && end < at && t->ptr[end] == ' ' && words))
                return PII_LABEL_NONE;
            end--;
        }
        start = end;
        while (start > stop && pii_is(t, start - 1, PII_ALPHA))
            start--;
        if (start == end)
            return PII_LABEL_NONE;
        label = label_of(view_make(t->ptr + start, end - start));
        if (label != PII_LABEL_NONE)
            return label;
        end = start;
    }
    return PII_LABEL_NONE;
}

/* ---- the driver ---- */

static size_t next_start(const struct pii_text *t, size_t at)
{
    const unsigned char *p = (const unsigned char *)t->ptr;

    for (; at + 4 <= t->len; at += 4)
        if ((pii_classes[p[at]] | pii_classes[p[at + 1]] | pii_classes[p[at + 2]] | pii_classes[p[at + 3]]) & PII_START)
            break;
    while (at < t->len && !(pii_classes[p[at]] & PII_START))
        at++;
    return at;
}

static bool match_digits(const struct pii_text *t, size_t at, unsigned kinds, struct pii_find *ret)
{
    return ((kinds & PII_IBAN) && pii_match_iban(t, at, ret)) || ((kinds & PII_IP) && pii_match_ipv4(t, at, ret)) ||
           ((kinds & PII_CARD) && pii_match_card(t, at, ret)) || ((kinds & PII_PHONE) && pii_match_phone(t, at, ret));
}

static bool match(struct pii_text *t, size_t at, unsigned kinds, struct pii_find *ret)
{
    switch (t->ptr[at]) {
    case '@':
    case '%':
    case '\\': return (kinds & PII_EMAIL) && pii_match_email(t, at, ret);
    case ':': return (kinds & PII_IP) && pii_match_ipv6(t, at, ret);
    case 'J': return (kinds & PII_JWT) && pii_match_jwt(t, at, ret);
    case '-':
        if ((kinds & PII_PEM) && pii_match_pem(t, at, ret))
            return true;
        return (kinds & PII_KEY) && pii_match_key(t, at, ret);
    case '/':
    case '_':
    case 'G':
    case 'I':
    case 'z': return (kinds & PII_KEY) && pii_match_key(t, at, ret);
    default: return match_digits(t, at, kinds, ret);
    }
}

/* The next find at or behind *at, which moves behind it. */
static bool next_find(struct pii_text *t, size_t *at, unsigned kinds, struct pii_find *ret)
{
    while ((*at = next_start(t, *at)) < t->len) {
        if (match(t, *at, kinds, ret)) {
            t->floor = *at = ret->at + ret->len;
            return true;
        }
        /* What starts in the middle of digits was seen at their start. */
        *at += pii_is(t, *at, PII_DIGIT) ? pii_run(t, *at, PII_DIGIT, SIZE_MAX) : 1;
    }
    return false;
}

size_t pii_scan(struct view text, unsigned kinds, struct pii_find *finds, size_t max)
{
    struct pii_text t = { .ptr = text.ptr, .len = text.len };
    struct pii_find find;
    size_t at = 0, count = 0;

    while (next_find(&t, &at, kinds, &find)) {
        if (count < max)
            finds[count] = find;
        count++;
    }
    return count;
}

unsigned pii_kinds(struct view text, unsigned kinds)
{
    struct pii_text t = { .ptr = text.ptr, .len = text.len };
    struct pii_find find;
    unsigned seen = 0;
    size_t at = 0;

    while (seen != kinds && next_find(&t, &at, kinds, &find))
        seen |= find.kind;
    return seen;
}

static const char *const names[] = { "email", "phone", "card", "iban", "ip", "jwt", "pem", "key" };

const char *pii_name(enum pii_kind kind)
{
    return kind > 0 && kind <= PII_KEY ? names[__builtin_ctz(kind)] : "";
}

unsigned pii_kind_of(struct view name)
{
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (view_eq(name, view_str(names[i])))
            return 1u << i;
    return 0;
}

/* ---- redaction ---- */

struct pii_seen {
    uint64_t hash[2];
    uint32_t number; /* 0: a free place */
    uint8_t kind;    /* as the number of its bit */
};

void pii_map_init(struct pii_map *map)
{
    memset(map, 0, sizeof(*map));
}

void pii_map_free(struct pii_map *map)
{
    heap_free(map->seen);
    pii_map_init(map);
}

static struct pii_seen *place(struct pii_seen *seen, uint32_t cap, const struct pii_seen *wanted)
{
    uint32_t i = (uint32_t)wanted->hash[0] & (cap - 1);

    while (seen[i].number &&
           (seen[i].kind != wanted->kind || seen[i].hash[0] != wanted->hash[0] || seen[i].hash[1] != wanted->hash[1]))
        i = (i + 1) & (cap - 1);
    return &seen[i];
}

static bool grow(struct pii_map *map)
{
    uint32_t cap = map->cap ? map->cap * 2 : 16;
    struct pii_seen *seen = cap ? heap_zalloc(cap * sizeof(*seen)) : NULL;

    if (!seen)
        return false;
    for (uint32_t i = 0; i < map->cap; i++)
        if (map->seen[i].number)
            *place(seen, cap, &map->seen[i]) = map->seen[i];
    heap_free(map->seen);
    map->seen = seen;
    map->cap = cap;
    return true;
}

/* 0: memory is out. */
static uint32_t number_of(struct pii_map *map, enum pii_kind kind, struct view value)
{
    struct key key = key_of(value);
    struct pii_seen wanted = { .hash = { key.hash[0], key.hash[1] }, .kind = (uint8_t)__builtin_ctz(kind) };
    struct pii_seen *found;

    if ((map->count + 1) * 4 > map->cap * 3 && !grow(map))
        return 0;
    found = place(map->seen, map->cap, &wanted);
    if (!found->number) {
        *found = wanted;
        found->number = ++map->last[wanted.kind];
        map->count++;
    }
    return found->number;
}

static void put_placeholder(struct buf *out, enum pii_kind kind, uint32_t number)
{
    buf_char(out, '[');
    for (const char *c = pii_name(kind); *c; c++)
        buf_char(out, (char)(*c & ~0x20));
    buf_char(out, '_');
    buf_u64(out, number);
    buf_char(out, ']');
}

int pii_redact(struct view text, unsigned kinds, struct pii_map *map, struct buf *out)
{
    struct pii_text t = { .ptr = text.ptr, .len = text.len };
    struct pii_find find;
    size_t at = 0, done = 0;
    int count = 0;

    while (next_find(&t, &at, kinds, &find)) {
        uint32_t number = number_of(map, find.kind, view_make(text.ptr + find.at, find.len));

        if (number == 0)
            return -ENOMEM;
        buf_put(out, view_make(text.ptr + done, find.at - done));
        put_placeholder(out, find.kind, number);
        done = find.at + find.len;
        count++;
    }
    buf_put(out, view_skip(text, done));
    return out->failed ? -ENOMEM : count;
}
