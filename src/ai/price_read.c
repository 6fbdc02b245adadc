/* From the file to the table. Every member has one rule in one table; what is wrong is said with the file's name and line, and with
 * what would be right: a price that was misread costs money. */
#include "ai/price_internal.h"

#include "base/heap.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX ((off_t)16 << 20)
#define ENTRIES_MAX 100000u
#define DECIMALS 6u
#define LINE_SHOWN 40u

struct reader {
    struct json doc;
    struct view name;
    struct prices *prices;
    struct text *reason;
};

/* Appends "FILE:LINE: " and what is wrong at `offset`. */
static int wrong_at(struct reader *r, size_t offset, const char *what)
{
    unsigned line = 1;

    for (size_t i = 0; i < offset && i < r->doc.text.len; i++)
        line += r->doc.text.ptr[i] == '\n';
    text_put(r->reason, r->name);
    text_printf(r->reason, ":%u: %s", line, what);
    return -EINVAL;
}

/* The same about a value, which is shown. */
static int wrong(struct reader *r, uint32_t token, struct view member, const char *what)
{
    struct view shown = json_raw(&r->doc, token);

    wrong_at(r, r->doc.tokens[token].at, "");
    if (member.len)
        text_printf(r->reason, "%.*s ", VIEW_ARG(view_first(member, LINE_SHOWN)));
    text_printf(r->reason, "%.*s%s: %s", VIEW_ARG(view_first(shown, LINE_SHOWN)), shown.len > LINE_SHOWN ? "..." : "",
                what);
    return -EINVAL;
}

/* ---- values ---- */

/* "0.15" into 150000. Digits, and at most six of them after the point. */
static bool parse_micro(struct view text, uint64_t *ret)
{
    struct view whole = view_cut(&text, '.'), part = text;
    uint64_t value, micro = 0;
    unsigned digits = 0;

    if (!view_parse_u64(whole, &value) || value > PRICE_MAX / 1000000)
        return false;
    for (; digits < part.len; digits++) {
        char c = part.ptr[digits];

        if (c < '0' || c > '9' || (digits >= DECIMALS && c != '0'))
            return false;
        if (digits < DECIMALS)
            micro = micro * 10 + (uint64_t)(c - '0');
    }
    for (; digits < DECIMALS; digits++)
        micro *= 10;
    *ret = value * 1000000 + micro;
    return true;
}

