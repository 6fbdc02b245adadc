/* Any bytes as replies: views lie inside the input, a split input gives the same as the whole one, and what is printed again from
 * the values parses to the same values. */
#include "base/check.h"
#include "base/heap.h"
#include "proto/resp.h"

#include <errno.h>

#define INPUT_MAX 2048u

static const struct resp_limits limits = { 4096, 200, 6 };

/* Values in the order they stand; printed in RESP3 without attributes. */
static void print(const struct resp_value *root, struct view input, struct text *out)
{
    const struct resp_value *stack[256];
    unsigned depth = 0;

    stack[depth++] = root;
    while (depth) {
        const struct resp_value *v = stack[--depth];

        CHECK(v->text.len == 0 || (v->text.ptr >= input.ptr && v->text.ptr + v->text.len <= input.ptr + input.len));
        switch (v->type) {
        case RESP_NULL: text_lit(out, "_\r\n"); break;
        case RESP_STRING:
        case RESP_ERROR:
            text_printf(out, "%c%zu\r\n", v->type == RESP_STRING ? '$' : '!', v->text.len);
            text_put(out, v->text);
            text_lit(out, "\r\n");
            break;
        case RESP_INTEGER: text_printf(out, ":%lld\r\n", (long long)v->integer); break;
        case RESP_DOUBLE: text_printf(out, ",%.17g\r\n", v->number); break;
        case RESP_BOOLEAN: text_printf(out, "#%c\r\n", v->integer ? 't' : 'f'); break;
        default:
            text_printf(out, "%c%zu\r\n",
                        v->type == RESP_MAP    ? '%'
                        : v->type == RESP_PUSH ? '>'
                                               : '*',
                        v->type == RESP_MAP ? v->count / 2 : v->count);
            CHECK(v->count <= 200);
            for (size_t i = v->count; i-- > 0;)
                stack[depth++] = &v->items[i];
        }
        CHECK(depth <= 201);
    }
}

static void print_again(const struct resp_value *value, struct view input)
{
    static char memory[2][32768], arena_memory[65536];
    static const struct resp_limits wide = { 65536, 400, 6 };
    struct text once = TEXT_ON(memory[0]), twice = TEXT_ON(memory[1]);
    struct arena arena;
    struct resp_value again;
    size_t hint;

    print(value, input, &once);
    CHECK(!once.overflow);
    arena_init(&arena, arena_memory, sizeof(arena_memory), 0);
    CHECK(resp_parse(text_view(&once), &wide, &arena, &again, &hint) == (ssize_t)once.len);
    print(&again, text_view(&once), &twice);
    CHECK(view_eq(text_view(&once), text_view(&twice)));
}

/* The same bytes, arriving in two parts (the first of `part` bytes), and then one by one. */
static void in_pieces(struct view input, size_t part, ssize_t whole)
{
    struct resp_scan scan = { 0 }, slow = { 0 };
    size_t hint = 0;
    ssize_t got = resp_scan(&scan, view_first(input, part), &limits, &hint);

    if (got == 0)
        got = resp_scan(&scan, input, &limits, &hint);
    CHECK(got == whole);
    got = 0;
    for (size_t i = 0; i <= input.len && got == 0; i++) {
        got = resp_scan(&slow, view_first(input, i), &limits, &hint);
        CHECK(got != 0 || hint > i);
    }
    CHECK(got == whole);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char arena_memory[65536];
    struct view input = view_make((const char *)data, MIN(size, (size_t)INPUT_MAX));
    struct resp_scan scan = { 0 };
    struct resp_value value;
    struct arena arena;
    size_t hint = 0;
    ssize_t len;
    int r;

    if (size == 0)
        return 0;
    len = resp_scan(&scan, input, &limits, &hint);
    CHECK(len != 0 || (hint > input.len && hint <= limits.bytes));
    in_pieces(input, data[0] % (input.len + 1), len);
    resp_slot(input);
    if (len <= 0)
        return 0;
    arena_init(&arena, arena_memory, sizeof(arena_memory), 0);
    r = resp_build(view_first(input, (size_t)len), &limits, &arena, &value);
    CHECK(r == 0 || r == -EBADMSG || r == -EMSGSIZE);
    if (r == 0)
        print_again(&value, input);
    return 0;
}
