/* HTTP/1.1 request heads (RFC 9112 §3): request line, the four forms of a target, Host, body framing.
 *
 * Strict on purpose: a request that two servers could read differently is refused (request smuggling), and no repair is
 * tried. All views borrow from the input. */
#include "proto/http1_parts.h"
#include "proto/scan.h"
#include "proto/uri.h"

#include <errno.h>

static enum http_method method_of(struct view name)
{
    static const struct {
        struct view name;
        enum http_method method;
    } known[] = {
        { { "POST", 4 }, METHOD_POST },   { { "PUT", 3 }, METHOD_PUT },         { { "DELETE", 6 }, METHOD_DELETE },
        { { "PATCH", 5 }, METHOD_PATCH }, { { "OPTIONS", 7 }, METHOD_OPTIONS }, { { "CONNECT", 7 }, METHOD_CONNECT },
        { { "TRACE", 5 }, METHOD_TRACE }, { { "PURGE", 5 }, METHOD_PURGE },
    };

    if (name.len == 3 && memcmp(name.ptr, "GET", 3) == 0)
        return METHOD_GET;
    if (name.len == 4 && memcmp(name.ptr, "HEAD", 4) == 0)
        return METHOD_HEAD;
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (view_eq(name, known[i].name))
            return known[i].method;
    return METHOD_OTHER;
}

static enum http1_part skip_empty_lines(struct http1_cursor *cursor, enum http1_error *error)
{
    enum http1_part part = PART_OK;

    for (int lines = 0; part == PART_OK && cursor->at < cursor->end && *cursor->at == '\r'; lines++) {
        if (lines == 2) {
            *error = HTTP1_BAD_REQUEST_LINE;
            return PART_BAD;
        }
        part = http1_part_crlf(cursor, HTTP1_BAD_REQUEST_LINE, error);
    }
    return part;
}

static enum http1_part request_line(struct http1_cursor *cursor, size_t target_max, struct http_request *request,
                                    enum http1_error *error)
{
    const char *start = cursor->at, *stop = scan_token(start, cursor->end);
    enum http1_part part;

    if (stop == cursor->end)
        return PART_MORE;
    *error = HTTP1_BAD_REQUEST_LINE;
    if (stop == start || *stop != ' ')
        return PART_BAD;
    request->method_name = view_make(start, (size_t)(stop - start));
    request->method = method_of(request->method_name);
    start = stop + 1;
    stop = scan_target(start, cursor->end);
    if ((size_t)(stop - start) > target_max) {
        *error = HTTP1_TARGET_TOO_LONG;
        return PART_BAD;
    }
    if (stop == cursor->end)
        return PART_MORE;
    if (stop == start || *stop != ' ')
        return PART_BAD;
    request->target = view_make(start, (size_t)(stop - start));
    cursor->at = stop + 1;
    part = http1_part_version(cursor, &request->minor, HTTP1_BAD_REQUEST_LINE, error);
    return part == PART_OK ? http1_part_crlf(cursor, HTTP1_BAD_REQUEST_LINE, error) : part;
}

static void split_path(struct http_request *request, struct view target)
{
    size_t at = view_find(target, '?');

    request->path = view_first(target, at);
    request->query = at < target.len ? view_make(target.ptr + at + 1, target.len - at - 1) : VIEW_NONE;
}

/* "http://authority[/path][?query]" (RFC 9112 §3.2.2). */
static bool absolute_form(struct http_request *request)
{
    struct view target = request->target, rest;
    size_t scheme = view_find(target, ':'), end = 0;

    request->scheme = view_first(target, scheme);
    if (!view_eq_icase(request->scheme, VIEW("http")) && !view_eq_icase(request->scheme, VIEW("https")))
        return false;
    rest = view_skip(target, scheme);
    if (!view_starts_with(rest, VIEW("://")))
        return false;
    rest = view_skip(rest, 3);
    while (end < rest.len && rest.ptr[end] != '/' && rest.ptr[end] != '?')
        end++;
    request->authority = view_first(rest, end);
    split_path(request, view_skip(rest, end));
    if (request->path.len == 0) /* OPTIONS without path and query asks about the server, §3.2.4 */
        request->path = request->method == METHOD_OPTIONS && !request->query.ptr ? VIEW("*") : VIEW("/");
    return true;
}

