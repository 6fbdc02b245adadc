/* Any bytes as a URL, a reference, an authority, a path and a query: results are readable, and normal forms are stable
 * (normalising twice changes nothing) and never longer than the input. */
#include "base/check.h"
#include "proto/uri.h"

static volatile unsigned sink;

static void read_view(struct view v)
{
    for (size_t i = 0; i < v.len; i++)
        sink += (unsigned char)v.ptr[i];
}

static void read_uri(const struct uri *uri)
{
    CHECK(uri->host.len > 0 && uri->port > 0 && uri->path.len > 0 && uri->path.ptr[0] == '/');
    CHECK(uri_same_origin(uri, uri));
    read_view(uri->host);
    read_view(uri->path);
    read_view(uri->query);
}

static void normalize(struct view input)
{
    char memory[2][4200];
    struct text once = TEXT_ON(memory[0]), twice = TEXT_ON(memory[1]);

    uri_normalize_path(input, &once);
    uri_normalize_path(text_view(&once), &twice);
    CHECK(!once.overflow && once.len <= input.len && view_eq(text_view(&once), text_view(&twice)));
    once.len = twice.len = 0;
    if (uri_normalize_authority(input, true, &once) < 0)
        return;
    CHECK(uri_normalize_authority(text_view(&once), true, &twice) == 0);
    CHECK(once.len <= input.len && view_eq(text_view(&once), text_view(&twice)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct uri base = { .scheme = { "http", 4 }, .host = { "a", 1 }, .path = { "/b/c/d", 6 }, .port = 80 };
    struct view input = view_make((const char *)data, MIN(size, (size_t)4096)), rest = input;
    struct uri_param param;
    struct uri uri;
    char memory[4200];
    struct text text = TEXT_ON(memory);

    if (size == 0)
        return 0;
    if (uri_parse(input, &uri) == 0)
        read_uri(&uri);
    if (uri_resolve(&base, input, &text, &uri) == 0)
        read_uri(&uri);
    CHECK(!text.overflow);
    normalize(input);
    while (uri_query_next(&rest, &param)) {
        CHECK(param.raw.len > 0 && param.name.len + param.value.len <= param.raw.len);
        read_view(param.raw);
    }
    return 0;
}
