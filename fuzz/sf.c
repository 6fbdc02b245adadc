/* Structured fields: nothing crashes, nested iterators agree with the outer one, a string survives serialising. */
#include "proto/sf.h"

#include "base/check.h"

static volatile unsigned char sink;

static void read_all(struct view v)
{
    for (size_t i = 0; i < v.len; i++)
        sink ^= (unsigned char)v.ptr[i];
}

static void use(const struct sf_item *item)
{
    char memory[4096], again[8300];
    struct text out = TEXT_ON(memory), quoted = TEXT_ON(again);
    struct sf_cursor nested = sf_params(item);
    struct sf_item inner;
    struct view key;

    read_all(item->text);
    while (sf_param_next(&nested, &key, &inner) > 0)
        read_all(key);
    CHECK(nested.rest.len == 0);
    if (item->type == SF_INNER_LIST) {
        nested = sf_inner(item);
        while (sf_inner_next(&nested, &inner) > 0)
            read_all(inner.text);
        CHECK(nested.rest.len == 0);
    } else if (item->type == SF_BYTES) {
        sf_bytes_put(&out, item);
        CHECK(out.overflow || out.len <= item->text.len * 3 / 4);
    } else if (item->type == SF_STRING) {
        sf_string_put(&out, item);
        if (out.overflow)
            return;
        sf_put_string(&quoted, text_view(&out));
        CHECK(sf_parse_item(text_view(&quoted), &inner) == 0 && view_eq(inner.text, item->text));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct view input = view_make((const char *)data, size);
    struct sf_cursor list = sf_cursor(input), dict = sf_cursor(input);
    struct sf_item item;
    struct view key;

    while (sf_list_next(&list, &item) > 0)
        use(&item);
    while (sf_dict_next(&dict, &key, &item) > 0) {
        CHECK(sf_is_key(key));
        use(&item);
    }
    if (sf_parse_item(input, &item) == 0)
        use(&item);
    return 0;
}