static bool is_leap(int year)
{
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

/* "2026-01-31" into days since 1970. */
static bool parse_date(struct view text, int32_t *ret)
{
    static const int lengths[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
    struct view rest = text, year = view_cut(&rest, '-'), month = view_cut(&rest, '-'), day = rest;
    uint64_t y, m, d;
    int32_t days = 0;

    if (year.len != 4 || month.len != 2 || day.len != 2 || !view_parse_u64(year, &y) || !view_parse_u64(month, &m) ||
        !view_parse_u64(day, &d) || y < 1970 || m < 1 || m > 12 || d < 1 ||
        d > (uint64_t)(lengths[m - 1] + (m == 2 && is_leap((int)y))))
        return false;
    for (int i = 1970; i < (int)y; i++)
        days += 365 + is_leap(i);
    for (int i = 0; i < (int)m - 1; i++)
        days += lengths[i] + (i == 1 && is_leap((int)y));
    *ret = days + (int32_t)d - 1;
    return true;
}

/* A string's value, kept with the prices. */
static bool keep_text(struct reader *r, uint32_t token, struct view *ret)
{
    struct buf *texts = &r->prices->texts;
    size_t at = texts->len;

    if (json_type(&r->doc, token) != JSON_STRING || !json_decode(&r->doc, token, texts) || texts->failed)
        return false;
    *ret = view_make(texts->ptr + at, texts->len - at);
    return true;
}

/* ---- entries ---- */

enum member_kind { MEMBER_TEXT, MEMBER_DATE, MEMBER_PRICE };

enum member_id {
    MEMBER_PROVIDER,
    MEMBER_MODEL,
    MEMBER_FROM,
    MEMBER_UNTIL,
    MEMBER_INPUT,
    MEMBER_CACHED_INPUT,
    MEMBER_CACHE_WRITE,
    MEMBER_OUTPUT,
    MEMBER_REASONING,
    MEMBER_PER_REQUEST,
    MEMBERS
};

static const struct {
    struct view name;
    enum member_kind kind;
    size_t offset;
} members[MEMBERS] = {
    [MEMBER_PROVIDER] = { { "provider", 8 }, MEMBER_TEXT, offsetof(struct price, provider) },
    [MEMBER_MODEL] = { { "model", 5 }, MEMBER_TEXT, offsetof(struct price, model) },
    [MEMBER_FROM] = { { "from", 4 }, MEMBER_DATE, offsetof(struct price, from) },
    [MEMBER_UNTIL] = { { "until", 5 }, MEMBER_DATE, offsetof(struct price, until) },
    [MEMBER_INPUT] = { { "input", 5 }, MEMBER_PRICE, offsetof(struct price, input) },
    [MEMBER_CACHED_INPUT] = { { "cached_input", 12 }, MEMBER_PRICE, offsetof(struct price, cached_input) },
    [MEMBER_CACHE_WRITE] = { { "cache_write", 11 }, MEMBER_PRICE, offsetof(struct price, cache_write) },
    [MEMBER_OUTPUT] = { { "output", 6 }, MEMBER_PRICE, offsetof(struct price, output) },
    [MEMBER_REASONING] = { { "reasoning", 9 }, MEMBER_PRICE, offsetof(struct price, reasoning) },
    [MEMBER_PER_REQUEST] = { { "per_request", 11 }, MEMBER_PRICE, offsetof(struct price, per_request) },
};

static_assert(sizeof(((struct price *)0)->per_request) == sizeof(uint64_t), "read like the other prices");

static int read_member(struct reader *r, enum member_id id, uint32_t value, struct price *price)
{
    void *to = (char *)price + members[id].offset;
    struct view name = members[id].name, plain;
    uint64_t micro;

    switch (members[id].kind) {
    case MEMBER_TEXT:
        if (!keep_text(r, value, to) || ((struct view *)to)->len == 0)
            return wrong(r, value, name, "a name in quotes is wanted, * stands for anything");
        return 0;
    case MEMBER_DATE:
        plain = json_plain(&r->doc, value);
        if (!plain.ptr || !parse_date(plain, to))
            return wrong(r, value, name, "a date is wanted, like \"2026-01-31\"");
        return 0;
    case MEMBER_PRICE:
        if (json_type(&r->doc, value) != JSON_NUMBER || !parse_micro(json_raw(&r->doc, value), &micro))
            return wrong(r, value, name,
                         id == MEMBER_PER_REQUEST
                             ? "the price of one request is wanted, like 0.01: at most 6 decimals"
                             : "a price for a million tokens is wanted, like 0.15: below 1000000, at most 6 decimals");
        memcpy(to, &micro, sizeof(micro));
        return 0;
    }
    return 0;
}

static int read_entry(struct reader *r, uint32_t entry, struct price *ret)
{
    struct price price = { .from = INT32_MIN, .until = INT32_MAX };
    unsigned said = 0;
    const struct json *doc = &r->doc;
    int e = 0;

    if (json_type(doc, entry) != JSON_OBJECT)
        return wrong(r, entry, VIEW_NONE, "an entry is an object, like {\"model\": \"gpt-4o*\", \"input\": 2.5, ...}");
    for (uint32_t name = json_first(doc, entry); e == 0 && name < json_end(doc, entry);
         name = json_after(doc, name + 1)) {
        unsigned id = 0;

        while (id < MEMBERS && !json_is(doc, name, members[id].name))
            id++;
        if (id == MEMBERS)
            return wrong(r, name, VIEW_NONE,
                         "no such member; known: provider, model, from, until, input, cached_input, cache_write, "
                         "output, reasoning, per_request");
        e = read_member(r, (enum member_id)id, name + 1, &price);
        said |= 1u << id;
    }
    if (e < 0)
        return e;
    if (!(said & 1u << MEMBER_MODEL))
        return wrong(r, entry, VIEW_NONE, "an entry needs a \"model\"");
    if (!(said & 1u << MEMBER_INPUT) || !(said & 1u << MEMBER_OUTPUT))
        return wrong(r, entry, VIEW_NONE, "an entry needs \"input\" and \"output\" prices (0 when it is free)");
    if (price.from >= price.until)
        return wrong(r, entry, VIEW_NONE, "\"until\" is the first day without the price: it comes after \"from\"");
    if (!(said & 1u << MEMBER_CACHED_INPUT))
        price.cached_input = price.input;
    if (!(said & 1u << MEMBER_CACHE_WRITE))
        price.cache_write = price.input;
    if (!(said & 1u << MEMBER_REASONING))
        price.reasoning = price.output;
    *ret = price;
    return 0;
}

/* ---- their order ---- */

static bool is_pattern(struct view name)
{
    return view_contains(name, '*');
}

static unsigned literals(struct view name)
{
    unsigned count = 0;

    for (size_t i = 0; i < name.len; i++)
        count += name.ptr[i] != '*';
    return count;
}

/* An exact name before patterns, then the one that says more. */
static int compare_names(struct view a, struct view b)
{
    unsigned said_a = literals(a), said_b = literals(b);
    bool pattern_a = a.len == 0 || is_pattern(a), pattern_b = b.len == 0 || is_pattern(b);

    if (pattern_a != pattern_b)
        return pattern_a ? 1 : -1;
    return pattern_a && said_a != said_b ? (said_a > said_b ? -1 : 1) : 0;
}

static int compare(const void *a, const void *b)
{
    const struct price *x = a, *y = b;
    int r = compare_names(x->model, y->model);

    if (r == 0)
        r = compare_names(x->provider, y->provider);
    if (r == 0 && x->from != y->from)
        r = x->from > y->from ? -1 : 1;
    if (r == 0)
        r = view_compare(x->model, y->model);
    return r ? r : view_compare(x->provider, y->provider);
}

/* Two that begin on one day for the same names: which is meant cannot be known. They are neighbours. */
static int refuse_twins(struct reader *r)
{
    const struct prices *prices = r->prices;

    for (unsigned i = 1; i < prices->count; i++) {
        const struct price *price = &prices->items[i];

        if (compare(price - 1, price) != 0)
            continue;
        text_put(r->reason, r->name);
        text_printf(r->reason, ": two prices of \"%.*s\" begin on the same day: give one of them another \"from\"",
                    VIEW_ARG(view_first(price->model, LINE_SHOWN)));
        return -EINVAL;
    }
    return 0;
}

/* ---- the file ---- */

static int read_all(struct reader *r)
{
    const struct json *doc = &r->doc;
    uint32_t list = json_get(doc, 0, VIEW("prices")), currency = json_get(doc, 0, VIEW("currency"));
    struct prices *prices = r->prices;

    if (json_type(doc, 0) != JSON_OBJECT || !list || json_type(doc, list) != JSON_ARRAY)
        return wrong_at(r, 0, "an object with a list \"prices\" is wanted: {\"currency\": \"USD\", \"prices\": [...]}");
    for (uint32_t name = json_first(doc, 0); name < json_end(doc, 0); name = json_after(doc, name + 1))
        if (!json_is(doc, name, VIEW("prices")) && !json_is(doc, name, VIEW("currency")) &&
            !json_is(doc, name, VIEW("comment")))
            return wrong(r, name, VIEW_NONE, "no such member; known: currency, comment, prices");
    prices->currency = VIEW("USD");
    if (currency && (!keep_text(r, currency, &prices->currency) || prices->currency.len != 3))
        return wrong(r, currency, VIEW("currency"), "three letters are wanted, like \"USD\"");
    if (doc->tokens[list].count > ENTRIES_MAX)
        return wrong_at(r, doc->tokens[list].at, "too many prices: 100000 at most");
    prices->items = heap_array(MAX(doc->tokens[list].count, 1u), sizeof(prices->items[0]));
    if (!prices->items)
        return -ENOMEM;
    for (uint32_t entry = json_first(doc, list); entry < json_end(doc, list); entry = json_after(doc, entry)) {
        int e = read_entry(r, entry, &prices->items[prices->count]);

        if (e < 0)
            return e;
        prices->count++;
    }
    qsort(prices->items, prices->count, sizeof(prices->items[0]), compare);
    return refuse_twins(r);
}

int prices_parse(struct view name, struct view json, struct prices **ret, struct text *reason)
{
    struct reader r = { .name = name, .reason = reason, .prices = heap_zalloc(sizeof(*r.prices)) };
    enum json_error error;
    size_t at = 0;
    int e = 0;

    if (!r.prices) {
        text_lit(reason, "out of memory");
        return -ENOMEM;
    }
    /* What is decoded is never longer than its text by more than a replacement character's bytes for an escape's six. */
    r.prices->texts = buf_make(json.len + 1);
    if (!buf_room(&r.prices->texts, json.len + 1))
        e = -ENOMEM;
    error = e == 0 ? json_parse(&r.doc, json, JSON_LIMITS, &at) : JSON_OK;
    if (error != JSON_OK) {
        r.doc.text = json;
        e = error == JSON_NO_MEMORY ? -ENOMEM : wrong_at(&r, at, json_error_text(error));
    } else if (e == 0) {
        e = read_all(&r);
    }
    if (e == -ENOMEM)
        text_lit(reason, "out of memory");
    json_free(&r.doc);
    if (e < 0)
        prices_free(r.prices);
    else
        *ret = r.prices;
    return e;
}

/* The whole file into heap memory. */
static int read_file(const char *path, char **ret, size_t *ret_len)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC), r = 0;
    struct stat st;
    size_t len = 0;
    char *memory = NULL;

    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) < 0)
        r = -errno;
    else if (st.st_size > FILE_MAX)
        r = -EFBIG;
    else if (!(memory = heap_alloc((size_t)st.st_size + 1)))
        r = -ENOMEM;
    while (r == 0 && len < (size_t)st.st_size) {
        ssize_t n = read(fd, memory + len, (size_t)st.st_size - len);

        if (n < 0 && errno != EINTR)
            r = -errno;
        if (n == 0)
            break;
        len += n > 0 ? (size_t)n : 0;
    }
    close(fd);
    if (r < 0) {
        heap_free(memory);
        return r;
    }
    *ret = memory;
    *ret_len = len;
    return 0;
}

int prices_load(const char *path, struct prices **ret, struct text *reason)
{
    char *memory;
    size_t len;
    int r = read_file(path, &memory, &len);

    if (r < 0) {
        text_printf(reason, "%s: %s", path, strerrordesc_np(-r));
        return r;
    }
    r = prices_parse(view_str(path), view_make(memory, len), ret, reason);
    heap_free(memory);
    return r;
}
