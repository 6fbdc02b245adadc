/* Any bytes as a request head: views lie in the input, lengths add up, and input cut at any place (the first byte of the
 * data says where) gives the same verdict and the same parts as the whole. */
#include "base/check.h"
#include "proto/http1.h"

#include <errno.h>

static volatile unsigned sink;

static void read_view(struct view v)
{
    for (size_t i = 0; i < v.len; i++)
        sink += (unsigned char)v.ptr[i];
}

static void read_request(const struct http_request *request, struct view input, int used)
{
    CHECK(used > 0 && (size_t)used <= input.len);
    CHECK(input.ptr[used - 1] == '\n' && input.ptr[used - 2] == '\r');
    read_view(request->target);
    read_view(request->authority);
    read_view(request->path);
    read_view(request->query);
    CHECK(request->path.len > 0 || request->method == METHOD_CONNECT);
    CHECK(request->authority.len > 0 || request->minor == 0);
    CHECK(request->body != BODY_EOF);
    for (size_t i = 0; i < request->fields.count; i++) {
        const struct field *field = &request->fields.list[i];

        CHECK(field->name.ptr >= input.ptr && field->value.ptr + field->value.len <= input.ptr + used);
        CHECK(field->name.len > 0 && !view_contains(field->value, '\r') && !view_contains(field->value, '\n'));
        read_view(field->value);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct http1_limits limits = { .head_max = 2048, .target_max = 256 };
    struct view input = view_make((const char *)data + 1, size ? size - 1 : 0);
    struct field memory[2][20];
    struct http_request whole, pieces;
    enum http1_error error = HTTP1_OK, cut_error = HTTP1_OK;
    size_t scanned = 0, cut_scanned = 0;
    int r, cut;

    if (size < 1)
        return 0;
    fields_init(&whole.fields, memory[0], 20);
    fields_init(&pieces.fields, memory[1], 20);
    r = http1_parse_request(input, &limits, &scanned, &whole, &error);
    CHECK(r > 0 || r == -EAGAIN || (r == -EBADMSG && error != HTTP1_OK && http1_error_status(error) >= 400));
    if (r > 0)
        read_request(&whole, input, r);
    cut = http1_parse_request(view_first(input, data[0]), &limits, &cut_scanned, &pieces, &cut_error);
    CHECK(cut == r || cut == -EAGAIN);
    CHECK(cut != -EBADMSG || cut_error == error);
    if (cut != -EAGAIN)
        return 0;
    cut = http1_parse_request(input, &limits, &cut_scanned, &pieces, &cut_error);
    /* A bad line is refused when it is complete: until then a head in pieces may still be incomplete. */
    CHECK(cut == r || (cut == -EAGAIN && r == -EBADMSG));
    CHECK(cut != -EBADMSG || cut_error == error);
    if (cut > 0)
        CHECK(whole.fields.count == pieces.fields.count && view_eq(whole.path, pieces.path) &&
              whole.content_length == pieces.content_length && whole.body == pieces.body);
    return 0;
}