static enum http1_error check_target(struct http_request *request)
{
    struct uri_authority authority;

    if (request->method == METHOD_CONNECT) { /* authority-form, the port is not optional (§3.2.3) */
        if (uri_parse_authority(request->target, &authority) < 0 || authority.port == 0)
            return HTTP1_BAD_REQUEST_LINE;
        request->authority = request->target;
        return HTTP1_OK;
    }
    if (request->target.ptr[0] == '/') {
        split_path(request, request->target);
        return HTTP1_OK;
    }
    if (view_eq(request->target, VIEW("*"))) {
        request->path = request->target;
        return request->method == METHOD_OPTIONS ? HTTP1_OK : HTTP1_BAD_REQUEST_LINE;
    }
    if (!absolute_form(request) || uri_parse_authority(request->authority, &authority) < 0)
        return HTTP1_BAD_REQUEST_LINE;
    return HTTP1_OK;
}

static enum http1_error check_host(struct http_request *request)
{
    const struct field *host = fields_get(&request->fields, FIELD_HOST);
    struct uri_authority authority;

    if (!host)
        return request->minor == 0 ? HTTP1_OK : HTTP1_BAD_HOST;
    if (fields_next(&request->fields, host) || uri_parse_authority(host->value, &authority) < 0)
        return HTTP1_BAD_HOST;
    if (request->authority.len == 0) /* absolute-form and CONNECT win over Host (§3.2.2) */
        request->authority = host->value;
    return HTTP1_OK;
}

static enum http1_error check_body(struct http_request *request)
{
    int length = http1_part_length(&request->fields, &request->content_length);

    if (length < 0)
        return HTTP1_BAD_CONTENT_LENGTH;
    if (fields_has(&request->fields, FIELD_TRANSFER_ENCODING)) {
        enum http1_error error = http1_part_coding(&request->fields);

        /* With Content-Length, or from a sender that cannot know chunked, it is an attack or a broken peer (§6.1). */
        if (length > 0 || request->minor == 0)
            return HTTP1_BAD_TRANSFER_ENCODING;
        request->body = BODY_CHUNKED;
        return error;
    }
    request->body = length > 0 ? BODY_LENGTH : BODY_NONE;
    return HTTP1_OK;
}

static enum http1_error check_request(struct http_request *request)
{
    enum http1_error error = check_target(request);

    if (error == HTTP1_OK)
        error = check_host(request);
    if (error == HTTP1_OK)
        error = check_body(request);
    request->keep_alive = http1_part_keep_alive(&request->fields, request->minor);
    request->expect_continue = request->minor == 1 && fields_has(&request->fields, FIELD_EXPECT) &&
                               fields_list_has(&request->fields, FIELD_EXPECT, VIEW("100-continue"));
    return error;
}

int http1_parse_request(struct view input, const struct http1_limits *limits, size_t *scanned,
                        struct http_request *request, enum http1_error *ret_error)
{
    struct http1_cursor cursor = { input.ptr, input.ptr + MIN(input.len, MIN(limits->head_max, (size_t)INT32_MAX)) };
    struct field *memory = request->fields.list;
    uint16_t cap = request->fields.cap;
    enum http1_error error = HTTP1_OK;
    enum http1_part part;

    if (!http1_part_worth_parsing(input, limits, *scanned)) {
        *scanned = input.len;
        return -EAGAIN;
    }
    memset(request, 0, offsetof(struct http_request, fields));
    fields_init(&request->fields, memory, cap);
    part = skip_empty_lines(&cursor, &error);
    if (part == PART_OK)
        part = request_line(&cursor, limits->target_max, request, &error);
    if (part == PART_OK)
        part = http1_part_fields(&cursor, &request->fields, &error);
    if (part == PART_OK) {
        error = check_request(request);
        if (error == HTTP1_OK)
            return (int)(cursor.at - input.ptr);
        part = PART_BAD;
    }
    return http1_part_result(part, error, input, limits, scanned, ret_error);
}
