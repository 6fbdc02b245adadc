/* Any bytes as a response head (the first byte picks the method and the place of a cut): views lie in the input, the body
 * rule is one of four, and pieces give the same verdict as the whole. */
#include "base/check.h"
#include "proto/http1.h"

#include <errno.h>

static volatile unsigned sink;

static void read_response(const struct http_response *response, struct view input, int used)
{
    CHECK((size_t)used <= input.len && response->status >= 100 && response->status <= 999);
    CHECK(response->body != BODY_EOF || !response->keep_alive);
    CHECK(response->body != BODY_LENGTH || response->has_content_length);
    for (size_t i = 0; i < response->fields.count; i++) {
        struct view value = response->fields.list[i].value;

        CHECK(value.ptr >= input.ptr && value.ptr + value.len <= input.ptr + used);
        for (size_t k = 0; k < value.len; k++)
            sink += (unsigned char)value.ptr[k];
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct http1_limits limits = { .head_max = 2048 };
    struct view input = view_make((const char *)data + 1, size ? size - 1 : 0);
    struct field memory[20];
    struct http_response response;
    enum http1_error error = HTTP1_OK;
    enum http_method method;
    size_t scanned = 0;
    int r, cut;

    if (size < 1)
        return 0;
    method = (enum http_method)(data[0] % METHOD_COUNT);
    fields_init(&response.fields, memory, 20);
    r = http1_parse_response(input, &limits, &scanned, method, &response, &error);
    CHECK(r > 0 || r == -EAGAIN || (r == -EBADMSG && error != HTTP1_OK));
    if (r > 0)
        read_response(&response, input, r);
    scanned = 0;
    cut = http1_parse_response(view_first(input, data[0]), &limits, &scanned, method, &response, &error);
    CHECK(cut == r || cut == -EAGAIN);
    if (cut == -EAGAIN) {
        cut = http1_parse_response(input, &limits, &scanned, method, &response, &error);
        CHECK(cut == r || (cut == -EAGAIN && r == -EBADMSG));
    }
    return 0;
}
