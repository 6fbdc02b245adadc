/* Key texts: two of them are equal exactly when their parts are; the text splits back into these parts; rules only ever shorten
 * a query. */
#include "cache/key.h"

#include "base/check.h"
#include "base/heap.h"

#define PARTS 5

/* The parts of a key text; false when it is not a run of `decimal length ":" bytes`. */
static bool split(struct view text, struct view parts[8], unsigned *ret_count)
{
    unsigned n = 0;

    while (text.len) {
        struct view digits = view_cut(&text, ':');
        uint64_t len;

        if (n == 8 || !text.ptr || !view_parse_u64(digits, &len) || len > text.len)
            return false;
        parts[n++] = view_first(text, (size_t)len);
        text = view_skip(text, (size_t)len);
    }
    *ret_count = n;
    return true;
}

static struct text build(const struct key_rules *rules, const struct view in[PARTS])
{
    size_t cap = 256;
    struct text out;

    for (int i = 0; i < PARTS; i++)
        cap += in[i].len;
    out = text_make(heap_alloc(cap), cap);
    CHECK(out.ptr);
    CHECK(key_build_url(rules, in[0], in[1], in[2], in[3], in[4], &out) == 0);
    return out;
}

static bool same(struct view a, struct view b)
{
    return view_eq(a, b);
}

/* Input: two lists of scope, scheme, authority, path, query, each ended by \n. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct view ignored[] = { { "utm_*", 5 }, { "x", 1 } };
    static const struct key_rules plain = { .with_scheme = true },
                                  rules = { .ignore_query = ignored, .ignore_query_count = 2, .sort_query = true };
    struct view rest = view_make((const char *)data, size), in[2][PARTS], parts[2][8];
    struct text texts[2], again;
    unsigned counts[2];
    bool equal = true;

    for (int i = 0; i < 2; i++)
        for (int k = 0; k < PARTS; k++)
            in[i][k] = view_cut(&rest, '\n');
    for (int i = 0; i < 2; i++) {
        texts[i] = build(&plain, in[i]);
        CHECK(split(text_view(&texts[i]), parts[i], &counts[i]));
        CHECK(counts[i] >= 6 && same(parts[i][0], in[i][0]) && same(parts[i][4], in[i][3]));
    }
    CHECK(counts[0] == counts[1]);
    for (unsigned k = 0; k < counts[0]; k++)
        equal = equal && view_eq(parts[0][k], parts[1][k]);
    CHECK(equal == view_eq(text_view(&texts[0]), text_view(&texts[1])));
    CHECK(!equal || (same(in[0][0], in[1][0]) && same(in[0][3], in[1][3]) && same(in[0][4], in[1][4])));
    /* Sorted and thinned out once is done: a second time changes nothing. */
    again = build(&rules, in[0]);
    CHECK(split(text_view(&again), parts[0], &counts[0]) && parts[0][5].len <= in[0][4].len + 1);
    in[0][4] = view_skip(parts[0][5], 1);
    if (in[0][4].len || !parts[0][5].len) {
        struct text second = build(&rules, (const struct view[PARTS]){ in[0][0], in[0][1], in[0][2], in[0][3],
                                                                       parts[0][5].len ? in[0][4] : VIEW_NONE });

        CHECK(view_eq(text_view(&second), text_view(&again)));
        heap_free(second.ptr);
    }
    heap_free(again.ptr);
    heap_free(texts[0].ptr);
    heap_free(texts[1].ptr);
    return 0;
}
